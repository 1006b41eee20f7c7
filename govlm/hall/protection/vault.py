"""Values encrypted one by one, and names under which people are filed.

    vault = Vault.open("hall/keys.json")
    kept = vault.encrypt("profile_values", person, "region", "4401")     # "v1.3f9a….<nonce and ciphertext>"
    vault.decrypt("profile_values", person, "region", kept)

Authenticated encryption (AES-256-GCM, or SM4-GCM) with a fresh nonce of 96 bits each; table, row and field are bound to the value, so
that one that is copied to another person's row is refused there. 2^32 values may be written with a key: rotate it once a year.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.database import tables
from govlm.hall.catalogue.store import PEOPLE_KEY, Store
from govlm.hall.catalogue.tables import library
from govlm.hall.protection.keys import Key, Keyring, VaultError

__all__ = ["ENVIRONMENT", "Vault", "VaultError"]

ENVIRONMENT = "GOVLM_KEYS"  # the path of a key file, or its text; goes before the hall's own file
_NONCE, _TAG = 12, 16  # bytes


class Vault:
    """Encrypts and decrypts. Any number of threads may use one; a key file that another process replaces is read again."""

    def __init__(self, ring: Keyring, path: Path | None = None) -> None:
        """path: of the file the keys are from; None: they cannot be changed here."""
        self._ring, self._path = ring, path
        self._seen = _stamp(path)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, make: bool = True, cipher: str = "AES-256-GCM") -> Vault:
        """The keys from GOVLM_KEYS where it is set, else from the file; a missing file is made unless make is False.

        cipher: of the first key of a new file. VaultError: there are no keys, or they are damaged.
        """
        given = os.environ.get(ENVIRONMENT, "")
        if given.lstrip().startswith("{"):
            return cls(Keyring.parse(given, f"${ENVIRONMENT}"))
        file = Path(given) if given else Path(path)
        if make and not given and not file.exists():
            Keyring.new(cipher).save(file, new=True)
        return cls(Keyring.load(file), file)

    @classmethod
    def there(cls, path: str | os.PathLike[str]) -> bool:
        """Whether there are keys, in GOVLM_KEYS or the file; makes none."""
        return bool(os.environ.get(ENVIRONMENT)) or Path(path).exists()

    @classmethod
    def of(cls, store: Store, path: str | os.PathLike[str], cipher: str = "AES-256-GCM") -> Vault:
        """As `open`, for the people of a store: refuses keys that are not those of its data, and makes none where there is data."""
        told = _told(store)
        vault = cls.open(path, make=told is None, cipher=cipher)
        mine = vault.pseudonym("key file", "")
        if told is None:
            meta = tables()["meta"]
            with store.database.write() as connection:
                told = connection.execute(_select(meta)).scalar()
                if told is None:
                    connection.execute(meta.insert().values(key=PEOPLE_KEY, value=mine))
                    told = mine
        if not hmac.compare_digest(str(told), mine):
            raise VaultError(f"{vault._path or '$' + ENVIRONMENT}: not the key file that this hall's data belongs to")
        return vault

    def __repr__(self) -> str:
        return f"Vault({self._ring!r})"

    @property
    def ring(self) -> Keyring:
        """The keys as they are now."""
        if self._path is not None and (stamp := _stamp(self._path)) != self._seen:
            with self._lock:
                self._ring, self._seen = Keyring.load(self._path), stamp
        return self._ring

    # ---- values

    def encrypt(self, table: str, row: str, field: str, value: str) -> str:
        return self.encrypt_all(table, row, {field: value})[field]

    def encrypt_all(self, table: str, row: str, values: Mapping[str, str]) -> dict[str, str]:
        """values: of the fields of a row."""
        ring = self.ring
        key = ring.keys[ring.current]
        found = {}
        for field, value in values.items():
            nonce = secrets.token_bytes(_NONCE)
            sealed = _seal(key, nonce, value.encode("utf-8", "surrogatepass"), _bound(table, row, field))
            found[field] = f"v1.{ring.current}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"
        return found

    def decrypt(self, table: str, row: str, field: str, kept: str) -> str:
        """VaultError: the key is not there, or the value was not written for this place, or was changed."""
        return self._decrypted(self.ring, table, row, field, kept)

    def decrypt_all(self, table: str, row: str, kept: Mapping[str, str]) -> dict[str, str]:
        """As `decrypt`, of the fields of a row."""
        ring = self.ring
        return {field: self._decrypted(ring, table, row, field, value) for field, value in kept.items()}

    def _decrypted(self, ring: Keyring, table: str, row: str, field: str, kept: str) -> str:
        name, data = _parts(kept)
        key = ring.keys.get(name)
        if key is None:
            raise VaultError(f"{table}.{field}: written with key {name or '?'}, which the key file does not hold")
        try:
            plain = _unseal(key, data[:_NONCE], data[_NONCE:], _bound(table, row, field))
        except library("cryptography.exceptions", "people's data").InvalidTag:
            raise VaultError(f"{table}.{field}: cannot be decrypted with key {name}: a wrong key, or a changed value") from None
        return plain.decode("utf-8", "surrogatepass")

    def pseudonym(self, kind: str, name: str) -> str:
        """32 hexadecimal digits that stand for a person or a session: HMAC-SHA-256, the same every time, nobody's without the key."""
        text = f"{kind}\x00{name}".encode("utf-8", "surrogatepass")
        return hmac.new(self._ring.pseudonyms, text, hashlib.sha256).hexdigest()[:32]

    # ---- keys

    def add_key(self, cipher: str = "") -> str:
        """A new key for all that is written from now on, by every process with this key file; the older ones are still read."""
        return self._change(self.ring.with_new(cipher)).current

    def drop_key(self, name: str) -> None:
        """Takes a key out of the file; what is still written with it is lost. `rotation.retire` looks first."""
        self._change(self.ring.without(name))

    def _change(self, ring: Keyring) -> Keyring:
        if self._path is None:
            raise VaultError(f"keys given in ${ENVIRONMENT} are changed there; put the new key file's text, or a path, into it")
        with self._lock:
            ring.save(self._path)
            self._ring, self._seen = ring, _stamp(self._path)
        return ring


