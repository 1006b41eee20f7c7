"""A plain language model behind the portal: OpenAI's own client against a live one, its options, its limits, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

import httpx
import numpy as np
import openai
import tiny_language_model
from portal_server import FREELY, _furnish, free_port, threaded, until
from portal_server import client as portal_client

from govlm.generation import LanguageModel
from govlm.hall.generator.phrasing import Phraser
from govlm.portal.language_model import Served, _Text
from govlm.portal.portal import prepare
from govlm.portal.settings import Settings, SettingsError

HALL, MODEL, LIMIT, QUEUE = "govlm-small-zh", "tiny", 256, 12
WAIT = 60  # seconds after which what does not come is missing
ASKED: Any = [{"role": "system", "content": "简短"}, {"role": "user", "content": "身份证怎么办"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model") / MODEL
    tiny_language_model.make(folder, positions=LIMIT)
    return folder


@pytest.fixture(scope="module")
def live(folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A portal that a thread of this process serves."""
    data = tmp_path_factory.mktemp("portal")
    _furnish(data)
    settings = Settings(data=data, port=free_port(), rates=FREELY, model=str(folder), queue=QUEUE)
    with threaded(settings) as app:
        base = f"http://127.0.0.1:{settings.port}/v1"
        yield SimpleNamespace(base=base, portal=app.state.portal, served=app.state.portal.language_model)


@pytest.fixture(scope="module")
def client(live: SimpleNamespace) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live.base, api_key="unused", max_retries=0) as made:
        yield made


def create(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(**{"model": MODEL, "messages": ASKED, "temperature": 0, "max_tokens": 24, **options})


def free(live: SimpleNamespace) -> bool:
    usage = live.served.model.engine.usage()
    return bool(usage["requests"] == 0 and usage["sequences"] <= len(live.served.model.engine._scheduler._prefixes))


# ---- what it says


def test_it_stands_beside_the_halls_own(client: openai.OpenAI) -> None:
    assert [(model.id, model.owned_by) for model in client.models.list()] == [(HALL, "govlm"), (MODEL, "local")]
    assert client.models.retrieve(MODEL).id == MODEL
    answer = client.chat.completions.create(model=HALL, messages=[{"role": "user", "content": "补办身份证要带啥"}])
    assert answer.model_extra["citations"]
    with pytest.raises(openai.NotFoundError) as missing:
        create(client, model="other")
    assert MODEL in missing.value.body["message"]
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="a")


def test_an_answer_is_what_generate_gives(client: openai.OpenAI, live: SimpleNamespace) -> None:
    answer = create(client)
    model = live.served.model
    prompt = model.prompt(ASKED)
    out = model.model.generate([prompt], max_new_tokens=24, do_sample=False)[0, len(prompt) :].tolist()
    assert answer.choices[0].message.content == model.text(out)
    assert answer.usage.prompt_tokens == len(prompt) and answer.usage.completion_tokens == len(out)
    assert answer.usage.total_tokens == len(prompt) + len(out) and answer.model == MODEL
    assert answer.choices[0].finish_reason == ("stop" if out[-1] == model.tokenizer.eos_token_id else "length")
    assert answer.model_extra["label"] == "AI 生成"


