"""`govlm hall …` keeps a hall's catalogue; `govlm chat` asks it in the terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from govlm.commands.common import add_common, emit, input_lines, set_threads

__all__ = ["register"]


def _open(folder: str | None) -> Any:
    from govlm.hall.hall import Hall

    return Hall.sample() if folder is None else Hall.open(folder)


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
    with _open(arguments.directory) as hall:
        return _report(arguments, hall.import_items(arguments.file, arguments.mapping))


def _policies(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with _open(arguments.directory) as hall:
        return _report(arguments, hall.import_policies(arguments.file, arguments.region))


def _learn(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with _open(arguments.directory) as hall:
        return _report(arguments, hall.learn(arguments.file))


def _backup(arguments: argparse.Namespace) -> int:
    with _open(arguments.directory) as hall:
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

    with _open(arguments.directory) as hall:
        count = export_items(hall.store.items(), arguments.file, arguments.mapping)
    if arguments.json:
        emit({"file": arguments.file, "items": count})
    else:
        print(f"{count:,} items written to {arguments.file}")
    return 0


def _plain(answer: Any) -> dict[str, Any]:
    return {
        "text": answer.text,
        "refused": answer.refused,
        "reason": answer.reason,
        "citations": [vars(citation) for citation in answer.citations],
    }


def _chat(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    with _open(arguments.directory) as hall:
        people = sys.stdin.isatty() and not arguments.text and not arguments.json
        if people:
            print("请问您要办什么事？（空行结束）")
        texts = arguments.text or (iter(_asked, "") if people else input_lines(None))
        for text in texts:
            understood, answer = hall.understand(text), hall.ask(text, arguments.region)
            if arguments.json:
                slots = [slot._asdict() for slot in understood.slots]
                emit({"question": text, **_plain(answer), "understanding": {**vars(understood), "slots": slots}})
                continue
            if not people:
                print(f"> {text}")
            print(answer.text, end="\n\n")
    return 0


def _asked() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    sub = command("chat", _chat, "ask a hall: what people want is understood, and answered from its records with citations")
    sub.add_argument("directory", nargs="?", metavar="HALL", help="folder of the hall (default: the bundled sample hall)")
    sub.add_argument("--text", action="append", metavar="TEXT", help="ask this (may be repeated) in place of asking the user")
    sub.add_argument("--region", metavar="CODE", help="GB/T 2260 code of the place that is asked for, like 4401")
    add_common(sub)

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
    sub = action("export", _export, "write the service items to a JSONL, CSV or Excel file")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--mapping", metavar="FILE", help="write the columns of this mapping")
    add_common(sub, threads=False)
