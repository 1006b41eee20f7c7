"""Policy documents from Markdown, HTML, PDF, Word and text files.

    documents, report = import_documents(["办法.docx", "通知.pdf"])

The text is the file's own, without marks of its format, line ends and white space at the ends of lines made one. What the head and the
end of a document say of it (title, 文号, issuer, dates) is read by `govlm.hall.catalogue.heads`; `passages.cut` cuts it.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from govlm.corpus.readers import Document as TextPart
from govlm.corpus.readers import Reader, find_inputs, format_of
from govlm.corpus.readers import _plain_markdown as plain_markdown
from govlm.corpus.shards import CorpusError
from govlm.hall.addresses import Divisions
from govlm.hall.catalogue import heads, tables
from govlm.hall.catalogue.passages import HEADING_MARK, cut
from govlm.hall.catalogue.records import Document, from_dict, to_dict
from govlm.hall.catalogue.regions import recognise
from govlm.hall.catalogue.report import CatalogueError, Report

__all__ = ["export_documents", "import_documents", "make_document", "read_document"]

FORMATS = ("text", "markdown", "html", "pdf", "docx")
SIZE_LIMIT = 64 << 20  # bytes of a text or Markdown file
_WHOLE = 1 << 30  # characters: a document is never cut by the reader
_META = re.compile(r"<meta\b[^>]{0,2000}>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\b(name|property|content)\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_PAGE = re.compile(r"[-—－]\s*\d{1,4}\s*[-—－]|\[pic\]|={3,}\s*PAGE \d+\s*={3,}|-{5,}|_{5,}")
_HEADING = re.compile(r"^[ \t]{0,3}(#{1,6})[ \t]+(?=\S)", re.MULTILINE)


def import_documents(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    region: str = "",
    there: Iterable[Document] = (),
    divisions: Divisions | None = None,
) -> tuple[list[Document], Report]:
    """(documents, report) of files and folders. A file that cannot be read is reported, and the others go on.

    region: GB/T 2260 code of the documents that are not the state's, "4401"; without, what a document's issuer or title names beyond doubt
    (`regions.recognise`; divisions: a gazetteer with districts); the report tells what was recognised, and of which names nothing was.
    there: documents that the catalogue has. One of the same code and title is what the new one replaces.
    Two documents of one code (an order may issue two regulations): the same text once more is left out; another text, or one with another
    title than the document that is there, gets the code with ~2 and is reported.
    """
    inputs = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    report = Report(source="、".join(Path(name).name for name in inputs[:3]) + (" …" if len(inputs) > 3 else ""), unit="份")
    found: dict[str, Document] = {}
    titles = {document.code: document.title for document in there}
    try:
        paths = list(dict.fromkeys(path for _, path in find_inputs(inputs)))
    except FileNotFoundError as error:
        raise CatalogueError(f"{error.filename}: no such file or folder") from None
    for path in paths:
        if format_of(path) == "jsonl":
            loaded = _records(path, report)
        else:
            loaded = []
            report.rows += 1
            try:
                loaded = [_placed(read_document(path, report), region, report, divisions)]
            except CatalogueError as error:
                report.add("文件", str(error).removeprefix(f"{path}: "), path.name)
                report.skipped += 1
        for document in loaded:
            if region and not document.region and document.level != "国家级":
                document = replace(document, region=region)
            _add(document, path.name, found, titles, report)
    report.imported = len(found)
    return list(found.values()), report


def _placed(document: Document, region: str, report: Report, divisions: Divisions | None) -> Document:
    """The document with the region that its issuer or title names, where none is given."""
    if region or document.region or document.level == "国家级":
        return document
    told = recognise(document, divisions)
    if told.note:
        report.add("地区", told.note, document.source)
    return replace(document, region=told.code)


def _add(document: Document, name: str, found: dict[str, Document], there: dict[str, str], report: Report) -> None:
    code, number = document.code, 1
    while (document.code in found and found[document.code].text != document.text) or (
        there.get(document.code, document.title) != document.title
    ):
        number += 1
        document = replace(document, code=f"{code}~{number}")
    if document.code in found:
        report.add("重复", f"与{found[document.code].source}内容相同，不再导入", name)
        report.skipped += 1
        return
    if number > 1:
        other = found[code].source if code in found else f"目录中的《{there[code]}》"
        report.add("重复", f"与{other}的编码相同、内容不同，编码改为{document.code}", name)
    for field, label in (("number", "文号"), ("issuer", "发文机关"), ("issued", "发布日期"), ("valid_from", "生效日期")):
        if not getattr(document, field):
            report.add("缺少", "没有找到", name, label)
    found[document.code] = document


def _records(path: Path, report: Report) -> list[Document]:
    """The documents of a file that `export_documents` wrote; a line that is none is reported."""
    found = []
    rows, _ = tables.rows(path, report)
    for number, row in rows:
        try:
            found.append(from_dict(Document, row))
        except ValueError as error:
            report.add("文件", f"不是文件的记录：{error}", f"{path.name}:{number}")
            report.skipped += 1
    return found


def export_documents(documents: Iterable[Document], path: str | os.PathLike[str]) -> int:
    """Writes documents to a .jsonl file (.jsonl.gz too), whole or not at all, and returns their number. `import_documents` reads it."""
    path = Path(path)
    if tables.format_of(path) != "jsonl":
        raise CatalogueError(f"{path}: documents are written as .jsonl")
    records = [to_dict(document) for document in documents]
    tables.write(path, [], records)
    return len(records)


def read_document(path: str | os.PathLike[str], report: Report | None = None) -> Document:
    """The document of one file. CatalogueError: it cannot be read, or holds no text. Parts that were left out go to the report."""
    path = Path(path)
    report = report if report is not None else Report()
    kind = format_of(path)
    if kind not in FORMATS:
        raise CatalogueError(f"{path}: unknown kind of document (known: .txt, .md, .html, .pdf, .docx)")
    meta: dict[str, str] = {}
    if kind in ("text", "markdown"):
        text = _decoded(path)
        if kind == "markdown":
            text, meta = _saved_page(text)
            marked = _HEADING.sub(lambda match: f"{HEADING_MARK}{len(match[1])} ", text)
            text = "\n".join(plain_markdown(marked.split("\n")))
        else:
            text = _unwrap(text)
    else:
        text = _read(path, report)
        if kind == "html":
            meta = _meta(path)
            text = _without_links(text)
    document = make_document(text, source=path.name, meta=meta)
    if not document.text:
        raise CatalogueError(f"{path}: holds no text")
    return document


def make_document(text: str, *, source: str = "", meta: dict[str, str] | None = None, **known: Any) -> Document:
    """A document of a text. known: fields of Document that are certain; the others are read from the text and the file's name.

    Lines that begin with U+E000, a digit and a space are headings of that level. meta: what the page says of itself (the tags that
    every Chinese government site has: ArticleTitle, PubDate, ContentSource, Url).
    """
    text, headings = _clean(text)
    head = heads.read(text, source, meta or {}, headings)
    values = {name: value for name, value in head.items() if value is not None} | known
    title = str(values["title"])
    code = values.pop("code", None) or values.get("number") or title
    return Document(code=code, text=text, source=source, passages=cut(text, title, headings), **values)


def _clean(text: str) -> tuple[str, dict[int, int]]:
    """(text with its lines bare and at most one blank line between them, offset of a marked heading -> level)."""
    lines: list[str] = []
    headings: dict[int, int] = {}
    size = 0
    for line in re.split(r"\r\n|[\n\r\v\f\x85\u2028\u2029]", text):
        bare = line.replace("\ufeff", "").strip()
        if _PAGE.fullmatch(bare) or (not bare and (not lines or not lines[-1])):
            continue
        if bare.startswith(HEADING_MARK) and bare[1:2].isdigit():
            level, bare = int(bare[1]), bare[2:].strip()
            if not bare:
                continue
            headings[size] = level
        lines.append(bare)
        size += len(bare) + 1
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines), headings


def _decoded(path: Path) -> str:
    """A text file in UTF-8, UTF-16 with its mark, or GB18030."""
    import gzip
    import lzma
    import zlib

    try:
        opener: Any = {".gz": gzip.open, ".xz": lzma.open, ".lzma": lzma.open}.get(path.suffix.lower(), open)
        with opener(path, "rb") as handle:
            whole: bytes = handle.read(SIZE_LIMIT + 1)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CatalogueError(f"{path}: is damaged: {error}") from None
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(whole) > SIZE_LIMIT:
        raise CatalogueError(f"{path}: is larger than {SIZE_LIMIT >> 20} MiB")
    encodings = ("utf-16",) if whole.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "gb18030")
    for encoding in encodings:
        try:
            text = whole.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" in text:
            break
        return text
    raise CatalogueError(f"{path}: is no text in UTF-8 or GB18030")


def _read(path: Path, report: Report) -> str:
    """The text of a file in a format that a library reads."""
    reader = Reader(max_chars=_WHOLE)
    try:
        reader.require([format_of(path)])
    except CorpusError:
        raise CatalogueError(f'{path}: needs the document readers: pip install "govlm[hall]"') from None
    parts, problems = [], []
    for piece in reader.read(path):
        if isinstance(piece, TextPart):
            parts.append(piece.text)
        else:
            problems.append(piece.message)
    if not parts:
        raise CatalogueError(f"{path}: {problems[0] if problems else 'holds no text'}")
    for problem in problems:
        report.add("文件", problem, path.name)
    return "\n".join(parts)


def _meta(path: Path) -> dict[str, str]:
    """name -> content of the page's meta tags, names in lower case."""
    found: dict[str, str] = {}
    if path.suffix.lower() in (".gz", ".xz", ".lzma"):
        return found
    whole = path.read_bytes()
    try:
        page = whole.decode("utf-8")
    except UnicodeDecodeError:  # older sites
        page = whole.decode("gb18030", "replace")
    for tag in _META.findall(page):
        attributes = {name.lower(): html.unescape(a or b).strip() for name, a, b in _ATTRIBUTE.findall(tag)}
        name = (attributes.get("name") or attributes.get("property") or "").lower()
        if name and attributes.get("content"):
            found.setdefault(name, attributes["content"])
    return found


