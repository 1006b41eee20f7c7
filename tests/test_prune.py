"""Structured pruning: importance is the derivative, what is cut out is gone, the smaller model can be used everywhere."""

import json
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest

import govlm
from govlm.data import Example
from govlm.train.compare import compare, format_comparison, model_bytes
from govlm.train.evaluate import encode, encode_texts, evaluate, evaluate_encoded
from govlm.train.finetune import Options, finetune
from govlm.train.loop import TrainError
from govlm.train.masking import Masker
from govlm.train.prune import (
    Importance,
    kept_count,
    measure_importance,
    plot_curve,
    prune,
    prune_curve,
    prune_model,
)
from govlm.train.source import load_model

THINGS = {"户籍": ["户口本", "身份证", "居住证"], "社保": ["养老金", "医保卡", "失业金"], "车管": ["驾驶证", "行驶证", "车牌"]}
WAYS = ["{}丢了怎么补办", "想问一下{}在哪里办", "办{}要带什么材料", "{}多久能办好", "我的{}过期了", "请帮我查{}的进度"]
ROWS = [(way.format(thing), label) for label, things in THINGS.items() for thing in things for way in WAYS]
NAMES = sorted(THINGS)
CONFIG = {
    "model_type": "bert", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prune")
    rows = list(ROWS)
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[:40]), ("dev", rows[40:])):
        lines = [json.dumps({"text": t, "label": c}, ensure_ascii=False) + "\n" for t, c in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    characters = sorted({c for t, _ in ROWS for c in t})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]) + "\n", "utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    finetune(
        folder / "train.jsonl", folder / "dev.jsonl", model=folder / "config.json", out=folder / "model",
        options=Options(epochs=20, batch_size=8, lr=2e-3, seed=1, ngrams=False), refit=False, progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture
def trained(work):
    model = govlm.AutoModelForSequenceClassification.from_pretrained(str(work / "model"))
    return model, govlm.AutoTokenizer.from_pretrained(str(work / "model"))


def labelled(model, tokenizer, rows=ROWS):
    return encode(model, tokenizer, [Example(*r) for r in rows], NAMES, False)


def test_importance_is_the_derivative_of_a_gate(work, trained):
    """Scaling a head's columns of the output matrix (a neuron's column of the down matrix) is a gate: finite differences."""
    model, tokenizer = trained
    data = labelled(model, tokenizer, ROWS[:5])
    found = measure_importance(model, data, rows=99)
    assert found.heads.shape == (3, 4) and found.neurons.shape == (3, 96) and found.rows == 5
    assert all(p.grad is None for p in model.parameters())

    def losses():
        return np.array([
            float(model(input_ids=data.ids[None, a:b], labels=data.labels[[i]]).loss)
            for i, (a, b) in enumerate(zip(data.row_splits[:-1], data.row_splits[1:], strict=True))
        ])  # fmt: skip

    cases = [("head", 0, 1), ("head", 2, 3)]
    cases += [("neuron", layer, int(index)) for layer in (0, 2) for index in np.argsort(found.neurons[layer])[-2:]]
    for kind, layer, index in cases:
        expected = (found.heads if kind == "head" else found.neurons)[layer, index]
        which = "attention.output" if kind == "head" else "mlp.down"
        weight = model.core.parameter(f"layers.{layer}.{which}.weight")
        columns = slice(12 * index, 12 * index + 12) if kind == "head" else slice(index, index + 1)
        start, ends = np.array(weight), []
        for sign in (1, -1):
            weight[:, columns] = start[:, columns] * np.float32(1 + sign * 0.02)
            ends.append(losses())
        weight[...] = start
        assert np.abs((ends[0] - ends[1]) / 0.04).mean() == pytest.approx(expected, rel=0.05, abs=1e-5)


