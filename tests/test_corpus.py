"""Corpora: readers of every format, cleaning, duplicates, shards, and builds that are killed, full, damaged or empty."""

import errno
import gzip
import json
import lzma
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from govlm.cli import main
from govlm.corpus import clean, duplicates, readers, scrub
from govlm.corpus.build import EmptyCorpus, Options, build
from govlm.corpus.readers import Document, Problem, Reader
from govlm.corpus.shards import Corpus, CorpusError, ShardWriter, tokenizer_sha256
from govlm.corpus.words import Encoder
from govlm.numbers import identity_card, luhn
from govlm.tokenizers import BertTokenizer

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data" / "corpus" / "pretrain.train.txt.xz"
HAN = "办理居民身份证需要携带户口簿和照片到派出所申请领取时间为二十天请提前预约窗口材料齐全后受理审批结果将通过短信通知本人也可以网上查询进度"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sentence(draw: random.Random, size: int) -> str:
    return "".join(draw.choice(HAN) for _ in range(size))


def sample_documents(count: int, seed: int = 0) -> list[str]:
    """Documents of several paragraphs; no two are alike."""
    draw = random.Random(seed)
    return ["\n".join(sentence(draw, draw.randint(20, 60)) + "。" for _ in range(draw.randint(1, 4))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    tokens = [*SPECIALS, *sorted(set(HAN)), *"。，！？、：；0123456789", *"abcdefgh", *(f"##{c}" for c in "abcdefgh0123456789")]
    return BertTokenizer({token: index for index, token in enumerate(dict.fromkeys(tokens))})


def texts_of(corpus: Corpus) -> list[str]:
    tokenizer = corpus.tokenizer()
    return [tokenizer.decode(corpus.document(i)).replace(" ", "") for i in range(corpus.documents)]


def flat(text: str) -> str:
    return re.sub(r"\s", "", text)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a corpus but the log, whose times differ."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# ---- shards ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    shard_tokens=st.integers(1, 200),
    vocab_size=st.sampled_from([100, 65536, 65537]),
    seed=st.integers(0, 99),
)
def test_shards_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], shard_tokens: int, vocab_size: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "spool").mkdir()
    draw = np.random.default_rng(seed)
    documents = [(draw.integers(0, vocab_size, n).astype(np.int32), draw.random(n) < 0.5) for n in lengths]
    writer = ShardWriter(folder, folder / "spool", vocab_size, shard_tokens)
    for ids, starts in documents:
        writer.append(ids, starts)
    writer.close()
    write_manifest_of(folder, writer, vocab_size)
    corpus = Corpus(folder)
    assert (corpus.documents, corpus.tokens) == (len(lengths), sum(lengths))
    done = 0
    for index, info in enumerate(corpus.shards):
        shard = corpus.shard(index)
        assert shard.ids.dtype == (np.uint16 if vocab_size <= 65536 else np.int32) and not shard.ids.flags.writeable
        assert info.tokens >= shard_tokens or index == len(corpus) - 1
        ids = np.concatenate([d[0] for d in documents[done : done + info.documents]])
        starts = np.concatenate([d[1] for d in documents[done : done + info.documents]])
        assert np.array_equal(shard.ids, ids)
        assert np.diff(shard.document_splits).tolist() == lengths[done : done + info.documents]
        begin, end = sorted(draw.integers(0, info.tokens + 1, 2).tolist())
        assert np.array_equal(shard.word_starts(begin, end), starts[begin:end])
        assert np.array_equal(shard.word_starts(), starts)
        done += info.documents


def write_manifest_of(folder: Path, writer: ShardWriter, vocab_size: int) -> None:
    from govlm.corpus.shards import write_manifest

    write_manifest(folder, writer.shards, vocab_size=vocab_size, tokenizer_digest="", options={}, statistics={})


def test_writer_goes_back_to_a_saved_state(tmp_path: Path) -> None:
    documents = [np.arange(n, dtype=np.int32) for n in (5, 30, 3, 8, 41, 2, 9)]

    def write(folder: Path, disturbed_at: int | None) -> dict[str, bytes]:
        (folder / "spool").mkdir(parents=True)
        writer = ShardWriter(folder, folder / "spool", 100, 25)
        for index, ids in enumerate(documents):
            if index == disturbed_at:
                state = json.loads(json.dumps(writer.save()))
                for more in documents[:4]:  # work that is lost; it even fills shards
                    writer.append(more[::-1], more > 1)
                writer.abandon()
                writer = ShardWriter(folder, folder / "spool", 100, 25)
                writer.restore(state)
            writer.append(ids, ids % 2 == 0)
        writer.close()
        return {info.file: (folder / info.file).read_bytes() for info in writer.shards}

    expected = write(tmp_path / "whole", None)
    assert len(expected) == 3
    for index in range(len(documents)):
        assert write(tmp_path / str(index), index) == expected


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tokenizer: BertTokenizer) -> Path:
    folder = tmp_path_factory.mktemp("built")
    (folder / "in.txt").write_text("\n\n".join(sample_documents(60)), encoding="utf-8")
    build([folder / "in.txt"], folder / "corpus", tokenizer, Options(shard_tokens=1500, held_out=0.1))
    return folder / "corpus"


