"""`govlm portal …` keeps who may use a portal: accounts and API keys, on its data folder, while it runs or not."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from govlm.commands import portal_data
from govlm.commands.common import UsageError, emit, positive

__all__ = ["register"]


@contextlib.contextmanager
def _portal(arguments: argparse.Namespace) -> Iterator[tuple[Any, Any, Any]]:
    """Accounts, logins and keys of the data folder. An error of theirs becomes one line."""
    try:
        from govlm.portal.errors import PortalError
        from govlm.portal.security.accounts import Accounts
        from govlm.portal.security.keys import Keys
        from govlm.portal.security.logins import Logins
        from govlm.portal.settings import Settings
        from govlm.portal.store.tables import upgrade
    except ModuleNotFoundError as error:
        raise UsageError(f'{error.name} is missing: pip install "govlm[portal]"') from None
    from govlm.hall.hall import Hall

    settings = Settings.from_environment(data=arguments.data)
    if not (settings.data / "hall" / "hall.json").exists():
        raise UsageError(f"{settings.data}: holds no portal; `govlm serve --data {settings.data}` makes one")
    with Hall.open(settings.data / "hall") as hall:
        database = hall.store.database
        upgrade(database)
        logins = Logins(database, settings.login_idle, settings.login_life)
        try:
            yield Accounts(database, hall.vault), logins, Keys(database)
        except PortalError as error:
            raise UsageError(f"{error.code}: {error.message}") from None


def _account(accounts: Any, name: str) -> Any:
    found = accounts.named(name)
    if found is None:
        raise UsageError(f"{name}: there is no account of this name; `govlm portal account list` shows them")
    return found


def _accounts(arguments: argparse.Namespace) -> int:
    from govlm.portal.security.accounts import utc

    with _portal(arguments) as (accounts, logins, _):
        if arguments.act == "list":
            rows = [(a.name, sorted(a.roles), a.disabled) for a in accounts.all()]
            if arguments.json:
                emit([{"name": name, "roles": roles, "disabled": disabled} for name, roles, disabled in rows])
            else:
                for name, roles, disabled in rows:
                    print(f"{name}  {' '.join(roles)}{'  disabled since ' + disabled if disabled else ''}")
            return 0
        if arguments.act == "create":
            password = accounts.create(arguments.name, arguments.role, utc())[1]
        else:
            account = _account(accounts, arguments.name)
            password = accounts.reset(account.id)
            logins.end_all(account.id)
    if arguments.json:
        emit({"name": arguments.name, "password": password})
    else:
        print(f"one-time password of {arguments.name}: {password}")
    return 0


def _keys(arguments: argparse.Namespace) -> int:
    from govlm.portal.security.accounts import utc

    with _portal(arguments) as (accounts, _, keys):
        if arguments.act == "list":
            names = {account.id: account.name for account in accounts.all()}
            rows = [
                {
                    "id": key.id, "name": key.name, "account": names.get(key.owner, ""), "scopes": sorted(key.scopes),
                    "expires": key.expires, "revoked": key.revoked,
                }
                for key in keys.all()
            ]  # fmt: skip
            if arguments.json:
                emit(rows)
            else:
                for row in rows:
                    end = (
                        f"  revoked {row['revoked']}"
                        if row["revoked"]
                        else f"  until {row['expires']}"
                        if row["expires"]
                        else ""
                    )
                    print(f"{row['id']}  {row['name']}  {row['account']}  {' '.join(row['scopes'])}{end}")
            return 0
        if arguments.act == "revoke":
            keys.revoke(arguments.id, utc())
            print(f"{arguments.id}: works no more")
            return 0
        owner = _account(accounts, arguments.account)
        key, text = keys.create(arguments.name, arguments.scope, owner.id, utc(), arguments.days)
    if arguments.json:
        emit({"id": key.id, "key": text})
    else:
        print(f"key {key.id}, shown this once: {text}")
    return 0


def register(command: Any) -> None:
    """Adds this module's commands."""
    portal = command("portal", lambda arguments: 0, "keep a portal's accounts and API keys; back it up")
    things = portal.add_subparsers(dest="thing", metavar="WHAT", required=True)
    portal_data.add(things)

    def thing(name: str, help: str, run: Any) -> Any:
        found = things.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        acts = found.add_subparsers(dest="act", metavar="ACTION", required=True)

        def act(name: str, help: str) -> argparse.ArgumentParser:
            sub: argparse.ArgumentParser = acts.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
            sub.set_defaults(run=run)
            sub.add_argument("--data", type=Path, metavar="DIR", help="what the portal keeps (default: ./govlm-portal)")
            sub.add_argument("--json", action="store_true", help="print JSON")
            sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
            return sub

        return act

    act = thing("account", "who may log in", _accounts)
    act("list", "show the accounts")
    sub = act("create", "make an account with a one-time password")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument(
        "--role", action="append", default=[], choices=("citizen", "clerk", "administrator", "auditor"),
        help="may be given several times (default: citizen)",
    )  # fmt: skip
    sub = act("reset", "give an account a one-time password, and end its logins")
    sub.add_argument("name", metavar="NAME")
    act = thing("key", "API keys of other systems", _keys)
    act("list", "show the keys, without their texts")
    sub = act("make", "make a key; it is shown once")
    sub.add_argument("name", metavar="NAME", help="of the system that will use it")
    sub.add_argument("--account", default="admin", metavar="NAME", help="that it acts for (default: admin)")
    sub.add_argument(
        "--scope", action="append", required=True, choices=("chat", "catalogue", "models", "push", "admin"),
        help="what it may; may be given several times",
    )  # fmt: skip
    sub.add_argument("--days", type=positive, metavar="N", help="until it ends (default: it does not)")
    sub = act("revoke", "make a key work no more")
    sub.add_argument("id", metavar="ID")
