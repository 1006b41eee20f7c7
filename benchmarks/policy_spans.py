"""Span extraction on ncp_policy_qa: the best single sentence by BM25, and the fitted model on the half that it was not fitted on.

    python -m benchmarks.policy_spans ../shared/data/gov/ncp_policy_qa/train.json [--write]

--write fits on all rows and stores the weights in govlm/assets/answers/spans.json. Needs bm25s and rjieba.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from govlm.hall.answers.fitting import Row, answer_of, best_sentence, character_f1, fit

WEIGHTS = Path(__file__).resolve().parent.parent / "govlm" / "assets" / "answers" / "spans.json"


def read(path: Path) -> list[Row]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [Row(line["question"], line["context"], line["answer"]["text"]) for line in lines]


def pairs(text: str) -> list[str]:
    letters = "".join(filter(str.isalnum, text))
    return [letters[i : i + 2] for i in range(len(letters) - 1)]


def words(text: str) -> list[str]:
    import rjieba

    return [word for word in rjieba.cut(text) if any(map(str.isalnum, word))]


def interval(scores: list[float]) -> str:
    """95 % of the mean by bootstrap over rows."""
    drawn = np.random.default_rng(0).choice(scores, (2000, len(scores))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{np.mean(scores):.4f} [{low:.4f}, {high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = read(arguments.file)
    for name, cut in (("pairs of characters", pairs), ("words", words)):
        scores = [character_f1(best_sentence(row, cut), row.answer) for row in rows]
        print(f"best sentence by BM25, {name}: {interval(scores)}")
    folds = [rows[::2], rows[1::2]]
    scores = []
    for i in (0, 1):
        weights = fit(folds[i])
        scores += [character_f1(answer_of(row, weights), row.answer) for row in folds[1 - i]]
    print(f"fitted spans, on the other half:   {interval(scores)}")
    if arguments.write:
        fit(rows).save(WEIGHTS)


if __name__ == "__main__":
    main()
