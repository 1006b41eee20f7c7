"""The hall for programs that speak OpenAI's protocol: chat, embeddings, models. Answers are the hall's own, with their citations in a
field of their own; temperature and its like have no effect on them. A plain language model that is served beside the hall has a name
of its own (`completions`).

client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="…")
client.chat.completions.create(model="govlm-small-zh", messages=[{"role": "user", "content": "补办身份证要带什么？"}])
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from govlm.bundled import BUNDLED
from govlm.portal.api.chat import EVENT, Message, say
from govlm.portal.api.completions import AssistantMessage, Options, PlainCompletion, Usage, completed
from govlm.portal.api.language import Text, embedded
from govlm.portal.api.policies import Question, answered
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.language_model import Served
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import Principal, Who, allow, signature
from govlm.portal.views import AnswerView, CitationView, PartView, TurnView, pieces

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["openai"])
_LABEL = "AI 生成"
_ROLES = {"developer": "system"}  # as templates call them
Model = Annotated[str, Field(max_length=200, examples=[BUNDLED])]


class ContentPart(BaseModel):
    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or ())


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(Options):
    """The hall answers the last message of the user; with `user`, as the next message of that user's conversation, else on its own. A
    plain model goes on with all of them. region: GB/T 2260 code (an extra field)."""

    model: Model
    messages: list[ChatMessage] = Field(
        min_length=1, max_length=1000, examples=[[{"role": "user", "content": "补办身份证要带什么？"}]]
    )
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=1)
    user: str | None = Field(None, max_length=256)
    region: str = Field("", max_length=12, pattern="^[0-9]*$")


class Choice(BaseModel):
    index: int = 0
    message: AssistantMessage
    finish_reason: Literal["stop"] = "stop"


class Completion(BaseModel):
    """citations, parts, label and session are extra fields. session: the conversation, where `user` was given."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    citations: list[CitationView]
    parts: list[PartView]
    label: str = _LABEL
    session: str | None = None


class EmbeddingRequest(BaseModel):
    """dimensions: only the model's own, as vectors are not cut."""

    model: Model
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=256)] = Field(examples=["身份证丢了怎么补"])
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = Field(None, max_length=256)


class Embedding(BaseModel):
    """embedding: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelView(BaseModel):
    """owned_by: govlm, whose answers come from the hall's records, or local: a plain language model."""

    id: str = BUNDLED
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "govlm"


class ModelsView(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelView]


class _Said(BaseModel):
    """What a chat request gives, in either form."""

    text: str
    citations: list[CitationView]
    parts: list[PartView]
    session: str | None = None
    usage: Usage


def _known(portal: Portal, model: str, plain: bool = False) -> Served | None:
    """None is the hall's own. PortalError "not_found". plain: whether a plain language model does as well."""
    served = portal.language_model if plain else None
    if served is not None and model == served.name:
        return served
    if model != BUNDLED:
        names = BUNDLED if served is None else f"{BUNDLED}、{served.name}"
        raise PortalError("not_found", f"没有这个模型，可以用 {names}。", fields=["model"])
    return None


def _session(portal: Portal, who: Principal, user: str) -> str:
    """The number of the conversation of a system's user: always the same one, which only that system can use."""
    number = signature(portal.secret, "openai", who.id, user)
    return f"{number}.{signature(portal.secret, 'session', number, who.id)}"


async def _said(portal: Portal, who: Principal, wanted: ChatRequest) -> _Said:
    text = next((message.text for message in reversed(wanted.messages) if message.role == "user"), None)
    if text is None:
        raise PortalError("invalid", "没有用户的消息。", fields=["messages"])
    session = _session(portal, who, wanted.user) if wanted.user else None
    if session is not None:
        found: AnswerView | TurnView = await say(portal, who, session, Message(text=text, key="", region=wanted.region))
    else:
        earlier = [message.text for message in wanted.messages if message.role == "user"][:-1]
        found = await portal.gate.run(answered, portal, Question(text=text, region=wanted.region), earlier)

    def count() -> Usage:
        asked = sum(portal.embedder.count(message.text) for message in wanted.messages)
        given = portal.embedder.count(found.text)
        return Usage.of(asked, given)

    usage = await portal.gate.run(count)
    return _Said(text=found.text, citations=found.citations, parts=found.parts, session=session, usage=usage)


