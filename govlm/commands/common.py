"""What the commands share: common options, output for machines, input lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "EPOCHS", "UsageError", "add_common", "add_fields", "add_training", "emit", "input_lines", "make_options", "positive",
    "print_figures", "print_run", "progress", "set_threads", "text_fields",
]  # fmt: skip


class UsageError(Exception):
    """A wrong command line: exit code 2."""


def emit(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def print_run(what: str, result: Mapping[str, Any]) -> None:
    """The first line about a training run: what it went over, its steps, time and last loss."""
    loss = "" if result["loss"] is None else f", last loss {result['loss']:.4f}"
    print(f"{what}, {result['seconds']:.1f} s{loss}")


def print_figures(reports: Mapping[str, Mapping[str, Any] | None], width: int = 0) -> None:
    """A line a report of a classifier, where there is one."""
    for name, report in reports.items():
        if report:
            print(f"{name + ':':<{width}} accuracy {report['accuracy']:.4f}, macro F1 {report['macro_f1']:.4f}")


def positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is expected, not {text!r}")
    return value


def text_fields(text: str) -> str | tuple[str, str]:
    """A field's name, or two with a comma between them."""
    names = [name.strip() for name in text.split(",")]
    if len(names) > 2 or not all(names):
        raise argparse.ArgumentTypeError(f"a field or two fields with a comma between are expected, not {text!r}")
    return names[0] if len(names) == 1 else (names[0], names[1])


def progress(arguments: argparse.Namespace) -> bool | None:
    """True or False as the user says; None: when standard error is a terminal."""
    if arguments.progress is not None:
        return bool(arguments.progress)
    return False if arguments.json else None


def set_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        from govlm._native import core

        core.set_num_threads(arguments.threads)


def add_common(parser: argparse.ArgumentParser, threads: bool = True) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object (a line) for machines, no progress bars")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if threads:
        parser.add_argument("--threads", type=positive, metavar="N", help="threads (GOVLM_NUM_THREADS, else all CPUs)")
        parser.add_argument(
            "--progress", action=argparse.BooleanOptionalAction, help="progress bars (when standard error is a terminal)"
        )


def add_fields(parser: argparse.ArgumentParser, label: bool = True) -> None:
    parser.add_argument(
        "--text-field",
        type=text_fields,
        default="text",
        metavar="F[,F]",
        help="field with the text, or two fields for pairs of texts; column numbers for files without a header (text)",
    )
    if label:
        parser.add_argument(
            "--label-field", default="label", metavar="F", help="field with the label, or the list of labels (label)"
        )
    parser.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="the format, where the file's name does not tell")


def input_lines(path: str | None) -> Iterator[str]:
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


def make_options(kind: Any, arguments: argparse.Namespace, flags: Mapping[str, str] | None = None, **given: Any) -> Any:
    """The options of a run, of the class `kind`: from the arguments that have their names, and `given`.

    UsageError names the flag: the option's own name, unless `flags` says another.
    """
    defaults = kind()
    chosen = {name: getattr(arguments, name) for name in vars(defaults) if getattr(arguments, name, None) is not None}
    if getattr(arguments, "freeze", None):
        chosen["freeze"] = tuple(part for item in arguments.freeze for part in item.split(",") if part)
    options = kind(**{**chosen, **given})
    try:
        options.check()
    except ValueError as error:
        name, rest = str(error).split(" ", 1)
        raise UsageError(f"--{(flags or {}).get(name, name.replace('_', '-'))} {rest}") from None
    return options


EPOCHS: tuple[tuple[str, Any, str], ...] = (
    ("--epochs", int, "passes over the data (3)"),
    ("--batch-size", int, "texts a forward (32)"),
    ("--accumulate", int, "forwards an optimizer step (1)"),
    ("--max-length", int, "tokens a text, longer ones are cut (what the model takes)"),
    ("--patience", int, "stop after so many epochs without a better metric, 0 = off (0)"),
    ("--eval-batch-size", int, "texts a forward in evaluation (64)"),
)


def add_training(group: Any, rows: tuple[tuple[str, Any, str], ...], lr: str) -> None:
    """The options of LoopOptions and those in `rows`: (flag, type, help)."""
    common: tuple[tuple[str, Any, str], ...] = (
        ("--lr", float, f"highest learning rate ({lr})"),
        ("--weight-decay", float, "weight decay of matrices (0.01)"),
        ("--warmup", float, "share of the steps (below 1) or steps with a rising rate (0.1)"),
        ("--decay", float, "the same for the last steps, in which the rate of warmup_stable_decay falls (0.1)"),
        ("--clip", float, "largest gradient norm, 0 = off (1.0)"),
        ("--seed", int, "random seed (0)"),
        ("--layer-decay", float, "each layer learns at this share of the rate above it (1.0)"),
        ("--save-steps", int, "a checkpoint every so many steps"),
        ("--save-minutes", float, "and every so many minutes (10)"),
    )
    for flag, kind, text in rows + common:
        group.add_argument(flag, type=kind, metavar="N", help=text)
    schedules = ("linear", "cosine", "constant", "constant_with_warmup", "warmup_stable_decay")
    group.add_argument("--schedule", choices=schedules, help="learning rate (linear)")
    group.add_argument("--freeze", action="append", metavar="PART", help="embeddings, encoder, layers.0 … (repeat, or commas)")
