"""Sentence vectors that come in the box: of the sample hall, and of the sentences by which every hall tells what a message does.

They are the bundled model's own, so that a first start has them at once. Each is found by the digest of its text, and all of them
hold for one file of weights only: with other weights, and for other texts, the encoder is asked. Kept in 8 bits, as an index keeps
its vectors (retrieval/dense.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.checkpoint import sha256_of
from govlm.hall.retrieval.dense import LEVELS
from govlm.quantised import FILE as WEIGHTS
from govlm.quantised import round_weights

__all__ = ["FILE", "Known"]

FILE = Path(__file__).resolve().parents[2] / "assets" / "understanding" / "vectors.safetensors"
F32 = NDArray[np.float32]
Encode = Callable[[Sequence[str]], F32]


@dataclass(frozen=True)
class Known:
    """digests [N], ascending; codes [N, H] and scales [N] of the vectors."""

    digests: NDArray[np.uint64]
    codes: NDArray[np.int8]
    scales: F32

    @classmethod
    def make(cls, texts: Sequence[str], encode: Encode) -> Known:
        texts = list(dict.fromkeys(texts))
        digests = _digests(texts)
        order = np.argsort(digests)
        if len(np.unique(digests)) < len(texts):
            raise ValueError("two texts of the box have the same digest: make the digests longer")
        codes, scales = round_weights(encode(texts), LEVELS)
        return cls(digests[order], codes[order], scales[order])

    def save(self, file: Path, model: Path) -> None:
        """model: folder of the weights that made them."""
        from safetensors.numpy import save_file

        arrays: dict[str, NDArray[Any]] = {"digests": self.digests.view(np.int64), "codes": self.codes, "scales": self.scales}
        save_file(arrays, file, metadata={"weights": sha256_of(model / WEIGHTS)})

    @classmethod
    def of(cls, model: Path, file: Path = FILE) -> Known | None:
        """Those that were made with these weights; None where there are none."""
        from safetensors import safe_open

        if not file.exists() or not (model / WEIGHTS).exists():
            return None
        with safe_open(file, framework="np") as opened:
            if opened.metadata().get("weights") != sha256_of(model / WEIGHTS):
                return None
            arrays = {name: opened.get_tensor(name) for name in ("digests", "codes", "scales")}
        return cls(arrays["digests"].view(np.uint64), arrays["codes"], arrays["scales"])

    def within(self, encode: Encode) -> Encode:
        """An encoder that asks `encode` for other texts only."""

        def encoded(texts: Sequence[str]) -> F32:
            digests = _digests(texts)
            places = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
            there = self.digests[places] == digests
            found = np.empty((len(texts), self.codes.shape[1]), np.float32)
            found[there] = self.codes[places[there]] * self.scales[places[there], None]
            if not there.all():
                found[~there] = encode([text for text, known in zip(texts, there, strict=True) if not known])
            return found

        return encoded


def _digests(texts: Sequence[str]) -> NDArray[np.uint64]:
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
            for text in texts
        ],
        np.uint64,
    )
