"""What a policy text means for a citizen (解读): who, how, by when, how much. Nothing is put in other words: each point is a span of
the text, verbatim and cited; what the text does not say is said to be missing.

A sentence belongs to a question by its wording (`_ASKS`), and the best few by that and by their salience are shown, in the text's
order. A sentence that opens a list (符合下列条件：) is shown with its items.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from govlm.hall.answers.citations import Citation, Part, check, cite_span, version
from govlm.hall.answers.citations import Sentence as Cited
from govlm.hall.answers.words import TITLES
from govlm.hall.catalogue.records import Document
from govlm.hall.policy import summary
from govlm.hall.policy.glossary import Explained, Glossary
from govlm.hall.policy.salience import features
from govlm.hall.policy.source import OneDocument, Sentence, clause_prefix, list_from, opens_list, sentences, source

if TYPE_CHECKING:
    from govlm.hall.generator.phrasing import Phraser

__all__ = ["MISSING", "QUESTIONS", "Interpretation", "Point", "interpret"]

MISSING = "原文未提及"
QUESTIONS = {"who": "谁能享受", "what": "怎么办", "when": "什么时候办、多久", "amounts": "多少钱", "effect": "从什么时候起施行"}
_TERMS = "词语解释"
_POINTS = 3  # of a question
_LIST = 400  # characters of a sentence with the items of its list

_EFFECT = r"自.{2,30}起(?:施行|实施|执行|生效)|有效期(?:至|为|[0-9一二三四五六七八九十]+年)|同时废止|(?:施行|实施)之日起"
# of each question: (what a sentence must hold, what speaks for it: pattern and weight)
_ASKS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "who": (
        r"对象|人员|申请人|居民|户籍|家庭|老年人|残疾人|职工|毕业生|儿童|学生|企业|个人|周岁|条件|适用|单位|用户|市民|公民|群众|[者人户]",
        (
            (r"适用于|适用(?:对象|范围|人群)|(?:保障|补贴|发放|享受|服务|申领|申请|招生|参保|救助|扶持)(?:对象|条件|人群|范围)", 1.0),
            (r"(?:符合|具备|满足|具有)(?:下列|以下|上述|本|规定|[^，。；]{0,12}(?:条件|情形|户籍))|下列(?:条件|人员|情形|对象)|条件的", 0.9),
            (r"(?:可以?|均可|有权|能够?)(?:按[^，。]{0,10})?(?:[^，。；]{0,6})(?:申请|享受|申领|领取|参加|办理|报名|获得)", 0.6),
            (r"年满|周岁|以上的|户籍的|未就业|失业|低保|困难", 0.3), (r"是指", 0.5), (r"不符合|不予|取消|不得|除外", -0.5),
        ),
    ),
    "what": (
        r"申请|提交|提供|登录|登陆|办理|申领|领取|填写|携带|报名|预约|备案|缴费|材料|窗口|网上|小程序|微信|APP|拨打|前往|流程",
        (
            (r"(?:向|到|在|前往|通过|登[录陆]|进入|关注|拨打)[^，。；]{2,40}(?:申请|提交|办理|申领|报名|预约|备案|填写|查询|领取|提出|缴费|缴纳)", 1.0),
            (r"(?:提交|提供|携带|准备|上传|出示)[^，。；]{0,20}(?:材料|证明|证件|身份证|户口|资料|申请表|原件|复印件)", 0.9),
            (r"(?:申请人|申请家庭|本人|家长|参保人|用人单位|职工|您)[^，。；]{0,15}(?:应当?|可以?|需|须|凭|持)", 0.5),
            (r"(?:办理|申请|申领|报名|操作)(?:流程|程序|方式|途径|渠道|步骤|材料|地点)|下列(?:材料|程序|方式)|以下(?:材料|程序|方式|途径)", 0.8),
        ),
    ),
    "when": (
        r"[0-9０-９〇一二三四五六七八九十]\s{0,4}(?:个?工作日|日|天|个?月|年)|当[日月天年]|次[日月年]|每[月年]|截止|截至|期限|逾期|长期有效",
        (
            (r"截止|截至|逾期|[日月年底](?:之?前|以前)|前(?:提出|提交|办理|完成|申请|缴)", 1.0), (r"至\s{0,4}(?:[0-9]{4}\s{0,4}年)?\s{0,4}[0-9]{1,2}\s{0,4}月|(?:时间|期限|期间)(?:为|是|：|:|从|自)", 0.9),
            (r"(?:工作日|日|月|年|天)(?:之?内|以内|内)", 0.9), (r"之日起|次月起|当月起", 0.5), (r"期限|有效期|最长|不超过[^，。]{0,6}[日月年]", 0.4),
            (r"申请|办理|报名|提出|审核|发放|缴费|申领|公示|领取|支付", 0.4),
        ),
    ),
    "amounts": (
        r"[0-9０-９.,万亿一二三四五六七八九十百千]\s{0,4}(?:元|块钱)|(?:费|补贴|补助|报销|支付|税|利率|工资|租金|待遇|津贴|贷款)[^。；]{0,40}(?:[0-9.]\s{0,4}[%％‰]|百分之|分之[一二三四五六七八九十]|全额)|免费|不收费|免收|不收取",
        (
            (r"(?:标准|额度|金额|限额|比例|补贴|补助|津贴|奖励|待遇|收费|租金)(?:为|是|：|:|按|不|最|调整|提高|每|由)", 0.9), (r"每人|每月|每户|每年|每平方米|/月|/年|一次性", 0.7),
            (r"元|免费|不收费|免收|不收取", 0.5), (r"[%％]|百分之|免费|不收费|免收|不收取", 0.4), (r"最高|最低|不超过|上限|不低于", 0.3), (r"补贴|补助|津贴|资助|奖励|救助|报销|支付|缴费|缴纳|发放|贷款", 0.4),
        ),
    ),
    "effect": (_EFFECT, ((r"本(?:办法|规定|细则|通知|条例|意见|方案|实施|法|公告)", 1.0), (r"有效期", 0.5))),
}  # fmt: skip
_COMPILED = {
    name: (re.compile(must), tuple((re.compile(pattern), weight) for pattern, weight in cues))
    for name, (must, cues) in _ASKS.items()
}
_OFFICIAL = re.compile(
    r"负责|牵头|各区人民政府|各级人民政府|部门(?:应|要|负责|会同)|直属机构|贯彻|统筹(?:协调|推进|规划|安排)|追究|违反|处分|处罚|罚款|骗取|制定本|印发|应当建立|监督"
)
_AUTHORITY = re.compile(  # who acts is an office: that is its own affair
    r"^(?:第[^条]{1,6}条\s*)?[^，,。；]{0,24}(?:政府|办事处|部门|机构|[局委厅]|中心|医院|学校|幼儿园|银行|系统)[）)]?[^，,。；]{0,10}(?:应当?|要|可以?|负责|需|每年|认定|在|于|会同)"
)
_COUNTED = re.compile(r"截至[^，。]{2,20}，?[^。]{0,80}(?:累计|共有|享受|发放)|累计(?:发放|支出)")  # a report of what was done
_NOISE = re.compile(r"字体|打印|来源：|浏览次数|责任编辑|扫一扫|分享到|附件\s*[0-9：:]|http")
_IS_EFFECT = re.compile(_EFFECT)
_ENOUGH = {"who": 0.6, "what": 0.6, "when": 0.8, "amounts": 0.7, "effect": 0.0}  # of the cues together

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """source[start:end], verbatim. citation: where it stands in a Document with passages; None for a bare text.
    whole: False when a long list or sentence was cut between clauses."""

    text: str
    start: int
    end: int
    passage: str = ""
    whole: bool = True
    citation: Citation | None = None


@dataclass(frozen=True)
class Interpretation:
    """The points of each question, in the text's order, () = the text does not say; the terms of the text that the glossary has. plain:
    by question, its points in a generator's words, checked, where there is one; a question whose points it put right nowhere is not in it."""

    title: str
    who: tuple[Point, ...] = ()
    what: tuple[Point, ...] = ()
    when: tuple[Point, ...] = ()
    amounts: tuple[Point, ...] = ()
    effect: tuple[Point, ...] = ()
    terms: tuple[Explained, ...] = ()
    plain: Mapping[str, tuple[Cited, ...]] = field(default_factory=dict)

    def points(self, question: str) -> tuple[Point, ...]:
        """Those of a key of `QUESTIONS`. KeyError for another."""
        return {"who": self.who, "what": self.what, "when": self.when, "amounts": self.amounts, "effect": self.effect}[question]

    @property
    def citations(self) -> tuple[Citation, ...]:
        return tuple(point.citation for name in QUESTIONS for point in self.points(name) if point.citation is not None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: each question with its label and points, and the terms."""
        return {
            **{
                name: {
                    "label": label,
                    "points": [asdict(point) for point in self.points(name)],
                    "missing": not self.points(name),
                    "plain": [sentence.text for sentence in self.plain.get(name, ())],
                }
                for name, label in QUESTIONS.items()
            },
            "terms": [asdict(term) for term in self.terms],
        }

    @property
    def text(self) -> str:
        """For citizens: each question with its points, 原文未提及 where there are none; then the terms."""
        lines = []
        for name, label in QUESTIONS.items():
            found = self.points(name)
            lines += [f"{label}：" + ("" if found else MISSING), *(f"· {point.text}" for point in found)]
        if self.terms:
            lines.append(f"{_TERMS}：")
            lines += [f"· {term.text}：{term.entry.explanation}（{term.entry.source}）" for term in self.terms]
        return "\n".join(lines)


def interpret(document: Document | str, glossary: Glossary | None = None, phraser: Phraser | None = None) -> Interpretation:
    """glossary: None = the bundled one. phraser: puts the points into plain words, too, where the document has passages. TypeError for
    what is neither a text nor a Document.

    Every point of a Document with passages is checked against it before it is given (CitationError: a fault of this module).
    """
    of = source(document)
    units = sentences(of)
    found: dict[str, tuple[Point, ...]] = {}
    if units:
        rows, _ = features(units, of.title, len(of.text))
        salience = summary.load().scores(rows.astype(np.float32)).astype(np.float64)
        salience = (salience - salience.mean()) / (salience.std() + 1e-6)
        now = version(of) if of.passages else ""
        for name in QUESTIONS:
            found[name] = tuple(_cited(of, point, now) for point in _points(name, of.text, units, salience))
        _check(of, found)
    terms = tuple((glossary or Glossary.bundled()).find(of.text))
    plain: Mapping[str, tuple[Cited, ...]] = {}
    if phraser is not None and of.passages:
        cited = {name: [Cited((p.citation,)) for p in points if p.citation is not None] for name, points in found.items()}
        plain = phraser.plains(cited, OneDocument(of))
    return Interpretation(of.title, **found, terms=terms, plain=plain)


def _points(name: str, text: str, units: Sequence[Sentence], salience: F64) -> list[Point]:
    scored: list[tuple[float, int]] = []
    must, cues = _COMPILED[name]
    for i, unit in enumerate(units):
        if not must.search(unit.text) or _NOISE.search(unit.text) or (unit.text[-1] in "？?" and name != "effect"):
            continue
        if name == "when" and _IS_EFFECT.search(unit.text):
            continue
        speaks = sum(weight for pattern, weight in cues if pattern.search(unit.text))
        if name != "effect" and _OFFICIAL.search(unit.text):
            speaks -= 0.6
        if _AUTHORITY.search(unit.text):
            speaks -= {"who": 0.8, "what": 0.8, "when": 0.3}.get(name, 0.0)
        if _COUNTED.search(unit.text):
            speaks -= 0.9
        if speaks >= _ENOUGH[name]:
            scored.append((speaks + 0.3 * float(salience[i]), i))
    scored.sort(key=lambda entry: (-entry[0], entry[1]))
    chosen: list[Point] = []
    for _, i in scored:
        point = _with_items(text, units, i)
        if point is not None and all(point.end <= other.start or other.end <= point.start for other in chosen):
            chosen.append(point)
        if len(chosen) == _POINTS:
            break
    return sorted(chosen, key=lambda point: point.start)


def _with_items(text: str, units: Sequence[Sentence], at: int) -> Point | None:
    """The sentence; one that opens a list goes on over the items that follow in its passage, as far as `_LIST` allows."""
    unit = units[at]
    if len(unit.text) > _LIST:
        cut = clause_prefix(unit, _LIST)
        return None if cut is None else Point(cut.text, cut.start, cut.end, cut.passage, False)
    end, whole = unit.end, True
    if opens_list(unit):
        for following in units[at + 1 : list_from(text, units, at)]:
            whole = following.end - unit.start <= _LIST
            if not whole:
                break
            end = following.end
        if end == unit.end:
            return None  # what it opens is not here
    return Point(text[unit.start : end], unit.start, end, unit.passage, whole)


def _cited(of: Document, point: Point, now: str) -> Point:
    return replace(point, citation=cite_span(of, point.passage, point.start, point.end, now)) if of.passages else point


def _check(of: Document, found: dict[str, tuple[Point, ...]]) -> None:
    cited = [Cited((point.citation,)) for points in found.values() for point in points if point.citation is not None]
    check([Part("policy", TITLES["policy"], tuple(cited))], OneDocument(of))
