"""`govlm info`: what runs here, and how."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.commands.common import add_common, emit

__all__ = ["register"]


def _info(arguments: argparse.Namespace) -> int:
    import platform

    import numpy

    from govlm import __version__
    from govlm._native import core

    facts: dict[str, Any] = {"govlm": __version__, "python": platform.python_version(), "numpy": numpy.__version__}
    facts["platform"] = platform.platform()
    facts.update(core.info())
    facts["threads"] = core.num_threads()
    if arguments.json:
        emit(facts)
        return 0
    flat: list[tuple[str, str]] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                add(f"{name} {key}", item)
        elif isinstance(value, (list, tuple)):
            flat.append((name, " ".join(map(str, value))))
        else:
            flat.append((name, str(value)))

    for key, value in facts.items():
        add(key.replace("_", " "), value)
    width = max(len(name) for name, _ in flat)
    for name, text in flat:
        print(f"{name:<{width}}  {text}")
    return 0


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    sub = command("info", _info, "versions, CPU features, kernels and threads in use")
    add_common(sub, threads=False)
