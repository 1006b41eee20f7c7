"""Drives a conversation: hears a message, takes the step, performs what it asks for, keeps the state, and only then answers."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.answer import answer_item
from govlm.hall.answers.asked import asked, plain
from govlm.hall.answers.citations import Citation, Part, Sentence, cite, version
from govlm.hall.answers.compose import choices, compose, meant
from govlm.hall.answers.precedence import status
from govlm.hall.answers.rendering import Answer, checked, outlined, refuse
from govlm.hall.answers.words import TITLES
from govlm.hall.catalogue.records import Item
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.dialogue.book import SENSITIVE, agreed, fields_of, same, wanted_values
from govlm.hall.dialogue.edits import confirmed, corrected
from govlm.hall.dialogue.hearing import ASKS, Heard, Hearing, Said, bare_apply, kin, ordinal, plain_act, points, subject
from govlm.hall.dialogue.procedures import Procedure
from govlm.hall.dialogue.shelf import Shelf
from govlm.hall.dialogue.state import Effect, State
from govlm.hall.dialogue.step import step
from govlm.hall.dialogue.words import SAYS
from govlm.hall.forms.bare import PROMPT
from govlm.hall.forms.fill import Filled, fill
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.library import Library
from govlm.hall.privacy import find, mask
from govlm.hall.protection.sessions import Exchange, Saved, StaleSession, Submission
from govlm.hall.understanding.understand import Reading

__all__ = ["Conversations", "SessionStore", "Turn"]

_LOG = logging.getLogger(__name__)
_ANSWERS = ("answer", "guide", "quote", "choices")  # kinds of effects that answer a question
_SURE, _LIKELY = 0.5, 0.1  # chances, as Hall.ask has them
_MEANT = 0.75  # chance, among the items that bear a name, of the one that is meant
_TRIES = 5  # steps that are taken anew because another client was faster
_HELD = 1000  # conversations whose values wait in memory until the person has agreed
_LEANS = 8  # characters of a message that may lean on what was talked about
_READ = 2000  # characters of a message that are looked through for names of items


@dataclass(frozen=True)
class Turn:
    """text: what is read. state: after the message, as it was kept; its form also shows what waits for consent. citations: [n] in the
    text is citations[n - 1]. handed_off: a person is wanted. version: of the conversation, one more after every message that was kept. kept: False where this one
    was refused, because it could not be written. parts: what was quoted, as `answers.rendering.outlined` gives it. reason: why a
    question was not answered, a key of `answers.words.REFUSALS`. message: what it answers, as it was kept.
    """

    text: str
    state: State
    citations: tuple[Citation, ...] = ()
    handed_off: bool = False
    version: int = 0
    kept: bool = True
    parts: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    message: str = field(default="", repr=False)

    def reply(self) -> dict[str, Any]:
        """What is kept of it beside the state, as JSON."""
        return {
            "text": self.text, "citations": [dict(vars(citation)) for citation in self.citations], "handed_off": self.handed_off,
            "parts": list(self.parts), "reason": self.reason,
        }  # fmt: skip

    @classmethod
    def of(cls, exchange: Exchange, state: State) -> Turn:
        """A turn that was kept, with the state as it is now."""
        cited = tuple(Citation(**citation) for citation in exchange.reply["citations"])
        reply = exchange.reply
        return cls(
            reply["text"], state, cited, reply["handed_off"], exchange.number, parts=tuple(reply.get("parts", ())),
            reason=reply.get("reason", ""), message=exchange.message,
        )  # fmt: skip


class SessionStore(Protocol):
    """Where states are kept, as protection.sessions.Sessions does it."""

    def load(self, session_id: str, key: str = "") -> Saved: ...

    def save(
        self, session_id: str, version: int, state: dict[str, Any], values: dict[str, str], *, now: datetime,
        submission: Submission | None = None, exchange: Exchange | None = None,
    ) -> int: ...  # fmt: skip


class Conversations:
    """The conversations of a hall. ask(library, reading of a question, region, today): its answer. shelf: what is in use now. agree(session, version of the words, now): keeps a
    consent; it is called before anything that needs one is kept. put_right(text, region, today): whether an answer to it was put
    together by hand, which `ask` then gives. phrase(question, answer, library): the answer in plain words, too. whole(session, version of
    it, text): a follow-up as the question that it means, for looking it up."""

    def __init__(
        self, sessions: SessionStore, shelf: Callable[[], Shelf], ask: Callable[[Library, Reading, str | None, date], Answer],
        agree: Callable[[str, str, datetime], None] | None = None, put_right: Callable[[str, str, date], bool] | None = None,
        phrase: Callable[[str, Answer, Library], Answer] | None = None, whole: Callable[[str, int, str], str] | None = None,
    ) -> None:  # fmt: skip
        self._sessions, self._shelf, self._ask, self._agree = sessions, shelf, ask, agree
        self._put_right, self._phrase, self._whole = put_right, phrase, whole
        self._held: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._lock = threading.Lock()

    def chat(self, session_id: str, text: str, now: datetime | None = None, region: str | None = None, key: str = "") -> Turn:
        """One message of a conversation, answered when it is kept. Never raises for a text, whatever it is; when the state cannot be
        written the message is refused as a whole and the state stays as it was (`Turn.kept` is False then). key: names the message; one
        of the same key is not taken again, but answered as it was."""
        text = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ")
        return self._exchanged(session_id, text, self.hear, now, region, key)

    def correct(self, session_id: str, values: Mapping[str, str], now: datetime | None = None, key: str = "") -> Turn:
        """As if the values were said for the fields of the form that is filled; "" takes out that of a field that is not required. What is
        wrong with them is among the state's problems and is not kept. LookupError: no form is filled; ValueError names an unknown field."""

        def hear(_: Reading, *at: Any) -> Heard:
            return corrected(values, *at)

        return self._exchanged(session_id, "", hear, now, None, key)

    def confirm(self, session_id: str, now: datetime | None = None, key: str = "") -> Turn:
        """The outspoken yes by which the form is submitted. LookupError: the conversation does not wait for it."""

        def hear(_: Reading, *at: Any) -> Heard:
            return confirmed(*at)

        return self._exchanged(session_id, "", hear, now, None, key)

    def _exchanged(
        self, session_id: str, text: str, hear: Callable[..., Heard], now: datetime | None, region: str | None, key: str
    ) -> Turn:
        """One message, heard by hear(reading of the text, state, shelf, today, held)."""
        now = now or datetime.now().astimezone()
        for _ in range(_TRIES):
            saved = self._sessions.load(session_id, key)
            state = State.from_saved(saved.state, saved.values)
            if not state.key:
                state = State(key=hashlib.sha256(session_id.encode()).hexdigest()[:16])
            if saved.exchange is not None:
                return Turn.of(saved.exchange, state)
            try:
                return self._turn(session_id, saved, state, text, hear, now, region, key)
            except StaleSession:
                continue
            except CatalogueError as error:
                _LOG.error("a turn was refused: %s", error)
                return Turn(SAYS["busy"], state, version=saved.version, kept=False)
        _LOG.error("a turn was refused: other clients of the session were faster %d times", _TRIES)
        return Turn(SAYS["busy"], state, version=saved.version, kept=False)

    def _turn(
        self, session_id: str, saved: Saved, state: State, text: str, hear: Callable[..., Heard], now: datetime,
        region: str | None, key: str,
    ) -> Turn:  # fmt: skip
        shelf = self._shelf()
        held = self._held.get(session_id, {})
        reading = shelf.library.understander.read(text)
        heard = hear(reading, state, shelf, now.date(), held)
        after, effects = step(state, heard, shelf, now)
        if text.strip() and self._put_right is not None and self._put_right(text, region or "", now.date()):
            after, effects = _instead(state, after, effects, text)

        def ask(about: str) -> Answer:
            meant = self._whole(session_id, saved.version, about) if self._whole is not None and about == text else about
            asked_of = reading if meant == text else shelf.library.understander.read(meant)
            return self._ask(shelf.library, asked_of, region, now.date())

        voice = _Voice(shelf, ask, after, now.date(), state, self._phrase)
        said, citations, parts = voice.speak(effects)
        if self._agree is not None:
            for consent in after.consents[len(state.consents) :]:
                self._agree(session_id, consent.version, now)
        clear, secrets = after.to_saved()
        submission = self._submission(effects, state, after, shelf)
        turn = Turn(
            said, after, citations, any(effect.kind == "handoff" for effect in effects), saved.version + 1, parts=parts,
            reason=voice.reason,
        )  # fmt: skip
        exchange = _exchange(turn, heard.text, key)
        version = self._sessions.save(
            session_id, saved.version, clear, secrets, now=now, submission=submission, exchange=exchange
        )
        waiting = self._hold(session_id, heard, after)
        if waiting and after.top is not None:
            after = after.with_top(replace(after.top, values={**after.top.values, **waiting}))
        return replace(turn, state=after, version=version, message=exchange.message)

    # ---- what may not be kept yet

    def _hold(self, session_id: str, heard: Heard, after: State) -> dict[str, str]:
        """Keeps in memory what was said before the person agreed that it is kept."""
        if agreed(after) or after.top is None:
            with self._lock:
                self._held.pop(session_id, None)
            return {}
        said = heard.said
        if not said.values and not (heard.plain and heard.does(*_ALONE)):  # a yes or a no holds no number
            said = heard.opening
        with self._lock:
            new = {name: value for name, value in said.values.items() if name in said.withheld}
            if new:
                self._held[session_id] = {**self._held.get(session_id, {}), **new}
                self._held.move_to_end(session_id)
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
            return dict(self._held.get(session_id, {}))

    # ---- hearing

    def hear(self, reading: Reading, state: State, shelf: Shelf, today: date, held: Mapping[str, str]) -> Heard:
        """The message, understood; see `Hearing`."""
        text = reading.text
        characters = shelf.library.understander.characters
        read = plain(text[:_READ], characters)
        by_words = plain_act(read)
        named = shelf.named(read)
        together = next((code for code in named if shelf.item(code) is None), "")  # a procedure of several items
        kinds = () if by_words in _ALONE else asked(text[:_READ], (), characters).kinds
        asks = by_words == "ask" or bool(ASKS.search(read[-80:]))
        # 那我要申请: what was talked about
        bare = by_words == "apply" and bare_apply(read)
        ordered = PROMPT.search(text[:_READ]) is not None  # it tells the machine what to do: it does and fills nothing
        if ordered:
            by_words = ""
        said = Said()
        top = state.top
        gives = top is None and bool(state.topic) and (bool(_INTRODUCES.search(read)) or bool(find(text[:_READ])))
        procedure = shelf.procedure(top.procedure) if top else None
        if top is not None and procedure is not None and not ordered:
            if top.pending == "consent" and by_words in ("confirm", "submit"):
                said = Said(dict(held), (), tuple(held))
            else:
                asking = "" if top.pending else top.asking
                if _may_fill(by_words, read, fields_of(procedure, shelf).get(asking)):
                    said = _said(
                        text, procedure, shelf, asking, dict(top.values) | dict(held), today, subject(read) or top.subject
                    )

        whose, of_kin = "", Said()
        if said.problems and top is not None and procedure is not None and not top.subject and not top.pending:
            asked_for = fields_of(procedure, shelf).get(top.asking)
            whose = kin(read) if asked_for is not None and asked_for.kind == "name" else ""
            if whose:
                of_kin = _said(text, procedure, shelf, top.asking, dict(top.values), today, whose)
        for_whom = subject(read)
        if for_whom and not any(char.isdigit() for char in read) and not _INTRODUCES.search(read) and not kin(read):
            said = Said()  # 是给我自己办: it fills nothing

        def opening(wanted: str) -> Said:
            is_other = procedure is None or (together != procedure.id if together else wanted not in procedure.items)
            other = shelf.procedure(wanted) if wanted and is_other else None
            return Said() if other is None or ordered else _said(text, other, shelf, "", {}, today, for_whom)

        def act() -> str:
            guessed = _act(reading)
            return guessed if not ordered or guessed == "cancel" else ""

        rules = {
            "named": bool(named), "kinds": kinds, "asks": asks, "said": said, "ordinal": ordinal(read) if state.choices else 0,
            "procedure": together, "subject": for_whom, "gives": gives, "kin": whose, "of_kin": of_kin, "points": points(read),
        }  # fmt: skip

        def about() -> tuple[str, tuple[str, ...]]:
            if bare or (gives and not named and not asks):  # of what was talked about
                item = shelf.item(state.topic)
                return (state.topic if gives and item is not None else ""), ()
            return _about(reading, shelf, named, together, top.item if top else state.topic)

        return Hearing(text, by_words, rules, act, about, opening)

    def _submission(self, effects: Sequence[Effect], before: State, after: State, shelf: Shelf) -> Submission | None:
        effect = next((effect for effect in effects if effect.kind == "submit"), None)
        if effect is None or before.top is None:
            return None
        frame = before.top
        procedure = shelf.procedure(frame.procedure)
        item = shelf.item(frame.item)
        assert procedure is not None and item is not None
        to_verify = {"to_verify": "; ".join(" ".join(rule) for rule in frame.waived)} if frame.waived else {}
        return Submission(
            key=f"{after.key}-{frame.number}", item=frame.item, item_version=version(item), form=procedure.id,
            form_version=" ".join(frame.versions.values()), values={**wanted_values(procedure, frame.values, shelf), "receipt": effect.about, **to_verify},
        )  # fmt: skip


