"""One version of a hall's catalogue with everything that answers from it: records and indexes, never changed once made.

A question is answered from one library from beginning to end, so that a catalogue may be replaced while it is asked. The indexes of a
generation lie in a folder of their own; the catalogue's database says which generation is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from govlm.checkpoint import sha256_of
from govlm.hall.answers.precedence import applies, in_force
from govlm.hall.catalogue.passages import top
from govlm.hall.catalogue.records import Document, Item
from govlm.hall.catalogue.store import Snapshot
from govlm.hall.naming import Naming, names_of, subjects_of
from govlm.hall.retrieval.characters import Characters
from govlm.hall.retrieval.index import Encode, Entry, Index
from govlm.hall.understanding.examples import FOLDER, SENTENCES, act_entries, out_of_scope_entry
from govlm.hall.understanding.understand import Understander, item_entry

__all__ = ["Library", "build", "business_of", "clear", "made_by", "making", "passage_entries"]

_PARTS = ("items", "passages", "acts")
_LOCK = ".lock"  # of the folder of all generations: held by each process that makes one
_MADE_BY = "made-by.txt"  # of a generation
_EMBEDDED = 300  # characters of a passage that its vector and its fit are made of
Progress = Callable[[str, int, int], None]  # (what, done, all)


@dataclass(frozen=True)
class Library:
    """Records by code, and what finds them. `item` and `document` make it the catalogue that citations are checked against."""

    version: int
    items: Mapping[str, Item]
    documents: Mapping[str, Document]
    passages: Sequence[tuple[str, str]]  # (document, passage) of each entry of the index
    passage_index: Index
    understander: Understander
    _masks: dict[tuple[object, ...], NDArray[np.bool_]] = field(default_factory=dict)
    _naming: list[Naming] = field(default_factory=list)  # made at first use

    def item(self, code: str, /) -> Item | None:
        return self.items.get(code)

    def document(self, code: str, /) -> Document | None:
        return self.documents.get(code)

    def named(self, text: str) -> list[str]:
        """Codes of the items whose name, alias or subject stands in a text (as `answers.asked.plain` writes it): those of the longest."""
        if not self._naming:
            items = self.items.values()
            self._naming.append(Naming([*names_of(items), *subjects_of(items)], self.understander.characters))
        return self._naming[0].within(text)

    def known(self, region: str = "") -> NDArray[np.bool_]:
        """[items]: of the region, in force or not: an answer says that a rule has expired."""
        return self._mask((region,), lambda item: not region or applies(item, region))

    def allowed(self, today: date, region: str = "", level: str = "", audience: str = "") -> NDArray[np.bool_]:
        """[items]: in force, of the region ("" = any) and level, and for the audience."""
        return self._mask(
            (today, region, level, audience),
            lambda item: (
                in_force(item, today)
                and (not region or applies(item, region))
                and (not level or item.level == level)
                and (not audience or not item.audiences or audience in item.audiences)
            ),
        )

    def _mask(self, key: tuple[object, ...], holds: Callable[[Item], bool]) -> NDArray[np.bool_]:
        """[items], kept for the next question."""
        found = self._masks.get(key)
        if found is None:
            if len(self._masks) > 64:
                self._masks.clear()
            found = self._masks[key] = np.array([holds(item) for item in self.items.values()], bool)
        return found

    @classmethod
    def open(cls, folder: Path, view: Snapshot, encode: Encode, maker: str) -> Library:
        """The indexes in `folder` with the records of the snapshot they were made from. maker: `made_by` of the encoder. ValueError,
        OSError: make them again."""
        if (folder / _MADE_BY).read_text("ascii") != maker:
            raise ValueError(f"{folder}: an index of another encoder, or of another version's sentences")
        items = {item.code: item for item in view.items()}
        documents = {document.code: document for document in view.documents()}
        item_index, passage_index, acts = (Index.open(folder / part) for part in _PARTS)
        passages = _passages(documents)
        if item_index.keys[:-1] != list(items) or passage_index.keys != ["\t".join(key) for key in passages]:
            raise ValueError(f"{folder}: an index of other records than the catalogue holds")
        understander = Understander(item_index, acts, [business_of(item) for item in items.values()], encode)
        return cls(view.version, items, documents, passages, passage_index, understander)


def made_by(model: Path) -> str:
    """What indexes are made with, as a digest: the weights in the encoder's folder, and the sentences that come with this version."""
    return sha256_of(*sorted(model.glob("*.safetensors")), *(FOLDER / name for name in SENTENCES))


def build(folder: Path, view: Snapshot, encode: Encode, maker: str, progress: Progress | None = None) -> str:
    """Indexes of a snapshot's records in a new folder below `folder`; returns its name. Nothing is left when it fails. maker: `made_by`
    of the encoder."""
    name = f"{view.version}-{uuid.uuid4().hex[:8]}"
    made = folder / f".{name}.making"
    try:
        tell = progress or (lambda what, done, every: None)
        characters = Characters.make()
        items, documents = view.items(), {document.code: document for document in view.documents()}
        entries = {
            "items": [*(item_entry(item) for item in items), out_of_scope_entry()],
            "passages": [entry for document in documents.values() for entry in passage_entries(document)],
            "acts": act_entries(),
        }
        for done, (part, rows) in enumerate(entries.items()):
            tell(part, done, len(entries))
            Index.make(rows, encode, characters).save(made / part)
        tell("", len(entries), len(entries))
        (made / _MADE_BY).write_text(maker, "ascii")
        made.rename(folder / name)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return name


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Held from `build` until the generation is published or given up: nothing below `folder` is cleared meanwhile, by any process."""
    folder.mkdir(exist_ok=True)
    with open(folder / _LOCK, "a", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def clear(folder: Path, current: Callable[[], str]) -> None:
    """Removes all generations but the one in use, and what a killed process left. Nothing, where another is made: its maker clears then.

    current: the generation in use; asked when no other can be published any more.
    """
    with open(folder / _LOCK, "a", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        kept = {_LOCK, current()}
        for other in folder.iterdir():
            if other.name not in kept:
                shutil.rmtree(other, ignore_errors=True)


def business_of(item: Item) -> str:
    """What a hall without business types sorts by."""
    return item.business or (item.themes[0] if item.themes else item.kind)


def _passages(documents: Mapping[str, Document]) -> list[tuple[str, str]]:
    return [(code, passage.id) for code, document in documents.items() for passage in top(document.passages)]


def passage_entries(document: Document) -> list[Entry]:
    """How the articles and paragraphs of a document are found: by its title and their heading, and by what they say."""
    entries = []
    for passage in top(document.passages):
        text = document.text[passage.start : passage.end]
        names = tuple(part for part in (document.title, passage.heading) if part)
        entries.append(Entry(f"{document.code}\t{passage.id}", names, (text[:_EMBEDDED],), text[_EMBEDDED:]))
    return entries
