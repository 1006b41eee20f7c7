"""Plots as SVG, written by hand: they stand in the page, need no script and no network, and are drawn for the width of a phone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape

from govlm.hall.evaluation.results import Figure, clean
from govlm.hall.evaluation.statistics import Estimate, Rows, reliability
from govlm.hall.evaluation.text import number

__all__ = ["bars", "confusion", "reliability_diagram"]

_WIDTH = 360
_SHOWN = 24  # labels of a confusion matrix; the others are one


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{_text(label)}">'
    return "\n".join([head, *parts, "</svg>"])


def _text(value: str) -> str:
    return escape(clean(value), quote=True)


def _label(x: float, y: float, text: str, anchor: str = "start", style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style and f" class={chr(34)}{style}{chr(34)}"}>{_text(text)}</text>'


def bars(title: str, figures: Sequence[Figure]) -> str:
    """A bar a figure, from 0 to 100 %, with its interval; the rules' below the hall's. Counts have no place here."""
    left, right = 4, _WIDTH - 52
    parts, y = [], 4.0
    for figure in figures:
        parts.append(_label(left, y + 11, f"{figure.zh} · {figure.en}"))
        y += 15
        for estimate, style in ((figure.hall, "hall"), (figure.rules, "rules")):
            if estimate is not None:
                parts += _bar(estimate, style, left, right, y)
                y += 13
        y += 7
    grid = []
    for tick in (0, 50, 100):
        x = left + (right - left) * tick / 100
        grid.append(f'<line x1="{x:.1f}" y1="2" x2="{x:.1f}" y2="{y:.1f}" class="grid"/>')
        grid.append(_label(x, y + 11, f"{tick}", "start" if not tick else "middle", "small"))
    return _svg(y + 16, title, [*grid, *parts])


def _bar(estimate: Estimate, style: str, left: float, right: float, y: float) -> list[str]:
    if math.isnan(estimate.value):
        return [_label(left, y + 9, "–", style="small")]
    low, value, high = (
        left + (right - left) * min(max(share, 0.0), 1.0) for share in (estimate.low, estimate.value, estimate.high)
    )
    middle = y + 5
    return [
        f'<rect x="{left}" y="{y:.1f}" width="{max(value - left, 0.5):.1f}" height="10" class="{style}"/>',
        f'<path d="M{low:.1f} {middle - 3:.1f}v6M{low:.1f} {middle:.1f}H{high:.1f}M{high:.1f} {middle - 3:.1f}v6" class="whisker"/>',
        _label(_WIDTH - 4, y + 9, number(estimate.value), "end", "small"),
    ]


def reliability_diagram(rows: Rows) -> str:
    """How often it was right, over how sure it was; a disc's area tells how many cases. rows: (confidence, right)."""
    size, left, top = 280, 44, 16
    points = reliability(rows)
    most = max(cases for cases, _, _ in points)
    parts = [f'<rect x="{left}" y="{top}" width="{size}" height="{size}" class="frame"/>']
    parts.append(f'<line x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}" class="grid"/>')
    for tick in (0, 25, 50, 75, 100):
        at = size * tick / 100
        parts.append(_label(left - 5, top + size - at + 4, str(tick), "end", "small"))
        parts.append(_label(left + at, top + size + 14, str(tick), "middle", "small"))
    places = [(left + size * sure, top + size - size * right, cases) for cases, sure, right in points]
    for (x, y, cases), (_, sure, right) in zip(places, points, strict=True):
        said = f"{cases} 句 cases: 置信度 {number(sure)} %, 正确 {number(right)} %"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 + 9 * math.sqrt(cases / most):.1f}" class="disc"><title>{said}</title></circle>'
        )
    parts.append(_label(left + size / 2, top + size + 29, "置信度 confidence, %", "middle", "small"))
    parts.append(
        f'<g transform="rotate(-90 12 {top + size / 2})">{_label(12, top + size / 2, "正确率 right, %", "middle", "small")}</g>'
    )
    return _svg(top + size + 36, "可靠性图 reliability diagram", parts)


def confusion(rows: Rows) -> str:
    """What was wanted (a line each) and what was found (a column each, by its number). rows: (wanted, found) labels."""
    labels = [label for label, _ in Counter(wanted for wanted, _ in rows).most_common(_SHOWN)]
    others = any(label not in labels for row in rows for label in row)
    place = {label: i for i, label in enumerate(labels)}
    names = [*labels, *(["其他 other"] if others else [])]
    counts = Counter((place.get(wanted, len(labels)), place.get(found, len(labels))) for wanted, found in rows)
    left, top = 104, 18
    cell = (_WIDTH - left - 4) / len(names)
    lines = Counter(place.get(wanted, len(labels)) for wanted, _ in rows)
    parts = []
    for i, name in enumerate(names):
        middle = top + cell * (i + 0.5)
        short = name if len(name) <= 7 else f"{name[:6]}…"
        parts.append(_label(left - 4, middle + 3, f"{short} {i + 1}", "end", "small"))
        parts.append(_label(left + cell * (i + 0.5), top - 5, str(i + 1), "middle", "cell"))
    for (i, j), count in sorted(counts.items()):
        x, y, style = left + cell * j, top + cell * i, "hall" if i == j else "wrong"
        shade = 0.25 + 0.75 * count / lines[i]
        said = f"{names[i]} → {names[j]}: {count}"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" class="{style}" fill-opacity="{shade:.2f}"><title>{_text(said)}</title></rect>'
        )
        parts.append(_label(x + cell / 2, y + cell / 2 + 3, str(count), "middle", "cell"))
    side = cell * len(names)
    parts.append(f'<rect x="{left}" y="{top}" width="{side:.1f}" height="{side:.1f}" class="frame"/>')
    return _svg(top + side + 6, "业务类型混淆矩阵 confusion of business types", parts)
