"""Items and documents for the tests of answers, and the real items of a portal."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from govlm.hall.catalogue.records import Document, Item, Material, Passage, Place, Step

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "gov"
TODAY = date(2026, 11, 24)

SUBSIDY = Item(
    code="A-1", name="托老补贴申领", authority="某区民政局", aliases=("托老补贴",), audiences=("自然人",),
    conditions=("年满75周岁", "在本区居住满1年"),
    materials=(
        Material("居民身份证", 1, "原件", "纸质", True, "当场退还"), Material("居民户口簿", 1, "复印件", "纸质", True),
        Material("残疾人证", None, "复印件", "", False, "有残疾的才交"),
    ),
    steps=(Step("申请", "到窗口交材料"), Step("审核"), Step("发放", "打到银行卡")), notes=("可以委托家人代办",),
    statutory_limit="30个工作日", promised_limit="12个工作日", fee="不收费", result="补贴", basis=("《托老办法》第七条",),
    places=(Place("民政窗口", "长安路8号", "9:00—17:00", "0000-5550123"),), consult_phones=("0000-5550100",),
    complaint_phones=("0000-5550199",), online=True, url="https://hall.example/a1", visits=1, mail=False,
    valid_from=date(2024, 3, 5),
)  # fmt: skip
CARD = Item(
    code="B-2", name="游泳证办理", fee="工本费每证25元", promised_limit="3个工作日", online=False, materials=(Material("体检表"),),
)  # fmt: skip
BARE = Item(code="C-3", name="古树认养登记")


def document(code: str, title: str, paragraphs: list[str], **values: Any) -> Document:
    text, passages = "", []
    for i, paragraph in enumerate(paragraphs, 1):
        passages.append(Passage(f"第{i}条", len(text), len(text) + len(paragraph)))
        text += paragraph + "\n"
    return Document(code, title, text, passages=tuple(passages), **values)


PROVINCE = document(
    "P-1", "全省高龄津贴办法",
    ["为了尊老，制定本办法。", "年满80周岁的老年人，每人每月发放高龄津贴100元。", "高龄津贴由县级民政部门按月发放到银行卡。"],
    region="440000", level="省级", valid_from=date(2020, 1, 1),
)  # fmt: skip
DISTRICT = document(
    "D-1", "某区高龄津贴细则", ["本细则适用于本区户籍的老年人。", "年满80周岁的老年人，每人每月发放高龄津贴180元，2025年1月1日起执行。"],
    region="440106", level="县级", valid_from=date(2025, 1, 1),
)  # fmt: skip


class Records:
    """A catalogue in memory."""

    def __init__(self, *records: Item | Document) -> None:
        self._items = {entry.code: entry for entry in records if isinstance(entry, Item)}
        self._documents = {entry.code: entry for entry in records if isinstance(entry, Document)}

    def item(self, code: str, /) -> Item | None:
        return self._items.get(code)

    def document(self, code: str, /) -> Document:
        return self._documents[code]

    def with_changes(self, code: str, **values: Any) -> Records:
        changed = replace(self._items.get(code) or self._documents[code], **values)
        return Records(*{**self._items, **self._documents, code: changed}.values())


def real_items() -> list[Item]:
    """The 2,262 items of a provincial portal; a column without a field here is left out. Skips without the file."""
    path = SHARED / "guangdong_service_items" / "items.jsonl"
    if not path.is_file():
        pytest.skip("../shared/data/gov/guangdong_service_items is not here")
    return [_item(json.loads(line)) for line in path.read_text("utf-8").splitlines() if line.strip()]


def _item(row: dict[str, Any]) -> Item:
    said = {name: "" if value in (None, "无") else value for name, value in row.items()}
    materials = said["material_intro"] or []
    names = [said[name] for name in ("matter_short", "matter_daily", "CATANAME") if said[name]]
    return Item(
        code=said["TASK_CODE"], name=said["TASK_NAME"], base_code=said["CATAID"], kind=said["TASK_TYPE_TEXT"], authority=said["DEPT_NAME"],
        region=said["AREACODE"], level=said["matter_level"], audiences=tuple(said["service_object_name"] or ()),
        themes=tuple(said["theme_category"] or ()), aliases=tuple(names), partners=(said["co_department"],) if said["co_department"] else (),
        conditions=(said["accept_standard"],) if said["accept_standard"] else (), materials=tuple(Material(name) for name in materials),
        statutory_limit=said["handle_time"], promised_limit=said["handle_time_limit"],
        places=(Place(address=said["handle_location"]),) if said["handle_location"] else (),
        consult_phones=(said["consult_phone"],) if said["consult_phone"] else (),
        complaint_phones=(said["complain_phone"],) if said["complain_phone"] else (), online=said["ONLINECHECK"] == "1",
        url=said["URL"], booking=said["online_book_addr"], visits=int(said["visit_number"]), mail=said["courier_service"] == "是",
    )  # fmt: skip
