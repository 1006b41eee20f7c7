"""Fine-tuning real data side by side with Hugging Face, from one random initialisation.

    python benchmarks/real_runs.py [--data ../shared/data] [--sets citizen_messages,smp2017,tnews] [--out real_runs]

Both sides start from the same weights (saved by govlm), with the same vocabulary, the same rows in the same order, the same
optimizer, schedule, clipping and batch size; dropout is on and each side draws its own. Every run is a process of its own, so
that its peak memory is its own; the two sides take turns. Writes OUT.json and OUT.md. Needs torch, transformers and the data.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SIZES = {
    "hidden_size": 312,
    "num_hidden_layers": 4,
    "num_attention_heads": 12,
    "intermediate_size": 1200,
    "max_position_embeddings": 512,
}
WARMUP, CLIP, WEIGHT_DECAY = 0.1, 1.0, 0.01
SETS = {  # epochs, batch size, learning rate, longest text in tokens
    "citizen_messages": {"epochs": 8, "batch_size": 16, "lr": 4e-4, "max_length": 128},
    "smp2017": {"epochs": 6, "batch_size": 16, "lr": 4e-4, "max_length": 64},
    "tnews": {"epochs": 8, "batch_size": 16, "lr": 4e-4, "max_length": 64},
}


def read_set(name: str, data: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(training rows, test rows) as (text, label)."""
    sys.path.insert(0, str(HERE.parent))
    from govlm.data import permutation, read_examples

    def rows(path: str, text: str, label: str) -> list[tuple[str, str]]:
        return [(e.text, str(e.label)) for e in read_examples(data / path, text, label)]

    if name == "citizen_messages":  # 495 rows: four fifths to train on, the rest to test on
        path = "gov/citizen_messages/labelled_sample_495.jsonl"
        heads, bodies = rows(path, "留言主题", "一级分类"), rows(path, "留言详情", "一级分类")
        every = [(f"{h[0]}。{b[0].strip()}", h[1]) for h, b in zip(heads, bodies, strict=True)]
        order = permutation(len(every), 2024, 0).tolist()
        cut = len(every) * 4 // 5
        return [every[i] for i in order[:cut]], [every[i] for i in order[cut:]]
    if name == "smp2017":
        return tuple(rows(f"smp_ecdt/smp2017_domain/{part}.tsv", "1", "0") for part in ("train", "develop"))  # type: ignore[return-value]
    return tuple(rows(f"fewclue/tnews/{part}_few_all.json", "sentence", "label_desc") for part in ("train", "dev"))  # type: ignore[return-value]


def prepare(name: str, data: Path, seed: int, folder: Path) -> None:
    """Writes what both sides read: the initial model, and the encoded rows."""
    import govlm
    from govlm.train.evaluate import encode_texts

    train, test = read_set(name, data)
    vocabulary = folder / "vocab.txt"
    characters = sorted({c for text, _ in train for c in text.lower() if not c.isspace()})
    pieces = ["##" + c for c in characters if c.isascii() and c.isalnum()]
    vocabulary.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *pieces]) + "\n", encoding="utf-8"
    )
    tokenizer = govlm.BertTokenizer(str(vocabulary))
    names = sorted({label for _, label in train})
    govlm.set_seed(seed)
    config = govlm.BertConfig(
        vocab_size=len(tokenizer), id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}, **SIZES
    )
    model = govlm.BertForSequenceClassification(config)
    model.save_pretrained(folder / "init")
    tokenizer.save_pretrained(folder / "init")
    for part, rows in (("train", train), ("test", test)):
        encoded = encode_texts(model, tokenizer, [t for t, _ in rows], SETS[name]["max_length"])
        labels = np.array([names.index(c) if c in names else -1 for _, c in rows], np.int64)
        np.savez(folder / f"{part}.npz", ids=encoded.ids, row_splits=encoded.row_splits, labels=labels)


def batches(count: int, name: str, seed: int) -> list[np.ndarray]:
    from govlm.data import permutation

    size = SETS[name]["batch_size"]
    every = []
    for epoch in range(SETS[name]["epochs"]):
        order = permutation(count, seed, epoch)
        every += [order[i : i + size] for i in range(0, count, size)]
    return every


def run_govlm(name: str, folder: Path, seed: int) -> dict[str, Any]:
    import govlm
    from govlm.train.evaluate import Encoded, predict_logits
    from govlm.train.finetune import Options, Trainer

    settings = SETS[name]
    model = govlm.BertForSequenceClassification.from_pretrained(folder / "init")
    sets = {}
    for part in ("train", "test"):
        arrays = np.load(folder / f"{part}.npz")
        sets[part] = Encoded(arrays["ids"], arrays["row_splits"], arrays["labels"], list(model.config.id2label.values()))
    options = Options(
        epochs=settings["epochs"], batch_size=settings["batch_size"], lr=settings["lr"], seed=seed,
        warmup=WARMUP, clip=CLIP, weight_decay=WEIGHT_DECAY,
    )  # fmt: skip
    before = peak_memory()
    result = Trainer(model, None, sets["train"], options=options, progress=False).train()
    started = time.monotonic()
    accuracy = float(np.mean(predict_logits(model, sets["test"]).argmax(axis=1) == sets["test"].labels))
    return {
        "accuracy": accuracy, "train_s": result["seconds"], "test_s": time.monotonic() - started, "tokens": result["tokens"],
        "last_loss": result["loss"], "peak_mb": peak_memory(), "before_mb": before,
    }  # fmt: skip


