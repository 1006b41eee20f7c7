"""Rows for models that write, from files: conversations, plain texts and pairs, as ids with the places that are to be learnt.

Loss is on answers only: every other token has the label -100. A conversation is written by the tokenizer's chat template; one
that has none gets DEFAULT_TEMPLATE, which is then saved with the model, so that `apply_chat_template` asks as training did.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.data import DataError, read_rows
from govlm.train.language import edges
from govlm.train.masking import IGNORED

__all__ = ["DEFAULT_TEMPLATE", "Conversation", "Written", "encode_causal", "encode_pairs", "read_conversations", "read_pairs"]

ROLES = ("system", "user", "assistant")
# Without line breaks, which some vocabularies do not have. END stands for the token that ends an answer.
DEFAULT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}问：{{ m.content }}答：{% elif m.role == 'assistant' %}"
    "{{ m.content }}END{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


class Conversation(NamedTuple):
    """messages: [{"role", "content"}], or None where `text` is plain; line: of the file, for messages about it."""

    messages: list[dict[str, str]] | None
    text: str | None
    line: int


@dataclass
class Written:
    """Rows as a model that writes takes them.

    ids int32 [T], row_splits int64 [N + 1]: what the model (of two stacks: the encoder) reads. labels int64: of a causal model [T],
    -100 where nothing is to be learnt; of two stacks [T2], what the decoder writes, with label_splits [N + 1]. prompts: the ids
    that an answer is generated from, and references: the answers; empty for plain texts. cut: rows that were too long; left_out:
    of these, rows of which no answer was left.
    """

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    labels: NDArray[np.int64]
    label_splits: NDArray[np.int64] | None = None
    prompts: list[NDArray[np.int32]] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    cut: int = 0
    left_out: int = 0
    names: list[str] = field(default_factory=list)  # of labels: there are none
    grams: Any = None

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def pair(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """A row's ids and labels."""
        splits = self.row_splits if self.label_splits is None else self.label_splits
        return (
            self.ids[self.row_splits[row] : self.row_splits[row + 1]],
            self.labels[splits[row] : splits[row + 1]],
        )

    def counts(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens of each of these rows are learnt (a causal row's first token is written by nobody)."""
        skip = 1 if self.label_splits is None else 0
        return np.array([int((self.pair(int(row))[1][skip:] != IGNORED).sum()) for row in rows], np.int64)

    def digest(self) -> str:
        """A fingerprint of what is learnt."""
        digest = hashlib.sha256()
        for array in (self.ids, self.row_splits, self.labels, self.label_splits):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


# -------------------------------------------------------------------- reading


def read_conversations(path: str | Path, data_format: str | None = None) -> list[Conversation]:
    """The rows of a JSONL, CSV or TSV file, each in one of three forms: `prompt` and `response` (strings); `messages`, a list of
    {"role": "system" | "user" | "assistant", "content"} with an answer; `text`, of which everything is learnt.

    Errors: DataError that names the file, the line and the field.
    """
    rows = []
    for line, row in read_rows(path, (), data_format):
        where = f"{path}:{line}"
        if "messages" in row:
            rows.append(Conversation(_messages(where, row["messages"]), None, line))
        elif "prompt" in row or "response" in row:
            found = [_string(where, row, name) for name in ("prompt", "response")]
            pairs = zip(("user", "assistant"), found, strict=True)
            rows.append(Conversation([{"role": role, "content": text} for role, text in pairs], None, line))
        elif "text" in row:
            rows.append(Conversation(None, _string(where, row, "text"), line))
        else:
            has = ", ".join(map(str, row)) or "nothing"
            raise DataError(
                f"{where}: neither 'prompt' and 'response' nor 'messages' nor 'text' is there (the line has: {has})"
            )
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def _string(where: str, row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        state = "is missing" if value is None else "is empty" if isinstance(value, str) else "is no string"
        raise DataError(f"{where}: field {name!r} {state}")
    return value


def _messages(where: str, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: field 'messages' must be a list of messages")
    for number, message in enumerate(value, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(message.get("content"), str):
            raise DataError(f"{where}: message {number} must have a 'role' ({', '.join(ROLES)}) and a string in 'content'")
    if not any(message["role"] == "assistant" for message in value):
        raise DataError(f"{where}: field 'messages' has no answer: a message with the role 'assistant'")
    return [{"role": m["role"], "content": m["content"]} for m in value]


def read_pairs(path: str | Path, source: str, target: str, data_format: str | None = None) -> list[tuple[str, str]]:
    """(source, target) of every row of a JSONL, CSV or TSV file. Errors: DataError naming the file, the line and the field."""
    rows = [
        (_string(f"{path}:{line}", row, source), _string(f"{path}:{line}", row, target))
        for line, row in read_rows(path, (source, target), data_format)
    ]
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


# -------------------------------------------------------------------- encoding


def _bare(tokenizer: Any, texts: Sequence[str]) -> list[NDArray[np.int32]]:
    """The ids of texts, without special tokens but those that stand in them."""
    ids, splits = tokenizer._native.encode(list(texts))[:2]
    return [np.asarray(ids[a:b], np.int32) for a, b in itertools.pairwise(splits)]


def give_template(tokenizer: Any) -> None:
    """The default template, for a tokenizer without one."""
    if tokenizer.chat_template is None:
        end = tokenizer.convert_ids_to_tokens(edges(tokenizer)[1])
        tokenizer.chat_template = DEFAULT_TEMPLATE.replace("END", end)


def _turns(tokenizer: Any, row: Conversation, source: str) -> tuple[list[tuple[str, bool]], str]:
    """(the conversation's text in pieces, each with whether it is learnt, the last answer)."""
    assert row.messages is not None
    where = f"{source}:{row.line}"
    pieces: list[tuple[str, bool]] = []
    done, last = "", ""
    for number, message in enumerate(row.messages):
        if message["role"] != "assistant":
            continue
        try:
            before = tokenizer.apply_chat_template(row.messages[:number], tokenize=False, add_generation_prompt=True)
            through = tokenizer.apply_chat_template(row.messages[: number + 1], tokenize=False)
        except ValueError as error:
            raise DataError(f"{where}: the chat template refuses message {number + 1}: {error}") from None
        if not before.startswith(done) or not through.startswith(before):
            raise DataError(
                f"{where}: the chat template writes what stands before answer {number + 1} anew: split the conversation into rows"
            )
        pieces += [(before[len(done) :], False), (through[len(before) :], True)]
        done, last = through, message["content"]
    return pieces, last


def encode_causal(tokenizer: Any, rows: Sequence[Conversation], limit: int, source: str) -> Written:
    """Conversations and texts as rows of a causal model, cut behind `limit` tokens.

    Errors: DataError naming the row, where the template refuses it or no row has an answer within the limit.
    """
    begin, end = edges(tokenizer)
    if any(row.messages is not None for row in rows):
        give_template(tokenizer)
    head = np.array([] if begin is None else [begin], np.int32)
    made = Written(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64))
    ids: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int64]] = []
    for row in rows:
        if row.messages is None:
            whole = np.concatenate([head, *_bare(tokenizer, [row.text or ""]), [end]]).astype(np.int32)
            learnt, prompt, answer = whole.astype(np.int64), None, ""
        else:
            pieces, answer = _turns(tokenizer, row, source)
            parts = _bare(tokenizer, [text for text, _ in pieces])
            if begin is not None and not (len(parts[0]) and parts[0][0] == begin):  # a template may write it itself
                parts[0] = np.concatenate([head, parts[0]]).astype(np.int32)
            whole = np.concatenate(parts)
            wanted = np.repeat([learn for _, learn in pieces], [len(part) for part in parts])
            learnt = np.where(wanted, whole, IGNORED).astype(np.int64)
            prompt = np.concatenate(parts[:-1])
        made.cut += len(whole) > limit
        whole, learnt = whole[:limit], learnt[:limit]
        if not (learnt[1:] != IGNORED).any():
            made.left_out += 1
            continue
        ids.append(whole)
        labels.append(learnt)
        if prompt is not None and len(prompt) < limit:
            made.prompts.append(prompt)
            made.references.append(answer)
    return _gathered(made, ids, labels, limit, source)


def encode_pairs(tokenizer: Any, rows: Sequence[tuple[str, str]], limit: int, most: int, source: str) -> Written:
    """Pairs as rows of an encoder-decoder: a source keeps `limit` tokens, a target `most`, both with the tokens that end them."""
    end = edges(tokenizer)[1]
    packed = tokenizer.encode_packed([row[0] for row in rows], max_length=limit, truncation=True)
    splits = np.asarray(packed.row_splits, np.int64)
    targets = _bare(tokenizer, [row[1] for row in rows])
    made = Written(np.asarray(packed.ids, np.int32), splits, np.zeros(0, np.int64))
    made.cut = int(((np.diff(splits) >= limit) | np.array([len(t) >= most for t in targets])).sum())
    labels = [np.concatenate([t[: most - 1], [end]]).astype(np.int64) for t in targets]
    made.labels, made.label_splits = np.concatenate(labels), _splits(labels)
    made.prompts = [made.pair(row)[0] for row in range(len(made))]
    made.references = [row[1] for row in rows]
    return made


def _gathered(made: Written, ids: list[NDArray[np.int32]], labels: list[NDArray[np.int64]], limit: int, source: str) -> Written:
    if not ids:
        raise DataError(f"{source}: no row has an answer within {limit} tokens: raise max_length")
    made.ids, made.labels, made.row_splits = np.concatenate(ids), np.concatenate(labels), _splits(ids)
    return made


def _splits(parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
