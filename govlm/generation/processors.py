"""What is done to the logits before a token is chosen, with transformers' names, order and arithmetic (float32).

A processor is called as `processor(ids, logits) -> logits` with ids int64 [n, T] (prompt and what was generated) and logits float32
[n, V] of n sequences of one request (its beams; else 1). It may write into `logits`, which are its own. What must not come gets -inf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .configuration import GenerationConfig, _ids

__all__ = [
    "Constrained", "EpsilonCutoff", "EtaCutoff", "ForcedBOS", "ForcedEOS", "InfNanRemove", "MinLength", "MinP", "NoBadWords",
    "NoRepeatNGram", "Processor", "Renormalize", "RepetitionPenalty", "SuppressTokens", "Temperature", "TopK", "TopP", "TypicalP",
    "log_softmax", "processors_of", "softmax",
]  # fmt: skip

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Processor = Callable[[I64, F32], F32]
_NEVER = np.float32(-np.inf)
_FEW = 1024  # candidates that are sorted at first; a peaked distribution needs no more


def log_softmax(logits: F32) -> F32:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)), np.float32)


def softmax(logits: F32) -> F32:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True, dtype=np.float64), np.float32)


class Temperature:
    """Logits divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        self.temperature = np.float32(temperature)

    def __call__(self, ids: I64, logits: F32) -> F32:
        return logits / self.temperature


class TopK:
    """Only the k most probable (and those that tie with the last of them)."""

    def __init__(self, top_k: int) -> None:
        self.top_k = top_k

    def __call__(self, ids: I64, logits: F32) -> F32:
        k = min(self.top_k, logits.shape[-1])
        least = np.partition(logits, -k, axis=-1)[:, -k, None]
        logits[logits < least] = _NEVER
        return logits


class TopP:
    """The fewest most probable tokens that together have the probability top_p (Holtzman et al., arXiv:1904.09751)."""

    def __init__(self, top_p: float) -> None:
        self.top_p = top_p

    def __call__(self, ids: I64, logits: F32) -> F32:
        for row in logits:
            self._row(row)
        return logits

    def _row(self, row: F32) -> None:
        places = np.flatnonzero(row > _NEVER)
        if not len(places):
            return
        values = softmax(row[places])
        count = min(_FEW, len(values))
        while True:
            best = np.argpartition(values, -count)[-count:] if count < len(values) else np.arange(len(values))
            best = best[np.argsort(-values[best], kind="stable")]
            above = np.cumsum(values[best], dtype=np.float64)
            if count == len(values) or above[-1] >= self.top_p:
                break
            count = min(count * 8, len(values))
        keep = np.concatenate([[True], above[:-1] < self.top_p])  # the most probable one always
        chosen = places[best[keep]]
        held = row[chosen]
        row[...] = _NEVER
        row[chosen] = held


class MinP:
    """Only tokens of at least min_p times the probability of the most probable one (Nguyen et al., arXiv:2407.01082)."""

    def __init__(self, min_p: float) -> None:
        self.min_p = np.float32(min_p)

    def __call__(self, ids: I64, logits: F32) -> F32:
        probabilities = softmax(logits)
        top = probabilities.max(axis=-1, keepdims=True)
        drop = probabilities < self.min_p * top
        drop[np.arange(len(logits)), logits.argmax(axis=-1)] = False
        logits[drop] = _NEVER
        return logits


class TypicalP:
    """The fewest tokens whose surprise is nearest to the expected one and that together have the probability typical_p (Meister et
    al., arXiv:2202.00666)."""

    def __init__(self, typical_p: float) -> None:
        self.typical_p = np.float32(typical_p)

    def __call__(self, ids: I64, logits: F32) -> F32:
        known = log_softmax(logits)
        away = np.abs(-known - _entropy(known, np.exp(known)))
        order = np.argsort(away, axis=-1, kind="stable")
        above = np.cumsum(np.take_along_axis(softmax(logits), order, axis=-1), axis=-1, dtype=np.float64)
        last = np.minimum((above < self.typical_p).sum(axis=-1, keepdims=True), logits.shape[-1] - 1)
        logits[away > np.take_along_axis(away, np.take_along_axis(order, last, axis=-1), axis=-1)] = _NEVER
        return logits


