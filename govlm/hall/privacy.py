"""Personal data in Chinese text: where it is, whether its check digit holds, and the text without it.

    identity_card  resident identity number, 18 characters (GB 11643); 15 digits where a word says what they are
    credit_code    unified social credit code (GB 32100)
    bank_card      12 to 19 digits with Luhn's check digit (ISO/IEC 7812)
    mobile, landline, email
    passport       Chinese passports; travel_permit: to and from Hong Kong, Macao and Taiwan
    plate          of a car, with its province

Digits may be full-width, spaced, hyphenated, broken by a line or by characters of no width. A number whose check fails is still
found where its form or a word beside it says what it was meant to be, with valid = False: a mistyped number is as personal as a
right one. What the word before it calls something else (订单号, 受理编号) is none, unless its check holds. Every pattern is bounded,
so the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

from govlm.numbers import credit_code, identity_card, luhn

__all__ = ["KINDS", "Span", "Vault", "find", "mask"]

KINDS = {
    "identity_card": "身份证号",
    "credit_code": "统一社会信用代码",
    "bank_card": "银行卡号",
    "mobile": "手机号码",
    "landline": "电话号码",
    "email": "电子邮箱",
    "passport": "护照号码",
    "travel_permit": "通行证号码",
    "plate": "车牌号码",
}


class Span(NamedTuple):
    """text[start:end] is of this kind. valid: whether its check holds; None where the kind has none."""

    start: int
    end: int
    kind: str
    valid: bool | None


# One character for one, so that places in the narrow text are places in the text itself.
_NARROW = {0xFF01 + i: 0x21 + i for i in range(94)} | {ord(dash): "-" for dash in "‐‑‒–—−"} | {0x3000: " ", 0xA0: " "}
_NO_WIDTH = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_GAP = r"[ \t\r\n-]{0,2}"
_AREA = r"0(?:10|2[0-57-9]|[3-9][0-9]{2})"
_BEFORE, _AFTER = 24, 8  # characters around a number in which a word may say what it is
_PLACES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"


class _Candidate(NamedTuple):
    """A stretch of the text that has the form of a kind, and what stands beside it."""

    raw: str
    number: str  # its letters and digits; of a phone, with its signs
    before: str
    after: str
    today: date


_Verdict = bool | str | None  # valid, or "" = it is none


def _word(*words: str, where: str = "{}") -> re.Pattern[str]:
    return re.compile(where.format("(?:" + "|".join(words) + ")"), re.IGNORECASE | re.DOTALL)


_NEAR, _FAR = "{}.{{0,9}}$", "{}.{{0,20}}$"  # how far before the number the word may end
_IDENTITY = _word("身份", "证号", "证件", r"\bid\b", where=_NEAR)
_BANK = _word("卡号", "银行", "[账帐][号户]", "储蓄卡", "信用卡", "社保卡", "存折", "[张新旧这那]卡", where=_NEAR)
_CREDIT = _word("信用代码", "税号", "纳税人识别号", "机构代码", where=_NEAR)
_PASSPORT = _word("护照.{0,9}", r"passport.{0,20}", where="{}$")
_PERMIT = _word("通行证", "台胞证", "回乡证", "来往", where=_NEAR)
_PHONE = _word("电话", "座机", "固话", "宅电", "传真", r"\btel\b", r"\bfax\b", where=_NEAR)

_IS = "[是为就的]{{0,2}}(?:[我你他她这那]|本人|我[爸妈])?[个张的]?"  # what may stand between a number and the word after it
_IDENTITY_AFTER = _word("身份证", "证件号", "证号", "出生", "生日", where=_IS + "{}")
_BANK_AFTER = _word("卡", "银行卡", "储蓄卡", "[账帐][号户]", where=_IS + "(?:[工农建中招交]行)?{}")
_CREDIT_AFTER = _word("信用代码", "代码", "税号", "码", where=_IS + "{}")
_PASSPORT_AFTER = _word("护照", where=_IS + "{}")
_PERMIT_AFTER = _word("通行证", "回乡证", "台胞证", where=_IS + "{}")

# What the word right before a number calls it when it is none of these.
_OTHER = _word(
    "(?:流水|订|运|快递|受理|办件|申请|报案|档案|发票|住院|病历|门诊|学|工|参保|医保|公积金|个人|合同|凭证|回执|业务|序列|客户|用户|登记|通知|商品|统一)"
    "(?:通知)?[书单表]?编?(?:号码?|码)",
    "(?<!证)(?<!证件)[编案批文单](?:号码?|码)", "条码", "第",
    where="{}[是为:：\\s]{{0,3}}$",
)  # fmt: skip
_CASE = re.compile(
    r"[)\]】〕][\u4e00-\u9fff]?[0-9]{0,6}[\u4e00-\u9fff]{1,4}$|[0-9]{2,6}[民刑行执赔商知财][\u4e00-\u9fff]{0,2}$|第$"
)
# A credit code begins with the registering authority, the kind of organisation, and the province (10: the national registers).
_OWN_CODE = re.compile(
    "(?:1[1239]|2[19]|3[1-59]|4[19]|5[1239]|6[19]|7[129]|8[19]|9[123]|A[19]|N[1239]|Y1)"
    "(?:1[0-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[12])"
)


def _is_date(digits: str) -> bool:
    """Whether YYYYMMDD looks like a date of birth; the day need not exist."""
    return digits.isdigit() and 1900 <= int(digits[:4]) <= 2099 and 1 <= int(digits[4:6]) <= 12 and 1 <= int(digits[6:]) <= 31


def _mistyped_identity(number: str, today: date) -> bool:
    """Whether one other digit, or two neighbours swapped, would make a valid identity number of it.

    Such a number may hold by chance as a credit code or a card: one in 31, one in 10.
    """
    for i in range(17):
        if number[i] != number[i + 1] and identity_card(number[:i] + number[i + 1] + number[i] + number[i + 2 :], today):
            return True
    if not number[:17].isdigit():
        return False
    weights = [2**power % 11 for power in range(17, -1, -1)]
    values = [10 if char in "Xx" else int(char) if char.isdigit() else -1 for char in number]
    if values[17] < 0:
        return _is_date(number[6:14])
    rest = (sum(value * weight for value, weight in zip(values, weights, strict=True)) - 1) % 11
    for i, (value, weight) in enumerate(zip(values, weights, strict=True)):
        needed = (value - rest * pow(weight, -1, 11)) % 11  # the only digit there that makes the check hold
        digit = "X" if needed == 10 and i == 17 else str(needed)
        if len(digit) == 1 and needed != value and identity_card(number[:i] + digit + number[i + 1 :], today):
            return True
    return False


def _identity(c: _Candidate) -> _Verdict:
    number, after = c.number, _IDENTITY_AFTER.match(c.after)
    said, other = _IDENTITY.search(c.before) or after, _OTHER.search(c.before) and not after
    if len(number) == 15:
        return None if said and not other and _is_date("19" + number[6:12]) else ""
    if identity_card(number, c.today):
        return True
    if said or other:
        return "" if other else False
    if credit_code(number) or (number.isdigit() and luhn(number)):
        meant = _CREDIT.search(c.before) or _BANK.search(c.before)
        return False if not meant and _mistyped_identity(number, c.today) else ""
    return False if _is_date(number[6:14]) or _SIX_EIGHT_FOUR.fullmatch(c.raw) else ""


_SIX_EIGHT_FOUR = re.compile("[0-9]{6}[ -][0-9]{8}[ -][0-9]{3}[0-9Xx]")  # how no other number is written


def _scattered(c: _Candidate) -> _Verdict:
    """Broken anywhere: what only looks like one may be other numbers side by side."""
    if identity_card(c.number, c.today):
        return True
    return False if _IDENTITY.search(c.before) and not _OTHER.search(c.before) and _is_date(c.number[6:14]) else ""


def _credit(c: _Candidate) -> _Verdict:
    number = c.number.upper()
    known = _OWN_CODE.match(number)
    said = _CREDIT.search(c.before) or (known and _CREDIT_AFTER.match(c.after))
    if credit_code(number):
        whole = c.raw.isalnum() or not number.isdigit()  # digits broken anywhere may be other numbers side by side
        return True if said or (whole and not _mistyped_identity(number, c.today)) else ""
    formed = known and not number[8:].isdigit() and (c.raw.isalnum() or _FOURS_AND_TWO.fullmatch(c.raw))
    return False if said or (formed and not _OTHER.search(c.before)) else ""


_FOURS_AND_TWO = re.compile("(?:[0-9A-Za-z]{4}[ -]){4}[0-9A-Za-z]{2}")


def _bank(c: _Candidate) -> _Verdict:
    number, said = c.number, _BANK.search(c.before) or _BANK_AFTER.match(c.after)
    fours = _FOURS.fullmatch(c.raw)
    if _OTHER.search(c.before) or (_CASE.search(c.before) and c.after.startswith("号")):
        return False if fours else ""
    long = len(number) >= 15 and not (len(number) == 18 and _mistyped_identity(number, c.today))
    if len(number) in (17, 19) and not number.startswith("62") and _is_date(number[6:14]):
        long = False  # an identity number with a digit too few or too many
    if (said or long) and len(set(number)) > 2 and number[0] in "34569" and luhn(number):
        return True
    return False if said or fours else ""


_FOURS = re.compile(r"[0-9]{4}(?:\D{1,2}[0-9]{4}){3}(?:\D{1,2}[0-9]{1,4})?")  # how no other number is written


def _bank_in_two(c: _Candidate) -> _Verdict:
    """Broken once: only with its check, and only what does not read as two numbers."""
    first, second = c.raw.split(maxsplit=1)
    if not 15 <= len(c.number) <= 19 or c.number[0] not in "34569" or not luhn(c.number):
        return ""
    said = bool(_BANK.search(c.before))
    if (len(first) >= 16 and luhn(first)) or (len(second) == 11 and second[0] == "1" and not said):
        return ""
    return True if said or c.number.startswith("62") else ""


_EXTENSION = re.compile(r"[ ]?(?:转|ext\.?)[ ]?[0-9]+$|-[0-9]{1,6}$", re.IGNORECASE)


def _subscriber(number: str) -> str:
    """A phone number without its extension: a hyphen begins one where ten digits, an area code and a number, come before."""
    head = _EXTENSION.split(number)[0]
    return head if sum(char.isdigit() for char in head) >= 10 or "-" not in number[len(head) :] else number


def _phone(number: str) -> _Verdict:
    """By the numbering plan (the library phonenumbers follows it)."""
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(_subscriber(number), "CN")))
    except phonenumbers.NumberParseException:
        return ""


def _mobile(c: _Candidate) -> _Verdict:
    if _CASE.search(c.before) and c.after.startswith("号") and not c.after.startswith("号码"):
        return ""
    return _phone(c.number)


def _landline(c: _Candidate) -> _Verdict:
    valid = _phone(c.number)
    if c.number.isdigit() and (_OTHER.search(c.before) or (not valid and not _PHONE.search(c.before))):
        return ""
    return valid


_COUNTED = re.compile(r"\s?[元块万亿年月%份个人次]")


def _local(c: _Candidate) -> _Verdict:
    """Seven or eight digits without an area code: one of a place that is not told, so no plan can check it."""
    digits = re.sub("[^0-9]", "", _subscriber(c.number))
    if not _PHONE.search(c.before) or _OTHER.search(c.before) or c.before.endswith("费") or _COUNTED.match(c.after):
        return ""
    return "" if len(digits) == 8 and _is_date(digits) else True


def _unchecked(c: _Candidate) -> _Verdict:
    return "" if _OTHER.search(c.before) else None


def _where_said(before: re.Pattern[str], after: re.Pattern[str]) -> Callable[[_Candidate], _Verdict]:
    def judge(c: _Candidate) -> _Verdict:
        if c.number.isdigit() and len(c.number) == 8 and before is _PASSPORT and _is_date(c.number):
            return ""
        return None if before.search(c.before) or after.match(c.after) else ""

    return judge


_ALONE, _END = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"
_CODE = "0-9A-HJ-NPQRTUWXYa-hj-npqrtuwxy"
# In this order: what an earlier one takes, a later one does not look at.
_RECOGNISERS: tuple[tuple[str, re.Pattern[str], Callable[[_Candidate], _Verdict]], ...] = (
    (
        "email",
        re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}"),
        lambda _: None,
    ),
    ("identity_card", re.compile(rf"{_ALONE}[0-9]{{6}}{_GAP}[0-9]{{8}}{_GAP}[0-9]{{3}}[0-9Xx]{_END}"), _identity),
    (
        "identity_card",
        re.compile(rf"{_ALONE}[0-9]{{6}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{2}}{_GAP}[0-9]{{2}}{_GAP}[0-9]{{3}}[0-9Xx]{_END}"),
        _identity,
    ),
    ("identity_card", re.compile(rf"{_ALONE}[0-9](?:{_GAP}[0-9]){{16}}{_GAP}[0-9Xx]{_END}"), _scattered),
    (
        "credit_code",
        re.compile(rf"{_ALONE}[{_CODE}]{_GAP}[{_CODE}](?:{_GAP}[0-9]){{6}}(?:{_GAP}[{_CODE}]){{10}}{_END}"),
        _credit,
    ),
    ("identity_card", re.compile(rf"{_ALONE}[0-9]{{15}}{_END}"), _identity),
    ("bank_card", re.compile(rf"{_ALONE}[0-9]{{4,15}}(?: ?\r?\n ?| )[0-9]{{1,15}}{_END}"), _bank_in_two),
    (
        "bank_card",
        re.compile(
            rf"{_ALONE}[0-9]{{12,19}}{_END}|{_ALONE}[0-9]{{4}}(?:(?:[ -]|\r?\n)[0-9]{{4}}){{2,3}}(?:(?:[ -]|\r?\n)[0-9]{{1,4}})?{_END}(?!\s[0-9A-Za-z]{{4}}{_END})"
        ),
        _bank,
    ),
    (
        "mobile",
        re.compile(
            r"(?:(?<![0-9A-Za-z+.])|(?<=[^0-9.][0-9]\.)|(?<=^[0-9]\.)|(?<=tel)|(?<=TEL)|(?<=Tel))(?:\(?(?:\+|00)?86\)?[ -]?)?"
            r"1[3-9][0-9](?:[0-9]{8}|[ \n.-][0-9]{4}[ \n.-][0-9]{4}|[0-9][ \n-][0-9]{3}[ \n-][0-9]{4}|[ -]?[0-9]{4}(?:\r?\n|[ -])[0-9]{4}"
            r"|[ -][0-9]{8}|[0-9]{2}[ -][0-9]{6}|[0-9][ -][0-9]{4}[ -][0-9]{3})(?![0-9]|\.[0-9])"
            rf"|{_ALONE}1(?: [0-9]){{10}}(?![0-9]| [0-9](?![0-9]))"
        ),
        _mobile,
    ),
    (
        "landline",
        re.compile(
            rf"(?<![0-9A-Za-z.])(?:(?:\+86|0086)[ -]?\(?{_AREA.replace('0', '0?', 1)}|\(?{_AREA})(?:\)[ ]?|[ ]?-[ ]?|[ ])?"
            r"[2-9][0-9]{2,3}[ -]?[0-9]{4}(?![0-9])(?:(?:[ ]?(?:转|ext\.?)[ ]?|-)[0-9]{1,6}(?![0-9]))?"
        ),
        _landline,
    ),
    (
        "passport",
        re.compile(rf"{_ALONE}(?:[EGDSPegdsp] [0-9]{{8}}|[Ee][A-HJ-NP-Za-hj-np-z] [0-9]{{7}}){_END}"),
        _where_said(_PASSPORT, _PASSPORT_AFTER),
    ),
    (
        "travel_permit",
        re.compile(rf"{_ALONE}(?:[HhMm] [0-9]{{8}}(?:[0-9]{{2}})?|[CcLlWw] [0-9]{{8}}|[Cc][A-Za-z] [0-9]{{7}}){_END}"),
        _where_said(_PERMIT, _PERMIT_AFTER),
    ),
    ("passport", re.compile(rf"{_ALONE}(?:[EGDSPegdsp][0-9]{{8}}|[Ee][A-HJ-NP-Za-hj-np-z][0-9]{{7}}){_END}"), _unchecked),
    ("travel_permit", re.compile(rf"{_ALONE}(?:[HhMm][0-9]{{8}}(?:[0-9]{{2}})?|[CcLlWw][0-9]{{8}}|[Cc][A-Za-z][0-9]{{7}}){_END}"), _unchecked),
    ("travel_permit", re.compile(rf"{_ALONE}[0-9]{{8}}{_END}"), _where_said(_PERMIT, _PERMIT_AFTER)),
    (
        "passport",
        re.compile(rf"{_ALONE}(?=(?:[A-Za-z]{{0,6}}[0-9]){{4}})[A-Za-z0-9]{{8,9}}{_END}"),
        _where_said(_PASSPORT, _PASSPORT_AFTER),
    ),
    ("landline", re.compile(r"(?<![0-9A-Za-z.-])[2-8][0-9]{2,3}[ -]?[0-9]{4}(?![0-9A-Za-z-])(?:[ ]?转[ ]?[0-9]{1,6})?"), _local),
    (
        "plate",
        re.compile(
            rf"[{_PLACES}][A-HJ-NP-Za-hj-np-z][ ·•.-]?(?=[A-Za-z]{{0,4}}[0-9])"
            rf"(?:[DFdf][A-HJ-NP-Za-hj-np-z0-9][0-9]{{4}}|[0-9]{{5}}[DFdf]|[A-HJ-NP-Za-hj-np-z0-9]{{4}}[A-HJ-NP-Za-hj-np-z0-9学警挂港澳]){_END}"
        ),
        lambda _: None,
    ),
)  # fmt: skip
_MAYBE = re.compile(r"[0-9](?:[ \t\r\n().-]{0,2}[0-9A-Za-z]){5}|@|[A-Za-z] ?[0-9]{7}|[A-Za-z][ ·•.-]?[0-9A-Za-z]{4}")


def find(text: str, today: date | None = None) -> list[Span]:
    """What is personal in the text, from left to right, without overlaps. today: for dates of birth (the day it is)."""
    narrow = text if text.isascii() else text.translate(_NARROW)
    if _NO_WIDTH.search(narrow) is None:
        return sorted(_scan(narrow, today or date.today())) if _MAYBE.search(narrow) else []
    today = today or date.today()
    places = [place for place, char in enumerate(narrow) if not _NO_WIDTH.match(char)]
    found = [
        Span(places[span.start], places[span.end - 1] + 1, span.kind, span.valid)
        for span in _scan("".join(narrow[place] for place in places), today)
    ]
    apart = _without(_NO_WIDTH.sub(" ", narrow), sorted(found))  # they may stand between two numbers, too
    return sorted(found + _scan(apart, today))


def _scan(whole: str, today: date) -> list[Span]:
    found: list[Span] = []
    narrow = whole
    for kind, pattern, judge in _RECOGNISERS:
        hits = []
        for match in pattern.finditer(narrow):
            start, end = match.span()
            before, after = whole[max(0, start - _BEFORE) : start], whole[end : end + _AFTER]
            valid = judge(_Candidate(match.group(), _compact(match.group(), kind), before, after, today))
            if not isinstance(valid, str):
                hits.append(Span(start, end, kind, valid))
        if hits:
            found += hits
            narrow = _without(narrow, hits)
    return found


def _without(text: str, spans: Sequence[Span]) -> str:
    """The text with signs that no pattern accepts in place of the spans, which are in order."""
    pieces, end = [], 0
    for span in spans:
        pieces += [text[end : span.start], "\0" * (span.end - span.start)]
        end = span.end
    return "".join([*pieces, text[end:]])


def _compact(number: str, kind: str) -> str:
    if kind in ("mobile", "landline"):
        return re.sub(r"[\s]", " ", number)
    return re.sub(r"[^0-9A-Za-z]", "", number)


# ---------------------------------------------------------------------------------------------------------------- without it

_KEPT: dict[str, tuple[int, int]] = {  # characters that stay readable at the beginning and at the end
    "identity_card": (6, 4), "credit_code": (2, 4), "bank_card": (4, 4), "mobile": (3, 4), "landline": (0, 4),
    "passport": (1, 3), "travel_permit": (1, 3), "plate": (2, 1),
}  # fmt: skip


def mask(text: str, today: date | None = None) -> str:
    """The text with what `find` finds made unreadable: 110101********1232, 138****1234. Its length stays."""
    pieces, end = [], 0
    for span in find(text, today):
        pieces += [text[end : span.start], _hidden(text[span.start : span.end], span.kind)]
        end = span.end
    return "".join([*pieces, text[end:]])


def _hidden(number: str, kind: str) -> str:
    if kind == "email":
        name, _, host = number.partition("@") if "@" in number else number.partition("＠")
        return name[:1] + "*" * (len(name) - 1) + number[len(name)] + host
    places = [i for i, char in enumerate(number) if char.isalnum()]
    if kind == "landline":  # the eight digits of the subscriber; the area code and an extension say little
        places = places[: sum(char.isalnum() for char in _subscriber(number))]
        first = max(0, len(places) - 8)
    else:
        first = _KEPT[kind][0] + _prefix(number, kind)
    last = len(places) - _KEPT[kind][1]
    hidden = set(places[first : max(first, last)])
    return "".join("*" if i in hidden else char for i, char in enumerate(number))


def _prefix(number: str, kind: str) -> int:
    """Digits of a country code before a mobile number."""
    digits = sum(char.isdigit() for char in number)
    return max(0, digits - 11) if kind == "mobile" else 0


class Vault:
    """Takes personal data out of texts and puts it back: each value becomes 〔身份证号1〕, the same one every time.

    What it holds is personal: keep it in memory, or where personal data may be. `dump` and `Vault.load` carry it over.
    """

    def __init__(self, values: Sequence[tuple[str, str]] = ()) -> None:
        self._values: list[tuple[str, str]] = [(kind, value) for kind, value in values]  # in the order of their numbers

    def hide(self, text: str, today: date | None = None) -> str:
        """The text with a token for each value. A token that the text brings itself is left alone, and means nothing."""
        pieces, end = [], 0
        for span in find(text, today):
            pieces += [text[end : span.start], self._token(span.kind, text[span.start : span.end])]
            end = span.end
        return "".join([*pieces, text[end:]])

    def _token(self, kind: str, value: str) -> str:
        entry = (kind, value)
        if entry not in self._values:
            self._values.append(entry)
        return f"〔{KINDS[kind]}{self._values.index(entry) + 1}〕"

    def reveal(self, text: str) -> str:
        """The text with the values of the tokens that this vault gave; others stay."""

        def value(match: re.Match[str]) -> str:
            number = int(match["number"]) - 1
            known = 0 <= number < len(self._values) and KINDS[self._values[number][0]] == match["kind"]
            return self._values[number][1] if known else match.group()

        return _TOKEN.sub(value, text)

    def dump(self) -> list[list[str]]:
        """For JSON."""
        return [list(entry) for entry in self._values]

    @classmethod
    def load(cls, values: Any) -> Vault:
        """From `dump`. ValueError for anything else."""
        try:
            entries = [(str(kind), str(value)) for kind, value in values]
        except (TypeError, ValueError):
            raise ValueError("a vault is a list of pairs [kind, value]") from None
        for kind, _ in entries:
            if kind not in KINDS:
                raise ValueError(f"a vault cannot hold a {kind!r}; it knows {', '.join(KINDS)}")
        return cls(entries)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._values)


_TOKEN = re.compile(rf"〔(?P<kind>{'|'.join(KINDS.values())})(?P<number>[0-9]{{1,9}})〕")
