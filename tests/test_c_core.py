"""Compiles the C tests of the core without Python and runs them: plainly, under ASan with UBSan, and the pool under TSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
FLAGS = [
    "-std=c11", "-g", "-O2", "-D_GNU_SOURCE", "-ffp-contract=off", "-fno-math-errno",
    "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror",
    f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}",
]  # fmt: skip
SANITIZERS = {
    "plain": [],
    # gcc and -O1: clang needs more than two minutes for avx512.c here, gcc 10 s
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
    # in tests/c/test_parallel.c: this sanitizer knows no threads in a child of a threaded process
    "thread": ["-fsanitize=thread", "-DWITHOUT_FORK"],
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1",
    "TSAN_OPTIONS": "halt_on_error=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler (gcc or clang)")


def find_onednn() -> tuple[Path, Path] | None:
    """The folder of dnnl.h and the library, as setup.py finds them; None when this machine has no headers."""
    import importlib.metadata

    root = os.environ.get("GOVLM_ONEDNN_ROOT")
    files: list[Path] = []
    if root:
        files = [p for p in Path(root).rglob("*") if p.name == "dnnl.h" or p.name.startswith("libdnnl.so")]
    else:
        for package in ("onednn-devel-cpu-gomp", "onednn-cpu-gomp"):
            try:
                files += [Path(str(f.locate())).resolve() for f in importlib.metadata.files(package) or []]
            except importlib.metadata.PackageNotFoundError:
                continue
    headers = [p.parent for p in files if p.name == "dnnl.h" and p.parent.name == "include"]
    libraries = sorted((p for p in files if p.name.startswith("libdnnl.so.")), key=lambda p: len(p.name))
    return (headers[0], libraries[0]) if headers and libraries else None


def gomp(compiler: str) -> str:
    """What links libgomp: clang does not look in gcc's folders, so the file itself, of the oldest name that exists."""
    if compiler == "gcc":
        return "-lgomp"
    for finder in (["gcc", "-print-file-name=libgomp.so"], ["clang", "-print-file-name=libgomp.so.1"]):
        if shutil.which(finder[0]):
            path = subprocess.run(finder, capture_output=True, text=True, check=True).stdout.strip()
            if os.path.isabs(path):
                return path
    return "-lgomp"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], list[Path]]:
    """compiled(compiler, sanitizer, part): the object files of csrc/`part`, made once; two compilers run side by side."""
    done: dict[tuple[str, str, str], list[Path]] = {}

    def objects(compiler: str, sanitizer: str, part: str) -> list[Path]:
        key = (compiler, sanitizer, part)
        if key not in done:
            folder = tmp_path_factory.mktemp(f"{compiler}-{sanitizer}-{part}")
            onednn = find_onednn() if part == "kernels" else None
            include = [f"-I{onednn[0]}"] if onednn else []

            def compile_one(source: Path) -> Path:
                target = folder / (source.stem + ".o")
                run_compiler([compiler, *FLAGS, *SANITIZERS[sanitizer], *include, "-c", str(source), "-o", str(target)])
                return target

            with ThreadPoolExecutor(2) as pool:
                done[key] = list(pool.map(compile_one, sorted((ROOT / "csrc" / part).glob("*.c"))))
        return done[key]

    return objects


