"""`python -m benchmarks [--only NAME …] [--quick] [--max-isa avx2] [--out table.md] [--json out.json]`: the table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # python benchmarks/run.py
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import extra, machine
from benchmarks.peers.base import Case
from benchmarks.runner import Plan, Result, compare
from benchmarks.workloads import SHAPES, Batches, make_batches, mask_tokens, pad, write_model

INFERENCE_PEERS = ("torch", "torch_compile", "onnxruntime", "openvino")
TRAINING_PEERS = ("torch", "torch_sorted")
MIXED_PEERS = ("torch", "torch_sorted", "onnxruntime", "onnxruntime_sorted", "openvino", "openvino_sorted")


@dataclass(frozen=True)
class Row:
    """One line of the table. `unit`: "ms" a batch, "s" a step, or "tokens/s" (real tokens, special ones counted, padding not)."""

    name: str
    title: str
    shape: str
    kind: str
    size: int
    unit: str
    reach: str  # the bar, as in the plan of the project
    peers: tuple[str, ...]
    train: bool = False
    dropout: bool = False
    length: int = 0
    pad_to: int = 0
    batches: int = 1
    rounds: int = 5
    repeat: int = 1
    warm: int = 0
    labels: int = 15
    task: str = "classify"
    ours: str = "govlm"
    tolerance: float = 1e-4  # largest difference of logits and losses from the first side's


PACKED_PEERS = ("onnxruntime", "openvino", "govlm")  # govlm: weights in rows, as a checkpoint has them
INT8_PEERS = ("onnxruntime_int8",)
INT8_MIXED_PEERS = ("onnxruntime_int8", "onnxruntime_int8_sorted", "openvino_int8", "openvino_int8_sorted")
INT8_TOLERANCE = 0.25  # both sides round, each in its own way; logits of these models are below 1
F32_ROWS = (
    Row("base-16", "BERT-base f32, one request of 16", "bert-base", "fixed", 1, "ms", "1.25x than the best",
        INFERENCE_PEERS, length=16, rounds=12, repeat=10, warm=2),
    Row("base-128", "BERT-base f32, one request of 128", "bert-base", "fixed", 1, "ms", "1.1x than the best",
        INFERENCE_PEERS, length=128, rounds=10, repeat=4, warm=1),
    Row("base-32x32", "BERT-base f32, 32 requests of 32", "bert-base", "fixed", 32, "ms", "1.05x than the best",
        INFERENCE_PEERS, length=32, rounds=8),
    Row("4x312-16", "4x312 f32, one request of 16", "4x312", "fixed", 1, "ms", "1.4x than the best",
        INFERENCE_PEERS, length=16, rounds=12, repeat=40, warm=10),
    Row("4x312-32x32", "4x312 f32, 32 requests of 32", "4x312", "fixed", 32, "ms", "1.3x than the best",
        INFERENCE_PEERS, length=32, rounds=10, repeat=3, warm=1),
)  # fmt: skip


def _variant(row: Row, weights: str, reach: str, peers: tuple[str, ...], tolerance: float = Row.tolerance) -> Row:
    """A float32 row with weights held otherwise: "packed f32" or "int8"."""
    short = weights.split()[0]
    return replace(
        row, name=f"{row.name}-{short}", title=row.title.replace("f32", weights), reach=reach, peers=peers,
        ours=f"govlm_{short}", tolerance=tolerance,
    )  # fmt: skip


def _of_length(row: Row, length: int) -> Row:
    """A row of one request with another length."""
    old, new = str(row.length), str(length)
    return replace(row, name=row.name.replace(old, new), title=row.title.replace(f"of {old}", f"of {new}"), length=length)


ROWS = (
    Row("listing", "one listing step: BERT-base, 2 requests, padding to 512, AdamW", "bert-base", "listing", 2, "s", "28x",
        ("torch",), train=True, pad_to=512, rounds=5, labels=2),
    Row("tnews-base", "fine-tune BERT-base, TNEWS lengths, batch 32", "bert-base", "tnews", 32, "tokens/s", "1.9x",
        TRAINING_PEERS, train=True, dropout=True, batches=6, rounds=2),
    Row("tnews-4x312", "fine-tune 4x312, TNEWS lengths, batch 32", "4x312", "tnews", 32, "tokens/s", "2.7x",
        TRAINING_PEERS, train=True, dropout=True, batches=8, rounds=4),
    Row("laws-4x312", "fine-tune 4x312, law lengths, batch 32", "4x312", "laws", 32, "tokens/s", "6x",
        TRAINING_PEERS, train=True, dropout=True, batches=8, rounds=3),
    *F32_ROWS,
    *(_variant(row, "packed f32", "-", PACKED_PEERS) for row in (*F32_ROWS, *(_of_length(row, 21) for row in F32_ROWS if row.length == 16))),
    *(
        _variant(row, "int8", f"{times} than ONNX Runtime int8", INT8_PEERS, INT8_TOLERANCE)
        for row, times in zip(F32_ROWS, ("1.4x", "1.3x", "1.3x", "1.6x", "1.8x"), strict=True)
    ),
    Row("base-requests-int8", "BERT-base int8, 1,000 citizens' messages in batches of 50 (peers also sorted by length)", "bert-base",
        "requests", 50, "tokens/s", "1.4x", INT8_MIXED_PEERS, batches=20, rounds=2, ours="govlm_int8", tolerance=INT8_TOLERANCE),
    Row("4x312-requests-int8", "4x312 int8, 1,000 citizens' messages in batches of 50 (peers also sorted by length)", "4x312",
        "requests", 50, "tokens/s", "1.4x", INT8_MIXED_PEERS, batches=20, rounds=4, ours="govlm_int8", tolerance=INT8_TOLERANCE),
    Row("base-mixed", "BERT-base f32, 128 law paragraphs in batches of 32 (peers also sorted by length)", "bert-base", "laws", 32, "tokens/s", "-",
        MIXED_PEERS, batches=4, rounds=2),
    Row("pretrain-4x312", "pre-train 4x312 (masked LM), law lengths, 64 sequences a batch", "4x312", "laws", 64, "tokens/s", "11x",
        ("torch",), train=True, dropout=True, batches=3, rounds=3, task="mlm"),
)  # fmt: skip
EXTRA = ("import", "memory", "tokenizer")


def needed_flops(row: Row, batches: Batches) -> float:
    """The flops that the answers need (workloads.Shape.forward_flops, mlm_flops), whatever a side really computes."""
    shape = SHAPES[row.shape]
    if row.task == "mlm":
        masked = [int((mask_tokens(*pad(rows), number)[1] != -100).sum()) for number, rows in enumerate(batches.rows)]
        return sum(3 * shape.mlm_flops(n, m) for n, m in zip(batches.lengths, masked, strict=True))
    return sum(shape.train_flops(n) if row.train else shape.forward_flops(n) for n in batches.lengths)


def figure(row: Row, tokens: int, seconds: float) -> float:
    """The row's own unit from the seconds that all batches take."""
    if row.unit == "tokens/s":
        return tokens / seconds
    return seconds / row.batches * (1e3 if row.unit == "ms" else 1.0)


