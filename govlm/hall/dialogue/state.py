"""What is kept of a conversation between two messages. Plain values that are never changed, with JSON both ways.

What people said of themselves is kept apart (`secrets`), so that it can be encrypted value by value; nothing else in a state is
personal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from govlm.hall.forms.rules import Problem
from govlm.hall.privacy import mask

__all__ = ["DEPTH", "Consent", "Effect", "Frame", "State"]

_SAID = ("values", "rival")  # of a frame: what people said
DEPTH = 5  # procedures that can be open at once


@dataclass(frozen=True)
class Effect:
    """Something that the driver is to say or do.

    say      the phrase `about` of words.SAYS, for the item and the fields
    ask      the question of the field `about`
    summary  what was filled, to be confirmed
    filled   what was filled so far, as the person asked to see it
    guide    the parts `kinds` of the item's guide (none = all), with citations
    quote    the field `about` of the item's record, with its citation
    answer   the question `about`, as Hall.ask answers it, about the item where there is one
    choices  the items `codes`, to choose from
    problem  the message `about`
    submit   the form of the procedure that was confirmed; about: the receipt number
    handoff  a person takes over
    """

    kind: str
    about: str = ""
    item: str = ""
    fields: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()  # parts of a guide
    codes: tuple[str, ...] = ()  # items to choose from


@dataclass(frozen=True)
class Consent:
    """That a person agreed to what `purpose` names, in the wording of `version`. at: ISO time."""

    purpose: str
    version: str
    at: str


@dataclass(frozen=True)
class Frame:
    """A procedure that is open. number: of its kind in this conversation, so that it is submitted once. asking: the field, or ""
    where the step itself asks. versions: of the forms by item. passed: fields in the order in which they were asked, for going back.
    misses: answers in a row that did not fit. pending: "cancel" or
    "consent" while that is put to the person, "rival" while `rival`, field -> the other value, is, "subject" while it is asked whether
    `subject` is for whom it is done, whose values `rival` are.
    """

    number: int
    procedure: str
    item: str
    step: str
    asking: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    rival: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    misses: int = 0
    pending: str = ""
    entered: bool = False  # whether the step has said what it says
    clash: tuple[str, ...] = ()  # kind and fields of the rule that is asked about
    subject: str = ""  # for whom it is done, where that is not who speaks: 妈
    waived: tuple[tuple[str, ...], ...] = ()  # such rules that the person insists on; the office checks them


@dataclass(frozen=True)
class State:
    """key: of the conversation, for receipt numbers. frames: the open procedures, the last is talked about. topic: code of the item, or name of the
    procedure, that was talked about last. choices: items that
    were offered, and whether to apply for. problems: what was wrong with the last message. said: what was asked last, to be said again. receipts: (item,
    receipt number) of what was submitted.
    """

    key: str = ""
    frames: tuple[Frame, ...] = ()
    topic: str = ""
    choices: tuple[str, ...] = ()
    applies: bool = False
    problems: tuple[Problem, ...] = ()
    said: tuple[Effect, ...] = ()
    receipts: tuple[tuple[str, str], ...] = ()
    consents: tuple[Consent, ...] = ()
    handed_off: bool = False
    opened: int = 0  # procedures so far
    turns: int = 0
    updated: str = ""  # ISO time of the last message

    # ---- what callers ask

    @property
    def top(self) -> Frame | None:
        return self.frames[-1] if self.frames else None

    @property
    def form(self) -> dict[str, str]:
        """field -> value of the form that is being filled."""
        return dict(self.top.values) if self.top else {}

    @property
    def asking(self) -> str:
        """The field that is asked for, else the step that waits; "" when nothing is."""
        if self.top is None:
            return ""
        return self.top.pending or self.top.asking or self.top.step

    @property
    def item(self) -> str:
        """Code of the item that is applied for, else of the one that was talked about."""
        return self.top.item if self.top else self.topic

    @property
    def step(self) -> str:
        return self.top.step if self.top else ""

    # ---- changed

    def with_top(self, frame: Frame, **changes: Any) -> State:
        return replace(self, frames=(*self.frames[:-1], frame), **changes)

    # ---- kept

    def to_saved(self) -> tuple[dict[str, Any], dict[str, str]]:
        """(what may lie in the clear, what people said of themselves), both for JSON."""
        clear = dict(vars(self))  # not asdict: it copies all that is within, which took a tenth of a turn
        clear["frames"] = [{name: value for name, value in vars(frame).items() if name not in _SAID} for frame in self.frames]
        clear["consents"] = [dict(vars(consent)) for consent in self.consents]
        secrets: dict[str, str] = {}
        for frame in self.frames:
            for name in _SAID:
                secrets |= {f"{name}.{frame.number}.{key}": value for key, value in getattr(frame, name).items()}
        for name in ("problems", "said"):  # messages and questions may repeat what was said
            clear.pop(name)
            if getattr(self, name):
                entries = [_without_numbers(entry) for entry in getattr(self, name)]
                secrets[name] = json.dumps(entries, ensure_ascii=False)
        return clear, secrets

    @classmethod
    def from_saved(cls, clear: Mapping[str, Any] | None, secrets: Mapping[str, str]) -> State:
        """As `to_saved` gave it; None is a new conversation."""
        if clear is None:
            return cls()
        kept: dict[tuple[str, int], dict[str, str]] = {}
        for key, value in secrets.items():
            name, _, rest = key.partition(".")
            number, _, field_name = rest.partition(".")
            if field_name:
                kept.setdefault((name, int(number)), {})[field_name] = value
        frames = tuple(
            Frame(
                **{
                    **frame, "skipped": tuple(frame["skipped"]), "passed": tuple(frame["passed"]),
                    "clash": tuple(frame["clash"]), "waived": tuple(map(tuple, frame["waived"])),
                    "values": kept.get(("values", frame["number"]), {}), "rival": kept.get(("rival", frame["number"]), {}),
                }
            )
            for frame in clear["frames"]
        )  # fmt: skip
        problems = tuple(
            Problem(**{**problem, "fields": tuple(problem["fields"])}) for problem in json.loads(secrets.get("problems", "[]"))
        )
        said = tuple(
            Effect(**{str(key): tuple(value) if isinstance(value, list) else value for key, value in effect.items()})  # type: ignore[arg-type]
            for effect in json.loads(secrets.get("said", "[]"))
        )
        whole: dict[str, Any] = {
            "frames": frames, "problems": problems, "said": said, "choices": tuple(clear["choices"]),
            "receipts": tuple((a, b) for a, b in clear["receipts"]), "consents": tuple(Consent(**c) for c in clear["consents"]),
        }  # fmt: skip
        return cls(**{**clear, **whole})


def _without_numbers(entry: Problem | Effect) -> dict[str, Any]:
    """As it is kept: numbers that name a person are masked, as they may have been said before the person agreed to anything."""
    if isinstance(entry, Problem):
        return {**entry._asdict(), "message": mask(entry.message), "value": ""}
    return {**vars(entry), "about": mask(entry.about)}
