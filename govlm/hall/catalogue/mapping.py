"""Foreign columns: a mapping file says which column goes to which field of an item, and how its values are written there.

A mapping is JSON or TOML:

    name = "某市政务服务网"
    recognise = ["TASK_CODE", "TASK_NAME"]      # columns by which a file is recognised without naming the mapping
    derive = ["authority_code"]                 # fields that the code tells, where no column does
    [columns]
    TASK_CODE = "code"                          # column = field
    TASK_STATE = {}                             # a known column without a field: kept in `extra`
    [columns.handle_time]
    field = "statutory_limit"
    convert = "limit"
    nothing = ["无"]                            # words that mean that there is nothing; the first is written on export

Further keys of a column: `convert` (CONVERSIONS), `yes` and `no` (words), `prefix` (taken off; written on export), `separators`
(characters at which a text is cut into a list), `append` (this column adds to a list that others fill too), `unless` (a field: the value
is left out where it equals that), `repeats` (another column, whose value this one says again) with `words` (its value -> ours).
Every conversion goes both ways; a value that would not come back exactly is kept in `extra` beside the field.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from govlm.hall.catalogue import codes
from govlm.hall.catalogue.cells import hint_of
from govlm.hall.catalogue.records import FIELDS, Place
from govlm.hall.catalogue.report import CatalogueError
from govlm.numbers import credit_code

__all__ = ["ABSENT", "CONVERSIONS", "Column", "ColumnMapping", "Wrong", "builtin", "load", "same"]

ABSENT: Any = object()  # the row has no such column
_DERIVED = ("authority_code", "base_code", "kind", "level")
_EMPTY: dict[type, Any] = {str: "", tuple: (), dict: {}}


class Wrong(ValueError):
    """A value that the column's conversion does not understand; the text is for the report."""


@dataclass(frozen=True)
class Column:
    """A column of a mapping, as the module's text describes it."""

    name: str
    field: str = ""
    convert: str = ""
    nothing: tuple[str, ...] = ()
    yes: tuple[str, ...] = ("是",)
    no: tuple[str, ...] = ("否",)
    prefix: str = ""
    separators: str = ""
    append: bool = False
    unless: str = ""
    repeats: str = ""
    words: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def empty(self) -> Any:
        """The field's value when nothing is known."""
        return _EMPTY.get(hint_of(self.field)[0])

    def read(self, raw: Any) -> Any:
        """The field's value. Wrong: it cannot be understood."""
        if raw is ABSENT or raw is None or raw == []:
            return self.empty()
        if isinstance(raw, str) and (not raw.strip() or raw.strip() in self.nothing):
            return self.empty()
        return CONVERSIONS[self.convert].read(raw, self)

    def write(self, value: Any) -> Any:
        """What stands in the column for a value of the field."""
        if value is None or value == "" or value == () or value == {}:
            return self.nothing[0] if self.nothing else None
        return CONVERSIONS[self.convert].write(value, self)


