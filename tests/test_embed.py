"""Contrastive embeddings: losses and gradients, chunks, resume, evaluation, the two commands."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import govlm
from govlm.data import DataError
from govlm.train.embed import EmbedOptions, EmbedTrainer, Evaluation, embed_encoded, embed_train, pooled_pass
from govlm.train.loop import TrainError
from govlm.train.losses import GradientLoss, info_nce, product
from govlm.train.pairs import Pairs, Queries, ScoredPairs, read_pairs, read_scored, read_texts
from govlm.train.similarity import average_ranks, retrieval_report, spearman
from govlm.train.source import load_encoder

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
CONFIG = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 32, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
THINGS = [
    "身份证",
    "居住证",
    "驾驶证",
    "护照",
    "社保卡",
    "医保卡",
    "结婚证",
    "房产证",
    "出生证",
    "学生证",
    "营业执照",
    "公积金",
]
WAYS = [
    ("{}丢了怎么补办", "{}补领"),
    ("想问一下{}在哪里办", "{}办理"),
    ("我的{}过期了", "{}换发"),
    ("查一下{}的进度", "{}查询"),
]
PAIRS = [(q.format(t), a.format(t), []) for t in THINGS for q, a in WAYS]


@pytest.fixture
def work(tmp_path):
    """A folder with config.json and vocab.txt."""
    characters = sorted({c for a, b, _ in PAIRS for c in a + b})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]) + "\n", "utf-8")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def encoder(work):
    return load_encoder(work / "config.json", seed=3)


def numeric(f, x, places, step=1e-5):
    """Central differences of f at some places of x."""
    out = []
    for place in places:
        there = x[place]
        x[place] = there + step
        above = f()
        x[place] = there - step
        out.append((above - f()) / (2 * step))
        x[place] = there
    return np.array(out)


# -------------------------------------------------------------------- the loss


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("negatives", [0, 3])
@pytest.mark.parametrize("masked", [True, False])
def test_info_nce_gradient_by_finite_differences(symmetric, negatives, masked):
    r = np.random.default_rng(0)
    left, right, bad = (r.standard_normal((n, 7)) for n in (5, 5, negatives))
    allowed = r.random((5, 5 + negatives)) < 0.7 if masked else None
    call = lambda: info_nce(left, right, bad, allowed, 0.3, symmetric)  # noqa: E731
    for array, gradient in zip((left, right, bad), call()[1:], strict=True):
        places = [tuple(p) for p in np.argwhere(np.ones_like(array))]
        np.testing.assert_allclose(numeric(lambda: call()[0], array, places), gradient.reshape(-1), atol=1e-8)


def test_info_nce_against_torch():
    torch = pytest.importorskip("torch")
    r = np.random.default_rng(1)
    arrays = [r.standard_normal((n, 16)) for n in (6, 6, 4)]
    u, v, n = (torch.tensor(a, requires_grad=True) for a in arrays)
    cosine = torch.nn.functional.cosine_similarity
    rows = cosine(u[:, None], torch.cat([v, n])[None], dim=-1) / 0.05
    own = torch.arange(6)
    ce = torch.nn.functional.cross_entropy
    loss = (ce(rows, own) + ce(rows[:, :6].T, own)) / 2
    loss.backward()
    value, *gradients = info_nce(*arrays, None, 0.05, True)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for ours, theirs in zip(gradients, (u, v, n), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-12)


def test_what_is_not_allowed_does_not_count():
    """Masking a candidate is the same as not having it; a row of which nothing is left has no loss."""
    r = np.random.default_rng(2)
    left, right, bad = (r.standard_normal((n, 8)) for n in (4, 4, 2))
    allowed = np.ones((4, 6), bool)
    allowed[:, 5] = False
    whole = info_nce(left, right, bad[:1], None, 0.1, False)
    masked = info_nce(left, right, bad, allowed, 0.1, False)
    assert masked[0] == pytest.approx(whole[0], rel=1e-13)
    np.testing.assert_allclose(masked[1], whole[1], atol=1e-13)
    assert not masked[3][1].any()
    assert info_nce(left, right, bad, np.zeros((4, 6), bool))[0] == pytest.approx(0.0, abs=1e-15)


def test_product_is_a_product_of_any_size():
    r = np.random.default_rng(3)
    for shape in ((1, 1, 1), (65, 130, 70), (200, 3, 129)):
        a, b = r.standard_normal(shape[:2]), r.standard_normal(shape[1:])
        np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-12, atol=1e-12)


def test_a_loss_scales_its_gradient():
    sent = []
    ((GradientLoss(3.0, sent.append) * 0.5) / 4).backward()
    assert sent == [0.125] and (2 * GradientLoss(3.0, sent.append)).item() == 6.0


# -------------------------------------------------------------------- through the core


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_gradient_through_the_core(encoder, pooling):
    """Directional derivative of a loss of the pooled vectors along random directions of all parameters."""
    model, tokenizer = encoder
    texts = Pairs.encode(model, tokenizer, PAIRS[:6]).texts.take(range(8))
    weight = np.random.default_rng(4).standard_normal((8, 32))
    model.train()
    model.core.make_trainable()

    def loss():
        vectors, send = pooled_pass(model, texts, pooling, save=True, seed=5, step=1)
        return float((vectors.astype(np.float64) * weight).sum()), send

    value, send = loss()
    send(weight)
    gradients = {name: np.array(p.grad, np.float64) for name, p in model.named_parameters() if p.grad is not None}
    assert "encoder.layer.1.output.dense.weight" in gradients
    r = np.random.default_rng(6)
    direction = {name: r.standard_normal(g.shape) for name, g in gradients.items()}
    slope = sum(float((g * direction[name]).sum()) for name, g in gradients.items())
    parameters = dict(model.named_parameters())
    start = {name: np.array(parameters[name].data) for name in gradients}
    ends = []
    for sign in (1, -1):
        for name in gradients:
            parameters[name].data[...] = start[name] + sign * 1e-3 * direction[name]
        ends.append(loss()[0])
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(slope, rel=2e-2)
    assert value == pytest.approx((ends[0] + ends[1]) / 2, rel=0.05, abs=0.5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooled_vectors_are_those_of_encode(encoder, pooling):
    model, tokenizer = encoder
    texts = [a for a, _, _ in PAIRS]
    ours = embed_encoded(model, Pairs.same(model, tokenizer, texts).texts, pooling, max_tokens=64)
    np.testing.assert_allclose(ours, model.encode(texts, tokenizer, pooling), atol=1e-6)


def steps_of(model, tokenizer, data, **options):
    defaults = {"epochs": 2, "batch_size": 16, "lr": 1e-3, "seed": 7}
    trainer = EmbedTrainer(model, tokenizer, data, options=EmbedOptions(**{**defaults, **options}), progress=False)
    return [trainer._step() for _ in range(trainer.total_steps)]


@pytest.mark.parametrize("symmetric", [True, False])
def test_chunks_do_not_change_the_loss(work, symmetric):
    """Gradient caching is exact, with dropout on, hard negatives and a last chunk that is short."""
    records = []
    for chunk in (0, 7, 1):
        model, tokenizer = load_encoder(work / "config.json", seed=3)
        data = Pairs.encode(model, tokenizer, [(a, b, [PAIRS[i - 1][1]]) for i, (a, b, _) in enumerate(PAIRS)])
        records.append(steps_of(model, tokenizer, data, chunk_size=chunk, symmetric=symmetric))
    for other in records[1:]:
        for a, b in zip(records[0], other, strict=True):
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
            assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
            assert a["tokens"] == b["tokens"] > 0


def test_threads_do_not_change_a_bit(work):
    before = govlm.num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            govlm.set_num_threads(threads)
            model, tokenizer = load_encoder(work / "config.json", seed=3)
            found.append(steps_of(model, tokenizer, Pairs.encode(model, tokenizer, PAIRS)))
    finally:
        govlm.set_num_threads(before)
    assert found[0] == found[1] == found[2]


class TwoRanks:
    """Two ranks in one process, as threads that meet at every sum."""

    def __init__(self):
        import threading

        self.size, self.barrier, self.box = 2, threading.Barrier(2, timeout=60), [None, None]

    def rank(self, number):
        outer = self

        class Rank:
            rank, size = number, 2

            def exchange(self, value):
                outer.box[number] = value
                outer.barrier.wait()
                both = [np.asarray(v) for v in outer.box]
                outer.barrier.wait()
                return both[0] + both[1]

            def sum(self, values):
                return self.exchange(np.array(values, np.float64)).tolist()

            def sum_gradients(self, model):
                flat = model.core.flat_gradient()
                flat[...] = self.exchange(np.array(flat))

        return Rank()


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_two_ranks_learn_as_one(work, weight):
    import threading

    def trainer(ranks=None):  # made one after the other: the start is drawn from the global generator
        model, tokenizer = load_encoder(work / "config.json", seed=3, masked=weight > 0)
        options = EmbedOptions(epochs=1, batch_size=16, chunk_size=8, lr=1e-3, seed=7, mlm_weight=weight)
        data = Pairs.encode(model, tokenizer, PAIRS)
        return EmbedTrainer(model, tokenizer, data, options=options, progress=False, ranks=ranks)

    def run(trainer):
        return [trainer._step() for _ in range(trainer.total_steps)]

    world, results = TwoRanks(), {}
    alone, trainers = run(trainer()), [trainer(world.rank(r)) for r in (0, 1)]
    threads = [threading.Thread(target=lambda r=r: results.__setitem__(r, run(trainers[r]))) for r in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for record, one, two in zip(alone, results[0], results[1], strict=True):
        assert one["loss"] == two["loss"] == pytest.approx(record["loss"], rel=1e-4)
        assert one["tokens"] == record["tokens"]


def test_simcse_uses_two_dropouts_of_a_text(encoder):
    """Without dropout both sides are the same vector and only the other texts matter; with it the sides differ."""
    model, tokenizer = encoder
    data = Pairs.same(model, tokenizer, [a for a, _, _ in PAIRS] * 2)
    assert len(data) == len(PAIRS)
    texts = data.texts.take([0, 0])
    with_dropout = pooled_pass(model, texts, "cls", save=False, samples=np.array([0, 1], np.uint32))[0]
    again = pooled_pass(model, texts, "cls", save=False, samples=np.array([1, 0], np.uint32))[0]
    assert not np.allclose(with_dropout[0], with_dropout[1], atol=1e-3)
    np.testing.assert_allclose(with_dropout, again[::-1], atol=1e-5)
    records = steps_of(model, tokenizer, data, epochs=6, lr=3e-3, pooling="cls")
    assert records[-1]["loss"] < records[0]["loss"]


def test_a_masked_lm_loss_beside_keeps_the_head(work):
    """The masked-LM loss falls with its weight, and the folder holds a masked language model that can embed."""
    model, tokenizer = load_encoder(work / "config.json", seed=3, masked=True)
    data = Pairs.encode(model, tokenizer, PAIRS)
    with pytest.raises(TrainError, match="mlm_weight needs a masked language model"):
        EmbedTrainer(
            load_encoder(work / "config.json")[0], tokenizer, data, options=EmbedOptions(mlm_weight=1.0), progress=False
        )
    trainer = EmbedTrainer(
        model, tokenizer, data, options=EmbedOptions(epochs=1, batch_size=16, mlm_weight=0.5), progress=False
    )
    _, masked = trainer._parts(0)
    assert masked.share == pytest.approx(0.5) and len(masked.arguments["masked"]["labels"]) == masked.tokens
    words = dict(model.named_parameters())["bert.embeddings.word_embeddings.weight"]
    trainer._loss(masked)[0].backward()
    assert words.grad is not None
    result = embed_train(
        PAIRS, model=work / "config.json", out=work / "both", progress=False, queries=PAIRS,
        options=EmbedOptions(epochs=20, batch_size=16, lr=3e-3, mlm_weight=0.5),
    )  # fmt: skip
    assert result["history"][-1]["train_loss"] < result["history"][0]["train_loss"] - 0.5
    assert result["best"]["report"]["MRR"] > result["start"]["MRR"]
    assert type(govlm.AutoModelForMaskedLM.from_pretrained(str(work / "both"))).__name__ == "BertForMaskedLM"


# -------------------------------------------------------------------- the data


def test_true_pairs_are_no_negatives(encoder):
    model, tokenizer = encoder
    items = [
        ("社保卡", "社保卡补领", []),
        ("社保卡", "社保卡查询", []),
        ("医保卡", "医保卡查询", []),
        ("社保卡查询", "我的社保卡", []),
    ]
    data = Pairs.encode(model, tokenizer, items)
    belong = data.belong(data.left, data.right)
    assert belong.tolist() == [
        [True, True, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, True, False, True],  # the same text on the other side
    ]


def test_hard_negatives_take_turns(encoder):
    model, tokenizer = encoder
    bad = ["护照办理", "护照查询", "护照换发"]
    data = Pairs.encode(model, tokenizer, [("身份证丢了", "身份证补领", bad), ("居住证", "居住证办理", [])])
    rows = np.array([1, 0])
    seen = [data.choose_negatives(rows, 1, seed=1, epoch=e).tolist() for e in range(3)]
    assert sorted(x for s in seen for x in s) == sorted(data.negatives.tolist()) and all(len(s) == 1 for s in seen)
    assert data.choose_negatives(rows, 1, 1, 0).tolist() == seen[0]
    assert len(data.choose_negatives(rows, 9, 1, 0)) == 3 and len(data.choose_negatives(rows, 0, 1, 0)) == 0


def test_reading(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"name": "社保卡补领", "alias": ["补社保卡", "无"], "bad": "社保卡查询"},
        {"name": "无", "alias": "什么"},
        {"name": "护照", "alias": "护照", "bad": None},
    ]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    assert read_pairs(path, "alias", "name", "bad", skip=("无",)) == [("补社保卡", "社保卡补领", ["社保卡查询"])]
    assert read_pairs(path, "alias", "name", skip=("无",), same=True)[-1] == ("护照", "护照", [])
    path.write_text('{"name": "a", "alias": 3}\n')
    with pytest.raises(DataError, match=r"pairs.jsonl:1: field 'alias' must be a string"):
        read_pairs(path, "alias", "name")
    table = tmp_path / "scored.txt"
    table.write_text("甲\t乙\t1\n丙\t丁\t0\n", encoding="utf-8")
    assert read_scored(table, format="tsv") == [("甲", "乙", 1.0), ("丙", "丁", 0.0)]
    table.write_text("甲\t乙\tyes\n", encoding="utf-8")
    with pytest.raises(DataError, match="must be a number"):
        read_scored(table, format="tsv")
    table.write_bytes("一\r\n\n二\n三".encode())
    assert read_texts(table) == ["一", "二", "三"]


# -------------------------------------------------------------------- evaluation


def test_spearman():
    assert average_ranks(np.array([10, 20, 10, 5])).tolist() == [2.5, 4, 2.5, 1]
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert spearman([1, 2, 3], [-1, -2, -3]) == pytest.approx(-1)
    with pytest.raises(ValueError, match="all are the same"):
        spearman([1, 2], [3, 3])
    stats = pytest.importorskip("scipy.stats")
    r = np.random.default_rng(0)
    a, b = r.integers(0, 6, 200), r.standard_normal(200)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, rel=1e-12)


def test_retrieval_counts_every_right_item():
    pool = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0, 1]])
    queries = np.array([[1.0, 0], [0, 1], [0, 1]])
    relevant = [np.array([1, 2]), np.array([3]), np.array([3, 2])]
    report = retrieval_report(queries, pool, relevant, ks=(1, 2))
    # places: 2 (of its two right rows the second best of all), 2 (a tie: the earlier row first), 1
    assert report["R@1"] == pytest.approx(1 / 3) and report["R@2"] == 1.0 and report["MRR"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no right row"):
        retrieval_report(queries, pool, [np.zeros(0, np.int64)] * 3)


# -------------------------------------------------------------------- runs


def evaluation(model, tokenizer):
    scored = [(PAIRS[i][0], PAIRS[j][1], float(i == j)) for i in range(0, 48, 3) for j in range(1, 48, 5)]
    scored += [(a, b, 1.0) for a, b, _ in PAIRS[:10]]
    return Evaluation(ScoredPairs.encode(model, tokenizer, scored), Queries.encode(model, tokenizer, PAIRS))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_it_learns_and_the_folder_remembers_the_pooling(work, pooling):
    options = EmbedOptions(epochs=30, batch_size=16, lr=3e-3, seed=1, pooling=pooling)
    held = random.Random(0).sample(PAIRS, 12)
    rest = [p for p in PAIRS if p not in held]
    result = embed_train(rest, model=work / "config.json", out=work / "out", queries=held, options=options, progress=False)
    assert result["best"]["report"]["MRR"] > result["start"]["MRR"] + 0.05
    assert result["steps"] == 60 and result["history"][-1]["train_loss"] < result["history"][0]["train_loss"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "no pooler.dense.weight: initialised at random"
        model = govlm.AutoModel.from_pretrained(str(work / "out"))
    vectors = model.encode([held[0][0], held[0][1]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors, model.encode([held[0][0], held[0][1]], pooling=pooling, normalize=True), atol=0)
    other = model.encode([held[0][0]], pooling={"mean": "cls", "cls": "mean"}[pooling], normalize=True)
    assert not np.allclose(vectors[:1], other, atol=1e-3)


def test_hard_negatives_are_pushed_away(work):
    """With the other item of the same thing as a hard negative, it ends up further away than without."""
    trap = {a: PAIRS[(i // 4) * 4 + (i + 1) % 4][1] for i, (a, _, _) in enumerate(PAIRS)}
    gaps = []
    for pairs in (PAIRS, [(a, b, [trap[a]]) for a, b, _ in PAIRS]):
        model, tokenizer = load_encoder(work / "config.json", seed=3)
        steps_of(model, tokenizer, Pairs.encode(model, tokenizer, pairs), epochs=15, batch_size=8, lr=3e-3)
        model.eval()
        q, a, n = (model.encode(t, tokenizer) for t in ([p[0] for p in PAIRS], [p[1] for p in PAIRS], list(trap.values())))
        gaps.append(float(((q * a).sum(axis=1) > (q * n).sum(axis=1)).mean()) + float(((q * a) - (q * n)).sum(axis=1).mean()))
    assert gaps[1] > gaps[0]


def test_evaluation_reports_both(encoder):
    model, tokenizer = encoder
    report = evaluation(model, tokenizer).report(model, "mean")
    assert set(report) == {"spearman", "R@1", "R@5", "R@10", "MRR", "queries", "pool"} and report["queries"] == 48


def test_refusals(work, encoder):
    model, tokenizer = encoder
    with pytest.raises(TrainError, match="either pairs or texts"):
        embed_train(model=work / "config.json", out=work / "out")
    with pytest.raises(TrainError, match="no pairs"):
        Pairs.encode(model, tokenizer, [])
    with pytest.raises(ValueError, match="pooling must be mean or cls"):
        EmbedOptions(pooling="max").check()
    with pytest.raises(TrainError, match="no such model folder"):
        load_encoder(work / "nowhere")
    data = Pairs.encode(model, tokenizer, PAIRS)
    options = EmbedOptions(epochs=1, metric="R@3")
    with pytest.raises(TrainError, match=r"no 'R@3'; it has spearman"):
        EmbedTrainer(model, tokenizer, data, evaluation(model, tokenizer), options, progress=False).train()


# -------------------------------------------------------------------- the command, killed


def command(work, out, *extra):
    return [
        sys.executable, "-m", "govlm", "embed-train", "--pairs", "pairs.jsonl", "--fields", "q:a", "--queries", "pairs.jsonl",
        "--model", "config.json", "--out", out, "--epochs", "8", "--batch-size", "12", "--chunk-size", "10", "--lr", "3e-3",
        "--save-steps", "3", "--seed", "2", "--json", *extra,
    ]  # fmt: skip


def run(work, *arguments, code=0):
    done = subprocess.run(arguments, cwd=work, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done


def write_pairs(work):
    rows = [json.dumps({"q": a, "a": b}, ensure_ascii=False) + "\n" for a, b, _ in PAIRS]
    (work / "pairs.jsonl").write_text("".join(rows), encoding="utf-8")


def test_killed_and_resumed_gives_the_same_bits(work):
    write_pairs(work)
    straight = json.loads(run(work, *command(work, "straight")).stdout)
    for lines in (5, 17):
        process = subprocess.Popen(
            command(work, "killed", "--resume"), cwd=work, stdout=subprocess.DEVNULL, env=dict(os.environ)
        )
        log = work / "killed" / "log.jsonl"
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_text().count("\n") >= lines:
                process.kill()
            time.sleep(0.001)
        assert process.wait() == -signal.SIGKILL
    result = json.loads(run(work, *command(work, "killed", "--resume")).stdout)
    assert result["history"] == straight["history"] and result["best"] == straight["best"]
    one, two = ((work / name / "model.safetensors").read_bytes() for name in ("straight", "killed"))
    assert one == two
    refused = run(work, *command(work, "killed", "--resume", "--temperature", "0.1"), code=1)
    assert "temperature" in refused.stderr
    (work / "pairs.jsonl").write_text((work / "pairs.jsonl").read_text("utf-8").replace("补办", "补"), encoding="utf-8")
    assert "the pairs" in run(work, *command(work, "killed", "--resume"), code=1).stderr


def test_the_commands(work):
    write_pairs(work)
    shown = run(work, *(a for a in command(work, "out") if a != "--json")).stdout
    assert "R@10" in shown and "model written to out" in shown
    (work / "texts.txt").write_text("身份证丢了\n护照在哪办\n", encoding="utf-8")
    run(work, sys.executable, "-m", "govlm", "embed", "texts.txt", "--model", "out", "--out", "vectors.npy")
    vectors = np.load(work / "vectors.npy")
    expected = govlm.AutoModel.from_pretrained(str(work / "out")).encode(["身份证丢了", "护照在哪办"])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    texts = ["--texts", "texts.txt", "--batch-size", "2", "--pooling", "cls"]
    run(work, sys.executable, "-m", "govlm", "embed-train", *texts, "--model", "out", "--out", "simcse")
    assert json.loads((work / "simcse" / "config.json").read_text())["sentence"]["pooling"] == "cls"
    usage = run(work, sys.executable, "-m", "govlm", "embed-train", "--model", "out", "--out", "x", code=2)
    assert "either --pairs FILE or --texts FILE" in usage.stderr
    assert "temperature" in run(work, *command(work, "x", "--temperature", "-1"), code=2).stderr


# -------------------------------------------------------------------- real data


def test_aliases_of_real_items(work):
    """A small model learns to find items by their colloquial names: better than the characters it starts with."""
    path = SHARED / "gov" / "guangdong_service_items" / "items.jsonl"
    vocab = SHARED / "vocab" / "bert-base-chinese" / "vocab.txt"
    if not path.exists() or not vocab.exists():
        pytest.skip(f"the service items are not there: {path.parent}")
    none = ("", "无")
    pairs = [p for f in ("matter_short", "matter_daily") for p in read_pairs(path, f, "matter_name", skip=none)]
    aliases = sorted({p[0] for p in pairs})
    held = set(random.Random(0).sample(aliases, 100))
    result = embed_train(
        [p for p in pairs if p[0] not in held], model=work / "config.json", vocab=vocab, out=work / "out",
        queries=[p for p in pairs if p[0] in held], pool=read_texts(path, "matter_name"),
        options=EmbedOptions(epochs=6, batch_size=64, lr=2e-3, max_length=32), progress=False,
    )  # fmt: skip
    assert result["best"]["report"]["MRR"] > result["start"]["MRR"]
