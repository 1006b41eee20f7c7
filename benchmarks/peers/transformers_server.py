"""The usual way to serve a classifier: FastAPI around transformers, one forward pass a request. A peer of the portal.

python benchmarks/peers/transformers_server.py FOLDER PORT
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Request(BaseModel):
    texts: list[str]


def make(folder: str) -> FastAPI:
    app = FastAPI()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/classify")
    def classify(request: Request) -> dict[str, Any]:  # a plain function: FastAPI calls it on a thread
        with torch.inference_mode():
            batch = tokenizer(request.texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
            scores = model(**batch).logits.softmax(-1)
        return {"labels": scores.argmax(-1).tolist(), "scores": scores.max(-1).values.tolist()}

    @app.post("/v1/embed")
    def embed(request: Request) -> dict[str, Any]:
        with torch.inference_mode():
            batch = tokenizer(request.texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
            found = model.base_model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            vectors = torch.nn.functional.normalize((found * mask).sum(1) / mask.sum(1))
        return {"embeddings": vectors.tolist()}

    return app


if __name__ == "__main__":
    torch.set_num_threads(2)
    uvicorn.run(make(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
