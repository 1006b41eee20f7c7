"""Byte-pair encoding against its peers on the same vocabularies: Hugging Face's tokenizers, tiktoken, SentencePiece, llama.cpp.

Real data lies beside the project in ../shared/data; a sample of it is read in the normal run, all of it under GOVLM_FULL=1.
"""

from __future__ import annotations

import base64
import gzip
import json
import lzma
import os
import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from govlm.tokenizers import (
    AddedToken,
    AutoTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    train_bpe,
)
from govlm.tokenizers.tokenizer_json import PATTERNS, QWEN2, Pipeline

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
VOCAB = DATA / "vocab"
FULL = bool(os.environ.get("GOVLM_FULL"))
needs_data = pytest.mark.skipif(not VOCAB.exists(), reason="../shared/data is not here")

# Letters, marks that reorder and compose, spaces, line breaks, numerals of all kinds, apostrophes, emoji, other planes
POOL = (
    "abzABZ0123 9\n\r\t '\u2019sStTlLreVEdD,.!中国人民法e\u0301\u0300e\u0327가각\u1100\u1161\u11a8\ufb01①²Ⅷ\u00a0\u3000\u200b"
    "😀👍🏽\U00020000\u0e33ñA\u030a\u212b\u2126\u017f\u212aѐא\u0915\u093c\u0958\u0f73<|im_end|>"
)


def hostile(count: int, seed: int = 1) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice(POOL) for _ in range(rng.randint(0, 30))) for _ in range(count)]


def law_lines() -> Iterator[str]:
    for name in ("laws_national.jsonl.gz", "laws_local.jsonl.gz"):
        with gzip.open(DATA / "laws" / name, "rt", encoding="utf-8") as file:
            for row in file:
                yield from max((v for v in json.loads(row).values() if isinstance(v, str)), key=len).split("\n")


