"""Policy documents: lists, texts and passages; summaries, interpretations and key terms, all verbatim; and one question, answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from govlm.hall.answers.citations import Citation, Sentence, version
from govlm.hall.answers.precedence import applies, in_force
from govlm.hall.catalogue.records import Document
from govlm.hall.generator.phrasing import Phraser
from govlm.hall.policy.interpretation import QUESTIONS, interpret
from govlm.hall.policy.summary import LENGTH, Summary, summarise
from govlm.hall.policy.terms import keywords
from govlm.portal.api.items import Limit, Offset, Question, Region
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import allow
from govlm.portal.store import questions
from govlm.portal.views import AnswerView, CitationView, LineView, cited

__all__ = ["answered", "router", "shortened"]

router = APIRouter(prefix="/v1", tags=["policies"])
Code = Annotated[str, Path(max_length=200, description="of the document (文号, or what the importer made of its title)")]


class PolicySummary(BaseModel):
    code: str
    title: str
    number: str
    issuer: str
    issued: date | None
    valid_from: date | None
    valid_to: date | None
    region: str
    level: str
    in_force: bool

    @classmethod
    def of(cls, document: Document) -> PolicySummary:
        return cls(
            code=document.code, title=document.title, number=document.number, issuer=document.issuer, issued=document.issued,
            valid_from=document.valid_from, valid_to=document.valid_to, region=document.region, level=document.level,
            in_force=in_force(document, date.today()),
        )  # fmt: skip


class PoliciesView(BaseModel):
    total: int
    policies: list[PolicySummary]


class PassageRef(BaseModel):
    """text[start:end] of the document."""

    id: str
    heading: str
    start: int
    end: int


class PolicyView(PolicySummary):
    """version: changes with the text, as in citations."""

    text: str
    url: str
    version: str
    passages: list[PassageRef]


class PassageView(PassageRef):
    code: str
    title: str
    text: str
    version: str


class SummaryRequest(BaseModel):
    """sentences: at most so many (0: as many as fit); length: characters, at most."""

    sentences: int = Field(0, ge=0, le=50)
    length: int = Field(LENGTH, ge=1, le=5000)


class SummaryView(BaseModel):
    """sentences: word for word, in the order of the source; citations: the same places. plain: the same in a generator's words, each
    sentence with the numbers of its citations; [] where the hall has none."""

    text: str
    sentences: list[str]
    citations: list[CitationView]
    plain: list[LineView] = []
    label: str = "AI 生成"


class PointView(BaseModel):
    """text: word for word; citation: number of the citation, 0 = none. whole: False where a long list was cut between clauses."""

    text: str
    passage: str
    start: int
    end: int
    whole: bool
    citation: int


class AspectView(BaseModel):
    """What the text says to one question (who, what, when, amounts, effect). missing: it says nothing. plain: as of a summary."""

    name: str
    label: str
    points: list[PointView]
    missing: bool
    plain: list[LineView] = []


class TermView(BaseModel):
    """A term of the text that the glossary explains; source: the law that the explanation follows."""

    term: str
    explanation: str
    source: str
    count: int


class InterpretationView(BaseModel):
    title: str
    aspects: list[AspectView]
    terms: list[TermView]
    citations: list[CitationView]
    label: str = "AI 生成"


class KeywordsRequest(BaseModel):
    k: int = Field(5, ge=1, le=50)


class KeywordView(BaseModel):
    """text[start:end] of the document, where the term first stands."""

    text: str
    score: float
    start: int
    end: int


class KeywordsView(BaseModel):
    keywords: list[KeywordView]


def document_of(portal: Portal, code: str) -> Document:
    """PortalError "not_found": there is none."""
    document = portal.hall.library.documents.get(code)
    if document is None:
        raise PortalError("not_found")
    return document


def shortened(source: Document | str, sentences: int, length: int, phraser: Phraser | None = None) -> Summary:
    """A summary of at most so many sentences (0 = any) and characters. phraser: as of `summarise`."""
    summary = summarise(source, length)
    while sentences and len(summary.sentences) > sentences:  # a lower limit gives fewer of them
        length = len(summary.text) - 1
        summary = summarise(source, length)
    return summary if phraser is None else summarise(source, length, phraser=phraser)


def lines(said: Sequence[Sentence], citations: Sequence[Citation]) -> list[LineView]:
    """Sentences with the numbers of their citations."""
    number = {citation: i for i, citation in reversed(list(enumerate(citations, 1)))}
    return [LineView(text=s.text, citations=sorted({number[c] for c in s.citations})) for s in said]


@router.get("/policies", **allow("citizen", scope="catalogue"))
async def policies(
    portal: Here, region: Region = "", limit: Limit = 20, offset: Offset = 0,
    q: Annotated[str, Query(max_length=200, description="words of the title, the number or the issuer")] = "",
) -> PoliciesView:  # fmt: skip
    """Documents, in force or not, the newest first."""

    def read() -> PoliciesView:
        found = [
            document
            for document in portal.hall.library.documents.values()
            if q.strip() in f"{document.title} {document.number} {document.issuer}"
            and (not region or applies(document, region))
        ]
        found.sort(key=lambda document: (document.issued or date.min, document.code), reverse=True)
        return PoliciesView(total=len(found), policies=[PolicySummary.of(entry) for entry in found[offset : offset + limit]])

    return await portal.gate.run(read)


@router.get("/policies/{code}", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def policy(code: Code, portal: Here) -> PolicyView:
    """The whole text, with the places of its articles and paragraphs."""

    def read() -> PolicyView:
        found = document_of(portal, code)
        places = [PassageRef(id=p.id, heading=p.heading, start=p.start, end=p.end) for p in found.passages]
        summary = PolicySummary.of(found).model_dump()
        return PolicyView(**summary, text=found.text, url=found.url, version=version(found), passages=places)

    return await portal.gate.run(read)


@router.get("/policies/{code}/passages/{id:path}", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def passage(
    code: Code,
    id: Annotated[str, Path(max_length=200, description="like 第三条, or 第三条/2", examples=["第三条"])],
    portal: Here,
) -> PassageView:
    """An article or paragraph."""

    def read() -> PassageView:
        found = document_of(portal, code)
        place = next((entry for entry in found.passages if entry.id == id), None)
        if place is None:
            raise PortalError("not_found")
        return PassageView(
            id=id, heading=place.heading, start=place.start, end=place.end, code=found.code, title=found.title,
            text=found.text[place.start : place.end], version=version(found),
        )  # fmt: skip

    return await portal.gate.run(read)


@router.post("/policies/{code}/summary", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def summary(code: Code, wanted: SummaryRequest, request: Request, portal: Here) -> SummaryView:
    """The sentences of the document that say most, word for word."""

    def read() -> SummaryView:
        found = shortened(document_of(portal, code), wanted.sentences, wanted.length, portal.hall.phraser)
        return SummaryView(
            text=found.text, sentences=[sentence.text for sentence in found.sentences],
            citations=cited(portal.hall.library, found.citations), plain=lines(found.plain, found.citations),
        )  # fmt: skip

    return await attended(request, portal.gate.run(read))


@router.post("/policies/{code}/interpretation", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def interpretation(code: Code, request: Request, portal: Here) -> InterpretationView:
    """What the document says to five questions, word for word, and its terms explained."""

    def read() -> InterpretationView:
        found = interpret(document_of(portal, code), phraser=portal.hall.phraser)
        number = {citation: i for i, citation in reversed(list(enumerate(found.citations, 1)))}
        aspects = [
            AspectView(
                name=name, label=label, missing=not found.points(name), plain=lines(found.plain.get(name, ()), found.citations),
                points=[
                    PointView(
                        text=point.text, passage=point.passage, start=point.start, end=point.end, whole=point.whole,
                        citation=number[point.citation] if point.citation else 0,
                    )
                    for point in found.points(name)
                ],
            )
            for name, label in QUESTIONS.items()
        ]  # fmt: skip
        terms = [
            TermView(term=term.text, explanation=term.entry.explanation, source=term.entry.source, count=term.count)
            for term in found.terms
        ]
        citations = cited(portal.hall.library, found.citations)
        return InterpretationView(title=found.title, aspects=aspects, terms=terms, citations=citations)

    return await attended(request, portal.gate.run(read))


@router.post("/policies/{code}/keywords", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def terms(code: Code, wanted: KeywordsRequest, request: Request, portal: Here) -> KeywordsView:
    """The document's key terms, best first."""

    def read() -> KeywordsView:
        found = keywords(document_of(portal, code), wanted.k)
        return KeywordsView(keywords=[KeywordView(text=w.text, score=w.score, start=w.start, end=w.end) for w in found])

    return await attended(request, portal.gate.run(read))


@router.post("/ask", tags=["chat"], **allow("citizen", scope="chat", errors=("switched_off",)))
async def ask(question: Question, request: Request, portal: Here) -> AnswerView:
    """One question outside a conversation: an answer whose every sentence is cited, or an honest refusal."""
    return await attended(request, portal.gate.run(answered, portal, question))


def answered(portal: Portal, question: Question, earlier: Sequence[str] = ()) -> AnswerView:
    """A question that is refused is kept, masked, for the console. earlier: the questions before it, the oldest first."""
    portal.switches.require("chat")
    text = question.text.replace("\x00", " ")
    found = portal.hall.ask(text, question.region or None, earlier=earlier)
    if found.refused and found.reason != "empty":
        questions.note(portal.hall, "unanswered", text, found.reason)
    portal.usage.count("turn", "refused" if found.refused else "answered")
    return AnswerView.of(portal.hall, found)
