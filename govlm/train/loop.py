"""The training loop that all tasks share: steps, accumulation, clipping, evaluation, log, checkpoints, ranks.

Every random number is a function of the seed and the position in the run, so that a run gives the same bits whatever the
thread count, and a resumed run goes on as if nothing had happened. A task is a subclass: it says which forwards make a step
(`_parts`), what the loss of one is (`_loss`), and when to evaluate (`_after_step`).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm.data import permutation
from govlm.optim import SCHEDULES, AdamW, clip_grad_norm_, freeze, get_scheduler, layerwise_lr_groups, no_decay_groups
from govlm.train.checkpoints import Checkpoints, read_tensors, write_tensors

__all__ = ["Loop", "LoopOptions", "NonFiniteError", "Part", "Position", "TrainError", "copy_weights"]


class TrainError(RuntimeError):
    """A run that cannot start or go on; the message is one line."""


class NonFiniteError(TrainError):
    """The loss or the gradient became NaN or infinite; names the step and the first tensor that did."""


@dataclass
class LoopOptions:
    """What every run can be told. Everything that decides the result is in the checkpoint and compared on resume."""

    lr: float = 5e-5
    weight_decay: float = 0.01  # matrices only
    schedule: str = "linear"  # one of govlm.optim.SCHEDULES
    warmup: float = 0.1  # below 1: a share of all steps; else steps
    decay: float = 0.1  # of warmup_stable_decay: the last steps, in which the rate falls; a share or steps, as warmup
    clip: float = 1.0  # largest gradient norm; 0 = off
    seed: int = 0
    freeze: tuple[str, ...] = ()  # see govlm.optim.freeze
    layer_decay: float = 1.0  # 1 = the same rate in every layer
    save_steps: int = 0  # a checkpoint every so many steps; 0 = only by time and where the task saves anyway
    save_minutes: float = 10.0

    _UNCOMPARED: ClassVar[tuple[str, ...]] = ("save_steps", "save_minutes")

    def _rules(self) -> list[tuple[str, bool, str]]:
        """(field, whether it is good, what is wished for)"""
        return [
            ("lr", self.lr >= 0, "0 or more"),
            ("schedule", self.schedule in SCHEDULES, ", ".join(SCHEDULES)),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("decay", self.decay >= 0, "0 or more"),
            ("clip", self.clip >= 0, "0 or more"),
            ("seed", 0 <= self.seed < 2**32, "in 0..4294967295"),
            ("layer_decay", 0 < self.layer_decay <= 1, "above 0 and at most 1"),
            ("save_steps", self.save_steps >= 0, "0 or more"),
            ("save_minutes", self.save_minutes > 0, "above 0"),
        ]

    def check(self) -> None:
        """ValueError for a value out of range."""
        for name, good, wish in self._rules():
            if not good:
                raise ValueError(f"{name} must be {wish}, not {getattr(self, name)!r}")

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for a resumed run to go on: everything that decides the result."""
        fields = asdict(self)
        for name in self._UNCOMPARED:
            del fields[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


@dataclass
class Position:
    """How far a run is."""

    step: int = 0  # optimizer steps done
    best: dict[str, Any] | None = None  # {"step", "value", "report", …} of the best evaluation
    last_loss: float | None = None
    tokens: int = 0  # of all ranks
    stopped: bool = False
    history: list[dict[str, Any]] | None = None


@dataclass
class Part:
    """One forward of an optimizer step. arguments: of the model's call; share: of the step's loss, over all parts 1."""

    arguments: dict[str, Any]
    share: float
    tokens: int


class Progress:
    """A tqdm bar, or nothing. show: None = when standard error is a terminal."""

    def __init__(self, total: int, initial: int, show: bool | None, description: str) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=total,
            initial=initial,
            desc=description,
            unit="step",
            disable=None if show is None else not show,
            dynamic_ncols=True,
            leave=True,
        )

    def step(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()

    def note(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.write(text, file=self.bar.fp)

    def close(self) -> None:
        self.bar.close()


class OneRank:
    """The ranks of a run that is alone; govlm.train.distributed has the others."""

    rank, size = 0, 1

    def sum_gradients(self, model: Any) -> None:
        """Makes the model's gradient the sum over all ranks."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of `values` over all ranks."""
        return list(values)


class Loop:
    """A run of one task. Subclasses set `total_steps` by the argument and answer `_parts`, `_after_step` and `_identity`.

    out: where checkpoints, log.jsonl, result.json and the trained model go (None: nothing is written, the best weights are
    kept in memory); resume: go on from the newest checkpoint in `out`; progress: True, False, or None (when standard error is
    a terminal); ranks: an `OneRank` or what stands in for several.
    """

    description = "training"
    position_class: ClassVar[type[Position]] = Position
    steps_per_epoch = 0  # of a task that goes through rows in epochs
    _order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))  # the epoch under way, and its order of rows

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        options: LoopOptions,
        total_steps: int,
        out: str | Path | None = None,
        progress: bool | None = None,
        resume: bool = False,
        ranks: Any = None,
    ) -> None:
        self.model, self.tokenizer, self.options, self.total_steps = model, tokenizer, options, total_steps
        self.out = Path(out) if out is not None else None
        self.ranks = ranks if ranks is not None else OneRank()
        self.progress = progress if self.ranks.rank == 0 else False
        self.position = self.position_class(history=[])
        self._best_weights: dict[str, NDArray[np.float32]] | None = None
        self._saved_at, self._saved_step = time.monotonic(), -1
        model.train()
        self.parameters, self.optimizer = self._make_optimizer()
        warmup, decay = (round(v * total_steps) if v < 1 else round(v) for v in (options.warmup, options.decay))
        extra = {"num_decay_steps": decay} if options.schedule == "warmup_stable_decay" else {}
        self.schedule = get_scheduler(options.schedule, self.optimizer, warmup, total_steps, extra)
        self.checkpoints = Checkpoints(self.out) if self.out is not None else None
        self._prepare_out(resume)

    # ---------------------------------------------------------------- what a task says

    def _parts(self, step: int) -> list[Part]:
        """The forwards of optimizer step `step` that this rank makes."""
        raise NotImplementedError

    def _rows(self, step: int, count: int, size: int) -> NDArray[np.int64]:
        """The rows, of `count`, that a step of `size` rows takes: a new order every epoch, a function of seed and epoch."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        if epoch != self._order[0]:
            self._order = epoch, permutation(count, self.options.seed, epoch)
        return self._order[1][batch * size : (batch + 1) * size]

    def _loss(self, part: Part) -> tuple[Any, Any]:
        """(loss, outputs) of one forward; the loss has item(), backward() and arithmetic."""
        outputs = self.model(**part.arguments)
        return outputs.loss, outputs

    def _after_step(self, record: dict[str, Any], bar: Progress, log: Any) -> None:
        """Evaluates, saves, stops (`position.stopped`) where it is time."""

    def _identity(self) -> dict[str, Any]:
        """Fingerprints, by name, of what must be the same when a run goes on ("the train data" …)."""
        return {}

    def _more_tensors(self) -> dict[str, NDArray[np.float32]]:
        """State beyond the model and its optimizer that a checkpoint has to hold (names with a "/" do not clash)."""
        return {}

    def _take_tensors(self, tensors: dict[str, NDArray[np.float32]]) -> None:
        """Takes back what `_more_tensors` gave."""

    def _shown(self, record: dict[str, Any], rate: float) -> str:
        """What stands behind the progress bar."""
        return f"loss {record['loss']:.4f}, {rate:,.0f} tokens/s"

    # ---------------------------------------------------------------- the loop

    def _make_optimizer(self) -> tuple[list[Any], AdamW]:
        o = self.options
        if o.freeze:
            freeze(self.model, *o.freeze)
        if o.layer_decay < 1:
            groups = layerwise_lr_groups(self.model, o.lr, o.layer_decay, o.weight_decay)
        else:
            groups = no_decay_groups(self.model, o.weight_decay)
        for group in groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
        groups = [g for g in groups if g["params"]]
        if not groups:
            raise TrainError("there is nothing to train: every parameter is frozen")
        return [p for g in groups for p in g["params"]], AdamW(groups, lr=o.lr)

    def train(self) -> dict[str, Any]:
        """Runs to the end. Returns {"loss", "steps", "tokens", "seconds", "best", "history", …}.

        Errors: NonFiniteError; OSError when a checkpoint cannot be written; KeyboardInterrupt passes through. Whatever
        happens, the newest checkpoint in `out` stays whole.
        """
        at = self.position
        started, tokens_before = time.monotonic(), at.tokens
        self._saved_at = time.monotonic()
        bar = Progress(self.total_steps, at.step, self.progress, self.description)
        with ExitStack() as stack:
            stack.callback(bar.close)
            log = None
            if self.out is not None and self.ranks.rank == 0:
                log = stack.enter_context(open(self.out / "log.jsonl", "a", encoding="utf-8", buffering=1))
            while at.step < self.total_steps and not at.stopped:
                record = self._step()
                seconds = time.monotonic() - started
                rate = (at.tokens - tokens_before) / seconds if seconds > 0 else 0.0
                bar.step(self._shown(record, rate))
                if log is not None:
                    log.write(json.dumps({**record, "tokens_per_s": round(rate, 1)}) + "\n")
                self._after_step(record, bar, log)
                if self._due():
                    self._save()
        result = self._result(time.monotonic() - started)
        if self.ranks.rank == 0:
            self._finish(result)
        self.model.eval()
        return result

    def _result(self, seconds: float) -> dict[str, Any]:
        at = self.position
        return {
            "loss": at.last_loss, "steps": at.step, "tokens": at.tokens, "seconds": seconds, "best": at.best,
            "history": at.history,
        }  # fmt: skip

    def _step(self) -> dict[str, Any]:
        """One optimizer step: forwards and backwards whose losses, by their shares, are the mean over all rows."""
        o, at = self.options, self.position
        lr = self.schedule.get_last_lr()[0]
        loss_value, tokens = 0.0, 0
        for part in self._parts(at.step):
            self.model.dropout_seed, self.model.dropout_step = o.seed, at.step
            loss, outputs = self._loss(part)
            value = float(loss.item())
            if not math.isfinite(value):
                raise self._nonfinite("loss", value, outputs)
            (loss if part.share == 1.0 else loss * part.share).backward()
            loss_value += value * part.share
            tokens += part.tokens
        self.ranks.sum_gradients(self.model)
        loss_value, total = self.ranks.sum([loss_value, tokens])
        at.tokens += int(total)
        norm = clip_grad_norm_(self.parameters, o.clip if o.clip else math.inf)
        if not math.isfinite(norm):
            raise self._nonfinite("gradient norm", norm, None)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        at.step += 1
        at.last_loss = loss_value
        return {"step": at.step, "loss": loss_value, "lr": lr, "grad_norm": norm, "tokens": at.tokens}

    def _nonfinite(self, what: str, value: float, outputs: Any) -> NonFiniteError:
        tensor = self.model.first_nonfinite()
        if tensor is None and outputs is not None:
            find = getattr(outputs, "first_nonfinite", None)
            tensor = find() if find is not None else None
        where = f"the first tensor that is not finite: {tensor}" if tensor else "every tensor is finite"
        message = f"step {self.position.step + 1}: the {what} is {value}; {where}"
        if self.checkpoints is not None:
            steps = self.checkpoints.names("step")
            message += f"; the checkpoint of step {steps[-1]} is kept" if steps else "; there was no checkpoint yet"
        return NonFiniteError(message)

    def _record(self, entry: dict[str, Any], value: float | None, report: dict[str, Any], bar: Progress, log: Any) -> bool:
        """Notes an evaluation in history and log; keeps the weights when `value` is the highest so far, and says so."""
        at = self.position
        better = value is not None and (at.best is None or value > at.best["value"])
        if better:
            at.best = {"step": at.step, **{k: entry[k] for k in ("epoch",) if k in entry}, "value": value, "report": report}
            self._keep_best()
        assert at.history is not None
        at.history.append(entry)
        if log is not None:
            log.write(json.dumps({"evaluation": entry}) + "\n")
        bar.note(", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()))
        return better

    # ---------------------------------------------------------------- checkpoints

    def _prepare_out(self, resume: bool) -> None:
        if self.out is None or self.checkpoints is None:
            if resume:
                raise TrainError("resume needs the folder of the run")
            return
        if self.out.exists() and not self.out.is_dir():
            raise TrainError(f"{self.out} is a file; give a folder for the trained model")
        self.out.mkdir(parents=True, exist_ok=True)
        found = self.checkpoints.latest()
        if not resume and (found is not None or self.checkpoints.names("best")):
            raise TrainError(f"{self.out} holds the checkpoints of another run: --resume continues it, or give a new folder")
        if found is not None:
            self._load(*found)
        if self.ranks.rank == 0:
            self._cut_log()

    def _load(self, path: Path, state: dict[str, Any]) -> None:
        mine, made = self.options.fingerprint(), state["options"]
        for name in dict.fromkeys([*mine, *made]):
            if mine.get(name) != made.get(name):
                raise TrainError(
                    f"cannot resume {path}: it was made with {name}={made.get(name)!r}, this run has {mine.get(name)!r}"
                )
        for name, value in self._identity().items():
            if state["identity"].get(name) != value:
                raise TrainError(f"cannot resume {path}: {name} is not the same")
        self._check_config(path)
        copy_weights(type(self.model).from_pretrained(str(path)), self.model)
        tensors = read_tensors(path / "optimizer.safetensors")
        optimizer = state["optimizer"]
        entries = {
            int(index): {
                "step": steps,
                "exp_avg": tensors[f"{index}.exp_avg"],
                "exp_avg_sq": tensors[f"{index}.exp_avg_sq"],
            }
            for index, steps in optimizer["steps"].items()
        }
        self.optimizer.load_state_dict({"state": entries, "param_groups": optimizer["param_groups"]})
        self._take_tensors(tensors)
        self.schedule.load_state_dict(state["schedule"])
        self.position = self.position_class(**state["position"])

    def _check_config(self, path: Path) -> None:
        """TrainError, naming the field, when the checkpoint's model is not this one."""
        if getattr(self.model, "_adapters", None):  # beside a model that does not change: the options say which adapter
            return
        saved = type(self.model.config).from_pretrained(str(path)).to_dict()
        here = self.model.config.to_dict()
        for name in sorted({*saved, *here} - {"architectures", "dtype", "ngrams"}):  # ngrams: what the run itself makes
            if saved.get(name) != here.get(name):
                raise TrainError(
                    f"cannot resume {path}: its config has {name}={saved.get(name)!r}, this model has {here.get(name)!r}"
                )

    def _cut_log(self) -> None:
        """Drops what a killed run logged after its newest checkpoint: those steps are done again."""
        assert self.out is not None
        path = self.out / "log.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                step = record.get("step", record.get("evaluation", {}).get("step"))
            except (json.JSONDecodeError, AttributeError):
                continue  # a line cut short by the kill
            if isinstance(step, int) and step <= self.position.step:
                kept.append(line + "\n")
        write_text(path, "".join(kept))

    def _due(self) -> bool:
        o, step = self.options, self.position.step
        if step == self._saved_step or self.position.stopped or step >= self.total_steps:
            return False
        return (o.save_steps > 0 and step % o.save_steps == 0) or time.monotonic() - self._saved_at >= 60 * o.save_minutes

    def _save(self) -> None:
        self._saved_at, self._saved_step = time.monotonic(), self.position.step
        if self.checkpoints is None or self.ranks.rank != 0:
            return
        at = self.position
        optimizer = self.optimizer.state_dict()
        state = {
            "format": 1,
            "options": self.options.fingerprint(),
            "identity": self._identity(),
            "optimizer": {
                "steps": {str(index): entry["step"] for index, entry in optimizer["state"].items()},
                "param_groups": optimizer["param_groups"],
            },
            "schedule": self.schedule.state_dict(),
            "position": asdict(at),
        }

        def write(folder: Path) -> None:
            self._save_model(folder)
            tensors = {}
            for index, entry in optimizer["state"].items():
                tensors[f"{index}.exp_avg"] = entry["exp_avg"]
                tensors[f"{index}.exp_avg_sq"] = entry["exp_avg_sq"]
            tensors.update(self._more_tensors())
            write_tensors(folder / "optimizer.safetensors", tensors)
            (folder / "state.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")

        self.checkpoints.save("step", at.step, write)
        self.checkpoints.tidy(at.step, at.best["step"] if at.best else None)

    def _save_model(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))

    def _keep_best(self) -> None:
        if self.checkpoints is not None:
            if self.ranks.rank == 0:
                self.checkpoints.save("best", self.position.step, self._save_model)
        else:
            self._best_weights = {n: np.array(p.data) for n, p in self.model.named_parameters() if p.requires_grad}

    def _finish(self, result: dict[str, Any]) -> None:
        """Puts the best model (the last one when nothing chose) into `out` and into memory."""
        at = self.position
        if self.checkpoints is not None and self.out is not None:
            source = self.checkpoints.path("best", at.best["step"]) if at.best else self.checkpoints.path("step", at.step)
            if source.is_dir():
                if at.best and at.best["step"] != at.step:
                    copy_weights(type(self.model).from_pretrained(str(source)), self.model)
                self.checkpoints.publish(source)
            else:  # no step was asked for
                self._save_model(self.out)
            write_text(self.out / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
        elif self._best_weights is not None and at.best and at.best["step"] != at.step:
            parameters = dict(self.model.named_parameters())
            for name, values in self._best_weights.items():
                parameters[name].data[...] = values
        self._best_weights = None


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all."""
    temporary = path.parent / f".{path.name}.tmp"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def copy_weights(source: Any, target: Any) -> None:
    """Copies every parameter of one model into another of the same shape, bit for bit; beside an adapter only the adapter's."""
    values = dict(source.named_parameters())
    adapted = getattr(target, "_adapters", None)
    for name, parameter in target._adapter_parameters() if adapted else target.named_parameters():
        parameter.data[...] = np.asarray(values[name].data)
