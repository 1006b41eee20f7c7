"""Passwords: kept as Argon2id, chosen with some care, made up by chance for a first login.

RFC 9106; memory, passes and lanes as the OWASP Password Storage Cheat Sheet has them for a server with other work to do (19 MiB, 2, 1).
"""

from __future__ import annotations

import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from govlm.portal.errors import PortalError

__all__ = ["check", "choose", "digest", "one_time"]

HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
SHORTEST, LONGEST, PLAIN = 10, 256, 16
_AT_ONCE = threading.BoundedSemaphore(2)  # each takes the memory above
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is taken for another
_NOBODY = ""


def digest(password: str) -> str:
    """What is kept of a password."""
    with _AT_ONCE:
        return HASHER.hash(_normal(password))


def check(kept: str, password: str) -> tuple[bool, bool]:
    """Whether it is the password, and whether it should be kept anew, as today's parameters ask.

    kept: as `digest` gave it; "" for an account without one, or for none: that takes as long as a wrong password.
    """
    global _NOBODY
    if not kept:
        _NOBODY = _NOBODY or digest(secrets.token_urlsafe(16))
    try:
        with _AT_ONCE:
            right = HASHER.verify(kept or _NOBODY, _normal(password))
    except (VerificationError, InvalidHashError):
        return False, False
    return right and bool(kept), HASHER.check_needs_rehash(kept or _NOBODY)


def _normal(password: str) -> str:
    """The same characters however they were typed: full-width letters are letters (NFKC; RFC 8265 asks for NFC, which leaves them)."""
    return unicodedata.normalize("NFKC", password)


def choose(new: str, name: str, old: str) -> None:
    """PortalError "invalid" where the new password will not do: ten characters of three kinds, or sixteen of any; not the name.

    GB/T 22239-2019, 8.1.4.1 a asks for complexity without saying which; NIST SP 800-63B for length.
    """
    kinds = sum(map(any, zip(*((c.islower(), c.isupper(), c.isdigit(), not c.isalnum()) for c in new), strict=True)))
    wrong = ""
    if not SHORTEST <= len(new) <= LONGEST:
        wrong = f"新密码应为{SHORTEST}到{LONGEST}个字符。"
    elif len(set(new)) < 5 or (kinds < 3 and len(new) < PLAIN):
        wrong = f"新密码过于简单：请混用大写字母、小写字母、数字、符号中的三种，或不少于{PLAIN}个字符。"
    elif name and name.lower() in new.lower():
        wrong = "新密码不能包含账号名。"
    elif new == old:
        wrong = "新密码不能与原密码相同。"
    if wrong:
        raise PortalError("invalid", wrong, fields=["new"])


def one_time() -> str:
    """A password to be told once and changed at the first login; 98 bits."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
