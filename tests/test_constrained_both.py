"""Two constraints at once, and JSON whose marked fields copy their figures and names from sources."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from constrained_texts import accepts, by_characters, byte_level, generate, reachable, texts

from govlm.generation.constrained import (
    Constraint,
    CopiedFieldsConstraint,
    CopyConstraint,
    JsonSchemaConstraint,
    RegexConstraint,
    Vocabulary,
    both,
    copied,
    intersection,
    json_copying,
)  # fmt: skip

SOURCES = ["补办需30个工作日，收费20元，3月1日起由李四办理。", "电话010-12345678，第十二条。"]
NAMES = ["李四", "王五"]
CARD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "第1项": {"type": "string", "maxLength": 4},
        "期限": {"type": "string", "maxLength": 8, "govlm:copy": True},
        "份数": {"type": "integer"},
        "细则": {"type": "array", "items": {"$ref": "#/$defs/条"}, "maxItems": 2, "govlm:copy": True},
    },
    "required": ["期限", "份数"],
    "$defs": {
        "条": {"type": "object", "properties": {"文": {"type": "string", "maxLength": 6}, "号": {"type": "string", "maxLength": 3,
               "govlm:copy": False}, "下": {"$ref": "#/$defs/条"}}, "required": ["文"]},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    words = [
        '{"',
        '":"',
        '"}',
        '","',
        "30",
        "300",
        "30个",
        "20元",
        "2",
        "0元",
        "3月",
        "1日",
        "李四",
        "王五",
        "王",
        "\\n",
        "十二条",
    ]
    return byte_level(words)


def test_an_intersection_allows_what_both_allow(vocabulary: Vocabulary) -> None:
    left, right = RegexConstraint("[ab]*[0-9]{2,3}", vocabulary), RegexConstraint("a?[a-z]*[1-5]+", vocabulary)
    joined = both(left, right)
    rng = np.random.default_rng(3)
    for _ in range(30):
        states = [left.start(), right.start(), joined.start()]
        while True:
            masks = [part.allowed(state) for part, state in zip((left, right, joined), states, strict=True)]
            assert np.array_equal(masks[0] & masks[1], masks[2])  # nothing parts later on here
            token = int(rng.choice(np.flatnonzero(masks[2])))
            states = [part.advance(state, token) for part, state in zip((left, right, joined), states, strict=True)]
            if token in vocabulary.eos:
                break
    assert accepts(joined, "aba12")
    assert not accepts(joined, "aba16")
    assert not accepts(joined, "bca12")


def test_what_leads_where_the_two_part_is_refused(vocabulary: Vocabulary) -> None:
    """After x both allow b, but then one wants a c and the other a d."""
    left, right = RegexConstraint("x(bc|e)", vocabulary), RegexConstraint("x(bd|e)", vocabulary)
    joined = both(left, right)
    state = [part.advance(part.start(), ord("x")) for part in (left, right, joined)]
    assert left.allowed(state[0])[ord("b")]
    assert right.allowed(state[1])[ord("b")]
    assert np.flatnonzero(joined.allowed(state[2])).tolist() == [ord("e")]
    reachable(joined, 10)


def test_no_common_text_and_other_vocabularies_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match=r"^no text fits both constraints$"):
        both(RegexConstraint("[0-9]{4}年", vocabulary), CopyConstraint(SOURCES, vocabulary))
    with pytest.raises(ValueError, match="same Vocabulary"):
        both(RegexConstraint("a", vocabulary), RegexConstraint("a", byte_level()))


def test_three_constraints(vocabulary: Vocabulary) -> None:
    parts = [RegexConstraint(pattern, vocabulary) for pattern in ("[a-m]+", "[h-z]+", ".{2,3}")]
    joined = both(both(parts[0], parts[1]), parts[2])
    assert {len(text) for text in texts(joined, 20)} == {2, 3}
    assert all(set(text) <= set("hijklm") for text in texts(joined, 20))


def test_a_dead_end_beyond_the_look_ahead_is_one_clear_error(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intersection, "_SEARCHED", 3)
    joined = both(RegexConstraint("a{12}b", vocabulary), RegexConstraint("a{12}c", vocabulary))
    state = joined.start()
    with pytest.raises(ValueError, match="allows no token here and no end") as raised:
        for _ in range(13):
            state = joined.advance(state, int(np.flatnonzero(joined.allowed(state))[0]))
    assert "\n" not in str(raised.value)


def _strings(card: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The strings of a card that copy, and the others."""
    copying, free = [card["期限"]], [card.get("第1项", "")]
    rules = list(card.get("细则", []))
    for rule in rules:
        copying.append(rule["文"])
        free.append(rule.get("号", ""))
        rules += [rule["下"]] if "下" in rule else []
    return copying, free


