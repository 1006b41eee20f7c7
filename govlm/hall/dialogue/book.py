"""Where a step looks records up, and what the forms of a procedure have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from govlm.hall.catalogue.records import Item
from govlm.hall.dialogue.procedures import Procedure
from govlm.hall.dialogue.state import State
from govlm.hall.forms.schema import Form, FormField

__all__ = ["PURPOSE", "SENSITIVE", "Book", "agreed", "fields_of", "same", "wanted_values"]

PURPOSE = "form"
SENSITIVE = frozenset({"identity_card", "bank_card", "passport", "travel_permit"})  # kinds that are kept only when agreed to


class Book(Protocol):
    """Where a step looks records up."""

    def item(self, code: str, /) -> Item | None: ...

    def procedure(self, code: str, /) -> Procedure | None:
        """By the code of its first item, or by its name; None: the item cannot be applied for here."""
        ...

    def form(self, code: str, /) -> Form | None:
        """Of an item."""
        ...


def agreed(state: State) -> bool:
    """Whether the person has agreed that sensitive values are kept."""
    return any(consent.purpose == PURPOSE for consent in state.consents)


def fields_of(procedure: Procedure, book: Book) -> dict[str, FormField]:
    """The fields of all its forms by name, in the order in which they are asked; those that share are there once."""
    found: dict[str, FormField] = {}
    shares: set[str] = set()
    for entry in procedure.of_kind("form"):
        form = book.form(entry.item)
        for name in (entry.fields or form.fields) if form else ():
            wanted = form.fields[name] if form else None
            if wanted is not None and name not in found and (not wanted.share or wanted.share not in shares):
                found[name] = wanted
                shares.add(wanted.share)
    return found


def same(form: Form, values: Mapping[str, str], others: Mapping[str, FormField]) -> dict[str, str]:
    """The values of a form's fields: its own, and those that fields of other forms share; without those that are not wanted any more by
    what the others hold. others: all fields of the procedure."""
    shared = {field.share: values[name] for name, field in others.items() if field.share and name in values}
    found = {name: values.get(name) or shared.get(field.share or " ", "") for name, field in form.fields.items()}
    return {name: value for name, value in found.items() if value and form.fields[name].wanted(found)}


def wanted_values(procedure: Procedure, values: Mapping[str, str], book: Book) -> dict[str, str]:
    """What is submitted: the values of all forms of a procedure that are wanted, those that share once."""
    fields = fields_of(procedure, book)
    kept: set[str] = set()
    for entry in procedure.of_kind("form"):
        form = book.form(entry.item)
        if form is not None:
            kept |= {form.fields[name].share or name for name in same(form, values, fields)}
    return {name: values[name] for name, field in fields.items() if name in values and (field.share or name) in kept}
