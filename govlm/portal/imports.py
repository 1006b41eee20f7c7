"""Files with items or policies, on their way into the catalogue: read, compared with what is there, and made live when an administrator
says so. What is published is what was shown: the records that were read, not the file.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from govlm.hall.catalogue.cells import show
from govlm.hall.catalogue.passages import top
from govlm.hall.catalogue.records import FIELDS, Document, Item, from_dict, to_dict
from govlm.hall.catalogue.report import Report
from govlm.hall.hall import Hall
from govlm.hall.protection.sessions import utc
from govlm.portal.errors import PortalError
from govlm.portal.store.tables import tables

__all__ = ["Change", "Difference", "Import", "Imports", "Kind", "compared"]

Kind = Literal["items", "policies"]
_SHOWN = 500  # records with their differences, and problems, that a report lists
_CUT = 400  # characters of a value that are shown
_DOCUMENT = {
    "title": "标题", "number": "文号", "issuer": "发文机关", "issued": "发布日期", "valid_from": "生效日期", "valid_to": "失效日期",
    "region": "行政区划", "level": "层级", "url": "网址",
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """field: of the record, or a passage of a document; label: for people. before, after: as cells show them, cut; "" where there is
    nothing."""

    field: str
    label: str
    before: str
    after: str


@dataclass(frozen=True)
class Change:
    """Of a record."""

    code: str
    name: str
    change: Literal["new", "changed", "removed"]
    fields: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Import:
    """status: "preview", "published" or "dropped". report: as `Report`, its problems cut to the first. counts: new, changed, removed,
    same. changes: the first of them. version: of the catalogue that they were compared with. whole: records that the file does not name
    are removed. by: a pseudonym. at: UTC, ISO."""

    id: str
    kind: Kind
    name: str
    status: str
    by: str
    at: str
    report: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    version: int = 0
    whole: bool = False


class Imports:
    """folder: where records wait, a folder for each import. taught: wordings that items were taught, which a file does not hold."""

    def __init__(self, hall: Hall, folder: Path, taught: Callable[[], Mapping[str, Sequence[str]]] = dict) -> None:
        self._hall, self._folder, self._taught = hall, folder, taught

    # ---- read

    def all(self, limit: int = 100) -> list[Import]:
        """The newest first."""
        table = tables()["imports"]
        query = sa.select(table).where(table.c.status != "dropped").order_by(table.c.at.desc(), table.c.id).limit(limit)
        with self._hall.store.database.read() as connection:
            return [_unpacked(row) for row in connection.execute(query)]

    def get(self, id: str) -> Import:
        """LookupError: there is none, or it was dropped."""
        table = tables()["imports"]
        with self._hall.store.database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == id, table.c.status != "dropped")).first()
        if row is None:
            raise LookupError(id)
        return _unpacked(row)

    # ---- changed

    def preview(
        self, kind: Kind, files: Sequence[Path], by: str, now: datetime, *, mapping: Path | None = None, region: str = "",
        whole: bool = False,
    ) -> Import:  # fmt: skip
        """Reads the files (one for items) and compares them with the catalogue, which stays as it is. CatalogueError: they cannot be
        read at all. The files may go then."""
        from govlm.hall.catalogue.columns import import_items  # what reads files is not needed to answer
        from govlm.hall.catalogue.documents import import_documents

        records: Sequence[Item | Document]
        if kind == "items":
            records, report = import_items(files[0], mapping)
        else:
            records, report = import_documents(files, region, self._hall.store.documents())
        id = secrets.token_hex(8)
        place = self._folder / id
        place.mkdir(parents=True, mode=0o700)
        try:
            lines = (json.dumps(to_dict(record), ensure_ascii=False) + "\n" for record in records)
            (place / "records.jsonl").write_bytes("".join(lines).encode("utf-8", "surrogatepass"))
            name = "、".join(file.name for file in files[:3]) + (" …" if len(files) > 3 else "")
            counts, changes, version = self._compared(kind, records, whole)
            found = Import(id, kind, name, "preview", by, utc(now), _shown(report), counts, changes, version, whole)
            table = tables()["imports"]
            self._hall.writer.submit(lambda connection: connection.execute(table.insert().values(**_packed(found))))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return found

    def publish(self, id: str, by: str, now: datetime) -> Import:
        """Makes the records of a preview live; questions go on meanwhile, and see all of it or nothing. PortalError "conflict": it is live
        already, or the catalogue has changed so that other differences are to be shown first. LookupError: there is none."""
        found = self.get(id)
        if found.status != "preview":
            raise PortalError("conflict", "这次导入已经发布过了。")
        records = self._records(found)
        counts, changes, version = self._compared(found.kind, records, found.whole)
        if version != found.version and (counts, changes) != (found.counts, found.changes):
            self._write(replace(found, counts=counts, changes=changes, version=version))
            raise PortalError("conflict", "预览之后目录又有变化，已重新比较，请核对后再发布。")
        if found.kind == "items":
            self._hall.store.put_items(self._with_wordings(records), replace_all=found.whole)
        else:
            self._hall.store.put_documents(records, replace_all=found.whole)  # type: ignore[arg-type]
        self._hall.reindex()
        found = replace(found, status="published", by=by, at=utc(now))
        self._write(found)
        shutil.rmtree(self._folder / id, ignore_errors=True)
        return found

    def drop(self, id: str) -> Import:
        """Forgets an import; what was published stays. LookupError: there is none."""
        found = self.get(id)
        self._write(replace(found, status="dropped"))
        shutil.rmtree(self._folder / id, ignore_errors=True)
        return found

    # ---- inside

    def _records(self, found: Import) -> list[Any]:
        kind: Any = Item if found.kind == "items" else Document
        try:
            text = (self._folder / found.id / "records.jsonl").read_bytes().decode("utf-8", "surrogatepass")
        except FileNotFoundError:
            raise PortalError("conflict", "这次导入的数据已不在，请重新上传。") from None
        return [from_dict(kind, json.loads(line)) for line in text.split("\n") if line]

    def _with_wordings(self, items: Iterable[Item]) -> list[Item]:
        taught = self._taught()
        return [
            replace(item, wordings=tuple(dict.fromkeys((*item.wordings, *taught[item.code])))) if item.code in taught else item
            for item in items
        ]

    def _compared(
        self, kind: Kind, records: Sequence[Item | Document], whole: bool
    ) -> tuple[dict[str, int], tuple[Change, ...], int]:
        with self._hall.store.snapshot() as view:
            there: list[Any] = view.items() if kind == "items" else view.documents()
            version = view.version
        if kind == "items":
            records = self._with_wordings(records)  # type: ignore[arg-type]
        counts, changes = compared(records, there, whole)
        return counts, tuple(changes[:_SHOWN]), version

    def _write(self, found: Import) -> None:
        table = tables()["imports"]
        values = _packed(found)
        self._hall.writer.submit(
            lambda connection: connection.execute(table.update().where(table.c.id == found.id).values(**values))
        )


# -------------------------------------------------------------------------------------------------------------- differences


def compared(
    records: Iterable[Item | Document], there: Iterable[Item | Document], whole: bool = False
) -> tuple[dict[str, int], list[Change]]:
    """(how many are new, changed, removed, same; the changes: what is new, then changed, then removed). whole: as for `Import`."""
    old = {record.code: record for record in there}
    new, changed, same = [], [], 0
    for record in records:
        before = old.pop(record.code, None)
        fields = _differences(before, record)
        if before is None:
            new.append(Change(record.code, _name(record), "new", fields))
        elif fields:
            changed.append(Change(record.code, _name(record), "changed", fields))
        else:
            same += 1
    removed = [Change(record.code, _name(record), "removed") for record in old.values()] if whole else []
    counts = {"new": len(new), "changed": len(changed), "removed": len(removed), "same": same}
    return counts, [*new, *changed, *removed]


def _name(record: Item | Document) -> str:
    return record.name if isinstance(record, Item) else record.title


def _differences(before: Item | Document | None, after: Item | Document) -> tuple[Difference, ...]:
    if isinstance(after, Item):
        pairs = [(name, label, _cell(before, name), _cell(after, name)) for name, label in FIELDS.items() if name != "code"]
    else:
        pairs = [(name, label, _value(before, name), _value(after, name)) for name, label in _DOCUMENT.items()]
        old, new = _passages(before), _passages(after)
        ids = list(dict.fromkeys([*new, *old]))
        pairs += [(id, id, old.get(id, ""), new.get(id, "")) for id in ids]
    return tuple(Difference(name, label, _short(left), _short(right)) for name, label, left, right in pairs if left != right)


def _cell(record: Any, name: str) -> str:
    """As a table's cell shows it; materials, steps and counters one a line."""
    value = () if record is None else getattr(record, name)
    if isinstance(value, tuple) and any(is_dataclass(entry) for entry in value):
        return "\n".join("，".join(filter(None, map(_plain, vars(entry).values()))) for entry in value)
    return "" if record is None else show(name, value) or ""


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "必须交" if value else "不是人人都要交"  # of a material: the only one
    return "" if value is None else f"{value}份" if isinstance(value, int) else str(value)


