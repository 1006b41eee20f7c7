"""Fine-tuning of models that write: answers to instructions (causal models), and summaries (encoder-decoders too).

The validation rows give loss and perplexity of the answers, and ROUGE-L of answers that the model generates greedily.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from govlm.train.evaluate import new_packed
from govlm.train.finetune import Options, Plan, Trainer
from govlm.train.instructions import (
    Conversation,
    Written,
    encode_causal,
    encode_pairs,
    read_conversations,
    read_pairs,
)
from govlm.train.language import padded
from govlm.train.loop import Part, TrainError
from govlm.train.rouge import rouge_l

__all__ = ["INSTRUCTION", "WritingOptions", "WritingTrainer", "answers", "evaluate_written", "plan"]

INSTRUCTION = "概括下面的内容：{source}"  # how a causal model is asked for a summary


@dataclass
class WritingOptions(Options):
    """What a run of --task generate or summarise can be told. max_length: tokens of a row (of an encoder-decoder: of its source)."""

    batch_size: int = 8
    eval_batch_size: int = 16
    metric: str = "loss"  # loss or rouge_l
    ngrams: bool = False
    max_new_tokens: int = 64  # of an answer, generated or (of an encoder-decoder) learnt
    generate_rows: int = 200  # validation rows whose answers are generated, the first ones; 0 = none
    instruction: str = (
        ""  # with {source}: what a source is put into; "" = INSTRUCTION for a causal model, else the source alone
    )
    lora_r: int = 0  # rank of an adapter that is trained in place of the model's own weights; 0 = off
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_target: str = ""  # names of layers with commas between, or all-linear; "" = PEFT's choice for the family

    _UNCOMPARED: ClassVar[tuple[str, ...]] = (*Options._UNCOMPARED,)
    METRICS: ClassVar[tuple[str, ...]] = ("rouge_l", "loss")

    def _rules(self) -> list[tuple[str, bool, str]]:
        return [
            *super()._rules(),
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("generate_rows", self.generate_rows >= 0, "0 or more"),
            ("generate_rows", self.metric != "rouge_l" or self.generate_rows > 0, "above 0 where the metric is rouge_l"),
            ("instruction", not self.instruction or "{source}" in self.instruction, "a text with {source}"),
            ("lora_r", self.lora_r >= 0, "0 or more"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "in [0, 1)"),
        ]


# -------------------------------------------------------------------- evaluation


def answers(model: Any, prompts: list[NDArray[np.int32]], most: int, batch_size: int, **asked: Any) -> list[NDArray[np.int64]]:
    """What the model writes after each prompt (of an encoder-decoder: to each source), ids without those of the prompt: greedily, or
    as generate is `asked` to."""
    seq2seq = model.config.__dict__.get("is_encoder_decoder", False)
    limit = None if seq2seq else model.config.__dict__.get("max_position_embeddings")
    found: list[NDArray[np.int64]] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        lengths = np.array([len(prompt) for prompt in part])
        width = int(lengths.max())
        mask = np.arange(width)[None] >= width - lengths[:, None]  # padding on the left
        ids = np.zeros(mask.shape, np.int64)
        ids[mask] = np.concatenate(part)
        room = most if not limit else max(1, min(most, int(limit) - width))
        written = model.generate(
            ids, attention_mask=mask.astype(np.int64), max_new_tokens=room, **{"do_sample": False, **asked}
        )
        found += list(np.asarray(written)[:, 1 if seq2seq else width :])
    return found


def evaluate_written(model: Any, tokenizer: Any, data: Written, options: WritingOptions) -> dict[str, Any]:
    """{"loss", "perplexity", "tokens"} of what is to be learnt in the rows, and where they have answers and some are to be
    generated "rouge_l" with "generated", how many. Dropout is off; the model's mode is put back afterwards."""
    import govlm

    training = model.training
    model.eval()
    try:
        total, count = 0.0, 0
        with govlm.no_grad():
            for start in range(0, len(data), options.eval_batch_size):
                rows = np.arange(start, min(start + options.eval_batch_size, len(data)))
                tokens = int(data.counts(rows).sum())
                total += model(**arguments(data, rows)).loss.item() * tokens
                count += tokens
        loss = total / max(count, 1)
        report: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": count}
        some = min(options.generate_rows, len(data.prompts))
        if some:
            written = answers(model, data.prompts[:some], options.max_new_tokens, options.eval_batch_size)
            texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
            report["rouge_l"] = float(np.mean([rouge_l(t, r) for t, r in zip(texts, data.references, strict=False)]))
            report["generated"] = some
        return report
    finally:
        model.train(training)


def arguments(data: Written, rows: NDArray[np.int64]) -> dict[str, Any]:
    """The arguments of the model's call on these rows; causal rows are packed, none sees another."""
    pairs = [data.pair(int(row)) for row in rows]
    if data.label_splits is not None:
        return padded(pairs)
    splits = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in pairs])]).astype(np.int64)
    return {
        "packed": new_packed(np.concatenate([ids for ids, _ in pairs]), splits),
        "labels": np.concatenate([labels for _, labels in pairs]),
    }


# -------------------------------------------------------------------- training


