"""Login at an OpenID Connect provider (统一身份认证): authorization code with PKCE (RFC 7636), state and nonce.

What a login under way must remember is in an encrypted cookie, so that any worker can finish it. OpenID Connect Core 1.0, 3.1.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from govlm.hall.protection.vault import Vault, VaultError
from govlm.portal.errors import PortalError
from govlm.portal.settings import Settings

__all__ = ["Provider"]

ALGORITHMS = ["RS256", "PS256", "ES256"]  # of ID tokens; never "none", never a shared secret's
_KEPT, _LEEWAY, _WAIT = 3600.0, 60, 10.0  # seconds: of what the provider says of itself, between clocks, for an answer
_BOUND = ("portal_oidc", "login", "state")
_LOG = logging.getLogger(__name__)


class Provider:
    """The provider of the settings. It is asked for the first time when somebody logs in there."""

    COOKIE = "govlm_oidc"
    LIFE = 600  # seconds that a login may take at the provider

    def __init__(self, settings: Settings, vault: Vault) -> None:
        self._settings, self._vault = settings, vault
        self._about: tuple[float, dict[str, Any], dict[str, Any]] | None = None  # when; metadata; keys

    async def begin(self, back: str, then: str, attach: bool, now: datetime) -> tuple[str, str]:
        """Where the browser goes, and the cookie that it brings back. back: URL of our callback. then: page to show at the end. attach:
        whether what is kept of the visitor shall be the account's."""
        about, _ = await self._known()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        async with self._client(back) as client:
            url, _ = client.create_authorization_url(
                about["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "then": then, "attach": attach, "at": now.timestamp()}
        return url, self._vault.encrypt(*_BOUND, json.dumps(kept))

    async def finish(self, cookie: str, given: Mapping[str, str], back: str, now: datetime) -> tuple[str, str, str, bool]:
        """The issuer, the person's number there, the page to show, and `attach`. given: the query of the callback.

        PortalError "unauthenticated": this browser did not begin it, it took too long, or the provider's answer does not hold.
        """
        kept = self._kept(cookie, now)
        about, keys = await self._known()
        if "error" in given or not secrets.compare_digest(given.get("state", "").encode(), kept["state"].encode()):
            raise _failed("the provider refused, or another login's state came back")
        if given.get("iss", about["issuer"]) != about["issuer"]:  # RFC 9207
            raise _failed("the answer is another provider's")
        try:
            async with self._client(back) as client:
                token = await client.fetch_token(
                    about["token_endpoint"], grant_type="authorization_code", code=given.get("code", ""),
                    code_verifier=kept["verifier"],
                )  # fmt: skip
        except httpx.HTTPError:
            raise _away() from None
        except (AuthlibBaseError, ValueError) as error:
            raise _failed(f"no token: {type(error).__name__}") from None
        claims = await self._claims(token, kept["nonce"], about, keys, now)
        return str(about["issuer"]), str(claims["sub"]), str(kept["then"]), bool(kept["attach"])

    async def _claims(
        self, token: Mapping[str, Any], nonce: str, about: dict[str, Any], keys: dict[str, Any], now: datetime
    ) -> Mapping[str, Any]:
        text = str(token.get("id_token", ""))
        must = {
            "iss": {"essential": True, "value": about["issuer"]},
            "aud": {"essential": True, "value": self._settings.oidc_client},
        }
        params = {"nonce": nonce, "client_id": self._settings.oidc_client, "access_token": token.get("access_token")}
        try:
            try:
                found = jwt.decode(text, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            except (JoseError, ValueError):
                self._about = None  # perhaps it has new keys
                _, keys = await self._known()
                found = jwt.decode(text, KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            claims = CodeIDToken(found.claims, found.header, must, params)
            claims.validate(now=int(now.timestamp()), leeway=_LEEWAY)
            if not isinstance(claims["sub"], str) or not claims["sub"]:
                raise ValueError("sub")
        except (JoseError, AuthlibBaseError, ValueError, TypeError, KeyError) as error:
            raise _failed(f"the ID token does not hold: {type(error).__name__}") from None
        result: Mapping[str, Any] = claims
        return result

    def _kept(self, cookie: str, now: datetime) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self._vault.decrypt(*_BOUND, cookie))
        except (VaultError, ValueError):
            raise _failed("the browser brings no login of ours") from None
        if not 0 <= now.timestamp() - kept["at"] <= self.LIFE:
            raise _failed("it took too long")
        return kept

    def _client(self, back: str) -> Any:
        settings = self._settings
        return AsyncOAuth2Client(
            settings.oidc_client, settings.oidc_secret or None, scope="openid", redirect_uri=back, code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if settings.oidc_secret else "none", timeout=_WAIT,
        )  # fmt: skip

    async def _known(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the provider says of itself, and its keys."""
        if self._about is None or time.monotonic() - self._about[0] > _KEPT:
            try:
                async with httpx.AsyncClient(timeout=_WAIT) as client:
                    about = (await client.get(self._settings.oidc_discovery)).raise_for_status().json()
                    plain = self._settings.oidc_discovery.startswith("http://")
                    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                        if not plain and not str(about[name]).startswith("https://"):
                            raise ValueError(f"{name} is not https")
                    keys = (await client.get(about["jwks_uri"])).raise_for_status().json()
                self._about = (time.monotonic(), {**about, "issuer": str(about["issuer"])}, keys)
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                _LOG.warning("the OIDC provider cannot be used: %s", type(error).__name__)
                raise _away() from None
        return self._about[1], self._about[2]


def _failed(why: str) -> PortalError:
    _LOG.info("a login by OIDC failed: %s", why)
    return PortalError("unauthenticated", "统一身份认证登录未完成，请重新登录。")


def _away() -> PortalError:
    return PortalError("busy", "统一身份认证暂时无法连接，请稍后再试。", retry_after=30)
