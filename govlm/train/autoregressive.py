"""Pre-training of models that write: the next token (causal), or spans that were taken out (T5: Raffel et al., arXiv:1910.10683, 3.1.4).

A batch is packed: documents stand after one another without padding, and none sees another. What is taken out of a sequence is a
function of the seed, the epoch and the sequence's number only, as with `masking`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.loop import Part, TrainError
from govlm.train.masking import IGNORED, Masked, philox
from govlm.train.pretrain import PretrainLoop, PretrainOptions, run_labelled
from govlm.train.sequences import Batch
from govlm.train.written import end_id

__all__ = ["CausalLoop", "SpanLoop", "Spans", "corrupt", "make_writer"]

MARKS = 100  # sentinels, as T5 has them
_MEAN_SPAN = 3.0
_HELD_OUT_EPOCH = 2**32 - 1


def make_writer(options: PretrainOptions, vocab_size: int, tokenizer: Any) -> Any:
    """A causal model (llama by default), or an encoder with a decoder (t5), from the checkpoint `start` or of the shape `model`."""
    import govlm
    from govlm.optim import set_seed

    set_seed(options.seed)
    span = options.objective == "span"
    automatic = govlm.AutoModelForSeq2SeqLM if span else govlm.AutoModelForCausalLM
    if options.start:
        model = automatic.from_pretrained(options.start, **options.model)
        if model.config.vocab_size < vocab_size:
            raise TrainError(
                f"{options.start} has {model.config.vocab_size} tokens, the corpus {vocab_size}: build the corpus with its tokenizer"
            )
        return model
    end = end_id(tokenizer)
    pad = getattr(tokenizer, "pad_token_id", None)
    shape: dict[str, Any] = {
        "model_type": "t5" if span else "llama",
        "vocab_size": vocab_size,
        "eos_token_id": end,
        **options.model,
    }
    if pad is not None:
        shape.setdefault("pad_token_id", int(pad))
    if span:
        shape.setdefault("decoder_start_token_id", int(shape.get("pad_token_id", end)))
    elif shape["model_type"] != "gpt2":
        shape.setdefault("max_position_embeddings", options.max_length)
    known = type(govlm.AutoConfig.for_model(shape["model_type"]))
    for name in options.model:
        if name != "model_type" and name not in known.defaults and name not in known.attribute_map:
            raise TrainError(f"model.{name} is no field of {shape['model_type']}")
    if shape["vocab_size"] < vocab_size:
        raise TrainError(f"model.vocab_size is {shape['vocab_size']}, the corpus has {vocab_size} tokens")
    model = automatic.from_config(govlm.AutoConfig.for_model(**shape))
    positions = model._rules.max_positions or options.max_length
    if options.max_length > positions:
        raise TrainError(f"max_length is {options.max_length}, the model has {positions} positions")
    return model


class CausalLoop(PretrainLoop):
    """The next token of sequences; the rest as in PretrainLoop. The first token of a sequence is asked of nobody."""

    def _masked(self, batch: Batch) -> Masked:
        return _next(batch)

    def batch(self, step: int) -> tuple[Batch, Masked]:
        o = self.options
        first = (o.skip + step) * o.batch_size
        numbers, _ = self.order.take(first, first + o.batch_size)
        batch = self.train_set.batch(numbers)
        return batch, _next(batch)

    def _batch_flops(self, lengths: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
        return _flops(self.model, float(lengths.sum()), float(lengths.sum()), float(labelled.sum()))

    def _evaluate(self, batch: Batch) -> NDArray[np.float64]:
        masked = _next(batch)
        if not masked.count:
            return np.zeros(2)
        after = np.append(masked.labels[1:], IGNORED)
        after[batch.row_splits[1:] - 1] = IGNORED
        done, _ = run_labelled(self.model, masked.ids, batch.row_splits, after, logits=False, loss="single_label")
        return np.array([done.loss * masked.count, masked.count])

    def _scores(self, sums: list[float]) -> dict[str, Any]:
        loss = sums[0] / max(sums[1], 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _next(batch: Batch) -> Masked:
    labels = batch.ids.astype(np.int64)
    labels[batch.row_splits[:-1]] = IGNORED
    return Masked(batch.ids, labels, np.zeros(0), int((labels != IGNORED).sum()))


def _flops(model: Any, tokens: float, targets: float, labelled: float) -> float:
    """Multiply-add flops (2 a pair) of a training step, attention's products left out: 6 a weight and token."""
    words = sum(
        math.prod(p.shape) for name, p in model.named_parameters() if "embed" in name or "shared" in name or "wte" in name
    )
    inner = sum(math.prod(p.shape) for _, p in model.named_parameters()) - words
    head = model.config.hidden_size * model.config.vocab_size
    return 6.0 * (inner * max(tokens, targets) + head * labelled)


# ------------------------------------------------------------------------------------------------------------------- spans


