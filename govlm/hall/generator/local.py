"""What writes for a hall: anything with a `write`, or a language model of this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from govlm.generation.local import LanguageModel

__all__ = ["Generator", "LocalGenerator", "generator_of"]

_POLL = 0.05  # seconds between two looks whether anybody still waits
_MEMORY = 1 << 30  # bytes of keys and values
Message = Mapping[str, str]  # {"role": …, "content": …}


class Generator(Protocol):
    """It may fail, be late and write anything: who asks is ready for that."""

    def write(
        self, messages: Sequence[Message], *, sources: Sequence[str], names: Sequence[str], most: int, seconds: float,
        given_up: Callable[[], bool],
    ) -> str:  # fmt: skip
        """What follows the messages: at most `most` tokens, within `seconds` (else TimeoutError). Figures are only copied from the
        sources; none of `names` is written that no source holds. given_up: whether nobody waits for it any more."""
        ...


class LocalGenerator:
    """A causal language model from a folder or a .gguf file, read in the background. requests: in work and waiting, at most."""

    def __init__(self, path: str | os.PathLike[str], requests: int = 16) -> None:
        """FileNotFoundError: there is nothing. What is wrong with it otherwise is told by `ready` and `write`."""
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(
                f"{self.path}: no such folder or file; a generator is a local model, never one from a network"
            )
        self._requests = requests
        self._model: Future[LanguageModel] = Future()
        threading.Thread(target=self._read, name="govlm-generator", daemon=True).start()

    def _read(self) -> None:
        from govlm.generation.local import LanguageModel

        try:
            model = LanguageModel.open(self.path, max_batch=4, max_requests=self._requests, memory=_MEMORY)
            _ = model.vocabulary  # made now, as the first question would wait for it
            self._model.set_result(model)
        except BaseException as error:
            self._model.set_exception(error)

    def ready(self, seconds: float | None = None) -> LanguageModel:
        """The model, once it is read. TimeoutError; ValueError or OSError: it cannot be."""
        return self._model.result(seconds)

    def write(
        self, messages: Sequence[Message], *, sources: Sequence[str], names: Sequence[str], most: int, seconds: float,
        given_up: Callable[[], bool] = lambda: False,
    ) -> str:  # fmt: skip
        """Greedy, in copy mode. Also raises EngineFull, PromptTooLong and NonFiniteLogits."""
        from govlm.generation.constrained import CopyConstraint

        end = monotonic() + seconds
        model = self.ready(seconds)
        constraint = CopyConstraint(sources, model.vocabulary, names)
        handle = model.submit(
            messages, now=datetime.now(), constraint=constraint, max_new_tokens=most, do_sample=False, min_new_tokens=0
        )
        try:
            while True:
                left = end - monotonic()
                try:
                    return model.text(handle.result(max(0.0, min(left, _POLL))))
                except TimeoutError:
                    if left <= 0 or given_up():
                        raise
        finally:
            handle.cancel()

    def close(self) -> None:
        """Ends what is under way."""
        if self._model.done() and self._model.exception() is None:
            self._model.result().close()


def generator_of(given: Any) -> Generator:
    """A generator, or the folder or .gguf file of one. TypeError: neither."""
    if isinstance(given, (str, os.PathLike)):
        return LocalGenerator(given)
    if not callable(getattr(given, "write", None)):
        raise TypeError(f"a generator is a folder, a .gguf file or an object with write(), not {type(given).__name__}")
    found: Generator = given
    return found
