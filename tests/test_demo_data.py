"""The bundled requests: enough of each kind, no repetition, test wordings that differ from training ones."""

import json
from collections import Counter
from importlib.resources import files


def rows(part: str) -> list[dict[str, str]]:
    text = (files("govlm") / "assets" / "demo" / f"{part}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}


def test_enough_of_each_kind() -> None:
    train, test = (Counter(row["label"] for row in rows(part)) for part in ("train", "test"))
    assert len(train) >= 12 and set(train) == set(test)
    for label in train:
        assert train[label] + test[label] >= 40, label
        assert test[label] >= 10, label


def test_rows_are_clean() -> None:
    everything = rows("train") + rows("test")
    for row in everything:
        assert set(row) == {"text", "label"}
        assert row["text"] == row["text"].strip() and len(row["text"]) >= 3
    texts = Counter(row["text"] for row in everything)
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_test_sentence_is_close_to_a_training_sentence() -> None:
    train = [(row["text"], pairs(row["text"])) for row in rows("train")]
    for row in rows("test"):
        own = pairs(row["text"])
        for text, other in train:
            assert len(own & other) <= 0.6 * len(own | other), (row["text"], text)
