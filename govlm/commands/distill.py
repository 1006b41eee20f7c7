"""`govlm distill`, `prune`, `compare`: make a model smaller, and see what that costs."""

from __future__ import annotations

import argparse
from typing import Any

from govlm.bundled import BUNDLED
from govlm.commands.common import (
    EPOCHS,
    UsageError,
    add_common,
    add_fields,
    add_training,
    emit,
    make_options,
    positive,
    print_figures,
    print_run,
    progress,
    set_threads,
)  # fmt: skip

__all__ = ["register"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _distill(arguments: argparse.Namespace) -> int:
    from govlm.train.distill import DistillOptions, distill
    from govlm.train.pairs import read_texts

    if (arguments.student is None) == (arguments.student_layers is None):
        raise UsageError("give either --student DIR (or a config.json) or --student-layers N")
    options = make_options(DistillOptions, arguments)
    set_threads(arguments)
    texts = [t for file in arguments.texts or () for t in read_texts(file, arguments.texts_field, arguments.format)]
    result = distill(
        arguments.teacher,
        arguments.student if arguments.student is not None else arguments.student_layers,
        out=arguments.out,
        train=arguments.train,
        texts=texts,
        dev=arguments.dev,
        text_field=arguments.text_field,
        label_field=arguments.label_field,
        data_format=arguments.format,
        held_out=arguments.held_out,
        cache=arguments.cache,
        options=options,
        resume=arguments.resume,
        progress=progress(arguments),
    )
    if arguments.json:
        emit(result)
        return 0
    print_run(f"{result['rows']} texts ({result['labelled']} labelled), {result['steps']} steps", result)
    print_figures({"teacher": result.get("teacher"), "student": result["best"]["report"] if result["best"] else None})
    distances = [entry["distance"] for entry in result["history"] if "distance" in entry]
    if distances:
        print(
            f"distance to the teacher on texts kept aside: {distances[0]:.4f} after the first epoch, {min(distances):.4f} at best"
        )
    print(f"model written to {result['out']}")
    return 0


def _shares(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(",") if part)


def _prune(arguments: argparse.Namespace) -> int:
    from govlm.train.finetune import Options
    from govlm.train.pairs import read_texts
    from govlm.train.prune import prune

    options = make_options(Options, arguments)
    set_threads(arguments)
    found = prune(
        arguments.model,
        out=arguments.out,
        train=arguments.train,
        dev=arguments.dev,
        texts=[t for file in arguments.texts or () for t in read_texts(file, arguments.texts_field, arguments.format)],
        keep=arguments.keep,
        keep_heads=arguments.keep_heads,
        keep_neurons=arguments.keep_neurons,
        rows=arguments.rows,
        curve=arguments.curve or (),
        curve_epochs=arguments.curve_epochs,
        plot=arguments.plot,
        text_field=arguments.text_field,
        label_field=arguments.label_field,
        data_format=arguments.format,
        options=options,
        resume=arguments.resume,
        progress=progress(arguments),
    )
    if arguments.json:
        emit(found)
        return 0
    before, after = found["parameters"]
    print(f"{found['heads']} heads and {found['neurons']} neurons a layer stay: {before:,} -> {after:,} parameters")
    best = (found.get("result") or {}).get("best")
    print_figures({"before": found["before"], "pruned": found["pruned"], "fine-tuned": best["report"] if best else None}, 11)
    if found["curve"]:
        tuned = "tuned_accuracy" in found["curve"][0]
        print(
            f"\n{'share':>6} {'heads':>6} {'neurons':>8} {'parameters':>12} {'accuracy':>9}" + (" fine-tuned" if tuned else "")
        )
        for row in found["curve"]:
            line = (
                f"{row['share']:>6.2f} {row['heads']:>6} {row['neurons']:>8} {row['parameters']:>12,} {row['accuracy']:>9.4f}"
            )
            print(line + (f" {row['tuned_accuracy']:>10.4f}" if tuned else ""))
        plot = found["plot"]
        print(f"plot: {plot}" if plot else 'no plot: matplotlib is not installed (pip install "govlm[notebook]")')
    print(f"model written to {found['out']}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from govlm.train.compare import compare, format_comparison

    rows = compare(
        arguments.models,
        arguments.data,
        text_field=arguments.text_field,
        label_field=arguments.label_field if not arguments.no_labels else None,
        data_format=arguments.format,
        limit=arguments.limit,
        requests=arguments.requests,
        rounds=arguments.rounds,
        batch_size=arguments.batch_size,
        max_length=arguments.max_length,
        threads=arguments.threads,
        progress=progress(arguments),
    )
    if arguments.json:
        emit({"models": rows})
    else:
        print(format_comparison(rows))
    return 0


def register(command: Any) -> None:
    """Adds the commands."""
    sub = command("distill", _distill, "teach a small model what a large one knows")
    sub.add_argument("--teacher", required=True, metavar="DIR", help="a classifier (with its labels) or an encoder")
    sub.add_argument("--student", metavar="DIR", help="a pretrained folder, or a config.json for a random start")
    sub.add_argument("--student-layers", type=positive, metavar="N", help="or: start as N of the teacher's layers")
    sub.add_argument("--train", metavar="FILE", help="labelled rows, for a classifier")
    sub.add_argument("--texts", nargs="+", metavar="FILE", help="texts without labels, a line each: more rows, or the corpus")
    sub.add_argument("--texts-field", metavar="F", help="they are JSONL, CSV or TSV with this field")
    sub.add_argument("--dev", metavar="FILE", help="labelled rows to choose the best epoch by")
    sub.add_argument("--held-out", type=int, default=0, metavar="N", help="keep the first N of the texts aside to measure on")
    sub.add_argument("--cache", metavar="DIR", help="keep the teacher's outputs here (computed anew for every batch)")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for the student, checkpoints, log.jsonl, result.json")
    add_fields(sub)
    what = sub.add_argument_group("what is learned (a weight of 0 leaves it out)")
    for flag, kind, text in (
        ("--logits", float, "weight of the label scores (1)"),
        ("--label-share", float, "of that, what the labels themselves get on labelled rows (0.5)"),
        ("--temperature", float, "softens the label scores (2)"),
        ("--hidden", float, "weight of the hidden states (0)"),
        ("--relations", float, "weight of the relations between tokens, as in MiniLM (0)"),
        ("--relation-heads", int, "heads that they are cut into (the teacher's)"),
    ):
        what.add_argument(flag, type=kind, metavar="N", help=text)
    what.add_argument("--hidden-layers", metavar="MAP", help="student:teacher pairs as 0:0,2:6,4:12; uniform; last (uniform)")
    what.add_argument("--relation-layers", metavar="MAP", help="as --hidden-layers, the first layer is 1 (last)")
    what.add_argument("--relation-kinds", type=_words, metavar="KINDS", help="qq,kk,vv is MiniLMv2, qk,vv is MiniLM (qq,kk,vv)")
    what.add_argument("--cache-dtype", choices=("float16", "float32"), help="of the teacher's outputs (float16)")
    numbers = sub.add_argument_group("training")
    add_training(numbers, EPOCHS, "5e-5; from random weights try 5e-4")
    numbers.add_argument("--metric", choices=("macro_f1", "accuracy", "loss"), help="chooses the best epoch (macro_f1)")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    add_common(sub)

    sub = command("prune", _prune, "cut out the attention heads and neurons that matter least, then fine-tune")
    sub.add_argument(
        "--model", default=BUNDLED, metavar="DIR", help=f"a trained classifier, or a masked language model ({BUNDLED})"
    )
    sub.add_argument("--train", metavar="FILE", help="labelled rows, for a classifier: importance, then fine-tuning")
    sub.add_argument("--dev", metavar="FILE", help="labelled rows to measure on")
    sub.add_argument("--texts", nargs="+", metavar="FILE", help="texts, a line each, for a masked language model (no tuning)")
    sub.add_argument("--texts-field", metavar="F", help="they are JSONL, CSV or TSV with this field")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for the pruned model, checkpoints, curve.json")
    add_fields(sub)
    sub.add_argument("--keep", type=float, default=0.5, metavar="SHARE", help="of heads and neurons (0.5)")
    sub.add_argument("--keep-heads", type=float, metavar="SHARE", help="of the heads (--keep)")
    sub.add_argument("--keep-neurons", type=float, metavar="SHARE", help="of the neurons, in multiples of 16 (--keep)")
    sub.add_argument("--rows", type=positive, default=256, metavar="N", help="texts that importance is measured on (256)")
    sub.add_argument("--curve", type=_shares, metavar="S,S", help="also measure these kept shares, as 0.75,0.5,0.25")
    sub.add_argument("--curve-epochs", type=int, default=0, metavar="N", help="fine-tune each for N epochs (0 = not)")
    sub.add_argument("--plot", metavar="FILE", help="the curve as PNG or SVG (OUT/curve.png)")
    numbers = sub.add_argument_group("fine-tuning")
    add_training(numbers, EPOCHS, "5e-5")
    numbers.add_argument("--metric", choices=("macro_f1", "accuracy", "loss"), help="chooses the best epoch (macro_f1)")
    sub.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    add_common(sub)

    sub = command("compare", _compare, "size, speed and accuracy of several models side by side")
    sub.add_argument("models", nargs="+", metavar="DIR", help="teacher, student, pruned, quantised …; the first is the measure")
    sub.add_argument("--data", required=True, metavar="FILE", help="JSONL, CSV or TSV with the requests")
    add_fields(sub)
    sub.add_argument("--no-labels", action="store_true", help="the rows have no labels: agreement with the first model only")
    sub.add_argument("--limit", type=positive, metavar="N", help="use the first N rows (all)")
    sub.add_argument("--requests", type=positive, default=50, metavar="N", help="single requests timed a round (50)")
    sub.add_argument("--rounds", type=positive, default=5, metavar="N", help="rounds, the models taking turns (5)")
    sub.add_argument("--batch-size", type=positive, default=32, metavar="N", help="texts a forward for tokens/s (32)")
    sub.add_argument("--max-length", type=positive, metavar="N", help="tokens a text (what the model takes)")
    add_common(sub)
