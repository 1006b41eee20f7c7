"""The order in which items and documents are recommended: a sum of a few features, each of which is a reason in plain words.

    score = 3.0 event (halved every 90 days) + 0.3 employment + 0.5 age + 1.5 applied together + 2.0 looked at (halved every 15 days)
          + 0.2 looked at the like + 1.0 popularity

The weights were set by hand and looked at on two simulated logs (seeds 100 and 101) that are not among those of the figures: a fact that
lasts (employment) says little of when, a look says much. A hall with a log of its own sets them by `replay`.
Features lie between 0 and 1. Pure: what is known comes in as arguments. `common` takes nothing about a person, so that its list is
the same for all: it is what one gets who has opted out (个人信息保护法 art. 24), or of whom nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import permutations

from govlm.hall.catalogue.records import Document
from govlm.hall.protection.people import Event, parsed
from govlm.hall.push.candidates import Candidates
from govlm.hall.push.profile import Profile

__all__ = ["COMMON", "Pushed", "Stats", "common", "day", "personal"]

COMMON = "大家常办"
WEIGHTS = {"event": 3.0, "employment": 0.3, "age": 0.5, "together": 1.5, "seen": 2.0, "like": 0.2, "popular": 1.0}
_EVENT_DAYS, _SEEN_DAYS = 90.0, 15.0  # after which a fact counts half
_OLD_EVENT = 730  # days after which one is not told any more
_APPLIED_AGAIN = 180  # days within which what was applied for is not recommended again
_SUPPORT, _PRIOR = 5, 5.0  # people who must have done both, so that a reason tells of nobody; added to those who did the first
_LOOK = 0.2  # of an application, for popularity
_MOST_OF_ONE = 60  # items of one person that are counted together


@dataclass(frozen=True)
class Pushed:
    """reason: in Chinese, the fact or event that counted most. kind: "item" or "document"."""

    code: str
    reason: str
    name: str = ""
    score: float = 0.0
    kind: str = "item"


@dataclass(frozen=True)
class Stats:
    """Counts over all people; says nothing of any one. popular: 0 to 1; together: (first, then) -> people who applied for both."""

    popular: Mapping[str, float] = field(default_factory=dict)
    applied: Mapping[str, int] = field(default_factory=dict)
    together: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    people: int = 0

    @classmethod
    def of(cls, log: Iterable[tuple[str, Event]]) -> Stats:
        """From (person, event) of those who have not opted out. Somebody who does a thing often counts once."""
        did: dict[str, dict[str, str]] = {}
        looked: dict[str, set[str]] = {}
        for person, event in log:
            if event.kind == "applied":
                did.setdefault(person, {}).setdefault(event.code, event.at)
            elif event.kind in ("asked", "viewed"):
                looked.setdefault(person, set()).add(event.code)
        applied = Counter(code for codes in did.values() for code in codes)
        looks = Counter(code for codes in looked.values() for code in codes)
        together: dict[str, Counter[str]] = {}
        for codes in did.values():
            for first, then in permutations(sorted(codes)[:_MOST_OF_ONE], 2):
                together.setdefault(first, Counter())[then] += 1
        weight = {code: applied[code] + _LOOK * looks[code] for code in {*applied, *looks}}
        most = max(weight.values(), default=1.0)
        return cls({code: value / most for code, value in weight.items()}, applied, together, len({*did, *looked}))


def day(event: Event) -> date:
    """Of the event, where the machine is."""
    return parsed(event.at).astimezone().date()


def common(candidates: Candidates, stats: Stats, today: date, region: str = "", k: int | None = None) -> list[Pushed]:
    """What most people apply for, the same list for everyone; the catalogue's own order where nothing was counted. Items before documents."""
    codes = [code for code in _ordered(candidates, stats, today, region) if candidates.suits(code, "", "")]
    return [_made(candidates, code, COMMON, stats.popular.get(code, 0.0)) for code in codes[:k]]


def _ordered(candidates: Candidates, stats: Stats, today: date, region: str) -> list[str]:
    place = {code: i for i, code in enumerate(candidates.records)}

    def order(code: str) -> tuple[float, bool, int]:
        return -stats.popular.get(code, 0.0), isinstance(candidates.records[code], Document), place[code]

    return sorted(candidates.allowed(today, region), key=order)


