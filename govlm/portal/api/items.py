"""The catalogue of service items: lists, records, guides, and search by meaning."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from govlm.hall.answers.citations import version
from govlm.hall.answers.compose import compose
from govlm.hall.answers.precedence import applies, in_force
from govlm.hall.answers.rendering import checked
from govlm.hall.answers.words import TITLES
from govlm.hall.catalogue.records import Item
from govlm.portal.errors import PortalError
from govlm.portal.gate import attended
from govlm.portal.portal import Here, Portal
from govlm.portal.security.access import allow
from govlm.portal.views import AnswerView, ItemRef

__all__ = ["Limit", "Offset", "Region", "item_of", "router"]

router = APIRouter(prefix="/v1", tags=["catalogue"])
_FOUND = 50  # items that a search by words in a list gives at most
_FAR = 0.005  # a chance below which an item does not belong to what was asked for
Region = Annotated[str, Query(max_length=12, pattern="^[0-9]*$", description="GB/T 2260 code, like 440106", examples=["4401"])]
Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]
Code = Annotated[str, Path(max_length=200, description="of the item (实施编码)", examples=["11990000MB9900013U4990505110001"])]


class ItemSummary(BaseModel):
    """online: whether it can be applied for here or on the network; None = not known. form: id of the form that is filled here, or ""."""

    code: str
    name: str
    kind: str
    business: str
    authority: str
    region: str
    level: str
    audiences: list[str]
    themes: list[str]
    online: bool | None
    form: str
    in_force: bool

    @classmethod
    def of(cls, item: Item) -> ItemSummary:
        return cls(
            code=item.code, name=item.name, kind=item.kind, business=item.business, authority=item.authority, region=item.region,
            level=item.level, audiences=list(item.audiences), themes=list(item.themes), online=item.online,
            form=str(item.form.get("$id", "")), in_force=in_force(item, date.today()),
        )  # fmt: skip


class ItemsView(BaseModel):
    """total: of all that fit; themes and audiences: those that the catalogue has, to choose from."""

    total: int
    items: list[ItemSummary]
    themes: list[str]
    audiences: list[str]


class _Plain(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class MaterialView(_Plain):
    name: str
    copies: int | None
    form: str
    medium: str
    required: bool | None
    note: str


class ItemStepView(_Plain):
    name: str
    text: str


class PlaceView(_Plain):
    name: str
    address: str
    hours: str
    phone: str


class ItemView(ItemSummary):
    """The record as the catalogue has it; "" and None: not known. version: changes with the facts, as in citations."""

    version: str
    base_code: str
    partners: list[str]
    aliases: list[str]
    conditions: list[str]
    materials: list[MaterialView]
    steps: list[ItemStepView]
    notes: list[str]
    statutory_limit: str
    promised_limit: str
    fee: str
    result: str
    basis: list[str]
    places: list[PlaceView]
    consult_phones: list[str]
    complaint_phones: list[str]
    url: str
    booking: str
    visits: int | None
    mail: bool | None
    valid_from: date | None
    valid_to: date | None

    @classmethod
    def of(cls, item: Item) -> ItemView:
        return cls(
            **ItemSummary.of(item).model_dump(), version=version(item), base_code=item.base_code, partners=list(item.partners),
            aliases=list(item.aliases), conditions=list(item.conditions),
            materials=[MaterialView.model_validate(entry) for entry in item.materials],
            steps=[ItemStepView.model_validate(entry) for entry in item.steps], notes=list(item.notes),
            statutory_limit=item.statutory_limit, promised_limit=item.promised_limit, fee=item.fee, result=item.result,
            basis=list(item.basis), places=[PlaceView.model_validate(entry) for entry in item.places],
            consult_phones=list(item.consult_phones), complaint_phones=list(item.complaint_phones), url=item.url,
            booking=item.booking, visits=item.visits, mail=item.mail, valid_from=item.valid_from, valid_to=item.valid_to,
        )  # fmt: skip


class GuideView(AnswerView):
    item: ItemRef


class HitView(BaseModel):
    """score: the chance that it is meant, 0 to 1."""

    code: str
    name: str
    score: float
    authority: str
    region: str


class PassageHit(BaseModel):
    """A passage of a policy document: GET /v1/policies/{code}/passages/{passage}."""

    code: str
    title: str
    passage: str
    text: str


class SearchView(BaseModel):
    hits: list[HitView]
    passages: list[PassageHit]


def item_of(portal: Portal, code: str) -> Item:
    """PortalError "not_found": the catalogue does not have it."""
    item = portal.hall.library.items.get(code)
    if item is None:
        raise PortalError("not_found")
    return item


@router.get("/items", **allow("citizen", scope="catalogue"))
async def items(
    request: Request, portal: Here, region: Region = "", limit: Limit = 20, offset: Offset = 0,
    q: Annotated[str, Query(max_length=200, description="words of its name, or what one wants", examples=["低保"])] = "",
    theme: Annotated[str, Query(max_length=100)] = "", audience: Annotated[str, Query(max_length=100)] = "",
) -> ItemsView:  # fmt: skip
    """Items in force, those that fit `q` best first."""

    def read() -> ItemsView:
        hall, today = portal.hall, date.today()
        every = hall.library.items
        if q.strip():
            named = [item for item in every.values() if any(q.strip() in name for name in (item.name, *item.aliases))]
            hits = hall.search(q, _FOUND, region or None)
            found = [*named, *(every[hit.code] for hit in hits if hit.score >= _FAR and hit.code in every)]
            found = list({item.code: item for item in found}.values())
        else:
            found = list(every.values())
        found = [
            item
            for item in found
            if in_force(item, today)
            and (not region or applies(item, region))
            and (not theme or theme in item.themes)
            and (not audience or audience in item.audiences)
        ]
        return ItemsView(
            total=len(found), items=[ItemSummary.of(item) for item in found[offset : offset + limit]],
            themes=sorted({theme for item in every.values() for theme in item.themes}),
            audiences=sorted({audience for item in every.values() for audience in item.audiences}),
        )  # fmt: skip

    return await attended(request, portal.gate.run(read))


@router.get("/items/{code}", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def item(code: Code, portal: Here) -> ItemView:
    """An item's record."""
    return await portal.gate.run(lambda: ItemView.of(item_of(portal, code)))


