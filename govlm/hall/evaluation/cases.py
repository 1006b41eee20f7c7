"""Case files: sentences with what is right about them, one JSON object a line.

    business.jsonl      {text, business, item}        item: a name, as in the catalogue
    out_of_scope.jsonl  {text}
    acts.jsonl          {text, act}
    slots.jsonl         {text, today, slots: [{kind, text, start, end, value[, valid]}]}
    answers.jsonl       {text, item, asks, refused, kind}     asks [] and refused false = the item as a whole; item "" = none;
                        document: the title of one that must be quoted; then item may be ""
    privacy.jsonl       {text, spans: [{kind, text, start, end, valid}]}      valid null = the kind has no check
    forms.jsonl         {form, text, today, fields: {name: value}, problems: [kind]}     form: its $id; asking: the field that was asked
    dialogue.yaml       scripted conversations, see `scripts`
    policy.jsonl        {text, length, summary: [text], points: {field: [text]}, keywords: [text]}      text: the title of a document;
                        what its summary of `length` characters, the fields of its interpretation and its five key terms must hold

Places are in characters. Keys that are not named here are not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from govlm.hall.answers.compose import KINDS
from govlm.hall.catalogue.tables import library
from govlm.hall.evaluation.scripts import check_script
from govlm.hall.privacy import KINDS as PERSONAL
from govlm.hall.understanding.examples import ACTS

__all__ = ["FILES", "SLOTS", "Case", "Cases", "CasesError"]

FILES: dict[str, tuple[str, ...]] = {
    "understanding": ("business", "out_of_scope", "acts", "slots"),
    "retrieval": ("business",),
    "answers": ("answers",),
    "privacy": ("privacy",),
    "forms": ("forms",),
    "dialogue": ("dialogue",),
    "policy": ("policy",),
    "push": (),  # replays a log that is simulated
}  # what each suite reads
POINTS = ("who", "what", "when", "amounts", "effect")  # fields of an interpretation
SLOTS = {
    **PERSONAL, "name": "姓名", "address": "地址", "date": "日期", "amount": "金额", "organisation": "单位名称",
}  # fmt: skip  # kinds of slots, and what they are called


class CasesError(ValueError):
    """A case file that is missing or malformed; names the file and the line."""


class Case(NamedTuple):
    """line: of its file, from 1. values: the object that stands there."""

    line: int
    values: Mapping[str, Any]

    @property
    def text(self) -> str:
        return str(self.values["text"])


@dataclass(frozen=True)
class Cases:
    """The cases of each file that was read, by the file's name without its ending."""

    folder: Path
    files: Mapping[str, Sequence[Case]]

    @property
    def suites(self) -> tuple[str, ...]:
        """Those whose files were read."""
        return tuple(suite for suite, files in FILES.items() if all(name in self.files for name in files))

    @classmethod
    def read(cls, folder: Path, suites: Iterable[str] | None = None) -> Cases:
        """Reads and checks the files that the suites need (default: those of the suites that the folder has all files of). CasesError
        names the first thing that is wrong."""
        if not folder.is_dir():
            raise CasesError(f"{folder}: no such folder of case files")
        if suites is None:
            suites = [suite for suite, files in FILES.items() if all((folder / _file(name)).is_file() for name in files)]
            if not any(FILES[suite] for suite in suites):
                every = dict.fromkeys(name for files in FILES.values() for name in files)
                raise CasesError(f"{folder}: holds none of the case files {', '.join(map(_file, every))}")
        names = dict.fromkeys(name for suite in suites for name in FILES[suite])
        if missing := [_file(name) for name in names if not (folder / _file(name)).is_file()]:
            raise CasesError(f"{folder}: {', '.join(missing)} missing; the suites that were chosen read them")
        return cls(folder, {name: _cases(folder / _file(name)) for name in names})

    def where(self, name: str, case: Case) -> str:
        return f"{self.folder / _file(name)}:{case.line}"

    def check_names(self, items: Iterable[str], businesses: Iterable[str]) -> None:
        """CasesError where a case wants an item or a business type that the hall does not have: it could never be right."""
        known = {"item": set(items), "business": set(businesses)}
        for name in ("business", "answers"):
            for case in self.files.get(name, ()):
                for key, names in known.items():
                    wanted = "" if case.values.get("refused") else case.values.get(key, "")
                    if wanted and wanted not in names:
                        what = "an item" if key == "item" else "a business type"
                        raise CasesError(f"{self.where(name, case)}: {wanted!r} is not {what} of this hall")


def _file(name: str) -> str:
    return f"{name}.yaml" if name == "dialogue" else f"{name}.jsonl"


def _cases(path: Path) -> tuple[Case, ...]:
    return _scripts(path) if path.suffix == ".yaml" else _read(path, _FORMS[path.stem])


def _scripts(path: Path) -> tuple[Case, ...]:
    """Scripts, each a case; its line is its place in the file."""
    yaml = library("yaml", "the suite dialogue")
    try:
        rows = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise CasesError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(rows, list) or not rows:
        raise CasesError(f"{path}: a list of scripts is expected")
    for row in rows:
        if problem := check_script(row):
            raise CasesError(f"{path}: {problem}")
    return tuple(Case(number, {"text": row["name"], **row}) for number, row in enumerate(rows, 1))