class EpsilonCutoff:
    """Only tokens of at least this probability, and the most probable (Hewitt et al., arXiv:2210.15191)."""

    def __init__(self, epsilon_cutoff: float) -> None:
        self.epsilon = np.float32(epsilon_cutoff)

    def __call__(self, ids: I64, logits: F32) -> F32:
        logits[(softmax(logits) < self.epsilon) & (logits < logits.max(axis=-1, keepdims=True))] = _NEVER
        return logits


class EtaCutoff:
    """EpsilonCutoff with a bound that sinks where many tokens are likely: min(eta, sqrt(eta) exp(-entropy)) (arXiv:2210.15191)."""

    def __init__(self, eta_cutoff: float) -> None:
        self.eta = np.float32(eta_cutoff)

    def __call__(self, ids: I64, logits: F32) -> F32:
        known = log_softmax(logits)
        probabilities = np.exp(known)
        bound = np.minimum(self.eta, np.sqrt(self.eta) * np.exp(-_entropy(known, probabilities)))
        logits[(probabilities < bound) & (logits < logits.max(axis=-1, keepdims=True))] = _NEVER
        return logits


class RepetitionPenalty:
    """Logits of tokens that came before divided by the penalty, multiplied where negative (Keskar et al., arXiv:1909.05858)."""

    def __init__(self, penalty: float) -> None:
        self.penalty = np.float32(penalty)

    def __call__(self, ids: I64, logits: F32) -> F32:
        there = np.take_along_axis(logits, ids, axis=1)
        there = np.where(there < 0, there * self.penalty, there / self.penalty)
        np.put_along_axis(logits, ids, there, axis=1)
        return logits


class NoRepeatNGram:
    """No n-gram comes twice."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, ids: I64, logits: F32) -> F32:
        n = self.size
        if ids.shape[1] + 1 < n:
            return logits
        for row, out in zip(ids, logits, strict=True):
            tail = row[len(row) - n + 1 :]
            grams = np.lib.stride_tricks.sliding_window_view(row, n) if len(row) >= n else np.zeros((0, n), np.int64)
            out[grams[(grams[:, :-1] == tail).all(axis=1), -1]] = _NEVER
        return logits


class NoBadWords:
    """A sequence of bad_words_ids never becomes whole; one that is an EOS id alone is left to it."""

    def __init__(self, words: Sequence[Sequence[int]], eos: Sequence[int]) -> None:
        self.words = [np.asarray(word, np.int64) for word in words if not (len(word) == 1 and word[0] in eos)]
        for word in words:
            if not len(word) or any(not isinstance(index, int) or index < 0 for index in word):
                raise ValueError(f"bad_words_ids must hold lists of ids, not {word!r}")

    def __call__(self, ids: I64, logits: F32) -> F32:
        # transformers adds -inf: the same
        for row, out in zip(ids, logits, strict=True):
            for word in self.words:
                before = word[:-1]
                if len(before) < len(row) + (len(before) == 0) and np.array_equal(row[len(row) - len(before) :], before):
                    out[word[-1]] = _NEVER
        return logits


class MinLength:
    """No EOS before there are `least` ids, `skipped` of which (a prompt) do not count."""

    def __init__(self, least: int, eos: Sequence[int], skipped: int = 0) -> None:
        self.least, self.eos, self.skipped = least, list(eos), skipped

    def __call__(self, ids: I64, logits: F32) -> F32:
        if ids.shape[1] - self.skipped < self.least:
            logits[:, self.eos] = _NEVER
        return logits


class SuppressTokens:
    """These tokens never (ids beyond the vocabulary mean nothing); with `at`: not as the token number `at`."""

    def __init__(self, tokens: Sequence[int], at: int | None = None) -> None:
        self.tokens, self.at = list(tokens), at

    def __call__(self, ids: I64, logits: F32) -> F32:
        if self.at is None or ids.shape[1] == self.at:
            logits[:, [token for token in self.tokens if token < logits.shape[-1]]] = _NEVER
        return logits


class ForcedBOS:
    """The first token that is generated, where the decoder begins with one token."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, ids: I64, logits: F32) -> F32:
        return _only(logits, [self.token]) if ids.shape[1] == 1 else logits


