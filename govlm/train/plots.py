"""The loss curve of a run, from its log.jsonl; matplotlib is the extra govlm[notebook]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["plot_log", "read_log"]


def read_log(log: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(steps, evaluations) of a log.jsonl. Lines that a kill cut short are left out."""
    steps, evaluations = [], []
    for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "evaluation" in record:
            evaluations.append(record["evaluation"])
        elif "loss" in record:
            steps.append(record)
    return steps, evaluations


def plot_log(log: str | Path, out: str | Path, title: str | None = None) -> None:
    """Draws the training loss (every step, and a running mean), the held-out loss and accuracy, and the learning rate.

    log: a log.jsonl; out: a .png, .svg or .pdf. ImportError names the extra when matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f'a plot needs matplotlib ({error}): pip install "govlm[notebook]"') from None
    steps, evaluations = read_log(log)
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    x = np.array([r["step"] for r in steps], float)
    y = np.array([r["loss"] for r in steps], float)
    if len(x):
        top.plot(x, y, color="0.8", linewidth=0.6, label="training, every step")
        width = max(1, len(y) // 100)
        smooth = np.convolve(y, np.ones(width) / width, mode="valid")
        top.plot(x[width - 1 :], smooth, color="C0", label=f"training, mean of {width}")
        bottom.plot(x, [r["lr"] for r in steps], color="C2")
    held = [e for e in evaluations if "loss" in e]
    if held:
        at = [e["step"] for e in held]
        top.plot(at, [e["loss"] for e in held], "o-", color="C1", markersize=3, label="held out")
        if all("accuracy" in e for e in held):
            right = top.twinx()
            right.plot(at, [e["accuracy"] for e in held], "s--", color="C3", markersize=3, label="held-out accuracy (right)")
            right.set_ylabel("accuracy")
            right.legend(loc="center right")
    top.set_ylabel("loss")
    if len(x) or held:
        top.legend(loc="upper right")
    if title:
        top.set_title(title)
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("step")
    figure.savefig(str(out), dpi=120)
