"""transformers on PyTorch, as in its own documentation: dynamic padding, an attention mask, torch.optim.AdamW."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import BertForMaskedLM, BertForSequenceClassification

from benchmarks.peers.base import Case, Peer, sort_into_batches
from benchmarks.workloads import Batches, mask_tokens, pad


class TorchPeer(Peer):
    name = "torch"
    attention = "sdpa"

    def load(self, case: Case, batches: Batches) -> None:
        torch.set_num_threads(case.threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.case = case
        self.arranged = sort_into_batches(batches) if self.regroups else batches
        self._fresh()
        self.inputs = []
        for number, (rows, labels) in enumerate(zip(self.arranged.rows, self.arranged.labels, strict=True)):
            ids, mask = pad(rows, case.pad_to)
            if case.task == "mlm":
                ids, labels = mask_tokens(ids, mask, number)
            self.inputs.append(
                {
                    "input_ids": torch.from_numpy(ids),
                    "attention_mask": torch.from_numpy(mask),
                    "labels": torch.from_numpy(labels),
                }
            )

    def _fresh(self) -> None:
        kind = BertForMaskedLM if self.case.task == "mlm" else BertForSequenceClassification
        self.model = kind.from_pretrained(self.case.model, attn_implementation=self.attention, dtype=torch.float32)
        self.forward: Any = self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.case.lr) if self.case.train else None

    def logits(self, batch: int) -> NDArray[np.float32]:
        inputs = {k: v for k, v in self.inputs[batch].items() if k != "labels"}
        self.model.eval()
        with torch.inference_mode():
            logits = self.model(**inputs).logits
        return (logits if self.case.task == "classify" else logits[self.inputs[batch]["labels"] != -100]).numpy()

    def losses(self, steps: int) -> list[float]:
        self._fresh()
        self.model.eval()
        return [self._step(i % len(self.inputs)) for i in range(steps)]

    def begin_timing(self) -> None:
        self.model.train(self.case.train and self.case.dropout)
        torch.manual_seed(0)

    def batch_count(self) -> int:
        return len(self.inputs)

    def _step(self, batch: int) -> float:
        assert self.optimizer is not None
        loss = self.forward(**self.inputs[batch]).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def run(self, batch: int) -> None:
        if self.case.train:
            self._step(batch)
        else:
            inputs = self.inputs[batch]
            with torch.inference_mode():
                self.forward(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.numpy()

    def versions(self) -> dict[str, Any]:
        return {"torch": torch.__version__, "transformers": transformers.__version__}


class TorchSortedPeer(TorchPeer):
    name = "torch_sorted"
    regroups = True
