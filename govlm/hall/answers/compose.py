"""The parts of an answer about an item: fixed phrases around the texts of its fields, all of them quoted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from govlm.hall.answers import words
from govlm.hall.answers.citations import Citation, Part, Sentence, cite, holds, version
from govlm.hall.catalogue.records import Item

__all__ = ["FIELDS_OF", "GUIDE", "KINDS", "Quotes", "compose", "head", "meant"]

FIELDS_OF = {
    "audiences": ("audiences",), "conditions": ("conditions",), "steps": ("steps",), "materials": ("materials",),
    "notes": ("notes",), "limit": ("promised_limit", "statutory_limit"), "fee": ("fee",), "places": ("places",),
    "phones": ("consult_phones", "complaint_phones"), "online": ("online", "url", "booking", "visits", "mail"),
    "result": ("result",), "payment": ("conditions", "steps", "notes", "result"), "basis": ("basis",),
    "about": (
        "kind", "business", "partners", "level", "region", "themes", "aliases", "base_code", "authority_code", "valid_from", "valid_to",
    ),
}  # fmt: skip  # the fields that a part shows
KINDS = tuple(FIELDS_OF)
PAYS = "行政给付"  # the type of the items that give money
_AMOUNT = re.compile(
    r"[0-9一二两三四五六七八九十百千万]元|[%％]|百分之|差额|比例|算出|计算|计发|(?:给付|补贴|补助|津贴|发放|金|待遇)标准"
)
GUIDE = (
    "audiences",
    "conditions",
    "steps",
    "materials",
    "notes",
)  # shown, or said to be missing, when nothing special is asked

_Pieces = list["str | Citation"]


class Quotes:
    """Citations of one item."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.version = version(item)

    def __call__(self, path: str) -> Citation:
        return cite(self.item, path, self.version)

    def has(self, name: str) -> bool:
        return holds(getattr(self.item, name))

    def listed(self, name: str) -> _Pieces:
        """All entries of a field that holds several texts: 、 between them."""
        return _joined([[self(f"{name}.{i}")] for i, text in enumerate(getattr(self.item, name)) if text], words.PAUSE)


def compose(item: Item, kinds: Iterable[str] = ()) -> tuple[Part, ...]:
    """The item's name, then the parts of these kinds in the order of `KINDS`; no kinds: the whole guide, which shows every fact.

    What was asked for and the record lacks is said to be missing, with the number to call where there is one. ValueError for a
    kind that is none.
    """
    asked = set(kinds)
    if asked - set(KINDS):
        raise ValueError(f"no such part: {', '.join(sorted(asked - set(KINDS)))}; there are {', '.join(KINDS)}")
    if "audiences" in asked:  # 自然人 alone says nothing
        asked.add("conditions")
    quotes = Quotes(item)
    parts = [head(item, quotes)]
    for kind in KINDS:
        if kind not in asked and (asked or kind == "payment"):  # which repeats what the whole guide shows
            continue
        sentences = _sentences(quotes, kind)
        if kind == "payment":
            parts.append(Part(kind, words.TITLES[kind], tuple(sentences or [_unpaid(quotes)])))
            continue
        missing = not any(quotes.has(name) for name in FIELDS_OF[kind])
        if missing and (kind in asked or (not asked and kind in GUIDE)):
            sentences.insert(0, _lacking(quotes, kind, call=kind in asked and not {"phones"} & asked))
        if missing and kind == "steps" and asked:  # how it can be done at all is known from other fields
            for other in ("online", "places"):
                sentences += [] if other in asked else _sentences(quotes, other)
        if sentences:
            parts.append(Part(kind, words.TITLES[kind], tuple(sentences)))
    return tuple(parts)


def meant(kinds: Sequence[str], item: Item) -> tuple[str, ...]:
    """The parts that a question for these means of this item: what a benefit costs and what it pays are asked in the same words."""
    return (*kinds, "payment") if "fee" in kinds and "payment" not in kinds and item.kind == PAYS else tuple(kinds)


def _sentences(quotes: Quotes, kind: str) -> list[Sentence]:
    if kind != "materials":
        return [Sentence(tuple(pieces)) for pieces in _SHOWN[kind](quotes) if pieces]
    needed = [(f"materials.{i}.required", material.required) for i, material in enumerate(quotes.item.materials)]
    return [
        Sentence(tuple(pieces), () if required is None else ((path, "是" if required else "否"),))
        for pieces, (path, required) in zip(_materials(quotes), needed, strict=True)
        if any(isinstance(piece, Citation) for piece in pieces)
    ]


def _unpaid(quotes: Quotes) -> Sentence:
    return Sentence(
        (words.TITLE_OPEN, quotes("name"), words.TITLE_CLOSE, words.LACKS, words.TITLES["payment"], words.LACKS_END)
    )


def _lacking(quotes: Quotes, kind: str, call: bool) -> Sentence:
    names = FIELDS_OF[kind][:2] if kind == "limit" else FIELDS_OF[kind][:1]
    labels = _joined([[words.label(name)] for name in names], words.PAUSE)
    pieces: _Pieces = [words.TITLE_OPEN, quotes("name"), words.TITLE_CLOSE, words.LACKS, *labels, words.LACKS_END]
    if call and quotes.has("consult_phones"):
        pieces += [words.CALL, *quotes.listed("consult_phones"), words.STOP]
    elif call:
        pieces.append(words.ASK_HALL)
    return Sentence(tuple(pieces), tuple((name, "") for name in names))