def ratio_to(results: list[Result], side: str = "govlm") -> tuple[float | None, str]:
    """How many times faster `side` of govlm is than the best peer, and that peer's name."""
    peers = {r.name: r.total() for r in results if not r.name.startswith("govlm") and r.total()}
    ours = next((r.total() for r in results if r.name == side), None)
    if not peers or not ours:
        return None, ""
    best = min(peers, key=lambda n: peers[n] or 0.0)
    return (peers[best] or 0.0) / ours, best


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 300 else f"{value:.3g}"


def run_row(row: Row, models: Path, options: argparse.Namespace, log: Any) -> dict[str, Any]:
    shape = SHAPES[row.shape]
    batches = make_batches(row.kind, row.batches, row.size, row.labels, length=row.length, vocab=shape.vocab)
    mlm = row.task == "mlm"
    folder = models / f"{row.shape}-{row.task if mlm else row.labels}"
    model = write_model(folder, shape if row.labels == shape.labels else _relabel(row), mlm=mlm)
    path = models / f"{row.name}.npz"
    batches.save(path)
    case = Case(
        row.name, str(model), str(path), row.train, row.pad_to, row.dropout, threads=options.threads, max_isa=options.max_isa,
        task=row.task,
    )  # fmt: skip
    adapters = [n for n in (*row.peers, row.ours) if not options.sides or n in options.sides]
    if options.quick:
        adapters = [n for n in adapters if n != "torch_compile"]
    rounds = max(1, row.rounds // 4) if options.quick else row.rounds
    results = compare(case, adapters, Plan(rounds, row.repeat, row.warm, tolerance=row.tolerance), log)
    tokens = int(sum(n.sum() for n in batches.lengths))
    ratio, best = ratio_to(results, row.ours)
    flops = needed_flops(row, batches)
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "reach": row.reach,
        "source": batches.source,
        "tokens": tokens,
        "ratio": ratio,
        "best_peer": best,
        "ours": row.ours,
        "ratio_to_torch": ratio_to([r for r in results if r.name in ("torch", row.ours)], row.ours)[0],
        "sides": [
            r.asdict()
            | {
                "figure": figure(row, tokens, r.total()) if r.total() else None,
                "needed_gflops": flops / r.total() / 1e9 if r.total() else None,
            }
            for r in results
        ],
    }


