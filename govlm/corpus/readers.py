"""Every input format as a stream of documents, in memory that does not grow with the file.

A reader yields Document and Problem items; the same file always yields the same items, so a resumed build skips those that it
has seen. Formats: text (UTF-8; a paragraph a line, a blank line between documents), Markdown (a file is a document), HTML
(trafilatura finds the main text), JSONL (one field, or several joined), PDF (pypdf), Word (python-docx); each also as .gz and
.xz. A document longer than `max_chars` is cut at ends of paragraphs or sentences into parts, each a document of its own.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import html
import io
import json
import logging
import lzma
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from govlm.corpus.shards import CorpusError
from govlm.corpus.word_numbers import Numbers

__all__ = ["FORMATS", "Document", "Problem", "Reader", "find_inputs", "format_of"]

FORMATS = ("text", "markdown", "html", "jsonl", "pdf", "docx")
_SUFFIXES = {
    ".txt": "text", ".text": "text", ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html",
    ".xhtml": "html", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".pdf": "pdf", ".docx": "docx",
}  # fmt: skip
_PACKED = (".gz", ".xz", ".lzma")
_BLOCK = 1 << 20
WHOLE_LIMIT = 64 << 20  # bytes of what must be in memory as a whole: an HTML page, a line of JSON, the text of a Word file
_NEEDS = {"html": ("trafilatura", "HTML"), "pdf": ("pypdf", "PDF"), "docx": ("docx", "Word")}


class Document(NamedTuple):
    """A document, or a part of a long one (part 0, 1, …): paragraphs are lines."""

    text: str
    part: int = 0


class Problem(NamedTuple):
    """Something that was left out: a whole file, a row, a page."""

    message: str


class _Broken(Exception):
    """The file cannot be read any further: one line."""


def format_of(path: Path) -> str | None:
    """The format that the file's name tells; None when it does not."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def find_inputs(inputs: Iterable[str | os.PathLike[str]], out: Path | None = None) -> Iterator[tuple[int, Path]]:
    """(number of the argument, file) for every file, folders walked in sorted order, without hidden files and `out` itself.

    Links to folders are not followed. FileNotFoundError names an argument that does not exist.
    """
    own = None if out is None else out.resolve()
    for number, argument in enumerate(inputs):
        top = Path(argument)
        if not top.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", str(top))
        if not top.is_dir():
            yield number, top
            continue
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(folder, name).resolve() != own)
            for name in sorted(files):
                if not name.startswith("."):
                    yield number, Path(folder, name)


# ---- pieces of text --------------------------------------------------------------------------------------------------

_SENTENCE = re.compile("[。！？!?…；;][”’」』）)\"']*|\\.[ ]|\n")
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


def cut_point(text: str, limit: int) -> int:
    """Where to cut a text that is longer than `limit`: after its last line, else sentence, else word in the second half."""
    middle = limit // 2
    at = text.rfind("\n", middle, limit)
    if at >= 0:
        return at + 1
    found = 0
    for match in _SENTENCE.finditer(text, middle, limit):
        found = match.end()
    if found:
        return found
    at = text.rfind(" ", middle, limit)
    return at + 1 if at >= 0 else limit


