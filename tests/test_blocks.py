"""Weights in blocks of 32: packing, GGUF's blocks value for value, bounds of rounding and of products, models and their folder."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import govlm
from govlm._native import core as native
from govlm.blocks import GGUF_BYTES, Blocks, BlockValues, dequantise, from_gguf, pack, round_blocks, unpack
from govlm.cli import main
from govlm.quantised import FILE, FILE4
from govlm.train.quantise import QuantiseOptions, quantise_folder, quantise_model

GOLDEN = Path(__file__).parent / "golden" / "models"
NAMES = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.npz").exists())
QUICK = QuantiseOptions(bits=4, sequences=4, length=12)
FLOATS = st.floats(-1e3, 1e3, width=32)
KINDS = [(4, False), (4, True), (8, False)]
GGUF = sorted(GGUF_BYTES)


def drawn(n: int, k: int, bits: int, minimum: bool, seed: int = 0) -> BlockValues:
    rng = np.random.default_rng(seed)
    blocks = -(-k // 32)
    halves = [rng.normal(0, 0.1, (n, blocks)).astype(np.float16) for _ in range(2)]
    codes = rng.integers(0, 1 << bits, (n, blocks * 32), dtype=np.uint8)
    return BlockValues(codes, halves[0], halves[1] if minimum else None)


def head_only(x: np.ndarray, outputs: int) -> Any:
    """A core whose logits are x times its classifier, from rows x as a word table: no layers, no norm."""
    core = native.Model({
        "vocab_size": len(x), "hidden_size": x.shape[1], "num_layers": 0, "num_heads": 1, "intermediate_size": 1,
        "position": "none", "embedding_norm": False, "head": "token", "num_labels": outputs,
    })  # fmt: skip
    core.bind("embeddings.word.weight", x)
    core.bind("classifier.bias", np.zeros(outputs, np.float32))
    return core


def logits_of(core: Any, rows: int) -> np.ndarray:
    return np.array(core.forward(np.arange(rows, dtype=np.int32), np.array([0, rows]), save=False).logits)


# ---- packing ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 100), st.sampled_from(KINDS), st.integers(0, 99))
def test_packing_goes_back(slices: int, rows: int, k: int, kind: tuple[int, bool], seed: int) -> None:
    values = drawn(slices * rows, k, *kind, seed)
    packed = pack(values, kind[0], slices)
    assert packed[1:] == kind
    codes, scales, minimums = unpack(packed, slices * rows, k, slices)
    np.testing.assert_array_equal(codes, values.codes)
    np.testing.assert_array_equal(scales, values.scales)
    if kind[1]:
        np.testing.assert_array_equal(minimums, values.minimums)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(20, 24), (16, 32), (33, 100)])
def test_the_core_reads_the_values_that_numpy_reads(kind: tuple[int, bool], shape: tuple[int, int]) -> None:
    packed = pack(drawn(*shape, *kind), kind[0])
    core = head_only(np.zeros((2, shape[1]), np.float32), shape[0])
    core.bind_blocks("classifier.weight", *packed)
    expected = dequantise(packed, *shape)
    # with a minimum the core rounds once (code * scale + minimum), NumPy and ggml twice
    np.testing.assert_allclose(core.parameter("classifier.weight"), expected, rtol=0, atol=2e-7 if kind[1] else 0)
    table = head_only(np.zeros(shape, np.float32), 2)
    table.bind_blocks("embeddings.word.weight", *packed)
    np.testing.assert_allclose(table.parameter("embeddings.word.weight"), expected, rtol=0, atol=2e-7 if kind[1] else 0)


def reference(kind: str, rows: np.ndarray) -> np.ndarray:
    """What ggml's types say, one block after another."""
    out = []
    for row in rows:
        for block in row.reshape(-1, GGUF_BYTES[kind]):
            d = np.float32(block[:2].view("<f2")[0])
            if kind == "Q8_0":
                out.append(block[2:].view(np.int8).astype(np.float32) * d)
                continue
            body = block[4:] if kind == "Q4_1" else block[2:]
            codes = np.concatenate([body & 15, body >> 4]).astype(np.float32)
            out.append(codes * d + np.float32(block[2:4].view("<f2")[0]) if kind == "Q4_1" else (codes - 8) * d)
    return np.concatenate(out).reshape(len(rows), -1)


