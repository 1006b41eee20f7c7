"""Proof that models which write can be trained here: two small models against two peers on the same rows.

`python -m benchmarks.writing DATA WORK laws` trains a causal model on laws and compares its perplexity on laws that it has not
seen with that of a 5-gram with modified Kneser-Ney smoothing on the same tokens. `… titles` trains a T5 with span corruption on the
corpus, from weights that copy, then on the corpus's own headlines, then on these and on abstracts with their titles, and compares
ROUGE-L on the test rows with that of each abstract's first sentence. Runs go on where they were killed. DATA: the folder with
laws/, corpus/ and summarisation/; WORK: checkpoints and logs. What the notebook draws is written to benchmarks/curves: figures
only, no text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import govlm
from benchmarks.kneser_ney import KneserNey
from govlm.corpus.build import Options, build
from govlm.tokenizers import Packed
from govlm.train.finetune import finetune
from govlm.train.instructions import encode_pairs
from govlm.train.plots import read_log
from govlm.train.pretrain import pretrain, read_options
from govlm.train.rouge import rouge_l
from govlm.train.sequences import open_corpora
from govlm.train.writing import WritingOptions, answers

CURVES = Path(__file__).parent / "curves"
LAWS, VOCABULARY, HELD_OUT = 220, 3000, 0.12  # laws drawn by the seed, tokens, share of the laws held out
CAUSAL: dict[str, Any] = {
    "objective": "causal", "max_length": 256, "batch_tokens": 2048, "steps": 2400, "lr": 4e-3, "warmup": 0.03,
    "schedule": "cosine", "weight_decay": 0.1, "eval_every": 200, "heldout_sequences": 1_000_000, "seed": 1, "save_minutes": 3,
    "model": {
        "model_type": "llama", "hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 512,
        "max_position_embeddings": 256, "tie_word_embeddings": True,
    },
}  # fmt: skip
SPAN: dict[str, Any] = {
    "objective": "span", "initial": "copying", "copied": 0.5, "max_length": 128, "batch_size": 32, "steps": 800, "lr": 3e-3,
    "warmup": 0.05, "eval_every": 100,
    "heldout_sequences": 200, "seed": 1, "save_minutes": 3,
    "model": {
        "d_model": 192, "d_kv": 32, "num_heads": 6, "d_ff": 512, "num_layers": 3, "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    },
}  # fmt: skip
HEADLINES: dict[str, Any] = {
    "epochs": 2, "batch_size": 16, "max_length": 144, "max_new_tokens": 36, "lr": 1e-3, "warmup": 0.03, "seed": 1,
    "generate_rows": 50, "save_minutes": 3,
}  # fmt: skip
MIXED: dict[str, Any] = {**HEADLINES, "epochs": 1, "max_length": 256, "max_new_tokens": 40, "lr": 8e-4}
TITLES: dict[str, Any] = {**MIXED, "seed": 2}
# How titles are asked for, chosen on the rows that choose.
ASKED: dict[str, Any] = {"num_beams": 8, "no_repeat_ngram_size": 2, "length_penalty": 1.5}
SPLIT = 750, 50, 200  # abstracts to train on, to choose the epoch by, to test on, drawn by the seed


def write_curve(name: str, log: Path, settings: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """A run's curve, thinned to 200 points, and its result."""
    steps, evaluations = read_log(log)
    every = max(1, len(steps) // 200)
    means = [
        [chunk[-1]["step"], round(float(np.mean([r["loss"] for r in chunk])), 4)]
        for chunk in (steps[i : i + every] for i in range(0, len(steps), every))
    ]
    value = {"settings": settings, "tokens": steps[-1]["tokens"], "loss": means, "evaluations": evaluations, "result": result}
    CURVES.mkdir(exist_ok=True)
    (CURVES / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


# -------------------------------------------------------------------- laws


def law_documents(folder: Path) -> tuple[list[NDArray[np.int32]], Any]:
    """The documents of a corpus, each with the token that ends it, and the corpus."""
    corpus = open_corpora([folder])[0]
    end = govlm.AutoTokenizer.from_pretrained(str(folder if (folder / "vocab.txt").exists() else folder.parent)).sep_token_id
    documents = []
    for index in range(len(corpus.shards)):
        shard = corpus.shard(index)
        documents += [np.append(shard.ids[a:b], end).astype(np.int32) for a, b in pairwise(np.asarray(shard.document_splits))]
    return documents, corpus


def sliding_perplexity(model: Any, documents: list[NDArray[np.int32]], width: int, stride: int, begin: int) -> float:
    """exp of the mean negative log probability a token: each token but the first ones sees `width` - `stride` others or more."""
    total, count = 0.0, 0
    rows: list[tuple[NDArray[np.int32], NDArray[np.int64]]] = []
    for document in documents:
        whole = np.concatenate([[begin], document]).astype(np.int32)
        done = 1
        while done < len(whole):
            stop = min(len(whole), width if done == 1 else done + stride)
            start = max(0, stop - width)
            labels = np.full(stop - start, -100, np.int64)
            labels[done - start :] = whole[done:stop]
            rows.append((whole[start:stop], labels))
            done = stop
    with govlm.no_grad():
        for at in range(0, len(rows), 16):
            part = rows[at : at + 16]
            splits = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in part])]).astype(np.int64)
            labels = np.concatenate([labels for _, labels in part])
            found = int((labels != -100).sum())
            packed = Packed(np.concatenate([ids for ids, _ in part]), splits)
            total += model(packed=packed, labels=labels).loss.item() * found
            count += found
    if count != sum(map(len, documents)):
        raise RuntimeError(f"{count} tokens were judged, the documents have {sum(map(len, documents))}")
    return math.exp(total / count)