def _exchange(turn: Turn, text: str, key: str) -> Exchange:
    """What is kept of a message and its answer: numbers of persons only as they are masked, until the person has agreed that the hall
    keeps them."""
    reply = turn.reply()
    if not agreed(turn.state):
        text, reply["text"] = mask(text), mask(turn.text)
    return Exchange(turn.version, text, reply, key)


def _act(reading: Reading) -> str:
    """The act by the model. One that fails is as if it had understood nothing."""
    try:
        return "smalltalk" if reading.empty else reading.act
    except Exception:  # whatever it is: rules go on without it
        _LOG.exception("the model failed; the message is understood by rules alone")
        return ""


def _scores(reading: Reading) -> tuple[NDArray[np.float32], bool]:
    """(scores of the items, whether the hall cannot answer), as `_act`."""
    nothing = np.zeros(0, np.float32), True
    try:
        return nothing if reading.empty else (reading.scores, reading.outside)
    except Exception:
        _LOG.exception("the model failed; the message is understood by rules alone")
        return nothing


def _about(reading: Reading, shelf: Shelf, named: Sequence[str], together: str, topic: str) -> tuple[str, tuple[str, ...]]:
    """(the item that a message is about, the items that it may be about). named: what it names outright; together: the procedure of
    several items among it; topic: what was talked about."""
    codes = shelf.library.understander.codes
    procedure = shelf.procedure(together) if together else None
    item = procedure.items[0] if procedure is not None else named[0] if len(named) == 1 else ""
    if item:
        return item, ()
    scores, outside = _scores(reading)
    if not named:
        return _likely(scores, codes, topic if len(reading.text) <= _LEANS else "") if len(scores) and not outside else ("", ())
    rank = {code: float(score) for code, score in zip(codes, scores, strict=False)}
    if not together and rank:
        chances = np.exp(np.array([rank[code] for code in named]) - max(rank[code] for code in named))
        if chances.max() / chances.sum() >= _MEANT:
            return named[int(chances.argmax())], ()
    return "", tuple(sorted(named[:4], key=lambda code: -rank.get(code, 0.0)))  # one name of several items: the likeliest first