def test_a_stream_is_the_whole_in_pieces(client: openai.OpenAI) -> None:
    whole = create(client, max_tokens=40)
    chunks = list(create(client, max_tokens=40, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].model_extra["label"] == "AI 生成"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason and chunks[-1].usage == whole.usage
    assert len({c.id for c in chunks}) == 1


def test_a_seed_gives_the_same_text_again(client: openai.OpenAI) -> None:
    hot = {"temperature": 1.5, "top_p": 0.95, "max_tokens": 30}
    texts = [create(client, seed=seed, **hot).choices[0].message.content for seed in (7, 7, -8)]
    assert texts[0] == texts[1] != texts[2]
    assert len({create(client, **hot).choices[0].message.content for _ in range(4)}) > 1  # none given: drawn anew


def test_it_ends_before_a_stop(client: openai.OpenAI) -> None:
    whole = create(client, max_tokens=40).choices[0].message.content
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    cut = create(client, max_tokens=40, stop=["never there", stop])
    assert cut.choices[0].message.content == whole[: whole.index(stop)] and cut.choices[0].finish_reason == "stop"
    chunks = create(client, max_tokens=40, stop=stop, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole[: whole.index(stop)]


def test_a_stop_is_held_back_until_it_is_certain() -> None:
    class Stream:
        def decode_stream(self, skip_special_tokens: bool) -> Any:
            return SimpleNamespace(feed=lambda token: token, end=lambda: "")

    def read(tokens: list[Any], *stops: str) -> list[str]:
        text = _Text(SimpleNamespace(tokenizer=Stream()), stops)  # type: ignore[arg-type]
        told = []
        for token in tokens:
            told.append(text.feed(token))
            if text.ended:
                break
        return [*told, text.end()]

    assert read(["ab", "##", "x"], "##EN") == ["ab", "", "##x", ""]
    assert read(["ab#", "#E", "N tail"], "##EN") == ["ab", "", "", ""]
    assert read(["abc", "#"], "##") == ["abc", "", "#"]
    assert read(["aXbY"], "Y", "Xb") == ["a", ""]


def test_log_probabilities(client: openai.OpenAI, live: SimpleNamespace) -> None:
    answer = create(client, logprobs=True, top_logprobs=3)
    found = answer.choices[0].logprobs.content
    assert len(found) == answer.usage.completion_tokens
    for entry in found:  # greedy: the chosen one leads
        assert entry.logprob <= 0 and entry.top_logprobs[0].bytes == entry.bytes and len(entry.top_logprobs) == 3
        assert abs(entry.top_logprobs[0].logprob - entry.logprob) < 1e-5
        assert [t.logprob for t in entry.top_logprobs] == sorted((t.logprob for t in entry.top_logprobs), reverse=True)
    text = bytes(byte for entry in found for byte in entry.bytes).decode("utf-8", "replace")
    assert text.replace("<|end|>", "") == answer.choices[0].message.content
    chunks = [c for c in create(client, logprobs=True, stream=True) if c.choices and c.choices[0].logprobs]
    assert [e.bytes for c in chunks for e in c.choices[0].logprobs.content] == [e.bytes for e in found]
    assert create(client).choices[0].logprobs is None
    alone = create(client, logprobs=True).choices[0].logprobs.content
    assert [e.logprob for e in alone] == [e.logprob for e in found] and alone[0].top_logprobs == []


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {
        "type": "object", "required": ["fee", "online"], "additionalProperties": False,
        "properties": {"fee": {"type": "integer"}, "online": {"enum": ["是", "否"]}, "note": {"type": "string", "maxLength": 5}},
    }  # fmt: skip
    format = {"type": "json_schema", "json_schema": {"name": "item", "schema": schema, "strict": True}}
    for seed in range(4):
        answer = create(
            client, response_format=format, temperature=1.2, seed=seed, max_tokens=120, top_logprobs=2, logprobs=True
        )
        assert answer.choices[0].finish_reason == "stop"
        found = json.loads(answer.choices[0].message.content)
        assert isinstance(found["fee"], int) and found["online"] in "是否" and len(found.get("note", "")) <= 5


def test_what_is_not_done_is_refused_by_name(client: openai.OpenAI) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    for name, value in (("tools", [tool]), ("presence_penalty", 0.5), ("logit_bias", {"5": 1.0})):
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            create(client, **{name: value})
        assert refused.value.body["fields"] == [name]
    for bad in ({"n": 2}, {"max_tokens": 0}, {"temperature": 3}, {"stop": [""]}, {"response_format": {"type": "json_object"}}):
        with pytest.raises(openai.UnprocessableEntityError):
            create(client, **bad)
    with pytest.raises(openai.UnprocessableEntityError) as schema:
        create(client, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"oneOf": []}}})
    assert "oneOf" in schema.value.body["message"] or "type" in schema.value.body["message"]
    with pytest.raises(openai.UnprocessableEntityError) as role:
        create(client, messages=[{"role": "tool", "content": "a", "tool_call_id": "x"}])
    assert "no such role" in role.value.body["message"]