def personal(
    candidates: Candidates, stats: Stats, today: date, profile: Profile, history: Sequence[Event], region: str = "",
    weights: Mapping[str, float] = WEIGHTS,
) -> list[Pushed]:  # fmt: skip
    """All that may be recommended to a person, best first. region: where the profile names none.

    What was dismissed, and what was applied for within 180 days, is not among it.
    """
    past = [event for event in history if day(event) <= today]
    shut = {event.code for event in past if event.kind == "dismissed"}
    shut |= {event.code for event in past if event.kind == "applied" and (today - day(event)).days < _APPLIED_AGAIN}
    features = _features(candidates, stats, today, profile, past)
    made = []
    for code in _ordered(candidates, stats, today, profile.region or region):
        if code in shut or not candidates.suits(code, profile.age, profile.employment):
            continue
        parts = [(weights["popular"] * stats.popular.get(code, 0.0), COMMON)]
        parts += [(weights[kind] * value, reason) for kind, value, reason in features.get(code, ()) if value > 0]
        # A fact of the person that counts at all is told before what is popular with everybody.
        told = max(parts[1:] or parts, key=lambda part: part[0])
        made.append(_made(candidates, code, told[1] if told[0] > 0.1 else COMMON, sum(value for value, _ in parts)))
    return sorted(made, key=lambda entry: -entry.score)  # stable: equals stay in the common order


Feature = tuple[str, float, str]  # its weight's name, 0 to 1, the reason


def _features(
    candidates: Candidates, stats: Stats, today: date, profile: Profile, past: Sequence[Event]
) -> dict[str, list[Feature]]:
    found: dict[str, dict[str, Feature]] = {}

    def add(code: str, kind: str, value: float, reason: str) -> None:
        """Of several reasons of one kind the best counts."""
        mine = found.setdefault(code, {})
        if code in candidates.records and (kind not in mine or mine[kind][1] < value):
            mine[kind] = (kind, value, reason)

    for name, when in profile.events.items():
        age = (today - when).days
        if 0 <= age <= _OLD_EVENT:
            for code, fit in candidates.fits(f"event.{name}").items():
                add(code, "event", fit * 0.5 ** (age / _EVENT_DAYS), f"因为您登记过「{name}」（{_written(when)}）")
    if profile.employment:
        for code, fit in candidates.fits(f"employment.{profile.employment}").items():
            add(code, "employment", fit, f"因为您登记的就业状况是「{profile.employment}」")
    if profile.age:
        for code, fit in candidates.fits(f"age.{profile.age}").items():
            add(code, "age", fit, f"因为您登记的年龄段是「{_age(profile.age)}」")
    groups: dict[str, list[str]] = {}
    for code in candidates.records:
        if group := candidates.group(code):
            groups.setdefault(group, []).append(code)
    done = {event.code for event in past if event.kind == "applied"}
    dismissed = {event.code for event in past if event.kind == "dismissed"}
    for event in past:
        if event.code not in candidates.records or event.code in dismissed:
            continue
        when, name = day(event), candidates.name(event.code)
        recent = 0.5 ** ((today - when).days / _SEEN_DAYS)
        if event.kind == "applied":
            for then, share in _with(stats, event.code):
                add(then, "together", share, f"因为您{_written(when)}办过「{name}」，办过它的人也常办这一项")
        elif event.kind in ("asked", "viewed"):
            verb = "问过" if event.kind == "asked" else "看过"
            if event.code not in done:
                add(event.code, "seen", recent, f"因为您{_written(when)}{verb}这一项")
            for code in groups.get(candidates.group(event.code), ()):
                if code != event.code:
                    add(code, "like", recent, f"因为您{_written(when)}{verb}同类的「{name}」")
    return {code: list(kinds.values()) for code, kinds in found.items() if kinds}


def _with(stats: Stats, first: str) -> Iterable[tuple[str, float]]:
    """(then, how much oftener than by everybody it is applied for by those who did the first)."""
    for then, both in stats.together.get(first, {}).items():
        if both >= _SUPPORT:
            yield then, max(0.0, both / (stats.applied[first] + _PRIOR) - stats.applied[then] / max(1, stats.people))


def _made(candidates: Candidates, code: str, reason: str, score: float) -> Pushed:
    kind = "document" if isinstance(candidates.records[code], Document) else "item"
    return Pushed(code, reason, candidates.name(code), score, kind)


def _written(when: date) -> str:
    return f"{when.year}年{when.month}月{when.day}日"


def _age(band: str) -> str:
    return "80岁以上" if band == "80+" else f"{band}岁"
