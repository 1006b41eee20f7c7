"""Data parallel training under mpirun: K ranks give the curve of one, and a rank that dies takes the job down in good order."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_requests import CONFIG, rows, write_rows
from test_pretrain import losses
from tiny_corpus import config, write_corpus

import govlm
from govlm.train.distributed import check_ranks, find_ranks
from govlm.train.loop import OneRank, TrainError

pytest.importorskip("mpi4py", reason='MPI tests need mpi4py and mpirun: pip install "govlm[mpi]"')
MPIRUN = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
if MPIRUN is None:
    pytest.skip('MPI tests need mpirun: pip install "govlm[mpi]"', allow_module_level=True)

ENVIRONMENT = {
    **os.environ,
    "GOVLM_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",  # containers run the tests as root
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


def start(ranks, folder, *command):
    arguments = [MPIRUN, "-n", str(ranks), "--oversubscribe", sys.executable, *command]
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """(exit code, stdout, stderr); a job that hangs is killed, and the test fails."""
    try:
        out, err = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, out, err


def pretrain(ranks, work, out, *extra, **changes):
    (work / f"{out}.json").write_text(json.dumps(config(work, out, **{"steps": 25, **changes})))
    return start(ranks, work, "-m", "govlm", "pretrain", "--config", f"{out}.json", "--json", *extra)


@pytest.fixture
def work(tmp_path):
    write_corpus(tmp_path / "corpus")
    return tmp_path


def alone(work, out, *extra, **changes):
    """The same run in one process without mpirun."""
    (work / f"{out}.json").write_text(json.dumps(config(work, out, **{"steps": 25, **changes})))
    command = [sys.executable, "-m", "govlm", "pretrain", "--config", f"{out}.json", "--json", *extra]
    environment = {**os.environ, "GOVLM_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=True).stdout)


def curve(folder):
    return np.array([x[1:] for x in losses(folder)])


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_give_the_curve_of_one(work, ranks):
    """Dropout is on; 8 sequences do not divide by 3; the held-out set is shared too."""
    one = alone(work, "one")
    code, out, err = finish(pretrain(ranks, work, "many"))
    assert code == 0, err
    many = json.loads(out)
    np.testing.assert_allclose(curve(work / "many"), curve(work / "one"), rtol=1e-4)
    assert many["tokens"] == one["tokens"] and many["steps"] == one["steps"]
    for a, b in zip(many["history"], one["history"], strict=True):
        assert a["step"] == b["step"] and a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    a, b = (govlm.load_file(work / name / "model.safetensors") for name in ("many", "one"))
    for name in a:
        if name.endswith("key.bias"):  # its gradient is 0 but for rounding (softmax), and Adam divides by the gradient's size
            continue
        assert np.abs(a[name] - b[name]).mean() < 1e-4


def test_accumulation_and_replaced_tokens_on_two_ranks(work):
    alone(work, "one", objective="rtd", steps=6)
    code, _, err = finish(pretrain(2, work, "two", objective="rtd", steps=6, accumulate=2))
    assert code == 0, err
    np.testing.assert_allclose(curve(work / "two")[:2], curve(work / "one")[:2], rtol=1e-4)
    np.testing.assert_allclose(curve(work / "two")[:, 0], curve(work / "one")[:, 0], rtol=0.1)


def test_ranks_agree_on_the_steps_that_fit_the_minutes(work):
    code, out, err = finish(pretrain(2, work, "out", steps=0, minutes=0.02))
    assert code == 0, err
    result = json.loads(out)
    assert result["steps"] >= 1 and len(losses(work / "out")) == result["steps"] and result["all_reduce_s"] > 0


def test_more_ranks_than_sequences(work):
    code, out, err = finish(pretrain(3, work, "out", batch_size=2))
    assert code != 0 and out == ""
    assert "govlm: error: rank 0 of 3: 3 ranks, but a batch has 2 sequences: start at most 2 ranks" in err
    assert err.count("govlm: error:") == 1 and "Traceback" not in err and not (work / "out").exists()


def children(pid):
    """The processes below `pid`, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_the_job_and_the_checkpoint_is_good(work, victim):
    straight = alone(work, "straight", steps=60, save_steps=3)
    process = pretrain(2, work, "out", steps=60, save_steps=3)
    log, deadline = work / "out" / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 8):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    ranks = []
    for pid in children(process.pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        ranks += [pid] if f"OMPI_COMM_WORLD_RANK={victim}".encode() in environment else []
    assert len(ranks) == 1
    os.kill(ranks[0], signal.SIGKILL)
    code, out, _ = finish(process)
    assert code != 0 and out == "" and not children(process.pid)
    assert not list((work / "out" / "checkpoints").glob("step-*/tmp*"))
    result = alone(work, "out", "--resume", steps=60, save_steps=3)  # on one rank: the checkpoint does not care
    assert result["steps"] == 60
    np.testing.assert_allclose(curve(work / "out")[:, 0], curve(work / "straight")[:, 0], rtol=1e-3)
    assert result["loss"] == pytest.approx(straight["loss"], rel=1e-3)


def test_a_rank_that_fails_ends_the_job(tmp_path):
    code = (
        "from govlm.train.distributed import find_ranks, guarded\n"
        "ranks = find_ranks()\n"
        "with guarded(ranks):\n"
        "    if ranks.rank == 1:\n"
        "        raise ValueError('the reason\\nin two lines')\n"
        "    ranks.sum([1.0])\n"  # the other one waits for it
    )
    status, _, err = finish(start(2, tmp_path, "-c", code))
    assert status != 0 and "govlm: error: rank 1 of 2: the reason in two lines" in err


def finetune(work, out, ranks=0, *extra):
    arguments = ["-m", "govlm", "finetune", "--train", "train.jsonl", "--dev", "dev.jsonl", "--model", "config.json"]
    options = ["--out", out, "--epochs", "3", "--batch-size", "4", "--lr", "3e-3", "--seed", "1", "--json", *extra]
    if ranks:
        return finish(start(ranks, work, *arguments, *options))
    done = subprocess.run([sys.executable, *arguments, *options], cwd=work, capture_output=True, text=True, check=True)
    return 0, done.stdout, done.stderr


def test_finetuning_takes_the_same_path(tmp_path):
    """The last batch has one row: a rank has none."""
    write_rows(tmp_path / "train.jsonl", rows()[:41])
    write_rows(tmp_path / "dev.jsonl", rows()[42:])
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    characters = sorted({c for text, _ in rows() for c in text})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]) + "\n")
    for extra in ([], ["--accumulate", "2", "--class-weights", "balanced"]):
        name = "weighted" if extra else "plain"
        one = json.loads(finetune(tmp_path, f"{name}-one", 0, *extra)[1])
        code, out, err = finetune(tmp_path, f"{name}-two", 2, *extra)
        assert code == 0, err
        two = json.loads(out)
        np.testing.assert_allclose(curve(tmp_path / f"{name}-two"), curve(tmp_path / f"{name}-one"), rtol=1e-4)
        assert two["tokens"] == one["tokens"] and two["best"]["epoch"] == one["best"]["epoch"]
        assert two["best"]["report"]["loss"] == pytest.approx(one["best"]["report"]["loss"], rel=1e-4)


def test_alone_there_is_one_rank_and_a_missing_extra_is_named(monkeypatch):
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(find_ranks(), OneRank)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert isinstance(find_ranks(), OneRank)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(TrainError, match=r'pip install "govlm\[mpi\]"'):
        find_ranks()
    check_ranks(OneRank(), 1, "rows")
