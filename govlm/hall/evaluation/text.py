"""A report as text: a table for the terminal, JUnit's XML for a build server."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from govlm.hall.evaluation.results import Change, Figure, Report, clean
from govlm.hall.evaluation.statistics import Difference, Estimate
from govlm.terminal import display_width

__all__ = ["bar_of", "changed", "difference", "interval", "junit", "number", "table"]


def number(value: float, count: bool = False) -> str:
    """A share as per cent; a count as it is; – where there is none."""
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if count else f"{100 * value:.1f}"


def interval(estimate: Estimate, count: bool) -> str:
    return f"{number(estimate.value, count)} [{number(estimate.low, count)}, {number(estimate.high, count)}]"


def _signed(value: float, count: bool) -> str:
    return "–" if math.isnan(value) else f"{'+' if value >= 0 else '−'}{number(abs(value), count)}"


def difference(change: Difference | None, count: bool) -> str:
    """+2.3*: the star where the interval does not hold 0."""
    return "" if change is None else _signed(change.value, count) + ("*" if change.clear else "")


def changed(figure: Figure, change: Change) -> str:
    """Now less then: over the cases that both have, with a star where it is clear; of the figures where there are none."""
    if change.difference is not None:
        return difference(change.difference, figure.count)
    return _signed(figure.hall.value - change.before, figure.count)


def _padded(cells: list[str], widths: list[int]) -> str:
    first, *others = cells
    line = first + " " * (widths[0] - display_width(first))
    for cell, width in zip(others, widths[1:], strict=True):
        line += "  " + " " * (width - display_width(cell)) + cell
    return line.rstrip()


def table(report: Report) -> str:
    """Figures of each suite, with 95 % intervals, in per cent; those of each kind side by side."""
    blocks = [f"{report.hall}: {report.items:,} items, {report.documents:,} documents, asked as on {report.today.isoformat()}"]
    bars = {verdict.figure: verdict for verdict in report.bars}
    for suite in report.suites:
        figures = [figure for figure in report.figures.values() if figure.suite == suite]
        rules = any(figure.rules is not None for figure in figures)
        head = [suite, "hall", *(["rules", "ahead"] if rules else []), *(["change"] if report.changes else []), "bar", "cases"]
        rows = [head]
        for figure in figures:
            if figure.kind and figure.name not in bars:
                continue
            row = [f"{figure.name.split('.', 1)[1]} {figure.zh}", interval(figure.hall, figure.count)]
            if rules:
                row += [
                    "" if figure.rules is None else interval(figure.rules, figure.count),
                    difference(figure.ahead, figure.count),
                ]
            if report.changes:
                change = report.changes.get(figure.name)
                row.append("" if change is None else changed(figure, change))
            verdict = bars.get(figure.name)
            row.append("" if verdict is None else bar_of(figure, verdict.bar) + ("" if verdict.met else " MISSED"))
            rows.append([*row, f"{figure.cases:,}"])
        blocks.append(_aligned(rows))
        if kinds := [figure for figure in figures if figure.kind]:
            blocks.append(_aligned(_by_kind(kinds)))
    missed = [verdict.figure for verdict in report.bars if not verdict.met]
    blocks.append(
        f"{len(report.failures):,} failed cases; {len(report.bars)} bars, "
        + (f"missed: {', '.join(missed)}" if missed else "all met")
    )
    if any(figure.ahead or report.changes for figure in report.figures.values()):
        blocks[-1] += "\n* the 95 % interval of the difference does not hold 0 (paired bootstrap)"
    return "\n\n".join(blocks)


def _by_kind(figures: list[Figure]) -> list[list[str]]:
    statistics = list(dict.fromkeys(figure.statistic for figure in figures))
    of: dict[str, dict[str, str]] = {}
    for figure in figures:
        of.setdefault(figure.kind, {})[figure.statistic] = number(figure.hall.value)
    rows = [[kind, *(found.get(statistic, "") for statistic in statistics)] for kind, found in of.items()]
    return [["kind", *statistics], *rows]


def bar_of(figure: Figure, bar: float) -> str:
    return f"{'≥' if figure.better == 'higher' else '≤'} {number(bar, figure.count)}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(display_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [_padded(row, widths) for row in rows]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def junit(report: Report) -> str:
    """JUnit's XML: a test suite a suite, in it a test case that it ran, and one a bar."""
    root = ElementTree.Element("testsuites", name="govlm eval")
    for suite in report.suites:
        figures = [figure for figure in report.figures.values() if figure.suite == suite]
        bars = [verdict for verdict in report.bars if verdict.figure.startswith(f"{suite}.")]
        failed = sum(not verdict.met for verdict in bars)
        element = ElementTree.SubElement(
            root, "testsuite", name=suite, tests=str(len(bars) + 1), failures=str(failed), errors="0", skipped="0"
        )
        ElementTree.SubElement(element, "testcase", classname=f"govlm.eval.{suite}", name=f"{suite} ran")
        for verdict in bars:
            figure = report.figures[verdict.figure]
            name = f"{verdict.figure.split('.', 1)[1]} {'>=' if figure.better == 'higher' else '<='} {verdict.bar:g}"
            case = ElementTree.SubElement(element, "testcase", classname=f"govlm.eval.{suite}", name=name)
            if not verdict.met:
                said = "is not known" if math.isnan(verdict.value) else f"is {verdict.value:.4f}"
                side = "least" if figure.better == "higher" else "most"
                message = f"{verdict.figure} {said}, the bar is at {side} {verdict.bar:g}"
                ElementTree.SubElement(case, "failure", message=message, type="bar").text = clean(_few(report, suite))
        lines = [f"{figure.name} {interval(figure.hall, figure.count)}" for figure in figures]
        ElementTree.SubElement(element, "system-out").text = "\n".join(lines)
    for total in ("tests", "failures"):
        root.set(total, str(sum(int(element.get(total, "0")) for element in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _few(report: Report, suite: str) -> str:
    """The first failed cases of a suite."""
    failures = [failure for failure in report.failures if failure.suite == suite][:20]
    return " | ".join(f"{f.file}:{f.line} {f.text} -> {f.found} (wanted {f.wanted})" for f in failures)
