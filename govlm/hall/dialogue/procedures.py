"""Procedures: by which steps an item is applied for. They are data; a portal adds one by a file.

    procedure: birth                      # its name, unique in the hall
    title: 出生一件事
    items: [新生儿出生登记, 生育津贴申领]    # names or codes; several = 一件事: fields that their forms share are asked once
    steps:
      - {id: conditions, kind: conditions, item: 生育津贴申领, next: form, deny: end}
      - {id: form, kind: form, item: 生育津贴申领, next: confirm}
      - {id: confirm, kind: confirm, next: receipt}
      - {id: receipt, kind: receipt}
      - {id: end, kind: say, source: 生育津贴申领#notes.0}

Kinds: `conditions` and `materials` show those of the item and wait for a yes; `say` shows what stands at its source, a path of an
item's record, and goes on; `form` fills the item's form, or the `fields` of it; `confirm` shows what was filled and waits for an
explicit yes; `receipt` ends. next: the step that follows (default: the next in the list); deny: where a no leads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from govlm.hall.answers.citations import field_text
from govlm.hall.catalogue.records import Item
from govlm.hall.catalogue.tables import library
from govlm.hall.forms.schema import Form

__all__ = ["KINDS", "Procedure", "ProcedureError", "Step", "lint", "parse", "read", "standard"]

KINDS = ("conditions", "materials", "say", "form", "confirm", "receipt")
_KEYS = {"procedure", "title", "items", "steps"}
_STEP_KEYS = {"id", "kind", "item", "next", "deny", "fields", "source"}
_MOST_STEPS = 200
SIZE_LIMIT = 1 << 20  # bytes of a file


class ProcedureError(ValueError):
    """A procedure file that cannot be read; names the file and the place."""


@dataclass(frozen=True)
class Step:
    """item: code of the item that the step is about. next "" = the procedure ends here."""

    id: str
    kind: str
    item: str
    next: str = ""
    deny: str = ""
    fields: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Procedure:
    id: str
    title: str
    items: tuple[str, ...]  # codes; the first is the one that the procedure is found by
    steps: tuple[Step, ...]

    def step(self, id: str) -> Step:
        """KeyError when there is none."""
        for step in self.steps:
            if step.id == id:
                return step
        raise KeyError(id)

    def of_kind(self, kind: str) -> Iterator[Step]:
        return (step for step in self.steps if step.kind == kind)


def standard(item: Item) -> Procedure:
    """How an item with a form is applied for where no file says it otherwise."""
    kinds = [*(kind for kind in ("conditions", "materials") if getattr(item, kind)), "form", "confirm", "receipt"]
    steps = (Step(kind, kind, item.code, after) for kind, after in zip(kinds, [*kinds[1:], ""], strict=True))
    return Procedure(item.code, item.name, (item.code,), tuple(steps))


def read(path: Path, items: Mapping[str, Item]) -> Procedure:
    """The procedure in a YAML or JSON file. ProcedureError names what keeps it from being read; `lint` tells what is unwise."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ProcedureError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > SIZE_LIMIT:
        raise ProcedureError(f"{path}: larger than {SIZE_LIMIT >> 20} MiB")
    try:
        text = raw.decode("utf-8-sig")
        values = json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (ValueError, RecursionError) as error:
        raise ProcedureError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        return parse(values, items)
    except ValueError as error:
        raise ProcedureError(f"{path}: {error}") from None


def _yaml(text: str) -> Any:
    yaml = library("yaml", "a procedure file")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from None


def parse(values: Any, items: Mapping[str, Item]) -> Procedure:
    """A procedure from its plain form. items: those of the hall by code. ValueError names the key that is wrong."""
    if not isinstance(values, Mapping):
        raise ValueError("a table with the keys procedure, items and steps is expected")
    if unknown := set(values) - _KEYS:
        raise ValueError(f"unknown key {min(map(str, unknown))!r}; there are {', '.join(sorted(_KEYS))}")
    names: dict[str, list[str]] = {}
    for code, item in items.items():
        names.setdefault(item.name, []).append(code)

    def code_of(name: Any, where: str) -> str:
        if name in items:
            return str(name)
        codes = names.get(str(name), [])
        if len(codes) != 1:
            raise ValueError(f"{where}: {name!r} is {'no item' if not codes else 'the name of several items, give the code'}")
        return codes[0]

    id = values.get("procedure")
    if not isinstance(id, str) or not id.strip():
        raise ValueError("procedure: a name is expected")
    listed, steps = values.get("items"), values.get("steps")
    if not isinstance(listed, list) or not listed:
        raise ValueError("items: a list of names or codes is expected")
    if not isinstance(steps, list) or not steps:
        raise ValueError("steps: a list of steps is expected")
    if len(steps) > _MOST_STEPS:
        raise ValueError(f"steps: {len(steps)} are more than a procedure may have ({_MOST_STEPS})")
    codes = tuple(code_of(name, f"items.{i}") for i, name in enumerate(listed))
    found = tuple(_step(entry, f"steps.{i}", codes, code_of) for i, entry in enumerate(steps))
    after = [step.id for step in found[1:]] + [""]
    linked = tuple(
        Step(s.id, s.kind, s.item, s.next or ("" if s.kind == "receipt" else following), s.deny, s.fields, s.source)
        for s, following in zip(found, after, strict=True)
    )
    return Procedure(id, str(values.get("title") or id), codes, linked)


