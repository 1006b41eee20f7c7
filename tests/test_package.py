"""Every way to install: wheel, sdist, --target, --user, editable; without a compiler, without LD_LIBRARY_PATH."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from govlm.bundled import BUNDLED

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
    ignore = shutil.ignore_patterns(
        ".git", "*.so", "build", "dist", "*.egg-info", "__pycache__", ".venv", ".*_cache", ".hypothesis"
    )
    shutil.copytree(ROOT, target, ignore=ignore)
    return target


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    target = tmp_path_factory.mktemp("dist")
    python = new_venv(tmp_path_factory.mktemp("tools") / "venv")
    run(python, "-m", "pip", "install", "-q", "build")
    run(python, "-m", "build", "--outdir", target, source)
    return target


def new_venv(folder: Path) -> Path:
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def test_wheel_installs_without_a_compiler(built: Path, tmp_path: Path) -> None:
    python = new_venv(tmp_path / "venv")
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.startswith("govlm/_core.") and n.endswith(".so") for n in names)
    model = {f"assets/{BUNDLED}/{name}" for name in ("config.json", "model.int8.safetensors", "vocab.txt", "README.md")}
    data = {*model, "assets/demo/train.jsonl", "py.typed", "_core.pyi", "_onednn/libdnnl.so.3", "_onednn/LICENSE"}
    data |= {"hall/catalogue/mappings/guangdong.json", "hall/catalogue/migrations/versions/v0002_people.py"}
    assert {f"govlm/{name}" for name in data} <= set(names)
    assert not [n for n in names if "assets/training" in n]
    bare = str(tmp_path / "venv" / "bin")
    run(python, "-m", "pip", "install", "-q", wheel, PATH=bare, CC="no-compiler-here")
    assert run(python, "-c", PROBE, PATH=bare).split()[1].startswith("3.")


def test_sdist_holds_the_sources(built: Path, source: Path) -> None:
    """The wheel was built from it, so it is enough; here: that it is whole, and holds no products."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    sources = {str(p.relative_to(source)) for folder in ("csrc", "govlm") for p in (source / folder).rglob("*") if p.is_file()}
    weights = {
        name for name in sources if name.startswith("govlm/assets/training/") and name.endswith((".safetensors", ".jsonl"))
    }
    assert {name for name in sources if not name.endswith((".so", ".pyc"))} - weights <= names and not weights & names
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