@pytest.mark.parametrize("damage", ["a byte", "the end", "all of it"])
def test_a_damaged_shard_is_named_before_it_is_used(built: Path, tmp_path: Path, damage: str) -> None:
    for path in built.glob("*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    victim = tmp_path / "shard-00001.safetensors"
    whole = bytearray(victim.read_bytes())
    if damage == "a byte":
        whole[len(whole) // 2] ^= 1
        victim.write_bytes(whole)
    elif damage == "the end":
        victim.write_bytes(whole[:-1])
    else:
        victim.unlink()
    corpus = Corpus(tmp_path)
    corpus.verify(0)
    corpus.shard(0)
    for use in (corpus.verify, corpus.shard):
        with pytest.raises(CorpusError, match=re.escape(str(victim))):
            use(1)
    assert main(["corpus", "info", str(tmp_path)]) == 0
    assert main(["corpus", "info", str(tmp_path), "--verify"]) == 1


def test_a_manifest_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"corpus\.json"):
        Corpus(tmp_path)
    for text in ("", "[]", "{}", '{"format": 2}', '{"format": 1, "vocab_size": "x"}'):
        (tmp_path / "corpus.json").write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=r"corpus\.json"):
            Corpus(tmp_path)
    entry = {"file": "../x", "sha256": "", "documents": 1, "tokens": 1}
    manifest = {"format": 1, "vocab_size": 9, "tokenizer_sha256": "", "options": {}, "statistics": {}, "shards": [entry]}
    (tmp_path / "corpus.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"\.\./x"):
        Corpus(tmp_path)


# ---- readers ---------------------------------------------------------------------------------------------------------


def read(path: Path, **options: object) -> list[Document | Problem]:
    return list(Reader(**options).read(path))  # type: ignore[arg-type]


def write_packed(path: Path, data: bytes, packing: str) -> Path:
    path = path.with_name(path.name + packing)
    path.write_bytes({"": data, ".gz": gzip.compress(data), ".xz": lzma.compress(data)}[packing])
    return path


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
def test_text(tmp_path: Path, packing: str) -> None:
    raw = "\ufeff第一段。\r\n第二段。\r\n\r\n \u3000\r\n另一个文档。\n\n\n\n第三个\n".encode()
    items = read(write_packed(tmp_path / "a.txt", raw, packing))
    assert [flat(item.text) for item in items if isinstance(item, Document)] == ["第一段。第二段。", "另一个文档。", "第三个"]
    assert clean.normalise(items[0].text) == "第一段。\n第二段。"  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="文字。 \n\t\ra", max_size=80), block=st.integers(1, 7), limit=st.integers(3, 20))
def test_text_does_not_depend_on_blocks(text: str, block: int, limit: int) -> None:
    def documents(blocks: list[str]) -> list[Document]:
        return list(readers._documents(readers._newlines(blocks), limit))

    whole = documents([text])
    assert documents([text[i : i + block] for i in range(0, len(text), block)]) == whole
    assert all(len(item.text) <= limit for item in whole)
    assert "".join(flat(item.text) for item in whole) == flat(text)
    if limit >= len(text):
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        pieces = [piece for piece in re.split(r"\n[ \t]*\n[ \t\n]*", lines) if piece.strip()]
        assert [flat(item.text) for item in whole] == [flat(piece) for piece in pieces]


def test_a_long_line_is_cut_at_sentence_ends(tmp_path: Path) -> None:
    draw = random.Random(3)
    sentences = [sentence(draw, draw.randint(5, 90)) + "。" for _ in range(400)]
    (tmp_path / "line.txt").write_text("".join(sentences), encoding="utf-8")
    parts = [item for item in read(tmp_path / "line.txt", max_chars=1000) if isinstance(item, Document)]
    assert "".join(item.text for item in parts) == "".join(sentences)
    assert [item.part for item in parts] == list(range(len(parts))) and len(parts) > 10
    assert all(item.text.endswith("。") and 500 <= len(item.text) <= 1000 for item in parts[:-1])


def test_other_encodings_are_asked_for_and_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("广州市公安局".encode("gb18030"))
    (tmp_path / "b.txt").write_text("广州市公安局", encoding="utf-16")
    assert not clean.readable(read(tmp_path / "a.txt")[0].text)  # type: ignore[union-attr]
    assert read(tmp_path / "a.txt", encoding="gb18030") == [Document("广州市公安局")]
    assert read(tmp_path / "b.txt") == [Document("广州市公安局")]
    with pytest.raises(CorpusError, match="klingon"):
        Reader(encoding="klingon")


def test_markdown(tmp_path: Path) -> None:
    source = """---
title: 不要
---
# 办理 *流程* #

<!-- 注释
还是注释 --> 见[指南](http://x.cn/a_b)和![图](y.png)。
> - **第一步**：填写`表格`

```
代码不要
```
| 材料 | 份数 |
|:---|---:|
| 身份证 | 1 |

1. 编号留下
***
[x]: http://x.cn
a_b_c &amp; 2 \\* 3 <b>粗</b>
"""
    (tmp_path / "a.md").write_text(source, encoding="utf-8")
    (item,) = read(tmp_path / "a.md")
    assert isinstance(item, Document)
    lines = ["办理 流程 #", "见指南和。", "第一步：填写表格", "材料 份数", "身份证 1", "1. 编号留下", "a_b_c & 2 * 3 粗"]
    assert clean.normalise(item.text).split("\n") == lines


