"""The model families: each is a translation of its config to the core's, and a map of weight names.

A map goes from the Hugging Face name, written below without the base model's prefix, to the core's name, in transformers' own
order. Heads have no prefix there either; `full_name` adds the prefix where a model with a head has one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .configuration import PretrainedConfig

__all__ = ["FAMILIES", "Family", "normalise"]

CoreConfig = dict[str, Any]
WeightMap = dict[str, str]


@dataclass(frozen=True)
class Family:
    """prefix: the base model's name inside a model with a head. Tasks: none, sequence, token, mlm, lm."""

    prefix: str
    core_config: Callable[[Any, str, bool], CoreConfig]  # (config, task, pooler)
    weight_map: Callable[[Any, str, bool], WeightMap]
    ignored: tuple[str, ...] = ()  # patterns of tensors in a checkpoint that are no parameters
    tied: dict[str, str] = field(default_factory=dict)  # a name some checkpoints hold -> the parameter it equals
    causal: bool = False
    token_types: bool = True
    padding_row: bool = False  # the embedding of pad_token_id gets no gradient
    tasks: tuple[str, ...] = ("none", "sequence", "token", "mlm")


def _linear(names: WeightMap, theirs: str, ours: str, bias: bool = True) -> None:
    names[f"{theirs}.weight"] = f"{ours}.weight"
    if bias:
        names[f"{theirs}.bias"] = f"{ours}.bias"


# ------------------------------------------------------------------------------------------------------ BERT, RoBERTa, ALBERT


def _encoder_core(config: PretrainedConfig, task: str, pooler: bool) -> CoreConfig:
    core: CoreConfig = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_positions": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "norm_eps": float(config.layer_norm_eps),
        "activation": config.activation("hidden_act"),
        "hidden_dropout": float(config.hidden_dropout_prob),
        "attention_dropout": float(config.attention_probs_dropout_prob),
        "pooler": pooler,
        "head": task,
    }
    if config.__dict__.get("head_dim") is not None:
        core["head_dim"] = config.head_dim
    if task in ("sequence", "token"):
        core["num_labels"] = config.num_labels
        core["classifier_dropout"] = _classifier_dropout(config)
    if task == "mlm":
        core["head_activation"] = core["activation"]
        core["tied_decoder"] = bool(config.tie_word_embeddings)
    return core


def _classifier_dropout(config: PretrainedConfig) -> float:
    for name in ("classifier_dropout", "classifier_dropout_prob"):
        value = config.__dict__.get(name)
        if value is not None:
            return float(value)
    return float(config.hidden_dropout_prob)


def _embeddings(names: WeightMap) -> None:
    for theirs, ours in (("word", "word"), ("position", "position"), ("token_type", "token_type")):
        names[f"embeddings.{theirs}_embeddings.weight"] = f"embeddings.{ours}.weight"
    _linear(names, "embeddings.LayerNorm", "embeddings.norm")


def _bert_body(config: PretrainedConfig) -> WeightMap:
    names: WeightMap = {}
    _embeddings(names)
    for i in range(config.num_hidden_layers):
        theirs, ours = f"encoder.layer.{i}", f"layers.{i}"
        for role in ("query", "key", "value"):
            _linear(names, f"{theirs}.attention.self.{role}", f"{ours}.attention.{role}")
        _linear(names, f"{theirs}.attention.output.dense", f"{ours}.attention.output")
        _linear(names, f"{theirs}.attention.output.LayerNorm", f"{ours}.attention.norm")
        _linear(names, f"{theirs}.intermediate.dense", f"{ours}.mlp.up")
        _linear(names, f"{theirs}.output.dense", f"{ours}.mlp.down")
        _linear(names, f"{theirs}.output.LayerNorm", f"{ours}.mlp.norm")
    return names


def _mlm(names: WeightMap, head: str, dense: str, norm: str, decoder: str, tied: bool) -> None:
    names[f"{head}.bias" if tied else f"{decoder}.bias"] = "mlm.bias"
    _linear(names, dense, "mlm.dense")
    _linear(names, norm, "mlm.norm")
    if not tied:
        names[f"{decoder}.weight"] = "mlm.decoder.weight"


def _bert_map(config: PretrainedConfig, task: str, pooler: bool) -> WeightMap:
    names = _bert_body(config)
    if pooler:
        _linear(names, "pooler.dense", "pooler")
    if task in ("sequence", "token"):
        _linear(names, "classifier", "classifier")
    if task == "mlm":
        transform = "cls.predictions.transform"
        tied = bool(config.tie_word_embeddings)
        _mlm(names, "cls.predictions", f"{transform}.dense", f"{transform}.LayerNorm", "cls.predictions.decoder", tied)
    return names


