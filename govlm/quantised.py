"""Models in 8 or 4 bits, or in packed float32, on disk: one file that is mapped, not copied, beside a config.json that says so.

`config.json` has `"quantization_config": {"quant_method": "govlm-int8", "version": 1, "layout": …, "group": …, "levels": …}`,
and `model.int8.safetensors` holds, under transformers' names, every parameter: as F32 where it stays float32 (biases, norms, a
small classifier), else as

    NAME.panels  I8   [slices * panels * 16 * depth]   panels[o // 16][i // 4][o % 16][i % 4], depth = inputs rounded up to 8
    NAME.sums    I16  [slices * panels * groups * 16]  sums[o // 16][g][o % 16]: of the group's integers
    NAME.scales  F32  [slices * panels * 16]           weight = panels * scales[o] * smooth[i]
    NAME.smooth  F32  [inputs]                         may be missing (= 1): inputs are multiplied by it before they are rounded

The layout is the same for AVX2, AVX-512 VNNI and the scalar kernels, so one file serves all of them; what the integers must
keep (no 16-bit sum overflows) is written in csrc/kernels/simd_quantised.h, and `round_weights` keeps it.

Weights in blocks of 32 (govlm/blocks.py) have `"quant_method": "govlm-int4"` and `model.int4.safetensors`, with

    NAME.blocks  U8   [slices * panels * blocks * record]   bits and whether there are minimums: in the metadata's `kinds`

Float32 in the order in which products read it has `"quant_method": "govlm-packed"` and `model.packed.safetensors`, whose matrices
are blocks of 32 bits: nothing is rounded, and tables stay as they are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks import BLOCK, Blocks
from .checkpoint import _File, _header_bytes, write_atomically

__all__ = [
    "FILE", "FILE4", "FILES", "LAYOUT", "METHOD", "METHOD4", "BlocksCheckpoint", "Packed", "QuantisedCheckpoint", "codes_of",
    "lane_sums", "open_quantised", "pack", "packed_of", "quantisation_of", "round_weights", "save",
]  # fmt: skip

FILE = "model.int8.safetensors"
METHOD = "govlm-int8"
VERSION = 1
LAYOUT = "panel16-k4-pair8"
FILE4 = "model.int4.safetensors"
METHOD4 = "govlm-int4"
LAYOUT4 = "panel16-block32"
FILE32 = "model.packed.safetensors"
METHOD32 = "govlm-packed"
LAYOUT32 = "panel16-float32"
FILES = {8: FILE, 4: FILE4, 32: FILE32}  # by the bits that `govlm quantize` is told
_LAYOUTS = {METHOD: LAYOUT, METHOD4: LAYOUT4, METHOD32: LAYOUT32}
PANEL, STEP = 16, 8
_KINDS = {"4": (4, False), "4+minimum": (4, True), "8": (8, False), "32": (32, False)}
_PARTS = ("panels", "sums", "scales", "smooth")
F32 = NDArray[np.float32]


class Packed(NamedTuple):
    """One quantised parameter, as the core's bind_quantised takes it."""

    panels: NDArray[np.int8]
    sums: NDArray[np.int16]
    scales: F32
    smooth: F32 | None
    group: int
    levels: int


def lane_sums(weights: NDArray[Any]) -> NDArray[Any]:
    """[n]: for each output the largest sum of the positive, or of the negative, weights of one lane. weights [n, k].

    A lane is what one 16-bit sum of the AVX2 kernel takes in: weights i, i + 1, i + 4, i + 5 and i + 2, i + 3, i + 6, i + 7 of
    every 8 inputs.
    """
    n, k = weights.shape
    if n == 0 or k == 0:
        return np.zeros(n, weights.dtype)
    whole = np.pad(weights, ((0, 0), (0, -k % STEP)))
    most = np.zeros(n, weights.dtype)
    for part in (np.maximum(whole, 0), np.maximum(-whole, 0)):
        pairs = part[:, 0::2] + part[:, 1::2]  # four a step: of both lanes, twice
        for lane in (0, 1):
            np.maximum(most, (pairs[:, lane::4] + pairs[:, lane + 2 :: 4]).max(axis=1), out=most)
    return most