class ForcedEOS:
    """The last token when max_length is reached."""

    def __init__(self, max_length: int, tokens: Sequence[int]) -> None:
        self.max_length, self.tokens = max_length, list(tokens)

    def __call__(self, ids: I64, logits: F32) -> F32:
        return _only(logits, self.tokens) if ids.shape[1] == self.max_length - 1 else logits


class InfNanRemove:
    """NaN becomes 0 and infinities the largest numbers there are."""

    def __call__(self, ids: I64, logits: F32) -> F32:
        most = float(np.finfo(np.float32).max)
        return np.nan_to_num(logits, nan=0.0, posinf=most, neginf=-most)


class Renormalize:
    """Log-probabilities again, after everything."""

    def __call__(self, ids: I64, logits: F32) -> F32:
        return log_softmax(logits)


class Constrained:
    """Only what a constraint (govlm.generation.constrained) allows after `prompt` ids. One for each request: it remembers states."""

    def __init__(self, constraint: Any, prompt: int) -> None:
        self.constraint, self.prompt = constraint, prompt
        self._states: dict[tuple[int, ...], Any] = {(): constraint.start()}

    def __call__(self, ids: I64, logits: F32) -> F32:
        states = {}
        for row, out in zip(ids[:, self.prompt :].tolist(), logits, strict=True):
            key = tuple(row)
            if key not in self._states:
                states[key] = self.constraint.advance(self._states[key[:-1]], key[-1])
            else:
                states[key] = self._states[key]
            allowed = self.constraint.allowed(states[key])
            out[len(allowed) :] = _NEVER
            out[: len(allowed)][~allowed[: len(out)]] = _NEVER
        self._states = states
        return logits


def _entropy(known: F32, probabilities: F32) -> F32:
    """[n, 1], in nats, of log-probabilities; what cannot come counts 0."""
    return -(np.where(probabilities > 0, known, np.float32(0)) * probabilities).sum(axis=-1, keepdims=True)


def _only(logits: F32, tokens: Sequence[int]) -> F32:
    logits[...] = _NEVER
    logits[:, list(tokens)] = 0.0
    return logits


def processors_of(config: GenerationConfig, prompt: int, max_length: int, more: Sequence[Any] = ()) -> list[Processor]:
    """What a resolved config asks for, in transformers' order. prompt: ids the decoder begins with; more: the caller's own, which
    come before those that only sampling has."""
    made: list[Processor] = []
    eos = config.eos
    if config.repetition_penalty != 1.0:
        made.append(RepetitionPenalty(config.repetition_penalty or 1.0))
    if config.no_repeat_ngram_size:
        made.append(NoRepeatNGram(config.no_repeat_ngram_size))
    if config.bad_words_ids is not None:
        made.append(NoBadWords(config.bad_words_ids, eos))
    if config.min_length and eos and config.min_new_tokens is None:
        made.append(MinLength(config.min_length, eos))
    if config.min_new_tokens and eos:
        made.append(MinLength(config.min_new_tokens, eos, prompt))
    if config.forced_bos_token_id is not None:
        made.append(ForcedBOS(config.forced_bos_token_id))
    if config.forced_eos_token_id is not None:
        made.append(ForcedEOS(max_length, _ids(config.forced_eos_token_id)))
    if config.remove_invalid_values:
        made.append(InfNanRemove())
    if config.suppress_tokens is not None:
        made.append(SuppressTokens(config.suppress_tokens))
    if config.begin_suppress_tokens is not None:
        begin = prompt if prompt > 1 or config.forced_bos_token_id is None else prompt + 1
        made.append(SuppressTokens(config.begin_suppress_tokens, begin))
    made.extend(more)
    if config.do_sample:
        if config.temperature != 1.0:
            made.append(Temperature(config.temperature or 1.0))
        if config.top_k:
            made.append(TopK(config.top_k))
        if config.top_p is not None and config.top_p < 1.0:
            made.append(TopP(config.top_p))
        if config.min_p is not None:
            made.append(MinP(config.min_p))
        if config.typical_p is not None and config.typical_p < 1.0:
            made.append(TypicalP(config.typical_p))
        if config.epsilon_cutoff:
            made.append(EpsilonCutoff(config.epsilon_cutoff))
        if config.eta_cutoff:
            made.append(EtaCutoff(config.eta_cutoff))
    if config.renormalize_logits:
        made.append(Renormalize())
    return made
