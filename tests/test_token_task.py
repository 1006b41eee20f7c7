"""Spans: the forms they are read from, their labels on word pieces, decoding, F1 by its definition, and whole runs."""

import json
import subprocess
import sys

import numpy as np
import pytest

import govlm
from govlm.data import DataError
from govlm.train.evaluate import evaluate
from govlm.train.finetune import finetune
from govlm.train.loop import TrainError
from govlm.train.metrics import span_report
from govlm.train.tokens import (
    Span,
    SpanExample,
    SpanFinder,
    TokenOptions,
    TokenTrainer,
    allowed_steps,
    bio_names,
    decode,
    encode_spans,
    predict_spans,
    read_spans,
    token_logits,
)

CONFIG = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 24, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
PEOPLE = ["王小明", "李芳", "赵铁柱", "陈静", "周大海", "吴婷"]
PLACES = ["城关镇", "平安街道", "东湖区", "河口乡", "新华路"]
WAYS = ["{}住在{}", "请问{}能在{}办证吗", "{}把户口迁到了{}", "听说{}要从{}搬走"]


def examples():
    made = []
    for way in WAYS:
        for person in PEOPLE:
            for place in PLACES:
                text = way.format(person, place)
                a, b = text.index(person), text.index(place)
                made.append(SpanExample(text, [Span(a, a + len(person), "人"), Span(b, b + len(place), "地")]))
    order = np.random.default_rng(0).permutation(len(made))
    return [made[i] for i in order]


def write(path, items):
    rows = [{"text": t, "entities": [s._asdict() for s in spans]} for t, spans in items]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


@pytest.fixture
def work(tmp_path):
    items = examples()
    write(tmp_path / "train.jsonl", items[:90])
    write(tmp_path / "dev.jsonl", items[90:])
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    characters = sorted({c for text, _ in items for c in text})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, "ab", "##cd", "e"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return tmp_path


def model_for(work, labels=("人", "地"), **fields):
    names = bio_names(labels)
    tokenizer = govlm.BertTokenizer(str(work / "vocab.txt"))
    config = govlm.BertConfig(
        **{**CONFIG, "vocab_size": len(tokenizer), "id2label": dict(enumerate(names)), **fields},
        label2id={n: i for i, n in enumerate(names)},
    )
    return govlm.BertForTokenClassification(config), tokenizer


# -------------------------------------------------------------------- reading


def test_three_forms_say_the_same(tmp_path):
    wanted = [SpanExample("王芳在北京", [Span(0, 2, "name"), Span(3, 5, "address")]), SpanExample("好的", [])]
    write(tmp_path / "a.jsonl", wanted)
    cluener = [
        {"text": "王芳在北京", "label": {"name": {"王芳": [[0, 1]]}, "address": {"北京": [[3, 4]]}}},
        {"text": "好的", "label": {}},
    ]
    pretty = "\n".join(json.dumps(r, ensure_ascii=False, indent=2) for r in cluener)
    (tmp_path / "b.json").write_text(pretty, encoding="utf-8")
    (tmp_path / "c.json").write_text(json.dumps(cluener, ensure_ascii=False), encoding="utf-8")
    columns = "王 B-name\n芳 I-name\n在 O\n北 B-address\n京 I-address\n\n\n好的 O\n"
    (tmp_path / "d.txt").write_text(columns, encoding="utf-8")
    (tmp_path / "e.txt").write_text(
        columns.replace("芳 I", "芳 E").replace("京 I", "京 E").replace("\n", "\r\n"), encoding="utf-8"
    )
    for name in ("a.jsonl", "b.json", "c.json", "d.txt", "e.txt"):
        assert list(read_spans(tmp_path / name)) == wanted, name


def test_columns_with_long_pieces_and_loose_ends(tmp_path):
    (tmp_path / "x.txt").write_text("602 B-no\n号 I-no\n甲 I-road\n乙 B-road\n丙 S-poi\n丁 I-poi", encoding="utf-8")
    (found,) = read_spans(tmp_path / "x.txt")
    assert found.text == "602号甲乙丙丁"
    assert found.spans == [Span(0, 4, "no"), Span(4, 5, "road"), Span(5, 6, "road"), Span(6, 7, "poi"), Span(7, 8, "poi")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "ab", "entities": [{"start": 1, "end": 3, "label": "x"}]}', r"text 1: the span \[1, 3\) of 'x' is not in"),
        ('{"text": "ab", "entities": [{"start": 1, "end": 2}]}', "text 1: its entities are malformed"),
        ('{"text": "ab", "entities": [{"start": "1", "end": 2, "label": "x"}]}', "must be whole numbers"),
        ('{"text": "ab"}', "neither 'entities' nor"),
        ('{"entities": []}', "a string in 'text'"),
        ('{"text": "ab", "entities": []}\n{"text": ', r"x:2: not JSON"),
        ("王 B-x\n芳\n", r"x:2: columns"),
        ("王 X-x\n", r"x:1: columns"),
    ],
)
def test_one_line_for_a_bad_file(tmp_path, content, message):
    (tmp_path / "x").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        list(read_spans(tmp_path / "x"))
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------- labels and windows


