"""Pairs of texts: packed as transformers' tokenizer packs them, trained on, evaluated and predicted from the command line."""

import itertools
import json

import numpy as np
import pytest

import govlm
from govlm.data import DataError, Example
from govlm.train.evaluate import Classifier, encode, evaluate, predict_logits
from govlm.train.finetune import Options, finetune
from govlm.train.loop import TrainError
from govlm.train.ngrams import NgramOptions, count_ngrams
from govlm.train.quantise import quantise_folder
from govlm.train.source import load_model

LETTERS = "办理身份证医保社保查询预约公司注册如何怎么多久"
NAMES = ["0", "1"]


def rows(count=96, seed=0):
    """Pairs that begin with the same character (1) or not (0)."""
    draw = np.random.default_rng(seed)
    found = []
    for i in range(count):
        first = draw.choice(list(LETTERS[:8]))
        other = first if i % 2 else draw.choice([c for c in LETTERS[:8] if c != first])
        found.append(((str(first), str(other)), str(i % 2)))
    return found


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*specials, *sorted(set(LETTERS))]) + "\n", encoding="utf-8")
    config = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 32, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    for name, seed in (("train", 0), ("dev", 1)):
        lines = [json.dumps({"a": a, "b": b, "label": label}) for (a, b), label in rows(96, seed)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("limit", [3, 4, 5, 8, 13, 64])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pairs_are_packed_as_padded_ones_are(work, limit, side):
    tokenizer = govlm.BertTokenizer(str(work / "vocab.txt"), truncation_side=side)
    draw = np.random.default_rng(limit)
    texts = [["".join(draw.choice(list(LETTERS), draw.integers(0, 12))) for _ in range(40)] for _ in range(2)]
    texts[1] = [text or "办" for text in texts[1]]  # an empty pair is none, for __call__
    packed = tokenizer.encode_packed(*texts, max_length=limit)
    padded = tokenizer(*texts, truncation=True, max_length=limit)
    assert packed.ids.tolist() == [i for row in padded["input_ids"] for i in row]
    assert packed.token_type_ids.tolist() == [i for row in padded["token_type_ids"] for i in row]
    assert np.diff(packed.row_splits).tolist() == [len(row) for row in padded["input_ids"]]


def test_wrong_pairs_are_refused(work):
    tokenizer = govlm.BertTokenizer(str(work / "vocab.txt"))
    with pytest.raises(ValueError, match="2 texts, but 1 pairs"):
        tokenizer.encode_packed(["办", "理"], ["办"])
    with pytest.raises(ValueError, match="max_length 2 leaves no room"):
        tokenizer.encode_packed(["办"], ["办"], max_length=2)


def test_packed_pairs_give_the_logits_of_padded_ones(work):
    model, tokenizer = load_model(work / "config.json", NAMES, False, None, 1)
    examples = [Example(*r) for r in rows(12)]
    data = encode(model, tokenizer, examples, NAMES, False)
    sides = [[e.text[k] for e in examples] for k in (0, 1)]
    with govlm.no_grad():
        wanted = model(**tokenizer(*sides, padding=True, return_tensors="np")).logits
    assert np.allclose(predict_logits(model, data, 5), wanted, atol=1e-6)
    swapped = encode(model, tokenizer, [Example((b, a), label) for (a, b), label in rows(12)], NAMES, False)
    assert data.digest() != swapped.digest()


def test_a_model_learns_what_two_texts_have_in_common(work, tmp_path):
    options = Options(epochs=60, batch_size=16, lr=3e-3, seed=1, ngrams=False)
    fields = {"text_field": ("a", "b"), "label_field": "label"}
    result = finetune(
        work / "train.jsonl", work / "dev.jsonl", model=work / "config.json", out=tmp_path / "out", options=options, refit=False,
        progress=False, **fields,
    )  # fmt: skip
    assert result["ngrams"] is None and result["best"]["report"]["accuracy"] >= 0.9
    report = evaluate(tmp_path / "out", work / "dev.jsonl", ("a", "b"))
    assert report["accuracy"] == result["best"]["report"]["accuracy"]
    found = list(Classifier.from_pretrained(tmp_path / "out").classify([text for text, _ in rows(8, 1)]))
    assert [p.text for p in found] == [text for text, _ in rows(8, 1)]


def test_n_grams_of_pairs():
    """What both have, once for each time that both have it, and what one has more of, whichever it is."""
    options = NgramOptions(shortest=1, longest=1, pairs=True)
    pairs = [("办办证", "办证"), ("证", "证"), ("", "好"), ("好", ""), ("", "")]
    indices, values, splits = count_ngrams(pairs, options)
    single = NgramOptions(shortest=1, longest=1)
    edges = set(count_ngrams([""], single)[0])  # begin and end of a text count as characters
    bucket = {c: (set(count_ngrams([c], single)[0]) - edges).pop() for c in "办证好"}
    more = 1 << options.bits
    found = [dict(zip(indices[a:b].tolist(), values[a:b].tolist(), strict=True)) for a, b in itertools.pairwise(splits)]
    both = dict.fromkeys(map(int, edges), 1.0) | ({} if len(edges) > 1 else dict.fromkeys(map(int, edges), 2.0))
    assert found[0] == {**both, int(bucket["办"]): 1, int(bucket["证"]): 1, int(bucket["办"]) + more: 1}
    assert found[1] == {**both, int(bucket["证"]): 1}
    assert found[2] == found[3] == {**both, int(bucket["好"]) + more: 1}
    assert found[4] == both
    assert all((np.diff(indices[a:b]) > 0).all() for a, b in itertools.pairwise(splits))


def test_the_branch_of_pairs(work, tmp_path):
    options = Options(epochs=1, batch_size=16, lr=1e-4, seed=1)
    fields = {"text_field": ("a", "b"), "label_field": "label"}
    result = finetune(
        work / "train.jsonl", work / "dev.jsonl", model=work / "config.json", out=tmp_path / "out", options=options, refit=False,
        progress=False, **fields,
    )  # fmt: skip
    assert result["ngrams"]["features"] > 0
    assert result["best"]["report"]["accuracy"] == 1  # an epoch teaches the encoder nothing: what both have is enough
    assert evaluate(tmp_path / "out", work / "dev.jsonl", ("a", "b"))["accuracy"] == 1
    classifier = Classifier.from_pretrained(tmp_path / "out")
    assert [p.label for p in classifier.classify([("办", "办"), ("办", "理")])] == ["1", "0"]
    with pytest.raises(DataError, match="single texts, where this model was trained on pairs of texts"):
        list(classifier.classify(["办"]))
    quantise_folder(tmp_path / "out", tmp_path / "int8")
    assert evaluate(tmp_path / "int8", work / "dev.jsonl", ("a", "b"))["accuracy"] == 1


def test_from_the_command_line(work, tmp_path, capsys):
    from govlm.cli import main

    made = ["finetune", "--model", work / "config.json", "--train", work / "train.jsonl", "--text-field", "a,b", "--epochs", 1]
    assert main([str(a) for a in [*made, "--out", tmp_path / "out", "--no-progress"]]) == 0
    capsys.readouterr()
    lines = ["predict", "--model", tmp_path / "out", "--text-field", "a,b", work / "dev.jsonl", "--no-progress"]
    assert main([str(a) for a in lines]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["text"] == list(rows(1, 1)[0][0]) and first["label"] in NAMES
    assert main([str(a) for a in [*made[:6], "a,b,c", "--out", tmp_path / "x"]]) == 2


def test_where_pairs_do_not_belong(work, tmp_path):
    model, tokenizer = load_model(work / "config.json", NAMES, False, None, 1)
    with pytest.raises(DataError, match="cannot be mixed"):
        encode(model, tokenizer, [Example("办", "0"), Example(("办", "理"), "1")], NAMES, False)
    with pytest.raises(TrainError, match="takes single texts, not pairs"):
        finetune(
            work / "train.jsonl", model=work / "config.json", out=tmp_path / "out", text_field=("a", "b"), few_shot=True,
            progress=False,
        )  # fmt: skip
