"""Executes every notebook from its first cell to its last, in a throw-away copy; a failing cell fails the run.

As many run side by side as there are cores, each on one.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not notebooks:
        print("no notebooks found", file=sys.stderr)
        return 1
    os.environ["GOVLM_NUM_THREADS"] = "1"  # the kernels inherit it
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for line in pool.map(execute, notebooks):
            print(line, flush=True)
    return 0


def execute(path: Path) -> str:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(nbformat.read(path, as_version=4), timeout=600, resources={"metadata": {"path": folder}}).execute()
    return f"{path.name}: {time.monotonic() - begin:.0f} s"


if __name__ == "__main__":
    raise SystemExit(main())
