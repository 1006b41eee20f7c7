"""Unigram tokenizers: T5's and mT5's, and those of any `.model` file of that kind, over the native core.

Read from a `.model` file, ids are sentencepiece's; from a `tokenizer.json`, those of HF tokenizers. The two differ where pieces
of equal score lie side by side: sentencepiece adds scores in float32, HF tokenizers in float64.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from govlm._native import core
from govlm.tokenizers.base import PreTrainedTokenizer
from govlm.tokenizers.encoding import AddedToken, Template
from govlm.tokenizers.files import read_config, read_json, read_token
from govlm.tokenizers.sentencepiece import (
    BYTE_PIECES,
    SPACE,
    ModelType,
    NormalizerSpec,
    PieceType,
    SentencePieceModel,
    TrainerSpec,
    model_bytes,
    read_model,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["T5Tokenizer", "UnigramTokenizer"]

MODEL_NAMES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "spm.model")
OPTIONS = ("add_bos_token", "add_eos_token")


class UnigramTokenizer(PreTrainedTokenizer):
    """SentencePiece's unigram model (Kudo, arXiv:1804.10959) as a tokenizer.

    model: a `.model` file, or what `read_model` gives.  bos_token, eos_token, unk_token, pad_token: None = as the model's trainer
    was told, where the piece exists.  add_bos_token, add_eos_token: stand around each text.
    exact_sums: scores are added in float64, as HF tokenizers does, not in float32, as sentencepiece does.
    The other options: PreTrainedTokenizer.
    """

    vocab_files_names = {"vocab_file": "spiece.model", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012

    def __init__(
        self,
        model: str | os.PathLike[str] | SentencePieceModel,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        unk_token: str | None = None,
        sep_token: str | None = None,
        pad_token: str | None = None,
        cls_token: str | None = None,
        mask_token: str | None = None,
        add_bos_token: bool = False,
        add_eos_token: bool = False,
        exact_sums: bool = False,
        **common: Any,
    ) -> None:
        self.model = model if isinstance(model, SentencePieceModel) else read_model(model)
        if self.model.trainer.model_type != ModelType.UNIGRAM:
            raise ValueError(f"the SentencePiece model is of kind {self.model.trainer.model_type.name}, not UNIGRAM")
        self.add_bos_token, self.add_eos_token = bool(add_bos_token), bool(add_eos_token)
        self.exact_sums = bool(exact_sums)
        vocabulary = {piece: index for index, piece in enumerate(self.model.pieces)}
        trainer = self.model.trainer
        special = {
            "bos_token": bos_token or _there(trainer.bos_piece, vocabulary),
            "eos_token": eos_token or _there(trainer.eos_piece, vocabulary),
            "unk_token": unk_token or self.model.pieces[int(np.argmax(self.model.types == PieceType.UNKNOWN))],
            "sep_token": sep_token,
            "pad_token": pad_token or _there(trainer.pad_piece, vocabulary),
            "cls_token": cls_token,
            "mask_token": mask_token,
        }
        super().__init__(vocabulary, special, **common)

    def _build(self) -> None:
        normalizer = self.model.normalizer
        self._native = core.Unigram(
            self.model.pieces,
            self.model.scores,
            self.model.types,
            charsmap=normalizer.precompiled_charsmap,
            add_dummy_prefix=normalizer.add_dummy_prefix,
            remove_extra_whitespaces=normalizer.remove_extra_whitespaces,
            escape_whitespaces=normalizer.escape_whitespaces,
            whitespace_as_suffix=self.model.trainer.treat_whitespace_as_suffix,
            byte_fallback=self.model.trainer.byte_fallback,
            exact_sums=self.exact_sums,
            added=self._added_rows(),
        )

    def _template(self) -> Template:
        before = (self.bos_token_id,) if self.add_bos_token else ()
        after = (self.eos_token_id,) if self.add_eos_token else ()
        return Template(before=before, after=after, pair_before=before, pair_after=after, pair_type=0)

    def normalize(self, text: str) -> str:
        """The text as it is cut into pieces: after the model's rules, spaces as U+2581."""
        result: str = self._native.normalize(text)
        return result

    # ---- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def _from_file(cls, path: Path, overrides: dict[str, Any]) -> Self:
        if path.suffix == ".json":
            options = _read_tokenizer_json(path)
            if not issubclass(cls, T5Tokenizer):
                del options["extra_ids"]
            return cls(options.pop("model"), **(options | overrides))
        return cls(path, **overrides)

    @classmethod
    def _from_folder(cls, folder: Path, overrides: dict[str, Any]) -> Self:
        kinds = (cls.__name__, "T5Tokenizer", "MT5Tokenizer", "UnigramTokenizer")
        options, added = read_config(folder, kinds, (*OPTIONS, "extra_ids"))
        whole = folder / "tokenizer.json"
        if whole.exists():
            from_json = _read_tokenizer_json(whole)
            added = dict(from_json.pop("added_tokens")) | added
            options = from_json | options
        else:
            file = next((folder / name for name in MODEL_NAMES if (folder / name).exists()), None)
            if file is None:
                raise FileNotFoundError(f"{folder}: holds neither tokenizer.json nor {MODEL_NAMES[0]}")
            options["model"] = read_model(file)
        options["added_tokens"] = sorted(added.items())
        if not issubclass(cls, T5Tokenizer):
            options.pop("extra_ids", None)
        options |= overrides
        return cls(options.pop("model"), **options)

    def _vocabulary_files(self) -> dict[str, str | bytes]:
        return {"spiece.model": model_bytes(self.model)}

    def _config(self) -> dict[str, Any]:
        return super()._config() | {name: getattr(self, name) for name in OPTIONS}

    def _as_tokenizer_json(self) -> dict[str, Any]:
        model = self.model
        charsmap = model.normalizer.precompiled_charsmap
        scheme = "always" if model.normalizer.add_dummy_prefix else "never"
        metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": True}
        splits = [{"type": "WhitespaceSplit"}] if model.normalizer.remove_extra_whitespaces else []
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, **t._asdict()} for i, t in sorted(self._added.items())],
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
            if charsmap
            else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, metaspace]},
            "post_processor": self._template_json(),
            "decoder": metaspace,
            "model": {
                "type": "Unigram",
                "unk_id": int(np.argmax(model.types == PieceType.UNKNOWN)),
                "vocab": [[piece, score] for piece, score in zip(model.pieces, model.scores.tolist(), strict=True)],
                "byte_fallback": model.trainer.byte_fallback,
            },
        }

    # ---- ids to text -------------------------------------------------------------------------------------------------

    def _contribution(self, token: str, first: bool) -> bytes:
        byte = BYTE_PIECES.get(token) if self.model.trainer.byte_fallback else None
        if byte is not None:
            return bytes([byte])
        if token in self._added_ids:
            return token.encode("utf-8")
        if first and self.model.normalizer.add_dummy_prefix:
            token = token.removeprefix(SPACE)
        return token.replace(SPACE, " ").encode("utf-8")

    def token_bytes(self, index: int, first: bool = False) -> bytes:
        token = self._token_of.get(int(index))
        return b"" if token is None else self._contribution(token, first)

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        parts = (self._contribution(token, place == 0) for place, token in enumerate(tokens))
        return b"".join(parts).decode("utf-8", errors="replace")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, model_max_length={self.model_max_length})"


