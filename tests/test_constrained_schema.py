"""Constrained decoding by JSON schema: what is generated is JSON that the jsonschema package finds valid."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from constrained_texts import accepts, by_characters, byte_level, generate, reachable, texts

from govlm.generation.constrained import JsonSchemaConstraint, Vocabulary

NODE = {
    "type": "object",
    "properties": {"名": {"type": "string", "maxLength": 3}, "下级": {"$ref": "#/$defs/列"}},
    "required": ["名"],
}
TREE = {"$ref": "#/$defs/点", "$defs": {"点": NODE, "列": {"type": "array", "items": {"$ref": "#/$defs/点"}, "maxItems": 2}}}
SCHEMAS: dict[str, Any] = {
    "a form": {
        "type": "object",
        "title": "申请",
        "properties": {
            "事项": {"enum": ["护照", "驾驶证", "居住证"]},
            "费用": {"type": "number"},
            "天数": {"type": "integer", "description": "工作日"},
            "加急": {"type": "boolean"},
            "备注": {"type": ["string", "null"], "maxLength": 6},
        },
        "required": ["天数", "加急"],
        "additionalProperties": False,
    },
    "all optional": {"type": "object", "properties": {key: {"type": "null"} for key in "abcd"}},
    "nothing": {"type": "object"},
    "items": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "no items": {"type": "array", "maxItems": 0},
    "items without end": {"type": "array", "items": {"type": "integer"}},
    "one item": {"type": "array", "items": {"const": "是"}, "minItems": 1},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 4},
    "exact length": {"type": "string", "minLength": 3, "maxLength": 3},
    "pattern": {"type": "string", "pattern": r"^\d{3}[年\"\\\n]$"},
    "pattern somewhere": {"type": "string", "pattern": "(ab|中)1", "maxLength": 5},
    "pattern at one end": {"type": "string", "pattern": "^a|中$", "minLength": 2, "maxLength": 3},
    "values": {"enum": [1, -2.5, "引\"号\\", None, True, {"a": [1, {}]}, []]},
    "values of a type": {"type": ["string", "integer"], "enum": [1, 2.5, "x", None, True]},
    "constant": {"const": {"k": "v"}},
    "any of": {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                         {"type": "object", "properties": {"ab": {"type": "string", "maxLength": 2}}}]},
    "tree": TREE,
    "itself": {"type": "object", "properties": {"左": {"$ref": "#"}, "右": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
    "tables": {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {"type": "null"}, "maxItems": 2},
                                          "minItems": 1, "maxItems": 3}, "minItems": 1, "maxItems": 3},
    "ways that stay open": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1},
                                      {"type": "array", "items": {"$ref": "#/$defs/b"}, "minItems": 1}],
                            "$defs": {"a": {"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 3},
                                      "b": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 4}}},
    "a chain of references": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/c"}]},
                                                             "c": {"type": "null"}}},
    "names of parts": {"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": {"type": "boolean"}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return byte_level(
        [
            '{"',
            '":',
            '": "',
            '",',
            '"}',
            "[[",
            "]]",
            "]}",
            "null",
            "true",
            '"下级',
            "护照",
            "天数",
            "12",
            "\\n",
            '\\"',
            "中",
            "ab",
        ]
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_all_that_is_generated_is_valid(name: str, vocabulary: Vocabulary) -> None:
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    constraint = JsonSchemaConstraint(schema, vocabulary)
    for text in texts(constraint, 25, longest=300):
        jsonschema.validate(json.loads(text), schema)


VALUES: dict[str, list[Any]] = {
    "a form": [{"天数": 0, "加急": False}, {"事项": "护照", "费用": 1.5e20, "天数": -12, "加急": True, "备注": None},
               {"天数": 3, "加急": False, "备注": "\"\\\n中😀"}],
    "all optional": [{}, {"a": None}, {"d": None}, {"b": None, "d": None}, dict.fromkeys("abcd")],
    "nothing": [{}],
    "items": [[True, False], [True] * 4],
    "no items": [[]],
    "items without end": [[], [1], list(range(50))],
    "lengths": ["ab", "中国é😀"],
    "pattern": ["123年", '123"', "123\\", "123\n"],
    "pattern somewhere": ["ab1", "xx中1", "\\ab1\n"],
    "pattern at one end": ["ab", "x中", "axx"],
    "any of": [5, {"a": 1}, {"ab": "x"}, {}],
    "tree": [{"名": "省", "下级": [{"名": "市", "下级": []}, {"名": "县"}]}],
    "itself": [{}, {"左": {"左": {}, "右": None}}, {"右": {"右": {}}}],
    "ways that stay open": [[[1], [1, 1]], [[1, 1], [2, 1]], [[1, 1, 1, 1]]],
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_valid_values_can_be_written_with_and_without_spaces(name: str, vocabulary: Vocabulary) -> None:
    constraint = JsonSchemaConstraint(SCHEMAS[name], vocabulary)
    for value in VALUES[name]:
        jsonschema.validate(value, SCHEMAS[name])
        assert accepts(constraint, json.dumps(value, ensure_ascii=False).replace("e+", "e"))
        assert accepts(constraint, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a form", '{"加急":true,"天数":1}'), ("a form", '{"天数":1,"加急":true,"x":1}'), ("a form", '{"天数":01,"加急":true}'),
        ("a form", '{"天数":1.0,"加急":true}'), ("a form", '{"天数":1,"加急":true,}'), ("a form", '{,"天数":1,"加急":true}'),
        ("a form", '{"天数":1,"加急":true,"备注":"七个字太长了吧"}'), ("a form", '{"天数":1,"加急":true'), ("a form", '{"加急":true}'),
        ("all optional", '{"a":null,"a":null}'), ("all optional", '{"a":null "b":null}'), ("items", "[true]"),
        ("items", "[true,true,true,true,true]"), ("items", "[true,]"), ("lengths", '"a"'), ("lengths", '"\\"'), ("lengths", '"a\nb"'),
        ("lengths", '"中国é😀1"'), ("pattern", '"123年1"'), ("pattern at one end", '"xx"'), ("values", "1.0"), ("values", "false"),
        ("tree", '{"名":"省","下级":[{"名":"市"]}'), ("itself", '{"左":null}'), ("ways that stay open", "[[1],[1,2]]"),
        ("ways that stay open", "[[2]]"),
    ],
)  # fmt: skip
def test_invalid_texts_are_refused(name: str, text: str, vocabulary: Vocabulary) -> None:
    assert not accepts(JsonSchemaConstraint(SCHEMAS[name], vocabulary), text)


@pytest.mark.parametrize("name", ["tree", "itself", "ways that stay open", "tables"])
@pytest.mark.parametrize("depth", [5, 8])
def test_depth_is_bounded_and_no_state_is_a_dead_end(name: str, depth: int, vocabulary: Vocabulary) -> None:
    constraint = JsonSchemaConstraint(SCHEMAS[name], vocabulary, max_depth=depth)
    reachable(constraint, 150)
    for text in texts(constraint, 10, longest=600):
        assert (
            max(len(re.findall(r"[\[{]", text[:n])) - len(re.findall(r"[\]}]", text[:n])) for n in range(len(text) + 1))
            <= depth + 1
        )


def test_what_must_go_on_is_begun_only_where_it_can_end(vocabulary: Vocabulary) -> None:
    """Lists that hold at least one more list down to a number: at the bound, only the number is left."""
    schema = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1, "maxItems": 1}]}
    constraint = JsonSchemaConstraint(schema, vocabulary, max_depth=3)
    assert accepts(constraint, "[[[7]]]")
    assert not accepts(constraint, "[[[[7]]]]")
    state = constraint.start()
    for byte in b"[[[":
        state = constraint.advance(state, byte)
    assert not constraint.allowed(state)[ord("[")]
    assert constraint.allowed(state)[ord("7")]


def test_a_vocabulary_of_characters() -> None:
    vocabulary = by_characters('0123456789{}[]":, abctruefalsn事项', ["事项"])
    schema = {
        "type": "object",
        "properties": {"事项": {"type": "string", "maxLength": 4}, "a": {"type": "boolean"}},
        "required": ["a"],
    }
    for text in texts(JsonSchemaConstraint(schema, vocabulary), 20):
        jsonschema.validate(json.loads(text), schema)
    with pytest.raises(ValueError, match="no text that the vocabulary can spell"):
        JsonSchemaConstraint({"enum": ["护照"]}, vocabulary)


def test_a_value_that_cannot_be_spelled_is_left_out() -> None:
    vocabulary = by_characters('0123456789{}":, abc事项', [])
    constraint = JsonSchemaConstraint({"anyOf": [{"type": "boolean"}, {"enum": ["护照", "事项"]}]}, vocabulary)
    assert {generate(constraint, np.random.default_rng(seed)) for seed in range(9)} == {'"事项"'}


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        (True, "a schema is an object"), ({}, "no type"), ({"type": "int"}, '"int" is unknown'), ({"type": 5}, "unknown"),
        ({"properties": {}}, "no type beside properties"),
        ({"type": "integer", "minimum": 3}, "'minimum' is not supported beside type"),
        ({"type": "string", "format": "date"}, "'format'"), ({"oneOf": []}, "no type beside oneOf"),
        ({"type": "string", "maxItems": 3}, "'maxItems'"), ({"anyOf": [{"type": "null"}], "type": "null"}, "'type' is not supported beside anyOf"),
        ({"anyOf": []}, "anyOf wants"), ({"type": "array"}, "without items"), ({"type": "array", "items": {}}, "#/items: no type"),
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "'uniqueItems'"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "greater"),
        ({"type": "array", "items": {"type": "null"}, "minItems": -1}, "minItems wants"),
        ({"type": "string", "maxLength": 5000}, "maxLength wants"), ({"type": "string", "maxLength": True}, "maxLength wants"),
        ({"type": "string", "pattern": "(?=a)"}, "look-ahead"), ({"type": "string", "pattern": 3}, "pattern wants"),
        ({"type": "string", "pattern": "^abc$", "maxLength": 2}, "no text"),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}, "required 'b'"),
        ({"type": "object", "properties": [], "required": []}, "properties wants"),
        ({"type": "object", "additionalProperties": {"type": "null"}}, "'additionalProperties' with a schema"),
        ({"type": "object", "patternProperties": {}}, "'patternProperties'"),
        ({"enum": []}, "no value"), ({"enum": 3}, "enum wants"), ({"enum": [1], "type": "string"}, "no value"),
        ({"const": float("nan")}, "not JSON"), ({"enum": ["\ud800"]}, "half a character"),
        ({"$ref": "other.json"}, "'other.json' is not supported"), ({"$ref": "#/$defs/a"}, "leads nowhere"), ({"$ref": 3}, "not supported"),
        ({"$ref": "#"}, "comes back to itself"), ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "comes back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "comes back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}}},
         "no text of at most 32 levels"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_not_supported_raises_by_name(schema: Any, what: str, vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match=re.escape(what)) as caught:
        JsonSchemaConstraint(schema, vocabulary)
    assert "\n" not in str(caught.value)