def _saved_page(text: str) -> tuple[str, dict[str, str]]:
    """Markdown that a reader made of a web page begins with lines such as "URL Source: …"."""
    match = re.match(r"Title: ([^\n]+)\n+URL Source: (\S+)\n+(?:Published Time: ([^\n]+)\n+)?(?:Markdown Content:\n)?", text)
    if not match:
        return text, {}
    return text[match.end() :], {"articletitle": match[1], "url": match[2], "pubdate": match[3] or ""}


def _without_links(text: str) -> str:
    """The text of a page without the list of other sites that stands under it (· 市教育局, · 市财政局, …)."""
    lines = text.rstrip().split("\n")
    kept = len(lines)
    while kept and re.match(r"·\s*\S{1,30}$", lines[kept - 1]):
        kept -= 1
    return "\n".join(lines[:kept] if len(lines) - kept >= 10 else lines)


def _wide(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WFA" else 1 for char in line)


def _unwrap(text: str) -> str:
    """Joins the lines of a text that was broken at a fixed width, as a converted Word file is: many lines equally wide, paragraphs
    indented. Another text stays as it is."""
    lines = text.replace("\r\n", "\n").split("\n")
    widths = [_wide(line.rstrip()) for line in lines]
    full = sorted(width for width in widths if width >= 40)
    if len(full) < 8:
        return text
    width = full[int(len(full) * 0.9)]
    reach = [abs(entry - width) <= 4 for entry in widths]
    if width > 160 or sum(reach) < 0.25 * sum(1 for line in lines if line.strip()):
        return text
    out: list[str] = []
    for i, line in enumerate(lines):
        goes_on = i and reach[i - 1] and line.strip() and not line[:1].isspace() and not line.startswith("|")
        if goes_on and not lines[i - 1].lstrip().startswith("|"):
            out[-1] += line.strip()
        else:
            out.append(line.rstrip())
    return "\n".join(out)
