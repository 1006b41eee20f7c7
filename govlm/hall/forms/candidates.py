"""What a message says that may fill a field: values with their places, each of a kind; nothing here decides whose they are.

Recognisers of the hall do the work (privacy, values, addresses, slots). Added is what a form needs besides: digits that are spoken
(幺三八…), numbers without a unit (房租两千八), years of two digits (85年3月12号), dates of which a part follows from the one before
(3月1号到9号), numbers that lack a digit, and phrases behind a cue (经营范围是…).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from govlm.hall.addresses import Divisions, find_addresses, find_divisions
from govlm.hall.forms.schema import CHECKED, Form, FormField
from govlm.hall.understanding.slots import find_slots, names_alone
from govlm.hall.values import find_amounts, find_dates, normal

__all__ = ["Candidate", "Cue", "candidates", "cues", "narrow", "number"]


class Candidate(NamedTuple):
    """text[start:end] may be a value of that kind. fields: the only fields it can belong to, () = any of its kind.

    state: "" as it stands; "about": 大概, 左右; "vague": said, but not exactly (两千多, a date without its day); "denied": 不是….
    """

    kind: str
    start: int
    end: int
    value: str
    state: str = ""
    fields: tuple[str, ...] = ()
    alone: bool = False  # needs no cue beside it: a name or an address that is a clause of its own


class Cue(NamedTuple):
    """text[start:end] is a word of that field. own: one of its own cues, not of its kind."""

    start: int
    end: int
    field: str
    own: bool


KIND_CUES = {
    "identity_card": "居民身份证号码?|身份证号码?|身份证|证件号码?|证号",
    "mobile": "手机号码?|联系电话|联系方式|电话号码|手机|电话|号码",
    "bank_card": "银行卡号码?|银行卡|卡号|银行账[户号]|储蓄卡|账号|社保卡号?",
    "credit_code": "统一社会信用代码|信用代码|税号|纳税人识别号",
    "email": "电子邮箱|邮箱|电子邮件|email|E-?mail",
    "name": "姓名|名字|叫",
}
_SPOKEN = str.maketrans("〇零○一二三四五六七八九幺两", "00012345678912")
_SPOKEN_RUN = re.compile("[〇零○一二三四五六七八九幺两]{7,}")
_PLAIN = str.maketrans("壹贰叁肆伍陆柒捌玖拾佰仟", "一二三四五六七八九十百千")
_FORMAL = re.compile(r"[壹贰叁肆伍陆柒捌玖](?=[拾佰仟万亿元圆块口人])|(?<=[一二两三四五六七八九壹贰叁肆伍陆柒捌玖0-9])[拾佰仟]")
_WIDE = (
    {0xFF10 + i: 0x30 + i for i in range(10)}
    | {0xFF21 + i: 0x41 + i for i in range(26)}
    | {0xFF41 + i: 0x61 + i for i in range(26)}
)
_WIDE |= {0x3000: 0x20, 0xA0: 0x20, 0xFF0E: 0x2E, 0xFF0D: 0x2D, 0xFF0F: 0x2F}


def narrow(text: str) -> str:
    """The text with half-width digits, spoken digits too; every character keeps its place."""
    text = re.sub(r"元月(?=[0-9〇零一二三四五六七八九十份]|初)", "一月", text)
    text = _FORMAL.sub(lambda char: char.group().translate(_PLAIN), text.translate(_WIDE))
    return _SPOKEN_RUN.sub(lambda run: run.group().translate(_SPOKEN), text)


# ---------------------------------------------------------------------------------------------------------------------- cues


_BORN = re.compile(r"(?<=[日号月年0-9])\s?出?生(?=[的人于]|$|[^\u4e00-\u9fff])")  # 1965年6月20日生


def cues(form: Form, text: str) -> dict[str, list[Cue]]:
    """The cues of each field, in order; one inside a longer one of another field does not count."""
    found: list[Cue] = []
    births = {rule.fields[0] for rule in form.rules if rule.kind == "birth_matches_id"}
    for field in form.fields.values():
        own = "|".join(map(re.escape, sorted({*field.cues, field.label}, key=len, reverse=True)))
        found += [Cue(*match.span(), field.name, True) for match in re.finditer(own, text)]
        if field.name in births:
            found += [Cue(*match.span(), field.name, True) for match in _BORN.finditer(text)]
        if field.kind in KIND_CUES:
            found += [Cue(*match.span(), field.name, False) for match in re.finditer(KIND_CUES[field.kind], text)]
    found.sort(key=lambda cue: (cue.start, -cue.end))
    kept: dict[str, list[Cue]] = {name: [] for name in form.fields}
    longest, end = None, -1
    for cue in found:
        if longest is not None and cue.end <= end and (cue.start, cue.end) != longest:
            continue
        kept[cue.field].append(cue)
        if cue.end > end:
            longest, end = (cue.start, cue.end), cue.end
    return kept


# ------------------------------------------------------------------------------------------------------------------- numbers

_DIGIT = {char: i for i, char in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0, "俩": 2, "仨": 3, "双": 2}
_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 10**8}
_CHINESE = "零〇一二三四五六七八九十百千万亿两"
_NUMBER = re.compile(
    rf"(?<![0-9A-Za-z.])[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,4}}(?:\.[0-9]{{1,4}})?|(?<![0-9A-Za-z.])[0-9]{{1,9}}(?:\.[0-9]{{1,4}})?(?:[百千万][0-9]?)?(?![0-9A-Za-z])"
    rf"|[{_CHINESE}]{{1,3}}[来多几][十百千万]|[{_CHINESE}]{{1,16}}|双(?=胞胎)|[俩仨](?![\u4e00-\u9fff]*[儿子]们)"
)
_SEVERAL = re.compile("[一二三四五六七八九][一二三四五六七八九][十百千万]|[几来多][十百千万]")
_ABOUT = re.compile(r"(?:大概|大约|约|差不多|将近|接近|估计)[有是在每个月年]{0,3}$")
_ABOUT_AFTER = re.compile(r"(?:元|块钱?|[年人天])?(?:左右|上下|差不多)")
_MONEY_UNIT = re.compile(r"\s?(?:元|块钱?|圆)(?:整)?")
_OTHER_UNIT = re.compile(r"\s?(?:[年月日号岁点时分秒天周%％楼室栋幢单元度层级折]|[个口人位名户胎孩](?!元)|平|公里|星期|小时)")


def number(text: str) -> Decimal | None:
    """A number in digits or Chinese as it is said: 2800, 1,500, 两千八 (2800), 3万5 (35000), 二十三. None for what is none."""
    text = text.strip().replace(",", "")
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([百千万])([0-9])?", text)
    if match:
        scale = _SCALE[match[2]]
        return Decimal(match[1]) * scale + (Decimal(match[3]) * scale / 10 if match[3] else 0)
    try:
        return Decimal(text) if text.isascii() else _chinese(text)
    except (InvalidOperation, KeyError):
        return None


def _chinese(text: str) -> Decimal | None:
    if not text or any(char not in _DIGIT and char not in _SCALE for char in text):
        return None
    if len(text) > 1 and all(char in _DIGIT for char in text):  # 二八零零
        return Decimal("".join(str(_DIGIT[char]) for char in text))
    whole = total = section = digit = 0  # before 亿, before 万, before the rest
    last = 1
    for i, char in enumerate(text):
        if char in _DIGIT:
            if i and text[i - 1] in _DIGIT and text[i - 1] not in "零〇":
                return None
            digit = _DIGIT[char]
        elif char == "亿":
            whole, total, section, digit = (total + section + digit) * _SCALE[char], 0, 0, 0
        elif char == "万":
            total, section, digit = (section + digit) * _SCALE[char], 0, 0
        else:
            section, digit = section + (digit if digit or (i and text[i - 1] in "零〇") else 1) * _SCALE[char], 0
        if char in _SCALE:
            last = _SCALE[char]
    if digit and last >= 100 and len(text) > 1 and text[-2] in _SCALE:  # 两千八
        digit = digit * last // 10
    return Decimal(whole + total + section + digit)


def _written(value: Decimal) -> str:
    return format(value.normalize(), "f")


def _state(text: str, start: int, end: int) -> str:
    if (
        re.match(r"\s?(?:[多来几]|出头|好几)", text[end : end + 3])
        or _SEVERAL.search(text[start:end])
        or text[start - 1 : start] == "几"
    ):
        return "vague"
    about = _ABOUT.search(text[max(0, start - 6) : start]) or _ABOUT_AFTER.match(text, end)
    return "about" if about else ""


def _numbers(form: Form, text: str, taken: bytearray) -> Iterator[Candidate]:
    """Sums and counts. A number without a unit is both: only what stands beside it can tell."""
    kinds = {field.kind for field in form.fields.values()}
    units: dict[str, list[str]] = {}
    for field in form.fields.values():
        for unit in field.units if field.kind == "count" else ():
            units.setdefault(unit, []).append(field.name)
    unit_after = re.compile(rf"\s?(?:{'|'.join(map(re.escape, sorted(units, key=len, reverse=True))) or '(?!)'})")
    for amount in find_amounts(text) if "amount" in kinds else ():
        if not any(taken[amount.start : amount.end]):
            taken[amount.start : amount.end] = b"\1" * (amount.end - amount.start)
            yield Candidate("amount", amount.start, amount.end, _written(amount.yuan), _state(text, amount.start, amount.end))
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        if any(taken[start:end]):
            continue
        if match.group()[-1:] == "一" and len(match.group()) > 1 and re.match("个?[月年天次人]", text[end : end + 2]):
            end -= 1  # 三千五一个月
        value = number(text[start:end])
        state = _state(text, start, end)
        more = re.match(r"\s?(?:多|来|好几|出头)", text[end : end + 3])
        tail = end + (more.end() if more else 0)
        counted, money = unit_after.match(text, tail), _MONEY_UNIT.match(text, tail)
        if value is None and state != "vague":
            continue
        said = _written(value) if value is not None else match.group()
        if counted:
            rest = re.match(r"[零又半]", text[counted.end() : counted.end() + 1])  # 十三年零四个月, 两年半
            yield Candidate(
                "count", start, counted.end(), said, "vague" if rest else state, tuple(units[counted.group().strip()])
            )
        elif money:
            yield Candidate("amount", start, money.end(), said, state)
        elif (
            not _OTHER_UNIT.match(text, tail)
            and (not start or text[start - 1] not in "第周星")
            and (len(match.group()) > 1 or match.group().isdigit())
        ):
            yield Candidate("number", start, tail, said, state)


# --------------------------------------------------------------------------------------------------------------------- dates

_M = r"(?:1[0-2]|0?[1-9]|十[一二]?|[一二三四五六七八九])"
_D = r"(?:3[01]|[12][0-9]|0?[1-9]|三十一?|二?十[一二三四五六七八九]?|廿[一二三四五六七八九]?|[一二三四五六七八九])"
_Y4 = r"(?:(?:19|20)[0-9]{2}|[一二][〇零○一二三四五六七八九]{3})"
_Y2 = r"(?:[0-9]{2}|[〇零○一二三四五六七八九]{2})"
_FULL = re.compile(
    rf"(?<![0-9])(?P<year>{_Y4}|{_Y2})\s?年\s?(?:的\s?)?(?P<month>{_M})\s?月份?\s?(?:的\s?)?(?:(?P<day>{_D})\s?(?:日|号|(?![0-9一二三四五六七八九十天个年月万千百点])))?"
)
_SHORT = re.compile(
    rf"(?<![0-9./-])(?P<year>{_Y4}|[0-9]{{2}})(?P<sign>[./-])(?P<month>1[0-2]|0?[1-9])(?:(?P=sign)(?P<day>3[01]|[12][0-9]|0?[1-9]))?(?![0-9]|[./-][0-9]|\s?[元块万千])"
)
_SPACED = re.compile(
    r"(?<![0-9])(?P<year>(?:19|20)[0-9]{2}) +(?P<month>1[0-2]|0?[1-9]) +(?P<day>3[01]|[12][0-9]|0?[1-9])(?![0-9])"
)
_YEAR = re.compile(
    rf"(?<![0-9])(?:{_Y4}|(?P<short>[0-9]{{2}}|[〇零○六七八九][〇零○一二三四五六七八九])(?=\s?年[出的]?生))\s?年(?![以之]?[内前后多])"
)
_LUNAR = re.compile(
    r"(?:农历|阴历|旧历)[是的：:]{0,2}(?:[0-9〇零一二三四五六七八九]{2,4}年)?$|(?:正|腊|冬)月|初[一二三四五六七八九十]"
)
_INEXACT = re.compile(r"(?:个月|周|个?星期|个?礼拜|年)(?:以?前|之前|以?后|之后)$")
_PARTIAL = re.compile(rf"(?:(?P<month>{_M})\s?月份?\s?的?)?(?P<day>{_D})\s?[日号]")


def _year(text: str, today: date) -> int:
    digits = int(text.translate(_SPOKEN))
    if len(text) == 4:
        return digits
    return digits + (2000 if digits <= today.year % 100 else 1900)


_LASTED = re.compile(r"(?:[交缴满干做]|工龄|年限|缴费|社保|保险)(?:改成|改为|应该是|应是|[了过的是有够满到]){0,3}\s?$")
_BORN = re.compile(r"生(?![病效活产育孩娃意理前涯])")


def _lasts(form: Form, asking: FormField | None) -> bool:
    """Whether a number of years is asked for."""
    return asking is not None and asking.kind == "count" and any(unit.endswith("年") for unit in asking.units)


def _born(form: Form, text: str, entry: Candidate) -> Candidate:
    """1993年3月17日生: the birth date."""
    births = tuple(rule.fields[0] for rule in form.rules if rule.kind == "birth_matches_id")
    return entry._replace(fields=births) if len(births) == 1 and _BORN.match(text, entry.end) else entry


def _dates(text: str, today: date, taken: bytearray, lasts: bool = False) -> Iterator[Candidate]:
    """lasts: 28年 is how long it lasted, not the year 1928."""
    found: list[tuple[int, int, str, str]] = []  # start, end, value, state

    def put(start: int, end: int, value: str, state: str = "") -> None:
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            found.append((start, end, value, state))

    for pattern in (_FULL, _SHORT, _SPACED):
        for match in pattern.finditer(text):
            if pattern is _SHORT and (match["day"] is None and (len(match["year"]) == 2 or match["sign"] == "-")):
                continue
            year = _year(match["year"], today)
            days = find_dates(f"2000年{match['month']}月{match['day'] or '1'}日", today)
            month = days[0].first.month if days and days[0].day else 0
            if not month:  # 2月30日: no such day, which is to be told
                numbers = [
                    number(match["month"].translate(_SPOKEN) if match["month"].isdigit() else match["month"]),
                    number(match["day"] or "1"),
                ]
                if None not in numbers:
                    put(*match.span(), f"{year:04}-{int(numbers[0] or 0):02}-{int(numbers[1] or 0):02}")
                continue
            value = f"{year:04}-{month:02}" + (f"-{days[0].first.day:02}" if match["day"] else "")
            put(*match.span(), value, "" if match["day"] else "month")
    masked = "".join(" " if mark else char for char, mark in zip(text, taken, strict=True))
    for when in find_dates(masked, today):
        words = text[when.start : when.end]
        state = "vague" if when.day is None or _INEXACT.search(words) else ""
        value = when.first.isoformat()
        if when.day is None and re.search("月", words) and not re.search("[初中底末旬]", words):
            value, state = value[:7], "month"
        put(when.start, when.end, value, state)
    for match in _YEAR.finditer(text):
        if match["short"] and (lasts or _LASTED.search(text[max(0, match.start() - 8) : match.start()])):
            continue
        put(*match.span(), match.group(), "vague")
    found.sort()
    before: tuple[int, str] | None = None  # end and value of the last date that names its month
    for start, end, value, state in found:
        words = text[start:end]
        partial = _PARTIAL.fullmatch(words)
        if partial and before and not re.search("[。；;！!\n]", text[before[0] : start]) and start - before[0] < 30:
            known_year, known_month = before[1][:4], before[1][5:7]
            days = find_dates(f"{known_year}年{partial['month'] or int(known_month)}月{partial['day']}日", today)
            if days:
                value, partial = days[0].first.isoformat(), None
        if _LUNAR.search(text[max(0, start - 12) : start]) or _LUNAR.search(words):
            state = "lunar"
        if state in ("", "month"):
            before = (end, value)
        yield Candidate("date", start, end, value, state or ("yearless" if partial else ""))


# ------------------------------------------------------------------------------------------------------------------- choices

_NOT = re.compile(r"(?:不是|并非|没有|没|非|不算|不属于|未|不)$")
_CLAUSE_BEFORE = re.compile("[^，,。；;！!？?\n]*$")
_ASKED = re.compile("^[^，,。；;！!\n]*(?:你们|您们|[吗?？]|几点|怎么|什么|哪[里儿个些]|多少|能不能|可不可以|是不是|为啥|咋)")
_SINGLE_BEFORE = re.compile(r"(?:^|[^\u4e00-\u9fff]|[是为别性选填写的个])$")
_SINGLE_LISTED = re.compile(r"(?:居民)?身份证|手机|电话|出生|汉族|[0-9]{4}年")  # 张秀兰女身份证…
_PART_OF_WORD = frozenset("子妇男女儿孙少侄甥闺外美才处长次幼")
_SINGLE_AFTER = re.compile(r"$|[^\u4e00-\u9fff]|[的性士生方吧呢啊]")


def _choices(field: FormField, text: str, found_cues: Sequence[Cue]) -> Iterator[Candidate]:
    words = {word: value for value in field.enum for word in (value, *dict(field.words).get(value, ()))}
    if field.kind == "yesno":
        words = {word: value for word, value in words.items() if word not in ("是", "否")}
        words = {word: value for word, value in words.items() if len(word) > 1}
    if not words:
        return
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))
    ends = {cue.end for cue in found_cues}
    for match in pattern.finditer(text):
        start, end = match.span()
        listed = _SINGLE_LISTED.match(text, end) and text[start - 1 : start] not in _PART_OF_WORD
        apart = _SINGLE_BEFORE.search(text[max(0, start - 1) : start]) and _SINGLE_AFTER.match(text, end)
        if len(match.group()) == 1 and start not in ends and not apart and not listed:
            continue
        clause = _CLAUSE_BEFORE.search(text[max(0, start - 30) : start])
        if _ASKED.search((clause.group() if clause else "") + text[end : end + 30].split("，")[0]):
            continue  # a question says nothing about who asks it
        state = "denied" if _NOT.search(text[max(0, start - 3) : start]) else ""
        yield Candidate(field.kind, start, end, words[match.group()], state, (field.name,))
    if field.kind == "yesno":
        for cue in found_cues:
            said = _SAID.match(text, cue.end)
            if cue.own and said:
                yield Candidate("yesno", *said.span("word"), "是" if said["yes"] else "否", "", (field.name,))


_SAID = re.compile(
    r"[的呢嘛：:，,\s]{0,2}(?P<word>(?P<yes>是的?|有的?|对|要|需要)|(?P<no>不是|没有|没|无|不要|不需要|否|不))(?=$|[^\u4e00-\u9fff]|[的了吧啊呢])"
)


# ------------------------------------------------------------------------------------------------------------------- phrases

_LINK = re.compile(
    r"[的]?(?:名称|名字|全称|姓名|号码?)?(?:就?是|叫做?|为|写的?|填|选|改成|改为|应该是|打算做|准备做|主要是?|[:：])?[\s:：]{0,2}"
)
_PHRASE_END = re.compile(r"[。；;！!？?\n]|[，,](?=.{0,6}(?:是|为|叫|住|电话|手机|身份证|地址|\d))|$")
_CLAUSES = re.compile(r"[^，,。；;、！!？?\s\n]+")
_TRAILING = re.compile(r"[，,、\s]+$|(?:的|吧|啊|呢|哈|哦)$")


def _phrases(field: FormField, text: str, found_cues: Sequence[Cue], taken: bytearray) -> Iterator[Candidate]:
    """What stands behind a cue of a field that holds words."""
    for cue in found_cues:
        link = _LINK.match(text, cue.end)
        start = link.end() if link else cue.end
        linked = start > cue.end or text[cue.end - 1] in "叫是在"
        if field.kind == "name":
            continue
        if not linked and field.kind != "text":
            continue
        stop = (
            _PHRASE_END.search(text, start) if field.kind == "text" else re.compile(r"[，,。；;！!？?\n]|$").search(text, start)
        )
        end = min(stop.start() if stop else len(text), start + field.longest)
        while (tail := _TRAILING.search(text[start:end])) and tail.end() > tail.start():
            end = start + tail.start()
        if end - start >= 2 and not any(taken[start:end]) and not _EMPTY.match(text[start:end]):
            yield Candidate(field.kind, start, end, text[start:end], "", (field.name,))


_EMPTY = re.compile("什么|哪|怎么|多少|啥|不知道|没有$|还没|可以|需要|要不要|填什么|不对|错")


# ----------------------------------------------------------------------------------------------------------------------- all


_LABEL = re.compile(
    "(?:的)?(?:全称|名称|名字|地址)?[是叫为在：:]|(?:信用)?代码"
)  # behind a cue that names what comes, and is no answer itself


def candidates(
    form: Form, text: str, found_cues: dict[str, list[Cue]], today: date, asking: FormField | None
) -> list[Candidate]:
    """From left to right. text: as `narrow` gives it. What overlaps: of choices and phrases only; the assignment decides."""
    kinds = {field.kind for field in form.fields.values()}
    taken = bytearray(len(text))
    found: list[Candidate] = []

    def take(start: int, end: int) -> bool:
        if start >= end or any(taken[start:end]):
            return False
        taken[start:end] = b"\1" * (end - start)
        return True

    slots = find_slots(text, today)
    for slot in slots:
        if slot.kind in CHECKED and take(slot.start, slot.end):
            found.append(Candidate(slot.kind, slot.start, slot.end, slot.value))
        elif slot.valid is not None or slot.kind in ("landline", "passport", "travel_permit", "plate"):
            take(slot.start, slot.end)
    found += [entry for entry in _broken(form, text, found_cues, asking) if take(entry.start, entry.end)]
    places = _addresses(text)
    for start, end in places:
        if take(start, end) and "address" in kinds:
            whole = _alone(text, start, end)
            found.append(Candidate("address", start, end, normal("address", text[start:end]), alone=whole))
    if "date" in kinds or "amount" in kinds or "count" in kinds:
        dates = [_born(form, text, entry) for entry in _dates(text, today, taken, _lasts(form, asking))]
        found += dates if "date" in kinds else []
    for slot in slots:
        if slot.kind == "organisation" and take(slot.start, slot.end) and "organisation" in kinds:
            found.append(Candidate("organisation", slot.start, slot.end, slot.value))
        elif slot.kind == "name" and take(slot.start, slot.end) and "name" in kinds:
            found.append(Candidate("name", slot.start, slot.end, slot.value, alone=True))
    words = {word for field in form.fields.values() if field.words for listed in field.words.values() for word in listed}
    if "name" in kinds:
        found = [entry for entry in found if entry.kind != "name" or entry.value not in words]  # 车祸 is no Mr Che
        found += [
            Candidate("name", start, end, text[start:end], alone=led)
            for start, end, led in _names(form, text, found_cues)
            if text[start:end] not in words and take(start, end)
        ]
    numbers = list(_numbers(form, text, taken))
    counted = {
        place
        for entry in numbers
        if entry.kind == "count" and text[entry.start : entry.end] not in ("一个人", "1个人")
        for place in range(entry.start, entry.end)
    }
    labels = {
        (cue.start, cue.end): cue.field for listed in found_cues.values() for cue in listed if _LABEL.match(text, cue.end)
    }
    found += numbers
    if "region" in kinds:
        found += [
            Candidate("region", start, end, owners[0].name) for start, end, owners in find_divisions(text) if len(owners) == 1
        ]
    for field in form.fields.values():
        if field.kind in ("choice", "yesno"):
            found += [
                entry
                for entry in _choices(field, text, found_cues[field.name])
                if labels.get((entry.start, entry.end), field.name) == field.name and not {entry.start, entry.end - 1} & counted
            ]
        elif field.kind in ("text", "organisation", "address"):
            found += _phrases(field, text, found_cues[field.name], taken)
        if field.kind in ("amount", "count"):
            found += _none(field, text, found_cues[field.name])
    found.sort(key=lambda entry: (entry.start, entry.end))
    return [entry._replace(state="denied") if _denied(text, entry) else entry for entry in found]


def _denied(text: str, entry: Candidate) -> bool:
    """不是1380…: said not to be it."""
    return (
        entry.state == ""
        and entry.kind not in ("choice", "yesno")
        and re.search("不(?:是|叫|在|住)[在叫]?$", text[max(0, entry.start - 4) : entry.start]) is not None
    )


def _alone(text: str, start: int, end: int) -> bool:
    return bool(re.search(r"(?:^|[，,。；;：:\s\n])$", text[max(0, start - 1) : start])) and bool(
        re.match(r"$|[，,。；;\s\n]", text[end : end + 1])
    )


_RUN = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z](?:[ -]{0,2}[0-9A-Za-z]){4,22}(?![0-9A-Za-z])")


def _broken(form: Form, text: str, found_cues: dict[str, list[Cue]], asking: FormField | None) -> Iterator[Candidate]:
    """Numbers that the recognisers do not know, where a cue or the question says what they were to be: a digit is missing."""
    checked = [field for field in form.fields.values() if field.kind in CHECKED - {"email"}]
    ends = {field.name: [cue.end for cue in found_cues[field.name]] for field in checked}
    for match in _RUN.finditer(text):
        digits = re.sub("[^0-9A-Za-z]", "", match.group())
        if sum(char.isdigit() for char in digits) < 5:
            continue
        best: tuple[int, str] | None = None
        for field in checked:
            place = bisect.bisect_right(ends[field.name], match.start()) - 1
            if place >= 0:
                end = ends[field.name][place]
                between = text[end : match.start()]
                if len(between) <= 12 and not re.search(r"[0-9。；;\n]", between) and (best is None or end > best[0]):
                    best = (end, field.kind)
        kind = best[1] if best else ""
        if (
            not kind
            and asking
            and asking.kind in CHECKED
            and asking.kind != "email"
            and len(match.group()) * 2 >= len(text.strip())
        ):
            kind = asking.kind
        if kind and not re.match(r"\s?[元块万年月日号岁]", text[match.end() : match.end() + 2]):
            yield Candidate(kind, *match.span(), digits.upper())


_CITY = re.compile(
    r"(?:(?!住|在|是|到|址|写|填|的|了|成|改|换|我|你|搬|来|去|为|于|叫|说|家|省|市|县|区)[\u4e00-\u9fff]){2,4}市(?=[\u4e00-\u9fff]{1,6}?[区县镇乡路街])"
)


def _addresses(text: str) -> list[tuple[int, int]]:
    """The addresses, those in cities that no gazetteer has among them."""
    unknown = [match.span() for match in _CITY.finditer(text) if not Divisions.bundled().named(match.group())]
    masked, end = [], 0
    for start, stop in unknown:
        masked += [text[end:start], " " * (stop - start)]
        end = stop
    ends = {stop: start for start, stop in unknown}
    return [(ends.get(place.start, place.start), place.end) for place in find_addresses("".join([*masked, text[end:]]))]


def _names(form: Form, text: str, found_cues: dict[str, list[Cue]]) -> Iterator[tuple[int, int, bool]]:
    """Names behind a cue of a field for names, and names that are a clause of their own."""
    for field in form.fields.values():
        for cue in found_cues[field.name] if field.kind == "name" else ():
            lead = re.compile(r"(?:的)?(?:姓名|名字)?(?:就?是|叫做?|为|写的?|填|改成|改为|应该是|[:：])?[\s:：]{0,2}").match(
                text, cue.end
            )
            start = lead.end() if lead else cue.end
            end = names_alone(text, start)
            if end:
                yield start, end, True
    for clause in _CLAUSES.finditer(text):
        end = names_alone(text, clause.start())
        if end == clause.end():
            yield clause.start(), end, True


_NONE = re.compile(r"[的是：:呢，,]{0,2}(?:都|也)?(?:没有|没|无|为?零|0(?![0-9.]))(?=$|[^\u4e00-\u9fff]|[元的了吧啊])")


def _none(field: FormField, text: str, found_cues: Sequence[Cue]) -> Iterator[Candidate]:
    """没有收入 = 0."""
    for cue in found_cues:
        before = re.search(r"(?:没有?|无|零)(?:任何|什么|啥|一点)?(?:其他|别的)?$", text[max(0, cue.start - 8) : cue.start])
        after = _NONE.match(text, cue.end)
        if before:
            yield Candidate(field.kind, cue.start - len(before.group()), cue.end, "0", "", (field.name,))
        elif after:
            yield Candidate(field.kind, cue.start, after.end(), "0", "", (field.name,))
