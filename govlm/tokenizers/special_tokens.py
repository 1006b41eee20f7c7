"""A tokenizer's vocabulary with its added and special tokens: what PreTrainedTokenizer knows before it reads a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from govlm.tokenizers.encoding import AddedToken, Template

__all__ = ["SPECIAL_NAMES", "SpecialTokens"]

# transformers' names and order; a tokenizer has those that are not None
SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class SpecialTokens:
    """Token <-> id, added tokens, and the special ones by name.

    A subclass overrides `_build` (make the native tokenizer anew: the vocabulary or the added tokens changed) and `_template`
    (which special tokens stand around a text).
    """

    bos_token: str | None
    eos_token: str | None
    unk_token: str | None
    sep_token: str | None
    pad_token: str | None
    cls_token: str | None
    mask_token: str | None

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        special_tokens: Mapping[str, str | AddedToken | None],
        added_tokens: Iterable[tuple[int, AddedToken]] = (),
    ) -> None:
        self._vocabulary = dict(vocabulary)
        self._added: dict[int, AddedToken] = {}
        self._added_ids: dict[str, int] = {}
        self._token_of = {index: token for token, index in self._vocabulary.items()}
        for index, token in added_tokens:
            self._register(token, index)
        unknown = set(special_tokens) - set(SPECIAL_NAMES)
        if unknown:
            raise ValueError(f"{min(unknown)!r} is no special token; known are {', '.join(SPECIAL_NAMES)}")
        for name in SPECIAL_NAMES:
            value = special_tokens.get(name)
            setattr(self, name, None if value is None else str(value))
            if value is not None:
                whole = value if isinstance(value, AddedToken) else AddedToken(value, normalized=False, special=True)
                self._register(whole._replace(special=True), None)
        self._special_ids: set[int] = set()
        self._refresh()

    def _build(self) -> None:
        raise NotImplementedError

    def _template(self) -> Template:
        raise NotImplementedError

    def _refresh(self) -> None:
        self._special_ids = {i for i, t in self._added.items() if t.special}
        self._build()

    def _register(self, token: AddedToken, index: int | None) -> bool:
        """True when the token is new to the vocabulary."""
        known = self._id_or_none(token.content)
        if index is None:
            index = known if known is not None else max(self._token_of, default=-1) + 1
        if index not in self._added:
            self._added[index] = token
            self._added_ids.setdefault(token.content, index)
        self._token_of.setdefault(index, token.content)
        return known is None

    def _id_or_none(self, token: str) -> int | None:
        found = self._vocabulary.get(token)
        return self._added_ids.get(token) if found is None else found

    def _added_rows(self) -> list[tuple[str, int, bool, bool, bool, bool]]:
        """The added tokens as the native tokenizers take them: text, id, single_word, lstrip, rstrip, normalized."""
        return [(t.content, i, t.single_word, t.lstrip, t.rstrip, t.normalized) for i, t in self._added.items()]

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
        added = (self._added[i].content for i in self._special_ids)
        return list(dict.fromkeys([*self.special_tokens_map.values(), *added]))

    @property
    def all_special_ids(self) -> list[int]:
        return [self.convert_tokens_to_ids(token) for token in self.all_special_tokens]

    @property
    def special_tokens_map(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in SPECIAL_NAMES if getattr(self, name) is not None}

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        return dict(sorted(self._added.items()))

    def _special_id(self, name: str) -> Any:
        """None where the tokenizer has no such token."""
        token = getattr(self, name)
        if token is None:
            return None
        index = self._id_or_none(token)
        if index is None:
            raise ValueError(f"the vocabulary has no {token} ({name})")
        return index

    bos_token_id = property(lambda self: self._special_id("bos_token"))
    eos_token_id = property(lambda self: self._special_id("eos_token"))
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
        self._refresh()
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
        self._refresh()
        return new

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """A token -> its id, a list -> a list; unknown ones give the id of unk_token (None where there is none)."""
        if isinstance(tokens, str):
            index = self._id_or_none(tokens)
            return self._special_id("unk_token") if index is None else index
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        if isinstance(ids, int | np.integer):
            return self._token_of.get(int(ids))
        found = (int(i) for i in np.asarray(ids).ravel())
        return [self._token_of.get(i) for i in found if not (skip_special_tokens and i in self._special_ids)]

    # ---- around a text -----------------------------------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self._template().count(pair)

    def build_inputs_with_special_tokens(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        template = self._template()
        out = [*template.before, *token_ids_0, *template.after]
        return out if token_ids_1 is None else [*out, *template.pair_before, *token_ids_1, *template.pair_after]

    def create_token_type_ids_from_sequences(self, token_ids_0: list[int], token_ids_1: list[int] | None = None) -> list[int]:
        template = self._template()
        second = 0 if token_ids_1 is None else template.count(True) - template.count(False) + len(token_ids_1)
        return [0] * (template.count(False) + len(token_ids_0)) + [template.pair_type] * second

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        if already_has_special_tokens:
            return [int(i in self._special_ids) for i in token_ids_0]
        template = self._template()
        out = [*[1] * len(template.before), *[0] * len(token_ids_0), *[1] * len(template.after)]
        if token_ids_1 is None:
            return out
        return [*out, *[1] * len(template.pair_before), *[0] * len(token_ids_1), *[1] * len(template.pair_after)]
