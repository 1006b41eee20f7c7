"""What is measured: models with seeded random weights, batches with real (or, without the data, synthetic) lengths, flops.

Models are written by NumPy under Hugging Face's names (config.json, model.safetensors, vocab.txt), so that every side reads the
very same file and none of them needs to be installed to make it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
CLS, SEP, FIRST_WORD = 101, 102, 671  # bert-base-chinese: [CLS], [SEP], the first Chinese character

LISTING_TEXTS = ("请帮我查询社保缴纳情况", "我需要申请失业保险金")


@dataclass(frozen=True)
class Shape:
    """A BERT classifier's sizes."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    vocab: int = 21128
    positions: int = 512
    labels: int = 15

    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["BertForSequenceClassification"],
            "model_type": "bert",
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.ffn,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": self.positions,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
            "id2label": {str(i): f"LABEL_{i}" for i in range(self.labels)},
            "label2id": {f"LABEL_{i}": i for i in range(self.labels)},
        }

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Hugging Face's names and shapes of the classifier's weights."""
        h, f = self.hidden, self.ffn
        out: dict[str, tuple[int, ...]] = {
            "bert.embeddings.word_embeddings.weight": (self.vocab, h),
            "bert.embeddings.position_embeddings.weight": (self.positions, h),
            "bert.embeddings.token_type_embeddings.weight": (2, h),
            "bert.embeddings.LayerNorm.weight": (h,),
            "bert.embeddings.LayerNorm.bias": (h,),
        }
        for i in range(self.layers):
            base = f"bert.encoder.layer.{i}."
            for name, rows, columns in (
                ("attention.self.query", h, h),
                ("attention.self.key", h, h),
                ("attention.self.value", h, h),
                ("attention.output.dense", h, h),
                ("intermediate.dense", f, h),
                ("output.dense", h, f),
            ):
                out[base + name + ".weight"] = (rows, columns)
                out[base + name + ".bias"] = (rows,)
            for name in ("attention.output.LayerNorm", "output.LayerNorm"):
                out[base + name + ".weight"] = (h,)
                out[base + name + ".bias"] = (h,)
        out |= {"bert.pooler.dense.weight": (h, h), "bert.pooler.dense.bias": (h,)}
        out |= {"classifier.weight": (self.labels, h), "classifier.bias": (self.labels,)}
        return out

    def parameter_count(self) -> int:
        return sum(int(np.prod(s)) for s in self.parameters().values())

    def forward_flops(self, lengths: NDArray[np.int64]) -> float:
        """Multiply-add flops (2 per pair) that a classifier's logits need: every layer on every real token, except that the
        last layer needs keys and values of all tokens and everything else at [CLS] only; attention inside each sequence."""
        h, f = float(self.hidden), float(self.ffn)
        n = lengths.astype(np.float64)
        tokens, squares, rows = n.sum(), (n * n).sum(), float(len(n))
        full = 2 * tokens * (4 * h * h + 2 * h * f) + 4 * squares * h
        last = 2 * (tokens * 2 * h * h + rows * (2 * h * h + 2 * h * f)) + 4 * tokens * h
        return float((self.layers - 1) * full + last + 2 * rows * (h * h + h * self.labels))

    def mlm_flops(self, lengths: NDArray[np.int64], masked: int) -> float:
        """The same for masked LM: every layer on every real token, the head on the masked rows only."""
        h, f = float(self.hidden), float(self.ffn)
        n = lengths.astype(np.float64)
        body = self.layers * (2 * n.sum() * (4 * h * h + 2 * h * f) + 4 * (n * n).sum() * h)
        return float(body + 2 * masked * (h * h + h * self.vocab))

    def train_flops(self, lengths: NDArray[np.int64]) -> float:
        """Forward, plus twice that for the gradients of inputs and of weights (the optimiser's pass is memory, not flops)."""
        return 3 * self.forward_flops(lengths)


BERT_BASE = Shape(12, 768, 12, 3072)
BERT_4X312 = Shape(4, 312, 12, 1200)
TINY = Shape(2, 32, 4, 64, vocab=1200, positions=64, labels=3)
SHAPES = {"bert-base": BERT_BASE, "4x312": BERT_4X312, "tiny": TINY}


def write_model(folder: Path, shape: Shape, seed: int = 7, mlm: bool = False) -> Path:
    """Writes config.json and model.safetensors of a random model (and vocab.txt when the data is there), once."""
    from safetensors.numpy import save_file

    config = shape.config() | ({"architectures": ["BertForMaskedLM"]} if mlm else {})
    mark = hashlib.sha256(json.dumps([config, seed, 2]).encode()).hexdigest()
    if (folder / "made").is_file() and (folder / "made").read_text() == mark:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tensors = {}
    sizes: dict[str, tuple[int, ...]] = shape.parameters()
    if mlm:
        h = shape.hidden
        sizes = {n: s for n, s in sizes.items() if not n.startswith(("bert.pooler", "classifier"))}
        base = "cls.predictions."
        sizes |= {base + "transform.dense.weight": (h, h), base + "transform.dense.bias": (h,)}
        sizes |= {
            base + "transform.LayerNorm.weight": (h,),
            base + "transform.LayerNorm.bias": (h,),
            base + "bias": (shape.vocab,),
        }
    for name, size in sizes.items():
        noise = rng.standard_normal(size, dtype=np.float32)
        if name.endswith("LayerNorm.weight"):
            tensors[name] = 1 + np.float32(0.05) * noise
        elif name.endswith("bias"):
            tensors[name] = np.float32(0.02) * noise
        else:
            tensors[name] = np.float32(0.035 if shape.hidden < 768 else 0.03) * noise
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    vocab = DATA / "vocab" / "bert-base-chinese" / "vocab.txt"
    if shape.vocab == 21128 and vocab.is_file():
        (folder / "vocab.txt").write_bytes(vocab.read_bytes())
    (folder / "made").write_text(mark)
    return folder


@dataclass
class Batches:
    """Ragged batches: `rows[b]` is the list of token ids of batch b's sequences, `labels[b]` their classes."""

    rows: list[list[NDArray[np.int64]]]
    labels: list[NDArray[np.int64]]
    source: str = ""
    lengths: list[NDArray[np.int64]] = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = [np.array([len(r) for r in batch], np.int64) for batch in self.rows]

    def save(self, path: Path) -> None:
        flat = [r for batch in self.rows for r in batch]
        np.savez(
            path,
            ids=np.concatenate(flat) if flat else np.zeros(0, np.int64),
            lengths=np.array([len(r) for r in flat], np.int64),
            labels=np.concatenate(self.labels),
            sizes=np.array([len(b) for b in self.rows], np.int64),
            source=np.array(self.source),
        )

    @classmethod
    def load(cls, path: str | Path) -> Batches:
        with np.load(path) as file:
            flat = np.split(file["ids"], np.cumsum(file["lengths"])[:-1])
            ends = np.cumsum(file["sizes"])
            rows = [list(flat[e - n : e]) for e, n in zip(ends, file["sizes"], strict=True)]
            return cls(rows, np.split(file["labels"], ends[:-1]), str(file["source"]))


def pad(rows: list[NDArray[np.int64]], length: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """input_ids and attention_mask [B, length or the longest], right padded with 0."""
    width = max(max((len(r) for r in rows), default=0), length or 0)
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


MASK = 103  # bert-base-chinese


def mask_tokens(ids: NDArray[np.int64], mask: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(ids with 15 % of the real tokens replaced by [MASK], labels: the ids there, -100 elsewhere); at least one a batch."""
    chosen = (np.random.default_rng(seed).random(ids.shape) < 0.15) & (mask == 1) & (ids != CLS) & (ids != SEP)
    if not chosen.any():
        chosen[0, min(1, ids.shape[1] - 1)] = True
    return np.where(chosen, min(MASK, int(ids.max())), ids), np.where(chosen, ids, -100)


def _encode(texts: list[str], max_length: int) -> list[NDArray[np.int64]] | None:
    """Token ids of the texts with bert-base-chinese's vocabulary, by whichever tokenizer is installed."""
    vocab = DATA / "vocab" / "bert-base-chinese" / "vocab.txt"
    if not vocab.is_file():
        return None
    try:
        from tokenizers import BertWordPieceTokenizer

        tokenizer = BertWordPieceTokenizer(str(vocab), lowercase=True)
        tokenizer.enable_truncation(max_length)
        return [np.array(e.ids, np.int64) for e in tokenizer.encode_batch(texts)]
    except ImportError:
        pass
    try:
        from govlm import BertTokenizer

        encoded = BertTokenizer(str(vocab), do_lower_case=True)(texts, truncation=True, max_length=max_length)
        return [np.array(ids, np.int64) for ids in encoded["input_ids"]]
    except ImportError:
        return None


def _random_row(rng: np.random.Generator, length: int, vocab: int) -> NDArray[np.int64]:
    if vocab <= FIRST_WORD + 1:
        return rng.integers(1, vocab, length, dtype=np.int64)
    row = rng.integers(FIRST_WORD, min(vocab, 7991), length, dtype=np.int64)
    row[0], row[-1] = CLS, SEP
    return row


def _tnews(count: int, rng: np.random.Generator) -> tuple[list[NDArray[np.int64]], str]:
    path = DATA / "fewclue" / "tnews" / "train_few_all.json"
    if path.is_file():
        texts = [json.loads(line)["sentence"] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        chosen = [texts[i] for i in rng.permutation(len(texts))[:count]]
        rows = _encode(chosen, 512)
        if rows is not None and len(rows) == count:
            return rows, "TNEWS titles"
    lengths = np.clip(rng.normal(24, 7.5, count).round(), 6, 60).astype(int)
    return [_random_row(rng, int(n), BERT_BASE.vocab) for n in lengths], "SYNTHETIC lengths in place of TNEWS (normal, mean 24)"


def _laws(count: int, rng: np.random.Generator) -> tuple[list[NDArray[np.int64]], str]:
    path = DATA / "laws" / "laws_national.jsonl.gz"
    if path.is_file():
        paragraphs: list[str] = []
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file):
                if number % 7 == 0:
                    paragraphs += [p for p in json.loads(line)["text"].split("\n") if p.strip()]
        chosen = [paragraphs[i] for i in rng.permutation(len(paragraphs))[:count]]
        rows = _encode(chosen, 512)
        if rows is not None and len(rows) == count:
            return rows, "paragraphs of law"
    lengths = np.clip(np.exp(rng.normal(3.85, 0.75, count)).round(), 4, 512).astype(int)
    return [
        _random_row(rng, int(n), BERT_BASE.vocab) for n in lengths
    ], "SYNTHETIC lengths in place of law paragraphs (log-normal)"


def _requests(count: int, rng: np.random.Generator) -> tuple[list[NDArray[np.int64]], str]:
    """What citizens write to their government: every other one a heading alone, the others heading and message."""
    path = DATA / "gov" / "citizen_messages" / "messages_unlabelled_4326.jsonl.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="utf-8") as file:
            messages = [json.loads(line) for line in file]
        chosen = [messages[i] for i in rng.permutation(len(messages))[:count]]
        texts = [m["留言主题"] + ("。" + m["留言详情"].strip()) * (i % 2) for i, m in enumerate(chosen)]
        rows = _encode(texts, 512)
        if rows is not None and len(rows) == count:
            return rows, "citizens' messages, every other one by its heading"
    short, long = np.exp(rng.normal(2.9, 0.35, count)), np.exp(rng.normal(5.0, 0.7, count))
    lengths = np.clip(np.where(np.arange(count) % 2, long, short).round(), 4, 512).astype(int)
    return [_random_row(rng, int(n), BERT_BASE.vocab) for n in lengths], "SYNTHETIC lengths in place of citizens' messages"


def make_batches(
    kind: str, batches: int, size: int, labels: int, *, length: int = 0, vocab: int = 21128, seed: int = 11
) -> Batches:
    """`kind`: "tnews", "laws", "requests" (real texts), "fixed", "ragged" (random ids, `length` tokens or up to it), "listing" (its two requests)."""
    rng = np.random.default_rng(seed)
    count = batches * size
    if kind == "tnews":
        rows, source = _tnews(count, rng)
    elif kind == "laws":
        rows, source = _laws(count, rng)
    elif kind == "requests":
        rows, source = _requests(count, rng)
    elif kind == "listing":
        encoded = _encode(list(LISTING_TEXTS), 512) if DATA.is_dir() else None
        rows = encoded or [_random_row(rng, len(t) + 2, vocab) for t in LISTING_TEXTS]
        source = "the listing's two requests" if encoded else "SYNTHETIC ids of the listing's lengths"
    elif kind == "fixed":
        rows, source = [_random_row(rng, length, vocab) for _ in range(count)], f"random ids, {length} tokens each"
    elif kind == "ragged":
        rows = [_random_row(rng, int(n), vocab) for n in rng.integers(3, max(length, 4) + 1, count)]
        source = f"random ids, 3 to {length} tokens each"
    else:
        raise ValueError(f"unknown kind of batches {kind!r}")
    if vocab != BERT_BASE.vocab:
        rows = [np.minimum(r, vocab - 1) for r in rows]
    targets = rng.integers(0, labels, count, dtype=np.int64)
    if kind == "listing":
        targets = np.array([0, 1], np.int64)
    return Batches(
        [rows[i * size : (i + 1) * size] for i in range(batches)],
        [targets[i * size : (i + 1) * size] for i in range(batches)],
        source,
    )
