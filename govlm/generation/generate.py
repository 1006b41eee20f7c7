"""model.generate(): from padded arrays to requests, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..packing import integers, mask_of
from .beam import Beams, beam_search
from .configuration import GenerationConfig
from .encoding import Encoder, Source
from .lookup import PromptLookup
from .processors import Constrained, processors_of
from .sampling import Draw
from .scheduler import PromptTooLong, Request, Scheduler
from .stopping import StopStrings

__all__ = ["GenerateOutput", "Task", "config_of", "generate", "request_of"]

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
_MAX_BATCH = 64  # texts that grow at once; more wait
_STEP_TOKENS = 1024
_NAMES = frozenset(field.name for field in fields(GenerationConfig))


@dataclass
class GenerateOutput:
    """sequences int64 [N, T]. The others where asked for: scores, logits: a tuple of float32 [N, V] a step ([B * beams, V]), after
    and before the processors, zeros where a text had ended; logprobs [N, new tokens] of the model's own distribution, 0 behind the
    end; with beams sequences_scores [N] and beam_indices [N, new tokens], -1 behind the end. finish_reasons: "eos", "length", "stop"."""

    sequences: I64
    scores: tuple[F32, ...] | None = None
    logits: tuple[F32, ...] | None = None
    logprobs: F32 | None = None
    sequences_scores: F32 | None = None
    beam_indices: I64 | None = None
    finish_reasons: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


@dataclass
class Task:
    """One text to begin with: what the decoder is given, how much may follow, and what tells it apart from equal ones."""

    prompt: list[int]
    max_new_tokens: int
    min_new_tokens: int
    source: Source | None = None
    twin: int = 0
    adapter: Any = None  # its Route


def config_of(model: Any) -> GenerationConfig:
    """generation_config.json of the model's folder, where there is one, over the ids in the model's config."""
    config = GenerationConfig.from_model_config(model.config)
    folder = getattr(model.config, "name_or_path", "") or ""
    if folder and os.path.isfile(Path(folder) / "generation_config.json"):
        config = GenerationConfig.from_pretrained(folder).over(config)
    return config


def resolve(model: Any, config: GenerationConfig | None, fields: Mapping[str, Any]) -> GenerationConfig:
    for name in fields:
        if name not in _NAMES:
            raise ValueError(f"generate does not know {name}")
    base = model.generation_config if config is None else config.over(model.generation_config)
    return GenerationConfig(**fields).over(base).resolved()


def generate(
    model: Any,
    input_ids: Any,
    generation_config: GenerationConfig | None,
    fields: Mapping[str, Any],
    *,
    attention_mask: Any,
    decoder_input_ids: Any,
    processors: Any,
    criteria: Any,
    streamer: Any,
    tokenizer: Any,
    constraint: Any,
    adapter_names: Any = None,
) -> Any:
    """See GenerationMixin.generate."""
    if model.task != "lm":
        raise ValueError(f"{type(model).__name__} has no head over the vocabulary that says what follows: it cannot generate")
    config = resolve(model, generation_config, fields)
    if packed_input(input_ids):
        input_ids, attention_mask = _unpack(input_ids)
    ids, mask = _inputs(config, input_ids, attention_mask)
    names = model._routed(adapter_names, len(ids))
    rows = [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)]
    encoder = Encoder.of(model)
    if encoder is not None:
        starts = beginnings(config, decoder_input_ids, len(ids))
        tasks = tasks_of(model, config, rows, starts.shape[1], names, starts.tolist(), [_holes(keep) for keep in mask])
    elif decoder_input_ids is not None:
        raise ValueError(f"decoder_input_ids is not supported by {type(model).__name__}")
    else:
        starts, tasks = ids, tasks_of(model, config, rows, ids.shape[1], names)
    more = list(processors) if isinstance(processors, Sequence) else [processors] if processors is not None else []
    ends = list(criteria) if isinstance(criteria, Sequence) else [criteria] if criteria is not None else []
    if config.stop_strings is not None:
        ends.append(_stop_criterion(StopStrings(config.stop_strings, tokenizer)))
    if streamer is not None and ((config.num_beams or 1) > 1 or len(tasks) * (config.num_return_sequences or 1) != 1):
        raise ValueError("a streamer takes one text: a batch of 1, num_beams=1 and num_return_sequences=1")
    run = _run_beams if (config.num_beams or 1) > 1 else _run_requests
    return run(model, encoder, config, starts, tasks, more, ends, streamer, constraint)


def core_of(model: Any) -> Any:
    """The core that writes: a decoder's, or a causal model's only one."""
    return model._cores.get("decoder") or model._core_of("")


def packed_input(value: Any) -> bool:
    return hasattr(value, "row_splits")


def _unpack(packed: Any) -> tuple[I64, I64]:
    lengths = np.diff(np.asarray(packed.row_splits))
    mask = np.arange(int(lengths.max(initial=0)))[None] < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = packed.ids
    return ids, mask.astype(np.int64)


# ---- inputs ------------------------------------------------------------------------------------------------------------------


def _inputs(config: GenerationConfig, input_ids: Any, attention_mask: Any) -> tuple[I64, NDArray[np.bool_]]:
    if input_ids is None:
        if config.bos_token_id is None:
            raise ValueError("input_ids is missing, and there is no bos_token_id to begin with")
        input_ids = [[config.bos_token_id]]
    ids = np.asarray(integers(input_ids, "input_ids", None), np.int64)
    mask = mask_of(attention_mask, "attention_mask", (ids.shape[0], ids.shape[1]))
    if mask is None:
        mask = np.ones(ids.shape, np.bool_)
        pad = config.pad_token_id
        if attention_mask is None and pad is not None and pad not in config.eos:
            mask = ids != pad
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        raise ValueError(f"input_ids[{empty[0]}] has no token: begin with bos_token_id")
    return ids, mask


def _new_tokens(config: GenerationConfig, width: int, limit: int | None) -> tuple[int, int]:
    """(most, least) tokens to generate after `width` columns."""
    if config.max_new_tokens is not None:
        most = config.max_new_tokens
    elif config.max_length != 20:
        most = (config.max_length or 0) - width
        if most < 1:
            raise ValueError(f"the input has {width} tokens, max_length is {config.max_length}: set max_new_tokens")
    else:
        most = 20 if limit is None else max(1, min(20, limit - width))
    least = config.min_new_tokens if config.min_new_tokens is not None else max((config.min_length or 0) - width, 0)
    if least > most:
        raise ValueError(f"at least {least} tokens are asked for, and at most {most}")
    return most, least


def position_limit(model: Any) -> int | None:
    """Positions that a causal model has."""
    given = model._rules.max_positions or model.config.__dict__.get("max_position_embeddings")
    return int(given) if given else None


def fit_prompt(prompt: list[int], most: int, limit: int | None, overflow: str | None) -> list[int]:
    """The prompt, cut to its end when it overflows and that was asked for; PromptTooLong otherwise."""
    room = len(prompt) if limit is None else limit - max(most, 1) + 1  # the last token generated is not fed
    if len(prompt) <= room:
        return prompt
    if overflow == "window" and room >= 1:
        return prompt[-room:]
    advice = 'shorten it, or prompt_overflow="window" keeps its end' if room >= 1 else "ask for fewer"
    raise PromptTooLong(
        f"the prompt has {len(prompt)} tokens, the model {limit} positions, and {most} tokens are to be generated: {advice}"
    )


def _holes(keep: NDArray[np.bool_]) -> list[int] | None:
    """Positions of a row's tokens, from its first; None when there is no hole between them."""
    columns = np.flatnonzero(keep) - keep.argmax()
    return None if columns[-1] == len(columns) - 1 else list(map(int, columns))


