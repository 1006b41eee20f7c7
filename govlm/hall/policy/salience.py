"""What tells that a sentence of a policy text matters to a citizen: one row of features a sentence.

Sentences are compared by the pairs of characters that they share, weighted by how rare a pair is among the sentences of the text
(TF-IDF). TextRank (Mihalcea and Tarau 2004) runs on that similarity without ever writing the matrix down: time and memory grow with
the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from govlm.hall.policy.source import Sentence

__all__ = ["CUES", "FEATURE_NAMES", "Vectors", "features", "text_rank", "vectors"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CUES: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "who": r"适用(?:于|对象|范围)|对象|申请人|户籍|常住|居住|居民|家庭|老年人|残疾人|职工|毕业生|儿童|学生|人员|个人|个体工商户|企业|单位",
        "condition": r"符合|条件|具备|具有|满足|应当同时|之一的|的，(?:可|应|不|给|按)|年满|周岁|不低于|不超过|低于|以上|以下",
        "benefit": r"补贴|补助|津贴|待遇|资助|奖励|减免|优惠|免费|救助|报销|保障金|标准|租金|贷款|额度|比例",
        "how": r"申请|提交|登录|办理|受理|审核|公示|填写|携带|提供|材料|网上|窗口|报名|预约|备案|领取|签订",
        "when": r"期限|日内|工作日|之日起|截止|截至|期间|每月|每年|年度|时间|届满|有效期|以内|月底|前[，。]",
        "effect": r"自.{2,20}(?:起)?(?:施行|实施|执行)|有效期",
        "definition": r"是指|所称",
        "duty": r"负责|各区|各镇|各级|部门应|牵头|协同|监督|统筹|经费|财政|落实|加强|考核|职责|领导",
        "basis": r"根据|为了|为进一步|制定本|结合.{0,8}实际|精神",
        "notice": r"印发|现将|现印发|遵照|贯彻执行|抄送|各有关|直属机构|反映|特此",
        "penalty": r"追究|违反|处分|罚款|责任|骗取|失信|虚假",
        "contact": r"电话|网址|链接|扫码|公众号|二维码|地址|来源|字体|打印|附件|浏览|责任编辑|http",
        "refers": r"^(?:其中|该|上述|前款|此外|另外|同时|但|对此|如果|以上)",
    }.items()
}
_DIGITS = re.compile(r"[0-9０-９]")
_SUM = re.compile(r"[0-9０-９.,万亿]\s{0,4}元|[0-9.]\s{0,4}[%％]|百分之")
_DAY = re.compile(r"[0-9]{4}年|[0-9]{1,2}月[0-9]{1,2}日|[0-9一二三四五六七八九十]个?(?:工作日|自然日|日内|个月|年内)")
_ITEM = re.compile(r"^(?:[（(][一二三四五六七八九十0-9]{1,3}[）)]|[0-9]{1,2}[.、．]|[①-⑳])")
_ARTICLE = re.compile(r"^第[一二三四五六七八九十百]+条")
_ASIDE = re.compile(r"[^一-鿿]")

FEATURE_NAMES = (
    "constant", "log_length", "short", "long", "first", "place", "place_squared", "early",
    *CUES, *(f"heading_{name}" for name in ("who", "condition", "benefit", "how", "when")),
    "digits", "sum", "day", "item", "article", "colon", "no_stop", "question", "foreign",
    "centrality", "rank", "title",
)  # fmt: skip


@dataclass(frozen=True)
class Vectors:
    """Unit TF-IDF vectors of sentences, sparse: entry i says that sentence rows[i] has pair columns[i] with weight values[i]."""

    rows: I64
    columns: I64
    values: F64
    count: int
    width: int

    def similarity(self, of: int) -> F64:
        """[count] cosine of each sentence with one of them."""
        dense = np.zeros(self.width)
        mine = self.rows == of
        dense[self.columns[mine]] = self.values[mine]
        return self.times(dense)

    def times(self, dense: F64) -> F64:
        found: F64 = np.bincount(self.rows, self.values * dense[self.columns], self.count).astype(np.float64)
        return found

    def transposed_times(self, dense: F64) -> F64:
        found: F64 = np.bincount(self.columns, self.values * dense[self.rows], self.width).astype(np.float64)
        return found


def vectors(texts: Sequence[str]) -> Vectors:
    rows: list[I64] = []
    codes: list[I64] = []
    for i, text in enumerate(texts):
        points = np.array([ord(char) for char in text if char.isalnum()], np.int64)
        codes.append(points[:-1] << 21 | points[1:])
        rows.append(np.full(len(codes[-1]), i, np.int64))
    if not sum(map(len, codes)):
        empty = np.zeros(0, np.int64)
        return Vectors(empty, empty, np.zeros(0), len(texts), 0)
    pairs, columns = np.unique(np.concatenate(codes), return_inverse=True)
    both, counts = np.unique(np.concatenate(rows) * len(pairs) + columns, return_counts=True)
    row, column = both // len(pairs), both % len(pairs)
    held = np.bincount(column, minlength=len(pairs))
    values = (1 + np.log(counts)) * np.log((1 + len(texts)) / held[column])
    size = np.sqrt(np.bincount(row, values**2, len(texts)))
    return Vectors(row, column, values / np.maximum(size, 1e-12)[row], len(texts), len(pairs))


def text_rank(of: Vectors, damping: float = 0.85, passes: int = 30) -> F64:
    """[count] the stationary distribution of a walk between similar sentences."""
    if not of.count:
        return np.zeros(0)
    own = np.bincount(of.rows, of.values**2, of.count)
    degree = of.times(of.transposed_times(np.ones(of.count))) - own
    inverse = np.where(degree > 1e-9, 1 / np.maximum(degree, 1e-9), 0.0)
    rank = np.full(of.count, 1 / of.count)
    for _ in range(passes):
        flow = rank * inverse
        rank = (1 - damping) / of.count + damping * (of.times(of.transposed_times(flow)) - own * flow)
    return rank


def features(units: Sequence[Sentence], title: str, size: int) -> tuple[F64, Vectors]:
    """([sentences, features] of a text of `size` characters, the vectors of its sentences)."""
    of = vectors([unit.text for unit in units])
    rank = text_rank(of)
    centre = of.times(of.transposed_times(np.full(of.count, 1 / max(of.count, 1))))
    wanted = {title[i : i + 2] for i in range(len(title) - 1)}
    rows = np.zeros((len(units), len(FEATURE_NAMES)))
    for i, unit in enumerate(units):
        text, place = unit.text, unit.start / max(size, 1)
        pairs = {text[j : j + 2] for j in range(len(text) - 1)}
        rows[i] = [
            1, math.log(len(text)) / 4, len(text) < 12, len(text) > 150, i == 0, place, place * place, math.exp(-i / 5),
            *(pattern.search(text) is not None for pattern in CUES.values()),
            *(CUES[name].search(unit.heading) is not None for name in ("who", "condition", "benefit", "how", "when")),
            min(len(_DIGITS.findall(text)), 8) / 8, _SUM.search(text) is not None, _DAY.search(text) is not None,
            _ITEM.search(text) is not None, _ARTICLE.search(text) is not None, text.endswith(("：", ":")),
            text[-1] not in "。！；;”）", text[-1] in "？?", len(_ASIDE.findall(text)) / len(text),
            centre[i] * 5, min(rank[i] * len(units), 4) / 2, len(pairs & wanted) / max(len(wanted), 1),
        ]  # fmt: skip
    return rows, of
