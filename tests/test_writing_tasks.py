"""Models that write: span corruption, packed documents, instruction data with loss on answers only, and the runs on them."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_corpus import FAST, tokenizer, write_corpus

import govlm
from govlm.data import DataError
from govlm.train.finetune import finetune
from govlm.train.instructions import encode_causal, encode_pairs, read_conversations, read_pairs
from govlm.train.language import NextToken
from govlm.train.loop import TrainError
from govlm.train.masking import IGNORED
from govlm.train.pretrain import pretrain, read_options
from govlm.train.rouge import common_length, rouge_l, tokens
from govlm.train.sequences import Order, Sequences, open_corpora
from govlm.train.spans import SENTINELS, SpanCorruption, hidden_spans, make_sentinels
from govlm.train.writing import WritingOptions, answers, evaluate_written

LLAMA = {
    "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64, "initializer_range": 0.1, "tie_word_embeddings": True,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 64, "num_layers": 2, "dropout_rate": 0.0}


def run(work, out="out", resume=False, **changes):
    given = {"corpus": [str(work / "corpus")], "out": str(work / out), **FAST, **changes}
    return pretrain(read_options(None, given), resume=resume, progress=False)


def logged(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(r["step"], r["loss"]) for r in lines if "loss" in r]


# -------------------------------------------------------------------- span corruption


def test_spans_by_hand():
    """12 tokens, a quarter hidden in spans of 1.5: 3 tokens in 2 spans. The lowest scores cut behind 4 of the 9 that stay, and
    behind 1 of the 3 that are hidden."""
    stay, hide = np.array([9, 8, 7, 0, 6, 5, 4, 3, 9, 9, 9, 9]), np.array([1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    kept, hidden = hidden_spans(12, 0.25, 1.5, (stay, hide))
    assert kept.tolist() == [4, 5] and hidden.tolist() == [1, 2]
    source, target = SpanCorruption(np.array([100, 101]), 0.25, 1.5)._corrupt(np.arange(12, dtype=np.int32), (stay, hide))
    assert source.tolist() == [0, 1, 2, 3, 100, 5, 6, 7, 8, 9, 101]
    assert target.tolist() == [100, 4, 101, 10, 11]


def test_spans_that_are_copied_by_hand():
    """The case above: what follows a sentinel in the source is what it asks for, and nothing is missing."""
    stay, hide = np.array([9, 8, 7, 0, 6, 5, 4, 3, 9, 9, 9, 9]), np.array([1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    corrupt = SpanCorruption(np.array([100, 101]), 0.25, 1.5)
    source, target = corrupt._corrupt(np.arange(12, dtype=np.int32), (stay, hide), readable=True)
    assert source.tolist() == [0, 1, 2, 3, 100, 4, 5, 6, 7, 8, 9, 101, 10, 11]
    assert target.tolist() == [100, 4, 101, 10, 11]


def test_a_share_is_copied():
    ids, splits = np.arange(4000, dtype=np.int32), np.arange(0, 4001, 20)
    hidden = SpanCorruption(np.arange(5000, 5100))
    drawn = SpanCorruption(np.arange(5000, 5100), copied=0.3)
    pairs = [corrupt(ids, splits, np.arange(200), 7) for corrupt in (hidden, drawn, drawn.always(True), drawn.always(False))]
    copied = [len(source) > 20 for source, _ in pairs[1]]
    assert 40 <= sum(copied) <= 80
    for row, one in enumerate(copied):  # the spans are the same whether they are copied or not
        assert np.array_equal(pairs[1][row][0], pairs[2 if one else 0][row][0])
        assert all(np.array_equal(pairs[0][row][1], other[row][1]) for other in pairs[1:])
        assert np.array_equal(pairs[3][row][0], pairs[0][row][0])
    with pytest.raises(ValueError, match="shares in 0"):
        SpanCorruption(np.arange(3), copied=1.5)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.floats(0.05, 0.6), st.floats(1, 6), st.integers(0, 2**32 - 1))
def test_what_is_hidden_and_what_stays_make_the_text(lengths, probability, mean, seed):
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.random.default_rng(seed).integers(0, 1000, splits[-1]).astype(np.int32)
    corrupt = SpanCorruption(np.arange(1000, 1200), probability, mean)
    numbers = np.arange(len(lengths)) * 3
    for row, (source, target) in enumerate(corrupt(ids, splits, numbers, seed, 2)):
        piece = ids[splits[row] : splits[row + 1]]
        marks = source[source >= 1000]
        assert marks.tolist() == list(range(1000, 1000 + len(marks))) == target[target >= 1000].tolist()
        spans = np.split(target, np.flatnonzero(target >= 1000))[1:]  # each begins with its sentinel
        assert all(len(span) > 1 for span in spans)
        hidden = {int(span[0]): span[1:] for span in spans}
        back = np.concatenate([hidden[int(t)] if t >= 1000 else [t] for t in source])
        assert np.array_equal(back, piece)
        if len(piece) > 1:
            count = min(max(round(len(piece) * probability), 1), len(piece) - 1)
            assert len(target) - len(marks) == count and source[0] < 1000 and source[-1] >= 1000
            assert len(marks) == min(max(round(count / mean), 1), count, len(piece) - count)


def test_a_corruption_belongs_to_its_sequence_epoch_and_seed():
    ids, splits = np.arange(120, dtype=np.int32), np.array([0, 50, 120])
    corrupt = SpanCorruption(np.arange(500, 600))
    whole = corrupt(ids, splits, np.array([7, 2**33]), 5, 1)
    alone = corrupt(ids[50:], np.array([0, 70]), np.array([2**33]), 5, 1)
    assert all(np.array_equal(a, b) for a, b in zip(whole[1], alone[0], strict=True))
    for other in (corrupt(ids, splits, np.array([7, 2**33]), 6, 1), corrupt(ids, splits, np.array([7, 2**33]), 5, 2)):
        assert not np.array_equal(other[1][0], whole[1][0])


def test_too_few_sentinels_is_an_error():
    with pytest.raises(TrainError, match="has 10 spans, there are 3 sentinels"):
        SpanCorruption(np.arange(3), 0.3, 3.0)(np.arange(100, dtype=np.int32), np.array([0, 100]), np.zeros(1), 0)


def test_sentinels_are_added_once():
    tok = tokenizer()
    before = len(tok)
    ids = make_sentinels(tok)
    assert len(ids) == SENTINELS and len(tok) == before + SENTINELS and np.array_equal(make_sentinels(tok), ids)
    assert tok.encode("户<extra_id_3>口", add_special_tokens=False)[1] == ids[3]


# -------------------------------------------------------------------- documents in a row


@pytest.fixture
def work(tmp_path):
    write_corpus(tmp_path / "corpus")
    return tmp_path


def test_documents_of_a_batch_do_not_see_each_other():
    model = govlm.AutoModelForCausalLM.from_config(govlm.AutoConfig.for_model(**LLAMA, vocab_size=30))
    rows = [np.random.default_rng(n).integers(5, 30, 7 + n).astype(np.int32) for n in range(3)]
    splits = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    from govlm.tokenizers import Packed

    masked = NextToken()(np.concatenate(rows), splits)
    assert masked.count == len(masked.ids) - 3
    together = model(packed=Packed(masked.ids, splits), labels=masked.labels)
    losses = [model(input_ids=row[None], labels=row[None].astype(np.int64)).loss.item() * (len(row) - 1) for row in rows]
    assert together.loss.item() == pytest.approx(sum(losses) / masked.count, rel=1e-5)


def test_the_end_stands_only_where_a_document_ends(work):
    corpora = open_corpora([work / "corpus"])
    every = Sequences(corpora, 16, 2, 3, at_end=True)
    documents = sum(len(corpora[0].shard(i).document_splits) - 1 for i in range(2))
    assert every.closed.sum() == documents and every.tokens == corpora[0].tokens + len(every) + documents
    batch = every.batch(np.arange(len(every)))
    for row, (begin, end) in enumerate(itertools.pairwise(batch.row_splits)):
        assert batch.ids[begin] == 2 and (batch.ids[end - 1] == 3) == every.closed[row] and end - begin <= 16
    bare = Sequences(corpora, 16, None, None)
    assert bare.tokens == corpora[0].tokens and not np.isin(bare.batch(np.arange(len(bare))).ids, [2, 3]).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(20, 60), st.integers(0, 9))
def test_a_step_is_filled_by_tokens(sizes, room, seed):
    sizes, order = np.array(sizes), Order(len(sizes), seed)
    steps = -(-int(sizes.sum()) // room)
    for epoch in range(2):
        filled = [order.fill(epoch * steps + step, sizes, room) for step in range(steps)]
        assert all(sizes[numbers].sum() < room + 20 and len(numbers) and (e == epoch).all() for numbers, e in filled)
        found = np.concatenate([numbers for numbers, _ in filled])
        assert set(found) == set(range(len(sizes))) and len(found) <= len(sizes) + 1


@pytest.mark.parametrize(
    "more", [{"objective": "causal", "model": LLAMA, "batch_tokens": 200}, {"objective": "span", "model": T5}]
)
def test_a_run_learns_and_gives_the_same_bits_again(work, more):
    more = {**more, "lr": 1e-2, "save_steps": 20}
    whole = run(work, "whole", **more)
    first, last = whole["history"]
    assert last["loss"] < first["loss"] and first["perplexity"] == pytest.approx(math.exp(first["loss"]))
    assert "copied_loss" not in last
    run(work, "again", **more)
    cut = work / "again"
    assert [path.name for path in (cut / "checkpoints").iterdir()] == ["step-00000040"]
    assert logged(work / "whole") == logged(cut)


def test_a_resumed_run_is_the_same_run(work, monkeypatch):
    from govlm.train.language import SpanLoop

    more = {"objective": "span", "model": T5, "save_steps": 15, "copied": 0.4, "initial": "copying"}
    first, last = run(work, "whole", **more)["history"]
    assert 0 < last["copied_loss"] < first["copied_loss"]
    step = SpanLoop._step

    def stop(self):
        if self.position.step == 22:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SpanLoop, "_step", stop)
        run(work, "cut", **more)
    run(work, "cut", resume=True, **more)
    assert logged(work / "whole") == logged(work / "cut")
    tensors = [govlm.load_file(work / name / "model.safetensors") for name in ("whole", "cut")]
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


def test_options_of_other_objectives_are_refused(work):
    for changes, message in (
        ({"objective": "next"}, "objective must be mlm, rtd, causal, span"),
        ({"objective": "causal", "initial": "corpus"}, "initial must be random where the objective is causal"),
        ({"objective": "causal", "batch_tokens": 31}, "batch_tokens must be 0"),
        ({"objective": "span", "span_length": 0.5}, "span_length must be 1 or more"),
        ({"objective": "span", "copied": 1.5}, "copied must be from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            run(work, model=LLAMA, **changes)


# -------------------------------------------------------------------- ROUGE-L


def test_rouge_by_hand():
    assert tokens("办理 iPhone15，OK") == ["办", "理", "iphone", "15", "ok"]
    assert common_length("ABCBDAB", "BDCABA") == 4  # Cormen et al., Introduction to Algorithms, section 15.4
    # "police killed the gunman" / "police kill the gunman": Lin's example has an LCS of 3 of 4 and 4 words
    assert common_length(["police", "killed", "the", "gunman"], ["police", "kill", "the", "gunman"]) == 3
    assert rouge_l("补办身份证", "身份证补办指南") == pytest.approx(2 * 3 / (5 + 7))
    assert rouge_l("", "证") == rouge_l("甲", "乙") == 0.0 and rouge_l("甲乙", "甲乙") == 1.0


@settings(max_examples=60, deadline=None)
@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_the_common_subsequence_is_the_longest(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    assert common_length(a, b) == table[-1][-1]


# -------------------------------------------------------------------- rows


def lines(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "户口"}, "rows.jsonl:2: field 'response' is missing"),
        ({"prompt": 3, "response": "本"}, "rows.jsonl:2: field 'prompt' is no string"),
        ({"prompt": "户口", "response": "  "}, "rows.jsonl:2: field 'response' is empty"),
        ({"messages": []}, "rows.jsonl:2: field 'messages' must be a list of messages"),
        ({"messages": [{"role": "human", "content": "户"}]}, "rows.jsonl:2: message 1 must have a 'role'"),
        ({"messages": [{"role": "user", "content": "户"}]}, "rows.jsonl:2: field 'messages' has no answer"),
        ({"question": "户口"}, "rows.jsonl:2: neither 'prompt' and 'response' nor 'messages' nor 'text' is there"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    path = lines(tmp_path / "rows.jsonl", {"prompt": "户口", "response": "本"}, row)
    with pytest.raises(DataError, match=message):
        read_conversations(path)


def test_a_bad_pair_is_named(tmp_path):
    path = lines(tmp_path / "rows.jsonl", {"source": "甲", "target": "乙"}, {"source": "甲"})
    with pytest.raises(DataError, match=r"rows\.jsonl:2: field 'target' is missing"):
        read_pairs(path, "source", "target")


def test_only_answers_are_learnt(tmp_path):
    turns = [("user", "户口本"), ("assistant", "窗口"), ("user", "护照"), ("assistant", "预约")]
    rows = read_conversations(
        lines(tmp_path / "r.jsonl", {"messages": [{"role": r, "content": c} for r, c in turns]}, {"text": "医保"})
    )
    tok = tokenizer()
    made = encode_causal(tok, rows, 64, "r.jsonl")
    ids, labels = made.pair(0)
    assert tok.decode(ids).replace(" ", "") == "[CLS][UNK][UNK]户口本[UNK][UNK]窗口[SEP][UNK][UNK]护照[UNK][UNK]预约[SEP]"
    learnt = tok.convert_ids_to_tokens(labels[labels != IGNORED])
    assert learnt == ["窗", "口", "[SEP]", "预", "约", "[SEP]"] and made.counts([0, 1]).tolist() == [6, 3]
    assert (ids[labels != IGNORED] == labels[labels != IGNORED]).all()
    # what an answer is generated from is what the template asks at inference
    asked = tok.apply_chat_template(rows[0].messages[:3], add_generation_prompt=True)
    assert made.prompts[0].tolist() == [tok.cls_token_id, *asked] and made.references == ["预约"]
    assert made.pair(1)[1][1:].tolist() == [*tok.encode("医保", add_special_tokens=False), tok.sep_token_id]


def test_a_model_s_own_template_is_used_and_one_that_rewrites_is_refused(tmp_path):
    turns = [("user", "户口本"), ("assistant", "窗口"), ("user", "护照"), ("assistant", "预约")]
    rows = read_conversations(lines(tmp_path / "r.jsonl", {"messages": [{"role": r, "content": c} for r, c in turns]}))
    tok = tokenizer()
    tok.chat_template = "{% for m in messages %}{{ m.content }}[SEP]{% endfor %}"
    made = encode_causal(tok, rows, 64, "r.jsonl")
    assert tok.decode(made.ids).replace(" ", "") == "[CLS]户口本[SEP]窗口[SEP]护照[SEP]预约[SEP]"
    tok.chat_template = "{{ messages[-1].content }}[SEP]"
    with pytest.raises(DataError, match=r"r\.jsonl:1: the chat template writes what stands before answer 2 anew"):
        encode_causal(tok, rows, 64, "r.jsonl")


def test_rows_that_are_too_long_are_cut_and_counted(tmp_path):
    rows = read_conversations(
        lines(tmp_path / "r.jsonl", {"prompt": "户口本" * 9, "response": "窗口"}, {"prompt": "户口", "response": "预约" * 9})
    )
    made = encode_causal(tokenizer(), rows, 16, "r.jsonl")
    assert len(made) == 1 and made.cut == 2 and made.left_out == 1 and len(made.ids) == 16
    with pytest.raises(DataError, match="no row has an answer within 4 tokens"):
        encode_causal(tokenizer(), rows, 4, "r.jsonl")
    pairs = encode_pairs(tokenizer(), [("户口本" * 9, "预约" * 9), ("户", "本")], 10, 5, "r")
    assert np.diff(pairs.row_splits).tolist() == [10, 3] and np.diff(pairs.label_splits).tolist() == [5, 2] and pairs.cut == 1
    assert pairs.pair(0)[1][-1] == 3 and pairs.pair(0)[0][-1] == 3


# -------------------------------------------------------------------- runs

QUESTIONS = [("户口本", "窗口"), ("护照", "预约"), ("医保", "材料"), ("车牌", "补办"), ("社保", "养老"), ("行驶证", "驾驶证")]


@pytest.fixture
def start(tmp_path):
    folder = tmp_path / "start"
    tokenizer().save_pretrained(str(folder))
    (folder / "llama.json").write_text(json.dumps(LLAMA))
    (folder / "t5.json").write_text(json.dumps({"model_type": "t5", **T5}))
    lines(tmp_path / "rows.jsonl", *({"prompt": a, "response": b} for a, b in QUESTIONS))
    lines(tmp_path / "pairs.jsonl", *({"article": a, "title": b} for a, b in QUESTIONS))
    return tmp_path


def options(**changes):
    return WritingOptions(
        **{"epochs": 40, "batch_size": 3, "lr": 1e-2, "max_new_tokens": 6, "metric": "rouge_l", "seed": 3, **changes}
    )


def test_a_small_model_learns_the_answers_by_heart(start):
    rows = start / "rows.jsonl"
    result = finetune(
        rows, rows, model=start / "start" / "llama.json", out=start / "out", task="generate", options=options(), progress=False
    )
    report = result["best"]["report"]
    assert report["rouge_l"] == 1.0 and report["tokens"] == sum(len(b) + 1 for _, b in QUESTIONS)
    assert result["refit"] is None and (result["cut_rows"], result["left_out_rows"]) == (0, 0)
    assert result["history"][-1]["perplexity"] < 1.05
    # the folder is whole: as a user loads it and asks it
    model = govlm.AutoModelForCausalLM.from_pretrained(str(start / "out"))
    tok = govlm.AutoTokenizer.from_pretrained(str(start / "out"))
    asked = [tok.cls_token_id, *tok.apply_chat_template([{"role": "user", "content": "护照"}], add_generation_prompt=True)]
    written = model.generate([asked], max_new_tokens=6)[0, len(asked) :]
    assert tok.decode(written, skip_special_tokens=True).replace(" ", "") == "预约"


def test_answers_are_those_of_prompts_alone(start):
    model = govlm.AutoModelForCausalLM.from_config(govlm.AutoConfig.for_model(**LLAMA, vocab_size=30, eos_token_id=3))
    prompts = [np.array([2, *range(5, 5 + n)], np.int32) for n in (1, 6, 3)]
    together = answers(model, prompts, 5, 3)
    for prompt, ids in zip(prompts, together, strict=True):
        alone = model.generate(prompt[None], max_new_tokens=5)[0, len(prompt) :]
        assert ids[: len(alone)].tolist() == alone.tolist()
    beams = answers(model, prompts[1:2], 5, 3, num_beams=3)[0]
    assert beams.tolist() == model.generate(prompts[1][None], max_new_tokens=5, num_beams=3)[0, 7:].tolist()


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_summaries_by_either_kind_of_model(start, kind):
    pairs = start / "pairs.jsonl"
    result = finetune(
        pairs, pairs, model=start / "start" / f"{kind}.json", out=start / "out", task="summarise", source_field="article",
        target_field="title", options=options(epochs=40, generate_rows=3, instruction="材料{source}"), progress=False,
    )  # fmt: skip
    assert result["best"]["report"]["rouge_l"] == 1.0


def test_a_resumed_fine_tuning_is_the_same(start, monkeypatch):
    from govlm.train.writing import WritingTrainer

    rows, model = start / "rows.jsonl", start / "start" / "llama.json"
    settings = {"model": model, "task": "generate", "options": options(epochs=6, metric="loss"), "progress": False}
    whole = finetune(rows, rows, out=start / "whole", **settings)
    step = WritingTrainer._step

    def stop(self):
        if self.position.step == 7:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WritingTrainer, "_step", stop)
        finetune(rows, rows, out=start / "cut", **settings)
    again = finetune(rows, rows, out=start / "cut", resume=True, **settings)
    assert again["loss"] == whole["loss"] and again["history"] == whole["history"]
    assert logged(start / "whole") == logged(start / "cut")


def test_patience_ends_a_run(start):
    rows = start / "rows.jsonl"
    made = finetune(
        rows, rows, model=start / "start" / "llama.json", out=start / "out", task="generate", progress=False,
        options=options(epochs=30, lr=0.0, patience=2, metric="loss"),
    )  # fmt: skip
    assert made["epochs"] == 3


def test_an_adapter_is_trained_and_the_model_is_left(start, monkeypatch):
    from govlm.train.writing import WritingTrainer

    rows, base = start / "rows.jsonl", start / "base"
    finetune(
        rows, None, model=start / "start" / "llama.json", out=base, task="generate", options=options(epochs=1, metric="loss"),
        progress=False,
    )  # fmt: skip
    before = (base / "model.safetensors").read_bytes()
    lora = options(epochs=12, lora_r=8, lora_target="all-linear", lr=2e-2)
    settings = {"model": base, "task": "generate", "options": lora, "progress": False}
    whole = finetune(rows, rows, out=start / "adapter", **settings)
    assert whole["history"][-1]["loss"] < 0.5 * whole["history"][0]["loss"]
    assert (base / "model.safetensors").read_bytes() == before and not (start / "adapter" / "model.safetensors").exists()
    step = WritingTrainer._step

    def stop(self):
        if self.position.step == 13:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WritingTrainer, "_step", stop)
        finetune(rows, rows, out=start / "cut", **settings)
    again = finetune(rows, rows, out=start / "cut", resume=True, **settings)
    assert again["history"] == whole["history"]
    model = govlm.AutoModelForCausalLM.from_pretrained(str(start / "adapter"))
    tok = govlm.AutoTokenizer.from_pretrained(str(start / "adapter"))
    data = encode_causal(tok, read_conversations(rows), 64, "rows")
    assert evaluate_written(model, tok, data, lora)["loss"] == pytest.approx(whole["best"]["report"]["loss"], rel=1e-4)


def test_what_does_not_go_together_is_said(start):
    rows = start / "rows.jsonl"
    with pytest.raises(TrainError, match="does not write"):
        finetune(rows, model="govlm-small-zh", out=start / "o", task="generate", progress=False)
    with pytest.raises(TrainError, match="an adapter needs a trained model"):
        finetune(
            rows,
            model=start / "start" / "llama.json",
            out=start / "o",
            task="generate",
            options=options(lora_r=2),
            progress=False,
        )
    with pytest.raises(ValueError, match=r"instruction must be a text with \{source\}"):
        options(instruction="概括").check()


def test_the_command_line(start, capsys):
    from govlm.cli import main

    arguments = ["finetune", "--task", "summarise", "--train", str(start / "pairs.jsonl"), "--dev", str(start / "pairs.jsonl")]
    arguments += ["--model", str(start / "start" / "t5.json"), "--source-field", "article", "--target-field", "title"]
    arguments += ["--epochs", "2", "--lr", "1e-2", "--max-new-tokens", "6", "--out", str(start / "out"), "--no-progress"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "perplexity" in shown and "ROUGE-L" in shown and "of 6 answers" in shown
    wrong = ["finetune", "--train", "x.jsonl", "--out", str(start / "o"), "--lora-r", "4"]
    assert main(wrong) == 2 and "--lora-r belongs to --task generate" in capsys.readouterr().err


# -------------------------------------------------------------------- memory

LARGE = """
import resource, sys
import numpy as np
import govlm
from govlm.tokenizers import Packed
config = govlm.AutoConfig.for_model(
    "llama", vocab_size=150_000, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=2048, tie_word_embeddings=True)
