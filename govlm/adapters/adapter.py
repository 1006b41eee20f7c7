"""One adapter of one model: which layers it goes with, its arrays in the core, and its tensors under PEFT's names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import load_file
from ..families import normalise
from ..parameters import Parameter
from .config import LoraConfig

__all__ = ["WEIGHTS", "Adapter", "AdapterParameter", "Route", "read_tensors"]

F32 = NDArray[np.float32]
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_DEFAULTS = {
    "albert": ["query", "value"], "bert": ["query", "value"], "roberta": ["query", "value"], "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"], "qwen2": ["q_proj", "v_proj"], "qwen3": ["q_proj", "v_proj"], "t5": ["q", "v"], "mt5": ["q", "v"],
}  # fmt: skip
_NOT_LINEAR = re.compile(r"^embeddings\.(word|position|token_type)\.|norm\.weight$|relative_bias\.weight$")
_VOCABULARY = ("lm_head.weight", "mlm.decoder.weight")
_serials = itertools.count()


class AdapterParameter(Parameter):
    """A parameter that lies in an adapter's core."""

    __slots__ = ("_core",)

    def __init__(self, model: Any, part: str, core: Any, core_name: str, name: str) -> None:
        super().__init__(model, part, core_name, name)
        self._core = core

    @property
    def core(self) -> Any:
        return self._core


class Route(NamedTuple):
    """An adapter as a text goes through it in one part of a model: its core, and what tells it from every other."""

    core: Any
    serial: int

    @property
    def key(self) -> bytes:
        """Changes with the weights."""
        return f"{self.serial}.{self.core.version}".encode()


class _Place(NamedTuple):
    """Where a tensor of the adapter lies. peft: its name in PEFT's files, without the prefix."""

    part: str
    core_name: str
    peft: str


