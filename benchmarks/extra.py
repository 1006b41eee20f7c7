"""Rows that are not a case of batches: the import, and memory while fine-tuning."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.peers.base import Case
from benchmarks.runner import Side, SideError, environment
from benchmarks.workloads import ROOT

IMPORTS = {
    "import numpy": "import numpy",
    "import govlm": "import govlm",
    "from govlm import BertTokenizer, BertForSequenceClassification, AdamW": "from govlm import BertTokenizer, BertForSequenceClassification, AdamW",
    "import torch; from transformers import BertTokenizer, BertForSequenceClassification": (
        "import torch; from transformers import BertTokenizer, BertForSequenceClassification; from torch.utils.data import Dataset, DataLoader"
    ),
    "python, nothing imported": "pass",
}


def import_times(rounds: int, threads: int) -> list[dict[str, Any]]:
    """Wall seconds of `python -c IMPORT`, interleaved; the first turn warms the file cache and is not counted."""
    env = environment(threads)
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    notes: dict[str, str] = {}
    for turn in range(rounds + 1):
        for name, code in IMPORTS.items():
            if name in notes or ("torch" in name and turn > max(2, rounds // 5)):
                continue
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code], env=env, cwd=ROOT / "benchmarks", capture_output=True, text=True
            )
            seconds = time.perf_counter() - start
            if done.returncode != 0:
                notes[name] = (done.stderr.strip().splitlines() or ["failed"])[-1]
            elif turn:
                times[name].append(seconds)
    return [
        {"name": name, "seconds": statistics.median(times[name]) if times[name] else None, "note": notes.get(name, "")}
        for name in IMPORTS
    ]


def training_memory(case: Case, adapters: list[str], steps: int, log: Any = subprocess.DEVNULL) -> list[dict[str, Any]]:
    """Peak resident bytes of a process that only loads the model and trains `steps` steps, each on a new batch.

    New batches matter: a buffer that is touched lazily (embedding rows) grows until every row of the vocabulary has been seen.
    """
    out = []
    for name in adapters:
        side = Side(name, case, log)
        row: dict[str, Any] = {"name": name, "peak": None, "loaded": None, "note": ""}
        try:
            count = side.ask("load")["batches"]
            side.ask("begin")
            row["loaded"] = side.ask("memory")["peak"]
            for step in range(steps):
                side.ask("time", batch=step % count, warm=1, repeat=0)
            row["peak"] = side.ask("memory")["peak"]
        except SideError as error:
            row["note"] = str(error)
        finally:
            side.close()
        out.append(row)
    return out
