"""The citizen's page. It comes with a cookie that names the visitor, where no login is asked for."""

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


@router.get("/login")
async def login() -> FileResponse:
    return FileResponse(WEB / "login.html")


@router.get("/console")
async def console() -> FileResponse:
    """Holds nothing by itself: what it shows comes from routes that ask who wants to see it."""
    return FileResponse(WEB / "console.html")
