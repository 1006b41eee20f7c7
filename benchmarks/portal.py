"""The portal under load, on the cores that the load generator runs on as well.

    python benchmarks/portal.py [--data ../shared/data] [--seconds 10] [--rows start,chat,classify,stream,memory,kill]

chat: users of the sample hall who say one message after another, taken from the scripts of the tests. classify: BERT-base from a random
start, the same weights behind FastAPI + transformers and behind the portal, 16 users, one citizen message a request; answers are compared
first. Needs govlm[portal], psutil; for `classify` torch, transformers and the data. Prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from load import Client, percentile, share  # noqa: E402

ROWS = ("start", "chat", "classify", "stream", "memory", "kill")
P95 = 0.150  # seconds that a turn may take


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(command: list[str], port: int, **environment: str) -> Iterator[tuple[psutil.Process, float]]:
    """(the process, seconds until it was ready). Ended by its id."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if asyncio.run(Client("127.0.0.1", port).call("GET", "/readyz"))[0] == 200:
                    break
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError(f"{command[:4]}: did not begin")
            time.sleep(0.02)
        yield psutil.Process(process.pid), time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def portal(folder: Path, port: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "govlm", "serve", "--data", str(folder), "--port", str(port), *more]


def workers(process: psutil.Process) -> list[psutil.Process]:
    """The processes that answer: children of the supervisor, the process itself where it is alone."""
    found = []
    for child in process.children():
        with contextlib.suppress(psutil.Error):  # it was killed just now
            told = " ".join(child.cmdline())
            if "multiprocessing" in told and "resource_tracker" not in told:
                found.append(child)
    return found or [process]


def scripts() -> list[list[str]]:
    """The messages of the scripted conversations."""
    found = yaml.safe_load((HERE.parent / "tests/hall/dialogue.yaml").read_text("utf-8"))
    return [[turn["say"] for turn in script["turns"] if isinstance(turn.get("say"), str)] for script in found]


class User:
    """Talks through one script after another, each in a conversation of its own."""

    def __init__(self, port: int, number: int, talks: list[list[str]]) -> None:
        self.client, self.number, self.talks = Client("127.0.0.1", port), number, talks
        self.session, self.left, self.turn = "", [], 0
        self.times: list[float] = []
        self.accepted: list[tuple[str, str]] = []  # (session, key) of the turns that were answered
        self.refused = self.broken = 0

    async def step(self, _: int = 0) -> None:
        if not self.left:
            self.left = list(self.talks[self.number % len(self.talks)])
            self.number += 7
            status, body = await self.asked("/v1/sessions")
            if status != 201:
                self.left = []
                self.refused += 1
                return
            self.session = body["id"]
        self.turn += 1
        message = {"text": self.left[0], "key": f"{self.number}-{self.turn}"}
        began = time.perf_counter()
        status, _ = await self.asked(f"/v1/sessions/{self.session}/turns", message)
        if status == 200:
            self.times.append(time.perf_counter() - began)
            self.accepted.append((self.session, message["key"]))
            self.left.pop(0)
        else:
            self.refused += 1

    async def asked(self, path: str, message: Any = None) -> tuple[int, Any]:
        for _ in range(100):
            try:
                return await self.client.call("POST", path, message)
            except (OSError, asyncio.IncompleteReadError):  # its worker is gone: the same again, with its key
                self.broken += 1
                await asyncio.sleep(0.05)
        raise RuntimeError("nobody answers any more")


def users(port: int, count: int) -> list[User]:
    talks = scripts()
    return [User(port, number, talks) for number in range(count)]


def load(port: int, count: int, seconds: float) -> tuple[float, list[User]]:
    found = users(port, count)
    took = asyncio.run(share(count, seconds, lambda number: found[number].step()))
    return took, found


# ---------------------------------------------------------------------------------------------------------------------- rows


def start(folder: Path, seconds: float) -> list[str]:
    """As installed: pip compiles what it installs, so the modules of this folder are compiled before, too."""
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    times = []
    for place in ("warm", "start", "start"):
        port = free_port()
        began = time.perf_counter()
        with serving(portal(folder / place, port), port, **compiled):
            load(port, 1, 0.001)
            times.append(time.perf_counter() - began)
            time.sleep(4 if place == "warm" else 0)  # the later routes are compiled, too
    times = times[1:]
    return [f"| start to first answer, first time / after | {times[0]:.1f} / {times[1]:.1f} s | 5 / 2 s |"]


