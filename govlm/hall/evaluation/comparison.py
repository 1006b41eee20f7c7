"""Bars that figures have to reach, and the comparison with an earlier report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from govlm.hall.evaluation.results import FORMAT, Change, Report, Verdict, plain
from govlm.hall.evaluation.statistics import Difference, difference

__all__ = ["ALWAYS", "BarError", "BaselineError", "compare", "judge", "parse_bar", "read_baseline"]

# What holds in every hall, on every case: nothing is said that is not cited, and no wrong number passes for a right one.
ALWAYS: Mapping[str, float] = {
    "answers.citations_resolve": 1.0,
    "answers.digits_verbatim": 1.0,
    "answers.checked": 1.0,
    "privacy.invalid_accepted": 0.0,
}


class BarError(ValueError):
    """A bar that is no number, or of a figure that there is not."""


class BaselineError(ValueError):
    """A baseline that is no report, or a damaged one."""


def parse_bar(text: str, suites: tuple[str, ...]) -> tuple[str, float]:
    """("understanding.item_accuracy", 0.9) from "understanding.item_accuracy=0.9". suites: those that are run."""
    name, sign, number = text.partition("=")
    name = name.strip()
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not sign or not name or not math.isfinite(value):
        raise BarError(f"a bar is written like understanding.business_macro_f1=0.95, not {text!r}")
    if name.partition(".")[0] not in suites:
        raise BarError(f"bar {name!r}: no such suite is run; these are: {', '.join(suites)}")
    return name, value


def judge(report: Report, bars: Mapping[str, float]) -> None:
    """Puts a verdict on every bar, and on those of `ALWAYS`, into the report. BarError: there is no such figure."""
    for name in bars:
        if name not in report.figures:
            suite = name.partition(".")[0]
            known = [other for other in report.figures if other.startswith(f"{suite}.")]
            raise BarError(f"there is no figure {name!r}; {suite} has {', '.join(known)}")
    always = {name: bar for name, bar in ALWAYS.items() if name in report.figures}
    report.bars = []
    for name, bar in (always | dict(bars)).items():
        figure = report.figures[name]
        value = figure.hall.value
        met = value >= bar - 1e-9 if figure.better == "higher" else value <= bar + 1e-9  # NaN reaches nothing
        if name in always and math.isnan(value):
            met = True  # no answer was given, so none was wrong
        report.bars.append(Verdict(name, bar, value, met))


def read_baseline(path: Path) -> dict[str, Any]:
    """An earlier report's JSON. BaselineError says what is wrong with it."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BaselineError(f"{path}: no report of govlm eval (its format has to be {FORMAT!r})")
    for key in ("figures", "samples", "groups"):
        if not isinstance(found.get(key), dict):
            raise BaselineError(f"{path}: {key!r} is missing or no table")
    return found


def compare(report: Report, baseline: Mapping[str, Any], name: str) -> None:
    """Puts the change of every figure that both have into the report. name: of the baseline's file."""
    report.baseline, report.changes = name, {}
    for key, figure in report.figures.items():
        then = baseline["figures"].get(key)
        if then is None:
            continue
        try:
            before = math.nan if then["value"] is None else float(then["value"])
            cases, paired = _paired(report, baseline, key) if then["statistic"] == figure.statistic else (0, None)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise BaselineError(f"{name}: the results of {key} cannot be read ({error})") from None
        report.changes[key] = Change(before, cases, paired)


def _paired(report: Report, baseline: Mapping[str, Any], key: str) -> tuple[int, Difference | None]:
    figure = report.figures[key]
    sample = report.samples[figure.sample]
    old = baseline["samples"].get(baseline["figures"][key]["sample"])
    keys = baseline["groups"].get(old["group"]) if old else None
    if not old or not keys:
        return 0, None
    if len(keys) != len(old["rows"]):
        raise ValueError(f"{len(old['rows'])} rows for {len(keys)} cases")
    rows = dict(zip(keys, old["rows"], strict=True))
    mine = zip(report.groups[sample.group], plain(sample.rows), strict=True)  # rounded as the baseline's are
    shared = [(row, rows[case]) for case, row in mine if case in rows]
    if not shared:
        return 0, None
    now, then = ([_row(pair[i]) for pair in shared] for i in (0, 1))
    return len(shared), difference(figure.statistic, now, then, report.resamples)


def _row(row: Any) -> Any:
    return tuple(row) if isinstance(row, list) else row
