"""`python -m benchmarks.resident`: what a process holds in memory while it serves a quantised model.

A process of its own loads BERT-base in 8 bits with a classification head (random weights: they weigh the same), or the bundled
model, and answers requests of growing size, each five times. Ids are drawn from the whole vocabulary, so that every page of the
embeddings is read: text reads fewer. Resident memory after each size, mapped weights and libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.runner import environment
from benchmarks.workloads import ROOT, SHAPES, write_model

_CHILD = """
import json, os, sys
import numpy as np
import govlm
make = govlm.BertForSequenceClassification if sys.argv[2] == "logits" else govlm.BertModel
model = make.from_pretrained(sys.argv[1])
def resident():
    with open("/proc/self/statm") as handle:
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
out = [["loaded", resident()]]
draws = np.random.default_rng(0)
for rows, length in json.loads(sys.argv[3]):
    for _ in range(5):
        with govlm.no_grad():
            model(input_ids=draws.integers(1, model.config.vocab_size, (rows, length)))[sys.argv[2]]
    out.append([f"{rows} of {length}", resident()])
print(json.dumps(out))
"""


def measure(folder: str | Path, output: str, requests: list[tuple[int, int]]) -> list[tuple[str, int]]:
    """(what was done, bytes resident then) of a process that serves the model in `folder`; output: what is asked of it."""
    command = [sys.executable, "-c", _CHILD, str(folder), output, json.dumps(requests)]
    inside = ROOT / "benchmarks"  # not ROOT: its govlm would hide an installed one
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=inside, env=environment(2))
    if done.returncode != 0:
        raise RuntimeError(f"the process that serves {folder} failed: {done.stderr.strip().splitlines()[-1:]}")
    return [(name, size) for name, size in json.loads(done.stdout.splitlines()[-1])]


def main() -> int:
    from govlm.train.quantise import quantise_folder

    print("| model | MB resident |\n|---|---|")
    with tempfile.TemporaryDirectory(prefix="govlm-resident-") as temporary:
        small = Path(temporary, "int8")
        quantise_folder(write_model(Path(temporary, "float32"), SHAPES["bert-base"]), small)
        for name, folder, output, batch in (
            ("BERT-base, 8 bits", small, "logits", (8, 64)),
            ("govlm-small-zh", "govlm-small-zh", "last_hidden_state", (32, 32)),
        ):
            rows = measure(folder, output, [(1, 16), (1, 128), batch])
            print(f"| {name} | " + ", ".join(f"{done}: {size / 1e6:.0f}" for done, size in rows) + " |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
