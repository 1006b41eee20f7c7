"""`govlm serve` runs the portal: a page for citizens, an API for other systems."""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

from govlm.commands.common import UsageError, positive, set_threads

__all__ = ["register"]


def _serve(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    gc.disable()  # nothing that is imported becomes garbage, and looking for it takes a quarter of the start; see portal.serve.app
    try:
        from govlm.portal.serve import serve
        from govlm.portal.settings import Settings, SettingsError
    except ModuleNotFoundError as error:
        raise UsageError(f'{error.name} is missing: pip install "govlm[portal]"') from None
    names = ("data", "database", "host", "port", "workers", "tls_cert", "tls_key", "encoder", "generator", "model")
    try:
        settings = Settings.from_environment(**{name: getattr(arguments, name) for name in names})
    except SettingsError as error:
        raise UsageError(str(error)) from None
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"{scheme}://{host}:{settings.port}  (data in {settings.data}; Ctrl-C stops it)", flush=True)
    serve(settings)
    return 0


def register(command: Any) -> None:
    """Adds this module's command."""
    sub = command("serve", _serve, "serve a hall: a page for citizens, an API for other systems")
    sub.add_argument("--data", type=Path, metavar="DIR", help="what the portal keeps (default: ./govlm-portal)")
    sub.add_argument("--database", metavar="URL", help="postgresql+psycopg://user@host/name (default: SQLite in the folder)")
    sub.add_argument(
        "--host", metavar="NAME", help="where to listen (default: 127.0.0.1; any other host asks for logins and keys)"
    )
    sub.add_argument("--port", type=positive, metavar="N", help="default: 8000")
    sub.add_argument("--workers", type=positive, metavar="N", help="processes (default: 1)")
    sub.add_argument("--tls-cert", type=Path, metavar="FILE", help="PEM")
    sub.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM")
    sub.add_argument("--encoder", metavar="DIR", help="the hall's encoder (default: the bundled model)")
    sub.add_argument(
        "--generator",
        metavar="DIR",
        help="a language model, a folder or .gguf, that puts answers into plain words (default: none)",
    )
    sub.add_argument(
        "--model", metavar="DIR", help="a language model, a folder or .gguf, served at /v1/chat/completions (default: none)"
    )
    sub.add_argument("--threads", type=positive, metavar="N", help="threads (GOVLM_NUM_THREADS, else all CPUs)")
    sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
