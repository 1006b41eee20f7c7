"""Pre-training: the masks, the sequences, what a run gives and leaves, kills and failures, new words."""

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_runs import finish, logged, wait_for
from tiny_corpus import MODEL, config, tokenizer, write_corpus

import govlm
from govlm.train.loop import NonFiniteError, TrainError
from govlm.train.masking import IGNORED, Masker, philox
from govlm.train.plots import read_log
from govlm.train.pretrain import PretrainOptions, SpikeError, make_model, pretrain, read_options, run_labelled, step_flops
from govlm.train.replaced import make_pair, sample
from govlm.train.sequences import Order, Sequences, cut, open_corpora
from govlm.train.vocabulary import extend_vocabulary, read_words


@pytest.fixture
def work(tmp_path):
    write_corpus(tmp_path / "corpus")
    return tmp_path


LEARN = {"lr": 5e-3, "batch_size": 16}


def run(work, out="out", resume=False, **changes):
    return pretrain(read_options(None, config(work, out, **changes)), resume=resume, progress=False)


def losses(folder):
    return [(r["step"], r["loss"], r["grad_norm"]) for r in read_log(folder / "log.jsonl")[0]]


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


# -------------------------------------------------------------------- masks


def test_philox_gives_the_published_numbers():
    """The known answers of Random123 for philox4x32, 10 rounds."""
    cases = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, answer in cases:
        got = philox(tuple(np.array([c], np.uint64) for c in counter), key)
        assert tuple(int(x[0]) for x in got) == answer


CLS, SEP, MASK, UNK, VOCAB = 2, 3, 4, 1, 500


def packed(rows, source):
    """A batch of sequences with these numbers of tokens; words of 1 to 4 tokens."""
    ids, words, splits = [], [], [0]
    for length in rows:
        row = source.integers(5, VOCAB, length)
        row[source.random(length) < 0.03] = UNK
        starts = np.zeros(length, bool)
        at = 0
        while at < length:
            starts[at] = True
            at += int(source.integers(1, 5))
        ids += [CLS, *row, SEP]
        words += [False, *starts, False]
        splits.append(len(ids))
    return np.array(ids, np.int32), np.array(splits, np.int64), np.array(words)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 80), min_size=1, max_size=9), st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_masks_take_whole_words_and_leave_the_rest(rows, seed, probability):
    ids, splits, words = packed(rows, np.random.default_rng(seed))
    masker = Masker(VOCAB, MASK, [0, UNK, CLS, SEP], probability)
    got = masker(ids, splits, words, np.arange(len(rows)), seed)
    chosen = got.labels != IGNORED
    assert got.count == chosen.sum()
    assert (got.labels[chosen] == ids[chosen]).all() and (got.ids[~chosen] == ids[~chosen]).all()
    assert not np.isin(ids[chosen], [0, UNK, CLS, SEP, MASK]).any()
    assert not np.isin(got.ids[chosen], [0, UNK, CLS, SEP]).any()
    assert ((got.uniform >= 0) & (got.uniform < 1)).all()
    for row, (begin, end) in enumerate(itertools.pairwise(splits)):
        marks = chosen[begin + 1 : end - 1]
        inside, special = words[begin + 1 : end - 1], np.isin(ids[begin + 1 : end - 1], [UNK])
        for at in range(1, rows[row]):  # a token goes with the one before it unless a word begins (or [UNK] stands there)
            if not inside[at] and not special[at] and not special[at - 1]:
                assert marks[at] == marks[at - 1]
        ordinary = int((~special).sum())
        if ordinary:
            assert 1 <= marks.sum() <= max(4, probability * ordinary + 2)
            assert marks.sum() >= min(ordinary, probability * ordinary - 4)


def test_without_words_each_token_is_one():
    ids, splits, _ = packed([7, 1, 12], np.random.default_rng(0))
    masker, numbers = Masker(VOCAB, MASK, [0, UNK, CLS, SEP]), np.arange(3)
    found = [masker(ids, splits, words, numbers, 5, 2) for words in (None, np.ones(len(ids), bool))]
    assert np.array_equal(found[0].ids, found[1].ids) and np.array_equal(found[0].labels, found[1].labels)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(0, 2**32 - 1), st.randoms())
