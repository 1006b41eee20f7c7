"""One side in a process of its own: a JSON command a line in, a JSON line out; what a library prints goes to stderr.

`python -m benchmarks.worker ADAPTER CASE_JSON`, then commands: {"do": "load"}, {"do": "logits", "batch": b, "file": f},
{"do": "losses", "steps": n}, {"do": "begin"}, {"do": "time", "batch": b, "repeat": n, "warm": w}, {"do": "memory"}.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from typing import Any

import numpy as np

from benchmarks.peers import Case, Unavailable, create
from benchmarks.workloads import Batches


def peak_resident_bytes() -> int:
    """The high-water mark of this process's resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(adapter: str, case: Case) -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print; the protocol has its own descriptor

    def answer(**fields: Any) -> None:
        out.write(json.dumps(fields) + "\n")
        out.flush()

    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        do = command["do"]
        try:
            if do == "load":
                start = time.perf_counter()
                peer = create(adapter)
                peer.load(case, Batches.load(case.batches))
                answer(
                    seconds=time.perf_counter() - start,
                    batches=peer.batch_count(),
                    regroups=peer.regroups,
                    versions=peer.versions(),
                )
                continue
            assert peer is not None
            if do == "logits":
                np.save(command["file"], peer.logits(command["batch"]))
                answer()
            elif do == "losses":
                answer(losses=peer.losses(command["steps"]))
            elif do == "begin":
                peer.begin_timing()
                answer()
            elif do == "time":
                for _ in range(command["warm"]):
                    peer.run(command["batch"])
                seconds = []
                for _ in range(command["repeat"]):
                    start = time.perf_counter()
                    peer.run(command["batch"])
                    seconds.append(time.perf_counter() - start)
                answer(seconds=seconds)
            elif do == "memory":
                answer(peak=peak_resident_bytes())
            else:
                answer(error=f"unknown command {do!r}")
        except Unavailable as error:
            answer(unavailable=str(error))
        except Exception as error:
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    serve(sys.argv[1], Case.parse(sys.argv[2]))
