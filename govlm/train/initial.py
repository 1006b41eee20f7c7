"""Initial weights that know the corpus: a masked LM that starts here is where a random one is after millions of tokens.

Four things are cheap to know before the first step, and dear to learn by masked tokens:

* how frequent each token is: the bias of the head (the logarithm of the shares);
* which tokens keep company: word embeddings whose products approximate positive pointwise mutual information within 5 tokens,
  PPMI = U diag(w) U', embeddings U sqrt(w) (Levy & Goldberg, "Neural word embedding as implicit matrix factorization", 2014;
  contexts to the power 0.75, as there);
* where neighbours are: positions are sines and cosines (Vaswani et al., arXiv:1706.03762) in as many dimensions as a head has, and
  heads of the first two layers start looking at the tokens 1, 2, 3 places before and after. A query keeps the waves of its
  position, a key turns them by the offset, so that their product is largest there;
* that what is found may be passed on as it is: values and their way out start as a rotation and half its inverse, the head's
  dense layer near the identity (as in mimetic initialisation, Trockman & Kolter, arXiv:2305.09828).

All of it is learned further like any other weight. benchmarks/SPEED.md has what it saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.loop import TrainError

__all__ = ["associations", "count_pairs", "start_from_corpus", "waves"]

F32 = NDArray[np.float32]
MOST = 8192  # tokens whose company is counted: the table is MOST x MOST
WINDOW = 5  # tokens to each side
OFFSETS = (-1, 1, -2, 2, -3, 3)  # one head each
LOCAL_LAYERS = 2
_SPREAD = 0.05  # root mean square of a word embedding's entries, over the running text
_NOISE = 0.01
_POSITION_SHARE = 0.9  # length of a position's embedding, of a word's
_PEAK = 9.6  # attention score of the place that a local head looks at


def count_pairs(
    corpora: Sequence[Any], window: int = WINDOW, most: int = MOST
) -> tuple[F32, NDArray[np.int64], NDArray[np.int64]]:
    """(pairs float32 [K, K], kept int64 [K], counts int64 [V]): how often two of the K most frequent tokens stand within
    `window` places of each other in a document, both ways; which tokens those are; how often each token occurs.
    """
    size = corpora[0].vocab_size
    shards = [c.shard(i) for c in corpora for i in range(len(c.shards))]
    counts = np.zeros(size, np.int64)
    for shard in shards:
        counts += np.bincount(shard.ids, minlength=size)
    kept = np.sort(np.argsort(-counts, kind="stable")[: min(most, size)])
    place = np.full(size, -1, np.int64)
    place[kept] = np.arange(len(kept))
    pairs = np.zeros(len(kept) ** 2, np.float32)
    for shard in shards:
        ids = place[np.asarray(shard.ids)]
        document = np.repeat(np.arange(shard.documents), np.diff(shard.document_splits).astype(np.int64))
        for distance in range(1, window + 1):
            a, b = ids[:-distance], ids[distance:]
            good = (document[:-distance] == document[distance:]) & (a >= 0) & (b >= 0)
            pairs += np.bincount((a * len(kept) + b)[good], minlength=len(pairs)).astype(np.float32)
    table = pairs.reshape(len(kept), len(kept))
    return table + table.T, kept, counts


def associations(pairs: F32, width: int, seed: int) -> F32:
    """[K, width]: vectors whose products approximate the positive pointwise mutual information of symmetric counts [K, K]."""
    total = max(float(pairs.sum(dtype=np.float64)), 1.0)
    share = pairs.sum(axis=1, dtype=np.float64) / total
    context = share**0.75
    context /= max(context.sum(), 1e-30)
    with np.errstate(divide="ignore"):
        logs = [np.where(v > 0, np.log(np.maximum(v, 1e-300)), 0.0).astype(np.float32) for v in (share, context)]
        table = np.log(pairs / np.float32(total))
    table -= logs[0][:, None]
    table -= logs[1][None, :]
    np.maximum(np.where(pairs > 0, table, 0.0), 0.0, out=table)
    table = (table + table.T) / 2
    draw = np.random.default_rng(seed)  # the dominant part, by a random projection and four powers (Halko et al., 2011)
    width = min(width, len(table))
    basis = np.linalg.qr(table @ draw.standard_normal((len(table), min(len(table), width + 60)), dtype=np.float32))[0]
    for _ in range(4):
        basis = np.linalg.qr(table @ basis)[0]
    values, vectors = np.linalg.eigh(basis.T @ table @ basis)
    order = np.argsort(-values)[:width]
    return np.asarray((basis @ vectors[:, order]) * np.sqrt(np.maximum(values[order], 0.0)), np.float32)


def waves(count: int) -> NDArray[np.float64]:
    """`count` angular frequencies, evenly spread over 0..0.9 pi a token."""
    return (np.arange(count) + 0.5) / count * np.pi * 0.9


def start_from_corpus(model: Any, corpora: Sequence[Any], seed: int) -> None:
    """Sets the initial weights of a model with learned positions (BERT, RoBERTa; with or without a masked-LM head).

    Errors: TrainError for a model without word embeddings as wide as its layers, or with fewer than two heads.
    """
    c = model.config
    h, heads = c.hidden_size, c.num_attention_heads
    size = h // heads
    if (getattr(c, "embedding_size", None) or h) != h or heads < 2 or size < 2:
        raise TrainError("initial = corpus needs word embeddings as wide as the layers, and two heads or more of two or more")
    names = {parameter.core_name: name for name, parameter in model.named_parameters()}
    weights = {name: np.array(value) for name, value in model.state_dict().items()}
    draw = np.random.default_rng(seed)
    frequencies = waves(size // 2)
    front = 2 * len(frequencies)  # positions lie in the first dimensions, words in the others

    pairs, kept, counts = count_pairs(corpora)
    vectors = associations(pairs, h - front, seed)
    del pairs
    share = counts[kept] / max(int(counts.sum()), 1)
    scale = _SPREAD / np.sqrt(max(float((share[:, None] * vectors**2).sum()) / (h - front), 1e-12))
    words = draw.standard_normal(weights[names["embeddings.word.weight"]].shape).astype(np.float32) * np.float32(_NOISE)
    words[kept, front : front + vectors.shape[1]] += vectors * np.float32(scale)
    weights[names["embeddings.word.weight"]] = words
    if "mlm.bias" in names:
        bias = weights[names["mlm.bias"]]
        bias[:] = np.log(0.5 / max(int(counts.sum()), 1))
        bias[: len(counts)] = np.log(np.maximum(counts, 0.5) / max(int(counts.sum()), 1))
        dense = names["mlm.dense.weight"]
        weights[dense] = 0.3 * weights[dense] + np.eye(h, dtype=np.float32)

    amplitude = _POSITION_SHARE * _SPREAD * np.sqrt(h / len(frequencies))
    table = weights[names["embeddings.position.weight"]]
    angles = np.arange(len(table))[:, None] * frequencies
    table *= 0.2
    table[:, 0:front:2] += amplitude * np.sin(angles)
    table[:, 1:front:2] += amplitude * np.cos(angles)

    # After the norm a wave has this amplitude; the gain makes the score of the right place _PEAK.
    wave = amplitude / np.sqrt((_SPREAD**2 * (h - front) + amplitude**2 * len(frequencies)) / h)
    gain = np.float32(np.sqrt(_PEAK * np.sqrt(size) / (len(frequencies) * wave**2)))
    for layer in range(c.num_hidden_layers):
        prefix = f"layers.{layer}.attention"
        turn = np.linalg.qr(draw.standard_normal((h, h)))[0].astype(np.float32)
        weights[names[f"{prefix}.value.weight"]] = turn
        weights[names[f"{prefix}.output.weight"]] = np.ascontiguousarray(turn.T) / 2
        if layer >= LOCAL_LAYERS:
            continue
        for head, offset in enumerate(OFFSETS[: max(1, heads - heads // 3)]):
            rows = slice(head * size, head * size + size)
            for role, shift in (("query", 0), ("key", offset)):
                weight = weights[names[f"{prefix}.{role}.weight"]]
                weight[rows] *= 0.2
                sine, cosine = np.sin(frequencies * shift), np.cos(frequencies * shift)
                at = 2 * np.arange(len(frequencies))
                weight[rows.start + at, at] += gain * cosine
                weight[rows.start + at, at + 1] -= gain * sine
                weight[rows.start + at + 1, at + 1] += gain * cosine
                weight[rows.start + at + 1, at] += gain * sine
    model.load_state_dict(weights)
