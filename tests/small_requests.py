"""A few made-up requests of three kinds, and a folder in which a tiny model learns them."""

import json
import random
from pathlib import Path

THINGS = {"户籍": ["户口本", "身份证", "居住证"], "社保": ["养老金", "医保卡", "失业金"], "车管": ["驾驶证", "行驶证", "车牌"]}
WAYS = ["{}丢了怎么补办", "想问一下{}在哪里办", "办{}要带什么材料", "{}多久能办好", "我的{}过期了", "请帮我查{}的进度"]
CONFIG = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 32, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip


def rows(things: dict[str, list[str]] = THINGS) -> list[tuple[str, str]]:
    """54 texts with their labels, shuffled."""
    every = [(way.format(thing), label) for label, names in things.items() for thing in names for way in WAYS]
    random.Random(0).shuffle(every)
    return every


def write_rows(path: Path, items: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"text": t, "label": c}, ensure_ascii=False) + "\n" for t, c in items), encoding="utf-8")


def write_work(
    folder: Path, train: int, every: list[tuple[str, str]] | None = None, config: dict | None = None, characters: str = ""
) -> Path:
    """train.jsonl (the first rows), dev.jsonl (the others), config.json, and vocab.txt of their characters and `characters`."""
    every = rows() if every is None else every
    write_rows(folder / "train.jsonl", every[:train])
    write_rows(folder / "dev.jsonl", every[train:])
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    known = sorted({c for text, _ in every for c in text} | set(characters))
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *known]) + "\n", encoding="utf-8"
    )
    return folder