def _roberta_core(config: PretrainedConfig, task: str, pooler: bool) -> CoreConfig:
    core = _encoder_core(config, task, pooler)
    if task == "sequence":
        core["pooler_dropout"] = core["classifier_dropout"]
    if task == "mlm":
        core["head_activation"] = "gelu"  # whatever hidden_act says
    return core


def _roberta_map(config: PretrainedConfig, task: str, pooler: bool) -> WeightMap:
    names = _bert_body(config)
    if task == "sequence":
        _linear(names, "classifier.dense", "pooler")
        _linear(names, "classifier.out_proj", "classifier")
    elif pooler:
        _linear(names, "pooler.dense", "pooler")
    if task == "token":
        _linear(names, "classifier", "classifier")
    if task == "mlm":
        tied = bool(config.tie_word_embeddings)
        _mlm(names, "lm_head", "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", tied)
    return names


def _albert_core(config: PretrainedConfig, task: str, pooler: bool) -> CoreConfig:
    # ALBERT drops nothing after the feed-forward part.
    own: CoreConfig = {"embedding_size": config.embedding_size, "shared_layers": True, "down_dropout": 0.0}
    return _encoder_core(config, task, pooler) | own


def _albert_map(config: PretrainedConfig, task: str, pooler: bool) -> WeightMap:
    names: WeightMap = {}
    _embeddings(names)
    _linear(names, "encoder.embedding_hidden_mapping_in", "embeddings.projection")
    theirs, ours = "encoder.albert_layer_groups.0.albert_layers.0", "layers.0"
    _linear(names, f"{theirs}.full_layer_layer_norm", f"{ours}.mlp.norm")
    for role in ("query", "key", "value"):
        _linear(names, f"{theirs}.attention.{role}", f"{ours}.attention.{role}")
    _linear(names, f"{theirs}.attention.dense", f"{ours}.attention.output")
    _linear(names, f"{theirs}.attention.LayerNorm", f"{ours}.attention.norm")
    _linear(names, f"{theirs}.ffn", f"{ours}.mlp.up")
    _linear(names, f"{theirs}.ffn_output", f"{ours}.mlp.down")
    if pooler:
        _linear(names, "pooler", "pooler")
    if task in ("sequence", "token"):
        _linear(names, "classifier", "classifier")
    if task == "mlm":
        tied = bool(config.tie_word_embeddings)
        _mlm(names, "predictions", "predictions.dense", "predictions.LayerNorm", "predictions.decoder", tied)
    return names


# ------------------------------------------------------------------------------------------------------------ GPT-2 and Llama


def _gpt2_core(config: PretrainedConfig, task: str, pooler: bool) -> CoreConfig:
    core: CoreConfig = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "num_layers": config.n_layer,
        "num_heads": config.n_head,
        "intermediate_size": config.n_inner or 4 * config.n_embd,
        "max_positions": config.n_positions,
        "norm_eps": float(config.layer_norm_epsilon),
        "pre_norm": True,
        "embedding_norm": False,
        "final_norm": True,
        "causal": True,
        "activation": config.activation("activation_function"),
        "fused_qkv": True,
        "conv1d": True,
        "hidden_dropout": float(config.resid_pdrop),
        "embedding_dropout": float(config.embd_pdrop),
        "attention_dropout": float(config.attn_pdrop),
    }
    if not config.scale_attn_weights:
        core["attention_scale"] = 1.0
    return core | _lm_core(config, task)


def _lm_core(config: PretrainedConfig, task: str) -> CoreConfig:
    return {"head": "lm", "tied_decoder": bool(config.tie_word_embeddings)} if task == "lm" else {}


def _lm(names: WeightMap, config: PretrainedConfig, task: str) -> None:
    if task == "lm" and not config.tie_word_embeddings:
        names["lm_head.weight"] = "lm_head.weight"


