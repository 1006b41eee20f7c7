"""The case files of the hall are well formed, without doubles, and large enough to measure with. They say nothing of the hall itself.

Their sentences were written before any model was seen, and not by who wrote the training sentences. Keep it so: a case that a
model fails is changed only where a reader finds the case wrong.

    business      {text, business, item}; out_of_scope {text}; acts {text, act}
    slots         {text, today, slots: [{kind, text, start, end, value[, valid]}]}; only dates that are one day are marked
    answers       {text, item, asks, refused, kind}; asks [] and refused false = the item as a whole; item "" = none
    privacy       {text, spans: [{kind, text, start, end, valid}]}; valid null = the kind has no check
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sample_items import ITEMS

from govlm.numbers import credit_code, identity_card, luhn

CASES = Path(__file__).parent / "hall"
TODAY = date(2026, 11, 24)

BUSINESS_OF = {item: business for business, items in ITEMS.items() for item in items}
ACTS = [
    "ask",
    "apply",
    "provide",
    "correct",
    "confirm",
    "deny",
    "cancel",
    "skip",
    "repeat",
    "back",
    "progress",
    "handoff",
    "smalltalk",
]
PERSONAL = {"identity_card", "credit_code", "bank_card", "mobile", "landline", "email", "passport", "plate", "travel_permit"}
SLOTS = PERSONAL - {"travel_permit"} | {"name", "address", "date", "amount", "organisation"}
PARTS = {
    "audiences", "conditions", "steps", "materials", "notes", "limit", "fee", "places", "phones", "basis", "result", "online",
}  # fmt: skip
SIZES = {
    "business": 420, "out_of_scope": 200, "acts": 260, "slots": 250, "answers": 150, "privacy": 150,
}  # fmt: skip
KEYS = {
    "business": {"text", "business", "item"},
    "out_of_scope": {"text"},
    "acts": {"text", "act"},
    "slots": {"text", "slots", "today"},
    "answers": {"text", "item", "asks", "refused", "kind"},
    "privacy": {"text", "spans"},
}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", SIZES)
def test_rows_are_complete_unique_and_enough(name):
    found = rows(name)
    assert len(found) >= SIZES[name]
    for row in found:
        assert set(row) == KEYS[name], row
        assert row["text"].strip() == row["text"] != "", row
    assert [text for text, count in Counter(row["text"] for row in found).items() if count > 1] == []


def test_no_file_of_cases_is_missing_here():
    assert {path.stem for path in CASES.glob("*.jsonl")} == {*SIZES, "forms", "policy"}  # these two: test_forms, test_policy


def test_every_business_type_and_item_has_its_sentences():
    found = rows("business")
    for row in found:
        assert BUSINESS_OF[row["item"]] == row["business"], row
    types, items = Counter(row["business"] for row in found), Counter(row["item"] for row in found)
    assert {kind: types[kind] for kind in ITEMS if types[kind] < 20} == {}
    assert {item: items[item] for item in BUSINESS_OF if items[item] < 5} == {}


def test_what_is_in_scope_is_not_out_of_scope():
    outside = {row["text"] for row in rows("out_of_scope")}
    assert outside.isdisjoint(row["text"] for row in rows("business"))
    assert outside.isdisjoint(row["text"] for row in rows("answers") if not row["refused"])


def test_every_act_has_its_sentences():
    assert Counter(row["act"] for row in rows("acts")) == dict.fromkeys(ACTS, 20)


def marked() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(file, the sentence, what is marked in it)."""
    for name, key in (("slots", "slots"), ("privacy", "spans")):
        for row in rows(name):
            for span in row[key]:
                yield name, row["text"], span


def test_marks_lie_where_they_say_and_do_not_overlap():
    for _, text, span in marked():
        assert text[span["start"] : span["end"]] == span["text"] != "", (text, span)
    for name, key in (("slots", "slots"), ("privacy", "spans")):
        for row in rows(name):
            ends = 0
            for span in row[key]:
                assert span["start"] >= ends, row
                ends = span["end"]


def plain(text: str) -> str:
    """Letters and digits alone, half-width."""
    narrow = "".join(chr(ord(char) - 0xFEE0) if 0xFF01 <= ord(char) <= 0xFF5E else char for char in text)
    return "".join(char for char in narrow if char.isascii() and char.isalnum()).upper()


def test_check_digits_are_as_marked():
    seen = Counter()
    for name, text, span in marked():
        kind, number = span["kind"], plain(span["text"])
        if kind == "identity_card":
            wanted = None if len(number) == 15 else identity_card(number, TODAY)
        elif kind == "credit_code":
            wanted = credit_code(number)
        elif kind == "bank_card":
            wanted = 15 <= len(number) <= 19 and luhn(number)
        elif name == "slots":
            assert "valid" not in span, (text, span)
            continue
        else:
            wanted = True if kind in ("mobile", "landline") else None
        assert span["valid"] is wanted, (text, span)
        seen[kind, wanted] += 1
    for kind in ("identity_card", "credit_code", "bank_card"):
        assert seen[kind, True] >= 10 and seen[kind, False] >= 3, seen


def test_slots_are_of_known_kinds_and_their_values_are_readable():
    found = rows("slots")
    counts = Counter(slot["kind"] for row in found for slot in row["slots"])
    assert set(counts) == SLOTS and min(counts.values()) >= 5, counts
    assert sum(not row["slots"] for row in found) >= 30  # nothing is to be found there
    for row in found:
        assert row["today"] == TODAY.isoformat()
        for slot in row["slots"]:
            if slot["kind"] == "date":
                date.fromisoformat(slot["value"])
            elif slot["kind"] == "amount":
                assert Decimal(slot["value"]) > 0, row
            elif slot["kind"] in ("mobile", "identity_card", "bank_card", "credit_code"):
                assert plain(slot["text"]).endswith(slot["value"]), row


def test_answers_ask_for_parts_that_exist():
    found = rows("answers")
    for row in found:
        assert row["item"] == "" or row["item"] in BUSINESS_OF, row
        assert set(row["asks"]) <= PARTS and len(set(row["asks"])) == len(row["asks"]), row
        assert not (row["refused"] and row["asks"]), row
        assert row["refused"] or row["item"], row
        assert row["refused"] or row["kind"] != "unanswerable", row
    kinds = Counter(row["kind"] for row in found)
    assert set(kinds) == {"plain", "unanswerable", "premise", "injection", "traditional", "typo", "colloquial"}
    assert min(kinds.values()) >= 12, kinds
    asked = Counter(part for row in found for part in row["asks"])
    assert set(asked) == PARTS and min(asked.values()) >= 3, asked
    assert {row["item"] for row in found} >= set(BUSINESS_OF)


def test_personal_data_of_every_kind_and_texts_without_any():
    found = rows("privacy")
    counts = Counter(span["kind"] for row in found for span in row["spans"])
    assert set(counts) == PERSONAL and min(counts.values()) >= 5, counts
    assert sum(not row["spans"] for row in found) >= 30
