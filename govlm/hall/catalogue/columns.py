"""Service items from JSONL, CSV and Excel files and back, in govlm's own columns or in foreign ones by a mapping.

    items, report = import_items("items.xlsx")
    export_items(items, "items.csv")

Import, then export by the same mapping gives back every row as it was: what a field cannot hold exactly stands in `Item.extra` under
the name of its column, and a column without a field does too. A raw value in `extra` is exported only while the field still says the
same; an item that was edited since is exported as edited. A form may stand in a file of its own: {"$ref": "forms/dibao.json"}, from the
folder of the items' file, is replaced by what it holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from govlm.hall.catalogue import codes, tables
from govlm.hall.catalogue.cells import LABELS, NAMES, parse, show
from govlm.hall.catalogue.mapping import ABSENT, Column, ColumnMapping, Wrong, builtin, derived, load, same
from govlm.hall.catalogue.records import FIELDS, Item, from_dict, to_dict
from govlm.hall.catalogue.report import CatalogueError, Report
from govlm.hall.forms.schema import Form

__all__ = ["export_items", "from_row", "import_items", "to_row"]

_LOST_FORM = "表单文件"  # key of `extra`: the $ref of a form that could not be read
_FORM_LIMIT = 1 << 20  # bytes
MISSING_COLUMNS = "缺少的列"  # key of `extra`: columns of the mapping that the row did not have
_EXPECTED = (
    "authority",
    "conditions",
    "materials",
    "places",
    "promised_limit",
    "fee",
    "consult_phones",
)  # reported where empty
_SAMPLE = 200  # rows whose columns tell the format

Source = str | os.PathLike[str]


def import_items(path: Source, mapping: Source | ColumnMapping | Mapping[str, Any] | None = None) -> tuple[list[Item], Report]:
    """(items in the order of the file, report).

    mapping: a mapping, a mapping file, or None = recognise govlm's own columns and those of the mappings that come with it.
    A row is skipped only without a name; an item without a code gets one that its authority and name determine. Of two rows with one
    code the first stays. CatalogueError: the file cannot be read at all, is of unknown columns, or the mapping is wrong.
    """
    path = Path(path)
    report = Report(source=path.name)
    rows, flat = tables.rows(path, report)
    head = list(itertools.islice(rows, _SAMPLE))
    columns = list(dict.fromkeys(name for _, row in head for name in row))
    chosen = None if mapping is None else mapping if isinstance(mapping, ColumnMapping) else load(_path_or_table(mapping))
    if chosen is None and not _own(columns):
        chosen = next((known for known in builtin() if set(known.recognise) <= set(columns)), None)
        if chosen is None and head:
            shown = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
            raise CatalogueError(f"{path}: columns not recognised ({shown}); name a mapping file")
    report.mapping = "" if chosen is None else chosen.name
    if chosen is not None:
        _check_against(path, chosen, columns)
    reader = _OwnColumns(columns, flat, path) if chosen is None else chosen
    unknown: dict[str, list[int]] = {}
    seen: dict[str, None] = {}
    items: dict[str, Item] = {}
    first: dict[str, int] = {}
    for number, row in itertools.chain(head, rows):
        seen.update(dict.fromkeys(row))
        for name, value in row.items() if _damaged(row) else ():
            if _damaged(value) or _damaged(name):
                report.add("文件", "含有损坏的字符(不是UTF-8的字节，或U+FFFD)", number, name)
        if isinstance(reader, _OwnColumns):
            item = reader.read(row, number, report, unknown)
        else:
            item = _item(_lists(row, reader) if flat else row, reader, number, report, unknown)
        if item is None:
            report.skipped += 1
            continue
        if item.form:
            item = _with_form(item, path.parent, number, report)
        if item.code in items:
            equal = "内容相同" if items[item.code] == item else "内容不同，保留先出现的"
            report.add("重复", f"与第{first[item.code]}行的编码相同，{equal}", number)
            report.skipped += 1
            continue
        items[item.code], first[item.code] = item, number
        _check(item, number, report)
    for name, numbers in unknown.items():
        report.add("未知列", f"没有对应的字段，原样保留在“其他”中({len(numbers)}行)", numbers[0], name)
    for name in chosen.columns if chosen is not None and items else ():
        if name not in seen:
            report.add("映射", "映射中有这一列，文件中没有", "", name)
    report.imported = len(items)
    return list(items.values()), report


def export_items(items: Iterable[Item], path: Source, mapping: Source | ColumnMapping | Mapping[str, Any] | None = None) -> int:
    """Writes items to a .jsonl, .csv, .tsv or .xlsx file (.gz too) and returns their number. mapping: as in `import_items`; None = govlm's own.

    The file is replaced whole or left as it was.
    """
    path = Path(path)
    kind = tables.format_of(path)
    items = list(items)
    if mapping is not None:
        chosen = mapping if isinstance(mapping, ColumnMapping) else load(_path_or_table(mapping))
        records = [to_row(item, chosen) for item in items]
        columns = list(dict.fromkeys([*chosen.columns, *(name for record in records for name in record)]))
    elif kind == "jsonl":
        records, columns = [to_dict(item) for item in items], []
    else:
        records = [{LABELS[name]: show(name, getattr(item, name)) for name in FIELDS} for item in items]
        columns = list(LABELS.values())
    tables.write(path, columns, records)
    return len(items)


def _path_or_table(mapping: Source | Mapping[str, Any]) -> Path | Mapping[str, Any]:
    return mapping if isinstance(mapping, Mapping) else Path(mapping)


def _own(columns: list[str]) -> bool:
    return any(name in columns for name in ("name", LABELS["name"]))


def _check_against(path: Path, mapping: ColumnMapping, columns: list[str]) -> None:
    """Refuses a mapping that has nothing to do with the file."""
    (name,) = (column.name for column in mapping.by_field()["name"])
    if columns and name not in columns:
        shown = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
        raise CatalogueError(f"{path}: the mapping takes the name from column {name!r}, which is not there (there are {shown})")


def _check(item: Item, number: int, report: Report) -> None:
    for text in codes.check(item.code, item.base_code, item.kind, item.level):
        report.add("编码", text, number)
    for name in _EXPECTED:
        if not getattr(item, name):
            report.add("缺少", "没有内容", number, LABELS[name])
    if item.valid_from and item.valid_to and item.valid_to < item.valid_from:
        report.add("类型", "失效日期早于生效日期", number)


def _with_form(item: Item, folder: Path, number: int, report: Report) -> Item:
    """The item with the form that it refers to. What is wrong with a form is reported; one that cannot be read is left out."""
    form, shown = item.form, LABELS["form"]
    if set(form) == {"$ref"}:
        name = form["$ref"]
        read, wrong = _read_form(folder, name) if isinstance(name, str) else ({}, "$ref应当是文件名")
        if wrong:
            report.add("表单", f"{wrong}：{str(name)[:80]}", number, shown)
            return replace(item, form={}, extra={**item.extra, _LOST_FORM: name})
        for problem in Form.problems(read):
            report.add("表单", problem, number, shown)
        item = replace(item, form=read)
    return item


def _read_form(folder: Path, name: str) -> tuple[dict[str, Any], str]:
    """(the schema, what is wrong). Only files below the folder are read."""
    root = folder.resolve()
    try:
        file = (root / name).resolve()
        if root not in file.parents:
            return {}, "表单文件不在事项文件的目录里"
        if file.stat().st_size > _FORM_LIMIT:
            return {}, "表单文件太大"
        schema = json.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}, "没有这个表单文件"
    except (OSError, ValueError, RecursionError):
        return {}, "表单文件不能读取，或者不是JSON"
    return (schema, "") if isinstance(schema, dict) else ({}, "表单文件里不是JSON对象")


def made_code(authority: str, name: str) -> str:
    """The code of an item that has none: the same authority and name always give the same."""
    return "GOVLM-" + hashlib.sha256(f"{authority}\n{name}".encode("utf-8", "replace")).hexdigest()[:16].upper()


# ---- foreign columns -------------------------------------------------------------------------------------------------


def from_row(row: Mapping[str, Any], mapping: ColumnMapping) -> tuple[Item | None, Report]:
    """The item of one row, and what is wrong with it. None: it has no name."""
    report = Report()
    return _item(row, mapping, 1, report, {}), report


def _lists(row: Mapping[str, Any], mapping: ColumnMapping) -> dict[str, Any]:
    """The row of a table with its lists, which stand in their cells as JSON."""
    found = dict(row)
    for name, raw in row.items():
        column = mapping.columns.get(name)
        if raw and raw[:1] == "[" and column and column.field and column.empty() == ():
            with contextlib.suppress(ValueError, RecursionError):
                found[name] = json.loads(raw)
    return found


def _damaged(raw: Any) -> bool:
    return (
        raw is not ABSENT
        and raw is not None
        and tables.DAMAGED in (raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False))
    )


def _read(column: Column, raw: Any) -> Any:
    """The value of a column, empty where it cannot be understood."""
    try:
        return column.empty() if _damaged(raw) else column.read(raw)
    except Wrong:
        return column.empty()


def _item(
    row: Mapping[str, Any], mapping: ColumnMapping, number: int, report: Report, unknown: dict[str, list[int]]
) -> Item | None:
    values: dict[str, Any] = {}
    added: list[tuple[Column, Any]] = []
    for column in mapping.columns.values():
        if not column.field:
            continue
        raw = row.get(column.name, ABSENT)
        try:
            value = column.empty() if _damaged(raw) else column.read(raw)
        except Wrong as error:
            report.add("类型", str(error), number, column.name)
            value = column.empty()
        if column.append:
            added.append((column, value))
        else:
            values[column.field] = value
    for column, value in added:
        there = values.get(column.field, ())
        values[column.field] = there + tuple(part for part in _adds(column, value, values) if part not in there)
    if not values["name"]:
        report.add("缺少", "没有事项名称，跳过这一行", number, mapping.by_field()["name"][0].name)
        return None
    if not values.get("code"):
        values["code"] = made_code(values.get("authority", ""), values["name"])
        report.add("编码", "没有编码，按实施主体和事项名称生成", number)
    values |= derived(values, mapping.derive)
    item = Item(**values)
    back = to_row(item, mapping)
    extra: dict[str, Any] = {}
    absent = []
    for name, written in back.items():
        raw = row.get(name, ABSENT)
        source = mapping.columns[name].repeats
        if source and row.get(source, ABSENT) is not ABSENT:
            written = _repeated(mapping.columns[name], row[source])
        if raw is ABSENT:
            absent.append(name)
        elif not same(raw, written):
            extra[name] = raw
    for name, raw in row.items():
        if name not in mapping.columns:
            unknown.setdefault(name, []).append(number)
            extra[name] = raw
    if absent:
        extra[MISSING_COLUMNS] = absent
    values["extra"] = extra
    return Item(**values)


def _adds(column: Column, value: tuple[Any, ...], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an appending column adds: not what another field says already."""
    known = values.get(column.unless) if column.unless else None
    return tuple(dict.fromkeys(part for part in value if part != known))


