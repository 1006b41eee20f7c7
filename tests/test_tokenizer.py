"""The tokenizer on its own: golden answers of transformers, files, threads, errors, vocabulary training."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from govlm.tokenizers import AddedToken, AutoTokenizer, BertTokenizer, train_wordpiece

GOLDEN = Path(__file__).resolve().parent / "golden" / "tokenizer"
VOCAB = GOLDEN / "vocab.txt"
KINDS: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text(encoding="ascii"))["kinds"]
TEXTS = ["请帮我查询社保缴纳情况", "Café service 12345，[MASK]", "", "周六上班吗？" * 40, "각 \u302e\u0301"]


@pytest.fixture
def tokenizer() -> BertTokenizer:
    return BertTokenizer(VOCAB)


@pytest.mark.parametrize("kind", KINDS)
def test_golden(kind: str) -> None:
    golden = KINDS[kind]
    tokenizer = BertTokenizer(VOCAB, do_lower_case=golden["do_lower_case"])
    texts: list[str] = []
    for call in golden["calls"]:
        got = tokenizer(call["texts"], call.get("pairs"), **call["options"])
        assert set(got) == set(call["result"]), call["options"]
        for name, expected in call["result"].items():
            value = got[name]
            if name == "offset_mapping":
                value = [[list(span) for span in row] for row in value]
            assert value == expected, (name, call["options"])
        if "pairs" not in call:
            texts = call["texts"]
    ids = tokenizer(texts)["input_ids"]
    assert tokenizer.batch_decode(ids) == golden["decoded"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == golden["decoded_plain"]
    assert [tokenizer.tokenize(text) for text in texts] == golden["tokens"]
    packed = tokenizer.encode_packed(texts)
    assert packed.ids.dtype == np.int32 and packed.row_splits.dtype == np.int64
    assert [part.tolist() for part in np.split(packed.ids, packed.row_splits[1:-1])] == ids


def test_packed(tokenizer: BertTokenizer) -> None:
    for limit in (2, 3, 10, 512):
        packed = tokenizer.encode_packed(TEXTS, max_length=limit)
        rows = tokenizer(TEXTS, max_length=limit, truncation=True)["input_ids"]
        assert [part.tolist() for part in np.split(packed.ids, packed.row_splits[1:-1])] == rows
    empty = tokenizer.encode_packed([])
    assert len(empty.ids) == 0 and empty.row_splits.tolist() == [0]
    assert len(tokenizer.encode_packed(["政" * 600], truncation=False).ids) == 602


@pytest.mark.parametrize("width", ["a1，", "政务a", "😀a政"])
def test_every_width_gives_the_same(tokenizer: BertTokenizer, width: str) -> None:
    """One, two and four bytes a character: the text alone decides."""
    head = tokenizer.encode("é a1, ab", add_special_tokens=False)
    both = tokenizer.encode("é a1, ab " + width, add_special_tokens=False)
    assert both == head + tokenizer.encode(width, add_special_tokens=False)


def test_threads_share_one(tokenizer: BertTokenizer) -> None:
    texts = TEXTS * 200
    expected = tokenizer.encode_packed(texts)
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(5):
            got = tokenizer.encode_packed(texts)
            if not (np.array_equal(got.ids, expected.ids) and np.array_equal(got.row_splits, expected.row_splits)):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_results_outlive_the_tokenizer() -> None:
    packed = BertTokenizer(VOCAB).encode_packed(["政务" * 3_000_000])
    copy = packed.ids.copy()
    assert np.array_equal(packed.ids, copy) and len(copy) == 6_000_002


def test_added_tokens(tokenizer: BertTokenizer) -> None:
    size = len(tokenizer)
    assert tokenizer.add_tokens(["随申办", AddedToken("Gov1", single_word=True)]) == 2
    assert tokenizer.add_tokens("随申办") == 0
    assert tokenizer.convert_tokens_to_ids(["随申办", "Gov1"]) == [size, size + 1] and len(tokenizer) == size + 2
    got = tokenizer("用随申办 gov1 xgov1", return_offsets_mapping=True, add_special_tokens=False)
    assert got["input_ids"].count(size) == 1 and got["input_ids"].count(size + 1) == 1
    assert got["offset_mapping"][got["input_ids"].index(size)] == (1, 4)
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<场景>"]}) == 1
    assert tokenizer.decode(tokenizer.encode("<场景>护照"), skip_special_tokens=True).replace(" ", "") == "护照"


def test_special_tokens(tokenizer: BertTokenizer) -> None:
    ids = (
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
        tokenizer.mask_token_id,
    )
    assert ids == (0, 1, 2, 3, 4)
    assert tokenizer.num_special_tokens_to_add() == 2 and tokenizer.num_special_tokens_to_add(pair=True) == 3
    assert tokenizer.build_inputs_with_special_tokens([7], [8, 9]) == [2, 7, 3, 8, 9, 3]
    assert tokenizer.create_token_type_ids_from_sequences([7], [8, 9]) == [0, 0, 0, 1, 1, 1]
    assert tokenizer.get_special_tokens_mask([7], [8, 9]) == [1, 0, 1, 0, 0, 1]
    assert tokenizer.get_special_tokens_mask([2, 7, 3], already_has_special_tokens=True) == [1, 0, 1]
    with pytest.raises(ValueError, match=r"no special token"):
        _ = BertTokenizer({"a": 0}, cls_token="<none>").add_special_tokens({"strange_token": "x"})


def test_pad(tokenizer: BertTokenizer) -> None:
    rows = [tokenizer("护照"), tokenizer("婚姻登记怎么办理")]
    padded = tokenizer.pad([dict(row) for row in rows], padding="max_length", max_length=12, return_tensors="np")
    direct = tokenizer(["护照", "婚姻登记怎么办理"], padding="max_length", max_length=12, truncation=True, return_tensors="np")
    for name in direct:
        assert np.array_equal(padded[name], direct[name])


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_bad_arguments(tokenizer: BertTokenizer) -> None:
    for framework in ("pt", "tf"):
        with pytest.raises(ValueError, match=framework):
            tokenizer("护照", return_tensors=framework)
    for bad in (None, 3, ["a", 3], [b"a"]):
        with pytest.raises((ValueError, TypeError), match=r"str|text"):
            tokenizer(bad)
    with pytest.raises(TypeError, match="str"):
        tokenizer.encode_packed("护照")  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError), match="surrogate U\\+DC80"):
        tokenizer.encode_packed(["好", "坏\udc80"])
    with pytest.raises(ValueError, match="truncation"):
        tokenizer("护照", truncation="sometimes")
    with pytest.raises(ValueError, match="padding"):
        tokenizer("护照", padding="sometimes")
    with pytest.raises(ValueError, match="stride"):
        tokenizer("周六上班吗", truncation=True, max_length=4, stride=2, return_overflowing_tokens=True)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        BertTokenizer.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"vocab\.txt.*line 2"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"vocab\.txt.*empty"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        BertTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}))
    with pytest.raises(ValueError, match=r"tokenizer\.json.*BPE"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_save_and_load(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    tokenizer.add_tokens(["随申办"])
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(tmp_path / "all")
    for left_out in ((), ("tokenizer.json",), ("vocab.txt",), ("tokenizer.json", "special_tokens_map.json")):
        folder = tmp_path / ("without_" + "_".join(left_out))
        tokenizer.save_pretrained(folder)
        for name in left_out:
            (folder / name).unlink()
        loaded = AutoTokenizer.from_pretrained(folder)
        assert loaded.get_vocab() == tokenizer.get_vocab() and loaded.model_max_length == 64
        texts = [*TEXTS, "用随申办"]
        assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]


# ---- training --------------------------------------------------------------------------------------------------------

SENTENCES = [
    f"{place}{thing}怎么办理 apply applied applying {n}"
    for n in range(30)
    for place in ("政务大厅", "社区中心")
    for thing in ("护照", "居住证")
]


def test_training_is_deterministic_and_reads_what_it_is_given(tmp_path: Path) -> None:
    text = "\n".join(SENTENCES) + "\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(text.encode()))
    half = len(SENTENCES) // 2
    (tmp_path / "b.txt").write_text("\n".join(SENTENCES[:half]) + "\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text("\n".join(SENTENCES[half:]), encoding="utf-8")
    whole = train_wordpiece(tmp_path / "a.txt", 80)
    assert whole == train_wordpiece(tmp_path / "a.txt.gz", 80) == train_wordpiece(str(tmp_path / "a.txt.xz"), 80)
    assert whole == train_wordpiece([tmp_path / "b.txt", tmp_path / "c.txt"], 80)
    assert whole == train_wordpiece([tmp_path / "c.txt", tmp_path / "b.txt"], 80)
    assert list(whole)[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and list(whole.values()) == list(range(len(whole)))
    assert len(whole) <= 80 and {"政", "证", "护"} <= set(whole)
    ids = BertTokenizer(whole).encode("".join(SENTENCES[:1]))
    assert whole["[UNK]"] not in ids
    assert len(BertTokenizer(whole).tokenize("apply")) < 5


def test_training_limits(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("一 一 一 二 二 三 aaaa aaaa\n", encoding="utf-8")
    few = train_wordpiece(tmp_path / "a.txt", 100, limit_alphabet=2)
    assert "三" not in few
    assert len(train_wordpiece(tmp_path / "a.txt", 8)) <= 8
    with pytest.raises(FileNotFoundError):
        train_wordpiece(tmp_path / "missing.txt", 100)


# ---- leaks -----------------------------------------------------------------------------------------------------------

LEAK = """
import resource, sys
from govlm.tokenizers import BertTokenizer
path = sys.argv[1]
def turn():
    tokenizer = BertTokenizer(path)
    for _ in range(20):
        tokenizer.encode_packed(["政务服务 service \\u302e\\u0301"] * 2000)
        tokenizer(["护照", "居住证"], return_offsets_mapping=True)
        try:
            tokenizer.encode_packed(["好", "\\ud800"])
        except (TypeError, ValueError):
            pass
for _ in range(3):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(30):
    turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_leak() -> None:
    run = subprocess.run([sys.executable, "-c", LEAK, str(VOCAB)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 4096, "kilobytes grew over 600 batches"
