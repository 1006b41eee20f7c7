"""Low-rank adapters, live against PEFT: logits, loss, gradients, files in both directions, several in one batch, merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed")

import govlm  # noqa: E402
import govlm.models  # noqa: E402
import govlm.t5  # noqa: E402
from govlm import LoraConfig  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

ENCODER: dict[str, Any] = {
    "vocab_size": 150, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "num_labels": 5, "problem_type": "single_label_classification",
}  # fmt: skip
ROTARY: dict[str, Any] = {
    "vocab_size": 150, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "vocab_size": 150, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.2, "resid_pdrop": 0.0,
    "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": 150, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}  # fmt: skip
# stem of the config, class, its fields, what the adapter says
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "bert": ("Bert", "BertForSequenceClassification", ENCODER, {"task_type": "SEQ_CLS"}),
    "bert, every layer": ("Bert", "BertForSequenceClassification", ENCODER, {
        "target_modules": "all-linear", "modules_to_save": ["classifier"], "task_type": "SEQ_CLS"}),
    "bert masked": ("Bert", "BertForMaskedLM", ENCODER, {"target_modules": ["query", "dense"]}),
    "bert tokens": ("Bert", "BertForTokenClassification", ENCODER, {"target_modules": ["key", "classifier"]}),
    "roberta": ("Roberta", "RobertaForSequenceClassification", ENCODER, {
        "task_type": "SEQ_CLS", "target_modules": ["value", "dense"]}),
    "albert": ("Albert", "AlbertForSequenceClassification", {**ENCODER, "embedding_size": 16, "classifier_dropout_prob": 0.0}, {
        "target_modules": ["query", "value", "ffn", "embedding_hidden_mapping_in"], "modules_to_save": ["classifier"]}),
    "gpt2": ("GPT2", "GPT2LMHeadModel", GPT2, {"fan_in_fan_out": True}),
    "gpt2, every layer": ("GPT2", "GPT2LMHeadModel", GPT2, {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "llama": ("Llama", "LlamaForCausalLM", ROTARY, {}),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", {**ROTARY, "tie_word_embeddings": True}, {
        "target_modules": "all-linear", "use_rslora": True}),
    "qwen3, some layers": ("Qwen3", "Qwen3ForCausalLM", {**ROTARY, "head_dim": 12}, {
        "target_modules": r".*\.(q_proj|down_proj)", "layers_to_transform": None}),
    "llama, one block": ("Llama", "LlamaForCausalLM", ROTARY, {
        "target_modules": ["k_proj", "gate_proj"], "layers_to_transform": [1], "exclude_modules": ["gate_proj"]}),
    "t5": ("T5", "T5ForConditionalGeneration", T5, {}),
    "t5, every layer": ("T5", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}, {
        "target_modules": ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]}),
}  # fmt: skip


def base_of(stem: str, kind: str, fields: dict[str, Any], folder: Path) -> Any:
    torch.manual_seed(5)
    model = getattr(transformers, kind)(getattr(transformers, f"{stem}Config")(**fields)).eval()
    model.save_pretrained(folder)
    return model


def adapted(base: Any, seed: int, name: str = "default", **fields: Any) -> Any:
    """PEFT's model with a random adapter, so that B is not zero."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(**{"r": 3, "lora_alpha": 5, "init_lora_weights": False, **fields})
    if isinstance(base, peft.PeftModel):
        base.add_adapter(name, config)
        return base
    return peft.get_peft_model(base, config, adapter_name=name).eval()


def inputs(kind: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """ids [3, 9] padded on the right, mask, labels."""
    generator = np.random.default_rng(3)
    ids = generator.integers(2, 150, (3, 9))
    mask = np.array([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2])
    if kind.endswith("SequenceClassification"):
        return ids, mask, np.array([1, 4, 0])
    labels = np.where(mask == 1, generator.integers(0, 5, (3, 9)) if kind.endswith("TokenClassification") else ids, -100)
    labels[0, :3] = -100
    return ids, mask, labels


def call(model: Any, kind: str, **more: Any) -> Any:
    ids, mask, labels = inputs(kind)
    if isinstance(model, govlm.models.PreTrainedModel):
        return model(ids, mask, labels=labels, **more)
    return model(torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels), **more)


def ours_of(kind: str) -> Any:
    return getattr(govlm.models, kind)


def same_logits(ours: Any, theirs: Any, kind: str) -> None:
    mine, wanted = np.array(ours.logits), theirs.logits.detach().numpy()
    if mine.ndim == 3 and not kind.startswith("T5"):  # what stands at masked places means nothing
        keep = inputs(kind)[1] == 1
        mine, wanted = mine[keep], wanted[keep]
    assert np.abs(mine - wanted).max() <= 3e-5 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("name", CASES)
