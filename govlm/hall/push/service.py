"""Recording what people do, and recommending to them: the ranking with its limits, over the people of a hall.

The limits: what was recommended is not again within 30 days, no more than 10 in 7 days, what was dismissed never. Who opts out is recorded
no more and gets the common list, to which no limit applies since none can be kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time
from typing import Any

from govlm.hall.protection.people import Event, People
from govlm.hall.push.candidates import Candidates
from govlm.hall.push.profile import Profile
from govlm.hall.push.ranking import Pushed, Stats, common, day, personal

__all__ = ["KINDS", "Limits", "Push"]

KINDS = ("asked", "viewed", "applied", "dismissed")
_PUSHED = "pushed"  # what was recommended is an event, too
_CODES = ("code", "item", "document")


@dataclass(frozen=True)
class Limits:
    """days: within which a code is not recommended twice.  weekly: the most within 7 days."""

    days: int = 30
    weekly: int = 10


class Push:
    """Any number of threads may use it."""

    def __init__(self, people: People, candidates: Callable[[], Candidates], limits: Limits | None = None) -> None:
        """candidates: gives those of the catalogue in use."""
        self._people, self._candidates, self.limits = people, candidates, limits or Limits()
        self._stats: tuple[tuple[int, int], Stats] | None = None
        self._lock = threading.Lock()

    def record(self, person_id: str, event: Any) -> bool:
        """Keeps that a person asked about, viewed, applied for or dismissed something; False: the person has opted out.

        event: a mapping or dataclass {"kind", "code" (or "item", "document"), "at": datetime (default now)}. ValueError names what is
        wrong; a code that the catalogue does not have is wrong, so that nothing else can be written in its place.
        """
        kind, code, at = _read(event)
        if code not in self._candidates().records:
            raise ValueError("event: the catalogue has no item or document of this code")
        return self._people.record(person_id, kind, [code], now=at)

    def push(
        self, person_id: str, k: int = 5, today: date | None = None, region: str = "", *, count: bool = True
    ) -> list[Pushed]:
        """Up to k recommendations, best first, only what is in force on `today` (default: now) and of the person's region.

        region: GB/T 2260, of the site that is visited; that of the profile goes before it, where there is one. count: False only looks:
        the limits hold, but the list does not count towards them.
        """
        candidates, stats = self._candidates(), self.stats()
        day_ = today or date.today()
        if self._people.opted_out(person_id):
            return common(candidates, stats, day_, region, max(k, 0))  # nothing of the person goes in
        profile = Profile.of(self._people.profile(person_id))
        ranked: list[Pushed] = []

        def choose(events: list[Event]) -> list[str]:
            """Within the transaction that keeps what was chosen, so that two pages at once keep to the limits."""
            ranked[:] = personal(candidates, stats, day_, profile, [e for e in events if e.kind != _PUSHED], region)
            pushed = [(e.code, (day_ - day(e)).days) for e in events if e.kind == _PUSHED]
            shut = {code for code, age in pushed if 0 <= age < self.limits.days}
            left = self.limits.weekly - sum(0 <= age < 7 for _, age in pushed)
            return [entry.code for entry in ranked if entry.code not in shut][: max(0, min(k, left))]

        at = datetime.now() if today is None else datetime.combine(today, time(12))
        codes = (
            self._people.record_some(person_id, _PUSHED, choose, now=at) if count else choose(self._people.events(person_id))
        )
        chosen = set(codes)
        return [entry for entry in ranked if entry.code in chosen]

    def opt_out(self, person_id: str) -> None:
        """Nothing is recorded of the person from now on, and nothing known of them counts in what is recommended."""
        self._people.opt_out(person_id, now=datetime.now())

    def opt_in(self, person_id: str) -> None:
        """Undoes opt_out."""
        self._people.opt_out(person_id, now=datetime.now(), out=False)

    def stats(self) -> Stats:
        """Counts over all; made anew when the log has grown by a fiftieth, or somebody has opted out or in."""
        last, out = self._people.last_event()
        found = self._stats
        if found is not None and found[0][1] == out and 0 <= last - found[0][0] < max(1, found[0][0] // 50):
            return found[1]
        with self._lock:
            made = Stats.of(self._people.log(("asked", "viewed", "applied")))
            self._stats = ((last, out), made)
            return made


def _read(event: Any) -> tuple[str, str, datetime]:
    if is_dataclass(event) and not isinstance(event, type):
        event = {entry.name: getattr(event, entry.name) for entry in fields(event)}
    if not isinstance(event, Mapping):
        raise ValueError('event: a mapping like {"kind": "viewed", "item": code} is expected')
    if unknown := set(event) - {"kind", "at", *_CODES}:
        raise ValueError(f"event: {len(unknown)} unknown names; it has kind, item (or document, or code) and at")
    if event.get("kind") not in KINDS:
        raise ValueError(f"event: kind is one of {', '.join(KINDS)}")
    codes = [event[name] for name in _CODES if event.get(name)]
    if len(codes) != 1 or not isinstance(codes[0], str):
        raise ValueError("event: it has one code, of an item or a document")
    at = event.get("at")
    if isinstance(at, str):
        try:
            at = datetime.fromisoformat(at)
        except ValueError:
            raise ValueError("event: at is a time like 2026-11-24T09:30:00") from None
    if isinstance(at, date) and not isinstance(at, datetime):
        at = datetime.combine(at, time(12))
    if at is not None and not isinstance(at, datetime):
        raise ValueError("event: at is a datetime")
    return event["kind"], codes[0], at or datetime.now()
