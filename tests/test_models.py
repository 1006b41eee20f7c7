"""The notebook API beyond the golden numbers: packed input, masks, taps, losses, dropout, refusals, threads, fork."""

from __future__ import annotations

import copy
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import govlm
from govlm import AdamW, BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, BertModel

TINY = dict(
    vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
    max_position_embeddings=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


def make(cls: Any, seed: int = 0, **fields: Any) -> Any:
    """A model whose weights are all random and large enough to matter."""
    govlm.set_seed(seed)
    model = cls(cls.config_class(**{**TINY, **fields}))
    rng = np.random.default_rng(seed)
    for _, parameter in model.named_parameters():
        parameter.data[...] += rng.normal(0, 0.15, parameter.shape).astype(np.float32)
    return model


def batch(seed: int = 0, count: int = 4, length: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 50, (count, length))
    mask = (np.arange(length) < rng.integers(1, length + 1, (count, 1))).astype(np.int64)
    return ids * mask, mask


def pack(ids: np.ndarray, mask: np.ndarray) -> SimpleNamespace:
    splits = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)
    return SimpleNamespace(ids=ids[mask.astype(bool)].astype(np.int32), row_splits=splits)


def gradients(model: Any) -> dict[str, np.ndarray]:
    return {name: np.array(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray], factor: float = 1.0) -> None:
    assert first.keys() == second.keys() and first
    largest = max(float(np.abs(gradient).max()) for gradient in second.values())
    for name in first:
        scale = max(float(np.abs(second[name]).max()), 1e-2, 1e-3 * largest)  # a key's bias has no gradient but rounding
        np.testing.assert_allclose(first[name] / scale, factor * second[name] / scale, rtol=1e-4, atol=2e-5, err_msg=name)


# ---- inputs --------------------------------------------------------------------------------------------------------------


def test_packed_and_padded_agree() -> None:
    ids, mask = batch()
    for cls in (BertModel, BertForSequenceClassification, BertForTokenClassification, BertForMaskedLM):
        model = make(cls)
        padded, packed = model(ids, attention_mask=mask), model(pack(ids, mask))
        assert padded[0].shape[: 1 if cls is BertForSequenceClassification else 2][0] == 4
        length = int(mask.sum(axis=1).max())
        for name in padded:
            ours = padded[name] if padded[name].ndim == 2 else padded[name][:, :length]
            np.testing.assert_array_equal(ours, packed[name])
            np.testing.assert_array_equal(packed[name], model(packed=pack(ids, mask))[name])


@pytest.mark.parametrize("kind", [list, np.int32, np.int64, np.uint8, bool])
def test_kinds_of_input(kind: Any) -> None:
    ids, mask = batch()
    model = make(BertModel)
    wanted = model(ids, attention_mask=mask).last_hidden_state
    if kind is list:
        given: tuple[Any, Any] = (ids.tolist(), mask.tolist())
    elif kind is bool:
        given = (ids, mask.astype(bool))
    else:
        given = (ids.astype(kind), mask.astype(kind))
    np.testing.assert_array_equal(model(given[0], attention_mask=given[1]).last_hidden_state, wanted)


def test_array_protocols() -> None:
    ids, mask = batch()
    model = make(BertModel)
    wanted = model(ids, attention_mask=mask).last_hidden_state

    class Arrays:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return self.array

    class Dlpack:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **kwargs: Any) -> Any:
            return self.array.__dlpack__(**kwargs)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    for wrap in (Arrays, Dlpack, memoryview):
        np.testing.assert_array_equal(model(wrap(ids), attention_mask=wrap(mask)).last_hidden_state, wanted)


