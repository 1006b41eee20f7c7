"""Services asked for by their colloquial names: BM25, sentence vectors alone, and the hall's ranking, on the same queries.

`procedures` are found by the name that several items share, `items` by their own, which says which of them it is: harder. While a
colloquial name is asked for, what bears it is indexed without any; all of it is right. "Unseen" names took part in no training and no
fitting. BM25 is bm25s with its own settings over characters and their pairs. Needs bm25s, govlm[hall] and the data.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from recipe import grams

KINDS = ("bm25", "vectors", "hall")
Catalogue = tuple[list[Any], dict[str, list[str]]]  # items, and colloquial name -> codes of those that bear it


def procedures(run: Any) -> Catalogue:
    """One item for each name of a procedure; its code is that of the first."""
    items, aliases = run.region()
    by_code = {item.code: item for item in items}
    names = {row["TASK_CODE"]: row["matter_name"].strip() for row in run.items()}
    first: dict[str, Any] = {}
    for code, name in names.items():
        first.setdefault(name, replace(by_code[code], name=name, aliases=()))
    bearers = {alias: list(dict.fromkeys(first[names[code]].code for code in codes)) for alias, codes in aliases.items()}
    return list(first.values()), bearers


def found(scores: np.ndarray, right: np.ndarray) -> list[bool]:
    """Whether a right one is first, and among the first ten."""
    order = np.argsort(-scores, kind="stable")
    return [bool(right[order[:k]].any()) for k in (1, 10)]


def by_names(run: Any, encode: Any, characters: Any) -> dict[str, dict[str, Any]]:
    """{"procedures", "procedures, unseen", "items", "items, unseen": {"queries": how many, "pool": of how many, kind: [R@1, R@10]}}.

    run: of `recipe`; encode: sentence vectors of texts.
    """
    import bm25s

    from govlm.hall.retrieval.index import FEATURE_NAMES
    from govlm.hall.understanding.fitting import alias_cases
    from govlm.hall.understanding.understand import Weights

    unseen = {alias for alias, _ in run.aliases()[1]}
    weights = Weights.load().items
    similar = FEATURE_NAMES.index("similarity of names (without)")
    report: dict[str, dict[str, Any]] = {}
    for what, (items, aliases) in (("procedures", procedures(run)), ("items", run.region())):
        index = bm25s.BM25()
        index.index([grams(item.name) for item in items], show_progress=False)
        rows = []
        for name, case in zip(aliases, alias_cases(items, aliases, list(aliases), encode, characters), strict=True):
            known = [gram for gram in grams(name) if gram in index.vocab_dict]
            bm25 = np.asarray(index.get_scores(known)) if known else np.zeros(len(items))
            features = case.features[:-1]  # the last entry is for what no hall answers
            rows.append([found(scores, case.right) for scores in (bm25, features[:, similar], weights.scores(features))])
        table, new = np.array(rows, float), np.array([name in unseen for name in aliases])
        for part, chosen in ((what, table), (f"{what}, unseen", table[new])):
            report[part] = {"queries": len(chosen), "pool": len(items)}
            report[part].update({kind: chosen[:, i].mean(axis=0).tolist() for i, kind in enumerate(KINDS)})
    return report
