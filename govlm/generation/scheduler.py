"""Continuous batching: at every step one forward takes the next token of every text that grows and a part of the prompts that wait.

A request that ends makes room for the next at once; nothing is padded. Steps are cut by tokens, so that a long prompt does not
hold up the others. A step that is cancelled changes nothing: it may be run again. Memory that runs out sends the youngest text back
to the queue: its tokens are kept and computed again later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._native import core as native
from ..adapters.mixin import arguments_of
from .prefixes import Prefixes, page_keys
from .processors import Processor, log_softmax
from .sampling import Draw, choose

__all__ = ["NonFiniteLogits", "PromptTooLong", "Request", "Scheduler"]

F32 = NDArray[np.float32]


class PromptTooLong(ValueError):
    """The prompt leaves no room in the model's positions for what is to be generated."""


class NonFiniteLogits(FloatingPointError):
    """The model gave NaN or infinite logits; the message says where they began."""


@dataclass(eq=False)
class Request:
    """One text to grow. on_token is called with every id in the thread that steps; on_end once, when `ended` is set."""

    prompt: list[int]
    max_new_tokens: int
    eos: Sequence[int] = ()
    processors: Sequence[Processor] = ()
    draw: Draw | None = None  # None: the most probable token
    stop: Callable[[list[int], F32], bool] | None = None  # (all ids, processed logits) -> whether the text ends here
    memory: F32 | None = None  # [S, H] what a cross attention looks at
    adapter: Any = None  # the Route of the adapter that it goes through
    want_logprobs: bool = False
    want_scores: bool = False
    want_logits: bool = False
    on_token: Callable[[int], None] | None = None
    on_end: Callable[[Request], None] | None = None

    tokens: list[int] = field(default_factory=list)  # generated
    logprobs: list[float] = field(default_factory=list)  # of them, under the model's own distribution
    scores: list[F32] = field(default_factory=list)  # processed logits [V] of every step
    logits: list[F32] = field(default_factory=list)  # the model's
    ended: str | None = None  # "eos", "length", "stop", "cancelled", "error"
    error: BaseException | None = None
    sequence: int | None = None  # in the cache
    fed: int = 0  # ids that the cache holds
    key: bytes = b""  # of the adapter as it was when they were fed

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.tokens

    @property
    def pending(self) -> int:
        """Ids that the model has not seen yet."""
        return len(self.prompt) + len(self.tokens) - self.fed


