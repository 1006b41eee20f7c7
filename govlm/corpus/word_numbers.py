"""The labels that Word gives the paragraphs of a list: 第三条, （二）, 1.1. They are counted when the page is shown; no run of text holds them.

A paragraph, or its style, names a list and a level (w:numPr); the list's definition says how the level counts and what its label looks
like (w:lvlText, "第%1条"). ECMA-376-1, 17.9 (numbering) and 17.18.59 (number formats). Bullets are no numbers: they give no label.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

__all__ = ["Numbers", "number_text"]

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_NUMBERING = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/numbering"
_DIGITS, _FORMAL = "〇一二三四五六七八九", "零壹贰叁肆伍陆柒捌玖"
_CLOSED = "、．.。，）)】〕:：　"  # a label that ends so needs no space
_POSITIONAL = ("chineseCounting", "taiwaneseCounting", "ideographDigital", "japaneseDigitalTenThousand", "taiwaneseDigital")
_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"),
    (4, "IV"), (1, "I"),
)  # fmt: skip
_CHAIN = 20  # styles based on styles; a damaged file may have a circle


class _Level(NamedTuple):
    start: int
    format: str
    text: str  # %1 to %9 stand for the numbers of the levels
    restart: int | None  # the level (1 = the outermost) whose use begins this one anew; 0: none does; None: any outer one
    decimal: bool  # all numbers of the label in digits
    style: str  # the style of paragraphs that are of this level


class Numbers:
    """Of one document, asked paragraph by paragraph in its order."""

    def __init__(self, document: Any) -> None:
        """document: python-docx's."""
        self._lists: dict[str, str] = {}  # list -> its definition
        self._levels: dict[str, dict[int, _Level]] = {}  # definition -> levels
        self._own: dict[str, dict[int, _Level]] = {}  # list -> levels that it defines itself
        self._starts: dict[str, dict[int, int]] = {}  # list -> numbers with which it begins levels anew
        self._counts: dict[
            str, dict[int, int]
        ] = {}  # definition -> the last number of each level: lists of one definition go on
        self._given: dict[Any, str] = {}
        self._styles = {style.get(f"{_W}styleId"): style for style in document.styles.element.iter(f"{_W}style")}
        self._default = next(
            (name for name, style in self._styles.items() if style.get(f"{_W}type") == "paragraph" and style.get(f"{_W}default") == "1"),
            None,
        )  # fmt: skip
        for relation in document.part.rels.values():
            if relation.reltype == _NUMBERING and not relation.is_external:
                self._read(relation.target_part)

    def _read(self, part: Any) -> None:
        from docx.oxml import parse_xml

        root = getattr(part, "element", None)
        root = parse_xml(part.blob) if root is None else root
        shared: dict[str, str] = {}  # a style of lists -> the definition that has its levels
        linked: dict[str, str] = {}
        for definition in root.iter(f"{_W}abstractNum"):
            name = definition.get(f"{_W}abstractNumId", "")
            self._levels[name] = _levels(definition)
            if (style := _value(definition, "styleLink")) is not None:
                shared[style] = name
            if (style := _value(definition, "numStyleLink")) is not None:
                linked[name] = style
        for entry in root.iter(f"{_W}num"):
            name, definition = entry.get(f"{_W}numId", ""), _value(entry, "abstractNumId") or ""
            self._lists[name] = shared.get(linked.get(definition, ""), definition)
            for override in entry.iter(f"{_W}lvlOverride"):
                level = _int(override.get(f"{_W}ilvl"), 0)
                if (start := _value(override, "startOverride")) is not None:
                    self._starts.setdefault(name, {})[level] = _int(start, 1)
                self._own.setdefault(name, {}).update(_levels(override))

    def label(self, paragraph: Any) -> str:
        """What Word writes before the text, with a space where the label closes with no sign; "" where nothing is counted. A paragraph that
        is asked for again (a merged cell is there in each of its rows) is not counted again."""
        element = paragraph._p
        if element not in self._given:
            self._given[element] = self._next(element)
        return self._given[element]

    def _next(self, element: Any) -> str:
        name, at = self._place(element)
        definition = self._lists.get(name)
        if definition is None:
            return ""
        levels = self._levels.get(definition, {}) | self._own.get(name, {})
        level = levels.get(at)
        if level is None or level.format == "bullet":
            return ""
        counts = self._counts.setdefault(definition, {})
        if at in self._starts.get(name, {}):
            counts[at] = self._starts[name].pop(at)
        else:
            counts[at] = counts[at] + 1 if at in counts else level.start
        for deeper, entry in levels.items():
            if deeper > at and (entry.restart is None or at < entry.restart):
                counts.pop(deeper, None)

        def number(match: re.Match[str]) -> str:
            one = int(match[1]) - 1
            entry = levels.get(one)
            if entry is None or entry.format == "bullet":
                return ""
            value = counts.get(one, entry.start)
            return str(value) if level.decimal else number_text(value, entry.format)

        label = re.sub(r"%([1-9])", number, level.text).strip()
        if not label:
            return ""
        return label if label.endswith(tuple(_CLOSED)) else f"{label} "  # else 第三条规定 would be a mention of 第三条

    def _place(self, element: Any) -> tuple[str, int]:
        """(list, level) of a paragraph; list "" and "0" are none."""
        properties = element.find(f"{_W}pPr")
        name, level = _numbering(properties)
        style = None if properties is None else _value(properties, "pStyle")
        style = self._default if style is None else style
        for _ in range(_CHAIN):
            entry = self._styles.get(style)
            if entry is None or name is not None:
                break
            name, told = _numbering(entry.find(f"{_W}pPr"))
            if name is not None and level is None:
                levels = self._levels.get(self._lists.get(name, ""), {})
                level = next((at for at, one in levels.items() if one.style == style), told)
            style = _value(entry, "basedOn")
        return name or "", level or 0