def gguf_rows(kind: str, n: int, blocks: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (n, blocks, GGUF_BYTES[kind]), dtype=np.uint8)
    halves = 2 if kind == "Q4_1" else 1
    scales = rng.normal(0, 0.05, (n, blocks, halves)).astype("<f2")
    scales[0, 0] = [6e-8] * halves  # subnormal
    rows[..., : 2 * halves] = scales.view(np.uint8).reshape(n, blocks, 2 * halves)
    return rows.reshape(n, -1)


@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize("kind", GGUF)
def test_blocks_of_a_gguf_file_keep_every_value(kind: str, slices: int) -> None:
    rows = gguf_rows(kind, 21, 3)
    packed = from_gguf(kind, rows, slices)
    assert packed[1:] == {"Q4_0": (4, False), "Q4_1": (4, True), "Q8_0": (8, False)}[kind]
    np.testing.assert_array_equal(dequantise(packed, 21, 96, slices), reference(kind, rows))


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(ValueError, match="Q6_K"):
        from_gguf("Q6_K", np.zeros((2, 210), np.uint8))
    with pytest.raises(ValueError, match="whole blocks of 18 bytes"):
        from_gguf("Q4_0", np.zeros((2, 35), np.uint8))
    infinite = np.zeros((2, 34), np.uint8)
    infinite[1, 1] = 0x7C
    with pytest.raises(ValueError, match="not finite"):
        from_gguf("Q8_0", infinite)


# ---- rounding --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)), elements=FLOATS), st.sampled_from(KINDS))
def test_a_weight_is_about_half_a_step_away(weights: np.ndarray, kind: tuple[int, bool]) -> None:
    """The bound of the plainest rounding over a block, which the search may only improve on: squared error, block by block."""
    n, k = weights.shape
    bits, minimum = kind
    back = dequantise(pack(round_blocks(weights, bits, minimum), bits), n, k)
    wide = [np.pad(a, ((0, 0), (0, -k % 32))).reshape(n, -1, 32).astype(np.float64) for a in (weights, back)]
    error = np.square(wide[0] - wide[1]).sum(axis=2)
    top, bottom = np.maximum(wide[0].max(axis=2), 0), np.minimum(wide[0].min(axis=2), 0)
    most = np.maximum(top, -bottom)
    if bits == 8:
        step, inside = most / 127, 0.51
    elif minimum:
        step, inside = (top - bottom) / 15, 0.52
    else:  # codes -8..7: the largest is up to half a step too large for them at 7.5 steps
        step, inside = most / 7.5, 0.52
    subnormal = 127 * 6e-8  # what a half cannot tell apart
    assert (error <= 32 * np.square(inside * step + 1e-3 * most + subnormal)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_are_exact_and_an_outlier_spoils_its_own_block_alone(kind: tuple[int, bool]) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.02, (8, 160)).astype(np.float32)
    weights[2] = 0.0
    weights[3, 32:64] = 0.0
    spoiled = weights.copy()
    spoiled[1, 70] = 200.0
    plain = dequantise(pack(round_blocks(weights, *kind), kind[0]), 8, 160)
    back = dequantise(pack(round_blocks(spoiled, *kind), kind[0]), 8, 160)
    assert not back[2].any() and not back[3, 32:64].any()
    same = np.ones((8, 160), bool)
    same[1, 64:96] = False
    np.testing.assert_array_equal(back[same], plain[same])
    assert abs(back[1, 70] / 200.0 - 1) < 0.08


def test_important_inputs_are_rounded_more_closely() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 1, (200, 64)).astype(np.float32)
    importance = np.where(np.arange(64) % 8 == 0, 100.0, 1.0).astype(np.float32)
    errors = []
    for h in (None, importance):
        back = dequantise(pack(round_blocks(weights, 4, False, h), 4), 200, 64)
        errors.append(float((importance * np.square(back - weights)).mean()))
    assert errors[1] < 0.93 * errors[0]


def test_a_minimum_and_the_search_pay() -> None:
    weights = np.random.default_rng(1).normal(0, 1, (300, 96)).astype(np.float32)
    error = [
        float(np.square(dequantise(pack(round_blocks(weights, 4, m), 4), 300, 96) - weights).mean()) for m in (False, True)
    ]
    blocks = weights.reshape(300, 3, 32)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[..., None], 2)
    d = extreme / -8
    plain = float(np.square(np.rint(blocks / d).clip(-8, 7) * d - blocks).mean())  # ggml's Q4_0
    assert error[1] < error[0] < 0.92 * plain


def test_weights_beyond_a_half_are_refused() -> None:
    with pytest.raises(ValueError, match="half precision"):
        round_blocks(np.full((2, 32), 1e7, np.float32), 4)
    with pytest.raises(ValueError, match="half precision"):
        round_blocks(np.full((2, 32), np.nan, np.float32), 8)


