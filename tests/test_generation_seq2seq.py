"""T5 in the engine: a text alone, in a batch and through generate is the same; sources are encoded once; memory comes back."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_visitors import nothing_held, visit_at_random, watched_caches

import govlm
from govlm import t5
from govlm._native import core as native
from govlm.adapters import LoraConfig
from govlm.generation import Engine, EngineFull, NonFiniteLogits, Request, Scheduler
from govlm.generation.encoding import Encoder, Source

EOS, START, VOCABULARY = 2, 3, 67


def make(kind: str = "T5", **fields: Any) -> Any:
    """Weights at random, large enough beside the embeddings that a text is not one token again and again."""
    whole: dict[str, Any] = {
        "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
        "decoder_start_token_id": START, "eos_token_id": EOS, "pad_token_id": 1, **fields,
    }  # fmt: skip
    model = getattr(t5, f"{kind}ForConditionalGeneration")(getattr(t5, f"{kind}Config")(**whole))
    generator = np.random.default_rng(2)
    for name, array in model.state_dict().items():
        if "layer_norm" not in name:
            scale = 0.1 if name == "shared.weight" else 2.0 if "relative" in name else 0.5
            array[...] = generator.standard_normal(array.shape) * scale
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return make()


@pytest.fixture(scope="module", params=["T5", "MT5"])
def either(request: Any) -> Any:
    """T5 as it was, and mT5: gated, with an output matrix of its own."""
    if request.param == "T5":
        return make(feed_forward_proj="relu")
    return make("MT5", feed_forward_proj="gated-gelu", tie_word_embeddings=False)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The lengths of the sources of each call of the encoder."""
    calls: list[list[int]] = []
    real = Encoder.__call__

    def call(self: Encoder, sources: Any) -> Any:
        calls.append([len(source.ids) for source in sources])
        return real(self, sources)

    monkeypatch.setattr(Encoder, "__call__", call)
    return calls


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return watched_caches(monkeypatch)


def sources(*lengths: int, seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(4, VOCABULARY, n).tolist() for n in lengths]


def alone(model: Any, row: list[int], **options: Any) -> list[int]:
    """What model.generate writes for one source, up to and with its end."""
    text = model.generate([row], **options)[0, 1:].tolist()
    return text[: text.index(EOS) + 1] if EOS in text else text


def by_whole_forwards(model: Any, row: list[int], count: int) -> list[int]:
    """Greedy search without any cache."""
    decoder = [START]
    while len(decoder) <= count and decoder[-1] != EOS:
        decoder.append(int(model(np.array([row]), decoder_input_ids=np.array([decoder])).logits[0, -1].argmax()))
    return decoder[1:]


def gated(gate: threading.Event) -> Any:
    """A logits processor that holds its request's first step up."""

    def waits(ids: Any, logits: Any) -> Any:
        assert gate.wait(60)
        return logits

    return waits


# ---- one and many ------------------------------------------------------------------------------------------------------------


def test_arrivals_of_any_kind(either: Any, caches: list[Any]) -> None:
    """Texts that come together, and others while those grow, are what whole forwards say."""
    rows = sources(9, 40, 3, 1, 33, 64, 17, seed=1)
    expected = [by_whole_forwards(either, row, 25) for row in rows]
    assert max(len(set(text)) for text in expected) > 8  # they can be wrong
    assert [alone(either, row, max_new_tokens=25) for row in rows] == expected
    with Engine(either, max_batch=4, max_requests=16) as engine:
        first = [engine.submit(row, max_new_tokens=25) for row in rows[:3]]
        seen = iter(first[0])
        next(seen)
        later = [engine.submit(rows[3], max_new_tokens=25), engine.submit(rows[4], max_new_tokens=25)]
        assert later[0].result(60) == expected[3]
        later += [engine.submit(row, max_new_tokens=25) for row in rows[5:]]
        assert [h.result(60) for h in (*first, *later)] == expected
    assert nothing_held(caches)


@pytest.mark.parametrize("fields", [{}, {"top_k": 5, "top_p": 0.8}, {"temperature": 1.7, "repetition_penalty": 1.3}])
def test_samples_and_log_probabilities(model: Any, fields: dict[str, Any]) -> None:
    rows = sources(30, 3, 12, seed=2)
    options: dict[str, Any] = {"do_sample": True, "seed": 12, "max_new_tokens": 20, "output_logprobs": True, **fields}
    with Engine(model) as engine:
        handles = [engine.submit(row, **options) for row in rows]
        texts = [h.result(60) for h in handles]
    for row, text, handle in zip(rows, texts, handles, strict=True):
        out = model.generate([row], return_dict_in_generate=True, **options)
        assert out.sequences[0, 1:].tolist() == text
        assert np.allclose(out.logprobs[0], handle.logprobs, atol=1e-5)
        assert handle.finish_reason == out.finish_reasons[0]
    assert texts != [alone(model, row, **{**options, "seed": 13}) for row in rows]


