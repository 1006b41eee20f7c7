"""Puts what was found into plain words, and follow-up questions into whole ones; nothing of it is shown or used unchecked.

What goes into the generator is masked. Each sentence that comes out is held to the sentences that it was made from (`answers.faithful`,
by way of `answers.citations.check`); one that says more, less or something else is dropped. A generator that fails, is late or writes
rubbish changes nothing: what was extracted is shown as it is.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic
from typing import Any

from govlm._native import core
from govlm.generation.constrained.copying import figures
from govlm.hall.answers.citations import Catalogue, CitationError, Part, Phrased, Resolver, Sentence, check, numbers
from govlm.hall.answers.faithful import denials, judge, marks, named, sentences
from govlm.hall.answers.rendering import Answer, checked
from govlm.hall.answers.words import TITLES
from govlm.hall.generator.local import Generator, Message
from govlm.hall.privacy import Vault, mask

__all__ = ["Phraser"]

_LOG = logging.getLogger(__name__)
SECONDS = 10.0  # that an answer waits for its generator
_GRACE = 0.5  # seconds after its time in which it may say so itself
_POLL = 0.05  # seconds between two looks whether anybody still waits
_AT_ONCE = 32  # texts; what never ends keeps its place
_TOKENS = 512  # of a text
# Parts that set right, ask back or compare: every word of theirs counts.
_LEFT = ("phrased", "premise", "choices", "difference")
_SOURCE = 1200  # characters that are put into plain words at once
_PARTS = 5  # of an answer, its head with them; a whole guide has more and is read as it is
_WRITTEN = 4000  # characters that are looked at
_MORE = 10  # sentences beyond two for each source, from which on it is rubbish
_ENOUGH = 0.5  # of what was written has to be left
_FOLLOWS = re.compile(r"^(?:否则|但|不过|然而|其中|上述|前述|这|那|该|其|同时|因此|所以|反之|此时|届时|因而|并)")
_LEANS = re.compile(
    r"^(?:那|那么|然后|还有|如果|要是|这|它|他|她|另外)|它|他们|这个|那个|这些|那些|这样|那样|上面|刚才|前面|同样|呢[？?。！!]*$|^.{1,12}$"
)
_EARLIER = 3  # questions that a follow-up may lean on
_QUESTION = 120  # characters of a question that was made whole

_RULES = "你是政务服务大厅的助手。只说原文里有的内容，照抄其中的数字、日期、金额、名称、电话、条件和“不”“可以”“必须”等词，不补充，不遗漏条件。"
_ANSWER = "用简单的话回答群众的问题，一句一行。\n\n原文：\n{sources}\n\n问题：{question}"
_PLAIN = "用简单的话写出下面原文的意思，一句一行，按原文的顺序。\n\n原文：\n{sources}"
_WHOLE = "把最后一个问题补充完整，让人不看前面也能懂。只写补充后的问题，保留其中的数字和名称。\n\n前面的问题：\n{earlier}\n\n最后一个问题：{question}"


class Phraser:
    """generator: what writes. seconds: that one text may take. names: of offices and items, which are not written where no source
    holds them; they may be set anew."""

    def __init__(self, generator: Generator, seconds: float = SECONDS, names: Sequence[str] = ()) -> None:
        self.generator, self.seconds, self.names = generator, seconds, tuple(names)
        self._told: set[str] = set()
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def answer(self, question: str, answer: Answer, catalogue: Catalogue) -> Answer:
        """The answer with a part in plain words before what it quotes, or the answer itself."""
        if answer.refused or len(answer.parts) > _PARTS or any(part.kind in _LEFT for part in answer.parts):
            return answer
        sources = [source for part in answer.parts for source in _sources_of(part)]
        kept = self._kept(_ANSWER, sources, question=mask(question))
        if not kept:
            return answer
        first = 1 if answer.parts[0].kind == "item" else 0
        part = Part("phrased", TITLES["phrased"], tuple(kept))
        found = checked([*answer.parts[:first], part, *answer.parts[first:]], catalogue)
        return answer if found.refused else found

    def plains(self, groups: Mapping[str, Sequence[Sentence]], catalogue: Catalogue) -> dict[str, tuple[Sentence, ...]]:
        """`plain` of several, within the time of two; those of which nothing was gained are not in it."""
        end = monotonic() + 2 * self.seconds
        found = ((name, self.plain(sources, catalogue, end - monotonic())) for name, sources in groups.items())
        return {name: said for name, said in found if said}

    def plain(self, sources: Sequence[Sentence], catalogue: Catalogue, seconds: float | None = None) -> tuple[Sentence, ...]:
        """The sources in plain words, in their order; one of which no word is left in its own words. () = nothing was gained. seconds: that
        it may take, where that is less than the phraser's own."""
        kept = self._kept(_PLAIN, sources, seconds=seconds)
        if not kept:
            return ()
        found: list[Sentence] = []
        left = list(kept)
        for source in sources:
            about = [sentence for sentence in left if source in _sources(sentence)]
            said = any(source in _sources(sentence) for sentence in kept)
            found += about if said else [source]
            left = [sentence for sentence in left if sentence not in about]
        try:
            check([Part("phrased", TITLES["phrased"], tuple(found))], Resolver(catalogue))
        except CitationError as error:  # the same rules have just let it pass
            self._tell("check", error)
            return ()
        return tuple(found)

    def question(self, text: str, earlier: Sequence[str]) -> str:
        """A follow-up made whole by the questions before it, the oldest first; the text itself where it leans on none, or where not
        all of its numbers, names and negations are kept."""
        before = [mask(entry)[-_QUESTION:] for entry in earlier[-_EARLIER:] if entry.strip()]
        if not before or len(text) > _QUESTION or not _LEANS.search(text.strip()):
            return text
        shown = mask(text)
        if shown != text:  # who tells a number of their own wants something done with it
            return text
        asked = _WHOLE.format(earlier="\n".join(before), question=text)
        lines = self._written(asked, [*before, text], 64).strip().splitlines()
        whole = lines[0].strip() if lines else ""
        if not whole or len(whole) > _QUESTION or not _keeps(whole, text, before):
            return text
        return whole

    # ---- what is written, and what of it may be shown

    def _kept(self, task: str, sources: Sequence[Sentence], question: str = "", seconds: float | None = None) -> list[Sentence]:
        """Sentences that say what their sources say; [] where too little is left, or nothing was put in other words."""
        vault = Vault()
        hidden = [vault.hide(source.text) for source in sources]
        if not sources or sum(map(len, hidden)) > _SOURCE:
            return []
        listed = "\n".join(f"- {text}" for text in hidden)
        written = self._written(task.format(sources=listed, question=question), hidden, 64 + sum(map(len, hidden)), seconds)
        found = sentences(vault.reveal(written[:_WRITTEN]))
        if len(found) > 2 * len(sources) + _MORE:
            return []
        quoted = [source.quoted for source in sources]
        kept: list[Sentence] = []
        dropped = False
        for text in found:
            verdict = judge(text, quoted)
            if verdict.fault or (dropped and _FOLLOWS.match(text)):
                dropped = True
                continue
            dropped = False
            sentence = Sentence((Phrased(text, tuple(sources[place] for place in verdict.used)),))
            if sentence not in kept:
                kept.append(sentence)
        if len(kept) < _ENOUGH * len(found) or all(any(s.text in source.text for source in sources) for s in kept):
            return []
        return kept

    def _written(self, asked: str, sources: Sequence[str], most: int, seconds: float | None = None) -> str:
        """ "" for a generator that fails, or is not done in time: it is left to itself then."""
        messages: list[Message] = [{"role": "system", "content": _RULES}, {"role": "user", "content": asked}]
        allowed = self.seconds if seconds is None else min(self.seconds, seconds)
        done: Future[Any] = Future()
        given_up = threading.Event()

        def write() -> None:
            try:
                done.set_result(
                    self.generator.write(
                        messages, sources=sources, names=self.names, most=min(most, _TOKENS), seconds=allowed,
                        given_up=given_up.is_set,
                    )
                )  # fmt: skip
            except Exception as error:
                done.set_exception(error)
            except BaseException as error:  # it may not end who asks
                done.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
            finally:
                self._places.release()

        try:
            if allowed <= 0 or not self._places.acquire(blocking=False):
                raise TimeoutError("it is busy with what was asked before")
            try:
                threading.Thread(target=write, name="govlm-phrasing", daemon=True).start()
            except RuntimeError:
                self._places.release()
                raise
            found = _attended(done, monotonic() + allowed + _GRACE)
            if not isinstance(found, str):
                raise TypeError(f"a generator wrote a {type(found).__name__}")
            return found
        except Exception as error:
            self._tell(type(error).__name__, error)
            return ""
        finally:
            given_up.set()

    def _tell(self, what: str, error: Exception) -> None:
        """Once for each kind of failure: it may come with every question."""
        if what not in self._told:
            self._told.add(what)
            _LOG.warning(
                "the generator is of no use, what was extracted is shown as it is: %s: %s", what, mask(str(error))[:300]
            )


