"""Few-shot with the masked LM: scores against the whole model's logits, gradients by finite differences, runs, refusals."""

import json
import subprocess
import sys

import numpy as np
import pytest
from small_requests import WAYS, write_rows, write_work

import govlm
from govlm.data import Example
from govlm.train.evaluate import Classifier, encode, evaluate
from govlm.train.fewshot import PATTERN, PatternModel, read_words
from govlm.train.finetune import Options, finetune
from govlm.train.loop import TrainError

CONFIG = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
THINGS = {
    "户口": ["户口本", "身份证", "居住证"],
    "社会保险": ["养老金", "医保卡", "失业金"],
    "车": ["驾驶证", "行驶证", "车牌"],
}
NAMES = sorted(THINGS)


def rows():
    every = [(way.format(thing), label) for label, things in THINGS.items() for thing in things for way in WAYS]
    order = np.random.default_rng(0).permutation(len(every))
    return [every[i] for i in order]


@pytest.fixture
def work(tmp_path):
    more = "".join(sorted(set("".join(NAMES) + PATTERN) - set("{}abcdefghijklmnopqrstuvwxyz")))
    return write_work(tmp_path, 36, rows(), CONFIG, more)


def pattern_model(work, pattern=PATTERN, words=None, **fields):
    tokenizer = govlm.BertTokenizer(str(work / "vocab.txt"))
    govlm.set_seed(0)
    config = govlm.BertConfig(
        **{**CONFIG, "vocab_size": len(tokenizer), "id2label": dict(enumerate(NAMES)), **fields},
        label2id={n: i for i, n in enumerate(NAMES)},
    )
    model = govlm.BertForMaskedLM(config)
    for parameter in model.parameters():  # random initialisation is too flat to tell right from wrong
        parameter.data[...] += np.random.default_rng(parameter.data.size).normal(0, 0.2, parameter.data.shape)
    return PatternModel(model, tokenizer, pattern, words or read_words(None, NAMES))


def scores(model, texts):
    data = model.eval().encode_texts(texts, None)
    return model(packed=data).logits


@pytest.mark.parametrize("pattern", [PATTERN, "关于{mask}的{text}", "{text}{mask}"])
def test_a_score_is_the_mean_log_probability_of_the_words_pieces(work, pattern):
    """By the masked LM itself: the whole sentence, all logits, the words' places looked up by their [MASK]s."""
    words = {"户口": ["户口", "身份"], "社会保险": ["社会保险"], "车": ["车"]}
    model = pattern_model(work, pattern, words)
    texts = ["驾驶证丢了怎么补办", "车", ""]
    found = scores(model, texts)
    tokenizer, whole = model.tokenizer, model.model
    for i, text in enumerate(texts):
        for j, name in enumerate(NAMES):
            each = []
            for word in words[name]:
                filled = pattern.format(text=text, mask="[MASK]" * len(word))
                ids = np.array(tokenizer(filled)["input_ids"])
                logits = np.asarray(whole(ids[None]).logits)[0].astype(np.float64)
                logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
                places = np.flatnonzero(ids == tokenizer.mask_token_id)
                pieces = [int(p) for p in tokenizer.convert_tokens_to_ids(list(word))]
                each.append(np.mean([logs[p, piece] for p, piece in zip(places, pieces, strict=True)]))
            assert found[i, j] == pytest.approx(np.mean(each), abs=1e-4)


def test_gradients_by_finite_differences(work):
    words = {"户口": ["户口", "身份"], "社会保险": ["社会保险"], "车": ["车"]}
    model = pattern_model(work, words=words)
    data = model.encode_texts(["驾驶证丢了", "我的车牌过期了"], None)
    upstream = np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)
    model.train()
    model(packed=data).backward(logits=upstream)
    parameters = dict(model.named_parameters())
    for name in ("cls.predictions.bias", "cls.predictions.transform.dense.weight", "bert.encoder.layer.0.output.dense.weight"):
        parameter = parameters[name]
        gradient = np.array(parameter.grad)
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        values = []
        for step in (1e-2, -1e-2):
            kept = parameter.data[place]
            parameter.data[place] = kept + step
            values.append(float((model(packed=data).logits.astype(np.float64) * upstream).sum()))
            parameter.data[place] = kept
        assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-2, rel=2e-2)


def test_alone_or_together_the_same(work):
    model = pattern_model(work)
    texts = [t for t, _ in rows()[:7]]
    np.testing.assert_allclose(scores(model, texts), np.concatenate([scores(model, [t]) for t in texts]), atol=1e-5)


def test_long_texts_leave_room_for_the_pattern(work):
    model = pattern_model(work)
    data = model.encode_texts(["办" * 500], None)
    overhead = 2 + 4 + len("。这条是关于的。")
    assert len(data.ids) == 40 - overhead
    assert np.isfinite(scores(model, ["办" * 500])).all()
    with pytest.raises(TrainError, match="leave no room for a text"):
        model.encode_texts(["办"], overhead)


def run(work, out="out", resume=False, refit=False, **options):
    fields = {"epochs": 12, "batch_size": 6, "lr": 2e-3, "seed": 1, "ngrams": False, **options}
    return finetune(
        work / "train.jsonl", work / "dev.jsonl", model=work / "config.json", out=work / out, few_shot=True,
        options=Options(**fields), refit=refit, resume=resume, progress=False,
    )  # fmt: skip


