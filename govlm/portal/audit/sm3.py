"""SM3, the Chinese standard's hash (GB/T 32905-2016, ISO/IEC 10118-3), and its HMAC (RFC 2104).

OpenSSL has it, mostly; where this machine's does not, `plain` computes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

__all__ = ["digest", "mac", "plain"]

_START = (0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600, 0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E)
_MASK = 0xFFFFFFFF
_BLOCK = 64  # bytes


def digest(data: bytes) -> bytes:
    """32 bytes."""
    return _hash(data)


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC-SM3, 32 bytes."""
    padded = (digest(key) if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner = digest(bytes(byte ^ 0x36 for byte in padded) + data)
    return digest(bytes(byte ^ 0x5C for byte in padded) + inner)


def plain(data: bytes) -> bytes:
    """As `digest`, without OpenSSL; names are the standard's."""
    padded = data + b"\x80" + b"\0" * ((55 - len(data)) % _BLOCK) + (8 * len(data)).to_bytes(8, "big")
    state: tuple[int, ...] = _START
    for start in range(0, len(padded), _BLOCK):
        state = _compress(state, padded[start : start + _BLOCK])
    return b"".join(word.to_bytes(4, "big") for word in state)


def _compress(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    w = [int.from_bytes(block[i : i + 4], "big") for i in range(0, _BLOCK, 4)]
    for j in range(16, 68):
        w.append(_p1(w[j - 16] ^ w[j - 9] ^ _left(w[j - 3], 15)) ^ _left(w[j - 13], 7) ^ w[j - 6])
    a, b, c, d, e, f, g, h = state
    for j in range(64):
        constant = 0x79CC4519 if j < 16 else 0x7A879D8A
        ss1 = _left((_left(a, 12) + e + _left(constant, j % 32)) & _MASK, 7)
        ss2 = ss1 ^ _left(a, 12)
        ff = a ^ b ^ c if j < 16 else (a & b) | (a & c) | (b & c)
        gg = e ^ f ^ g if j < 16 else (e & f) | (~e & g)
        tt1 = (ff + d + ss2 + (w[j] ^ w[j + 4])) & _MASK
        tt2 = (gg + h + ss1 + w[j]) & _MASK
        d, c, b, a = c, _left(b, 9), a, tt1
        h, g, f, e = g, _left(f, 19), e, _p0(tt2)
    return tuple(old ^ new for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True))


def _left(word: int, by: int) -> int:
    return ((word << by) | (word >> (32 - by))) & _MASK if by else word


def _p0(word: int) -> int:
    return word ^ _left(word, 9) ^ _left(word, 17)


def _p1(word: int) -> int:
    return word ^ _left(word, 15) ^ _left(word, 23)


def _chosen() -> Callable[[bytes], bytes]:
    try:
        hashlib.new("sm3", b"")
    except ValueError:  # an OpenSSL without it
        return plain
    return lambda data: hashlib.new("sm3", data).digest()


_hash = _chosen()