def test_read_only_and_strided_inputs() -> None:
    ids, mask = batch()
    model = make(BertForSequenceClassification)
    wanted = model(ids, attention_mask=mask).logits
    ids.flags.writeable = mask.flags.writeable = False
    np.testing.assert_array_equal(model(ids, attention_mask=mask).logits, wanted)
    wide = np.repeat(ids, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(model(wide, attention_mask=mask).logits, wanted)


def test_no_mask_means_all_ones() -> None:
    ids, mask = batch()
    model = make(BertModel)
    every = model(ids)
    np.testing.assert_array_equal(every.last_hidden_state, model(ids, attention_mask=np.ones_like(mask)).last_hidden_state)
    assert np.abs(every.last_hidden_state[mask == 0]).min() > 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"input_ids": [1, 2, 3]}, ValueError, "input_ids must have 2 dimensions"),
        ({"input_ids": [[1.5, 2]]}, TypeError, "input_ids must hold integers"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "input_ids"),
        ({"input_ids": [["a"]]}, TypeError, "input_ids"),
        ({"input_ids": [[50]]}, IndexError, "50"),
        ({"input_ids": [[-1]]}, IndexError, "-1"),
        ({"input_ids": [[1] * 25]}, ValueError, "25 tokens, the model has 24 positions"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1]]}, ValueError, "attention_mask has shape"),
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 2]]}, ValueError, "0 and 1 only"),
        ({"input_ids": [[1, 2]], "attention_mask": [["a", "b"]]}, TypeError, "attention_mask"),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0]]}, ValueError, "token_type_ids has shape"),
        ({"input_ids": [[1, 2]], "token_type_ids": [[0, 2]]}, Exception, "2"),
        ({"input_ids": [[1, 2]], "position_ids": [[0, 24]]}, ValueError, "24"),
        ({"input_ids": [[1, 2]], "position_ids": [[-1, 0]]}, ValueError, "-1"),
        ({"input_ids": [[1, 2]], "inputs_embeds": np.zeros((1, 2, 16))}, ValueError, "inputs_embeds is not supported"),
        ({"input_ids": [[1, 2]], "head_mask": [1]}, ValueError, "head_mask is not supported"),
        ({"input_ids": [[1, 2]], "labels": [0]}, ValueError, "labels is not supported by BertModel"),
        ({}, ValueError, "input_ids"),
    ],
)
def test_refused_inputs(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make(BertModel)(**arguments)


@pytest.mark.parametrize(
    ("fields", "labels", "error", "text"),
    [
        ({}, [0, 2, 0, 0], (ValueError, IndexError), "2"),
        ({}, [0, -1, 0, 0], (ValueError, IndexError), "-1"),
        ({}, [0, 1], ValueError, "labels has shape"),
        ({}, [[0.0, 1.0]], ValueError, "multi_label"),
        ({"problem_type": "single_label_classification"}, [0.5, 1, 0, 0], TypeError, "integers"),
        ({"num_labels": 1}, [["a"]] * 4, TypeError, "numbers"),
    ],
)
def test_refused_labels(fields: dict[str, Any], labels: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        make(BertForSequenceClassification, **fields)(batch()[0], labels=labels)


def test_token_labels_at_masked_places_are_refused() -> None:
    ids, mask = batch(count=2, length=4)
    mask[1, 3] = 0
    labels = np.zeros_like(ids)
    with pytest.raises(ValueError, match=r"labels\[.*where attention_mask is 0"):
        make(BertForTokenClassification)(ids, attention_mask=mask, labels=labels)


def test_empty_batch_and_one_token() -> None:
    model = make(BertModel)
    for empty in ([], np.zeros((0, 5), np.int64)):
        out = model(empty)
        assert out.last_hidden_state.shape[0] == 0 and out.pooler_output.shape == (0, 16)
    assert make(BertForSequenceClassification)(np.zeros((0, 3), np.int64)).logits.shape == (0, 2)
    one = model([[7]])
    assert one.last_hidden_state.shape == (1, 1, 16) and np.isfinite(one.last_hidden_state).all()
    assert model.encode(SimpleNamespace(ids=np.zeros(0, np.int32), row_splits=np.zeros(1, np.int64))).shape == (0, 16)


def test_fully_masked_sequence_gives_zeros() -> None:
    ids, mask = batch()
    mask[2] = 0
    out = make(BertModel)(ids, attention_mask=mask)
    assert not out.last_hidden_state[2].any() and np.isfinite(out.pooler_output).all()


def test_longest_and_too_long() -> None:
    model = make(BertForSequenceClassification, max_position_embeddings=512)
    assert np.isfinite(model(np.ones((1, 512), np.int64)).logits).all()
    with pytest.raises(ValueError, match="513 tokens, the model has 512 positions"):
        model(np.ones((1, 513), np.int64))


def test_alone_or_in_a_batch() -> None:
    ids, mask = batch(count=6)
    model = make(BertForSequenceClassification)
    together = model(ids, attention_mask=mask).logits
    for i in range(6):
        alone = model(ids[i : i + 1, : mask[i].sum()]).logits
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_causal_positions_must_ascend() -> None:
    model = govlm.GPT2Model(govlm.GPT2Config(vocab_size=50, n_positions=20, n_embd=16, n_layer=1, n_head=2))
    ids = np.ones((2, 3), np.int64)
    assert np.isfinite(model(ids, position_ids=[[0, 1, 2], [3, 5, 7]]).last_hidden_state).all()
    with pytest.raises(ValueError, match="position_ids must ascend"):
        model(ids, position_ids=[[0, 1, 2], [3, 2, 7]])
    with pytest.raises(ValueError, match="token_type_ids is not supported by gpt2"):
        model(ids, token_type_ids=ids)


# ---- outputs -------------------------------------------------------------------------------------------------------------


def test_output_access() -> None:
    ids, mask = batch()
    model = make(BertForSequenceClassification)
    out = model(ids, attention_mask=mask, labels=[0, 1, 0, 1])
    assert list(out) == ["loss", "logits"] and len(out) == 2 and "logits" in out
    assert out[1] is out.logits is out["logits"] and out[:2][1] is out.logits
    assert out.hidden_states is None
    with pytest.raises(KeyError):
        out["hidden_states"]
    with pytest.raises(AttributeError):
        _ = out.banana
    as_tuple = model(ids, attention_mask=mask, return_dict=False)
    assert isinstance(as_tuple, tuple) and as_tuple[0].shape == (4, 2)


def test_masked_lm_computes_logits_only_when_read() -> None:
    ids, mask = batch()
    model = make(BertForMaskedLM)
    labels = np.full_like(ids, -100)
    labels[0, 0], labels[1, 0] = 3, 5
    out = model(ids, attention_mask=mask, labels=labels)
    assert [want.rows for want in out._passes] == ["labelled"]
    logits = model(ids, attention_mask=mask).logits
    np.testing.assert_allclose(out.logits, logits, atol=1e-5)
    chosen = logits[[0, 1], 0] - logits[[0, 1], 0].max(axis=1, keepdims=True)
    wanted = -(chosen[[0, 1], [3, 5]] - np.log(np.exp(chosen).sum(axis=1))).mean()
    assert out.loss.item() == pytest.approx(wanted, rel=1e-5)
    assert np.isnan(model(ids, attention_mask=mask, labels=np.full_like(ids, -100)).loss.item())  # as in transformers


def test_masked_lm_takes_loss_and_logits_gradients_together() -> None:
    ids, mask = batch()
    labels = np.where(mask, np.where(np.arange(7) % 2 == 0, ids, -100), -100)
    rng = np.random.default_rng(0)
    model = make(BertForMaskedLM)
    dlogits = rng.normal(size=(*ids.shape, 50)).astype(np.float32)
    dhidden = rng.normal(size=(*ids.shape, 16)).astype(np.float32)
    model(ids, attention_mask=mask, labels=labels).backward(loss=1.0, logits=dlogits, hidden={1: dhidden})
    together = gradients(model)
    model.zero_grad()
    model(ids, attention_mask=mask, labels=labels).loss.backward()
    model(ids, attention_mask=mask).backward(logits=dlogits)
    model(ids, attention_mask=mask).backward(hidden={1: dhidden})
    same(together, gradients(model))


# ---- gradients -----------------------------------------------------------------------------------------------------------


def numeric(model: Any, value: Callable[[], float], name: str, index: tuple[int, ...], step: float = 1e-2) -> float:
    data = dict(model.named_parameters())[name].data
    before = data[index]
    data[index] = before + step
    up = value()
    data[index] = before - step
    down = value()
    data[index] = before
    return (up - down) / (2 * step)


@pytest.mark.parametrize("first_masked", [False, True])  # True: the classifier and the taps take different passes
@pytest.mark.parametrize(("tap", "layer"), [("hidden", 1), ("hidden", -1), ("attention", 0), ("attention", -1)])
def test_taps_by_finite_differences(tap: str, layer: int, first_masked: bool) -> None:
    ids, mask = batch()
    mask[0] = 1
    mask[0, 0] = not first_masked
    model = make(BertForSequenceClassification)
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(4, 7, 16) if tap == "hidden" else (4, 4, 7, 7)).astype(np.float32)
    dlogits = rng.normal(size=(4, 2)).astype(np.float32)

    def value() -> float:
        out = model(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True)
        taken = out.hidden_states[layer] if tap == "hidden" else out.attentions[layer]
        return float((taken.astype(np.float64) * weights).sum() + (out.logits.astype(np.float64) * dlogits).sum())

    model(ids, attention_mask=mask).backward(logits=dlogits, **{tap: {layer: weights}})
    for name in ("bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.word_embeddings.weight"):
        gradient = dict(model.named_parameters())[name].grad
        for index in ((1, 2), (int(ids[1, 0]), 3) if "word" in name else (5, 7)):
            assert numeric(model, value, name, index) == pytest.approx(float(gradient[index]), rel=2e-2, abs=5e-2)


def test_short_form_and_numpy_loss() -> None:
    """Cross entropy written in NumPy, sent back with model.backward(dlogits), is the built-in loss."""
    ids, mask = batch()
    labels = np.array([0, 1, 1, 0])
    model = make(BertForSequenceClassification)
    model(ids, attention_mask=mask, labels=labels).loss.backward()
    wanted = gradients(model)
    for training in (False, True):
        model.zero_grad()
        model.train(training)
        logits = model(ids, attention_mask=mask).logits
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        model.backward((p - np.eye(2)[labels]) / 4)
        same(gradients(model), wanted)
    with pytest.raises(ValueError, match="shape"):
        model(ids, attention_mask=mask).backward(logits=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="needs a gradient"):
        model(ids, attention_mask=mask).backward()
    with pytest.raises(ValueError, match="hidden states 0"):
        model(ids, attention_mask=mask).backward(hidden={3: np.zeros((4, 7, 16))})
    with pytest.raises(RuntimeError, match="no loss"):
        model(ids, attention_mask=mask).backward(loss=1.0)


def test_loss_arithmetic() -> None:
    ids, mask = batch()
    model = make(BertForSequenceClassification)
    first = model(ids, attention_mask=mask, labels=[0, 1, 0, 1])
    second = model(ids[:2], attention_mask=mask[:2], labels=[1, 1])
    a, b = first.loss, second.loss
    combined = (a + 0.5 * b - 1) / 4 + a * 2 - (3 - b)
    assert combined.item() == pytest.approx((a.item() + 0.5 * b.item() - 1) / 4 + 2 * a.item() - 3 + b.item())
    assert float(sum([a, b])) == pytest.approx(a.item() + b.item())
    assert a > 0 and f"{a:.3f}" == f"{a.item():.3f}"
    combined.backward()
    ours = gradients(model)
    model.zero_grad()
    model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).backward(loss=2.25)
    model(ids[:2], attention_mask=mask[:2], labels=[1, 1]).backward(loss=1.125)
    same(ours, gradients(model))
    with pytest.raises(RuntimeError, match="already called"):
        a.backward()
    with pytest.raises(TypeError):
        _ = a * b
    with pytest.raises(TypeError):
        _ = a + "1"