class Adapter:
    """Arrays are zero until `initialise` or `fill`. Errors as LoraConfig's, and ValueError for targets that the model lacks."""

    def __init__(self, model: Any, name: str, config: LoraConfig) -> None:
        self.name, self.config, self.serial = name, config, next(_serials)
        targets, whole = _targets(model, config), _whole(model, config)
        if config.target_modules in (None, "all-linear"):  # what it means for this model
            config.target_modules = _short(targets, _modules(model))
        self.cores: dict[str, Any] = {}
        self.parameters: dict[str, AdapterParameter] = {}
        self.modules: list[tuple[str, str, str]] = []  # (part, the base's core name, module)
        self._places: list[_Place] = []
        for part in dict.fromkeys(part for part, _ in [*targets.values(), *whole.values()]):
            wanted = [core for at, core in targets.values() if at == part]
            held = [core for at, core in whole.values() if at == part]
            core = model._core_of(part).adapter(config.r, config.scaling, float(config.lora_dropout), wanted, held)
            self.cores[part] = core
        for module, (part, core_name) in targets.items():
            stem = core_name.removesuffix(".weight")
            self.modules.append((part, core_name, module))
            for letter in ("lora_A", "lora_B"):
                self._add(
                    model,
                    _Place(part, f"{stem}.{letter}.weight", f"{module}.{letter}.weight"),
                    f"{module}.{letter}.{name}.weight",
                )
        for parameter, (part, core_name) in whole.items():
            found = _within(list(config.modules_to_save or ()), parameter)
            assert found is not None
            inside = parameter[: found.end(2)], parameter[found.end(2) :]
            self._add(model, _Place(part, core_name, parameter), f"{inside[0]}.modules_to_save.{name}{inside[1]}")

    def _add(self, model: Any, place: _Place, name: str) -> None:
        self._places.append(place)
        self.parameters[name] = AdapterParameter(model, place.part, self.cores[place.part], place.core_name, name)

    def route(self, part: str) -> Route | None:
        """None: nothing of this part is adapted."""
        core = self.cores.get(part)
        return None if core is None else Route(core, self.serial)

    def requires_grad_(self, value: bool) -> None:
        for parameter in self.parameters.values():
            parameter.requires_grad = value

    # ---- values ------------------------------------------------------------------------------------------------------------

    def initialise(self, model: Any) -> None:
        """Starts afresh, from NumPy's global generator: as the base until it is trained."""
        generator = np.random.default_rng(np.random.randint(0, 2**32, dtype=np.uint64))
        for place in self._places:
            shape = tuple(self.cores[place.part].shape(place.core_name))
            if place.core_name.endswith(".lora_A.weight"):
                if self.config.init_lora_weights == "gaussian":
                    value = generator.standard_normal(shape, dtype=np.float32) / np.float32(self.config.r)
                else:  # torch's kaiming_uniform_(a=sqrt(5))
                    value = generator.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(shape[1]))
            elif place.core_name.endswith(".lora_B.weight"):
                value = np.zeros(shape, np.float32)
                if self.config.init_lora_weights is False:
                    value = generator.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(shape[1]))
            else:
                value = np.array(model._core_of(place.part).parameter(place.core_name))
            self.cores[place.part].bind(place.core_name, value)

    def fill(self, tensors: Mapping[str, NDArray[Any]], prefix: str, where: str) -> None:
        """Takes over tensors of PEFT's names. ValueError, beginning with `where`, for one that is missing, left over or of another
        shape; the adapter is not to be used then."""
        there = {normalise(name.removeprefix(_PREFIX), prefix): name for name in tensors}
        wanted = {normalise(place.peft, prefix): place for place in self._places}
        for name, place in wanted.items():
            if name not in there:
                raise ValueError(
                    f"{where} has no tensor {_PREFIX}{place.peft!r}, which this model and its adapter_config.json need"
                )
        for name, given in there.items():
            if name not in wanted:
                raise ValueError(f"{where}: tensor {given!r} has no place in this model: it was made for another one")
        for name, place in wanted.items():
            core, value = self.cores[place.part], tensors[there[name]]
            shape = tuple(core.shape(place.core_name))
            if value.shape != shape:
                raise ValueError(
                    f"{where}: tensor {there[name]!r} has shape {list(value.shape)}, this model needs {list(shape)}"
                )
            if value.dtype.kind != "f":
                raise ValueError(f"{where}: tensor {there[name]!r} has dtype {value.dtype}, a weight must hold floats")
        for name, place in wanted.items():
            core, value = self.cores[place.part], np.array(tensors[there[name]], np.float32)
            if core.trainable:
                core.parameter(place.core_name)[...] = value
            else:
                core.bind(place.core_name, value)

    def tensors(self) -> Iterator[tuple[str, F32]]:
        """(PEFT's name, values)."""
        for place in self._places:
            yield _PREFIX + place.peft, self.cores[place.part].parameter(place.core_name)

    def delta(self, part: str, core_name: str) -> F32:
        """What the adapter adds to a matrix, [out, in]."""
        core, stem = self.cores[part], core_name.removesuffix(".weight")
        low: F32 = core.parameter(f"{stem}.lora_B.weight") @ core.parameter(f"{stem}.lora_A.weight")
        return low * np.float32(self.config.scaling)

    def whole(self) -> Iterator[tuple[str, str, F32]]:
        """(part, the base's core name, values) of what the adapter holds in the base's place."""
        for place in self._places:
            if not place.core_name.endswith((".lora_A.weight", ".lora_B.weight")):
                yield place.part, place.core_name, self.cores[place.part].parameter(place.core_name)


def read_tensors(folder: Path) -> dict[str, NDArray[Any]]:
    """Those of an adapter's folder. FileNotFoundError; ValueError for a pickle or a damaged file."""
    file = folder / WEIGHTS
    if file.is_file():
        return load_file(file)
    if (folder / "adapter_model.bin").exists():
        raise ValueError(
            f"{folder / 'adapter_model.bin'} is a pickle: loading one can run any code that its author put in, so govlm does not. "
            f"Convert it to {WEIGHTS} (in PEFT: model.save_pretrained(folder, safe_serialization=True))"
        )
    raise FileNotFoundError(f"{file} is missing")


