"""`govlm hall …` keeps a hall: its catalogue and its procedures."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.commands.common import UsageError, add_common, emit, progress, set_threads

__all__ = ["open_hall", "read_generator", "register"]


def open_hall(folder: str | None, generator: str | None = None) -> Any:
    """The hall in a folder, else the sample hall. generator: folder or .gguf file of what phrases its answers."""
    from govlm.hall.hall import Hall

    made = None if generator is None else read_generator(generator)
    return Hall.sample(made) if folder is None else Hall.open(folder, made)


def read_generator(path: str) -> Any:
    """A generator that is ready, however long it takes to read; what is wrong with it is told at once."""
    from govlm.hall.generator.local import LocalGenerator

    generator = LocalGenerator(path)
    generator.ready()
    return generator


def _create(arguments: argparse.Namespace) -> int:
    from govlm.hall.hall import Hall

    with Hall.create(arguments.directory, arguments.database):
        pass
    if arguments.json:
        emit({"hall": arguments.directory})
    else:
        print(f"an empty hall is in {arguments.directory}; govlm hall import {arguments.directory} FILE fills it")
    return 0


def _report(arguments: argparse.Namespace, report: Any) -> int:
    """Prints what an import found; 1 when nothing came in."""
    if arguments.json:
        problems = [vars(problem) for problem in report.problems]
        emit(
            {
                "source": report.source,
                "rows": report.rows,
                "imported": report.imported,
                "skipped": report.skipped,
                "problems": problems,
            }
        )
    else:
        print(report)
    return 0 if report.imported else 1


def _import(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with open_hall(arguments.directory) as hall:
        return _report(arguments, hall.import_items(arguments.file, arguments.mapping))


def _policies(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with open_hall(arguments.directory) as hall:
        return _report(arguments, hall.import_policies(arguments.file, arguments.region))


def _learn(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with open_hall(arguments.directory) as hall:
        return _report(arguments, hall.learn(arguments.file))


def _backup(arguments: argparse.Namespace) -> int:
    with open_hall(arguments.directory) as hall:
        hall.backup(arguments.file)
    print(f"the catalogue of {arguments.directory} is in {arguments.file}")
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from govlm.hall.catalogue.report import CatalogueError
    from govlm.hall.hall import Hall

    try:
        hall = Hall.open(arguments.directory)
        hall.restore(arguments.file)
    except CatalogueError:
        if not arguments.damaged:
            raise
        hall = Hall.recover(arguments.directory, arguments.file)
    hall.close()
    print(f"the catalogue of {arguments.directory} is as it was in {arguments.file}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from govlm.hall.catalogue.columns import export_items

    with open_hall(arguments.directory) as hall:
        count = export_items(hall.store.items(), arguments.file, arguments.mapping)
    if arguments.json:
        emit({"file": arguments.file, "items": count})
    else:
        print(f"{count:,} items written to {arguments.file}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    """Prints what is wrong with procedure files; 1 when anything is."""
    from pathlib import Path

    from govlm.hall.dialogue.procedures import ProcedureError, lint, read

    found: dict[str, list[str]] = {}
    with open_hall(arguments.hall) as hall:
        items = hall.library.items
        for file in arguments.file:
            try:
                found[file] = lint(read(Path(file), items), items)
            except ProcedureError as error:
                found[file] = [str(error).removeprefix(f"{file}: ")]
    if arguments.json:
        emit(found)
    else:
        for file, problems in found.items():
            for problem in problems:
                print(f"{file}: {problem}")
            if not problems:
                print(f"{file}: good")
    return int(any(found.values()))


def _keys(arguments: argparse.Namespace) -> int:
    """Prints the keys of people's data and how many values each holds. --rotate: a new one first, and all written with it; --retire: those
    that hold nothing any more are taken out of the key file."""
    from govlm.hall.protection.rotation import held
    from govlm.hall.protection.vault import Vault

    with open_hall(arguments.directory) as hall:
        if not Vault.there(hall.folder / "keys.json"):  # to look makes none
            if arguments.rotate or arguments.retire:
                raise UsageError(f"{hall.folder}: there are no keys yet; the first that is kept of a person makes them")
            if arguments.json:
                emit({"changed": 0, "retired": [], "keys": []})
            else:
                print("no keys yet: the first that is kept of a person makes them")
            return 0
        changed = _rotate(arguments, hall) if arguments.rotate else 0
        retired = _retire(hall) if arguments.retire else []
        ring = hall.vault.ring
        keys = [
            {"key": name, "cipher": key.cipher, "current": name == ring.current, "values": held(hall.store, name)}
            for name, key in ring.keys.items()
        ]
    if arguments.json:
        emit({"changed": changed, "retired": retired, "keys": keys})
        return 0
    if arguments.rotate:
        print(f"{changed:,} values are written with the new key {ring.current}; copy the key file to where its copies are kept")
    for name in retired:
        print(f"{name} is taken out; backups from before the rotation can only be read with an older copy of the key file")
    for entry in keys:
        print(f"{entry['key']}  {entry['cipher']:<11}  {entry['values']:>9,} values{'  current' if entry['current'] else ''}")
    return 0


def _rotate(arguments: argparse.Namespace, hall: Any) -> int:
    from tqdm import tqdm

    from govlm.hall.protection.rotation import held, rotate

    hall.vault.add_key()
    off = {None: None, True: False, False: True}[progress(arguments)]
    with tqdm(total=held(hall.store), desc="values", unit="value", disable=off, leave=False) as bar:
        return rotate(hall.store, hall.vault, hall.writer, progress=bar.update)


def _retire(hall: Any) -> list[str]:
    """Takes out every key but the current one. VaultError names one that is still in use: nothing was taken out."""
    from govlm.hall.protection.rotation import in_use, retire

    ring = hall.vault.ring
    old = [name for name in ring.keys if name != ring.current]
    for name in old:
        in_use(hall.store, name)
    for name in old:
        retire(hall.store, hall.vault, name)
    return old


def _procedures(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with open_hall(arguments.directory) as hall:
        return _report(arguments, hall.import_procedures(arguments.file))


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    hall = command("hall", lambda arguments: 0, "keep a hall's catalogue: service items and policy documents")
    parts = hall.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = parts.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        found.set_defaults(run=run)
        found.add_argument("directory", metavar="HALL", help="folder of the hall")
        return found

    sub = action("create", _create, "make an empty hall in a folder")
    sub.add_argument("--database", metavar="URL", help="postgresql://user@host/name (default: SQLite in the folder)")
    add_common(sub, threads=False)
    sub = action("import", _import, "add service items from a JSONL, CSV or Excel file; every row's problems are reported")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--mapping", metavar="FILE", help="JSON or TOML: which column is which field (default: by the columns)")
    add_common(sub)
    sub = action("policies", _policies, "add policy documents: Markdown, HTML, PDF, Word, text, or folders of them")
    sub.add_argument("file", nargs="+", metavar="FILE")
    sub.add_argument("--region", default="", metavar="CODE", help="GB/T 2260 code of where they hold (default: everywhere)")
    add_common(sub)
    sub = action("procedures", _procedures, "take procedure files into use: by which steps an item is applied for")
    sub.add_argument("file", nargs="+", metavar="FILE")
    add_common(sub)
    sub = parts.add_parser(
        "check", help="say what is wrong with procedure files", description="Say what is wrong with procedure files."
    )
    sub.set_defaults(run=_check)
    sub.add_argument("file", nargs="+", metavar="FILE")
    sub.add_argument("--hall", metavar="HALL", help="folder of the hall that they are for (default: the bundled sample hall)")
    add_common(sub, threads=False)
    sub = action("learn", _learn, "add the hall's own sentences, so that requests like them are recognised")
    sub.add_argument("file", metavar="FILE", help='JSONL: {"text": "…", "item": code or name}')
    add_common(sub)
    sub = action("backup", _backup, "write the catalogue to a file, while the hall is in use")
    sub.add_argument("file", metavar="FILE")
    add_common(sub, threads=False)
    sub = action("restore", _restore, "make the catalogue what a backup holds")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--damaged", action="store_true", help="in the place of a database that cannot be opened any more")
    add_common(sub, threads=False)
    sub = action("keys", _keys, "say which keys people's data is encrypted with, and how many values each holds")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--rotate", action="store_true", help="make a new key and encrypt all with it, while the hall is in use")
    which.add_argument(
        "--retire", action="store_true", help="take the keys that nothing is written with any more out of the key file"
    )
    add_common(sub)
    sub = action("export", _export, "write the service items to a JSONL, CSV or Excel file")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--mapping", metavar="FILE", help="write the columns of this mapping")
    add_common(sub, threads=False)
