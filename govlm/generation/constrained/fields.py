"""JSON in which the strings of marked fields copy their figures and names from sources; all else is left to another constraint.

A field is marked by "govlm:copy": true in its schema; the mark counts for all strings inside it, until one says false. Where
several parts of an anyOf may hold, a mark in any of them counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from govlm.generation.constrained.constraint import Automaton, Constraint, State
from govlm.generation.constrained.copying import CopyConstraint
from govlm.generation.constrained.intersection import both
from govlm.generation.constrained.schema import JsonSchemaConstraint
from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = ["COPY", "CopiedFieldsConstraint", "json_copying"]

COPY = "govlm:copy"
_UNESCAPED = {ord("n"): ord("\n"), ord("r"): ord("\r"), ord("t"): ord("\t"), ord('"'): ord('"'), ord("\\"): ord("\\")}
_KEPT_ROWS = 1_000  # of the copying
_SPACE = frozenset(b" \t\r\n")
Places = frozenset[tuple[int, bool]]  # parts of the schema that may hold here, and whether their strings are marked
Frame = tuple[bytes, Places]  # the closing byte of an object or an array around, and the parts that hold for it
_NOWHERE: Places = frozenset()


class _Where(NamedTuple):
    """What is being read: "value", "after" (one), "scalar", "text" (a string, not marked), "copy" (a marked one), "open" (before a
    key), "key" or "colon"; `places` hold for it; `inner` is the key so far, or the state of the copying."""

    kind: str
    stack: tuple[Frame, ...]
    places: Places = _NOWHERE
    escaped: bool = False
    inner: State = None


class CopiedFieldsConstraint(Constraint):
    """What CopyConstraint ensures, for the strings of the schema's marked fields; it reads the escapes \\n \\r \\t \\" \\\\ there.

    It takes for granted that the text is JSON of the schema: both() adds the JsonSchemaConstraint that sees to it, as
    json_copying() does. ValueError: a mark that is neither true nor false, or on a number (a figure is copied whole, with its unit).
    """

    def __init__(self, schema: Any, sources: Sequence[str], vocabulary: Vocabulary, names: Iterable[str] = ()) -> None:
        copying = CopyConstraint(sources, vocabulary, names).automaton
        super().__init__(_Fields(_Marks(schema), copying), vocabulary)


def json_copying(
    schema: Any, sources: Sequence[str], vocabulary: Vocabulary, names: Iterable[str] = (), **options: Any
) -> Constraint:
    """JSON of a schema whose marked fields copy: both(JsonSchemaConstraint, CopiedFieldsConstraint). options: of the former."""
    shape = JsonSchemaConstraint(schema, vocabulary, kept=[COPY], **options)
    return both(shape, CopiedFieldsConstraint(schema, sources, vocabulary, names))


class _Marks:
    """A schema, asked which of its parts hold for a member or an item of a value, and whether they are marked."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._parts: dict[int, Any] = {}
        self._known: dict[tuple[Places, str | None], Places] = {}
        self._spelled: dict[Places, dict[bytes, str]] = {}
        self.first = self._resolved(schema, False, "#")
        waiting, seen = [self.first], {self.first}
        while waiting:  # every part that can be reached: a mark that is wrong is found now
            places = waiting.pop()
            for name in (None, *self.names(places)):
                after = self.inside(places, name)
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)

    def _resolved(self, schema: Any, marked: bool, where: str) -> Places:
        """The parts that $ref and anyOf lead to."""
        found: set[tuple[int, bool]] = set()
        todo, seen = [(schema, marked)], set[tuple[int, bool]]()
        while todo:
            part, marked = todo.pop()
            if not isinstance(part, Mapping) or (id(part), marked) in seen:
                continue
            seen.add((id(part), marked))
            own = part.get(COPY, marked)
            if not isinstance(own, bool):
                raise ValueError(f"JSON schema, {where}: {COPY} is true or false, not {own!r}")
            if "$ref" in part:
                todo.append((self._target(part["$ref"]), own))
            elif "anyOf" in part:
                todo += [(choice, own) for choice in part["anyOf"]]
            else:
                if own:
                    _check(part, where)
                self._parts[id(part)] = part
                found.add((id(part), own))
        return frozenset(found)

    def _target(self, reference: str) -> Any:
        part = self._root
        for name in reference.split("/")[1:]:
            part = part[name.replace("~1", "/").replace("~0", "~")]
        return part

    def names(self, places: Places) -> list[str]:
        """The properties that the parts have."""
        return [name for part, _ in places for name in self._parts[part].get("properties", {})]

    def inside(self, places: Places, name: str | None) -> Places:
        """The parts that hold for the property of this name, for the items with None."""
        key = (places, name)
        if key not in self._known:
            found: set[tuple[int, bool]] = set()
            for part, marked in places:
                schema = self._parts[part]
                child = schema.get("items") if name is None else schema.get("properties", {}).get(name)
                found |= self._resolved(child, marked, "items" if name is None else f"property {name!r}")
            self._known[key] = frozenset(found)
        return self._known[key]

    def spelled(self, places: Places) -> dict[bytes, str]:
        """The names of the properties by what JSON has between the quotes."""
        if places not in self._spelled:
            names = self.names(places)
            self._spelled[places] = {json.dumps(name, ensure_ascii=False)[1:-1].encode(): name for name in names}
        return self._spelled[places]

    def marked(self, places: Places) -> bool:
        return any(mark for _, mark in places)


