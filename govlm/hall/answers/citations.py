"""What stands behind a sentence, and the check that nothing else does.

A `Citation` names a record, its version, a field and a span of it, and holds the text that stood there. A `Sentence` is made of
citations and of fixed phrases (`words.PHRASES`), or it is one that a generator wrote (`Phrased`) from sentences of that kind. `check`
resolves each citation against the catalogue, refuses words that are neither, holds what was generated to its sources (`faithful`),
and then, by another way, looks for every number of the sentence's text in the texts that it cites.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, Protocol

from govlm.hall.answers.words import PHRASES
from govlm.hall.catalogue.records import Document, Item, texts, to_dict

if TYPE_CHECKING:
    from govlm.hall.answers.faithful import Pieces

__all__ = [
    "Catalogue", "Citation", "CitationError", "Part", "Phrased", "Resolver", "Sentence", "check", "cite", "cite_span", "facts", "field_text", "holds",
    "numbers", "resolve", "version",
]  # fmt: skip

_VERSION = "_version"
_ASIDE = ("wordings", "form", "extra")  # of an item: no facts


class CitationError(ValueError):
    """A sentence says what its citations do not hold."""


class Catalogue(Protocol):
    """Where records are looked up. Both return None, or raise LookupError, for a code that they do not have."""

    def item(self, code: str, /) -> Item | None: ...

    def document(self, code: str, /) -> Document | None: ...


@dataclass(frozen=True)
class Citation:
    """kind "item" or "document"; field: a path as of `facts` ("materials.0.name") or a document's field; text: what stands at
    [start, end) of the field in this version of the record. passage: the article or paragraph of a document's text.
    """

    kind: Literal["item", "document"]
    code: str
    version: str
    field: str
    start: int
    end: int
    text: str
    passage: str = ""


@dataclass(frozen=True)
class Phrased:
    """A sentence in a generator's words. sources: the sentences, of citations and fixed phrases, that it was made from and says no
    more than."""

    text: str
    sources: tuple[Sentence, ...]


@dataclass(frozen=True)
class Sentence:
    """pieces: fixed phrases and citations, in the order in which they are read; or one Phrased. stated: (field, what stands in it) of the record
    first cited, where a phrase says it in other words: a field that is missing ("" stands in it), a paper that is optional.
    """

    pieces: tuple[str | Citation | Phrased, ...]
    stated: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        return "".join(piece if isinstance(piece, str) else piece.text for piece in self.pieces)

    @property
    def citations(self) -> tuple[Citation, ...]:
        found: list[Citation] = []
        for piece in self.pieces:
            if isinstance(piece, Citation):
                found.append(piece)
            elif isinstance(piece, Phrased):
                found += [citation for source in piece.sources for citation in source.citations]
        return tuple(found)

    @property
    def quoted(self) -> Pieces:
        """As `faithful` reads a source."""
        return [(piece, False) if isinstance(piece, str) else (piece.text, True) for piece in self.pieces]


@dataclass(frozen=True)
class Part:
    """kind: a key of `words.TITLES`."""

    kind: str
    title: str
    sentences: tuple[Sentence, ...]


# ------------------------------------------------------------------------------------------------------------ fields of records


def version(record: Item | Document) -> str:
    """12 hexadecimal digits that change with the record's facts (SHA-256). Wordings and forms do not count."""
    known: str | None = record.__dict__.get(_VERSION)  # records never change: it is reckoned once, and kept beside the fields
    if known is None:
        known = record.__dict__[_VERSION] = _reckoned(record)
    return known