def test_an_output_goes_when_its_last_name_goes() -> None:
    """A cycle between output and loss held every step's workspace until a garbage collection."""
    import gc
    import weakref

    model = make(govlm.BertForSequenceClassification).train()
    gc.disable()
    try:
        outputs = model(input_ids=[[2, 5, 6, 3]], labels=[1])
        outputs.loss.backward()
        watch = weakref.ref(outputs)
        model(input_ids=[[2, 5, 3]], labels=[0])  # the model remembers its last output
        del outputs
        assert watch() is None
    finally:
        gc.enable()


def test_several_forwards_outstanding_and_stale_backward() -> None:
    """Two dropout views of one batch (R-Drop, SimCSE) are alive together; after a step, going back raises."""
    ids, mask = batch()
    govlm.set_seed(1)
    model = make(BertForSequenceClassification, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2).train()
    labels = [0, 1, 0, 1]
    first, second = (model(ids, attention_mask=mask, labels=labels) for _ in range(2))
    assert np.abs(first.logits - second.logits).max() > 1e-4
    pushed = first.logits - second.logits
    second.backward(loss=0.5, logits=-pushed)
    first.backward(loss=0.5, logits=pushed)
    assert all(np.isfinite(g).all() and g.any() for n, g in gradients(model).items() if "key.bias" not in n)
    kept = model(ids, attention_mask=mask, labels=labels)
    lazy = model.eval()(ids, attention_mask=mask)
    AdamW(model.parameters(), lr=1e-3).step()
    with pytest.raises(RuntimeError, match="weights changed"):
        kept.loss.backward()
    with pytest.raises(RuntimeError, match="weights changed"):
        lazy.backward(logits=np.ones((4, 2)))