def test_a_mask_belongs_to_its_sequence_whatever_the_batch(rows, seed, chance):
    ids, splits, words = packed(rows, np.random.default_rng(seed))
    numbers, epochs = np.array([chance.randrange(2**40) for _ in rows]), np.array([chance.randrange(9) for _ in rows])
    masker = Masker(VOCAB, MASK, [0, UNK, CLS, SEP])
    whole = masker(ids, splits, words, numbers, seed, epochs)
    for row in chance.sample(range(len(rows)), 2):
        part = slice(splits[row], splits[row + 1])
        alone = masker(
            ids[part], np.array([0, rows[row] + 2]), words[part], numbers[row : row + 1], seed, epochs[row : row + 1]
        )
        assert np.array_equal(alone.ids, whole.ids[part]) and np.array_equal(alone.labels, whole.labels[part])
        assert np.array_equal(alone.uniform, whole.uniform[part])


def test_shares_and_epochs():
    ids, splits, words = packed([120] * 200, np.random.default_rng(5))
    masker = Masker(VOCAB, MASK, [0, UNK, CLS, SEP])
    counts, seen = np.zeros(4), []
    for epoch in range(10):
        got = masker(ids, splits, words, np.arange(200), 7, epoch)
        chosen = got.labels >= 0
        seen.append(chosen)
        changed = got.ids[chosen] != ids[chosen]
        hidden = got.ids[chosen] == MASK
        counts += [chosen.sum(), hidden.sum(), (changed & ~hidden).sum(), (~np.isin(ids, [UNK, CLS, SEP])).sum()]
    total, hidden, swapped, ordinary = counts  # 36,000 chosen tokens: three deviations of a share are below 0.007
    assert total / ordinary == pytest.approx(0.15, abs=0.003)
    assert hidden / total == pytest.approx(0.8, abs=0.01)
    assert swapped / total == pytest.approx(0.1, abs=0.01)
    both = (seen[0] & seen[1]).sum() / seen[0].sum()
    assert both == pytest.approx(0.15, abs=0.03)  # the next epoch draws anew


# -------------------------------------------------------------------- sequences


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 70), max_size=8), st.integers(1, 20), st.integers(0, 999), st.floats(0.02, 1))
def test_pieces_cover_every_document_and_begin_where_words_do(sizes, limit, seed, density):
    splits = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    words = np.random.default_rng(seed).random(splits[-1]) < density
    begins, owner = cut(splits, words, limit)
    ends = np.minimum(np.append(begins[1:], splits[-1]), splits[owner + 1]) if len(begins) else begins
    covered = np.concatenate([np.arange(a, b) for a, b in zip(begins, ends, strict=True)]) if len(begins) else []
    assert np.array_equal(covered, np.arange(splits[-1]))
    for begin, end, document in zip(begins, ends, owner, strict=True):
        assert 0 < end - begin <= limit and splits[document] <= begin < end <= splits[document + 1]
        if begin != splits[document] and not words[begin]:  # only where a word is longer than what was left
            assert not words[max(splits[document], begin - 1) : begin + 1].any() or begin - 1 in begins


def test_a_batch_is_what_the_shards_hold(work):
    corpora = open_corpora([work / "corpus"])
    every = Sequences(corpora, 16, CLS, SEP)
    assert (every.length <= 14).all() and every.length.sum() == corpora[0].tokens
    batch = every.batch(np.array([3, 0, len(every) - 1]))
    for row, number in enumerate([3, 0, len(every) - 1]):
        ids = batch.ids[batch.row_splits[row] : batch.row_splits[row + 1]]
        words = batch.word_starts[batch.row_splits[row] : batch.row_splits[row + 1]]
        shard = corpora[0].shard(int(every.shard[number]))
        begin, end = every.begin[number], every.begin[number] + every.length[number]
        assert ids[0] == CLS and ids[-1] == SEP and np.array_equal(ids[1:-1], shard.ids[begin:end])
        assert np.array_equal(words[1:-1], shard.word_starts(begin, end)) and not words[[0, -1]].any()
        assert words[1]


