"""What a person may tell of themselves so that the hall recommends: age band, region, employment, family events.

Kept by People.put_profile, encrypted, after consent to "profile":
{"age": "18-34", "region": "440106", "employment": "失业", "event.生育": "2026-10-01"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

__all__ = ["AGES", "EMPLOYMENTS", "EVENTS", "Profile", "check"]

AGES = {"0-5": 5, "6-17": 17, "18-34": 34, "35-59": 59, "60-79": 79, "80+": 150}  # band -> its last year
EMPLOYMENTS = ("在职", "灵活就业", "个体经营", "企业主", "失业", "无业", "学生", "退休", "务农")
EVENTS = (
    "生育", "结婚", "离婚", "丧亲", "入学", "毕业", "就业", "失业", "创业", "停业", "退休", "残疾", "患病", "困难", "购房", "租房",
    "迁居", "购车", "出国", "证件丢失",
)  # fmt: skip
_REGION = re.compile(r"[0-9]{2}|[0-9]{4}|[0-9]{6}|[0-9]{9}|[0-9]{12}")


@dataclass(frozen=True)
class Profile:
    """Each may be unknown. events: what happened, and on which day."""

    age: str = ""
    region: str = ""
    employment: str = ""
    events: Mapping[str, date] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Profile:
        """From what is kept of a person; values that say nothing here (a name, a number) are left alone."""
        events = {name[6:]: date.fromisoformat(value) for name, value in values.items() if name.startswith("event.")}
        return cls(values.get("age", ""), values.get("region", ""), values.get("employment", ""), events)


def check(values: Mapping[str, str]) -> None:
    """ValueError names the value that Profile.of would not understand; "" takes a value out. The value itself is not in the error."""
    for name, value in values.items():
        if not value or (name not in ("age", "region", "employment") and not name.startswith("event.")):
            continue
        if name == "age" and value not in AGES:
            raise ValueError(f"age: one of {', '.join(AGES)}")
        if name == "employment" and value not in EMPLOYMENTS:
            raise ValueError(f"employment: one of {', '.join(EMPLOYMENTS)}")
        if name == "region" and not _REGION.fullmatch(value):
            raise ValueError("region: a code of GB/T 2260, like 440106")
        if name.startswith("event."):
            if name[6:] not in EVENTS:
                raise ValueError(f"event.…: one of {', '.join(EVENTS)}")
            try:
                date.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{name}: the day it happened, like 2026-10-01") from None
