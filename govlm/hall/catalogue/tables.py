"""Rows of JSONL, CSV and Excel files, both ways; nothing here knows what a column means.

Read: `rows(path, report)`. Damage that touches a row is reported and that row goes on as far as it can; damage that hides the rest of
the file is a CatalogueError. Written: `write(path, columns, rows)`, whole or not at all.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.report import CatalogueError, Report

__all__ = ["DAMAGED", "FORMATS", "format_of", "library", "replace_file", "rows", "write"]

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".xlsx": "excel"}
DAMAGED = "\ufffd"  # stands for bytes that are no characters
SIZE_LIMIT = 512 << 20  # bytes
_CELL_LIMIT = 32_767  # characters that Excel keeps in a cell
_EXACT_DIGITS = 15  # a number in a cell is a double
_CONTINUED = re.compile(r"(.+) \(续(\d+)\)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")

Row = dict[str, Any]


def format_of(path: Path) -> str:
    """jsonl, csv or excel, by the file's name; CatalogueError for another."""
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = FORMATS.get(name.suffix.lower())
    if kind is None:
        old = "; save it as .xlsx" if name.suffix.lower() == ".xls" else ""
        raise CatalogueError(f"{path}: unknown kind of table (known: {', '.join(FORMATS)}){old}")
    return kind


def library(name: str, purpose: str) -> Any:
    """The module of an optional package; CatalogueError that names the extra where it is not installed."""
    import importlib

    if (known := sys.modules.get(name)) is not None:  # asked for at every statement
        return known
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").split(".")[0] != name.split(".")[0]:
            raise
        raise CatalogueError(f'{purpose} needs {name}: pip install "govlm[hall]"') from None


def rows(path: Path, report: Report) -> tuple[Iterator[tuple[int, Row]], bool]:
    """((number of the row, its columns), whether every cell is a text or None). The header of a table is row 1."""
    kind = format_of(path)
    whole = _bytes(path)
    if kind == "excel":
        return _excel(path, whole, report), True
    text = _decode(path, whole, report)
    return (_csv(path, text, report), True) if kind == "csv" else (_jsonl(path, text, report), False)


def _bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise CatalogueError(f"{path}: no such file" if not path.exists() else f"{path}: is no regular file")
        opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
        with opener(path, "rb") as handle:
            whole: bytes = handle.read(SIZE_LIMIT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CatalogueError(f"{path}: the compressed file is damaged: {error}") from None
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(whole) > SIZE_LIMIT:
        raise CatalogueError(f"{path}: larger than {SIZE_LIMIT >> 20} MiB; split it")
    return whole


def _decode(path: Path, whole: bytes, report: Report) -> str:
    """The text, DAMAGED in it for bytes that are no characters. UTF-8, UTF-16 with its mark, GB18030."""
    if whole.startswith((b"\xff\xfe", b"\xfe\xff")):
        return whole.decode("utf-16", "replace")
    try:
        return whole.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = error.start
    # GB18030 takes many a damaged UTF-8 text for Chinese: it is believed only where UTF-8 explains few of the lines.
    lines = [line for line in whole.split(b"\n") if not line.isascii()]
    good = sum(_is_utf8(line) for line in lines)
    if good * 2 < len(lines):
        try:
            text = whole.decode("gb18030")
        except UnicodeDecodeError:
            pass
        else:
            report.add("文件", "文件编码为GB18030，已转换")
            return text
    if b"\x00" in whole[:4096] and not good:
        raise CatalogueError(f"{path}: no text file (byte {place + 1} is neither UTF-8 nor GB18030)")
    return whole.decode("utf-8-sig", "replace")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# ---- JSONL -----------------------------------------------------------------------------------------------------------


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _jsonl(path: Path, text: str, report: Report) -> Iterator[tuple[int, Row]]:
    values: Iterable[tuple[int, Any]]
    if text.lstrip()[:1] == "[":  # one array
        try:
            whole = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise CatalogueError(f"{path}: not JSON: {error}") from None
        values = ((number, _characters(value)) for number, value in enumerate(whole, 1))
    elif (single := _one_value(text)) is not None:  # one object over many lines
        values = [(1, _characters(single))]
    else:
        values = _json_lines(text, report)
    for number, value in values:
        report.rows += 1
        if not isinstance(value, dict):
            report.add("文件", "这一行不是JSON对象", number)
            report.skipped += 1
            continue
        yield number, value


def _one_value(text: str) -> Any:
    if "\n" not in text.strip() or _is_json(text.strip().split("\n", 1)[0]):
        return None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _json_lines(text: str, report: Report) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_constant=_no_constant)
            yield number, _characters(value) if "\\u" in line else value
        except (ValueError, RecursionError) as error:
            where = f"，第{error.colno}个字符处" if isinstance(error, json.JSONDecodeError) else ""
            report.add("文件", f"不是有效的JSON{where}", number)
            report.rows += 1
            report.skipped += 1


