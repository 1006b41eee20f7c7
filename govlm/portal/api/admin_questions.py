"""What was not answered, or badly, and the answers that an administrator puts together from the records."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import numpy as np
import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field, model_validator

from govlm.hall.answers.citations import facts
from govlm.hall.answers.compose import FIELDS_OF, KINDS, compose
from govlm.hall.answers.words import REFUSALS, TITLES, label
from govlm.hall.catalogue.passages import top
from govlm.portal import regression
from govlm.portal.curated import CuratedAnswer, Quote
from govlm.portal.errors import PortalError
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Principal, Who, allow
from govlm.portal.store.questions import Question, opened
from govlm.portal.store.tables import tables
from govlm.portal.views import CitationView, cited

__all__ = ["router"]

router = APIRouter(prefix="/v1/admin", tags=["administration"])
Id = Annotated[str, Path(max_length=64)]
Text = Annotated[str, Field(max_length=500)]
_ADMIN = allow("administrator", scope="admin")
_FOUND = allow("administrator", scope="admin", errors=("not_found",))
_SHOWN = 5  # records that a search for something to quote gives of each kind

_QUOTABLE = frozenset(name for names in FIELDS_OF.values() for name in names)  # fields of an item that a part shows


class QuestionView(BaseModel):
    """text: masked. kind: it was not answered, or the answer was rated badly. reason: why, for people. asked: how often."""

    id: str
    text: str
    kind: Literal["unanswered", "bad"]
    reason: str
    status: Literal["open", "answered", "dismissed"]
    first: str
    last: str
    asked: int


class QuestionsView(BaseModel):
    total: int
    questions: list[QuestionView]


class QuoteGiven(BaseModel):
    """Of an item: its code and `fields`, each a part of its guide (audiences, conditions, steps, materials, notes, limit, fee, places,
    phones, online, result, basis, about) or a single field (materials.0.note). Of a document: its code and a passage; start, end: of
    it, in characters; end 0: all."""

    item: str = Field("", max_length=200)
    fields: list[Annotated[str, Field(max_length=80)]] = Field([], max_length=60)
    document: str = Field("", max_length=200)
    passage: str = Field("", max_length=200)
    start: int = Field(0, ge=0, le=10**9)
    end: int = Field(0, ge=0, le=10**9)

    @model_validator(mode="after")
    def one_record(self) -> QuoteGiven:
        if bool(self.item) == bool(self.document) or (self.item and not self.fields) or (self.document and not self.passage):
            raise ValueError("an item with fields, or a document with a passage")
        return self

    def quote(self) -> Quote:
        return Quote(self.item, tuple(self.fields), self.document, self.passage, self.start, self.end)


class AnswerGiven(BaseModel):
    """wordings: other ways in which it is asked. learn: an item that alone is quoted is recognised by the wordings from now on."""

    quotes: list[QuoteGiven] = Field(min_length=1, max_length=12)
    wordings: list[Text] = Field([], max_length=30)
    learn: bool = True


class CuratedGiven(AnswerGiven):
    question: str = Field(min_length=1, max_length=500)


class FailedView(BaseModel):
    text: str
    wanted: str
    found: str


class RegressionView(BaseModel):
    """cases: that were put to the hall. failed: those that did not give what they should."""

    cases: int
    failed: list[FailedView]

    @classmethod
    def of(cls, outcome: regression.Outcome) -> RegressionView:
        return cls(cases=outcome.cases, failed=[FailedView(**vars(entry)) for entry in outcome.failed])


class CuratedView(BaseModel):
    """stands: its records are as they were when it was put together; False: it is not given any more, until it is renewed."""

    id: str
    wordings: list[str]
    quotes: list[QuoteGiven]
    text: str
    citations: list[CitationView]
    stands: bool
    by: str
    at: str

    @classmethod
    def of(cls, portal: Portal, row: CuratedAnswer) -> CuratedView:
        answer = row.now(portal.hall.library, date.today())
        text = answer.text if answer else "\n".join(s.text for part in row.parts for s in part.sentences)
        quotes = [QuoteGiven.model_validate({**vars(quote), "fields": list(quote.fields)}) for quote in row.quotes]
        return cls(
            id=row.id, wordings=list(row.wordings), quotes=quotes, text=text, citations=cited(portal.hall.library, row.citations),
            stands=answer is not None, by=row.by, at=row.at,
        )  # fmt: skip


class AnsweredView(BaseModel):
    """regression: of the cases that this answer made. learned: how many wordings the item learned."""

    curated: CuratedView
    learned: int
    regression: RegressionView


class CuratedAll(BaseModel):
    curated: list[CuratedView]


class FactView(BaseModel):
    """path: for `fields` of a quote: a part of the guide, or a single field."""

    path: str
    label: str
    text: str


class RecordView(BaseModel):
    """Something to quote from. parts: of an item's guide; facts: its single fields, or a document's passages."""

    kind: Literal["item", "document"]
    code: str
    title: str
    parts: list[FactView] = []
    facts: list[FactView] = []


class RecordsView(BaseModel):
    records: list[RecordView]


# ---- questions


@router.get("/questions", **_ADMIN)
async def questions(
    portal: Here,
    kind: Literal["", "unanswered", "bad"] = "",
    status: Literal["open", "answered", "dismissed"] = "open",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> QuestionsView:
    """Questions that wait for an answer, those asked most often first."""
    table = tables()["questions"]
    where = [table.c.status == status, *([table.c.kind == kind] if kind else [])]
    order = (table.c.asked.desc(), table.c.last.desc(), table.c.id)

    def read() -> QuestionsView:
        with portal.database.read() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar()
            rows = connection.execute(sa.select(table).where(*where).order_by(*order).limit(limit).offset(offset))
            return QuestionsView(total=total or 0, questions=[_question(opened(portal.hall, row)) for row in rows])

    return await portal.gate.run(read)


@router.post(
    "/questions/{id}/answer", **allow("administrator", scope="admin", errors=("not_found", "conflict"))
)  # fmt: skip
async def answer(id: Id, given: AnswerGiven, portal: Here, who: Who) -> AnsweredView:
    """Answers a question for all who will ask it: the answer is composed of quotations, given from now on, and held by a case of
    regression for each wording."""

    def work() -> AnsweredView:
        found = _find(portal, id)
        answered = _put(portal, who, [found.text, *given.wordings], given)
        _close(portal, id, "answered")
        portal.audit.record("question.answer", who, f"question:{id}", {"curated": answered.curated.id})
        return answered

    return await portal.gate.run(work)


@router.post("/questions/{id}/dismiss", **_FOUND)
async def dismiss(id: Id, portal: Here, who: Who) -> QuestionView:
    """Takes a question off the list, as one that needs no answer here."""

    def work() -> QuestionView:
        _find(portal, id)
        _close(portal, id, "dismissed")
        portal.audit.record("question.dismiss", who, f"question:{id}")
        return _question(_find(portal, id))

    return await portal.gate.run(work)


# ---- curated answers


@router.get("/curated", **_ADMIN)
async def curated(portal: Here) -> CuratedAll:
    """The answers in use, the newest first."""
    return CuratedAll(
        curated=await portal.gate.run(lambda: [CuratedView.of(portal, row) for row in portal.curated.all()])
    )  # fmt: skip


@router.post("/curated", status_code=201, **_ADMIN)
async def add(given: CuratedGiven, portal: Here, who: Who) -> AnsweredView:
    """An answer to a question that is on no list."""
    return await portal.gate.run(lambda: _put(portal, who, [given.question, *given.wordings], given))


@router.post("/curated/{id}/renew", **_FOUND)
async def renew(id: Id, portal: Here, who: Who) -> AnsweredView:
    """Quotes the same fields and passages as they read now."""

    def work() -> AnsweredView:
        row = _curated(portal, id)
        quotes = [QuoteGiven.model_validate({**vars(quote), "fields": list(quote.fields)}) for quote in row.quotes]
        return _put(portal, who, list(row.wordings), AnswerGiven(quotes=quotes, wordings=[], learn=False), row.id)

    return await portal.gate.run(work)


@router.delete("/curated/{id}", status_code=204, **_FOUND)
async def withdraw(id: Id, portal: Here, who: Who) -> Response:
    """Takes an answer out of use, and its cases out of the regression."""

    def work() -> None:
        _curated(portal, id)
        portal.curated.drop(id)
        regression.write(portal.settings.data, portal.curated.all())
        portal.audit.record("curated.withdraw", who, f"curated:{id}")

    await portal.gate.run(work)
    return Response(status_code=204)


@router.post("/regression", **_ADMIN)
async def run(portal: Here) -> RegressionView:
    """Puts every case to the hall as it is now."""
    return await portal.gate.run(_run, portal, None)


# ---- what can be quoted


@router.get("/records", **_ADMIN)
async def records(portal: Here, q: Annotated[str, Query(max_length=200)]) -> RecordsView:
    """Items and documents that fit a question or a name, to be quoted."""
    return await portal.gate.run(_records, portal, q)


@router.get("/records/item", **_FOUND)
async def item(portal: Here, code: Annotated[str, Query(max_length=200)]) -> RecordView:
    """The parts of an item's guide, and each field of it alone."""
    return await portal.gate.run(_item, portal, code)


