"""One vector a text: batches by length, pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .packing import Batch, as_array

__all__ = ["encode_batch", "mean_pool"]

F32 = NDArray[np.float32]


def encode_batch(model: Any, batch: Batch, pooling: str, normalize: bool, max_tokens: int) -> F32:
    """Embeddings [B, H] of a packed batch, short sequences first, about max_tokens tokens a forward."""
    core = model._core_of("")
    adapted = model._adapter_arguments(model._routed(None, 1))
    adapted.pop("adapter_of", None)  # the same for all
    lengths = np.diff(batch.row_splits)
    out = np.zeros((len(lengths), int(core.config["hidden_size"])), np.float32)
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        end, tokens = begin, 0
        while end < len(order) and (end == begin or tokens + lengths[order[end]] <= max_tokens):
            tokens += int(lengths[order[end]])
            end += 1
        chosen = order[begin:end]
        begin = end
        where = np.concatenate([np.arange(batch.row_splits[i], batch.row_splits[i + 1]) for i in chosen])
        splits = np.concatenate([[0], np.cumsum(lengths[chosen])]).astype(np.int64)
        filled = lengths[chosen] > 0
        if not filled.any():
            continue
        rows = splits[:-1][filled].astype(np.int32) if pooling == "cls" else None
        done = core.forward(
            batch.ids[where], splits,
            None if batch.positions is None else batch.positions[where],
            None if batch.types is None else batch.types[where],
            rows=rows, save=False, **adapted,
        )  # fmt: skip
        hidden = done.hidden(-1)
        if pooling == "mean":
            hidden = np.add.reduceat(hidden, splits[:-1][filled], axis=0) / lengths[chosen][filled, None]
        out[chosen[filled]] = hidden
    if normalize:
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
    return out


def mean_pool(outputs: Any, attention_mask: Any = None) -> F32:
    """The mean of the last hidden states over the tokens that the mask keeps (None = all): [B, H]."""
    hidden = outputs.last_hidden_state
    if attention_mask is None:
        return hidden.mean(axis=1)
    mask = as_array(attention_mask, "attention_mask").astype(np.float32)
    if mask.shape != hidden.shape[:2]:
        raise ValueError(f"attention_mask has shape {list(mask.shape)}, the hidden states {list(hidden.shape[:2])}")
    return np.einsum("bsh,bs->bh", hidden, mask) / np.maximum(mask.sum(axis=1, keepdims=True), 1e-9)
