"""`govlm demo`: the main job on what is in the package."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.commands.common import add_common, progress, set_threads

__all__ = ["register"]


def _demo(arguments: argparse.Namespace) -> int:
    from govlm.demo import run

    set_threads(arguments)
    return run(arguments.text, arguments.json, arguments.retrain, progress(arguments))


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    sub = command("demo", _demo, "train on the bundled requests to a service hall, then classify yours")
    sub.add_argument("--text", action="append", metavar="TEXT", help="classify this (may be repeated) in place of asking")
    sub.add_argument("--retrain", action="store_true", help="train even when a trained demo model is in the cache")
    add_common(sub)
