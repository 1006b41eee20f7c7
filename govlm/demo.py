"""`govlm demo`: fine-tunes the bundled model on the bundled requests to a service hall."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from govlm.bundled import BUNDLED, model_folder
from govlm.data import Example, read_examples
from govlm.quantised import FILE

__all__ = ["demo_examples", "train_demo"]

SEED = 7
TRAINING: dict[str, Any] = {"epochs": 5, "batch_size": 16, "lr": 4e-4, "warmup": 0.1}


def demo_examples(part: str) -> list[Example]:
    """The bundled requests: part "train" or "test" (other wordings of the same kinds of business)."""
    from importlib.resources import as_file, files

    with as_file(files("govlm") / "assets" / "demo" / f"{part}.jsonl") as path:
        return list(read_examples(path))


def train_demo(progress: bool | None, seed: int = SEED, training: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """(classifier, report on the test wordings). The test rows take no part in the training, nor in choosing the model."""
    from govlm.train.evaluate import Classifier, encode, evaluate_encoded
    from govlm.train.finetune import Options, Trainer
    from govlm.train.source import load_model

    train, test = demo_examples("train"), demo_examples("test")
    started = time.monotonic()
    names = sorted({str(e.label) for e in train})
    model, tokenizer = load_model(BUNDLED, names, False, None, seed)
    options = Options(**{**TRAINING, "seed": seed, **(training or {})})
    data = encode(model, tokenizer, train, names, False, grams=options.ngram_options())
    trainer = Trainer(model, tokenizer, data, options=options, progress=progress)
    result = trainer.train()
    report = evaluate_encoded(model, encode(model, tokenizer, test, names, False, branch=trainer.branch))
    report.update(
        train_rows=len(train),
        test_rows=len(test),
        seconds=time.monotonic() - started,
        tokens_per_s=result["tokens"] / result["seconds"] if result["seconds"] else 0.0,
        train_loss=result["loss"],
    )
    return Classifier(model, tokenizer, branch=trainer.branch), report


# -------------------------------------------------------------------- the cache


def cache_folder() -> Path:
    """Where the trained demo model is kept: GOVLM_CACHE, else XDG_CACHE_HOME/govlm, else ~/.cache/govlm."""
    if os.environ.get("GOVLM_CACHE"):
        return Path(os.environ["GOVLM_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "govlm"


def _key() -> str:
    """Changes with the package's version, the bundled data, and how the demo trains."""
    from importlib.resources import files

    from govlm import __version__

    digest = hashlib.sha256(json.dumps([__version__, SEED, TRAINING], sort_keys=True).encode())
    digest.update((model_folder(BUNDLED) / FILE).read_bytes())
    for part in ("train", "test"):
        digest.update((files("govlm") / "assets" / "demo" / f"{part}.jsonl").read_bytes())
    return digest.hexdigest()[:16]


def load_cached() -> tuple[Any, dict[str, Any]] | None:
    """The classifier and report of an earlier run, or None."""
    from govlm.train.evaluate import Classifier

    folder = cache_folder() / f"demo-{_key()}"
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return Classifier.from_pretrained(folder), report
    except (OSError, ValueError):
        return None


def store_cached(classifier: Any, report: dict[str, Any]) -> bool:
    """Keeps the trained model for the next `govlm demo`; False when the folder cannot be written (the demo goes on)."""
    target = cache_folder() / f"demo-{_key()}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".demo-", dir=target.parent))
        try:
            classifier.save_pretrained(temporary)
            (temporary / "report.json").write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError:
        return False
    return True


# -------------------------------------------------------------------- the command


def _show(prediction: Any) -> str:
    ranked = sorted(prediction.scores.items(), key=lambda item: -item[1])[1:3]
    others = "，".join(f"{name} {p:.1%}" for name, p in ranked)
    return f"  → {prediction.label}  {prediction.confidence:.1%}   ({others})"


def run(text: list[str] | None, as_json: bool, retrain: bool, progress: bool | None) -> int:
    """The command: trains (or takes the cached model), prints the report, then classifies `text` or what the user types."""
    from govlm.train.metrics import format_confusion, format_per_class

    cached = None if retrain or not text else load_cached()
    if cached is not None:
        classifier, report = cached
    else:
        if not as_json:
            print("Fine-tuning the bundled model on the bundled requests to a service hall …", flush=True)
        classifier, report = train_demo(False if as_json else progress)
        report["cached"] = store_cached(classifier, report)
    predictions = list(classifier.classify(text)) if text else []
    if as_json:
        print(json.dumps({**report, "predictions": [p._asdict() for p in predictions]}, ensure_ascii=False))
        return 0
    if cached is None:
        print(
            f"\n{report['train_rows']} requests to train on, {report['test_rows']} in other words to test on, "
            f"{len(report['labels'])} kinds of business; {report['seconds']:.1f} s, {report['tokens_per_s']:,.0f} tokens/s\n"
        )
        print(format_per_class(report))
        print()
        print(format_confusion(report))
        print(f"\naccuracy {report['accuracy']:.1%}   macro F1 {report['macro_f1']:.1%}")
    if text:
        for prediction in predictions:
            print(f"\n{prediction.text}\n{_show(prediction)}")
    elif sys.stdin.isatty():
        _converse(classifier)
    return 0


def _converse(classifier: Any) -> None:
    print("\nType a request to the service hall, 如：我的身份证丢了怎么补办 (an empty line ends):")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if not line:
            return
        for prediction in classifier.classify([line.encode("utf-8", "replace").decode("utf-8")]):
            print(_show(prediction))
