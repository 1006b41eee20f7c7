"""What the bundled model does on real sets, beside a linear SVM on the same rows and the same network from random weights.

    python benchmarks/bundled.py --data ../shared/data [--model govlm-small-zh] [--sets tnews,smp2017] [--seeds 3] [--out bundled]

For every set and seed: `combined` is what `govlm finetune` makes (encoder and n-gram branch), `encoder` the same with
--no-ngrams, `random` the encoder from random weights, `svm` scikit-learn's TF-IDF of characters with LinearSVC. `in 8 bits` is
what `govlm quantize` makes of the tuned encoder, against itself in float32. Nothing is chosen by the test rows: epochs, rate and
length stand below for all models alike. `retrieval` asks for service items by their
colloquial names: `bm25` (bm25s, characters and their pairs), `encoder` (mean vectors), `combined` (both scores, each
standardised over the pool, summed). Writes OUT.json after every figure, and goes on where it was; OUT.md is the table.
Needs scikit-learn, bm25s and the data.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from recipe import DATA, grams, recipe  # noqa: E402

Rows = list[tuple[Any, str]]
SETTINGS: dict[str, dict[str, Any]] = {  # the same for every model
    "citizen": {"epochs": 8, "batch_size": 16, "lr": 3e-4, "max_length": 128},
    "tnews": {"epochs": 6, "batch_size": 16, "lr": 3e-4, "max_length": 64},
    "iflytek": {"epochs": 8, "batch_size": 16, "lr": 3e-4, "max_length": 128},
    "csldcp": {"epochs": 6, "batch_size": 16, "lr": 3e-4, "max_length": 128},
    "smp2017": {"epochs": 6, "batch_size": 16, "lr": 3e-4, "max_length": 64},
    "cluener": {"epochs": 4, "batch_size": 16, "lr": 3e-4, "max_length": 64},
    "afqmc": {"epochs": 3, "batch_size": 32, "lr": 3e-4, "max_length": 64},
    "lcqmc": {"epochs": 6, "batch_size": 32, "lr": 3e-4, "max_length": 64},
}
PAIRS = ("afqmc", "lcqmc")
LITERATURE = {"tnews": "53.4 (ALBERT-tiny, whole training set)", "lcqmc": "85.4 (ALBERT-tiny, whole training set)"}


def read_set(name: str, data: Path) -> tuple[Rows, Rows]:
    """(training rows, test rows): the published files where there are two, else a split by a fixed permutation."""
    from govlm.data import permutation, read_examples

    def rows(path: str, text: Any, label: str, kind: str | None = None) -> Rows:
        return [(e.text, str(e.label)) for e in read_examples(data / path, text, label, kind)]

    def split(every: Rows, test: float) -> tuple[Rows, Rows]:
        order = permutation(len(every), 2024, 0).tolist()
        cut = len(every) - round(len(every) * test)
        return [every[i] for i in order[:cut]], [every[i] for i in order[cut:]]

    if name == "citizen":
        path = "gov/citizen_messages/labelled_sample_495.jsonl"
        return split([(f"{h.strip()}。{b.strip()}", c) for (h, b), c in rows(path, ("留言主题", "留言详情"), "一级分类")], 0.2)
    if name == "smp2017":
        train, test = (rows(f"smp_ecdt/smp2017_domain/{part}.tsv", "1", "0") for part in ("train", "develop"))
        return train, test
    if name == "afqmc":
        return split(rows("sentence_pairs/AFQMC/train.txt", ("0", "1"), "2", "tsv"), 0.1)
    if name == "lcqmc":
        return split(rows("sentence_pairs/LCQMC/dev.txt", ("0", "1"), "2", "tsv"), 0.2)
    text, label = {"tnews": ("sentence", "label_desc"), "iflytek": ("sentence", "label"), "csldcp": ("content", "label")}[name]
    train, test = (rows(f"fewclue/{name}/{part}_few_all.json", text, label) for part in ("train", "dev"))
    return train, test


def write_rows(rows: Rows, path: Path) -> None:
    with open(path, "w", encoding="utf-8") as handle:
        for text, label in rows:
            fields = {"text": text} if isinstance(text, str) else {"text": text[0], "pair": text[1]}
            handle.write(json.dumps({**fields, "label": label}, ensure_ascii=False) + "\n")


def random_start(model: str, folder: Path) -> Path:
    """A config.json of the same shape, with the vocabulary beside it."""
    import govlm

    config = govlm.AutoConfig.from_pretrained(model)
    names = (
        "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "max_position_embeddings", "hidden_dropout_prob", "attention_probs_dropout_prob",
    )  # fmt: skip
    govlm.AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({n: getattr(config, n) for n in names}))
    return folder / "config.json"


def score_encoder(name: str, data: Path, model: str, seed: int, kind: str, settings: dict[str, Any]) -> tuple[float, float]:
    """Accuracy on the test rows (cluener: micro F1 of spans) of a model that `govlm finetune` made of the training rows, in
    float32 and in 8 bits."""
    from govlm.train.evaluate import evaluate
    from govlm.train.finetune import Options, finetune
    from govlm.train.quantise import quantise_folder
    from govlm.train.tokens import TokenOptions

    with tempfile.TemporaryDirectory(prefix="govlm-bundled-") as temporary:
        folder = Path(temporary)
        source: str | Path = random_start(model, folder) if kind == "random" else model
        more: dict[str, Any] = {}
        if name == "cluener":
            cut_spans(data / "ner/cluener/train.json", folder)
            options: Options = TokenOptions(**settings, seed=seed, ngrams=False)
            more["task"] = "tokens"
        else:
            for part, rows in zip(("train", "test"), read_set(name, data), strict=True):
                write_rows(rows, folder / f"{part}.jsonl")
            options = Options(**settings, seed=seed, ngrams=kind == "combined")
            more["text_field"] = ("text", "pair") if name in PAIRS else "text"
        finetune(folder / "train.jsonl", model=source, out=folder / "out", options=options, progress=False, **more)
        more.pop("task", None)
        quantise_folder(folder / "out", folder / "int8")
        measure = "micro_f1" if name == "cluener" else "accuracy"
        reports = [
            evaluate(folder / made, folder / "test.jsonl", max_length=settings["max_length"], **more)
            for made in ("out", "int8")
        ]
        return float(reports[0][measure]), float(reports[1][measure])


def cut_spans(path: Path, folder: Path) -> None:
    """CLUENER's rows, one in ten for the test."""
    from govlm.data import permutation
    from govlm.train.tokens import read_spans

    every = list(read_spans(path))
    order = permutation(len(every), 2024, 0).tolist()
    cut = len(every) - len(every) // 10
    for part, rows in (("train", order[:cut]), ("test", order[cut:])):
        with open(folder / f"{part}.jsonl", "w", encoding="utf-8") as handle:
            for row in rows:
                spans = [{"start": s.start, "end": s.end, "label": s.label} for s in every[row].spans]
                handle.write(json.dumps({"text": every[row].text, "entities": spans}, ensure_ascii=False) + "\n")


