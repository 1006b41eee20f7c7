"""The lines of a document that say whose it is, and nothing to the reader: title, 文号, who issued it, whom it is sent to, signature, date."""

from __future__ import annotations

import re
from collections.abc import Sequence

from govlm.hall.policy.source import Sentence

__all__ = ["formalities"]

_DIGIT = "0-9０-９〇○零一二三四五六七八九十"
_NUMBER = re.compile(
    r"[\u4e00-\u9fff]{0,20}\s*[〔\[［（(【﹝]\s*[0-9０-９]{4}\s*[〕\]］）)】﹞]\s*(?:第\s*)?[0-9０-９]{1,5}\s*号"
)
_DATE = re.compile(rf"[（(]?\s*[{_DIGIT}]{{4}}\s*年\s*[{_DIGIT}]{{1,3}}\s*月\s*[{_DIGIT}]{{1,3}}\s*日\s*(?:印发)?\s*[）)]?")
_TITLE = re.compile(
    r"[^。；：！？]{2,80}(?:法|条例|办法|规定|细则|通知|公告|通告|意见|方案|决定|规范|批复|函|措施|规则|章程|规划|指南|公示)(?:[（(].{1,12}[）)])?"
)
_BODY = "人民政府|政府|管委会|委员会|部门|机构|单位|办事处|办公厅|办公室|团体|组织|企业|公司|学校|高校|院校|医院|中心|厅|局|委|办|部|院|会"
_ORGAN = re.compile(rf"[\u4e00-\u9fff\s　]{{2,40}}?(?:{_BODY})")
# 各区人民政府，市政府各部门、各直属机构：  but not 各区民政局应当做好下列工作：
_SENT_TO = re.compile(rf"(?:[\u4e00-\u9fff（）()]{{0,24}}?(?:{_BODY})(?:[、，,；;]\s*|(?=[:：])))+[:：]")
_DOES = re.compile(r"应|须|要|可以|由|向|下列|如下|以下|负责")
# The lines above a text that say what the document's own fields say. When it is in force is no formality.
_LABELLED = re.compile(
    r"(?:文号|发文字号|发文机关|发布机关|发布机构|制定机关|发布日期|成文日期|印发日期|索引号|主题词|公开方式)\s*[:：].*"
)
_STOPS = ("。", "！", "？", "；", "!", "?", ";")


def formalities(text: str, title: str, units: Sequence[Sentence]) -> frozenset[int]:
    """The units that are such a line. title: the document's, where it is known.

    A 文号 and a date are known anywhere; titles and addressees before the first full sentence; organs there and after the last one. Each
    fills lines of its own: a date within a sentence is what the sentence says.
    """
    whole = [_alone(text, unit) for unit in units]
    full = [at for at, unit in enumerate(units) if unit.text.endswith(_STOPS)]
    first, last = (full[0], full[-1]) if full else (len(units), len(units))
    found = set()
    for at, (unit, alone) in enumerate(zip(units, whole, strict=True)):
        line = unit.text
        if not alone:
            continue
        head, tail = at < first, at > last
        if (
            _NUMBER.fullmatch(line)
            or _DATE.fullmatch(line)
            or (title and (line == title or (head and len(line) >= 4 and line in title)))
            or (head and (_SENT_TO.fullmatch(line) and not _DOES.search(line)))
            or (head and _LABELLED.fullmatch(line))
            or (head and full and _TITLE.fullmatch(line))
            or ((tail or (head and full)) and _ORGAN.fullmatch(line))
        ):
            found.add(at)
    return frozenset(found)


def _alone(text: str, unit: Sentence) -> bool:
    before = text[text.rfind("\n", 0, unit.start) + 1 : unit.start]
    end = text.find("\n", unit.end)
    return not before.strip() and not text[unit.end : end if end >= 0 else len(text)].strip()
