"""The numbers of a Word file's paragraphs that Word counts itself: 第三条, （二）, 1.2 stand in no paragraph's text.

A paragraph, or its style, points to a list (w:numPr); numbering.xml says how each level of it is written (w:numFmt, w:lvlText) and where it
begins. ECMA-376 part 1, 17.9. Bullets are no numbers.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Numbers"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CHINESE = frozenset(
    {
        "chineseCounting", "chineseCountingThousand", "taiwaneseCounting", "taiwaneseCountingThousand", "japaneseCounting",
        "ideographDigital", "japaneseDigitalTenThousand", "taiwaneseDigital",
    }
)  # fmt: skip
_CLOSED = "、．.。，）)】〕:：　 "  # a label that ends so needs no space


class Numbers:
    """Of one document, asked paragraph by paragraph in order."""

    def __init__(self, document: Any) -> None:
        """document: of python-docx."""
        from docx.opc.constants import RELATIONSHIP_TYPE

        try:
            root = document.part.part_related_by(RELATIONSHIP_TYPE.NUMBERING).element
        except KeyError:
            root = ()
        self._abstract = {each.get(f"{_W}abstractNumId"): each for each in root if each.tag == f"{_W}abstractNum"}
        self._lists = {each.get(f"{_W}numId"): each for each in root if each.tag == f"{_W}num"}
        self._counts: dict[str, dict[int, int]] = {}  # abstract list -> level -> the last number
        self._begun: set[str] = set()  # lists whose own beginnings were applied

    def label(self, paragraph: Any) -> str:
        """What Word writes before the text, with a space where the label closes with no sign; "" where nothing is counted."""
        number, level = self._place(paragraph)
        found = self._lists.get(number)
        abstract = _value(found, "abstractNumId") if found is not None else ""
        levels = _levels(self._abstract.get(abstract))
        if found is None or level not in levels:
            return ""
        counts = self._counts.setdefault(abstract, {})
        for override in found.findall(f"{_W}lvlOverride"):
            at = int(override.get(f"{_W}ilvl", "0"))
            if (own := override.find(f"{_W}lvl")) is not None:
                levels[at] = own
            if number not in self._begun and (start := _value(override, "startOverride")):
                counts[at] = int(start) - 1
        self._begun.add(number)
        counts[level] = counts[level] + 1 if level in counts else _start(levels[level])
        for deeper in [at for at in counts if at > level]:
            del counts[deeper]
        text = _value(levels[level], "lvlText")
        if _value(levels[level], "numFmt") in ("bullet", "none") or "%" not in text:
            return ""
        plain = levels[level].find(f"{_W}isLgl") is not None
        for at in range(level + 1):
            if f"%{at + 1}" in text and at in levels:
                kind = "decimal" if plain else _value(levels[at], "numFmt")
                text = text.replace(f"%{at + 1}", _written(counts.get(at, _start(levels[at])), kind))
        return text if text.endswith(tuple(_CLOSED)) else text + " "

    def _place(self, paragraph: Any) -> tuple[str, int]:
        """(list, level) of a paragraph, by itself or by its style; ("", 0)."""
        own = paragraph._p.find(f"{_W}pPr/{_W}numPr")
        level = _value(own, "ilvl") if own is not None else ""
        if own is not None and (number := _value(own, "numId")):
            return ("" if number == "0" else number), int(level or 0)
        style = paragraph.style
        while style is not None:
            of_style = style.element.find(f"{_W}pPr/{_W}numPr")
            if of_style is not None and (number := _value(of_style, "numId")):
                levels = _levels(self._abstract.get(_value(self._lists.get(number), "abstractNumId")))
                linked = [at for at, entry in levels.items() if _value(entry, "pStyle") == style.style_id]
                return number, int(level or _value(of_style, "ilvl") or (linked[0] if linked else 0))
            style = style.base_style
        return "", 0


def _value(element: Any, name: str) -> str:
    """w:val of a child; "" where there is none."""
    child = element.find(f"{_W}{name}") if element is not None else None
    return child.get(f"{_W}val", "") if child is not None else ""


def _levels(abstract: Any) -> dict[int, Any]:
    return {int(each.get(f"{_W}ilvl", "0")): each for each in abstract.findall(f"{_W}lvl")} if abstract is not None else {}


def _start(level: Any) -> int:
    return int(_value(level, "start") or 1)


def _written(number: int, kind: str) -> str:
    if kind in _CHINESE:
        return _chinese(number)
    if kind == "decimalFullWidth":
        return str(number).translate({0x30 + digit: 0xFF10 + digit for digit in range(10)})
    if kind == "decimalZero":
        return f"{number:02}"
    if kind.startswith("decimalEnclosedCircle") and 1 <= number <= 20:
        return chr(0x2460 + number - 1)
    if kind in ("upperLetter", "lowerLetter"):
        letter = chr(ord("A") + (number - 1) % 26) * ((number - 1) // 26 + 1)
        return letter if kind == "upperLetter" else letter.lower()
    if kind in ("upperRoman", "lowerRoman"):
        return _roman(number) if kind == "upperRoman" else _roman(number).lower()
    if kind == "ideographTraditional" and 1 <= number <= 10:
        return "甲乙丙丁戊己庚辛壬癸"[number - 1]
    return str(number)


def _chinese(number: int) -> str:
    """三, 十二, 一百零五; up to 9,999."""
    if not 0 < number < 10_000:
        return str(number)
    found, gap = "", False
    for size, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // size % 10
        if digit:
            found += ("零" if gap and found else "") + "零一二三四五六七八九"[digit] + name
        gap = not digit
    return found.removeprefix("一") if 10 <= number < 20 else found


def _roman(number: int) -> str:
    found = ""
    for value, sign in (
        (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"),
        (4, "IV"), (1, "I"),
    ):  # fmt: skip
        found += sign * (number // value)
        number %= value
    return found
