"""What a model does with adapters, by the names of transformers' PEFT integration (and merging by PEFT's)."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bundled import model_folder
from ..checkpoint import _chunks, write_atomically
from .config import CONFIG, LoraConfig

if TYPE_CHECKING:
    from .adapter import Adapter, AdapterParameter, Route

__all__ = ["BASE", "AdapterMixin", "base_of"]

BASE = "__base__"  # in adapter_names: no adapter
F32 = NDArray[np.float32]


class AdapterMixin:
    """Several adapters may be loaded; one is active (or none), which is what forwards use that name none, and what trains.

    While there is one, the model itself is frozen: it has neither gradients nor moments, and stays in 8 or 4 bits where it is.
    """

    _adapters: dict[str, Adapter]
    _active: str | None
    _enabled: bool
    _merged: dict[tuple[str, str], F32]  # what merging replaced

    # ---- adding, loading, leaving ------------------------------------------------------------------------------------------

    def add_adapter(self: Any, adapter_config: LoraConfig, adapter_name: str | None = None) -> None:
        """A fresh adapter, active and ready to train; it changes nothing until it is trained. Freezes the model.

        A classifier or pooler that the checkpoint lacked, and that is random therefore, goes with the adapter as modules_to_save do.
        adapter_name: "default" by default. Errors: TypeError, ValueError (a name that is taken, targets that the model lacks).
        """
        from .adapter import Adapter

        if not isinstance(adapter_config, LoraConfig):
            raise TypeError(f"adapter_config must be a LoraConfig, not {type(adapter_config).__name__}")
        name = self._new_name(adapter_name)
        config = copy.deepcopy(adapter_config)
        config.base_model_name_or_path = getattr(self.config, "name_or_path", None) or None
        config.fan_in_fan_out = self.config.model_type == "gpt2"
        own = ("classifier", "pooler")
        lost = [n for n in self._fresh if not any(part in n.split(".") for part in own)]
        if lost:
            warnings.warn(f"{lost[0]} is random and is not saved with an adapter: train and save the whole model", stacklevel=2)
        fresh = {part for part in own for n in self._fresh if part in n.split(".")}
        if fresh - set(config.modules_to_save or ()):
            config.modules_to_save = sorted(fresh | set(config.modules_to_save or ()))
        adapter = Adapter(self, name, config)
        adapter.initialise(self)
        self._attach(adapter)
        self.set_adapter(name)

    def load_adapter(
        self: Any, peft_model_id: str | os.PathLike[str], adapter_name: str | None = None, *, is_trainable: bool = False
    ) -> None:
        """The adapter in a local folder (adapter_config.json, adapter_model.safetensors: PEFT's files), active; frozen unless
        is_trainable.

        Errors: FileNotFoundError; ValueError naming file and tensor or field: a damaged file, a pickle, a field or target that is
        not supported, another base model. Nothing is loaded then.
        """
        from .adapter import WEIGHTS, Adapter, read_tensors

        folder = Path(peft_model_id)
        name = self._new_name(adapter_name)
        config = LoraConfig.from_pretrained(folder)
        try:
            adapter = Adapter(self, name, config)
        except ValueError as error:
            raise ValueError(f"{folder / CONFIG}: {error}") from None
        adapter.fill(read_tensors(folder), self._load_prefix(), str(folder / WEIGHTS))
        self._attach(adapter)
        self.set_adapter(name)
        adapter.requires_grad_(is_trainable)

    def _refill_adapter(self: Any, folder: str | os.PathLike[str]) -> None:
        """Puts the values in an adapter's folder into the active adapter, bit for bit; errors as load_adapter's."""
        from .adapter import WEIGHTS, read_tensors

        folder = Path(folder)
        self._chosen(None).fill(read_tensors(folder), self._load_prefix(), str(folder / WEIGHTS))

    def _new_name(self, name: str | None) -> str:
        name = "default" if name is None else name
        if not isinstance(name, str) or not name or name == BASE or "." in name:
            raise ValueError(f"{name!r} is no name for an adapter: it must be a word without dots")
        if name in self._adapters:
            raise ValueError(f"there is an adapter {name!r} already: delete it, or give another name")
        return name

    def _attach(self: Any, adapter: Adapter) -> None:
        for parameter in self._parameters.values():
            parameter.requires_grad = False
        self._adapters[adapter.name] = adapter

    def delete_adapter(self, adapter_names: str | Sequence[str]) -> None:
        """Forgets adapters. The model stays frozen: `requires_grad_()` thaws it."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        for name in names:
            self._adapter(name)
        if self._merged:
            raise ValueError("an adapter is merged into the weights: unmerge_adapter() first")
        for name in names:
            del self._adapters[name]
            if self._active == name:
                self._active = next(iter(self._adapters), None)

    def _adapter(self, name: Any) -> Adapter:
        if name not in self._adapters:
            there = ", ".join(self._adapters) or "none is loaded"
            raise ValueError(f"the model has no adapter {name!r} ({there})")
        return self._adapters[name]

    # ---- choosing ----------------------------------------------------------------------------------------------------------

    def set_adapter(self, adapter_name: str) -> None:
        """Makes one adapter active, and the only one that trains."""
        if not isinstance(adapter_name, str):
            raise TypeError(f"one adapter is active at a time: set_adapter takes a name, not {adapter_name!r}")
        self._adapter(adapter_name)
        if self._merged and adapter_name != self._active:
            raise ValueError(f"adapter {self._active!r} is merged into the weights: unmerge_adapter() first")
        self._active, self._enabled = adapter_name, True
        for name, adapter in self._adapters.items():
            adapter.requires_grad_(name == adapter_name)

    def active_adapters(self) -> list[str]:
        """The active one's name; empty when there is none or they are disabled. ValueError when none is loaded."""
        self._some()
        return [self._active] if self._active is not None and self._enabled else []

    def disable_adapters(self) -> None:
        """Forwards go through the model alone until enable_adapters()."""
        self._some()
        self._enabled = False

    def enable_adapters(self) -> None:
        self._some()
        self._enabled = True

    def _some(self) -> None:
        if not self._adapters:
            raise ValueError("no adapter is loaded: add_adapter or load_adapter first")

    @property
    def peft_config(self) -> dict[str, LoraConfig]:
        """The configurations of the loaded adapters."""
        return {name: adapter.config for name, adapter in self._adapters.items()}

    def _routed(self, names: Any, count: int) -> list[str | None]:
        """The adapter of each of `count` sequences: None = none. names: adapter_names as a caller gave it."""
        if names is None:
            active = self._active if self._enabled and not self._merged else None
            return [active] * count
        if isinstance(names, str) or len(names) != count:
            raise ValueError(f"adapter_names must be a list of {count} names, one a sequence, not {names!r}")
        if self._merged:
            raise ValueError("an adapter is merged into the weights: unmerge_adapter() before adapters are chosen by name")
        return [None if name == BASE else self._adapter(name).name for name in names]

    def _routes(self: Any, names: Sequence[str | None], part: str) -> list[Route | None]:
        part = part or next(iter(self._cores))  # of T5's encoder alone, the encoder
        return [None if name is None else self._adapters[name].route(part) for name in names]

    def _adapter_arguments(self, names: Sequence[str | None], part: str = "") -> dict[str, Any]:
        """What the core's forward takes to send each sequence through its adapter."""
        return arguments_of(self._routes(names, part))

    # ---- parameters --------------------------------------------------------------------------------------------------------

    def _adapter_parameters(self) -> Iterator[tuple[str, AdapterParameter]]:
        for adapter in self._adapters.values():
            yield from adapter.parameters.items()

    def _adapter_cores(self) -> Iterator[Any]:
        for adapter in self._adapters.values():
            yield from adapter.cores.values()

    def get_adapter_state_dict(self, adapter_name: str | None = None) -> dict[str, F32]:
        """Name in PEFT's files -> values (views), of the active adapter by default."""
        return dict(self._chosen(adapter_name).tensors())

    def _chosen(self, name: str | None) -> Adapter:
        self._some()
        if name is None and self._active is None:
            raise ValueError("no adapter is active: name one")
        return self._adapter(self._active if name is None else name)

    def _save_adapter(self, folder: Path, name: str | None = None) -> None:
        from .adapter import WEIGHTS

        adapter = self._chosen(name)
        folder.mkdir(parents=True, exist_ok=True)
        fields = {**adapter.config.to_dict(), "inference_mode": True}
        write_atomically({
            folder / WEIGHTS: _chunks(dict(adapter.tensors()), {"format": "pt"}),
            folder / CONFIG: (json.dumps(fields, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8"),
        })  # fmt: skip

    def _copy_adapters(self: Any, twin: Any) -> None:
        from .adapter import Adapter

        for name, adapter in self._adapters.items():
            made = Adapter(twin, name, copy.deepcopy(adapter.config))
            made.fill({key: np.array(value) for key, value in adapter.tensors()}, self._load_prefix(), name)
            for key, parameter in adapter.parameters.items():
                made.parameters[key].requires_grad = parameter.requires_grad
            twin._adapters[name] = made
        twin._active, twin._enabled = self._active, self._enabled

    # ---- merging -----------------------------------------------------------------------------------------------------------

    def merge_adapter(self: Any, adapter_names: Sequence[str] | None = None) -> None:
        """Adds the active adapter (or the one named) into the float32 weights, so that forwards need it no more.

        ValueError for a quantised model: few bits would round the sum once more.
        """
        if adapter_names is not None and (isinstance(adapter_names, str) or len(adapter_names) != 1):
            raise ValueError(f"merge_adapter merges one adapter: a list of one name, not {adapter_names!r}")
        adapter = self._chosen(None if adapter_names is None else adapter_names[0])
        if self._merged:
            raise ValueError(f"adapter {self._active!r} is merged already")
        if self.quantised:
            raise ValueError("an adapter is merged into float32 weights, and this model is quantised: load the float32 one")
        self.set_adapter(adapter.name)
        for part, core_name, _ in adapter.modules:
            weight = self._core_of(part).parameter(core_name)
            delta = adapter.delta(part, core_name)
            self._replace(part, core_name, weight + (delta.T if self._is_turned(part, core_name) else delta))
        for part, core_name, values in adapter.whole():
            self._replace(part, core_name, np.array(values))

    def _is_turned(self: Any, part: str, core_name: str) -> bool:
        """Whether the matrix lies [in, out]."""
        core = self._core_of(part)
        return bool(core.config.get("conv1d")) and core_name.startswith("layers.")

    def _replace(self: Any, part: str, core_name: str, value: F32) -> None:
        core = self._core_of(part)
        old = core.parameter(core_name)
        self._merged[part, core_name] = np.array(old) if core.trainable else old
        self._bind(part, core_name, np.ascontiguousarray(value, np.float32))

    def unmerge_adapter(self: Any) -> None:
        """Takes the merged adapter out again: the weights have the bits they had."""
        for (part, core_name), value in self._merged.items():
            self._bind(part, core_name, value)
        self._merged.clear()

    def merge_and_unload(self) -> Any:
        """Merges the active adapter (when none is merged) and forgets all adapters: a plain model, itself, to save or quantise."""
        if not self._merged:
            self.merge_adapter()
        self._merged.clear()
        self._adapters.clear()
        self._active = None
        return self


def arguments_of(routes: Sequence[Route | None]) -> dict[str, Any]:
    """adapters and adapter_of of a core's forward, for one route a sequence; empty when there are none."""
    cores: dict[int, Any] = {}
    for route in routes:
        if route is not None:
            cores.setdefault(id(route.core), route.core)
    if not cores:
        return {}
    places = {key: n for n, key in enumerate(cores)}
    which = np.array([-1 if route is None else places[id(route.core)] for route in routes], np.int32)
    return {"adapters": tuple(cores.values()), "adapter_of": which}


def base_of(path: str | os.PathLike[str]) -> str | None:
    """The model that the adapter in this folder was made for; None when the folder is no adapter's."""
    folder = Path(path)
    if not (folder / CONFIG).is_file() or (folder / "config.json").is_file():
        return None
    base = LoraConfig.from_pretrained(folder).base_model_name_or_path
    if not base or not model_folder(base).exists():
        raise FileNotFoundError(
            f"{folder} holds an adapter for {base!r}, which is not there: load that model, then model.load_adapter({str(folder)!r})"
        )
    return base
