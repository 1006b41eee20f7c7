"""BERT tokenizers: transformers' names and results over the native WordPiece."""

from __future__ import annotations

import itertools
import json
import os
import unicodedata
from collections import UserDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from govlm._native import core
from govlm.bundled import model_folder

__all__ = ["AddedToken", "AutoTokenizer", "BatchEncoding", "BertTokenizer", "Packed", "PackedPairs", "train_wordpiece"]

SPECIAL_NAMES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
VERY_LARGE = int(1e30)  # transformers' "no limit"
Int = NDArray[np.int32]


class Packed(NamedTuple):
    """A batch without padding: sequence b is ids[row_splits[b] : row_splits[b + 1]]; int32 [T] and int64 [B + 1]."""

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]


class PackedPairs(NamedTuple):
    """A Packed of pairs of texts. token_type_ids: int32 [T], 0 for the first text with its special tokens, 1 for the second."""

    ids: NDArray[np.int32]
    row_splits: NDArray[np.int64]
    token_type_ids: NDArray[np.int32]


class AddedToken(NamedTuple):
    """A token that is found in the text before anything else is done to it."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False

    def __str__(self) -> str:
        return self.content


class BatchEncoding(UserDict):  # type: ignore[type-arg]
    """What a tokenizer returns: a mapping whose entries are attributes too."""

    def __init__(self, data: Mapping[str, Any], words: list[list[int | None]] | None = None) -> None:
        super().__init__(data)
        self._words = words

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "data":
            raise AttributeError(name)
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(f"this encoding has no {name}: it has {', '.join(self.data)}") from None

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.data[key]
        raise KeyError(f"encodings are indexed by name ({', '.join(self.data)}), got {key!r}")

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The word of the source that each token belongs to; None for special tokens."""
        if self._words is None:
            raise ValueError("word_ids() needs an encoding made by a tokenizer's __call__")
        return self._words[batch_index]