def test_dropout_is_seeded_and_rerun_exactly() -> None:
    ids, mask = batch()

    def losses(seed: int) -> list[float]:
        model = make(BertForSequenceClassification, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2).train()
        govlm.set_seed(seed)
        return [model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss.item() for _ in range(3)]

    assert losses(5) == losses(5) != losses(6)
    assert len(set(losses(5))) == 3
    model = make(BertForSequenceClassification, hidden_dropout_prob=0.3).train()
    dlogits = np.ones((4, 2), np.float32)
    with govlm.no_grad():
        out = model(ids, attention_mask=mask)
    out.backward(logits=dlogits)  # runs again, with the same dropout
    again = gradients(model)
    model.zero_grad()
    model.dropout_step = 0
    model(ids, attention_mask=mask).backward(logits=dlogits)
    for name, gradient in gradients(model).items():
        np.testing.assert_array_equal(gradient, again[name])
    placed = [model(ids[i : i + 2], seed=1, step=2, samples=[i, i + 1]).logits for i in (0, 2)]
    np.testing.assert_allclose(np.concatenate(placed), model(ids, seed=1, step=2).logits, atol=1e-5)


def test_class_weights_and_ignored_labels() -> None:
    ids, mask = batch()
    model = make(BertForSequenceClassification, num_labels=3)
    labels, weights = np.array([0, 2, -100, 1]), np.array([1.0, 2.0, 0.5], np.float32)
    out = model(ids, attention_mask=mask, labels=labels, class_weights=weights)
    logits = out.logits.astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.array([0, 1, 3])
    each = -logp[rows, labels[rows]]
    assert out.loss.item() == pytest.approx(float((each * weights[labels[rows]]).sum() / weights[labels[rows]].sum()), rel=1e-5)
    with pytest.raises(ValueError, match="class_weights has shape"):
        model(ids, labels=labels, class_weights=[1.0])
    with pytest.raises(ValueError, match="class_weights"):
        make(BertForSequenceClassification, num_labels=1)(ids, labels=[0.0] * 4, class_weights=[1.0])


