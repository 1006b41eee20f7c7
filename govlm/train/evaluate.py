"""Encoded rows, evaluation and prediction with a trained classifier."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.data import DataError, Example, Text, read_examples
from govlm.train.metrics import classification_report, cross_entropy, multi_label_report, softmax
from govlm.train.ngrams import NgramBranch, NgramOptions, count_ngrams

__all__ = ["Classifier", "Encoded", "Prediction", "encode", "evaluate", "evaluate_encoded", "predict_logits"]

MULTI_LABEL = "multi_label_classification"
SINGLE_LABEL = "single_label_classification"


@dataclass
class Encoded:
    """Rows as the encoder takes them.

    ids: int32 [T], all texts; row_splits: int64 [n+1]; types: int32 [T], token types, where the rows are pairs; labels: int64 [n], float32 [n, labels] for multi-label, or None;
    grams: the rows' n-gram counts (govlm.train.ngrams), where a branch is wanted; offset: float32 [n, labels], what a branch
    adds to the encoder's logits.
    """

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    labels: NDArray[Any] | None
    names: list[str]
    grams: Any = None
    offset: NDArray[np.float32] | None = None
    types: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> Encoded:
        """These rows, in this order, without labels and n-grams."""
        rows = np.asarray(rows, np.int64)
        starts, ends = self.row_splits[rows], self.row_splits[rows + 1]
        splits = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(ends - starts, out=splits[1:])
        offset = None if self.offset is None else self.offset[rows]
        types = None if self.types is None else _slices(self.types, starts, ends)
        return Encoded(_slices(self.ids, starts, ends), splits, None, self.names, offset=offset, types=types)

    def packed(self) -> Any:
        """As a model takes them: its argument `packed`."""
        from govlm.tokenizers import Packed, PackedPairs

        if self.types is None:
            return Packed(self.ids, self.row_splits)
        return PackedPairs(self.ids, self.row_splits, self.types)

    def digest(self) -> str:
        """A fingerprint of ids, labels, n-grams and label names."""
        digest = hashlib.sha256()
        more = () if self.types is None else (self.types,)
        for array in (self.ids, self.row_splits, self.labels, *(self.grams or ()), *more):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update("\0".join(self.names).encode())
        return digest.hexdigest()


def _slices(array: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
    return np.concatenate([array[a:b] for a, b in zip(starts, ends, strict=True)]) if len(starts) else array[:0]


def new_packed(ids: NDArray[np.int32], row_splits: NDArray[np.int64]) -> Any:
    """The tokenizer's packed batch from its arrays."""
    from govlm.tokenizers import Packed

    return Packed(ids, row_splits)


