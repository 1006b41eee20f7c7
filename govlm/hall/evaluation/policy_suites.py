"""The suites of policy texts (summary, interpretation, key terms) and of recommendations."""

from __future__ import annotations

from datetime import date

from govlm.hall.answers.citations import numbers
from govlm.hall.catalogue.columns import import_items
from govlm.hall.catalogue.records import Document
from govlm.hall.evaluation.bench import Bench
from govlm.hall.evaluation.cases import Case, CasesError
from govlm.hall.hall import SAMPLE
from govlm.hall.policy import interpret, keywords, summarise
from govlm.hall.push.candidates import Candidates
from govlm.hall.push.replay import personal_ranker, popular_ranker, replay
from govlm.hall.push.simulate import simulate

__all__ = ["policy", "push"]

_SEEDS = (0, 1, 2)  # of the simulated logs
_PEOPLE = 200
_CUTS = (date(2025, 9, 15), date(2026, 2, 15))  # days on which the recommendations are held against what follows


def policy(bench: Bench) -> None:
    """What must be in summaries, interpretations and key terms; and that every number stands where it is said to stand."""
    report, suite = bench.report, "policy"
    cases = bench.group("policy")
    found = bench.each(suite, cases, lambda case: _read(bench, case))
    for column, (name, zh, en) in enumerate(
        (
            ("summary_kept", "摘要 要点保留", "summary, what must be kept"), ("points_found", "解读 要点找到", "interpretation, points found"),
            ("keywords_found", "关键词 找到", "key terms found"), ("numbers_verbatim", "摘要与解读 数字与原文一致", "numbers verbatim"),
        )
    ):  # fmt: skip
        report.sample(f"{suite}.{name}", "policy", [rows[column] for rows in found])
        report.add(f"{suite}.{name}", zh, en, "ratio", f"{suite}.{name}")


def _document(bench: Bench, case: Case) -> Document:
    for document in bench.library.documents.values():
        if document.title == case.text:
            return document
    raise CasesError(f"{bench.cases.where('policy', case)}: {case.text!r} is no document of this hall")


def _read(bench: Bench, case: Case) -> list[tuple[int, int]]:
    """(right, all) of each figure."""
    document, values = _document(bench, case), case.values
    summary, reading = summarise(document, length=values["length"]), interpret(document)
    terms = " ".join(keyword.text for keyword in keywords(document, k=5))
    kept = [text in summary.text for text in values["summary"]]
    points = {name: "\n".join(point.text for point in reading.points(name)) for name in values["points"]}
    told = [(name, text, text in points[name]) for name, texts in values["points"].items() for text in texts]
    named = [text in terms for text in values["keywords"]]
    for text, there in zip(values["summary"], kept, strict=True):
        if not there:
            bench.failed("policy", "summary", "policy", case, text, summary.text)
    for name, text, there in told:
        if not there:
            bench.failed("policy", name, "policy", case, text, points[name])
    spans = [(s.text, s.start, s.end) for s in summary.sentences]
    spans += [(p.text, p.start, p.end) for name in values["points"] for p in reading.points(name)]
    verbatim = [
        (sum(number in numbers(document.text[start:end]) for number in numbers(text)), len(numbers(text)))
        for text, start, end in spans
    ]
    right, every = (sum(column) for column in zip(*verbatim, strict=True)) if verbatim else (0, 0)
    return [(sum(kept), len(kept)), (sum(t for *_, t in told), len(told)), (sum(named), len(named)), (right, every)]


def push(bench: Bench) -> None:
    """Replayed on simulated logs over the sample hall: of people who applied for something new within 30 days, those who had it among
    the first five; beside popularity. It measures the ranking, not this hall's catalogue."""
    report, suite = bench.report, "push"
    items, _ = import_items(SAMPLE / "items.jsonl")
    candidates = Candidates(items, [])
    ours: list[tuple[int, int]] = []
    popular: list[tuple[int, int]] = []
    for done, seed in enumerate(_SEEDS):
        bench.progress(suite, done, len(_SEEDS))
        log = simulate(items, people=_PEOPLE, seed=seed)
        for cut in _CUTS:
            for rows, ranker in ((ours, personal_ranker(candidates)), (popular, popular_ranker(candidates))):
                found = replay(log, [cut], ranker)
                rows.append((round(found.hit_rate * found.people), found.people))
    bench.progress(suite, len(_SEEDS), len(_SEEDS))
    report.groups[suite] = [f"seed {seed}, {cut}" for seed in _SEEDS for cut in _CUTS]
    report.sample(f"{suite}.hits", suite, ours, popular)
    report.add(
        f"{suite}.hit_rate",
        "推荐 前五命中率（与热门相比）",
        "recommendations, hit rate of five (rules: popularity)",
        "ratio",
        f"{suite}.hits",
    )
