"""What an evaluation found: figures, what each case gave, the cases that failed; and the same as JSON.

Nothing personal is in it: the texts of failed cases are masked, and a case is known by a hash of its masked text.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from govlm.hall.evaluation.statistics import Difference, Estimate, Rows, difference, estimate
from govlm.hall.privacy import find, mask
from govlm.hall.understanding.slots import find_slots

__all__ = ["FORMAT", "Change", "Failure", "Figure", "Report", "Sample", "Verdict", "case_keys", "clean", "masked", "plain"]

FORMAT = "govlm-evaluation/1"
_SAID = ("name", "address")  # slots that are personal, and that `mask` leaves
_OPEN = ("date", "amount", "organisation")  # slots that are not personal


@dataclass(frozen=True)
class Sample:
    """What each case of a group gave: `rows` of the hall, `rules` of the keyword engine (None: it does not do this)."""

    group: str
    rows: Rows
    rules: Rows | None = None


@dataclass(frozen=True)
class Figure:
    """name: suite.what; zh, en: what it is. statistic: of `statistics.STATISTICS`, over `sample`. better: "higher" or "lower".
    kind: of the slots or personal data that it counts, "" = no single one. ahead: the hall's less the rules'.
    """

    name: str
    zh: str
    en: str
    statistic: str
    sample: str
    better: str
    cases: int
    hall: Estimate
    kind: str = ""
    rules: Estimate | None = None
    ahead: Difference | None = None

    @property
    def suite(self) -> str:
        return self.name.split(".", 1)[0]

    @property
    def count(self) -> bool:
        """Whether it is a number of things, not a share."""
        return self.statistic == "sum"


@dataclass(frozen=True)
class Failure:
    """A case that went wrong. text is masked; wanted and found are written for people."""

    suite: str
    what: str
    file: str
    line: int
    text: str
    wanted: str
    found: str


@dataclass(frozen=True)
class Verdict:
    """Whether a figure reaches its bar: at least, where higher is better, else at most."""

    figure: str
    bar: float
    value: float
    met: bool


@dataclass(frozen=True)
class Change:
    """A figure against the baseline's. difference: now less then, by paired bootstrap over the cases that both have; None where the
    baseline has no results of the cases. cases: how many both have.
    """

    before: float
    cases: int
    difference: Difference | None


@dataclass
class Report:
    """Filled by the suites; `hall` is the name of the hall's folder."""

    hall: str
    items: int
    documents: int
    today: date
    resamples: int
    suites: list[str] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)  # keys of the cases
    samples: dict[str, Sample] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    bars: list[Verdict] = field(default_factory=list)
    baseline: str = ""  # name of the file
    changes: dict[str, Change] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return all(verdict.met for verdict in self.bars)

    def add(self, name: str, zh: str, en: str, statistic: str, sample: str, lower: bool = False, kind: str = "") -> None:
        """A figure over a sample that is there."""
        data = self.samples[sample]
        found = estimate(statistic, data.rows, self.resamples)
        rules = ahead = None
        if data.rules is not None:
            rules = estimate(statistic, data.rules, self.resamples)
            ahead = difference(statistic, data.rows, data.rules, self.resamples)
        better = "lower" if lower else "higher"
        self.figures[name] = Figure(name, zh, en, statistic, sample, better, len(data.rows), found, kind, rules, ahead)

    def sample(self, name: str, group: str, rows: Rows, rules: Rows | None = None) -> str:
        """Stores what the cases of a group gave, in the group's order; returns the name."""
        if len(rows) != len(self.groups[group]):
            raise ValueError(f"{name}: {len(rows)} rows for the {len(self.groups[group])} cases of {group}")
        self.samples[name] = Sample(group, rows, rules)
        return name

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN is null."""
        return {
            "format": FORMAT,
            "hall": self.hall,
            "items": self.items,
            "documents": self.documents,
            "today": self.today.isoformat(),
            "resamples": self.resamples,
            "suites": self.suites,
            "figures": {name: _figure(figure) for name, figure in self.figures.items()},
            "bars": [plain(vars(verdict)) for verdict in self.bars],
            "baseline": self.baseline,
            "changes": {name: _change(change) for name, change in self.changes.items()},
            "failures": [vars(failure) for failure in self.failures],
            "groups": self.groups,
            "samples": {
                name: {"group": sample.group, "rows": plain(sample.rows), "rules": plain(sample.rules)}
                for name, sample in self.samples.items()
            },
        }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "zh": figure.zh,
        "en": figure.en,
        "statistic": figure.statistic,
        "sample": figure.sample,
        "better": figure.better,
        "kind": figure.kind,
        "cases": figure.cases,
        **plain(figure.hall._asdict()),
        "rules": None if figure.rules is None else plain(figure.rules._asdict()),
        "ahead": None if figure.ahead is None else plain(figure.ahead._asdict()),
    }


def _change(change: Change) -> dict[str, Any]:
    paired = None if change.difference is None else plain(change.difference._asdict())
    return {"before": plain(change.before), "cases": change.cases, "difference": paired}


def plain(value: Any) -> Any:
    """The value as it stands in JSON: six decimals, null for NaN."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def case_keys(texts: Iterable[str], today: date) -> list[str]:
    """A key a text, the same whatever file and line it stands in: a hash of it without personal data, numbered where two are alike."""
    seen: Counter[str] = Counter()
    keys = []
    for text in texts:
        key = hashlib.sha256(masked(text, today).encode("utf-8", "replace")).hexdigest()[:16]
        seen[key] += 1
        keys.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return keys


def masked(text: str, today: date, marks: Sequence[Mapping[str, Any]] = ()) -> str:
    """The text, its length kept, without personal data: what is found, persons and addresses, and what the case marks but nothing
    found, of which one character stays. A given name is hidden wherever it stands again (一诺千金的一诺).
    """
    chars = list(mask(text, today))
    hidden = {(span.start, span.end) for span in find(text, today)}
    spans = [(slot.start, slot.end, slot.kind) for slot in find_slots(text, today) if slot.kind in _SAID]
    spans += [(mark["start"], mark["end"], mark["kind"]) for mark in marks if mark["kind"] not in _OPEN]
    for start, end, kind in spans:
        if (start, end) in hidden:
            continue
        rest = text[start + 1 : end]
        again = [m.start() for m in re.finditer(re.escape(rest), text)] if kind == "name" and len(rest) > 1 else []
        for first in {start + 1, *again}:
            for place in range(first, first + len(rest)):
                if chars[place].isalnum():
                    chars[place] = "*"
    return "".join(chars)


def clean(text: str) -> str:
    """Without what XML and terminals do not take: control characters and halves of characters become a sign."""
    return "".join(char if char.isprintable() else " " if char in "\t\r\n" else "�" for char in text)