def _attended(done: Future[Any], end: float) -> Any:
    """What is done by then; TimeoutError. Cancelled: who asks went away, as in the core (govlm._core.Cancel)."""
    while True:
        left = end - monotonic()
        try:
            return done.result(max(0.0, min(left, _POLL)))
        except FutureTimeout:
            if done.done():  # its own
                raise
            if core.Cancel.here():
                raise core.Cancelled("nobody waits for the answer any more") from None
            if left <= 0:
                raise TimeoutError("nothing was written in the time that an answer may wait") from None


def _sources_of(part: Part) -> list[Sentence]:
    """What a part is put into other words from: of a policy the quotations alone, without the titles that lead to them, and of a span
    and the whole sentence around it the sentence: its beginning may be the condition."""
    if part.kind != "policy":
        return list(part.sentences)
    spans = [c for sentence in part.sentences for c in sentence.citations if c.field == "text"]
    inside = [c for c in spans if any(c != o and c.code == o.code and o.start <= c.start and c.end <= o.end for o in spans)]
    return [Sentence((span,)) for span in dict.fromkeys(spans) if span not in inside]


def _sources(sentence: Sentence) -> tuple[Sentence, ...]:
    return tuple(source for piece in sentence.pieces if isinstance(piece, Phrased) for source in piece.sources)


def _keeps(whole: str, text: str, before: Sequence[str]) -> bool:
    """Whether a question that was made whole says all that counts of `text`, and nothing that counts that nobody said."""
    said = "\n".join([*before, text])
    for of in (numbers, figures):
        if not set(of(text)) <= set(of(whole)) <= set(of(said)):
            return False
    if any(name not in whole for name in named(text)) or any(name not in said for name in named(whole)):
        return False
    return not (marks(text) - marks(whole)) and not (denials(whole) - denials(said))