def test_problem_type_is_decided_by_the_labels() -> None:
    ids, _ = batch()
    for count, labels, wanted in (
        (1, [0.5, 1, 2, 3], "regression"),
        (2, [0, 1, 1, 0], "single_label_classification"),
        (2, np.ones((4, 2), np.float32), "multi_label_classification"),
    ):
        model = make(BertForSequenceClassification, num_labels=count)
        model(ids, labels=labels)
        assert model.config.problem_type == wanted


def test_training_learns() -> None:
    ids, mask = batch(count=8)
    labels = np.arange(8) % 2
    for cls in (BertForSequenceClassification, govlm.AlbertForSequenceClassification, govlm.RobertaForSequenceClassification):
        extra = {"embedding_size": 8} if cls is govlm.AlbertForSequenceClassification else {}
        model = make(cls, **extra, **({"pad_token_id": 0} if "Roberta" in cls.__name__ else {})).train()
        optimizer = AdamW(model.parameters(), lr=5e-3)
        for _ in range(30):
            loss = model(ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert loss.item() < 0.1, cls.__name__


def test_t5_shared_embedding_follows_the_optimiser() -> None:
    config = govlm.T5Config(vocab_size=30, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_heads=2, dropout_rate=0.0)
    govlm.set_seed(0)
    model = govlm.T5Model(config).train()
    rng = np.random.default_rng(0)
    ids, target = rng.integers(1, 15, (3, 5)), rng.integers(15, 30, (3, 4))
    wanted = rng.normal(size=(3, 4, 16)).astype(np.float32)
    optimizer = AdamW(model.parameters(), lr=2e-2, weight_decay=0.0)
    before = np.array(model.get_input_embeddings().data)
    losses = []
    for _ in range(25):
        out = model(ids, decoder_input_ids=target)
        difference = out.last_hidden_state - wanted
        losses.append(float((difference**2).mean()))
        out.backward(last_hidden_state=2 * difference / difference.size)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]
    moved = np.abs(model.get_input_embeddings().data - before).max(axis=1) > 0
    assert moved[np.unique(target)].all() and moved[np.unique(ids)].all()
    np.testing.assert_array_equal(model._cores["encoder"].parameter("embeddings.word.weight")[:1], before[:1])
    model(ids, decoder_input_ids=target)
    np.testing.assert_array_equal(
        model._cores["encoder"].parameter("embeddings.word.weight"), model._cores["decoder"].parameter("embeddings.word.weight")
    )


