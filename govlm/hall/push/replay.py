"""How well a ranking foretells what people then did: a log is cut on some day, the ranking sees what was before it.

    found = replay(log, [date(2026, 3, 1)], personal_ranker(candidates))
    found.hit_rate, found.ndcg, found.people

Measured on a simulated log (`simulate`), which tells whether the ranking uses what there is to use, not how people really act.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from govlm.hall.protection.people import Event
from govlm.hall.protection.sessions import utc
from govlm.hall.push.candidates import Candidates
from govlm.hall.push.profile import Profile
from govlm.hall.push.ranking import WEIGHTS, Stats, common, personal
from govlm.hall.push.simulate import Log

__all__ = ["Ranker", "Replayed", "personal_ranker", "popular_ranker", "replay"]

# (what the person told by then, what they did by then, counts over all by then, the day) -> codes, best first
Ranker = Callable[[Mapping[str, str], Sequence[Event], Stats, date], list[str]]


@dataclass(frozen=True)
class Replayed:
    """hit_rate: of people for whom one of the first k is what they then applied for.  ndcg: at k, binary gain (Järvelin and Kekäläinen
    2002).  people: lists, of those who applied for something
    new within the horizon."""

    hit_rate: float
    ndcg: float
    people: int


def replay(log: Log, cuts: Iterable[date], ranker: Ranker, k: int = 5, horizon: int = 30) -> Replayed:
    """Each person's list on each day of `cuts` against what they applied for within `horizon` days from it, and had not applied for before;
    the mean over all lists."""
    found = [_replay(log, cut, ranker, k, horizon) for cut in cuts]
    people = sum(count for _, _, count in found)
    return Replayed(
        sum(hits for hits, _, _ in found) / max(1, people), sum(gains for _, gains, _ in found) / max(1, people), people
    )


def _replay(log: Log, cut: date, ranker: Ranker, k: int, horizon: int) -> tuple[float, float, int]:
    """(hits, gains, people) of one day."""
    before: dict[str, list[Event]] = {}
    after: dict[str, set[str]] = {}
    past: list[tuple[str, Event]] = []
    for person, kind, code, when in log.events:
        if when < cut:
            event = Event(kind, code, utc(datetime.combine(when, time(12))))
            before.setdefault(person, []).append(event)
            past.append((person, event))
        elif kind == "applied" and when < cut + timedelta(horizon):
            after.setdefault(person, set()).add(code)
    stats = Stats.of(past)
    hits = gains = 0.0
    people = 0
    for person in sorted(after):
        history = before.get(person, [])
        wanted = after[person] - {event.code for event in history if event.kind == "applied"}
        if not wanted:
            continue
        people += 1
        told = {
            name: value
            for name, value in log.profiles[person].items()
            if not name.startswith("event.") or date.fromisoformat(value) < cut
        }
        codes = ranker(told, history, stats, cut)[:k]
        hits += any(code in wanted for code in codes)
        best = sum(1 / math.log2(i + 2) for i in range(min(k, len(wanted))))
        gains += sum(1 / math.log2(i + 2) for i, code in enumerate(codes) if code in wanted) / best
    return hits, gains, people


def personal_ranker(candidates: Candidates, weights: Mapping[str, float] = WEIGHTS) -> Ranker:
    """The hall's own. weights: others, to see what a feature is worth."""

    def rank(told: Mapping[str, str], history: Sequence[Event], stats: Stats, today: date) -> list[str]:
        return [entry.code for entry in personal(candidates, stats, today, Profile.of(told), history, weights=weights)]

    return rank


def popular_ranker(candidates: Candidates) -> Ranker:
    """What is most applied for and the person has not applied for: the ranking to beat."""

    def rank(told: Mapping[str, str], history: Sequence[Event], stats: Stats, today: date) -> list[str]:
        done = {event.code for event in history if event.kind == "applied"}
        return [entry.code for entry in common(candidates, stats, today) if entry.code not in done]

    return rank
