"""What the small models of benchmarks/writing.py are measured with: the n-gram model, and a model's perplexity of long texts."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import govlm

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("benchmarks/ is not part of an installed package", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.kneser_ney import KneserNey  # noqa: E402
from benchmarks.writing import first_sentence, shortened, sliding_perplexity  # noqa: E402

LLAMA = {
    "model_type": "llama", "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 64, "initializer_range": 0.3, "tie_word_embeddings": True,
}  # fmt: skip


def texts(count, seed=0, size=6):
    source = np.random.default_rng(seed)
    return [
        source.choice(size, source.integers(1, 40), p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05]).astype(np.int32) for _ in range(count)
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_every_context_sum_to_one(order):
    model = KneserNey(texts(60), 7, order)  # the token 6 is never seen
    for context in ([], [0], [5, 5, 5, 5], [0, 1, 0, 1], [6], [0, 6, 1]):
        every = [model.probabilities([np.array([*context, token], np.int32)])[-1] for token in range(7)]
        assert min(every) > 0 and sum(every) == pytest.approx(1.0, abs=1e-12)


def test_a_bigram_by_hand():
    """aab, ab over {a, b, c}: bigrams #a 2, aa 1, ab 2; the discounts are given, so that the numbers are short."""
    model = KneserNey([np.array([0, 0, 1]), np.array([0, 1])], 3, 2)
    high, low = model.orders[1], model.orders[0]
    assert high.counts[high.counts > 0].tolist() == [1, 2, 2]  # aa, ab, #a
    d1, d2 = high.discounts[1:3]
    y = 1 / (1 + 2 * 2)  # n1 / (n1 + 2 n2)
    assert d1 == pytest.approx(1 - 2 * y * 2 / 1) and d2 == pytest.approx(2)  # 2 - 3 y n3 / n2 with n3 = 0
    # lower order: a is reached from 2 contexts (#, a), b from one
    assert dict(zip((low.keys % 4).tolist(), low.counts.tolist(), strict=True))[0] == 2
    y = 1 / (1 + 2 * 1)
    e1, e2 = 1 - 2 * y * 1 / 1, 2.0
    below = (1 - e1) / 3 + (e1 + e2) / 3 / 3  # of b
    assert model.probabilities([np.array([0, 1])])[1] == pytest.approx((2 - d2) / 3 + (d1 + d2) / 3 * below)


def test_longer_contexts_help_where_the_text_has_them():
    rows = [np.tile(np.array([0, 1, 2, 0, 2, 1], np.int32), 6) for _ in range(5)]
    values = [KneserNey(rows, 3, order).perplexity(rows) for order in (1, 2, 3)]
    assert values[0] > values[1] > values[2]


def test_a_sliding_window_judges_every_token_once():
    govlm.set_seed(0)
    model = govlm.AutoModelForCausalLM.from_config(govlm.AutoConfig.for_model(**LLAMA))
    source = np.random.default_rng(1)
    rows = [source.integers(0, 20, length).astype(np.int32) for length in (1, 5, 30, 8)]

    def direct(row, width, stride):
        whole, logs, done = np.concatenate([[2], row]), [], 1
        while done < len(whole):
            stop = min(len(whole), width if done == 1 else done + stride)
            start = max(0, stop - width)
            logits = np.asarray(model(whole[None, start:stop]).logits, np.float64)[0]
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            logs += [logits[t - 1 - start, whole[t]] for t in range(done, stop)]
            done = stop
        return logs

    for width, stride in ((64, 32), (10, 4)):
        found = np.concatenate([direct(row, width, stride) for row in rows])
        assert len(found) == 44
        assert sliding_perplexity(model, rows, width, stride, 2) == pytest.approx(math.exp(-found.mean()), rel=1e-5)


def test_first_sentences():
    assert first_sentence("目的 探讨3.5版的效果。方法 略。") == "目的 探讨3.5版的效果。"
    assert first_sentence("提出一种算法.实验表明有效.") == "提出一种算法."
    assert first_sentence("没有句号") == "没有句号"


def test_shortened_texts_keep_whole_sentences_in_their_order():
    rows = [{"source": "甲3.5米。乙；丙!丁", "target": "题"}, {"source": "无句号", "target": "另一题"}]
    found = shortened(rows, 1, 3)
    assert found[:2] == rows and 2 < len(found) <= 8 and found == shortened(rows, 1, 3) != shortened(rows, 2, 3)
    for row in found[2:]:
        whole = rows[row["target"] == "另一题"]["source"]
        parts = [part for part in ("甲3.5米。", "乙；", "丙!", "丁", "无句号") if part in row["source"]]
        assert row["source"] == "".join(parts) and set(row["source"]) <= set(whole) and row["source"]
