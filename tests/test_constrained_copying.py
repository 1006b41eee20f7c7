"""Copy mode: figures and names of a generated text are those of its sources, all other text is free."""

from __future__ import annotations

import random

import numpy as np
import pytest
from constrained_texts import accepts, by_characters, byte_level, generate, reachable, texts

from govlm.generation.constrained import CopyConstraint, Vocabulary, copied, figures

SOURCES = [
    "自2024年5月1日起，办理护照需30个工作日，收费1,000元（加急200元），请找李四办理，电话010-12345678。",
    "补办需三十天，比例12.5%；第十二条、3，4；证号44030019900101123X。窗口在A4，上午9:00开始。",
]
NAMES = ["李四", "张三", "张三丰", "王小明", "三十条", "办公室"]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    words = [
        "30",
        "300",
        "3",
        "2024",
        "2024年",
        "年5月",
        "1日",
        "三十",
        "三",
        "张三",
        "张",
        "李四",
        "王小",
        "小明",
        "天",
        "个",
        "工作日",
        "1,000",
    ]
    return byte_level([*words, "元。", "。3", "，", ".5", "12.5%", "号", "三十条", "十二条", "办公", "室", "9:00", "护照", "X"])


def test_figures() -> None:
    assert figures(SOURCES[0]) == ["2024年5月1日", "30个", "1,000元", "200元", "四", "010-12345678"]
    assert figures(SOURCES[1]) == ["三十天", "12.5%", "十二条", "3", "4", "44030019900101123X", "4", "9:00"]
    assert figures("共5.") == ["5"]
    assert figures("1.a 2--3 4,, ½杯 １２元 ① 一般") == ["1", "2", "3", "4", "½", "１２元", "①", "一"]
    assert figures("没有") == []


@pytest.mark.parametrize(
    "text",
    ["", "您好！", "需30个工作日。", "30个", "2024年5月1日起收费1,000元，另200元", "三十天，第十二条。", "3，4, 3.", "12.5%", "A4纸", "找李四。",
     "电话010-12345678, 证号44030019900101123X", "上午9:00。", "张小明", "办公楼"],
)  # fmt: skip
def test_copies_pass(text: str, vocabulary: Vocabulary) -> None:
    assert copied(text, SOURCES, NAMES)
    assert accepts(CopyConstraint(SOURCES, vocabulary, NAMES), text)


@pytest.mark.parametrize(
    "text",
    ["需300个工作日", "需30天", "需30", "300", "0个", "30个月", "2024年", "2024年5月2日", "5月1日", "1,000", "000元", "000", "1000元", "12.5", "2.5%", "12",
     "三十", "三", "十", "二条", "一般", "五", "010-1234567", "010", "44030019900101123", "9", "9:0", "30.5", "3.4", "33", "４", "张三", "王小明", "三十条",
     "找张三丰。", "办公室", "去办公室。"],
)  # fmt: skip
def test_what_no_source_has_is_refused(text: str, vocabulary: Vocabulary) -> None:
    assert not copied(text, SOURCES, NAMES)
    assert not accepts(CopyConstraint(SOURCES, vocabulary, NAMES), text)


def test_any_text_is_allowed_as_the_check_says(vocabulary: Vocabulary) -> None:
    constraint = CopyConstraint(SOURCES, vocabulary, NAMES)
    rng = random.Random(2)
    pieces = [*figures(SOURCES[0]), *figures(SOURCES[1]), *NAMES, *"0134年月日三十元个.,:-%X，好小办室张é😀"]
    outcomes = {True: 0, False: 0}
    for _ in range(1500):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 3)))
        outcomes[copied(text, SOURCES, NAMES)] += 1
        assert accepts(constraint, text) == copied(text, SOURCES, NAMES), text
    assert min(outcomes.values()) > 200


@pytest.mark.parametrize("seed", range(4))
def test_all_that_is_generated_is_copied(seed: int, vocabulary: Vocabulary) -> None:
    constraint = CopyConstraint(SOURCES, vocabulary, NAMES)
    found = texts(constraint, 25, seed)
    assert all(copied(text, SOURCES, NAMES) for text in found)
    assert any(figures(text) for text in found)


def test_no_state_is_a_dead_end(vocabulary: Vocabulary) -> None:
    reachable(CopyConstraint(["30.5元"], vocabulary, ["张三", "元小"]), 60)
    # The only figure holds a name that no source may... that one source spells apart: it cannot be written, nor begun.
    constraint = CopyConstraint(["三十", "三"], vocabulary, ["十三十", "十三"])
    assert accepts(constraint, "三。三十")
    assert not accepts(constraint, "十三")


def test_a_figure_that_would_spell_a_strange_name_is_not_begun(vocabulary: Vocabulary) -> None:
    """乙1 is a name that no source holds: after 乙 the figure 12 cannot be written, so its 1 is not allowed either."""
    constraint = CopyConstraint(["12", "3"], vocabulary, ["乙12", "丙3"])
    assert accepts(constraint, "甲12乙3")
    state = constraint.start()
    for byte in "乙".encode():
        state = constraint.advance(state, byte)
    mask = constraint.allowed(state)
    assert not mask[ord("1")]
    assert mask[ord("3")]


def test_without_sources_there_are_no_figures(vocabulary: Vocabulary) -> None:
    constraint = CopyConstraint([], vocabulary, ["李四"])
    for text in texts(constraint, 30):
        assert figures(text) == []
    assert accepts(constraint, "请李先生来。")
    assert not accepts(constraint, "李四")
    with pytest.raises(ValueError, match="not one text"):
        CopyConstraint("30天", vocabulary)


def test_long_figures_cannot_be_copied(vocabulary: Vocabulary) -> None:
    constraint = CopyConstraint(["1" * 128, "2" * 129], vocabulary)
    assert accepts(constraint, "1" * 128)
    assert not accepts(constraint, "2")


def test_a_vocabulary_of_characters_writes_only_what_it_can_finish() -> None:
    vocabulary = by_characters("01234567年日好。é", ["30", "2024", "好。"])
    sources = ["2024年5月1日，30日，7年，38日"]  # no 月, no 8
    constraint = CopyConstraint(sources, vocabulary)
    found = {figure for text in texts(constraint, 60) for figure in figures(text)}
    assert found == {"30日", "7年"}
    rng = np.random.default_rng(0)
    assert all(copied(generate(constraint, rng) or "", sources) for _ in range(20))