def _characters(value: Any) -> Any:
    """The value with DAMAGED for halves of characters (lone surrogates), which no file or database can hold."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return value


# ---- CSV -------------------------------------------------------------------------------------------------------------


def _header(cells: Sequence[str | None], report: Report) -> list[str]:
    """Names of the columns: those without a name, or with one that was there, get one of their own."""
    names: list[str] = []
    for place, cell in enumerate(cells, 1):
        name = (cell or "").strip() or f"第{place}列"
        if name in names:
            report.add("文件", "列名重复", "", name)
            name = f"{name} [第{place}列]"
        names.append(name)
    return names


def _joined(row: Row) -> Row:
    """Cells that were too long for Excel, put together."""
    found: Row = {}
    for name, value in row.items():
        match = _CONTINUED.fullmatch(name)
        if match and match[1] in found:
            if value:
                found[match[1]] = (found[match[1]] or "") + value
        else:
            found[name] = value
    return found


def _csv(path: Path, text: str, report: Report) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 27))
    first = text.split("\n", 1)[0]
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for cells in reader:
            number += 1
            if header is None:
                header = _header(cells, report)
                continue
            if not any(cells):
                continue
            report.rows += 1
            if len(cells) != len(header):
                report.add("文件", f"有{len(cells)}个单元格，表头有{len(header)}列", number)
            names = [*header, *(f"第{place}列" for place in range(len(header) + 1, len(cells) + 1))]
            row = {name: (cells[i] or None) if i < len(cells) else None for i, name in enumerate(names)}
            yield number, _joined(row)
    except csv.Error as error:
        detail = "a quoted cell is not closed" if "end of data" in str(error) else str(error)
        raise CatalogueError(f"{path}: no CSV from line {reader.line_num} on: {detail}") from None


# ---- Excel -----------------------------------------------------------------------------------------------------------


def _excel(path: Path, whole: bytes, report: Report) -> Iterator[tuple[int, Row]]:
    openpyxl = library("openpyxl", "Excel")
    if whole.startswith(b"\xd0\xcf\x11\xe0"):
        raise CatalogueError(f"{path}: of an old Excel (.xls) or encrypted: save it as .xlsx without a password")
    try:
        if sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(whole)).infolist()) > SIZE_LIMIT:
            raise CatalogueError(f"{path}: larger than {SIZE_LIMIT >> 20} MiB when unpacked; split it")
        book = openpyxl.load_workbook(io.BytesIO(whole), read_only=True, data_only=True)
        sheets = book.worksheets
    except CatalogueError:
        raise
    except Exception as error:  # the library promises nothing about what it raises
        raise CatalogueError(f"{path}: no Excel workbook, or damaged ({type(error).__name__}): save it again") from None
    header: list[str] | None = None
    for sheet in sheets:
        if header is not None:
            report.add("文件", f"工作表{sheet.title}没有读取，只读第一张有内容的表")
            continue
        try:
            sheet.reset_dimensions()  # what a sheet says of its own size may be wrong
            for number, cells in enumerate(sheet.iter_rows(), 1):
                values = [_cell(cell, number, report) for cell in cells]
                if not any(values):
                    continue
                if header is None:
                    header = _header(values, report)
                    continue
                report.rows += 1
                names = [*header, *(f"第{place}列" for place in range(len(header) + 1, len(values) + 1))]
                row = {name: values[i] if i < len(values) else None for i, name in enumerate(names)}
                if any(values[len(header) :]):
                    report.add("文件", f"表头只有{len(header)}列，其后还有单元格", number)
                yield number, _joined({name: value for name, value in row.items() if value or name in header})
        except CatalogueError:
            raise
        except Exception as error:  # as above
            raise CatalogueError(f"{path}: damaged ({type(error).__name__}): save it again") from None


def _cell(cell: Any, number: int, report: Report) -> str | None:
    value = cell.value
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "是" if value else "否"
    if isinstance(value, (int, float)):
        text = str(int(value)) if value == int(value) else repr(value)
        if len(text.lstrip("-")) > _EXACT_DIGITS and "." not in text:
            report.add("文件", f"长数字{text}存成了数值，末尾几位可能已丢失，请将该列设为文本", number)
        return text
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if cell.data_type == "e":
        report.add("文件", f"单元格是错误值{value}", number)
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), str(value))


# ---- written ---------------------------------------------------------------------------------------------------------


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows. JSONL takes any JSON; in a table None is an empty cell, and what is no text is written as JSON."""
    kind = format_of(path)
    if kind == "jsonl":
        data = b"".join(_json_line(dict(record)) for record in records)
    elif kind == "csv":
        data = _csv_bytes(columns, records, "\t" if ".tsv" in path.name.lower() else ",")
    else:
        data = _excel_bytes(columns, records)
    replace_file(path, gzip.compress(data, mtime=0) if path.suffix.lower() == ".gz" else data)


