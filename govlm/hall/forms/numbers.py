"""Sums and counts as people say them: 两千八, 3万5, 叁仟伍佰元整, 五口人, 房租两千八 (a number without a unit)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation

from govlm.hall.forms.marks import Candidate
from govlm.hall.forms.schema import Form
from govlm.hall.values import find_amounts

__all__ = ["number", "numbers"]

_DIGIT = {char: i for i, char in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0, "俩": 2, "仨": 3, "双": 2, "单": 1}
_SCALE = {"十": 10, "百": 100, "千": 1000, "万": 10_000, "亿": 10**8}
_CHINESE = "零〇一二三四五六七八九十百千万亿两"
_NUMBER = re.compile(
    rf"(?<![0-9A-Za-z.])[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,4}}(?:\.[0-9]{{1,4}})?|(?<![0-9A-Za-z.])[0-9]{{1,9}}(?:\.[0-9]{{1,4}})?(?:[百千万][0-9]?)?(?![0-9A-Za-z])"
    rf"|[{_CHINESE}]{{1,3}}[来多几][十百千万]|[{_CHINESE}]{{1,16}}|双(?=胞胎)|龙凤(?=胎)|单(?=胎)|[俩仨](?![\u4e00-\u9fff]*[儿子]们)"
)
_SEVERAL = re.compile(
    "[一二三四五六七八九][一二三四五六七八九][十百千万]|[几来多][十百千万]"
    "|(?:^|[十百千万])(?:一两|两三|三五|一二|二三|三四|四五|五六|六七|七八|八九)$"  # 五六年, 十七八个
)
_RATE = re.compile(r".*[二两三四五六七八九0-9百千万]一")
_BOUND = re.compile("(?:不到|不足|不超过|超过|不止|至少|最多|起码|顶多)(?:有|是)?$")
_BOUND_AFTER = re.compile("(?:元|块钱?|[年人个])?(?:不到|以上|以下|以内|往上)")
_ABOUT = re.compile(r"(?:大概|大约|约|差不多|将近|接近|估计)[有是在每个月年]{0,3}$")
_ABOUT_AFTER = re.compile(r"(?:元|块钱?|[年人天])?(?:左右|上下|差不多)")
_MONEY_UNIT = re.compile(r"\s?(?:元|块钱?|圆)(?:整)?")
_ITSELF = re.compile("个?(?:$|[^\u4e00-\u9fff]|[了的吧啊呢])")
_OTHER_UNIT = re.compile(r"\s?(?:[年月日号岁点时分秒天周%％楼室栋幢单元度层级折]|[个口人位名户胎孩](?!元)|平|公里|星期|小时)")


def number(text: str) -> Decimal | None:
    """A number in digits or Chinese as it is said: 2800, 1,500, 两千八 (2800), 3万5 (35000), 二十三. None for what is none."""
    text = text.strip().replace(",", "")
    if text == "龙凤":  # 龙凤胎
        return Decimal(2)
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
    if _BOUND.search(text[max(0, start - 6) : start]) or _BOUND_AFTER.match(text, end):
        return "vague"
    about = _ABOUT.search(text[max(0, start - 6) : start]) or _ABOUT_AFTER.match(text, end)
    return "about" if about else ""


def numbers(form: Form, text: str, taken: bytearray, behind: Mapping[int, tuple[str, ...]]) -> Iterator[Candidate]:
    """Sums and counts. A number without a unit is both: only what stands beside it can tell.

    behind: where cues of counts end, and the fields whose they are: 雇了俩.
    """
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
        if any(taken[start:end]) or (
            text[start - 1 : start] == "第" and unit_after.match(text, end)
        ):  # 第一胎 counts no children
            continue
        if _RATE.fullmatch(match.group()) and re.match("个?[月年天次人]", text[end : end + 2]):
            end -= 1  # 三千五一个月, not 三十一年
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
        elif start in behind and _ITSELF.match(text, end):
            yield Candidate("count", start, end, said, state, behind[start])
        elif money:
            yield Candidate("amount", start, money.end(), said, state)
        elif (
            not _OTHER_UNIT.match(text, tail)
            and (not start or text[start - 1] not in "第周星")
            and (len(match.group()) > 1 or match.group().isdigit())
        ):
            yield Candidate("number", start, tail, said, state)
