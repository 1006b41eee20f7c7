"""The model in the box: the one name that `from_pretrained` knows besides folders.

A folder of that name in the current directory goes first, as everywhere: what the user has is what the user means.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BUNDLED", "is_gguf", "model_folder"]

BUNDLED = "govlm-small-zh"
_ASSETS = Path(__file__).resolve().parent / "assets"


def model_folder(name: str | os.PathLike[str]) -> Path:
    """The folder (or file) that `name` means: the bundled model's where it is its name and no such folder is here."""
    path = Path(name)
    return _ASSETS / BUNDLED if str(path) == BUNDLED and not path.exists() else path


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of a GGUF file, a whole model in one."""
    return Path(path).suffix.lower() == ".gguf"
