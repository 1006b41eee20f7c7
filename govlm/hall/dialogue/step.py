"""The step of a conversation: (state, what was heard) -> (state, what to say and do). Pure: no clock, no database, no model.

The frames of a state are a stack. A message is first looked at for what it does to the conversation as a whole (a person is wanted,
say it again, cancel), then for what it says for the form, then for questions, and only then for an answer to what was asked last.
Nothing is submitted without an outspoken yes at the `confirm` step, and nothing is taken for a field that `forms.fill` did not give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from govlm.hall.catalogue.records import Item
from govlm.hall.dialogue.hearing import Heard, Said
from govlm.hall.dialogue.procedures import Procedure, Step
from govlm.hall.dialogue.state import DEPTH, Consent, Effect, Frame, State
from govlm.hall.dialogue.words import CONSENT_VERSION
from govlm.hall.forms.checks import check
from govlm.hall.forms.marks import cues, narrow
from govlm.hall.forms.rules import Problem, conflicts
from govlm.hall.forms.schema import Form, FormField

__all__ = ["PURPOSE", "SENSITIVE", "Book", "agreed", "fields_of", "same", "step", "wanted_values"]

PURPOSE = "form"
SENSITIVE = frozenset({"identity_card", "bank_card", "passport", "travel_permit"})  # kinds that are kept only when agreed to
_OWN = SENSITIVE | {"name", "mobile", "date", "address", "email"}  # kinds that say who a person is
_WAIVABLE = frozenset(
    {"region", "age", "retirement_age", "within_months"}
)  # rules that ask whether it is so: a yes is an answer, and the office checks it
_SILENCE = timedelta(days=1)  # after which the person is told where things stand
_SHORT = 12  # characters of a message that a model may take for a skip
_ELLIPSIS = 6  # characters of a question that can only lean on what was talked about: 那材料呢？
_NAMING = 3  # characters of a name that a question must share to be about its item
_MISSES = 3  # answers that do not fit, after which help is offered


class Book(Protocol):
    """Where a step looks records up."""

    def item(self, code: str, /) -> Item | None: ...

    def procedure(self, code: str, /) -> Procedure | None:
        """By the code of its first item, or by its name; None: the item cannot be applied for here."""
        ...

    def form(self, code: str, /) -> Form | None:
        """Of an item."""
        ...


def step(state: State, heard: Heard, book: Book, now: datetime) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what the driver is to do in this order."""
    turn = _Turn(state, heard, book, now)
    turn.run()
    asked = tuple(effect for effect in turn.effects if effect.kind not in ("submit", "handoff"))
    return replace(turn.state, said=asked or state.said), tuple(turn.effects)


def agreed(state: State) -> bool:
    """Whether the person has agreed that sensitive values are kept."""
    return any(consent.purpose == PURPOSE for consent in state.consents)


def fields_of(procedure: Procedure, book: Book) -> dict[str, FormField]:
    """The fields of all its forms by name, in the order in which they are asked; those that share are there once."""
    found: dict[str, FormField] = {}
    shares: set[str] = set()
    for entry in procedure.of_kind("form"):
        form = book.form(entry.item)
        for name in (entry.fields or form.fields) if form else ():
            wanted = form.fields[name] if form else None
            if wanted is not None and name not in found and (not wanted.share or wanted.share not in shares):
                found[name] = wanted
                shares.add(wanted.share)
    return found


def same(form: Form, values: Mapping[str, str], others: Mapping[str, FormField]) -> dict[str, str]:
    """The values of a form's fields: its own, and those that fields of other forms share; without those that are not wanted any more by
    what the others hold. others: all fields of the procedure."""
    shared = {field.share: values[name] for name, field in others.items() if field.share and name in values}
    found = {name: values.get(name) or shared.get(field.share or " ", "") for name, field in form.fields.items()}
    return {name: value for name, value in found.items() if value and form.fields[name].wanted(found)}


def wanted_values(procedure: Procedure, values: Mapping[str, str], book: Book) -> dict[str, str]:
    """What is submitted: the values of all forms of a procedure that are wanted, those that share once."""
    fields = fields_of(procedure, book)
    kept: set[str] = set()
    for entry in procedure.of_kind("form"):
        form = book.form(entry.item)
        if form is not None:
            kept |= {form.fields[name].share or name for name in same(form, values, fields)}
    return {name: values[name] for name, field in fields.items() if name in values and (field.share or name) in kept}


