"""How well names fit a query (csrc/text/match.c): characters and pairs that both have, weighed by how telling they are, and the
order that they stand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from govlm._native import core

__all__ = ["FEATURES", "LONGEST", "Names"]

FEATURES = ("of query", "of name", "pairs of query", "pairs of name", "in order of query", "in order of name")
LONGEST = 256  # symbols of a query
_PAIR_BITS = 14

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Names:
    """letters [A]: the codes that occur, ascending, after a 0 for breaks; symbols [T] number them; splits [N + 1]."""

    letters: I32
    symbols: I32
    splits: I64
    weight: F32
    pair_weight: F32

    @classmethod
    def make(cls, names: Sequence[I32], owners: Sequence[int]) -> Names:
        """names: codes of each (0 = a break). A code is the more telling, the fewer owners have it: ln(1 + (N - n + ½)/(n + ½))."""
        splits = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in names], out=splits[1:])
        codes = np.concatenate([np.zeros(0, np.int32), *names])
        letters = np.unique(np.append(codes, 0)).astype(np.int32)
        symbols = np.searchsorted(letters, codes).astype(np.int32)
        name = np.repeat(np.arange(len(names)), np.diff(splits))
        owner, total = np.asarray(owners, np.int64)[name], len(set(owners))
        weight = _rarity(symbols, owner, len(letters), total)
        weight[0] = 0
        pairs = core.name_pairs(symbols, _PAIR_BITS)
        kept = (name[1:] == name[:-1]) & (pairs >= 0)
        return cls(letters, symbols, splits, weight, _rarity(pairs[kept], owner[1:][kept], 1 << _PAIR_BITS, total))

    def features(self, codes: I32, which: I32 | None = None) -> F32:
        """[names, 6] in the order of FEATURES, of all names or of those numbered in `which`. codes: the query's, at most LONGEST."""
        if len(self.letters) == 0 or len(codes) == 0:
            return np.zeros((len(self.splits) - 1 if which is None else len(which), len(FEATURES)), np.float32)
        places = np.searchsorted(self.letters, codes)
        known = places < len(self.letters)
        known[known] = self.letters[places[known]] == codes[known]
        query = np.where(known, places, len(self.letters)).astype(np.int32)
        strange = float(self.weight.max(initial=0.0))
        found: F32 = core.name_features(query, self.symbols, self.splits, self.weight, self.pair_weight, strange, which)
        return found

    def arrays(self, prefix: str) -> dict[str, NDArray[np.generic]]:
        """For a file."""
        return {f"{prefix}.{name}": getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[np.generic]], prefix: str) -> Names:
        return cls(**{name: arrays[f"{prefix}.{name}"] for name in cls.__dataclass_fields__})  # type: ignore[arg-type]


def _rarity(symbols: NDArray[np.int32], owner: I64, count: int, total: int) -> F32:
    """[count] of each symbol, from the owners that have it."""
    seen = np.unique(owner * count + symbols) % count if len(symbols) else np.zeros(0, np.int64)
    owners = np.bincount(seen, minlength=count)
    return np.log1p((total - owners + 0.5) / (owners + 0.5)).astype(np.float32)
