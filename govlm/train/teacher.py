"""What a teacher says of each text: computed as it is needed, or once, into files that are mapped.

CACHE/KEY/manifest.json   teacher, data, what is kept, how many rows are done
CACHE/KEY/logits.bin, hidden-6.bin, query-12.bin …   raw rows [rows or tokens, width], appended block by block

KEY is a fingerprint of the teacher's weights, the token ids and what is kept, so that another teacher or other data never meet
these files. A run that was killed goes on after the last block that the manifest counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.packing import Batch
from govlm.train.evaluate import Encoded
from govlm.train.loop import Progress, TrainError, write_text

__all__ = ["Teacher", "Wanted", "model_digest", "run_taps"]

F32 = NDArray[np.float32]
Key = tuple[str, int]  # ("logits", 0), ("hidden", layer 0..L), ("query" | "key" | "value", layer 1..L)
BLOCK = 32  # rows a forward when a cache is filled


@dataclass(frozen=True)
class Wanted:
    """Which outputs: logits; hidden states by layer (0 = embeddings); queries, keys, values by layer (1 = the first)."""

    logits: bool = False
    hidden: tuple[int, ...] = ()
    projections: tuple[Key, ...] = ()

    def outputs(self) -> list[Key]:
        return [*([("logits", 0)] if self.logits else []), *(("hidden", layer) for layer in self.hidden), *self.projections]

    @property
    def tokens(self) -> bool:
        """Whether anything is asked of every token."""
        return bool(self.hidden or self.projections)


def run_taps(
    model: Any, texts: Encoded, wanted: Wanted, save: bool = False, **options: Any
) -> tuple[Any, dict[Key, NDArray[np.float32]]]:
    """One packed forward: (the core's pass, {key: values}). Views, except of projections; options: as the core's forward."""
    batch = Batch.packed(model._rules, texts.packed())
    if not wanted.tokens and model.task == "sequence":
        options["rows"] = batch.first_tokens()
    layers = int(model.core.config["num_layers"])
    done = model.core.forward(
        batch.ids, batch.row_splits, batch.positions, batch.types, logits=wanted.logits,
        hidden_states=any(layer < layers for layer in wanted.hidden), save=save or bool(wanted.projections), **options,
    )  # fmt: skip
    found: dict[Key, NDArray[np.float32]] = {}
    for name, layer in wanted.outputs():
        if name == "logits":
            found[name, layer] = done.logits
        else:
            found[name, layer] = done.hidden(layer) if name == "hidden" else done.projection(layer - 1, name)
    return done, found


def projection_widths(model: Any) -> dict[str, int]:
    """Numbers a token of queries, keys and values."""
    core = model.core.config  # as it was given: the defaults of the core are not in it
    heads = int(core["num_heads"])
    dim = int(core.get("head_dim") or int(core["hidden_size"]) // heads)
    kv = int(core.get("num_kv_heads") or heads)
    return {"query": heads * dim, "key": kv * dim, "value": kv * dim}


def model_digest(model: Any) -> str:
    """A fingerprint of a model: its configuration in the core and every parameter."""
    digest = hashlib.sha256(json.dumps(model.core.config, sort_keys=True, default=str).encode())
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(parameter.data).data)
    return digest.hexdigest()


class Teacher:
    """A model's outputs for the rows of `data`.

    cache: a folder to keep them in (None: each batch is computed anew); dtype: float16 or float32, of all but the logits, which
    are float32. Errors:
    TrainError for what the teacher does not have; OSError when the cache cannot be written (what was written stays good).
    """

    def __init__(
        self,
        model: Any,
        data: Encoded,
        wanted: Wanted,
        cache: str | Path | None = None,
        dtype: str = "float16",
        progress: bool | None = False,
    ) -> None:
        self.model, self.data, self.wanted = model.eval(), data, wanted
        self.dtype = np.dtype(dtype)
        self.digest = model_digest(model)
        core = model.core.config
        layers, hidden = int(core["num_layers"]), int(core["hidden_size"])
        self._widths: dict[Key, int] = {}
        for name, layer in wanted.outputs():
            if name == "logits" and model.task != "sequence":
                raise TrainError(f"the teacher ({type(model).__name__}) has no label scores: it is no classifier")
            first = 0 if name in ("logits", "hidden") else 1
            if not first <= layer <= layers:
                raise TrainError(f"the teacher has no {name} of layer {layer}: its layers are {first}..{layers}")
            widths = {"logits": int(core.get("num_labels", 0)), "hidden": hidden, **projection_widths(model)}
            self._widths[name, layer] = widths[name]
        self._kept: dict[Key, Any] = {}
        self.folder: Path | None = None
        if cache is not None and len(data):
            self.folder = Path(cache) / self.key()[:20]
            self._fill(progress)

    def key(self) -> str:
        """The fingerprint that names the cache."""
        return hashlib.sha256(json.dumps(self._manifest(), sort_keys=True).encode()).hexdigest()

    def _manifest(self) -> dict[str, Any]:
        names = [f"{name}-{layer}" for name, layer in self._widths]
        return {"format": 1, "teacher": self.digest, "data": self.data.digest(), "outputs": names, "dtype": self.dtype.name,
                "rows": len(self.data), "tokens": len(self.data.ids)}  # fmt: skip

    def _rows_of(self, key: Key, row: int) -> int:
        """Rows of the array before text `row`."""
        return row if key[0] == "logits" else int(self.data.row_splits[row])

    def _type(self, key: Key) -> np.dtype[Any]:
        return np.dtype(np.float32) if key[0] == "logits" else self.dtype

    def _path(self, key: Key) -> Path:
        assert self.folder is not None
        return self.folder / f"{key[0]}-{key[1]}.bin"

    def _fill(self, progress: bool | None) -> None:
        """Computes what the cache lacks, in blocks of the same rows whatever happened before."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest, path = self._manifest(), self.folder / "manifest.json"
        done = 0
        if path.exists():
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
                if {k: v for k, v in known.items() if k != "done"} == manifest:
                    done = int(known["done"])
            except (ValueError, KeyError, AttributeError):
                done = 0  # cut short: begin again
        for key, width in self._widths.items():
            size = self._path(key).stat().st_size if self._path(key).exists() else 0
            while done and size < self._rows_of(key, done) * width * self._type(key).itemsize:
                done = 0  # a file is shorter than the manifest says
        total = len(self.data)
        if done < total:
            self._append(done, total, manifest, path, progress)
        for key, width in self._widths.items():
            shape = (self._rows_of(key, total), width)
            self._kept[key] = np.memmap(self._path(key), self._type(key), "r", shape=shape)

    def _append(self, done: int, total: int, manifest: Mapping[str, Any], path: Path, progress: bool | None) -> None:
        bar = Progress(-(-total // BLOCK), done // BLOCK, progress, "teacher")
        with ExitStack() as stack:
            stack.callback(bar.close)
            handles = {}
            for key, width in self._widths.items():
                handle = stack.enter_context(open(self._path(key), "ab", buffering=0))
                handle.truncate(self._rows_of(key, done) * width * self._type(key).itemsize)
                handles[key] = handle
            try:
                while done < total:
                    end = min(done + BLOCK, total)
                    for key, values in self._compute(range(done, end)).items():
                        view = memoryview(values.data).cast("B")
                        while len(view):  # without a buffer: a full disk is noticed here, and nothing is left for close()
                            view = view[handles[key].write(view) or 0 :]
                    done = end
                    bar.step("")
                    if done == total or done // BLOCK % 16 == 0:
                        for handle in handles.values():
                            os.fsync(handle.fileno())
                        write_text(path, json.dumps({**manifest, "done": done}) + "\n")
            except OSError as error:
                text = f"cannot keep the teacher's outputs in {self.folder}: {error.strerror or error}"
                raise OSError(error.errno, f"{text}; free some space and start again, it goes on from there") from error

    def _compute(self, rows: Sequence[int]) -> dict[Key, NDArray[Any]]:
        _, found = run_taps(self.model, self.data.take(rows), self.wanted)
        return {key: np.ascontiguousarray(value).astype(self._type(key)) for key, value in found.items()}

    def take(self, rows: NDArray[np.int64]) -> dict[Key, F32]:
        """The outputs of these texts, in their order: logits [n, labels], the rest packed [their tokens, width]. float32."""
        if self.folder is None:
            return {key: value.astype(np.float32) for key, value in self._compute(rows.tolist()).items()}
        out = {}
        for key, kept in self._kept.items():
            parts = [kept[self._rows_of(key, r) : self._rows_of(key, r + 1)] for r in rows.tolist()]
            out[key] = np.concatenate(parts).astype(np.float32)
        return out
