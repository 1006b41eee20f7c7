"""Parameters as named views into the core's buffers, and light access to them by the names of transformers' modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parameter", "Scope"]

F32 = NDArray[np.float32]


class Parameter:
    """One parameter: .name (transformers'), .data (a float32 view), .grad (a view, or None when no backward reached it),
    .requires_grad (may be set: a frozen parameter gets no gradient and no step), .shape, .dtype, .numel().

    The views move when a model starts to train: read `.data` again rather than keep it. `core` and `core_name` are what the
    optimiser works on.
    """

    __slots__ = ("_model", "_part", "core_name", "name")
    dtype = np.dtype(np.float32)

    def __init__(self, model: Any, part: str, core_name: str, name: str) -> None:
        self._model = model
        self._part = part
        self.core_name = core_name
        self.name = name

    @property
    def core(self) -> Any:
        return self._model._core_of(self._part)

    @property
    def data(self) -> F32:
        return self.core.parameter(self.core_name)

    @data.setter
    def data(self, value: Any) -> None:
        self.data[...] = value

    @property
    def grad(self) -> F32 | None:
        return self.core.gradient(self.core_name)

    @property
    def requires_grad(self) -> bool:
        return self.core.requires_grad(self.core_name)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._model._set_requires_grad(self, bool(value))

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        self.requires_grad = requires_grad
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.core.shape(self.core_name))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        return int(np.prod(self.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {list(self.shape)})"


class Scope:
    """The parameters whose names start alike, reached like modules: `model.bert.encoder.layer[0].parameters()`."""

    def __init__(self, parameters: Mapping[str, Parameter], owner: str, prefix: str) -> None:
        self._all = parameters
        self._owner = owner
        self._prefix = prefix

    def child(self, name: str) -> Any:
        full = f"{self._prefix}{name}"
        if full in self._all:
            return self._all[full]
        if any(other.startswith(full + ".") for other in self._all):
            return Scope(self._all, f"{self._owner}.{name}", full + ".")
        raise AttributeError(f"{self._owner} has no {name!r}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.child(name)

    def __getitem__(self, index: int) -> Any:
        count = len(self)
        position = index + count if index < 0 else index
        if not 0 <= position < count:
            raise IndexError(f"{self._owner} has {count} entries, not {index}")
        return self.child(str(position))

    def __len__(self) -> int:
        heads = {name[len(self._prefix) :].split(".", 1)[0] for name in self._all if name.startswith(self._prefix)}
        return sum(head.isdigit() for head in heads)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name within the scope, parameter)."""
        return ((n[len(self._prefix) :], p) for n, p in self._all.items() if n.startswith(self._prefix))

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def requires_grad_(self, requires_grad: bool = True) -> Scope:
        """Freezes (False) or thaws these parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def __repr__(self) -> str:
        return f"<{self._owner}: {sum(1 for _ in self.parameters())} parameters>"
