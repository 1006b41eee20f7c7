"""The vectors that come in the box: those of the sample hall and of every hall's sentences, as the encoder gives them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from govlm.bundled import model_folder
from govlm.hall import Hall
from govlm.hall.retrieval.dense import LEVELS
from govlm.hall.retrieval.known import Known
from govlm.quantised import FILE as WEIGHTS
from govlm.quantised import round_weights

pytest.importorskip("sqlalchemy", reason="the hall's extra is not installed")


def refused(texts: Sequence[str]) -> Any:
    raise AssertionError(f"the encoder was asked: {texts}")


def test_the_sample_hall_is_indexed_without_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where an item, a policy or a sentence was changed: `make.py --until vectors` makes the file anew."""
    monkeypatch.setattr(Hall, "_encode", lambda self, texts: refused(texts))
    Hall.sample().close()


def test_they_are_the_encoders_own() -> None:
    known = Known.of(model_folder("govlm-small-zh"))
    assert known is not None
    with Hall.sample() as hall:
        texts = [text for item in hall.library.items.values() for text in (item.name, *item.aliases, *item.wordings)][::7]
        fresh = hall._encode(texts)
        found = known.within(refused)(texts)
    assert len(texts) > 50 and np.abs(found - fresh).max() < 0.02
    cosines = (found * fresh).sum(axis=1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(fresh, axis=1))
    assert cosines.min() > 0.999
    codes, scales = round_weights(fresh, LEVELS)
    again, again_scales = round_weights(found, LEVELS)  # an index rounds them once more
    # Made with other kernels than this machine's, activations round otherwise: a step or two of 127 in one code of twenty.
    assert np.abs(codes.astype(int) - again).max() <= 3 and np.allclose(scales, again_scales, rtol=0.05)


def test_other_texts_are_encoded_and_each_comes_back_in_its_place() -> None:
    known = Known.make(["一", "二"], lambda texts: np.eye(8, dtype=np.float32)[: len(texts)])
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> Any:
        asked.extend(texts)
        return np.full((len(texts), 8), 0.5, np.float32)

    found = known.within(encode)(["二", "三", "一", "三"])
    assert asked == ["三", "三"] and found.argmax(axis=1).tolist() == [1, 0, 0, 0]
    assert np.allclose(found[[1, 3]], 0.5) and np.allclose(found[[0, 2]], np.eye(8)[[1, 0]], atol=0.01)


def test_with_other_weights_they_are_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("govlm-small-zh"), folder)
    assert Known.of(folder) is not None
    with open(folder / WEIGHTS, "ab") as file:
        file.write(b"\0")
    assert Known.of(folder) is None
    assert Known.of(tmp_path) is None
