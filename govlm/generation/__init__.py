"""Generation: what follows a text, token by token, for one call (`model.generate`) or for many requests at once (`Engine`)."""

from __future__ import annotations

import importlib
from typing import Any

_PLACES: dict[str, tuple[str, ...]] = {
    "configuration": ("GenerationConfig",),
    "engine": ("Engine", "EngineFull", "Handle"),
    "generate": ("GenerateOutput",),
    "local": ("LanguageModel",),
    "mixin": ("GenerationMixin",),
    "scheduler": ("NonFiniteLogits", "PromptTooLong", "Request", "Scheduler"),
}
_WHERE = {name: module for module, names in _PLACES.items() for name in names}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"govlm.generation has no {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