def pack(codes: NDArray[np.int8], scales: F32, smooth: F32 | None, group: int, levels: int, slices: int = 1) -> Packed:
    """Integers [n, k] and a scale for each of the n outputs -> the layout above. n is a multiple of `slices`.

    Errors: ValueError when a lane is over the limit, so that the kernels could overflow.
    """
    n, k = codes.shape
    if n and k and int(lane_sums(codes.astype(np.int32)).max()) > 32767 // levels:
        raise ValueError(f"integers of a lane of four sum to more than 32767 / {levels}")
    panels: list[NDArray[np.int8]] = []
    sums: list[NDArray[np.int16]] = []
    padded: list[F32] = []
    for part, scale in zip(codes.reshape(slices, n // slices, k), scales.reshape(slices, -1), strict=True):
        rows = -len(part) % PANEL
        whole = np.pad(part, ((0, rows), (0, -k % STEP)))
        blocks = whole.reshape(-1, PANEL, whole.shape[1] // 4, 4)
        panels.append(np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)).reshape(-1))
        edges = np.arange(0, k, group)
        sum_of = np.add.reduceat(whole.astype(np.int32), edges, axis=1)  # the padding is 0 and falls into the last group
        sums.append(np.ascontiguousarray(sum_of.reshape(-1, PANEL, len(edges)).transpose(0, 2, 1)).astype(np.int16).reshape(-1))
        padded.append(np.pad(scale.astype(np.float32), (0, rows)))
    return Packed(np.concatenate(panels), np.concatenate(sums), np.concatenate(padded), smooth, group, levels)


def codes_of(packed: Packed, n: int, k: int, slices: int = 1) -> tuple[NDArray[np.int8], F32]:
    """The way back from `pack`: integers [n, k] and scales [n]."""
    rows, depth = n // slices, k + -k % STEP
    wide = rows + -rows % PANEL
    blocks = packed.panels.reshape(slices, wide // PANEL, depth // 4, PANEL, 4).transpose(0, 1, 3, 2, 4)
    codes = blocks.reshape(slices, wide, depth)[:, :rows, :k].reshape(n, k)
    return codes, packed.scales.reshape(slices, wide)[:, :rows].reshape(n)


# ---- the folder ------------------------------------------------------------------------------------------------------------


def quantisation_of(config: Any) -> dict[str, Any] | None:
    """The config's quantization_config when it is ours, None when there is none.

    Errors: ValueError for another method, version or layout.
    """
    settings = config.__dict__.get("quantization_config")
    if settings is None:
        return None
    where = f"{config.name_or_path}/config.json: quantization_config" if config.name_or_path else "quantization_config"
    method = settings.get("quant_method") if isinstance(settings, Mapping) else settings
    if method not in _LAYOUTS or not isinstance(settings, Mapping):
        raise ValueError(
            f"{where} asks for {method!r}; govlm reads {', '.join(map(repr, _LAYOUTS))}: quantize the float32 model with "
            "`govlm quantize`"
        )
    for name, ours in (("version", VERSION), ("layout", _LAYOUTS[method])):
        if settings.get(name) != ours:
            raise ValueError(
                f"{where} has {name} {settings.get(name)!r}, this govlm reads {ours!r}: quantize the float32 model again"
            )
    for name, most in (("group", 256), ("levels", 255)) if method == METHOD else ():
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{where} has {name} {value!r}, which must be a whole number up to {most}")
    return dict(settings)


class _PackedCheckpoint:
    """The parameters of a quantised folder, with checkpoint.Checkpoint's methods.

    Errors: FileNotFoundError; ValueError naming the file and the tensor for damage, truncation, another version or layout.
    """

    name, method, layout = FILE, METHOD, LAYOUT
    parts: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        file = self.folder / self.name
        if not file.exists():
            raise FileNotFoundError(f"{file} is missing, though config.json says that the model is quantised")
        self.files = [file]
        self._opened = _File(file)
        self.metadata = self._opened.metadata
        for name, ours in (("format", self.method), ("version", str(VERSION)), ("layout", self.layout)):
            if self.metadata.get(name) != ours:
                raise ValueError(
                    f"{file} has {name} {self.metadata.get(name)!r}, this govlm reads {ours!r}: quantize the model again"
                )
        try:
            self._shapes = {str(k): tuple(int(n) for n in v) for k, v in json.loads(self.metadata["shapes"]).items()}
        except (KeyError, ValueError, TypeError, AttributeError):
            raise ValueError(f"{file} has no readable table of shapes in its metadata") from None
        for name in self._shapes:
            for part in self.needed:
                if f"{name}.{part}" not in self._opened.entries:
                    raise ValueError(f"{file} has no tensor {name + '.' + part!r}")
        parts = {f"{name}.{part}" for name in self._shapes for part in self.parts}
        self._plain = [name for name in self._opened.entries if name not in parts]

    def names(self) -> list[str]:
        return [*self._shapes, *self._plain]

    def __contains__(self, name: object) -> bool:
        return name in self._shapes or name in self._plain

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name] if name in self._shapes else tuple(self._opened.entries[name]["shape"])

    def file(self, name: str) -> Path:
        return self.files[0]

    def _part(self, full: str, kind: str) -> Any:
        """A view of one packed array."""
        there = self._opened.entries[full]["dtype"]
        if there != kind:
            raise ValueError(f"{self.files[0]}: tensor {full!r} has dtype {there}, it must be {kind}")
        array = self._opened.raw(full)
        return array if array.flags.aligned else array.copy()

    def _packed(self, name: str) -> Any:
        raise NotImplementedError

    def tensor(self, name: str) -> Any:
        """A float32 array, or a Packed or Blocks of views into the mapped file."""
        return self._packed(name) if name in self._shapes else self._opened.tensor(name)


class QuantisedCheckpoint(_PackedCheckpoint):
    """A folder of the 8-bit format: tensors are Packed."""

    parts = _PARTS
    needed = _PARTS[:3]

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder)
        for name in ("group", "levels"):
            if self.metadata.get(name) != str(settings[name]):
                raise ValueError(
                    f"{self.files[0]} has {name} {self.metadata.get(name)!r}, but config.json says {settings[name]}"
                )
        self._group, self._levels = int(settings["group"]), int(settings["levels"])

    def _packed(self, name: str) -> Packed:
        parts: list[Any] = []
        for part, kind in zip(_PARTS, ("I8", "I16", "F32", "F32"), strict=True):
            full = f"{name}.{part}"
            parts.append(self._part(full, kind) if full in self._opened.entries else None)  # smooth may be missing
        panels, sums, scales, smooth = parts
        return Packed(panels, sums, scales, smooth, self._group, self._levels)