def test_a_head_of_zero_matters_nothing_and_cutting_it_changes_nothing(trained):
    model, tokenizer = trained
    data = labelled(model, tokenizer, ROWS[:9])
    model.core.make_trainable()
    for layer in range(3):
        model.core.parameter(f"layers.{layer}.attention.output.weight")[:, 12:24] = 0
        model.core.parameter(f"layers.{layer}.mlp.down.weight")[:, 16:48] = 0
    importance = measure_importance(model, data)
    assert not importance.heads[:, 1].any() and not importance.neurons[:, 16:48].any()
    heads, neurons = importance.keep(3, 64)
    assert heads.tolist() == [[0, 2, 3]] * 3 and neurons.tolist() == [[*range(16), *range(48, 96)]] * 3
    small = prune_model(model, heads, neurons)
    batch = tokenizer([ROWS[0][0], ROWS[7][0]], padding=True, return_tensors="np")
    np.testing.assert_allclose(small(**batch).logits, model(**batch).logits, atol=2e-6)
    assert small.num_parameters() == model.num_parameters() - 3 * (4 * 48 * 12 + 3 * 12 + 2 * 48 * 32 + 32)


def test_everything_kept_is_the_same_model(trained):
    model, tokenizer = trained
    whole = prune_model(model, np.tile(np.arange(4), (3, 1)), np.tile(np.arange(96), (3, 1)))
    batch = tokenizer([ROWS[0][0]], return_tensors="np")
    np.testing.assert_array_equal(whole(**batch).logits, model(**batch).logits)
    model.config.architectures = None
    assert whole.config == model.config  # no head_dim: transformers loads it still


def test_a_pruned_model_is_saved_loaded_trained_and_pruned_again(work, trained, tmp_path):
    model, tokenizer = trained
    importance = measure_importance(model, labelled(model, tokenizer), rows=20)
    small = prune_model(model, *importance.keep(2, 48))
    small.save_pretrained(tmp_path)
    tokenizer.save_pretrained(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = govlm.AutoModelForSequenceClassification.from_pretrained(str(tmp_path))
    assert again.config.head_dim == 12 and again.config.num_attention_heads == 2
    batch = tokenizer([ROWS[0][0]], return_tensors="np")
    np.testing.assert_array_equal(again(**batch).logits, small(**batch).logits)
    third = prune_model(again, *measure_importance(again, labelled(again, tokenizer), rows=5).keep(1, 16))
    assert third.core.shape("layers.0.attention.query.weight") == (12, 48)
    result = finetune(
        work / "train.jsonl", work / "dev.jsonl", model=tmp_path, out=tmp_path / "tuned", progress=False,
        options=Options(epochs=8, batch_size=8, lr=2e-3, ngrams=False),
    )  # fmt: skip
    assert result["best"]["report"]["accuracy"] >= 0.8


def test_transformers_loads_a_model_with_fewer_neurons(work, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    prune(work / "model", train=work / "train.jsonl", keep_heads=1.0, keep_neurons=0.5, rows=8, out=tmp_path / "out",
          options=Options(epochs=0), progress=False)  # fmt: skip
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "out")
    ours = govlm.AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "out"))
    ids = np.array([[2, 9, 10, 11, 3]])
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(ours(input_ids=ids).logits, expected, atol=1e-5)


def test_a_masked_language_model(work, tmp_path):
    base, tokenizer = load_model(work / "config.json", NAMES, False, None, 1)
    model = govlm.BertForMaskedLM.from_config(base.config)
    model.save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(str(tmp_path / "mlm"))
    found = prune(tmp_path / "mlm", texts=[t for t, _ in ROWS], keep=0.5, rows=10, out=tmp_path / "out", progress=False)
    small = govlm.AutoModelForMaskedLM.from_pretrained(str(tmp_path / "out"))
    assert small.config.intermediate_size == 48 and small.config.num_attention_heads == 2 and found["before"] is None
    data = encode_texts(model, tokenizer, [t for t, _ in ROWS])
    masker = Masker.of(tokenizer, model.config.vocab_size)
    one, two = (measure_importance(model, data, rows=6, seed=s, masker=masker) for s in (0, 0))
    assert np.array_equal(one.neurons, two.neurons)
    assert not np.array_equal(one.neurons, measure_importance(model, data, rows=6, seed=1, masker=masker).neurons)


