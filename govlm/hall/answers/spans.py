"""The spans of a text that may answer a question: runs of clauses, and what has a form of its own inside a clause (a date, a sum,
a telephone number, a name in quotation marks, a list).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TYPES", "Layout", "candidates", "layout"]

I64 = NDArray[np.int64]

TYPES: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "date": r"(?:[0-9]{4}年(?:[0-9]{1,2}月)?|[0-9]{1,2}月)(?:[0-9]{1,2}日|底|初|份)?(?:（[^）]{1,5}）)?(?:[0-9]{1,2}[时点：:](?:[0-9]{2}分?)?)?",
        "sum": r"[0-9０-９]+(?:[.,][0-9]+)?(?:[万亿千百]+)?[多余]?(?:元|美元|人民币)",
        "count": r"(?:[0-9０-９]+(?:[.,][0-9]+)?(?:[—\-～~至][0-9.]+)?(?:[万亿千百]+)?[多余]?|[一二两三四五六七八九十百]+)(?:个?工作日|[%％个名人家户例张件项条次倍天日年岁套台吨批种只支万亿辆所场期栋架]|个月|小时|分钟|公里|平方米|℃|摄氏度|公斤|米|度)(?:以上|以下|以内|左右|内)?",
        "phone": r"(?:[0-9]{3,4}[-—－])?[0-9]{7,11}|(?<![0-9])(?:1[0-9]{4}|9[0-9]{4})(?![0-9])",
        "url": r"(?:https?://|www\.)[!-~]+",
        "quoted": r"[“「\"][^”」\"\n]{2,40}[”」\"]|《[^》\n]{2,60}》",
        "organisation": r"[一-鿿（）]{2,18}?(?:公司|中心|医院|局|委员会|厅|部门|办公室|政府|银行|协会|小组|指挥部|学校|大学|集团|法院)",
        "list": r"[^，。；：！？、\s]{1,20}(?:、[^，。；：！？、\s]{1,24})+",
    }.items()
}  # forms of a span, by name
_CLAUSE = re.compile(r"[，。；：！？,;!?\n]+|\s{2,}|　+|(?<=[。；：！？])\s|\s")
_SENTENCE_END = frozenset("。！？；!?;")
_AFTER = re.compile(
    r"是|为|由|于|将|有|在|从|到|至|达|按照?|对|向|即|共|约|包括|涵盖|通过|采取|实行|要求|以|把|要|计划|预计|超过|[“《（、]"
)
_BEFORE = re.compile(r"等|起|开始|前|止|的|，|为止|进行|纳入|办理|开展|[”》）、]|方式")
_MOST_CLAUSES = 14  # of a span
_LONGEST_INNER = 60  # characters of a span that begins or ends inside a clause
_MOST_EDGES = 12  # inside a clause, on each side


@dataclass(frozen=True)
class Layout:
    """starts, ends [C]: the clauses, without their punctuation. sentence [C]: which sentence each is in. paragraph [C]. closes [C]:
    whether a sentence ends there. typed: (name of the type, start, end)."""

    starts: I64
    ends: I64
    sentence: I64
    paragraph: I64
    closes: NDArray[np.bool_]
    typed: tuple[tuple[str, int, int], ...]


def layout(text: str) -> Layout:
    starts, ends, sentence, paragraph, closes = [], [], [], [], []
    at, sentences, paragraphs = 0, 0, 0
    for mark in [*((m.start(), m.end()) for m in _CLAUSE.finditer(text)), (len(text), len(text))]:
        sign = text[mark[0] : mark[1]]
        if mark[0] > at:
            starts.append(at)
            ends.append(mark[0])
            sentence.append(sentences)
            paragraph.append(paragraphs)
            closes.append(False)
        new_paragraph = "\n" in sign or "　" in sign or (len(sign) > 1 and sign.isspace()) or mark[1] == len(text)
        after_end = mark[0] > 0 and text[mark[0] - 1] in _SENTENCE_END and sign.isspace()
        if starts and (new_paragraph or _SENTENCE_END & set(sign)):
            closes[-1] = True
            sentences += 1
        if new_paragraph or after_end:
            paragraphs += 1
        at = mark[1]
    typed = tuple((name, m.start(), m.end()) for name, pattern in TYPES.items() for m in pattern.finditer(text))
    as_array = lambda values: np.array(values, np.int64)  # noqa: E731
    return Layout(
        as_array(starts), as_array(ends), as_array(sentence), as_array(paragraph), np.array(closes, np.bool_), typed
    )  # fmt: skip


def candidates(text: str, of: Layout) -> tuple[I64, I64]:
    """(starts [N], ends [N]) of the spans worth scoring, in order, without doubles."""
    count = len(of.starts)
    found: set[tuple[int, int]] = set()
    for i in range(count):
        for j in range(i, min(i + _MOST_CLAUSES, count)):
            found.add((int(of.starts[i]), int(of.ends[j])))
        last = of.sentence[i] + 1  # longer runs end with a sentence
        for j in range(i + _MOST_CLAUSES, min(i + 4 * _MOST_CLAUSES, count)):
            if of.closes[j]:
                found.add((int(of.starts[i]), int(of.ends[j])))
                last += 1
    ends = of.ends.tolist()
    typed: dict[int, list[tuple[int, int]]] = {}
    for _, start, end in of.typed:
        found.add((start, end))
        typed.setdefault(bisect_left(ends, end), []).append((start, end))
    for i in range(count):
        low, high = int(of.starts[i]), int(of.ends[i])
        clause = text[low:high]
        begins = {low} | {low + m.end() for m in _AFTER.finditer(clause)} | {s for s, _ in typed.get(i, ()) if s >= low}
        stops = {high} | {low + m.start() for m in _BEFORE.finditer(clause)} | {e for _, e in typed.get(i, ())}
        begins, stops = set(sorted(begins)[:_MOST_EDGES]), set(sorted(stops)[-_MOST_EDGES:])
        found.update((s, e) for s in begins for e in stops if 1 < e - s <= _LONGEST_INNER)
        for extra in range(i + 1, min(i + 3, count)):  # begins inside this clause, ends with a later one
            found.update((s, int(of.ends[extra])) for s in begins)
    ordered = sorted(found)
    return np.array([s for s, _ in ordered], np.int64), np.array([e for _, e in ordered], np.int64)
