"""OpenAI's own client against a live portal: chat, streams, embeddings, models, errors, and giving up."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

import httpx
import openai
from portal_server import FREELY, free_port, threaded, until

from govlm.models import AutoModel
from govlm.portal.settings import Settings

MODEL = "govlm-small-zh"
WAIT = 60  # seconds after which what does not come is missing
MATERIALS = [{"role": "system", "content": "你是助手"}, {"role": "user", "content": "补办身份证要带啥"}]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A portal that a thread of this process serves, with one thread for its work."""
    settings = Settings(data=tmp_path_factory.mktemp("openai"), port=free_port(), threads=1, rates=FREELY)
    with threaded(settings) as app:
        url = f"http://127.0.0.1:{settings.port}"
        yield SimpleNamespace(url=url, base=f"{url}/v1", app=app, portal=app.state.portal)


@pytest.fixture(scope="module")
def client(live: SimpleNamespace) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.base, api_key="unused", max_retries=0) as made:
        yield made


def test_a_question(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MATERIALS, temperature=0.3)
    message = answer.choices[0].message
    assert message.role == "assistant" and "居民身份证申领登记表" in message.content
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 50
    citations = answer.model_extra["citations"]
    assert citations[0]["number"] == 1 and all(entry["text"] in message.content for entry in citations)
    assert [part["kind"] for part in answer.model_extra["parts"]] == ["item", "materials"] and answer.model_extra[
        "label"
    ] == "AI 生成"


def test_a_stream_gives_the_citations_first(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MATERIALS)
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=MATERIALS, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].model_extra["citations"]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1 and len(chunks) > 5


def test_a_user_has_a_conversation(client: openai.OpenAI, live: SimpleNamespace) -> None:
    def say(text: str, user: str) -> Any:
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], user=user)

    say("低保怎么申请", "u1")
    again = say("那材料呢", "u1")
    assert "最低生活保障申请书" in again.choices[0].message.content
    assert "最低生活保障申请书" not in say("那材料呢", "u2").choices[0].message.content  # another's
    session = again.model_extra["session"]
    assert len(httpx.get(f"{live.base}/sessions/{session}").json()["turns"]) == 2


def test_text_parts_are_read(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "补办身份证"}, {"type": "text", "text": "要带啥"}]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert answer.model_extra["citations"]


def test_embeddings(client: openai.OpenAI, live: SimpleNamespace) -> None:
    texts = ["身份证丢了怎么补", "补领身份证", "公积金贷款"]
    found = client.embeddings.create(model=MODEL, input=texts)  # the client asks for base64
    vectors = np.array([entry.embedding for entry in found.data], np.float32)
    numbers = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert np.array_equal(vectors, np.array([entry.embedding for entry in numbers.data], np.float32))
    alone = AutoModel.from_pretrained(MODEL, add_pooling_layer=False).encode(texts)
    assert np.abs(vectors - alone).max() <= 1e-5 and vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert found.usage.prompt_tokens == sum(len(text) + 2 for text in texts)  # a character is a token
    one = client.embeddings.create(model=MODEL, input=texts[0])
    assert np.abs(np.array(one.data[0].embedding) - alone[0]).max() <= 1e-5
    body = httpx.post(f"{live.base}/embeddings", json={"model": MODEL, "input": "a", "encoding_format": "base64"}).json()
    assert len(base64.b64decode(body["data"][0]["embedding"])) == 4 * alone.shape[1]
    assert len(client.embeddings.create(model=MODEL, input="a", dimensions=alone.shape[1]).data) == 1


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL] and client.models.retrieve(MODEL).owned_by == "govlm"


def test_errors_are_openais_and_ours(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MATERIALS)
    assert missing.value.code == "not_found" and missing.value.type == "invalid_request_error"
    assert missing.value.body["request_id"] and "govlm-small-zh" in missing.value.body["message"]
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.embeddings.create(model=MODEL, input="a", dimensions=64)
    assert refused.value.body["fields"] == ["dimensions"]
    for bad in ({"messages": []}, {"messages": MATERIALS, "n": 2}, {"messages": [{"role": "assistant", "content": "a"}]}):
        with pytest.raises(openai.UnprocessableEntityError):
            client.chat.completions.create(model=MODEL, **bad)


def test_a_client_that_gives_up_frees_the_model(live: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher, embedder = live.portal.batcher, live.portal.embedder
    httpx.post(f"{live.base}/embeddings", json={"model": MODEL, "input": "the model is read"})
    passes: list[int] = []
    work = embedder.work

    def slow(ready: Any) -> Any:
        passes.append(len(ready))
        time.sleep(0.1)
        return work(ready)

    monkeypatch.setattr(embedder, "work", slow)
    monkeypatch.setattr(batcher, "_tokens", 8)

    async def give_up() -> None:
        async with openai.AsyncOpenAI(base_url=live.base, api_key="unused", max_retries=0) as client:
            task = asyncio.create_task(client.embeddings.create(model=MODEL, input=["低保"] * 200))
            while not passes:
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(give_up(), WAIT))
    until(lambda: batcher.waiting == 0)
    assert len(passes) < 50  # of 100
    monkeypatch.setattr(embedder, "work", work)
    assert httpx.post(f"{live.base}/embeddings", json={"model": MODEL, "input": "低保"}).status_code == 200


def test_what_waits_for_a_thread_is_not_begun_when_its_client_left(
    live: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    hold = threading.Event()
    chat = live.portal.hall.chat

    def slow(session: str, text: str, **more: Any) -> Any:
        begun.append(text)
        hold.wait(WAIT)
        return chat(session, text, **more)

    monkeypatch.setattr(live.portal.hall, "chat", slow)
    gate = live.portal.gate

    async def leave() -> None:
        async with httpx.AsyncClient(base_url=live.base, timeout=WAIT) as client:
            session = (await client.post("/sessions")).json()["id"]
            first = asyncio.create_task(client.post(f"/sessions/{session}/turns", json={"text": "first"}))
            while not begun:
                await asyncio.sleep(0.01)
            second = asyncio.create_task(client.post(f"/sessions/{session}/turns/stream", json={"text": "second"}))
            while not gate.waiting:
                await asyncio.sleep(0.01)
            second.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await second
            while gate.waiting:
                await asyncio.sleep(0.01)
            hold.set()
            assert (await first).status_code == 200

    asyncio.run(asyncio.wait_for(leave(), WAIT))
    assert begun == ["first"]


def test_a_stream_that_is_closed_early_is_taken_up_again(live: SimpleNamespace) -> None:
    async def broken() -> None:
        async with openai.AsyncOpenAI(base_url=live.base, api_key="unused") as client:
            stream = await client.chat.completions.create(model=MODEL, messages=MATERIALS, stream=True)
            async for chunk in stream:
                assert chunk.model_extra["citations"]
                break
            await stream.close()
            again = await client.chat.completions.create(model=MODEL, messages=MATERIALS)
            assert again.choices[0].message.content

    asyncio.run(asyncio.wait_for(broken(), WAIT))
