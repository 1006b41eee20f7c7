"""CrossWOZ as it is read: its dialogues, and the values that a text mentions, by the databases and the training states."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
                        limit = parsed(value)
                        if limit is not None:
                            self.quantities[slot][limit][value] += 1
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
            asked = parsed(value)
            if asked is None:
                return None
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


def parsed(value: str) -> Quantity | None:
    """The quantity that a state's value is; None for 免费 and what else is none."""
    match = _QUANTITY.fullmatch(value.translate(_SAME))
    return None if match is None else quantity(match)
