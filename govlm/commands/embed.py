"""`govlm embed-train`, `embed`: sentence embeddings, trained on pairs or on single texts, and used."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.bundled import BUNDLED
from govlm.commands.common import (
    UsageError,
    add_common,
    add_training,
    emit,
    input_lines,
    make_options,
    positive,
    print_run,
    progress,
    set_threads,
)  # fmt: skip

__all__ = ["register"]


def _field_pair(text: str, what: str) -> tuple[str, str]:
    left, _, right = text.partition(":")
    if not left or not right:
        raise UsageError(f"{what} must be two fields, LEFT:RIGHT, not {text!r}")
    return left, right


def _embed_train(arguments: argparse.Namespace) -> int:
    from govlm.train.distributed import find_ranks, guarded
    from govlm.train.embed import EmbedOptions, embed_train
    from govlm.train.pairs import read_pairs, read_scored, read_texts

    options = make_options(EmbedOptions, arguments)
    if (arguments.pairs is None) == (arguments.texts is None):
        raise UsageError("give either --pairs FILE or --texts FILE")
    set_threads(arguments)
    skip = ("", *(arguments.skip or ()))

    def pairs_of(files: list[str] | None, fields: str, flag: str, asked: bool) -> list[Any]:
        """asked: they are queries, and a query may be worded as its target is."""
        found: list[Any] = []
        for file in files or ():
            for spec in fields.split(","):
                left, right = _field_pair(spec, flag)
                found += read_pairs(file, left, right, arguments.negative_field, arguments.format, skip, same=asked)
        return list({(a, b): (a, b, n) for a, b, n in found}.values())

    queries = pairs_of(arguments.queries, arguments.query_fields or arguments.fields, "--query-fields", True)
    scored = None
    if arguments.scored:
        names = arguments.scored_fields.split(",")
        if len(names) != 3:
            raise UsageError(f"--scored-fields must be three fields, TEXT,TEXT,SCORE, not {arguments.scored_fields!r}")
        # a file without a known ending, such as train.txt, is taken for TSV
        scored = read_scored(arguments.scored, names[0], names[1], names[2], arguments.scored_format)
    pool = read_texts(arguments.pool, arguments.pool_field, arguments.format) if arguments.pool else None
    ranks = find_ranks()
    with guarded(ranks):
        result = embed_train(
            pairs_of(arguments.pairs, arguments.fields, "--fields", False) if arguments.pairs else None,
            [t for file in arguments.texts for t in read_texts(file, arguments.text_field, arguments.format)]
            if arguments.texts
            else None,
            model=arguments.model,
            out=arguments.out,
            scored=scored,
            queries=queries or None,
            pool=pool,
            vocab=arguments.vocab,
            options=options,
            resume=arguments.resume,
            progress=progress(arguments),
            ranks=ranks,
        )
    if ranks.rank != 0:
        return 0
    if arguments.json:
        emit(result)
        return 0
    print_run(f"{result['pairs']} pairs, {result['steps']} steps", result)
    if result["start"]:
        best = result["best"]["report"] if result["best"] else {}
        print(f"{'':<10} {'before':>8} {'best':>8}")
        for name, value in result["start"].items():
            shown = (lambda x: f"{x:>8.4f}") if isinstance(value, float) else (lambda x: f"{x:>8}")
            print(f"{name:<10} {shown(value)} {shown(best[name]) if name in best else '':>8}")
    print(f"model written to {result['out']}")
    return 0


def _embed(arguments: argparse.Namespace) -> int:
    import numpy as np

    import govlm
    from govlm.train.embed import embed_encoded
    from govlm.train.evaluate import encode_texts
    from govlm.train.losses import normalise_rows
    from govlm.train.pairs import read_texts
    from govlm.train.source import load_encoder

    set_threads(arguments)
    model, tokenizer = load_encoder(arguments.model)
    sentence = getattr(model.config, "sentence", None) or {}
    pooling = arguments.pooling or sentence.get("pooling", "mean")
    normalise = sentence.get("normalize", False) if arguments.normalize is None else arguments.normalize
    if arguments.text_field is not None and arguments.file not in (None, "-"):
        texts = read_texts(arguments.file, arguments.text_field, arguments.format)
    else:
        texts = list(input_lines(arguments.file))
    vectors = embed_encoded(model, encode_texts(model, tokenizer, texts, arguments.max_length), pooling, arguments.max_tokens)
    if normalise:
        vectors = normalise_rows(vectors)[0].astype(np.float32)
    temporary = f"{arguments.out}.tmp"
    with open(temporary, "wb") as handle:
        np.save(handle, vectors)
    import os

    os.replace(temporary, arguments.out)
    if arguments.json:
        emit({"texts": len(texts), "hidden": int(vectors.shape[1]), "pooling": pooling, "normalize": bool(normalise),
              "out": arguments.out, "threads": govlm.num_threads()})  # fmt: skip
    else:
        print(f"{len(texts)} vectors of {vectors.shape[1]} numbers ({pooling}) written to {arguments.out}")
    return 0


def register(command: Any) -> None:
    """Adds the commands."""
    sub = command("embed-train", _embed_train, "train sentence embeddings on pairs of texts, or on single texts")
    sub.add_argument("--pairs", nargs="+", metavar="FILE", help="JSONL, CSV or TSV with pairs that belong together")
    sub.add_argument(
        "--fields",
        default="question:answer",
        metavar="LEFT:RIGHT",
        help="their fields, also several, as alias:name,title:body (question:answer)",
    )
    sub.add_argument("--negative-field", metavar="F", help="field with hard negatives: a text or a list of them")
    sub.add_argument("--skip", action="append", metavar="TEXT", help="a value that means none (may be repeated)")
    sub.add_argument("--texts", nargs="+", metavar="FILE", help="in place of pairs: single texts, a line each (SimCSE)")
    sub.add_argument("--text-field", metavar="F", help="with --texts: the file is JSONL, CSV or TSV with this field")
    sub.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="the format, where the file's name does not tell")
    sub.add_argument(
        "--model", default=BUNDLED, metavar="DIR", help=f"pretrained folder, or a config.json for a random start ({BUNDLED})"
    )
    sub.add_argument("--vocab", metavar="FILE", help="vocab.txt for a config.json (the one beside it)")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for the model, checkpoints, log.jsonl, result.json")
    judged = sub.add_argument_group("evaluation")
    judged.add_argument("--scored", metavar="FILE", help="pairs with a score, for Spearman's correlation")
    judged.add_argument("--scored-fields", default="0,1,2", metavar="A,B,S", help="text, text, score (columns 0,1,2)")
    judged.add_argument("--scored-format", choices=("jsonl", "csv", "tsv"), help="its format, where the name does not tell")
    judged.add_argument("--queries", nargs="+", metavar="FILE", help="pairs query/target: R@k and MRR")
    judged.add_argument("--query-fields", metavar="L:R", help="their fields (--fields)")
    judged.add_argument("--pool", metavar="FILE", help="more texts to search among")
    judged.add_argument("--pool-field", metavar="F", help="their field (a line each)")
    judged.add_argument("--metric", metavar="NAME", help="chooses the best model: spearman, MRR, R@1 … (spearman, else MRR)")
    numbers = sub.add_argument_group("training")
    add_training(
        numbers,
        (
            ("--epochs", int, "passes over the data (1)"),
            ("--batch-size", int, "pairs a step, each a negative of the others (64)"),
            ("--chunk-size", int, "texts a forward: a large batch in little memory, forwards twice (0 = all at once)"),
            ("--temperature", float, "of the cosines (0.05)"),
            ("--negatives", int, "hard negatives a row, where there are some (1)"),
            ("--mlm-weight", float, "of a masked-LM loss beside, which keeps the head of the model good (0 = no head)"),
            ("--max-length", int, "tokens a text, longer ones are cut (what the model takes)"),
            ("--eval-steps", int, "evaluations every so many steps (each epoch)"),
        ),
        "5e-5; from random weights try 5e-4",
    )
    numbers.add_argument("--pooling", choices=("mean", "cls"), help="how a text becomes one vector (mean)")
    numbers.add_argument(
        "--symmetric", action=argparse.BooleanOptionalAction, help="also ask which right text finds its left one (yes)"
    )
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    add_common(sub)

    sub = command("embed", _embed, "embed lines of text into a .npy file")
    sub.add_argument("file", nargs="?", metavar="FILE", help="a text a line (standard input)")
    sub.add_argument("--model", default=BUNDLED, metavar="DIR", help=f"folder of the model ({BUNDLED})")
    sub.add_argument("--out", required=True, metavar="FILE", help="the .npy file, float32 [texts, hidden]")
    sub.add_argument("--text-field", metavar="F", help="the input is JSONL, CSV or TSV with this field")
    sub.add_argument("--format", choices=("jsonl", "csv", "tsv"), help="the format, where the file's name does not tell")
    sub.add_argument("--pooling", choices=("mean", "cls"), help="(as the model was trained)")
    sub.add_argument("--normalize", action=argparse.BooleanOptionalAction, help="to length 1 (as the model was trained)")
    sub.add_argument("--max-tokens", type=positive, default=8192, metavar="N", help="tokens a forward (8192)")
    sub.add_argument("--max-length", type=positive, metavar="N", help="tokens a text (what the model takes)")
    add_common(sub)
