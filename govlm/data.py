"""Datasets, the data loader and the readers of JSONL, CSV and TSV files."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataError",
    "DataLoader",
    "Dataset",
    "Example",
    "RandomSampler",
    "SequentialSampler",
    "Subset",
    "Text",
    "default_collate",
    "permutation",
    "read_blocks",
    "read_examples",
    "read_rows",
]


class Dataset:
    """A collection with an index: subclasses write __getitem__(index), and __len__ for the data loader's sake."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a __getitem__")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class Subset(Dataset):
    """The rows `indices` of another data set."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset):
    """Several data sets, one after the other."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        self._ends = np.cumsum([len(d) for d in self.datasets]).tolist()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.datasets[which][index - (self._ends[which - 1] if which else 0)]


def permutation(count: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order of `count` rows in one epoch: a function of seed and epoch only. int64 [count]."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(count)


class SequentialSampler:
    """0, 1, 2, …"""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler:
    """Every row once an epoch, in an order drawn from seed and epoch; each `iter` is the next epoch, set_epoch chooses one.

    generator: a numpy.random.Generator to draw from instead (its state then decides).
    """

    def __init__(self, data_source: Sized, seed: int = 0, generator: np.random.Generator | None = None) -> None:
        self.data_source = data_source
        self.seed = seed
        self.generator = generator
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next `iter` draws this epoch's order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        count = len(self.data_source)
        if self.generator is not None:
            order = self.generator.permutation(count)
        else:
            order = permutation(count, self.seed, self.epoch)
            self.epoch += 1
        return iter(order.tolist())

    def __len__(self) -> int:
        return len(self.data_source)


class BatchSampler:
    """Lists of up to `batch_size` indices of `sampler`; drop_last leaves a short last one out."""

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size <= 0:
            raise ValueError(f"batch_size must be a whole number above 0, not {batch_size!r}")
        self.sampler = sampler
        self.batch_size = int(batch_size)
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self) -> int:
        count = len(self.sampler)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def default_collate(batch: Sequence[Any]) -> Any:
    """Joins samples as torch's default_collate does, with NumPy arrays for tensors.

    Arrays are stacked; NumPy and Python numbers become arrays (bool, int64, float64); strings and bytes stay a list; dicts,
    named tuples, tuples and lists are joined item by item. Errors: ValueError for different shapes or lengths; TypeError for
    a type that cannot be joined.
    """
    first = batch[0]
    if isinstance(first, np.ndarray):
        shapes = {np.shape(item) for item in batch}
        if len(shapes) > 1:
            raise ValueError(f"samples of one batch have different shapes: {', '.join(map(str, sorted(shapes)))}")
        return np.stack(batch)
    if isinstance(first, np.generic):
        return np.array(batch)
    if isinstance(first, bool):
        return np.array(batch, np.bool_)
    if isinstance(first, float):
        return np.array(batch, np.float64)
    if isinstance(first, int):
        return np.array(batch, np.int64)
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        for item in batch:
            if item.keys() != first.keys():
                raise ValueError(f"samples of one batch have different keys: {list(first)} and {list(item)}")
        return {key: default_collate([item[key] for item in batch]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(list(items)) for items in zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise ValueError("samples of one batch have different lengths: give a collate_fn")
        return [default_collate(list(items)) for items in zip(*batch, strict=True)]
    if hasattr(first, "__array__"):
        return default_collate([np.asarray(item) for item in batch])
    raise TypeError(f"a batch cannot be made of {type(first).__name__}: give a collate_fn")


class DataLoader:
    """Batches of a data set: torch's DataLoader without worker processes (a packed batch is made faster than one is sent).

    The order is a function of `seed` and the epoch; every `iter` is the next epoch, `set_epoch` chooses one. `generator`
    (numpy.random.Generator) draws instead. Errors: ValueError for arguments that exclude each other (sampler and shuffle;
    batch_sampler and batch_size, shuffle, sampler, drop_last) and for num_workers above 0.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        *,
        generator: np.random.Generator | None = None,
        seed: int = 0,
    ) -> None:
        if num_workers != 0:
            raise ValueError("num_workers must be 0: the data loader has no worker processes")
        if sampler is not None and shuffle:
            raise ValueError("sampler and shuffle exclude each other")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError("batch_sampler excludes batch_size, shuffle, sampler and drop_last")
        if batch_sampler is None and batch_size is None and drop_last:
            raise ValueError("drop_last needs a batch_size")
        self.dataset = dataset
        self.collate_fn = collate_fn
        if sampler is None:
            sampler = RandomSampler(dataset, seed, generator) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        self.drop_last = drop_last
        self.batch_size = None if batch_sampler is not None else batch_size
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_sampler = batch_sampler  # None: samples one by one, as torch does for batch_size=None

    def set_epoch(self, epoch: int) -> None:
        """The next `iter` gives this epoch's order (samplers without epochs are left alone)."""
        for candidate in (self.sampler, self.batch_sampler):
            if hasattr(candidate, "set_epoch"):
                candidate.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        if self.batch_sampler is None:
            for index in self.sampler:
                sample = self.dataset[index]
                yield self.collate_fn(sample) if self.collate_fn else sample
            return
        collate = self.collate_fn or default_collate
        for indices in self.batch_sampler:
            yield collate([self.dataset[index] for index in indices])

    def __len__(self) -> int:
        return len(self.sampler) if self.batch_sampler is None else len(self.batch_sampler)


class DataError(ValueError):
    """A data file that cannot be used: one line that names the file, the line and the field."""


Text = str | tuple[str, str]  # a text, or a pair of texts that are judged together


class Example(NamedTuple):
    """A text (or pair) with its label: a string, a list of strings (multi-label), or None where no label was asked for."""

    text: Text
    label: str | list[str] | None


FORMATS = ("jsonl", "csv", "tsv")


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    name = str(path)
    if name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(name, "rb"))
    if name.endswith((".xz", ".lzma")):
        return cast("IO[bytes]", lzma.open(name, "rb"))
    return open(name, "rb")


def read_blocks(path: str | os.PathLike[str], size: int = 1 << 22) -> Iterator[str]:
    """The text of a file (UTF-8; .gz, .xz) in blocks of about `size` bytes, whatever its length. DataError when it is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    with _open(path) as handle:
        try:
            while raw := handle.read(size):
                try:
                    yield decoder.decode(raw)
                except UnicodeDecodeError as error:
                    raise DataError(f"{path}: is no UTF-8 near byte {done + error.start + 1}; save the file as UTF-8") from None
                done += len(raw)
        except (gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
            raise DataError(f"{path}: the compressed file is damaged after byte {done}: {error}") from None


def _format(path: str | Path) -> str:
    suffixes = [s.lower() for s in Path(path).suffixes]
    if suffixes and suffixes[-1] in (".gz", ".xz", ".lzma"):
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".jsonl", ".json", ".ndjson"):
        return "jsonl"
    if suffix in (".csv", ".tsv"):
        return suffix[1:]
    raise DataError(f"{path}: cannot tell the format from the name; use .jsonl, .csv or .tsv (.gz, .xz), or say which it is")


def _lines(path: str | Path, handle: IO[bytes]) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line, as UTF-8, without a byte order mark."""
    number = 0
    try:
        for number, raw in enumerate(handle, 1):
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                raw = raw[3:]
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8; "
                    "save the file as UTF-8"
                ) from None
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path}: the compressed file is damaged after line {number}: {error}") from None


