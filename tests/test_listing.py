"""The program that govlm starts from, on govlm: transformers' names and calls, three losses as in transformers."""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from govlm import AdamW, BertForSequenceClassification, BertTokenizer
from govlm.data import DataLoader, Dataset

GOLDEN = Path(__file__).parent / "golden"


def load_maker():
    spec = importlib.util.spec_from_file_location("make_listing", GOLDEN / "make_listing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_listing = load_maker()


class Requests(Dataset):
    """Each text padded to 512 tokens by encode_plus, as the listing does it."""

    def __init__(self, texts, labels, tokenizer, max_len=512):
        self.rows = list(zip(texts, labels, strict=True))
        self.tokenizer, self.max_len = tokenizer, max_len

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        text, label = self.rows[index]
        encoding = self.tokenizer.encode_plus(
            text,
            add_special_tokens=True,
            max_length=self.max_len,
            padding="max_length",
            truncation=True,
            return_tensors="np",
        )
        return {
            "input_ids": encoding["input_ids"].flatten(),
            "attention_mask": encoding["attention_mask"].flatten(),
            "labels": np.int64(label),
        }


def run_listing(folder):
    tokenizer = BertTokenizer.from_pretrained(str(folder))
    model = BertForSequenceClassification.from_pretrained(str(folder), num_labels=2)
    dataloader = DataLoader(Requests(make_listing.TEXTS, make_listing.LABELS, tokenizer), batch_size=2)
    optimizer = AdamW(model.parameters(), lr=make_listing.LEARNING_RATE)
    losses = []
    for _epoch in range(3):
        for batch in dataloader:
            input_ids = batch["input_ids"]
            attention_mask = batch["attention_mask"]
            labels = batch["labels"]
            outputs = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
            loss = outputs.loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.fixture
def folder(tmp_path):
    make_listing.write_folder(tmp_path)
    return tmp_path


def test_losses_as_recorded_from_transformers(folder):
    golden = json.loads((GOLDEN / "listing.json").read_text())["losses"]
    assert min(abs(a - b) for a, b in itertools.pairwise(golden)) > 1e-3  # the steps are seen in the losses
    assert run_listing(folder) == pytest.approx(golden, abs=1e-5, rel=0)


def test_losses_as_in_transformers_here(folder):
    pytest.importorskip("transformers", reason="transformers is not installed")
    assert run_listing(folder) == pytest.approx(make_listing.transformers_losses(folder), abs=1e-5, rel=0)


def test_twice_the_same_bits(folder):
    assert run_listing(folder) == run_listing(folder)
