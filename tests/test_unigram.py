"""SentencePiece models and unigram tokenizers without their peers: files, normalisation, pieces, training, hostile input."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from govlm._native import core
from govlm.tokenizers.sentencepiece import (
    ModelType,
    NormalizerSpec,
    PieceType,
    SentencePieceModel,
    TrainerSpec,
    model_bytes,
    parse_model,
    read_model,
    write_model,
)
from govlm.tokenizers.unigram import T5Tokenizer, UnigramTokenizer
from govlm.tokenizers.unigram_training import train_unigram, train_unigram_from_lines

PIECES = ["<pad>", "</s>", "<unk>", "▁", "政务", "服务", "政", "务", "服", "▁政务", "服务大厅", "大", "厅", "a", "b", "😀"]
SCORES = [0.0, 0.0, 0.0, -2.0, -3.0, -3.5, -5.0, -5.0, -5.0, -3.2, -4.0, -6.0, -6.0, -4.5, -4.5, -7.0]
LINES = [
    "申请人应当提交真实、完整的材料，并对其真实性负责。",
    "材料齐全的，窗口应当当场受理；材料不齐全的，应当一次告知。",
    "承诺时限为5个工作日，自受理之日起计算。",
    "网上办事大厅提供政务服务事项的申请、查询和办理。",
    "公民、法人和其他组织可以在网上办事大厅申请办理政务服务事项。",
    "咨询电话12345，工作时间9:00-17:00。",
] * 5


def sentences(count: int, seed: int) -> list[str]:
    """Made up of words of LINES, frequent ones and rare ones."""
    chance = random.Random(seed)
    text = "".join(dict.fromkeys(LINES))
    words = [text[i : i + 1 + i % 4] for i in range(0, len(text) - 4, 2)]
    weights = [1 / (1 + k) for k in range(len(words))]
    return ["".join(chance.choices(words, weights, k=chance.randint(4, 16))) for _ in range(count)]


def small(**changes: object) -> SentencePieceModel:
    types = np.full(len(PIECES), PieceType.NORMAL, np.uint8)
    types[:3] = PieceType.CONTROL, PieceType.CONTROL, PieceType.UNKNOWN
    trainer = TrainerSpec(vocab_size=len(PIECES), unk_id=2, eos_id=1, pad_id=0, bos_id=-1, other=b"\x12\x05small")
    model = SentencePieceModel(list(PIECES), np.array(SCORES, np.float32), types, NormalizerSpec("identity"), trainer)
    for name, value in changes.items():
        setattr(model.normalizer if hasattr(model.normalizer, name) else model.trainer, name, value)
    return model


def tokens(model: SentencePieceModel, text: str) -> list[str]:
    return UnigramTokenizer(model).tokenize(text)


# ---- the file ---------------------------------------------------------------------------------------------------------


def test_file_there_and_back(tmp_path: Path) -> None:
    model = small(remove_extra_whitespaces=False, unk_surface="?")
    write_model(tmp_path / "x.model", model)
    back = read_model(tmp_path / "x.model")
    assert back.pieces == model.pieces and back.trainer == model.trainer and back.normalizer == model.normalizer
    assert np.array_equal(back.scores, model.scores) and np.array_equal(back.types, model.types)
    assert model_bytes(back) == model_bytes(model)


def test_fields_that_are_not_known_stay() -> None:
    extra = b"\xfa\x01\x06[MASK]" + struct.pack("<BBf", 0x55, 0, 0.5)[:0]
    data = model_bytes(small(other=b"")) + b"\x22\x03abc"  # field 4 of the model: self test data
    model = parse_model(data)
    model.trainer.other = extra
    again = parse_model(model_bytes(model))
    assert again.other == b"\x22\x03abc" and again.trainer.other == extra


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no pieces"),
        (b"\x0a\x05ab", "needs 5 bytes"),
        (b"\x0a", "ends inside a number"),
        (b"\x0b\x01", "wire type 3"),
        (b"\xff" * 11, "longer than 10"),
        (b"\x0a\x04\x0a\x02\xff\xfe", "not UTF-8"),
        (b"\x0a\x05\x0a\x01a\x18\x09", "type 9"),
        (b"\x0a\x03\x0a\x01a", "0 pieces of type unknown"),
        (model_bytes(small()).replace(b"\x18\x01", b"\x18\x09", 1), "model_type is 9|type 9"),
        (model_bytes(small(byte_fallback=True)), "256 byte pieces"),
    ],
)
def test_refuses_a_broken_file(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_model(data, "x.model")
    assert str(caught.value).startswith("x.model: ") and "\n" not in str(caught.value)


def test_fuzz() -> None:
    """Changed and truncated files are refused by a ValueError, or make a tokenizer that works."""
    whole = model_bytes(small())
    random_bytes = random.Random(5)
    refused = 0
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(random_bytes.randint(1, 4)):
            data[random_bytes.randrange(len(data))] = random_bytes.randrange(256)
        if random_bytes.random() < 0.3:
            del data[random_bytes.randrange(len(data)) :]
        try:
            tokenizer = UnigramTokenizer(parse_model(bytes(data)))
            assert tokenizer.decode(tokenizer("政务服务 ab")["input_ids"]) is not None
        except ValueError:
            refused += 1
    assert 50 < refused < 600


# ---- pieces -----------------------------------------------------------------------------------------------------------


def test_best_path() -> None:
    assert tokens(small(), "政务服务大厅") == ["▁政务", "服务大厅"]
    assert tokens(small(), "务服大") == ["▁", "务", "服", "大"]
    assert tokens(small(), "政务xy服") == ["▁政务", "<unk>", "服"]  # a run of unknown characters is one
    assert tokens(small(), "😀𠀀") == ["▁", "😀", "<unk>"]
    assert tokens(small(), "") == [] and tokens(small(), "  \u0020") == []


def test_white_space() -> None:
    assert tokens(small(), "  a   b ") == ["▁", "a", "▁", "b"]
    assert tokens(small(remove_extra_whitespaces=False), "a  b") == ["▁", "a", "▁", "▁", "b"]
    assert tokens(small(add_dummy_prefix=False), "a b") == ["a", "▁", "b"]
    assert tokens(small(treat_whitespace_as_suffix=True), "a") == ["a", "▁"]


def test_equal_scores_in_both_precisions() -> None:
    """0.1 + 0.2 style ties: float32 sums and float64 sums may choose differently, and each repeats itself."""
    pieces = ["<unk>", "a", "aa"]
    scores = np.array([0, -9.936723, -6.873814], np.float32)
    types = np.array([2, 1, 1], np.uint8)
    for exact in (False, True):
        native = core.Unigram(pieces, scores, types, add_dummy_prefix=False, exact_sums=exact)
        ids, splits = native.encode(["aaa" * 400] * 2)
        assert np.array_equal(ids[: splits[1]], ids[splits[1] :])
    long = core.Unigram(["<unk>", "a"], np.array([0, -50], np.float32), np.array([2, 1], np.uint8), add_dummy_prefix=False)
    assert long.encode(["a" * 30000])[0].size == 30000  # beyond 100,000 the sums begin again


def test_byte_fallback_and_user_defined() -> None:
    names = [f"<0x{b:02X}>" for b in range(256)]
    pieces = ["<unk>", *names, "▁", "a", "[网址]"]
    types = np.array([2, *[6] * 256, 1, 1, 4], np.uint8)
    model = SentencePieceModel(pieces, np.full(len(pieces), -3, np.float32), types, trainer=TrainerSpec(byte_fallback=True))
    tokenizer = UnigramTokenizer(model)
    found = tokenizer.tokenize("a厅[网址]")
    assert found == ["▁", "a", "<0xE5>", "<0x8E>", "<0x85>", "[网址]"]
    ids = tokenizer.convert_tokens_to_ids(found)
    assert tokenizer.decode(ids) == "a厅[网址]"
    assert b"".join(tokenizer.token_bytes(i, k == 0) for k, i in enumerate(ids)).decode() == "a厅[网址]"


def test_offsets_and_added_tokens() -> None:
    tokenizer = T5Tokenizer(small(), extra_ids=2)
    text = " 政务 <extra_id_0>大厅"
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == ["▁政务", "<extra_id_0>", "▁", "大", "厅", "</s>"]
    assert encoded["input_ids"][1] == len(PIECES) + 1 and len(tokenizer) == len(PIECES) + 2
    spans = [text[a:b] for a, b in encoded["offset_mapping"]]
    assert spans == ["政务", "<extra_id_0>", "", "大", "厅", ""]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        UnigramTokenizer(small())("政\ud800")
    model = small()
    model.trainer.model_type = ModelType.BPE
    with pytest.raises(ValueError, match="BPE, not UNIGRAM"):
        UnigramTokenizer(model)
    model = small()
    model.pieces[5] = model.pieces[4]
    with pytest.raises(ValueError, match="more than once"):
        UnigramTokenizer(model)
    with pytest.raises(ValueError, match="charsmap"):
        UnigramTokenizer(small(precompiled_charsmap=b"\x08\x00\x00\x00rubbish!"))
    with pytest.raises(TypeError, match="scores"):
        core.Unigram(["<unk>"], np.zeros(1), np.full(1, 2, np.uint8))  # type: ignore[arg-type]


# ---- folders ----------------------------------------------------------------------------------------------------------


def test_folder_there_and_back(tmp_path: Path) -> None:
    tokenizer = T5Tokenizer(small(), extra_ids=3)
    tokenizer.save_pretrained(tmp_path)
    texts = ["政务服务大厅 <extra_id_2> a b", "  大  厅", "未知<unk>"]
    expected = [tokenizer(text)["input_ids"] for text in texts]
    assert [T5Tokenizer.from_pretrained(tmp_path)(text)["input_ids"] for text in texts] == expected
    (tmp_path / "tokenizer.json").unlink()
    assert [T5Tokenizer.from_pretrained(tmp_path)(text)["input_ids"] for text in texts] == expected
    assert UnigramTokenizer.from_pretrained(tmp_path / "spiece.model")("政务")["input_ids"] == [9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "BPE", "vocab": []}}, "no unigram"),
        ({"model": {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 5}}, "unk_id"),
        ({"model": {"type": "Unigram", "vocab": [["a"]], "unk_id": 0}}, "index"),
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "***"}}, "base64"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
    ],
)
def test_refuses_a_broken_tokenizer_json(change: dict[str, object], message: str, tmp_path: Path) -> None:
    T5Tokenizer(small(), extra_ids=0).save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        T5Tokenizer.from_pretrained(tmp_path)
    assert "tokenizer.json" in str(caught.value)


# ---- training ---------------------------------------------------------------------------------------------------------


def test_training(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    model = train_unigram(path, 160, character_coverage=1.0, user_defined_symbols=["[网址]"])
    again = train_unigram_from_lines(iter(LINES), 160, character_coverage=1.0, user_defined_symbols=["[网址]"])
    assert model_bytes(model) == model_bytes(again)
    assert model.pieces[:4] == ["<pad>", "</s>", "<unk>", "[网址]"] and len(model) <= 160
    assert set("".join(LINES)) <= set(model.pieces)  # every character is a piece
    assert np.all(np.diff(model.scores[4:]) <= 0)
    tokenizer = UnigramTokenizer(model)
    for line in LINES[:6]:
        ids = tokenizer(line)["input_ids"]
        assert tokenizer.decode(ids) == line and len(ids) < len(line)
    assert max(len(piece) for piece in model.pieces[4:]) >= 4
    # EM found probabilities: they sum to about one (characters that are parts of other pieces only come on top)
    assert 0.5 < float(np.exp(model.scores[4:].astype(float)).sum()) < 1.2


def test_training_refusals() -> None:
    with pytest.raises(ValueError, match="no text"):
        train_unigram_from_lines([], 100)
    with pytest.raises(ValueError, match="characters to cover"):
        train_unigram_from_lines(LINES, 10)
    with pytest.raises(ValueError, match="<unk>"):
        train_unigram_from_lines(LINES, 200, special_tokens=("<pad>",))
    with pytest.raises(ValueError, match="out of range"):
        train_unigram_from_lines(LINES, 200, shrinking_factor=1.5)
