"""Rules of normalisation made here: what the double array holds is what went in, and nmt_nfkc is NFKC with what it adds."""

from __future__ import annotations

import random
import struct
import unicodedata

import pytest
from test_unigram import LINES

from govlm.tokenizers.charsmap import charsmap_bytes
from govlm.tokenizers.sentencepiece import NormalizerSpec, model_bytes, parse_model
from govlm.tokenizers.unigram import UnigramTokenizer
from govlm.tokenizers.unigram_training import train_unigram_from_lines


def read(data: bytes) -> dict[str, str]:
    """The rules of a charsmap, by a walk over its double array."""
    (size,) = struct.unpack("<I", data[:4])
    units, pool = struct.unpack(f"<{size // 4}I", data[4 : 4 + size]), data[4 + size :]
    found = {}
    todo = [(0, b"")]
    while todo:
        place, key = todo.pop()
        base = place ^ units[place] >> 10
        if units[place] >> 8 & 1:
            value = units[base] & 0x7FFFFFFF
            found[key.decode()] = pool[value : pool.index(b"\0", value)].decode()
        for label in range(1, 256):
            if (base ^ label) < len(units) and units[base ^ label] & 0x800000FF == label:
                todo.append((base ^ label, key + bytes([label])))
    return found


def test_what_goes_in_comes_out() -> None:
    rng = random.Random(5)
    alphabet = [*"abcdeé中国字😀\x01\u3000", *map(chr, range(0x4E00, 0x4F00))]
    for count in (1, 2, 50, 3000):
        rules = {"".join(rng.choices(alphabet, k=rng.randint(1, 4))): "".join(rng.choices("xyz国", k=rng.randint(0, 3)))
                 for _ in range(count)}  # fmt: skip
        assert read(charsmap_bytes(rules)) == rules


def test_a_model_applies_the_longest_rule() -> None:
    rules = {"a": "1", "ab": "2", "abcd": "3", "国": "", "国家": "家国"}
    spec = NormalizerSpec(name="user", precompiled_charsmap=charsmap_bytes(rules), add_dummy_prefix=False)
    tokenizer = UnigramTokenizer(train_unigram_from_lines(LINES, 300, normalizer=spec))
    assert tokenizer.normalize("abcabcdacab国家国") == "2c31c2家国"


@pytest.mark.parametrize(
    ("rules", "message"),
    [({}, "at least one rule"), ({"": "a"}, "empty"), ({"a\0": "b"}, "NUL"), ({"a": "\0"}, "NUL"), ({"\ud800": "a"}, "surrogate")],
)  # fmt: skip
def test_rules_that_cannot_be_written(rules: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        charsmap_bytes(rules)


def test_nmt_nfkc() -> None:
    model = parse_model(model_bytes(train_unigram_from_lines(LINES, 300, normalizer="nmt_nfkc")))
    assert (model.normalizer.name, model.normalizer.normalization_rule_tsv) == ("nmt_nfkc", "")
    tokenizer = UnigramTokenizer(model)

    def normal(text: str) -> str:
        return tokenizer.normalize(text).removeprefix("▁").replace("▁", " ")

    for text, expected in [
        ("ＡＢＣ１２３，：（）", "ABC123,:()"), ("㈱ ① ﬁ ㎡", "(株) 1 fi m2"), ("ｶﾞｷﾞ", "ガギ"), ("\u1112\u1161\u11ab\u1100", "한\u1100"),
        ("Ａ\u0301\u200b零\x01宽", "Á 零宽"), ("2020年～2024年", "2020年～2024年"), ("a\tb\r\nc", "a b c"), ("\ufeff文　件\x7f", "文 件"),
    ]:  # fmt: skip
        assert normal(text) == expected
    for code in range(0xA1, 0x3400):
        char = chr(code)
        if (
            unicodedata.category(char)[0] in "LNPS" and char != "▁"
        ):  # and none of the marks and separators, which have ways of their own
            assert normal(f"x{char}x") == unicodedata.normalize("NFKC", f"x{char}x"), hex(code)
    with pytest.raises(ValueError, match='"nmt_nfkc", "identity" or the rules of a model, not \'nfkd\''):
        train_unigram_from_lines(LINES, 300, normalizer="nfkd")
