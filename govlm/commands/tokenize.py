"""`govlm tokenize`: what the tokenizer makes of a text."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.bundled import BUNDLED
from govlm.commands.common import UsageError, add_common, emit, input_lines

__all__ = ["register"]


def _tokenize(arguments: argparse.Namespace) -> int:
    import govlm

    if arguments.model is not None and arguments.vocab is not None:
        raise UsageError("give --model DIR or --vocab FILE, not both")
    if arguments.vocab is None:
        tokenizer = govlm.AutoTokenizer.from_pretrained(arguments.model or BUNDLED)
    else:
        tokenizer = govlm.BertTokenizer(arguments.vocab, do_lower_case=not arguments.cased)
    for text in arguments.text or input_lines(None):
        encoding = tokenizer(text, add_special_tokens=not arguments.no_special_tokens, return_offsets_mapping=True)
        ids = [int(i) for i in encoding["input_ids"]]
        tokens = tokenizer.convert_ids_to_tokens(ids)
        if arguments.json:
            offsets = [[int(a), int(b)] for a, b in encoding["offset_mapping"]]
            emit({"text": text, "ids": ids, "tokens": tokens, "offsets": offsets})
        elif arguments.ids:
            print(" ".join(map(str, ids)))
        else:
            print(" ".join(tokens))
    return 0


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    sub = command("tokenize", _tokenize, "show the tokens of texts or of the lines of standard input")
    sub.add_argument("text", nargs="*", metavar="TEXT")
    sub.add_argument("--model", metavar="DIR", help=f"folder with the tokenizer ({BUNDLED})")
    sub.add_argument("--vocab", metavar="FILE", help="or a vocab.txt")
    sub.add_argument("--cased", action="store_true", help="with --vocab: keep upper case and accents")
    sub.add_argument("--ids", action="store_true", help="numbers in place of tokens")
    sub.add_argument("--no-special-tokens", action="store_true", help="without [CLS] and [SEP]")
    add_common(sub, threads=False)
