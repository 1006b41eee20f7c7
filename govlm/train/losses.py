"""Losses written in NumPy, each with its gradient, and what lets the training loop treat them as it treats the core's own.

Everything here is computed in float64 (relations of float32 arrays in float32) and does not depend on the number of threads: NumPy's BLAS cuts a large product by its
threads, so `product` hands it pieces that are too small to be cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GradientLoss", "cross_entropy", "info_nce", "mean_square", "multi_label_kl", "normalise_rows", "product", "relation_kl", "softmax_kl",
]  # fmt: skip

F64 = NDArray[np.float64]
_TILE = 64  # 64 ** 3 multiplications: below what OpenBLAS shares among threads


class GradientLoss:
    """A loss whose gradient is already known: `item()`, `backward()`, `* number`, as a forward's loss.

    send(scale) sends the gradient, times scale, to where it belongs; it is called at most once.
    """

    def __init__(self, value: float, send: Callable[[float], None], scale: float = 1.0) -> None:
        self._value, self._send, self._scale = float(value), send, scale

    def item(self) -> float:
        return self._value * self._scale

    def __float__(self) -> float:
        return self.item()

    def __mul__(self, number: float) -> GradientLoss:
        return GradientLoss(self._value, self._send, self._scale * float(number))

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> GradientLoss:
        return self * (1.0 / float(number))

    def backward(self) -> None:
        self._send(self._scale)


def product(a: NDArray[Any], b: NDArray[Any]) -> F64:
    """a @ b in float64, [M, K] x [K, N], the same bits for any number of threads."""
    return _tiled(np.asarray(a, np.float64), np.asarray(b, np.float64))


def _tiled(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    (m, k), n = a.shape, b.shape[1]
    if m * k * n <= _TILE**3:
        return a @ b
    out = np.zeros((m, n), a.dtype)
    for i in range(0, m, _TILE):
        for j in range(0, n, _TILE):
            tile = out[i : i + _TILE, j : j + _TILE]
            for at in range(0, k, _TILE):
                tile += a[i : i + _TILE, at : at + _TILE] @ b[at : at + _TILE, j : j + _TILE]
    return out


def log_softmax(z: F64) -> F64:
    """Over the last axis."""
    top = z.max(axis=-1, keepdims=True)
    shifted = z - top
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def normalise_rows(x: NDArray[Any]) -> tuple[F64, F64]:
    """(rows of length 1, their lengths [N, 1]); a row of zeros stays one."""
    x = np.asarray(x, np.float64)
    lengths = np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), 1e-12)
    return x / lengths, lengths


def _through_norm(du: F64, u: F64, lengths: F64) -> F64:
    """The gradient at rows whose normalised form got `du`."""
    return (du - u * (du * u).sum(axis=1, keepdims=True)) / lengths


def info_nce(
    left: NDArray[Any],
    right: NDArray[Any],
    negatives: NDArray[Any] | None = None,
    allowed: NDArray[np.bool_] | None = None,
    temperature: float = 0.05,
    symmetric: bool = True,
) -> tuple[float, F64, F64, F64]:
    """In-batch contrastive loss on cosines (InfoNCE, arXiv:1807.03748; as in SimCSE, arXiv:2104.08821).

    left, right: [B, H], row i of one belongs to row i of the other; negatives: [K, H], further candidates for every left row.
    allowed: [B, B + K], which candidates count in a row (None = all; the row's own always does). symmetric: half the loss is
    the other direction, which right row finds its left one (without `negatives`).
    Returns (the mean over rows, gradients at left, right, negatives).
    """
    u, u_length = normalise_rows(left)
    v, v_length = normalise_rows(right)
    rows, width = u.shape
    n, n_length = normalise_rows(negatives if negatives is not None else np.zeros((0, width)))
    candidates = np.concatenate([v, n])
    scores = product(u, candidates.T) / temperature
    own = np.arange(rows)
    if allowed is not None:
        allowed = allowed.copy()
        allowed[own, own] = True
        scores = np.where(allowed, scores, -np.inf)
    weight = 0.5 if symmetric else 1.0
    logs = log_softmax(scores)
    value = -weight * logs[own, own].mean()
    dscores = np.exp(logs) * (weight / rows)
    dscores[own, own] -= weight / rows
    if symmetric:
        logs = log_softmax(np.ascontiguousarray(scores[:, :rows].T))
        value -= weight * logs[own, own].mean()
        dscores[:, :rows] += np.exp(logs).T * (weight / rows)
        dscores[own, own] -= weight / rows
    dscores /= temperature
    du, dcandidates = product(dscores, candidates), product(dscores.T, u)
    return (
        float(value),
        _through_norm(du, u, u_length),
        _through_norm(dcandidates[:rows], v, v_length),
        _through_norm(dcandidates[rows:], n, n_length),
    )


def softmax_kl(student: NDArray[Any], teacher: NDArray[Any], temperature: float = 1.0) -> tuple[F64, F64]:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), row by row (Hinton et al., arXiv:1503.02531).

    student, teacher: [..., C] logits. Returns (losses [...], gradient of their sum at the student's logits).
    """
    wanted = log_softmax(np.asarray(teacher, np.float64) / temperature)
    given = log_softmax(np.asarray(student, np.float64) / temperature)
    p = np.exp(wanted)
    losses = temperature**2 * (p * (wanted - given)).sum(axis=-1)
    return losses, temperature * (np.exp(given) - p)


def multi_label_kl(student: NDArray[Any], teacher: NDArray[Any], temperature: float = 1.0) -> tuple[F64, F64]:
    """As `softmax_kl` where every label is a yes or no of its own; the mean over the labels."""
    s, t = np.asarray(student, np.float64) / temperature, np.asarray(teacher, np.float64) / temperature
    p = 1 / (1 + np.exp(-t))
    # log sigmoid(x) = -log(1 + exp(-x)), and of the complement -log(1 + exp(x))
    yes, no = np.logaddexp(0, -s) - np.logaddexp(0, -t), np.logaddexp(0, s) - np.logaddexp(0, t)
    losses = temperature**2 * (p * yes + (1 - p) * no).mean(axis=-1)
    return losses, temperature * (1 / (1 + np.exp(-s)) - p) / s.shape[-1]


def cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[F64, F64]:
    """Row by row against labels: [N] class numbers, or [N, C] zeros and ones (then the mean over the labels).

    Returns (losses [N], gradient of their sum at the logits).
    """
    z = np.asarray(logits, np.float64)
    if labels.ndim == 1:
        logs = log_softmax(z)
        rows = np.arange(len(z))
        gradient = np.exp(logs)
        gradient[rows, labels] -= 1
        return -logs[rows, labels], gradient
    losses = (np.logaddexp(0, z) - z * labels).mean(axis=-1)
    return losses, (1 / (1 + np.exp(-z)) - labels) / z.shape[-1]


def mean_square(student: NDArray[Any], teacher: NDArray[Any]) -> tuple[F64, F64]:
    """Row by row the mean of squared differences; (losses [N], gradient of their sum at the student)."""
    difference = np.asarray(student, np.float64) - np.asarray(teacher, np.float64)
    return (difference * difference).mean(axis=-1), difference * (2.0 / difference.shape[-1])


def relation_kl(
    student: tuple[NDArray[Any], NDArray[Any]], teacher: tuple[NDArray[Any], NDArray[Any]], heads: int
) -> tuple[float, NDArray[Any], NDArray[Any]]:
    """How differently two models relate the tokens of one text: MiniLM's loss (arXiv:2002.10957, arXiv:2012.15828).

    student: two arrays [S, Ds], teacher: two [S, Dt] (queries and queries, values and values, or queries and keys, which are
    the attention probabilities). Each is cut into `heads` heads, whose scaled products give a distribution over the tokens.
    Returns (KL(teacher || student), mean over heads and tokens; gradients at the student's two arrays, apart even when they
    are the same array). float32 arrays are computed in float32: of long texts these are most of a distillation's work.
    """
    a, b = (_heads(x, heads) for x in student)  # [heads, S, d]
    ta, tb = (_heads(x, heads) for x in teacher)
    tokens = a.shape[1]
    scale, wanted_scale = (x.dtype.type(x.shape[2] ** -0.5) for x in (a, ta))
    given, q = _distribution(_products(a * scale, b.transpose(0, 2, 1)))
    wanted, p = _distribution(_products(ta * wanted_scale, tb.transpose(0, 2, 1)))
    wanted -= given
    wanted *= p
    value = float(wanted.sum(dtype=np.float64)) / (heads * tokens)
    q -= p
    q *= scale / a.dtype.type(heads * tokens)
    return value, _flat(_products(q, b)), _flat(_products(q.transpose(0, 2, 1), a))


def _distribution(z: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(log softmax, softmax) over the last axis; z is used up."""
    z -= z.max(axis=-1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=-1, keepdims=True)
    z -= np.log(total)
    p /= total
    return z, p


def _products(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """[heads, M, K] x [heads, K, N], under the rule of `product`."""
    if a.shape[1] * a.shape[2] * b.shape[2] <= _TILE**3:
        return a @ b
    return np.stack([_tiled(x, y) for x, y in zip(a, b, strict=True)])


def _heads(x: NDArray[Any], heads: int) -> NDArray[Any]:
    rows, width = x.shape
    kept = x if x.dtype == np.float32 else np.asarray(x, np.float64)
    return np.ascontiguousarray(kept.reshape(rows, heads, width // heads).transpose(1, 0, 2))


def _flat(x: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(x.shape[1], -1)
