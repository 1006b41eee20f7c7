"""Structured pruning: the attention heads and feed-forward neurons that matter least are cut out, and the matrices get smaller.

Importance is first-order Taylor (Michel et al., arXiv:1905.10650): how fast the loss would change if a head's (a neuron's)
output were scaled, |dL/dgate| at gate 1, averaged over texts. A gate on a head is a factor on its columns of the output matrix W,
so that its derivative is the sum of W * dL/dW over those columns: nothing but the gradient of a plain backward is needed.

Every layer keeps the same number of heads and of neurons (which ones, each layer says for itself): the config then describes the
model with two numbers, and the packed kernels see one shape. Heads keep their width, which config.json notes as "head_dim".
transformers has no such field for BERT: a model with fewer heads loads here only; one with fewer neurons loads there too.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from govlm.bundled import model_folder
from govlm.data import permutation, read_examples
from govlm.train.evaluate import Encoded, encode, evaluate_encoded, label_names, new_packed
from govlm.train.finetune import Options, Trainer
from govlm.train.loop import Progress, TrainError, write_text
from govlm.train.masking import Masker

__all__ = ["Importance", "kept_count", "measure_importance", "plot_curve", "prune", "prune_curve", "prune_model"]

F64 = NDArray[np.float64]
MULTIPLE = 16  # neurons are kept in multiples of a vector register


@dataclass
class Importance:
    """heads: [L, heads], neurons: [L, intermediate size]; L is 1 for layers that share their weights. rows: texts seen."""

    heads: F64
    neurons: F64
    rows: int

    def keep(self, heads: int, neurons: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The most important of each layer, in their old order: ([L, heads], [L, neurons]). Of equals the first."""
        chosen = []
        for scores, count in ((self.heads, heads), (self.neurons, neurons)):
            order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
            chosen.append(np.sort(order, axis=1))
        return chosen[0], chosen[1]


def _check(model: Any) -> None:
    core = model.core.config
    if core.get("fused_qkv") or core.get("causal") or core.get("cross_attention") or core.get("gated"):
        raise TrainError(f"pruning is for encoders of BERT's kind, not for {type(model).__name__}")


def measure_importance(
    model: Any, data: Encoded, rows: int = 256, seed: int = 0, masker: Masker | None = None, progress: bool | None = False
) -> Importance:
    """Scores every head and neuron on up to `rows` texts, one at a time (each |derivative| is of one text), without dropout.

    model: a classifier, and labelled data; or a masked LM, with the masker that hides tokens from it. Leaves
    the weights as they are and no gradients. TrainError for another model.
    """
    _check(model)
    if model.task not in ("sequence", "mlm") or (model.task == "sequence" and data.labels is None):
        raise TrainError("importance needs a loss: a classifier with labelled rows, or a masked language model with texts")
    if model.task == "mlm" and masker is None:
        raise TrainError("the importance of a masked language model needs a masker")
    if len(data) == 0:
        raise TrainError("there is nothing to measure importance on: no texts")
    core = model.core
    core.make_trainable()
    layers = sorted({name.split(".")[1] for name in core.names() if name.startswith("layers.")}, key=int)
    heads = int(core.config["num_heads"])
    chosen = permutation(len(data), seed, 0)[:rows]
    training = model.training
    model.eval()
    model.zero_grad()
    total_heads = np.zeros((len(layers), heads))
    total_neurons = np.zeros((len(layers), int(core.shape(f"layers.{layers[0]}.mlp.down.weight")[1])))
    bar = Progress(len(chosen), 0, progress, "importance")
    try:
        for row in chosen.tolist():
            text = data.take([row])
            if model.task == "sequence":
                assert data.labels is not None
                outputs = model(packed=text.packed(), labels=data.labels[[row]])
            else:
                assert masker is not None
                masked = masker(text.ids, text.row_splits, None, np.array([row]), seed)
                outputs = model(packed=new_packed(masked.ids, text.row_splits), labels=masked.labels)
            outputs.loss.backward()
            head_sums: list[F64] = []
            neuron_sums: list[F64] = []
            for layer in layers:
                for name, sums in (("attention.output", head_sums), ("mlp.down", neuron_sums)):
                    weight = f"layers.{layer}.{name}.weight"
                    gradient = core.gradient(weight)
                    if gradient is None:
                        raise TrainError(f"{weight} gets no gradient: it is frozen")
                    sums.append((core.parameter(weight).astype(np.float64) * gradient).sum(axis=0))  # a gate on each column
            total_heads += np.abs(np.stack(head_sums).reshape(len(layers), heads, -1).sum(axis=2))
            total_neurons += np.abs(np.stack(neuron_sums))
            model.zero_grad()
            bar.step("")
    finally:
        bar.close()
        model.zero_grad()
        model.train(training)
    return Importance(total_heads / len(chosen), total_neurons / len(chosen), len(chosen))


