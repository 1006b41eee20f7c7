"""WordPiece, byte pairs and unigram pieces on one core: law text, a batch of str to packed arrays, govlm beside tokenizers, tiktoken, tokie,
nanotoken and sentencepiece.

    python -m benchmarks.bench_tokenizer [--json]

Ids are compared with tokenizers' before anything is timed. The peers take turns in one process, on one core; medians are
reported. Without ../shared/data the text is a repeated paragraph of our own, and the row says so.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
TURNS = 7
PEER_BYTES = 2_000_000  # the slow peers see so much text a turn: rates do not depend on it

OWN = (
    "第一条 为了规范政务服务事项的办理，方便公民、法人和其他组织，制定本办法。\n"
    "第二条 申请人应当提交真实、完整的材料，并对其真实性负责；材料齐全的，窗口应当当场受理。\n"
    "第三条 承诺时限为5个工作日，自2024年1月1日起施行，咨询电话12345（工作时间9:00-17:00）。"
)


def law_texts() -> tuple[list[str], str]:
    path = DATA / "laws" / "laws_national.jsonl.gz"
    if not path.exists():
        return [OWN] * 40_000, "a paragraph of our own, repeated (../shared/data is not here)"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file], "national laws"


def vocabulary(folder: Path, texts: list[str]) -> Path:
    path = DATA / "vocab" / "bert-base-chinese" / "vocab.txt"
    if path.exists():
        return path
    from govlm.tokenizers import train_wordpiece

    (folder / "text.txt").write_text("\n".join(texts[:2000]), encoding="utf-8")
    path = folder / "vocab.txt"
    tokens = train_wordpiece(folder / "text.txt", 2000)
    path.write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
    return path


Encode = Callable[[list[str]], list[list[int]]]
Timed = Callable[[list[str]], Any]


def bpe(folder: Path, texts: list[str]) -> tuple[Any, str]:
    """A tokenizer with Qwen's vocabulary, or with one trained here where ../shared/data is not; and which."""
    from govlm.tokenizers import Qwen2Tokenizer, train_bpe

    path = DATA / "vocab" / "qwen" / "qwen.tiktoken"
    if path.exists():
        return Qwen2Tokenizer.from_pretrained(path), "Qwen2 BPE"
    (folder / "text.txt").write_text("\n".join(texts[:2000]), encoding="utf-8")
    return train_bpe(folder / "text.txt", 2000, split="qwen2", compose=True), "BPE of 2,000 tokens"


def bpe_peers(ours: Any, folder: Path) -> dict[str, tuple[Timed, Encode] | str]:
    """The same of BPE, from the tokenizer.json that govlm writes; tiktoken from its tokens."""
    ours.save_pretrained(folder)
    found = json_peers(folder / "tokenizer.json")
    try:
        import tiktoken

        from govlm.tokenizers.byte_level import bytes_of
        from govlm.tokenizers.tokenizer_json import QWEN2

        ranks = {bytes_of(token): index for token, index in ours._vocabulary.items() if bytes_of(token)}
        special = {token.content: index for index, token in ours.added_tokens_decoder.items()}
        ranks = {token: index for token, index in ranks.items() if index not in special.values()}
        encoding = tiktoken.Encoding("peer", pat_str=QWEN2, mergeable_ranks=ranks, special_tokens=special)
        found[f"tiktoken {tiktoken.__version__}"] = (
            lambda texts: [encoding.encode_ordinary(text) for text in texts],
            lambda texts: [encoding.encode_ordinary(text) for text in texts],
        )
    except Exception as error:
        found["tiktoken"] = f"{type(error).__name__}: {error}"
    return found


def peers(vocab: Path, folder: Path) -> dict[str, tuple[Timed, Encode] | str]:
    """name -> (what is timed, the same as lists of ids), or why it is not here."""
    if importlib.util.find_spec("tokenizers") is None:
        return {name: "not installed" for name in ("tokenizers", "tokie", "nanotoken")}
    from tokenizers.implementations import BertWordPieceTokenizer

    BertWordPieceTokenizer(str(vocab), lowercase=True).save(str(folder / "tokenizer.json"))
    return json_peers(folder / "tokenizer.json")


def json_peers(whole: Path) -> dict[str, tuple[Timed, Encode] | str]:
    """The peers that read a tokenizer.json."""
    found: dict[str, tuple[Timed, Encode] | str] = {}
    try:
        import tokenizers
    except ImportError:
        return {"tokenizers": "not installed"}
    reference = tokenizers.Tokenizer.from_file(str(whole))
    found[f"tokenizers {tokenizers.__version__}"] = (
        lambda texts: [np.array(e.ids, np.int32) for e in reference.encode_batch_fast(texts)],
        lambda texts: [e.ids for e in reference.encode_batch(texts)],
    )
    try:
        import tokie

        fast = tokie.Tokenizer.from_json(str(whole))
        found["tokie"] = (
            lambda texts: fast.encode_batch_flat(texts, add_special_tokens=True),
            lambda texts: [list(e.ids) for e in fast.encode_batch(texts, add_special_tokens=True)],
        )
    except Exception as error:
        found["tokie"] = f"{type(error).__name__}: {error}"
    try:
        import nanotoken

        nano = nanotoken.Tokenizer(str(whole))
        found["nanotoken"] = (
            lambda texts: nano.encode_batch(texts, parallel=False),
            lambda texts: nano.encode_batch_list(texts, parallel=False),
        )
    except Exception as error:
        found["nanotoken"] = f"{type(error).__name__}: {error}"
    return found


