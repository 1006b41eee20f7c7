"""Service items from JSONL, CSV and Excel and back: nothing is lost, everything odd is reported, lies are refused."""

import codecs
import csv
import gzip
import json
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from govlm.hall.catalogue import codes
from govlm.hall.catalogue.cells import NAMES
from govlm.hall.catalogue.columns import export_items, from_row, import_items, to_row
from govlm.hall.catalogue.mapping import builtin, load
from govlm.hall.catalogue.records import FIELDS, Item, Material, Place, Step, to_dict
from govlm.hall.catalogue.report import CatalogueError

pytest.importorskip("openpyxl", reason='Excel needs pip install "govlm[hall]"')

REAL = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "gov" / "guangdong_service_items" / "items.jsonl"
FORMATS = (".jsonl", ".csv", ".tsv", ".xlsx", ".jsonl.gz", ".csv.gz")
AUTHORITY = "11440000006939756B"  # a credit code that checks


def item(**values: object) -> Item:
    return Item(**{"code": "A1", "name": "食堂承包备案", **values})


FULL = item(
    base_code="440101007000",
    kind="行政许可",
    authority="某市商务局",
    region="4401",
    level="市级",
    audiences=("自然人", "企业法人"),
    themes=("经营",),
    aliases=("承包食堂",),
    conditions=("依法登记", "有固定场所\n并通过验收"),
    materials=(Material("申请表", 2, "原件", "纸质或电子", True), Material("场所证明", note="租用的须附合同")),
    steps=(Step("受理", "当场核对"), Step("决定")),
    notes=("请提前预约",),
    statutory_limit="20个工作日",
    promised_limit="3个工作日",
    fee="不收费",
    result="备案回执",
    basis=("某市食堂管理办法 第三条",),
    places=(Place("政务大厅2号窗口", "和平路1号", "工作日9:00-17:00", "010-12345"),),
    consult_phones=("010-12345",),
    online=False,
    visits=0,
    mail=True,
    valid_from=date(2024, 2, 29),
    valid_to=date(2030, 12, 31),
    form={"type": "object", "properties": {"姓名": {"type": "string"}}},
    extra={"来源": "人工录入", "层次": [1, 2.5, None, True]},
)


# ---- codes -----------------------------------------------------------------------------------------------------------


def test_codes_are_taken_apart_and_checked() -> None:
    code = AUTHORITY + "2" + "440101007000"
    parts = codes.split(code + "03")
    assert parts == codes.Parts(AUTHORITY, "省级", "440101007000", "03", "行政许可")
    assert codes.check(code, "440101007000", "行政许可", "省级") == []
    assert codes.check(code + "03") == []
    wrong = AUTHORITY[:-1] + "C"
    assert ["校验位" in text for text in codes.check(wrong + "2440101007000")] == [True]
    assert "市级" in codes.check(code, level="市级")[0]
    assert "不一致" in codes.check(code, base_code="440101007001")[0]
    assert "行政许可" in codes.check(code, kind="行政确认")[0]
    assert "第19位" in codes.check(AUTHORITY + "9440101007000")[0]
    assert codes.check((AUTHORITY + "2440101007000").lower()) == ["实施编码只能有大写字母和数字"]
    assert codes.check_base("44010100700Y") == [] and codes.check_base("4401") and codes.check_base("990101007000")


def test_a_hall_with_codes_of_its_own_has_no_problem() -> None:
    assert codes.check("XG-2024-017") == [] == codes.check("")


# ---- own columns -----------------------------------------------------------------------------------------------------


def test_every_field_has_a_column() -> None:
    assert list(NAMES.values()) == list(FIELDS) and set(FIELDS) == {entry.name for entry in fields(Item)}


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_field_survives_every_format(tmp_path: Path, suffix: str) -> None:
    items = [FULL, item(code="A2"), item(code="A3", materials=(Material("甲"), Material("乙")), aliases=("一", "二"))]
    path = tmp_path / f"items{suffix}"
    assert export_items(items, path) == 3
    found, report = import_items(path)
    assert found == items
    assert (report.rows, report.imported, report.skipped) == (3, 3, 0)
    assert {problem.kind for problem in report.problems} <= {"缺少", "编码"}