def test_pieces_get_the_label_of_the_span_they_lie_in(work):
    model, tokenizer = model_for(work)
    text = "王小 abcd住"  # pieces: 王 小 ab ##cd 住
    data = encode_spans(model, tokenizer, [SpanExample(text, [Span(0, 2, "人"), Span(4, 7, "地")])])
    names = [data.names[i] if i >= 0 else "-" for i in data.labels]
    assert names == ["-", "B-人", "I-人", "B-地", "I-地", "O", "-"]
    assert data.starts.tolist() == [0, 0, 1, 3, 5, 7, 0] and data.ends.tolist() == [0, 1, 2, 5, 7, 8, 0]


def test_of_overlapping_spans_the_first_and_longest_labels(work):
    model, tokenizer = model_for(work)
    spans = [Span(1, 3, "地"), Span(0, 2, "人"), Span(0, 3, "地")]
    data = encode_spans(model, tokenizer, [SpanExample("王小明住", spans)])
    assert [data.names[i] for i in data.labels[1:-1]] == ["B-地", "I-地", "I-地", "O"]
    assert data.spans == [spans]  # all count when the answers are judged


@pytest.mark.parametrize("length", [0, 1, 21, 22, 23, 40, 100])
def test_windows_judge_every_token_once(work, length):
    model, tokenizer = model_for(work)  # 24 positions: 22 tokens a window
    data = encode_spans(model, tokenizer, [SpanExample("住" * length, []), SpanExample("王", [])])
    judged = data.starts[data.keep].tolist()
    assert judged == [*range(length), 0]
    assert np.diff(data.row_splits).max() <= 24


def test_a_label_unknown_to_the_model(work):
    model, tokenizer = model_for(work)
    with pytest.raises(DataError, match=r"here: text 1 has the label '车', which the model does not know \(人, 地\)"):
        encode_spans(model, tokenizer, [SpanExample("王", [Span(0, 1, "车")])], source="here")


# -------------------------------------------------------------------- decoding and F1


def test_decoding_is_the_best_of_all_allowed_sequences():
    import itertools

    names = bio_names(["x", "y"])
    first, step = allowed_steps(names)
    random = np.random.default_rng(1)
    for length in (1, 2, 3, 4):
        for _ in range(10):
            scores = random.normal(size=(length, len(names)))
            allowed = [
                s for s in itertools.product(range(len(names)), repeat=length)
                if first[s[0]] and all(step[a, b] for a, b in itertools.pairwise(s))
            ]  # fmt: skip
            best = max(allowed, key=lambda s: sum(scores[t, label] for t, label in enumerate(s)))
            assert decode(scores, names).tolist() == list(best)
    assert decode(np.zeros((0, 5)), names).tolist() == []


def test_no_inside_without_a_begin():
    names = bio_names(["x", "y"])
    scores = np.full((3, 5), -5.0)
    scores[:, names.index("I-x")] = 0.0
    assert [names[i] for i in decode(scores, names)] == ["B-x", "I-x", "I-x"]
    first, step = allowed_steps(names)
    assert not first[names.index("I-x")] and not step[names.index("B-y"), names.index("I-x")]


def test_f1_by_its_definition():
    """Two texts by hand: of 3 true and 3 found spans one is right in start, end and label; a wrong end or label counts twice."""
    true = [[(0, 2, "人"), (3, 5, "地")], [(1, 2, "人")]]
    found = [[(0, 2, "人"), (3, 6, "地")], [(1, 2, "地")]]
    report = span_report(true, found)
    assert (report["precision"], report["recall"], report["micro_f1"]) == (1 / 3, 1 / 3, 1 / 3)
    rows = {row["label"]: row for row in report["per_class"]}
    assert (rows["人"]["precision"], rows["人"]["recall"]) == (1.0, 0.5) and rows["人"]["f1"] == pytest.approx(2 / 3)
    assert (rows["地"]["f1"], rows["地"]["support"], rows["地"]["predicted"]) == (0.0, 1, 2)
    assert report["macro_f1"] == pytest.approx(1 / 3) and report["accuracy"] == 0.0 and report["count"] == 2
    assert span_report([[]], [[]])["micro_f1"] == 0.0 and span_report([[]], [[]])["accuracy"] == 1.0


