"""Token classification: spans in texts (names, organisations, parts of an address) as BIO labels of word pieces.

Offsets count code points of the text, ends are exclusive. A text longer than the model is read in windows that overlap; each
token is judged in the window where it has most context. Decoding finds the best sequence in which an I-x follows a B-x or an
I-x only (Viterbi), so that every answer is a list of spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.data import DataError, read_blocks
from govlm.train.evaluate import label_names, new_packed, text_limit
from govlm.train.finetune import Options, Trainer
from govlm.train.loop import Part, TrainError
from govlm.train.metrics import softmax, span_report

__all__ = ["Span", "SpanExample", "SpanFinder", "TokenOptions", "TokenTrainer", "encode_spans", "read_spans"]

IGNORED = -100


class Span(NamedTuple):
    """A piece of a text: code points [start, end) and what it is."""

    start: int
    end: int
    label: str


class SpanExample(NamedTuple):
    """A text and the spans in it."""

    text: str
    spans: list[Span]


# -------------------------------------------------------------------- reading


def read_spans(path: str | Path) -> Iterator[SpanExample]:
    """The texts and spans of a file (UTF-8, .gz, .xz), in one of three forms, told apart by their first character:

    * JSON objects {"text", "entities": [{"start", "end", "label"}]}, one a line or one after the other;
    * the same with CLUENER's {"text", "label": {type: {words: [[first, last], …]}}} (last is inclusive);
    * columns "characters<space>B-type" (also I-, O, and E-, S- of BIOES), a blank line after each text.

    Errors: DataError that names the file, the place and what is wrong.
    """
    text = "".join(read_blocks(path)).removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        yield from _json_spans(path, text)
    else:
        yield from _column_spans(path, text)


def _json_spans(path: str | Path, text: str) -> Iterator[SpanExample]:
    decoder = json.JSONDecoder()
    place, number, length = 0, 0, len(text)

    def skip(place: int) -> int:
        while place < length and text[place] in " \t\r\n":
            place += 1
        return place

    place = skip(0)
    while place < length:
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg} at column {error.colno}") from None
        for row in value if isinstance(value, list) else [value]:
            number += 1
            yield _json_row(f"{path}: text {number}", row)
        place = skip(place)
        if place < length and text[place] == ",":
            place = skip(place + 1)


def _json_row(where: str, row: Any) -> SpanExample:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise DataError(f"{where}: an object with a string in 'text' is expected")
    found: list[tuple[Any, Any, Any]] = []
    try:
        if "entities" in row:
            found = [(e["start"], e["end"], e["label"]) for e in row["entities"]]
        elif isinstance(row.get("label"), dict):
            for label, words in row["label"].items():
                found += [(first, last + 1, label) for places in words.values() for first, last in places]
        else:
            raise DataError(f"{where}: neither 'entities' nor CLUENER's 'label' is there")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: its entities are malformed; start, end and label are expected") from None
    for start, end, label in found:
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(label, str)):
            raise DataError(f"{where}: start and end must be whole numbers, label a string; not {start!r}, {end!r}, {label!r}")
        if not 0 <= start < end <= len(text):
            raise DataError(f"{where}: the span [{start}, {end}) of {label!r} is not in the text of {len(text)} characters")
    return SpanExample(text, [Span(*f) for f in sorted(found)])


def _column_spans(path: str | Path, text: str) -> Iterator[SpanExample]:
    pieces: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if not line.strip():
            if pieces:
                yield SpanExample("".join(pieces), _spans_of_tags(pieces, tags))
            pieces, tags = [], []
            continue
        columns = line.split()
        tag = columns[-1]
        if len(columns) < 2 or not (tag == "O" or (tag[:2] in ("B-", "I-", "E-", "S-", "M-") and len(tag) > 2)):
            raise DataError(f"{path}:{number}: columns 'characters tag' with tag O, B-… or I-… are expected, not {line!r:.60}")
        pieces.append(columns[0])
        tags.append(tag)


def _spans_of_tags(pieces: Sequence[str], tags: Sequence[str]) -> list[Span]:
    """Spans by BIO or BIOES; an I that continues nothing begins a span, as seqeval's default mode has it."""
    spans: list[Span] = []
    place, start, open_label = 0, 0, ""
    for piece, tag in zip(pieces, tags, strict=True):
        kind, label = (tag[0], tag[2:]) if tag != "O" else ("O", "")
        if open_label and (kind in "OBS" or label != open_label):
            spans.append(Span(start, place, open_label))
            open_label = ""
        if kind != "O" and not open_label:
            start, open_label = place, label
        place += len(piece)
        if kind in "ES" and open_label:
            spans.append(Span(start, place, open_label))
            open_label = ""
    if open_label:
        spans.append(Span(start, place, open_label))
    return spans