def run_hugging_face(name: str, folder: Path, seed: int) -> dict[str, Any]:
    import torch
    from transformers import BertForSequenceClassification, get_linear_schedule_with_warmup

    settings = SETS[name]
    torch.manual_seed(seed)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    model = BertForSequenceClassification.from_pretrained(folder / "init")
    model.train()
    sets = {part: dict(np.load(folder / f"{part}.npz")) for part in ("train", "test")}
    matrices = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    vectors = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"])
    every = batches(len(sets["train"]["labels"]), name, seed)
    schedule = get_linear_schedule_with_warmup(optimizer, round(WARMUP * len(every)), len(every))

    def padded(part: str, rows: Any) -> tuple[Any, Any, Any]:
        """Dynamic padding: to the longest text of the batch."""
        splits, ids = sets[part]["row_splits"], sets[part]["ids"]
        lengths = splits[rows + 1] - splits[rows]
        batch = np.zeros((len(rows), int(lengths.max())), np.int64)
        for i, row in enumerate(rows):
            batch[i, : lengths[i]] = ids[splits[row] : splits[row + 1]]
        mask = (np.arange(batch.shape[1]) < lengths[:, None]).astype(np.int64)
        return torch.from_numpy(batch), torch.from_numpy(mask), torch.from_numpy(sets[part]["labels"][rows])

    before = peak_memory()
    started, tokens, loss = time.monotonic(), 0, 0.0
    for rows in every:
        ids, mask, labels = padded("train", rows)
        out = model(input_ids=ids, attention_mask=mask, labels=labels)
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        tokens += int(mask.sum())
        loss = out.loss.item()
    train_s = time.monotonic() - started
    model.eval()
    started, right = time.monotonic(), 0
    count = len(sets["test"]["labels"])
    with torch.no_grad():
        for start in range(0, count, 64):
            ids, mask, labels = padded("test", np.arange(start, min(start + 64, count)))
            right += int((model(input_ids=ids, attention_mask=mask).logits.argmax(-1) == labels).sum())
    return {
        "accuracy": right / count, "train_s": train_s, "test_s": time.monotonic() - started, "tokens": tokens,
        "last_loss": loss, "peak_mb": peak_memory(), "before_mb": before,
    }  # fmt: skip


def peak_memory() -> float:
    """MB of this process at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(side: str, name: str, folder: Path, seed: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", side, "--sets", name, "--folder", str(folder), "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{side} on {name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(results: list[dict[str, Any]]) -> str:
    columns = ["data", "rows train / test", "epochs", "accuracy govlm", "accuracy HF", "difference"]
    columns += ["training govlm", "HF", "faster", "peak memory govlm", "HF"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for r in results:
        mean = {side: {k: float(np.mean([x[k] for x in r[side]])) for k in r[side][0]} for side in ("govlm", "hf")}
        g, h = mean["govlm"], mean["hf"]
        seeds = {side: " ".join(f"{100 * x['accuracy']:.1f}" for x in r[side]) for side in ("govlm", "hf")}
        cells = [r["set"], f"{r['rows'][0]} / {r['rows'][1]}", str(r["epochs"])]
        cells += [f"{100 * mean[side]['accuracy']:.2f} ({seeds[side]})" for side in ("govlm", "hf")]
        cells += [f"{100 * (g['accuracy'] - h['accuracy']):+.2f}", f"{g['train_s']:.1f} s", f"{h['train_s']:.1f} s"]
        cells += [f"{h['train_s'] / g['train_s']:.2f}x", f"{g['peak_mb']:.0f} MB", f"{h['peak_mb']:.0f} MB"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE.parent / "../shared/data")
    parser.add_argument("--sets", default=",".join(SETS), help="which of " + ", ".join(SETS))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, help="instead of each set's own, to try it out")
    parser.add_argument("--out", default="real_runs", help="OUT.json and OUT.md")
    parser.add_argument("--child", choices=("govlm", "hf"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.epochs is None and "REAL_RUNS_EPOCHS" in os.environ:
        arguments.epochs = int(os.environ["REAL_RUNS_EPOCHS"])
    if arguments.epochs is not None:
        os.environ["REAL_RUNS_EPOCHS"] = str(arguments.epochs)  # the children run as long
        for settings in SETS.values():
            settings["epochs"] = arguments.epochs
    if arguments.child:
        side = run_govlm if arguments.child == "govlm" else run_hugging_face
        print(json.dumps(side(arguments.sets, arguments.folder, arguments.seed)))
        return
    if not arguments.data.is_dir():
        sys.exit(f"the data is not at {arguments.data}: give --data")
    sys.path.insert(0, str(HERE.parent))
    results = []
    for name in arguments.sets.split(","):
        result: dict[str, Any] = {"set": name, **SETS[name], "govlm": [], "hf": []}
        for seed in map(int, arguments.seeds.split(",")):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                prepare(name, arguments.data, seed, folder)
                result["rows"] = [len(np.load(folder / f"{p}.npz")["labels"]) for p in ("train", "test")]
                for side in ("govlm", "hf") if seed % 2 else ("hf", "govlm"):
                    run = child(side, name, folder, seed)
                    result[side].append({"seed": seed, **run})
                    print(f"{name} seed {seed} {side}: accuracy {run['accuracy']:.4f}, {run['train_s']:.1f} s", file=sys.stderr)
        results.append(result)
        Path(f"{arguments.out}.json").write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        Path(f"{arguments.out}.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
