"""What a forward returns: outputs that are padded only when they are read, losses with arithmetic, and the way back.

A forward keeps what backward needs when the model trains or labels were given (unless inside `no_grad()`). A gradient sent into
an output of any other forward runs that forward once more first, with the same dropout numbers: exact, and twice the time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .packing import Batch, as_array

__all__ = ["Loss", "ModelOutput", "no_grad"]

F32 = NDArray[np.float32]
_local = threading.local()


class no_grad:
    """`with no_grad():` (or `@no_grad()`): forwards of this thread keep nothing for backward."""

    def __enter__(self) -> None:
        _local.depth = getattr(_local, "depth", 0) + 1

    def __exit__(self, *exc: object) -> None:
        _local.depth -= 1

    def __call__(self, function: Any) -> Any:
        import functools

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with no_grad():
                return function(*args, **kwargs)

        return wrapper


def grad_enabled() -> bool:
    return getattr(_local, "depth", 0) == 0


class Loss:
    """A number that knows how to send its gradient back: a weighted sum of the losses of forwards, and a constant.

    `+ - * /` with numbers, `+ -` with other losses; comparisons, float(), format(). `backward()` adds the gradient of the whole
    sum to the models' gradients; it can be called once, because every forward gives its workspace back then.
    """

    __slots__ = ("_terms", "_value")

    def __init__(self, value: float, terms: list[tuple[ModelOutput, float]]) -> None:
        self._value = value
        self._terms = terms

    def item(self) -> float:
        return self._value

    def __float__(self) -> float:
        return self._value

    def backward(self) -> None:
        """Errors: RuntimeError when called twice, or when the weights changed since a forward in the sum."""
        scales: dict[int, tuple[ModelOutput, float]] = {}
        for output, factor in self._terms:
            known = scales.get(id(output))
            scales[id(output)] = (output, factor + (known[1] if known else 0.0))
        for output, _ in scales.values():
            output._check_fresh()
        for output, factor in scales.values():
            output.backward(loss=factor)

    def _combine(self, other: Any, sign: float) -> Any:
        if isinstance(other, Loss):
            terms = self._terms + [(output, sign * factor) for output, factor in other._terms]
            return Loss(self._value + sign * other._value, terms)
        number = _number(other)
        return NotImplemented if number is None else Loss(self._value + sign * number, self._terms)

    def __add__(self, other: Any) -> Any:
        return self._combine(other, 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._combine(other, -1.0)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __neg__(self) -> Loss:
        return Loss(-self._value, [(output, -factor) for output, factor in self._terms])

    def __mul__(self, other: Any) -> Any:
        number = _number(other)
        if number is None:
            return NotImplemented
        return Loss(self._value * number, [(output, factor * number) for output, factor in self._terms])

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        number = _number(other)
        if number is None:
            return NotImplemented
        return Loss(self._value / number, [(output, factor / number) for output, factor in self._terms])

    def __lt__(self, other: Any) -> bool:
        return self._value < float(other)

    def __le__(self, other: Any) -> bool:
        return self._value <= float(other)

    def __gt__(self, other: Any) -> bool:
        return self._value > float(other)

    def __ge__(self, other: Any) -> bool:
        return self._value >= float(other)

    def __format__(self, spec: str) -> str:
        return format(self._value, spec)

    def __repr__(self) -> str:
        return f"Loss({self._value!r})"


def _number(value: Any) -> float | None:
    if isinstance(value, (int, float, np.integer, np.floating)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return float(value)
    return None


@dataclass(frozen=True)
class Call:
    """One call of a core model: everything that decides its numbers."""

    core: Any
    batch: Batch
    # labels, loss, class_weights, training, seed, step, samples, memory, memory_splits, adapters, adapter_of
    arguments: Mapping[str, Any]
    version: tuple[int, ...] | None
    checkpoint: bool = False

    def run(self, *, rows: Any, hidden: bool, attentions: bool, logits: bool, labels: bool, save: bool, labelled: bool) -> Any:
        arguments = dict(self.arguments)
        if not labels:
            for name in ("labels", "loss", "class_weights"):
                arguments.pop(name, None)
        elif labelled:
            arguments["labels"] = arguments["labels"][rows]
        batch = self.batch
        return self.core.forward(
            batch.ids, batch.row_splits, batch.positions, batch.types,
            key_counts=batch.key_counts, rows=rows, hidden_states=hidden, attentions=attentions, logits=logits, save=save,
            checkpoint=self.checkpoint, **arguments,
        )  # fmt: skip


def versions_of(core: Any, arguments: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Those of the weights that a call goes through."""
    own = getattr(core, "version", None)
    return None if own is None else (own, *(adapter.version for adapter in arguments.get("adapters", ())))


