"""Initial weights from the corpus: the counts, the vectors, the heads that look at neighbours, the head start."""

import numpy as np
import pytest
from tiny_corpus import config, write_corpus

import govlm
from govlm.train.initial import OFFSETS, associations, count_pairs, start_from_corpus
from govlm.train.loop import TrainError
from govlm.train.pretrain import pretrain, read_options
from govlm.train.sequences import open_corpora

SHAPE = {
    "model.hidden_size": 96, "model.num_attention_heads": 8, "model.num_hidden_layers": 3, "model.intermediate_size": 128,
    "model.hidden_dropout_prob": 0.0, "model.attention_probs_dropout_prob": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("initial")
    write_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def model(work):
    corpora = open_corpora([work / "corpus"])
    govlm.set_seed(1)
    shape = {name.removeprefix("model."): value for name, value in SHAPE.items()}
    found = govlm.BertForMaskedLM(govlm.BertConfig(vocab_size=corpora[0].vocab_size, max_position_embeddings=64, **shape))
    start_from_corpus(found, corpora, 1)
    return found


def by_core_name(model):
    return {p.core_name: np.array(p.data) for _, p in model.named_parameters()}


def test_pairs_are_counted_within_documents_only(work):
    corpora = open_corpora([work / "corpus"])
    pairs, kept, counts = count_pairs(corpora, window=3, most=10)
    size = corpora[0].vocab_size
    wanted, seen = np.zeros((size, size)), np.zeros(size, np.int64)
    for number in range(corpora[0].documents):
        ids = np.asarray(corpora[0].document(number)).astype(int).tolist()
        seen += np.bincount(ids, minlength=size)
        for i, a in enumerate(ids):
            for b in ids[i + 1 : i + 4]:
                wanted[a, b] += 1
                wanted[b, a] += 1
    assert np.array_equal(counts, seen)
    assert len(kept) == 10 and seen[kept].min() >= np.delete(seen, kept).max()
    assert np.array_equal(pairs, wanted[np.ix_(kept, kept)])


def test_products_of_the_vectors_are_the_mutual_information():
    draw = np.random.default_rng(0)
    half = draw.poisson(3.0, (24, 24)).astype(np.float32)
    counts = half + half.T
    share = counts.sum(axis=1) / counts.sum()
    context = share**0.75 / (share**0.75).sum()
    with np.errstate(divide="ignore"):
        table = np.maximum(np.log(counts / counts.sum() / share[:, None] / context[None, :]), 0)
    table = (table + table.T) / 2
    values, vectors = np.linalg.eigh(table)
    best = (vectors * np.maximum(values, 0)) @ vectors.T  # what real vectors can reach at best
    found = associations(counts, 24, 0)
    assert np.allclose(found @ found.T, best, atol=1e-4)
    assert associations(np.zeros((5, 5), np.float32), 3, 0).shape == (5, 3)


def test_what_keeps_company_is_alike(work, model):
    words = by_core_name(model)["embeddings.word.weight"]
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    table = govlm.AutoTokenizer.from_pretrained(work / "corpus").get_vocab()
    for first, second in ("驾驶", "养老", "户口"):  # characters of a word
        likes = words @ words[table[first]]
        assert table[second] in np.argsort(-likes)[:5], first + second


def test_the_bias_is_the_share_of_each_token(work, model):
    counts = count_pairs(open_corpora([work / "corpus"]))[2]
    bias = by_core_name(model)["mlm.bias"]
    assert np.allclose(np.exp(bias)[counts > 0], (counts / counts.sum())[counts > 0], rtol=1e-4)
    assert np.isfinite(bias).all() and bias[counts == 0].max(initial=-99) < bias[counts > 0].min()


def test_heads_of_the_first_layers_look_at_their_neighbours(work, model):
    ids = np.asarray(open_corpora([work / "corpus"])[0].document(0))[:40].astype(np.int64)[None]
    with govlm.no_grad():
        attention = model(input_ids=ids, output_attentions=True).attentions
    places = np.arange(ids.shape[1])
    for layer, hits in ((0, 0.9), (1, 0.7)):
        for head, offset in enumerate(OFFSETS):
            inside = (places + offset >= 0) & (places + offset < len(places))
            best = np.asarray(attention[layer])[0, head].argmax(axis=1)
            assert np.mean((best == places + offset)[inside]) >= hits, (layer, offset)


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_a_run_starts_ahead(work, objective):
    found = {}
    for initial in ("random", "corpus"):
        changes = {**SHAPE, "steps": 30, "initial": initial, "objective": objective, "lr": 1e-3, "seed": 2, "max_length": 32}
        held = pretrain(read_options(None, config(work, f"{objective}-{initial}", **changes)), progress=False)["heldout"]
        found[initial] = held["loss" if objective == "mlm" else "generator_loss"]
    assert found["corpus"] < (0.85 if objective == "mlm" else 0.95) * found["random"]


def test_where_it_does_not_fit(work, tmp_path):
    narrow = govlm.AlbertForMaskedLM(
        govlm.AlbertConfig(vocab_size=40, embedding_size=16, hidden_size=32, num_attention_heads=4, intermediate_size=64)
    )
    with pytest.raises(TrainError, match="as wide as the layers"):
        start_from_corpus(narrow, open_corpora([work / "corpus"]), 1)
    with pytest.raises(ValueError, match="initial must be left out where a checkpoint is given"):
        read_options(None, {"corpus": "c", "out": "o", "steps": 1, "from": "x", "initial": "corpus"})
