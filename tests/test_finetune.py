"""Fine-tuning: it learns, it gives the same bits whatever the threads, the batches or the kills, and it stops well."""

import hashlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from killed_runs import finish, logged, wait_for
from small_requests import THINGS, rows, write_rows, write_work

import govlm
from govlm.data import DataError
from govlm.train.checkpoints import Checkpoints, read_tensors, write_tensors
from govlm.train.evaluate import Classifier, encode, evaluate, evaluate_encoded
from govlm.train.finetune import Options, Trainer, finetune
from govlm.train.loop import NonFiniteError, TrainError


@pytest.fixture
def work(tmp_path):
    """A folder with train.jsonl (42 rows), dev.jsonl (12 rows), config.json and vocab.txt."""
    return write_work(tmp_path, 42)


FAST = {"epochs": 12, "batch_size": 8, "lr": 3e-3, "seed": 1}


def train(work, out="out", dev=True, resume=False, **options):
    """A run of the encoder alone, not fitted again: the n-gram branch has tests of its own (test_ngrams.py)."""
    return finetune(
        work / "train.jsonl",
        work / "dev.jsonl" if dev else None,
        model=work / "config.json",
        out=work / out,
        options=Options(**{**FAST, "ngrams": False, **options}),
        refit=False,
        resume=resume,
        progress=False,
    )


def losses(out):
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["grad_norm"]) for r in records if "loss" in r and "step" in r]