def laws(data: Path, work: Path) -> dict[str, Any]:
    """The causal model and the 5-gram."""
    folder = work / "laws"
    if not (folder / "corpus.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        rows = []
        for scope in ("national", "local"):
            with gzip.open(data / f"laws/laws_{scope}.jsonl.gz", "rt", encoding="utf-8") as handle:
                rows += [row for row in map(json.loads, handle) if row["latest"]]
        texts = [rows[i]["text"] for i in np.random.default_rng(0).permutation(len(rows))[:LAWS]]
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        (work / "laws.jsonl").write_text(lines, encoding="utf-8")
        (work / "laws.txt").write_text("\n".join(texts), encoding="utf-8")
        govlm.BertTokenizer(govlm.train_wordpiece([work / "laws.txt"], VOCABULARY)).save_pretrained(str(work / "tok"))
        options = Options(words=False, held_out=HELD_OUT, min_chars=200)
        build([str(work / "laws.jsonl")], str(folder), str(work / "tok"), options, progress=False)
    settings = {**CAUSAL, "corpus": [str(folder)], "out": str(work / "causal")}
    pretrain(read_options(None, settings), resume=True)
    train, corpus = law_documents(folder)
    held, _ = law_documents(folder / "held-out")
    model = govlm.AutoModelForCausalLM.from_pretrained(str(work / "causal"))
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(work / "causal"))
    result = {
        "laws": [len(train), len(held)],
        "tokens": [sum(map(len, train)), sum(map(len, held))],
        "vocabulary": corpus.vocab_size,
        "parameters": model.num_parameters(),
        "perplexity": sliding_perplexity(model, held, 256, 128, tokenizer.cls_token_id),
        "kneser_ney": {str(order): KneserNey(train, corpus.vocab_size, order).perplexity(held) for order in (3, 4, 5)},
    }
    write_curve("laws", work / "causal" / "log.jsonl", CAUSAL, result)
    return result


# -------------------------------------------------------------------- titles


def documents(data: Path, names: list[str]) -> Iterator[list[str]]:
    """The corpus's documents as lines."""
    for name in names:
        with lzma.open(data / "corpus" / name, "rt", encoding="utf-8") as handle:
            lines: list[str] = []
            for line in handle:
                if line.strip():
                    lines.append(line.strip())
                elif lines:
                    yield lines
                    lines = []
            if lines:
                yield lines


def headlines(data: Path, more: bool = False) -> Iterator[dict[str, str]]:
    """Documents that begin with a headline: a short first line without punctuation, four in five of whose characters the text has.
    more: those beside them that are questions or have a colon, or of whose characters two in three are there."""
    names = [f"general.train.part{n}of3.txt.xz" for n in (1, 2, 3)]
    for first, *rest in documents(data, [*names, "pretrain.train.txt.xz"]):
        body = "".join(rest)
        body = body.removeprefix(first)[:220]
        if not 8 <= len(first) <= 36 or len(body) < 80:
            continue
        clean = not re.search("[。！？!?：:]", first)
        there = sum(character in body for character in first) / len(first)
        if (there >= 0.8 and not clean) or (0.65 <= there < 0.8 and clean) if more else (there >= 0.8 and clean):
            yield {"source": body, "target": first}


