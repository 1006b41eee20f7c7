"""Few-shot classification with the masked LM: the label is what the model would write into a gap (PET, arXiv:2001.07676).

A text is put into a pattern with a gap, "{text}。这条是关于{mask}的。"; each label has a word (or several), and its score is the
mean log-probability of the word's pieces in the gap. Words of different lengths have gaps of different lengths: one forward for
each length. All weights learn, the head of the masked LM with them, so that no new head has to be learnt from a few rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.outputs import Call, grad_enabled, versions_of
from govlm.train.evaluate import Encoded, label_names, new_packed, text_limit
from govlm.train.finetune import SumLoss, Trainer
from govlm.train.loop import Part, TrainError

__all__ = ["PATTERN", "FewShotTrainer", "PatternModel", "read_words"]

PATTERN = "{text}。这条是关于{mask}的。"
_STREAM = 1 << 20  # dropout's sample numbers of gaps of the next length


def read_words(path: str | Path | None, labels: Sequence[str]) -> dict[str, list[str]]:
    """The words of each label: from a JSON object {label: word or [words]}, or the labels' own names.

    Errors: TrainError that names the file and the label.
    """
    if path is None:
        return {label: [label] for label in labels}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path}: not a JSON object of label words: {error}") from None
    if not isinstance(found, dict):
        raise TrainError(f"{path}: a JSON object from label to word (or list of words) is expected")
    words = {}
    for label in labels:
        value = found.get(label)
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list) or not several or not all(isinstance(w, str) and w.strip() for w in several):
            raise TrainError(f"{path}: the label {label!r} has no word (or list of words) in it")
        words[label] = list(several)
    return words


@dataclass(frozen=True)
class Gap:
    """The words of one length. words: int64 [W, length] ids; labels: [W], whose they are; shares: [W], 1 / words of the label."""

    length: int
    words: NDArray[np.int64]
    labels: NDArray[np.int64]
    shares: NDArray[np.float64]


class PatternOutput:
    """Scores [B, K] of the labels, and the way back from gradients at them."""

    def __init__(self, model: PatternModel, gaps: list[tuple[Gap, Any, Call, NDArray[np.float64]]], count: int) -> None:
        self._model, self._gaps = model, gaps
        scores = np.zeros((count, len(model.names)))
        for gap, _, _, logs in gaps:
            words = logs[:, np.arange(gap.length), gap.words].mean(axis=2)  # [B, W]
            np.add.at(scores.T, gap.labels, (words * gap.shares).T)
        self.logits = scores.astype(np.float32)

    def first_nonfinite(self) -> str | None:
        return next((name for name in (done.first_nonfinite() for _, done, _, _ in self._gaps) if name), None)

    def backward(self, *, logits: NDArray[np.float32]) -> None:
        """Adds to the model's gradients what flows back from `logits` [B, K]."""
        for gap, done, call, logs in self._gaps:
            shares = logits[:, gap.labels] * gap.shares / gap.length  # [B, W]
            gradient = -np.exp(logs) * shares.sum(axis=1)[:, None, None]
            for place in range(gap.length):
                np.add.at(gradient[:, place].T, gap.words[:, place], shares.T)
            flat = np.ascontiguousarray(gradient.reshape(-1, logs.shape[2]), np.float32)
            done.backward(None, logits=flat)
            self._model.model._after_backward(call)


