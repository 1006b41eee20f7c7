"""The model in the box: found by its name, small, whole, and the default where a model can be left out."""

import json
from pathlib import Path

import numpy as np
import pytest

import govlm
from govlm.bundled import BUNDLED, model_folder
from govlm.cli import main
from govlm.train.evaluate import Classifier
from govlm.train.finetune import Options, finetune

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "govlm" / "assets"


@pytest.fixture(scope="module")
def tokenizer():
    return govlm.AutoTokenizer.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def encoder():
    return govlm.AutoModel.from_pretrained(BUNDLED, add_pooling_layer=False)


def test_it_is_small_and_has_a_card():
    folder = model_folder(BUNDLED)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("Data", "Recipe", "Results", "Limits", "Licence"):
        assert f"\n## {heading}" in card
    assert "make.py" in card


def test_a_folder_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folder(BUNDLED) == Path(govlm.__file__).resolve().parent / "assets" / BUNDLED
    (tmp_path / BUNDLED).mkdir()
    assert model_folder(BUNDLED) == Path(BUNDLED)
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        govlm.AutoModel.from_pretrained(BUNDLED)
    with pytest.raises(FileNotFoundError, match=f"local folders and {BUNDLED}"):
        govlm.AutoModel.from_pretrained("govlm-large-zh")


def test_it_runs_in_8_bits_and_trains_in_32(tokenizer):
    model = govlm.AutoModelForMaskedLM.from_pretrained(BUNDLED)
    assert model.quantised and model.config.vocab_size == len(tokenizer) == 8192
    model.train()
    batch = tokenizer(["请问居住证怎么办理？"], return_tensors="np")
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert not model.quantised and any(np.abs(p.grad).max() > 0 for p in model.parameters() if p.grad is not None)


def test_it_knows_some_chinese(tokenizer):
    """Far above chance: each gap has 8,192 candidates."""
    model = govlm.AutoModelForMaskedLM.from_pretrained(BUNDLED)
    gaps = {
        "中华人民共和[MASK]": "国",
        "国务[MASK]办公厅": "院",
        "根据有关法律[MASK]规定": "、",
        "人民政[MASK]": "府",
        "身份[MASK]号码": "证",
    }
    places = []
    for text, answer in gaps.items():
        encoded = tokenizer(text, return_tensors="np")
        row = encoded["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        scores = np.asarray(model(**encoded).logits)[0, row]
        places.append(int((scores > scores[tokenizer.convert_tokens_to_ids(answer)]).sum()))
    assert np.median(places) < 10, dict(zip(gaps, places, strict=True))


def test_what_means_the_same_is_closer(encoder):
    near = [
        ("怎么办居住证", "居住证如何申领"),
        ("公司注册要什么材料", "设立企业需要提交哪些资料"),
        ("小区噪音扰民", "邻居半夜装修太吵"),
    ]
    vectors = [np.asarray(encoder.encode([pair[side] for pair in near], normalize=True)) for side in (0, 1)]
    scores = vectors[0] @ vectors[1].T
    assert (scores.argmax(axis=1) == np.arange(len(near))).all()


def test_alone_or_in_a_batch(encoder, tokenizer):
    texts = ["查社保", "我在外地工作，户口在老家，孩子想在这里上小学，需要准备什么材料？", "办证"]
    whole = np.asarray(encoder.encode(texts))
    assert np.abs(whole - np.concatenate([np.asarray(encoder.encode([t])) for t in texts])).max() <= 1e-5


def rows():
    pairs = {"查询": ["帮我查一下{}", "{}查询", "想看看{}到哪了"], "投诉": ["投诉{}", "{}太差了我要投诉", "举报{}乱收费"]}
    things = ["社保", "公积金", "居住证", "物业", "出租车", "医保"]
    return [(p.format(t), label) for label, patterns in pairs.items() for p in patterns for t in things]


def test_it_is_what_is_fine_tuned_when_no_model_is_named(tmp_path, capsys):
    with open(tmp_path / "train.jsonl", "w", encoding="utf-8") as handle:
        for text, label in rows():
            handle.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    done = finetune(
        tmp_path / "train.jsonl", out=tmp_path / "api", options=Options(epochs=6, batch_size=8, lr=5e-4), progress=False
    )
    assert done["labels"] == ["投诉", "查询"]
    found = [p.label for p in Classifier.from_pretrained(tmp_path / "api").classify(["帮我查一下驾照", "我要投诉饭店"])]
    assert found == ["查询", "投诉"]
    command = ["finetune", "--train", tmp_path / "train.jsonl", "--out", tmp_path / "cli", "--epochs", 1, "--no-progress"]
    assert main([str(a) for a in command]) == 0
    capsys.readouterr()
    assert main(["tokenize", "办居住证"]) == 0
    assert capsys.readouterr().out == "[CLS] 办 居 住 证 [SEP]\n"


def test_few_shot_by_its_masked_lm_head(tmp_path):
    with open(tmp_path / "train.jsonl", "w", encoding="utf-8") as handle:
        for text, label in rows()[::3]:
            handle.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    options = Options(epochs=4, batch_size=4, lr=3e-4, ngrams=False)
    finetune(tmp_path / "train.jsonl", out=tmp_path / "out", few_shot=True, options=options, progress=False)
    predictions = list(Classifier.from_pretrained(tmp_path / "out").classify([text for text, _ in rows()]))
    assert np.mean([p.label == label for p, (_, label) in zip(predictions, rows(), strict=True)]) > 0.8


def test_the_stages_are_there_and_stay_out_of_the_wheel():
    stages = sorted(path.parent.name for path in (ASSETS / "training").glob("stage-*/model.safetensors"))
    assert stages == [f"stage-{i + 1}" for i in range(len(stages))] and stages
    for stage in stages:
        folder = ASSETS / "training" / stage
        assert (folder / "model.safetensors").stat().st_size <= 25_000_000
        assert {"config.json", "vocab.txt", "log.jsonl", "result.json"} <= {file.name for file in folder.iterdir()}
        assert (folder / "vocab.txt").read_bytes() == (ASSETS / BUNDLED / "vocab.txt").read_bytes()
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'"assets/{BUNDLED}/*"' in project and "assets/**" not in project
    assert 'exclude = ["govlm.assets*"]' in project


def test_sentences_are_embedded_without_reading_the_tokenizer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes five times as long as the embedding of a sentence."""
    reads = []
    read = govlm.AutoTokenizer.from_pretrained
    monkeypatch.setattr(govlm.AutoTokenizer, "from_pretrained", lambda *a, **k: reads.append(a) or read(*a, **k))
    model = govlm.AutoModel.from_pretrained("govlm-small-zh", add_pooling_layer=False)
    first = model.encode(["居住证"])
    assert np.array_equal(model.encode(["居住证"]), first) and len(reads) == 1
