"""Terms of government services in plain words: which of them a text uses, and what they mean.

Each entry of the bundled glossary (govlm/assets/glossary/terms.jsonl) is {"term", "aliases", "explanation", "source"}: the words of
the explanation are ours, the source is the law or document that the term is of. A hall may add its own file in the same form.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Entry", "Explained", "Glossary"]

_PATH = Path(__file__).resolve().parents[2] / "assets" / "glossary" / "terms.jsonl"
_PREFIX = 2  # characters by which entries are found


@dataclass(frozen=True)
class Entry:
    """source: a law or document by its name, with the article where it is sure."""

    term: str
    explanation: str
    source: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explained:
    """An entry whose term or alias stands at text[start:end], for the first time. count: how often in all."""

    entry: Entry
    text: str
    start: int
    end: int
    count: int


class Glossary:
    """Entries, and the search for them. Of two that begin at one place the longer one counts: 基本养老保险, not 养老保险."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """ValueError for a name that two entries have, or that is shorter than two characters."""
        self.entries = tuple(entries)
        self._named: dict[str, Entry] = {}
        for entry in self.entries:
            for name in (entry.term, *entry.aliases):
                if len(name) < _PREFIX:
                    raise ValueError(f"{name!r} is too short to be found in a text")
                if name in self._named:
                    raise ValueError(f"{name!r} is explained twice: as {self._named[name].term!r} and as {entry.term!r}")
                self._named[name] = entry
        self._sizes: dict[str, list[int]] = {}
        for name in self._named:
            sizes = self._sizes.setdefault(name[:_PREFIX], [])
            if len(name) not in sizes:
                sizes.append(len(name))
                sizes.sort(reverse=True)

    @classmethod
    @functools.cache
    def bundled(cls) -> Glossary:
        return cls.read(_PATH)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Glossary:
        """A file of entries, one JSON object a line. ValueError names the line that is none."""
        entries = []
        for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                entries.append(Entry(row["term"], row["explanation"], row["source"], tuple(row.get("aliases", ()))))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{number}: no entry of a glossary: {error}") from None
        return cls(entries)

    def with_entries(self, more: Iterable[Entry]) -> Glossary:
        """One more glossary, where an entry of `more` takes the place of one that shares a name with it."""
        added = tuple(more)
        names = {name for entry in added for name in (entry.term, *entry.aliases)}
        return Glossary((*(entry for entry in self.entries if not names & {entry.term, *entry.aliases}), *added))

    def explain(self, word: str) -> Entry | None:
        """The entry of a term or alias."""
        return self._named.get(word.strip())

    def find(self, text: str) -> list[Explained]:
        """The entries that a text uses, in the order in which they first come."""
        found: dict[str, list[tuple[int, int]]] = {}
        at = 0
        while at < len(text) - 1:
            size = self._at(text, at)
            if size:
                found.setdefault(self._named[text[at : at + size]].term, []).append((at, at + size))
            at += size or 1
        return [
            Explained(self._named[term], text[s:e], s, e, len(places))
            for term, ((s, e), *_) in found.items()
            for places in [found[term]]
        ]

    def _at(self, text: str, at: int) -> int:
        """Length of the longest name that begins there; 0 = none. A name in digits is no part of a longer number."""
        for size in self._sizes.get(text[at : at + _PREFIX], ()):
            name = text[at : at + size]
            if name in self._named and not (
                name[0].isdigit() and (text[at - 1 : at].isdigit() or text[at + size : at + size + 1].isdigit())
            ):
                return size
        return 0
