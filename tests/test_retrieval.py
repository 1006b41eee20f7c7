"""Retrieval: names against a plain twin, vectors against float32, and the index that puts them together."""

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from govlm._native import core
from govlm.hall.retrieval import dense, index
from govlm.hall.retrieval.characters import Characters
from govlm.hall.retrieval.dense import Neighbours, Vectors
from govlm.hall.retrieval.names import FEATURES, LONGEST, Names
from govlm.hall.retrieval.ranking import Ranker, fit
from govlm.hall.retrieval.words import Words

LETTERS = st.lists(st.integers(0, 9), max_size=12)


def subsequence(a: list[int], b: list[int]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def twin(names: list[list[int]], query: list[int]) -> np.ndarray:
    """The features from their definitions. Each name has an owner of its own; a pair is the bucket that it falls into."""
    numbers = {letter: i for i, letter in enumerate(sorted({0, *itertools.chain(*names)}))}

    def rarity(bags: list[set], thing) -> float:
        n = sum(thing in bag for bag in bags)
        return math.log1p((len(bags) - n + 0.5) / (n + 0.5))

    def pairs(text: list[int]) -> list[int]:
        symbols = np.array([numbers.get(letter, len(numbers)) for letter in text], np.int32)
        return [bucket for bucket in core.name_pairs(symbols, 14).tolist() if bucket >= 0]

    bags, pair_bags = [set(n) - {0} for n in names], [set(pairs(n)) for n in names]
    letters = {c for bag in bags for c in bag}
    strange = max((rarity(bags, c) for c in letters), default=0.0)
    rows = []
    for name in names:
        row = []
        for of, weigh in (
            (lambda t: [c for c in t if c], lambda c: rarity(bags, c) if c in letters else strange),
            (pairs, lambda p: rarity(pair_bags, p)),
        ):
            q, n = of(query), of(name)
            left, common = list(q), 0.0
            for thing in n:
                if thing in left:
                    left.remove(thing)
                    common += weigh(thing)
            whole_q, whole_n = sum(map(weigh, q)), sum(map(weigh, n))
            row += [common / whole_q if whole_q else 0.0, common / whole_n if whole_n else 0.0]
        plain_q, plain_n = [c for c in query if c], [c for c in name if c]
        lcs = subsequence(plain_q, plain_n)
        row += [lcs / len(plain_q) if plain_q else 0.0, lcs / len(plain_n) if plain_n else 0.0]
        rows.append(row)
    return np.array(rows).reshape(len(names), len(FEATURES))


@given(st.lists(LETTERS, min_size=1, max_size=6), st.lists(st.integers(0, 12), max_size=14))
@settings(max_examples=150, deadline=None)
def test_names_against_the_twin(names: list[list[int]], query: list[int]) -> None:
    made = Names.make([np.array(n, np.int32) for n in names], range(len(names)))
    found = made.features(np.array(query, np.int32))
    np.testing.assert_allclose(found, twin(names, query), atol=1e-5)


def test_a_query_longer_than_a_word_of_bits() -> None:
    rng = np.random.default_rng(3)
    names = [rng.integers(1, 30, 300).tolist() for _ in range(4)]
    for length in (63, 64, 65, 128, 200, LONGEST):
        query = rng.integers(1, 30, length).tolist()
        made = Names.make([np.array(n, np.int32) for n in names], range(4))
        found = made.features(np.array(query, np.int32))
        assert [round(row[4] * length) for row in found] == [subsequence(query, n) for n in names]


def test_chosen_names_and_bad_input() -> None:
    made = Names.make([np.array(n, np.int32) for n in ([1, 2, 3], [3, 4], [5])], [0, 1, 2])
    query = np.array([3, 4], np.int32)
    assert np.array_equal(made.features(query, np.array([1, 0], np.int32)), made.features(query)[[1, 0]])
    with pytest.raises(IndexError, match="name 3 is not among 3"):
        made.features(query, np.array([3], np.int32))
    with pytest.raises(ValueError, match="a query of 257 symbols; at most 256"):
        made.features(np.ones(257, np.int32))
    assert made.features(np.zeros(0, np.int32)).shape == (3, len(FEATURES))


def test_vectors_in_8_bits_are_near_float32() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1000, 320)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:7] + 0.02 * rng.standard_normal((7, 320)).astype(np.float32)
    scores = Vectors.make(vectors).scores(queries)
    assert scores.shape == (7, 1000)
    assert np.abs(scores - queries @ vectors.T).max() < 0.01
    assert (scores.argmax(1) == np.arange(7)).all()
    assert np.array_equal(Vectors.make(vectors).scores(queries[2:3])[0], scores[2]), "alone or in a batch"


