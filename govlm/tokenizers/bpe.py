"""Byte-pair encoding: GPT-2, Qwen2, Llama, and any tokenizer.json of these kinds (Radford et al., 2019; arXiv:1808.06226)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm._native import core
from govlm.tokenizers.base import PreTrainedTokenizer
from govlm.tokenizers.byte_level import CHARACTERS, bytes_of
from govlm.tokenizers.encoding import AddedToken, Segment, Template
from govlm.tokenizers.files import (
    read_config,
    read_merges,
    read_ranks,
    read_token_ids,
)
from govlm.tokenizers.special_tokens import SPECIAL_NAMES
from govlm.tokenizers.tokenizer_json import MARK, BPEFile, Pipeline, pipeline_json, read_bpe_json

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GPT2Tokenizer", "LlamaTokenizer", "PreTrainedTokenizerFast", "Qwen2Tokenizer"]

Around = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...], int]
NOTHING: Around = ((), (), (), (), 1)


class PreTrainedTokenizerFast(PreTrainedTokenizer):
    """Any BPE tokenizer whose pieces are those of `pipeline`; ids and offsets as Hugging Face's tokenizers.

    vocab: token -> id, in the alphabet of bytes (or with U+2581 for spaces), or a vocab.json.  merges: pairs in order of rank, or
    a merges.txt, or None with ranks.  ranks: [V] priorities, any two tokens that make token i merge at ranks[i].
    around: the tokens before and after a text, before and after a second one, and the second one's token type.
    Immutable but for add_tokens; safe to share by threads.  The other options: PreTrainedTokenizer.
    """

    kinds: ClassVar[tuple[str, ...]] = (
        "PreTrainedTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer", "GPTNeoXTokenizer",
    )  # fmt: skip
    defaults: ClassVar[Mapping[str, str | None]] = {}
    default_pipeline: ClassVar[Pipeline] = Pipeline()

    def __init__(
        self,
        vocab: str | os.PathLike[str] | Mapping[str, int],
        merges: str | os.PathLike[str] | Sequence[tuple[str, str]] | None = None,
        *,
        ranks: Sequence[int] | NDArray[np.int32] | None = None,
        pipeline: Pipeline | None = None,
        around: Around = NOTHING,
        add_bos_token: bool | None = None,
        add_eos_token: bool | None = None,
        add_prefix_space: bool | None = None,
        model_unk_token: str | None = None,
        **options: Any,
    ) -> None:
        special = {**self.defaults, **{n: options.pop(n) for n in list(options) if n in SPECIAL_NAMES}}
        self.pipeline = self.default_pipeline if pipeline is None else pipeline
        if add_prefix_space is not None and not self.pipeline.characters:
            self.pipeline = self.pipeline._replace(prepend="missing" if add_prefix_space else "never")
        self._around = around
        self._add_bos, self._add_eos = add_bos_token, add_eos_token
        self._model_unk = model_unk_token
        self._merges = read_merges(Path(merges)) if isinstance(merges, str | os.PathLike) else merges
        self._ranks = None if ranks is None else np.asarray(ranks, np.int32)
        if (self._merges is None) == (self._ranks is None):
            raise ValueError("a BPE tokenizer needs merges or ranks, one of the two")
        table = vocab if isinstance(vocab, Mapping) else read_token_ids(Path(vocab))
        self._check_ids(table)
        self._merge_ids = None if self._merges is None else _merge_ids(table, self._merges)
        super().__init__(table, special, **options)

    @staticmethod
    def _check_ids(table: Mapping[str, int]) -> None:
        if not table:
            raise ValueError("the vocabulary is empty")
        highest = max(table.values())
        if min(table.values()) < 0 or highest >= 1 << 20:
            raise ValueError(f"ids must be from 0 to {(1 << 20) - 1}, the vocabulary has {highest}")

    def _token_table(self) -> list[bytes]:
        """The bytes of every id, as the native tokenizer takes them."""
        table = [b""] * (max(self._vocabulary.values()) + 1)
        for token, index in self._vocabulary.items():
            table[index] = token.encode("utf-8", "replace") if self.pipeline.characters else bytes_of(token) or b""
        return table

    def _build(self) -> None:
        pipeline = self.pipeline
        unknown = -1 if self._model_unk is None else self._vocabulary.get(self._model_unk, -1)
        self._native = core.BPE(
            self._token_table(),
            merges=self._merge_ids,
            ranks=self._ranks,
            split=pipeline.split,
            prepend=pipeline.prepend,
            characters=pipeline.characters,
            compose=pipeline.compose,
            whole_words=pipeline.whole_words,
            byte_fallback=pipeline.byte_fallback,
            fuse_unknown=pipeline.fuse_unknown,
            unknown=unknown,
            added=self._added_rows(),
        )
        self._contributions: dict[int, bytes] = {}

    def _template(self) -> Template:
        before, after, pair_before, pair_after, pair_type = self._around
        if self._add_bos is not None:
            before = pair_before = (self.bos_token,) if self._add_bos and self.bos_token else ()
        if self._add_eos is not None:
            after = pair_after = (self.eos_token,) if self._add_eos and self.eos_token else ()
        a, b, c, d = (tuple(map(self.convert_tokens_to_ids, p)) for p in (before, after, pair_before, pair_after))
        return Template(a, b, c, d, pair_type)

    # ---- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def _from_file(cls, path: Path, overrides: dict[str, Any]) -> Self:
        if path.suffix == ".json":
            return cls._from_whole(read_bpe_json(path), {}, {}, overrides)
        if path.suffix == ".tiktoken":
            vocabulary, ranks = read_ranks(path)
            pipeline = cls.default_pipeline._replace(whole_words=True)
            return cls(vocabulary, ranks=ranks, **({"pipeline": pipeline} | overrides))
        raise ValueError(f"{path}: give a tokenizer.json, a .tiktoken file or a folder")

    @classmethod
    def _from_folder(cls, folder: Path, overrides: dict[str, Any]) -> Self:
        options, added = read_config(folder, cls.kinds, ("add_bos_token", "add_eos_token", "add_prefix_space"))
        whole = folder / "tokenizer.json"
        if whole.exists():
            return cls._from_whole(read_bpe_json(whole), options, added, overrides)
        if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
            options = {name: value for name, value in options.items() if value is not None}
            options["added_tokens"] = sorted(added.items())
            return cls(folder / "vocab.json", folder / "merges.txt", **(options | overrides))
        ranks = sorted(folder.glob("*.tiktoken"))
        if len(ranks) == 1:
            return cls._from_file(ranks[0], options | {"added_tokens": sorted(added.items())} | overrides)
        raise FileNotFoundError(f"{folder}: holds neither tokenizer.json nor vocab.json with merges.txt nor one .tiktoken file")

    @classmethod
    def _from_whole(
        cls, file: BPEFile, options: dict[str, Any], added: dict[int, AddedToken], overrides: dict[str, Any]
    ) -> Self:
        """The file is exact about the pipeline and the special tokens around a text, so what the configuration says of these goes
        unused; it names the special tokens."""
        options = {n: v for n, v in options.items() if v is not None and not n.startswith("add_")}
        names: dict[str, Any] = dict.fromkeys(SPECIAL_NAMES)
        options["added_tokens"] = sorted((file.added | added).items())
        from_file: dict[str, Any] = {"pipeline": file.pipeline, "around": file.template, "model_unk_token": file.unk_token}
        if file.unk_token is not None:
            names["unk_token"] = file.unk_token
        return cls(file.vocabulary, file.merges, **(names | from_file | options | overrides))

    def _merge_list(self) -> Sequence[tuple[str, str]]:
        """The merges; of ranks, every way to make a token, lower parts first."""
        if self._merges is not None:
            return self._merges
        assert self._ranks is not None
        rows = []
        for token, index in self._vocabulary.items():
            if int(self._ranks[index]) < 0:
                continue
            for cut in range(1, len(token)):
                left, right = self._vocabulary.get(token[:cut]), self._vocabulary.get(token[cut:])
                if left is not None and right is not None:
                    order = (int(self._ranks[index]), int(self._ranks[left]), int(self._ranks[right]))
                    rows.append((*order, token[:cut], token[cut:]))
        return [(left, right) for *_, left, right in sorted(rows)]

    def _config(self) -> dict[str, Any]:
        prefix = {} if self.pipeline.characters else {"add_prefix_space": self.pipeline.prepend != "never"}
        own = {"add_bos_token": self._add_bos, "add_eos_token": self._add_eos}
        return super()._config() | prefix | {n: v for n, v in own.items() if v is not None}

    def _as_tokenizer_json(self) -> dict[str, Any]:
        pipeline = self.pipeline
        template = self._template()
        trim = {"trim_offsets": pipeline.trim_offsets, "add_prefix_space": pipeline.trim_prefix}
        level = {"type": "ByteLevel", "use_regex": True, **trim}
        processors = [] if pipeline.characters else [level]
        if template.count(True):
            processors.append(self._template_json())
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, **t._asdict()} for i, t in sorted(self._added.items())],
            **pipeline_json(pipeline),
            "post_processor": {"type": "Sequence", "processors": processors} if processors else None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": self._model_unk,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": pipeline.fuse_unknown,
                "byte_fallback": pipeline.byte_fallback,
                "ignore_merges": pipeline.whole_words,
                "vocab": dict(sorted(self._vocabulary.items(), key=lambda item: item[1])),
                "merges": [list(pair) for pair in self._merge_list()],
            },
        }

    # ---- texts to ids ------------------------------------------------------------------------------------------------

    def _segments(self, texts: Sequence[Any], split: bool) -> list[Segment]:
        segments = super()._segments(texts, split)
        if not self.pipeline.trim_offsets or split:
            return segments
        return [self._trimmed(segment) for segment in segments]

    def _trimmed(self, segment: Segment) -> Segment:
        """Spaces at the edges of a token, as the token writes them, are left out of its offsets."""
        space, offsets = CHARACTERS[0x20], []
        for place, (index, (start, end)) in enumerate(zip(segment.ids, segment.offsets, strict=True)):
            token = self._token_of[index]
            leading = len(token) - len(token.lstrip(space))
            trailing = len(token) - len(token.rstrip(space))
            if leading > 0 and self.pipeline.trim_prefix and (place == 0 or start == 0):
                leading -= 1
            start = min(start + leading, end)
            if 0 < trailing <= end:
                end = max(end - trailing, start)
            offsets.append((start, end))
        return segment._replace(offsets=offsets)

    # ---- ids to text -------------------------------------------------------------------------------------------------

    def _contribution(self, token: str) -> bytes:
        if not self.pipeline.characters:
            found = bytes_of(token)
            return token.encode("utf-8") if found is None else found
        if self.pipeline.byte_fallback and (byte := _byte_token(token)) is not None:
            return byte
        return token.replace(MARK, " ").encode("utf-8")

    def token_bytes(self, index: int, first: bool = False) -> bytes:
        index = int(index)
        found = self._contributions.get(index)
        if found is None:
            token = self._token_of.get(index)
            found = b"" if token is None else self._contribution(token)
            self._contributions[index] = found
        if first and self.pipeline.characters and self.pipeline.prepend != "never":
            return found.removeprefix(b" ")
        return found

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        if not self.pipeline.characters:
            return b"".join(map(self._contribution, tokens)).decode("utf-8", "replace")
        text, run = [], b""
        for token in [*tokens, ""]:
            byte = _byte_token(token) if self.pipeline.byte_fallback else None
            if byte is not None:
                run += byte
                continue
            if run:
                try:
                    text.append(run.decode("utf-8"))
                except UnicodeDecodeError:
                    text.append("\ufffd" * len(run))
                run = b""
            text.append(token.replace(MARK, " "))
        whole = "".join(text)
        return whole.removeprefix(" ") if self.pipeline.prepend != "never" else whole

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, model_max_length={self.model_max_length})"


class GPT2Tokenizer(PreTrainedTokenizerFast):
    """GPT-2's byte-level BPE: `vocab` a vocab.json, `merges` a merges.txt (Radford et al., 2019)."""

    vocab_files_names = {"vocab_file": "vocab.json", "merges_file": "merges.txt", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012
    kinds = ("GPT2Tokenizer", "PreTrainedTokenizerFast")
    defaults: ClassVar[Mapping[str, str | None]] = {
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }


class Qwen2Tokenizer(PreTrainedTokenizerFast):
    """The byte-level BPE of Qwen2, Qwen2.5 and Qwen3: text in NFC, every digit alone (arXiv:2407.10671)."""

    vocab_files_names = {"vocab_file": "vocab.json", "merges_file": "merges.txt", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012
    kinds = ("Qwen2Tokenizer", "PreTrainedTokenizerFast")
    defaults: ClassVar[Mapping[str, str | None]] = {
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    default_pipeline = Pipeline(split="qwen2", compose=True)


class LlamaTokenizer(PreTrainedTokenizerFast):
    """SentencePiece's BPE with byte fallback, as Llama and Llama 2 have it (arXiv:2302.13971); reads tokenizer.model too."""

    vocab_files_names = {"vocab_file": "tokenizer.model", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012
    kinds = ("LlamaTokenizer", "PreTrainedTokenizerFast")
    padding_side = "left"
    defaults: ClassVar[Mapping[str, str | None]] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    default_pipeline = Pipeline(split="none", prepend="always", characters=True, byte_fallback=True, fuse_unknown=True)

    @classmethod
    def _from_file(cls, path: Path, overrides: dict[str, Any]) -> Self:
        return super()._from_file(path, overrides) if path.suffix == ".json" else cls._from_model(path, {}, overrides)

    @classmethod
    def _from_folder(cls, folder: Path, overrides: dict[str, Any]) -> Self:
        model = folder / "tokenizer.model"
        if (folder / "tokenizer.json").exists() or not model.exists():
            return super()._from_folder(folder, overrides)
        options, added = read_config(folder, cls.kinds, ("add_bos_token", "add_eos_token"))
        options = {n: v for n, v in options.items() if v is not None}
        return cls._from_model(model, options | {"added_tokens": sorted(added.items())}, overrides)

    @classmethod
    def _from_model(cls, path: Path, options: dict[str, Any], overrides: dict[str, Any]) -> Self:
        """A .model file of SentencePiece; ValueError names what in it is not supported."""
        from govlm.tokenizers.sentencepiece import ModelType, PieceType, read_model

        model = read_model(path)
        if model.trainer.model_type != ModelType.BPE:
            raise ValueError(f"{path}: is a {ModelType(model.trainer.model_type).name.lower()} model, not BPE")
        normal = model.normalizer
        if normal.precompiled_charsmap or normal.remove_extra_whitespaces or not normal.escape_whitespaces:
            raise ValueError(f"{path}: its normaliser ({normal.name or 'unnamed'}) is not supported for BPE, only identity")
        if model.trainer.treat_whitespace_as_suffix:
            raise ValueError(f"{path}: puts white space behind words, which is not supported")
        vocabulary: dict[str, int] = {}
        for index, piece in enumerate(model.pieces):
            vocabulary.setdefault(piece, index)
        scores, types = model.scores, model.types
        order = np.unique(-scores.astype(np.float64), return_inverse=True)[1].astype(np.int32)
        ranks = np.where(types == PieceType.NORMAL, order, -1).astype(np.int32)
        known = {"unk_token": PieceType.UNKNOWN}
        trainer = model.trainer
        names: dict[str, Any] = {name: model.pieces[int(np.argmax(types == kind))] for name, kind in known.items()}
        for name, index in (("bos_token", trainer.bos_id), ("eos_token", trainer.eos_id), ("pad_token", trainer.pad_id)):
            names[name] = model.pieces[index] if 0 <= index < len(model) else None
        extra = [
            (int(i), AddedToken(model.pieces[i], normalized=False, special=bool(types[i] == PieceType.CONTROL)))
            for i in np.flatnonzero((types == PieceType.CONTROL) | (types == PieceType.USER_DEFINED))
        ]
        pipeline = cls.default_pipeline._replace(
            prepend="always" if normal.add_dummy_prefix else "never", byte_fallback=bool(trainer.byte_fallback)
        )
        given = {"pipeline": pipeline, "add_bos_token": True, "add_eos_token": False, "model_unk_token": names["unk_token"]}
        options = given | names | options
        options["added_tokens"] = sorted((dict(extra) | dict(options.get("added_tokens", ()))).items())
        return cls(vocabulary, ranks=ranks, **(options | overrides))


def _byte_token(token: str) -> bytes | None:
    """<0x0A> -> its byte."""
    if len(token) != 6 or not token.startswith("<0x") or token[5] != ">":
        return None
    try:
        return bytes((int(token[3:5], 16),))
    except ValueError:
        return None


def _merge_ids(vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]]) -> np.ndarray[Any, Any]:
    rows = []
    for number, (left, right) in enumerate(merges):
        if left not in vocabulary or right not in vocabulary:
            raise ValueError(f"merge {number}, of {left!r} and {right!r}, is of a token that is not in the vocabulary")
        rows.append((vocabulary[left], vocabulary[right]))
    return np.asarray(rows, np.int32).reshape(-1, 2)
