"""8-bit models: bounds of the rounding as properties, the folder and its damage, every family, batches, training afterwards."""

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
from govlm.cli import main
from govlm.quantised import FILE, Packed, codes_of, lane_sums, pack, round_weights
from govlm.train.quantise import QuantiseOptions, dequantised, quantise_folder, quantise_model

GOLDEN = Path(__file__).parent / "golden" / "models"
NAMES = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.npz").exists())
QUICK = QuantiseOptions(sequences=4, length=12)
FLOATS = st.floats(-1e3, 1e3, width=32)


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


def small_bert(seed: int = 0, **fields: Any) -> Any:
    govlm.set_seed(seed)
    fields = {
        "vocab_size": 300, "hidden_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 200,
        "max_position_embeddings": 40, "num_labels": 3, **fields,
    }  # fmt: skip
    model = govlm.BertForSequenceClassification(govlm.BertConfig(**fields))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data[...] *= 4  # as far from linear as trained models are
    return model


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.reshape(-1, a.shape[-1]).astype(np.float64), b.reshape(-1, b.shape[-1]).astype(np.float64)
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / np.maximum(sizes, 1e-30))[sizes > 0].min())


# ---- rounding of weights ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    weights=st.tuples(st.integers(1, 20), st.integers(1, 40)).flatmap(lambda shape: arrays(np.float32, shape, elements=FLOATS)),
    levels=st.sampled_from([15, 127, 160, 192, 255]),
)
def test_weights_are_half_a_step_away_and_no_lane_overflows(weights: np.ndarray, levels: int) -> None:
    codes, scales = round_weights(weights, levels)
    wide = codes.astype(np.int64)
    assert np.abs(wide).max() <= 127
    n, k = weights.shape
    for o in range(n):
        for begin in range(0, k, 8):
            for lane in ((0, 1, 4, 5), (2, 3, 6, 7)):
                taken = [wide[o, begin + i] for i in lane if begin + i < k]
                assert sum(max(v, 0) for v in taken) * levels <= 32767
                assert sum(max(-v, 0) for v in taken) * levels <= 32768
    error = np.abs(weights.astype(np.float64) - wide * scales[:, None].astype(np.float64))
    assert (error <= scales[:, None] * 0.5001 + 1e-35).all()
    # not coarser than what is needed: 8 bits, or the fullest lane, and a little for rounding up
    need = np.maximum(np.abs(weights).max(1) / 127, lane_sums(weights) / max(32767 // levels - 2, 1))
    assert (scales[need > 1e-30] <= need[need > 1e-30] * 1.01 + 1e-34).all()


def test_zero_outputs_and_outliers_of_ten_thousand_times_the_mean() -> None:
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((40, 100)).astype(np.float32)
    weights[5] = 0
    weights[7, 11] = 1e4
    weights[9, 3] = -1e4
    codes, scales = round_weights(weights, 192)
    assert (codes[5] == 0).all() and scales[5] > 0
    assert np.abs(codes[7] * scales[7] - weights[7]).max() <= scales[7] / 2 * 1.001
    assert codes[9, 3] * scales[9] == pytest.approx(-1e4, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    slices=st.sampled_from([1, 3]),
    rows=st.integers(1, 40),
    k=st.integers(1, 70),
    group=st.sampled_from([8, 64, 256]),
    seed=st.integers(0, 99),
)
def test_packing_goes_back(slices: int, rows: int, k: int, group: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-40, 41, (slices * rows, k)).astype(np.int8)
    scales = rng.random(slices * rows, dtype=np.float32)
    packed = pack(codes, scales, None, group, 192, slices)
    back, back_scales = codes_of(packed, slices * rows, k, slices)
    np.testing.assert_array_equal(back, codes)
    np.testing.assert_array_equal(back_scales, scales)
    wide = -(-rows // 16)
    sums = packed.sums.reshape(slices, wide, -1, 16)
    for o in (0, slices * rows - 1):
        part, row = divmod(o, rows)
        for g in range(sums.shape[2]):
            assert sums[part, row // 16, g, row % 16] == codes[o, g * group : (g + 1) * group].sum()


def test_a_lane_over_the_limit_is_refused() -> None:
    codes = np.full((16, 8), 100, np.int8)
    with pytest.raises(ValueError, match="32767"):
        pack(codes, np.ones(16, np.float32), None, 64, 192)


# ---- products --------------------------------------------------------------------------------------------------------------


def head_only(x: np.ndarray, weights: np.ndarray) -> Any:
    """A core whose logits are x @ weights.T, from rows x as a word table: no layers, no norm."""
    core = native.Model({
        "vocab_size": len(x), "hidden_size": x.shape[1], "num_layers": 0, "num_heads": 1, "intermediate_size": 1,
        "position": "none", "embedding_norm": False, "head": "token", "num_labels": len(weights),
    })  # fmt: skip
    core.bind("embeddings.word.weight", x)
    core.bind("classifier.bias", np.zeros(len(weights), np.float32))
    return core


def logits_of(core: Any, rows: int) -> np.ndarray:
    return np.array(core.forward(np.arange(rows, dtype=np.int32), np.array([0, rows]), save=False).logits)


@settings(max_examples=60, deadline=None)
@given(
    data=st.tuples(st.integers(1, 9), st.integers(1, 36), st.integers(1, 90)).flatmap(
        lambda mnk: st.tuples(
            arrays(np.float32, (mnk[0], mnk[2]), elements=FLOATS), arrays(np.float32, (mnk[1], mnk[2]), elements=FLOATS)
        )
    ),
    levels=st.sampled_from([127, 192, 255]),
    group=st.sampled_from([8, 64]),
    smoothing=st.booleans(),
)
def test_a_product_stays_within_what_its_scales_allow(
    data: tuple[np.ndarray, np.ndarray], levels: int, group: int, smoothing: bool
) -> None:
    x, weights = data
    k = x.shape[1]
    factor = np.linspace(0.5, 2, k, dtype=np.float32) if smoothing else np.ones(k, np.float32)
    core = head_only(x, weights)
    codes, scales = round_weights(weights / factor, levels)
    core.bind_quantised("classifier.weight", *pack(codes, scales, factor if smoothing else None, group, levels))
    got = logits_of(core, len(x))
    exact = x.astype(np.float64) @ weights.astype(np.float64).T
    scaled = (x * factor).astype(np.float64)
    bound = np.abs(scaled) @ (np.broadcast_to(scales[:, None] / 2, weights.shape).T.astype(np.float64))
    size = np.abs(scaled) @ np.abs(weights / factor).T.astype(np.float64)
    for begin in range(0, k, group):
        part = scaled[:, begin : begin + group]
        step = (part.max(1) - part.min(1)) / levels
        read = np.abs(codes[:, begin : begin + group].astype(np.float64) * scales[:, None]).sum(1)
        bound += np.outer(step / 2, read)
        size += np.outer(np.abs(part).max(1), read)
    assert (np.abs(got - exact) <= bound * 1.001 + 1e-5 * size + 1e-30).all()


def test_integers_are_exact_at_the_extremes() -> None:
    """Every activation at the top, every lane at its limit: what saturates in 16 bits would show."""
    k, levels = 64, 255
    x = np.tile(np.array([[0.0, 255.0]], np.float32), (4, k // 2))  # 0 and 255 in each group: scale 1
    x[1] = x[1, ::-1]
    x[2, 1:] = 255.0
    x[3, :-1] = 255.0
    x[3, -1] = 0.0
    codes = np.zeros((4, k), np.int8)
    codes[0] = 32
    codes[1] = -32
    codes[2, ::4] = 64
    codes[3, ::4], codes[3, 1::4] = 127, -127
    codes[3, 4::8], codes[3, 5::8] = 0, 0
    core = head_only(x, codes)
    core.bind_quantised("classifier.weight", *pack(codes, np.ones(4, np.float32), None, 64, levels))
    np.testing.assert_array_equal(logits_of(core, 4), x @ codes.astype(np.float32).T)


# ---- models ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_family(name: str, tmp_path: Path) -> None:
    model, inputs = load(name)
    expected = result(model, inputs)
    before = {n: np.array(v) for n, v in model.state_dict().items()}
    quantise_model(model, QUICK)
    assert model.quantised
    got = result(model, inputs)
    assert not np.array_equal(got, expected)
    if got.shape[-1] > 3:
        assert cosine(got, expected) > 0.998
    np.testing.assert_allclose(got, expected, atol=0.08 * max(1.0, float(np.abs(expected).max())))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(result(again, inputs), got)
    for key, value in again.state_dict().items():  # read as float32, near what it was
        assert value.shape == before[key].shape
        np.testing.assert_allclose(value, before[key], atol=float(np.abs(before[key]).max()) / 30 + 1e-7)
    twin = copy.deepcopy(again)
    assert twin.quantised
    np.testing.assert_array_equal(result(twin, inputs), got)


def test_a_row_alone_and_in_a_batch_and_by_any_number_of_threads() -> None:
    model = quantise_model(small_bert(), QUICK)
    rng = np.random.default_rng(1)
    lengths = [1, 5, 17, 40, 3, 9, 33, 2] * 6
    ids = [rng.integers(0, 300, n).astype(np.int32) for n in lengths]
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = splits[:-1].astype(np.int32)
    was = native.num_threads()
    try:
        together = []
        for threads in (1, 3):
            native.set_num_threads(threads)
            done = model.core.forward(np.concatenate(ids), splits, rows=rows, save=False)
            together.append((np.array(done.pooled), np.array(done.logits)))
        np.testing.assert_array_equal(together[0][0], together[1][0])
        np.testing.assert_array_equal(together[0][1], together[1][1])
        zero = np.zeros(1, np.int32)
        for i, one in enumerate(ids):
            alone = model.core.forward(one, np.array([0, len(one)]), rows=zero, save=False)
            np.testing.assert_array_equal(alone.pooled[0], together[0][0][i])
            np.testing.assert_allclose(alone.logits[0], together[0][1][i], atol=1e-6)  # the classifier is float32
    finally:
        native.set_num_threads(was)


def test_agreement_of_a_wider_model_and_its_size(tmp_path: Path) -> None:
    source, out = tmp_path / "float", tmp_path / "int8"
    small_bert(hidden_size=192, intermediate_size=768, vocab_size=3000, num_attention_heads=6).save_pretrained(source)
    (source / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    report = quantise_folder(source, out, QUICK)
    assert report["agreement"] > 0.999
    assert report["ratio"] < 0.3
    assert (out / "vocab.txt").read_text() == "[PAD]\n[UNK]\n"
    assert not (out / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["zero channel", "zero layer", "outlier weight", "outlier input"])
def test_hard_weights(kind: str) -> None:
    model = small_bert()
    weight = dict(model.named_parameters())["bert.encoder.layer.0.intermediate.dense.weight"].data
    if kind == "zero channel":
        weight[3] = 0
        weight[:, 5] = 0
    elif kind == "zero layer":
        weight[...] = 0
    elif kind == "outlier weight":
        weight[3, 4] = 1e4 * float(np.abs(weight).mean())
    else:
        dict(model.named_parameters())["bert.embeddings.LayerNorm.weight"].data[7] = 1e4
    ids = np.arange(200).reshape(10, 20) % 300
    expected = result(model, {"input_ids": ids})
    got = result(quantise_model(model, QUICK), {"input_ids": ids})
    assert np.isfinite(got).all()
    if kind != "outlier weight":
        assert np.abs(got - expected).max() < 0.2 * max(1.0, float(np.abs(expected).max()))


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = small_bert()
    dict(model.named_parameters())["bert.encoder.layer.1.output.dense.weight"].data[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"bert\.encoder\.layer\.1\.output\.dense\.weight is not finite"):
        quantise_model(model, QUICK)


def test_training_expands_to_float32(tmp_path: Path) -> None:
    ids, labels = np.arange(40).reshape(4, 10), np.array([0, 1, 2, 1])
    quantise_model(small_bert(), QUICK).save_pretrained(tmp_path / "int8")
    model = govlm.BertForSequenceClassification.from_pretrained(tmp_path / "int8")
    values = {n: np.array(v) for n, v in model.state_dict().items()}
    rounded = result(model, {"input_ids": ids})
    model.train()
    assert not model.quantised
    for name, value in values.items():
        np.testing.assert_array_equal(model.state_dict()[name], value)
    model.eval()
    np.testing.assert_allclose(result(model, {"input_ids": ids}), rounded, atol=0.1)
    model.train()
    optimizer = govlm.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path / "float")
    assert "quantization_config" not in json.loads((tmp_path / "float" / "config.json").read_text())
    again = govlm.BertForSequenceClassification.from_pretrained(tmp_path / "float")
    assert not again.quantised
    np.testing.assert_allclose(result(again, {"input_ids": ids}), result(model.eval(), {"input_ids": ids}), atol=1e-6)


def test_backward_without_train_expands_too() -> None:
    model = quantise_model(small_bert(), QUICK)
    loss = model(np.arange(20).reshape(2, 10), labels=np.array([0, 1])).loss
    loss.backward()
    assert not model.quantised
    gradient = dict(model.named_parameters())["bert.encoder.layer.0.output.dense.weight"].grad
    assert gradient is not None and np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_another_head_on_a_quantised_body(tmp_path: Path) -> None:
    quantise_model(small_bert(), QUICK).save_pretrained(tmp_path)
    body = govlm.BertModel.from_pretrained(tmp_path)
    assert body.quantised
    with pytest.warns(UserWarning, match="initialised at random"):
        tokens = govlm.BertForTokenClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert tokens.quantised
    assert result(tokens, {"input_ids": np.arange(10)[None]}).shape == (1, 10, 5)


# ---- the folder ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    quantise_model(small_bert(), QUICK).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_saved_again_it_is_the_same(folder: Path, tmp_path: Path) -> None:
    model = govlm.BertForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    for name in (FILE, "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_panels_are_mapped_and_begin_on_a_cache_line(folder: Path) -> None:
    model = govlm.BertForSequenceClassification.from_pretrained(folder)
    packed = Packed(*model.core.quantised("layers.0.mlp.up.weight"))
    assert packed.panels.ctypes.data % 64 == 0
    result(model, {"input_ids": np.arange(30).reshape(3, 10)})
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("no /proc/self/smaps here")
    private, inside = [], False
    for line in smaps.read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = str(folder / FILE) in line
        elif inside and line.startswith("Private_Dirty:"):
            private.append(int(line.split()[1]))
    assert private and sum(private) == 0  # no page of the file was copied into this process


def rewrite(folder: Path, change: Any) -> None:
    """Writes the file again with another header; change(header) alters it in place."""
    raw = (folder / FILE).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / FILE).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def settings_of(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"].update(fields)
    (folder / "config.json").write_text(json.dumps(config))


NAME = "bert.encoder.layer.0.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / FILE).write_bytes((f / FILE).read_bytes()[:-100]), r"model\.int8\.safetensors is truncated"),
        (lambda f: (f / FILE).write_bytes(b""), r"model\.int8\.safetensors is truncated"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(version="2")), r"model\.int8\.safetensors has version '2'"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(layout="x")), r"model\.int8\.safetensors has layout 'x'"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(format="x")), r"model\.int8\.safetensors has format 'x'"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(group="32")), r"group '32', but config\.json says 64"),
        (lambda f: rewrite(f, lambda h: h["__metadata__"].update(shapes="[]")), "no readable table of shapes"),
        (lambda f: rewrite(f, lambda h: h.update({"x": h.pop(NAME + ".scales")})), rf"no tensor '{NAME}\.scales'"),
        (lambda f: settings_of(f, version=7), r"config\.json: quantization_config has version 7"),
        (lambda f: settings_of(f, quant_method="gptq"), "asks for 'gptq'"),
        (lambda f: settings_of(f, levels=0), "levels 0"),
    ],
)
def test_damage_is_named(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
        warnings.simplefilter("ignore")
        govlm.BertForSequenceClassification.from_pretrained(folder)


def test_a_wrong_size_is_named(folder: Path) -> None:
    def swap(header: dict[str, Any]) -> None:
        other = NAME.replace("output.dense", "intermediate.dense")
        header[NAME + ".sums"], header[other + ".sums"] = header[other + ".sums"], header[NAME + ".sums"]

    rewrite(folder, swap)
    with pytest.raises(ValueError, match=r"model\.int8\.safetensors.*sums"):
        govlm.BertForSequenceClassification.from_pretrained(folder)


def test_another_shape_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has shape \[200, 72\], the model needs \[208, 72\]"):
        govlm.BertForSequenceClassification.from_pretrained(folder, intermediate_size=208)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json says that the model is quantised"):
        govlm.BertForSequenceClassification.from_pretrained(folder)


def test_what_cannot_be_quantised_is_refused(folder: Path, tmp_path: Path) -> None:
    model = govlm.BertForSequenceClassification.from_pretrained(folder)
    with pytest.raises(ValueError, match="already"):
        quantise_model(model, QUICK)
    with pytest.raises(ValueError, match="already"):
        quantise_folder(folder, tmp_path / "out")
    plain = tmp_path / "plain"
    small_bert().save_pretrained(plain)
    with pytest.raises(ValueError, match="another one"):
        quantise_folder(plain, plain)
    with pytest.raises(ValueError, match="group"):
        quantise_model(small_bert(), QuantiseOptions(group=20))
    with pytest.raises(ValueError, match="stays float32"):
        model.core.quantised_sizes("embeddings.norm.weight", 64)


def test_the_core_refuses_wrong_arrays() -> None:
    core = head_only(np.zeros((2, 24), np.float32), np.zeros((20, 24), np.float32))
    good = pack(np.zeros((20, 24), np.int8), np.ones(20, np.float32), None, 64, 192)
    with pytest.raises(ValueError, match="levels"):
        core.bind_quantised("classifier.weight", *good._replace(levels=256))
    with pytest.raises(ValueError, match=r"classifier\.weight\.panels"):
        core.bind_quantised("classifier.weight", *good._replace(panels=good.panels[:-1]))
    with pytest.raises((TypeError, ValueError), match=r"classifier\.weight\.scales"):
        core.bind_quantised("classifier.weight", *good._replace(scales=good.scales.astype(np.float64)))
    with pytest.raises(ValueError, match="multiple of 8"):
        core.bind_quantised("classifier.weight", *good._replace(group=12))
    core.bind_quantised("classifier.weight", *good)
    np.testing.assert_array_equal(core.parameter("classifier.weight"), dequantised(good, 20, 24))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(GOLDEN / "bert-mlm", tmp_path / "float")
    assert main(["quantize", str(tmp_path / "float"), "--out", str(tmp_path / "int8"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["options"]["levels"] == 192 and report["agreement"] > 0.99
    assert govlm.BertForMaskedLM.from_pretrained(tmp_path / "int8").quantised
    assert main(["quantize", str(tmp_path / "float"), "--out", str(tmp_path / "int8"), "--no-progress"]) == 0
    assert "agreement" in capsys.readouterr().out
    assert main(["quantize", str(tmp_path / "float"), "--out", str(tmp_path / "x"), "--levels", "300"]) == 2
    assert "levels must be from 15 to 255" in capsys.readouterr().err
    assert main(["quantize", str(tmp_path / "int8"), "--out", str(tmp_path / "x")]) != 0
    assert "already" in capsys.readouterr().err
