"""The n-gram branch of a text classifier: hashed character n-grams under one linear machine a label, beside the encoder.

With few rows, a support vector machine on weighed n-grams is hard to beat, and it errs elsewhere than an encoder. The branch
keeps what makes it strong: idf, rows of length 1, a margin loss with L2, an exact fit (csrc/nn/sparse_linear.c). A classifier's
logits are the encoder's plus `factor` times the branch's margins. The encoder is trained on that sum, where a training row's
margins come from a machine that was fitted without the row (as in stacking: Wolpert, "Stacked generalization", 1992): a branch
that knows its rows by heart would leave the encoder nothing to learn. `factor` is the one that makes these margins good
probabilities. Of pairs of texts the machine sees what both have and what one has more of: which of them, it does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm._native import core
from govlm.checkpoint import load_file, save_file
from govlm.data import DataError, Text, permutation

__all__ = ["FILE", "NgramBranch", "NgramOptions", "count_ngrams", "fit_branch"]

FILE = "ngrams.safetensors"
_TENSORS = {"buckets": np.int32, "idf": np.float32, "weights": np.int8, "scales": np.float32, "bias": np.float32}

Sparse = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class NgramOptions:
    """How a branch is made."""

    shortest: int = 1  # code points an n-gram
    longest: int = 2
    bits: int = 20  # n-grams are hashed into 2**bits buckets
    features: int = 1 << 16  # buckets that are kept: those in most training texts
    c: float = 1.0  # what an error costs against large weights
    folds: int = 5  # machines that judge the training rows they have not seen
    pairs: bool = False  # rows are pairs of texts

    @property
    def buckets(self) -> int:
        """Of pairs twice 2**bits: n-grams that both texts have, then those that one has more of."""
        return (2 if self.pairs else 1) << self.bits


def count_ngrams(texts: Sequence[Text], options: NgramOptions) -> Sparse:
    """How often each bucket occurs in each row, as CSR: indices int32, values float32, row_splits int64 [n + 1].

    Errors: ValueError for a lone surrogate; DataError for pairs where single texts belong, and the other way round.
    """
    for text in texts:
        if isinstance(text, str) == options.pairs:
            kinds = ("single texts", "pairs of texts")
            raise DataError(f"{kinds[not options.pairs]}, where this model was trained on {kinds[options.pairs]}")

    def counts(side: Any) -> Sparse:
        return core.ngram_counts(side, options.shortest, options.longest, options.bits)

    if options.pairs:
        return _of_pairs(counts([pair[0] for pair in texts]), counts([pair[1] for pair in texts]), options.bits)
    return counts(texts)


def _of_pairs(one: Sparse, other: Sparse, bits: int) -> Sparse:
    """What both have of each bucket (the smaller count), and 2**bits further on what one has more (the difference)."""
    rows = len(one[2]) - 1
    keys = [np.repeat(np.arange(rows), np.diff(splits)) << bits | indices for indices, _, splits in (one, other)]
    union, place = np.unique(np.concatenate(keys), return_inverse=True)
    a, b = np.zeros(len(union), np.float32), np.zeros(len(union), np.float32)
    a[place[: len(keys[0])]], b[place[len(keys[0]) :]] = one[1], other[1]
    values = np.concatenate([np.minimum(a, b), np.abs(a - b)])
    row = np.tile(union >> bits, 2)
    index = np.concatenate([union & (1 << bits) - 1, (union & (1 << bits) - 1) + (1 << bits)])
    order = np.lexsort((index, row))
    order = order[values[order] > 0]
    splits = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row[order], minlength=rows), out=splits[1:])
    return index[order].astype(np.int32), values[order], splits


def take_rows(data: Sparse, rows: NDArray[np.int64]) -> Sparse:
    """These rows of a CSR matrix, in this order."""
    indices, values, splits = data
    starts, counts = splits[rows], splits[rows + 1] - splits[rows]
    new = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=new[1:])
    places = np.repeat(starts - new[:-1], counts) + np.arange(new[-1])
    return indices[places], values[places], new


@dataclass
class NgramBranch:
    """A fitted branch over F buckets for K labels. It is not changed any more, so threads may share it.

    buckets: int32 [F], ascending; idf: float32 [F]; weights: int8 [F, K] with float32 scales [F]; bias: float32 [K];
    factor: what the margins are multiplied by.
    """

    options: NgramOptions
    buckets: NDArray[np.int32]
    idf: NDArray[np.float32]
    weights: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]
    factor: float = 1.0

    def logits(self, texts: Sequence[Text] | Sparse) -> NDArray[np.float32]:
        """[n, K] for texts or pairs of texts, or for their counts (`count_ngrams`). Errors: as there."""
        counts = texts if isinstance(texts, tuple) else count_ngrams(texts, self.options)
        weighed = core.ngram_weigh(counts, self.buckets, self.idf)
        return core.sparse_logits(weighed, self.weights, self.scales, self.bias, self.factor)

    @property
    def nbytes(self) -> int:
        """What the file holds, without its header."""
        return sum(int(getattr(self, name).nbytes) for name in _TENSORS)

    def entry(self) -> dict[str, Any]:
        """What config.json says of the branch, under "ngrams"."""
        o = self.options
        pairs = {"pairs": True} if o.pairs else {}
        return {"file": FILE, "shortest": o.shortest, "longest": o.longest, "bits": o.bits, **pairs, "factor": self.factor}

    def save(self, folder: str | Path) -> None:
        """Writes `folder`/ngrams.safetensors, atomically. The entry of config.json is the model's to write."""
        save_file({name: getattr(self, name) for name in _TENSORS}, Path(folder) / FILE)

    @classmethod
    def load(cls, folder: str | Path, entry: dict[str, Any]) -> NgramBranch:
        """Maps the file that config.json's entry names. Errors: OSError, ValueError that names the file and what is wrong."""
        try:
            shortest, longest, bits = (int(entry[key]) for key in ("shortest", "longest", "bits"))
            options = NgramOptions(shortest, longest, bits, pairs=bool(entry.get("pairs", False)))
            factor, name = float(entry["factor"]), str(entry["file"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{Path(folder) / 'config.json'}: its entry 'ngrams' is malformed") from None
        if Path(name).name != name:
            raise ValueError(f"{Path(folder) / 'config.json'}: ngrams.file must be a file name, not {name!r}")
        file = Path(folder) / name
        if not file.exists():
            raise FileNotFoundError(2, "the n-gram branch that config.json names is missing", str(file))
        tensors = load_file(file)
        for key, kind in _TENSORS.items():
            if key not in tensors or tensors[key].dtype != kind:
                raise ValueError(f"{file}: the tensor {key!r} is missing or not {np.dtype(kind).name}")
        features, labels = tensors["weights"].shape if tensors["weights"].ndim == 2 else (-1, -1)
        for key, size in (("buckets", features), ("idf", features), ("scales", features), ("bias", labels)):
            if tensors[key].shape != (size,):
                raise ValueError(f"{file}: the tensor {key!r} has shape {list(tensors[key].shape)}, [{size}] is needed")
        return cls(options, **{key: tensors[key] for key in _TENSORS}, factor=factor)


# -------------------------------------------------------------------- fitting


def fit_branch(
    counts: Sparse,
    labels: NDArray[Any],
    num_labels: int,
    options: NgramOptions | None = None,
    class_weights: NDArray[np.float32] | None = None,
    seed: int = 0,
) -> tuple[NgramBranch, NDArray[np.float32]]:
    """(branch, honest): the branch fitted on all rows, and the logits [n, K] of each row from a machine that has not seen it.

    counts: from `count_ngrams`; labels: int64 [n], or float32 [n, K] of 0 and 1 for several labels a row; class_weights: [K],
    what an error on rows of a class costs. Deterministic in its arguments, whatever the thread count.
    """
    options = options or NgramOptions()
    rows = len(counts[2]) - 1
    frequency = np.bincount(counts[0], minlength=options.buckets)
    buckets = np.flatnonzero(frequency)
    if len(buckets) > options.features:
        buckets = np.sort(buckets[np.argsort(-frequency[buckets], kind="stable")[: options.features]])
    idf = np.log((1 + rows) / (1 + frequency[buckets])) + 1  # smoothed, as scikit-learn's
    branch = NgramBranch(
        options,
        buckets.astype(np.int32),
        idf.astype(np.float32),
        *_eight_bits(np.zeros((len(buckets), num_labels), np.float32)),
        np.zeros(num_labels, np.float32),
    )
    weighed = core.ngram_weigh(counts, branch.buckets, branch.idf)
    targets = np.where(labels > 0.5, 1, -1) if labels.ndim == 2 else np.where(labels[:, None] == np.arange(num_labels), 1, -1)
    targets = targets.astype(np.int8)
    costs = class_weights[labels].astype(np.float32) if class_weights is not None and labels.ndim == 1 else None

    def fit(part: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]:
        weights, bias = core.sparse_svm(
            take_rows(weighed, part),
            targets[part],
            len(buckets),
            costs=None if costs is None else costs[part],
            c=options.c,
            tolerance=0.1,
            seed=seed,
        )
        return *_eight_bits(weights), bias

    honest = np.zeros((rows, num_labels), np.float32)
    fold = _folds(labels, options.folds, seed)
    for number in range(int(fold.max(initial=-1)) + 1):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        honest[held] = core.sparse_logits(take_rows(weighed, held), *fit(rest), 1.0)
    branch.weights, branch.scales, branch.bias = fit(np.arange(rows))
    branch.factor = _best_factor(honest, labels)
    return branch, honest * np.float32(branch.factor)


def _eight_bits(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """weights [F, K] as int8 and the scale of each row; the error is at most 1/254 of the row's largest weight."""
    scales = np.abs(weights).max(axis=1, initial=0.0) / np.float32(127)
    divisor = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(weights / divisor).astype(np.int8), scales.astype(np.float32)


def _folds(labels: NDArray[Any], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each row, every class spread over all folds. Fewer than two rows have none to spare: no folds."""
    rows = len(labels)
    order = permutation(rows, seed, 0x4E47)
    if labels.ndim == 1:
        order = order[np.argsort(labels[order], kind="stable")]
    fold = np.zeros(rows, np.int64)
    fold[order] = np.arange(rows) % max(1, min(folds, rows))
    return fold if rows > 1 else fold - 1


def _best_factor(margins: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """The factor in 0.05..20 that gives the least cross entropy, by golden section on its logarithm.

    As many imagined rows as there are labels, each of any label alike, keep few rows that are all right from making it sure of
    everything (as Platt's targets do: "Probabilistic outputs for support vector machines", 1999).
    """
    rows, count = margins.shape
    smooth = count / (rows + count)
    if labels.ndim == 2:
        targets = labels * (1 - smooth) + smooth / 2
    else:
        targets = np.full(margins.shape, smooth / count)
        targets[np.arange(rows), labels] += 1 - smooth

    def loss(x: float) -> float:
        z = margins.astype(np.float64) * np.exp(x)
        if labels.ndim == 2:
            return float((np.logaddexp(0, z) - z * targets).mean())
        top = z.max(axis=1, initial=0.0)
        return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - (z * targets).sum(axis=1)).mean())

    low, high, ratio = float(np.log(0.05)), float(np.log(20.0)), (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    loss_a, loss_b = loss(a), loss(b)
    for _ in range(24):
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - ratio * (high - low)
            loss_a = loss(a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + ratio * (high - low)
            loss_b = loss(b)
    return float(np.float32(np.exp((low + high) / 2)))
