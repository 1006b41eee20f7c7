"""Sentence embeddings: contrastive training on pairs or on single texts (SimCSE), in batches larger than memory.

The loss is InfoNCE over the batch on cosines. Its gradient at the pooled vectors is computed in NumPy and sent into the core's
last hidden states, packed. A batch that fits one chunk is run once; a larger one is run twice, chunk by chunk (gradient
caching, arXiv:2101.06983): without keeping anything, for the vectors, then with the same dropout numbers for the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.bundled import BUNDLED
from govlm.packing import Batch
from govlm.train.evaluate import Encoded, new_packed
from govlm.train.finetune import EpochPosition
from govlm.train.loop import Loop, LoopOptions, Part, Progress, TrainError
from govlm.train.losses import GradientLoss, info_nce, normalise_rows
from govlm.train.masking import Masker
from govlm.train.pairs import Pair, Pairs, Queries, ScoredPairs
from govlm.train.similarity import retrieval_report, spearman
from govlm.train.source import load_encoder

__all__ = ["EmbedOptions", "EmbedTrainer", "Evaluation", "embed_encoded", "embed_train", "pooled_pass"]

F32 = NDArray[np.float32]
POOLINGS = ("mean", "cls")


@dataclass
class EmbedOptions(LoopOptions):
    """What a contrastive run can be told, beside what every run can."""

    epochs: int = 1
    batch_size: int = 64  # pairs an optimizer step: each is a negative of the others
    chunk_size: int = 0  # texts a forward; 0 = the whole batch at once. Smaller: less memory, the forwards twice
    temperature: float = 0.05
    symmetric: bool = True  # half the loss asks which right text finds its left one
    negatives: int = 1  # hard negatives a row, where the data has them
    pooling: str = "mean"  # mean or cls
    mlm_weight: float = 0.0  # of a masked-LM loss on the left texts, so that a model keeps its head good; 0 = without
    max_length: int | None = None  # tokens a text; None = what the model takes
    eval_steps: int = 0  # evaluations every so many steps; 0 = after each epoch
    metric: str = ""  # chooses the best model: spearman, MRR, R@1 …; "" = spearman, else MRR

    def _rules(self) -> list[tuple[str, bool, str]]:
        return [
            *super()._rules(),
            ("epochs", self.epochs >= 0, "0 or more"),
            ("batch_size", self.batch_size >= 2, "2 or more"),
            ("chunk_size", self.chunk_size >= 0, "0 or more"),
            ("temperature", self.temperature > 0, "above 0"),
            ("negatives", self.negatives >= 0, "0 or more"),
            ("pooling", self.pooling in POOLINGS, "mean or cls"),
            ("mlm_weight", self.mlm_weight >= 0, "0 or more"),
            ("max_length", self.max_length is None or self.max_length >= 3, "3 or more"),
            ("eval_steps", self.eval_steps >= 0, "0 or more"),
        ]


def pooled_pass(
    model: Any,
    texts: Encoded,
    pooling: str,
    *,
    save: bool,
    training: bool = True,
    seed: int = 0,
    step: int = 0,
    samples: NDArray[np.uint32] | None = None,
) -> tuple[F32, Callable[[NDArray[Any]], None]]:
    """One forward of the encoder, packed: (vectors [B, H], a function that sends a gradient [B, H] at them back).

    save: keep what the way back needs (it may be walked once); training: dropout on, with the numbers of seed, step and
    samples [B]. The head of a model, where it has one, is left out.
    """
    batch = Batch.packed(model._rules, texts.packed())
    core, splits = model.core, batch.row_splits
    lengths = np.diff(splits)
    options: dict[str, Any] = {"rows": batch.first_tokens()} if pooling == "cls" else {}
    if training:
        options.update(training=True, seed=seed, step=step, samples=samples)
    done = core.forward(batch.ids, splits, batch.positions, batch.types, save=save, logits=False, **options)
    hidden = done.hidden(-1)
    if pooling == "cls":
        vectors = np.array(hidden)
    else:
        vectors = np.add.reduceat(hidden, splits[:-1], axis=0) / lengths[:, None].astype(np.float32)

    def send(gradient: NDArray[Any]) -> None:
        g = np.asarray(gradient, np.float32)
        if pooling == "mean":
            g = np.repeat(g / lengths[:, None].astype(np.float32), lengths, axis=0)
        done.backward(hidden={core.config["num_layers"]: np.ascontiguousarray(g)})

    return vectors, send


def embed_encoded(model: Any, texts: Encoded, pooling: str, max_tokens: int = 8192) -> F32:
    """Vectors [N, H] of encoded texts, without dropout, batched by length; any model with an encoder."""
    lengths = np.diff(texts.row_splits)
    out = np.zeros((len(lengths), int(model.core.config["hidden_size"])), np.float32)
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        total = int(lengths[order[begin]])
        while end < len(order) and total + lengths[order[end]] <= max_tokens:
            total += int(lengths[order[end]])
            end += 1
        chosen = order[begin:end]
        out[chosen] = pooled_pass(model, texts.take(chosen), pooling, save=False, training=False)[0]
        begin = end
    return out


@dataclass
class Evaluation:
    """What embeddings are judged by: scored pairs (Spearman), queries against a pool (R@k, MRR), or both."""

    scored: ScoredPairs | None = None
    queries: Queries | None = None

    def report(self, model: Any, pooling: str) -> dict[str, float]:
        """{"spearman"} and {"R@1", "R@5", "R@10", "MRR", "queries", "pool"}, as there is data for."""
        found: dict[str, float] = {}
        if self.scored is not None:
            vectors = normalise_rows(embed_encoded(model, self.scored.texts, pooling))[0]
            cosines = (vectors[self.scored.left] * vectors[self.scored.right]).sum(axis=1)
            found["spearman"] = spearman(cosines, self.scored.scores)
        if self.queries is not None:
            asked, pool = (embed_encoded(model, side, pooling) for side in (self.queries.queries, self.queries.pool))
            found.update(retrieval_report(asked, pool, self.queries.relevant))
        return found

    def digest(self) -> str:
        parts = [s.texts.digest() for s in (self.scored,) if s is not None]
        if self.queries is not None:
            parts += [self.queries.queries.digest(), self.queries.pool.digest()]
        return " ".join(parts)


class EmbedTrainer(Loop):
    """Trains an encoder on `Pairs`; evaluates by `evaluation`; the rest as in Loop.

    Of several ranks each runs its share of the chunks and gets the vectors of all, so that the negatives are those of one.
    """

    description = "embeddings"
    options: EmbedOptions
    position_class = EpochPosition
    position: EpochPosition

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        pairs: Pairs,
        evaluation: Evaluation | None = None,
        options: EmbedOptions | None = None,
        out: str | Path | None = None,
        progress: bool | None = None,
        resume: bool = False,
        ranks: Any = None,
    ) -> None:
        options = options or EmbedOptions()
        options.check()
        if len(pairs) < 2:
            raise TrainError("there is nothing to tell apart: at least two pairs are needed")
        if options.mlm_weight and model.task != "mlm":
            raise TrainError(f"mlm_weight needs a masked language model, not a {type(model).__name__}")
        self.pairs, self.evaluation = pairs, evaluation
        # A short last batch would have few negatives: it is left out, and other rows are next time.
        self.steps_per_epoch = max(1, len(pairs) // options.batch_size)
        self.masker = Masker.of(tokenizer, int(model.config.vocab_size)) if options.mlm_weight else None
        model.config.sentence = {"pooling": options.pooling, "normalize": True}
        super().__init__(model, tokenizer, options, self.steps_per_epoch * options.epochs, out, progress, resume, ranks)

    def _parts(self, step: int) -> list[Part]:
        o = self.options
        rows = self._rows(step, len(self.pairs), o.batch_size)
        negatives = self.pairs.choose_negatives(rows, o.negatives, o.seed, step // self.steps_per_epoch)
        parts = [Part({"rows": rows, "negatives": negatives}, 1.0, 0)]
        return parts + ([self._masked_part(rows, step)] if o.mlm_weight else [])

    def _masked_part(self, rows: NDArray[np.int64], step: int) -> Part:
        """A masked-LM forward of this rank's share of the left texts."""
        o, ranks = self.options, self.ranks
        texts = self.pairs.texts.take(self.pairs.left[rows])
        assert self.masker is not None
        masked = self.masker(texts.ids, texts.row_splits, None, np.arange(len(texts)), o.seed, step)
        ids, labels = masked.ids, masked.labels
        begin, end = (len(rows) * r // ranks.size for r in (ranks.rank, ranks.rank + 1))
        a, b = int(texts.row_splits[begin]), int(texts.row_splits[end])
        arguments = {
            "packed": new_packed(ids[a:b], texts.row_splits[begin : end + 1] - a),
            "labels": labels[a:b],
            "samples": np.arange((1 << 30) + begin, (1 << 30) + end, dtype=np.uint32),
        }
        share = o.mlm_weight * float((labels[a:b] >= 0).sum()) / max(1, int((labels >= 0).sum()))
        return Part({"masked": arguments}, share, b - a)

    def _loss(self, part: Part) -> tuple[Any, Any]:
        """The loss of the whole batch; this rank's chunks are run here and sent back by it."""
        o, pairs, at = self.options, self.pairs, self.position
        if "masked" in part.arguments:
            outputs = self.model(**part.arguments["masked"])
            return outputs.loss, outputs
        rows, negatives = part.arguments["rows"], part.arguments["negatives"]
        left, right = pairs.left[rows], pairs.right[rows]
        numbers = np.concatenate([left, right, negatives])
        size = o.chunk_size or len(numbers)
        mine = list(range(0, len(numbers), size))[self.ranks.rank :: self.ranks.size]
        once = len(mine) <= 1  # nothing else has to be in memory: what the way back needs is kept at once
        vectors = np.zeros((len(numbers), int(self.model.core.config["hidden_size"])), np.float32)
        sends: list[Callable[[NDArray[Any]], None]] = []

        def run(start: int, save: bool) -> tuple[F32, Callable[[NDArray[Any]], None]]:
            texts = pairs.texts.take(numbers[start : start + size])
            samples = np.arange(start, start + len(texts), dtype=np.uint32)  # where these texts stand in the random stream
            part.tokens += len(texts.ids) if save else 0
            return pooled_pass(self.model, texts, o.pooling, save=save, seed=o.seed, step=at.step, samples=samples)

        for start in mine:
            found, send = run(start, once)
            vectors[start : start + len(found)] = found
            sends.append(send)
        if self.ranks.size > 1:
            vectors = np.array(self.ranks.sum(vectors.reshape(-1).tolist()), np.float32).reshape(vectors.shape)
        count = len(rows)
        allowed = ~pairs.belong(left, np.concatenate([right, negatives]))
        value, *gradients = info_nce(
            vectors[:count], vectors[count : 2 * count], vectors[2 * count :], allowed, o.temperature, o.symmetric
        )
        gradient = np.concatenate(gradients)

        def back(scale: float) -> None:
            for start, send in zip(mine, sends, strict=True):
                if not once:
                    _, send = run(start, True)
                send(gradient[start : start + size] * scale)

        # every rank knows the whole loss; the sum over the ranks shall be one of them
        return GradientLoss(value if self.ranks.rank == 0 else 0.0, back), None

    def _step(self) -> dict[str, Any]:
        record = {"epoch": self.position.step // self.steps_per_epoch + 1, **super()._step()}
        self.position.batch += 1
        self.position.epoch_loss += record["loss"]
        return record

    def _after_step(self, record: dict[str, Any], bar: Progress, log: Any) -> None:
        o, at = self.options, self.position
        last = at.step == self.total_steps
        every = o.eval_steps or self.steps_per_epoch
        if at.step % every and not last:
            return
        entry: dict[str, Any] = {
            "epoch": at.step / self.steps_per_epoch,
            "step": at.step,
            "train_loss": at.epoch_loss / at.batch,
        }
        value, report = None, {}
        if self.evaluation is not None:
            report = self.evaluation.report(self.model, o.pooling)
            metric = o.metric or ("spearman" if "spearman" in report else "MRR")
            if metric not in report:
                raise TrainError(f"the evaluation has no {metric!r}; it has {', '.join(report)}")
            entry.update(report)
            value = report[metric]
        at.batch, at.epoch_loss = 0, 0.0
        self._record(entry, value, report, bar, log)
        self._save()

    def _identity(self) -> dict[str, Any]:
        return {
            "the pairs or the tokenizer": self.pairs.digest(),
            "the evaluation data": self.evaluation.digest() if self.evaluation is not None else None,
        }


def embed_train(
    pairs: list[Pair] | None = None,
    texts: list[str] | None = None,
    *,
    model: str | Path = BUNDLED,
    out: str | Path,
    scored: list[tuple[str, str, float]] | None = None,
    queries: list[Pair] | None = None,
    pool: list[str] | None = None,
    vocab: str | Path | None = None,
    options: EmbedOptions | None = None,
    resume: bool = False,
    progress: bool | None = None,
    ranks: Any = None,
) -> dict[str, Any]:
    """Trains embeddings on `pairs`, or on single `texts` (SimCSE), and writes the model to `out`.

    model: a folder, or a config.json (a random start, with `vocab`). scored, queries (with `pool`): the evaluation. The folder
    remembers the pooling: `model.encode` embeds as it was trained. Returns the trainer's result with "start", the evaluation
    before training. Errors: TrainError, DataError, OSError.
    """
    options = options or EmbedOptions()
    options.check()
    if (pairs is None) == (texts is None):
        raise TrainError("give either pairs or texts to train on")
    network, tokenizer = load_encoder(model, vocab, options.seed, options.mlm_weight > 0)
    limit = options.max_length
    data = (
        Pairs.encode(network, tokenizer, pairs, limit)
        if pairs is not None
        else Pairs.same(network, tokenizer, texts or [], limit)
    )
    evaluation = None
    if scored or queries:
        evaluation = Evaluation(
            ScoredPairs.encode(network, tokenizer, scored, limit) if scored else None,
            Queries.encode(network, tokenizer, queries, pool or [], limit) if queries else None,
        )
    start = evaluation.report(network, options.pooling) if evaluation is not None else None
    trainer = EmbedTrainer(network, tokenizer, data, evaluation, options, out, progress, resume, ranks)
    result = trainer.train()
    result.update(pairs=len(data), start=start, out=str(out))
    return result
