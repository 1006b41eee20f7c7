"""Runs of a command that a test waits for, or ends in the middle."""

import time


def finish(process, code=0):
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, err
    return out, err


def wait_for(process, condition):
    """Until the condition holds or the process is over; False when it ended before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    raise AssertionError("the run does not get on")


def logged(folder):
    path = folder / "log.jsonl"
    return path.read_text().count("\n") if path.exists() else 0