def _relabel(row: Row) -> Any:
    from dataclasses import replace

    return replace(SHAPES[row.shape], labels=row.labels)


def run_import(options: argparse.Namespace) -> dict[str, Any]:
    rows = extra.import_times(3 if options.quick else 15, options.threads)
    seconds = {r["name"]: r["seconds"] for r in rows}
    ours, bare = seconds["import govlm"], seconds["import numpy"]
    return {
        "name": "import",
        "title": "import govlm",
        "reach": "at most 1.3x of a bare import numpy",
        "ratio_to_numpy": ours / bare if ours and bare else None,
        "rows": rows,
    }


def run_memory(models: Path, options: argparse.Namespace, log: Any) -> dict[str, Any]:
    shape = SHAPES["bert-base"]
    path = models / "memory.npz"
    make_batches("fixed", 12, 32, shape.labels, length=32).save(path)
    model = write_model(models / f"bert-base-{shape.labels}", shape)
    case = Case("memory", str(model), str(path), True, dropout=True, threads=options.threads, max_isa=options.max_isa)
    adapters = [n for n in ("torch", "govlm") if not options.sides or n in options.sides]
    return {
        "name": "memory",
        "title": "memory: fine-tuning BERT-base, batch 32 x 32",
        "reach": "weights + gradients + two moments + at most 400 MB",
        "four_copies": 16 * shape.parameter_count(),
        "rows": extra.training_memory(case, adapters, 4 if options.quick else 12, log),
    }


def run_tokenizer() -> dict[str, Any]:
    """The rows of bench_tokenizer.run(), as they come."""
    row: dict[str, Any] = {
        "name": "tokenizer",
        "title": "WordPiece and BPE, Chinese law text, batch to arrays, 1 core",
        "reach": "300 MB/s; BPE 60 MB/s",
        "rows": [],
    }
    try:
        row["rows"] = importlib.import_module("benchmarks.bench_tokenizer").run()
    except Exception as error:
        row["note"] = f"{type(error).__name__}: {error}"
    return row


