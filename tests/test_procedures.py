"""Procedures as data: what lint finds, each by one clear line, and what a hall takes into use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from govlm.cli import main
from govlm.hall.catalogue.records import Item
from govlm.hall.dialogue.procedures import SIZE_LIMIT, ProcedureError, lint, parse, read, standard
from govlm.hall.dialogue.shelf import Shelf
from govlm.hall.hall import SAMPLE, Hall

XINSHIMIN = SAMPLE / "procedures" / "xinshimin.yaml"
DIBAO, JUZHUZHENG, ZUFANG = "最低生活保障申请", "居住证申领", "租房提取住房公积金"


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    with Hall.sample() as found:
        yield found


@pytest.fixture(scope="module")
def items(hall: Hall) -> dict[str, Item]:
    return dict(hall.library.items)


def _steps(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    """A good procedure of 低保, its steps changed by id; a step {"id": x, "kind": None} is left out."""
    steps: dict[str, dict[str, Any]] = {
        kind: {"id": kind, "kind": kind} for kind in ("conditions", "form", "confirm", "receipt")
    }
    for change in changes:
        steps[change["id"]] = {**steps.get(change["id"], {}), **change}
    return [step for step in steps.values() if step["kind"] is not None]


def _lint(items: dict[str, Item], *changes: dict[str, Any], names: tuple[str, ...] = (DIBAO,)) -> list[str]:
    return lint(parse({"procedure": "p", "items": list(names), "steps": _steps(*changes)}, items), items)


def test_a_good_procedure_has_no_problems(items: dict[str, Item]) -> None:
    assert _lint(items) == []
    assert lint(read(XINSHIMIN, items), items) == []
    for item in items.values():
        if item.form:
            assert lint(standard(item), items) == []


FORM_FIELDS = ["applicant_name", "id_number", "mobile", "household_address", "family_size", "monthly_income", "reason"]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (({"id": "confirm", "next": "form"},), "the steps go in a circle: form -> confirm -> form"),
        (({"id": "end", "kind": "say", "source": "notes.0"},), "step 'end' cannot be reached"),
        (({"id": "form", "next": "confrim"},), "step 'form': next 'confrim' is no step"),
        (({"id": "conditions", "deny": "out"},), "step 'conditions': deny 'out' is no step"),
        (
            ({"id": "conditions", "deny": "end"}, {"id": "end", "kind": "say"}),
            f"step 'end': source '': nothing stands there in the record of '{DIBAO}'; a text needs a source",
        ),
        (
            ({"id": "conditions", "deny": "end"}, {"id": "end", "kind": "say", "source": "notes.99"}),
            f"step 'end': source 'notes.99': nothing stands there in the record of '{DIBAO}'; a text needs a source",
        ),
        (
            ({"id": "form", "next": "receipt"}, {"id": "conditions", "deny": "confirm"}),
            "step 'form' leads to a receipt: only what was confirmed is submitted",
        ),
        (
            ({"id": "form", "fields": FORM_FIELDS},),
            "step 'form': required field 'bank_card' is not asked",
        ),
        (
            ({"id": "form", "fields": [*FORM_FIELDS, "bank_card", "shoe_size"]},),
            "step 'form': fields: 'shoe_size' is no field of 'dibao'",
        ),
        (({"id": "receipt", "next": "conditions"},), "step 'receipt': a receipt ends the procedure, but its next is 'conditions'"),
        (({"id": "confirm", "kind": None}, {"id": "form", "next": "receipt"}), "there is no step of kind confirm"),
    ],
)  # fmt: skip
def test_lint_names_what_is_wrong(items: dict[str, Item], changes: tuple[dict[str, Any], ...], wanted: str) -> None:
    found = _lint(items, *changes)
    assert wanted in found
    assert all("\n" not in line for line in found)


def test_lint_names_a_form_that_is_missing_or_not_filled(items: dict[str, Item]) -> None:
    assert "step 'form': item '临时救助申请' has no form" in _lint(items, names=("临时救助申请",))
    assert f"item '{ZUFANG}' has a form, but no step fills it" in _lint(items, names=(DIBAO, ZUFANG))


def test_lint_names_items_that_are_not_the_procedures_own(items: dict[str, Item]) -> None:
    code = next(code for code, item in items.items() if item.name == ZUFANG)
    assert _lint(items, {"id": "form", "item": ZUFANG}) == [
        f"step 'form': its item '{code}' is not among the procedure's items"
    ]
    twice = parse({"procedure": "p", "items": [DIBAO], "steps": [*_steps(), {"id": "form", "kind": "form"}]}, items)
    assert lint(twice, items) == ["step 'form' stands 2 times"]


def test_lint_names_an_item_that_has_left_the_catalogue(items: dict[str, Item]) -> None:
    procedure = read(XINSHIMIN, items)
    less = {code: item for code, item in items.items() if item.name != ZUFANG}
    gone = next(code for code in items if code not in less)
    assert f"step 'rent_form': its item '{gone}' is not in the catalogue" in lint(procedure, less)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], "a table with the keys procedure, items and steps is expected"),
        ({"items": [DIBAO], "steps": [{"kind": "form"}]}, "procedure: a name is expected"),
        ({"procedure": "p", "steps": [{"kind": "form"}]}, "items: a list of names or codes is expected"),
        ({"procedure": "p", "items": [DIBAO]}, "steps: a list of steps is expected"),
        ({"procedure": "p", "items": [DIBAO], "steps": [], "colour": 1}, "unknown key 'colour'; there are items, procedure, steps, title"),
        ({"procedure": "p", "items": ["上天揽月"], "steps": [{"kind": "form"}]}, "items.0: '上天揽月' is no item"),
        ({"procedure": "p", "items": [DIBAO], "steps": [{"kind": "form", "nxt": "x"}]}, "steps.0: unknown key 'nxt'"),
        ({"procedure": "p", "items": [DIBAO], "steps": [{"kind": "dance"}]}, "steps.0.kind: 'dance' is none of conditions"),
        ({"procedure": "p", "items": [DIBAO], "steps": [{"kind": "form", "fields": "x"}]}, "steps.0.fields: a list is expected"),
        ({"procedure": "p", "items": [DIBAO], "steps": ["form"]}, "steps.0: a table is expected"),
        ({"procedure": "p", "items": [DIBAO], "steps": [{"id": f"s{i}", "kind": "form"} for i in range(5000)]}, "steps: 5000 are more"),
    ],
)  # fmt: skip
def test_parse_names_the_key(items: dict[str, Item], values: Any, wanted: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(values, items)
    assert str(caught.value).startswith(wanted) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.yaml", b"procedure: [", "not YAML"),
        ("a.json", b'{"procedure": ', "Expecting value"),
        ("a.yaml", b"\xff\xfe\x00", "utf-8"),
        ("a.yaml", b"#" * (SIZE_LIMIT + 1), "larger than 1 MiB"),
        ("a.yaml", b"!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, items: dict[str, Item], name: str, content: bytes, wanted: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProcedureError) as caught:
        read(path, items)
    assert str(caught.value).startswith(f"{path}: ") and wanted in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path, items: dict[str, Item]) -> None:
    with pytest.raises(ProcedureError, match="cannot be read"):
        read(tmp_path / "none.yaml", items)


def test_yaml_and_json_say_the_same(tmp_path: Path, items: dict[str, Item]) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(yaml.safe_load(XINSHIMIN.read_text("utf-8")), ensure_ascii=False), "utf-8")
    assert read(path, items) == read(XINSHIMIN, items)


# ------------------------------------------------------------------------------------------------------------------------ in use


def test_a_procedure_of_several_items_hides_none_of_them(hall: Hall, items: dict[str, Item]) -> None:
    together = read(XINSHIMIN, items)
    shelf = Shelf(hall.library, [together])
    codes = {item.name: code for code, item in items.items()}
    assert shelf.procedure("xinshimin") == together
    assert shelf.named("我想办新市民一件事") == ["xinshimin"]
    for name in (JUZHUZHENG, ZUFANG):
        assert shelf.procedure(codes[name]) == standard(items[codes[name]])
        assert shelf.named(f"我要{name}") == [codes[name]]


def test_a_procedure_of_one_item_takes_the_place_of_the_standard_one(hall: Hall, items: dict[str, Item]) -> None:
    own = parse({"procedure": "short", "items": [DIBAO], "steps": _steps()}, items)
    shelf = Shelf(hall.library, [own])
    assert shelf.procedure(own.items[0]) == own


def test_import_procedures(tmp_path: Path) -> None:
    good, bad, broken = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "broken.yaml"
    good.write_text(yaml.safe_dump({"procedure": "short", "items": [DIBAO], "steps": _steps()}, allow_unicode=True), "utf-8")
    bad.write_text(
        yaml.safe_dump(
            {"procedure": "round", "items": [DIBAO], "steps": _steps({"id": "confirm", "next": "form"})}, allow_unicode=True
        ),
        "utf-8",
    )
    broken.write_text("steps: [", "utf-8")
    with Hall.sample() as hall:
        report = hall.import_procedures([good, bad, broken])
        assert (report.rows, report.imported, report.skipped) == (3, 1, 2)
        said = str(report)
        assert "circle" in said and "not YAML" in said
        turn = hall.chat("one", "我想申请低保")
        assert turn.state.top is not None and turn.state.top.procedure == "short"
        assert "materials" not in {step.id for step in hall._procedures.shelf(hall.library).procedure("short").steps}
        changed = {"procedure": "short", "items": [DIBAO], "steps": _steps({"id": "conditions", "kind": None})}
        good.write_text(yaml.safe_dump(changed, allow_unicode=True), "utf-8")
        assert hall.import_procedures(good).imported == 1
        assert hall.chat("two", "我想申请低保").state.asking == "consent"


def test_a_procedure_whose_item_has_gone_is_left_out_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Hall.create(tmp_path / "hall") as hall:
        hall.import_items(SAMPLE / "items.jsonl")
        (tmp_path / "hall" / "procedures").mkdir()
        text = XINSHIMIN.read_text("utf-8").replace(ZUFANG, "没有的事项")
        (tmp_path / "hall" / "procedures" / "xinshimin.yaml").write_text(text, "utf-8")
        turn = hall.chat("one", "我想申请低保")
        assert turn.state.top is not None
        assert "xinshimin.yaml: not used" in caplog.text and "没有的事项" in caplog.text


def test_govlm_hall_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(XINSHIMIN.read_text("utf-8").replace("kind: confirm", "kind: confirm, next: rent_form"), "utf-8")
    assert main(["hall", "check", str(XINSHIMIN)]) == 0
    assert "good" in capsys.readouterr().out
    assert main(["hall", "check", str(XINSHIMIN), str(bad)]) == 1
    out = capsys.readouterr().out
    assert f"{bad}: the steps go in a circle" in out and f"{XINSHIMIN}: good" in out
