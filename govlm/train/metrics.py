"""Accuracy, F1 and confusion matrices, and the tables that show them (aligned for full-width characters)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from govlm.terminal import display_width, pad

__all__ = [
    "classification_report",
    "confusion_matrix",
    "cross_entropy",
    "format_confusion",
    "format_per_class",
    "multi_label_report",
    "softmax",
    "span_report",
]


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Probabilities over the last axis, in double precision."""
    z = np.asarray(logits, np.float64)
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def cross_entropy(logits: ArrayLike, labels: NDArray[Any]) -> float:
    """The mean loss of logits [n, labels] for class numbers [n], or for 0/1 rows [n, labels] (each label by itself)."""
    z = np.asarray(logits, np.float64)
    if labels.ndim == 1:
        top = z.max(axis=1)
        return float(np.mean(top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(z)), labels]))
    return float(np.mean(np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))))


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, num_labels: int) -> NDArray[np.int64]:
    """[num_labels, num_labels]: rows are the true classes, columns the predicted ones."""
    true, predicted = np.asarray(true, np.int64), np.asarray(predicted, np.int64)
    return np.bincount(true * num_labels + predicted, minlength=num_labels**2).reshape(num_labels, num_labels)


def _ratio(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.zeros(len(a)), where=b != 0)


def _rows(names: Sequence[str], hits: NDArray[Any], predicted: NDArray[Any], support: NDArray[Any]) -> list[dict[str, Any]]:
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, predicted + support)
    return [
        {
            "label": names[i],
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
            "predicted": int(predicted[i]),
        }
        for i in range(len(names))
    ]


def _macro(per_class: list[dict[str, Any]]) -> float:
    """The mean F1 over the classes that occur, in the data or in the answers (scikit-learn's default)."""
    seen = [row["f1"] for row in per_class if row["support"] or row["predicted"]]
    return float(np.mean(seen)) if seen else 0.0


def classification_report(true: ArrayLike, predicted: ArrayLike, names: Sequence[str]) -> dict[str, Any]:
    """{"accuracy", "macro_f1", "per_class": […], "labels", "confusion"} for class numbers true [n] and predicted [n]."""
    matrix = confusion_matrix(true, predicted, len(names))
    hits, support, counts = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    per_class = _rows(names, hits, counts, support)
    total = int(matrix.sum())
    return {
        "accuracy": float(hits.sum() / total) if total else 0.0,
        "macro_f1": _macro(per_class),
        "count": total,
        "per_class": per_class,
        "labels": list(names),
        "confusion": matrix.tolist(),
    }


def multi_label_report(true: ArrayLike, predicted: ArrayLike, names: Sequence[str]) -> dict[str, Any]:
    """The same for true and predicted 0/1 matrices [n, labels]; accuracy counts rows that are right in every label.

    Adds "micro_f1"; the confusion is, for every label, [[true negatives, false positives], [false negatives, true positives]].
    """
    true, predicted = np.asarray(true).astype(bool), np.asarray(predicted).astype(bool)
    hits, support, counts = (true & predicted).sum(axis=0), true.sum(axis=0), predicted.sum(axis=0)
    per_class = _rows(names, hits, counts, support)
    pairs = int(support.sum() + counts.sum())
    negatives = (~true & ~predicted).sum(axis=0)
    return {
        "accuracy": float((true == predicted).all(axis=1).mean()) if len(true) else 0.0,
        "macro_f1": _macro(per_class),
        "micro_f1": float(2 * hits.sum() / pairs) if pairs else 0.0,
        "count": len(true),
        "per_class": per_class,
        "labels": list(names),
        "confusion": [
            [[int(negatives[i]), int(counts[i] - hits[i])], [int(support[i] - hits[i]), int(hits[i])]]
            for i in range(len(names))
        ],
    }


def span_report(true: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Entity-level figures for the spans (start, end, label) of each text: a span is right when all three are.

    {"precision", "recall", "micro_f1" over all spans, "macro_f1" (mean over labels), "accuracy" (texts whose spans are all
    right), "count" (texts), "per_class"}: seqeval's definition (CoNLL's), with every span counted once.
    """
    labels = sorted({s[2] for spans in (*true, *predicted) for s in spans})
    index = {label: i for i, label in enumerate(labels)}
    hits, counts, support = (np.zeros(len(labels), np.int64) for _ in range(3))
    whole = 0
    for gold_list, answer_list in zip(true, predicted, strict=True):
        gold, answer = {tuple(s) for s in gold_list}, {tuple(s) for s in answer_list}
        whole += gold == answer
        for spans, into in ((gold & answer, hits), (answer, counts), (gold, support)):
            for span in spans:
                into[index[span[2]]] += 1
    per_class = _rows(labels, hits, counts, support)
    right, answered, wanted = int(hits.sum()), int(counts.sum()), int(support.sum())
    return {
        "precision": right / answered if answered else 0.0,
        "recall": right / wanted if wanted else 0.0,
        "micro_f1": 2 * right / (answered + wanted) if answered + wanted else 0.0,
        "macro_f1": _macro(per_class),
        "accuracy": whole / len(true) if len(true) else 0.0,
        "count": len(true),
        "per_class": per_class,
    }


def format_per_class(report: dict[str, Any]) -> str:
    """The per-class table as text."""
    columns = ("precision", "recall", "f1", "support")
    width = max([display_width(row["label"]) for row in report["per_class"]] + [len("label")])
    lines = [pad("label", width) + "".join(pad(c, 11, right=True) for c in columns)]
    for row in report["per_class"]:
        cells = [f"{row[c]:.3f}" for c in columns[:3]] + [str(row["support"])]
        lines.append(pad(row["label"], width) + "".join(pad(c, 11, right=True) for c in cells))
    return "\n".join(lines)


def format_confusion(report: dict[str, Any]) -> str:
    """The confusion matrix of a single-label report as text: rows true, columns predicted (numbered), zeros as dots."""
    names, matrix = report["labels"], report["confusion"]
    number = len(str(len(names)))
    width = max([display_width(n) for n in names] + [len("true")])
    cell = max(len(str(max((max(row) for row in matrix), default=0))), number) + 1
    lines = [
        pad("true \\ predicted", number + 1 + width) + "".join(pad(str(i + 1), cell, right=True) for i in range(len(names)))
    ]
    head = display_width(lines[0]) - cell * len(names)
    for i, row in enumerate(matrix):
        label = pad(f"{i + 1:>{number}} {names[i]}", head)
        lines.append(label + "".join(pad(str(n) if n else "·", cell, right=True) for n in row))
    return "\n".join(lines)