def _gpt2_map(config: PretrainedConfig, task: str, pooler: bool) -> WeightMap:
    names: WeightMap = {"wte.weight": "embeddings.word.weight", "wpe.weight": "embeddings.position.weight"}
    for i in range(config.n_layer):
        theirs, ours = f"h.{i}", f"layers.{i}"
        _linear(names, f"{theirs}.ln_1", f"{ours}.attention.norm")
        _linear(names, f"{theirs}.attn.c_attn", f"{ours}.attention.query_key_value")
        _linear(names, f"{theirs}.attn.c_proj", f"{ours}.attention.output")
        _linear(names, f"{theirs}.ln_2", f"{ours}.mlp.norm")
        _linear(names, f"{theirs}.mlp.c_fc", f"{ours}.mlp.up")
        _linear(names, f"{theirs}.mlp.c_proj", f"{ours}.mlp.down")
    _linear(names, "ln_f", "final_norm")
    _lm(names, config, task)
    return names


def _llama_biases(config: PretrainedConfig) -> tuple[bool, bool, bool]:
    """Biases of (query key value, attention output, mlp)."""
    if config.model_type == "qwen2":
        return True, False, False
    bias = bool(config.attention_bias)
    return bias, bias, bool(config.__dict__.get("mlp_bias", False))


def _rope(rope: dict[str, Any]) -> CoreConfig:
    core: CoreConfig = {"rope_theta": float(rope["rope_theta"])}
    if rope["rope_type"] in ("linear", "llama3"):
        core["rope_factor"] = float(rope["factor"])
    if rope["rope_type"] == "llama3":
        core["rope_low"], core["rope_high"] = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        core["rope_original"] = float(rope["original_max_position_embeddings"])
    return core


def _llama_core(config: PretrainedConfig, task: str, pooler: bool) -> CoreConfig:
    qkv, output, mlp = _llama_biases(config)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "head_dim": config.__dict__.get("head_dim") or config.hidden_size // config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "norm": "rms",
        "norm_eps": float(config.rms_norm_eps),
        "pre_norm": True,
        "embedding_norm": False,
        "final_norm": True,
        "position": "rotary",
        **_rope(config.rope_parameters),
        "causal": True,
        "query_key_norm": config.model_type == "qwen3",
        "attention_bias": qkv,
        "output_bias": output,
        "mlp_bias": mlp,
        "activation": config.activation("hidden_act"),
        "gated": True,
        "attention_dropout": float(config.attention_dropout or 0.0),
    } | _lm_core(config, task)


def _llama_map(config: PretrainedConfig, task: str, pooler: bool) -> WeightMap:
    qkv, output, mlp = _llama_biases(config)
    names: WeightMap = {"embed_tokens.weight": "embeddings.word.weight"}
    for i in range(config.num_hidden_layers):
        theirs, ours = f"layers.{i}", f"layers.{i}"
        for short, role in (("q", "query"), ("k", "key"), ("v", "value")):
            _linear(names, f"{theirs}.self_attn.{short}_proj", f"{ours}.attention.{role}", qkv)
        _linear(names, f"{theirs}.self_attn.o_proj", f"{ours}.attention.output", output)
        if config.model_type == "qwen3":
            for short, role in (("q", "query"), ("k", "key")):
                _linear(names, f"{theirs}.self_attn.{short}_norm", f"{ours}.attention.{role}_norm", False)
        for part in ("gate", "up", "down"):
            _linear(names, f"{theirs}.mlp.{part}_proj", f"{ours}.mlp.{part}", mlp)
        _linear(names, f"{theirs}.input_layernorm", f"{ours}.attention.norm", False)
        _linear(names, f"{theirs}.post_attention_layernorm", f"{ours}.mlp.norm", False)
    names["norm.weight"] = "final_norm.weight"
    _lm(names, config, task)
    return names


# ------------------------------------------------------------------------------------------------------------------------- T5


def t5_core(config: PretrainedConfig, stack: str, task: str = "none") -> CoreConfig:
    """The core's config of the "encoder" or the "decoder"."""
    decoder = stack == "decoder"
    scale = float(config.d_model) ** -0.5 if config.__dict__.get("scale_decoder_outputs") else 1.0
    head = {**_lm_core(config, task), "logit_scale": scale} if decoder and task == "lm" else {}
    rate = float(config.dropout_rate)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_layers": config.num_decoder_layers if decoder else config.num_layers,
        "num_heads": config.num_heads,
        "head_dim": config.d_kv,
        "intermediate_size": config.d_ff,
        "norm": "rms",
        "norm_eps": float(config.layer_norm_epsilon),
        "pre_norm": True,
        "embedding_norm": False,
        "final_norm": True,
        "position": "relative",
        "relative_buckets": config.relative_attention_num_buckets,
        "relative_max_distance": config.relative_attention_max_distance,
        "relative_bidirectional": not decoder,
        "causal": decoder,
        "cross_attention": decoder,
        "attention_scale": 1.0,
        "attention_bias": False,
        "output_bias": False,
        "mlp_bias": False,
        "activation": config.activation("dense_act_fn"),
        "gated": bool(config.is_gated_act),
        "hidden_dropout": rate,
        "attention_dropout": rate,
        "mlp_dropout": rate,
        "final_dropout": rate,
        **head,
    }