def test_ranker_learns_which_feature_tells(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    queries = []
    for _ in range(200):
        features = rng.standard_normal((20, 3)).astype(np.float32)
        right = np.zeros(20, bool)
        right[np.argmax(2 * features[:, 0] - features[:, 2] + 0.3 * rng.standard_normal(20))] = True
        queries.append((features, right))
    ranker = fit(("a", "b", "c"), queries)
    a, b, c = ranker.weights
    assert a > 1 and c < -0.5 and abs(b) < 0.3 * a and abs(a / c + 2) < 0.4
    ranker.save(tmp_path / "r.json")
    assert np.allclose(Ranker.load(tmp_path / "r.json", ("a", "b", "c")).weights, ranker.weights, atol=1e-3)
    with pytest.raises(ValueError, match="other features"):
        Ranker.load(tmp_path / "r.json", ("a", "b"))
    with pytest.raises(ValueError, match="no query has a right entry"):
        fit(("a",), [(np.ones((2, 1), np.float32), np.zeros(2, bool))])


def random_entries(count: int) -> list[index.Entry]:
    rng = np.random.default_rng(5)
    letters = [chr(0x4E00 + i) for i in range(300)]

    def text(length: int) -> str:
        return "".join(rng.choice(letters, length))

    return [index.Entry(f"k{i}", (text(6), text(4)), tuple(text(9) for _ in range(i % 3)), text(30)) for i in range(count)]


def embed(texts: Sequence[str]) -> np.ndarray:
    """Vectors that look at characters only."""
    found = np.zeros((len(texts), 64), np.float32)
    for row, text in zip(found, texts, strict=True):
        for char in text:
            row[ord(char) % 64] += 1
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


@pytest.mark.parametrize("large", [False, True])
def test_an_index_is_kept_and_asked_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    pytest.importorskip("usearch", reason='pip install "govlm[hall-large]"')
    for needed in ("bm25s", "opencc", "pypinyin"):
        pytest.importorskip(needed, reason='pip install "govlm[hall]"')
    entries = random_entries(200)
    if large:  # as beyond 100,000 texts
        monkeypatch.setattr(dense, "LIMIT", 100)
        monkeypatch.setattr(dense, "NEAREST", 40)
        monkeypatch.setattr(index, "_LOOKED_AT", 100)
        monkeypatch.setattr(index, "_NEAR", 20)
    made = index.Index.make(entries, embed)
    made.save(tmp_path / "i")
    opened = index.Index.open(tmp_path / "i")
    assert isinstance(opened._vectors, Neighbours) == large and opened.keys == [entry.key for entry in entries]
    for entry in entries[::17]:
        query = opened.query(entry.names[1], embed)
        features = opened.features(query)
        assert np.allclose(features, made.features(query), atol=1e-5)
        assert features.shape == (200, len(index.FEATURE_NAMES))
        assert entries[int(features.sum(axis=1).argmax())].key == entry.key


@functools.cache
def characters() -> Characters:
    return Characters.make()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=6), st.text("甲乙丙丁戊", max_size=8))
def test_the_features_of_an_entry_are_the_best_of_its_texts(shape: list[tuple[int, int]], question: str) -> None:
    """From the definition, entry by entry; entries may have any number of names and examples, none too."""
    assume(any(map(sum, shape)))
    letters, count = itertools.cycle("甲乙丙丁戊己庚"), itertools.count()

    def words(size: int) -> tuple[str, ...]:
        return tuple(f"{''.join(itertools.islice(letters, 3))}{next(count)}" for _ in range(size))

    entries = [index.Entry(str(i), words(names), words(examples)) for i, (names, examples) in enumerate(shape)]
    made = index.Index.make(entries, embed, characters())
    query = made.query(question, embed)
    found = made.features(query)
    texts = {text: i for i, text in enumerate(text for entry in entries for text in (*entry.names, *entry.examples))}
    similar = made._vectors.scores(query.vector[None])[0]
    plain, sound = made._plain.features(query.codes), made._sound.features(query.sounds)
    plain, sound = (np.append(rows, rows.sum(axis=1, keepdims=True), axis=1) for rows in (plain, sound))

    def best(rows: np.ndarray, of: tuple[str, ...]) -> list[float]:
        rows = rows.reshape(len(rows), -1)
        return rows[[texts[text] for text in of]].max(axis=0).tolist() if of else [0.0] * rows.shape[1]

    size = len(index._BASE)
    for row, entry in zip(found, entries, strict=True):
        first = entry.names[:1]
        wanted = [
            *best(similar, entry.names), *best(similar, first), *best(similar, entry.examples), *best(plain, first), *best(plain, entry.names),
            *best(sound, entry.names), *best(plain, entry.examples), *best(sound, entry.examples),
        ]  # fmt: skip
        groups = row.reshape(3, size)
        used = groups[0] if entry.examples else groups[1]
        assert used[2:].tolist() == wanted
        if entry.examples:
            assert not groups[1:].any()
        else:
            assert not groups[0].any() and np.array_equal(groups[2], groups[1] * np.float32(query.shortness))


def test_sounds_are_those_of_pypinyin() -> None:
    from pypinyin import Style, lazy_pinyin
    from pypinyin.pinyin_dict import pinyin_dict

    from govlm.hall.retrieval.characters import _toneless

    for char in "行长重乐绿女吕䶮𠀀一嗯欸哟〇々ａa":
        said = lazy_pinyin(char, style=Style.NORMAL)[0]
        assert (_toneless(pinyin_dict.get(ord(char), "")) or char) == said, char


def test_words_are_worth_what_bm25s_says(tmp_path: Path) -> None:
    """Also once they were kept, where bm25s is not asked any more."""
    bm25s = pytest.importorskip("bm25s", reason="the hall's extra is not installed")
    from safetensors.numpy import load_file, save_file

    entries = [["低", "保", "低保"], [], ["保", "险"], ["医", "保", "医保", "保"]]
    made = Words.make(entries)
    save_file(made.arrays("w"), tmp_path / "w")
    kept = Words.read(load_file(tmp_path / "w"), "w", made.listed(), len(entries))
    peer = bm25s.BM25(k1=1.2, b=0.75)
    peer.index([words or [" "] for words in entries], show_progress=False)
    for query in (["保"], ["低保", "保", "无"], ["医保", "保", "保"]):
        scores = peer.get_scores([word for word in query if word in peer.vocab_dict])
        for words in (made, kept):
            np.testing.assert_array_equal(words.shares(query), scores / scores.max())
    assert not kept.shares(["无"]).any() and not kept.shares([]).any()
    assert not Words.make([]).shares(["保"]).any()
