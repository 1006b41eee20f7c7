"""Files that somebody uploads: taken piece by piece, never larger than they may be, and known by what they hold, not by their names."""

from __future__ import annotations

import codecs
import re
import unicodedata
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from govlm.portal.errors import PortalError

__all__ = ["Form", "form", "kind_of", "uploaded"]

TABLES = (".xlsx", ".jsonl", ".csv", ".tsv")
DOCUMENTS = (".pdf", ".docx", ".html", ".md", ".txt", ".jsonl")
MAPPINGS = (".json", ".toml")
_ALSO = {".htm": ".html", ".markdown": ".md", ".ndjson": ".jsonl", ".json": ".jsonl"}
_INSIDE = {"xl/workbook.xml": ".xlsx", "word/document.xml": ".docx"}  # what a ZIP file of the kind holds
_INFLATED = 20  # times the limit that a ZIP file's content may have
_PIECE = 1 << 16
_FILES, _FIELDS = 200, 20


class Form:
    """A form that was sent: its texts, and its files by the name of their field, in a folder that goes with the request."""

    def __init__(self, texts: dict[str, str], files: dict[str, list[Path]]) -> None:
        self.texts, self.files = texts, files

    def yes(self, name: str) -> bool:
        return self.texts.get(name, "").lower() in ("1", "true", "on", "yes")


@asynccontextmanager
async def form(request: Request, limit: int) -> AsyncIterator[Form]:
    """A multipart form of `limit` bytes at most. PortalError "too_large" as soon as it is seen to be larger; "bad_request": it is none.

    The body is read here, not before: who may not upload is refused without it. Files keep their names, made safe.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise PortalError("too_large")
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise PortalError("unsupported_type", "请以文件上传表单（multipart/form-data）提交。")
    parser = MultiPartParser(request.headers, _limited(request, limit), max_files=_FILES, max_fields=_FIELDS)
    try:
        given = await parser.parse()
    except (MultiPartException, KeyError):
        raise PortalError("bad_request", "上传的表单无法理解。") from None
    try:
        with TemporaryDirectory(prefix="govlm-upload-") as folder:
            texts: dict[str, str] = {}
            files: dict[str, list[Path]] = {}
            for number, (name, value) in enumerate(given.multi_items()):
                if isinstance(value, UploadFile):
                    place = Path(folder, str(number))
                    place.mkdir()
                    file = place / _name(value.filename or "")
                    with file.open("wb") as handle:
                        while piece := await value.read(_PIECE):
                            handle.write(piece)
                    if file.stat().st_size or value.filename:  # a field that was left empty is sent, too
                        files.setdefault(name, []).append(file)
                else:
                    texts[name] = value
            yield Form(texts, files)
    finally:
        await given.close()


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > limit:
            raise PortalError("too_large")
        yield piece


def _name(given: str) -> str:
    """The last part of a name, without what a file system or a page could take amiss."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    plain = "".join(char if char.isalnum() or char in "._-()（）《》〔〕 " else "_" for char in last).strip(" .")
    return plain[-80:].lstrip(" .") or "文件"


def uploaded(file: Path, allowed: tuple[str, ...], limit: int) -> Path:
    """The file, under a name that ends as its content wants. PortalError "unsupported_type": it is none of the allowed kinds, or another
    than it calls itself; "too_large": what is packed in it is."""
    kind = kind_of(file, allowed, limit)
    return file if file.suffix == kind else file.rename(file.with_name(f"{file.stem}{kind}"))


def kind_of(file: Path, allowed: tuple[str, ...], limit: int) -> str:
    """The ending that the content wants, one of `allowed`. Errors as for `uploaded`."""
    suffix = file.suffix.lower()
    called = suffix if suffix in allowed else _ALSO.get(suffix, suffix)
    with file.open("rb") as handle:
        start = handle.read(1024)
    if start.startswith(b"PK\x03\x04"):
        found = _packed(file, limit)
    elif b"%PDF-" in start:
        found = ".pdf"
    elif called in (".pdf", ".docx", ".xlsx") or not _is_text(file):
        found = ""
    elif called in allowed:
        found = called
    else:
        found = next((kind for kind in _guessed(start) if kind in allowed), "")
    if found not in allowed:
        raise PortalError(
            "unsupported_type", f"{file.name[:60]}：内容不是可以导入的类型。可以导入：{'、'.join(allowed)}。", fields=["files"]
        )
    return found


def _packed(file: Path, limit: int) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    if size > _INFLATED * limit:
        raise PortalError("too_large", f"{file.name[:60]}：压缩的内容过大。", fields=["files"])
    return next((kind for name, kind in _INSIDE.items() if name in names), "")


def _guessed(start: bytes) -> tuple[str, ...]:
    """Kinds of text, the likeliest first."""
    plain = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if plain.startswith((b"<!doctype html", b"<html")):
        return (".html",)
    if plain.startswith(b"{"):
        return (".jsonl", ".json", ".txt")
    return (".txt", ".csv", ".toml")


def _is_text(file: Path) -> bool:
    """Whether all of it is UTF-8, UTF-16 with its mark, or GB18030, without NUL."""
    with file.open("rb") as handle:
        mark = handle.read(2)
    names = ("utf-16",) if mark in (b"\xff\xfe", b"\xfe\xff") else ("utf-8", "gb18030")
    return any(_decodes(file, name) for name in names)


def _decodes(file: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with file.open("rb") as handle:
        try:
            while piece := handle.read(_PIECE):
                if "\x00" in decoder.decode(piece):
                    return False
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True
