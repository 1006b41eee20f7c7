"""The n-gram branch: against plain Python and scikit-learn, in training with and without kills, saved, loaded, refused."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small_requests import THINGS, rows, write_rows, write_work

import govlm
from govlm._native import core
from govlm.data import Example, read_examples
from govlm.train.evaluate import Classifier, encode, evaluate, evaluate_encoded, predict_logits
from govlm.train.finetune import Options, SumLoss, Trainer, finetune
from govlm.train.loop import TrainError
from govlm.train.metrics import cross_entropy
from govlm.train.ngrams import FILE, NgramBranch, NgramOptions, count_ngrams, fit_branch, take_rows
from govlm.train.source import load_model

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
NAMES = sorted(THINGS)


@pytest.fixture
def work(tmp_path):
    return write_work(tmp_path, 36)


def train(work, out="out", dev=True, resume=False, refit=True, **options):
    return finetune(
        work / "train.jsonl", work / "dev.jsonl" if dev else None, model=work / "config.json", out=work / out,
        options=Options(**{"epochs": 3, "batch_size": 8, "lr": 1e-3, "seed": 1, **options}), refit=refit, resume=resume,
        progress=False,
    )  # fmt: skip


def encoded(work, items, seed=1, grams=True):
    model, tokenizer = load_model(work / "config.json", NAMES, False, None, seed)
    options = NgramOptions() if grams else None
    return model, tokenizer, encode(model, tokenizer, [Example(*r) for r in items], NAMES, False, grams=options)


# -------------------------------------------------------------------- features


def plain_grams(text, shortest, longest):
    """The n-grams of a text that needs no normalising, with its begin and end."""
    text = ["<", *text, ">"]
    grams = Counter(tuple(text[i : i + n]) for n in range(shortest, longest + 1) for i in range(len(text) - n + 1))
    return {gram: count for gram, count in grams.items() if gram not in (("<",), (">",))}


@pytest.mark.parametrize(("shortest", "longest"), [(1, 1), (1, 3), (2, 4), (8, 8)])
def test_counts_are_those_of_plain_python(shortest, longest):
    """With 2**30 buckets the few n-grams here do not collide, so each text has as many buckets as n-grams, as often."""
    texts = [t for t, _ in rows()] + ["", "a", "好" * 200]
    indices, values, splits = core.ngram_counts(texts, shortest, longest, 30)
    owner: dict[int, tuple] = {}
    for row, text in enumerate(texts):
        grams = plain_grams(text, shortest, longest)
        part = slice(splits[row], splits[row + 1])
        assert sorted(values[part]) == sorted(grams.values())
        assert (np.diff(indices[part]) > 0).all()
        for bucket in indices[part]:
            owner.setdefault(int(bucket), text)
    assert len(owner) == len({g for t in texts for g in plain_grams(t, shortest, longest)})


def test_what_looks_the_same_counts_the_same():
    pairs = [("ＡＢＣ１２３", "abc123"), ("A  B\n\tC ", "a b c"), ("Café", "cafe"), ("证\u3000件", "证 件"), ("x\u200by", "xy")]
    for one, other in pairs:
        a, b = core.ngram_counts([one, other], 1, 3, 20), core.ngram_counts([other], 1, 3, 20)
        first = take_rows(a, np.array([0]))
        assert all(np.array_equal(x, y) for x, y in zip(first, b, strict=True)), (one, other)
    assert not np.array_equal(core.ngram_counts(["办证"], 1, 2, 20)[0], core.ngram_counts(["证办"], 1, 2, 20)[0])


def test_bad_arguments_name_themselves():
    with pytest.raises(ValueError, match=r"texts\[1\]: text holds U\+D800"):
        core.ngram_counts(["a", "\ud800"], 1, 3, 20)
    with pytest.raises(TypeError, match=r"texts\[0\] must be str"):
        core.ngram_counts([1], 1, 3, 20)
    with pytest.raises(ValueError, match="bits must be"):
        core.ngram_counts(["a"], 1, 3, 40)
    counts = core.ngram_counts(["a"], 1, 3, 20)
    with pytest.raises(ValueError, match="idf has 2 in dimension 0, 1 are needed"):
        core.ngram_weigh(counts, np.zeros(1, np.int32), np.zeros(2, np.float32))
    with pytest.raises(TypeError, match="targets"):
        core.sparse_svm(counts, np.zeros((1, 2), np.int32), 4)
    with pytest.raises(IndexError, match="feature"):
        core.sparse_svm(counts, np.ones((1, 2), np.int8), 0)
    broken = (counts[0], counts[1], counts[2] + 1)
    with pytest.raises(ValueError, match="row_splits"):
        core.ngram_weigh(broken, np.zeros(1, np.int32), np.zeros(1, np.float32))


def test_take_rows_takes_rows():
    counts = core.ngram_counts([t for t, _ in rows()], 1, 3, 20)
    order = np.array([5, 0, 5, 11])
    taken = take_rows(counts, order)
    for place, row in enumerate(order):
        a, b = slice(taken[2][place], taken[2][place + 1]), slice(counts[2][row], counts[2][row + 1])
        assert np.array_equal(taken[0][a], counts[0][b]) and np.array_equal(taken[1][a], counts[1][b])


# -------------------------------------------------------------------- the branch by itself


def side_by_side(train_rows, test_rows):
    """(ours, theirs): accuracy of the branch, and of scikit-learn's linear SVM on its TF-IDF of the same n-grams."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    svm = pytest.importorskip("sklearn.svm")
    names = sorted({label for _, label in train_rows})
    labels = np.array([names.index(label) for _, label in train_rows])
    branch, _ = fit_branch(count_ngrams([t for t, _ in train_rows], NgramOptions()), labels, len(names))
    wanted = np.array([label for _, label in test_rows])
    ours = np.array(names)[branch.logits([t for t, _ in test_rows]).argmax(axis=1)]
    vectorizer = text.TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, max_features=1 << 16)
    features = vectorizer.fit_transform([t for t, _ in train_rows])
    machine = svm.LinearSVC(C=1.0).fit(features, [label for _, label in train_rows])
    theirs = machine.predict(vectorizer.transform([t for t, _ in test_rows]))
    return float((ours == wanted).mean()), float((theirs == wanted).mean())


