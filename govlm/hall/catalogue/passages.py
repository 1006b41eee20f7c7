"""Cuts the text of a law or policy document into passages with stable ids.

An article is 第三条; where it has several paragraphs (款) they are passages too, 第三条/1, 第三条/2, and so are the items (项) of a
paragraph, 第三条/2/一. Text outside articles is cut into paragraphs, 段1, 段2, …. Passages without a slash tile the document: every
character stands in one of them, but for headings and white space; the others lie within them and come after them.
An article's id is its own number, so one that is inserted elsewhere renames no other; a second 第一条 (an annex may count anew) is
第一条~2.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from govlm.hall.catalogue.records import Passage

__all__ = ["HEADING_MARK", "cut", "first_article", "numeral", "top"]

HEADING_MARK = "\ue000"  # before a line that its format says is a heading; `cut` is told by `headings` instead
_NUM = "一二三四五六七八九十百千零〇两0-9０-９"
_ARTICLE = re.compile(rf"第\s*([{_NUM}]+)\s*条((?:之[{_NUM}]+)?)(?P<gap>[\s　:：]*)")
_REFERENCE = re.compile(
    rf"第[{_NUM}]+[款项条]|[规所中之至到或及和与、，,。；的内]"
)  # what follows a number that is only mentioned
_PART = re.compile(rf"第\s*[{_NUM}]+\s*(编|部分|分编|章|节)(?:[\s　].*|[^，。；：]{{0,30}})?")
_RANKS = {"编": 0, "部分": 0, "分编": 1, "章": 2, "节": 3}
_SECTION = re.compile(r"[一二三四五六七八九十]+、[^。；：，！？]{1,40}")
_ITEM = re.compile(r"[（(]([一二三四五六七八九十百]+)[）)]")
_SUB_ITEM = re.compile(r"(?:[（(][0-9０-９]{1,2}[）)]|[0-9０-９]{1,2}[.、．](?![0-9]))")
_END = re.compile(
    r"(?:附件|附表|附录|附图)[\s　0-9０-９一二三四五六七八九十]*(?:[:：].*)?|附[:：].*|(?:公开方式|抄送|抄报|主题词|承办单位)[:：].*"
)
_CONTENTS = {"目录", "总则", "附则", "序言"}
_LONGEST = 16  # characters of a number
_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}


def numeral(text: str) -> int | None:
    """The number that 一百二十三, １２３ or 123 says; None where it is none."""
    text = text.translate({ord("０") + i: str(i) for i in range(10)})
    if len(text) > _LONGEST:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    total = digit = 0
    for char in text:
        if char in _DIGITS:
            digit = (
                digit * 10 + _DIGITS[char] if digit and total == 0 and "十" not in text and "百" not in text else _DIGITS[char]
            )
        elif char in "十百千":
            total += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char]
            digit = 0
        else:
            return None
    return total + digit if text else None


@dataclass
class _Article:
    id: str
    heading: str
    start: int
    end: int
    paragraphs: list[list[int]] = field(default_factory=list)  # [start, end]


def _squeezed(text: str) -> str:
    return re.sub(r"[\s　]", "", text).translate({ord("０") + i: str(i) for i in range(10)})


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(offset, line) of the lines that are not blank, without the white space around them."""
    start = 0
    for line in text.split("\n"):
        bare = line.strip()
        if bare:
            yield start + line.index(bare), bare
        start += len(line) + 1


def _article_at(line: str, last: int | None) -> tuple[str, int] | None:
    """(id, number) of the article that begins here. Without a space after it, a number must be the next one."""
    match = _ARTICLE.match(line)
    if not match:
        return None
    number = numeral(match[1])
    if number is None:
        return None
    rest = line[match.end() :]
    name = f"第{_squeezed(match[1])}条{match[2]}"
    if match["gap"]:
        return None if re.match(rf"第[{_NUM}]+[款项]", rest) else (name, number)
    if not rest or rest[0] in "【（([":
        return name, number
    follows = number == (last or 0) + 1 or (bool(match[2]) and number == last)
    return (name, number) if follows and not _REFERENCE.match(rest) else None


