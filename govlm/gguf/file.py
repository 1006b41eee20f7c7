"""GGUF files, mapped: metadata and tensors as they lie there.

The format is ggml's (docs/gguf.md there): a header, keys with typed values, names and shapes of tensors, then their bytes, all
little-endian. The whole of the first three is checked against the size of the file before a tensor is handed out; nothing is
taken on trust, and nothing larger than the file is made of it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GGUFFile", "Metadata", "TensorInfo"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY, BOOL = 8, 9, 7
# number -> name, values in a block, bytes of a block
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
# of metadata: number -> NumPy's type
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", BOOL: "|b1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_MOST_NAME = 1 << 16  # bytes of a key, which the format bounds so, and of a tensor's name
_MOST_DIMENSIONS = 4


class TensorInfo(NamedTuple):
    """kind: as in TYPES. shape: the outermost dimension first, as in NumPy. begin, size: bytes in the file."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    size: int


@dataclass(frozen=True)
class _Texts:
    """A list of texts that nobody has asked for yet: where it begins in the file."""

    begin: int
    count: int


class Metadata(Mapping[str, Any]):
    """Key -> number, truth value, text, NumPy array of numbers or list of texts (made when it is first asked for)."""

    def __init__(self, file: Path, view: mmap.mmap) -> None:
        self._reader = _Reader(file, view)
        self._values: dict[str, Any] = {}

    def read(self, reader: _Reader) -> None:
        """Takes in the next key."""
        key = reader.text("a key of the metadata", _MOST_NAME)
        if key in self._values:
            raise ValueError(f"{reader.file} has the key {key!r} twice")
        self._values[key] = reader.value(f"the value of {key!r}")

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if isinstance(value, _Texts):
            self._reader.at = value.begin
            value = [self._reader.text(f"the value of {key!r}") for _ in range(value.count)]
            self._values[key] = value
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class _Reader:
    """Walks over the bytes and stops at their end with a message."""

    def __init__(self, file: Path, view: mmap.mmap) -> None:
        self.file, self.view, self.at = file, view, 0

    def need(self, count: int, what: str) -> int:
        """Steps over `count` bytes; where they begin."""
        begin = self.at
        if count > len(self.view) - begin:
            raise ValueError(f"{self.file} is truncated: {what} ends beyond its {len(self.view)} bytes")
        self.at = begin + count
        return begin

    def number(self, code: str, what: str) -> int:
        layout = struct.Struct("<" + code)
        return int(layout.unpack_from(self.view, self.need(layout.size, what))[0])

    def text(self, what: str, most: int | None = None) -> str:
        length = self.number("Q", what)
        if most is not None and length > most:
            raise ValueError(f"{self.file}: {what} would be {length} bytes long")
        begin = self.need(length, what)
        try:
            return self.view[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self.file}: {what} is not UTF-8") from None

    def scalars(self, kind: int, count: int, what: str) -> NDArray[Any]:
        layout = np.dtype(_SCALARS[kind])
        begin = self.need(layout.itemsize * count, what)
        raw = np.frombuffer(self.view, np.uint8, layout.itemsize * count, begin)
        if kind == BOOL and (raw > 1).any():
            raise ValueError(f"{self.file}: {what} is a truth value other than 0 and 1")
        return raw.view(layout).copy()

    def value(self, what: str) -> Any:
        kind = self.number("I", what)
        if kind == STRING:
            return self.text(what)
        if kind in _SCALARS:
            return self.scalars(kind, 1, what)[0].item()
        if kind != ARRAY:
            raise ValueError(f"{self.file}: {what} is of type {kind}, which GGUF does not have")
        inner, count = self.number("I", what), self.number("Q", what)
        if inner in _SCALARS:
            return self.scalars(inner, count, what)
        if inner != STRING:
            raise ValueError(f"{self.file}: {what} is an array of type {inner}; govlm reads those of numbers and of texts")
        return self.texts(count, what)

    def texts(self, count: int, what: str) -> _Texts:
        """Steps over them. A vocabulary has 100,000: the loop is plain."""
        view, begin, end, length_at = self.view, self.at, len(self.view), struct.Struct("<Q").unpack_from
        at = begin
        try:
            for _ in range(count):  # an absurd count ends at the file's end
                at += 8 + length_at(view, at)[0]
        except (struct.error, OverflowError):
            at = end + 1
        if at > end:
            raise ValueError(f"{self.file} is truncated: {what} ends beyond its {end} bytes")
        self.at = at
        return _Texts(begin, count)


