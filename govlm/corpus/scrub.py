"""Recognisers of personal numbers in Chinese text, and their fixed placeholders.

    identity_card   18 digits (or 17 and X): province, date of birth and check digit of GB 11643
    mobile          11 digits from 13 to 19, also with +86, spaces or hyphens
    landline        area code and 7 or 8 digits, also with an extension; without an area code where a word says "telephone"
    bank_card       15 to 19 digits with Luhn's check digit (ISO/IEC 7812), also in groups of four
    email

Full-width digits and signs count as their narrow forms. Every pattern is bounded, so the time is linear in the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from govlm.numbers import identity_card, luhn

__all__ = ["KINDS", "PLACEHOLDERS", "Found", "find", "scrub"]

PLACEHOLDERS = {
    "identity_card": "〔身份证号〕",
    "mobile": "〔手机号码〕",
    "landline": "〔电话号码〕",
    "bank_card": "〔银行卡号〕",
    "email": "〔电子邮箱〕",
}
KINDS = tuple(PLACEHOLDERS)
# One character for one, so that places in the narrow text are places in the text itself.
_NARROW = {ord(wide): narrow for wide, narrow in zip("０１２３４５６７８９Ｘｘ＋－（）＠．", "0123456789Xx+-()@.", strict=True)}
_NARROW |= {ord(dash): "-" for dash in "‐‑‒–—−"} | {0x3000: " ", 0xA0: " "}


class Found(NamedTuple):
    """A recognised number: text[start:end] is of this kind."""

    kind: str
    start: int
    end: int


def _digits(text: str) -> str:
    return re.sub(r"[^0-9Xx]", "", text)


def _is_card(text: str) -> bool:
    number = _digits(text)
    return 15 <= len(number) <= 19 and number[0] in "34569" and len(set(number)) > 2 and luhn(number)


_AREA = r"0(?:10|2[0-57-9]|[3-9][0-9]{2})"
_EXTENSION = r"(?:(?:[ ]?(?:转|ext\.?)[ ]?|-)[0-9]{1,6}(?![0-9]))?"
# In this order: what an earlier one takes, a later one does not look at.
_RECOGNISERS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool] | None], ...] = (
    ("email", re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}"), None),
    (
        "identity_card",
        re.compile(r"(?<![0-9A-Za-z])[1-8][0-9]{5}[ -]?[12][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{3}[0-9Xx](?![0-9A-Za-z])"),
        lambda text: identity_card(_digits(text)),
    ),
    (
        "bank_card",
        re.compile(r"(?<![0-9A-Za-z])(?:[0-9]{15,19}|[0-9]{4}(?:[ -][0-9]{4}){2,3}[ -][0-9]{1,4})(?![0-9A-Za-z])"),
        _is_card,
    ),
    (
        "mobile",
        re.compile(
            r"(?<![0-9A-Za-z+])(?:\(?(?:\+|00)?86\)?[ -]?)?"
            r"1[3-9][0-9](?:[0-9]{8}|[ -][0-9]{4}[ -][0-9]{4}|[0-9][ -][0-9]{3}[ -][0-9]{4})(?![0-9])"
        ),
        None,
    ),
    (
        "landline",
        re.compile(
            rf"(?<![0-9A-Za-z.])(?:(?:\+86|0086)[ -]?\(?{_AREA.replace('0', '0?', 1)}|\(?{_AREA})(?:\)[ ]?|[ ]?-[ ]?|[ ])?"
            rf"[2-9][0-9]{{2,3}}[ -]?[0-9]{{4}}(?![0-9]){_EXTENSION}"
        ),
        None,
    ),
    (
        "landline",  # without its area code, where a word says what it is
        re.compile(
            rf"(?:电话|座机|固话|传真|热线|[Tt][Ee][Ll])[^0-9\n]{{0,5}}(?<![0-9])(?P<number>[2-8][0-9]{{2,3}}[ -]?[0-9]{{4}}(?![0-9]){_EXTENSION})"
        ),
        None,
    ),
)
_MAYBE = re.compile(r"[0-9](?:[ ()-]{0,2}[0-9]){6}|@")


def find(text: str) -> Iterator[Found]:
    """What is recognised in the text, from left to right, without overlaps."""
    narrow = text if text.isascii() else text.translate(_NARROW)
    if _MAYBE.search(narrow) is None:
        return
    found: list[Found] = []
    for kind, pattern, valid in _RECOGNISERS:
        hits = []
        for match in pattern.finditer(narrow):
            if valid is None or valid(match.group()):
                hits.append(Found(kind, *match.span("number" if "number" in pattern.groupindex else 0)))
        if hits:
            found += hits
            pieces, end = [], 0
            for hit in hits:  # what is taken becomes letters, which no pattern accepts beside a number
                pieces += [narrow[end : hit.start], "\0" * (hit.end - hit.start)]
                end = hit.end
            narrow = "".join([*pieces, narrow[end:]])
    yield from sorted(found, key=lambda hit: hit.start)


def scrub(text: str) -> tuple[str, Counter[str]]:
    """The text with a placeholder for each number found, and how many of each kind there were."""
    counts: Counter[str] = Counter()
    pieces, end = [], 0
    for hit in find(text):
        pieces += [text[end : hit.start], PLACEHOLDERS[hit.kind]]
        end = hit.end
        counts[hit.kind] += 1
    return ("".join([*pieces, text[end:]]) if counts else text), counts
