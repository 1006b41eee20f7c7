"""The benchmark harness on tiny models: exactness is checked before timing and a wrong side is not timed. No times are asserted."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("benchmarks/ is not part of an installed package", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks import resident, run, runner, sharing, workloads  # noqa: E402
from benchmarks.peers.base import Case, Peer, sort_into_batches  # noqa: E402
from benchmarks.peers.govlm_models import GovlmPeer  # noqa: E402
from govlm.bundled import model_folder  # noqa: E402

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))


class WrongLogits(GovlmPeer):
    """govlm with one logit moved by a thousandth."""

    name = "wrong_logits"

    def logits(self, batch):
        out = super().logits(batch)
        out[-1, -1] += 1e-3
        return out


class WrongLosses(GovlmPeer):
    """govlm whose second step forgets to learn."""

    name = "wrong_losses"

    def losses(self, steps):
        first, *rest = super().losses(steps)
        return [first, *(value + 0.01 for value in rest)]


class Dies(Peer):
    """A peer whose process ends while it loads."""

    def load(self, case, batches):
        os._exit(3)


def here(name: str) -> str:
    return f"tests.test_benchmarks:{name}"


def tiny_case(folder: Path, train: bool, batches: int = 2) -> tuple[Case, workloads.Batches]:
    model = workloads.write_model(folder / "tiny", workloads.TINY)
    data = workloads.make_batches("ragged", batches, 3, workloads.TINY.labels, length=17, vocab=workloads.TINY.vocab)
    data.save(folder / "batches.npz")
    return Case("tiny", str(model), str(folder / "batches.npz"), train, dropout=train, threads=1), data


@pytest.mark.parametrize("train", [False, True])
def test_wrong_sides_are_not_timed(tmp_path, train):
    case, _ = tiny_case(tmp_path, train)
    names = ["govlm", here("WrongLogits"), here("Dies"), here("Missing"), *([here("WrongLosses")] if train else [])]
    results = {r.name: r for r in runner.compare(case, names, runner.Plan(rounds=2, repeat=2))}
    good = results["govlm"]
    assert not good.note and set(good.seconds) == {0, 1} and all(len(s) == 4 and min(s) > 0 for s in good.seconds.values())
    assert good.total() == pytest.approx(sum(np.median(s) for s in good.seconds.values()))
    assert good.peak_bytes and good.peak_bytes > 1_000_000
    wrong = results[here("WrongLogits")]
    assert not wrong.seconds and "logits differ by 0.001" in wrong.note
    assert "died (exit status 3)" in results[here("Dies")].note
    assert "Missing" in results[here("Missing")].note
    if train:
        assert not results[here("WrongLosses")].seconds and "losses differ by 0.01" in results[here("WrongLosses")].note


@pytest.mark.skipif(not HAS_TORCH, reason="torch and transformers are not installed")
@pytest.mark.parametrize("train", [False, True])
def test_govlm_equals_torch(tmp_path, train):
    case, _ = tiny_case(tmp_path, train)
    names = ["torch", "govlm", *(["torch_sorted"] if train else [])]
    for result in runner.compare(case, names, runner.Plan(rounds=1, tolerance=1e-5)):
        assert not result.note, f"{result.name}: {result.note}"
        assert set(result.seconds) == {0, 1}


@pytest.mark.skipif(
    not HAS_TORCH or not all(importlib.util.find_spec(n) for n in ("onnx", "onnxruntime", "openvino")),
    reason="torch, transformers, onnx, onnxruntime or openvino is not installed",
)
def test_exported_peers_equal_govlm(tmp_path):
    case, _ = tiny_case(tmp_path, False)
    for result in runner.compare(case, ["govlm", "onnxruntime", "openvino"], runner.Plan(rounds=1, tolerance=1e-5)):
        assert not result.note, f"{result.name}: {result.note}"
    # they do not train, and say so
    training, _ = tiny_case(tmp_path, True)
    notes = {r.name: r.note for r in runner.compare(training, ["onnxruntime", "openvino"], runner.Plan(rounds=1))}
    assert notes == {"onnxruntime": "onnxruntime: inference only", "openvino": "openvino: inference only"}


def test_batches_survive_the_file_and_the_sorting(tmp_path):
    _, data = tiny_case(tmp_path, False, batches=3)
    loaded = workloads.Batches.load(tmp_path / "batches.npz")
    for a, b in zip(data.rows, loaded.rows, strict=True):
        assert [x.tolist() for x in a] == [x.tolist() for x in b]
    assert [x.tolist() for x in data.labels] == [x.tolist() for x in loaded.labels]
    ordered = sort_into_batches(data)
    flat = [r for b in ordered.rows for r in b]
    assert [len(r) for r in flat] == sorted(len(r) for b in data.rows for r in b)

    def pairs(batches: workloads.Batches) -> list[tuple[list[int], int]]:
        return sorted(
            (r.tolist(), int(y))
            for rows, ys in zip(batches.rows, batches.labels, strict=True)
            for r, y in zip(rows, ys, strict=True)
        )

    assert pairs(ordered) == pairs(data)


def test_padding():
    ids, mask = workloads.pad([np.array([5, 6, 7]), np.array([8])], 4)
    assert ids.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]] and mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert workloads.pad([np.array([5, 6, 7])])[0].shape == (1, 3)


def test_flops_are_those_of_the_products():
    shape, lengths = workloads.TINY, np.array([3, 5, 1])
    h, f = shape.hidden, shape.ffn
    want = 0
    for n in map(int, lengths):
        for layer in range(shape.layers):
            rows = 1 if layer == shape.layers - 1 else n
            want += 2 * n * h * h * 2  # keys and values of all tokens
            want += 2 * rows * h * h * 2 + 2 * rows * h * f * 2  # query, output, both sides of the feed-forward part
            want += 2 * rows * n * h * 2  # scores and their product with the values
        want += 2 * h * h + 2 * h * shape.labels
    assert shape.forward_flops(lengths) == want
    assert shape.train_flops(lengths) == 3 * want


def test_synthetic_lengths_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(workloads, "DATA", tmp_path)
    for kind in ("tnews", "laws", "listing"):
        batches = workloads.make_batches(kind, 1, 2, 2)
        assert "SYNTHETIC" in batches.source and len(batches.rows[0]) == 2


def test_the_capped_environment():
    env = runner.environment(2, "avx2")
    assert env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == env["GOVLM_NUM_THREADS"] == "2"
    assert env["GOVLM_MAX_ISA"] == "avx2" and env["ONEDNN_MAX_CPU_ISA"] == "AVX2" and env["ATEN_CPU_CAPABILITY"] == "avx2"


def test_the_table(tmp_path, monkeypatch):
    row = run.Row(
        "tiny", "tiny", "tiny", "ragged", 3, "tokens/s", "2x", (here("WrongLogits"),), length=9, batches=2, rounds=1, labels=3
    )
    monkeypatch.setattr(run, "ROWS", (row,))
    status = run.main(["--only", "tiny", "--threads", "1", "--out", str(tmp_path / "t.md"), "--json", str(tmp_path / "t.json")])
    table = (tmp_path / "t.md").read_text()
    assert (
        status == 0
        and "| govlm |" in table
        and "not exact" in table
        and "GFLOP/s" in table
        and (tmp_path / "t.json").stat().st_size > 500
    )


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/PID/smaps")
def test_processes_share_the_mapped_weights(tmp_path):
    result = sharing.measure(workloads.write_model(tmp_path / "tiny", workloads.TINY), 3)
    assert result["same_answers"] and result["file_rss"] > 0
    assert result["file_private"] == 0  # every resident page of the file is shared with the others


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_small_request_takes_little_memory():
    """Each of its workspaces took a page of 2 MB, and oneDNN was started that it has no use for: 18 MB in place of 6 beside the
    weights, which are mapped."""
    (_, loaded), (_, once), (_, again) = resident.measure("govlm-small-zh", "last_hidden_state", [(1, 16), (1, 17)])
    weights = sum(f.stat().st_size for f in model_folder("govlm-small-zh").glob("*.safetensors"))
    assert once - loaded < weights + 10e6
    assert again - once < 2e6