@pytest.mark.parametrize("name", ["tnews", "smp2017"])
def test_as_good_as_scikit_learn_on_real_rows(name):
    if name == "tnews":
        files, fields = (
            [SHARED / "fewclue" / "tnews" / f"{part}_few_all.json" for part in ("train", "dev")],
            ("sentence", "label"),
        )
    else:
        files, fields = [SHARED / "smp_ecdt" / "smp2017_domain" / f"{part}.tsv" for part in ("train", "develop")], None
    if not all(file.exists() for file in files):
        pytest.skip(f"{files[0]} is missing: real data lies beside the project")
    if fields is None:
        parts = [[tuple(reversed(line.split("\t", 1))) for line in f.read_text("utf-8").splitlines() if line] for f in files]
    else:
        parts = [[(e.text, e.label) for e in read_examples(f, *fields)] for f in files]
    ours, theirs = side_by_side(*parts)
    assert ours > theirs - 0.015


def test_the_factor_makes_good_probabilities():
    """Every fourth label is wrong: the machines that have not seen a row cannot be sure of it, the one that has is."""
    counts = count_ngrams([t for t, _ in rows()], NgramOptions())
    labels = np.array([NAMES.index(c) for _, c in rows()])
    labels[::4] = (labels[::4] + 1) % 3
    branch, honest = fit_branch(counts, labels, 3)
    here = cross_entropy(honest, labels)
    assert here < np.log(3)
    for change in (0.25, 4.0):
        assert cross_entropy(honest * change, labels) > here
    assert cross_entropy(branch.logits(counts), labels) < 0.7 * here


def test_few_rows_that_are_all_right_do_not_make_it_sure_of_everything():
    counts = count_ngrams([t for t, _ in rows()], NgramOptions())
    labels = np.array([NAMES.index(c) for _, c in rows()])
    _, honest = fit_branch(counts, labels, 3)
    assert (honest.argmax(axis=1) == labels).all()
    assert 0.01 < cross_entropy(honest, labels) < 0.3


