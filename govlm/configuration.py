"""Model configurations: transformers' field names and defaults, `config.json` as it writes it, older files too.

A config is a plain bag of attributes. Fields that we do not know are kept and written back; a known field with a setting that
the core cannot compute raises ValueError and names the field.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from govlm.bundled import BUNDLED, is_gguf, model_folder

__all__ = [
    "AlbertConfig",
    "AutoConfig",
    "BertConfig",
    "GPT2Config",
    "LlamaConfig",
    "MT5Config",
    "PretrainedConfig",
    "Qwen2Config",
    "Qwen3Config",
    "RobertaConfig",
    "T5Config",
]

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# how rotary positions are stretched -> what rope_parameters must say besides rope_theta
ROPE_TYPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
_COMMON: dict[str, Any] = {
    "architectures": None,
    "output_hidden_states": False,
    "output_attentions": False,
    "return_dict": True,
    "dtype": None,
    "problem_type": None,
}
# fields of the common part that are written only when they differ from the default, as transformers does
_QUIET = ("output_hidden_states", "output_attentions", "return_dict", "problem_type", "id2label", "label2id", "name_or_path")


class PretrainedConfig:
    """Base of the configs. `Config(hidden_size=…, num_labels=…)`: every field by name, the rest by transformers' default.

    num_labels, id2label and label2id go together: setting num_labels renames the labels LABEL_0, LABEL_1, … when their
    number changes. Errors: ValueError for a setting that cannot be computed (`validate`).
    """

    model_type: ClassVar[str] = ""
    defaults: ClassVar[dict[str, Any]] = {}
    attribute_map: ClassVar[dict[str, str]] = {}

    def __init__(self, **fields: Any) -> None:
        fields = {self.attribute_map.get(k, k): v for k, v in fields.items()}
        if "torch_dtype" in fields:  # the name before transformers 5
            fields.setdefault("dtype", fields.pop("torch_dtype"))
            fields.pop("torch_dtype", None)
        id2label, num_labels = fields.pop("id2label", None), fields.pop("num_labels", None)
        label2id = fields.pop("label2id", None)
        fields.pop("model_type", None)
        self.name_or_path = str(fields.pop("name_or_path", fields.pop("_name_or_path", "")))
        for key, value in {**_COMMON, **self.defaults}.items():
            self.__dict__[key] = copy.deepcopy(value)
        self.__dict__.update(self.prepare(fields))
        self.id2label: dict[int, str] = {}
        self.label2id: dict[str, int] = {}
        if id2label is not None:
            self.id2label = {int(k): v for k, v in id2label.items()}
            self.label2id = label2id if label2id is not None else {v: k for k, v in self.id2label.items()}
        if id2label is None or (num_labels is not None and num_labels != len(self.id2label)):
            self.num_labels = 2 if num_labels is None else num_labels
        self.validate()

    def __getattr__(self, name: str) -> Any:
        mapped = type(self).attribute_map.get(name)
        if mapped is None:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        return getattr(self, mapped)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, self.attribute_map.get(name, name), value)

    @property
    def num_labels(self) -> int:
        """The number of labels of a classification head: the length of `id2label`."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"num_labels must be a positive integer, not {count!r}")
        if count != len(self.id2label):
            self.id2label = {i: f"LABEL_{i}" for i in range(count)}
            self.label2id = {f"LABEL_{i}": i for i in range(count)}

    def prepare(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Fields as given -> fields as stored; families fill in what depends on others."""
        return fields

    def validate(self) -> None:
        """Raises ValueError for a setting that the core cannot compute."""
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, not {self.problem_type!r}")
        if self.problem_type == "single_label_classification" and self.num_labels == 1:
            raise ValueError('problem_type "single_label_classification" needs num_labels of at least 2')

    def refuse(self, name: str, allowed: Any) -> None:
        """ValueError unless field `name` is absent, None or `allowed`."""
        value = self.__dict__.get(name)
        if value is not None and value != allowed:
            raise ValueError(f"{self.model_type}: {name} = {value!r} is not supported (only {allowed!r} is)")

    def activation(self, field: str) -> str:
        """The core's name of the activation in `field`."""
        name = getattr(self, field)
        if name not in ACTIVATIONS:
            raise ValueError(f"{self.model_type}: {field} = {name!r} is not supported; known: {', '.join(sorted(ACTIVATIONS))}")
        return ACTIVATIONS[name]

    def positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{self.model_type}: {name} must be a positive integer, not {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json: every field but the common ones at their default."""
        plain = PretrainedConfig.__dict__
        fields = {k: copy.deepcopy(v) for k, v in self.__dict__.items() if k not in plain and not k.startswith("_")}
        fields["id2label"] = {str(k): v for k, v in self.id2label.items()}
        if fields["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"}:
            del fields["id2label"], fields["label2id"]
        for name in _QUIET:
            if name in fields and fields[name] == _COMMON.get(name, ""):
                del fields[name]
        for name in ("architectures", "dtype"):
            if fields.get(name) is None:
                fields.pop(name, None)
        fields.pop("name_or_path", None)
        fields["model_type"] = self.model_type
        return fields

    def to_json_string(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Writes config.json into the folder (made when missing), atomically."""
        from .checkpoint import write_atomically

        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically({folder / "config.json": self.to_json_string().encode("utf-8")})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], **overrides: Any) -> PretrainedConfig:
        """A config from the content of config.json. Errors: ValueError for an override that names no field."""
        overrides = {cls.attribute_map.get(k, k): v for k, v in overrides.items()}
        known = {*_COMMON, *cls.defaults, *fields, "num_labels", "id2label", "label2id", "torch_dtype", *cls.attribute_map}
        unknown = [k for k in overrides if k not in known]
        if unknown:
            raise ValueError(f"{cls.model_type} models have no setting {unknown[0]!r}")
        merged = {cls.attribute_map.get(k, k): v for k, v in fields.items()}
        if "num_labels" in overrides and "id2label" not in overrides:
            saved = merged.get("id2label")
            if saved is not None and len(saved) != overrides["num_labels"]:
                merged.pop("id2label"), merged.pop("label2id", None)
        elif "num_labels" in merged and merged.get("id2label") is not None:
            merged.pop("num_labels")
        merged.update(overrides)
        return cls(**merged)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **overrides: Any) -> PretrainedConfig:
        """Reads `path`/config.json (or the file `path`); `overrides` replace fields.

        Errors: FileNotFoundError, ValueError (not JSON, another architecture, an unsupported setting), all naming the file.
        """
        return cls._from_file(*read_config_file(path), path, overrides)

    @classmethod
    def _from_file(
        cls, fields: dict[str, Any], file: Path, path: str | os.PathLike[str], overrides: dict[str, Any]
    ) -> PretrainedConfig:
        kind = fields.get("model_type")
        if kind is not None and cls.model_type and kind != cls.model_type:
            raise ValueError(f"{file} describes a {kind!r} model, not a {cls.model_type!r} one ({cls.__name__})")
        try:
            config = cls.from_dict(fields, **overrides)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        config.name_or_path = str(path)
        return config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string().rstrip()}"


