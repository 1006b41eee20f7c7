"""safetensors in both directions: what is refused, what is atomic, what is shared."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file as their_load
from safetensors.numpy import save_file as their_save

import govlm
from govlm.checkpoint import INDEX, WEIGHTS, Checkpoint, load_file, save_file

GOLDEN = Path(__file__).parent / "golden" / "models"
IDS = [[5, 6, 7], [8, 9, 10]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden sentence classifier."""
    shutil.copytree(GOLDEN / "bert-sequence", tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path, **kwargs: Any) -> Any:
    return govlm.BertForSequenceClassification.from_pretrained(folder, **kwargs)


def rewrite(folder: Path, change: Any) -> None:
    """Applies `change(tensors)` to the weights, written by the safetensors package."""
    tensors = {k: np.array(v) for k, v in their_load(folder / WEIGHTS).items()}
    change(tensors)
    their_save(tensors, folder / WEIGHTS, {"format": "pt"})


def write_raw(path: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_files_travel_both_ways(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "half": rng.normal(size=(3, 5)).astype(np.float16), "one": rng.normal(size=7).astype(np.float32),
        "none": np.zeros((0, 4), np.float32), "scalar": np.array(3.5), "ids": np.arange(5, dtype=np.int64),
        "flags": np.array([True, False]), "行": rng.normal(size=(2, 2, 2)).astype(np.float32),
    }  # fmt: skip
    save_file(tensors, tmp_path / "ours.safetensors", {"format": "pt"})
    their_save(tensors, tmp_path / "theirs.safetensors")
    for read in (their_load(tmp_path / "ours.safetensors"), load_file(tmp_path / "theirs.safetensors")):
        assert read.keys() == tensors.keys()
        for name, value in tensors.items():
            assert read[name].dtype == value.dtype
            np.testing.assert_array_equal(read[name], value)
    with safe_open(tmp_path / "ours.safetensors", "np") as handle:
        assert handle.metadata() == {"format": "pt"}


def test_half_types_become_float32(folder: Path) -> None:
    exact = load(folder)(IDS).logits
    values = {k: np.array(v) for k, v in load_file(folder / WEIGHTS).items()}
    save_file({k: v.astype(np.float16) for k, v in values.items()}, folder / WEIGHTS)
    np.testing.assert_allclose(load(folder)(IDS).logits, exact, atol=2e-2)
    header: dict[str, Any] = {}
    data = b""
    for name, value in values.items():
        raw = (value.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    write_raw(folder / WEIGHTS, header, data)
    model = load(folder)
    name = "bert.pooler.dense.weight"
    np.testing.assert_array_equal(
        dict(model.named_parameters())[name].data, (values[name].view(np.uint32) & 0xFFFF0000).view(np.float32)
    )


@pytest.mark.parametrize(
    ("header", "data", "text"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234", "truncated: tensor 'a'"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, b"12345678", "'a' has shape"),
        ({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234", "'a' has dtype 'F99'"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234", "malformed"),
        ({"a": {"dtype": "F32", "shape": [1]}}, b"1234", "'a' has no dtype"),
        ({"a": 3}, b"1234", "'a' has no dtype"),
        ([1, 2], b"", "not a JSON object"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345678", "4 bytes after"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, b"12345678", "belong to no tensor"),
        (
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            },
            b"12345678",
            "'b' overlaps",
        ),
    ],
)
def test_damaged_headers(tmp_path: Path, header: Any, data: bytes, text: str) -> None:
    path = tmp_path / "x.safetensors"
    write_raw(path, header, data)
    with pytest.raises(ValueError, match=text) as caught:
        load_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"123", struct.pack("<Q", 2**40), struct.pack("<Q", 50) + b"{}", b"\x02" + b"\0" * 7 + b"\xff\xff"]
)
def test_damaged_starts(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated|not a safetensors"):
        load(folder)


def test_every_truncation_is_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        (folder / WEIGHTS).write_bytes(whole[:size])
        with pytest.raises(ValueError, match=WEIGHTS):
            load(folder)


def test_missing_tensor(folder: Path) -> None:
    rewrite(folder, lambda t: t.pop("bert.encoder.layer.1.output.dense.weight"))
    with pytest.raises(ValueError, match=r"model.safetensors has no tensor 'bert.encoder.layer.1.output.dense.weight'"):
        load(folder)


def test_wrong_shape(folder: Path) -> None:
    rewrite(folder, lambda t: t.update({"bert.encoder.layer.1.output.dense.weight": np.zeros((4, 4), np.float32)}))
    with pytest.raises(ValueError, match=r"'bert.encoder.layer.1.output.dense.weight' has shape \[4, 4\].*needs \[16, 24\]"):
        load(folder)


def test_wrong_dtype(folder: Path) -> None:
    rewrite(folder, lambda t: t.update({"classifier.bias": np.zeros(3, np.int64)}))
    with pytest.raises(ValueError, match=r"'classifier.bias' has dtype I64"):
        load(folder)


def test_missing_head_is_made_with_a_warning() -> None:
    with pytest.warns(UserWarning) as caught:
        model = govlm.BertForTokenClassification.from_pretrained(GOLDEN / "bert", num_labels=7)
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 2 and "has no classifier.weight, classifier.bias: initialised at random" in texts[0]
    assert "does not use: pooler.dense.bias, pooler.dense.weight" in texts[1]
    assert model(IDS).logits.shape == (2, 3, 7)
    weight = dict(model.named_parameters())["classifier.weight"].data
    assert 0.01 < weight.std() < 0.03 and not dict(model.named_parameters())["classifier.bias"].data.any()


def test_other_head_needs_permission(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'classifier.(weight|bias)' has shape .*ignore_mismatched_sizes"):
        load(folder, num_labels=5)
    with pytest.warns(UserWarning, match="classifier.weight"):
        model = load(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert model(IDS).logits.shape == (2, 5) and model.config.id2label[4] == "LABEL_4"


def test_unused_tensors_are_named() -> None:
    with pytest.warns(UserWarning, match=r"does not use: classifier.bias, classifier.weight"):
        model = govlm.BertModel.from_pretrained(GOLDEN / "bert-sequence")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full = load(GOLDEN / "bert-sequence")
    np.testing.assert_array_equal(
        model(IDS, output_hidden_states=True).hidden_states[2], full(IDS, output_hidden_states=True).hidden_states[2]
    )


def test_old_names(folder: Path) -> None:
    """gamma and beta, position_ids, and no prefix, as old files have them."""
    wanted = load(folder)(IDS).logits

    def age(tensors: dict[str, np.ndarray]) -> None:
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old.removeprefix("bert.")] = tensors.pop(name)
        tensors["embeddings.position_ids"] = np.arange(20)[None]

    rewrite(folder, age)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load(folder)(IDS).logits, wanted)


def test_tied_decoder_in_the_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "bert-mlm", tmp_path / "mlm")
    wanted = govlm.BertForMaskedLM.from_pretrained(tmp_path / "mlm")(IDS).logits

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
        tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")

    rewrite(tmp_path / "mlm", add)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = govlm.BertForMaskedLM.from_pretrained(tmp_path / "mlm")
    np.testing.assert_array_equal(model(IDS).logits, wanted)
    model.save_pretrained(tmp_path / "out")
    assert set(their_load(tmp_path / "out" / WEIGHTS)) == set(their_load(GOLDEN / "bert-mlm" / WEIGHTS))


def test_wrong_architecture_and_settings(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"config.json describes a 'bert' model, not a 'albert' one"):
        govlm.AlbertForSequenceClassification.from_pretrained(folder)
    for field, value, text in (
        ("is_decoder", True, "is_decoder"),
        ("hidden_act", "banana", "hidden_act"),
        ("num_attention_heads", 3, "num_attention_heads"),
        ("position_embedding_type", "relative_key", "position_embedding_type"),
        ("model_type", "xlnet", "xlnet"),
    ):
        fields = json.loads((GOLDEN / "bert-sequence" / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**fields, field: value}))
        with pytest.raises(ValueError, match=text):
            govlm.AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not valid JSON"):
        load(folder)
    with pytest.raises(ValueError, match="rope_type 'yarn'"):
        govlm.LlamaConfig(rope_scaling={"type": "yarn", "factor": 2.0})
    with pytest.raises(ValueError, match="use_sliding_window"):
        govlm.Qwen2Config(use_sliding_window=True)
    with pytest.raises(ValueError, match="no setting 'banana'"):
        load(GOLDEN / "bert-sequence", banana=3)


