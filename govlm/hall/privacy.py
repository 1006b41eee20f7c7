"""Personal data in Chinese text: where it is, whether its check digit holds, and the text without it.

    identity_card  resident identity number, 18 characters (GB 11643); 15 digits where a word says what they are
    credit_code    unified social credit code (GB 32100)
    bank_card      12 to 19 digits with Luhn's check digit (ISO/IEC 7812)
    mobile, landline, email
    passport       Chinese passports; travel_permit: to and from Hong Kong, Macao and Taiwan
    plate          of a car, with its province

Digits may be full-width, spaced, hyphenated or broken by a line. A number whose check fails is still found where its form or a word
before it says what it was meant to be, with valid = False: a mistyped number is as personal as a right one. Every pattern is
bounded, so the time is linear in the text.
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
_NARROW = {0xFF01 + i: 0x21 + i for i in range(94)} | {ord(dash): "-" for dash in "‐‑‒–—−"}
_NARROW |= {0x3000: " ", 0xA0: " ", 0x200B: " ", 0xFEFF: " "}
_GAP = r"[ \t\r\n-]{0,2}"
_AREA = r"0(?:10|2[0-57-9]|[3-9][0-9]{2})"
_BEFORE = 12  # characters before a number in which a word may say what it is
_PLACES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"

_Judge = Callable[[str, str, date], "bool | str | None"]  # (number, words before it, today) -> valid, or "" = it is none


def _says(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_IDENTITY = _says("身份", "证号", "证件", r"\bid\b")
_BANK = _says("卡号", "银行", "账号", "帐号", "账户", "储蓄卡", "信用卡", "社保卡")
_CREDIT = _says("信用代码", "税号", "纳税人识别号", "机构代码")
_PASSPORT = _says("护照", "passport")
_PERMIT = _says("通行证", "台胞证", "回乡证", "来往")


def _identity(number: str, before: str, today: date) -> bool | str | None:
    if len(number) == 15:
        return None if _IDENTITY.search(before) and _is_date("19" + number[6:12]) else ""
    if identity_card(number, today):
        return True
    if not _IDENTITY.search(before) and (credit_code(number) or (number.isdigit() and luhn(number))):
        return ""
    return False if _IDENTITY.search(before) or _is_date(number[6:14]) else ""


def _is_date(digits: str) -> bool:
    """Whether YYYYMMDD looks like a date of birth; the day need not exist."""
    return digits.isdigit() and 1900 <= int(digits[:4]) <= 2099 and 1 <= int(digits[4:6]) <= 12 and 1 <= int(digits[6:]) <= 31


def _scattered(number: str, _before: str, today: date) -> bool | str | None:
    return True if identity_card(number, today) else ""


def _credit(number: str, before: str, _today: date) -> bool | str | None:
    if credit_code(number):
        return True
    return False if _CREDIT.search(before) else ""


def _bank(number: str, before: str, _today: date) -> bool | str | None:
    if len(set(number)) > 2 and number[0] in "34569" and luhn(number) and (len(number) >= 15 or _BANK.search(before)):
        return True
    return False if _BANK.search(before) else ""


_EXTENSION = re.compile(r"[ ]?(?:转|ext\.?)[ ]?[0-9]+$|-[0-9]{1,6}$", re.IGNORECASE)


def _subscriber(number: str) -> str:
    """A phone number without its extension: a hyphen begins one where ten digits, an area code and a number, come before."""
    head = _EXTENSION.split(number)[0]
    return head if sum(char.isdigit() for char in head) >= 10 or "-" not in number[len(head) :] else number


def _phone(number: str, _before: str, _today: date) -> bool | str | None:
    """By the numbering plan (the library phonenumbers follows it)."""
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(_subscriber(number), "CN")))
    except phonenumbers.NumberParseException:
        return ""


def _unchecked(_number: str, _before: str, _today: date) -> bool | str | None:
    return None


def _where_said(word: re.Pattern[str]) -> _Judge:
    return lambda _number, before, _today: None if word.search(before) else ""


_ALONE, _END = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"
_CODE = "0-9A-HJ-NPQRTUWXYa-hj-npqrtuwxy"
# In this order: what an earlier one takes, a later one does not look at.
_RECOGNISERS: tuple[tuple[str, re.Pattern[str], _Judge], ...] = (
    (
        "email",
        re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}"),
        _unchecked,
    ),
    ("identity_card", re.compile(rf"{_ALONE}[0-9]{{6}}{_GAP}[0-9]{{8}}{_GAP}[0-9]{{3}}[0-9Xx]{_END}"), _identity),
    (
        "identity_card",
        re.compile(rf"{_ALONE}[0-9]{{6}}{_GAP}[0-9]{{4}}{_GAP}[0-9]{{2}}{_GAP}[0-9]{{2}}{_GAP}[0-9]{{3}}[0-9Xx]{_END}"),
        _identity,
    ),
    ("identity_card", re.compile(rf"{_ALONE}[0-9](?:{_GAP}[0-9]){{16}}{_GAP}[0-9Xx]{_END}"), _scattered),
    ("credit_code", re.compile(rf"{_ALONE}[{_CODE}]{{2}}{_GAP}[0-9]{{6}}{_GAP}[{_CODE}]{{9}}{_GAP}[{_CODE}]{_END}"), _credit),
    ("identity_card", re.compile(rf"{_ALONE}[0-9]{{15}}{_END}"), _identity),
    ("bank_card", re.compile(rf"{_ALONE}[0-9]{{12,19}}{_END}|{_ALONE}[0-9]{{4}}(?:[ -][0-9]{{4}}){{2,3}}(?:[ -][0-9]{{1,4}})?{_END}"), _bank),
    (
        "mobile",
        re.compile(
            r"(?<![0-9A-Za-z+])(?:\(?(?:\+|00)?86\)?[ -]?)?"
            r"1[3-9][0-9](?:[0-9]{8}|[ \n-][0-9]{4}[ \n-][0-9]{4}|[0-9][ \n-][0-9]{3}[ \n-][0-9]{4}|[ -]?[0-9]{4}\r?\n[0-9]{4})(?![0-9])"
        ),
        _phone,
    ),
    (
        "landline",
        re.compile(
            rf"(?<![0-9A-Za-z.])(?:(?:\+86|0086)[ -]?\(?{_AREA.replace('0', '0?', 1)}|\(?{_AREA})(?:\)[ ]?|[ ]?-[ ]?|[ ])?"
            r"[2-9][0-9]{2,3}[ -]?[0-9]{4}(?![0-9])(?:(?:[ ]?(?:转|ext\.?)[ ]?|-)[0-9]{1,6}(?![0-9]))?"
        ),
        _phone,
    ),
    ("passport", re.compile(rf"{_ALONE}(?:[EGDSPegdsp][0-9]{{8}}|[Ee][A-HJ-NP-Za-hj-np-z][0-9]{{7}}){_END}"), _unchecked),
    ("travel_permit", re.compile(rf"{_ALONE}(?:[HhMm][0-9]{{8}}(?:[0-9]{{2}})?|[CcLlWw][0-9]{{8}}|[Cc][A-Za-z][0-9]{{7}}){_END}"), _unchecked),
    ("travel_permit", re.compile(rf"{_ALONE}[0-9]{{8}}{_END}"), _where_said(_PERMIT)),
    ("passport", re.compile(rf"{_ALONE}[A-Za-z0-9]{{8,9}}{_END}"), _where_said(_PASSPORT)),
    (
        "plate",
        re.compile(rf"[{_PLACES}][A-HJ-NP-Za-hj-np-z][ ·•.-]?(?:[DFdf][A-HJ-NP-Za-hj-np-z0-9][0-9]{{4}}|[0-9]{{5}}[DFdf]|[A-HJ-NP-Za-hj-np-z0-9]{{4}}[A-HJ-NP-Za-hj-np-z0-9学警挂港澳]){_END}"),
        _unchecked,
    ),
)  # fmt: skip
_MAYBE = re.compile(r"[0-9](?:[ \t\r\n()-]{0,2}[0-9A-Za-z]){5}|@|[A-Za-z][0-9]{7}|[A-Za-z][·•.]?[0-9A-Za-z]{4}")


def find(text: str, today: date | None = None) -> list[Span]:
    """What is personal in the text, from left to right, without overlaps. today: for dates of birth (the day it is)."""
    narrow = text if text.isascii() else text.translate(_NARROW)
    if _MAYBE.search(narrow) is None:
        return []
    today = today or date.today()
    found: list[Span] = []
    for kind, pattern, judge in _RECOGNISERS:
        hits = []
        for match in pattern.finditer(narrow):
            before = text[max(0, match.start() - _BEFORE) : match.start()]
            valid = judge(_compact(match.group(), kind), before, today)
            if not isinstance(valid, str):
                hits.append(Span(*match.span(), kind, valid))
        if hits:
            found += hits
            pieces, end = [], 0
            for hit in hits:  # what is taken becomes a sign that no pattern accepts
                pieces += [narrow[end : hit.start], "\0" * (hit.end - hit.start)]
                end = hit.end
            narrow = "".join([*pieces, narrow[end:]])
    return sorted(found)


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
