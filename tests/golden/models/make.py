"""Makes the golden model files beside it with transformers and torch: `python tests/golden/models/make.py`.

Every case is a folder: config.json and model.safetensors as transformers saves them, and expected.npz with the inputs, the
outputs and the gradient of every parameter. All weights (biases and norms too) are random, so that nothing hides behind a
zero or a one. test_models_live.py uses the same functions to compare live.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
VOCAB = 61
ENCODER = {
    "vocab_size": VOCAB,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
DECODER = {**ENCODER, "num_key_value_heads": 2}
T5 = {"vocab_size": VOCAB, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 3}
T5 |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6}
GPT2 = {"vocab_size": VOCAB, "n_positions": 20, "n_embd": 16, "n_layer": 2, "n_head": 4}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 1}

# name -> (class in transformers, config fields, what the labels are)
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("BertModel", ENCODER, "none"),
    "bert-relu": ("BertModel", {**ENCODER, "hidden_act": "relu", "type_vocab_size": 3}, "none"),
    "bert-sequence": ("BertForSequenceClassification", {**ENCODER, "num_labels": 3}, "single"),
    "bert-multilabel": ("BertForSequenceClassification", {**ENCODER, "num_labels": 4}, "multi"),
    "bert-regression": ("BertForSequenceClassification", {**ENCODER, "num_labels": 1}, "regression"),
    "bert-regression-2": (
        "BertForSequenceClassification",
        {**ENCODER, "num_labels": 2, "problem_type": "regression"},
        "regression",
    ),
    "bert-token": ("BertForTokenClassification", {**ENCODER, "num_labels": 5, "hidden_act": "gelu_new"}, "token"),
    "bert-mlm": ("BertForMaskedLM", ENCODER, "mlm"),
    "bert-mlm-untied": ("BertForMaskedLM", {**ENCODER, "tie_word_embeddings": False}, "mlm"),
    "albert": ("AlbertModel", {**ENCODER, "embedding_size": 8}, "none"),
    "albert-sequence": ("AlbertForSequenceClassification", {**ENCODER, "embedding_size": 8, "num_labels": 3}, "single"),
    "albert-token": ("AlbertForTokenClassification", {**ENCODER, "embedding_size": 8, "num_labels": 3}, "token"),
    "albert-mlm": ("AlbertForMaskedLM", {**ENCODER, "embedding_size": 8}, "mlm"),
    "roberta": ("RobertaModel", {**ENCODER, "type_vocab_size": 1}, "none"),
    "roberta-sequence": ("RobertaForSequenceClassification", {**ENCODER, "type_vocab_size": 1, "num_labels": 3}, "single"),
    "roberta-token": ("RobertaForTokenClassification", {**ENCODER, "type_vocab_size": 1, "num_labels": 3}, "token"),
    "roberta-mlm": ("RobertaForMaskedLM", {**ENCODER, "type_vocab_size": 1, "hidden_act": "relu"}, "mlm"),
    "gpt2": ("GPT2Model", GPT2, "none"),
    "llama": ("LlamaModel", {**DECODER, "rope_theta": 500.0}, "none"),
    "llama-bias": ("LlamaModel", {**DECODER, "attention_bias": True, "mlp_bias": True, "head_dim": 6}, "none"),
    "qwen2": ("Qwen2Model", {**DECODER, "num_key_value_heads": 1}, "none"),
    "qwen3": ("Qwen3Model", {**DECODER, "head_dim": 8}, "none"),
    "t5": ("T5Model", T5, "none"),
    "t5-gated": ("T5Model", {**T5, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 3}, "none"),
    "t5-encoder": ("T5EncoderModel", {**T5, "feed_forward_proj": "gated-silu"}, "none"),
}


def build(name: str, seed: int = 0) -> Any:
    """The transformers model of a case, in eval mode, every parameter random."""
    class_name, fields, _ = CASES[name]
    cls = getattr(transformers, class_name)
    torch.manual_seed(seed)
    config = cls.config_class(**fields)
    config._attn_implementation = "eager"
    model = cls(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.15)
            if parameter_name.endswith("weight") and parameter.dim() == 1:
                parameter.add_(1.0)
    return model


def inputs_for(name: str, model: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Padded inputs with right padding, left padding and holes; labels where the case has some; upstream gradients otherwise."""
    _, _, kind = CASES[name]
    rng = np.random.default_rng(seed)
    config = model.config
    batch, length = 5, 9
    ids = rng.integers(3, VOCAB, (batch, length))
    mask = np.ones((batch, length), np.int64)
    mask[1, 6:] = 0  # right padding
    mask[2, :3] = 0  # left padding
    mask[3, [2, 5]] = 0  # holes
    mask[4, 1:] = 0  # one token
    pad = config.pad_token_id if config.pad_token_id is not None else 0
    ids[mask == 0] = pad
    inputs: dict[str, np.ndarray] = {"input_ids": ids, "attention_mask": mask}
    if config.model_type in ("bert", "albert"):
        inputs["token_type_ids"] = rng.integers(0, config.type_vocab_size, (batch, length))
    if name in ("t5", "t5-gated"):
        decoder_mask = np.ones((batch, 6), np.int64)
        decoder_mask[1, 4:] = 0
        decoder_mask[2, 1:] = 0
        inputs["decoder_input_ids"] = np.where(decoder_mask, rng.integers(3, VOCAB, (batch, 6)), 0)
        inputs["decoder_attention_mask"] = decoder_mask
    labels_of = {
        "single": lambda: rng.integers(0, config.num_labels, batch),
        "multi": lambda: rng.integers(0, 2, (batch, config.num_labels)).astype(np.float32),
        "regression": lambda: rng.standard_normal(batch if config.num_labels == 1 else (batch, 2)).astype(np.float32),
        "token": lambda: np.where(mask * (rng.random(mask.shape) < 0.8), rng.integers(0, config.num_labels, mask.shape), -100),
        "mlm": lambda: np.where(mask * (rng.random(mask.shape) < 0.3), ids, -100),
    }
    if kind in labels_of:
        inputs["labels"] = labels_of[kind]()
    return inputs


