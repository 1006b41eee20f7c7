"""transformers under torch.compile (inductor, the system's C++ compiler; frozen weights for inference)."""

from __future__ import annotations

import shutil

import torch

from benchmarks.peers.base import Case, Unavailable
from benchmarks.peers.torch_eager import TorchPeer
from benchmarks.workloads import Batches


class TorchCompilePeer(TorchPeer):
    name = "torch_compile"

    def load(self, case: Case, batches: Batches) -> None:
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            raise Unavailable("torch_compile: no C++ compiler here")
        import torch._inductor.config as inductor

        inductor.freezing = not case.train
        if case.max_isa == "avx2":
            inductor.cpp.simdlen = 256
        super().load(case, batches)

    def _fresh(self) -> None:
        super()._fresh()
        if not self.case.train:
            self.model.eval()
        # one fixed shape specialises; several shapes share one dynamic graph in place of a compilation each
        self.forward = torch.compile(self.model, dynamic=None if self.case.train else False)

    def logits(self, batch: int):  # type: ignore[no-untyped-def]
        inputs = self.inputs[batch]
        self.model.eval()
        with torch.inference_mode():
            return self.forward(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.numpy()
