"""Ids, offsets and normal forms beside sentencepiece's and HF tokenizers', over models trained here and the shared ones."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_unigram import LINES, sentences

from govlm.tokenizers.sentencepiece import SentencePieceModel, model_bytes, parse_model, read_model
from govlm.tokenizers.unigram import T5Tokenizer, UnigramTokenizer
from govlm.tokenizers.unigram_training import train_unigram_from_lines

sentencepiece = pytest.importorskip("sentencepiece")
DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
MODELS = ("uer/cluecorpussmall_spm.model", "cpm1/chinese_vocab.model", "chinese-llama/chinese_sp.model")
TEXTS = [
    "", " ", "  a  b ", "　全角　空格　", "é e\u0301 ï ﬁ ㈱ Ａｐｐ１２", "▁", "a▁▁b▁ ", "\u200b零宽\x01", "😀😀 你好😀", "ｶﾞｷﾞ가각", "[MASK]今天 [MASK]",
    "\r\n\r\n换行\r\n", "\0abc\0", "ﷺ", "① ② ③，：（）", "a\u0301\u0323q\u0323\u0307", "\u00a0x\u00a0", "<s>你好</s><unk>", "。。。…………", "1/2 ½ ½½",
    "𠀀𪚥㐀", "가\u11a8", "Ａ\u0301", *LINES[:6],
]  # fmt: skip


def trained(**options: Any) -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        **{
            "sentence_iterator": iter(LINES * 3), "model_writer": out, "model_type": "unigram", "vocab_size": 190,
            "character_coverage": 1.0, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1, **options,
        }
    )  # fmt: skip
    return out.getvalue()


def assert_same(data: bytes, texts: list[str]) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    ours = UnigramTokenizer(parse_model(data))
    ids, splits, starts, ends, _ = ours._native.encode(texts, offsets=True)
    # the special pieces' own names are added tokens of ours, plain text to sentencepiece
    for row, text in enumerate(texts):
        if any(token in text for token in ours.all_special_tokens):
            continue
        a, b = int(splits[row]), int(splits[row + 1])
        assert ids[a:b].tolist() == theirs.encode(text), text
        assert ours.normalize(text) == theirs.normalize(text), text
        bytes_before = np.cumsum([0, *(len(c.encode()) for c in text)])
        spans = [(p.begin, p.end) for p in theirs.encode(text, return_type="proto").pieces]
        assert list(zip(bytes_before[starts[a:b]].tolist(), bytes_before[ends[a:b]].tolist(), strict=True)) == spans, text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "nfkc_cf", "byte_fallback": True, "vocab_size": 450},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False, "user_defined_symbols": ["[MASK]", "网上办事", " x"]},
        {"treat_whitespace_as_suffix": True},
    ],
    ids=["nmt_nfkc", "bytes", "identity", "symbols", "suffix"],
)
def test_equals_sentencepiece(options: dict[str, Any]) -> None:
    assert_same(trained(**options), [*TEXTS, "".join(LINES) * 200])


def test_our_nmt_nfkc_is_theirs() -> None:
    """A model trained here with nmt_nfkc, read by sentencepiece, normalises as one that sentencepiece trained: every character that
    this Python's Unicode knows (sentencepiece's may be younger), and sequences of those that compose."""
    model = train_unigram_from_lines(LINES, 300, normalizer="nmt_nfkc")
    theirs = sentencepiece.SentencePieceProcessor(model_proto=trained())
    ours = sentencepiece.SentencePieceProcessor(model_proto=model_bytes(model))
    codes = [*range(1, 0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200)]
    known = [chr(code) for code in codes if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]
    mistaken = [char for char in known if ours.normalize(f"x{char}x") != theirs.normalize(f"x{char}x")]
    assert not mistaken
    assert len(known) > 135_000
    rng = random.Random(7)
    composing = [char for char in known if unicodedata.combining(char) or unicodedata.decomposition(char)]
    composing += [chr(code) for code in range(0x1100, 0x1200)] * 8
    for _ in range(5_000):
        text = "".join(rng.choices(composing, k=12)) + "".join(
            rng.choices("aAeosuガｶﾞ가\u1100\u1161\u11a8\u0301\u0323\u0308\uff9e", k=12)
        )
        assert ours.normalize(text) == theirs.normalize(text), ascii(text)
    own = UnigramTokenizer(model)
    assert all(own.normalize(text) == theirs.normalize(text) for text in TEXTS)


@pytest.mark.parametrize("name", MODELS)
def test_equals_sentencepiece_on_laws(name: str) -> None:
    laws = DATA / "laws" / "laws_national.jsonl.gz"
    if not laws.exists():
        pytest.skip("../shared/data is not here")
    with gzip.open(laws, "rt", encoding="utf-8") as file:
        texts = [json.loads(next(file))["text"] for _ in range(40)]
    assert_same((DATA / "vocab" / name).read_bytes(), [*TEXTS, *texts])


def test_reads_every_kind_of_model() -> None:
    path = DATA / "vocab" / "llama2" / "tokenizer.model"
    if not path.exists():
        pytest.skip("../shared/data is not here")
    model, theirs = read_model(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert model.trainer.byte_fallback and not model.normalizer.remove_extra_whitespaces
    assert model.pieces == [theirs.id_to_piece(i) for i in range(len(model))]
    assert model.scores.tolist() == [theirs.get_score(i) for i in range(len(model))]


def test_t5_equals_hf_tokenizers(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model = parse_model(trained(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    T5Tokenizer(model, extra_ids=10).save_pretrained(tmp_path)
    ours = T5Tokenizer.from_pretrained(tmp_path)
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    whole = transformers.T5Tokenizer.from_pretrained(str(tmp_path))
    texts = [t for t in TEXTS if "▁" not in t and "\u0301" not in t]  # where HF tokenizers leaves sentencepiece's way
    texts += ["申请<extra_id_0>办理 <extra_id_9>，</s>再", "".join(LINES) * 30]
    for text in texts:
        ids = ours(text)["input_ids"]
        assert ids == plain.encode(text).ids, text
        assert ids == whole(text)["input_ids"], text
        assert ours.decode(ids) == plain.decode(ids, skip_special_tokens=False), text
    assert ours(LINES[0], LINES[1])["input_ids"] == plain.encode(LINES[0], LINES[1]).ids
    assert ours.convert_tokens_to_ids("<extra_id_0>") == whole.convert_tokens_to_ids("<extra_id_0>")


def test_sentencepiece_reads_what_is_trained_here() -> None:
    """The vocabulary fits the text as well as sentencepiece's own, within a percent, and sentencepiece reads it."""
    train, held_out = sentences(4000, 1), sentences(400, 2)
    theirs = parse_model(trained(sentence_iterator=iter(train), normalization_rule_name="identity", vocab_size=400))
    own = train_unigram_from_lines(train, len(theirs), character_coverage=1.0, special_tokens=("<unk>", "<s>", "</s>"))

    def likelihood(model: SentencePieceModel) -> float:
        ids = UnigramTokenizer(model).encode_packed(held_out, add_special_tokens=False).ids
        return float(model.scores[ids].astype(float).sum())

    reader = sentencepiece.SentencePieceProcessor(model_proto=model_bytes(own))
    assert reader.encode(LINES[0]) == UnigramTokenizer(own)(LINES[0])["input_ids"]
    assert len(own) == len(theirs) and likelihood(own) > 1.01 * likelihood(theirs), (likelihood(own), likelihood(theirs))