def test_same_bits_for_any_threads():
    counts = count_ngrams([t for t, _ in rows()], NgramOptions())
    labels = np.array([NAMES.index(c) for _, c in rows()])
    before, results = govlm.num_threads(), []
    try:
        for threads in (1, 2, 3):
            govlm.set_num_threads(threads)
            branch, honest = fit_branch(counts, labels, 3)
            results.append((branch.weights.tobytes(), branch.bias.tobytes(), honest.tobytes(), branch.factor))
    finally:
        govlm.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_features_are_limited_to_the_most_frequent():
    texts = [t for t, _ in rows()]
    labels = np.array([NAMES.index(c) for _, c in rows()])
    options = NgramOptions(features=50)
    counts = count_ngrams(texts, options)
    branch, _ = fit_branch(counts, labels, 3, options)
    frequency = np.bincount(counts[0], minlength=1 << 20)
    assert len(branch.buckets) == 50 and frequency[branch.buckets].min() >= np.sort(frequency)[-50]
    assert branch.weights.shape == (50, 3) and branch.nbytes == 50 * (4 + 4 + 4 + 3) + 12


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_few_rows(count):
    texts = ["甲", "乙", "丙", ""][:count]
    labels = np.arange(count) % 2
    branch, honest = fit_branch(count_ngrams(texts, NgramOptions()), labels, 2)
    assert np.isfinite(honest).all() and np.isfinite(branch.logits([*texts, "丁"])).all()


def test_rare_classes_weigh_more():
    texts = [f"甲{i}" for i in range(30)] + ["甲乙", "乙甲"]
    labels = np.array([0] * 30 + [1, 1])
    counts = count_ngrams(texts, NgramOptions())
    plain, _ = fit_branch(counts, labels, 2, NgramOptions(c=0.05))
    heavy, _ = fit_branch(counts, labels, 2, NgramOptions(c=0.05), np.array([0.53, 8.0], np.float32))
    margin = lambda b: float((b.logits(["乙"]) / b.factor)[0] @ [-1, 1])  # noqa: E731
    assert margin(heavy) > margin(plain)


# -------------------------------------------------------------------- the sum


@pytest.mark.parametrize("alone", [0.0, 0.8])
@pytest.mark.parametrize("kind", ["single", "weighted", "several"])
def test_the_gradient_of_the_sum(kind, alone):
    random_ = np.random.default_rng(0)
    logits, offset = random_.normal(size=(5, 4)), random_.normal(size=(5, 4)).astype(np.float32)
    labels = random_.integers(0, 4, 5) if kind != "several" else (random_.random((5, 4)) > 0.5).astype(np.float32)
    weights = np.array([1, 2, 0.5, 3], np.float32) if kind == "weighted" else None
    sent = {}

    class Outputs:
        def __init__(self, logits):
            self.logits = logits

        def backward(self, logits):
            sent["gradient"] = logits

    loss = SumLoss(Outputs(logits), offset, labels, weights, alone)
    if kind != "weighted":
        whole, own = cross_entropy(logits + offset, labels), cross_entropy(logits, labels)
        assert loss.item() == pytest.approx((1 - alone) * whole + alone * own)
    (loss * 0.5).backward()
    for place in np.ndindex(logits.shape):
        values = []
        for step in (1e-5, -1e-5):
            moved = logits.copy()
            moved[place] += step
            values.append(SumLoss(Outputs(moved), offset, labels, weights, alone).item())
        assert sent["gradient"][place] == pytest.approx(0.5 * (values[0] - values[1]) / 2e-5, abs=1e-6)


def test_without_an_encoders_help_the_branch_decides(work):
    """An encoder that learns nothing (rate 0) beside the branch: the answers are nearly the branch's own."""
    result = train(work, lr=0.0, epochs=1, refit=False)
    assert result["best"]["report"]["accuracy"] > 0.8
    assert result["ngrams"]["features"] > 100
    alone = train(work, "alone", lr=0.0, epochs=1, refit=False, ngrams=False)
    assert alone["best"]["report"]["accuracy"] < 0.7 and alone["ngrams"] is None
    assert not (work / "alone" / FILE).exists() and "ngrams" not in json.loads((work / "alone" / "config.json").read_text())


def test_saved_loaded_and_used(work):
    result = train(work, refit=False)
    report = evaluate(work / "out", work / "dev.jsonl")
    assert report["accuracy"] == result["best"]["report"]["accuracy"]
    assert report["loss"] == pytest.approx(result["best"]["report"]["loss"], rel=1e-6)
    entry = json.loads((work / "out" / "config.json").read_text())["ngrams"]
    assert entry["file"] == FILE and (work / "out" / FILE).stat().st_size < result["ngrams"]["bytes"] + 1000
    classifier = Classifier.from_pretrained(work / "out")
    texts = [t for t, _ in rows()[36:]]
    together = list(classifier.classify(texts))
    for text, answer in zip(texts, together, strict=True):
        (single,) = classifier.classify([text])
        assert single.label == answer.label and single.scores == pytest.approx(answer.scores, abs=1e-5)
    encoder = Classifier(classifier.model, classifier.tokenizer)
    assert [p.scores for p in encoder.classify(texts)] != [p.scores for p in together]


