"""The command `govlm`. Nothing heavy is imported before a command is known, so that --help is at once there."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from govlm.commands import MODULES
from govlm.commands.common import UsageError

__all__ = ["main"]

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPT = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


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

    for name in MODULES:
        importlib.import_module(f"govlm.commands.{name}").register(command)
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
    except UsageError as error:
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
