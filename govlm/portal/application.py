"""The web application: routes, errors, the page. One for each worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from govlm.portal import errors
from govlm.portal.api import (
    account,
    admin_accounts,
    admin_catalogue,
    admin_questions,
    admin_switches,
    audit,
    chat,
    feedback,
    forms,
    handoffs,
    health,
    items,
    language,
    me,
    metrics,
    openai,
    pages,
    policies,
    submissions,
    usage,
)
from govlm.portal.openapi import describe
from govlm.portal.operations.observe import Observed
from govlm.portal.portal import Portal
from govlm.portal.security.headers import Shield
from govlm.portal.settings import Settings

__all__ = ["create_app"]

WEB = Path(__file__).with_name("web")
ROUTERS = (
    health.router, metrics.router, pages.router, account.router, admin_accounts.router, chat.router, submissions.router, feedback.router,
    handoffs.router, items.router, policies.router, forms.router, me.router, language.router, openai.router, audit.router,
    admin_catalogue.router, admin_questions.router, admin_switches.router, usage.router,
)  # fmt: skip


class Application(FastAPI):
    """With the shield around all of it, the handler of unforeseen errors too; all that is answered is observed."""

    settings: Settings

    def build_middleware_stack(self) -> ASGIApp:
        return Observed(Shield(super().build_middleware_stack(), self.settings))


def create_app(settings: Settings) -> FastAPI:
    """`govlm.portal.portal.prepare` must have been called for these settings."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        portal = app.state.portal = Portal(settings)
        try:
            yield
        finally:
            portal.close()

    app = Application(
        title="govlm", version=version("govlm"), description="网上办事大厅智能助手接口", lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json",
    )  # fmt: skip
    app.settings = settings
    errors.install(app)

    for router in ROUTERS:
        app.include_router(router)
    describe(app)
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app