def kept_count(total: int, share: float, multiple: int = 1) -> int:
    """How many of `total` a share keeps: rounded to a multiple, at least one of them; all of a total below it go by ones."""
    if not 0 < share <= 1:
        raise TrainError(f"a kept share must be above 0 and at most 1, not {share}")
    if share == 1:
        return total
    multiple = multiple if total > multiple else 1
    return min(total, max(1, round(share * total / multiple)) * multiple)


def prune_model(model: Any, keep_heads: NDArray[np.int64], keep_neurons: NDArray[np.int64]) -> Any:
    """A smaller model with these heads and neurons of each layer ([L, kept], from `Importance.keep`); eval mode.

    The same kind of model, with copies of the weights. TrainError for a family that cannot be pruned.
    """
    _check(model)
    old = model.config
    heads, width = int(old.num_attention_heads), int(old.hidden_size)
    dim = int(old.__dict__.get("head_dim") or width // heads)
    fields = {k: copy.deepcopy(v) for k, v in old.to_dict().items() if k not in ("model_type", "architectures")}
    fields.update(intermediate_size=int(keep_neurons.shape[1]), num_attention_heads=int(keep_heads.shape[1]))
    if keep_heads.shape[1] != heads or old.__dict__.get("head_dim") is not None:
        fields["head_dim"] = dim
    small = type(model)(type(old)(**fields), add_pooling_layer=model._pooler)
    state = {}
    for name, parameter in model.named_parameters():
        value, core_name = np.asarray(parameter.data), model._names[name][1]
        if core_name.startswith("layers."):
            _, layer, kind, which, what = core_name.split(".")
            neurons = keep_neurons[int(layer)]
            columns = (keep_heads[int(layer)][:, None] * dim + np.arange(dim)[None, :]).reshape(-1)
            rows = {"attention": columns, "mlp": neurons}[kind]
            if which in ("query", "key", "value", "up"):
                value = value[rows]
            elif which in ("output", "down") and what == "weight":
                value = value[:, rows]
        state[name] = np.ascontiguousarray(value)
    small.load_state_dict(state)
    return small


def prune_curve(
    model: Any,
    importance: Importance,
    dev: Encoded,
    shares: Sequence[float],
    *,
    what: str = "both",
    train: Encoded | None = None,
    options: Options | None = None,
    tokenizer: Any = None,
    progress: bool | None = False,
) -> list[dict[str, Any]]:
    """Accuracy against kept share: one row a share, {"share", "heads", "neurons", "parameters", "accuracy", "macro_f1"}.

    what: "heads", "neurons" or "both" are cut. With train and options each pruned model is also fine-tuned (nothing is
    written): then "tuned_accuracy" and "tuned_macro_f1" stand beside.
    """
    rows = []
    for share in shares:
        small = _pruned(model, importance, share if what != "neurons" else 1.0, share if what != "heads" else 1.0)
        report = evaluate_encoded(small, dev)
        row: dict[str, Any] = {
            "share": share, "heads": int(small.config.num_attention_heads), "neurons": int(small.config.intermediate_size),
            "parameters": small.num_parameters(), "accuracy": report["accuracy"], "macro_f1": report["macro_f1"],
        }  # fmt: skip
        if train is not None and options is not None:
            Trainer(small, tokenizer, train, dev, options, progress=progress).train()
            report = evaluate_encoded(small, dev)
            row.update(tuned_accuracy=report["accuracy"], tuned_macro_f1=report["macro_f1"])
        rows.append(row)
    return rows


def _pruned(model: Any, importance: Importance, heads: float, neurons: float) -> Any:
    kept = (
        kept_count(importance.heads.shape[1], heads),
        kept_count(importance.neurons.shape[1], neurons, MULTIPLE),
    )
    return prune_model(model, *importance.keep(*kept))


def plot_curve(rows: Sequence[dict[str, Any]], path: str | Path) -> bool:
    """Draws the curve into a PNG or SVG. False, and nothing written, where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    shares = [100 * row["share"] for row in rows]
    axes.plot(shares, [100 * row["accuracy"] for row in rows], "o-", label="pruned")
    if rows and "tuned_accuracy" in rows[0]:
        axes.plot(shares, [100 * row["tuned_accuracy"] for row in rows], "s-", label="pruned, then fine-tuned")
    axes.set_xlabel("kept, % of heads and neurons")
    axes.set_ylabel("accuracy on dev, %")
    axes.set_ylim(0, 102)
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(str(path), dpi=120)
    return True


class PruneTrainer(Trainer):
    """Fine-tunes a pruned model; a run goes on only with the same heads and neurons."""

    description = "after pruning"

    def __init__(self, *arguments: Any, kept: str, **more: Any) -> None:
        self._kept = kept
        super().__init__(*arguments, **more)

    def _identity(self) -> dict[str, Any]:
        return {"which heads and neurons are kept": self._kept, **super()._identity()}


def prune(
    model: str | Path,
    *,
    out: str | Path,
    train: str | Path | None = None,
    dev: str | Path | None = None,
    texts: Sequence[str] = (),
    keep: float = 0.5,
    keep_heads: float | None = None,
    keep_neurons: float | None = None,
    rows: int = 256,
    curve: Sequence[float] = (),
    curve_epochs: int = 0,
    plot: str | Path | None = None,
    text_field: str | tuple[str, str] = "text",
    label_field: str = "label",
    data_format: str | None = None,
    options: Options | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Prunes the model of a folder, fine-tunes it and writes it to `out`.

    A classifier needs train (importance, then options.epochs of fine-tuning; 0 = none) and, for the curve, dev. A masked
    language model needs texts, and is only pruned: distil the old one into it, or go on with pre-training. keep: the share of
    heads and of neurons that stays, keep_heads and keep_neurons by themselves; neurons in multiples of 16. rows: texts that
    importance is measured on. curve: shares to try, into OUT/curve.json, and `plot` (OUT/curve.png) where matplotlib is there;
    curve_epochs: fine-tuning of each. Returns {"before", "pruned", "result", "curve", …}. Errors: TrainError, DataError, OSError.
    """
    import govlm

    options = options or Options()
    options.check()
    folder = model_folder(model)
    if not folder.is_dir():
        raise TrainError(f"{folder}: no such model folder")
    tokenizer = govlm.AutoTokenizer.from_pretrained(str(folder))
    labelled = train is not None
    if labelled == bool(texts):
        raise TrainError("give labelled rows (of a classifier) or texts (of a masked language model)")
    network: Any
    dev_set, masker = None, None
    if labelled:
        assert train is not None
        network = govlm.AutoModelForSequenceClassification.from_pretrained(str(folder))
        names, multi = label_names(network.config), network.config.problem_type == "multi_label_classification"

        def read(path: str | Path) -> Encoded:
            examples = list(read_examples(path, text_field, label_field, data_format))
            if not examples:
                raise TrainError(f"{path}: no rows")
            return encode(network, tokenizer, examples, names, multi, options.max_length, str(path))

        data = read(train)
        dev_set = read(dev) if dev is not None else None
    else:
        from govlm.train.evaluate import encode_texts

        network = govlm.AutoModelForMaskedLM.from_pretrained(str(folder))
        data = encode_texts(network, tokenizer, list(texts), options.max_length)
        masker = Masker.of(tokenizer, int(network.config.vocab_size))
    if curve and dev_set is None:
        raise TrainError("the curve needs dev rows to measure accuracy on")
    heads, neurons = (keep if share is None else share for share in (keep_heads, keep_neurons))
    importance = measure_importance(network, data, rows, options.seed, masker, progress)
    small = _pruned(network, importance, heads, neurons)
    kept = hashlib.sha256()
    for array in importance.keep(int(small.config.num_attention_heads), int(small.config.intermediate_size)):
        kept.update(array.tobytes())
    size = {"heads": small.config.num_attention_heads, "neurons": small.config.intermediate_size}
    found: dict[str, Any] = {
        **size, "parameters": [network.num_parameters(), small.num_parameters()], "rows": importance.rows, "curve": [],
        "before": evaluate_encoded(network, dev_set) if dev_set is not None else None,
        "pruned": evaluate_encoded(small, dev_set) if dev_set is not None else None, "out": str(out),
    }  # fmt: skip
    target = Path(out)
    if labelled:
        trainer = PruneTrainer(small, tokenizer, data, dev_set, options, out, progress, resume, kept=kept.hexdigest())
        found["result"] = trainer.train()
    else:
        target.mkdir(parents=True, exist_ok=True)
        small.save_pretrained(target)
        tokenizer.save_pretrained(str(target))
    if curve:
        assert dev_set is not None
        tune = replace(options, epochs=curve_epochs)
        shares = sorted({1.0, *curve}, reverse=True)
        given = {"train": data, "options": tune, "tokenizer": tokenizer} if curve_epochs else {}
        found["curve"] = prune_curve(network, importance, dev_set, shares, progress=progress, **given)  # type: ignore[arg-type]
        write_text(target / "curve.json", json.dumps(found["curve"], indent=1) + "\n")
        image = Path(plot) if plot is not None else target / "curve.png"
        found["plot"] = str(image) if plot_curve(found["curve"], image) else None
    return found