class T5Tokenizer(UnigramTokenizer):
    """T5's and mT5's tokenizer (Raffel et al., arXiv:1910.10683): </s> ends every text; <extra_id_0> … mark masked spans.

    extra_ids: how many of them there are; those that the vocabulary lacks follow it, the last one first.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentencePieceModel,
        *,
        extra_ids: int = 100,
        add_eos_token: bool = True,
        **options: Any,
    ) -> None:
        whole = model if isinstance(model, SentencePieceModel) else read_model(model)
        if extra_ids < 0:
            raise ValueError(f"extra_ids must be 0 or more, not {extra_ids}")
        self.extra_ids = int(extra_ids)
        added = dict(options.pop("added_tokens", ()))
        there = {piece: index for index, piece in enumerate(whole.pieces)}
        given = {token.content for token in added.values()}
        for number in range(self.extra_ids):
            name = f"<extra_id_{number}>"
            index = there.get(name, len(whole) + self.extra_ids - 1 - number)
            if name not in given and index not in added:
                added[index] = AddedToken(name, normalized=False, special=True)
        super().__init__(whole, add_eos_token=add_eos_token, added_tokens=sorted(added.items()), **options)

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"extra_ids": self.extra_ids}


def _there(piece: str, vocabulary: dict[str, int]) -> str | None:
    return piece if piece in vocabulary else None


# ---- tokenizer.json --------------------------------------------------------------------------------------------------


def _parts(value: Any, key: str) -> list[dict[str, Any]]:
    """The members of a "Sequence", or the one part, or none."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be objects")
    if value.get("type") == "Sequence":
        return [part for member in value.get(key) or () for part in _parts(member, key)]
    return [value]


