"""Whether the worker lives, and whether it can answer."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from fastapi import APIRouter
from pydantic import BaseModel

from govlm.hall.catalogue.report import CatalogueError
from govlm.portal.errors import PortalError, responses
from govlm.portal.portal import Here, Portal
from govlm.portal.store.tables import revision

__all__ = ["router"]

router = APIRouter(tags=["operations"])
_LOG = logging.getLogger(__name__)
_OPEN = {"x-access": {"roles": [], "scope": "", "owner": ""}}
_ROOM = 64 << 20  # bytes of the disk that must be free


class HealthView(BaseModel):
    status: str


@router.get("/healthz", openapi_extra=_OPEN)
async def alive() -> HealthView:
    """The process answers."""
    return HealthView(status="ok")


@router.get("/readyz", openapi_extra=_OPEN, responses=responses("busy"))
async def ready(portal: Here) -> HealthView:
    """The database and the index answer, and the disk has room; 503 names in `fields` what does not."""
    failed = [name for name, check in CHECKS.items() if not await portal.gate.run(_holds, check, portal)]
    if failed:
        raise PortalError("busy", f"系统尚未就绪：{'、'.join(failed)}。", fields=failed, retry_after=5)
    return HealthView(status="ready")


def _holds(check: Callable[[Portal], bool], portal: Portal) -> bool:
    try:
        return check(portal)
    except (CatalogueError, OSError) as error:
        _LOG.warning("not ready", exc_info=error)
        return False


CHECKS: dict[str, Callable[[Portal], bool]] = {
    "database": lambda portal: revision(portal.database) is not None,
    "disk": lambda portal: shutil.disk_usage(portal.settings.data).free >= _ROOM,
    "index": lambda portal: portal.hall.library is not None,
}
