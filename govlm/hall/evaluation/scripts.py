"""Scripted conversations: what a person says turn by turn, and the state that is expected after each turn.

    - name: 低保，改一次人口
      now: 2026-03-02
      turns:
        - say: 我想申请低保
          item: 最低生活保障申请          # the item's name
          step: conditions
        - say: 都符合
          asking: materials              # the field or step that waits
          cites: true
        - say: 我家4口人，不对，是5口
          form: {family_size: "5"}       # these fields; null = the field must be empty
          problems: []                   # kinds of problems
          says: [记下了]                  # stands in the text
          later: 30                      # days that pass before this turn
          restart: true                  # the process ends before this turn: all that is not kept is gone

Keys that a turn does not have are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Any, Protocol

__all__ = ["KEYS", "Missed", "Talker", "check_script", "play"]

KEYS = (
    "say",
    "item",
    "step",
    "asking",
    "form",
    "problems",
    "cites",
    "says",
    "not_says",
    "handed_off",
    "receipts",
    "later",
    "restart",
)


class Talker(Protocol):
    """A hall, as far as a script needs it."""

    def chat(self, session_id: str, text: str, now: datetime) -> Any: ...


@dataclass(frozen=True)
class Missed:
    """turn: from 1. what: the key of the script."""

    turn: int
    said: str
    what: str
    wanted: str
    found: str


def check_script(script: Any) -> str:
    """What is wrong with a script; "" when nothing is."""
    if not isinstance(script, Mapping) or not isinstance(script.get("name"), str):
        return "a script with a name is expected"
    turns = script.get("turns")
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        return f"{script['name']!r}: turns: a list is expected"
    for i, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("say"), str):
            return f"{script['name']!r}, turn {i}: a table with the key say is expected"
        if unknown := set(turn) - set(KEYS):
            return f"{script['name']!r}, turn {i}: unknown key {min(map(str, unknown))!r}; there are {', '.join(KEYS)}"
    try:
        _start(script)
    except ValueError:
        return f"{script['name']!r}: now: a day like 2026-03-02 is expected, not {script.get('now')!r}"
    return ""


def play(
    script: Mapping[str, Any], hall: Talker, session: str, names: Mapping[str, str], restart: Callable[[], Talker] | None = None
) -> list[list[Missed]]:
    """Says a script's turns to the hall; for each turn what is not as expected. names: of the items by code. restart: a hall opened anew
    (default: the same one goes on)."""
    now = _start(script)
    found: list[list[Missed]] = []
    for number, expected in enumerate(script["turns"], 1):
        if expected.get("restart") and restart is not None:
            hall = restart()
        now += timedelta(days=expected.get("later", 0), minutes=1)
        turn = hall.chat(session, expected["say"], now=now)
        found.append([Missed(number, expected["say"], *entry) for entry in _compare(expected, turn, names)])
    return found


def _start(script: Mapping[str, Any]) -> datetime:
    day = datetime.fromisoformat(str(script.get("now", "2026-03-02")))
    return datetime.combine(day.date(), time(9), timezone.utc)


def _compare(expected: Mapping[str, Any], turn: Any, names: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(key, what was wanted, what was found) of everything that differs."""
    state = turn.state
    plain = {
        "item": names.get(state.item, state.item), "step": state.step, "asking": state.asking, "cites": bool(turn.citations),
        "handed_off": turn.handed_off, "receipts": len(state.receipts),
    }  # fmt: skip
    for key, found in plain.items():
        if key in expected and expected[key] != found:
            yield key, str(expected[key]), str(found)
    for name, value in (expected.get("form") or {}).items():
        there = state.form.get(name)
        if there != (None if value is None else str(value)):
            yield f"form.{name}", str(value), str(there)
    if "problems" in expected:
        kinds = sorted({problem.kind for problem in state.problems})
        if kinds != sorted(set(expected["problems"])):
            yield "problems", str(expected["problems"]), str(kinds)
    for text in expected.get("says", ()):
        if text not in turn.text:
            yield "says", text, turn.text
    for text in expected.get("not_says", ()):
        if text in turn.text:
            yield "not_says", text, turn.text