class GGUFFile:
    """One mapped GGUF file. metadata: a Metadata. tensors: name -> TensorInfo.

    Errors: FileNotFoundError; ValueError naming the file and what in it is truncated, malformed or of an unknown kind.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = Path(path)
        if not self.file.is_file():
            raise FileNotFoundError(f"no file {self.file}")
        with open(self.file, "rb") as handle:
            if os.fstat(handle.fileno()).st_size < 4:
                raise ValueError(f"{self.file} is truncated: it is too short for a GGUF file")
            self.view = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        reader = _Reader(self.file, self.view)
        if self.view[reader.need(4, "its magic") :][:4] != MAGIC:
            raise ValueError(f"{self.file} is not a GGUF file: it does not begin with {MAGIC.decode()}")
        self.version = reader.number("I", "its version")
        if self.version not in VERSIONS:
            why = " (of a big-endian machine)" if self.version & 0xFFFF == 0 else ""
            raise ValueError(f"{self.file} is GGUF version {self.version}{why}; govlm reads versions 2 and 3, little-endian")
        tensors, keys = reader.number("Q", "its header"), reader.number("Q", "its header")
        self.metadata = Metadata(self.file, self.view)
        for _ in range(keys):  # an absurd count ends at the file's end
            self.metadata.read(reader)
        found: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        for _ in range(tensors):
            name = reader.text("a tensor's name", _MOST_NAME)
            if name in found:
                raise ValueError(f"{self.file} has the tensor {name!r} twice")
            found[name] = self._tensor(reader, f"tensor {name!r}")
        self.tensors = self._placed(found, reader.at)

    def _tensor(self, reader: _Reader, what: str) -> tuple[str, tuple[int, ...], int, int]:
        """(kind, shape, offset, bytes)"""
        dimensions = reader.number("I", what)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"{self.file}: {what} has {dimensions} dimensions, a tensor has 1 to {_MOST_DIMENSIONS}")
        shape = tuple(reader.number("Q", what) for _ in range(dimensions))[::-1]
        number, offset = reader.number("I", what), reader.number("Q", what)
        if number not in TYPES:
            raise ValueError(f"{self.file}: {what} is of type {number}, which govlm does not know")
        kind, block, size = TYPES[number]
        count = 1
        for n in shape:
            count *= n
        if count == 0 or shape[-1] % block:
            raise ValueError(
                f"{self.file}: {what} has shape {list(shape)}, whose rows are no blocks of {block} values ({kind})"
            )
        return kind, shape, offset, count // block * size

    def _placed(self, found: dict[str, tuple[str, tuple[int, ...], int, int]], end: int) -> dict[str, TensorInfo]:
        alignment = self.metadata.get("general.alignment", 32)
        if isinstance(alignment, bool) or not isinstance(alignment, int) or alignment < 8 or alignment % 8:
            raise ValueError(f"{self.file}: general.alignment is {alignment!r}, it must be a multiple of 8")
        start = -(-end // alignment) * alignment
        last, owner = 0, ""
        for name, (_, _, offset, size) in sorted(found.items(), key=lambda entry: entry[1][2]):
            if offset % alignment:
                raise ValueError(f"{self.file}: tensor {name!r} begins at byte {offset}, no multiple of {alignment}")
            if offset < last:
                raise ValueError(f"{self.file}: tensors {owner!r} and {name!r} overlap")
            last, owner = offset + size, name
            if start + last > len(self.view):
                raise ValueError(
                    f"{self.file} is truncated: tensor {name!r} ends at byte {start + last}, the file has {len(self.view)}"
                )
        return {name: TensorInfo(kind, shape, start + offset, size) for name, (kind, shape, offset, size) in found.items()}

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The tensor's bytes, [rows, bytes of a row], a view: a row is the innermost dimension."""
        info = self.tensors[name]
        flat = np.frombuffer(self.view, np.uint8, info.size, info.begin)
        rows = 1
        for n in info.shape[:-1]:
            rows *= n
        return flat.reshape(rows, -1)