class BlocksCheckpoint(_PackedCheckpoint):
    """A folder of the format in blocks of 32: tensors are Blocks."""

    name, method, layout = FILE4, METHOD4, LAYOUT4
    parts = needed = ("blocks",)

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        try:
            kinds = json.loads(self.metadata["kinds"])
            self._kinds = {name: _KINDS[kinds[name]] for name in self._shapes}
        except (KeyError, ValueError, TypeError):
            raise ValueError(f"{self.files[0]} has no readable table of kinds in its metadata") from None

    def _packed(self, name: str) -> Blocks:
        return Blocks(self._part(f"{name}.blocks", "U8"), *self._kinds[name])


class FloatsCheckpoint(BlocksCheckpoint):
    """A folder of packed float32: tensors are Blocks of 32 bits."""

    name, method, layout = FILE32, METHOD32, LAYOUT32

    def _packed(self, name: str) -> Blocks:
        packed = super()._packed(name)
        whole = packed.data.ctypes.data % 4 == 0  # another program may have written the file anew
        return packed if whole else packed._replace(data=packed.data.copy())


def open_quantised(folder: str | Path, settings: Mapping[str, Any]) -> QuantisedCheckpoint | BlocksCheckpoint:
    """The checkpoint in `folder` that the config's settings (`quantisation_of`) ask for."""
    if settings["quant_method"] == METHOD:
        return QuantisedCheckpoint(folder, settings)
    return BlocksCheckpoint(folder) if settings["quant_method"] == METHOD4 else FloatsCheckpoint(folder)


