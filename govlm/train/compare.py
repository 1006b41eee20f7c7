"""Several models side by side: size on disk, resident memory, time of a request, tokens a second, accuracy, agreement.

Each model lives in a process of its own, as when it serves, and the models take turns round by round, so that whatever else the
machine does meets all of them alike. `python -m govlm.train.compare FOLDER` is such a process; it answers JSON lines.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from govlm.bundled import model_folder
from govlm.train.loop import Progress, TrainError

__all__ = ["compare", "format_comparison", "model_bytes"]

_PRODUCTS = ("log.jsonl", "result.json", "curve.json", "curve.png")  # of a run, beside its model


def model_bytes(folder: str | Path) -> int:
    """Bytes of the files of a model folder, without what training left beside them."""
    files = (p for p in Path(folder).rglob("*") if p.is_file() and "checkpoints" not in p.relative_to(folder).parts)
    return sum(p.stat().st_size for p in files if p.name not in _PRODUCTS and not p.name.startswith("."))


# -------------------------------------------------------------------- the process of one model


def _resident() -> float | None:
    """MB of this process in memory, where the system tells."""
    try:
        with open("/proc/self/status", encoding="ascii") as handle:
            for line in handle:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


class _Served:
    """A model that answers requests."""

    def __init__(self, folder: str, max_length: int | None) -> None:
        import govlm

        names = govlm.AutoConfig.from_pretrained(folder).architectures or []
        self.classifier = any("ForSequenceClassification" in name for name in names)
        self.branch: Any = None
        if self.classifier:
            from govlm.train.evaluate import Classifier

            found = Classifier.from_pretrained(folder, max_length)
            self.model, self.tokenizer = found.model, found.tokenizer
            self.branch = getattr(found, "branch", None)  # what else the classifier adds to its scores
        else:
            self.model = govlm.AutoModel.from_pretrained(folder, add_pooling_layer=False)
            self.tokenizer = govlm.AutoTokenizer.from_pretrained(folder)
        self.max_length = max_length

    def answer(self, texts: list[str], batch_size: int) -> tuple[Any, int]:
        """(label scores or vectors [n, …], tokens)"""
        from govlm.train.evaluate import encode_texts, predict_logits

        more = () if self.branch is None else (self.branch,)
        data = encode_texts(self.model, self.tokenizer, texts, self.max_length, *more)
        if self.classifier:
            return predict_logits(self.model, data, batch_size), len(data.ids)
        parts = [data.take(range(i, min(i + batch_size, len(data)))) for i in range(0, len(data), batch_size)]
        return np.concatenate([self.model.encode(part) for part in parts]), len(data.ids)


def _serve() -> None:
    """Answers JSON lines until standard input ends."""
    import warnings

    warnings.simplefilter("ignore")
    served: _Served | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if asked["do"] == "load":
                from govlm._native import core

                served = _Served(asked["folder"], asked["max_length"])
                threads = asked["threads"] or core.num_threads()
                for text in asked["texts"]:
                    served.answer([text], 1)
                config = served.model.config
                answer = {
                    "classifier": served.classifier, "resident_mb": _resident(), "threads": threads,
                    "labels": [config.id2label[i] for i in sorted(config.id2label)] if served.classifier else [],
                    "parameters": served.model.num_parameters(),
                }  # fmt: skip
            elif asked["do"] == "requests":
                from govlm._native import core

                assert served is not None
                core.set_num_threads(asked["threads"])
                served.answer(asked["texts"][:1], 1)
                seconds = []
                for text in asked["texts"]:
                    start = time.perf_counter()
                    served.answer([text], 1)
                    seconds.append(time.perf_counter() - start)
                answer = {"seconds": seconds}
            elif asked["do"] == "batch":
                assert served is not None
                start = time.perf_counter()
                values, tokens = served.answer(asked["texts"], asked["batch_size"])
                answer = {"seconds": time.perf_counter() - start, "tokens": tokens, "values": values.tolist()}
        except Exception as error:
            answer = {"error": " ".join(str(error).split()) or type(error).__name__}
        print(json.dumps(answer), flush=True)


class _Worker:
    """The other end: a process that holds one model."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = str(folder)
        root = str(Path(__file__).resolve().parents[2])  # the govlm that compares is the govlm that is compared
        paths = [root, *(p for p in (os.environ.get("PYTHONPATH"),) if p)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "govlm.train.compare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"},
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise TrainError(f"{self.folder}: the process of this model ended ({self.process.poll()})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TrainError(f"{self.folder}: {answer['error']}")
        return answer

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


# -------------------------------------------------------------------- the comparison


def compare(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    text_field: str | tuple[str, str] = "text",
    label_field: str | None = "label",
    data_format: str | None = None,
    limit: int | None = None,
    requests: int = 50,
    rounds: int = 5,
    batch_size: int = 32,
    max_length: int | None = None,
    threads: int | None = None,
    progress: bool | None = False,
) -> list[dict[str, Any]]:
    """One row a model, in order: {"model", "size_mb", "weights_mb"…}; the first is what the others are measured against.

    data: the requests, with labels unless label_field is None (encoders need none). requests: how many are timed one at a time
    in each of `rounds`; threads: the "all" of the second timing (None = as the pool is). Times include the tokenizer.
    Row: model, size_mb, parameters, resident_mb (after the first requests), threads, ms_1, ms_all (medians), tokens_per_s (best
    round), accuracy, macro_f1 (labelled), agreement (same label as the first; classifiers), cosine (mean, to the first's
    scores or vectors; None where the widths differ). Errors: TrainError, DataError, OSError.
    """
    from govlm.data import read_examples
    from govlm.train.metrics import classification_report, multi_label_report

    for folder in models:
        if not model_folder(folder).is_dir():
            raise TrainError(f"{folder}: no such model folder")
    examples = list(read_examples(data, text_field, label_field, data_format))[:limit]
    if not examples:
        raise TrainError(f"{data}: no rows")
    texts = [e.text for e in examples]
    single = [texts[i * len(texts) // min(requests, len(texts))] for i in range(min(requests, len(texts)))]
    rows: list[dict[str, Any]] = []
    bar = Progress(rounds * len(models), 0, progress, "compare")
    with ExitStack() as stack:
        stack.callback(bar.close)
        workers = []
        for folder in models:
            workers.append(_Worker(folder))
            stack.callback(workers[-1].close)
        for worker, folder in zip(workers, models, strict=True):
            found = worker.ask(do="load", folder=str(folder), max_length=max_length, threads=threads, texts=single[:3])
            rows.append({"model": str(folder), "size_mb": model_bytes(folder) / 1e6, **found})
        if len({row["classifier"] for row in rows}) > 1:
            raise TrainError("classifiers and other encoders cannot stand in one comparison")
        times: list[dict[str, list[float]]] = [{"1": [], "all": [], "rate": []} for _ in models]
        values: list[Any] = [None] * len(models)
        for _ in range(rounds):
            for i, worker in enumerate(workers):
                for name, count in (("1", 1), ("all", rows[i]["threads"])):
                    times[i][name] += worker.ask(do="requests", threads=count, texts=single)["seconds"]
                found = worker.ask(do="batch", texts=texts, batch_size=batch_size)
                times[i]["rate"].append(found["tokens"] / found["seconds"])
                values[i] = np.array(found["values"], np.float64)
                bar.step("")
    first = values[0]
    for row, time_of, value in zip(rows, times, values, strict=True):
        row.update(ms_1=1e3 * median(time_of["1"]), ms_all=1e3 * median(time_of["all"]), tokens_per_s=max(time_of["rate"]))
        names = row.pop("labels")
        if row["classifier"]:
            multi = isinstance(examples[0].label, list)
            if label_field is not None:
                known = {name: i for i, name in enumerate(names)}
                strange = {n for e in examples for n in _names(e.label)} - set(known)
                if strange:
                    raise TrainError(f"{data} has the label {sorted(strange)[0]!r}, which {row['model']} does not know")
                if multi:
                    truth = np.zeros(value.shape, np.float32)
                    for i, e in enumerate(examples):
                        truth[i, [known[n] for n in _names(e.label)]] = 1
                    report = multi_label_report(truth, value > 0, names)
                else:
                    report = classification_report([known[str(e.label)] for e in examples], value.argmax(axis=1), names)
                row.update(accuracy=report["accuracy"], macro_f1=report["macro_f1"])
            row["agreement"] = float((value.argmax(1) == first.argmax(1)).mean()) if value.shape == first.shape else None
        row["cosine"] = _cosine(value, first) if value.shape == first.shape else None
    return rows


def _names(label: str | list[str] | None) -> list[str]:
    return [] if label is None else label if isinstance(label, list) else [label]


def _cosine(a: Any, b: Any) -> float:
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return float(((a * b).sum(axis=1) / np.maximum(scale, 1e-30)).mean())


def format_comparison(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table for people."""
    from govlm.terminal import display_width

    columns: list[tuple[str, str, str]] = [
        ("MB on disk", "size_mb", ".1f"), ("MB resident", "resident_mb", ".0f"), ("ms, 1 thread", "ms_1", ".2f"),
        (f"ms, {rows[0]['threads']} threads", "ms_all", ".2f"), ("tokens/s", "tokens_per_s", ",.0f"),
        ("accuracy", "accuracy", ".4f"), ("macro F1", "macro_f1", ".4f"), ("agrees", "agreement", ".4f"), ("cosine", "cosine", ".4f"),
    ]  # fmt: skip
    columns = [c for c in columns if any(row.get(c[1]) is not None for row in rows)]
    names = [Path(row["model"]).name or row["model"] for row in rows]
    if len(set(names)) < len(names):
        names = [row["model"] for row in rows]
    left = max(5, *(display_width(name) for name in names))
    lines = ["model" + " " * (left - 5) + "".join(f"  {title}" for title, _, _ in columns)]
    for name, row in zip(names, rows, strict=True):
        cells = [
            (format(row[key], how) if row.get(key) is not None else "-").rjust(len(title) + 2) for title, key, how in columns
        ]
        lines.append(name + " " * (left - display_width(name)) + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    _serve()