def test_marked_fields_copy_and_the_others_are_free(vocabulary: Vocabulary) -> None:
    constraint = json_copying(CARD, SOURCES, vocabulary, NAMES, max_depth=6)
    others = JsonSchemaConstraint(CARD, vocabulary, 6, kept=["govlm:copy"])
    seen = {"copied figures": 0, "free figures": 0}
    for text in texts(constraint, 12, longest=300):
        assert accepts(others, text)
        copying, free = _strings(json.loads(text))
        assert all(copied(part, SOURCES, NAMES) for part in copying), text
        seen["copied figures"] += any(any(char.isdigit() for char in part) for part in copying)
        seen["free figures"] += not all(copied(part, SOURCES, NAMES) for part in free)
    assert min(seen.values()) > 0, seen


@pytest.mark.parametrize(
    ("text", "passes"),
    [('{"期限":"30个工作日","份数":9}', True), ('{"期限": "20元\\n30个", "份数": 12345}', True), ('{"期限":"无","份数":1}', True),
     ('{"期限":"30","份数":1}', False), ('{"期限":"31个","份数":1}', False), ('{"期限":"找王五","份数":1}', False),
     ('{"第1项":"99年","期限":"李四","份数":1}', True), ('{"期限":"20\\n元","份数":1}', False), ('{"期限":"说\\"20元\\"","份数":1}', True),
     ('{"期限":"","份数":1,"细则":[{"文":"十二条","号":"777"}]}', True), ('{"期限":"","份数":1,"细则":[{"文":"777"}]}', False),
     ('{"期限":"","份数":1,"细则":[{"文":"","下":{"文":"20元","下":{"文":"21元"}}}]}', False),
     ('{"期限":"","份数":1,"细则":[{"文":"","下":{"文":"20元","下":{"文":"20元","号":"2"}}}, {"文":"3月1日"}]}', True)],
)  # fmt: skip
def test_texts(text: str, passes: bool, vocabulary: Vocabulary) -> None:
    assert accepts(JsonSchemaConstraint(CARD, vocabulary, kept=["govlm:copy"]), text)
    assert accepts(json_copying(CARD, SOURCES, vocabulary, NAMES), text) == passes


def test_a_figure_that_the_length_cuts_off_is_not_begun(vocabulary: Vocabulary) -> None:
    """maxLength 3 leaves no room for 30个 after two characters, nor for 010-12345678 at all."""
    schema = {"type": "string", "maxLength": 3, "govlm:copy": True}
    constraint = json_copying(schema, SOURCES, vocabulary)
    state = constraint.start()
    for byte in b'"':
        state = constraint.advance(state, byte)
    assert constraint.allowed(state)[[ord("3"), ord("2")]].all()
    assert not constraint.allowed(state)[ord("0")]
    for byte in "需".encode():
        state = constraint.advance(state, byte)
    assert not constraint.allowed(state)[ord("3")]
    reachable(constraint, 25)


