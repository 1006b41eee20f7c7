"""A form as JSON Schema (2020-12) with the keys that a conversation needs; `Item.form` holds it.

    {"$id": "dibao", "version": "1", "title": "最低生活保障申请表", "type": "object", "required": ["applicant_name", …],
     "properties": {"applicant_name": {"type": "string", "title": "申请人姓名", "x-kind": "name", "x-ask": "申请人叫什么名字？"}, …},
     "x-rules": [{"kind": "birth_matches_id", "fields": ["birth_date", "id_number"], "ask": "…"}]}

Keys of a field, besides `type` (always "string": every value is text), `title` and `description` (a hint for the citizen):

    x-kind       what it holds, one of KINDS; it decides how a value is found, written and checked
    x-ask        the question, one sentence
    x-share      fields of other forms with the same key take the same value
    x-cues       words around a value that say that it belongs here
    x-person     whose it is, one of PERSONS (default applicant, the one who speaks; household: what is said of kin holds, too)
    x-words      of a choice or yesno: {value: [other wordings]}
    x-units      of a count: the words after the number (["口人", "人"])
    x-precision  of a date: "day" (default) or "month"
    x-past       of a date: true = today or earlier; x-future: true = today or later
    x-when       {"marital": ["已婚"]}: asked only where that field has one of these values
    x-source     where in the item's record a limit comes from ("conditions.0"), or a list of such paths
    enum, minimum, maximum, minLength, maxLength    as in JSON Schema; bounds of a date are dates (2024-03-05)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

__all__ = ["CHECKED", "KINDS", "PERSONS", "RULES", "Form", "FormField", "Rule"]

KINDS = (
    "name", "identity_card", "mobile", "bank_card", "credit_code", "address", "date", "amount", "organisation", "count", "choice",
    "yesno", "text", "email", "region",
)  # fmt: skip
CHECKED = frozenset({"identity_card", "mobile", "bank_card", "credit_code", "email"})  # found by their own form and check
PERSONS = ("applicant", "household", "spouse", "child", "parent", "agent", "contact", "landlord")
# kind of a rule -> (fewest fields, most fields, keys that it needs, keys that it may have); see `rules`
RULES: dict[str, tuple[int, int, frozenset[str], frozenset[str]]] = {
    "birth_matches_id": (2, 2, frozenset(), frozenset()),
    "sex_matches_id": (2, 2, frozenset(), frozenset()),
    "age": (1, 2, frozenset(), frozenset({"minimum", "maximum"})),
    "retirement_age": (4, 4, frozenset({"posts", "early"}), frozenset()),
    "order": (2, 2, frozenset(), frozenset()),
    "within_months": (2, 2, frozenset({"months"}), frozenset()),
    "at_most": (2, 2, frozenset(), frozenset()),
    "sum": (3, 20, frozenset(), frozenset()),
    "different": (2, 2, frozenset(), frozenset()),
    "region": (1, 1, frozenset(), frozenset({"within"})),
}
_FORM_KEYS = frozenset(
    {"$id", "$schema", "version", "title", "description", "type", "required", "properties", "x-rules", "additionalProperties"}
)
_FIELD_KEYS = frozenset(
    {"type", "title", "description", "enum", "minimum", "maximum", "minLength", "maxLength", "x-kind", "x-ask", "x-share", "x-cues",
     "x-person", "x-words", "x-units", "x-precision", "x-past", "x-future", "x-when", "x-source"}
)  # fmt: skip
_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_SOURCE = re.compile(r"[a-z_]+(?:\.[a-z0-9_]+)*")
_LENGTH = 500  # of a value, unless the field says otherwise


@dataclass(frozen=True)
class FormField:
    """One field. minimum, maximum: Decimal or date, by the kind; enum: the values of a choice; words: other wordings of a value."""

    name: str
    label: str
    kind: str
    ask: str
    required: bool = False
    share: str = ""
    hint: str = ""
    cues: tuple[str, ...] = ()
    person: str = "applicant"
    enum: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = ()  # type: ignore[assignment]  # always given by Form.of
    units: tuple[str, ...] = ()
    precision: str = "day"
    past: bool = False
    future: bool = False
    minimum: Decimal | date | None = None
    maximum: Decimal | date | None = None
    longest: int = _LENGTH
    shortest: int = 1
    when: Mapping[str, tuple[str, ...]] = ()  # type: ignore[assignment]
    source: tuple[str, ...] = ()

    def wanted(self, values: Mapping[str, str]) -> bool:
        """Whether it is asked at all, by what the others hold."""
        return all(values.get(name) in allowed for name, allowed in dict(self.when).items())


@dataclass(frozen=True)
class Rule:
    """What must hold between fields. options: the rule's own keys (minimum, maximum, months, within). ask: one question."""

    kind: str
    fields: tuple[str, ...]
    ask: str
    options: Mapping[str, Any]
    source: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """A form. fields: in the order in which they are asked."""

    id: str
    version: str
    title: str
    fields: Mapping[str, FormField]
    required: tuple[str, ...]
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Form:
        """The form of a schema. ValueError: the first thing that is wrong with it, in one line."""
        problems = cls.problems(schema)
        if problems:
            raise ValueError(problems[0])
        required = tuple(schema.get("required", ()))
        return cls(
            id=schema["$id"],
            version=schema["version"],
            title=schema["title"],
            fields={name: _field(name, entry, name in required) for name, entry in schema["properties"].items()},
            required=required,
            rules=tuple(_rule(entry) for entry in schema.get("x-rules", ())),
        )

    @staticmethod
    def problems(schema: Any) -> list[str]:
        """Everything that is wrong with a schema, each in one line that names the place; [] = `of` takes it."""
        if not isinstance(schema, Mapping):
            return [f"form: a JSON object is expected, not {type(schema).__name__}"]
        identity = schema.get("$id")
        where = f"form {identity}" if isinstance(identity, str) and identity else "form"
        found = [f"{where}: unknown key {key!r}" for key in schema if key not in _FORM_KEYS]
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            found.append(f"{where}: $id must be a short name like dibao (small letters, digits, - and _), not {identity!r}")
        found += [
            f"{where}: {key} must be a text that is not empty" for key in ("version", "title") if not _is_text(schema.get(key))
        ]
        if schema.get("type") != "object":
            found.append(f'{where}: type must be "object"')
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return [*found, f"{where}: properties must be an object with at least one field"]
        required = schema.get("required", [])
        if not _is_texts(required):
            found.append(f"{where}: required must be a list of names of fields")
            required = []
        found += [f"{where}: required field {name!r} does not exist" for name in required if name not in properties]
        for name, entry in properties.items():
            found += [f"{where}: field {name}: {text}" for text in _field_problems(name, entry, properties)]
        rules = schema.get("x-rules", [])
        if not isinstance(rules, list):
            return [*found, f"{where}: x-rules must be a list"]
        for number, entry in enumerate(rules, 1):
            found += [f"{where}: rule {number}: {text}" for text in _rule_problems(entry, properties)]
        return found

    def missing(self, values: Mapping[str, str]) -> list[FormField]:
        """The required fields that have no value and that are wanted by what the others hold, in order."""
        return [
            field for field in self.fields.values() if field.required and not values.get(field.name) and field.wanted(values)
        ]


