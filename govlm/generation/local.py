"""A language model of this machine, ready to serve: the model, its tokenizer and chat template, and an engine for many requests.

with LanguageModel.open("qwen") as model:
    handle = model.submit([{"role": "user", "content": "您好"}], max_new_tokens=64)
    print(model.text(handle.result(30)))
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from .._native import core as native
from ..bundled import is_gguf, model_folder
from .configuration import GenerationConfig
from .constrained.vocabulary import Vocabulary
from .engine import Engine, Handle
from .generate import core_of, position_limit

__all__ = ["LanguageModel"]

Message = Mapping[str, Any]  # {"role": …, "content": …}
_GUESSING = GenerationConfig(prompt_lookup_num_tokens=10)  # where nothing else is asked for
_PROBE: tuple[Message, ...] = ({"role": "user", "content": "您好"},)
_THEN = datetime(2000, 1, 1)  # for a template that asks for the date, when it is only tried


def _is_seq2seq(config: Any) -> bool:
    return bool(config.__dict__.get("is_encoder_decoder", False))


def _kind(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """(the auto class that opens it, its config)"""
    from ..configuration import AutoConfig
    from ..models import AutoModelForCausalLM, AutoModelForSeq2SeqLM  # large, and not needed to name the class

    config = AutoConfig.from_pretrained(path)
    return AutoModelForSeq2SeqLM if _is_seq2seq(config) else AutoModelForCausalLM, config


class LanguageModel:
    """Made by `open`; close it, or use it in a `with`. Any number of threads may ask. A sequence-to-sequence model (T5) reads the
    conversation as its source.

    memory: bytes that keys and values may take (0: as there is). engine: options of govlm.generation.Engine. A tokenizer without a
    chat template gets the messages' texts, a line each.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, *, memory: int = 0, **engine: Any) -> None:
        """ValueError: the two do not fit together, the model is none that an engine serves, or its chat template is refused."""
        size = int(model.config.vocab_size)
        if len(tokenizer) > size:
            raise ValueError(
                f"{name}: the tokenizer has {len(tokenizer)} tokens, the model only {size}: they are not of one model"
            )
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self._lock = threading.Lock()
        self.prompt(_PROBE, _THEN)  # a template that tries to run code is refused now, not when somebody asks
        if memory:
            engine["pages"] = max(1, memory // int(native.Cache(core_of(model)).usage()["page_bytes"]))
        self.engine = Engine(model, tokenizer=tokenizer, **engine)

    @staticmethod
    def check(path: str | os.PathLike[str]) -> None:
        """Says at once what `open` would say of the config, the tokenizer and the chat template; no weights are read. Errors: its."""
        from ..tokenizers import AutoTokenizer

        auto, config = _kind(path)
        auto._class_for(config)
        tokenizer = AutoTokenizer.from_pretrained(path)
        if tokenizer.chat_template:
            tokenizer.apply_chat_template(_PROBE, add_generation_prompt=True, now=_THEN)

    @classmethod
    def open(cls, path: str | os.PathLike[str], **engine: Any) -> LanguageModel:
        """From a folder or a .gguf file. ValueError or OSError names what is missing, damaged or of another kind."""
        from ..tokenizers import AutoTokenizer

        auto, _ = _kind(path)
        return cls(auto.from_pretrained(path), AutoTokenizer.from_pretrained(path), cls.name_of(path), **engine)

    @staticmethod
    def name_of(path: str | os.PathLike[str]) -> str:
        """What the model of a folder or file is called: its name without the ending."""
        where = model_folder(path).absolute()
        return where.stem if is_gguf(where) else where.name

    @property
    def limit(self) -> int | None:
        """Positions of the model: tokens of prompt and answer together. None: there is no limit."""
        return None if self._seq2seq else position_limit(self.model)

    @property
    def _seq2seq(self) -> bool:
        return _is_seq2seq(self.model.config)

    def begin(self, ids: Sequence[int]) -> int:
        """How many ids stand before the first that answers the prompt `ids`, in what a logits processor sees."""
        return 1 if self._seq2seq else len(ids)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """For constraints; its ends are the tokenizer's and those of generation_config.json."""
        with self._lock:
            whole = Vocabulary.of(self.tokenizer, int(self.model.config.vocab_size))
            ends = dict.fromkeys((*whole.eos, *self.model.generation_config.eos))
            return Vocabulary(whole.tokens, ends)

    def prompt(self, messages: Sequence[Message], now: datetime | None = None) -> list[int]:
        """The ids of a conversation up to where the answer begins. now: for a template that asks for the date. ValueError when the
        template gives up (roles out of order, …)."""
        if self.tokenizer.chat_template:
            ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, now=now)
        else:
            ids = self.tokenizer("\n".join(str(message["content"]) for message in messages) + "\n")["input_ids"]
            end = self.tokenizer.eos_token_id
            while not self._seq2seq and len(ids) > 1 and ids[-1] == end:  # of tokenizers that close each text
                ids = ids[:-1]
        return [int(index) for index in ids]

    def submit(self, messages: Sequence[Message], *, now: datetime | None = None, **options: Any) -> Handle:
        """Asks for what follows the messages. Options and errors: as of Engine.submit; tokens are guessed ahead from the prompt unless
        prompt_lookup_num_tokens=0 is given, as answers of a hall repeat what they were asked and told."""
        config = options.pop("generation_config", None) or GenerationConfig()
        return self.engine.submit(self.prompt(messages, now), config.over(_GUESSING), **options)

    def text(self, ids: Sequence[int]) -> str:
        """What generated ids say, without special tokens."""
        stream = self.tokenizer.decode_stream(skip_special_tokens=True)
        return "".join([*(stream.feed(index) for index in ids), stream.end()])

    def close(self) -> None:
        """Cancels what is under way."""
        self.engine.close()

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
