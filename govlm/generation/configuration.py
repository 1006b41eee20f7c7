"""What generate() is told, under transformers' names.

A field that is None was not set: generate's arguments come first, then the config it is given, then the model's own
(generation_config.json), then DEFAULTS, which are transformers'.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["DEFAULTS", "GenerationConfig"]

DEFAULTS: dict[str, Any] = {
    "max_length": 20, "min_length": 0, "do_sample": False, "num_beams": 1, "early_stopping": False, "temperature": 1.0,
    "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0,
    "num_return_sequences": 1, "output_scores": False, "output_logits": False, "output_logprobs": False,
    "return_dict_in_generate": False, "remove_invalid_values": False, "renormalize_logits": False, "use_cache": True,
    "prompt_overflow": "refuse", "cache_bits": 32, "prompt_lookup_num_tokens": 0, "max_matching_ngram_size": 3,
}  # fmt: skip
# Fields of other people's files that change nothing here: how it was written, or off.
_OFF: dict[str, tuple[Any, ...]] = {
    "diversity_penalty": (0.0,), "num_beam_groups": (1,),
    "encoder_repetition_penalty": (1.0,), "encoder_no_repeat_ngram_size": (0,), "output_attentions": (False,),
    "output_hidden_states": (False,), "token_healing": (False,), "is_assistant": (False,),
}  # fmt: skip
_ASIDE = (
    "transformers_version", "_from_model_config", "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind",
    "num_assistant_tokens", "num_assistant_tokens_schedule", "trust_remote_code", "chat_format", "max_window_size",
)  # fmt: skip


@dataclass
class GenerationConfig:
    """max_new_tokens (default 20) counts what is generated, max_length prompt and all; eos_token_id may be several.

    prompt_lookup_num_tokens: tokens that are guessed ahead from what prompt and text have said (0: off); the text stays the same and
    comes faster where it repeats its source. max_matching_ngram_size: last tokens that are looked for there.
    Ours beside transformers' fields: seed (of sampling: the same request gives the same tokens, alone or in a batch),
    prompt_overflow ("refuse" a prompt that leaves no room for max_new_tokens, or "window": keep its end), cache_bits (32 or 8:
    of the keys and values that are kept) and output_logprobs (of every generated token under the model's own distribution).
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    stop_strings: str | list[str] | None = None
    do_sample: bool | None = None
    num_beams: int | None = None
    early_stopping: bool | str | None = None
    length_penalty: float | None = None
    num_return_sequences: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    bad_words_ids: list[list[int]] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | list[int] | None = None
    remove_invalid_values: bool | None = None
    renormalize_logits: bool | None = None
    output_scores: bool | None = None
    output_logits: bool | None = None
    output_logprobs: bool | None = None
    return_dict_in_generate: bool | None = None
    use_cache: bool | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None
    seed: int | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int | None = None
    prompt_overflow: str | None = None
    cache_bits: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationConfig:
        """From a file's fields. One that is unknown here and not off is named in a warning."""
        known = {field.name for field in fields(cls)}
        strange = [
            name for name, value in values.items()
            if name not in known and name not in _ASIDE and value is not None and value not in _OFF.get(name, ())
        ]  # fmt: skip
        if strange:
            warnings.warn(f"generation_config: {', '.join(sorted(strange))} is not supported and has no effect", stacklevel=2)
        return cls(**{name: value for name, value in values.items() if name in known})

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> GenerationConfig:
        """From generation_config.json in a folder; ValueError when it is damaged."""
        file = Path(path) / "generation_config.json"
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file} is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{file} does not hold an object")
        return cls.from_dict(values)

    @classmethod
    def from_model_config(cls, config: Any) -> GenerationConfig:
        """The special ids, and what old checkpoints hold of generation, from a model's config."""
        given = config.__dict__
        names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
        return cls(**{name: given[name] for name in names if given.get(name) is not None})

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def over(self, base: GenerationConfig) -> GenerationConfig:
        """These fields, and where they are not set those of `base`."""
        return GenerationConfig(**{**base.to_dict(), **self.to_dict()})

    def resolved(self) -> GenerationConfig:
        """With the defaults filled in, and every value checked: ValueError or TypeError names the field."""
        done = self.over(GenerationConfig(**DEFAULTS))
        done._check()
        return done

    @property
    def eos(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return _ids(self.eos_token_id)

    def _check(self) -> None:
        for name, least in (
            ("max_length", 1), ("max_new_tokens", 0), ("min_length", 0), ("min_new_tokens", 0), ("num_beams", 1), ("top_k", 0),
            ("num_return_sequences", 1), ("no_repeat_ngram_size", 0), ("seed", 0), ("prompt_lookup_num_tokens", 0),
            ("max_matching_ngram_size", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if self.seed is not None and self.seed >= 2**64:
            raise ValueError(f"seed must be below 2**64, not {self.seed}")
        for name, low, high in (("top_p", 0.0, 1.0), ("min_p", 0.0, 1.0)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value}")
        if self.typical_p is not None and not 0 < self.typical_p <= 1:
            raise ValueError(f"typical_p must be above 0 and at most 1, not {self.typical_p}")
        for name in ("epsilon_cutoff", "eta_cutoff"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {value}")
        for name in ("suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id"):
            value = getattr(self, name)
            for index in value if isinstance(value, list | tuple) else [] if value is None else [value]:
                if isinstance(index, bool) or not isinstance(index, int) or index < 0:
                    raise ValueError(f"{name} wants ids, not {index!r}")
        for name in ("temperature", "repetition_penalty"):
            if not getattr(self, name) > 0:
                advice = "; for greedy search set do_sample=False" if name == "temperature" else ""
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}{advice}")
        if self.early_stopping not in (True, False, "never"):
            raise ValueError(f'early_stopping must be True, False or "never", not {self.early_stopping!r}')
        if self.prompt_overflow not in ("refuse", "window"):
            raise ValueError(f'prompt_overflow must be "refuse" or "window", not {self.prompt_overflow!r}')
        if self.cache_bits not in (32, 8):
            raise ValueError(f"cache_bits must be 32 or 8, not {self.cache_bits!r}")
        if self.use_cache is not True:
            raise ValueError("use_cache=False is not supported: the result would be the same, only slower")
        beams, several, sample = self.num_beams or 1, self.num_return_sequences or 1, self.do_sample
        if beams > 1 and sample:
            raise ValueError("num_beams goes with do_sample=False: beams that are drawn at random are not supported")
        if beams > 1 and self.prompt_lookup_num_tokens:
            raise ValueError("num_beams goes without prompt_lookup_num_tokens: guesses are for one text at a time")
        if several > 1 and beams == 1 and not sample:
            raise ValueError("num_return_sequences needs do_sample=True or num_beams: greedy search finds one text")
        if beams > 1 and several > beams:
            raise ValueError(f"num_return_sequences is {several}, but there are {beams} beams")


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
