"""Token shards: how a corpus lies on the disk, its writer and its reader.

DIR/corpus.json lists the shards with their SHA-256, the options and statistics of the build; the tokenizer's own files lie
beside it. A shard is a safetensors file with

    ids              U16 [T] (I32 when the vocabulary has more than 65,536 entries), documents one after the other, no specials
    document_splits  I64 [D + 1]: document d is ids[document_splits[d] : document_splits[d + 1]]
    word_starts      U8 [ceil(T / 8)], bits from the lowest: 1 = this token begins a word
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.checkpoint import load_file, save_file, sha256_of, write_atomically

__all__ = ["FORMAT", "Corpus", "CorpusError", "Shard", "ShardInfo", "ShardWriter", "tokenizer_sha256", "write_manifest"]

FORMAT = 1
MANIFEST = "corpus.json"
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class CorpusError(ValueError):
    """A corpus that cannot be built or used: one line that names the file, what is wrong and what to do."""


class ShardInfo(NamedTuple):
    """A line of corpus.json: the file (in the corpus's folder), its SHA-256, its numbers of documents and tokens."""

    file: str
    sha256: str
    documents: int
    tokens: int


def id_type(vocab_size: int) -> Any:
    """The NumPy type of ids: the narrowest of the two that holds the vocabulary."""
    return np.uint16 if vocab_size <= 65536 else np.int32


def tokenizer_sha256(tokenizer: Any) -> str:
    """The SHA-256 of the tokenizer.json that `tokenizer` saves: equal for tokenizers that give equal ids."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return sha256_of(Path(folder, "tokenizer.json"))


def encode_json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode("utf-8")


# ---- reading ---------------------------------------------------------------------------------------------------------


class Shard:
    """The arrays of one shard, mapped and read-only; a slice touches only its own pages."""

    def __init__(self, file: Path, tensors: dict[str, NDArray[Any]]) -> None:
        self.file = file
        self.ids: NDArray[Any] = tensors["ids"]
        self.document_splits: NDArray[np.int64] = tensors["document_splits"]
        self._bits: NDArray[np.uint8] = tensors["word_starts"]

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def documents(self) -> int:
        return len(self.document_splits) - 1

    def word_starts(self, begin: int = 0, end: int | None = None) -> NDArray[np.bool_]:
        """bool [end - begin]: which of the tokens begin .. end begin a word."""
        begin, end, _ = slice(begin, end).indices(len(self.ids))
        first = begin // 8
        bits = np.unpackbits(self._bits[first : (max(begin, end) + 7) // 8], bitorder="little")
        return bits[begin - first * 8 : max(begin, end) - first * 8].view(np.bool_)


class Corpus:
    """A folder that `govlm corpus build` wrote. Nothing is read but corpus.json until a shard is asked for.

    Attributes: directory, vocab_size, tokenizer_sha256, options, statistics, shards (list of ShardInfo), tokens, documents.
    Errors: FileNotFoundError without a corpus.json, CorpusError for one that is malformed or of a newer format.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        path = self.directory / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise CorpusError(
                    f"{path}: has format {manifest['format']!r}, this govlm reads {FORMAT}: build the corpus again"
                )
            self.vocab_size = int(manifest["vocab_size"])
            self.tokenizer_sha256 = str(manifest["tokenizer_sha256"])
            self.options: dict[str, Any] = dict(manifest["options"])
            self.statistics: dict[str, Any] = dict(manifest["statistics"])
            self.shards = [ShardInfo(*(entry[name] for name in ShardInfo._fields)) for entry in manifest["shards"]]
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such file; `govlm corpus build` makes a corpus") from None
        except CorpusError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{path}: is no description of a corpus ({type(error).__name__}: {error})") from None
        for info in self.shards:
            if Path(info.file).name != info.file:
                raise CorpusError(f"{path}: names {info.file!r}, which is no file of its own folder")
        self._checked: set[int] = set()
        self._open: dict[int, Shard] = {}

    @property
    def tokens(self) -> int:
        return sum(info.tokens for info in self.shards)

    @property
    def documents(self) -> int:
        return sum(info.documents for info in self.shards)

    def __len__(self) -> int:
        return len(self.shards)

    def verify(self, index: int) -> None:
        """Compares the shard with its SHA-256, once for this object. CorpusError names the file."""
        if index in self._checked:
            return
        info = self.shards[index]
        path = self.directory / info.file
        try:
            found = sha256_of(path)
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror}); build the corpus again") from None
        if found != info.sha256:
            raise CorpusError(
                f"{path}: is damaged: its SHA-256 is {found[:12]}…, {MANIFEST} says {info.sha256[:12]}…; build the corpus again"
            )
        self._checked.add(index)

    def shard(self, index: int) -> Shard:
        """The mapped arrays of shard `index`, checked against its SHA-256 before the first use."""
        found = self._open.get(index)
        if found is None:
            self.verify(index)
            info = self.shards[index]
            path = self.directory / info.file
            try:
                tensors = load_file(path)
                found = Shard(path, tensors)
            except (ValueError, KeyError) as error:
                raise CorpusError(f"{path}: is no shard: {error}") from None
            for tensor in tensors.values():
                tensor.flags.writeable = False
            if (found.documents, found.tokens) != (info.documents, info.tokens):
                raise CorpusError(
                    f"{path}: holds {found.documents} documents and {found.tokens} tokens, "
                    f"{MANIFEST} says {info.documents} and {info.tokens}"
                )
            self._open[index] = found
        return found

    def document(self, index: int) -> NDArray[Any]:
        """The ids of document `index` of the whole corpus. IndexError beyond the last."""
        rest = index
        for number, info in enumerate(self.shards):
            if 0 <= rest < info.documents:
                shard = self.shard(number)
                return shard.ids[shard.document_splits[rest] : shard.document_splits[rest + 1]]
            rest -= info.documents
        raise IndexError(f"document {index} of {self.documents}")

    def tokenizer(self) -> Any:
        """The tokenizer that made the ids."""
        from govlm.tokenizers import BertTokenizer

        return BertTokenizer.from_pretrained(self.directory)


