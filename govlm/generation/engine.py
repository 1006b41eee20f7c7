"""Many requests at once: a thread that steps a Scheduler, a queue that is bounded, and handles to iterate over and cancel."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .._native import core as native
from .configuration import GenerationConfig
from .encoding import Encoder
from .generate import beginnings, core_of, request_of, resolve, tasks_of
from .scheduler import Request, Scheduler
from .stopping import StopStrings

__all__ = ["Engine", "EngineFull", "Handle"]


class EngineFull(RuntimeError):
    """As many requests as the engine holds are in work or waiting: try again later."""


class Handle:
    """One request in an engine. Iterating gives its ids as they come; it may be iterated once, from any thread."""

    def __init__(self, engine: Engine, request: Request, listener: Callable[[int | None], None] | None = None) -> None:
        self._engine, self._request, self._listener = engine, request, listener
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self.cancelled = False
        request.on_token = self._queue.put if listener is None else listener
        request.on_end = self._end

    def _end(self, request: Request) -> None:
        self._done.set()
        self._queue.put(None)
        if self._listener is not None:
            try:
                self._listener(None)
            except Exception:  # the text has ended: nobody is left to be told
                self._listener = None

    def __iter__(self) -> Iterator[int]:
        """The generated ids; ends with the text. Raises what ended the request, when that was an error."""
        while (token := self._queue.get()) is not None:
            yield token
        self._queue.put(None)
        self._raise()

    def result(self, timeout: float | None = None) -> list[int]:
        """All generated ids, once the text has ended. TimeoutError after `timeout` seconds; raises what ended it, if an error."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"the text has not ended within {timeout} s")
        self._raise()
        return list(self._request.tokens)

    def _raise(self) -> None:
        if self._request.error is not None:
            raise self._request.error

    @property
    def finish_reason(self) -> str | None:
        """ "eos", "length", "stop", "cancelled" or "error"; None while it grows."""
        return self._request.ended

    @property
    def logprobs(self) -> list[float]:
        """Of the ids so far, with output_logprobs=True."""
        return list(self._request.logprobs)

    def cancel(self) -> None:
        """Ends it; a step that runs for it alone is given up. What it has generated stays."""
        self._engine._cancel(self)