def test_markdown_that_begins_with_a_rule_loses_nothing(tmp_path: Path) -> None:
    for name, lines in (("short", ["---", "第一行"]), ("long", ["---", *(f"第{n}行" for n in range(900))])):
        (tmp_path / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
        (item,) = read(tmp_path / f"{name}.md")
        assert item.text.split() == lines[1:]  # type: ignore[union-attr]


def test_jsonl(tmp_path: Path) -> None:
    rows = [
        '{"title": "标题", "text": "正文一"}', "", "not json", '{"title": "无"}', '{"text": 5}', "[1]", '[{"text": "数组"}]',
        '{"title": "二", "text": ["甲", "乙"]}',
    ]  # fmt: skip
    path = write_packed(tmp_path / "a.jsonl", "\n".join(rows).encode() + b'\n{"text": "\xff"}\n', ".gz")
    items = read(path)
    assert [item.text for item in items if isinstance(item, Document)] == ["正文一", "数组", "甲\n乙"]
    problems = [item.message for item in items if isinstance(item, Problem)]
    assert [re.match(r"line (\d+): ", message).group(1) for message in problems] == ["3", "4", "5", "6", "9"]  # type: ignore[union-attr]
    assert "'text' is missing" in problems[1] and "UTF-8" in problems[4]
    assert read(path, fields=("title", "text"))[0] == Document("标题\n正文一")
    (tmp_path / "b.json").write_text(json.dumps([{"text": "美观"}, {"x": 1}], indent=2, ensure_ascii=False), encoding="utf-8")
    assert read(tmp_path / "b.json")[0] == Document("美观") and "row 2" in read(tmp_path / "b.json")[1].message  # type: ignore[union-attr]


def test_a_line_of_json_too_long_for_memory_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "WHOLE_LIMIT", 1000)
    rows = [{"text": "一"}, {"text": "长" * 2000}, {"text": "二"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    items = read(tmp_path / "a.jsonl")
    assert [item.text if isinstance(item, Document) else item.message[:7] for item in items] == ["一", "line 2:", "二"]


@pytest.mark.parametrize("packing", ["", ".xz"])
def test_html(tmp_path: Path, packing: str) -> None:
    pytest.importorskip("trafilatura")
    body = "".join(f"<p>{text.replace(chr(10), '')}</p>" for text in sample_documents(6))
    page = f"<html><head><title>通知</title><script>var x;</script></head><body><nav><a href=/>首页</a></nav><article>{body}</article></body></html>"
    (item,) = read(write_packed(tmp_path / "a.html", page.encode(), packing))
    assert isinstance(item, Document) and "var x" not in item.text
    assert flat("".join(sample_documents(6))) in flat(item.text)
    (tmp_path / "empty.html").write_text("", encoding="utf-8")
    assert "no text" in read(tmp_path / "empty.html")[0].message  # type: ignore[union-attr]


def make_pdf(pages: list[list[str]]) -> bytes:
    """A PDF whose font maps two-byte codes to the characters themselves."""
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def 1 begincodespacerange <0000> <FFFF> "
        b"endcodespacerange 1 beginbfrange <0000> <FFFF> <0000> endbfrange endcmap end end"
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>", b"",
        b"<< /Type /Font /Subtype /Type0 /BaseFont /F /Encoding /Identity-H /DescendantFonts [4 0 R] /ToUnicode 5 0 R >>",
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /F /CIDSystemInfo << /Registry (A) /Ordering (I) /Supplement 0 >> /DW 1000 >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(cmap), cmap),
    ]  # fmt: skip
    kids = []
    for lines in pages:
        shown = b"".join(b"<%s> Tj 0 -20 Td " % line.encode("utf-16-be").hex().encode() for line in lines)
        stream = b"BT /F 12 Tf 50 800 Td " + shown + b"ET"
        kids.append(b"%d 0 R" % (len(objects) + 1))
        resources = b"<< /Font << /F 3 0 R >> >>"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 850] /Resources %s /Contents %d 0 R >>"
            % (resources, len(objects) + 2)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(pages))
    out, places = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table) + trailer


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_pdf(tmp_path: Path, packing: str) -> None:
    pytest.importorskip("pypdf")
    pages = [["办理居民身份证需要携带户口簿和", "照片到派出所。", "一、申请"], ["第二页内容。"]]
    (item,) = read(write_packed(tmp_path / "a.pdf", make_pdf(pages), packing))
    assert isinstance(item, Document)
    assert item.text.split("\n") == ["办理居民身份证需要携带户口簿和照片到派出所。", "一、申请", "第二页内容。", ""]
    (tmp_path / "scan.pdf").write_bytes(make_pdf([[], []]))
    assert "2 pages" in read(tmp_path / "scan.pdf")[0].message  # type: ignore[union-attr]


