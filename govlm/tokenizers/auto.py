"""AutoTokenizer: the tokenizer of whatever kind a folder holds."""

from __future__ import annotations

import os
from typing import Any

from govlm.tokenizers.bert import BertTokenizer

__all__ = ["AutoTokenizer"]


class AutoTokenizer:
    """`from_pretrained` for whatever kind of tokenizer a folder holds; WordPiece so far."""

    @staticmethod
    def from_pretrained(directory: str | os.PathLike[str], **overrides: Any) -> BertTokenizer:
        return BertTokenizer.from_pretrained(directory, **overrides)