def _told(store: Store) -> str | None:
    with store.database.read() as connection:
        found = connection.execute(_select(tables()["meta"])).scalar()
    return None if found is None else str(found)


def _select(meta: Any) -> Any:
    return library("sqlalchemy", "people's data").select(meta.c.value).where(meta.c.key == PEOPLE_KEY)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:  # gone: what is in memory stays in use
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _bound(table: str, row: str, field: str) -> bytes:
    """What is authenticated beside the value; lengths first, so that no two places give one text."""
    return "\x00".join(f"{len(part)}:{part}" for part in (table, row, field)).encode("utf-8", "surrogatepass")


def _parts(kept: str) -> tuple[str, bytes]:
    version, _, rest = kept.partition(".")
    name, _, text = rest.partition(".")
    try:
        data = base64.urlsafe_b64decode(text)
    except (ValueError, binascii.Error):
        data = b""
    if version != "v1" or len(data) < _NONCE + _TAG:
        raise VaultError("a value is damaged, or was written by a newer govlm")
    return name, data


def _seal(key: Key, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    if key.cipher == "AES-256-GCM":
        made: bytes = _aesgcm(key.secret).encrypt(nonce, plain, bound)
        return made
    encryptor = _sm4(key, nonce, None).encryptor()
    encryptor.authenticate_additional_data(bound)
    sealed: bytes = encryptor.update(plain) + encryptor.finalize()
    return sealed + bytes(encryptor.tag)


def _unseal(key: Key, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
    if key.cipher == "AES-256-GCM":
        plain: bytes = _aesgcm(key.secret).decrypt(nonce, sealed, bound)
        return plain
    decryptor = _sm4(key, nonce, sealed[-_TAG:]).decryptor()
    decryptor.authenticate_additional_data(bound)
    found: bytes = decryptor.update(sealed[:-_TAG]) + decryptor.finalize()
    return found


@lru_cache(maxsize=16)
def _aesgcm(secret: bytes) -> Any:
    return library("cryptography.hazmat.primitives.ciphers.aead", "people's data").AESGCM(secret)


def _sm4(key: Key, nonce: bytes, tag: bytes | None) -> Any:
    ciphers = library("cryptography.hazmat.primitives.ciphers", "people's data")
    try:
        return ciphers.Cipher(ciphers.algorithms.SM4(key.secret), ciphers.modes.GCM(nonce, tag))
    except library("cryptography.exceptions", "people's data").UnsupportedAlgorithm:
        raise VaultError("SM4-GCM: this machine's OpenSSL does not have it; use AES-256-GCM") from None
