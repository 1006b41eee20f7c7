"""The encoder of a sequence-to-sequence model: what each text's decoder looks at, several sources in one packed forward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..adapters.mixin import arguments_of

__all__ = ["Encoder", "Source"]

F32 = NDArray[np.float32]


class Source(NamedTuple):
    """What an encoder reads for one text. positions: of its ids, where a mask left holes; route: the adapter in the encoder."""

    ids: list[int]
    positions: list[int] | None = None
    route: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal sources, through the same weights, give the same memory."""
        route = b"" if self.route is None else self.route.key
        return tuple(self.ids), None if self.positions is None else tuple(self.positions), route


class Encoder:
    """Of a T5 model; None in its place where a model has no encoder."""

    def __init__(self, model: Any) -> None:
        self._model, self._core = model, model._cores["encoder"]
        model._share()

    @classmethod
    def of(cls, model: Any) -> Encoder | None:
        return cls(model) if "decoder" in model._cores else None

    @property
    def version(self) -> int:
        """Changes with the weights."""
        return int(self._core.version)

    def renew(self) -> None:
        """After the weights changed: the decoder's copy of the shared table follows."""
        self._model._share()

    def __call__(self, sources: Sequence[Source]) -> list[F32]:
        """The memory [S, H] of each source. Errors: the core's, also Cancelled; IndexError for an id beyond the vocabulary."""
        lengths = [len(source.ids) for source in sources]
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.concatenate([np.asarray(source.ids, np.int32) for source in sources])
        positions = None
        if any(source.positions is not None for source in sources):
            columns = [range(len(s.ids)) if s.positions is None else s.positions for s in sources]
            positions = np.concatenate([np.asarray(list(column), np.int32) for column in columns])
        done = self._core.forward(ids, splits, positions, save=False, **arguments_of([s.route for s in sources]))
        hidden = done.hidden(-1)
        return [np.array(hidden[begin:end]) for begin, end in pairwise(splits)]  # not the whole pass
