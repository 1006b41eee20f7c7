"""What stands in a message, each with its place: a candidate for a value, a cue of a field; and the message in half-width digits.

Nothing here decides whose a value is; `candidates` gathers them, `fill` assigns them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from govlm.hall.forms.schema import Form

__all__ = ["SPOKEN", "Candidate", "Cue", "cues", "narrow"]


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


_KIND_CUES = {
    "identity_card": "居民身份证号码?|身份证号码?|身份证|证件号码?|证号",
    "mobile": "手机号码?|联系电话|联系方式|电话号码|手机|电话|号码",
    "bank_card": "银行卡号码?|银行卡|卡号|银行账[户号]|储蓄卡|账号|社保卡号?",
    "credit_code": "统一社会信用代码|信用代码|税号|纳税人识别号",
    "email": "电子邮箱|邮箱|电子邮件|email|E-?mail",
    "name": "姓名|名字|叫",
}
SPOKEN = str.maketrans("〇零○一二三四五六七八九幺两", "00012345678912")
_SPOKEN_RUN = re.compile("[〇零○一二三四五六七八九幺两]{7,}")
_CROSS = re.compile("(?<=[0-9]{17})[叉×]")  # how the last place of an identity number is said
_D = "[〇零○一二三四五六七八九幺两0-9]"
_DICTATED = re.compile(rf"(?<!{_D}){_D}{{2,8}}(?:[，,、 -]{{1,2}}{_D}{{2,8}}){{1,6}}[Xx]?(?!{_D})")
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
    text = _DICTATED.sub(_joined, text)
    text = _SPOKEN_RUN.sub(lambda run: run.group().translate(SPOKEN), text)
    return _CROSS.sub("X", text)


def _joined(run: re.Match[str]) -> str:
    """一三七，零零六五，四三二一: one number that is dictated in groups, where it has as many digits as one; else as it stands."""
    said = run.group()
    groups = re.sub("[，,、 -]", " ", said).translate(SPOKEN)
    digits = groups.replace(" ", "")
    phone = len(digits) == 11 and re.match("1[3-9]", digits)
    spoken = len(digits) in (16, 18, 19) and not re.search("[0-9]", said)
    return groups if phone or spoken else said


# ---------------------------------------------------------------------------------------------------------------------- cues


_BORN = re.compile(r"(?<=[日号月年0-9])\s?出?生(?=[的人于]|$|[^\u4e00-\u9fff])")  # 1965年6月20日生


def _said_cue(cue: str) -> str:
    """离职 is 离的职, too."""
    return f"{cue[0]}[了的过]?{cue[1]}" if re.fullmatch("[\u4e00-\u9fff][职院休婚证租学厂]", cue) else re.escape(cue)


@lru_cache(maxsize=4096)
def _own(cues: tuple[str, ...], date: bool) -> re.Pattern[str]:
    """Any of the cues, the longest first."""
    return re.compile("|".join(map(_said_cue if date else re.escape, sorted(set(cues), key=len, reverse=True))))


def cues(form: Form, text: str) -> dict[str, list[Cue]]:
    """The cues of each field, in order; one inside a longer one of another field does not count."""
    found: list[Cue] = []
    births = {rule.fields[0] for rule in form.rules if rule.kind == "birth_matches_id"}
    for field in form.fields.values():
        own = _own((*field.cues, field.label), field.kind == "date")
        found += [Cue(*match.span(), field.name, True) for match in own.finditer(text)]
        if field.name in births:
            found += [Cue(*match.span(), field.name, True) for match in _BORN.finditer(text)]
        if field.kind in _KIND_CUES:
            found += [Cue(*match.span(), field.name, False) for match in re.finditer(_KIND_CUES[field.kind], text)]
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
