"""The citizen's page, also as other portals' pages show it within theirs. It comes with a cookie that names the visitor, where no login is asked for."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from govlm.portal.security.access import welcome

__all__ = ["router"]

WEB = Path(__file__).resolve().parents[1] / "web"
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request) -> FileResponse:
    response = FileResponse(WEB / "index.html")
    welcome(request, response)
    return response


@router.get("/widget")
async def framed(request: Request) -> FileResponse:
    """The same page, narrow; only pages of `settings.origins` may show it."""
    return await page(request)


@router.get("/widget.js")
async def widget() -> FileResponse:
    """What such a page loads."""
    return FileResponse(WEB / "widget.js")


@router.get("/login")
async def login() -> FileResponse:
    return FileResponse(WEB / "login.html")


@router.get("/console")
async def console() -> FileResponse:
    """Holds nothing by itself: what it shows comes from routes that ask who wants to see it."""
    return FileResponse(WEB / "console.html")
