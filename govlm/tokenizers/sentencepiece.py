"""The `.model` file of SentencePiece, read and written without protobuf.

The file is one protobuf message, `ModelProto` of sentencepiece_model.proto (Kudo and Richardson, arXiv:1808.06226): the pieces
with score and type, the trainer's settings and the normaliser's. Only what encoding and decoding need is interpreted; the rest
of the trainer's settings and fields that are not known here are kept as bytes, so that a model written again loses nothing.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ModelType",
    "NormalizerSpec",
    "PieceType",
    "SentencePieceModel",
    "TrainerSpec",
    "parse_model",
    "read_model",
    "write_model",
]

MOST_BYTES = 1 << 30  # of a file
MOST_PIECES = 1 << 24
SPACE = "\u2581"  # what a space is written as in pieces


class PieceType(IntEnum):
    """Types of a piece, with the numbers of the file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelType(IntEnum):
    """How text is cut into pieces, with the numbers of the file."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass
class NormalizerSpec:
    """How text is changed before it is cut (`NormalizerSpec`); defaults are the file format's."""

    name: str = ""
    precompiled_charsmap: bytes = b""  # a double-array trie of replacements, see csrc/text/charsmap.c; empty = none
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    normalization_rule_tsv: str = ""
    other: bytes = b""  # fields that are not known here, as they stand in the file


@dataclass
class TrainerSpec:
    """The settings of `TrainerSpec` that encoding and decoding need; defaults are the file format's."""

    model_type: ModelType = ModelType.UNIGRAM
    vocab_size: int = 8000
    treat_whitespace_as_suffix: bool = False
    byte_fallback: bool = False
    unk_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    unk_piece: str = "<unk>"
    bos_piece: str = "<s>"
    eos_piece: str = "</s>"
    pad_piece: str = "<pad>"
    unk_surface: str = " \u2047 "  # what decoding writes for an unknown piece
    other: bytes = b""  # all other settings, as they stand in the file


@dataclass
class SentencePieceModel:
    """A vocabulary with what is needed to use it: pieces[i], scores[i] and types[i] belong to id i.

    pieces: str, a space written as U+2581.  scores: float32 [V], for unigram the log probability, for BPE minus the rank of the
    merge.  types: uint8 [V], numbers of PieceType.  denormalizer: the charsmap that decoding applies, nearly always empty.
    """

    pieces: list[str]
    scores: NDArray[np.float32]
    types: NDArray[np.uint8]
    normalizer: NormalizerSpec = field(default_factory=NormalizerSpec)
    trainer: TrainerSpec = field(default_factory=TrainerSpec)
    denormalizer: NormalizerSpec | None = None
    other: bytes = b""

    def __post_init__(self) -> None:
        self.scores = np.asarray(self.scores, np.float32)
        self.types = np.asarray(self.types, np.uint8)
        if not len(self.pieces) == self.scores.size == self.types.size:
            raise ValueError(f"{len(self.pieces)} pieces, {self.scores.size} scores and {self.types.size} types: not as many")

    def __len__(self) -> int:
        return len(self.pieces)


def read_model(path: str | os.PathLike[str]) -> SentencePieceModel:
    """The model in a `.model` file. ValueError names the file and what is wrong with it."""
    file = Path(path)
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{file}: {size} bytes are too many for a SentencePiece model")
    return parse_model(file.read_bytes(), str(file))


def parse_model(data: bytes, name: str = "model") -> SentencePieceModel:
    """The model in the bytes of a `.model` file; `name` stands in front of errors."""
    try:
        return _model(data)
    except (ValueError, struct.error) as error:
        raise ValueError(f"{name}: not a SentencePiece model: {error}") from None


def write_model(path: str | os.PathLike[str], model: SentencePieceModel) -> None:
    """Writes a `.model` file that sentencepiece reads as well; whole or not at all."""
    file = Path(path)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        part.write_bytes(model_bytes(model))
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


# ---- the wire format ---------------------------------------------------------------------------------------------------

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# number of the field in the message -> attribute and kind
NORMALIZER_FIELDS = {
    1: ("name", "text"),
    2: ("precompiled_charsmap", "bytes"),
    3: ("add_dummy_prefix", "bool"),
    4: ("remove_extra_whitespaces", "bool"),
    5: ("escape_whitespaces", "bool"),
    6: ("normalization_rule_tsv", "text"),
}
TRAINER_FIELDS = {
    3: ("model_type", "type"),
    4: ("vocab_size", "int"),
    24: ("treat_whitespace_as_suffix", "bool"),
    35: ("byte_fallback", "bool"),
    40: ("unk_id", "int"),
    41: ("bos_id", "int"),
    42: ("eos_id", "int"),
    43: ("pad_id", "int"),
    44: ("unk_surface", "text"),
    45: ("unk_piece", "text"),
    46: ("bos_piece", "text"),
    47: ("eos_piece", "text"),
    48: ("pad_piece", "text"),
}
WIRE_OF = {"text": BYTES, "bytes": BYTES, "bool": VARINT, "int": VARINT, "type": VARINT, "float": FIXED32}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number is longer than 10 bytes")