def t5_map(config: PretrainedConfig, stack: str, task: str = "none") -> WeightMap:
    """The names of one stack, "shared.weight" first. A decoder block holds a cross attention between the two."""
    decoder = stack == "decoder"
    names: WeightMap = {"shared.weight": "embeddings.word.weight"}
    roles = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
    for i in range(config.num_decoder_layers if decoder else config.num_layers):
        theirs, ours = f"{stack}.block.{i}.layer", f"layers.{i}"
        for short, role in roles:
            _linear(names, f"{theirs}.0.SelfAttention.{short}", f"{ours}.attention.{role}", False)
        if i == 0:
            names[f"{theirs}.0.SelfAttention.relative_attention_bias.weight"] = "attention.relative_bias.weight"
        _linear(names, f"{theirs}.0.layer_norm", f"{ours}.attention.norm", False)
        if decoder:
            for short, role in roles:
                _linear(names, f"{theirs}.1.EncDecAttention.{short}", f"{ours}.cross.{role}", False)
            _linear(names, f"{theirs}.1.layer_norm", f"{ours}.cross.norm", False)
        last = f"{theirs}.{2 if decoder else 1}"
        parts = (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down")) if config.is_gated_act else (("wi", "up"), ("wo", "down"))
        for short, part in parts:
            _linear(names, f"{last}.DenseReluDense.{short}", f"{ours}.mlp.{part}", False)
        _linear(names, f"{last}.layer_norm", f"{ours}.mlp.norm", False)
    names[f"{stack}.final_layer_norm.weight"] = "final_norm.weight"
    if decoder:
        _lm(names, config, task)
    return names


_POSITION_IDS = (r"embeddings\.(position|token_type)_ids$",)
FAMILIES: dict[str, Family] = {
    "bert": Family(
        "bert", _encoder_core, _bert_map, _POSITION_IDS, padding_row=True,
        tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
              "cls.predictions.decoder.bias": "cls.predictions.bias", "cls.predictions.bias": "cls.predictions.decoder.bias"},
    ),
    "roberta": Family(
        "roberta", _roberta_core, _roberta_map, _POSITION_IDS, padding_row=True,
        tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight",
              "lm_head.decoder.bias": "lm_head.bias", "lm_head.bias": "lm_head.decoder.bias"},
    ),
    "albert": Family(
        "albert", _albert_core, _albert_map, _POSITION_IDS, padding_row=True,
        tied={"predictions.decoder.weight": "embeddings.word_embeddings.weight",
              "predictions.decoder.bias": "predictions.bias", "predictions.bias": "predictions.decoder.bias"},
    ),
    "gpt2": Family(
        "transformer", _gpt2_core, _gpt2_map, (r"attn\.(masked_)?bias$",), causal=True, token_types=False, tasks=("none", "lm"),
        tied={"lm_head.weight": "wte.weight"},
    ),
    **{
        name: Family(
            "model", _llama_core, _llama_map, (r"rotary_emb\.inv_freq$",), causal=True, token_types=False, padding_row=True,
            tasks=("none", "lm"), tied={"lm_head.weight": "embed_tokens.weight"},
        )
        for name in ("llama", "qwen2", "qwen3")
    },
}  # fmt: skip
T5_TIED = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "shared.weight",
}
_HEADS = re.compile(r"^(cls|lm_head|predictions|classifier|pooler|sop_classifier|qa_outputs|score)\b")


def is_head(name: str) -> bool:
    """Whether a name without prefix belongs to a head: those may be missing in a checkpoint."""
    return _HEADS.match(name) is not None


def normalise(name: str, prefix: str) -> str:
    """A checkpoint's name without the base model's prefix, and with the present names of LayerNorm's two vectors."""
    if prefix and name.startswith(prefix + "."):
        name = name[len(prefix) + 1 :]
    if name.endswith("LayerNorm.gamma"):
        return name[: -len("gamma")] + "weight"
    if name.endswith("LayerNorm.beta"):
        return name[: -len("beta")] + "bias"
    return name
