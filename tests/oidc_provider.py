"""An OpenID Connect provider for tests, on a free port of 127.0.0.1: it lets everybody in as `person`, and lies where it is told to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "hall", "s3cret"


class Provider:
    """person: the number of who logs in. change: makes the claims of the next ID token others. key, algorithm: what it is signed with."""

    def __init__(self) -> None:
        self.issuer = ""
        self.person = "3601-77"
        self.change: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
        self.real = RSAKey.generate_key(2048, {"kid": "k1"})
        self.key: Any = self.real
        self.algorithm = "RS256"
        self.codes: dict[str, dict[str, str]] = {}
        self.asked = 0  # requests for what it says of itself
        self.refused: list[str] = []  # why it gave no token

    def sign(self, claims: dict[str, Any]) -> str:
        if self.algorithm in ("none", "HS256"):  # by hand: no library signs so
            parts = ({"alg": self.algorithm, "kid": "k1"}, claims)
            signed = ".".join(_text(json.dumps(part).encode()) for part in parts)
            public = self.real.as_pem(private=False)  # as a shared secret: a client that lets the token choose would take that
            return f"{signed}." + (_text(hmac.digest(public, signed.encode(), "sha256")) if self.algorithm == "HS256" else "")
        return jwt.encode({"alg": self.algorithm, "kid": "k1"}, claims, self.key, algorithms=[self.algorithm])

    def configuration(self) -> dict[str, Any]:
        self.asked += 1
        return {
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
        }  # fmt: skip

    def authorize(self, query: dict[str, str]) -> str:
        assert query["response_type"] == "code" and query["client_id"] == CLIENT and "openid" in query["scope"].split()
        assert query["code_challenge_method"] == "S256" and len(query["state"]) > 20 and len(query["nonce"]) > 20
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        query = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = _text(digest)
        wrong = {
            "code": query is None,
            "redirect_uri": bool(query) and form.get("redirect_uri") != query["redirect_uri"],
            "code_verifier": bool(query) and challenge != query["code_challenge"],
            "client": authorization != "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode(),
        }
        if any(wrong.values()) or query is None:
            self.refused += [name for name, value in wrong.items() if value]
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": self.person, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": query["nonce"]}
        return 200, {"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": self.sign(self.change(claims))}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    found = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", found.authorize(dict(parse_qsl(parts.query))))
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif parts.path == "/jwks":
                self._json(200, {"keys": [found.real.as_dict(private=False)]})
            else:
                self._json(200, found.configuration())

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._json(*found.token({k: v[0] for k, v in form.items()}, self.headers.get("Authorization", "")))

        def _json(self, status: int, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
