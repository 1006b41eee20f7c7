"""Answers that an administrator put together: parts of records, quoted as the hall's own answers quote them, for questions that it
could not answer, or badly.

A curated answer holds no free text. It names items with the parts of their guides, and passages of documents; it is composed of
citations and fixed phrases, and checked against the catalogue whenever it is given. A record that has changed since makes it step
back: the question is answered as if it were not there.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import sqlalchemy as sa

from govlm.hall.answers import words
from govlm.hall.answers.asked import asked
from govlm.hall.answers.citations import Citation, Part, Sentence, cite, cite_span, numbers, version
from govlm.hall.answers.compose import FIELDS_OF, KINDS, Quotes, compose, head
from govlm.hall.answers.precedence import applies, in_force
from govlm.hall.answers.rendering import Answer, checked
from govlm.hall.catalogue.records import Document, Item
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.hall import Hall
from govlm.hall.library import Library
from govlm.hall.privacy import mask
from govlm.hall.protection.sessions import utc
from govlm.portal.store.tables import tables

__all__ = ["Curated", "CuratedAnswer", "Quote", "composed", "normalised"]

_ALIKE = 0.96  # cosine; of pairs that asked for different things the nearest measured was 0.953 (有房子… and 没房子…)
_SHARED = 0.5  # of two questions' pairs of letters: less, and their vectors are not looked at
_FRESH = 1.0  # seconds for which a worker believes what it read
_FLUFF = re.compile(r"请问|麻烦问一?下|我?想问一?下|你好|您好|[呢呀啊吗嘛吧哦哈哇]+(?=\W|$)")
_DENIED = re.compile(r"[不没无未非别免]|离婚|结婚")


@dataclass(frozen=True)
class Quote:
    """What an answer quotes. Of an item: `fields`, each a part of its guide (`compose.KINDS`) or one field ("materials.0.note"). Of a
    document: `passage`, [start, end) of it in characters; end 0: to its end."""

    item: str = ""
    fields: tuple[str, ...] = ()
    document: str = ""
    passage: str = ""
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class CuratedAnswer:
    """wordings: the question as it is asked, masked. by: a pseudonym. at: UTC, ISO."""

    id: str
    wordings: tuple[str, ...]
    quotes: tuple[Quote, ...]
    parts: tuple[Part, ...]
    by: str
    at: str

    @cached_property
    def citations(self) -> tuple[Citation, ...]:
        return tuple(dict.fromkeys(c for part in self.parts for sentence in part.sentences for c in sentence.citations))

    @property
    def items(self) -> tuple[str, ...]:
        """Codes of the items that it quotes."""
        return tuple(dict.fromkeys(citation.code for citation in self.citations if citation.kind == "item"))

    def now(self, library: Library, today: date, region: str = "") -> Answer | None:
        """The answer, where every record of it is as it was, in force, and of the region ("" = any)."""
        for citation in self.citations:
            record = library.item(citation.code) if citation.kind == "item" else library.document(citation.code)
            if record is None or version(record) != citation.version or not in_force(record, today):
                return None
            if region and not applies(record, region):
                return None
        answer = checked(self.parts, library)
        return None if answer.refused else answer


def normalised(text: str) -> str:
    """The text without what does not change a question: signs, spaces, case, width, politeness."""
    plain = _FLUFF.sub("", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in plain if char.isalnum())


def _pairs(text: str) -> frozenset[str]:
    plain = normalised(text)
    return frozenset(plain[i : i + 2] for i in range(len(plain) - 1))


def composed(quotes: Sequence[Quote], library: Library) -> tuple[Part, ...]:
    """The parts of an answer. ValueError (Chinese) names what the catalogue does not hold."""
    parts: list[Part] = []
    for quote in quotes:
        if quote.item:
            item = library.item(quote.item)
            if item is None:
                raise ValueError(f"目录里没有事项{quote.item}")
            parts += _of_item(item, quote.fields)
        else:
            document = library.document(quote.document)
            if document is None:
                raise ValueError(f"目录里没有政策文件{quote.document}")
            parts.append(_of_document(document, quote))
    return tuple(dict.fromkeys(parts))


def _of_item(item: Item, fields: Sequence[str]) -> list[Part]:
    kinds = [name for name in fields if name in KINDS]
    single = [name for name in fields if name not in KINDS]
    parts = list(compose(item, kinds)) if kinds else [head(item)]
    known = Quotes(item)
    sentences: dict[str, list[Sentence]] = {}
    for path in single:
        top = path.partition(".")[0]
        kind = next((kind for kind, names in FIELDS_OF.items() if top in names), "")
        if not kind:
            raise ValueError(f"事项没有可以引用的字段{path}")
        try:
            sentences.setdefault(kind, []).append(Sentence((f"{words.label(top)}{words.COLON}", known(path))))
        except ValueError:
            raise ValueError(f"《{item.name}》的{path}是空的，不能引用") from None
    return [*parts, *(Part(kind, words.TITLES[kind], tuple(found)) for kind, found in sentences.items())]


def _of_document(document: Document, quote: Quote) -> Part:
    known = version(document)
    passage = next((entry for entry in document.passages if entry.id == quote.passage), None)
    if passage is None:
        raise ValueError(f"《{document.title}》里没有{quote.passage}")
    end = passage.start + quote.end if quote.end else passage.end
    try:
        span = cite_span(document, quote.passage, passage.start + quote.start, end, known)
    except ValueError:
        raise ValueError(f"《{document.title}》{quote.passage}里没有这一段") from None
    said = Sentence((words.FROM, cite(document, "title", known), words.FROM_END, words.SAYS, span))
    return Part("policy", words.TITLES["policy"], (said,))


@dataclass(frozen=True)
class _Known:
    """What is read of the table at once. exact: by normalised wording. pairs: of letters, of each wording."""

    rows: tuple[CuratedAnswer, ...]
    exact: Mapping[str, CuratedAnswer]
    wordings: tuple[tuple[str, CuratedAnswer], ...]
    pairs: tuple[frozenset[str], ...]
    vectors: Any  # [wordings, H]


class Curated:
    """The curated answers of a hall. Each worker reads them anew when they are a second old."""

    def __init__(self, hall: Hall) -> None:
        self._hall, self._lock = hall, threading.Lock()
        self._known: _Known | None = None
        self._read = float("-inf")

    # ---- given

    def find(self, text: str, region: str = "", today: date | None = None) -> Answer | None:
        """The answer to this question, where there is one and it still stands in the records; else None."""
        try:
            known = self._current()
        except CatalogueError:  # the database does not answer: as before, if it ever did
            if (known := self._known) is None:  # type: ignore[assignment]
                return None
        if not known.rows:
            return None
        found = known.exact.get(normalised(text)) or self._alike(text, known)
        return None if found is None else found.now(self._hall.library, today or date.today(), region)

    def _alike(self, text: str, known: _Known) -> CuratedAnswer | None:
        """The one whose question differs by a word that changes nothing: nearly the same vector, and the same numbers, parts asked for,
        denials, and item meant. Vectors alone hold 有房子 and 没房子 for the same."""
        mine = _pairs(text)
        if not any(2 * len(mine & pairs) >= _SHARED * (len(mine) + len(pairs)) for pairs in known.pairs):
            return None
        understander = self._hall.library.understander
        query = understander.query(text)
        near = known.vectors @ query.vector
        best = int(near.argmax())
        if near[best] < _ALIKE:
            return None
        wording, found = known.wordings[best]
        if set(numbers(wording)) != set(numbers(text)) or asked(wording) != asked(text):
            return None
        if sorted(_DENIED.findall(wording)) != sorted(_DENIED.findall(text)):
            return None
        scores, _ = understander.item_scores(query)
        if len(scores):
            others, _ = understander.item_scores(understander.query(wording))
            if int(scores.argmax()) != int(others.argmax()):
                return None
        return found

    # ---- kept

    def all(self) -> list[CuratedAnswer]:
        """The newest first."""
        return list(self._current(fresh=True).rows)

    def get(self, id: str) -> CuratedAnswer:
        """LookupError: there is none."""
        for row in self._current(fresh=True).rows:
            if row.id == id:
                return row
        raise LookupError(id)

    def put(self, wordings: Iterable[str], quotes: Sequence[Quote], by: str, now: datetime, id: str = "") -> CuratedAnswer:
        """Keeps an answer; id: in the place of that one. ValueError (Chinese): it cannot be composed, or there is nothing to ask."""
        said = tuple(dict.fromkeys(mask(" ".join(w.replace("\x00", " ").split()))[:500] for w in wordings))
        said = tuple(wording for wording in said if normalised(wording))
        if not said:
            raise ValueError("请写出问法")
        library = self._hall.library
        parts = composed(quotes, library)
        if checked(parts, library).refused:
            raise ValueError("没有通过和原文的核对")
        row = CuratedAnswer(id or secrets.token_hex(8), said, tuple(quotes), parts, by, utc(now))
        table = tables()["curated"]
        values = {
            "question": json.dumps(said, ensure_ascii=False), "answer": json.dumps(_packed(row), ensure_ascii=False),
            "citations": json.dumps([asdict(c) for c in row.citations], ensure_ascii=False), "by": by, "at": row.at, "active": "1",
        }  # fmt: skip

        def write(connection: Any) -> None:
            if not id or not connection.execute(table.update().where(table.c.id == id).values(**values)).rowcount:
                connection.execute(table.insert().values(id=row.id, **values))

        self._hall.writer.submit(write)
        self._read = float("-inf")
        return row

    def drop(self, id: str) -> CuratedAnswer:
        """Takes it out of use. LookupError: there is none."""
        found, table = self.get(id), tables()["curated"]
        self._hall.writer.submit(lambda c: c.execute(table.update().where(table.c.id == id).values(active="")))
        self._read = float("-inf")
        return found

    def taught(self) -> dict[str, tuple[str, ...]]:
        """Wordings that items were taught by answers about them alone, by code: a catalogue that is imported again does not hold them."""
        found: dict[str, tuple[str, ...]] = {}
        for row in self.all():
            if len(row.items) == 1:
                found[row.items[0]] = (*found.get(row.items[0], ()), *row.wordings)
        return found

    def _current(self, fresh: bool = False) -> _Known:
        known = self._known
        if known is not None and not fresh and time.monotonic() - self._read < _FRESH:
            return known
        with self._lock:
            begun, table = time.monotonic(), tables()["curated"]
            query = sa.select(table).where(table.c.active == "1").order_by(table.c.at.desc(), table.c.id)
            with self._hall.store.database.read() as connection:
                rows = tuple(_unpacked(row) for row in connection.execute(query))
            if known is None or known.rows != rows:
                known = self._prepared(rows)
            self._known, self._read = known, begun
            return known

    def _prepared(self, rows: tuple[CuratedAnswer, ...]) -> _Known:
        wordings = tuple((wording, row) for row in rows for wording in row.wordings)
        exact: dict[str, CuratedAnswer] = {}
        for wording, row in wordings:
            exact.setdefault(normalised(wording), row)  # of two answers to one question the newer holds
        if not wordings:
            return _Known(rows, exact, wordings, (), None)
        understander = self._hall.library.understander
        pairs = tuple(_pairs(wording) for wording, _ in wordings)
        return _Known(
            rows, exact, wordings, pairs, np.stack([understander.query(wording).vector for wording, _ in wordings])
        )  # fmt: skip


def _packed(row: CuratedAnswer) -> dict[str, Any]:
    number = {citation: i for i, citation in enumerate(row.citations)}

    def sentence(found: Sentence) -> dict[str, Any]:
        pieces = [number[piece] if isinstance(piece, Citation) else piece for piece in found.pieces]  # editors quote
        return {"pieces": pieces, "stated": [list(pair) for pair in found.stated]}

    parts = [{"kind": p.kind, "title": p.title, "sentences": [sentence(s) for s in p.sentences]} for p in row.parts]
    return {"quotes": [asdict(quote) for quote in row.quotes], "parts": parts}


def _unpacked(row: Any) -> CuratedAnswer:
    answer, citations = json.loads(row.answer), [Citation(**citation) for citation in json.loads(row.citations)]

    def sentence(given: Mapping[str, Any]) -> Sentence:
        pieces = tuple(piece if isinstance(piece, str) else citations[piece] for piece in given["pieces"])
        return Sentence(pieces, tuple((path, stands) for path, stands in given["stated"]))

    quotes = tuple(Quote(**{**quote, "fields": tuple(quote["fields"])}) for quote in answer["quotes"])
    parts = tuple(Part(p["kind"], p["title"], tuple(map(sentence, p["sentences"]))) for p in answer["parts"])
    return CuratedAnswer(row.id, tuple(json.loads(row.question)), quotes, parts, row.by, row.at)
