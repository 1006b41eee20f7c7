"""Compiles the C tests of the core without Python and runs them: plainly, under ASan with UBSan, and the pool under TSan."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASE = sorted((ROOT / "csrc" / "base").glob("*.c"))
KERNELS = sorted((ROOT / "csrc" / "kernels").glob("*.c"))
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
FLAGS = [
    "-std=c11", "-g", "-O2", "-D_GNU_SOURCE", "-ffp-contract=off", "-fno-math-errno",
    "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror",
    f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}",
]  # fmt: skip
SANITIZERS = {
    "plain": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"],
    "thread": ["-fsanitize=thread"],
}
# A child of a threaded process may start threads: that is what is tested.
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1",
    "TSAN_OPTIONS": "die_after_fork=0:halt_on_error=1",
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


def build(folder: Path, compiler: str, sanitizer: str, source: str) -> Path:
    """The program of tests/c/`source`, linked with as much of the core as it needs."""
    program = folder / "program"
    link = [gomp(compiler), "-lm", "-lpthread"]
    sources = [ROOT / "tests" / "c" / source, *BASE]
    flags = list(FLAGS)
    if source in ("test_kernels.c", "test_gemm.c"):
        onednn = find_onednn()
        if onednn is None:
            pytest.skip("oneDNN's headers are not installed (onednn-devel-cpu-gomp, or GOVLM_ONEDNN_ROOT)")
        sources += KERNELS
        flags.append(f"-I{onednn[0]}")
        link = [str(onednn[1]), f"-Wl,-rpath,{onednn[1].parent}", *link]
    command = [compiler, *flags, *SANITIZERS[sanitizer], *map(str, sources), "-o", str(program), *link]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0 and "sanitize" in " ".join(command) and "cannot find" in done.stderr:
        pytest.skip(f"{compiler} has no runtime for {SANITIZERS[sanitizer][0]}")
    assert done.returncode == 0, done.stderr
    return program


def execute(program: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, timeout=600, env={**os.environ, **ENVIRONMENT, **environment}
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("compiler", "sanitizer"), [*((name, "plain") for name in COMPILERS), *((name, "address") for name in COMPILERS[-1:])]
)
@pytest.mark.parametrize("source", ["test_memory.c", "test_kernels.c"])
def test_program(tmp_path: Path, compiler: str, sanitizer: str, source: str) -> None:
    output = execute(build(tmp_path, compiler, sanitizer, source))
    assert "ok" in output


@pytest.mark.parametrize("sanitizer", ["plain", "address"])
def test_products(tmp_path: Path, sanitizer: str) -> None:
    program = build(tmp_path, COMPILERS[-1], sanitizer, "test_gemm.c")
    for isa in ("scalar", "avx2", "avx512"):  # a lower ISA than the CPU's, or its own
        assert "ok" in execute(program, GOVLM_MAX_ISA=isa)


@pytest.mark.parametrize("sanitizer", ["plain", "address", "thread"])
def test_pool(tmp_path: Path, sanitizer: str) -> None:
    program = build(tmp_path, COMPILERS[-1], sanitizer, "test_parallel.c")
    assert "ok" in execute(program)
    assert "ok" in execute(program, GOVLM_NUM_THREADS="4")


def test_scalar_only_by_environment(tmp_path: Path) -> None:
    output = execute(build(tmp_path, COMPILERS[0], "plain", "test_kernels.c"), GOVLM_MAX_ISA="scalar")
    assert "avx2: this CPU (or GOVLM_MAX_ISA) has no such kernels" in output
