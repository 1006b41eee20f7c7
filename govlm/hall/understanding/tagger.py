"""A linear-chain conditional random field over characters: persons, addresses and organisations in a sentence.

Lafferty, McCallum and Pereira, "Conditional random fields" (2001). The features of a character are the characters around it, alone
and joined, what lists of names say of them, and what the recognisers found there (`hints`). A feature is a hash; the weights that
matter are kept, in 8 bits, in assets/understanding/tagger.npz. `tagger_fitting` makes them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.hall.addresses import find_divisions
from govlm.hall.understanding.name_parts import (
    DOUBLE_FAMILY_NAMES,
    FAMILY_NAMES,
    GIVEN,
    KIN,
    ORGANISATION_ENDINGS,
    TRANSLITERATED,
)

__all__ = ["KINDS", "LABELS", "Tagged", "Tagger", "features"]

FILE = Path(__file__).resolve().parents[2] / "assets" / "understanding" / "tagger.npz"

KINDS = ("name", "address", "organisation")
LABELS = ("O", *(f"{place}-{kind}" for kind in KINDS for place in "BIE"))  # the first, a middle, the last character
PIECE = 4000  # characters that are decoded at once: bounds the memory
BITS = 24  # of a feature's hash

U64 = np.uint64
Hint = tuple[str, int, int]  # kind, start, end


class Tagged(NamedTuple):
    """text[start:end] is a `kind` of KINDS."""

    kind: str
    start: int
    end: int


# ---------------------------------------------------------------------------------------------------- features

_ALIKE = str.maketrans({**{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}, "　": " "})
_DIGITS, _LATIN = re.compile(r"\d"), re.compile(r"[A-Za-z]")
_CUES = (
    (1, re.compile(rf"(?:[我俺咱他她你]|的)(?:{KIN})")),
    (2, re.compile(r"叫做?|名叫|姓名|名字|户名|抬头|名称")),
    (3, re.compile(r"户主|(?:申请|联系|经办|负责|收件|代办|监护|法定代表|持卡|开户|权利|产权|受益|当事|委托|报名|投诉|举报)人|配偶|法人|经营者|本人")),
    (4, re.compile(r"先生|女士|同志|老师|同学|师傅|医生|大夫|主任|局长|书记|经理|院长|主席|教授|记者|导演|小姐|老人|大爷|大妈")),
    (5, re.compile(r"地址|住址|住所|户籍|户口|住在|住|搬到|寄到|位于|坐落|家在|老家|在")),
    (6, re.compile(r"单位|公司|店名|工作|上班|就读|开户行|供职|任职|读书")),
    (7, re.compile(r"身份证|电话|手机|号码|性别|出生|今年|岁")),
)  # fmt: skip
_ENDINGS = re.compile(
    ORGANISATION_ENDINGS
    + r"|队|部|局|院|所|会|社|署|厅|处|办|行|中心|俱乐部|报|网|台|馆|联盟|军|店|政府|法院|检察院|党|组织|商会|学会|书店|电视台|出版社|保险|证券|基金|传媒|科技"
)
_UNITS = re.compile(r"[省市州县区镇乡村街道路巷弄里号栋幢座室楼苑园厦坊组屯庄湾桥港山河湖江岛]")
_HINTED = ("name", "address", "organisation", "date", "amount")


def _marks(text: str, hints: Iterable[Hint]) -> NDArray[np.uint64]:
    """[10, len(text)]: what each character is, beside itself; row by row small numbers, 0 = nothing."""
    size = len(text)
    rows = np.zeros((10, size), U64)
    kinds, lists, doubles, divided, cue, after, ending, distance, unit, hinted = rows
    for i, char in enumerate(text):
        point = ord(char)
        kinds[i] = (
            1 if 0x4E00 <= point <= 0x9FFF else 2 if char.isdigit() else 3 if char.isascii() and char.isalpha()
            else 4 if char.isspace() else 5 if char in "，。！？；,.!?;" else 6 if char in "、和与及跟" else 7 if char in "：:" else 8 if char in "·•・" else 9 if char in "（）()《》“”【】\"'" else 10
        )  # fmt: skip
        lists[i] = _CHARACTERS.get(char, 0)
    for name in DOUBLE_FAMILY_NAMES:
        pos = text.find(name)
        while pos >= 0:
            doubles[pos] = 1
            pos = text.find(name, pos + 1)
    for start, end, owners in find_divisions(text):
        divided[start:end] = 2 + 2 * bool(owners)
        divided[start], divided[end - 1] = 1, 3 + 2 * bool(owners)
    for number, pattern in _CUES:
        for match in pattern.finditer(text):
            cue[match.start() : match.end()] = number
            if match.end() < size:
                after[match.end()] = number
    last = -99
    for match in _ENDINGS.finditer(text):
        ending[match.start() : match.end()] = 2
        ending[match.end() - 1] = 3
        for i in range(max(last + 1, match.start() - 10, 0), match.start()):
            distance[i] = 1 + min((match.start() - i), 8)
        last = match.end() - 1
    for match in _UNITS.finditer(text):
        for i in range(max(0, match.start() - 4), match.start() + 1):
            unit[i] = 1 + match.start() - i
    for kind, start, end in hints:
        number = 3 * (_HINTED.index(kind) + 1 if kind in _HINTED else len(_HINTED) + 1)
        hinted[start:end] = number
        hinted[start], hinted[end - 1] = number + 1, number + 2
    return rows


_CHARACTERS = {
    char: (char in FAMILY_NAMES) + 2 * (char in FAMILY_NAMES[:120]) + 4 * (char in GIVEN) + 8 * (char in TRANSLITERATED)
    for char in {*FAMILY_NAMES, *GIVEN, *TRANSLITERATED}
}
_CHAR, _KIND, _LIST, _DOUBLE, _DIVIDED, _CUE, _AFTER, _ENDING, _DISTANCE, _UNIT, _HINT = range(11)
# A feature is the values that it names: (row, offset) each.
_TEMPLATES: tuple[tuple[tuple[int, int], ...], ...] = (
    *(((_CHAR, k),) for k in range(-3, 4)),
    *(tuple((_CHAR, k) for k in range(a, b + 1)) for a, b in ((-3, -2), (-2, -1), (-1, 0), (0, 1), (1, 2), (2, 3))),
    ((_CHAR, -1), (_CHAR, 1)), ((_CHAR, 0), (_CHAR, 2)), ((_CHAR, -2), (_CHAR, 0)),
    *(tuple((_CHAR, k) for k in range(a, b + 1)) for a, b in ((-3, -1), (-2, 0), (-1, 1), (0, 2), (1, 3), (-1, 2), (-2, 1), (0, 3), (-3, 0))),
    tuple((_KIND, k) for k in (-2, -1, 0, 1, 2)), tuple((_KIND, k) for k in (-1, 0, 1)), tuple((_KIND, k) for k in (0, 1, 2, 3)),
    tuple((_LIST, k) for k in (-1, 0, 1)), tuple((_LIST, k) for k in (0, 1, 2)), tuple((_LIST, k) for k in (-2, -1, 0)),
    tuple((_LIST, k) for k in (-1, 0, 1, 2)), ((_LIST, 0), (_LIST, 1), (_CHAR, -1)), ((_LIST, 0), (_LIST, -1), (_CHAR, 1)),
    ((_LIST, -2), (_LIST, -1), (_LIST, 0), (_CHAR, 1)), ((_LIST, 0), (_LIST, 1), (_LIST, 2), (_CHAR, 3)), ((_LIST, 0), (_LIST, 1), (_CHAR, 2)),
    ((_LIST, 0), (_CHAR, 1)), ((_LIST, 0), (_CHAR, -1)),
    tuple((_DOUBLE, k) for k in (-3, -2, -1, 0, 1)),
    tuple((_DIVIDED, k) for k in (-1, 0, 1)), ((_DIVIDED, 0), (_CHAR, 1)), ((_DIVIDED, -1), (_CHAR, 0)), ((_DIVIDED, 0), (_DISTANCE, 0)),
    ((_CUE, 0), (_AFTER, 0)), ((_AFTER, -2), (_AFTER, -1), (_AFTER, 0)), ((_AFTER, 0), (_LIST, 0), (_LIST, 1)), ((_CUE, 1), (_LIST, 0), (_LIST, -1)),
    ((_CUE, 1), (_CUE, 2), (_CUE, 3)),
    ((_ENDING, -1), (_ENDING, 0), (_ENDING, 1)), ((_DISTANCE, 0), (_DISTANCE, -1)), ((_DISTANCE, 0), (_CHAR, 0)), ((_DISTANCE, 0), (_CHAR, -1)),
    ((_ENDING, 0), (_CHAR, 1)), ((_UNIT, -1), (_UNIT, 0), (_UNIT, 1)), ((_UNIT, 0), (_CHAR, -1)), ((_UNIT, 0), (_KIND, 0), (_KIND, 1)),
    tuple((_HINT, k) for k in (-1, 0, 1)), ((_HINT, 0), (_CHAR, 0)), ((_HINT, 0), (_CHAR, 1)), ((_HINT, -1), (_CHAR, 0)),
)  # fmt: skip
_REACH = 3
_COLUMNS = sorted({column for template in _TEMPLATES for column in template})


def _multipliers() -> NDArray[np.uint64]:
    """[templates, columns]: odd numbers where a template names a column, 0 elsewhere; a hash is their product with the values."""
    drawn = np.random.Generator(np.random.PCG64(7)).integers(1, 1 << 62, (len(_TEMPLATES), len(_COLUMNS)), dtype=U64)
    named = np.array([[column in template for column in _COLUMNS] for template in _TEMPLATES])
    return np.where(named, drawn * U64(2) + U64(1), U64(0))


_MULTIPLIERS = _multipliers()
_SALT = (np.arange(len(_TEMPLATES), dtype=U64) * U64(0x9E3779B97F4A7C15))[:, None]


def features(text: str, hints: Iterable[Hint] = ()) -> NDArray[np.uint32]:
    """[len(text), templates]: hashes below 2 ** BITS. hints: what recognisers found, (kind, start, end)."""
    size = len(text)
    plain = text.translate(_ALIKE)
    points = np.array([ord(char) for char in _LATIN.sub("a", _DIGITS.sub("0", plain))], U64)
    padded = np.zeros((11, size + 2 * _REACH), U64)
    padded[0, :_REACH], padded[0, size + _REACH :] = 1, 2
    padded[0, _REACH : size + _REACH] = points
    padded[1:, _REACH : size + _REACH] = _marks(plain, hints)
    values = np.stack([padded[row, _REACH + k : _REACH + k + size] for row, k in _COLUMNS])
    hashed = (_MULTIPLIERS @ values + _SALT) * U64(0xD6E8FEB86659FD93)
    hashed ^= hashed >> U64(32)
    hashed *= U64(0xD6E8FEB86659FD93)
    return (hashed >> U64(64 - BITS)).astype(np.uint32).T


# ---------------------------------------------------------------------------------------------------- decoding


def allowed() -> NDArray[np.bool_]:
    """[LABELS, LABELS]: whether the second may follow the first; what begins has a last character."""
    may = np.zeros((len(LABELS), len(LABELS)), bool)
    for a, first in enumerate(LABELS):
        for b, second in enumerate(LABELS):
            inside = first[0] in "BI"
            may[a, b] = second[0] in "IE" and second[1:] == first[1:] if inside else second[0] in "OB"
    return may


class Tagger:
    """keys: hashes, ascending. weights: [keys + 1, LABELS], the last row zeros. transitions: [LABELS, LABELS], -inf = never."""

    def __init__(self, keys: NDArray[np.uint32], weights: NDArray[np.float32], transitions: NDArray[np.float32]) -> None:
        self._keys, self._weights, self._transitions = keys, weights, transitions

    @classmethod
    @functools.cache
    def bundled(cls) -> Tagger:
        return cls.load(FILE)

    @classmethod
    def load(cls, path: str | Path) -> Tagger:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            keys = np.cumsum(file["steps"], dtype=np.uint32)
            weights = np.zeros((len(keys) + 1, len(LABELS)), np.float32)
            weights[:-1] = file["weights"].T * file["scale"]
            return cls(keys, weights, np.where(allowed(), file["transitions"], -np.inf).astype(np.float32))

    def save(self, path: str | Path) -> None:
        """Differences of the keys, weights in 8 bits, transitions in 32."""
        scale = np.float32(np.abs(self._weights).max() / 127)
        steps = np.diff(self._keys, prepend=np.uint32(0))
        np.savez_compressed(
            path,
            steps=steps.astype(np.uint16 if steps.max() < 1 << 16 else np.uint32),
            weights=np.rint(self._weights[:-1] / scale).astype(np.int8).T,
            scale=scale,
            transitions=np.where(np.isfinite(self._transitions), self._transitions, 0),
        )

    def tag(self, text: str, hints: Iterable[Hint] = ()) -> list[Tagged]:
        """From left to right, without overlaps. Linear in the length of the text; it is read in pieces of PIECE characters."""
        known = list(hints)
        found: list[Tagged] = []
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]
            inside = [(kind, a - start, b - start) for kind, a, b in known if start <= a and b <= start + len(piece)]
            found += [Tagged(kind, start + a, start + b) for kind, a, b in spans(self._decode(piece, inside))]
        return found

    def _decode(self, text: str, hints: Iterable[Hint]) -> list[int]:
        hashed = features(text, hints)
        rows = np.searchsorted(self._keys, hashed)
        rows = np.where(self._keys[np.minimum(rows, len(self._keys) - 1)] == hashed, rows, len(self._keys))
        return viterbi(self._weights[rows].sum(axis=1), self._transitions)


def viterbi(emissions: NDArray[np.float32], transitions: NDArray[np.float32]) -> list[int]:
    """The labels of the highest sum. A sentence begins with O or B and ends with O or E."""
    score = emissions[0] + np.where([label[0] in "OB" for label in LABELS], 0, -np.inf)
    back = np.zeros(emissions.shape, np.int64)
    columns = np.arange(len(LABELS))
    for i in range(1, len(emissions)):
        ways = score[:, None] + transitions
        back[i] = ways.argmax(axis=0)
        score = ways[back[i], columns] + emissions[i]
    label = int(np.where([label[0] in "OE" for label in LABELS], score, -np.inf).argmax())
    path = [label]
    for row in back[:0:-1]:
        label = int(row[label])
        path.append(label)
    return path[::-1]


def spans(labels: Iterable[int]) -> list[Hint]:
    """(kind, start, end) of what begins and ends in the labels."""
    found, start = [], 0
    for i, label in enumerate(labels):
        name = LABELS[label]
        if name[0] == "B":
            start = i
        elif name[0] == "E":
            found.append((name[2:], start, i + 1))
    return found
