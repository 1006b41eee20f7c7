"""Masked LM against replaced-token detection: the bundled model's shape, the same text, start and CPU time, then the same tasks.

    python benchmarks/objectives.py --data ../shared/data --work DIR [--minutes 20] [--seeds 3] [--out objectives]

A few steps of each objective are timed first (CPU time of the process, so that other work on the machine does not decide), and
each then makes the steps that fit into `minutes` of two cores. What counts is what the encoder is worth afterwards: it is
fine-tuned on the sets below as benchmarks/bundled.py does it, without the n-gram branch. WORK keeps the shards and the runs: a
run that was killed goes on. Writes OUT.json after every figure; OUT.md is the table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from bundled import SETTINGS, score_encoder  # noqa: E402
from recipe import DATA, recipe  # noqa: E402

OBJECTIVES = ("mlm", "rtd")
SETS = ("citizen", "smp2017", "tnews")
SHORT, LONG = 6, 26  # steps of the two timed runs: their difference has no start and no end in it


def run_steps(make: Any, work: Path, objective: str, steps: int, out: Path, start: Path | None) -> Path:
    """Folder of an encoder after so many steps; start: a checkpoint, None = what co-occurrence in the corpus tells."""
    from govlm.train.pretrain import pretrain, read_options

    if not (out / "config.json").exists():
        shared = {k: v for k, v in make.PRETRAINING.items() if k not in ("objective", "eval_every")}
        source = {"from": str(start)} if start else {"initial": "corpus", "model": make.SHAPE}
        options = {**shared, **source, "objective": objective, "steps": steps, "eval_every": 0, "out": str(out)}
        options["warmup"] = min(options["warmup"], steps // 2)
        options["corpus"] = (str(work / "corpus"),)
        pretrain(read_options(None, options), resume=(out / "checkpoints").exists())
    return out


def cpu_per_step(make: Any, work: Path, objective: str, start: Path) -> float:
    """CPU seconds of a training step, all threads together."""
    taken = []
    for steps in (SHORT, LONG):
        before = time.process_time()
        run_steps(make, work, objective, steps, work / "objectives" / f"{objective}-timed-{steps}", start)
        taken.append(time.process_time() - before)
    return (taken[1] - taken[0]) / (LONG - SHORT)


def table(results: dict[str, Any]) -> str:
    lines = [
        f"{results['minutes']:g} minutes of two cores each; accuracy in per cent, mean of {results['seeds']} seeds (least, most).",
        "",
        "| objective | steps | CPU s / step | " + " | ".join(SETS) + " |",
        "|---|---|---|" + "---|" * len(SETS),
    ]
    for objective in OBJECTIVES:
        found = results.get(objective, {})
        cells = []
        for name in SETS:
            scores = 100 * np.array(found.get("scores", {}).get(name, []))
            cells.append(f"{scores.mean():.1f} ({scores.min():.1f}, {scores.max():.1f})" if len(scores) else "")
        lines.append(f"| {objective} | {found.get('steps', '')} | {found.get('cpu', 0):.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Masked LM against replaced-token detection.")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default="objectives", metavar="NAME")
    arguments = parser.parse_args()
    work = arguments.work
    run = recipe(arguments.data)
    run.work = work
    run.corpus()
    make = sys.modules[type(run).__module__]
    file = Path(f"{arguments.out}.json")
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    asked = {"minutes": arguments.minutes, "seeds": arguments.seeds}
    if results and {k: results[k] for k in asked} != asked:
        parser.error(f"{file} holds a run of {results['minutes']:g} minutes and {results['seeds']} seeds: name another --out")
    results.update(asked)

    def note() -> None:
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        file.with_suffix(".md").write_text(table(results), encoding="utf-8")

    start = run_steps(make, work, "mlm", 1, work / "objectives" / "start", None)
    for objective in OBJECTIVES:
        found = results.setdefault(objective, {})
        if "cpu" not in found:
            found["cpu"] = cpu_per_step(make, work, objective, start)
            found["steps"] = int(arguments.minutes * 60 * 2 / found["cpu"])
            note()
    for objective in OBJECTIVES:
        found = results[objective]
        trained = run_steps(make, work, objective, found["steps"], work / "objectives" / f"{objective}-{found['steps']}", start)
        scores = found.setdefault("scores", {})
        for name in SETS:
            for seed in range(len(scores.setdefault(name, [])), arguments.seeds):
                reached, _ = score_encoder(name, arguments.data, str(trained), seed, "encoder", SETTINGS[name])
                scores[name].append(reached)
                note()
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
