"""The sample hall, the campus sample and the sentences for understanding: well formed, whole, and without doubles."""

import json
import re
from datetime import date
from importlib import resources
from pathlib import Path

import pytest
from sample_items import ITEMS

from govlm.hall.catalogue.records import Item, from_dict, texts, to_dict
from govlm.numbers import credit_code

ASSETS = Path(str(resources.files("govlm"))) / "assets"
TYPES = {"行政许可": "01", "行政给付": "05", "行政确认": "07", "公共服务": "20"}
LEVELS = {"国家级": "1", "省级": "2", "市级": "3", "县级": "4", "镇级": "5", "村级": "6"}
ACTS = {"ask", "apply", "provide", "correct", "confirm", "deny", "cancel"}
ACTS |= {"skip", "repeat", "back", "progress", "handoff", "smalltalk"}
NUMERALS = {char: i for i, char in enumerate("零一二三四五六七八九")}


def rows(path):
    lines = (ASSETS / path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def load(path):
    return [from_dict(Item, row, f"{path}:{number}: ") for number, row in enumerate(rows(path), 1)]


SAMPLE = load("sample-hall/items.jsonl")
CAMPUS = load("campus-hall/items.jsonl")
named = pytest.mark.parametrize("item", SAMPLE + CAMPUS, ids=lambda item: item.name)


def test_items_and_business_types_are_the_promised_ones():
    found = {}
    for item in SAMPLE:
        found.setdefault(item.business, []).append(item.name)
    assert found == ITEMS
    assert len(CAMPUS) == 6


@named
def test_record_survives_both_ways(item):
    assert from_dict(Item, to_dict(item)) == item


def test_files_hold_nothing_that_the_record_drops():
    for path, items in (("sample-hall/items.jsonl", SAMPLE), ("campus-hall/items.jsonl", CAMPUS)):
        assert rows(path) == [to_dict(item) for item in items]


@named
def test_item_has_what_an_answer_shows(item):
    assert item.authority and item.kind and item.audiences and item.themes and item.aliases and item.result
    assert item.conditions and item.materials and 4 <= len(item.steps) <= 6 and 2 <= len(item.notes) <= 5
    assert all(step.name and step.text for step in item.steps)
    assert all(material.name and material.required is not None for material in item.materials)
    assert any(material.required for material in item.materials)
    assert all(material.note for material in item.materials if not material.required)  # when it is needed
    assert item.places and all(place.name and place.address and place.hours for place in item.places)
    assert item.consult_phones and item.complaint_phones and item.basis
    assert item.online is not None and item.visits is not None and item.mail is not None
    assert item.url or item.booking or not item.online
    assert item.extra["sample"] is True and item.region == ""


def test_some_items_lack_a_field():
    """So that an answer's 原文未提及 can be seen."""
    for name in ("statutory_limit", "promised_limit", "fee", "booking", "base_code"):
        filled = [bool(getattr(item, name)) for item in SAMPLE]
        assert any(filled) and not all(filled), name


def test_codes_agree_with_each_other():
    coded = [item for item in SAMPLE if item.base_code]
    assert len(coded) > 30
    for item in coded:
        assert len(item.base_code) == 12 and item.base_code.isdigit()
        assert item.base_code[2:4] == TYPES[item.kind], item.name
        assert credit_code(item.authority_code), item.name
        assert item.code == item.authority_code + LEVELS[item.level] + item.base_code
    owners = {(item.authority, item.authority_code) for item in coded}
    assert len({name for name, _ in owners}) == len({code for _, code in owners}) == len(owners)
    assert len({item.base_code for item in coded}) == len(coded)
    for items in (SAMPLE, CAMPUS):
        assert len({item.code for item in items}) == len(items)
    assert all(re.fullmatch(r"[a-z]{2}-\d{3}", item.code) and not item.base_code for item in CAMPUS)


def test_basis_names_a_law_and_its_year():
    for item in SAMPLE:
        for basis in item.basis:
            assert re.search(r"《.+》", basis), basis
            assert re.search(r"(19|20)\d\d", basis), basis


def test_local_figures_say_that_they_are_local():
    """A figure in yuan is the state's, by a rule that `basis` names, or it is said to be 示例市's."""
    national = {
        "居民身份证补领",
        "居民身份证换领",
        "二手房转移登记",
        "普通护照申领",
        "往来港澳通行证签注",
        "机动车驾驶证期满换证",
        "创业担保贷款申请",
    }
    for item in SAMPLE:
        facts = [fact for path, fact in texts(item) if not path.startswith(("basis", "aliases"))]
        local = any("示例市" in fact and "元" in fact for fact in facts)
        for fact in facts:
            if re.search(r"\d元", fact):
                assert item.name in national or local, (item.name, fact)


def test_phones_cannot_ring_at_a_stranger_s():
    for item in SAMPLE + CAMPUS:
        for phone in (*item.consult_phones, *item.complaint_phones, *(place.phone for place in item.places if place.phone)):
            assert re.fullmatch(r"0000-\d{5}|1(2[0-9]{3}|10)", phone), (item.name, phone)


def test_wordings_are_many_and_each_stands_once():
    for items in (SAMPLE, CAMPUS):
        seen = {}
        for item in items:
            assert 20 <= len(item.wordings) <= 30, item.name
            lengths = [len(wording) for wording in item.wordings]
            assert min(lengths) <= 10 and max(lengths) >= 18, item.name
            for wording in item.wordings:
                assert wording == wording.strip() and wording
                assert wording not in seen, (wording, item.name, seen.get(wording))
                seen[wording] = item.name


def test_an_alias_names_one_item():
    for items in (SAMPLE, CAMPUS):
        names = [name for item in items for name in (item.name, *item.aliases)]
        assert len(set(names)) == len(names)


def test_acts():
    found = rows("understanding/acts.jsonl")
    assert all(set(row) == {"text", "act"} and row["text"].strip() == row["text"] != "" for row in found)
    counts = {act: sum(row["act"] == act for row in found) for act in ACTS}
    assert sum(counts.values()) == len(found)
    assert all(60 <= count <= 100 for count in counts.values()), counts
    assert len({row["text"] for row in found}) == len(found)
    by_text = {row["text"]: row["act"] for row in found}
    borders = {
        "不是": "deny",
        "不对，是1985年": "correct",
        "算了": "cancel",
        "跳过": "skip",
        "材料呢": "ask",
        "等一下，我问个事": "ask",
        "先不提交": "deny",
    }
    assert {text: by_text.get(text) for text in borders} == borders


def test_requests_ask_for_items_of_the_sample_hall_in_new_words():
    found = rows("understanding/requests.jsonl")
    counts = {item.name: sum(row["item"] == item.name for row in found) for item in SAMPLE}
    assert sum(counts.values()) == len(found) and min(counts.values()) >= 10
    known = {text for item in SAMPLE for text in (item.name, *item.aliases, *item.wordings)}
    assert len({row["text"] for row in found} - known) == len(found)


def test_out_of_scope_is_apart_from_what_the_halls_do():
    found = [row["text"] for row in rows("understanding/out_of_scope.jsonl")]
    assert len(found) >= 400 and len(set(found)) == len(found)
    asked = {wording for item in SAMPLE + CAMPUS for wording in item.wordings}
    known = asked | {row["text"] for name in ("acts", "requests") for row in rows(f"understanding/{name}.jsonl")}
    assert not set(found) & known
    near = ("身份证", "公积金", "护照", "医保", "退休", "结婚", "低保", "居住证", "社保")
    assert sum(any(word in text for word in near) for text in found) >= 20


# ------------------------------------------------------------------------------------------------------------------ policies


def number(chinese):
    """一 to 九十九."""
    tens, ten, units = chinese.rpartition("十")
    return (NUMERALS.get(tens, 1) * 10 if ten else 0) + (NUMERALS[units] if units else 0)


def policies():
    return sorted((ASSETS / "sample-hall" / "policies").glob("*.md"))


def head(text, name):
    found = re.search(rf"^{name}：(.+)$", text, re.M)
    assert found, name
    return found.group(1)


def day(text):
    return date(*map(int, re.fullmatch(r"(\d+)年(\d+)月(\d+)日", text).groups()))


@pytest.mark.parametrize("path", policies(), ids=lambda path: path.stem)
def test_policy_has_a_head_and_its_articles_in_order(path):
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# 示例[省市].+\n\n", text)
    assert re.fullmatch(r"示(省府|府|公积金)规〔20\d\d〕\d+号", head(text, "文号"))
    assert head(text, "发文机关").startswith("示例")
    issued, start, end = day(head(text, "发布日期")), day(head(text, "施行日期")), day(head(text, "有效期至"))
    assert issued < start < end
    articles = [number(found) for found in re.findall(r"^第([一二三四五六七八九十]+)条 \S", text, re.M)]
    assert articles == list(range(1, len(articles) + 1)) and len(articles) >= 8
    chapters = [number(found) for found in re.findall(r"^## 第([一二三四五六七八九十]+)章 \S", text, re.M)]
    assert chapters == list(range(1, len(chapters) + 1))
    written = f"{start.year}年{start.month}月{start.day}日起施行"
    assert written in text  # the last article and the head say the same


def test_policies_show_what_they_are_there_for():
    found = {path.stem: path.read_text(encoding="utf-8") for path in policies()}
    assert 5 <= len(found) <= 8
    assert len({head(text, "文号") for text in found.values()}) == len(found)
    expired = [name for name, text in found.items() if day(head(text, "有效期至")) < date(2026, 1, 1)]
    assert expired == ["示例市高龄津贴发放办法-2020年"]
    city, province = found["示例市最低生活保障实施细则"], found["示例省最低生活保障审核确认办法"]
    assert "每人每月860元" in city and "每人每月780元" in province
    assert "全程不超过20个工作日" in city and "全程不超过30个工作日" in province


def test_items_agree_with_the_policies_of_their_city():
    by_name = {item.name: " ".join(fact for _, fact in texts(item)) for item in SAMPLE}
    found = {path.stem: path.read_text(encoding="utf-8") for path in policies()}
    for name, policy, figures in (
        ("最低生活保障申请", "示例市最低生活保障实施细则", ("每人每月860元", "20个工作日")),
        ("失业保险金申领", "示例市失业保险办法", ("每月1800元", "5个工作日")),
        ("租房提取住房公积金", "示例市住房公积金提取管理规定", ("1500元", "1个工作日")),
        ("高龄津贴申领", "示例市高龄津贴发放办法", ("每月100元", "每月200元", "每月500元", "15个工作日")),
        ("居住证申领", "示例市居住证公共服务与积分管理办法", ("7个工作日",)),
    ):
        for figure in figures:
            assert figure in by_name[name] and figure in found[policy], (name, figure)