def test_system_onednn(built: Path, source: Path, tmp_path: Path) -> None:
    """GOVLM_ONEDNN_ROOT at build time and at run time, without the PyPI packages of oneDNN."""
    python = new_venv(tmp_path / "venv")
    donor = new_venv(tmp_path / "donor")
    run(donor, "-m", "pip", "install", "-q", "--no-deps", "onednn-devel-cpu-gomp==2023.2.0", "onednn-cpu-gomp==2023.2.0")
    root = tmp_path / "onednn"
    shutil.copytree(tmp_path / "donor" / "include", root / "include")
    (root / "lib").mkdir()
    for path in (tmp_path / "donor" / "lib").glob("libdnnl.so*"):
        shutil.copy(path, root / "lib")
    shutil.rmtree(tmp_path / "donor")
    run(python, "-m", "pip", "install", "-q", "setuptools>=77", "wheel", "numpy>=2")
    here = str(root)
    run(python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", source, GOVLM_ONEDNN_ROOT=here)
    assert run(python, "-c", PROBE, GOVLM_ONEDNN_ROOT=here).split()[1].startswith("3.")
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "LD_LIBRARY_PATH", "GOVLM_ONEDNN_ROOT"}}
    without = subprocess.run([python, "-c", PROBE], cwd="/", env=env, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    assert "GOVLM_ONEDNN_ROOT" in without.stderr.splitlines()[-1]


def test_target(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--target", tmp_path / "packages", wheel)
    # -S: neither this environment's packages nor its oneDNN; pip's --target drops what a wheel puts under <prefix>/lib
    run(sys.executable, "-S", "-c", PROBE, PYTHONPATH=str(tmp_path / "packages"))


def test_user(built: Path, tmp_path: Path) -> None:
    """--user is refused inside a venv: the interpreter behind it is asked."""
    (wheel,) = built.glob("*.whl")
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if not base.exists() or subprocess.run([base, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"no interpreter with pip at {base}")
    run(
        base,
        "-m",
        "pip",
        "install",
        "-q",
        "--user",
        "--break-system-packages",
        "--ignore-installed",
        wheel,
        PYTHONUSERBASE=str(tmp_path),
    )
    run(base, "-c", PROBE, PYTHONUSERBASE=str(tmp_path))


def test_editable(source: Path, tmp_path: Path) -> None:
    python = new_venv(tmp_path / "venv")
    run(python, "-m", "pip", "install", "-q", "-e", source)
    run(python, "-c", PROBE)
    assert str(source) in run(python, "-c", "import govlm; print(govlm.__file__)")


BLOCKED = """
import socket
def local(host):
    host = host.decode() if isinstance(host, bytes) else host
    return host in (None, "", "localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")
def guarded(plain):
    def call(self, address, *more):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not local(address[0]):
            raise OSError(101, f"blocked by the test: {address}")
        return plain(self, address, *more)
    return call
socket.socket.connect = guarded(socket.socket.connect)
socket.socket.connect_ex = guarded(socket.socket.connect_ex)
_resolve = socket.getaddrinfo
def getaddrinfo(host, *more, **named):
    if not local(host):
        raise OSError(101, f"blocked by the test: {host}")
    return _resolve(host, *more, **named)
socket.getaddrinfo = getaddrinfo
"""


def test_the_portal_installs_and_serves_with_the_network_cut(built: Path, tmp_path: Path) -> None:
    """As an intranet's operator does it: a wheelhouse made outside, pip install --no-index inside, no compiler, no network at run time."""
    import json
    import signal
    import socket
    import time
    import urllib.request

    (wheel,) = built.glob("*.whl")
    house = tmp_path / "wheelhouse"
    outside = new_venv(tmp_path / "outside")
    run(outside, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", house, f"govlm[portal] @ {wheel.as_uri()}")
    shutil.copy(wheel, house)
    assert not list(house.glob("*.tar.gz"))
    python = new_venv(tmp_path / "venv")
    bare = str(tmp_path / "venv" / "bin")
    cut = {
        "PATH": bare,
        "CC": "no-compiler-here",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    run(python, "-m", "pip", "install", "-q", "--no-index", "--find-links", house, "govlm[portal]", **cut)
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(BLOCKED, "utf-8")
    probe = "import urllib.request as u\ntry: u.urlopen('http://192.0.2.1/', timeout=5)\nexcept OSError as e: print(e)"
    assert "blocked by the test" in run(python, "-c", probe, PYTHONPATH=str(guard), **cut)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "LD_LIBRARY_PATH"}} | cut | {"PYTHONPATH": str(guard)}
    command = [tmp_path / "venv" / "bin" / "govlm", "serve", "--data", tmp_path / "data", "--port", str(port)]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def post(path: str, body: bytes = b"{}") -> dict[str, object]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
        with opener.open(request, timeout=60) as answer:
            found: dict[str, object] = json.load(answer)
        return found

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in command], cwd="/", env=env, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (tmp_path / "log").read_text("utf-8")
            try:
                session = post("/v1/sessions")["id"]
                break
            except OSError:
                time.sleep(0.2)
        answer = post(f"/v1/sessions/{session}/turns", json.dumps({"text": "低保怎么办，要带啥"}).encode())
        assert "最低生活保障" in str(answer["text"]) and answer["citations"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "blocked by the test" not in (tmp_path / "log").read_text("utf-8")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
