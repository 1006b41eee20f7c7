"""The commands, one module each, in the order of `govlm --help`. A module has `register(command)`; importing one is cheap."""

from __future__ import annotations

MODULES = (
    "serve", "portal", "audit", "wipe", "chat", "hall", "policy", "eval", "corpus", "pretrain", "embed", "classify", "distill", "quantize", "tokenize", "info", "demo",
)  # fmt: skip