def weights(out):
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def test_it_learns_and_what_it_writes_can_be_used(work):
    result = train(work, epochs=20, batch_size=4)
    assert result["best"]["report"]["accuracy"] >= 0.8
    assert result["history"][-1]["train_loss"] < 0.5 < result["history"][0]["train_loss"]
    assert result["steps"] == 20 * 11 == len(losses(work / "out"))
    report = evaluate(work / "out", work / "dev.jsonl")
    assert report["accuracy"] == result["best"]["report"]["accuracy"]
    assert report["loss"] == pytest.approx(result["best"]["report"]["loss"], rel=1e-6)
    config = json.loads((work / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "户籍", "1": "社保", "2": "车管"} and config["label2id"]["车管"] == 2
    text, label = rows()[0]
    (answer,) = Classifier.from_pretrained(work / "out").classify([text])
    assert answer.label == label and answer.confidence == max(answer.scores.values())
    assert sum(answer.scores.values()) == pytest.approx(1.0)


def test_the_best_epoch_is_what_is_kept(work):
    result = train(work, metric="loss", epochs=6, schedule="constant")
    values = [entry["loss"] for entry in result["history"]]
    assert result["best"]["epoch"] == 1 + int(np.argmin(values))
    assert evaluate(work / "out", work / "dev.jsonl")["loss"] == pytest.approx(min(values), rel=1e-6)


def test_early_stopping(work):
    result = train(work, lr=0.0, patience=2)
    assert result["epochs"] == 3 and result["best"]["epoch"] == 1


def test_same_seed_same_bits_and_another_seed_others(work):
    train(work, "a", epochs=2)
    train(work, "b", epochs=2)
    train(work, "c", epochs=2, seed=2)
    assert losses(work / "a") == losses(work / "b") and weights(work / "a") == weights(work / "b")
    assert losses(work / "a") != losses(work / "c")


def test_thread_count_does_not_change_a_bit(work):
    before = govlm.num_threads()
    try:
        for threads in (1, 2, 3):
            govlm.set_num_threads(threads)
            train(work, f"t{threads}", epochs=2)
    finally:
        govlm.set_num_threads(before)
    assert losses(work / "t1") == losses(work / "t2") == losses(work / "t3")
    assert weights(work / "t1") == weights(work / "t2") == weights(work / "t3")


@pytest.mark.parametrize("class_weights", [None, "balanced"])
def test_accumulation_is_the_large_batch_in_pieces(work, class_weights):
    """Also with dropout on: its numbers depend on the place in the whole batch. The last batch is short."""
    train(work, "whole", epochs=2, batch_size=12, class_weights=class_weights)
    train(work, "parts", epochs=2, batch_size=4, accumulate=3, class_weights=class_weights)
    whole, parts = losses(work / "whole"), losses(work / "parts")
    assert len(whole) == 8
    np.testing.assert_allclose([x[1:] for x in parts], [x[1:] for x in whole], rtol=2e-4)


def test_freezing_and_layer_rates(work):
    start = train(work, "start", epochs=1, lr=0.0)
    assert start["steps"] == 6
    frozen = train(work, "frozen", epochs=2, freeze=("embeddings", "layers.0"), layer_decay=0.5)
    assert frozen["steps"] == 12
    before, after = (govlm.load_file(work / n / "model.safetensors") for n in ("start", "frozen"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed and not any("embeddings" in n or "layer.0." in n for n in changed)
    assert any("layer.1." in n for n in changed) and "classifier.weight" in changed


def test_several_labels(work):
    items = [(t, [c, "补办"] if "补" in t else [c]) for t, c in rows()]
    write_rows(work / "train.jsonl", items[:42])
    write_rows(work / "dev.jsonl", items[42:])
    result = train(work, epochs=25)
    assert result["best"]["report"]["micro_f1"] > 0.8
    (answer,) = Classifier.from_pretrained(work / "out").classify([items[0][0]])
    assert isinstance(answer.label, list) and set(answer.scores) == {*THINGS, "补办"}


def test_without_a_folder_the_best_weights_stay_in_memory(work):
    from govlm.data import Example
    from govlm.train.source import load_model

    names = sorted(THINGS)
    model, tokenizer = load_model(work / "config.json", names, False, None, 1)
    sets = [encode(model, tokenizer, [Example(*r) for r in part], names, False) for part in (rows()[:42], rows()[42:])]
    result = Trainer(model, tokenizer, *sets, Options(**{**FAST, "metric": "loss"}), progress=False).train()
    assert evaluate_encoded(model, sets[1])["loss"] == result["best"]["report"]["loss"]
    assert not model.training


# -------------------------------------------------------------------- kills and failures


def command(work, out, *extra):
    arguments = ["--train", "train.jsonl", "--dev", "dev.jsonl", "--model", "config.json", "--out", out]
    options = ["--epochs", "6", "--batch-size", "4", "--lr", "3e-3", "--seed", "1", "--save-steps", "3", "--json"]
    return [sys.executable, "-m", "govlm", "finetune", *arguments, *options, *extra]


def start(work, out, *extra, **options):
    environment = dict(os.environ)
    return subprocess.Popen(
        command(work, out, *extra),
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def straight(work):
    """The run that nothing happened to: its log and its weights."""
    result = json.loads(finish(start(work, "straight"))[0])
    return losses(work / "straight"), weights(work / "straight"), result


def test_killed_with_kill_9_again_and_again(work, straight):
    folder = work / "killed"
    being_saved = lambda: any((folder / "checkpoints").glob("tmp-*"))  # noqa: E731
    moments = [
        lambda: logged(folder) >= 2,
        lambda: logged(folder) >= 14,
        being_saved,
        lambda: logged(folder) >= 40,
        being_saved,
    ]
    kills = 0
    for moment in moments:
        process = start(work, "killed", "--resume")
        if wait_for(process, moment):
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        process.communicate()
    assert kills >= 3
    result = json.loads(finish(start(work, "killed", "--resume"))[0])
    assert losses(folder) == straight[0]
    assert weights(folder) == straight[1]
    assert result["loss"] == straight[2]["loss"] and result["history"] == straight[2]["history"]
    left = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert len(left) == 2 and left[0].startswith("best-") and left[1].startswith("step-")


def test_interrupted(work, straight):
    # a shell's background jobs, and so their children, ignore SIGINT: this one must not
    process = start(work, "out", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert wait_for(process, lambda: logged(work / "out") >= 10)
    process.send_signal(signal.SIGINT)
    out, err = finish(process, 130)
    assert (out, err) == ("", "govlm: interrupted\n")
    assert not list((work / "out" / "checkpoints").glob("tmp-*"))
    finish(start(work, "out", "--resume"))
    assert losses(work / "out") == straight[0] and weights(work / "out") == straight[1]


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_a_full_disk_leaves_the_old_checkpoint(work, straight):
    process = start(work, "out")
    assert wait_for(process, lambda: logged(work / "out") >= 10)
    process.kill()
    process.communicate()
    checkpoints = Checkpoints(work / "out")
    path, _ = checkpoints.latest()
    before = digest(path)
    limit = (work / "out" / "log.jsonl").stat().st_size + 20_000  # less than a checkpoint's weights
    assert limit < (path / "model.safetensors").stat().st_size
    _, err = finish(
        start(work, "out", "--resume", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))), 1
    )
    assert err.startswith("govlm: error: ") and err.count("\n") == 1
    assert "cannot save the checkpoint" in err and f"step {checkpoints.names('step')[-1]} is untouched" in err
    assert checkpoints.latest()[0] == path and digest(path) == before
    assert not list(checkpoints.folder.glob("tmp-*"))
    finish(start(work, "out", "--resume"))
    assert losses(work / "out") == straight[0] and weights(work / "out") == straight[1]


def test_a_loss_that_is_not_finite_names_step_and_tensor(work):
    with pytest.raises(NonFiniteError, match=r"step \d+: the (loss|gradient norm) is (nan|inf); the first tensor .*: \S+"):
        train(work, lr=1e38, warmup=0)


def test_nan_in_the_weights_is_found_by_name(work):
    train(work, epochs=1)
    model = govlm.BertForSequenceClassification.from_pretrained(work / "out")
    model.train()
    tokenizer = govlm.BertTokenizer.from_pretrained(work / "out")
    names = sorted(THINGS)
    from govlm.data import Example

    data = encode(model, tokenizer, [Example(*r) for r in rows()], names, False)
    trainer = Trainer(model, tokenizer, data, options=Options(**FAST), progress=False)
    parameter = dict(model.named_parameters())["bert.encoder.layer.1.intermediate.dense.weight"]
    trainer._step()
    before = parameter.data.copy()
    parameter.data[0, 0] = np.nan
    with pytest.raises(
        NonFiniteError, match=r"step 2: the loss is nan; .*: bert\.encoder\.layer\.1\.intermediate\.dense\.weight"
    ):
        trainer._step()
    assert np.array_equal(parameter.data[1:], before[1:])  # nothing was stepped


def test_resume_refuses_another_run(work):
    train(work, epochs=1)
    with pytest.raises(TrainError, match="holds the checkpoints of another run"):
        train(work, epochs=1)
    with pytest.raises(TrainError, match=r"made with lr=0\.003, this run has 0\.1"):
        train(work, epochs=1, lr=0.1, resume=True)
    write_rows(work / "train.jsonl", rows()[:41])
    with pytest.raises(TrainError, match="the train data, its labels or the tokenizer is not the same"):
        train(work, epochs=1, resume=True)


def test_resuming_a_finished_run_changes_nothing(work):
    first = train(work, epochs=2)
    again = train(work, epochs=2, resume=True)
    assert (again["loss"], again["steps"], again["history"]) == (first["loss"], first["steps"], first["history"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: write_rows(w / "train.jsonl", []), r"train\.jsonl: no rows"),
        (lambda w: write_rows(w / "train.jsonl", [("a", "x")] * 3), "every row has the label 'x'"),
        (
            lambda w: write_rows(w / "dev.jsonl", [("a", "新")]),
            r"dev\.jsonl: row 1 has the label '新', which the model does not know",
        ),
        (lambda w: write_rows(w / "dev.jsonl", [("a", ["社保"])]), r"dev\.jsonl: row 1 must have a single label"),
        (lambda w: (w / "vocab.txt").unlink(), r"name its vocabulary with --vocab"),
        (lambda w: (w / "config.json").unlink(), r"config\.json: no such model folder or config file"),
        (lambda w: (w / "config.json").write_text("{"), r"config\.json: not a JSON config"),
        (lambda w: (w / "out").write_text("x"), r"out is a file"),
    ],
)
def test_one_line_for_what_is_wrong(work, change, message):
    change(work)
    with pytest.raises((TrainError, DataError), match=message) as caught:
        train(work)
    assert "\n" not in str(caught.value)


def test_options_out_of_range():
    for bad in ({"epochs": -1}, {"batch_size": 0}, {"metric": "f2"}, {"layer_decay": 0}, {"class_weights": "x"}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Options(**bad).check()


def test_empty_and_long_texts(work):
    write_rows(work / "train.jsonl", [("", "户籍"), ("社" * 500, "社保"), ("a", "车管")])
    assert train(work, epochs=1, dev=False)["steps"] == 1


def test_tensors_round_trip(tmp_path):
    arrays = {"a": np.arange(12, dtype=np.float32).reshape(3, 4), "空": np.zeros((0, 2), np.float32), "s": np.float32([7])}
    write_tensors(tmp_path / "x.safetensors", arrays)
    back = read_tensors(tmp_path / "x.safetensors")
    assert back.keys() == arrays.keys()
    assert all(np.array_equal(back[k], arrays[k]) and back[k].shape == arrays[k].shape for k in arrays)


def test_a_write_that_fails_leaves_the_old_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("step", 1, lambda folder: (folder / "state.json").write_text('{"a": 1}'))

    def breaks(folder):
        (folder / "state.json").write_text("half")
        raise OSError(28, "No space left on device")

    for step in itertools.repeat(2, 2):
        with pytest.raises(OSError, match="step 1 is untouched"):
            checkpoints.save("step", step, breaks)
    assert checkpoints.latest()[1] == {"a": 1}
    assert [p.name for p in checkpoints.folder.iterdir()] == ["step-00000001"]