def beginnings(config: GenerationConfig, decoder_input_ids: Any, count: int) -> I64:
    """[count, D] what a decoder is given of each text: decoder_start_token_id, and decoder_input_ids where there are."""
    start = config.decoder_start_token_id if config.decoder_start_token_id is not None else config.bos_token_id
    if decoder_input_ids is None:
        if start is None:
            raise ValueError("the config has neither decoder_start_token_id nor bos_token_id to begin with")
        return np.full((count, 1), start, np.int64)
    starts = np.asarray(integers(decoder_input_ids, "decoder_input_ids", None), np.int64)
    if len(starts) != count:
        raise ValueError(f"decoder_input_ids has {len(starts)} rows, input_ids {count}")
    if start is not None and not (starts[:, 0] == start).any():
        starts = np.concatenate([np.full((count, 1), start, np.int64), starts], axis=1)
    return starts


def tasks_of(
    model: Any, config: GenerationConfig, rows: Sequence[list[int]], width: int, names: Sequence[str | None],
    begins: Sequence[list[int]] | None = None, positions: Sequence[list[int] | None] | None = None,
) -> list[Task]:  # fmt: skip
    """A task a row of ids. width: columns before the first new token; names: the rows' adapters. Of a sequence-to-sequence model
    the rows are sources: begins, what its decoder is given; positions, of their ids, where a mask left holes. PromptTooLong."""
    limit = None if begins is not None else position_limit(model)
    most, least = _new_tokens(config, width, limit)
    if begins is None:
        prompts = [fit_prompt(row, most, limit, config.prompt_overflow) for row in rows]
        return [
            Task(prompt, most, least, None, twin, route)
            for prompt, twin, route in zip(prompts, _twins(prompts), model._routes(names, ""), strict=True)
        ]
    sources = [
        Source(row, column, route)
        for row, column, route in zip(rows, positions or [None] * len(rows), model._routes(names, "encoder"), strict=True)
    ]
    return [
        Task(begin, most, least, source, twin, route)
        for begin, source, twin, route in zip(begins, sources, _twins(rows), model._routes(names, "decoder"), strict=True)
    ]


