"""Dates and amounts of money in Chinese text, as people write and say them; and the one way to write what a slot holds.

    date     2024年3月5日, 2024-3-5, 3月5号, 三月五号, 五号, 下个月五号, 明天, 大后天, 上周三, 下下周一, 月底, 去年, 今年3月
    amount   3500元, 3.5万元, 1,000块, 贷十五万, 人民币壹万贰仟叁佰元整, 五块五

A house number (梧桐路27号) is no date, nor are the digits of a code (GA-20261124-0071). A date that leaves the year or the month
open is taken from `today`: the month or the day that is named lies in this year or month, unless the words say
otherwise. Places count code points, ends are exclusive.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

__all__ = ["Amount", "When", "find_amounts", "find_dates", "normal"]


class When(NamedTuple):
    """text[start:end] names the days from `first` to `last`, both included: one day, a week, a month or a year."""

    start: int
    end: int
    first: date
    last: date

    @property
    def day(self) -> date | None:
        """The day, where it is one."""
        return self.first if self.first == self.last else None


class Amount(NamedTuple):
    """text[start:end] names this sum, in yuan."""

    start: int
    end: int
    yuan: Decimal


_WIDE = {0xFF01 + i: 0x21 + i for i in range(94)}  # one character for one
_DIGITS = "〇零○一二三四五六七八九"
_VALUES = {char: max(0, i - 2) for i, char in enumerate(_DIGITS)} | {"两": 2, "十": 10, "廿": 20, "卅": 30}


def _number(text: str) -> int:
    """A whole number below 100 in digits or Chinese, or a year in digits."""
    if text.isdigit() and text.isascii():
        return int(text)
    if len(text) == 4 or (len(text) == 2 and all(c in _DIGITS for c in text)):  # 二〇二四, 二四
        return int("".join(str(_VALUES[c]) for c in text))
    total = digit = 0
    for char in text:
        value = _VALUES[char]
        if value >= 10:
            total, digit = total + (max(digit, 1) * 10 if value == 10 else value), 0
        else:
            digit = value
    return total + digit


# ---------------------------------------------------------------------------------------------------------------------- dates

_SMALL = r"(?:[0-9]{1,2}|[一二三四五六七八九两]?十[一二三四五六七八九]?|廿[一二三四五六七八九]?|卅一?|[一二三四五六七八九两])"
_YEAR = r"(?:(?P<year>(?:19|20)[0-9]{2}|[一二][〇零○一二三四五六七八九]{3})\s?年?度?|(?P<near_year>前|去|今|本|明|后)年)"
_MONTH = rf"(?:(?P<month>{_SMALL})\s?月份?|(?P<near_month>上上个?|下下个?|上个?|下个?|这个?|本|当)月)"
_DAY = rf"(?:(?P<day>{_SMALL})\s?[日号]|(?P<part>月?[初中底末]|[上中下]旬))"
_CALENDAR = re.compile(rf"(?:{_YEAR}\s?的?)?{_MONTH}\s?的?(?:{_DAY})?")
_WHOLE_YEAR = re.compile(
    r"(?P<year>(?:19|20)[0-9]{2}|[一二][〇零○一二三四五六七八九]{3})\s?年|(?P<near_year>前|去|今|本|明|后)年"
)
_SIGNS = re.compile(
    r"(?<![0-9])(?P<year>(?:19|20)[0-9]{2})(?P<sign>[-/.])(?P<month>[0-9]{1,2})(?P=sign)(?P<day>[0-9]{1,2})(?![0-9])"
)
_PLAIN = re.compile(r"(?<![0-9])(?P<year>(?:19|20)[0-9]{2})(?P<month>0[1-9]|1[0-2])(?P<day>[0-3][0-9])(?![0-9]|号)")
_ONLY_DAY = re.compile(
    rf"(?<![0-9A-Za-z月第几〕\]】）)])(?P<day>{_SMALL})\s?号(?![楼院线馆门窗码厅店栋幢座附室厂铺商库仓房户机台桌车球牌文令]|电梯|[0-9]{{3,4}}(?![0-9年月元块]))"
)
# What makes the number after it the number of a house. 医院5号, 幼儿园5号 are said of days.
_STREET = re.compile(
    r"(?:[路街巷弄村附屯栋幢]|胡同|大道|支道|门牌|小区|花园|新村|[0-9一二三四五六七八九十][组队段区])[东西南北中]?[段侧]?\s?$"
)
_TOKEN = re.compile(r"[0-9A-Za-z./_-]*[0-9][0-9A-Za-z./_-]*")  # what is written without a break
_SPACED_IDENTITY = re.compile(r"(?<![0-9])[0-9]{6}[ -][0-9]{8}[ -][0-9]{3}[0-9Xx]")
_ONLY_PART = re.compile(r"月(?P<part>[初中底末])")
_NEAR_DAY = re.compile(r"(?P<name>大前天|前天|昨天|昨日|今天|今日|当天|明天|明日|后天|大后天)")
_WEEK = re.compile(r"(?P<which>(?:上上|下下|上|下|这|本)?)(?:个)?(?:周|星期|礼拜)(?P<name>[一二三四五六日天末1-7])?")
_AGO = re.compile(
    rf"(?P<count>{_SMALL}|[0-9]{{1,3}})\s?(?P<unit>天|日|个?星期|个?礼拜|周|个月|年)(?P<side>以?前|之前|以?后|之后)"
)
_DAYS = {
    "大前天": -3,
    "前天": -2,
    "昨天": -1,
    "昨日": -1,
    "今天": 0,
    "今日": 0,
    "当天": 0,
    "明天": 1,
    "明日": 1,
    "后天": 2,
    "大后天": 3,
}
_YEARS = {"前": -2, "去": -1, "今": 0, "本": 0, "明": 1, "后": 2}


def find_dates(text: str, today: date | None = None) -> list[When]:
    """The dates in the text, from left to right, without overlaps; what names no real day (2月30日) is left out."""
    today = today or date.today()
    narrow = text.translate(_WIDE)
    found: list[When] = []
    taken = _codes(narrow)
    for pattern, meaning in (
        (_SIGNS, _of_calendar), (_PLAIN, _of_calendar), (_CALENDAR, _of_calendar), (_AGO, _of_distance), (_NEAR_DAY, _of_near_day),
        (_WEEK, _of_week), (_ONLY_DAY, _of_calendar), (_ONLY_PART, _of_calendar), (_WHOLE_YEAR, _of_calendar),
    ):  # fmt: skip
        for match in pattern.finditer(narrow):
            if any(taken[match.start() : match.end()]):
                continue
            if pattern is _ONLY_DAY and _STREET.search(narrow[max(0, match.start() - 6) : match.start()]):
                continue
            try:
                days = meaning(match, today)
            except (ValueError, OverflowError):
                days = None
            if days is not None:
                found.append(When(*match.span(), *days))
                taken[match.start() : match.end()] = [True] * (match.end() - match.start())
    return sorted(found)


def _codes(text: str) -> list[bool]:
    """Which characters belong to a number that is more than dates, such as GA-20261124-0071 or a spaced identity number."""
    taken = [False] * len(text)
    spans = [match.span() for match in _SPACED_IDENTITY.finditer(text)]
    for match in _TOKEN.finditer(text):
        rest = _PLAIN.sub("", _SIGNS.sub("", match.group()))
        if rest != match.group() and re.search("[0-9A-Za-z]", re.sub("^T[0-9]{2}$", "", rest)):
            spans.append(match.span())
    for start, end in spans:
        taken[start:end] = [True] * (end - start)
    return taken


_Days = tuple[date, date]


def _of_calendar(match: re.Match[str], today: date) -> _Days | None:
    parts = match.groupdict()
    year, month = today.year, today.month
    if parts.get("year"):
        year = _number(parts["year"])
    elif parts.get("near_year"):
        year += _YEARS[parts["near_year"]]
    if parts.get("month"):
        month = _number(parts["month"])
        if not 1 <= month <= 12:
            return None
    elif parts.get("near_month"):
        name = parts["near_month"].removesuffix("个")
        month += {"上上": -2, "上": -1, "下": 1, "下下": 2}.get(name, 0)
        year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    elif "month" in parts or "near_month" in parts or ("day" not in parts and "part" not in parts):
        return date(year, 1, 1), date(year, 12, 31)
    last = calendar.monthrange(year, month)[1]
    if parts.get("day"):
        day = _number(parts["day"])
        return date(year, month, day), date(year, month, day)
    if parts.get("part"):
        first, end = {"初": (1, 10), "上": (1, 10), "中": (11, 20), "下": (21, last), "底": (21, last), "末": (21, last)}[
            parts["part"].strip("月旬")
        ]
        return date(year, month, first), date(year, month, end)
    return date(year, month, 1), date(year, month, last)


def _of_near_day(match: re.Match[str], today: date) -> _Days:
    day = today + timedelta(_DAYS[match["name"]])
    return day, day


def _of_week(match: re.Match[str], today: date) -> _Days | None:
    which, name = match["which"], match["name"]
    if not which and not name:
        return None
    monday = today - timedelta(today.weekday()) + timedelta(7 * {"上上": -2, "上": -1, "下": 1, "下下": 2}.get(which, 0))
    if name is None:
        return monday, monday + timedelta(6)
    if name == "末":
        return monday + timedelta(5), monday + timedelta(6)
    day = monday + timedelta(6 if name in "日天" else _number(name) - 1)
    return day, day


def _of_distance(match: re.Match[str], today: date) -> _Days:
    count = _number(match["count"]) * (-1 if "前" in match["side"] else 1)
    unit = match["unit"].removeprefix("个")
    if unit in ("月", "年"):
        months = today.year * 12 + today.month - 1 + count * (12 if unit == "年" else 1)
        year, month = divmod(months, 12)
        day = date(year, month + 1, min(today.day, calendar.monthrange(year, month + 1)[1]))
    else:
        day = today + timedelta(count * (1 if unit in "天日" else 7))
    return day, day


# -------------------------------------------------------------------------------------------------------------------- amounts

_FIGURES = r"(?<![0-9])(?:[0-9]{1,3}(?:,[0-9]{3}){1,5}|[0-9]{1,15})(?:\.[0-9]{1,8})?"
_SPOKEN = "〇零○一二三四五六七八九两十廿百千万亿壹贰叁肆伍陆柒捌玖拾佰仟"
_MONEY = re.compile(
    rf"(?:人民币|￥|¥|RMB\s?)?(?P<number>{_FIGURES}|[{_SPOKEN}]{{1,24}}(?:点[{_DIGITS}]{{1,8}})?)\s?(?P<scale>百万|千万|[百千万亿]){{0,1}}\s?"
    rf"(?P<unit>元|块钱?|圆)(?P<rest>(?P<jiao>[0-9{_SPOKEN}])(?:[角毛](?:(?P<fen>[0-9{_SPOKEN}])分)?|(?![0-9{_SPOKEN}月日年号个人])))?整?"
)
_SIGNED = re.compile(rf"(?:￥|¥|人民币)\s?(?P<number>{_FIGURES})\s?(?P<scale>[万亿])?")
# After such a word a number is a sum without its unit: one with 百, 千, 万 or 亿, or at least three digits; unless something is
# counted (交十五年, 存3份) or the number is a hotline (转交12345).
_PAID = (
    "贷款?|借款?|(?<![公提成社外])交|缴纳?|存款?|花|付|赔|欠款?|退款?|领|罚款?|挣|赚|取|提取|充值?|报销"
    "|工资|收入|年薪|月薪|薪水|月租|租金|房租|押金|首付|总价|金额|余额|补偿金|退休金|养老金|本金"
)
_UNNAMED = re.compile(
    rf"(?:{_PAID})(?:[了过到的是有为才得约共我他她给:：\s]|大概|大约|差不多|只有|每月|一共|总共){{0,3}}"
    rf"(?P<number>(?!12[0-9]{{3}}(?![0-9.,万千]))(?:{_FIGURES}(?=\s?[千万亿])|[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,5}}(?:\.[0-9]{{1,8}})?|[0-9]{{3,6}}(?:\.[0-9]{{1,8}})?"
    rf"|[一二三四五六七八九两十壹贰叁肆伍陆柒捌玖拾][{_SPOKEN}]{{0,16}}[百千万亿佰仟][{_SPOKEN}]{{0,16}}))\s?(?P<scale>百万|千万|[千万亿])?"
    rf"(?![0-9A-Za-z{_SPOKEN}%％年月日号天个人名位次份张页本岁周点分秒度平米公里吨斤克户家间套栋层楼室条项款章种类路步元块圆角毛成倍多余几来-]|[.,][0-9])"
)
_SCALES = {None: 1, "百": 100, "千": 1000, "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8}


def find_amounts(text: str) -> list[Amount]:
    """The sums of money in the text, from left to right, without overlaps.

    Digits or Chinese numbers before 元, 块, 圆, after ￥, or after a word that says that they are paid (贷十五万, 工资3500).
    """
    narrow = text.translate({wide: sign for wide, sign in _WIDE.items() if wide != 0xFFE5})
    matches = [(match.start(), match) for pattern in (_MONEY, _SIGNED) for match in pattern.finditer(narrow)]
    matches += [(match.start("number"), match) for match in _UNNAMED.finditer(narrow)]
    found: list[Amount] = []
    last = 0
    for start, match in sorted(matches, key=lambda entry: (entry[0], -entry[1].end())):
        if start < last:
            continue
        value = _value(match["number"])
        if value is None:
            continue
        value *= _SCALES[match["scale"]]
        parts = match.groupdict()
        for name, unit in (("jiao", "0.1"), ("fen", "0.01")):
            if parts.get(name):
                value += Decimal(unit) * (_value(parts[name]) or 0)
        found.append(Amount(start, match.end(), value))
        last = match.end()
    return found


def _value(text: str) -> Decimal | None:
    """A number in digits, or in Chinese (cn2an reads it, financial forms too). None for what is none."""
    if text[0].isascii():
        try:
            return Decimal(text.replace(",", ""))
        except InvalidOperation:
            return None
    import cn2an

    try:
        return Decimal(str(cn2an.cn2an(text.replace("○", "零"), "smart")))
    except (ValueError, InvalidOperation, KeyError, IndexError):
        return None


# -------------------------------------------------------------------------------------------------------------- one way to write

_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]")
_LANDLINE = re.compile(
    r"(?:(?:\+|00)86)?[ -]?\(?(?P<area>0?(?:10|2[0-57-9]|[3-9][0-9]{2}))?\)?[ -]*(?P<number>[2-9][0-9]{2,3}[ -]?[0-9]{4})"
    r"(?:[ ]?(?:转|ext\.?|-)[ ]?(?P<extension>[0-9]{1,6}))?",
    re.IGNORECASE,
)
_CODES = {"identity_card", "credit_code", "bank_card", "passport", "travel_permit", "plate"}


def normal(kind: str, text: str, today: date | None = None) -> str:
    """The one way to write a value of that kind; the text as it was said is the text of its span.

        mobile          11 digits, without +86
        landline        area-number-extension, as far as they are there: 0755-26001234-802, 84512367
        identity_card, credit_code, bank_card, passport, travel_permit, plate    letters and digits alone, in capitals
        email           half-width, the host in small letters
        date            2024-03-05; the words are read from `today` (the day it is)
        amount          in yuan: 3500, 4876.3
        any other       half-width spaces between words kept, between Chinese characters and digits dropped

    Nothing is checked that `privacy.find` checks. ValueError where the text is no value of the kind.
    """
    wide = _INVISIBLE.sub("", text).strip()
    narrow = wide.translate(_WIDE | {ord(dash): "-" for dash in "‐‑‒–—−"} | {0x3000: " ", 0xA0: " "})
    if kind in _CODES:
        value = re.sub(r"[^0-9A-Za-z\u4e00-\u9fff]", "", narrow).upper()
    elif kind == "mobile":
        value = re.sub("[^0-9]", "", narrow)
        value = value[-11:] if re.fullmatch("(?:00)?86", value[:-11] or "86") else ""
        value = value if re.fullmatch("1[3-9][0-9]{9}", value) else ""
    elif kind == "landline":
        match = _LANDLINE.fullmatch(re.sub(r"\s", " ", narrow))
        value = _landline(match) if match else ""
    elif kind == "email":
        name, sign, host = narrow.partition("@")
        value = f"{name}@{host.lower()}" if name and sign and host else ""
    elif kind == "date":
        days = find_dates(wide, today)
        value = days[0].first.isoformat() if len(days) == 1 and days[0].day else ""
    elif kind == "amount":
        value = _sum(wide)
    else:
        value = re.sub(r"(?<=[\u4e00-\u9fff])\s+|\s+(?=[\u4e00-\u9fff])", "", re.sub(r"\s+", " ", wide))
    if not value:
        raise ValueError(f"{text!r} is no {kind.replace('_', ' ')}")
    return value


def _landline(match: re.Match[str]) -> str:
    area = match["area"] or ""
    number = re.sub("[^0-9]", "", match["number"])
    return "-".join(filter(None, (area and "0" + area.removeprefix("0"), number, match["extension"])))


def _sum(text: str) -> str:
    """The one sum in the text; a number alone is one, too."""
    found = find_amounts(text) or find_amounts(text + "元")
    return format(found[0].yuan.normalize(), "f") if len(found) == 1 else ""
