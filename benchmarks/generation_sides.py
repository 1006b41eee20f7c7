"""The sides of benchmarks/generation.py, each alive in a process of its own, and the models that they are given."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import environment

__all__ = ["SIDES", "Remote", "Spent", "round_t5", "write_qwen", "write_t5"]

QWEN = {"layers": 24, "hidden": 896, "inner": 4864, "heads": 14, "kv_heads": 2, "vocabulary": 151936}  # Qwen2.5-0.5B
T5 = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128}  # T5-base


def write_qwen(file: Path, seed: int = 0, **shape: int) -> Path:
    """A GGUF file as llama.cpp's own Q4_0 of Qwen2.5-0.5B: matrices Q4_0, the tied embeddings Q8_0; all weights random."""
    import gguf

    s = {**QWEN, **shape}
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(file, "qwen2")
    for add, value in (
        (writer.add_block_count, s["layers"]), (writer.add_context_length, 4096), (writer.add_embedding_length, s["hidden"]),
        (writer.add_feed_forward_length, s["inner"]), (writer.add_head_count, s["heads"]),
        (writer.add_head_count_kv, s["kv_heads"]), (writer.add_layer_norm_rms_eps, 1e-6), (writer.add_rope_freq_base, 1e6),
        (writer.add_vocab_size, s["vocabulary"]), (writer.add_tokenizer_model, "no_vocab"),
    ):  # fmt: skip
        add(value)

    def matrix(name: str, rows: int, cols: int, kind: str = "Q4_0") -> None:
        blocks = np.empty((rows, cols // 32, 18 if kind == "Q4_0" else 34), np.uint8)
        spread = np.float16((0.02 if kind == "Q4_0" else 0.04) / (4.6 if kind == "Q4_0" else 74))
        blocks[..., :2] = np.frombuffer(spread.tobytes(), np.uint8)
        blocks[..., 2:] = rng.integers(0, 256, blocks[..., 2:].shape, np.uint8)
        writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType[kind])

    wide, narrow = s["hidden"], s["hidden"] // s["heads"] * s["kv_heads"]
    matrix("token_embd.weight", s["vocabulary"], wide, "Q8_0")
    writer.add_tensor("output_norm.weight", np.ones(wide, np.float32))
    for layer in range(s["layers"]):
        for name, rows, cols in (
            ("attn_q", wide, wide), ("attn_k", narrow, wide), ("attn_v", narrow, wide), ("attn_output", wide, wide),
            ("ffn_gate", s["inner"], wide), ("ffn_up", s["inner"], wide), ("ffn_down", wide, s["inner"]),
        ):  # fmt: skip
            matrix(f"blk.{layer}.{name}.weight", rows, cols)
            if name in ("attn_q", "attn_k", "attn_v"):
                writer.add_tensor(f"blk.{layer}.{name}.bias", rng.normal(0, 0.1, rows).astype(np.float32))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(wide, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_t5(folder: Path, **shape: int) -> Path:
    """A T5-base with transformers' own random weights, but larger embeddings and a last layer that makes much of them: a greedy text
    would be one token again and again otherwise, whatever else is wrong."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(**{**T5, **shape}, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight.mul_(3)
        model.decoder.block[-1].layer[2].DenseReluDense.wo.weight.mul_(300)
    model.save_pretrained(folder)
    return folder


def round_t5(folder: Path, out: Path) -> Path:
    """The T5 with its matrices in 8 bits."""
    from govlm.train.quantise import QuantiseOptions, quantise_folder

    quantise_folder(folder, out, QuantiseOptions(smooth=False, sequences=2, length=8))
    return out


Spent = tuple[float, float]  # seconds, and CPU seconds of all of the side's threads


def now() -> Spent:
    return time.perf_counter(), time.process_time()


def since(start: Spent, end: Spent | None = None) -> Spent:
    end = end or now()
    return end[0] - start[0], end[1] - start[1]


class Clock:
    """A streamer that notes when the first and the last token came."""

    def __init__(self) -> None:
        self.first: Spent | None = None
        self.last: Spent = (0.0, 0.0)

    def put(self, ids: Any) -> None:
        self.last = now()
        self.first = self.first or self.last

    def end(self) -> None:
        pass


class Govlm:
    """model.generate for one text, an Engine for several."""

    def __init__(self, file: str, threads: int) -> None:
        import govlm

        self._model: Any = govlm.AutoModelForCausalLM.from_pretrained(file)
        self._govlm = govlm

    def logits(self, ids: list[int]) -> Any:
        return np.array(self._model(np.array([ids])).logits[0])

    def greedy(self, ids: list[int], tokens: int) -> list[int]:
        return [int(i) for i in self._model.generate([ids], max_new_tokens=tokens, eos_token_id=[])[0, len(ids) :]]

    def prompt(self, ids: list[int]) -> Spent:
        start = now()
        self._model.generate([ids], max_new_tokens=1, eos_token_id=[])
        return since(start)

    def decode(self, ids: list[int], tokens: int) -> Spent:
        clock = Clock()
        self._model.generate([ids], max_new_tokens=tokens + 1, eos_token_id=[], streamer=clock)
        return since(clock.first or clock.last, clock.last)

    def together(self, prompts: list[list[int]], tokens: int) -> Spent:
        from govlm.generation import Engine

        with Engine(self._model, max_batch=len(prompts), max_requests=len(prompts), step_tokens=512, prefix_tokens=0) as engine:
            start = now()
            for handle in [engine.submit(ids, max_new_tokens=tokens, eos_token_id=[]) for ids in prompts]:
                handle.result()
            return since(start)


class LlamaCpp:
    """llama.cpp's C interface and its greedy sampler: llama_decode, several sequences in a batch as its server's slots do."""

    def __init__(self, file: str, threads: int) -> None:
        import llama_cpp

        self._c = llama_cpp
        llama_cpp.llama_backend_init()
        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self._quiet = quiet
        self._model: Any = llama_cpp.llama_model_load_from_file(file.encode(), llama_cpp.llama_model_default_params())
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._contexts: dict[int, Any] = {}
        self._threads = threads
        self._greedy = llama_cpp.llama_sampler_init_greedy()
        self._batch = llama_cpp.llama_batch_init(2048, 0, 1)

    def _context(self, sequences: int) -> Any:
        if sequences not in self._contexts:
            options = self._c.llama_context_default_params()
            options.n_ctx, options.n_batch, options.n_ubatch = 1024 * sequences, 2048, 512
            options.n_threads = options.n_threads_batch = self._threads
            options.n_seq_max = sequences
            self._contexts[sequences] = self._c.llama_init_from_model(self._model, options)
        context = self._contexts[sequences]
        self._c.llama_memory_clear(self._c.llama_get_memory(context), True)
        return context

    def _feed(self, context: Any, rows: list[tuple[int, int, int, bool]]) -> None:
        """(id, position, sequence, whether its logits are wanted)"""
        b = self._batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, wanted
            b.seq_id[i][0] = sequence
        if self._c.llama_decode(context, b) != 0:
            raise RuntimeError("llama_decode failed")

    def _read(self, context: Any, ids: list[int], every: bool = False) -> None:
        self._feed(context, [(t, i, 0, every or i == len(ids) - 1) for i, t in enumerate(ids)])

    def logits(self, ids: list[int]) -> Any:
        context = self._context(1)
        self._read(context, ids, True)
        rows = [self._c.llama_get_logits_ith(context, i) for i in range(len(ids))]
        return np.array([np.ctypeslib.as_array(row, (self._vocabulary,)) for row in rows])

    def _grow(self, context: Any, ids: list[int], tokens: int) -> list[int]:
        written = [self._c.llama_sampler_sample(self._greedy, context, -1)]
        for i in range(tokens - 1):
            self._feed(context, [(written[-1], len(ids) + i, 0, True)])
            written.append(self._c.llama_sampler_sample(self._greedy, context, -1))
        return written

    def greedy(self, ids: list[int], tokens: int) -> list[int]:
        context = self._context(1)
        self._read(context, ids)
        return self._grow(context, ids, tokens)

    def prompt(self, ids: list[int]) -> Spent:
        context = self._context(1)
        start = now()
        self._read(context, ids)
        self._c.llama_sampler_sample(self._greedy, context, -1)
        return since(start)

    def decode(self, ids: list[int], tokens: int) -> Spent:
        context = self._context(1)
        self._read(context, ids)
        self._c.llama_sampler_sample(self._greedy, context, -1)
        start = now()
        self._grow(context, ids, tokens + 1)
        return since(start)

    def together(self, prompts: list[list[int]], tokens: int) -> Spent:
        context = self._context(len(prompts))
        start = now()
        self._feed(context, [(t, i, s, i == len(ids) - 1) for s, ids in enumerate(prompts) for i, t in enumerate(ids)])
        ends = np.cumsum([len(ids) for ids in prompts]) - 1
        last = [self._c.llama_sampler_sample(self._greedy, context, int(i)) for i in ends]
        for step in range(tokens - 1):
            self._feed(context, [(t, len(prompts[s]) + step, s, True) for s, t in enumerate(last)])
            last = [self._c.llama_sampler_sample(self._greedy, context, s) for s in range(len(prompts))]
        return since(start)


class GovlmT5:
    """model.generate for one text, an Engine for several; float32, or what the folder has."""

    def __init__(self, folder: str, threads: int) -> None:
        import govlm

        self._model: Any = govlm.AutoModelForSeq2SeqLM.from_pretrained(folder)

    def greedy(self, ids: list[int], tokens: int) -> list[int]:
        return [int(i) for i in self._model.generate([ids], max_new_tokens=tokens, eos_token_id=[])[0]]

    def logits(self, ids: list[int], begin: list[int]) -> Any:
        return np.array(self._model(np.array([ids]), decoder_input_ids=np.array([begin])).logits[0])

    def batch(self, rows: list[list[int]], tokens: int) -> list[list[int]]:
        from govlm.generation import Engine

        with Engine(self._model, max_batch=len(rows), max_requests=len(rows), step_tokens=512) as engine:
            handles = [engine.submit(ids, max_new_tokens=tokens, eos_token_id=[]) for ids in rows]
            return [handle.result() for handle in handles]

    def together(self, rows: list[list[int]], tokens: int) -> Spent:
        start = now()
        self.batch(rows, tokens)
        return since(start)

    def answer(self, ids: list[int], tokens: int) -> Spent:
        start = now()
        self.greedy(ids, tokens)
        return since(start)


class TransformersT5(GovlmT5):
    def __init__(self, folder: str, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()

    def greedy(self, ids: list[int], tokens: int) -> list[int]:
        return [0, *self.batch([ids], tokens)[0]]

    def logits(self, ids: list[int], begin: list[int]) -> Any:
        tensor = self._torch.tensor
        with self._torch.inference_mode():
            return self._model(tensor([ids]), decoder_input_ids=tensor([begin])).logits[0].numpy()

    def batch(self, rows: list[list[int]], tokens: int) -> list[list[int]]:
        # without an end of text that could come: none of its ids is one
        self._model.generation_config.eos_token_id = None
        with self._torch.inference_mode():
            found = self._model.generate(self._torch.tensor(rows), max_new_tokens=tokens, do_sample=False)
        return [[int(i) for i in row[1:]] for row in found]


SIDES: dict[str, Callable[[str, int], Any]] = {
    "govlm": Govlm,
    "llama.cpp": LlamaCpp,
    "govlm T5": GovlmT5,
    "transformers T5": TransformersT5,
}


def _serve(pipe: Any, name: str, model: str, threads: int) -> None:
    try:
        side = SIDES[name](model, threads)
        pipe.send(("ready", None))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
        return
    while (call := pipe.recv()) is not None:
        method, arguments = call
        try:
            pipe.send(("done", getattr(side, method)(*arguments)))
        except Exception as error:
            pipe.send(("error", f"{type(error).__name__}: {error}"))


class Remote:
    """One side in a process of its own, on `threads` threads. RuntimeError carries the side's own message."""

    def __init__(self, name: str, model: str, threads: int) -> None:
        self.name = name
        os.environ.update({k: v for k, v in environment(threads).items() if k != "PYTHONPATH"})
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, model, threads), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.name} died") from None
        if kind == "error":
            raise RuntimeError(f"{self.name}: {value}")
        return value

    def ask(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, arguments))
        return self._answer()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(20)
        self._process.kill()
