"""A question and the records that were found for it -> a checked answer, or a refusal. Pure functions over records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from govlm.hall.answers import premise, words
from govlm.hall.answers.asked import Asked, asked, plain
from govlm.hall.answers.citations import Catalogue, Part, Sentence, cite, cite_span, version
from govlm.hall.answers.compose import choices, compose, head, meant
from govlm.hall.answers.extract import Similarity, Span, extract, sentence_around
from govlm.hall.answers.features import Question
from govlm.hall.answers.precedence import compare, differences, in_force, ordered, status
from govlm.hall.answers.rendering import Answer, checked, refuse
from govlm.hall.catalogue.records import Document, Item
from govlm.hall.retrieval.characters import Characters
from govlm.hall.retrieval.ranking import Ranker

__all__ = ["answer_choices", "answer_item", "answer_policy"]

_HELD = (
    0.3  # share of a question's pairs of letters that the passages must have: 0 of the 600 questions of ncp_policy_qa have less
)
_SURE = 0.4  # expected F1 of spans that are given without all of their sentence first
_READ = 1000  # characters of a long question that are read at each end
_ALIKE = 0.3  # of two passages' pairs of letters: they rule on the same thing


def answer_item(
    question: str,
    item: Item | None,
    catalogue: Catalogue,
    today: date,
    characters: Characters | None = None,
    wanted: Asked | None = None,
) -> Answer:
    """The parts of the item that the question asks for, after what it takes for granted has been set right. item: the one that was
    found, None where none was. wanted: what is asked for, where that is known better than by the rules of `asked`.
    """
    question = _shortened(question)
    if not question.strip():
        return refuse("empty")
    if item is None:
        return refuse("nothing_found")
    if reason := status(item, today):
        return refuse(reason)
    what = wanted or asked(question, (item.name, *item.aliases), characters)
    verdicts = premise.judge(plain(question, characters), item, what.kinds)
    if what.open and not verdicts:
        return refuse("unanswerable")
    kinds = list(what.kinds)
    parts: list[Part] = []
    if verdicts:
        parts.append(premise.part(verdicts, item))
        said = {verdict.kind for verdict in verdicts if verdict.found == "silent" or verdict.kind in ("fee", "limit")}
        kinds = [kind for kind in kinds or [verdicts[0].kind] if kind not in said]  # all that there is has been quoted
    if verdicts and not kinds:
        return checked([head(item), *parts], catalogue)
    first, *others = compose(item, meant(kinds, item))
    return checked([first, *parts, *others], catalogue)


def answer_choices(items: Sequence[Item], catalogue: Catalogue) -> Answer:
    """Which of several items is meant, where it is not plain: their names."""
    return checked([choices(items)], catalogue)


def answer_policy(
    question: str,
    passages: Sequence[tuple[Document, str]],
    catalogue: Catalogue,
    today: date,
    region: str = "",
    characters: Characters | None = None,
    similarity: Similarity | None = None,
    weights: Ranker | None = None,
) -> Answer:
    """The spans that answer the question, from passages (document, id), best first. The most local rule in force is given; where a
    passage of a higher one rules on the same thing with other numbers or dates, both are shown.
    """
    question = _shortened(question)
    if not question.strip():
        return refuse("empty")
    if not passages:
        return refuse("nothing_found")
    question = plain(question, characters)
    reasons = [status(document, today) for document, _ in passages]
    current = [entry for entry, reason in zip(passages, reasons, strict=True) if not reason]
    if not current:
        return refuse(reasons[0])
    if region:
        allowed = {entry.code for entry in ordered([document for document, _ in current], today, region)}
        current = [entry for entry in current if entry[0].code in allowed]
        if not current:
            return refuse("nothing_found")
    if not _holds(question, current):
        return refuse("unanswerable")
    found = extract(question, current, weights, similarity)
    if found is None:
        return refuse("nothing_found")
    chosen = (found.spans[0].document, found.spans[0].passage)
    rival = _rival(chosen, current, today)
    if rival is not None and ordered([chosen[0], rival[0]], today)[0].code == rival[0].code:
        chosen, rival = rival, chosen
        found = extract(question, [chosen], weights, similarity) or found
    parts = [_quoted(found.spans, found.confidence >= _SURE)]
    if rival is not None:
        parts.append(compare(chosen, rival))
    return checked(parts, catalogue)


def _shortened(question: str) -> str:
    """Its beginning and its end: what a long message wants stands at either."""
    return question if len(question) <= 2 * _READ else f"{question[:_READ]}\n{question[-_READ:]}"


def _quoted(spans: Sequence[Span], sure: bool) -> Part:
    """The spans, and the sentences that they stand in; those alone where the spans are not sure."""
    sentences = []
    for span in spans:
        known = version(span.document)
        start, end = sentence_around(span)
        whole = cite_span(span.document, span.passage, start, end, known)
        quote = cite_span(span.document, span.passage, span.start, span.end, known) if sure else whole
        sentences.append(Sentence((words.FROM, cite(span.document, "title", known), words.FROM_END, words.SAYS, quote)))
        if len(whole.text) > len(quote.text) + 2:  # a sum or a day alone: what it is for stands around it
            sentences.append(Sentence((words.WHOLE, whole)))
    return Part("policy", words.TITLES["policy"], tuple(sentences))


def _holds(question: str, passages: Sequence[tuple[Document, str]]) -> bool:
    pairs = Question.of(question).pairs
    text = "\n".join(_text(*entry) for entry in passages)
    return not pairs or sum(pair in text for pair in pairs) >= _HELD * len(pairs)


def _text(document: Document, passage: str) -> str:
    entry = next(entry for entry in document.passages if entry.id == passage)
    return document.text[entry.start : entry.end]


def _rival(chosen: tuple[Document, str], passages: Sequence[tuple[Document, str]], today: date) -> tuple[Document, str] | None:
    """The first passage of a document of another region or level that rules on the same thing with other numbers or dates."""
    mine = _text(*chosen)
    own = _pairs(mine)
    for document, name in passages:
        if document.code == chosen[0].code or not in_force(document, today):
            continue
        if (document.region, document.level) == (chosen[0].region, chosen[0].level):
            continue
        other = _text(document, name)
        theirs = _pairs(other)
        shared = len(own & theirs) / max(min(len(own), len(theirs)), 1)
        if shared >= _ALIKE and (differences(mine, other) or differences(other, mine)):
            return document, name
    return None


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1) if text[i].isalpha() and text[i + 1].isalpha()}
