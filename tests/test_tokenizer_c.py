"""The tokenizer's C tests without Python: plainly, and under ASan with UBSan with every allocation failing in turn."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [*sorted((ROOT / "csrc" / "text").glob("*.c")), *(ROOT / "csrc" / "base" / name for name in ("status.c", "memory.c"))]
FLAGS = ["-std=c11", "-g", "-O1", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
COMPILER = shutil.which("gcc") or shutil.which("clang")


@pytest.mark.skipif(COMPILER is None, reason="no C compiler (gcc or clang)")
@pytest.mark.parametrize("extra", [[], ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]], ids=["plain", "address"])
@pytest.mark.parametrize("name", ["test_text", "test_unigram"])
def test_text(name: str, extra: list[str], tmp_path: Path) -> None:
    program = tmp_path / name
    inputs = [*map(str, SOURCES), str(ROOT / "tests" / "c" / f"{name}.c"), "-lm"]
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    built = subprocess.run(
        [str(COMPILER), *FLAGS, *extra, *includes, *inputs, "-o", str(program)], capture_output=True, text=True, check=False
    )
    if extra and built.returncode != 0 and "cannot find" in built.stderr:
        pytest.skip("this compiler has no sanitizer libraries")
    assert built.returncode == 0, built.stderr
    run = subprocess.run([str(program)], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0 and run.stdout == "ok\n", run.stdout + run.stderr
