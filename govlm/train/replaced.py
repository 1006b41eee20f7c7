"""Replaced-token detection (Clark et al., ELECTRA, arXiv:2003.10555): a small masked LM puts words in, the encoder finds them.

The generator guesses the masked tokens; one draw of each guess is put into the text, and the discriminator says of every token
whether it is the original one. Its loss weighs 50 (section 3.1 there); the generator gets no gradient from it. Both share their
embeddings. The generator is as wide as the discriminator and has half its layers (He et al., DeBERTaV3, arXiv:2111.09543), so
that the tables have one shape. What the run leaves is the discriminator without its head: an encoder, for `from_pretrained`;
the generator lies beside it in `generator`, for a run that goes on from there. Where the probabilities differ in their last
bits (another number of ranks, another cut of the batch), a draw may differ once in a while, and the curve with it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.evaluate import new_packed
from govlm.train.loop import Part
from govlm.train.masking import Masked
from govlm.train.pretrain import PretrainLoop, PretrainOptions, make_model, run_labelled, step_flops
from govlm.train.sequences import Batch

__all__ = ["Pair", "ReplacedLoop", "make_pair", "sample"]

TIED = ("embeddings.word.weight", "embeddings.position.weight", "embeddings.token_type.weight")
_BLOCK = 64


class Pair:
    """Generator (a ...ForMaskedLM) and discriminator (a ...ForTokenClassification with two labels) as one model for the loop.

    The generator's tied embeddings are copies of the discriminator's: `gather` adds their gradient to the discriminator's,
    `tie` copies the values back after a step. They are no parameters of the pair.
    """

    def __init__(self, generator: Any, discriminator: Any) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.training = False
        self._dropout_seed = self._dropout_step = 0
        self.tie()

    @property
    def config(self) -> Any:
        return self.discriminator.config

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        for name, parameter in self.discriminator.named_parameters():
            yield f"discriminator.{name}", parameter
        for name, parameter in self.generator.named_parameters():
            if parameter.core_name not in TIED:
                yield f"generator.{name}", parameter

    def networks(self) -> tuple[Any, Any]:
        return self.generator, self.discriminator

    def parameters(self) -> Iterator[Any]:
        return (parameter for _, parameter in self.named_parameters())

    def train(self, mode: bool = True) -> Pair:
        self.training = bool(mode)
        self.generator.train(mode)
        self.discriminator.train(mode)
        return self

    def eval(self) -> Pair:
        return self.train(False)

    def zero_grad(self) -> None:
        self.generator.zero_grad()
        self.discriminator.zero_grad()

    @property
    def dropout_seed(self) -> int:
        return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, value: int) -> None:
        self._dropout_seed = self.discriminator.dropout_seed = value

    @property
    def dropout_step(self) -> int:
        return self._dropout_step

    @dropout_step.setter
    def dropout_step(self, value: int) -> None:
        self._dropout_step = self.discriminator.dropout_step = value

    def first_nonfinite(self) -> str | None:
        for name, model in (("generator", self.generator), ("discriminator", self.discriminator)):
            found = model.first_nonfinite()
            if found is not None:
                return f"{name}.{found}"
        return None

    def tie(self) -> None:
        """Copies the shared embeddings into the generator."""
        for name in TIED:
            self.generator.core.parameter(name)[...] = self.discriminator.core.parameter(name)

    def gather(self) -> None:
        """Moves the generator's gradient of the shared embeddings to the discriminator."""
        cores = self.discriminator.core, self.generator.core
        # The flat buffers: a view of one gradient does not say that rows which no token reached hold something now.
        ours, theirs = (core.flat_gradient() for core in cores)
        for name in TIED:
            size = math.prod(cores[0].shape(name))
            to, source = (slice(core.offset(name), core.offset(name) + size) for core in cores)
            ours[to] += theirs[source]
            theirs[source] = 0.0

    def save_pretrained(self, folder: str) -> None:
        self.discriminator.save_pretrained(folder)
        self.generator.save_pretrained(str(Path(folder, "generator")))

    @classmethod
    def from_pretrained(cls, folder: str) -> Pair:
        import govlm

        return cls(
            govlm.AutoModelForMaskedLM.from_pretrained(str(Path(folder, "generator"))),
            govlm.AutoModelForTokenClassification.from_pretrained(folder),
        )