def task_of(folder: str | Path) -> str:
    """What a model folder was trained for, by its config.json: "classify", "few-shot" or "tokens"."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        names = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError, TypeError):
        return "classify"  # from_pretrained says what is wrong
    if any(name.endswith("ForTokenClassification") for name in names):
        return "tokens"
    return "few-shot" if "fewshot" in config else "classify"


def text_limit(model: Any, max_length: int | None) -> int:
    """Tokens a text may have: what was asked for, but never more than the model has positions."""
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    if getattr(model.config, "model_type", "bert") in ("roberta", "xlm-roberta", "camembert"):
        positions -= (model.config.pad_token_id or 0) + 1  # positions start after the padding id
    return min(max_length or positions, positions)


def encode_texts(
    model: Any, tokenizer: Any, texts: Sequence[Text], max_length: int | None = None, branch: NgramBranch | None = None
) -> Encoded:
    """Tokenizes texts or pairs of texts, cut to what the model takes; `branch` sees them whole.

    Errors: ValueError for a lone surrogate; DataError for texts and pairs in one batch.
    """
    pairs = sum(not isinstance(text, str) for text in texts)
    if 0 < pairs < len(texts):
        raise DataError("single texts and pairs of texts cannot be mixed")
    if hasattr(model, "encode_texts"):  # a pattern with a gap goes around the text: govlm.train.fewshot
        encoded: Encoded = model.encode_texts(single_texts(texts), max_length)
    else:
        sides = ([t[0] for t in texts], [t[1] for t in texts]) if pairs else (texts,)
        packed = tokenizer.encode_packed(*sides, max_length=text_limit(model, max_length), truncation=True)
        encoded = Encoded(np.asarray(packed.ids), np.asarray(packed.row_splits), None, label_names(model.config))
        encoded.types = packed.token_type_ids if pairs else None
    if branch is not None:
        encoded.offset = branch.logits(texts)
    return encoded


def single_texts(texts: Sequence[Text]) -> list[str]:
    """The texts, as they are; DataError for pairs, where a pattern needs single texts."""
    single = [text for text in texts if isinstance(text, str)]
    if len(single) < len(texts):
        raise DataError("pairs of texts, where this model was trained on single texts")
    return single


def label_names(config: Any) -> list[str]:
    """The class names of a config, in class order."""
    names = {int(k): str(v) for k, v in config.id2label.items()}
    return [names[i] for i in range(len(names))]


def encode(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    names: list[str],
    multi_label: bool,
    max_length: int | None = None,
    source: str = "the data",
    branch: NgramBranch | None = None,
    grams: NgramOptions | None = None,
) -> Encoded:
    """Tokenizes labelled examples; `branch`: whose logits are added; `grams`: n-grams to count, for a branch to be fitted.

    DataError for a label that is not in `names`, or a list where a single label belongs.
    """
    texts = [e.text for e in examples]
    encoded = encode_texts(model, tokenizer, texts, max_length, branch)
    if grams is not None:
        encoded.grams = count_ngrams(texts, grams)
    index = {name: i for i, name in enumerate(names)}
    labels: NDArray[Any] = (
        np.zeros((len(examples), len(names)), np.float32) if multi_label else np.zeros(len(examples), np.int64)
    )
    for row, example in enumerate(examples):
        values = example.label if isinstance(example.label, list) else [example.label]
        if isinstance(example.label, list) != multi_label:
            wish = "a list of labels" if multi_label else "a single label"
            raise DataError(f"{source}: row {row + 1} must have {wish}, as the model was trained; it has {example.label!r}")
        for value in values:
            if value not in index:
                known = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
                raise DataError(f"{source}: row {row + 1} has the label {value!r}, which the model does not know ({known})")
            if multi_label:
                labels[row, index[value]] = 1.0
            else:
                labels[row] = index[value]
    encoded.labels, encoded.names = labels, names
    return encoded


def predict_logits(model: Any, data: Encoded, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits [n, labels] with dropout off, the branch's added; the model's mode is put back afterwards."""
    import govlm

    training = model.training
    model.eval()
    parts = []
    try:
        with govlm.no_grad():
            for start in range(0, len(data), batch_size):
                part = data.take(range(start, min(start + batch_size, len(data))))
                parts.append(np.array(model(packed=part.packed()).logits))
    finally:
        model.train(training)
    logits = np.concatenate(parts) if parts else np.zeros((0, len(data.names)), np.float32)
    return logits if data.offset is None else logits + data.offset


def evaluate_encoded(model: Any, data: Encoded, batch_size: int = 64) -> dict[str, Any]:
    """The report of govlm.train.metrics with the mean "loss" on labelled rows."""
    if data.labels is None or len(data) == 0:
        raise ValueError("there is nothing to evaluate: no labelled rows")
    logits = predict_logits(model, data, batch_size)
    if data.labels.ndim == 1:
        report = classification_report(data.labels, logits.argmax(axis=1), data.names)
    else:
        report = multi_label_report(data.labels, logits > 0, data.names)
    return {"loss": cross_entropy(logits, data.labels), **report}


class Prediction(NamedTuple):
    """What a classifier says of one text: its label (a list for several), the probability, and all probabilities by name."""

    text: Text
    label: str | list[str]
    confidence: float
    scores: dict[str, float]


