"""The sentences that understanding is made from; `govlm/assets/understanding` holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from govlm.hall.privacy import find
from govlm.hall.retrieval.index import Entry

__all__ = [
    "ACTS",
    "FOLDER",
    "OUT_OF_SCOPE",
    "SENTENCES",
    "act_entries",
    "out_of_scope_entry",
    "questions",
    "read_rows",
    "without_numbers",
]

ACTS = (
    "ask", "apply", "provide", "correct", "confirm", "deny", "cancel", "skip", "repeat", "back", "progress", "handoff", "smalltalk",
)  # fmt: skip
OUT_OF_SCOPE = ""  # key of the entry that stands for everything that no hall answers

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "understanding"
SENTENCES = ("acts.jsonl", "out_of_scope.jsonl")  # what of it lies in every index


def read_rows(name: str) -> Iterator[dict[str, Any]]:
    """Rows of a file in the folder."""
    with open(FOLDER / name, encoding="utf-8") as handle:
        for line in handle:
            yield json.loads(line)


@cache
def _acts() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {act: [] for act in ACTS}
    for row in read_rows("acts.jsonl"):
        found[row["act"]].append(row["text"])
    return {act: tuple(texts) for act, texts in found.items()}


def act_entries(without: frozenset[str] = frozenset()) -> list[Entry]:
    """An entry an act, in the order of ACTS. without: sentences to leave out, for fitting."""
    return [Entry(act, (), tuple(without_numbers(t) for t in texts if t not in without)) for act, texts in _acts().items()]


def out_of_scope_entry(without: frozenset[str] = frozenset()) -> Entry:
    return Entry(OUT_OF_SCOPE, (), tuple(row["text"] for row in read_rows("out_of_scope.jsonl") if row["text"] not in without))


def questions() -> list[str]:
    """Ways to ask about anything: {} stands for what it is called."""
    return (FOLDER / "questions.txt").read_text("utf-8").splitlines()


def without_numbers(text: str) -> str:
    """The text with 号码 for each personal number: that there is one says something, which one it is does not."""
    pieces, end = [], 0
    for span in find(text):
        pieces += [text[end : span.start], "号码"]
        end = span.end
    return "".join([*pieces, text[end:]])