class _Segment(NamedTuple):
    """One text's tokens before special tokens."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    words: list[int]

    def cut(self, start: int, stop: int) -> _Segment:
        return _Segment(self.ids[start:stop], self.offsets[start:stop], self.words[start:stop])


def _parts(segment: _Segment, length: int, stride: int, side: str) -> list[_Segment]:
    """`segment` cut to `length`, then the overflowing parts, which repeat `stride` tokens."""
    total = len(segment.ids)
    if length >= total:
        return [segment]
    if length == 0:
        return [segment.cut(0, 0), segment]
    if stride >= length:
        raise ValueError(f"stride {stride} must be smaller than the {length} tokens that a part holds")
    parts: list[_Segment] = []
    step = length - stride
    if side == "left":
        for stop in range(total, 0, -step):
            start = max(0, stop - length)
            parts.append(segment.cut(start, stop))
            if start == 0:
                break
    else:
        for start in range(0, total, step):
            stop = min(start + length, total)
            parts.append(segment.cut(start, stop))
            if stop == total:
                break
    return parts


def _is_batch(text: Any, split: bool) -> bool:
    if split:
        return isinstance(text, list | tuple) and bool(text) and isinstance(text[0], list | tuple)
    return isinstance(text, list | tuple)


def _longest_first(a: Any, b: Any, room: int) -> tuple[Any, Any]:
    """How long two texts of `a` and `b` tokens (numbers, or arrays of them) may be so that both fit `room`."""
    small, large = np.minimum(a, b), np.maximum(a, b)
    large = np.where(small > room, small, np.minimum(large, np.maximum(small, room - small)))
    tight = small + large > room
    small, large = np.where(tight, room // 2, small), np.where(tight, room // 2 + room % 2, large)
    first = np.greater(a, b)
    return np.where(first, large, small), np.where(first, small, large)


class BertTokenizer:
    """WordPiece with BERT's normalisation (Devlin et al., arXiv:1810.04805); ids and offsets as transformers' BertTokenizer.

    vocab: a vocab.txt (a token a line) or a mapping token -> id.
    do_lower_case: lower-case, and (strip_accents None) strip accents.  tokenize_chinese_chars: every ideograph is a word.
    model_max_length: what truncation=True without max_length cuts to.  Immutable but for add_tokens; safe to share by threads.
    """

    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    vocab_files_names = {"vocab_file": "vocab.txt", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012

    def __init__(
        self,
        vocab: str | os.PathLike[str] | Mapping[str, int],
        do_lower_case: bool = True,
        *,
        unk_token: str = "[UNK]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        cls_token: str = "[CLS]",
        mask_token: str = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        clean_text: bool = True,
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        clean_up_tokenization_spaces: bool = False,
        added_tokens: Iterable[tuple[int, AddedToken]] = (),
        max_input_chars_per_word: int = 100,
        wordpieces_prefix: str = "##",
    ) -> None:
        self._vocabulary = dict(vocab) if isinstance(vocab, Mapping) else _read_vocabulary(Path(vocab))
        self.do_lower_case = bool(do_lower_case)
        self.tokenize_chinese_chars = bool(tokenize_chinese_chars)
        self.strip_accents = strip_accents
        self.clean_text = bool(clean_text)
        self.model_max_length = VERY_LARGE if model_max_length is None else int(model_max_length)
        self.padding_side = _side(padding_side, "padding_side")
        self.truncation_side = _side(truncation_side, "truncation_side")
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.max_input_chars_per_word = max_input_chars_per_word
        self.wordpieces_prefix = wordpieces_prefix
        self.unk_token, self.sep_token, self.pad_token = str(unk_token), str(sep_token), str(pad_token)
        self.cls_token, self.mask_token = str(cls_token), str(mask_token)
        self._added: dict[int, AddedToken] = {}
        self._token_of = {index: token for token, index in self._vocabulary.items()}
        for index, token in added_tokens:
            self._register(token, index)
        for name in SPECIAL_NAMES:
            self._register(AddedToken(getattr(self, name), normalized=False, special=True), None)
        self._build()

    # ---- making ------------------------------------------------------------------------------------------------------

    def _register(self, token: AddedToken, index: int | None) -> bool:
        """True when the token is new to the vocabulary."""
        known = self._id_or_none(token.content)
        new = known is None
        if index is None:
            index = known if known is not None else max(self._token_of, default=-1) + 1
        self._added.setdefault(index, token)
        self._token_of.setdefault(index, token.content)
        return new

    def _id_or_none(self, token: str) -> int | None:
        found = self._vocabulary.get(token)
        if found is None:
            found = next((i for i, t in self._added.items() if t.content == token), None)
        return found

    def _build(self) -> None:
        size = max(self._vocabulary.values(), default=-1) + 1
        table = [""] * size
        for token, index in self._vocabulary.items():
            table[index] = token
        unknown = self._id_or_none(self.unk_token)
        added = [(t.content, i, t.single_word, t.lstrip, t.rstrip, t.normalized) for i, t in self._added.items()]
        self._native = core.WordPiece(
            table,
            0 if unknown is None else unknown,
            lowercase=self.do_lower_case,
            strip_accents=self.do_lower_case if self.strip_accents is None else self.strip_accents,
            clean_text=self.clean_text,
            handle_chinese_chars=self.tokenize_chinese_chars,
            max_word=self.max_input_chars_per_word,
            continuing_prefix=self.wordpieces_prefix,
            added=added,
        )
        self._special_ids = {i for i, t in self._added.items() if t.special}

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str], **overrides: Any) -> BertTokenizer:
        """Reads a folder with vocab.txt or tokenizer.json, and tokenizer_config.json if there; `overrides` win.

        ValueError or FileNotFoundError names the file that is missing, malformed or of another kind of tokenizer.
        """
        folder = model_folder(directory)
        if folder.is_file():
            return cls(folder, **overrides)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder; govlm loads tokenizers from a local folder, never from a network"
            )
        options, added = _read_config(folder)
        whole = folder / "tokenizer.json"
        vocabulary: Mapping[str, int] | Path = folder / "vocab.txt"
        if whole.exists():
            vocabulary, from_json, more = _read_tokenizer_json(whole)
            options = from_json | options
            added = more | added
        elif not (folder / "vocab.txt").exists():
            raise FileNotFoundError(f"{folder}: holds neither vocab.txt nor tokenizer.json")
        options["added_tokens"] = sorted(added.items())
        return cls(vocabulary, **(options | overrides))

    def save_pretrained(self, directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes vocab.txt, tokenizer.json and the two configuration files; transformers loads them as well."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        ordered = sorted(self._vocabulary, key=self._vocabulary.__getitem__)
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.do_lower_case,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "strip_accents": self.strip_accents,
            "model_max_length": self.model_max_length,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            **{name: getattr(self, name) for name in SPECIAL_NAMES},
            "added_tokens_decoder": {str(i): dict(t._asdict()) for i, t in sorted(self._added.items())},
        }
        files = {
            "vocab.txt": "".join(token + "\n" for token in ordered),
            "tokenizer.json": _dump(self._as_tokenizer_json()),
            "tokenizer_config.json": _dump(config),
            "special_tokens_map.json": _dump({name: getattr(self, name) for name in SPECIAL_NAMES}),
        }
        for name, text in files.items():
            _write(folder / name, text)
        return tuple(str(folder / name) for name in files)

    def _as_tokenizer_json(self) -> dict[str, Any]:
        def special(name: str, token_type: int) -> dict[str, Any]:
            return {"SpecialToken": {"id": name, "type_id": token_type}}

        def sequence(name: str, token_type: int) -> dict[str, Any]:
            return {"Sequence": {"id": name, "type_id": token_type}}

        cls_token, sep_token = self.cls_token, self.sep_token
        single = [special(cls_token, 0), sequence("A", 0), special(sep_token, 0)]
        specials = {t: {"id": t, "ids": [self.convert_tokens_to_ids(t)], "tokens": [t]} for t in (cls_token, sep_token)}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, **t._asdict()} for i, t in sorted(self._added.items())],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": self.clean_text,
                "handle_chinese_chars": self.tokenize_chinese_chars,
                "strip_accents": self.strip_accents,
                "lowercase": self.do_lower_case,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [*single, sequence("B", 1), special(sep_token, 1)],
                "special_tokens": specials,
            },
            "decoder": {"type": "WordPiece", "prefix": self.wordpieces_prefix, "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": self.unk_token,
                "continuing_subword_prefix": self.wordpieces_prefix,
                "max_input_chars_per_word": self.max_input_chars_per_word,
                "vocab": dict(sorted(self._vocabulary.items(), key=lambda item: item[1])),
            },
        }

    # ---- vocabulary --------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary, without added ones."""
        return len(self._vocabulary)

    def __len__(self) -> int:
        return len(self.get_vocab())

    def get_vocab(self) -> dict[str, int]:
        """A copy: token -> id, added tokens included."""
        return self._vocabulary | {t.content: i for i, t in self._added.items()}

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    @property
    def all_special_tokens(self) -> list[str]:
        return list(
            dict.fromkeys([*(getattr(self, n) for n in SPECIAL_NAMES), *(self._added[i].content for i in self._special_ids)])
        )

    @property
    def all_special_ids(self) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @property
    def special_tokens_map(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in SPECIAL_NAMES}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        return dict(sorted(self._added.items()))

    def _special_id(self, name: str) -> int:
        index = self._id_or_none(getattr(self, name))
        if index is None:
            raise ValueError(f"the vocabulary has no {getattr(self, name)} ({name})")
        return index

    unk_token_id = property(lambda self: self._special_id("unk_token"))
    sep_token_id = property(lambda self: self._special_id("sep_token"))
    pad_token_id = property(lambda self: self._special_id("pad_token"))
    cls_token_id = property(lambda self: self._special_id("cls_token"))
    mask_token_id = property(lambda self: self._special_id("mask_token"))
    pad_token_type_id = 0

    def add_tokens(self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        """Adds tokens (those known already are left) and returns how many were new. Not while other threads encode."""
        items = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        new = 0
        for item in items:
            token = (
                item
                if isinstance(item, AddedToken)
                else AddedToken(item, normalized=not special_tokens, special=special_tokens)
            )
            if not token.content:
                raise ValueError("an added token must not be empty")
            new += self._register(token, None)
        self._build()
        return new

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any]) -> int:
        """{"mask_token": "[M]", "additional_special_tokens": [...]}, as transformers."""
        new = 0
        for name, value in special_tokens_dict.items():
            if name in ("additional_special_tokens", "extra_special_tokens"):
                new += self.add_tokens(list(value), special_tokens=True)
            elif name in SPECIAL_NAMES:
                new += self.add_tokens(str(value), special_tokens=True)
                setattr(self, name, str(value))
            else:
                raise ValueError(
                    f"{name!r} is no special token; known are {', '.join(SPECIAL_NAMES)}, additional_special_tokens"
                )
        self._build()
        return new

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """A token -> its id, a list -> a list; unknown ones give the id of [UNK]."""
        if isinstance(tokens, str):
            index = self._id_or_none(tokens)
            return self._special_id("unk_token") if index is None else index
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        if isinstance(ids, int | np.integer):
            return self._token_of.get(int(ids))
        found = (int(i) for i in np.asarray(ids).ravel())
        return [self._token_of.get(i) for i in found if not (skip_special_tokens and i in self._special_ids)]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        parts = []
        for index, token in enumerate(tokens):
            if index > 0:
                joins = token.startswith(self.wordpieces_prefix)
                token = token[len(self.wordpieces_prefix) :] if joins else " " + token
            parts.append(_tidy(token))
        return "".join(parts)

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None, **_: Any
    ) -> Any:
        """Ids -> text; a batch (two dimensions) -> a list."""
        if isinstance(token_ids, int | np.integer):
            token_ids = [token_ids]
        rows = token_ids.tolist() if isinstance(token_ids, np.ndarray) else list(token_ids)
        if rows and isinstance(rows[0], list | tuple | np.ndarray):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in rows]
        tokens = [t for t in self.convert_ids_to_tokens(rows, skip_special_tokens) if t is not None]
        text = self.convert_tokens_to_string(tokens)
        tidy = self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        return _tidy(text) if tidy else text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in sequences]

    # ---- special tokens ----------------------------------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return 3 if pair else 2

    def build_inputs_with_special_tokens(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        out = [self.cls_token_id, *token_ids_0, self.sep_token_id]
        return out if token_ids_1 is None else [*out, *token_ids_1, self.sep_token_id]

    def create_token_type_ids_from_sequences(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        return [0] * (len(token_ids_0) + 2) + ([] if token_ids_1 is None else [1] * (len(token_ids_1) + 1))

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        if already_has_special_tokens:
            return [int(i in self._special_ids) for i in token_ids_0]
        out = [1, *[0] * len(token_ids_0), 1]
        return out if token_ids_1 is None else [*out, *[0] * len(token_ids_1), 1]

    # ---- encoding ----------------------------------------------------------------------------------------------------

    @overload
    def encode_packed(
        self,
        texts: Sequence[str],
        text_pair: None = None,
        *,
        max_length: int | None = None,
        truncation: bool = True,
        add_special_tokens: bool = True,
    ) -> Packed: ...

    @overload
    def encode_packed(
        self,
        texts: Sequence[str],
        text_pair: Sequence[str],
        *,
        max_length: int | None = None,
        truncation: bool = True,
        add_special_tokens: bool = True,
    ) -> PackedPairs: ...

    def encode_packed(
        self,
        texts: Sequence[str],
        text_pair: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: bool = True,
        add_special_tokens: bool = True,
    ) -> Packed | PackedPairs:
        """Texts -> packed ids with [CLS] and [SEP], no padding, no Python lists.

        text_pair: a second text for each, after the first one's [SEP] and with a [SEP] of its own.
        max_length (None = model_max_length): longer texts are cut there, unless truncation is False; of a pair the longer text
        is cut first (longest_first). ValueError for another number of pairs, or no room for the special tokens.
        """
        limit = self.model_max_length if max_length is None else max_length
        limit = -1 if not truncation or limit >= VERY_LARGE else limit
        prefix, suffix = ([self.cls_token_id], [self.sep_token_id]) if add_special_tokens else ((), ())
        if text_pair is None:
            return Packed(*self._native.encode(texts, prefix=prefix, suffix=suffix, max_length=limit))
        if len(texts) != len(text_pair):
            raise ValueError(f"{len(texts)} texts, but {len(text_pair)} pairs")
        sides = [self._native.encode(side, prefix=(), suffix=(), max_length=-1) for side in (texts, text_pair)]
        lengths = (np.diff(sides[0][1]), np.diff(sides[1][1]))
        specials = len(prefix) + 2 * len(suffix)
        if limit >= 0:
            if limit < specials:
                raise ValueError(f"max_length {limit} leaves no room for the special tokens")
            lengths = _longest_first(*lengths, limit - specials)
        # A row is made of: [CLS], first text, [SEP], second text, [SEP].
        columns = [np.full(len(texts), len(prefix)), lengths[0], np.full(len(texts), len(suffix)), lengths[1]]
        columns.append(columns[2])
        ends = np.cumsum(np.stack(columns, axis=1).reshape(-1)).reshape(len(texts), 5)
        splits = np.concatenate([np.zeros(1, np.int64), ends[:, 4].astype(np.int64)])
        ids = np.empty(splits[-1], np.int32)
        types = np.zeros(splits[-1], np.int32)
        for row, (begin, end) in enumerate(itertools.pairwise(splits.tolist())):
            first, gap, second, _ = ends[row, 1:].tolist()
            ids[begin : begin + len(prefix)] = prefix
            for (source, bounds), length, to in zip(sides, lengths, (first, second), strict=True):
                a, b = int(bounds[row]), int(bounds[row + 1])
                a, b = (a, a + int(length[row])) if self.truncation_side == "right" else (b - int(length[row]), b)
                ids[to - (b - a) : to] = source[a:b]
            ids[first:gap] = suffix
            ids[second:end] = suffix
            types[gap:end] = 1
        return PackedPairs(ids, splits, types)

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False, **_: Any) -> list[str]:
        encoded = self(
            text, pair, add_special_tokens=add_special_tokens, return_token_type_ids=False, return_attention_mask=False
        )
        return self.convert_ids_to_tokens(encoded["input_ids"])

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """The ids of one text (or pair)."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """__call__ on one text; gone from transformers, kept here."""
        return self(text, text_pair, **options)

    def batch_encode(self, texts: Sequence[Any], **options: Any) -> BatchEncoding:
        """__call__ on a batch of texts, or of (text, pair)."""
        rows = list(texts)
        if rows and not options.get("is_split_into_words") and all(isinstance(row, list | tuple) for row in rows):
            return self([row[0] for row in rows], [row[1] for row in rows], **options)
        return self(rows, **options)

    batch_encode_plus = batch_encode

    def _segments(self, texts: Sequence[Any], split: bool) -> list[_Segment]:
        if split:
            return [self._split_segment(words) for words in texts]
        ids, splits, starts, ends, words = self._native.encode(texts, offsets=True)
        ids, starts, ends, words = ids.tolist(), starts.tolist(), ends.tolist(), words.tolist()
        bounds = splits.tolist()
        return [
            _Segment(ids[a:b], list(zip(starts[a:b], ends[a:b], strict=True)), words[a:b])
            for a, b in itertools.pairwise(bounds)
        ]

    def _split_segment(self, words: Sequence[str]) -> _Segment:
        """Words given: offsets count within each word, and word ids are their places."""
        ids, offsets, numbers = [], [], []
        for number, part in enumerate(self._segments(list(words), False)):
            ids += part.ids
            offsets += part.offsets
            numbers += [number] * len(part.ids)
        return _Segment(ids, offsets, numbers)

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Texts -> input_ids, token_type_ids, attention_mask (lists, or NumPy arrays with return_tensors="np").

        padding: False, True or "longest", "max_length".  truncation: False, True or "longest_first", "only_first",
        "only_second".  stride, return_overflowing_tokens: what was cut off comes as further rows.  A batch is a list or tuple.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f'return_tensors={return_tensors!r}: govlm makes NumPy arrays ("np") or lists (None)')
        batched = _is_batch(text, is_split_into_words)
        texts = list(text) if batched else [text]
        if batched and isinstance(text_pair, str):
            raise TypeError("a batch of texts needs a list of pairs as long, got one str")
        if not batched and not text_pair:
            text_pair = None  # an empty pair is none, as in transformers
        pairs = None if text_pair is None else (list(text_pair) if batched else [text_pair])
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"{len(texts)} texts, but {len(pairs)} pairs")
        if not is_split_into_words:
            for row in [*texts, *(pairs or ())]:
                if not isinstance(row, str):
                    raise ValueError(f"text input must be str, a list of str, or lists of words, got {type(row).__name__}")
        strategy, limit = self._strategy(truncation, padding, max_length)
        if strategy != "do_not_truncate" and 0 <= limit - 2 < stride:
            raise ValueError(f"stride {stride} must be smaller than the {limit - 2} tokens that max_length {limit} leaves")
        if (
            strategy != "do_not_truncate"
            and padding not in (False, None, "do_not_pad")
            and pad_to_multiple_of
            and limit % pad_to_multiple_of
        ):
            raise ValueError(f"max_length {limit} is no multiple of pad_to_multiple_of {pad_to_multiple_of}")
        firsts = self._segments(texts, is_split_into_words)
        seconds = self._segments(pairs, is_split_into_words) if pairs is not None else [None] * len(firsts)
        rows: list[tuple[_Segment, _Segment | None]] = []
        samples: list[int] = []
        for number, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            cut = self._truncate(first, second, strategy, limit, stride, add_special_tokens, return_overflowing_tokens)
            if not return_overflowing_tokens:
                cut = cut[:1]
            rows += cut
            samples += [number] * len(cut)
        data, words = self._assemble(rows, add_special_tokens)
        firsts_of = [row for row, sample in enumerate(samples) if row == 0 or samples[row - 1] != sample]
        wanted = {
            "token_type_ids": return_token_type_ids is not False,
            "attention_mask": return_attention_mask is not False,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
        }
        for name, want in wanted.items():
            if not want:
                del data[name]
        self._pad_rows(data, words, padding, limit, pad_to_multiple_of, padding_side, firsts_of)
        if return_overflowing_tokens:
            data["overflow_to_sample_mapping"] = samples
        if return_length:
            data["length"] = [len(row) for row in data["input_ids"]]
        if return_tensors == "np":
            return BatchEncoding({name: _as_array(name, value) for name, value in data.items()}, words)
        if not batched and not return_overflowing_tokens:
            data = {name: value if name == "length" else value[0] for name, value in data.items()}
        return BatchEncoding(data, words)

    def _strategy(self, truncation: bool | str | None, padding: bool | str | None, max_length: int | None) -> tuple[str, int]:
        if truncation is None:
            truncation = max_length is not None and (padding is False or padding is None)
        names = {True: "longest_first", False: "do_not_truncate"}
        strategy = names.get(truncation, truncation) if isinstance(truncation, bool) else truncation
        if strategy not in ("longest_first", "only_first", "only_second", "do_not_truncate"):
            raise ValueError(f"truncation={truncation!r}: use True, False, longest_first, only_first or only_second")
        limit = self.model_max_length if max_length is None else max_length
        if limit >= VERY_LARGE:
            strategy = "do_not_truncate"
        return strategy, limit

    def _truncate(
        self, first: _Segment, second: _Segment | None, strategy: str, limit: int, stride: int, specials: bool, overflow: bool
    ) -> list[tuple[_Segment, _Segment | None]]:
        room = limit - (self.num_special_tokens_to_add(second is not None) if specials else 0)
        a, b = len(first.ids), 0 if second is None else len(second.ids)
        if strategy == "do_not_truncate" or a + b <= room:
            return [(first, second)]
        if room < 0:
            raise ValueError(f"max_length {limit} leaves no room for the special tokens")
        if room == 0:
            a = b = 0
        elif strategy == "longest_first":
            a, b = (room, 0) if second is None else (int(n) for n in _longest_first(a, b, room))
        else:
            if strategy == "only_second" and second is None:
                raise ValueError("truncation only_second, but there is no second text")
            other = b if strategy == "only_first" else a
            if other >= room:
                raise ValueError(f"{strategy}: the other text alone has {other} tokens, {room} fit: use longest_first")
            a, b = (room - b, b) if strategy == "only_first" else (a, room - a)
        heads = _parts(first, a, stride, self.truncation_side)
        tails: list[_Segment | None] = [None] if second is None else [*_parts(second, b, stride, self.truncation_side)]
        if not overflow:
            return [(heads[0], tails[0])]
        # The whole row first, then each later part of the first text with every part of the second, then its own later parts.
        rest = [(head, tail) for head in heads[1:] for tail in tails]
        return [(heads[0], tails[0]), *rest, *((heads[0], tail) for tail in tails[1:])]

    def _assemble(
        self, rows: list[tuple[_Segment, _Segment | None]], specials: bool
    ) -> tuple[dict[str, list[Any]], list[list[int | None]]]:
        data: dict[str, list[Any]] = {name: [] for name in (*self.model_input_names, "special_tokens_mask", "offset_mapping")}
        all_words: list[list[int | None]] = []
        cls, sep = ([self.cls_token_id], [self.sep_token_id]) if specials else ([], [])
        gap, edge = ([(0, 0)], [None]) if specials else ([], [])
        for first, second in rows:
            ids = cls + first.ids + sep
            types = [0] * len(ids)
            mask = [1] * len(cls) + [0] * len(first.ids) + [1] * len(sep)
            offsets = gap + first.offsets + gap
            words: list[int | None] = [*edge, *first.words, *edge]
            if second is not None:
                ids = ids + second.ids + sep
                types = types + [1] * (len(second.ids) + len(sep))
                mask = mask + [0] * len(second.ids) + [1] * len(sep)
                offsets = offsets + second.offsets + gap
                words = [*words, *second.words, *edge]
            for name, value in zip(data, (ids, types, [1] * len(ids), mask, offsets), strict=True):
                data[name].append(value)
            all_words.append(words)
        return data, all_words

    def _pad_rows(
        self,
        data: dict[str, list[Any]],
        words: list[list[int | None]] | None,
        padding: bool | str | None,
        limit: int,
        multiple: int | None,
        side: str | None,
        counted: Iterable[int] | None = None,
    ) -> None:
        """Pads in place; `counted` rows (None = all) decide how long the longest is: overflowing ones do not."""
        if padding in (False, None, "do_not_pad"):
            return
        if padding not in (True, "longest", "max_length"):
            raise ValueError(f"padding={padding!r}: use True, False, longest or max_length")
        rows = data["input_ids"]
        width = max((len(rows[i]) for i in (range(len(rows)) if counted is None else counted)), default=0)
        if padding == "max_length":
            if limit >= VERY_LARGE:
                return
            width = max(limit, 0)
        if multiple:
            width = (width + multiple - 1) // multiple * multiple
        left = _side(side or self.padding_side, "padding_side") == "left"
        fill = {
            "input_ids": self.pad_token_id,
            "token_type_ids": 0,
            "attention_mask": 0,
            "special_tokens_mask": 1,
            "offset_mapping": (0, 0),
        }
        for name, value in fill.items():
            if name in data:
                data[name] = [_pad(row, width, value, left) for row in data[name]]
        if words is not None:
            words[:] = [_pad(row, width, None, left) for row in words]

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pads encodings that were made one by one: a list of mappings, or a mapping of lists."""
        if return_tensors not in (None, "np"):
            raise ValueError(f'return_tensors={return_tensors!r}: govlm makes NumPy arrays ("np") or lists (None)')
        if isinstance(encoded_inputs, list | tuple):
            encoded_inputs = (
                {name: [row[name] for row in encoded_inputs] for name in encoded_inputs[0]} if encoded_inputs else {}
            )
        data = {name: [np.asarray(row).tolist() for row in rows] for name, rows in encoded_inputs.items()}
        if "input_ids" not in data:
            raise ValueError("pad() needs input_ids")
        if return_attention_mask is not False:
            data.setdefault("attention_mask", [[1] * len(row) for row in data["input_ids"]])
        limit = self.model_max_length if max_length is None else max_length
        self._pad_rows(data, None, padding, limit, pad_to_multiple_of, padding_side)
        if return_tensors == "np":
            return BatchEncoding({name: _as_array(name, value) for name, value in data.items()})
        return BatchEncoding(data)

    def __repr__(self) -> str:
        limits = f"do_lower_case={self.do_lower_case}, model_max_length={self.model_max_length}"
        return f"BertTokenizer(vocab_size={self.vocab_size}, {limits})"


class AutoTokenizer:
    """`from_pretrained` for whatever kind of tokenizer a folder holds; WordPiece so far."""

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str], **overrides: Any) -> BertTokenizer:
        return BertTokenizer.from_pretrained(directory, **overrides)


