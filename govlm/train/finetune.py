"""Fine-tuning of a sentence classifier: the loop, its checkpoints and its log.

Every random number is a function of the seed and the position in the run (order of rows: seed and epoch; dropout: seed, step
and place in the batch), so that a run gives the same bits whatever the thread count, and a resumed run goes on as if nothing
had happened.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.data import permutation, read_examples
from govlm.optim import AdamW, clip_grad_norm_, freeze, get_scheduler, layerwise_lr_groups, no_decay_groups, set_seed
from govlm.train.checkpoints import Checkpoints, read_tensors, write_tensors
from govlm.train.evaluate import Encoded, encode, evaluate_encoded, new_packed

__all__ = ["FinetuneError", "NonFiniteError", "Options", "Trainer", "finetune"]

MULTI_LABEL = "multi_label_classification"
SINGLE_LABEL = "single_label_classification"


class FinetuneError(RuntimeError):
    """A run that cannot start or go on; the message is one line."""


class NonFiniteError(FinetuneError):
    """The loss or the gradient became NaN or infinite; names the step and the first tensor that did."""


@dataclass
class Options:
    """What a run can be told. Everything that decides the result is in the checkpoint and compared on resume."""

    epochs: int = 3
    batch_size: int = 32  # rows a forward
    accumulate: int = 1  # forwards an optimizer step
    lr: float = 5e-5
    weight_decay: float = 0.01  # matrices only
    schedule: str = "linear"  # linear, cosine, constant, constant_with_warmup
    warmup: float = 0.1  # below 1: a share of all steps; else steps
    clip: float = 1.0  # largest gradient norm; 0 = off
    max_length: int | None = None  # tokens a text; None = what the model takes
    seed: int = 0
    freeze: tuple[str, ...] = ()  # see govlm.optim.freeze
    layer_decay: float = 1.0  # 1 = the same rate in every layer
    patience: int = 0  # epochs without a better metric before the run stops; 0 = off
    metric: str = "macro_f1"  # macro_f1, accuracy or loss: chooses the best model
    class_weights: str | None = None  # None or "balanced"
    save_steps: int = 0  # a checkpoint every so many steps; 0 = only at the end of an epoch and by time
    save_minutes: float = 10.0
    eval_batch_size: int = 64

    def check(self) -> None:
        """ValueError for a value out of range."""
        for name, good, wish in (
            ("epochs", self.epochs >= 0, "0 or more"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("lr", self.lr >= 0, "0 or more"),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("clip", self.clip >= 0, "0 or more"),
            ("max_length", self.max_length is None or self.max_length >= 3, "3 or more"),
            ("seed", 0 <= self.seed < 2**32, "in 0..4294967295"),
            ("layer_decay", 0 < self.layer_decay <= 1, "above 0 and at most 1"),
            ("patience", self.patience >= 0, "0 or more"),
            ("metric", self.metric in ("macro_f1", "accuracy", "loss"), "macro_f1, accuracy or loss"),
            ("class_weights", self.class_weights in (None, "balanced"), "balanced"),
            ("save_steps", self.save_steps >= 0, "0 or more"),
            ("save_minutes", self.save_minutes > 0, "above 0"),
            ("eval_batch_size", self.eval_batch_size >= 1, "1 or more"),
        ):
            if not good:
                raise ValueError(f"{name} must be {wish}, not {getattr(self, name)!r}")

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for a resumed run to go on: everything but how often to save and how to evaluate in batches."""
        fields = asdict(self)
        for name in ("save_steps", "save_minutes", "eval_batch_size"):
            del fields[name]
        fields["freeze"] = list(self.freeze)
        return fields


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

    def step(self, loss: float, rate: float) -> None:
        if not self.bar.disable:
            self.bar.set_postfix_str(f"loss {loss:.4f}, {rate:,.0f} tokens/s", refresh=False)
            self.bar.update()

    def note(self, text: str) -> None:
        if not self.bar.disable:
            self.bar.write(text, file=self.bar.fp)

    def close(self) -> None:
        self.bar.close()


