"""Generation live against transformers: greedy search, beams and every logits processor give the same, on tiny random models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

import govlm  # noqa: E402
from govlm.generation import processors as ours  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

VOCABULARY, EOS, PAD = 61, 3, 1
ROTARY: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3, "eos_token_id": EOS, "pad_token_id": PAD,
    "bos_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0,
    "decoder_start_token_id": 2, "eos_token_id": EOS, "pad_token_id": PAD, "initializer_factor": 1.5, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": ("GPT2", "GPT2LMHeadModel", {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3,
        "eos_token_id": EOS, "pad_token_id": PAD, "bos_token_id": 2}),
    "llama": ("Llama", "LlamaForCausalLM", ROTARY),
    "qwen3": ("Qwen3", "Qwen3ForCausalLM", {**ROTARY, "head_dim": 12}),
    "t5": ("T5", "T5ForConditionalGeneration", T5),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    stem, kind, fields = MODELS[request.param]
    folder = tmp_path_factory.mktemp(stem)
    torch.manual_seed(11)
    theirs = getattr(transformers, kind)(getattr(transformers, f"{stem}Config")(**fields)).eval()
    theirs.save_pretrained(folder)
    kinds = govlm.AutoModelForSeq2SeqLM if stem == "T5" else govlm.AutoModelForCausalLM
    return theirs, kinds.from_pretrained(folder)


def batch(rows: int = 4, width: int = 40, seed: int = 0) -> tuple[Any, Any]:
    """Prompts of different lengths, padded on the left; none holds a special id."""
    generator = np.random.default_rng(seed)
    ids, mask = generator.integers(4, VOCABULARY, (rows, width)), np.ones((rows, width), np.int64)
    for row, length in enumerate([width, 3, width // 2, 1][:rows]):
        ids[row, : width - length] = PAD
        mask[row, : width - length] = 0
    return ids, mask


def their_text(theirs: Any, ids: Any, mask: Any, **fields: Any) -> Any:
    with torch.no_grad():
        return theirs.generate(torch.tensor(ids), attention_mask=torch.tensor(mask), **fields)


def trimmed(row: Any) -> list[int]:
    """A row without what stands behind its end."""
    ids = [int(i) for i in row]
    while ids and ids[-1] in (PAD, EOS):
        ids.pop()
    return ids


def test_greedy(pair: tuple[Any, Any]) -> None:
    theirs, model = pair
    ids, mask = batch()
    for fields in ({"max_new_tokens": 30}, {"max_length": 50}, {}):
        expected = their_text(theirs, ids, mask, **fields).numpy()
        assert np.array_equal(model.generate(ids, attention_mask=mask, **fields), expected), fields


def test_greedy_with_processors(pair: tuple[Any, Any]) -> None:
    theirs, model = pair
    ids, mask = batch(rows=2, width=12, seed=1)
    for fields in (
        {"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 2}, {"bad_words_ids": [[9], [10, 11], [EOS]]},
        {"suppress_tokens": [5, 6, 7, 8]}, {"forced_eos_token_id": EOS}, {"eos_token_id": [EOS, 20, 21]},
        {"forced_bos_token_id": 9}, {"begin_suppress_tokens": list(range(30)), "forced_bos_token_id": 40},
        {"begin_suppress_tokens": [*range(4, 40), 10_000]}, {"min_length": 8, "eos_token_id": list(range(30))},
        {"min_length": 20, "min_new_tokens": 3, "eos_token_id": list(range(30))}, {"min_new_tokens": 5, "eos_token_id": list(range(30))},
    ):  # fmt: skip
        fields = {"max_new_tokens": 12, **fields}
        # transformers counts the padding on the left as text that came before: one prompt at a time
        for row in range(len(ids)):
            prompt = ids[row][mask[row] == 1][None]
            expected = their_text(theirs, prompt, np.ones_like(prompt), **fields).numpy()
            assert np.array_equal(model.generate(prompt, **fields), expected), (fields, row)


def test_scores_and_logits(pair: tuple[Any, Any]) -> None:
    theirs, model = pair
    ids, mask = batch(rows=2)
    fields: dict[str, Any] = {
        "max_new_tokens": 6, "min_new_tokens": 6, "repetition_penalty": 1.3, "output_scores": True, "output_logits": True,
        "return_dict_in_generate": True, "eos_token_id": 0,
    }  # fmt: skip
    for row in range(2):
        prompt = ids[row][mask[row] == 1][None]
        expected = their_text(theirs, prompt, np.ones_like(prompt), **fields)
        out = model.generate(prompt, **fields, output_logprobs=True)
        assert np.array_equal(out.sequences, expected.sequences.numpy())
        for name in ("scores", "logits"):
            for a, b in zip(getattr(out, name), getattr(expected, name), strict=True):
                b = b.numpy()
                assert np.array_equal(np.isneginf(a), np.isneginf(b))
                assert np.abs(a[np.isfinite(a)] - b[np.isfinite(b)]).max() < 5e-6 * (1 + np.abs(b[np.isfinite(b)]).max())
        log_probs = torch.log_softmax(torch.stack(expected.logits), -1)[:, 0]
        chosen = out.sequences[0, -6:]
        assert np.allclose(out.logprobs[0], log_probs[np.arange(6), chosen].numpy(), atol=3e-5)


@pytest.mark.parametrize(
    ("early_stopping", "length_penalty"),
    [(False, 1.0), (True, 1.0), ("never", 2.5), (False, -1.0), (True, 0.0)],
)
def test_beams(pair: tuple[Any, Any], early_stopping: Any, length_penalty: float) -> None:
    theirs, model = pair
    ids, mask = batch(rows=2, width=12, seed=2)
    for num_beams, several, eos in ((3, 1, EOS), (4, 4, [EOS, 17, 30, 41])):
        fields = {
            "max_new_tokens": 12, "num_beams": num_beams, "num_return_sequences": several, "length_penalty": length_penalty,
            "early_stopping": early_stopping, "eos_token_id": eos,
        }  # fmt: skip
        out = model.generate(ids, attention_mask=mask, **fields, output_scores=True, return_dict_in_generate=True)
        for row in range(len(ids)):
            expected = their_text(
                theirs, ids[row : row + 1], mask[row : row + 1], **fields, output_scores=True, return_dict_in_generate=True
            )
            mine = out.sequences[row * several : (row + 1) * several]
            assert [trimmed(r) for r in mine] == [trimmed(r) for r in expected.sequences], (fields, row)
            scores = out.sequences_scores[row * several : (row + 1) * several]
            assert np.allclose(scores, expected.sequences_scores.numpy(), atol=1e-4)


def test_beams_with_processors(pair: tuple[Any, Any]) -> None:
    theirs, model = pair
    ids, mask = batch(rows=1, seed=3)
    for extra in (
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 9, "eos_token_id": [EOS, 12, 13]},
    ):
        fields = {"max_new_tokens": 15, "num_beams": 3, **extra}
        expected = their_text(theirs, ids, mask, **fields).numpy()
        assert [trimmed(r) for r in model.generate(ids, attention_mask=mask, **fields)] == [trimmed(r) for r in expected], extra


def pairs_of_processors() -> list[tuple[str, Any, Any]]:
    """(name, ours, what makes theirs: some remember the size of the vocabulary)"""
    theirs = transformers.generation.logits_process
    return [
        ("temperature", ours.Temperature(0.7), lambda: theirs.TemperatureLogitsWarper(0.7)),
        ("top k", ours.TopK(7), lambda: theirs.TopKLogitsWarper(7)),
        ("top k beyond the vocabulary", ours.TopK(10_000), lambda: theirs.TopKLogitsWarper(10_000)),
        ("top p", ours.TopP(0.6), lambda: theirs.TopPLogitsWarper(0.6)),
        ("top p of nearly all", ours.TopP(0.999), lambda: theirs.TopPLogitsWarper(0.999)),
        ("top p of one", ours.TopP(1e-6), lambda: theirs.TopPLogitsWarper(1e-6)),
        ("min p", ours.MinP(0.05), lambda: theirs.MinPLogitsWarper(0.05)),
        ("typical p", ours.TypicalP(0.3), lambda: theirs.TypicalLogitsWarper(0.3)),
        ("typical p of most", ours.TypicalP(0.9), lambda: theirs.TypicalLogitsWarper(0.9)),
        ("typical p of one", ours.TypicalP(1e-6), lambda: theirs.TypicalLogitsWarper(1e-6)),
        ("epsilon", ours.EpsilonCutoff(0.01), lambda: theirs.EpsilonLogitsWarper(0.01)),
        ("epsilon of one", ours.EpsilonCutoff(0.99), lambda: theirs.EpsilonLogitsWarper(0.99)),
        ("eta", ours.EtaCutoff(0.02), lambda: theirs.EtaLogitsWarper(0.02)),
        ("eta, low", ours.EtaCutoff(3e-4), lambda: theirs.EtaLogitsWarper(3e-4)),
        ("repetition", ours.RepetitionPenalty(1.4), lambda: theirs.RepetitionPenaltyLogitsProcessor(1.4)),
        ("2-grams", ours.NoRepeatNGram(2), lambda: theirs.NoRepeatNGramLogitsProcessor(2)),
        ("1-grams", ours.NoRepeatNGram(1), lambda: theirs.NoRepeatNGramLogitsProcessor(1)),
        ("3-grams", ours.NoRepeatNGram(3), lambda: theirs.NoRepeatNGramLogitsProcessor(3)),
        (
            "bad words",
            ours.NoBadWords([[4], [5, 6], [7, 8, 9]], [3]),
            lambda: theirs.NoBadWordsLogitsProcessor([[4], [5, 6], [7, 8, 9]], 3),
        ),
        ("min length", ours.MinLength(50, [3]), lambda: theirs.MinLengthLogitsProcessor(50, 3)),
        ("min new", ours.MinLength(5, [3], 10), lambda: theirs.MinNewTokensLengthLogitsProcessor(10, 5, 3)),
        ("suppress", ours.SuppressTokens([1, 2]), lambda: theirs.SuppressTokensLogitsProcessor([1, 2])),
        ("suppress at", ours.SuppressTokens([1, 2], 12), lambda: theirs.SuppressTokensAtBeginLogitsProcessor([1, 2], 12)),
        ("forced eos", ours.ForcedEOS(13, [3]), lambda: theirs.ForcedEOSTokenLogitsProcessor(13, 3)),
        ("renormalised", ours.Renormalize(), lambda: theirs.LogitNormalization()),
    ]


@pytest.mark.parametrize(("mine", "theirs"), [p[1:] for p in pairs_of_processors()], ids=[p[0] for p in pairs_of_processors()])
def test_processor(mine: Any, theirs: Any) -> None:
    generator = np.random.default_rng(4)
    for vocabulary, spread in ((40, 1.0), (40, 8.0), (5000, 1.0), (5000, 4.0)):
        process = theirs()
        for length in (1, 2, 12, 13, 30):
            ids = generator.integers(4, 10 if length > 2 else 40, (3, length))
            logits = (generator.standard_normal((3, vocabulary)) * spread).astype(np.float32)
            expected = process(torch.tensor(ids), torch.tensor(logits)).numpy()
            out = mine(ids, logits.copy())
            assert out.dtype == np.float32
            assert np.array_equal(np.isneginf(out), np.isneginf(expected)), (vocabulary, length)
            assert np.allclose(out[np.isfinite(out)], expected[np.isfinite(expected)], rtol=1e-5, atol=1e-5)


def test_processors_in_order() -> None:
    """The same chain from the same config: transformers' own method builds theirs."""
    generator = np.random.default_rng(5)
    fields: dict[str, Any] = {
        "do_sample": True, "temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3, "min_new_tokens": 4, "eos_token_id": 3, "suppress_tokens": [11], "typical_p": 0.95,
        "epsilon_cutoff": 0.01, "eta_cutoff": 0.05,
    }  # fmt: skip
    ids = generator.integers(4, 12, (1, 12))
    chain = ours.processors_of(govlm.generation.GenerationConfig(**fields).resolved(), 10, 40)
    theirs = transformers.generation
    expected_chain = theirs.LogitsProcessorList([
        theirs.RepetitionPenaltyLogitsProcessor(1.2), theirs.NoRepeatNGramLogitsProcessor(3),
        theirs.MinNewTokensLengthLogitsProcessor(10, 4, 3), theirs.SuppressTokensLogitsProcessor([11]),
        theirs.TemperatureLogitsWarper(0.8), theirs.TopKLogitsWarper(20), theirs.TopPLogitsWarper(0.9), theirs.MinPLogitsWarper(0.02),
        theirs.TypicalLogitsWarper(0.95), theirs.EpsilonLogitsWarper(0.01), theirs.EtaLogitsWarper(0.05),
    ])  # fmt: skip
    for _ in range(20):
        logits = (generator.standard_normal((1, 300)) * 3).astype(np.float32)
        expected = expected_chain(torch.tensor(ids), torch.tensor(logits)).numpy()
        out = logits.copy()
        for process in chain:
            out = process(ids, out)
        assert np.array_equal(np.isneginf(out), np.isneginf(expected))
        assert np.allclose(out[np.isfinite(out)], expected[np.isfinite(expected)], rtol=1e-5, atol=1e-5)


