"""`govlm finetune`, `evaluate`, `predict`: train a classifier, or a model that writes, and use it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from govlm.bundled import BUNDLED
from govlm.commands.common import (
    EPOCHS,
    UsageError,
    add_common,
    add_fields,
    add_training,
    emit,
    input_lines,
    make_options,
    positive,
    print_run,
    progress,
    set_threads,
    text_fields,
)

__all__ = ["register"]

# the options of models that write: flag -> (type, help)
WRITING: dict[str, tuple[Any, str]] = {
    "--source-field": (str, "summarise: field with the text (source)"),
    "--target-field": (str, "summarise: field with what to make of it (target)"),
    "--instruction": (str, "summarise: what a source is put into, with {source} (of causal models: 概括下面的内容：{source})"),
    "--max-new-tokens": (int, "tokens of an answer that is generated, or learnt by an encoder-decoder (64)"),
    "--generate-rows": (int, "validation rows whose answers are generated, for ROUGE-L, 0 = none (200)"),
    "--lora-r": (int, "train an adapter of this rank beside the frozen model, 0 = off (0)"),
    "--lora-alpha": (float, "its scale: alpha / r (16)"),
    "--lora-dropout": (float, "dropout of what it sees (0)"),
    "--lora-target": (str, "layers that it stands beside: names with commas, or all-linear (as PEFT for the family)"),
}


def _finetune(arguments: argparse.Namespace) -> int:
    from govlm.train.distributed import find_ranks, guarded
    from govlm.train.finetune import Options, finetune
    from govlm.train.metrics import format_per_class

    writes = arguments.task in ("generate", "summarise")
    if arguments.task == "tokens":
        from govlm.train.tokens import TokenOptions

        kind: type[Options] = TokenOptions
    elif writes:
        from govlm.train.writing import WritingOptions

        kind = WritingOptions
    else:
        kind = Options
    for name, flag in (("pattern", "--pattern"), ("label_words", "--label-words")):
        if getattr(arguments, name) is not None and not arguments.few_shot:
            raise UsageError(f"{flag} belongs to --few-shot")
    if arguments.few_shot and arguments.task != "classify":
        raise UsageError("--few-shot belongs to --task classify")
    for flag in WRITING if not writes else ():
        if getattr(arguments, flag[2:].replace("-", "_")) is not None:
            raise UsageError(f"{flag} belongs to --task generate and --task summarise")
    given: dict[str, Any] = {} if arguments.task == "classify" else {"ngrams": False}
    if arguments.task == "summarise" and arguments.metric is None:
        given["metric"] = "rouge_l"
    options = make_options(kind, arguments, **given)
    set_threads(arguments)
    ranks = find_ranks()
    with guarded(ranks):
        result = finetune(
            arguments.train,
            arguments.dev,
            model=arguments.model,
            out=arguments.out,
            task=arguments.task,
            text_field=arguments.text_field,
            label_field=arguments.label_field,
            data_format=arguments.format,
            vocab=arguments.vocab,
            options=options,
            refit=arguments.refit,
            few_shot=arguments.few_shot,
            pattern=arguments.pattern,
            label_words=arguments.label_words,
            source_field=arguments.source_field or "source",
            target_field=arguments.target_field or "target",
            resume=arguments.resume,
            progress=progress(arguments),
            ranks=ranks,
        )
    if ranks.rank != 0:
        return 0
    if arguments.json:
        emit(result)
        return 0
    print_run(f"{result['steps']} steps, {result['epochs']} epochs", result)
    if result["best"]:
        report = result["best"]["report"]
        print(f"best epoch {result['best']['epoch']}: {_figures(report)}" + ("" if writes else "\n"))
        if not writes:
            print(format_per_class(report) + "\n")
    if result["ngrams"]:
        size = result["ngrams"]["bytes"] / 1e6
        print(f"n-gram branch: {result['ngrams']['features']} hashed n-grams, {size:.1f} MB")
    if result["refit"]:
        again = result["refit"]
        print(
            f"trained again on train and dev rows, {again['rows']} in all: {again['epochs']} epochs, {again['seconds']:.1f} s"
        )
    print(f"model written to {result['out']}")
    return 0


def _figures(report: dict[str, Any]) -> str:
    if "perplexity" in report:
        rouge = "" if report["rouge_l"] is None else f", ROUGE-L {report['rouge_l']:.4f} of {report['generated']} answers"
        return f"loss {report['loss']:.4f}, perplexity {report['perplexity']:.3f}{rouge}"
    if "confusion" in report:
        return f"accuracy {report['accuracy']:.4f}, macro F1 {report['macro_f1']:.4f}"
    return f"precision {report['precision']:.4f}, recall {report['recall']:.4f}, micro F1 {report['micro_f1']:.4f}"


def _evaluate(arguments: argparse.Namespace) -> int:
    from govlm.train.evaluate import evaluate
    from govlm.train.metrics import format_confusion, format_per_class

    set_threads(arguments)
    report = evaluate(
        arguments.model,
        arguments.data,
        arguments.text_field,
        arguments.label_field,
        arguments.format,
        arguments.batch_size,
        arguments.max_length,
    )
    if arguments.json:
        emit(report)
        return 0
    print(format_per_class(report))
    if "micro_f1" not in report:
        print("\n" + format_confusion(report))
    print(f"\n{report['count']} rows: {_figures(report)}, loss {report['loss']:.4f}")
    return 0


def input_texts(arguments: argparse.Namespace) -> Iterator[Any]:
    """The texts to predict: plain lines, or a field of JSON lines (CSV and TSV files too)."""
    from govlm.data import DataError, read_examples

    path, field = arguments.file, arguments.text_field
    if field is None:
        yield from input_lines(path)
    elif path not in (None, "-"):
        for example in read_examples(path, field, None, arguments.format):
            yield example.text
    else:
        for number, line in enumerate(input_lines(None), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"standard input:{number}: not JSON: {error.msg} at column {error.colno}") from None
            names = (field,) if isinstance(field, str) else field
            texts = [row.get(name) if isinstance(row, dict) else None for name in names]
            for name, text in zip(names, texts, strict=True):
                if not isinstance(text, str):
                    raise DataError(f"standard input:{number}: field {name!r} is missing or no string")
            yield texts[0] if len(names) == 1 else tuple(texts)


def _predict(arguments: argparse.Namespace) -> int:
    from govlm.train.evaluate import Classifier, task_of

    set_threads(arguments)
    interactive = arguments.file in (None, "-") and sys.stdin.isatty()
    size = 1 if interactive else arguments.batch_size
    predictions: Iterator[Any]
    if task_of(arguments.model) == "tokens":
        from govlm.train.tokens import SpanFinder

        if isinstance(arguments.text_field, tuple):
            raise UsageError("--text-field takes one field where spans are to be found")
        predictions = SpanFinder.from_pretrained(arguments.model, arguments.max_length).find(input_texts(arguments), size)
    else:
        classifier = Classifier.from_pretrained(arguments.model, arguments.max_length)
        predictions = classifier.classify(input_texts(arguments), size)
    for prediction in predictions:
        row = prediction._asdict()
        if not arguments.scores:
            row.pop("scores", None)
        emit(row)
        if interactive:
            sys.stdout.flush()
    return 0


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    sub = command(
        "finetune", _finetune, "fine-tune a classifier of texts, or of spans in them, or a model that writes, on your own data"
    )
    sub.add_argument(
        "--task",
        default="classify",
        choices=("classify", "tokens", "generate", "summarise"),
        help="labels of texts, or of spans in them; answers to instructions, or summaries (classify)",
    )
    sub.add_argument(
        "--train",
        required=True,
        metavar="FILE",
        help="JSONL, CSV or TSV, plain, .gz or .xz; for tokens JSON with text and entities, or BIO columns; "
        "for generate prompt and response, messages, or text",
    )
    sub.add_argument("--dev", metavar="FILE", help="rows to choose the best epoch by")
    sub.add_argument(
        "--model", default=BUNDLED, metavar="DIR", help=f"pretrained folder, or a config.json for a random start ({BUNDLED})"
    )
    sub.add_argument("--vocab", metavar="FILE", help="vocab.txt for a config.json (the one beside it)")
    sub.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the trained model, checkpoints, log.jsonl, result.json"
    )
    add_fields(sub)
    numbers = sub.add_argument_group("training")
    add_training(numbers, EPOCHS, "5e-5; from random weights try 5e-4")
    numbers.add_argument(
        "--metric",
        choices=("macro_f1", "micro_f1", "accuracy", "loss", "rouge_l"),
        help="chooses the best epoch (macro_f1; tokens: micro_f1; generate: loss; summarise: rouge_l)",
    )
    numbers.add_argument("--class-weights", choices=("balanced",), help="rare classes weigh more")
    numbers.add_argument(
        "--refit",
        action=argparse.BooleanOptionalAction,
        help="with --dev: train once more on train and dev rows, for as many epochs as were best (yes; not of models that write)",
    )
    branch = sub.add_argument_group("n-gram branch (--task classify)")
    branch.add_argument(
        "--ngrams",
        action=argparse.BooleanOptionalAction,
        help="train a linear branch over hashed character n-grams beside the encoder (yes)",
    )
    branch.add_argument("--ngram-longest", type=int, metavar="N", help="characters an n-gram, from 1 (2)")
    branch.add_argument("--ngram-features", type=int, metavar="N", help="hashed n-grams that are kept (65536)")
    branch.add_argument("--ngram-c", type=float, metavar="C", help="what an error costs against large weights (1.0)")
    write = sub.add_argument_group("models that write (--task generate, summarise)")
    for flag, (type_of, text) in WRITING.items():
        write.add_argument(flag, type=type_of, metavar="N" if type_of is not str else "TEXT", help=text)
    few = sub.add_argument_group("few-shot (--task classify)")
    few.add_argument("--few-shot", action="store_true", help="the label is a word that the masked LM writes into a gap")
    few.add_argument("--pattern", metavar="P", help="sentence with {text} and {mask} ({text}。这条是关于{mask}的。)")
    few.add_argument("--label-words", metavar="FILE", help="JSON object from label to word, or words (the labels' names)")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    add_common(sub)

    sub = command("evaluate", _evaluate, "accuracy, F1 and confusions of a trained model on a file")
    sub.add_argument("--model", required=True, metavar="DIR")
    sub.add_argument("--data", required=True, metavar="FILE", help="JSONL, CSV or TSV with texts and labels")
    add_fields(sub)
    sub.add_argument("--batch-size", type=positive, default=64, metavar="N", help="texts a forward (64)")
    sub.add_argument("--max-length", type=positive, metavar="N", help="tokens a text (what the model takes)")
    add_common(sub)

    sub = command("predict", _predict, "classify lines, or find spans in them; one JSON object a line comes out")
    sub.add_argument("file", nargs="?", metavar="FILE", help="a text a line (standard input)")
    sub.add_argument("--model", required=True, metavar="DIR")
    sub.add_argument(
        "--text-field",
        type=text_fields,
        metavar="F[,F]",
        help="the input is JSONL (or a CSV, TSV file) with this field, or two",
    )
    sub.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="the format, where the file's name does not tell")
    sub.add_argument("--scores", action="store_true", help="the probability of every label")
    sub.add_argument("--batch-size", type=positive, default=64, metavar="N", help="texts a forward (64)")
    sub.add_argument("--max-length", type=positive, metavar="N", help="tokens a text (what the model takes)")
    add_common(sub)
