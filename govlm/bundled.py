"""The model in the box: the one name that `from_pretrained` knows besides folders.

A folder of that name in the current directory goes first, as everywhere: what the user has is what the user means.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["BUNDLED", "is_gguf", "model_folder", "weights_sha256"]

BUNDLED = "govlm-small-zh"
_ASSETS = Path(__file__).resolve().parent / "assets"


def model_folder(name: str | os.PathLike[str]) -> Path:
    """The folder (or file) that `name` means: the bundled model's where it is its name and no such folder is here."""
    path = Path(name)
    return _ASSETS / BUNDLED if str(path) == BUNDLED and not path.exists() else path


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of a GGUF file, a whole model in one."""
    return Path(path).suffix.lower() == ".gguf"


def weights_sha256(name: str | os.PathLike[str]) -> str:
    """The SHA-256 of the safetensors files of the model that `name` means: whatever was made with it holds for these weights only."""
    digest = hashlib.sha256()
    for file in sorted(model_folder(name).glob("*.safetensors")):
        with open(file, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
