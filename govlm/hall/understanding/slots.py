"""What a sentence holds: numbers with check digits, dates, sums, addresses, persons and organisations, with their places.

Numbers, dates, sums and addresses are decided by their recognisers (privacy, values, addresses). Persons and organisations are
decided by a tagger, which is told what the recognisers found and where rules see a name: a family name and one to three characters
after words that lead to one; an ending that organisations have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from govlm.hall.addresses import Divisions, find_addresses
from govlm.hall.privacy import find
from govlm.hall.understanding.name_parts import DOUBLE_FAMILY_NAMES, FAMILY_NAMES, KIN, ORGANISATION_ENDINGS
from govlm.hall.understanding.tagger import Tagger
from govlm.hall.values import find_amounts, find_dates, normal

__all__ = ["Slot", "find_slots", "names_alone"]


class Slot(NamedTuple):
    """text[start:end], as it was written; value: the one way to write it; valid: whether its check holds, None where it has none."""

    kind: str
    text: str
    start: int
    end: int
    value: str
    valid: bool | None


_NAME = re.compile(
    rf"(?:{'|'.join(DOUBLE_FAMILY_NAMES)})[\u4e00-\u9fa5]{{1,2}}|[{FAMILY_NAMES}][\u4e00-\u9fa5]{{1,2}}"
    r"|[\u4e00-\u9fa5]{2,8}(?:[·•][\u4e00-\u9fa5]{1,8}){1,3}"
)
_LEADS = re.compile(
    rf"(?:我叫|[俺咱他她]叫|名叫|叫做|名字(?:就?[叫是写填])?|姓名(?:[叫是写填])?|本人(?:叫|是)?|我是|(?:我|俺|咱|他|她|的)(?:{KIN})(?:叫|是)?|"
    r"(?:户主|申请人|联系人|经办人|法人|法定代表人|负责人|收件人|代办人|监护人|配偶|持卡人|开户人|户名|经营者|权利人|产权人|被保险人|受益人)"
    r"(?:姓名)?(?:[叫是写填])?)[\s:：,，]{0,2}"
)
# What may stand behind a name: the end, a sign, or a word that no given name ends with.
_AFTER = re.compile(
    r"$|[^\u4e00-\u9fa5]|[的和与跟及是在今去前昨于想要需申办来也都就已有没女男先同志吧呢吗啊哈呀住户身电手联生出年岁一二三四五六七八九十两读上下退过死病"
    r"领补换到这那被让给叫因为用可能不丢名了还开从离结]"
)
_NO_NAME = re.compile(r"^(?:王者|高中|高考|高龄|安全|时间|时候|方便|方法|包括|包办|单位|单身|单独|温馨|车主|都是|向你|成年|成人|全部|全家|明天|明年|连续|文件|"
                      r"计划|应该|关于|关系|石油|任何|金额|花钱|路上|位置|房子|解决|原来|官方|项目|商量|商店|管理|左右|游客|来自|来办|和我|和他|保险|习惯|台湾|"
                      r"党员|木匠|米粉|强制|简单|古城|计算|平时|牛奶|白天|江苏|江西|湖|海|万一|于是|常住|许多|宁夏|安徽|甘肃|康复|华侨|查|解|都|还|来|全|应|连|和|向)")  # fmt: skip
_GAP = r"(?:(?![和与及或跟在到去的])[\u4e00-\u9fa5]){0,6}?"  # 四川大学华西医院 is one
_ORGANISATION = re.compile(
    rf"[\u4e00-\u9fa5A-Za-z0-9（）()·]{{2,24}}?(?:{ORGANISATION_ENDINGS})(?:{_GAP}(?:{ORGANISATION_ENDINGS}))*"
)
_BEFORE_ORGANISATION = re.compile(
    r"^.*(?:在|是|叫|去|到|给|从|向|由|跟|和|与|为|的|了|把|被|我们?|单位|名称|全称|公司名|抬头|填|户名|开户行|工作|上班|经营|开办|办|开|读|就读|住|找|问|于|用|本|这家?|那家?|一家|这个|那个|哪家|哪个|什么|家)"
)
_NO_ORGANISATION = re.compile(
    r"^(?:我们|这家|那家|一家|原|本|该|贵|新|老|小|大|外地|当地|附近|所在|用人|街道|社区|政府|公立|私立|三甲|定点|省|市|区|县)*$"
)


def find_slots(text: str, today: date | None = None, divisions: Divisions | None = None) -> list[Slot]:
    """From left to right, without overlaps. today: what 明天 and 下个月 are counted from (default: the day it is)."""
    today = today or date.today()
    found = recognised(text, today, divisions)
    taken = bytearray(len(text))
    for slot in found:
        taken[slot.start : slot.end] = b"\1" * (slot.end - slot.start)

    def add(kind: str, start: int, end: int) -> None:
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            found.append(Slot(kind, text[start:end], start, end, normal(kind, text[start:end], today), None))

    tagged = Tagger.bundled().tag(text, tagger_hints(text, found))
    for place in tagged:
        if place.kind == "address":
            _grow(found, taken, text, place.start, place.end, today)
    for kind, start, end in tagged:
        if kind != "address" or _NUMBERED.search(text, start, end):  # an address names a spot, as `find_addresses` wants it
            add(kind, start, end)
    for start, end in ruled_organisations(text):  # where the tagger sees nothing
        add("organisation", start, end)
    return sorted(found, key=lambda slot: slot.start)


def _grow(found: list[Slot], taken: bytearray, text: str, start: int, end: int, today: date) -> None:
    """An address that rules read in part is the whole that the tagger sees, where it holds nothing else."""
    inside = [slot for slot in found if slot.start < end and start < slot.end]
    if not inside or any(slot.kind != "address" or slot.start < start or slot.end > end for slot in inside):
        return
    for slot in inside:
        found.remove(slot)
    found.append(Slot("address", text[start:end], start, end, normal("address", text[start:end], today), None))
    taken[start:end] = b"\1" * (end - start)


_NUMBERED = re.compile(r"[路街道巷弄村镇苑园区厦楼城].*\d|\d+[号弄栋幢室]")


def recognised(text: str, today: date, divisions: Divisions | None = None) -> list[Slot]:
    """What rules decide: numbers, addresses, dates and sums, without overlaps."""
    found: list[Slot] = []
    taken = bytearray(len(text))

    def add(kind: str, start: int, end: int, value: str | None = None, valid: bool | None = None) -> None:
        if start >= end or any(taken[start:end]):
            return
        if value is None:
            try:
                value = normal(kind, text[start:end], today)
            except ValueError:
                return
        taken[start:end] = b"\1" * (end - start)
        found.append(Slot(kind, text[start:end], start, end, value, valid))

    for span in find(text, today):
        add(span.kind, span.start, span.end, valid=span.valid)
    for place in find_addresses(text, divisions):
        add("address", place.start, place.end)
    for when in find_dates(text, today):
        if when.day is not None:
            add("date", when.start, when.end, when.day.isoformat())
    for amount in find_amounts(text):
        add("amount", amount.start, amount.end, format(amount.yuan.normalize(), "f"))
    return found


def tagger_hints(text: str, found: list[Slot]) -> list[tuple[str, int, int]]:
    """What the tagger is told beside the text: what is recognised, and where rules see names."""
    return [
        *(("organisation", *span) for span in ruled_organisations(text)),
        *(("name", *span) for span in ruled_names(text)),
        *((slot.kind, slot.start, slot.end) for slot in found),
    ]


def ruled_names(text: str) -> Iterator[tuple[int, int]]:
    for lead in _LEADS.finditer(text):
        end = names_alone(text, lead.end())
        if end:
            yield lead.end(), end


def names_alone(text: str, start: int) -> int:
    """The end of the name that begins at `start`, the longest that something may stand behind; 0 = none there."""
    for end in range(min(start + 12, len(text)), start + 1, -1):
        name = _NAME.fullmatch(text, start, end)
        if name is not None and _AFTER.match(text, end) and not _NO_NAME.match(name.group()):
            return end
    return 0


def ruled_organisations(text: str) -> Iterator[tuple[int, int]]:
    for match in _ORGANISATION.finditer(text):
        lead = _BEFORE_ORGANISATION.match(match.group())
        start = match.start() + (lead.end() if lead else 0)
        name = text[start : match.end()]
        ending = re.search(rf"(?:{ORGANISATION_ENDINGS})$", name)
        if ending is not None and len(name[: ending.start()]) >= 2 and not _NO_ORGANISATION.match(name[: ending.start()]):
            yield start, match.end()