def _reckoned(record: Item | Document) -> str:
    values = to_dict(record)
    if isinstance(record, Item):
        values = {name: value for name, value in values.items() if name not in _ASIDE}
    else:
        values.pop("passages", None)
    written = json.dumps(values, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    return hashlib.sha256(written).hexdigest()[:12]


def field_text(record: Item | Document, path: str) -> str:
    """What stands in a field, as text: a number in digits, yes and no as 是 and 否, a day as 2024年3月5日.

    ValueError when the record has no such field or nothing stands in it.
    """
    value: Any = record
    for key in path.split("."):
        if isinstance(value, tuple):
            value = value[int(key)] if key.isdigit() and int(key) < len(value) else None
        elif key in getattr(value, "__dataclass_fields__", ()):
            value = getattr(value, key)
        else:
            value = None
        if value is None:
            break
    text = _shown(value)
    if not text:
        raise ValueError(f"{record.code}: nothing stands in {path!r}")
    return text


def holds(value: Any) -> bool:
    """Whether anything stands in a field: in a list, in one of its entries."""
    if isinstance(value, tuple):
        return any(map(holds, value))
    if is_dataclass(value):
        return any(holds(getattr(value, entry.name)) for entry in fields(value))
    return value not in ("", None)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "是" if value else "否"
    if isinstance(value, date):
        return f"{value.year}年{value.month}月{value.day}日"
    return str(value) if isinstance(value, (str, int)) else ""


def facts(item: Item) -> Iterator[tuple[str, str]]:
    """(path, text) of every fact of an item: its texts, and its numbers, dates and yes/no as `field_text` shows them."""
    yield from texts(item)
    for i, material in enumerate(item.materials):
        for name in ("copies", "required"):
            if getattr(material, name) is not None:
                yield f"materials.{i}.{name}", _shown(getattr(material, name))
    for name in ("online", "visits", "mail", "valid_from", "valid_to"):
        if getattr(item, name) is not None:
            yield name, _shown(getattr(item, name))


def cite(record: Item | Document, path: str, of_version: str | None = None) -> Citation:
    """The whole of a field. ValueError when it is empty. of_version: the record's, where it is known already."""
    text = field_text(record, path)
    kind: Literal["item", "document"] = "item" if isinstance(record, Item) else "document"
    return Citation(kind, record.code, of_version or version(record), path, 0, len(text), text)


def cite_span(document: Document, passage: str, start: int, end: int, of_version: str | None = None) -> Citation:
    """document.text[start:end] in one of its passages. ValueError when the span is empty or not inside the passage."""
    _inside(document, passage, start, end)
    text = document.text[start:end]
    return Citation("document", document.code, of_version or version(document), "text", start, end, text, passage)


def _inside(document: Document, passage: str, start: int, end: int) -> None:
    for entry in document.passages:
        if entry.id == passage:
            if entry.start <= start < end <= entry.end:
                return
            raise ValueError(f"{document.code}: [{start}, {end}) is not a span of {passage} [{entry.start}, {entry.end})")
    raise ValueError(f"{document.code}: there is no passage {passage!r}")


# ------------------------------------------------------------------------------------------------------------------- resolving


class Resolver:
    """Looks citations up in one catalogue, each record once."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[tuple[str, str], tuple[Item | Document, str]] = {}

    def record(self, kind: str, code: str) -> tuple[Item | Document, str]:
        """The record and its version. ValueError when there is none."""
        if (kind, code) not in self._known:
            try:
                found = self._catalogue.item(code) if kind == "item" else self._catalogue.document(code)
            except LookupError:
                found = None
            if found is None:
                raise ValueError(f"{kind} {code!r} is not in the catalogue")
            self._known[kind, code] = found, version(found)
        return self._known[kind, code]

    def __call__(self, citation: Citation) -> str:
        record, now = self.record(citation.kind, citation.code)
        where = f"{citation.code} {citation.field}"
        if now != citation.version:
            raise ValueError(f"{where}: cited in version {citation.version}, the catalogue has {now}")
        if isinstance(record, Document) and citation.field == "text":
            _inside(record, citation.passage, citation.start, citation.end)
            stands = record.text[citation.start : citation.end]
        else:
            whole = field_text(record, citation.field)
            stands = whole[citation.start : citation.end] if 0 <= citation.start < citation.end <= len(whole) else ""
        if not stands or stands != citation.text:
            raise ValueError(f"{where}: [{citation.start}, {citation.end}) does not read as cited")
        return stands


def resolve(citation: Citation, catalogue: Catalogue) -> str:
    """The text that stands there now. ValueError says why it cannot be found, or that it is another version or another text."""
    return Resolver(catalogue)(citation)


# --------------------------------------------------------------------------------------------------------------------- numbers

_NARROW = {code + 0xFEE0: code for code in range(0x21, 0x7F) if chr(code) not in ",:;!?()"}  # what is no Chinese punctuation
_CHINESE = "〇零○一二三四五六七八九十百千万亿两廿卅壹贰叁肆伍陆柒捌玖拾佰仟"
_UNITS = "元圆块角毛分天日号月年岁周个份次条款项章节目本张页件套名人户倍成折小点时钟秒季度米里斤吨平%％‰"
_NUMBER = re.compile(
    r"(?:https?://|www\.)[!-~]+|[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
    r"|[0-9]{4}年[0-9]{1,2}月(?:[0-9]{1,2}日)?"
    r"|[0-9]+(?:[.,:/\-–—~—][0-9]+)*[%‰]?"  # sums, clock times, 020-83134173, 2024-03-05
    rf"|第[{_CHINESE}]+|[{_CHINESE}]+分之[{_CHINESE}]+|[{_CHINESE}]+(?=[{_UNITS}])|[{_CHINESE}]{{2,}}"
    r"|[¼-¾①-⒛Ⅰ-ⅿ㈠-㉃㊀-㊉]"
)


def numbers(text: str) -> list[str]:
    """What counts in a text, in order: digits with their separators, dates, telephone numbers, addresses on the network, Chinese
    numbers before a unit or of two and more characters. Full-width characters read as narrow ones.
    """
    return [match.group() for match in _NUMBER.finditer(text.translate(_NARROW))]


def check(parts: Iterable[Part], catalogue: Catalogue | Resolver) -> None:
    """Raises CitationError at the first sentence that is not made of its citations: without one, with one that does not resolve,
    with words that are no fixed phrase, with a number that no cited text holds, or that states what the record does not.
    """
    resolver = catalogue if isinstance(catalogue, Resolver) else Resolver(catalogue)
    for part in parts:
        for sentence in part.sentences:
            _check(sentence, part.kind, resolver)


def _check(sentence: Sentence, kind: str, resolver: Resolver) -> None:
    where = f"{kind}: {sentence.text[:60]!r}"
    if not sentence.citations:
        raise CitationError(f"{where}: has no citation")
    held: set[str] = set()
    for piece in sentence.pieces:
        if isinstance(piece, Citation):
            try:
                held.update(numbers(resolver(piece)))
            except ValueError as error:
                raise CitationError(f"{where}: {error}") from None
        elif isinstance(piece, Phrased):
            from govlm.hall.answers.faithful import judge  # a hall without a generator never needs it

            for source in piece.sources:
                if any(isinstance(part, Phrased) for part in source.pieces):
                    raise CitationError(f"{where}: was made from what is itself not quoted")
                _check(source, kind, resolver)
                held.update(numbers(source.text))
            if reason := judge(piece.text, [source.quoted for source in piece.sources]).fault:
                raise CitationError(f"{where}: {reason}")
        elif piece not in PHRASES:
            raise CitationError(f"{where}: {piece!r} is neither a fixed phrase nor cited")
    for number in numbers(sentence.text):
        if number not in held:
            raise CitationError(f"{where}: {number!r} stands in no cited text")
    for path, wanted in sentence.stated:
        record, _ = resolver.record(sentence.citations[0].kind, sentence.citations[0].code)
        try:
            stands = field_text(record, path)
        except ValueError:
            stands = ""
        if stands != wanted or (not wanted and holds(getattr(record, path, None))):
            raise CitationError(f"{where}: states {wanted!r} of {path}, where the record has {stands!r}")
