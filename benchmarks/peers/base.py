"""What every side implements, and the case that it is given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Batches


class Unavailable(RuntimeError):
    """The peer cannot run this case here (not installed, no training, no compiler): the table says so and goes on."""


@dataclass(frozen=True)
class Case:
    """One row's work. `pad_to` 0 = each batch to its longest row. `train` False = inference."""

    name: str
    model: str  # folder with config.json and model.safetensors
    batches: str  # Batches.save's file
    train: bool
    pad_to: int = 0
    dropout: bool = False  # train mode while timing (exactness is always checked without dropout)
    lr: float = 2e-5
    threads: int = 2
    max_isa: str = ""
    task: str = "classify"  # or "mlm": masked LM on the batches, masked by workloads.mask_tokens

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Case:
        return cls(**json.loads(text))


class Peer:
    """One side of a comparison, alive in a process of its own.

    `load` is called once; `logits` and `losses` before any timing; `run` is what is timed: one batch, from padded arrays
    (made in `load`) to logits in memory, or to updated weights.
    """

    name = "peer"
    regroups = False  # True: the same rows in other batches (sorted by length), so that batches are not comparable one by one

    def load(self, case: Case, batches: Batches) -> None:
        raise NotImplementedError

    def logits(self, batch: int) -> NDArray[np.float32]:
        """[B, labels] without dropout; of a masked LM [labelled places, vocabulary]."""
        raise NotImplementedError

    def losses(self, steps: int) -> list[float]:
        """The losses of `steps` training steps without dropout over batches 0, 1, ...; the model may be left changed."""
        raise Unavailable(f"{self.name} does not train")

    def begin_timing(self) -> None:
        """Called between the checks and the timing: dropout on where the case asks for it."""

    def batch_count(self) -> int:
        raise NotImplementedError

    def run(self, batch: int) -> None:
        raise NotImplementedError

    def versions(self) -> dict[str, Any]:
        return {}


def sort_into_batches(batches: Batches) -> Batches:
    """The same rows, cut into batches of the same sizes after sorting by length (what a careful user of a padding library does)."""
    rows = [r for batch in batches.rows for r in batch]
    labels = np.concatenate(batches.labels)
    order = np.argsort([len(r) for r in rows], kind="stable")
    cuts = np.cumsum([len(b) for b in batches.rows])[:-1]
    groups = np.split(order, cuts)
    return Batches([[rows[i] for i in g] for g in groups], [labels[g] for g in groups], batches.source + ", sorted by length")
