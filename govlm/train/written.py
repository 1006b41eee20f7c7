"""Rows for models that write: what stands before an answer, and the answer, whose tokens alone are learned.

A JSONL row is one of {"messages": [{"role", "content"}, …]}, {"prompt", "response"} and {"text"}, which is learned whole; CSV and TSV
rows have `source` and `target` columns, as JSONL rows of a summary may. A causal model reads both as one text: through the
tokenizer's chat template where it has one, else the source, a line break and the target. Every answer ends with the end token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.data import DataError, read_rows
from govlm.train.masking import IGNORED

__all__ = ["Dialogue", "Written", "encode_written", "end_id", "read_dialogues"]

_ROLES = ("system", "user", "assistant", "tool")


class Dialogue(NamedTuple):
    """messages: (role, content) in order; "text" stands for a text that is learned whole. line: of the file."""

    messages: tuple[tuple[str, str], ...]
    line: int

    @property
    def target(self) -> str:
        """The last answer."""
        return self.messages[-1][1]


def read_dialogues(
    path: str | Path, source_field: str = "source", target_field: str = "target", format: str | None = None
) -> Iterator[Dialogue]:
    """The rows of a file. Errors: DataError with file, line and field."""
    for number, row in read_rows(path, format=format):
        where = f"{path}:{number}"
        if "messages" in row:
            yield Dialogue(_messages(where, row["messages"]), number)
        elif source_field in row or target_field in row:
            yield Dialogue((("user", _text(where, row, source_field)), ("assistant", _text(where, row, target_field))), number)
        elif "prompt" in row or "response" in row:
            yield Dialogue((("user", _text(where, row, "prompt")), ("assistant", _text(where, row, "response"))), number)
        elif "text" in row:
            yield Dialogue((("text", _text(where, row, "text")),), number)
        else:
            raise DataError(
                f"{where}: needs messages, prompt and response, {source_field} and {target_field}, or text "
                f"(the line has: {', '.join(map(str, row)) or 'nothing'})"
            )


def _text(where: str, row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {field!r} must be a text that is not empty")
    return value


def _messages(where: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: messages must be a list of {{role, content}} that is not empty")
    found: list[tuple[str, str]] = []
    for place, message in enumerate(value):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in _ROLES or not isinstance(content, str):
            raise DataError(f"{where}: messages[{place}] needs a role ({', '.join(_ROLES)}) and a content that is text")
        found.append((role, content))
    if found[-1][0] != "assistant":
        raise DataError(f"{where}: the last message must be the assistant's: it is what is learned")
    return tuple(found)


@dataclass
class Written:
    """Encoded rows. ids int32 [T], row_splits int64 [n+1]: what the model reads (a sequence-to-sequence model's encoder: the source);
    labels int64 [L], label_splits [n+1]: of a causal model one for each of the ids, IGNORED where nothing is learned; of the
    other kind the target. references: the last answers, as texts; prompts [n]: how many of a causal model's ids stand before it.
    """

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    labels: NDArray[np.int64]
    label_splits: NDArray[np.int64]
    references: list[str]
    prompts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def row(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """(ids, labels) of a row."""
        a, b = self.row_splits[number : number + 2]
        c, d = self.label_splits[number : number + 2]
        return self.ids[a:b], self.labels[c:d]

    def learned(self, number: int) -> int:
        """Tokens of a row that are learned."""
        return int((self.row(number)[1] != IGNORED).sum())

    def digest(self) -> str:
        """A fingerprint of ids and labels."""
        digest = hashlib.sha256()
        for array in (self.ids, self.row_splits, self.labels, self.label_splits):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def end_id(tokenizer: Any) -> int:
    """The token that ends a text: eos, of a BERT vocabulary [SEP]. ValueError where there is none."""
    for name in ("eos_token_id", "sep_token_id"):
        found = getattr(tokenizer, name, None)
        if found is not None:
            return int(found)
    raise ValueError("the tokenizer has no token that ends a text (eos_token)")


def encode_written(
    tokenizer: Any, dialogues: Sequence[Dialogue], seq2seq: bool, max_length: int, source: str, max_target: int | None = None
) -> Written:
    """max_length: tokens of a row (of a source); a longer prompt loses its beginning, a longer answer its end; max_target: tokens of a
    target (default max_length). DataError where a row has nothing to learn left."""
    end = end_id(tokenizer)
    rows: list[tuple[list[int], list[int], int]] = []
    for dialogue in dialogues:
        if seq2seq:
            if len(dialogue.messages) < 2:
                raise DataError(
                    f"{source}:{dialogue.line}: a sequence-to-sequence model needs a source and a target, not a bare text"
                )
            text = "\n".join(content for _, content in dialogue.messages[:-1])
            ids = [*_ids(tokenizer, text)[: max_length - 1], end]
            rows.append((ids, [*_ids(tokenizer, dialogue.target)[: (max_target or max_length) - 1], end], 0))
            continue
        ids, labels, before = _causal(tokenizer, dialogue, end)
        over = len(ids) - max_length
        if over > 0:
            cut = min(over, before)  # the beginning of the prompt
            ids, labels, before = ids[cut:][:max_length], labels[cut:][:max_length], before - cut
        if all(label == IGNORED for label in labels[1:]):
            raise DataError(f"{source}:{dialogue.line}: within {max_length} tokens there is no answer to learn")
        rows.append((ids, labels, before))
    splits = np.cumsum([0, *(len(ids) for ids, _, _ in rows)]).astype(np.int64)
    label_splits = np.cumsum([0, *(len(labels) for _, labels, _ in rows)]).astype(np.int64)
    return Written(
        np.array([i for ids, _, _ in rows for i in ids], np.int32), splits,
        np.array([i for _, labels, _ in rows for i in labels], np.int64), label_splits,
        [dialogue.target for dialogue in dialogues], np.array([before for _, _, before in rows], np.int64),
    )  # fmt: skip


def _ids(tokenizer: Any, text: str) -> list[int]:
    return [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _causal(tokenizer: Any, dialogue: Dialogue, end: int) -> tuple[list[int], list[int], int]:
    """(ids, labels, ids before the last answer)"""
    ids: list[int] = []
    labels: list[int] = []
    before = 0
    for text, learned in _pieces(tokenizer, dialogue):
        new = _ids(tokenizer, text)
        if learned:
            before = len(ids)
            if not new or new[-1] != end:
                new.append(end)
        ids += new
        labels += new if learned else [IGNORED] * len(new)
    return ids, labels, before


def _pieces(tokenizer: Any, dialogue: Dialogue) -> Iterator[tuple[str, bool]]:
    """(text, whether it is learned), in order."""
    messages = [{"role": role, "content": content} for role, content in dialogue.messages]
    if messages[0]["role"] == "text":
        yield messages[0]["content"], True
        return
    if getattr(tokenizer, "chat_template", None):
        done = ""
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            opened = tokenizer.apply_chat_template(messages[:place], tokenize=False, add_generation_prompt=True)
            closed = tokenizer.apply_chat_template(messages[: place + 1], tokenize=False)
            if not (opened.startswith(done) and closed.startswith(opened)):
                raise DataError("the chat template writes earlier messages anew: where an answer begins cannot be told")
            yield opened[len(done) :], False
            yield closed[len(opened) :], True
            done = closed
        return
    for place, message in enumerate(messages):
        answer = message["role"] == "assistant"
        yield message["content"] if answer else ("\n" if place else "") + message["content"] + "\n", answer