# ---- files -----------------------------------------------------------------------------------------------------------


def _side(value: str, name: str) -> str:
    if value not in ("left", "right"):
        raise ValueError(f'{name} must be "left" or "right", got {value!r}')
    return value


def _pad(row: list[Any], width: int, value: Any, left: bool) -> list[Any]:
    fill = [value] * max(0, width - len(row))
    return fill + row if left else row + fill


def _as_array(name: str, rows: list[Any]) -> NDArray[np.int64]:
    try:
        return np.array(rows, dtype=np.int64)
    except ValueError:
        raise ValueError(f"{name}: rows have different lengths, so they make no array: use padding=True") from None


def _tidy(text: str) -> str:
    """The spaces that English spelling does not have."""
    for old, new in (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
        (" 've", "'ve"), (" 're", "'re"),
    ):  # fmt: skip
        text = text.replace(old, new)
    return text


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_vocabulary(path: Path) -> dict[str, int]:
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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no JSON ({error})") from None


def _token(value: Any) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, normalized=False, special=True)
    known = {name: value[name] for name in AddedToken._fields if name in value}
    return AddedToken(**known)


def _read_config(folder: Path) -> tuple[dict[str, Any], dict[int, AddedToken]]:
    options: dict[str, Any] = {}
    added: dict[int, AddedToken] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if not path.exists():
            continue
        config = _read_json(path)
        kind = str(config.get("tokenizer_class") or "BertTokenizer").removesuffix("Fast")
        if kind not in ("BertTokenizer", "PreTrainedTokenizer", "TokenizersBackend"):
            raise ValueError(f"{path}: is of a {kind}, but govlm reads BERT's WordPiece tokenizers")
        for special in SPECIAL_NAMES:
            if config.get(special) is not None:
                options[special] = _token(config[special]).content
        for option in ("do_lower_case", "tokenize_chinese_chars", "strip_accents", "clean_up_tokenization_spaces"):
            if option in config:
                options[option] = config[option]
        for option in ("model_max_length", "padding_side", "truncation_side"):
            if config.get(option) is not None:
                options[option] = config[option]
        for index, token in (config.get("added_tokens_decoder") or {}).items():
            added[int(index)] = _token(token)
    return options, added


