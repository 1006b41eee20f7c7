"""Dates as people say them, beside those that `values` finds: years of two digits (85年3月12号), dates of which a part follows from

the one before (3月1号到9号), days that do not exist, which are to be told.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import date

from govlm.hall.forms.marks import SPOKEN, Candidate
from govlm.hall.forms.numbers import number
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.values import When, find_dates

__all__ = ["birth_date", "dates", "lasts"]

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
    rf"(?<![0-9])(?:{_Y4}|(?P<short>[0-9]{{2}}|[〇零○六七八九][〇零○一二三四五六七八九])(?=\s?年[出的]?生)"
    rf"|[05-9〇零○五六七八九][0-9〇零○一二三四五六七八九](?=\s?年(?:的时候)?(?:[我俺就]|开始){{0,2}}(?:参加|参工|进[了的]?厂|入职|上班|毕业|工作|搬)))\s?年(?![以之]?[内前后多])"
)
_NAMED_DAYS = {"元旦": "1月1日", "五一": "5月1日", "劳动节": "5月1日", "国庆": "10月1日"}
_NAMED = re.compile(
    rf"(?P<year>今年|去年|前年|明年|{_Y4}\s?年)的?(?P<name>元旦|五一|劳动节|国庆)节?(?:[那当]天)?(?!前|后|之|期间|左右|放假|假|长)"
)
_DOTTED = re.compile(r"(?<![0-9.])(?P<month>1[0-2]|[1-9])\.(?P<day>3[01]|[12][0-9]|[1-9])(?![0-9.])")
_NO_SIGN = re.compile(  # 八月二十七做的手术
    rf"(?:(?P<year>[今去前明]年)|(?<![0-9年]))(?P<month>{_M})\s?月份?(?P<day>{_D})(?<![月份][一二三四五六七八九十])(?![日号0-9〇零一二三四五六七八九十百千万亿多来几个天年月点岁块元楼栋])"
)
_LUNAR = re.compile(
    r"(?:农历|阴历|旧历)[是的：:]{0,2}(?:[0-9〇零一二三四五六七八九]{2,4}年)?$|(?:正|腊|冬)月|初[一二三四五六七八九十]"
)
_INEXACT = re.compile(r"(?:个月|周|个?星期|个?礼拜|年)(?:以?前|之前|以?后|之后)$")
_PARTIAL = re.compile(rf"(?:(?P<month>{_M})\s?月份?\s?的?)?(?P<day>{_D})\s?[日号]")


@functools.lru_cache(maxsize=1024)
def _days(text: str, today: date) -> tuple[When, ...]:
    """The dates of a few words; long messages say the same ones again."""
    return tuple(find_dates(text, today))


def _year(text: str, today: date) -> int:
    digits = int(text.translate(SPOKEN))
    if len(text) == 4:
        return digits
    return digits + (2000 if digits <= today.year % 100 else 1900)


_LASTED = re.compile(r"(?:[交缴满干做]|工龄|年限|缴费|社保|保险)(?:改成|改为|应该是|应是|[了过的是有够满到]){0,3}\s?$")
_BORN = re.compile(r"生(?![病效活产育孩娃意理前涯])")


def lasts(form: Form, asking: FormField | None) -> bool:
    """Whether a number of years is asked for."""
    return asking is not None and asking.kind == "count" and any(unit.endswith("年") for unit in asking.units)


def birth_date(form: Form, text: str, entry: Candidate) -> Candidate:
    """1993年3月17日生: the birth date."""
    births = tuple(rule.fields[0] for rule in form.rules if rule.kind == "birth_matches_id")
    return entry._replace(fields=births) if len(births) == 1 and _BORN.match(text, entry.end) else entry


def dates(
    text: str, today: date, taken: bytearray, lasts: bool = False, beside: tuple[set[int], set[int]] = (set(), set())
) -> Iterator[Candidate]:
    """lasts: 28年 is how long it lasted, not the year 1928. beside: where cues of dates begin and end: 11.3入院 is no sum."""
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
            days = _days(f"2000年{match['month']}月{match['day'] or '1'}日", today)
            month = days[0].first.month if days and days[0].day else 0
            if not month:  # 2月30日: no such day, which is to be told
                numbers = [
                    number(match["month"].translate(SPOKEN) if match["month"].isdigit() else match["month"]),
                    number(match["day"] or "1"),
                ]
                if None not in numbers:
                    put(*match.span(), f"{year:04}-{int(numbers[0] or 0):02}-{int(numbers[1] or 0):02}")
                continue
            value = f"{year:04}-{month:02}" + (f"-{days[0].first.day:02}" if match["day"] else "")
            put(*match.span(), value, "" if match["day"] else "month")
    for match in _NAMED.finditer(text):
        month_day = next(day for word, day in _NAMED_DAYS.items() if match["name"].startswith(word))
        days = _days(f"{match['year']}{month_day}", today)
        if days and days[0].day:
            put(*match.span(), days[0].first.isoformat())
    for match in _DOTTED.finditer(text):
        if match.end() in beside[0] or match.start() in beside[1]:
            days = _days(f"{match['month']}月{match['day']}日", today)
            if days and days[0].day:
                put(*match.span(), days[0].first.isoformat())
    for match in _NO_SIGN.finditer(text):
        days = _days(f"{match['year'] or ''}{match['month']}月{match['day']}日", today)
        if days and days[0].day:
            put(*match.span(), days[0].first.isoformat())
    for match in _PARTIAL.finditer(text):  # 11月31号: no such day, either
        if match["month"] and not _days(match.group(), today):
            parts = number(match["month"]), number(match["day"])
            put(*match.span(), f"{today.year}-{int(parts[0] or 0):02}-{int(parts[1] or 0):02}")
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
            days = _days(f"{known_year}年{partial['month'] or int(known_month)}月{partial['day']}日", today)
            if days:
                value, partial = days[0].first.isoformat(), None
        if _LUNAR.search(text[max(0, start - 12) : start]) or _LUNAR.search(words):
            state = "lunar"
        if state in ("", "month"):
            before = (end, value)
        yield Candidate("date", start, end, value, state or ("yearless" if partial else ""))