class _Cutter:
    """Collects the text of one document and gives it out in parts of at most `limit` characters."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pieces: list[str] = []
        self.size = self.part = 0

    def feed(self, text: str) -> Iterator[Document]:
        self.pieces.append(text)
        self.size += len(text)
        if self.size <= self.limit:
            return
        whole, begin = "".join(self.pieces), 0
        while len(whole) - begin > self.limit:
            size = cut_point(whole[begin : begin + self.limit + 1], self.limit)
            yield Document(whole[begin : begin + size], self.part)
            self.part += 1
            begin += size
        self.pieces, self.size = [whole[begin:]], len(whole) - begin

    def end(self) -> Iterator[Document]:
        whole = "".join(self.pieces)
        if whole.strip():
            yield Document(whole, self.part)
        self.pieces, self.size, self.part = [], 0, 0


def _documents(blocks: Iterable[str], limit: int) -> Iterator[Document]:
    """Splits a stream of text at blank lines."""
    cutter = _Cutter(limit)
    rest = ""
    for block in blocks:
        # What may be the beginning of a blank line stays until its end is known.
        text = rest + block
        keep = len(text.rstrip())
        text, rest = text[:keep], text[keep:]
        if len(rest) > _BLOCK:  # a megabyte of white space
            rest = "\n\n" if _BLANK.search(rest + "\n") else rest[:1]
        pieces = _BLANK.split(text)
        for index, piece in enumerate(pieces):
            if index:
                yield from cutter.end()
            yield from cutter.feed(piece)
    yield from cutter.end()


def _lines(blocks: Iterable[str], limit: int) -> Iterator[str]:
    """The lines of a stream of text without their ends; one longer than `limit` comes in pieces."""
    rest = ""
    for block in blocks:
        lines = (rest + block).split("\n")
        rest = lines.pop()
        yield from lines
        while len(rest) > limit:
            size = cut_point(rest, limit)
            yield rest[:size]
            rest = rest[size:]
    if rest:
        yield rest


def _newlines(blocks: Iterable[str]) -> Iterator[str]:
    """One kind of line end."""
    carry = ""
    for block in blocks:
        text = carry + block
        carry = "\r" if text.endswith("\r") else ""
        text = text[: len(text) - len(carry)]
        yield text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    if carry:
        yield "\n"


# ---- Markdown --------------------------------------------------------------------------------------------------------

_MARKDOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^[ \t]{0,3}(?:>[ \t]?)+"), ""),
    (re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+"), ""),
    (re.compile(r"^[ \t]*[-*+][ \t]+(?:\[[ xX]\][ \t]+)?"), ""),
    (re.compile(r"!\[[^\[\]]{0,500}\]\([^()]{0,2000}\)"), ""),
    (re.compile(r"\[([^\[\]]{1,500})\](?:\([^()]{0,2000}\)|\[[^\[\]]{0,200}\])"), r"\1"),
    (re.compile(r"<(?:https?|mailto):[^<>\s]{1,2000}>"), ""),
    (re.compile(r"</?[A-Za-z][^<>]{0,2000}>"), ""),
    (re.compile(r"`{1,2}([^`]{1,500})`{1,2}"), r"\1"),
    (re.compile(r"(\*{1,3}|~~)(?=\S)([^*~]{1,500})(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_]{1,500})(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"\\([\\`*_{}\[\]()#+\-.!|>~])"), r"\1"),
)
_RULE = re.compile(r"^[ \t]*(?:=+|-+|(?:[-*_][ \t]*){3,}|\|?[ \t:|-]*-[ \t:|-]*\|[ \t:|-]*)$")
_FRONT_LINES = 200
_DEFINITION = re.compile(r"^[ \t]{0,3}\[[^\[\]]{1,200}\]:[ \t]")


def _without_front_matter(lines: Iterable[str]) -> Iterator[str]:
    """The lines after a block between "---" lines at the very beginning; a block that is not closed soon is text."""
    source = iter(lines)
    first = next(source, "").lstrip("\ufeff")
    begin = [first]
    if first.strip() == "---":
        for line in source:
            begin.append(line)
            if line.strip() in ("---", "..."):
                begin = []
                break
            if len(begin) > _FRONT_LINES:
                break
    yield from begin
    yield from source


def _plain_markdown(lines: Iterable[str]) -> Iterator[str]:
    """The text of Markdown lines: no front matter, code blocks, comments, tags, marks; a table's cells side by side."""
    fence = comment = False
    for line in _without_front_matter(lines):
        bare = line.strip()
        if bare.startswith(("```", "~~~")):
            fence = not fence
            continue
        if fence:
            continue
        kept = ""
        while line:  # a comment may begin and end anywhere
            mark = "-->" if comment else "<!--"
            before, found, line = line.partition(mark)
            kept += "" if comment else before
            comment = comment != bool(found)
        if _RULE.match(kept) or _DEFINITION.match(kept):
            continue
        if kept.lstrip().startswith("|"):
            kept = " ".join(cell.strip() for cell in kept.strip().strip("|").split("|"))
        for pattern, replacement in _MARKDOWN:
            kept = pattern.sub(replacement, kept)
        yield html.unescape(kept) if "&" in kept else kept


