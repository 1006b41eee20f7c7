"""Pre-training on token shards: encoders by masked LM or replaced-token detection, models that write (govlm.train.language) by the
next token or by span corruption; domain adaptation of one that exists.

A step's batch, its masks and its dropout are functions of the seed and the step only, so that a killed run goes on to the same
loss bit for bit, and K ranks give the curve of one.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
import typing
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm.optim import set_seed
from govlm.train.checkpoints import Checkpoints
from govlm.train.distributed import check_ranks, find_ranks
from govlm.train.evaluate import new_packed
from govlm.train.loop import Loop, LoopOptions, OneRank, Part, Position, Progress, TrainError
from govlm.train.masking import Masked, Masker
from govlm.train.sequences import Batch, Order, Sequences, open_corpora

__all__ = ["PretrainLoop", "PretrainOptions", "pretrain", "read_options", "step_flops"]

# objective -> (the class of model, the model_type where `model` names none)
MODELS = {
    "mlm": ("MaskedLM", "bert"), "rtd": ("MaskedLM", "bert"), "causal": ("CausalLM", "llama"), "span": ("Seq2SeqLM", "t5"),
}  # fmt: skip
INITIAL = {"mlm": "corpus", "rtd": "corpus", "span": "copying"}  # what a new model can start from beside random weights
_HELD_OUT_EPOCH = 2**32 - 1  # the masks of the held-out set: the same at every evaluation and in every run


class SpikeError(TrainError):
    """The loss left its course for several steps; the last good checkpoint is kept."""


@dataclass
class PretrainOptions(LoopOptions):
    """What a pre-training run can be told, beside what every run can. In a config file `start` is called `from`."""

    corpus: tuple[str, ...] = ()  # folders of `govlm corpus build`, all with one tokenizer
    out: str = ""  # folder for checkpoints, log.jsonl, loss.png, result.json and the model
    model: dict[str, Any] = field(default_factory=dict)  # shape: config fields; model_type: see MODELS
    initial: str = "random"  # weights of a new model: random; or as INITIAL of the objective: govlm.train.initial, .copying
    start: str = ""  # or a checkpoint to go on from (domain adaptation); `model` may then change its dropout
    objective: str = "mlm"  # mlm; rtd: replaced-token detection (see govlm.train.replaced); causal, span (govlm.train.language)
    max_length: int = 128  # tokens of a sequence, [CLS] and [SEP] included
    batch_size: int = 64  # sequences an optimizer step, over all ranks
    batch_tokens: int = 0  # or a step is filled with about so many tokens, whatever the sequences' lengths; 0 = off
    accumulate: int = 1  # forwards that a rank makes of its part of the batch
    steps: int = 0  # optimizer steps; exactly one of steps, tokens, epochs and minutes is given
    tokens: int = 0  # or the tokens to train on
    epochs: float = 0.0  # or passes over the corpus
    minutes: float = 0.0  # or the time: a few batches are timed first, and the steps that fit are planned
    skip: int = 0  # steps of the stream of batches to pass over: a next stage (`from`) goes on where the last one ended
    mask_probability: float = 0.15  # share of the tokens to be guessed, by whole words (span: by spans)
    span_length: float = 3.0  # span: mean number of tokens hidden in one place
    copied: float = 0.0  # span: share of the sequences whose spans stay readable, to be copied
    eval_every: int = 1000  # steps between evaluations on the held-out set; 0 = at the end only
    eval_batch_size: int = 64  # sequences a forward there
    heldout: tuple[str, ...] = ()  # folders of shards to evaluate on; () = the `held-out` of each corpus folder
    heldout_share: float = 0.002  # where there is none: so many of the documents, drawn by their numbers only
    heldout_sequences: int = 1024  # evaluate on at most so many
    spike: float = 1.5  # the run stops when the loss is above so many times its running mean, 5 steps in a row; 0 = off
    generator_layers: int = 0  # rtd: layers of the generator; 0 = half of the model's
    discriminator_weight: float = 50.0  # rtd: weight of the discriminator's loss
    lr: float = 5e-4
    warmup: float = 0.05
    save_minutes: float = 10.0

    _UNCOMPARED: ClassVar[tuple[str, ...]] = (
        *LoopOptions._UNCOMPARED, "corpus", "heldout", "out", "eval_every", "eval_batch_size", "accumulate",
    )  # fmt: skip

    def _rules(self) -> list[tuple[str, bool, str]]:
        goals = sum(bool(v) for v in (self.steps, self.tokens, self.epochs, self.minutes))
        return [
            *super()._rules(),
            ("corpus", len(self.corpus) > 0, "one folder of shards or more (govlm corpus build)"),
            ("out", bool(self.out), "a folder for the run"),
            ("model", bool(self.model) or bool(self.start), "the shape of the model (or give from, a checkpoint)"),
            ("objective", self.objective in MODELS, ", ".join(MODELS)),
            ("initial", self.initial == "random" or not self.start, "left out where a checkpoint is given"),
            (
                "initial",
                self.initial == "random" or self.initial == INITIAL.get(self.objective),
                " or ".join(filter(None, ("random", INITIAL.get(self.objective))))
                + f" where the objective is {self.objective}",
            ),
            ("max_length", self.max_length >= 3, "3 or more"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("batch_tokens", self.batch_tokens == 0 or self.batch_tokens >= self.max_length, "0 (off), or max_length or more"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("steps", goals == 1, "given alone: exactly one of steps, tokens, epochs, minutes"),
            ("steps", self.steps >= 0, "0 or more"),
            ("tokens", self.tokens >= 0, "0 or more"),
            ("epochs", self.epochs >= 0, "0 or more"),
            ("minutes", self.minutes >= 0, "0 or more"),
            ("skip", self.skip >= 0, "0 or more"),
            ("mask_probability", 0 < self.mask_probability <= 1, "above 0 and at most 1"),
            ("span_length", self.span_length >= 1, "1 or more"),
            ("copied", 0 <= self.copied <= 1, "from 0 to 1"),
            ("eval_every", self.eval_every >= 0, "0 or more"),
            ("eval_batch_size", self.eval_batch_size >= 1, "1 or more"),
            ("heldout_share", 0 <= self.heldout_share < 1, "0 or more and below 1"),
            ("heldout_sequences", self.heldout_sequences >= 0, "0 or more"),
            ("spike", self.spike == 0 or self.spike > 1, "above 1, or 0 (off)"),
            ("generator_layers", self.generator_layers >= 0, "0 or more"),
            ("discriminator_weight", self.discriminator_weight > 0, "above 0"),
        ]

    def fingerprint(self) -> dict[str, Any]:
        """As in LoopOptions; the model's fields one by one, so that a message names the one that differs."""
        found = super().fingerprint()
        shape, start = found.pop("model"), found.pop("start")
        return {**found, "from": start, **{f"model.{name}": value for name, value in sorted(shape.items())}}


