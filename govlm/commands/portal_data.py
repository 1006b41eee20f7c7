"""`govlm portal backup` and `govlm portal restore`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from govlm.commands.common import add_common, emit

__all__ = ["add"]


def _backup(arguments: argparse.Namespace) -> int:
    from govlm.portal.operations.backup import KEYS, backup

    file = backup(arguments.data, arguments.file, keys=arguments.with_keys)
    if arguments.json:
        emit({"file": str(file), "keys": arguments.with_keys})
        return 0
    print(f"the portal of {arguments.data} is in {file}")
    if arguments.with_keys:
        print("WITH ITS KEYS: whoever has this file can read everybody's data. Keep it where the keys may be kept.")
    else:
        names = ", ".join(KEYS)
        print(f"without its keys: people's data cannot be read without {names}; keep copies of them, apart from the backups")
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from govlm.portal.operations.backup import KEYS, restore

    whole = restore(arguments.file, arguments.data, database=arguments.database, keys=arguments.keys)
    if arguments.json:
        emit({"data": str(arguments.data), "keys": whole})
        return 0
    print(f"the portal of {arguments.file} is in {arguments.data}")
    if not whole:
        print(f"before it is started, put the copies of its keys into {arguments.data}: {', '.join(KEYS)}")
    return 0


def add(parts: Any) -> None:
    """Adds the commands to the parsers of `govlm portal`."""

    def part(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = parts.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        found.set_defaults(run=run)
        return found

    sub = part("backup", _backup, "write all that a portal keeps to one file, while it runs")
    sub.add_argument("data", type=Path, metavar="DATA", help="data folder of the portal")
    sub.add_argument("file", type=Path, nargs="?", metavar="FILE", help="default: one named by the time in DATA/backups")
    sub.add_argument("--with-keys", action="store_true", help="also the keys: then the file is everybody's data in the clear")
    add_common(sub, threads=False)
    sub = part("restore", _restore, "make a data folder from a backup")
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.add_argument("data", type=Path, metavar="DATA", help="new or empty folder")
    sub.add_argument("--database", metavar="URL", help="an empty PostgreSQL database (default: SQLite in the folder)")
    sub.add_argument("--keys", type=Path, metavar="DIR", help="folder with the copies of the key files")
    add_common(sub, threads=False)
