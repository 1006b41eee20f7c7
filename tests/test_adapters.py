"""Low-rank adapters: the layer and its gradient, on weights in any number of bits; several at once; files; checkpointing."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_requests import write_work

import govlm
from govlm import LoraConfig
from govlm.checkpoint import load_file, save_file
from govlm.configuration import AlbertConfig, BertConfig, GPT2Config, LlamaConfig, PretrainedConfig, Qwen3Config, T5Config
from govlm.data import read_examples
from govlm.generation import Engine
from govlm.models import PreTrainedModel
from govlm.train.evaluate import encode
from govlm.train.finetune import Options, Trainer
from govlm.train.quantise import QuantiseOptions, quantise_folder

BERT: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 40, "initializer_range": 0.2, "num_labels": 4, "problem_type": "single_label_classification",
}  # fmt: skip
ROTARY: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2, "attention_dropout": 0.1,
}  # fmt: skip
GPT2: dict[str, Any] = {"vocab_size": 60, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 40, "initializer_range": 0.2}
T5: dict[str, Any] = {
    "vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    "pad_token_id": 0, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
FAMILIES: dict[str, tuple[str, PretrainedConfig]] = {
    "bert": ("BertForSequenceClassification", BertConfig(**BERT)),
    "bert masked": ("BertForMaskedLM", BertConfig(**BERT)),
    "albert": ("AlbertForTokenClassification", AlbertConfig(**{**BERT, "embedding_size": 16})),
    "gpt2": ("GPT2LMHeadModel", GPT2Config(**GPT2)),
    "llama": ("LlamaForCausalLM", LlamaConfig(**ROTARY)),
    "qwen3": ("Qwen3ForCausalLM", Qwen3Config(**{**ROTARY, "head_dim": 12, "tie_word_embeddings": True})),
    "t5": ("T5ForConditionalGeneration", T5Config(**T5)),
}  # fmt: skip
EVERY = {
    "bert": ["query", "key", "value", "dense"], "bert masked": ["query", "key", "value", "dense"],
    "albert": "all-linear", "gpt2": "all-linear", "llama": "all-linear", "qwen3": "all-linear", "t5": "all-linear",
}  # fmt: skip


def make(name: str) -> PreTrainedModel:
    govlm.set_seed(3)
    kind, config = FAMILIES[name]
    return getattr(govlm, kind)(copy.deepcopy(config))


def lora(name: str = "llama", **fields: Any) -> LoraConfig:
    """A random one: B is not zero."""
    return LoraConfig(**{"r": 3, "lora_alpha": 6, "init_lora_weights": False, "target_modules": EVERY[name], **fields})


def call(model: PreTrainedModel, only: slice = slice(None), **more: Any) -> Any:
    """A forward of three padded sequences, or of some of them."""
    generator = np.random.default_rng(1)
    ids = generator.integers(2, 60, (3, 9))
    mask = np.array([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2])
    labels = np.where(mask == 1, generator.integers(0, 4, (3, 9)), -100)
    if model.task == "sequence":
        labels = np.array([1, 3, 0])
    return model(ids[only], mask[only], labels=labels[only], seed=5, step=2, samples=np.arange(3)[only], **more)


def gradients(model: PreTrainedModel, **more: Any) -> tuple[float, dict[str, np.ndarray[Any, Any]]]:
    model.zero_grad()
    loss = call(model, **more).loss
    loss.backward()
    return loss.item(), {n: np.array(p.grad) for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}


def close(a: Any, b: Any, limit: float = 1e-5) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= limit * max(1.0, float(np.abs(b).max()))


# ---- the layer -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_as_the_merged_model(name: str) -> None:
    """y with an adapter is y with W + scale B A; unmerging gives the old bits back."""
    model = make(name)
    before = {key: np.array(value) for key, value in model.state_dict().items()}
    plain = np.array(call(model).logits)
    model.add_adapter(lora(name))
    adapted = np.array(call(model).logits)
    assert np.abs(adapted - plain).max() > 1e-2
    model.merge_adapter()
    close(call(model).logits, adapted)
    with pytest.raises(ValueError, match="is merged already"):
        model.merge_adapter()
    model.unmerge_adapter()
    assert all(np.array_equal(value, before[key]) for key, value in model.state_dict().items())
    assert np.array_equal(call(model).logits, adapted)
    assert np.array_equal(call(model.merge_and_unload()).logits, call(model).logits)
    assert [p for _, p in model.named_parameters() if "lora" in p.name] == []


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("training", [False, True])
def test_gradient_by_differences(name: str, training: bool) -> None:
    """Along a random direction in all of A, B and what is held whole; with dropout everywhere in training."""
    model = make(name)
    model.add_adapter(lora(name, lora_dropout=0.2, modules_to_save=["classifier"] if name in ("bert", "albert") else None))
    model.train(training)
    _, found = gradients(model)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert set(found) == set(parameters)
    generator = np.random.default_rng(2)
    for kind in ("lora_A", "lora_B", "modules_to_save"):
        chosen = {n: p for n, p in parameters.items() if f".{kind}." in n}
        if not chosen:
            continue
        way = {n: generator.standard_normal(p.shape).astype(np.float32) for n, p in chosen.items()}
        length = 5e-3 / np.sqrt(sum(float((d * d).sum()) for d in way.values()))
        old = {n: np.array(p.data) for n, p in chosen.items()}
        losses = []
        for sign in (1, -1):
            for n, p in chosen.items():
                p.data[...] = old[n] + np.float32(sign * length) * way[n]
            losses.append(call(model).loss.item())
        for n, p in chosen.items():
            p.data[...] = old[n]
        slope = (losses[0] - losses[1]) / (2 * length)
        expected = sum(float((found[n].astype(np.float64) * way[n]).sum()) for n in chosen)
        assert abs(slope - expected) <= 0.02 * abs(expected) + 0.02, kind


@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_itself_is_left_alone(name: str) -> None:
    """No gradient, no moments, no flat copy, not a bit changed; only the adapter steps."""
    model = make(name)
    before = {key: np.array(value) for key, value in model.state_dict().items()}
    model.add_adapter(lora(name))
    start = {key: np.array(value) for key, value in model.get_adapter_state_dict().items()}
    optimizer = govlm.AdamW(model.parameters(), lr=1e-2)
    model.train()
    losses = []
    for _ in range(12):
        loss = call(model).loss
        losses.append(loss.item())
        loss.backward()
        govlm.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    assert all(np.array_equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(not np.array_equal(value, start[key]) for key, value in model.get_adapter_state_dict().items())
    assert not any(core.trainable for core in model._cores.values())
    assert len(optimizer.state_dict()["state"]) == len(start)


def test_a_new_adapter_changes_nothing() -> None:
    model = make("llama")
    plain = np.array(call(model).logits)
    model.add_adapter(LoraConfig())
    assert np.array_equal(call(model).logits, plain)
    assert {n.split(".")[-4] for n, p in model.named_parameters() if p.requires_grad} == {"q_proj", "v_proj"}


def test_dropout_depends_on_the_place_alone() -> None:
    """A sequence draws the same numbers alone as in a batch, and others for another sample."""
    model = make("llama")
    model.config.attention_dropout = 0.0
    model.add_adapter(lora(lora_dropout=0.5))
    model.train()
    whole = np.array(call(model).logits)
    for i in range(3):
        close(np.array(call(model, slice(i, i + 1)).logits)[0], whole[i])
    other = model(np.full((2, 6), 7), samples=np.array([4, 5]), seed=5, step=2).logits
    assert np.abs(other[0] - other[1]).max() > 1e-3


# ---- weights in few bits ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    for name in ("bert", "gpt2", "qwen3", "t5"):
        model = make(name)
        model.save_pretrained(root / name)
        for bits in (8, 4, 32):
            quantise_folder(root / name, root / f"{name}-{bits}", QuantiseOptions(bits=bits))
        quantise_folder(root / name, root / f"{name}-4.5", QuantiseOptions(bits=4, minimum=True))
    return root


@pytest.mark.parametrize("bits", [8, 4, 4.5, 32])
@pytest.mark.parametrize("name", ["bert", "gpt2", "qwen3", "t5"])
def test_on_few_bits(name: str, bits: float, folders: Path) -> None:
    """Loss and gradients are those of the model whose weights are what the bits stand for; the bits stay as they are."""
    kind = getattr(govlm, FAMILIES[name][0])
    model = kind.from_pretrained(folders / f"{name}-{bits}")
    assert model.quantised
    whole = kind.from_pretrained(folders / name)
    whole.load_state_dict({key: np.array(value) for key, value in model.state_dict().items()})
    for m in (model, whole):
        govlm.set_seed(9)
        m.add_adapter(lora(name, lora_dropout=0.1))
        m.train()
    (loss, found), (expected_loss, expected) = gradients(model), gradients(whole)
    assert abs(loss - expected_loss) <= 1e-5 * max(1.0, expected_loss)
    assert set(found) == set(expected)
    for key, value in found.items():
        close(value, expected[key], 2e-5)
    assert model.quantised
    model.gradient_checkpointing_enable()
    checkpointed = gradients(model)
    assert checkpointed[0] == loss
    assert all(np.array_equal(value, found[key]) for key, value in checkpointed[1].items())
    with pytest.raises(ValueError, match="this model is quantised"):
        model.merge_adapter()


def test_a_quantised_model_without_adapters_still_trains(folders: Path) -> None:
    model = govlm.Qwen3ForCausalLM.from_pretrained(folders / "qwen3-4").train()
    assert not model.quantised
    _, found = gradients(model)
    assert set(found) == {n for n, _ in model.named_parameters()}


# ---- checkpointing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_gives_the_same_bits(name: str, adapted: bool) -> None:
    model = make(name)
    if adapted:
        model.add_adapter(lora(name, lora_dropout=0.1))
    model.train()
    loss, found = gradients(model)
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable()
    again, same = gradients(model)
    assert again == loss
    assert set(same) == set(found)
    assert all(np.array_equal(same[key], found[key]) for key in found)
    hidden = call(model, output_hidden_states=True, output_attentions=True)
    hidden.loss.backward()  # attention maps need every layer's own state
    model.gradient_checkpointing_disable()
    _, same = gradients(model)
    assert all(np.array_equal(same[key], found[key]) for key in found)


@pytest.mark.parametrize("name", ["bert masked", "gpt2", "llama", "qwen3", "t5"])
def test_a_frozen_head(name: str) -> None:
    """Its gradient is made with the loss: as it is made in the backward, for every scale, and beside a gradient at the logits."""
    model = make(name)
    model.add_adapter(lora(name))
    _, found = gradients(model)
    model.zero_grad()
    (call(model).loss * 0.25).backward()
    for key, value in model._adapter_parameters():
        close(value.grad, 0.25 * found[key], 1e-6)
    outputs = call(model)
    seed = np.random.default_rng(0).standard_normal(np.shape(outputs.logits)).astype(np.float32)
    model.zero_grad()
    outputs.backward(loss=1.0, logits=seed)
    both = {key: np.array(p.grad) for key, p in model._adapter_parameters()}
    model.zero_grad()
    call(model).backward(logits=seed)
    for key, p in model._adapter_parameters():
        close(found[key] + p.grad, both[key], 2e-5)
    head = next(n for n in ("lm_head.weight", "lm_head.decoder.weight") if n in model._names) if name == "llama" else None
    parameter = model.get_input_embeddings() if head is None else model._parameters[head]
    parameter.requires_grad = True
    _, whole = gradients(model)
    assert set(whole) == {*found, parameter.name}
    for key, value in found.items():
        close(value, whole[key], 1e-6)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_either_part_of_an_adapter_may_be_frozen(name: str) -> None:
    """As LoRA-FA does with A: the other part has the gradient that it has beside it."""
    model = make(name)
    model.add_adapter(lora(name, lora_dropout=0.25))
    model.train()
    _, found = gradients(model)
    for frozen, trained in (("lora_A", "lora_B"), ("lora_B", "lora_A")):
        for key, parameter in model._adapter_parameters():
            parameter.requires_grad = frozen not in key
        _, part = gradients(model)
        assert set(part) == {key for key in found if trained in key}
        assert all(np.array_equal(part[key], found[key]) for key in part)


# ---- several at once -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_each_sequence_its_own(name: str) -> None:
    """In one batch as alone: logits, hidden states, and the gradient of each sequence in its own adapter."""
    model = make(name)
    plain = np.array(call(model).logits)
    save = ["classifier"] if name in ("bert", "albert") else None
    model.add_adapter(lora(name, modules_to_save=save), "one")
    for _, p in model._adapter_parameters():
        if ".modules_to_save." in p.name:
            p.data[...] += 0.3
    one = np.array(call(model).logits)
    query = "q" if name == "t5" else "query" if "bert" in name else "c_attn" if name == "gpt2" else "q_proj"
    model.add_adapter(lora(name, r=5, target_modules=[query]), "two")
    two = np.array(call(model).logits)
    mixed = np.array(call(model, adapter_names=["one", "__base__", "two"]).logits)
    for i, expected in enumerate((one, plain, two)):
        close(mixed[i], expected[i])
    for adapter in model._adapters.values():
        adapter.requires_grad_(True)
    _, found = gradients(model, adapter_names=["one", "__base__", "two"])
    assert {n.split(".lora_")[0] for n in found if ".two." in n} and {n for n in found if ".one." in n}
    model.disable_adapters()
    assert np.array_equal(call(model).logits, plain)
    assert model.active_adapters() == []
    model.enable_adapters()
    assert np.array_equal(call(model).logits, two)
    model.delete_adapter("two")
    assert model.active_adapters() == ["one"]
    close(call(model).logits, one)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 4}])
@pytest.mark.parametrize("name", ["gpt2", "qwen3", "t5"])
def test_generate_each_its_own(name: str, options: dict[str, Any]) -> None:
    model = make(name)
    model.add_adapter(lora(name), "one")
    model.add_adapter(lora(name, r=2, lora_alpha=9), "two")
    ids = np.random.default_rng(4).integers(2, 60, (3, 7))
    names = ["two", "__base__", "one"]
    together = model.generate(ids, max_new_tokens=10, eos_token_id=None, adapter_names=names, **options)
    for i, adapter in enumerate(names):
        if adapter == "__base__":
            model.disable_adapters()
        else:
            model.set_adapter(adapter)
        alone = model.generate(ids[i : i + 1], max_new_tokens=10, eos_token_id=None, **options)
        assert np.array_equal(alone[0], together[i][: alone.shape[1]])
        assert not together[i][alone.shape[1] :].any()  # it ended before the others
        model.enable_adapters()


def test_the_engine_takes_one_a_request() -> None:
    """Prompts that begin alike share pages only where they go through the same adapter, with the same weights."""
    model = make("llama")
    model.add_adapter(lora(), "one")
    model.add_adapter(lora(r=2), "two")
    prompt = np.random.default_rng(4).integers(2, 60, 40)
    names = ["one", "two", "__base__", "one", "two"]
    expected = {n: model.generate(prompt[None], max_new_tokens=6, adapter_names=[n])[0, 40:].tolist() for n in set(names)}
    with Engine(model) as engine:
        for _ in range(2):
            handles = [engine.submit(prompt, max_new_tokens=6, adapter=n) for n in names]
            assert [h.result(20) for h in handles] == [expected[n] for n in names]
        with pytest.raises(ValueError, match="no adapter 'three'"):
            engine.submit(prompt, adapter="three")
        for parameter in model._adapters["one"].parameters.values():
            parameter.core.bind(parameter.core_name, np.array(parameter.data) * np.float32(1.5))
        changed = model.generate(prompt[None], max_new_tokens=6, adapter_names=["one"])[0, 40:].tolist()
        assert engine.submit(prompt, max_new_tokens=6, adapter="one").result(20) == changed != expected["one"]


# ---- files and names -------------------------------------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = make("bert")
    model.save_pretrained(tmp_path / "base")
    model = govlm.BertForSequenceClassification.from_pretrained(tmp_path / "base")
    model.add_adapter(lora("bert", task_type="SEQ_CLS"), "fees")
    call(model).loss.backward()
    govlm.AdamW(model.parameters(), lr=0.05).step()
    expected = np.array(call(model).logits)
    model.save_pretrained(tmp_path / "fees")
    assert sorted(p.name for p in (tmp_path / "fees").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    tensors = load_file(tmp_path / "fees" / "adapter_model.safetensors")
    assert "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight" in tensors
    assert "base_model.model.classifier.weight" in tensors
    fields = json.loads((tmp_path / "fees" / "adapter_config.json").read_text())
    assert (fields["peft_type"], fields["r"], fields["inference_mode"]) == ("LORA", 3, True)
    for again in (
        govlm.BertForSequenceClassification.from_pretrained(tmp_path / "fees"),
        govlm.AutoModelForSequenceClassification.from_pretrained(tmp_path / "fees"),
    ):
        assert np.array_equal(call(again).logits, expected)
        assert not any(p.requires_grad for p in again.parameters())  # loaded to be used
    again.load_adapter(tmp_path / "fees", "more", is_trainable=True)
    assert again.active_adapters() == ["more"]
    assert all(p.requires_grad == (".more." in p.name) for p in again.parameters())
    twin = copy.deepcopy(again)
    assert np.array_equal(call(twin).logits, expected)
    twin.delete_adapter(["more", "default"])
    assert again.active_adapters() == ["more"]


def test_what_the_checkpoint_lacked_goes_with_the_adapter(tmp_path: Path) -> None:
    """A random head is no part of the base's folder: without it the adapter would be worth nothing."""
    govlm.set_seed(5)
    with pytest.warns(UserWarning, match="initialised at random"):
        model = govlm.BertForSequenceClassification.from_pretrained("govlm-small-zh", num_labels=4)
    assert model.quantised
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]))
    assert model.peft_config["default"].modules_to_save == ["classifier", "pooler"]
    model.train()
    assert model.quantised
    expected = np.array(call(model.eval()).logits)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="initialised at random"):
        again = govlm.AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=4)
    assert again.quantised
    assert np.array_equal(call(again).logits, expected)
    masked = govlm.BertForMaskedLM.from_pretrained("govlm-small-zh")
    masked._fresh = ["cls.predictions.bias"]
    with pytest.warns(UserWarning, match=r"cls\.predictions\.bias is random and is not saved"):
        masked.add_adapter(LoraConfig(r=2, target_modules=["query"]))


