"""What speaks for a span as the answer to a question: features that a linear model weighs (`extract.py`).

Words of the question found in the span, before it, after it and in its sentence, each weighed by its rarity in the text; how far the
form of the span is what the question word asks for; how long it is; where it begins and ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.spans import TYPES, Layout

__all__ = ["FEATURE_NAMES", "QUESTION_TYPES", "Question", "features"]

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

QUESTION_TYPES: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "amount": r"多少|几[个家人名天项种次条元年月倍]|多大|多长|多高|比例|金额|数量|标准是",
        "money": r"多少[万亿]?[钱元]|几块钱|金额|标准是多少",
        "when": r"什么时[候间]|何时|时间|几[月日号点]|哪[天年日]|多久|期限|截[止至]|日期",
        "phone": r"电话|热线|号码|联系方式",
        "who": r"谁|哪(?:个|些|家|几个)?(?:部门|单位|企业|机构|公司|人|组织|城市|地区|省|国家|医院|银行)|什么(?:部门|单位|机构|人)|由谁",
        "where": r"哪里|哪儿|何[处地]|什么地[方点]|地[址点]|网[址站]|平台|哪些?地|路径|渠道|途径",
        "list": r"哪些|哪几|什么样|几[个项种类]方面",
        "how": r"如何|怎么|怎样|怎么样|方式|方法|办法",
        "measures": r"措施|要求|规定|政策|举措|做法|工作|行动|支持|帮助|注意|保障|准备|部署|安排|处罚|后果|建议",
        "what": r"什么|何种|哪[个种项一]|是指",
    }.items()
}
_ASKS = re.compile(
    r"什么时候|什么时间|什么地方|什么样的?|什么|何时|何地|何种|为何|为什么|哪些|哪几[个项种]?|哪里|哪儿|哪[个种家项一天年]?|如何|怎么样|怎么|怎样的?|多少|多久|多长|多大|几|谁|是否|吗|呢|[？?]"
)
_SHORT = ("amount", "money", "when", "phone", "who", "where")
_IDLE = frozenset("的了和与及在对将有是为做被把于等中")
_BEFORE = "是为由于：，。“、；至在对\n 从将）"
_NEXT = "。，；、等起的”：\n ）前止（"
_FIRST = "为对在要加按实一二三各全严积将已根由从即此其并不可凡应以进所因经同如当开切确自该本有"
_NUMBERED = re.compile(
    r"(?:[一二三四五六七八九十]+(?:[、是要]|方面)|（[一二三四五六七八九十0-9]+）|[0-9]{1,2}[.、．](?![0-9])|第[一二三四五六])"
)
_EDGES = (
    "begins a clause", "begins a sentence", "begins a paragraph", "follows a colon", "numbered", "ends a clause", "ends a sentence",
    "ends a paragraph", "one sentence or more, whole", "crosses a paragraph", "next is numbered",
)  # fmt: skip
_BASE = (
    "words inside", "words inside, share", "words inside a character", "words in 6 before", "words in 15 before", "words in 40 before",
    "words in 8 after", "words in 20 after", "first half in 15 before", "second half in 10 after", "second half inside",
    "second half in 15 before", "first half inside",
    "clause", "clause before", "two clauses before", "sentence", "sentence before", "sentence after", "clauses of the sentence before",
    "window", "paragraph", "paragraph's first sentence", "sentence, of the best", "sentence before, of the best", "best sentence",
    "best sentence before", "best clause", "best clause before", "best clause inside", "bm25 of the sentence",
    "bm25 of the sentence before", "bm25 of all", "place", "first clause of the text", "sentences", "clauses", "digits a character",
    "commas a character", "numbers inside",
)  # fmt: skip
FEATURE_NAMES: tuple[str, ...] = (
    *_BASE,
    *(f"{edge}: {group}" for group in ("short", "long") for edge in _EDGES),
    *(f"{name}: {kind}" for name in ("length", "length squared", "one clause") for kind in ("any", *QUESTION_TYPES)),
    *(f"is a {form}: {kind}" for form in TYPES for kind in ("any", *QUESTION_TYPES)),
    *(f"holds a {form}: {kind}" for form in TYPES for kind in ("any", *QUESTION_TYPES)),
    *(f"after {char!r}: {group}" for group in ("short", "long") for char in _BEFORE),
    *(f"before {char!r}: {group}" for group in ("short", "long") for char in _NEXT),
    *(f"first {char!r}" for char in _FIRST),
    "similarity",
)


@dataclass(frozen=True)
class Question:
    """pairs: pairs of letters with their half: 1 before the word that asks, 2 after it. types [K]: as QUESTION_TYPES."""

    text: str
    pairs: dict[str, int]
    types: NDArray[np.bool_]

    @classmethod
    def of(cls, text: str) -> Question:
        asks = [m.span() for m in _ASKS.finditer(text)]
        pairs: dict[str, int] = {}
        kept = "".join("\n" if any(s <= i < e for s, e in asks) else char for i, char in enumerate(text))
        middle = asks[0][0] if asks else len(text)
        for i in range(len(kept) - 1):
            pair = kept[i : i + 2]
            if pair[0].isalnum() and pair[1].isalnum() and not (pair[0] in _IDLE and pair[1] in _IDLE):
                pairs.setdefault(pair, 1 if i < middle else 2)
        types = np.array([bool(pattern.search(text)) for pattern in QUESTION_TYPES.values()], np.bool_)
        return cls(text, pairs, types)


def _sums(values: F32 | NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def features(question: Question, text: str, of: Layout, starts: I64, ends: I64, similarity: F32 | None = None) -> F32:
    """[N, len(FEATURE_NAMES)] of the spans [starts, ends). similarity [C]: of the clauses, by an encoder; a span has the mean of
    its clauses, 0 without an encoder."""
    size, count = len(text), len(of.starts)
    length = (ends - starts).astype(np.float32)
    names = list(question.pairs)
    number = {pair: i for i, pair in enumerate(names)}
    half = np.array([question.pairs[name] for name in names], np.int64)
    places = [(t, number[text[t : t + 2]]) for t in range(size - 1) if text[t : t + 2] in number]
    at = np.array([t for t, _ in places], np.int64)
    which = np.array([k for _, k in places], np.int64)
    clause_of = np.minimum(np.searchsorted(of.ends, at, "right"), max(count - 1, 0))
    has = np.zeros((count, len(names)), np.bool_)  # which clause has which pair
    has[clause_of, which] = True
    sentence_first = np.flatnonzero(np.r_[True, of.sentence[1:] != of.sentence[:-1]]) if count else np.zeros(0, np.int64)
    sentence = np.cumsum(np.r_[0, (of.sentence[1:] != of.sentence[:-1]).astype(np.int64)]) if count else of.sentence
    by_sentence = np.logical_or.reduceat(has, sentence_first, axis=0)
    seen = by_sentence.sum(axis=0)
    rarity = (
        np.log(1 + (len(by_sentence) - seen + 0.5) / (seen + 0.5)).astype(np.float32) if len(names) else np.zeros(0, np.float32)
    )
    total = float(rarity.sum()) + 1e-6

    def cover(rows: NDArray[np.bool_]) -> F32:
        found: F32 = (rows @ rarity / total).astype(np.float32)
        return found

    # per character
    weight, first_half, second_half = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    if len(at):
        np.add.at(weight, at, rarity[which])
        np.add.at(first_half, at, rarity[which] * (half[which] == 1))
        np.add.at(second_half, at, rarity[which] * (half[which] == 2))
    sum_all, sum_first, sum_second = _sums(weight), _sums(first_half), _sums(second_half)

    def inside(sums: NDArray[np.float64], low: I64, high: I64) -> F32:
        low, high = np.clip(low, 0, size), np.clip(high, 0, size)
        return ((sums[np.maximum(high - 1, low)] - sums[low]) / total).astype(np.float32)

    # per clause and sentence
    ci = np.minimum(np.searchsorted(of.ends, starts, "right"), count - 1)
    cj = np.minimum(np.searchsorted(of.ends, ends, "left"), count - 1)
    si, sj = sentence[ci], sentence[cj]
    clause = cover(has)
    of_sentence = cover(by_sentence)
    shifted = np.vstack([np.zeros((1, len(names)), np.bool_), has[:-1]])
    twice = np.vstack([np.zeros((2, len(names)), np.bool_), has[:-2]])[:count]
    lead = has.copy()  # what the sentence says before this clause
    for k in range(1, count):
        lead[k] = lead[k - 1] | has[k - 1] if sentence[k] == sentence[k - 1] else False
    if count:
        lead[0] = False
    window = cover(has | shifted | twice)
    paragraph = np.cumsum(np.r_[0, (of.paragraph[1:] != of.paragraph[:-1]).astype(np.int64)]) if count else of.paragraph
    paragraph_first = np.flatnonzero(np.r_[True, paragraph[1:] != paragraph[:-1]])
    of_paragraph = cover(np.logical_or.reduceat(has, paragraph_first, axis=0))
    opening = of_sentence[sentence[paragraph_first]]

    def shift(values: F32, index: I64, by: int) -> F32:
        moved = index + by
        return np.where((moved >= 0) & (moved < len(values)), values[np.clip(moved, 0, len(values) - 1)], 0).astype(np.float32)

    best_sentence, best_clause = int(of_sentence.argmax()), int(clause.argmax())
    top = float(of_sentence.max()) + 1e-6
    lengths = np.add.reduceat((of.ends - of.starts).astype(np.float32), sentence_first)
    counts = np.zeros((len(by_sentence), len(names)), np.float32)
    np.add.at(counts, (sentence[clause_of], which), 1)
    bm25 = (
        ((counts * 2.2 / (counts + 1.2 * (0.25 + 0.75 * lengths / lengths.mean())[:, None])) @ rarity)
        if len(names)
        else lengths * 0
    )
    bm25 = (bm25 / (bm25.max() + 1e-6)).astype(np.float32)
    bm25_sums = _sums(bm25)
    digit = _sums(np.array([char.isdigit() for char in text], np.bool_))
    comma = _sums(np.array([char in "，、" for char in text], np.bool_))
    within = inside(sum_all, starts, ends)
    base = [
        np.minimum(within, 1.5), within * total / (float(weight.sum()) + 1e-6), within / length * 20,
        inside(sum_all, starts - 6, starts + 1), inside(sum_all, starts - 15, starts + 1), inside(sum_all, starts - 40, starts + 1),
        inside(sum_all, ends, ends + 8), inside(sum_all, ends, ends + 20), inside(sum_first, starts - 15, starts + 1),
        inside(sum_second, ends, ends + 10), inside(sum_second, starts, ends), inside(sum_second, starts - 15, starts + 1),
        np.minimum(inside(sum_first, starts, ends), 1.5),
        clause[ci], shift(clause, ci, -1), shift(clause, ci, -2), of_sentence[si], shift(of_sentence, si, -1),
        shift(of_sentence, sj, 1), cover(lead)[ci], window[ci], of_paragraph[paragraph[ci]], opening[paragraph[ci]],
        of_sentence[si] / top, shift(of_sentence, si, -1) / top, si == best_sentence, si - 1 == best_sentence, ci == best_clause,
        ci - 1 == best_clause, (ci <= best_clause) & (cj >= best_clause), bm25[si], shift(bm25, si, -1),
        (bm25_sums[sj + 1] - bm25_sums[si]) / (sj - si + 1), starts / size, ci == 0, np.log1p(sj - si), np.log1p(cj - ci),
        (digit[ends] - digit[starts]) / length, (comma[ends] - comma[starts]) / length * 10,
        np.log1p(digit[ends] - digit[starts]),
    ]  # fmt: skip
    found = np.zeros((len(starts), len(FEATURE_NAMES)), np.float32)
    for column, values in enumerate(base):
        found[:, column] = values
    codes = np.frombuffer(f"{text}\n".encode("utf-32-le", "surrogatepass"), "<u4")
    before, after, first = codes[starts - 1], codes[ends], codes[starts]  # codes[-1] is a line's end
    edges = _edges(text, of, starts, ends, ci, cj, sentence_first, paragraph_first, before == ord("："))
    short = any(question.types[i] for i, name in enumerate(QUESTION_TYPES) if name in _SHORT)
    kinds = [0, *(1 + np.flatnonzero(question.types))]
    column = len(_BASE) + (0 if short else len(_EDGES))
    found[:, column : column + len(_EDGES)] = edges.T
    column = len(_BASE) + 2 * len(_EDGES)
    log = np.log(length) / 4
    size_of = 1 + len(QUESTION_TYPES)
    for values in (log, log**2, (ci == cj).astype(np.float32)):
        for kind in kinds:
            found[:, column + kind] = values
        column += size_of
    keys = starts * (size + 1) + ends  # ascending
    exact, held = np.zeros((len(TYPES), len(starts)), np.bool_), np.zeros((len(TYPES), len(starts)), np.bool_)
    for form, name in enumerate(TYPES):
        mine = np.array([(s, e) for other, s, e in of.typed if other == name], np.int64).reshape(-1, 2)
        if len(mine):
            exact[form] = np.isin(keys, mine[:, 0] * (size + 1) + mine[:, 1])
            ended = np.searchsorted(np.sort(mine[:, 1]), ends, "right")
            begun = np.searchsorted(np.sort(mine[:, 0]), starts, "left")
            held[form] = ended > begun
    for rows in (*exact, *held):
        for kind in kinds:
            found[:, column + kind] = rows
        column += size_of
    span = np.arange(len(starts))
    for chars, seen_there in ((_BEFORE, before), (_NEXT, after)):
        place = _place_in(chars, seen_there)
        known = place >= 0
        found[span[known], column + (0 if short else len(chars)) + place[known]] = 1
        column += 2 * len(chars)
    place = _place_in(_FIRST, first)
    found[span[place >= 0], column + place[place >= 0]] = 1
    if similarity is not None:
        sums = _sums(similarity)
        found[:, -1] = (sums[cj + 1] - sums[ci]) / (cj - ci + 1)
    return found


def _place_in(chars: str, codes: NDArray[np.uint32]) -> I64:
    """Where each code stands in `chars`; -1 = nowhere."""
    order = np.argsort([ord(char) for char in chars])
    known = np.array([ord(char) for char in chars])[order]
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    found: I64 = np.where(known[at] == codes, order[at], -1)
    return found


def _edges(
    text: str, of: Layout, starts: I64, ends: I64, ci: I64, cj: I64, sentences: I64, paragraphs: I64, colon: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """[len(_EDGES), N]. ci, cj: the clauses of the first and the last character; sentences, paragraphs: their first clauses."""
    count = len(of.starts)
    new_sentence, new_paragraph = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    new_sentence[sentences] = new_paragraph[paragraphs] = True
    last_of_sentence, last_of_paragraph = np.append(new_sentence[1:], True), np.append(new_paragraph[1:], True)
    numbered = np.array([bool(_NUMBERED.match(text, s)) for s in of.starts.tolist()], np.bool_)
    begins, stops = of.starts[ci] == starts, of.ends[cj] == ends
    return np.stack([
        begins, begins & new_sentence[ci], begins & new_paragraph[ci], colon, begins & numbered[ci], stops,
        stops & last_of_sentence[cj], stops & last_of_paragraph[cj],
        begins & stops & new_sentence[ci] & last_of_sentence[cj], of.paragraph[ci] != of.paragraph[cj],
        stops & np.append(numbered[1:], False)[cj],
    ])  # fmt: skip
