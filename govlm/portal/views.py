"""What clients see of a conversation. The names are the API's; they change by addition only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from govlm.hall.answers.citations import Citation
from govlm.hall.answers.rendering import Answer, outlined
from govlm.hall.dialogue.driver import Turn
from govlm.hall.dialogue.state import State
from govlm.hall.hall import Hall, Standing
from govlm.hall.library import Library
from govlm.hall.protection.sessions import Exchange

__all__ = [
    "AnswerView", "CitationView", "ExchangeView", "FieldView", "ItemRef", "LineView", "PartView", "ProblemView", "StateView", "StepView", "TurnView",
    "cited", "pieces",
]  # fmt: skip

STEPS = {"conditions": "条件", "materials": "材料", "form": "表格", "confirm": "确认", "receipt": "回执"}
_PIECE = re.compile(r"[^\n。！？]*[。！？]*\n*")


class CitationView(BaseModel):
    """number: as [n] in the text. Where it stands: `field` of an item's record, or `passage` of a document; text: word for word."""

    number: int
    kind: Literal["item", "document"]
    code: str
    title: str
    field: str
    passage: str
    text: str
    start: int
    end: int
    version: str


class ItemRef(BaseModel):
    code: str
    name: str


class FieldView(BaseModel):
    """A field of the form as it stands. asked: it is being asked for."""

    name: str
    label: str
    kind: str
    value: str
    required: bool
    asked: bool
    options: list[str] = []
    problem: str = ""


class ProblemView(BaseModel):
    fields: list[str]
    kind: str
    message: str


class StepView(BaseModel):
    kind: str
    title: str
    state: Literal["done", "current", "ahead"]


class StateView(BaseModel):
    """item: that is applied for, None while nothing is. asking: a field's name, or the step that waits. receipts: (item, number)."""

    item: ItemRef | None
    procedure: str
    steps: list[StepView]
    asking: str
    fields: list[FieldView]
    problems: list[ProblemView]
    receipts: list[tuple[ItemRef, str]]
    handed_off: bool

    @classmethod
    def of(cls, hall: Hall, state: State) -> StateView:
        return cls.at(hall.standing(state), state)

    @classmethod
    def at(cls, standing: Standing, state: State) -> StateView:
        """standing: as the hall gives it for the state."""
        items, top = standing.library.items, state.top

        def named(code: str) -> ItemRef:
            return ItemRef(code=code, name=items[code].name if code in items else code)

        problems = [ProblemView(fields=list(p.fields), kind=p.kind, message=p.message) for p in state.problems]
        wrong = {name: problem.message for problem in reversed(problems) for name in problem.fields}
        form = state.form
        fields = [
            FieldView(
                name=name, label=field.label, kind=field.kind, value=form.get(name, ""), required=field.required,
                asked=name == state.asking, options=list(field.enum), problem=wrong.get(name, ""),
            )
            for name, field in standing.fields.items()
        ]  # fmt: skip
        return cls(
            item=named(top.item) if top else None, procedure=top.procedure if top else "", steps=_steps(standing, state),
            asking=state.asking, fields=fields, problems=problems,
            receipts=[(named(code), number) for code, number in state.receipts], handed_off=state.handed_off,
        )  # fmt: skip


def _steps(standing: Standing, state: State) -> list[StepView]:
    """The procedure's steps; several of a kind (一件事) are one."""
    top = state.top
    if top is None:
        return []
    kinds = list(dict.fromkeys(kind for kind, _ in standing.steps))
    place = next((kind for kind, name in standing.steps if name == top.step), "")
    now = kinds.index(place) if place in kinds else len(kinds)
    return [
        StepView(kind=kind, title=STEPS.get(kind, kind), state="done" if i < now else "current" if i == now else "ahead")
        for i, kind in enumerate(kinds)
    ]


class LineView(BaseModel):
    """text: as it stands in the record; citations: numbers of the citations that it is made of."""

    text: str
    citations: list[int]


class PartView(BaseModel):
    """A part of an answer, to be shown as a card. kind: item, audiences, conditions, steps, materials, notes, limit, fee, places,
    phones, online, result, basis, about, choices, premise, policy or difference; or phrased: a generator's words, each sentence checked
    against what it cites. title: for people."""

    kind: str
    title: str
    lines: list[LineView]

    @classmethod
    def all(cls, parts: Iterable[Mapping[str, Any]]) -> list[PartView]:
        return [cls.model_validate(part) for part in parts]


class AnswerView(BaseModel):
    """An answer outside a conversation. refused: it could not be answered from the records, `reason` says why; text then says where to
    turn. label: as of a turn."""

    text: str
    parts: list[PartView]
    citations: list[CitationView]
    refused: bool
    reason: str
    label: str = "AI 生成"

    @classmethod
    def of(cls, hall: Hall, answer: Answer) -> AnswerView:
        return cls(
            text=answer.text, parts=PartView.all(outlined(answer)), citations=cited(hall.library, answer.citations),
            refused=answer.refused, reason=answer.reason,
        )  # fmt: skip


class TurnView(BaseModel):
    """message: what is answered, as it was kept; of an edit of the form, what was done there. parts: what is quoted in the text, in pieces. reason: why a question was not answered ("" where it was). label: what a page must show beside it (《人工智能生成合成内容标识办法》)."""

    number: int
    message: str
    text: str
    citations: list[CitationView]
    parts: list[PartView]
    state: StateView
    handed_off: bool
    reason: str = ""
    label: str = "AI 生成"

    @classmethod
    def of(cls, hall: Hall, turn: Turn) -> TurnView:
        standing = hall.standing(turn.state)
        return cls(
            number=turn.version, message=turn.message, text=turn.text, citations=cited(standing.library, turn.citations),
            parts=PartView.all(turn.parts), state=StateView.at(standing, turn.state), handed_off=turn.handed_off, reason=turn.reason,
        )  # fmt: skip


class ExchangeView(BaseModel):
    number: int
    message: str
    text: str
    citations: list[CitationView]
    parts: list[PartView]
    at: str

    @classmethod
    def of(cls, library: Library, exchange: Exchange) -> ExchangeView:
        turn = Turn.of(exchange, State())
        return cls(
            number=exchange.number, message=exchange.message, text=turn.text, citations=cited(library, turn.citations),
            parts=PartView.all(turn.parts), at=exchange.at,
        )  # fmt: skip


def cited(library: Library, citations: Sequence[Citation]) -> list[CitationView]:
    def title(citation: Citation) -> str:
        if citation.kind == "item":
            return library.items[citation.code].name if citation.code in library.items else citation.code
        return library.documents[citation.code].title if citation.code in library.documents else citation.code

    return [
        CitationView(
            number=number, kind=c.kind, code=c.code, title=title(c), field=c.field, passage=c.passage, text=c.text,
            start=c.start, end=c.end, version=c.version,
        )
        for number, c in enumerate(citations, 1)
    ]  # fmt: skip


def pieces(text: str) -> Iterator[str]:
    """The text sentence by sentence, line by line; together they are the text."""
    for match in _PIECE.finditer(text):
        if match[0]:
            yield match[0]
