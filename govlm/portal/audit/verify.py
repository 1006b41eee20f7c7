"""Finds every entry of the audit that was changed, deleted, reordered or cut off, and names it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any, Literal

from govlm.hall.catalogue.database import Database
from govlm.hall.catalogue.tables import library
from govlm.hall.protection.people import parsed
from govlm.portal.audit.anchors import FILE, Anchor, Anchors
from govlm.portal.audit.chain import FIELDS, genesis, sealed
from govlm.portal.store.tables import tables

__all__ = ["KEPT", "Finding", "Note", "Verified", "verify"]

KEPT = 180  # days at least that entries are kept (网络安全法 art. 21: six months)
_FAR = 1000  # places between which a moved entry is looked for
Kind = Literal["changed", "deleted", "reordered", "cut_off", "chain_removed", "chain_unknown", "added", "anchor"]


@dataclass(frozen=True)
class Finding:
    """number: of the entry, 0 where it is the chain's or the file's as a whole."""

    kind: Kind
    chain: str
    number: int
    text: str


@dataclass(frozen=True)
class Note:
    """What is not wrong and should be known. number: of the anchors' line that is torn; how many entries are not anchored; else 0."""

    kind: Literal["torn", "elsewhere", "unanchored"]
    chain: str
    number: int
    text: str


@dataclass
class Verified:
    """findings: what is wrong. told: what is not, and should be known."""

    chains: int = 0
    entries: int = 0
    findings: list[Finding] = field(default_factory=list)
    told: list[Note] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.findings


@dataclass
class _Anchored:
    """What the anchors say of a chain. heads: digest by number."""

    heads: dict[int, str] = field(default_factory=dict)
    closed: int | None = None
    erased: Anchor | None = None
    last: str = ""  # when it was anchored last, before it was erased

    @property
    def highest(self) -> int:
        return max(self.heads, default=0)


def verify(database: Database, anchors: Anchors) -> Verified:
    """Reads all of it, while others may write."""
    found = Verified()
    lines, wrong, torn = anchors.read()  # before the entries: what is anchored then is in the database
    found.told += [Note("torn", "", place, f"{FILE} line {place}: torn, as by a power cut; left out") for place in torn]
    found.findings += [Finding("anchor", "", 0, text) for text in wrong]
    known = _by_chain(lines)
    table = tables()["audit"]
    seen: set[str] = set()
    with database.read() as connection:
        rows = connection.execution_options(yield_per=1000).execute(
            library("sqlalchemy", "the audit").select(table).order_by(table.c.chain, table.c.number)
        )
        for chain, group in groupby((dict(row) for row in rows.mappings()), key=lambda row: row["chain"]):
            seen.add(chain)
            found.chains += 1
            anchored = known.get(chain)
            last = _check(chain, group, anchored or _Anchored(), found)
            if anchored is None:
                if chain.endswith(f"-{anchors.mark}"):
                    found.findings.append(Finding("chain_unknown", chain, 0, "no anchor knows this chain"))
                else:
                    text = f"chain {chain}: anchored on another machine; here only its links were checked"
                    found.told.append(Note("elsewhere", chain, 0, text))
            else:
                _ends(chain, last, anchored, found)
    for chain, anchored in known.items():
        _missing(chain, anchored, chain in seen, found)
    return found


def _by_chain(lines: list[Anchor]) -> dict[str, _Anchored]:
    known: dict[str, _Anchored] = {}
    for line in lines:
        chain = known.setdefault(line.chain, _Anchored())
        if line.event == "erased":
            chain.erased = line
            continue
        chain.last = line.at
        if line.number:
            chain.heads[line.number] = line.digest
        if line.event == "closed":
            chain.closed = line.number
    return known


def _check(chain: str, rows: Iterator[dict[str, Any]], anchored: _Anchored, found: Verified) -> int:
    """The links of a chain; returns its last number."""
    expected, before, named = 1, genesis(chain), 0
    for row in rows:
        number = row["number"]
        found.entries += 1
        if number > expected:
            which = f"entry {expected}" if number == expected + 1 else f"entries {expected} to {number - 1}"
            found.findings.append(Finding("deleted", chain, expected, f"{which} deleted"))
        if sealed(row) != row["digest"]:
            origin = _origin(row)
            text = f"entry {number} was changed" if origin is None else f"entry {number} was written as {origin} and moved"
            found.findings.append(Finding("changed" if origin is None else "reordered", chain, number, text))
            named = number
        elif number == expected and row["previous"] != before and named != number - 1:
            text = (
                "is not the beginning" if number == 1 else f"does not follow entry {number - 1}: that was changed or replaced"
            )
            found.findings.append(Finding("changed", chain, max(number - 1, 1), f"entry {number} {text}"))
        elif anchored.heads.get(number, row["digest"]) != row["digest"] and named != number:
            found.findings.append(Finding("changed", chain, number, f"entry {number} is not the one that was anchored"))
            named = number
        expected, before = number + 1, row["digest"]
    return expected - 1


def _origin(row: dict[str, Any]) -> int | None:
    """The number under which an entry was written, where only that was changed."""
    for number in range(max(1, row["number"] - _FAR), row["number"] + _FAR):
        if number != row["number"] and sealed({**{name: row[name] for name in FIELDS}, "number": number}) == row["digest"]:
            return number
    return None


def _ends(chain: str, last: int, anchored: _Anchored, found: Verified) -> None:
    if last < anchored.highest:
        text = f"entries {last + 1} to {anchored.highest} cut off"
        found.findings.append(Finding("cut_off", chain, last + 1, text))
    elif anchored.closed is not None and last > anchored.closed:
        text = f"entries {anchored.closed + 1} to {last} added after the chain was closed"
        found.findings.append(Finding("added", chain, anchored.closed + 1, text))
    elif last > anchored.highest:
        more = last - anchored.highest
        text = f"chain {chain}: {more} entries after its last anchor are accepted; its worker writes it now, or was killed"
        found.told.append(Note("unanchored", chain, more, text))


def _missing(chain: str, anchored: _Anchored, there: bool, found: Verified) -> None:
    if anchored.erased is not None:
        age = parsed(anchored.erased.at) - parsed(anchored.last) if anchored.last else timedelta(0)
        if age < timedelta(days=KEPT):
            text = f"erased after {age.days} days; entries are kept for {KEPT}"
            found.findings.append(Finding("chain_removed", chain, 0, text))
    elif not there and anchored.highest:
        text = f"the chain was removed; it had {anchored.highest} entries at least"
        found.findings.append(Finding("chain_removed", chain, 0, text))