_NAMES = {"from": "start"}


def read_options(path: str | Path | None, changes: Mapping[str, Any] | None = None) -> PretrainOptions:
    """The options in a config file, TOML (Python 3.11 and newer) or JSON, with `changes` on top; checked.

    Keys are PretrainOptions' fields; the model's shape is the table [model], and "model.hidden_size" works in `changes`.
    ValueError names the file and the key that is unknown, of the wrong type or out of range; OSError.
    """
    where = str(path) if path is not None else "the options"
    values: dict[str, Any] = _read(Path(path)) if path is not None else {}
    for key, value in (changes or {}).items():
        target, name = values, key
        if key.startswith("model."):
            target, name = values.setdefault("model", {}), key.removeprefix("model.")
        target[name] = dict(value) if isinstance(value, Mapping) else value  # a table of the caller's stays as it is
    known = {f.name: f for f in fields(PretrainOptions)}
    types = typing.get_type_hints(PretrainOptions)
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        name = _NAMES.get(key, key)
        if name not in known or key in _NAMES.values():
            raise ValueError(f"{where}: unknown key {key!r}{_nearest(key, [*known, *_NAMES])}")
        chosen[name] = _typed(where, key, value, types[name])
    options = PretrainOptions(**chosen)
    try:
        options.check()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return options


