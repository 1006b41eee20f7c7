"""The command `govlm`. Nothing heavy is imported before a command is known, so that --help is at once there."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

__all__ = ["main"]

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPT = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


class _UsageError(Exception):
    pass


def _emit(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is expected, not {text!r}")
    return value


def _progress(arguments: argparse.Namespace) -> bool | None:
    """True or False as the user says; None: when standard error is a terminal."""
    if arguments.progress is not None:
        return bool(arguments.progress)
    return False if arguments.json else None


def _threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        from govlm._native import core

        core.set_num_threads(arguments.threads)


# -------------------------------------------------------------------- commands


def _finetune(arguments: argparse.Namespace) -> int:
    from govlm.train.finetune import Options, finetune
    from govlm.train.metrics import format_per_class

    defaults = Options()
    chosen = {name: getattr(arguments, name) for name in vars(defaults) if getattr(arguments, name, None) is not None}
    chosen["freeze"] = tuple(part for item in arguments.freeze or () for part in item.split(",") if part)
    options = Options(**chosen)
    try:
        options.check()
    except ValueError as error:
        name, rest = str(error).split(" ", 1)
        raise _UsageError(f"--{name.replace('_', '-')} {rest}") from None
    _threads(arguments)
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
        resume=arguments.resume,
        progress=_progress(arguments),
    )
    if arguments.json:
        _emit(result)
        return 0
    loss = "" if result["loss"] is None else f", last loss {result['loss']:.4f}"
    print(f"{result['steps']} steps, {result['epochs']} epochs, {result['seconds']:.1f} s{loss}")
    if result["best"]:
        report = result["best"]["report"]
        print(f"best epoch {result['best']['epoch']}: accuracy {report['accuracy']:.4f}, macro F1 {report['macro_f1']:.4f}\n")
        print(format_per_class(report) + "\n")
    print(f"model written to {result['out']}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from govlm.train.evaluate import evaluate
    from govlm.train.metrics import format_confusion, format_per_class

    _threads(arguments)
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
        _emit(report)
        return 0
    print(format_per_class(report))
    if "micro_f1" not in report:
        print("\n" + format_confusion(report))
    print(f"\n{report['count']} rows: accuracy {report['accuracy']:.4f}, macro F1 {report['macro_f1']:.4f}", end="")
    print(f", loss {report['loss']:.4f}")
    return 0


def _input_lines(path: str | None) -> Iterator[str]:
    """The lines of a file or of standard input, UTF-8, without their ends."""
    from govlm.data import DataError

    name = path or "standard input"
    handle = open(path, "rb") if path not in (None, "-") else sys.stdin.buffer  # noqa: SIM115
    with handle:
        for number, raw in enumerate(handle, 1):
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                raw = raw[3:]
            try:
                yield raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8") from None


def _input_texts(arguments: argparse.Namespace) -> Iterator[str]:
    """The texts to predict: plain lines, or a field of JSON lines (CSV and TSV files too)."""
    from govlm.data import DataError, read_examples

    path, field = arguments.file, arguments.text_field
    if field is None:
        yield from _input_lines(path)
    elif path not in (None, "-"):
        for example in read_examples(path, field, None, arguments.format):
            yield example.text
    else:
        for number, line in enumerate(_input_lines(None), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"standard input:{number}: not JSON: {error.msg} at column {error.colno}") from None
            text = row.get(field) if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise DataError(f"standard input:{number}: field {field!r} is missing or no string")
            yield text


def _predict(arguments: argparse.Namespace) -> int:
    from govlm.train.evaluate import Classifier

    _threads(arguments)
    classifier = Classifier.from_pretrained(arguments.model, arguments.max_length)
    interactive = arguments.file in (None, "-") and sys.stdin.isatty()
    for prediction in classifier.classify(_input_texts(arguments), 1 if interactive else arguments.batch_size):
        row = prediction._asdict()
        if not arguments.scores:
            del row["scores"]
        _emit(row)
        if interactive:
            sys.stdout.flush()
    return 0


def _tokenize(arguments: argparse.Namespace) -> int:
    import govlm

    if (arguments.model is None) == (arguments.vocab is None):
        raise _UsageError("give either --model DIR or --vocab FILE")
    if arguments.model is not None:
        tokenizer = govlm.AutoTokenizer.from_pretrained(arguments.model)
    else:
        tokenizer = govlm.BertTokenizer(arguments.vocab, do_lower_case=not arguments.cased)
    for text in arguments.text or _input_lines(None):
        encoding = tokenizer(text, add_special_tokens=not arguments.no_special_tokens, return_offsets_mapping=True)
        ids = [int(i) for i in encoding["input_ids"]]
        tokens = tokenizer.convert_ids_to_tokens(ids)
        if arguments.json:
            offsets = [[int(a), int(b)] for a, b in encoding["offset_mapping"]]
            _emit({"text": text, "ids": ids, "tokens": tokens, "offsets": offsets})
        elif arguments.ids:
            print(" ".join(map(str, ids)))
        else:
            print(" ".join(tokens))
    return 0


def _info(arguments: argparse.Namespace) -> int:
    import platform

    import numpy

    from govlm import __version__
    from govlm._native import core

    facts: dict[str, Any] = {"govlm": __version__, "python": platform.python_version(), "numpy": numpy.__version__}
    facts["platform"] = platform.platform()
    facts.update(core.info())
    facts["threads"] = core.num_threads()
    if arguments.json:
        _emit(facts)
        return 0
    flat: list[tuple[str, str]] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{name} {key}", item)
        elif isinstance(value, (list, tuple)):
            flat.append((name, " ".join(map(str, value))))
        else:
            flat.append((name, str(value)))

    for key, value in facts.items():
        add(key.replace("_", " "), value)
    width = max(len(name) for name, _ in flat)
    for name, text in flat:
        print(f"{name:<{width}}  {text}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from govlm.demo import run

    _threads(arguments)
    return run(arguments.text, arguments.json, arguments.retrain, _progress(arguments))


# -------------------------------------------------------------------- arguments


def _common(parser: argparse.ArgumentParser, threads: bool = True) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object (a line) for machines, no progress bars")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if threads:
        parser.add_argument("--threads", type=_positive, metavar="N", help="threads (GOVLM_NUM_THREADS, else all CPUs)")
        parser.add_argument(
            "--progress", action=argparse.BooleanOptionalAction, help="progress bars (when standard error is a terminal)"
        )


def _fields(parser: argparse.ArgumentParser, label: bool = True) -> None:
    parser.add_argument(
        "--text-field",
        default="text",
        metavar="F",
        help="field with the text; a column number for files without a header (text)",
    )
    if label:
        parser.add_argument(
            "--label-field", default="label", metavar="F", help="field with the label, or the list of labels (label)"
        )
    parser.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="the format, where the file's name does not tell")


def _build() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="govlm", description="Chinese language models for online service halls, on ordinary CPUs, without a network."
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    sub = command("finetune", _finetune, "fine-tune a text classifier on your own data")
    sub.add_argument("--task", default="classify", choices=("classify",), help="what to learn (classify)")
    sub.add_argument("--train", required=True, metavar="FILE", help="JSONL, CSV or TSV, plain, .gz or .xz")
    sub.add_argument("--dev", metavar="FILE", help="rows to choose the best epoch by")
    sub.add_argument("--model", required=True, metavar="DIR", help="pretrained folder, or a config.json for a random start")
    sub.add_argument("--vocab", metavar="FILE", help="vocab.txt for a config.json (the one beside it)")
    sub.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the trained model, checkpoints, log.jsonl, result.json"
    )
    _fields(sub)
    numbers = sub.add_argument_group("training")
    for flag, kind, text in (
        ("--epochs", int, "passes over the data (3)"),
        ("--batch-size", int, "texts a forward (32)"),
        ("--accumulate", int, "forwards an optimizer step (1)"),
        ("--lr", float, "highest learning rate (5e-5; from random weights try 5e-4)"),
        ("--weight-decay", float, "weight decay of matrices (0.01)"),
        ("--warmup", float, "share of the steps (below 1) or steps with a rising rate (0.1)"),
        ("--clip", float, "largest gradient norm, 0 = off (1.0)"),
        ("--max-length", int, "tokens a text, longer ones are cut (what the model takes)"),
        ("--seed", int, "random seed (0)"),
        ("--layer-decay", float, "each layer learns at this share of the rate above it (1.0)"),
        ("--patience", int, "stop after so many epochs without a better metric, 0 = off (0)"),
        ("--save-steps", int, "a checkpoint every so many steps (each epoch)"),
        ("--save-minutes", float, "and every so many minutes (10)"),
        ("--eval-batch-size", int, "texts a forward in evaluation (64)"),
    ):
        numbers.add_argument(flag, type=kind, metavar="N", help=text)
    numbers.add_argument(
        "--schedule", choices=("linear", "cosine", "constant", "constant_with_warmup"), help="learning rate (linear)"
    )
    numbers.add_argument("--metric", choices=("macro_f1", "accuracy", "loss"), help="chooses the best epoch (macro_f1)")
    numbers.add_argument("--class-weights", choices=("balanced",), help="rare classes weigh more")
    numbers.add_argument(
        "--freeze",
        action="append",
        metavar="PART",
        help="embeddings, encoder, a number of layers, or layers.0 (repeat, or commas)",
    )
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    _common(sub)

    sub = command("evaluate", _evaluate, "accuracy, F1 and confusions of a trained model on a file")
    sub.add_argument("--model", required=True, metavar="DIR")
    sub.add_argument("--data", required=True, metavar="FILE", help="JSONL, CSV or TSV with texts and labels")
    _fields(sub)
    sub.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="texts a forward (64)")
    sub.add_argument("--max-length", type=_positive, metavar="N", help="tokens a text (what the model takes)")
    _common(sub)

    sub = command("predict", _predict, "classify lines; one JSON object a line comes out")
    sub.add_argument("file", nargs="?", metavar="FILE", help="a text a line (standard input)")
    sub.add_argument("--model", required=True, metavar="DIR")
    sub.add_argument("--text-field", metavar="F", help="the input is JSONL (or a CSV, TSV file) with this field")
    sub.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="the format, where the file's name does not tell")
    sub.add_argument("--scores", action="store_true", help="the probability of every label")
    sub.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="texts a forward (64)")
    sub.add_argument("--max-length", type=_positive, metavar="N", help="tokens a text (what the model takes)")
    _common(sub)

    sub = command("tokenize", _tokenize, "show the tokens of texts or of the lines of standard input")
    sub.add_argument("text", nargs="*", metavar="TEXT")
    sub.add_argument("--model", metavar="DIR", help="folder with the tokenizer")
    sub.add_argument("--vocab", metavar="FILE", help="or a vocab.txt")
    sub.add_argument("--cased", action="store_true", help="with --vocab: keep upper case and accents")
    sub.add_argument("--ids", action="store_true", help="numbers in place of tokens")
    sub.add_argument("--no-special-tokens", action="store_true", help="without [CLS] and [SEP]")
    _common(sub, threads=False)

    sub = command("info", _info, "versions, CPU features, kernels and threads in use")
    _common(sub, threads=False)

    sub = command("demo", _demo, "train on the bundled requests to a service hall, then classify yours")
    sub.add_argument("--text", action="append", metavar="TEXT", help="classify this (may be repeated) in place of asking")
    sub.add_argument("--retrain", action="store_true", help="train even when a trained demo model is in the cache")
    _common(sub)
    return parser


def _message(error: BaseException) -> str:
    """One line for an error."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    elif isinstance(error, MemoryError):
        text = str(error) or "out of memory"
    elif isinstance(error, KeyError):
        text = f"{error.args[0]!r} is missing" if error.args else "a key is missing"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def main(argv: list[str] | None = None) -> int:
    """Runs a command line; returns the exit code: 0, 1 failure, 2 usage, 130 Ctrl-C."""
    parser = _build()
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        arguments = parser.parse_args(argv)
        if arguments.version:
            from govlm import __version__

            print(f"govlm {__version__}")
            return 0
        if arguments.command is None:
            parser.print_help()
            return EXIT_USAGE
        code = int(arguments.run(arguments))
        sys.stdout.flush()
        return code
    except SystemExit as exit:  # --help
        return int(exit.code or 0)
    except _UsageError as error:
        print(f"govlm: error: {_message(error)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("govlm: interrupted", file=sys.stderr)
        return EXIT_INTERRUPT
    except BrokenPipeError:
        # the reader went away, as `| head` does: no message, and none from the interpreter's last flush either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as error:
        if debug:
            raise
        print(f"govlm: error: {_message(error)}", file=sys.stderr)
        return EXIT_FAILURE