def read_config_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Path]:
    """The JSON object of `path`/config.json and the file's name; what the metadata of a GGUF file says instead."""
    file = model_folder(path)
    if is_gguf(file):
        from .gguf.architectures import config_fields
        from .gguf.file import GGUFFile

        return config_fields(GGUFFile(file)), file
    if not file.exists():
        raise FileNotFoundError(
            f"no model folder {file}: govlm loads local folders and {BUNDLED}, the model in the box (nothing is downloaded)"
        )
    if file.is_dir():
        file = file / "config.json"
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing: a model folder holds config.json and model.safetensors")
    try:
        fields = json.loads(file.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{file} must hold a JSON object, not a {type(fields).__name__}")
    return fields, file


_BERT_LIKE: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "use_cache": True,
    "classifier_dropout": None,
    "is_decoder": False,
    "add_cross_attention": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": True,
}


class _EncoderConfig(PretrainedConfig):
    def validate(self) -> None:
        super().validate()
        self.positive("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        self.positive("max_position_embeddings", "type_vocab_size")
        self.refuse("is_decoder", False)
        self.refuse("add_cross_attention", False)
        self.refuse("position_embedding_type", "absolute")  # written by transformers before 5
        if self.__dict__.get("pruned_heads"):
            raise ValueError(f"{self.model_type}: pruned_heads is not supported")
        self.activation("hidden_act")
        if self.__dict__.get("head_dim") is not None:  # ours: a pruned model has fewer heads, each as wide as before
            self.positive("head_dim")
        elif self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"{self.model_type}: hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )


class BertConfig(_EncoderConfig):
    """BERT (and MiniLM). Defaults as in transformers: bert-base, English vocabulary size."""

    model_type = "bert"
    defaults = _BERT_LIKE


class RobertaConfig(_EncoderConfig):
    """RoBERTa: positions count from pad_token_id + 1 over the tokens that are not padding."""

    model_type = "roberta"
    defaults = _BERT_LIKE | {"vocab_size": 50265, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}

    def validate(self) -> None:
        super().validate()
        if not isinstance(self.pad_token_id, int) or self.pad_token_id < 0:
            raise ValueError(f"roberta: pad_token_id must be a token id (positions count from it), not {self.pad_token_id!r}")


class AlbertConfig(_EncoderConfig):
    """ALBERT: embeddings of embedding_size, projected to hidden_size; one layer's weights used num_hidden_layers times."""

    model_type = "albert"
    defaults: ClassVar[dict[str, Any]] = {
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_hidden_layers": 12,
        "num_hidden_groups": 1,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "inner_group_num": 1,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "classifier_dropout_prob": 0.1,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "tie_word_embeddings": True,
    }

    def validate(self) -> None:
        super().validate()
        self.positive("embedding_size")
        self.refuse("num_hidden_groups", 1)
        self.refuse("inner_group_num", 1)
        if self.embedding_size >= self.hidden_size:
            raise ValueError(
                f"albert: embedding_size {self.embedding_size} must be smaller than hidden_size {self.hidden_size}"
            )


class GPT2Config(PretrainedConfig):
    """GPT-2. hidden_size, num_hidden_layers, … are accepted for n_embd, n_layer, …"""

    model_type = "gpt2"
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    defaults: ClassVar[dict[str, Any]] = {
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "n_inner": None,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "summary_activation": None,
        "summary_proj_to_labels": True,
        "summary_first_dropout": 0.1,
        "scale_attn_weights": True,
        "use_cache": True,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
        "pad_token_id": None,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }

    def validate(self) -> None:
        super().validate()
        self.positive("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
        self.refuse("scale_attn_by_inverse_layer_idx", False)
        self.refuse("add_cross_attention", False)
        self.activation("activation_function")
        if self.n_embd % self.n_head:
            raise ValueError(f"gpt2: n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")


_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
    "rope_parameters": None,
    "attention_dropout": 0.0,
}
_QWEN_LIKE = _LLAMA_LIKE | {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": None,
    "max_window_layers": 28,
    "layer_types": None,
}


class _RotaryConfig(PretrainedConfig):
    def prepare(self, fields: dict[str, Any]) -> dict[str, Any]:
        theta, scaling = fields.pop("rope_theta", None), fields.pop("rope_scaling", None)  # the names before transformers 5
        rope = dict(fields.get("rope_parameters") or scaling or {})
        if "type" in rope:
            rope.setdefault("rope_type", rope.pop("type"))
            rope.pop("type", None)
        rope.setdefault("rope_theta", 10000.0 if theta is None else theta)
        rope.setdefault("rope_type", "default")
        fields["rope_parameters"] = rope
        if fields.get("num_key_value_heads", self.__dict__["num_key_value_heads"]) is None:
            fields["num_key_value_heads"] = fields.get("num_attention_heads", self.__dict__["num_attention_heads"])
        return fields

    def validate(self) -> None:
        super().validate()
        self.positive("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        self.positive("num_key_value_heads")
        self.activation("hidden_act")
        rope = self.rope_parameters
        if rope["rope_type"] not in ROPE_TYPES:
            raise ValueError(
                f"{self.model_type}: rope_parameters of rope_type {rope['rope_type']!r} are not supported; "
                f"known: {', '.join(ROPE_TYPES)}"
            )
        for name in ("rope_theta", *ROPE_TYPES[rope["rope_type"]]):
            value = rope.get(name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"{self.model_type}: rope_parameters need a positive {name}, not {value!r}")
        if rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(f"{self.model_type}: rope_parameters with partial_rotary_factor are not supported")
        self.refuse("pretraining_tp", 1)
        self.refuse("use_sliding_window", False)
        other = [kind for kind in self.__dict__.get("layer_types") or [] if kind != "full_attention"]
        if other:
            raise ValueError(f"{self.model_type}: layer_types with {other[0]!r} are not supported")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.model_type}: num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )


