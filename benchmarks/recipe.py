"""The recipe of the bundled model, for benchmarks: it says what its training has seen."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def recipe(data: Path) -> Any:
    """`Run` of govlm/assets/training/make.py, for its pairs, names and questions."""
    spec = importlib.util.spec_from_file_location("make", ROOT / "govlm/assets/training/make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make"] = module
    spec.loader.exec_module(module)
    return module.Run(data, Path("."), False, False)


def grams(text: str) -> list[str]:
    """Characters and their pairs: the words of BM25."""
    characters = [c for c in text if not c.isspace()]
    return [*characters, *(a + b for a, b in itertools.pairwise(characters))]