# ---- parameters ----------------------------------------------------------------------------------------------------------


def test_parameters_and_scopes() -> None:
    model = make(BertForSequenceClassification)
    names = dict(model.named_parameters())
    assert model.bert.encoder.layer[1].attention.self.query.weight is names["bert.encoder.layer.1.attention.self.query.weight"]
    assert len(model.bert.encoder.layer) == 2 and len(list(model.bert.encoder.layer[-1].parameters())) == 16
    assert model.num_parameters() == sum(p.numel() for p in model.parameters()) == sum(p.data.size for p in model.parameters())
    with pytest.raises(AttributeError, match="no 'decoder'"):
        _ = model.decoder
    with pytest.raises(IndexError):
        _ = model.bert.encoder.layer[2]
    model.classifier.bias.data[...] = 3.0
    assert np.array(model.classifier.bias).tolist() == [3.0, 3.0]
    assert model.classifier.weight.grad is None


def test_frozen_parameters() -> None:
    ids, mask = batch()
    model = make(BertForSequenceClassification).train()
    model.bert.embeddings.requires_grad_(False)
    for parameter in model.bert.encoder.layer[0].parameters():
        parameter.requires_grad = False
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    before = {name: np.array(p.data) for name, p in model.named_parameters()}
    model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss.backward()
    AdamW(model.parameters(), lr=1e-2).step()
    for name, parameter in model.named_parameters():
        assert np.array_equal(before[name], parameter.data) == (name in frozen), name
        assert (parameter.grad is None) == (name in frozen), name
    assert len(frozen) == 5 + 16 and model.num_parameters(only_trainable=True) < model.num_parameters()


def test_automatic_classes_and_public_names(tmp_path: Path) -> None:
    for name in govlm.__all__:
        assert getattr(govlm, name) is not None
    with pytest.raises(AttributeError, match="banana"):
        _ = govlm.banana
    t5 = govlm.T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    for config, auto, wanted in (
        (BertConfig(**TINY), govlm.AutoModel, BertModel),
        (govlm.RobertaConfig(**TINY), govlm.AutoModelForMaskedLM, govlm.RobertaForMaskedLM),
        (
            govlm.AlbertConfig(**TINY, embedding_size=8),
            govlm.AutoModelForTokenClassification,
            govlm.AlbertForTokenClassification,
        ),
        (BertConfig(**TINY), govlm.AutoModelForSequenceClassification, BertForSequenceClassification),
        (t5, govlm.AutoModel, govlm.T5Model),
    ):
        model = auto.from_config(config)
        assert type(model) is wanted
        model.save_pretrained(tmp_path / wanted.__name__)
        assert type(auto.from_pretrained(tmp_path / wanted.__name__)) is wanted
    with pytest.raises(ValueError, match="no class for 't5'"):
        govlm.AutoModelForMaskedLM.from_pretrained(tmp_path / "T5Model")


def test_sentence_rows_of_a_tuned_classifier_stay_sparse() -> None:
    """Only the rows of words that were seen change when the weights do not decay."""
    ids, mask = batch()
    model = make(BertForSequenceClassification).train()
    before = np.array(model.get_input_embeddings().data)
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss.backward()
    optimizer.step()
    moved = np.flatnonzero(np.abs(model.get_input_embeddings().data - before).max(axis=1))
    assert moved.tolist() == np.unique(ids[mask == 1]).tolist()


def test_copies_are_independent() -> None:
    ids, mask = batch()
    model = make(BertForSequenceClassification).train()
    model.bert.embeddings.requires_grad_(False)
    twin = copy.deepcopy(model)
    wanted = np.array(twin.eval()(ids, attention_mask=mask).logits)
    np.testing.assert_array_equal(model.eval()(ids, attention_mask=mask).logits, wanted)
    model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss.backward()
    AdamW(model.parameters(), lr=1e-2).step()
    np.testing.assert_array_equal(twin(ids, attention_mask=mask).logits, wanted)
    assert not twin.bert.embeddings.word_embeddings.weight.requires_grad and twin.classifier.weight.grad is None


