"""Training of a SentencePiece unigram model (Kudo, arXiv:1804.10959) from text files; csrc/text/unigram_trainer.c has the method."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from govlm._native import core
from govlm.tokenizers.charsmap import nmt_nfkc
from govlm.tokenizers.sentencepiece import BYTE_PIECES, NormalizerSpec, PieceType, SentencePieceModel, TrainerSpec

__all__ = ["train_unigram", "train_unigram_from_lines"]


def train_unigram(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], vocab_size: int, **options: object
) -> SentencePieceModel:
    """A unigram model from text files (UTF-8; .gz and .xz too), a sentence a line. Options: train_unigram_from_lines."""
    paths = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not paths:
        raise ValueError("train_unigram needs at least one file")
    return train_unigram_from_lines(_lines(paths), vocab_size, **options)  # type: ignore[arg-type]


def _lines(paths: Sequence[str | os.PathLike[str]]) -> Iterator[str]:
    from govlm.data import read_blocks

    for path in paths:
        rest = ""
        for block in read_blocks(path):
            *whole, rest = (rest + block).split("\n")
            yield from whole
        yield rest


def _rules(normalizer: NormalizerSpec | str) -> NormalizerSpec:
    if isinstance(normalizer, NormalizerSpec):
        return normalizer
    if normalizer == "nmt_nfkc":
        return nmt_nfkc()
    if normalizer == "identity":
        return NormalizerSpec(name="identity")
    raise ValueError(f'normalizer must be "nmt_nfkc", "identity" or the rules of a model, not {normalizer!r}')


def train_unigram_from_lines(
    lines: Iterable[str],
    vocab_size: int,
    *,
    normalizer: NormalizerSpec | str | None = None,
    special_tokens: Sequence[str] = ("<pad>", "</s>", "<unk>"),
    user_defined_symbols: Sequence[str] = (),
    byte_fallback: bool = False,
    character_coverage: float = 0.9995,
    seed_size: int = 1_000_000,
    max_piece_length: int = 16,
    shrinking_factor: float = 0.75,
    sub_iterations: int = 2,
) -> SentencePieceModel:
    """A model of at most vocab_size pieces, the special ones first; the same for the same lines. Memory: about 40 bytes a character.

    normalizer: the rules, as of another model (`read_model(path).normalizer`), or "nmt_nfkc", sentencepiece's default (see charsmap.py;
    takes seconds to make once a process); None and "identity" change nothing but white space.
    special_tokens: control pieces, one of them "<unk>"; the default order is T5's.  user_defined_symbols: always one piece each.
    byte_fallback: adds 256 byte pieces.  character_coverage: of all characters, so many are pieces; rarer ones are unknown.
    seed_size: pieces that training begins with.  shrinking_factor: what each pruning keeps.  sub_iterations: of EM before each.
    """
    rules = _rules("identity" if normalizer is None else normalizer)
    if list(special_tokens).count("<unk>") != 1:
        raise ValueError('special_tokens must hold "<unk>" once')
    first = [*special_tokens, *user_defined_symbols, *(BYTE_PIECES if byte_fallback else ())]
    if len(set(first)) != len(first):
        raise ValueError("a token stands twice in special_tokens and user_defined_symbols")
    trainer = core.UnigramTrainer(
        charsmap=rules.precompiled_charsmap,
        add_dummy_prefix=rules.add_dummy_prefix,
        remove_extra_whitespaces=rules.remove_extra_whitespaces,
    )
    for line in lines:
        parts = [line]
        for symbol in user_defined_symbols:
            parts = [piece for part in parts for piece in part.split(symbol)]
        for part in parts:
            trainer.feed(part)
    found = trainer.build(
        vocab_size - len(first),
        character_coverage=character_coverage,
        seed_size=seed_size,
        max_piece_length=max_piece_length,
        shrinking_factor=shrinking_factor,
        sub_iterations=sub_iterations,
    )
    taken = set(first)
    found = [(piece, score) for piece, score in found if piece not in taken]
    kinds = [PieceType.UNKNOWN if token == "<unk>" else PieceType.CONTROL for token in special_tokens]
    kinds += [PieceType.USER_DEFINED] * len(user_defined_symbols)
    kinds += [PieceType.BYTE] * (len(first) - len(kinds)) + [PieceType.NORMAL] * len(found)
    pieces = first + [piece for piece, _ in found]
    scores = [0.0] * len(first) + [score for _, score in found]
    ids = {piece: index for index, piece in enumerate(pieces)}
    spec = TrainerSpec(
        vocab_size=len(pieces),
        byte_fallback=byte_fallback,
        unk_id=ids["<unk>"],
        bos_id=ids.get("<s>", -1),
        eos_id=ids.get("</s>", -1),
        pad_id=ids.get("<pad>", -1),
    )
    return SentencePieceModel(pieces, np.array(scores, np.float32), np.array(kinds, np.uint8), rules, spec)
