"""The catalogue's imports and exports: a file is read and compared first, and made live by a second request."""

from __future__ import annotations

import asyncio
from pathlib import Path as File
from tempfile import mkdtemp
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from govlm.hall.catalogue.columns import export_items
from govlm.hall.catalogue.documents import export_documents
from govlm.hall.catalogue.report import CatalogueError
from govlm.portal.errors import PortalError
from govlm.portal.imports import Import, Kind
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Principal, Who, allow
from govlm.portal.uploads import DOCUMENTS, MAPPINGS, TABLES, Form, form, uploaded

__all__ = ["router"]

router = APIRouter(prefix="/v1/admin", tags=["administration"])
Id = Annotated[str, Path(max_length=64, description="of the import")]
_FORMATS = {"jsonl": "application/x-ndjson", "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"}


class ProblemOfRow(BaseModel):
    """kind: 缺少, 编码, 重复, 类型, 未知列, 文件, 映射, 表单, … row: number in the file, or a file's name; "" for the whole."""

    kind: str
    text: str
    row: str
    column: str


class ReportView(BaseModel):
    """rows = imported + skipped, in `unit`. problems: the first 500 of problem_count. mapping: name of the columns' mapping."""

    unit: str
    rows: int
    imported: int
    skipped: int
    mapping: str
    problems: list[ProblemOfRow]
    problem_count: int


class DifferenceView(BaseModel):
    """label: of the field, for people; of a document's text: the passage. Long texts are cut."""

    field: str
    label: str
    before: str
    after: str


class ChangeView(BaseModel):
    code: str
    name: str
    change: Literal["new", "changed", "removed"]
    fields: list[DifferenceView]


class Counts(BaseModel):
    """Records, against the catalogue."""

    new: int
    changed: int
    removed: int
    same: int


class ImportSummary(BaseModel):
    """by: the pseudonym of who uploaded or published it."""

    id: str
    kind: Literal["items", "policies"]
    name: str
    status: Literal["preview", "published"]
    whole: bool
    by: str
    at: str
    counts: Counts


class ImportView(ImportSummary):
    """changes: the first 500."""

    report: ReportView
    changes: list[ChangeView]


class ImportsView(BaseModel):
    imports: list[ImportSummary]


_KINDS: dict[str, Kind] = {"items": "items", "policies": "policies"}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["kind", "files"],
    "properties": {
        "kind": {"type": "string", "enum": ["items", "policies"]},
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": f"one for items ({', '.join(TABLES)}), up to 200 for policies ({', '.join(DOCUMENTS)})",
        },
        "mapping": {
            "type": "string",
            "format": "binary",
            "description": "for items: which column is which field, JSON or TOML",
        },
        "region": {
            "type": "string",
            "pattern": r"^\d{0,12}$",
            "description": "for policies: GB/T 2260 code of where they hold",
        },
        "whole": {"type": "boolean", "description": "the files are the whole catalogue: what they do not name is removed"},
    },
}
_ERRORS = ("not_found", "conflict", "too_large", "unsupported_type", "bad_request")
_UPLOAD = allow("administrator", scope="admin", errors=_ERRORS)
_UPLOAD["openapi_extra"] = {
    **_UPLOAD["openapi_extra"],
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}},
}
_ADMIN = allow("administrator", scope="admin", errors=("not_found",))


@router.post("/imports", status_code=201, **_UPLOAD)
async def preview(request: Request, portal: Here, who: Who) -> ImportView:
    """Reads files and says what would change. Nothing is published."""
    async with form(request, portal.settings.upload) as given:
        return _view(await portal.gate.run(_preview, portal, given, who))


@router.get("/imports", **_ADMIN)
async def imports(portal: Here) -> ImportsView:
    """The newest hundred."""
    found = await portal.gate.run(portal.imports.all)
    return ImportsView(imports=[ImportSummary.model_validate(_head(entry)) for entry in found])


@router.get("/imports/{id}", **_ADMIN)
async def one(id: Id, portal: Here) -> ImportView:
    """An import with its problems and differences."""

    def read() -> Import:
        try:
            return portal.imports.get(id)
        except LookupError:
            raise PortalError("not_found") from None

    return _view(await portal.gate.run(read))


