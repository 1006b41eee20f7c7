"""What the loader says when a library is missing: one line that names the package to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import govlm

# Stands before the real finder and lets the extension fail as the dynamic loader would.
BROKEN = """
import importlib.metadata, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "govlm._core":
            raise ImportError({message!r})
sys.meta_path.insert(0, Finder())
real = importlib.metadata.files
importlib.metadata.files = lambda name: [] if name.startswith("onednn") else real(name)
import govlm._native
"""


def last_line(message: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN.format(message=message)],
        env={k: v for k, v in os.environ.items() if k != "GOVLM_ONEDNN_ROOT"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def test_missing_openmp_names_the_package() -> None:
    line = last_line("libgomp.so.1: cannot open shared object file: No such file or directory")
    assert line.startswith("ImportError: govlm needs") and "apt-get install libgomp1" in line


def test_missing_onednn_names_package_and_variable() -> None:
    line = last_line("libdnnl.so.3: cannot open shared object file: No such file or directory")
    assert line.startswith("ImportError: govlm cannot load oneDNN")
    assert "onednn-cpu-gomp==2023.2.0" in line and "GOVLM_ONEDNN_ROOT" in line


def test_a_library_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    broken = tmp_path / "lib" / "libdnnl.so.3"
    broken.write_bytes(b"not a library")
    line = last_line("libdnnl.so.3: cannot open shared object file", GOVLM_ONEDNN_ROOT=str(tmp_path))
    assert str(broken) in line


@pytest.mark.parametrize("message", ["undefined symbol: gv_nothing", "out of handles"])
def test_other_failures_are_passed_on(message: str) -> None:
    assert last_line(message) == f"ImportError: {message}"


def test_source_folder_without_extension(tmp_path: Path) -> None:
    """A checkout in the working folder hides the installed package: the message says so."""
    package = tmp_path / "govlm"
    package.mkdir()
    for name in ("__init__.py", "_native.py"):
        shutil.copy(Path(govlm.__file__).parent / name, package)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); import govlm; govlm.num_threads()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    line = done.stderr.splitlines()[-1]
    assert done.returncode != 0 and "pip install -e" in line and "hides the installed package" in line
