"""Continuous batching: at every step one forward takes the next token of every text that grows and a part of the prompts that wait.

A request that ends makes room for the next at once; nothing is padded. Steps are cut by tokens, so that a long prompt does not
hold up the others. A step that is cancelled changes nothing: it may be run again. Memory that runs out sends the youngest text back
to the queue: its tokens are kept and computed again later.

A text that has a guess at what comes next takes it along: the step gives the logits behind each guessed token, and those that
prove right are kept.

A text of a sequence-to-sequence model has a source, which goes through the encoder once, packed with those that wait beside it; what
the cross attention needs of it stays in the cache with the text, and once for all that have the same source.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._native import core as native
from ..adapters.mixin import arguments_of
from .encoding import Encoder, Source
from .prefixes import Prefixes, page_keys
from .processors import Processor, log_softmax
from .sampling import Draw, choose

__all__ = ["NonFiniteLogits", "PromptTooLong", "Request", "Scheduler"]

F32 = NDArray[np.float32]
_GUESSING = 16  # tokens of a step up to which guesses go along: beyond, a token costs its share of the arithmetic


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
    source: Source | None = None  # of a sequence-to-sequence model, whose decoder the prompt is for
    adapter: Any = None  # the Route of the adapter that it goes through
    guess: Callable[[list[int]], list[int]] | None = None  # all ids -> those that may come next (see lookup.py)
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
    memory: F32 | None = None  # [S, H] what the encoder made of the source
    key: bytes = b""  # of the adapters as they were then

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.tokens

    @property
    def pending(self) -> int:
        """Ids that the model has not seen yet."""
        return len(self.prompt) + len(self.tokens) - self.fed


class _Portion(NamedTuple):
    """What a step takes of a request."""

    request: Request
    fed: int  # of its ids
    guessed: list[int]  # what may follow them, when those are all

    @property
    def rows(self) -> int:
        """Tokens that the step may choose."""
        return 1 + len(self.guessed) if self.fed == self.request.pending else 0


class Scheduler:
    """Drives one cache of one core; one thread at a time.

    max_batch: texts that grow at once. step_tokens: tokens of a step at most. pages, bits: of the cache (0: no limit; 32 or 8).
    prefix_tokens: tokens of prompts' beginnings that are kept for later requests. culprit: names the first non-finite parameter.
    encoder: of a sequence-to-sequence model, whose decoder `core` is. `working`: the requests that the present call into the core is for.
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
        encoder: Encoder | None = None,
    ) -> None:
        if max_batch < 1 or step_tokens < 1:
            raise ValueError(f"max_batch and step_tokens must be at least 1, not {max_batch} and {step_tokens}")
        self.core = core
        self._vocabulary = int(core.config["vocab_size"])
        self.cache = native.Cache(core, pages=pages, bits=bits)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.working: list[Request] = []
        self._max_batch, self._step_tokens = max_batch, step_tokens
        self._prefixes = Prefixes(self.cache, prefix_tokens // int(self.cache.usage()["page_tokens"]))
        self._culprit, self._encoder = culprit, encoder
        self._version = self._versions()
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
        if (request.source is None) != (self._encoder is None):
            raise ValueError("a request has a source where the model has an encoder, and only there")
        source = [] if request.source is None else request.source.ids
        if not request.prompt or (request.source is not None and not source):
            raise ValueError("the prompt has no token: begin with bos_token_id")
        for index in [*source, *request.prompt]:
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
        if self._versions() != self._version or any(r.key != _key(r) for r in self.running):
            self._renew()
        self._encode()
        guess = True
        while True:
            self._admit()
            fed = self._portions(guess)
            if not fed:
                return
            self.working = [portion.request for portion in fed]
            try:
                logits, done = self._forward(fed)
            except MemoryError as error:
                if not any(portion.guessed for portion in fed):
                    self._make_room(error)
                guess = False
                continue
            finally:
                self.working = []
            break
        row = 0
        for portion in fed:
            rows, row = logits[row : row + portion.rows], row + portion.rows
            portion.request.fed += portion.fed
            if len(rows):
                self._write(portion, rows, done)

    def _write(self, portion: _Portion, rows: F32, done: Any) -> None:
        """The tokens that the logits [1 + guessed, V] give: one, and one more for each guess that is right before it."""
        request = portion.request
        if not request.tokens and request.source is None and request.sequence is not None:
            self._prefixes.keep(request.sequence, request.prompt, request.key)
        try:
            self._advance(request, rows[0], done)
            for guess, row in zip(portion.guessed, rows[1:], strict=True):
                if request.ended is not None or request.tokens[-1] != guess:
                    break
                request.fed += 1
                self._advance(request, row, done)
        except Exception as error:  # its own processor, its own listener
            request.error = error
            self._end(request, "error")
        if portion.guessed and request.sequence is not None:
            self.cache.cut(request.sequence, request.fed)

    def _forward(self, fed: list[_Portion]) -> tuple[F32, Any]:
        ids = [[*p.request.ids[p.request.fed : p.request.fed + p.fed], *p.guessed] for p in fed]
        splits = np.concatenate([[0], np.cumsum([len(part) for part in ids])]).astype(np.int64)
        rows = np.concatenate([np.arange(end - p.rows, end) for end, p in zip(splits[1:], fed, strict=True)]).astype(np.int32)
        done = self.core.forward(
            np.concatenate([np.asarray(part, np.int32) for part in ids]), splits, rows=rows, save=False, cache=self.cache,
            sequences=np.array([p.request.sequence for p in fed], np.int64), **arguments_of([p.request.adapter for p in fed]),
        )  # fmt: skip
        return done.logits, done

    def _encode(self) -> None:
        """Memories for the requests that are next: their sources in one forward, as far as the step's tokens go, at least one."""
        if self._encoder is None:
            return
        coming = list(islice(self.waiting, max(0, min(self._most, self._max_batch) - len(self.running))))
        coming = [request for request in coming if request.memory is None or request.key != _key(request)]
        made = {r.source.key: r.memory for r in self.running if r.source is not None} if coming else {}
        groups: dict[Any, list[Request]] = {}
        tokens = 0
        for request in coming:
            assert request.source is not None  # check() saw to it
            key = request.source.key
            if key in made:
                request.memory, request.key = made[key], _key(request)
                continue
            if key not in groups:
                tokens += len(request.source.ids)
                if groups and tokens > self._step_tokens:
                    break
            groups.setdefault(key, []).append(request)
        while groups:
            self.working = [request for group in groups.values() for request in group]
            try:
                memories = self._encoder([group[0].source for group in groups.values() if group[0].source is not None])
            except MemoryError as error:
                first = next(iter(groups))
                if len(groups) == 1 and not self.running:
                    for request in groups[first]:
                        request.error = error
                        self._end(request, "error")
                groups = {first: groups[first]} if len(groups) > 1 else {}
                continue
            finally:
                self.working = []
            for memory, group in zip(memories, groups.values(), strict=True):
                for request in group:
                    request.memory, request.key = memory, _key(request)
            return

    def _admit(self) -> None:
        """Moves requests from the queue to the batch. One whose beginning is being computed for another waits until it is there."""
        held: list[Request] = []
        try:
            while self.waiting and len(self.running) < min(self._most, self._max_batch):
                request = self.waiting.popleft()
                keys = page_keys(request.ids[:-1], self._prefixes.page, _key(request)) if request.source is None else []
                if keys and keys[-1] not in self._prefixes and any(keys[-1] in self._coming(other) for other in self.running):
                    held.append(request)
                    continue
                if request.source is not None and request.memory is None:  # a later step's
                    held.append(request)
                    break
                try:
                    self._start(request)
                except MemoryError as error:
                    if not self.running and not self._prefixes.give_up():
                        request.error = error
                        self._end(request, "error")
                        continue
                    held.append(request)
                    break
                except BaseException:
                    held.append(request)
                    raise
                self.running.append(request)
        finally:
            self.waiting.extendleft(reversed(held))

    def _coming(self, request: Request) -> list[bytes]:
        """Keys of the pages that this request will keep when its prompt has been seen."""
        if request.fed >= len(request.prompt) or request.source is not None:
            return []
        return page_keys(request.prompt, self._prefixes.page, request.key)

    def _start(self, request: Request) -> None:
        if request.memory is not None:
            self._remember(request, request.memory)
            return
        request.key = _key(request)
        found = self._prefixes.fork(request.ids, request.key)
        request.sequence, request.fed = (self.cache.open(), 0) if found is None else found

    def _remember(self, request: Request, memory: F32) -> None:
        """A sequence that sees a memory: a fork of another's that has the same, else the keys and values are made."""
        twin = next((other for other in self.running if other.memory is memory and other.key == request.key), None)
        if twin is not None and twin.sequence is not None:
            request.sequence, request.fed = self.cache.fork(twin.sequence, 0), 0
            return
        request.sequence, request.fed = self.cache.open(), 0
        self.working = [request]
        try:
            adapted = arguments_of([request.adapter])
            self.cache.remember(
                np.array([request.sequence], np.int64), memory, np.array([0, len(memory)], np.int64),
                adapted.get("adapters"), adapted.get("adapter_of"),
            )  # fmt: skip
        except BaseException:
            self._release(request)
            raise
        finally:
            self.working = []

    def _portions(self, guess: bool) -> list[_Portion]:
        """Texts that grow first, then prompts as far as the step's tokens go, the oldest first; guesses where the step is small."""
        left = self._step_tokens
        counts: dict[Request, int] = {}
        for growing in (True, False):
            for request in self.running:
                if (request.pending == 1) == growing and left > 0:
                    counts[request] = min(request.pending, left)
                    left -= counts[request]
        fed, room = [], min(left, _GUESSING - sum(counts.values())) if guess else 0
        for request in self.running:
            if request in counts:
                guessed = self._guess(request, room)
                room -= len(guessed)
                fed.append(_Portion(request, counts[request], guessed))
        # Rows of one adapter side by side: one product for all of them.
        return sorted(fed, key=lambda p: -1 if p.request.adapter is None else p.request.adapter.serial)

    def _guess(self, request: Request, most: int) -> list[int]:
        """What may follow a text that grows; the last token that it may have need not be guessed, as none follows it."""
        most = min(most, request.max_new_tokens - len(request.tokens) - 1)
        if request.guess is None or request.pending > 1 or not request.tokens or most < 1:
            return []
        return request.guess(request.ids)[:most]

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
        for request in self.waiting:
            request.memory = None
        if self._encoder is not None:
            self._encoder.renew()
        self._version = self._versions()

    def _versions(self) -> tuple[int, int]:
        return int(self.core.version), 0 if self._encoder is None else self._encoder.version

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
        request.memory = None
        self._most = self._max_batch
        if request.on_end is not None:
            request.on_end(request)


def _key(request: Request) -> bytes:
    routes = (request.adapter, None if request.source is None else request.source.route)
    return b"/".join(bytes(route.key) for route in routes if route is not None)
