"""Executes every notebook from its first cell to its last, in a throw-away copy; a failing cell fails the run."""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not notebooks:
        print("no notebooks found", file=sys.stderr)
        return 1
    for path in notebooks:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(nbformat.read(path, as_version=4), timeout=600, resources={"metadata": {"path": folder}}).execute()
        print(f"{path.name}: {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
