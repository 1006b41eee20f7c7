"""Login at an OpenID Connect provider: the way there and back, and every answer that must not be believed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

import httpx
from fastapi.testclient import TestClient
from joserfc.jwk import RSAKey
from oidc_provider import CLIENT, SECRET, Provider, provider
from portal_server import client

from govlm.portal.security import oidc
from govlm.portal.security.access import VISITOR
from govlm.portal.security.csrf import HEADER
from govlm.portal.security.logins import COOKIE
from govlm.portal.settings import RATES, Settings, SettingsError

LOGIN, CALLBACK = "/v1/auth/oidc/login", "/v1/auth/oidc/callback"


@pytest.fixture
def there() -> Iterator[Provider]:
    with provider() as found:
        yield found


@pytest.fixture
def found(tmp_path: Path, there: Provider) -> Iterator[TestClient]:
    with client(
        tmp_path, sample=False, public="http://hall.example.gov.cn", oidc_discovery=f"{there.issuer}/.well-known/openid-configuration",
        oidc_client=CLIENT, oidc_secret=SECRET, rates=dict.fromkeys(RATES, ""),
    ) as made:  # fmt: skip
        yield made


def go(found: TestClient, then: str = "/") -> str:
    """To the provider and back: the path and query of the callback that the browser is sent to."""
    response = found.get(LOGIN, params={"then": then}, follow_redirects=False)
    assert response.status_code == 303, response.text
    assert "HttpOnly" in response.headers["set-cookie"]
    back = httpx.get(response.headers["location"], trust_env=False).headers["location"]
    assert back.startswith("http://hall.example.gov.cn" + CALLBACK)
    return back.removeprefix("http://hall.example.gov.cn")


def finish(found: TestClient, path: str) -> Any:
    return found.get(path, follow_redirects=False)


def test_there_and_back(found: TestClient, there: Provider) -> None:
    assert found.get("/v1/me").json()["oidc"] is True
    response = finish(found, go(found, "/console?x=1"))
    assert (response.status_code, response.headers["location"]) == (303, "/console?x=1")
    me = found.get("/v1/me").json()
    assert (me["kind"], me["roles"], me["must_change"]) == ("account", ["citizen"], False)
    first = found.cookies[COOKIE]
    assert oidc.Provider.COOKIE not in found.cookies
    # the same person again is the same account, in a new login; another is another
    finish(found, go(found))
    assert found.get("/v1/me").json()["name"] == me["name"] and found.cookies[COOKIE] != first
    portal: Any = found.app.state.portal  # type: ignore[attr-defined]
    account = portal.accounts.named(me["name"])
    portal.accounts.update(account.id, portal.clock(), roles=["clerk"])
    finish(found, go(found))
    assert found.get("/v1/me").json()["roles"] == ["citizen", "clerk"]  # as the administrator mapped it
    there.person = "another"
    finish(found, go(found))
    assert found.get("/v1/me").json()["name"] != me["name"]
    # nothing tells who that is at the provider, and there is no password to try
    assert "3601-77" not in str(portal.accounts.all())
    assert found.post("/v1/login", json={"name": me["name"], "password": ""}).status_code == 422
    assert found.post("/v1/login", json={"name": me["name"], "password": "x"}).status_code == 401
    assert there.refused == [] and there.asked == 1
    there.person = "3601-77"
    portal.accounts.update(account.id, portal.clock(), disabled=True)
    assert finish(found, go(found)).status_code == 403


@pytest.mark.parametrize("attach", [True, False])
def test_what_a_visitor_left_comes_along_if_they_want_it(tmp_path: Path, there: Provider, attach: bool) -> None:
    given = {"oidc_discovery": f"{there.issuer}/.well-known/openid-configuration", "oidc_client": CLIENT, "oidc_secret": SECRET}
    with client(tmp_path, sample=False, rates=dict.fromkeys(RATES, ""), **given) as found:  # on loopback there are visitors
        found.get("/")
        head = {HEADER: found.get("/v1/me").json()["csrf"]}
        assert found.post("/v1/me/consent", json={"purpose": "profile", "version": "1"}, headers=head).is_success
        away = found.get(LOGIN, params={"then": "/", "attach": attach}, follow_redirects=False).headers["location"]
        back = urlsplit(httpx.get(away, trust_env=False).headers["location"])
        assert finish(found, f"{back.path}?{back.query}").status_code == 303
        assert found.get("/v1/me").json()["kind"] == "account"
        assert len(found.get("/v1/me/export").json()["consents"]) == attach
        assert (VISITOR in found.cookies) == attach


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {**c, "exp": c["iat"] - 3600},
        lambda c: {**c, "iat": c["iat"] + 3600},
        lambda c: {**c, "nonce": "another"},
        lambda c: {k: v for k, v in c.items() if k != "nonce"},
        lambda c: {**c, "iss": "https://evil.example"},
        lambda c: {**c, "aud": "another-client"},
        lambda c: {**c, "aud": [CLIENT, "another"], "azp": "another"},
        lambda c: {k: v for k, v in c.items() if k != "exp"},
        lambda c: {k: v for k, v in c.items() if k != "sub"},
        lambda c: {**c, "sub": ""},
        lambda c: {**c, "sub": 7},
        lambda c: {**c, "at_hash": "wrong"},
    ],
    ids=["expired", "from the future", "nonce", "no nonce", "issuer", "audience", "party", "no end", "nobody", "empty", "number", "hash"],
)  # fmt: skip
def test_claims_that_do_not_hold(found: TestClient, there: Provider, change: Any) -> None:
    there.change = change
    refused(finish(found, go(found)), found)


def refused(response: Any, found: TestClient) -> None:
    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthenticated")
    assert COOKIE not in found.cookies and found.get("/v1/me").json()["kind"] == "anonymous"


def test_signatures_that_do_not_hold(found: TestClient, there: Provider) -> None:
    for algorithm, key in (("RS256", RSAKey.generate_key(2048)), ("none", None), ("HS256", None)):
        there.algorithm, there.key = algorithm, key
        refused(finish(found, go(found)), found)
    there.algorithm, there.key = "RS256", there.real
    assert finish(found, go(found)).status_code == 303


def test_a_provider_with_new_keys_is_asked_again(found: TestClient, there: Provider) -> None:
    finish(found, go(found))
    there.real = there.key = RSAKey.generate_key(2048, {"kid": "k1"})
    assert finish(found, go(found)).status_code == 303 and there.asked == 2


def test_only_the_browser_that_began_it_can_finish_it(found: TestClient, there: Provider) -> None:
    path = go(found)
    kept = found.cookies[oidc.Provider.COOKIE]
    found.cookies.clear()
    refused(finish(found, path), found)  # login CSRF: an attacker's own code in another's browser
    go(found)
    refused(finish(found, path), found)  # a browser with another login under way
    for forged in (kept[:-4] + "AAAA", "", "v1.x.y"):
        found.cookies.clear()
        found.cookies.set(oidc.Provider.COOKIE, forged)
        refused(finish(found, path), found)
    found.cookies.clear()
    found.cookies.set(oidc.Provider.COOKIE, kept)
    assert finish(found, path).status_code == 303
    found.cookies.clear()
    found.cookies.set(oidc.Provider.COOKIE, kept)
    refused(finish(found, path), found)  # a code is for one time
    assert there.refused == ["code"]


def test_answers_that_are_for_another_login(found: TestClient, there: Provider) -> None:
    def altered(**change: str) -> str:
        parts = urlsplit(go(found))
        return f"{parts.path}?{urlencode({**{k: v[0] for k, v in parse_qs(parts.query).items()}, **change})}"

    for change in ({"state": "x"}, {"iss": "https://evil.example"}, {"code": "x"}, {"error": "access_denied"}, {"state": "é"}):
        refused(finish(found, altered(**change)), found)
    assert finish(found, CALLBACK).status_code == 401
    portal: Any = found.app.state.portal  # type: ignore[attr-defined]
    path, real = go(found), portal.clock
    portal.clock = lambda: real() + timedelta(seconds=601)
    refused(finish(found, path), found)


@pytest.mark.parametrize("then", ["https://evil.example", "//evil.example", "/\\evil.example", "evil", "/a\r\nX: y", "/\tevil"])
def test_it_leads_back_to_pages_of_ours_only(found: TestClient, then: str) -> None:
    assert found.get(LOGIN, params={"then": then}, follow_redirects=False).status_code == 400


def test_a_provider_that_is_away(tmp_path: Path) -> None:
    with provider() as there:
        address = there.issuer
    with client(tmp_path, sample=False, oidc_discovery=f"{address}/x", oidc_client=CLIENT) as found:
        response = found.get(LOGIN, follow_redirects=False)
        assert response.status_code == 503 and response.headers["Retry-After"]
    with client(tmp_path, sample=False) as found:
        assert found.get(LOGIN).status_code == found.get(CALLBACK).status_code == 404
        assert found.get("/v1/me").json()["oidc"] is False


def test_settings_of_a_provider() -> None:
    for given, said in (
        ({"oidc_discovery": "https://id.example/x"}, "oidc_client"),
        ({"oidc_discovery": "http://id.example/x", "oidc_client": "c"}, "https"),
        ({"oidc_discovery": "https://id.example/x", "oidc_client": "c", "host": "0.0.0.0"}, "public"),
        ({"public": "hall.example.gov.cn"}, "public"),
        ({"public": "https://hall.example.gov.cn/x"}, "public"),
    ):
        with pytest.raises(SettingsError, match=said):
            Settings(**given)