def _likely(scores: Any, codes: Sequence[str], here: str) -> tuple[str, tuple[str, ...]]:
    """(the item that is meant, the items that may be meant where it is not plain). here: what was talked about, and is meant where a
    short message may be about it."""
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    if here in codes[: len(chances)] and chances[list(codes).index(here)] >= _LIKELY:
        return here, ()
    order = np.argsort(-chances, kind="stable")[:4]
    if chances[order[0]] >= _SURE:
        return codes[int(order[0])], ()
    likely = tuple(codes[int(i)] for i in order if chances[i] >= _LIKELY)
    return (likely[0], ()) if len(likely) == 1 else ("", likely)


def _called(kin: str) -> str:
    """妈 -> 您的妈妈"""
    return "您本人" if kin in ("自己", "本人") else f"您的{kin * 2 if kin in tuple('爸妈哥弟姐妹') else kin}"


_INTRODUCES = re.compile("我(?:的?名字)?叫|姓名是|我是[一-龥]{2,4}[，。]")
_ALONE = frozenset({"confirm", "submit", "deny"})  # acts that the whole message does
_MOVES = frozenset({"cancel", "back", "skip", "repeat", "handoff", "progress", "resume", "smalltalk"})


def _may_fill(act: str, text: str, asked_for: FormField | None) -> bool:
    """Whether a message that does an act by its words may say something for the form beside it."""
    if act in _ALONE:
        kinds = ("yesno", "choice") if act != "deny" else ("yesno", "choice", "count", "amount", "text")
        return asked_for is not None and asked_for.kind in kinds
    return act not in _MOVES or any(char.isdigit() for char in text)


