"""Two models that write, trained here from nothing, beside what does not learn to: the curves of notebooks/10_training_curves.ipynb.

    python benchmarks/writing.py laws   --work DIR [--data ../shared/data]
    python benchmarks/writing.py titles --work DIR [--data ../shared/data]

laws     A causal model on the laws in force beside an interpolated 5-gram with modified Kneser-Ney smoothing (kneser_ney.py): the
         perplexity a token on the same held-out laws, both from the same tokens.
titles   A small T5, pre-trained by span corruption on the corpus and fine-tuned on abstracts and titles, beside the first sentence of the
         abstract (lead-1): ROUGE-L on titles that no training saw.

Both go on from the newest checkpoint in --work. What they leave in benchmarks/curves is figures only.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from recipe import DATA  # noqa: E402

CURVES = HERE / "curves"
SEED, HELD_OUT_LAWS, TRAIN_LAWS, LENGTH, TEST_TITLES, DEV_TITLES = 0, 60, 400, 256, 200, 100
CAUSAL = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 4, "tie_word_embeddings": True,
}  # fmt: skip
T5 = {
    "model_type": "t5",
    "d_model": 256,
    "d_kv": 64,
    "d_ff": 768,
    "num_layers": 4,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}


def laws_in_force(data: Path) -> list[str]:
    rows: list[dict[str, Any]] = []
    for name in ("national", "local"):
        with gzip.open(data / f"laws/laws_{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    return [row["text"] for row in rows if row["latest"]]


def corpus_of(texts: list[str], folder: Path) -> None:
    """Token shards of these texts as they are: nothing is left out, so that both sides have the same tokens."""
    import tempfile

    from govlm.bundled import model_folder
    from govlm.corpus.build import Options, build

    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "texts.jsonl"
        file.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
        options = Options(
            duplicates="keep", min_chars=1, min_cjk=0.0, scrub=False, words=False, held_out=0.0, max_chars=10_000_000
        )
        build([file], folder, model_folder("govlm-small-zh"), options, overwrite=True)


def documents_of(folder: Path) -> list[np.ndarray]:
    from govlm.corpus.shards import Corpus

    corpus = Corpus(folder)
    found = []
    for index in range(len(corpus.shards)):
        shard = corpus.shard(index)
        splits = np.asarray(shard.document_splits, np.int64)
        found += [np.asarray(shard.ids[a:b], np.int32) for a, b in itertools.pairwise(splits)]
    return found


def perplexity(model: Any, documents: list[np.ndarray], length: int, cls: int) -> float:
    """Of every token of the documents, in pieces of `length`, each behind [CLS] alone: what stands before a piece is not seen."""
    from govlm.train.evaluate import new_packed
    from govlm.train.masking import IGNORED

    pieces = [d[i : i + length] for d in documents for i in range(0, len(d), length)]
    total, count = 0.0, 0
    for begin in range(0, len(pieces), 32):
        rows = [np.concatenate([[cls], piece]).astype(np.int32) for piece in pieces[begin : begin + 32]]
        splits = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        ids = np.concatenate(rows)
        labels = ids.astype(np.int64)
        labels[splits[:-1]] = IGNORED
        asked = len(ids) - len(rows)
        total += float(model(packed=new_packed(ids, splits), labels=labels).loss.item()) * asked
        count += asked
    return float(np.exp(total / count))


def curve(folder: Path) -> list[dict[str, float]]:
    """The evaluations of a run, from its log."""
    found = []
    for line in (folder / "log.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line).get("evaluation")
        if entry:
            found.append({name: round(float(value), 5) for name, value in entry.items() if isinstance(value, (int, float))})
    return found


def write(name: str, record: dict[str, Any]) -> None:
    CURVES.mkdir(exist_ok=True)
    (CURVES / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in record.items() if k != "curve"}))


def laws(data: Path, work: Path, epochs: float) -> None:
    import govlm
    from benchmarks.kneser_ney import KneserNey
    from govlm.train.pretrain import pretrain, read_options

    texts = laws_in_force(data)
    order = np.random.default_rng(SEED).permutation(len(texts))
    parts = {"held-out": order[:HELD_OUT_LAWS], "train": order[HELD_OUT_LAWS : HELD_OUT_LAWS + TRAIN_LAWS]}
    for name, numbers in parts.items():
        if not (work / name / "corpus.json").exists():
            corpus_of([texts[i] for i in numbers], work / name)
    documents = {name: documents_of(work / name) for name in parts}
    peer = KneserNey(documents["train"], 8192).perplexity(documents["held-out"])
    options = read_options(
        None,
        {
            "corpus": [str(work / "train")], "heldout": [str(work / "held-out")], "out": str(work / "causal"), "objective": "causal",
            "max_length": LENGTH + 2, "batch_size": 16, "epochs": epochs, "lr": 2e-3, "schedule": "warmup_stable_decay", "decay": 0.3,
            "eval_every": 250, "eval_batch_size": 32, "model": CAUSAL, "save_minutes": 3, "seed": SEED,
        },
    )  # fmt: skip
    result = pretrain(options, resume=(work / "causal" / "checkpoints").exists())
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(work / "causal"))
    model = govlm.AutoModelForCausalLM.from_pretrained(str(work / "causal"))
    write(
        "laws",
        {
            "train_laws": len(documents["train"]), "train_tokens": int(sum(map(len, documents["train"]))),
            "held_out_laws": len(documents["held-out"]), "held_out_tokens": int(sum(map(len, documents["held-out"]))),
            "kneser_ney_5": round(peer, 3), "causal": round(perplexity(model, documents["held-out"], LENGTH, tokenizer.cls_token_id), 3),
            "epochs": epochs, "steps": result["steps"], "parameters": model.num_parameters(), "curve": curve(work / "causal"),
        },
    )  # fmt: skip


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[。！？!?])|(?<=[.．])(?![0-9])", text)[0].strip()


def titles(data: Path, work: Path, steps: int, epochs: int) -> None:
    import govlm
    from govlm.train.finetune import finetune
    from govlm.train.pretrain import pretrain, read_options
    from govlm.train.rouge import rouge
    from govlm.train.writing import WritingOptions, write_answers
    from govlm.train.written import encode_written, read_dialogues

    lines = (data / "summarisation/csl_title/dev.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t")[1:3] for line in lines]
    order = np.random.default_rng(SEED).permutation(len(rows))
    parts = {"test": order[:TEST_TITLES], "dev": order[TEST_TITLES:][:DEV_TITLES], "train": order[TEST_TITLES + DEV_TITLES :]}
    work.mkdir(parents=True, exist_ok=True)
    for name, numbers in parts.items():
        text = "".join(json.dumps({"source": rows[i][0], "target": rows[i][1]}, ensure_ascii=False) + "\n" for i in numbers)
        (work / f"{name}.jsonl").write_text(text, encoding="utf-8")
    corpus = work / "corpus"
    if not (corpus / "corpus.json").exists():
        import lzma

        texts: list[str] = []
        for file in ("pretrain.train.txt.xz", "general.train.part1of3.txt.xz"):
            with lzma.open(data / "corpus" / file, "rt", encoding="utf-8") as handle:
                texts += [part for part in handle.read().split("\n\n") if part.strip()]
        corpus_of([texts[i] for i in np.random.default_rng(SEED).permutation(len(texts))[:60_000]], corpus)
    options = read_options(
        None,
        {
            "corpus": [str(corpus)], "out": str(work / "t5"), "objective": "span", "max_length": 130, "batch_size": 32, "steps": steps,
            "lr": 2e-3, "schedule": "warmup_stable_decay", "decay": 0.2, "eval_every": 500, "model": T5, "save_minutes": 3, "seed": SEED,
            "heldout_sequences": 512,
        },
    )  # fmt: skip
    pretrain(options, resume=(work / "t5" / "checkpoints").exists())
    tuned = work / "titles"
    result = finetune(
        work / "train.jsonl", work / "dev.jsonl", model=work / "t5", out=tuned, task="summarise", refit=False, resume=tuned.exists(),
        options=WritingOptions(epochs=epochs, batch_size=16, lr=1e-3, max_length=300, max_target=48, max_new_tokens=40, metric="rouge_l", written=DEV_TITLES),
    )  # fmt: skip
    tokenizer, model = govlm.AutoTokenizer.from_pretrained(str(tuned)), govlm.AutoModelForSeq2SeqLM.from_pretrained(str(tuned))
    dialogues = list(read_dialogues(work / "test.jsonl"))
    test = encode_written(tokenizer, dialogues, True, 300, "test.jsonl", 48)
    made = write_answers(model, tokenizer, test, len(test), 40)
    ours = [rouge(text, wanted).longest for text, wanted in zip(made, test.references, strict=True)]
    lead = [rouge(first_sentence(d.messages[0][1]), d.target).longest for d in dialogues]
    differences = np.array(ours) - np.array(lead)
    draws = np.random.default_rng(SEED).integers(0, len(ours), (2000, len(ours)))
    low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
    write(
        "titles",
        {
            "train": len(parts["train"]), "dev": len(parts["dev"]), "test": len(test), "lead_1": round(float(np.mean(lead)), 4),
            "t5": round(float(np.mean(ours)), 4), "ahead": [round(float(low), 4), round(float(high), 4)], "parameters": model.num_parameters(),
            "steps": steps, "epochs": epochs, "curve": curve(work / "t5"), "curve_titles": result["history"],
        },
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Models that write, trained from nothing.")
    parser.add_argument("what", choices=("laws", "titles"))
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="corpora, checkpoints, logs")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--epochs", type=float, default=0, help="passes over the laws (3), over the titles (30)")
    parser.add_argument("--steps", type=int, default=4000, help="of the T5's pre-training (4000)")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.what == "laws":
        laws(arguments.data, arguments.work, arguments.epochs or 3)
    else:
        titles(arguments.data, arguments.work, arguments.steps, int(arguments.epochs or 30))
    return 0


if __name__ == "__main__":
    sys.exit(main())
