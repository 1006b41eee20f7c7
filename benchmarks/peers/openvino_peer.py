"""OpenVINO's CPU plugin on the exported graph: latency hint, f32 asked for (bf16 is its default where the CPU has it)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.peers.base import Case, Peer, Unavailable, sort_into_batches
from benchmarks.peers.onnx_runtime import exported
from benchmarks.workloads import Batches, pad


def quantised(folder: Path) -> Path:
    """NNCF's post-training int8 of the graph, its mode for transformers, calibrated on 64 sequences of random ids; made on first
    use in a process of its own."""
    path = folder / "int8.xml"
    if not path.is_file():
        exported(folder, "model.onnx")
        done = subprocess.run([sys.executable, "-m", __name__, str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            raise Unavailable("NNCF: " + (done.stderr.strip().splitlines() or ["no message"])[-1])
    return path


def quantise(folder: Path) -> None:
    import nncf

    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    draw = np.random.default_rng(0)
    rows = [draw.integers(1, vocabulary, (1, int(n))) for n in draw.integers(8, 129, 64)]
    data = nncf.Dataset([{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in rows])
    model = openvino.Core().read_model(str(folder / "model.onnx"))
    small = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    openvino.save_model(small, str(folder / "int8.xml"), compress_to_fp16=False)


class OpenVinoPeer(Peer):
    name = "openvino"

    def graph(self, folder: Path) -> Path:
        return exported(folder, "model.onnx")

    def load(self, case: Case, batches: Batches) -> None:
        if case.train:
            raise Unavailable("openvino: inference only")
        model = openvino.Core().read_model(str(self.graph(Path(case.model))))
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


class OpenVinoInt8Peer(OpenVinoPeer):
    name = "openvino_int8"

    def graph(self, folder: Path) -> Path:
        return quantised(folder)


class OpenVinoInt8SortedPeer(OpenVinoInt8Peer):
    name = "openvino_int8_sorted"
    regroups = True


if __name__ == "__main__":
    quantise(Path(sys.argv[1]))