def test_the_branch_sees_what_the_encoder_cuts(work):
    train(work, refit=False)
    classifier = Classifier.from_pretrained(work / "out")
    head = "请问" * 40
    one, other = classifier.classify([head + "驾驶证", head + "养老金"])
    assert one.scores != other.scores and one.label == "车管" and other.label == "社保"


def test_transformers_loads_the_encoder(work):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    train(work, dev=False)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(work / "out")
    assert model.config.num_labels == 3
    ours = Classifier.from_pretrained(work / "out")
    data = encode(ours.model, ours.tokenizer, [Example(*rows()[0])], NAMES, False)
    import torch

    with torch.no_grad():
        theirs = model.eval()(torch.tensor(data.ids[None].astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(theirs, predict_logits(ours.model, data), atol=1e-4)


def test_several_labels_a_text(work):
    items = [(t, [c, "补办"] if "补" in t else [c]) for t, c in rows()]
    write_rows(work / "train.jsonl", items[:36])
    write_rows(work / "dev.jsonl", items[36:])
    result = train(work, lr=0.0, epochs=1, refit=False)
    assert result["best"]["report"]["micro_f1"] > 0.7
    (answer,) = Classifier.from_pretrained(work / "out").classify(["驾驶证丢了怎么补办"])
    assert "车管" in answer.label


def test_refitting_uses_every_row(work):
    result = train(work, epochs=4)
    best = result["best"]["epoch"]
    assert result["refit"]["rows"] == 54 and result["refit"]["epochs"] == best
    assert result["refit"]["steps"] == best * 7  # 54 rows in batches of 8
    branch = Classifier.from_pretrained(work / "out").branch
    whole, _ = fit_branch(
        count_ngrams([t for t, _ in rows()], NgramOptions()), np.array([NAMES.index(c) for _, c in rows()]), 3, seed=1
    )
    assert np.array_equal(branch.weights, whole.weights) and np.array_equal(branch.buckets, whole.buckets)
    chosen = train(work, "chosen", epochs=4, refit=False)
    assert chosen["best"] == result["best"] and chosen["refit"] is None
    assert (work / "chosen" / "model.safetensors").read_bytes() != (work / "out" / "model.safetensors").read_bytes()


def test_stopped_in_either_training_and_resumed(work, monkeypatch):
    options = {"epochs": 3, "save_steps": 2}
    train(work, "straight", **options)
    wanted = [(work / "straight" / name).read_bytes() for name in ("model.safetensors", FILE, "config.json")]
    step, stops, fits = Trainer._step, [4, 12, 18, 30], []

    def stopping(self):
        stopping.count += 1
        if stops and stopping.count == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return step(self)

    def counted(*arguments):
        fits.append(len(arguments[1]))
        return fit_branch(*arguments)

    stopping.count = 0
    monkeypatch.setattr(Trainer, "_step", stopping)
    monkeypatch.setattr("govlm.train.finetune.fit_branch", counted)
    for _ in range(6):
        try:
            train(work, "stopped", resume=True, **options)
            break
        except KeyboardInterrupt:
            pass
    assert [(work / "stopped" / name).read_bytes() for name in ("model.safetensors", FILE, "config.json")] == wanted
    assert sorted(fits) == [36, 54]  # what a checkpoint holds is not fitted again


def test_resume_refuses_other_ngrams(work):
    train(work, epochs=1)
    with pytest.raises(TrainError, match=r"made with ngrams=True, this run has False"):
        train(work, epochs=1, resume=True, ngrams=False)
    with pytest.raises(TrainError, match="ngram_longest"):
        train(work, epochs=1, resume=True, ngram_longest=3)


def test_another_fine_tuning_drops_the_old_branch(work):
    train(work, dev=False)
    finetune(
        work / "train.jsonl", model=work / "out", out=work / "next", options=Options(epochs=1, ngrams=False), progress=False
    )
    assert Classifier.from_pretrained(work / "next").branch is None and not (work / "next" / FILE).exists()


def test_a_trainer_without_ngrams_is_as_before(work):
    model, tokenizer, data = encoded(work, rows()[:36], grams=False)
    trainer = Trainer(model, tokenizer, data, options=Options(epochs=1), progress=False)
    trainer.train()
    assert trainer.branch is None and data.offset is None and not hasattr(model.config, "ngrams")


def test_a_trainer_given_ngrams_in_the_train_rows_only(work):
    model, tokenizer, data = encoded(work, rows()[:36])
    dev = encode(model, tokenizer, [Example(*r) for r in rows()[36:]], NAMES, False)
    with pytest.raises(TrainError, match="encode both with grams="):
        Trainer(model, tokenizer, data, dev, Options(epochs=1), progress=False)


def test_in_memory(work):
    model, tokenizer, data = encoded(work, rows()[:36])
    dev = encode(model, tokenizer, [Example(*r) for r in rows()[36:]], NAMES, False, grams=NgramOptions())
    trainer = Trainer(model, tokenizer, data, dev, Options(epochs=2, lr=1e-3), progress=False)
    result = trainer.train()
    assert evaluate_encoded(model, dev)["loss"] == result["best"]["report"]["loss"]
    (answer,) = Classifier(model, tokenizer, branch=trainer.branch).classify([rows()[0][0]])
    assert answer.label == rows()[0][1]


def damage(kind, folder):
    file, config = folder / FILE, folder / "config.json"
    if kind == "missing":
        file.unlink()
    elif kind == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif kind == "entry":
        config.write_text(config.read_text().replace('"longest"', '"largest"'))
    elif kind == "tensor":
        tensors = {k: np.array(v) for k, v in govlm.load_file(file).items() if k != "idf"}
        govlm.save_file(tensors, file)
    elif kind == "shape":
        tensors = {k: np.array(v) for k, v in govlm.load_file(file).items()}
        govlm.save_file({**tensors, "bias": tensors["bias"][:2]}, file)
    elif kind == "path":
        config.write_text(config.read_text().replace(FILE, "../" + FILE))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"n-gram branch that config\.json names is missing"),
        ("cut", "truncated"),
        ("entry", "entry 'ngrams' is malformed"),
        ("tensor", "tensor 'idf' is missing"),
        ("shape", r"tensor 'bias' has shape \[2\], \[3\] is needed"),
        ("path", "must be a file name"),
    ],
)
def test_a_damaged_branch_is_refused(work, kind, message):
    train(work, dev=False, epochs=1)
    damage(kind, work / "out")
    with pytest.raises((ValueError, OSError), match=message):
        Classifier.from_pretrained(work / "out")