def render(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"Machine: {report['machine_text']}.", "", f"Versions: {report['versions_text']}.", ""]
    lines += [
        "| work | side | figure | share of f32 peak | largest difference: logits / losses | govlm / best peer | reach |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        for number_, side in enumerate(row["sides"]):
            title = f"{row['title']} ({row['source']}, {row['tokens']:,} tokens)" if number_ == 0 else ""
            value = f"{number(side['figure'])} {row['unit']}" if side["figure"] else side["note"] or "no figure"
            gflops = side["needed_gflops"]
            peak = f"{gflops / report['machine']['peak_gflops']:.0%}" if gflops else ""
            exact = " / ".join(f"{d:.1e}" for d in (side["logits_difference"], side["loss_difference"]) if d is not None)
            if exact and side["cosine"] is not None and side["cosine"] < 0.99999:
                exact += f", cosine {side['cosine']:.5f}"
            ours = side["name"] == row["ours"]
            ratio = f"**{row['ratio']:.2f}x** ({row['best_peer']})" if ours and row["ratio"] else ""
            if ratio and row["ratio_to_torch"] and row["best_peer"] != "torch":
                ratio += f", {row['ratio_to_torch']:.2f}x (torch)"
            lines.append(
                f"| {title} | {side['name']} | {value} | {peak} | {exact} | {ratio} | {row['reach'] if ours else ''} |"
            )
    for row in report["extra"]:
        lines += ["", f"**{row['title']}** (reach: {row['reach']})", ""]
        if row["name"] == "import":
            lines += ["| statement | time |", "|---|---|"]
            lines += [
                f"| `{r['name']}` | {r['seconds'] * 1e3:.0f} ms |" if r["seconds"] else f"| `{r['name']}` | {r['note']} |"
                for r in row["rows"]
            ]
            if row["ratio_to_numpy"]:
                lines += ["", f"`import govlm` takes {row['ratio_to_numpy']:.2f}x of `import numpy`."]
        elif row["name"] == "memory":
            lines += ["| side | peak resident | above weights + gradients + two moments |", "|---|---|---|"]
            for r in row["rows"]:
                text = (
                    f"{r['peak'] / 1e6:,.0f} MB | {(r['peak'] - row['four_copies']) / 1e6:,.0f} MB"
                    if r["peak"]
                    else f"{r['note']} | "
                )
                lines.append(f"| {r['name']} | {text} |")
        elif row["rows"]:
            keys = list(dict.fromkeys(k for r in row["rows"] for k in r))
            lines += ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
            lines += [
                "| "
                + " | ".join(f"{r.get(k, ''):.4g}" if isinstance(r.get(k), float) else str(r.get(k, "")) for k in keys)
                + " |"
                for r in row["rows"]
            ]
        if row.get("note"):
            lines.append(row["note"])
    if report["notes"]:
        lines += ["", *report["notes"]]
    return "\n".join(lines) + "\n"


def notes(options: argparse.Namespace) -> list[str]:
    out = [
        "Share of peak counts only the flops that the answer needs: real tokens, the last layer at [CLS] only (keys and values of all tokens)."
    ]
    if options.max_isa:
        out.append(
            f"The instruction set is capped to {options.max_isa} in govlm, torch, MKL and oneDNN; ONNX Runtime's MLAS has no such switch."
        )
    if options.quick:
        out.append("A quick run: few rounds, without torch.compile; indicative only.")
    return out


def write(report: dict[str, Any], versions: dict[str, str], options: argparse.Namespace) -> str:
    """Writes what there is so far (after every row: a run that is stopped keeps its rows) and returns the table."""
    report["versions_text"] = ", ".join(f"{k} {v}" for k, v in versions.items())
    text = render(report)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return text


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m benchmarks", description="govlm beside its peers: exactness first, then interleaved timing."
    )
    out.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[*(r.name for r in ROWS), *EXTRA], help="rows to run (default: all)"
    )
    out.add_argument(
        "--sides", nargs="+", metavar="SIDE", help="adapters to run, e.g. govlm torch (default: every peer of the row)"
    )
    out.add_argument("--quick", action="store_true", help="a quarter of the rounds, without torch.compile")
    out.add_argument(
        "--threads", type=int, default=min(2, len(os.sched_getaffinity(0))), help="threads of every side (default 2)"
    )
    out.add_argument(
        "--max-isa", choices=["", "avx2"], default="", help="cap the instruction set on every side that can be capped"
    )
    out.add_argument("--models", type=Path, help="keep the random models here between runs (default: a temporary folder)")
    out.add_argument("--out", type=Path, help="write the table (Markdown) here as well as to the screen")
    out.add_argument("--json", type=Path, help="write everything measured here")
    out.add_argument("--log", type=Path, help="what the sides print (default: dropped)")
    return out


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    chosen = set(options.only or [*(r.name for r in ROWS), *EXTRA])
    models = options.models or Path(tempfile.mkdtemp(prefix="govlm-bench-models-"))
    models.mkdir(parents=True, exist_ok=True)
    log: Any = options.log.open("w") if options.log else subprocess.DEVNULL
    try:
        here = machine.measure(options.threads, options.max_isa or None)
        peaks = [here.peak_gflops]
        report: dict[str, Any] = {
            "machine": here.asdict(), "machine_text": here.describe(), "versions_text": "", "rows": [], "extra": [], "notes": notes(options),
        }  # fmt: skip
        versions: dict[str, str] = {"python": platform.python_version(), "numpy": np.__version__}
        for row in ROWS:
            if row.name in chosen:
                print(f"{row.name} …", file=sys.stderr, flush=True)
                done = run_row(row, models, options, log)
                report["rows"].append(done)
                for side in done["sides"]:
                    versions |= {k: str(v) for k, v in side["versions"].items() if k != "fused"}
                again = machine.measure(
                    options.threads, options.max_isa or None
                )  # the best one seen: other work only lowers it
                peaks.append(again.peak_gflops)
                if again.peak_gflops >= max(peaks):
                    report |= {"machine": again.asdict(), "machine_text": again.describe()}
                write(report, versions, options)
        for name, call in (
            ("import", lambda: run_import(options)),
            ("memory", lambda: run_memory(models, options, log)),
            ("tokenizer", run_tokenizer),
        ):
            if name in chosen:
                print(f"{name} …", file=sys.stderr, flush=True)
                report["extra"].append(call())
                write(report, versions, options)
        print(write(report, versions, options))
    finally:
        if options.models is None:
            shutil.rmtree(models, ignore_errors=True)
        if options.log:
            log.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
