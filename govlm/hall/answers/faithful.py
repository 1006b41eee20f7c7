"""Whether a sentence that a machine wrote says what its sources say: by rules that hold for every sentence, not by a model.

The sources are cut into *units*: a fixed-phrase sentence around a record's fields, or one sentence of a document (a list is one with
the line that opens it). A sentence is faithful when

1. words     it is made of runs of its units, in their order, and of `GLUE`: a closed list of words that say nothing;
2. wholeness of each unit that it uses all is there, but for fixed phrases and a 的 or 和: what stands before in a sentence may be its
             condition. One that uses a single unit may leave out clauses at its end that hold no figure and no mark;
3. marks     it has exactly the negations and the words of condition, permission and limit that its units have, as often as they;
4. figures   each number, date, amount and article stands in its unit, whole, with its unit of measure;
5. names     each title in 《》, each quotation and each name of an office, a place or a paper stands in its unit as it is, and so does
             whatever looks like a number of a person or of a firm.

不收费 never becomes 收费, 30日内 never 30日, 可以 never 应当, and 老年人30元，儿童50元 never the other way round.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import NamedTuple

from govlm.generation.constrained.copying import figures
from govlm.hall import privacy

__all__ = ["GLUE", "Pieces", "Verdict", "denials", "judge", "marks", "named", "sentences"]

Pieces = Sequence[tuple[str, bool]]  # (text, whether it is quoted; else a fixed phrase) of a source
_LONGEST = 300  # characters of a sentence
_PIECES = 40  # of a sentence, between commas
_NARROW = {code + 0xFEE0: code for code in range(0x21, 0x7F) if chr(code) not in ",:;!?()"}
_END = re.compile(r"[。！？!?]+[”’」』）)]*|\n+")
_SIGNS = frozenset("，。、；：！？（）《》〈〉“”‘’「」『』【】〔〕…—～·℃ \n,.;:!?()[]<>\"'%‰/~-+*&@#_=￥$°")
_CUT = re.compile(r"(?:[，、：；;（）()\[\]【】\s]|[,:](?![0-9]))+")  # between the clauses of what was written
_CLAUSE = re.compile(r"[，：；;（）()。！？!?\s]|[,:](?![0-9])")  # of a source: a list with 、 is one
# Words that may stand anywhere: none says how much, whether, when, where, who, or who for whom (由, 向, 给). No mark (`marks`) and no figure is among them.
GLUE = (
    "您好", "您的", "您", "你", "请您看", "请您", "请看", "请", "需要", "需", "要", "的", "地", "了", "着", "在", "到", "和", "与", "跟", "及", "以及",
    "还有", "还", "也", "就", "是", "有", "对于", "关于", "这", "这个", "这项", "这些", "这里", "那么", "其", "如下", "包括", "携带", "带上", "带好", "带",
    "准备好", "准备", "备好", "提供", "提交", "办理", "办", "材料", "电话", "地址", "时间", "地点", "条件", "流程", "步骤", "规定", "首先", "其次", "然后", "接着",
    "最后", "另外", "此外", "简单来说", "简单说", "总的来说", "来", "去", "吧", "呢", "哦", "啊",
)  # fmt: skip
_DROPPED = "的地了着在也就还请您和与及"  # what may be missing
_GLUE = re.compile("|".join(sorted(map(re.escape, GLUE), key=len, reverse=True)))
_NEGATION = r"(?:[不无未没非免禁勿莫否毋拒停除][^，,。；;：:、\s]?)|取消|撤销|终止|中止|例外|驳回"
_CONDITION = (
    r"如果|如(?!下)|若|倘|假如|只要|只有|只|仅|限|凡|以上|以下|以内|以外|之前|之后|之内|前|(?<![然最])后|内|(?<![另此])外|起|止|超过|少于|多于|低于|高于|至少|至多|最[多少高低长短大小迟早]|满|之一|任一|任何"
    r"|全部|所有|均|都|每|各|或者|或|可|能|必须|应当|应|须|务必|一律|得|同时|并且|且|视同|除外|暂|原则上|一般|承诺|法定|投诉|咨询"
)
_MARK = re.compile(f"{_NEGATION}|{_CONDITION}")
_DENIAL = re.compile(_NEGATION)
_ASKS = re.compile(r"需要|需|要")  # 您需要…: only of what somebody must do
_MUST = re.compile(r"必须|应|须|务必|需|要(?!是)|一律")
_BULLET = re.compile(r"^(?:[·•*□# 　-]+|[0-9]{1,2}(?:[.)](?![0-9])|[、）]))+ *")
_NUMBERED = re.compile(
    r"第[〇零一二三四五六七八九十百千0-9]+[条章节款项](?:之[一二三四五六七八九十])?|[一二三四五六七八九十0-9]{1,3}[.．]?"
)  # （一）
_TITLE = re.compile(
    r"《[^》\n]*》?|“[^”\n]*”?|「[^」\n]*」?|〔[^〕\n]*〕?|(?<![A-Za-z0-9._:/@%+-])[A-Za-z0-9._:/@%+-]*[A-Za-z][A-Za-z0-9._:/@%+-]*"
)
_NAMED = re.compile(
    r"[㐀-鿿]{2}(?:委员会|办公室|公安局|管理局|服务大厅|公司|中心|医院|银行|法院|学校|大学|学院|协会|政府|大厅|窗口|街道|社区|证明|证书|申请书|申请表|登记表|合同|条例|办法|规定|细则"
    r"|[局委厅署院所站处科部省市县区镇乡村路号证卡簿书表])"
)


class Verdict(NamedTuple):
    """fault: what is wrong, "" = nothing. used: the sources that the sentence leans on, by their places."""

    fault: str
    used: tuple[int, ...] = ()


def sentences(text: str) -> list[str]:
    """The sentences of a text that was written, without what makes it a list: 1. and - and **."""
    return [found for part in _split(text.replace("**", ""), _END) if (found := _BULLET.sub("", part.strip()))]


def marks(text: str) -> Counter[str]:
    """The negations, each with the character behind it, and the words of condition, permission and limit of a text."""
    return Counter(_MARK.findall(text))


def denials(text: str) -> Counter[str]:
    """The negations among the marks."""
    return Counter(mark for mark in _MARK.findall(text) if _DENIAL.fullmatch(mark))


def named(text: str) -> list[str]:
    """What reads as a name: titles in 《》, quotations, 文号, words in Latin letters, and the ends of names of offices, places and papers."""
    return [*_TITLE.findall(text), *(match.group() for match in _NAMED.finditer(text))]


def judge(text: str, sources: Sequence[Pieces]) -> Verdict:
    """A sentence, given what it may have been made from."""
    text = text.translate(_NARROW).strip()
    if not any(map(_letter, text)):
        return Verdict("says nothing")
    if len(text) > _LONGEST:
        return Verdict(f"is longer than {_LONGEST} characters")
    if strange := next((char for char in text if not _letter(char) and char not in _SIGNS), ""):
        return Verdict(f"holds U+{ord(strange):04X}, which is neither a letter nor a sign of a text")
    of = {unit: number for number, source in enumerate(sources) for unit in _units(source)}
    reason = _fault(text, list(of))
    return Verdict(reason, () if reason else tuple(sorted({number for unit, number in of.items() if unit.taken})))


def _fault(text: str, units: Sequence[_Unit]) -> str:
    whole = {unit: sum(size for _, _, size in _blocks(text, unit, 0)) for unit in units}
    units = sorted(units, key=lambda unit: -whole[unit])  # of equals for a piece, what most of the sentence stands in
    at: _Unit | None = None
    pieces = [piece for piece in _CUT.split(text) if piece]
    if len(pieces) > _PIECES:
        return f"has more than {_PIECES} pieces"
    for piece in pieces:
        at = _nearest(piece, units, at)
        if reason := _piece(piece, at):
            return reason
    used = [unit for unit in units if unit.taken]
    if not used:
        return "leans on no source"
    held = Counter[str]()
    for unit in used:
        held += unit.marks
        if reason := unit.lost(text, len(used) > 1):
            return reason
    if (found := marks(text)) != held:
        wrong = next(iter((found - held) or (held - found)))
        return f"{'has' if found[wrong] > held[wrong] else 'lost'} {wrong!r}, which changes what its source says"
    held_text = "\n".join(unit.text for unit in used)
    if len(_ASKS.findall(text)) > len(_ASKS.findall(held_text)) and not _MUST.search(held_text):
        return "asks for what its source does not ask for"
    for name in named(text):
        if name not in held_text and not _glued(name):
            return f"{name!r} stands in no source"
    for span in privacy.find(text):
        if text[span.start : span.end] not in held_text:
            return f"holds a {span.kind} that stands in no source"
    return ""


@dataclass(eq=False)
class _Unit:
    """text: what it reads. quoted: of each character whether it is copied from a record, not of a fixed phrase. clauses: (start, end)."""

    text: str
    quoted: Sequence[bool]
    clauses: list[tuple[int, int]]
    marks: Counter[str]
    figures: frozenset[str]
    taken: set[int] = field(default_factory=set)  # places of characters that were used
    last: int = 0  # behind the last of them

    def lost(self, text: str, whole: bool) -> str:
        """What is missing up to the last clause that is used; whole: in all of it."""
        said = set(figures(text))
        end_of_used = len(self.text) if whole else self.last
        if self.text[end_of_used - 1] == "的" and any(map(_letter, self.text[end_of_used:])):
            return "names a condition and not what follows from it"
        if missing := figures(self.text[end_of_used:]):
            return f"leaves out {missing[0]!r}"
        for start, end in self.clauses:
            clause = self.text[start:end].strip(" ，：；,:;()（）\n")
            if start >= end_of_used or _NUMBERED.fullmatch(clause):
                continue
            places = (place for place in range(start, end) if self.quoted[place] and _letter(self.text[place]))
            wanted = {place for place in places if self.text[place] not in _DROPPED}
            if wanted - self.taken:
                return f"leaves out some of {clause[:30]!r}, which stands in the same sentence of the source"
            for figure in figures(clause) if wanted else ():
                if figure not in said:
                    return f"leaves out {figure!r}"
        return ""


def _units(source: Pieces) -> Iterator[_Unit]:
    """Of one source. Only quoted text is cut into sentences: a fixed-phrase sentence around the fields of a record is one."""
    text = "".join(piece for piece, _ in source).translate(_NARROW)
    quoted = [is_quoted for piece, is_quoted in source for _ in piece]
    start = 0
    borders = [match.end() for match in _END.finditer(text) if quoted[match.start()] and not _opens(text, match.start())]
    for end in [*borders, len(text)]:
        if any(map(_letter, text[start:end])):
            yield _unit(text[start:end], quoted[start:end])
        start = end


def _opens(text: str, at: int) -> bool:
    """Whether a line that ends there goes on: it opens a list, or is an item of one with more to come."""
    return text[at] == "\n" and text[:at].rstrip().endswith(("：", ":", "；", ";", "，", ",", "、"))


def _unit(text: str, quoted: Sequence[bool]) -> _Unit:
    clauses: list[tuple[int, int]] = []
    start = 0
    for end in [*(match.start() for match in _CLAUSE.finditer(text)), len(text)]:
        if any(map(_letter, text[start:end])):
            clauses.append((start, end))
        start = end
    return _Unit(text, quoted, clauses, marks(text), frozenset(figures(text)))


def _letter(char: str) -> bool:
    return char.isalnum()


def _covered_by_glue(text: str) -> list[bool]:
    covered = [False] * len(text)
    for match in _GLUE.finditer(text):
        covered[match.start() : match.end()] = [True] * (match.end() - match.start())
    return covered


def _glued(text: str) -> bool:
    return all(covered or not _letter(char) for covered, char in zip(_covered_by_glue(text), text, strict=True))


def _blocks(piece: str, unit: _Unit, start: int) -> list[tuple[int, int, int]]:
    """(place in the piece, place in the unit, length) of the runs of two and more that both have, in one order, behind `start`."""
    matcher = SequenceMatcher(None, piece, unit.text[start:], autojunk=False)
    found = [(a, start + b, size) for a, b, size in matcher.get_matching_blocks()]
    return [entry for entry in found if entry[2] >= 2 or (entry[2] and entry[2] == len(piece))]


def _nearest(piece: str, units: Sequence[_Unit], before: _Unit | None) -> _Unit | None:
    """The unit that most of a piece stands in; of equals the one that was used before, then the first. None: it is glue."""
    if _glued(piece) and not figures(piece) and not marks(piece):
        exact = [unit for unit in units if piece in unit.text[unit.last :]]
        return before if before in exact else None
    best, most = before, 0
    for unit in units:
        size = sum(length for _, _, length in _blocks(piece, unit, unit.last))
        if size > most or (size == most and size and unit is before):
            best, most = unit, size
    return best


def _piece(piece: str, unit: _Unit | None) -> str:
    """What is wrong with a part of a sentence that stands between two commas; marks what it uses of its unit."""
    covered = _covered_by_glue(piece)
    if unit is not None:
        for a, b, size in _blocks(piece, unit, unit.last):
            if all(covered[a : a + size]) and size < len(piece):
                continue  # its own words, not the unit's
            covered[a : a + size] = [True] * size
            unit.taken.update(range(b, b + size))
            unit.last = b + size
    for i, char in enumerate(piece):
        if _letter(char) and not covered[i]:
            return f"{piece[i : i + 8]!r} stands in no source there"
    for figure in figures(piece):
        if unit is None or figure not in unit.figures:
            return f"{figure!r} stands in no source there"
    return ""


def _split(text: str, at: re.Pattern[str]) -> Iterator[str]:
    start = 0
    for match in at.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    yield text[start:]