def test_it_learns_and_what_it_writes_can_be_used(work):
    result = run(work, epochs=40, lr=4e-3)
    assert result["best"]["report"]["accuracy"] >= 0.8
    report = evaluate(work / "out", work / "dev.jsonl")
    assert report["accuracy"] == result["best"]["report"]["accuracy"]
    assert report["loss"] == pytest.approx(result["best"]["report"]["loss"], rel=1e-6)
    (answer,) = Classifier.from_pretrained(work / "out").classify([rows()[0][0]])
    assert answer.label == rows()[0][1] and sum(answer.scores.values()) == pytest.approx(1.0)
    assert isinstance(govlm.AutoModelForMaskedLM.from_pretrained(work / "out"), govlm.BertForMaskedLM)
    config = json.loads((work / "out" / "config.json").read_text())
    assert config["fewshot"]["pattern"] == PATTERN and config["fewshot"]["words"]["车"] == ["车"]


def test_with_the_branch_and_again_on_all_rows(work):
    result = run(work, ngrams=True, refit=True, epochs=2)
    assert result["refit"]["rows"] == 54 and result["ngrams"]["features"] > 100
    classifier = Classifier.from_pretrained(work / "out")
    assert classifier.branch is not None
    data = encode(classifier.model, classifier.tokenizer, [Example(*rows()[0])], NAMES, False, branch=classifier.branch)
    assert data.offset is not None and data.offset.shape == (1, 3)


def test_stopped_and_resumed_gives_the_same_bits(work, monkeypatch):
    from govlm.train.fewshot import FewShotTrainer

    fields = {"epochs": 3, "save_steps": 4, "accumulate": 2, "batch_size": 4}
    (work / "config.json").write_text(json.dumps({**CONFIG, "hidden_dropout_prob": 0.1}))
    run(work, "straight", **fields)
    step = FewShotTrainer._step

    def stopping(self):
        stopping.count += 1
        if stopping.count == 7:
            raise KeyboardInterrupt
        return step(self)

    stopping.count = 0
    monkeypatch.setattr(FewShotTrainer, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(work, "stopped", **fields)
    run(work, "stopped", resume=True, **fields)
    first, second = ((work / name / "model.safetensors").read_bytes() for name in ("straight", "stopped"))
    assert first == second


def test_a_batch_in_pieces_has_the_same_dropout(work):
    """The numbers depend on the place in the whole batch, for every length of gap."""
    (work / "config.json").write_text(json.dumps({**CONFIG, "hidden_dropout_prob": 0.1}))
    histories = [run(work, f"o{size}", epochs=1, batch_size=size, accumulate=12 // size)["history"] for size in (12, 4)]
    assert histories[1][0]["train_loss"] == pytest.approx(histories[0][0]["train_loss"], rel=1e-4)


def test_the_command_with_pattern_and_words(work):
    words = {"户口": "身份", "社会保险": ["医保", "养老"], "车": "车"}
    (work / "words.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")

    def command(*arguments, code=0, **options):
        done = subprocess.run(
            [sys.executable, "-m", "govlm", *arguments], cwd=work, capture_output=True, text=True, timeout=120, **options
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    files = ["--train", "train.jsonl", "--dev", "dev.jsonl", "--model", "config.json", "--out", "o"]
    flags = ["--few-shot", "--pattern", "{mask}：{text}", "--label-words", "words.json", "--epochs", "2", "--no-ngrams"]
    characters = (work / "vocab.txt").read_text(encoding="utf-8")
    (work / "vocab.txt").write_text(characters + "：\n", encoding="utf-8")
    assert "macro F1" in command("finetune", *files, *flags)
    entry = json.loads((work / "o" / "config.json").read_text())["fewshot"]
    assert entry == {"pattern": "{mask}：{text}", "words": {k: [v] if isinstance(v, str) else v for k, v in words.items()}}
    (line,) = command("predict", "--model", "o", "--scores", input="驾驶证丢了\n").splitlines()
    assert set(json.loads(line)["scores"]) == set(NAMES)
    assert json.loads(command("evaluate", "--model", "o", "--data", "dev.jsonl", "--json"))["count"] == 18
    assert "--pattern belongs to --few-shot" in command("finetune", *files, "--pattern", "x", code=2)
    assert "--few-shot belongs to --task classify" in command("finetune", *files, "--few-shot", "--task", "tokens", code=2)


@pytest.mark.parametrize(
    ("pattern", "words", "message"),
    [
        ("没有", None, r"must hold \{text\} and \{mask\} once each"),
        ("{text}{text}{mask}", None, "once each"),
        (PATTERN, {"户口": "户口", "社会保险": "社保", "车": "轎"}, r"cannot write '轎', the word of label '车'"),
        (PATTERN, {"户口": "户口", "车": "车"}, "the label '社会保险' has no word"),
        (PATTERN, {"户口": [], "社会保险": "社", "车": "车"}, "the label '户口' has no word"),
    ],
)
def test_one_line_for_what_is_wrong(work, pattern, words, message):
    file = None
    if words is not None:
        file = work / "words.json"
        file.write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(TrainError, match=message) as caught:
        finetune(
            work / "train.jsonl", model=work / "config.json", out=work / "out", few_shot=True, pattern=pattern, label_words=file,
            progress=False,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


def test_several_labels_a_row_are_refused(work):
    write_rows(work / "train.jsonl", [("a", ["户口"]), ("b", ["车"])])
    with pytest.raises(TrainError, match="one label a row"):
        finetune(work / "train.jsonl", model=work / "config.json", out=work / "out", few_shot=True, progress=False)
