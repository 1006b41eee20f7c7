"""AdamW, gradient clipping, learning-rate schedules and parameter groups, with PyTorch's and transformers' names.

The arithmetic runs in the native core: one call a parameter group walks the flat buffers of parameters, gradients and moments.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "AdamW",
    "LambdaLR",
    "clip_grad_norm_",
    "freeze",
    "get_constant_schedule",
    "get_constant_schedule_with_warmup",
    "get_cosine_schedule_with_warmup",
    "get_linear_schedule_with_warmup",
    "get_scheduler",
    "get_wsd_schedule",
    "layerwise_lr_groups",
    "no_decay_groups",
    "set_seed",
]

Group = dict[str, Any]


def set_seed(seed: int) -> None:
    """Seeds `random` and NumPy's global generator, and with them the random initialisation of models and dropout.

    Raises ValueError when `seed` is not in 0..2**32-1 (NumPy's range).
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in 0..4294967295, not {seed}")
    random.seed(seed)
    np.random.seed(seed)


def _by_core(parameters: Iterable[Any]) -> list[tuple[Any, list[str]]]:
    """The native models behind `parameters` and the names each of them holds, in order, without repeats."""
    cores: dict[int, tuple[Any, dict[str, None]]] = {}
    for parameter in parameters:
        core = parameter.core
        cores.setdefault(id(core), (core, {}))[1][parameter.core_name] = None
    return [(core, list(names)) for core, names in cores.values()]


class AdamW:
    """Adam with decoupled weight decay: the update, the arguments and the defaults of torch.optim.AdamW.

    params: parameters (`model.parameters()`), `(name, parameter)` pairs, or a list of dicts with a "params" entry and any of
    lr, betas, eps, weight_decay. Frozen parameters, and those that no backward reached, are left alone.
    `param_groups` is a list of dicts whose "lr" and the rest may be changed between steps.
    Errors: ValueError for a value out of range, an empty list, or a parameter that is in two groups.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.defaults: Group = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        _check_hyper_parameters(self.defaults)
        self.param_groups: list[Group] = []
        self._moments: dict[int, Any] = {}  # id(core) -> native Moments
        groups = list(params)
        if not groups:
            raise ValueError("the optimizer got an empty list of parameters")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Adds a group: {"params": …} and any of lr, betas, eps, weight_decay (the rest comes from the defaults)."""
        if "params" not in param_group:
            raise ValueError('a parameter group needs a "params" entry')
        unknown = [key for key in param_group if key not in ("params", "initial_lr", "names", *self.defaults)]
        if unknown:
            raise ValueError(f"a parameter group does not know {unknown[0]!r}")
        params = param_group["params"]
        params = list(params) if isinstance(params, Iterable) else [params]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        for parameter in params:
            if not hasattr(parameter, "core_name"):
                raise TypeError(f"the optimizer takes a model's parameters, not {type(parameter).__name__}")
        group: Group = {**self.defaults, **param_group, "params": params}
        _check_hyper_parameters(group)
        taken = {_key(p) for g in self.param_groups for p in g["params"]}
        if any(_key(p) in taken for p in params):
            raise ValueError("a parameter appears in more than one parameter group")
        self.param_groups.append(group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient. Returns what `closure` returned (it is called first)."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for core, names in _by_core(p for p in group["params"] if p.requires_grad):
                moments = self._moments_of(core)
                moments.adamw(
                    names, float(group["lr"]), float(beta1), float(beta2), float(group["eps"]), float(group["weight_decay"])
                )
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of the models whose parameters are here (the whole model: its gradient is one buffer).

        set_to_none: accepted for PyTorch's sake; `parameter.grad` is None afterwards in either case.
        """
        for core, _ in _by_core(p for group in self.param_groups for p in group["params"]):
            core.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {index: {"step", "exp_avg", "exp_avg_sq"}}, "param_groups": […]}.

        The arrays are views: copy them to keep them over the next step. A parameter without a step has no entry.
        """
        state: dict[int, dict[str, Any]] = {}
        index = 0
        groups = []
        for group in self.param_groups:
            indices = []
            for parameter in group["params"]:
                moments = self._moments.get(id(parameter.core))
                steps = moments.step_count(parameter.core_name) if moments is not None else 0
                if moments is not None and steps:
                    name = parameter.core_name
                    state[index] = {"step": steps, "exp_avg": moments.first(name), "exp_avg_sq": moments.second(name)}
                indices.append(index)
                index += 1
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": indices})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned. ValueError, and nothing changed, when groups, parameters or shapes differ."""
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError(f"the saved optimizer has {len(groups)} parameter groups, this one {len(self.param_groups)}")
        mapping: dict[int, Any] = {}
        for number, (saved, group) in enumerate(zip(groups, self.param_groups, strict=True)):
            if len(saved["params"]) != len(group["params"]):
                raise ValueError(
                    f"group {number} of the saved optimizer has {len(saved['params'])} parameters, here {len(group['params'])}"
                )
            mapping.update(zip(saved["params"], group["params"], strict=True))
        state = {int(key): value for key, value in state_dict["state"].items()}
        for key, entry in state.items():
            parameter = mapping.get(key)
            if parameter is None:
                raise ValueError(f"the saved optimizer has a state for parameter {key}, which no group has")
            shape = tuple(parameter.core.shape(parameter.core_name))
            for part in ("exp_avg", "exp_avg_sq"):
                if np.shape(entry[part]) != shape:
                    raise ValueError(
                        f"{part} of {parameter.core_name} has shape {np.shape(entry[part])} when saved, here {shape}"
                    )
        for key, parameter in mapping.items():
            if key in state:
                moments, entry = self._moments_of(parameter.core), state[key]
                moments.first(parameter.core_name)[...] = np.asarray(entry["exp_avg"], np.float32)
                moments.second(parameter.core_name)[...] = np.asarray(entry["exp_avg_sq"], np.float32)
                moments.set_step_count(parameter.core_name, int(entry["step"]))
            elif id(parameter.core) in self._moments and self._moments[id(parameter.core)].step_count(parameter.core_name):
                moments = self._moments_of(parameter.core)
                moments.first(parameter.core_name)[...] = 0.0
                moments.second(parameter.core_name)[...] = 0.0
                moments.set_step_count(parameter.core_name, 0)
        for saved, group in zip(groups, self.param_groups, strict=True):
            group.update({k: v for k, v in saved.items() if k not in ("params", "names")})

    def _moments_of(self, core: Any) -> Any:
        moments = self._moments.get(id(core))
        if moments is None:
            from govlm._native import core as native

            core.make_trainable()
            moments = self._moments[id(core)] = native.Moments(core)
        return moments

    def __repr__(self) -> str:
        groups = "; ".join(f"{len(g['params'])} parameters at lr {g['lr']:g}" for g in self.param_groups)
        return f"AdamW({groups})"


def _key(parameter: Any) -> tuple[int, str]:
    return id(parameter.core), parameter.core_name


def _check_hyper_parameters(group: Mapping[str, Any]) -> None:
    beta1, beta2 = group["betas"]
    for name, value, good in (
        ("lr", group["lr"], group["lr"] >= 0),
        ("eps", group["eps"], group["eps"] >= 0),
        ("betas[0]", beta1, 0 <= beta1 < 1),
        ("betas[1]", beta2, 0 <= beta2 < 1),
        ("weight_decay", group["weight_decay"], group["weight_decay"] >= 0),
    ):
        if not good:
            raise ValueError(f"AdamW: invalid {name}: {value}")


def clip_grad_norm_(
    parameters: Iterable[Any], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> float:
    """Scales the gradients down so that their common 2-norm is at most `max_norm`; returns the norm before (torch's formula).

    Errors: ValueError when norm_type is not 2; RuntimeError when the norm is not finite and error_if_nonfinite is set.
    """
    if norm_type != 2:
        raise ValueError(f"clip_grad_norm_ knows norm_type=2 only, not {norm_type}")
    parameters = [parameters] if hasattr(parameters, "core_name") else list(parameters)
    cores = _by_core(p for p in parameters if p.requires_grad)
    norms = [core.grad_norm(names) for core, names in cores]
    total = norms[0] if len(norms) == 1 else math.sqrt(math.fsum(n * n for n in norms))
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"the gradient's norm is {total}")
    factor = max_norm / (total + 1e-6)
    if factor < 1.0:
        for core, names in cores:
            core.scale_grad(factor, names)
    return total


class LambdaLR:
    """Multiplies every group's first learning rate by lr_lambda(step): torch's LambdaLR. `step()` follows optimizer.step()."""

    def __init__(self, optimizer: AdamW, lr_lambda: Callable[[int], float], last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        self.lr_lambda = lr_lambda
        for group in optimizer.param_groups:
            if last_epoch == -1 or "initial_lr" not in group:
                group["initial_lr"] = group["lr"]
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def step(self) -> None:
        """Moves on by one step and sets the learning rates."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The learning rate of every group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """What load_state_dict needs."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken, and sets the learning rates."""
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(f"the saved schedule has {len(state_dict['base_lrs'])} groups, this one {len(self.base_lrs)}")
        self.base_lrs = list(state_dict["base_lrs"])
        self.last_epoch = int(state_dict["last_epoch"])
        self._apply()

    def _apply(self) -> None:
        factor = self.lr_lambda(self.last_epoch)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def get_constant_schedule(optimizer: AdamW, last_epoch: int = -1) -> LambdaLR:
    """The learning rate stays."""
    return LambdaLR(optimizer, lambda step: 1.0, last_epoch)


def get_constant_schedule_with_warmup(optimizer: AdamW, num_warmup_steps: int, last_epoch: int = -1) -> LambdaLR:
    """Rises linearly from 0 over the warm-up, then stays."""
    return LambdaLR(optimizer, lambda step: step / max(1, num_warmup_steps) if step < num_warmup_steps else 1.0, last_epoch)


def get_linear_schedule_with_warmup(
    optimizer: AdamW, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1
) -> LambdaLR:
    """Rises linearly from 0 over the warm-up, then falls linearly to 0 at num_training_steps."""

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))

    return LambdaLR(optimizer, factor, last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: AdamW, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, last_epoch: int = -1
) -> LambdaLR:
    """Rises linearly from 0 over the warm-up, then follows `num_cycles` cosine waves (0.5: down to 0)."""

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        progress = (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))

    return LambdaLR(optimizer, factor, last_epoch)