# -------------------------------------------------------------------- encoding


@dataclass
class EncodedSpans:
    """Texts in windows. ids: int32 [T] with [CLS] and [SEP]; row_splits: int64 [W + 1]; labels: int64 [T], -100 where none is;
    row: int64 [W], the text of each window; starts, ends: int32 [T], code points of each token; keep: bool [T], whether a token
    is judged in this window; spans: what the texts hold, or None."""

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    labels: NDArray[np.int64]
    row: NDArray[np.int64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    keep: NDArray[np.bool_]
    names: list[str]
    rows: int
    spans: list[list[Span]] | None = None
    grams: Any = None

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def digest(self) -> str:
        import hashlib

        digest = hashlib.sha256()
        for array in (self.ids, self.row_splits, self.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update("\0".join(self.names).encode())
        return digest.hexdigest()


def bio_names(labels: Iterable[str]) -> list[str]:
    """O, then B- and I- of each label, sorted."""
    return ["O", *(f"{kind}-{label}" for label in sorted(set(labels)) for kind in "BI")]


def encode_spans(
    model: Any, tokenizer: Any, examples: Sequence[SpanExample], max_length: int | None = None, source: str = "the data"
) -> EncodedSpans:
    """Windows of the texts with the labels of their word pieces, numbered as in the model's config.

    A word piece belongs to the span that it lies in, even in part; of spans that overlap, the one that begins first (the longer
    of two) labels the pieces. Errors: DataError for a label that the model does not know; ValueError for a lone surrogate.
    """
    names = label_names(model.config)
    index = {name: i for i, name in enumerate(names)}
    texts = [e.text for e in examples]
    ids, splits, starts, ends, _ = tokenizer._native.encode(texts, offsets=True)
    room = text_limit(model, max_length) - 2
    overlap = room // 4
    out: dict[str, list[Any]] = {name: [] for name in ("ids", "labels", "starts", "ends", "keep")}
    new_splits, row = [0], []
    edge = np.zeros(1, np.int32)
    for r, example in enumerate(examples):
        first, last = int(splits[r]), int(splits[r + 1])
        tags = _token_labels(example.spans, starts[first:last], ends[first:last], index, f"{source}: text {r + 1}")
        begin = 0
        while True:
            stop = min(begin + room, last - first)
            low = 0 if begin == 0 else overlap // 2
            high = stop - begin if stop == last - first else stop - begin - (overlap - overlap // 2)
            part = slice(first + begin, first + stop)
            keep = np.zeros(stop - begin + 2, bool)
            keep[1 + low : 1 + high] = True
            out["ids"] += [[tokenizer.cls_token_id], ids[part], [tokenizer.sep_token_id]]
            out["labels"] += [[IGNORED], tags[begin:stop], [IGNORED]]
            out["starts"] += [edge, starts[part], edge]
            out["ends"] += [edge, ends[part], edge]
            out["keep"].append(keep)
            new_splits.append(new_splits[-1] + len(keep))
            row.append(r)
            if stop == last - first:
                break
            begin = stop - overlap
    kinds = {"ids": np.int32, "labels": np.int64, "starts": np.int32, "ends": np.int32, "keep": np.bool_}
    arrays: dict[str, Any] = {
        name: np.concatenate(parts).astype(kinds[name]) if parts else np.zeros(0, kinds[name]) for name, parts in out.items()
    }
    return EncodedSpans(
        arrays["ids"], np.array(new_splits, np.int64), arrays["labels"], np.array(row, np.int64), arrays["starts"],
        arrays["ends"], arrays["keep"], names, len(examples), [e.spans for e in examples],
    )  # fmt: skip


def _token_labels(
    spans: Sequence[Span], starts: NDArray[np.int32], ends: NDArray[np.int32], index: dict[str, int], where: str
) -> NDArray[np.int64]:
    labels = np.zeros(len(starts), np.int64)
    for span in sorted(spans, key=lambda s: (s.start, s.start - s.end)):
        if f"B-{span.label}" not in index:
            known = ", ".join(name[2:] for name in index if name.startswith("B-"))
            raise DataError(f"{where} has the label {span.label!r}, which the model does not know ({known})")
        inside = np.flatnonzero((starts < span.end) & (ends > span.start) & (labels == 0))
        if len(inside):
            labels[inside] = index[f"I-{span.label}"]
            labels[inside[0]] = index[f"B-{span.label}"]
    return labels


# -------------------------------------------------------------------- decoding and evaluation


def allowed_steps(names: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(first [K], step [K, K]): which labels a text may begin with, and which may follow which (step[from, to])."""
    first = np.array([not name.startswith("I-") for name in names])
    step = np.array([[not b.startswith("I-") or a in (f"B-{b[2:]}", b) for b in names] for a in names])
    return first, step


def decode(scores: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """The allowed label sequence with the highest sum of scores [n, K]: int64 [n]. Of equal ones the lower numbers."""
    first, step = allowed_steps(names)
    count = len(scores)
    if count == 0:
        return np.zeros(0, np.int64)
    penalty = np.where(step, 0.0, -np.inf)
    best = np.where(first, scores[0].astype(np.float64), -np.inf)
    back = np.zeros((count, len(names)), np.int64)
    for t in range(1, count):
        paths = best[:, None] + penalty
        back[t] = paths.argmax(axis=0)
        best = paths[back[t], np.arange(len(names))] + scores[t]
    labels = np.zeros(count, np.int64)
    labels[-1] = best.argmax()
    for t in range(count - 1, 0, -1):
        labels[t - 1] = back[t, labels[t]]
    return labels


def token_logits(model: Any, data: EncodedSpans, batch_size: int = 64) -> NDArray[np.float32]:
    """Logits [T, K] of all tokens, dropout off; the model's mode is put back afterwards."""
    import govlm

    training = model.training
    model.eval()
    out = np.zeros((len(data.ids), len(data.names)), np.float32)
    try:
        with govlm.no_grad():
            for start in range(0, len(data), batch_size):
                stop = min(start + batch_size, len(data))
                a, b = int(data.row_splits[start]), int(data.row_splits[stop])
                splits = data.row_splits[start : stop + 1] - a
                logits = np.asarray(model(packed=new_packed(data.ids[a:b], splits)).logits)
                out[a:b] = _packed_rows(logits, splits)
    finally:
        model.train(training)
    return out


def _packed_rows(logits: NDArray[np.float32], splits: NDArray[np.int64]) -> NDArray[np.float32]:
    """Token logits [T, K], whether the model gave them packed or padded [B, S, K]."""
    if logits.ndim == 2:
        return logits
    return np.concatenate([logits[i, : splits[i + 1] - splits[i]] for i in range(len(splits) - 1)])


def predict_spans(logits: NDArray[np.float32], data: EncodedSpans) -> list[list[tuple[Span, float]]]:
    """The spans of each text with the mean probability of their labels."""
    logs = np.log(np.maximum(softmax(logits), 1e-30))
    place = np.flatnonzero(data.keep)
    window = np.searchsorted(data.row_splits, place, side="right") - 1
    rows = data.row[window]
    bounds = np.searchsorted(rows, np.arange(data.rows + 1))
    answers: list[list[tuple[Span, float]]] = []
    for r in range(data.rows):
        tokens = place[bounds[r] : bounds[r + 1]]
        labels = decode(logs[tokens], data.names)
        found: list[tuple[Span, float]] = []
        start = 0
        while start < len(labels):
            name = data.names[labels[start]]
            if name == "O":
                start += 1
                continue
            stop = start + 1
            while stop < len(labels) and data.names[labels[stop]] == f"I-{name[2:]}":
                stop += 1
            part = tokens[start:stop]
            span = Span(int(data.starts[part[0]]), int(data.ends[part[-1]]), name[2:])
            found.append((span, float(np.exp(logs[part, labels[start:stop]]).mean())))
            start = stop
        answers.append(found)
    return answers


def evaluate_spans(model: Any, data: EncodedSpans, batch_size: int = 64) -> dict[str, Any]:
    """{"loss", "micro_f1", "precision", "recall", "macro_f1", "count", "per_class", …}: spans count when start, end and label
    are right."""
    if data.spans is None or data.rows == 0:
        raise ValueError("there is nothing to evaluate: no texts with spans")
    logits = token_logits(model, data, batch_size)
    known = data.labels != IGNORED
    logs = softmax(logits[known])
    loss = float(-np.log(np.maximum(logs[np.arange(len(logs)), data.labels[known]], 1e-30)).mean()) if len(logs) else 0.0
    predicted = [[span for span, _ in found] for found in predict_spans(logits, data)]
    return {"loss": loss, **span_report(data.spans, predicted)}


class SpanPrediction(NamedTuple):
    """What a token classifier finds in one text: entities with start, end, label, text and score."""

    text: str
    entities: list[dict[str, Any]]


class SpanFinder:
    """A trained token classifier with its tokenizer. May be used from several threads."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int | None = None) -> None:
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length

    @classmethod
    def from_pretrained(cls, folder: str | Path, max_length: int | None = None) -> SpanFinder:
        """Loads what `govlm finetune --task tokens` wrote. Errors: OSError or ValueError that names what is missing."""
        import govlm

        model = govlm.AutoModelForTokenClassification.from_pretrained(str(folder))
        return cls(model, govlm.AutoTokenizer.from_pretrained(str(folder)), max_length)

    def find(self, texts: Iterable[str], batch_size: int = 64) -> Iterator[SpanPrediction]:
        """One SpanPrediction a text, in order; reads the texts in batches."""
        batch: list[str] = []
        for text in texts:
            batch.append(text)
            if len(batch) == batch_size:
                yield from self._find(batch)
                batch = []
        if batch:
            yield from self._find(batch)

    def _find(self, texts: list[str]) -> Iterator[SpanPrediction]:
        data = encode_spans(self.model, self.tokenizer, [SpanExample(text, []) for text in texts], self.max_length)
        for text, found in zip(texts, predict_spans(token_logits(self.model, data), data), strict=True):
            entities = [{**s._asdict(), "text": text[s.start : s.end], "score": round(p, 6)} for s, p in found]
            yield SpanPrediction(text, entities)


# -------------------------------------------------------------------- training


@dataclass
class TokenOptions(Options):
    """What a token run can be told: as for classification, without class weights and n-grams."""

    metric: str = "micro_f1"
    ngrams: bool = False

    METRICS: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1", "loss")


class TokenTrainer(Trainer):
    """Trains a ...ForTokenClassification on `encode_spans` rows; the rest as in Trainer."""

    train_set: Any
    dev_set: Any
    report_keys: ClassVar[tuple[str, ...]] = ("loss", "precision", "recall", "micro_f1", "macro_f1")

    def _weigh(self) -> None:
        if self.options.class_weights:
            raise TrainError("class weights are for texts with one label, not for --task tokens")

    def _parts(self, step: int) -> list[Part]:
        o, data = self.options, self.train_set
        rows = self._rows(step, len(data), o.batch_size * o.accumulate)
        counts = np.array([int((data.labels[data.row_splits[r] : data.row_splits[r + 1]] != IGNORED).sum()) for r in rows])
        total = max(1, int(counts.sum()))
        parts = []
        for start in list(range(0, len(rows), o.batch_size))[self.ranks.rank :: self.ranks.size]:
            part = rows[start : start + o.batch_size]
            slices = [slice(int(data.row_splits[r]), int(data.row_splits[r + 1])) for r in part]
            splits = np.concatenate([[0], np.cumsum([s.stop - s.start for s in slices])]).astype(np.int64)
            labelled = int(counts[start : start + len(part)].sum())
            if labelled == 0:  # texts without a token: nothing to learn
                continue
            arguments = {
                "packed": new_packed(np.concatenate([data.ids[s] for s in slices]), splits),
                "labels": np.concatenate([data.labels[s] for s in slices]),
                "samples": np.arange(start, start + len(part), dtype=np.uint32),
            }
            parts.append(Part(arguments, labelled / total, int(splits[-1])))
        return parts

    def _report(self) -> dict[str, Any]:
        return evaluate_spans(self.model, self.dev_set, self.options.eval_batch_size)
