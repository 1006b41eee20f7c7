"""Pre-training of models that write: the next token over packed documents, and span corruption with an encoder-decoder.

A step's documents lie one behind the other without padding, and none sees another: attention goes by sequence. With
`batch_tokens` a step is filled by tokens, whatever the documents' lengths.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.evaluate import new_packed
from govlm.train.loop import Part, TrainError
from govlm.train.masking import IGNORED, Masked
from govlm.train.pretrain import _HELD_OUT_EPOCH, PretrainLoop
from govlm.train.sequences import Batch
from govlm.train.spans import SpanCorruption

__all__ = ["CausalLoop", "NextToken", "SpanLoop", "edges", "padded", "special_ids"]


def edges(tokenizer: Any) -> tuple[int | None, int]:
    """(what stands before a sequence or None, what stands where a document ends): the tokenizer's bos and eos, or [CLS] and [SEP]."""
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise TrainError("the tokenizer has neither eos_token nor sep_token: a model that writes has to know where it ends")
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
    return begin, int(end)


def special_ids(tokenizer: Any, seq2seq: bool) -> dict[str, Any]:
    """The config fields by which a new model knows the tokenizer's special tokens."""
    begin, end = edges(tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    if seq2seq:
        return {"eos_token_id": end, "pad_token_id": pad, "decoder_start_token_id": pad}
    return {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": pad}


class NextToken:
    """In a Masker's place: nothing is hidden, every token but a sequence's first is to be guessed."""

    def __call__(
        self,
        ids: NDArray[np.int32],
        row_splits: NDArray[np.int64],
        word_starts: Any = None,
        sequences: Any = None,
        seed: int = 0,
        epochs: Any = 0,
    ) -> Masked:
        labels = ids.astype(np.int64)
        labels[row_splits[:-1]] = IGNORED
        return Masked(ids, labels, np.zeros(len(ids)), int((labels >= 0).sum()))


def _matrices(model: Any, part: str = "") -> float:
    """Numbers in the layers' matrices of one stack: what a token is multiplied with."""
    core = model._core_of(part)
    names = [name for place, name in model._names.values() if place == part and name.startswith("layers.")]
    return float(sum(math.prod(core.shape(name)) for name in names))


class CausalLoop(PretrainLoop):
    """The next token; model: a ...ForCausalLM. Evaluations give "loss" and "perplexity" a token."""

    description = "next token"

    def _batch_flops(self, lengths: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
        c, n = self.model.config, lengths.astype(np.float64)
        attention = 2 * c.hidden_size * (n * n).sum() * c.num_hidden_layers  # half of the pairs
        return float(3 * (2 * _matrices(self.model) * n.sum() + attention + 2 * c.hidden_size * c.vocab_size * labelled.sum()))

    def _evaluate(self, batch: Batch) -> NDArray[np.float64]:
        """[sum of losses, tokens] of a batch."""
        import govlm

        masked = self._masked(batch)
        if not masked.count:
            return np.zeros(2)
        with govlm.no_grad():
            loss = self.model(packed=new_packed(masked.ids, batch.row_splits), labels=masked.labels).loss.item()
        return np.array([loss * masked.count, masked.count])

    def _scores(self, sums: list[float]) -> dict[str, Any]:
        loss = sums[0] / max(sums[1], 1)
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


class SpanLoop(CausalLoop):
    """Span corruption; model: a T5 or mT5; masker: a SpanCorruption."""

    description = "span corruption"

    def _pairs(
        self, batch: Batch, masker: SpanCorruption, seed: int, epochs: Any
    ) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """What the encoder sees and the decoder writes of each sequence, with the tokenizer's special tokens."""
        template, (_, end) = self.tokenizer._template(), edges(self.tokenizer)
        found = masker(batch.ids, batch.row_splits, batch.numbers, seed, epochs)
        return [
            (np.array([*template.before, *source, *template.after], np.int32), np.array([*target, end], np.int32))
            for source, target in found
        ]

    def _parts(self, step: int) -> list[Part]:
        o, size = self.options, self.ranks.size
        batch, epochs = self._numbered(step)
        pairs = self._pairs(batch, self.masker, o.seed, epochs)
        targets = np.array([len(target) for _, target in pairs], np.int64)
        sources = np.array([len(source) for source, _ in pairs], np.int64)
        self._flops = self._span_flops(sources, targets)
        mine = np.argsort(-sources, kind="stable")[self.ranks.rank :: size]
        parts = []
        for piece in range(o.accumulate):
            rows = np.sort(mine[piece :: o.accumulate])
            if len(rows):
                arguments = padded([pairs[row] for row in rows]) | {"samples": rows.astype(np.uint32)}
                share = float(targets[rows].sum() / targets.sum())
                parts.append(Part(arguments, share, int(sources[rows].sum() + targets[rows].sum())))
        return parts

    def _span_flops(self, sources: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
        c, s, t = self.model.config, sources.astype(np.float64), targets.astype(np.float64)
        inner = c.num_heads * c.d_kv
        encoder = 2 * _matrices(self.model, "encoder") * s.sum() + 4 * inner * (s * s).sum() * c.num_layers
        cross = 2 * 2 * inner * c.d_model * (s.sum() - t.sum()) * c.num_decoder_layers  # keys and values are the encoder's
        decoder = 2 * _matrices(self.model, "decoder") * t.sum() + cross
        decoder += (2 * (t * t).sum() + 4 * (s * t).sum()) * inner * c.num_decoder_layers
        return float(3 * (encoder + decoder + 2 * c.d_model * c.vocab_size * t.sum()))

    def _evaluate(self, batch: Batch) -> NDArray[np.float64]:
        """[sum of losses, tokens] of the batch with its spans hidden and, where some are copied in training, readable."""
        import govlm

        sums: list[float] = []
        for copied in (False, True)[: 2 if self.options.copied else 1]:
            arguments = padded(self._pairs(batch, self.masker.always(copied), 0, _HELD_OUT_EPOCH))
            count = int(arguments["decoder_attention_mask"].sum())
            with govlm.no_grad():
                sums += [self.model(**arguments).loss.item() * count, count]
        return np.array(sums)

    def _scores(self, sums: list[float]) -> dict[str, Any]:
        copied = {"copied_loss": sums[2] / max(sums[3], 1)} if self.options.copied else {}
        return {**super()._scores(sums[:2]), **copied}


def padded(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The arguments of an encoder-decoder's call for (source, target) ids; what is masked never reaches its core."""
    arguments: dict[str, Any] = {}
    for side, (ids, mask, filling) in enumerate(
        (("input_ids", "attention_mask", 0), ("labels", "decoder_attention_mask", IGNORED))
    ):
        lengths = np.array([len(pair[side]) for pair in pairs])
        there = np.arange(max(int(lengths.max()), 1))[None] < lengths[:, None]
        array = np.full(there.shape, filling, np.int64)
        array[there] = np.concatenate([pair[side] for pair in pairs])
        arguments[ids], arguments[mask] = array, there.astype(np.int64)
    return arguments
