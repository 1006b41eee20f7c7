"""How long answers took, kept as counts of a few classes, so that percentiles of many days and workers can be added up.

portal.usage.count("latency_class", bucket(38.2))       # "50": at most 50 ms
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping

__all__ = ["EDGES", "bucket", "percentile"]

EDGES = (
    5,
    10,
    20,
    30,
    50,
    75,
    100,
    150,
    200,
    300,
    500,
    750,
    1000,
    2000,
    5000,
    10_000,
)  # milliseconds; the last also holds what is above


def bucket(milliseconds: float) -> str:
    """The class: its upper edge, as text."""
    return str(EDGES[min(bisect.bisect_left(EDGES, milliseconds), len(EDGES) - 1)])


def percentile(counts: Mapping[str, int], share: float) -> int | None:
    """The upper edge, in milliseconds, of the class below whose end `share` of the counts lie; None without counts."""
    known = {edge: counts.get(str(edge), 0) for edge in EDGES}
    wanted, seen = share * sum(known.values()), 0
    for edge, count in known.items():
        seen += count
        if count and seen >= wanted:
            return edge
    return None