@settings(max_examples=40, deadline=None)
@given(
    data=st.tuples(st.integers(1, 15), st.integers(1, 36), st.integers(1, 90)).flatmap(
        lambda mnk: st.tuples(
            arrays(np.float32, (mnk[0], mnk[2]), elements=FLOATS), arrays(np.float32, (mnk[1], mnk[2]), elements=FLOATS)
        )
    ),
    kind=st.sampled_from(KINDS),
)
def test_a_product_stays_within_what_its_scales_allow(data: tuple[np.ndarray, np.ndarray], kind: tuple[int, bool]) -> None:
    x, weights = data
    n, k = weights.shape
    packed = pack(round_blocks(weights, *kind), kind[0])
    core = head_only(x, n)
    core.bind_blocks("classifier.weight", *packed)
    got = logits_of(core, len(x))
    back = dequantise(packed, n, k).astype(np.float64)
    wide = x.astype(np.float64)
    bound = np.zeros((len(x), n))
    size = np.full((len(x), n), 1e-30)
    for begin in range(0, k, 32):
        part, read = wide[:, begin : begin + 32], np.abs(back[:, begin : begin + 32]).sum(1)
        bound += np.outer(np.abs(part).max(1) / 254, read) + 4e-37 * read  # what is smaller than 127 / FLT_MAX counts as 0
        size += np.outer(np.abs(part).max(1), 16 * 32 * np.abs(back[:, begin : begin + 32]).max(1))
    assert (np.abs(got - wide @ back.T) <= bound * 1.001 + 1e-6 * size).all()


# ---- models ----------------------------------------------------------------------------------------------------------------


