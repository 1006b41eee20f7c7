"""Fine-tuning of models that write: causal ones on instructions, sequence-to-sequence ones on sources and targets, whole or by LoRA.

The loss is the mean over the tokens of the answers. Beside it the report has the perplexity of the answers and ROUGE-L of what the
model writes greedily for the first rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm.train.evaluate import new_packed
from govlm.train.finetune import Options, Trainer
from govlm.train.loop import Part, TrainError
from govlm.train.masking import IGNORED
from govlm.train.rouge import rouge
from govlm.train.source import load_writer
from govlm.train.written import Written, end_id

__all__ = ["WritingOptions", "WritingTrainer", "evaluate_written", "padded", "write_answers", "writer_of"]


@dataclass
class WritingOptions(Options):
    """What a run can be told, as for classification, without class weights and n-grams."""

    metric: str = "loss"
    ngrams: bool = False
    max_length: int | None = 512  # tokens of a row (of a source)
    max_target: int | None = None  # tokens of a target; None = as max_length
    max_new_tokens: int = 64  # that the model may write for an evaluation
    written: int = 50  # rows for which it writes; 0 = none, and no ROUGE
    lora_r: int = 0  # rank of the adapter; 0 = all weights are trained
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_target: tuple[str, ...] = ()  # names of layers; () = what PEFT takes for the family

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "rouge_l")

    def _rules(self) -> list[tuple[str, bool, str]]:
        return [
            *super()._rules(),
            ("max_target", self.max_target is None or self.max_target >= 2, "2 or more"),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("written", self.written >= 0, "0 or more"),
            ("metric", self.metric == "loss" or self.written > 0, "loss where nothing is written (written = 0)"),
            ("lora_r", self.lora_r >= 0, "0 or more"),
            ("lora_alpha", self.lora_alpha > 0, "above 0"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more and below 1"),
        ]


def writer_of(source: str | Path, vocab: str | Path | None, options: WritingOptions) -> tuple[Any, Any]:
    """(model, tokenizer) of a folder, a .gguf file or a config: with an adapter to train where the options want one."""
    model, tokenizer = load_writer(source, vocab, options.seed)
    if options.lora_r:
        from govlm.adapters import LoraConfig

        targets = list(options.lora_target) or None
        model.add_adapter(
            LoraConfig(
                r=options.lora_r, lora_alpha=options.lora_alpha, lora_dropout=options.lora_dropout, target_modules=targets,
                task_type="SEQ_2_SEQ_LM" if _two_stacks(model) else "CAUSAL_LM",
            )
        )  # fmt: skip
    elif model.quantised:
        raise TrainError(f"{source} is held in few bits: train an adapter on it (--lora-r 8), or the float32 model")
    return model, tokenizer


class WritingTrainer(Trainer):
    """Trains a model with a head over the vocabulary on `encode_written` rows; the rest as in Trainer."""

    train_set: Any
    dev_set: Any
    options: WritingOptions
    report_keys: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "rouge_l")

    def _weigh(self) -> None:
        if self.options.class_weights:
            raise TrainError("class weights are for texts with one label")

    def _parts(self, step: int) -> list[Part]:
        o, data = self.options, self.train_set
        rows = self._rows(step, len(data), o.batch_size * o.accumulate)
        counts = np.array([_asked(self.model, data, int(r)) for r in rows])
        total = max(1, int(counts.sum()))
        parts = []
        for start in list(range(0, len(rows), o.batch_size))[self.ranks.rank :: self.ranks.size]:
            part = rows[start : start + o.batch_size]
            arguments, tokens = _arguments(self.model, data, part)
            arguments["samples"] = np.arange(start, start + len(part), dtype=np.uint32)
            parts.append(Part(arguments, int(counts[start : start + len(part)].sum()) / total, tokens))
        return parts

    def _report(self) -> dict[str, Any]:
        o = self.options
        return evaluate_written(self.model, self.tokenizer, self.dev_set, o.eval_batch_size, o.written, o.max_new_tokens)


def _two_stacks(model: Any) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _asked(model: Any, data: Written, row: int) -> int:
    """Tokens of a row that the model is asked for: what a causal one is asked first stands nowhere."""
    labels = data.row(row)[1]
    return int((labels if _two_stacks(model) else labels[1:]).size - (labels[1:] == IGNORED).sum())


def _arguments(model: Any, data: Written, rows: Sequence[int] | NDArray[np.int64]) -> tuple[dict[str, Any], int]:
    """(arguments of the model's call without samples, tokens that it reads and writes)"""
    found = [data.row(int(r)) for r in rows]
    if _two_stacks(model):
        ids, mask = padded([ids for ids, _ in found], 0)
        labels, _ = padded([labels for _, labels in found], IGNORED)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}, int(mask.sum() + (labels != IGNORED).sum())
    splits = np.cumsum([0, *(len(ids) for ids, _ in found)]).astype(np.int64)
    packed = new_packed(np.concatenate([ids for ids, _ in found]), splits)
    return {"packed": packed, "labels": np.concatenate([labels for _, labels in found])}, int(splits[-1])


