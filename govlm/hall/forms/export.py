"""A filled form as JSON and as a Word document to print and sign. The same values give the same bytes."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.records import Item
from govlm.hall.catalogue.tables import library
from govlm.hall.forms.schema import Form, FormField

__all__ = ["export_json", "export_word", "word_document"]

_FONT = "宋体"
_FIXED = datetime(2000, 1, 1)  # the document bears no date but the one that is signed
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def export_json(form: Form, values: Mapping[str, str], item: Item | None = None) -> str:
    """A JSON object, in the form's order: form, version, title, item (code and name), values. ValueError names a field that is unknown."""
    ordered = _ordered(form, values)
    record: dict[str, Any] = {"form": form.id, "version": form.version, "title": form.title}
    if item is not None:
        record["item"] = {"code": item.code, "name": item.name}
    record["values"] = {field.name: value for field, value in ordered if value}
    return json.dumps(record, ensure_ascii=False, indent=2) + "\n"


def export_word(form: Form, values: Mapping[str, str], path: str | os.PathLike[str], item: Item | None = None) -> None:
    """Writes `word_document` to a file."""
    Path(path).write_bytes(word_document(form, values, item))


def word_document(form: Form, values: Mapping[str, str], item: Item | None = None) -> bytes:
    """A .docx: the title, the item, a table of labels and values, a line to sign. Fields without a value stay empty to write in.

    ValueError names a field that is unknown. CatalogueError: python-docx is not installed.
    """
    docx = library("docx", "a Word document")
    shared, oxml, text, table_ = (
        library(f"docx.{name}", "a Word document") for name in ("shared", "oxml.ns", "enum.text", "enum.table")
    )
    ordered = _ordered(form, values)
    document = docx.Document()
    style = document.styles["Normal"]
    style.font.name, style.font.size = _FONT, shared.Pt(12)
    style.element.get_or_add_rPr().get_or_add_rFonts().set(oxml.qn("w:eastAsia"), _FONT)
    section = document.sections[0]
    section.page_width, section.page_height = shared.Mm(210), shared.Mm(297)
    section.left_margin = section.right_margin = shared.Mm(25)

    title = document.add_paragraph()
    title.alignment = text.WD_ALIGN_PARAGRAPH.CENTER
    run = title.add_run(form.title)
    run.bold, run.font.size = True, shared.Pt(18)
    if item is not None:
        document.add_paragraph(f"办理事项：{item.name}（{item.code}）")
        if item.authority:
            document.add_paragraph(f"受理机关：{item.authority}")
    table = document.add_table(rows=0, cols=2, style="Table Grid")
    table.alignment = table_.WD_TABLE_ALIGNMENT.CENTER
    table.autofit = False
    for field, value in ordered:
        row = table.add_row()
        row.height = shared.Mm(9)
        for cell, words, width in zip(row.cells, (field.label, _shown(field, value)), (50, 110), strict=True):
            cell.width = shared.Mm(width)
            cell.vertical_alignment = table_.WD_CELL_VERTICAL_ALIGNMENT.CENTER
            cell.text = words
    document.add_paragraph()
    document.add_paragraph("本人承诺以上内容真实，并对其真实性负责。")
    sign = document.add_paragraph("申请人签名：　　　　　　　　　　　　　　年　　　月　　　日")
    sign.paragraph_format.space_before = shared.Pt(24)
    core = document.core_properties
    core.title, core.author, core.last_modified_by, core.comments = form.title, "", "", ""
    core.created = core.modified = _FIXED
    made = io.BytesIO()
    document.save(made)
    return _timeless(made.getvalue())


def _ordered(form: Form, values: Mapping[str, str]) -> list[tuple[FormField, str]]:
    """Every field that is wanted, with its value or ""."""
    for name in values:
        if name not in form.fields:
            raise ValueError(f"form {form.id}: unknown field {name!r}")
    return [(field, values.get(name, "")) for name, field in form.fields.items() if values.get(name) or field.wanted(values)]


def _shown(field: FormField, value: str) -> str:
    """A value as people read it on paper."""
    if not value:
        return ""
    if field.kind == "date":
        return "".join(f"{int(part)}{unit}" for part, unit in zip(value.split("-"), "年月日", strict=False))
    if field.kind == "amount":
        return f"{value}元"
    return value


def _timeless(made: bytes) -> bytes:
    """The archive with one date for all its parts, in the order of their names but for the first, which must stay."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        for entry in source.infolist():
            info = zipfile.ZipInfo(entry.filename, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            written.writestr(info, source.read(entry))
    return target.getvalue()
