"""The command line: output, exit codes, one-line errors, streams."""

import json
import os
import subprocess
import sys

import pytest

from govlm.cli import main

TEXTS = {
    "户籍": ["身份证丢了", "补办身份证", "户口本怎么办", "身份证过期"],
    "社保": ["医保卡丢了", "查养老金", "养老金多少", "医保怎么报"],
}
CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    rows = [{"text": t, "label": c} for c, texts in TEXTS.items() for t in texts]
    (folder / "train.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    (folder / "train.csv").write_text("类别,内容\n" + "".join(f"{r['label']},{r['text']}\n" for r in rows), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    characters = sorted({c for r in rows for c in r["text"]})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]) + "\n")
    return folder


def shell(*arguments, stdin=None, **options):
    environment = dict(os.environ)
    return subprocess.run(
        [sys.executable, "-m", "govlm", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=environment,
        timeout=600,
        **options,
    )


@pytest.fixture(scope="module")
def model(work):
    """A model trained by the command, from the CSV file."""
    done = shell(
        "finetune", "--task", "classify", "--train", work / "train.csv", "--dev", work / "train.jsonl.csv",
        "--model", work / "config.json", "--out", work / "model", "--text-field", "内容", "--label-field", "类别",
        "--epochs", 40, "--batch-size", 4, "--lr", "1e-2", "--threads", 1, "--json",
    )  # fmt: skip
    assert done.returncode == 1  # no such dev file
    assert done.stderr.decode().startswith("govlm: error: ") and "train.jsonl.csv: No such file" in done.stderr.decode()
    done = shell(
        "finetune", "--train", work / "train.csv", "--dev", work / "train.csv", "--model", work / "config.json",
        "--out", work / "model", "--text-field", "内容", "--label-field", "类别",
        "--epochs", 40, "--batch-size", 4, "--lr", "1e-2", "--threads", 1, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    result = json.loads(done.stdout)
    assert result["labels"] == ["户籍", "社保"] and result["steps"] == 80
    return work / "model"


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_evaluate(capsys, work, model):
    code, out, err = run(capsys, "evaluate", "--model", model, "--data", work / "train.jsonl", "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["accuracy"] == report["macro_f1"] == 1.0 and report["count"] == 8
    assert report["confusion"] == [[4, 0], [0, 4]] and [r["support"] for r in report["per_class"]] == [4, 4]
    code, out, _ = run(capsys, "evaluate", "--model", model, "--data", work / "train.jsonl")
    assert code == 0 and "accuracy 1.0000" in out and "户籍" in out


def test_predict_lines(work, model):
    lines = [t for texts in TEXTS.values() for t in texts] + ["", "第三"]
    done = shell("predict", "--model", model, "--batch-size", 3, stdin="\n".join(lines).encode())
    answers = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert done.returncode == 0 and [a["text"] for a in answers] == lines
    assert [a["label"] for a in answers[:8]] == ["户籍"] * 4 + ["社保"] * 4
    assert all(0.5 <= a["confidence"] <= 1 and set(a) == {"text", "label", "confidence"} for a in answers)


def test_predict_fields_and_scores(capsys, work, model):
    code, out, _ = run(capsys, "predict", work / "train.csv", "--model", model, "--text-field", "内容", "--scores")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(answers) == 8
    assert answers[0]["scores"]["户籍"] == answers[0]["confidence"]
    done = shell("predict", "--model", model, "--text-field", "t", stdin='{"t": "查养老金"}\n\n{"t": 3}\n'.encode())
    assert json.loads(done.stdout)["label"] == "社保" if done.stdout else True
    assert (done.returncode, done.stderr.decode()) == (
        1,
        "govlm: error: standard input:3: field 't' is missing or no string\n",
    )


def test_predict_streams_and_survives_a_closed_pipe(work, model):
    environment = dict(os.environ)
    process = subprocess.Popen(
        [sys.executable, "-m", "govlm", "predict", "--model", str(model), "--batch-size", "8"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        for _ in range(400):  # far more than a pipe holds, so answers must come while there is still input
            process.stdin.write("查养老金\n".encode() * 8)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["label"] == "社保"
        process.stdout.close()
        try:
            for _ in range(4000):
                process.stdin.write("查养老金\n".encode() * 8)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait(60) == 1 and process.stderr.read() == b""
    finally:
        process.kill()
        process.stderr.close()


def test_predict_names_the_line_that_is_not_utf_8(model):
    done = shell("predict", "--model", model, stdin=b"ok\n\xff\xfe\n")
    assert (done.returncode, done.stderr) == (1, b"govlm: error: standard input:2: byte 1 of the line is not UTF-8\n")


def test_tokenize(capsys, work, model):
    code, out, _ = run(capsys, "tokenize", "--vocab", work / "vocab.txt", "查养老金", "医保x")
    assert (code, out) == (0, "[CLS] 查 养 老 金 [SEP]\n[CLS] 医 保 [UNK] [SEP]\n")
    code, out, _ = run(capsys, "tokenize", "--model", model, "--json", "查养")
    row = json.loads(out)
    assert row["tokens"] == ["[CLS]", "查", "养", "[SEP]"] and row["offsets"] == [[0, 0], [0, 1], [1, 2], [0, 0]]
    assert row["ids"][0] == 2 and len(row["ids"]) == 4
    done = shell("tokenize", "--vocab", work / "vocab.txt", "--ids", "--no-special-tokens", stdin="查养\n\n".encode())
    assert done.stdout.decode() == f"{row['ids'][1]} {row['ids'][2]}\n\n"
    code, _, err = run(capsys, "tokenize", "--model", model, "--vocab", work / "vocab.txt", "x")
    assert (code, err) == (2, "govlm: error: give --model DIR or --vocab FILE, not both\n")


def test_info(capsys):
    code, out, _ = run(capsys, "info", "--json")
    facts = json.loads(out)
    assert code == 0 and {"govlm", "python", "numpy", "threads"} <= set(facts) and facts["threads"] >= 1
    code, out, _ = run(capsys, "info")
    assert code == 0 and "govlm" in out and "threads" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate"], 2, "invalid choice: 'frobnicate'"),
        (["finetune"], 2, "the following arguments are required: --train, --out"),
        (
            ["finetune", "--train", "x", "--model", "x", "--out", "x", "--epochs", "many"],
            2,
            "argument --epochs: invalid int value",
        ),
        (
            ["finetune", "--train", "x", "--model", "x", "--out", "x", "--batch-size", "0"],
            2,
            "--batch-size must be 1 or more, not 0",
        ),
        (["finetune", "--train", "x", "--model", "x", "--out", "x", "--threads", "0"], 2, "a whole number above 0"),
        (["finetune", "--train", "no.jsonl", "--model", "x", "--out", "x"], 1, "no.jsonl: No such file or directory"),
        (["finetune", "--train", "no.doc", "--model", "x", "--out", "x"], 1, "no.doc: cannot tell the format"),
        (["evaluate", "--model", "no", "--data", "x.jsonl"], 1, "no: no such model folder"),
        (["predict", "--model", "no"], 1, "no: no such model folder"),
        (["tokenize", "--vocab", "no.txt", "x"], 1, "no.txt"),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result, out, err = run(capsys, *arguments)
    assert (result, out) == (code, "")
    assert err.startswith("govlm: error: ") and message in err and err.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    done = shell("evaluate", "--model", "no", "--data", "x.jsonl", "--debug", cwd=tmp_path)
    assert done.returncode == 1 and b"Traceback" in done.stderr


def test_help_and_version_import_nothing_heavy():
    code = "import sys, govlm.cli; govlm.cli.main(['--help']); print({'numpy', 'tqdm', 'safetensors'} & set(sys.modules))"
    environment = dict(os.environ)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, text=True, timeout=600)
    assert "finetune" in done.stdout and done.stdout.endswith("set()\n"), done.stderr
    assert shell("--version").stdout.startswith(b"govlm ")
    assert shell().returncode == 2


@pytest.mark.parametrize("name", ["finetune", "evaluate", "predict", "tokenize", "info", "demo"])
def test_every_command_has_help(capsys, name):
    code, out, _ = run(capsys, name, "--help")
    assert code == 0 and name in out


def test_demo(tmp_path, monkeypatch):
    """The whole demo, shortened; then the cache answers without training."""
    import govlm.demo

    monkeypatch.setenv("GOVLM_CACHE", str(tmp_path))
    monkeypatch.setattr(govlm.demo, "TRAINING", {**govlm.demo.TRAINING, "epochs": 1})
    classifier, report = govlm.demo.train_demo(progress=False)
    assert report["test_rows"] >= 12 * 10 and report["train_rows"] + report["test_rows"] >= 12 * 40
    assert len(report["labels"]) >= 12 and sum(map(sum, report["confusion"])) == report["test_rows"]
    assert govlm.demo.load_cached() is None
    assert govlm.demo.store_cached(classifier, report)
    again, kept = govlm.demo.load_cached()
    assert kept["accuracy"] == report["accuracy"]
    text = ["身份证丢了"]
    assert [p.scores for p in again.classify(text)] == [p.scores for p in classifier.classify(text)]
    monkeypatch.setattr(govlm.demo, "SEED", 8)
    assert govlm.demo.load_cached() is None


def test_demo_command_with_a_text(capsys, tmp_path, monkeypatch):
    import govlm.demo

    monkeypatch.setenv("GOVLM_CACHE", str(tmp_path))
    monkeypatch.setattr(govlm.demo, "TRAINING", {**govlm.demo.TRAINING, "epochs": 1})
    code, out, err = run(capsys, "demo", "--text", "身份证丢了", "--json")
    result = json.loads(out)
    assert (code, err) == (0, "") and result["predictions"][0]["label"] in result["labels"]
    code, out, _ = run(capsys, "demo", "--text", "身份证丢了")
    assert code == 0 and "→" in out and "accuracy" not in out  # from the cache
    code, out, _ = run(capsys, "demo", "--text", "身份证丢了", "--retrain", "--no-progress")
    assert code == 0 and "accuracy" in out and "precision" in out
