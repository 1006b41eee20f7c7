"""A corpus of token shards for tests, written by hand from the format's description, and a config to train on it."""

import hashlib
import json
import random

import numpy as np

import govlm

WORDS = [
    "户口本",
    "身份证",
    "居住证",
    "养老金",
    "医保",
    "社保",
    "驾驶证",
    "行驶证",
    "车牌",
    "护照",
    "补办",
    "材料",
    "窗口",
    "预约",
]


def documents(count, seed=0, longest=60):
    """Documents that repeat two words in any order: what is masked stands elsewhere, and a model learns to look there."""
    source = random.Random(seed)
    for _ in range(count):
        topic = source.sample(WORDS, 2)
        yield [source.choice(topic) for _ in range(source.randrange(4, longest))]


def tokenizer():
    characters = sorted({c for word in WORDS for c in word})
    return govlm.BertTokenizer({t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters])})


def write_corpus(folder, count=120, seed=0, shards=2, longest=60):
    """`folder` as `govlm corpus build` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    tok = tokenizer()
    tok.save_pretrained(str(folder))
    texts = list(documents(count, seed, longest))
    entries = []
    for n in range(shards):
        ids, splits, starts = [], [0], []
        for words in texts[n::shards]:
            for word in words:
                ids += [tok.convert_tokens_to_ids(c) for c in word]
                starts += [1] + [0] * (len(word) - 1)
            splits.append(len(ids))
        name = f"shard-{n:05d}.safetensors"
        govlm.save_file(
            {
                "ids": np.array(ids, np.uint16),
                "document_splits": np.array(splits, np.int64),
                "word_starts": np.packbits(np.array(starts, np.uint8), bitorder="little"),
            },
            folder / name,
        )
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        entries.append({"file": name, "sha256": digest, "documents": len(splits) - 1, "tokens": len(ids)})
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    manifest = {
        "format": 1,
        "vocab_size": len(tok),
        "tokenizer_sha256": digest,
        "options": {},
        "statistics": {},
        "shards": entries,
    }
    (folder / "corpus.json").write_text(json.dumps(manifest))
    return folder


MODEL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "initializer_range": 0.1,
}
FAST = {"max_length": 32, "batch_size": 8, "lr": 3e-3, "seed": 1, "steps": 40, "eval_every": 20, "heldout_share": 0.1}


def config(work, out="out", **changes):
    """The options of a run in `work` as a config file's values."""
    return {"corpus": [str(work / "corpus")], "out": str(work / out), "model": MODEL, **FAST, **changes}
