"""Distillation: a small model learns from what a large one says of labelled rows, of unlabelled texts, or of a whole corpus.

* logits, softened by a temperature, beside the labels (arXiv:1503.02531): of a classifier, or of a masked language model at
  masked tokens (as arXiv:1910.01108);
* hidden states, layer by layer of a mapping, through a learned projection where the widths differ (as arXiv:1909.10351);
* relations between the tokens, which need no layer mapping and no equal widths: queries with queries, keys with keys, values
  with values (MiniLMv2, arXiv:2012.15828); queries with keys are the attention probabilities (MiniLM, arXiv:2002.10957).

Every loss is a mean over the texts (and over a text's tokens). Gradients go into the core where the values come from.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm._native import core as native
from govlm.bundled import model_folder
from govlm.data import Example, read_examples
from govlm.packing import Batch
from govlm.train.evaluate import MULTI_LABEL, Encoded, encode, encode_texts, evaluate_encoded, label_names, new_packed
from govlm.train.finetune import EpochPosition
from govlm.train.loop import Loop, LoopOptions, Part, Progress, TrainError
from govlm.train.losses import GradientLoss, cross_entropy, mean_square, multi_label_kl, product, relation_kl, softmax_kl
from govlm.train.masking import Masker
from govlm.train.teacher import Key, Teacher, Wanted, projection_widths, run_taps

__all__ = ["DistillOptions", "DistillTrainer", "Projections", "distill", "layer_map", "student_of"]

F32 = NDArray[np.float32]
_ROWS = 256  # masked tokens whose scores over the vocabulary are held in float64 at a time
_SIDES = {"q": "query", "k": "key", "v": "value"}


@dataclass
class DistillOptions(LoopOptions):
    """What a distillation can be told, beside what every run can. A weight of 0 leaves a loss out."""

    epochs: int = 3
    batch_size: int = 32  # texts a forward
    accumulate: int = 1  # forwards an optimizer step
    temperature: float = 2.0
    logits: float = 1.0  # weight of the teacher's scores of labels (of masked tokens) and of the labels (tokens) themselves
    label_share: float = 0.5  # of that weight, on labelled rows, what the labels themselves get
    hidden: float = 0.0  # weight of the hidden states
    hidden_layers: str = "uniform"  # student:teacher pairs, "0:0,2:6,4:12"; uniform; last
    relations: float = 0.0  # weight of the relations
    relation_kinds: tuple[str, ...] = ("qq", "kk", "vv")  # MiniLMv2; ("qk", "vv") is MiniLM
    relation_layers: str = "last"  # student:teacher pairs, the first layer is 1
    relation_heads: int = 0  # 0 = the teacher's heads where both widths can be cut so, else the student's
    max_length: int | None = None
    cache_dtype: str = "float16"  # what the teacher's outputs are rounded to
    metric: str = "macro_f1"  # macro_f1, accuracy or loss (the distillation's): chooses the best model on dev
    patience: int = 0
    eval_batch_size: int = 64

    _UNCOMPARED: ClassVar[tuple[str, ...]] = (*LoopOptions._UNCOMPARED, "eval_batch_size")

    def _rules(self) -> list[tuple[str, bool, str]]:
        kinds = self.relation_kinds
        return [
            *super()._rules(),
            ("epochs", self.epochs >= 0, "0 or more"),
            ("batch_size", self.batch_size >= 1, "1 or more"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("temperature", self.temperature > 0, "above 0"),
            ("logits", self.logits >= 0, "0 or more"),
            ("label_share", 0 <= self.label_share <= 1, "in 0..1"),
            ("hidden", self.hidden >= 0, "0 or more"),
            ("relations", self.relations >= 0, "0 or more"),
            (
                "relation_kinds",
                bool(kinds) and all(len(k) == 2 and set(k) <= set("qkv") for k in kinds),
                "such as qq, kk, vv, qk",
            ),
            ("relation_heads", self.relation_heads >= 0, "0 or more"),
            ("max_length", self.max_length is None or self.max_length >= 3, "3 or more"),
            ("cache_dtype", self.cache_dtype in ("float16", "float32"), "float16 or float32"),
            ("metric", self.metric in ("macro_f1", "accuracy", "loss"), "macro_f1, accuracy or loss"),
            ("patience", self.patience >= 0, "0 or more"),
            ("eval_batch_size", self.eval_batch_size >= 1, "1 or more"),
        ]


def layer_map(text: str, student: int, teacher: int, first: int) -> dict[int, int]:
    """{student layer: teacher layer} from "uniform", "last" or "1:3,2:6".

    student, teacher: how many layers they have; first: 0 where the embeddings count as a layer, else 1. uniform: every layer
    of the student, evenly spread over the teacher's. Errors: TrainError names a pair that does not exist.
    """
    if text == "last":
        return {student: teacher}
    if text == "uniform":
        spread = {s: round(s * teacher / student) for s in range(1, student + 1)}
        return {0: 0, **spread} if first == 0 else spread
    pairs: dict[int, int] = {}
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*:\s*(\d+)\s*", item)
        if match is None:
            raise TrainError(f"layers must be pairs STUDENT:TEACHER, as 2:6,4:12, or uniform or last; not {item.strip()!r}")
        s, t = int(match[1]), int(match[2])
        if not first <= s <= student or not first <= t <= teacher:
            raise TrainError(f"layers {s}:{t}: the student has {first}..{student}, the teacher {first}..{teacher}")
        pairs[s] = t
    return pairs


class Projections:
    """Matrices [student width, teacher width] that carry hidden states over, one a layer, with an AdamW of their own.

    Only needed where the widths differ, and only while training. float32, computed in float64.
    """

    BETAS, EPS = (0.9, 0.999), 1e-8

    def __init__(self, layers: Sequence[int], student: int, teacher: int, seed: int) -> None:
        self.steps = 0
        self.weights: dict[int, F32] = {}
        for layer in layers:
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 0x50, layer])))
            self.weights[layer] = (generator.standard_normal((student, teacher)) / math.sqrt(student)).astype(np.float32)
        self.first = {layer: np.zeros_like(w) for layer, w in self.weights.items()}
        self.second = {layer: np.zeros_like(w) for layer, w in self.weights.items()}
        self.gradients = {layer: np.zeros(w.shape) for layer, w in self.weights.items()}

    def step(self, lr: float, weight_decay: float, clip: float) -> None:
        """One AdamW step with the gradients gathered since the last one, which are then forgotten."""
        if not self.weights:
            return
        self.steps += 1
        norm = math.sqrt(sum(float((g * g).sum()) for g in self.gradients.values()))
        factor = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        b1, b2 = self.BETAS
        for layer, w in self.weights.items():
            g = self.gradients[layer] * factor
            first = b1 * self.first[layer].astype(np.float64) + (1 - b1) * g
            second = b2 * self.second[layer].astype(np.float64) + (1 - b2) * g * g
            step = first / (1 - b1**self.steps) / (np.sqrt(second / (1 - b2**self.steps)) + self.EPS)
            w[...] = w * (1 - lr * weight_decay) - lr * step
            self.first[layer][...], self.second[layer][...] = first, second
            self.gradients[layer][...] = 0.0

    def state(self) -> dict[str, F32]:
        tensors = {"projection/steps": np.array([self.steps], np.float32)}
        for layer in self.weights:
            for name, part in (("weight", self.weights), ("first", self.first), ("second", self.second)):
                tensors[f"projection/{layer}/{name}"] = part[layer]
        return tensors

    def take(self, tensors: dict[str, F32]) -> None:
        self.steps = int(tensors["projection/steps"][0])
        for layer in self.weights:
            for name, part in (("weight", self.weights), ("first", self.first), ("second", self.second)):
                part[layer][...] = tensors[f"projection/{layer}/{name}"]


class DistillTrainer(Loop):
    """Teaches `model` (the student) what `teacher` says of the rows of `data`.

    model, teacher: both classifiers of the same labels where logits count, else any encoders. data: the texts as the student
    reads them; labels: [N] class numbers (-1 = none) or [N, labels] (a row of NaN = none), or None. teacher_data: the texts as
    the teacher reads them, where their tokenizers differ (then only logits can be learned from). dev: rows with labels, and
    dev_texts: rows without, to choose the best epoch by. cache: a folder for the teacher's outputs.
    """

    description = "distillation"
    options: DistillOptions
    position_class = EpochPosition
    position: EpochPosition

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        teacher: Any,
        data: Encoded,
        labels: NDArray[Any] | None = None,
        options: DistillOptions | None = None,
        out: str | Path | None = None,
        *,
        dev: Encoded | None = None,
        dev_texts: Encoded | None = None,
        teacher_data: Encoded | None = None,
        cache: str | Path | None = None,
        progress: bool | None = None,
        resume: bool = False,
        ranks: Any = None,
    ) -> None:
        o = options or DistillOptions()
        o.check()
        if len(data) == 0:
            raise TrainError("there is nothing to train on: no texts")
        self.data, self.dev_set = data, dev
        self._prepare_losses(model, teacher, o, teacher_data is not None)
        self.masker = Masker.of(tokenizer, int(model.config.vocab_size)) if self.masked else None
        self.labels = labels if self.wanted.logits else None
        self.labelled = np.zeros(len(data), bool)
        if self.labels is not None:
            known = self.labels >= 0 if self.labels.ndim == 1 else ~np.isnan(self.labels).any(axis=1)
            self.labelled = np.asarray(known)
        self.teacher = Teacher(teacher, teacher_data or data, self.teacher_wanted, cache, o.cache_dtype, progress)
        self.dev_texts = dev_texts
        self._dev_teacher = Teacher(teacher, dev_texts, self.teacher_wanted) if dev_texts is not None else None
        self.steps_per_epoch = -(-len(data) // (o.batch_size * o.accumulate))
        super().__init__(model, tokenizer, o, self.steps_per_epoch * o.epochs, out, progress, resume, ranks)

    def _prepare_losses(self, model: Any, teacher: Any, o: DistillOptions, other_tokens: bool) -> None:
        """Says which outputs of both models the losses need; TrainError where a loss cannot be."""
        s, t = model.core.config, teacher.core.config
        if (o.hidden or o.relations) and other_tokens:
            raise TrainError("hidden states and relations need the teacher's own vocabulary: learn from logits only")
        logits = o.logits > 0 and model.task == "sequence"
        if logits and (teacher.task != "sequence" or int(s["num_labels"]) != int(t["num_labels"])):
            raise TrainError("to learn from label scores the teacher must be a classifier of the student's labels")
        self.masked = o.logits > 0 and model.task == "mlm"
        if self.masked and (teacher.task != "mlm" or other_tokens):
            raise TrainError(
                "to learn from scores of masked tokens the teacher must be a masked language model of one vocabulary"
            )
        if not logits and not self.masked and not o.hidden and not o.relations:
            raise TrainError("there is nothing to learn from: give logits (of a classifier), hidden or relations a weight")
        layers = int(s["num_layers"]), int(t["num_layers"])
        self.hidden_map = layer_map(o.hidden_layers, *layers, 0) if o.hidden else {}
        self.relation_map = layer_map(o.relation_layers, *layers, 1) if o.relations else {}
        sides = sorted({_SIDES[c] for kind in o.relation_kinds for c in kind})
        self.wanted = Wanted(logits, tuple(sorted(self.hidden_map)), self._sides(sides, self.relation_map.keys()))
        self.teacher_wanted = Wanted(
            logits, tuple(sorted(set(self.hidden_map.values()))), self._sides(sides, set(self.relation_map.values()))
        )
        self.heads = self._relation_heads(o, model, teacher) if o.relations else 0
        widths = int(s["hidden_size"]), int(t["hidden_size"])
        self.projections = Projections(sorted(self.hidden_map) if widths[0] != widths[1] else [], *widths, o.seed)
        self.multi_label = getattr(model.config, "problem_type", None) == MULTI_LABEL

    @staticmethod
    def _sides(sides: list[str], layers: Any) -> tuple[Key, ...]:
        return tuple((side, layer) for layer in sorted(layers) for side in sides)

    @staticmethod
    def _relation_heads(o: DistillOptions, model: Any, teacher: Any) -> int:
        widths = [width for m in (model, teacher) for width in projection_widths(m).values()]
        s, t = model.core.config, teacher.core.config
        for heads in (o.relation_heads,) if o.relation_heads else (int(t["num_heads"]), int(s["num_heads"])):
            if all(width % heads == 0 for width in widths):
                return heads
        raise TrainError(
            f"relation_heads: widths of {min(widths)} and {max(widths)} cannot be cut into {o.relation_heads or t['num_heads']} "
            "heads; give a number that divides both"
        )

    # ---------------------------------------------------------------- steps

    def _parts(self, step: int) -> list[Part]:
        o = self.options
        rows = self._rows(step, len(self.data), o.batch_size * o.accumulate)
        parts = []
        for start in list(range(0, len(rows), o.batch_size))[self.ranks.rank :: self.ranks.size]:
            part = rows[start : start + o.batch_size]
            tokens = int((self.data.row_splits[part + 1] - self.data.row_splits[part]).sum())
            for masked in (False, True):
                if self.masked if masked else self.wanted.outputs():
                    parts.append(Part({"rows": part, "start": start, "masked": masked}, len(part) / len(rows), tokens))
        return parts

    def _loss(self, part: Part) -> tuple[Any, Any]:
        rows, start = part.arguments["rows"], part.arguments["start"]
        texts = self.data.take(rows)
        if part.arguments["masked"]:
            return self._masked_loss(texts, start, self.position.step, True)
        done, found = run_taps(
            self.model, texts, self.wanted, save=True, training=True, seed=self.options.seed, step=self.position.step,
            samples=np.arange(start, start + len(rows), dtype=np.uint32),
        )  # fmt: skip
        labels = self.labels[rows] if self.labels is not None else None
        value, taps = self.losses(found, self.teacher.take(rows), texts.row_splits, labels, self.labelled[rows])
        return GradientLoss(value, lambda scale: self._back(done, taps, scale)), done

    def _masked_loss(self, texts: Encoded, start: int, step: int, training: bool) -> tuple[GradientLoss, Any]:
        """Of masked tokens, the mean: the teacher's scores (it reads the same masked text), and which token it was."""
        o, core = self.options, self.model.core
        assert self.masker is not None
        masked = self.masker(texts.ids, texts.row_splits, None, np.arange(start, start + len(texts)), o.seed, step)
        ids, labels = masked.ids, masked.labels
        places = np.flatnonzero(labels >= 0).astype(np.int32)
        options: dict[str, Any] = {}
        if training:  # another place in the random stream than the same texts unmasked
            samples = np.arange(1 << 30, (1 << 30) + len(texts), dtype=np.uint32) + np.uint32(start)
            options = {"training": True, "seed": o.seed, "step": step, "samples": samples}
        batch = Batch.packed(self.model._rules, new_packed(ids, texts.row_splits))
        arguments = batch.ids, batch.row_splits, batch.positions, batch.types
        done = core.forward(*arguments, rows=places, save=training, **options)
        theirs = self.teacher.model.core.forward(*arguments, rows=places, save=False).logits
        total, gradient = 0.0, np.zeros(done.logits.shape, np.float32)
        share = o.label_share if training else 0.0
        for a in range(0, len(places), _ROWS):
            b = min(a + _ROWS, len(places))
            soft, slope = softmax_kl(done.logits[a:b], theirs[a:b], o.temperature)
            if share:
                hard, other = cross_entropy(done.logits[a:b], labels[places[a:b]])
                soft, slope = (1 - share) * soft + share * hard, (1 - share) * slope + share * other
            total += float(soft.sum())
            gradient[a:b] = slope
        weight = o.logits / max(1, len(places))

        def send(scale: float) -> None:
            if len(places):
                done.backward(logits=gradient * np.float32(scale * weight))

        return GradientLoss(weight * total, send), done

    def losses(
        self,
        student: dict[Key, NDArray[Any]],
        teacher: dict[Key, NDArray[Any]],
        row_splits: NDArray[np.int64],
        labels: NDArray[Any] | None,
        labelled: NDArray[np.bool_],
    ) -> tuple[float, dict[Key, NDArray[np.float64]]]:
        """(the loss of a batch, its gradients at the student's outputs and, as ("projection", layer), at the projections)."""
        value, taps = 0.0, {}
        if self.wanted.logits:
            value, taps["logits", 0] = self._logit_loss(student["logits", 0], teacher["logits", 0], labels, labelled)
        lengths = np.diff(row_splits)
        token_weight = np.repeat(1.0 / (np.maximum(lengths, 1) * len(lengths)), lengths)
        for layer, theirs in self.hidden_map.items():
            weight = self.options.hidden / len(self.hidden_map)
            h, target = student["hidden", layer], teacher["hidden", theirs]
            w = self.projections.weights.get(layer)
            losses, gradient = mean_square(h if w is None else product(h, w), target)
            value += weight * float((losses * token_weight).sum())
            gradient *= (weight * token_weight)[:, None]
            if w is not None:
                taps["projection", layer] = product(np.asarray(h).T, gradient)
                gradient = product(gradient, w.T)
            taps["hidden", layer] = gradient
        if self.relation_map:
            value += self._relation_loss(taps, student, teacher, row_splits)
        return value, taps

    def _logit_loss(
        self, student: NDArray[Any], teacher: NDArray[Any], labels: NDArray[Any] | None, labelled: NDArray[np.bool_]
    ) -> tuple[float, NDArray[np.float64]]:
        o = self.options
        soft, gradient = (multi_label_kl if self.multi_label else softmax_kl)(student, teacher, o.temperature)
        rows = np.flatnonzero(labelled)
        if labels is not None and len(rows) and o.label_share:
            hard, slope = cross_entropy(student[rows], labels[rows])
            soft[rows] += o.label_share * (hard - soft[rows])
            gradient[rows] += o.label_share * (slope - gradient[rows])
        scale = o.logits / len(soft)
        return scale * float(soft.sum()), gradient * scale

    def _relation_loss(
        self, taps: dict[Key, Any], student: dict[Key, Any], teacher: dict[Key, Any], row_splits: NDArray[np.int64]
    ) -> float:
        o, value = self.options, 0.0
        weight = o.relations / (len(self.relation_map) * len(o.relation_kinds) * (len(row_splits) - 1))
        spans = [(a, b) for a, b in zip(row_splits[:-1].tolist(), row_splits[1:].tolist(), strict=True) if b > a]
        jobs = [(layer, kind, span) for layer in self.relation_map for kind in o.relation_kinds for span in spans]

        def one(job: tuple[int, str, tuple[int, int]]) -> tuple[float, NDArray[Any], NDArray[Any]]:
            layer, kind, (begin, end) = job
            a, b = _SIDES[kind[0]], _SIDES[kind[1]]
            ours, theirs = (
                (x[a, n][begin:end], x[b, n][begin:end]) for x, n in ((student, layer), (teacher, self.relation_map[layer]))
            )
            return relation_kl(ours, theirs, self.heads)

        with ExitStack() as stack:
            run: Any = map
            if max((b - a for a, b in spans), default=0) > 64:  # long texts are worth a thread; the sums keep their order
                run = stack.enter_context(ThreadPoolExecutor(native.num_threads())).map
            for (layer, kind, (begin, end)), (loss, da, db) in zip(jobs, run(one, jobs), strict=True):
                value += weight * loss
                for side, gradient in ((_SIDES[kind[0]], da), (_SIDES[kind[1]], db)):
                    total = taps.setdefault((side, layer), np.zeros(student[side, layer].shape))
                    total[begin:end] += weight * gradient
        return value

    def _back(self, done: Any, taps: dict[Key, NDArray[np.float64]], scale: float) -> None:
        sent: dict[str, Any] = {"hidden": {}, "projection": {}}
        for (name, layer), gradient in taps.items():
            if name == "projection":
                self.projections.gradients[layer] += scale * gradient
                continue
            array = np.ascontiguousarray(gradient * scale, np.float32)
            if name == "logits":
                sent["logits"] = array
            elif name == "hidden":
                sent["hidden"][layer] = array
            else:
                sent["projection"][layer - 1, name] = array
        done.backward(**{name: value for name, value in sent.items() if name == "logits" or value})

    def _step(self) -> dict[str, Any]:
        o = self.options
        record = {"epoch": self.position.step // self.steps_per_epoch + 1, **super()._step()}
        for layer, gradient in self.projections.gradients.items():
            if self.ranks.size > 1:
                total = np.array(self.ranks.sum(gradient.reshape(-1).tolist()))
                self.projections.gradients[layer] = total.reshape(gradient.shape)
        self.projections.step(record["lr"], o.weight_decay, o.clip)
        self.position.batch += 1
        self.position.epoch_loss += record["loss"]
        return record

    # ---------------------------------------------------------------- evaluation and checkpoints

    def distance(self, data: Encoded, teacher: Teacher) -> float:
        """The loss on texts that are not trained on, without dropout and without labels."""
        total = 0.0
        for start in range(0, len(data), self.options.eval_batch_size):
            rows = np.arange(start, min(start + self.options.eval_batch_size, len(data)))
            texts = data.take(rows)
            if self.wanted.outputs():
                _, found = run_taps(self.model, texts, self.wanted)
                value, _ = self.losses(found, teacher.take(rows), texts.row_splits, None, np.zeros(len(rows), bool))
                total += value * len(rows)
            if self.masked:
                total += self._masked_loss(texts, start, (1 << 32) - 1, False)[0].item() * len(rows)
        return total / len(data)

    def _after_step(self, record: dict[str, Any], bar: Progress, log: Any) -> None:
        o, at = self.options, self.position
        if at.step % self.steps_per_epoch:
            return
        entry: dict[str, Any] = {
            "epoch": at.step // self.steps_per_epoch,
            "step": at.step,
            "train_loss": at.epoch_loss / at.batch,
        }
        value, report = None, {}
        if self.dev_texts is not None and self._dev_teacher is not None:
            entry["distance"] = self.distance(self.dev_texts, self._dev_teacher)
            value = -entry["distance"]
        if self.dev_set is not None and self.model.task == "sequence":
            report = evaluate_encoded(self.model, self.dev_set, o.eval_batch_size)
            entry.update({k: report[k] for k in ("accuracy", "macro_f1")})
            if o.metric != "loss" or value is None:
                value = report["macro_f1" if o.metric == "loss" else o.metric]
        at.batch, at.epoch_loss = 0, 0.0
        self._record(entry, value, report, bar, log)
        best = at.best["step"] if at.best else at.step
        at.stopped = value is not None and 0 < o.patience <= (at.step - best) // self.steps_per_epoch
        self._save()

    def _more_tensors(self) -> dict[str, F32]:
        return self.projections.state()

    def _take_tensors(self, tensors: dict[str, F32]) -> None:
        self.projections.take(tensors)

    def _identity(self) -> dict[str, Any]:
        return {
            "the texts, their labels or the tokenizer": self._data_digest(),
            "the dev data": " ".join(d.digest() for d in (self.dev_set, self.dev_texts) if d is not None),
            "the teacher": self.teacher.digest,
            "whether the teacher's outputs are cached": self.teacher.folder is not None,
        }

    def _data_digest(self) -> str:
        digest = hashlib.sha256(f"{self.data.digest()} {self.teacher.data.digest()}".encode())
        digest.update(b"" if self.labels is None else np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


# -------------------------------------------------------------------- from folders


def student_of(teacher: Any, layers: int | Sequence[int]) -> Any:
    """A student that starts as every so-manieth layer of the teacher, with all the rest of it.

    layers: how many, evenly spread with the last one among them, or their numbers from 1. TrainError for what does not exist.
    """
    config = teacher.config
    count = int(config.num_hidden_layers)
    numbers = [round((i + 1) * count / layers) for i in range(layers)] if isinstance(layers, int) else list(layers)
    if not numbers or not all(1 <= n <= count for n in numbers):
        raise TrainError(f"layers {layers}: the teacher has 1..{count}")
    fields = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "architectures", "num_labels")}
    fields["num_hidden_layers"] = len(numbers)
    fields["name_or_path"] = ""
    student = type(teacher)(type(config)(**fields), add_pooling_layer=teacher._pooler)
    theirs = dict(teacher.named_parameters())
    state = {}
    for name, parameter in student.named_parameters():
        source = re.sub(r"\blayer\.(\d+)\.", lambda m: f"layer.{numbers[int(m[1])] - 1}.", name)
        state[name] = np.array(theirs[source].data)
        if state[name].shape != parameter.shape:
            raise TrainError(f"the teacher's {source} does not fit the student")
    student.load_state_dict(state)
    return student