def test_loaded_from_peft(name: str, tmp_path: Path) -> None:
    """PEFT's files here: logits, loss and the gradient of every adapter parameter."""
    stem, kind, fields, lora = CASES[name]
    theirs = adapted(base_of(stem, kind, fields, tmp_path / "base"), 7, **lora)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = ours_of(kind).from_pretrained(tmp_path / "base")
    ours.load_adapter(tmp_path / "adapter", is_trainable=True)
    mine, wanted = call(ours, kind), call(theirs, kind)
    same_logits(mine, wanted, kind)
    assert abs(mine.loss.item() - wanted.loss.item()) <= 1e-5 * max(1.0, abs(wanted.loss.item()))
    mine.loss.backward()
    wanted.loss.backward()
    expected = {n.removeprefix("base_model.model."): p for n, p in theirs.named_parameters() if p.requires_grad}
    found = {n: p for n, p in ours.named_parameters() if p.requires_grad}
    assert set(found) == set(expected)
    for key, parameter in found.items():
        gradient = expected[key].grad.numpy()
        assert np.abs(parameter.grad - gradient).max() <= 3e-5 * max(1.0, np.abs(gradient).max()), key
    assert not any(core.trainable for core in ours._cores.values())


@pytest.mark.parametrize("name", CASES)
def test_loaded_by_peft(name: str, tmp_path: Path) -> None:
    """Our files there."""
    stem, kind, fields, lora = CASES[name]
    base = base_of(stem, kind, fields, tmp_path / "base")
    ours = ours_of(kind).from_pretrained(tmp_path / "base")
    govlm.set_seed(11)
    ours.add_adapter(LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **lora))
    for _, parameter in ours._adapter_parameters():
        if ".modules_to_save." in parameter.name:
            parameter.data[...] += 0.1
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    same_logits(call(ours, kind), call(theirs, kind), kind)
    again = ours_of(kind).from_pretrained(tmp_path / "adapter")  # the folder names its base
    assert np.array_equal(np.array(call(again, kind).logits), np.array(call(ours, kind).logits))


@pytest.mark.parametrize("name", ["bert", "gpt2, every layer", "llama", "t5, every layer"])
def test_several_in_one_batch(name: str, tmp_path: Path) -> None:
    stem, kind, fields, lora = CASES[name]
    theirs = adapted(base_of(stem, kind, fields, tmp_path / "base"), 7, "one", **lora)
    adapted(theirs, 8, "two", **{**lora, "r": 5})
    theirs.save_pretrained(tmp_path / "adapters")
    ours = ours_of(kind).from_pretrained(tmp_path / "base")
    for adapter in ("one", "two"):
        ours.load_adapter(tmp_path / "adapters" / adapter, adapter)
    names = ["two", "__base__", "one"]
    same_logits(call(ours, kind, adapter_names=names), call(theirs.eval(), kind, adapter_names=names), kind)


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2, every layer", "qwen2", "t5"])
def test_merged(name: str, tmp_path: Path) -> None:
    stem, kind, fields, lora = CASES[name]
    theirs = adapted(base_of(stem, kind, fields, tmp_path / "base"), 7, **lora)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = ours_of(kind).from_pretrained(tmp_path / "base")
    ours.load_adapter(tmp_path / "adapter")
    ours.merge_and_unload().save_pretrained(tmp_path / "merged")
    again = getattr(transformers, kind).from_pretrained(tmp_path / "merged").eval()
    expected = theirs.merge_and_unload().state_dict()
    for key, value in again.state_dict().items():
        assert np.abs(value.numpy() - expected[key].numpy()).max() <= 1e-6, key


def test_generate_as_peft(tmp_path: Path) -> None:
    stem, kind, fields, lora = CASES["qwen2"]
    theirs = adapted(base_of(stem, kind, fields, tmp_path / "base"), 7, **lora)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = ours_of(kind).from_pretrained(tmp_path / "base")
    ours.load_adapter(tmp_path / "adapter")
    ids = inputs(kind)[0]
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = theirs.generate(input_ids=torch.tensor(ids), attention_mask=torch.ones_like(torch.tensor(ids)), **options)
    assert np.array_equal(ours.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0), expected.numpy())


def test_fine_tuning_as_peft(tmp_path: Path) -> None:
    """Ten steps of AdamW on the adapter: the same losses."""
    stem, kind, fields, lora = CASES["llama"]
    theirs = adapted(base_of(stem, kind, fields, tmp_path / "base"), 7, **lora)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = ours_of(kind).from_pretrained(tmp_path / "base")
    ours.load_adapter(tmp_path / "adapter", is_trainable=True)
    mine, their = govlm.AdamW(ours.parameters(), lr=1e-2), torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    ours.train()
    theirs.train()
    for _ in range(10):
        losses = call(ours, kind).loss, call(theirs, kind).loss
        assert abs(losses[0].item() - losses[1].item()) <= 1e-4
        for loss, optimizer in zip(losses, (mine, their), strict=True):
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
