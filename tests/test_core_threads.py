"""Weights are replaced while other threads predict: nobody may read what was given back. In a child, since the fault kills."""

import subprocess
import sys

REPLACE = """
import mmap, sys, threading
import numpy as np
from govlm._native import core

CONFIG = {"vocab_size": 50, "hidden_size": 1024, "num_layers": 1, "num_heads": 1, "intermediate_size": 8192, "max_positions": 64}
ids, splits = np.arange(40, dtype=np.int32) % 50, np.array([0, 40], np.int64)

def mapped(shape, rng):
    size = int(np.prod(shape))
    array = np.frombuffer(mmap.mmap(-1, 4 * size), np.float32).reshape(shape)
    array[...] = rng.normal(0, 0.05, shape)
    return array

for _ in range(20):
    rng = np.random.default_rng(0)
    model = core.Model(CONFIG)
    for name in model.names():
        model.bind(name, mapped(model.shape(name), rng))
    expected = np.array(model.forward(ids, splits, save=False).hidden(-1))
    stop, wrong = threading.Event(), []
    def predict():
        while not stop.is_set():
            if not np.array_equal(model.forward(ids, splits, save=False).hidden(-1), expected):
                wrong.append(1)
    threads = [threading.Thread(target=predict) for _ in range(4)]
    [t.start() for t in threads]
    stop.wait(0.05)
    model.make_trainable()
    stop.wait(0.05)
    stop.set()
    [t.join() for t in threads]
    assert not wrong
print("ok")
"""

STEP = """
import threading

import numpy as np

from govlm._native import core

model = core.Model({"vocab_size": 50, "hidden_size": 64, "num_layers": 4, "num_heads": 4, "intermediate_size": 128, "max_positions": 64})
ids, splits = np.arange(40, dtype=np.int32) % 50, np.array([0, 40], np.int64)
moments = core.Moments(model)
model.flat_parameters()[:] = np.random.default_rng(0).normal(0, 0.05, model.flat_parameters().shape)
stop, results = threading.Event(), []


def predict():
    own = []
    while not stop.is_set():
        own.append(np.array(model.forward(ids, splits, save=False).hidden(-1)))
    results.append(own)


threads = [threading.Thread(target=predict) for _ in range(4)]
[t.start() for t in threads]
allowed = [np.array(model.forward(ids, splits, save=False).hidden(-1))]
for _ in range(40):
    made = model.forward(ids, splits)
    made.backward(hidden={4: np.ones((40, 64), np.float32)})
    moments.adamw(model.names(), 1e-2, 0.9, 0.999, 1e-8, 0.0)
    model.zero_grad()
    allowed.append(np.array(model.forward(ids, splits, save=False).hidden(-1)))
stop.set()
[t.join() for t in threads]
states = {a.tobytes() for a in allowed}
seen = [r for own in results for r in own]
assert len(seen) > 40
torn = sum(r.tobytes() not in states for r in seen)
assert torn == 0, f"{torn} of {len(seen)} predictions mix the weights of two steps"
print("ok")
"""

CANCEL = """
import gc, threading

import numpy as np

from govlm._native import core

model = core.Model({"vocab_size": 50, "hidden_size": 256, "num_layers": 8, "num_heads": 4, "intermediate_size": 1024, "max_positions": 512})
rng = np.random.default_rng(0)
for name in model.names():
    model.bind(name, rng.normal(0, 0.05, model.shape(name)).astype(np.float32))
few, splits = np.arange(40, dtype=np.int32) % 50, np.array([0, 40], np.int64)
many, rows = np.resize(few, 200 * 512), np.arange(201, dtype=np.int64) * 512  # some seconds, to be given up after some milliseconds
expected = np.array(model.forward(few, splits, save=False).hidden(-1))


def on_a_thread(work):
    found = []

    def caught():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=caught)
    thread.start()
    return thread, found


stop, inside = core.Cancel(), threading.Event()


def long():
    with stop:
        inside.set()
        return model.forward(many, rows, save=False)


thread, found = on_a_thread(long)
inside.wait()
threading.Event().wait(0.05)
stop.cancel()
thread.join()
assert isinstance(found[0], core.Cancelled) and not isinstance(found[0], Exception), found
assert stop.cancelled


def after():
    mine = core.Cancel()
    with mine:  # neither the thread nor the model keeps anything of it
        one = np.array(model.forward(few, splits, save=False).hidden(-1))
        inner = core.Cancel()
        inner.cancel()
        try:
            with inner:
                model.forward(few, splits, save=False)
        except core.Cancelled:
            return one, np.array(model.forward(few, splits, save=False).hidden(-1))


thread, found = on_a_thread(after)
thread.join()
assert all(np.array_equal(one, expected) for one in found[0])


def twice():
    mine = core.Cancel()
    with mine, mine:
        pass


thread, found = on_a_thread(twice)
thread.join()
assert isinstance(found[0], RuntimeError) and "already" in str(found[0])
try:
    with core.Cancel():
        raise AssertionError
except RuntimeError as error:
    assert "main thread" in str(error)


def dropped():  # entered and forgotten: its flag must outlive the call
    core.Cancel().__enter__()
    gc.collect()
    return np.array(model.forward(few, splits, save=False).hidden(-1))


thread, found = on_a_thread(dropped)
thread.join()
assert np.array_equal(found[0], expected)
print("ok")
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and done.stdout.strip() == "ok", (done.returncode, done.stderr[-2000:])


def test_predictions_while_weights_move_to_the_flat_buffer() -> None:
    run(REPLACE)


def test_predictions_see_whole_steps() -> None:
    run(STEP)


def test_a_call_is_given_up_by_another_thread() -> None:
    run(CANCEL)
