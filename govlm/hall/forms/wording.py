"""What a message says in words: one of the values of a choice, yes or no, phrases behind a cue (经营范围是…), names, 没有收入."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from govlm.hall.forms.marks import Candidate, Cue
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.understanding.slots import names_alone

__all__ = ["choices", "names", "none", "phrases"]

_NOT = re.compile(r"(?:不是|并非|没有|没|非|不算|不属于|未|不)$")
_CLAUSE_BEFORE = re.compile("[^，,。；;！!？?\n]*$")
_ASKED = re.compile("^[^，,。；;！!\n]*(?:你们|您们|[吗?？]|几点|怎么|什么|哪[里儿个些]|多少|能不能|可不可以|是不是|为啥|咋)")
_SINGLE_BEFORE = re.compile(r"(?:^|[^\u4e00-\u9fff]|[是为别性选填写的个])$")
_SINGLE_LISTED = re.compile(r"(?:居民)?身份证|手机|电话|出生|汉族|[0-9]{4}年")  # 张秀兰女身份证…
_PART_OF_WORD = frozenset("子妇男女儿孙少侄甥闺外美才处长次幼")
_SINGLE_AFTER = re.compile(r"$|[^\u4e00-\u9fff]|[的性士生方吧呢啊]")


def choices(field: FormField, text: str, found_cues: Sequence[Cue]) -> Iterator[Candidate]:
    words = {word: value for value in field.enum for word in (value, *dict(field.words).get(value, ()))}
    if field.kind == "yesno":
        words = {word: value for word, value in words.items() if word not in ("是", "否")}
        words = {word: value for word, value in words.items() if len(word) > 1}
    if not words:
        return
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))
    ends = {cue.end for cue in found_cues}
    for match in pattern.finditer(text):
        start, end = match.span()
        listed = _SINGLE_LISTED.match(text, end) and text[start - 1 : start] not in _PART_OF_WORD
        apart = _SINGLE_BEFORE.search(text[max(0, start - 1) : start]) and _SINGLE_AFTER.match(text, end)
        if len(match.group()) == 1 and start not in ends and not apart and not listed:
            continue
        clause = _CLAUSE_BEFORE.search(text[max(0, start - 30) : start])
        if _ASKED.search((clause.group() if clause else "") + text[end : end + 30].split("，")[0]):
            continue  # a question says nothing about who asks it
        state = "denied" if _NOT.search(text[max(0, start - 3) : start]) else ""
        yield Candidate(field.kind, start, end, words[match.group()], state, (field.name,))
    if field.kind == "yesno":
        for cue in found_cues:
            said = _SAID.match(text, cue.end)
            if cue.own and said:
                yield Candidate("yesno", *said.span("word"), "是" if said["yes"] else "否", "", (field.name,))


_SAID = re.compile(
    r"[的呢嘛：:，,\s]{0,2}(?P<word>(?P<yes>是的?|有的?|对|要|需要)|(?P<no>不是|没有|没|无|不要|不需要|否|不))(?=$|[^\u4e00-\u9fff]|[的了吧啊呢])"
)


# ------------------------------------------------------------------------------------------------------------------- phrases

_LINK = re.compile(
    r"[的]?(?:名称|名字|全称|姓名|号码?)?(?:就?是|叫做?|为|写的?|填|选|改成|改为|应该是|打算做|准备做|主要是?|[:：])?[\s:：]{0,2}"
)
_PHRASE_END = re.compile(r"[。；;！!？?\n]|[，,](?=.{0,6}(?:是|为|叫|住|电话|手机|身份证|地址|\d))|$")
_CLAUSES = re.compile(r"[^，,。；;、！!？?\s\n]+")
_TRAILING = re.compile(r"[，,、\s]+$|(?:的|吧|啊|呢|哈|哦)$")


def phrases(field: FormField, text: str, found_cues: Sequence[Cue], taken: bytearray) -> Iterator[Candidate]:
    """What stands behind a cue of a field that holds words."""
    for cue in found_cues:
        link = _LINK.match(text, cue.end)
        start = link.end() if link else cue.end
        linked = start > cue.end or text[cue.end - 1] in "叫是在"
        if field.kind == "name":
            continue
        if not linked and field.kind != "text":
            continue
        stop = (
            _PHRASE_END.search(text, start) if field.kind == "text" else re.compile(r"[，,。；;！!？?\n]|$").search(text, start)
        )
        end = min(stop.start() if stop else len(text), start + field.longest)
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


_NONE = re.compile(r"[的是：:呢，,]{0,2}(?:都|也)?(?:没有|没|无|为?零|0(?![0-9.]))(?=$|[^\u4e00-\u9fff]|[元的了吧啊])")


def none(field: FormField, text: str, found_cues: Sequence[Cue]) -> Iterator[Candidate]:
    """没有收入 = 0."""
    for cue in found_cues:
        before = re.search(r"(?:没有?|无|零)(?:任何|什么|啥|一点)?(?:其他|别的)?$", text[max(0, cue.start - 8) : cue.start])
        after = _NONE.match(text, cue.end)
        if before:
            yield Candidate(field.kind, cue.start - len(before.group()), cue.end, "0", "", (field.name,))
        elif after:
            yield Candidate(field.kind, cue.start, after.end(), "0", "", (field.name,))
