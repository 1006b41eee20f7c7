"""Beginnings of prompts whose keys and values are kept, so that the next request with the same beginning need not compute them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Prefixes", "page_keys"]


def page_keys(ids: Sequence[int], size: int, key: bytes = b"") -> list[bytes]:
    """One key a whole page of `size` ids; each stands for that page and all before it. key: of what they go through."""
    keys: list[bytes] = []
    packed = np.asarray(ids, np.int32)
    for page in range(len(packed) // size):
        key = hashlib.blake2b(key + packed[page * size : (page + 1) * size].tobytes(), digest_size=16).digest()
        keys.append(key)
    return keys


class Prefixes:
    """Sequences of a cache, the longest unused given up first; at most `pages` pages in all (those that are shared count for each)."""

    def __init__(self, cache: Any, pages: int) -> None:
        self._cache, self._pages = cache, pages
        self.page = int(cache.usage()["page_tokens"])
        self._kept: OrderedDict[int, list[bytes]] = OrderedDict()  # sequence -> the keys of its pages
        self._index: dict[bytes, tuple[int, int]] = {}  # key -> (sequence, tokens)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: bytes) -> bool:
        return key in self._index

    def fork(self, ids: Sequence[int], key: bytes = b"") -> tuple[int, int] | None:
        """(a new sequence, its tokens): the longest kept beginning of `ids` that leaves at least one id to compute."""
        for page in reversed(page_keys(ids[: len(ids) - 1], self.page, key)):
            found = self._index.get(page)
            if found is not None:
                self._kept.move_to_end(found[0])
                return self._cache.fork(*found), found[1]
        return None

    def keep(self, sequence: int, ids: Sequence[int], key: bytes = b"") -> None:
        """Keeps the whole pages of a sequence that holds `ids`."""
        keys = page_keys(ids, self.page, key)
        if not keys or len(keys) > self._pages or keys[-1] in self._index:
            return
        kept = self._cache.fork(sequence, len(keys) * self.page)
        self._kept[kept] = keys
        for n, key in enumerate(keys):
            self._index.setdefault(key, (kept, (n + 1) * self.page))
        while sum(map(len, self._kept.values())) > self._pages:
            self.give_up()

    def give_up(self) -> bool:
        """Forgets the one that was not used for longest; False when there is none."""
        if not self._kept:
            return False
        oldest, keys = self._kept.popitem(last=False)
        for key in keys:
            if self._index.get(key, (None, 0))[0] == oldest:
                del self._index[key]
        for other, theirs in self._kept.items():  # what it stood for and another holds too
            for n, key in enumerate(theirs):
                self._index.setdefault(key, (other, (n + 1) * self.page))
        self._cache.close(oldest)
        return True

    def clear(self) -> None:
        while self.give_up():
            pass