# ---- which layers ----------------------------------------------------------------------------------------------------------


def _modules(model: Any) -> dict[str, tuple[str, str]]:
    """Module -> where its weight lies."""
    return {name.removesuffix(".weight"): place for name, place in model._names.items() if name.endswith(".weight")}


def _matches(wanted: Sequence[str] | str, module: str) -> bool:
    if isinstance(wanted, str):
        return re.fullmatch(wanted, module) is not None
    return any(module == name or module.endswith("." + name) for name in wanted)


def _is_linear(core_name: str) -> bool:
    return _NOT_LINEAR.search(core_name) is None and core_name not in _VOCABULARY


def _within(modules: Sequence[str], name: str) -> re.Match[str] | None:
    """Where `name` names one of these modules (group 2), or a part of one."""
    if not modules:
        return None
    return re.search(rf"(^|\.)({'|'.join(map(re.escape, modules))})(?=\.|$)", name)


def _targets(model: Any, config: LoraConfig) -> dict[str, tuple[str, str]]:
    modules, kind = _modules(model), type(model).__name__
    wanted: Any = config.target_modules
    if wanted is None:
        wanted = _DEFAULTS[model.config.model_type]
    saved = list(config.modules_to_save or ())
    linear = {module: place for module, place in modules.items() if _is_linear(place[1])}
    if wanted == "all-linear":
        spared = ["classifier", "score"] if model.task == "sequence" else []
        chosen = {module: place for module, place in linear.items() if not _within(spared, module)}
    else:
        if isinstance(wanted, str):
            try:
                re.compile(wanted)
            except re.error as error:
                raise ValueError(f"target_modules is no regular expression: {error}") from None
        else:
            for name in wanted:
                if not any(_matches([name], module) for module in modules):
                    raise ValueError(f"target_modules: {kind} has no layer {name!r}; {_offers(linear)}")
        chosen = {module: place for module, place in modules.items() if _matches(wanted, module)}
    for module in list(chosen):
        excluded = config.exclude_modules is not None and _matches(config.exclude_modules, module)  # type: ignore[arg-type]
        if excluded or _within(saved, module) or not _in_layers(config.layers_to_transform, module):
            del chosen[module]
    for module in chosen:
        if module not in linear:
            raise ValueError(
                f"target_modules: {module} of {kind} is no linear layer that an adapter goes with; {_offers(linear)}"
            )
    if not chosen:
        raise ValueError(f"target_modules {config.target_modules!r} leaves no layer of {kind}; {_offers(linear)}")
    return chosen


def _short(targets: Mapping[str, Any], modules: Mapping[str, Any]) -> list[str]:
    """The last parts of the targets' names, where those mean the same; else whole names."""
    last = sorted({module.rsplit(".", 1)[-1] for module in targets})
    return last if {module for module in modules if _matches(last, module)} == set(targets) else sorted(targets)


def _in_layers(layers: Any, module: str) -> bool:
    found = re.match(r".*?\.[^.]*\.(\d+)\.", "." + module)
    return layers is None or (found is not None and int(found[1]) in layers)


def _offers(linear: Mapping[str, Any]) -> str:
    return "it has " + ", ".join(sorted({module.rsplit(".", 1)[-1] for module in linear}))


def _whole(model: Any, config: LoraConfig) -> dict[str, tuple[str, str]]:
    """Parameters of modules_to_save."""
    chosen: dict[str, tuple[str, str]] = {}
    for module in config.modules_to_save or ():
        found = {name: place for name, place in model._names.items() if _within([module], name.rpartition(".")[0])}
        if not found and module == "score":
            continue  # another family's name for the classifier
        if not found:
            raise ValueError(f"modules_to_save: {type(model).__name__} has no {module!r}")
        for name, (_, core_name) in found.items():
            if core_name.split(".")[0] not in ("classifier", "pooler"):
                raise ValueError(f"modules_to_save: {name} is not supported, only a classifier or pooler")
        chosen.update(found)
    return chosen
