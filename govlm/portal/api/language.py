"""Language work for other systems: business types, vectors, what a text holds, summaries. Requests in flight share passes of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from govlm.bundled import BUNDLED
from govlm.hall.understanding.slots import find_slots
from govlm.portal.api.policies import SummaryView, shortened
from govlm.portal.batching import Lane, Ready
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.models import Classified
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import allow

__all__ = ["Text", "embedded", "router"]

router = APIRouter(prefix="/v1", tags=["language"])
BUSINESS = "business-type"  # the classifier that every hall has
_AT_ONCE = 2000  # characters that are tokenized where they arrive; more of them on a thread
_SCORED = 16  # texts that are compared with the catalogue between two looks at whether the client is there
Text = Annotated[str, Field(max_length=20_000)]


class ClassifyRequest(BaseModel):
    """model: a classifier that the portal was given by name (default: the business types of the hall). scores: the chance of every label, too."""

    texts: list[Text] = Field(min_length=1, max_length=256, examples=[["单位三个月没给我交社保了"]])
    model: str = Field("", max_length=100)
    scores: bool = False


class LabelView(BaseModel):
    """label: "" where the text says nothing; a list from a classifier that gives several. score: its chance."""

    label: str | list[str]
    score: float
    scores: dict[str, float] | None = None


class ClassifyView(BaseModel):
    model: str
    results: list[LabelView]


class EmbedRequest(BaseModel):
    texts: list[Text] = Field(min_length=1, max_length=256, examples=[["身份证丢了怎么补"]])


class EmbedView(BaseModel):
    """vectors: of length 1, one a text; as POST /v1/embeddings gives them."""

    model: str
    dimension: int
    tokens: int
    vectors: list[list[float]]


class ExtractRequest(BaseModel):
    text: Text = Field(examples=["我叫张伟，电话13800138000，下个月五号去办"])


class SlotView(BaseModel):
    """text[start:end], as it was written; value: the one way to write it; valid: whether its check holds, None where it has none."""

    kind: str
    text: str
    start: int
    end: int
    value: str
    valid: bool | None


class ExtractView(BaseModel):
    slots: list[SlotView]


class SummariseRequest(BaseModel):
    """sentences: at most so many (0: as many as fit); length: characters, at most."""

    text: str = Field(max_length=100_000)
    sentences: int = Field(3, ge=0, le=50)
    length: int = Field(300, ge=1, le=5000)


async def prepared(lane: Lane, texts: Sequence[str]) -> list[Ready]:
    """The texts tokenized; many of them on a thread, so that others go on."""
    if sum(map(len, texts)) <= _AT_ONCE:
        return lane.prepare(texts)
    return await asyncio.to_thread(lane.prepare, texts)


async def embedded(portal: Portal, texts: Sequence[str]) -> tuple[list[Any], int]:
    """(vectors, tokens that were read)."""
    if not portal.embedder.loaded:
        await portal.gate.run(lambda: portal.embedder.model)
    ready = await prepared(portal.embedder, texts)
    return await portal.batcher.run(portal.embedder, ready), sum(entry.tokens for entry in ready)


async def classified(portal: Portal, texts: Sequence[str], name: str) -> list[Classified]:
    """PortalError "invalid": no such model."""
    known = portal.classifiers
    if not name:
        if not known.vectors.loaded:
            await portal.gate.run(lambda: known.vectors.model)
        readable = await portal.gate.run(known.readable, texts)
        vectors = await portal.batcher.run(known.vectors, await prepared(known.vectors, readable))
        found: list[Classified] = []
        for start in range(0, len(texts), _SCORED):
            end = start + _SCORED
            found += await portal.gate.run(known.business, readable[start:end], vectors[start:end])
        return found
    if name not in known.names:
        raise PortalError("invalid", "没有这个模型。", fields=["model"])
    lane = await portal.gate.run(known.fitted, name)
    return await portal.batcher.run(lane, await prepared(lane, texts))


@router.post("/classify", **allow("citizen", scope="models"))
async def classify(wanted: ClassifyRequest, request: Request, portal: Here) -> ClassifyView:
    """The label of each text: its business type, or what a fine-tuned classifier says."""
    name = "" if wanted.model == BUSINESS else wanted.model
    found = await attended(request, classified(portal, wanted.texts, name))
    results = [LabelView(label=c.label, score=c.score, scores=c.scores if wanted.scores else None) for c in found]
    return ClassifyView(model=name or BUSINESS, results=results)


@router.post("/embed", **allow("citizen", scope="models"))
async def embed(wanted: EmbedRequest, request: Request, portal: Here) -> EmbedView:
    """A vector for each text; near ones mean near things."""
    vectors, tokens = await attended(request, embedded(portal, wanted.texts))
    rows = [vector.tolist() for vector in vectors]
    return EmbedView(model=BUNDLED, dimension=portal.embedder.dimension, tokens=tokens, vectors=rows)


@router.post("/extract", **allow("citizen", scope="models"))
async def extract(wanted: ExtractRequest, request: Request, portal: Here) -> ExtractView:
    """Numbers with check digits, dates, sums, addresses, persons and organisations of a text, with their places."""
    found = await attended(request, portal.gate.run(find_slots, wanted.text))
    return ExtractView(slots=[SlotView(**slot._asdict()) for slot in found])


@router.post("/summarise", **allow("citizen", scope="models"))
async def summarise(wanted: SummariseRequest, request: Request, portal: Here) -> SummaryView:
    """The sentences of a text that say most, word for word."""
    found = await attended(request, portal.gate.run(shortened, wanted.text, wanted.sentences, wanted.length))
    return SummaryView(text=found.text, sentences=[sentence.text for sentence in found.sentences], citations=[])
