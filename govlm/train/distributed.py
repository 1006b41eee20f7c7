"""Data parallel training over MPI: every rank has the whole model and a part of each batch; gradients are summed.

    mpirun -n 2 govlm pretrain --config pretrain.toml

One all-reduce a step on the flat gradient buffer. The same weights come out of it on every rank, so nothing else is exchanged
but two numbers a step. It follows the whole backward. Measured with 4x312 (12 M parameters) and two ranks on two cores, it took
5 % of the run, most of it waiting for the slower rank; on one machine the sum is work for the same cores that do the backward,
so overlapping the two would hide none of it.
As root, Open MPI wants OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 in the environment; more ranks than cores
want `--oversubscribe`. Give every rank its share of the cores: GOVLM_NUM_THREADS=1 for one each.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from govlm.train.loop import OneRank, TrainError

__all__ = ["MpiRanks", "check_ranks", "find_ranks", "guarded"]

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")  # Open MPI; MPICH and Intel MPI (twice)


class MpiRanks:
    """The ranks of an MPI job: what OneRank does for one. comm: an mpi4py communicator (all of the job's ranks)."""

    def __init__(self, comm: Any = None) -> None:
        mpi = _mpi()
        self._in_place, self._sum = mpi.IN_PLACE, mpi.SUM
        self.comm = mpi.COMM_WORLD if comm is None else comm
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self.seconds = 0.0  # spent in sum_gradients, waiting for the slower ranks included

    def sum_gradients(self, model: Any) -> None:
        """Makes the model's gradient the sum over all ranks; every rank must call it."""
        started = time.perf_counter()
        cores = {id(p.core): p.core for p in model.parameters() if p.requires_grad}
        for core in cores.values():
            core.make_trainable()  # a rank without a row in the first step has made no backward yet
            self.comm.Allreduce(self._in_place, core.flat_gradient(), op=self._sum)
        self.seconds += time.perf_counter() - started

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of `values` over all ranks; every rank must call it."""
        array = np.array(values, np.float64)
        self.comm.Allreduce(self._in_place, array, op=self._sum)
        return [float(v) for v in array]


def _mpi() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise TrainError(
            f'this process is one of several MPI ranks, but MPI cannot be used ({error}): pip install "govlm[mpi]"'
        ) from None
    return MPI


def find_ranks() -> Any:
    """The ranks that mpirun (Open MPI, MPICH, Intel MPI) started, or OneRank. TrainError without the extra govlm[mpi]."""
    size = next((os.environ[name] for name in _SIZES if os.environ.get(name)), "1")
    return MpiRanks() if size.isdigit() and int(size) > 1 else OneRank()


def check_ranks(ranks: Any, rows: int, what: str) -> None:
    """TrainError when a batch of `rows` `what` cannot give every rank one."""
    if ranks.size > rows:
        raise TrainError(f"{ranks.size} ranks, but a batch has {rows} {what}: start at most {rows} ranks, or raise batch_size")


@contextlib.contextmanager
def guarded(ranks: Any) -> Iterator[None]:
    """A rank that fails ends the whole job, whatever the others wait for: one line on standard error, exit code not 0.

    Nothing happens here when the run is alone.
    """
    try:
        yield
    except BaseException as error:
        if ranks.size == 1:
            raise
        if ranks.rank != 0:
            time.sleep(1.0)  # when all fail alike, the first rank says why, and once
        text = "interrupted" if isinstance(error, KeyboardInterrupt) else " ".join(str(error).split()) or type(error).__name__
        print(f"govlm: error: rank {ranks.rank} of {ranks.size}: {text}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        ranks.comm.Abort(130 if isinstance(error, KeyboardInterrupt) else 1)
        raise
