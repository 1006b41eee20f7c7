"""Checkpoints that survive a kill at any instant: written into a temporary folder, synced, then renamed.

OUT/checkpoints/step-00000120/   the model as save_pretrained writes it, optimizer.safetensors, state.json
OUT/checkpoints/best-00000080/   the best model so far, as save_pretrained writes it
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Checkpoints", "read_tensors", "write_tensors"]

_NAME = re.compile(r"^(step|best)-(\d{8})$")
_PIECE = 1 << 24  # bytes written in one piece, so that nothing large is copied


def write_tensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Writes float32 arrays as a safetensors file, straight from their memory."""
    header: dict[str, Any] = {}
    offset = 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as handle:
        handle.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            view = np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data
            for start in range(0, len(view), _PIECE):
                handle.write(view[start : start + _PIECE])


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays of a safetensors file."""
    from safetensors.numpy import load_file

    return load_file(str(path))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Checkpoints:
    """The checkpoints of one run under `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "checkpoints"

    def names(self, kind: str) -> list[int]:
        """The steps that have a complete checkpoint of `kind` ("step" or "best"), ascending."""
        if not self.folder.is_dir():
            return []
        matches = (_NAME.match(p.name) for p in self.folder.iterdir())
        return sorted(int(m[2]) for m in matches if m and m[1] == kind)

    def path(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{step:08d}"

    def latest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint and its state, or None."""
        steps = self.names("step")
        if not steps:
            return None
        path = self.path("step", steps[-1])
        return path, json.loads((path / "state.json").read_text(encoding="utf-8"))

    def save(self, kind: str, step: int, write: Callable[[Path], None]) -> Path:
        """Lets `write` fill a temporary folder and puts it in place whole. A failure leaves what was there before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        target, temporary = self.path(kind, step), self.folder / f"tmp-{kind}-{step:08d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            write(temporary)
            for file in sorted(temporary.rglob("*")):
                _sync(file)
            _sync(temporary)
            if target.exists():  # written by a run that was killed before the next checkpoint: the same content
                shutil.rmtree(target)
            temporary.rename(target)
            _sync(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            old = self.names("step")
            kept = f"the one of step {old[-1]} is untouched" if old else "there is no earlier one"
            raise OSError(
                error.errno, f"cannot save the checkpoint of step {step} in {self.folder}: {error.strerror or error}; {kept}"
            ) from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return target

    def tidy(self, step: int | None, best: int | None) -> None:
        """Removes everything but the checkpoints named."""
        keep = {("step", step), ("best", best)}
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            match = _NAME.match(path.name)
            if (match and (match[1], int(match[2])) not in keep) or path.name.startswith("tmp-"):
                shutil.rmtree(path, ignore_errors=True)

    def publish(self, source: Path) -> None:
        """Puts the model files of a checkpoint (or of another run's folder) into `out`, each one whole, the weights last."""
        skip = {"state.json", "optimizer.safetensors", "log.jsonl", "result.json"}
        files = [p for p in source.iterdir() if p.is_file() and p.name not in skip]
        for file in sorted(files, key=lambda p: (p.suffix == ".safetensors", p.name)):
            temporary = self.out / f".{file.name}.tmp"
            try:
                shutil.copyfile(file, temporary)
                _sync(temporary)
                temporary.replace(self.out / file.name)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise OSError(
                    error.errno, f"cannot write {self.out / file.name}: {error.strerror or error}; the model is in {source}"
                ) from error
        _sync(self.out)