def chat(folder: Path, seconds: float) -> list[str]:
    lines, port = [], free_port()
    with serving(portal(folder / "chat", port, "--workers", "2"), port, OMP_NUM_THREADS="1") as (process, _):
        load(port, 4, 3)
        best = (0.0, 0, 0.0, 0.0)
        for count in (2, 4, 6, 8, 12, 16):
            took, found = load(port, count, seconds)
            times = [t for user in found for t in user.times]
            rate, p50, p95 = len(times) / took, percentile(times, 0.5), percentile(times, 0.95)
            print(f"  {count} users: {rate:.1f} turns/s, p50 {1e3 * p50:.0f} ms, p95 {1e3 * p95:.0f} ms", flush=True)
            if p95 <= P95 and rate > best[0]:
                best = rate, count, p50, p95
        memory = max(worker.memory_info().rss for worker in workers(process)) / 1e6
    lines.append(
        f"| chat turns/s at p95 <= 150 ms | {best[0]:.0f} ({best[1]} users, p50 {1e3 * best[2]:.0f}, p95 {1e3 * best[3]:.0f} ms) | 100 |"
    )
    return [*lines, f"| resident, a worker | {memory:.0f} MB | 350 MB |"]


def stream(folder: Path, seconds: float) -> list[str]:
    port, talks = free_port(), scripts()
    firsts: list[float] = []
    errors = 0

    async def one(number: int) -> None:
        """A person reads before writing again: a message every two seconds."""
        nonlocal errors
        client = Client("127.0.0.1", port)
        await asyncio.sleep(2 * number / 50)
        _, body = await client.call("POST", "/v1/sessions")
        for text in talks[number % len(talks)][: int(seconds)]:
            began = time.perf_counter()
            try:
                first = True
                async for _, after in client.events(f"/v1/sessions/{body['id']}/turns/stream", {"text": text}):
                    if first:
                        firsts.append(after)
                        first = False
            except (OSError, asyncio.IncompleteReadError):
                errors += 1
            await asyncio.sleep(max(0.0, 2 - (time.perf_counter() - began)))

    async def every() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    with serving(portal(folder / "chat", port, "--workers", "2"), port, OMP_NUM_THREADS="1"):
        load(port, 4, 2)
        asyncio.run(every())
    return [
        f"| 50 concurrent SSE users, a message every 2 s: errors; first event p50 / p95 | {errors}; {1e3 * percentile(firsts, 0.5):.0f} / "
        f"{1e3 * percentile(firsts, 0.95):.0f} ms | 0; 150 ms |"
    ]


def memory(folder: Path, seconds: float) -> list[str]:
    port = free_port()
    with serving(portal(folder / "chat", port), port) as (process, _):
        sizes = []
        for turns in (2000, 10_000):
            found = users(port, 8)

            async def until(found: list[User] = found, turns: int = turns) -> None:
                async def one(user: User) -> None:
                    while sum(len(other.times) for other in found) < turns:
                        await user.step()

                await asyncio.gather(*map(one, found))

            asyncio.run(until())
            sizes.append(process.memory_info().rss / 1e6)
    growth = 100 * (sizes[1] / sizes[0] - 1)
    return [f"| memory after 10,000 more turns | {growth:+.1f} % ({sizes[0]:.0f} to {sizes[1]:.0f} MB) | 1 % |"]


