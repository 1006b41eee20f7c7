"""The tagger of persons, addresses and organisations: its weights, its decoding, its fitting, its bounds."""

from __future__ import annotations

import itertools
import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from govlm.hall.understanding import tagger_fitting
from govlm.hall.understanding.slots import find_slots
from govlm.hall.understanding.tagger import BITS, FILE, KINDS, LABELS, Tagger, allowed, features, spans, viterbi
from govlm.hall.understanding.tagger_examples import make_examples, renamed

TODAY = date(2026, 11, 24)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.bundled()


def slots(text: str, kind: str) -> list[str]:
    return [slot.text for slot in find_slots(text, TODAY) if slot.kind == kind]


# ------------------------------------------------------------------------------------------------- what it finds


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("我妈许秀琴昨天来过窗口", ["许秀琴"]),
        ("把户口本上的邓国强换成邓志强", ["邓国强", "邓志强"]),
        ("俺老汉儿叫罗永贵，退休证搞丢咯", ["罗永贵"]),
        ("房产证写的吴晓梅和郑凯两个人", ["吴晓梅", "郑凯"]),
        ("收件人欧阳文博", ["欧阳文博"]),
        ("谢谢，方便的话明天办", []),
        ("高龄补贴和低保能不能一起领", []),
        ("常住人口登记表在哪打印", []),
    ],
)
def test_persons(text: str, names: list[str]) -> None:
    assert slots(text, "name") == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("我在宏达精密机械有限公司上班，社保断了", ["宏达精密机械有限公司"]),
        ("孩子想转到青山区第三小学", ["青山区第三小学"]),
        ("我们公司不给交社保咋整", []),
        ("居委会开的证明认不认", []),
    ],
)
def test_organisations(text: str, names: list[str]) -> None:
    assert slots(text, "organisation") == names


def test_what_recognisers_find_is_not_taken_from_them() -> None:
    text = "周丽华，13800138000，住广州市天河区龙洞街道华南路18号，2026年12月1日去交3000元"
    kinds = {slot.kind: slot.text for slot in find_slots(text, TODAY)}
    assert kinds["name"] == "周丽华"
    assert kinds["mobile"] == "13800138000"
    assert kinds["address"] == "广州市天河区龙洞街道华南路18号"
    assert kinds["amount"] == "3000元"


# ------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize("text", ["", " ", "\n", "王", "😀", "😀👨‍👩‍👧王小明🎉", "\ud800", "a" * 50, "·" * 9, "王" * 300])
def test_any_text_is_read(tagger: Tagger, text: str) -> None:
    ends = 0
    for kind, start, end in tagger.tag(text):
        assert kind in KINDS and ends <= start < end <= len(text)
        ends = end
    for slot in find_slots(text, TODAY):
        assert slot.text == text[slot.start : slot.end]


