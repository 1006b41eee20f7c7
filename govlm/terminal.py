"""Text in a terminal, where Chinese characters are two columns wide."""

from __future__ import annotations

import unicodedata

__all__ = ["beside", "display_width", "pad", "wrap"]


def display_width(text: str) -> int:
    """Columns that `text` takes: full-width characters count two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
        if unicodedata.category(c) not in ("Cf", "Cc")
    )


def pad(text: str, width: int, right: bool = False) -> str:
    """The text filled up with spaces to `width` columns; right: on its left side."""
    fill = " " * max(0, width - display_width(text))
    return fill + text if right else text + fill


def wrap(text: str, width: int) -> list[str]:
    """Its lines, broken where they are wider than `width` columns; numbers and Latin words stay whole where they fit a line."""
    found: list[str] = []
    for line in text.split("\n"):
        rest = line
        while display_width(rest) > width:
            cut = columns = 0
            for i, char in enumerate(rest):
                columns += display_width(char)
                if columns > width:
                    break
                cut = i + 1
            cut = max(cut, 1)
            place = cut
            while (
                place > cut // 2
                and rest[place - 1].isascii()
                and rest[place - 1].isalnum()
                and rest[place].isascii()
                and rest[place].isalnum()
            ):
                place -= 1
            cut = place if place > cut // 2 else cut
            found.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip(" ")
        found.append(rest)
    return found


def beside(left: str, right: list[str], width: int) -> str:
    """The text with the lines of a panel to its right, in `width` columns."""
    panel = max(map(display_width, right), default=0)
    room = width - panel - 2
    lines = wrap(left, room)
    height = max(len(lines), len(right))
    rows = zip(lines + [""] * (height - len(lines)), right + [""] * (height - len(right)), strict=True)
    return "\n".join(f"{pad(a, room)}  {b}".rstrip() for a, b in rows)