def _read_normalizer(whole: dict[str, Any]) -> NormalizerSpec:
    spec = NormalizerSpec(add_dummy_prefix=False, remove_extra_whitespaces=False)
    for part in _parts(whole.get("normalizer"), "normalizers"):
        kind = part.get("type")
        pattern = part.get("pattern") or {}
        if kind == "Precompiled":
            try:
                spec.precompiled_charsmap = base64.b64decode(part.get("precompiled_charsmap") or "", validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise ValueError("precompiled_charsmap is no base64") from None
        elif kind == "Replace" and pattern.get("Regex") == " {2,}" and part.get("content") in (" ", SPACE):
            spec.remove_extra_whitespaces = True
        elif kind != "Strip":
            raise ValueError(f"a normalizer {kind} is not known here: govlm reads Precompiled, Strip and Replace of spaces")
    for part in _parts(whole.get("pre_tokenizer"), "pretokenizers"):
        kind = part.get("type")
        if kind == "WhitespaceSplit":
            spec.remove_extra_whitespaces = True
        elif kind == "Metaspace" and part.get("replacement", SPACE) == SPACE:
            scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
            spec.add_dummy_prefix = scheme != "never"
        else:
            raise ValueError(f"a pre-tokenizer {kind} is not known here: govlm reads WhitespaceSplit and Metaspace")
    return spec


def _read_tokenizer_json(path: Path) -> dict[str, Any]:
    """The options of the constructor."""
    whole = read_json(path)
    try:
        return _options_of(whole)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None


def _options_of(whole: Any) -> dict[str, Any]:
    model = whole.get("model") if isinstance(whole, dict) else None
    if not isinstance(model, dict) or model.get("type", "Unigram") != "Unigram" or not isinstance(model.get("vocab"), list):
        raise ValueError("is no unigram tokenizer (model.type Unigram with a list of pieces and scores)")
    pieces, scores = [str(row[0]) for row in model["vocab"]], [float(row[1]) for row in model["vocab"]]
    unknown = model.get("unk_id")
    if not isinstance(unknown, int) or not 0 <= unknown < len(pieces):
        raise ValueError(f"unk_id is {unknown!r}, which is no piece of the vocabulary")
    added = {int(token["id"]): read_token(token) for token in whole.get("added_tokens") or ()}
    types = np.full(len(pieces), PieceType.NORMAL, np.uint8)
    for index, token in added.items():
        if token.special and 0 <= index < len(pieces):
            types[index] = PieceType.CONTROL
    fallback = bool(model.get("byte_fallback", False))
    if fallback:
        types[[piece in BYTE_PIECES for piece in pieces]] = PieceType.BYTE
    types[unknown] = PieceType.UNKNOWN
    trainer = TrainerSpec(vocab_size=len(pieces), byte_fallback=fallback, unk_piece=pieces[unknown], unk_id=unknown)
    spm = SentencePieceModel(pieces, np.array(scores, np.float32), types, _read_normalizer(whole), trainer)
    ends = [t.get("SpecialToken", {}).get("id") for t in (whole.get("post_processor") or {}).get("single") or ()]
    options = {
        "model": spm,
        "added_tokens": sorted(added.items()),
        "exact_sums": True,
        "add_eos_token": len(ends) > 1 and bool(ends[-1]),
    }
    options["extra_ids"] = 0
    return options | {"add_bos_token": bool(ends) and bool(ends[0])}