def refuse(model: PreTrainedModel, folder: Path, text: str) -> None:
    """load_adapter says `text` in one line, and the model is as it was."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        model.load_adapter(folder, "strange")
    assert text in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    assert model.peft_config == {}
    assert all(p.requires_grad for p in model.parameters())


def test_strange_files_are_refused(tmp_path: Path) -> None:
    model = make("llama")
    model.add_adapter(lora())
    good = tmp_path / "good"
    model.save_pretrained(good)
    tensors = {key: np.array(value) for key, value in model.get_adapter_state_dict().items()}
    fields = json.loads((good / "adapter_config.json").read_text())
    target = make("llama")
    refuse(target, tmp_path / "nothing", "adapter_config.json is missing")
    bad = tmp_path / "bad"
    first = next(iter(tensors))

    def write(changes: dict[str, Any] | None = None, values: dict[str, Any] | None = None) -> Path:
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        if changes is not None:
            (bad / "adapter_config.json").write_text(json.dumps({**fields, **changes}))
        if values is not None:
            save_file(values, bad / "adapter_model.safetensors")
        return bad

    for changes, text in (
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"r": 0}, "r must be an integer in 1..4096"),
        ({"r": 4}, "has shape [3, 32], this model needs [4, 32]"),
        ({"lora_dropout": 1.5}, "lora_dropout"),
        ({"lora_alpha": "much"}, "lora_alpha"),
        ({"target_modules": ["c_attn"]}, "LlamaForCausalLM has no layer 'c_attn'; it has down_proj, gate_proj"),
        ({"target_modules": ["embed_tokens"]}, "no linear layer"),
        ({"target_modules": ["lm_head"]}, "no linear layer"),
        ({"target_modules": "(q_proj"}, "no regular expression"),
        ({"modules_to_save": ["lm_head"]}, "only a classifier or pooler"),
        ({"modules_to_save": ["classifier"]}, "LlamaForCausalLM has no 'classifier'"),
        ({"surprise": [1]}, "surprise = [1] is not supported"),
    ):
        refuse(target, write(changes), text)
    refuse(target, write(None, {k: v for k, v in tensors.items() if k != first}), "has no tensor")
    refuse(target, write(None, {**tensors, "base_model.model.extra": tensors[first]}), "has no place in this model")
    refuse(target, write(None, {**tensors, first: np.zeros((3, 33), np.float32)}), "has shape [3, 33]")
    refuse(target, write(None, {**tensors, first: np.zeros((3, 32), np.int32)}), "must hold floats")
    (write() / "adapter_config.json").write_text("{")
    refuse(target, bad, "is not JSON")
    (write() / "adapter_config.json").write_text("[]")
    refuse(target, bad, "is not a JSON object")
    content = (write() / "adapter_model.safetensors").read_bytes()
    (bad / "adapter_model.safetensors").write_bytes(content[:-5])
    refuse(target, bad, "is truncated")
    (bad / "adapter_model.safetensors").unlink()
    refuse(target, bad, "adapter_model.safetensors is missing")
    (bad / "adapter_model.bin").write_bytes(b"pickle")
    refuse(target, bad, "is a pickle")
    generator = np.random.default_rng(0)
    for _ in range(40):  # bytes changed at random: refused in one line, or loaded whole
        broken = bytearray(content)
        for place in generator.integers(0, 2000, 3):
            broken[place] = generator.integers(0, 256)
        (write() / "adapter_model.safetensors").write_bytes(bytes(broken))
        fresh = make("llama")
        try:
            fresh.load_adapter(bad)
        except ValueError as error:
            assert "\n" not in str(error)
            assert fresh.peft_config == {}
    other = govlm.LlamaForCausalLM(LlamaConfig(**{**ROTARY, "hidden_size": 48}))
    refuse(other, good, "this model needs [3, 48]")
    refuse(govlm.LlamaForCausalLM(LlamaConfig(**{**ROTARY, "num_hidden_layers": 4})), good, "has no tensor")
    refuse(govlm.LlamaForCausalLM(LlamaConfig(**{**ROTARY, "num_hidden_layers": 2})), good, "has no place in this model")


def test_arguments_are_refused() -> None:
    model = make("llama")
    for name, action in (("set", model.active_adapters), ("off", model.disable_adapters)):
        with pytest.raises(ValueError, match="no adapter is loaded"):
            action()
        assert name
    with pytest.raises(ValueError, match="no adapter 'one'"):
        call(model, adapter_names=["one"] * 3)
    model.add_adapter(lora(), "one")
    for names, text in (
        (["one"], "a list of 3 names"),
        ("one", "a list of 3 names"),
        (["one", "two", "one"], "no adapter 'two'"),
    ):
        with pytest.raises(ValueError, match=text):
            call(model, adapter_names=names)
        with pytest.raises(ValueError, match=text):
            model.generate(np.ones((3, 4), np.int64), adapter_names=names)
    for name in ("one", "__base__", "a.b", "", 3):
        with pytest.raises(ValueError, match="adapter"):
            model.add_adapter(lora(), name)
    with pytest.raises(TypeError, match="must be a LoraConfig"):
        model.add_adapter({"r": 8})
    with pytest.raises(TypeError, match="takes a name"):
        model.set_adapter(["one"])
    with pytest.raises(ValueError, match="cannot change beside an adapter"):
        model.resize_token_embeddings(70)
    with pytest.raises(TypeError):
        LoraConfig(use_dora=True)  # type: ignore[call-arg]
    model.merge_adapter()
    for action in (lambda: model.delete_adapter("one"), lambda: call(model, adapter_names=["one"] * 3)):
        with pytest.raises(ValueError, match="unmerge_adapter"):
            action()
    with pytest.raises(ValueError, match="was not made for this model"):
        core = make("llama").core
        model.core.forward(
            np.ones(2, np.int32), np.array([0, 2]), adapters=[core.adapter(2, 1.0, 0.0, ["layers.0.mlp.up.weight"], [])]
        )


def test_the_core_refuses() -> None:
    core = make("llama").core
    up = "layers.0.mlp.up.weight"
    for arguments, text in (
        ((0, 1.0, 0.0, [up], []), "rank must be"), ((2, 1.0, 1.0, [up], []), "dropout must be"),
        ((2, float("nan"), 0.0, [up], []), "scale must be a finite number, not nan"),
        ((2, 1e300, 0.0, [up], []), "scale must be a finite number"), ((2, 1.0, 0.0, [up, up], []), "named twice"), ((2, 1.0, 0.0, ["lm_head.weight"], []), "no matrix of a linear layer"),
        ((2, 1.0, 0.0, ["layers.0.mlp.norm.weight"], []), "no matrix"), ((2, 1.0, 0.0, [], [up]), "only a pooler or classifier"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            core.adapter(*arguments)
    head = make("bert").core
    for held in (["classifier.weight"], ["classifier.bias"], ["pooler.weight", "classifier.weight", "classifier.bias"]):
        with pytest.raises(ValueError, match="whole together or not at all"):
            head.adapter(2, 1.0, 0.0, [], held)
    adapter = core.adapter(2, 1.0, 0.0, [up], [])
    ids, splits = np.ones(2, np.int32), np.array([0, 2], np.int64)
    with pytest.raises(RuntimeError, match="has no value"):
        core.forward(ids, splits, adapters=[adapter])
    for name in adapter.names():
        adapter.bind(name, np.ones(adapter.shape(name), np.float32))
    for arguments, kind, text in (
        ({"adapters": [adapter, adapter]}, ValueError, "2 adapters need adapter_of"),
        ({"adapters": [adapter, adapter], "adapter_of": np.array([0], np.int32)}, ValueError, "are the same"),
        ({"adapters": [adapter], "adapter_of": np.array([1], np.int32)}, IndexError, "outside -1..0"),
        ({"adapters": [adapter], "adapter_of": np.array([0, 0], np.int32)}, ValueError, "adapter_of"),
        ({"adapter_of": np.array([0], np.int32)}, ValueError, "needs adapters"),
        ({"adapters": [3]}, TypeError, "must be a Model"),
    ):
        with pytest.raises(kind, match=text):
            core.forward(ids, splits, **arguments)
    with pytest.raises(RuntimeError, match="runs as part of its model"):
        adapter.forward(ids, splits)
    with pytest.raises(ValueError, match="cannot have an adapter"):
        adapter.adapter(2, 1.0, 0.0, [], [])
    done = core.forward(ids, splits, adapters=[adapter])
    adapter.bind(adapter.names()[0], np.zeros(adapter.shape(adapter.names()[0]), np.float32))
    with pytest.raises(RuntimeError, match="the weights changed"):
        done.backward(logits=np.ones((2, 60), np.float32))


# ---- the trainer -----------------------------------------------------------------------------------------------------------


def test_fine_tuned_stopped_and_resumed(tmp_path: Path) -> None:
    """A run's folder is the adapter's; stopped after an epoch and resumed it gives the same bits; the base is not touched."""
    write_work(tmp_path, 42)
    names = ["户籍", "社保", "车管"]
    tokenizer = govlm.BertTokenizer(str(tmp_path / "vocab.txt"))
    fields = json.loads((tmp_path / "config.json").read_text())
    config = BertConfig(
        **{
            **fields,
            "vocab_size": len(tokenizer),
            "num_labels": 3,
            "initializer_range": 0.2,
            "problem_type": BERT["problem_type"],
        }
    )
    govlm.set_seed(1)
    govlm.BertForSequenceClassification(config).save_pretrained(tmp_path / "base")
    examples = {part: list(read_examples(tmp_path / f"{part}.jsonl")) for part in ("train", "dev")}
    options = Options(epochs=8, batch_size=8, lr=1e-2, seed=1, ngrams=False, save_steps=5)

    class Stopped(Trainer):
        def _after_step(self, record: Any, bar: Any, log: Any) -> None:
            super()._after_step(record, bar, log)
            if self.position.step == 28:
                raise KeyboardInterrupt

    def run(out: Path | None, kind: Any = Trainer, **more: Any) -> Any:
        govlm.set_seed(2)
        model = govlm.BertForSequenceClassification.from_pretrained(tmp_path / "base")
        model.add_adapter(LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear", task_type="SEQ_CLS"), "requests")
        rows = [encode(model, tokenizer, examples[part], names, multi_label=False) for part in ("train", "dev")]
        trainer = kind(model, tokenizer, *rows, options=options, out=out, progress=False, **more)
        result = trainer.train()
        assert not model.core.trainable
        return model, result

    model, result = run(tmp_path / "out")
    assert result["history"][-1]["train_loss"] < result["history"][0]["train_loss"]
    weights = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", Stopped)
    run(tmp_path / "again", resume=True)
    assert (tmp_path / "again" / "adapter_model.safetensors").read_bytes() == weights
    alone, _ = run(None)
    for key, value in alone.get_adapter_state_dict().items():
        assert np.array_equal(value, model.get_adapter_state_dict()[key])
    loaded = govlm.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    ids = tokenizer(["身份证丢了怎么补办"], return_tensors="np")
    assert np.array_equal(loaded(**ids).logits, model.eval()(**ids).logits)


def test_threads_predict_while_one_trains() -> None:
    """Forwards of other threads, through either adapter, wait for a step and never see half of one."""
    model = make("llama")
    model.add_adapter(lora(), "still")
    model.add_adapter(lora(r=2), "moving")
    ids = np.random.default_rng(6).integers(2, 60, (3, 9))
    expected = np.array(model(ids, adapter_names=["still"] * 3).logits)
    optimizer = govlm.AdamW(model.parameters(), lr=1e-2)
    wrong: list[object] = []

    def predict() -> None:
        try:
            for _ in range(25):
                mixed = np.array(model(ids, adapter_names=["still", "moving", "still"]).logits)
                if not np.isfinite(mixed).all() or np.abs(mixed[[0, 2]] - expected[[0, 2]]).max() > 1e-5:
                    wrong.append("another answer")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        call(model).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert wrong == []
