"""Runs the portal: makes what there is to make, then one worker or several behind one address."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from govlm.portal.portal import prepare
from govlm.portal.security.accounts import ADMINISTRATOR
from govlm.portal.settings import Settings

__all__ = ["app", "serve"]

_SETTINGS = "GOVLM_PORTAL_SETTINGS"  # handed to the worker processes


def app() -> Any:
    """The application of a worker process."""
    from govlm.portal.application import create_app

    given = json.loads(os.environ[_SETTINGS])
    paths = {name: Path(given[name]) for name in ("data", "tls_cert", "tls_key") if given[name]}
    several = {name: tuple(given[name]) for name in ("origins", "hosts", "proxies")}
    return create_app(Settings(**{**given, **paths, **several}))


def serve(settings: Settings) -> None:
    """Returns when the portal was told to stop (SIGTERM, Ctrl-C) and has finished what was under way."""
    import uvicorn

    password = prepare(settings)
    if password:  # told once, here; `govlm portal account reset` makes another
        print(f"administrator: {ADMINISTRATOR}   one-time password: {password}   (log in to change it)", flush=True)
    os.environ[_SETTINGS] = json.dumps(asdict(settings), default=str)
    uvicorn.run(
        "govlm.portal.serve:app", factory=True, host=settings.host, port=settings.port, workers=settings.workers,
        ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key, timeout_graceful_shutdown=20, server_header=False,
        access_log=False, log_level="warning", proxy_headers=False,
    )  # fmt: skip
