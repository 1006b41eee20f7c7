"""The house's plan, held against the code: who may include and import whom, what lies where, what git holds."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
# Which folders of csrc a folder may include besides itself and include/govlm.h. text and model never meet.
C_ARROWS = {
    "base": set(),
    "text": {"base"},
    "kernels": {"base"},
    "nn": {"base", "kernels"},
    "model": {"base", "kernels", "nn"},
    "python": {"base", "kernels", "text", "model"},
}
TOP_LEVEL = {
    "csrc", "govlm", "tests", "benchmarks", "notebooks", "setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md",
    "CONTRIBUTING.md", "MANIFEST.in",
}  # fmt: skip
# What Python 3.11 and later have in modules that 3.10, the oldest that pyproject.toml takes, has as well.
NEWER = {
    "typing": {
        "LiteralString", "Never", "NotRequired", "Required", "Self", "TypeVarTuple", "Unpack", "assert_never", "assert_type",
        "dataclass_transform", "override", "reveal_type",
    },
    "datetime": {"UTC"},
    "enum": {"StrEnum", "ReprEnum", "member", "nonmember", "verify"},
    "asyncio": {"Runner", "TaskGroup", "timeout"},
    "contextlib": {"chdir"},
    "hashlib": {"file_digest"},
    "itertools": {"batched"},
}  # fmt: skip
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)


def c_files() -> list[Path]:
    return sorted(p for p in CSRC.rglob("*") if p.suffix in {".c", ".h"})


def includes(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def tracked() -> list[str]:
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip("not a git checkout: nothing says which files are the project's")
    return result.stdout.split("\0")[:-1]


@pytest.mark.parametrize("path", c_files(), ids=lambda p: str(p.relative_to(CSRC)))
def test_c_arrows(path: Path) -> None:
    folder = path.relative_to(CSRC).parts[0]
    if folder == "include":
        assert all("/" not in name for name in includes(path))
        return
    for name in includes(path):
        target = name.split("/")[0]
        if "/" in name and target in C_ARROWS:
            assert target == folder or target in C_ARROWS[folder], f"{path.name} includes {name}: no arrow {target} <- {folder}"


def test_foreign_headers_have_one_owner() -> None:
    for path in c_files():
        own = path.relative_to(CSRC)
        for name in includes(path):
            if name.startswith(("dnnl", "oneapi")):
                assert str(own) == "kernels/gemm.c", f"{own} includes {name}"
            if name == "Python.h" or name.startswith("numpy/"):
                assert own.parts[0] == "python", f"{own} includes {name}"
            if name == "omp.h":
                assert own.parts[0] == "base", f"{own} includes {name}"


def test_the_core_neither_prints_nor_exits() -> None:
    forbidden = re.compile(r"(?<![A-Za-z_])(?:printf|puts|exit|abort)\s*\(")
    for path in c_files():
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not forbidden.search(code), path


def test_files_hold_one_concept() -> None:
    for path in [*c_files(), *(ROOT / "govlm").rglob("*.py")]:
        if "_tables" in path.name:  # generated
            continue
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 1000, path
    for path in CSRC.rglob("*.h"):
        limit = 1000 if path.name.startswith("simd_") else 300  # code that two instruction sets include
        assert len(path.read_text(encoding="utf-8").splitlines()) <= limit, path


def test_hall_and_portal_point_one_way() -> None:
    for path in (ROOT / "govlm").rglob("*.py"):
        folder = path.relative_to(ROOT / "govlm").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                assert not name.startswith("torch"), f"{path}: torch is never imported"
                if name.startswith("govlm.portal"):
                    assert folder in {"portal", "commands"}, f"{path} imports {name}"
                if name.startswith("govlm.hall"):
                    assert folder in {"hall", "portal", "commands", "assets"}, f"{path} imports {name}"


def test_nothing_that_the_oldest_python_lacks() -> None:
    for path in [ROOT / "setup.py", *(ROOT / "govlm").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                used = {(node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used = {(node.value.id, node.attr)}
            else:
                continue
            for module, name in used:
                assert name not in NEWER.get(module or "", set()), (
                    f"{path}:{node.lineno}: {module}.{name} is not in Python 3.10"
                )


def test_import_is_light() -> None:
    code = "import sys, govlm; print(' '.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    heavy = {"torch", "transformers", "safetensors", "matplotlib", "tqdm", "argparse", "multiprocessing"}
    assert loaded & heavy == set()


def test_what_the_benchmarks_import_is_in_an_extra() -> None:
    """Every package that benchmarks/ imports is one that pyproject.toml asks for."""
    own = {"govlm", "benchmarks", "tests", *(path.stem for path in (ROOT / "benchmarks").rglob("*.py"))}
    asked = (ROOT / "pyproject.toml").read_text(encoding="utf-8").lower()
    names = {
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
        "docx": "python-docx",
        "pydantic": "fastapi",
        "llama_cpp": "llama-cpp-python",
    }
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            else:
                found = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for module in {name.split(".")[0] for name in found} - own - set(sys.stdlib_module_names):
                package = names.get(module, module.replace("_", "-"))
                assert re.search(rf'^[^#\n]*"{re.escape(package)}[\[>=";]', asked, re.MULTILINE), f"{path.name}: {module}"


def test_top_level() -> None:
    names = {name.split("/")[0] for name in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_git_holds_no_products_and_no_paths_of_a_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users)/\w")
    for name in tracked():
        assert not name.endswith((".so", ".o", ".whl", ".pyc", ".log")), name
        path = ROOT / name
        if path.suffix in {".py", ".c", ".h", ".md", ".toml", ".ipynb", ".pyi"} and path.exists() and path != Path(__file__):
            assert not machine.search(path.read_text(encoding="utf-8")), name


def test_ci_runs_the_commands_of_the_readme() -> None:
    """The commands that the README begins with stand in .ci/run word for word."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [block.strip() for block in re.findall(r"^```bash\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)][:3]
    assert commands[0] == 'pip install ".[portal]" && govlm serve'
    assert commands[1].startswith("pip install . && govlm demo")
    assert commands[2] == 'pip install ".[test]" && pytest'
    script = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    for command in commands:
        assert command in script, command


def test_workers_find_the_file_that_was_asked_for() -> None:
    """As the second pass of `.ci/run` asks: names of files and tests, several processes."""
    asked = ["tests/test_structure.py::test_top_level", "--numprocesses=1", "-p", "no:cacheprovider", "-q"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *asked], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
