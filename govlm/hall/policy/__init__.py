"""Policy texts for citizens: a short text, the key terms, and what it means for whom; every word of it copied from the text.

from govlm.hall.policy import summarise, keywords, interpret
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from govlm.hall.policy.interpretation import interpret as interpret
    from govlm.hall.policy.summary import summarise as summarise
    from govlm.hall.policy.terms import keywords as keywords

_PLACES = {"summarise": "summary", "keywords": "terms", "interpret": "interpretation"}

__all__ = ["interpret", "keywords", "summarise"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"govlm.hall.policy.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
