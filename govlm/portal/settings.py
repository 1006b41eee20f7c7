"""What the portal is told: by the command line, by environment variables, by files for secrets."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from govlm.bundled import BUNDLED

__all__ = ["Settings", "SettingsError"]

PREFIX = "GOVLM_PORTAL_"
# as `limits` writes them; several are separated by ;
RATES = {
    "login": "10/minute;60/hour", "chat": "60/minute", "catalogue": "600/minute", "models": "600/minute", "push": "120/minute",
    "admin": "600/minute", "key": "12000/minute", "address": "1800/minute",
}  # fmt: skip


class SettingsError(ValueError):
    """A setting that cannot be, named as it was given."""


@dataclass(frozen=True)
class Settings:
    """data: folder of everything that the portal keeps (made at first start). database: URL of PostgreSQL (default: SQLite in `data`).
    host, port: where it listens. workers: processes. tls_cert, tls_key: PEM files. encoder: folder of the hall's encoder.
    generator: folder or .gguf file of a language model that puts the hall's answers into plain words ("" = none), for which an answer
    waits patience seconds at most. model: of one that
    /v1/chat/completions serves as it is, beside the hall ("" = none).
    classifiers: name -> folder of a fine-tuned classifier for /v1/classify. origins: portal pages that may embed the widget, like
    https://www.example.gov.cn. sample: fill a new hall with the bundled sample.
    queue: requests that wait for a thread; more are refused with 503. threads: of a worker. latency: seconds that a batch may wait for
    company. upload: bytes of an imported file at most. body: bytes of any other request at most.
    log: file of the logs (default: standard error). retention: days that kinds of data are kept, like sessions=14,audit=730
    (govlm.portal.operations.retention.Policy).
    hosts: names that citizens reach it by, like hall.example.gov.cn; others are refused. public: the address that they see, like
    https://hall.example.gov.cn, where a proxy is in front; needed for OIDC. proxies: addresses or networks of those proxies, whose
    X-Forwarded-For and X-Forwarded-Proto are believed. Any of these three says that others can reach a portal on loopback, too.
    oidc_discovery: URL of the provider's openid-configuration; oidc_client, oidc_secret: this portal's name and secret there.
    login_idle, login_life: seconds until an unused login, and any login, ends.
    rates: what one may do at most, of all workers of a machine: login (an address), chat, catalogue, models, push, admin (a person each), key (an API
    key), address (all of an address without keys). On loopback only login counts for programs without a cookie.
    """

    data: Path = Path("govlm-portal")
    database: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    tls_cert: Path | None = None
    tls_key: Path | None = None
    encoder: str = BUNDLED
    generator: str = ""
    patience: float = 10.0
    model: str = ""
    classifiers: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[str, ...] = ()
    sample: bool = True
    queue: int = 256
    threads: int = 8
    latency: float = 0.002
    upload: int = 50 << 20
    body: int = 1 << 20
    log: Path | None = None
    retention: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    public: str = ""
    proxies: tuple[str, ...] = ()
    oidc_discovery: str = ""
    oidc_client: str = ""
    oidc_secret: str = field(default="", repr=False)
    login_idle: int = 1800
    login_life: int = 12 * 3600
    rates: Mapping[str, str] = field(default_factory=lambda: dict(RATES))

    def __post_init__(self) -> None:
        for network in self.proxies:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise SettingsError(f"proxies: {network!r} is neither an address nor a network like 10.0.0.0/8") from None
        for origin in self.origins:  # they stand in a header
            if not re.fullmatch(r"https?://(\*\.)?([\w.-]+|\[[0-9a-fA-F:]+\])(:\d+)?", origin, re.ASCII):
                raise SettingsError(f"origins: {origin!r} is not like https://www.example.gov.cn")
        if self.public and not re.fullmatch(r"https?://[^/?#\s]+", self.public):
            raise SettingsError(f"public: {self.public!r} is not like https://hall.example.gov.cn")
        if self.oidc_discovery:
            if not self.oidc_client:
                raise SettingsError("oidc_client: the name of this portal at the OIDC provider is missing")
            if not self.loopback and not self.public:
                raise SettingsError(
                    "public: OIDC sends citizens back to this address; give it, like https://hall.example.gov.cn"
                )
            if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", self.oidc_discovery):
                raise SettingsError("oidc_discovery: must be https (http on this machine only)")
        unknown = set(self.rates) - set(RATES)
        if unknown:
            raise SettingsError(f"rates: {', '.join(sorted(unknown))}: not one of {', '.join(RATES)}")
        object.__setattr__(self, "rates", {**RATES, **self.rates})

    @cached_property
    def loopback(self) -> bool:
        """Whether only this machine can reach it: then citizens need no login, and /v1 no key. With a proxy in front, others can."""
        if self.hosts or self.public or self.proxies:
            return False
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def secure(self) -> bool:
        """Whether citizens reach it by TLS: its own, or a proxy's."""
        return self.tls_cert is not None or self.public.startswith("https://")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """GOVLM_PORTAL_HOST, …_DATABASE, …; GOVLM_PORTAL_DATABASE_FILE names a file that holds the value, for secrets. given: what the
        command line says, which goes before; None: it says nothing. SettingsError names what cannot be."""
        known = {entry.name: entry for entry in fields(cls)}
        found: dict[str, Any] = {}
        for name, value in (os.environ if environment is None else environment).items():
            if not name.startswith(PREFIX):
                continue
            key = name.removeprefix(PREFIX).lower()
            if key.endswith("_file") and key not in known:
                key = key.removesuffix("_file")
                try:
                    value = Path(value).read_text("utf-8").strip()
                except OSError as error:
                    raise SettingsError(f"{name}: {error.strerror}: {value}") from None
            if key in known:
                found[key] = _parsed(name, value, getattr(cls(), key))
        return cls(**{**found, **{key: value for key, value in given.items() if value is not None}})


def _parsed(name: str, value: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"1": True, "true": True, "0": False, "false": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return float(value)
        if isinstance(default, tuple):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        if isinstance(default, Mapping):
            return dict(part.split("=", 1) for part in value.split(",") if part)
    except (ValueError, KeyError):
        raise SettingsError(f"{name}: {value!r} cannot be read as {type(default).__name__}") from None
    return Path(value) if name.endswith(("DATA", "TLS_CERT", "TLS_KEY", "LOG")) else value
