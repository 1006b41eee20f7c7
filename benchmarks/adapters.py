"""LoRA fine-tuning of a model of Qwen2.5-0.5B's shape with random weights, beside PEFT on torch: speed and memory of whole processes.

    python -m benchmarks.adapters [--work DIR] [--sides f32,int8,int4] [--batch 1] [--length 256] [--steps 5] [--checkpointing]

A step is forward, backward and AdamW on `batch` sequences; every token but the first is a label; rank 8 beside all linear layers.
PEFT's base is float32, ours float32, int8 and int4 (`govlm quantize`). Each side is a process of its own; they take their steps in
turn, on the same threads (OMP_NUM_THREADS, default 2), after two to warm up. First of all exactness: the losses of the first steps
of PEFT and of our float32 side, from the same base and the same adapter. Memory is the peak of the resident set, mapped weights
included; the CPU's seconds of a step say more than its length where the machine is busy. --work keeps the models (4 GB) for the next time. Needs torch, transformers and peft.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE: dict[str, Any] = {
    "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "max_position_embeddings": 32768, "rope_theta": 1000000.0, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}  # fmt: skip
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WARM = 2
RATE = 2e-4


def make_models(work: Path, sides: list[str]) -> None:
    """The base, its int8 and int4 twins, and an adapter, where they are not there yet."""
    import govlm
    from govlm.configuration import Qwen2Config
    from govlm.train.quantise import QuantiseOptions, quantise_folder

    base = work / "f32"
    if not (base / "model.safetensors").exists():
        govlm.set_seed(1)
        govlm.Qwen2ForCausalLM(Qwen2Config(**SHAPE)).save_pretrained(base)
    if not (work / "adapter" / "adapter_config.json").exists():
        govlm.set_seed(2)
        model = govlm.Qwen2ForCausalLM.from_pretrained(base)
        model.add_adapter(govlm.LoraConfig(r=8, lora_alpha=16, target_modules=LAYERS))
        model.save_pretrained(work / "adapter")
    for bits in (8, 4):
        if f"int{bits}" in sides and not (work / f"int{bits}" / "config.json").exists():
            quantise_folder(base, work / f"int{bits}", QuantiseOptions(bits=bits, smooth=False, sequences=2, length=8))


def batches(batch: int, length: int) -> Any:
    generator = np.random.default_rng(7)
    while True:
        yield generator.integers(0, SHAPE["vocab_size"], (batch, length))


# ---- the sides -------------------------------------------------------------------------------------------------------------


def govlm_step(work: Path, side: str, checkpointing: bool) -> Any:
    import govlm

    model = govlm.Qwen2ForCausalLM.from_pretrained(work / side)
    model.load_adapter(work / "adapter", is_trainable=True)
    if checkpointing:
        model.gradient_checkpointing_enable()
    optimizer = govlm.AdamW(model.parameters(), lr=RATE)
    model.train()

    def step(ids: Any) -> float:
        loss = model(ids, labels=ids).loss
        value = float(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return value

    return step


def peft_step(work: Path, side: str, checkpointing: bool) -> Any:
    import peft
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    base = transformers.AutoModelForCausalLM.from_pretrained(work / "f32", dtype=torch.float32)
    if checkpointing:
        base.gradient_checkpointing_enable()
        base.enable_input_require_grads()
    model = peft.PeftModel.from_pretrained(base, str(work / "adapter"), is_trainable=True).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)

    def step(ids: Any) -> float:
        tensor = torch.from_numpy(ids)
        loss = model(input_ids=tensor, labels=tensor).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    return step


def serve(arguments: argparse.Namespace) -> None:
    """One side: a line in, a step, a line out."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print
    make = peft_step if arguments.side == "peft" else govlm_step
    step, source = make(arguments.work, arguments.side, arguments.checkpointing), batches(arguments.batch, arguments.length)
    for _ in sys.stdin:
        ids = next(source)
        start, busy = time.perf_counter(), time.process_time()
        loss = step(ids)
        fields = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - busy, "loss": loss}
        out.write(json.dumps({**fields, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}) + "\n")
        out.flush()


# ---- the comparison --------------------------------------------------------------------------------------------------------


class Side:
    """A side's process and what it has answered."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name = name
        command = [sys.executable, "-m", "benchmarks.adapters", "--side", name, "--work", str(arguments.work)]
        command += ["--batch", str(arguments.batch), "--length", str(arguments.length)]
        command += ["--checkpointing"] if arguments.checkpointing else []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        self.answers: list[dict[str, float]] = []

    def step(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended: run `python -m benchmarks.adapters --side {self.name} …` to see why")
        self.answers.append(json.loads(line))

    @property
    def seconds(self) -> float:
        return statistics.median(a["seconds"] for a in self.answers[WARM:])

    @property
    def cpu(self) -> float:
        return statistics.median(a["cpu"] for a in self.answers[WARM:])

    @property
    def peak(self) -> float:
        return self.answers[-1]["peak"]

    def close(self) -> None:
        self.process.communicate()


def compare(arguments: argparse.Namespace) -> None:
    names = ["peft", *arguments.sides.split(",")]
    make_models(arguments.work, names)
    sides = [Side(name, arguments) for name in names]
    for _ in range(WARM + arguments.steps):
        for side in sides:
            side.step()
    for side in sides:
        side.close()
    peer = sides[0]
    tokens = arguments.batch * arguments.length
    print(
        f"{arguments.batch} x {arguments.length} tokens, {os.environ['OMP_NUM_THREADS']} threads, {arguments.steps} steps, medians"
    )
    print(
        f"{'side':6}{'tokens/s':>10}{'speed':>8}{'cpu s':>8}{'cpu':>8}{'peak MB':>10}{'memory':>9}   losses of the first steps"
    )
    for side in sides:
        losses = " ".join(f"{a['loss']:.4f}" for a in side.answers[:4])
        print(
            f"{side.name:6}{tokens / side.seconds:10.1f}{peer.seconds / side.seconds:7.2f}x"
            f"{side.cpu:8.2f}{peer.cpu / side.cpu:7.2f}x{side.peak / 2**20:10.0f}"
            f"{100 * side.peak / peer.peak:7.0f} %   {losses}"
        )
        if side.name == "f32":
            worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(side.answers, peer.answers, strict=True))
            if worst > 1e-3:
                sys.exit(f"the losses differ from PEFT's by up to {worst:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, help="where the models are kept (default: a temporary folder)")
    parser.add_argument("--sides", default="f32,int8,int4")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true", help="recompute each layer in the backward, on both sides")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    if arguments.side:
        serve(arguments)
        return
    if arguments.work is not None:
        arguments.work = arguments.work.resolve()
        compare(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.work = Path(folder)
        compare(arguments)


if __name__ == "__main__":
    main()
