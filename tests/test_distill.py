"""Distillation: every loss and gradient, the teacher's cache, resume, students of several kinds, the commands."""

import itertools
import json
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import govlm
from govlm.data import Example
from govlm.train.distill import DistillOptions, DistillTrainer, Projections, distill, layer_map, student_of
from govlm.train.evaluate import encode, encode_texts, evaluate
from govlm.train.finetune import Options, finetune
from govlm.train.loop import TrainError
from govlm.train.losses import cross_entropy, mean_square, multi_label_kl, relation_kl, softmax_kl
from govlm.train.source import load_model
from govlm.train.teacher import Teacher, Wanted, model_digest, run_taps

THINGS = {"户籍": ["户口本", "身份证", "居住证"], "社保": ["养老金", "医保卡", "失业金"], "车管": ["驾驶证", "行驶证", "车牌"]}
WAYS = ["{}丢了怎么补办", "想问一下{}在哪里办", "办{}要带什么材料", "{}多久能办好", "我的{}过期了", "请帮我查{}的进度"]
ROWS = [(way.format(thing), label) for label, things in THINGS.items() for thing in things for way in WAYS]
NAMES = sorted(THINGS)
BASE = {"model_type": "bert", "max_position_embeddings": 32, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
LARGE = {**BASE, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
SMALL = {**BASE, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with train.jsonl, dev.jsonl, texts.txt, vocab.txt, two configs, and a trained teacher in it."""
    folder = tmp_path_factory.mktemp("distill")
    rows = list(ROWS)
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[:40]), ("dev", rows[40:])):
        lines = [json.dumps({"text": t, "label": c}, ensure_ascii=False) + "\n" for t, c in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "texts.txt").write_text("".join(f"请问{t}\n" for t, _ in rows), encoding="utf-8")
    characters = sorted({c for t, _ in ROWS for c in t} | set("请问"))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]) + "\n", "utf-8")
    for name, config in (("large", LARGE), ("small", SMALL)):
        (folder / f"{name}.json").write_text(json.dumps(config))
    finetune(
        folder / "train.jsonl", folder / "dev.jsonl", model=folder / "large.json", vocab=folder / "vocab.txt",
        out=folder / "teacher", options=Options(epochs=20, batch_size=8, lr=2e-3, seed=1, ngrams=False), refit=False, progress=False,
    )  # fmt: skip
    return folder


def models(work, student=SMALL, labels=NAMES):
    """(teacher, student, tokenizer), both random."""
    (work / "one.json").write_text(json.dumps(student))
    teacher, tokenizer = load_model(work / "large.json", labels, False, work / "vocab.txt", 1)
    return teacher, load_model(work / "one.json", labels, False, work / "vocab.txt", 2)[0], tokenizer


def labelled(model, tokenizer, rows=ROWS):
    return encode(model, tokenizer, [Example(*r) for r in rows], NAMES, False)


def numeric(f, x, step=1e-5):
    out = np.zeros(x.shape)
    for place in itertools.product(*map(range, x.shape)):
        there = x[place]
        x[place] = there + step
        above = f()
        x[place] = there - step
        out[place] = (above - f()) / (2 * step)
        x[place] = there
    return out


# -------------------------------------------------------------------- losses


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_losses_by_finite_differences(temperature):
    r = np.random.default_rng(0)
    s, t = r.standard_normal((3, 4)), r.standard_normal((3, 4))
    labels, several = np.array([1, 0, 3]), (r.random((3, 4)) < 0.5).astype(np.float32)
    for f in (
        lambda: softmax_kl(s, t, temperature),
        lambda: multi_label_kl(s, t, temperature),
        lambda: cross_entropy(s, labels),
        lambda: cross_entropy(s, several),
        lambda: mean_square(s, t),
    ):
        np.testing.assert_allclose(numeric(lambda f=f: f()[0].sum(), s), f()[1], atol=1e-8)
    assert softmax_kl(t, t, temperature)[0] == pytest.approx(0) and multi_label_kl(t, t)[0] == pytest.approx(0)


@pytest.mark.parametrize("kind", ["qq", "qk"])
def test_relations_by_finite_differences(kind):
    r = np.random.default_rng(1)
    q, k = r.standard_normal((4, 6)), r.standard_normal((4, 6))
    teacher = r.standard_normal((4, 12)), r.standard_normal((4, 12))
    if kind == "qq":
        value, da, db = relation_kl((q, q), teacher, 3)
        np.testing.assert_allclose(numeric(lambda: relation_kl((q, q), teacher, 3)[0], q), da + db, atol=1e-8)
    else:
        value, da, db = relation_kl((q, k), teacher, 3)
        np.testing.assert_allclose(numeric(lambda: relation_kl((q, k), teacher, 3)[0], q), da, atol=1e-8)
        np.testing.assert_allclose(numeric(lambda: relation_kl((q, k), teacher, 3)[0], k), db, atol=1e-8)
    assert value > 0 and relation_kl(teacher, teacher, 4)[0] == pytest.approx(0, abs=1e-14)


def test_relations_in_float32_are_those_in_float64():
    """Also of a text so long that its products are cut into tiles."""
    r = np.random.default_rng(5)
    for tokens in (9, 150):
        arrays = [r.standard_normal((tokens, width)) for width in (24, 24, 48, 48)]
        exact = relation_kl(tuple(arrays[:2]), tuple(arrays[2:]), 4)
        short = [x.astype(np.float32) for x in arrays]
        value, da, db = relation_kl(tuple(short[:2]), tuple(short[2:]), 4)
        assert da.dtype == np.float32 and value == pytest.approx(exact[0], rel=1e-5)
        np.testing.assert_allclose(da, exact[1], atol=1e-7)
        np.testing.assert_allclose(db, exact[2], atol=1e-7)


def test_losses_against_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    r = np.random.default_rng(2)
    s, t = r.standard_normal((5, 7)), r.standard_normal((5, 7))
    x = torch.tensor(s, requires_grad=True)
    kl = F.kl_div(F.log_softmax(x / 2, -1), F.log_softmax(torch.tensor(t) / 2, -1), reduction="batchmean", log_target=True) * 4
    kl.backward()
    losses, gradient = softmax_kl(s, t, 2.0)
    assert losses.mean() == pytest.approx(kl.item(), rel=1e-12)
    np.testing.assert_allclose(gradient / 5, x.grad.numpy(), atol=1e-12)
    # relations as the paper writes them: heads cut from the concatenated width, mean over heads and tokens
    arrays = [r.standard_normal((5, 12)), r.standard_normal((5, 12)), r.standard_normal((5, 24)), r.standard_normal((5, 24))]
    a, b, c, d = (torch.tensor(y, requires_grad=True) for y in arrays)
    cut = lambda y: y.reshape(5, 3, -1).transpose(0, 1)  # noqa: E731
    relation = lambda y, z: F.log_softmax(cut(y) @ cut(z).transpose(1, 2) / (y.shape[1] / 3) ** 0.5, -1)  # noqa: E731
    loss = F.kl_div(relation(a, b), relation(c, d), reduction="sum", log_target=True) / 15
    loss.backward()
    value, da, db = relation_kl(tuple(arrays[:2]), tuple(arrays[2:]), 3)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(da, a.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(db, b.grad.numpy(), atol=1e-12)


def test_queries_and_keys_give_the_attention_probabilities(work):
    """What the taps hold is what attention computes with: the relation "qk" is the core's own distribution."""
    _, student, tokenizer = models(work)
    texts = encode_texts(student, tokenizer, [ROWS[0][0], ROWS[9][0]])
    done, found = run_taps(student, texts, Wanted(projections=(("query", 2), ("key", 2))), attentions=True)
    for b, (begin, end) in enumerate(itertools.pairwise(texts.row_splits.tolist())):
        q, k = (found[n, 2][begin:end].reshape(end - begin, 2, 12).transpose(1, 0, 2) for n in ("query", "key"))
        z = q @ k.transpose(0, 2, 1) / 12**0.5
        p = np.exp(z - z.max(-1, keepdims=True))
        np.testing.assert_allclose(p / p.sum(-1, keepdims=True), done.attention(1, b), atol=1e-6)
    with pytest.raises(IndexError, match=r"it is \(layer"):
        done.projection(2, "query")
    with pytest.raises(IndexError):
        done.projection(0, "quary")
    done.backward(logits=np.zeros_like(done.logits))
    with pytest.raises(RuntimeError, match="backward was called"):
        done.projection(0, "query")


CASES = {
    "logits": {},
    "hidden": {"logits": 0, "hidden": 1.0},
    "MiniLM": {"logits": 0, "relations": 1.0, "relation_kinds": ("qk", "vv"), "relation_heads": 2},
    "MiniLMv2": {"logits": 0, "relations": 1.0, "relation_heads": 6, "relation_layers": "1:3,2:4"},
    "all": {"hidden": 0.5, "relations": 2.0, "hidden_layers": "0:0,1:2,2:4", "label_share": 0.3},
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_through_the_core(work, case):
    """Directional derivative of a step's loss, with dropout on, along a random direction of all parameters."""
    teacher, student, tokenizer = models(work)
    data = labelled(student, tokenizer, ROWS[:8])
    labels = np.where(np.arange(8) < 5, data.labels, -1)
    options = DistillOptions(epochs=1, batch_size=8, **CASES[case])
    trainer = DistillTrainer(student, tokenizer, teacher, data, labels, options, progress=False)
    (part,) = trainer._parts(0)
    parameters = dict(student.named_parameters())

    def loss():
        return trainer._loss(part)[0]

    loss().backward()
    gradients = {n: np.array(p.grad, np.float64) for n, p in parameters.items() if p.grad is not None}
    assert any("layer.0.attention.self.query.weight" in n for n in gradients)
    r = np.random.default_rng(3)
    direction = {n: r.standard_normal(g.shape) for n, g in gradients.items()}
    slope = sum(float((g * direction[n]).sum()) for n, g in gradients.items())
    ends = []
    start = {n: np.array(parameters[n].data) for n in gradients}
    for sign in (1, -1):
        for n in gradients:
            parameters[n].data[...] = start[n] + sign * 3e-4 * direction[n]
        ends.append(loss().item())
    assert (ends[0] - ends[1]) / 6e-4 == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_gradient_of_the_projections(work):
    teacher, student, tokenizer = models(work)
    data = labelled(student, tokenizer, ROWS[:3])
    options = DistillOptions(logits=0, hidden=1.0, hidden_layers="last")
    trainer = DistillTrainer(student, tokenizer, teacher, data, None, options, progress=False)
    weight = trainer.projections.weights[2]
    assert weight.shape == (24, 48) and list(trainer.projections.weights) == [2]
    _, found = run_taps(student, data, trainer.wanted)
    theirs = trainer.teacher.take(np.arange(3))
    call = lambda: trainer.losses(found, theirs, data.row_splits, None, np.zeros(3, bool))  # noqa: E731
    gradient = call()[1]["projection", 2]
    for place in ((0, 0), (7, 20), (23, 47)):
        there = weight[place]
        ends = []
        for sign in (1, -1):
            weight[place] = there + sign * np.float32(1e-2)
            ends.append(call()[0])
        weight[place] = there
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(gradient[place], rel=1e-3, abs=1e-7)


def test_the_projections_adamw_against_torch():
    torch = pytest.importorskip("torch")
    ours = Projections([1, 2], 3, 4, seed=0)
    theirs = [torch.tensor(w.copy(), requires_grad=True) for w in ours.weights.values()]
    optimizer = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    r = np.random.default_rng(0)
    for _ in range(5):
        for tensor, gradient in zip(theirs, ours.gradients.values(), strict=True):
            gradient[...] = r.standard_normal(gradient.shape)
            tensor.grad = torch.tensor(gradient, dtype=torch.float32)
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        optimizer.step()
        ours.step(0.01, 0.1, 1.0)
    for tensor, weight in zip(theirs, ours.weights.values(), strict=True):
        np.testing.assert_allclose(weight, tensor.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_labels_and_teacher_share_the_loss(work):
    """An unlabelled row learns from the teacher only; label_share 1 on labelled rows from the label only."""
    teacher, student, tokenizer = models(work)
    data = labelled(student, tokenizer, ROWS[:4])
    trainer = DistillTrainer(
        student, tokenizer, teacher, data, np.array([0, 1, -1, -1]), DistillOptions(label_share=1.0), progress=False
    )
    assert trainer.labelled.tolist() == [True, True, False, False]
    s, t = np.random.default_rng(0).standard_normal((2, 4, 3))
    value, taps = trainer.losses({("logits", 0): s}, {("logits", 0): t}, data.row_splits, trainer.labels, trainer.labelled)
    hard, soft = cross_entropy(s[:2], np.array([0, 1])), softmax_kl(s[2:], t[2:], 2.0)
    assert value == pytest.approx((hard[0].sum() + soft[0].sum()) / 4)
    np.testing.assert_allclose(taps["logits", 0] * 4, np.concatenate([hard[1], soft[1]]))


def test_layer_maps():
    assert layer_map("uniform", 4, 12, 0) == {0: 0, 1: 3, 2: 6, 3: 9, 4: 12}
    assert layer_map("uniform", 3, 4, 1) == {1: 1, 2: 3, 3: 4}
    assert layer_map("last", 4, 12, 1) == {4: 12}
    assert layer_map("1:3, 2:6", 2, 6, 1) == {1: 3, 2: 6}
    for text in ("3:1", "0:1", "1:7", "1", "a:b"):
        with pytest.raises(TrainError, match="layers"):
            layer_map(text, 2, 6, 1)


# -------------------------------------------------------------------- the teacher's cache

ALL = Wanted(True, (0, 2, 4), (("key", 3), ("value", 3)))


def test_cached_outputs_are_the_teachers(work, tmp_path):
    teacher, _, tokenizer = models(work)
    data = labelled(teacher, tokenizer)
    fresh = Teacher(teacher, data, ALL, None, "float32")
    rows = np.array([40, 3, 3, 17])
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3)):
        kept = Teacher(teacher, data, ALL, tmp_path, dtype).take(rows)
        for key, value in fresh.take(rows).items():
            assert kept[key].dtype == np.float32
            np.testing.assert_allclose(kept[key], value, rtol=tolerance, atol=tolerance)


class Stop(Exception):
    pass


def test_the_cache_goes_on_after_a_break_and_is_used_again(work, tmp_path, monkeypatch):
    teacher, _, tokenizer = models(work)
    data = labelled(teacher, tokenizer, ROWS * 30)
    whole = Teacher(teacher, data, ALL, tmp_path / "a")
    original, seen = Teacher._compute, []

    def broken(self, rows):
        if len(seen) == 40:
            raise Stop
        seen.append(rows[0])
        return original(self, rows)

    monkeypatch.setattr(Teacher, "_compute", broken)
    with pytest.raises(Stop):
        Teacher(teacher, data, ALL, tmp_path / "b")
    monkeypatch.setattr(Teacher, "_compute", lambda self, rows: seen.append(rows[0]) or original(self, rows))
    again = Teacher(teacher, data, ALL, tmp_path / "b")
    assert seen[40] == 32 * 32  # of 40 blocks done, 32 had been counted in the manifest
    for file in sorted(whole.folder.glob("*.bin")):
        assert file.read_bytes() == (again.folder / file.name).read_bytes()
    count = len(seen)
    Teacher(teacher, data, ALL, tmp_path / "b")
    assert len(seen) == count  # nothing is computed again
    victim = again.folder / "hidden-2.bin"
    victim.write_bytes(victim.read_bytes()[:1000])
    Teacher(teacher, data, ALL, tmp_path / "b")
    assert victim.read_bytes() == (whole.folder / "hidden-2.bin").read_bytes()
    (again.folder / "manifest.json").write_text("{")
    Teacher(teacher, data, ALL, tmp_path / "b")
    assert json.loads((again.folder / "manifest.json").read_text())["done"] == len(data)


def test_a_full_disk_is_one_line_and_what_is_written_stays(work, tmp_path):
    teacher, _, tokenizer = models(work)
    data = labelled(teacher, tokenizer, ROWS * 5)
    whole = Teacher(teacher, data, ALL, tmp_path / "a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as a disk that takes no more
    try:
        with pytest.raises(OSError, match=r"cannot keep the teacher's outputs in .*free some space"):
            Teacher(teacher, data, ALL, tmp_path / "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again = Teacher(teacher, data, ALL, tmp_path / "b")
    for file in whole.folder.glob("*.bin"):
        assert file.read_bytes() == (again.folder / file.name).read_bytes()


def test_the_cache_of_another_teacher_or_other_data_is_not_taken(work, tmp_path):
    teacher, _, tokenizer = models(work)
    data = labelled(teacher, tokenizer)
    one = Teacher(teacher, data, ALL, tmp_path)
    digest = model_digest(teacher)
    assert Teacher(teacher, data.take(range(5)), ALL, tmp_path).folder != one.folder
    assert Teacher(teacher, data, Wanted(True), tmp_path).folder != one.folder
    next(iter(teacher.parameters())).data[0, 0] += 1
    assert model_digest(teacher) != digest and Teacher(teacher, data, ALL, tmp_path).folder != one.folder


# -------------------------------------------------------------------- runs


def run(work, out, student, **options):
    given = {"train": work / "train.jsonl", "dev": work / "dev.jsonl"} if options.pop("labelled", True) else {}
    texts = options.pop("texts", ())
    more = {k: options.pop(k) for k in ("cache", "held_out", "resume") if k in options}
    defaults = {"epochs": 30, "batch_size": 8, "lr": 3e-3, "seed": 1, "label_share": 0.3}
    return distill(
        work / "teacher", student, out=out, texts=texts, options=DistillOptions(**{**defaults, **options}), progress=False,
        **given, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def texts(work):
    return (work / "texts.txt").read_text(encoding="utf-8").splitlines()


def test_a_small_student_learns(work, tmp_path, texts):
    result = run(work, tmp_path / "out", work / "small.json", texts=texts, cache=tmp_path / "cache")
    assert result["teacher"]["accuracy"] >= 0.8
    assert result["best"]["report"]["accuracy"] >= 0.75
    assert result["rows"] == 94 and result["labelled"] == 40
    report = evaluate(tmp_path / "out", work / "dev.jsonl")
    assert report["accuracy"] == result["best"]["report"]["accuracy"]
    assert not [p.name for p in (tmp_path / "out").iterdir() if "projection" in p.name or p.name == "optimizer.safetensors"]


def test_a_teacher_with_a_branch_is_refused(work, tmp_path):
    finetune(
        work / "train.jsonl", work / "dev.jsonl", model=work / "small.json", vocab=work / "vocab.txt", out=tmp_path / "sum",
        options=Options(epochs=1, batch_size=8, seed=1), progress=False,
    )  # fmt: skip
    with pytest.raises(TrainError, match=r"n-gram branch.*--no-ngrams"):
        distill(tmp_path / "sum", work / "small.json", out=tmp_path / "out", train=work / "train.jsonl", progress=False)


def test_unlabelled_texts_alone_bring_the_student_to_the_teacher(work, tmp_path, texts):
    """No label is seen: the student learns the teacher's answers, and the distance on texts kept aside falls."""
    result = run(work, tmp_path / "out", 2, texts=texts, labelled=False, held_out=14, metric="loss", epochs=12)
    distances = [entry["distance"] for entry in result["history"]]
    assert distances[-1] < distances[0] / 2 and result["labelled"] == 0 and result["rows"] == 40
    assert evaluate(tmp_path / "out", work / "dev.jsonl")["accuracy"] >= 0.75


@pytest.mark.filterwarnings("ignore:.*does not use")  # the classifier's head
@pytest.mark.parametrize(
    "losses", [{"hidden": 1.0}, {"relations": 1.0, "relation_heads": 4}, {"hidden": 1.0, "relations": 1.0}]
)
def test_task_agnostic_on_a_corpus(work, tmp_path, texts, losses):
    """An encoder without labels: the distance to the teacher on held-out texts falls."""
    encoder = govlm.AutoModel.from_pretrained(str(work / "teacher"), add_pooling_layer=False)
    encoder.save_pretrained(tmp_path / "encoder")
    govlm.AutoTokenizer.from_pretrained(str(work / "teacher")).save_pretrained(str(tmp_path / "encoder"))
    result = distill(
        tmp_path / "encoder", work / "small.json", out=tmp_path / "out", texts=texts, held_out=10, progress=False,
        options=DistillOptions(epochs=8, batch_size=8, lr=3e-3, **losses), cache=tmp_path / "cache",
    )  # fmt: skip
    distances = [entry["distance"] for entry in result["history"]]
    assert distances[-1] < 0.8 * distances[0]
    model = govlm.AutoModel.from_pretrained(str(tmp_path / "out"), add_pooling_layer=False)
    assert model.config.hidden_size == 24 and model.encode([texts[0]]).shape == (1, 24)


def masked_pair(work):
    """(a masked language model that teaches, a smaller one, tokenizer)"""
    teacher, student, tokenizer = models(work)
    return govlm.BertForMaskedLM.from_config(teacher.config), govlm.BertForMaskedLM.from_config(student.config), tokenizer


def test_masked_tokens_gradient_through_the_core(work):
    teacher, student, tokenizer = masked_pair(work)
    data = encode_texts(student, tokenizer, [t for t, _ in ROWS[:6]])
    trainer = DistillTrainer(
        student, tokenizer, teacher, data, None, DistillOptions(batch_size=8, temperature=1.5), progress=False
    )
    (part,) = trainer._parts(0)
    assert part.arguments["masked"] and not trainer.wanted.outputs()
    parameters = dict(student.named_parameters())
    trainer._loss(part)[0].backward()
    gradients = {n: np.array(p.grad, np.float64) for n, p in parameters.items() if p.grad is not None}
    r = np.random.default_rng(3)
    direction = {n: r.standard_normal(g.shape) for n, g in gradients.items()}
    slope = sum(float((g * direction[n]).sum()) for n, g in gradients.items())
    ends, start = [], {n: np.array(parameters[n].data) for n in gradients}
    for sign in (1, -1):
        for n in gradients:
            parameters[n].data[...] = start[n] + sign * 3e-4 * direction[n]
        ends.append(trainer._loss(part)[0].item())
    assert (ends[0] - ends[1]) / 6e-4 == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_a_masked_language_model_teaches_one(work, tmp_path, texts):
    teacher, _, tokenizer = masked_pair(work)
    teacher.save_pretrained(tmp_path / "mlm")
    tokenizer.save_pretrained(str(tmp_path / "mlm"))
    result = distill(
        tmp_path / "mlm", work / "small.json", out=tmp_path / "out", texts=texts, held_out=10, progress=False,
        options=DistillOptions(epochs=10, batch_size=8, lr=3e-3, label_share=0, relations=0.1, relation_heads=4),
    )  # fmt: skip
    distances = [entry["distance"] for entry in result["history"]]
    assert distances[-1] < distances[0]
    assert type(govlm.AutoModelForMaskedLM.from_pretrained(str(tmp_path / "out"))).__name__ == "BertForMaskedLM"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]


def test_a_student_of_the_teachers_layers_starts_as_the_teacher(work):
    teacher = govlm.AutoModelForSequenceClassification.from_pretrained(str(work / "teacher"))
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(work / "teacher"))
    batch = tokenizer([ROWS[0][0]], return_tensors="np")
    np.testing.assert_array_equal(student_of(teacher, 4)(**batch).logits, teacher(**batch).logits)
    half = student_of(teacher, 2)
    theirs, ours = dict(teacher.named_parameters()), dict(half.named_parameters())
    for layer, source in ((0, 1), (1, 3)):
        name = "bert.encoder.layer.{}.output.dense.weight"
        np.testing.assert_array_equal(ours[name.format(layer)].data, theirs[name.format(source)].data)
    assert half.config.id2label == teacher.config.id2label and half.config.num_hidden_layers == 2
    with pytest.raises(TrainError, match=r"1\.\.4"):
        student_of(teacher, [5])


def test_cached_or_not_the_student_learns_the_same(work, tmp_path, texts):
    """float32 in the cache: the same losses but for rounding."""
    options = {"epochs": 2, "hidden": 1.0, "cache_dtype": "float32"}
    one = run(work, tmp_path / "a", work / "small.json", **options)
    two = run(work, tmp_path / "b", work / "small.json", cache=tmp_path / "cache", **options)
    for a, b in zip(one["history"], two["history"], strict=True):
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-3)


def test_another_vocabulary_learns_from_logits_only(work, tmp_path, texts):
    lines = (work / "vocab.txt").read_text(encoding="utf-8").splitlines()
    student, _ = load_model(work / "small.json", NAMES, False, work / "vocab.txt", 3)
    student.save_pretrained(tmp_path / "own")
    (tmp_path / "vocab.txt").write_text("\n".join([*lines[:5], *reversed(lines[5:])]) + "\n", encoding="utf-8")
    govlm.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(str(tmp_path / "own"))
    result = run(work, tmp_path / "out", tmp_path / "own", texts=texts)
    assert result["history"][-1]["train_loss"] < result["history"][0]["train_loss"] / 2
    assert evaluate(tmp_path / "out", work / "dev.jsonl")["accuracy"] >= 0.6
    with pytest.raises(TrainError, match="the teacher's own vocabulary"):
        run(work, tmp_path / "x", tmp_path / "own", hidden=1.0)


def test_refusals(work, tmp_path):
    with pytest.raises(TrainError, match="nothing to learn from"):
        run(work, tmp_path / "x", work / "small.json", logits=0)
    with pytest.raises(TrainError, match="relation_heads"):
        run(work, tmp_path / "x", work / "small.json", relations=1.0, relation_heads=7)
    with pytest.raises(TrainError, match="no texts"):
        run(work, tmp_path / "x", work / "small.json", labelled=False)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        DistillOptions(temperature=0).check()
    teacher, student, tokenizer = models(work, labels=NAMES)
    encoder = govlm.AutoModel.from_config(student.config)
    with pytest.raises(TrainError, match="nothing to learn from"):
        DistillTrainer(encoder, tokenizer, teacher, labelled(student, tokenizer), progress=False)


# -------------------------------------------------------------------- the command, killed


def command(out, *extra):
    return [
        sys.executable, "-m", "govlm", "distill", "--teacher", "teacher", "--student", "small.json", "--train", "train.jsonl",
        "--dev", "dev.jsonl", "--texts", "texts.txt", "--out", str(out), "--cache", f"{out}-cache", "--epochs", "4",
        "--batch-size", "8", "--accumulate", "2", "--hidden", "0.5", "--relations", "1", "--relation-heads", "4", "--lr", "3e-3",
        "--save-steps", "3", "--seed", "2", "--json", *extra,
    ]  # fmt: skip


def call(work, *arguments, code=0):
    done = subprocess.run(arguments, cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def test_killed_and_resumed_gives_the_same_bits(work, tmp_path):
    straight = json.loads(call(work, *command(tmp_path / "straight")).stdout)
    for lines in (4, 13):
        process = subprocess.Popen(command(tmp_path / "killed", "--resume"), cwd=work, stdout=subprocess.DEVNULL)
        log, deadline = tmp_path / "killed" / "log.jsonl", time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_text().count("\n") >= lines:
                process.kill()
            time.sleep(0.001)
        assert process.wait() == -signal.SIGKILL
    result = json.loads(call(work, *command(tmp_path / "killed", "--resume")).stdout)
    assert result["history"] == straight["history"] and result["best"] == straight["best"]
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("straight", "killed"))
    assert one == two
    (work / "other.json").write_text(json.dumps({**SMALL, "intermediate_size": 64}))
    other = call(work, *command(tmp_path / "killed", "--resume", "--student", "other.json"), code=1).stderr
    assert "intermediate_size=48, this model has 64" in other
    assert "hidden=0.5" in call(work, *command(tmp_path / "killed", "--resume", "--hidden", "2"), code=1).stderr


def test_threads_do_not_change_a_bit(work):
    before, found = govlm.num_threads(), []
    try:
        for threads in (1, 3):
            govlm.set_num_threads(threads)
            teacher, student, tokenizer = models(work)
            options = DistillOptions(epochs=1, batch_size=16, lr=1e-3, hidden=1.0, relations=1.0, relation_heads=4)
            data = labelled(student, tokenizer)
            trainer = DistillTrainer(student, tokenizer, teacher, data, data.labels, options, progress=False)
            found.append([trainer._step() for _ in range(trainer.total_steps)])
    finally:
        govlm.set_num_threads(before)
    assert found[0] == found[1]


def test_relations_of_long_texts_do_not_depend_on_the_threads_either(work):
    """They are computed by several threads; the sums keep the order of the texts."""
    teacher, student, tokenizer = models(work)
    options = DistillOptions(logits=0, relations=1.0, relation_heads=4, relation_kinds=("qk", "vv"))
    trainer = DistillTrainer(student, tokenizer, teacher, labelled(student, tokenizer), None, options, progress=False)
    r, splits = np.random.default_rng(0), np.array([0, 70, 70, 75, 300])
    sides = ("query", "key", "value")
    ours, theirs = ({(n, at): r.standard_normal((300, w)).astype(np.float32) for n in sides} for at, w in ((2, 24), (4, 48)))
    before, found = govlm.num_threads(), []
    try:
        for threads in (1, 3):
            govlm.set_num_threads(threads)
            found.append(trainer.losses(ours, theirs, splits, None, np.zeros(4, bool)))
    finally:
        govlm.set_num_threads(before)
    assert found[0][0] == found[1][0] > 0
    assert {k: v.tobytes() for k, v in found[0][1].items()} == {k: v.tobytes() for k, v in found[1][1].items()}
    assert np.any(found[0][1]["query", 2][70:75]) and len(found[0][1]) == 3


def test_the_command_for_people(work, tmp_path):
    arguments = [a for a in command(tmp_path / "out", "--relation-kinds", "qk,vv", "--student-layers", "2") if a != "--json"]
    at = arguments.index("--student")
    shown = call(work, *arguments[:at], *arguments[at + 2 :]).stdout
    assert "teacher" in shown and "student" in shown and "model written to" in shown
    assert "either --student" in call(work, *command(tmp_path / "x", "--student-layers", "2"), code=2).stderr
