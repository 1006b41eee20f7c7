"""Initial weights of an encoder-decoder that copies: a T5 that starts here writes what its source says from its first steps on.

Summaries and titles are for the most part words of their source, in its order. To copy, a decoder has to find where in the source
it is (the place behind the token that it wrote last) and to pass on what stands there; from random weights that takes millions of
tokens without a sign of progress, since neither half helps without the other. Both are given here, as an induction head has them
(Olsson et al., arXiv:2209.11895), by weights set as in mimetic initialisation (Trockman & Kolter, arXiv:2305.09828):

* half of the encoder's heads look one token back, and its first layer writes what they find, turned by R, beside the token's own;
* the same heads of the decoder's cross-attention ask with the token written last for the place that has it as its predecessor;
* values pass through the cross-attention by a rotation and its inverse, so that they leave as they are; what other layers write is
  damped, so that it is heard.

All of it is learned further like any other weight. benchmarks/SPEED.md has what it saves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.train.loop import TrainError

__all__ = ["start_copying"]

F32 = NDArray[np.float32]
_BEFORE = 1  # bucket of the token before: distance 1 in T5's buckets of a stack that looks both ways
_NEAR = 12.0  # what its bias adds to an attention score
_PEAK = 20.0  # attention score of the place that is asked for, before the encoder's last norm
_BESIDE = 1.5  # length of what is written of the token before, of the token's own embedding
_PASSED = 1.5  # what cross-attention writes, times what it read
_QUIET = 0.3  # what random layers write, times what they would: they speak up as they learn


def _rotation(draw: Any, size: int) -> F32:
    return np.asarray(np.linalg.qr(draw.standard_normal((size, size)))[0], np.float32)


def start_copying(model: Any, seed: int) -> None:
    """Sets the initial weights of a T5 or mT5 with a decoder. Errors: TrainError for another model, or one whose heads do not fit
    its width."""
    c = model.config
    if not hasattr(c, "d_kv") or not hasattr(model, "decoder"):
        raise TrainError("initial = copying is for an encoder-decoder (T5, mT5)")
    width, size, inner = c.d_model, c.d_kv, c.num_heads * c.d_kv
    heads = min(max(1, c.num_heads // 2), width // size)
    if heads < 1:
        raise TrainError(f"initial = copying needs d_kv of at most d_model, not {size} and {width}")
    weights = {name: np.array(value) for name, value in model.state_dict().items()}
    draw = np.random.default_rng(seed)
    rows = slice(0, heads * size)
    asked, turn = _rotation(draw, width)[rows], _rotation(draw, width)[rows]

    for name, value in weights.items():
        if name.endswith(("SelfAttention.o.weight", "wo.weight")):
            value *= _QUIET
    first = "encoder.block.0.layer.0.SelfAttention"
    weights[f"{first}.relative_attention_bias.weight"][_BEFORE, :heads] += _NEAR
    weights[f"{first}.v.weight"][rows] = asked
    weights[f"{first}.o.weight"][:, rows] = turn.T * np.float32(_BESIDE * c.initializer_factor)
    gain = np.float32(np.sqrt(_PEAK / size))
    for layer in range(c.num_decoder_layers):
        cross = f"decoder.block.{layer}.layer.1.EncDecAttention"
        weights[f"{cross}.q.weight"][rows] = gain * asked
        weights[f"{cross}.k.weight"][rows] = gain * turn
        out = _rotation(draw, max(width, inner))[:inner, :width]
        weights[f"{cross}.v.weight"] = np.ascontiguousarray(out)
        weights[f"{cross}.o.weight"] = np.ascontiguousarray(out.T) * np.float32(_PASSED * c.initializer_factor)
    if not c.tie_word_embeddings:
        weights["lm_head.weight"] = weights["shared.weight"] * np.float32(width**-0.5)
    model.load_state_dict(weights)
