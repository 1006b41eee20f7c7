"""`govlm finetune`, `evaluate`, `predict`: train a classifier and use it."""

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


def _finetune(arguments: argparse.Namespace) -> int:
    from govlm.train.distributed import find_ranks, guarded
    from govlm.train.finetune import Options, finetune
    from govlm.train.metrics import format_per_class

    if arguments.task == "tokens":
        from govlm.train.tokens import TokenOptions

        kind: type[Options] = TokenOptions
    elif arguments.task in ("generate", "summarise"):
        from govlm.train.writing import WritingOptions

        kind = WritingOptions
        if arguments.model == BUNDLED:
            raise UsageError(
                f"--task {arguments.task} needs --model: a folder, a .gguf file or a config of a model that writes"
            )
    else:
        kind = Options
    for name, flag in (("pattern", "--pattern"), ("label_words", "--label-words")):
        if getattr(arguments, name) is not None and not arguments.few_shot:
            raise UsageError(f"{flag} belongs to --few-shot")
    if arguments.few_shot and arguments.task != "classify":
        raise UsageError("--few-shot belongs to --task classify")
    given: dict[str, Any] = {} if arguments.task == "classify" else {"ngrams": False}
    if getattr(arguments, "lora_target", None):
        arguments.lora_target = tuple(part for item in arguments.lora_target for part in item.split(",") if part)
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
            source_field=arguments.source_field,
            target_field=arguments.target_field,
            data_format=arguments.format,
            vocab=arguments.vocab,
            options=options,
            refit=arguments.refit,
            few_shot=arguments.few_shot,
            pattern=arguments.pattern,
            label_words=arguments.label_words,
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
        print(f"best epoch {result['best']['epoch']}: {_figures(report)}\n")
        if "perplexity" not in report:
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
        rouge = f", ROUGE-L {report['rouge_l']:.4f}" if "rouge_l" in report else ""
        return f"loss {report['loss']:.4f}, perplexity {report['perplexity']:.2f}{rouge}"
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
        help="labels of texts, or of spans in them; answers to instructions; targets to sources (classify)",
    )
    sub.add_argument(
        "--train",
        required=True,
        metavar="FILE",
        help="JSONL, CSV or TSV, plain, .gz or .xz; for tokens JSON with text and entities, or BIO columns; "
        "to generate JSONL with messages, prompt and response, or text; to summarise source and target",
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
        help="chooses the best epoch (macro_f1; tokens: micro_f1; to write: loss)",
    )
    numbers.add_argument("--class-weights", choices=("balanced",), help="rare classes weigh more")
    numbers.add_argument(
        "--refit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with --dev: train once more on train and dev rows, for as many epochs as were best (yes)",
    )
    branch = sub.add_argument_group("n-gram branch (--task classify)")
    branch.add_argument(
        "--ngrams",
        action=argparse.BooleanOptionalAction,
        help="train a linear branch over hashed character n-grams beside the encoder (yes)",
    )
    branch.add_argument("--ngram-longest", type=int, metavar="N", help="characters an n-gram, from 1 (3)")
    branch.add_argument("--ngram-features", type=int, metavar="N", help="hashed n-grams that are kept (65536)")
    branch.add_argument("--ngram-c", type=float, metavar="C", help="what an error costs against large weights (1.0)")
    writes = sub.add_argument_group("models that write (--task generate, summarise)")
    writes.add_argument("--source-field", default="source", metavar="F", help="field with the source (source)")
    writes.add_argument("--target-field", default="target", metavar="F", help="field with the target (target)")
    writes.add_argument("--max-target", type=int, metavar="N", help="tokens a target (as --max-length: 512)")
    writes.add_argument("--max-new-tokens", type=int, metavar="N", help="tokens that are written for an evaluation (64)")
    writes.add_argument("--written", type=int, metavar="N", help="rows of --dev that are written for ROUGE-L, 0 = none (50)")
    writes.add_argument("--lora-r", type=int, metavar="N", help="train an adapter of this rank on the frozen model, 0 = no (0)")
    writes.add_argument("--lora-alpha", type=float, metavar="A", help="the adapter is multiplied by A / rank (16)")
    writes.add_argument("--lora-dropout", type=float, metavar="P", help="dropout of what goes into the adapter (0)")
    writes.add_argument(
        "--lora-target", action="append", metavar="NAME", help="layers with an adapter (repeat, or commas; q_proj, v_proj …)"
    )
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
