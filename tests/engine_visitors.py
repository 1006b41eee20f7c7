"""What tests of engines share: every cache that is made, whether one holds anything, visitors who come and go at random."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from govlm._native import core as native
from govlm.generation import Engine


def watched_caches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every cache that is made, to look at afterwards."""
    made: list[Any] = []
    real = native.Cache

    def cache(*args: Any, **options: Any) -> Any:
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr("govlm.generation.scheduler.native", SimpleNamespace(Cache=cache))
    monkeypatch.setattr("govlm.generation.beam.native", SimpleNamespace(Cache=cache))
    return made


def nothing_held(caches: list[Any]) -> bool:
    return bool(caches) and all(c.usage()["used"] == c.usage()["sequences"] == 0 for c in caches)


def visit_at_random(engine: Engine, asked: Callable[..., list[int]], expected: Callable[[list[int], int], list[int]]) -> None:
    """Six threads submit four texts each and cancel some. asked(length, number, turn): the ids; expected(ids, count): what is written."""
    failures: list[BaseException] = []

    def visitor(number: int) -> None:
        generator = np.random.default_rng(number)
        try:
            for turn in range(4):
                row = asked(int(generator.integers(1, 70)), number, turn)
                count = int(generator.integers(1, 12))
                handle = engine.submit(row, max_new_tokens=count)
                if generator.random() < 0.4:
                    for _ in zip(range(int(generator.integers(0, count))), handle, strict=False):
                        pass
                    handle.cancel()
                    handle.result(60)
                else:
                    assert handle.result(60) == expected(row, count)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=visitor, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures, failures
