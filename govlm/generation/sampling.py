"""The choice of a token: the most probable one, or one drawn with numbers that depend on nothing but seed, stream and step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draw", "choose"]


class Draw:
    """Uniform numbers of one text: Philox (Salmon et al., SC11) keyed by (seed, stream), counted by the number of the token, so that
    they are the same whatever else is generated beside it. stream tells texts of one prompt apart."""

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._key = np.array([seed, stream], np.uint64)

    def __call__(self, step: int) -> float:
        """In [0, 1)."""
        raw = np.random.Philox(key=self._key, counter=np.array([0, step, 0, 0], np.uint64)).random_raw()
        return float((int(raw) >> 11) * 2.0**-53)


def choose(logits: NDArray[np.float32], uniform: float | None) -> int:
    """The id for processed logits [V]: the largest (the first of equals), or with `uniform` in [0, 1) one drawn from softmax(logits)."""
    if uniform is None:
        return int(logits.argmax())
    places = np.flatnonzero(logits > -np.inf)
    values = logits[places].astype(np.float64)
    total = np.cumsum(np.exp(values - values.max()))
    place = int(np.searchsorted(total, uniform * total[-1], side="right"))
    return int(places[min(place, len(places) - 1)])
