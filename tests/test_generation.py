"""Generation without a peer: a text alone and in a batch, memory that comes back, cancels, bounds, and what is refused."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_visitors import nothing_held, visit_at_random, watched_caches
from tiny_writers import EOS, LLAMA, T5, VOCABULARY

import govlm
from govlm.generation import Engine, EngineFull, GenerationConfig, NonFiniteLogits, PromptTooLong, Request, Scheduler
from govlm.generation.processors import Constrained
from govlm.generation.sampling import Draw, choose
from govlm.generation.stopping import StopStrings


@pytest.fixture(scope="module")
def model() -> Any:
    govlm.set_seed(3)
    return govlm.LlamaForCausalLM(govlm.LlamaConfig(**LLAMA))


@pytest.fixture(scope="module")
def t5() -> Any:
    govlm.set_seed(4)
    return govlm.T5ForConditionalGeneration(govlm.T5Config(**T5))


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    return watched_caches(monkeypatch)


def prompts(*lengths: int, seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(4, VOCABULARY, n).tolist() for n in lengths]


def padded(rows: list[list[int]]) -> tuple[Any, Any]:
    width = max(map(len, rows))
    ids, mask = np.full((len(rows), width), 1), np.zeros((len(rows), width), np.int64)
    for n, row in enumerate(rows):
        ids[n, width - len(row) :], mask[n, width - len(row) :] = row, 1
    return ids, mask


def by_whole_forwards(model: Any, prompt: list[int], count: int) -> list[int]:
    """Greedy search without any cache."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count and (len(ids) == len(prompt) or ids[-1] != EOS):
        ids.append(int(model(np.array([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def texts(out: Any, width: int) -> list[list[int]]:
    """What was generated, up to and with the end."""
    rows = []
    for row in np.asarray(out)[:, width:].tolist():
        rows.append(row[: row.index(EOS) + 1] if EOS in row else row)
    return rows


# ---- one and many ------------------------------------------------------------------------------------------------------------


def test_greedy_is_what_whole_forwards_say(model: Any, caches: list[Any]) -> None:
    rows = prompts(1, 31, 32, 33, 70)
    ids, mask = padded(rows)
    out = model.generate(ids, attention_mask=mask, max_new_tokens=40)
    assert texts(out, ids.shape[1]) == [by_whole_forwards(model, row, 40) for row in rows]
    assert np.array_equal(out[:, : ids.shape[1]], ids)
    assert nothing_held(caches)


def test_a_mask_may_hide_places_on_either_side_and_within(model: Any) -> None:
    row = prompts(6)[0]
    holes = np.array([[1, *row[:3], 1, *row[3:], 1, 1]])
    mask = np.array([[0, 1, 1, 1, 0, 1, 1, 1, 0, 0]])
    out = model.generate(holes, attention_mask=mask, max_new_tokens=9)
    assert texts(out, 10) == texts(model.generate([row], max_new_tokens=9), 6)
    assert texts(model.generate(holes, max_new_tokens=9), 10) == texts(out, 10)  # pad_token_id is read as the mask


@pytest.mark.parametrize(
    "fields", [{}, {"top_k": 5, "top_p": 0.8}, {"temperature": 1.7, "repetition_penalty": 1.3, "min_p": 0.01}]
)
def test_a_text_is_the_same_alone_and_in_a_batch(model: Any, fields: dict[str, Any]) -> None:
    rows = prompts(40, 3, 65, 20, seed=1)
    ids, mask = padded(rows)
    options: dict[str, Any] = {"do_sample": True, "seed": 12, "max_new_tokens": 30, **fields}
    together = texts(model.generate(ids, attention_mask=mask, **options), ids.shape[1])
    alone = [texts(model.generate([row], **options), len(row))[0] for row in rows]
    assert together == alone
    assert together != texts(model.generate(ids, attention_mask=mask, **{**options, "seed": 13}), ids.shape[1])
    with Engine(model) as engine:
        handles = [engine.submit(row, **options) for row in rows]
        assert [h.result(60) for h in handles] == alone


def test_samples_of_one_prompt_differ(model: Any) -> None:
    row = prompts(12)[0]
    options: dict[str, Any] = {"do_sample": True, "seed": 5, "max_new_tokens": 12, "min_new_tokens": 12, "temperature": 2.0}
    several = model.generate([row], num_return_sequences=3, **options)
    assert len({tuple(text) for text in several.tolist()}) == 3
    assert np.array_equal(model.generate([row] * 3, **options), several)  # written out as three prompts
    assert np.array_equal(model.generate([row], **options)[0], several[0])


def test_the_seed_is_numpys_unless_given(model: Any) -> None:
    row, drawn = prompts(5), []
    for _ in range(2):
        govlm.set_seed(99)
        drawn.append(model.generate(row, do_sample=True, max_new_tokens=20).tolist())
    assert drawn[0] == drawn[1] != model.generate(row, do_sample=True, max_new_tokens=20).tolist()


def test_drawing() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf], np.float32)
    assert [choose(logits, u) for u in (0.0, 0.49, 0.51, 1 - 2**-53)] == [1, 1, 3, 3]
    assert choose(np.array([1.0, 3.0, 3.0], np.float32), None) == 1
    draw = Draw(1, 2)
    assert draw(3) == Draw(1, 2)(3) != draw(4) and Draw(1, 3)(3) != draw(3) != Draw(2, 2)(3)
    numbers = np.array([draw(step) for step in range(2000)])
    assert numbers.min() >= 0 and numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.03


def test_sequence_to_sequence(t5: Any, caches: list[Any]) -> None:
    rows = prompts(9, 40, 3)
    ids, mask = padded(rows)
    out = t5.generate(ids, attention_mask=mask, max_new_tokens=12)
    for row, text in zip(rows, texts(out, 1), strict=True):
        decoder = [3]
        while len(decoder) < 13 and decoder[-1] != EOS:
            decoder.append(int(t5(np.array([row]), decoder_input_ids=np.array([decoder])).logits[0, -1].argmax()))
        assert text == decoder[1:]
    beams = t5.generate(ids, attention_mask=mask, max_new_tokens=12, num_beams=3)
    assert texts(beams[1:2], 1) == texts(t5.generate([rows[1]], max_new_tokens=12, num_beams=3), 1)
    begun = t5.generate(ids, attention_mask=mask, decoder_input_ids=out[:, :4], max_new_tokens=9)
    assert [t[:9] for t in texts(begun, 4)] == [t[3:] for t in texts(out, 1)] or EOS in out[:, :4]
    assert nothing_held(caches)


def test_keys_and_values_in_8_bits_are_near(model: Any) -> None:
    row = prompts(60)
    options: dict[str, Any] = {"max_new_tokens": 1, "return_dict_in_generate": True, "output_logits": True}
    exact, near = (model.generate(row, cache_bits=bits, **options).logits[0][0] for bits in (32, 8))
    assert 0 < np.abs(exact - near).max() < 0.05 * np.abs(exact).max()


# ---- outputs -----------------------------------------------------------------------------------------------------------------


def test_outputs(model: Any) -> None:
    rows = prompts(7, 4)
    ids, mask = padded(rows)
    out = model.generate(
        ids, attention_mask=mask, max_new_tokens=6, repetition_penalty=1.2, return_dict_in_generate=True, output_scores=True,
        output_logits=True, output_logprobs=True,
    )  # fmt: skip
    assert out.logprobs.shape == (2, len(out.scores)) and out["sequences"] is out.sequences
    for n, text in enumerate(texts(out.sequences, 7)):
        assert out.finish_reasons[n] == ("eos" if text[-1] == EOS else "length")
        for step, token in enumerate(text):
            logits = out.logits[step][n].astype(np.float64)
            assert abs(out.logprobs[n, step] - (logits[token] - np.log(np.exp(logits).sum()))) < 1e-4
            assert out.scores[step][n].argmax() == token


def test_streamer_and_criteria(model: Any) -> None:
    class Listener:
        def __init__(self) -> None:
            self.got: list[Any] = []

        def put(self, value: Any) -> None:
            self.got.append(np.asarray(value).tolist())

        def end(self) -> None:
            self.got.append("end")

    listener, row = Listener(), prompts(5)[0]
    out = model.generate([row], max_new_tokens=4, streamer=listener)
    assert listener.got == [[row], *([token] for token in out[0, 5:].tolist()), "end"]
    stopped = model.generate([row], max_new_tokens=9, stopping_criteria=[lambda ids, scores: [ids.shape[1] >= 7]])
    assert stopped.shape == (1, 7)
    for fields in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(ValueError, match="streamer"):
            model.generate([row], streamer=listener, **fields)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_a_streamer_that_raises_ends_it(model: Any, caches: list[Any], kind: type[BaseException]) -> None:
    class Listener:
        count = 0

        def put(self, value: Any) -> None:
            self.count += 1
            if self.count > 3:
                raise kind

    with pytest.raises(kind):
        model.generate(prompts(40), max_new_tokens=30, streamer=Listener())
    assert nothing_held(caches)


class Letters:
    """A tokenizer of one or more bytes an id."""

    def __init__(self, **own: bytes) -> None:
        self._own = {int(name[1:]): data for name, data in own.items()}

    def token_bytes(self, index: int, first: bool = False) -> bytes:
        return self._own.get(index, b"" if index < 4 else bytes([61 + index]))


def test_stop_strings(model: Any) -> None:
    row = prompts(5)[0]
    whole = texts(model.generate([row], max_new_tokens=20), 5)[0]
    spelled = b"".join(Letters().token_bytes(i) for i in whole)
    word = spelled[3:6].decode()
    end = spelled.index(word.encode()) + 3
    out = model.generate([row], max_new_tokens=20, stop_strings=["nowhere", word], tokenizer=Letters())
    assert texts(out, 5)[0] == whole[:end]
    with pytest.raises(ValueError, match="tokenizer"):
        model.generate([row], stop_strings="x")
    with pytest.raises(ValueError, match="stop_strings"):
        model.generate([row], stop_strings=[""], tokenizer=Letters())


def test_stop_strings_cut_anyhow() -> None:
    tokenizer = Letters(t10="办".encode()[:2], t11="办".encode()[2:], t12=b"ab\n\nc", t13=b"", t14=b"b\n", t15=b"\n")
    stops = StopStrings(["办", "\n\n"], tokenizer)
    assert stops.ends([10, 11]) and not stops.ends([10]) and not stops.ends([10, 11, 20])
    assert stops.ends([20, 12]) and stops.ends([14, 15]) and not stops.ends([14, 20, 15])
    assert not stops.ends([14, 15, 13]) and not stops.ends([])


def test_constraint(model: Any) -> None:
    class Alternating:
        """Odd ids after even ones and the other way round, five of them."""

        def start(self) -> tuple[int, int]:
            return 0, 0

        def allowed(self, state: tuple[int, int]) -> Any:
            mask = np.arange(VOCABULARY) % 2 == state[1]
            mask[EOS] = state[0] == 5
            return mask if state[0] < 5 else np.arange(VOCABULARY) == EOS

        def advance(self, state: tuple[int, int], token: int) -> tuple[int, int]:
            assert self.allowed(state)[token]
            return state[0] + 1, 1 - state[1]

        def finished(self, state: tuple[int, int]) -> bool:
            return state[0] >= 5

    row = prompts(8)[0]
    for fields in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 1}):
        text = texts(model.generate([row], max_new_tokens=20, constraint=Alternating(), **fields), 8)[0]
        assert len(text) == 6 and [i % 2 for i in text[:5]] == [0, 1, 0, 1, 0] and text[5] == EOS, fields
    short = Constrained(SimpleNamespace(start=lambda: 0, allowed=lambda state: np.ones(3, bool)), 1)
    assert np.isneginf(short(np.zeros((1, 1), np.int64), np.zeros((1, 5), np.float32))).tolist() == [[False] * 3 + [True] * 2]


# ---- what it withstands ------------------------------------------------------------------------------------------------------


def test_prompts_beyond_the_context(model: Any, caches: list[Any]) -> None:
    row = prompts(195)[0]
    assert model.generate([row], max_new_tokens=6, min_new_tokens=6).shape == (1, 201)  # the last one is not fed
    with pytest.raises(PromptTooLong, match="195 tokens, the model 200 positions, and 7 tokens"):
        model.generate([row], max_new_tokens=7)
    windowed = model.generate([row], max_new_tokens=50, prompt_overflow="window")
    assert texts(windowed, 195) == texts(model.generate([row[-151:]], max_new_tokens=50), 151)
    with pytest.raises(PromptTooLong, match="ask for fewer"):
        model.generate([row], max_new_tokens=202, prompt_overflow="window")
    with Engine(model) as engine:
        with pytest.raises(PromptTooLong):
            engine.submit(row, max_new_tokens=7)
        assert engine.submit(row, max_new_tokens=50, prompt_overflow="window").result(60) == texts(windowed, 195)[0]


def test_logits_that_are_not_finite_are_named(caches: list[Any]) -> None:
    govlm.set_seed(1)
    broken = govlm.LlamaForCausalLM(govlm.LlamaConfig(**LLAMA))
    broken.state_dict()["model.layers.1.mlp.up_proj.weight"][5, 3] = np.nan
    for fields in ({}, {"num_beams": 2}):
        with pytest.raises(NonFiniteLogits, match=r"not finite.*model\.layers\.1\.mlp\.up_proj\.weight"):
            broken.generate(prompts(4), max_new_tokens=3, **fields)
    assert nothing_held(caches)
    with Engine(broken) as engine, pytest.raises(NonFiniteLogits, match="up_proj"):
        engine.submit(prompts(4)[0], max_new_tokens=3).result(60)


def test_one_request_that_fails_leaves_the_others(model: Any) -> None:
    def fails(ids: Any, logits: Any) -> Any:
        if ids.shape[1] == 9:
            raise ZeroDivisionError("its own")
        return logits

    rows = prompts(6, 5)
    with Engine(model) as engine:
        bad, good = engine.submit(rows[0], max_new_tokens=9, logits_processor=[fails]), engine.submit(rows[1], max_new_tokens=9)
        with pytest.raises(ZeroDivisionError, match="its own"):
            bad.result(60)
        assert good.result(60) == by_whole_forwards(model, rows[1], 9) and bad.finish_reason == "error"
    with pytest.raises(ValueError, match="leave no token as number 1"):
        model.generate([rows[0]], logits_processor=lambda ids, logits: np.full_like(logits, -np.inf))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 3}, "max_tokens"), ({"temperature": 0.0, "do_sample": True}, "do_sample=False"), ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"), ({"max_new_tokens": 2.5}, "max_new_tokens"), ({"num_beams": 0}, "num_beams"),
        ({"num_beams": 2, "do_sample": True}, "num_beams"), ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"num_beams": 2, "num_return_sequences": 3}, "2 beams"), ({"early_stopping": "maybe"}, "early_stopping"),
        ({"prompt_overflow": "cut"}, "prompt_overflow"), ({"cache_bits": 4}, "cache_bits"), ({"use_cache": False}, "use_cache"),
        ({"seed": -1}, "seed"), ({"max_length": 3}, "max_length"), ({"min_new_tokens": 9, "max_new_tokens": 4}, "at least 9"),
        ({"bad_words_ids": [[]]}, "bad_words_ids"), ({"num_beams": 2, "output_logprobs": True}, "output_logprobs"),
        ({"typical_p": 0.0}, "typical_p must be above 0"), ({"epsilon_cutoff": 1.0}, "epsilon_cutoff"), ({"eta_cutoff": -0.1}, "eta_cutoff"),
        ({"suppress_tokens": [4, -1]}, "suppress_tokens wants ids, not -1"), ({"forced_bos_token_id": "2"}, "forced_bos_token_id"),
        ({"penalty_alpha": 0.6}, "generate does not know penalty_alpha"),
    ],
)  # fmt: skip
def test_arguments_are_refused_by_name(model: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(prompts(5), **fields)


def test_inputs_are_refused_by_name(model: Any) -> None:
    with pytest.raises(ValueError, match=r"input_ids\[1\] has no token"):
        model.generate([[4, 5], [6, 7]], attention_mask=[[1, 1], [0, 0]])
    with pytest.raises(IndexError, match="67"):
        model.generate([[4, VOCABULARY]])
    with pytest.raises(IndexError, match="-1"):
        model.generate([[4, -1]])
    with pytest.raises(ValueError, match="decoder_input_ids"):
        model.generate([[4]], decoder_input_ids=[[3]])
    with pytest.raises(ValueError, match="cannot generate"):
        govlm.LlamaModel(govlm.LlamaConfig(**LLAMA)).generate([[4]])
    assert model.generate(max_new_tokens=2)[0, 0] == 3  # bos_token_id
    assert model.generate([[4, 5]], max_new_tokens=0).tolist() == [[4, 5]]
    with pytest.raises(ValueError, match="head over the vocabulary"):
        Engine(govlm.LlamaModel(govlm.LlamaConfig(**LLAMA)))


def test_generation_config_of_a_folder(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(
        '{"max_new_tokens": 3, "eos_token_id": [2, 5], "typical_p": 1.0, "top_h": 0.4, "transformers_version": "5"}',
        encoding="utf-8",
    )
    again = govlm.AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="top_h"):
        config = again.generation_config
    assert (config.max_new_tokens, config.eos, config.pad_token_id) == (3, (2, 5), 1)
    assert again.generate(prompts(4), eos_token_id=0).shape == (1, 7)
    assert again.generate(prompts(4), GenerationConfig(max_new_tokens=2, eos_token_id=0)).shape == (1, 6)
    (tmp_path / "generation_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"generation_config\.json is no JSON"):
        govlm.AutoModelForCausalLM.from_pretrained(tmp_path).generate(prompts(4))


# ---- memory ------------------------------------------------------------------------------------------------------------------


def run(scheduler: Scheduler, requests: list[Request]) -> list[list[int]]:
    for request in requests:
        scheduler.add(request)
    for _ in range(2000):
        if not scheduler.busy:
            break
        scheduler.step()
    assert not scheduler.busy
    return [request.tokens for request in requests]


def test_beginnings_are_shared(model: Any) -> None:
    begin = prompts(70, seed=8)[0]
    rows = [begin + prompts(5, seed=n)[0] for n in range(4)]
    expected = [by_whole_forwards(model, row, 8) for row in rows]
    scheduler = Scheduler(model.core)
    assert run(scheduler, [Request(row, 8, (EOS,)) for row in rows]) == expected
    first = Request(rows[2], 8, (EOS,))
    scheduler.add(first)
    scheduler._admit()
    assert first.fed == 64  # two pages of 32 came from the requests before
    while scheduler.busy:
        scheduler.step()
    assert first.tokens == expected[2]
    held = scheduler.cache.usage()
    assert held["used"] > 0
    scheduler.close()
    assert scheduler.cache.usage()["used"] == 0


def test_equal_prompts_are_computed_once(model: Any) -> None:
    row = prompts(97)[0]
    scheduler = Scheduler(model.core)
    requests = [Request(row, 3, (), draw=Draw(1, n)) for n in range(4)]
    for request in requests:
        scheduler.add(request)
    scheduler.step()
    assert [r.fed for r in requests] == [97, 0, 0, 0]  # the others wait for the first one's pages
    scheduler.step()
    assert [r.fed for r in requests[1:]] == [97, 97, 97]
    assert scheduler.cache.usage()["used"] <= 3 + 4  # three shared pages, and each one's own
    scheduler.close()


def test_memory_that_runs_out_sends_texts_back(model: Any) -> None:
    rows = prompts(40, 33, 50, 20, seed=2)
    expected = [by_whole_forwards(model, row, 60) for row in rows]
    scheduler = Scheduler(model.core, pages=4)
    assert run(scheduler, [Request(row, 60, (EOS,)) for row in rows]) == expected
    alone = Request(prompts(150)[0], 5)
    run(scheduler, [alone])
    assert alone.ended == "error" and isinstance(alone.error, MemoryError) and "4 pages" in str(alone.error)
    scheduler.close()
    assert scheduler.cache.usage()["used"] == 0


def test_long_prompts_are_fed_in_parts(model: Any) -> None:
    rows = prompts(100, 5)
    scheduler = Scheduler(model.core, step_tokens=16)
    requests = [Request(row, 12, (EOS,)) for row in rows]
    assert run(scheduler, requests) == [by_whole_forwards(model, row, 12) for row in rows]
    scheduler.close()


def test_weights_that_change_are_seen(caches: list[Any]) -> None:
    govlm.set_seed(6)
    trained = govlm.LlamaForCausalLM(govlm.LlamaConfig(**LLAMA))
    row = prompts(40)[0]
    scheduler = Scheduler(trained.core)
    request = Request(row, 6)
    scheduler.add(request)
    for _ in range(3):
        scheduler.step()
    trained.train()
    trained(np.array([row]), labels=np.array([row])).loss.backward()
    govlm.AdamW(trained.parameters(), lr=0.1).step()
    trained.eval()
    while scheduler.busy:
        scheduler.step()
    before = row + request.tokens[:3]
    assert request.tokens[3:] == by_whole_forwards(trained, before, 3)
    scheduler.close()


# ---- the engine --------------------------------------------------------------------------------------------------------------


def test_an_engine_is_bounded_and_gives_everything_back(model: Any, caches: list[Any]) -> None:
    gate = threading.Event()

    def waits(ids: Any, logits: Any) -> Any:
        gate.wait(60)
        return logits

    rows = prompts(*range(1, 65), seed=5)
    with Engine(model, max_batch=8, max_requests=64) as engine:
        first = engine.submit(rows[0], max_new_tokens=3, logits_processor=[waits])
        handles = [first, *(engine.submit(row, max_new_tokens=3) for row in rows[1:])]
        with pytest.raises(EngineFull, match="64 requests"):
            engine.submit(rows[0])
        gate.set()
        assert [h.result(60) for h in handles] == [by_whole_forwards(model, row, 3) for row in rows]
        assert engine.submit(rows[0], max_new_tokens=1).result(60)
    assert nothing_held(caches)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(rows[0])


def test_cancel_at_any_token(model: Any, caches: list[Any]) -> None:
    row = prompts(50)[0]
    whole = by_whole_forwards(model, row, 30)
    with Engine(model) as engine:
        other = engine.submit(prompts(45, seed=9)[0], max_new_tokens=100, min_new_tokens=100)
        for count in (0, 1, 2, 5):
            cancelled = threading.Event()

            def waits(ids: Any, logits: Any, cancelled: Any = cancelled) -> Any:  # a busy machine must not let it end first
                if ids.shape[-1] > len(row) + 50:
                    cancelled.wait(60)
                return logits

            handle = engine.submit(row, max_new_tokens=100, min_new_tokens=100, logits_processor=[waits])
            got: list[int] = []
            tokens = iter(handle)
            while len(got) < count:
                got.append(next(tokens))
            handle.cancel()
            cancelled.set()
            got += tokens
            assert handle.finish_reason == "cancelled" and len(got) >= count
            assert EOS in whole or got[:30] == whole[: len(got)]
        assert len(other.result(60)) == 100
    assert nothing_held(caches)


def test_a_step_for_cancelled_texts_is_given_up() -> None:
    """A prompt of a size that takes seconds: the cancel comes back long before."""
    govlm.set_seed(2)
    large = govlm.LlamaForCausalLM(
        govlm.LlamaConfig(**{**LLAMA, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8,
                             "num_attention_heads": 8, "max_position_embeddings": 4096})
    )  # fmt: skip
    with Engine(large, step_tokens=4096) as engine:
        steps = []
        real = engine._scheduler._forward

        def forward(fed: Any) -> Any:
            steps.append(len(fed))
            try:
                return real(fed)
            except BaseException as error:
                steps.append(type(error).__name__)
                raise

        engine._scheduler._forward = forward  # type: ignore[method-assign]
        handle = engine.submit(prompts(3000)[0], max_new_tokens=5)
        while not steps:
            time.sleep(0.001)
        handle.cancel()
        assert handle.result(60) == [] and handle.finish_reason == "cancelled"
        assert steps == [1, "Cancelled"]
        assert engine.submit(prompts(3)[0], max_new_tokens=2).result(60)  # and it goes on
        assert engine.usage()["used"] == 0


def test_threads_submit_and_cancel_at_random(model: Any, caches: list[Any]) -> None:
    with Engine(model, max_batch=4, max_requests=100, pages=24, step_tokens=40) as engine:
        visit_at_random(
            engine,
            lambda length, number, turn: prompts(length, seed=number * 10 + turn)[0],
            lambda ids, count: by_whole_forwards(model, ids, count),
        )
    assert nothing_held(caches)


def test_closing_ends_what_is_left(model: Any, caches: list[Any]) -> None:
    engine = Engine(model)
    handles = [engine.submit(row, max_new_tokens=150, min_new_tokens=150) for row in prompts(20, 30)]
    engine.close()
    engine.close()
    assert {h.finish_reason for h in handles} == {"cancelled"}
    assert nothing_held(caches)