def upstream(name: str, expected: dict[str, np.ndarray], inputs: dict[str, np.ndarray], seed: int = 1) -> dict[str, np.ndarray]:
    """Random gradients at the outputs of a headless model, zero where the mask is."""
    rng = np.random.default_rng(seed)
    gradients = {}
    for key in ("last_hidden_state", "pooler_output"):
        if key in expected:
            gradient = rng.standard_normal(expected[key].shape).astype(np.float32)
            if key == "last_hidden_state":
                gradient *= inputs.get("decoder_attention_mask", inputs["attention_mask"])[..., None]
            gradients[key] = gradient
    return gradients


def run(name: str, model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What transformers answers: every output (hidden states and attentions zeroed at masked places), loss and gradients."""
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    model.zero_grad()
    out = model(**tensors, output_hidden_states=True, output_attentions=True)
    mask = inputs["attention_mask"].astype(bool)
    decoder_mask = inputs.get("decoder_attention_mask", inputs["attention_mask"]).astype(bool)
    result: dict[str, np.ndarray] = {}
    for key, value in out.items():
        if not isinstance(value, tuple | torch.Tensor):
            continue  # caches, whatever a version calls them
        if not isinstance(value, tuple):
            array = value.detach().numpy().copy()
            if array.ndim == 3:
                array[~(mask if key.startswith("encoder") else decoder_mask)] = 0.0
            result[key] = array
            continue
        queries = mask if key.startswith("encoder") else decoder_mask
        for number, part in enumerate(value):
            array = part.detach().numpy().copy()
            if array.ndim == 4:
                keys = mask if key == "cross_attentions" else queries
                array = np.where(queries[:, None, :, None] & keys[:, None, None, :], array, 0.0)
            else:
                array[~queries] = 0.0
            result[f"{key}.{number}"] = array
    if "labels" in inputs:
        out.loss.backward()
    else:
        total = 0.0
        for key, gradient in upstream(name, result, inputs).items():
            total = total + (getattr(out, key) * torch.from_numpy(gradient)).sum()
        total.backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            result["grad/" + parameter_name] = parameter.grad.numpy().copy()
    return result


def save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """np.savez_compressed with fixed time stamps, so that making the files again gives the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in arrays.items():
            info = zipfile.ZipInfo(key + ".npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w") as handle:
                np.lib.format.write_array(handle, np.ascontiguousarray(value))


def main() -> int:
    transformers.utils.logging.set_verbosity_error()
    for name in CASES:
        folder = HERE / name
        model = build(name)
        model.save_pretrained(folder)  # before the run: that one writes the problem type it found into the config
        inputs = inputs_for(name, model)
        expected = run(name, model, inputs)
        for extra in folder.iterdir():
            if extra.name not in ("config.json", "model.safetensors", "expected.npz"):
                extra.unlink()
        save_npz(folder / "expected.npz", {**{"in/" + k: v for k, v in inputs.items()}, **expected})
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(CASES)} cases, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