def to_row(item: Item, mapping: ColumnMapping) -> dict[str, Any]:
    """The row of an item in the mapping's columns, followed by those of its `extra`."""
    row: dict[str, Any] = {}
    absent = item.extra.get(MISSING_COLUMNS, ()) if MISSING_COLUMNS not in mapping.columns else ()
    for column in mapping.columns.values():
        raw = item.extra.get(column.name, ABSENT)
        if raw is not ABSENT and _holds(item, column, raw):
            row[column.name] = raw
        elif column.field:
            row[column.name] = _written(item, column)
    for column in mapping.columns.values():  # those that repeat others come when these are there
        if column.name not in row:
            nothing = column.nothing[0] if column.nothing else None
            row[column.name] = _repeated(column, row[column.repeats]) if column.repeats else nothing
    row = {name: row[name] for name in mapping.columns}
    for name in absent:
        row.pop(name, None)
    for name, raw in item.extra.items():
        if name not in mapping.columns and name != MISSING_COLUMNS:
            row[name] = raw
    return row


def _repeated(column: Column, value: Any) -> Any:
    return column.words.get(value, value) if isinstance(value, str) else value


def _holds(item: Item, column: Column, raw: Any) -> bool:
    """Whether a raw value still says what the item says."""
    if not column.field:
        return True
    value = _read(column, raw)
    now = getattr(item, column.field)
    if column.append:
        return set(_adds(column, value, {column.unless: getattr(item, column.unless, "")})) <= set(now)
    return bool(value == now)