def test_word(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("通知", 1)
    document.add_paragraph("第一段。")
    table = document.add_table(2, 2)
    for row, cells in enumerate((("材料", "份数"), ("身份证", "1"))):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    document.add_paragraph("最后。")
    document.save(str(tmp_path / "a.docx"))
    (item,) = read(tmp_path / "a.docx")
    assert isinstance(item, Document) and item.text.split("\n") == ["通知", "第一段。", "材料 份数", "身份证 1", "最后。"]
    (tmp_path / "b.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99))
    assert ".doc" in read(tmp_path / "b.docx")[0].message  # type: ignore[union-attr]


def test_broken_files_are_reported_and_skipped(
    tmp_path: Path, tokenizer: BertTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in ("trafilatura", "pypdf", "docx"):
        pytest.importorskip(library)
    good = sample_documents(30)
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("\n\n".join(good[:10]), encoding="utf-8")
    (folder / "z.txt").write_text("\n\n".join(good[10:]), encoding="utf-8")
    (folder / "b.txt").write_bytes(b"\xff\xfe\xfd".join(text.encode() for text in sample_documents(2, 5)))
    (folder / "c.txt.gz").write_bytes(gzip.compress(os.urandom(4000))[:2000])
    (folder / "d.txt.xz").write_bytes(lzma.compress("字".encode() * 9000)[:40])
    (folder / "e.txt.xz").write_bytes(b"no xz at all")
    (folder / "deep" / "f.pdf").write_bytes(b"%PDF-1.4 nonsense")
    (folder / "deep" / "g.docx").write_bytes(b"PK nonsense")
    (folder / "h.exe").write_bytes(b"MZ")
    (folder / "i.jsonl").write_text("{", encoding="utf-8")
    (folder / "j.html").write_bytes(bytes(range(256)) * 9)
    (folder / ".hidden.exe").write_bytes(b"MZ")
    os.mkfifo(folder / "k.txt")
    (folder / "l.txt").symlink_to("nowhere")
    statistics = build([folder], tmp_path / "out", tokenizer, Options(held_out=0))
    assert statistics["documents"] == 30 and texts_of(Corpus(tmp_path / "out")) == [flat(text) for text in good]
    expected = ["b.txt", "c.txt.gz", "d.txt.xz", "e.txt.xz", "h.exe", "i.jsonl", "j.html", "k.txt", "l.txt", "f.pdf", "g.docx"]
    reported = [Path(entry["file"]).name for entry in statistics["problems"]]
    assert reported == expected
    errors = capsys.readouterr().err
    assert all(name in errors for name in expected) and len(errors.splitlines()) == len(expected)
    assert Corpus(tmp_path / "out").statistics == statistics


def test_folders_are_walked_in_order(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.txt", "a.txt", "c/x/y.txt", "out/old.txt", ".git/z.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    found = [str(path.relative_to(tmp_path)) for _, path in readers.find_inputs([tmp_path], tmp_path / "out")]
    assert found == ["a.txt", "b/1.txt", "b/2.txt", "c/x/y.txt"]
    with pytest.raises(FileNotFoundError, match="missing"):
        list(readers.find_inputs([tmp_path / "missing"]))


# ---- cleaning --------------------------------------------------------------------------------------------------------


@settings(max_examples=500)
@given(st.text(st.sampled_from("0 \t\xa0\u2003\u3000\n\r\u200b\u2028e\u0301") | st.characters(), max_size=60))
@example("0 \xa00")
@example("0\u3000 \t 0")
def test_normalise_is_idempotent(text: str) -> None:
    once = clean.normalise(text)
    assert clean.normalise(once) == once
    assert "\n\n" not in once and "  " not in once and once == once.strip(" \n")


def test_normalise() -> None:
    assert clean.normalise("\u200b 第\u00ad一\u3000\t段 \r\n\n  第\x00二段\u2028e\u0301\ufeff") == "第一 段\n第二段\né"


def test_share_of_chinese() -> None:
    for text, share in (("中文", 1.0), ("abc中", 0.25), ("，。", 0.0), ("", 0.0), ("𠀀a", 0.5), ("12中中", 0.5), ("ひ中", 0.5)):
        assert clean.cjk_share(clean.codes(text)) == share, text


def test_special_tokens_in_a_text_stay_text(tokenizer: BertTokenizer, tmp_path: Path) -> None:
    text = "[MASK]办理[SEP]身份证[CLS]需要[PAD]材料预约"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    build([tmp_path / "a.txt"], tmp_path / "out", tokenizer, Options(held_out=0))
    ids = Corpus(tmp_path / "out").shard(0).ids
    forbidden = [tokenizer.convert_tokens_to_ids(token) for token in SPECIALS if token != "[UNK]"]
    assert not np.isin(ids, forbidden).any()
    assert flat(clean.guard_specials(tokenizer)(text)) == text


# ---- personal numbers ------------------------------------------------------------------------------------------------


def card_number(digits: str) -> str:
    rest = sum(int(d) * w for d, w in zip(digits, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), strict=True)) % 11
    return digits + "10X98765432"[rest]


def luhn_number(digits: str) -> str:
    return next(digits + str(d) for d in range(10) if luhn(digits + str(d)))


@given(
    area=st.sampled_from(["110105", "440106", "820000", "650102"]),
    day=st.dates(),
    order=st.integers(0, 999),
    wrong=st.integers(1, 9),
)
def test_identity_cards(area: str, day, order: int, wrong: int) -> None:  # type: ignore[no-untyped-def]
    year = 1900 + day.year % 200
    try:
        day = day.replace(year=year)
    except ValueError:
        day = day.replace(year=year, day=28)
    number = card_number(f"{area}{day:%Y%m%d}{order:03d}")
    assert identity_card(number) and identity_card(number.lower())
    assert scrub.scrub(f"证号{number}，") == ("证号〔身份证号〕，", Counter(identity_card=1))
    if number[-1] != "X":
        broken = number[:-1] + str((int(number[-1]) + wrong) % 10)
        assert not identity_card(broken)
    swapped = number[:10] + "13" + number[12:]
    assert not identity_card(card_number(swapped[:17]))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("电话13800138000。", ["mobile"]),
        ("＋８６ 138-0013-8000", ["mobile"]),
        ("138 0013 8000、13900139000", ["mobile", "mobile"]),
        ("020-81234567转12", ["landline"]),
        ("（0755）8123 4567", ["landline"]),
        ("+86 10 81234567", ["landline"]),
        ("07558123456", ["landline"]),
        ("联系电话：83112345", ["landline"]),
        ("张三 zhang.san+1@mail.example.gov.cn", ["email"]),
        ("热线12345，邮编510000", []),
        ("2024年12345678元", []),
        ("订单号138001380001", []),
        ("穗府办规〔2024〕13号，GB 11643-1999，2021-03-15 10:00", []),
        ("400-830-1234", []),
        ("a@b", []),
        ("圆周率3.14159265358979323846", []),
    ],
)
def test_phones_and_mail(text: str, kinds: list[str]) -> None:
    found = list(scrub.find(text))
    assert [item.kind for item in found] == kinds
    cleaned, counts = scrub.scrub(text)
    assert counts == Counter(kinds) and (kinds or cleaned == text)
    assert all(not char.isdigit() for item in found for char in cleaned if item.kind != "landline")


@given(st.text("0123456789", min_size=14, max_size=18).map(lambda rest: luhn_number("6" + rest[1:-1])), st.integers(1, 9))
def test_bank_cards(number: str, wrong: int) -> None:
    if 15 <= len(number) <= 19 and len(set(number)) > 2 and not identity_card(number):
        assert scrub.scrub(f"卡号{number}") == ("卡号〔银行卡号〕", Counter(bank_card=1))
        broken = number[:-1] + str((int(number[-1]) + wrong) % 10)
        assert "bank_card" not in {item.kind for item in scrub.find(broken)}
    if len(number) == 16 and len(set(number)) > 2:
        grouped = " ".join(number[i : i + 4] for i in range(0, 16, 4))
        assert scrub.scrub(grouped)[0] == "〔银行卡号〕"


@given(st.text("0123456789Xx-+() @.转a１号电话", max_size=60))
def test_scrub_keeps_everything_else(text: str) -> None:
    pieces, end = [], 0
    for item in scrub.find(text):
        assert item.start >= end and item.end > item.start
        pieces += [text[end : item.start], scrub.PLACEHOLDERS[item.kind]]
        end = item.end
    assert scrub.scrub(text)[0] == "".join([*pieces, text[end:]])


# ---- duplicates ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 60).map(lambda n: n * 0x9E3779B97F4A7C15 % 2**64), max_size=40), max_size=8))
def test_key_table_is_a_dictionary(batches: list[list[int]]) -> None:
    table = duplicates.KeyTable(1000)
    table._make(8)  # begin small: growth is what may go wrong
    known: dict[int, int] = {}
    number = 0
    for batch in batches:
        values = np.arange(number, number + len(batch), dtype=np.uint32)
        table.insert(np.array(batch, np.uint64), values)
        for key, value in zip(batch, values.tolist(), strict=True):
            known.setdefault(max(key, 1), value)
        number += len(batch)
        asked = np.array([*known, 12345, 2**64 - 1], np.uint64)
        assert table.find(asked).tolist() == [known.get(int(key), -1) for key in asked]
    assert table.count == len(known)


def changed(text: str, share: float, draw: random.Random) -> str:
    """The text with a run of its characters replaced."""
    size = int(len(text) * share)
    at = draw.randrange(len(text) - size)
    return text[:at] + sentence(draw, size) + text[at + size :]


def jaccard(a: str, b: str) -> float:
    x, y = (set(duplicates.shingle_hashes(clean.codes(text)).tolist()) for text in (a, b))
    return len(x & y) / len(x | y)


def check(index: duplicates.Duplicates, texts: list[str]) -> tuple[list[str | None], np.ndarray]:
    return index.check([duplicates.text_key(text) for text in texts], [clean.codes(text) for text in texts])


def test_signatures_are_those_of_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch")
    for size in (5, 6, 300, 9000):
        hashes = duplicates.shingle_hashes(clean.codes(sentence(random.Random(size), size)))
        peer = datasketch.MinHash(num_perm=duplicates.PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
        peer.update_batch(hashes)
        assert np.array_equal(duplicates.signature(hashes), peer.hashvalues)


def test_near_duplicates_are_those_that_are_similar() -> None:
    draw = random.Random(1)
    originals = [sentence(draw, 400) for _ in range(200)]
    index = duplicates.Duplicates()
    assert check(index, originals)[0] == [None] * 200
    similar = [changed(text, 0.03, draw) for text in originals]
    different = [changed(text, 0.35, draw) for text in originals]
    assert all(jaccard(a, b) > 0.88 for a, b in zip(originals, similar, strict=True))
    assert all(jaccard(a, b) < 0.6 for a, b in zip(originals, different, strict=True))
    assert check(index, different)[0].count("near_duplicate") == 0
    assert check(index, similar)[0].count("near_duplicate") >= 190
    assert check(index, originals)[0] == ["exact_duplicate"] * 200
    assert check(index, [originals[0] + "。！", "  ".join(originals[1])])[0] == ["near_duplicate"] * 2


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(0, 300), max_size=12))
def test_duplicates_do_not_depend_on_batches(seed: int, cuts: list[int]) -> None:
    draw = random.Random(seed)
    texts = [sentence(draw, 60) for _ in range(150)]
    texts += [draw.choice(texts) for _ in range(75)] + [changed(draw.choice(texts), 0.04, draw) for _ in range(75)]
    texts += ["短"] * 3
    draw.shuffle(texts)

    def small() -> duplicates.Duplicates:
        index = duplicates.Duplicates()
        index._near, index._exact = duplicates._Index(40, True), duplicates._Index(70, False)
        return index

    whole, all_records = check(small(), texts)
    assert {"exact_duplicate", "near_duplicate", None} == set(whole)
    index, reasons, kept = small(), [], []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(texts)], strict=True):
        some, records = check(index, texts[begin:end])
        reasons += some
        kept.append(records)
        resumed = small()  # an index filled from records goes on in the same way
        resumed.restore(np.concatenate(kept))
        index = resumed
    assert reasons == whole and np.array_equal(np.concatenate(kept), all_records)


