"""Tiny random models with a byte-level tokenizer, in a folder: they write nonsense, but as real ones do. A causal one with a chat template,
and a T5 without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import govlm
from govlm.tokenizers.train import train_bpe

TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no such role') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")


def _tokenizer(folder: Path, template: str | None) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    text = folder.parent / f"{folder.name}.txt"
    text.write_text("办理身份证需要带户口簿，请到窗口提交申请表，审核通过后领取。\n" * 20, encoding="utf-8")
    tokenizer = train_bpe(text, 320, special_tokens=SPECIALS)
    tokenizer.chat_template = template
    tokenizer.eos_token = "<|end|>"
    tokenizer.save_pretrained(folder)
    return tokenizer


def make(
    folder: Path, *, positions: int = 256, hidden: int = 32, layers: int = 2, seed: int = 1, template: str = TEMPLATE
) -> Any:
    """Writes it; returns the model. positions: of its context, in tokens."""
    tokenizer = _tokenizer(folder, template)
    govlm.set_seed(seed)
    model = govlm.LlamaForCausalLM(
        govlm.LlamaConfig(
            vocab_size=320, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=positions, initializer_range=0.3, eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return model


def make_t5(folder: Path, seed: int = 1) -> Any:
    """Writes it; returns the model."""
    tokenizer = _tokenizer(folder, None)
    govlm.set_seed(seed)
    model = govlm.T5ForConditionalGeneration(
        govlm.T5Config(
            vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=3.0,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=0, decoder_start_token_id=0,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return model
