"""What a hall knows: service items (政务服务事项) and policy documents. Plain values, with JSON both ways.

An item's fields follow the national standard elements of a service guide (GB/T 36112, 政务服务事项 办事指南): who, on what conditions,
with which materials, by which steps, how fast, for what fee, where, by which law. Every text is a fact that an answer may quote; a
field that is empty is not known, and an answer says so.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import date
from typing import Any, TypeVar

__all__ = ["FIELDS", "Document", "Item", "Material", "Passage", "Place", "Step", "from_dict", "texts", "to_dict"]


@dataclass(frozen=True)
class Material:
    """A paper to hand in. None = not known."""

    name: str
    copies: int | None = None
    form: str = ""  # 原件, 复印件, 原件和复印件
    medium: str = ""  # 纸质, 电子, 纸质或电子
    required: bool | None = None  # False: only where `note` says so
    note: str = ""


@dataclass(frozen=True)
class Step:
    name: str
    text: str = ""


@dataclass(frozen=True)
class Place:
    """A counter."""

    name: str = ""
    address: str = ""
    hours: str = ""
    phone: str = ""


@dataclass(frozen=True)
class Item:
    """A service item. code: the 实施编码 where there is one, else the hall's own; it is the key."""

    code: str
    name: str
    base_code: str = ""  # 基本编码: 12 characters, the third and fourth its type
    kind: str = ""  # 事项类型: 行政许可, 公共服务, …
    business: str = ""  # 业务类型: what the hall sorts requests by, 社会保险, 户籍, …
    authority: str = ""
    authority_code: str = ""  # 统一社会信用代码
    partners: tuple[str, ...] = ()  # other authorities
    region: str = ""  # GB/T 2260 code: 44 a province, 4401 a city, 440106 a district; "" = everywhere
    level: str = ""  # 国家级, 省级, 市级, 县级, 镇级, 村级
    audiences: tuple[str, ...] = ()  # 自然人, 企业法人, …
    themes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # other names, colloquial ones too
    wordings: tuple[str, ...] = ()  # sentences in which people ask for it
    conditions: tuple[str, ...] = ()
    materials: tuple[Material, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    statutory_limit: str = ""  # 法定办结时限, "20个工作日"
    promised_limit: str = ""  # 承诺办结时限
    fee: str = ""
    result: str = ""  # what one gets
    basis: tuple[str, ...] = ()  # legal basis
    places: tuple[Place, ...] = ()
    consult_phones: tuple[str, ...] = ()
    complaint_phones: tuple[str, ...] = ()
    online: bool | None = None  # whether it can be done on the network
    url: str = ""
    booking: str = ""  # where to book a visit
    visits: int | None = None  # times one must come to the counter
    mail: bool | None = None  # whether papers can be sent
    valid_from: date | None = None
    valid_to: date | None = None  # the last day
    form: Mapping[str, Any] = field(default_factory=dict)  # JSON Schema of its form
    extra: Mapping[str, Any] = field(default_factory=dict)  # columns of the source that have no field here


@dataclass(frozen=True)
class Passage:
    """document.text[start:end]: an article or a paragraph of it. id is stable: 第三条, 第三条/2 (its second paragraph), 段5."""

    id: str
    start: int
    end: int
    heading: str = ""  # of the chapter or section that it stands in


@dataclass(frozen=True)
class Document:
    """A policy document. code is the key: its 文号 where there is one, else what the importer makes of its title."""

    code: str
    title: str
    text: str
    number: str = ""  # 文号
    issuer: str = ""
    issued: date | None = None
    valid_from: date | None = None
    valid_to: date | None = None  # the last day
    region: str = ""
    level: str = ""
    url: str = ""
    source: str = ""  # name of the file
    passages: tuple[Passage, ...] = ()


FIELDS = {
    "name": "事项名称", "base_code": "基本编码", "code": "实施编码", "kind": "事项类型", "business": "业务类型", "authority": "实施主体",
    "authority_code": "实施主体编码", "partners": "联办机构", "region": "行政区划", "level": "行使层级", "audiences": "服务对象",
    "themes": "主题分类", "aliases": "别名", "wordings": "问法", "conditions": "受理条件", "materials": "申请材料", "steps": "办理流程",
    "notes": "注意事项", "statutory_limit": "法定办结时限", "promised_limit": "承诺办结时限", "fee": "收费情况", "result": "办理结果",
    "basis": "设定依据", "places": "办理地点", "consult_phones": "咨询电话", "complaint_phones": "投诉电话", "online": "网上办理",
    "url": "网上办理地址", "booking": "预约地址", "visits": "到办事现场次数", "mail": "物流快递", "valid_from": "生效日期",
    "valid_to": "失效日期", "form": "表单", "extra": "其他",
}  # fmt: skip  # the field's name for citizens
_NOT_FACTS = frozenset({"code", "wordings", "form", "extra"})

_Record = TypeVar("_Record")


def texts(item: Item) -> Iterator[tuple[str, str]]:
    """(path, text) of every fact of an item that is text: ("fee", "不收费"), ("materials.0.name", "身份证"), …

    A path is what a citation names; `extra`, `form` and `wordings` are no facts. Numbers, dates and yes/no are not among them.
    """
    for entry in fields(item):
        if entry.name not in _NOT_FACTS:
            yield from _texts(entry.name, getattr(item, entry.name))


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if value:
            yield path, value
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from _texts(f"{path}.{i}", part)
    elif is_dataclass(value):
        for entry in fields(value):
            yield from _texts(f"{path}.{entry.name}", getattr(value, entry.name))


def to_dict(record: Any) -> dict[str, Any]:
    """The record for JSON, without what is empty or as by default; dates as 2024-03-05."""
    found: dict[str, Any] = {}
    for entry in fields(record):
        value = getattr(record, entry.name)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if value != default:
            found[entry.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Mapping):
        return dict(value)
    return to_dict(value) if is_dataclass(value) else value


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)  # evaluates text: slow


def from_dict(kind: type[_Record], values: Mapping[str, Any], where: str = "") -> _Record:
    """A record from `to_dict`'s form. ValueError names the field that is unknown, missing or of the wrong type."""
    hints = _hints(kind)  # type: ignore[arg-type]
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ValueError(f"{where}{name}: unknown; {kind.__name__} has {', '.join(known)}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise ValueError(f"{where}{name}: missing")
    return kind(**{name: _typed(f"{where}{name}", value, hints[name]) for name, value in values.items()})


def _typed(where: str, value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # X | None
        return None if value is None else _typed(where, value, arguments[0])
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where}: a list is expected, not {value!r}")
        return tuple(_typed(f"{where}.{i}", part, arguments[0]) for i, part in enumerate(value))
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: a table is expected, not {value!r}")
        return from_dict(typing.cast("type[Any]", hint), value, f"{where}.")
    if hint is date:
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            raise ValueError(f"{where}: a date like 2024-03-05 is expected, not {value!r}") from None
    wanted = Mapping if origin is not None else hint
    if not isinstance(value, wanted) or (hint is int and isinstance(value, bool)):
        name = {str: "text", int: "a whole number", bool: "true or false"}.get(hint, "a table")
        raise ValueError(f"{where}: {name} is expected, not {value!r}")
    return value