def test_shared_layers_are_pruned_once(work, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "model_type": "albert", "embedding_size": 16}))
    model, tokenizer = load_model(tmp_path / "config.json", NAMES, False, work / "vocab.txt", 1)
    importance = measure_importance(model, labelled(model, tokenizer), rows=5)
    assert importance.heads.shape == (1, 4)
    small = prune_model(model, *importance.keep(2, 32))
    assert small.core.shape("layers.0.attention.output.weight") == (48, 24)
    assert evaluate_encoded(small, labelled(model, tokenizer))["count"] == len(ROWS)


def test_important_heads_are_worth_more_than_unimportant_ones(work, trained):
    """Keeping the most important half loses less than keeping the least important half."""
    model, tokenizer = trained
    data, dev = (labelled(model, tokenizer, part) for part in (ROWS, ROWS))
    importance = measure_importance(model, data)
    turned = Importance(-importance.heads, -importance.neurons, importance.rows)
    good, bad = (evaluate_encoded(prune_model(model, *i.keep(2, 48)), dev)["loss"] for i in (importance, turned))
    assert good < bad


def test_the_curve(work, trained, tmp_path):
    model, tokenizer = trained
    train = labelled(model, tokenizer)
    importance = measure_importance(model, train, rows=20)
    rows = prune_curve(
        model, importance, train, (1.0, 0.5, 0.25), train=train, options=Options(epochs=4, batch_size=8, lr=2e-3),
        tokenizer=tokenizer,
    )  # fmt: skip
    assert [(r["heads"], r["neurons"]) for r in rows] == [(4, 96), (2, 48), (1, 32)]
    assert rows[0]["accuracy"] == evaluate_encoded(model, train)["accuracy"]
    assert rows[1]["parameters"] < rows[0]["parameters"] and rows[1]["tuned_accuracy"] >= rows[1]["accuracy"]
    only = prune_curve(model, importance, train, (0.5,), what="heads")
    assert (only[0]["heads"], only[0]["neurons"]) == (2, 96)
    pytest.importorskip("matplotlib")
    assert plot_curve(rows, tmp_path / "curve.png") and (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_kept_counts():
    assert [kept_count(12, s) for s in (1.0, 0.5, 0.3, 0.01)] == [12, 6, 4, 1]
    assert [kept_count(100, s, 16) for s in (1.0, 0.99, 0.5, 0.01)] == [100, 96, 48, 16]
    assert kept_count(8, 0.5, 16) == 4
    for share in (0, 1.1, -1):
        with pytest.raises(TrainError, match="kept share"):
            kept_count(12, share)


def test_refusals(work, trained, tmp_path):
    model, tokenizer = trained
    with pytest.raises(TrainError, match="labelled rows"):
        measure_importance(model, encode_texts(model, tokenizer, ["甲"]))
    with pytest.raises(TrainError, match="give labelled rows"):
        prune(work / "model", out=tmp_path / "x")
    with pytest.raises(TrainError, match="needs dev rows"):
        prune(work / "model", out=tmp_path / "x", train=work / "train.jsonl", curve=(0.5,))
    with pytest.raises(TrainError, match="encoders of BERT's kind"):
        measure_importance(govlm.GPT2Model(govlm.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9)), None)