def padded(rows: Sequence[NDArray[Any]], fill: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """([B, S], mask)"""
    width = max((len(row) for row in rows), default=0)
    values, mask = np.full((len(rows), width), fill, np.int64), np.zeros((len(rows), width), np.int64)
    for place, row in enumerate(rows):
        values[place, : len(row)], mask[place, : len(row)] = row, 1
    return values, mask


def evaluate_written(
    model: Any, tokenizer: Any, data: Written, batch_size: int = 64, written: int = 50, max_new_tokens: int = 64
) -> dict[str, Any]:
    """{"loss" a token of the answers, "perplexity", "rouge_l" of what is written for the first `written` rows, "count" of rows}."""
    from govlm import no_grad

    training = model.training
    model.eval()
    try:
        total, count = 0.0, 0
        with no_grad():
            for begin in range(0, len(data), batch_size):
                rows = range(begin, min(begin + batch_size, len(data)))
                asked = sum(_asked(model, data, r) for r in rows)
                if asked:
                    total += float(model(**_arguments(model, data, rows)[0]).loss.item()) * asked
                    count += asked
        loss = total / max(count, 1)
        report: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "count": len(data)}
        if written:
            texts = write_answers(model, tokenizer, data, min(written, len(data)), max_new_tokens, batch_size)
            scores = [rouge(text, wanted).longest for text, wanted in zip(texts, data.references, strict=False)]
            report["rouge_l"] = float(np.mean(scores)) if scores else 0.0
        return report
    finally:
        model.train(training)


def write_answers(
    model: Any, tokenizer: Any, data: Written, count: int, max_new_tokens: int = 64, batch_size: int = 64
) -> list[str]:
    """What the model writes, greedily, for the first `count` rows in place of their last answers."""
    texts: list[str] = []
    seq2seq = _two_stacks(model)
    pad = getattr(tokenizer, "pad_token_id", None)
    options = {
        "max_new_tokens": max_new_tokens,
        "eos_token_id": end_id(tokenizer),
        "pad_token_id": pad if pad is not None else end_id(tokenizer),
    }
    for begin in range(0, count, batch_size):
        numbers = range(begin, min(begin + batch_size, count))
        rows = [data.row(n)[0] if seq2seq else data.row(n)[0][: data.prompts[n]] for n in numbers]
        if seq2seq:
            ids, mask = padded(rows, 0)
            made = model.generate(ids, attention_mask=mask, **options)
            texts += tokenizer.batch_decode(made, skip_special_tokens=True)
            continue
        for row in rows:  # of a text that is learned whole there is no prompt: it is written from the end token
            prompt = row if len(row) else np.array([end_id(tokenizer)], np.int32)
            made = model.generate(prompt[None].astype(np.int64), **options)
            texts.append(tokenizer.decode(made[0][len(prompt) :], skip_special_tokens=True))
    return texts
