"""govlm's own columns: a field of an item as a cell of a table, and back, without loss.

Texts stand as they are; yes and no are 是 and 否; a list has a line for each of its texts (materials, steps and places too, while only
their names are known); what does not fit that is JSON. The header names the fields in Chinese; their English names are understood too.
"""

from __future__ import annotations

import json
import types
import typing
from datetime import date
from functools import cache
from typing import Any

from govlm.hall.catalogue.records import FIELDS, Item, from_dict, to_dict

__all__ = ["LABELS", "NAMES", "hint_of", "parse", "show"]

NAMES = {label: name for name, label in FIELDS.items()}
LABELS = FIELDS
_YES_NO = {"是": True, "否": False, "true": True, "false": False, "1": True, "0": False}


@cache
def hint_of(field: str) -> tuple[Any, Any]:
    """(str, int, bool, date, dict or tuple, what a tuple holds) of a field of Item."""
    hint = typing.get_type_hints(Item)[field]
    if typing.get_origin(hint) is types.UnionType:
        hint = typing.get_args(hint)[0]
    origin = typing.get_origin(hint)
    if origin is tuple:
        return tuple, typing.get_args(hint)[0]
    return (dict if origin is not None else hint), None


def show(field: str, value: Any) -> str | None:
    """The cell of a field's value; None where there is nothing to write."""
    kind, part = hint_of(field)
    if value is None or value == "" or value == () or value == {}:
        return None
    if kind is bool:
        return "是" if value else "否"
    if kind is date:
        return str(value.isoformat())
    if kind is dict:
        return json.dumps(dict(value), ensure_ascii=False)
    if kind is tuple:
        plain: list[Any] = list(value) if part is str else [to_dict(entry) for entry in value]
        texts: list[str] = (
            plain if part is str else [entry.get("name", "") if set(entry) <= {"name"} else "" for entry in plain]
        )
        lines = "\n".join(texts)
        if lines.lstrip()[:1] != "[" and lines.splitlines() == texts and all(text and text == text.strip() for text in texts):
            return lines
        return json.dumps(plain, ensure_ascii=False)
    return str(value)


def parse(field: str, text: str) -> Any:
    """The value of a cell; ValueError where it is none."""
    kind, part = hint_of(field)
    if kind is str:
        return text
    if kind is bool:
        return _YES_NO[text.strip().lower()] if text.strip().lower() in _YES_NO else _refuse(text)
    if kind is int:
        return int(text)
    if kind is date:
        return date.fromisoformat(text.strip())
    if kind is dict:
        value = json.loads(text)
        return value if isinstance(value, dict) else _refuse(text)
    if text.lstrip()[:1] == "[":
        values = json.loads(text)
        return getattr(from_dict(Item, {"code": "-", "name": "-", field: values}), field)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return tuple(lines) if part is str else tuple(part(name=line) for line in lines)


def _refuse(text: str) -> Any:
    raise ValueError(text)
