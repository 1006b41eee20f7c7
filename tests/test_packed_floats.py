"""Float32 weights packed for the kernels: nothing is rounded, a row is the same alone and in a batch, a folder is mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import govlm
from govlm.blocks import dequantise, pack_floats
from govlm.checkpoint import load_file
from govlm.cli import main
from govlm.quantised import FILE, FILE32, packed_of
from govlm.train.quantise import QuantiseOptions, quantise_folder, quantise_model

GOLDEN = Path(__file__).parent / "golden" / "models"
NAMES = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.npz").exists())
PACKED = QuantiseOptions(bits=32)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 100), st.integers(0, 99))
def test_packing_and_back(slices: int, outputs: int, k: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(0, 1, (slices * outputs, k)).astype(np.float32)
    packed = pack_floats(weights, slices)
    np.testing.assert_array_equal(dequantise(packed, slices * outputs, k, slices), weights)
    panels = packed.data.view(np.float32).reshape(slices, -1, -(-k // 32) * 32, 16)
    assert panels[slices - 1, 0, k - 1, 0] == weights[(slices - 1) * outputs, k - 1]


def outputs_of(name: str, model: Any) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(1, model.config.vocab_size, (3, 9))
    extra = {"decoder_input_ids": ids} if "decoder" in model._cores else {}
    with govlm.no_grad():
        found = model(ids, **extra)
    return {
        key: np.array(getattr(found, key)) for key in ("logits", "last_hidden_state") if getattr(found, key, None) is not None
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_model(name: str, tmp_path: Path) -> None:
    from govlm.train.quantise import _class_of

    made = _class_of(govlm.AutoConfig.from_pretrained(GOLDEN / name))
    model, packed = (made.from_pretrained(GOLDEN / name).eval() for _ in range(2))
    quantise_model(packed, PACKED)
    assert packed.quantised
    wanted = outputs_of(name, model)
    assert wanted
    for key, value in outputs_of(name, packed).items():
        np.testing.assert_allclose(value, wanted[key], rtol=1e-4, atol=1e-5)
    for parameter, value in model.state_dict().items():  # not a bit is lost
        np.testing.assert_array_equal(packed.state_dict()[parameter], value)
    packed.save_pretrained(tmp_path)
    again = made.from_pretrained(tmp_path).eval()
    for key, value in outputs_of(name, packed).items():
        np.testing.assert_array_equal(outputs_of(name, again)[key], value)


def bert() -> Any:
    config = govlm.BertConfig(
        vocab_size=300, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=100,
        max_position_embeddings=64,
    )  # fmt: skip
    return govlm.BertForSequenceClassification(config).eval()


def test_a_text_alone_and_in_a_batch_has_the_same_bits() -> None:
    model = quantise_model(bert(), PACKED)
    draws = np.random.default_rng(1)
    texts = [draws.integers(1, 300, n) for n in (1, 2, 5, 17, 24, 25, 60)]
    ids = np.zeros((len(texts), 60), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    with govlm.no_grad():
        together = model(ids, attention_mask=mask, output_hidden_states=True)
        for row, text in enumerate(texts):
            alone = model(text[None], output_hidden_states=True)
            for one, several in zip(alone.hidden_states, together.hidden_states, strict=True):
                np.testing.assert_array_equal(one[0], several[row, : len(text)])


def test_the_folder(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path / "float")
    quantise_folder(tmp_path / "float", tmp_path / "out", QuantiseOptions(sequences=2, length=8))
    report = quantise_folder(tmp_path / "float", tmp_path / "out", PACKED)  # over the other
    assert not (tmp_path / "out" / FILE).exists()
    assert report["agreement"] == pytest.approx(1, abs=1e-6)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "govlm-packed" and config["quantization_config"]["bits"] == 32
    names = load_file(tmp_path / "out" / FILE32)
    assert "bert.embeddings.word_embeddings.weight" in names  # a table is read by rows: as it is
    assert "bert.encoder.layer.0.attention.self.query.weight.blocks" in names
    assert "classifier.weight" in names  # two outputs would fill an eighth of a panel
    model = govlm.BertForSequenceClassification.from_pretrained(tmp_path / "out")
    for name, (part, core_name) in model._names.items():
        block = packed_of(model._core_of(part), core_name)
        assert (block is not None) == (f"{name}.blocks" in names)
        if block is not None:  # mapped, and a cache line is a row of a panel
            assert block.data.ctypes.data % 64 == 0 and not block.data.flags.owndata


def test_floats_that_are_not_aligned(tmp_path: Path) -> None:
    """A file whose header is one byte longer is read as well; the core itself refuses such an array."""
    quantise_model(bert(), PACKED).save_pretrained(tmp_path)
    wanted = outputs_of("", govlm.BertForSequenceClassification.from_pretrained(tmp_path).eval())
    file = tmp_path / FILE32
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    file.write_bytes((length + 1).to_bytes(8, "little") + raw[8 : 8 + length] + b" " + raw[8 + length :])
    model = govlm.BertForSequenceClassification.from_pretrained(tmp_path).eval()
    for key, value in outputs_of("", model).items():
        np.testing.assert_array_equal(value, wanted[key])
    core, name = model._core_of(""), "layers.0.mlp.up.weight"
    data = packed_of(core, name).data
    shifted = np.zeros(len(data) + 1, np.uint8)[1:]
    with pytest.raises(ValueError, match="multiple of 4 bytes"):
        core.bind_blocks(name, shifted if shifted.ctypes.data % 4 else np.zeros(len(data) + 2, np.uint8)[2:], 32, False)


def test_training_makes_it_rows_again(tmp_path: Path) -> None:
    model = bert()
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    quantise_model(model, PACKED)
    model.save_pretrained(tmp_path)
    again = govlm.BertForSequenceClassification.from_pretrained(tmp_path).train()
    optimizer = govlm.AdamW(again.parameters(), lr=0.0)
    ids = np.random.default_rng(2).integers(1, 300, (4, 12))
    again(ids, labels=np.array([0, 1, 0, 1])).loss.backward()
    optimizer.step()
    assert not again.quantised
    for name, value in again.state_dict().items():
        np.testing.assert_allclose(value, before[name], rtol=1e-6, atol=1e-7)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bert().save_pretrained(tmp_path / "float")
    assert main(["quantize", str(tmp_path / "float"), "--out", str(tmp_path / "out"), "--bits", "32", "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert "packed" in said and "agreement  1.00000" in said
    assert govlm.BertForSequenceClassification.from_pretrained(tmp_path / "out").quantised
    with open(tmp_path / "out" / FILE32, "r+b") as handle:
        handle.truncate(handle.seek(0, 2) - 64)
    with pytest.raises(ValueError, match=r"model\.packed\.safetensors is truncated"):
        govlm.BertForSequenceClassification.from_pretrained(tmp_path / "out")
