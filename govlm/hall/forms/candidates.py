"""What a message says that may fill a field: values with their places, each of a kind; nothing here decides whose they are.

Recognisers of the hall do the work (privacy, values, addresses, slots). Added is what a form needs besides: sums, counts and dates
as people say them (`numbers`, `dates`), words (`wording`), numbers that lack a digit.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from datetime import date

from govlm.hall.addresses import Divisions, find_addresses, find_divisions
from govlm.hall.forms.dates import birth_date, dates, lasts
from govlm.hall.forms.marks import Candidate, Cue
from govlm.hall.forms.mood import Clauses
from govlm.hall.forms.numbers import numbers
from govlm.hall.forms.schema import CHECKED, Form, FormField
from govlm.hall.forms.wording import choices, names, none, phrases
from govlm.hall.understanding.slots import find_slots
from govlm.hall.values import normal

__all__ = ["candidates"]

_LABEL = re.compile(
    "(?:的)?(?:全称|名称|名字|地址)?[是叫为在：:]|(?:信用)?代码"
)  # behind a cue that names what comes, and is no answer itself


def candidates(
    form: Form, text: str, found_cues: dict[str, list[Cue]], today: date, asking: FormField | None
) -> list[Candidate]:
    """From left to right. text: as `narrow` gives it. What overlaps: of choices and phrases only; the assignment decides."""
    kinds = {field.kind for field in form.fields.values()}
    taken = bytearray(len(text))
    found: list[Candidate] = []

    def take(start: int, end: int) -> bool:
        if start >= end or any(taken[start:end]):
            return False
        taken[start:end] = b"\1" * (end - start)
        return True

    slots = find_slots(text, today)
    for slot in slots:
        if slot.kind in CHECKED and take(slot.start, slot.end):
            kind = (_announced(form, text, slot.start, found_cues) if slot.kind == "bank_card" else "") or slot.kind
            found.append(Candidate(kind, slot.start, slot.end, slot.value))
        elif slot.valid is not None or slot.kind in ("landline", "passport", "travel_permit", "plate"):
            take(slot.start, slot.end)
    found += [entry for entry in _broken(form, text, found_cues, asking) if take(entry.start, entry.end)]
    places = _addresses(text)
    for start, end in places:
        if take(start, end) and "address" in kinds:
            whole = _alone(text, start, end)
            found.append(Candidate("address", start, end, normal("address", text[start:end]), alone=whole))
    if "date" in kinds or "amount" in kinds or "count" in kinds:
        days = [
            birth_date(form, text, entry) for entry in dates(text, today, taken, lasts(form, asking), _beside(form, found_cues))
        ]
        found += days if "date" in kinds else []
    # no name begins inside a word of a field: 缴费八年
    inner = {place for listed in found_cues.values() for cue in listed for place in range(cue.start + 1, cue.end)}
    # … nor behind one of an organisation: 铺子叫阿强五金
    for field in form.fields.values():
        for cue in found_cues[field.name] if field.kind == "organisation" else ():
            inner |= {cue.end, *range(cue.end, _TO.match(text, cue.end).end() + 1)} if cue.own else set()  # type: ignore[union-attr]
    firm = bytearray(taken)  # without names and organisations, which a phrase of words may hold
    for slot in slots:
        if slot.kind == "organisation" and _CARD.match(text, slot.end):  # 青岛银行卡6217…: whose card, not where one works
            take(slot.start, slot.end)
        elif slot.kind == "organisation":
            led = _ENTERED.search(
                text, max(0, slot.start - 12), slot.start
            )  # 进的示例物流有限公司: the name begins behind the word
            start = led.start("name") if led and not any(taken[led.start("name") : slot.start]) else slot.start
            if take(start, slot.end) and "organisation" in kinds:
                found.append(Candidate("organisation", start, slot.end, text[start : slot.start] + slot.value))
        elif slot.kind == "name" and slot.start not in inner and take(slot.start, slot.end) and "name" in kinds:
            found.append(Candidate("name", slot.start, slot.end, slot.value, alone=True))
    words = {word for field in form.fields.values() if field.words for listed in field.words.values() for word in listed}
    words |= {cue for field in form.fields.values() for cue in field.cues}
    if "name" in kinds:
        found = [entry for entry in found if entry.kind != "name" or entry.value not in words]  # 车祸 is no Mr Che
        found += [
            Candidate("name", start, end, text[start:end], alone=led)
            for start, end, led in names(form, text, found_cues)
            if text[start:end] not in words and start not in inner and take(start, end)
        ]
    ends: dict[int, tuple[str, ...]] = {}
    for field in form.fields.values():
        for cue in found_cues[field.name] if field.kind == "count" else ():
            ends[cue.end] = (*ends.get(cue.end, ()), field.name)
    said = list(numbers(form, text, taken, ends))
    counted = {
        place: entry
        for entry in said
        if entry.kind == "count" and text[entry.start : entry.end] not in ("一个人", "1个人")
        for place in range(entry.start, entry.end)
    }
    clauses = Clauses(text)
    labels = {
        (cue.start, cue.end): cue.field for listed in found_cues.values() for cue in listed if _LABEL.match(text, cue.end)
    }
    found += said
    if "region" in kinds:
        found += [
            Candidate("region", start, end, owners[0].name) for start, end, owners in find_divisions(text) if len(owners) == 1
        ]
    chosen: list[Candidate] = []
    spoken: list[Candidate] = []
    for field in form.fields.values():
        if field.kind in ("choice", "yesno"):
            chosen += [
                entry
                for entry in choices(field, text, found_cues[field.name], clauses)
                if labels.get((entry.start, entry.end), field.name) == field.name
                and not (asking is not field and _named(form, field, text, entry, found_cues))
                and all(entry.start < count.start and count.end <= entry.end for count in _at_ends(entry, counted))
            ]
        if field.kind in ("amount", "count"):
            found += [entry for entry in none(field, text, found_cues[field.name]) if not clauses.asks(entry.start, entry.end)]
    heads = sorted(
        {cue.start for listed in found_cues.values() for cue in listed if cue.own} | {entry.start for entry in chosen}
    )
    for field in form.fields.values():
        if field.kind in ("text", "organisation", "address"):
            free = firm if field.kind == "text" else taken
            spoken += phrases(field, text, found_cues[field.name], free, clauses, heads)
    held = {count for entry in chosen for count in _at_ends(entry, counted)}  # 夫妻两个 are no two of the staff
    worded = {place for entry in chosen for place in range(entry.start, entry.end)}
    within = {place for entry in spoken if entry.kind == "text" for place in range(entry.start, entry.end)}
    found = [entry for entry in found if entry not in held and not (entry.kind == "name" and entry.start in within)] + chosen
    found += [entry for entry in spoken if not worded.issuperset(range(entry.start, entry.end))]  # 厂里是车间工人
    found.sort(key=lambda entry: (entry.start, entry.end))
    found = [entry for entry in found if entry.kind not in _OF_FACTS or not clauses.supposes(entry.start, entry.end)]
    return [entry._replace(state="denied") if _denied(text, entry) else entry for entry in found]


_CARD = re.compile("的?(?:储蓄|借记|银行)?(?:卡|账[号户]|户头|存折)|(?:统一)?代[收领]")
_ENTERED = re.compile("(?:入职|进的|进了|去了|就职于|任职于|[位司]是|全称)(?P<name>[\u4e00-\u9fff]{2,5})$")
_OF_FACTS = frozenset({"date", "amount", "count", "number"})  # a number to call or an address is meant behind 如果, too


def _named(form: Form, field: FormField, text: str, entry: Candidate, found_cues: dict[str, list[Cue]]) -> bool:
    """Whether a word of a choice is rather the name of another field: 单位 of 单位示例市…, not of 打给单位."""
    word = text[entry.start : entry.end]
    if not any(word in other.cues for other in form.fields.values() if other.kind in _LABELLED):
        return False
    return not any(cue.own and 0 <= entry.start - cue.end <= 6 for cue in found_cues[field.name])


_LABELLED = frozenset({"organisation", "name", "address", "text"})


def _beside(form: Form, found_cues: dict[str, list[Cue]]) -> tuple[set[int], set[int]]:
    """Where cues of dates begin and end."""
    listed = [cue for field in form.fields.values() if field.kind == "date" for cue in found_cues[field.name]]
    return {cue.start for cue in listed}, {cue.end for cue in listed}


_TO = re.compile(r"[的是为：:，,\s]{0,3}")


def _announced(form: Form, text: str, start: int, found_cues: dict[str, list[Cue]]) -> str:
    """The kind of number whose cue stands right before that place: 17 digits behind 身份证 are no bank card; "" = none does."""
    kinds = {
        form.fields[name].kind
        for name, listed in found_cues.items()
        if form.fields[name].kind in CHECKED
        for cue in listed
        if start - 4 <= cue.end <= start and text[cue.start : cue.end] != "号码" and _TO.fullmatch(text, cue.end, start)
    }
    return kinds.pop() if len(kinds) == 1 else ""


def _at_ends(entry: Candidate, counted: dict[int, Candidate]) -> list[Candidate]:
    """The counts in which a choice begins or ends."""
    return [counted[place] for place in (entry.start, entry.end - 1) if place in counted]


def _denied(text: str, entry: Candidate) -> bool:
    """不是1380…: said not to be it."""
    return (
        entry.state == ""
        and entry.kind not in ("choice", "yesno")
        and re.search("不(?:是|叫|在|住)[在叫]?$", text[max(0, entry.start - 4) : entry.start]) is not None
    )


def _alone(text: str, start: int, end: int) -> bool:
    return bool(re.search(r"(?:^|[，,。；;：:\s\n])$", text[max(0, start - 1) : start])) and bool(
        re.match(r"$|[，,。；;\s\n]", text[end : end + 1])
    )


_RUN = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z](?:[ -]{0,2}[0-9A-Za-z]){4,22}(?![0-9A-Za-z])")


def _broken(form: Form, text: str, found_cues: dict[str, list[Cue]], asking: FormField | None) -> Iterator[Candidate]:
    """Numbers that the recognisers do not know, where a cue or the question says what they were to be: a digit is missing."""
    checked = [field for field in form.fields.values() if field.kind in CHECKED - {"email"}]
    ends = {field.name: [cue.end for cue in found_cues[field.name]] for field in checked}
    for match in _RUN.finditer(text):
        digits = re.sub("[^0-9A-Za-z]", "", match.group())
        if sum(char.isdigit() for char in digits) < 5:
            continue
        best: tuple[int, str] | None = None
        for field in checked:
            place = bisect.bisect_right(ends[field.name], match.start()) - 1
            if place >= 0:
                end = ends[field.name][place]
                between = text[end : match.start()]
                if len(between) <= 12 and not re.search(r"[0-9。；;\n]", between) and (best is None or end > best[0]):
                    best = (end, field.kind)
        kind = best[1] if best else ""
        if (
            not kind
            and asking
            and asking.kind in CHECKED
            and asking.kind != "email"
            and len(match.group()) * 2 >= len(text.strip())
        ):
            kind = asking.kind
        if kind and not re.match(r"\s?[元块万年月日号岁]", text[match.end() : match.end() + 2]):
            yield Candidate(kind, *match.span(), digits.upper())


_CITY = re.compile(
    r"(?:(?!住|所|在|是|到|址|写|填|的|了|成|改|换|我|你|搬|来|去|为|于|叫|说|家|省|市|县|区)[\u4e00-\u9fff]){2,4}市(?=[\u4e00-\u9fff]{1,6}?[区县镇乡路街])"
)


def _addresses(text: str) -> list[tuple[int, int]]:
    """The addresses, those in cities that no gazetteer has among them."""
    unknown = [match.span() for match in _CITY.finditer(text) if not Divisions.bundled().named(match.group())]
    masked, end = [], 0
    for start, stop in unknown:
        masked += [text[end:start], " " * (stop - start)]
        end = stop
    ends = {stop: start for start, stop in unknown}
    return [(ends.get(place.start, place.start), place.end) for place in find_addresses("".join([*masked, text[end:]]))]