_chat = allow("citizen", scope="chat", errors=("not_found", "switched_off", "context_length_exceeded"))
_chat["responses"] = {
    **_chat["responses"],
    200: {
        "model": Completion | PlainCompletion,
        "content": {"text/event-stream": {"schema": EVENT}},
        "description": "The answer, or with `stream` its chunks as events, `[DONE]` last.",
    },
}


@router.post("/chat/completions", response_model=None, **_chat)
async def chat(
    wanted: ChatRequest, request: Request, portal: Here, who: Who
) -> Completion | PlainCompletion | StreamingResponse:
    """Answers the last message of the user, or goes on with the conversation where a plain model is named."""
    served = _known(portal, wanted.model, plain=True)
    if served is not None:
        messages = [{"role": _ROLES.get(message.role, message.role), "content": message.text} for message in wanted.messages]
        counted = wanted.stream_options is not None and wanted.stream_options.include_usage
        return await completed(portal, served, request, messages, wanted, wanted.stream, counted)
    said = await attended(request, _said(portal, who, wanted))
    number, created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
    if wanted.stream:
        usage = wanted.stream_options is not None and wanted.stream_options.include_usage
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_chunks(said, number, created, usage), media_type="text/event-stream", headers=headers)
    choice = Choice(message=AssistantMessage(content=said.text))
    return Completion(
        id=number, created=created, model=BUNDLED, choices=[choice], usage=said.usage, citations=said.citations,
        parts=said.parts, session=said.session,
    )  # fmt: skip


async def _chunks(said: _Said, number: str, created: int, usage: bool) -> AsyncIterator[str]:
    """The citations come with the first chunk, before any text."""
    head = {"id": number, "object": "chat.completion.chunk", "created": created, "model": BUNDLED}

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return f"data: {json.dumps({**head, 'choices': choices, **more}, ensure_ascii=False)}\n\n"

    extra = said.model_dump(include={"citations", "parts", "session"})
    yield chunk({"role": "assistant", "content": ""}, label=_LABEL, **extra)
    for piece in pieces(said.text):
        yield chunk({"content": piece})
    yield chunk({}, "stop")
    if usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': said.usage.model_dump()})}\n\n"
    yield "data: [DONE]\n\n"


@router.post("/embeddings", **allow("citizen", scope="models", errors=("not_found",)))
async def embeddings(wanted: EmbeddingRequest, request: Request, portal: Here) -> Embeddings:
    """A vector of length 1 for each text."""
    _known(portal, wanted.model)
    texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
    vectors, tokens = await attended(request, embedded(portal, texts))
    if wanted.dimensions not in (None, portal.embedder.dimension):
        message = f"这个模型的向量是{portal.embedder.dimension}维，不能改变。"
        raise PortalError("invalid", message, fields=["dimensions"])

    def written(vector: Any) -> list[float] | str:
        if wanted.encoding_format == "base64":
            return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
        return [float(value) for value in vector]

    data = [Embedding(index=place, embedding=written(vector)) for place, vector in enumerate(vectors)]
    return Embeddings(data=data, model=BUNDLED, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))


@router.get("/models", **allow("citizen", scope="models"))
async def models(portal: Here) -> ModelsView:
    """The hall's model, which answers and embeds, and the plain one where there is one."""
    served = portal.language_model
    return ModelsView(data=[ModelView(), *([] if served is None else [ModelView(id=served.name, owned_by="local")])])


@router.get("/models/{name}", **allow("citizen", scope="models", errors=("not_found",)))
async def model(name: Annotated[str, Path(max_length=200, examples=[BUNDLED])], portal: Here) -> ModelView:
    """A model by its name."""
    served = _known(portal, name, plain=True)
    return ModelView() if served is None else ModelView(id=served.name, owned_by="local")
