"""From the metadata of a GGUF file to a config, and from its tensors' names to those of transformers.

The keys and names are ggml's (gguf-py's constants). Llama's queries and keys lie in another order of rows there: of each head the
two halves, which rotary positions turn against each other, are interleaved.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .file import GGUFFile

__all__ = ["Place", "config_fields", "places"]

_ROTARY = ("llama", "qwen2", "qwen3")
_OF_LAYER = {  # a layer's tensors, under ggml's "blk.N." and transformers' "layers.N."
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_OF_MODEL = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
_OF_GPT2_LAYER = {
    "attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}  # fmt: skip
_OF_GPT2 = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "output": "lm_head"}
_FREQUENCIES = "rope_freqs.weight"
# what Llama 3.1 and later were trained with; a file holds only the factors that come of it
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


class Place(NamedTuple):
    """Where a parameter lies. heads: not 0 = its rows are interleaved by head; conv1d: it is the transpose of transformers';
    slices: it is several matrices, one upon the other."""

    name: str
    heads: int = 0
    conv1d: bool = False
    slices: int = 1


class _Keys:
    """The metadata of one architecture."""

    def __init__(self, file: GGUFFile, architecture: str) -> None:
        self.file, self.prefix = file, architecture

    def get(self, key: str, kind: type, default: Any = None, least: float | None = None) -> Any:
        """None as `default`: the key must be there."""
        full = f"{self.prefix}.{key}"
        value = self.file.metadata.get(full, default)
        if value is None:
            raise ValueError(f"{self.file.file} has no {full}")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        out = least is not None and isinstance(value, (int, float)) and not least <= value < 2**31
        if type(value) is not kind or out:
            raise ValueError(f"{self.file.file}: {full} is {value!r:.80}, which govlm does not support")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        return int(self.get(key, int, default, 1))

    def refuse(self, key: str) -> None:
        value = self.file.metadata.get(f"{self.prefix}.{key}")
        if value:
            raise ValueError(f"{self.file.file}: {self.prefix}.{key} is {value!r:.80}, which govlm does not support")


def config_fields(file: GGUFFile) -> dict[str, Any]:
    """What config.json would say. ValueError names the file and the key that is missing or not supported."""
    architecture = file.metadata.get("general.architecture")
    known = ("gpt2", *_ROTARY)
    if architecture not in known:
        raise ValueError(f"{file.file} holds a model of architecture {architecture!r}; govlm reads {', '.join(known)}")
    if isinstance(parts := file.metadata.get("split.count"), int) and parts > 1:
        raise ValueError(f"{file.file} is one of {parts} parts: join them (llama-gguf-split --merge)")
    keys = _Keys(file, architecture)
    embeddings = file.tensors.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise ValueError(f"{file.file} has no tensor 'token_embd.weight' [vocabulary, width]: it holds no model")
    fields: dict[str, Any] = {
        "model_type": architecture,
        "vocab_size": embeddings.shape[0],
        "tie_word_embeddings": _tied(file),
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        index = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        fields[f"{name}_token_id"] = index if isinstance(index, int) and 0 <= index < embeddings.shape[0] else None
    layers = keys.count("block_count")
    if layers * len(_OF_GPT2_LAYER) > len(file.tensors):  # before as many are made
        raise ValueError(f"{file.file}: {architecture}.block_count is {layers}, but it holds only {len(file.tensors)} tensors")
    return fields | (_gpt2(keys) if architecture == "gpt2" else _rotary(keys))


def _tied(file: GGUFFile) -> bool:
    """Whether the vocabulary's head is the embeddings: there is none, or a copy."""
    head, embeddings = file.tensors.get("output.weight"), file.tensors["token_embd.weight"]
    if head is None:
        return True
    same = head.kind == embeddings.kind and head.shape == embeddings.shape
    return same and np.array_equal(file.raw("output.weight"), file.raw("token_embd.weight"))


def _gpt2(keys: _Keys) -> dict[str, Any]:
    return {
        "n_positions": keys.count("context_length"),
        "n_embd": keys.count("embedding_length"),
        "n_layer": keys.count("block_count"),
        "n_head": keys.count("attention.head_count"),
        "n_inner": keys.count("feed_forward_length"),
        "layer_norm_epsilon": keys.get("attention.layer_norm_epsilon", float),
    }


