"""New words for a model's vocabulary: the terms of a domain as tokens of their own, which then want some more pre-training.

A new token's rows of the embeddings and of the MLM head start as the mean of those of the pieces that the word was made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from govlm.train.loop import TrainError

__all__ = ["extend_vocabulary", "read_words"]


def read_words(path: str | Path) -> list[str]:
    """A word a line, UTF-8; spaces around it and empty lines are left out. ValueError names the line that is not UTF-8."""
    words = []
    for number, raw in enumerate(Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            word = raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{path}:{number}: not UTF-8") from None
        if word:
            words.append(word)
    return words


def extend_vocabulary(source: str | Path, words: Iterable[str], out: str | Path) -> dict[str, Any]:
    """Adds `words` to the model and tokenizer in `source` and writes both to `out`.

    A word becomes an added token, since WordPiece itself never sees two ideographs together; one of Latin letters or digits
    is found as a whole word only. Words that are one token already are left. Returns {"added": {word: its pieces so far},
    "known": […], "vocab_size", "out"}. Errors: ValueError (an empty word), TrainError (`out` is `source`), those of loading
    and of saving.
    """
    import govlm
    from govlm.tokenizers import AddedToken

    if Path(out).resolve() == Path(source).resolve():
        raise TrainError(f"{out} holds the model itself: give another folder for the extended one")
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(source))
    model = _load(source)
    added: dict[str, list[int]] = {}
    known: list[str] = []
    for word in dict.fromkeys(words):
        if not word.strip():
            raise ValueError("a word to be added is empty")
        pieces = [int(i) for i in tokenizer(word, add_special_tokens=False)["input_ids"]]
        if len(pieces) == 1 and pieces[0] != tokenizer.unk_token_id:
            known.append(word)
        elif pieces:
            added[word] = pieces
        else:
            raise ValueError(f"the word {word!r} has no token: the tokenizer drops all of its characters")
    names = {word: tokenizer.convert_ids_to_tokens(pieces) for word, pieces in added.items()}
    tokenizer.add_tokens([AddedToken(word, single_word=_latin(word)) for word in added])
    size = max(tokenizer.get_vocab().values()) + 1
    before = model.config.vocab_size
    if size > before:
        model.resize_token_embeddings(size)
    for _, parameter in model.named_parameters():
        if parameter.shape[0] == model.config.vocab_size and _is_vocabulary(parameter.core_name):
            values = parameter.data
            for word, pieces in added.items():
                values[tokenizer.convert_tokens_to_ids(word)] = values[pieces].mean(axis=0, dtype=np.float64)
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    return {"added": names, "known": known, "vocab_size": int(model.config.vocab_size), "out": str(out)}


def _latin(word: str) -> bool:
    return all(c.isascii() for c in word)


def _is_vocabulary(core_name: str) -> bool:
    return core_name in ("embeddings.word.weight", "mlm.decoder.weight", "mlm.bias")


def _load(source: str | Path) -> Any:
    """The model of the class that its config names (a masked LM keeps its head), else the encoder."""
    import govlm

    config = govlm.AutoConfig.from_pretrained(str(source))
    for name in config.architectures or []:
        kind = getattr(govlm, name, None)
        if kind is not None:
            return kind.from_pretrained(str(source))
    return govlm.AutoModel.from_pretrained(str(source))