def _levels(element: Any) -> dict[int, _Level]:
    found = {}
    for level in element.findall(f"{_W}lvl"):
        restart = _value(level, "lvlRestart")
        legal = level.find(f"{_W}isLgl")
        found[_int(level.get(f"{_W}ilvl"), 0)] = _Level(
            start=_int(_value(level, "start"), 0),
            format=_value(level, "numFmt") or "decimal",
            text=_value(level, "lvlText") or "",
            restart=None if restart is None else _int(restart, 0),
            decimal=legal is not None and legal.get(f"{_W}val", "1") not in ("0", "false", "off"),
            style=_value(level, "pStyle") or "",
        )
    return found


def _numbering(properties: Any) -> tuple[str | None, int | None]:
    entry = None if properties is None else properties.find(f"{_W}numPr")
    if entry is None:
        return None, None
    level = _value(entry, "ilvl")
    return _value(entry, "numId"), None if level is None else _int(level, 0)


def _value(element: Any, name: str) -> str | None:
    """w:val of a child."""
    child = element.find(f"{_W}{name}")
    found: str | None = None if child is None else child.get(f"{_W}val")
    return found


def _int(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,9}", text) else otherwise


def number_text(value: int, format: str) -> str:
    """A number as a w:numFmt writes it; a format that Chinese documents do not use gives digits."""
    if format == "none":
        return ""
    if format in _POSITIONAL and (value > 99 or "Digital" in format):
        return "".join(_DIGITS[int(digit)] for digit in str(abs(value)))
    if format.startswith(("chineseCounting", "taiwaneseCounting", "japaneseCounting")):
        return _counted(value, _DIGITS, "千百十", bare=format.startswith("japanese"))
    if format in ("chineseLegalSimplified", "ideographLegalTraditional", "japaneseLegal"):
        return _counted(value, _FORMAL, "仟佰拾", bare=False)
    if format == "decimalZero":
        return f"{value:02d}"
    if format.startswith("decimalFullWidth"):
        return str(value).translate({ord("0") + i: chr(ord("０") + i) for i in range(10)})
    if format.startswith("decimalEnclosedCircle") and 1 <= value <= 20:
        return chr(ord("①") + value - 1)
    if format in ("ideographTraditional", "ideographZodiac"):
        signs = "甲乙丙丁戊己庚辛壬癸" if format == "ideographTraditional" else "子丑寅卯辰巳午未申酉戌亥"
        return signs[value - 1] if 1 <= value <= len(signs) else str(value)
    if format in ("upperLetter", "lowerLetter") and 1 <= value <= 780:
        letter = chr(ord("A") + (value - 1) % 26) * ((value - 1) // 26 + 1)
        return letter if format == "upperLetter" else letter.lower()
    if format in ("upperRoman", "lowerRoman") and 1 <= value <= 3999:
        text, rest = "", value
        for size, sign in _ROMAN:
            text += sign * (rest // size)
            rest %= size
        return text if format == "upperRoman" else text.lower()
    return str(value)


def _counted(value: int, digits: str, units: str, bare: bool) -> str:
    """十, 十一, 一百零三, 一百一十. bare: 百三 for 一百零三, as Japanese counts."""
    if not 1 <= value <= 9999:
        return digits[0] if value == 0 else str(value)
    text, gap = "", False
    for place, digit in zip((1000, 100, 10, 1), (int(char) for char in f"{value:04d}"), strict=True):
        if not digit:
            gap = bool(text)
            continue
        text += "零" if gap and not bare else ""
        gap = False
        one = digit == 1 and place > 1 and (bare or (place == 10 and not text and digits == _DIGITS))
        text += ("" if one else digits[digit]) + ("" if place == 1 else units[(1000, 100, 10).index(place)])
    return text
