"""The bundled demo requests: enough of them, well formed, and a test split that training has not seen in other clothes."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent / "govlm" / "assets" / "demo"
MIN_TYPES = 16  # the issue asks for 12
MIN_PER_TYPE = 40
MAX_SIMILARITY = 0.6


def read(name: str) -> list[dict[str, str]]:
    lines = (DEMO / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def train() -> list[dict[str, str]]:
    return read("train.jsonl")


@pytest.fixture(scope="module")
def test() -> list[dict[str, str]]:
    return read("test.jsonl")


def bigrams(text: str) -> set[str]:
    """Character pairs of the text without spaces and punctuation, so that a comma does not hide a copy."""
    text = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c)[0] in "LN")
    return {text[i : i + 2] for i in range(len(text) - 1)} or {text}


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def test_rows_are_plain_text_and_label(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    for row in train + test:
        assert set(row) == {"text", "label"}
        assert row["text"] == row["text"].strip() and len(row["text"]) >= 3
        assert not any(unicodedata.category(c).startswith("C") for c in row["text"]), row


def test_enough_types_and_requests(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    total = Counter(row["label"] for row in train + test)
    assert len(total) >= MIN_TYPES
    assert min(total.values()) >= MIN_PER_TYPE, total.most_common()[-1]
    held_out = Counter(row["label"] for row in test)
    assert set(held_out) == set(total), "every type is tested"
    assert min(held_out.values()) >= 12


def test_no_text_twice(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    texts = Counter("".join(sorted(bigrams(row["text"]))) for row in train + test)
    assert [key for key, count in texts.items() if count > 1] == []


def test_test_wordings_differ_from_training(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    known = [(row["text"], bigrams(row["text"])) for row in train]
    close = [
        (row["text"], text) for row in test for text, pairs in known if jaccard(bigrams(row["text"]), pairs) >= MAX_SIMILARITY
    ]
    assert close == []


def test_similarity_measure_sees_a_near_copy() -> None:
    assert jaccard(bigrams("身份证丢了，怎么补办？"), bigrams("身份证丢了怎么补办啊")) >= MAX_SIMILARITY
    assert jaccard(bigrams("身份证丢了怎么补办"), bigrams("想打一份参保证明")) < MAX_SIMILARITY


def test_requests_vary(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    """Not one sentence with the noun exchanged: openings are many, and there are short and long ones of every type."""
    rows = train + test
    openings = Counter(row["text"][:4] for row in rows)
    assert openings.most_common(1)[0][1] <= len(rows) * 0.05
    for label in {row["label"] for row in rows}:
        lengths = [len(row["text"]) for row in rows if row["label"] == label]
        assert min(lengths) <= 10 and max(lengths) >= 40, label


def test_nothing_personal(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    """No digits long enough for a phone or an identity number, no addresses of any kind."""
    for row in train + test:
        assert not re.search(r"\d{5,}|@|https?:", row["text"]), row


def test_note_states_the_counts(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    note = (DEMO / "README.md").read_text(encoding="utf-8")
    assert f"`train.jsonl` ({len(train)} rows)" in note and f"`test.jsonl` ({len(test)} rows)" in note