@router.post("/imports/{id}/publish", **allow("administrator", scope="admin", errors=("not_found", "conflict")))
async def publish(id: Id, portal: Here, who: Who) -> ImportView:
    """Makes it live. Questions are answered meanwhile, from the old catalogue or from the new one as a whole."""

    def work() -> Import:
        try:
            found = portal.imports.publish(id, portal.pseudonym(who), portal.clock())
        except LookupError:
            raise PortalError("not_found") from None
        portal.audit.record("import.publish", who, f"import:{id}", {"kind": found.kind, **found.counts})
        return found

    return _view(await portal.gate.run(work))


@router.delete("/imports/{id}", status_code=204, **_ADMIN)
async def drop(id: Id, portal: Here, who: Who) -> Response:
    """Forgets an import. What was published stays."""

    def work() -> None:
        try:
            portal.imports.drop(id)
        except LookupError:
            raise PortalError("not_found") from None
        portal.audit.record("import.drop", who, f"import:{id}")

    await portal.gate.run(work)
    return Response(status_code=204)


_FILE = allow("administrator", scope="admin")
_FILE["responses"] = {
    **_FILE["responses"],
    200: {"content": {kind: {} for kind in _FORMATS.values()}, "description": "the file"},
}


@router.get("/export", response_class=FileResponse, **_FILE)
async def export(
    portal: Here,
    who: Who,
    kind: Literal["items", "policies"] = "items",
    format: Annotated[Literal["jsonl", "xlsx"], Query()] = "jsonl",
) -> FileResponse:
    """The whole catalogue as a file that can be imported again: items as JSONL or Excel, policies as JSONL."""
    if kind == "policies" and format == "xlsx":
        raise PortalError("invalid", "政策文件只能导出为JSONL。", fields=["format"])
    folder = File(mkdtemp(prefix="govlm-export-"))
    file = folder / f"{kind}.{format}"

    def write() -> None:
        if kind == "items":
            export_items(portal.hall.store.items(), file)
        else:
            export_documents(portal.hall.store.documents(), file)

    def clean() -> None:
        file.unlink(missing_ok=True)
        folder.rmdir()

    portal.audit.record("catalogue.export", who, detail={"kind": kind, "format": format})
    try:
        await portal.gate.run(write)
    except BaseException:
        await asyncio.to_thread(clean)
        raise
    return FileResponse(file, media_type=_FORMATS[format], filename=file.name, background=BackgroundTask(clean))


def _preview(portal: Portal, given: Form, who: Principal) -> Import:
    limit = portal.settings.upload
    kind: Kind | None = _KINDS.get(given.texts.get("kind", ""))
    if kind is None:
        raise PortalError("invalid", "请选择导入的是事项还是政策文件。", fields=["kind"])
    region = given.texts.get("region", "")
    if not ((region.isascii() and region.isdigit()) or not region) or len(region) > 12:
        raise PortalError("invalid", "行政区划应为数字代码。", fields=["region"])
    files = [uploaded(file, TABLES if kind == "items" else DOCUMENTS, limit) for file in given.files.get("files", ())]
    if not files or (kind == "items" and len(files) > 1):
        raise PortalError("invalid", "请选择一个事项文件。" if kind == "items" else "请选择文件。", fields=["files"])
    mappings = [uploaded(file, MAPPINGS, limit) for file in given.files.get("mapping", ())]
    mapping = mappings[0] if mappings else None
    try:
        found = portal.imports.preview(
            kind, files, portal.pseudonym(who), portal.clock(), mapping=mapping, region=region, whole=given.yes("whole")
        )
    except CatalogueError as error:
        raise PortalError("invalid", _why(error, [*files, *mappings]), fields=["files"]) from None
    portal.audit.record("import.preview", who, f"import:{found.id}", {"kind": kind, **found.counts})
    return found


def _why(error: CatalogueError, files: list[File]) -> str:
    """For the administrator; the folder in which the files lay for a moment is not told."""
    text = str(error)
    for file in files:
        text = text.replace(str(file), file.name).replace(str(file.parent), "")
    if "columns not recognised" in text:
        return f"文件的列名不认识，请上传列的映射，或先导出一份作为样式。（{text}）"
    return f"文件无法导入。（{text}）"


def _head(found: Import) -> dict[str, Any]:
    names = ("id", "kind", "name", "status", "whole", "by", "at", "counts")
    return {name: getattr(found, name) for name in names}


def _view(found: Import) -> ImportView:
    changes = [
        {"code": c.code, "name": c.name, "change": c.change, "fields": [vars(part) for part in c.fields]} for c in found.changes
    ]
    return ImportView.model_validate({**_head(found), "report": found.report, "changes": changes})
