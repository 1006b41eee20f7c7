"""The web application: routes, errors, the page. One for each worker.

What a first question needs stands at once; the other routes, whose models and libraries take as long to make as all of that, are added
by the first request that asks for one of them, or when the start is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from govlm.portal import errors
from govlm.portal.api import chat, health, pages
from govlm.portal.openapi import document
from govlm.portal.operations.observe import Observed
from govlm.portal.portal import Portal
from govlm.portal.security.headers import Shield
from govlm.portal.settings import Settings

__all__ = ["Application", "create_app"]

WEB = Path(__file__).with_name("web")
# A request asks routes one after another, and FastAPI makes each when it is first asked.
FIRST = (chat.router, health.router, pages.router)
LATER = (
    "account", "metrics", "admin_accounts", "submissions", "feedback", "handoffs", "items", "policies", "forms", "me", "language", "openai",
    "audit", "admin_catalogue", "admin_questions", "admin_switches", "usage",
)  # fmt: skip  # modules of govlm.portal.api
_START = 3.0  # seconds after which the others are added


class Application(FastAPI):
    """With the shield around all of it, the handler of unforeseen errors too; all that is answered is observed."""

    def __init__(self, settings: Settings, **given: Any) -> None:
        super().__init__(**given)
        self.settings = settings
        self.whole, self._completing = False, threading.Lock()
        self.add_middleware(_Whole)
        for router in FIRST:
            self.include_router(router)
        self.mount("/web", StaticFiles(directory=WEB), name="web")

    def build_middleware_stack(self) -> ASGIApp:
        return Observed(Shield(super().build_middleware_stack(), self.settings))

    def complete(self) -> list[APIRouter]:
        """Adds the routes that are not there yet. All routers."""
        with self._completing:
            later = [import_module(f"govlm.portal.api.{name}").router for name in LATER]
            if not self.whole:
                for router in later:
                    self.include_router(router)
                self.whole = True
        return [*FIRST, *later]

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.complete()
            self.openapi_schema = document(self)
        return self.openapi_schema


class _Whole:
    """ASGI middleware: a request that no route knows waits until all are there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["app"].whole:
            application: Application = scope["app"]
            if all(route.matches(scope)[0] != Match.FULL for route in application.routes):
                await asyncio.to_thread(application.complete)
        await self._app(scope, receive, send)


def create_app(settings: Settings) -> Application:
    """`govlm.portal.portal.prepare` must have been called for these settings."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert isinstance(app, Application)
        portal = app.state.portal = Portal(settings)
        rest = threading.Timer(_START, app.complete)
        rest.daemon = True
        rest.start()
        try:
            yield
        finally:
            rest.cancel()
            portal.close()

    app = Application(
        settings, title="govlm", version=version("govlm"), description="网上办事大厅智能助手接口", lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json",
    )  # fmt: skip
    errors.install(app)
    return app
