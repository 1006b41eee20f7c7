"""Codes of service items: 基本编码 (what the service is) and 实施编码 (who carries it out), with their checks.

基本编码: 12 characters. 1-2 the province of GB/T 2260 (00 = the state's list), 3-4 the type, 5-9 the main item, 10-12 the sub-item; the
last is Y in the code of a main item that has sub-items.
实施编码: 31 or 33 characters. 18 the unified social credit code of the authority (GB 32100-2015), 1 the level at which it acts, 12 the
基本编码, and where the same service is offered in several forms 2 digits for the form (业务办理项).
A hall may number its items in its own way (a campus hall does): such a code is no problem, it only tells nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from govlm.numbers import credit_code

__all__ = ["KINDS", "LEVELS", "Parts", "check", "check_base", "split"]

KINDS = {
    "01": "行政许可", "02": "行政处罚", "03": "行政强制", "04": "行政征收", "05": "行政给付", "06": "行政检查", "07": "行政确认",
    "08": "行政奖励", "09": "行政裁决", "20": "其他行政权力", "21": "公共服务",
}  # fmt: skip
_FIXED = frozenset(f"0{digit}" for digit in range(1, 10))  # provinces number the types after 行政裁决 in different ways
LEVELS = {"1": "国家级", "2": "省级", "3": "市级", "4": "县级", "5": "镇级", "6": "村级"}

_BASE = re.compile(r"[0-9]{4}[0-9A-Z]{8}")
_PROVINCES = frozenset(
    (0, *range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 67), 71, 81, 82)
)  # 66: the corps of Xinjiang (新疆生产建设兵团)


@dataclass(frozen=True)
class Parts:
    """What a 实施编码 says. kind and level: "" where the digit is not in the table."""

    authority: str  # 18 characters; `govlm.numbers.credit_code` says whether they check
    level: str
    base: str
    form: str  # 2 characters or none
    kind: str


def split(code: str) -> Parts | None:
    """The parts of a 实施编码; None where the code does not have its shape (31 or 33 capital letters and digits)."""
    if len(code) not in (31, 33) or not (code.isascii() and code.isalnum()) or code != code.upper():
        return None
    base = code[19:31]
    return Parts(code[:18], LEVELS.get(code[18], ""), base, code[31:], KINDS.get(base[2:4], ""))


def check_base(code: str, kind: str = "") -> list[str]:
    """What is wrong with a 基本编码, a line each; none for "". kind: the item's 事项类型, compared where it is given."""
    if not code:
        return []
    if not _BASE.fullmatch(code):
        return [f"基本编码应为12位数字(末尾可有字母)，现为{code!r}"]
    problems = []
    if int(code[:2]) not in _PROVINCES:
        problems.append(f"基本编码前两位{code[:2]}不是省级行政区划代码")
    told = KINDS.get(code[2:4], "")
    if kind and code[2:4] in _FIXED and told != kind:
        problems.append(f"基本编码第3-4位{code[2:4]}表示{told}，事项类型却是{kind}")
    return problems


def check(code: str, base_code: str = "", kind: str = "", level: str = "") -> list[str]:
    """What is wrong with a 实施编码, a line each. base_code, kind, level: the item's own, compared where they are given.

    A code of any other length is the hall's own and never wrong; "" neither.
    """
    if len(code) not in (31, 33):
        return check_base(base_code, kind)
    parts = split(code)
    if parts is None:
        return ["实施编码只能有大写字母和数字", *check_base(base_code, kind)]
    problems = []
    if not credit_code(parts.authority):
        problems.append(f"实施编码前18位{parts.authority}不是有效的统一社会信用代码(校验位不符)")
    if not parts.level:
        problems.append(f"实施编码第19位{code[18]}不是行使层级(1至6)")
    elif level and level != parts.level:
        problems.append(f"实施编码第19位{code[18]}表示{parts.level}，行使层级却是{level}")
    if base_code and base_code != parts.base:
        problems.append(f"实施编码中的基本编码{parts.base}与基本编码{base_code}不一致")
    if parts.form and not parts.form.isdigit():
        problems.append(f"实施编码最后两位{parts.form}不是数字")
    return problems + check_base(parts.base, kind)