def _json_line(record: Row) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(record).encode() + b"\n"


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv_bytes(columns: Sequence[str], records: Iterable[Mapping[str, Any]], delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(columns)
    for record in records:
        writer.writerow([_text(record.get(column)) for column in columns])
    return out.getvalue().encode("utf-8-sig", "replace")  # the mark tells Excel that this is UTF-8


def _excel_bytes(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> bytes:
    openpyxl = library("openpyxl", "Excel")
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font

    table = [[_pieces(_text(record.get(column))) for column in columns] for record in records]
    counts = [max((len(row[i]) for row in table), default=1) for i in range(len(columns))]
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("事项")
    sheet.freeze_panes = "A2"
    header = [[_escape(name) for name in _names(column, count)] for column, count in zip(columns, counts, strict=True)]
    for number, row in enumerate([header, *table]):
        texts = [text for pieces, count in zip(row, counts, strict=True) for text in pieces + [""] * (count - len(pieces))]
        cells = []
        for text in texts:
            cell = WriteOnlyCell(sheet, text or None)
            if text:
                cell.data_type = "s"  # "=…" is a text too
                cell.number_format = "@"
            if number == 0:
                cell.font = Font(bold=True)
            cells.append(cell)
        sheet.append(cells)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _names(column: str, count: int) -> list[str]:
    return [column, *(f"{column} (续{number})" for number in range(2, count + 1))]


def _pieces(text: str) -> list[str]:
    """The escaped text in pieces that fit a cell each: a piece is escaped by itself, so that none is cut within an escape."""
    whole = _escape(text)
    if len(whole) <= _CELL_LIMIT:
        return [whole]
    size = _CELL_LIMIT // 7  # a character becomes at most seven
    return [_escape(text[i : i + size]) for i in range(0, len(text), size)]


def _escape(text: str) -> str:
    """Characters that XML cannot hold, as Excel itself writes them: _x000D_."""
    return _CONTROL.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
