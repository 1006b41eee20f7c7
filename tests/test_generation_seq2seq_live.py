"""T5 in the engine live against transformers: gated and not, with an output matrix of its own and without, under mixed arrivals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import govlm  # noqa: E402
from govlm.generation import Engine  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

VOCABULARY, EOS = 61, 3


@pytest.fixture(scope="module", params=["T5 relu", "T5 gated-gelu", "MT5 gated-gelu"])
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    kind, activation = request.param.split()
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0, decoder_start_token_id=2,
        eos_token_id=EOS, pad_token_id=1, feed_forward_proj=activation, tie_word_embeddings=kind == "T5",
    )  # fmt: skip
    theirs = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():  # so large that a text is not one token again and again
            if "layer_norm" not in name:
                parameter.normal_(0, 0.1 if name == "shared.weight" else 2.0 if "relative" in name else 0.5)
    folder = tmp_path_factory.mktemp("t5")
    theirs.save_pretrained(folder)
    return theirs, govlm.AutoModelForSeq2SeqLM.from_pretrained(folder)


def test_arrivals_of_any_kind(pair: tuple[Any, Any]) -> None:
    theirs, model = pair
    generator = np.random.default_rng(0)
    rows = [generator.integers(4, VOCABULARY, n).tolist() for n in (12, 50, 1, 33, 7, 20)]
    options: list[dict[str, Any]] = [
        {}, {"min_new_tokens": 20}, {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 2}, {"eos_token_id": [EOS, 20, 21]},
        {"suppress_tokens": [5, 6, 7, 8]},
    ]  # fmt: skip
    expected = []
    for row, fields in zip(rows, options, strict=True):
        with torch.no_grad():
            out = theirs.generate(
                torch.tensor([row]), max_new_tokens=20, output_logits=True, return_dict_in_generate=True, **fields
            )
        text = out.sequences[0, 1:].tolist()
        chosen = torch.log_softmax(torch.stack(out.logits), -1)[torch.arange(len(text)), 0, text]
        expected.append((text, chosen.numpy()))
    assert max(len(set(text)) for text, _ in expected) > 8
    with Engine(model, max_batch=3) as engine:
        handles = [engine.submit(rows[n], max_new_tokens=20, output_logprobs=True, **options[n]) for n in (0, 1)]
        next(iter(handles[1]))
        handles += [engine.submit(rows[n], max_new_tokens=20, output_logprobs=True, **options[n]) for n in (2, 3, 4, 5)]
        for handle, (text, log_probs) in zip(handles, expected, strict=True):
            assert handle.result(60) == text
            assert np.allclose(handle.logprobs, log_probs, atol=1e-4)