def test_beginnings_constraints_and_stop_strings(model: Any) -> None:
    class Even:
        def start(self) -> int:
            return 0

        def allowed(self, state: int) -> Any:
            return np.arange(VOCABULARY) % 2 == 0

        def advance(self, state: int, token: int) -> int:
            return state + 1

        def finished(self, state: int) -> bool:
            return state >= 4

    letters = SimpleNamespace(token_bytes=lambda index, first=False: b"" if index < 4 else bytes([61 + index]))
    row = sources(20)[0]
    whole = alone(model, row, max_new_tokens=16, min_new_tokens=16)
    pair = next(n for n in range(2, 15) if min(whole[n : n + 2]) > 3)  # two letters
    word = b"".join(letters.token_bytes(i) for i in whole[pair : pair + 2]).decode()
    with Engine(model, tokenizer=letters) as engine:
        handle = engine.submit(row, max_new_tokens=16, min_new_tokens=16, stop_strings=[word])
        assert handle.result(60) == whole[: pair + 2] and handle.finish_reason == "stop"
        for begin in ([START, *whole[:5]], whole[:5]):  # with the start, or without
            handle = engine.submit(row, max_new_tokens=11, min_new_tokens=11, decoder_input_ids=begin)
            assert handle.result(60) == whole[5:]
        text = engine.submit(row, max_new_tokens=9, constraint=Even()).result(60)
        assert text == alone(model, row, max_new_tokens=9, constraint=Even()) and not any(i % 2 for i in text)
        for fields, message in (
            ({"num_beams": 2}, "one text a request"), ({"max_new_tokens": 0}, "max_new_tokens"), ({"max_length": 1}, "max_length"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=message):
                engine.submit(row, **fields)
        with pytest.raises(ValueError, match="no token"):
            engine.submit([])
        with pytest.raises(IndexError, match="67"):
            engine.submit([VOCABULARY])
        with pytest.raises(IndexError, match="67"):
            engine.submit(row, decoder_input_ids=[START, VOCABULARY])
    with pytest.raises(ValueError, match="T5EncoderModel"):
        Engine(govlm.T5EncoderModel(model.config))
    with pytest.raises(ValueError, match="source"):
        Scheduler(model._cores["decoder"]).add(Request([START], 1, source=Source([5])))


def test_each_goes_through_its_adapter() -> None:
    """In both stacks; equal sources share what the cross attention sees only where they go through the same adapter."""
    model = make()
    for name, rank in (("one", 4), ("two", 2)):
        model.add_adapter(LoraConfig(r=rank, target_modules=["q", "v", "wo"], init_lora_weights=False), name)
        for parameter in model._adapters[name].parameters.values():
            values = np.random.default_rng(rank).standard_normal(parameter.data.shape) * 0.3
            parameter.core.bind(parameter.core_name, values.astype(np.float32))
    row = sources(21)[0]
    names = ["one", "two", "__base__", "one", "two"]
    options: dict[str, Any] = {"max_new_tokens": 8, "min_new_tokens": 8}
    expected = {n: model.generate([row], adapter_names=[n], **options)[0, 1:].tolist() for n in set(names)}
    assert len({tuple(text) for text in expected.values()}) == 3
    with Engine(model) as engine:
        handles = [engine.submit(row, adapter=name, **options) for name in names]
        assert [h.result(60) for h in handles] == [expected[n] for n in names]
        for parameter in model._adapters["one"].parameters.values():
            parameter.core.bind(parameter.core_name, np.array(parameter.data) * np.float32(1.5))
        changed = model.generate([row], adapter_names=["one"], **options)[0, 1:].tolist()
        assert engine.submit(row, adapter="one", **options).result(60) == changed != expected["one"]


# ---- the encoder -------------------------------------------------------------------------------------------------------------


def test_sources_are_encoded_once_and_side_by_side(model: Any, caches: list[Any], encoded: list[list[int]]) -> None:
    rows = sources(20, 30, 25, 40, 10, seed=3)
    scheduler = Scheduler(model._cores["decoder"], step_tokens=64, encoder=Encoder(model))
    requests = [Request([START], 4, source=Source(row)) for row in [*rows[:2], rows[0], *rows[2:]]]
    for request in requests:
        scheduler.add(request)
    scheduler.step()
    assert encoded == [[20, 30]] and [len(r.tokens) for r in requests] == [1, 1, 1, 0, 0, 0]
    pages = scheduler.cache.usage()["used"]
    assert pages == 2 + 3  # two memories of a page, and each text's own
    late = Request([START], 4, source=Source(rows[1]))  # its source is that of a text that grows
    scheduler.waiting.appendleft(late)
    while scheduler.busy:
        scheduler.step()
    assert encoded == [[20, 30], [25], [40, 10]]
    assert [r.tokens for r in [*requests, late]] == [
        alone(model, r.source.ids, max_new_tokens=4, eos_token_id=[]) for r in [*requests, late] if r.source is not None
    ]
    assert nothing_held(caches)


def test_holes_in_a_source(model: Any) -> None:
    row = sources(7)[0]
    ids, mask = np.array([[1, *row[:3], 1, *row[3:]]]), np.array([[0, 1, 1, 1, 0, 1, 1, 1, 1]])
    out = model.generate(ids, attention_mask=mask, max_new_tokens=1, return_dict_in_generate=True, output_logits=True)
    whole = model(ids, mask, decoder_input_ids=np.array([[START]])).logits[0, -1]
    plain = model(np.array([row]), decoder_input_ids=np.array([[START]])).logits[0, -1]
    assert np.allclose(out.logits[0][0], whole, atol=1e-5) and not np.allclose(whole, plain, atol=1e-3)


def test_weights_that_change_are_seen() -> None:
    """Of the encoder, of the decoder, and of the table that both have."""
    model = make()
    row = sources(18)[0]
    for parts in (("encoder.block",), ("decoder.block",), ("shared",)):
        scheduler = Scheduler(model._cores["decoder"], encoder=Encoder(model))
        request = Request([START], 6, source=Source(row))
        scheduler.add(request)
        for _ in range(3):
            scheduler.step()
        model.train()
        model(np.array([row]), labels=np.array([row])).loss.backward()
        govlm.AdamW([p for n, p in model.named_parameters() if n.startswith(parts)], lr=0.2).step()
        model.zero_grad()
        model.eval()
        while scheduler.busy:
            scheduler.step()
        decoder = [START, *request.tokens[:3]]
        while len(decoder) < 7:
            decoder.append(int(model(np.array([row]), decoder_input_ids=np.array([decoder])).logits[0, -1].argmax()))
        assert request.tokens[3:] == decoder[4:], parts
        scheduler.close()


# ---- what it withstands ------------------------------------------------------------------------------------------------------


def test_memory_that_runs_out_sends_texts_back(model: Any, caches: list[Any], encoded: list[list[int]]) -> None:
    """Four pages of 32: one for a memory or two, one for a text; a source of 150 tokens never fits."""
    rows = sources(40, 33, 50, 20, seed=2)
    with Engine(model, pages=4) as engine:
        options: dict[str, Any] = {"max_new_tokens": 60, "min_new_tokens": 60}
        handles = [engine.submit(row, **options) for row in rows]
        assert [h.result(60) for h in handles] == [alone(model, row, **options) for row in rows]
        calls = [n for call in encoded for n in call]
        assert all(calls.count(len(row)) == 2 for row in rows)  # here, and by generate
        large = engine.submit(sources(150)[0], max_new_tokens=5)
        with pytest.raises(MemoryError, match="4 pages"):
            large.result(60)
        assert engine.submit(rows[3], max_new_tokens=3).result(60) == alone(model, rows[3], max_new_tokens=3)
    assert nothing_held(caches)


def test_there_is_no_limit_of_positions(model: Any) -> None:
    row = sources(700)[0]
    with Engine(model, step_tokens=64) as engine:
        assert engine.submit(row, max_new_tokens=5).result(60) == by_whole_forwards(model, row, 5)


def test_an_encoder_without_memory_takes_one_at_a_time(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Encoder.__call__

    def call(self: Encoder, group: Any) -> Any:
        if len(group) > 1 or len(group[0].ids) > 30:
            raise MemoryError("no room")
        return real(self, group)

    monkeypatch.setattr(Encoder, "__call__", call)
    rows = sources(20, 31, 12)
    scheduler = Scheduler(model._cores["decoder"], encoder=Encoder(model))
    requests = [Request([START], 4, source=Source(row)) for row in rows]
    for request in requests:
        scheduler.add(request)
    for _ in range(30):
        scheduler.step()
    assert [r.ended for r in requests] == ["length", "error", "length"] and str(requests[1].error) == "no room"
    assert requests[2].tokens == by_whole_forwards(model, rows[2], 4)


def test_bounded_queue(model: Any, caches: list[Any]) -> None:
    gate = threading.Event()
    rows = sources(*range(1, 65), seed=5)
    with Engine(model, max_batch=8, max_requests=64) as engine:
        handles = [engine.submit(rows[0], max_new_tokens=3, logits_processor=[gated(gate)])]
        handles += [engine.submit(row, max_new_tokens=3) for row in rows[1:]]
        with pytest.raises(EngineFull, match="64 requests"):
            engine.submit(rows[0])
        gate.set()
        assert [h.result(60) for h in handles] == [by_whole_forwards(model, row, 3) for row in rows]
        assert engine.submit(rows[0], max_new_tokens=1).result(60)
    assert nothing_held(caches)


def test_cancel_at_any_token(model: Any, caches: list[Any]) -> None:
    rows = sources(50, 45, seed=9)
    options: dict[str, Any] = {"max_new_tokens": 100, "min_new_tokens": 100}
    expected = [alone(model, row, **options) for row in rows]
    with Engine(model) as engine:
        other = engine.submit(rows[1], **options)
        for count in (0, 1, 2, 5, 40):
            handle = engine.submit(rows[0], **options)
            got: list[int] = []
            if count == 0:
                handle.cancel()
            for token in handle:
                got.append(token)
                if len(got) == count:
                    handle.cancel()
            assert handle.finish_reason == "cancelled" and count <= len(got) < 100
            assert got == expected[0][: len(got)]
        assert other.result(60) == expected[1]
        for _ in range(500):
            if engine.usage()["used"] == 0:
                break
            time.sleep(0.002)
        assert engine.usage()["used"] == engine.usage()["sequences"] == engine.usage()["requests"] == 0
    assert nothing_held(caches)


def test_a_source_of_cancelled_texts_is_given_up(caches: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of a size that takes seconds: the cancel comes back long before, and nobody else's work is given up for it."""
    large, calls = make(d_model=256, d_ff=2048, num_layers=6, num_heads=8, d_kv=32), []
    real = Encoder.__call__

    def call(self: Encoder, group: Any) -> Any:
        calls.append([len(source.ids) for source in group])
        try:
            return real(self, group)
        except BaseException as error:
            calls.append(type(error).__name__)
            raise

    monkeypatch.setattr(Encoder, "__call__", call)
    with Engine(large, step_tokens=64) as engine:
        handle = engine.submit(sources(3000)[0], max_new_tokens=5)
        while not calls:
            time.sleep(0.001)
        waiting = engine.submit(sources(3)[0], max_new_tokens=2)
        waiting.cancel()  # not of the forward that runs
        assert calls == [[3000]] and not engine._step.cancelled
        handle.cancel()
        assert handle.result(60) == waiting.result(60) == [] and handle.finish_reason == waiting.finish_reason == "cancelled"
        assert calls[:2] == [[3000], "Cancelled"]
        assert engine.submit(sources(3)[0], max_new_tokens=2).result(60)  # and it goes on
    assert nothing_held(caches)


def test_a_cancel_while_keys_are_made_loses_nobody(model: Any, caches: list[Any]) -> None:
    """The call that makes a memory's keys and values is given up: its text is still in the queue."""
    scheduler = Scheduler(model._cores["decoder"], encoder=Encoder(model))
    real, row = scheduler.cache, sources(20)[0]
    turns = [native.Cancelled(), None]

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def remember(self, *arguments: Any) -> None:
            if (error := turns.pop(0)) is not None:
                raise error
            real.remember(*arguments)

    scheduler.cache = Broken()
    request = Request([START], 3, source=Source(row))
    scheduler.add(request)
    with pytest.raises(native.Cancelled):
        scheduler._encode()
        scheduler._admit()
    assert list(scheduler.waiting) == [request] and real.usage()["sequences"] == 0
    scheduler.cache = real
    while scheduler.busy:
        scheduler.step()
    assert request.tokens == by_whole_forwards(model, row, 3)


def test_one_that_fails_leaves_the_others(model: Any) -> None:
    def fails(ids: Any, logits: Any) -> Any:
        raise ZeroDivisionError("its own")

    rows = sources(6, 5)
    with Engine(model) as engine:
        bad, good = engine.submit(rows[0], logits_processor=[fails]), engine.submit(rows[1], max_new_tokens=9)
        with pytest.raises(ZeroDivisionError, match="its own"):
            bad.result(60)
        assert good.result(60) == by_whole_forwards(model, rows[1], 9)
    broken = make()
    broken.state_dict()["encoder.block.1.layer.1.DenseReluDense.wi.weight"][5, 3] = np.nan
    with Engine(broken) as engine, pytest.raises(NonFiniteLogits, match=r"encoder\.block\.1\.layer\.1\.DenseReluDense\.wi"):
        engine.submit(rows[0]).result(60)


def test_threads_submit_and_cancel_at_random(model: Any, caches: list[Any]) -> None:
    with Engine(model, max_batch=4, max_requests=100, pages=12, step_tokens=40) as engine:
        visit_at_random(
            engine,
            lambda length, number, turn: sources(length, seed=turn % 2)[0],
            lambda ids, count: by_whole_forwards(model, ids, count),
        )
    assert nothing_held(caches)
