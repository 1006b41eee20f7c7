"""OpenVINO's CPU plugin on the exported graph: latency hint, f32 asked for (bf16 is its default where the CPU has it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.peers.base import Case, Peer, Unavailable, sort_into_batches
from benchmarks.peers.onnx_runtime import exported
from benchmarks.workloads import Batches, pad


class OpenVinoPeer(Peer):
    name = "openvino"

    def load(self, case: Case, batches: Batches) -> None:
        if case.train:
            raise Unavailable("openvino: inference only")
        model = openvino.Core().read_model(str(exported(Path(case.model), "model.onnx")))
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": case.threads,
            "NUM_STREAMS": 1,
        }
        self.arranged = sort_into_batches(batches) if self.regroups else batches
        padded = [pad(rows, case.pad_to) for rows in self.arranged.rows]
        shapes = {ids.shape for ids, _ in padded}
        if len(shapes) == 1:  # one shape: a static graph, its fastest form
            model.reshape({"input_ids": next(iter(shapes)), "attention_mask": next(iter(shapes))})
        self.compiled = openvino.Core().compile_model(model, "CPU", settings)
        self.request = self.compiled.create_infer_request()
        self.inputs = [{"input_ids": ids, "attention_mask": mask} for ids, mask in padded]

    def logits(self, batch: int) -> NDArray[np.float32]:
        return np.array(self.request.infer(self.inputs[batch], share_inputs=True)["logits"])

    def batch_count(self) -> int:
        return len(self.inputs)

    def run(self, batch: int) -> None:
        self.request.infer(self.inputs[batch], share_inputs=True, share_outputs=True)

    def versions(self) -> dict[str, Any]:
        return {"openvino": openvino.__version__.split("-")[0]}


class OpenVinoSortedPeer(OpenVinoPeer):
    name = "openvino_sorted"
    regroups = True