def test_the_index_never_exceeds_its_limit() -> None:
    index = duplicates.Duplicates(megabytes=1)
    draw = np.random.default_rng(0)
    highest = 0
    for _ in range(12):
        records = np.zeros(1000, duplicates.RECORD)
        records["exact"], records["near"] = draw.integers(1, 2**63, 1000), 1
        records["bands"] = draw.integers(1, 2**63, (1000, duplicates.BANDS))
        index.restore(records)
        highest = max(highest, index.nbytes)
    assert 0.4 * 2**20 < highest <= 1.02 * 2**20 and index.forgotten > 0


# ---- words -----------------------------------------------------------------------------------------------------------


def test_words_without_rjieba(tokenizer: BertTokenizer) -> None:
    ids, splits, starts = Encoder(tokenizer, words=False)(["身份证abc1", "", "a 材料"])
    assert splits.tolist() == [0, 7, 7, 10]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens == ["身", "份", "证", "a", "##b", "##c", "##1", "a", "材", "料"]
    assert starts.tolist() == [True] * 4 + [False] * 3 + [True] * 3


def test_words_are_those_of_rjieba(tokenizer: BertTokenizer) -> None:
    rjieba = pytest.importorskip("rjieba")
    texts = ["办理居民身份证需要携带户口簿，请提前预约！", "", "材料 abc\n审批结果", "齐"]
    ids, splits, starts = Encoder(tokenizer, words=True)(texts)
    for index, text in enumerate(texts):
        tokens = tokenizer.convert_ids_to_tokens(ids[splits[index] : splits[index + 1]])
        words: list[str] = []
        for token, begins in zip(tokens, starts[splits[index] : splits[index + 1]], strict=True):
            piece = token.removeprefix("##")
            if begins:
                words.append(piece)
            else:
                words[-1] += piece
        assert words == [word for word in rjieba.cut(text) if word.strip()]
    assert any(not begins for begins in starts)


