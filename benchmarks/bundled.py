"""What the bundled model does on real sets, beside a linear SVM on the same rows and the same network from random weights.

    python benchmarks/bundled.py [--data ../shared/data] [--model govlm-small-zh] [--sets tnews,smp2017] [--seeds 3] [--out NAME]

For every set and seed: `combined` is what `govlm finetune` makes (encoder and n-gram branch), `encoder` the same with
--no-ngrams, `random` the encoder from random weights, `svm` scikit-learn's TF-IDF of characters with LinearSVC. `in 8 bits` is
what `govlm quantize` makes of the tuned encoder, against itself in float32. Nothing is chosen by the test rows: epochs, rate and
length stand below for all models alike. `retrieval` asks for services by their colloquial names (names.py): BM25, sentence
vectors alone, and the hall's ranking, which weighs those vectors with what names share.

NAME.json keeps every figure as soon as it is there: a run goes on where it was, and runs of different sets may share it. Ours is
bundled.json beside this file. NAME.md is the table. Needs scikit-learn, bm25s, govlm[hall] and the data.
"""

from __future__ import annotations

import argparse
import fcntl
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
import names  # noqa: E402
from recipe import DATA, recipe  # noqa: E402

Rows = list[tuple[Any, str]]
SETTINGS: dict[str, dict[str, Any]] = {  # the same for every model
    "citizen": {"epochs": 8, "batch_size": 16, "lr": 3e-4, "max_length": 128},
    "tnews": {"epochs": 6, "batch_size": 16, "lr": 3e-4, "max_length": 64},
    "iflytek": {"epochs": 8, "batch_size": 16, "lr": 3e-4, "max_length": 128},
    "csldcp": {"epochs": 10, "batch_size": 16, "lr": 3e-4, "max_length": 256},
    "smp2017": {"epochs": 6, "batch_size": 16, "lr": 3e-4, "max_length": 64},
    "cluener": {"epochs": 4, "batch_size": 16, "lr": 3e-4, "max_length": 64},
    "afqmc": {"epochs": 3, "batch_size": 32, "lr": 3e-4, "max_length": 64},
    "lcqmc": {"epochs": 6, "batch_size": 32, "lr": 3e-4, "max_length": 64},
}
PAIRS = ("afqmc", "lcqmc")
LITERATURE = {  # ALBERT-tiny after the whole training sets: the CLUE benchmark's board; LCQMC: albert_zh
    name: f"{accuracy} (ALBERT-tiny, whole training set)"
    for name, accuracy in {"tnews": 53.4, "iflytek": 48.7, "afqmc": 69.9, "lcqmc": 85.4}.items()
}


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
    """Of pairs the machine sees what differs (|a - b|) and what both have (a b)."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    train, test = read_set(name, data)
    counts = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    counts.fit([text for texts, _ in train for text in ((texts,) if isinstance(texts, str) else texts)])

    def seen(rows: Rows) -> Any:
        if name not in PAIRS:
            return counts.transform([text for text, _ in rows])
        one, other = (counts.transform([pair[i] for pair, _ in rows]) for i in (0, 1))
        return hstack([abs(one - other), one.multiply(other)]).tocsr()

    found = LinearSVC().fit(seen(train), [c for _, c in train]).predict(seen(test))
    return float(np.mean([a == b for a, b in zip(found, (c for _, c in test), strict=True)]))


def score_retrieval(data: Path, model: str) -> dict[str, Any]:
    """As names.py has it, with the sentence vectors of `model`."""
    import govlm
    from govlm.hall.retrieval.characters import Characters
    from govlm.hall.understanding.fitting import cached

    encoder = govlm.AutoModel.from_pretrained(model, add_pooling_layer=False)
    encode = cached(lambda texts: np.asarray(encoder.encode(list(texts), normalize=True, max_length=200)))
    return names.by_names(recipe(data), encode, Characters.make())


# ------------------------------------------------------------------------------------------------------------ the report


class Record:
    """Figures by set, kind and seed, in a file to which several processes may write. All are of one model."""

    def __init__(self, file: Path, model: str) -> None:
        """ValueError when the file has figures of another model."""
        self._file, self._model = file, model
        file.touch()
        self._change(lambda results: None)

    def _change(self, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        with open(self._file, "r+", encoding="utf-8") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            text = handle.read()
            results: dict[str, Any] = json.loads(text) if text else {"model": self._model}
            if results["model"] != self._model:
                raise ValueError(
                    f"{self._file}: figures of a model {results['model']}, this one is {self._model}: use another --out"
                )
            change(results)
            handle.seek(0)
            handle.write(json.dumps(results, indent=1) + "\n")
            handle.truncate()
        return results

    def figures(self) -> dict[str, Any]:
        return self._change(lambda results: None)

    def add(self, name: str, kind: str, seed: str, value: Any) -> None:
        self._change(lambda results: results.setdefault(name, {}).setdefault(kind, {}).update({seed: value}))


def table(results: dict[str, Any]) -> str:
    lines = [
        "| set | combined | in 8 bits, more | encoder | in 8 bits, more | random | SVM | literature |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def shown(values: dict[str, float], form: str = "{:.1f}") -> str:
        if not values:
            return ""
        percent = 100 * np.asarray(list(values.values()))
        return form.format(percent.mean()) + (f" ± {percent.std():.1f}" if len(percent) > 1 else "")

    for name in SETTINGS:
        if name in results:
            found = results[name]
            cells = []
            for kind in ("combined", "encoder", "random", "svm"):
                floats, eights = found.get(kind, {}), found.get(f"{kind} int8", {})
                cells.append(shown(floats))
                if kind in ("combined", "encoder"):
                    cells.append(shown({seed: score - floats[seed] for seed, score in eights.items()}, "{:+.1f}"))
            lines.append(f"| {name} | {' | '.join(cells)} | {LITERATURE.get(name, '')} |")
    if "retrieval" in results:
        lines += ["", "| services by colloquial name, R@1 / R@10 | BM25 | encoder | the hall |", "|---|---|---|---|"]
        for part, found in results["retrieval"].items():
            cells = [" / ".join(f"{100 * value:.1f}" for value in found[kind]) for kind in names.KINDS]
            lines.append(f"| {part} ({found['queries']} names, pool of {found['pool']:,}) | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    from govlm.bundled import model_folder
    from govlm.checkpoint import sha256_of

    parser = argparse.ArgumentParser(description="The bundled model on real sets.")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--model", default="govlm-small-zh", metavar="DIR")
    parser.add_argument("--sets", default=",".join([*SETTINGS, "retrieval"]), metavar="A,B")
    parser.add_argument("--kinds", default="combined,encoder,random,svm", metavar="A,B")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--epochs", type=int, metavar="N", help="in place of each set's own, for a quick look")
    parser.add_argument("--out", type=Path, default=HERE / "bundled", metavar="NAME")
    arguments = parser.parse_args()
    weights = sha256_of(*sorted(model_folder(arguments.model).glob("*.safetensors")))
    record = Record(arguments.out.with_suffix(".json"), weights[:16])

    def note(name: str, kind: str, seed: str, score: Callable[[], tuple[float, ...]]) -> None:
        """score(): what the model reaches and, where it is one of ours, what it reaches in 8 bits."""
        if seed in record.figures().get(name, {}).get(kind, {}):
            return
        started = time.monotonic()
        reached = score()
        for of, value in zip((kind, f"{kind} int8"), reached, strict=False):
            record.add(name, of, seed, value)
        shown = " / ".join(f"{100 * value:.1f}" for value in reached)
        print(f"{name} {kind} seed {seed}: {shown} ({time.monotonic() - started:.0f} s)", flush=True)

    kinds = arguments.kinds.split(",")
    for name in arguments.sets.split(","):
        if name == "retrieval":
            for part, found in score_retrieval(arguments.data, arguments.model).items():
                for kind, value in found.items():
                    record.add(name, part, kind, value)
            continue
        settings = {**SETTINGS[name], **({"epochs": arguments.epochs} if arguments.epochs else {})}
        plain = name == "cluener"  # spans: no n-grams, no machine beside
        if "svm" in kinds and not plain:
            note(name, "svm", "0", lambda name=name: (score_svm(name, arguments.data),))  # type: ignore[misc]
        for seed in range(arguments.seeds):
            for kind in ("combined", "encoder", "random"):
                if kind in kinds and not (kind == "combined" and plain):
                    note(
                        name, kind, str(seed),
                        lambda n=name, s=seed, k=kind, o=settings: score_encoder(n, arguments.data, arguments.model, s, k, o),  # type: ignore[misc]
                    )  # fmt: skip
    text = table(record.figures())
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
