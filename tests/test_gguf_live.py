"""GGUF against its own package and transformers: values of every type, and models written as llama.cpp's converter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="gguf is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import govlm  # noqa: E402
from govlm.gguf.dequantise import KINDS, dequantise  # noqa: E402
from govlm.gguf.file import TYPES, GGUFFile  # noqa: E402

ROTARY: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("Llama", "LlamaForCausalLM", ROTARY),
    "llama tied, scaled": ("Llama", "LlamaForCausalLM", {**ROTARY, "tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "llama with biases": ("Llama", "LlamaForCausalLM", {**ROTARY, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2", "Qwen2ForCausalLM", {**ROTARY, "tie_word_embeddings": True, "rope_parameters": LINEAR}),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", {**ROTARY, "head_dim": 32}),
    "gpt2": ("GPT2", "GPT2LMHeadModel", {
        "vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}),
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "F64"])
def test_values(kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    generator = np.random.default_rng(1)
    rows = generator.integers(0, 256, (9, 7 * size if block > 1 else 64 * size), dtype=np.uint8)
    theirs = rows.view({"F32": "<f4", "F16": "<f2"}.get(kind, np.uint8))
    with np.errstate(all="ignore"):  # random bits are NaN, too
        expected = gguf.dequantize(theirs, number)
        assert np.array_equal(dequantise(kind, rows), expected, equal_nan=True)


def test_every_type_has_its_name_and_size() -> None:
    for number, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if number.name != "Q8_1":  # ggml-common.h has two halves there, the package two floats; no file holds it
            assert TYPES[int(number)] == (number.name, block, size)


def write(theirs: Any, file: Path, kind: str) -> None:
    """As convert_hf_to_gguf does it; matrices in `kind`, but the embeddings in Q8_0 and what is a row in F32."""
    config, arch = theirs.config, theirs.config.model_type
    number = gguf.GGMLQuantizationType[kind]
    out = gguf.GGUFWriter(file, arch)
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        out.add_feed_forward_length(4 * config.n_embd)
        out.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        rope = config.rope_parameters
        out.add_feed_forward_length(config.intermediate_size)
        out.add_head_count_kv(config.num_key_value_heads)
        out.add_layer_norm_rms_eps(config.rms_norm_eps)
        out.add_rope_freq_base(rope["rope_theta"])
        if arch == "qwen3":
            out.add_key_length(config.head_dim)
            out.add_value_length(config.head_dim)
        if rope["rope_type"] == "linear":
            out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            out.add_rope_scaling_factor(rope["factor"])
        if rope["rope_type"] == "llama3":
            plain = rope["rope_theta"] ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
            stretched = theirs.model.rotary_emb.inv_freq.double()
            out.add_tensor("rope_freqs.weight", (plain / stretched).float().numpy())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", 0)}
    seen = set()
    for name, parameter in theirs.named_parameters(remove_duplicate=False):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = parameter.detach().numpy()
        if arch == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            values = values.T
        stem = name.split(".")[-2]
        if arch == "llama" and stem in heads:
            shape = values.shape
            values = values.reshape(heads[stem], 2, shape[0] // heads[stem] // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
        values = np.ascontiguousarray(values, np.float32)
        full = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert full is not None and full not in seen, name
        seen.add(full)
        held = gguf.GGMLQuantizationType.F32
        if values.ndim == 2 and "position_embd" not in full:
            held = gguf.GGMLQuantizationType.Q8_0 if "token_embd" in full else number
        out.add_tensor(full, gguf.quantize(values, held), raw_dtype=held)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, kind: str, tmp_path: Path) -> None:
    stem, label, fields = MODELS[name]
    torch.manual_seed(5)
    theirs = getattr(transformers, label)(getattr(transformers, f"{stem}Config")(**fields)).eval()
    with torch.no_grad():  # biases and norms that are 0 and 1 would hide which is which
        for parameter in theirs.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    write(theirs, tmp_path / "model.gguf", kind)
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "model.gguf", dtype="float32")
    assert type(ours).__name__ == label
    with torch.no_grad():  # what the file holds is what the reference gets
        for parameter, (full, mine) in zip(theirs.parameters(), ours.named_parameters(), strict=True):
            rounding = 0.13 if kind.startswith("Q4") else 0.02
            assert np.abs(mine.data - parameter.numpy()).max() <= rounding * np.abs(parameter.numpy()).max() + 1e-6, full
            parameter.copy_(torch.tensor(np.array(mine.data)))
    ids = np.random.default_rng(2).integers(0, 96, (2, 40))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits.numpy()
    assert np.allclose(ours(ids).logits, expected, atol=5e-5, rtol=1e-4)
    held = govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "model.gguf")
    assert held.quantised  # the embeddings at least
    assert np.square(held(ids).logits - expected).mean() < 0.05**2 * np.square(expected).mean()


def test_the_stretching_of_other_models_is_refused(tmp_path: Path) -> None:
    out = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for add, value in (
        (out.add_block_count, 1), (out.add_context_length, 64), (out.add_embedding_length, 32), (out.add_feed_forward_length, 32),
        (out.add_head_count, 2), (out.add_layer_norm_rms_eps, 1e-5), (out.add_rope_freq_base, 1e4),
    ):  # fmt: skip
        add(value)
    for i in range(12):
        out.add_tensor("token_embd.weight" if i == 0 else f"t{i}", np.zeros((4, 32), np.float32))
    out.add_tensor("rope_freqs.weight", np.linspace(1, 3, 8, dtype=np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    assert "rope_freqs.weight" in GGUFFile(tmp_path / "model.gguf").tensors
    with pytest.raises(ValueError, match="rope_freqs"):
        govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "model.gguf")