def test_initialisation_is_seeded() -> None:
    def weights(seed: int) -> dict[str, np.ndarray]:
        govlm.set_seed(seed)
        return {n: np.array(p.data) for n, p in BertForMaskedLM(BertConfig(**TINY)).named_parameters()}

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    word = "bert.embeddings.word_embeddings.weight"
    assert not np.array_equal(first[word], other[word])
    assert not first[word][0].any() and 0.018 < first[word][1:].std() < 0.022
    assert (first["bert.embeddings.LayerNorm.weight"] == 1).all() and not first["cls.predictions.bias"].any()


def test_state_dict_and_resize() -> None:
    ids, mask = batch()
    model, other = make(BertForMaskedLM, seed=1), make(BertForMaskedLM, seed=2)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(ids).logits, other(ids).logits)
    state = {name: np.array(value) for name, value in model.state_dict().items()}
    bad = dict(state, **{"cls.predictions.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"cls.predictions.bias has shape \[3\]"):
        other.load_state_dict(bad)
    del bad["cls.predictions.bias"]
    with pytest.raises(ValueError, match="has no cls"):
        other.load_state_dict(bad)
    before = model(ids, attention_mask=mask).logits
    for trainable in (False, True):
        if trainable:
            model(ids, attention_mask=mask, labels=ids * mask - 100 * (1 - mask)).loss.backward()
        model.resize_token_embeddings(60 if not trainable else 55)
        after = model(ids, attention_mask=mask).logits
        assert after.shape[-1] == model.config.vocab_size
        np.testing.assert_allclose(after[..., :50], before, atol=1e-6)
    assert np.isfinite(model(np.full((1, 2), 54)).logits).all()


def test_encode() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, 30)
    packed = SimpleNamespace(
        ids=rng.integers(1, 50, lengths.sum()).astype(np.int32), row_splits=np.concatenate([[0], np.cumsum(lengths)])
    )
    model = make(BertModel)
    out = model(packed)
    mask = np.arange(int(lengths.max())) < lengths[:, None]
    wanted = govlm.mean_pool(out, mask)
    np.testing.assert_allclose(model.encode(packed, max_tokens=64), wanted, atol=1e-5)
    np.testing.assert_allclose(model.encode(packed, pooling="cls", max_tokens=50), out.last_hidden_state[:, 0], atol=1e-5)
    unit = model.encode(packed, normalize=True)
    np.testing.assert_allclose(unit, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(ValueError, match="pooling"):
        model.encode(packed, pooling="max")


# ---- threads and processes -----------------------------------------------------------------------------------------------


def run_threads(jobs: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def guard(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guard, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_eight_threads_predict_as_one() -> None:
    model = make(BertForSequenceClassification)
    inputs = [batch(seed=i, count=1 + i % 4) for i in range(16)]
    wanted = [np.array(model(ids, attention_mask=mask).logits) for ids, mask in inputs]

    def job() -> None:
        for _ in range(10):
            for (ids, mask), logits in zip(inputs, wanted, strict=True):
                np.testing.assert_array_equal(model(ids, attention_mask=mask).logits, logits)

    run_threads([job] * 8)


def test_two_threads_train_two_models() -> None:
    def train(results: list[float]) -> None:
        model = make(BertForSequenceClassification).train()
        optimizer = AdamW(model.parameters(), lr=1e-3)
        for i in range(15):
            ids, mask = batch(seed=i)
            loss = model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            results.append(loss.item())

    alone: list[float] = []
    train(alone)
    first: list[float] = []
    second: list[float] = []
    run_threads([lambda: train(first), lambda: train(second)])
    assert first == second == alone


def test_fork_after_use() -> None:
    model = make(BertForSequenceClassification)
    ids, mask = batch()
    wanted = np.array(model(ids, attention_mask=mask).logits)
    model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss.backward()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            good = np.array_equal(model(ids, attention_mask=mask).logits, wanted)
            model(ids, attention_mask=mask, labels=[0, 1, 0, 1]).loss.backward()
            os._exit(0 if good else 1)
        except BaseException:
            os._exit(2)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the forked child hangs")
