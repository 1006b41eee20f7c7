"""Quantisation without calibration data: float32 model in, the 8-bit, 4-bit or packed folder of govlm/quantised.py out.

What is rounded: the matrices of linear layers (with their head's), and the embedding tables; biases, norms and matrices with
fewer than 16 outputs (a small classifier) stay float32. Weights get one scale an output; activations are rounded while the model
runs, each row and group of inputs to `levels` steps between its smallest and largest value.

A factor for each input moves what is hard to round from activations to weights (SmoothQuant, Xiao et al., arXiv:2211.10438;
AWQ, Lin et al., arXiv:2306.00978): s_i = max|x_i|^0.4 / max|w_i|^0.6; the input is divided by it, its weights are multiplied. The
largest inputs are those that the float32 model computes from random tokens (a seed fixes them), so no text is needed. Second-order
rounding of the weights (GPTQ, arXiv:2210.17323) with the same inputs did not help: benchmarks/SPEED.md has the numbers.

With `bits` 4 weights are rounded in blocks of 32 (govlm/blocks.py), each scale chosen for the least error weighed by the mean
square of the inputs (of random tokens, as above); tables of positions and token types take 8 bits. With `bits` 32 nothing is
rounded: matrices lie in the order in which the kernels read them, tables as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm import blocks
from govlm.blocks import Blocks
from govlm.quantised import FILES, Packed, codes_of, pack, round_weights
from govlm.train.ngrams import FILE as NGRAMS

__all__ = ["QuantiseOptions", "dequantised", "quantise_folder", "quantise_model"]

F32 = NDArray[np.float32]
_EXPONENT = 0.4  # 0.35 to 0.45 are alike; finer choices by the error on random tokens do worse on text
_PREFER_NONE = 0.5
_SEARCH_ROWS = 192
_LEAST_OUTPUTS = 16


@dataclass(frozen=True)
class QuantiseOptions:
    """group: inputs that share an activation's scale (a multiple of 8, at most 256). levels: steps of an activation, 15..255;
    fewer leave the weights more: a lane of four may sum to 32767 / levels. smooth: search input factors. sequences, length: random tokens the model is studied with; seed: theirs.
    bits: 8; 4 in blocks of 32, or 32, packed and not rounded (group, levels and smooth are then not used); minimum: blocks of 4 bits have one (5 bits a
    weight instead of 4.5, and closer).
    """

    bits: int = 8
    minimum: bool = False
    group: int = 64
    levels: int = 192
    smooth: bool = True
    sequences: int = 32
    length: int = 32
    seed: int = 0

    def check(self) -> None:
        """ValueError naming the field."""
        if self.bits not in FILES:
            raise ValueError(f"bits must be 4, 8 or 32, not {self.bits}")
        if self.minimum and self.bits != 4:
            raise ValueError("minimum is for weights of 4 bits: give bits 4, too")
        if self.group % 8 or not 8 <= self.group <= 256:
            raise ValueError(f"group must be a multiple of 8 from 8 to 256, not {self.group}")
        if not 15 <= self.levels <= 255:
            raise ValueError(f"levels must be from 15 to 255, not {self.levels}")
        for name in ("sequences", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def _rounded_inputs(x: F32, group: int, levels: int) -> F32:
    """x [m, k] as the kernels round it and read it back."""
    out = np.empty_like(x)
    for begin in range(0, x.shape[1], group):
        part = x[:, begin : begin + group]
        low, high = part.min(axis=1, keepdims=True), part.max(axis=1, keepdims=True)
        step = (high - low) / np.float32(levels)
        step[step == 0] = 1
        out[:, begin : begin + group] = np.rint((part - low) / step) * step + low
    return out


class _Layer:
    """One quantisable parameter of one core, as a matrix [outputs, inputs]."""

    def __init__(self, core: Any, core_name: str, group: int) -> None:
        self.core, self.core_name = core, core_name
        self.slices, _, _, _, self.k = core.quantised_sizes(core_name, group)
        value = core.parameter(core_name)
        self.transposed = value.shape[1] != self.k or (
            value.shape[0] == value.shape[1] and bool(core.config.get("conv1d")) and core_name.startswith("layers.")
        )
        self.weights: F32 = np.ascontiguousarray(value.T if self.transposed else value)
        self.n = len(self.weights)
        self.table = core_name.startswith("embeddings.") and "projection" not in core_name


def _sharing(core_name: str) -> str:
    """Parameters with the same answer multiply the same inputs."""
    head = core_name.rpartition(".")[0]  # layers.0.attention.query
    stem, _, what = head.rpartition(".")
    if what in ("query", "key", "value") and ".cross" in stem:
        return f"{stem}.{'query' if what == 'query' else 'memory'}"
    if what in ("query", "key", "value"):
        return f"{stem}.input"
    return f"{stem}.input" if what in ("gate", "up") else head


def _study(model: Any, layers: dict[str, dict[str, _Layer]], options: QuantiseOptions) -> dict[tuple[str, str], F32]:
    """(part, sharing) -> inputs [rows, k] of that layer, from forwards on random tokens."""
    generator = np.random.default_rng(options.seed)
    config = model.config
    pad = config.__dict__.get("pad_token_id")
    length = min(options.length, _positions(model))
    ids = generator.integers(0, config.vocab_size, (options.sequences, length))
    if isinstance(pad, int) and config.vocab_size > 1:
        ids[ids == pad] = (pad + 1) % config.vocab_size
    for column, special in (
        (0, config.__dict__.get("cls_token_id") or _special(config, "[CLS]")),
        (-1, _special(config, "[SEP]")),
    ):
        if special is not None and 0 <= special < config.vocab_size:
            ids[:, column] = special
    found: dict[tuple[str, str], F32] = {}
    watched: list[tuple[Any, str, tuple[str, str], F32]] = []
    for part, there in layers.items():
        for core_name, layer in there.items():
            if layer.table:
                continue
            key = (part, _sharing(core_name))
            if any(other == key for _, _, other, _ in watched):
                continue
            passes = int(layer.core.config["num_layers"]) if layer.core.config.get("shared_layers") else 1
            rows = np.zeros((options.sequences * length * max(passes, 1), layer.k), np.float32)
            layer.core.capture(core_name, rows)
            watched.append((layer.core, core_name, key, rows))
        core = next(iter(there.values())).core
        if core.config.get("head") == "mlm" and core.config.get("tied_decoder", True):
            rows = np.zeros((options.sequences * length, int(core.shape("embeddings.word.weight")[1])), np.float32)
            core.capture("embeddings.word.weight", rows)
            watched.append((core, "embeddings.word.weight", (part, "embeddings.word"), rows))
    try:
        _run(model, ids)
    finally:
        for core, core_name, key, rows in watched:
            count = core.capture(core_name, None)
            if count:
                found[key] = rows[:count]
    return found


def _positions(model: Any) -> int:
    rules = getattr(model, "_rules", None)
    most = getattr(rules, "max_positions", None)
    return max(1, int(most) - 2) if most else 1 << 30


def _special(config: Any, token: str) -> int | None:
    """The usual id of [CLS] and [SEP] in BERT vocabularies is not in the config: 101 and 102 when there is room, else none."""
    usual = {"[CLS]": 101, "[SEP]": 102}[token]
    return usual if config.model_type in ("bert", "albert") and config.vocab_size > 1000 else None


def _run(model: Any, ids: NDArray[Any]) -> None:
    from govlm.outputs import no_grad

    extra = {"decoder_input_ids": ids} if "decoder" in model._cores else {}
    with no_grad():
        outputs = model(ids, **extra)
        for name in ("logits", "last_hidden_state"):
            _ = getattr(outputs, name, None)


def _factors(x: F32, weights: F32) -> F32:
    """What each input is divided by."""
    amax = np.abs(x).max(axis=0)
    wmax = np.abs(weights).max(axis=0)
    # An input that is small in this sample may be large in a text: its weights must not be rounded away.
    amax = np.maximum(amax, 0.25 * float(np.median(amax)) + 1e-12)
    wmax = np.maximum(wmax, 0.25 * float(np.median(wmax)) + 1e-12)
    s = amax**_EXPONENT / wmax ** (1 - _EXPONENT)
    s /= np.exp(np.mean(np.log(s)))
    return np.clip(s, 1 / 16, 16).astype(np.float32)


def _search(x: F32, weights: list[F32], options: QuantiseOptions) -> F32 | None:
    """The factors of all matrices that share x, or None where they make the squared error at the outputs much larger."""
    step = max(1, len(x) // _SEARCH_ROWS)
    some, joint = x[::step][:_SEARCH_ROWS], np.concatenate(weights)
    wanted = some @ joint.T
    errors = []
    factors = _factors(some, joint)
    for s in (None, factors):
        codes, scales = round_weights(joint if s is None else joint * s, options.levels)
        rounded = _rounded_inputs(some if s is None else some / s, options.group, options.levels)
        errors.append(float(np.mean((rounded @ (codes * scales[:, None]).T - wanted) ** 2)))
    return None if errors[0] < _PREFER_NONE * errors[1] else factors


def quantise_model(
    model: Any, options: QuantiseOptions | None = None, progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None
) -> Any:
    """Quantises a float32 model in place and returns it. progress wraps the list of layers (tqdm).

    Errors: ValueError for an option, a model that is quantised already, or a weight that is not finite (named).
    """
    options = options or QuantiseOptions()
    options.check()
    if model.quantised:
        raise ValueError("the model is quantised already: quantize the float32 model")
    layers: dict[str, dict[str, _Layer]] = {}
    for name, (part, core_name) in model._names.items():
        core = model._core_of(part)
        if core.trainable:
            raise ValueError("a model that has trained here cannot be quantised in place: save it and load it again")
        if not np.isfinite(core.parameter(core_name)).all():
            raise ValueError(f"{name} is not finite: such a model cannot be quantised")
        if len(core.shape(core_name)) != 2:
            continue
        try:
            layer = _Layer(core, core_name, options.group)
        except ValueError:
            continue  # a table of relative positions
        if layer.n // layer.slices >= _LEAST_OUTPUTS and not (options.bits == 32 and layer.table):
            layers.setdefault(part, {})[core_name] = layer
    was = model.training
    model.eval()
    inputs = {} if options.bits == 32 else _study(model, layers, options)
    together: dict[tuple[str, str], list[_Layer]] = {}
    for part, there in layers.items():
        for core_name, layer in there.items():
            together.setdefault((part, _sharing(core_name)), []).append(layer)
    jobs: Iterable[Any] = list(together.items())
    packed: list[tuple[_Layer, str, Packed | Blocks]] = []
    for key, group in progress(jobs) if progress is not None else jobs:
        x = inputs.get(key)
        if options.bits != 8:
            packed += [(layer, key[0], _blocks_of(layer, x, options)) for layer in group]
            continue
        s = None
        if x is not None and options.smooth and not group[0].table:
            s = _search(x, [layer.weights for layer in group], options)
        for layer in group:
            weights = layer.weights if s is None else layer.weights * s
            codes, scales = round_weights(weights, options.levels)
            smooth = None if s is None else (np.float32(1) / s).astype(np.float32)
            packed.append((layer, key[0], pack(codes, scales, smooth, options.group, options.levels, layer.slices)))
    for layer, part, value in packed:
        model._bind(part, layer.core_name, value)
    model._loaded()
    return model.train(was) if was else model


def _blocks_of(layer: _Layer, x: F32 | None, options: QuantiseOptions) -> Blocks:
    """One layer in blocks. x: inputs that it was seen with, [rows, k], or None."""
    if options.bits == 32:
        return blocks.pack_floats(layer.weights, layer.slices)
    table = layer.core_name in ("embeddings.position.weight", "embeddings.token_type.weight")
    bits, minimum = (8, False) if table else (4, options.minimum)
    importance: F32 | None = None if x is None else np.square(x).mean(axis=0).astype(np.float32)
    try:
        values = blocks.round_blocks(layer.weights, bits, minimum, importance)
    except ValueError as error:
        raise ValueError(f"{layer.core_name}: {error}") from None
    return blocks.pack(values, bits, layer.slices)


def dequantised(packed: Packed, n: int, k: int, slices: int = 1) -> F32:
    """The float32 matrix [n, k] that a Packed stands for."""
    codes, scales = codes_of(packed, n, k, slices)
    weights = codes.astype(np.float32) * scales[:, None]
    return weights if packed.smooth is None else weights * packed.smooth


def quantise_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: QuantiseOptions | None = None,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> dict[str, Any]:
    """Quantises the model in folder `source` into folder `out` (made when missing; not the same): config.json,
    model.int8.safetensors (.int4, .packed), and the other files of the folder (tokenizer, labels) as they are.

    Returns {"out", "float32_bytes", "quantised_bytes", "ratio", "agreement", "options"}; agreement is the mean cosine between the
    last hidden states of both on random tokens. Errors: ValueError, FileNotFoundError, OSError.
    """
    from govlm.configuration import AutoConfig

    source, out = Path(source), Path(out)
    if out.exists() and out.resolve() == source.resolve():
        raise ValueError(f"{out} is the folder of the float32 model: give another one")
    options = options or QuantiseOptions()
    options.check()
    config = AutoConfig.from_pretrained(source)
    if config.__dict__.get("quantization_config") is not None:
        raise ValueError(f"{source} is quantised already: give the float32 model")
    model = _class_of(config).from_pretrained(source)
    before = _hidden(model, options)
    quantise_model(model, options, progress)
    after = _hidden(model, options)
    agreement = float(
        np.mean(np.sum(before * after, -1) / (np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1) + 1e-30))
    )
    model.save_pretrained(out)
    skip = {"config.json", "model.safetensors", "model.safetensors.index.json", *FILES.values()}
    for file in sorted(source.iterdir()):
        wanted = file.suffix in (".json", ".txt", ".model", ".jinja", ".md") or file.name == NGRAMS
        if file.is_file() and file.name not in skip and wanted:
            shutil.copyfile(file, out / file.name)
    big = sum(int(np.prod(p.shape)) for p in model.parameters()) * 4
    for bits, name in FILES.items():
        if bits != options.bits:
            (out / name).unlink(missing_ok=True)  # of an earlier run
    small = (out / FILES[options.bits]).stat().st_size
    return {
        "out": str(out), "float32_bytes": big, "quantised_bytes": small, "ratio": small / big, "agreement": agreement,
        "options": asdict(options),
    }  # fmt: skip


def _class_of(config: Any) -> Any:
    """The class that config.json names, else the base model."""
    from govlm import models

    for name in config.architectures or ():
        found = getattr(models, name, None) if name in models.__all__ or name.startswith(("T5", "MT5")) else None
        if found is not None:
            return found
    return models.AutoModel._class_for(config)


def _hidden(model: Any, options: QuantiseOptions) -> F32:
    from govlm.outputs import no_grad

    generator = np.random.default_rng(options.seed + 1)
    ids = generator.integers(0, model.config.vocab_size, (8, min(options.length, _positions(model))))
    extra = {"decoder_input_ids": ids} if "decoder" in model._cores else {}
    with no_grad():
        outputs = model(ids, output_hidden_states=True, **extra)
    states = getattr(outputs, "hidden_states", None) or getattr(outputs, "decoder_hidden_states", None)
    return np.asarray(states[-1] if states else outputs.last_hidden_state, np.float32)