@router.get("/records/document", **_FOUND)
async def document(portal: Here, code: Annotated[str, Query(max_length=200)]) -> RecordView:
    """The passages of a policy document."""
    return await portal.gate.run(_document, portal, code)


def _put(portal: Portal, who: Principal, wordings: list[str], given: AnswerGiven, id: str = "") -> AnsweredView:
    quotes = [entry.quote() for entry in given.quotes]
    try:
        row = portal.curated.put(wordings, quotes, portal.pseudonym(who), portal.clock(), id)
    except ValueError as error:
        raise PortalError("invalid", f"{error}。", fields=["quotes"]) from None
    portal.audit.record(
        "curated.put", who, f"curated:{row.id}", {"records": " ".join(dict.fromkeys(c.code for c in row.citations))}
    )
    learned = 0
    if given.learn and len(row.items) == 1:
        learned = portal.hall.learn([{"text": text, "item": row.items[0]} for text in row.wordings]).imported
    regression.write(portal.settings.data, portal.curated.all())
    return AnsweredView(curated=CuratedView.of(portal, row), learned=learned, regression=_run(portal, row))


def _run(portal: Portal, row: CuratedAnswer | None) -> RegressionView:
    rows = portal.curated.all() if row is None else [row]
    return RegressionView.of(regression.run(portal.hall, portal.settings.data, rows, date.today()))