def _load(folder: str | Path, kind: str) -> tuple[Any, Any]:
    """kind: "classifier", "mlm" or "encoder"."""
    import govlm

    if not model_folder(folder).is_dir():
        raise TrainError(f"{folder}: no such model folder")
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(folder))
    if kind != "encoder":
        return _class_of(kind).from_pretrained(str(folder)), tokenizer
    return govlm.AutoModel.from_pretrained(str(folder), add_pooling_layer=False), tokenizer


def _class_of(kind: str) -> Any:
    import govlm

    return govlm.AutoModelForSequenceClassification if kind == "classifier" else govlm.AutoModelForMaskedLM


def _kind_of(folder: str | Path, logits: bool) -> str:
    """What a folder teaches: "classifier" by its labels, "mlm" by its scores of masked tokens, or "encoder"."""
    import govlm

    if not model_folder(folder).is_dir():
        raise TrainError(f"{folder}: no such model folder")
    names = " ".join(govlm.AutoConfig.from_pretrained(str(folder)).architectures or [])
    if "ForSequenceClassification" in names:
        return "classifier"
    return "mlm" if logits and "ForMaskedLM" in names else "encoder"


def _student(source: str | Path | int, teacher: Any, tokenizer: Any, kind: str, seed: int) -> tuple[Any, Any]:
    """(student, its tokenizer): layers of the teacher (a number), a folder, or a config.json with the teacher's vocabulary."""
    import json

    import govlm
    from govlm.optim import set_seed
    from govlm.train.source import load_encoder, load_model

    if isinstance(source, int):
        set_seed(seed)
        return student_of(teacher, source), tokenizer
    if Path(source).is_file():
        set_seed(seed)
        try:
            values = json.loads(Path(source).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise TrainError(f"{source}: not a JSON config: {error}") from None
        values = {k: v for k, v in values.items() if k not in ("architectures", "num_labels")}
        values = {"model_type": "bert", **values, "vocab_size": int(teacher.config.vocab_size)}
        if kind == "classifier":
            values.update({k: getattr(teacher.config, k) for k in ("id2label", "label2id", "problem_type")})
        if kind != "encoder":
            return _class_of(kind).from_config(govlm.AutoConfig.for_model(**values)), tokenizer
        return govlm.AutoModel.from_config(govlm.AutoConfig.for_model(**values), add_pooling_layer=False), tokenizer
    if kind == "mlm":
        return _load(source, kind)
    if kind == "classifier":
        multi = teacher.config.problem_type == MULTI_LABEL
        return load_model(source, label_names(teacher.config), multi, None, seed)
    return load_encoder(source, None, seed)


def distill(
    teacher: str | Path,
    student: str | Path | int,
    *,
    out: str | Path,
    train: str | Path | None = None,
    texts: Sequence[str] = (),
    dev: str | Path | None = None,
    text_field: str | tuple[str, str] = "text",
    label_field: str = "label",
    data_format: str | None = None,
    held_out: int = 0,
    cache: str | Path | None = None,
    options: DistillOptions | None = None,
    resume: bool = False,
    progress: bool | None = None,
    ranks: Any = None,
) -> dict[str, Any]:
    """Distils `teacher` (a folder) into `student` and writes it to `out`, ready for `from_pretrained`.

    student: a folder, a config.json (random start, the teacher's vocabulary), or how many of the teacher's layers it starts
    with. A classifier is taught with its labels: train and dev are labelled files, texts are more texts without. Another
    encoder is taught on texts alone; a masked language model keeps its head while options.logits is above 0. held_out: so many
    of the texts are kept aside to measure on. cache: a folder for the teacher's outputs. Returns the trainer's result with "teacher" and "rows". Errors: TrainError, DataError, OSError.
    """
    options = options or DistillOptions()
    options.check()
    kind = _kind_of(teacher, options.logits > 0)
    large, tokenizer = _load(teacher, kind)
    if kind == "classifier" and getattr(large.config, "ngrams", None):
        raise TrainError(
            f"{teacher} answers with its n-gram branch, which a student cannot learn from here: train the teacher without it "
            "(govlm finetune --no-ngrams)"
        )
    if (train is not None or dev is not None) and kind != "classifier":
        raise TrainError(f"{teacher} is no classifier: give texts without labels")
    small, own = _student(student, large, tokenizer, kind, options.seed)
    examples = list(read_examples(train, text_field, label_field, data_format)) if train is not None else []
    names, multi = label_names(large.config), large.config.problem_type == MULTI_LABEL
    limit = min(options.max_length or 10**9, *(int(m.config.max_position_embeddings or 512) for m in (large, small)))
    unlabelled = list(texts)[held_out:]
    data, labels = _encode(small, own, examples, unlabelled, names, multi, limit, str(train))
    same = own.get_vocab() == tokenizer.get_vocab()
    teacher_data = None if same else _encode(large, tokenizer, examples, unlabelled, names, multi, limit, str(train))[0]
    dev_set = None
    if dev is not None:
        dev_set = encode(
            small, own, list(read_examples(dev, text_field, label_field, data_format)), names, multi, limit, str(dev)
        )
    aside = encode_texts(small, own, list(texts)[:held_out], limit) if held_out else None
    if aside is not None and not same:
        raise TrainError("held_out needs a student with the teacher's vocabulary")
    trainer = DistillTrainer(
        small, own, large, data, labels, options, out, dev=dev_set, dev_texts=aside, teacher_data=teacher_data, cache=cache,
        progress=progress, resume=resume, ranks=ranks,
    )  # fmt: skip
    result = trainer.train()
    if dev_set is not None and dev is not None:
        examples = list(read_examples(dev, text_field, label_field, data_format))
        result["teacher"] = evaluate_encoded(large, encode(large, tokenizer, examples, names, multi, limit, str(dev)))
    result.update(rows=len(data), labelled=int(trainer.labelled.sum()), out=str(out))
    return result


def _encode(
    model: Any,
    tokenizer: Any,
    examples: list[Example],
    texts: list[str],
    names: list[str],
    multi: bool,
    limit: int,
    source: str,
) -> tuple[Encoded, NDArray[Any] | None]:
    """Labelled rows, then texts: (their ids, labels with -1 or NaN for the texts)."""
    both = encode_texts(model, tokenizer, [*(e.text for e in examples), *texts], limit)
    both.names = names
    if not examples:
        return both, None
    known = encode(model, tokenizer, examples, names, multi, limit, source).labels
    assert known is not None
    if multi:
        return both, np.concatenate([known, np.full((len(texts), len(names)), np.nan, np.float32)])
    return both, np.concatenate([known, np.full(len(texts), -1, np.int64)])