class LlamaConfig(_RotaryConfig):
    """Llama. rope_theta, rope_scaling (older files) become rope_parameters."""

    model_type = "llama"
    defaults = _LLAMA_LIKE | {
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pretraining_tp": 1,
        "attention_bias": False,
        "mlp_bias": False,
        "head_dim": None,
    }

    def prepare(self, fields: dict[str, Any]) -> dict[str, Any]:
        fields = super().prepare(fields)
        if fields.get("head_dim") is None:
            hidden, heads = (fields.get(k, self.defaults[k]) for k in ("hidden_size", "num_attention_heads"))
            fields["head_dim"] = hidden // heads
        return fields


class Qwen2Config(_RotaryConfig):
    """Qwen2 and Qwen2.5: Llama with biases on query, key and value."""

    model_type = "qwen2"
    defaults = _QWEN_LIKE

    def prepare(self, fields: dict[str, Any]) -> dict[str, Any]:
        fields = super().prepare(fields)
        if not fields.get("use_sliding_window", False):
            fields["sliding_window"] = None
        if fields.get("layer_types") is None:
            fields["layer_types"] = ["full_attention"] * fields.get("num_hidden_layers", self.defaults["num_hidden_layers"])
        return fields


class Qwen3Config(Qwen2Config):
    """Qwen3: queries and keys are normalised per head, head_dim stands by itself."""

    model_type = "qwen3"
    defaults = _QWEN_LIKE | {"head_dim": 128, "attention_bias": False}


