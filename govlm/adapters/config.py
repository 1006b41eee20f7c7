"""LoraConfig: PEFT's fields, those that are supported; and adapter_config.json."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["CONFIG", "LoraConfig"]

CONFIG = "adapter_config.json"
_HEADS = ["classifier", "score"]  # what a classification task trains whole, as PEFT has it
_ANYTHING = ("auto_mapping", "peft_version", "revision")  # say nothing about what is computed
_UNUSED = {"megatron_core": "megatron.core", "qalora_group_size": 16}  # fields of methods that are off


@dataclass
class LoraConfig:
    """What an adapter is: y = W x + lora_alpha / r * B A dropout(x) beside every targeted layer (use_rslora: / sqrt(r)).

    target_modules: names of layers ("q_proj": every layer that ends so), a regular expression that must match a whole name, or
    "all-linear" (all but the head over the vocabulary, and the classifier of a classification task); None: PEFT's choice for the
    family. exclude_modules: names or an expression of layers to leave out; layers_to_transform: numbers of the blocks to keep to.
    modules_to_save: "classifier" or "pooler": trained whole, each adapter its own; with task_type "SEQ_CLS" or "TOKEN_CLS" the
    classifier by default. init_lora_weights: True (A uniform, B zero), "gaussian" (A normal, deviation 1 / r), or False (both
    random). Errors: ValueError, TypeError naming the field; every field of PEFT's that is not here is refused by name.
    """

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: Collection[str] | str | None = None
    exclude_modules: Collection[str] | str | None = None
    layers_to_transform: Collection[int] | int | None = None
    bias: str = "none"
    modules_to_save: Collection[str] | None = None
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    fan_in_fan_out: bool = False  # written for PEFT's sake: how a layer stores its matrix is known here
    task_type: str | None = None
    inference_mode: bool = False
    base_model_name_or_path: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.r, bool) or not isinstance(self.r, int) or not 1 <= self.r <= 4096:
            raise ValueError(f"LoraConfig: r must be an integer in 1..4096, not {self.r!r}")
        if not isinstance(self.lora_alpha, (int, float)) or not math.isfinite(self.lora_alpha):
            raise ValueError(f"LoraConfig: lora_alpha must be a number, not {self.lora_alpha!r}")
        if not isinstance(self.lora_dropout, (int, float)) or not 0 <= self.lora_dropout < 1:
            raise ValueError(f"LoraConfig: lora_dropout must be in [0, 1), not {self.lora_dropout!r}")
        if self.bias != "none":
            raise ValueError(f'LoraConfig: bias = {self.bias!r} is not supported: only "none" is')
        if self.init_lora_weights not in (True, False, "gaussian"):
            raise ValueError(f"LoraConfig: init_lora_weights = {self.init_lora_weights!r} is not supported")
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            value = getattr(self, name)
            if value is None or (isinstance(value, str) and name != "modules_to_save"):
                continue
            if isinstance(value, str) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"LoraConfig: {name} must be a list of names, not {value!r}")
            setattr(self, name, sorted(value))
        layers = self.layers_to_transform
        if layers is not None:
            numbers = [layers] if isinstance(layers, int) else list(layers)
            if not all(isinstance(n, int) and n >= 0 for n in numbers):
                raise ValueError(f"LoraConfig: layers_to_transform must be numbers of layers, not {layers!r}")
            self.layers_to_transform = numbers or None
        if self.modules_to_save is None and self.task_type in ("SEQ_CLS", "TOKEN_CLS"):
            self.modules_to_save = list(_HEADS)

    @property
    def scaling(self) -> float:
        """What B A x is multiplied by."""
        return float(self.lora_alpha) / (math.sqrt(self.r) if self.use_rslora else self.r)

    def to_dict(self) -> dict[str, Any]:
        """As adapter_config.json has it."""
        return {"peft_type": "LORA", **{field.name: getattr(self, field.name) for field in fields(self)}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = CONFIG) -> LoraConfig:
        """ValueError, beginning with `where`, for what is not LoRA or has a field that is not supported."""
        known = {field.name for field in fields(cls)}
        if str(values.get("peft_type")).upper() != "LORA":
            raise ValueError(f"{where}: peft_type is {values.get('peft_type')!r}; only LORA is supported")
        for name, value in values.items():
            if name in known or name == "peft_type" or name in _ANYTHING or not value:
                continue
            if name not in _UNUSED or _UNUSED[name] != value:
                raise ValueError(f"{where}: {name} = {value!r} is not supported")
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> LoraConfig:
        """That of an adapter's folder. FileNotFoundError; ValueError for a damaged or unsupported one."""
        file = Path(folder) / CONFIG
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: {folder} holds no adapter")
        try:
            values = json.loads(file.read_text("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise ValueError(f"{file} is not JSON") from None
        if not isinstance(values, dict):
            raise ValueError(f"{file} is not a JSON object")
        return cls.from_dict(values, str(file))
