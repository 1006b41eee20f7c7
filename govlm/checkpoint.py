"""safetensors files: reading by mapping (eight processes that load one model share its pages), writing atomically.

The file is checked whole before a tensor is handed out: the header, the types, that the tensors fill the file without gaps or
overlaps. float32 tensors are views into a private mapping (writable; a page that is written is copied then); float16, bfloat16
and float64 become float32 copies.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Checkpoint", "load_file", "save_file", "sha256_of", "write_atomically"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_HEADER_LIMIT = 100_000_000
_DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_SIZES = {name: np.dtype(kind).itemsize for name, kind in _DTYPES.items()} | {"BF16": 2}
_NAMES = {np.dtype(kind): name for name, kind in _DTYPES.items()}


def _header(file: Path, view: mmap.mmap) -> tuple[dict[str, dict[str, Any]], dict[str, str], int]:
    """The entries of a safetensors file, its metadata and where the data starts. ValueError names the file and the tensor."""
    size = len(view)
    if size < 8:
        raise ValueError(f"{file} is truncated: {size} bytes are no safetensors file")
    (length,) = struct.unpack_from("<Q", view, 0)
    if length > _HEADER_LIMIT:
        raise ValueError(f"{file} is not a safetensors file (its header would be {length} bytes long)")
    start = 8 + length
    if start > size:
        raise ValueError(f"{file} is truncated: its header needs {start} bytes, the file has {size}")
    try:
        header = json.loads(bytes(view[8:start]).decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise ValueError(f"{file} is not a safetensors file (its header is not JSON)") from None
    if not isinstance(header, dict):
        raise ValueError(f"{file} is not a safetensors file (its header is not a JSON object)")
    metadata = header.pop("__metadata__", None) or {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        where = f"{file}: tensor {name!r}"
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise ValueError(f"{where} has no dtype, shape and data_offsets") from None
        if kind not in _SIZES:
            raise ValueError(f"{where} has dtype {kind!r}, which is not supported")
        numbers = [begin, end, *shape] if isinstance(shape, list) else [None]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise ValueError(f"{where} has a malformed shape or data_offsets")
        if end - begin != math.prod(shape) * _SIZES[kind]:
            raise ValueError(f"{where} has shape {shape} of {kind}, which does not take its {end - begin} bytes")
        if start + end > size:
            raise ValueError(f"{file} is truncated: tensor {name!r} ends at byte {start + end}, the file has {size}")
        spans.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin < position:
            raise ValueError(f"{file}: tensor {name!r} overlaps another one")
        if begin > position:
            raise ValueError(f"{file}: {begin - position} bytes before tensor {name!r} belong to no tensor")
        position = end
    if start + position != size:
        raise ValueError(f"{file}: {size - start - position} bytes after the last tensor belong to no tensor")
    return header, {str(k): str(v) for k, v in metadata.items()}, start


class _File:
    """One mapped safetensors file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with open(file, "rb") as handle:
            if os.fstat(handle.fileno()).st_size == 0:
                raise ValueError(f"{file} is truncated: 0 bytes are no safetensors file")
            self.view = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        self.entries, self.metadata, self.start = _header(file, self.view)

    def raw(self, name: str) -> NDArray[Any]:
        """The tensor as it is stored, a view where its type exists in NumPy (bfloat16 becomes float32)."""
        entry = self.entries[name]
        shape, begin, kind = entry["shape"], self.start + entry["data_offsets"][0], entry["dtype"]
        count = math.prod(shape)
        if kind == "BF16":
            halves = np.frombuffer(self.view, np.uint16, count, begin)
            return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return np.frombuffer(self.view, _DTYPES[kind], count, begin).reshape(shape)

    def tensor(self, name: str) -> NDArray[np.float32]:
        kind = self.entries[name]["dtype"]
        if kind not in ("F32", "F16", "BF16", "F64"):
            raise ValueError(f"{self.file}: tensor {name!r} has dtype {kind}, a weight must be F32, F16, BF16 or F64")
        array = self.raw(name)
        if array.dtype != np.float32:
            return array.astype(np.float32)
        return array if array.flags.aligned else array.copy()