def run_compiler(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0 and "sanitize" in " ".join(command) and "cannot find" in done.stderr:
        pytest.skip(f"{command[0]} has no runtime for this sanitizer")
    assert done.returncode == 0, done.stderr


def build(folder: Path, compiled: Any, compiler: str, sanitizer: str, source: str) -> Path:
    """The program of tests/c/`source`, linked with as much of the core as it needs."""
    program = folder / "program"
    parts = {
        "test_kernels.c": ["kernels"],
        "test_gemm.c": ["kernels"],
        "test_generate.c": ["kernels", "nn", "model"],
        "test_model.c": ["kernels", "nn", "model"],
        "test_ngrams.c": ["text", "kernels", "nn"],
        "test_blocks.c": ["kernels"],
        "test_floats.c": ["kernels"],
        "test_quantised.c": ["kernels"],
        "test_search.c": ["text"],
        "test_bpe.c": ["text"],
    }.get(source, [])
    link = [gomp(compiler), "-lm", "-lpthread"]
    include = []
    if parts:
        onednn = find_onednn()
        if onednn is None:
            pytest.skip("oneDNN's headers are not installed (onednn-devel-cpu-gomp, or GOVLM_ONEDNN_ROOT)")
        include = [f"-I{onednn[0]}"]
        link = [str(onednn[1]), f"-Wl,-rpath,{onednn[1].parent}", *link]
    objects = [str(o) for part in ["base", *parts] for o in compiled(compiler, sanitizer, part)]
    run_compiler(
        [
            compiler,
            *FLAGS,
            *SANITIZERS[sanitizer],
            *include,
            str(ROOT / "tests" / "c" / source),
            *objects,
            "-o",
            str(program),
            *link,
        ]
    )
    return program


def execute(program: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, timeout=600, env={**os.environ, **ENVIRONMENT, **environment}
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("compiler", "sanitizer"), [*((name, "plain") for name in COMPILERS), *((name, "address") for name in COMPILERS[:1])]
)
@pytest.mark.parametrize("source", ["test_memory.c", "test_kernels.c"])
def test_program(tmp_path: Path, compiled: Any, compiler: str, sanitizer: str, source: str) -> None:
    output = execute(build(tmp_path, compiled, compiler, sanitizer, source))
    assert "ok" in output


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_products(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    program = build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_gemm.c")
    for isa in ("scalar", "avx2", "avx512"):  # a lower ISA than the CPU's, or its own
        assert "ok" in execute(program, GOVLM_MAX_ISA=isa)


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_products_of_blocks(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Weights in blocks of 32: the same bits from every instruction set and thread count, within the bound of rounding."""
    program = build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_blocks.c")
    for isa in ("scalar", "avx512"):
        assert "ok" in execute(program, GOVLM_MAX_ISA=isa)


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_products_of_packed_floats(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Packed float32 weights: the same bits from every instruction set, thread count and number of rows."""
    program = build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_floats.c")
    for isa in ("scalar", "avx512"):
        assert "ok" in execute(program, GOVLM_MAX_ISA=isa)


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_quantised_products(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Integers as plain sums and as oneDNN's, at the extremes; the same bits from every instruction set and thread count."""
    program = build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_quantised.c")
    for isa in ("scalar", "avx512"):
        assert "ok" in execute(program, GOVLM_MAX_ISA=isa)


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_whole_passes(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Gradients by finite differences, bits, batches, and every allocation failing in turn, through every kind of block."""
    program = build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_model.c")
    assert "test_model: 0 failures" in execute(program)


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_generation(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Steps over a cache against whole forwards, forks, cancelled and failing steps, and every allocation failing in turn."""
    assert "test_generate: 0 failures" in execute(build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_generate.c"))


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_ngrams(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Counts, weights and logits against plain twins, the support vector machine against its objective."""
    assert "ok" in execute(build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_ngrams.c"))


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_bpe(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """Ids, offsets and merges by hand; every allocation that may fail."""
    assert "ok" in execute(build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_bpe.c"))


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_search(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    """The features of names against plain counting."""
    assert "ok" in execute(build(tmp_path, compiled, COMPILERS[0], sanitizer, "test_search.c"))


@pytest.mark.parametrize("sanitizer", ["plain", "address", "thread"])
def test_pool(tmp_path: Path, compiled: Any, sanitizer: str) -> None:
    program = build(tmp_path, compiled, COMPILERS[-1], sanitizer, "test_parallel.c")
    assert "ok" in execute(program)
    assert "ok" in execute(program, GOVLM_NUM_THREADS="4")


def test_scalar_only_by_environment(tmp_path: Path, compiled: Any) -> None:
    output = execute(build(tmp_path, compiled, COMPILERS[0], "plain", "test_kernels.c"), GOVLM_MAX_ISA="scalar")
    assert "avx2: this CPU (or GOVLM_MAX_ISA) has no such kernels" in output