def test_samples_follow_their_distribution() -> None:
    """Frequencies of drawn tokens against the probabilities of transformers' own chain."""
    from govlm.generation.sampling import Draw, choose

    logits = (np.random.default_rng(6).standard_normal((1, 30)) * 2).astype(np.float32)
    theirs = transformers.generation
    chain = theirs.LogitsProcessorList([theirs.TopKLogitsWarper(10), theirs.TopPLogitsWarper(0.9)])
    expected = torch.softmax(chain(None, torch.tensor(logits)), -1).numpy()[0]
    out = logits.copy()
    for process in (ours.TopK(10), ours.TopP(0.9)):
        out = process(np.zeros((1, 1), np.int64), out)
    draw, count = Draw(7), 6_000
    seen = np.bincount([choose(out[0], draw(step)) for step in range(count)], minlength=30) / count
    assert (seen[expected == 0] == 0).all()
    assert np.abs(seen - expected).max() < 0.025


def test_their_streamer_takes_what_is_put(pair: tuple[Any, Any]) -> None:
    class Listener(transformers.generation.streamers.BaseStreamer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.got: list[list[int]] = []
            self.ended = 0

        def put(self, value: Any) -> None:
            self.got.append([int(i) for i in np.asarray(value).reshape(-1)])

        def end(self) -> None:
            self.ended += 1

    theirs, model = pair
    ids, mask = batch(rows=1)
    a, b = Listener(), Listener()
    their_text(theirs, ids, mask, max_new_tokens=8, streamer=a)
    model.generate(ids, max_new_tokens=8, streamer=b)
    assert a.got == b.got and a.ended == b.ended == 1
