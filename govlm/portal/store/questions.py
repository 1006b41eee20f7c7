"""Questions that were not answered, or badly: masked, counted, for the administrator who turns them into answers. They are encrypted, too:
a name in them cannot be found by its form."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.privacy import mask
from govlm.hall.protection.sessions import utc
from govlm.portal.store.tables import tables

if TYPE_CHECKING:
    from govlm.hall.hall import Hall

__all__ = ["Question", "note", "opened"]


class Question(NamedTuple):
    """A row of portal_questions as an administrator reads it."""

    id: str
    text: str
    kind: Literal["unanswered", "bad"]
    reason: str
    status: Literal["open", "answered", "dismissed"]
    first: str
    last: str
    asked: int


_LOG = logging.getLogger(__name__)
_TABLE = "portal_questions"
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
    sealed = hall.vault.encrypt(_TABLE, row, "text_sealed", asked)
    why_sealed = hall.vault.encrypt(_TABLE, row, "reason_sealed", why)

    def write(connection: Any) -> None:
        counted = {"asked": table.c.asked + 1, "last": time, "reason_sealed": why_sealed}
        if not connection.execute(table.update().where(table.c.id == row).values(**counted)).rowcount:
            values = {
                "id": row, "text_sealed": sealed, "kind": kind, "reason_sealed": why_sealed, "status": "open", "first": time, "last": time,
            }  # fmt: skip
            connection.execute(table.insert().values(**values, asked=1))

    try:
        hall.writer.submit(write)
    except CatalogueError as error:
        _LOG.error("a question for the console was not kept: %s", error)


def opened(hall: Hall, row: Any) -> Question:
    """A row, decrypted."""
    text = hall.vault.decrypt(_TABLE, row.id, "text_sealed", row.text_sealed)
    reason = hall.vault.decrypt(_TABLE, row.id, "reason_sealed", row.reason_sealed)
    return Question(row.id, text, row.kind, reason, row.status, row.first, row.last, row.asked)
