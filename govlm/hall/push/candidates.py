"""What can be recommended, and how well each item or document fits a fact of a profile.

A fact is known by words (生育: 生育, 新生儿, 产假, …); an item fits as well as the best of them stands in it: in its name or an alias more
than in its business type or a theme, there more than in its conditions. So it works for any catalogue, and every fit can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date

from govlm.hall.answers.precedence import applies, in_force
from govlm.hall.catalogue.records import Document, Item
from govlm.hall.push.profile import AGES

__all__ = ["Candidates"]

# How much a word tells of the fact, 0 to 1.
_WORDS: dict[str, dict[str, float]] = {
    "event.生育": {"生育": 1, "新生儿": 1, "出生": 0.9, "婴儿": 0.8, "产假": 0.9, "育儿": 1, "儿童": 0.4, "托育": 1},
    "event.结婚": {"结婚": 1, "婚姻": 0.6, "婚前": 1},
    "event.离婚": {"离婚": 1, "婚姻": 0.5, "单亲": 0.8},
    "event.丧亲": {"死亡": 1, "丧葬": 1, "殡葬": 1, "抚恤": 1, "遗属": 1, "继承": 0.9, "户口注销": 1, "遗产": 0.9},
    "event.入学": {"入学": 1, "教育": 0.6, "学籍": 0.9, "学生": 0.5},
    "event.毕业": {"毕业": 1, "就业": 0.6, "人才": 0.7, "档案": 0.6, "见习": 0.9},
    "event.就业": {"就业": 0.7, "社会保障卡": 0.7, "参保": 0.6, "公积金": 0.5, "居住证": 0.4},
    "event.失业": {"失业": 1, "就业困难": 0.8, "就业": 0.6, "再就业": 1, "职业培训": 0.8},
    "event.创业": {"创业": 1, "设立登记": 0.9, "个体工商户设立": 1, "营业执照": 0.7, "开办": 0.9, "经营许可": 0.7},
    "event.停业": {"注销登记": 1, "注销": 0.8, "停业": 1, "歇业": 1},
    "event.退休": {"退休": 1, "养老保险": 0.7, "养老": 0.6, "老年": 0.5},
    "event.残疾": {"残疾": 1, "辅助器具": 1, "康复": 0.8, "护理": 0.5},
    "event.患病": {"医疗费用": 0.9, "异地就医": 0.8, "大病": 1, "门诊": 0.8, "医疗救助": 1, "医疗保险": 0.5, "临时救助": 0.5},
    "event.困难": {
        "社会救助": 0.9,
        "低保": 0.9,
        "最低生活保障": 1,
        "临时救助": 0.9,
        "特困": 0.8,
        "困难群体": 0.6,
        "公共租赁": 0.6,
    },
    "event.购房": {"购房": 1, "不动产": 0.8, "房屋": 0.5, "住房公积金": 0.6, "转移登记": 0.4, "契税": 0.9},
    "event.租房": {"租房": 1, "租赁": 0.8, "居住证": 0.4},
    "event.迁居": {"户口迁移": 1, "居住证": 0.9, "迁移": 0.8, "落户": 0.9, "异地": 0.5},
    "event.购车": {"机动车": 0.9, "车辆": 0.8, "驾驶证": 0.6},
    "event.出国": {"护照": 1, "出入境": 0.9, "通行证": 0.7, "签注": 0.5},
    "event.证件丢失": {"补领": 1, "挂失": 1, "遗失": 0.9, "丢失": 0.8},
    "employment.在职": {"职工": 0.6, "公积金": 0.6},
    "employment.灵活就业": {"灵活就业": 1, "社会保险补贴": 0.7, "参保登记": 0.5},
    "employment.个体经营": {"个体工商户": 1, "经营许可": 0.7, "创业": 0.4},
    "employment.企业主": {"公司": 0.9, "企业": 0.6, "经营许可": 0.6},
    "employment.失业": {"失业": 1, "就业困难": 0.8, "就业": 0.5},
    "employment.无业": {"就业": 0.6, "社会救助": 0.6, "居民基本": 0.5},
    "employment.学生": {"学生": 0.9, "教育": 0.6, "毕业": 0.6},
    "employment.退休": {"退休": 0.9, "养老保险待遇": 0.9, "养老": 0.5},
    "employment.务农": {"农村": 0.7, "农业": 0.8, "居民基本": 0.7},
    "age.0-5": {"新生儿": 0.8, "出生": 0.6, "儿童": 0.7},
    "age.6-17": {"入学": 0.9, "教育": 0.7, "未成年": 0.7},
    "age.18-34": {"结婚": 0.5, "居住证": 0.5, "租房": 0.5, "就业": 0.4},
    "age.35-59": {"公积金": 0.4, "不动产": 0.4, "换领": 0.3, "换证": 0.3},
    "age.60-79": {"养老保险待遇": 0.9, "退休": 0.7, "养老": 0.7, "老年": 0.7},
    "age.80+": {"高龄": 1, "养老": 0.7, "老年": 0.7, "养老保险待遇": 0.8},
}
_NAME, _GROUP, _CONDITION, _DOCUMENT = 1.0, 0.7, 0.35, 0.5
_OLD = re.compile(r"年?满([5-9][0-9]|100)周?岁")
_WHO = {"个体经营": "个体工商户", "企业主": "企业法人"}


class Candidates:
    """The items and documents of a catalogue; thread-safe, since what is kept is only ever added to."""

    def __init__(self, items: Iterable[Item], documents: Iterable[Document]) -> None:
        records: list[Item | Document] = [*items, *documents]
        self.records = {record.code: record for record in records}
        self._fits: dict[str, dict[str, float]] = {}
        self._oldest = {code: _from_age(record) for code, record in self.records.items()}
        self.region = _shared([record.region for record in records if record.region])

    def name(self, code: str) -> str:
        record = self.records[code]
        return record.title if isinstance(record, Document) else record.name

    def group(self, code: str) -> str:
        """The item's business type; "" for a document."""
        record = self.records.get(code)
        return record.business if isinstance(record, Item) else ""

    def allowed(self, today: date, region: str = "") -> list[str]:
        """The codes in force, and of the region ("" = what holds in all that the catalogue is about)."""
        where = region or self.region
        return [code for code, record in self.records.items() if in_force(record, today) and applies(record, where)]

    def suits(self, code: str, age: str, employment: str) -> bool:
        """Whether a person may be meant at all: by audience, and by an age that the conditions ask for. Unknown: yes."""
        record = self.records[code]
        if age and self._oldest[code] > AGES[age]:
            return False
        if isinstance(record, Document) or not record.audiences or "自然人" in record.audiences:
            return True
        return _WHO.get(employment, "") in record.audiences

    def fits(self, fact: str) -> Mapping[str, float]:
        """code -> 0 to 1, for a fact like "event.生育", "employment.失业", "age.80+"; codes that do not fit are not there."""
        found = self._fits.get(fact)
        if found is None:
            words = _WORDS.get(fact, {})
            rated = {code: _rate(record, words) for code, record in self.records.items()}
            found = self._fits[fact] = {code: rate for code, rate in rated.items() if rate}
        return found


def _shared(regions: list[str]) -> str:
    """The region that holds all of them: 4401 of 440106 and 4401; "" where there is none."""
    first = min(regions, default="")
    last = max(regions, default="")
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: same // 2 * 2]


def _rate(record: Item | Document, words: Mapping[str, float]) -> float:
    if isinstance(record, Document):
        places = [(_DOCUMENT, record.title)]
    else:
        places = [(_NAME, "\n".join((record.name, *record.aliases))), (_GROUP, "\n".join((record.business, *record.themes)))]
        places.append((_CONDITION, "\n".join(record.conditions)))
    return max((share * weight for share, text in places for word, weight in words.items() if word in text), default=0.0)


def _from_age(record: Item | Document) -> int:
    """The age that its conditions begin with, where that is an old one; else 0."""
    if isinstance(record, Document):
        return 0
    return min((int(age) for text in record.conditions for age in _OLD.findall(text)), default=0)