def load(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    folder = GOLDEN / name
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    with np.load(folder / "expected.npz") as archive:
        inputs = {key[3:]: archive[key] for key in archive.files if key.startswith("in/") and "label" not in key}
    return getattr(govlm, architecture).from_pretrained(folder), inputs


def result(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with govlm.no_grad():
        out = model(**inputs)
    return np.array(out["logits"] if "logits" in out and out["logits"] is not None else out["last_hidden_state"])


@pytest.mark.parametrize("name", NAMES)
def test_every_family(name: str, tmp_path: Path) -> None:
    model, inputs = load(name)
    expected = result(model, inputs)
    before = {n: np.array(v) for n, v in model.state_dict().items()}
    quantise_model(model, QUICK)
    assert model.quantised
    got = result(model, inputs)
    assert not np.array_equal(got, expected)
    # exactly the model whose weights were rounded, but for its activations
    plain = copy.deepcopy(load(name)[0])
    plain.load_state_dict(model.state_dict())
    np.testing.assert_allclose(got, result(plain, inputs), atol=0.04 * max(1.0, float(np.abs(expected).max())))
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", FILE4]
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(result(again, inputs), got)
    for key, value in again.state_dict().items():
        assert value.shape == before[key].shape
        assert np.linalg.norm(value - before[key]) <= 0.15 * np.linalg.norm(before[key])
    twin = copy.deepcopy(again)
    assert twin.quantised
    np.testing.assert_array_equal(result(twin, inputs), got)


def small_qwen() -> Any:
    govlm.set_seed(0)
    return govlm.Qwen2Model(
        govlm.Qwen2Config(
            vocab_size=500, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=160, max_position_embeddings=128,
        )
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    quantise_model(small_qwen(), QUICK).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_row_alone_and_in_a_batch_and_by_any_number_of_threads(folder: Path) -> None:
    model = govlm.Qwen2Model.from_pretrained(folder)
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 500, (40, 9))
    was = native.num_threads()
    try:
        native.set_num_threads(1)
        one = result(model, {"input_ids": ids})
        native.set_num_threads(3)
        np.testing.assert_array_equal(result(model, {"input_ids": ids}), one)
    finally:
        native.set_num_threads(was)
    for row in (0, 17, 39):
        np.testing.assert_allclose(result(model, {"input_ids": ids[row : row + 1]})[0], one[row], atol=1e-5)


def test_blocks_are_mapped(folder: Path) -> None:
    model = govlm.Qwen2Model.from_pretrained(folder)
    packed = Blocks(*model.core.quantised("layers.0.mlp.up.weight"))
    assert packed.data.ctypes.data % 32 == 0
    result(model, {"input_ids": np.arange(30).reshape(3, 10)})
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("no /proc/self/smaps here")
    private, inside = [], False
    for line in smaps.read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = str(folder / FILE4) in line
        elif inside and line.startswith("Private_Dirty:"):
            private.append(int(line.split()[1]))
    assert private and sum(private) == 0  # no page of the file was copied into this process


def test_saved_again_it_is_the_same(folder: Path, tmp_path: Path) -> None:
    govlm.Qwen2Model.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for name in (FILE4, "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_training_expands_to_float32(folder: Path) -> None:
    model = govlm.Qwen2Model.from_pretrained(folder)
    values = {name: np.array(value) for name, value in model.state_dict().items()}
    model.train()
    assert not model.quantised
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, values[name])


def rewrite(folder: Path, change: Any) -> None:
    raw = (folder / FILE4).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / FILE4).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def settings_of(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"].update(fields)
    (folder / "config.json").write_text(json.dumps(config))


UP, DOWN = "layers.0.mlp.up_proj.weight", "layers.0.mlp.down_proj.weight"


def other_kind(header: dict[str, Any]) -> None:
    header["__metadata__"]["kinds"] = header["__metadata__"]["kinds"].replace('"4"', '"8"')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / FILE4).write_bytes((f / FILE4).read_bytes()[:-100]), r"model\.int4\.safetensors is truncated"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(version="2")), r"model\.int4\.safetensors has version '2'"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(layout="x")), r"model\.int4\.safetensors has layout 'x'"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(kinds="{}")), "no readable table of kinds"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(kinds="[")), "no readable table of kinds"),
        (lambda f: rewrite(f, other_kind), r"model\.int4\.safetensors: .*\.blocks"),
        (lambda f: rewrite(f, lambda h: h.update({"x": h.pop(UP + ".blocks")})), rf"no tensor '{UP}\.blocks'"),
        (lambda f: settings_of(f, version=7), r"config\.json: quantization_config has version 7"),
        (lambda f: settings_of(f, layout="x"), r"config\.json: quantization_config has layout 'x'"),
        (lambda f: settings_of(f, quant_method="gptq"), "asks for 'gptq'"),
    ],
)
def test_damage_is_named(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        warnings.simplefilter("ignore")
        govlm.Qwen2Model.from_pretrained(folder)


def test_the_core_refuses_wrong_arrays() -> None:
    core = head_only(np.zeros((2, 24), np.float32), 20)
    good = pack(drawn(20, 24, 4, False), 4)
    for bits, minimum in ((5, False), (8, True), (32, True), (0, False)):
        with pytest.raises(ValueError, match="4 bits, or 8 or 32 without a minimum"):
            core.bind_blocks("classifier.weight", good.data, bits, minimum)
    with pytest.raises(ValueError, match=r"classifier\.weight\.blocks"):
        core.bind_blocks("classifier.weight", good.data[:-1], 4, False)
    with pytest.raises(ValueError, match="stays float32"):
        core.bind_blocks("classifier.bias", *good)
    core.bind_blocks("classifier.weight", *good)
    assert core.quantised("classifier.weight")[1:] == (4, False)


def test_options_are_checked() -> None:
    for options, message in (
        (QuantiseOptions(bits=3), "bits must be 4, 8 or 32"),
        (QuantiseOptions(minimum=True), "give bits 4"),
    ):
        with pytest.raises(ValueError, match=message):
            quantise_model(small_qwen(), options)


def test_the_folder_and_its_size(tmp_path: Path) -> None:
    small_qwen().save_pretrained(tmp_path / "float")
    eight = quantise_folder(tmp_path / "float", tmp_path / "out", QuantiseOptions(sequences=2, length=8))
    four = quantise_folder(tmp_path / "float", tmp_path / "out", QUICK)  # over the other
    assert not (tmp_path / "out" / FILE).exists()
    assert four["ratio"] < 0.6 * eight["ratio"]
    assert four["agreement"] > 0.97
    more = quantise_folder(tmp_path / "float", tmp_path / "more", QuantiseOptions(bits=4, minimum=True, sequences=2, length=8))
    assert four["quantised_bytes"] < more["quantised_bytes"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(GOLDEN / "bert-mlm", tmp_path / "float")
    four = [str(tmp_path / "float"), "--out", str(tmp_path / "int4"), "--bits", "4"]
    assert main(["quantize", *four, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["options"]["bits"] == 4
    assert govlm.BertForMaskedLM.from_pretrained(tmp_path / "int4").quantised
    assert main(["quantize", *four, "--minimum", "--no-progress"]) == 0
    assert "int4" in capsys.readouterr().out
    assert main(["quantize", *four[:3], "--minimum"]) == 2
    assert "--minimum is for weights of 4 bits" in capsys.readouterr().err