# -------------------------------------------------------------------- runs


def run(work, out="out", resume=False, refit=False, **options):
    fields = {"epochs": 12, "batch_size": 8, "lr": 3e-3, "seed": 1, **options}
    return finetune(
        work / "train.jsonl", work / "dev.jsonl", model=work / "config.json", out=work / out, task="tokens",
        options=TokenOptions(**fields), refit=refit, resume=resume, progress=False,
    )  # fmt: skip


def test_it_learns_and_finds(work):
    result = run(work, epochs=20)
    assert result["best"]["report"]["micro_f1"] > 0.9 and result["labels"] == bio_names(["人", "地"])
    report = evaluate(work / "out", work / "dev.jsonl")
    assert report["micro_f1"] == result["best"]["report"]["micro_f1"]
    text = "请问王小明能在东湖区办证吗"
    (found,) = SpanFinder.from_pretrained(work / "out").find([text])
    assert [(e["label"], e["text"]) for e in found.entities] == [("人", "王小明"), ("地", "东湖区")]
    assert all(text[e["start"] : e["end"]] == e["text"] and 0 < e["score"] <= 1 for e in found.entities)


def test_long_texts_are_read_whole(work):
    run(work, epochs=20)
    finder = SpanFinder.from_pretrained(work / "out")
    text = "，".join(["请问李芳能在河口乡办证吗"] * 5)
    (found,) = finder.find([text])
    assert max(e["end"] for e in found.entities) > 48  # the model has 24 positions


def test_one_by_one_or_together(work):
    run(work, epochs=3)
    finder = SpanFinder.from_pretrained(work / "out")
    texts = [*(t for t, _ in examples()[:9]), "", "王", "ab" * 30]

    def places(predictions):
        return [[(e["start"], e["end"], e["label"]) for e in p.entities] for p in predictions]

    assert places(finder.find(texts)) == [found for text in texts for found in places(finder.find([text]))]


def test_the_command_trains_evaluates_and_predicts(work):
    def govlm_command(*arguments, **options):
        done = subprocess.run(
            [sys.executable, "-m", "govlm", *arguments], cwd=work, capture_output=True, text=True, timeout=120, **options
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    flags = ["--epochs", "8", "--batch-size", "8", "--lr", "3e-3"]
    shown = govlm_command(
        "finetune", "--task", "tokens", "--train", "train.jsonl", "--dev", "dev.jsonl", "--model", "config.json", "--out", "o", *flags
    )  # fmt: skip
    assert "micro F1" in shown and "trained again on train and dev rows, 120 in all" in shown
    report = json.loads(govlm_command("evaluate", "--model", "o", "--data", "dev.jsonl", "--json"))
    assert report["micro_f1"] > 0.5
    lines = govlm_command("predict", "--model", "o", input="王小明住在东湖区\n好\n").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["王小明住在东湖区", "好"]


def test_stopped_and_resumed_gives_the_same_bits(work, monkeypatch):
    run(work, "straight", epochs=3, save_steps=5)
    step, stops = TokenTrainer._step, [8, 20]

    def stopping(self):
        stopping.count += 1
        if stops and stopping.count == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return step(self)

    stopping.count = 0
    monkeypatch.setattr(TokenTrainer, "_step", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(work, "stopped", resume=True, epochs=3, save_steps=5)
    run(work, "stopped", resume=True, epochs=3, save_steps=5)
    first, second = ((work / name / "model.safetensors").read_bytes() for name in ("straight", "stopped"))
    assert first == second


def test_what_cannot_be(work):
    with pytest.raises(TrainError, match="class weights"):
        run(work, class_weights="balanced")
    write(work / "train.jsonl", [SpanExample("王", [])])
    with pytest.raises(TrainError, match="no text has an entity"):
        run(work)


def test_predicted_spans_come_from_kept_tokens_only(work):
    model, tokenizer = model_for(work)
    data = encode_spans(model, tokenizer, [SpanExample("住" * 60, [])])
    logits = token_logits(model, data)
    assert logits.shape == (len(data.ids), 5)
    logits[:] = 0
    logits[:, data.names.index("B-人")] = 9.0
    (found,) = predict_spans(logits, data)
    assert [s.start for s, _ in found] == list(range(60))