def _step(entry: Any, where: str, codes: Sequence[str], code_of: Any) -> Step:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: a table is expected")
    if unknown := set(entry) - _STEP_KEYS:
        raise ValueError(f"{where}: unknown key {min(map(str, unknown))!r}; there are {', '.join(sorted(_STEP_KEYS))}")
    kind = entry.get("kind")
    if kind not in KINDS:
        raise ValueError(f"{where}.kind: {kind!r} is none of {', '.join(KINDS)}")
    fields = entry.get("fields", [])
    if not isinstance(fields, list):
        raise ValueError(f"{where}.fields: a list is expected")
    item = code_of(entry["item"], f"{where}.item") if "item" in entry else codes[0]
    texts = {key: str(entry.get(key) or "") for key in ("next", "deny", "source")}
    return Step(
        str(entry.get("id") or kind), kind, item, texts["next"], texts["deny"], tuple(map(str, fields)), texts["source"]
    )


# ------------------------------------------------------------------------------------------------------------------------ linted


def lint(procedure: Procedure, items: Mapping[str, Item]) -> list[str]:
    """What is wrong with a procedure, a line each: it is taken into use only when there is nothing."""
    found: list[str] = []
    ids = [step.id for step in procedure.steps]
    for id in dict.fromkeys(ids):
        if ids.count(id) > 1:
            found.append(f"step {id!r} stands {ids.count(id)} times")
    for step in procedure.steps:
        found += [f"step {step.id!r}: {key} {to!r} is no step" for key, to in _ways(step) if to not in ids]
        if step.item not in procedure.items:
            found.append(f"step {step.id!r}: its item {step.item!r} is not among the procedure's items")
    if found:
        return found
    found += _walk(procedure)
    shares: dict[str, str] = {}
    for step in procedure.steps:
        found += [f"step {step.id!r}: {problem}" for problem in _contents(step, items.get(step.item), shares)]
    for code in procedure.items:
        item = items.get(code)
        if item is not None and item.form and not any(s.item == code for s in procedure.of_kind("form")):
            found.append(f"item {item.name!r} has a form, but no step fills it")
    return found


def _ways(step: Step) -> list[tuple[str, str]]:
    return [(key, to) for key, to in (("next", step.next), ("deny", step.deny)) if to]


def _walk(procedure: Procedure) -> list[str]:
    """Steps that cannot be reached, circles, and ends that are none."""
    found = []
    state: dict[str, int] = {}

    def visit(id: str, path: tuple[str, ...]) -> None:
        if state.get(id) == 1:
            found.append(f"the steps go in a circle: {' -> '.join([*path[path.index(id) :], id])}")
            return
        if id in state:
            return
        state[id] = 1
        for _, to in _ways(procedure.step(id)):
            visit(to, (*path, id))
        state[id] = 2

    visit(procedure.steps[0].id, ())
    found += [f"step {step.id!r} cannot be reached" for step in procedure.steps if step.id not in state]
    kinds = {step.kind for step in procedure.steps if step.id in state}
    found += [f"there is no step of kind {kind}" for kind in ("form", "confirm", "receipt") if kind not in kinds]
    for step in procedure.of_kind("receipt"):
        if step.next:
            found.append(f"step {step.id!r}: a receipt ends the procedure, but its next is {step.next!r}")
    for step in procedure.steps:
        if step.kind != "confirm" and step.next and procedure.step(step.next).kind == "receipt":
            found.append(f"step {step.id!r} leads to a receipt: only what was confirmed is submitted")
    return found


def _contents(step: Step, item: Item | None, shares: dict[str, str]) -> list[str]:
    if item is None:
        return [f"its item {step.item!r} is not in the catalogue"]
    if step.kind in ("conditions", "materials") and not getattr(item, step.kind):
        return [f"the record of {item.name!r} has no {step.kind}: there is nothing to show"]
    if step.kind == "say":
        try:
            field_text(item, step.source)
        except ValueError:
            return [f"source {step.source!r}: nothing stands there in the record of {item.name!r}; a text needs a source"]
    if step.kind != "form":
        return []
    if not item.form:
        return [f"item {item.name!r} has no form"]
    if problems := Form.problems(item.form):
        return [f"form of {item.name!r}: {problem}" for problem in problems]
    form = Form.of(item.form)
    found = [f"fields: {name!r} is no field of {form.id!r}" for name in step.fields if name not in form.fields]
    if step.fields:
        found += [f"required field {name!r} is not asked" for name in form.required if name not in step.fields]
    for name, field in form.fields.items():
        if shares.setdefault(name, field.share or f"{form.id}.{name}") != (field.share or f"{form.id}.{name}"):
            found.append(
                f"field {name!r} means another thing in another form of this procedure; give both one x-share or other names"
            )
    return found