# ------------------------------------------------------------------------------------------------------------------- reading


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_is_text(part) for part in value)


def _bound(kind: str, value: Any) -> Decimal | date:
    """ValueError where it is none."""
    if kind == "date":
        return date.fromisoformat(value) if isinstance(value, str) else _refuse()
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return _refuse()
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return _refuse()


def _refuse() -> Any:
    raise ValueError("no bound")


def _texts_of(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _field(name: str, entry: Mapping[str, Any], required: bool) -> FormField:
    kind = entry["x-kind"]
    return FormField(
        name=name,
        label=entry["title"],
        kind=kind,
        ask=entry["x-ask"],
        required=required,
        share=entry.get("x-share", ""),
        hint=entry.get("description", ""),
        cues=tuple(entry.get("x-cues", ())),
        person=entry.get("x-person", "applicant"),
        enum=("是", "否") if kind == "yesno" else tuple(entry.get("enum", ())),
        words={value: tuple(words) for value, words in entry.get("x-words", {}).items()},
        units=tuple(entry.get("x-units", ())),
        precision=entry.get("x-precision", "day"),
        past=entry.get("x-past", False),
        future=entry.get("x-future", False),
        minimum=_bound(kind, entry["minimum"]) if "minimum" in entry else None,
        maximum=_bound(kind, entry["maximum"]) if "maximum" in entry else None,
        longest=entry.get("maxLength", _LENGTH),
        shortest=entry.get("minLength", 1),
        when={other: tuple(values) for other, values in entry.get("x-when", {}).items()},
        source=_texts_of(entry.get("x-source", ())),
    )


def _rule(entry: Mapping[str, Any]) -> Rule:
    options = {key: value for key, value in entry.items() if key not in ("kind", "fields", "ask", "x-source")}
    return Rule(entry["kind"], tuple(entry["fields"]), entry["ask"], options, _texts_of(entry.get("x-source", ())))


# ------------------------------------------------------------------------------------------------------------------ problems


def _source_problems(entry: Mapping[str, Any]) -> list[str]:
    source = entry.get("x-source", ())
    if not isinstance(source, str) and not _is_texts(source):
        return ["x-source must be a path of the item's record, or a list of such"]
    return [f"x-source {path!r} is no path like conditions.0" for path in _texts_of(source) if not _SOURCE.fullmatch(path)]


def _field_problems(name: str, entry: Any, properties: Mapping[str, Any]) -> list[str]:
    if not isinstance(entry, Mapping):
        return ["an object is expected"]
    found = [f"unknown key {key!r}" for key in entry if key not in _FIELD_KEYS]
    if not _ID.fullmatch(name):
        found.append("its name must be small letters, digits and _")
    kind = entry.get("x-kind")
    if kind not in KINDS:
        return [*found, f"x-kind {kind!r} is unknown; there are {', '.join(KINDS)}"]
    if entry.get("type") != "string":
        found.append('type must be "string"')
    if not _is_text(entry.get("title")):
        found.append("title is missing")
    if not _is_text(entry.get("x-ask")):
        found.append("x-ask (the question) is missing")
    for key in ("x-cues", "x-units"):
        if key in entry and not _is_texts(entry[key]):
            found.append(f"{key} must be a list of texts")
    for key in ("x-share", "description"):
        if key in entry and not _is_text(entry[key]):
            found.append(f"{key} must be a text that is not empty")
    for key in ("x-past", "x-future"):
        if not isinstance(entry.get(key, False), bool):
            found.append(f"{key} must be true or false")
    if entry.get("x-person", "applicant") not in PERSONS:
        found.append(f"x-person {entry['x-person']!r} is unknown; there are {', '.join(PERSONS)}")
    if entry.get("x-precision", "day") not in ("day", "month"):
        found.append('x-precision must be "day" or "month"')
    found += _choice_problems(kind, entry)
    bounds = []
    for key in ("minimum", "maximum"):
        if key in entry:
            if kind not in ("date", "amount", "count"):
                found.append(f"{key} does not go with x-kind {kind}")
                continue
            try:
                bounds.append(_bound(kind, entry[key]))
            except ValueError:
                found.append(f"{key} {entry[key]!r} is no {'date' if kind == 'date' else 'number'}")
    if len(bounds) == 2 and bounds[0] > bounds[1]:  # type: ignore[operator]
        found.append("minimum is above maximum")
    for key in ("minLength", "maxLength"):
        if key in entry and (isinstance(entry[key], bool) or not isinstance(entry[key], int) or entry[key] < 1):
            found.append(f"{key} must be a whole number from 1")
    when = entry.get("x-when", {})
    if not isinstance(when, Mapping) or not all(_is_texts(values) for values in when.values()):
        found.append('x-when must be like {"marital": ["已婚"]}')
    else:
        for other, values in when.items():
            if other not in properties or other == name:
                found.append(f"x-when names the unknown field {other!r}")
                continue
            there = properties[other] if isinstance(properties[other], Mapping) else {}
            allowed = ["是", "否"] if there.get("x-kind") == "yesno" else list(there.get("enum") or values)
            found += [f"x-when: {other} has no value {value!r}" for value in values if value not in allowed]
    return found + _source_problems(entry)


def _choice_problems(kind: str, entry: Mapping[str, Any]) -> list[str]:
    enum, words = entry.get("enum"), entry.get("x-words", {})
    if kind == "choice":
        if not _is_texts(enum) or not enum:
            return ["a choice needs enum, a list of texts"]
        if len(set(enum)) != len(enum):
            return ["enum names a value twice"]
    elif enum is not None:
        return [f"enum does not go with x-kind {kind}"]
    if not isinstance(words, Mapping) or not all(_is_texts(listed) for listed in words.values()):
        return ["x-words must be like {value: [other wordings]}"]
    allowed = ("是", "否") if kind == "yesno" else (enum or ())
    found = [f"x-words: {value!r} is no value of the field" for value in words if value not in allowed]
    listed = [word for value in words for word in {value, *words[value]}]
    return found + [f"x-words: {word!r} stands for two values" for word in sorted(set(listed)) if listed.count(word) > 1]


def _rule_problems(entry: Any, properties: Mapping[str, Any]) -> list[str]:
    if not isinstance(entry, Mapping):
        return ["an object is expected"]
    kind, names = entry.get("kind"), entry.get("fields")
    if kind not in RULES:
        return [f"kind {kind!r} is unknown; there are {', '.join(RULES)}"]
    fewest, most, needed, possible = RULES[kind]
    if not _is_texts(names) or not isinstance(names, (list, tuple)):
        return [f"{kind}: fields must be a list of names of fields"]
    found = [f"{kind}: names the unknown field {name!r}" for name in names if name not in properties]
    if not fewest <= len(names) <= most:
        found.append(f"{kind}: needs {fewest if fewest == most else f'{fewest} to {most}'} fields, not {len(names)}")
    if not _is_text(entry.get("ask")):
        found.append(f"{kind}: ask (one question) is missing")
    keys = {key for key in entry if key not in ("kind", "fields", "ask", "x-source")}
    found += [f"{kind}: {key} is missing" for key in sorted(needed - keys)]
    found += [f"{kind}: unknown key {key!r}" for key in sorted(keys - needed - possible)]
    if not found:
        found += _kinds_problems(
            kind, [properties[name].get("x-kind") for name in names if isinstance(properties[name], Mapping)]
        )
    if kind == "age":
        if not keys & {"minimum", "maximum"}:
            found.append("age: minimum or maximum is missing")
        for key in keys & {"minimum", "maximum"}:
            limits = entry[key].values() if isinstance(entry[key], Mapping) else [entry[key]]
            if not all(isinstance(limit, int) and not isinstance(limit, bool) for limit in limits):
                found.append(f'age: {key} must be whole years, or like {{"男": 60, "女": 50}}')
    if kind == "retirement_age":
        posts = entry.get("posts")
        if not isinstance(posts, Mapping) or not posts or not all(age in (50, 55) for age in posts.values()):
            found.append('retirement_age: posts must be like {"管理技术岗位": 55, "生产操作岗位": 50}, of 50 or 55')
        if not _is_texts(entry.get("early")):
            found.append("retirement_age: early must be a list of values")
    if kind == "within_months" and not isinstance(entry.get("months"), int):
        found.append("within_months: months must be a whole number")
    if kind == "region" and not _is_texts(entry.get("within", ())):
        found.append("region: within must be a list of names of places")
    return found + _source_problems(entry)


_RULE_KINDS: dict[str, tuple[tuple[str, ...], ...]] = {  # the kinds of a rule's fields, in their order; the last goes on
    "birth_matches_id": (("date",), ("identity_card",)),
    "sex_matches_id": (("choice",), ("identity_card",)),
    "age": (("date", "identity_card"), ("choice",)),
    "retirement_age": (("date", "identity_card"), ("choice",)),
    "order": (("date",),),
    "within_months": (("date",),),
    "at_most": (("amount", "count"),),
    "sum": (("amount", "count"),),
    "different": (KINDS,),
    "region": (("address", "region"),),
}


def _kinds_problems(kind: str, kinds: list[Any]) -> list[str]:
    wanted = _RULE_KINDS[kind]
    return [
        f"{kind}: field {place} must be of x-kind {' or '.join(wanted[min(place, len(wanted)) - 1])}, not {found}"
        for place, found in enumerate(kinds, 1)
        if found not in wanted[min(place, len(wanted)) - 1]
    ]