model = govlm.AutoModelForCausalLM.from_config(config).train()
def step(tokens):
    ids = np.random.default_rng(0).integers(0, 150_000, tokens).astype(np.int32)
    loss = model(packed=Packed(ids, np.array([0, tokens])), labels=ids.astype(np.int64)).loss
    loss.backward()
step(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(2048)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_large_vocabulary_makes_no_matrix_of_logits():
    """2,048 tokens x 150,000 entries would be 1,229 MB in float32."""
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 2048 * 150_000 * 4 / 4


@pytest.mark.parametrize(("objective", "model"), [("causal", LLAMA), ("span", T5)])
def test_the_objective_is_an_option_of_the_command(work, tmp_path, capsys, objective, model):
    from govlm.cli import main

    config = tmp_path / "c.json"
    values = {
        "corpus": [str(work / "corpus")],
        "out": str(tmp_path / "o"),
        "steps": 2,
        "batch_size": 4,
        "max_length": 32,
        "model": model,
    }
    config.write_text(json.dumps(values), encoding="utf-8")
    assert main(["pretrain", "--config", str(config), "--objective", objective, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert json.loads((tmp_path / "o" / "pretrain.json").read_text("utf-8"))["objective"] == objective
    assert main(["pretrain", "--config", str(config), "--objective", "next"]) == 2
    assert "objective must be" in capsys.readouterr().err