class Classifier:
    """A trained model with its tokenizer and its n-gram branch, if it has one. May be used from several threads."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int | None = None, branch: NgramBranch | None = None) -> None:
        self.model, self.tokenizer, self.max_length, self.branch = model.eval(), tokenizer, max_length, branch
        self.names = label_names(model.config)
        self.multi_label = getattr(model.config, "problem_type", None) == MULTI_LABEL

    @classmethod
    def from_pretrained(cls, folder: str | Path, max_length: int | None = None) -> Classifier:
        """Loads what `govlm finetune` wrote. Errors: OSError or ValueError that names what is missing."""
        import govlm

        if not Path(folder).is_dir():
            raise FileNotFoundError(2, "no such model folder", str(folder))
        model: Any
        if task_of(folder) == "few-shot":
            from govlm.train.fewshot import PatternModel

            model = PatternModel.from_pretrained(folder)
        else:
            model = govlm.AutoModelForSequenceClassification.from_pretrained(str(folder))
        entry = getattr(model.config, "ngrams", None)
        branch = NgramBranch.load(folder, entry) if entry is not None else None
        if branch is not None and len(branch.bias) != model.config.num_labels:
            raise ValueError(f"{folder}: the n-gram branch has {len(branch.bias)} labels, the model {model.config.num_labels}")
        return cls(model, govlm.AutoTokenizer.from_pretrained(str(folder)), max_length, branch)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model, tokenizer and n-gram branch, for `from_pretrained`. Errors: OSError."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(str(folder))
        if self.branch is not None:
            self.branch.save(folder)

    def classify(self, texts: Iterable[Text], batch_size: int = 64) -> Iterator[Prediction]:
        """One Prediction a text (or pair of texts), in order; reads the texts in batches, so that a stream of any length goes through."""
        batch: list[Text] = []
        for text in texts:
            batch.append(text)
            if len(batch) == batch_size:
                yield from self._classify(batch)
                batch = []
        if batch:
            yield from self._classify(batch)

    def _classify(self, texts: list[Text]) -> Iterator[Prediction]:
        data = encode_texts(self.model, self.tokenizer, texts, self.max_length, self.branch)
        logits = predict_logits(self.model, data, len(texts))
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64))) if self.multi_label else softmax(logits)
        for text, row in zip(texts, probabilities, strict=True):
            scores = {name: float(p) for name, p in zip(self.names, row, strict=True)}
            best = int(row.argmax())
            label: str | list[str] = self.names[best]
            if self.multi_label:
                label = [name for name, p in scores.items() if p > 0.5]
            yield Prediction(text, label, float(row[best]), scores)


def evaluate(
    model: str | Path,
    data: str | Path,
    text_field: str | tuple[str, str] = "text",
    label_field: str = "label",
    data_format: str | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
) -> dict[str, Any]:
    """The report of a trained model (folder) on a file: accuracy, macro_f1, loss, count, per_class, labels, confusion; for a
    token classifier that of govlm.train.tokens.evaluate_spans. text_field: two names for pairs of texts.
    """
    if task_of(model) == "tokens":
        from govlm.train.tokens import SpanFinder, encode_spans, evaluate_spans, read_spans

        finder = SpanFinder.from_pretrained(model, max_length)
        texts = list(read_spans(data))
        if not texts:
            raise DataError(f"{data}: no texts")
        return evaluate_spans(
            finder.model, encode_spans(finder.model, finder.tokenizer, texts, max_length, str(data)), batch_size
        )
    classifier = Classifier.from_pretrained(model, max_length)
    examples = list(read_examples(data, text_field, label_field, data_format))
    if not examples:
        raise DataError(f"{data}: no rows")
    encoded = encode(
        classifier.model,
        classifier.tokenizer,
        examples,
        classifier.names,
        classifier.multi_label,
        max_length,
        source=str(data),
        branch=classifier.branch,
    )
    return evaluate_encoded(classifier.model, encoded, batch_size)
