"""How the portal is used, in counts of days: business types, satisfaction, hand-offs, latency. Nobody's data is in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from govlm.portal.latency import percentile
from govlm.portal.operations.usage import Count
from govlm.portal.portal import Here
from govlm.portal.security.access import allow

__all__ = ["router"]

router = APIRouter(prefix="/v1/admin", tags=["administration"])
_TYPES = 20  # business types that are told; the others are 其他


class Named(BaseModel):
    name: str
    count: int


class Day(BaseModel):
    """turns: questions, of which `refused` could not be answered. up, down: ratings. handoffs: requests for a person. p50, p95, p99:
    milliseconds within which that share of the answers came, rounded up to a class; None: there were none."""

    day: str
    turns: int
    refused: int
    up: int
    down: int
    handoffs: int
    p50: int | None
    p95: int | None
    p99: int | None


class UsageView(BaseModel):
    """days: each of them, the oldest first, in UTC. business: what was asked about, most first."""

    days: list[Day]
    business: list[Named]


@router.get("/usage", **allow("administrator", "auditor", scope="admin"))
async def usage(portal: Here, days: Annotated[int, Query(ge=1, le=366)] = 30) -> UsageView:
    """The last days, today included."""
    today = portal.clock().date()
    counts = await portal.gate.run(portal.usage.read, days, today)
    return summed(counts, [(today - timedelta(days=n)).isoformat() for n in reversed(range(days))])


def summed(counts: list[Count], days: list[str]) -> UsageView:
    """Counts of kinds business (name: the type), turn (answered, refused), rating (up, down), handoff, latency_class (`latency.bucket`)."""
    by_day: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    business: Counter[str] = Counter()
    for entry in counts:
        by_day[entry.day][entry.kind, entry.name] += entry.count
        if entry.kind == "business":
            business[entry.name or "其他"] += entry.count
    told = business.most_common(_TYPES)
    if rest := business.total() - sum(count for _, count in told):
        told.append(("其余类型", rest))
    return UsageView(
        days=[_day(day, by_day[day]) for day in days], business=[Named(name=name, count=count) for name, count in told]
    )


def _day(day: str, found: Counter[tuple[str, str]]) -> Day:
    def of(kind: str) -> int:
        return sum(count for (known, _), count in found.items() if known == kind)

    times = {name: count for (kind, name), count in found.items() if kind == "latency_class"}
    p50, p95, p99 = (percentile(times, share) for share in (0.5, 0.95, 0.99))
    return Day(
        day=day, turns=of("turn"), refused=found["turn", "refused"], up=found["rating", "up"], down=found["rating", "down"],
        handoffs=of("handoff"), p50=p50, p95=p95, p99=p99,
    )  # fmt: skip