def test_a_field_that_wants_what_no_source_has(vocabulary: Vocabulary) -> None:
    schema = {"type": "object", "properties": {"年": {"type": "string", "pattern": "^[0-9]{4}$", "govlm:copy": True}}}
    assert accepts(json_copying(schema, SOURCES, vocabulary), "{}")  # it is left out
    assert {text for text in texts(json_copying(schema, SOURCES, vocabulary), 5)} == {"{}"}
    with pytest.raises(ValueError, match="no text fits both"):
        json_copying({**schema, "required": ["年"]}, SOURCES, vocabulary)


@pytest.mark.parametrize(
    ("schema", "message"),
    [({"type": "integer", "govlm:copy": True}, "for strings, not for type 'integer'"),
     ({"type": "array", "items": {"anyOf": [{"type": "null"}, {"type": "number"}]}, "govlm:copy": True}, "for strings, not for type 'number'"),
     ({"enum": ["20元", 3], "govlm:copy": True}, "not for the value 3"), ({"const": {"费": "3元"}, "govlm:copy": True}, "not for the value"),
     ({"type": "object", "properties": {"a": {"type": "string", "govlm:copy": "yes"}}}, r"property 'a': govlm:copy is true or false, not 'yes'"),
     ({"type": "string", "format": "date", "govlm:copy": True}, "'format' is not supported")],
)  # fmt: skip
def test_marks_that_could_not_be_kept_are_refused(schema: Any, message: str, vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match=message):
        json_copying(schema, SOURCES, vocabulary)


def test_without_sources_a_mark_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match="'govlm:copy' is not supported beside"):
        JsonSchemaConstraint({"type": "string", "govlm:copy": True}, vocabulary)


def test_a_choice_copies_where_any_part_is_marked(vocabulary: Vocabulary) -> None:
    schema = {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 4, "govlm:copy": True}, {"enum": ["99年", "20元"]}]}
    constraint = json_copying(schema, SOURCES, vocabulary)
    assert accepts(constraint, "null")
    assert accepts(constraint, '"20元"')
    assert not accepts(constraint, '"99年"')
    unmarked = json_copying({"enum": ["99年", '"1', {"a": ["7"]}]}, SOURCES, vocabulary)
    assert all(accepts(unmarked, text) for text in ('"99年"', '"\\"1"', '{"a":["7"]}'))


def test_names_of_fields_that_are_escaped(vocabulary: Vocabulary) -> None:
    schema = {"type": "object", "properties": {'a"\\': {"type": "string", "govlm:copy": True}, 'a"': {"type": "string"}}}
    constraint = json_copying(schema, SOURCES, vocabulary)
    assert accepts(constraint, json.dumps({'a"': "7"}))
    assert accepts(constraint, json.dumps({'a"\\': "20元"}, ensure_ascii=False))
    assert not accepts(constraint, json.dumps({'a"\\': "7"}))


def test_a_vocabulary_of_characters() -> None:
    vocabulary = by_characters('{}":,费期0123456789元日', ["30", "20元", '":"'])
    schema = {
        "type": "object", "properties": {"费": {"type": "string", "maxLength": 5, "govlm:copy": True}}, "required": ["费"],
    }  # fmt: skip
    constraint: Constraint = json_copying(schema, ["20元或3000日"], vocabulary)
    rng = np.random.default_rng(1)
    found = [generate(constraint, rng) for _ in range(30)]
    values = [json.loads(text)["费"] for text in found if text]
    assert all(copied(value, ["20元或3000日"]) for value in values)
    assert {"20元", "3000日"} & set(values)


def test_the_fields_alone_leave_the_rest_free(vocabulary: Vocabulary) -> None:
    fields = CopiedFieldsConstraint(CARD, SOURCES, vocabulary, NAMES)
    assert accepts(fields, '{"别的":{"x":[1,"99年",{}]},"期限":[ "20元" ] }')
    assert not accepts(fields, '{"期限":"21元"}')
    assert not accepts(fields, '{"期限":"20元"')
