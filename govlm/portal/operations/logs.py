"""Logs: one JSON object a line, with nobody's data in it.

Every text is masked (govlm.hall.privacy). Names cannot be found by their form, so that what a citizen wrote is never logged at all: of an
exception, its type and where it happened are kept, and its message only where this project, the system or the database wrote it.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.privacy import mask

__all__ = ["configure"]

# made here, of nothing that was sent; to look through them would cost more than all else of a line
_OURS = ("level", "logger", "method", "request_id", "route", "timestamp", "who")
_FRAMES = 12  # of a traceback, the innermost


def configure(file: Path | None = None) -> None:
    """Sends all logs of the process there. file: default is standard error; one that is moved away (logrotate) is made again."""
    import structlog

    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = logging.handlers.WatchedFileHandler(file, encoding="utf-8")
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception,
        _masked,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=lambda value: type(value).__name__),
            ],
        )
    )
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.partition(".")[0] == "govlm")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("govlm").setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        found = logging.getLogger(name)
        found.handlers.clear()
        found.propagate = True
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) stops nothing, and prints no record elsewhere
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _exception(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """exc_info -> type, places, and the message where it is ours."""
    given = event.pop("exc_info", None)
    record = event.get("_record")
    if record is not None:
        given, record.exc_info, record.exc_text, record.stack_info = record.exc_info, None, None, None
    if given is True:
        given = sys.exc_info()
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if error is None:
        return event
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    event["error"] = type(error).__name__
    event["where"] = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    if isinstance(error, CatalogueError):
        event["message"] = str(error)
    elif isinstance(error, OSError) and error.strerror:
        event["message"] = error.strerror
    return event


def _masked(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: value if name in _OURS or name.startswith("_") else _clean(value) for name, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {_clean(str(name)): _clean(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return type(value).__name__