def make_pair(options: PretrainOptions, vocab_size: int) -> Pair:
    """The pair for these options: the discriminator has the model's shape (or starts from its checkpoint)."""
    import govlm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heads that the checkpoint lacks start at random here, on purpose
        config = make_model(options, vocab_size).config
        if options.start:
            discriminator = govlm.AutoModelForTokenClassification.from_pretrained(options.start, num_labels=2, **options.model)
        else:
            discriminator = govlm.AutoModelForTokenClassification.from_config(_with(config, num_labels=2))
    layers = options.generator_layers or max(1, config.num_hidden_layers // 2)
    before = Path(options.start, "generator")
    if options.start and before.is_dir():  # a run of this kind left its generator there
        generator = govlm.AutoModelForMaskedLM.from_pretrained(str(before), **options.model)
    else:
        generator = govlm.AutoModelForMaskedLM.from_config(_with(config, num_hidden_layers=layers))
    return Pair(generator, discriminator)


def _with(config: Any, **changes: Any) -> Any:
    import govlm

    values = {**config.to_dict(), **changes}
    if "num_labels" in changes:
        for name in ("id2label", "label2id"):
            values.pop(name, None)
    values.pop("architectures", None)
    return govlm.AutoConfig.for_model(**values)


def sample(logits: NDArray[np.float32], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """One draw from softmax(logits) a row: the token at which the running sum of the probabilities passes `uniform`.

    logits: [R, V]; uniform: [R], in [0, 1). Sums of 64 tokens are compared first, so that the running sum is short.
    """
    rows, width = logits.shape
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    starts = np.arange(0, width, _BLOCK)
    blocks = np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1, dtype=np.float64)
    target = uniform * blocks[:, -1]
    block = np.minimum((blocks <= target[:, None]).sum(axis=1), len(starts) - 1)
    before = np.where(block > 0, blocks[np.arange(rows), block - 1], 0.0)
    columns = starts[block][:, None] + np.arange(_BLOCK)
    inside = columns < width
    inner = np.where(inside, weights[np.arange(rows)[:, None], np.minimum(columns, width - 1)], 0.0)
    running = before[:, None] + np.cumsum(inner, axis=1, dtype=np.float64)
    place = np.minimum((running <= target[:, None]).sum(axis=1), inside.sum(axis=1) - 1)
    return starts[block] + place


@dataclass
class _PairLoss:
    """The generator's loss plus the weighted loss of the discriminator, of one part."""

    pair: Pair
    generator: Any  # a pass
    discriminator: Any  # a Loss
    weight: float
    scale: float = 1.0

    def item(self) -> float:
        return self.scale * (float(self.generator.loss) + self.weight * float(self.discriminator.item()))

    def __mul__(self, factor: float) -> _PairLoss:
        return _PairLoss(self.pair, self.generator, self.discriminator, self.weight, self.scale * factor)

    def backward(self) -> None:
        self.generator.backward(self.scale)
        (self.discriminator * (self.scale * self.weight)).backward()
        self.pair.gather()


class ReplacedLoop(PretrainLoop):
    """Pre-training by replaced-token detection; model: a Pair."""

    description = "replaced-token detection"
    model: Pair

    def _part(self, batch: Batch, masked: Masked, rows: NDArray[np.int64], share: float) -> Part:
        part = super()._part(batch, masked, rows, share)
        places = batch.take(rows)
        # The discriminator's loss is a mean over tokens, the generator's one over masked tokens: shares of a part differ.
        ratio = (len(places) / len(batch.ids)) / share
        part.arguments.update(original=batch.ids[places], uniform=masked.uniform[places], ratio=ratio)
        return part

    def _loss(self, part: Part) -> tuple[Any, Any]:
        given, pair, at = part.arguments, self.model, self.position.step
        generated, ids = self._replace(
            given["packed"].ids, given["packed"].row_splits, given["labels"], given["original"], given["uniform"],
            training=True, save=True, seed=(self.options.seed + 1) % 2**32, step=at, samples=given["samples"],
        )  # fmt: skip
        outputs = pair.discriminator(
            packed=new_packed(ids, given["packed"].row_splits),
            labels=(ids != given["original"]).astype(np.int64),
            samples=given["samples"],
            seed=self.options.seed,
            step=at,
        )
        weight = self.options.discriminator_weight * given["ratio"]
        loss = _PairLoss(pair, generated, outputs.loss, weight)
        self._terms += np.array([generated.loss, outputs.loss.item() * given["ratio"]]) * part.share
        return loss, outputs

    def _replace(
        self, masked: Any, splits: Any, labels: Any, original: Any, uniform: Any, **arguments: Any
    ) -> tuple[Any, NDArray[np.int32]]:
        """(the generator's pass, the ids with its draws put in)."""
        done, _ = run_labelled(self.model.generator, masked, splits, labels, **arguments)
        rows = np.flatnonzero(labels >= 0)
        ids = original.copy()
        if len(rows):
            ids[rows] = sample(done.logits, uniform[rows])
        return done, ids

    def _step(self) -> dict[str, Any]:
        self._terms = np.zeros(2)
        record = super()._step()
        self.model.tie()
        generator, discriminator = self.ranks.sum(self._terms.tolist())
        return {**record, "generator_loss": generator, "discriminator_loss": discriminator}

    def _rehearse(self, step: int) -> None:
        self._terms = np.zeros(2)
        super()._rehearse(step)

    def _load(self, path: Path, state: dict[str, Any]) -> None:
        super()._load(path, state)
        self.model.tie()

    def _batch_flops(self, lengths: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
        config, n = self.model.config, lengths.astype(np.float64)
        h, f = config.hidden_size, config.intermediate_size
        layer = n.sum() * (8 * h * h + 4 * h * f) + 4 * h * (n * n).sum()
        return step_flops(self.model.generator.config, lengths, labelled) + float(3 * layer * config.num_hidden_layers)

    def _evaluate(self, batch: Batch) -> NDArray[np.float64]:
        """[discriminator's loss, correct, tokens, generator's loss, correct, masked, replaced ones found, replaced] in sums."""
        masked = self._masked(batch)
        done, ids = self._replace(masked.ids, batch.row_splits, masked.labels, batch.ids, masked.uniform)
        wrong = ids != batch.ids
        outputs = self.model.discriminator(packed=new_packed(ids, batch.row_splits), labels=wrong.astype(np.int64))
        border = outputs.logits.reshape(-1, 2)
        lengths = np.diff(batch.row_splits)
        real = (np.arange(lengths.max())[None, :] < lengths[:, None]).reshape(-1)
        guess = border[real].argmax(axis=1) == 1
        labels = masked.labels[masked.labels >= 0]
        tokens = len(ids)
        return np.array(
            [
                outputs.loss.item() * tokens, (guess == wrong).sum(), tokens, done.loss * masked.count if masked.count else 0.0,
                (done.logits.argmax(axis=1) == labels).sum() if masked.count else 0, masked.count, (guess & wrong).sum(), wrong.sum(),
            ],
            np.float64,
        )  # fmt: skip

    def _scores(self, sums: list[float]) -> dict[str, Any]:
        return {
            "loss": sums[0] / sums[2],
            "accuracy": sums[1] / sums[2],
            "generator_loss": sums[3] / max(sums[5], 1),
            "generator_accuracy": sums[4] / max(sums[5], 1),
            "replaced_found": sums[6] / max(sums[7], 1),
        }

    def _finish(self, result: dict[str, Any]) -> None:
        super()._finish(result)
        import govlm

        if self.out is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the head of the discriminator is left behind on purpose
            encoder = govlm.AutoModel.from_pretrained(str(self.out), add_pooling_layer=False)
        encoder.save_pretrained(str(self.out))
        self.model.generator.save_pretrained(str(self.out / "generator"))
