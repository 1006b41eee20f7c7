"""What the commands share: common options, output for machines, input lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["UsageError", "add_common", "add_fields", "emit", "input_lines", "positive", "progress", "set_threads"]


class UsageError(Exception):
    """A wrong command line: exit code 2."""


def emit(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is expected, not {text!r}")
    return value


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
        default="text",
        metavar="F",
        help="field with the text; a column number for files without a header (text)",
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