# ---- PDF -------------------------------------------------------------------------------------------------------------

_OPEN_END = re.compile(r"[\u4e00-\u9fffA-Za-z0-9，、,]$")
_NEW_PARAGRAPH = re.compile(
    r"^(?:[一二三四五六七八九十]+、|[（(][一二三四五六七八九十0-9]+[)）]|第[一二三四五六七八九十百千零〇0-9]+[章节条]|[0-9]+[.、)])"
)


def unwrap(text: str) -> str:
    """Joins the lines that a page's width broke: a line as wide as the page that ends within a sentence goes on in the next."""
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    width = max((len(line.strip()) for line in lines), default=0)
    out: list[str] = []
    joins = False
    for line in lines:
        bare = line.strip()
        if joins and not _NEW_PARAGRAPH.match(bare):
            ascii_words = out[-1][-1].isascii() and bare[0].isascii()
            out[-1] += (" " if ascii_words else "") + bare
        else:
            out.append(bare)
        joins = len(bare) >= 0.8 * width and _OPEN_END.search(bare) is not None
    return "\n".join(out)


# ---- files -----------------------------------------------------------------------------------------------------------


class Reader:
    """Reads files of any format.

    fields: of JSONL rows, joined by a line break.  encoding: of text, Markdown and JSONL.  max_chars: the longest document.
    file_format: for files whose name does not tell.  `position` is how many bytes of the present file have been read.
    """

    def __init__(
        self,
        fields: tuple[str, ...] = ("text",),
        encoding: str = "utf-8",
        max_chars: int = 200_000,
        file_format: str | None = None,
    ) -> None:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise CorpusError(f"encoding {encoding!r} is unknown; utf-8 and gb18030 are the usual ones") from None
        self.fields, self.encoding, self.max_chars, self.file_format = fields, encoding, max_chars, file_format
        self._raw: BinaryIO | None = None

    @property
    def position(self) -> int:
        return 0 if self._raw is None or self._raw.closed else self._raw.tell()

    def format(self, path: Path) -> str | None:
        return format_of(path) or self.file_format

    def require(self, kinds: Iterable[str | None]) -> None:
        """CorpusError that names the extra, when a library that one of the formats needs is not installed."""
        import importlib.util

        for kind in FORMATS:
            if kind in kinds and kind in _NEEDS and importlib.util.find_spec(_NEEDS[kind][0]) is None:
                raise CorpusError(f'{_NEEDS[kind][1]} files need another package: pip install "govlm[corpus]"')

    def read(self, path: Path) -> Iterator[Document | Problem]:
        """The items of one file. What is wrong with it becomes a Problem; only a full disk of our own raises (OSError)."""
        try:
            if not path.is_file():
                raise _Broken("is no regular file")
            kind = self.format(path)
            if kind is None:
                known = ", ".join(dict.fromkeys(_SUFFIXES))
                raise _Broken(f"unknown kind of file (known: {known}, with .gz or .xz); name its kind with --format")
            with open(path, "rb") as raw:
                self._raw = raw
                suffix = path.suffix.lower()
                handle: Any = raw
                if suffix == ".gz":
                    handle = gzip.GzipFile(fileobj=raw)
                elif suffix in _PACKED:
                    handle = lzma.LZMAFile(raw)  # noqa: SIM115
                readers: dict[str, Callable[[Any], Iterator[Document | Problem]]] = {
                    "text": self._text, "markdown": self._markdown, "html": self._html, "jsonl": self._jsonl, "json": self._json, "pdf": self._pdf,
                    "docx": self._docx,
                }  # fmt: skip
                yield from readers[kind](handle)
        except (_Broken, CorpusError) as error:
            yield Problem(str(error))
        except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
            yield Problem(f"is damaged: {error or type(error).__name__}")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            yield Problem(f"cannot be read: {error.strerror or error}")
        except Exception as error:  # a library, or a file, that no one thought of: it must not end the build
            yield Problem(f"cannot be read: {type(error).__name__}: {error}")
        finally:
            self._raw = None

    # ---- text

    def _blocks(self, handle: Any) -> Iterator[str]:
        """Decoded text; bytes that are no characters become lone surrogates, which the build finds and counts."""
        first = handle.read(_BLOCK)
        encoding = self.encoding
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            encoding = "utf-16"
        elif codecs.lookup(encoding).name == "utf-8" and first.startswith(codecs.BOM_UTF8):
            first = first[3:]
        decoder = codecs.getincrementaldecoder(encoding)("replace" if encoding == "utf-16" else "surrogateescape")
        raw = first
        while raw:
            yield decoder.decode(raw)
            raw = handle.read(_BLOCK)
        yield decoder.decode(b"", True)

    def _text(self, handle: Any) -> Iterator[Document | Problem]:
        yield from _documents(_newlines(self._blocks(handle)), self.max_chars)

    def _markdown(self, handle: Any) -> Iterator[Document | Problem]:
        cutter = _Cutter(self.max_chars)
        for line in _plain_markdown(_lines(_newlines(self._blocks(handle)), self.max_chars)):
            yield from cutter.feed(line + "\n")
        yield from cutter.end()

    def _jsonl(self, handle: Any) -> Iterator[Document | Problem]:
        number = 0
        while line := handle.readline(WHOLE_LIMIT + 1):
            number += 1
            if len(line) > WHOLE_LIMIT:
                while line and not line.endswith(b"\n"):
                    line = handle.readline(_BLOCK)
                yield Problem(f"line {number}: longer than {WHOLE_LIMIT >> 20} MiB")
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode(self.encoding, "strict").lstrip("\ufeff"))
            except UnicodeDecodeError as error:
                yield Problem(f"line {number}: byte {error.start + 1} is not {self.encoding.upper()}")
                continue
            except (json.JSONDecodeError, RecursionError) as error:
                detail = (
                    f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                )
                yield Problem(f"line {number}: not JSON: {detail}")
                continue
            yield from self._rows(row, f"line {number}: ")

    def _json(self, handle: Any) -> Iterator[Document | Problem]:
        """One JSON value, an array of rows or a row; else rows a line, as in JSONL."""
        whole = self._bytes(handle)
        try:
            value = json.loads(whole.decode(self.encoding).lstrip("\ufeff"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            yield from self._jsonl(io.BytesIO(whole))
            return
        yield from self._rows(value, "")

    def _rows(self, value: Any, where: str) -> Iterator[Document | Problem]:
        many = isinstance(value, list)
        for number, row in enumerate(value if many else [value], 1):
            text = self._row_text(row)
            if isinstance(text, Problem):
                place = where + (f"row {number}: " if many else "")
                yield Problem(place + text.message)
            else:
                yield from self._whole(text)

    def _row_text(self, row: Any) -> str | Problem:
        if not isinstance(row, dict):
            return Problem(f"a JSON object is expected, not {type(row).__name__}")
        parts: list[str] = []
        for field in self.fields:
            value = row.get(field)
            if value is None and len(self.fields) > 1 and field in row:
                continue
            values: list[Any] = value if isinstance(value, list) else [value]
            if not all(isinstance(item, str) for item in values):
                has = ", ".join(map(str, list(row)[:20])) or "nothing"
                return Problem(
                    f"field {field!r} is no string" if field in row else f"field {field!r} is missing (it has: {has})"
                )
            parts += values
        return "\n".join(parts)

    def _whole(self, text: str) -> Iterator[Document]:
        cutter = _Cutter(self.max_chars)
        yield from cutter.feed(text)
        yield from cutter.end()

    # ---- formats of other libraries

    def _bytes(self, handle: Any) -> bytes:
        whole = handle.read(WHOLE_LIMIT + 1)
        if len(whole) > WHOLE_LIMIT:
            raise _Broken(f"is larger than {WHOLE_LIMIT >> 20} MiB")
        return bytes(whole)

    def _seekable(self, handle: Any) -> Any:
        """The file itself, or a temporary copy of what a compressed one holds."""
        if handle is self._raw:
            return handle
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        shutil.copyfileobj(handle, copy, _BLOCK)
        copy.seek(0)
        return copy

    def _html(self, handle: Any) -> Iterator[Document | Problem]:
        import trafilatura

        logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
        page = self._bytes(handle)
        try:
            text = trafilatura.extract(page, include_comments=False, include_tables=True) if page.strip() else None
        except Exception as error:  # the library promises nothing about what it raises
            raise _Broken(f"cannot be read as HTML: {type(error).__name__}: {error}") from None
        if not text:
            raise _Broken("no text found in the page")
        yield from self._whole(text)

    def _pdf(self, handle: Any) -> Iterator[Document | Problem]:
        import pypdf

        logging.getLogger("pypdf").setLevel(logging.CRITICAL)
        cutter = _Cutter(self.max_chars)
        found = False
        try:
            reader = pypdf.PdfReader(self._seekable(handle), strict=False)
            if reader.is_encrypted and not reader.decrypt(""):
                raise _Broken("is encrypted: save it without a password")
            pages = len(reader.pages)
        except (_Broken, OSError):
            raise
        except Exception as error:  # as above
            raise _Broken(f"cannot be read as PDF: {type(error).__name__}: {error}") from None
        for number in range(pages):
            try:
                text = unwrap(reader.pages[number].extract_text())
            except Exception as error:  # as above
                yield Problem(f"page {number + 1} cannot be read: {type(error).__name__}: {error}")
                continue
            found = found or bool(text.strip())
            yield from cutter.feed(text + "\n")
            reader.resolved_objects.clear()  # else every page stays in memory
        yield from cutter.end()
        if not found:
            yield Problem(f"none of its {pages} pages holds text: scanned pages need text recognition first")

    def _docx(self, handle: Any) -> Iterator[Document | Problem]:
        import zipfile

        import docx
        from docx.table import Table

        source = self._seekable(handle)
        if source.read(8) == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
            raise _Broken("is of an old Word (.doc) or encrypted: save it as .docx without a password")
        source.seek(0)
        try:
            with zipfile.ZipFile(source) as archive:
                size = sum(entry.file_size for entry in archive.infolist() if entry.filename.endswith(".xml"))
            if size > WHOLE_LIMIT:
                raise _Broken(f"its text is larger than {WHOLE_LIMIT >> 20} MiB")
            source.seek(0)
            lines: list[str] = []
            document = docx.Document(source)
            numbers = Numbers(document)
            for block in document.iter_inner_content():
                if isinstance(block, Table):
                    for row in block.rows:
                        cells = row.cells
                        elements = [cell._tc for cell in cells]  # a merged cell is there once for each of its columns
                        single = [c for i, c in enumerate(cells) if i == 0 or elements[i] is not elements[i - 1]]
                        texts = ("\n".join(numbers.label(p) + p.text for p in cell.paragraphs) for cell in single)
                        lines.append(" ".join(filter(None, (" ".join(text.split()) for text in texts))))
                else:
                    label = numbers.label(block)  # also where there is no text: it counts
                    lines.append(label + block.text if block.text.strip() else block.text)
        except (_Broken, OSError):
            raise
        except Exception as error:  # as above
            raise _Broken(f"cannot be read as Word: {type(error).__name__}: {error}") from None
        if not any(line.strip() for line in lines):
            raise _Broken("holds no text")
        yield from self._whole("\n".join(lines))
