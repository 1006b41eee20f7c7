"""`python -m benchmarks.peers.export_onnx MODEL_DIR`: model.onnx (plain) and optimised.onnx (ONNX Runtime's fusions)."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def export(folder: Path) -> None:
    import torch
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    ids = torch.randint(1, 1000, (2, 16))
    arguments = (ids, torch.ones_like(ids))
    torch.onnx.export(
        model,
        arguments,
        str(folder / "model.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_axes={
            "input_ids": {0: "batch", 1: "tokens"},
            "attention_mask": {0: "batch", 1: "tokens"},
            "logits": {0: "batch"},
        },
        opset_version=17,
        dynamo=False,
    )


def optimise(folder: Path) -> dict[str, int]:
    from onnxruntime.transformers.optimizer import optimize_model

    config = json.loads((folder / "config.json").read_text())
    model = optimize_model(
        str(folder / "model.onnx"),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        opt_level=1,
    )
    counts = {k: int(v) for k, v in model.get_fused_operator_statistics().items() if v}
    model.save_model_to_file(str(folder / "optimised.onnx"))
    (folder / "fused.json").write_text(json.dumps(counts))
    return counts


if __name__ == "__main__":
    target = Path(sys.argv[1])
    export(target)
    print(optimise(target))