class PatternModel:
    """A masked LM as a classifier: takes packed texts without special tokens, gives scores of the labels of `config.fewshot`.

    model: a ...ForMaskedLM; its config has id2label and, after this, "fewshot" with pattern and words. What is not here is the
    masked LM's own. Errors: TrainError for a pattern without {text} or {mask}, or a word that the vocabulary lacks.
    """

    def __init__(self, model: Any, tokenizer: Any, pattern: str, words: Mapping[str, Sequence[str]]) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.names = label_names(model.config)
        if pattern.count("{text}") != 1 or pattern.count("{mask}") != 1:
            raise TrainError(f"the pattern must hold {{text}} and {{mask}} once each, it is {pattern!r}")
        head, tail = pattern.split("{text}")
        self._gap_first = "{mask}" in head
        before, after = (head if self._gap_first else tail).split("{mask}")
        literals = (before, after, tail) if self._gap_first else (head, before, after)
        self._literals = [self._ids(part) for part in literals]
        pieces: dict[int, list[tuple[int, NDArray[np.int32], float]]] = {}
        for number, name in enumerate(self.names):
            for word in words[name]:
                ids = self._ids(word)
                if len(ids) == 0 or tokenizer.unk_token_id in ids:
                    raise TrainError(
                        f"the vocabulary cannot write {word!r}, the word of label {name!r}: give other words with --label-words FILE"
                    )
                pieces.setdefault(len(ids), []).append((number, ids, 1 / len(words[name])))
        self._gaps = [
            Gap(length, np.stack([p[1] for p in found]).astype(np.int64), np.array([p[0] for p in found]), np.array([p[2] for p in found]))
            for length, found in sorted(pieces.items())
        ]  # fmt: skip
        longest = max(gap.length for gap in self._gaps)
        self._overhead = 2 + longest + sum(len(part) for part in self._literals)
        model.config.fewshot = {"pattern": pattern, "words": {name: list(words[name]) for name in self.names}}

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> PatternModel:
        """Loads what `govlm finetune --few-shot` wrote. Errors: OSError or ValueError that names what is wrong."""
        import govlm

        model = govlm.AutoModelForMaskedLM.from_pretrained(str(folder))
        entry = getattr(model.config, "fewshot", None)
        if not isinstance(entry, dict) or not isinstance(entry.get("pattern"), str) or not isinstance(entry.get("words"), dict):
            raise ValueError(f"{Path(folder) / 'config.json'}: its entry 'fewshot' is missing or malformed")
        return cls(model, govlm.AutoTokenizer.from_pretrained(str(folder)), entry["pattern"], entry["words"])

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # before __init__
            raise AttributeError(name)
        return getattr(self.model, name)

    @property
    def dropout_seed(self) -> int:
        return int(self.model.dropout_seed)

    @dropout_seed.setter
    def dropout_seed(self, value: int) -> None:
        self.model.dropout_seed = value

    @property
    def dropout_step(self) -> int:
        return int(self.model.dropout_step)

    @dropout_step.setter
    def dropout_step(self, value: int) -> None:
        self.model.dropout_step = value

    def eval(self) -> PatternModel:
        self.model.eval()
        return self

    def train(self, mode: bool = True) -> PatternModel:
        self.model.train(mode)
        return self

    def _ids(self, text: str) -> NDArray[np.int32]:
        return np.asarray(self.tokenizer._native.encode([text])[0], np.int32)

    def encode_texts(self, texts: list[str], max_length: int | None) -> Encoded:
        """The tokens of texts alone, cut so that they fit the model with the pattern."""
        room = text_limit(self.model, max_length) - self._overhead
        if room < 1:
            raise TrainError(f"the pattern and the longest word take {self._overhead} tokens and leave no room for a text")
        ids, splits = self.tokenizer._native.encode(texts, max_length=room)
        return Encoded(np.asarray(ids), np.asarray(splits), None, self.names)

    def _fill(self, ids: NDArray[np.int32], splits: NDArray[np.int64], length: int) -> tuple[Any, NDArray[np.int32]]:
        """(packed, rows): the texts in the pattern with a gap of `length`, and where the gaps' tokens are."""
        tokenizer = self.tokenizer
        gap = np.full(length, tokenizer.mask_token_id, np.int32)
        first, second, third = self._literals
        opening = [np.array([tokenizer.cls_token_id], np.int32), first]
        closing = [third, np.array([tokenizer.sep_token_id], np.int32)]
        parts, new, rows, place = [], [0], [], 0
        for i in range(len(splits) - 1):
            text = ids[splits[i] : splits[i + 1]]
            middle = [gap, second, text] if self._gap_first else [text, second, gap]
            start = place + 1 + len(first) + (0 if self._gap_first else len(text) + len(second))
            rows.append(np.arange(start, start + length, dtype=np.int32))
            row = [*opening, *middle, *closing]
            parts += row
            place += sum(len(part) for part in row)
            new.append(place)
        return new_packed(np.concatenate(parts), np.array(new, np.int64)), np.concatenate(rows)

    def __call__(self, *, packed: Any, samples: NDArray[np.uint32] | None = None) -> PatternOutput:
        """Scores of packed texts (from `encode_texts`). samples: as for the masked LM."""
        model, count = self.model, len(packed.row_splits) - 1
        save = model.training and grad_enabled()
        step = model.dropout_step
        model._last.output = None  # gives its workspace back before these forwards take theirs
        gaps = []
        for number, gap in enumerate(self._gaps):
            filled, rows = self._fill(packed.ids, packed.row_splits, gap.length)
            places = np.arange(count, dtype=np.uint32) if samples is None else samples
            batch = model._batch(None, None, None, None, filled)
            core = model._core_of("")
            arguments = model._dropout(None, step, places + np.uint32(number * _STREAM))
            call = Call(core, batch, arguments, versions_of(core, arguments))
            done = call.run(
                rows=rows, hidden=False, attentions=False, logits=True, labels=False, save=save, labelled=False
            )  # fmt: skip
            z = np.asarray(done.logits, np.float64).reshape(count, gap.length, -1)
            z -= z.max(axis=2, keepdims=True)
            z -= np.log(np.exp(z).sum(axis=2, keepdims=True))
            gaps.append((gap, done, call, z))
        return PatternOutput(self, gaps, count)


class FewShotTrainer(Trainer):
    """Trains a `PatternModel` on encoded rows; the rest as in Trainer."""

    def _loss(self, part: Part) -> tuple[Any, Any]:
        arguments = dict(part.arguments)
        labels = arguments.pop("labels")
        arguments.pop("class_weights", None)
        offset = arguments.pop("offset", np.float32(0))
        outputs = self.model(**arguments)
        return SumLoss(outputs, offset, labels, self.weights), outputs
