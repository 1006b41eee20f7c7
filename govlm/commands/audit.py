"""`govlm audit verify DATA` looks for changes of a portal's audit."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from govlm.commands.common import add_common, emit

__all__ = ["register"]


def _verify(arguments: argparse.Namespace) -> int:
    """1 when anything is wrong."""
    from govlm.hall.catalogue.store import Store
    from govlm.portal.audit.anchors import Anchors
    from govlm.portal.audit.verify import verify
    from govlm.portal.operations.backup import head

    database = head(arguments.data).get("database") or arguments.data / "hall" / "catalogue.db"
    with Store.open(database) as store:
        found = verify(store.database, Anchors(arguments.data, make=False))
    if arguments.json:
        emit({"sound": found.sound, **asdict(found)})
        return int(not found.sound)
    for note in found.told:
        print(f"note: {note.text}")
    for finding in found.findings:
        print(f"{finding.kind}: {f'chain {finding.chain}: ' if finding.chain else ''}{finding.text}")
    state = "sound" if found.sound else f"{len(found.findings)} findings"
    print(f"{found.entries:,} entries in {found.chains:,} chains: {state}")
    return int(not found.sound)


def register(command: Any) -> None:
    """Adds this module's command."""
    audit = command("audit", _verify, "look after a portal's audit")
    parts = audit.add_subparsers(dest="action", metavar="ACTION", required=True)
    help = "find every entry that was changed, deleted, reordered or cut off; exit code 1 where there is one"
    sub = parts.add_parser("verify", help=help, description=help[0].upper() + help[1:] + ".")
    sub.set_defaults(run=_verify)
    sub.add_argument("data", type=Path, metavar="DATA", help="data folder of the portal")
    add_common(sub, threads=False)
