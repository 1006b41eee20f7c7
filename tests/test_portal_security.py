"""Who may do what in the portal: each route for each kind of caller, logins, keys, other sites' requests, limits, headers."""

import asyncio
import contextlib
import copy
import functools
import http.client
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

import httpx
import sqlalchemy as sa
from argon2 import PasswordHasher
from fastapi.testclient import TestClient
from portal_matrix import ROLES, SCOPES, Filler, Route, Unfilled, routes
from portal_server import client, serving

from govlm.hall.protection.sessions import Submission
from govlm.portal.application import Application, create_app
from govlm.portal.errors import MESSAGES, PortalError
from govlm.portal.security import csrf, passwords
from govlm.portal.security.access import VISITOR, Principal, allow, new_session, owned, signature
from govlm.portal.security.accounts import MOST, Account, utc
from govlm.portal.security.counters import Counters, fresh_file
from govlm.portal.security.limits import Limits, Proxies
from govlm.portal.security.logins import COOKIE, _digest
from govlm.portal.settings import RATES, Settings, SettingsError
from govlm.portal.store.tables import tables

FREE = dict.fromkeys(RATES, "")  # no limits
FAR = {"public": "http://hall.example.gov.cn", "rates": FREE}  # a portal that others reach
PAGES = {
    "/",
    "/console",
    "/login",
    "/widget",
    "/widget.js",
    "/metrics",
    "/v1/openapi.json",
}  # not in the document: open, GET only
PASSWORD = "Right-password-77"


def portal_of(found: TestClient) -> Any:
    return found.app.state.portal  # type: ignore[attr-defined]


def account_of(portal: Any, *roles: str, name: str = "", password: str = PASSWORD) -> Account:
    """An account with a password of its own choice."""
    account, told = portal.accounts.create(name or f"someone-{_next()}", roles, portal.clock())
    portal.accounts.change(account, told, password, portal.clock())
    found = portal.accounts.find(account.id)
    assert found is not None and not found.must_change
    return found


def _next(numbers: Iterator[int] = iter(range(10**9))) -> int:  # noqa: B008  (one counter for all)
    return next(numbers)


def code(response: Any) -> str:
    return str(response.json()["error"]["code"])


def login(found: TestClient, name: str, password: str = PASSWORD) -> Any:
    return found.post("/v1/login", json={"name": name, "password": password})


def token(found: TestClient) -> dict[str, str]:
    """The header that shows that a page of ours asks."""
    return {csrf.HEADER: found.get("/v1/me").json()["csrf"]}


# ---- the matrix: role x route x owner --------------------------------------------------------------------------------


@dataclass
class Caller:
    headers: Mapping[str, str]
    who: Principal | None
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    blocked: bool = False  # by a password that must be changed
    kind: str = field(default="", compare=False)


def caller(portal: Any, kind: str) -> Caller:
    """Somebody of a kind who was never here before."""
    now = portal.clock()
    if kind == "anonymous":
        return Caller({}, None, kind=kind)
    if kind == "local":
        return Caller({}, Principal("local", frozenset({"citizen"})), frozenset({"citizen"}), kind=kind)
    if kind == "visitor":
        number = f"v{_next()}"
        cookie = f"{VISITOR}={number}.{signature(portal.secret, VISITOR, number)}"
        headers = {"Cookie": cookie, csrf.HEADER: csrf.token(portal.secret, f"visitor:{number}")}
        return Caller(headers, Principal(f"visitor:{number}", frozenset({"citizen"})), frozenset({"citizen"}), kind=kind)
    what, _, which = kind.partition(" ")
    role = "administrator" if what == "key" else which or "administrator"
    account = portal.accounts.create(f"caller-{_next()}", [role], now, subject="" if what == "new" else f"s{_next()}")[0]
    if what == "key":
        key, text = portal.keys.create("matrix", [which], account.id, now)
        who = Principal(f"key:{key.id}", account.roles)
        return Caller({"Authorization": f"Bearer {text}"}, who, account.roles, frozenset({which}), kind=kind)
    given = portal.logins.begin(account, now)
    headers = {"Cookie": f"{COOKIE}={given}", csrf.HEADER: csrf.token(portal.secret, _digest(given))}
    return Caller(headers, Principal(f"account:{account.id}", account.roles), account.roles, None, what == "new", kind)


def call(found: TestClient, filler: Filler, route: Route, who: Caller, session: str) -> Any:
    request = filler.request(route, session)
    headers = {**request.pop("headers"), **who.headers}
    found.cookies.clear()
    return found.request(route.method, headers=headers, follow_redirects=False, **request)


def judged(response: Any) -> str:
    """What the answer says of the right to ask: "", or the code of a refusal."""
    status = response.status_code
    if status in (401, 403, 404):
        return code(response)
    assert status < 500 or code(response) == "switched_off", response.text
    return ""


def wrong(found: TestClient, kinds: tuple[str, ...]) -> list[str]:
    """All cells of the matrix that are not as the document says."""
    portal, document = portal_of(found), found.app.openapi()  # type: ignore[attr-defined]
    filler, problems = Filler(document), []
    # what changes the portal for all comes last
    every = sorted(routes(document), key=lambda r: (r.roles == ("administrator",) and r.method != "GET", r.method == "DELETE"))
    refused = {kind: caller(portal, kind) for kind in kinds}
    stranger = Principal("account:stranger", frozenset({"citizen"}))
    for route in every:
        if route.local and portal.settings.loopback:
            route = replace(route, roles=())
        for kind in kinds:
            who = refused[kind]
            denial = ""
            if route.roles and who.who is None:
                denial = "unauthenticated"
            elif who.blocked and route.roles and route.path not in ("/v1/logout", "/v1/me/password"):
                denial = "must_change"
            elif route.roles and not (who.roles & set(route.roles) and (who.scopes is None or route.scope in who.scopes)):
                denial = "forbidden"
            foreign = new_session(portal.secret, stranger) if route.owner else ""
            said = judged(call(found, filler, route, refused[kind] if denial or route.owner else caller(portal, kind), foreign))
            expected = denial or ("not_found" if route.owner else "")
            if not route.roles or (not expected and said == "not_found"):
                good = said not in ("forbidden", "must_change")  # a login may fail, a thing may not be there
            else:
                good = said == expected
            if not good:
                problems.append(
                    f"{route.name} as {kind}{' of another' if route.owner else ''}: {said or 'let in'}, not {expected}"
                )
            if route.owner and not denial:
                who = caller(portal, kind)
                assert who.who is not None
                session = new_session(portal.secret, who.who)
                portal.hall.chat(session, "低保怎么办？")
                said = judged(call(found, filler, route, who, session))
                deeper = route.path.count("{") > 1 or "handoff" in route.path  # something of the session that need not be there
                if said and not (said == "not_found" and deeper):
                    problems.append(f"{route.name} as {kind}, the owner: {said}")
    return problems