def _twins(prompts: Sequence[Sequence[int]]) -> list[int]:
    """How many equal ones came before each: they draw from streams of their own, whatever else is in the batch."""
    seen: dict[tuple[int, ...], int] = {}
    twins = []
    for prompt in prompts:
        key = tuple(prompt)
        twins.append(seen.get(key, 0))
        seen[key] = twins[-1] + 1
    return twins


def _stop_criterion(stops: StopStrings) -> Any:
    return lambda ids, scores: stops.ends(ids[0])


def _processors(config: GenerationConfig, task: Task, more: Sequence[Any], constraint: Any) -> list[Any]:
    own = GenerationConfig(min_new_tokens=task.min_new_tokens).over(config)
    limited = [] if constraint is None else [Constrained(constraint, len(task.prompt))]
    return processors_of(own, len(task.prompt), len(task.prompt) + task.max_new_tokens, [*limited, *more])


def _stops(criteria: Sequence[Any], prompt: Sequence[int] = ()) -> Any:
    """Criteria on arrays as one on a list of ids, of which `prompt` is not given each time."""
    if not criteria:
        return None

    def stop(ids: list[int], scores: F32) -> bool:
        array = np.array([[*prompt, *ids]], np.int64)
        return any(bool(np.all(criterion(array, scores[None]))) for criterion in criteria)

    return stop


def request_of(
    config: GenerationConfig, task: Task, more: Sequence[Any], ends: Sequence[Any], constraint: Any, stream: int
) -> Request:
    """The request for a task; `stream` tells the texts of one prompt apart."""
    most, guess = config.prompt_lookup_num_tokens or 0, None
    if most:
        guess = PromptLookup(most, config.max_matching_ngram_size or 1, task.source.ids if task.source is not None else ())
    return Request(
        task.prompt, task.max_new_tokens, config.eos, _processors(config, task, more, constraint),
        Draw(config.seed or 0, stream) if config.do_sample else None, _stops(ends), task.source, task.adapter, guess,
        want_logprobs=bool(config.output_logprobs), want_scores=bool(config.output_scores), want_logits=bool(config.output_logits),
    )  # fmt: skip


# ---- runs --------------------------------------------------------------------------------------------------------------------


def _run_requests(
    model: Any, encoder: Encoder | None, config: GenerationConfig, starts: I64, tasks: list[Task], more: list[Any], ends: list[Any],
    streamer: Any, constraint: Any,
) -> Any:  # fmt: skip
    several = config.num_return_sequences or 1
    if config.do_sample and config.seed is None:
        config = GenerationConfig(seed=int(np.random.randint(0, 2**32, dtype=np.uint64))).over(config)
    scheduler = Scheduler(
        core_of(model), max_batch=_MAX_BATCH, step_tokens=_STEP_TOKENS, bits=config.cache_bits or 32,
        culprit=model.first_nonfinite, encoder=encoder,
    )  # fmt: skip
    requests = [
        request_of(config, task, more, ends, constraint, task.twin * several + n) for task in tasks for n in range(several)
    ]
    if streamer is not None:
        streamer.put(starts)
        requests[0].on_token = lambda token: streamer.put(np.array([token], np.int64))
    try:
        if tasks and tasks[0].max_new_tokens > 0:
            for request in requests:
                scheduler.add(request)
        while scheduler.busy:
            scheduler.step()
            failed = next((request for request in requests if request.error is not None), None)
            if failed is not None and failed.error is not None:
                raise failed.error
    finally:
        scheduler.close()
    if streamer is not None:
        streamer.end()
    texts = [request.tokens for request in requests]
    sequences = _joined(np.repeat(starts, several, axis=0), texts, config)
    if not config.return_dict_in_generate:
        return sequences
    steps = max(map(len, texts), default=0)
    return GenerateOutput(
        sequences,
        _steps([r.scores for r in requests], steps) if config.output_scores else None,
        _steps([r.logits for r in requests], steps) if config.output_logits else None,
        _rows([r.logprobs for r in requests], 0.0, np.float32) if config.output_logprobs else None,
        finish_reasons=tuple(r.ended or "length" for r in requests),
    )


