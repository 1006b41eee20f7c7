"""`govlm wipe DATA` erases a portal for good."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from govlm.commands.common import UsageError, add_common, emit

__all__ = ["register"]


def _wipe(arguments: argparse.Namespace) -> int:
    """1 when something is left."""
    from govlm.portal.operations.backup import head
    from govlm.portal.operations.wipe import wipe

    data: Path = arguments.data
    head(data)
    if not arguments.yes:
        name = data.resolve().name
        print(
            f"This erases the portal in {data.resolve()}: its keys, database, index, audit and backups. Nothing brings it back."
        )
        try:
            typed = input(f"Type the folder's name ({name}) to go on: ")
        except EOFError:
            typed = ""
        if typed.strip() != name:
            raise UsageError("that is not the folder's name; nothing was erased")
    done = wipe(data)
    if arguments.json:
        emit(vars(done))
    else:
        for text in done.gone:
            print(f"erased: {text}")
        for text in done.left:
            print(f"LEFT: {text}")
    return int(bool(done.left))


def register(command: Any) -> None:
    """Adds this module's command."""
    sub = command("wipe", _wipe, "erase a portal for good: keys first, then database, index, audit, backups")
    sub.add_argument("data", type=Path, metavar="DATA", help="data folder of the portal")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    add_common(sub, threads=False)
