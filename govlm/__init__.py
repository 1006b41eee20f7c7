"""Chinese language models for online government service halls, on ordinary CPUs. Names only: what is used is imported then."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES: dict[str, tuple[str, ...]] = {
    "adapters": ("LoraConfig",),
    "checkpoint": ("load_file", "save_file"),
    "configuration": (
        "AlbertConfig", "AutoConfig", "BertConfig", "GPT2Config", "LlamaConfig", "PretrainedConfig", "Qwen2Config",
        "Qwen3Config", "RobertaConfig", "T5Config",
    ),
    "data": ("DataLoader", "Dataset"),
    "generation": ("GenerationConfig",),
    "models": (
        "AlbertForMaskedLM", "AlbertForSequenceClassification", "AlbertForTokenClassification", "AlbertModel", "AutoModel",
        "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification", "AutoModelForTokenClassification", "BertForMaskedLM",
        "BertForSequenceClassification", "BertForTokenClassification", "BertModel", "GPT2LMHeadModel", "GPT2Model", "LlamaForCausalLM", "LlamaModel",
        "PreTrainedModel", "Qwen2ForCausalLM", "Qwen2Model", "Qwen3ForCausalLM", "Qwen3Model", "RobertaForMaskedLM", "RobertaForSequenceClassification",
        "RobertaForTokenClassification", "RobertaModel", "mean_pool",
    ),
    "optim": (
        "AdamW", "LambdaLR", "clip_grad_norm_", "freeze", "get_constant_schedule", "get_constant_schedule_with_warmup",
        "get_cosine_schedule_with_warmup", "get_linear_schedule_with_warmup", "get_scheduler", "get_wsd_schedule",
        "layerwise_lr_groups", "no_decay_groups", "set_seed",
    ),
    "outputs": ("Loss", "ModelOutput", "no_grad"),
    "t5": ("MT5EncoderModel", "MT5ForConditionalGeneration", "MT5Model", "T5EncoderModel", "T5ForConditionalGeneration", "T5Model"),
    "tokenizers": ("AutoTokenizer", "BertTokenizer", "train_wordpiece"),
}  # fmt: skip
_WHERE = {name: module for module, names in _PLACES.items() for name in names}
_CORE = ("num_threads", "set_num_threads")
_MODULES = (
    "adapters",
    "checkpoint",
    "configuration",
    "data",
    "generation",
    "models",
    "optim",
    "outputs",
    "tokenizers",
    "train",
)

__all__ = [*sorted(_WHERE), *_CORE, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    elif name in _CORE:
        value = getattr(importlib.import_module(f"{__name__}._native").core, name)
    elif name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"govlm has no {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