class Engine:
    """Serves a model that writes to many callers; texts grow side by side and share the beginnings of their prompts. Of a
    sequence-to-sequence model (T5) each prompt goes through the encoder once, with those that arrive beside it.

    max_batch: texts that grow at once; max_requests: those and the waiting ones (EngineFull beyond). step_tokens: tokens of one step,
    which bounds how long the others wait for a prompt (an encoder's, which cannot be cut, takes a step for itself when it is longer). pages: of 32 tokens each that keys and values may take (0: as memory allows). The
    weights must not be trained meanwhile. Use as a context manager, or call close().
    """

    def __init__(
        self,
        model: Any,
        *,
        max_batch: int = 8,
        max_requests: int = 32,
        step_tokens: int = 256,
        pages: int = 0,
        cache_bits: int = 32,
        prefix_tokens: int = 4096,
        tokenizer: Any = None,
    ) -> None:
        if model.task != "lm":
            raise ValueError(
                f"an Engine serves a model with a head over the vocabulary that writes, not {type(model).__name__}"
            )
        if max_requests < 1:
            raise ValueError(f"max_requests must be at least 1, not {max_requests}")
        self._model, self._tokenizer, self._max_requests = model, tokenizer, max_requests
        self._scheduler = Scheduler(
            core_of(model), max_batch=max_batch, step_tokens=step_tokens, pages=pages, bits=cache_bits,
            prefix_tokens=prefix_tokens, culprit=model.first_nonfinite, encoder=Encoder.of(model),
        )  # fmt: skip
        self._wake = threading.Condition()
        self._new: list[Handle] = []
        self._handles: dict[Request, Handle] = {}  # those that have not ended
        self._step: Any = None  # the Cancel of the step that runs
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="govlm-engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        input_ids: Sequence[int],
        generation_config: GenerationConfig | None = None,
        *,
        logits_processor: Sequence[Any] = (),
        constraint: Any = None,
        listener: Callable[[int | None], None] | None = None,
        adapter: str | None = None,
        decoder_input_ids: Sequence[int] | None = None,
        **fields: Any,
    ) -> Handle:
        """Takes a request for one text and returns at once. fields: as of generate(), without beams and several texts. listener: is told
        of each id as it comes, and of the end by None, in the engine's thread, in the place of iterating; it must not wait. adapter: the
        name of the one that it goes through ("__base__": none; default the active one). decoder_input_ids: what the text of a
        sequence-to-sequence model begins with.

        EngineFull when max_requests are there; ValueError, IndexError or PromptTooLong for what cannot be; RuntimeError when closed.
        """
        config = resolve(self._model, generation_config, fields)
        if (config.num_beams or 1) > 1 or (config.num_return_sequences or 1) > 1:
            raise ValueError("an Engine grows one text a request: num_beams and num_return_sequences must be 1")
        names = self._model._routed(None if adapter is None else [adapter], 1)
        prompt, begin = [int(index) for index in input_ids], None
        if "decoder" in self._model._cores:
            begin = beginnings(config, None if decoder_input_ids is None else [list(decoder_input_ids)], 1).tolist()
        elif decoder_input_ids is not None:
            raise ValueError(f"decoder_input_ids is not supported by {type(self._model).__name__}")
        width = len(prompt if begin is None else begin[0])
        task = tasks_of(self._model, config, [prompt], width, names, begin)[0]
        if task.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1 in an Engine")
        ends = []
        if config.stop_strings is not None:
            stops = StopStrings(config.stop_strings, self._tokenizer)
            ends.append(lambda ids, scores: stops.ends(ids[0]))
        request = request_of(config, task, list(logits_processor), ends, constraint, 0)
        handle = Handle(self, request, listener)
        self._scheduler.check(handle._request)
        with self._wake:
            if self._closing:
                raise RuntimeError("the engine is closed")
            if len(self._handles) >= self._max_requests:
                raise EngineFull(
                    f"{len(self._handles)} requests are in work or waiting, the most this engine holds: try again later"
                )
            self._handles[handle._request] = handle
            self._new.append(handle)
            self._wake.notify()
        return handle

    def usage(self) -> dict[str, int]:
        """Pages and sequences of the cache, and "requests" that have not ended."""
        return {**self._scheduler.cache.usage(), "requests": len(self._handles)}

    def close(self) -> None:
        """Cancels what is left and waits for the thread. Idempotent."""
        with self._wake:
            self._closing = True
            for handle in self._handles.values():
                handle.cancelled = True
            if self._step is not None:
                self._step.cancel()
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _cancel(self, handle: Handle) -> None:
        with self._wake:
            handle.cancelled = True
            working = [self._handles[r] for r in self._scheduler.working if r in self._handles]
            if self._step is not None and all(h.cancelled for h in working):
                self._step.cancel()
            self._wake.notify()

    def _take(self) -> bool:
        """Under the lock: new requests in, cancelled and ended ones out. False when there is no more to do, ever."""
        for handle in self._new:
            self._scheduler.add(handle._request)
        self._new.clear()
        for request, handle in list(self._handles.items()):
            if handle.cancelled:
                self._scheduler.drop(request)
            if request.ended is not None:
                del self._handles[request]
        return not (self._closing and not self._scheduler.busy)

    def _run(self) -> None:
        while True:
            with self._wake:
                while (goes_on := self._take()) and not self._scheduler.busy:
                    self._wake.wait()
                if not goes_on:
                    break
                self._step = native.Cancel()
            try:
                with self._step:
                    self._scheduler.step()
            except native.Cancelled:
                pass  # nothing changed: the next turn takes the cancelled ones out
            except Exception as error:  # of the model itself: nobody's text can go on
                for request in [*self._scheduler.running, *self._scheduler.waiting]:
                    request.error = error
                    self._scheduler.drop(request, "error")
            finally:
                with self._wake:
                    self._step = None
        self._scheduler.close()
