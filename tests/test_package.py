"""Every way to install: wheel, sdist, --target, --user, editable; without a compiler, without LD_LIBRARY_PATH."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROBE = "import govlm; from govlm._native import core; print(govlm.__version__, core.info()['onednn'])"

if os.environ.get("GOVLM_TEST_PACKAGE") != "1":
    pytest.skip("builds and installs five times: set GOVLM_TEST_PACKAGE=1", allow_module_level=True)


def run(*command: str | Path, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "LD_LIBRARY_PATH"}} | environment
    done = subprocess.run([str(c) for c in command], cwd="/", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without build products, as a fresh checkout."""
    target = tmp_path_factory.mktemp("source") / "govlm"
    ignore = shutil.ignore_patterns(".git", "*.so", "build", "dist", "*.egg-info", "__pycache__", ".venv", ".*_cache", ".hypothesis")
    shutil.copytree(ROOT, target, ignore=ignore)
    return target


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "install", "-q", "build")
    run(sys.executable, "-m", "build", "--outdir", target, source)
    return target


def new_venv(folder: Path) -> Path:
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def test_wheel_installs_without_a_compiler(built: Path, tmp_path: Path) -> None:
    python = new_venv(tmp_path / "venv")
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.startswith("govlm/_core.") and n.endswith(".so") for n in names)
    assert "govlm/assets/demo/train.jsonl" in names and "govlm/py.typed" in names and "govlm/_core.pyi" in names
    bare = str(tmp_path / "venv" / "bin")
    run(python, "-m", "pip", "install", "-q", wheel, PATH=bare, CC="no-compiler-here")
    assert run(python, "-c", PROBE, PATH=bare).split()[1].startswith("3.")


def test_sdist_builds(built: Path, tmp_path: Path) -> None:
    python = new_venv(tmp_path / "venv")
    (sdist,) = built.glob("*.tar.gz")
    names = tarfile.open(sdist).getnames()
    assert any(n.endswith("csrc/include/govlm.h") for n in names)
    assert not any(n.endswith(".so") for n in names)
    run(python, "-m", "pip", "install", "-q", sdist)
    run(python, "-c", PROBE)


def test_target(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--target", tmp_path / "packages", wheel)
    run(sys.executable, "-S", "-c", PROBE, PYTHONPATH=str(tmp_path / "packages"))


def test_user(built: Path, tmp_path: Path) -> None:
    """--user is refused inside a venv: the interpreter behind it is asked."""
    (wheel,) = built.glob("*.whl")
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if not base.exists():
        pytest.skip(f"no interpreter at {base}")
    run(base, "-m", "pip", "install", "-q", "--user", "--break-system-packages", "--ignore-installed", wheel, PYTHONUSERBASE=str(tmp_path))
    run(base, "-c", PROBE, PYTHONUSERBASE=str(tmp_path))


def test_editable(source: Path, tmp_path: Path) -> None:
    python = new_venv(tmp_path / "venv")
    run(python, "-m", "pip", "install", "-q", "-e", source)
    run(python, "-c", PROBE)
    assert str(source) in run(python, "-c", "import govlm; print(govlm.__file__)")