def test_a_table_is_readable_by_staff(tmp_path: Path) -> None:
    export_items([FULL, item(code="A3", materials=(Material("甲"), Material("乙")))], tmp_path / "items.csv")
    with open(tmp_path / "items.csv", encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows[0]["事项名称"] == "食堂承包备案" and rows[0]["物流快递"] == "是" and rows[0]["生效日期"] == "2024-02-29"
    assert rows[0]["服务对象"] == "自然人\n企业法人" and rows[1]["申请材料"] == "甲\n乙"
    assert (tmp_path / "items.csv").read_bytes().startswith(codecs.BOM_UTF8)  # else Excel shows no Chinese


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    [
        "=1+1",
        "_x000D_",
        "[",
        '["a"]',
        " 空格 ",
        "a\r\nb",
        "\r",
        "'",
        '"',
        ",",
        "\t",
        "无",
        "是",
        "\x01\x1f",
        "㊙️",
        "-",
        "#N/A",
        "1e5",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ITEMS = st.builds(
    Item,
    code=TEXT.filter(bool),
    name=TEXT.filter(bool),
    fee=TEXT,
    aliases=st.lists(TEXT, max_size=3).map(tuple),
    materials=st.lists(st.builds(Material, TEXT, st.none() | st.integers(0, 9), note=TEXT), max_size=2).map(tuple),
    places=st.lists(st.builds(Place, TEXT, TEXT), max_size=2).map(tuple),
    steps=st.lists(st.builds(Step, TEXT), max_size=2).map(tuple),
    online=st.none() | st.booleans(),
    visits=st.none() | st.integers(),
    valid_from=st.none() | st.dates(),
    form=st.dictionaries(TEXT, JSON, max_size=2),
    extra=st.dictionaries(TEXT, JSON, max_size=2),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(ITEMS, min_size=1, max_size=3, unique_by=lambda entry: entry.code))
def test_any_items_go_through_jsonl_csv_and_excel_unharmed(tmp_path: Path, items: list[Item]) -> None:
    """CSV cannot hold NUL before Python 3.11, and U+FFFD stands for damage."""
    text = json.dumps([to_dict(entry) for entry in items], ensure_ascii=False)
    if "\ufffd" in text or "\\u0000" in text:
        return
    found = items
    for name in ("a.jsonl", "b.csv", "c.xlsx", "d.jsonl"):
        export_items(found, tmp_path / name)
        found, _ = import_items(tmp_path / name)
        assert found == items, name


def test_a_text_longer_than_a_cell_of_excel_is_kept(tmp_path: Path) -> None:
    long = [item(fee="字" * 70_000 + "_x0041_" * 10_000, notes=("x" * 40_000,)), item(code="A2", fee="短")]
    export_items(long, tmp_path / "long.xlsx")
    assert import_items(tmp_path / "long.xlsx")[0] == long


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_rows_with_odd_contents_are_reported_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    lines = [
        '{"code": "A1", "name": "甲", "visits": "两次", "颜色": "红"}',
        '{"code": "A1", "name": "甲二"}',
        '{"name": "乙", "authority": "某局"}',
        '{"code": "A3"}',
        '{"code": "A4", "name": "丁"',
        '["A5"]',
        "",
        '{"code": "A6", "name": "半\\ud800个"}',
        json.dumps({"code": AUTHORITY[:-1] + "C2440101007000", "name": "己"}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    items, report = import_items(path)
    assert [entry.name for entry in items] == ["甲", "乙", "己"]
    assert items[0].visits is None and items[0].extra == {"visits": "两次", "颜色": "红"}
    assert (report.rows, report.imported, report.skipped) == (8, 3, 5)
    kinds = Counter(problem.kind for problem in report.problems if problem.kind != "缺少")
    assert kinds == {"类型": 1, "未知列": 1, "重复": 1, "编码": 2, "文件": 3}
    assert {problem.row for problem in report.of("文件")} == {"5", "6", "8"}
    assert "保留先出现的" in report.of("重复")[0].text and report.of("重复")[0].row == "2"
    again, _ = import_items(path)
    assert again[1].code == items[1].code and items[1].code.startswith("GOVLM-")
    assert "校验位" in str(report) and "第1行" in str(report)


def test_bytes_that_are_no_characters_stay_out_of_the_fields(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    good = "实施编码,事项名称,收费情况\r\nA1,甲,不收费\r\nA2,乙,".encode()
    path.write_bytes(good + b"\xff\xfe\r\n" + "A3,丙,按标准收费\r\n".encode())
    items, report = import_items(path)
    assert [(entry.name, entry.fee) for entry in items] == [("甲", "不收费"), ("乙", ""), ("丙", "按标准收费")]
    assert [(problem.row, problem.column) for problem in report.of("文件")] == [("3", "收费情况")]
    assert items[1].extra["收费情况"] == "\ufffd\ufffd"


def test_damage_that_came_with_the_source_is_reported_too(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"code": "A1", "name": "甲", "fee": "\ufffd元", "notes": ["\\ufffd"]}\n', encoding="utf-8")
    items, report = import_items(path)
    assert (items[0].fee, items[0].notes) == ("", ()) and set(items[0].extra) == {"fee", "notes"}
    assert {problem.column for problem in report.of("文件")} == {"fee", "notes"}


def test_a_column_that_comes_late_is_no_lie(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    rows = [{"BH": f"K{i}", "MC": "甲"} | ({"SF": "5元"} if i == 299 else {}) for i in range(300)]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    mapping = load({"columns": {"BH": "code", "MC": "name", "SF": "fee"}})
    items, report = import_items(path, mapping)
    assert items[-1].fee == "5元" and not report.of("映射")
    assert [to_row(entry, mapping) for entry in items] == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_encodings_of_chinese_offices(tmp_path: Path, encoding: str, suffix: str) -> None:
    export_items([FULL, item(code="A2", fee="喆镕䶮")], tmp_path / f"plain{suffix}")
    text = (tmp_path / f"plain{suffix}").read_text(encoding="utf-8-sig")
    (tmp_path / f"other{suffix}").write_bytes(text.encode(encoding))
    assert import_items(tmp_path / f"other{suffix}")[0] == [FULL, item(code="A2", fee="喆镕䶮")]


def test_json_files_of_every_layout(tmp_path: Path) -> None:
    rows = [to_dict(FULL), to_dict(item(code="A2"))]
    layouts = {"array": json.dumps(rows), "pretty": json.dumps(rows, indent=1), "lines": "\n".join(map(json.dumps, rows))}
    for name, text in layouts.items():
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
        assert import_items(tmp_path / f"{name}.json")[0] == [FULL, item(code="A2")], name
    (tmp_path / "one.json").write_text(json.dumps(rows[0], indent=1), encoding="utf-8")
    assert import_items(tmp_path / "one.json")[0] == [FULL]


def test_ragged_rows_and_headers(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("编号,name,,name2,name2\nx,甲,1,2,3,多出\ny,乙\n,\n", encoding="utf-8")
    items, report = import_items(path)
    assert [entry.name for entry in items] == ["甲", "乙"]
    assert items[0].extra == {"编号": "x", "第3列": "1", "name2": "2", "name2 [第5列]": "3", "第6列": "多出"}
    assert {problem.row for problem in report.of("文件")} >= {"2", "3"}
    assert any("列名重复" in problem.text for problem in report.problems)


def one_line(error: pytest.ExceptionInfo[CatalogueError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_files_that_cannot_be_read_are_one_clear_line(tmp_path: Path) -> None:
    def refused(name: str, data: bytes, *words: str) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CatalogueError) as error:
            import_items(tmp_path / name)
        one_line(error, name, *words)

    export_items([FULL], tmp_path / "good.xlsx")
    whole = (tmp_path / "good.xlsx").read_bytes()
    refused("cut.xlsx", whole[: len(whole) // 2], "damaged")
    refused("text.xlsx", b"no workbook", "damaged")
    refused("old.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), ".xlsx")
    refused("old.xls", b"", "save it as .xlsx")
    refused("open.csv", b'code,name\n1,"never closed\n2,b\n', "not closed")
    refused("array.json", b'[{"code": "1", "name": "a"', "not JSON")
    refused("picture.csv", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xff\xff", "no text")
    refused("cut.jsonl.gz", gzip.compress(b'{"code": "1"}\n' * 9999)[:40], "damaged")
    refused("odd.csv", b"a,b\n1,2\n", "a, b", "mapping")
    refused("items.doc", b"", "unknown kind")
    with pytest.raises(CatalogueError) as error:
        import_items(tmp_path / "nothing.csv")
    one_line(error, "no such file")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert import_items(tmp_path / "empty.csv")[0] == []


def test_numbers_in_cells_of_excel(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["实施编码", "事项名称", "到办事现场次数", "咨询电话", "生效日期", "网上办理"])
    book.active.append([440101007000, "甲", 2, 12345, date(2024, 3, 5), True])
    book.active.append([1234567890123456789, "乙", 2.5, None, "2024年", "也许"])
    book.create_sheet("说明").append(["别的"])
    book.save(tmp_path / "staff.xlsx")
    items, report = import_items(tmp_path / "staff.xlsx")
    first = items[0]
    assert (first.code, first.visits, first.consult_phones) == ("440101007000", 2, ("12345",))
    assert first.valid_from == date(2024, 3, 5) and first.online is True
    assert {problem.column for problem in report.of("类型")} == {"到办事现场次数", "生效日期", "网上办理"}
    assert any("长数字" in problem.text for problem in report.of("文件"))
    assert any("说明" in problem.text for problem in report.of("文件"))


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "items.jsonl"
    export_items([FULL], path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CatalogueError, match="No space left"):
        export_items([FULL, item(code="A2")], path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["items.jsonl"]


def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['openpyxl'] = None\n"
        "from govlm.hall.catalogue.columns import import_items\n"
        "from govlm.hall.catalogue.report import CatalogueError\n"
        "try:\n    import_items('x.xlsx')\nexcept CatalogueError as error:\n    print(error)\n"
    )
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 'pip install "govlm[hall]"' in done.stdout


# ---- foreign columns -------------------------------------------------------------------------------------------------

MAPPING = {
    "name": "某市",
    "columns": {
        "BH": "code",
        "MC": "name",
        "JC": {"field": "aliases", "append": True, "unless": "name", "separators": "，,", "nothing": ["无"]},
        "RCYY": {"field": "aliases", "append": True, "nothing": ["无"]},
        "SX": {"field": "statutory_limit", "convert": "limit", "nothing": ["无", "-"]},
        "WS": {"field": "online", "yes": ["支持"], "no": ["不支持", "否"]},
        "DD": {"field": "places", "convert": "place", "prefix": "地址：", "nothing": ["无"]},
        "DH": {"field": "consult_phones", "convert": "phones"},
        "TJ": {"field": "conditions", "convert": "numbered"},
        "CL": {"field": "materials", "separators": "、"},
        "XZQ": {"field": "region", "convert": "region"},
        "CS": "visits",
        "RQ": "valid_from",
        "XZ": {"repeats": "XZQ", "words": {"440100": "某市"}},
        "BZ": {"nothing": ["无"]},
    },
}


def test_conversions_go_both_ways() -> None:
    row = {
        "BH": "K1", "MC": "占道备案", "JC": "占道，临时占道（节日，庆典）", "RCYY": "无", "SX": "20(工作日)", "WS": "否",
        "DD": "地址：和平路1号", "DH": "010-12345678、12345", "TJ": "符合下列条件：（一）有证；（二）无欠费。", "CL": "申请表、身份证（正、反面）",
        "XZQ": "440100", "CS": "0", "RQ": "2024年3月5日", "XZ": "某市", "BZ": "无",
    }  # fmt: skip
    mapping = load(MAPPING)
    found, report = from_row(row, mapping)
    assert found is not None and not report.problems
    assert found.aliases == ("占道", "临时占道（节日，庆典）")
    assert found.statutory_limit == "20个工作日" and found.online is False and found.visits == 0
    assert found.places == (Place(address="和平路1号"),) and found.consult_phones == ("010-12345678", "12345")
    assert found.conditions == ("符合下列条件：", "（一）有证；", "（二）无欠费。")
    assert [material.name for material in found.materials] == ["申请表", "身份证（正、反面）"]
    assert found.region == "4401" and found.valid_from == date(2024, 3, 5)
    assert set(found.extra) == {"JC", "WS", "RQ"}  # what the fields alone would not give back as it was
    assert to_row(found, mapping) == row


def test_what_says_nothing_is_not_known() -> None:
    found, _ = from_row({"BH": "K1", "MC": "甲", "SX": "无", "DD": "无", "WS": None, "JC": "甲"}, load(MAPPING))
    assert found is not None
    assert (found.statutory_limit, found.places, found.online, found.aliases) == ("", (), None, ())


def test_a_place_that_is_none_is_said_as_it_stands() -> None:
    found, _ = from_row({"BH": "K1", "MC": "甲", "DD": "无线下办理窗口"}, load(MAPPING))
    assert found is not None and found.places == (Place(name="无线下办理窗口"),)


def test_an_edited_item_is_exported_as_edited() -> None:
    mapping = load(MAPPING)
    found, _ = from_row({"BH": "K1", "MC": "甲", "RQ": "2024/3/5", "WS": "否", "JC": "占道，临占"}, mapping)
    assert found is not None and found.extra["RQ"] == "2024/3/5"
    edited = replace(found, valid_from=date(2025, 1, 1), online=True, aliases=("占道",))
    row = to_row(edited, mapping)
    assert (row["RQ"], row["WS"]) == ("2025-01-01", "支持")
    assert row["JC"] != "占道，临占"


def test_values_of_the_wrong_type_are_reported_and_kept() -> None:
    row = {"BH": "K1", "MC": "甲", "CS": "若干", "WS": "可能", "RQ": "2024-02-30", "XZQ": "广州", "CL": [1]}
    found, report = from_row(row, load(MAPPING))
    assert found is not None and {problem.column for problem in report.of("类型")} == {"CS", "WS", "RQ", "XZQ", "CL"}
    assert {key: to_row(found, load(MAPPING))[key] for key in row} == row


RAW = st.none() | TEXT | st.sampled_from(
    ["无", "-", "支持", "否", "30(工作日)", "30个工作日", "地址：甲", "12345", "010-1234567、12345", "1.甲2.乙", "（一）甲（二）乙", "440000", "00"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    row=st.dictionaries(st.sampled_from([*MAPPING["columns"], "新列"]), RAW | st.lists(TEXT, max_size=3) | JSON, max_size=12)
)
def test_any_row_comes_back_exactly(row: dict[str, object]) -> None:
    """Whatever stands in the columns; a row needs a name and a code, which are made where they are missing."""
    row["BH"], row["MC"] = "K1", "占道备案"
    mapping = load(MAPPING)
    found, _ = from_row(row, mapping)
    assert found is not None
    if "缺少的列" not in row:
        assert json.dumps(to_row(found, mapping), sort_keys=True) == json.dumps(row, sort_keys=True)


def test_mappings_that_lie_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(mapping: object, *words: str) -> None:
        path = tmp_path / "mapping.json"
        path.write_text(json.dumps(mapping, ensure_ascii=False), encoding="utf-8")
        with pytest.raises(CatalogueError) as error:
            load(path)
        one_line(error, "mapping.json", *words)

    columns = {"MC": "name"}
    refused({"columns": columns | {"B": "no_such_field"}}, "'B'", "no_such_field")
    refused({"columns": columns | {"B": {"field": "fee", "convert": "magic"}}}, "'B'", "magic", "limit")
    refused({"columns": columns | {"B": {"field": "fee", "convert": "phones"}}}, "'B'", "phones", "text")
    refused({"columns": columns | {"A": "fee", "B": "fee"}}, "'A' and 'B'", "fee")
    refused({"columns": columns | {"A": {"field": "fee", "append": True}}}, "'A'", "lists")
    refused({"columns": {"A": "fee"}}, "'name'")
    refused({"columns": columns | {"A": {"repeats": "Z"}}}, "'Z'")
    refused({"columns": columns | {"A": {}, "B": {"repeats": "A"}}}, "'A'")
    refused({"columns": columns | {"A": {"filed": "fee"}}}, "'filed'")
    refused({"columns": columns | {"A": {"prefix": "x"}}}, "no field")
    refused({"columns": columns, "recognise": ["Q"]}, "'Q'")
    refused({"columns": columns, "derive": ["fee"]}, "'fee'")
    refused({"columns": columns, "colour": 1}, "'colour'")
    refused({"columns": columns | {"A": 3}}, "'A'")
    refused({"columns": columns | {"A": {"field": "fee", "nothing": [1]}}}, "nothing")
    refused([], "columns")
    (tmp_path / "twice.json").write_text('{"columns": {"A": "name", "A": "fee"}}', encoding="utf-8")
    with pytest.raises(CatalogueError, match="'A' stands twice"):
        load(tmp_path / "twice.json")
    with pytest.raises(CatalogueError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_a_mapping_of_columns_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("BH,MC\nK1,甲\n", encoding="utf-8")
    items, report = import_items(path, {"columns": {"BH": "code", "MC": "name", "SF": "fee"}})
    assert items[0].fee == "" and [problem.column for problem in report.of("映射")] == ["SF"]
    with pytest.raises(CatalogueError) as error:
        import_items(path, {"columns": {"XX": "name"}})
    one_line(error, "items.csv", "'XX'", "BH, MC")


def test_two_columns_of_one_field_are_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("code,事项名称,name\n1,甲,乙\n", encoding="utf-8")
    with pytest.raises(CatalogueError, match="'事项名称' and 'name' are one field"):
        import_items(tmp_path / "items.csv")


def test_a_toml_mapping(tmp_path: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.importorskip("tomli")
    path = tmp_path / "mapping.toml"
    path.write_text('name = "x"\n[columns]\nMC = "name"\n[columns.SX]\nfield = "fee"\nnothing = "免"\n', encoding="utf-8")
    (tmp_path / "items.csv").write_text("MC,SX\n甲,免\n", encoding="utf-8")
    items, report = import_items(tmp_path / "items.csv", path)
    assert items[0].fee == "" and report.mapping == "x"
    path.write_text("name = [", encoding="utf-8")
    with pytest.raises(CatalogueError, match="no mapping"):
        load(path)


# ---- the 2,262 real items --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> list[dict[str, object]]:
    if not REAL.exists():
        pytest.skip("the real items beside the project are missing (../shared/data/gov/guangdong_service_items)")
    return [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()]


def test_the_real_items_lose_nothing(real: list[dict[str, object]], tmp_path: Path) -> None:
    mapping = builtin()[0]
    items, report = import_items(REAL)
    assert report.mapping == mapping.name and (report.rows, report.imported, report.skipped) == (2262, 2262, 0)
    assert [to_row(entry, mapping) for entry in items] == real
    assert not [problem for problem in report.problems if problem.kind not in ("编码", "缺少")]
    found = items
    for name in ("a.jsonl", "b.csv", "c.xlsx", "d.jsonl"):
        export_items(found, tmp_path / name)
        found, _ = import_items(tmp_path / name)
        assert found == items, name
    assert [to_row(entry, mapping) for entry in found] == real


@pytest.mark.parametrize("name", ["f.jsonl", "f.csv", "f.xlsx"])
def test_the_real_items_in_their_own_columns(real: list[dict[str, object]], tmp_path: Path, name: str) -> None:
    mapping = builtin()[0]
    items, _ = import_items(REAL)
    export_items(items, tmp_path / name, mapping)
    found, report = import_items(tmp_path / name)
    assert found == items and report.mapping == mapping.name
    assert [to_row(entry, mapping) for entry in found] == real


def test_the_fields_of_the_real_items(real: list[dict[str, object]]) -> None:
    """Counts taken from the file with other means than the import."""
    items, report = import_items(REAL)
    by_code = {entry.code: entry for entry in items}
    assert len(by_code) == 2262
    for row in real:
        entry = by_code[str(row["TASK_CODE"])]
        assert entry.name == str(row["TASK_NAME"]).strip() and entry.authority == str(row["DEPT_NAME"]).strip()
        assert entry.base_code == row["CATAID"] and entry.kind == row["matter_type"] and entry.level == row["matter_level"]
        assert entry.region == {"440000": "44", "440100": "4401"}[str(row["AREACODE"])]
        assert entry.online is (row["URL"] is not None) and entry.url == (row["URL"] or "")
        assert (entry.places[0].name == "无线下办理窗口") == (row["handle_location"] == "无线下办理窗口")
        assert entry.mail is (row["courier_service"] == "是") and entry.visits == int(str(row["visit_number"]))
        assert bool(entry.conditions) == (row["accept_standard"] != "无")
        wanted = [] if row["material_intro"] == "无" else row["material_intro"]
        assert [material.name for material in entry.materials] == [text.strip() for text in wanted]
        for column in ("matter_short", "matter_daily", "matter_name", "CATANAME"):
            alias = str(row[column]).strip()
            assert alias in ("无", entry.name) or alias in entry.aliases
        bare = "".join(str(row["accept_standard"]).split())
        assert bare == "无" or "".join("".join(entry.conditions).split()) == bare
    assert sum("校验位" in problem.text for problem in report.problems) == 6
    assert {entry.authority_code for entry in items if not entry.authority_code} == {""}
    assert sum(not entry.authority_code for entry in items) == 6
