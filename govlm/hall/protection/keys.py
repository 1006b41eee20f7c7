"""The key file of a hall: which keys its data is encrypted with.

{"format": 1, "current": "3f9a…", "pseudonyms": "…", "keys": {"3f9a…": {"cipher": "AES-256-GCM", "key": "…"}, …}}

Values are written with the current key and read with any that is there. `pseudonyms` is the key of the HMAC under which people and
sessions are filed; it stays the same for as long as the data does. The file is made once, may be read by its owner alone (0600), and is
replaced whole. Keep a copy of it apart from the backups: without it the data is lost, with it a backup is readable.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from govlm.hall.catalogue.report import CatalogueError

__all__ = ["CIPHERS", "Key", "Keyring", "VaultError"]

CIPHERS = {"AES-256-GCM": 32, "SM4-GCM": 16}  # bytes of a key; NIST SP 800-38D, and GB/T 32907 in the same mode (RFC 8998)


class VaultError(CatalogueError):
    """Keys that are missing or wrong, or a value that was changed. Never says a key or a value."""


@dataclass(frozen=True, repr=False)
class Key:
    cipher: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.cipher})"


@dataclass(frozen=True, repr=False)
class Keyring:
    """Never changed: `with_new` and `without` give another."""

    current: str
    keys: Mapping[str, Key]
    pseudonyms: bytes

    def __repr__(self) -> str:
        return f"Keyring({len(self.keys)} keys, current {self.current})"

    @classmethod
    def new(cls, cipher: str = "AES-256-GCM") -> Keyring:
        """With one key. VaultError: the cipher is unknown."""
        return cls("", {}, secrets.token_bytes(32)).with_new(cipher)

    def with_new(self, cipher: str = "") -> Keyring:
        """A further key, current from now on. cipher: default that of the key before it."""
        cipher = cipher or self.keys[self.current].cipher
        if cipher not in CIPHERS:
            raise VaultError(f"cipher {cipher!r}: unknown; a key is for {' or '.join(CIPHERS)}")
        name = secrets.token_hex(4)
        while name in self.keys:
            name = secrets.token_hex(4)
        return replace(self, current=name, keys={**self.keys, name: Key(cipher, secrets.token_bytes(CIPHERS[cipher]))})

    def without(self, name: str) -> Keyring:
        """VaultError: there is no such key, or it is the current one."""
        if name not in self.keys or name == self.current:
            raise VaultError(f"key {name}: {'the current one cannot be retired' if name == self.current else 'not there'}")
        return replace(self, keys={other: key for other, key in self.keys.items() if other != name})

    # ---- as text

    @classmethod
    def parse(cls, text: str, source: str) -> Keyring:
        """From the text of a key file. source: what an error calls it. The text itself is never part of the error."""
        try:
            values = json.loads(text)
            if values["format"] != 1:
                raise VaultError(f"{source}: key file of a newer govlm: upgrade govlm")
            keys = {name: Key(entry["cipher"], _bytes(entry["key"])) for name, entry in values["keys"].items()}
            found = cls(values["current"], keys, _bytes(values["pseudonyms"]))
        except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
            if isinstance(error, VaultError):
                raise
            raise VaultError(f"{source}: no key file of govlm, or damaged; put back the copy of it") from None
        for name, key in keys.items():
            if CIPHERS.get(key.cipher) != len(key.secret) or not name.isalnum():
                raise VaultError(f"{source}: key {name} is damaged; put back the copy of the file")
        if found.current not in keys or len(found.pseudonyms) < 16:
            raise VaultError(f"{source}: damaged (its current key is missing); put back the copy of the file")
        return found

    def text(self) -> str:
        keys = {name: {"cipher": key.cipher, "key": _text(key.secret)} for name, key in self.keys.items()}
        values = {"format": 1, "current": self.current, "pseudonyms": _text(self.pseudonyms), "keys": keys}
        return json.dumps(values, indent=1) + "\n"

    # ---- as a file

    @classmethod
    def load(cls, path: Path) -> Keyring:
        try:
            text = path.read_text("utf-8")
        except FileNotFoundError:
            raise VaultError(f"{path}: the key file is not there; put back the copy of it, or set GOVLM_KEYS") from None
        except (OSError, ValueError) as error:
            raise VaultError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None
        return cls.parse(text, str(path))

    def save(self, path: Path, *, new: bool = False) -> bool:
        """Puts the file in place, whole, for its owner alone. new: False is returned, and nothing done, where there is one already."""
        try:
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
            try:
                with open(descriptor, "w", encoding="utf-8") as handle:
                    handle.write(self.text())
                    handle.flush()
                    os.fsync(handle.fileno())
                if not new:
                    os.replace(temporary, path)
                    return True
                try:
                    os.link(temporary, path)  # fails where another process was first: one of two files must not win over data
                except FileExistsError:
                    return False
                return True
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise VaultError(f"{path}: the key file cannot be written ({error.strerror})") from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
