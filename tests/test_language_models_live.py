"""Language models that say what follows, live against transformers: logits, loss and gradients equal, checkpoints in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import govlm  # noqa: E402
import govlm.checkpoint  # noqa: E402
import govlm.configuration  # noqa: E402
import govlm.models  # noqa: E402

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
    "llama stretched": ("Llama", "LlamaForCausalLM", {**ROTARY, "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}}),
    "qwen2 stretched": ("Qwen2", "Qwen2ForCausalLM", {**ROTARY, "rope_parameters": {
        "rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}}),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", {**ROTARY, "head_dim": 12}),
}  # fmt: skip
SEQ2SEQ: dict[str, tuple[str, dict[str, Any]]] = {
    "scaled": ("T5", T5),
    "not scaled": ("T5", {**T5, "tie_word_embeddings": False}),
    "gated": ("T5", {**T5, "feed_forward_proj": "gated-gelu"}),
    "mt5": ("MT5", T5),
    "mt5, not gated": ("MT5", {**T5, "feed_forward_proj": "relu"}),
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


@pytest.mark.parametrize("own_head", [False, True])
@pytest.mark.parametrize("name", SEQ2SEQ)
def test_seq2seq(name: str, own_head: bool, tmp_path: Path) -> None:
    stem, fields = SEQ2SEQ[name]
    kind = f"{stem}ForConditionalGeneration"
    theirs = theirs_of(stem, kind, fields, tmp_path / "theirs")
    if own_head:  # as the published mT5 and T5 1.1 have: a head beside the embeddings, though the config does not say so
        file = tmp_path / "theirs" / "model.safetensors"
        head = np.random.default_rng(7).standard_normal((150, 32), dtype=np.float32)
        govlm.checkpoint.save_file({**govlm.checkpoint.load_file(file), "lm_head.weight": head}, file, {"format": "pt"})
        theirs = getattr(transformers, kind).from_pretrained(tmp_path / "theirs").eval()
    ours = govlm.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "theirs")
    assert type(ours).__name__ == kind
    assert ("lm_head.weight" in dict(ours.named_parameters())) == own_head
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
    again = getattr(transformers, kind).from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        back = again(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), decoder_input_ids=torch.tensor(moved))
    assert np.allclose(back.logits.numpy(), out.logits, atol=5e-5, rtol=1e-4)
    once_more = govlm.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    assert np.array_equal(once_more(ids, mask, decoder_input_ids=moved).logits, ours(ids, mask, decoder_input_ids=moved).logits)


def test_a_head_of_its_own_beside_a_config_that_ties(tmp_path: Path) -> None:
    theirs_of("Llama", "LlamaForCausalLM", {**ROTARY, "tie_word_embeddings": True}, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = govlm.checkpoint.load_file(file)
    word = tensors["model.embed_tokens.weight"]
    govlm.checkpoint.save_file({**tensors, "lm_head.weight": word.copy()}, file, {"format": "pt"})
    assert govlm.AutoModelForCausalLM.from_pretrained(tmp_path).config.tie_word_embeddings is True  # a mere copy
    govlm.checkpoint.save_file({**tensors, "lm_head.weight": word[::-1].copy()}, file, {"format": "pt"})
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, _, _ = inputs()
    with torch.no_grad():
        expected = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()(torch.tensor(ids)).logits.numpy()
    assert np.allclose(ours(ids).logits, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kept", [1, 3, 20, [0, 4], [-2, 8, 1, 8]])
def test_logits_to_keep(kept: Any, tmp_path: Path) -> None:
    theirs = theirs_of("Qwen2", "Qwen2ForCausalLM", ROTARY, tmp_path)
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, mask, _ = inputs()
    expected = theirs(
        torch.tensor(ids), attention_mask=torch.tensor(mask),
        logits_to_keep=kept if isinstance(kept, int) else torch.tensor(kept),
    ).logits  # fmt: skip
    out = ours(ids, mask, logits_to_keep=kept)
    there = mask[:, slice(-kept, None) if isinstance(kept, int) else kept].astype(bool)
    assert out.logits.shape == tuple(expected.shape)
    assert np.allclose(out.logits[there], expected.detach().numpy()[there], atol=2e-5, rtol=1e-4)
    assert not out.logits[~there].any()
    gradient = np.random.default_rng(4).standard_normal(out.logits.shape, dtype=np.float32) * there[..., None]
    out.backward(logits=gradient)
    expected.backward(torch.tensor(gradient))
    same_gradients(ours, theirs)


def test_logits_to_keep_of_packed_input_and_what_it_refuses(tmp_path: Path) -> None:
    theirs_of("Qwen2", "Qwen2ForCausalLM", ROTARY, tmp_path)
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids, mask, labels = inputs()
    whole = ours(ids, mask).logits
    assert np.allclose(ours(ids, mask, logits_to_keep=[4, 0]).logits, whole[:, [4, 0]], atol=1e-5)
    for wrong, argument in (([9], {}), (-1, {}), (1.5, {}), (2, {"labels": labels})):
        with pytest.raises(ValueError, match="logits_to_keep"):
            ours(ids, mask, logits_to_keep=wrong, **argument)
    with pytest.raises(ValueError, match="logits_to_keep"):
        govlm.AutoModel.from_pretrained(tmp_path)(ids, mask, logits_to_keep=1)


def test_shards(tmp_path: Path) -> None:
    theirs = theirs_of("Llama", "LlamaForCausalLM", ROTARY, tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    ours = govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "shards")
    whole = govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    for (name, a), (_, b) in zip(ours.named_parameters(), whole.named_parameters(), strict=True):
        assert np.array_equal(a.data, b.data), name


@pytest.mark.parametrize("tied", [False, True])
def test_a_large_vocabulary_never_makes_a_matrix_of_logits(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss and its gradients are those of logits that are held, and the pass that makes them holds none."""
    govlm.set_seed(2)
    config = govlm.configuration.LlamaConfig(**(ROTARY | {"vocab_size": 5000}), tie_word_embeddings=tied)
    ours = govlm.LlamaForCausalLM(config)
    ids = np.random.default_rng(0).integers(0, 5000, (4, 50))
    held = ours(ids, labels=ids)
    assert held._pass(held._primary).logits is not None
    held.loss.backward()
    gradients = {name: parameter.grad.copy() for name, parameter in ours.named_parameters()}
    ours.zero_grad()
    monkeypatch.setattr(govlm.models, "_HELD_LOGITS", 4 * 5000 * 64)
    chunked = ours(ids, labels=ids)
    assert chunked._pass(chunked._primary).logits is None
    assert chunked.loss.item() == pytest.approx(held.loss.item(), rel=1e-6)
    chunked.loss.backward()
    for name, parameter in ours.named_parameters():
        assert np.allclose(parameter.grad, gradients[name], atol=1e-7, rtol=1e-5), name


@pytest.mark.parametrize(
    "rope", [{"rope_type": "yarn", "factor": 2.0}, {"rope_type": "linear"}, {"rope_type": "llama3", "factor": 0}]
)
def test_other_stretchings_are_refused_by_name(rope: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"yarn|factor"):
        govlm.configuration.LlamaConfig(**ROTARY, rope_parameters=rope)
