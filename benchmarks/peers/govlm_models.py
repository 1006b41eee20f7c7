"""govlm through its notebook API: the same padded arrays and mask as the peers get, its own AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import govlm
from benchmarks.peers.base import Case, Peer
from benchmarks.workloads import Batches, mask_tokens, pad


class GovlmPeer(Peer):
    name = "govlm"

    def load(self, case: Case, batches: Batches) -> None:
        self.case = case
        self._fresh()
        self.inputs = []
        for number, (rows, labels) in enumerate(zip(batches.rows, batches.labels, strict=True)):
            ids, mask = pad(rows, case.pad_to)
            if case.task == "mlm":
                ids, labels = mask_tokens(ids, mask, number)
            self.inputs.append({"input_ids": ids, "attention_mask": mask, "labels": labels})

    def _fresh(self) -> None:
        kind = govlm.BertForMaskedLM if self.case.task == "mlm" else govlm.BertForSequenceClassification
        self.model = kind.from_pretrained(self.case.model)
        self.optimizer = govlm.AdamW(self.model.parameters(), lr=self.case.lr) if self.case.train else None

    def logits(self, batch: int) -> NDArray[np.float32]:
        self.model.eval()
        inputs = self.inputs[batch]
        logits = np.array(self.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits)
        return logits if self.case.task == "classify" else logits[inputs["labels"] != -100]

    def losses(self, steps: int) -> list[float]:
        self._fresh()
        self.model.eval()
        return [self._step(i % len(self.inputs)) for i in range(steps)]

    def begin_timing(self) -> None:
        if self.case.train and self.case.dropout:
            self.model.train()
        else:
            self.model.eval()

    def batch_count(self) -> int:
        return len(self.inputs)

    def _step(self, batch: int) -> float:
        assert self.optimizer is not None
        loss = self.model(**self.inputs[batch]).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.item())

    def run(self, batch: int) -> None:
        if self.case.train:
            self._step(batch)
        else:
            inputs = self.inputs[batch]
            with govlm.no_grad():
                _ = self.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits

    def versions(self) -> dict[str, Any]:
        return {"govlm": getattr(govlm, "__version__", "?")}


class GovlmInt8Peer(GovlmPeer):
    """The same from the folder that `govlm quantize` writes, made on first use. Inference only."""

    name = "govlm_int8"
    bits = 8

    def _fresh(self) -> None:
        from govlm.train.quantise import QuantiseOptions, quantise_folder

        folder = Path(self.case.model, self.name)
        if not (folder / "config.json").is_file():
            quantise_folder(self.case.model, folder, QuantiseOptions(bits=self.bits))
        self.model = govlm.BertForSequenceClassification.from_pretrained(folder)
        self.optimizer = None


class GovlmPackedPeer(GovlmInt8Peer):
    """In float32, packed for the kernels."""

    name = "govlm_packed"
    bits = 32
