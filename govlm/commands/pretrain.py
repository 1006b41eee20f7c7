"""`govlm pretrain` and `govlm vocabulary`: make an encoder from text, and give one the words of a domain."""

from __future__ import annotations

import argparse
import json
from typing import Any

from govlm.bundled import BUNDLED
from govlm.commands.common import UsageError, add_common, emit, progress, set_threads

__all__ = ["register"]


def _changes(items: list[str]) -> dict[str, Any]:
    """key=value pairs; a value is JSON where it can be, else a string."""
    changes: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, not {item!r}")
        try:
            changes[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            changes[key.strip()] = text
    return changes


def _pretrain(arguments: argparse.Namespace) -> int:
    from govlm.train.distributed import find_ranks, guarded
    from govlm.train.pretrain import pretrain, read_options

    changes = _changes(arguments.set or [])
    if arguments.objective is not None:
        changes["objective"] = arguments.objective
    if arguments.config is None and not changes:
        raise UsageError("give --config FILE (or --set key=value for everything)")
    try:
        options = read_options(arguments.config, changes)
    except ValueError as error:
        raise UsageError(str(error)) from None
    set_threads(arguments)
    ranks = find_ranks()
    with guarded(ranks):
        result = pretrain(options, resume=arguments.resume, progress=progress(arguments), ranks=ranks)
    if ranks.rank != 0:
        return 0
    if arguments.json:
        emit(result)
        return 0
    loss = "" if result["loss"] is None else f", last loss {result['loss']:.4f}"
    rate = result["tokens"] / result["seconds"] if result["seconds"] else 0.0
    print(f"{result['steps']:,} steps, {result['tokens']:,} tokens, {result['seconds']:.1f} s ({rate:,.0f} tokens/s){loss}")
    if result["heldout"]:
        shown = {k: v for k, v in result["heldout"].items() if k not in ("step", "train_loss")}
        print("held out: " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in shown.items()))
    print(f"model written to {result['out']}")
    return 0


def _extend(arguments: argparse.Namespace) -> int:
    from govlm.train.vocabulary import extend_vocabulary, read_words

    words = list(arguments.word or [])
    if arguments.words is not None:
        words += read_words(arguments.words)
    if not words:
        raise UsageError("give --words FILE or --word WORD")
    report = extend_vocabulary(arguments.model, words, arguments.out)
    if arguments.json:
        emit(report)
        return 0
    for word, pieces in report["added"].items():
        print(f"{word}\t{' '.join(pieces)}")
    known = f", {len(report['known'])} known already" if report["known"] else ""
    print(f"{len(report['added'])} words added{known}: {report['vocab_size']:,} tokens; model written to {report['out']}")
    return 0


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    sub = command(
        "pretrain",
        _pretrain,
        "pre-train an encoder, or a model that writes, on token shards (govlm corpus build), alone or under mpirun",
    )
    sub.add_argument("--config", metavar="FILE", help="TOML or JSON; its keys are the fields of PretrainOptions")
    sub.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="a key of the config, on top of the file (model.hidden_size=312)"
    )
    sub.add_argument(
        "--objective",
        metavar="NAME",
        help="mlm, rtd, causal (the next token) or span (T5), in the place of the config's (mlm)",
    )
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the config's out")
    add_common(sub)

    sub = command("vocabulary", _extend, "give a model the words of a domain")
    actions = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    sub = actions.add_parser("extend", help="add words; their embeddings start as the mean of their pieces")
    sub.add_argument("--model", default=BUNDLED, metavar="DIR", help=f"a model with its tokenizer ({BUNDLED})")
    sub.add_argument("--words", metavar="FILE", help="a word a line, UTF-8")
    sub.add_argument("--word", action="append", metavar="WORD", help="a word (repeat)")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for the new model and tokenizer")
    add_common(sub, threads=False)
