"""Loads the extension. Its rpath finds libdnnl.so.3 in an ordinary prefix; elsewhere (editable, --target) we preload it."""

from __future__ import annotations

import ctypes
import importlib
import os
from pathlib import Path
from types import ModuleType


def _libdnnl_candidates() -> list[Path]:
    import importlib.metadata  # 20 ms, and needed only where the rpath does not lead to the library

    candidates: list[Path] = []
    root = os.environ.get("GOVLM_ONEDNN_ROOT")
    if root:
        # Debian keeps libraries one folder deeper: lib/x86_64-linux-gnu
        for pattern in ("lib/libdnnl.so.3", "lib64/libdnnl.so.3", "lib/*/libdnnl.so.3", "libdnnl.so.3"):
            candidates += sorted(Path(root).glob(pattern))
    try:
        files = importlib.metadata.files("onednn-cpu-gomp") or []
        candidates += [Path(str(f.locate())) for f in files if f.name == "libdnnl.so.3"]
    except importlib.metadata.PackageNotFoundError:
        pass
    # pip --target moves <prefix>/lib of the wheel beside the packages
    candidates += [Path(__file__).resolve().parent.parent / folder / "libdnnl.so.3" for folder in ("lib", ".")]
    return candidates


def _load() -> ModuleType:
    try:
        return importlib.import_module("govlm._core")
    except ImportError as error:
        first = error
    if "libgomp" in str(first):
        raise ImportError(f"govlm needs the GNU OpenMP runtime libgomp.so.1: apt-get install libgomp1 ({first})") from None
    if isinstance(first, ModuleNotFoundError) and first.name == "govlm._core":
        folder = Path(__file__).resolve().parent
        raise ImportError(
            f"{folder} holds no built extension: run `pip install -e {folder.parent}`, or, when govlm is installed, "
            "start from another folder (this one hides the installed package)"
        ) from None
    if "libdnnl" not in str(first):
        raise first
    for path in _libdnnl_candidates():
        if not path.exists():
            continue
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)  # satisfies the soname for the extension
        except OSError as error:
            if "libgomp" in str(error):
                message = f"govlm needs the GNU OpenMP runtime libgomp.so.1: apt-get install libgomp1 ({error})"
                raise ImportError(message) from None
            first = ImportError(f"{first}; preloading {path} failed: {error}")
            continue
        return importlib.import_module("govlm._core")
    raise ImportError(
        f"govlm cannot load oneDNN ({first}): pip install onednn-cpu-gomp==2023.2.0, "
        "or set GOVLM_ONEDNN_ROOT to a prefix that holds lib/libdnnl.so.3"
    )


core = _load()
