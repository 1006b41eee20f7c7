"""Initial weights that copy: where the heads look, how soon copying is learnt, what is refused."""

import numpy as np
import pytest
from tiny_corpus import config, write_corpus

import govlm
from govlm.optim import AdamW
from govlm.train.copying import start_copying
from govlm.train.loop import TrainError
from govlm.train.pretrain import pretrain, read_options

SHAPE = {
    "d_model": 128, "d_kv": 32, "num_heads": 6, "d_ff": 128, "num_layers": 2, "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}  # fmt: skip
WORDS = 300


def new(seed=1, **changes):
    govlm.set_seed(seed)
    ids = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    return govlm.T5ForConditionalGeneration(govlm.T5Config(vocab_size=WORDS, **SHAPE, **ids, **changes))


def copies(draw, rows=16, length=20, copied=8):
    """Random tokens, none twice in a row's source, and their first ones as the labels."""
    source = np.array([draw.permutation(np.arange(2, WORDS))[:length] for _ in range(rows)])
    return {"input_ids": source, "attention_mask": np.ones_like(source), "labels": source[:, :copied].copy()}


@pytest.mark.parametrize("shape", [{}, {"num_heads": 2, "d_kv": 64}, {"num_heads": 8, "d_kv": 64}, {"num_decoder_layers": 1}])
def test_heads_look_behind_the_token_that_was_written(shape):
    changed = {**SHAPE, **shape}
    govlm.set_seed(1)
    model = govlm.T5ForConditionalGeneration(govlm.T5Config(vocab_size=WORDS, **changed, decoder_start_token_id=0))
    start_copying(model, 1)
    batch = copies(np.random.default_rng(0))
    with govlm.no_grad():
        found = model(**batch, output_attentions=True)
    heads = max(1, min(changed["num_heads"] // 2, changed["d_model"] // changed["d_kv"]))
    before = np.asarray(found.encoder_attentions[0])[:, :heads]
    assert np.mean(before.argmax(-1)[:, :, 1:] == np.arange(19)) > 0.95
    cross = np.asarray(found.cross_attentions[0])[:, :heads]  # [rows, heads, written, source]
    assert np.mean(cross.argmax(-1)[:, :, 1:] == np.arange(1, 8)) > 0.9


@pytest.mark.parametrize("tied", [True, False])
def test_copying_is_learnt_at_once(tied):
    """What random weights do not do in as many steps: the guess is the only one that random tokens leave."""
    losses = {}
    for initial in ("random", "copying"):
        model, draw = new(tie_word_embeddings=tied), np.random.default_rng(0)
        if initial == "copying":
            start_copying(model, 1)
        optimizer = AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
        model.train()
        for _ in range(30):
            model(**copies(draw)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with govlm.no_grad():
            losses[initial] = model(**copies(draw, rows=64)).loss.item()
    assert losses["copying"] < 3.5 < 5.0 < losses["random"]


def test_a_run_starts_so_and_goes_on(tmp_path):
    write_corpus(tmp_path / "corpus")
    changes = {"objective": "span", "initial": "copying", **{f"model.{name}": value for name, value in SHAPE.items()}}
    options = {**config(tmp_path, "out", **changes, steps=4, max_length=32, seed=3), "model": {}}
    pretrain(read_options(None, options), progress=False)
    bias = dict(govlm.AutoModelForSeq2SeqLM.from_pretrained(str(tmp_path / "out")).named_parameters())[
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    ]
    looks = np.array(bias.data)
    assert (looks[1, :3] > 10).all() and (np.abs(np.delete(looks, 1, 0)) < 3).all()


def test_where_it_does_not_fit():
    with pytest.raises(TrainError, match="for an encoder-decoder"):
        start_copying(
            govlm.BertModel(govlm.BertConfig(vocab_size=40, hidden_size=32, num_attention_heads=4, intermediate_size=64)), 1
        )
    with pytest.raises(ValueError, match="random or copying where the objective is span"):
        read_options(
            None, {"corpus": "c", "out": "o", "steps": 1, "objective": "span", "model.d_model": 8, "initial": "corpus"}
        )