def _run_beams(
    model: Any, encoder: Encoder | None, config: GenerationConfig, starts: I64, tasks: list[Task], more: list[Any], ends: list[Any],
    streamer: Any, constraint: Any,
) -> Any:  # fmt: skip
    if config.output_logprobs:
        raise ValueError("output_logprobs does not go with num_beams: sequences_scores has the mean of each text")
    beams, several, most = config.num_beams or 1, config.num_return_sequences or 1, tasks[0].max_new_tokens if tasks else 1
    if most < 1:
        raise ValueError("num_beams needs max_new_tokens of at least 1")
    searches = [
        Beams(beams, most, config.eos, config.length_penalty or 0.0, config.early_stopping or False, _stops(ends, task.prompt))
        for task in tasks
    ]
    results = beam_search(
        core_of(model), [task.prompt for task in tasks], searches, [_processors(config, task, more, constraint) for task in tasks],
        encoder([task.source for task in tasks if task.source is not None]) if encoder is not None and tasks else None,
        bits=config.cache_bits or 32, step_tokens=_STEP_TOKENS, keep_scores=bool(config.output_scores),
        keep_logits=bool(config.output_logits), culprit=model.first_nonfinite, adapters=[task.adapter for task in tasks],
    )  # fmt: skip
    best = [hypothesis for result in results for hypothesis in result.best[:several]]
    sequences = _joined(np.repeat(starts, several, axis=0), [h.tokens for h in best], config)
    if not config.return_dict_in_generate:
        return sequences
    steps = max((len(search.running[0].tokens) for search in searches), default=0)
    indices = _rows([[p + beams * (n // several) for p in h.parents] for n, h in enumerate(best)], -1, np.int64)
    return GenerateOutput(
        sequences,
        _beam_steps([r.scores for r in results], steps) if config.output_scores else None,
        _beam_steps([r.logits for r in results], steps) if config.output_logits else None,
        sequences_scores=np.array([h.score for h in best], np.float32),
        beam_indices=indices,
        finish_reasons=tuple(
            "eos" if h.tokens and h.tokens[-1] in config.eos else "length" if len(h.tokens) >= most else "stop" for h in best
        ),
    )


# ---- outputs -----------------------------------------------------------------------------------------------------------------


def _joined(starts: I64, texts: Sequence[Sequence[int]], config: GenerationConfig) -> I64:
    pad = config.pad_token_id if config.pad_token_id is not None else config.eos[0] if config.eos else 0
    return np.concatenate([starts, _rows(texts, pad, np.int64)], axis=1)


def _rows(rows: Sequence[Sequence[Any]], filling: Any, dtype: Any) -> Any:
    out = np.full((len(rows), max(map(len, rows), default=0)), filling, dtype)
    for n, row in enumerate(rows):
        out[n, : len(row)] = row
    return out


def _steps(texts: Sequence[Sequence[F32]], steps: int) -> tuple[F32, ...]:
    width = next((len(text[0]) for text in texts if text), 0)
    zeros = np.zeros(width, np.float32)
    return tuple(np.stack([text[step] if step < len(text) else zeros for text in texts]) for step in range(steps))


def _beam_steps(searches: Sequence[Sequence[F32]], steps: int) -> tuple[F32, ...]:
    zeros = np.zeros_like(searches[0][0]) if searches and searches[0] else np.zeros((0, 0), np.float32)
    return tuple(np.concatenate([s[step] if step < len(s) else zeros for s in searches]) for step in range(steps))