def _nearest(key: str, names: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, names, 1)
    return f" (do you mean {close[0]}?)" if close else ""


def _read(path: Path) -> dict[str, Any]:
    text = path.read_bytes()
    try:
        if path.suffix == ".json":
            value = json.loads(text.decode("utf-8"))
        else:
            try:
                import tomllib
            except ModuleNotFoundError:
                raise ValueError("TOML needs Python 3.11: write the config as JSON, in a file named .json") from None
            value = tomllib.loads(text.decode("utf-8"))
    except ValueError as error:  # JSONDecodeError, TOMLDecodeError and UnicodeDecodeError are ones
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must be an object of keys and values")
    return value


def _typed(where: str, key: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        items = [value] if isinstance(value, str) else value
        if isinstance(items, (list, tuple)) and all(isinstance(i, str) for i in items):
            return tuple(items)
        raise ValueError(f"{where}: {key} must be a list of strings, not {value!r}")
    if typing.get_origin(kind) is dict:
        if isinstance(value, dict):
            return dict(value)
        raise ValueError(f"{where}: {key} must be a table of config fields, not {value!r}")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if kind is int and number and float(value).is_integer():
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    raise ValueError(f"{where}: {key} must be {'a number' if kind is float else f'of type {kind.__name__}'}, not {value!r}")


# ---------------------------------------------------------------------------------------------------------------- the model


def make_model(options: PretrainOptions, vocab_size: int, special: Mapping[str, Any] | None = None) -> Any:
    """The objective's model: from the checkpoint `start`, or of the shape `model` with random weights (by the seed). special:
    config fields of a new model, unless `model` has them."""
    import govlm

    set_seed(options.seed)
    kind, model_type = MODELS[options.objective]
    automatic = getattr(govlm, f"AutoModelFor{kind}")
    if options.start:
        model = automatic.from_pretrained(options.start, **options.model)
        if model.config.vocab_size != vocab_size:
            raise TrainError(
                f"{options.start} has {model.config.vocab_size} tokens, the corpus {vocab_size}: build the corpus with its tokenizer"
            )
    else:
        shape = {"model_type": model_type, "vocab_size": vocab_size, **(special or {}), **options.model}
        config_class = type(govlm.AutoConfig.for_model(shape["model_type"]))
        for name in shape:
            if name not in ("model_type", "decoder_start_token_id") and name not in config_class.defaults:
                raise TrainError(
                    f"model.{name} is no field of {shape['model_type']}{_nearest(name, list(config_class.defaults))}"
                )
        if shape["vocab_size"] < vocab_size:
            raise TrainError(f"model.vocab_size is {shape['vocab_size']}, the corpus has {vocab_size} tokens")
        model = automatic.from_config(govlm.AutoConfig.for_model(**shape))
    positions = model._rules.max_positions or options.max_length
    if options.max_length > positions:
        raise TrainError(f"max_length is {options.max_length}, the model has {positions} positions")
    return model


def step_flops(config: Any, lengths: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
    """Multiply-add flops (2 a pair) of a training step that its result needs: forward, and twice that for backward.

    lengths, labelled: int64 [B], tokens and tokens to be guessed of every sequence. All layers on all tokens, but the last
    one's queries, output and feed-forward part, and the head, on the tokens to be guessed only: that is what is computed.
    """
    h, f, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    e = getattr(config, "embedding_size", None) or h
    n, r = np.asarray(lengths, np.float64), np.asarray(labelled, np.float64)
    tokens, rows = n.sum(), r.sum()
    whole = tokens * (8 * h * h + 4 * h * f) + 4 * h * (n * n).sum()
    last = tokens * 4 * h * h + rows * (4 * h * h + 4 * h * f) + 4 * h * (n * r).sum()
    head = rows * (2 * h * e + 2 * e * config.vocab_size)
    projection = 2 * tokens * e * h if e != h else 0.0
    return float(3 * (whole * (layers - 1) + last + head + projection))


def measure_peak(seconds: float = 0.4) -> float:
    """f32 flops a second that large products reach on the threads in use: the best of several in `seconds`.

    The product is the core's own, in a forward of one wide layer. It is what the share of peak in bar and log refers to.
    """
    import govlm
    from govlm._native import core

    width, inner, tokens = 512, 4096, 768
    state = np.random.get_state()
    config = govlm.BertConfig(
        vocab_size=8, hidden_size=width, num_hidden_layers=1, num_attention_heads=8, intermediate_size=inner,
        max_position_embeddings=8, hidden_act="relu",
    )  # fmt: skip
    model = govlm.BertModel(config, add_pooling_layer=False)
    np.random.set_state(state)
    ids, splits = np.ones(tokens, np.int32), np.arange(tokens + 1, dtype=np.int64)
    flops, best = tokens * (8.0 * width * width + 4.0 * width * inner), math.inf
    deadline = time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        model.core.forward(ids, splits, save=False)
        now = time.perf_counter()
        best = min(best, now - started)
        if now > deadline:
            break
    assert core.num_threads() >= 1
    return flops / best


# ----------------------------------------------------------------------------------------------------------------- the loop


@dataclass
class PretrainPosition(Position):
    """How far a pre-training run is."""

    planned: int = 0  # steps of the whole run
    mean: float = 0.0  # running mean of the loss (0.98 a step)
    high: int = 0  # steps in a row with a loss far above it


class PretrainLoop(Loop):
    """Masked LM on sequences.

    model: a ...ForMaskedLM; train, heldout: sequences of the same corpora (heldout may be empty); masker: of their tokenizer;
    the rest as in Loop.
    """

    description = "pre-training"
    position_class = PretrainPosition
    options: PretrainOptions
    position: PretrainPosition

    _SPIKE_STEPS, _SPIKE_AFTER = 5, 50  # steps in a row; not in the first ones

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        train: Sequences,
        heldout: Sequences,
        masker: Any,
        options: PretrainOptions,
        progress: bool | None = None,
        resume: bool = False,
        ranks: Any = None,
    ) -> None:
        self.train_set, self.heldout, self.masker = train, heldout, masker
        self.order = Order(len(train), options.seed)
        self.peak = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=20)  # (flops, seconds) of steps
        self._flops = 0.0
        self._digests: dict[str, Any] | None = None
        self.model, self.options = model, options
        self.ranks = ranks if ranks is not None else OneRank()
        planned = self._plan(resume)
        super().__init__(model, tokenizer, options, planned, options.out, progress, resume, self.ranks)
        self.position.planned = planned

    # ---------------------------------------------------------------- how long

    def _plan(self, resume: bool) -> int:
        """Steps of the run: as asked, or by tokens, epochs or minutes; those of the checkpoint when it goes on."""
        o = self.options
        if o.steps:
            return o.steps
        if o.tokens or o.epochs:
            a_step = o.batch_tokens or o.batch_size * self.train_set.tokens / len(self.train_set)
            return max(1, round((o.tokens or o.epochs * self.train_set.tokens) / a_step))
        found = Checkpoints(Path(o.out)).latest() if resume else None
        if found is not None:
            return int(found[1]["position"]["planned"])
        self.model.train()
        self.position = self.position_class(history=[])
        seconds: list[float] = []  # by the clock of the first rank: all of them make the same number of steps
        while len(seconds) < 2 or (sum(seconds) < min(10.0, 3 * o.minutes) and len(seconds) < 200):
            started = time.perf_counter()
            self._rehearse(len(seconds))
            taken = time.perf_counter() - started
            seconds += self.ranks.sum([taken if self.ranks.rank == 0 else 0.0])
        mean = float(np.mean(seconds[1:]))
        return max(1, int(60 * o.minutes / (1.06 * mean)))  # evaluations, checkpoints and the optimizer want some of it

    def _rehearse(self, step: int) -> None:
        """A step that changes nothing, for its time."""
        for part in self._parts(step):
            self.model.dropout_seed, self.model.dropout_step = self.options.seed, step
            loss, _ = self._loss(part)
            loss.backward()
        self.ranks.sum_gradients(self.model)
        self.model.zero_grad()

    # ---------------------------------------------------------------- batches

    def _parts(self, step: int) -> list[Part]:
        o, size = self.options, self.ranks.size
        batch, masked = self.batch(step)
        lengths = np.diff(batch.row_splits)
        labelled = np.add.reduceat(masked.labels >= 0, batch.row_splits[:-1]).astype(np.int64)
        self._flops = self._batch_flops(lengths, labelled)
        # Long ones are dealt out first, so that ranks and forwards have about the same number of tokens.
        mine = np.argsort(-lengths, kind="stable")[self.ranks.rank :: size]
        parts = []
        for piece in range(o.accumulate):
            rows = np.sort(mine[piece :: o.accumulate])
            count = int(labelled[rows].sum())
            if len(rows) and count:
                parts.append(self._part(batch, masked, rows, count / masked.count))
        return parts

    def batch(self, step: int) -> tuple[Batch, Masked]:
        """All ranks' sequences of a step, and their masks."""
        batch, epochs = self._numbered(step)
        return batch, self.masker(batch.ids, batch.row_splits, batch.word_starts, batch.numbers, self.options.seed, epochs)

    def _numbered(self, step: int) -> tuple[Batch, NDArray[np.int64]]:
        """All ranks' sequences of a step, and the epoch of each."""
        o = self.options
        if o.batch_tokens:
            numbers, epochs = self.order.fill(o.skip + step, self.train_set.whole, o.batch_tokens)
        else:
            first = (o.skip + step) * o.batch_size
            numbers, epochs = self.order.take(first, first + o.batch_size)
        return self.train_set.batch(numbers), epochs

    def _part(self, batch: Batch, masked: Masked, rows: NDArray[np.int64], share: float) -> Part:
        places = batch.take(rows)
        splits = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.diff(batch.row_splits)[rows], out=splits[1:])
        arguments = {
            "packed": new_packed(masked.ids[places], splits),
            "labels": masked.labels[places],
            "samples": rows.astype(np.uint32),  # the place in the whole batch: dropout does not depend on ranks and parts
        }
        return Part(arguments, share, len(places))

    def _batch_flops(self, lengths: NDArray[np.int64], labelled: NDArray[np.int64]) -> float:
        return step_flops(self.model.config, lengths, labelled)

    # ---------------------------------------------------------------- steps

    def train(self) -> dict[str, Any]:
        """As Loop.train(); the result has "heldout", the last evaluation, and "peak_gflops"."""
        self.peak = self.ranks.sum([measure_peak()])[0]
        if self.ranks.rank == 0 and (self.progress or (self.progress is None and sys.stderr.isatty())):
            print(
                f"{len(self.train_set):,} sequences, {self.train_set.tokens:,} tokens; {len(self.heldout):,} held out; "
                f"{self.total_steps:,} steps; f32 peak {self.peak / 1e9:.0f} GFLOP/s, measured just now with large products",
                file=sys.stderr,
            )
        return super().train()

    def _step(self) -> dict[str, Any]:
        started = time.perf_counter()
        record = super()._step()
        self._recent.append((self._flops, time.perf_counter() - started))
        flops, seconds = (sum(column) for column in zip(*self._recent, strict=True))
        return {**record, "of_peak": round(flops / seconds / self.peak, 4) if self.peak else 0.0}

    def _shown(self, record: dict[str, Any], rate: float) -> str:
        return f"{super()._shown(record, rate)}, {record['of_peak']:.0%} of peak"

    def _watch(self, loss: float) -> None:
        """Stops a run whose loss left its course; until it is back no checkpoint is written.

        The rule: 5 steps in a row above `spike` times the running mean of the loss (0.98 of the old value a step, high steps
        left out), from step 50 on.
        """
        o, at = self.options, self.position
        if at.step > self._SPIKE_AFTER and o.spike and loss > o.spike * at.mean:
            at.high += 1
        else:
            at.high = 0
            at.mean = loss if at.mean == 0.0 else 0.98 * at.mean + 0.02 * loss
        if at.high >= self._SPIKE_STEPS:
            steps = self.checkpoints.names("step") if self.checkpoints is not None else []
            kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "there was no checkpoint yet"
            raise SpikeError(
                f"step {at.step}: the loss is {loss:.4g}, above {o.spike:g} times its running mean {at.mean:.4g} for "
                f"{self._SPIKE_STEPS} steps; {kept}: start anew from it with a lower lr or another seed"
            )

    def _due(self) -> bool:
        return self.position.high == 0 and super()._due()

    def _after_step(self, record: dict[str, Any], bar: Progress, log: Any) -> None:
        o, at = self.options, self.position
        self._watch(record["loss"])
        last = at.step >= self.total_steps
        if len(self.heldout) and (last or (o.eval_every and at.step % o.eval_every == 0)):
            entry = {"step": at.step, "train_loss": at.mean, **self.evaluate()}
            self._record(entry, None, {}, bar, log)
        if last:
            self._save()

    def _identity(self) -> dict[str, Any]:
        if self._digests is None:
            self._digests = {"the corpus": self.train_set.digest(), "the held-out set": self.heldout.digest()}
        return self._digests

    def _result(self, seconds: float) -> dict[str, Any]:
        history = self.position.history
        result = {**super()._result(seconds), "heldout": history[-1] if history else None, "peak_gflops": self.peak / 1e9}
        if self.ranks.size > 1:
            result["all_reduce_s"] = getattr(self.ranks, "seconds", 0.0)
        return result

    def _finish(self, result: dict[str, Any]) -> None:
        super()._finish(result)
        if self.out is None:
            return
        from govlm.train.plots import plot_log

        with contextlib.suppress(ImportError):  # the plot is for those who have the extra govlm[notebook]
            plot_log(self.out / "log.jsonl", self.out / "loss.png")

    # ---------------------------------------------------------------- evaluation

    def evaluate(self) -> dict[str, Any]:
        """{"loss", "accuracy"} at the masked tokens of the held-out set: the same masks every time. All ranks take part."""
        training = self.model.training
        self.model.eval()
        try:
            sums = np.zeros(8)
            for k, begin in enumerate(range(0, len(self.heldout), self.options.eval_batch_size)):
                if k % self.ranks.size == self.ranks.rank:
                    numbers = np.arange(begin, min(begin + self.options.eval_batch_size, len(self.heldout)))
                    found = self._evaluate(self.heldout.batch(numbers))
                    sums[: len(found)] += found
            return self._scores(self.ranks.sum(sums.tolist()))
        finally:
            self.model.train(training)

    def _masked(self, batch: Batch) -> Masked:
        return self.masker(batch.ids, batch.row_splits, batch.word_starts, batch.numbers, 0, _HELD_OUT_EPOCH)

    def _evaluate(self, batch: Batch) -> NDArray[np.float64]:
        """[sum of losses, correct ones, tokens to be guessed] of a batch."""
        masked = self._masked(batch)
        if not masked.count:
            return np.zeros(3)
        done, labels = run_labelled(self.model, masked.ids, batch.row_splits, masked.labels)
        right = int((done.logits.argmax(axis=1) == labels).sum())
        return np.array([done.loss * masked.count, right, masked.count])

    def _scores(self, sums: list[float]) -> dict[str, Any]:
        return {"loss": sums[0] / max(sums[2], 1), "accuracy": sums[1] / max(sums[2], 1)}


