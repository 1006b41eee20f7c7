"""What the machine is and what it can do: the CPU's name and instruction sets, the f32 peak, the read bandwidth.

The peak is measured, not looked up: a C loop of independent fused multiply-adds on registers, one thread a core, compiled
here with the system's compiler. Without a compiler the best of several large NumPy products stands in (and is labelled so).
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

_PEAK_C = r"""
#include <immintrin.h>
#include <stddef.h>
/* 12 independent accumulators hide the latency of a fused multiply-add; returns flops done. */
__attribute__((target("avx2,fma"))) double peak_avx2(long rounds, float *out)
{
    __m256 a[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < 12; i++) a[i] = _mm256_set1_ps((float)i);
    for (long r = 0; r < rounds; r++)
        for (int i = 0; i < 12; i++) a[i] = _mm256_fmadd_ps(a[i], x, y);
    for (int i = 1; i < 12; i++) a[0] = _mm256_add_ps(a[0], a[i]);
    _mm256_storeu_ps(out, a[0]);
    return (double)rounds * 12 * 8 * 2;
}
__attribute__((target("avx512f"))) double peak_avx512(long rounds, float *out)
{
    __m512 a[12], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < 12; i++) a[i] = _mm512_set1_ps((float)i);
    for (long r = 0; r < rounds; r++)
        for (int i = 0; i < 12; i++) a[i] = _mm512_fmadd_ps(a[i], x, y);
    for (int i = 1; i < 12; i++) a[0] = _mm512_add_ps(a[0], a[i]);
    _mm512_storeu_ps(out, a[0]);
    return (double)rounds * 12 * 16 * 2;
}
/* Reads n floats with 8 accumulators; returns bytes read. */
__attribute__((target("avx2"))) double read_avx2(const float *p, size_t n, float *out)
{
    __m256 a[8];
    for (int i = 0; i < 8; i++) a[i] = _mm256_setzero_ps();
    for (size_t k = 0; k + 64 <= n; k += 64)
        for (int i = 0; i < 8; i++) a[i] = _mm256_add_ps(a[i], _mm256_loadu_ps(p + k + 8 * (size_t)i));
    for (int i = 1; i < 8; i++) a[0] = _mm256_add_ps(a[0], a[i]);
    _mm256_storeu_ps(out, a[0]);
    return (double)n * 4;
}
"""


@dataclass(frozen=True)
class Machine:
    cpu: str
    isa: str
    cores: int
    threads: int
    peak_gflops: float
    peak_how: str
    read_gbytes: float
    memory_gbytes: float
    load: float

    def describe(self) -> str:
        return (
            f"{self.cpu}, {self.cores} CPUs allowed, {self.threads} threads used, {self.isa}; f32 peak {self.peak_gflops:.0f} GFLOP/s "
            f"({self.peak_how}); read bandwidth {self.read_gbytes:.0f} GB/s; {self.memory_gbytes:.0f} GB of memory; "
            f"load average {self.load:.1f} before that measurement"
        )

    def asdict(self) -> dict[str, object]:
        return asdict(self)


def cpu_flags() -> set[str]:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _isa(max_isa: str | None) -> str:
    flags = cpu_flags()
    names = [
        n for n, f in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("VNNI", "avx512_vnni"), ("BF16", "avx512_bf16")) if f in flags
    ]
    return "/".join(names or [platform.machine()]) + (f", capped to {max_isa.upper()} where a peer can be" if max_isa else "")


def _build() -> ctypes.CDLL | None:
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if compiler is None or platform.machine() not in ("x86_64", "AMD64") or "avx2" not in cpu_flags():
        return None
    folder = Path(tempfile.mkdtemp(prefix="govlm-peak-"))
    try:
        (folder / "peak.c").write_text(_PEAK_C)
        command = [compiler, "-O3", "-funroll-loops", "-shared", "-fPIC", "-o", str(folder / "peak.so"), str(folder / "peak.c")]
        if subprocess.run(command, capture_output=True).returncode != 0:
            return None
        library = ctypes.CDLL(str(folder / "peak.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    pointer = ctypes.c_void_p
    library.peak_avx2.argtypes = library.peak_avx512.argtypes = [ctypes.c_long, pointer]
    library.read_avx2.argtypes = [pointer, ctypes.c_size_t, pointer]
    library.peak_avx2.restype = library.peak_avx512.restype = library.read_avx2.restype = ctypes.c_double
    return library


def _on_threads(threads: int, work) -> float:
    """Starts `threads` calls of work(index) -> amount at once; returns the amount done per second."""
    amounts = [0.0] * threads
    barrier = threading.Barrier(threads + 1)

    def run(index: int) -> None:
        barrier.wait()
        amounts[index] = work(index)

    pool = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in pool:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in pool:
        thread.join()
    return sum(amounts) / (time.perf_counter() - start)


def measure(threads: int, max_isa: str | None = None) -> Machine:
    """Measures the peak and the read bandwidth on `threads` threads (about two seconds)."""
    library = _build()
    if library is not None:
        outs = [np.zeros(16, np.float32) for _ in range(threads)]
        loops = {"AVX2": library.peak_avx2}
        if "avx512f" in cpu_flags() and max_isa != "avx2":
            loops["AVX-512"] = library.peak_avx512
        best = {
            name: max(_on_threads(threads, lambda i, f=f: f(20_000_000, outs[i].ctypes.data)) for _ in range(5))
            for name, f in loops.items()
        }
        isa, flops = max(best.items(), key=lambda item: item[1])
        how = f"measured with a C loop of independent {isa} fused multiply-adds"
        blocks = [np.ones(32 << 20, np.float32) for _ in range(threads)]
        read = max(
            _on_threads(threads, lambda i: library.read_avx2(blocks[i].ctypes.data, blocks[i].size, outs[i].ctypes.data))
            for _ in range(5)
        )
    else:
        flops, how = 0.0, "the best of NumPy's large products: no C compiler here"
        for size in (1024, 2048):
            a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
            for _ in range(4):
                start = time.perf_counter()
                a @ a
                flops = max(flops, 2.0 * size**3 / (time.perf_counter() - start))
        block = np.ones(32 << 20, np.float32)
        read = 0.0
        for _ in range(4):
            start = time.perf_counter()
            block.sum()
            read = max(read, block.nbytes / (time.perf_counter() - start))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Machine(
        _cpu_name(),
        _isa(max_isa),
        len(os.sched_getaffinity(0)),
        threads,
        flops / 1e9,
        how,
        read / 1e9,
        memory,
        os.getloadavg()[0],
    )


if __name__ == "__main__":
    print(measure(len(os.sched_getaffinity(0))).describe())
