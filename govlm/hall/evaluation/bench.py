"""What the suites work at: a hall, cases, and the report that they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from govlm.hall.evaluation.cases import Case, Cases
from govlm.hall.evaluation.results import Failure, Report, case_keys, masked
from govlm.hall.evaluation.rules import RuleEngine
from govlm.hall.hall import Hall
from govlm.hall.library import Library

__all__ = ["Bench", "Progress"]

Progress = Callable[[str, int, int], None]  # (suite, done, all)
_NOTHING = "—"


@dataclass
class Bench:
    hall: Hall
    library: Library
    rules: RuleEngine
    cases: Cases
    report: Report
    progress: Progress

    @property
    def today(self) -> date:
        return self.report.today

    @cached_property
    def names(self) -> dict[str, str]:
        """Of the items, by their codes."""
        return {code: item.name for code, item in self.library.items.items()} | {"": ""}

    def group(self, name: str, cases: Sequence[Case] | None = None) -> Sequence[Case]:
        """The cases of a file, or those of them that are given, as a group of the report."""
        found = self.cases.files[name] if cases is None else cases
        self.report.groups[name] = case_keys((case.text for case in found), self.today)
        return found

    def failed(self, suite: str, what: str, file: str, case: Case, wanted: str, found: str) -> None:
        marks = [*case.values.get("slots", ()), *case.values.get("spans", ())]
        text = masked(case.text, self.today, marks)
        self.report.failures.append(Failure(suite, what, f"{file}.jsonl", case.line, text, wanted, found or _NOTHING))

    def each(self, suite: str, cases: Sequence[Case], ask: Callable[[Case], Any]) -> list[Any]:
        found = []
        for done, case in enumerate(cases):
            self.progress(suite, done, len(cases))
            found.append(ask(case))
        self.progress(suite, len(cases), len(cases))
        return found