def _written(item: Item, column: Column) -> Any:
    if column.append:
        known = getattr(item, column.unless) if column.unless else ""
        return known or (column.nothing[0] if column.nothing else None)
    return column.write(getattr(item, column.field))


# ---- own columns -----------------------------------------------------------------------------------------------------


class _OwnColumns:
    """govlm's own columns, by their English or Chinese names; flat: the values are the cells of a table."""

    def __init__(self, columns: list[str], flat: bool, path: Path) -> None:
        self.flat = flat
        names = [NAMES.get(column, column) for column in columns]
        for name in FIELDS:
            if names.count(name) > 1:
                both = " and ".join(repr(column) for column in columns if NAMES.get(column, column) == name)
                raise CatalogueError(f"{path}: columns {both} are one field")

    def read(self, row: Mapping[str, Any], number: int, report: Report, unknown: dict[str, list[int]]) -> Item | None:
        if not self.flat and row.get("name") and row.get("code") and not _damaged(row):
            with contextlib.suppress(ValueError, TypeError, RecursionError):  # the usual case; else field by field
                return from_dict(Item, row)
        known: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for column, value in row.items():
            name = NAMES.get(column, column)
            if name not in FIELDS:
                if value is not None or not self.flat:
                    rest[column] = value
                    unknown.setdefault(column, []).append(number)
            elif _damaged(value) and name != "extra":
                rest[column] = value
            elif value is not None:
                self._field(name, column, value, known, rest, number, report)
        if not known.get("name"):
            report.add("缺少", "没有事项名称，跳过这一行", number, LABELS["name"])
            return None
        if not known.get("code"):
            known["code"] = made_code(known.get("authority", ""), known["name"])
            report.add("编码", "没有编码，按实施主体和事项名称生成", number)
        if rest:
            extra = dict(known.get("extra", {}))
            for column, value in rest.items():
                while column in extra and not same(extra[column], value):
                    column += "'"
                extra[column] = value
            known["extra"] = extra
        return Item(**known)

    def _field(
        self, name: str, column: str, value: Any, known: dict[str, Any], rest: dict[str, Any], number: int, report: Report
    ) -> None:
        try:
            if self.flat:
                known[name] = parse(name, value)
            else:
                known[name] = getattr(from_dict(Item, {"code": "-", "name": "-", name: value}), name)
        except (ValueError, KeyError, TypeError, RecursionError):
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            report.add("类型", f"内容的类型不对，移到“其他”中：{shown[:40]}", number, column)
            rest[column] = value