def _find(portal: Portal, id: str) -> Question:
    table = tables()["questions"]
    with portal.database.read() as connection:
        row = connection.execute(sa.select(table).where(table.c.id == id)).first()
    if row is None:
        raise PortalError("not_found")
    return opened(portal.hall, row)


def _close(portal: Portal, id: str, status: str) -> None:
    table = tables()["questions"]
    portal.hall.writer.submit(lambda c: c.execute(table.update().where(table.c.id == id).values(status=status)))


def _curated(portal: Portal, id: str) -> CuratedAnswer:
    try:
        return portal.curated.get(id)
    except LookupError:
        raise PortalError("not_found") from None


def _question(row: Question) -> QuestionView:
    return QuestionView(
        id=row.id, text=row.text, kind=row.kind, reason=REFUSALS.get(row.reason, row.reason), status=row.status,
        first=row.first, last=row.last, asked=row.asked,
    )  # fmt: skip


def _records(portal: Portal, q: str) -> RecordsView:
    library, wanted = portal.hall.library, q.strip()
    if not wanted:
        return RecordsView(records=[])
    items = [item.code for item in library.items.values() if wanted in (item.name, item.code)]
    items += [hit.code for hit in portal.hall.search(q, _SHOWN)]
    documents = [document.code for document in library.documents.values() if wanted in (document.title, document.code)]
    if library.passages:
        features = library.passage_index.features(library.understander.query(q))
        order = np.argsort(-library.understander.weights.passages.scores(features), kind="stable")
        documents += [library.passages[i][0] for i in order]
    found = [RecordView(kind="item", code=code, title=library.items[code].name) for code in dict.fromkeys(items)]
    found += [
        RecordView(kind="document", code=code, title=library.documents[code].title)
        for code in list(dict.fromkeys(documents))[:_SHOWN]
    ]
    return RecordsView(records=found)


def _item(portal: Portal, code: str) -> RecordView:
    found = portal.hall.library.item(code)
    if found is None:
        raise PortalError("not_found")
    parts = [
        FactView(path=part.kind, label=TITLES[part.kind], text="\n".join(sentence.text for sentence in part.sentences))
        for part in compose(found, KINDS) if part.kind in KINDS
    ]  # fmt: skip
    single = [
        FactView(path=path, label=label(path.partition(".")[0]), text=text)
        for path, text in facts(found) if path.partition(".")[0] in _QUOTABLE
    ]  # fmt: skip
    return RecordView(kind="item", code=code, title=found.name, parts=parts, facts=single)


def _document(portal: Portal, code: str) -> RecordView:
    found = portal.hall.library.document(code)
    if found is None:
        raise PortalError("not_found")
    passages = [
        FactView(path=entry.id, label=f"{entry.heading} {entry.id}".strip(), text=found.text[entry.start : entry.end])
        for entry in top(found.passages)
    ]
    return RecordView(kind="document", code=code, title=found.title, facts=passages)
