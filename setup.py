"""Builds govlm._core, the C11 extension. Everything else about the package stands in pyproject.toml."""

import importlib.metadata
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ONEDNN_PACKAGES = ("onednn-devel-cpu-gomp", "onednn-cpu-gomp")


def find_onednn() -> tuple[Path, Path]:
    """The folder of dnnl.h and the library file: GOVLM_ONEDNN_ROOT (a prefix with include/ and lib*/), else the PyPI packages.

    Under build isolation sys.prefix is not pip's overlay, so the packages are asked for their own files.
    """
    root = os.environ.get("GOVLM_ONEDNN_ROOT")
    if root:
        files = [p for p in Path(root).rglob("*") if p.name == "dnnl.h" or p.name.startswith("libdnnl.so")]
    else:
        files = []
        for package in ONEDNN_PACKAGES:
            try:
                files += [Path(f.locate()).resolve() for f in importlib.metadata.files(package) or []]
            except importlib.metadata.PackageNotFoundError:
                continue
    headers = [p.parent for p in files if p.name == "dnnl.h" and p.parent.name == "include"]
    libraries = sorted((p for p in files if p.name.startswith("libdnnl.so")), key=lambda p: len(p.name))
    if not headers or not libraries:
        where = f"GOVLM_ONEDNN_ROOT={root}" if root else "the packages " + " and ".join(ONEDNN_PACKAGES)
        sys.exit(
            f"govlm: oneDNN not found in {where}: need include/dnnl.h and libdnnl.so.3. "
            "Install both packages, or point GOVLM_ONEDNN_ROOT at a prefix with oneDNN 3.x."
        )
    return headers[0], libraries[0]


def extension() -> Extension:
    include, library = find_onednn()
    sources = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").rglob("*.c"))
    headers = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").rglob("*.h"))
    strict = ["-Werror"] if os.environ.get("GOVLM_WERROR") else []
    return Extension(
        "govlm._core",
        sources=sources,
        depends=headers,
        include_dirs=["csrc", "csrc/include", str(include), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("_GNU_SOURCE", None)],
        extra_compile_args=[
            "-std=c11",
            "-O3",
            "-g1",
            "-fvisibility=hidden",
            "-ffp-contract=off",
            "-fno-math-errno",
            "-Wall",
            "-Wextra",
            "-Wconversion",
            "-Wno-sign-conversion",
            *strict,
        ],
        extra_link_args=[
            str(library),
            "-Wl,--as-needed",
            # <prefix>/lib seen from <prefix>/lib/pythonX.Y/site-packages/govlm; elsewhere govlm._native preloads it.
            "-Wl,-rpath,$ORIGIN/../../..",
        ],
        libraries=["gomp", "m", "pthread"],
    )


class ParallelBuild(build_ext):
    """setuptools compiles the files of one extension one after the other; a compiler a CPU halves the wait on two."""

    def build_extension(self, ext: Extension) -> None:
        one_by_one = self.compiler.compile
        for folder in {Path(source).parent for source in ext.sources}:
            Path(self.build_temp, folder).mkdir(parents=True, exist_ok=True)  # so that no two threads make it at once

        def compile_all(sources: list[str], *arguments: Any, **options: Any) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
                objects = pool.map(lambda source: one_by_one([source], *arguments, **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_all
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = one_by_one


setup(ext_modules=[extension()], cmdclass={"build_ext": ParallelBuild})