def test_the_command(work, tmp_path):
    arguments = [
        sys.executable, "-m", "govlm", "prune", "--model", "model", "--train", "train.jsonl", "--dev", "dev.jsonl", "--keep", "0.5",
        "--rows", "20", "--curve", "0.5,0.25", "--epochs", "6", "--batch-size", "8", "--lr", "2e-3", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    shown = subprocess.run(arguments, cwd=work, capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stderr
    assert "2 heads and 48 neurons a layer stay" in shown.stdout and "fine-tuned" in shown.stdout
    curve = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [row["share"] for row in curve] == [1.0, 0.5, 0.25]
    assert evaluate(tmp_path / "out", work / "dev.jsonl")["accuracy"] >= 0.75
    again = subprocess.run([*arguments, "--resume", "--json"], cwd=work, capture_output=True, text=True, timeout=300)
    assert json.loads(again.stdout)["result"]["steps"] == 30
    other = subprocess.run([*arguments, "--resume", "--keep", "0.25"], cwd=work, capture_output=True, text=True, timeout=300)
    assert other.returncode == 1 and "which heads and neurons are kept" in other.stderr


# -------------------------------------------------------------------- side by side


@pytest.fixture(scope="module")
def pruned(work):
    prune(work / "model", train=work / "train.jsonl", dev=work / "dev.jsonl", keep=0.25, rows=20, out=work / "pruned",
          options=Options(epochs=3, batch_size=8, lr=2e-3), progress=False)  # fmt: skip
    return work / "pruned"


def test_compare(work, pruned):
    rows = compare([work / "model", pruned, work / "model"], work / "dev.jsonl", requests=3, rounds=2)
    assert [row["accuracy"] for row in rows] == [evaluate(row["model"], work / "dev.jsonl")["accuracy"] for row in rows]
    assert rows[0]["agreement"] == rows[2]["agreement"] == 1.0 and rows[2]["cosine"] == pytest.approx(1)
    assert rows[1]["cosine"] < 1 and rows[1]["size_mb"] < rows[0]["size_mb"] == model_bytes(work / "model") / 1e6
    assert rows[1]["parameters"] < rows[0]["parameters"]
    for row in rows:
        assert row["ms_1"] > 0 and row["ms_all"] > 0 and row["tokens_per_s"] > 0 and row["resident_mb"] > 10
    table = format_comparison(rows)
    assert len(table.splitlines()) == 4 and "macro F1" in table


def test_compare_encoders_without_labels(work, tmp_path):
    model = govlm.AutoModelForSequenceClassification.from_pretrained(str(work / "model"))
    encoder = govlm.BertModel(model.config, add_pooling_layer=False)
    encoder.save_pretrained(tmp_path / "one")
    govlm.AutoTokenizer.from_pretrained(str(work / "model")).save_pretrained(str(tmp_path / "one"))
    rows = compare([tmp_path / "one", tmp_path / "one"], work / "dev.jsonl", label_field=None, requests=2, rounds=1)
    assert rows[1]["cosine"] == pytest.approx(1) and "accuracy" not in rows[0]
    with pytest.raises(TrainError, match="cannot stand in one"):
        compare([tmp_path / "one", work / "model"], work / "dev.jsonl", requests=2, rounds=1)


def test_compare_names_what_is_wrong(work, tmp_path):
    with pytest.raises(TrainError, match="nowhere: no such model folder"):
        compare([work / "nowhere"], work / "dev.jsonl")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    with pytest.raises(TrainError, match="broken: "):
        compare([tmp_path / "broken"], work / "dev.jsonl")
    (tmp_path / "other.jsonl").write_text('{"text": "甲", "label": "没有"}\n', encoding="utf-8")
    with pytest.raises(TrainError, match="没有"):
        compare([work / "model"], tmp_path / "other.jsonl", requests=1, rounds=1)


def test_the_command_compare(work, pruned):
    arguments = [
        sys.executable,
        "-m",
        "govlm",
        "compare",
        "model",
        "pruned",
        "--data",
        "dev.jsonl",
        "--rounds",
        "1",
        "--requests",
        "2",
    ]
    shown = subprocess.run(arguments, cwd=work, capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["model", "model", "pruned"]
    found = json.loads(subprocess.run([*arguments, "--json"], cwd=work, capture_output=True, text=True, timeout=300).stdout)
    assert [row["model"] for row in found["models"]] == ["model", "pruned"]