def first_sentence(text: str) -> str:
    """Up to the first 。！？ (or their Latin kin, but no decimal point), the mark included."""
    return re.split(r"(?<=[。！？!?])|(?<=[.．])(?!\d)", text, maxsplit=1)[0].strip()


def shortened(rows: list[dict[str, str]], seed: int, count: int) -> list[dict[str, str]]:
    """The rows, and of each `count` others that lack a quarter of its sentences on average: a title is not learnt by heart."""
    draw, found = np.random.default_rng(seed), list(rows)
    for row in rows:
        sentences = [part for part in re.split(r"(?<=[。；;！？!?])|(?<=[.．])(?!\d)", row["source"]) if part]
        for _ in range(count):
            stay = draw.random(len(sentences)) < 0.75
            if stay.any():
                found.append({**row, "source": "".join(part for part, here in zip(sentences, stay, strict=True) if here)})
    return found


def write_rows(path: Path, rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def titles(data: Path, work: Path) -> dict[str, Any]:
    """The T5 and the first sentences."""
    work.mkdir(parents=True, exist_ok=True)
    corpus = work / "general"
    if not (corpus / "corpus.json").exists():
        with lzma.open(data / "corpus" / "general.train.part1of3.txt.xz", "rb") as handle:
            (work / "general.txt").write_bytes(handle.read(40_000_000))
        options = Options(words=False, held_out=0.002, duplicates="exact")
        build([str(work / "general.txt")], str(corpus), "govlm-small-zh", options, progress=False)
    pretrain(read_options(None, {**SPAN, "corpus": [str(corpus)], "out": str(work / "span")}), resume=True)
    write_curve("span", work / "span" / "log.jsonl", SPAN, {})

    pairs = list(headlines(data))
    pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
    table = (data / "summarisation/csl_title/dev.tsv").read_text(encoding="utf-8").splitlines()
    rows = [{"source": row[1], "target": row[2]} for row in (line.split("\t") for line in table)]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    train, dev, test = (rows[a:b] for a, b in pairwise(np.cumsum([0, *SPLIT])))
    stages = (
        ("headlines", HEADLINES, pairs[50:], pairs[:50]),
        ("mixed", MIXED, [*pairs[50:], *shortened(train, 0, 3)], dev),
        ("titles", TITLES, [*headlines(data, more=True), *pairs[50:9050], *shortened(train, 1, 7)], dev),
    )
    before = "span"
    for name, settings, learnt, held in stages:
        files = [write_rows(work / f"{name}.{part}.jsonl", chosen) for part, chosen in (("train", learnt), ("dev", held))]
        made = finetune(
            files[0], files[1], model=work / before, out=work / name, task="summarise", options=WritingOptions(**settings),
            resume=True,
        )  # fmt: skip
        write_curve(name, work / name / "log.jsonl", settings, {"rows": made["train_rows"]})
        before = name
    result = {"rows": list(SPLIT), **judged(work / "titles", test)}
    write_curve("titles", work / "titles" / "log.jsonl", TITLES, result)
    return result


def judged(folder: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """ROUGE-L of the titles that the model in `folder` writes, asked as ASKED and greedily, and of the first sentences."""
    model, tokenizer = (
        govlm.AutoModelForSeq2SeqLM.from_pretrained(str(folder)),
        govlm.AutoTokenizer.from_pretrained(str(folder)),
    )
    pairs, most = [(row["source"], row["target"]) for row in rows], TITLES["max_new_tokens"]
    prompts = encode_pairs(tokenizer, pairs, TITLES["max_length"], most, "test").prompts

    def scores(**how: Any) -> NDArray[np.float64]:
        texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers(model, prompts, most, 16, **how)]
        return np.array([rouge_l(text, target) for text, (_, target) in zip(texts, pairs, strict=True)])

    ours, greedy = scores(**ASKED), scores()
    theirs = np.array([rouge_l(first_sentence(source), target) for source, target in pairs])
    draws = np.random.default_rng(0).integers(0, len(rows), (2000, len(rows)))
    return {
        "parameters": model.num_parameters(), "rouge_l": float(ours.mean()), "greedy": float(greedy.mean()),
        "lead_1": float(theirs.mean()), "asked": ASKED,
        "difference_95": [float(v) for v in np.quantile((ours - theirs)[draws].mean(axis=1), (0.025, 0.975))],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("run", choices=("laws", "titles"))
    given = parser.parse_args()
    print(json.dumps({"laws": laws, "titles": titles}[given.run](given.data, given.work), indent=1))


if __name__ == "__main__":
    main()
