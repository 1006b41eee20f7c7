"""Constrained decoding by regular expression: all that is generated matches, all that matches can be generated."""

from __future__ import annotations

import random
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from constrained_texts import accepts, by_characters, byte_level, reachable, texts

from govlm.generation.constrained import RegexConstraint, Vocabulary

MINIMIND = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "vocab" / "minimind"
PATTERNS = [
    r"\d{4}年\d{1,2}月\d{1,2}日",
    r"(?:护照|身份证|驾驶证)(?:办理|补办)?",
    r"[\u4e00-\u9fff]{2,4}(?:局|厅|)",
    r"[^\d\s]{0,4}",
    r"\w+?\s\W{1,2}\D\S",
    r"[^\w]{1,3}|[\W\d]x",
    r"(?P<area>0\d{2,3})-?\d{7,8}",
    r"^(a|b)*abb$",
    r"a{,3}b{2}c{2,}",
    r"[]^-]{1,3}|[a\-z]|[\]\\]",
    r"x{2}{|{}|a{b",
    r".{0,3}\n\x41\u4e2d\U0001F600",
    r"([😀-😏é中a]|[\u0700-\u0900]){1,3}",
    r"(a|)(b|)(c|)",
    r"(a*)*b",
]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return byte_level(["年", "月", "2024年", "办理", "中国", "é", "😀", "ab", "abb", "1234", "身份证", " x"])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_that_is_generated_matches(pattern: str, vocabulary: Vocabulary) -> None:
    for text in texts(RegexConstraint(pattern, vocabulary), 25):
        assert re.fullmatch(pattern, text), text