class Scheduler:
    """Drives one cache of one core; one thread at a time.

    max_batch: texts that grow at once. step_tokens: tokens of a step at most. pages, bits: of the cache (0: no limit; 32 or 8).
    prefix_tokens: tokens of prompts' beginnings that are kept for later requests. culprit: names the first non-finite parameter.
    """

    def __init__(
        self,
        core: Any,
        *,
        max_batch: int = 16,
        step_tokens: int = 512,
        pages: int = 0,
        bits: int = 32,
        prefix_tokens: int = 4096,
        culprit: Callable[[], str | None] | None = None,
    ) -> None:
        if max_batch < 1 or step_tokens < 1:
            raise ValueError(f"max_batch and step_tokens must be at least 1, not {max_batch} and {step_tokens}")
        self.core = core
        self._vocabulary = int(core.config["vocab_size"])
        self.cache = native.Cache(core, pages=pages, bits=bits)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._max_batch, self._step_tokens = max_batch, step_tokens
        self._prefixes = Prefixes(self.cache, prefix_tokens // int(self.cache.usage()["page_tokens"]))
        self._culprit = culprit
        self._version = core.version
        self._most = max_batch  # that fit; fewer after memory ran out, until one ends

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, request: Request) -> None:
        """Puts a request at the end of the queue; errors as check()."""
        self.check(request)
        self.waiting.append(request)

    def check(self, request: Request) -> None:
        """ValueError for a prompt without a token, IndexError for an id beyond the vocabulary."""
        if not request.prompt:
            raise ValueError("the prompt has no token: begin with bos_token_id")
        for index in request.prompt:
            if not 0 <= index < self._vocabulary:
                raise IndexError(f"the prompt holds {index}, which is no id of a vocabulary of {self._vocabulary} tokens")

    def drop(self, request: Request, reason: str = "cancelled") -> None:
        """Ends a request where it stands and gives its memory back; nothing when it has ended."""
        if request.ended is None:
            self._end(request, reason)

    def close(self) -> None:
        """Ends everything and gives all memory back."""
        for request in [*self.running, *self.waiting]:
            self.drop(request)
        self._prefixes.clear()

    # ---- a step ------------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One forward, and a token for each text whose ids have all been seen. What goes wrong with one request ends that one."""
        if self.core.version != self._version or any(r.key != _key(r) for r in self.running):
            self._renew()
        while True:
            self._admit()
            fed = self._portions()
            if not fed:
                return
            try:
                logits, done = self._forward(fed)
            except MemoryError as error:
                self._make_room(error)
                continue
            break
        for request, count in fed:
            request.fed += count
        complete = [request for request, _ in fed if request.pending == 0]
        for request, row in zip(complete, logits, strict=True):
            if not request.tokens and request.memory is None and request.sequence is not None:
                self._prefixes.keep(request.sequence, request.prompt, request.key)
            try:
                self._advance(request, row, done)
            except Exception as error:  # its own processor, its own listener
                request.error = error
                self._end(request, "error")

    def _forward(self, fed: list[tuple[Request, int]]) -> tuple[F32, Any]:
        ids = np.concatenate([np.asarray(r.ids[r.fed : r.fed + n], np.int32) for r, n in fed])
        splits = np.concatenate([[0], np.cumsum([n for _, n in fed])]).astype(np.int64)
        rows = np.array([splits[i + 1] - 1 for i, (r, n) in enumerate(fed) if n == r.pending], np.int32)
        done = self.core.forward(
            ids, splits, rows=rows, save=False, cache=self.cache,
            sequences=np.array([r.sequence for r, _ in fed], np.int64), **arguments_of([r.adapter for r, _ in fed]),
        )  # fmt: skip
        return done.logits, done

    def _admit(self) -> None:
        """Moves requests from the queue to the batch. One whose beginning is being computed for another waits until it is there."""
        held: list[Request] = []
        while self.waiting and len(self.running) < min(self._most, self._max_batch):
            request = self.waiting.popleft()
            keys = page_keys(request.ids[:-1], self._prefixes.page, _key(request)) if request.memory is None else []
            if keys and keys[-1] not in self._prefixes and any(keys[-1] in self._coming(other) for other in self.running):
                held.append(request)
                continue
            try:
                self._start(request)
            except MemoryError as error:
                if not self.running and not self._prefixes.give_up():
                    request.error = error
                    self._end(request, "error")
                    continue
                held.append(request)
                break
            self.running.append(request)
        self.waiting.extendleft(reversed(held))

    def _coming(self, request: Request) -> list[bytes]:
        """Keys of the pages that this request will keep when its prompt has been seen."""
        if request.fed >= len(request.prompt) or request.memory is not None:
            return []
        return page_keys(request.prompt, self._prefixes.page, request.key)

    def _start(self, request: Request) -> None:
        request.key = _key(request)
        found = self._prefixes.fork(request.ids, request.key) if request.memory is None else None
        if found is not None:
            request.sequence, request.fed = found
            return
        request.sequence, request.fed = self.cache.open(), 0
        if request.memory is None:
            return
        try:
            memory = np.ascontiguousarray(request.memory, np.float32)
            adapted = arguments_of([request.adapter])
            self.cache.remember(
                np.array([request.sequence], np.int64), memory, np.array([0, len(memory)], np.int64),
                adapted.get("adapters"), adapted.get("adapter_of"),
            )  # fmt: skip
        except BaseException:
            self._release(request)
            raise

    def _portions(self) -> list[tuple[Request, int]]:
        """(request, ids to feed): texts that grow first, then prompts as far as the step's tokens go, the oldest first."""
        left = self._step_tokens
        portions: dict[Request, int] = {}
        for growing in (True, False):
            for request in self.running:
                if (request.pending == 1) == growing and left > 0:
                    portions[request] = min(request.pending, left)
                    left -= portions[request]
        fed = [(request, portions[request]) for request in self.running if request in portions]
        # Rows of one adapter side by side: one product for all of them.
        return sorted(fed, key=lambda pair: -1 if pair[0].adapter is None else pair[0].adapter.serial)

    def _make_room(self, error: MemoryError) -> None:
        """Gives up a kept beginning, else sends the youngest text back to the queue, else ends the only one."""
        if self._prefixes.give_up():
            return
        youngest = self.running[-1]
        if len(self.running) == 1:
            youngest.error = error
            self._end(youngest, "error")
            return
        self.running.pop()
        self._release(youngest)
        self.waiting.appendleft(youngest)
        self._most = len(self.running)

    def _renew(self) -> None:
        """The weights changed: what the cache holds is computed again."""
        self._prefixes.clear()
        for request in reversed(self.running):
            self._release(request)
            self.waiting.appendleft(request)
        self.running.clear()
        self._version = self.core.version

    def _release(self, request: Request) -> None:
        if request.sequence is not None:
            self.cache.close(request.sequence)
        request.sequence, request.fed = None, 0

    # ---- a token -----------------------------------------------------------------------------------------------------------

    def _advance(self, request: Request, row: F32, done: Any) -> None:
        if not np.isfinite(row[row.argmax()]):  # argmax finds a NaN before anything else
            name = (self._culprit() if self._culprit is not None else None) or done.first_nonfinite() or "logits"
            raise NonFiniteLogits(
                f"the model's logits for token {len(request.tokens) + 1} of a request are not finite; first of all: {name}"
            )
        scores = row[None]
        if request.processors:
            ids, scores = np.array([request.ids], np.int64), scores.copy()
            for process in request.processors:
                scores = process(ids, scores)
        if not scores.max() > -np.inf:
            raise ValueError(f"the logits processors leave no token as number {len(request.tokens) + 1} of a request")
        token = choose(scores[0], None if request.draw is None else request.draw(len(request.tokens)))
        request.tokens.append(token)
        if request.want_logprobs:
            request.logprobs.append(float(log_softmax(row[None])[0, token]))
        if request.want_scores:
            request.scores.append(scores[0].copy())
        if request.want_logits:
            request.logits.append(row.copy())
        if request.on_token is not None:
            request.on_token(token)
        if token in request.eos:
            self._end(request, "eos")
        elif request.stop is not None and request.stop(request.ids, scores[0]):
            self._end(request, "stop")
        elif len(request.tokens) >= request.max_new_tokens:
            self._end(request, "length")

    def _end(self, request: Request, reason: str) -> None:
        request.ended = reason
        if request in self.running:
            self.running.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        self._release(request)
        self._most = self._max_batch
        if request.on_end is not None:
            request.on_end(request)


def _key(request: Request) -> bytes:
    return b"" if request.adapter is None else bytes(request.adapter.key)