@dataclass(frozen=True)
class Want:
    """Which pass answers a question. rows: "all", "first" or "last" (of every sequence), "labelled", "kept"."""

    rows: str
    hidden: bool = False
    attentions: bool = False
    logits: bool = True
    labels: bool = False


class ModelOutput(Mapping[str, Any]):
    """The outputs of one forward, by attribute, key or index: loss, logits, last_hidden_state, pooler_output, hidden_states,
    attentions (those that the model and the call have). Arrays are float32, padded to [B, S, …] when they are first read.

    `backward(…)` takes gradients at any of them, shaped as they are.
    """

    def __init__(
        self, model: Any, call: Call, fields: tuple[str, ...], first: Want, labelled: Any = None, save: bool = False,
        kept: Any = None,
    ):  # fmt: skip
        self._model = model
        self._call = call
        self._fields = fields
        self._labelled = labelled  # rows of the packed batch that have a label (language models)
        self._kept = kept  # columns of the padded batch, in any order, whose logits alone are made
        self._primary = first
        self._cache: dict[str, Any] = {}
        self._passes: dict[Want, Any] = {}
        self._saved: set[Want] = set()
        self._spent = False
        self._begun = False
        self._pass(first, save)

    # ---- passes ------------------------------------------------------------------------------------------------------------

    def _batch_of(self, want: Want) -> Batch:
        batch = self._call.batch
        return batch.with_first if want.rows == "first" and batch.with_first is not None else batch

    def _pass(self, want: Want, save: bool = False) -> Any:
        found = self._passes.get(want)
        if found is not None and (want in self._saved or not save):
            return found
        batch = self._batch_of(want)
        call = self._call if batch is self._call.batch else replace(self._call, batch=batch)
        if self._begun:
            self._check_version()
        self._begun = True
        rows = {
            "all": lambda: None, "first": call.batch.first_tokens, "labelled": lambda: self._labelled,
            "kept": lambda: call.batch.rows_of(self._kept)[0],
        }[want.rows]()  # fmt: skip
        made = call.run(
            rows=rows, hidden=want.hidden, attentions=want.attentions, logits=want.logits, labels=want.labels, save=save,
            labelled=want.rows == "labelled",
        )  # fmt: skip
        self._passes[want] = made
        if save:
            self._saved.add(want)
        return made

    def _recipe(self) -> ModelOutput:
        """The same forward without its passes: backward would run it again."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _cache={}, _passes={}, _saved=set())
        return twin

    def _check_version(self) -> None:
        if self._call.version is not None and versions_of(self._call.core, self._call.arguments) != self._call.version:
            raise RuntimeError("the weights changed since this forward: run the model again")

    def _full(self) -> Want:
        """A pass with every token's last hidden state."""
        primary = self._primary
        return primary if primary.rows == "all" else Want("all", logits=False)

    def _with_layers(self) -> Want:
        primary = self._primary
        return primary if primary.rows == "all" and primary.hidden else replace(self._full(), hidden=True, labels=False)

    def _head(self) -> Want:
        """The pass with pooled vectors and logits."""
        primary = self._primary
        if self._call.batch.with_first is not None and self._model._pools and primary.rows == "all":
            return Want("first", labels="loss" in self._fields)
        if primary.rows == "labelled":
            return Want("all")
        return primary

    # ---- reading -----------------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _READERS:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        if name not in self._fields:
            return None
        if name == "loss":  # it refers to this output: kept here, the pair would hold its workspace until a collection
            return self._read_loss()
        if name not in self._cache:
            self._cache[name] = _READERS[name](self)
        return self._cache[name]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self._fields:
                raise KeyError(key)
            return getattr(self, key)
        if isinstance(key, slice):
            return tuple(getattr(self, name) for name in self._fields[key])
        return getattr(self, self._fields[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._fields)})"

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def first_nonfinite(self) -> str | None:
        """The first activation with a NaN or infinity ("hidden state of layer 3", "logits"), or None."""
        return self._pass(self._primary).first_nonfinite()

    def _read_loss(self) -> Loss:
        return Loss(float(self._pass(self._head() if self._primary.rows != "labelled" else self._primary).loss), [(self, 1.0)])

    def _read_logits(self) -> F32:
        want = self._head()
        if not want.logits:  # a masked LM with labels held none
            want = Want("all")
        logits = self._pass(want).logits
        if want.rows == "kept":
            batch = self._call.batch
            _, places, which = batch.rows_of(self._kept)
            out = np.zeros((batch.shape[0] * len(self._kept), logits.shape[1]), np.float32)
            out[places] = logits[which]
            return out.reshape(batch.shape[0], len(self._kept), -1)
        return logits if self._model._first_only else self._batch_of(want).scatter(logits)

    def _read_last(self) -> F32:
        return self._call.batch.scatter(self._pass(self._full()).hidden(-1))

    def _read_pooled(self) -> F32:
        return self._pass(self._head()).pooled

    def _read_layers(self) -> tuple[F32, ...]:
        done = self._pass(self._with_layers())
        return tuple(self._call.batch.scatter(done.hidden(layer)) for layer in range(self._layers() + 1))

    def _layers(self) -> int:
        return int(self._call.core.config["num_layers"])

    def _attention_want(self) -> Want:
        primary = self._primary
        return primary if primary.rows == "all" and primary.attentions else replace(self._full(), attentions=True, labels=False)

    def _read_attentions(self) -> tuple[F32, ...]:
        done = self._pass(self._attention_want())
        return tuple(self._spread(done.attention, layer, self._call.batch) for layer in range(self._layers()))

    def _spread(self, read: Any, layer: int, keys: Batch) -> F32:
        """One layer's probabilities, [B, heads, S, Sk], zeros at masked places."""
        batch = self._call.batch
        heads = int(self._call.core.config["num_heads"])
        out = np.zeros((batch.shape[0], heads, batch.shape[1], keys.shape[1]), np.float32)
        for b in range(batch.shape[0]):
            rows, columns = batch.columns(b), keys.columns(b)
            if len(rows) and len(columns):
                out[b][:, rows[:, None], columns[None, :]] = read(layer, b)
        return out

    # ---- the way back --------------------------------------------------------------------------------------------------------

    def _check_fresh(self) -> None:
        if self._spent:
            raise RuntimeError("backward was already called on this forward: run the model again")

    def _gradient(self, value: Any, name: str, shape: tuple[int, ...]) -> F32:
        array = as_array(value, f"the gradient at {name}")
        if array.dtype.kind not in "fiu":
            raise TypeError(f"the gradient at {name} must hold floats, not {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"the gradient at {name} has shape {list(array.shape)}, the output has {list(shape)}")
        return np.ascontiguousarray(array, np.float32)

    def _layer_gradients(self, hidden: Any, last: Any) -> dict[int, F32]:
        layers, batch = self._layers(), self._call.batch
        taps = dict(hidden or {})
        gradients: dict[int, F32] = {}
        if last is not None:
            taps = {**taps, None: last}
        for layer, value in taps.items():
            index = layers if layer is None else (layer + layers + 1 if layer < 0 else layer)
            if not 0 <= index <= layers:
                raise ValueError(f"hidden[{layer}]: the model has hidden states 0..{layers}")
            name = "last_hidden_state" if layer is None else f"hidden[{layer}]"
            part = batch.gather(self._gradient(value, name, (*batch.shape, int(self._call.core.config["hidden_size"]))))
            gradients[index] = gradients[index] + part if index in gradients else part
        return gradients

    def _attention_gradients(self, attention: Any, keys: Batch | None = None) -> dict[tuple[int, int], F32]:
        batch = self._call.batch
        keys = batch if keys is None else keys
        shape = (batch.shape[0], int(self._call.core.config["num_heads"]), batch.shape[1], keys.shape[1])
        gradients: dict[tuple[int, int], F32] = {}
        for layer, value in (attention or {}).items():
            index = layer + self._layers() if layer < 0 else layer
            if not 0 <= index < self._layers():
                raise ValueError(f"attention[{layer}]: the model has layers 0..{self._layers() - 1}")
            array = self._gradient(value, f"attention[{layer}]", shape)
            for b in range(shape[0]):
                rows, columns = batch.columns(b), keys.columns(b)
                if len(rows):
                    gradients[index, b] = np.ascontiguousarray(array[b][:, rows[:, None], columns[None, :]])
        return gradients

    def backward(
        self,
        *,
        loss: float | None = None,
        logits: Any = None,
        hidden: Mapping[int, Any] | None = None,
        attention: Mapping[int, Any] | None = None,
        last_hidden_state: Any = None,
        pooler_output: Any = None,
    ) -> None:
        """Adds to the model's gradients what flows back from gradients at the outputs.

        loss: the gradient at the loss (1.0 = as loss.backward()); logits, last_hidden_state, pooler_output: shaped as those;
        hidden: {layer: [B, S, H]}, 0 = the embeddings, negative counts from the end; attention: {layer: [B, heads, S, S]}.
        What stands at masked places is ignored. Errors: ValueError (shapes), RuntimeError (called twice, weights changed).
        """
        self._check_fresh()
        layers = self._layer_gradients(hidden, last_hidden_state)
        maps = self._attention_gradients(attention)
        head = self._head_gradients(loss, logits)
        if pooler_output is not None:
            if "pooler_output" not in self._fields:
                raise ValueError(f"{type(self._model).__name__} has no pooler_output")
            shape = (self._call.batch.shape[0], int(self._call.core.config["hidden_size"]))
            head["pooled"] = self._gradient(pooler_output, "pooler_output", shape)
        if not head and not layers and not maps:
            raise ValueError("backward needs a gradient: loss, logits, hidden, attention, last_hidden_state or pooler_output")
        jobs = self._plan(head, layers, maps)
        made = [(self._pass(want, save=True), arguments) for want, arguments in jobs]
        self._spent = True
        for done, arguments in made:
            done.backward(arguments.pop("scale", None), **arguments)
        self._model._after_backward(self._call)

    def _head_gradients(self, loss: float | None, logits: Any) -> dict[str, Any]:
        head: dict[str, Any] = {}
        if loss is not None:
            if "loss" not in self._fields:
                raise RuntimeError("this forward has no loss: pass labels")
            head["scale"] = float(loss)
        if logits is not None:
            if "logits" not in self._fields:
                raise ValueError(f"{type(self._model).__name__} has no logits")
            head["logits"] = self._logit_gradient(logits)
        return head

    def _plan(self, head: dict[str, Any], layers: Any, maps: Any) -> list[tuple[Want, dict[str, Any]]]:
        """Which passes get which gradients: one pass wherever one can take them all."""
        taps: dict[str, Any] = {}
        if layers:
            taps["hidden"] = layers
        if maps:
            taps["attention"] = maps
        primary = self._primary
        if primary.rows == "labelled" and ("logits" in head or taps):
            head_want = Want("all", labels="scale" in head)
            if "scale" in head:  # the loss of the labelled rows comes from their own pass
                rest = {k: v for k, v in head.items() if k != "scale"}
                jobs = [(primary, {"scale": head["scale"]})]
                return jobs + ([(Want("all"), {**rest, **self._fit(taps)})] if rest or taps else [])
            return [(self._fit_want(replace(head_want, labels=False), taps), {**head, **taps})]
        head_want = self._head() if primary.rows != "labelled" else primary
        if not taps:
            return [(head_want, head)]
        full = self._fit_want(self._full() if not head else head_want, taps)
        if not head:
            return [(full, taps)]
        if head_want.rows == "kept" or (self._call.batch.with_first is not None and head_want.rows == "first"):
            return [(head_want, head), (self._fit_want(self._full(), taps), taps)]
        return [(replace(full, rows="all", logits=True), {**head, **taps})]

    def _fit(self, taps: dict[str, Any]) -> dict[str, Any]:
        return taps

    def _fit_want(self, want: Want, taps: dict[str, Any]) -> Want:
        if want in self._passes and want.rows == "all" and (want.attentions or "attention" not in taps):
            return want
        return replace(want, rows="all", attentions=want.attentions or "attention" in taps)

    def _logit_gradient(self, value: Any) -> F32:
        core, batch = self._call.core.config, self._call.batch
        columns = int(core["vocab_size"] if core["head"] in ("mlm", "lm") else core["num_labels"])
        if self._model._first_only:
            return self._gradient(value, "logits", (batch.shape[0], columns))
        if self._kept is not None:
            array = self._gradient(value, "logits", (batch.shape[0], len(self._kept), columns))
            rows, places, which = batch.rows_of(self._kept)
            gathered = np.zeros((len(rows), columns), np.float32)
            np.add.at(gathered, which, array.reshape(-1, columns)[places])  # a column may be asked for twice
            return gathered
        return batch.gather(self._gradient(value, "logits", (*batch.shape, columns)))


_READERS = {
    "loss": ModelOutput._read_loss,
    "logits": ModelOutput._read_logits,
    "last_hidden_state": ModelOutput._read_last,
    "pooler_output": ModelOutput._read_pooled,
    "hidden_states": ModelOutput._read_layers,
    "attentions": ModelOutput._read_attentions,
}