# ---- how much it takes


def test_a_conversation_beyond_the_context(client: openai.OpenAI, live: SimpleNamespace) -> None:
    long: Any = [ASKED[0], {"role": "user", "content": "很久以前" * 200}, {"role": "assistant", "content": "好"}, ASKED[1]]
    size = len(live.served.model.prompt(long))
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, messages=long)
    assert refused.value.code == "context_length_exceeded" and refused.value.type == "invalid_request_error"
    assert str(size) in refused.value.body["message"] and str(LIMIT) in refused.value.body["message"]
    kept = create(client, messages=long, extra_body={"truncation": "auto"})  # the oldest go, the system's stays
    assert kept.choices[0].message.content == create(client).choices[0].message.content
    talk = [{"role": ("user", "assistant")[n % 2], "content": f"第{n}句"} for n in range(101)]
    fits = create(client, messages=[ASKED[0], *talk], extra_body={"truncation": "auto"}).usage.prompt_tokens
    assert fits == max(
        size for n in range(0, 101, 2) if (size := len(live.served.model.prompt([ASKED[0], *talk[n:]]))) <= LIMIT + 1 - 24
    )
    alone = create(client, messages=[{"role": "user", "content": "很" * 1000}], extra_body={"truncation": "auto"})
    assert alone.usage.prompt_tokens + alone.usage.completion_tokens <= LIMIT + 1
    with pytest.raises(openai.BadRequestError):
        create(client, max_tokens=LIMIT + 2, extra_body={"truncation": "auto"})
    whole = create(client, max_tokens=None, temperature=1.5, seed=3)  # nothing said: what is left
    assert whole.usage.total_tokens <= LIMIT + 1


def test_many_at_once_are_answered_or_told_to_wait(live: SimpleNamespace) -> None:
    async def ask(http: httpx.AsyncClient, number: int) -> httpx.Response:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"第{number}个"}],
            "max_tokens": 30,
            "stream": number % 2 == 0,
        }
        return await http.post(f"{live.base}/chat/completions", json=body)

    async def run() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=WAIT, limits=limits, trust_env=False) as http:
            return await asyncio.gather(*(ask(http, n) for n in range(64)))

    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, live.served.model.engine.usage()["requests"])
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = asyncio.run(asyncio.wait_for(run(), WAIT))
    done.set()
    watcher.join()
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 503} and statuses.count(200) >= QUEUE and most <= QUEUE
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["Retry-After"] and answer.json()["error"]["code"] == "busy"
        else:
            assert "[DONE]" in answer.text or answer.json()["choices"][0]["message"]["content"] is not None
    until(lambda: free(live))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_the_model(live: SimpleNamespace, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = live.served.model.engine._scheduler._forward
    steps: list[int] = []

    def slow(fed: Any) -> Any:
        steps.append(len(fed))
        time.sleep(0.03)
        return forward(fed)

    monkeypatch.setattr(live.served.model.engine._scheduler, "_forward", slow)
    monkeypatch.setattr(live.served.model.model.generation_config, "eos_token_id", None)  # else it might end by itself

    async def leave() -> None:
        async with openai.AsyncOpenAI(base_url=live.base, api_key="unused", max_retries=0) as client:
            asked = client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=200, temperature=0, stream=stream)
            if stream:
                async for _ in await asked:
                    if len(steps) > 3:
                        break
                return
            task = asyncio.create_task(asked)
            while len(steps) < 3:
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(leave(), WAIT))
    until(lambda: live.served.model.engine.usage()["requests"] == 0)
    assert len(steps) < 60  # of 200
    until(lambda: free(live))