class T5Config(PretrainedConfig):
    """T5 and (as MT5Config) mT5. feed_forward_proj is "relu" or "gated-…"; hidden_size, head_dim, … are accepted for d_model, d_kv, …"""

    model_type = "t5"
    scales: ClassVar[bool] = True
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    }
    defaults: ClassVar[dict[str, Any]] = {
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_decoder_layers": None,
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6,
        "initializer_factor": 1.0,
        "feed_forward_proj": "relu",
        "is_encoder_decoder": True,
        "use_cache": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "classifier_dropout": 0.0,
        "is_decoder": False,
        "tie_word_embeddings": True,
    }

    def prepare(self, fields: dict[str, Any]) -> dict[str, Any]:
        if fields.get("num_decoder_layers") is None:
            fields["num_decoder_layers"] = fields.get("num_layers", self.defaults["num_layers"])
        kind = str(fields.get("feed_forward_proj", self.defaults["feed_forward_proj"]))
        parts = kind.split("-")
        if len(parts) > 2 or (len(parts) == 2 and parts[0] != "gated"):
            raise ValueError(
                f'{self.model_type}: feed_forward_proj must be an activation or "gated-" and an activation, not {kind!r}'
            )
        fields["is_gated_act"] = parts[0] == "gated"
        fields["dense_act_fn"] = "gelu_new" if kind == "gated-gelu" else parts[-1]
        # the first T5 scales the decoder's output before its vocabulary, the later ones (saved as untied) do not
        if self.scales:
            fields.setdefault("scale_decoder_outputs", fields.get("tie_word_embeddings") is not False)
        fields["tie_word_embeddings"] = True
        return fields

    def validate(self) -> None:
        super().validate()
        self.positive("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads")
        self.positive("relative_attention_num_buckets", "relative_attention_max_distance")
        self.activation("dense_act_fn")


class MT5Config(T5Config):
    """mT5: gated, and nothing scales the decoder's output before its vocabulary."""

    model_type = "mt5"
    scales = False
    defaults: ClassVar[dict[str, Any]] = T5Config.defaults | {
        "vocab_size": 250112,
        "d_ff": 1024,
        "num_layers": 8,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
        "decoder_start_token_id": 0,
    }


CONFIGS: dict[str, type[PretrainedConfig]] = {
    c.model_type: c
    for c in (BertConfig, RobertaConfig, AlbertConfig, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config, T5Config, MT5Config)
}


class AutoConfig:
    """Picks the config class by `model_type`."""

    @staticmethod
    def for_model(model_type: str, **fields: Any) -> PretrainedConfig:
        """The config of `model_type` with `fields`. Errors: ValueError for an unknown type."""
        return _config_class(model_type, "")(**fields)

    @staticmethod
    def from_pretrained(path: str | os.PathLike[str], **overrides: Any) -> PretrainedConfig:
        """Reads `path`/config.json. Errors as PretrainedConfig.from_pretrained; ValueError for an unknown model_type."""
        fields, file = read_config_file(path)
        return _config_class(fields.get("model_type"), f"{file}: ")._from_file(fields, file, path, overrides)


def _config_class(model_type: Any, where: str) -> type[PretrainedConfig]:
    if model_type not in CONFIGS:
        raise ValueError(f"{where}model_type {model_type!r} is not supported; known: {', '.join(sorted(CONFIGS))}")
    return CONFIGS[model_type]
