"""`govlm chat` talks with a hall in the terminal: questions are answered, procedures led, with the form beside the talk."""

from __future__ import annotations

import argparse
import shutil
import sys
import uuid
from typing import Any

from govlm.commands.common import add_common, emit, input_lines, set_threads
from govlm.commands.hall import open_hall
from govlm.terminal import beside, display_width, pad

__all__ = ["register"]

_BESIDE = 96  # columns from which the form stands beside the talk, not below it
_PANEL = 44  # columns of the form


def _chat(arguments: argparse.Namespace) -> int:
    set_threads(arguments)
    session = arguments.session or uuid.uuid4().hex
    with open_hall(arguments.directory, arguments.generator) as hall:
        people = sys.stdin.isatty() and not arguments.text and not arguments.json
        if people:
            print("请问您要办什么事？（空行结束）")
        texts = arguments.text or (iter(_asked, "") if people else input_lines(None))
        for text in texts:
            turn = hall.chat(session, text, region=arguments.region)
            if arguments.json:
                emit({"question": text, "session": session, **_plain(turn)})
                continue
            if not people:
                print(f"> {text}")
            print(_shown(hall, turn), end="\n\n")
    return 0


def _plain(turn: Any) -> dict[str, Any]:
    state = turn.state
    return {
        "text": turn.text,
        "citations": [vars(citation) for citation in turn.citations],
        "item": state.item,
        "step": state.step,
        "asking": state.asking,
        "form": state.form,
        "problems": [problem._asdict() for problem in state.problems],
        "receipts": [list(receipt) for receipt in state.receipts],
        "handed_off": turn.handed_off,
    }


def _shown(hall: Any, turn: Any) -> str:
    panel = _panel(hall, turn.state) if turn.state.top is not None else []
    width = shutil.get_terminal_size().columns
    if not panel:
        return str(turn.text)
    return beside(turn.text, panel, width) if width >= _BESIDE else "\n".join([turn.text, "", *panel])


def _panel(hall: Any, state: Any) -> list[str]:
    """The form as it stands: a line for each field, the one that is asked for marked."""
    fields = hall.fields(state)
    if not fields:
        return []
    form = state.form
    labels = min(16, max(display_width(field.label) for field in fields.values()))
    done = sum(name in form for name in fields)
    title = f" 表格 {done}/{len(fields)} "
    lines = ["┌" + title + "─" * (_PANEL - 2 - display_width(title)) + "┐"]
    for name, field in fields.items():
        mark = "▶" if name == state.asking else "✓" if name in form else " "
        label, value = _cut(field.label, labels), _cut(form.get(name, "—"), _PANEL - labels - 8)
        lines.append(f"│ {pad(mark, 2)}{pad(label, labels)}  {pad(value, _PANEL - labels - 8)} │")
    return [*lines, "└" + "─" * (_PANEL - 2) + "┘"]


def _cut(text: str, width: int) -> str:
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _asked() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def register(command: Any) -> None:
    """Adds this module's command."""
    sub = command("chat", _chat, "talk with a hall: questions are answered with citations, procedures led, forms filled")
    sub.add_argument("directory", nargs="?", metavar="HALL", help="folder of the hall (default: the bundled sample hall)")
    sub.add_argument("--text", action="append", metavar="TEXT", help="say this (may be repeated) in place of asking the user")
    sub.add_argument("--session", metavar="NAME", help="go on with a conversation of this name (default: a new one)")
    sub.add_argument(
        "--generator", metavar="DIR", help="a local language model, a folder or .gguf, that puts answers into plain words"
    )
    sub.add_argument("--region", metavar="CODE", help="GB/T 2260 code of the place that is asked for, like 4401")
    add_common(sub)
