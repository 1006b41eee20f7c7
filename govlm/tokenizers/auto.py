"""AutoTokenizer: the tokenizer of whatever kind a folder or file holds."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from govlm.bundled import is_gguf, model_folder
from govlm.tokenizers.base import PreTrainedTokenizer
from govlm.tokenizers.files import read_json

__all__ = ["AutoTokenizer"]

# Where each class lies. Names that only differ in "Fast" are one.
_CLASSES = {
    "BertTokenizer": "bert",
    "GPT2Tokenizer": "bpe",
    "LlamaTokenizer": "bpe",
    "PreTrainedTokenizerFast": "bpe",
    "Qwen2Tokenizer": "bpe",
    "T5Tokenizer": "unigram",
}
_OF_MODEL = {  # model_type of config.json, where files alone do not tell
    "bert": "BertTokenizer", "gpt2": "GPT2Tokenizer", "llama": "LlamaTokenizer", "mt5": "T5Tokenizer",
    "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer", "t5": "T5Tokenizer",
}  # fmt: skip
_OF_JSON = {"BPE": "PreTrainedTokenizerFast", "Unigram": "T5Tokenizer", "WordPiece": "BertTokenizer"}
_ANY = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")


class AutoTokenizer:
    """`from_pretrained` for whatever kind of tokenizer a folder or a file holds."""

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str], **overrides: Any) -> Any:
        """ValueError or FileNotFoundError names the file that is missing, malformed or of a kind that govlm does not have."""
        path = model_folder(directory)
        if is_gguf(path):
            from govlm.gguf.file import GGUFFile
            from govlm.tokenizers.gguf import tokenizer_of_metadata

            return tokenizer_of_metadata(GGUFFile(path).metadata, str(path), **overrides)
        kind = _kind_of_file(path) if path.is_file() else _kind_of_folder(path)
        return _class_of(kind, path).from_pretrained(directory, **overrides)


def _class_of(kind: str, path: Path) -> type[PreTrainedTokenizer]:
    if kind not in _CLASSES:
        raise ValueError(f"{path}: is of a {kind}, but govlm has {', '.join(_CLASSES)}")
    try:
        module = importlib.import_module(f"govlm.tokenizers.{_CLASSES[kind]}")
    except ModuleNotFoundError:
        raise ValueError(f"{path}: is of a {kind}, which this version of govlm does not read") from None
    found: type[PreTrainedTokenizer] = getattr(module, kind)
    return found


def _kind_of_file(path: Path) -> str:
    if path.suffix == ".json":
        return _kind_of_json(path)
    if path.suffix == ".tiktoken":
        return "Qwen2Tokenizer"
    return _kind_of_model(path) if path.suffix == ".model" else "BertTokenizer"


def _kind_of_folder(folder: Path) -> str:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; govlm loads tokenizers from a local folder, never from a network")
    named = _named(folder / "tokenizer_config.json", "tokenizer_class").removesuffix("Fast")
    if named and named not in _ANY and f"{named}Fast" not in _ANY:
        return named
    whole = folder / "tokenizer.json"
    if whole.exists():
        return _kind_of_json(whole)
    if (folder / "vocab.txt").exists():
        return "BertTokenizer"
    if list(folder.glob("*.tiktoken")):
        return "Qwen2Tokenizer"
    for name in ("tokenizer.model", "spiece.model"):
        if (folder / name).exists():
            return _kind_of_model(folder / name)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        kind = _OF_MODEL.get(_named(folder / "config.json", "model_type"), "GPT2Tokenizer")
        return kind if kind in ("GPT2Tokenizer", "Qwen2Tokenizer") else "GPT2Tokenizer"
    raise FileNotFoundError(
        f"{folder}: holds neither vocab.txt nor tokenizer.json, nor vocab.json with merges.txt, a .tiktoken or a .model file"
    )


def _kind_of_json(path: Path) -> str:
    whole = read_json(path)
    model = whole.get("model") if isinstance(whole, dict) else None
    if not isinstance(model, dict):
        raise ValueError(f"{path}: is no tokenizer.json: it has no model")
    guess = "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else "WordPiece"
    kind = str(model.get("type") or guess)
    if kind not in _OF_JSON:
        raise ValueError(f"{path}: is a {kind} tokenizer, but govlm reads {', '.join(_OF_JSON)}")
    return _OF_JSON[kind]


def _kind_of_model(path: Path) -> str:
    from govlm.tokenizers.sentencepiece import ModelType, read_model

    return "LlamaTokenizer" if read_model(path).trainer.model_type == ModelType.BPE else "T5Tokenizer"


def _named(path: Path, key: str) -> str:
    if not path.exists():
        return ""
    config = read_json(path)
    return str(config.get(key) or "") if isinstance(config, dict) else ""