class _Turn:
    """One message at work: `state` and `effects` grow until they are returned."""

    def __init__(self, state: State, heard: Heard, book: Book, now: datetime) -> None:
        last = datetime.fromisoformat(state.updated) if state.updated else now
        self.silent = now - last > _SILENCE
        self.state = replace(state, turns=state.turns + 1, updated=now.isoformat(), problems=())
        self.heard, self.book, self.now = heard, book, now
        self.asked = state.top.asking if state.top else ""  # before this message
        self.effects: list[Effect] = []

    # ------------------------------------------------------------------------------------------------------------ at hand

    @property
    def frame(self) -> Frame:
        assert self.state.top is not None
        return self.state.top

    @property
    def procedure(self) -> Procedure:
        found = self.book.procedure(self.frame.procedure)
        assert found is not None  # refresh() has closed the others
        return found

    @property
    def at(self) -> Step:
        return self.procedure.step(self.frame.step)

    @property
    def fields(self) -> dict[str, FormField]:
        return fields_of(self.procedure, self.book)

    def do(self, kind: str, about: str = "", **more: object) -> None:
        self.effects.append(Effect(kind, about, **more))  # type: ignore[arg-type]

    def say(self, phrase: str, item: str = "", fields: tuple[str, ...] = ()) -> None:
        self.do("say", phrase, item=item, fields=fields)

    def change(self, **values: object) -> None:
        self.state = self.state.with_top(replace(self.frame, **values))  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------------------ the turn

    def run(self) -> None:
        self.refresh()
        heard = self.heard
        if not heard.text.strip():
            self.say("empty")
            self.ask_again()
            return
        if self.state.top is not None and self.silent:
            self.say("welcome_back", self.frame.item)
        if self.state.choices and heard.ordinal:
            self.choose()
        elif heard.does("handoff"):
            self.state = replace(self.state, handed_off=True)
            self.say("handoff")
            self.do("handoff")
        elif self.state.said and (heard.plain or not heard.said.values) and heard.does("repeat"):
            self.effects += self.state.said
        elif not heard.said.values and (heard.plain or self.state.top is None) and heard.does("progress"):
            self.say("progress" if self.state.receipts else "progress_none")
            self.ask_again()
        elif self.state.top is None:
            self.idle()
        else:
            self.talk()

    def refresh(self) -> None:
        """Closes procedures whose item is gone, and fits the others to forms that have changed."""
        for frame in self.state.frames:
            procedure = self.book.procedure(frame.procedure)
            if procedure is None or any(self.book.item(code) is None for code in procedure.items):
                self.state = replace(self.state, frames=tuple(f for f in self.state.frames if f.number != frame.number))
                self.say("item_gone")
                continue
            versions = self.versions(procedure)
            known = {step.id for step in procedure.steps}
            if versions == frame.versions and frame.step in known:
                continue
            fields = fields_of(procedure, self.book)
            values = {
                name: value
                for name, value in frame.values.items()
                if name in fields and check(fields[name], value, self.now.date()) is None
            }
            first = next(procedure.of_kind("form"), procedure.steps[0])
            kept = frame.step in known and procedure.step(frame.step).kind in ("conditions", "materials", "say")
            changed = replace(
                frame, versions=versions, values=values, rival={}, pending="", step=frame.step if kept else first.id, asking="",
                skipped=tuple(name for name in frame.skipped if name in fields),
                passed=tuple(name for name in frame.passed if name in fields),
            )  # fmt: skip
            self.state = replace(
                self.state, frames=tuple(changed if f.number == frame.number else f for f in self.state.frames)
            )
            self.say("form_changed", frame.item)
            if self.state.top is not None and self.frame.number == frame.number and not kept:
                self.change(asking=self.next_field())
        self.state = replace(self.state, choices=tuple(code for code in self.state.choices if self.book.item(code)))
        if self.state.topic and not any(self.book.item(code) for code in self.items_of(self.state.topic)):
            self.state = replace(self.state, topic="")

    def items_of(self, topic: str) -> tuple[str, ...]:
        """The item itself, or the items of a procedure."""
        procedure = None if self.book.item(topic) else self.book.procedure(topic)
        return procedure.items if procedure else (topic,)

    def versions(self, procedure: Procedure) -> dict[str, str]:
        forms = {entry.item: self.book.form(entry.item) for entry in procedure.of_kind("form")}
        return {code: f"{form.id} {form.version}" if form else "" for code, form in forms.items()}

    # ------------------------------------------------------------------------------------------------------------ no procedure

    def choose(self) -> None:
        """One of the items that were offered."""
        place = self.heard.ordinal
        index = place - 1 if place > 0 else len(self.state.choices) - 1
        if not 0 <= index < len(self.state.choices):
            self.say("none_of_these")
            self.do("choices", codes=self.state.choices)
            return
        code, applies = self.state.choices[index], self.state.applies or self.heard.does("apply")
        self.state = replace(self.state, choices=(), applies=False)
        self.start(code, Said()) if applies else self.guide(code)

    def idle(self) -> None:
        heard = self.heard
        if heard.does("apply") and (heard.item or self.state.topic) and (heard.named or len(heard.likely) < 2):
            self.start(heard.wants or self.state.topic, heard.opening)
        elif heard.plain and heard.does("smalltalk"):
            self.say("you_are_welcome" if heard.thanks else "hello")
        elif heard.does("resume") and heard.named and heard.item and not heard.asks:  # 还是给我办退休吧
            self.start(heard.wants, heard.opening)
        elif (
            heard.named and heard.item and not heard.asks and heard.opening.values
        ):  # 我叫张伟，低保: what a person gives, they want to use
            self.start(heard.wants, heard.opening)
        elif heard.plain and heard.does("confirm", "submit", "apply") and self.state.topic:  # 好的; 开始填
            self.taken_up()
        elif self.tells():  # there is no form to write it into
            self.say("no_online" if self.book.procedure(self.state.topic) is None else "invite", self.state.topic)
        elif heard.kinds and not heard.named and self.state.topic and not self.elsewhere(self.state.topic):  # 那材料呢？
            for code in self.items_of(self.state.topic):
                self.do("guide", item=code, kinds=heard.kinds)
        elif heard.plain and heard.does("cancel", "back", "skip", "resume") and not heard.item:
            self.say("nothing_open")
        elif heard.does("smalltalk") and not heard.item:
            self.say("hello")
        elif len(heard.likely) > 1 and not heard.named:
            self.state = replace(self.state, choices=heard.likely, applies=heard.does("apply"))
            self.do("choices", codes=heard.likely)
        else:
            before = self.state.topic
            self.state = replace(self.state, topic=heard.wants or before)
            self.do("answer", heard.text, item=heard.item)
            if heard.item and self.state.topic != before and self.book.procedure(self.state.topic) is not None:
                self.say("invite", self.state.topic)

    def tells(self) -> bool:
        """Whether the message only tells something of the person, to what was talked about: 上个月被公司辞退了."""
        heard, topic = self.heard, self.state.topic
        if not topic or heard.named or heard.asks:
            return False
        return heard.gives or (not heard.kinds and heard.does("provide", "correct") and not self.elsewhere(topic))

    def taken_up(self) -> None:
        """A yes where nothing is open: to the offer that was just made, or with words that say to begin; else it only ends a subject."""
        topic = self.state.topic
        offered = any(effect.about == "invite" for effect in self.state.said)
        if self.heard.thanks or not (offered or self.heard.begins or self.book.procedure(topic) is None):
            self.say("anything_else")
        elif self.book.procedure(topic) is None:
            self.say("no_online", topic)
        else:
            self.start(topic, Said())

    def elsewhere(self, topic: str) -> bool:
        """Whether a question that names nothing outright is about another item all the same: its words are those of the other's name,
        not of the one that was talked about."""
        heard = self.heard
        if len(heard.text) <= _ELLIPSIS or not heard.item or heard.item in self.items_of(topic):
            return False
        other, here = self.book.item(heard.item), [self.book.item(code) for code in self.items_of(topic)]
        return other is not None and _in_common(heard.text, other) > max(
            [_NAMING - 1, *(_in_common(heard.text, item) for item in here if item is not None)]
        )

    def guide(self, code: str) -> None:
        self.state = replace(self.state, topic=code)
        self.do("guide", item=code, kinds=self.heard.kinds)

    # ------------------------------------------------------------------------------------------------------------ open and close

    def start(self, code: str, said: Said) -> None:
        """Opens a procedure, by its name or that of an item, or goes back to it where it is open."""
        procedure = self.book.procedure(code)
        if procedure is not None:
            code = procedure.items[0]
        self.state = replace(self.state, topic=code, choices=(), applies=False)
        if procedure is None:
            self.do("guide", item=code)
            self.say("no_online", code)
            if self.state.top is not None:
                self.ask_again()
            return
        before = self.state.top
        number = next((f.number for f in self.state.frames if f.procedure == procedure.id), 0)
        if number:
            self.raise_(number)
            self.say("resume", code)
        elif len(self.state.frames) >= DEPTH:
            self.say("too_deep")
            self.ask_again()
            return
        else:
            if before is not None:
                self.say("suspend", before.item)
            opened = self.state.opened + 1
            frame = Frame(
                opened, procedure.id, code, procedure.steps[0].id, versions=self.versions(procedure), subject=self.heard.subject
            )
            inherited = self.inherited(procedure)
            self.state = replace(self.state, frames=(*self.state.frames, replace(frame, values=inherited)), opened=opened)
            self.say("start", code)
        self.take(said)
        self.proceed()

    def inherited(self, procedure: Procedure) -> dict[str, str]:
        """What open procedures know already of the fields that this one shares with them."""
        known: dict[str, str] = {}
        for frame in self.state.frames:
            other = self.book.procedure(frame.procedure)
            for name, field in fields_of(other, self.book).items() if other else ():
                if field.share and name in frame.values:
                    known[field.share] = frame.values[name]
        fields = fields_of(procedure, self.book)
        return {name: known[field.share] for name, field in fields.items() if field.share in known}

    def raise_(self, number: int) -> None:
        """Brings an open procedure to the top."""
        there = self.state.frames
        top = next(frame for frame in there if frame.number == number)
        self.state = replace(self.state, frames=(*(f for f in there if f.number != number), top), topic=top.item)

    def close(self) -> None:
        """Takes the top procedure away; the one below goes on."""
        self.state = replace(self.state, frames=self.state.frames[:-1])
        if self.state.top is not None:
            self.state = replace(self.state, topic=self.frame.item)
            self.say("resume", self.frame.item)
            self.ask_again()

    # ------------------------------------------------------------------------------------------------------------ a procedure

    def talk(self) -> None:
        heard, frame = self.heard, self.frame
        if heard.plain and heard.does("smalltalk"):
            self.say("you_are_welcome" if heard.thanks else "hello")
            self.ask_again()
            return
        if frame.pending and self.settled():
            return
        other = heard.named and heard.item and not self.inside()
        stacked = next((f.number for f in self.state.frames[:-1] if heard.wants in (f.procedure, f.item)), 0) if other else 0
        if heard.does("cancel"):
            self.cancel()
        elif stacked and not heard.asks and heard.does("resume", "apply", "back"):
            self.raise_(stacked)
            self.say("resume", heard.item)
            self.ask_again()
        elif heard.points and self.state.topic and self.state.topic not in self.procedure.items:
            self.start(self.state.topic, Said())
        elif other and heard.does("apply") and (heard.plain or not (heard.kinds or heard.said.values)):
            self.start(heard.wants, heard.opening)
        elif heard.subject and heard.subject != frame.subject:
            self.substitute()
        elif heard.kin and heard.of_kin.values:  # 我爸叫周建国: the applicant, or kin that the form asks for?
            sure = {
                name: value
                for name, value in heard.of_kin.values.items()
                if name not in heard.of_kin.withheld or agreed(self.state)
            }
            self.change(pending="subject", rival=sure, subject=heard.kin)
            self.ask_again()
        elif heard.said.anything:
            self.take(heard.said)
            if self.frame.asking and self.frame.asking == frame.asking and heard.does("skip"):
                self.skip()
                return
            if heard.kinds and heard.asks:
                self.do("guide", item=heard.item if other else frame.item, kinds=heard.kinds)
            self.proceed()
        elif heard.plain and heard.does("back"):
            self.back()
        elif ((heard.plain or len(heard.text) <= _SHORT) and heard.does("skip")) or (heard.lacks and self.mentioned()):
            self.skip()
        elif heard.reviews and self.at.kind in ("form", "confirm"):
            self.do("summary" if self.at.kind == "confirm" else "filled", item=frame.item)
            self.ask_again() if self.at.kind == "form" else None
        elif heard.why and frame.asking:
            self.say("why", frame.item, (frame.asking,))
            self.ask_again()
        elif heard.kinds or heard.asks or (not heard.plain and heard.named and heard.does("ask")):
            self.interrupted(bool(other))
        elif heard.does("correct"):
            self.correct()
        elif heard.does("confirm", "submit", "resume", "apply"):
            self.agree()
        elif heard.does("deny"):
            self.refuse()
        else:
            self.missed()

    def cancel(self) -> None:
        """Gives up the procedure that the message names, else the one that is talked about; what was filled, only after a question."""
        heard = self.heard
        named = ((heard.item,) if heard.item else heard.likely) if heard.named and not heard.procedure else ()
        wanted = heard.procedure or next(
            (f.item for f in reversed(self.state.frames) if f.item in named), named[0] if named else ""
        )
        found = next((f for f in reversed(self.state.frames) if wanted in ("", f.item, f.procedure)), None)
        if found is None and wanted not in self.procedure.items:
            self.say("not_open", wanted)
            self.ask_again()
            return
        if found is not None:
            self.raise_(found.number)
        if self.frame.values:
            self.change(pending="cancel")
            self.ask_again()
        else:
            self.say("cancelled", self.frame.item)
            self.close()

    def inside(self) -> bool:
        """Whether the message is about the open procedure."""
        heard = self.heard
        return heard.procedure == self.procedure.id if heard.procedure else heard.item in self.procedure.items

    def settled(self) -> bool:
        """Whether the message answers what is put to the person (cancel, consent, one of two values); if not, it is looked at as any."""
        heard, frame = self.heard, self.frame
        yes = heard.plain and heard.does("confirm", "submit")  # never by what a model takes for a yes
        no = heard.plain and heard.does("deny")
        if frame.pending == "cancel":
            self.change(pending="")
            if yes or heard.does("cancel"):
                self.say("cancelled", frame.item)
                self.close()
                return True
            if no or heard.goes_on:
                self.say("kept")
                self.ask_again()
                return True
        elif frame.pending == "rival":
            self.change(pending="", rival={})
            if yes:
                self.store(dict(frame.rival))
                self.say("changed", fields=tuple(frame.rival))
            if yes or no:
                self.proceed()
                return True
        elif frame.pending == "subject":
            rival = dict(frame.rival)
            self.change(pending="", rival={}, subject=frame.subject if yes else "")
            if yes:
                self.store(rival)
                self.say("noted", fields=tuple(rival))
            if yes or no:
                self.proceed()
                return True
        elif frame.pending == "consent":
            if yes and heard.consents:
                consent = Consent(PURPOSE, CONSENT_VERSION, self.now.isoformat())
                self.state = replace(self.state, consents=(*self.state.consents, consent))
                self.change(pending="")
                self.take(heard.said)
                self.proceed()
                return True
            if no:
                self.say("consent_refused")
                self.close()
                return True
        return False

    # ---- what is said for the form

    def take(self, said: Said) -> None:
        """Keeps what a message says, and asks where it contradicts what is kept or may not be kept yet."""
        self.clear(said.cleared)
        frame, heard = self.frame, self.heard
        values = dict(said.values)
        if said.withheld and not agreed(self.state):
            values = {name: value for name, value in values.items() if name not in said.withheld}
            self.change(pending="consent")
        new: dict[str, str] = {}
        changed: dict[str, str] = {}
        rival: dict[str, str] = {}
        for name, value in values.items():
            old = frame.values.get(name)
            if old is None:
                new[name] = value
            elif old != value:
                expected = name == frame.asking or name in frame.clash or self.at.kind == "confirm" or heard.does("correct")
                (changed if expected else rival)[name] = value
        self.store({**new, **changed})
        if changed:
            self.say("changed", fields=tuple(changed))
        told = tuple(name for name in new if name != frame.asking)
        if told:
            self.say("noted", fields=told)
        if rival and not self.frame.pending:
            one = next(iter(rival))
            self.change(pending="rival", rival={one: rival[one]})
        self.object(said.problems)

    def clear(self, names: tuple[str, ...]) -> None:
        """Takes values out; those fields are not asked again."""
        if names:
            frame = self.frame
            values = {name: value for name, value in frame.values.items() if name not in names}
            asking = "" if frame.asking in names else frame.asking
            self.change(values=values, skipped=(*(n for n in frame.skipped if n not in names), *names), asking=asking)
            self.say("changed", fields=names)

    def store(self, values: dict[str, str]) -> None:
        frame = self.frame
        if not values:
            return
        passed = (*(name for name in frame.passed if name not in values), *values)
        if any(name in frame.clash for name in values):  # what was asked about has changed: it is looked at anew
            frame = replace(frame, asking="", clash=())
            self.change(asking="", clash=())
        self.change(
            values={**frame.values, **values}, passed=passed, misses=0, asking="" if frame.asking in values else frame.asking,
            skipped=tuple(name for name in frame.skipped if name not in values),
        )  # fmt: skip

    def insisted(self, problem: Problem) -> bool:
        """Whether the person has said that this holds all the same; of a rule also before it had its last fields."""
        rule = (problem.kind, *problem.fields)
        return any(rule[: len(waived)] == waived for waived in self.frame.waived)

    def object(self, problems: tuple[Problem, ...]) -> None:
        """Tells what is wrong, and asks for the first field of it."""
        problems = tuple(p for p in problems if not self.insisted(p))
        if not problems:
            return
        self.state = replace(self.state, problems=(*self.state.problems, *problems))
        for problem in dict.fromkeys(problem.message for problem in problems):
            self.do("problem", problem)
        named = [name for problem in problems for name in problem.fields if name in self.fields]
        said = (self.asked, *self.heard.said.values)  # of two that do not fit, the one that was said just now
        wanted = next((name for name in said if name in named), named[0] if named else "")
        if wanted and not self.frame.pending:
            rule = next((p for p in problems if wanted in p.fields), problems[0])
            self.change(
                asking=wanted,
                misses=0,
                clash=(rule.kind, *rule.fields) if len(rule.fields) > 1 or rule.kind in _WAIVABLE else (),
            )

    def proceed(self) -> None:
        """After the form has changed: the next question."""
        frame = self.frame
        if frame.pending or frame.asking:
            self.ask_again()
        elif self.at.kind == "form":
            self.next_question()
        elif not frame.entered:
            self.enter(frame.step)
        else:
            self.ask_again()

    def next_field(self) -> str:
        """The first field of this step that is neither filled nor skipped; "" when there is none."""
        form = self.book.form(self.at.item)
        if form is None:
            return ""
        kept = same(form, dict(self.frame.values), self.fields)
        names = self.at.fields or tuple(form.fields)
        return next((n for n in names if n not in kept and n not in self.frame.skipped and form.fields[n].wanted(kept)), "")

    def next_question(self) -> None:
        form = self.book.form(self.at.item)
        if form is not None and not agreed(self.state) and any(field.kind in SENSITIVE for field in form.fields.values()):
            self.change(pending="consent", asking="")
            self.ask_again()
            return
        wanted = self.next_field()
        self.change(asking=wanted, clash=())
        if wanted:
            self.ask_again()
        else:
            self.enter(self.at.next)

    def clashes(self) -> tuple[Problem, ...]:
        """What does not fit together in the forms of the procedure, or is missing."""
        found: list[Problem] = []
        fields = self.fields
        for entry in self.procedure.of_kind("form"):
            form, item = self.book.form(entry.item), self.book.item(entry.item)
            if form is None:
                continue
            values = same(form, dict(self.frame.values), fields)
            rules = conflicts(form, values, item, self.now.date())
            found += [rule for rule in rules if not self.insisted(rule)]
            found += [
                Problem((name,), "missing", f"“{form.fields[name].label}”还没有填。")
                for name in form.required
                if name not in values and form.fields[name].wanted(values)
            ]
        return tuple(found)

    # ---- steps

    def enter(self, id: str) -> None:
        """Goes to a step and says what it says."""
        self.change(step=id, asking="", misses=0, entered=True, clash=())
        kind = self.at.kind
        if kind == "say":
            self.do("quote", self.at.source, item=self.at.item)
            if self.at.next:
                self.enter(self.at.next)
            else:
                self.close()
        elif kind in ("conditions", "materials"):
            self.do("guide", item=self.at.item, kinds=(kind,))
            self.ask_again()
        elif kind == "form":
            self.next_question()
        else:
            self.review()

    def review(self) -> None:
        """The confirm step: what was filled, unless something in it does not fit."""
        if problems := self.clashes():
            first = next(self.procedure.of_kind("form"))
            self.change(step=first.id)
            self.object(problems[:1])
            if not self.frame.asking:
                self.say("which_field")
                return
        self.ask_again()

    def ask_again(self) -> None:
        """What is waited for, in one question."""
        if self.state.top is None:
            return
        frame, at = self.frame, self.at
        if frame.pending == "cancel":
            self.say("cancel?", frame.item)
        elif frame.pending == "consent":
            self.say("consent")
        elif frame.pending == "rival":
            self.say("two_values", fields=tuple(frame.rival))
        elif frame.pending == "subject":
            self.do("say", "subject?", kinds=(frame.subject,))
        elif frame.asking:
            self.do("ask", frame.asking, item=at.item)
        elif at.kind == "form":
            self.next_question()
        elif at.kind == "confirm":
            self.do("summary", item=frame.item)
        else:
            self.say(f"{at.kind}?", at.item)

    def agree(self) -> None:
        """A yes to the step that waits."""
        at, heard, frame = self.at, self.heard, self.frame
        if heard.plain and frame.asking and frame.clash and frame.clash[0] in _WAIVABLE and frame.asking in frame.values:
            self.change(asking="", clash=(), waived=(*frame.waived, frame.clash))
            self.say("waived")
            self.proceed()
        elif frame.asking and heard.plain and heard.does("submit"):
            self.say("not_yet")
            self.ask_again()
        elif frame.asking and (heard.does("apply", "resume") or heard.goes_on):  # 先办这个: it is being done
            self.ask_again()
        elif frame.asking:
            self.missed()
        elif at.kind == "conditions" and not (heard.does("confirm", "submit") or heard.begins):
            self.ask_again()
        elif at.kind == "confirm":
            if heard.plain and heard.does("submit") and not self.clashes():
                self.submit()
            elif heard.does("resume"):
                self.ask_again()
            else:
                self.say("confirm_plain")
        elif at.kind == "form":
            self.next_question()
        else:
            self.enter(at.next)

    def refuse(self) -> None:
        """A no to the step that waits."""
        at, frame = self.at, self.frame
        if frame.asking and not self.fields[frame.asking].required and frame.asking not in frame.values:
            self.skip()  # there is none
        elif frame.asking:
            self.missed()
        elif at.kind == "confirm":
            self.say("which_field")
        elif at.deny:
            self.enter(at.deny)
        elif at.kind == "conditions":
            self.say("not_eligible")
            self.close()
        elif at.kind == "materials":  # papers can be brought later: the form waits
            self.say("kept")
            self.ask_again()
        else:
            self.missed()

    def submit(self) -> None:
        frame = self.frame
        digest = hashlib.sha256(f"{self.state.key} {frame.number}".encode()).hexdigest()[:8].upper()
        receipt = f"{self.now:%Y%m%d}-{digest}"
        self.do("submit", receipt, item=frame.item)
        self.state = replace(self.state, receipts=(*self.state.receipts, (frame.item, receipt)))
        self.say("receipt", frame.item)
        self.close()

    # ---- moves

    def back(self) -> None:
        """To the field that was asked before, else to the step before."""
        frame, at = self.frame, self.at
        passed = [name for name in frame.passed if name != frame.asking]
        if at.kind in ("form", "confirm") and passed:
            form_step = next(s for s in self.procedure.steps if s.kind == "form") if at.kind == "confirm" else at
            last = passed[-1]
            self.change(step=form_step.id, asking=last, passed=(last, *passed[:-1]))
            self.ask_again()
            return
        before = next((s for s in self.procedure.steps if s.next == at.id and s.kind != "say"), None)
        if before is None:
            self.say("back_at_start")
            self.ask_again()
        else:
            self.enter(before.id)

    def skip(self) -> None:
        frame, at = self.frame, self.at
        named = self.mentioned()
        if frame.asking and named and named != frame.asking and named not in frame.values:  # not this one: 银行卡号不想给
            needed = self.fields[named].required
            self.say("required" if needed else "skipped", fields=(named,))
            if not needed:
                self.change(skipped=(*(name for name in frame.skipped if name != named), named))
            self.ask_again()
            return
        if not frame.asking:
            if at.kind in ("conditions", "materials"):
                self.enter(at.next)
            else:
                self.ask_again()
            return
        form = self.book.form(at.item)
        if form is not None and frame.asking in form.required:
            if frame.asking in frame.values:  # it was asked again: what is there stays
                self.change(asking="")
                self.proceed()
                return
            self.say("required", fields=(frame.asking,))
            self.change(misses=frame.misses + 1)
            return
        self.say("skipped", fields=(frame.asking,))
        self.change(skipped=(*frame.skipped, frame.asking), asking="")
        self.proceed()

    def correct(self) -> None:
        """A correction without the new value: the field that it names is asked again."""
        named = self.mentioned()
        if named:
            self.change(asking=named)
            self.ask_again()
        elif self.frame.asking:
            self.missed()
        else:
            self.say("which_field")

    def mentioned(self) -> str:
        """The field whose label or cue stands in the message, by the longest of them; "" when none does."""
        fields, text = self.fields, narrow(self.heard.text)
        found = [(len(field.label), name) for name, field in fields.items() if field.label in text]
        for form in {entry.item: self.book.form(entry.item) for entry in self.procedure.of_kind("form")}.values():
            for name, listed in cues(form, text).items() if form else ():
                found += [(cue.end - cue.start, name) for cue in listed if name in fields]
        return max(found)[1] if found else ""

    def substitute(self) -> None:
        """It is done for another person: what was said of the first is forgotten."""
        own = {
            name
            for name, field in self.fields.items()
            if field.person == "applicant" and (field.kind in _OWN or field.share.startswith("applicant_"))
        }
        values = {name: value for name, value in self.frame.values.items() if name not in own}
        passed = tuple(name for name in self.frame.passed if name not in own)
        self.change(values=values, passed=passed, asking="", pending="", rival={}, subject=self.heard.subject)
        self.do("say", "subject", kinds=(self.heard.subject,))
        self.take(self.heard.said)
        if self.at.kind == "confirm":
            self.change(step=next(self.procedure.of_kind("form")).id)
        self.proceed()

    def interrupted(self, other: bool) -> None:
        """A question in the middle: it is answered, and the procedure goes on."""
        heard, frame = self.heard, self.frame
        other = other or (bool(heard.kinds) and self.elsewhere(frame.procedure))
        if heard.kinds and not other:
            self.do("guide", item=frame.item, kinds=heard.kinds)
        else:
            about = heard.item if other else "" if heard.item and heard.item not in self.procedure.items else frame.item
            self.do("answer", heard.text, item=about)
            if about and self.book.item(about) is not None:
                self.state = replace(self.state, topic=about)
        self.ask_again()

    def missed(self) -> None:
        """Nothing in the message fits what was asked."""
        misses = self.frame.misses + 1
        self.change(misses=misses)
        self.say("not_understood")
        if misses >= _MISSES:
            self.say("offer_help")
        self.ask_again()


def _in_common(text: str, item: Item) -> int:
    """Length of the longest run of characters that a text shares with a name of the item."""
    best = 0
    for name in (item.name, *item.aliases):
        for start in range(len(name)):
            while start + best < len(name) and name[start : start + best + 1] in text:
                best += 1
    return best