def test_missing_libraries_are_named(
    tmp_path: Path, tokenizer: BertTokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    gone = {"rjieba", "pypdf", "docx", "trafilatura"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in gone else real(name, *a))
    monkeypatch.setitem(sys.modules, "rjieba", None)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "a.txt").write_text(sample_documents(1)[0], encoding="utf-8")
    arguments = ["--tokenizer", str(tmp_path / "tokenizer"), "--out", str(tmp_path / "out"), "--held-out", "0"]
    assert main(["corpus", "build", str(tmp_path / "a.txt"), "--words", *arguments]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and 'pip install "govlm[corpus]"' in error and "--no-words" in error
    for name in ("b.pdf", "b.docx", "b.html"):
        (tmp_path / name).write_bytes(b"x")
        assert main(["corpus", "build", str(tmp_path / name), *arguments]) == 1
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and 'pip install "govlm[corpus]"' in error
    assert main(["corpus", "build", str(tmp_path / "a.txt"), *arguments]) == 0
    assert Corpus(tmp_path / "out").options["words"] is False


# ---- builds ----------------------------------------------------------------------------------------------------------


def test_build_keeps_documents_and_counts_them(tmp_path: Path, tokenizer: BertTokenizer) -> None:
    documents = sample_documents(80)
    lines = [*documents[:40], "太短", "this is english only, no Chinese at all", documents[3], *documents[40:]]
    lines += [documents[5][:-1] + "！", "办理电话：13800138000，材料齐全后受理审批 鑫"]
    (tmp_path / "a.txt").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "b.txt").write_text(documents[7] + "\n\n" + "。" * 20, encoding="utf-8")
    options = Options(shard_tokens=2000, held_out=0, scrub=True, words=False)
    statistics = build([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "out", tokenizer, options)
    corpus = Corpus(tmp_path / "out")
    assert texts_of(corpus)[:80] == [flat(text) for text in documents] and corpus.documents == 81
    assert statistics["read"] == 87 and statistics["documents"] == 81 and statistics["tokens"] == corpus.tokens
    assert statistics["dropped"] == {"too_short": 1, "language": 2, "exact_duplicate": 2, "near_duplicate": 1}
    assert statistics["inputs"][1]["dropped"] == {"exact_duplicate": 1, "language": 1}
    assert statistics["scrubbed"] == {"mobile": 1}
    # 〔手机号码〕: two brackets and 手机号 are unknown to this vocabulary, and so is 鑫
    known = set(tokenizer.get_vocab())
    assert statistics["unknown"] == sum(char not in known for char in "办理电话：〔手机号码〕，材料齐全后受理审批鑫")
    for name in ("read", "documents", "characters", "tokens", "unknown"):
        assert statistics[name] == sum(entry[name] for entry in statistics["inputs"])
    assert corpus.tokenizer_sha256 == tokenizer_sha256(tokenizer) == tokenizer_sha256(corpus.tokenizer())
    assert not (tmp_path / "out" / ".build").exists()


def test_held_out_documents_are_a_share_of_all(tmp_path: Path, tokenizer: BertTokenizer) -> None:
    documents = sample_documents(300)
    (tmp_path / "a.txt").write_text("\n\n".join(documents), encoding="utf-8")
    build([tmp_path / "a.txt"], tmp_path / "out", tokenizer, Options(held_out=0.2))
    train, held = texts_of(Corpus(tmp_path / "out")), texts_of(Corpus(tmp_path / "out" / "held-out"))
    assert sorted(train + held) == sorted(flat(text) for text in documents) and 30 < len(held) < 90
    (tmp_path / "b.txt").write_text("\n\n".join(reversed(documents)), encoding="utf-8")
    build([tmp_path / "b.txt"], tmp_path / "again", tokenizer, Options(held_out=0.2))
    assert sorted(texts_of(Corpus(tmp_path / "again" / "held-out"))) == sorted(held)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, tokenizer: BertTokenizer) -> Path:
    """Inputs of several kinds with everything in them that a build decides on."""
    folder = tmp_path_factory.mktemp("sources")
    tokenizer.save_pretrained(folder / "tokenizer")
    draw = random.Random(9)
    texts = sample_documents(400, 2)
    texts += [draw.choice(texts) for _ in range(40)] + [changed(draw.choice(texts[:400]), 0.05, draw) for _ in range(40)]
    draw.shuffle(texts)
    (folder / "in").mkdir()
    raw = "\n\n".join(texts[:200]).encode() + b"\n\n\xff bad\n\n" + "\n\n".join(texts[200:300]).encode()
    (folder / "in" / "a.txt.xz").write_bytes(lzma.compress(raw))
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in texts[300:]]
    rows[20:20] = ["{", '{"text": "\\ud800 half a character"}']
    (folder / "in" / "b.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "in" / "c.txt").write_text(sentence(draw, 6000), encoding="utf-8")
    (folder / "in" / "d.bin").write_bytes(b"?")
    return folder


KILLED = """
import os, signal, sys
from govlm.corpus import build as module
module._BATCH_ITEMS = 25
count, where, at = 0, sys.argv[4], int(sys.argv[5])
def dying(function, after):
    def run(*arguments, **named):
        global count
        count += 1
        if count == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return run
owner, _, rest = where.partition(".")
name, _, after = rest.partition("+")
target = {"Builder": module._Builder, "Writer": module.ShardWriter, "module": module, "os": os}[owner]
setattr(target, name, dying(getattr(target, name), after))
options = module.Options(shard_tokens=4000, held_out=0.1, max_chars=1000, index_mb=1, min_cjk=0.1)
module.build([sys.argv[1]], sys.argv[2], sys.argv[3], options, resume=True, seconds_between_saves=0)
"""


def killed_build(sources: Path, out: Path, where: str, at: int) -> int:
    arguments = [str(sources / "in"), str(out), str(sources / "tokenizer"), where, str(at)]
    result = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    return result.returncode


@pytest.fixture(scope="module")
def whole(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    options = Options(shard_tokens=4000, held_out=0.1, max_chars=1000, index_mb=1, min_cjk=0.1)
    statistics = build([sources / "in"], out, sources / "tokenizer", options)
    assert len(Corpus(out)) > 4 and len(statistics["problems"]) == 3
    assert set(statistics["dropped"]) == {"undecodable", "exact_duplicate", "near_duplicate"}
    return contents(out)


@pytest.mark.parametrize(
    ("where", "at"),
    [
        ("Writer.append", 1),
        ("Writer.append", 150),
        ("Writer.append", 333),
        ("Writer._finish", 2),
        ("Writer._finish+after", 3),
        ("Builder.save", 3),
        ("Builder.save+after", 7),
        ("Writer.forget", 5),
        ("os.replace", 4),
        ("os.replace+after", 9),
        ("os.fsync", 20),
        ("module.write_manifest", 1),
        ("module.write_manifest", 2),
        ("module.write_manifest+after", 2),
    ],
)
def test_a_killed_build_goes_on_to_the_same_bytes(
    sources: Path, whole: dict[str, bytes], tmp_path: Path, where: str, at: int
) -> None:
    assert killed_build(sources, tmp_path / "out", where, at) == -signal.SIGKILL
    assert killed_build(sources, tmp_path / "out", "Builder.save", 10**9) == 0
    assert contents(tmp_path / "out") == whole


def test_a_build_killed_again_and_again(sources: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    rounds = 0
    while killed_build(sources, tmp_path / "out", "Builder.save", 6) != 0:
        rounds += 1
        assert rounds < 20
    assert rounds >= 2 and contents(tmp_path / "out") == whole


@pytest.mark.parametrize("place", ["append", "_finish", "save"])
def test_a_full_disk_is_one_line_and_loses_nothing(
    sources: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    import govlm.corpus.build as module

    arguments = [
        "corpus",
        "build",
        str(sources / "in"),
        "--out",
        str(tmp_path / "out"),
        "--tokenizer",
        str(sources / "tokenizer"),
    ]
    arguments += ["--shard-tokens", "4000", "--held-out", "0.1", "--max-chars", "1000", "--index-mb", "1", "--min-cjk", "0.1"]
    monkeypatch.setattr(module, "_BATCH_ITEMS", 50)
    original, count = getattr(ShardWriter, place), 0

    def full(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, place, full)
        patch.setattr(module._Builder, "save", lambda self, save=module._Builder.save: save(self))
        patch.setattr(module.time, "monotonic", iter(range(0, 10**6, 100)).__next__)
        assert main(arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "disk is full" in last and "--resume" in last
    assert not (tmp_path / "out" / "corpus.json").exists()
    assert main([*arguments, "--resume"]) == 0
    assert contents(tmp_path / "out") == whole


def test_resume_refuses_what_is_not_the_same(
    sources: Path, tmp_path: Path, tokenizer: BertTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("\n\n".join(sample_documents(100)), encoding="utf-8")
    tokenizer.save_pretrained(tmp_path / "tok")
    base = ["corpus", "build", str(tmp_path / "in.txt"), "--out", str(tmp_path / "out"), "--held-out", "0"]
    base += ["--tokenizer", str(tmp_path / "tok")]
    script = "import govlm.corpus.build as m, os, sys\nm.ShardWriter.close = lambda self: os._exit(7)\nfrom govlm.cli import main\nmain(sys.argv[1:])"
    assert subprocess.run([sys.executable, "-c", script, *base], check=False).returncode == 7

    def refused(arguments: list[str], *parts: str) -> None:
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and all(part in error for part in parts), error

    refused(base, "unfinished build", "--resume", "--overwrite")
    refused([*base, "--resume", "--min-chars", "20"], "min_chars=10", "20")
    other = BertTokenizer({**tokenizer.get_vocab(), "鑫": len(tokenizer)})
    other.save_pretrained(tmp_path / "other")
    refused([*base[:-1], str(tmp_path / "other"), "--resume"], "another tokenizer")
    (tmp_path / "in.txt").write_text("\n\n".join(sample_documents(101)), encoding="utf-8")
    refused([*base, "--resume"], "in.txt has changed")
    assert main([*base, "--overwrite"]) == 0
    refused(base, "finished corpus")
    before = contents(tmp_path / "out")
    assert main([*base, "--resume"]) == 0 and contents(tmp_path / "out") == before


def test_two_builds_in_one_folder(tmp_path: Path, tokenizer: BertTokenizer) -> None:
    import fcntl

    (tmp_path / "in.txt").write_text(sample_documents(1)[0], encoding="utf-8")
    (tmp_path / "out" / ".build").mkdir(parents=True)
    with open(tmp_path / "out" / ".build" / "lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match="another build"):
            build([tmp_path / "in.txt"], tmp_path / "out", tokenizer)
    build([tmp_path / "in.txt"], tmp_path / "out", tokenizer, Options(held_out=0))


def test_no_documents(tmp_path: Path, tokenizer: BertTokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(EmptyCorpus, match="no document"):
        build([tmp_path / "in"], tmp_path / "out", tokenizer)
    (tmp_path / "in" / "empty.txt").write_bytes(b"")
    (tmp_path / "in" / "short.txt").write_text("短\n\n短", encoding="utf-8")
    tokenizer.save_pretrained(tmp_path / "tok")
    arguments = ["corpus", "build", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tokenizer", str(tmp_path / "tok")]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert "too short" in output.out and len(output.err.splitlines()) == 1 and "no document was kept of 2 read" in output.err
    assert not (tmp_path / "out" / "corpus.json").exists()
    (tmp_path / "in" / "good.txt").write_text("\n\n".join(sample_documents(5)), encoding="utf-8")
    assert main([*arguments, "--held-out", "0"]) == 0  # the empty attempt is not in the way


MEMORY = """
import resource, sys
from govlm.corpus.build import Options, build
statistics = build([sys.argv[1]], sys.argv[2], sys.argv[3], Options(words=False, held_out=0, max_chars=20000, shard_tokens=1 << 20, duplicates="keep"))
print(statistics["tokens"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_a_line(tmp_path: Path, tokenizer: BertTokenizer) -> None:
    """One line of 100 MB takes no more memory than one of 5 MB."""
    tokenizer.save_pretrained(tmp_path / "tok")
    block = (sentence(random.Random(0), 332_999) + "。").encode()
    used = []
    for megabytes in (5, 100):
        path = tmp_path / f"{megabytes}.txt.gz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(megabytes):
                file.write(block)
        arguments = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / f"out{megabytes}"), str(tmp_path / "tok")]
        tokens, peak = map(int, subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split())
        assert tokens == megabytes * 333_000
        used.append(peak)
    assert used[1] <= used[0] + 25, used


def test_command(tmp_path: Path, sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    arguments = ["corpus", "build", str(sources / "in"), "--tokenizer", str(sources / "tokenizer"), "--out", out]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "near duplicate" in table and "b.jsonl" in table and "d.bin: unknown kind of file" in table
    assert main([*arguments, "--overwrite", "--json"]) == 0
    statistics = json.loads(capsys.readouterr().out)
    corpus = Corpus(out)
    assert statistics["tokens"] == corpus.tokens + Corpus(Path(out, "held-out")).tokens
    assert main(["corpus", "info", out, "--verify"]) == 0
    assert "every shard is as it was written" in capsys.readouterr().out
    assert main(["corpus", "info", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == corpus.documents
    rows = [json.loads(line) for line in Path(out, "log.jsonl").read_text("utf-8").splitlines()]
    assert rows and rows[-1]["tokens"] == statistics["tokens"]
    for wrong in (["--held-out", "0.9"], ["--min-cjk", "2"], ["--text-field", ","], ["--format", "x"], ["--shard-tokens", "0"]):
        assert main([*arguments, *wrong]) == 2, wrong
    assert main(["corpus"]) == 2
    assert main(["corpus", "build", str(tmp_path / "none"), "--tokenizer", str(sources / "tokenizer"), "--out", out]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_real_text(tmp_path: Path) -> None:
    if not REAL.exists():
        pytest.skip("the real corpus beside the project is missing (../shared/data/corpus)")
    from govlm.tokenizers import train_wordpiece

    with lzma.open(REAL, "rt", encoding="utf-8") as file:
        text = file.read(1_500_000)
    documents = text.split("\n\n")[:-1]
    (tmp_path / "a.txt").write_text("\n\n".join(documents), encoding="utf-8")
    tokenizer = BertTokenizer(train_wordpiece(tmp_path / "a.txt", 6000))
    statistics = build([tmp_path / "a.txt"], tmp_path / "out", tokenizer, Options(held_out=0, scrub=True))
    corpus = Corpus(tmp_path / "out")
    assert statistics["read"] >= len(documents) and statistics["unknown_rate"] < 0.001
    assert statistics["documents"] + sum(statistics["dropped"].values()) == statistics["read"]
    assert 0.8 * statistics["characters"] < corpus.tokens < 1.1 * statistics["characters"]
    shard = corpus.shard(0)
    starts = shard.word_starts()
    assert starts[shard.document_splits[:-1]].all()
    assert 0.3 < starts.mean() < (0.75 if corpus.options["words"] else 1.0)
