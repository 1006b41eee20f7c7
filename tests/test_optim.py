"""The optimizer against torch, the schedules against transformers: recorded, and live when they are installed."""

import importlib.util
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from govlm._native import core as native
from govlm.optim import (
    AdamW,
    clip_grad_norm_,
    freeze,
    get_scheduler,
    get_wsd_schedule,
    layerwise_lr_groups,
    no_decay_groups,
    set_seed,
)

GOLDEN = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("make_optim", GOLDEN / "make_optim.py")
make_optim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_optim)

SIZES = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 16,
    "max_positions": 6,
    "type_vocab_size": 2,
    "num_labels": 3,
    "head": "sequence",
    "pooler": True,
}


class Parameter:
    """The part of a model's parameter that an optimizer sees."""

    def __init__(self, core, name):
        self.core, self.core_name, self.name = core, name, name

    @property
    def data(self):
        return self.core.parameter(self.core_name)

    @property
    def requires_grad(self):
        return self.core.requires_grad(self.core_name)

    @requires_grad.setter
    def requires_grad(self, value):
        self.core.set_requires_grad(self.core_name, value)


class Network:
    def __init__(self, **extra):
        self.core = native.Model({**SIZES, **extra})
        self.core.make_trainable()

    def named_parameters(self):
        return [(name, Parameter(self.core, name)) for name in self.core.names()]

    def parameters(self):
        return [p for _, p in self.named_parameters()]


def put_gradients(core, gradients):
    """Writes gradients of some parameters; the others are told not to need any, so that the optimizer passes them by."""
    for name in core.names():
        core.set_requires_grad(name, name in gradients)
    flat = core.flat_gradient()
    flat[...] = 0.0
    for name, value in gradients.items():
        start = core.offset(name)
        flat[start : start + value.size] = value.ravel()


def run():
    """The golden script's loop on the native core."""
    network = Network()
    parameters = dict(network.named_parameters())
    for name in make_optim.SHAPES:
        parameters[name].data[...] = make_optim.values(name, 0)
    groups = [{"params": [parameters[n] for n in names], **extra} for names, extra in make_optim.GROUPS]
    optimizer = AdamW(groups, lr=make_optim.LR)
    chosen = [parameters[n] for n in make_optim.SHAPES]
    norms = []
    for step in range(1, make_optim.STEPS + 1):
        names = [n for n in make_optim.SHAPES if make_optim.has_gradient(n, step)]
        put_gradients(network.core, {n: make_optim.values(n, step) for n in names})
        norms.append(clip_grad_norm_(chosen, make_optim.MAX_NORM))
        optimizer.step()
        optimizer.zero_grad()
    return {"norms": norms, "parameters": {n: parameters[n].data.tolist() for n in make_optim.SHAPES}}


def check(mine, theirs):
    assert mine["norms"] == pytest.approx(theirs["norms"], rel=1e-6)
    assert max(mine["norms"]) > make_optim.MAX_NORM  # clipping took place
    for name, value in theirs["parameters"].items():
        np.testing.assert_allclose(mine["parameters"][name], value, atol=1e-6, rtol=0, err_msg=name)


def test_adamw_and_clipping_as_recorded_from_torch():
    check(run(), json.loads((GOLDEN / "optim.json").read_text()))


def test_adamw_and_clipping_as_in_torch_here():
    pytest.importorskip("torch", reason="torch is not installed")
    check(run(), make_optim.torch_run())


def schedules():
    result = {}
    for name, counts in make_optim.SCHEDULES.items():
        optimizer = AdamW(Network().parameters(), lr=make_optim.LR)
        schedule = get_scheduler(name, optimizer, **counts)
        rates = []
        for _ in range(make_optim.SCHEDULE_STEPS + 3):
            rates.append(schedule.get_last_lr()[0])
            assert optimizer.param_groups[0]["lr"] == rates[-1]
            schedule.step()
        result[name] = rates
    return result


def test_schedules_as_recorded_from_transformers():
    golden = json.loads((GOLDEN / "optim.json").read_text())["schedules"]
    mine = schedules()
    for name, rates in golden.items():
        assert mine[name] == pytest.approx(rates, abs=1e-15), name


