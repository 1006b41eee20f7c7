"""The hall assistant: it knows the services, recognises what a person wants, and answers with citations. No web framework here.

from govlm.hall import Hall
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from govlm.hall.hall import Hall as Hall
    from govlm.hall.hall import Hit as Hit

__all__ = ["Hall", "Hit"]


def __getattr__(name: str) -> Any:  # the privacy module alone needs none of this
    if name in __all__:
        return getattr(importlib.import_module("govlm.hall.hall"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
