"""The suites of what leads through a procedure: forms filled from free text, and scripted conversations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from govlm.hall.evaluation.bench import Bench
from govlm.hall.evaluation.cases import Case
from govlm.hall.evaluation.results import Failure
from govlm.hall.evaluation.scripts import Missed, play
from govlm.hall.forms.fill import Filled, fill
from govlm.hall.protection.sessions import Exchange, Saved, StaleSession, Submission

__all__ = ["MemorySessions", "dialogue", "forms"]

_NOTHING = "—"
_CHECKED = frozenset(
    {"identity_card", "credit_code", "bank_card", "mobile"}
)  # kinds of fields whose value can be checked by itself


class MemorySessions:
    """Conversations that leave no trace in the hall that is measured."""

    def __init__(self) -> None:
        self._kept: dict[str, Saved] = {}
        self.submitted: dict[str, Submission] = {}

    def load(self, session_id: str, key: str = "") -> Saved:
        return self._kept.get(session_id, Saved(0, None, {}))  # its messages bear no keys

    def save(
        self, session_id: str, version: int, state: dict[str, Any], values: dict[str, str], *, now: datetime,
        submission: Submission | None = None, exchange: Exchange | None = None,
    ) -> int:  # fmt: skip
        if self.load(session_id).version != version:
            raise StaleSession(f"session {session_id!r} has moved on")
        self._kept[session_id] = Saved(version + 1, state, values)
        if submission is not None:
            self.submitted.setdefault(submission.key, submission)
        return version + 1


# ------------------------------------------------------------------------------------------------------------------------ forms


def forms(bench: Bench) -> None:
    """Fields from free text: exactly the fields that are right, with exactly their values."""
    report, suite = bench.report, "forms"
    cases = bench.group("forms")
    filled: list[Filled] = bench.each(suite, cases, lambda case: _fill(bench, case))
    given = [{name: entry.value for name, entry in found.fields.items()} for found in filled]
    wanted: list[Mapping[str, str]] = [case.values["fields"] for case in cases]
    kinds = [{name: field.kind for name, field in bench.hall.form(case.values["form"])[1].fields.items()} for case in cases]
    rows = [(sum(b.get(n) == v for n, v in a.items()), len(a.keys() | b.keys())) for a, b in zip(wanted, given, strict=True)]
    checked = []
    for a, b, kind in zip(wanted, given, kinds, strict=True):
        names = {name for name in a.keys() | b.keys() if kind.get(name) in _CHECKED}
        checked.append((sum(a.get(name) == b.get(name) for name in names), len(names)))
    invalid = [
        sum(kind.get(name) in _CHECKED and name not in a for name in b) for a, b, kind in zip(wanted, given, kinds, strict=True)
    ]
    problems = [
        int(sorted({p.kind for p in found.problems}) == sorted(set(case.values["problems"])))
        for case, found in zip(cases, filled, strict=True)
    ]
    for name, zh, en, statistic, values, lower in (
        ("fields_exact", "字段 完全一致", "fields, exact", "ratio", rows, False),
        ("checked_exact", "带校验的字段 完全一致", "fields with checks, exact", "ratio", checked, False),
        ("invalid_accepted", "误收的无效号码（个）", "invalid values accepted (count)", "sum", invalid, True),
        ("whole_right", "整句全对", "sentences wholly right", "mean", [int(dict(a) == b) for a, b in zip(wanted, given, strict=True)], False),
        ("problems_told", "问题 报告正确", "problems told as they are", "mean", problems, False),
    ):  # fmt: skip
        report.sample(f"{suite}.{name}", "forms", values)
        report.add(f"{suite}.{name}", zh, en, statistic, f"{suite}.{name}", lower)
    for case, a, b, told, found in zip(cases, wanted, given, problems, filled, strict=True):
        for name in sorted(a.keys() | b.keys()):
            if a.get(name) != b.get(name):
                bench.failed(suite, name, "forms", case, a.get(name, _NOTHING), b.get(name, ""))
        if not told:
            kinds_told = "、".join(sorted({problem.kind for problem in found.problems}))
            bench.failed(suite, "problems", "forms", case, "、".join(case.values["problems"]) or _NOTHING, kinds_told)


def _fill(bench: Bench, case: Case) -> Filled:
    _, form = bench.hall.form(case.values["form"])
    today = date.fromisoformat(case.values["today"])
    return fill(form, case.text, asking=case.values.get("asking"), known=case.values.get("known", {}), today=today)


# --------------------------------------------------------------------------------------------------------------------- dialogue


def dialogue(bench: Bench) -> None:
    """Scripted conversations: every turn reaches the expected state."""
    report, suite = bench.report, "dialogue"
    cases = bench.group("dialogue")
    missed: list[list[list[Missed]]] = bench.each(suite, cases, lambda case: _play(bench, case))
    turns = [(sum(not turn for turn in script), len(script)) for script in missed]
    report.sample(f"{suite}.turns", "dialogue", turns)
    report.add(f"{suite}.turns_right", "轮次 状态正确", "turns with the expected state", "ratio", f"{suite}.turns")
    report.sample(f"{suite}.scripts", "dialogue", [int(right == every) for right, every in turns])
    report.add(
        f"{suite}.scripts_right", "对话 全程正确", "conversations right from beginning to end", "mean", f"{suite}.scripts"
    )
    for case, script in zip(cases, missed, strict=True):
        for miss in (miss for turn in script for miss in turn):
            text = f"{case.text}，第{miss.turn}轮：{miss.said[:80]}"
            report.failures.append(Failure(suite, miss.what, "dialogue.yaml", case.line, text, miss.wanted, miss.found[:200]))


def _play(bench: Bench, case: Case) -> list[list[Missed]]:
    sessions = MemorySessions()
    return play(
        case.values, bench.hall.conversations(sessions), "eval", bench.names, lambda: bench.hall.conversations(sessions)
    )