def test_schedules_as_in_transformers_here():
    pytest.importorskip("transformers", reason="transformers is not installed")
    mine = schedules()
    for name, rates in make_optim.transformers_schedules().items():
        assert mine[name] == pytest.approx(rates, abs=1e-15), name


def test_unknown_or_incomplete_schedule():
    optimizer = AdamW(Network().parameters())
    with pytest.raises(ValueError, match="unknown schedule 'stairs'"):
        get_scheduler("stairs", optimizer)
    with pytest.raises(ValueError, match="needs num_warmup_steps"):
        get_scheduler("linear", optimizer)
    with pytest.raises(ValueError, match="needs num_training_steps"):
        get_scheduler("cosine", optimizer, num_warmup_steps=1)
    with pytest.raises(ValueError, match="needs num_decay_steps"):
        get_scheduler("warmup_stable_decay", optimizer, num_warmup_steps=1, num_training_steps=9)
    with pytest.raises(ValueError, match="4 steps of warm-up and 6 of decay do not fit into 9 steps"):
        get_wsd_schedule(optimizer, 4, 6, 9)
    with pytest.raises(ValueError, match="unknown decay_type 'stairs'"):
        get_wsd_schedule(optimizer, 4, 5, 9, decay_type="stairs")


@pytest.mark.parametrize("kind", ["linear", "cosine", "1-sqrt"])
def test_the_rate_falls_to_its_least_at_the_end(kind):
    optimizer = AdamW(Network().parameters(), lr=2.0)
    schedule = get_wsd_schedule(optimizer, 0, 10, 30, decay_type=kind, min_lr_ratio=0.1)
    rates = []
    for _ in range(33):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    assert rates[:21] == [2.0] * 21 and rates[30:] == pytest.approx([0.2] * 3)
    assert all(a > b for a, b in itertools.pairwise(rates[20:31]))


def steps(network, optimizer, first, count):
    for step in range(first, first + count):
        rng = np.random.RandomState(step)
        put_gradients(network.core, {n: rng.standard_normal(network.core.shape(n)).astype("f") for n in network.core.names()})
        optimizer.step()
        optimizer.zero_grad()


def test_state_dict_goes_on_bit_for_bit():
    straight, broken = Network(), Network()
    one = AdamW(straight.parameters(), lr=0.01)
    steps(straight, one, 0, 6)
    two = AdamW(broken.parameters(), lr=0.01)
    steps(broken, two, 0, 3)
    saved = two.state_dict()
    saved = {
        "state": {
            k: {"step": v["step"], **{p: v[p].copy() for p in ("exp_avg", "exp_avg_sq")}} for k, v in saved["state"].items()
        },
        "param_groups": json.loads(json.dumps(saved["param_groups"])),
    }
    assert saved["state"][0]["step"] == 3
    fresh = Network()
    for name, parameter in fresh.named_parameters():
        parameter.data[...] = broken.core.parameter(name)
    three = AdamW(fresh.parameters(), lr=0.5)
    three.load_state_dict(saved)
    assert three.param_groups[0]["lr"] == 0.01
    steps(fresh, three, 3, 3)
    assert np.array_equal(fresh.core.flat_parameters(), straight.core.flat_parameters())


def test_state_dict_that_does_not_fit_changes_nothing():
    network, other = Network(), Network(hidden_size=16)
    optimizer = AdamW(network.parameters())
    steps(network, optimizer, 0, 1)
    wide = AdamW(other.parameters())
    steps(other, wide, 0, 1)
    before = optimizer._moments[id(network.core)].first("classifier.weight").copy()
    with pytest.raises(ValueError, match=r"exp_avg of embeddings\.word\.weight has shape"):
        optimizer.load_state_dict(wide.state_dict())
    with pytest.raises(ValueError, match="2 parameter groups, this one 1"):
        optimizer.load_state_dict(AdamW(no_decay_groups(network)).state_dict())
    assert np.array_equal(optimizer._moments[id(network.core)].first("classifier.weight"), before)