@dataclass(frozen=True)
class ColumnMapping:
    """columns: in the order in which they are exported."""

    name: str
    columns: Mapping[str, Column]
    recognise: tuple[str, ...] = ()
    derive: tuple[str, ...] = ()

    def by_field(self) -> dict[str, list[Column]]:
        found: dict[str, list[Column]] = {}
        for column in self.columns.values():
            if column.field:
                found.setdefault(column.field, []).append(column)
        return found


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same, true and 1 told apart."""
    if isinstance(a, str) or a is None or a is ABSENT or b is ABSENT:
        return a is b or (type(a) is type(b) and a == b)
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


# ---- conversions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Conversion:
    """read: raw -> value.  write: value -> raw.  fits: whether it fills a field of this type (and, of a tuple, of these parts)."""

    read: Callable[[Any, Column], Any]
    write: Callable[[Any, Column], Any]
    fits: Callable[[Any, Any], bool]


def _string(raw: Any, column: Column) -> str:
    if isinstance(raw, bool) or not isinstance(raw, (str, int, float)):
        raise Wrong(f"应为文本，现为{_short(raw)}")
    text = str(raw).strip()
    return text.removeprefix(column.prefix) if column.prefix else text


def _short(raw: Any) -> str:
    text = json.dumps(raw, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _write_text(value: Any, column: Column) -> Any:
    return column.prefix + str(value)


def _read_number(raw: Any, column: Column) -> int:
    try:
        return int(_string(raw, column))
    except Wrong:
        raise
    except ValueError:
        raise Wrong(f"应为整数，现为{_short(raw)}") from None


def _read_yes_no(raw: Any, column: Column) -> bool:
    if isinstance(raw, bool):
        return raw
    text = _string(raw, column)
    if text not in column.yes and text not in column.no:
        raise Wrong(f"应为{'、'.join(column.yes + column.no)}之一，现为{_short(raw)}")
    return text in column.yes


def _write_yes_no(value: Any, column: Column) -> Any:
    return column.yes[0] if value else column.no[0]


_DATE = re.compile(r"(\d{4})(?:年|[-/.]|(?=\d{4}$))(\d{1,2})(?:月|[-/.]|(?=\d{2}$))(\d{1,2})日?(?:[ T]0?0:00(?::00)?)?")


def _read_date(raw: Any, column: Column) -> date:
    match = _DATE.fullmatch(_string(raw, column))
    try:
        if match:
            return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        pass
    raise Wrong(f"应为日期，现为{_short(raw)}")


def _write_date(value: Any, column: Column) -> Any:
    return value.isoformat()


def _strings(raw: Any, column: Column) -> tuple[str, ...]:
    """A list of texts, or a text that `separators` cut into one."""
    if isinstance(raw, list):
        if not all(isinstance(part, str) for part in raw):
            raise Wrong(f"应为文本的列表，现为{_short(raw)}")
        parts = raw
    else:
        text = _string(raw, column)
        parts = _cut(text, column.separators) if column.separators else [text]
    return tuple(part.strip() for part in parts if part.strip() and part.strip() not in column.nothing)


_BRACKETS = {"（": "）", "(": ")", "[": "]", "【": "】", "《": "》", "“": "”", "〔": "〕"}


def _cut(text: str, separators: str) -> list[str]:
    """The text cut at separators that stand outside brackets."""
    parts, closers = [""], [""]
    for char in text:
        if char == closers[-1] and char:
            closers.pop()
        elif char in _BRACKETS:
            closers.append(_BRACKETS[char])
        elif char in separators and len(closers) == 1:
            parts.append("")
            continue
        parts[-1] += char
    return parts


def _write_strings(value: Any, column: Column) -> Any:
    return column.prefix + column.separators[0].join(value) if column.separators else list(value)


def _read_text_list(raw: Any, column: Column) -> tuple[str, ...]:
    """One text: a list of one."""
    return (_string(raw, column),)


def _write_joined(value: Any, column: Column) -> Any:
    return column.prefix + "".join(value)


def _read_names(raw: Any, column: Column) -> tuple[Any, ...]:
    part = hint_of(column.field)[1]
    return tuple(part(name=name) for name in _strings(raw, column))


def _write_names(value: Any, column: Column) -> Any:
    return _write_strings([entry.name for entry in value], column)


_NUMERALS = "一二三四五六七八九十"


def _numeral(number: int) -> str:
    tens, ones = divmod(number, 10)
    head = ("" if tens == 1 else _NUMERALS[tens - 1]) + "十" if tens else ""
    return head + (_NUMERALS[ones - 1] if ones else "")


_MARKS: tuple[Callable[[int], str], ...] = (
    lambda n: rf"[（(]{_numeral(n)}[）)]",
    lambda n: rf"{_numeral(n)}、",
    lambda n: rf"[（(]{n}[）)]",
    lambda n: rf"(?<![\d.]){n}[、．.](?!\d)",
)


def _read_numbered(raw: Any, column: Column) -> tuple[str, ...]:
    """A text cut before its numbers 1, 2, 3, … of one kind (（一）, 一、, (1), 1.); whole where there are no two of them."""
    text = _string(raw, column)
    for mark in _MARKS:
        places, at = [], 0
        for number in range(1, 99):
            found = re.compile(mark(number)).search(text, at)
            if not found:
                break
            places.append(found.start())
            at = found.end()
        if len(places) >= 2 and (places[0] == 0 or len(text[: places[0]].strip()) > 1):
            edges = [0, *places, len(text)]
            parts = [text[a:b].strip() for a, b in itertools.pairwise(edges)]
            return tuple(part for part in parts if part)
    return (text,)


_PHONE_CUT = re.compile(r"[、，,；;/]")
_PHONE = re.compile(r"[（(+]?\d[\d\-－–—() （）转]*\d")


def _read_phones(raw: Any, column: Column) -> tuple[str, ...]:
    """Numbers one by one, where the text is nothing but numbers; else the whole text."""
    text = _string(raw, column)
    parts = [part.strip() for part in _PHONE_CUT.split(text)]
    full = all(_PHONE.fullmatch(part) and sum(char.isdigit() for char in part) >= 5 for part in parts)
    return tuple(parts) if full else (text,)


def _write_phones(value: Any, column: Column) -> Any:
    return column.prefix + "、".join(value)


_LIMIT = re.compile(r"(\d+)\s*[（(](工作日|自然日)[）)]")
_OWN_LIMIT = re.compile(r"(\d+)个(工作日|自然日)")


def _read_limit(raw: Any, column: Column) -> str:
    """30(工作日) -> 30个工作日; another text stays as it is."""
    text = _string(raw, column)
    match = _LIMIT.fullmatch(text)
    return f"{match[1]}个{match[2]}" if match else text


def _write_limit(value: Any, column: Column) -> Any:
    match = _OWN_LIMIT.fullmatch(value)
    return f"{match[1]}({match[2]})" if match else value


def _read_region(raw: Any, column: Column) -> str:
    """440100 -> 4401, 440000 -> 44; 440106001 (a street) stays."""
    text = _string(raw, column)
    if not text.isdigit() or not 2 <= len(text) <= 12:
        raise Wrong(f"应为行政区划代码，现为{_short(raw)}")
    head = text[:6].rstrip("0") if not text[6:].strip("0") else text
    return head + "0" * (len(head) % 2)


def _write_region(value: Any, column: Column) -> Any:
    return value.ljust(6, "0")


def _read_place(raw: Any, column: Column) -> tuple[Place, ...]:
    """The address of one counter. Where the mapping has a prefix and the text has not, it is no address but says so: 无线下办理窗口."""
    text = str(raw).strip() if isinstance(raw, str) else _string(raw, column)
    if column.prefix and not text.startswith(column.prefix):
        return (Place(name=text),)
    return (Place(address=text.removeprefix(column.prefix).strip()),)


def _write_place(value: Any, column: Column) -> Any:
    return "；".join(column.prefix + place.address if place.address else place.name for place in value)


def _read_json(raw: Any, column: Column) -> dict[str, Any]:
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Wrong(f"应为JSON对象，现为{_short(raw)}")
    return value


def _is(*kinds: type) -> Callable[[Any, Any], bool]:
    return lambda kind, part: kind in kinds


def _texts(kind: Any, part: Any) -> bool:
    return kind is tuple and part is str


def _records(kind: Any, part: Any) -> bool:
    return kind is tuple and part is not str


CONVERSIONS = {
    "text": _Conversion(_string, _write_text, _is(str)),
    "number": _Conversion(_read_number, _write_text, _is(int)),
    "yes_no": _Conversion(_read_yes_no, _write_yes_no, _is(bool)),
    "date": _Conversion(_read_date, _write_date, _is(date)),
    "list": _Conversion(_strings, _write_strings, _texts),
    "one": _Conversion(_read_text_list, _write_joined, _texts),
    "numbered": _Conversion(_read_numbered, _write_joined, _texts),
    "phones": _Conversion(_read_phones, _write_phones, _texts),
    "names": _Conversion(_read_names, _write_names, _records),
    "place": _Conversion(_read_place, _write_place, lambda kind, part: part is Place),
    "limit": _Conversion(_read_limit, _write_limit, _is(str)),
    "region": _Conversion(_read_region, _write_region, _is(str)),
    "json": _Conversion(_read_json, lambda value, column: dict(value), _is(dict)),
}
_DEFAULTS: dict[type, str] = {str: "text", int: "number", bool: "yes_no", date: "date", dict: "json"}


# ---- mapping files ---------------------------------------------------------------------------------------------------


def load(source: str | Path | Mapping[str, Any]) -> ColumnMapping:
    """A mapping from a file (.json, .toml) or from what such a file holds. CatalogueError: one line that says what is wrong with it."""
    if isinstance(source, Mapping):
        return _checked(source, "mapping")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CatalogueError(f"{path}: a mapping is UTF-8 text") from None
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        data = _toml(text) if path.suffix.lower() == ".toml" else json.loads(text, object_pairs_hook=_no_doubles)
    except ValueError as error:
        raise CatalogueError(f"{path}: no mapping: {error}") from None
    return _checked(data, str(path))


def _toml(text: str) -> Any:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        from govlm.hall.catalogue.tables import library

        tomllib = library("tomli", "a TOML mapping")
    return tomllib.loads(text)


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _checked(data: Any, where: str) -> ColumnMapping:
    if not isinstance(data, Mapping) or not isinstance(data.get("columns"), Mapping) or not data["columns"]:
        raise CatalogueError(f'{where}: a mapping has a table "columns": column = field')
    unknown = set(data) - {"name", "recognise", "derive", "columns"}
    if unknown:
        raise CatalogueError(f"{where}: {sorted(unknown)[0]!r} is unknown; a mapping has name, recognise, derive, columns")
    columns = {name: _column(name, entry, f"{where}: column {name!r}") for name, entry in data["columns"].items()}
    mapping = ColumnMapping(
        str(data.get("name", where)), columns, _names(data, "recognise", where), _names(data, "derive", where)
    )
    for name in mapping.recognise:
        if name not in columns:
            raise CatalogueError(f"{where}: recognise names {name!r}, which is no column of the mapping")
    for name in mapping.derive:
        if name not in _DERIVED:
            raise CatalogueError(f"{where}: {name!r} cannot be derived; {', '.join(_DERIVED)} can")
    for target, sources in mapping.by_field().items():
        if len(sources) > 1 and not all(column.append for column in sources):
            both = " and ".join(repr(column.name) for column in sources)
            raise CatalogueError(
                f"{where}: columns {both} go to one field, {target!r}; lists are filled together with append = true"
            )
    if "name" not in mapping.by_field():
        raise CatalogueError(f"{where}: no column goes to the field 'name'")
    for column in columns.values():
        if column.repeats and (column.repeats not in columns or not columns[column.repeats].field):
            raise CatalogueError(
                f"{where}: column {column.name!r} repeats {column.repeats!r}, which is no column with a field of its own"
            )
    return mapping


def _names(data: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise CatalogueError(f"{where}: {key} is a list of names")
    return tuple(value)


def _column(name: str, entry: Any, where: str) -> Column:
    if isinstance(entry, str):
        entry = {"field": entry}
    if not isinstance(entry, Mapping):
        raise CatalogueError(f"{where}: a field or a table is expected, not {entry!r}")
    known = {part.name: part for part in fields(Column) if part.name != "name"}
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in known:
            raise CatalogueError(f"{where}: {key!r} is unknown; a column has {', '.join(known)}")
        if key in ("nothing", "yes", "no"):
            value = [value] if isinstance(value, str) else value
            if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
                raise CatalogueError(f"{where}: {key} is a list of words")
            value = tuple(value)
        elif not isinstance(value, {"append": bool, "words": Mapping}.get(key, str)):
            raise CatalogueError(f"{where}: {key} cannot be {value!r}")
        values[key] = value
    target = values.get("field", "")
    if not target:
        if set(values) - {"repeats", "words", "nothing"}:
            raise CatalogueError(f"{where}: has {', '.join(sorted(values))} but no field")
        return Column(name, **values)
    if target not in FIELDS or target == "extra":
        raise CatalogueError(
            f"{where}: {target!r} is no field; an item has {', '.join(name for name in FIELDS if name != 'extra')}"
        )
    kind, part = hint_of(target)
    values.setdefault("convert", _DEFAULTS.get(kind) or ("list" if part is str else "names"))
    if values["convert"] not in CONVERSIONS:
        raise CatalogueError(f"{where}: conversion {values['convert']!r} is unknown; there are {', '.join(CONVERSIONS)}")
    if not CONVERSIONS[values["convert"]].fits(kind, part):
        fitting = ", ".join(name for name, conversion in CONVERSIONS.items() if conversion.fits(kind, part))
        raise CatalogueError(f"{where}: conversion {values['convert']!r} does not make a {target!r}; {fitting} do")
    if values.get("append") and kind is not tuple:
        raise CatalogueError(f"{where}: append is for lists, and {target!r} is none")
    if values.get("unless") and values["unless"] not in FIELDS:
        raise CatalogueError(f"{where}: unless names {values['unless']!r}, which is no field")
    return Column(name, **values)


@cache
def builtin() -> tuple[ColumnMapping, ...]:
    """The mappings that come with govlm."""
    folder = Path(__file__).with_name("mappings")
    return tuple(load(path) for path in sorted(folder.glob("*.json")))


def derived(item: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the fields `names` that the code of an item tells and no column did."""
    parts = codes.split(item.get("code", ""))
    if parts is None:
        return {}
    told = {
        "authority_code": parts.authority if credit_code(parts.authority) else "",
        "base_code": parts.base, "kind": parts.kind, "level": parts.level,
    }  # fmt: skip
    return {name: told[name] for name in names if told[name] and not item.get(name)}
