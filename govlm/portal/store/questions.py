"""Questions that were not answered, or badly: masked, counted, for the administrator who turns them into answers."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.privacy import mask
from govlm.hall.protection.sessions import utc
from govlm.portal.store.tables import tables

if TYPE_CHECKING:
    from govlm.hall.hall import Hall

__all__ = ["note"]

_LOG = logging.getLogger(__name__)
_LONGEST = 500  # characters of a question that are kept


def note(hall: Hall, kind: Literal["unanswered", "bad"], text: str, reason: str, now: datetime | None = None) -> None:
    """Keeps a question, or counts it where it is there already. reason: why it was refused (a key of answers.words.REFUSALS), or what the
    person said of the answer. A database that cannot write it is logged only: the answer was given."""
    asked = mask(" ".join(text.replace("\x00", " ").split()))[:_LONGEST]
    if not asked:
        return
    time, table = utc(now or datetime.now().astimezone()), tables()["questions"]
    row = hall.vault.pseudonym("question", f"{kind} {asked}")
    why = mask(reason.replace("\x00", " "))[:_LONGEST]

    def write(connection: Any) -> None:
        counted = {"asked": table.c.asked + 1, "last": time, "reason": why}
        if not connection.execute(table.update().where(table.c.id == row).values(**counted)).rowcount:
            values = {"id": row, "masked": asked, "kind": kind, "reason": why, "status": "open", "first": time, "last": time}
            connection.execute(table.insert().values(**values, asked=1))

    try:
        hall.writer.submit(write)
    except CatalogueError as error:
        _LOG.error("a question for the console was not kept: %s", error)
