"""`govlm quantize`: a float32 model folder into one in 8 or 4 bits, or in float32 packed for the kernels."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from govlm.commands.common import (
    add_common,
    emit,
    make_options,
    progress,
    set_threads,
)

__all__ = ["register"]


def _quantize(arguments: argparse.Namespace) -> int:
    from govlm.train.quantise import QuantiseOptions, quantise_folder

    options = make_options(QuantiseOptions, arguments)
    set_threads(arguments)
    show = progress(arguments)

    def bar(layers: Iterable[Any]) -> Iterable[Any]:
        from tqdm import tqdm

        return tqdm(layers, desc="quantize", unit="layer", disable=None if show is None else not show)

    result = quantise_folder(arguments.model, arguments.out, options, bar)
    if arguments.json:
        emit(result)
        return 0
    mib = 1 << 20
    print(f"float32    {result['float32_bytes'] / mib:8.1f} MB")
    name = "packed" if options.bits == 32 else f"int{options.bits}"
    print(f"{name:<10} {result['quantised_bytes'] / mib:8.1f} MB  ({result['ratio']:.3f} of it)")
    print(f"agreement  {result['agreement']:.5f}  (mean cosine of the last hidden states, random tokens)")
    print(f"model written to {result['out']}")
    return 0


BITS = "8; 4 in blocks of 32, for generators; 32: not rounded, but in the order in which products read it, faster (8)"


def register(command: Any) -> None:
    parser = command(
        "quantize",
        _quantize,
        "write a model in 8 or 4 bits: a quarter of the size or less, faster; or packed; from_pretrained loads it by mapping",
    )
    parser.add_argument("model", metavar="DIR", help="folder of a float32 model")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write (another one)")
    parser.add_argument("--bits", type=int, choices=(4, 8, 32), help=BITS)
    parser.add_argument(
        "--minimum", action="store_true", default=None, help="4 bits: a minimum for each block: 5 bits a weight, closer (off)"
    )
    parser.add_argument("--group", type=int, metavar="N", help="inputs that share an activation's scale (64)")
    parser.add_argument("--levels", type=int, metavar="N", help="steps of an activation, 15 to 255 (192)")
    parser.add_argument(
        "--smooth", action=argparse.BooleanOptionalAction, default=None, help="search factors for the inputs (on)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the random tokens the model is studied with (0)")
    add_common(parser)