def run_labelled(
    model: Any, ids: NDArray[np.int32], row_splits: NDArray[np.int64], labels: NDArray[np.int64], **arguments: Any
) -> tuple[Any, NDArray[np.int64]]:
    """A pass of a masked LM that holds the logits [R, V] of the labelled tokens only, and their labels [R].

    arguments: training, seed, step, samples, save of the core's forward (default: evaluation).
    """
    from govlm.packing import Batch as Border

    border = Border.packed(model._rules, new_packed(ids, row_splits))
    rows = np.flatnonzero(labels >= 0).astype(np.int32)
    options = {"save": False, "logits": True, **arguments}
    done = model.core.forward(border.ids, border.row_splits, border.positions, rows=rows, labels=labels[rows], **options)
    return done, labels[rows]


def _sequences(options: PretrainOptions, corpora: list[Any], tokenizer: Any) -> tuple[Sequences, Sequences]:
    """(to train on, held out). The latter are documents that `govlm corpus build` set aside, or a share of the others."""
    before: int | None = tokenizer.cls_token_id
    after: int | None = tokenizer.sep_token_id
    if options.objective == "causal":
        from govlm.train.language import edges

        before, after = edges(tokenizer)
    elif options.objective == "span":
        before = after = None  # they are put around what the encoder sees
    room = options.max_length - (tokenizer.num_special_tokens_to_add() if options.objective == "span" else 0)

    def sequences(corpora: list[Any]) -> Sequences:
        return Sequences(corpora, room, before, after, at_end=options.objective == "causal")

    every = sequences(corpora)
    folders = options.heldout or tuple(
        str(Path(folder, "held-out")) for folder in options.corpus if Path(folder, "held-out", "corpus.json").exists()
    )
    apart = open_corpora([options.corpus[0], *folders])[1:] if folders else []
    heldout = sequences(apart).some(options.heldout_sequences)
    return (every, heldout) if len(heldout) else every.split(options.heldout_share, options.heldout_sequences)


