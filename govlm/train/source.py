"""Where a run gets its model from: a pretrained folder, the bundled model's name, or a config.json for a random start."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from govlm.bundled import model_folder
from govlm.optim import set_seed
from govlm.train.evaluate import MULTI_LABEL, SINGLE_LABEL
from govlm.train.loop import TrainError

__all__ = ["load_encoder", "load_model", "load_writer"]


def load_model(
    source: str | Path,
    labels: list[str],
    multi_label: bool,
    vocab: str | Path | None,
    seed: int,
    kind: str = "SequenceClassification",
) -> tuple[Any, Any]:
    """(model, tokenizer) for these labels. kind: SequenceClassification, TokenClassification or MaskedLM. Errors: as load_encoder."""
    import govlm

    fields: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    if kind == "SequenceClassification":
        fields["problem_type"] = MULTI_LABEL if multi_label else SINGLE_LABEL
    return _load(source, getattr(govlm, f"AutoModelFor{kind}"), vocab, seed, fields, {"ignore_mismatched_sizes": True})


def load_encoder(source: str | Path, vocab: str | Path | None = None, seed: int = 0, masked: bool = False) -> tuple[Any, Any]:
    """(model, tokenizer): a masked language model where `masked`, else a model without a head.

    Errors: TrainError where source is neither folder nor config, or a config without a vocabulary; ValueError, OSError of the
    files.
    """
    import govlm

    if masked:
        return _load(source, govlm.AutoModelForMaskedLM, vocab, seed, {}, {})
    return _load(source, govlm.AutoModel, vocab, seed, {}, {}, add_pooling_layer=False)


def load_writer(source: str | Path, vocab: str | Path | None = None, seed: int = 0) -> tuple[Any, Any]:
    """(model, tokenizer): a causal model or an encoder-decoder, as its config says; a .gguf file too. Errors: as load_encoder, and
    TrainError for a model that does not write."""
    import govlm

    path = model_folder(source)
    if path.is_dir() or path.suffix == ".gguf":
        values = govlm.AutoConfig.from_pretrained(str(path)).to_dict()
    elif path.is_file():
        try:
            values = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise TrainError(f"{path}: not a JSON config: {error}") from None
    else:
        raise TrainError(f"{path}: no such model folder or config file")
    kind = values.get("model_type")
    for automatic in (govlm.AutoModelForCausalLM, govlm.AutoModelForSeq2SeqLM):
        if kind in automatic._classes:
            break
    else:
        raise TrainError(f"{path}: a model of the type {kind!r} does not write: take a causal one (GPT-2, Llama, Qwen) or a T5")
    if path.suffix == ".gguf":
        set_seed(seed)
        return automatic.from_pretrained(str(path)), govlm.AutoTokenizer.from_pretrained(str(path))
    if path.is_dir():
        return _load(path, automatic, vocab, seed, {}, {})
    from govlm.train.language import special_ids

    folder = Path(vocab) if vocab is not None else path.parent
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(folder))
    set_seed(seed)
    values.pop("architectures", None)
    fields = {"vocab_size": len(tokenizer), **special_ids(tokenizer, automatic is govlm.AutoModelForSeq2SeqLM)}
    return automatic.from_config(govlm.AutoConfig.for_model(**{**values, **fields})), tokenizer


def _load(
    source: str | Path,
    automatic: Any,
    vocab: str | Path | None,
    seed: int,
    fields: Mapping[str, Any],
    loading: Mapping[str, Any],
    **options: Any,
) -> tuple[Any, Any]:
    """fields: of the config; loading: for a pretrained folder only; options: of the model, wherever it comes from."""
    import govlm

    set_seed(seed)
    path = model_folder(source)
    if path.is_dir():
        tokenizer = govlm.AutoTokenizer.from_pretrained(str(path)) if vocab is None else govlm.BertTokenizer(str(vocab))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*initialised at random, train the model before use")  # that is what follows
            return automatic.from_pretrained(str(path), **fields, **loading, **options), tokenizer
    if not path.is_file():
        raise TrainError(f"{path}: no such model folder or config file")
    if vocab is None:
        vocab = path.parent / "vocab.txt"
        if not vocab.exists():
            raise TrainError(f"{path} is a config, for a random start: name its vocabulary with --vocab FILE")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path}: not a JSON config: {error}") from None
    tokenizer = govlm.BertTokenizer(str(vocab), do_lower_case=bool(values.get("do_lower_case", True)))
    values.update(fields, vocab_size=len(tokenizer))
    for gone in ("architectures", *(("num_labels",) if fields else ())):
        values.pop(gone, None)
    config = govlm.AutoConfig.for_model(**{"model_type": "bert", **values})
    return automatic.from_config(config, **options), tokenizer