@dataclass
class Spans:
    """What a span objective needs of a vocabulary. marks: the ids that stand for spans, in order; end: of a text; share: of the tokens that
    is taken out."""

    marks: NDArray[np.int32]
    end: int
    share: float

    @classmethod
    def of(cls, tokenizer: Any, share: float) -> Spans:
        """<extra_id_0> … are added to a vocabulary that lacks them (100, as T5 has them)."""
        names = [f"<extra_id_{i}>" for i in range(MARKS)]
        known = tokenizer.get_vocab()
        if any(name not in known for name in names):
            tokenizer.add_tokens(names, special_tokens=True)
        return cls(np.array(tokenizer.convert_tokens_to_ids(names), np.int32), end_id(tokenizer), share)


def corrupt(
    ids: NDArray[np.int32],
    marks: NDArray[np.int32],
    end: int,
    key: tuple[int, int, int],
    share: float = 0.15,
    mean: float = _MEAN_SPAN,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """(source, target) of one sequence without special tokens: spans of `mean` tokens on average, `share` of all tokens, are replaced
    by marks; the target has each mark with its span, and the end token. key: (seed, epoch, number). A sequence of one token is its
    own target."""
    length = len(ids)
    noise = min(max(round(length * share), 1), max(length - 1, 1))
    spans = min(max(round(noise / mean), 1), noise, max(length - noise, 1), len(marks))
    removed = _parts(noise, spans, key, 1)
    kept = _parts(length - noise, spans, key, 2) if length > noise else np.zeros(spans, np.int64)
    source: list[NDArray[Any]] = []
    target: list[NDArray[Any]] = []
    place = 0
    for number in range(spans):
        source += [ids[place : place + kept[number]], marks[number : number + 1]]
        place += int(kept[number])
        target += [marks[number : number + 1], ids[place : place + removed[number]]]
        place += int(removed[number])
    tail = np.array([end], np.int32)
    return np.concatenate([*source, tail]), np.concatenate([*target, tail]).astype(np.int64)


def _parts(total: int, count: int, key: tuple[int, int, int], use: int) -> NDArray[np.int64]:
    """`total` in `count` parts of at least 1, each division as likely: the places of the cuts are drawn without putting back."""
    if count == 1:
        return np.array([total], np.int64)
    places = np.arange(total - 1, dtype=np.uint64)
    zero = np.zeros(total - 1, np.uint64)
    number = np.uint64(key[2] & 0xFFFFFFFF)
    score = philox((places, zero + number, zero + np.uint64(key[1] & 0xFFFFFFFF), zero + np.uint64(use)), (key[0], 0x5350414E))[
        0
    ]
    cuts = np.sort(np.argsort(score, kind="stable")[: count - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)


class SpanLoop(PretrainLoop):
    """Span corruption of sequences, for an encoder with a decoder; masker: a Spans; the rest as in PretrainLoop."""

    def _pairs(
        self, batch: Batch, epochs: NDArray[np.int64] | int, seed: int
    ) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        turns, spans = np.broadcast_to(np.asarray(epochs, np.int64), len(batch.numbers)), self.masker
        return [
            corrupt(
                batch.ids[batch.row_splits[i] + 1 : batch.row_splits[i + 1] - 1], spans.marks, spans.end,
                (seed, int(turns[i]), int(batch.numbers[i])), spans.share,
            )
            for i in range(len(batch.numbers))
            if batch.row_splits[i + 1] - batch.row_splits[i] > 2
        ]  # fmt: skip

    def _parts(self, step: int) -> list[Part]:
        o = self.options
        first = (o.skip + step) * o.batch_size
        numbers, epochs = self.order.take(first, first + o.batch_size)
        pairs = self._pairs(self.train_set.batch(numbers), epochs, o.seed)
        lengths = np.array([len(source) for source, _ in pairs])
        targets = np.array([len(target) for _, target in pairs])
        self._flops = _flops(self.model, float(lengths.sum()), float(targets.sum()), float(targets.sum()))
        total = int(targets.sum())
        mine = np.argsort(-lengths, kind="stable")[self.ranks.rank :: self.ranks.size]
        parts = []
        for piece in range(o.accumulate):
            rows = np.sort(mine[piece :: o.accumulate])
            if len(rows):
                arguments = _arguments([pairs[r] for r in rows])
                arguments["samples"] = rows.astype(np.uint32)
                count = int(targets[rows].sum())
                parts.append(Part(arguments, count / total, int(lengths[rows].sum()) + count))
        return parts

    def _evaluate(self, batch: Batch) -> NDArray[np.float64]:
        from govlm import no_grad

        pairs = self._pairs(batch, _HELD_OUT_EPOCH, 0)
        count = sum(len(target) for _, target in pairs)
        if not count:
            return np.zeros(2)
        with no_grad():
            return np.array([float(self.model(**_arguments(pairs)).loss.item()) * count, count])

    def _scores(self, sums: list[float]) -> dict[str, Any]:
        loss = sums[0] / max(sums[1], 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _arguments(pairs: list[tuple[NDArray[np.int32], NDArray[np.int64]]]) -> dict[str, Any]:
    from govlm.train.writing import padded

    ids, mask = padded([source for source, _ in pairs], 0)
    labels, _ = padded([target for _, target in pairs], IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