def _rotary(keys: _Keys) -> dict[str, Any]:
    heads, width = keys.count("attention.head_count"), keys.count("embedding_length")
    head_dim = keys.count("attention.key_length", max(width // heads, 1))
    for key, wanted in (("rope.dimension_count", head_dim), ("attention.value_length", head_dim)):
        if keys.count(key, wanted) != wanted:
            raise ValueError(f"{keys.file.file}: {keys.prefix}.{key} is not the width of a head, {head_dim}: not supported")
    for key in ("expert_count", "attention.sliding_window", "attention.scale", "logit_scale", "rope.scaling.attn_factor"):
        keys.refuse(key)
    fields = {
        "hidden_size": width,
        "intermediate_size": keys.count("feed_forward_length"),
        "num_hidden_layers": keys.count("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "max_position_embeddings": keys.count("context_length"),
        "rms_norm_eps": keys.get("attention.layer_norm_rms_epsilon", float),
        "rope_parameters": _rope(keys, head_dim),
    }
    if keys.prefix != "qwen2":
        fields["head_dim"] = head_dim
        fields["attention_bias"] = "blk.0.attn_q.bias" in keys.file.tensors
    elif head_dim * heads != width:
        raise ValueError(f"{keys.file.file}: {heads} heads of {head_dim} are not the width {width}: not supported for qwen2")
    if keys.prefix == "llama":
        fields["mlp_bias"] = "blk.0.ffn_up.bias" in keys.file.tensors
    return fields


def _rope(keys: _Keys, head_dim: int) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_theta": keys.get("rope.freq_base", float, 10000.0), "rope_type": "default"}
    kind = keys.get("rope.scaling.type", str, "none")
    if kind not in ("none", "linear"):
        raise ValueError(f"{keys.file.file}: {keys.prefix}.rope.scaling.type is {kind!r}; govlm has none and linear")
    if kind == "linear":
        rope |= {"rope_type": "linear", "factor": keys.get("rope.scaling.factor", float, None, 1e-6)}
    factors = keys.file.tensors.get(_FREQUENCIES)
    if factors is None:
        return rope
    if kind == "linear" or factors.kind != "F32" or factors.shape != (head_dim // 2,):
        raise ValueError(
            f"{keys.file.file}: tensor {_FREQUENCIES!r} is not supported beside this scaling, or is of a wrong shape"
        )
    values = keys.file.raw(_FREQUENCIES).view("<f4").reshape(-1)
    rope |= {"rope_type": "llama3", "factor": float(values.max()), **_LLAMA3}
    if not np.allclose(values, _llama3_factors(rope, head_dim), rtol=1e-4):
        raise ValueError(f"{keys.file.file}: tensor {_FREQUENCIES!r} is not Llama 3's scaling, the only one that govlm knows")
    return rope


def _llama3_factors(rope: dict[str, Any], head_dim: int) -> Any:
    """[head_dim / 2]: by what every frequency is divided (as transformers' modeling_rope_utils has it)."""
    turns = (
        rope["original_max_position_embeddings"] / (2 * np.pi) * rope["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
    )
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return 1.0 / (smooth + (1.0 - smooth) / rope["factor"])


def places(file: GGUFFile, fields: dict[str, Any]) -> dict[str, Place]:
    """Transformers' name, without prefix -> where the tensor lies. Names that we do not know stay as they are."""
    gpt2 = fields["model_type"] == "gpt2"
    of_model, of_layer = (_OF_GPT2, _OF_GPT2_LAYER) if gpt2 else (_OF_MODEL, _OF_LAYER)
    heads = {"attn_q": fields.get("num_attention_heads", 0), "attn_k": fields.get("num_key_value_heads", 0)}
    found: dict[str, Place] = {}
    for full in file.tensors:
        if full == _FREQUENCIES:
            continue
        stem, _, last = full.rpartition(".")
        parts = stem.split(".")
        if len(parts) == 1 and stem in of_model:
            found[f"{of_model[stem]}.{last}"] = Place(full)
        elif len(parts) == 3 and parts[0] == "blk" and parts[2] in of_layer:
            name = f"{'h' if gpt2 else 'layers'}.{parts[1]}.{of_layer[parts[2]]}.{last}"
            matrix = gpt2 and last == "weight" and not parts[2].endswith("norm")
            found[name] = Place(
                full,
                heads=heads.get(parts[2], 0) if fields["model_type"] == "llama" else 0,
                conv1d=matrix,
                slices=3 if matrix and parts[2] == "attn_qkv" else 1,
            )
        else:
            found[full] = Place(full)
    return found