def test_saving_is_loading(tmp_path):
    labels = np.array([NAMES.index(c) for _, c in rows()])
    branch, _ = fit_branch(count_ngrams([t for t, _ in rows()], NgramOptions()), labels, 3)
    branch.save(tmp_path)
    again = NgramBranch.load(tmp_path, json.loads(json.dumps(branch.entry())))
    texts = ["驾驶证丢了", "", "全新的话"]
    assert np.array_equal(branch.logits(texts), again.logits(texts))


def test_the_command_says_so_and_can_be_told_no(work):
    def command(out, *extra):
        arguments = ["--train", "train.jsonl", "--dev", "dev.jsonl", "--model", "config.json", "--out", out, "--epochs", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "govlm", "finetune", *arguments, *extra],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = command("a")
    assert "n-gram branch: " in shown and "trained again on train and dev rows, 54 in all" in shown
    shown = command("b", "--no-ngrams", "--no-refit")
    assert "n-gram" not in shown and "again" not in shown
    shutil.rmtree(work / "b")
    done = subprocess.run(
        [sys.executable, "-m", "govlm", "finetune", "--train", "train.jsonl", "--model", "config.json", "--out", "b", "--ngram-c", "0"],
        cwd=work, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and "--ngram-c must be above 0" in done.stderr


def test_a_quantised_folder_keeps_its_branch(work, tmp_path):
    from govlm.train.quantise import quantise_folder

    train(work, "sum")
    quantise_folder(tmp_path / "sum", tmp_path / "small")
    texts = [json.loads(line)["text"] for line in (work / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    before, after = (list(Classifier.from_pretrained(tmp_path / name).classify(texts)) for name in ("sum", "small"))
    assert [p.label for p in after] == [p.label for p in before]
    assert Classifier.from_pretrained(tmp_path / "small").branch is not None