def first_article(text: str) -> int:
    """Where the first article begins; the length of the text where there is none."""
    for start, line in _lines(text):
        if _article_at(line, None):
            return start
    return len(text)


def _part(line: str) -> int | None:
    """The rank of a heading of a 编, 章 or 节."""
    match = _PART.fullmatch(line)
    if match and len(line) <= 60 and not line.endswith(("。", "；", "，", "：")):
        return _RANKS[match[1]]
    return 2 if _squeezed(line) in _CONTENTS else None


def cut(text: str, title: str = "", headings: dict[int, int] | None = None) -> tuple[Passage, ...]:
    """The passages of a text, in its order.

    title: a line that is nothing else is a heading.  headings: offset of a line -> its level (1 = the highest), for lines that the
    document's format marks as headings.
    """
    headings = headings or {}
    found: list[_Article] = []
    path: dict[int, str] = {}
    seen: dict[str, int] = {}
    article: _Article | None = None
    last: int | None = None
    outside = titles = 0
    bare_title = _squeezed(title)
    for start, line in _lines(text):
        end = start + len(line)
        begins = _article_at(line, last)
        if begins:
            name, last = begins
            seen[name] = seen.get(name, 0) + 1
            article = _Article(name if seen[name] == 1 else f"{name}~{seen[name]}", _heading(path), start, end, [[start, end]])
            found.append(article)
            continue
        titled = bool(bare_title) and _squeezed(line) == bare_title
        if titled and article is not None and titles:
            continue  # the running head of a page
        titles += titled
        rank = -1 if titled else _part(line)
        if rank is None and start in headings:
            rank = 10 + headings[start]
        if rank is None and article is None and _SECTION.fullmatch(line):
            rank = 30
        if rank is not None:
            path = {level: name for level, name in path.items() if level < rank}
            if rank >= 0:
                path[rank] = line
            else:
                last = None  # a document that was enclosed with another
            article = None
            continue
        if _END.fullmatch(line):
            article = None
        if article is None:
            outside += 1
            found.append(_Article(f"段{outside}", _heading(path), start, end, [[start, end]]))
        elif _ITEM.match(line) or _SUB_ITEM.match(line):
            article.paragraphs[-1][1] = article.end = end
        else:
            article.paragraphs.append([start, end])
            article.end = end
    return tuple(passage for entry in found for passage in _passages(text, entry))


def _heading(path: dict[int, str]) -> str:
    return " ".join(path[rank] for rank in sorted(path))


def _passages(text: str, article: _Article) -> Iterator[Passage]:
    yield Passage(article.id, article.start, article.end, article.heading)
    if not article.id.startswith("第"):
        return
    for number, (start, end) in enumerate(article.paragraphs, 1):
        if len(article.paragraphs) > 1:
            yield Passage(f"{article.id}/{number}", start, end, article.heading)
        starts = _items(text, start, end)
        for (at, name), (stop, _) in itertools.pairwise([*starts, (end, "")]):
            yield Passage(f"{article.id}/{number}/{name}", at, at + len(text[at:stop].rstrip()), article.heading)


def _items(text: str, start: int, end: int) -> list[tuple[int, str]]:
    """(offset, number) of the items of a paragraph: （一）, （二）, … in sequence, each at the beginning of a line or of a clause."""
    found: list[tuple[int, str]] = []
    for match in _ITEM.finditer(text, start, end):
        before = text[start : match.start()].rstrip(" \t　")
        if numeral(match[1]) == len(found) + 1 and (not before or before[-1] in "\n：:；;。，,"):
            found.append((match.start(), match[1]))
    return found if len(found) > 1 else []


def top(passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
    """The passages that tile the document: articles whole, and paragraphs outside articles."""
    return tuple(passage for passage in passages if "/" not in passage.id)
