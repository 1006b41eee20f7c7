"""The hall on a provincial portal's items: retrieval beside BM25, import, time of a question and of a turn, memory.

    python benchmarks/hall.py [--data ../shared/data]

Services are asked for by their colloquial names, as names.py has it. Policy: the document that answers a question, among 593, for the half
of the documents that fitting did not see; BM25 is bm25s over characters and their pairs, of the same fields. Questions: 2,262 items
loaded; the subjects of 500 citizens' messages, and every third name. Needs govlm[hall], psutil and the data.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import names  # noqa: E402
from recipe import DATA, grams, recipe  # noqa: E402


def services_by_names(run: Any, encode: Any, characters: Any) -> list[str]:
    lines = []
    for part, found in names.by_names(run, encode, characters).items():
        bm25, hall = (" / ".join(f"{100 * value:.1f}" for value in found[kind]) for kind in ("bm25", "hall"))
        asked = f"{part}: {found['queries']} colloquial names, {found['pool']:,} in the pool"
        lines.append(f"| {asked}: R@1 / R@10 | {bm25} | {hall} |")
    return lines


def documents_of_policy(run: Any, encode: Any, characters: Any) -> list[str]:
    import bm25s

    from govlm.hall.retrieval.index import Index
    from govlm.hall.understanding.understand import Weights

    entries, questions = run.questions(1)
    index = Index.make(entries, encode, characters)
    owner = np.array([entry.key.split("\t")[0] for entry in entries])
    documents = list(dict.fromkeys(owner.tolist()))
    words = bm25s.BM25()
    texts = dict.fromkeys(documents, "")
    for entry in entries:
        texts[entry.key.split("\t")[0]] += " " + " ".join((*entry.names, *entry.examples, entry.text))
    words.index([grams(texts[name]) for name in documents], show_progress=False)
    weights = Weights.load().passages
    rows = []
    for question, right in questions:
        known = [gram for gram in grams(question) if gram in words.vocab_dict]
        found = documents[int(np.argmax(words.get_scores(known)))]
        best = int(weights.scores(index.features(index.query(question, encode))).argmax())
        rows.append((found in set(owner[right]), bool(right[best])))
    bm25, hall = 100 * np.array(rows, float).mean(axis=0)
    return [f"| document that answers a question of policy, {len(rows)} unseen: R@1 | {bm25:.1f} | {hall:.1f} |"]


def ask(folder: Path, asked: list[str]) -> tuple[list[float], float]:
    """(milliseconds of each question, megabytes resident after them) of a process that opens the hall."""
    import psutil

    from govlm.hall import Hall

    times = []
    with Hall.open(folder) as hall:
        hall.ask(asked[0])
        for text in asked:
            began = time.perf_counter()
            hall.ask(text)
            times.append(1000 * (time.perf_counter() - began))
    return times, psutil.Process().memory_info().rss / 1e6


def turns(folder: Path, scripts: list[list[str]]) -> tuple[list[float], float]:
    """(milliseconds of each turn, megabytes resident after them) of a process that opens the hall; each turn is on the disk when it is
    answered."""
    import psutil

    from govlm.hall import Hall

    times = []
    with Hall.open(folder) as hall:
        hall.chat("first", "你好")
        for number, script in enumerate(scripts):
            for text in script:
                began = time.perf_counter()
                hall.chat(f"s{number}", text)
                times.append(1000 * (time.perf_counter() - began))
    return times, psutil.Process().memory_info().rss / 1e6


def conversations(data: Path) -> list[str]:
    """The scripts of tests/hall in a hall that has the portal's items and the sample's."""
    import yaml

    from govlm.hall import Hall
    from govlm.hall.hall import SAMPLE

    found = yaml.safe_load((HERE.parent / "tests/hall/dialogue.yaml").read_text("utf-8"))
    scripts = [[turn["say"] for turn in script["turns"]] for script in found]
    with tempfile.TemporaryDirectory() as folder:
        with Hall.create(Path(folder) / "h") as hall:
            hall.import_items(data / "gov/guangdong_service_items/items.jsonl")
            hall.import_items(SAMPLE / "items.jsonl")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            times, memory = pool.apply(turns, (Path(folder) / "h", scripts))
    p50, p95 = np.percentile(times, [50, 95])
    return [
        f"| a turn of conversation, {len(times)} turns of {len(scripts)}: p50 / p95 | | {p50:.1f} / {p95:.1f} ms |",
        f"| resident memory of the process that talked | | {memory:.0f} MB |",
    ]


def questions(data: Path, run: Any) -> list[str]:
    from govlm.hall import Hall

    lines = (data / "gov/citizen_messages/labelled_sample_495.jsonl").read_text("utf-8").splitlines()
    asked = [json.loads(line)["留言主题"] for line in lines] + [alias for alias, _ in run.aliases()[0]][::3]
    with tempfile.TemporaryDirectory() as folder:
        with Hall.create(Path(folder) / "h") as hall:
            began = time.perf_counter()
            report = hall.import_items(data / "gov/guangdong_service_items/items.jsonl")
            taken = time.perf_counter() - began
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            times, memory = pool.apply(ask, (Path(folder) / "h", asked))
    p50, p95 = np.percentile(times, [50, 95])
    return [
        f"| {report.imported:,} items imported and indexed | | {taken:.1f} s |",
        f"| `ask`, {len(asked)} questions: p50 / p95 | | {p50:.1f} / {p95:.1f} ms |",
        f"| resident memory of the process that was asked | | {memory:.0f} MB |",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="The hall on a provincial portal's items.")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    data = parser.parse_args().data
    run = recipe(data)
    lines = ["| what | BM25 | the hall |", "|---|---|---|", *questions(data, run), *conversations(data)]
    from govlm.hall.retrieval.characters import Characters
    from govlm.hall.understanding.fitting import cached

    characters, encode = Characters.make(), cached(run.encode())
    lines[2:2] = [*services_by_names(run, encode, characters), *documents_of_policy(run, encode, characters)]
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