def test_the_order_is_every_sequence_once_an_epoch():
    order, other = Order(10, 3), Order(10, 4)
    stream, epochs = order.take(0, 35)
    assert epochs.tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 5
    assert all(sorted(stream[e * 10 : e * 10 + 10]) == list(range(10)) for e in range(3))
    assert stream[:10].tolist() != stream[10:20].tolist() and stream[:10].tolist() != other.take(0, 10)[0].tolist()
    assert np.array_equal(Order(10, 3).take(17, 23)[0], stream[17:23])


def test_held_out_documents_are_nowhere_in_the_training(work):
    every = Sequences(open_corpora([work / "corpus"]), 16, CLS, SEP)
    train, held = every.split(0.1, 10_000)
    assert set(train.document) | set(held.document) == set(every.document)
    assert not set(train.document) & set(held.document) and 0 < len(set(held.document)) < 40
    assert len(every.split(0.1, 5)[1]) == 5 and np.array_equal(every.split(0.1, 5)[0].begin, train.begin)
    assert len(every.split(0.0, 5)[1]) == 0


def test_documents_that_the_corpus_set_aside_are_the_held_out_ones(work):
    run(work, "drawn", steps=2)
    write_corpus(work / "corpus" / "held-out", count=9, seed=4)
    apart = open_corpora([work / "corpus" / "held-out"])[0].tokens
    steps = run(work, "apart", steps=0, epochs=1)["steps"]
    assert (
        steps
        > run(work, "less", steps=0, epochs=1, heldout=[str(work / "corpus")], corpus=[str(work / "corpus" / "held-out")])[
            "steps"
        ]
    )
    whole = Sequences(open_corpora([work / "corpus"]), 32, CLS, SEP)
    assert steps == round(len(whole) / 8)  # nothing was drawn from the documents to train on
    write_corpus(work / "corpus" / "held-out", count=9, seed=5)
    assert open_corpora([work / "corpus" / "held-out"])[0].tokens != apart
    with pytest.raises(TrainError, match="the held-out set is not the same"):
        run(work, "apart", steps=0, epochs=1, resume=True)


# -------------------------------------------------------------------- options


