"""The citizen's page. It comes with a cookie that names the visitor, where no login is asked for."""

from __future__ import annotations

import secrets
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from govlm.portal.portal import Here
from govlm.portal.security.access import VISITOR, signature

__all__ = ["router"]

WEB = Path(__file__).resolve().parents[1] / "web"
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request, portal: Here) -> FileResponse:
    response = FileResponse(WEB / "index.html")
    if portal.settings.loopback and VISITOR not in request.cookies:
        number = secrets.token_urlsafe(16)
        signed = f"{number}.{signature(portal.secret, VISITOR, number)}"
        response.set_cookie(VISITOR, signed, httponly=True, samesite="lax", secure=portal.settings.secure)
    return response
