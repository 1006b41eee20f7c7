"""Which candidate of a message belongs to which field: by cues, by whose it is, by what was asked.

The field whose cue stands nearest takes a value; what could belong to two fields is a problem that names both.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from govlm.hall.forms.marks import Candidate, Cue
from govlm.hall.forms.persons import People
from govlm.hall.forms.rules import Problem
from govlm.hall.forms.schema import CHECKED, PERSONS, Form, FormField
from govlm.hall.understanding.plain_words import CORRECTING

__all__ = ["CORRECTS", "Assignment", "Claim"]


class Claim(NamedTuple):
    """A candidate for a field. level: 5 cue before in its clause, 4 cue behind, 3 asked, 2 cue in its sentence, 1 cue before that, 0 none."""

    candidate: Candidate
    field: str
    level: int


CORRECTS = re.compile(CORRECTING + "|应当是|而是|哦不|啊不|不不|重新说|说反了")
_BREAK = re.compile("[，,。；;！!？?\n]")
_SENTENCE = re.compile("[。；;！!？?\n]")
_MOST = 10  # questions back about one message
_COMMON_UNIT = re.compile("(?:年|个?月|天|岁|次)$|^[一1]个人$")  # of durations, said of many things
_THERE = re.compile("(?:就在|位于|地址[是在]|坐落在?)$")
_FITS = {"number": ("amount", "count")}


class Assignment:
    """Which candidate belongs to which field."""

    def __init__(
        self,
        form: Form,
        text: str,
        found_cues: dict[str, list[Cue]],
        found: Sequence[Candidate],
        asked: FormField | None,
        known: Mapping[str, str],
        behalf: str = "",
    ) -> None:
        self.form, self.text, self.cues, self.found, self.asked, self.known = form, text, found_cues, found, asked, known
        self.people = People(text, {entry.person for entry in form.fields.values()}, behalf)
        self.starts = {name: [cue.start for cue in listed] for name, listed in found_cues.items()}
        self.ends = {name: [cue.end for cue in listed] for name, listed in found_cues.items()}
        self.at: dict[int, list[tuple[int, int]]] = {}  # the cues that begin at a place
        for cue in (cue for listed in found_cues.values() for cue in listed):
            self.at.setdefault(cue.start, []).append((cue.start, cue.end))
        self.births = {rule.fields[0] for rule in form.rules if rule.kind == "birth_matches_id"}
        self.used: set[tuple[int, int]] = set()
        first = CORRECTS.search(text)
        self.corrected = first.end() if first else None  # where the first correcting word ends
        self.among = any(other.kind in CHECKED or other.kind == "address" for other in found)
        self.denied = sorted((other.end, other.value) for other in found if other.state == "denied")
        self.own = {other.kind for other in found if self.people.at(other.start) in ("", "applicant")}
        self.breaks = [match.start() for match in _BREAK.finditer(text)]
        self.sentences = [match.start() for match in _SENTENCE.finditer(text)]
        self.claims: dict[str, list[Claim]] = {}
        self.problems: list[Problem] = []
        self.spans = sorted((entry.start, entry.end) for entry in found if not entry.fields or entry.kind in ("count",))

    def run(self) -> tuple[dict[str, list[Claim]], list[Problem]]:
        ranges = self._ranges()
        for entry in self.found:
            if entry in ranges:
                self._claim(entry, ranges[entry], 5)
            elif entry.kind in CHECKED or entry.kind in ("name", "address") or not self.people.outside(entry.start):
                self._place(entry)
        for name, listed in self.claims.items():
            self.claims[name] = self._spoken_for(self.form.fields[name], listed)
        return {name: listed for name, listed in self.claims.items() if listed}, self.problems

    def _spoken_for(self, each: FormField, listed: list[Claim]) -> list[Claim]:
        """我老公是坐办公室的，我是工人: a choice that is the speaker's own is not what is said of kin."""
        if each.kind not in ("choice", "yesno") or each.person != "applicant":
            return listed
        roles = [self.people.subject(claim.candidate.start) for claim in listed]
        own = ("", "applicant") if "applicant" in roles else {*PERSONS, ""} - {"spouse"}
        return [claim for claim, role in zip(listed, roles, strict=True) if role in own]

    def _claim(self, entry: Candidate, name: str, level: int) -> None:
        self.claims.setdefault(name, []).append(Claim(entry, name, level))

    def _place(self, entry: Candidate) -> None:
        eligible = self._eligible(entry)
        if not eligible:
            return
        if entry.fields and entry.kind != "count":  # a choice, or a phrase behind its cue
            for field_ in eligible:
                self._claim(entry, field_.name, 5)
            return
        if name := self._meant(entry, eligible):
            self._claim(entry, name, 4)
            return
        role = self.people.at(entry.start)
        foreign = role == "other"
        both = re.search("[也全]?都[是为填在]?$", self.text[max(0, entry.start - 4) : entry.start])
        if role and not foreign and not both:
            eligible = [each for each in eligible if each.person == role] or [
                each for each in eligible if each.person == "applicant"
            ]
        levels = [(self._level(entry, each), each) for each in eligible]
        best = max(level for level, _ in levels)
        top = [each for level, each in levels if level == best or (both and level[0] == best[0])]
        level = best[0]
        if not level and not self._free(entry, top) and not (entry.kind == "address" and len(top) > 1):
            return
        if len(top) > 1 and not both:
            top = self._narrowed(entry, top, level)
        if len(top) > 1 and level >= 4 and both:
            for each in top:
                self._claim(entry, each.name, level)
            return
        if len(top) > 1:
            if level or entry.kind in CHECKED or entry.kind == "address" or self._mostly(entry):
                self._ambiguous(entry, top)
            return
        if foreign and level != 3 and self._personal(top[0]) and top[0].person == "applicant" and not (level >= 4 and best[2]):
            if entry.kind not in self.own:
                self._ambiguous(entry, top)
            return
        self._consume(entry, top[0])
        self._claim(entry, top[0].name, level)

    def _meant(self, entry: Candidate, eligible: Sequence[FormField]) -> str:
        """不是1650，是1560元: the field that holds the value that is denied right before; "" when there is none."""
        place = bisect.bisect_left(self.denied, (entry.start - 6, ""))
        denied = {value for _, value in self.denied[place : bisect.bisect_right(self.denied, (entry.start, "\U0010ffff"))]}
        holders = [each.name for each in eligible if self.known.get(each.name) in denied] if denied else []
        return holders[0] if len(holders) == 1 else ""

    def _personal(self, each: FormField) -> bool:
        return each.kind in CHECKED or each.kind in ("name", "address") or each.name in self.births

    def _eligible(self, entry: Candidate) -> list[FormField]:
        if entry.fields:
            return [self.form.fields[name] for name in entry.fields]
        kinds = _FITS.get(entry.kind, (entry.kind,))
        return [each for each in self.form.fields.values() if each.kind in kinds and self._possible(entry, each)]

    def _possible(self, entry: Candidate, each: FormField) -> bool:
        """全家一个月一千九: a number without a unit is no count that is out of bounds, unless that was asked."""
        if entry.kind != "number" or each.kind != "count" or each is self.asked or entry.state == "vague":
            return True
        return not isinstance(each.maximum, Decimal) or Decimal(entry.value) <= each.maximum

    def _level(self, entry: Candidate, each: FormField) -> tuple[int, int, bool]:
        """(level, where its cue ends, whether the cue is one of the field's own)."""
        name, asked = each.name, self.asked is not None and self.asked.name == each.name
        unit = 3 if entry.kind == "count" and entry.fields else 0
        place = bisect.bisect_right(self.ends[name], entry.start) - 1
        before = None
        while place >= 0 and before is None:
            cue = self.cues[name][place]
            before = cue if (cue.start, cue.end) not in self.used else None
            if before is None and entry.start - cue.end > 200:
                break
            place -= 1
        level, where, own = 0, -1, False
        if before is not None:
            between = self._count(self.breaks, before.end, entry.start)
            if not self._another(before.end, entry):
                far = entry.start - before.end
                if not between:
                    level = 5 if far <= 20 else 2
                elif far == 1 and before.own and re.match("$|[，,。；;！!？?]", self.text[entry.end : entry.end + 1]):
                    level = 5  # 养老金，一千零五十: the comma announces it
                elif not self._count(self.sentences, before.end, entry.start):
                    level = 2 if far <= 40 else 0
                else:
                    level = 1 if far <= 12 else 0
                where, own = before.end, before.own
                if level and not own:
                    level = max(1, level - 1) if level < 5 else 5
        if level < 5:
            after = bisect.bisect_left(self.starts[name], entry.end)
            if after < len(self.starts[name]):
                cue = self.cues[name][after]
                if (
                    cue.start - entry.end <= 14
                    and not self._count(self.breaks, entry.end, cue.start)
                    and not self._between(entry.end, cue.start)
                ):
                    level, where, own = 4, -cue.start, cue.own
        if asked and level < 3:
            level, where = 3, -1
        if unit > level and not _COMMON_UNIT.search(self.text[entry.start : entry.end]):
            level, where = unit, -1
        corrected = CORRECTS.search(self.text, max(0, entry.start - 8), entry.start)
        if (
            entry.kind == "number"
            and not asked
            and not corrected
            and entry.state != "denied"
            and not self._denied_before(entry)
            and (level < 5 or entry.start - where > 8)
        ):
            level = 0  # digits are said for many things
        return level, where, own

    def _count(self, places: list[int], start: int, end: int) -> int:
        return bisect.bisect_left(places, end) - bisect.bisect_left(places, start)

    def _between(self, start: int, end: int) -> bool:
        """Whether a value stands there."""
        place = bisect.bisect_left(self.spans, (start, -1))
        return place < len(self.spans) and self.spans[place][1] <= end

    def _another(self, start: int, entry: Candidate) -> bool:
        """Whether a value of the same kind stands between a cue and the candidate, and nothing corrects it."""
        place = bisect.bisect_left(self.spans, (start, -1))
        if entry.state != "denied" and place < len(self.spans) and self.spans[place][1] <= entry.start:
            return not CORRECTS.search(self.text, self.spans[place][1], entry.start) and not self._denied_before(entry)
        return False

    def _denied_before(self, entry: Candidate) -> bool:
        place = bisect.bisect_right(self.denied, (entry.start, "\U0010ffff")) - 1
        return place >= 0 and entry.start - self.denied[place][0] < 12

    def _free(self, entry: Candidate, top: Sequence[FormField]) -> bool:
        """Whether a value without a cue may stand by itself."""
        if entry.kind in CHECKED or (entry.alone and entry.kind in ("name", "address") and self._company(entry)):
            return True
        if entry.kind == "organisation":
            return len(top) == 1
        if entry.kind == "address" and len(top) == 1 and _THERE.search(self.text, max(0, entry.start - 4), entry.start):
            return True
        return self._mostly(entry)

    def _company(self, entry: Candidate) -> bool:
        """Whether a name that nothing announces stands beside other answers, or behind 叫 or 是."""
        led = re.search("(?:叫|姓名|名字|是)$", self.text[max(0, entry.start - 6) : entry.start])
        return entry.kind == "address" or self.among or led is not None

    def _mostly(self, entry: Candidate) -> bool:
        """Whether the message is hardly more than this value."""
        if len(self.text) - (entry.end - entry.start) > 40:
            return False
        rest = CORRECTS.sub("", self.text[: entry.start] + self.text[entry.end :])
        return len(re.sub(r"[\s，,。.!！是的我]", "", rest)) <= 2 and entry.kind != "number"

    def _narrowed(self, entry: Candidate, top: list[FormField], level: int) -> list[FormField]:
        """One of several: the asked one, the applicant's own, or the one that is corrected."""
        if self.asked in top and level <= 3:
            return [each for each in top if each is self.asked]
        if self.corrected is not None and self.corrected <= entry.start:
            said = [each for each in top if each.name in self.claims] or [each for each in top if each.name in self.known]
            if len(said) == 1:
                return said
        own = [each for each in top if each.person == "applicant"]
        return (
            own
            if len(own) == 1
            and self.people.at(entry.start) in ("", "applicant")
            and entry.kind not in ("date", "amount", "count", "number")
            else top
        )

    def _ambiguous(self, entry: Candidate, top: Sequence[FormField]) -> None:
        if len(self.problems) >= _MOST:
            return
        if any(
            c.candidate.start < entry.end and entry.start < c.candidate.end for listed in self.claims.values() for c in listed
        ):
            return
        labels = "”还是“".join(each.label for each in top[:4])
        message = (
            f"您说的这一项是“{labels}”？请说明是哪一项。" if len(top) > 1 else f"您说的这一项是“{labels}”吗？请说明是谁的。"
        )
        self.problems.append(
            Problem(
                tuple(each.name for each in top),
                "ambiguous",
                message,
                self.text[entry.start : entry.end],
                entry.start,
                entry.end,
            )
        )

    def _consume(self, entry: Candidate, each: FormField) -> None:
        """A cue behind a value is not also the cue before the next one."""
        level, where, _ = self._level(entry, each)
        if level == 4:
            self.used.update(self.at[-where])

    def _ranges(self) -> dict[Candidate, str]:
        """3月1号到3月9号: the first and the last day, where the form has one pair of such fields."""
        pairs = [rule.fields for rule in self.form.rules if rule.kind == "order"]
        found: dict[Candidate, str] = {}
        dates = [entry for entry in self.found if entry.kind == "date"]
        for first, second in itertools.pairwise(dates):
            between = self.text[first.end : second.start]
            if not re.fullmatch(r"(?:起|开始)?[\s，,]*(?:[到至~—–-]+|一直到|直到)[了]?\s*", between):
                continue
            around = (max(0, first.start - 16), min(len(self.text), second.end + 16))
            near = [
                pair
                for pair in pairs
                if any(around[0] <= cue.start and cue.end <= around[1] for name in pair for cue in self.cues[name])
            ]
            chosen = near if len(near) == 1 else pairs if len(pairs) == 1 and not near else []
            if chosen and first not in found:
                found[first], found[second] = chosen[0]
        return found
