"""Rules of normalisation, and the charsmap that a `.model` file of SentencePiece has them in; "nmt_nfkc" from Unicode's own data.

A charsmap is the size of a double array (uint32, little endian), the double array, and the replacements, each with a NUL behind
it. The double array is a trie over the UTF-8 bytes of what is replaced (Yata's Darts-clone, 32 bits a unit): bits 0-7 the label,
bit 8 whether a rule ends here, bits 10-30 the exclusive or of the unit's place with that of its children (bit 9: times 256, which
arrays as small as these do not need); a child's place is that of the children exclusive or its label, and at label 0 stands bit 31
with the place of the replacement. Of the rules that match, the longest counts.
"""

from __future__ import annotations

import itertools
import struct
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from govlm.tokenizers.sentencepiece import NormalizerSpec

__all__ = ["charsmap_bytes", "nmt_nfkc", "nmt_nfkc_rules"]

# What nmt_nfkc has beyond NFKC, after SentencePiece's documentation of it: control characters go, characters that separate
# become spaces, and the full-width tilde, which Chinese and Japanese write between two dates or numbers, stays what it is.
_REMOVED = (*range(0x1, 0x9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F)
_SPACES = (0x9, 0xA, 0xC, 0xD, 0x61C, 0x1680, 0x200B, 0x200C, 0x200E, 0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD)
_TILDE = "\uff5e"
_OPEN_BLOCKS = 16  # of 256 units, in which a free place is looked for
_LONGEST_ARRAY = 1 << 21  # units that an offset reaches


def nmt_nfkc() -> NormalizerSpec:
    """SentencePiece's default rules, for a model to be trained with: NFKC, and what the module says of control characters, spaces
    and the tilde. They follow the Unicode version of this Python (`unicodedata.unidata_version`); a model keeps the ones it has."""
    return NormalizerSpec(name="nmt_nfkc", precompiled_charsmap=_nmt_nfkc_charsmap())


@lru_cache(maxsize=1)
def _nmt_nfkc_charsmap() -> bytes:
    return charsmap_bytes(nmt_nfkc_rules())


def nmt_nfkc_rules() -> dict[str, str]:
    """text -> replacement. Applied from left to right, the longest first, they bring a character with the marks behind it to NFKC."""
    rules = {}
    origins: dict[str, list[str]] = {}  # one character's full decomposition -> the characters that have it, where it is one
    decomposed = set()
    for code in itertools.chain(range(1, 0xD800), range(0xE000, 0x110000)):
        char = chr(code)
        apart = unicodedata.normalize("NFKD", char)
        if len(apart) == 1:
            origins.setdefault(apart, []).append(char)
        else:
            decomposed.add(apart)
        whole = unicodedata.normalize("NFKC", char)
        if whole != char:
            rules[char] = whole
    longer: dict[int, dict[str, str]] = {}
    for apart in sorted(decomposed):
        whole = unicodedata.normalize("NFKC", apart)
        if whole != apart:  # every spelling of it, in whatever way its characters are written
            spellings = map("".join, itertools.product(*(origins[char] for char in apart)))
            longer.setdefault(len(apart), {}).update((text, whole) for text in spellings if text != whole)
    for length in sorted(longer):  # what shorter rules do already needs none
        rules.update([(text, whole) for text, whole in longer[length].items() if _replaced(text, rules, length - 1) != whole])
    rules.update((chr(code), "") for code in _REMOVED)
    rules.update((chr(code), " ") for code in _SPACES)
    del rules[_TILDE]
    return rules


def _replaced(text: str, rules: Mapping[str, str], longest: int) -> str:
    out = []
    at = 0
    while at < len(text):
        for length in range(min(longest, len(text) - at), 0, -1):
            found = rules.get(text[at : at + length])
            if found is not None:
                break
        else:
            found, length = text[at], 1
        out.append(found)
        at += length
    return "".join(out)


def charsmap_bytes(rules: Mapping[str, str]) -> bytes:
    """The charsmap of rules text -> replacement, as csrc/text/spm.c and sentencepiece read it. ValueError: no rule, an empty text, a
    NUL or half a character in one, more than an array can hold."""
    if not rules:
        raise ValueError("a charsmap wants at least one rule")
    places: dict[str, int] = {}
    pool = bytearray()
    pairs = []
    for text, replacement in rules.items():
        if not text or "\0" in text or "\0" in replacement:
            raise ValueError(f"a rule is empty or holds a NUL: {text!r} -> {replacement!r}")
        try:
            key, value = text.encode(), replacement.encode()
        except UnicodeEncodeError:
            raise ValueError(f"a rule holds half a character (a surrogate): {text!r} -> {replacement!r}") from None
        if replacement not in places:
            places[replacement] = len(pool)
            pool += value + b"\0"
        pairs.append((key, places[replacement]))
    units = _double_array(*_nodes(sorted(pairs)))
    return struct.pack("<I", 4 * len(units)) + units.astype("<u4").tobytes() + bytes(pool)


Node = tuple[tuple[int, int], ...]  # (label, number of the child); at label 0 the value


def _nodes(pairs: list[tuple[bytes, int]]) -> tuple[list[Node], int]:
    """The trie of sorted keys, equal parts of it once: the nodes, children before parents, and the number of the root."""
    numbers: dict[Node, int] = {}
    path: list[list[tuple[int, int]]] = [[]]  # the nodes from the root to the last key's end, still open
    before = b""

    def close(depth: int) -> int:
        while True:
            node = tuple(path.pop())
            number = numbers.setdefault(node, len(numbers))
            if len(path) <= depth:
                return number
            path[-1].append((before[len(path) - 1], number))

    for key, value in pairs:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        if len(path) > shared + 1:
            number = close(shared + 1)
            path[-1].append((before[shared], number))
        path += [[] for _ in key[shared:]]
        path[-1].append((0, value))
        before = key
    root = close(0)
    return list(numbers), root


def _double_array(nodes: list[Node], root: int) -> NDArray[np.uint32]:
    """uint32 units: the children of each node in places that are free, no two nodes at the same one."""
    free = np.ones((1, 256), np.bool_)
    unused = np.ones((1, 256), np.bool_)  # as the place of somebody's children
    free[0, 0] = unused[0, 0] = False  # the root's own unit, and sentencepiece takes nothing at 0 for whole
    room = [255]  # free units of each block
    bases = [0] * len(nodes)
    first = 0
    every = np.arange(256)
    for number in sorted(range(len(nodes)), key=lambda number: -len(nodes[number])):
        spots = every[:, None] ^ np.array([label for label, _ in nodes[number]])
        for block in range(first, len(free) + 1):
            if block == len(free):
                free = np.concatenate([free, np.ones((1, 256), np.bool_)])
                unused = np.concatenate([unused, np.ones((1, 256), np.bool_)])
                room.append(256)
                first = max(first, block - _OPEN_BLOCKS)
            if room[block] < len(nodes[number]):
                first += room[block] == 0 and block == first
                continue
            fitting = np.flatnonzero(free[block][spots].all(axis=1) & unused[block])
            if len(fitting):
                break
        low = int(fitting[0])
        free[block, spots[low]] = False
        unused[block, low] = False
        room[block] -= len(nodes[number])
        bases[number] = 256 * block + low
    if free.size > _LONGEST_ARRAY:
        raise ValueError(f"the rules take {free.size} units of a double array, more than {_LONGEST_ARRAY}")
    units = np.zeros(free.size, np.uint32)
    units[0] = bases[root] << 10
    for number, node in enumerate(nodes):
        for label, child in node:
            place = bases[number] ^ label
            if label == 0:
                units[place] = 1 << 31 | child
            else:
                ends = nodes[child][0][0] == 0
                units[place] = (bases[child] ^ place) << 10 | ends << 8 | label
    return units