def _said(text: str, procedure: Procedure, shelf: Shelf, asking: str, values: Mapping[str, str], today: date,
    behalf: str = "",
) -> Said:  # fmt: skip
    """What a message says for all forms of a procedure; a field that several share is there once."""
    fields = fields_of(procedure, shelf)
    by_share = {found.share: name for name, found in fields.items() if found.share}
    known = dict(values)
    found: dict[str, str] = {}
    problems = []
    forms = [shelf.form(code) for code in dict.fromkeys(entry.item for entry in procedure.of_kind("form"))]
    taken: list[tuple[int, int, str]] = []  # where the form that was asked about found what
    for form in sorted((form for form in forms if form is not None), key=lambda form: asking not in form.fields):
        asked_for = _in_form(asking, form, fields)
        filled = fill(form, text, asking=asked_for, known=same(form, known, fields), today=today, behalf=behalf)
        _simplified(filled, form, text, asked_for, shelf)
        places: list[tuple[int, int, str]] = []
        for name, entry in filled.fields.items():
            wanted = form.fields[name]
            owner = name if name in fields else by_share.get(wanted.share, "")
            if any(start < entry.end and entry.start < end and by != owner for start, end, by in taken):
                continue
            places.append((entry.start, entry.end, owner))
            if owner and owner not in found:
                found[owner] = entry.value
        for problem in filled.problems:
            elsewhere = any(start < problem.end and problem.start < end for start, end, _ in taken)
            if problem not in problems and not elsewhere:
                problems.append(problem)
        taken += places
    withheld = tuple(name for name in found if fields[name].kind in SENSITIVE)
    return Said(found, tuple(problems), withheld)


