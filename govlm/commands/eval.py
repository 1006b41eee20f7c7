"""`govlm eval` measures a hall on case files, beside a keyword-rule engine and against a stored baseline."""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from govlm.commands.common import UsageError, add_common, emit, positive, progress, set_threads

__all__ = ["register"]

_FILES = ("report.json", "report.html", "junit.xml")


def _suites(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a date like 2026-03-05 is expected, not {text!r}") from None


class _Bars:
    """A progress bar a suite; its files are one after the other, so it begins anew with each."""

    def __init__(self, show: bool | None) -> None:
        self._off = None if show is None else not show
        self._bar: Any = None

    def __call__(self, suite: str, done: int, every: int) -> None:
        from tqdm import tqdm

        if done == 0:
            self.close()
            self._bar = tqdm(total=every, desc=suite, unit="case", disable=self._off, leave=False)
        elif self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _eval(arguments: argparse.Namespace) -> int:
    from govlm.hall.evaluation import SUITES, Cases, evaluate
    from govlm.hall.evaluation.comparison import BarError, compare, judge, parse_bar, read_baseline
    from govlm.hall.evaluation.page import page
    from govlm.hall.evaluation.text import junit, table
    from govlm.hall.hall import Hall

    suites = arguments.suite
    if unknown := [name for name in suites or () if name not in SUITES]:
        raise UsageError(f"--suite: no suite {unknown[0]!r}; there are {', '.join(SUITES)}")
    try:
        bars = dict(parse_bar(text, suites or SUITES) for text in arguments.bar)
    except BarError as error:
        raise UsageError(f"--bar: {error}") from None
    if arguments.cases is None and arguments.directory is None:
        raise UsageError("--cases DIR is needed: the sample hall brings no case files")
    folder = Path(arguments.cases or Path(arguments.directory) / "cases")
    baseline = None if arguments.baseline is None else read_baseline(Path(arguments.baseline))
    set_threads(arguments)
    cases = Cases.read(folder, suites)
    name = "sample hall" if arguments.directory is None else ""
    shown = _Bars(progress(arguments))
    with Hall.sample() if arguments.directory is None else Hall.open(arguments.directory) as hall:
        report = evaluate(hall, cases, suites, arguments.today, arguments.resamples, shown, name)
    shown.close()
    if baseline is not None:
        compare(report, baseline, Path(arguments.baseline).name)
    wrong = None
    try:
        judge(report, bars)
    except BarError as error:  # the figures are known only now; what was measured is kept
        wrong = error
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    found = report.to_json()
    written = (json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n", page(report), junit(report))
    for name, text in zip(_FILES, written, strict=True):
        (out / name).write_text(text, encoding="utf-8", errors="replace")
    if wrong is not None:
        raise UsageError(f"--bar: {wrong} (the report is in {out})")
    if arguments.json:
        kept = {key: value for key, value in found.items() if key not in ("groups", "samples", "failures")}
        emit({**kept, "failures": len(report.failures), "passed": report.passed, "files": [str(out / name) for name in _FILES]})
    else:
        print(table(report))
        print(f"written: {', '.join(str(out / name) for name in _FILES)}")
    return 0 if report.passed else 1


def register(command: Any) -> None:
    """Adds this module's command; `command(name, run, help)` gives its parser."""
    sub = command("eval", _eval, "measure a hall on case files: understanding, retrieval, answers, privacy")
    sub.add_argument("directory", nargs="?", metavar="HALL", help="folder of the hall (default: the bundled sample hall)")
    sub.add_argument(
        "--suite",
        type=_suites,
        metavar="S,S",
        help="understanding, retrieval, answers, privacy, forms, dialogue, policy, push; commas between (all that have cases)",
    )
    sub.add_argument(
        "--cases",
        metavar="DIR",
        help="business, out_of_scope, acts, slots, answers, privacy, forms, policy .jsonl, dialogue.yaml; only what the suites read (HALL/cases)",
    )
    sub.add_argument("--out", default="evaluation", metavar="DIR", help=f"where {', '.join(_FILES)} go (evaluation)")
    sub.add_argument(
        "--bar", action="append", default=[], metavar="FIGURE=N",
        help="exit code 1 below it, like understanding.business_macro_f1=0.95; above it where less is better (may be repeated; that "
        "citations resolve, numbers are verbatim and no invalid one is accepted is always asked for)",
    )  # fmt: skip
    sub.add_argument("--baseline", metavar="FILE", help="report.json of an earlier run: differences, by paired bootstrap")
    sub.add_argument("--today", type=_day, metavar="DAY", help="the day on which everything is asked (the day it is)")
    sub.add_argument("--resamples", type=positive, default=1000, metavar="N", help="of the bootstrap (1000)")
    add_common(sub)
