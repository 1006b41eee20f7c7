"""The web application: routes, errors, the page. One for each worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from govlm.portal import errors
from govlm.portal.api import audit, chat, health, metrics, pages
from govlm.portal.operations.observe import Observed
from govlm.portal.portal import Portal
from govlm.portal.settings import Settings

__all__ = ["create_app"]

WEB = Path(__file__).with_name("web")
ROUTERS = (health.router, metrics.router, pages.router, chat.router, audit.router)


def create_app(settings: Settings) -> FastAPI:
    """`govlm.portal.portal.prepare` must have been called for these settings."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        portal = app.state.portal = Portal(settings)
        try:
            yield
        finally:
            portal.close()

    app = FastAPI(
        title="govlm", version=version("govlm"), description="网上办事大厅智能助手接口", lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json",
    )  # fmt: skip
    errors.install(app)

    app.add_middleware(Observed)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app
