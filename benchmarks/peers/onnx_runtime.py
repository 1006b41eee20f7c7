"""ONNX Runtime on the graph that its own BERT optimiser fused (attention, bias-GELU, skip-norm), all graph optimisations on.

MLAS, its matrix library, has no switch for the instruction set: a cap to AVX2 does not reach it, and the table says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.peers.base import Case, Peer, Unavailable, sort_into_batches
from benchmarks.workloads import Batches, pad


def exported(folder: Path, which: str) -> Path:
    """The ONNX file of a model folder; made on first use in a process of its own, so that torch never enters this one."""
    if not (folder / "fused.json").is_file():
        command = [sys.executable, "-m", "benchmarks.peers.export_onnx", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Unavailable("export to ONNX failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1])
    return folder / which


def quantised(folder: Path) -> Path:
    """ONNX Runtime's own dynamic int8 of the fused graph: weights per channel, activations per tensor."""
    path = folder / "int8.onnx"
    if not path.is_file():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        source = exported(folder, "optimised.onnx")
        extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # the fused operators are of a domain that it cannot infer
        quantize_dynamic(str(source), str(path), per_channel=True, weight_type=QuantType.QInt8, extra_options=extra)
    return path


class OnnxRuntimePeer(Peer):
    name = "onnxruntime"

    def graph(self, folder: Path) -> Path:
        return exported(folder, "optimised.onnx")

    def load(self, case: Case, batches: Batches) -> None:
        if case.train:
            raise Unavailable("onnxruntime: inference only")
        folder = Path(case.model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        graph = str(self.graph(folder))
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.fused = json.loads((folder / "fused.json").read_text())
        kinds = {i.name: np.int32 if "int32" in i.type else np.int64 for i in self.session.get_inputs()}
        self.arranged = sort_into_batches(batches) if self.regroups else batches
        self.inputs = []
        for rows in self.arranged.rows:
            arrays = dict(zip(("input_ids", "attention_mask"), pad(rows, case.pad_to), strict=True))
            self.inputs.append({name: arrays[name].astype(kind) for name, kind in kinds.items()})

    def logits(self, batch: int) -> NDArray[np.float32]:
        return self.session.run(["logits"], self.inputs[batch])[0]

    def batch_count(self) -> int:
        return len(self.inputs)

    def run(self, batch: int) -> None:
        self.session.run(["logits"], self.inputs[batch])

    def versions(self) -> dict[str, Any]:
        return {"onnxruntime": onnxruntime.__version__, "fused": self.fused}


class OnnxRuntimeSortedPeer(OnnxRuntimePeer):
    name = "onnxruntime_sorted"
    regroups = True


class OnnxRuntimeInt8Peer(OnnxRuntimePeer):
    name = "onnxruntime_int8"

    def graph(self, folder: Path) -> Path:
        return quantised(folder)


class OnnxRuntimeInt8SortedPeer(OnnxRuntimeInt8Peer):
    name = "onnxruntime_int8_sorted"
    regroups = True