def test_long_text_takes_bounded_memory(tagger: Tagger) -> None:
    sentence = "我叫何建民，在宏达机械有限公司上班。"
    text = (sentence * (20_000 // len(sentence) + 1))[:20_000]
    tracemalloc.start()
    found = tagger.tag(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6
    assert sum(text[a:b] == "何建民" for _, a, b in found) > 1000


def test_the_same_text_gives_the_same_spans(tagger: Tagger) -> None:
    text = "替我爸曾宪明去石桥镇派出所问问"
    assert tagger.tag(text) == tagger.tag(text) == Tagger.load(FILE).tag(text)


def test_hints_outside_of_a_piece_do_no_harm(tagger: Tagger) -> None:
    text = "好" * 3998 + "我叫何建民"
    assert tagger.tag(text, [("name", 4000, 4003)]) == tagger.tag(text, [("name", 4000, 4003)])


# ------------------------------------------------------------------------------------------------------ weights


def test_weights_are_a_small_file_of_figures() -> None:
    assert FILE.stat().st_size <= 600_000
    with np.load(FILE, allow_pickle=False) as file:
        assert set(file) == {"steps", "weights", "scale", "transitions"}
        assert file["weights"].dtype == np.int8 and file["weights"].shape == (len(LABELS), len(file["steps"]))


def test_saved_weights_tag_as_before(tagger: Tagger, tmp_path: Path) -> None:
    tagger.save(tmp_path / "tagger.npz")
    again = Tagger.load(tmp_path / "tagger.npz")
    for text in ("我老公程大勇在长沙市第一医院住院", "地址是绵阳市涪城区剑门路12号"):
        assert again.tag(text) == tagger.tag(text)


def test_features_see_near_characters_only() -> None:
    one, other = features("请问我叫王小明能办吗谢谢你啊"), features("请问我叫王小明能办吗谢谢你呀")
    assert one.shape == (14, features("王").shape[1]) and int(one.max()) < 1 << BITS
    assert (one[:9] == other[:9]).all() and (one[-1] != other[-1]).any()


# ----------------------------------------------------------------------------------------------------- decoding


def test_viterbi_finds_the_best_of_all_paths() -> None:
    random = np.random.default_rng(3)
    may = allowed()
    for _ in range(5):
        emissions = random.normal(size=(4, len(LABELS))).astype(np.float32)
        transitions = np.where(may, random.normal(size=may.shape), -np.inf).astype(np.float32)

        def value(path: tuple[int, ...], emissions: np.ndarray = emissions, transitions: np.ndarray = transitions) -> float:
            if LABELS[path[0]][0] not in "OB" or LABELS[path[-1]][0] not in "OE":
                return -np.inf
            return float(
                sum(emissions[i, y] for i, y in enumerate(path)) + sum(transitions[a, b] for a, b in itertools.pairwise(path))
            )

        best = max(itertools.product(range(len(LABELS)), repeat=4), key=value)
        assert viterbi(emissions, transitions) == list(best)


def test_spans_of_labels() -> None:
    labels = [LABELS.index(name) for name in ("O", "B-name", "I-name", "E-name", "B-address", "E-address", "O")]
    assert spans(labels) == [("name", 1, 4), ("address", 4, 6)]


# ------------------------------------------------------------------------------------------------------ fitting


def test_examples_mark_what_they_hold() -> None:
    made = make_examples(600, 1, ["天河区", "义乌市"], [])
    assert made == make_examples(600, 1, ["天河区", "义乌市"], []) != make_examples(600, 2, ["天河区", "义乌市"], [])
    assert not any("{" in text for text, _ in made)
    assert all(0 <= start < end <= len(text) for text, marks in made for _, start, end in marks)
    assert {kind for _, marks in made for kind, _, _ in marks} == set(KINDS)
    assert sum(not marks for _, marks in made) > 60


def test_renaming_moves_the_marks() -> None:
    rows = [("记者李明在北京见到王晓东。", [("name", 2, 4), ("address", 5, 7), ("name", 9, 12)]), ("没有人", [])]
    ((text, marks),) = renamed(rows, 4)
    assert text[slice(*marks[1][1:])] == "北京" and text[: marks[0][1]] == "记者" and text[marks[2][2] :] == "。"


def test_marginals_are_those_of_all_paths() -> None:
    random = np.random.default_rng(5)
    may = allowed()
    transitions = np.where(may, random.normal(size=may.shape), -np.inf).astype(np.float32)
    emissions = random.normal(size=(2, 4, len(LABELS))).astype(np.float32)
    there = np.array([[True] * 4, [True] * 3 + [False]])
    gold = np.array([[0, 1, 3, 0], [4, 5, 6, 0]])
    loss, chance, pairs = tagger_fitting._marginals(emissions, transitions, there, gold)
    want_loss, want, want_pairs = 0.0, np.zeros(chance.shape), np.zeros(pairs.shape)
    for row, size in enumerate((4, 3)):
        paths = [
            p
            for p in itertools.product(range(len(LABELS)), repeat=size)
            if LABELS[p[0]][0] in "OB" and LABELS[p[-1]][0] in "OE"
        ]
        scores = np.array(
            [
                sum(emissions[row, i, y] for i, y in enumerate(p)) + sum(transitions[a, b] for a, b in itertools.pairwise(p))
                for p in paths
            ]
        )
        weights = np.exp(scores - scores.max())
        want_loss += scores.max() + np.log(weights.sum()) - scores[paths.index(tuple(gold[row, :size]))]
        for path, weight in zip(paths, weights / weights.sum(), strict=True):
            if weight:
                want[row, np.arange(size), path] += weight
                np.add.at(want_pairs, (path[:-1], path[1:]), weight)
        np.add.at(want_pairs, (gold[row, : size - 1], gold[row, 1:size]), -1)
    assert loss == pytest.approx(want_loss, rel=1e-4)
    np.testing.assert_allclose(chance[there], want[there], atol=1e-4)
    np.testing.assert_allclose(pairs[may], want_pairs[may], atol=1e-4)


def test_fitting_learns_and_is_deterministic() -> None:
    rows = make_examples(120, 6, ["天河区"], [])
    options = {"kept": 3000, "epochs": 4, "after": 3, "least": 2}
    one, other = (tagger_fitting.fit(rows, lambda text: [], **options) for _ in range(2))  # type: ignore[arg-type]
    found = [one.tag(text) for text, _ in rows]
    assert found == [other.tag(text) for text, _ in rows]
    wanted = [{tuple(mark) for mark in marks} for _, marks in rows]
    hits = sum(len(want & set(map(tuple, got))) for want, got in zip(wanted, found, strict=True))
    assert hits > 0.8 * sum(map(len, wanted))


@pytest.mark.skipif(not (DATA / "ner").exists(), reason="../shared/data/ner (CLUENER) is not here")
def test_names_in_news_that_no_fitting_saw(tagger: Tagger) -> None:
    rows = tagger_fitting.cluener_rows(DATA / "ner/cluener/train.json")[:: tagger_fitting.HELD_OUT]
    right = wanted = found = 0
    for text, marks in rows:
        want = {tuple(mark) for mark in marks if mark[0] == "name"}
        got = {tuple(span) for span in tagger.tag(text, tagger_fitting.hints(text)) if span.kind == "name"}
        right, wanted, found = right + len(want & got), wanted + len(want), found + len(got)
    assert 2 * right / (wanted + found) > 0.7
