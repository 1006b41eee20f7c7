"""JSON that a JSON schema (2020-12) admits, written without white space but for one optional space after : and ,.

What is generated is a part of what the schema admits: properties come in the schema's order and no others, numbers have at
most 18 digits before and after the point, strings are written in their own characters (escaped: ", \\, \\n, \\r, \\t).
A keyword that is not supported raises by name, so that nothing is promised that is not kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from govlm.generation.constrained import expressions as e
from govlm.generation.constrained.automata import Dfa, compile_expression, product
from govlm.generation.constrained.characters import Ranges, complement, contains, intersect, spelled
from govlm.generation.constrained.constraint import Constraint
from govlm.generation.constrained.pushdown import MAX_DEPTH, Pushdown
from govlm.generation.constrained.vocabulary import Vocabulary

__all__ = ["JsonSchemaConstraint"]

_NOTES = {"title", "description", "default", "examples", "$comment", "$schema", "$id", "$defs", "definitions", "deprecated"}
_NOTES |= {"readOnly", "writeOnly"}
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern"},
    "number": set[str](),
    "integer": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_RAW = complement(((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)))
_INTEGER = "-?(?:0|[1-9][0-9]{0,17})"
_NUMBER = _INTEGER + "(?:\\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,2})?"


class JsonSchemaConstraint(Constraint):
    """Only texts that are JSON of this schema.

    Supported: type (one or several), enum, const, properties, required, additionalProperties (true or false), items, minItems,
    maxItems, minLength, maxLength, pattern, anyOf, and $ref to #, #/$defs/… or #/definitions/…, recursion too, up to
    max_depth $refs, objects and arrays inside each other. kept: further keywords, which another constraint beside this one sees
    to (both()). ValueError, with the place in the schema: anything else, a schema that nothing fits, one that is too large.
    """

    def __init__(self, schema: Any, vocabulary: Vocabulary, max_depth: int = MAX_DEPTH, kept: Iterable[str] = ()) -> None:
        rules = _Schema(schema, vocabulary.alphabet, frozenset(kept)).rules
        try:
            automaton = Pushdown(rules, "#", max_depth)
        except ValueError as error:
            raise ValueError(f"JSON schema: {error}") from None
        super().__init__(automaton, vocabulary)


class _Schema:
    """The rules of a schema: one for the whole, each $ref's target, and each array or object inside another."""

    def __init__(self, schema: Any, alphabet: Ranges, kept: frozenset[str]) -> None:
        self.root = schema
        self.alphabet = alphabet
        self.notes = _NOTES | kept
        self.rules: dict[str, Dfa] = {}
        self.waiting = {"#": schema}
        while self.waiting:
            place, part = next(iter(self.waiting.items()))
            self.rules[place] = compile_expression(self.body(part, place, (place,)), alphabet, f"JSON schema, {place}")
            del self.waiting[place]

    def refuse(self, place: str, what: str) -> ValueError:
        return ValueError(f"JSON schema, {place}: {what}")

    def call(self, schema: Any, place: str) -> e.Expression:
        """A value inside an object or an array: in place when it is plain, a rule of its own when it nests."""
        if isinstance(schema, dict) and ({"object", "array"} & set(self.types(schema, place, ())) or "anyOf" in schema):
            if place not in self.rules:
                self.waiting.setdefault(place, schema)
            return e.Call(place)
        return self.body(schema, place, ())

    def body(self, schema: Any, place: str, within: tuple[str, ...]) -> e.Expression:
        """within: the rules that are at their first byte still (to find a $ref that comes back to itself)."""
        if not isinstance(schema, dict):
            raise self.refuse(place, f"a schema is an object here, not {json.dumps(schema, ensure_ascii=False)[:40]}")
        keys = set(schema) - self.notes
        if "$ref" in keys:
            self.only(keys, {"$ref"}, place)
            return self.reference(schema["$ref"], place, within)
        if "anyOf" in keys:
            self.only(keys, {"anyOf"}, place)
            parts = schema["anyOf"]
            if not isinstance(parts, list) or not parts:
                raise self.refuse(place, "anyOf wants a list of schemas")
            return e.Choice(tuple(self.body(part, f"{place}/anyOf/{n}", within) for n, part in enumerate(parts)))
        if "enum" in keys or "const" in keys:
            self.only(keys, {"enum", "const", "type"}, place)
            return self.values(schema, place)
        types = self.types(schema, place, ("type",))
        self.only(keys, {"type"}.union(*(_OF_TYPE[name] for name in types)), place)
        return e.Choice(tuple(self.of_type(name, schema, place) for name in types))

    def only(self, keys: set[str], known: set[str], place: str) -> None:
        for key in sorted(keys - known):
            beside = " beside " + ", ".join(sorted(keys & known)) if keys & known else ""
            raise self.refuse(place, f"{key!r} is not supported{beside}")

    def types(self, schema: dict[str, Any], place: str, wanted: tuple[str, ...]) -> list[str]:
        given = schema.get("type", [])
        types = [given] if isinstance(given, str) else given
        if not isinstance(types, list) or not all(isinstance(name, str) and name in _OF_TYPE for name in types):
            raise self.refuse(place, f"type {json.dumps(given, ensure_ascii=False)} is unknown")
        if wanted and not types:
            others = sorted(set(schema) - self.notes)
            raise self.refuse(place, "no type" + (f" beside {', '.join(others)}" if others else ": any value is not supported"))
        return types

    def reference(self, target: Any, place: str, within: tuple[str, ...]) -> e.Expression:
        names = target.split("/") if isinstance(target, str) else []
        if target != "#" and (len(names) != 3 or names[0] != "#" or names[1] not in ("$defs", "definitions")):
            raise self.refuse(place, f"$ref {target!r} is not supported (# and #/$defs/NAME are)")
        part = self.root
        for name in names[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            part = part.get(name) if isinstance(part, dict) else None
        if part is None:
            raise self.refuse(place, f"$ref {target!r} leads nowhere")
        if target in within:
            raise self.refuse(place, f"$ref {target!r} comes back to itself without a value in between")
        if within:  # looks for such a circle through the target, whose own rule is made below
            self.circle(part, target, (*within, target))
        if target not in self.rules:
            self.waiting.setdefault(target, part)
        return e.Call(target)

    def circle(self, schema: Any, place: str, within: tuple[str, ...]) -> None:
        if isinstance(schema, dict):
            if "$ref" in schema:
                self.reference(schema["$ref"], place, within)
            elif isinstance(schema.get("anyOf"), list):
                for part in schema["anyOf"]:
                    self.circle(part, place, within)

    def values(self, schema: dict[str, Any], place: str) -> e.Expression:
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list):
            raise self.refuse(place, "enum wants a list")
        if "const" in schema and "enum" in schema:
            values = [value for value in values if _same(value, schema["const"])]
        types = self.types(schema, place, ())
        if types:
            values = [value for value in values if any(_is(value, name) for name in types)]
        if not values:
            raise self.refuse(place, "no value fits")
        try:
            texts = [json.dumps(v, ensure_ascii=False, separators=(",", ":"), allow_nan=False) for v in values]
        except (TypeError, ValueError) as error:
            raise self.refuse(place, f"a value is not JSON ({error})") from None
        if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
            raise self.refuse(place, "a value holds half a character (a surrogate)")
        return e.Choice(tuple(e.literal(text) for text in texts))

    def of_type(self, name: str, schema: dict[str, Any], place: str) -> e.Expression:
        if name == "object":
            return self.object(schema, place)
        if name == "array":
            return self.array(schema, place)
        if name == "string":
            return self.string(schema, place)
        return e.parse({"number": _NUMBER, "integer": _INTEGER, "boolean": "true|false", "null": "null"}[name])

    def object(self, schema: dict[str, Any], place: str) -> e.Expression:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise self.refuse(place, "properties wants an object, required a list")
        for key in required:
            if key not in properties:
                raise self.refuse(place, f"required {key!r} is not among the properties")
        if not isinstance(schema.get("additionalProperties", True), bool):
            raise self.refuse(place, "'additionalProperties' with a schema is not supported")
        parts = []
        for key, value in properties.items():
            head = e.Sequence((e.literal(json.dumps(key, ensure_ascii=False) + ":"), _SPACE))
            parts.append((key in required, e.Sequence((head, self.call(value, f"{place}/properties/{key}")))))
        return e.Sequence((e.literal("{"), e.Members(tuple(parts), _COMMA), e.literal("}")))

    def array(self, schema: dict[str, Any], place: str) -> e.Expression:
        low, high = self.bounds(schema, "minItems", "maxItems", place)
        if high == 0:
            return e.literal("[]")
        if "items" not in schema:
            raise self.refuse(place, "an array without items is not supported")
        item = self.call(schema["items"], f"{place}/items")
        more = e.Repeat(e.Sequence((_COMMA, item)), max(low - 1, 0), None if high is None else high - 1)
        filled: e.Expression = e.Sequence((item, more))
        return e.Sequence((e.literal("["), filled if low else e.Repeat(filled, 0, 1), e.literal("]")))

    def bounds(self, schema: dict[str, Any], least: str, most: str, place: str) -> tuple[int, int | None]:
        low, high = schema.get(least, 0), schema.get(most)
        for key, value in ((least, low), (most, high)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= e.MAX_REPEAT):
                raise self.refuse(place, f"{key} wants a whole number from 0 to {e.MAX_REPEAT}")
        if high is not None and high < low:
            raise self.refuse(place, f"{least} is greater than {most}")
        return low, high

    def string(self, schema: dict[str, Any], place: str) -> e.Expression:
        low, high = self.bounds(schema, "minLength", "maxLength", place)
        content: e.Expression = e.rewrite(e.Repeat(e.ANY, low, high), self.escaped)
        if "pattern" in schema:
            if not isinstance(schema["pattern"], str):
                raise self.refuse(place, "pattern wants a string")
            try:
                pattern = e.rewrite(e.parse(schema["pattern"], search=True), self.escaped)
            except ValueError as error:
                raise self.refuse(place, str(error)) from None
            if low or high is not None:
                what = f"JSON schema, {place}"
                sizes = compile_expression(content, self.alphabet, what)
                pattern = e.Machine(product(compile_expression(pattern, self.alphabet, what), sizes, what))
            content = pattern
        return e.Sequence((e.literal('"'), content, e.literal('"')))

    def escaped(self, node: e.Chars) -> e.Expression:
        """A set of characters as a JSON string holds them."""
        parts = [e.literal(text) for char, text in _ESCAPES.items() if contains(node.ranges, ord(char))]
        return e.Choice((e.Chars(intersect(node.ranges, _RAW)), *parts))


_SPACE = e.Repeat(e.Chars(spelled(" ")), 0, 1)
_COMMA = e.Sequence((e.literal(","), _SPACE))


def _is(value: Any, name: str) -> bool:
    """Whether a value is of a JSON schema's type."""
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, float):
        return name == "number" or (name == "integer" and math.isfinite(value) and value.is_integer())
    kinds: dict[str, type] = {
        "string": str,
        "object": dict,
        "array": list,
        "null": type(None),
        "number": int,
        "integer": int,
        "boolean": bool,
    }
    return isinstance(value, kinds[name])


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