@dataclass
class Position:
    """How far a run is."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs done
    batch: int = 0  # steps done in the epoch under way
    best: dict[str, Any] | None = None  # {"step", "epoch", "value", "report"} of the best evaluation
    bad_epochs: int = 0
    last_loss: float | None = None
    epoch_loss: float = 0.0  # sum over the steps of the epoch under way
    tokens: int = 0
    stopped: bool = False
    history: list[dict[str, Any]] | None = None


class Trainer:
    """Trains a sequence classifier on encoded rows.

    model: a ...ForSequenceClassification; train, dev: from `govlm.train.evaluate.encode`; out: where checkpoints, log.jsonl and
    the trained model go (None: nothing is written, the best weights are kept in memory); resume: go on from the newest
    checkpoint in `out`; progress: True, False, or None (when standard error is a terminal).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        train: Encoded,
        dev: Encoded | None = None,
        options: Options | None = None,
        out: str | Path | None = None,
        progress: bool | None = None,
        resume: bool = False,
    ) -> None:
        self.options = options or Options()
        self.options.check()
        if train.labels is None or len(train) == 0:
            raise FinetuneError("there is nothing to train on: no labelled rows")
        self.model, self.tokenizer, self.train_set, self.dev_set = model, tokenizer, train, dev
        self.out = Path(out) if out is not None else None
        self.progress = progress
        self.position = Position(history=[])
        self._best_weights: dict[str, NDArray[np.float32]] | None = None

        o = self.options
        self.steps_per_epoch = -(-len(train) // (o.batch_size * o.accumulate))
        self.total_steps = self.steps_per_epoch * o.epochs
        model.train()
        if o.freeze:
            freeze(model, *o.freeze)
        if o.layer_decay < 1:
            groups = layerwise_lr_groups(model, o.lr, o.layer_decay, o.weight_decay)
        else:
            groups = no_decay_groups(model, o.weight_decay)
        for group in groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
        groups = [g for g in groups if g["params"]]
        if not groups:
            raise FinetuneError("there is nothing to train: every parameter is frozen")
        self.parameters = [p for g in groups for p in g["params"]]
        self.optimizer = AdamW(groups, lr=o.lr)
        warmup = round(o.warmup * self.total_steps) if o.warmup < 1 else round(o.warmup)
        self.schedule = get_scheduler(o.schedule, self.optimizer, warmup, self.total_steps)
        self.weights = _balanced(train.labels, len(model.config.id2label)) if o.class_weights else None
        self.checkpoints = Checkpoints(self.out) if self.out is not None else None
        self._prepare_out(resume)

    # ---------------------------------------------------------------- the loop

    def train(self) -> dict[str, Any]:
        """Runs to the end. Returns {"loss", "steps", "epochs", "tokens", "seconds", "best", "history"}.

        Errors: NonFiniteError; OSError when a checkpoint cannot be written; KeyboardInterrupt passes through. Whatever
        happens, the newest checkpoint in `out` stays whole.
        """
        o, at = self.options, self.position
        started, tokens_before = time.monotonic(), at.tokens
        self._saved_at = time.monotonic()
        bar = Progress(self.total_steps, at.step, self.progress, "training")
        with ExitStack() as stack:
            stack.callback(bar.close)
            log = None
            if self.out is not None:
                log = stack.enter_context(open(self.out / "log.jsonl", "a", encoding="utf-8", buffering=1))
            while at.epoch < o.epochs and not at.stopped:
                order = permutation(len(self.train_set), o.seed, at.epoch)
                while at.batch < self.steps_per_epoch:
                    record = self._step(order)
                    seconds = time.monotonic() - started
                    rate = (at.tokens - tokens_before) / seconds if seconds > 0 else 0.0
                    bar.step(record["loss"], rate)
                    if log is not None:
                        log.write(json.dumps({**record, "tokens_per_s": round(rate, 1)}) + "\n")
                    if at.batch < self.steps_per_epoch and self._due():
                        self._save()
                self._end_epoch(bar, log)
        result = {
            "loss": at.last_loss,
            "steps": at.step,
            "epochs": at.epoch,
            "tokens": at.tokens,
            "seconds": time.monotonic() - started,
            "best": at.best,
            "history": at.history,
        }
        self._finish(result)
        return result

    def _step(self, order: NDArray[np.int64]) -> dict[str, Any]:
        """One optimizer step: `accumulate` forwards and backwards whose losses together are the mean over all their rows."""
        o, at = self.options, self.position
        size = o.batch_size * o.accumulate
        rows = order[at.batch * size : (at.batch + 1) * size]
        lr = self.schedule.get_last_lr()[0]
        labels = self.train_set.labels
        assert labels is not None
        total_weight = float(self._weight(labels[rows]))
        loss_value = 0.0
        for start in range(0, len(rows), o.batch_size):
            part = rows[start : start + o.batch_size]
            packed = self.train_set.take(part)
            outputs = self.model(
                packed=new_packed(packed.ids, packed.row_splits),
                labels=labels[part],
                **self._extras(at.step, np.arange(start, start + len(part), dtype=np.uint32)),
            )
            value = float(outputs.loss.item())
            if not math.isfinite(value):
                raise self._nonfinite("loss", value, outputs)
            share = float(self._weight(labels[part])) / total_weight
            (outputs.loss if share == 1.0 else outputs.loss * share).backward()
            loss_value += value * share
            at.tokens += len(packed.ids)
        norm = clip_grad_norm_(self.parameters, o.clip if o.clip else math.inf)
        if not math.isfinite(norm):
            raise self._nonfinite("gradient norm", norm, None)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        at.step += 1
        at.batch += 1
        at.last_loss = loss_value
        at.epoch_loss += loss_value
        return {"step": at.step, "epoch": at.epoch + 1, "loss": loss_value, "lr": lr, "grad_norm": norm, "tokens": at.tokens}

    def _extras(self, step: int, samples: NDArray[np.uint32]) -> dict[str, Any]:
        """Where in the random stream this forward stands, and the class weights."""
        self.model.dropout_seed, self.model.dropout_step = self.options.seed, step
        extras: dict[str, Any] = {"samples": samples}
        if self.weights is not None:
            extras["class_weights"] = self.weights
        return extras

    def _weight(self, labels: NDArray[Any]) -> float:
        """What the mean loss of these rows is divided by: their number, or the sum of their class weights."""
        return len(labels) if self.weights is None else float(self.weights[labels].sum(dtype=np.float64))

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

    def _end_epoch(self, bar: Progress, log: Any) -> None:
        o, at = self.options, self.position
        entry: dict[str, Any] = {"epoch": at.epoch + 1, "step": at.step, "train_loss": at.epoch_loss / self.steps_per_epoch}
        if self.dev_set is not None:
            report = evaluate_encoded(self.model, self.dev_set, o.eval_batch_size)
            entry.update({k: report[k] for k in ("loss", "accuracy", "macro_f1")})
            value = -report["loss"] if o.metric == "loss" else report[o.metric]
            if at.best is None or value > at.best["value"]:
                at.best = {"step": at.step, "epoch": at.epoch + 1, "value": value, "report": report}
                at.bad_epochs = 0
                self._keep_best()
            else:
                at.bad_epochs += 1
                at.stopped = 0 < o.patience <= at.bad_epochs
        assert at.history is not None
        at.history.append(entry)
        at.epoch += 1
        at.batch, at.epoch_loss = 0, 0.0
        if log is not None:
            log.write(json.dumps({"evaluation": entry}) + "\n")
        shown = ", ".join(f"{k} {v:.4f}" for k, v in entry.items() if isinstance(v, float))
        bar.note(f"epoch {at.epoch}: {shown}" + (" (stops early)" if at.stopped else ""))
        self._save()

    # ---------------------------------------------------------------- checkpoints

    def _prepare_out(self, resume: bool) -> None:
        if self.out is None or self.checkpoints is None:
            if resume:
                raise FinetuneError("resume needs the folder of the run")
            return
        if self.out.exists() and not self.out.is_dir():
            raise FinetuneError(f"{self.out} is a file; give a folder for the trained model")
        self.out.mkdir(parents=True, exist_ok=True)
        found = self.checkpoints.latest()
        if not resume and (found is not None or self.checkpoints.names("best")):
            raise FinetuneError(f"{self.out} holds the checkpoints of another run: --resume continues it, or give a new folder")
        if found is not None:
            self._load(*found)
        self._cut_log()

    def _identity(self) -> dict[str, Any]:
        dev = self.dev_set.digest() if self.dev_set is not None else None
        return {"options": self.options.fingerprint(), "train": self.train_set.digest(), "dev": dev}

    def _load(self, path: Path, state: dict[str, Any]) -> None:
        mine = self._identity()
        for name, value in mine["options"].items():
            if state["options"].get(name) != value:
                raise FinetuneError(
                    f"cannot resume {path}: it was made with {name}={state['options'].get(name)!r}, this run has {value!r}"
                )
        for part in ("train", "dev"):
            if state[part] != mine[part]:
                raise FinetuneError(f"cannot resume {path}: the {part} data, its labels or the tokenizer are not the same")
        _copy_weights(type(self.model).from_pretrained(str(path)), self.model)
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
        self.schedule.load_state_dict(state["schedule"])
        self.position = Position(**state["position"])

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
        temporary = self.out / ".log.jsonl.tmp"
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(path)

    def _due(self) -> bool:
        o = self.options
        by_step = o.save_steps > 0 and self.position.step % o.save_steps == 0
        return by_step or time.monotonic() - self._saved_at >= 60 * o.save_minutes

    def _save(self) -> None:
        if self.checkpoints is None:
            return
        at = self.position
        optimizer = self.optimizer.state_dict()
        state = {
            "format": 1,
            **self._identity(),
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
            write_tensors(folder / "optimizer.safetensors", tensors)
            (folder / "state.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")

        self.checkpoints.save("step", at.step, write)
        self.checkpoints.tidy(at.step, at.best["step"] if at.best else None)
        self._saved_at = time.monotonic()

    def _save_model(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))

    def _keep_best(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save("best", self.position.step, self._save_model)
        else:
            self._best_weights = {name: np.array(p.data) for name, p in self.model.named_parameters()}

    def _finish(self, result: dict[str, Any]) -> None:
        """Puts the best model (the last one when there is no dev set) into `out` and into memory."""
        at = self.position
        if self.checkpoints is not None and self.out is not None:
            source = self.checkpoints.path("best", at.best["step"]) if at.best else self.checkpoints.path("step", at.step)
            if source.is_dir():
                if at.best and at.best["step"] != at.step:
                    _copy_weights(type(self.model).from_pretrained(str(source)), self.model)
                self.checkpoints.publish(source)
            else:  # no epoch was asked for
                self._save_model(self.out)
            text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
            temporary = self.out / ".result.json.tmp"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.out / "result.json")
        elif self._best_weights is not None and at.best and at.best["step"] != at.step:
            for name, parameter in self.model.named_parameters():
                parameter.data[...] = self._best_weights[name]
        self._best_weights = None
        self.model.eval()


def _copy_weights(source: Any, target: Any) -> None:
    """Copies every parameter of one model into another of the same shape, bit for bit."""
    values = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        parameter.data[...] = np.asarray(values[name].data)


def _balanced(labels: NDArray[Any], count: int) -> NDArray[np.float32]:
    """rows / (classes * rows of the class): every class weighs the same. A class without rows weighs 1."""
    if labels.ndim != 1:
        raise FinetuneError("class weights are for single labels; these rows have lists of labels")
    rows = np.bincount(labels, minlength=count)
    weights = np.ones(count, np.float32)
    np.divide(len(labels), count * rows, out=weights, where=rows > 0, casting="unsafe")
    return weights


def _label_names(labels: Sequence[str | list[str]]) -> list[str]:
    names = {n for label in labels for n in (label if isinstance(label, list) else [label])}
    if all(n.lstrip("-").isdigit() for n in names):
        return sorted(names, key=int)
    return sorted(names)


def load_model(
    source: str | Path, labels: list[str], multi_label: bool, vocab: str | Path | None, seed: int
) -> tuple[Any, Any]:
    """(model, tokenizer) for these labels: a pretrained folder, or a config.json for a random initialisation (with `vocab`)."""
    import govlm

    set_seed(seed)
    path = Path(source)
    fields: dict[str, Any] = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
        "problem_type": MULTI_LABEL if multi_label else SINGLE_LABEL,
    }
    if path.is_dir():
        tokenizer = govlm.AutoTokenizer.from_pretrained(str(path)) if vocab is None else govlm.BertTokenizer(str(vocab))
        model = govlm.AutoModelForSequenceClassification.from_pretrained(str(path), **fields)
        return model, tokenizer
    if not path.is_file():
        raise FinetuneError(f"{path}: no such model folder or config file")
    if vocab is None:
        vocab = path.parent / "vocab.txt"
        if not vocab.exists():
            raise FinetuneError(f"{path} is a config, for a random start: name its vocabulary with --vocab FILE")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FinetuneError(f"{path}: not a JSON config: {error}") from None
    tokenizer = govlm.BertTokenizer(str(vocab), do_lower_case=bool(values.get("do_lower_case", True)))
    values.update(fields)
    values["vocab_size"] = len(tokenizer)
    for gone in ("architectures", "num_labels"):
        values.pop(gone, None)
    config = govlm.AutoConfig.for_model(**{"model_type": "bert", **values})
    return govlm.AutoModelForSequenceClassification.from_config(config), tokenizer


