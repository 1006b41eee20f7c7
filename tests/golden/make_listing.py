"""Makes listing.json: the losses of the listing's loop in transformers, on a tiny BERT whose weights are drawn from names.

python tests/golden/make_listing.py      (needs torch and transformers)
"""

import json
import tempfile
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TEXTS = ["请帮我查询社保缴纳情况", "我需要申请失业保险金"]
LABELS = [0, 1]
LEARNING_RATE = 5e-3  # large enough that the losses of three steps on a tiny model differ well above the tolerance
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def vocabulary() -> list[str]:
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(TEXTS)))]


def shapes() -> dict[str, list[int]]:
    hidden, ffn = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    names = {
        "bert.embeddings.word_embeddings.weight": [len(vocabulary()), hidden],
        "bert.embeddings.position_embeddings.weight": [CONFIG["max_position_embeddings"], hidden],
        "bert.embeddings.token_type_embeddings.weight": [2, hidden],
        "bert.embeddings.LayerNorm.weight": [hidden],
        "bert.embeddings.LayerNorm.bias": [hidden],
        "bert.pooler.dense.weight": [hidden, hidden],
        "bert.pooler.dense.bias": [hidden],
        "classifier.weight": [2, hidden],
        "classifier.bias": [2],
    }
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}."
        for part, out, inside in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", ffn, hidden),
            ("output.dense", hidden, ffn),
        ):
            names[f"{layer}{part}.weight"] = [out, inside]
            names[f"{layer}{part}.bias"] = [out]
        for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
            names[f"{layer}{norm}.weight"] = [hidden]
            names[f"{layer}{norm}.bias"] = [hidden]
    return names


def weights() -> dict[str, np.ndarray]:
    """The same bits everywhere: RandomState's stream is frozen by NumPy."""
    result = {}
    for name, shape in shapes().items():
        values = 0.2 * np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        result[name] = (values + 1.0 if name.endswith("LayerNorm.weight") else values).astype(np.float32)
    return result


def write_folder(folder: Path) -> None:
    """A pretrained folder: config.json, vocab.txt, tokenizer_config.json, model.safetensors."""
    from safetensors.numpy import save_file

    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": len(vocabulary())}))
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))
    save_file(weights(), str(folder / "model.safetensors"), metadata={"format": "pt"})


def transformers_losses(folder: Path) -> list[float]:
    """The listing's loop, with transformers."""
    import torch
    from transformers import BertForSequenceClassification, BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(str(folder))
    model = BertForSequenceClassification.from_pretrained(str(folder), num_labels=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    rows = tokenizer(TEXTS, max_length=512, padding="max_length", truncation=True, return_tensors="pt")
    losses = []
    for _ in range(3):
        loss = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"], labels=torch.tensor(LABELS)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        write_folder(Path(temporary))
        losses = transformers_losses(Path(temporary))
    (HERE / "listing.json").write_text(json.dumps({"losses": losses}) + "\n")
    print(losses)
