"""The suites: cases are put to the hall, and to the keyword-rule engine where it can do the same, and what they give is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from govlm.hall.answers.citations import CitationError, Resolver, check, numbers
from govlm.hall.answers.compose import FIELDS_OF
from govlm.hall.answers.rendering import Answer
from govlm.hall.evaluation import policy_suites, procedure_suites
from govlm.hall.evaluation.bench import Bench, Progress
from govlm.hall.evaluation.cases import FILES, SLOTS, Case, Cases
from govlm.hall.evaluation.results import Report, masked
from govlm.hall.evaluation.rules import RuleEngine
from govlm.hall.hall import Hall
from govlm.hall.library import business_of
from govlm.hall.privacy import Span, find
from govlm.hall.understanding.slots import find_slots

__all__ = ["SUITES", "Progress", "evaluate"]

SUITES = tuple(FILES)
_SEARCHED = 100  # hits that are looked through for the right item
_CHECKED = ("identity_card", "credit_code", "bank_card")  # kinds with check digits
_NOTHING = "—"


def evaluate(
    hall: Hall,
    cases: Cases,
    suites: Sequence[str] | None = None,
    today: date | None = None,
    resamples: int = 1000,
    progress: Progress | None = None,
    name: str = "",
) -> Report:
    """Runs suites over case files (default: all that have their files among the cases). today: the day on which everything is asked (default: the day it is); with the same hall, cases
    and day the report is the same. resamples: of the bootstrap. name: of the hall in the report (default: its folder's).

    CasesError: a case asks for an item or a business type that the hall does not have. ValueError: no such suite.
    """
    suites = cases.suites if suites is None else suites
    for suite in suites:
        if suite not in _RUN:
            raise ValueError(f"no suite {suite!r}; there are {', '.join(SUITES)}")
    library = hall.library
    items = library.items.values()
    cases.check_names((item.name for item in items), map(business_of, items))
    report = Report(name or hall.folder.name, len(items), len(library.documents), today or date.today(), resamples)
    bench = Bench(hall, library, RuleEngine(items), cases, report, progress or (lambda suite, done, every: None))
    for suite in dict.fromkeys(suites):
        _RUN[suite](bench)
        report.suites.append(suite)
    return report


# ---------------------------------------------------------------------------------------------------------------- understanding


def _understanding(bench: Bench) -> None:
    report, suite = bench.report, "understanding"
    cases = bench.group("business")
    hall = bench.each(suite, cases, lambda case: bench.hall.understand(case.text))
    rules = [bench.rules.understand(case.text) for case in cases]

    def labels(found: Sequence[Any], key: str) -> list[tuple[str, str]]:
        given = [u.business_type if key == "business" else bench.names.get(u.item, "") for u in found]
        return [(case.values[key], label) for case, label in zip(cases, given, strict=True)]

    def right(found: Sequence[Any]) -> list[int]:
        return [
            int(u.in_scope and wanted == given) for u, (wanted, given) in zip(found, labels(found, "business"), strict=True)
        ]

    for key in ("business", "item"):
        report.sample(f"{suite}.{key}", "business", labels(hall, key), labels(rules, key))
    report.sample(f"{suite}.understood", "business", right(hall), right(rules))
    away = [[int(not u.in_scope) for u in found] for found in (hall, rules)]
    report.sample(f"{suite}.turned_away", "business", *away)
    sure = [(u.confidence, int(u.business_type == case.values["business"])) for u, case in zip(hall, cases, strict=True)]
    report.sample(f"{suite}.confidence", "business", sure)
    outside = bench.group("out_of_scope")
    hall_outside = bench.each(suite, outside, lambda case: bench.hall.understand(case.text).in_scope)
    rules_outside = [bench.rules.understand(case.text).in_scope for case in outside]
    report.sample(f"{suite}.outside", "out_of_scope", [int(not f) for f in hall_outside], [int(not f) for f in rules_outside])
    said = bench.group("acts")
    acts = bench.each(suite, said, lambda case: bench.hall.understand(case.text).act)
    report.sample(
        f"{suite}.acts",
        "acts",
        [(case.values["act"], act) for case, act in zip(said, acts, strict=True)],
        [(case.values["act"], bench.rules.understand(case.text).act) for case in said],
    )
    for name, zh, en, statistic, sample, lower in (
        ("business_macro_f1", "业务类型 宏平均F1", "business type, macro-F1", "macro_f1", "business", False),
        ("business_accuracy", "业务类型 准确率", "business type, accuracy", "accuracy", "business", False),
        ("item_accuracy", "事项 准确率", "item, accuracy", "accuracy", "item", False),
        ("understood", "类型正确且未误拒", "type right and not turned away", "mean", "understood", False),
        ("out_of_scope_found", "范围外 识别率", "out of scope, found", "mean", "outside", False),
        ("false_alarms", "范围内 误拒率", "in scope, turned away", "mean", "turned_away", True),
        ("calibration_error", "校准误差 ECE", "expected calibration error", "calibration_error", "confidence", True),
        ("acts_accuracy", "对话行为 准确率", "dialogue act, accuracy", "accuracy", "acts", False),
        ("acts_macro_f1", "对话行为 宏平均F1", "dialogue act, macro-F1", "macro_f1", "acts", False),
    ):
        report.add(f"{suite}.{name}", zh, en, statistic, f"{suite}.{sample}", lower)
    for case, u in zip(cases, hall, strict=True):
        found = (u.business_type, bench.names.get(u.item, ""))
        wanted = (case.values["business"], case.values["item"])
        if found != wanted or not u.in_scope:
            bench.failed(
                suite, "business", "business", case, "·".join(wanted), "·".join(found) + ("" if u.in_scope else "（误拒）")
            )
    for case, inside in zip(outside, hall_outside, strict=True):
        if inside:
            bench.failed(suite, "out_of_scope", "out_of_scope", case, "范围外", "范围内")
    for case, act in zip(said, acts, strict=True):
        if act != case.values["act"]:
            bench.failed(suite, "acts", "acts", case, case.values["act"], act)
    _slots(bench)


def _slots(bench: Bench) -> None:
    suite = "understanding"
    cases = bench.group("slots")
    found = bench.each(
        suite,
        cases,
        lambda case: {
            (slot.kind, slot.start, slot.end): slot.value
            for slot in find_slots(case.text, date.fromisoformat(case.values["today"]))
        },
    )
    wanted = [{(s["kind"], s["start"], s["end"]): s["value"] for s in case.values["slots"]} for case in cases]
    _spans(bench, f"{suite}.slots", f"{suite}.slots", "slots", wanted, found, "槽位", "slots", ("precision", "recall", "f1"))
    values = []
    for right, given in zip(wanted, found, strict=True):
        both = right.keys() & given.keys()
        values.append((sum(right[key] == given[key] for key in both), len(both)))
    sample = bench.report.sample(f"{suite}.slots.values", "slots", values)
    bench.report.add(f"{suite}.slots.values", "槽位 取值正确率", "slots, values right where found", "ratio", sample)
    for case, right, given in zip(cases, wanted, found, strict=True):
        if right != given:
            text = masked(case.text, bench.today, case.values["slots"])
            missed, extra = (
                [key for key, value in some.items() if others.get(key) != value]
                for some, others in ((right, given), (given, right))
            )
            value = "（取值）" if set(missed) & set(extra) else ""
            bench.failed(suite, "slots", "slots", case, _shown(missed, text) + value, _shown(extra, text))


_Key = tuple[str, int, int]  # (kind, start, end)


def _shown(spans: Any, text: str) -> str:
    return "；".join(f"{kind} {text[start:end]}" for kind, start, end in sorted(spans, key=lambda key: key[1])) or _NOTHING


def _spans(
    bench: Bench,
    name: str,
    each: str,
    group: str,
    wanted: Sequence[Mapping[_Key, Any]],
    found: Sequence[Mapping[_Key, Any]],
    zh: str,
    en: str,
    statistics: Sequence[str],
) -> None:
    """Figures `name` over all kinds, then `each` of each kind: a span is right when its kind, beginning and end are."""
    kinds = sorted({key[0] for spans in (*wanted, *found) for key in spans}, key=list(SLOTS).index)
    for kind in ("", *kinds):
        rows = []
        for right, given in zip(wanted, found, strict=True):
            a, b = ({key for key in spans if key[0] == kind or not kind} for spans in (right, given))
            rows.append((len(a & b), len(b - a), len(a - b)))
        sample = bench.report.sample(f"{each}.{kind}" if kind else name, group, rows)
        label, known = (SLOTS[kind], kind) if kind else (zh, en)
        for statistic in statistics:
            said = f"{label} {_ZH[statistic]}", f"{known}, {statistic}"
            bench.report.add(f"{sample}.{statistic}", *said, statistic, sample, kind=kind)


_ZH = {"precision": "精确率", "recall": "召回率", "f1": "F1", "f2": "F2"}

# -------------------------------------------------------------------------------------------------------------------- retrieval


def _retrieval(bench: Bench) -> None:
    report, suite = bench.report, "retrieval"
    cases = bench.group("business")
    hall = bench.each(suite, cases, lambda case: bench.hall.search(case.text, _SEARCHED, today=bench.today))
    rules = [bench.rules.search(case.text, _SEARCHED, bench.today) for case in cases]

    def ranks(found: Sequence[Any]) -> list[int]:
        """Of the first hit that bears the item's name; 0 where none does."""
        names = [[hit.name for hit in hits] for hits in found]
        return [
            given.index(case.values["item"]) + 1 if case.values["item"] in given else 0
            for case, given in zip(cases, names, strict=True)
        ]

    found = ranks(hall), ranks(rules)
    for name, zh, en, score in (
        ("recall_at_1", "首位命中率 R@1", "right item first (R@1)", lambda rank: int(rank == 1)),
        ("recall_at_10", "前十命中率 R@10", "right item in the first ten (R@10)", lambda rank: int(0 < rank <= 10)),
        ("mrr", "平均倒数排名 MRR", "mean reciprocal rank", lambda rank: 1 / rank if rank else 0.0),
    ):
        sample = report.sample(f"{suite}.{name}", "business", *([score(rank) for rank in system] for system in found))
        report.add(f"{suite}.{name}", zh, en, "mean", sample)
    for case, rank, hits in zip(cases, found[0], hall, strict=True):
        if rank != 1:
            place = f"（正确事项第{rank}位）" if rank else "（未找到正确事项）"
            bench.failed(suite, "item", "business", case, case.values["item"], (hits[0].name if hits else "") + place)


# ---------------------------------------------------------------------------------------------------------------------- answers


def _answers(bench: Bench) -> None:
    report, suite = bench.report, "answers"
    cases = bench.group("answers")
    answers: list[Answer] = bench.each(suite, cases, lambda case: bench.hall.ask(case.text, today=bench.today))
    pairs = list(zip(cases, answers, strict=True))
    answerable = [(case, answer) for case, answer in pairs if not case.values["refused"]]
    refusable = [(case, answer) for case, answer in pairs if case.values["refused"]]

    def add(name: str, zh: str, en: str, chosen: list[tuple[Case, Answer]], score: Any, statistic: str = "mean", lower: bool = False) -> None:  # fmt: skip
        if not chosen:
            return
        bench.group(f"{suite}.{name}", [case for case, _ in chosen])
        sample = report.sample(f"{suite}.{name}", f"{suite}.{name}", [score(case, answer) for case, answer in chosen])
        report.add(sample, zh, en, statistic, sample, lower)

    def about(case: Case, answer: Answer) -> int:
        return int(_named(case) <= _about(bench, answer))

    add("right_item", "答对事项", "answered, about the right item", answerable, about)
    for kind in dict.fromkeys(case.values["kind"] for case, _ in answerable):
        some = [(case, answer) for case, answer in answerable if case.values["kind"] == kind]
        add(f"right_item.{kind}", f"答对事项（{_KINDS.get(kind, kind)}）", f"right item, {kind} questions", some, about)
    add("refusals", "该拒则拒", "refused where it must", refusable, lambda case, answer: int(answer.refused))
    add(
        "false_refusals",
        "误拒",
        "refused what it could answer",
        answerable,
        lambda case, answer: int(answer.refused),
        lower=True,
    )
    asking = [(case, answer) for case, answer in answerable if case.values["asks"]]
    add("parts", "所问部分齐全", "parts that were asked for are there", asking, _parts, "ratio")
    given = [(case, answer) for case, answer in pairs if not answer.refused]
    resolver = Resolver(bench.library)
    add("citations_resolve", "引用可查", "citations that resolve", given, lambda case, answer: _resolved(answer, resolver), "ratio")  # fmt: skip
    add("digits_verbatim", "数字照录", "numbers that stand in what is cited", given, lambda case, answer: _verbatim(answer), "ratio")  # fmt: skip
    add(
        "checked",
        "通过核对",
        "answers that pass the checker",
        given,
        lambda case, answer: int(not _held_back(answer, resolver)),
    )
    for case, answer in pairs:
        wanted, found = _judged(bench, case, answer)
        if wanted:
            bench.failed(suite, case.values["kind"], "answers", case, wanted, found)
        if not answer.refused and (why := _held_back(answer, resolver)):
            bench.failed(suite, "checked", "answers", case, "引用可查、数字照录", why)


_KINDS = {
    "plain": "一般", "unanswerable": "无法回答", "premise": "前提有误", "injection": "夹带指令", "traditional": "繁体", "typo": "错别字",
    "colloquial": "口语",
}  # fmt: skip


def _named(case: Case) -> set[str]:
    """What the answer must quote: names of items, titles of documents."""
    return {name for key in ("item", "document") if (name := case.values.get(key, ""))}


def _about(bench: Bench, answer: Answer) -> set[str]:
    """Names of the items and titles of the documents that an answer cites."""
    documents = bench.library.documents
    cited = {(citation.kind, citation.code) for citation in answer.citations}
    return {
        bench.names.get(code, "") if kind == "item" else documents[code].title if code in documents else ""
        for kind, code in cited
    }


def _missing(case: Case, answer: Answer) -> list[str]:
    """Parts that were asked for and that neither a part of the answer, nor a citation, nor a word that the record lacks it gives."""
    kinds = {part.kind for part in answer.parts}
    fields = {citation.field.split(".", 1)[0] for citation in answer.citations}
    fields |= {path.split(".", 1)[0] for part in answer.parts for s in part.sentences for path, _ in s.stated}
    return [kind for kind in case.values["asks"] if kind not in kinds and not fields & set(FIELDS_OF[kind])]


def _parts(case: Case, answer: Answer) -> tuple[int, int]:
    return len(case.values["asks"]) - len(_missing(case, answer)), len(case.values["asks"])


def _resolved(answer: Answer, resolver: Resolver) -> tuple[int, int]:
    right = 0
    for citation in answer.citations:
        try:
            resolver(citation)
        except ValueError:
            continue
        right += 1
    return right, len(answer.citations)


def _verbatim(answer: Answer) -> tuple[int, int]:
    right = every = 0
    for sentence in (sentence for part in answer.parts for sentence in part.sentences):
        held = {number for citation in sentence.citations for number in numbers(citation.text)}
        said = numbers(sentence.text)
        right, every = right + sum(number in held for number in said), every + len(said)
    return right, every


def _held_back(answer: Answer, resolver: Resolver) -> str:
    """Why the checker would not let the answer go out; "" where it would."""
    try:
        check(answer.parts, resolver)
    except CitationError as error:
        return str(error)
    return ""


def _judged(bench: Bench, case: Case, answer: Answer) -> tuple[str, str]:
    """(wanted, found) of a case that failed, ("", "") of one that did not."""
    found = f"拒答（{answer.reason}）" if answer.refused else "、".join(sorted(_about(bench, answer))) or "政策原文"
    if case.values["refused"]:
        return ("", "") if answer.refused else ("拒答", found)
    if not _named(case) <= _about(bench, answer):
        return "、".join(sorted(_named(case))), found
    missing = _missing(case, answer)
    return (f"有{'、'.join(missing)}", "、".join(part.kind for part in answer.parts)) if missing else ("", "")


# ---------------------------------------------------------------------------------------------------------------------- privacy


def _privacy(bench: Bench) -> None:
    report, suite = bench.report, "privacy"
    cases = bench.group("privacy")
    spans: list[list[Span]] = bench.each(suite, cases, lambda case: find(case.text, bench.today))
    found = [{(span.kind, span.start, span.end): span.valid for span in given} for given in spans]
    wanted = [{(s["kind"], s["start"], s["end"]): s["valid"] for s in case.values["spans"]} for case in cases]
    _spans(bench, f"{suite}.all", suite, "privacy", wanted, found, "全部种类", "all kinds", ("precision", "recall", "f1", "f2"))
    rows = []
    for right, given in zip(wanted, found, strict=True):
        a, b = ({key for key in some if key[0] in _CHECKED} for some in (right, given))
        rows.append((len(a & b), len(b - a), len(a - b)))
    sample = report.sample(f"{suite}.checksummed", "privacy", rows)
    for statistic in ("precision", "recall", "f1", "f2"):
        report.add(f"{sample}.{statistic}", f"带校验位的号码 {_ZH[statistic]}", f"numbers with check digits, {statistic}", statistic, sample)  # fmt: skip
    validity = [
        (sum(right[key] is given[key] for key in right.keys() & given.keys()), len(right.keys() & given.keys()))
        for right, given in zip(wanted, found, strict=True)
    ]
    sample = report.sample(f"{suite}.validity", "privacy", validity)
    report.add(sample, "真伪判断正确率", "validity right where found", "ratio", sample)
    accepted = [_accepted(right, given) for right, given in zip(wanted, found, strict=True)]
    sample = report.sample(f"{suite}.invalid_accepted", "privacy", accepted)
    report.add(sample, "误认为有效的号码（个）", "invalid numbers accepted (count)", "sum", sample, lower=True)
    for case, right, given in zip(cases, wanted, found, strict=True):
        if right != given:
            text = masked(case.text, bench.today, case.values["spans"])
            missed = [key for key, valid in right.items() if given.get(key, "") != valid]
            extra = [key for key, valid in given.items() if right.get(key, "") != valid]
            same = {key for key in missed if key in given}
            said = _shown(missed, text) + ("（真伪）" if same else "")
            bench.failed(suite, "validity" if same else "spans", "privacy", case, said, _shown(extra, text))


def _accepted(wanted: Mapping[_Key, Any], found: Mapping[_Key, Any]) -> int:
    """Marked as invalid, but something that overlaps is said to be a valid number with check digits."""
    return sum(
        any(kind in _CHECKED and valid is True and first < end and start < last for (kind, first, last), valid in found.items())
        for (_, start, end), right in wanted.items()
        if right is False
    )


_RUN: dict[str, Callable[[Bench], None]] = {
    "understanding": _understanding,
    "retrieval": _retrieval,
    "answers": _answers,
    "privacy": _privacy,
    "forms": procedure_suites.forms,
    "dialogue": procedure_suites.dialogue,
    "policy": policy_suites.policy,
    "push": policy_suites.push,
}