def test_every_route_lets_in_whom_it_says_and_nobody_else(tmp_path: Path) -> None:
    accounts = tuple(f"account {role}" for role in ROLES)
    keys = tuple(f"key {scope}" for scope in SCOPES)
    with client(tmp_path, **FAR) as found:
        problems = wrong(found, ("anonymous", *accounts, *keys, "new administrator"))
        assert not problems, "\n".join(problems)
        # the visitor's cookie of a portal on loopback is nobody's here
        visitor = caller(portal_of(found), "visitor")
        assert found.post("/v1/sessions", headers=visitor.headers).status_code == 401


def test_every_route_on_loopback(tmp_path: Path) -> None:
    with client(tmp_path, rates=FREE) as found:
        problems = wrong(found, ("local", "visitor", "account citizen", "account administrator"))
        assert not problems, "\n".join(problems)


def test_no_route_is_outside_the_matrix(tmp_path: Path) -> None:
    """Pages that the document does not show are known by name, and change nothing."""
    app = create_app(Settings(data=tmp_path))
    shown = {(method.upper(), path) for path, operations in app.openapi()["paths"].items() for method in operations}
    listed = [entry for router in app.complete() for entry in router.routes] + [r for r in app.routes if hasattr(r, "path")]
    for entry in listed:
        if entry.path.startswith("/web"):
            continue
        path = re.sub(r":\w+}", "}", entry.path)  # {id:path}
        for method in entry.methods - {"HEAD"}:
            assert (method, path) in shown or (method == "GET" and path in PAGES), f"{method} {path}"


def test_the_matrix_notices_what_it_cannot_judge(tmp_path: Path) -> None:
    document = create_app(Settings(data=tmp_path)).openapi()
    path = "/v1/sessions/{id}/turns"

    def changed(**access: Any) -> dict[str, Any]:
        other = copy.deepcopy(document)
        other["paths"][path]["post"]["x-access"].update(access)
        return other

    other = copy.deepcopy(document)
    del other["paths"][path]["post"]["x-access"]
    for broken in (
        other,
        changed(roles=["king"]),
        changed(scope="all"),
        changed(owner=""),
        changed(owner="house"),
        changed(roles=[]),
    ):
        with pytest.raises(AssertionError):
            routes(broken)
    route = next(r for r in routes(document) if r.path == path)
    bodies = copy.deepcopy(document)
    bodies["components"]["schemas"]["Message"]["properties"]["text"]["pattern"] = "^(?!)$"
    with pytest.raises(Unfilled):
        Filler(bodies).request(route, "s")


def test_the_matrix_finds_a_route_that_forgets_to_ask(tmp_path: Path) -> None:
    """A route whose document promises more than its code keeps."""
    with client(tmp_path, sample=False, rates=FREE, public="http://hall.example.gov.cn") as found:
        app = found.app
        assert isinstance(app, Application)

        @app.get("/v1/open", openapi_extra={"x-access": {"roles": ["clerk"], "scope": "admin", "owner": ""}})
        async def everybody() -> dict[str, str]:
            return {}

        @app.get(
            "/v1/sessions/{id}/open", openapi_extra={"x-access": {"roles": ["clerk"], "scope": "chat", "owner": "session"}}
        )
        async def anyone(id: str) -> dict[str, str]:
            return {}

        app.openapi_schema = None
        problems = wrong(found, ("anonymous", "account clerk"))
    assert problems == [
        "GET /v1/open as anonymous: let in, not unauthenticated",
        "GET /v1/sessions/{id}/open as anonymous of another: let in, not unauthenticated",
        "GET /v1/sessions/{id}/open as account clerk of another: let in, not not_found",
    ]


def test_a_route_for_this_machine(tmp_path: Path) -> None:
    for settings, expected in (({}, [200, 200, 200]), (FAR, [401, 200, 403])):
        with client(tmp_path, sample=False, **settings) as found:  # type: ignore[arg-type]
            app = found.app
            assert isinstance(app, Application)

            @app.get("/figures", **allow("administrator", scope="admin", local=True))
            async def figures() -> dict[str, str]:
                return {}

            whole = [caller(portal_of(found), kind) for kind in ("anonymous", "key admin", "key chat")]
            assert [found.get("/figures", headers=who.headers).status_code for who in whole] == expected


# ---- logins ----------------------------------------------------------------------------------------------------------