@router.get("/items/{code}/guide", **allow("citizen", scope="catalogue", errors=("not_found",)))
async def guide(
    code: Code, portal: Here,
    kinds: Annotated[list[str], Query(max_length=20, description="parts, like materials and fee (default: all that there are)")] = [],  # noqa: B006
) -> GuideView:  # fmt: skip
    """The item's guide in parts, every line with its citations. An item that is not in force has none: it is refused, as in an answer."""
    if unknown := [kind for kind in kinds if kind not in TITLES]:
        raise PortalError("invalid", f"没有这个部分：可以选{'、'.join(TITLES)}", fields=["kinds"] if unknown else [])

    def read() -> GuideView:
        found = item_of(portal, code)
        answer = checked(compose(found, kinds), portal.hall.library)
        return GuideView(
            **AnswerView.of(portal.hall, answer).model_dump(), item=ItemRef(code=found.code, name=found.name)
        )  # fmt: skip

    return await portal.gate.run(read)


@router.get("/search", **allow("citizen", scope="catalogue"))
async def search(
    request: Request, portal: Here, region: Region = "",
    q: Annotated[str, Query(max_length=2000, description="a question or words", examples=["身份证丢了怎么补"])] = "",
    k: Annotated[int, Query(ge=1, le=50)] = 10, audience: Annotated[str, Query(max_length=100)] = "",
) -> SearchView:  # fmt: skip
    """The k likeliest items, and the passages of policy documents that fit best, by meaning."""

    def read() -> SearchView:
        hall = portal.hall
        if not q.strip():
            return SearchView(hits=[], passages=[])
        hits = hall.search(q, k, region or None, audience=audience)
        passages = []
        for document, name in hall.search_passages(q, k, region or None):
            place = next(entry for entry in document.passages if entry.id == name)
            text = document.text[place.start : place.end]
            passages.append(PassageHit(code=document.code, title=document.title, passage=name, text=text))
        return SearchView(hits=[HitView(**hit._asdict()) for hit in hits], passages=passages)

    return await attended(request, portal.gate.run(read))


class Question(BaseModel):
    """region: GB/T 2260 code."""

    text: str = Field(max_length=20_000, examples=["补办身份证要带什么？"])
    region: str = Field("", max_length=12, pattern="^[0-9]*$")