def _json_rows(path: str | Path, handle: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(path, handle):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == 1 and line.lstrip().startswith("["):
                raise DataError(f"{path}:1: a JSON array over several lines; one object a line (JSONL) is expected") from None
            raise DataError(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}") from None
        if isinstance(row, list) and number == 1:  # a whole array on one line
            yield from ((number, item) for item in row)
        else:
            yield number, row


def _csv_rows(path: str | Path, handle: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((line for _, line in _lines(path, handle)), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None
        if row:
            yield reader.line_num, row


def _tsv_rows(path: str | Path, handle: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(path, handle):
        line = line.rstrip("\r\n")
        if line:
            yield number, line.split("\t")


def _table(
    path: str | Path, rows: Iterator[tuple[int, list[str]]], fields: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    first = next(rows, None)
    if first is None:
        return
    header = first[1]
    positional = bool(fields) and all(f.isdigit() for f in fields) and not all(f in header for f in fields)
    if positional:  # columns by number: no header
        header = [str(i) for i in range(max(len(header), *(int(f) + 1 for f in fields)))]
        yield first[0], dict(zip(header, first[1], strict=False))
    elif len(set(header)) != len(header):
        twice = next(h for h in header if header.count(h) > 1)
        raise DataError(f"{path}:{first[0]}: the header names the column {twice!r} twice")
    for number, row in rows:
        if not positional and len(row) > len(header):
            raise DataError(f"{path}:{number}: {len(row)} columns, the header has {len(header)}")
        yield number, dict(zip(header, row, strict=False))


def read_rows(path: str | Path, fields: Sequence[str] = (), format: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of a JSONL, CSV or TSV file, plain or compressed (.gz, .xz), one at a time.

    fields: the fields that every row must have. A CSV or TSV file begins with a header, unless all `fields` are column
    numbers (from "0") that its first line does not name. format: "jsonl", "csv" or "tsv"; None goes by the file's name.
    Errors: DataError, one line with file, line and field; OSError when the file cannot be opened.
    """
    kind = format or _format(path)
    if kind not in FORMATS:
        raise DataError(f"unknown format {kind!r}: one of {', '.join(FORMATS)}")
    if sys.maxsize > 2**32:
        csv.field_size_limit(2**31 - 1)
    with _open(path) as handle:
        buffered = handle if isinstance(handle, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, handle))
        if kind == "jsonl":
            rows: Iterator[tuple[int, Any]] = _json_rows(path, buffered)
        else:
            rows = _table(path, (_csv_rows if kind == "csv" else _tsv_rows)(path, buffered), fields)
        for number, row in rows:
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: a JSON object is expected, not {type(row).__name__}")
            for field in fields:
                if row.get(field) is None:
                    has = ", ".join(map(str, row)) or "nothing"
                    state = "is null" if field in row else f"is missing (the line has: {has})"
                    raise DataError(f"{path}:{number}: field {field!r} {state}")
            yield number, row


def _label(path: str | Path, number: int, field: str, value: Any) -> str | list[str]:
    if isinstance(value, str) and value != "":
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list) and all(isinstance(v, (str, int)) for v in value):
        return [str(v) for v in value]
    shown = "an empty string" if value == "" else type(value).__name__
    raise DataError(f"{path}:{number}: field {field!r} must be a label (string, whole number, or a list of them), not {shown}")


def read_examples(
    path: str | Path,
    text_field: str | tuple[str, str] = "text",
    label_field: str | None = "label",
    format: str | None = None,
) -> Iterator[Example]:
    """The texts and labels of a file, one at a time; label_field=None leaves the labels out. Errors as in read_rows.

    text_field: two names for pairs of texts.
    """
    names = (text_field,) if isinstance(text_field, str) else text_field
    fields = [*names] if label_field is None else [*names, label_field]
    for number, row in read_rows(path, fields, format):
        for name in names:
            if not isinstance(row[name], str):
                raise DataError(f"{path}:{number}: field {name!r} must be a string, not {type(row[name]).__name__}")
        label = None if label_field is None else _label(path, number, label_field, row[label_field])
        yield Example(row[names[0]] if len(names) == 1 else (row[names[0]], row[names[1]]), label)