def _check(part: Mapping[str, Any], where: str) -> None:
    """A marked part that would hold figures outside strings, where nothing is copied, is refused."""
    types = part.get("type", [])
    for name in [types] if isinstance(types, str) else types:
        if name in ("number", "integer"):
            raise ValueError(f"JSON schema, {where}: {COPY} is for strings, not for type {name!r}")
    for value in (*part.get("enum", ()), part.get("const")):
        if not isinstance(value, str | bool | None):
            raise ValueError(f"JSON schema, {where}: {COPY} is for strings, not for the value {json.dumps(value)[:40]}")


class _Fields:
    """Reads JSON by its bytes and follows the schema; copying: what the strings of marked fields go through."""

    def __init__(self, marks: _Marks, copying: Automaton) -> None:
        self._marks, self._copying = marks, copying
        self._rows: dict[State, Sequence[State | None]] = {}
        self.start = _Where("value", (), marks.first)

    def accepting(self, state: State) -> bool:
        assert isinstance(state, _Where)
        return not state.stack and state.kind in ("after", "scalar")

    def row(self, state: State) -> list[State | None]:
        assert isinstance(state, _Where)
        read = getattr(self, f"_{state.kind}")
        if state.kind == "copy" and not state.escaped:
            return self._copied(state)
        return [read(state, byte) for byte in range(256)]

    def _value(self, at: _Where, byte: int) -> _Where | None:
        if byte in _SPACE:
            return at
        if byte == ord("{"):
            return _Where("open", (*at.stack, (b"}", at.places)))
        if byte == ord("["):
            return _Where("value", (*at.stack, (b"]", at.places)), self._marks.inside(at.places, None))
        if byte == ord("]"):
            return self._after(_Where("after", at.stack), byte)  # an array without items
        if byte == ord('"'):
            if self._marks.marked(at.places):
                return _Where("copy", at.stack, inner=self._copying.start)
            return _Where("text", at.stack)
        return None if byte in b",}:" else _Where("scalar", at.stack)

    def _after(self, at: _Where, byte: int) -> _Where | None:
        if byte in _SPACE:
            return _Where("after", at.stack)
        if not at.stack:
            return None
        closer, places = at.stack[-1]
        if byte == closer[0]:
            return _Where("after", at.stack[:-1])
        if byte != ord(","):
            return None
        if closer == b"}":
            return _Where("open", at.stack)
        return _Where("value", at.stack, self._marks.inside(places, None))

    def _scalar(self, at: _Where, byte: int) -> _Where | None:
        if byte in _SPACE or byte in b",}]":
            return self._after(at, byte)
        return None if byte in b'{["' else at

    def _text(self, at: _Where, byte: int) -> _Where | None:
        if at.escaped:
            return _Where("text", at.stack)
        if byte == ord('"'):
            return _Where("after", at.stack)
        return None if byte < 0x20 else _Where("text", at.stack, escaped=byte == ord("\\"))

    def _open(self, at: _Where, byte: int) -> _Where | None:
        if byte in _SPACE:
            return at
        if byte == ord('"'):
            return _Where("key", at.stack, inner=b"")
        return _Where("after", at.stack[:-1]) if byte == ord("}") else None

    def _key(self, at: _Where, byte: int) -> _Where | None:
        """The key's bytes are kept as long as they are the beginning of a property's, which is all that tells fields apart."""
        if at.escaped:
            return _Where("key", at.stack, inner=self._begun(at, byte))
        if byte == ord('"'):
            around = at.stack[-1][1]
            name = self._marks.spelled(around).get(at.inner) if isinstance(at.inner, bytes) else None
            return _Where("colon", at.stack, _NOWHERE if name is None else self._marks.inside(around, name))
        if byte < 0x20:
            return None
        return _Where("key", at.stack, escaped=byte == ord("\\"), inner=self._begun(at, byte))

    def _begun(self, at: _Where, byte: int) -> bytes | None:
        if not isinstance(at.inner, bytes):
            return None
        begun = at.inner + bytes([byte])
        return begun if any(name.startswith(begun) for name in self._marks.spelled(at.stack[-1][1])) else None

    def _colon(self, at: _Where, byte: int) -> _Where | None:
        if byte in _SPACE:
            return at
        return _Where("value", at.stack, at.places) if byte == ord(":") else None

    def _inner(self, state: State) -> Sequence[State | None]:
        if state not in self._rows:
            if len(self._rows) >= _KEPT_ROWS:
                self._rows.clear()
            self._rows[state] = self._copying.row(state)
        return self._rows[state]

    def _copied(self, at: _Where) -> list[State | None]:
        """A marked string: the copying sees its characters, and must agree that they end where the string does."""
        found: list[State | None] = [None] * 256
        for byte, inner in enumerate(self._inner(at.inner)):
            if inner is not None and byte >= 0x20 and byte not in b'"\\':
                found[byte] = _Where("copy", at.stack, inner=inner)
        if self._copying.accepting(at.inner):
            found[ord('"')] = _Where("after", at.stack)
        if any(self._copy(at, byte) for byte in _UNESCAPED):
            found[ord("\\")] = _Where("copy", at.stack, escaped=True, inner=at.inner)
        return found

    def _copy(self, at: _Where, byte: int) -> _Where | None:
        """The byte after a backslash in a marked string."""
        after = self._inner(at.inner)[_UNESCAPED[byte]] if byte in _UNESCAPED else None
        return None if after is None else _Where("copy", at.stack, inner=after)