def test_a_login_begins_ends_and_is_kept_as_a_digest(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account = account_of(portal, "clerk", name="wang.fang")
        assert found.get("/v1/me").json()["kind"] == "anonymous"
        response = login(found, "wang.fang")
        assert response.status_code == 200 and response.json() == {
            "roles": ["citizen", "clerk"],
            "must_change": False,
            "attached": False,
        }
        cookie = response.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie and "Domain" not in cookie
        given = found.cookies[COOKIE]
        me = found.get("/v1/me").json()
        assert (me["kind"], me["name"], me["roles"]) == ("account", "wang.fang", ["citizen", "clerk"])
        with portal.database.read() as connection:
            kept = [str(row) for name in ("logins", "accounts") for row in connection.execute(sa.select(tables()[name]))]
        assert not any(given in row or PASSWORD in row for row in kept)
        assert any("$argon2id$" in row for row in kept)
        assert found.post("/v1/logout", headers=token(found)).status_code == 204
        assert COOKIE not in found.cookies
        assert found.post("/v1/sessions", headers={"Cookie": f"{COOKIE}={given}"}).status_code == 401  # not merely forgotten
        assert portal.accounts.find(account.id) is not None


def test_a_login_ends_unused_and_when_it_is_old(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, login_idle=600, login_life=3600, **FAR) as found:
        portal = portal_of(found)
        account_of(portal, "citizen", name="li.wei")
        begin = utc()

        def after(seconds: int) -> int:
            portal.clock = lambda: begin + timedelta(seconds=seconds)
            return found.post("/v1/sessions", headers=page).status_code

        portal.clock = lambda: begin
        login(found, "li.wei")
        page = token(found)
        assert [after(n) for n in (500, 1000, 1500, 2000)] == [201] * 4  # used all the time
        assert after(2700) == 401  # not for more than ten minutes
        portal.clock = lambda: begin
        login(found, "li.wei")
        page = token(found)
        assert [after(n) for n in range(500, 3501, 500)] == [201] * 7
        assert after(3601) == 401  # an hour old
        portal.clock = lambda: begin
        login(found, "li.wei")
        page = token(found)
        forged = found.cookies[COOKIE][:-1] + "_"
        assert after(0) == 201
        found.cookies.clear()
        found.cookies.set(COOKIE, forged)
        assert after(0) == 401


def test_nobody_can_plant_a_login(tmp_path: Path) -> None:
    """Session fixation: the token that a browser had before is worth nothing after the login, and never becomes another's."""
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account_of(portal, "citizen", name="attacker")
        account_of(portal, "citizen", name="victim")
        login(found, "attacker")
        planted = found.cookies[COOKIE]
        login(found, "victim")
        assert found.cookies[COOKIE] != planted
        assert found.get("/v1/me").json()["name"] == "victim"
        found.cookies.clear()
        found.cookies.set(COOKIE, planted)
        assert found.get("/v1/me").json()["kind"] == "anonymous"


def test_a_new_password_ends_the_other_logins(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        account_of(portal_of(found), "citizen", name="zhao.min")
        login(found, "zhao.min")
        elsewhere = found.cookies[COOKIE]
        found.cookies.clear()
        login(found, "zhao.min")
        here = found.cookies[COOKIE]
        for new, ok in (
            ("short-1A", False),
            ("aaaaaaaaaaaa", False),
            ("Zhao.Min-2026", False),
            (PASSWORD, False),
            ("换一个更长的口令 2026 Ab", True),
        ):
            response = found.post("/v1/me/password", json={"old": PASSWORD, "new": new}, headers=token(found))
            assert (response.status_code == 204) is ok, response.text
        assert found.cookies[COOKIE] not in (here, elsewhere)
        assert found.get("/v1/me").json()["name"] == "zhao.min"
        for old in (here, elsewhere):
            assert found.post("/v1/sessions", headers={"Cookie": f"{COOKIE}={old}"}).status_code == 401
        found.cookies.clear()
        assert login(found, "zhao.min").status_code == 401
        assert login(found, "zhao.min", "换一个更长的口令 2026 Ab").status_code == 200
        wrong_old = found.post("/v1/me/password", json={"old": "x", "new": "Another-one-88"}, headers=token(found))
        assert wrong_old.status_code == 422 and wrong_old.json()["error"]["fields"] == ["old"]


def test_wrong_passwords_make_the_next_try_wait_longer_and_longer(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account_of(portal, "citizen", name="sun.li")
        now = utc()
        portal.clock = lambda: now
        for name in ("sun.li", "nobody.here"):  # one who exists and one who does not: no difference to be seen
            assert [login(found, name, "x").status_code for _ in range(5)] == [401] * 5
            waits = []
            for _ in range(6):
                response = login(found, name)
                assert (response.status_code, code(response)) == (423, "locked")
                waits.append(int(response.headers["Retry-After"]))
                now += timedelta(seconds=waits[-1])
                if len(waits) < 6:
                    assert login(found, name, "x").status_code == 401
            assert waits[0] < 35 and all(a < b for a, b in itertools.pairwise(waits) if b < MOST)
            assert waits[-1] <= MOST
        assert login(found, "sun.li").status_code == 200  # the wait is over
        assert [login(found, "sun.li", "x").status_code for _ in range(5)] == [401] * 5  # and all is forgotten
        with portal.database.read() as connection:
            kept = " ".join(str(row) for row in connection.execute(sa.select(tables()["attempts"])))
        assert "sun.li" not in kept and "nobody" not in kept  # what was typed as a name may be a password


def test_many_tries_at_once_are_counted_before_they_are_looked_at(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account_of(portal, "citizen", name="many")
        tried: list[str] = []

        def attempt() -> None:
            try:
                portal.accounts.login("many", "guess", utc())
            except PortalError as error:
                tried.append(error.code)

        threads = [threading.Thread(target=attempt) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(tried) == ["locked"] * 7 + ["unauthenticated"] * 5


def test_an_unknown_name_costs_as_much_as_a_known_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        account_of(portal_of(found), "citizen", name="known")
        login(found, "unknown", "x")  # once: it makes the hash that is compared with
        done: list[str] = []
        real = PasswordHasher.verify
        monkeypatch.setattr(PasswordHasher, "verify", lambda self, h, p: done.append(h.split("$")[3]) or real(self, h, p))
        said = [login(found, name, "x") for name in ("known", "unknown")]
        assert [r.status_code for r in said] == [401, 401] and len(done) == 2 and done[0] == done[1]
        errors = [{**r.json()["error"], "request_id": ""} for r in said]
        assert errors[0] == errors[1]


def test_old_parameters_are_renewed_at_login(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account = account_of(portal, "citizen", name="old")
        weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
        portal.accounts._write(account.id, password=weak)
        assert login(found, "old").status_code == 200
        with portal.database.read() as connection:
            kept = connection.execute(sa.text("SELECT password FROM portal_accounts WHERE name = 'old'")).scalar()
        assert "m=19456,t=2,p=1" in str(kept)
        assert passwords.check(str(kept), PASSWORD) == (True, False)


def test_who_logs_in_keeps_what_was_begun_as_a_visitor(tmp_path: Path) -> None:
    with client(tmp_path, rates=FREE) as found:
        account_of(portal_of(found), "citizen", name="chen")
        found.get("/")
        session = found.post("/v1/sessions", headers=token(found)).json()["id"]
        login(found, "chen")
        assert found.get(f"/v1/sessions/{session}").status_code == 200
        own = found.post("/v1/sessions", headers=token(found)).json()["id"]
        assert found.post("/v1/logout", headers=token(found)).status_code == 204
        found.get("/")  # the next one at the same machine
        assert [found.get(f"/v1/sessions/{id}").status_code for id in (session, own)] == [404, 404]


def begun_as_a_visitor(found: TestClient) -> str:
    """A visitor who has talked, asked for a person, rated, and told something; the conversation's number."""
    found.get("/")
    head = token(found)
    session = str(found.post("/v1/sessions", headers=head).json()["id"])
    said = found.post(f"/v1/sessions/{session}/turns", json={"text": "低保要哪些材料哟"}, headers=head)
    assert said.status_code == 200, said.text
    assert found.post(f"/v1/sessions/{session}/turns/1/feedback", json={"rating": "up"}, headers=head).status_code == 204
    assert found.post(f"/v1/sessions/{session}/handoff", json={"reason": "想问人"}, headers=head).is_success
    assert found.post("/v1/me/consent", json={"purpose": "profile", "version": "1"}, headers=head).is_success
    assert found.put("/v1/me/profile", json={"values": {"employment": "失业"}}, headers=head).is_success
    return session


def rows(portal: Any) -> dict[str, int]:
    """How much of people the database holds."""
    names = ("sessions", "turns", "people", "profile_values", "consents", "portal_feedback", "portal_handoffs")
    with portal.database.read() as connection:
        return {name: connection.execute(sa.text(f"SELECT COUNT(*) FROM {name}")).scalar() for name in names}


def test_what_a_visitor_left_is_the_accounts_to_see_and_to_erase(tmp_path: Path) -> None:
    with client(tmp_path, rates=FREE) as found:
        portal = portal_of(found)
        account = account_of(portal, "citizen", name="chen")
        session = begun_as_a_visitor(found)
        assert login(found, "chen").json()["attached"] is True
        with portal.database.read() as connection:
            told = connection.execute(sa.text("SELECT object, detail FROM portal_audit WHERE action = 'person.attach'")).all()
        assert not told or account.id not in str(told)
        kept = found.get("/v1/me/export").json()
        assert [turn["message"] for turn in kept["sessions"][0]["turns"]] == ["低保要哪些材料哟"]
        assert kept["profile"] == {"employment": "失业"} and kept["handoffs"][0]["reason"] == "想问人" and kept["feedback"]
        assert found.get(f"/v1/sessions/{session}").status_code == 200, "it can be gone on with"
        assert login(found, "chen").json()["attached"] is False
        erased = found.delete("/v1/me", headers=token(found)).json()["erased"]
        assert erased["sessions"] == 1 and erased["handoffs"] == 1 and erased["feedback"] == 1
        assert set(rows(portal).values()) == {0}, rows(portal)


def test_a_visitor_who_does_not_want_it_is_left_behind(tmp_path: Path) -> None:
    with client(tmp_path, rates=FREE) as found:
        portal = portal_of(found)
        account_of(portal, "citizen", name="chen")
        session = begun_as_a_visitor(found)
        given = found.post("/v1/login", json={"name": "chen", "password": PASSWORD, "attach": False})
        assert given.json()["attached"] is False
        kept = found.get("/v1/me/export").json()
        assert not kept["sessions"] and not kept["profile"] and not kept["handoffs"]
        assert found.get(f"/v1/sessions/{session}").status_code == 404
        assert rows(portal)["sessions"] == 1  # until retention erases it


def test_what_the_law_keeps_stays_when_a_person_is_erased(tmp_path: Path) -> None:
    with client(tmp_path, rates=FREE, retention={"submissions_kept": "100"}) as found:
        portal = portal_of(found)
        found.get("/")
        head = token(found)
        session = found.post("/v1/sessions", headers=head).json()["id"]
        assert found.post(f"/v1/sessions/{session}/turns", json={"text": "我想申请低保"}, headers=head).is_success
        handed = Submission("once", "A", "1", "dibao", "1", {"receipt": "20260302-1"})
        kept = portal.hall.sessions.load(session)
        portal.hall.sessions.save(session, kept.version, kept.state, kept.values, now=utc(), submission=handed)
        gone = found.delete("/v1/me", headers=head).json()
        assert gone["kept"]["submissions"]["rows"] == 1 and "100天" in gone["kept"]["submissions"]["why"]
        assert gone["erased"]["sessions"] == 1 and "submissions" not in gone["erased"]


def test_ownership_is_signed() -> None:
    secret, me, other = b"s" * 32, Principal("account:1", frozenset()), Principal("account:2", frozenset())
    session = new_session(secret, me)
    assert owned(secret, session, me) == session
    assert owned(secret, session, Principal("account:3", frozenset(), aliases=("visitor:9", "account:1"))) == session
    for forged in (session[:-1], session + "A", session.partition(".")[0], "", ".", "x.y", "é.ü"):
        with pytest.raises(PortalError):
            owned(secret, forged, me)
    with pytest.raises(PortalError):
        owned(secret, session, other)
    with pytest.raises(PortalError):
        owned(b"t" * 32, session, me)


# ---- the first administrator ------------------------------------------------------------------------------------------


def test_first_start_tells_a_password_for_one_time(tmp_path: Path) -> None:
    with serving(tmp_path) as base:
        printed = (tmp_path / "serve.log").read_text("utf-8")
    told = re.findall(r"one-time password: (\S+)", printed)
    assert len(told) == 1 and "administrator: admin" in printed
    assert not any(told[0].encode() in p.read_bytes() for p in (tmp_path / "portal").rglob("*") if p.is_file())
    with serving(tmp_path) as base:
        assert base and "password" not in (tmp_path / "serve.log").read_text("utf-8")  # once
    with client(tmp_path, rates=FREE) as found:
        response = login(found, "admin", told[0])
        assert response.json() == {"roles": ["administrator", "citizen"], "must_change": True, "attached": False}
        page = token(found)
        assert found.get("/v1/me").json()["must_change"] is True
        for path in ("/v1/admin/accounts", "/v1/admin/keys"):
            assert (found.get(path).status_code, code(found.get(path))) == (403, "must_change")
        assert code(found.post("/v1/sessions", headers=page)) == "must_change"
        same = found.post("/v1/me/password", json={"old": told[0], "new": told[0]}, headers=page)
        assert same.status_code == 422
        assert found.post("/v1/me/password", json={"old": told[0], "new": PASSWORD}, headers=page).status_code == 204
        assert found.get("/v1/admin/accounts").status_code == 200
        found.cookies.clear()
        assert login(found, "admin", told[0]).status_code == 401


def test_administering_accounts(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account_of(portal, "administrator", name="boss")
        login(found, "boss")
        page = token(found)
        first = next(a for a in portal.accounts.all() if a.name == "admin")
        boss = next(a for a in portal.accounts.all() if a.name == "boss")
        made = found.post("/v1/admin/accounts", json={"name": "liu.yang", "roles": ["clerk"]}, headers=page)
        assert made.status_code == 201 and made.json()["account"]["must_change"]
        again = found.post("/v1/admin/accounts", json={"name": "liu.yang", "roles": []}, headers=page)
        assert (again.status_code, code(again)) == (409, "conflict")
        id = made.json()["account"]["id"]
        with TestClient(found.app, base_url=str(found.base_url), client=("127.0.0.2", 1)) as clerk:
            pass  # its end closes the portal: a second client of this application must not end it
        portal = found.app.state.portal = type(portal)(portal.settings)  # type: ignore[attr-defined]
        clerk = TestClient(found.app, base_url=str(found.base_url))
        assert login(clerk, "liu.yang", made.json()["password"]).status_code == 200
        changed = found.patch(f"/v1/admin/accounts/{id}", json={"roles": ["auditor"]}, headers=page)
        assert changed.json()["roles"] == ["auditor", "citizen"]
        assert clerk.get("/v1/me").json()["kind"] == "anonymous"  # what one may do changed: log in again
        reset = found.post(f"/v1/admin/accounts/{id}/password", headers=page).json()
        assert login(clerk, "liu.yang", made.json()["password"]).status_code == 401
        assert login(clerk, "liu.yang", reset["password"]).status_code == 200
        found.patch(f"/v1/admin/accounts/{id}", json={"disabled": True}, headers=page)
        assert clerk.get("/v1/me").json()["kind"] == "anonymous"
        assert login(clerk, "liu.yang", reset["password"]).status_code == 401
        assert found.patch(f"/v1/admin/accounts/{first.id}", json={"disabled": True}, headers=page).status_code == 200
        for last in ({"roles": ["clerk"]}, {"disabled": True}):
            refused = found.patch(f"/v1/admin/accounts/{boss.id}", json=last, headers=page)
            assert (refused.status_code, code(refused)) == (409, "conflict")
        assert "password" not in json.dumps(found.get("/v1/admin/accounts").json())
        portal.close()


def test_accounts_and_keys_by_command(tmp_path: Path) -> None:
    def govlm(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "govlm", "portal", *words], capture_output=True, text=True, check=False)

    data = ("--data", str(tmp_path / "portal"))
    nothing = govlm("account", "list", *data)
    assert nothing.returncode == 2 and "holds no portal" in nothing.stderr
    with client(tmp_path, sample=False, **FAR) as found:
        made = json.loads(govlm("account", "create", "he.jing", "--role", "clerk", "--json", *data).stdout)
        assert login(found, "he.jing", made["password"]).json()["must_change"] is True
        reset = re.search(r": (\S+)$", govlm("account", "reset", "he.jing", *data).stdout)
        assert reset and found.get("/v1/me").json()["kind"] == "anonymous"
        assert login(found, "he.jing", reset[1]).status_code == 200
        found.cookies.clear()
        key = json.loads(govlm("key", "make", "oa", "--scope", "chat", "--account", "he.jing", "--json", *data).stdout)
        bearer = {"Authorization": f"Bearer {key['key']}"}
        assert found.post("/v1/sessions", headers=bearer).status_code == 201
        listed = govlm("key", "list", *data).stdout
        assert key["id"] in listed and "he.jing" in listed and key["key"] not in listed
        assert govlm("key", "revoke", key["id"], *data).returncode == 0
        assert found.post("/v1/sessions", headers=bearer).status_code == 401
        for words, said in (
            (("account", "create", "he.jing"), "conflict"),
            (("account", "reset", "no.one"), "no account"),
            (("key", "make", "x", "--scope", "chat", "--account", "no.one"), "no account"),
            (("key", "revoke", "none"), "not_found"),
        ):
            result = govlm(*words, *data)
            assert result.returncode == 2 and said in result.stderr, result.stderr


# ---- API keys --------------------------------------------------------------------------------------------------------


def test_keys_act_within_their_scopes_until_they_end(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        boss = account_of(portal, "administrator", name="boss")
        now = portal.clock()

        def status(text: str, path: str = "/v1/admin/keys") -> int:
            return found.get(path, headers={"Authorization": f"Bearer {text}"}).status_code

        admin, text = portal.keys.create("a", ["admin"], boss.id, now)
        chat, other = portal.keys.create("c", ["chat"], boss.id, now, 1)
        assert text.startswith("govlm_") and len(text) > 40
        assert (status(text), status(other)) == (200, 403)
        assert [status(t) for t in (text[:-1], text + "A", "govlm_", "eyJhbGciOiJub25lIn0.e30.", text.upper())] == [401] * 5
        assert found.get("/v1/admin/keys", headers={"Authorization": f"Basic {text}"}).status_code == 401
        more = {"Authorization": f"Bearer {text}"}
        wider = found.post("/v1/admin/keys", json={"name": "x", "scopes": ["admin", "chat"]}, headers=more)
        assert (wider.status_code, wider.json()["error"]["fields"]) == (422, ["scopes"])
        made = found.post("/v1/admin/keys", json={"name": "x", "scopes": ["admin"], "days": 30}, headers=more)
        assert made.status_code == 201 and status(made.json()["text"]) == 200
        assert made.json()["text"] not in found.get("/v1/admin/keys", headers=more).text
        with portal.database.read() as connection:
            kept = str(list(connection.execute(sa.select(tables()["keys"]))))
        assert text not in kept and text[6:] not in kept
        portal.clock = lambda: now + timedelta(days=2)
        assert found.post("/v1/sessions", headers={"Authorization": f"Bearer {other}"}).status_code == 401  # expired
        assert (
            found.delete(f"/v1/admin/keys/{admin.id}", headers={"Authorization": f"Bearer {made.json()['text']}"}).status_code
            == 204
        )
        assert status(text) == 401
        account_of(portal, "administrator", name="second")
        portal.accounts.update(boss.id, portal.clock(), roles=["clerk"])
        assert status(made.json()["text"]) == 403  # it acts for who made it, as they are now
        portal.accounts.update(boss.id, portal.clock(), disabled=True)
        assert status(made.json()["text"]) == 401
        assert chat.expires and not admin.expires


def test_a_bad_key_is_refused_on_loopback_too(tmp_path: Path) -> None:
    with client(tmp_path, sample=False) as found:
        assert found.post("/v1/sessions", headers={"Authorization": "Bearer govlm_nonsense"}).status_code == 401
        assert (
            found.post("/v1/sessions", headers={"Authorization": "Bearer none"}).status_code == 201
        )  # clients that must send one


# ---- other sites' requests -------------------------------------------------------------------------------------------


def test_a_foreign_page_changes_nothing(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, rates=FREE) as found:
        own = str(found.base_url).rstrip("/")

        def start(**headers: str) -> int:
            return found.post("/v1/sessions", headers={k.replace("_", "-"): v for k, v in headers.items()}).status_code

        # a program on this machine, and a foreign page in its browser: no cookie is needed here, so the page must be known
        assert start() == start(Origin=own) == start(Sec_Fetch_Site="same-origin") == 201
        for foreign in (
            "https://evil.example",
            "null",
            "http://127.0.0.1:9999",
            own + ".evil.example",
            "http://localhost:8000",
        ):
            assert start(Origin=foreign) == 403, foreign
            assert found.post("/v1/login", json={"name": "a", "password": "b"}, headers={"Origin": foreign}).status_code == 403
        assert start(Sec_Fetch_Site="cross-site") == start(Sec_Fetch_Site="same-site") == 403
        # one known by a cookie shows what only a page of ours can read
        found.get("/")
        right = token(found)[csrf.HEADER]
        assert start() == start(X_CSRF_Token="") == start(X_CSRF_Token=right[:-1]) == 403
        assert found.post("/v1/sessions", headers={csrf.HEADER.encode(): "é".encode()}).status_code == 403
        assert start(X_CSRF_Token=right, Origin="https://evil.example") == 403
        assert start(X_CSRF_Token=right) == start(X_CSRF_Token=right, Origin=own) == 201
        visitor = found.cookies[VISITOR]
        account_of(portal_of(found), "citizen", name="gao")
        login(found, "gao")
        assert start(X_CSRF_Token=right) == 403  # the visitor's, not the login's
        mine = token(found)[csrf.HEADER]
        assert start(X_CSRF_Token=mine) == 201
        login(found, "gao")
        assert start(X_CSRF_Token=mine) == 403  # nor another login's
        found.cookies.clear()
        found.cookies.set(VISITOR, visitor[:-1] + ("A" if visitor[-1] != "A" else "B"))
        assert found.get("/v1/me").json()["kind"] == "local"  # a forged cookie is none
    assert "Access-Control-Allow-Origin" not in found.headers


def test_json_in_a_form_is_not_taken(tmp_path: Path) -> None:
    with client(tmp_path, sample=False) as found:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            response = found.post("/v1/login", content=b'{"name":"a","password":"b"}', headers={"Content-Type": kind})
            assert response.status_code == 422


@pytest.mark.parametrize(
    ("settings", "good", "bad"),
    [
        ({}, ("127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "127.0.0.2"), ("evil.example", "evil.example:8000", "10.0.0.1", "")),
        ({"hosts": ("hall.example.gov.cn",)}, ("hall.example.gov.cn", "127.0.0.1:8000"), ("evil.example", "hall.example.gov.cn.evil.example")),
        ({"public": "https://hall.example.gov.cn"}, ("hall.example.gov.cn",), ("evil.example",)),
        ({"host": "0.0.0.0"}, ("any.example", "10.1.2.3:8000"), ("",)),
        ({"host": "0.0.0.0", "hosts": ("a.example",)}, ("a.example:8000", "10.1.2.3:8000"), ("b.example",)),
    ],
)  # fmt: skip
def test_other_names_of_this_machine_are_refused(
    tmp_path: Path, settings: dict[str, Any], good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    """DNS rebinding: a foreign name that leads to this machine would make a foreign page the portal's own."""
    with client(tmp_path, sample=False, **settings) as found:
        assert [found.get("/healthz", headers={"Host": host}).status_code for host in good] == [200] * len(good)
        for host in bad:
            response = found.get("/healthz", headers={"Host": host})
            assert (response.status_code, code(response)) == (400, "bad_request")


def test_what_a_proxy_passes_on_is_not_from_this_machine(tmp_path: Path) -> None:
    """A portal on loopback behind a proxy that it was not told of must not take all the world for a program on this machine."""
    with client(tmp_path, sample=False) as found:
        assert found.post("/v1/sessions").status_code == 201
        for name in ("X-Forwarded-For", "X-Real-IP", "Via", "Forwarded"):
            assert found.post("/v1/sessions", headers={name: "127.0.0.1"}).status_code == 401
    for told in ({"hosts": ("a.example",)}, {"public": "https://a.example"}, {"proxies": ("127.0.0.1",)}):
        assert not Settings(**told).loopback  # type: ignore[arg-type]
    assert Settings().loopback and Settings(host="::1").loopback and not Settings(host="0.0.0.0").loopback


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_rates_are_limited_for_each_person_each_key_and_each_address(tmp_path: Path) -> None:
    rates = {"login": "3/minute", "chat": "2/minute", "key": "4/minute", "address": "9/minute"}
    with client(tmp_path, sample=False, public="http://hall.example.gov.cn", rates=rates, proxies=("127.0.0.1",)) as found:
        portal = portal_of(found)
        boss = account_of(portal, "administrator", name="boss")

        def start(who: Caller, address: str) -> int:
            found.cookies.clear()
            return found.post("/v1/sessions", headers={**who.headers, "X-Forwarded-For": address}).status_code

        one, two = caller(portal, "account citizen"), caller(portal, "account citizen")
        assert [start(one, "192.0.2.1") for _ in range(3)] == [201, 201, 429]
        assert start(two, "192.0.2.1") == 201  # another person
        text = portal.keys.create("k", ["chat"], boss.id, portal.clock())[1]
        key = Caller({"Authorization": f"Bearer {text}"}, None)
        assert [start(key, "192.0.2.1") for _ in range(5)] == [201] * 4 + [429]  # a system speaks for many persons
        refused = found.post("/v1/sessions", headers={**key.headers})
        assert 1 <= int(refused.headers["Retry-After"]) <= 61 and code(refused) == "too_many_requests"
        many = [start(caller(portal, "account citizen"), "192.0.2.7") for _ in range(11)]
        assert many == [201] * 9 + [429] * 2  # many persons at one address
        tries = [
            found.post("/v1/login", json={"name": f"n{i}", "password": "x"}, headers={"X-Forwarded-For": "192.0.2.9"})
            for i in range(4)
        ]
        assert [r.status_code for r in tries] == [401, 401, 401, 429]
        # what the client itself wrote before the proxy's word does not help
        lie = found.post(
            "/v1/login", json={"name": "n", "password": "x"}, headers={"X-Forwarded-For": "203.0.113.5, 192.0.2.9"}
        )
        assert lie.status_code == 429


def test_workers_count_together(tmp_path: Path) -> None:
    """Two of them, each on a thread of its own; what they refuse does not depend on which is asked."""
    fresh_file(tmp_path)
    workers = [Limits({"chat": "30/minute", "login": "100/hour"}, Counters(tmp_path, b"seed")) for _ in range(2)]
    taken: list[str] = []

    def ask(limits: Limits, kind: str, who: str) -> None:
        for _ in range(40):
            with contextlib.suppress(PortalError):
                limits.hit(kind, who)
                taken.append(f"{kind} {who}")

    asking = [("chat", "one"), ("chat", "two"), ("login", "one")]
    threads = [threading.Thread(target=ask, args=(limits, *what)) for limits in workers for what in asking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: taken.count(name) for name in taken} == {"chat one": 30, "chat two": 30, "login one": 80}
    with pytest.raises(PortalError) as refused:
        workers[1].hit("chat", "one")
    assert refused.value.code == "too_many_requests" and 1 <= refused.value.retry_after <= 61
    assert b"one" not in (tmp_path / "limits").read_bytes()


def test_counters_slide_and_do_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [6000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    counters = Counters(None, b"seed")
    take = functools.partial(counters.take, "k", 10, 60)
    assert [take() for _ in range(10)] == [0.0] * 10 and take() == 60.0
    now[0] += 60.5  # of the window before, all but a half second still counts
    assert take() == 0.0
    left = take()
    assert 0 < left <= 6.0
    now[0] += left + 0.01
    assert take() == 0.0
    now[0] += 29.5 - left  # half of it still counts
    assert [bool(take()) for _ in range(5)] == [False] * 4 + [True]
    now[0] += 600
    assert [bool(take()) for _ in range(11)] == [False] * 10 + [True]
    for number in range(100_000):  # more than there is room for
        assert not counters.take(f"other {number}", 1, 60)
    now[0] += 1
    assert [bool(counters.take("late", 1, 60)) for _ in range(2)] == [False, True]


def test_two_workers_limit_as_one(tmp_path: Path) -> None:
    rates = {"GOVLM_PORTAL_RATES": "chat=20/hour"}
    with serving(tmp_path, workers=2, environment=rates) as base, httpx.Client(base_url=base, trust_env=False) as page:
        page.get("/")
        head = {csrf.HEADER: page.get("/v1/me").json()["csrf"]}
        cookies = dict(page.cookies)
        codes = [
            httpx.post(f"{base}/v1/sessions", headers=head, cookies=cookies, trust_env=False).status_code for _ in range(40)
        ]  # each on a connection of its own, that either worker may take
    assert codes == [201] * 20 + [429] * 20


def test_addresses_are_believed_from_known_proxies_only() -> None:
    from starlette.datastructures import Headers

    def address(peer: str, *lines: str, proxies: tuple[str, ...] = ("10.0.0.0/8", "2001:db8::1")) -> str:
        return Proxies(proxies).address(peer, Headers(raw=[(b"x-forwarded-for", line.encode()) for line in lines]))

    assert address("192.0.2.1", "1.2.3.4") == "192.0.2.1"
    assert address("10.0.0.1", "1.2.3.4") == "1.2.3.4"
    assert address("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2") == "1.2.3.4"
    assert address("10.0.0.1", "6.6.6.6", "1.2.3.4") == "1.2.3.4"
    assert address("10.0.0.1") == "10.0.0.1"
    assert address("2001:db8::1", "2001:db8:5::77") == "2001:db8:5::/64"
    assert address("10.0.0.1", "x" * 500) == "x" * 64
    with pytest.raises(SettingsError, match="proxies"):
        Settings(proxies=("nginx",))
    with pytest.raises(SettingsError, match="rates"):
        Settings(rates={"chat-turns": "1/minute"})


def test_the_program_on_this_machine_is_not_limited_but_its_logins_are(tmp_path: Path) -> None:
    rates = {**dict.fromkeys(RATES, "2/minute")}
    with client(tmp_path, sample=False, rates=rates) as found:
        assert [found.post("/v1/sessions").status_code for _ in range(6)] == [201] * 6
        assert [login(found, "x", "y").status_code for _ in range(3)] == [401, 401, 429]
        found.get("/")
        page = token(found)
        assert [found.post("/v1/sessions", headers=page).status_code for _ in range(3)] == [201, 201, 429]


# ---- bodies and headers ----------------------------------------------------------------------------------------------


def test_bodies_are_cut_off(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, body=2000, upload=20_000) as found:
        session = found.post("/v1/sessions").json()["id"]

        def sent(size: int, chunked: bool, path: str = f"/v1/sessions/{session}/turns", **headers: str) -> int:
            body = b'{"text": "' + b"x" * size + b'"}'
            content = (body[i : i + 500] for i in range(0, len(body), 500)) if chunked else body
            response = found.post(path, content=content, headers={"Content-Type": "application/json", **headers})  # type: ignore[arg-type]
            if response.status_code == 413:
                assert code(response) == "too_large" and response.headers["X-Content-Type-Options"] == "nosniff"
            return response.status_code

        for chunked in (False, True):
            assert sent(3000, chunked) == 413
            assert sent(1000, chunked, path="/v1/login") == 422
            assert sent(10_000, chunked, path="/v1/admin/imports") in (403, 413)
        assert sent(10_000, False, path="/v1/admin/imports") == 413  # nobody known: no large file
        assert sent(30_000, False, path="/v1/admin/imports", Authorization="Bearer x") == 413
        assert sent(10_000, False, path="/v1/admin/imports", Authorization="Bearer x") != 413
        for length in ("-1", "9" * 400, "1e3", "١"):
            response = found.post("/v1/login", content=b"", headers={"Content-Length": length.encode()})  # type: ignore[dict-item]
            assert response.status_code in (400, 413), length


def test_a_chunked_body_that_does_not_end_is_refused_by_a_real_server(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"GOVLM_PORTAL_BODY": "100000"}) as base:
        where = urlsplit(base)
        assert where.hostname and where.port
        with socket.create_connection((where.hostname, where.port), timeout=60) as line:
            line.sendall(
                b"POST /v1/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            try:
                for _ in range(200):  # twice as much as it may be, and more
                    line.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
            except OSError:
                pass
            answer = http.client.HTTPResponse(line)
            answer.begin()
            assert answer.status == 413
            assert json.loads(answer.read())["error"]["code"] == "too_large"


def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    with client(
        tmp_path, sample=False, body=1000, origins=("https://www.example.gov.cn",), rates={"login": "1/minute"}
    ) as found:
        app = found.app
        assert isinstance(app, Application)

        @app.get("/v1/breaks", include_in_schema=False)
        async def breaks() -> None:
            raise RuntimeError("as unforeseen")

        login(found, "x", "y")
        for path in ("/", "/widget", "/login", "/console", "/web/app.js"):
            # a page from the browser's cache would bring no cookie, and its visitor be nobody, the same nobody as others
            assert found.get(path).headers["Cache-Control"] == "no-cache", path
        found.cookies.clear()
        answers = {
            200: found.get("/healthz"),
            201: found.post("/v1/sessions"),
            400: found.get("/", headers={"Host": "evil.example"}),
            401: found.post("/v1/sessions", headers={"Authorization": "Bearer govlm_x"}),
            403: found.get("/v1/admin/keys"),
            404: found.get("/v1/none"),
            405: found.put("/healthz"),
            413: found.post("/v1/login", content=b"x" * 2000),
            422: found.post("/v1/sessions/x/turns", json={}),
            429: login(found, "x", "y"),
            500: found.get("/v1/breaks"),
        }
        for status, answer in answers.items():
            headers = answer.headers
            assert answer.status_code == status, answer.text
            assert "default-src 'self'" in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"] and headers["X-Frame-Options"] == "DENY"
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"
            assert re.fullmatch("[0-9a-f]{16}", headers["X-Request-Id"])
            assert "Strict-Transport-Security" not in headers and "server" not in headers
            if answer.request.url.path.startswith("/v1/"):
                assert headers["Cache-Control"] == "no-store"
            if status >= 400:
                assert answer.json()["error"]["request_id"] == headers["X-Request-Id"]
                assert answer.json()["error"]["code"] in MESSAGES
        assert "unforeseen" not in answers[500].text
        framed = found.get("/widget").headers
        assert "frame-ancestors https://www.example.gov.cn" in framed["Content-Security-Policy"]
        assert "X-Frame-Options" not in framed
        assert found.get("/widget.js").headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_behind_tls_cookies_stay_there(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, public="https://hall.example.gov.cn", rates=FREE) as found:
        account_of(portal_of(found), "citizen", name="xu")
        response = login(found, "xu")
        assert "Secure" in response.headers["set-cookie"]
        assert "max-age=" in response.headers["Strict-Transport-Security"]
        page = token(found)
        own, plain = {"Origin": "https://hall.example.gov.cn"}, {"Origin": "http://hall.example.gov.cn"}
        assert found.post("/v1/sessions", headers={**page, **own}).status_code == 201
        assert found.post("/v1/sessions", headers={**page, **plain}).status_code == 403  # who sits between may write that page


def test_a_known_proxy_tells_of_tls(tmp_path: Path) -> None:
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    body = {"name": "qian", "password": PASSWORD}
    with client(tmp_path, sample=False, hosts=("hall.example.gov.cn",), proxies=("127.0.0.1",), rates=FREE) as found:
        account_of(portal_of(found), "citizen", name="qian")
        near, far = found.post("/v1/login", json=body, headers=told), found.post("/v1/login", json=body)
        assert "Secure" in near.headers["set-cookie"] and "Strict-Transport-Security" in near.headers
        assert "Secure" not in far.headers["set-cookie"]
    with client(tmp_path, sample=False, hosts=("hall.example.gov.cn",), rates=FREE) as found:
        assert "Secure" not in found.post("/v1/login", json=body, headers=told).headers["set-cookie"]  # anybody could say so


@pytest.mark.parametrize("text", ["\x00", "\ud800", "' OR 1=1 --", "𠮷" * 60, "a" * 129, "%00", "\r\nSet-Cookie: x=y"])
def test_odd_texts_are_refused_or_wrong_never_a_fault(tmp_path: Path, text: str) -> None:
    with client(tmp_path, sample=False, rates=FREE) as found:
        content = json.dumps({"name": text, "password": text}).encode()
        response = found.post("/v1/login", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (401, 422), response.text
        portal = portal_of(found)
        who = caller(portal, "account administrator")
        for body in ({"name": text, "roles": [text]}, {"name": text, "roles": []}, {"name": text, "scopes": ["chat"]}):
            for path in ("/v1/admin/accounts", "/v1/admin/keys"):
                headers = {**who.headers, "Content-Type": "application/json"}
                assert found.post(path, content=json.dumps(body).encode(), headers=headers).status_code in (201, 422)


def test_a_password_is_the_same_however_it_was_typed(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        account_of(portal_of(found), "citizen", name="full", password="口令Ｒｉｇｈｔ-77")
        assert login(found, "full", "口令Right-77").status_code == 200


def test_an_erased_account_leaves_nothing(tmp_path: Path) -> None:
    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        account = account_of(portal, "citizen", name="gone.away")
        login(found, "gone.away")
        text = portal.keys.create("k", ["chat"], account.id, portal.clock())[1]
        portal.accounts.erase(account.id)
        assert found.get("/v1/me").json()["kind"] == "anonymous"
        assert found.post("/v1/sessions", headers={"Authorization": f"Bearer {text}"}).status_code == 401
        with portal.database.read() as connection:
            for name in ("accounts", "logins", "keys"):
                assert not any(account.id in str(row) for row in connection.execute(sa.select(tables()[name])))


def test_secrets_are_shown_nowhere() -> None:
    settings = Settings.from_environment(
        {"GOVLM_PORTAL_OIDC_DISCOVERY": "https://id.example/x", "GOVLM_PORTAL_OIDC_CLIENT": "hall", "GOVLM_PORTAL_OIDC_SECRET": "hush-hush",
         "GOVLM_PORTAL_PUBLIC": "https://hall.example.gov.cn", "GOVLM_PORTAL_RATES": "chat=5/minute;100/hour,login=", "GOVLM_PORTAL_PROXIES": "10.0.0.0/8, ::1"}
    )  # fmt: skip
    assert "hush-hush" not in repr(settings) and settings.oidc_secret == "hush-hush"
    assert (
        settings.rates["chat"] == "5/minute;100/hour"
        and settings.rates["login"] == ""
        and settings.proxies == ("10.0.0.0/8", "::1")
    )


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


def test_on_postgresql(tmp_path: Path, server: str) -> None:
    import psycopg

    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE portal_security")
    with client(tmp_path, sample=False, database=f"{server}/portal_security", **FAR) as found:
        portal = portal_of(found)
        boss = account_of(portal, "administrator", name="boss")
        assert login(found, "boss").status_code == 200
        page = token(found)
        assert found.post("/v1/admin/accounts", json={"name": "second", "roles": ["clerk"]}, headers=page).status_code == 201
        made = found.post("/v1/admin/keys", json={"name": "k", "scopes": ["chat"]}, headers=page).json()
        assert found.post("/v1/logout", headers=page).status_code == 204
        assert found.post("/v1/sessions", headers={"Authorization": f"Bearer {made['text']}"}).status_code == 201
        tried: list[str] = []

        def attempt() -> None:
            try:
                portal.accounts.login("second", "guess", utc())
            except PortalError as error:
                tried.append(error.code)

        threads = [threading.Thread(target=attempt) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(tried) == ["locked"] * 7 + ["unauthenticated"] * 5
        odd = caller(portal, "account administrator")
        for name in ("%00", "x"):
            assert found.delete(f"/v1/admin/keys/{name}", headers=odd.headers).status_code == 422
        assert portal.accounts.of_subject("https://id.example", "1", utc()) == portal.accounts.of_subject(
            "https://id.example", "1", utc()
        )
        with pytest.raises(PortalError):
            portal.accounts.create("boss", [], utc())
        for account in portal.accounts.all():
            if account.id != boss.id:
                portal.accounts.update(account.id, utc(), disabled=True)
        with pytest.raises(PortalError):
            portal.accounts.update(boss.id, utc(), disabled=True)


def test_requests_at_once_see_their_own_callers(tmp_path: Path) -> None:
    """Who asks is not kept anywhere between requests."""
    import httpx

    with client(tmp_path, sample=False, **FAR) as found:
        portal = portal_of(found)
        callers = [caller(portal, f"account {role}") for role in ROLES] * 5

        async def all_at_once() -> list[list[str]]:
            transport = httpx.ASGITransport(app=found.app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://hall.example.gov.cn") as many:
                answers = await asyncio.gather(*(many.get("/v1/me", headers=who.headers) for who in callers))
            return [answer.json()["roles"] for answer in answers]

        portal.gate = type(portal.gate)(4, 100)
        assert asyncio.run(all_at_once()) == [sorted(who.roles) for who in callers]
