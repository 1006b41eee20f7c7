"""`python -m benchmarks.sharing [--processes 8]`: do processes that load one model share its pages?

Every process loads the same BERT-base and answers one request; then the parent reads each one's /proc/PID/smaps. The mapped
weights count as shared when the proportional share (PSS) of their file over all processes is one file, not one a process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.runner import environment
from benchmarks.workloads import ROOT, SHAPES, write_model

_CHILD = """
import sys
import numpy as np
import govlm
model = govlm.BertForSequenceClassification.from_pretrained(sys.argv[1])
with govlm.no_grad():
    logits = model(input_ids=np.array([[101, 700, 800, 102]])).logits
print(repr(float(np.abs(logits).sum())), flush=True)
sys.stdin.read()
"""


def mapped(pid: int, file: str) -> dict[str, int]:
    """Bytes of the process's mappings of `file` (`file_*`) and of all its mappings (`all_*`)."""
    out = dict.fromkeys(("file_rss", "file_pss", "file_private", "all_rss", "all_pss", "all_private"), 0)
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = line.split()
        if not head[0].endswith(":"):
            ours = line.endswith(file)
            continue
        key = {"Rss:": "rss", "Pss:": "pss", "Private_Clean:": "private", "Private_Dirty:": "private"}.get(head[0])
        if key:
            out["all_" + key] += int(head[1]) * 1024
            if ours:
                out["file_" + key] += int(head[1]) * 1024
    return out


def measure(folder: Path, processes: int) -> dict[str, Any]:
    """Starts `processes` processes on the model in `folder`; all are alive while the pages are counted, none afterwards."""
    file = (folder / "model.safetensors").resolve()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT / "benchmarks",
            env=environment(1),
        )
        for _ in range(processes)
    ]
    try:
        answers = []
        for child in children:
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line:
                raise RuntimeError("a process died while it loaded the model")
            answers.append(line.strip())
        rows = [mapped(child.pid, str(file)) for child in children]
    finally:
        for child in children:
            child.communicate()
    return {
        "processes": processes,
        "file_bytes": file.stat().st_size,
        "same_answers": len(set(answers)) == 1,
        **{key: sum(r[key] for r in rows) for key in rows[0]},
    }


def render(result: dict[str, Any]) -> str:
    mb = 1e6
    return (
        f"{result['processes']} processes, one model of {result['file_bytes'] / mb:.0f} MB, the same answers: {result['same_answers']}\n"
        f"mapped weights: resident {result['file_rss'] / mb:.0f} MB summed, PSS {result['file_pss'] / mb:.0f} MB summed, "
        f"private {result['file_private'] / mb:.0f} MB\n"
        f"everything: resident {result['all_rss'] / mb:.0f} MB summed, PSS {result['all_pss'] / mb:.0f} MB summed, "
        f"private {result['all_private'] / result['processes'] / mb:.0f} MB a process\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sharing", description="Pages shared by processes that load one model."
    )
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="bert-base")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="govlm-sharing-") as folder:
        result = measure(write_model(Path(folder, "model"), SHAPES[options.shape]), options.processes)
    print(json.dumps(result) if options.json else render(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
