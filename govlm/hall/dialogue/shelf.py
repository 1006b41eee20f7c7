"""The records that a conversation looks up: those of one library, and the hall's procedures."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from govlm.hall.catalogue.records import Item
from govlm.hall.catalogue.report import Report
from govlm.hall.catalogue.tables import replace_file
from govlm.hall.dialogue.procedures import Procedure, ProcedureError, lint, read, standard
from govlm.hall.forms.schema import Form
from govlm.hall.library import Library
from govlm.hall.naming import Naming, names_of, subjects_of

__all__ = ["Procedures", "Shelf"]

_LOG = logging.getLogger(__name__)
_ENDINGS = (".yaml", ".yml", ".json")


class Procedures:
    """The procedures of a hall: files in a folder. What no longer fits the catalogue is left out, with a line in the log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._shelf: Shelf | None = None
        self._read: tuple[object, ...] = ()

    def shelf(self, library: Library) -> Shelf:
        """With the procedures as they are now; made anew when the library or a file has changed."""
        now = (id(library), *((path.name, path.stat().st_mtime_ns) for path in self._files()))
        with self._lock:
            if self._shelf is None or now != self._read:
                self._shelf, self._read = Shelf(library, self._load(library)), now
            return self._shelf

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if path.suffix in _ENDINGS)

    def _load(self, library: Library) -> list[Procedure]:
        found: list[Procedure] = []
        for path in self._files():
            procedure, problems = _checked(path, library)
            if procedure is None:
                _LOG.error("%s: not used: %s", path.name, "; ".join(problems))
            else:
                found.append(procedure)
        return found

    def put(self, files: Iterable[str | os.PathLike[str]], library: Library) -> Report:
        """Takes procedure files into use, those in which `lint` finds nothing, each under the name of its procedure."""
        report = Report(source="", unit="个办理流程")
        for path in map(Path, files):
            report.rows += 1
            procedure, problems = _checked(path, library)
            if procedure is None:
                report.skipped += 1
                for problem in problems:
                    report.add("流程", problem, report.rows)
                continue
            name = "".join(char if char.isalnum() else "-" for char in procedure.id)
            self._folder.mkdir(parents=True, exist_ok=True)
            ending = ".json" if path.suffix == ".json" else ".yaml"
            replace_file(self._folder / f"{name}{ending}", path.read_bytes())
            report.imported += 1
        return report


def _checked(path: Path, library: Library) -> tuple[Procedure | None, list[str]]:
    """The procedure in a file, where nothing is wrong with it; else None and what is."""
    try:
        procedure = read(path, library.items)
    except ProcedureError as error:
        return None, [str(error)]
    problems = lint(procedure, library.items)
    return (None if problems else procedure), problems


class Shelf:
    """What a step looks up; see `book.Book`."""

    def __init__(self, library: Library, procedures: Sequence[Procedure] = ()) -> None:
        self.library = library
        self._own = {procedure.id: procedure for procedure in procedures}
        # one of several items has a name of its own: each of its items keeps the procedure that it has alone
        self._own |= {procedure.items[0]: procedure for procedure in procedures if len(procedure.items) == 1}
        self._forms: dict[str, Form | None] = {}
        self._standard: dict[str, Procedure | None] = {}  # of items without one of their own
        self._naming: Naming | None = None  # made at first use

    def item(self, code: str, /) -> Item | None:
        return self.library.items.get(code)

    def form(self, code: str, /) -> Form | None:
        if code not in self._forms:
            item = self.item(code)
            try:
                self._forms[code] = Form.of(item.form) if item is not None and item.form else None
            except ValueError as error:
                _LOG.error("%s: its form cannot be used: %s", code, error)
                self._forms[code] = None
        return self._forms[code]

    def procedure(self, code: str, /) -> Procedure | None:
        if code in self._own:
            return self._own[code]
        if code not in self._standard:
            item = self.item(code)
            self._standard[code] = standard(item) if item is not None and self.form(code) is not None else None
        return self._standard[code]

    def named(self, text: str) -> list[str]:
        """Codes of the items, and names of the procedures of several, whose name or alias stands in the text: those of the longest one."""
        if self._naming is None:
            procedures = [(p.title, p.id if len(p.items) > 1 else p.items[0]) for p in self._own.values()]
            items = self.library.items.values()
            named = [*procedures, *names_of(items), *subjects_of(items)]
            self._naming = Naming(named, self.library.understander.characters)
        return self._naming.within(text)
