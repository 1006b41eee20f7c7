"""Which govlm is tested: the installed one, unless the checkout holds a built extension (`setup.py build_ext --inplace`).

`pip install .` leaves none in the checkout, whose folder would hide the installed package from `python -m pytest` and from
every `python -c` that a test starts here.
"""

import importlib.util
import os
import sys
from pathlib import Path

pytest_plugins = ["databases"]  # its fixtures, for every test
ROOT = Path(__file__).resolve().parent.parent

if not any((ROOT / "govlm").glob("_core*.so")):
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT] + [str(ROOT)]  # last, not first

_spec = importlib.util.find_spec("govlm")
if _spec is not None and _spec.origin is not None:
    _found = str(Path(_spec.origin).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_found, os.environ.get("PYTHONPATH", "")]))


def pytest_collection_finish(session: object) -> None:
    # Not before: workers would look for the files that were asked for in here.
    os.chdir(ROOT / "tests")  # children look into the working folder first (3.10 has no PYTHONSAFEPATH): here is no govlm
