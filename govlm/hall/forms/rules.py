"""What must hold between fields: the birth date and the identity number, an end and its beginning, parts and their sum.

    birth_matches_id  [birth, id]      sex_matches_id  [sex, id]      age  [birth or id, sex]: minimum, maximum, whole years, or by sex
    retirement_age  [birth or id, sex, post, way]: China's statutory age is reached, see `retirement_age`. posts: {post: the age before 2025 of
            women who have it}, for a post that is not there (or not said yet) the least of them; early: the ways that may come three
            years sooner, not before the age before 2025, as may one that is not said yet
    order  [start, end]: end is not before start                      within_months  [start, end]: end at most `months` after start
    at_most  [a, b]: a <= b            sum  [total, part, part, …]     different  [a, b]
    region  [address or region]: lies in one of `within` (names), else in the region of the item; nothing is said of an address
            that names no province and no city

A rule speaks only where all its fields hold values (retirement_age: the first two; all fewer years that the others allow). Its question is the form's own (`ask`); nothing is corrected by itself.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from govlm.hall.addresses import parse_address
from govlm.hall.catalogue.records import Item
from govlm.hall.forms.schema import Form, Rule

__all__ = ["Problem", "conflicts", "retirement_age"]

_OPTIONAL = {"retirement_age": 2}  # kind -> how many of its fields must hold values, where not all
_BEFORE_2025 = {60: (1965, 4, 36), 55: (1970, 4, 36), 50: (1975, 2, 60)}  # age: (born from, months for one, most months)
_EARLY = 36  # months that somebody may retire sooner, of their own will


class Problem(NamedTuple):
    """What is wrong with an answer. message: one Chinese sentence, says what to give; value: as written, personal; -1 = no place.

    kind: the kind of the field whose check failed (identity_card, date, …), "vague" (said, but not exactly), "ambiguous" (could
    belong to several fields), "twice" (two values for one field), or the kind of a rule.
    """

    fields: tuple[str, ...]
    kind: str
    message: str
    value: str = ""
    start: int = -1
    end: int = -1


def conflicts(form: Form, values: Mapping[str, str], item: Item | None = None, today: date | None = None) -> list[Problem]:
    """The rules that do not hold, in the form's order. item: whose region a region rule without `within` means.

    values: normalised. today: for ages (default: the day it is).
    """
    today = today or date.today()
    found = []
    for rule in form.rules:
        given = [values.get(name, "") for name in rule.fields]
        if all(given[: _OPTIONAL.get(rule.kind)]) and not _holds(rule, given, today, item):
            fields = tuple(name for name, value in zip(rule.fields, given, strict=True) if value)
            found.append(Problem(fields, rule.kind, rule.ask))
    return found


def retirement_age(birth: date, before: int) -> tuple[int, int]:
    """(years, months) of the statutory age of somebody whose age it was before 2025: 60 of men, 55 or 50 of women by their post.

    From 2025 on it is put off by one month for every four months that somebody was born later, to 63 and 58, of women of 50 for every
    two, to 55. Source: 全国人民代表大会常务委员会关于实施渐进式延迟法定退休年龄的决定 (13 September 2024), and the tables of 国务院关于渐进式
    延迟法定退休年龄的办法, both in force from 1 January 2025. KeyError: another age.
    """
    year, pace, most = _BEFORE_2025[before]
    later = (birth.year - year) * 12 + birth.month - 1
    delay = min(later // pace + 1, most) if later >= 0 else 0
    return before + delay // 12, delay % 12


def _holds(rule: Rule, given: list[str], today: date, item: Item | None) -> bool:
    """True also where a value is of another form than expected: that is for `check` to say."""
    try:
        if rule.kind == "region":
            return _in_region(rule, given[0], item.region if item else "")
        return _HOLDS[rule.kind](rule, given, today)
    except (ValueError, InvalidOperation, IndexError):
        return True


def _birth(value: str) -> date:
    return date(int(value[6:10]), int(value[10:12]), int(value[12:14])) if len(value) == 18 else date.fromisoformat(value)


def _sex(identity: str) -> str:
    return "男" if int(identity[16]) % 2 else "女"


def _day(value: str, last: bool = False) -> date:
    """A date; of a month its first day, or its last one."""
    if len(value) != 7:
        return date.fromisoformat(value)
    year, month = int(value[:4]), int(value[5:])
    return date(year, month, calendar.monthrange(year, month)[1] if last else 1)


def _age(rule: Rule, given: list[str], today: date) -> bool:
    birth = _birth(given[0])
    years = today.year - birth.year - ((today.month, today.day) < (birth.month, birth.day))
    sex = given[1] if len(given) > 1 else _sex(given[0]) if len(given[0]) == 18 else ""
    for key, holds in (("minimum", int.__ge__), ("maximum", int.__le__)):
        limit = rule.options.get(key)
        limit = limit.get(sex) if isinstance(limit, Mapping) else limit
        if limit is not None and not holds(years, int(limit)):
            return False
    return True


def _retired(rule: Rule, given: list[str], today: date) -> bool:
    birth, (sex, post, way) = _birth(given[0]), given[1:]
    if sex not in ("男", "女"):
        return True
    posts = rule.options["posts"]
    before = 60 if sex == "男" else int(posts.get(post, min(posts.values())))
    years, months = retirement_age(birth, before)
    months += years * 12
    if not way or way in rule.options["early"]:
        months = max(months - _EARLY, before * 12)
    return today >= _after(birth, months)


def _within_months(rule: Rule, given: list[str], today: date) -> bool:
    start, end = _day(given[0], last=True), _day(given[1])
    return end <= _after(start, int(rule.options["months"]))


def _after(day: date, months: int) -> date:
    """The same day of a later month, or its last one."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _sum(rule: Rule, given: list[str], today: date) -> bool:
    total, *parts = map(Decimal, given)
    return total == sum(parts)


def _in_region(rule: Rule, value: str, region: str) -> bool:
    within = rule.options.get("within", ())
    if any(place in value for place in within):
        return True
    place = parse_address(value)
    if within or not region:
        return not within or not (place.province or place.city)
    shared = min(len(place.code), len(region))
    return place.code[:shared] == region[:shared]


_HOLDS = {
    "birth_matches_id": lambda rule, given, today: date.fromisoformat(given[0]) == _birth(given[1]),
    "sex_matches_id": lambda rule, given, today: given[0] not in ("男", "女") or given[0] == _sex(given[1]),
    "age": _age,
    "retirement_age": _retired,
    "order": lambda rule, given, today: _day(given[0]) <= _day(given[1], last=True),
    "within_months": _within_months,
    "at_most": lambda rule, given, today: Decimal(given[0]) <= Decimal(given[1]),
    "sum": _sum,
    "different": lambda rule, given, today: given[0] != given[1],
}