def test_options_come_from_toml_and_json_and_set(tmp_path):
    values = {"corpus": ["a"], "out": "o", "from": "dir", "steps": 3, "lr": 1, "model": {"hidden_dropout_prob": 0}}
    (tmp_path / "c.json").write_text(json.dumps(values))
    options = read_options(tmp_path / "c.json", {"model.attention_probs_dropout_prob": 0.2, "seed": 4.0})
    assert (options.start, options.lr, options.seed, options.corpus) == ("dir", 1.0, 4, ("a",))
    assert options.model == {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0.2}
    text = 'corpus = "a"\nout = "o"\ntokens = 1_000\n[model]\nhidden_size = 8\n'
    (tmp_path / "c.toml").write_text(text)
    table = {"hidden_size": 8}
    read_options(None, {"corpus": "c", "out": "o", "steps": 1, "model": table, "model.hidden_size": 16})
    assert table == {"hidden_size": 8}  # the caller's, untouched
    if sys.version_info >= (3, 11):
        assert read_options(tmp_path / "c.toml").model == {"hidden_size": 8}
    else:
        with pytest.raises(ValueError, match=r"c\.toml: TOML needs Python 3\.11"):
            read_options(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1}, "unknown key 'learning_rate'"),
        ({"batchsize": 1}, r"unknown key 'batchsize' \(do you mean batch_size\?\)"),
        ({"lr": "fast"}, "lr must be a number, not 'fast'"),
        ({"steps": 2.5}, "steps must be of type int, not 2.5"),
        ({"steps": True}, "steps must be of type int"),
        ({"corpus": 3}, "corpus must be a list of strings"),
        ({"model": "bert"}, "model must be a table"),
        ({"tokens": 10}, "exactly one of steps, tokens, epochs, minutes"),
        ({"steps": 0}, "exactly one of steps"),
        ({"objective": "nsp"}, "objective must be mlm, rtd, causal, span"),
        ({"mask_probability": 0}, "mask_probability must be above 0"),
        ({"schedule": "zigzag"}, "schedule must be linear"),
        ({"spike": 0.5}, "spike must be above 1"),
        ({"model": {}}, "model must be the shape"),
    ],
)
def test_one_line_for_a_wrong_option(tmp_path, changes, message):
    values = {"corpus": ["a"], "out": "o", "steps": 1, "model": {"hidden_size": 8}, **changes}
    (tmp_path / "c.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message) as caught:
        read_options(tmp_path / "c.json")
    assert "c.json" in str(caught.value) and "\n" not in str(caught.value)


# -------------------------------------------------------------------- runs


def test_it_learns_and_what_it_writes_can_be_used(work):
    result = run(work, steps=400, eval_every=200, **LEARN)
    out = work / "out"
    steps, evaluations = read_log(out / "log.jsonl")
    assert [e["step"] for e in evaluations] == [200, 400] and len(steps) == 400 == result["steps"]
    uniform = np.log(len(tokenizer()))
    assert steps[0]["loss"] > 0.9 * uniform and evaluations[-1]["loss"] < 0.75 * uniform
    ids = Sequences(open_corpora([work / "corpus"]), 32, CLS, SEP)
    counts = np.bincount(np.concatenate([ids.batch(np.array([n])).ids[1:-1] for n in range(len(ids))]))
    assert evaluations[-1]["accuracy"] > 2 * counts.max() / counts.sum()  # far better than always the most frequent one
    assert all(0 < s["of_peak"] < 1.5 and s["tokens_per_s"] > 0 for s in steps)
    assert json.loads((out / "result.json").read_text())["heldout"] == evaluations[-1]
    model, tok = govlm.BertForMaskedLM.from_pretrained(out), govlm.AutoTokenizer.from_pretrained(out)
    encoded = tok(["户口本补[MASK]"])
    assert np.asarray(model(**encoded).logits).shape == (1, 7, len(tok))
    assert govlm.AutoModel.from_pretrained(out, add_pooling_layer=False).num_parameters() < model.num_parameters()


def test_the_plot(work):
    pytest.importorskip("matplotlib")
    run(work, steps=5)
    assert (work / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_next_stage_goes_on_in_the_stream_of_batches(work):
    """Step k of a run that skips n steps has the batch of step n + k."""
    whole = [e["tokens"] for e in read_log(run(work, "whole", steps=7) and work / "whole" / "log.jsonl")[0]]
    later = [e["tokens"] for e in read_log(run(work, "later", steps=3, skip=4) and work / "later" / "log.jsonl")[0]]
    assert np.diff(whole)[3:].tolist() == np.diff([0, *later]).tolist() and len(set(np.diff(whole))) > 2


def test_the_rate_of_a_stage(work):
    run(work, steps=10, schedule="warmup_stable_decay", warmup=0.2, decay=3, lr=1e-3)
    rates = [e["lr"] for e in read_log(work / "out" / "log.jsonl")[0]]
    assert rates[:2] == [0.0, 5e-4] and rates[2:8] == [1e-3] * 6 and 0 < rates[9] < rates[8] < 1e-3


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_same_seed_same_bits_on_any_number_of_threads(work, objective):
    before = govlm.num_threads()
    try:
        for threads in (1, 2, 3):
            govlm.set_num_threads(threads)
            run(work, f"t{threads}", steps=8, objective=objective)
    finally:
        govlm.set_num_threads(before)
    assert losses(work / "t1") == losses(work / "t2") == losses(work / "t3")
    assert weights(work / "t1") == weights(work / "t2") == weights(work / "t3")
    run(work, "other", steps=8, objective=objective, seed=2)
    assert losses(work / "other") != losses(work / "t1")


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_accumulation_is_the_batch_in_pieces(work, objective):
    """Also with dropout on, and with batches that cross the end of an epoch."""
    run(work, "whole", steps=30, objective=objective)
    run(work, "parts", steps=30, objective=objective, accumulate=3)
    parts, whole = ([x[1] for x in losses(work / name)] for name in ("parts", "whole"))
    if objective == "mlm":
        np.testing.assert_allclose(parts, whole, rtol=1e-4)
    else:  # a last bit of a probability may let another word be drawn, once in a while
        np.testing.assert_allclose(parts[:2], whole[:2], rtol=1e-6)
        np.testing.assert_allclose(parts, whole, rtol=0.1)


def test_a_run_by_tokens_by_epochs_and_by_minutes(work):
    every = Sequences(open_corpora([work / "corpus"]), 32, CLS, SEP).split(0.1, 1024)[0]
    mean = every.tokens / len(every)
    assert run(work, "tokens", steps=0, tokens=4000)["steps"] == round(4000 / (8 * mean))
    assert run(work, "epochs", steps=0, epochs=0.5)["steps"] == round(0.5 * len(every) / 8)
    result = run(work, "minutes", steps=0, minutes=0.01)
    assert result["steps"] >= 1
    again = run(work, "minutes", steps=0, minutes=0.01, resume=True)  # the plan is the checkpoint's, not timed anew
    assert (again["steps"], again["loss"]) == (result["steps"], result["loss"])


def test_going_on_from_a_checkpoint(work):
    run(work, "first", steps=300, **LEARN)
    write_corpus(work / "corpus", count=60, seed=9)
    result = run(work, "adapted", steps=3, lr=1e-4, **{"from": str(work / "first"), "model": {"hidden_dropout_prob": 0.0}})
    fresh = run(work, "fresh", steps=3, lr=1e-4)
    assert losses(work / "adapted")[0][1] < 0.8 * losses(work / "fresh")[0][1]
    assert result["heldout"]["loss"] < 0.8 * fresh["heldout"]["loss"]
    assert govlm.BertConfig.from_pretrained(work / "adapted").hidden_dropout_prob == 0.0
    tok = govlm.AutoTokenizer.from_pretrained(work / "first")
    tok.add_tokens(["新词"])
    tok.save_pretrained(str(work / "first"))
    with pytest.raises(TrainError, match="has another vocabulary than"):
        run(work, "other", steps=3, **{"from": str(work / "first"), "model": {}})


def test_shapes_that_do_not_fit(work):
    with pytest.raises(TrainError, match=r"model\.hidden_sise is no field of bert \(do you mean hidden_size\?\)"):
        run(work, model={"hidden_sise": 3})
    with pytest.raises(TrainError, match="max_length is 64, the model has 48 positions"):
        run(work, max_length=64)
    with pytest.raises(ValueError, match="made with another tokenizer"):
        write_corpus(work / "second")
        manifest = json.loads((work / "second" / "corpus.json").read_text())
        manifest["tokenizer_sha256"] = "0" * 64
        (work / "second" / "corpus.json").write_text(json.dumps(manifest))
        run(work, corpus=[str(work / "corpus"), str(work / "second")])


def test_flops_are_those_of_the_products():
    """Counted product by product for one sequence of 7 tokens, 2 of them to be guessed."""
    c = govlm.BertConfig(**MODEL, vocab_size=50)
    h, f, n, r, v = 32, 64, 7, 2, 50
    first = 4 * n * h * h + 2 * n * h * f + 2 * n * n * h
    last = 2 * n * h * h + 2 * r * h * h + 2 * r * h * f + 2 * n * r * h
    head = r * h * h + r * h * v
    assert step_flops(c, np.array([n]), np.array([r])) == 3 * 2 * (first + last + head)


# -------------------------------------------------------------------- replaced-token detection


def test_draws_follow_the_softmax():
    source = np.random.default_rng(0)
    logits = source.normal(0, 2, (1, 150)).astype(np.float32)
    uniform = (np.arange(60_000) + 0.5) / 60_000
    drawn = np.concatenate([sample(np.repeat(logits, 1000, axis=0), part) for part in np.split(uniform, 60)])
    share = np.bincount(drawn, minlength=150) / len(drawn)
    wish = np.exp(logits[0].astype(float)) / np.exp(logits[0].astype(float)).sum()
    np.testing.assert_allclose(share, wish, atol=4e-5)
    edge = np.full((1, 64), -100.0, np.float32)
    edge[0, 63] = 0
    assert sample(edge, np.array([0.0]))[0] in (0, 63) and sample(edge, np.array([1 - 1e-12]))[0] == 63


def test_shared_embeddings_get_both_gradients(work):
    options = read_options(None, config(work, objective="rtd", model={**MODEL, "hidden_dropout_prob": 0.0}))
    pair = make_pair(options, len(tokenizer())).train()
    assert pair.generator.config.num_hidden_layers == 1 and pair.discriminator.config.num_hidden_layers == 2
    names = [name for name, _ in pair.named_parameters()]
    assert "discriminator.bert.embeddings.word_embeddings.weight" in names
    assert not any(n.startswith("generator.") and "_embeddings" in n for n in names)
    ids, splits, labels = np.array([2, 7, 8, 9, 3], np.int32), np.array([0, 5]), np.array([-100, 7, -100, -100, -100])
    generated, _ = run_labelled(pair.generator, ids, splits, labels, training=True, save=True, seed=1, step=0)
    generated.backward(1.0)
    outputs = pair.discriminator(np.array([[2, 7, 6, 9, 3]]), labels=np.array([[0, 0, 1, 0, 0]]))
    outputs.loss.backward()
    name = "embeddings.word.weight"
    apart = [np.array(m.core.gradient(name)) for m in (pair.generator, pair.discriminator)]
    assert all(np.abs(a).max() > 0 for a in apart)
    pair.gather()
    wish = apart[0] + apart[1]
    np.testing.assert_allclose(pair.discriminator.core.gradient(name), wish, rtol=1e-6)
    assert not pair.generator.core.gradient(name).any()
    # a second forward reaches other rows; what was moved to rows that no token has reached must stay, up to the step
    outputs = pair.discriminator(np.array([[2, 12, 13, 3]]), labels=np.array([[0, 1, 0, 0]]))
    before = np.array(pair.discriminator.core.gradient(name))
    outputs.loss.backward()
    got = pair.discriminator.core.gradient(name)
    np.testing.assert_array_equal(np.delete(got, [2, 3, 12, 13], axis=0), np.delete(before, [2, 3, 12, 13], axis=0))
    assert all(np.abs(got[row] - before[row]).max() > 0 and np.abs(before[row]).max() > 0 for row in (12, 13))
    values = np.array(pair.discriminator.core.parameter(name))
    govlm.AdamW(list(pair.parameters()), lr=0.01).step()
    moved = np.abs(pair.discriminator.core.parameter(name) - values).max(axis=1)
    assert (moved[1:] > 0).all()  # every row: the generator's softmax reaches all of them


def test_replaced_tokens_leave_an_encoder(work):
    result = run(work, steps=400, objective="rtd", eval_every=100, **LEARN)
    first, last = result["history"][0], result["history"][-1]
    assert last["generator_loss"] < first["generator_loss"] < np.log(len(tokenizer()))
    assert last["loss"] < first["loss"] and last["accuracy"] > 0.85
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = govlm.BertModel.from_pretrained(work / "out", add_pooling_layer=False)
    assert encoder.config.num_hidden_layers == 2
    tensors = govlm.load_file(work / "out" / "model.safetensors")
    kept = govlm.load_file(next((work / "out" / "checkpoints").iterdir()) / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    assert np.array_equal(tensors[name], kept["bert." + name]) and not any("classifier" in n for n in tensors)
    again = run(work, "second", steps=2, objective="rtd", model={}, **{"from": str(work / "out")})
    assert again["heldout"]["generator_loss"] < 0.5 * (last["generator_loss"] + first["generator_loss"])


# -------------------------------------------------------------------- kills and failures


def start(work, out, *extra, **options):
    (work / f"{out}.json").write_text(json.dumps(config(work, out, save_steps=3, **options)))
    return subprocess.Popen(
        [sys.executable, "-m", "govlm", "pretrain", "--config", f"{out}.json", "--json", *extra],
        cwd=work,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_killed_with_kill_9_again_and_again(work, objective):
    straight = json.loads(finish(start(work, "straight", objective=objective))[0])
    folder = work / "killed"
    being_saved = lambda: any((folder / "checkpoints").glob("tmp-*"))  # noqa: E731
    kills = 0
    for moment in [lambda: logged(folder) >= 2, being_saved, lambda: logged(folder) >= 25, being_saved]:
        process = start(work, "killed", "--resume", objective=objective)
        if wait_for(process, moment):
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        process.communicate()
    assert kills >= 3
    result = json.loads(finish(start(work, "killed", "--resume", objective=objective))[0])
    assert losses(folder) == losses(work / "straight") and weights(folder) == weights(work / "straight")
    assert (result["loss"], result["history"]) == (straight["loss"], straight["history"])
    assert len(list((folder / "checkpoints").iterdir())) == 1


def test_a_checkpoint_of_another_config_names_the_field(work):
    run(work, steps=4)
    for changes, message in [
        ({"lr": 0.1}, r"made with lr=0\.003, this run has 0\.1"),
        ({"model": {**MODEL, "hidden_size": 64}}, r"made with model\.hidden_size=32, this run has 64"),
        ({"model": {**MODEL, "hidden_dropout_prob": 0.0}}, r"model\.hidden_dropout_prob=None, this run has 0\.0"),
        ({"model": {k: v for k, v in MODEL.items() if k != "initializer_range"}}, r"initializer_range=0\.1, this run has None"),
        ({"batch_size": 4}, "made with batch_size=8, this run has 4"),
        ({"objective": "rtd"}, "made with objective='mlm', this run has 'rtd'"),
    ]:
        with pytest.raises(TrainError, match=message):
            run(work, resume=True, **{"steps": 4, **changes})
    with pytest.raises(TrainError, match="holds the checkpoints of another run"):
        run(work, steps=4)
    write_corpus(work / "corpus", seed=5)
    with pytest.raises(TrainError, match="the corpus is not the same"):
        run(work, steps=4, resume=True)


def test_a_corrupt_shard_is_named_before_it_is_used(work):
    path = work / "corpus" / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors") as caught:
        run(work)
    assert "\n" not in str(caught.value) and not (work / "out").exists()


def good_checkpoint(folder):
    (path,) = (folder / "checkpoints").iterdir()
    tensors = govlm.load_file(path / "model.safetensors")
    assert all(np.isfinite(t).all() for t in tensors.values())
    return path


def test_a_loss_that_leaves_its_course_stops_the_run(work):
    """The rate is far too high from step 60 on; what is kept is from before that."""
    with pytest.raises(SpikeError, match=r"step \d+: the loss is \S+, above 1\.2 times its running mean") as caught:
        run(work, steps=6000, warmup=4000, lr=4.0, spike=1.2, save_steps=5, schedule="constant_with_warmup", clip=0.0)
    kept = good_checkpoint(work / "out")
    step = int(re.search(r"the checkpoint of step (\d+) is kept", str(caught.value))[1])
    assert kept.name == f"step-{step:08d}"
    logged_losses = {s: loss for s, loss, _ in losses(work / "out")}
    assert logged_losses[step] <= 1.2 * np.mean([logged_losses[s] for s in range(step - 20, step)])


def test_nan_stops_with_the_last_good_checkpoint(work):
    with pytest.raises(NonFiniteError, match=r"the (loss|gradient norm) is (nan|inf).*the checkpoint of step \d+ is kept"):
        run(work, steps=4000, warmup=2000, lr=1e30, spike=0, save_steps=1, schedule="constant_with_warmup", clip=0.0)
    good_checkpoint(work / "out")


def test_an_empty_corpus(work):
    write_corpus(work / "corpus", count=0, shards=0)
    with pytest.raises(TrainError, match="no document to train on"):
        run(work)


def test_the_command_line_says_what_is_wrong(work):
    process = start(work, "out", "--set", "lr=fast")
    assert "lr must be a number, not 'fast'" in finish(process, 2)[1]
    process = start(work, "out", "--set", "lr")
    assert "--set takes key=value, not 'lr'" in finish(process, 2)[1]


# -------------------------------------------------------------------- new words


@pytest.fixture
def trained(work):
    run(work, steps=3)
    return work / "out"


def test_new_words_start_as_the_mean_of_their_pieces(trained, work):
    report = extend_vocabulary(trained, ["身份证", "补办", "证", "身份证"], work / "extended")
    assert report["added"] == {"身份证": ["身", "份", "证"], "补办": ["补", "办"]} and report["known"] == ["证"]
    tok, old = govlm.AutoTokenizer.from_pretrained(work / "extended"), tokenizer()
    assert tok.tokenize("身份证补办窗口") == ["身份证", "补办", "窗", "口"]
    before, after = (govlm.load_file(d / "model.safetensors") for d in (trained, work / "extended"))
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        assert len(after[name]) == len(old) + 2 == report["vocab_size"]
        assert np.array_equal(after[name][: len(old)], before[name])
        for word in ("身份证", "补办"):
            pieces = old.convert_tokens_to_ids(list(word))
            mean = before[name][pieces].mean(axis=0)
            np.testing.assert_allclose(after[name][tok.convert_tokens_to_ids(word)], mean, atol=1e-7)
    model = govlm.BertForMaskedLM.from_pretrained(work / "extended")
    assert np.asarray(model(**tok(["身份证[MASK]"])).logits).shape[-1] == len(tok)


def test_transformers_reads_the_new_words(trained, work):
    transformers = pytest.importorskip("transformers", reason="a live comparison: pip install transformers")
    extend_vocabulary(trained, ["身份证", "wechat"], work / "extended")
    theirs, ours = (kind.from_pretrained(str(work / "extended")) for kind in (transformers.BertTokenizer, govlm.AutoTokenizer))
    for text in ("身份证补办", "份身份证WeChat", "wechats身份"):
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def test_new_words_command_and_refusals(trained, work):
    (work / "words.txt").write_text("医保\n\n  车牌 \n", encoding="utf-8")
    assert read_words(work / "words.txt") == ["医保", "车牌"]
    done = subprocess.run(
        [
            sys.executable, "-m", "govlm", "vocabulary", "extend", "--model", "out", "--words", "words.txt", "--out", "new", "--json",
        ],
        cwd=work, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert list(json.loads(done.stdout)["added"]) == ["医保", "车牌"]
    with pytest.raises(TrainError, match="holds the model itself"):
        extend_vocabulary(trained, ["医保"], trained)
    with pytest.raises(ValueError, match="a word to be added is empty"):
        extend_vocabulary(trained, [" "], work / "x")
    (work / "words.txt").write_bytes("医保\n".encode("gb18030"))
    with pytest.raises(ValueError, match=r"words\.txt:1: not UTF-8"):
        read_words(work / "words.txt")


def test_an_extended_model_trains_on(trained, work):
    extend_vocabulary(trained, ["身份证"], work / "extended")
    options = PretrainOptions(start=str(work / "extended"), max_length=16)
    model = make_model(options, len(tokenizer()) + 1)
    assert model.config.vocab_size == len(tokenizer()) + 1
