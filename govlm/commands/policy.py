"""`govlm policy` reads a policy text for citizens: a summary, its key terms, and who, how, by when, how much."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.commands.common import add_common, emit, positive
from govlm.commands.hall import read_generator

__all__ = ["register"]


def _policy(arguments: argparse.Namespace) -> int:
    from govlm.hall.answers.words import TITLES
    from govlm.hall.catalogue.documents import read_document
    from govlm.hall.policy import interpret, keywords, summarise
    from govlm.hall.policy.interpretation import QUESTIONS

    document = read_document(arguments.file)
    phraser = None
    if arguments.generator is not None:
        from govlm.hall.generator.phrasing import Phraser

        phraser = Phraser(read_generator(arguments.generator))
    summary = summarise(document, arguments.length, phraser=phraser)
    terms, found = keywords(document, arguments.keywords), interpret(document, phraser=phraser)
    plain = [sentence.text for sentence in summary.plain]
    if arguments.json:
        emit(
            {
                "title": document.title,
                "summary": [vars(sentence) for sentence in summary.sentences],
                "plain": plain,
                "keywords": [vars(term) for term in terms],
                "interpretation": found.to_dict(),
            }
        )
        return 0
    said = [f"{TITLES['phrased']}", *plain, ""] if plain else []
    for name, label in QUESTIONS.items():
        if found.plain.get(name):
            said += [f"{label}：{TITLES['phrased']}", *(f"· {sentence.text}" for sentence in found.plain[name]), ""]
    read = "\n".join(said)
    print(
        f"《{document.title}》\n\n摘要\n{summary.text}\n\n{read and read + chr(10)}关键词\n{'、'.join(term.text for term in terms)}\n\n解读\n{found.text}"
    )
    return 0


def register(command: Any) -> None:
    """Adds this module's command; `command(name, run, help)` gives its parser."""
    sub = command("policy", _policy, "summarise and interpret a policy document, every sentence copied from it and cited")
    sub.add_argument("file", metavar="FILE", help="Markdown, HTML, PDF, Word or text")
    sub.add_argument("--length", type=positive, default=200, metavar="N", help="characters of the summary at most (200)")
    sub.add_argument("--keywords", type=positive, default=5, metavar="N", help="key terms (5)")
    sub.add_argument(
        "--generator", metavar="DIR", help="a local language model, a folder or .gguf, that puts it into plain words, too"
    )
    add_common(sub, threads=False)
