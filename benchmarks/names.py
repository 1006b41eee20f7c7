"""Service items asked for by their colloquial names: BM25, sentence vectors alone, and the hall's ranking, on the same queries.

While a name is asked for, the items that bear it, and those of their names, are indexed without any colloquial name; every one of them
is right. "Unseen" names took part in no training and no fitting. BM25 is bm25s over characters and their pairs, of name and authority.
Needs bm25s and the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from recipe import grams

KINDS = ("bm25", "vectors", "hall")


def found(scores: np.ndarray, right: np.ndarray) -> list[bool]:
    """Whether a right one is first, and among the first ten."""
    order = np.argsort(-scores, kind="stable")
    return [bool(right[order[:k]].any()) for k in (1, 10)]


def items_by_names(run: Any, encode: Any, characters: Any) -> dict[str, dict[str, Any]]:
    """{"all", "unseen": {"queries": how many, kind: [R@1, R@10]}}. run: of `recipe`; encode: sentence vectors of texts."""
    import bm25s

    from govlm.hall.retrieval.index import FEATURE_NAMES
    from govlm.hall.understanding.fitting import alias_cases
    from govlm.hall.understanding.understand import Weights

    items, aliases = run.region()
    unseen = {alias for alias, _ in run.aliases()[1]}
    names = list(aliases)
    weights = Weights.load().items
    similar = FEATURE_NAMES.index("similarity of names (without)")
    index = bm25s.BM25()
    index.index([grams(f"{item.name} {item.authority}") for item in items], show_progress=False)
    rows = []
    for name, case in zip(names, alias_cases(items, aliases, names, encode, characters), strict=True):
        known = [gram for gram in grams(name) if gram in index.vocab_dict]
        bm25 = np.asarray(index.get_scores(known)) if known else np.zeros(len(items))
        features = case.features[:-1]  # the last entry is for what no hall answers
        rows.append([found(scores, case.right) for scores in (bm25, features[:, similar], weights.scores(features))])
    table, new = np.array(rows, float), np.array([name in unseen for name in names])
    return {
        part: {"queries": len(chosen), **{kind: chosen[:, i].mean(axis=0).tolist() for i, kind in enumerate(KINDS)}}
        for part, chosen in (("all", table), ("unseen", table[new]))
    }
