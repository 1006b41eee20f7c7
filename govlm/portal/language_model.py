"""A language model of this machine as a worker serves it: many conversations side by side, each a stream of pieces of text.

served = Served("qwen2.5-0.5b-instruct.gguf", queue=256)
asked = served.prepare(messages, most=64)           # on a thread
async for piece in served.answer(asked): …          # cancelled with its caller
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.generation import EngineFull, LanguageModel, NonFiniteLogits
from govlm.generation.constrained import Constraint, JsonSchemaConstraint
from govlm.generation.processors import Constrained, log_softmax
from govlm.portal.errors import PortalError

__all__ = ["Asked", "Chance", "Piece", "Served"]

Message = Mapping[str, str]  # {"role": …, "content": …}
_LOG = logging.getLogger(__name__)
BATCH = 8  # texts that grow at once; more wait
STEP = 256  # tokens of a step, so that a cancel is heard within 100 ms
MEMORY = 2 << 30  # bytes of keys and values
MOST = 512  # tokens of an answer where the client says nothing
_SCHEMAS = 16  # that are kept ready


@dataclass(frozen=True)
class Chance:
    """A token and the logarithm of its probability."""

    token: bytes
    logprob: float


@dataclass(frozen=True)
class Piece:
    """A part of the text that is certain, with the tokens that came since the last part: each with its likeliest rivals. finish: "stop"
    or "length" in the last one."""

    text: str
    tokens: tuple[tuple[Chance, tuple[Chance, ...]], ...] = ()
    count: int = 0  # tokens so far
    finish: str | None = None


@dataclass
class Asked:
    """A request that is ready to run. ids: of the prompt. stops: texts before which the answer ends. top: rivals of each token, None = no
    probabilities at all."""

    ids: list[int]
    options: dict[str, Any]
    stops: tuple[str, ...] = ()
    constraint: Constraint | None = None
    top: int | None = None


class Served:
    """queue: requests in work and waiting, at most; more are refused ("busy")."""

    def __init__(self, path: str, queue: int) -> None:
        """ValueError or OSError: as LanguageModel.open."""
        self.model = LanguageModel.open(path, max_batch=BATCH, max_requests=max(queue, BATCH), step_tokens=STEP, memory=MEMORY)
        self._schemas: OrderedDict[str, JsonSchemaConstraint] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.model.name

    def prepare(
        self, messages: Sequence[Message], *, most: int | None = None, temperature: float | None = None,
        top_p: float | None = None, seed: int | None = None, stops: Sequence[str] = (), schema: Any = None, top: int | None = None,
        window: bool = False,
    ) -> Asked:  # fmt: skip
        """Takes what the API gives. PortalError "invalid": the template or the schema is refused; "context_length_exceeded". window: what
        is too long loses its oldest messages, then its beginning."""
        ids, most = self._fitted(list(messages), most, window)
        own = self.model.model.generation_config
        warmth = temperature if temperature is not None else own.temperature if own.temperature is not None else 1.0
        options: dict[str, Any] = {"max_new_tokens": most, "do_sample": warmth > 0}
        if warmth > 0:
            options |= {
                "temperature": warmth,
                "top_k": own.top_k or 0,
                "seed": secrets.randbits(63) if seed is None else seed % 2**64,
            }
            options["top_p"] = top_p if top_p is not None else own.top_p if own.top_p is not None else 1.0
        constraint = None if schema is None else self._schema(schema)
        if stops:
            options["stop_strings"] = list(stops)
        return Asked(ids, options, tuple(stops), constraint, top)

    def _fitted(self, messages: list[Message], most: int | None, window: bool) -> tuple[list[int], int]:
        """(prompt, tokens of the answer). Where the client says nothing the answer takes what is left, up to `MOST`."""
        limit = self.model.limit
        ids = self._prompt(messages)
        if limit is None:
            return ids, MOST if most is None else most
        room = limit + 1 - (most or 1)  # the last token is not fed
        if len(ids) > room >= 1 and window:
            ids = self._windowed(messages, room)
        if len(ids) > room:
            wanted = "至少1" if most is None else str(most)
            said = f'对话有{len(ids)}个词元，回答要{wanted}个，模型一共只有{limit}个位置：请缩短对话，或者用truncation="auto"去掉最早的内容。'
            raise PortalError("context_length_exceeded", said, fields=["messages"])
        return ids, min(MOST, limit + 1 - len(ids)) if most is None else most

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        try:
            return self.model.prompt(messages, datetime.now())
        except ValueError as error:
            raise PortalError("invalid", f"模型的对话模板不接受这些消息：{error}", fields=["messages"]) from None

    def _windowed(self, messages: list[Message], room: int) -> list[int]:
        """The prompt of the system's messages at the beginning and as many of the last as fit, from one of the user's on; of the last
        alone its end, where even that is too long."""
        head = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
        begins = [n for n in range(head, len(messages)) if messages[n]["role"] == "user"] or [max(head, len(messages) - 1)]
        low, high = 0, len(begins) - 1  # the first beginning that fits: few tries, each reads the whole conversation
        while low < high:
            middle = (low + high) // 2
            if len(self._prompt([*messages[:head], *messages[begins[middle] :]])) <= room:
                high = middle
            else:
                low = middle + 1
        return self._prompt([*messages[:head], *messages[begins[low] :]])[-room:]

    def _schema(self, schema: Any) -> JsonSchemaConstraint:
        key = json.dumps(schema, sort_keys=True)
        with self._lock:
            found = self._schemas.pop(key, None)
        if found is None:
            try:
                found = JsonSchemaConstraint(schema, self.model.vocabulary)
            except (ValueError, RecursionError) as error:
                raise PortalError("invalid", f"不支持这个JSON schema：{error}", fields=["response_format"]) from None
        with self._lock:
            self._schemas[key] = found
            while len(self._schemas) > _SCHEMAS:
                self._schemas.popitem(last=False)
        return found

    async def answer(self, asked: Asked) -> AsyncIterator[Piece]:
        """The answer, piece by piece; the last one has its `finish`. Who stops listening ends it: the model is free within a step.
        PortalError "busy": the queue or the memory is full; "internal": the model failed."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[int | None] = asyncio.Queue()

        def tell(token: int | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(heard.put_nowait, token)

        text, rivals = _Text(self.model, asked.stops), _Rivals(asked.top or 0)
        processors: list[Any] = [] if asked.constraint is None else [Constrained(asked.constraint, self.model.begin(asked.ids))]
        if asked.top:
            processors.append(rivals)
        try:
            handle = self.model.engine.submit(
                asked.ids, logits_processor=processors, listener=tell, output_logprobs=asked.top is not None, **asked.options
            )
        except (EngineFull, RuntimeError):  # full, or about to close
            raise PortalError("busy", retry_after=1) from None
        count, new = 0, []
        try:
            while (token := await heard.get()) is not None:
                count += 1
                if asked.top is not None:
                    new.append(self._chances(token, handle.logprobs[count - 1], rivals, count - 1))
                if piece := text.feed(token):
                    yield Piece(piece, tuple(new), count)
                    new = []
                if text.ended:
                    break
            if handle.finish_reason == "error":
                handle.result(0)
            finish = "length" if handle.finish_reason == "length" and not text.ended else "stop"
            yield Piece(text.end(), tuple(new), count, finish)
        except MemoryError:
            raise PortalError("busy", retry_after=1) from None
        except (NonFiniteLogits, ValueError) as error:
            _LOG.error("the language model failed: %s", error)
            raise PortalError("internal") from None
        finally:
            handle.cancel()

    def _chances(self, token: int, logprob: float, rivals: _Rivals, place: int) -> tuple[Chance, tuple[Chance, ...]]:
        spelled = self.model.tokenizer.token_bytes
        others = rivals.made[place] if place < len(rivals.made) else ()
        return Chance(spelled(token), logprob), tuple(Chance(spelled(index), chance) for index, chance in others)

    def close(self) -> None:
        self.model.close()


@dataclass
class _Rivals:
    """A logits processor that only looks: the likeliest `top` tokens of each step."""

    top: int
    made: list[tuple[tuple[int, float], ...]] = field(default_factory=list)

    def __call__(self, ids: Any, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        row = logits[0]
        best = np.argpartition(row, -min(self.top, len(row)))[-min(self.top, len(row)) :]
        best = best[np.argsort(-row[best], kind="stable")]
        chances = log_softmax(logits)[0]
        self.made.append(tuple((int(i), float(chances[i])) for i in best if np.isfinite(chances[i])))
        return logits


class _Text:
    """Text from tokens, held back as far as it may be the beginning of a stop; ended: one came, and nothing behind it is told."""

    def __init__(self, model: LanguageModel, stops: Sequence[str]) -> None:
        self._stream = model.tokenizer.decode_stream(skip_special_tokens=True)
        self._stops, self._held, self.ended = tuple(stops), "", False

    def feed(self, token: int) -> str:
        return self._take(self._stream.feed(token))

    def end(self) -> str:
        """The rest."""
        if self.ended:
            return ""
        told = self._take(self._stream.end())
        rest, self._held = self._held, ""
        return told if self.ended else told + rest

    def _take(self, new: str) -> str:
        self._held += new
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.ended = True
            told, self._held = self._held[: min(found)], ""
            return told
        keep = max((n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])), default=0)
        told = self._held[: len(self._held) - keep]
        self._held = self._held[len(told) :]
        return told
