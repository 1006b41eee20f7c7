"""`govlm corpus build` and `govlm corpus info`: text of many formats becomes token shards."""

from __future__ import annotations

import argparse
import time
from typing import Any

from govlm.bundled import BUNDLED
from govlm.commands.common import (
    add_common,
    emit,
    make_options,
    positive,
    progress,
    set_threads,
)
from govlm.terminal import display_width

__all__ = ["register"]

_FORMATS = ("text", "markdown", "html", "jsonl", "pdf", "docx")
_WIDEST, _ROWS = 60, 40  # of the table: characters of a file's name, inputs


def _table(rows: list[list[str]]) -> str:
    """Columns of cells, the first to the left, the others to the right; Chinese characters are two wide."""
    widths = [max(display_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [" " * (width - display_width(cell)) + cell for cell, width in zip(row, widths, strict=True)]
        cells[0] = cells[0].strip() + " " * (widths[0] - display_width(row[0].strip()))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _short(name: str) -> str:
    return name if len(name) <= _WIDEST else "…" + name[1 - _WIDEST :]


def format_statistics(statistics: dict[str, Any]) -> str:
    """The statistics of corpus.json as a table, an input a line, then the totals and what was left out."""
    reasons = list(statistics["dropped"])
    head = ["input", "read", *(reason.replace("_", " ") for reason in reasons), "kept", "characters", "tokens", "unknown"]
    rows = [head]
    entries = statistics["inputs"]
    shown = entries[:_ROWS]
    if len(entries) > 1:
        shown = [*shown, {**statistics, "input": f"all {len(entries)}"}]
    for entry in shown:
        rate = 100 * entry["unknown"] / entry["tokens"] if entry["tokens"] else 0.0
        dropped = [f"{entry['dropped'].get(reason, 0):,}" for reason in reasons]
        numbers = [f"{entry[name]:,}" for name in ("documents", "characters", "tokens")]
        rows.append([_short(entry["input"]), f"{entry['read']:,}", *dropped, *numbers, f"{rate:.3f} %"])
    if len(entries) > _ROWS:
        rows.insert(_ROWS + 1, [f"… {len(entries) - _ROWS} more: see corpus.json", *[""] * (len(head) - 1)])
    lines = [_table(rows), "", f"{statistics['held_out']:,} of the documents are held out"]
    if statistics["scrubbed"]:
        found = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in statistics["scrubbed"].items())
        lines.append(f"personal numbers replaced: {found}")
    if statistics["near_index_forgotten"]:
        lines.append(
            f"the index of near duplicates was full: the first {statistics['near_index_forgotten']:,} documents were not compared "
            "with the last ones (--index-mb)"
        )
    problems = statistics["problems"]
    if problems:
        lines += ["", f"left out ({sum(entry['count'] for entry in problems) + statistics['problems_unlisted']:,}):"]
        for entry in problems[:50]:
            more = f" (and {entry['count'] - 1:,} more in this file)" if entry["count"] > 1 else ""
            lines.append(f"  {entry['file']}: {entry['message']}{more}")
        if len(problems) > 50 or statistics["problems_unlisted"]:
            lines.append(f"  … {len(problems) - 50 + statistics['problems_unlisted']:,} more files: see corpus.json")
    return "\n".join(lines)


def _build(arguments: argparse.Namespace) -> int:
    from govlm.corpus.build import EmptyCorpus, Options, build

    given = {"fields": tuple(name.strip() for name in arguments.text_field.split(","))} if arguments.text_field else {}
    options = make_options(Options, arguments, {"fields": "text-field"}, **given)
    set_threads(arguments)
    began = time.monotonic()
    try:
        statistics = build(
            arguments.input,
            arguments.out,
            arguments.tokenizer,
            options,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            progress=progress(arguments),
        )
    except EmptyCorpus as error:
        if not arguments.json:
            print(format_statistics(error.statistics), flush=True)
        raise
    seconds = time.monotonic() - began
    if arguments.json:
        emit({"out": arguments.out, "seconds": round(seconds, 3), **statistics})
        return 0
    print(format_statistics(statistics))
    print(f"\ncorpus written to {arguments.out} in {seconds:.1f} s")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from govlm.corpus.shards import Corpus

    corpus = Corpus(arguments.directory)
    if arguments.verify:
        for index in range(len(corpus)):
            corpus.verify(index)
    shards = [info._asdict() for info in corpus.shards]
    if arguments.json:
        facts = {"vocab_size": corpus.vocab_size, "documents": corpus.documents, "tokens": corpus.tokens}
        emit({**facts, "options": corpus.options, "statistics": corpus.statistics, "shards": shards})
        return 0
    if "inputs" in corpus.statistics:
        print(format_statistics(corpus.statistics) + "\n")
    rows = [["shard", "documents", "tokens", "SHA-256"]]
    rows += [[s["file"], f"{s['documents']:,}", f"{s['tokens']:,}", s["sha256"][:16] + "…"] for s in shards]
    print(_table(rows))
    words = "words of rjieba" if corpus.options.get("words") else "no words"
    print(f"\n{corpus.documents:,} documents, {corpus.tokens:,} tokens, vocabulary of {corpus.vocab_size:,}, {words}")
    if arguments.verify:
        print("every shard is as it was written")
    return 0


def register(command: Any) -> None:
    """Adds this module's commands; `command(name, run, help)` gives the parser of one."""
    parser = command("corpus", lambda arguments: 0, "build a corpus of token shards from text, or look at one")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    sub = actions.add_parser("build", help="text, Markdown, HTML, JSONL, PDF and Word files -> token shards")
    sub.description = "Files and folders of text become token shards, without duplicates, in memory that does not grow."
    sub.set_defaults(run=_build)
    sub.add_argument("input", nargs="+", metavar="INPUT", help="files and folders; each format also as .gz or .xz")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for the corpus, with the held-out corpus in it")
    sub.add_argument(
        "--tokenizer", default=BUNDLED, metavar="DIR_OR_VOCAB", help=f"folder of a tokenizer, or a vocab.txt ({BUNDLED})"
    )
    sub.add_argument("--resume", action="store_true", help="go on with an unfinished build")
    sub.add_argument("--overwrite", action="store_true", help="start again where DIR holds a corpus")
    reading = sub.add_argument_group("reading")
    reading.add_argument("--text-field", metavar="F[,F]", help="field of JSONL rows, or several to join by a line break (text)")
    reading.add_argument("--encoding", metavar="NAME", help="of text, Markdown and JSONL; gb18030 for old files (utf-8)")
    reading.add_argument("--format", choices=_FORMATS, help="format of files whose name does not tell")
    reading.add_argument("--max-chars", type=positive, metavar="N", help="longer documents are cut in parts (200000)")
    choosing = sub.add_argument_group("choosing")
    choosing.add_argument("--min-chars", type=positive, metavar="N", help="shorter documents are dropped (10)")
    choosing.add_argument("--min-cjk", type=float, metavar="X", help="least share of Chinese among the letters, 0 = any (0.3)")
    choosing.add_argument("--duplicates", choices=("near", "exact", "keep"), help="near: drop near and exact ones (near)")
    choosing.add_argument("--near-threshold", type=float, metavar="X", help="least Jaccard similarity of near duplicates (0.8)")
    choosing.add_argument("--index-mb", type=float, metavar="N", help="memory for the indexes of duplicates (512)")
    choosing.add_argument(
        "--scrub", action=argparse.BooleanOptionalAction, help="replace identity, phone and bank card numbers and e-mail (no)"
    )
    choosing.add_argument(
        "--held-out", type=float, metavar="X", help="share of the documents for DIR/held-out, 0 = none (0.005)"
    )
    writing = sub.add_argument_group("writing")
    writing.add_argument(
        "--words", action=argparse.BooleanOptionalAction, help="mark Chinese words by rjieba (when it is installed)"
    )
    writing.add_argument("--shard-tokens", type=positive, metavar="N", help="tokens a shard (16777216)")
    add_common(sub)

    sub = actions.add_parser("info", help="what a corpus holds, and whether it is whole")
    sub.description = "What a corpus holds, and whether it is whole."
    sub.set_defaults(run=_info)
    sub.add_argument("directory", metavar="DIR", help="a corpus, or its held-out folder")
    sub.add_argument("--verify", action="store_true", help="compare every shard with its SHA-256")
    add_common(sub, threads=False)
