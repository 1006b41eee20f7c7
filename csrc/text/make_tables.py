"""Writes unicode_tables.c: the character facts that the tokenizer needs, as compact two-stage tables.

    python csrc/text/make_tables.py            (needs the `tokenizers` package; writes beside itself)

The facts start from Python's own unicodedata. The reference tokenizer was built from other Unicode versions (a different one
for each of its classes), so every code point is put to it as well, and where it disagrees its answer is taken: equal ids
need equal classes. The number of differences is printed and written into the head of the file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

CONTROL, SPACE, PUNCTUATION, CJK, NONSPACING, WORD = 1, 2, 4, 8, 16, 32
NAMES = {CONTROL: "removed", SPACE: "space", PUNCTUATION: "punctuation", CJK: "cjk", NONSPACING: "nonspacing", WORD: "word"}
BLOCK = 128
HANGUL = range(0xAC00, 0xD7A4)
CJK_RANGES = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)]
CJK_RANGES += [(0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def by_unicodedata(code: int) -> int:
    char, flags = chr(code), 0
    category = unicodedata.category(char)
    if char not in "\t\n\r" and (code in (0, 0xFFFD) or category in ("Cc", "Cf", "Co")):
        flags |= CONTROL
    if char.isspace() and not 0x1C <= code <= 0x1F:
        flags |= SPACE
    if category[0] == "P" or (code < 128 and category[0] == "S"):
        flags |= PUNCTUATION
    if any(low <= code <= high for low, high in CJK_RANGES):
        flags |= CJK
    if category == "Mn":
        flags |= NONSPACING
    if category[0] in "LM" or category in ("Nd", "Nl", "Pc") or code in (0x200C, 0x200D):
        flags |= WORD
    return flags


def probe_flags() -> Callable[[int], int]:
    clean = normalizers.BertNormalizer(True, False, False, False)
    space = normalizers.BertNormalizer(False, True, False, False)
    strip = normalizers.BertNormalizer(False, False, True, False)
    decompose = normalizers.NFD()
    words = pre_tokenizers.BertPreTokenizer()
    single = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    single.add_tokens([AddedToken("X", single_word=True, normalized=False)])

    def probe(code: int) -> int:
        char, flags = chr(code), 0
        if clean.normalize_str(char) == "":
            flags |= CONTROL
        pieces = len(words.pre_tokenize_str("a" + char + "a"))
        if pieces == 2:
            flags |= SPACE
        elif pieces == 3:
            flags |= PUNCTUATION
        if space.normalize_str(char) == f" {char} ":
            flags |= CJK
        if decompose.normalize_str(char) == char and strip.normalize_str(char) == "":
            flags |= NONSPACING
        if 1 not in single.encode(char + "X").ids:
            flags |= WORD
        return flags

    return probe


def combining_classes(decompose: normalizers.NFD) -> dict[int, int]:
    """The canonical combining class by which the reference reorders marks."""
    low, high = "\u0334", "\u0345"  # class 1 and class 240

    def reorders(text: str) -> bool:
        return decompose.normalize_str("a" + text) != "a" + text

    marks = [c for c in CODE_POINTS if decompose.normalize_str(chr(c)) == chr(c)]
    marks = [c for c in marks if reorders(high + chr(c)) or reorders(chr(c) + low)]
    trusted: dict[int, str] = {}
    for code in marks:
        trusted.setdefault(unicodedata.combining(chr(code)), chr(code))
    trusted.pop(0, None)
    classes: dict[int, int] = {}
    for code in marks:
        char = chr(code)
        fits = [v for v, other in trusted.items() if not reorders(char + other) and not reorders(other + char)]
        if len(fits) != 1:
            raise SystemExit(f"U+{code:04X}: no single combining class fits: {fits}")
        classes[code] = fits[0]
    return classes


def hangul(code: int) -> str:
    lead, rest = divmod(code - 0xAC00, 588)
    vowel, tail = divmod(rest, 28)
    return chr(0x1100 + lead) + chr(0x1161 + vowel) + (chr(0x11A7 + tail) if tail else "")


def rows(values: list[int], width: int = 24) -> str:
    return "\n".join("    " + ", ".join(str(v) for v in values[i : i + width]) + "," for i in range(0, len(values), width))


def mapping(name: str, table: dict[int, str]) -> str:
    """Sorted keys; entry i is pool[offset[i] .. offset[i + 1])."""
    pool: list[int] = []
    offsets = [0]
    for text in table.values():
        pool += [ord(c) for c in text]
        offsets.append(len(pool))
    return (
        f"const int32_t gv_uc_{name}_count = {len(table)};\n"
        f"const uint32_t gv_uc_{name}_keys[] = {{\n{rows(list(table), 14)}\n}};\n"
        f"const uint16_t gv_uc_{name}_offsets[] = {{\n{rows(offsets)}\n}};\n"
        f"const uint32_t gv_uc_{name}_pool[] = {{\n{rows(pool, 14)}\n}};\n"
    )


def main() -> None:
    decompose = normalizers.NFD()
    lower = normalizers.BertNormalizer(False, False, False, True)
    probe = probe_flags()
    flags, differences = [0] * 0x110000, dict.fromkeys(NAMES.values(), 0)
    decompositions: dict[int, str] = {}
    lowercase: dict[int, str] = {}
    differences |= {"decomposition": 0, "lowercase": 0, "combining class": 0}
    for code in CODE_POINTS:
        char = chr(code)
        flags[code] = probe(code)
        for bit, name in NAMES.items():
            differences[name] += (flags[code] ^ by_unicodedata(code)) & bit != 0
        text = decompose.normalize_str(char)
        differences["decomposition"] += text != unicodedata.normalize("NFD", char)
        if code in HANGUL:
            assert text == hangul(code)
        elif text != char:
            decompositions[code] = text
        text = lower.normalize_str(char)
        differences["lowercase"] += text != char.lower()
        if text != char:
            lowercase[code] = text
    classes = combining_classes(decompose)
    for code in CODE_POINTS:
        if decompose.normalize_str(chr(code)) == chr(code):
            differences["combining class"] += classes.get(code, 0) != unicodedata.combining(chr(code))
    records = sorted({(flags[c], classes.get(c, 0)) for c in range(0x110000)})
    index = {record: i for i, record in enumerate(records)}
    assert len(records) < 256
    blocks: dict[tuple[int, ...], int] = {}
    first: list[int] = []
    for start in range(0, 0x110000, BLOCK):
        block = tuple(index[flags[c], classes.get(c, 0)] for c in range(start, start + BLOCK))
        first.append(blocks.setdefault(block, len(blocks)))
    second = [value for block in blocks for value in block]
    noted = ", ".join(f"{name} {count}" for name, count in differences.items())
    text = f"""/* unicode_tables.c - made by make_tables.py; do not edit.
 *
 * unicodedata {unicodedata.unidata_version}, made equal to tokenizers {tokenizers.__version__}. Code points that differed:
 * {noted}.
 */
/* clang-format off */
#include "text/unicode.h"

const uint16_t gv_uc_first[{len(first)}] = {{
{rows(first)}
}};
const uint8_t gv_uc_second[{len(second)}] = {{
{rows(second, 32)}
}};
const uint8_t gv_uc_records[{len(records)}][2] = {{
{chr(10).join(f"    {{{flag}, {ccc}}}," for flag, ccc in records)}
}};
{mapping("decomposition", decompositions)}{mapping("lowercase", lowercase)}"""
    target = Path(__file__).with_name("unicode_tables.c")
    target.write_text(text, encoding="ascii")
    print(f"{target.name}: {len(text)} bytes, {len(records)} records, {len(blocks)} blocks; differences: {noted}")


if __name__ == "__main__":
    main()