def score_svm(name: str, data: Path) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    train, test = read_set(name, data)
    machine = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True), LinearSVC())
    machine.fit([t for t, _ in train], [c for _, c in train])
    return float(np.mean([a == b for a, b in zip(machine.predict([t for t, _ in test]), (c for _, c in test), strict=True)]))


# ------------------------------------------------------------------------------------------------------------- retrieval


def bm25_scores(query: str, documents: list[str]) -> np.ndarray:
    import bm25s

    index = bm25s.BM25()
    index.index([grams(text) for text in documents], show_progress=False)
    return np.asarray(index.get_scores(grams(query)))


def standardised(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / (scores.std() + 1e-9)


def retrieval(data: Path, model: str) -> dict[str, dict[str, float]]:
    """R@1 and R@10 on all colloquial names, and on those that no training saw; every item with the name counts as right.

    Items are known by their name, their departments and their other colloquial names, the one asked for left out.
    """
    import govlm

    run = recipe(data)
    seen, held = run.aliases()
    pool = run.retrieval()[1]
    place = {name: i for i, name in enumerate(pool)}
    departments: list[set[str]] = [set() for _ in pool]
    for row in run.items():
        departments[place[row["matter_name"].strip()]].add(str(row["DEPT_NAME"] or "").strip())
    aliases: list[set[str]] = [set() for _ in pool]
    for alias, item in [*seen, *held]:
        aliases[place[item]].add(alias)
    queries = sorted({alias for alias, _ in [*seen, *held]})
    encoder = govlm.AutoModel.from_pretrained(model, add_pooling_layer=False)
    named, spoken = (np.asarray(encoder.encode(texts, normalize=True, pooling="mean")) for texts in (pool, queries))
    number = {alias: i for i, alias in enumerate(queries)}
    unseen = {alias for alias, _ in held}
    hits: dict[str, list[list[bool]]] = {"bm25": [], "encoder": [], "combined": []}
    for query in queries:
        right = {i for i, names in enumerate(aliases) if query in names}
        others = [sorted(names - {query}) for names in aliases]
        texts = [" ".join([name, *sorted(d), *o]) for name, d, o in zip(pool, departments, others, strict=True)]
        scores = {"bm25": bm25_scores(query, texts)}
        vector = spoken[number[query]]
        similar = named @ vector
        for i, names in enumerate(others):
            if names:
                similar[i] = max(similar[i], *(float(spoken[number[n]] @ vector) for n in names))
        scores["encoder"] = similar
        scores["combined"] = standardised(scores["bm25"]) + standardised(similar)
        for kind, values in scores.items():
            order = np.argsort(-values, kind="stable")
            hits[kind].append([bool(right & set(order[:k].tolist())) for k in (1, 10)])
    found: dict[str, dict[str, float]] = {}
    new = np.array([query in unseen for query in queries])
    for kind, rows in hits.items():
        for part, chosen in (("all", np.array(rows)), ("unseen", np.array(rows)[new])):
            found.setdefault(part, {}).update(
                {f"{kind} R@1": float(chosen[:, 0].mean()), f"{kind} R@10": float(chosen[:, 1].mean())}
            )
    return found


# ------------------------------------------------------------------------------------------------------------ the report


def table(results: dict[str, Any]) -> str:
    lines = ["| set | combined | encoder | in 8 bits, less | random | SVM | literature |", "|---|---|---|---|---|---|---|"]

    def shown(values: Any) -> str:
        if not values:
            return ""
        percent = 100 * np.asarray(list(values.values()))
        return f"{percent.mean():.1f}" + (f" ± {percent.std():.1f}" if len(percent) > 1 else "")

    for name in SETTINGS:
        if name in results:
            cells = [shown(results[name].get(kind)) for kind in ("combined", "encoder", "random", "svm")]
            eights = results[name].get("encoder int8", {})
            cells.insert(2, shown({seed: score - results[name]["encoder"][seed] for seed, score in eights.items()}))
            lines.append(f"| {name} | {' | '.join(cells)} | {LITERATURE.get(name, '')} |")
    if "retrieval" in results:
        lines += ["", "| items by colloquial name | BM25 R@1 / R@10 | encoder | combined |", "|---|---|---|---|"]
        for part, found in results["retrieval"].items():
            cells = [
                " / ".join(f"{100 * found[f'{kind} R@{k}']:.1f}" for k in (1, 10)) for kind in ("bm25", "encoder", "combined")
            ]
            lines.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="The bundled model on real sets.")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--model", default="govlm-small-zh", metavar="DIR")
    parser.add_argument("--sets", default=",".join([*SETTINGS, "retrieval"]), metavar="A,B")
    parser.add_argument("--kinds", default="combined,encoder,random,svm", metavar="A,B")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, metavar="N", help="in place of each set's own, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("bundled"), metavar="NAME")
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".json")
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def note(name: str, kind: str, seed: str, score: Callable[[], tuple[float, ...]]) -> None:
        """score(): what the model reaches and, where it is one of ours, what it reaches in 8 bits."""
        found = results.setdefault(name, {})
        if seed not in found.get(kind, {}):
            started = time.monotonic()
            reached = score()
            for of, value in zip((kind, f"{kind} int8"), reached, strict=False):
                found.setdefault(of, {})[seed] = value
            shown = " / ".join(f"{100 * value:.1f}" for value in reached)
            print(f"{name} {kind} seed {seed}: {shown} ({time.monotonic() - started:.0f} s)", flush=True)
            file.write_text(json.dumps(results, indent=1) + "\n")

    kinds = arguments.kinds.split(",")
    for name in arguments.sets.split(","):
        if name == "retrieval":
            results[name] = retrieval(arguments.data, arguments.model)
            file.write_text(json.dumps(results, indent=1) + "\n")
            continue
        settings = {**SETTINGS[name], **({"epochs": arguments.epochs} if arguments.epochs else {})}
        plain = name in PAIRS or name == "cluener"  # no n-grams there
        if "svm" in kinds and not plain:
            note(name, "svm", "0", lambda name=name: (score_svm(name, arguments.data),))  # type: ignore[misc]
        for seed in range(arguments.seeds):
            for kind in ("combined", "encoder", "random"):
                if kind in kinds and not (kind == "combined" and plain):
                    note(
                        name, kind, str(seed),
                        lambda n=name, s=seed, k=kind, o=settings: score_encoder(n, arguments.data, arguments.model, s, k, o),  # type: ignore[misc]
                    )  # fmt: skip
    text = table(results)
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
