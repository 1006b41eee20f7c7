"""BERT's tokenizer: transformers' names and results over the native WordPiece, and the training of its vocabulary."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from govlm._native import core
from govlm.tokenizers.base import PreTrainedTokenizer
from govlm.tokenizers.encoding import AddedToken, Template, tidy
from govlm.tokenizers.files import read_config, read_json, read_token, read_vocabulary

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BertTokenizer", "train_wordpiece"]

OPTIONS = ("do_lower_case", "tokenize_chinese_chars", "strip_accents")


class BertTokenizer(PreTrainedTokenizer):
    """WordPiece with BERT's normalisation (Devlin et al., arXiv:1810.04805); ids and offsets as transformers' BertTokenizer.

    vocab: a vocab.txt (a token a line) or a mapping token -> id.
    do_lower_case: lower-case, and (strip_accents None) strip accents.  tokenize_chinese_chars: every ideograph is a word.
    Immutable but for add_tokens; safe to share by threads.  The other options: PreTrainedTokenizer.
    """

    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    vocab_files_names = {"vocab_file": "vocab.txt", "tokenizer_file": "tokenizer.json"}  # noqa: RUF012

    def __init__(
        self,
        vocab: str | os.PathLike[str] | Mapping[str, int],
        do_lower_case: bool = True,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        unk_token: str = "[UNK]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        cls_token: str = "[CLS]",
        mask_token: str = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        clean_text: bool = True,
        max_input_chars_per_word: int = 100,
        wordpieces_prefix: str = "##",
        **common: Any,
    ) -> None:
        self.do_lower_case = bool(do_lower_case)
        self.tokenize_chinese_chars = bool(tokenize_chinese_chars)
        self.strip_accents = strip_accents
        self.clean_text = bool(clean_text)
        self.max_input_chars_per_word = max_input_chars_per_word
        self.wordpieces_prefix = wordpieces_prefix
        special = {
            "bos_token": bos_token, "eos_token": eos_token, "unk_token": unk_token, "sep_token": sep_token,
            "pad_token": pad_token, "cls_token": cls_token, "mask_token": mask_token,
        }  # fmt: skip
        super().__init__(vocab if isinstance(vocab, Mapping) else read_vocabulary(Path(vocab)), special, **common)

    def _build(self) -> None:
        size = max(self._vocabulary.values(), default=-1) + 1
        table = [""] * size
        for token, index in self._vocabulary.items():
            table[index] = token
        unknown = self.unk_token_id
        self._native = core.WordPiece(
            table,
            0 if unknown is None else unknown,
            lowercase=self.do_lower_case,
            strip_accents=self.do_lower_case if self.strip_accents is None else self.strip_accents,
            clean_text=self.clean_text,
            handle_chinese_chars=self.tokenize_chinese_chars,
            max_word=self.max_input_chars_per_word,
            continuing_prefix=self.wordpieces_prefix,
            added=self._added_rows(),
        )

    def _template(self) -> Template:
        cls, sep = (self.cls_token_id,), (self.sep_token_id,)
        return Template(before=cls, after=sep, pair_after=sep)

    # ---- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def _from_file(cls, path: Path, overrides: dict[str, Any]) -> Self:
        return cls(path, **overrides)

    @classmethod
    def _from_folder(cls, folder: Path, overrides: dict[str, Any]) -> Self:
        options, added = read_config(folder, ("BertTokenizer",), OPTIONS)
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

    def _vocabulary_files(self) -> dict[str, str | bytes]:
        ordered = sorted(self._vocabulary, key=self._vocabulary.__getitem__)
        return {"vocab.txt": "".join(token + "\n" for token in ordered)}

    def _config(self) -> dict[str, Any]:
        return super()._config() | {name: getattr(self, name) for name in OPTIONS}

    def _as_tokenizer_json(self) -> dict[str, Any]:
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
            "post_processor": self._template_json(),
            "decoder": {"type": "WordPiece", "prefix": self.wordpieces_prefix, "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": self.unk_token,
                "continuing_subword_prefix": self.wordpieces_prefix,
                "max_input_chars_per_word": self.max_input_chars_per_word,
                "vocab": dict(sorted(self._vocabulary.items(), key=lambda item: item[1])),
            },
        }

    # ---- ids to text -------------------------------------------------------------------------------------------------

    def _contribution(self, token: str, first: bool) -> str:
        if not first:
            joins = token.startswith(self.wordpieces_prefix)
            token = token[len(self.wordpieces_prefix) :] if joins else " " + token
        return tidy(token)

    def token_bytes(self, index: int, first: bool = False) -> bytes:
        token = self._token_of.get(int(index))
        return b"" if token is None else self._contribution(token, first).encode("utf-8")

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return "".join(self._contribution(token, place == 0) for place, token in enumerate(tokens))

    def __repr__(self) -> str:
        limits = f"do_lower_case={self.do_lower_case}, model_max_length={self.model_max_length}"
        return f"BertTokenizer(vocab_size={self.vocab_size}, {limits})"


def _read_tokenizer_json(path: Path) -> tuple[dict[str, int], dict[str, Any], dict[int, AddedToken]]:
    whole = read_json(path)
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
    added = {int(token["id"]): read_token(token) for token in whole.get("added_tokens") or ()}
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