def test_it_may_be_left_at_any_token(live: SimpleNamespace) -> None:
    served = live.served

    async def leave(after: int) -> int:
        asked = served.prepare(ASKED, most=60, temperature=1.3, seed=after)
        pieces, heard = served.answer(asked), 0
        async for _ in pieces:
            heard += 1
            if heard > after:
                break
        await pieces.aclose()
        return heard

    for after in range(12):
        assert asyncio.run(asyncio.wait_for(leave(after), WAIT)) > 0
        until(lambda: served.model.engine.usage()["requests"] == 0)
    until(lambda: free(live))


# ---- what goes wrong


def test_a_model_that_gives_nan_breaks_one_answer(
    client: openai.OpenAI, live: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward = live.served.model.engine._scheduler._forward

    def broken(fed: Any) -> Any:
        logits, done = forward(fed)
        if fed[0][0].tokens:  # the second token on
            logits = logits.copy()
            logits[:] = np.nan
        return logits, done

    monkeypatch.setattr(live.served.model.engine._scheduler, "_forward", broken)
    with pytest.raises(openai.InternalServerError) as failed:
        create(client)
    assert failed.value.status_code == 500 and failed.value.body["code"] == "internal"
    with pytest.raises(openai.APIError):  # in a stream the error is its last event
        list(create(client, stream=True, max_tokens=4, temperature=0, messages=[{"role": "user", "content": "a"}]))
    assert "not finite" in caplog.text
    monkeypatch.undo()
    assert create(client).choices[0].message.content is not None


def test_a_switch_turns_it_off(client: openai.OpenAI, live: SimpleNamespace) -> None:
    live.portal.switches.set("chat", False)
    try:
        with pytest.raises(openai.InternalServerError) as off:
            create(client)
        assert off.value.body["code"] == "switched_off"
    finally:
        live.portal.switches.set("chat", True)


def test_nothing_of_it_is_logged(client: openai.OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="govlm"):
        answer = create(client, messages=[{"role": "user", "content": "我的号码是13800138000"}])
    assert "13800138000" not in caplog.text and answer.choices[0].message.content not in caplog.text


def test_a_model_that_cannot_be_is_told_before_the_portal_begins(folder: Any, tmp_path: Any) -> None:
    def refused(path: Any, name: str = "model") -> str:
        with pytest.raises(SettingsError) as error:
            prepare(Settings(data=tmp_path / "portal", sample=False, **{name: str(path)}))
        return str(error.value)

    assert refused(tmp_path / "none").startswith("model: no model folder")
    assert "bert" in refused(HALL) and refused(HALL, "generator").startswith("generator: ")
    evil = tmp_path / "evil"
    attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    tiny_language_model.make(evil, template=attack)
    assert "chat_template" in refused(evil)
    with pytest.raises(ValueError, match="chat_template"):
        LanguageModel.open(evil)
    named = tmp_path / HALL
    tiny_language_model.make(named)
    assert "another name" in refused(named)
    assert not (tmp_path / "portal").exists()


def test_the_memory_of_keys_and_values_is_bounded(folder: Any) -> None:
    with LanguageModel.open(folder, memory=1 << 16, max_batch=8) as model:
        usage = model.engine.usage()
        assert usage["most"] * usage["page_bytes"] <= 1 << 16
        handles = [model.submit(ASKED, max_new_tokens=60, do_sample=True, seed=n) for n in range(8)]
        assert all(handle.result(WAIT) for handle in handles)
    served = Served(str(folder), 4)
    assert served.model.engine.usage()["most"] > 0
    served.close()


def test_a_sequence_to_sequence_model_is_served(tmp_path: Any) -> None:
    model = tiny_language_model.make_t5(tmp_path / "t5")
    schema = {
        "type": "object",
        "properties": {"done": {"type": "boolean"}},
        "required": ["done"],
        "additionalProperties": False,
    }
    asked = {"model": "t5", "messages": ASKED, "temperature": 0, "max_tokens": 24}
    with portal_client(tmp_path / "portal", model=str(tmp_path / "t5")) as client:
        plain = client.post("/v1/chat/completions", json=asked).json()
        format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
        held = client.post("/v1/chat/completions", json={**asked, "response_format": format}).json()
        served = client.app.state.portal.language_model.model
        source = served.prompt(ASKED)
        assert served.limit is None
        out = model.generate([source], max_new_tokens=24, do_sample=False)[0, 1:].tolist()
        assert plain["choices"][0]["message"]["content"] == served.text(out)
        assert plain["usage"]["prompt_tokens"] == len(source) and plain["usage"]["completion_tokens"] == len(out)
        assert isinstance(json.loads(held["choices"][0]["message"]["content"])["done"], bool)


# ---- the hall's generator, seen through the portal


class Echo:
    """A generator that says each source again after a polite word."""

    def write(self, messages: Any, *, sources: Any, names: Any, most: int, seconds: float, given_up: Any) -> str:
        assert "13800138000" not in json.dumps(messages, ensure_ascii=False)
        if "最后一个问题" in messages[-1]["content"]:
            return "居民身份证丢了怎么补领"
        return "\n".join(f"请您看：{source}" for source in sources)


def test_the_halls_generator_shows_in_every_answer(tmp_path: Any) -> None:
    with portal_client(tmp_path) as client:
        policy = client.get("/v1/policies").json()["policies"][0]["code"]
        plain = client.post("/v1/ask", json={"text": "身份证多少钱"}).json()
        client.app.state.portal.hall.phraser = Phraser(Echo())
        asked = client.post("/v1/ask", json={"text": "身份证多少钱，我是13800138000"}).json()
        (part,) = [part for part in asked["parts"] if part["kind"] == "phrased"]
        assert "AI 生成" in part["title"] and asked["label"] == "AI 生成" and part["lines"][-1]["text"].startswith("请您看：")
        numbers = {entry["number"] for entry in asked["citations"]}
        assert all(line["citations"] and set(line["citations"]) <= numbers for line in part["lines"])
        assert [p for p in asked["parts"] if p["kind"] != "phrased"] == plain["parts"]
        summary = client.post(f"/v1/policies/{policy}/summary", json={}).json()
        assert len(summary["plain"]) == len(summary["sentences"]) and summary["plain"][0]["citations"] == [1]
        read = client.post(f"/v1/policies/{policy}/interpretation").json()
        assert any(aspect["plain"] for aspect in read["aspects"])
        messages = [{"role": "user", "content": text} for text in ("居民身份证怎么办", "那丢了呢")]
        found = client.post("/v1/chat/completions", json={"model": HALL, "messages": messages}).json()
        assert "居民身份证补领" in found["choices"][0]["message"]["content"]
        client.app.state.portal.hall.phraser = None
        assert client.post("/v1/ask", json={"text": "身份证多少钱"}).json() == plain


def test_a_portal_reads_its_generator(folder: Any, tmp_path: Any) -> None:
    with portal_client(tmp_path, generator=str(folder)) as client:
        phraser = client.app.state.portal.hall.phraser
        assert phraser is not None and phraser.generator.ready(WAIT).name == MODEL
        assert client.post("/v1/ask", json={"text": "身份证多少钱"}).json()["citations"]
    with portal_client(tmp_path / "without") as client:
        portal = client.app.state.portal
        assert portal.hall.phraser is None and portal.language_model is None
        assert [m["id"] for m in client.get("/v1/models").json()["data"]] == [HALL]


def test_the_command_line_names_all_three() -> None:
    found = Settings.from_environment({"GOVLM_PORTAL_MODEL": "a", "GOVLM_PORTAL_GENERATOR": "b", "GOVLM_PORTAL_ENCODER": "c"})
    assert (found.model, found.generator, found.encoder) == ("a", "b", "c")
    done = subprocess.run([sys.executable, "-m", "govlm", "serve", "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("--model", "--generator", "--encoder"))


def test_a_hall_is_no_slower_to_begin_without() -> None:
    code = (
        "import sys, govlm.portal.portal; print([name for name in sys.modules if 'constrained' in name or 'phrasing' in name])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