def _value(record: Any, name: str) -> str:
    value = "" if record is None else getattr(record, name)
    return "" if value is None else str(value)


def _passages(document: Any) -> dict[str, str]:
    if document is None:
        return {}
    return {entry.id: document.text[entry.start : entry.end] for entry in top(document.passages)}


def _short(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[:_CUT]}…"


# -------------------------------------------------------------------------------------------------------------------- rows


def _shown(report: Report) -> dict[str, Any]:
    problems = [asdict(problem) for problem in report.problems[:_SHOWN]]
    return {
        "unit": report.unit, "rows": report.rows, "imported": report.imported, "skipped": report.skipped, "mapping": report.mapping,
        "problems": problems, "problem_count": len(report.problems),
    }  # fmt: skip


def _packed(found: Import) -> dict[str, str]:
    more = {
        "report": found.report, "counts": found.counts, "changes": [asdict(change) for change in found.changes],
        "version": found.version, "whole": found.whole,
    }  # fmt: skip
    text = json.dumps(more, ensure_ascii=False).encode("utf-8", "replace").decode()
    return {
        "id": found.id, "kind": found.kind, "name": found.name, "status": found.status, "by": found.by, "at": found.at,
        "report": text.replace("\\u0000", " "),
    }  # fmt: skip


def _unpacked(row: Any) -> Import:
    more = json.loads(row.report)
    changes = tuple(
        Change(c["code"], c["name"], c["change"], tuple(Difference(**part) for part in c["fields"])) for c in more["changes"]
    )
    return Import(
        row.id, row.kind, row.name, row.status, row.by, row.at, more["report"], more["counts"], changes, more["version"], more["whole"]
    )  # fmt: skip
