"""A log of people who do not exist, in the sample hall: what they tell, what happens to them, what they do; with the noise of real life.

    log = simulate(items, people=600, seed=0)

Each belongs to a persona, which has its own rates of events in life; an event has a script of what such people usually do, how soon, and
how often they do not. A script names items of the sample hall by what its author knows of life; it shares no word list, table or code with
the ranking. Noise: 3 in 10 tell nothing of themselves, 1 in 4 events is not told, 1 in 10 employments is out of date, a third of what is
done has no cause that could be known.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from govlm.hall.catalogue.records import Item

__all__ = ["Log", "simulate"]


@dataclass(frozen=True)
class Log:
    """profiles: person -> what they told (an event from the day it is told on).  events: (person, kind, code, day), by day."""

    profiles: dict[str, dict[str, str]]
    events: list[tuple[str, str, str, date]]


@dataclass(frozen=True)
class _Persona:
    share: float
    age: str
    employment: str
    happens: dict[str, float]  # event -> times a year


_PERSONAS = (
    _Persona(
        0.16, "18-34", "在职", {"结婚": 0.25, "生育": 0.25, "购房": 0.12, "租房": 0.3, "迁居": 0.15, "购车": 0.15, "出国": 0.2}
    ),
    _Persona(0.10, "18-34", "学生", {"毕业": 0.4, "迁居": 0.2, "出国": 0.2, "证件丢失": 0.2}),
    _Persona(0.10, "18-34", "灵活就业", {"创业": 0.25, "租房": 0.35, "迁居": 0.3, "生育": 0.15, "患病": 0.1}),
    _Persona(0.14, "35-59", "在职", {"入学": 0.3, "购房": 0.15, "购车": 0.2, "失业": 0.12, "患病": 0.15, "证件丢失": 0.15}),
    _Persona(0.09, "35-59", "失业", {"失业": 0.7, "困难": 0.3, "创业": 0.2, "离婚": 0.12}),
    _Persona(0.08, "35-59", "个体经营", {"创业": 0.3, "停业": 0.25, "购车": 0.2, "入学": 0.25}),
    _Persona(0.05, "35-59", "企业主", {"创业": 0.4, "购房": 0.25, "出国": 0.3}),
    _Persona(0.07, "35-59", "无业", {"困难": 0.6, "残疾": 0.2, "患病": 0.3}),
    _Persona(0.13, "60-79", "退休", {"退休": 0.35, "患病": 0.3, "丧亲": 0.12, "证件丢失": 0.2, "残疾": 0.05}),
    _Persona(0.08, "80+", "退休", {"患病": 0.35, "残疾": 0.12, "丧亲": 0.15, "证件丢失": 0.15}),
)
# event -> (item, how many of ten do it, days until they do, about)
_SCRIPTS: dict[str, tuple[tuple[str, float, int], ...]] = {
    "结婚": (("结婚登记", 8, 10), ("户口迁移", 3, 90), ("普通护照申领", 2, 30), ("社会保障卡申领", 1, 60)),
    "生育": (("新生儿出生登记", 9, 15), ("生育津贴申领", 7, 60), ("城乡居民基本医疗保险参保登记", 6, 30), ("社会保障卡申领", 4, 50)),
    "离婚": (("离婚登记", 8, 15), ("户口迁移", 3, 60), ("二手房转移登记", 3, 90), ("公共租赁住房申请", 2, 90)),
    "丧亲": (("不动产登记资料查询", 3, 40), ("二手房转移登记", 3, 90), ("社会保险参保缴费记录查询打印", 3, 25)),
    "入学": (("义务教育阶段入学报名", 9, 20), ("居住证申领", 2, 15), ("居住证签注", 2, 15), ("不动产登记资料查询", 3, 15)),
    "毕业": (("社会保障卡申领", 5, 40), ("居住证申领", 4, 50), ("户口迁移", 4, 45), ("租房提取住房公积金", 2, 120)),
    "失业": (("失业保险金申领", 8, 20), ("社会保险参保缴费记录查询打印", 4, 15), ("就业困难人员社会保险补贴申领", 4, 90), ("创业担保贷款申请", 2, 120), ("临时救助申请", 1, 90)),
    "创业": (("个体工商户设立登记", 6, 20), ("有限责任公司设立登记", 3, 25), ("食品经营许可", 3, 45), ("创业担保贷款申请", 4, 60)),
    "停业": (("个体工商户注销登记", 8, 30), ("社会保险参保缴费记录查询打印", 2, 45), ("失业保险金申领", 1, 60)),
    "退休": (("职工退休待遇核定", 8, 25), ("养老保险待遇领取资格认证", 5, 200), ("社会保险参保缴费记录查询打印", 5, 10), ("异地就医备案", 3, 120)),
    "残疾": (("残疾人证申领", 8, 40), ("最低生活保障申请", 2, 90), ("临时救助申请", 2, 60), ("城乡居民基本医疗保险参保登记", 2, 60)),
    "患病": (("医疗费用手工报销", 6, 40), ("异地就医备案", 5, 20), ("临时救助申请", 2, 60), ("社会保障卡申领", 2, 15)),
    "困难": (("最低生活保障申请", 7, 25), ("临时救助申请", 5, 20), ("公共租赁住房申请", 4, 70), ("特困人员救助供养申请", 1, 60)),
    "购房": (("二手房转移登记", 6, 40), ("购房提取住房公积金", 6, 60), ("不动产登记资料查询", 5, 15), ("户口迁移", 3, 120)),
    "租房": (("租房提取住房公积金", 6, 45), ("居住证申领", 4, 40), ("公共租赁住房申请", 2, 60)),
    "迁居": (("居住证申领", 6, 40), ("户口迁移", 5, 50), ("异地就医备案", 3, 60), ("居住证签注", 3, 300)),
    "购车": (("机动车转移登记", 7, 20), ("机动车驾驶证期满换证", 2, 90)),
    "出国": (("普通护照申领", 8, 15), ("往来港澳通行证签注", 3, 25)),
    "证件丢失": (("居民身份证补领", 7, 7), ("社会保障卡申领", 3, 12), ("补领婚姻登记证", 2, 20)),
}  # fmt: skip
# What comes by itself: item -> times a year, in each persona alike but for what its age does.
_ALWAYS = (
    ("居民身份证换领", 0.10), ("机动车驾驶证期满换证", 0.10), ("社会保险参保缴费记录查询打印", 0.20), ("往来港澳通行证签注", 0.15),
    ("医疗费用手工报销", 0.08), ("不动产登记资料查询", 0.06),
)  # fmt: skip
_OLD = (("养老保险待遇领取资格认证", 0.8), ("异地就医备案", 0.2))
_VERY_OLD = (("高龄津贴申领", 0.6),)
_TELLS, _TELLS_EVENT, _OUT_OF_DATE = 0.7, 0.75, 0.1
_NOISE = 0.5  # items a year that are done, and as many looked at, for no cause


def simulate(items: Iterable[Item], people: int = 600, seed: int = 0, start: date = date(2025, 1, 1), days: int = 540) -> Log:
    """items: the sample hall's. ValueError names an item of a script that it does not have."""
    codes = {item.name: item.code for item in items}
    if missing := {name for script in _SCRIPTS.values() for name, _, _ in script} - set(codes):
        raise ValueError(f"the simulation is of the sample hall, which has {', '.join(sorted(missing))}")
    random_ = random.Random(seed)
    profiles: dict[str, dict[str, str]] = {}
    events: list[tuple[str, str, str, date]] = []
    for number in range(people):
        person = f"sim-{number:05d}"
        persona = random_.choices(_PERSONAS, [entry.share for entry in _PERSONAS])[0]
        profile: dict[str, str] = {}
        if random_.random() < _TELLS:
            stale = random_.random() < _OUT_OF_DATE
            profile = {"age": persona.age, "employment": "在职" if stale else persona.employment}
        for name, rate in persona.happens.items():
            for day in _days(random_, rate, days):
                if profile and random_.random() < _TELLS_EVENT:
                    profile[f"event.{name}"] = (start + timedelta(day)).isoformat()
                for item, often, after in _SCRIPTS[name]:
                    if random_.random() * 10 < often:
                        _does(
                            random_, events, person, codes[item], start, day + max(1, round(random_.gammavariate(2, after / 2)))
                        )
        always = _ALWAYS + (_OLD if persona.age in ("60-79", "80+") else ()) + (_VERY_OLD if persona.age == "80+" else ())
        for item, rate in always:
            for day in _days(random_, rate, days):
                _does(random_, events, person, codes[item], start, day)
        for day in _days(random_, _NOISE, days):
            _does(random_, events, person, random_.choice(list(codes.values())), start, day)
        for day in _days(random_, _NOISE, days):
            events.append((person, "viewed", random_.choice(list(codes.values())), start + timedelta(day)))
        profiles[person] = profile
    end = start + timedelta(days)
    return Log(
        profiles, sorted((entry for entry in events if entry[3] < end), key=lambda entry: (entry[3], entry[0], entry[2]))
    )


def _days(random_: random.Random, rate: float, days: int) -> list[int]:
    """Days on which something happens that happens `rate` times a year."""
    found, day = [], random_.expovariate(rate / 365)
    while day < days:
        found.append(int(day))
        day += random_.expovariate(rate / 365)
    return found


def _does(
    random_: random.Random, events: list[tuple[str, str, str, date]], person: str, code: str, start: date, day: int
) -> None:
    """Half look at it before, a quarter ask."""
    if random_.random() < 0.5:
        events.append((person, "viewed", code, start + timedelta(max(0, day - random_.randint(0, 9)))))
    if random_.random() < 0.25:
        events.append((person, "asked", code, start + timedelta(max(0, day - random_.randint(0, 9)))))
    events.append((person, "applied", code, start + timedelta(day)))
