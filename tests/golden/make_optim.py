"""Makes optim.json: what torch.optim.AdamW, clip_grad_norm_ and transformers' schedules give for fixed gradients.

python tests/golden/make_optim.py      (needs torch and transformers)
"""

import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SHAPES = {
    "embeddings.word.weight": [11, 8],
    "layers.0.attention.query.weight": [8, 8],
    "layers.1.mlp.up.bias": [16],
    "classifier.weight": [3, 8],
}
GROUPS = [  # names, and what differs from the defaults
    (["embeddings.word.weight", "layers.1.mlp.up.bias"], {"lr": 3e-3, "weight_decay": 0.0}),
    (["layers.0.attention.query.weight", "classifier.weight"], {"betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1}),
]
LR, STEPS, MAX_NORM, SCHEDULE_STEPS = 1e-2, 6, 2.0, 20
SCHEDULES = {
    "linear": {"num_warmup_steps": 4, "num_training_steps": SCHEDULE_STEPS},
    "cosine": {"num_warmup_steps": 4, "num_training_steps": SCHEDULE_STEPS},
    "constant": {},
    "constant_with_warmup": {"num_warmup_steps": 4},
    "warmup_stable_decay": {
        "num_warmup_steps": 4,
        "num_training_steps": SCHEDULE_STEPS,
        "scheduler_specific_kwargs": {"num_decay_steps": 7},
    },
}


def values(name: str, step: int) -> np.ndarray:
    """The parameter (step 0) or its gradient at a step; classifier.weight has no gradient at step 2, as a frozen part would."""
    scale = 0.3 if step else 1.0
    draw = np.random.RandomState(zlib.crc32(f"{name} {step}".encode())).standard_normal(SHAPES[name])
    return (scale * draw).astype(np.float32)


def has_gradient(name: str, step: int) -> bool:
    return not (name == "classifier.weight" and step == 2)


def torch_run() -> dict:
    import torch

    parameters = {name: torch.nn.Parameter(torch.from_numpy(values(name, 0))) for name in SHAPES}
    groups = [{"params": [parameters[n] for n in names], **extra} for names, extra in GROUPS]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    norms = []
    for step in range(1, STEPS + 1):
        for name, parameter in parameters.items():
            parameter.grad = torch.from_numpy(values(name, step)) if has_gradient(name, step) else None
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)))
        optimizer.step()
    return {"norms": norms, "parameters": {n: p.detach().numpy().tolist() for n, p in parameters.items()}}


def transformers_schedules() -> dict:
    import torch
    from transformers import get_scheduler

    result = {}
    for name, counts in SCHEDULES.items():
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=LR)
        schedule = get_scheduler(name, optimizer, **counts)
        rates = []
        for _ in range(SCHEDULE_STEPS + 3):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        result[name] = rates
    return result


if __name__ == "__main__":
    golden = {**torch_run(), "schedules": transformers_schedules()}
    (HERE / "optim.json").write_text(json.dumps(golden) + "\n")
