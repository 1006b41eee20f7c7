"""What a text must go through before it is a document: normalising, the filters, no special tokens in plain text."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cjk_share", "codes", "guard_specials", "normalise", "readable"]

_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Controls; soft hyphens, zero-width and direction marks: invisible, and they cut words in two for a tokenizer.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
)
_WIDE = "\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_SPACES = re.compile(f" *[{_WIDE}][ {_WIDE}]*| {{2,}}")  # a single space, the most frequent, is left as it is
_LINES = re.compile(" ?\n[ \n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CJK = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32400))


def readable(text: str) -> bool:
    """False when a byte of the source could not be decoded (or a JSON string held half a character)."""
    return text.isascii() or _SURROGATE.search(text) is None


def normalise(text: str) -> str:
    """One paragraph a line, single spaces, nothing invisible, canonical composition (NFC); no empty lines."""
    text = _BREAKS.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _LINES.sub("\n", text).strip(" \n")
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def codes(text: str) -> NDArray[np.uint32]:
    """The code points of a text, uint32 [n]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


@functools.cache
def _tables() -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint32]]:
    """For the code points below 65,536: is a letter or digit, is Chinese, its lower case."""
    plane = [chr(code) for code in range(65536)]
    word = np.array([char.isalnum() for char in plane])
    chinese = np.zeros(65536, np.bool_)
    for begin, end in _CJK[:3]:
        chinese[begin:end] = True
    lower = np.array([ord(char.lower()) if len(char.lower()) == 1 else ord(char) for char in plane], np.uint32)
    return word, chinese, lower


def cjk_share(points: NDArray[np.uint32]) -> float:
    """The share of Chinese characters among letters and digits, 0 to 1; 0 where there are none."""
    word, chinese, _ = _tables()
    small = points < 65536
    base = points if small.all() else points[small]
    far = points[~small] if len(base) < len(points) else points[:0]
    letters = int(np.count_nonzero(word[base])) + len(far)
    found = int(np.count_nonzero(chinese[base])) + int(np.count_nonzero((far >= _CJK[3][0]) & (far < _CJK[3][1])))
    return found / letters if letters else 0.0


def letters(points: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The letters and digits of a text in lower case: what near duplicates have in common. uint32 [m]."""
    word, _, lower = _tables()
    base = np.minimum(points, 65535)
    kept = word[base] | (points > 65535)
    return np.where(points < 65536, lower[base], points)[kept]


def guard_specials(tokenizer: Any) -> Any:
    """A function text -> text that keeps "[MASK]" and its like, where they stand in a text, from becoming special tokens."""
    specials: Sequence[str] = tokenizer.all_special_tokens
    pattern = re.compile("|".join(re.escape(token) for token in sorted(specials, key=len, reverse=True)))

    def apart(match: re.Match[str]) -> str:
        token = match.group()
        return f"{token[0]} {token[1:]}" if len(token) > 1 else " "

    def guard(text: str) -> str:
        return pattern.sub(apart, text) if any(token in text for token in specials) else text

    return guard
