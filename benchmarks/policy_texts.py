"""Summaries of policy documents and key terms of abstracts, against what they must beat, on the half that was not fitted on.

    python -m benchmarks.policy_texts ../shared/data [--write] [--pairs]

Summaries: guangzhou_policy, the clauses that an editor copied out of each document; ROUGE of characters (F1) of 200 characters by the
fitted salience, by TextRank and by the first sentences; each half predicted by weights fitted on the other. Key terms: csl_keyword,
F1 of 5 terms, letter for letter; TF-IDF on rjieba's words, and the fitted model on the half that it was not fitted on.
--write fits on all rows and stores the figures in govlm/assets/policy. --pairs counts the table of pairs anew first (a minute).
Needs rjieba.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from govlm.hall.catalogue.records import Document
from govlm.hall.policy import fitting, pairs, terms_fitting
from govlm.hall.policy.summary import LENGTH, summarise
from govlm.hall.policy.terms import keywords
from govlm.train.rouge import rouge

ASSETS = Path(__file__).resolve().parent.parent / "govlm" / "assets" / "policy"
CORPORA = (
    ("pretrain.train.txt.xz", 12_000_000), ("general.train.part1of3.txt.xz", 8_000_000), ("general.train.part2of3.txt.xz", 8_000_000),
    ("general.train.part3of3.txt.xz", 8_000_000),
)  # fmt: skip  # characters read of each
PIECE = 1000  # characters that count as a document


def summaries(data: Path) -> list[fitting.Row]:
    folder = data / "gov" / "guangzhou_policy"
    documents = json.loads((folder / "documents.json").read_text("utf-8"))
    with (folder / "官方文件表.csv").open(encoding="utf-8-sig", newline="") as handle:
        clauses = [row["原文关键条款(逐字摘录)"] for row in csv.DictReader(handle)]
    return [fitting.Row(d["title"], d["original_text"], clause) for d, clause in zip(documents, clauses, strict=True)]


def key_terms(data: Path) -> list[terms_fitting.Row]:
    lines = (data / "summarisation" / "csl_keyword" / "dev.tsv").read_text("utf-8").splitlines()
    return [terms_fitting.Row(text, tuple(terms.split("_"))) for _, text, terms in (line.split("\t") for line in lines)]


def half(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0] % 2


def words(text: str) -> list[str]:
    import rjieba

    found: list[str] = rjieba.cut(text)
    return found


def pieces(data: Path) -> Iterator[str]:
    for name, limit in CORPORA:
        with lzma.open(data / "corpus" / name, "rt", encoding="utf-8") as handle:
            read, lines = 0, []
            for line in handle:
                if line != "\n":
                    lines.append(line)
                    read += len(line)
                    continue
                whole = "".join(lines)
                yield from (whole[i : i + PIECE] for i in range(0, len(whole), PIECE))
                lines = []
                if read > limit:
                    break


def count_pairs(data: Path) -> None:
    """The table of `govlm.hall.policy.pairs`."""
    total: dict[int, int] = {}
    documents, source = 0, pieces(data)
    while batch := list(islice(source, 1000)):
        documents += len(batch)
        for key, count in zip(*pairs.document_frequencies(batch), strict=True):
            total[int(key)] = total.get(int(key), 0) + int(count)
    keys = np.array(sorted(total), np.int64)
    pairs.write(keys, np.array([total[int(key)] for key in keys], np.int64), documents)


def shown(name: str, scores: Sequence[Sequence[float]]) -> None:
    """The means, with 95 % by bootstrap over rows."""
    table = np.array(scores)
    draws = np.random.default_rng(0).integers(0, len(table), (2000, len(table)))
    low, high = np.quantile(table[draws].mean(axis=1), [0.025, 0.975], axis=0)
    cells = [f"{mean:.3f} [{a:.3f}, {b:.3f}]" for mean, a, b in zip(table.mean(axis=0), low, high, strict=True)]
    print(f"{name:28}" + "  ".join(cells))


def compare_summaries(rows: Sequence[fitting.Row]) -> None:
    halves = [[row for row in rows if half(row.text) == i] for i in (0, 1)]
    print(f"summaries of {LENGTH} characters, {len(halves[0])} + {len(halves[1])} documents: ROUGE-1, ROUGE-2, ROUGE-L")
    makers: tuple[tuple[str, Callable[[str], str]], ...] = (("first sentences", fitting.lead), ("TextRank", fitting.ranked))
    for name, make in makers:
        shown(name, [rouge(make(row.text), row.summary) for row in rows])
    found = []
    for i in (0, 1):
        weights = fitting.fit(halves[1 - i])
        found += [rouge(summarise(Document("", row.title, row.text), LENGTH, weights).text, row.summary) for row in halves[i]]
    shown("fitted on the other half", found)


def compare_terms(rows: Sequence[terms_fitting.Row]) -> None:
    halves = [[row for row in rows if half(row.text) == i] for i in (0, 1)]
    print(f"5 key terms, fitted on {len(halves[0])} abstracts, measured on {len(halves[1])}: F1")
    base = terms_fitting.tf_idf([row.text for row in rows], words)
    other = [terms for terms, row in zip(base, rows, strict=True) if half(row.text) == 1]
    shown(
        "TF-IDF of rjieba's words", [[terms_fitting.f1(terms, row.terms)] for terms, row in zip(other, halves[1], strict=True)]
    )
    model = terms_fitting.fit(halves[0])
    shown("fitted", [[terms_fitting.f1([t.text for t in keywords(row.text, 5, model)], row.terms)] for row in halves[1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--pairs", action="store_true")
    arguments = parser.parse_args()
    if arguments.pairs:
        count_pairs(arguments.data)
    texts, abstracts = summaries(arguments.data), key_terms(arguments.data)
    compare_summaries(texts)
    compare_terms(abstracts)
    if arguments.write:
        fitting.fit(texts).save(ASSETS / "salience.json")
        terms_fitting.fit(abstracts).save(ASSETS / "terms.json", ASSETS / "borders.json")


if __name__ == "__main__":
    main()
