"""What every tokenizer does alike: texts to encodings and packed ids, padding, cutting, ids to text, files.

A tokenizer is PreTrainedTokenizer plus five methods: `_build`, `_template`, `token_bytes`, `convert_tokens_to_string` and
`_as_tokenizer_json`. `_native` is the C tokenizer: `encode(texts, prefix=, suffix=, max_length=, offsets=)` as _core.pyi types it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from govlm.bundled import model_folder
from govlm.tokenizers.chat import chosen_template, render
from govlm.tokenizers.encoding import (
    VERY_LARGE,
    AddedToken,
    BatchEncoding,
    Packed,
    PackedPairs,
    Segment,
    as_array,
    is_batch,
    longest_first,
    pad_row,
    parts,
    side_of,
    tidy,
)
from govlm.tokenizers.files import dump, write
from govlm.tokenizers.special_tokens import SpecialTokens
from govlm.tokenizers.stream import DecodeStream

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PreTrainedTokenizer"]


class PreTrainedTokenizer(SpecialTokens):
    """The common part of all tokenizers; names, arguments and results as transformers'.

    model_max_length: what truncation=True without max_length cuts to (None: nothing).  padding_side, truncation_side: "left" or
    "right" (None: the class's own).  chat_template: a Jinja text, or a mapping of names to them.
    """

    model_input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    padding_side: str = "right"
    truncation_side: str = "right"
    _native: Any

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        special_tokens: Mapping[str, str | AddedToken | None],
        *,
        added_tokens: Iterable[tuple[int, AddedToken]] = (),
        model_max_length: int | None = None,
        padding_side: str | None = None,
        truncation_side: str | None = None,
        clean_up_tokenization_spaces: bool = False,
        chat_template: str | Mapping[str, str] | None = None,
    ) -> None:
        self.model_max_length = VERY_LARGE if model_max_length is None else int(model_max_length)
        self.padding_side = side_of(padding_side or self.padding_side, "padding_side")
        self.truncation_side = side_of(truncation_side or self.truncation_side, "truncation_side")
        self.clean_up_tokenization_spaces = bool(clean_up_tokenization_spaces)
        self.chat_template = chat_template
        super().__init__(vocabulary, special_tokens, added_tokens)

    # ---- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str], **overrides: Any) -> Self:
        """Reads a folder (or a vocabulary file); `overrides` win over its tokenizer_config.json.

        ValueError or FileNotFoundError names the file that is missing, malformed or of another kind of tokenizer.
        """
        folder = model_folder(directory)
        if not folder.exists():
            raise FileNotFoundError(
                f"{folder}: no such folder; govlm loads tokenizers from a local folder, never from a network"
            )
        try:
            return cls._from_file(folder, overrides) if folder.is_file() else cls._from_folder(folder, overrides)
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            if str(folder) in str(error):
                raise
            raise ValueError(f"{folder}: {error}") from error

    @classmethod
    def _from_file(cls, path: Path, overrides: dict[str, Any]) -> Self:
        raise NotImplementedError

    @classmethod
    def _from_folder(cls, folder: Path, overrides: dict[str, Any]) -> Self:
        raise NotImplementedError

    def save_pretrained(self, directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Writes the vocabulary, tokenizer.json and the two configuration files; transformers loads them as well."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        files = self._vocabulary_files() | {
            "tokenizer.json": dump(self._as_tokenizer_json()),
            "tokenizer_config.json": dump(self._config()),
            "special_tokens_map.json": dump(self.special_tokens_map),
        }
        for name, content in files.items():
            write(folder / name, content)
        return tuple(str(folder / name) for name in files)

    def _vocabulary_files(self) -> dict[str, str | bytes]:
        """Name -> content of the files besides tokenizer.json."""
        return {}

    def _as_tokenizer_json(self) -> dict[str, Any]:
        raise NotImplementedError

    def _config(self) -> dict[str, Any]:
        """What tokenizer_config.json holds; a subclass adds its own options."""
        return {
            "tokenizer_class": type(self).__name__,
            "model_max_length": self.model_max_length,
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            **self.special_tokens_map,
            "added_tokens_decoder": {str(i): dict(t._asdict()) for i, t in sorted(self._added.items())},
            **({} if self.chat_template is None else {"chat_template": self.chat_template}),
        }

    def _template_json(self) -> dict[str, Any]:
        """The post_processor of tokenizer.json for `_template`."""
        template = self._template()

        def special(index: int, token_type: int) -> dict[str, Any]:
            return {"SpecialToken": {"id": self._token_of[index], "type_id": token_type}}

        def around(name: str, before: Sequence[int], after: Sequence[int], token_type: int) -> list[dict[str, Any]]:
            middle = {"Sequence": {"id": name, "type_id": token_type}}
            return [*(special(i, token_type) for i in before), middle, *(special(i, token_type) for i in after)]

        single = around("A", template.before, template.after, 0)
        names = dict.fromkeys(self._token_of[i] for i in itertools.chain(*template[:4]))
        return {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, *around("B", template.pair_before, template.pair_after, template.pair_type)],
            "special_tokens": {t: {"id": t, "ids": [self.convert_tokens_to_ids(t)], "tokens": [t]} for t in names},
        }

    # ---- ids to text -------------------------------------------------------------------------------------------------

    def token_bytes(self, index: int, first: bool = False) -> bytes:
        """What the id adds to the text, UTF-8 (a character may be spread over several ids); empty for an id that is none.

        first: as the first token of the text, where a space that only marks the start of a word is left out.
        """
        raise NotImplementedError

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        raise NotImplementedError

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
        neat = self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        return tidy(text) if neat else text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in sequences]

    def decode_stream(self, skip_special_tokens: bool = False) -> DecodeStream:
        """For tokens that come one by one: `stream.feed(id)` gives the text that is certain, `stream.end()` the rest."""
        return DecodeStream(self, skip_special_tokens)

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        now: datetime | None = None,
        return_dict: bool = False,
        **options: Any,
    ) -> Any:
        """Messages ({"role": …, "content": …}) -> the prompt's ids, or its text with tokenize=False; a list of conversations -> a list.

        chat_template: a Jinja text, or the name of one of several; None = the tokenizer's own.  tools: JSON schemas (functions are
        not read).  add_generation_prompt: ends with what opens the answer.  continue_final_message: ends with the last message's
        text, open.  now: what the template's strftime_now tells.  return_dict: the whole encoding.  Options that __call__ knows
        (padding, truncation, max_length, return_tensors) go there, others are the template's variables.  Needs jinja2.
        ValueError for a template that is malformed, forbidden (sandbox) or that takes too long.
        """
        if add_generation_prompt and continue_final_message:
            raise ValueError("add_generation_prompt and continue_final_message exclude each other")
        template = chosen_template(self.chat_template, chat_template, bool(tools))
        batched = bool(conversation) and isinstance(conversation[0], list | tuple)
        call = {n: options.pop(n) for n in ("padding", "truncation", "max_length", "return_tensors") if n in options}
        variables = {**self.special_tokens_map, "tools": tools, "documents": documents, **options}
        texts = []
        for messages in conversation if batched else [conversation]:
            text = render(template, messages, now, add_generation_prompt=add_generation_prompt, **variables)
            if continue_final_message:
                final = str(messages[-1]["content"]).strip()
                at = text.rfind(final)
                if at < 0:
                    raise ValueError("continue_final_message: the template does not write the last message as it is")
                text = text[: at + len(final)]
            texts.append(text)
        if not tokenize:
            return texts if batched else texts[0]
        encoded = self(texts if batched else texts[0], add_special_tokens=False, **call)
        return encoded if return_dict else encoded["input_ids"]

    # ---- texts to ids ---------------------------------------------------------------------------------------------------

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
        """Texts -> packed ids with special tokens, no padding, no Python lists.

        text_pair: a second text for each, with its own special tokens.
        max_length (None = model_max_length): longer texts are cut there, unless truncation is False; of a pair the longer text
        is cut first (longest_first). ValueError for another number of pairs, or no room for the special tokens.
        """
        limit = self.model_max_length if max_length is None else max_length
        limit = -1 if not truncation or limit >= VERY_LARGE else limit
        template = self._template() if add_special_tokens else self._template().bare()
        if text_pair is None:
            return Packed(*self._native.encode(texts, prefix=template.before, suffix=template.after, max_length=limit))
        if len(texts) != len(text_pair):
            raise ValueError(f"{len(texts)} texts, but {len(text_pair)} pairs")
        sides = [self._native.encode(side, prefix=(), suffix=(), max_length=-1) for side in (texts, text_pair)]
        lengths = (np.diff(sides[0][1]), np.diff(sides[1][1]))
        specials = template.count(True)
        if limit >= 0:
            if limit < specials:
                raise ValueError(f"max_length {limit} leaves no room for the special tokens")
            lengths = longest_first(*lengths, limit - specials)
        # A row is made of: before, first text, after and what goes before the second, second text, what goes after it.
        between = template.after + template.pair_before
        columns = [np.full(len(texts), len(template.before)), lengths[0], np.full(len(texts), len(between)), lengths[1]]
        columns.append(np.full(len(texts), len(template.pair_after)))
        ends = np.cumsum(np.stack(columns, axis=1).reshape(-1)).reshape(len(texts), 5)
        splits = np.concatenate([np.zeros(1, np.int64), ends[:, 4].astype(np.int64)])
        ids = np.empty(splits[-1], np.int32)
        types = np.zeros(splits[-1], np.int32)
        for row, (begin, end) in enumerate(itertools.pairwise(splits.tolist())):
            first, gap, second, _ = ends[row, 1:].tolist()
            ids[begin : begin + len(template.before)] = template.before
            for (source, bounds), length, to in zip(sides, lengths, (first, second), strict=True):
                a, b = int(bounds[row]), int(bounds[row + 1])
                a, b = (a, a + int(length[row])) if self.truncation_side == "right" else (b - int(length[row]), b)
                ids[to - (b - a) : to] = source[a:b]
            ids[first:gap] = between
            ids[second:end] = template.pair_after
            types[first + len(template.after) : end] = template.pair_type
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

    def _segments(self, texts: Sequence[Any], split: bool) -> list[Segment]:
        if split:
            return [self._split_segment(words) for words in texts]
        ids, splits, starts, ends, words = self._native.encode(texts, offsets=True)
        ids, starts, ends, words = ids.tolist(), starts.tolist(), ends.tolist(), words.tolist()
        bounds = splits.tolist()
        return [
            Segment(ids[a:b], list(zip(starts[a:b], ends[a:b], strict=True)), words[a:b]) for a, b in itertools.pairwise(bounds)
        ]

    def _split_segment(self, words: Sequence[str]) -> Segment:
        """Words given: offsets count within each word, and word ids are their places."""
        ids, offsets, numbers = [], [], []
        for number, part in enumerate(self._segments(list(words), False)):
            ids += part.ids
            offsets += part.offsets
            numbers += [number] * len(part.ids)
        return Segment(ids, offsets, numbers)

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
        """Texts -> `model_input_names` (lists, or NumPy arrays with return_tensors="np").

        padding: False, True or "longest", "max_length".  truncation: False, True or "longest_first", "only_first",
        "only_second".  stride, return_overflowing_tokens: what was cut off comes as further rows.  A batch is a list or tuple.
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f'return_tensors={return_tensors!r}: govlm makes NumPy arrays ("np") or lists (None)')
        batched = is_batch(text, is_split_into_words)
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
        room = limit - self._template().count(False)
        if strategy != "do_not_truncate" and 0 <= room < stride:
            raise ValueError(f"stride {stride} must be smaller than the {room} tokens that max_length {limit} leaves")
        if (
            strategy != "do_not_truncate"
            and padding not in (False, None, "do_not_pad")
            and pad_to_multiple_of
            and limit % pad_to_multiple_of
        ):
            raise ValueError(f"max_length {limit} is no multiple of pad_to_multiple_of {pad_to_multiple_of}")
        firsts = self._segments(texts, is_split_into_words)
        seconds = self._segments(pairs, is_split_into_words) if pairs is not None else [None] * len(firsts)
        rows: list[tuple[Segment, Segment | None]] = []
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
            "token_type_ids": self._wants("token_type_ids", return_token_type_ids),
            "attention_mask": self._wants("attention_mask", return_attention_mask),
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
            return BatchEncoding({name: as_array(name, value) for name, value in data.items()}, words)
        if not batched and not return_overflowing_tokens:
            data = {name: value if name == "length" else value[0] for name, value in data.items()}
        return BatchEncoding(data, words)

    def _wants(self, name: str, asked: bool | None) -> bool:
        return name in self.model_input_names if asked is None else asked

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
        self, first: Segment, second: Segment | None, strategy: str, limit: int, stride: int, specials: bool, overflow: bool
    ) -> list[tuple[Segment, Segment | None]]:
        room = limit - (self.num_special_tokens_to_add(second is not None) if specials else 0)
        a, b = len(first.ids), 0 if second is None else len(second.ids)
        if strategy == "do_not_truncate" or a + b <= room:
            return [(first, second)]
        if room < 0:
            raise ValueError(f"max_length {limit} leaves no room for the special tokens")
        if room == 0:
            a = b = 0
        elif strategy == "longest_first":
            a, b = (room, 0) if second is None else (int(n) for n in longest_first(a, b, room))
        else:
            if strategy == "only_second" and second is None:
                raise ValueError("truncation only_second, but there is no second text")
            other = b if strategy == "only_first" else a
            if other >= room:
                raise ValueError(f"{strategy}: the other text alone has {other} tokens, {room} fit: use longest_first")
            a, b = (room - b, b) if strategy == "only_first" else (a, room - a)
        heads = parts(first, a, stride, self.truncation_side)
        tails: list[Segment | None] = [None] if second is None else [*parts(second, b, stride, self.truncation_side)]
        if not overflow:
            return [(heads[0], tails[0])]
        # The whole row first, then each later part of the first text with every part of the second, then its own later parts.
        rest = [(head, tail) for head in heads[1:] for tail in tails]
        return [(heads[0], tails[0]), *rest, *((heads[0], tail) for tail in tails[1:])]

    def _assemble(
        self, rows: list[tuple[Segment, Segment | None]], specials: bool
    ) -> tuple[dict[str, list[Any]], list[list[int | None]]]:
        names = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask", "offset_mapping")
        data: dict[str, list[Any]] = {name: [] for name in names}
        all_words: list[list[int | None]] = []
        template = self._template() if specials else self._template().bare()
        for first, second in rows:
            ids: list[int] = []
            types: list[int] = []
            mask: list[int] = []
            offsets: list[tuple[int, int]] = []
            words: list[int | None] = []
            sides = [(template.before, first, template.after, 0)]
            if second is not None:
                sides.append((template.pair_before, second, template.pair_after, template.pair_type))
            for before, segment, after, token_type in sides:
                ids += [*before, *segment.ids, *after]
                types += [token_type] * (len(before) + len(segment.ids) + len(after))
                mask += [*[1] * len(before), *[0] * len(segment.ids), *[1] * len(after)]
                offsets += [*[(0, 0)] * len(before), *segment.offsets, *[(0, 0)] * len(after)]
                words += [*[None] * len(before), *segment.words, *[None] * len(after)]
            for name, value in zip(names, (ids, types, [1] * len(ids), mask, offsets), strict=True):
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
        pad_id = self.pad_token_id
        if pad_id is None:
            if all(len(row) >= width for row in rows):
                return
            raise ValueError('no token to pad with: set one, for instance "tokenizer.pad_token = tokenizer.eos_token"')
        left = side_of(side or self.padding_side, "padding_side") == "left"
        fill = {
            "input_ids": pad_id,
            "token_type_ids": 0,
            "attention_mask": 0,
            "special_tokens_mask": 1,
            "offset_mapping": (0, 0),
        }
        for name, value in fill.items():
            if name in data:
                data[name] = [pad_row(row, width, value, left) for row in data[name]]
        if words is not None:
            words[:] = [pad_row(row, width, None, left) for row in words]

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
            return BatchEncoding({name: as_array(name, value) for name, value in data.items()})
        return BatchEncoding(data)