def test_the_rate_may_be_changed_between_steps():
    network = Network()
    optimizer = AdamW(network.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.0
    before = network.core.flat_parameters().copy()
    steps(network, optimizer, 0, 1)
    assert np.array_equal(network.core.flat_parameters(), before)


@pytest.mark.parametrize(
    "bad", [{"lr": -1}, {"eps": -1}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"weight_decay": -0.1}, {"lr": math.nan}]
)
def test_values_out_of_range(bad):
    with pytest.raises(ValueError, match="invalid"):
        AdamW(Network().parameters(), **bad)


def test_lists_that_are_no_parameters():
    network = Network()
    with pytest.raises(ValueError, match="empty list"):
        AdamW([])
    with pytest.raises(TypeError, match="not ndarray"):
        AdamW([np.zeros(3)])
    with pytest.raises(ValueError, match="more than one parameter group"):
        AdamW([{"params": network.parameters()}, {"params": network.parameters()[:1]}])
    with pytest.raises(ValueError, match='needs a "params" entry'):
        AdamW([{"lr": 1.0}])
    with pytest.raises(ValueError, match="does not know 'momentum'"):
        AdamW([{"params": network.parameters(), "momentum": 1.0}])


def test_pairs_of_name_and_parameter_do():
    assert len(AdamW(Network().named_parameters()).param_groups[0]["params"]) == len(Network().core.names())


def test_clipping_leaves_small_gradients_alone():
    network = Network()
    put_gradients(network.core, {"classifier.bias": np.float32([3, 0, 4])})
    parameters = [p for p in network.parameters() if p.core_name == "classifier.bias"]
    assert clip_grad_norm_(parameters, 6.0) == pytest.approx(5.0)
    assert network.core.gradient("classifier.bias").tolist() == [3, 0, 4]
    assert clip_grad_norm_(parameters, 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(network.core.gradient("classifier.bias"), [0.6, 0, 0.8], rtol=1e-6)
    network.core.gradient("classifier.bias")[0] = np.nan
    assert math.isnan(clip_grad_norm_(parameters, 1.0))
    with pytest.raises(RuntimeError, match="norm is nan"):
        clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    with pytest.raises(ValueError, match="norm_type=2 only"):
        clip_grad_norm_(parameters, 1.0, norm_type=1)


def test_layerwise_rates():
    network = Network()
    rate = {p.core_name: g["lr"] for g in layerwise_lr_groups(network, 1.0, 0.5) for p in g["params"]}
    decay = {p.core_name: g["weight_decay"] for g in layerwise_lr_groups(network, 1.0, 0.5) for p in g["params"]}
    assert set(rate) == set(network.core.names())
    assert rate["classifier.weight"] == rate["pooler.bias"] == 1.0
    assert rate["layers.1.mlp.up.weight"] == 0.5 and rate["layers.0.attention.norm.bias"] == 0.25
    assert rate["embeddings.word.weight"] == rate["embeddings.norm.weight"] == 0.125
    assert decay["layers.0.mlp.up.weight"] == 0.01
    assert decay["layers.0.mlp.up.bias"] == decay["layers.0.mlp.norm.weight"] == decay["embeddings.norm.weight"] == 0.0
    with pytest.raises(ValueError, match="layer decay"):
        layerwise_lr_groups(network, 1.0, 0.0)


def frozen(network):
    return {n for n, p in network.named_parameters() if not p.requires_grad}


def test_freezing():
    network = Network()
    freeze(network, "embeddings")
    assert frozen(network) == {n for n in network.core.names() if n.startswith("embeddings.")}
    network = Network()
    freeze(network, 1)
    assert frozen(network) == {n for n in network.core.names() if n.startswith(("embeddings.", "layers.0."))}
    network = Network()
    freeze(network, "encoder")
    assert frozen(network) == {n for n in network.core.names() if not n.startswith(("pooler", "classifier"))}
    network = Network()
    assert freeze(network, "layers.1", "classifier.bias")[-1] == "classifier.bias"
    assert frozen(network) == {n for n in network.core.names() if n.startswith("layers.1.")} | {"classifier.bias"}
    for nothing in ("layers.7", "3", "layer"):
        with pytest.raises(ValueError, match=f"'{nothing}' matches no parameter"):
            freeze(network, nothing)


def test_seed():
    set_seed(5)
    first = np.random.rand()
    set_seed(5)
    assert np.random.rand() == first
    with pytest.raises(ValueError, match="seed must be in"):
        set_seed(-1)