def corpus_lines() -> Iterator[str]:
    for path in sorted((DATA / "corpus").glob("*.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            yield from file


def gov_lines() -> Iterator[str]:
    for path in sorted((DATA / "gov").rglob("*")):
        if path.is_file() and path.suffix in (".html", ".txt", ".json", ".jsonl", ".csv", ".md"):
            yield from path.read_text(encoding="utf-8", errors="replace").split("\n")
        elif path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from file


def real_lines(each: int = 300) -> list[str]:
    sources = (law_lines(), corpus_lines(), gov_lines())
    return [line[:1000] for source in sources for line in islice(source, each)]


def batches(size: int = 4096) -> Iterator[list[str]]:
    """Real text: a sample, or all of it."""
    if not FULL:
        yield real_lines()
        return
    for source in (law_lines(), corpus_lines(), gov_lines()):
        while batch := list(islice(source, size)):
            yield batch


def rows_of(ours: Any, texts: list[str]) -> list[list[int]]:
    packed = ours.encode_packed(texts, add_special_tokens=False, truncation=False)
    bounds = packed.row_splits.tolist()
    return [packed.ids[a:b].tolist() for a, b in pairwise(bounds)]


@lru_cache
def qwen() -> Qwen2Tokenizer:
    return Qwen2Tokenizer.from_pretrained(VOCAB / "qwen" / "qwen.tiktoken")


@lru_cache
def minimind() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(VOCAB / "minimind")  # type: ignore[no-any-return]


@lru_cache
def gpt2() -> GPT2Tokenizer:
    """The vocabulary there has one token a line, and lacks some that its merges make."""
    text = (VOCAB / "gpt2" / "huggingface_gpt2_vocab.txt").read_text(encoding="utf-8")
    vocabulary = {token: index for index, token in enumerate(text.split("\n")) if token}
    rows = (VOCAB / "gpt2" / "huggingface_gpt2_merges.txt").read_text(encoding="utf-8").split("\n")[1:]
    merges = [(a, b) for a, _, b in (row.partition(" ") for row in rows) if {a, b, a + b} <= vocabulary.keys()]
    return GPT2Tokenizer(vocabulary, merges, bos_token=None, eos_token=None, unk_token=None)


MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {"gpt2": gpt2, "minimind": minimind, "qwen": qwen}


def reference(ours: PreTrainedTokenizerFast) -> Any:
    return tokenizers.Tokenizer.from_str(json.dumps(ours._as_tokenizer_json()))


@needs_data
@pytest.mark.parametrize("name", MAKERS)
def test_ids_on_real_text(name: str) -> None:
    ours = MAKERS[name]()
    theirs = reference(ours)
    if name == "minimind":
        theirs = tokenizers.Tokenizer.from_file(str(VOCAB / "minimind" / "tokenizer.json"))
    for texts in batches():
        expected = theirs.encode_batch(texts, add_special_tokens=False)
        for text, got, row in zip(texts, rows_of(ours, texts), expected, strict=True):
            assert got == row.ids, text


@needs_data
@pytest.mark.parametrize("name", MAKERS)
def test_hostile_text(name: str) -> None:
    """Ids, offsets, words and decoded text, on strings where the rules meet."""
    ours = MAKERS[name]()
    theirs = reference(ours)
    texts = hostile(20_000 if FULL else 1000)
    expected = theirs.encode_batch(texts, add_special_tokens=False)
    got = ours(texts, add_special_tokens=False, return_offsets_mapping=True)
    for row, other in enumerate(expected):
        assert got["input_ids"][row] == other.ids, texts[row]
        assert got["offset_mapping"][row] == other.offsets, texts[row]
        assert got.word_ids(row) == other.word_ids, texts[row]
        assert ours.decode(other.ids) == theirs.decode(other.ids, skip_special_tokens=False), texts[row]
    assert rows_of(ours, texts) == got["input_ids"]  # without offsets it goes through the cache


@needs_data
def test_tiktoken() -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    lines = (VOCAB / "qwen" / "qwen.tiktoken").read_bytes().split(b"\n")
    ranks = {base64.b64decode(a): int(b) for a, b in (line.split() for line in lines if line)}
    theirs = tiktoken.Encoding("qwen", pat_str=QWEN2, mergeable_ranks=ranks, special_tokens={})
    ours = Qwen2Tokenizer.from_pretrained(VOCAB / "qwen" / "qwen.tiktoken", pipeline=Pipeline(split="qwen2", whole_words=True))
    added = {t.content for t in ours.added_tokens_decoder.values()}
    texts = [t for t in hostile(2000, seed=2) if not any(a in t for a in added)]
    assert rows_of(ours, texts) == theirs.encode_ordinary_batch(texts, num_threads=1)
    for batch in batches():
        assert rows_of(ours, batch) == theirs.encode_ordinary_batch(batch, num_threads=1)


@needs_data
def test_sentencepiece() -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    path = VOCAB / "llama2" / "tokenizer.model"
    theirs = sentencepiece.SentencePieceProcessor(str(path))
    ours = AutoTokenizer.from_pretrained(path)
    assert isinstance(ours, LlamaTokenizer) and (ours.bos_token_id, ours.eos_token_id, ours.unk_token_id) == (1, 2, 0)
    assert ours("政务 service")["input_ids"] == theirs.encode("政务 service", add_bos=True)
    texts = hostile(2000, seed=3)
    rows = rows_of(ours, texts)
    assert rows == theirs.encode(texts)
    for text, row in zip(texts, rows, strict=True):
        assert ours.decode(row) == theirs.decode(row), text
    for batch in batches():
        assert rows_of(ours, batch) == theirs.encode(batch)
    other = reference(ours)  # and the tokenizer.json that is written of it, with offsets
    expected = other.encode_batch(texts)
    got = ours(texts, return_offsets_mapping=True)
    assert got["input_ids"] == [row.ids for row in expected]
    assert got["offset_mapping"] == [row.offsets for row in expected]


@needs_data
@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "llama-spm"])
def test_vectors_of_llama_cpp(name: str) -> None:
    path = VOCAB / "llama.cpp" / f"ggml-vocab-{name}.gguf"
    ours = AutoTokenizer.from_pretrained(path)
    texts = path.with_name(path.name + ".inp").read_bytes().decode("utf-8").split("\n__ggml_vocab_test__\n")
    wanted = path.with_name(path.name + ".out").read_text(encoding="utf-8").split("\n")
    assert len(texts) > 40
    for text, ids in zip(texts, wanted, strict=False):
        assert ours.encode(text, add_special_tokens=False) == [int(i) for i in ids.split()], text


