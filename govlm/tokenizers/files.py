"""The files of a tokenizer: JSON, vocabularies and configurations, read with errors that name the file and written whole."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from govlm.tokenizers.byte_level import text_of
from govlm.tokenizers.encoding import AddedToken
from govlm.tokenizers.special_tokens import SPECIAL_NAMES

__all__ = [
    "dump", "read_config", "read_json", "read_merges", "read_ranks", "read_token", "read_token_ids", "read_vocabulary", "write",
]  # fmt: skip


def dump(value: Any) -> str:
    """JSON as this package writes it: UTF-8 as it is, two spaces, a line break at the end."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def write(path: Path, content: str | bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_vocabulary(path: Path) -> dict[str, int]:
    """One token a line -> token -> line."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such vocabulary file") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}: line {line} is not UTF-8, so this is no vocabulary") from None
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: is empty, so it is no vocabulary")
    return {line.rstrip("\r"): index for index, line in enumerate(lines)}


def read_token_ids(path: Path) -> dict[str, int]:
    """A vocab.json: token -> id."""
    table = read_json(path)
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{path}: is no object of tokens and ids")
    for token, index in table.items():
        if not isinstance(index, int) or index < 0:
            raise ValueError(f"{path}: token {token!r:.40} has the id {index!r:.40}")
    return table


def read_merges(path: Path) -> list[tuple[str, str]]:
    """A merges.txt: two tokens a line, in order of rank, after a line "#version"."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8, so these are no merges") from None
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{path}: line {number} is no merge of two tokens: {line!r:.60}")
        merges.append((parts[0], parts[1]))
    return merges


def read_ranks(path: Path) -> tuple[dict[str, int], list[int]]:
    """A .tiktoken file (base64 of a token's bytes and its rank a line) -> token in the byte alphabet -> rank, which is its id."""
    vocabulary: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            encoded, rank = line.split()
            token, index = b64decode(encoded, validate=True), int(rank)
        except ValueError:
            raise ValueError(f"{path}: line {number} is no token in base64 with a rank") from None
        if not token or not 0 <= index < 1 << 20:
            raise ValueError(f"{path}: line {number} has an empty token or the rank {index}")
        vocabulary[text_of(token)] = index
    if not vocabulary:
        raise ValueError(f"{path}: holds no tokens")
    if len(set(vocabulary.values())) != len(vocabulary):
        raise ValueError(f"{path}: two tokens have the same rank")
    ranks = [-1] * (max(vocabulary.values()) + 1)
    for index in vocabulary.values():
        ranks[index] = index
    return vocabulary, ranks


def read_json(path: Path) -> Any:
    """ValueError names the file when it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON ({error})") from None


def read_token(value: Any) -> AddedToken:
    """A token as the files write it: its text, or an object with its flags."""
    if isinstance(value, str):
        return AddedToken(value, normalized=False, special=True)
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise ValueError(f"an added token must be a text or an object with content, got {value!r:.80}")
    return AddedToken(**{name: value[name] for name in AddedToken._fields if name in value})


def read_config(
    folder: Path, kinds: Iterable[str], own_options: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[int, AddedToken]]:
    """What special_tokens_map.json and tokenizer_config.json say: options of the constructor, and the added tokens.

    kinds: the values of tokenizer_class that the caller reads.  own_options: names beyond those of every tokenizer.
    """
    options: dict[str, Any] = {}
    added: dict[int, AddedToken] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if not path.exists():
            continue
        config = read_json(path)
        if not isinstance(config, dict):
            raise ValueError(f"{path}: holds no JSON object")
        kind = str(config.get("tokenizer_class") or "PreTrainedTokenizer").removesuffix("Fast")
        allowed = [*kinds, "PreTrainedTokenizer", "TokenizersBackend"]
        if kind not in allowed:
            raise ValueError(f"{path}: is of a {kind}, not of a {allowed[0]}: AutoTokenizer reads every kind")
        try:
            for special in SPECIAL_NAMES:
                if config.get(special) is not None:
                    options[special] = read_token(config[special]).content
            for option in ("clean_up_tokenization_spaces", *own_options):
                if option in config:
                    options[option] = config[option]
            for option in ("model_max_length", "padding_side", "truncation_side", "chat_template"):
                if config.get(option) is not None:
                    options[option] = config[option]
            for index, token in (config.get("added_tokens_decoder") or {}).items():
                added[int(index)] = read_token(token)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: has a malformed token ({error})") from None
    return options, added