class WritingTrainer(Trainer):
    """Trains a ...ForCausalLM or a T5 on encoded rows; the rest as in Trainer."""

    train_set: Any
    dev_set: Any
    options: WritingOptions
    report_keys: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "rouge_l")

    def _weigh(self) -> None:
        if self.options.class_weights:
            raise TrainError("class weights are for texts with one label, not for models that write")

    def _parts(self, step: int) -> list[Part]:
        o, data = self.options, self.train_set
        rows = self._rows(step, len(data), o.batch_size * o.accumulate)
        counts = data.counts(rows)
        parts = []
        for start in list(range(0, len(rows), o.batch_size))[self.ranks.rank :: self.ranks.size]:
            part = rows[start : start + o.batch_size]
            share = float(counts[start : start + len(part)].sum() / counts.sum())
            given = arguments(data, part) | {"samples": np.arange(start, start + len(part), dtype=np.uint32)}
            tokens = sum(
                len(ids) + (len(labels) if data.label_splits is not None else 0) for ids, labels in map(data.pair, part)
            )
            parts.append(Part(given, share, tokens))
        return parts

    def _report(self) -> dict[str, Any]:
        report = evaluate_written(self.model, self.tokenizer, self.dev_set, self.options)
        if self.options.metric not in report:
            raise TrainError("the metric rouge_l needs validation rows with answers: plain texts have none")
        return {"rouge_l": None, **report}


def add_lora(model: Any, options: WritingOptions) -> None:
    """Freezes the model beside a fresh adapter, where the options ask for one."""
    if not options.lora_r:
        return
    from govlm.adapters import LoraConfig

    target = options.lora_target.strip()
    model.add_adapter(
        LoraConfig(
            r=options.lora_r,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=None if not target else target if target == "all-linear" else [t.strip() for t in target.split(",")],
        )
    )


def plan(
    task: str,
    train: str | Path,
    dev: str | Path | None,
    model: str | Path,
    vocab: str | Path | None,
    options: WritingOptions,
    fields: tuple[str, str],
    data_format: str | None,
) -> Plan:
    """What the tasks generate and summarise make of their files."""
    from govlm.train.source import load_writer

    def read(path: str | Path) -> list[Any]:
        if task == "summarise":
            return read_pairs(path, *fields, data_format)
        return read_conversations(path, data_format)

    def fresh() -> tuple[Any, Any]:
        if options.lora_r and Path(model).is_file() and Path(model).suffix != ".gguf":
            raise TrainError(f"{model}: an adapter needs a trained model under it, in a folder or a .gguf file")
        network, tokenizer = load_writer(model, vocab, options.seed)
        add_lora(network, options)
        return network, tokenizer

    def rows(network: Any, tokenizer: Any, part: list[Any], source: str) -> Written:
        seq2seq = bool(network.config.__dict__.get("is_encoder_decoder", False))
        limit = options.max_length or network.config.__dict__.get("max_position_embeddings") or 512
        if not seq2seq:
            limit = min(limit, network.config.__dict__.get("max_position_embeddings") or limit)
        if task == "summarise":
            frame = options.instruction or ("{source}" if seq2seq else INSTRUCTION)
            if seq2seq:
                asked = [(frame.replace("{source}", a), b) for a, b in part]
                return encode_pairs(tokenizer, asked, limit, options.max_new_tokens, source)
            return encode_causal(tokenizer, _asked(tokenizer, part, frame, limit - options.max_new_tokens), limit, source)
        if seq2seq:
            return encode_pairs(tokenizer, [_pair(row, source) for row in part], limit, options.max_new_tokens, source)
        return encode_causal(tokenizer, part, limit, source)

    train_rows = read(train)
    return Plan(train_rows, read(dev) if dev is not None else None, [], fresh, rows, WritingTrainer)


def _asked(tokenizer: Any, pairs: list[tuple[str, str]], frame: str, room: int) -> list[Conversation]:
    """Pairs as conversations; a source is cut so that it leaves room for the answer behind it."""
    if room < 1:
        raise TrainError("max_length leaves no room for a source beside max_new_tokens: raise the one, or lower the other")
    edge = len(tokenizer.encode(frame.replace("{source}", ""))) + 16  # what the template writes around it, too
    found = []
    for number, (source, target) in enumerate(pairs, 1):
        ids = tokenizer(source, add_special_tokens=False, return_offsets_mapping=True)
        offsets = ids["offset_mapping"]
        most = max(1, room - edge)
        kept = source if len(offsets) <= most else source[: offsets[most - 1][1]]
        messages = [{"role": "user", "content": frame.replace("{source}", kept)}, {"role": "assistant", "content": target}]
        found.append(Conversation(messages, None, number))
    return found


def _pair(row: Conversation, source: str) -> tuple[str, str]:
    """A conversation of one turn as a pair, for an encoder-decoder."""
    messages = row.messages or []
    if len(messages) != 2 or messages[0]["role"] != "user" or messages[1]["role"] != "assistant":
        raise TrainError(f"{source}:{row.line}: an encoder-decoder learns prompt and response; this row is not one of each")
    return messages[0]["content"], messages[1]["content"]
