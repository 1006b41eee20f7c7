"""The tokenizer against transformers' on the same vocabulary: real text, every code point, hostile strings, every argument.

Real data lies beside the project in ../shared/data; a sample of it is read in the normal run, all of it under GOVLM_FULL=1.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govlm.tokenizers import AddedToken, BertTokenizer

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

HERE = Path(__file__).resolve().parent
VOCAB = HERE / "golden" / "tokenizer" / "vocab.txt"
DATA = HERE.parent.parent / "shared" / "data"
FULL = bool(os.environ.get("GOVLM_FULL"))
KINDS: dict[str, dict[str, Any]] = {
    "uncased": {"do_lower_case": True},
    "cased": {"do_lower_case": False},
    "accents": {"do_lower_case": True, "strip_accents": False},
    "cased stripped": {"do_lower_case": False, "strip_accents": True},
    "no ideographs": {"do_lower_case": True, "tokenize_chinese_chars": False},
}
ADDED: dict[str, list[tuple[str, dict[str, bool]]]] = {
    "none": [],
    "normalized": [
        ("新词", {}),
        ("Abc é", {}),
        ("ée", {"single_word": True}),
        ("a", {"single_word": True, "lstrip": True, "rstrip": True}),
    ],
    "raw": [
        ("新词", {"normalized": False}),
        ("A", {"normalized": False, "single_word": True}),
        ("!!", {"normalized": False, "lstrip": True, "rstrip": True}),
        ("é", {"normalized": False}),
    ],
}


def both(kind: str = "uncased", added: str = "none") -> tuple[BertTokenizer, Any]:
    ours, theirs = BertTokenizer(VOCAB, **KINDS[kind]), transformers.BertTokenizer(str(VOCAB), **KINDS[kind])
    if ADDED[added]:
        ours.add_tokens([AddedToken(text, **flags) for text, flags in ADDED[added]])
        theirs.add_tokens([tokenizers.AddedToken(text, **flags) for text, flags in ADDED[added]])
    return ours, theirs


PAIR = both()


def assert_equal(ours: BertTokenizer, theirs: Any, texts: list[str]) -> None:
    expected = theirs(texts, return_offsets_mapping=True)
    got = ours(texts, return_offsets_mapping=True)
    packed = ours.encode_packed(texts)
    for row, text in enumerate(texts):
        assert got["input_ids"][row] == expected["input_ids"][row], repr(text)
        assert got["offset_mapping"][row] == expected["offset_mapping"][row], repr(text)
        assert got.word_ids(row) == expected.word_ids(row), repr(text)
        part = packed.ids[packed.row_splits[row] : packed.row_splits[row + 1]]
        assert part.tolist() == expected["input_ids"][row], repr(text)


# ---- characters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_point(kind: str) -> None:
    """Alone, and between letters: each class decides something else."""
    ours, theirs = both(kind)
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    if not FULL:  # the planes that have characters, thinned where they are all alike
        codes = [c for c in codes if c < 0x3000 or (c < 0x20000 and c % 7 == 3) or c % 97 == 5]
    for start in range(0, len(codes), 8192):
        texts = [f"a{chr(c)}b" for c in codes[start : start + 8192]]
        texts.append("".join(chr(c) for c in codes[start : start + 8192]))
        ids, splits, starts, ends, _ = ours._native.encode(texts, offsets=True)
        for row, encoding in enumerate(theirs._tokenizer.encode_batch(texts, add_special_tokens=False)):
            part = slice(splits[row], splits[row + 1])
            assert ids[part].tolist() == encoding.ids, ascii(texts[row][:20])
            assert list(zip(starts[part].tolist(), ends[part].tolist(), strict=True)) == encoding.offsets, ascii(
                texts[row][:20]
            )


# Characters that meet the rare rules: marks that stay and move, several letters from one, removed and white ones.
HARD = "\u302e\u302f\u0301\u0323\u0345\u0334\u0344\U00016ff0\U0001d165\U0001d16d\u094d\u00e9\u1e69\uac01"
HARD += "\uf900\u4e00\U00020000\u0130\u03a3\u00df\u226e\u037e\0\x85\x0b\u2028\u200d\ufeff\ufffdaA !\u0bca\u1100\u11a8"
HARD += "\U0001d15e\U0001f600\uff21\u3042\u0378[]#政务"
characters = st.one_of(st.sampled_from(HARD), st.characters(exclude_categories=("Cs",)))
strings = st.one_of(
    st.text(characters, max_size=20),
    st.lists(st.sampled_from([*HARD, "[MASK]", " [SEP]", "[MASK", "新词", "Abc é", "ée", "!!"]), max_size=12).map("".join),
)


@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("kind", KINDS)
def test_any_string(kind: str, added: str) -> None:
    ours, theirs = both(kind, added)

    @settings(max_examples=1000 if FULL else 60, deadline=None)
    @given(st.lists(strings, min_size=1, max_size=8))
    def run(texts: list[str]) -> None:
        assert_equal(ours, theirs, texts)

    run()


def test_long_and_empty() -> None:
    ours, theirs = PAIR
    for text in ("", " ", "a" * 100, "a" * 101, "é" * 100, "각" * 34, "\0" * 1000, "法" * 70000, "x" * 300 + "，" + "y" * 5):
        assert_equal(ours, theirs, [text])
    for text in ("a" * 1_000_000, "\u302e\u0301\u0323\u0345" * 250_000, "\u0345" * 300_000 + "\u302e"):
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("text", ["\ud800", "好\udfff好", "[MASK]\ud800", "\u302ea\udc00"])
def test_lone_surrogates_raise_as_there(text: str) -> None:
    ours, theirs = PAIR
    with pytest.raises((TypeError, ValueError)):
        theirs(text)
    for call in (lambda: ours(text), lambda: ours.encode_packed(["好", text]), lambda: ours.tokenize(text)):
        with pytest.raises((TypeError, ValueError), match="surrogate"):
            call()


# ---- arguments -------------------------------------------------------------------------------------------------------

words = st.text(st.sampled_from("政务服务大厅办理社保 abc,。12é"), max_size=14)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([False, True, "longest", "max_length", "do_not_pad"]),
        "truncation": st.sampled_from([False, True, None, "longest_first", "only_first", "only_second", "do_not_truncate"]),
        "max_length": st.integers(3, 14),
        "pad_to_multiple_of": st.sampled_from([2, 8]),
        "padding_side": st.sampled_from(["left", "right"]),
        "add_special_tokens": st.booleans(),
        "stride": st.integers(0, 3),
        "return_overflowing_tokens": st.booleans(),
        "return_special_tokens_mask": st.booleans(),
        "return_offsets_mapping": st.booleans(),
        "return_length": st.booleans(),
        "return_token_type_ids": st.booleans(),
        "return_attention_mask": st.booleans(),
    },
)


def compare_call(ours: BertTokenizer, theirs: Any, *texts: Any, **options: Any) -> None:
    try:
        expected = theirs(*texts, **options, verbose=False)
    except BaseException as error:  # a panic of the reference's core is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        try:
            ours(*texts, **options)
        except (ValueError, TypeError):
            return
        raise AssertionError(f"no error for {texts} with {options}, but there: {error!r}") from None
    got = ours(*texts, **options, verbose=False)
    assert set(got) == set(expected), options
    for name in expected:
        assert np.array_equal(np.asarray(got[name], object), np.asarray(expected[name], object)), (name, texts, options)


@pytest.mark.filterwarnings("ignore:.max_length. is ignored")
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_argument(side: str) -> None:
    ours, theirs = both()
    ours.truncation_side = theirs.truncation_side = side
    ours.padding_side = theirs.padding_side = side

    @settings(max_examples=3000 if FULL else 250, deadline=None)
    @given(st.data(), arguments)
    def run(data: Any, options: dict[str, Any]) -> None:
        batch = data.draw(st.lists(words, min_size=1, max_size=3))
        pairs = data.draw(st.one_of(st.none(), st.lists(words, min_size=len(batch), max_size=len(batch))))
        if data.draw(st.booleans()):
            compare_call(ours, theirs, batch, pairs, **options)
        else:
            compare_call(ours, theirs, batch[0], pairs and pairs[0], **options)

    run()


def test_words_given() -> None:
    ours, theirs = PAIR
    for text in (["政务", "服务abc", "", "12"], [["a", "政务大厅"], ["好。"]]):
        expected = theirs(text, is_split_into_words=True, return_offsets_mapping=True)
        got = ours(text, is_split_into_words=True, return_offsets_mapping=True)
        assert dict(got) == dict(expected)
        assert got.word_ids(0) == expected.word_ids(0)


def test_arrays() -> None:
    ours, theirs = PAIR
    texts = ["请帮我查询社保缴纳情况", "我要办证"]
    options = {"padding": "max_length", "max_length": 16, "truncation": True, "return_tensors": "np"}
    expected, got = theirs(texts, **options), ours(texts, **options)
    for name in expected:
        assert got[name].dtype == expected[name].dtype and np.array_equal(got[name], expected[name])
    single = ours.encode_plus(texts[0], **options)
    assert single["input_ids"].shape == (1, 16) and single.input_ids.flatten().shape == (16,)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(PAIR[1]) - 1), max_size=12), st.booleans(), st.sampled_from([None, True, False]))
def test_decode(ids: list[int], skip: bool, tidy: bool | None) -> None:
    ours, theirs = PAIR
    options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": tidy}
    assert ours.decode(ids, **options) == theirs.decode(ids, **options)
    assert ours.convert_ids_to_tokens(ids, skip) == theirs.convert_ids_to_tokens(ids, skip)
    tokens = theirs.convert_ids_to_tokens(ids)
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_saved_here_loads_there_and_back(kind: str, tmp_path: Path) -> None:
    ours, theirs = both(kind, "raw")
    texts = ["政务Service ÉCOLE [MASK] 新词!! A", "Ünï 123。"]
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        loaded = BertTokenizer.from_pretrained(tmp_path / folder)
        reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path / folder))
        assert_equal(loaded, theirs, texts)
        assert_equal(loaded, reference, texts)
        assert loaded.get_vocab() == theirs.get_vocab() and len(loaded) == len(theirs)


# ---- real text -------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> Iterator[str]:
    openers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    with openers.get(path.suffix, open)(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def real_files() -> list[Path]:
    if not DATA.is_dir():
        return []
    found = [p for folder in ("corpus", "laws", "gov", "fewclue") for p in sorted((DATA / folder).rglob("*")) if p.is_file()]
    return [*found, DATA / "test_vectors" / "unicode15" / "NormalizationTest.txt"]


def test_real_text() -> None:
    """Every line (a spread of each file without GOVLM_FULL): ids and offsets."""
    files = real_files()
    if not files:
        pytest.skip(f"{DATA} is not here: no real text to compare on")
    vocab = DATA / "vocab" / "bert-base-chinese" / "vocab.txt"
    ours, theirs = BertTokenizer(vocab), transformers.BertTokenizer(str(vocab))
    for path in files:
        lines = lines_of(path)
        if not FULL:
            lines = islice(lines, 0, 4000, 20)
        while batch := list(islice(lines, 20000)):
            ids, splits, starts, ends, _ = ours._native.encode(batch, offsets=True)
            for row, encoding in enumerate(theirs._tokenizer.encode_batch(batch, add_special_tokens=False)):
                part = slice(splits[row], splits[row + 1])
                assert ids[part].tolist() == encoding.ids, f"{path.name}: {batch[row][:80]!r}"
                spans = list(zip(starts[part].tolist(), ends[part].tolist(), strict=True))
                assert spans == encoding.offsets, f"{path.name}: {batch[row][:80]!r}"


def test_normalization_test_lines() -> None:
    path = DATA / "test_vectors" / "unicode15" / "NormalizationTest.txt"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    texts: list[str] = []
    for line in lines_of(path):
        fields = line.split("#")[0].split(";")[:5]
        if len(fields) == 5:
            texts += ["".join(chr(int(code, 16)) for code in field.split()) for field in fields]
    texts = sorted(set(texts)) if FULL else sorted(set(texts))[::9]
    for kind in KINDS:
        ours, theirs = both(kind)
        for start in range(0, len(texts), 4096):
            assert_equal(ours, theirs, texts[start : start + 4096])


def test_published_cases() -> None:
    path = DATA / "test_vectors" / "bert_tokenizer" / "cases.json"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    for case in json.loads(path.read_text(encoding="utf-8"))["basic"]:
        vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}
        for token in case["tokens"]:
            vocabulary.setdefault(token, len(vocabulary))
        options = {k: v for k, v in case["kw"].items() if k in ("do_lower_case", "strip_accents")}
        if len(options) == len(case["kw"]):
            assert BertTokenizer(vocabulary, **options).tokenize(case["text"]) == case["tokens"], case
