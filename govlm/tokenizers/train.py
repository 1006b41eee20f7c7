"""Training of byte-level BPE vocabularies; a vocabulary of WordPiece is trained in bert.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from govlm._native import core
from govlm.tokenizers.bpe import PreTrainedTokenizerFast
from govlm.tokenizers.byte_level import BYTES, text_of
from govlm.tokenizers.encoding import AddedToken
from govlm.tokenizers.tokenizer_json import Pipeline

__all__ = ["train_bpe"]


def train_bpe(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    vocab_size: int,
    *,
    min_frequency: int = 0,
    special_tokens: Sequence[str] = ("<|endoftext|>",),
    split: str = "gpt2",
    compose: bool = False,
    progress: bool = False,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer from text files (UTF-8; .gz and .xz too), the same for the same input.

    Its vocabulary is that of Hugging Face's BpeTrainer with all 256 bytes as the initial alphabet: special tokens, bytes, then the
    most frequent pair over and over until vocab_size, or until none occurs min_frequency times. split: how text is cut (gpt2,
    qwen2, llama3, digits).  compose: NFC first.  Memory grows with the distinct pieces. Needs at least the special tokens and
    bytes: ValueError otherwise.
    """
    from govlm.data import read_blocks

    paths = [files] if isinstance(files, str | os.PathLike) else list(files)
    if not paths:
        raise ValueError("train_bpe needs at least one file")
    specials = list(dict.fromkeys(special_tokens))
    room = vocab_size - len(specials) - 256
    if room < 0:
        raise ValueError(f"vocab_size {vocab_size} has no room for {len(specials)} special tokens and 256 bytes")
    trainer = core.BPETrainer(split=split, compose=compose)
    bar = None
    if progress:
        from tqdm import tqdm

        bar = tqdm(unit="B", unit_scale=True, desc="counting pieces")
    for path in paths:
        rest: list[str] = []
        for block in read_blocks(path):
            if bar is not None:
                bar.update(len(block.encode("utf-8")))
            cut = block.rfind("\n") + 1  # whole lines only
            if cut > 0:
                trainer.feed("".join(rest) + block[:cut])
                rest = []
            rest.append(block[cut:])
        trainer.feed("".join(rest))
    if bar is not None:
        bar.close()
    alphabet = bytes(BYTES[character] for character in sorted(BYTES))
    names = [text_of(bytes((byte,))) for byte in alphabet]
    merges = []
    for left, right, made in trainer.build(alphabet, room, min_frequency):
        merges.append((names[left], names[right]))
        if made == len(names):
            names.append(names[left] + names[right])
    vocabulary = {token: index for index, token in enumerate([*specials, *names])}
    end = specials[0] if specials else None
    added = [(place, AddedToken(token, normalized=False, special=True)) for place, token in enumerate(specials)]
    pipeline = Pipeline(split=split, compose=compose)
    return PreTrainedTokenizerFast(vocabulary, merges, pipeline=pipeline, added_tokens=added, bos_token=end, eos_token=end)
