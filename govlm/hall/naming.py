"""Which items a text names outright: a name or an alias that stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from govlm.hall.answers.asked import plain
from govlm.hall.catalogue.records import Item
from govlm.hall.retrieval.characters import Characters

__all__ = ["Naming", "names_of", "subjects_of"]

_ACTS = re.compile("(?:申领|申请|办理|核定|备案|补领|换领|登记|查询|打印|许可|认证|提取|报销|签注|报名|核发)+$")


def names_of(items: Iterable[Item]) -> list[tuple[str, str]]:
    """(name or alias, code) of items."""
    return [(name, item.code) for item in items for name in (item.name, *item.aliases)]


def subjects_of(items: Iterable[Item]) -> list[tuple[str, str]]:
    """(what an item's name says that it is about, code): 高龄津贴 of 高龄津贴申领. Several items may be about one."""
    found = [(_ACTS.sub("", item.name), item.code) for item in items]
    return [(subject, code) for subject, code in found if len(subject) > 2]


class Naming:
    """Names to look up in texts, by their length: a text is cut once for each, not searched once for each name."""

    def __init__(self, named: Iterable[tuple[str, str]], characters: Characters) -> None:
        """named: (name, code). Names of one character name nothing."""
        lengths: dict[int, dict[str, list[str]]] = {}
        for name, code in named:
            read = plain(name, characters)
            if len(read) > 1:
                lengths.setdefault(len(read), {}).setdefault(read, []).append(code)
        self._by_length = sorted(lengths.items(), reverse=True)

    def within(self, text: str) -> list[str]:
        """Codes of what is named in a text (as `answers.asked.plain` writes it): those of the longest name."""
        for size, names in self._by_length:
            found = [code for start in range(len(text) - size + 1) for code in names.get(text[start : start + size], ())]
            if found:
                return list(dict.fromkeys(found))
        return []
