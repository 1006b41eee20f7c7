"""Byte-pair encoding on its own: golden ids, files and their damage, special tokens, streams, training, templates that attack."""

from __future__ import annotations

import base64
import io
import json
import random
import subprocess
import sys
import threading
import unicodedata
from datetime import datetime
from itertools import pairwise
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
    TextStreamer,
    train_bpe,
)
from govlm.tokenizers.byte_level import BYTES, bytes_of, text_of
from govlm.tokenizers.gguf import tokenizer_of_metadata
from govlm.tokenizers.tokenizer_json import Pipeline

TEXTS = [
    "", " ", "办理护照需要什么材料？", "it's 2024年1月1日  OK\r\n\r\n  end ", "e\u0301 é 가각 😀👍🏽\U00020000", "a\x00b\ufffd",
    "<|endoftext|>政务<|endoftext|>", "   ", "\n\n", "x" * 300, "政" * 200 + "12345",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(3)
    words = ["".join(rng.choice("办理申请材料窗口护照abcdeé") for _ in range(rng.randint(1, 4))) for _ in range(120)]
    lines = ["".join(rng.choice(words) + rng.choice(("", " ", "，", "1")) for _ in range(8)) for _ in range(400)]
    path = tmp_path_factory.mktemp("bpe") / "corpus.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> PreTrainedTokenizerFast:
    return train_bpe(corpus, 600, split="qwen2")


def llama(**options: Any) -> LlamaTokenizer:
    """A SentencePiece vocabulary by hand: bytes, characters, and merges in order of their scores."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{b:02X}>" for b in range(256)),
        "\u2581a",
        "bc",
        "\u2581abc",
        "政务",
        *"\u2581abc政务",
    ]
    ranks = [-1] * 259 + [0, 1, 2, 3] + [4] * 6
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return LlamaTokenizer(vocabulary, ranks=ranks, add_bos_token=True, model_unk_token="<unk>", **options)


# ---- ids -----------------------------------------------------------------------------------------------------------------


def test_merges_in_order_of_rank() -> None:
    """By hand: "hello" with the merges l l, h e, he ll."""
    vocabulary = {character: byte for character, byte in BYTES.items()} | {"ll": 256, "he": 257, "hell": 258, "Ġhell": 259}
    merges = [("l", "l"), ("h", "e"), ("he", "ll")]
    ours = PreTrainedTokenizerFast(vocabulary, merges)
    assert ours.encode("hello") == [258, ord("o")]
    assert ours.encode("lll") == [256, ord("l")]  # the leftmost of two that are as good
    assert ours.encode(" hello") == [ord(" "), 258, ord("o")]
    whole = PreTrainedTokenizerFast(vocabulary, merges, pipeline=Pipeline(whole_words=True))
    assert whole.encode(" hell") == [259]  # a piece that is a token, whatever the merges say


def test_ranks_merge_what_makes_a_token() -> None:
    vocabulary = {text_of(bytes((byte,))): byte for byte in range(256)} | {"ab": 256, "bc": 257, "abc": 258}
    ranks = [*range(256), 257, 256, 258]
    ours = GPT2Tokenizer(vocabulary, ranks=ranks, bos_token=None, eos_token=None, unk_token=None)
    assert ours.encode("abc") == [258] and ours.encode("ab") == [256]
    assert [list(pair) for pair in ours._merge_list()] == [["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"]]


def test_a_character_starts_whole_only_where_nothing_takes_a_part_first() -> None:
    """A space takes the first byte of 政 (E6 94 BF) before its own bytes join; elsewhere they join first."""
    zheng = "政".encode()
    first, rest = text_of(zheng[:1]), text_of(zheng[1:])
    vocabulary = {character: byte for character, byte in BYTES.items()}
    for number, token in enumerate(["Ġ" + first, rest, first + rest, text_of(zheng[2:]) + "!"], 256):
        vocabulary[token] = number
    merges = [("Ġ", first), (text_of(zheng[1:2]), text_of(zheng[2:])), (first, rest)]
    ours = PreTrainedTokenizerFast(vocabulary, merges, pipeline=Pipeline(split="none"))
    assert ours.encode("政") == [258]
    assert ours.encode(" 政") == [256, 257]
    assert ours.encode("政 政") == [258, 256, 257]
    merges.insert(0, (text_of(zheng[2:]), "!"))  # what follows may take the last byte
    ours = PreTrainedTokenizerFast(vocabulary, merges, pipeline=Pipeline(split="none"))
    assert ours.encode("政!") == [zheng[0], zheng[1], 259]
    assert ours.encode("政?") == [258, ord("?")]


def test_characters_with_byte_fallback() -> None:
    ours = llama()
    assert ours("abc 政务")["input_ids"] == [1, 261, 263, 262]
    assert ours.encode("好", add_special_tokens=False) == [263, 0xE5 + 3, 0xA5 + 3, 0xBD + 3]
    assert ours.decode([261, 0xE5 + 3, 0xA5 + 3, 0xBD + 3, 262]) == "abc好政务"
    assert ours.decode([0xE5 + 3, 0xA5 + 3]) == "\ufffd\ufffd" and ours.decode([1, 261]) == "<s> abc"
    assert ours.padding_side == "left" and ours.build_inputs_with_special_tokens([7], [8]) == [1, 7, 1, 8]


def test_long_words_take_the_heap_and_give_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    """A piece of 48 symbols is merged by a scan, of more by a heap."""
    rng = random.Random(11)
    for length in (15, 47, 48, 49, 50, 400):
        text = "".join(rng.choice("办理申请材料窗口护照abcdeé") for _ in range(length))
        symbols = [bytes((b,)) for b in text.encode()]
        ranks = {(bytes_of(a), bytes_of(b)): i for i, (a, b) in enumerate(tokenizer._merge_list())}
        while True:
            found = [(ranks[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in ranks]
            if not found:
                break
            at = min(found)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        assert [tokenizer.token_bytes(i) for i in tokenizer.encode(text)] == symbols


def test_every_width_cached_or_not(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in TEXTS:
        plain = tokenizer.encode_packed([text, text], add_special_tokens=False)  # the second comes from the cache
        one, two = (plain.ids[a:b].tolist() for a, b in ((0, len(plain.ids) // 2), (len(plain.ids) // 2, None)))
        assert one == two == tokenizer(text, return_offsets_mapping=True)["input_ids"]  # with offsets: no cache
        wide = tokenizer.encode(text + "\U00020000")
        assert wide[: len(one)] == one or not text or text[-1] in " \n"
        assert tokenizer.decode(one) == text


def test_threads_share_one(tokenizer: PreTrainedTokenizerFast) -> None:
    expected = tokenizer.encode_packed(TEXTS * 20)
    wrong: list[int] = []

    def run() -> None:
        for _ in range(20):
            got = tokenizer.encode_packed(TEXTS * 20)
            if not (got.ids == expected.ids).all():
                wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_call(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = tokenizer(["办理", "护照 1"], padding=False)
    assert set(rows) == {"input_ids", "attention_mask"}
    with pytest.raises(ValueError, match="no token to pad with"):
        tokenizer(["办理", "办理护照 ab"], padding=True)
    other = PreTrainedTokenizerFast(tokenizer._vocabulary, tokenizer._merge_list(), pad_token="<|endoftext|>")
    padded = other(["办", "办理护照 ab"], padding=True, return_tensors="np")
    assert padded["input_ids"].shape == padded["attention_mask"].shape and padded["attention_mask"][0, -1] == 0
    with pytest.raises(ValueError, match="lone surrogate"):
        tokenizer("坏\udc80")
    assert tokenizer.eos_token_id == 0 and tokenizer.pad_token_id is None and tokenizer.cls_token_id is None


# ---- text that comes token by token -----------------------------------------------------------------------------------------


def test_streams_never_tear_a_character(tokenizer: PreTrainedTokenizerFast) -> None:
    for ours in (tokenizer, llama()):
        for text in ["办理 😀👍🏽 é", "护照\U00020000 好", "a", "", " x 好"]:
            ids = ours.encode(text, add_special_tokens=False)
            stream = ours.decode_stream()
            parts = [stream.feed(i) for i in ids]
            assert "".join(parts) + stream.end() == ours.decode(ids) == text
            assert "\ufffd" not in "".join(parts)
            marked = text if ours is tokenizer or not text else " " + text
            assert b"".join(ours.token_bytes(i) for i in ids).decode() == marked
    stream = tokenizer.decode_stream()
    ids = tokenizer.encode("😀")
    assert [stream.feed(i) for i in ids[:-1]] == [""] * (len(ids) - 1)
    assert stream.end() == "\ufffd" and stream.feed(tokenizer.encode("a")[0]) == "a"
    skip = tokenizer.decode_stream(skip_special_tokens=True)
    assert skip.feed(0) == "" and tokenizer.token_bytes(0) == b"<|endoftext|>" and tokenizer.token_bytes(10**6) == b""


def test_text_streamer(tokenizer: PreTrainedTokenizerFast) -> None:
    file = io.StringIO()
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, file=file)
    streamer.put([tokenizer.encode("提示")])
    for index in [*tokenizer.encode("办理😀"), 0]:
        streamer.put(index)
    streamer.end()
    assert file.getvalue() == "办理😀\n"
    with pytest.raises(ValueError, match="batch of 2"):
        streamer.put([[1], [2]])


# ---- files ---------------------------------------------------------------------------------------------------------------


def test_save_and_load(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    added = [AddedToken("<|im_start|>", normalized=False, special=True), AddedToken("新词")]
    qwen = Qwen2Tokenizer(
        tokenizer._vocabulary, tokenizer._merge_list(), model_max_length=99, chat_template="{{ messages[0].content }}"
    )
    qwen.add_tokens(added)
    around = PreTrainedTokenizerFast(
        tokenizer._vocabulary, tokenizer._merge_list(), bos_token="<b>", eos_token="<e>",
        around=(("<b>",), ("<e>",), ("<b>",), ("<e>",), 1), pipeline=Pipeline(split="llama3", prepend="missing", trim_offsets=True),
    )  # fmt: skip
    digits = PreTrainedTokenizerFast(tokenizer._vocabulary, tokenizer._merge_list(), pipeline=Pipeline(split="digits"))
    metaspace = llama(pipeline=LlamaTokenizer.default_pipeline._replace(prepend="first"))
    for number, ours in enumerate((tokenizer, qwen, around, digits, llama(), metaspace)):
        ours.save_pretrained(tmp_path / str(number))
        loaded = AutoTokenizer.from_pretrained(tmp_path / str(number))
        assert type(loaded) is type(ours) and loaded.get_vocab() == ours.get_vocab()
        assert loaded.model_max_length == ours.model_max_length and loaded.chat_template == ours.chat_template
        for text in [*TEXTS, "<|im_start|>新词 a<e>", "办理"]:
            options: dict[str, Any] = {"return_offsets_mapping": True}
            assert loaded(text, **options).data == ours(text, **options).data
            assert loaded(text, "办 b").data == ours(text, "办 b").data
        assert loaded.decode(loaded.encode("a政 b")) == ours.decode(ours.encode("a政 b"))
        loaded.save_pretrained(tmp_path / "again")
        assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (tmp_path / str(number) / "tokenizer.json").read_bytes()


def test_vocabulary_and_merges_files(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(tokenizer._vocabulary), encoding="utf-8")
    rows = ["#version: 0.2", *(f"{a} {b}" for a, b in tokenizer._merge_list())]
    (tmp_path / "merges.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), GPT2Tokenizer)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}', encoding="utf-8")
    ours = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(ours, Qwen2Tokenizer) and ours.encode("办理 12") == tokenizer.encode("办理 12")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2TokenizerFast"}', encoding="utf-8")
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path), GPT2Tokenizer)


def test_tiktoken_files(tmp_path: Path) -> None:
    tokens = [bytes((b,)) for b in range(256)] + [b"ab", "政".encode(), b"abc"]
    lines = [base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(tokens)]
    path = tmp_path / "x.tiktoken"
    path.write_bytes(b"\n".join(lines))
    ours = AutoTokenizer.from_pretrained(path)
    assert isinstance(ours, Qwen2Tokenizer) and ours.encode("abc政d") == [258, *"政".encode(), ord("d")]
    assert AutoTokenizer.from_pretrained(tmp_path).encode("abc") == [258]
    for bad, message in (
        (b"!! 1", "line 1"),
        (b"YQ==", "line 1"),
        (b"YQ== 5\nYg== 5", "same rank"),
        (b"", "no tokens"),
        (b"YQ== -1", "-1"),
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=rf"x\.tiktoken.*{message}"):
            AutoTokenizer.from_pretrained(path)


def changed(whole: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(whole))
    at = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return copy  # type: ignore[no-any-return]


def test_unknown_parts_are_refused_by_name(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole = tokenizer._as_tokenizer_json()
    path = tmp_path / "tokenizer.json"
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    cases = {
        "Lowercase": changed(whole, "normalizer", to={"type": "Lowercase"}),
        "NFKC": changed(whole, "normalizer", to={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]}),
        "Whitespace": changed(whole, "pre_tokenizer", to={"type": "Whitespace"}),
        r"expression .*\\\\w": changed(whole, "pre_tokenizer", "pretokenizers", 0, "pattern", to={"Regex": r"\w+"}),
        "two pre-tokenizers": changed(whole, "pre_tokenizer", "pretokenizers", to=[level, level]),
        "neither ByteLevel": changed(whole, "pre_tokenizer", to=None),
        "decoder BPEDecoder": changed(whole, "decoder", to={"type": "BPEDecoder"}),
        "RobertaProcessing": changed(whole, "post_processor", to={"type": "RobertaProcessing"}),
        "dropout": changed(whole, "model", "dropout", to=0.1),
        "end_of_word_suffix": changed(whole, "model", "end_of_word_suffix", to="</w>"),
        "WordLevel": changed(whole, "model", "type", to="WordLevel"),
        "no vocabulary": changed(whole, "model", "vocab", to={}),
        "id -1": changed(whole, "model", "vocab", "a", to=-1),
        "id 9999999": changed(whole, "model", "vocab", "a", to=9999999),
        "not in the vocabulary": changed(whole, "model", "merges", to=[["a", "none"]]),
        "no merge": changed(whole, "model", "merges", to=["a b c"]),
    }
    for message, file in cases.items():
        path.write_text(json.dumps(file), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            PreTrainedTokenizerFast.from_pretrained(path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CodeGenTokenizer"}', encoding="utf-8")
    with pytest.raises(ValueError, match="CodeGenTokenizer"):
        AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        AutoTokenizer.from_pretrained(tmp_path / "nowhere")


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(out)), rng.randint(1, 40)
        choice = rng.randrange(5)
        if choice == 0:
            out[at] = rng.randrange(256)
        elif choice == 1:
            del out[at:]
        elif choice == 2:
            out[at:at] = out[at : at + size]
        elif choice == 3:
            del out[at : at + size]
        else:
            out[at : at + 1] = rng.choice((b"null", b"-1", b"[]", b"{}", b'""', b"1e99", b"true", b"99999999999999999999"))
        if not out:
            return b""
    return bytes(out)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    """Seeded mutations of every kind of file: loaded, or a ValueError of one line that names the file."""
    vocabulary = {character: byte for character, byte in BYTES.items()} | {"ab": 256, "abc": 257}
    small = PreTrainedTokenizerFast(vocabulary, [("a", "b"), ("ab", "c")], bos_token="<b>", pipeline=Pipeline(split="qwen2"))
    small.save_pretrained(tmp_path / "good")
    whole = json.loads((tmp_path / "good" / "tokenizer.json").read_text(encoding="utf-8"))
    compact = {
        "tokenizer.json": json.dumps(whole, ensure_ascii=False).encode(),
        "tokenizer_config.json": (tmp_path / "good" / "tokenizer_config.json").read_bytes(),
    }
    lines = b"\n".join(base64.b64encode(bytes((b,))) + b" %d" % b for b in range(256))
    rng = random.Random(99)
    refused = 0
    for number in range(600):
        folder = tmp_path / "bad"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        if number % 3 == 2:
            (folder / "x.tiktoken").write_bytes(mutated(rng, lines))
        else:
            for name, data in compact.items():
                damaged = mutated(rng, data) if (number % 3 == 0) == (name == "tokenizer.json") else data
                (folder / name).write_bytes(damaged)
        try:
            AutoTokenizer.from_pretrained(folder).encode("abc 政务 12")
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            assert "\n" not in str(error) and "bad" in str(error), (number, str(error))
    assert 150 < refused < 600


def test_hostile_ranks_end_soon() -> None:
    """Ranks that no training gives; nested tokens that would merge in too many ways."""
    long = {"a" * n: 254 + n for n in range(2, 200)}
    vocabulary = {character: byte for character, byte in BYTES.items()} | long
    order = [*range(256), *(500 - n for n in range(2, 200))]
    ours = PreTrainedTokenizerFast(vocabulary, ranks=order)
    assert b"".join(ours.token_bytes(i) for i in ours.encode("a" * 5000)) == b"a" * 5000
    with pytest.raises(ValueError, match="merges or ranks"):
        PreTrainedTokenizerFast(vocabulary)
    with pytest.raises(ValueError, match="vocabulary has 2000000"):
        PreTrainedTokenizerFast({"a": 2_000_000}, [])


def test_marks_in_any_number() -> None:
    """Composition sorts many marks in a moment, not in the square of that; and is NFC."""
    ours = Qwen2Tokenizer(dict(BYTES), [])
    for text in ("e" + "\u0301\u0327" * 5_000, "e\u0327\u0301x\u1100\u1161\u11a8", "\u0958 a\u030a\u212b", "\u0f73\u0f71"):
        assert ours.decode(ours.encode(text)) == unicodedata.normalize("NFC", text)


def test_gguf_metadata() -> None:
    tokens = [*(text_of(bytes((b,))) for b in range(256)), "ab", "<|end|>"]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [3], "tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.eos_token_id": 257,
    }  # fmt: skip
    ours = tokenizer_of_metadata(metadata)
    assert ours.encode("ab<|end|>") == [256, 257] and ours.eos_token_id == 257 and ours.bos_token_id is None
    for key, value, message in (
        ("tokenizer.ggml.model", "rwkv", "rwkv"), ("tokenizer.ggml.pre", "deepseek", "deepseek"), ("tokenizer.ggml.tokens", [], "tokens"),
        ("tokenizer.ggml.eos_token_id", 300, "eos_token_id 300"), ("tokenizer.ggml.merges", ["a"], "merges"),
        ("tokenizer.ggml.merges", ["a zz"], "zz"), ("tokenizer.ggml.token_type", [1], "type"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            tokenizer_of_metadata(metadata | {key: value})


# ---- training --------------------------------------------------------------------------------------------------------------


def test_training(corpus: Path, tmp_path: Path) -> None:
    ours = train_bpe(corpus, 500, special_tokens=["<|endoftext|>", "<|pad|>"])
    assert ours.vocab_size == 500 and ours.convert_tokens_to_ids(["<|endoftext|>", "<|pad|>"]) == [0, 1]
    assert ours.encode("<|pad|>") == [1] and ours.all_special_ids == [0, 1]
    two = tmp_path / "halves"
    two.mkdir()
    lines = corpus.read_text(encoding="utf-8").split("\n")
    for name, part in (("a", lines[:200]), ("b", lines[200:])):
        (two / name).write_text("\n".join(part) + "\n", encoding="utf-8")
    again = train_bpe([two / "a", two / "b"], 500, special_tokens=["<|endoftext|>", "<|pad|>"])
    assert again._merge_list() == ours._merge_list()
    assert train_bpe(corpus, 257)._merge_list() == []
    few = train_bpe(corpus, 5000, min_frequency=50)
    assert 257 < few.vocab_size < 5000
    with pytest.raises(ValueError, match="no room"):
        train_bpe(corpus, 100)
    with pytest.raises(ValueError, match="at least one file"):
        train_bpe([], 300)


# ---- templates -----------------------------------------------------------------------------------------------------------

MESSAGES = [{"role": "user", "content": "护照怎么办？"}, {"role": "assistant", "content": "到窗口。"}]
PLAIN = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    ours = PreTrainedTokenizerFast(
        tokenizer._vocabulary, tokenizer._merge_list(), chat_template={"default": PLAIN, "tool_use": "T"}
    )
    text = "<user>护照怎么办？\n<assistant>到窗口。\n"
    assert ours.apply_chat_template(MESSAGES, tokenize=False) == text
    assert ours.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True) == text + "<assistant>"
    assert ours.apply_chat_template(MESSAGES, tokenize=False, continue_final_message=True) == text[:-1]
    assert ours.apply_chat_template(MESSAGES) == ours.encode(text, add_special_tokens=False)
    assert ours.apply_chat_template([MESSAGES, MESSAGES[:1]], return_dict=True)["input_ids"][0] == ours.encode(text)
    assert ours.apply_chat_template(MESSAGES, tools=[{}], tokenize=False) == "T"
    assert ours.apply_chat_template(MESSAGES, chat_template="{{ x }}{{ eos_token }}", x=5, tokenize=False) == "5"
    date = (
        "{{ strftime_now('%Y-%m') }}{% generation %}!{% endgeneration %}{{ ['a', 'b']|join('-') }}{{ 'aXa'|replace('a', 'b') }}"
    )
    assert ours.apply_chat_template([], chat_template=date, now=datetime(2025, 3, 1), tokenize=False) == "2025-03!a-bbXb"
    assert (
        ours.apply_chat_template([], chat_template="{{ {'k': '办'}|tojson }}{{ 'a' ~ (1 + 2) }}", tokenize=False)
        == '{"k": "办"}a3'
    )
    with pytest.raises(ValueError, match="give now="):
        ours.apply_chat_template([], chat_template=date)
    with pytest.raises(ValueError, match="no chat_template"):
        tokenizer.apply_chat_template(MESSAGES)


GROW = "{%% set ns = namespace(a=%s) %%}{%% for i in range(60) %%}{%% set ns.a = %s %%}{%% endfor %%}{{ ns.a }}"
ATTACKS = {
    "class": ("{{ ''.__class__.__mro__ }}", "__class__"),
    "attribute filter": ("{{ ''|attr('__class__') }}", "attr"),
    "self": ("{{ self.__init__.__globals__ }}", "__init__"),
    "lipsum": ("{{ lipsum.__globals__ }}", "lipsum"),
    "change": ("{{ messages.append(1) }}", "append"),
    "file": ("{% include '/etc/passwd' %}", "loader"),
    "loops": ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"),
    "range": ("{% for i in range(10**9) %}{% endfor %}", "forbidden"),
    "long range": ("{% for i in range(1000000000) %}{% endfor %}", "too long"),
    "power": ("{{ 9**9**9 }}", "forbidden"),
    "digits": (GROW % ("9", "ns.a * ns.a"), "digits"),
    "concatenation": (GROW % ("'x'", "ns.a ~ ns.a"), "characters"),
    "hidden concatenation": (GROW % ("'x'", "(ns.a ~ ns.a)|upper if true else 1"), "characters"),
    "addition": (GROW % ("'x'", "ns.a + ns.a"), "characters"),
    "nesting": (GROW % ("['x']", "[ns.a, ns.a]"), "characters"),
    "replace": (GROW % ("'xxxx'", "ns.a.replace('x', ns.a)"), "characters"),
    "replace filter": (GROW % ("'xxxx'", "ns.a|replace('x', ns.a)"), "characters"),
    "join": (GROW % ("'xxxx'", "ns.a.join(ns.a|list)"), "characters"),
    "repetition": ("{{ 'x' * 10000000000 }}", "forbidden"),
    "format": ("{{ '{:>1000000000}'.format(1) }}", "format"),
    "percent": ("{{ '%1000000000d' % 1 }}", "forbidden"),
    "padding": ("{{ 'x'.ljust(10000000000) }}", "ljust"),
    "recursion": ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "recursion"),
    "macros": ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "steps"),
    "own words": ("{{ raise_exception('only users') }}", "only users"),
    "syntax": ("{% if %}", "Expected"),
    "missing": ("{{ messages[0].nope.more }}", "nope"),
    "size": ("x" * (1 << 20) + "y", "too many"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_templates_that_attack(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    template, message = ATTACKS[name]
    with pytest.raises(ValueError, match=message):
        tokenizer.apply_chat_template(MESSAGES, chat_template=template)
    assert len(MESSAGES) == 2


def test_command_line(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    command = [sys.executable, "-m", "govlm", "tokenize", "--model", str(tmp_path), "--ids", "办理 12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(i) for i in tokenizer.encode("办理 12")]


def test_import_stays_light() -> None:
    code = "import sys, govlm.tokenizers; print([m for m in ('jinja2', 'torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.strip() == "[]", done.stderr