def _read_tokenizer_json(path: Path) -> tuple[dict[str, int], dict[str, Any], dict[int, AddedToken]]:
    whole = _read_json(path)
    model = whole.get("model") or {}
    kind = model.get("type") or (
        "WordPiece" if "continuing_subword_prefix" in model and "merges" not in model else "another kind"
    )
    if kind != "WordPiece":
        raise ValueError(f"{path}: is a {kind} tokenizer, but govlm reads WordPiece")
    normalizer = whole.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer" or (whole.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        raise ValueError(f"{path}: needs the BertNormalizer and the BertPreTokenizer, has {normalizer.get('type')}")
    options = {
        "do_lower_case": normalizer.get("lowercase", True),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True),
        "clean_text": normalizer.get("clean_text", True),
        "unk_token": model.get("unk_token", "[UNK]"),
        "max_input_chars_per_word": model.get("max_input_chars_per_word", 100),
        "wordpieces_prefix": model.get("continuing_subword_prefix", "##"),
    }
    added = {int(token["id"]): _token(token) for token in whole.get("added_tokens") or ()}
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise ValueError(f"{path}: has no vocabulary")
    return {str(token): int(index) for token, index in vocabulary.items()}, options, added


# ---- training --------------------------------------------------------------------------------------------------------


def train_wordpiece(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    special_tokens: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    do_lower_case: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
    progress: bool = False,
) -> dict[str, int]:
    """A WordPiece vocabulary (token -> id) from text files (UTF-8; .gz and .xz too), the same for the same input.

    Memory grows with the distinct words, not with the text. Special tokens come first, then characters by frequency
    (limit_alphabet of them, None = all), then merged pieces until vocab_size. Write it with
    BertTokenizer(vocabulary).save_pretrained(dir).
    """
    from govlm.data import read_blocks

    paths = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not paths:
        raise ValueError("train_wordpiece needs at least one file")
    strip = do_lower_case if strip_accents is None else strip_accents
    trainer = core.WordPieceTrainer(lowercase=do_lower_case, strip_accents=strip, handle_chinese_chars=tokenize_chinese_chars)
    bar = None
    if progress:
        from tqdm import tqdm

        bar = tqdm(unit="B", unit_scale=True, desc="counting words")
    for path in paths:
        rest = ""
        for block in read_blocks(path):
            if bar is not None:
                bar.update(len(block.encode("utf-8")))
            # A word must not be cut by the end of a block, unless it is longer than any word can be.
            cut = max(block.rfind("\n"), block.rfind(" ")) + 1
            if cut == 0 and len(rest) < 4096:
                rest += block
                continue
            trainer.feed(rest + block[:cut])
            rest = block[cut:]
        trainer.feed(rest)
    if bar is not None:
        bar.close()
    specials = list(dict.fromkeys(special_tokens))
    pieces = trainer.build(vocab_size - len(specials), min_frequency, -1 if limit_alphabet is None else limit_alphabet)
    tokens = list(dict.fromkeys([*specials, *(p for p in pieces if not unicodedata.category(p[-1]).startswith("C"))]))
    return {token: index for index, token in enumerate(tokens[:vocab_size])}
