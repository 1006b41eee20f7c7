"""A plain language model (`govlm serve --model`) in OpenAI's protocol: what it is asked, what it answers. Nothing of it is kept.

One text an answer; tools, penalties and token biases are refused by name, for what is not done must not seem to be.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from govlm.portal.errors import PortalError, detail
from govlm.portal.gate import attended
from govlm.portal.language_model import Asked, Chance, Piece, Served
from govlm.portal.portal import Portal

__all__ = ["Options", "PlainCompletion", "Usage", "completed"]

_SENT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
Stop = Annotated[str, Field(min_length=1, max_length=200)]


class JsonSchema(BaseModel):
    """strict has no effect: what is generated always fits the schema."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    name: str = Field("", max_length=200)
    description: str | None = Field(None, max_length=2000)
    of: dict[str, Any] = Field(alias="schema", default_factory=dict)
    strict: bool | None = None


class ResponseFormat(BaseModel):
    type: Literal["text", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Options(BaseModel):
    """What a plain model heeds of a request; for the hall's own answers it has no effect. truncation: "auto" leaves out the oldest
    messages of a conversation that is longer than the model's context (an extra field; default: it is refused)."""

    max_tokens: int | None = Field(None, ge=1, le=1 << 20)
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 20)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    truncation: Literal["auto", "disabled"] = "disabled"
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    tools: list[dict[str, Any]] | None = Field(None, max_length=128)

    @property
    def refused(self) -> list[str]:
        """Those of its fields that ask for what is not done."""
        names = ("frequency_penalty", "presence_penalty", "logit_bias", "tools")
        return [name for name in names if getattr(self, name)]


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    content: list[TokenLogprob]


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class PlainChoice(BaseModel):
    index: int = 0
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    logprobs: Logprobs | None = None


class Usage(BaseModel):
    """Tokens, by the model's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int

    @classmethod
    def of(cls, asked: int, given: int) -> Usage:
        return cls(prompt_tokens=asked, completion_tokens=given, total_tokens=asked + given)


class PlainCompletion(BaseModel):
    """label is an extra field."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[PlainChoice]
    usage: Usage
    label: str = "AI 生成"


async def completed(
    portal: Portal,
    served: Served,
    request: Request,
    messages: Sequence[dict[str, str]],
    wanted: Options,
    stream: bool,
    usage: bool,
) -> PlainCompletion | StreamingResponse:
    """usage: whether a stream ends with it."""
    portal.switches.require("chat")
    if wanted.refused:
        raise PortalError("invalid", f"这个模型不支持：{'、'.join(wanted.refused)}。", fields=wanted.refused)
    asked = await attended(request, portal.gate.run(_prepared, served, messages, wanted))
    number, created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())
    pieces = served.answer(asked)
    if stream:
        first = await attended(request, _first(pieces))  # so that a full queue is answered with its status
        chunks = _chunks(served, asked, first, pieces, {"id": number, "created": created, "model": served.name}, usage, request)
        return StreamingResponse(chunks, media_type="text/event-stream", headers=_SENT)
    found = await attended(request, _all(pieces))
    choice = PlainChoice(
        message=AssistantMessage(content="".join(piece.text for piece in found)), finish_reason=_finish(found[-1]),
        logprobs=None if asked.top is None else Logprobs(content=_told(found)),
    )  # fmt: skip
    counted = Usage.of(len(asked.ids), found[-1].count)
    return PlainCompletion(id=number, created=created, model=served.name, choices=[choice], usage=counted)


def _prepared(served: Served, messages: Sequence[dict[str, str]], wanted: Options) -> Asked:
    given = wanted.response_format
    schema = None
    if given is not None and given.type == "json_schema":
        if given.json_schema is None:
            raise PortalError("invalid", "缺少json_schema。", fields=["response_format"])
        schema = given.json_schema.of
    stops = [wanted.stop] if isinstance(wanted.stop, str) else wanted.stop or []
    return served.prepare(
        messages, most=wanted.max_completion_tokens or wanted.max_tokens, temperature=wanted.temperature, top_p=wanted.top_p,
        seed=wanted.seed, stops=stops, schema=schema, top=(wanted.top_logprobs or 0) if wanted.logprobs else None,
        window=wanted.truncation == "auto",
    )  # fmt: skip


async def _first(pieces: AsyncIterator[Piece]) -> Piece:
    return await anext(pieces)


async def _all(pieces: AsyncIterator[Piece]) -> list[Piece]:
    return [piece async for piece in pieces]


async def _chunks(
    served: Served,
    asked: Asked,
    first: Piece,
    pieces: AsyncIterator[Piece],
    head: dict[str, Any],
    usage: bool,
    request: Request,
) -> AsyncIterator[str]:
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, str], finish: str | None = None, told: list[TokenLogprob] | None = None, **more: Any) -> str:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        if told:
            choice["logprobs"] = Logprobs(content=told).model_dump()
        return f"data: {json.dumps({**head, 'choices': [choice], **more}, ensure_ascii=False)}\n\n"

    count = 0
    try:
        yield chunk({"role": "assistant", "content": ""}, label="AI 生成")
        piece: Piece | None = first
        while piece is not None:
            count = piece.count
            told = _told([piece]) if asked.top is not None else None
            if piece.text or told:
                yield chunk({"content": piece.text}, None, told)
            if piece.finish is not None:
                yield chunk({}, piece.finish)
            piece = await anext(pieces, None)
        if usage:
            counted = Usage.of(len(asked.ids), count).model_dump()
            yield f"data: {json.dumps({**head, 'choices': [], 'usage': counted})}\n\n"
        yield "data: [DONE]\n\n"
    except PortalError as error:  # the status is out already
        yield f"data: {json.dumps({'error': detail(request, error).model_dump(exclude_none=True)}, ensure_ascii=False)}\n\n"
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]


def _finish(piece: Piece) -> Any:
    return piece.finish or "stop"


def _told(pieces: Iterable[Piece]) -> list[TokenLogprob]:
    return [
        TokenLogprob(**_chance(token), top_logprobs=[TopLogprob(**_chance(rival)) for rival in rivals])
        for piece in pieces
        for token, rivals in piece.tokens
    ]


def _chance(chance: Chance) -> dict[str, Any]:
    return {"token": chance.token.decode("utf-8", "replace"), "logprob": chance.logprob, "bytes": list(chance.token)}
