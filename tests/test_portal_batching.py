"""Requests in flight share passes of a model; what one gets does not depend on the others."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

from govlm._native import core
from govlm.models import AutoModel
from govlm.portal.batching import Batcher, Ready
from govlm.portal.errors import PortalError
from govlm.portal.gate import Gate
from govlm.portal.models import Embedder

WAIT = 20  # seconds after which a test that hangs fails


class Counted:
    """A lane that notes its passes: sizes, and how many tokens each had. gate: a pass waits until it is set."""

    def __init__(self, slow: float = 0.0) -> None:
        self.passes: list[list[Any]] = []
        self.slow = slow
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def prepare(self, texts: Sequence[str]) -> list[Ready]:
        return [Ready(len(text), text) for text in texts]

    def work(self, ready: Sequence[Ready]) -> list[str]:
        self.begun.set()
        self.gate.wait(WAIT)
        self.passes.append([entry.data for entry in ready])
        time.sleep(self.slow * sum(entry.tokens for entry in ready))
        if any("bad" in entry.data for entry in ready):
            raise ValueError("bad")
        return [entry.data.upper() for entry in ready]


def run(work: Any) -> Any:
    return asyncio.run(asyncio.wait_for(work, WAIT))


def test_requests_in_flight_share_a_pass() -> None:
    lane, batcher = Counted(), Batcher(latency=0.5, queue=100, tokens=40)

    async def all_of_them() -> list[list[str]]:
        return await asyncio.gather(*(batcher.run(lane, lane.prepare([f"text{n}", "x"])) for n in range(8)))

    found = run(all_of_them())
    assert found == [[f"TEXT{n}", "X"] for n in range(8)]
    assert len(lane.passes) <= 3 and all(sum(map(len, texts)) <= 40 for texts in lane.passes)  # 48 tokens
    batcher.close()


def test_a_large_request_takes_turns_with_small_ones() -> None:
    lane, batcher = Counted(), Batcher(latency=0.0, queue=100, tokens=10)
    lane.gate.clear()

    async def both() -> None:
        large = asyncio.create_task(batcher.run(lane, lane.prepare(["0123456789"] * 20)))
        await asyncio.to_thread(lane.begun.wait, WAIT)
        small = asyncio.create_task(batcher.run(lane, lane.prepare(["small"])))
        await asyncio.sleep(0)
        lane.gate.set()
        assert await small == ["SMALL"] and not large.done()
        assert await large == ["0123456789"] * 20

    run(both())
    assert lane.passes.index(["small"]) <= 2  # of 21
    batcher.close()


def test_who_gives_up_is_dropped_before_the_pass() -> None:
    lane, batcher = Counted(), Batcher(latency=0.0, queue=100, tokens=10)
    lane.gate.clear()

    async def give_up() -> None:
        first = asyncio.create_task(batcher.run(lane, lane.prepare(["first"])))
        await asyncio.to_thread(lane.begun.wait, WAIT)
        second = asyncio.create_task(batcher.run(lane, lane.prepare(["second"] * 50)))
        third = asyncio.create_task(batcher.run(lane, lane.prepare(["third"])))
        await asyncio.sleep(0)
        assert batcher.waiting == 3
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        lane.gate.set()
        assert await first == ["FIRST"] and await third == ["THIRD"]

    run(give_up())
    assert lane.passes == [["first"], ["third"]] and batcher.waiting == 0
    batcher.close()


def test_a_full_queue_refuses_at_once() -> None:
    lane, batcher = Counted(), Batcher(latency=0.0, queue=2, tokens=10)
    lane.gate.clear()

    async def overrun() -> None:
        tasks = [asyncio.create_task(batcher.run(lane, lane.prepare(["a"]))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(PortalError) as error:
            await batcher.run(lane, lane.prepare(["b"]))
        assert error.value.code == "busy" and error.value.retry_after > 0
        lane.gate.set()
        assert await asyncio.gather(*tasks) == [["A"], ["A"]]

    run(overrun())
    batcher.close()


def test_a_slow_model_gets_smaller_passes() -> None:
    lane, batcher = Counted(slow=0.0005), Batcher(latency=0.0, queue=10, tokens=2048, seconds=0.05)

    async def some() -> None:
        await batcher.run(lane, lane.prepare(["x" * 50]))  # it is learnt that 100 tokens take 50 ms
        await batcher.run(lane, lane.prepare(["x" * 50] * 10))

    run(some())
    assert all(len(texts) <= 2 for texts in lane.passes)
    batcher.close()


def test_a_failure_is_its_own_requests_alone() -> None:
    lane, batcher = Counted(), Batcher(latency=0.3, queue=10, tokens=100)

    async def some() -> list[Any]:
        runs = (batcher.run(lane, lane.prepare([text])) for text in ("good", "bad", "fine"))
        return await asyncio.gather(*runs, return_exceptions=True)

    good, bad, fine = run(some())
    assert good == ["GOOD"] and isinstance(bad, ValueError) and fine == ["FINE"]
    assert run(batcher.run(lane, lane.prepare(["again"]))) == ["AGAIN"]  # it goes on
    batcher.close()
    with pytest.raises(PortalError):
        run(batcher.run(lane, lane.prepare(["late"])))


def test_the_result_is_that_of_the_call_alone() -> None:
    encoder = AutoModel.from_pretrained("govlm-small-zh", add_pooling_layer=False)
    lane, batcher = Embedder(lambda: encoder), Batcher(latency=0.05, queue=64)
    texts = ["身份证丢了怎么补", "", "我" * 700, "低保", "退休金咋个领\x00", "medical insurance 报销！"] * 3

    async def together() -> list[Any]:
        runs = (batcher.run(lane, lane.prepare([text])) for text in texts)
        return [row for rows in await asyncio.gather(*runs) for row in rows]

    found = np.stack(run(together()))
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(found - alone).max() <= 1e-5
    batcher.close()


def test_a_full_gate_refuses_at_once_and_takes_again() -> None:
    hold = threading.Event()

    async def overrun() -> None:
        gate = Gate(threads=1, queue=2)
        tasks = [asyncio.create_task(gate.run(hold.wait, WAIT)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(PortalError) as error:
            await gate.run(hold.wait, WAIT)
        assert error.value.code == "busy" and error.value.retry_after > 0
        hold.set()
        assert await asyncio.gather(*tasks) == [True] * 3 and await gate.run(int, "1") == 1
        gate.close()

    run(overrun())


def test_work_whose_client_left_while_it_waited_never_begins() -> None:
    begun: list[int] = []
    hold = threading.Event()

    def slow(number: int) -> int:
        begun.append(number)
        hold.wait(WAIT)
        return number

    async def leave() -> None:
        gate = Gate(threads=1, queue=10)
        first = asyncio.create_task(gate.run(slow, 1))
        while not begun:
            await asyncio.sleep(0.01)
        second, third = asyncio.create_task(gate.run(slow, 2)), asyncio.create_task(gate.run(slow, 3))
        await asyncio.sleep(0)
        second.cancel()
        hold.set()
        assert await first == 1 and await third == 3
        assert second.cancelled() and gate.waiting == 0
        gate.close()

    run(leave())
    assert begun == [1, 3]


class Long:
    """A lane whose pass is one call of a model that takes seconds. ended: how each pass ended."""

    def __init__(self) -> None:
        self.model = core.Model(
            {
                "vocab_size": 50,
                "hidden_size": 256,
                "num_layers": 8,
                "num_heads": 4,
                "intermediate_size": 1024,
                "max_positions": 512,
            }
        )
        for name in self.model.names():
            self.model.bind(name, np.full(self.model.shape(name), 0.01, np.float32))
        self.begun = threading.Event()
        self.ended: list[str] = []

    def prepare(self, texts: Sequence[str]) -> list[Ready]:
        return [Ready(len(text), text) for text in texts]

    def work(self, ready: Sequence[Ready] = ()) -> list[str]:
        ids, splits = np.zeros(200 * 512, np.int32), np.arange(201, dtype=np.int64) * 512
        self.begun.set()
        try:
            self.model.forward(ids, splits, save=False)
        except core.Cancelled:
            self.ended.append("given up")
            raise
        self.ended.append("through")
        return [entry.data for entry in ready]


def test_a_pass_that_nobody_waits_for_is_given_up() -> None:
    lane, batcher, short = Long(), Batcher(latency=0.0, queue=10), Counted()

    async def leave() -> list[str]:
        both = [asyncio.create_task(batcher.run(lane, lane.prepare(["a"]))) for _ in range(2)]
        await asyncio.to_thread(lane.begun.wait, WAIT)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        return await batcher.run(short, short.prepare(["next"]))

    assert run(leave()) == ["NEXT"]
    assert lane.ended and set(lane.ended) == {"given up"}
    batcher.close()


def test_work_whose_client_left_stops_within_the_model() -> None:
    lane = Long()
    heard: list[Any] = []

    async def leave() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        gate = Gate(threads=1, queue=10)
        task = asyncio.create_task(gate.run(lane.work))
        await asyncio.to_thread(lane.begun.wait, WAIT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found = await gate.run(int, "7")  # the one thread is free again
        gate.close()
        return found

    assert run(leave()) == 7
    gc.collect()
    assert lane.ended == ["given up"] and not heard