def kill(folder: Path, seconds: float) -> list[str]:
    """Each time a worker is killed that answers, and its replacement is waited for, while the others go on: at least 1,000 turns."""
    port = free_port()
    with serving(portal(folder / "chat", port, "--workers", "2"), port, OMP_NUM_THREADS="1") as (process, _):
        found = users(port, 8)
        done = asyncio.Event()

        async def answered(turns: int) -> None:
            while len(workers(process)) < 2 or sum(len(user.times) for user in found) < turns:
                await asyncio.sleep(0.1)

        async def murder() -> None:
            for part in range(1, 4):
                await answered(part * 250)
                oldest = workers(process)[0]
                oldest.kill()
                while oldest in workers(process):
                    await asyncio.sleep(0.1)
            await answered(1000)
            done.set()

        async def talk(user: User) -> None:
            while not done.is_set():
                await user.step()

        async def run() -> None:
            await asyncio.gather(murder(), *map(talk, found))

        asyncio.run(asyncio.wait_for(run(), 600))
        lost = turns = 0
        client = Client("127.0.0.1", port)

        async def count() -> None:
            nonlocal lost, turns
            for session in {session for user in found for session, _ in user.accepted}:
                wanted = sum(s == session for user in found for s, _ in user.accepted)
                status, body = await client.call("GET", f"/v1/sessions/{session}")
                turns += wanted
                lost += wanted - len(body["turns"]) if status == 200 else wanted

        asyncio.run(count())
    broken = sum(user.broken for user in found)
    return [
        f"| `kill -9` of a worker, three times under load | {lost} of {turns} accepted turns lost; {broken} requests sent again | 0 |"
    ]


def classify(folder: Path, seconds: float, data: Path) -> list[str]:
    import numpy as np
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from govlm import AutoTokenizer
    from govlm.train.quantise import quantise_folder

    made = folder / "bert"
    AutoTokenizer.from_pretrained("govlm-small-zh").save_pretrained(made)
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(vocab_size=8192, num_labels=16)).save_pretrained(made)
    quantise_folder(made, folder / "bert-int8")
    texts = citizen_texts(data)
    rates: dict[str, list[float]] = {}
    answers: dict[str, list[float]] = {}
    for _ in range(3):
        for name, model in (("transformers", ""), ("govlm f32", "f32"), ("govlm int8", "int8")):
            port = free_port()
            command = (
                portal(folder / "chat", port)
                if model
                else [sys.executable, str(HERE / "peers/transformers_server.py"), str(made), str(port)]
            )
            where = {"GOVLM_PORTAL_CLASSIFIERS": f"f32={made},int8={folder / 'bert-int8'}"}
            with serving(command, port, **where):
                answers[name] = asyncio.run(scores(port, texts[:32], model))
                rates.setdefault(name, []).append(asyncio.run(rate(port, texts, model, seconds)))
    assert np.allclose(answers["transformers"], answers["govlm f32"], atol=1e-4), "the answers differ"
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    peer = medians.pop("transformers")
    return [
        f"| classify, BERT-base, 16 users: {name} against FastAPI + transformers | {value:.0f} / {peer:.0f} requests/s = {value / peer:.1f}x | 6x |"
        for name, value in medians.items()
    ]


def citizen_texts(data: Path) -> list[str]:
    """The subjects of citizens' messages to a city's office."""
    with open(data / "gov/citizen_messages/labelled_sample_495.jsonl", encoding="utf-8") as handle:
        return [json.loads(line)["留言主题"].strip() for line in handle]


async def scores(port: int, texts: list[str], model: str) -> list[float]:
    client = Client("127.0.0.1", port)
    found = []
    for text in texts:
        _, body = await client.call("POST", "/v1/classify", {"texts": [text], **({"model": model} if model else {})})
        found.append(body["scores"][0] if not model else body["results"][0]["score"])
    return found


async def rate(port: int, texts: list[str], model: str, seconds: float) -> float:
    clients = [Client("127.0.0.1", port) for _ in range(16)]
    done = 0

    async def one(number: int) -> None:
        nonlocal done
        text = texts[(done * 31 + number) % len(texts)]
        status, _ = await clients[number].call("POST", "/v1/classify", {"texts": [text], **({"model": model} if model else {})})
        assert status == 200, status
        done += 1

    await share(16, 2, one)
    done = 0
    took = await share(16, seconds, one)
    return done / took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared/data")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rows", default=",".join(ROWS))
    arguments = parser.parse_args()
    lines = ["| what | measured | reach |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in arguments.rows.split(","):
            run: Any = globals()[row]
            lines += run(folder, arguments.seconds, *([arguments.data] if row == "classify" else []))
            print(json.dumps(lines[-1], ensure_ascii=False), flush=True)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
