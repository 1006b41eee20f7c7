"""Dialogue state tracking on CrossWOZ (Zhu et al. 2020): joint state accuracy of the package's own tracker.

python -m benchmarks.crosswoz [../shared/data/dialog/crosswoz] [--folds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from govlm.data import permutation
from govlm.hall.dialogue.tracking import Candidate, Example, Tracker, Turn, ngrams

HERE = Path(__file__).resolve().parent.parent / ".." / "shared" / "data" / "dialog" / "crosswoz"
PLACES = ("景点", "餐馆", "酒店")
DOMAINS = (*PLACES, "地铁", "出租")
NEAR = {f"周边{domain}": domain for domain in PLACES}
SLOTS = (
    *("景点-门票", "景点-游玩时间", "景点-评分", "餐馆-推荐菜", "餐馆-人均消费", "餐馆-评分", "酒店-酒店类型", "酒店-酒店设施", "酒店-价格", "酒店-评分"),
    *("地铁-出发地", "地铁-目的地", "出租-出发地", "出租-目的地"),
    *(f"{domain}-{near}" for domain in PLACES for near in NEAR),
    *(f"{domain}-名称" for domain in PLACES),
)  # fmt: skip
NUMERIC = ("景点-门票", "景点-游玩时间", "景点-评分", "餐馆-人均消费", "餐馆-评分", "酒店-价格", "酒店-评分")
LISTS = ("餐馆-推荐菜", "酒店-酒店设施")


class Exchange(NamedTuple):
    """What the citizen says, and the state that the system's side notes for it before it answers; and the answer."""

    said: str
    state: dict[str, str]
    answer: str


def clean(value: str) -> str:
    return " ".join(value.split())


def read(folder: Path) -> list[list[Exchange]]:
    """The dialogues of val.json.gz, in the file's order."""
    with gzip.open(folder / "val.json.gz", "rt", encoding="utf-8") as handle:
        dialogues = json.load(handle).values()
    found = []
    for dialogue in dialogues:
        messages = dialogue["messages"]
        exchanges = []
        for said, answer in zip(messages[::2], messages[1::2], strict=True):
            state = {
                f"{d}-{s}": clean(v)
                for d, slots in answer["sys_state_init"].items()
                for s, v in slots.items()
                if s != "selectedResults"
            }
            exchanges.append(
                Exchange(said["content"], {slot: value for slot, value in state.items() if value}, answer["content"])
            )
        found.append(exchanges)
    return found


# ---- what a text mentions -------------------------------------------------------------------------------------------------

