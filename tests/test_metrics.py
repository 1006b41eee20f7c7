"""Metrics against hand-made figures and against definitions written out, and the tables' alignment."""

import numpy as np
import pytest

from govlm.terminal import display_width
from govlm.train.metrics import (
    classification_report,
    format_confusion,
    format_per_class,
    multi_label_report,
    softmax,
)


def test_by_hand():
    report = classification_report([0, 0, 1, 1, 2], [0, 1, 1, 1, 0], ["甲", "乙", "丙", "丁"])
    assert report["accuracy"] == pytest.approx(3 / 5)
    assert report["confusion"] == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert [r["f1"] for r in report["per_class"]] == pytest.approx([0.5, 0.8, 0.0, 0.0])
    assert report["macro_f1"] == pytest.approx((0.5 + 0.8 + 0.0) / 3)  # 丁 occurs nowhere and does not count
    assert report["per_class"][1]["precision"] == pytest.approx(2 / 3)
    assert report["per_class"][1]["support"] == 2


def test_against_definitions():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 6, 400), rng.integers(0, 6, 400)
    report = classification_report(true, predicted, list("abcdef"))
    f1 = []
    for c in range(6):
        tp = sum(t == c and p == c for t, p in zip(true, predicted, strict=True))
        fp = sum(t != c and p == c for t, p in zip(true, predicted, strict=True))
        fn = sum(t == c and p != c for t, p in zip(true, predicted, strict=True))
        f1.append(2 * tp / (2 * tp + fp + fn))
    assert report["macro_f1"] == pytest.approx(np.mean(f1))
    assert report["accuracy"] == pytest.approx(np.mean(true == predicted))


def test_against_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 4, 90), rng.integers(0, 5, 90)
    report = classification_report(true, predicted, list("abcdefg"))
    assert report["macro_f1"] == pytest.approx(sk.f1_score(true, predicted, average="macro"))


def test_multi_label():
    true = [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
    predicted = [[1, 0, 0], [0, 0, 0], [1, 1, 1]]
    report = multi_label_report(true, predicted, ["a", "b", "c"])
    assert report["accuracy"] == pytest.approx(1 / 3)
    assert [r["f1"] for r in report["per_class"]] == pytest.approx([1, 1, 0])
    assert report["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert report["confusion"][2] == [[1, 1], [1, 0]]


def test_nothing_predicted():
    assert multi_label_report(np.zeros((2, 2)), np.zeros((2, 2)), ["a", "b"])["macro_f1"] == 0.0
    assert classification_report([], [], ["a"])["accuracy"] == 0.0


def test_softmax_is_stable():
    assert softmax([1e4, 1e4]).tolist() == [0.5, 0.5]
    assert softmax(np.float32([[0, 0, 0]])).sum() == pytest.approx(1)


def test_full_width_characters_keep_the_columns():
    assert display_width("社保a") == 5 and display_width("e\u0301") == 1
    report = classification_report([0, 1, 1], [0, 1, 0], ["身份证补领", "abc"])
    for text in (format_per_class(report), format_confusion(report)):
        assert len({display_width(line) for line in text.splitlines()}) == 1
