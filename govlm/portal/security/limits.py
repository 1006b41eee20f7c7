"""How often one may ask, and from where it is asked. Counted for all workers of a machine together (`counters`).

Tries of passwords are counted apart, in the database (`accounts.Attempts`): those limits hold for several machines, too.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping

from limits import RateLimitItem, parse_many
from starlette.datastructures import Headers

from govlm.portal.errors import PortalError
from govlm.portal.security.counters import Counters
from govlm.portal.settings import SettingsError

__all__ = ["Limits", "Proxies"]


class Limits:
    """rates: kind -> what `limits` reads, like 60/minute or 10/minute;60/hour; "" for no limit."""

    def __init__(self, rates: Mapping[str, str], counters: Counters) -> None:
        self._items: dict[str, list[RateLimitItem]] = {}
        for kind, text in rates.items():
            try:
                self._items[kind] = parse_many(text) if text else []
            except ValueError:
                raise SettingsError(f"rates: {kind}: {text!r} is not like 60/minute") from None
        self._counters = counters

    def hit(self, kind: str, who: str) -> None:
        """Counts one. PortalError "too_many_requests": it was one too many; says when the next is taken."""
        for item in self._items.get(kind, ()):
            if left := self._counters.take(item.key_for(kind, who), item.amount, item.get_expiry()):
                raise PortalError("too_many_requests", retry_after=math.ceil(left))


class Proxies:
    """Which machines are believed when they say for whom they ask."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]

    def trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def address(self, peer: str, headers: Headers) -> str:
        """Of who asks: the peer, or what the nearest machine that is no proxy of ours is called by those that are.

        An IPv6 address stands for its /64: a household has that many.
        """
        found = peer
        for hop in reversed([hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",")]):
            if not self.trusted(found):
                break
            found = hop
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            return found[:64]
        if address.version == 6 and not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address)