_DECAYS: Mapping[str, Callable[[float], float]] = {  # factor at `x` of the decay, 0..1
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: 0.5 * (1.0 + math.cos(math.pi * x)),
    "1-sqrt": lambda x: 1.0 - math.sqrt(x),
}


def get_wsd_schedule(
    optimizer: AdamW,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int,
    *,
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    last_epoch: int = -1,
) -> LambdaLR:
    """Warm-up, stable, decay (Hu et al., MiniCPM, arXiv:2404.06395): rises linearly from 0 over the warm-up, stays, and falls
    in the last num_decay_steps to `min_lr_ratio` of the rate at num_training_steps. decay_type: linear, cosine or 1-sqrt.

    A run that is to be continued loses least with it: the next one rises to the same rate again (WSD-S, arXiv:2410.05192).
    ValueError for another decay_type, or where warm-up and decay are longer than the run.
    """
    if decay_type not in _DECAYS:
        raise ValueError(f"unknown decay_type {decay_type!r}: one of {', '.join(_DECAYS)}")
    if num_warmup_steps + num_decay_steps > num_training_steps:
        raise ValueError(
            f"{num_warmup_steps} steps of warm-up and {num_decay_steps} of decay do not fit into {num_training_steps} steps"
        )
    shape = _DECAYS[decay_type]

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        left = num_training_steps - step
        if left >= num_decay_steps:
            return 1.0
        return min_lr_ratio + (1.0 - min_lr_ratio) * shape(min(1.0, 1.0 - left / num_decay_steps))

    return LambdaLR(optimizer, factor, last_epoch)


SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "warmup_stable_decay")


def get_scheduler(
    name: str,
    optimizer: AdamW,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LambdaLR:
    """The schedule `name`, one of SCHEDULES. warmup_stable_decay wants num_decay_steps in scheduler_specific_kwargs.

    ValueError for another name, or a missing count.
    """
    extra = dict(scheduler_specific_kwargs or {})
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: one of {', '.join(SCHEDULES)}")
    if name == "constant":
        return get_constant_schedule(optimizer, **extra)
    if num_warmup_steps is None:
        raise ValueError(f"the schedule {name!r} needs num_warmup_steps")
    if name == "constant_with_warmup":
        return get_constant_schedule_with_warmup(optimizer, num_warmup_steps, **extra)
    if num_training_steps is None:
        raise ValueError(f"the schedule {name!r} needs num_training_steps")
    if name == "warmup_stable_decay":
        if "num_decay_steps" not in extra:
            raise ValueError(f"the schedule {name!r} needs num_decay_steps in scheduler_specific_kwargs")
        return get_wsd_schedule(optimizer, num_warmup_steps, num_training_steps=num_training_steps, **extra)
    make = get_linear_schedule_with_warmup if name == "linear" else get_cosine_schedule_with_warmup
    return make(optimizer, num_warmup_steps, num_training_steps, **extra)


_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def _named(model: Any) -> Iterator[tuple[str, Any]]:
    """named_parameters() without the second appearance of a tied weight."""
    seen: set[tuple[int, str]] = set()
    for name, parameter in model.named_parameters():
        if _key(parameter) not in seen:
            seen.add(_key(parameter))
            yield name, parameter


def _depth(core_name: str, layers: int) -> int:
    """0 for the embeddings, 1..L for the layers, L + 1 for what follows them."""
    match = _LAYER.search(core_name)
    if match:
        return int(match[1]) + 1
    return 0 if core_name.startswith(("embeddings.", "attention.relative_bias")) else layers + 1


def _decays(core_name: str) -> bool:
    """Matrices decay; biases and the weights of norms do not."""
    return not (core_name.endswith("bias") or re.search(r"norm\.weight$", core_name))


def _layer_count(named: Sequence[tuple[str, Any]]) -> int:
    return max((int(m[1]) + 1 for _, p in named if (m := _LAYER.search(p.core_name))), default=0)


def layerwise_lr_groups(model: Any, lr: float, decay: float, weight_decay: float = 0.01) -> list[Group]:
    """Parameter groups for AdamW in which the head learns at `lr` and every layer below at `decay` times the one above.

    The embeddings come last: lr * decay ** (L + 1). Biases and norms do not decay. ValueError unless 0 < decay <= 1.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"the layer decay must be above 0 and at most 1, not {decay}")
    named = list(_named(model))
    layers = _layer_count(named)
    groups: dict[tuple[int, bool], Group] = {}
    for _, parameter in named:
        key = _depth(parameter.core_name, layers), _decays(parameter.core_name)
        if key not in groups:
            groups[key] = {
                "params": [],
                "lr": lr * decay ** (layers + 1 - key[0]),
                "weight_decay": weight_decay if key[1] else 0.0,
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda k: (-k[0], not k[1]))]


def no_decay_groups(model: Any, weight_decay: float = 0.01) -> list[Group]:
    """Two parameter groups for AdamW: matrices with `weight_decay`, biases and norms with none."""
    named = list(_named(model))
    matrices = [p for _, p in named if _decays(p.core_name)]
    vectors = [p for _, p in named if not _decays(p.core_name)]
    groups: list[Group] = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def freeze(model: Any, *what: str | int) -> list[str]:
    """Stops the training of parts of `model`; returns the names that were frozen.

    what: "embeddings"; "encoder" (all but the head); a number n (the embeddings and the first n layers); "layers.3"; or the
    beginning of a parameter's name. ValueError when an item matches nothing.
    """
    named = list(_named(model))
    layers = _layer_count(named)
    frozen: list[str] = []
    for item in what:
        text = str(item).strip()
        hits = []
        for name, parameter in named:
            depth = _depth(parameter.core_name, layers)
            if text.isdigit():
                hit = depth <= int(text) <= layers
            elif text == "embeddings":
                hit = depth == 0
            elif text == "encoder":
                hit = depth <= layers
            else:
                hit = any(n == text or n.startswith(text.rstrip(".") + ".") for n in (name, parameter.core_name))
            if hit:
                hits.append((name, parameter))
        if not hits:
            raise ValueError(
                f"nothing to freeze: {text!r} matches no parameter (try embeddings, encoder, 0..{layers}, layers.0)"
            )
        for name, parameter in hits:
            parameter.requires_grad = False
            frozen.append(name)
    return list(dict.fromkeys(frozen))