def finetune(
    train: str | Path,
    dev: str | Path | None = None,
    *,
    model: str | Path,
    out: str | Path,
    task: str = "classify",
    text_field: str = "text",
    label_field: str = "label",
    data_format: str | None = None,
    vocab: str | Path | None = None,
    options: Options | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Fine-tunes a classifier on a file and writes it, ready for `from_pretrained`, to `out`.

    train, dev: JSONL, CSV or TSV (see govlm.data.read_rows); labels are strings or whole numbers, or lists of them for
    several labels a text. model: a pretrained folder, or a config.json (then the weights start random, and `vocab` is needed).
    Returns Trainer.train()'s result with "labels", "train_rows", "dev_rows". Errors: DataError, FinetuneError, OSError.
    """
    if task != "classify":
        raise FinetuneError(f"unknown task {task!r}: classify")
    options = options or Options()
    options.check()
    examples = list(read_examples(train, text_field, label_field, data_format))
    if not examples:
        raise FinetuneError(f"{train}: no rows")
    dev_examples = list(read_examples(dev, text_field, label_field, data_format)) if dev is not None else None
    if dev_examples is not None and not dev_examples:
        raise FinetuneError(f"{dev}: no rows")
    multi_label = isinstance(examples[0].label, list)
    names = _label_names([e.label for e in examples if e.label is not None])
    if not multi_label and len(names) < 2:
        raise FinetuneError(f"{train}: every row has the label {names[0]!r}; at least two are needed")
    network, tokenizer = load_model(model, names, multi_label, vocab, options.seed)
    train_set = encode(network, tokenizer, examples, names, multi_label, options.max_length, source=str(train))
    dev_set = None
    if dev_examples is not None:
        dev_set = encode(network, tokenizer, dev_examples, names, multi_label, options.max_length, source=str(dev))
    trainer = Trainer(network, tokenizer, train_set, dev_set, options, out, progress, resume)
    result = trainer.train()
    result.update(labels=names, train_rows=len(train_set), dev_rows=len(dev_set) if dev_set is not None else 0, out=str(out))
    return result