def packed_of(core: Any, core_name: str) -> Packed | Blocks | None:
    """How a core holds a parameter: None = float32."""
    held = core.quantised(core_name)
    if held is None:
        return None
    return Blocks(*held) if len(held) == len(Blocks._fields) else Packed(*held)


def _pieces(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Iterator[Any]:
    """As checkpoint writes them, widest first, but with the panels at a multiple of 64 bytes from the file's start: a cache line
    of weights is then one of the memory, too."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    wide = sum(tensors[name].nbytes for name in order if tensors[name].dtype.itemsize > 1)
    text = _header_bytes(tensors, order, metadata)
    text += b" " * (-(8 + len(text) + wide) % 64)
    yield struct.pack("<Q", len(text)) + text
    for name in order:
        if tensors[name].nbytes:
            flat: Any = np.ascontiguousarray(tensors[name]).reshape(-1)
            yield memoryview(flat).cast("B")


def save(model: Any, folder: str | Path, architectures: list[str]) -> None:
    """Writes a quantised model's config.json and file, atomically, as they are: nothing is rounded again."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {}
    shapes: dict[str, list[int]] = {}
    settings: set[tuple[int, int]] = set()
    kinds: dict[str, str] = {}
    for name, (part, core_name) in model._names.items():
        core = model._core_of(part)
        packed = packed_of(core, core_name)
        if packed is None:
            tensors[name] = np.asarray(core.parameter(core_name))
            continue
        shapes[name] = [int(n) for n in core.shape(core_name)]
        if isinstance(packed, Blocks):
            kinds[name] = next(word for word, kind in _KINDS.items() if kind == packed[1:])
            tensors[f"{name}.blocks"] = packed.data
            continue
        settings.add((packed.group, packed.levels))
        for which in _PARTS:
            array = getattr(packed, which)
            if array is not None:
                tensors[f"{name}.{which}"] = array
    if len(settings) + (1 if kinds else 0) != 1:
        raise ValueError("the quantised parameters of one model share one method, one group and one number of levels")
    table = {"shapes": json.dumps(shapes, separators=(",", ":"))}
    described: dict[str, Any]
    if kinds:
        floats = "32" in kinds.values()
        file, method, layout = (FILE32, METHOD32, LAYOUT32) if floats else (FILE4, METHOD4, LAYOUT4)
        table["kinds"] = json.dumps(kinds, separators=(",", ":"))
        described = {"bits": 32} if floats else {"bits": 4, "group": BLOCK}
    else:
        file, method, layout = FILE, METHOD, LAYOUT
        group, levels = settings.pop()
        table |= {"group": str(group), "levels": str(levels)}
        described = {"bits": 8, "group": group, "levels": levels}
    metadata = {"format": method, "version": str(VERSION), "layout": layout, **table}
    config = model.config
    config.architectures = architectures
    config.dtype = "float32"
    config.quantization_config = {"quant_method": method, "version": VERSION, "layout": layout, **described}
    write_atomically(
        {folder / file: _pieces(tensors, metadata), folder / "config.json": config.to_json_string().encode("utf-8")}
    )


def round_weights(weights: F32, levels: int) -> tuple[NDArray[np.int8], F32]:
    """[n, k] -> integers and the finest scale for each output at which they fit 8 bits and every lane its 16.

    An output of zeros has scale 1. |weights - integers * scale| <= scale / 2.
    """
    limit = 32767 // levels
    amax = np.abs(weights).max(axis=1, initial=0.0)
    scale = np.maximum(amax / np.float32(127), lane_sums(weights) / np.float32(limit)).astype(np.float32)
    scale = np.maximum(scale, np.float32(1e-35))
    scale[amax == 0] = 1.0
    codes = np.rint(weights / scale[:, None])
    wrong = np.flatnonzero((lane_sums(codes) > limit) | (np.abs(codes).max(axis=1, initial=0.0) > 127))
    while len(wrong):  # rounding up went over a lane's limit: a little coarser
        scale[wrong] *= np.float32(1.004)
        codes[wrong] = np.rint(weights[wrong] / scale[wrong, None])
        wrong = wrong[(lane_sums(codes[wrong]) > limit) | (np.abs(codes[wrong]).max(axis=1, initial=0.0) > 127)]
    return codes.astype(np.int8), scale
