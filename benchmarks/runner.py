"""Interleaves the sides of one case, each in its own process on the same threads: exactness first, then turns of timing."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import Case
from benchmarks.workloads import ROOT, Batches

HANDOVER_SECONDS = 0.03  # lets the thread pool of the side that has just run stop spinning


@dataclass(frozen=True)
class Plan:
    """How much is measured. `rounds` turns a side; a turn times each batch `repeat` times after `warm` unmeasured runs."""

    rounds: int
    repeat: int = 1
    warm: int = 0
    check_steps: int = 3
    check_batches: int = 2
    tolerance: float = 1e-4  # largest difference of logits, and of losses


@dataclass
class Result:
    """One side's outcome. `seconds[b]` = every time of batch b; `note` says why there is none."""

    name: str
    seconds: dict[int, list[float]] = field(default_factory=dict)
    logits_difference: float | None = None
    loss_difference: float | None = None
    cosine: float | None = None  # smallest over the rows of logits, with the first side's
    peak_bytes: int | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def total(self) -> float | None:
        """Seconds for all batches once: the sum over batches of the median."""
        return sum(statistics.median(s) for s in self.seconds.values()) if self.seconds else None

    def asdict(self) -> dict[str, Any]:
        return asdict(self) | {"total_seconds": self.total()}


def environment(threads: int, max_isa: str = "") -> dict[str, str]:
    """The environment of every side: the same number of threads everywhere, no network, and the cap on the instruction set."""
    env = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOVLM_NUM_THREADS", "RAYON_NUM_THREADS"):
        env[name] = str(threads)
    env |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    env["PYTHONPATH"] = os.pathsep.join([*filter(None, [env.get("PYTHONPATH")]), str(ROOT)])  # last: an installed govlm wins
    if max_isa == "avx2":
        env |= {
            "GOVLM_MAX_ISA": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "DNNL_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        }
    return env


class SideError(RuntimeError):
    """A side failed; the message is its own."""


class Side:
    """A worker process."""

    def __init__(self, adapter: str, case: Case, log: Any = subprocess.DEVNULL) -> None:
        self.name = adapter
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", adapter, case.dump()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(case.threads, case.max_isa),
            cwd=ROOT / "benchmarks",  # not ROOT: its govlm would hide an installed one
        )

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Raises SideError with the side's own message; a side that died says so."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do} | fields) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SideError(f"{self.name} died (exit status {self.process.wait()})")
        reply = json.loads(line)
        if "unavailable" in reply:
            raise SideError(reply["unavailable"])
        if "error" in reply:
            raise SideError(reply["error"])
        return reply

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def compare(case: Case, adapters: list[str], plan: Plan, log: Any = subprocess.DEVNULL) -> list[Result]:
    """Runs `case` on every adapter; the first one that loads is what the others' logits and losses are held against.

    A side whose logits or losses differ by more than `plan.tolerance` is not timed: its note gives the difference.
    """
    results = {name: Result(name) for name in adapters}
    sides: dict[str, Side] = {}
    batches: dict[str, int] = {}
    regroups: set[str] = set()
    try:
        for name in adapters:
            side = Side(name, case, log)
            try:
                reply = side.ask("load")
            except SideError as error:
                results[name].note = str(error)
                side.close()
                continue
            sides[name] = side
            batches[name] = reply["batches"]
            results[name].versions = reply["versions"]
            if reply["regroups"]:
                regroups.add(name)
        _check(case, sides, regroups, results, plan)
        for name in [n for n in sides if results[n].note]:
            sides.pop(name).close()
        for side in sides.values():
            side.ask("begin")
        for name, side in sides.items():  # everything is warm and every shape seen before the first measured turn
            for batch in range(batches[name] if not case.train else min(1, batches[name])):
                side.ask("time", batch=batch, warm=1, repeat=0)
        order = list(sides)
        for turn in range(plan.rounds):
            for batch in range(max(batches.values(), default=0)):
                for name in order[turn % max(len(order), 1) :] + order[: turn % max(len(order), 1)]:
                    if batch >= batches[name]:
                        continue
                    time.sleep(HANDOVER_SECONDS)
                    reply = sides[name].ask("time", batch=batch, warm=plan.warm, repeat=plan.repeat)
                    results[name].seconds.setdefault(batch, []).extend(reply["seconds"])
        for name, side in sides.items():
            results[name].peak_bytes = side.ask("memory")["peak"]
    finally:
        for side in sides.values():
            side.close()
    return list(results.values())


def smallest_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Over the rows [..., labels]."""
    if not a.size:
        return 1.0
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / np.maximum(norms, 1e-30)).min())


def _check(case: Case, sides: dict[str, Side], regroups: set[str], results: dict[str, Result], plan: Plan) -> None:
    """Logits of the first batches and, for training, losses of the first steps, against the first side's."""
    reference_logits: dict[int, np.ndarray] = {}
    reference_losses: list[float] | None = None
    count = len(Batches.load(case.batches).rows)
    with tempfile.TemporaryDirectory(prefix="govlm-bench-") as folder:
        for name, side in sides.items():
            if name in regroups:  # the same code as its unsorted twin on the same rows
                continue
            try:
                for batch in range(min(plan.check_batches, count)):
                    path = str(Path(folder, f"{len(reference_logits)}-{batch}.npy"))
                    side.ask("logits", batch=batch, file=path)
                    logits = np.load(path).astype(np.float64)
                    reference = reference_logits.setdefault(batch, logits)
                    if logits.shape != reference.shape:
                        raise SideError(f"not exact: logits of shape {logits.shape} for {reference.shape}")
                    difference = float(np.abs(logits - reference).max()) if logits.size else 0.0
                    results[name].logits_difference = max(results[name].logits_difference or 0.0, difference)
                    results[name].cosine = min(results[name].cosine or 1.0, smallest_cosine(logits, reference))
                if not (results[name].logits_difference or 0.0) <= plan.tolerance:
                    raise SideError(f"not exact: logits differ by {results[name].logits_difference:.2g}")
                if case.train and plan.check_steps:
                    losses = side.ask("losses", steps=plan.check_steps)["losses"]
                    reference_losses = losses if reference_losses is None else reference_losses
                    difference = max(abs(a - b) for a, b in zip(losses, reference_losses, strict=True))
                    results[name].loss_difference = difference
                    if not difference <= plan.tolerance:
                        raise SideError(f"not exact: losses differ by {difference:.2g}")
            except SideError as error:
                results[name].note = str(error)