def _start(model: Any, corpora: list[Any], options: PretrainOptions) -> None:
    """Initial weights that are not random ones."""
    if options.initial == "copying":
        from govlm.train.copying import start_copying

        start_copying(model, options.seed)
        return
    from govlm.train.initial import start_from_corpus

    for network in model.networks() if options.objective == "rtd" else (model,):
        start_from_corpus(network, corpora, options.seed)
    if options.objective == "rtd":
        model.tie()


def pretrain(
    options: PretrainOptions, *, resume: bool = False, progress: bool | None = None, ranks: Any = None
) -> dict[str, Any]:
    """Pre-trains by `options` and writes the model, ready for `from_pretrained`, to options.out.

    Returns the loop's result with "out". ranks: default those of the environment (govlm.train.distributed). Errors: ValueError
    (options), TrainError, the corpus reader's errors, OSError.
    """
    import govlm

    options.check()
    ranks = find_ranks() if ranks is None else ranks
    check_ranks(ranks, options.batch_size, "sequences")
    corpora = open_corpora(options.corpus)
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(options.corpus[0]))
    sentinels = None
    if options.objective == "span":
        from govlm.train.spans import make_sentinels

        sentinels = make_sentinels(tokenizer)
    if options.start:
        own = govlm.AutoTokenizer.from_pretrained(options.start).get_vocab()
        if own != tokenizer.get_vocab():
            raise TrainError(
                f"{options.start} has another vocabulary than {options.corpus[0]}: build the corpus with its tokenizer"
            )
    vocab_size = max(corpora[0].vocab_size, len(tokenizer))
    train, heldout = _sequences(options, corpora, tokenizer)
    if len(train) == 0:
        raise TrainError(f"{', '.join(options.corpus)}: no document to train on")
    check_ranks(ranks, len(train), "sequences in the whole corpus")
    masker: Any = None
    kind: type[PretrainLoop] = PretrainLoop
    if options.objective in ("causal", "span"):
        from govlm.train.language import CausalLoop, NextToken, SpanLoop, special_ids
        from govlm.train.spans import SpanCorruption

        model = make_model(options, vocab_size, special_ids(tokenizer, options.objective == "span"))
        if sentinels is None:
            masker, kind = NextToken(), CausalLoop
        else:
            masker = SpanCorruption(sentinels, options.mask_probability, options.span_length, options.copied)
            kind = SpanLoop
    else:
        masker = Masker.of(tokenizer, vocab_size, options.mask_probability)
        if options.objective == "rtd":
            from govlm.train.replaced import ReplacedLoop, make_pair

            model, kind = make_pair(options, vocab_size), ReplacedLoop
        else:
            model = make_model(options, vocab_size)
    if options.initial != "random" and not (resume and Checkpoints(Path(options.out)).latest()):
        _start(model, corpora, options)
    loop = kind(model, tokenizer, train, heldout, masker, options, progress, resume, ranks)
    if ranks.rank == 0:
        record = {("from" if k == "start" else k): v for k, v in asdict(options).items()}
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        (Path(options.out) / "pretrain.json").write_text(text, encoding="utf-8")
    return {**loop.train(), "out": options.out}
