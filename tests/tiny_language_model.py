"""A tiny random causal model with a byte-level tokenizer and a chat template, in a folder: it writes nonsense, but as a real one does."""

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


def make(
    folder: Path, *, positions: int = 256, hidden: int = 32, layers: int = 2, seed: int = 1, template: str = TEMPLATE
) -> Any:
    """Writes it; returns the model. positions: of its context, in tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder.parent / f"{folder.name}.txt"
    text.write_text("办理身份证需要带户口簿，请到窗口提交申请表，审核通过后领取。\n" * 20, encoding="utf-8")
    tokenizer = train_bpe(text, 320, special_tokens=SPECIALS)
    tokenizer.chat_template = template
    tokenizer.eos_token = "<|end|>"
    tokenizer.save_pretrained(folder)
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