def test_missing_files_and_pickles(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        load(tmp_path / "bert-base-chinese")
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=WEIGHTS):
        load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle: loading one can run any code"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        load(folder)


def shard(folder: Path) -> dict[str, Any]:
    tensors = their_load(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        their_save({n: tensors[n] for n in part}, folder / file)
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))
    return index


def test_shards(folder: Path) -> None:
    wanted = load(folder)(IDS).logits
    index = shard(folder)
    np.testing.assert_array_equal(load(folder)(IDS).logits, wanted)
    first = next(iter(index["weight_map"]))
    other = dict(index["weight_map"])
    other[first] = "model-00002-of-00002.safetensors"
    (folder / INDEX).write_text(json.dumps({"weight_map": other}))
    with pytest.raises(ValueError, match=f"has no tensor '{first}'"):
        load(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {first: "../x.safetensors"}}))
    with pytest.raises(ValueError, match="not a file in its own folder"):
        load(folder)
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="00002"):
        load(folder)


@pytest.mark.parametrize("name", sorted(p.name for p in GOLDEN.iterdir() if p.is_dir() and (p / "config.json").exists()))
def test_saved_as_transformers_saves(name: str, tmp_path: Path) -> None:
    """Loading and saving gives back the same tensors and the same config."""
    fields = json.loads((GOLDEN / name / "config.json").read_text())
    model = getattr(govlm, fields["architectures"][0]).from_pretrained(GOLDEN / name)
    model.save_pretrained(tmp_path)
    before, after = their_load(GOLDEN / name / WEIGHTS), their_load(tmp_path / WEIGHTS)
    assert before.keys() == after.keys()
    for key, value in before.items():
        if (name, key) != ("bert-mlm-untied", "cls.predictions.bias"):  # unused there: decoder.bias counts
            np.testing.assert_array_equal(value, after[key])
    assert json.loads((tmp_path / "config.json").read_text()) == fields
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", WEIGHTS]