def _fields(data: bytes) -> Iterator[tuple[int, int, Any, bytes]]:
    """(number, wire type, value, the field's own bytes) of each field in order."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: Any
        if number == 0:
            raise ValueError(f"field number 0 at byte {start}")
        if wire == VARINT:
            value, at = _varint(data, at)
        elif wire in (FIXED32, FIXED64, BYTES):
            if wire == BYTES:
                size, at = _varint(data, at)
            else:
                size = 4 if wire == FIXED32 else 8
            if size > len(data) - at:
                raise ValueError(f"field {number} at byte {start} needs {size} bytes, {len(data) - at} are left")
            value = data[at : at + size]
            at += size
        else:
            raise ValueError(f"field {number} at byte {start} has wire type {wire}, which is not known")
        yield number, wire, value, data[start:at]


def _value(what: str, kind: str, wire: int, value: Any) -> Any:
    if wire != WIRE_OF[kind]:
        raise ValueError(f"{what} has wire type {wire}")
    if kind == "text":
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{what} is not UTF-8") from None
    if kind == "bool":
        return bool(value)
    if kind == "int":
        signed = (value & 0xFFFFFFFF) - ((value & 0x80000000) << 1)
        return signed
    if kind == "float":
        return struct.unpack("<f", value)[0]
    if kind == "type":
        if value not in ModelType.__members__.values():
            raise ValueError(f"{what} is {value}, which is not known (1 unigram, 2 BPE, 3 word, 4 char)")
        return ModelType(value)
    return value


def _message(target: Any, data: bytes, known: dict[int, tuple[str, str]]) -> Any:
    other = []
    for number, wire, value, own in _fields(data):
        if number in known:
            attribute, kind = known[number]
            setattr(target, attribute, _value(attribute, kind, wire, value))
        else:
            other.append(own)
    target.other = b"".join(other)
    return target


def _model(data: bytes) -> SentencePieceModel:
    pieces: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    normalizer, trainer = NormalizerSpec(), TrainerSpec()
    denormalizer: NormalizerSpec | None = None
    other = []
    for number, wire, value, own in _fields(data):
        if number in (1, 2, 3, 5) and wire != BYTES:
            raise ValueError(f"field {number} has wire type {wire}")
        if number == 1:
            if len(pieces) == MOST_PIECES:
                raise ValueError(f"more than {MOST_PIECES} pieces")
            piece, score, kind = _piece(value, len(pieces))
            pieces.append(piece)
            scores.append(score)
            types.append(kind)
        elif number == 2:
            trainer = _message(TrainerSpec(), value, TRAINER_FIELDS)
        elif number == 3:
            normalizer = _message(NormalizerSpec(), value, NORMALIZER_FIELDS)
        elif number == 5:
            denormalizer = _message(NormalizerSpec(), value, NORMALIZER_FIELDS)
        else:
            other.append(own)
    if not pieces:
        raise ValueError("it holds no pieces")
    unknown = [i for i, kind in enumerate(types) if kind == PieceType.UNKNOWN]
    if len(unknown) != 1:
        raise ValueError(f"it has {len(unknown)} pieces of type unknown, one is needed")
    if trainer.byte_fallback:
        there = {pieces[i] for i, kind in enumerate(types) if kind == PieceType.BYTE}
        if len(there) != 256:
            raise ValueError(f"byte_fallback needs 256 byte pieces, it has {len(there)}")
    return SentencePieceModel(
        pieces,
        np.array(scores, np.float32),
        np.array(types, np.uint8),
        normalizer,
        trainer,
        denormalizer,
        b"".join(other),
    )


def _piece(data: bytes, index: int) -> tuple[str, float, int]:
    piece, score, kind = "", 0.0, int(PieceType.NORMAL)
    for number, wire, value, _ in _fields(data):
        if number == 1:
            piece = _value(f"piece {index}", "text", wire, value)
        elif number == 2:
            score = _value(f"the score of piece {index}", "float", wire, value)
        elif number == 3:
            kind = _value(f"the type of piece {index}", "int", wire, value)
    if not piece or "\0" in piece:
        raise ValueError(f"piece {index} is empty or holds a NUL")
    if not 1 <= kind <= 6:
        raise ValueError(f"piece {index} has type {kind}, which is not known")
    if not np.isfinite(score):
        raise ValueError(f"piece {index} has the score {score}")
    if kind == PieceType.BYTE and (len(piece) != 6 or piece not in BYTE_PIECES):
        raise ValueError(f"piece {index}, {piece!r}, is of type byte but does not name one")
    return piece, score, kind


BYTE_PIECES = {f"<0x{byte:02X}>": byte for byte in range(256)}


def _encode_varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF  # a negative int32 takes ten bytes
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode(number: int, kind: str, value: Any) -> bytes:
    key = _encode_varint(number << 3 | WIRE_OF[kind])
    if kind == "float":
        return key + struct.pack("<f", value)
    if WIRE_OF[kind] == VARINT:
        return key + _encode_varint(int(value))
    content = value.encode("utf-8") if kind == "text" else value
    return key + _encode_varint(len(content)) + content


def _encode_message(source: Any, default: Any, known: dict[int, tuple[str, str]]) -> bytes:
    """Fields that have their default are left out, as protobuf's readers fill them in; `model_type` is always written."""
    out = []
    for number, (attribute, kind) in known.items():
        value = getattr(source, attribute)
        if value != getattr(default, attribute) or kind in ("type", "bool"):
            out.append(_encode(number, kind, value))
    return b"".join(out) + bytes(source.other)


def model_bytes(model: SentencePieceModel) -> bytes:
    """The bytes of the `.model` file."""
    out = []
    for piece, score, kind in zip(model.pieces, model.scores.tolist(), model.types.tolist(), strict=True):
        body = _encode(1, "text", piece) + _encode(2, "float", score)
        if kind != PieceType.NORMAL:
            body += _encode(3, "int", kind)
        out.append(_encode(1, "bytes", body))
    out.append(_encode(2, "bytes", _encode_message(model.trainer, TrainerSpec(), TRAINER_FIELDS)))
    out.append(_encode(3, "bytes", _encode_message(model.normalizer, NormalizerSpec(), NORMALIZER_FIELDS)))
    if model.denormalizer is not None:
        out.append(_encode(5, "bytes", _encode_message(model.denormalizer, NormalizerSpec(), NORMALIZER_FIELDS)))
    return b"".join(out) + model.other