def _read(path: Path, form: Callable[[dict[str, Any]], None]) -> tuple[Case, ...]:
    found = []
    with open(path, "rb") as handle:
        for number, raw in enumerate(handle, 1):
            where = f"{path}:{number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise CasesError(f"{where}: byte {error.start + 1} of the line is not UTF-8") from None
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CasesError(f"{where}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise CasesError(f"{where}: an object {{…}} is expected")
            try:
                form(row)
            except _FormError as error:
                raise CasesError(f"{where}: {error}") from None
            found.append(Case(number, row))
    if not found:
        raise CasesError(f"{path}: holds no cases")
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------ forms of the rows


class _FormError(ValueError):
    pass


def _value(row: Mapping[str, Any], key: str, kind: type, called: str) -> Any:
    if key not in row:
        raise _FormError(f"{key!r} is missing")
    value = row[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _FormError(f"{key!r}: {called} is expected, not {value!r}")
    return value


def _text(row: Mapping[str, Any], key: str = "text", empty: bool = False) -> str:
    text: str = _value(row, key, str, "text")
    if not (empty or text):
        raise _FormError(f"{key!r} is empty")
    return text


def _business(row: dict[str, Any]) -> None:
    for key in ("text", "business", "item"):
        _text(row, key)


def _out_of_scope(row: dict[str, Any]) -> None:
    _text(row)


def _acts(row: dict[str, Any]) -> None:
    _text(row)
    if _text(row, "act") not in ACTS:
        raise _FormError(f"'act': {row['act']!r} is none of {', '.join(ACTS)}")


def _slots(row: dict[str, Any]) -> None:
    _text(row)
    try:
        date.fromisoformat(_text(row, "today"))
    except ValueError:
        raise _FormError(f"'today': a date like 2026-03-05 is expected, not {row['today']!r}") from None
    for mark in _marks(row, "slots", SLOTS):
        _text(mark, "value", empty=True)
        if mark.get("valid") not in (None, True, False):
            raise _FormError(f"'valid': true, false or null is expected, not {mark['valid']!r}")


def _answers(row: dict[str, Any]) -> None:
    _text(row)
    _text(row, "kind")
    item = _text(row, "item", empty=True)
    refused = _value(row, "refused", bool, "true or false")
    for part in _value(row, "asks", list, "a list of parts"):
        if part not in KINDS:
            raise _FormError(f"'asks': {part!r} is none of {', '.join(KINDS)}")
    document = _text(row, "document", empty=True) if "document" in row else ""
    if not refused and not (item or document):
        raise _FormError("'item' is empty, but 'refused' is false")


def _privacy(row: dict[str, Any]) -> None:
    _text(row)
    for mark in _marks(row, "spans", PERSONAL):
        if "valid" not in mark:
            raise _FormError("'valid' is missing in a span")
        if mark["valid"] not in (None, True, False):
            raise _FormError(f"'valid': true, false or null is expected, not {mark['valid']!r}")


def _forms(row: dict[str, Any]) -> None:
    for key in ("form", "text"):
        _text(row, key)
    try:
        date.fromisoformat(_text(row, "today"))
    except ValueError:
        raise _FormError(f"'today': a date like 2026-03-05 is expected, not {row['today']!r}") from None
    for name, value in _value(row, "fields", dict, "an object of fields").items():
        if not isinstance(value, str):
            raise _FormError(f"'fields': {name!r}: text is expected, not {value!r}")
    _value(row, "problems", list, "a list of kinds")


def _policy(row: dict[str, Any]) -> None:
    _text(row)
    _value(row, "length", int, "a number of characters")
    for key in ("summary", "keywords"):
        _value(row, key, list, "a list of texts")
    for name, texts in _value(row, "points", dict, "an object of fields").items():
        if name not in POINTS or not isinstance(texts, list):
            raise _FormError(f"'points': {name!r}: a list of texts for one of {', '.join(POINTS)} is expected")


def _marks(row: Mapping[str, Any], key: str, kinds: Iterable[str]) -> list[Mapping[str, Any]]:
    marks: list[Mapping[str, Any]] = _value(row, key, list, "a list")
    for mark in marks:
        if not isinstance(mark, dict):
            raise _FormError(f"{key!r}: a list of objects {{…}} is expected")
        if _text(mark, "kind") not in kinds:
            raise _FormError(f"{key!r}: kind {mark['kind']!r} is none of {', '.join(kinds)}")
        start, end = _value(mark, "start", int, "a whole number"), _value(mark, "end", int, "a whole number")
        if row["text"][max(start, 0) : end] != _text(mark):
            raise _FormError(f"{key!r}: at [{start}, {end}) the text does not read as marked ({mark['kind']})")
    return marks


_FORMS: dict[str, Callable[[dict[str, Any]], None]] = {
    "business": _business,
    "out_of_scope": _out_of_scope,
    "acts": _acts,
    "slots": _slots,
    "answers": _answers,
    "privacy": _privacy,
    "forms": _forms,
    "policy": _policy,
}
