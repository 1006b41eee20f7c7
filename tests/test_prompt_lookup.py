"""Guessed tokens: what is guessed, that a text is the same with and without guesses whatever it is asked for, and that they help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_visitors import nothing_held, visit_at_random, watched_caches
from tiny_language_model import make
from tiny_writers import LLAMA, T5, VOCABULARY

import govlm
from govlm.generation import Engine, GenerationConfig, LanguageModel, Request, Scheduler, engine
from govlm.generation.generate import request_of
from govlm.generation.lookup import PromptLookup
from govlm.train.quantise import quantise_folder


def llama() -> Any:
    govlm.set_seed(3)
    return govlm.LlamaForCausalLM(govlm.LlamaConfig(**LLAMA))


@pytest.fixture(scope="module", params=["llama", "llama-int8", "t5"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "t5":
        govlm.set_seed(3)
        return govlm.T5ForConditionalGeneration(govlm.T5Config(**T5))
    if request.param == "llama":
        return llama()
    folder = tmp_path_factory.mktemp("lookup")
    llama().save_pretrained(folder / "float32")
    quantise_folder(folder / "float32", folder / "int8")
    return govlm.AutoModelForCausalLM.from_pretrained(folder / "int8")


def repeating(count: int, length: int, seed: int = 0) -> np.ndarray:
    """Rows that say the same few tokens again and again, as answers do."""
    draw = np.random.default_rng(seed)
    return np.stack([np.resize(draw.integers(4, VOCABULARY, 7), length) for _ in range(count)])


# ---- guesses -----------------------------------------------------------------------------------------------------------------


def test_guesses_by_hand() -> None:
    lookup = PromptLookup(10, 3)
    assert lookup([5, 6, 7, 8, 9, 5, 6]) == [7, 8, 9, 5]  # 4 at first
    assert lookup([5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 6]) == [7, 8, 9, 5, 6, 7, 8, 9, 5]  # all right: 2 * 4 + 1, and in a rhythm
    assert lookup([5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 6, 4]) == []  # new


def test_the_latest_and_longest_run_counts() -> None:
    assert PromptLookup(3, 3)([1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3]) == [50, 9, 2]
    assert PromptLookup(3, 2)([1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3]) == [60, 1, 2]
    assert PromptLookup(3, 2)([7, 8, 9, 9]) == [] and PromptLookup(3, 1)([7, 8, 9, 7]) == [8, 9, 7]


def test_a_source_is_looked_at_and_not_run_over() -> None:
    lookup = PromptLookup(8, 2, [11, 12, 13, 14])
    assert lookup([3]) == [] and lookup([3, 11, 12]) == [13, 14]
    assert PromptLookup(8, 2, [11, 12])([3, 11, 12]) == []  # nothing stands behind it


def test_wrong_guesses_grow_short() -> None:
    lookup = PromptLookup(10, 2)
    ids = [1, 2, 3, 4, 5, 6, 1, 2]
    assert lookup(ids) == [3, 4, 5, 6]
    ids += [9, 1, 2]
    assert lookup(ids) == [9]
    assert lookup(ids) == [9]  # asked again, as after a step that was given up: nothing is learnt from it
    ids += [9, 1]
    assert len(lookup(ids)) == 3


# ---- texts -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"do_sample": True, "seed": 5, "temperature": 0.7},
        {"repetition_penalty": 1.3, "min_new_tokens": 10},
        {"cache_bits": 8},
        {"no_repeat_ngram_size": 4},
    ],
)
@pytest.mark.parametrize("ngram", [1, 3])
def test_a_text_is_the_same_with_guesses(model: Any, asked: dict[str, Any], ngram: int) -> None:
    ids = np.concatenate([repeating(3, 40), np.random.default_rng(1).integers(4, VOCABULARY, (2, 40))])
    given = {
        "max_new_tokens": 50, "return_dict_in_generate": True, "output_logits": True, "output_scores": True,
        "output_logprobs": True, **asked,
    }  # fmt: skip
    plain = model.generate(ids, **given)
    guessed = model.generate(ids, **given, prompt_lookup_num_tokens=6, max_matching_ngram_size=ngram)
    assert np.array_equal(plain.sequences, guessed.sequences) and plain.finish_reasons == guessed.finish_reasons
    # Of a quantised model to the bit; float32 products of several rows round in another order, as in a batch.
    tolerance = 0 if "int8" in str(model.config.name_or_path) else 0.05 if "cache_bits" in asked else 1e-4
    for name in ("logits", "scores", "logprobs"):
        assert np.allclose(getattr(plain, name), getattr(guessed, name), rtol=0, atol=tolerance), name


def echo(row: np.ndarray) -> Any:
    """A processor under which what is written is `row`, from its 6th token on, whatever the model says."""

    def process(ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
        logits[:, row[(ids.shape[1] + 5) % len(row)]] += 1000
        return logits

    return process


def test_guesses_that_are_right_save_steps(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, steps = repeating(1, 42), []
    real = Scheduler._forward
    monkeypatch.setattr(Scheduler, "_forward", lambda self, fed: steps.append(fed) or real(self, fed))  # type: ignore[func-returns-value]
    given = {"max_new_tokens": 60, "logits_processor": echo(ids[0])}
    plain = model.generate(ids, **given)
    assert len(steps) == 60
    steps.clear()
    guessed = model.generate(ids, **given, prompt_lookup_num_tokens=8)
    assert np.array_equal(plain, guessed) and len(steps) < 60 / 4
    assert max(len(portion.guessed) for fed in steps for portion in fed) == 8


def test_a_text_that_ends_within_a_guess(model: Any) -> None:
    """Everything that is written is guessed right: what ends the text ends it there, and no listener hears of more."""
    ids = repeating(1, 42, seed=2)
    start = 1 if model._cores.get("decoder") else ids.shape[1]
    seen: list[int] = []
    streamer = type("S", (), {"put": lambda self, ids: seen.extend(ids.ravel().tolist()), "end": lambda self: None})()
    given = {"max_new_tokens": 30, "logits_processor": echo(ids[0])}
    row = model.generate(ids, **given)[0, start:].tolist()
    for asked, length in (
        ({"eos_token_id": row[6], "min_new_tokens": 12}, 14),
        ({"max_new_tokens": 11}, 11),
        ({"stopping_criteria": lambda i, s: i.shape[1] == start + 17}, 17),
    ):
        seen.clear()
        found = model.generate(ids, **{**given, **asked}, prompt_lookup_num_tokens=10, streamer=streamer)[0, start:].tolist()
        assert len(found) == length and seen[start:] == found
        assert found == model.generate(ids, **{**given, **asked})[0, start:].tolist()


def test_memory_has_no_room_for_guesses() -> None:
    model = llama()
    row = repeating(1, 40)[0].tolist()
    expected = model.generate([row], max_new_tokens=24, min_new_tokens=24)[0, 40:].tolist()
    scheduler = Scheduler(model.core, pages=2)  # 64 tokens: those of prompt and text, but for the last, and no more
    request = Request(row, 24)
    scheduler.add(request)
    scheduler._guess = lambda request, most: [9] * 60 if request.tokens and most else []  # type: ignore[method-assign]
    while scheduler.busy:
        scheduler.step()
    assert request.error is None and request.tokens == expected
    scheduler.close()
    assert scheduler.cache.usage()["used"] == 0


def test_threads_submit_and_cancel_at_random(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = watched_caches(monkeypatch)
    start = 1 if model._cores.get("decoder") else None

    def expected(ids: list[int], count: int) -> list[int]:
        return model.generate([ids], max_new_tokens=count)[0, start or len(ids) :].tolist()

    with Engine(model, max_batch=4, max_requests=100, pages=0 if start else 24, step_tokens=40) as engine:
        monkeypatch.setattr(
            engine._model, "_generation_config", GenerationConfig(prompt_lookup_num_tokens=5).over(model.generation_config)
        )
        visit_at_random(engine, lambda length, number, turn: repeating(1, length, number)[0].tolist(), expected)
    assert nothing_held(caches)


def test_what_is_refused(model: Any) -> None:
    for asked, message in (
        ({"prompt_lookup_num_tokens": -1}, "prompt_lookup_num_tokens must be a whole number of at least 0"),
        ({"max_matching_ngram_size": 0}, "max_matching_ngram_size must be a whole number of at least 1"),
        ({"prompt_lookup_num_tokens": 3, "num_beams": 2}, "num_beams goes without prompt_lookup_num_tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(repeating(1, 8), max_new_tokens=4, **asked)


def test_a_language_model_guesses_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "model")
    asked: list[int | None] = []
    monkeypatch.setattr(
        engine, "request_of", lambda config, *rest: asked.append(config.prompt_lookup_num_tokens) or request_of(config, *rest)
    )  # type: ignore[func-returns-value]
    with LanguageModel.open(tmp_path / "model") as model:
        for options in (
            {},
            {"prompt_lookup_num_tokens": 0},
            {"generation_config": GenerationConfig(prompt_lookup_num_tokens=3)},
        ):
            model.submit([{"role": "user", "content": "您好"}], max_new_tokens=2, **options).result(30)
    assert asked == [10, 0, 3]
