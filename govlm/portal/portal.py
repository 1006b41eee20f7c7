"""All that a worker holds: the hall, the gate to it, who may do what."""

from __future__ import annotations

import inspect
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Request

from govlm.bundled import BUNDLED
from govlm.hall.catalogue.database import Database
from govlm.hall.hall import Hall
from govlm.portal.audit.anchors import Anchors
from govlm.portal.audit.chain import Audit
from govlm.portal.batching import Batcher
from govlm.portal.curated import Curated
from govlm.portal.gate import Gate
from govlm.portal.imports import Imports
from govlm.portal.models import Classifiers, Embedder
from govlm.portal.operations.backup import SECRET
from govlm.portal.operations.metrics import Metrics
from govlm.portal.operations.periodic import Periodic
from govlm.portal.operations.retention import Policy, Retention
from govlm.portal.operations.switches import Switches
from govlm.portal.operations.usage import Usage
from govlm.portal.security.accounts import Accounts, utc
from govlm.portal.security.counters import Counters
from govlm.portal.security.keys import Keys
from govlm.portal.security.limits import Limits, Proxies
from govlm.portal.security.logins import Logins
from govlm.portal.settings import Settings, SettingsError
from govlm.portal.store.tables import upgrade

if TYPE_CHECKING:
    from govlm.portal.language_model import Served
    from govlm.portal.security.access import Principal
    from govlm.portal.security.oidc import Provider

__all__ = ["Here", "Portal", "prepare", "settled"]

F = TypeVar("F", bound=Callable[..., Any])


class Portal:
    """Opened by each worker, after `prepare` has made what there is to make."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.language_model = _served(settings)
        self.hall = Hall.open(settings.data / "hall", settings.generator or None)
        if self.hall.phraser is not None:
            self.hall.phraser.seconds = settings.patience
        self.secret = secret(settings.data)
        self.gate = Gate(settings.threads, settings.queue)
        database, writer = self.hall.store.database, self.hall.writer
        self.batcher = Batcher(settings.latency, settings.queue)
        self.classifiers = Classifiers(self.hall, settings.classifiers)
        self.embedder = Embedder(lambda: self.hall.encoder)
        self.clock = utc
        self.curated = Curated(self.hall)
        self.hall.curated = self.curated.find
        self.imports = Imports(self.hall, settings.data / "imports", self.curated.taught)
        self.accounts = Accounts(database, self.hall.vault)
        self.logins = Logins(database, settings.login_idle, settings.login_life)
        self.keys = Keys(database)
        self._counters = Counters(settings.data if settings.workers > 1 else None, self.secret)
        self.limits, self.proxies = Limits(settings.rates, self._counters), Proxies(settings.proxies)
        self.oidc = _provider(settings, self.hall)
        self.anchors = Anchors(settings.data)
        self.audit = Audit(database, writer, self.hall.vault, self.anchors)
        self.metrics = Metrics()
        self.switches = Switches(database, writer)
        self.usage = Usage(database, writer)
        self._retention = Retention(self.hall, self.anchors, Policy.of(settings.retention))
        self._measure = Periodic("measure", 5.0, lambda: self.metrics.measure(self.gate.waiting))

    @property
    def database(self) -> Database:
        return self.hall.store.database

    def pseudonym(self, who: Principal) -> str:
        """What stands for somebody who did something, here and in the audit."""
        return self.hall.vault.pseudonym("principal", who.id)

    def close(self) -> None:
        """Finishes what is under way."""
        if self.language_model is not None:
            self.language_model.close()
        self.batcher.close()
        self.gate.close()
        for part in (self._measure, self._retention, self.switches, self.usage, self.audit, self._counters):
            part.close()
        self.hall.close()


def _provider(settings: Settings, hall: Hall) -> Provider | None:
    """Its library is read only where there is a provider: it takes a tenth of a start."""
    if not settings.oidc_discovery:
        return None
    from govlm.portal.security.oidc import Provider

    return Provider(settings, hall.vault)


def prepare(settings: Settings) -> str:
    """Makes the data folder, the hall, the tables and an administrator, once, before workers begin. CatalogueError, OSError: they cannot
    be made; ValueError: a setting cannot be. Returns the administrator's one-time password, to be told now; "" where there was one."""
    folder = settings.data / "hall"
    Policy.of(settings.retention)
    check_models(settings)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret(settings.data)
    Anchors(settings.data)
    if not (folder / "hall.json").exists():
        with Hall.create(folder, settings.database, settings.encoder) as hall:
            if settings.sample:
                hall.import_sample()
    with Hall.open(folder) as hall:
        upgrade(hall.store.database)
        hall.vault.pseudonym("portal", "")  # the keys are made before workers ask for them
        return Accounts(hall.store.database, hall.vault).first(utc())


def _served(settings: Settings) -> Served | None:
    """What serves it is read only where there is one, as of `_provider`."""
    if not settings.model:
        return None
    from govlm.portal.language_model import Served

    return Served(settings.model, settings.queue)


def check_models(settings: Settings) -> None:
    """SettingsError names a language model that cannot be served, before any worker begins."""
    if not settings.model and not settings.generator:
        return
    from govlm.generation import LanguageModel

    for name in ("generator", "model"):
        path = getattr(settings, name)
        try:
            if path:
                LanguageModel.check(path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"{name}: {error}") from None
    if settings.model and LanguageModel.name_of(settings.model) == BUNDLED:
        raise SettingsError(f"model: {BUNDLED} is what the hall is called; give the folder another name")


def secret(data: Path) -> bytes:
    """What cookies and session numbers are signed with; made at first start, readable by its owner only."""
    file = data / SECRET
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return bytes.fromhex(file.read_text("ascii"))
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        opened.write(secrets.token_hex(32))
    return bytes.fromhex(file.read_text("ascii"))


def settled(dependency: F) -> F:
    """Reads the signature of a dependency once: FastAPI would read it, and the annotations in it, anew for each of a hundred routes."""
    dependency.__signature__ = inspect.signature(dependency, eval_str=True)  # type: ignore[attr-defined]
    return dependency


@settled
async def here(request: Request) -> Portal:  # async: FastAPI would send it to a thread
    found: Portal = request.app.state.portal
    return found


Here = Annotated[Portal, Depends(here)]