def head(item: Item, quotes: Quotes | None = None) -> Part:
    """The item's name, and who does it."""
    return Part("item", words.TITLES["item"], (_called(quotes or Quotes(item)),))


def choices(items: Iterable[Item]) -> Part:
    """Several items that may be meant, for the person to choose from."""
    return Part("choices", words.TITLES["choices"], tuple(_called(Quotes(item)) for item in items))


def _called(quotes: Quotes) -> Sentence:
    pieces: _Pieces = [words.TITLE_OPEN, quotes("name"), words.TITLE_CLOSE]
    if quotes.has("authority"):
        pieces += [words.OPEN, words.BY, quotes("authority"), words.CLOSE]
    return Sentence(tuple(pieces))


def _joined(entries: list[_Pieces], between: str) -> _Pieces:
    pieces: _Pieces = []
    for entry in entries:
        if entry:
            pieces += [between, *entry] if pieces else entry
    return pieces


def _labelled(*names: str, unit: str = "") -> Callable[[Quotes], list[_Pieces]]:
    def shown(quotes: Quotes) -> list[_Pieces]:
        found: list[_Pieces] = []
        for name in names:
            if quotes.has(name):
                several = isinstance(getattr(quotes.item, name), tuple)
                found.append([f"{words.label(name)}：", *(quotes.listed(name) if several else [quotes(name)])])
                if name == "visits":
                    found[-1].append(words.VISITS)
        return found

    return shown


def _entries(name: str) -> Callable[[Quotes], list[_Pieces]]:
    def shown(quotes: Quotes) -> list[_Pieces]:
        return [[quotes(f"{name}.{i}")] for i, text in enumerate(getattr(quotes.item, name)) if text]

    return shown


def _materials(quotes: Quotes) -> list[_Pieces]:
    found: list[_Pieces] = []
    for i, material in enumerate(quotes.item.materials):
        path = f"materials.{i}"
        details: list[_Pieces] = []
        if material.form:
            details.append([quotes(f"{path}.form")])
        if material.copies is not None:
            details.append([quotes(f"{path}.copies"), words.COPIES])
        if material.medium:
            details.append([quotes(f"{path}.medium")])
        if material.required is not None:
            details.append([words.NEEDED if material.required else words.OPTIONAL])
        if material.note:
            details.append([quotes(f"{path}.note")])
        pieces: _Pieces = [quotes(f"{path}.name")] if material.name else []
        if details:
            pieces += [words.OPEN, *_joined(details, words.COMMA), words.CLOSE]
        found.append(pieces)
    return found


def _steps(quotes: Quotes) -> list[_Pieces]:
    said = [
        [[quotes(f"steps.{i}.{name}")] for name, text in (("name", step.name), ("text", step.text)) if text]
        for i, step in enumerate(quotes.item.steps)
    ]
    found: list[_Pieces] = []
    kept = [entry for entry in said if entry]
    for i, entry in enumerate(kept):
        order = words.FIRST if i == 0 else words.LAST if i == len(kept) - 1 else words.NEXT
        found.append([*([order] if len(kept) > 1 else []), *_joined([list(pieces) for pieces in entry], words.COLON)])
    return found


def _payment(quotes: Quotes) -> list[_Pieces]:
    """The entries that name an amount or how it is worked out; the fee is none of them."""
    found: list[_Pieces] = []
    for name in ("conditions", "notes"):
        found += [[quotes(f"{name}.{i}")] for i, text in enumerate(getattr(quotes.item, name)) if _AMOUNT.search(text)]
    found += [[quotes(f"steps.{i}.text")] for i, step in enumerate(quotes.item.steps) if _AMOUNT.search(step.text)]
    return found + ([[quotes("result")]] if _AMOUNT.search(quotes.item.result) else [])


def _places(quotes: Quotes) -> list[_Pieces]:
    found: list[_Pieces] = []
    for i, place in enumerate(quotes.item.places):
        path = f"places.{i}"
        details: list[_Pieces] = []
        for name, before in (("name", ""), ("address", ""), ("hours", words.HOURS), ("phone", words.PHONE)):
            if getattr(place, name):
                details.append([before, quotes(f"{path}.{name}")] if before else [quotes(f"{path}.{name}")])
        found.append(_joined(details, words.COMMA))
    return found


def _phones(quotes: Quotes) -> list[_Pieces]:
    found = _labelled("consult_phones", "complaint_phones")(quotes)
    if found:
        return found
    for i, place in enumerate(quotes.item.places):  # the counters' own
        if place.phone:
            pieces: _Pieces = [quotes(f"places.{i}.name"), words.COMMA] if place.name else []
            found.append([*pieces, words.PHONE, quotes(f"places.{i}.phone")])
    return found


_SHOWN: dict[str, Callable[[Quotes], list[_Pieces]]] = {
    "audiences": _labelled("audiences"), "conditions": _entries("conditions"), "steps": _steps, "materials": _materials,
    "notes": _entries("notes"), "limit": _labelled("promised_limit", "statutory_limit"), "fee": _labelled("fee"), "places": _places,
    "phones": _phones, "online": _labelled("online", "url", "booking", "visits", "mail"), "result": _labelled("result"),
    "payment": _payment, "basis": _entries("basis"), "about": _labelled(*FIELDS_OF["about"]),
}  # fmt: skip