def _in_form(asking: str, form: Form, fields: Mapping[str, FormField]) -> str | None:
    """The field that was asked, as a form calls it: its own, or the one that shares with it."""
    if asking in form.fields:
        return asking
    share = fields[asking].share if asking in fields else ""
    return next((name for name, field in form.fields.items() if share and field.share == share), None)


def _simplified(filled: Filled, form: Form, text: str, asking: str | None, shelf: Shelf) -> None:
    """Adds the choices that are written in traditional characters; names and addresses stay as they were written."""
    codes = shelf.library.understander.characters.codes(text).tolist()
    simple = "".join(
        chr(code) if code and "\u3400" <= char <= "\u9fff" else char for code, char in zip(codes, text, strict=True)
    )
    if simple == text:
        return
    for name, entry in fill(form, simple, asking=asking).fields.items():
        if form.fields[name].enum and name not in filled.fields:
            filled.fields[name] = entry


def _instead(state: State, after: State, effects: Sequence[Effect], text: str) -> tuple[State, tuple[Effect, ...]]:
    """The step, where the question has an answer of its own: that in the place of what would be answered. A procedure that is open
    goes on; none is opened."""
    answer = Effect("answer", text)
    if any(effect.kind in ("submit", "handoff") for effect in effects):
        return after, tuple(effects)
    if state.top is None:
        return replace(state, said=(answer,), choices=()), (answer,)
    places = [i for i, effect in enumerate(effects) if effect.kind in _ANSWERS]
    kept = [answer if i in places[:1] else effect for i, effect in enumerate(effects) if i not in places[1:]]
    return after, tuple(kept)