_SAME = str.maketrans("（）：，？！；～—–０１２３４５６７８９\t", "():,?!;~--0123456789 ")
_DIGITS = dict(zip("零一二两三四五六七八九", (0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_NUMBER = r"(?:\d+(?:\.\d+)?|[一二两三四五六七八九十百千]+|半)"
_UNIT = r"(?:元|块钱|块|分钟|分|个?半?小时|个?钟头|天|星)"
_QUANTITY = re.compile(
    rf"(?P<low>{_NUMBER})\s*(?P<unit1>{_UNIT})?\s*(?:(?:-+|~|到|至|、)\s*(?P<high>{_NUMBER})\s*(?P<unit2>{_UNIT})?)?\s*(?P<bound>以上|以下|以内|之内|往上)?"
)
_FREE = re.compile("不?免费|不要钱|不花钱|不收费|免票|免门票|(?:不收|不要|没有|不用|无)门票费?")
_UNITS = {"块": "元", "块钱": "元", "钟头": "小时", "个钟头": "小时", "个小时": "小时", "个半小时": "小时", "半小时": "小时"}
_BOUNDS = {"往上": "以上", "以内": "以下", "之内": "以下"}
_MARKS = {"景点": "Ⓐ", "餐馆": "Ⓡ", "酒店": "Ⓗ", "推荐菜": "Ⓓ", "酒店设施": "Ⓕ", "酒店类型": "Ⓣ", "免费": "Ⓩ"}
_NUMBER_MARKS = {"元": "￥", "分": "※", "小时": "◷", "天": "◷", "": "＃", "分钟": "◷"}


class Quantity(NamedTuple):
    low: float
    high: float
    unit: str
    bound: str


class Mention(NamedTuple):
    """text[start:end] names value; kinds: the domains of a place, or a slot's name; quantity: of numbers only."""

    value: str
    kinds: tuple[str, ...]
    start: int
    end: int
    quantity: Quantity | None = None


def _number(text: str) -> float:
    if text == "半":
        return 0.5
    if text[0].isdigit():
        return float(text)
    total, digit = 0, 0
    for char in text:
        if char in _DIGITS:
            digit = _DIGITS[char]
        else:
            total += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char]
            digit = 0
    return float(total + digit)


def quantity(match: re.Match[str]) -> Quantity:
    unit = match["unit2"] or match["unit1"] or ""
    half = 0.5 if unit == "个半小时" else 0.0
    low = _number(match["low"]) + half
    high = _number(match["high"]) if match["high"] else low
    bound = match["bound"] or ""
    return Quantity(low, high, _UNITS.get(unit, unit), _BOUNDS.get(bound, bound))


class Ontology:
    """Values of the databases and of the training states, found in text: the longest first, from left to right."""

    def __init__(self, folder: Path, dialogues: Iterable[Sequence[Exchange]]) -> None:
        self.kinds: dict[str, set[str]] = defaultdict(set)  # wording (narrow letters) -> kinds
        self.values: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)  # (wording, kind) -> ways to write it
        self.quantities: dict[str, dict[Quantity, Counter[str]]] = {slot: defaultdict(Counter) for slot in NUMERIC}
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}  # (domain, name) -> the database's row
        for file in ("attraction", "restaurant", "hotel"):
            for name, row in json.loads((folder / "database" / f"{file}_db.json").read_text("utf-8")):
                self._add(name, row["领域"])
                self.rows[row["领域"], clean(name)] = row
                for kind in ("推荐菜", "酒店设施"):
                    for value in row.get(kind) or ():
                        self._add(value, kind)
                if row.get("酒店类型"):
                    self._add(row["酒店类型"], "酒店类型")
        seen: dict[tuple[str, str], int] = Counter()
        for dialogue in dialogues:
            before: Mapping[str, str] = {}
            heard: set[tuple[str, str]] = set()
            for exchange in dialogue:
                for slot, value in exchange.state.items():
                    if before.get(slot) == value:
                        continue
                    domain, name = slot.split("-")
                    if slot in NUMERIC:
                        match = _QUANTITY.fullmatch(value.translate(_SAME))
                        if match is not None:
                            self.quantities[slot][quantity(match)][value] += 1
                    elif name == "名称":
                        heard.add((value, domain))
                    elif slot in LISTS:
                        heard.update((part, name) for part in value.split(" "))
                    elif name == "酒店类型":
                        heard.add((value, name))
                before = exchange.state
            seen.update(heard)
        for (value, kind), count in seen.items():
            if count > 1:  # what one dialogue alone has is often a slip of the pen
                self._add(value, kind, count)
        self.lengths: dict[str, list[int]] = defaultdict(list)  # first two letters -> lengths of wordings, longest first
        for wording in self.kinds:
            self.lengths[wording[:2]].append(len(wording))
        for start, lengths in self.lengths.items():
            self.lengths[start] = sorted(set(lengths), reverse=True)

    def _add(self, value: str, kind: str, count: int = 1) -> None:
        value = clean(value)
        wording = value.translate(_SAME).lower()
        if len(wording) >= 2 and not wording.isdigit():
            self.kinds[wording].add(kind)
            self.values[wording, kind][value] += count

    def spelled(self, mention: Mention, kind: str) -> str:
        """The value as states of this kind write it."""
        return self.values[mention.value, kind].most_common(1)[0][0]

    def mentions(self, text: str) -> list[Mention]:
        plain = text.translate(_SAME).lower()
        found: list[Mention] = []
        at = 0
        while at < len(plain):
            for length in self.lengths.get(plain[at : at + 2], ()):
                kinds = self.kinds.get(plain[at : at + length])
                if kinds and at + length <= len(plain):
                    found.append(Mention(plain[at : at + length], tuple(sorted(kinds)), at, at + length))
                    break
            else:
                free = _FREE.match(plain, at)
                if free is not None:
                    found.append(Mention("1元以上" if free.group() == "不免费" else "免费", ("免费",), at, free.end()))
                else:
                    match = _QUANTITY.match(plain, at)
                    if match is not None and (match["unit1"] or match["unit2"] or match["bound"] or match["low"][0].isdigit()):
                        found.append(Mention(match.group(), ("数",), at, match.end(), quantity(match)))
                    else:
                        at += 1
                        continue
            at = found[-1].end
        return found

    def fits(self, slot: str, value: str, place: str) -> bool | None:
        """Whether the database's row of a place has what a slot asks for; None where it does not say."""
        domain, name = slot.split("-")
        row = self.rows.get((domain, place))
        has = None if row is None else row.get(name)
        if has is None or has == []:
            return None
        if slot in LISTS:
            return all(part in has for part in value.split(" "))
        if name in NEAR:
            return value in has
        if slot in NUMERIC and isinstance(has, int | float):
            if value == "免费":
                return has == 0
            match = _QUANTITY.fullmatch(value.translate(_SAME))
            if match is None:
                return None
            asked = quantity(match)
            low, high = (0.0, asked.low) if asked.bound == "以下" else (asked.low, float("inf") if asked.bound else asked.high)
            return low <= has <= high
        return str(has).replace(" ", "").startswith(value.replace(" ", ""))

    def numeric(self, slot: str, asked: Quantity) -> str | None:
        """The slot's value for a quantity, as states write it; None where it cannot be one of this slot's."""
        unit = {"评分": "分", "游玩时间": "小时"}.get(slot.split("-")[1], "元")
        if asked.unit and asked.unit != unit and not (unit == "小时" and asked.unit in ("天", "分钟")):
            return None
        if asked.unit == "分钟":
            asked = Quantity(asked.low / 60, asked.high / 60, "小时", asked.bound)
        units = (asked.unit,) if asked.unit else (unit, "天") if unit == "小时" else (unit,)
        for one in units:
            known = self.quantities[slot].get(asked._replace(unit=one))
            if known:
                return known.most_common(1)[0][0]
        if not asked.unit:
            return None
        low, high = f"{asked.low:g}", f"{asked.high:g}"
        span = low if low == high else f"{low}{unit} - {high}" if unit == "小时" else f"{low}-{high}"
        return f"{span}{units[0]}{asked.bound}"


