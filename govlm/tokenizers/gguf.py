"""The tokenizer that the metadata of a GGUF file describes (keys tokenizer.ggml.*)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from govlm.tokenizers.bpe import GPT2Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from govlm.tokenizers.encoding import AddedToken
from govlm.tokenizers.tokenizer_json import Pipeline

__all__ = ["tokenizer_of_metadata"]

# tokenizer.ggml.pre -> class and pipeline; others cut text in ways that are not here
_PRE: dict[str, tuple[type[PreTrainedTokenizerFast], Pipeline]] = {
    "gpt-2": (GPT2Tokenizer, Pipeline(split="gpt2")),
    "qwen2": (Qwen2Tokenizer, Pipeline(split="qwen2", compose=True)),
    "llama-bpe": (PreTrainedTokenizerFast, Pipeline(split="llama3", whole_words=True)),
    "llama3": (PreTrainedTokenizerFast, Pipeline(split="llama3", whole_words=True)),
    "smollm": (PreTrainedTokenizerFast, Pipeline(split="digits")),
}
# tokenizer.ggml.token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
_NAMES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def tokenizer_of_metadata(metadata: Mapping[str, Any], name: str = "gguf", **overrides: Any) -> PreTrainedTokenizerFast:
    """metadata: the file's keys and values, arrays as sequences.  name: what errors begin with.

    ValueError names what is missing, malformed or of a kind that govlm does not have.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise ValueError(f"{name}: its tokenizer is {model!r}, but govlm reads gpt2 and llama")
    tokens = list(metadata.get("tokenizer.ggml.tokens") or ())
    types = np.asarray(metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens)))
    if not tokens or not all(isinstance(token, str) for token in tokens) or types.shape != (len(tokens),):
        raise ValueError(f"{name}: tokenizer.ggml.tokens is missing, or is no list of texts with a type each")
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(tokens):
        vocabulary.setdefault(token, index)
    added = [
        (int(i), AddedToken(tokens[i], normalized=False, special=bool(types[i] == CONTROL)))
        for i in np.flatnonzero((types == CONTROL) | (types == USER_DEFINED))
    ]
    options: dict[str, Any] = dict.fromkeys(_NAMES.values())
    for key, option in _NAMES.items():
        chosen = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if chosen is not None and not 0 <= int(chosen) < len(tokens):
            raise ValueError(f"{name}: tokenizer.ggml.{key}_token_id {chosen} is beyond {len(tokens)} tokens")
        options[option] = None if chosen is None else tokens[int(chosen)]
    for key in ("add_bos_token", "add_eos_token"):
        if (value := metadata.get(f"tokenizer.ggml.{key}")) is not None:
            options[key] = bool(value)
    options |= {"added_tokens": added, "chat_template": metadata.get("tokenizer.chat_template")}
    if model == "llama":
        scores = np.asarray(metadata.get("tokenizer.ggml.scores", ()), np.float64)
        if scores.shape != (len(tokens),):
            raise ValueError(f"{name}: tokenizer.ggml.scores does not have one score a token")
        order = np.unique(-scores, return_inverse=True)[1].reshape(-1)
        options["ranks"] = np.where(types == NORMAL, order, -1).astype(np.int32)
        options.setdefault("add_bos_token", True)
        prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
        options["pipeline"] = LlamaTokenizer.default_pipeline._replace(prepend="always" if prefix else "never")
        unknown = np.flatnonzero(types == UNKNOWN)
        options["model_unk_token"] = tokens[unknown[0]] if unknown.size else None
        return LlamaTokenizer(vocabulary, **(options | overrides))
    pre = metadata.get("tokenizer.ggml.pre")
    if pre not in _PRE:
        raise ValueError(f"{name}: its pre-tokenizer is {pre!r}, but govlm has {', '.join(_PRE)}")
    kind, options["pipeline"] = _PRE[pre]
    rows = [tuple(str(row).split(" ")) for row in metadata.get("tokenizer.ggml.merges") or ()]
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(f"{name}: tokenizer.ggml.merges is missing, or has rows that are not two tokens")
    merges = [(row[0], row[1]) for row in rows]
    try:
        return kind(vocabulary, merges, **(options | overrides))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
