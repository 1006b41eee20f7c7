"""The step of a conversation: (state, what was heard) -> (state, what to say and do). Pure: no clock, no database, no model.

The frames of a state are a stack. A message is first looked at for what it does to the conversation as a whole (a person is wanted,
say it again, cancel), then for what it says for the form, then for questions, and only then for an answer to what was asked last.
Nothing is submitted without an outspoken yes at the `confirm` step, and nothing is taken for a field that `forms.fill` did not give.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from govlm.hall.catalogue.records import Item
from govlm.hall.dialogue.book import PURPOSE, Book, agreed, fields_of
from govlm.hall.dialogue.filling import Filling
from govlm.hall.dialogue.hearing import Heard, Said
from govlm.hall.dialogue.state import Consent, Effect, State
from govlm.hall.dialogue.words import CONSENT_VERSION
from govlm.hall.forms.checks import check

__all__ = ["step"]

_SHORT = 12  # characters of a message that a model may take for a skip
_ELLIPSIS = 6  # characters of a question that can only lean on what was talked about: 那材料呢？
_NAMING = 3  # characters of a name that a question must share to be about its item


def step(state: State, heard: Heard, book: Book, now: datetime) -> tuple[State, tuple[Effect, ...]]:
    """The next state, and what the driver is to do in this order."""
    turn = _Turn(state, heard, book, now)
    turn.run()
    asked = tuple(effect for effect in turn.effects if effect.kind not in ("submit", "handoff"))
    return replace(turn.state, said=asked or state.said), tuple(turn.effects)


class _Turn(Filling):
    """One message at work: what it does to the conversation, then to the procedure that is open."""

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


def _in_common(text: str, item: Item) -> int:
    """Length of the longest run of characters that a text shares with a name of the item."""
    best = 0
    for name in (item.name, *item.aliases):
        for start in range(len(name)):
            while start + best < len(name) and name[start : start + best + 1] in text:
                best += 1
    return best