def megabytes(texts: list[str]) -> float:
    return sum(len(text.encode("utf-8")) for text in texts) / 1e6


def run() -> list[dict[str, Any]]:
    """Rows: work, peer, peer figure and ours (MB/s of UTF-8 on one core), ratio, exact (the peer's ids equal ours)."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    from govlm.tokenizers import BertTokenizer

    texts, source = law_texts()
    lines = [line for text in texts for line in text.split("\n") if line]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            vocab = vocabulary(folder, texts)
            ours = BertTokenizer(vocab)
            others = peers(vocab, folder)
            rows: list[dict[str, Any]] = []
            for kind, batch in (("documents", texts), ("lines", lines)):
                rows += compare(f"{source}, batch of {kind}", batch, ours, others)
            rows += unigram_rows(source, texts, folder)
            pairs, title = bpe(folder, texts)
            rows += compare(f"{source}, batch of lines, {title}", lines, pairs, bpe_peers(pairs, folder / "bpe"))
    finally:
        os.sched_setaffinity(0, cores)
    return rows


def unigram_rows(source: str, texts: list[str], folder: Path) -> list[dict[str, Any]]:
    """SentencePiece's unigram model: each shared one, else one that is trained on the text here."""
    from govlm.tokenizers import T5Tokenizer, UnigramTokenizer, train_unigram
    from govlm.tokenizers.sentencepiece import write_model

    names = ("cpm1/chinese_vocab.model", "chinese-llama/chinese_sp.model", "uer/cluecorpussmall_spm.model")
    files = [path for path in (DATA / "vocab" / name for name in names) if path.exists()]
    if not files:
        (folder / "text.txt").write_text("\n".join(texts[:2000]), encoding="utf-8")
        files = [folder / "trained.model"]
        write_model(files[0], train_unigram(folder / "text.txt", 400, character_coverage=1.0))
    rows: list[dict[str, Any]] = []
    for file in files:
        ours = UnigramTokenizer(file)
        others: dict[str, tuple[Timed, Encode] | str] = {"sentencepiece": "not installed", "tokenizers": "not installed"}
        work = f"unigram of {ours.vocab_size} pieces, {source}, batch of documents"
        if importlib.util.find_spec("sentencepiece") is not None:
            import sentencepiece

            spm = sentencepiece.SentencePieceProcessor(model_file=str(file))
            others["sentencepiece"] = (lambda texts, spm=spm: spm.encode(texts, num_threads=1), spm.encode)
        rows += compare(work, texts, _Bare(ours), {"sentencepiece": others["sentencepiece"]})
        if importlib.util.find_spec("tokenizers") is not None:
            import tokenizers

            T5Tokenizer(ours.model, extra_ids=0, add_eos_token=False).save_pretrained(folder / "unigram")
            fast = tokenizers.Tokenizer.from_file(str(folder / "unigram" / "tokenizer.json"))
            others["tokenizers"] = (fast.encode_batch_fast, lambda texts, fast=fast: [e.ids for e in fast.encode_batch(texts)])
            ours = UnigramTokenizer.from_pretrained(folder / "unigram")
        rows += compare(work, texts, _Bare(ours), {"tokenizers": others["tokenizers"]})
    return rows


class _Bare:
    """A tokenizer whose packed ids have no special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode_packed(self, texts: list[str]) -> Any:
        return self.tokenizer.encode_packed(texts, add_special_tokens=False)


def compare(work: str, batch: list[str], ours: Any, others: dict[str, tuple[Timed, Encode] | str]) -> list[dict[str, Any]]:
    small: list[str] = []
    size = 0
    for text in batch:
        small.append(text)
        size += 3 * len(text)
        if size > PEER_BYTES:
            break
    packed = ours.encode_packed(small)
    expected = [part.tolist() for part in np.split(packed.ids, packed.row_splits[1:-1])]
    exact = {name: peer[1](small) == expected for name, peer in others.items() if not isinstance(peer, str)}
    own_size, small_size = megabytes(batch), megabytes(small)
    rates: dict[str, list[float]] = {name: [] for name in ("govlm", *exact)}
    for turn in range(TURNS + 1):
        start = time.perf_counter()
        ours.encode_packed(batch)
        seconds = {"govlm": own_size / (time.perf_counter() - start)}
        for name in exact:
            start = time.perf_counter()
            others[name][0](small)  # type: ignore[operator]
            seconds[name] = small_size / (time.perf_counter() - start)
        if turn > 0:  # the first turn warms up
            for name, rate in seconds.items():
                rates[name].append(rate)
    mine = statistics.median(rates["govlm"])
    rows: list[dict[str, Any]] = []
    for name, peer in others.items():
        row: dict[str, Any] = {"work": work, "peer": name, "ours": mine, "unit": "MB/s"}
        if isinstance(peer, str):
            row |= {"peer figure": None, "ratio": None, "exact": None, "note": peer}
        else:
            theirs = statistics.median(rates[name])
            row |= {"peer figure": theirs, "ratio": mine / theirs, "exact": exact[name]}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = run()
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    print("| work | peer | peer, MB/s | govlm, MB/s | ratio | same ids |\n|---|---|---|---|---|---|")
    for row in rows:
        if row["peer figure"] is None:
            print(f"| {row['work']} | {row['peer']} | {row['note']} | {row['ours']:.0f} | | |")
        else:
            same = "yes" if row["exact"] else "NO"
            figures = f"{row['peer figure']:.1f} | {row['ours']:.0f} | {row['ratio']:.0f}x"
            print(f"| {row['work']} | {row['peer']} | {figures} | {same} |")


if __name__ == "__main__":
    main()
