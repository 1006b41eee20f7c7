"""Every family and head against what transformers answered (tests/golden/models, made by make.py there)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import govlm

GOLDEN = Path(__file__).parent / "golden" / "models"
NAMES = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.npz").exists())


def load(name: str) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(model, inputs, what transformers answered)"""
    import json

    folder = GOLDEN / name
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    with np.load(folder / "expected.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    inputs = {key[3:]: arrays.pop(key) for key in list(arrays) if key.startswith("in/")}
    return getattr(govlm, architecture).from_pretrained(folder), inputs, arrays


def upstream(expected: dict[str, np.ndarray], inputs: dict[str, np.ndarray], seed: int = 1) -> dict[str, np.ndarray]:
    """As in make.py."""
    rng = np.random.default_rng(seed)
    gradients = {}
    for key in ("last_hidden_state", "pooler_output"):
        if key in expected:
            gradient = rng.standard_normal(expected[key].shape).astype(np.float32)
            if key == "last_hidden_state":
                gradient *= inputs.get("decoder_attention_mask", inputs["attention_mask"])[..., None]
            gradients[key] = gradient
    return gradients


def compare_outputs(out: Any, expected: dict[str, np.ndarray], mask: np.ndarray) -> int:
    """Every output that transformers gave. Returns how many were compared."""
    count = 0
    for key, value in expected.items():
        if key.startswith("grad/"):
            continue
        name, _, number = key.partition(".")
        ours = out[name]
        ours = ours[int(number)] if number else ours
        if name == "loss":
            ours = ours.item()
        if value.ndim == 3 and name == "logits":
            value = value * mask[..., None]
        np.testing.assert_allclose(ours, value, rtol=2e-4, atol=3e-5, err_msg=key)
        count += 1
    return count


def compare_gradients(model: Any, expected: dict[str, np.ndarray]) -> None:
    grads = {key[5:]: value for key, value in expected.items() if key.startswith("grad/")}
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert set(grads) <= set(ours)
    largest = max(float(np.abs(value).max()) for value in grads.values())
    for name, gradient in ours.items():
        if name not in grads:
            assert gradient is None or not gradient.any(), f"{name} has a gradient here and none there"
            continue
        if gradient is None:
            assert not grads[name].any(), f"{name} has no gradient here"
            continue
        scale = max(float(np.abs(grads[name]).max()), 1e-3 * largest)  # a key's bias has no gradient but rounding
        np.testing.assert_allclose(gradient / scale, grads[name] / scale, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name: str) -> None:
    model, inputs, expected = load(name)
    out = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert compare_outputs(out, expected, inputs["attention_mask"]) == sum(not key.startswith("grad/") for key in expected)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_without_layers(name: str) -> None:
    """The short ways (first tokens only, labelled rows only) give the same loss, logits and vectors."""
    model, inputs, expected = load(name)
    out = model(**inputs)
    assert out.hidden_states is None and out.attentions is None
    short = {key: value for key, value in expected.items() if key in out}
    assert compare_outputs(out, short, inputs["attention_mask"]) == len(out)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layers", [False, True])
def test_gradients(name: str, layers: bool) -> None:
    """The gradient of every parameter, with and without all layers kept."""
    model, inputs, expected = load(name)
    out = model(**inputs, output_hidden_states=layers, output_attentions=layers)
    if "labels" in inputs:
        out.loss.backward()
    else:
        out.backward(**upstream(expected, inputs))
    compare_gradients(model, expected)
    with pytest.raises(RuntimeError, match="already called"):
        out.backward(**({"loss": 1.0} if "labels" in inputs else upstream(expected, inputs)))


@pytest.mark.parametrize("name", ["bert-sequence", "bert-mlm", "bert-token", "t5", "roberta-sequence"])
def test_gradients_in_training_mode_without_dropout(name: str) -> None:
    model, inputs, expected = load(name)
    fields = model.config.to_dict()
    rates = [field for field, value in fields.items() if "dropout" in field and isinstance(value, float)]
    model = type(model).from_pretrained(GOLDEN / name, **dict.fromkeys(rates, 0.0)).train()
    out = model(**inputs)
    out.loss.backward() if "labels" in inputs else out.backward(**upstream(expected, inputs))
    compare_gradients(model, expected)
