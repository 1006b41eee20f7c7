"""Runs the portal: makes what there is to make, then one worker or several behind one address."""

from __future__ import annotations

import gc
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

from govlm.portal.operations.logs import configure
from govlm.portal.operations.metrics import fresh_folder
from govlm.portal.operations.running import running
from govlm.portal.portal import prepare
from govlm.portal.security.accounts import ADMINISTRATOR
from govlm.portal.security.counters import fresh_file
from govlm.portal.settings import Settings

__all__ = ["app", "serve"]

_SETTINGS = "GOVLM_PORTAL_SETTINGS"  # handed to the worker processes


def app() -> Any:
    """The application of a worker process. What it consists of is never looked through for garbage: it stays."""
    gc.disable()
    try:
        return _made()
    finally:
        gc.freeze()
        gc.enable()


def _made() -> Any:
    from govlm.portal.application import create_app

    given = json.loads(os.environ[_SETTINGS])
    configure(Path(given["log"]) if given["log"] else None)
    paths = {name: Path(given[name]) for name in ("data", "tls_cert", "tls_key", "log") if given[name]}
    several = {name: tuple(given[name]) for name in ("origins", "hosts", "proxies")}
    return create_app(Settings(**{**given, **paths, **several}))


def serve(settings: Settings) -> None:
    """Returns when the portal was told to stop (SIGTERM, Ctrl-C) and has finished what was under way."""
    import uvicorn

    configure(settings.log)
    # uvicorn finishes what is under way at SIGTERM and then raises the signal once more: that is no failure
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    with running(settings.data):
        fresh_folder(settings.data)
        fresh_file(settings.data)
        password = prepare(settings)
        if password:  # told once, here; `govlm portal account reset` makes another
            print(f"administrator: {ADMINISTRATOR}   one-time password: {password}   (log in to change it)", flush=True)
        os.environ[_SETTINGS] = json.dumps(asdict(settings), default=str)
        _run(uvicorn, settings)


def _run(uvicorn: Any, settings: Settings) -> None:
    # uvicorn stops in order and then raises the signal again, for whoever had a handler before: to have stopped is no failure
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        "govlm.portal.serve:app", factory=True, host=settings.host, port=settings.port, workers=settings.workers,
        ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key, timeout_graceful_shutdown=20, server_header=False,
        access_log=False, log_config=None, proxy_headers=False, ws="none",
    )  # fmt: skip
