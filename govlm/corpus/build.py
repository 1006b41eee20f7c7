"""`govlm corpus build`: files of many formats -> token shards, in constant memory, resumable, the same bytes every time.

Items flow in batches of about a million characters: read, normalise, filter, scrub, drop duplicates, tokenize, append. Every
decision depends on the documents before it alone, never on where batches end. Every few seconds the state is made safe:
the open shard and the keys of kept documents are flushed, then a small state.json moves into place. A build that was killed
goes on from there: it re-reads the input that it was in, up to the item that it had reached, and adds nothing twice.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from govlm.checkpoint import sha256_of, write_atomically
from govlm.corpus import clean, scrub
from govlm.corpus.duplicates import RECORD, Duplicates, text_key
from govlm.corpus.readers import FORMATS, Document, Problem, Reader, find_inputs
from govlm.corpus.shards import (
    MANIFEST,
    CorpusError,
    ShardWriter,
    encode_json,
    remove_corpus,
    remove_leftovers,
    write_manifest,
)
from govlm.corpus.words import Encoder, words_available

__all__ = ["REASONS", "EmptyCorpus", "Options", "build"]

WORK, HELD_OUT = ".build", "held-out"
REASONS = ("undecodable", "too_short", "language", "exact_duplicate", "near_duplicate", "empty")
_BATCH_CHARS, _BATCH_ITEMS = 1 << 20, 4096
_LISTED = 200  # more files than this: the table has a line an argument, not a line a file
_PROBLEMS = 10_000  # problems listed in corpus.json; more are counted


@dataclass(frozen=True)
class Options:
    """How a corpus is built. Everything here decides the result and is written to corpus.json.

    fields: of JSONL rows, joined by a line break.  encoding: of text, Markdown and JSONL.  format: of files whose name does not
    tell.  min_chars, min_cjk: shorter documents, and those with a smaller share of Chinese characters among their letters, are
    dropped.  max_chars: longer documents are cut in parts.  duplicates: "near" drops near and exact ones, "exact" exact ones,
    "keep" none; near_threshold: the least Jaccard similarity of near duplicates; index_mb: memory of the duplicate indexes.  scrub: personal numbers become placeholders.
    words: word starts from rjieba (None: when it is installed).  held_out: share of the documents that goes to the held-out
    corpus.  shard_tokens: a shard is full then.
    """

    fields: tuple[str, ...] = ("text",)
    encoding: str = "utf-8"
    format: str | None = None
    min_chars: int = 10
    max_chars: int = 200_000
    min_cjk: float = 0.3
    duplicates: str = "near"
    near_threshold: float = 0.8
    index_mb: float = 512
    scrub: bool = False
    words: bool | None = None
    held_out: float = 0.005
    shard_tokens: int = 1 << 24

    def __post_init__(self) -> None:
        for name in ("min_cjk", "near_threshold", "index_mb", "held_out"):  # 1 and 1.0 are the same option
            object.__setattr__(self, name, float(getattr(self, name)))

    def check(self) -> None:
        """ValueError: a name, then what is wrong with it."""
        for name, low, high in (("min_cjk", 0, 1), ("near_threshold", 0.5, 1), ("held_out", 0, 0.5)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {getattr(self, name)}")
        for name, low in (("min_chars", 1), ("max_chars", 1000), ("index_mb", 1), ("shard_tokens", 1)):
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, not {getattr(self, name)}")
        if self.duplicates not in ("near", "exact", "keep"):
            raise ValueError(f'duplicates must be "near", "exact" or "keep", not {self.duplicates!r}')
        if self.format is not None and self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {self.format!r}")
        if not self.fields or not all(self.fields):
            raise ValueError("fields must name at least one field")


class EmptyCorpus(CorpusError):
    """Nothing was kept; `statistics` say why."""

    def __init__(self, message: str, statistics: dict[str, Any]) -> None:
        super().__init__(message)
        self.statistics = statistics


class Statistics:
    """What became of the documents, by input."""

    def __init__(self, names: Sequence[str]) -> None:
        zero = {"read": 0, "documents": 0, "held_out": 0, "characters": 0, "tokens": 0, "unknown": 0}
        self.inputs: list[dict[str, Any]] = [{"input": name, **zero, "dropped": {}} for name in names]
        self.scrubbed: Counter[str] = Counter()
        self.problems: list[dict[str, Any]] = []
        self.unlisted = 0

    def drop(self, index: int, reason: str) -> None:
        dropped = self.inputs[index]["dropped"]
        dropped[reason] = dropped.get(reason, 0) + 1

    def problem(self, file: str, message: str) -> bool:
        """Counts a problem; True for the first of a file."""
        if self.problems and self.problems[-1]["file"] == file:
            self.problems[-1]["count"] += 1
            return False
        if len(self.problems) < _PROBLEMS:
            self.problems.append({"file": file, "message": message, "count": 1})
        else:
            self.unlisted += 1
        return True

    def summary(self, duplicates: Duplicates) -> dict[str, Any]:
        """As in corpus.json."""
        total: dict[str, Any] = {
            name: sum(entry[name] for entry in self.inputs)
            for name in ("read", "documents", "held_out", "characters", "tokens", "unknown")
        }
        dropped: Counter[str] = Counter()
        for entry in self.inputs:
            dropped.update(entry["dropped"])
            entry["dropped"] = {reason: entry["dropped"][reason] for reason in REASONS if reason in entry["dropped"]}
        return {
            **total,
            "unknown_rate": total["unknown"] / total["tokens"] if total["tokens"] else 0.0,
            "dropped": {reason: dropped[reason] for reason in REASONS if dropped[reason]},
            "scrubbed": {kind: self.scrubbed[kind] for kind in scrub.KINDS if self.scrubbed[kind]},
            "near_index_forgotten": duplicates.forgotten,
            "inputs": self.inputs,
            "problems": self.problems,
            "problems_unlisted": self.unlisted,
        }

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("inputs", "scrubbed", "problems", "unlisted")}

    def restore(self, state: dict[str, Any]) -> None:
        self.inputs, self.problems, self.unlisted = state["inputs"], state["problems"], state["unlisted"]
        self.scrubbed = Counter(state["scrubbed"])


class _Builder:
    """One build: the pipeline's parts and where it is."""

    def __init__(
        self,
        files: list[tuple[int, Path]],
        names: Sequence[str],
        out: Path,
        tokenizer: Any,
        options: Options,
        progress: bool | None,
        seconds_between_saves: float,
    ) -> None:
        self.out, self.options, self.tokenizer = out, options, tokenizer
        self.work = out / WORK
        self.paths = [path for _, path in files]
        by_file = len(files) <= _LISTED
        self.entry = list(range(len(files))) if by_file else [number for number, _ in files]
        self.statistics = Statistics([str(path) for path in self.paths] if by_file else names)
        self.reader = Reader(options.fields, options.encoding, options.max_chars, options.format)
        self.reader.require({self.reader.format(path) for path in self.paths})
        self.encoder = Encoder(tokenizer, bool(options.words))
        self.guard = clean.guard_specials(tokenizer)
        self.duplicates = Duplicates(options.duplicates == "near", options.near_threshold, options.index_mb)
        self.file = self.item = self.records = 0
        self.held = False  # where the first part of the present document went
        self.progress, self.between = progress, seconds_between_saves
        self.sizes = [_size(path) for path in self.paths]
        self.bar: Any = None
        self.lock: Any = None

    # ---- folders, state

    def open(self, resume: bool, overwrite: bool) -> bool:
        """Prepares the folder. False when it holds the finished corpus already."""
        unfinished = (self.work / "state.json").exists() or (self.work / "inputs.json").exists()
        finished = (self.out / MANIFEST).exists()
        if not resume and not overwrite and (unfinished or finished):
            what = "a finished corpus" if finished else "an unfinished build"
            raise CorpusError(f"{self.out}: holds {what}: --resume goes on with it, --overwrite starts again")
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        self.lock = open(self.work / "lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CorpusError(f"{self.out}: another build is at work in this folder") from None
        remove_leftovers(self.out)
        remove_leftovers(self.out / HELD_OUT)
        self.tokenizer.save_pretrained(self.work)
        self.digest = sha256_of(self.work / "tokenizer.json")
        plan = self._plan()
        if finished and not overwrite:
            self._compare(
                {"options": json.loads((self.out / MANIFEST).read_text("utf-8"))["options"]}, plan, self.out / MANIFEST
            )
            return False
        if not (resume and unfinished):
            self._clear()
        spool, held = self.work / "spool", self.work / "spool-held-out"
        spool.mkdir(exist_ok=True)
        held.mkdir(exist_ok=True)
        if self.options.held_out:
            (self.out / HELD_OUT).mkdir(exist_ok=True)
        size, tokens = self.encoder.vocab_size, self.options.shard_tokens
        self.writers = [ShardWriter(self.out, spool, size, tokens), ShardWriter(self.out / HELD_OUT, held, size, tokens)]
        saved = self.work / "inputs.json"
        if saved.exists():
            self._compare(json.loads(saved.read_text("utf-8")), plan, self.work)
        else:
            write_atomically({saved: encode_json(plan)})
        if (self.work / "state.json").exists():
            self._restore(json.loads((self.work / "state.json").read_text("utf-8")))
        else:
            for folder in (spool, held):  # killed before the first state
                for path in folder.iterdir():
                    path.unlink()
        self.keys = open(self.work / "keys.bin", "ab")  # noqa: SIM115
        self.keys.truncate(self.records * RECORD.itemsize)
        return True

    def _clear(self) -> None:
        for folder in (self.out, self.out / HELD_OUT):
            if folder.is_dir():
                remove_corpus(folder)
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
        (self.out / "log.jsonl").unlink(missing_ok=True)

    def _plan(self) -> dict[str, Any]:
        """What must be the same for a build to go on."""
        inputs = []
        for path in self.paths:
            try:
                found = path.stat()
                inputs.append([str(path), found.st_size, found.st_mtime_ns])
            except OSError:
                inputs.append([str(path), None, None])
        return {"options": _plain(self.options), "tokenizer": self.digest, "inputs": inputs}

    def _compare(self, old: dict[str, Any], new: dict[str, Any], where: Path) -> None:
        def differ(what: str) -> CorpusError:
            return CorpusError(f"{where}: {what}: resume with the same, or start again with --overwrite")

        for name, value in new["options"].items():
            if old["options"].get(name) != value:
                raise differ(f"was built with {name}={old['options'].get(name)!r}, now it is {value!r}")
        if old.get("tokenizer", new["tokenizer"]) != new["tokenizer"]:
            raise differ("was built with another tokenizer")
        before, now = old.get("inputs", new["inputs"]), new["inputs"]
        for a, b in zip(before, now, strict=False):
            if a != b:
                raise differ(
                    f"input {a[0]} has changed" if a[0] == b[0] else f"input {a[0]} is not there any more, or {b[0]} is new"
                )
        if len(before) != len(now):
            raise differ(f"was built from {len(before)} files, now there are {len(now)}")

    def save(self) -> None:
        """Makes everything so far safe."""
        state = {
            "file": self.file,
            "item": self.item,
            "held": self.held,
            "records": self.records,
            "statistics": self.statistics.state(),
            "writers": [writer.save() for writer in self.writers],
        }
        self.keys.flush()
        os.fsync(self.keys.fileno())
        write_atomically({self.work / "state.json": json.dumps(state).encode()})
        for writer in self.writers:
            writer.forget()

    def _restore(self, state: dict[str, Any]) -> None:
        self.file, self.item, self.held, self.records = state["file"], state["item"], state["held"], state["records"]
        self.statistics.restore(state["statistics"])
        for writer, saved in zip(self.writers, state["writers"], strict=True):
            writer.restore(saved)
        path = self.work / "keys.bin"
        if (path.stat().st_size if path.exists() else 0) < self.records * RECORD.itemsize:
            raise CorpusError(f"{path}: is shorter than the unfinished build says: start again with --overwrite")
        with open(path, "rb") as handle:
            left = self.records
            while left:
                some = np.fromfile(handle, RECORD, min(left, 1 << 14))
                self.duplicates.restore(some)
                left -= len(some)

    # ---- the pipeline

    def run(self) -> dict[str, Any]:
        began = last = time.monotonic()
        log = open(self.out / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115
        batch: list[tuple[int, Document | Problem]] = []
        size = 0
        self._start_bar()
        try:
            for item in self._items():
                batch.append((self.file, item))
                size += len(item.text) if isinstance(item, Document) else 0
                if size < _BATCH_CHARS and len(batch) < _BATCH_ITEMS:
                    continue
                self._process(batch)
                batch, size = [], 0
                self._advance_bar()
                if time.monotonic() - last >= self.between:
                    self.save()
                    last = time.monotonic()
                    self._write_log(log, last - began)
            self._process(batch)
            self._advance_bar()
            for writer in self.writers:
                writer.close()
            result = self._finish()
            self._write_log(log, time.monotonic() - began)
            return result
        finally:
            log.close()
            self.keys.close()
            if self.bar is not None:
                self.bar.close()
            for writer in self.writers:
                writer.abandon()

    def _items(self) -> Iterator[Document | Problem]:
        """What the files hold from where the build is; `file` and `item` say at any time what has been taken."""
        while self.file < len(self.paths):
            skip = self.item
            for number, item in enumerate(self.reader.read(self.paths[self.file])):
                if number >= skip:
                    self.item = number + 1
                    yield item
            self.file, self.item = self.file + 1, 0

    def _problem(self, path: Path, message: str) -> None:
        if self.statistics.problem(str(path), message):
            self._say(f"govlm: left out: {path}: {message}")

    def _process(self, batch: list[tuple[int, Document | Problem]]) -> None:
        options, statistics = self.options, self.statistics
        entries, texts, points, keys, held = [], [], [], [], []
        for file, document in batch:
            if isinstance(document, Problem):  # here, not where it was read: the order must not depend on batches
                self._problem(self.paths[file], document.message)
                continue
            entry = self.entry[file]
            statistics.inputs[entry]["read"] += 1
            text = clean.normalise(document.text)
            if not clean.readable(text):
                if document.part == 0:
                    self.held = False
                statistics.drop(entry, "undecodable")
                self._problem(self.paths[file], f"a document holds bytes that are not {options.encoding.upper()}")
                continue
            if options.scrub:
                text, counts = scrub.scrub(text)
                statistics.scrubbed.update(counts)
            text = self.guard(text)
            key = text_key(text)
            if document.part == 0:
                self.held = key < options.held_out * 2**64
            if len(text) < options.min_chars:
                statistics.drop(entry, "too_short")
                continue
            codes = clean.codes(text)
            if options.min_cjk and clean.cjk_share(codes) < options.min_cjk:
                statistics.drop(entry, "language")
                continue
            entries.append(entry)
            texts.append(text)
            points.append(codes)
            keys.append(key)
            held.append(self.held)
        kept = list(range(len(texts)))
        if options.duplicates != "keep":
            reasons, records = self.duplicates.check(keys, points)
            self.keys.write(records.tobytes())
            self.records += len(records)
            for index, reason in enumerate(reasons):
                if reason is not None:
                    statistics.drop(entries[index], reason)
            kept = [index for index in kept if reasons[index] is None]
        ids, splits, starts = self.encoder([texts[index] for index in kept])
        unknown = np.concatenate([np.zeros(1, np.int64), np.cumsum(ids == self.encoder.unknown_id)])
        for index, begin, end in zip(kept, splits[:-1].tolist(), splits[1:].tolist(), strict=True):
            if begin == end:
                statistics.drop(entries[index], "empty")
                continue
            entry_statistics = statistics.inputs[entries[index]]
            entry_statistics["documents"] += 1
            entry_statistics["held_out"] += held[index]
            entry_statistics["characters"] += len(texts[index])
            entry_statistics["tokens"] += end - begin
            entry_statistics["unknown"] += int(unknown[end] - unknown[begin])
            self.writers[held[index]].append(ids[begin:end], starts[begin:end])

    def _finish(self) -> dict[str, Any]:
        statistics = self.statistics.summary(self.duplicates)
        if statistics["documents"] == statistics["held_out"]:
            self._clear()
            raise EmptyCorpus(
                f"{self.out}: no document was kept of {statistics['read']} read: no corpus was written", statistics
            )
        common: dict[str, Any] = {
            "vocab_size": self.encoder.vocab_size,
            "tokenizer_digest": self.digest,
            "options": _plain(self.options),
        }
        if self.options.held_out:
            held = self.out / HELD_OUT
            self.tokenizer.save_pretrained(held)
            write_manifest(held, self.writers[1].shards, statistics={"held_out_of": statistics["documents"]}, **common)
        self.tokenizer.save_pretrained(self.out)
        write_manifest(self.out, self.writers[0].shards, statistics=statistics, **common)
        return statistics

    # ---- what people see

    def _start_bar(self) -> None:
        if self.progress is not False:
            from tqdm import tqdm

            disable = None if self.progress is None else False
            self.bar = tqdm(total=sum(self.sizes), unit="B", unit_scale=True, desc="corpus", disable=disable, file=sys.stderr)

    def _advance_bar(self) -> None:
        if self.bar is not None and not self.bar.disable:
            done = sum(self.sizes[: self.file])
            if self.file < len(self.sizes):
                done += min(self.reader.position, self.sizes[self.file])
            self.bar.n = max(self.bar.n, done)
            self.bar.set_postfix_str(f"{sum(entry['tokens'] for entry in self.statistics.inputs):,} tokens", refresh=True)

    def _say(self, line: str) -> None:
        if self.bar is not None and not self.bar.disable:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _write_log(self, log: Any, seconds: float) -> None:
        tokens = sum(entry["tokens"] for entry in self.statistics.inputs)
        documents = sum(entry["documents"] for entry in self.statistics.inputs)
        row = {"seconds": round(seconds, 2), "file": self.file, "item": self.item, "documents": documents, "tokens": tokens}
        log.write(json.dumps(row) + "\n")
        log.flush()

    def close(self, done: bool) -> None:
        """Lets go of the folder; removes the working files of a build that is done."""
        if done:
            shutil.rmtree(self.work, ignore_errors=True)
        if self.lock is not None:
            self.lock.close()


def _plain(options: Options) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(options)))  # type: ignore[no-any-return]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def build(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    tokenizer: Any,
    options: Options | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | None = False,
    seconds_between_saves: float = 10.0,
) -> dict[str, Any]:
    """Builds a corpus in the folder `out`; returns its statistics, those of corpus.json.

    inputs: files and folders (walked in sorted order).  tokenizer: a BertTokenizer, or the folder or vocab.txt of one.
    resume: go on with an unfinished build of the same inputs, options and tokenizer.  overwrite: start again.
    progress: True, False, or None (when standard error is a terminal).
    What cannot be read is left out, named on standard error and listed in the statistics.
    Errors: CorpusError (one line: a library is missing, the folder is in use, nothing was kept, …), FileNotFoundError.
    """
    options = options or Options()
    options.check()
    if options.words is None:
        options = Options(**{**{f.name: getattr(options, f.name) for f in fields(options)}, "words": words_available()})
    if isinstance(tokenizer, str | os.PathLike):
        from govlm.tokenizers import BertTokenizer

        tokenizer = BertTokenizer.from_pretrained(tokenizer)
    folder = Path(out)
    arguments = [str(item) for item in inputs]
    files = list(find_inputs(arguments, folder))
    builder = _Builder(files, arguments, folder, tokenizer, options, progress, seconds_between_saves)
    done = False
    try:
        if not builder.open(resume, overwrite):
            statistics = json.loads((folder / MANIFEST).read_text("utf-8"))["statistics"]
        else:
            statistics = builder.run()
        done = True
        return statistics  # type: ignore[no-any-return]
    except EmptyCorpus:
        done = True
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CorpusError(
                f"{folder}: the disk is full; what was finished is safe: make room, then run the same command with --resume"
            ) from error
        raise
    finally:
        builder.close(done)