class _Voice:
    """Writes out what a step wants said. What is quoted from records goes through the citation check, as one answer."""

    def __init__(
        self, shelf: Shelf, ask: Callable[[str], Answer], state: State, today: date, before: State,
        phrase: Callable[[str, Answer, Library], Answer] | None = None,
    ) -> None:  # fmt: skip
        self.shelf, self.ask, self.state, self.today, self.before, self.phrase = shelf, ask, state, today, before, phrase
        self.parts: list[Part] = []
        self.reason = ""

    def speak(self, effects: Sequence[Effect]) -> tuple[str, tuple[Citation, ...], tuple[dict[str, Any], ...]]:
        """The text, its citations, and what was quoted in parts."""
        lines: list[str] = []
        place = -1
        for effect in effects:
            size = len(self.parts)
            if text := self._one(effect):
                lines.append(text)
            if len(self.parts) > size and place < 0:
                place = len(lines)
        if not self.parts:
            return "\n\n".join(lines), (), ()
        answer = checked(self.parts, self.shelf.library)
        lines.insert(place, answer.text)
        return "\n\n".join(lines), answer.citations, outlined(answer)

    def _answer(self, answer: Answer) -> str:
        """Keeps the parts of an answer to be written out with the others; a refusal is said as it is."""
        if answer.refused:
            self.reason = answer.reason
            return answer.text
        self.parts += answer.parts
        return ""

    def _one(self, effect: Effect) -> str:
        item = self.shelf.item(effect.item)
        kind = effect.kind
        if kind == "say":
            return self._say(effect, item)
        if kind == "problem":
            return effect.about
        if kind == "ask":
            return self._ask_field(effect)
        if kind == "summary":
            return SAYS["confirm?"].format(summary=self._summary())
        if kind == "filled":
            summary = self._summary()
            return SAYS["filled"].format(summary=summary) if summary else SAYS["filled_none"]
        if kind == "guide" and item is not None:
            reason = status(item, self.today)
            return self._answer(
                refuse(reason) if reason else checked(compose(item, meant(effect.kinds, item)), self.shelf.library)
            )
        if kind == "quote" and item is not None:
            self.parts.append(Part("about", TITLES["about"], (Sentence((cite(item, effect.about),)),)))
        if kind == "choices":
            items = [found for code in effect.codes if (found := self.shelf.item(code)) is not None]
            return self._answer(checked([choices(items)], self.shelf.library))
        if kind == "answer":
            if item is not None:
                answer = answer_item(
                    effect.about, item, self.shelf.library, self.today, self.shelf.library.understander.characters
                )
                if not answer.refused or answer.reason != "unanswerable":
                    return self._answer(
                        answer if self.phrase is None else self.phrase(effect.about, answer, self.shelf.library)
                    )
            return self._answer(self.ask(effect.about))
        return ""

    def _fields(self) -> dict[str, FormField]:
        top = self.state.top or self.before.top
        procedure = self.shelf.procedure(top.procedure) if top else None
        return fields_of(procedure, self.shelf) if procedure else {}

    def _say(self, effect: Effect, item: Item | None) -> str:
        fields = self._fields()
        labels = [fields[name].label for name in effect.fields if name in fields]
        top = self.state.top
        receipts = [
            f"《{found.name if (found := self.shelf.item(code)) else code}》回执号{receipt}"
            for code, receipt in self.state.receipts
        ]
        frames = self.state.frames
        return SAYS[effect.about].format(
            item=item.name if item else "", other=item.name if item else "", fields="、".join(labels),
            field=labels[0] if labels else "", new=next(iter(top.rival.values()), "") if top else "",
            who=_called(effect.kinds[0]) if effect.kinds else "", receipts="；".join(receipts),
            receipt=self.state.receipts[-1][1] if self.state.receipts else "", open=len(frames),
        )  # fmt: skip

    def _ask_field(self, effect: Effect) -> str:
        fields = self._fields()
        if effect.about not in fields:
            return ""
        top = self.state.top
        asked_for = fields[effect.about]
        now = top.values.get(effect.about) if top else None
        return f"{asked_for.ask}（现在填的是：{now}）" if now else asked_for.ask

    def _summary(self) -> str:
        top = self.state.top
        procedure = self.shelf.procedure(top.procedure) if top else None
        assert top is not None and procedure is not None
        fields, values = self._fields(), wanted_values(procedure, top.values, self.shelf)
        return "\n".join(f"· {found.label}：{values[name]}" for name, found in fields.items() if name in values)