def test_unknown_config_fields_are_kept(folder: Path, tmp_path: Path) -> None:
    fields = json.loads((folder / "config.json").read_text())
    fields |= {"hall": {"name": "政务"}, "id2label": {"0": "社保", "1": "户籍", "2": "税务"}}
    fields["label2id"] = {v: int(k) for k, v in fields["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(fields))
    model = load(folder)
    assert model.config.id2label == {0: "社保", 1: "户籍", 2: "税务"} and model.config.hall == {"name": "政务"}
    model.save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text("utf-8")) == fields


def test_full_disk_leaves_the_old_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    model.classifier.bias.data[...] += 1
    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the weights are written, the config is not
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    monkeypatch.undo()
    np.testing.assert_allclose(load(folder)(IDS).logits + 1, model(IDS).logits, rtol=1e-5)


def test_really_full_disk(folder: Path) -> None:
    """A file size limit stands for the full disk: the kernel refuses the write itself."""
    script = f"""
import resource, signal, sys
import govlm
folder = {str(folder)!r}
model = govlm.BertForSequenceClassification.from_pretrained(folder)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    model.save_pretrained(folder)
except OSError as error:
    sys.exit(7)
"""
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert subprocess.run([sys.executable, "-c", script], timeout=600).returncode == 7
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_saving_over_the_mapped_file(folder: Path) -> None:
    """The weights come from the file that is replaced: the old mapping stays whole."""
    model = load(folder)
    wanted = np.array(model(IDS).logits)
    model.save_pretrained(folder)
    model.save_pretrained(folder)
    np.testing.assert_array_equal(model(IDS).logits, wanted)
    np.testing.assert_array_equal(load(folder)(IDS).logits, wanted)


def test_weights_are_views_into_the_mapped_file(folder: Path) -> None:
    """Writing into a loaded parameter changes neither the file nor another model of it."""
    first, second = load(folder), load(folder)
    checkpoint = Checkpoint(folder)
    assert checkpoint.tensor("classifier.weight").base is not None
    first.classifier.weight.data[...] = 7
    assert not (second.classifier.weight.data == 7).any()
    assert not (Checkpoint(folder).tensor("classifier.weight") == 7).any()


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
def test_processes_share_the_pages(tmp_path: Path) -> None:
    """Eight processes that have read the same model hold its pages shared, and almost none of them privately."""
    config = govlm.BertConfig(
        vocab_size=20000, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    govlm.BertModel(config).save_pretrained(tmp_path)
    script = f"""
import sys
import numpy as np
import govlm
model = govlm.BertModel.from_pretrained({str(tmp_path)!r})
for parameter in model.parameters():
    float(parameter.data.sum())
model(np.arange(1, 400).reshape(3, 133))
print("ready", flush=True)
sys.stdin.readline()
totals, inside = {{}}, False
for line in open("/proc/self/smaps"):
    parts = line.split()
    if not parts[0].endswith(":"):
        inside = line.rstrip().endswith("model.safetensors")
    elif inside and parts[0] in ("Rss:", "Shared_Clean:", "Private_Clean:", "Private_Dirty:"):
        totals[parts[0]] = totals.get(parts[0], 0) + int(parts[1])
print(totals["Rss:"], totals["Shared_Clean:"], totals["Private_Clean:"] + totals["Private_Dirty:"], flush=True)
sys.stdin.readline()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        size = (tmp_path / WEIGHTS).stat().st_size // 1024
        for process in processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            resident, shared, private = map(int, process.stdout.readline().split())
            assert resident > 0.9 * size
            assert shared > 0.9 * resident and private < 0.05 * resident
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
