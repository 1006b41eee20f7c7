"""Writes split_tables.c: what pre-tokenisers and canonical composition need to know of a character.

    python csrc/text/make_split_tables.py      (needs the `tokenizers` package; writes beside itself)

Every code point is put to the reference tokenizer's own expressions and normaliser, as in make_tables.py: equal ids need
equal classes.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from make_tables import CODE_POINTS, HANGUL, rows
from tokenizers import Regex, __version__, normalizers, pre_tokenizers

LETTER, NUMBER, SPACE, NEWLINE, UNSTABLE, MARK = 1, 2, 4, 8, 16, 32
BLOCK = 128


def matches(expression: str) -> set[int]:
    """The code points that one expression matches, asked in chunks."""
    split = pre_tokenizers.Split(Regex(expression), "isolated")
    found = set()
    for start in range(0, len(CODE_POINTS), 4096):
        chunk = CODE_POINTS[start : start + 4096]
        # "!!" around every character, which none of the expressions matches, makes matches pieces of one character.
        text = "!!".join(map(chr, chunk))
        pieces = {piece for piece, _ in split.pre_tokenize_str("!!" + text + "!!")}
        found.update(c for c in chunk if chr(c) in pieces and chr(c) != "!")
    return found


def main() -> None:
    letters, numbers = matches(r"\p{L}"), matches(r"\p{N}")
    spaces, marks = matches(r"\s"), matches(r"\p{M}")
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    composed: dict[tuple[int, int], int] = {}
    unstable: set[int] = set()
    for code in CODE_POINTS:
        char = chr(code)
        full = nfd.normalize_str(char)
        if nfc.normalize_str(char) != char or unicodedata.combining(char):
            unstable.add(code)
        if code in HANGUL or full == char or nfc.normalize_str(full) != char:
            continue
        head = nfc.normalize_str(full[:-1])
        if len(head) != 1:
            raise SystemExit(f"U+{code:04X}: its decomposition without the last mark is no single character")
        composed[ord(head), ord(full[-1])] = code
    unstable |= {second for _, second in composed} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    flags = [0] * 0x110000
    for bit, found in ((LETTER, letters), (NUMBER, numbers), (SPACE, spaces), (UNSTABLE, unstable), (MARK, marks)):
        for code in found:
            flags[code] |= bit
    for code in (10, 13):
        flags[code] |= NEWLINE
    blocks: dict[tuple[int, ...], int] = {}
    first = [blocks.setdefault(tuple(flags[start : start + BLOCK]), len(blocks)) for start in range(0, 0x110000, BLOCK)]
    second = [value for block in blocks for value in block]
    triples = [f"{{{a}, {b}, {code}}}" for (a, b), code in sorted(composed.items())]
    compositions = "\n".join("    " + ", ".join(triples[i : i + 6]) + "," for i in range(0, len(triples), 6))
    text = f"""/* split_tables.c - made by make_split_tables.py from tokenizers {__version__}; do not edit. */
/* clang-format off */
#include "text/split.h"

const uint16_t gv_split_first[{len(first)}] = {{
{rows(first)}
}};
const uint8_t gv_split_second[{len(second)}] = {{
{rows(second, 32)}
}};
const int32_t gv_composition_count = {len(composed)};
const uint32_t gv_compositions[{len(composed)}][3] = {{
{compositions}
}};
"""
    target = Path(__file__).with_name("split_tables.c")
    target.write_text(text, encoding="ascii")
    print(f"{target.name}: {len(text)} bytes, {len(blocks)} blocks, {len(composed)} compositions")


if __name__ == "__main__":
    main()
