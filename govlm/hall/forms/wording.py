"""What a message says in words: one of the values of a choice, yes or no, phrases behind a cue (经营范围是…), names, 没有收入."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterator, Sequence

from govlm.hall.forms.marks import Candidate, Cue
from govlm.hall.forms.mood import Clauses
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.understanding.plain_words import NOTHING
from govlm.hall.understanding.slots import names_alone

__all__ = ["OTHER_PLACE", "PLACE", "choices", "names", "none", "phrases"]

_SINGLE_BEFORE = re.compile(r"(?:^|[^\u4e00-\u9fff]|[是为别性选填写的个])$")
_SINGLE_LISTED = re.compile(r"(?:居民)?身份证|手机|电话|出生|汉族|[0-9]{4}年")  # 张秀兰女身份证…
_PART_OF_WORD = frozenset("子妇男女儿孙少侄甥闺外美才处长次幼")
_SINGLE_AFTER = re.compile(r"$|[^\u4e00-\u9fff]|[的性士生方吧呢啊]")


_WHEN = "前年|去年|今年|上个?月|[一二三四五六七八九十两好几0-9]{1,3}年前|早就?|已经|刚"


def _said(word: str) -> str:
    """A pattern for a wording as it is said: 老伴(前年)走了, 到(了)岁数, 被(公司)裁, 住了五天院."""
    if word.startswith("被"):
        return "被[\u4e00-\u9fff]{0,4}?" + re.escape(word[1:])
    if "几" in word:
        return re.escape(word).replace("几", "(?:好?几|[一二两三四五六七八九十0-9]{1,3})")
    if len(word) >= 4:
        return re.escape(word[:2]) + f"(?:{_WHEN})?" + "了?".join(map(re.escape, word[2:]))
    return "了?".join(map(re.escape, word)) if len(word) == 3 else re.escape(word)


@functools.cache
def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """One group for each word, the longest first."""
    return re.compile("|".join(f"({_said(word)})" for word in words))


def choices(field: FormField, text: str, found_cues: Sequence[Cue], clauses: Clauses) -> Iterator[Candidate]:
    """The values of a choice that are said, and 许可证：有; questions and suppositions say nothing about who utters them."""
    words = {word: value for value in field.enum for word in (value, *dict(field.words).get(value, ())) if word != "其他"}
    if field.kind == "yesno":
        words = {word: value for word, value in words.items() if len(word) > 1}
    listed = tuple(sorted(words, key=len, reverse=True))
    ends = {cue.end for cue in found_cues}
    for match in _pattern(listed).finditer(text) if listed else ():
        start, end = match.span()
        together = _SINGLE_LISTED.match(text, end) and text[start - 1 : start] not in _PART_OF_WORD
        apart = _SINGLE_BEFORE.search(text[max(0, start - 1) : start]) and _SINGLE_AFTER.match(text, end)
        if end - start == 1 and start not in ends and not apart and not together:
            continue
        if clauses.asks(start, end) or clauses.supposes(start, end) or _elsewhere(field, text, clauses, start, end):
            continue
        state = "denied" if clauses.denies(start) else ""
        yield Candidate(field.kind, start, end, words[listed[(match.lastindex or 1) - 1]], state, (field.name,))
    if field.kind == "yesno":
        for cue in found_cues:
            said = _SAID.match(text, cue.end)
            if cue.own and said:
                yield Candidate("yesno", *said.span("word"), "是" if said["yes"] else "否", "", (field.name,))


PLACE = re.compile("在([^，。是否有]{2,8}?[市省区县])")
OTHER_PLACE = re.compile("老家|外地|外省|乡下|农村|不在[^，。]{0,6}(?:市|这|本地)")


def _elsewhere(field: FormField, text: str, clauses: Clauses, start: int, end: int) -> bool:
    """Whether a yes or no that is asked of one place is said of another: 有一套房，在老家."""
    place = PLACE.search(field.label) if field.kind == "yesno" else None
    if not place:
        return False
    first, last = clauses.at(start, end)
    last = clauses.at(last, last)[1] if last < len(text) and text[last - 1] in "，, " else last
    around = text[max(first, start - 20) : min(last, end + 20)]
    return bool(OTHER_PLACE.search(around) or re.search(f"不在(?:{re.escape(place[1])}|本地|这边|这里)", around))


_SAID = re.compile(
    rf"[的呢嘛：:，,\s]{{0,2}}(?P<word>(?P<yes>是的?|有的?|对|要|需要|(?:已经|都|早就?|刚)*(?:拿到|办好|办下来|领到|办|有)了)|(?P<no>(?:还|都)?没(?:有)?(?:办|拿|领|下来|批)(?:到|好|完|下来)?|{NOTHING}|不是|不要|不需要|否|不))(?=$|[^\u4e00-\u9fff]|[的了吧啊呢])"
)


# ------------------------------------------------------------------------------------------------------------------- phrases

_LINK = re.compile(
    r"[的]?(?:名称|名字|全称|姓名|号码?)?(?:就?是|叫做?|为|写的?|填|选|改成|改为|应该是|打算做|准备做|主要是?|[:：])?[\s:：]{0,2}"
)
_PHRASE_END = re.compile(r"[。；;！!？?\n]|[，,](?=.{0,6}(?:是|为|叫|住|电话|手机|身份证|地址|\d))|$")
_COMMA = re.compile("[，,][^，,、]{0,3}$")
_ENDS = frozenset("，,。；;！!？?\n \t")
_CLAUSES = re.compile(r"[^，,。；;、！!？?\s\n]+")
_TRAILING = re.compile(r"[，,、\s]+$|(?:的|吧|啊|呢|哈|哦)$")


def phrases(
    field: FormField, text: str, found_cues: Sequence[Cue], taken: bytearray, clauses: Clauses, heads: Sequence[int]
) -> Iterator[Candidate]:
    """What stands behind a cue of a field that holds words. heads: where other things begin, sorted: a list goes no further."""
    for cue in found_cues:
        link = _LINK.match(text, cue.end)
        start = link.end() if link else cue.end
        linked = start > cue.end or text[cue.end - 1] in "叫是在"
        if clauses.denies(cue.start) or taken[cue.start]:  # 没有单位, 公司 of a name that is found
            continue
        if not linked and field.kind != "text":
            continue
        if field.kind == "text":
            stop = _PHRASE_END.search(text, start, start + field.longest)
            end = stop.start() if stop else start
            for head in heads[bisect.bisect_right(heads, start) :]:
                if head >= end:
                    break
                if comma := _COMMA.search(text[max(start, head - 4) : head]):  # 卖烟酒，投资两万
                    end = max(start, head - 4) + comma.start()
                    break
        else:
            last = clauses.at(start)[1]
            end = last - 1 if start < last and text[last - 1] in _ENDS else last
        end = min(end, start + field.longest)
        while (tail := _TRAILING.search(text[start:end])) and tail.end() > tail.start():
            end = start + tail.start()
        if end - start >= 2 and not any(taken[start:end]) and not _EMPTY.match(text[start:end]):
            yield Candidate(field.kind, start, end, text[start:end], "", (field.name,))


_EMPTY = re.compile("什么|哪|怎么|多少|啥|不知道|没有$|还没|可以|需要|要不要|填什么|不对|错")


def names(form: Form, text: str, found_cues: dict[str, list[Cue]]) -> Iterator[tuple[int, int, bool]]:
    """Names behind a cue of a field for names, and names that are a clause of their own."""
    for field in form.fields.values():
        for cue in found_cues[field.name] if field.kind == "name" else ():
            lead = re.compile(r"(?:的)?(?:姓名|名字)?(?:就?是|叫做?|为|写的?|填|改成|改为|应该是|[:：])?[\s:：]{0,2}").match(
                text, cue.end
            )
            start = lead.end() if lead else cue.end
            end = names_alone(text, start)
            if end:
                yield start, end, True
    for clause in _CLAUSES.finditer(text):
        end = names_alone(text, clause.start())
        if end == clause.end():
            yield clause.start(), end, True


_NONE = re.compile(rf"[的是：:呢，,]{{0,2}}(?:都|也)?(?:{NOTHING}|为?零|0(?![0-9.]))(?=$|[^\u4e00-\u9fff]|[元的了吧啊])")


def none(field: FormField, text: str, found_cues: Sequence[Cue]) -> Iterator[Candidate]:
    """没有收入 = 0."""
    for cue in found_cues:
        before = re.search(r"(?:没有?|无|零)(?:任何|什么|啥|一点)?(?:其他|别的)?$", text[max(0, cue.start - 8) : cue.start])
        after = _NONE.match(text, cue.end)
        if before:
            yield Candidate(field.kind, cue.start - len(before.group()), cue.end, "0", "", (field.name,))
        elif after:
            yield Candidate(field.kind, cue.start, after.end(), "0", "", (field.name,))