class Checkpoint:
    """The weights of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.

    Errors: FileNotFoundError when there are none; ValueError for a pickle (`pytorch_model.bin` can run code when it is
    loaded), and for a file that is damaged, naming the file and the tensor.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = Path(folder)
        files = [folder / WEIGHTS]
        wanted: dict[str, str] | None = None
        if not files[0].exists():
            index = folder / INDEX
            if not index.exists():
                raise _no_weights(folder)
            wanted = _read_index(index)
            files = [folder / name for name in sorted(set(wanted.values()))]
        self.folder = folder
        self._where: dict[str, _File] = {}
        for file in files:
            if not file.exists():
                raise FileNotFoundError(f"{file} is missing, though {folder / INDEX} lists it")
            opened = _File(file)
            for name in opened.entries:
                if name in self._where:
                    raise ValueError(f"{file}: tensor {name!r} is in {self._where[name].file} as well")
                self._where[name] = opened
        for name, file_name in (wanted or {}).items():
            if name not in self._where or self._where[name].file.name != file_name:
                raise ValueError(f"{folder / file_name} has no tensor {name!r}, though {folder / INDEX} says so")
        self.files = files

    def names(self) -> list[str]:
        return list(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._where[name].entries[name]["shape"])

    def file(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._where[name].file

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor as float32: a view into the mapped file, or a copy when it is stored in another type."""
        return self._where[name].tensor(name)


def _no_weights(folder: Path) -> Exception:
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for p in folder.glob(pattern))
    if pickles:
        return ValueError(
            f"{folder / pickles[0]} is a pickle: loading one can run any code that its author put in, so govlm does not. "
            f"Convert it to {WEIGHTS} (in transformers: model.save_pretrained(folder))"
        )
    return FileNotFoundError(f"{folder / WEIGHTS} is missing (and so is {INDEX})")


def _read_index(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
        pairs = {str(k): str(v) for k, v in weight_map.items()}
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{index} is malformed: it must be JSON with a weight_map from tensor to file") from None
    for file in pairs.values():
        if Path(file).name != file:
            raise ValueError(f"{index} names {file!r}, which is not a file in its own folder")
    return pairs


def load_file(file: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Every tensor of a safetensors file in its own type (bfloat16 as float32), as views into the mapped file."""
    opened = _File(Path(file))
    return {name: opened.raw(name) for name in opened.entries}


def sha256_of(*files: Path) -> str:
    """Of the bytes of these files, one after the other."""
    import hashlib  # loads OpenSSL: not with every model

    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _header_bytes(tensors: Mapping[str, NDArray[Any]], order: Iterable[str], metadata: Mapping[str, str] | None) -> bytes:
    """The JSON header of a file that holds the tensors in this order; a multiple of 8 long."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        array = tensors[name]
        if array.dtype not in _NAMES:
            raise TypeError(f"tensor {name!r} has dtype {array.dtype}, which safetensors does not have")
        end = position + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return text + b" " * (-len(text) % 8)


def _chunks(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None) -> Iterator[Any]:
    """A safetensors file in pieces: widest types first, then by name, so that every tensor is aligned to its type."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    text = _header_bytes(tensors, order, metadata)
    yield struct.pack("<Q", len(text)) + text
    for name in order:
        if tensors[name].nbytes:
            flat: Any = np.ascontiguousarray(tensors[name]).reshape(-1)
            yield memoryview(flat).cast("B")


def save_file(
    tensors: Mapping[str, NDArray[Any]], file: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file atomically. Errors: OSError (the old file, if any, is untouched), TypeError."""
    write_atomically({Path(file): _chunks(tensors, metadata)})


def write_atomically(files: Mapping[Path, bytes | Iterable[Any]]) -> None:
    """Writes every file beside its place, flushes them to the disk, then moves all of them into place.

    When anything fails before that (a full disk), the old files are whole and the new ones gone.
    """
    written: list[tuple[str, Path]] = []
    try:
        for file, content in files.items():
            temporary = str(file.parent / f".{file.name}.{os.getpid()}.{threading.get_ident()}.tmp")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            written.append((temporary, file))
            with os.fdopen(descriptor, "wb") as handle:
                pieces: Iterable[Any] = [content] if isinstance(content, bytes) else content
                for piece in pieces:
                    handle.write(piece)
                handle.flush()
                os.fsync(handle.fileno())
        while written:
            temporary, file = written[0]
            os.replace(temporary, file)
            written.pop(0)
    finally:
        for temporary, _ in written:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    for folder in {file.parent for file in files}:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