SPLITS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
    "digits": lambda: tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    **{
        name: lambda pattern=pattern: tokenizers.pre_tokenizers.Sequence(  # type: ignore[misc]
            [
                tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        for name, pattern in PATTERNS.items()
    },
}


def corpus(folder: Path) -> Path:
    """Sentences of chance, the same everywhere: words of a few syllables, Chinese and Latin, some very frequent."""
    rng = random.Random(7)
    words = ["".join(rng.choice("办理申请材料窗口身份证明公民abcdeé😀") for _ in range(rng.randint(1, 5))) for _ in range(300)]
    lines = ["".join(rng.choice(words[: rng.choice((5, 50, 300))]) + rng.choice(("", " ", "，", "  ", "12 ", "'s "))
                     for _ in range(rng.randint(1, 12))) for _ in range(1500)]  # fmt: skip
    path = folder / "corpus.txt"
    path.write_text("\n".join([*lines, "aaaa aaaaa aaaaaaa", "哈哈哈哈哈哈"]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("size", "frequency"), [(700, 0), (5000, 3)])
def test_training(tmp_path: Path, split: str, size: int, frequency: int) -> None:
    path = corpus(tmp_path)
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = SPLITS[split]()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, min_frequency=frequency, special_tokens=["<|endoftext|>", "<|a|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    model.train([str(path)], trainer)
    ours = train_bpe(path, size, min_frequency=frequency, special_tokens=["<|endoftext|>", "<|a|>"], split=split)
    expected = json.loads(model.to_str())["model"]
    assert [list(pair) for pair in ours._merge_list()] == [
        pair if isinstance(pair, list) else pair.split(" ") for pair in expected["merges"]
    ]
    assert ours.get_vocab() == expected["vocab"]
    texts = [*path.read_text(encoding="utf-8").split("\n")[:300], *hostile(500, seed=4)]
    assert rows_of(ours, texts) == [row.ids for row in model.encode_batch(texts)]


@pytest.mark.parametrize("split", SPLITS)
def test_pieces(tmp_path: Path, split: str) -> None:
    """Where text is cut, on a vocabulary of bytes and few merges: every code point between others."""
    ours = train_bpe(corpus(tmp_path), 300, split=split)
    theirs = reference(ours)
    step = 1 if FULL else 37
    texts = [f"a{chr(c)}b 1{chr(c)} {chr(c)}'{chr(c)}{chr(c)}" for c in range(0, 0x110000, step) if not 0xD800 <= c < 0xE000]
    got = ours(texts, add_special_tokens=False)
    for row, other in enumerate(theirs.encode_batch(texts, add_special_tokens=False)):
        assert got.word_ids(row) == other.word_ids, ascii(texts[row])


def test_added_tokens(tmp_path: Path) -> None:
    ours = train_bpe(corpus(tmp_path), 600, split="qwen2", compose=True)
    theirs = reference(ours)
    kinds: list[dict[str, bool]] = [
        {}, {"normalized": False}, {"single_word": True}, {"lstrip": True, "rstrip": True, "normalized": False},
    ]  # fmt: skip
    for number, flags in enumerate(kinds):
        for text in (f"<t{number}>", f"新词{number}", f"é{number}", f"\U00020001{number}"):
            ours.add_tokens(AddedToken(text, **flags))
            theirs.add_tokens([tokenizers.AddedToken(text, **flags)])
    rng = random.Random(5)
    parts = [t.content for t in ours.added_tokens_decoder.values()] + ["a", " ", "  ", "\n", "办理", "e\u0301", "1", "2", "!"]
    texts = ["".join(rng.choice(parts) for _ in range(rng.randint(1, 12))) for _ in range(3000)]
    got = ours(texts, add_special_tokens=False, return_offsets_mapping=True)
    for row, other in enumerate(theirs.encode_batch(texts, add_special_tokens=False)):
        assert got["input_ids"][row] == other.ids, texts[row]
        assert got["offset_mapping"][row] == other.offsets, texts[row]
        assert ours.decode(other.ids) == theirs.decode(other.ids, skip_special_tokens=False), texts[row]


def test_whole_words_and_prefix_space(tmp_path: Path) -> None:
    """ignore_merges as in Llama 3, add_prefix_space as in RoBERTa, offsets trimmed."""
    base = train_bpe(corpus(tmp_path), 600, split="llama3")
    for pipeline in (
        Pipeline(split="llama3", whole_words=True),
        Pipeline(split="gpt2", prepend="missing"),
        Pipeline(split="gpt2", trim_offsets=True),
    ):
        vocabulary = base._vocabulary | {"Ġwhole": 1000, "whole": 1001}
        ours = PreTrainedTokenizerFast(vocabulary, base._merge_list(), pipeline=pipeline)
        theirs = reference(ours)
        texts = ["whole whole", " whole", "办理 whole,whole", "", " ", "  a ", *hostile(800, seed=6)]
        got = ours(texts, add_special_tokens=False, return_offsets_mapping=True)
        for row, other in enumerate(theirs.encode_batch(texts, add_special_tokens=False)):
            assert got["input_ids"][row] == other.ids, texts[row]
            if pipeline.trim_offsets:
                assert got["offset_mapping"][row] == other.offsets, texts[row]


@needs_data
def test_chat_template_as_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    theirs = transformers.AutoTokenizer.from_pretrained(VOCAB / "minimind")
    ours = minimind()
    messages = [
        {"role": "system", "content": "你是政务助手。"},
        {"role": "user", "content": "护照怎么办？"},
        {"role": "assistant", "content": "到出入境窗口。"},
        {"role": "user", "content": "周六开吗<|im_end|>？"},
    ]
    tool = {"type": "function", "function": {"name": "hours", "parameters": {"type": "object", "properties": {}}}}
    options: list[dict[str, Any]] = [{}, {"add_generation_prompt": True}, {"tools": [tool]}, {"continue_final_message": True}]
    for option in options:
        text = theirs.apply_chat_template(messages, tokenize=False, **option)
        assert ours.apply_chat_template(messages, tokenize=False, **option) == text
        assert ours.apply_chat_template(messages, **option) == theirs.apply_chat_template(messages, **option)["input_ids"]