# ---- a turn as the tracker sees it ----------------------------------------------------------------------------------------


def masked(text: str, mentions: Sequence[Mention]) -> tuple[str, list[tuple[int, int]]]:
    """The text with one letter for each mention's kind, and where each mention stands in it."""
    plain = text.translate(_SAME).lower()
    parts: list[str] = []
    places: list[tuple[int, int]] = []
    at = length = 0
    for mention in mentions:
        mark = (
            _NUMBER_MARKS.get(mention.quantity.unit, "＃")
            if mention.quantity
            else "".join(_MARKS[kind] for kind in mention.kinds)[:1]
        )
        parts += [plain[at : mention.start], mark]
        length += mention.start - at
        places.append((length, length + 1))
        length += 1
        at = mention.end
    parts.append(plain[at:])
    return "".join(parts), places


@dataclass
class History:
    """What was said so far: places in the order of their last mention, and the text of the last answer."""

    ontology: Ontology
    places: list[tuple[str, str, str]]  # (domain, name, who said it), the last at the end
    answer: str = ""
    turns: int = 0
    chances: int = 0  # turns in which a place could have been noted as the one that is talked about
    named: bool = False  # whether one ever was
    manner: frozenset[str] = frozenset()  # how the hall's side speaks: the same person notes the states

    def turn(self, said: str, state: Mapping[str, str]) -> Turn:
        mentions = self.ontology.mentions(said)
        text, spots = masked(said, mentions)
        answered = self.ontology.mentions(self.answer)
        answer, _ = masked(self.answer, answered)
        active = self.places[-1][0] if self.places else ""
        cues = {
            f"turn {min(self.turns, 2)}",
            f"active {active}",
            *ngrams(text, (1, 2, 3), "u "),
            *ngrams(answer, (1, 2, 3), "a "),
        }
        cues.update(ngrams(text, (2,), f"{active} "))
        offers: dict[str, dict[str, list[str]]] = {slot: {} for slot in SLOTS}

        def offer(slot: str, value: str, *why: str) -> None:
            offers[slot].setdefault(value, []).extend(why)

        around = []
        for left, right in spots:
            before, after = text[max(left - 5, 0) : left], text[right : right + 4]
            around.append(
                [
                    *(f"< {before[-n:]}" for n in range(1, len(before) + 1)),
                    *(f"> {after[:n]}" for n in range(1, len(after) + 1)),
                ]
            )
        listed: dict[str, list[str]] = {slot: [] for slot in LISTS}
        here: list[tuple[str, str]] = []
        suggested = {
            (kind, self.ontology.spelled(m, kind)): i for i, m in enumerate(answered) for kind in m.kinds if kind in PLACES
        }
        for order, (mention, context) in enumerate(zip(mentions, around, strict=True)):
            if mention.quantity is not None:
                for slot in NUMERIC:
                    value = self.ontology.numeric(slot, mention.quantity)
                    if value is not None:
                        offer(slot, value, "said", *context)
                        if not mention.quantity.bound and slot.endswith("评分"):
                            above = self.ontology.numeric(slot, mention.quantity._replace(bound="以上"))
                            offer(slot, above or value, "said", "above", *context)
                continue
            for kind in mention.kinds:
                if kind == "免费":
                    offer("景点-门票", mention.value, "said", *context)
                elif kind == "酒店类型":
                    offer("酒店-酒店类型", self.ontology.spelled(mention, kind), "said", *context)
                elif kind in PLACES:
                    value = self.ontology.spelled(mention, kind)
                    known = "suggested" if (kind, value) in suggested else "new"
                    here.append((kind, value))
                    listed_as = self.match(kind, value, state)
                    cues.add(f"said {kind} {listed_as}")
                    why = (
                        "said",
                        f"place {min(sum(m.kinds[0] in PLACES for m in mentions[:order]), 2)}",
                        f"said {known}",
                        *context,
                    )
                    for slot in SLOTS:
                        domain, name = slot.split("-")
                        if (name == "名称" and domain == kind) or NEAR.get(name) == kind or domain in ("地铁", "出租"):
                            offer(slot, value, *why)
                else:
                    slot = "餐馆-推荐菜" if kind == "推荐菜" else "酒店-酒店设施"
                    value = self.ontology.spelled(mention, kind)
                    if value not in listed[slot]:
                        listed[slot].append(value)
        for slot, values in listed.items():
            had = state.get(slot, "").split(" ") if state.get(slot) else []
            if values:
                offer(slot, " ".join(values), "all", f"all {min(len(values), 3)}")
                offer(slot, " ".join([*had, *(v for v in values if v not in had)]), "added")
                for value in values:
                    offer(slot, value, "one", f"one of {min(len(values), 3)}")
            if len(had) > 1:
                for value in had:
                    rest = " ".join(v for v in had if v != value)
                    offer(slot, rest, "without one", "without said" if value in self.answer else "without unsaid")
        recent: Counter[str] = Counter()
        for domain, value, who in reversed(self.places):
            recent[domain] += 1
            if recent[domain] > 3:
                continue
            why = (f"before {who}", f"before {recent[domain]}", f"before {who} {recent[domain]}", f"before {domain} {recent[domain]}",
                   f"active {domain == active} {recent[domain]}")  # fmt: skip
            for slot in SLOTS:
                of, name = slot.split("-")
                if (name == "名称" and of == domain) or NEAR.get(name) == domain or of in ("地铁", "出租"):
                    offer(slot, value, *why, *(f"is {s}" for s in SLOTS if state.get(s) == value))
        for slot in SLOTS:
            domain = slot.split("-")[0]
            ours = [value for kind, value in suggested if kind == domain]
            if state.get(slot) and ours:
                verdicts = [self.ontology.fits(slot, state[slot], value) for value in ours]
                cues.add(f"fits {slot} {True in verdicts} {False in verdicts}")
            if state.get(slot) and slot in NUMERIC:
                for mention in answered:
                    if mention.quantity is not None and mention.quantity.unit:
                        for value, why in self.relaxed(slot, state[slot], mention.quantity):
                            offer(slot, value, why, f"{why} {'以上' in state[slot]}")
            if slot == "酒店-酒店类型" and state.get(slot):
                for mention in answered:
                    if "酒店类型" in mention.kinds:
                        offer(slot, self.ontology.spelled(mention, "酒店类型"), "answered")
        cues.add(f"named {self.named} {min(self.chances, 3)}")
        if self.places:
            cues.add(f"last {active} {self.match(active, self.places[-1][1], state)}")
        chosen = any(place in suggested for place in here)
        cues.add(f"said suggested {chosen}")
        cues.add(f"chosen {chosen} of {min(len(suggested), 3)} {active}")
        cues.update(self.manner)
        cues.add(f"suggested {min(len(suggested), 3)}")
        candidates = {
            slot: [Candidate(value, tuple(dict.fromkeys(why))) for value, why in values.items()]
            for slot, values in offers.items()
            if values
        }
        return Turn(frozenset(cues), candidates)

    def match(self, domain: str, place: str, state: Mapping[str, str]) -> str:
        """Whether a place is among those that the state asks for: what is not there cannot be looked up without its name."""
        if state.get(f"{domain}-名称"):
            return "named" if state[f"{domain}-名称"] == place else "another"
        verdicts = [
            self.ontology.fits(slot, state[slot], place) for slot in SLOTS if slot.startswith(domain) and state.get(slot)
        ]
        return "no" if False in verdicts else "yes" if verdicts else "free"

    def relaxed(self, slot: str, value: str, told: Quantity) -> Iterator[tuple[str, str]]:
        """What a limit becomes when only a place with another quantity is to be had: (value, how)."""
        match = _QUANTITY.fullmatch(value.translate(_SAME))
        if match is None:
            return
        asked = quantity(match)
        if asked.unit != told.unit or told.bound or told.low != told.high:
            return
        if told.unit == "分":
            yield f"{told.low:g}分以上", "answered above"
            yield f"{told.low:g}分", "answered"
        elif told.unit == "元":
            tens = told.low // 10 * 10
            if told.low < asked.low and not asked.bound:
                for low, why in ((told.low, "exact"), (tens, "tens"), (told.low // 50 * 50, "fifties")):
                    yield f"{low:g}-{asked.high:g}元", why
            elif told.low < asked.low:
                yield f"{tens:g}元以上", "tens above"
            else:
                yield f"{asked.low:g}-{told.low:g}元", "up"
        else:
            yield self.ontology.numeric(slot, told) or value, "answered"

    def hear(self, exchange: Exchange, state: Mapping[str, str]) -> None:
        """What was said and answered in a turn, and the state that the tracker took it for."""
        self.chances += bool(self.places)
        self.named = self.named or any(state.get(f"{domain}-名称") for domain in PLACES)
        for who, text in (("citizen", exchange.said), ("hall", exchange.answer)):
            for mention in self.ontology.mentions(text):
                for kind in mention.kinds:
                    if kind in PLACES:
                        value = self.ontology.spelled(mention, kind)
                        self.places = [place for place in self.places if place[:2] != (kind, value)] + [(kind, value, who)]
        self.answer = exchange.answer
        self.manner |= frozenset(ngrams(masked(self.answer, self.ontology.mentions(self.answer))[0], (1, 2), "manner "))
        self.turns += 1


def examples(ontology: Ontology, dialogues: Iterable[Sequence[Exchange]]) -> Iterator[Example]:
    for dialogue in dialogues:
        history, before = History(ontology, []), {}
        for exchange in dialogue:
            yield Example(history.turn(exchange.said, before), before, exchange.state)
            history.hear(exchange, exchange.state)
            before = exchange.state


def track(tracker: Tracker, ontology: Ontology, dialogue: Sequence[Exchange]) -> list[dict[str, str]]:
    """The states that the tracker reaches by itself: it sees what was said, never a right state."""
    history, state, found = History(ontology, []), {}, []
    for exchange in dialogue:
        state = tracker.step(state, history.turn(exchange.said, state))
        found.append(state)
        history.hear(exchange, state)
    return found


@dataclass
class Score:
    """turns: how many; right: those whose whole state is right; alone: those decided rightly from the right state before; slots,
    domains: turns in which that slot, or all slots of that domain, are right; dialogues: those that are right from end to end."""

    turns: int = 0
    right: int = 0
    alone: int = 0
    dialogues: int = 0
    slots: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    shares: list[float] = field(default_factory=list)  # of right turns, for each dialogue
    seconds: float = 0.0  # to read the training dialogues and fit

    def add(self, tracker: Tracker, ontology: Ontology, dialogue: Sequence[Exchange]) -> None:
        states = track(tracker, ontology, dialogue)
        right = 0
        for exchange, state in zip(dialogue, states, strict=True):
            good = {slot for slot in SLOTS if state.get(slot) == exchange.state.get(slot)}
            right += len(good) == len(SLOTS)
            self.slots.update(good)
            self.domains.update(domain for domain in DOMAINS if all(slot in good for slot in SLOTS if slot.startswith(domain)))
        self.turns += len(states)
        self.right += right
        self.dialogues += right == len(states)
        self.shares.append(right / len(states))
        self.alone += sum(tracker.step(e.before, e.turn) == e.after for e in examples(ontology, [dialogue]))

    def report(self) -> dict[str, Any]:
        slots = {slot: self.slots[slot] / self.turns for slot in SLOTS}
        return {
            "turns": self.turns,
            "joint": self.right / self.turns,
            "slot": sum(slots.values()) / len(slots),
            "turn alone": self.alone / self.turns,
            "dialogues": self.dialogues / len(self.shares),
            "domains": {domain: self.domains[domain] / self.turns for domain in DOMAINS},
            "slots": slots,
            "train seconds": round(self.seconds, 1),
        }


def evaluate(
    folder: Path, train: Sequence[Sequence[Exchange]], test: Sequence[Sequence[Exchange]], score: Score | None = None
) -> Score:
    """Fits on the one, counts on the other; adds to `score` where one is given."""
    score = score or Score()
    start = time.perf_counter()
    ontology = Ontology(folder, train)
    tracker = Tracker.fit(SLOTS, list(examples(ontology, train)))
    score.seconds += time.perf_counter() - start
    for dialogue in test:
        score.add(tracker, ontology, dialogue)
    return score


def split(
    dialogues: Sequence[list[Exchange]], fold: int = 0, folds: int = 5
) -> tuple[list[list[Exchange]], list[list[Exchange]]]:
    """(train, test) by dialogue, in the order of govlm.data.permutation(count, seed=0, epoch=0). Fold 0 tests on the last fifth."""
    order = permutation(len(dialogues), 0, 0)
    parts = np.array_split(order, folds)[::-1]
    return [dialogues[i] for part in (*parts[:fold], *parts[fold + 1 :]) for i in part], [dialogues[i] for i in parts[fold]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE)
    parser.add_argument("--folds", type=int, default=1, help="how many of the five folds to test on (default: 1)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    dialogues = read(arguments.folder)
    score = Score()
    for fold in range(arguments.folds):
        train, test = split(dialogues, fold)
        before = score.right, score.turns
        evaluate(arguments.folder, train, test, score)
        right, turns = score.right - before[0], score.turns - before[1]
        print(
            f"fold {fold}: {len(train)} dialogues to train, {len(test)} to test: joint {right / turns:.4f} of {turns} turns",
            flush=True,
        )
    report = score.report()
    for name in ("joint", "slot", "turn alone", "dialogues"):
        print(f"{name:12} {report[name]:.4f}")
    for group in ("domains", "slots"):
        for name, share in report[group].items():
            print(f"  {name} {share:.4f}")
    print(f"fitting took {report['train seconds']} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
