"""Fine-tuning: a sentence classifier's rows and epochs, and the run that `govlm finetune` makes of any task."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm.bundled import BUNDLED
from govlm.data import Example, read_examples
from govlm.train.checkpoints import Checkpoints
from govlm.train.distributed import check_ranks, find_ranks
from govlm.train.evaluate import Encoded, encode, evaluate_encoded
from govlm.train.loop import Loop, LoopOptions, Part, Position, Progress, TrainError, write_text
from govlm.train.ngrams import NgramBranch, NgramOptions, fit_branch
from govlm.train.source import load_model

__all__ = ["Options", "Plan", "Trainer", "finetune"]

TASKS = ("classify", "tokens", "generate", "summarise")
ALONE = 0.8  # share of the encoder's own loss beside a branch (of 0, 0.5, 0.8 the best sum and encoder, tnews few-shot)


@dataclass
class Options(LoopOptions):
    """What a fine-tuning run can be told, beside what every run can."""

    epochs: int = 3
    batch_size: int = 32  # rows a forward
    accumulate: int = 1  # forwards an optimizer step
    max_length: int | None = None  # tokens a text; None = what the model takes
    patience: int = 0  # epochs without a better metric before the run stops; 0 = off
    metric: str = "macro_f1"  # macro_f1, accuracy or loss: chooses the best model
    class_weights: str | None = None  # None or "balanced"
    eval_batch_size: int = 64
    ngrams: bool = True  # the n-gram branch, where the rows bring their n-grams (`finetune` counts them)
    ngram_longest: int = NgramOptions.longest  # characters an n-gram
    ngram_features: int = NgramOptions.features  # hashed n-grams that are kept
    ngram_c: float = NgramOptions.c  # what an error of the branch costs against large weights

    _UNCOMPARED: ClassVar[tuple[str, ...]] = (*LoopOptions._UNCOMPARED, "eval_batch_size")
    METRICS: ClassVar[tuple[str, ...]] = ("macro_f1", "accuracy", "loss")

    def _rules(self) -> list[tuple[str, bool, str]]:
        return [
            *super()._rules(),
            ("epochs", self.epochs >= 0, "0 or more"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("max_length", self.max_length is None or self.max_length >= 3, "3 or more"),
            ("patience", self.patience >= 0, "0 or more"),
            ("metric", self.metric in self.METRICS, ", ".join(self.METRICS[:-1]) + f" or {self.METRICS[-1]}"),
            ("class_weights", self.class_weights in (None, "balanced"), "balanced"),
            ("eval_batch_size", self.eval_batch_size >= 1, "1 or more"),
            ("ngram_longest", 1 <= self.ngram_longest <= 8, "in 1..8"),
            ("ngram_features", self.ngram_features >= 1, "1 or more"),
            ("ngram_c", 0 < self.ngram_c < math.inf, "above 0"),
        ]

    def ngram_options(self, pairs: bool = False) -> NgramOptions:
        return NgramOptions(longest=self.ngram_longest, features=self.ngram_features, c=self.ngram_c, pairs=pairs)


def _entropy(
    z: NDArray[np.float64], labels: NDArray[Any], weights: NDArray[np.float32] | None
) -> tuple[float, NDArray[np.float64]]:
    """The mean cross entropy of logits [n, K] and its gradient at them; labels and weights as in `Trainer`."""
    if labels.ndim == 2:
        value = float(np.mean(np.maximum(z, 0) - z * labels + np.log1p(np.exp(-np.abs(z)))))
        return value, (1 / (1 + np.exp(-z)) - labels) / z.size
    share = np.ones(len(z)) if weights is None else weights[labels].astype(np.float64)
    share /= share.sum()
    rows = np.arange(len(z))
    logs = z - z.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    gradient = np.exp(logs)
    gradient[rows, labels] -= 1
    return float(-(logs[rows, labels] * share).sum()), gradient * share[:, None]


class SumLoss:
    """The loss of an encoder beside a branch; knows how to send its gradient back into the encoder.

    (1 - alone) times the cross entropy of the encoder's logits plus `offset`, `alone` times that of the encoder's by
    themselves. outputs: of the encoder; offset: float32 [n, labels]; labels and weights as in `Trainer`.
    """

    def __init__(
        self,
        outputs: Any,
        offset: NDArray[np.float32],
        labels: NDArray[Any],
        weights: NDArray[np.float32] | None,
        alone: float = 0.0,
    ) -> None:
        self._outputs, self._factor = outputs, 1.0
        z = np.asarray(outputs.logits, np.float64)
        self._value, self._gradient = _entropy(z + offset, labels, weights)
        if alone:
            value, gradient = _entropy(z, labels, weights)
            self._value = (1 - alone) * self._value + alone * value
            self._gradient = (1 - alone) * self._gradient + alone * gradient

    def item(self) -> float:
        return self._value

    def __mul__(self, factor: float) -> SumLoss:
        self._factor *= factor
        return self

    def backward(self) -> None:
        self._outputs.backward(logits=(self._gradient * self._factor).astype(np.float32))


@dataclass
class EpochPosition(Position):
    """How far a run in epochs is."""

    epoch: int = 0  # epochs done
    batch: int = 0  # steps done in the epoch under way
    bad_epochs: int = 0
    epoch_loss: float = 0.0  # sum over the steps of the epoch under way


class Trainer(Loop):
    """Trains a sequence classifier on encoded rows.

    model: a ...ForSequenceClassification; train, dev: from `govlm.train.evaluate.encode`; epochs: stop after so many, though
    the learning rate falls as over all of options.epochs; the rest as in Loop. When the rows bring n-grams (and options.ngrams
    is on), `branch` is the n-gram branch, and the encoder is trained on the sum of both: see govlm.train.ngrams.
    """

    position_class = EpochPosition
    options: Options
    position: EpochPosition
    report_keys: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "macro_f1")

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
        ranks: Any = None,
        epochs: int | None = None,
    ) -> None:
        options = options or Options()
        options.check()
        if train.labels is None or len(train) == 0:
            raise TrainError("there is nothing to train on: no labelled rows")
        if options.ngrams and train.grams is not None and getattr(model, "peft_config", None):
            raise TrainError("an adapter's folder has no place for an n-gram branch: train without one (ngrams=False)")
        self.train_set, self.dev_set, self.options = train, dev, options
        self.weights: NDArray[np.float32] | None = None
        self._weigh()
        self.last_epoch = epochs
        self.branch: NgramBranch | None = None
        model.config.__dict__.pop("ngrams", None)  # of an earlier fine-tuning: this one has its own, or none
        self.steps_per_epoch = -(-len(train) // (options.batch_size * options.accumulate))
        super().__init__(model, tokenizer, options, self.steps_per_epoch * options.epochs, out, progress, resume, ranks)
        if options.ngrams and train.grams is not None:
            self._set_branch()

    def _weigh(self) -> None:
        """Sets `weights`, when the options want some."""
        labels = self.train_set.labels
        assert labels is not None
        self.weights = _balanced(labels, len(self.train_set.names)) if self.options.class_weights else None

    def _set_branch(self) -> None:
        """Fits the branch, unless a checkpoint brought it, and gives the rows what it says of them."""
        train, dev, o = self.train_set, self.dev_set, self.options
        assert train.labels is not None
        if self.branch is None:
            self.branch, train.offset = fit_branch(
                train.grams, train.labels, len(train.names), o.ngram_options(train.types is not None), self.weights, o.seed
            )
        self.model.config.ngrams = self.branch.entry()
        if dev is not None:
            if dev.grams is None:
                raise TrainError("the train rows bring n-grams, the dev rows do not: encode both with grams=")
            dev.offset = self.branch.logits(dev.grams)

    def _parts(self, step: int) -> list[Part]:
        o, labels = self.options, self.train_set.labels
        assert labels is not None
        rows = self._rows(step, len(self.train_set), o.batch_size * o.accumulate)
        total_weight = self._weight(labels[rows])
        parts = []
        for start in range(0, len(rows), o.batch_size):
            # every rank has its share of every forward's rows; a short last batch may leave one without
            places = np.arange(start, min(start + o.batch_size, len(rows)))[self.ranks.rank :: self.ranks.size]
            if not len(places):
                continue
            part = rows[places]
            packed = self.train_set.take(part)
            arguments = {
                "packed": packed.packed(),
                "labels": labels[part],
                "samples": places.astype(np.uint32),  # where these rows stand in the random stream
            }
            if self.branch is not None:
                assert self.train_set.offset is not None
                arguments["offset"] = self.train_set.offset[part]
            elif self.weights is not None:
                arguments["class_weights"] = self.weights
            parts.append(Part(arguments, self._weight(labels[part]) / total_weight, len(packed.ids)))
        return parts

    def _loss(self, part: Part) -> tuple[Any, Any]:
        arguments = dict(part.arguments)
        offset = arguments.pop("offset", None)
        if offset is None:
            return super()._loss(part)
        labels = arguments.pop("labels")
        outputs = self.model(**arguments)
        return SumLoss(outputs, offset, labels, self.weights, ALONE), outputs

    def _weight(self, labels: NDArray[Any]) -> float:
        """What the mean loss of these rows is divided by: their number, or the sum of their class weights."""
        return float(len(labels)) if self.weights is None else float(self.weights[labels].sum(dtype=np.float64))

    def _step(self) -> dict[str, Any]:
        record = super()._step()
        self.position.batch += 1
        self.position.epoch_loss += record["loss"]
        return {"epoch": self.position.epoch + 1, **record}

    def _after_step(self, record: dict[str, Any], bar: Progress, log: Any) -> None:
        o, at = self.options, self.position
        if at.batch < self.steps_per_epoch:
            return
        entry: dict[str, Any] = {"epoch": at.epoch + 1, "step": at.step, "train_loss": at.epoch_loss / self.steps_per_epoch}
        value, report = None, {}
        if self.dev_set is not None:
            report = self._report()
            entry.update({k: report[k] for k in self.report_keys if report[k] is not None})
            value = -report["loss"] if o.metric == "loss" else report[o.metric]
        better = self._record(entry, value, report, bar, log)
        at.bad_epochs = 0 if better or value is None else at.bad_epochs + 1
        at.stopped = 0 < o.patience <= at.bad_epochs or at.epoch + 1 == self.last_epoch
        at.epoch += 1
        at.batch, at.epoch_loss = 0, 0.0
        self._save()

    def _report(self) -> dict[str, Any]:
        """The report on the dev rows."""
        assert self.dev_set is not None
        return evaluate_encoded(self.model, self.dev_set, self.options.eval_batch_size)

    def _load(self, path: Path, state: dict[str, Any]) -> None:
        if self.options.ngrams and self.train_set.grams is not None:
            entry = json.loads((path / "config.json").read_text(encoding="utf-8")).get("ngrams")
            if entry is not None:
                self.branch = NgramBranch.load(path, entry)
                self.model.config.ngrams = entry
        super()._load(path, state)

    def _save_model(self, folder: Path) -> None:
        super()._save_model(folder)
        if self.branch is not None:
            self.branch.save(folder)

    def _more_tensors(self) -> dict[str, NDArray[np.float32]]:
        return {} if self.branch is None or self.train_set.offset is None else {"ngrams/offset": self.train_set.offset}

    def _take_tensors(self, tensors: dict[str, NDArray[np.float32]]) -> None:
        if "ngrams/offset" in tensors:
            self.train_set.offset = tensors["ngrams/offset"]

    def _identity(self) -> dict[str, Any]:
        return {
            "the train data, its labels or the tokenizer": self.train_set.digest(),
            "the dev data, its labels or the tokenizer": self.dev_set.digest() if self.dev_set is not None else None,
        }

    def _result(self, seconds: float) -> dict[str, Any]:
        return {**super()._result(seconds), "epochs": self.position.epoch}


def _balanced(labels: NDArray[Any], count: int) -> NDArray[np.float32]:
    """rows / (classes * rows of the class): every class weighs the same. A class without rows weighs 1."""
    if labels.ndim != 1:
        raise TrainError("class weights are for single labels; these rows have lists of labels")
    rows = np.bincount(labels, minlength=count)
    weights = np.ones(count, np.float32)
    np.divide(len(labels), count * rows, out=weights, where=rows > 0, casting="unsafe")
    return weights


def _label_names(labels: Sequence[str | list[str]]) -> list[str]:
    names = {n for label in labels for n in (label if isinstance(label, list) else [label])}
    if all(n.lstrip("-").isdigit() for n in names):
        return sorted(names, key=int)
    return sorted(names)


@dataclass
class Plan:
    """What a task makes of its files. fresh() gives a new model with its tokenizer."""

    train: list[Any]
    dev: list[Any] | None
    labels: list[str]
    fresh: Callable[[], tuple[Any, Any]]
    encode: Callable[[Any, Any, list[Any], str], Any]  # (model, tokenizer, examples, source)
    trainer: type[Trainer]


def _classify_plan(
    train: str | Path,
    dev: str | Path | None,
    model: str | Path,
    vocab: str | Path | None,
    options: Options,
    fields: tuple[str | tuple[str, str], str, str | None],
    pattern: str | None,
    label_words: str | Path | None,
) -> Plan:
    examples = list(read_examples(train, *fields))
    if not examples:
        raise TrainError(f"{train}: no rows")
    dev_examples = list(read_examples(dev, *fields)) if dev is not None else None
    if dev_examples is not None and not dev_examples:
        raise TrainError(f"{dev}: no rows")
    multi_label = isinstance(examples[0].label, list)
    names = _label_names([e.label for e in examples if e.label is not None])
    if not multi_label and len(names) < 2:
        raise TrainError(f"{train}: every row has the label {names[0]!r}; at least two are needed")
    paired = not isinstance(examples[0].text, str)
    grams = options.ngram_options(paired) if options.ngrams else None

    def fresh() -> tuple[Any, Any]:
        if pattern is None:
            return load_model(model, names, multi_label, vocab, options.seed)
        if paired:
            raise TrainError(f"{train}: few-shot training takes single texts, not pairs")
        if multi_label:
            raise TrainError(f"{train}: few-shot training takes one label a row, not lists of labels")
        network, tokenizer = load_model(model, names, False, vocab, options.seed, "MaskedLM")
        from govlm.train.fewshot import PatternModel, read_words

        return PatternModel(network, tokenizer, pattern, read_words(label_words, names)), tokenizer

    def rows(network: Any, tokenizer: Any, part: list[Example], source: str) -> Encoded:
        return encode(network, tokenizer, part, names, multi_label, options.max_length, source, grams=grams)

    trainer: type[Trainer] = Trainer
    if pattern is not None:
        from govlm.train.fewshot import FewShotTrainer

        trainer = FewShotTrainer
    return Plan(examples, dev_examples, names, fresh, rows, trainer)


def _tokens_plan(
    train: str | Path, dev: str | Path | None, model: str | Path, vocab: str | Path | None, options: Options
) -> Plan:
    from govlm.train.tokens import SpanExample, TokenTrainer, bio_names, encode_spans, read_spans

    examples = list(read_spans(train))
    if not examples:
        raise TrainError(f"{train}: no texts")
    dev_examples = list(read_spans(dev)) if dev is not None else None
    if dev_examples is not None and not dev_examples:
        raise TrainError(f"{dev}: no texts")
    names = bio_names(span.label for e in examples for span in e.spans)
    if len(names) < 2:
        raise TrainError(f"{train}: no text has an entity")

    def fresh() -> tuple[Any, Any]:
        return load_model(model, names, False, vocab, options.seed, "TokenClassification")

    def rows(network: Any, tokenizer: Any, part: list[SpanExample], source: str) -> Any:
        return encode_spans(network, tokenizer, part, options.max_length, source)

    return Plan(examples, dev_examples, names, fresh, rows, TokenTrainer)


def finetune(
    train: str | Path,
    dev: str | Path | None = None,
    *,
    model: str | Path = BUNDLED,
    out: str | Path,
    task: str = "classify",
    text_field: str | tuple[str, str] = "text",
    label_field: str = "label",
    data_format: str | None = None,
    vocab: str | Path | None = None,
    options: Options | None = None,
    refit: bool | None = None,
    few_shot: bool = False,
    pattern: str | None = None,
    label_words: str | Path | None = None,
    source_field: str = "source",
    target_field: str = "target",
    resume: bool = False,
    progress: bool | None = None,
    ranks: Any = None,
) -> dict[str, Any]:
    """Fine-tunes a model on a file and writes it, ready for `from_pretrained`, to `out`.

    task "classify": train, dev are JSONL, CSV or TSV (see govlm.data.read_rows); labels are strings or whole numbers, or lists
    of them for several labels a text; with two names in text_field the rows are pairs of texts.
    task "tokens": texts with spans (see govlm.train.tokens.read_spans; the options are
    TokenOptions). tasks "generate" and "summarise": models that write (govlm.train.writing, with WritingOptions): instruction data
    (see govlm.train.instructions.read_conversations), or texts in source_field and what to make of them in target_field.
    model: a pretrained folder, or a config.json (then the weights start random, and `vocab` is needed).
    refit (default: yes, but not of models that write): with dev rows, the model is trained once more, on train and dev rows together, for as many epochs as were best; the
    figures in the result are those of the first training, because nothing is left to judge the second by.
    few_shot: the label is a word in a gap (govlm.train.fewshot); pattern, with {text} and {mask}; label_words: JSON file
    {label: word}, else the labels are the words.
    ranks: default those of the environment, see govlm.train.distributed (every rank takes its share of a batch's rows).
    Returns Trainer.train()'s result with "labels", "train_rows", "dev_rows", "ngrams", "refit".
    Errors: DataError, TrainError, OSError.
    """
    if task not in TASKS:
        raise TrainError(f"unknown task {task!r}: {', '.join(TASKS[:-1])} or {TASKS[-1]}")
    if few_shot and task != "classify":
        raise TrainError(f"few-shot training is for the task classify, not for {task}")
    if task in ("generate", "summarise"):
        from govlm.train import writing

        options = options or writing.WritingOptions()
        if not isinstance(options, writing.WritingOptions):
            raise TypeError(f"the task {task} takes WritingOptions, not {type(options).__name__}")
        options.check()
        fields = (source_field, target_field)
        plan = writing.plan(task, train, dev, model, vocab, options, fields, data_format)
    elif task == "tokens":
        from govlm.train.tokens import TokenOptions

        options = options or TokenOptions()
        options.check()
        plan = _tokens_plan(train, dev, model, vocab, options)
    else:
        options = options or Options()
        options.check()
        from govlm.train.fewshot import PATTERN

        gap = (pattern or PATTERN) if few_shot else None
        plan = _classify_plan(train, dev, model, vocab, options, (text_field, label_field, data_format), gap, label_words)
    refit = task in ("classify", "tokens") if refit is None else refit
    ranks = find_ranks() if ranks is None else ranks
    check_ranks(ranks, options.batch_size, "rows")
    network, tokenizer = plan.fresh()
    train_set = plan.encode(network, tokenizer, plan.train, str(train))
    dev_set = plan.encode(network, tokenizer, plan.dev, str(dev)) if plan.dev is not None else None
    trainer = plan.trainer(network, tokenizer, train_set, dev_set, options, out, progress, resume, ranks)
    result = trainer.train()
    result["refit"] = None
    if plan.dev is not None and refit and result["best"]:
        network, tokenizer = plan.fresh()
        both = plan.encode(network, tokenizer, [*plan.train, *plan.dev], str(train))
        again = Path(out) / "refit"
        best = result["best"]["epoch"]
        trainer = plan.trainer(network, tokenizer, both, None, options, again, progress, resume, ranks, epochs=best)
        second = trainer.train()
        if ranks.rank == 0:
            Checkpoints(Path(out)).publish(again)
        result["refit"] = {name: second[name] for name in ("steps", "epochs", "seconds", "loss")}
        result["refit"]["rows"] = len(plan.train) + len(plan.dev)
    branch = trainer.branch
    result["ngrams"] = {"features": len(branch.buckets), "bytes": branch.nbytes} if branch is not None else None
    dev_rows = len(plan.dev) if plan.dev is not None else 0
    result.update(labels=plan.labels, train_rows=len(plan.train), dev_rows=dev_rows, out=str(out))
    if task in ("generate", "summarise"):
        result.update(cut_rows=train_set.cut, left_out_rows=train_set.left_out)
    if ranks.rank == 0:
        write_text(Path(out) / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result
