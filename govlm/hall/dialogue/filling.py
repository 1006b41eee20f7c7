"""What happens inside an open procedure: its form is filled, corrected and reviewed, its steps are entered, left and submitted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from govlm.hall.dialogue.book import SENSITIVE, Book, agreed, fields_of, same
from govlm.hall.dialogue.hearing import Heard, Said
from govlm.hall.dialogue.procedures import Procedure, Step
from govlm.hall.dialogue.state import DEPTH, Effect, Frame, State
from govlm.hall.forms.marks import cues, narrow
from govlm.hall.forms.rules import Problem, conflicts
from govlm.hall.forms.schema import FormField

__all__ = ["Filling"]

_OWN = SENSITIVE | {"name", "mobile", "date", "address", "email"}  # kinds that say who a person is
_WAIVABLE = frozenset(
    {"region", "age", "retirement_age", "within_months"}
)  # rules that ask whether it is so: a yes is an answer, and the office checks it
_SILENCE = timedelta(days=1)  # after which the person is told where things stand
_MISSES = 3  # answers that do not fit, after which help is offered


class Filling:
    """One message at work inside a procedure: `state` and `effects` grow until they are returned."""

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

    def versions(self, procedure: Procedure) -> dict[str, str]:
        forms = {entry.item: self.book.form(entry.item) for entry in procedure.of_kind("form")}
        return {code: f"{form.id} {form.version}" if form else "" for code, form in forms.items()}

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

    def missed(self) -> None:
        """Nothing in the message fits what was asked."""
        misses = self.frame.misses + 1
        self.change(misses=misses)
        self.say("not_understood")
        if misses >= _MISSES:
            self.say("offer_help")
        self.ask_again()
