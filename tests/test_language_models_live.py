"""Language models that say what follows, live against transformers: logits, loss and gradients equal, checkpoints in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import govlm  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

ROTARY: dict[str, Any] = {
    "vocab_size": 150, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": 150, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    "dropout_rate": 0.0,
}  # fmt: skip
CAUSAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2", "GPT2LMHeadModel", {
        "vocab_size": 150, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.2,
        "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "llama": ("Llama", "LlamaForCausalLM", ROTARY),
    "llama tied": ("Llama", "LlamaForCausalLM", {**ROTARY, "tie_word_embeddings": True}),
    "qwen2 tied": ("Qwen2", "Qwen2ForCausalLM", {**ROTARY, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", {**ROTARY, "head_dim": 12}),
}  # fmt: skip
SEQ2SEQ = {
    "scaled": T5,
    "not scaled": {**T5, "tie_word_embeddings": False},
    "gated": {**T5, "feed_forward_proj": "gated-gelu"},
}


def theirs_of(stem: str, kind: str, fields: dict[str, Any], folder: Path) -> Any:
    torch.manual_seed(5)
    model = getattr(transformers, kind)(getattr(transformers, f"{stem}Config")(**fields)).eval()
    model.save_pretrained(folder)
    return model


def same_gradients(ours: Any, theirs: Any) -> None:
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        wanted = expected[name].grad.numpy()
        assert np.abs(parameter.grad - wanted).max() <= 2e-5 * max(1.0, np.abs(wanted).max()), name


def inputs() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """ids [3, 9] padded on the right, mask, and labels with places that do not count."""
    generator = np.random.default_rng(3)
    ids = generator.integers(1, 150, (3, 9))
    mask = np.array([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2])
    labels = np.where(mask == 1, ids, -100)
    labels[0, :3] = -100
    return ids, mask, labels


@pytest.mark.parametrize("name", CAUSAL)
def test_causal(name: str, tmp_path: Path) -> None:
    stem, kind, fields = CAUSAL[name]
    theirs = theirs_of(stem, kind, fields, tmp_path / "theirs")
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    assert type(ours).__name__ == kind
    ids, mask, labels = inputs()
    expected = theirs(torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels))
    out = ours(ids, mask, labels=labels)
    assert np.allclose(out.logits[mask == 1], expected.logits.detach().numpy()[mask == 1], atol=2e-5, rtol=1e-4)
    assert abs(out.loss.item() - expected.loss.item()) < 1e-5
    out.loss.backward()
    expected.loss.backward()
    same_gradients(ours, theirs)
    ours.save_pretrained(tmp_path / "ours")
    again = getattr(transformers, kind).from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        back = again(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    assert np.allclose(back[mask == 1], ours(ids, mask).logits[mask == 1], atol=2e-5, rtol=1e-4)


def test_labels_of_packed_input_end_with_their_sequence(tmp_path: Path) -> None:
    theirs_of("Llama", "LlamaForCausalLM", ROTARY, tmp_path)
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, mask, labels = inputs()

    class Packed:
        pass

    packed: Any = Packed()
    packed.ids, packed.row_splits = ids[mask == 1], np.array([0, 9, 14, 21])
    loss = ours(packed, labels=labels[mask == 1]).loss.item()
    assert abs(loss - ours(ids, mask, labels=labels).loss.item()) < 1e-6


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_seq2seq(name: str, tmp_path: Path) -> None:
    theirs = theirs_of("T5", "T5ForConditionalGeneration", SEQ2SEQ[name], tmp_path / "theirs")
    ours = govlm.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "theirs")
    ids, mask, labels = inputs()
    labels = labels[:, 2:]
    expected = theirs(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), labels=torch.tensor(labels))
    out = ours(ids, mask, labels=labels)
    assert np.allclose(out.logits, expected.logits.detach().numpy(), atol=5e-5, rtol=1e-4)
    assert abs(out.loss.item() - expected.loss.item()) < 1e-5
    out.loss.backward()
    expected.loss.backward()
    same_gradients(ours, theirs)
    moved = theirs.prepare_decoder_input_ids_from_labels(torch.tensor(labels)).numpy()
    assert np.array_equal(ours.prepare_decoder_input_ids_from_labels(labels), moved)
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        back = again(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), decoder_input_ids=torch.tensor(moved))
    assert np.allclose(back.logits.numpy(), out.logits, atol=5e-5, rtol=1e-4)
