"""Characters as retrieval sees them: traditional ones simplified, full-width ones narrow, letters small; and how they sound.

A citizen writes 臺灣, ＩＣ卡, or 居住正 for 居住证, and means the record's wording. The tables are made once, with OpenCC and
pypinyin, and stored with an index; asking needs neither.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Characters", "normalised"]

_SIZE = 0x30000  # the planes that hold Chinese; what lies above is no letter
_CJK = [range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xF900, 0xFB00), range(0x20000, 0x2A6E0)]

I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Characters:
    """plain [_SIZE]: the code point that stands for each; 0 = a break (punctuation, white space). sound [_SIZE]: a number for
    the syllable, without tone, of Chinese characters and the plain code point of others."""

    plain: I32
    sound: I32
    _words: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    @cache
    def make(cls) -> Characters:
        """Reads OpenCC's and pypinyin's tables, once in a process. ModuleNotFoundError names the extra."""
        try:
            import opencc

            pinyin_dict = _pinyin_dict()
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f'{error.name} is missing: pip install "govlm[hall]"', name=error.name) from None
        plain = np.zeros(_SIZE, np.int32)
        for code in range(_SIZE):
            char = chr(code)
            if unicodedata.category(char)[0] in "LN":
                plain[code] = code
        for code in range(0x250):
            plain[code] = _folded(plain, chr(code))
        for code in range(0xFF01, 0xFF5F):  # full-width forms
            plain[code] = _folded(plain, chr(code - 0xFEE0))
        simplify = opencc.OpenCC("t2s")
        chinese = [chr(code) for block in _CJK for code in block if plain[code]]
        for char, simple in zip(chinese, simplify.convert("\n".join(chinese)).split("\n"), strict=True):
            if len(simple) == 1 and ord(simple) < _SIZE and plain[ord(simple)]:
                plain[ord(char)] = ord(simple)
        sound = plain.copy()
        syllables: dict[str, int] = {}
        for char in chinese:
            if said := _toneless(pinyin_dict.get(ord(char), "")):
                sound[ord(char)] = _SIZE + syllables.setdefault(_blurred(said), len(syllables))
        return cls(plain, sound)

    def codes(self, text: str) -> I32:
        """[characters of the text] plain code points, 0 for breaks."""
        return self.plain[_points(text)]

    def sounds(self, text: str) -> I32:
        """[characters of the text] what is heard, 0 for breaks."""
        return self.sound[_points(text)]

    def heard(self, text: str) -> str:
        """The text by what is heard, a sign for each character: to be searched for words that are written so, too."""
        return "".join(map(chr, self.sounds(text).tolist()))

    def heard_word(self, word: str) -> str:
        """As `heard`, kept: for words that are always the same."""
        if word not in self._words:
            self._words[word] = self.heard(word)
        return self._words[word]


def _pinyin_dict() -> dict[int, str]:
    """pypinyin's readings of single characters; importing the package reads its phrases, too, which takes longer than all the rest."""
    spec = importlib.util.find_spec("pypinyin")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'pypinyin'", name="pypinyin")
    spec = importlib.util.spec_from_file_location("_pinyin_dict", Path(spec.origin).with_name("pinyin_dict.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[int, str] = module.pinyin_dict
    return found


def _points(text: str) -> NDArray[np.int64]:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    points[points >= _SIZE] = 0
    return points


def _folded(plain: I32, char: str) -> int:
    base = unicodedata.normalize("NFD", char.lower())[0]
    return ord(base) if plain[ord(char)] else 0


def _toneless(readings: str) -> str:
    """The first of "lǜ,lǔ" as lv: what pypinyin's lazy_pinyin gives for a character, 50 times faster than by asking it."""
    parts = unicodedata.normalize("NFD", readings.partition(",")[0])
    kept = "".join(part for part in parts if part == "\u0308" or not unicodedata.combining(part))
    return unicodedata.normalize("NFC", kept).replace("ü", "v")


def _blurred(syllable: str) -> str:
    """What many speakers and input methods do not tell apart: zh/z, ch/c, sh/s, n/l, -ng/-n."""
    for spoken, kept in (("zh", "z"), ("ch", "c"), ("sh", "s"), ("l", "n")):
        if syllable.startswith(spoken):
            syllable = kept + syllable[len(spoken) :]
            break
    return syllable.removesuffix("g") if syllable.endswith("ng") else syllable


def normalised(codes: Iterable[int]) -> str:
    """The text of plain code points, with a space for each break."""
    return "".join(chr(code) if code else " " for code in codes)
