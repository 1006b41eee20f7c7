"""The alphabet of byte-level BPE: a printable character for every byte, as GPT-2 has it (Radford et al., 2019)."""

from __future__ import annotations

__all__ = ["BYTES", "CHARACTERS", "bytes_of", "text_of"]

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + place) for place, byte in enumerate(_OTHERS)}
BYTES = {character: byte for byte, character in CHARACTERS.items()}


def bytes_of(token: str) -> bytes | None:
    """The bytes that a token of the alphabet stands for; None when it has other characters."""
    try:
        return bytes([BYTES[character] for character in token])
    except KeyError:
        return None


def text_of(data: bytes) -> str:
    """Bytes in the alphabet."""
    return "".join([CHARACTERS[byte] for byte in data])
