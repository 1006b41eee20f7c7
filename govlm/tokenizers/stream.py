"""Text from tokens that come one by one: a character that is spread over several tokens comes out whole, or not yet."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

if TYPE_CHECKING:
    from govlm.tokenizers.base import PreTrainedTokenizer

__all__ = ["DecodeStream", "TextStreamer"]


class DecodeStream:
    """What feed() and end() return, joined, is the decoded text; made by `tokenizer.decode_stream()`.

    Bytes that are no UTF-8 become U+FFFD as soon as that is certain; where SentencePiece's byte tokens are not UTF-8, decode() may
    write more of these signs than the stream does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizer, skip_special_tokens: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip = frozenset(tokenizer.all_special_ids) if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = True

    def feed(self, token_id: int) -> str:
        """The text that this token makes certain, often empty within a character."""
        index = int(token_id)
        if index in self._skip:
            return ""
        data = self._tokenizer.token_bytes(index, first=self._first)
        self._first = False
        return self._decoder.decode(data)

    def end(self) -> str:
        """What is left: U+FFFD for a character that never became whole. The stream starts anew then."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._first = True
        return rest


class TextStreamer:
    """Writes text to `file` while it is generated; transformers' names. Override on_finalized_text to send it elsewhere.

    skip_prompt: the first put() is the prompt and is not written.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizer,
        skip_prompt: bool = False,
        *,
        skip_special_tokens: bool = False,
        file: TextIO | None = None,
    ) -> None:
        self.skip_prompt = skip_prompt
        self._file = file
        self._stream = DecodeStream(tokenizer, skip_special_tokens)
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """One id, or those of one sequence. ValueError for a batch."""
        ids = np.asarray(value)
        if ids.ndim > 1 and ids.shape[0] > 1:
            raise ValueError(f"TextStreamer writes one sequence, got a batch of {ids.shape[0]}")
        if self.skip_prompt and self._is_prompt:
            self._is_prompt = False
            return
        self._is_prompt = False
        text = "".join(self._stream.feed(index) for index in ids.reshape(-1).tolist())
        if text:
            self.on_finalized_text(text)

    def end(self) -> None:
        """Writes what is left and a line break; ready for the next text."""
        self._is_prompt = True
        self.on_finalized_text(self._stream.end(), stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        print(text, end="\n" if stream_end else "", flush=True, file=self._file or sys.stdout)