def some_pattern(rng: random.Random, depth: int) -> str:
    kind = rng.randrange(8 if depth else 4)
    if kind < 4:
        return rng.choice(
            ["a", "b", "1", "中", "国", "é", ".", r"\d", r"\D", r"\w", "[ab1]", "[^a中]", "[1-国]", r"[^\d]", r"\n"]
        )
    parts = [some_pattern(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    if kind == 4:
        return "(" + "|".join(parts) + ")"
    if kind == 5:
        return "(?:" + "".join(parts) + ")" + rng.choice(["*", "+", "?", "*?", "{2}", "{1,2}", "{,2}", "{1,}"])
    return "".join(parts)


@pytest.mark.parametrize("seed", range(40))
def test_any_expression_means_what_it_means_in_python(seed: int, vocabulary: Vocabulary) -> None:
    rng = random.Random(seed)
    pattern = some_pattern(rng, 3)
    constraint = RegexConstraint(pattern, vocabulary)
    for _ in range(60):
        text = "".join(rng.choices("ab1中国é\n", k=rng.randint(0, 5)))
        if "é" in text and "w" in pattern:
            continue  # the one set that is smaller here than in Python
        assert accepts(constraint, text) == (re.fullmatch(pattern, text) is not None), (pattern, text)
    for text in texts(constraint, 4, seed, longest=200):
        assert re.fullmatch(pattern, text), (pattern, text)


@pytest.mark.parametrize("pattern", [r"\d{3}年|中国{2,3}", r"(ab|abb)+é?", r"[中é😀]{2}1"])
def test_no_state_is_a_dead_end(pattern: str, vocabulary: Vocabulary) -> None:
    assert 4 < len(reachable(RegexConstraint(pattern, vocabulary), 500)) < 500


def test_half_a_character_is_allowed_where_its_rest_may_follow() -> None:
    first, rest = "年".encode()[:2], "年".encode()[2:]
    tokens = [bytes([byte]) for byte in range(256)] + [first, rest + b"5", b"4" + first, b""]
    half, end5, four_half, eos = 256, 257, 258, 259
    constraint = RegexConstraint("4年5", Vocabulary(tokens, [eos]))
    state = constraint.start()
    assert np.flatnonzero(constraint.allowed(state)).tolist() == [ord("4"), four_half]
    assert np.flatnonzero(constraint.allowed(constraint.advance(state, ord("4")))).tolist() == [0xE5, half]
    state = constraint.advance(state, four_half)
    assert np.flatnonzero(constraint.allowed(state)).tolist() == [rest[0], end5]
    state = constraint.advance(state, end5)
    assert np.flatnonzero(constraint.allowed(state)).tolist() == [eos]


def test_a_vocabulary_without_single_bytes_never_leads_where_nothing_fits() -> None:
    vocabulary = by_characters("0123456789年月中é", ["2024年", "年底", "中国"])
    for pattern in [r".{2,4}", r"\d{2}年[^1]?", r"(中国|年底|中)1"]:
        constraint = RegexConstraint(pattern, vocabulary)
        for text in texts(constraint, 20):
            assert re.fullmatch(pattern, text), text
        reachable(constraint, 200)
    with pytest.raises(ValueError, match="no text that the vocabulary can spell"):
        RegexConstraint("国+|1底", vocabulary)  # its characters stand inside tokens only


def test_text_without_an_end_token_stops_where_nothing_is_allowed() -> None:
    constraint = RegexConstraint("ab?", Vocabulary([bytes([byte]) for byte in range(256)]))
    state = constraint.advance(constraint.start(), ord("a"))
    assert constraint.finished(state)
    state = constraint.advance(state, ord("b"))
    assert constraint.finished(state)
    assert not constraint.allowed(state).any()


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("a(?=b)", "look-ahead"), ("a(?!b)", "look-ahead"), ("(?<=a)b", "look-behind"), ("(?<!a)b", "look-behind"),
        (r"(a)\1", "back references"), ("(?P<x>a)(?P=x)", "back references"), (r"\bword", "word boundaries"),
        ("(?i)a", "flags"), ("(?>a)", "atomic"), ("a++", "possessive"), ("(a)?(?(1)b)", "conditionals"), (r"\p{Han}", r"\\p"),
        ("a**", "multiple repeat"), ("*a", "nothing to repeat"), ("(a", r"unbalanced \("), ("a)", r"unbalanced \)"),
        ("[a", r"unbalanced \["), ("[z-a]", "bad range"), (r"[\d-z]", "bad range"), ("a{3,2}", "least"), ("a\\", "ends in the middle"),
        ("a{1001}", "1000"), ("a{99999999999}", "1000"), ("a^b", "start and the end"), ("(^a)", "start and the end"),
        (r"\x4", "hexadecimal"), (r"\U00110000", "hexadecimal"), ("(" * 60 + ")" * 60, "50 groups"),
        ("((a{100}){100}){100}", "too large"), ("(a|b)*a(a|b){20}", "too large"), ("[a-c]*a.{900}", "too"),
        (r"[^\w\W]", "no text"), (r"\ud800", "no text"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_left_out_raises_by_name(pattern: str, what: str, vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        RegexConstraint(pattern, vocabulary)
    assert "\n" not in str(caught.value)


def test_expressions_cut_at_random_raise_or_work(vocabulary: Vocabulary) -> None:
    rng = random.Random(5)
    for _ in range(300):
        pattern = "".join(
            rng.choices(
                ["a", "1", "(", ")", "[", "]", "{", "}", ",", "2", "*", "+", "?", "|", "\\", "d", "^", "$", "-", ":", "."], k=8
            )
        )
        try:
            constraint = RegexConstraint(pattern, vocabulary)
        except ValueError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "possible nested set"
            compiled = re.compile(pattern)
        for text in ["", "a", "1", "a1", "11", "{2", "d", "-", "2,"]:
            if "^" not in pattern and "$" not in pattern:
                assert accepts(constraint, text) == (compiled.fullmatch(text) is not None), (pattern, text)


def test_wrong_tokens_raise(vocabulary: Vocabulary) -> None:
    constraint = RegexConstraint("ab", vocabulary)
    state = constraint.start()
    for token, what in [
        (ord("b"), "not allowed"),
        (vocabulary.eos[0], "not finished"),
        (len(vocabulary), "no id"),
        (-1, "no id"),
    ]:
        with pytest.raises(ValueError, match=what):
            constraint.advance(state, token)
    special = len(vocabulary) - 4
    assert vocabulary.tokens[special] == b""
    with pytest.raises(ValueError, match="not allowed"):
        constraint.advance(state, special)
    with pytest.raises(ValueError, match="read-only"):
        constraint.allowed(state)[0] = True
    with pytest.raises(ValueError, match="no id"):
        Vocabulary([b"a"], [1])
    with pytest.raises(ValueError, match="no token with text"):
        Vocabulary([b"", b""])


def test_the_mask_is_what_each_token_says_by_itself() -> None:
    """The walk over the trie, sparse and dense, against one token at a time."""
    rng = random.Random(3)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += ["".join(rng.choices("ab中国年12", k=rng.randint(1, 6))).encode()[rng.randrange(2) :] for _ in range(1500)] + [
        b""
    ]
    vocabulary = Vocabulary(tokens, [len(tokens) - 1])
    for pattern in [r".*", r"[^a]{3,5}1", r"12中.*", r"(ab|国)+年?", r"(?:[^中]|中国)*"]:
        constraint = RegexConstraint(pattern, vocabulary)
        state = constraint.start()
        for _ in range(4):
            mask = constraint.allowed(state)
            for index in range(len(tokens)):
                try:
                    constraint.advance(state, index)
                    assert mask[index], tokens[index]
                except ValueError:
                    assert not mask[index], tokens[index]
            if not mask[:-1].any():
                break
            state = constraint.advance(state, rng.choice(np.flatnonzero(mask[:-1]).tolist()))


def test_caches_are_bounded_and_states_outlive_them(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("govlm.generation.constrained.constraint._ROWS", 20)
    monkeypatch.setattr("govlm.generation.constrained.constraint._MASK_BYTES", 3 * len(vocabulary))
    constraint = RegexConstraint(r".{0,40}年", vocabulary)
    free = RegexConstraint(r".{0,40}年", vocabulary)
    states = reachable(free, 400)
    masks = [free.allowed(state).copy() for state in states]
    for state, mask in zip(states, masks, strict=True):
        assert np.array_equal(constraint.allowed(state), mask)
    assert len(constraint._masks) <= 3
    assert len(constraint._states) < 200


def test_one_constraint_serves_many_threads(vocabulary: Vocabulary) -> None:
    constraint = RegexConstraint(r"(?:[中国é]{1,5}\d{2,3};)+", vocabulary)
    alone = RegexConstraint(r"(?:[中国é]{1,5}\d{2,3};)+", vocabulary)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: texts(constraint, 3, seed), range(16)))
    assert found == [texts(alone, 3, seed) for seed in range(16)]


def test_with_a_real_byte_level_vocabulary() -> None:
    if not MINIMIND.exists():
        pytest.skip("../shared/data/vocab/minimind is not here")
    from govlm.tokenizers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(MINIMIND)
    vocabulary = Vocabulary.of(tokenizer, size=len(tokenizer) + 64)
    assert len(vocabulary) == len(tokenizer) + 64
    pattern = r"自\d{4}年\d{1,2}月起，[\u4e00-\u9fff]{2,6}(?:须|应当)办理[^\d]{0,8}。"
    constraint = RegexConstraint(pattern, vocabulary)
    rng = np.random.default_rng(1)
    for _ in range(20):
        state, ids = constraint.start(), []
        while not (constraint.finished(state) and constraint.allowed(state).sum() == 1):
            ids.append(int(rng.choice(np.flatnonzero(constraint.allowed(state)))))
            state = constraint.advance(state, ids[-1])
            if ids[-1] == tokenizer.eos_token_id:
                break
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert re.fullmatch(pattern, text), text
