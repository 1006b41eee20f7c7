"""Evaluation: figures against definitions written out, case files that are wrong, the rules, and `govlm eval` on the sample hall."""

import importlib.util
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from govlm.cli import main
from govlm.hall import Hall
from govlm.hall.answers.rendering import Answer
from govlm.hall.catalogue.records import Item
from govlm.hall.evaluation import Cases, CasesError, Report, RuleEngine, evaluate, suites
from govlm.hall.evaluation.charts import confusion
from govlm.hall.evaluation.comparison import BarError, BaselineError, compare, judge, parse_bar, read_baseline
from govlm.hall.evaluation.page import page
from govlm.hall.evaluation.results import masked
from govlm.hall.evaluation.rules import fold
from govlm.hall.evaluation.statistics import difference, estimate, reliability
from govlm.hall.evaluation.text import junit, table
from govlm.hall.privacy import Span
from govlm.hall.understanding.slots import find_slots
from govlm.train.metrics import classification_report, span_report

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("bm25s", "cn2an", "opencc", "phonenumbers", "pypinyin", "alembic")),
    reason='pip install "govlm[hall]"',
)
CASES = Path(__file__).with_name("hall")
TODAY = date(2026, 11, 24)
RESAMPLES = 200
STEP = 7  # every seventh case: each file's kinds are all there, in a fraction of the time


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    with Hall.sample() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("cases")
    for path in CASES.glob("*.jsonl"):
        kept = path.read_text(encoding="utf-8").splitlines()[::STEP]
        (found / path.name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def report(hall: Hall, folder: Path) -> Report:
    return evaluate(hall, Cases.read(folder), today=TODAY, resamples=RESAMPLES)


# ---------------------------------------------------------------------------------------------------------------- statistics


def test_figures_by_hand() -> None:
    assert estimate("mean", [1, 0, 0, 1], 50).value == 0.5
    assert estimate("sum", [0, 2, 1], 50).value == 3
    assert estimate("ratio", [(1, 2), (3, 3), (0, 0)], 50).value == pytest.approx(4 / 5)
    assert estimate("accuracy", [("甲", "甲"), ("甲", "乙")], 50).value == 0.5
    counts = [(2, 1, 0), (1, 0, 3)]  # right 3, wrong 1, missed 3
    assert estimate("precision", counts, 50).value == pytest.approx(3 / 4)
    assert estimate("recall", counts, 50).value == pytest.approx(3 / 6)
    assert estimate("f1", counts, 50).value == pytest.approx(6 / 10)
    assert estimate("f2", counts, 50).value == pytest.approx(15 / (15 + 1 + 12))
    assert math.isnan(estimate("precision", [(0, 0, 2)], 50).value)
    rows = [(0.95, 1), (0.95, 0), (0.15, 0), (1.0, 1)]
    assert estimate("calibration_error", rows, 50).value == pytest.approx((abs(2.9 - 2) + 0.15) / 4)
    assert reliability(rows) == [(1, 0.15, 0.0), (3, pytest.approx(2.9 / 3), pytest.approx(2 / 3))]


def test_macro_f1_is_that_of_the_metrics() -> None:
    rng = np.random.default_rng(1)
    true, found = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    wanted = classification_report(true, found, list("abcde"))["macro_f1"]
    rows = [("abcde"[t], "abcde"[f]) for t, f in zip(true, found, strict=True)]
    assert estimate("macro_f1", rows, 50).value == pytest.approx(wanted)
    assert estimate("macro_f1", [("a", "a"), ("b", "")], 50).value == pytest.approx(0.5)  # no answer is no class of its own


def test_intervals_are_the_same_each_time_and_of_the_right_width() -> None:
    rows = [int(i % 4 > 0) for i in range(400)]
    found = estimate("mean", rows, 1000)
    assert found == estimate("mean", rows, 1000)
    spread = math.sqrt(0.75 * 0.25 / 400)
    assert found.low == pytest.approx(0.75 - 1.96 * spread, abs=0.01)
    assert found.high == pytest.approx(0.75 + 1.96 * spread, abs=0.01)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(2)
    worse = rng.integers(0, 2, 300)
    better = worse.copy()
    better[np.flatnonzero(worse == 0)[:12]] = 1  # never worse on a case: clear when paired, not when the two are apart
    found = difference("mean", better.tolist(), worse.tolist(), 1000)
    assert found.value == pytest.approx(12 / 300) and found.clear and found.low > 0
    apart = [estimate("mean", rows.tolist(), 1000) for rows in (better, worse)]
    assert apart[0].low < apart[1].high
    same = difference("mean", worse.tolist(), worse.tolist(), 1000)
    assert same.value == 0 and not same.clear
    with pytest.raises(ValueError, match="not of the same cases"):
        difference("mean", [1], [1, 0])


# ---------------------------------------------------------------------------------------------------------------- case files

WRONG = [
    ("business", "{", "not JSON"),
    ("business", "[]", "an object"),
    ("business", '{"text": "低保", "business": "社会救助"}', "'item' is missing"),
    ("business", '{"text": 3, "business": "社会救助", "item": "x"}', "'text': text is expected"),
    ("business", '{"text": "", "business": "社会救助", "item": "x"}', "'text' is empty"),
    ("acts", '{"text": "好", "act": "agree"}', "'agree' is none of ask"),
    ("slots", '{"text": "我叫李明", "today": "2026-13-01", "slots": []}', "'today'"),
    ("slots", '{"text": "我叫李明", "today": "2026-01-01", "slots": {}}', "'slots': a list"),
    ("slots", '{"text": "我叫李明", "today": "2026-01-01", "slots": [{"kind": "name", "text": "李明", "start": 1, "end": 3, "value": "李明"}]}', "does not read as marked"),
    ("slots", '{"text": "我叫李明", "today": "2026-01-01", "slots": [{"kind": "nom", "text": "李明", "start": 2, "end": 4, "value": "李明"}]}', "'nom' is none of"),
    ("slots", '{"text": "我叫李明", "today": "2026-01-01", "slots": [{"kind": "name", "text": "李明", "start": true, "end": 4, "value": "李明"}]}', "'start': a whole number"),
    ("answers", '{"text": "低保", "item": "", "asks": [], "refused": false, "kind": "plain"}', "'item' is empty"),
    ("answers", '{"text": "低保", "item": "x", "asks": ["price"], "refused": false, "kind": "plain"}', "'price' is none of"),
    ("answers", '{"text": "低保", "item": "x", "asks": [], "refused": 0, "kind": "plain"}', "'refused': true or false"),
    ("privacy", '{"text": "a@b.cn", "spans": [{"kind": "email", "text": "a@b.cn", "start": 0, "end": 6}]}', "'valid' is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "said"), WRONG, ids=[f"{name}-{said}" for name, _, said in WRONG])
def test_a_malformed_row_is_named(folder: Path, tmp_path: Path, name: str, row: str, said: str) -> None:
    for path in folder.glob("*.jsonl"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / f"{name}.jsonl").write_text(f"{first}\n\n{row}\n", encoding="utf-8")
    with pytest.raises(CasesError, match=re.escape(f"{name}.jsonl:3: ")) as error:
        Cases.read(tmp_path)
    assert said in str(error.value)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match="no such folder"):
        Cases.read(tmp_path / "none")
    (tmp_path / "acts.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(CasesError, match=r"business\.jsonl, out_of_scope\.jsonl, slots\.jsonl missing"):
        Cases.read(tmp_path, ["understanding"])
    with pytest.raises(CasesError, match=r"privacy\.jsonl missing"):
        Cases.read(tmp_path, ["privacy"])
    (tmp_path / "privacy.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(CasesError, match=r"privacy\.jsonl: holds no cases"):
        Cases.read(tmp_path, ["privacy"])
    (tmp_path / "privacy.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(CasesError, match=r"privacy\.jsonl:1: byte 11 of the line is not UTF-8"):
        Cases.read(tmp_path, ["privacy"])


def test_only_the_files_that_a_suite_reads_are_needed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "privacy.jsonl").write_bytes(b"\xef\xbb\xbf" + (folder / "privacy.jsonl").read_bytes())
    assert set(Cases.read(tmp_path, ["privacy"]).files) == {"privacy"}


@pytest.mark.parametrize(("key", "what"), [("item", "an item"), ("business", "a business type")])
def test_what_the_hall_does_not_have_is_named(hall: Hall, folder: Path, tmp_path: Path, key: str, what: str) -> None:
    row = json.loads((folder / "business.jsonl").read_text(encoding="utf-8").splitlines()[0]) | {key: "星际通行证"}
    (tmp_path / "business.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(CasesError, match=rf"business\.jsonl:1: '星际通行证' is not {what} of this hall"):
        evaluate(hall, Cases.read(tmp_path, ["retrieval"]), ["retrieval"], TODAY)


# --------------------------------------------------------------------------------------------------------------------- rules

ITEMS = [
    Item("a", "居民身份证补领", business="证件", aliases=("身份证丢了",)),
    Item("b", "居民身份证换领", business="证件", aliases=("身份证到期",)),
    Item("c", "职工退休待遇核定", business="养老", aliases=("退休金",)),
    Item("d", "临时身份证明", business="证件", valid_to=date(2020, 1, 1)),
]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("身份证补领", "a"), ("我的身份证遗失了", "a"), ("身份证　期满 怎么办？", "b"), ("ＩＤ是身份证，补办", "a"),
        ("养老金怎么领", "c"), ("退休工资", "c"), ("明天下雨吗", ""), ("", ""), ("😀", ""),
    ],
)  # fmt: skip
def test_rules_find_items_by_their_words(text: str, code: str) -> None:
    found = RuleEngine(ITEMS).understand(text)
    assert (found.item, found.in_scope) == (code, bool(code))
    assert found.business_type == {"a": "证件", "b": "证件", "c": "养老", "": ""}[code]


def test_rules_prefer_the_longest_hit_and_list_the_others() -> None:
    engine = RuleEngine(ITEMS)
    hits = engine.search("身份证丢了，补领", today=TODAY)
    assert [hit.code for hit in hits] == ["a", "b"]  # d is no longer in force
    assert [hit.code for hit in engine.search("身份证丢了，补领", k=1, today=TODAY)] == ["a"]
    assert "d" in {hit.code for hit in engine.search("临时身份证明", today=date(2019, 1, 1))}
    assert engine.search("明天下雨吗") == []


def test_rules_know_acts_by_fixed_words() -> None:
    engine = RuleEngine(ITEMS)
    for text, act in (
        ("转人工", "handoff"), ("返回上一步", "back"), ("跳过", "skip"), ("取消吧", "cancel"), ("没听清", "repeat"), ("办好了吗", "progress"),
        ("写错了", "correct"), ("谢谢", "smalltalk"), ("多少钱", "ask"), ("我要办身份证", "apply"), ("不是", "deny"), ("是的", "confirm"),
        ("13800138000", "provide"),
    ):  # fmt: skip
        assert engine.understand(text).act == act, text


def test_folding() -> None:
    assert fold("ＡＢ c，驾照！") == "abc驾驶证"


def test_rules_do_not_read_the_example_sentences() -> None:
    bare = [replace(item, wordings=()) for item in ITEMS]
    told = [replace(item, wordings=("火星移民",)) for item in ITEMS]
    for engine in (RuleEngine(bare), RuleEngine(told)):
        assert engine.understand("火星移民").item == ""


# -------------------------------------------------------------------------------------------------------------- on the sample hall


def test_figures_are_what_the_hall_gives(hall: Hall, report: Report) -> None:
    names = {code: item.name for code, item in hall.library.items.items()}
    rows = lines("business")[::STEP]
    found = [hall.understand(row["text"]) for row in rows]
    right = np.mean([names[f.item] == row["item"] for f, row in zip(found, rows, strict=True)])
    assert report.figures["understanding.item_accuracy"].hall.value == pytest.approx(right)
    first = np.mean([hall.search(row["text"], today=TODAY)[0].name == row["item"] for row in rows])
    assert report.figures["retrieval.recall_at_1"].hall.value == pytest.approx(first)
    outside = np.mean([not hall.understand(row["text"]).in_scope for row in lines("out_of_scope")[::STEP]])
    assert report.figures["understanding.out_of_scope_found"].hall.value == pytest.approx(outside)
    refused = np.mean([hall.ask(row["text"], today=TODAY).refused for row in lines("answers")[::STEP] if row["refused"]])
    assert report.figures["answers.refusals"].hall.value == pytest.approx(refused)


def test_slots_are_counted_as_entities_are(report: Report) -> None:
    rows = lines("slots")[::STEP]
    wanted = [[(slot["start"], slot["end"], slot["kind"]) for slot in row["slots"]] for row in rows]
    found = [[(s.start, s.end, s.kind) for s in find_slots(row["text"], date.fromisoformat(row["today"]))] for row in rows]
    whole = span_report(wanted, found)
    for statistic, value in (("precision", "precision"), ("recall", "recall"), ("f1", "micro_f1")):
        assert report.figures[f"understanding.slots.{statistic}"].hall.value == pytest.approx(whole[value])
    for kind in whole["per_class"]:
        assert report.figures[f"understanding.slots.{kind['label']}.f1"].hall.value == pytest.approx(kind["f1"])


def test_a_slot_of_the_wrong_value_is_told(hall: Hall, folder: Path, tmp_path: Path) -> None:
    for name in ("business", "acts", "out_of_scope"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(lines(name)[0]) + "\n", encoding="utf-8")
    mark = {"kind": "date", "text": "2026年12月1日", "start": 0, "end": 10, "value": "2026-12-02"}
    row = {"text": "2026年12月1日去办", "today": "2026-11-24", "slots": [mark]}
    (tmp_path / "slots.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    report = evaluate(hall, Cases.read(tmp_path, ["understanding"]), ["understanding"], TODAY, 20)
    assert report.figures["understanding.slots.f1"].hall.value == 1
    assert report.figures["understanding.slots.values"].hall.value == 0
    (failure,) = [failure for failure in report.failures if failure.what == "slots"]
    assert failure.wanted == "date 2026年12月1日（取值）"


def test_the_rules_figures_are_what_the_rules_give(hall: Hall, report: Report) -> None:
    engine = RuleEngine(hall.library.items.values())
    rows = lines("business")[::STEP]
    right = np.mean([engine.understand(row["text"]).business_type == row["business"] for row in rows])
    assert report.figures["understanding.business_accuracy"].rules.value == pytest.approx(right)
    assert 0.5 < right < 1  # no straw man


def test_the_hall_beats_the_rules(report: Report) -> None:
    for name in ("understanding.business_macro_f1", "understanding.item_accuracy", "retrieval.recall_at_1"):
        figure = report.figures[name]
        assert figure.ahead.value > 0 and figure.ahead.clear, figure
        assert figure.ahead.value == pytest.approx(figure.hall.value - figure.rules.value)


def test_nothing_is_said_that_is_not_cited(report: Report) -> None:
    for name in ("answers.citations_resolve", "answers.digits_verbatim", "answers.checked"):
        assert report.figures[name].hall.value == 1
    assert report.figures["privacy.invalid_accepted"].hall.value == 0
    assert {"privacy.identity_card.f2", "privacy.all.f1", "understanding.slots.name.recall"} <= set(report.figures)


def test_every_failed_case_is_told(report: Report) -> None:
    figure = report.figures["retrieval.recall_at_1"]
    told = [failure for failure in report.failures if failure.suite == "retrieval"]
    assert len(told) == round((1 - figure.hall.value) * figure.cases)
    for failure in report.failures:
        assert 1 <= failure.line <= len(lines(failure.file.removesuffix(".jsonl"))) and failure.wanted and failure.found


def test_it_is_the_same_each_time(hall: Hall, folder: Path, report: Report) -> None:
    again = evaluate(hall, Cases.read(folder), ["privacy", "answers"], TODAY, RESAMPLES)
    first = report.to_json()["figures"]
    assert again.suites == ["privacy", "answers"]
    for name, figure in again.to_json()["figures"].items():
        assert first[name] == figure


class _Other:
    """The hall with another way to answer."""

    def __init__(self, hall: Hall, ask: Any) -> None:
        self.library, self.folder, self.ask = hall.library, hall.folder, ask


def test_an_answer_that_is_made_up_is_counted(hall: Hall, folder: Path) -> None:
    def tampered(text: str, today: date) -> Answer:
        answer = hall.ask(text, today=today)
        parts = []
        for part in answer.parts:
            sentences = []
            for sentence in part.sentences:
                pieces = [
                    replace(p, text="999元") if not isinstance(p, str) and p.field == "fee" else p for p in sentence.pieces
                ]
                pieces += ["另收888元"] if part.kind == "fee" else []
                sentences.append(replace(sentence, pieces=tuple(pieces)))
            parts.append(replace(part, sentences=tuple(sentences)))
        cited = tuple(c for part in parts for sentence in part.sentences for c in sentence.citations)
        return replace(answer, parts=tuple(parts), citations=cited)

    report = evaluate(_Other(hall, tampered), Cases.read(folder, ["answers"]), ["answers"], TODAY, 50)  # type: ignore[arg-type]
    for name in ("citations_resolve", "digits_verbatim", "checked"):
        assert report.figures[f"answers.{name}"].hall.value < 1, name
    judge(report, {})
    assert not report.passed
    assert any(failure.what == "checked" and "does not read as cited" in failure.found for failure in report.failures)


def test_what_was_asked_and_is_not_there_is_counted(hall: Hall, folder: Path) -> None:
    def short(text: str, today: date) -> Answer:
        answer = hall.ask(text, today=today)
        head = answer.parts[:1]
        return replace(answer, parts=head, citations=tuple(c for part in head for s in part.sentences for c in s.citations))

    cases = Cases.read(folder, ["answers"])
    whole = evaluate(hall, cases, ["answers"], TODAY, 50).figures
    cut = evaluate(_Other(hall, short), cases, ["answers"], TODAY, 50).figures  # type: ignore[arg-type]
    assert whole["answers.parts"].hall.value > 0.7 and cut["answers.parts"].hall.value < 0.2
    assert cut["answers.right_item"].hall.value == whole["answers.right_item"].hall.value


def test_a_wrong_number_that_passes_is_counted(
    hall: Hall, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"text": "证号110101198001011234", "spans": [{"kind": "identity_card", "text": "110101198001011234", "start": 2, "end": 20, "valid": False}]}  # fmt: skip
    (tmp_path / "privacy.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    cases = Cases.read(tmp_path, ["privacy"])
    assert evaluate(hall, cases, ["privacy"], TODAY, 50).figures["privacy.invalid_accepted"].hall.value == 0
    monkeypatch.setattr(suites, "find", lambda text, today: [Span(2, 20, "identity_card", True)])
    report = evaluate(hall, cases, ["privacy"], TODAY, 50)
    assert report.figures["privacy.invalid_accepted"].hall.value == 1
    assert report.figures["privacy.validity"].hall.value == 0
    judge(report, {})
    assert [verdict.figure for verdict in report.bars if not verdict.met] == ["privacy.invalid_accepted"]


# ------------------------------------------------------------------------------------------------------- bars and the baseline


def test_bars(report: Report) -> None:
    judge(report, {"understanding.item_accuracy": 0.5, "understanding.false_alarms": 0.5})
    assert report.passed
    judge(report, {"understanding.false_alarms": -0.1, "retrieval.mrr": 1.01})
    assert {verdict.figure for verdict in report.bars if not verdict.met} == {"understanding.false_alarms", "retrieval.mrr"}
    with pytest.raises(BarError, match=r"no figure 'retrieval\.r1'; retrieval has retrieval\.recall_at_1"):
        judge(report, {"retrieval.r1": 0.5})
    assert parse_bar("retrieval.mrr=0.9", ("retrieval",)) == ("retrieval.mrr", 0.9)
    for text in ("retrieval.mrr", "retrieval.mrr=", "=1", "retrieval.mrr=nan", "retrieval.mrr=viel"):
        with pytest.raises(BarError, match="is written like"):
            parse_bar(text, ("retrieval",))
    with pytest.raises(BarError, match="no such suite is run"):
        parse_bar("privacy.validity=1", ("retrieval",))


def test_against_itself_nothing_has_changed(report: Report) -> None:
    compare(report, json.loads(json.dumps(report.to_json())), "report.json")
    assert set(report.changes) == set(report.figures)
    for name, change in report.changes.items():
        assert change.difference is not None and change.cases == report.figures[name].cases
        if not math.isnan(report.figures[name].hall.value):
            assert change.difference.value == 0 and not change.difference.clear, name
    report.changes = {}


def test_a_worse_baseline_is_a_clear_change(report: Report) -> None:
    old = json.loads(json.dumps(report.to_json()))
    sample = old["samples"]["retrieval.recall_at_1"]
    sample["rows"] = [0 if i % 2 else row for i, row in enumerate(sample["rows"])]
    for group in old["groups"].values():  # the cases stood in another order, and one was not there
        group.reverse()
    for entry in old["samples"].values():
        entry["rows"].reverse()
    for rows in (old["groups"]["business"], *(e["rows"] for e in old["samples"].values() if e["group"] == "business")):
        del rows[0]
    compare(report, old, "old.json")
    change = report.changes["retrieval.recall_at_1"]
    assert change.cases == report.figures["retrieval.recall_at_1"].cases - 1
    assert change.difference is not None and change.difference.clear and change.difference.value > 0.3
    assert report.changes["understanding.item_accuracy"].difference.value == 0
    assert "*" in table(report)
    report.changes = {}


def test_a_baseline_without_cases_gives_the_bare_difference(report: Report) -> None:
    old = json.loads(json.dumps(report.to_json())) | {"samples": {}, "groups": {}}
    old["figures"]["retrieval.mrr"]["value"] = 0.25
    compare(report, old, "old.json")
    assert report.changes["retrieval.mrr"].difference is None and report.changes["retrieval.mrr"].before == 0.25
    assert "before" in page(report)
    report.changes = {}


def test_what_is_no_baseline_says_so(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    for text, said in (("{", "not JSON"), ("[]", "no report of govlm eval"), ('{"format": "govlm-evaluation/1"}', "'figures'")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BaselineError, match=said):
            read_baseline(path)
    old = json.loads(json.dumps(report.to_json()))
    old["samples"]["retrieval.mrr"]["rows"].pop()
    with pytest.raises(BaselineError, match=r"old\.json: the results of retrieval\.mrr cannot be read"):
        compare(report, old, "old.json")
    report.changes = {}


# --------------------------------------------------------------------------------------------------------------- what is written


def test_the_page_is_whole(report: Report) -> None:
    judge(report, {"understanding.business_macro_f1": 0.5})
    text = page(report)
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    assert root.get("lang") == "zh-CN" and root.find("head/meta[@name='viewport']") is not None
    assert len(list(root.iter("svg"))) >= 7
    for suite in ("理解 Understanding", "检索 Retrieval", "回答 Answers", "隐私 Privacy"):
        assert suite in text
    for element in root.iter():
        assert element.tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href", "onclick"} & set(element.attrib)
    assert "@import" not in text and "url(" not in text
    drawn = [
        float(rect.get("width", 0)) for rect in root.iter("rect") if rect.get("class") == "hall" and rect.get("height") == "10"
    ]
    assert drawn and all(0 < width <= 360 for width in drawn)


def test_many_business_types_fit_in_the_plot() -> None:
    rows = [(f"类型{i % 40}", f"类型{i % 37}") for i in range(400)]
    root = ElementTree.fromstring(confusion(rows))
    cells = [rect for rect in root.iter("rect") if rect.find("title") is not None]
    assert sum(int(rect.findtext("title", "").rsplit(" ", 1)[1]) for rect in cells) == 400
    assert all(float(rect.get("x", 0)) + float(rect.get("width", 0)) <= 360 for rect in cells)
    assert "其他 other" in "".join(root.itertext())


def test_texts_cannot_break_the_page(hall: Hall, tmp_path: Path) -> None:
    evil = "</li><script>alert(1)</script>&nbsp;\x00\x1b[31m\ud800 天气"
    (tmp_path / "out_of_scope.jsonl").write_text(json.dumps({"text": "低保怎么办" + evil}) + "\n", encoding="utf-8")
    for name in ("business", "acts", "slots"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(lines(name)[0]) + "\n", encoding="utf-8")
    report = evaluate(hall, Cases.read(tmp_path, ["understanding"]), ["understanding"], TODAY, 50)
    report.failures += [replace(failure, text=evil) for failure in report.failures[:1]]
    judge(report, {"understanding.out_of_scope_found": 2})
    text, xml = page(report), junit(report)
    assert "<script" not in text and "\x00" not in text + xml
    ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    ElementTree.fromstring(xml.encode("utf-8"))


def test_personal_data_is_in_nothing_that_is_written(hall: Hall, folder: Path, report: Report) -> None:
    secret = [span["text"] for name, key in (("privacy", "spans"), ("slots", "slots")) for row in lines(name) for span in row[key] if span["kind"] not in ("date", "amount", "organisation")]  # fmt: skip
    written = [json.dumps(report.to_json(), ensure_ascii=False), page(report), junit(report), table(report)]
    assert len(secret) > 100 and report.failures
    texts = {failure.text for failure in report.failures}
    assert any("*" in text for text in texts)  # some of the failed cases held such data
    for value in secret:
        assert not any(value in text for text in written), value


def test_what_nothing_finds_is_masked_where_the_case_marks_it() -> None:
    text = "冼一诺，一诺千金那个一诺，号码12-34"
    assert masked(text, TODAY, [{"kind": "name", "text": "冼一诺", "start": 0, "end": 3}]) == "冼**，**千金那个**，号码12-34"
    assert masked("身份证110101198001011234", TODAY) == "身份证110101********1234"
    marks = [{"kind": "plate", "text": "12-34", "start": 2, "end": 7}, {"kind": "date", "text": "今天", "start": 0, "end": 2}]
    assert masked("今天12-34", TODAY, marks) == "今天1*-**"


def test_junit_has_a_case_a_suite_and_bar(report: Report) -> None:
    judge(report, {"understanding.item_accuracy": 1.01, "retrieval.mrr": 0.1})
    root = ElementTree.fromstring(junit(report).encode("utf-8"))
    suites_ = {suite.get("name"): suite for suite in root.iter("testsuite")}
    assert list(suites_) == ["understanding", "retrieval", "answers", "privacy", "forms", "policy", "push"]
    failed = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == ["item_accuracy >= 1.01"] and root.get("failures") == "1"
    assert int(root.get("tests", 0)) == len(list(root.iter("testcase"))) == len(report.suites) + 6
    assert "retrieval.mrr" in (suites_["retrieval"].findtext("system-out") or "")


def test_the_table_is_aligned_and_has_both_systems(report: Report) -> None:
    judge(report, {"privacy.bank_card.f2": 0.5})
    text = table(report)
    assert "bank_card.f2" in text  # of each kind only the numbers, unless it has a bar
    head = next(line for line in text.splitlines() if line.startswith("understanding"))
    assert {"hall", "rules", "ahead", "bar", "cases"} <= set(head.split())
    assert "all met" in text and "identity_card" in text


# ---------------------------------------------------------------------------------------------------------------- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_govlm_eval(capsys: pytest.CaptureFixture[str], hall: Hall, folder: Path, tmp_path: Path) -> None:
    common = ("eval", hall.folder, "--suite", "privacy,retrieval", "--cases", folder, "--today", TODAY, "--resamples", 50)
    code, out, err = run(capsys, *common, "--out", tmp_path / "a", "--bar", "retrieval.recall_at_10=0.5")
    assert code == 0 and "recall_at_10" in out and "all met" in out, err
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"report.json", "report.html", "junit.xml"}
    code, out, _ = run(capsys, *common, "--out", tmp_path / "b", "--baseline", tmp_path / "a" / "report.json", "--json")
    found = json.loads(out)
    assert code == 0 and found["passed"] and found["baseline"] == "report.json"
    assert found["changes"]["retrieval.mrr"]["difference"]["value"] == 0
    first, second = (json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8")) for name in "ab")
    assert {key: first[key] for key in ("figures", "samples", "groups", "failures")} == {
        key: second[key] for key in ("figures", "samples", "groups", "failures")
    }
    code, out, _ = run(capsys, *common, "--out", tmp_path / "c", "--bar", "retrieval.recall_at_1=1.01")
    assert code == 1 and "MISSED" in out and "missed: retrieval.recall_at_1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--suite", "speed"], 2, "no suite 'speed'"),
        (["--bar", "retrieval.mrr"], 2, "--bar: a bar is written like"),
        (["--suite", "privacy", "--bar", "retrieval.mrr=1"], 2, "no such suite is run"),
        (["--today", "gestern"], 2, "a date like"),
        (["--cases", "nowhere"], 1, "no such folder of case files"),
        (["--baseline", "nowhere.json"], 1, "nowhere.json: No such file"),
    ],
)
def test_one_clear_line(capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], code: int, said: str) -> None:
    given = [] if "--cases" in arguments else ["--cases", folder]
    found, out, err = run(capsys, "eval", "nohall", *given, *arguments)
    assert found == code and out == "" and said in err and len(err.splitlines()) == 1, err


def test_the_sample_hall_needs_cases(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "eval")
    assert code == 2 and "--cases DIR is needed" in err


def test_a_figure_that_there_is_not_keeps_what_was_measured(
    capsys: pytest.CaptureFixture[str], hall: Hall, folder: Path, tmp_path: Path
) -> None:
    code, _, err = run(
        capsys, "eval", hall.folder, "--suite", "privacy", "--cases", folder, "--out", tmp_path, "--resamples", 20, "--bar", "privacy.f9=1"
    )  # fmt: skip
    assert code == 2 and "there is no figure 'privacy.f9'" in err and (tmp_path / "report.json").exists()