# ---- writing ---------------------------------------------------------------------------------------------------------


class ShardWriter:
    """Appends documents to shards of about `shard_tokens` tokens.

    The open shard lies in three plain files under `spool`, so that memory does not grow with it; it becomes a safetensors
    file with the document that fills it. `save` returns what `restore` needs to go on after the process was killed: whatever
    was written later is cut off then, and written again with the same bytes.
    """

    def __init__(self, directory: Path, spool: Path, vocab_size: int, shard_tokens: int) -> None:
        self.directory, self.spool = directory, spool
        self.shard_tokens = shard_tokens
        self.type = np.dtype(id_type(vocab_size))
        self.shards: list[ShardInfo] = []
        self._documents = self._tokens = 0
        self._files: list[Any] = []
        self._done: list[Path] = []  # spools of finished shards, needed until the next `save`

    def _paths(self) -> list[Path]:
        return [self.spool / f"{len(self.shards):05d}.{part}" for part in ("ids", "starts", "lengths")]

    def append(self, ids: NDArray[Any], starts: NDArray[np.bool_]) -> None:
        """One document: int [n] ids and bool [n] word starts. OSError when the disk is full."""
        if not self._files:
            self._files = [open(path, "ab") for path in self._paths()]  # noqa: SIM115
        for file, array in zip(self._files, (ids.astype(self.type), starts, np.array([len(ids)], np.int64)), strict=True):
            file.write(array.tobytes())
        self._documents += 1
        self._tokens += len(ids)
        if self._tokens >= self.shard_tokens:
            self._finish()

    def _finish(self) -> None:
        for file in self._files:
            file.close()
        self._files = []
        paths = self._paths()
        lengths = np.fromfile(paths[2], np.int64)
        tensors = {
            "ids": np.fromfile(paths[0], self.type),
            "document_splits": np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            "word_starts": np.packbits(np.fromfile(paths[1], np.bool_), bitorder="little"),
        }
        name = f"shard-{len(self.shards):05d}.safetensors"
        save_file(tensors, self.directory / name)
        self.shards.append(ShardInfo(name, sha256_of(self.directory / name), self._documents, self._tokens))
        self._done += paths
        self._documents = self._tokens = 0

    def close(self) -> None:
        """Finishes the last shard, if it has a document."""
        if self._documents:
            self._finish()

    def abandon(self) -> None:
        """Closes the files without finishing anything."""
        for file in self._files:
            file.close()
        self._files = []

    def save(self) -> dict[str, Any]:
        """Flushes the open shard to the disk; returns the state for `restore`."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        return {"shards": [list(info) for info in self.shards], "documents": self._documents, "tokens": self._tokens}

    def forget(self) -> None:
        """Removes the spools that the state saved last does not need; to be called once that state is safe."""
        for path in self._done:
            path.unlink(missing_ok=True)
        self._done = []

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a saved state. CorpusError when the files of the open shard are shorter than it says."""
        self.shards = [ShardInfo(*entry) for entry in state["shards"]]
        self._documents, self._tokens = state["documents"], state["tokens"]
        sizes = (self._tokens * self.type.itemsize, self._tokens, self._documents * 8)
        for path, size in zip(self._paths(), sizes, strict=True):
            found = path.stat().st_size if path.exists() else 0
            if found < size:
                raise CorpusError(f"{path}: has {found} bytes, the unfinished build wrote {size}: start again with --overwrite")
            with open(path, "ab") as file:
                file.truncate(size)
        keep = set(self._paths())
        for path in self.spool.iterdir():
            if path.suffix in (".ids", ".starts", ".lengths") and path not in keep:
                path.unlink()


def write_manifest(
    directory: Path,
    shards: list[ShardInfo],
    *,
    vocab_size: int,
    tokenizer_digest: str,
    options: dict[str, Any],
    statistics: dict[str, Any],
) -> None:
    """Writes corpus.json, whole or not at all: a folder that has one is a finished corpus."""
    manifest = {
        "format": FORMAT,
        "vocab_size": vocab_size,
        "tokenizer_sha256": tokenizer_digest,
        "options": options,
        "statistics": statistics,
        "shards": [info._asdict() for info in shards],
    }
    write_atomically({directory / MANIFEST: encode_json(manifest)})


def remove_corpus(directory: Path) -> None:
    """Removes what a corpus consists of (corpus.json first), and nothing else that lies in the folder."""
    (directory / MANIFEST).unlink(missing_ok=True)
    for path in directory.glob("shard-[0-9]*.safetensors"):
        path.unlink()


def remove_leftovers(directory: Path) -> None:
    """Removes the half-written files of a process that was killed."""
    for pattern in (".shard-[0-9]*.tmp", f".{MANIFEST}.*.tmp", *(f"{name}.tmp" for name in TOKENIZER_FILES)):
        for path in directory.glob(pattern):
            path.unlink()
