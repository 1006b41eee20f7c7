"""The weights of a GGUF file under transformers' names, with checkpoint.Checkpoint's methods."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..blocks import GGUF_BYTES, Blocks, from_gguf, pack
from .architectures import Place, config_fields, places
from .dequantise import KINDS, ROUNDED, dequantise, rounded
from .file import GGUFFile

__all__ = ["GGUFCheckpoint"]


class GGUFCheckpoint:
    """whole: matrices become float32, else those of Q4_0, Q4_1 and Q8_0 stay in their blocks (in the kernels' order), and those of
    4 to 6 bits in other blocks are rounded to such (dequantise.ROUNDED).

    Errors: as GGUFFile; ValueError naming the tensor that is of a type that govlm does not compute with.
    """

    def __init__(self, path: str | os.PathLike[str], whole: bool = False) -> None:
        self._opened = GGUFFile(path)
        self._whole = whole
        self.folder = self._opened.file
        self.files = [self._opened.file]
        fields = config_fields(self._opened)
        self._places = places(self._opened, fields)
        if fields["tie_word_embeddings"]:  # a copy, if there is one
            self._places.pop("lm_head.weight", None)
        for place in self._places.values():
            info = self._opened.tensors[place.name]
            if info.kind not in KINDS:
                raise ValueError(
                    f"{self._opened.file}: tensor {place.name!r} is of type {info.kind}; govlm reads {', '.join(KINDS)}"
                )
            if place.heads and info.shape[0] % (2 * place.heads):
                raise ValueError(
                    f"{self._opened.file}: tensor {place.name!r} has {info.shape[0]} rows for {place.heads} heads: that cannot be"
                )

    def names(self) -> list[str]:
        return list(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        place = self._places[name]
        shape = self._opened.tensors[place.name].shape
        return shape[::-1] if place.conv1d else shape

    def file(self, name: str) -> Path:
        return self._opened.file

    def tensor(self, name: str) -> Any:
        """float32 (a view where the file holds it so), or Blocks."""
        place = self._places[name]
        info, rows = self._opened.tensors[place.name], self._opened.raw(place.name)
        if (info.kind in GGUF_BYTES or info.kind in ROUNDED) and len(info.shape) == 2 and not self._whole:
            return self._blocks(place, rows, info.kind)
        found: NDArray[np.float32] = rows.view("<f4") if info.kind == "F32" else dequantise(info.kind, rows)
        values = found.reshape(info.shape)
        if place.heads:
            values = values[_halves(len(values), place.heads)]
        return np.ascontiguousarray(values.T if place.conv1d else values)

    def _blocks(self, place: Place, rows: NDArray[np.uint8], kind: str) -> Blocks:
        if place.heads:
            rows = rows[_halves(len(rows), place.heads)]
        try:
            if kind in GGUF_BYTES:
                return from_gguf(kind, rows, place.slices)
            return pack(rounded(kind, rows), ROUNDED[kind], place.slices)
        except ValueError as error:
            raise ValueError(f"{self._opened.file}: tensor {place.name!r}: {error}") from None


def _halves(rows: int, heads: int) -> NDArray[np.intp]:
    """The rows in transformers' order: of every head the even ones, then the odd ones."""
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
