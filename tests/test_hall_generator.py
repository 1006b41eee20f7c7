"""The hall's generator: what it may say, what is dropped, and that nothing it does or fails to do changes an answer's facts."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_language_model
from answers_items import SUBSIDY, TODAY, Records

import govlm
from govlm._native import core
from govlm.cli import main
from govlm.generation.constrained import figures
from govlm.hall import Hall
from govlm.hall.answers.answer import answer_item
from govlm.hall.answers.citations import CitationError, Part, Phrased, Sentence, check, cite, cite_span
from govlm.hall.answers.compose import compose
from govlm.hall.answers.faithful import GLUE, judge, marks, named, sentences
from govlm.hall.answers.rendering import checked
from govlm.hall.catalogue.records import Document
from govlm.hall.catalogue.report import CatalogueError
from govlm.hall.generator.local import LocalGenerator
from govlm.hall.generator.phrasing import Phraser
from govlm.hall.policy import interpret, summarise
from govlm.hall.policy.source import sentences as units_of

NOW = datetime(2026, 3, 5, 9)
QUESTION, MATERIALS = "身份证多少钱", "补办身份证要带什么？"


class Scripted:
    """A generator that writes what it is told to, or raises it."""

    def __init__(self, script: Callable[[str, list[str]], Any] | str | BaseException) -> None:
        self.script, self.asked, self.sources = script, [], []
        self.closed = False

    def write(self, messages: Any, *, sources: Any, names: Any, most: int, seconds: float, given_up: Any) -> Any:
        self.asked.append("\n".join(message["content"] for message in messages))
        self.sources.append(list(sources))
        if isinstance(self.script, BaseException):
            raise self.script
        return self.script if isinstance(self.script, str) else self.script(self.asked[-1], list(sources))

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    with Hall.sample() as found:
        yield found


@pytest.fixture
def phrased(hall: Hall) -> Iterator[Callable[..., Scripted]]:
    """Gives the hall a scripted generator."""

    def give(script: Any, seconds: float = 10.0) -> Scripted:
        made = Scripted(script)
        hall.phraser = Phraser(made, seconds)
        return made

    yield give
    hall.phraser = None


def kinds(answer: Any) -> list[str]:
    return [part.kind for part in answer.parts]


def said(answer: Any) -> list[str]:
    return [sentence.text for part in answer.parts if part.kind == "phrased" for sentence in part.sentences]


# ---- what a sentence may say

HOUSEHOLD = [
    ("居民户口簿", True), ("（", False), ("原件", True), ("，", False), ("1", True), ("份", False), ("，", False), ("不是人人都要交", False),
    ("，", False), ("异地补领的可以用居住证、其他证件代替", True), ("）", False),
]  # fmt: skip
FORM = [
    ("居民身份证申领登记表", True),
    ("（", False),
    ("原件", True),
    ("，", False),
    ("1", True),
    ("份", False),
    ("，", False),
    ("必须交", False),
    ("）", False),
]
FREE, FEES = [("收费情况：", False), ("不收费", True)], [("老年人每证30元，儿童每证50元，当场缴纳", True)]
RENT = [("第五条 租房提取的，连续足额缴存满3个月，本人及配偶没有自有住房。没有租赁合同的，每人每月不超过1500元。", True)]
LIST = [("有下列情形之一的，不予受理：\n（一）材料不齐；\n（二）超过期限。\n其他的应当在5日内受理。", True)]
WHERE = [("居民身份证在示例市公安局领取", True)]
PAPER = [("按《居民身份证法》第十一条办理，见示府规〔2024〕8号", True)]
POOR, ANYBODY = [("低保户的，补贴500元。", True)], [("补贴800元，按月发放，残疾人减半。", True)]
ALL = [HOUSEHOLD, FORM, FREE, FEES, RENT, LIST, WHERE, PAPER, POOR, ANYBODY]


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("您需要带上居民身份证申领登记表（原件，1份，必须交）。", (1,)),
        ("请准备好居民户口簿原件1份，不是人人都要交，异地补领的可以用居住证、其他证件代替。", (0,)),
        ("这项不收费。", (2,)),
        ("老年人每证30元，儿童每证50元", (3,)),  # the clause behind may be left out
        ("租房提取的，连续足额缴存满3个月，本人及配偶没有自有住房。", (4,)),
        ("没有租赁合同的，每人每月不超过1500元。", (4,)),
        ("其他的，应当在5日内受理。", (5,)),
        ("有下列情形之一的，不予受理：材料不齐，超过期限。", (5,)),
        ("居民身份证请到示例市公安局领取。", (6,)),
        ("按《居民身份证法》第十一条办理，见示府规〔2024〕8号。", (7,)),
        ("这项不收费，居民身份证在示例市公安局领取。", (2, 6)),
        ("老年人每证３０元，儿童每证50元", (3,)),  # full-width digits are digits
    ],
)
def test_what_says_the_same_may_be_said(text: str, used: tuple[int, ...]) -> None:
    assert judge(text, ALL) == ("", used)


@pytest.mark.parametrize(
    "text",
    [
        "收费。", "这项收费。", "收费情况：收费", "这项要收费。", "这项不是不收费。",
        "老年人每证50元，儿童每证30元", "老年人每证50元", "儿童每证50元", "老年人每证30.5元", "老年人每证3元，儿童每证50元", "老年人每证30万元，儿童每证50元",
        "每人每月不超过1500元。", "没有租赁合同的，每人每月1500元。", "有租赁合同的，每人每月不超过1500元。", "没有租赁合同的，每人每月超过1500元。",
        "没有租赁合同的，每人每年不超过1500元。", "没有租赁合同的，每人每月不超过150元。",
        "租房提取的，连续足额缴存满3个月。", "租房提取的，连续足额缴存3个月，本人及配偶没有自有住房。", "连续足额缴存满3个月，本人没有自有住房。",
        "租房提取的，需要连续足额缴存满3个月，本人及配偶没有自有住房。",
        "您需要带居民户口簿。", "您需要带居民户口簿原件1份。", "居民户口簿原件1份，必须交。", "居民户口簿原件2份，不是人人都要交，异地补领的可以用居住证、其他证件代替。",
        "居民户口簿原件1份，不是人人都要交，异地补领的应当用居住证、其他证件代替。",
        "材料不齐，超过期限。", "有下列情形之一的，予以受理：材料不齐，超过期限。", "有下列情形之一的，不予受理：材料不齐。",
        "其他的，可以在5日内受理。", "其他的，应当在5日后受理。", "其他的，应当在5个工作日内受理。",
        "居民身份证在示例市民政局领取。", "居民身份证在市公安局领取。", "居民身份证在示例局领取。", "居民身份证在示例市公安局或者窗口领取。",
        "按《身份证法》第十一条办理，见示府规〔2024〕8号。", "按《居民身份证法》第十条办理，见示府规〔2024〕8号。", "按《居民身份证法》第十一条办理，见示府规〔2023〕8号。",
        "低保户的，补贴800元，按月发放，残疾人减半。", "低保户的，补贴800元。", "低保户的。", "补贴800元，按月发放。", "补贴500元。", "补贴800元，按月发放，低保户减半。",
        "您可以委托他人代办。", "您可以打电话13800138000问。", "请联系张三领取。", "居民身份证在示例市公安局领取，联系人110101199003071233。", "请访问www.example.com。", "您好。", "", "□□□", "这项不收费\ufffd", "这项\u202e不收费", "这项不\u200b收费", "这项不收费👍", "这项不收费" + "，您好" * 45, "不" * 50, "这项不收费" * 80,
    ],
)  # fmt: skip
def test_what_says_anything_else_is_a_fault(text: str) -> None:
    assert judge(text, ALL).fault
    assert judge(text, ALL).used == ()


def test_the_words_that_are_free_say_nothing() -> None:
    for word in GLUE:
        assert not marks(word) and not figures(word), word
    assert not re.search("不|无|未|没|非|免|可以|必须|应当|或|元|收", "".join(GLUE))


# ---- mutations of all that the sample hall says

_SWAPPED = (
    ("以上", "以下"), ("以下", "以上"), ("可以", "应当"), ("应当", "可以"), ("或者", "和"), ("前", "后"), ("超过", "低于"), ("必须", "可以"), ("内", "后"),
    ("每月", "每年"), ("本人", "他人"), ("工作日", "日"), ("元", "万元"), ("本市", "全国"), ("原件", "复印件"), ("公安局", "民政局"), ("示例市", "示范市"),
)  # fmt: skip


def _digit(text: str, rng: random.Random) -> str:
    found = [match.start() for match in re.finditer("[0-9]", text)]
    at = rng.choice(found) if found else None
    return text if at is None else text[:at] + rng.choice([d for d in "0123456789" if d != text[at]]) + text[at + 1 :]


def _denied(text: str, rng: random.Random) -> str:
    found = [match.start() for match in re.finditer("[㐀-鿿]{2}", text)]
    return text[: (at := rng.choice(found))] + "不" + text[at:] if found else text


def _affirmed(text: str, rng: random.Random) -> str:
    found = [match.start() for match in re.finditer("[不未无没非免]", text)]
    return text[: (at := rng.choice(found))] + text[at + 1 :] if found else text


def _swapped(text: str, rng: random.Random) -> str:
    known = [(old, new) for old, new in _SWAPPED if old in text]
    if not known:
        return text
    old, new = rng.choice(known)
    at = rng.choice([match.start() for match in re.finditer(old, text)])
    return text[:at] + new + text[at + len(old) :]


def _exchanged(text: str, rng: random.Random) -> str:
    found = list(re.finditer("[0-9]+", text))
    if len(found) < 2:
        return text
    a, b = sorted(rng.sample(found, 2), key=lambda match: match.start())
    return text[: a.start()] + b.group() + text[a.end() : b.start()] + a.group() + text[b.end() :]


def _shortened(text: str, rng: random.Random) -> str:
    clauses = [clause for clause in re.split("(?<=[，；、])", text) if clause]
    at = rng.randrange(len(clauses) - 1) if len(clauses) > 1 else None
    return text if at is None else "".join(clauses[:at] + clauses[at + 1 :])


@pytest.fixture(scope="module")
def everything(hall: Hall) -> list[Sentence]:
    """Every third sentence of all guides and documents of the sample hall."""
    library = hall.library
    found = [s for item in library.items.values() for part in compose(item) for s in part.sentences]
    for document in library.documents.values():
        found += [Sentence((cite_span(document, u.passage, u.start, u.end),)) for u in units_of(document)]
    return found[::3]


def test_what_is_quoted_may_be_said_as_it_is(everything: list[Sentence]) -> None:
    for source in everything:
        assert judge(source.text, [source.quoted]) == ("", (0,)), source.text
        assert judge(f"请您看：{source.text}", [source.quoted]).fault == "", source.text


@pytest.mark.parametrize("change", [_digit, _denied, _affirmed, _swapped, _exchanged, _shortened], ids=lambda f: f.__name__)
def test_no_change_of_a_number_a_condition_or_a_no_passes(
    everything: list[Sentence], change: Callable[[str, random.Random], str]
) -> None:
    rng, tried = random.Random(7), 0
    for place, source in enumerate(everything):
        text = change(source.text, rng)
        if text == source.text:
            continue
        tried += 1
        near = [other.quoted for other in everything[max(0, place - 3) : place + 3] if other is not source]
        assert judge(text, [source.quoted]).fault, (source.text, text)
        if change in (_denied, _digit):  # what stands beside it does not help
            assert judge(text, [source.quoted, *near]).fault or any(text in "".join(p for p, _ in n) for n in near), text
    assert tried > 80


# ---- the checker


def test_the_checker_holds_what_was_generated_to_its_sources() -> None:
    catalogue = Records(SUBSIDY)
    source = Sentence((cite(SUBSIDY, "materials.1.name"),))

    def attempt(text: str, *sources: Any) -> None:
        check([Part("phrased", "", (Sentence((Phrased(text, sources),)),))], catalogue)

    attempt("请准备居民户口簿。", source)
    for text, sources in (
        ("请准备居民户口簿2份。", (source,)),
        ("请准备结婚证。", (source,)),
        ("请准备居民户口簿。", ()),
        ("请准备居民户口簿。", (Sentence(("居民户口簿",)),)),  # no citation, no fixed phrase
        ("请准备居民户口簿。", (Sentence((replace(cite(SUBSIDY, "materials.1.name"), version="0" * 12),)),)),
        ("请准备居民户口簿。", (Sentence((Phrased("居民户口簿", (source,)),)),)),
    ):
        with pytest.raises(CitationError):
            attempt(text, *sources)


def test_names_of_a_long_row_of_signs_are_found_at_once() -> None:
    """A row of digits and signs without a letter was looked through anew from each of its places: this never ended."""
    assert named("1-" * 100_000) == []
    assert named("1-2:" * 50_000 + "a") == ["1-2:" * 50_000 + "a"]
    assert named("编号12-ab。见 x1、《通知》") == ["12-ab", "x1", "《通知》"]


def test_the_sentences_of_what_was_written() -> None:
    assert sentences("一、甲。乙！\n- 丙\n\n  · 丁") == ["一、甲。", "乙！", "丙", "丁"]
    assert sentences("1. **甲**\n2、乙\n3）丙\n1.5倍\n2024年") == ["甲", "乙", "丙", "1.5倍", "2024年"]
    assert sentences("") == []


# ---- answers


def test_off_by_default(hall: Hall) -> None:
    assert hall.phraser is None and "phrased" not in kinds(hall.ask(QUESTION))


def test_an_answer_in_plain_words_stands_before_what_it_quotes(hall: Hall, phrased: Any) -> None:
    before = hall.ask(QUESTION)
    generator = phrased("您好，工本费每证40元。")
    answer = hall.ask(QUESTION)
    assert kinds(answer) == ["item", "phrased", "fee"] and said(answer) == ["您好，工本费每证40元。"]
    assert answer.parts[0] == before.parts[0] and answer.parts[2:] == before.parts[1:]
    assert "简单说（AI 生成，以下面的原文为准）" in answer.text and "您好，工本费每证40元。 [3]" in answer.text
    assert set(answer.citations) == set(before.citations)
    assert "工本费每证40元" in generator.asked[0] and QUESTION in generator.asked[0]


@pytest.mark.parametrize(
    "script",
    [
        "您好，工本费每证80元。", "您好，工本费免费。", "您可以找张三，电话13800138000。", "", "\ufffd\x00" * 50, "工本费" * 20_000, 5, None, b"bytes",
        RuntimeError("out of memory"), MemoryError(), SystemExit(3), "\n".join("甲" * 3000), TimeoutError("slow"), FloatingPointError("NaN"), OSError(28, "No space left on device"),
        "工本费每证40元。\n您可以贷款。\n您可以委托他人。",  # less than half is left
    ],
    ids=lambda s: repr(s)[:20],
)  # fmt: skip
def test_what_cannot_be_shown_leaves_the_answer_as_it_is(hall: Hall, phrased: Any, script: Any) -> None:
    before = hall.ask(QUESTION)
    phrased(script if isinstance(script, (str, BaseException)) else lambda *_: script)
    assert hall.ask(QUESTION) == before
    phrased(script if isinstance(script, (str, BaseException)) else lambda *_: script)
    assert hall.chat(f"s{random.random()}", QUESTION, now=NOW).text.endswith("办事指南")


def test_a_failure_is_told_once(hall: Hall, phrased: Any, caplog: pytest.LogCaptureFixture) -> None:
    phrased(RuntimeError("on behalf of 13800138000"))
    for _ in range(3):
        hall.ask(QUESTION)
    told = [record for record in caplog.records if "generator" in record.getMessage()]
    assert len(told) == 1 and told[0].levelno == logging.WARNING and "13800138000" not in caplog.text


def test_one_that_never_ends_keeps_nobody_waiting(hall: Hall, phrased: Any) -> None:
    before, hold = hall.ask(QUESTION), threading.Event()
    phrased(lambda *_: hold.wait(60) and "工本费每证40元。", seconds=0.05)
    begun = time.monotonic()
    assert hall.ask(QUESTION) == before
    assert time.monotonic() - begun < 30  # not the 60 that it takes
    hold.set()


def test_a_sentence_that_says_more_is_dropped_and_so_is_what_leans_on_it(hall: Hall, phrased: Any) -> None:
    source = "居民身份证申领登记表（原件，1份，纸质或电子，必须交，现场核对后签名）"
    phrased(f"请准备{source}。\n另外，《居民身份证补领》由示例市公安局办理。")
    assert said(hall.ask(MATERIALS)) == [f"请准备{source}。"]
    other = "居民户口簿（原件，1份，纸质，不是人人都要交，异地补领的可以用居住证、其他证件代替，警方能核实的不用交）"
    phrased(f"请准备{source}。\n您可以贷款。\n其中{other}。")
    assert said(hall.ask(MATERIALS)) == []  # one of three is left
    phrased(f"请准备{source}。\n您可以贷款。\n请准备{other}。")
    assert said(hall.ask(MATERIALS)) == [f"请准备{source}。", f"请准备{other}。"]


def test_what_only_repeats_is_not_shown_twice(hall: Hall, phrased: Any) -> None:
    phrased(lambda asked, sources: "\n".join(sources))
    assert "phrased" not in kinds(hall.ask(QUESTION))


def test_refusals_choices_and_what_is_set_right_are_left_alone(hall: Hall, phrased: Any) -> None:
    generator = phrased("您好。")
    for text in ("今天天气怎么样", "", "身份证补办是不是要100块钱？"):
        answer = hall.ask(text)
        assert answer.refused or "premise" in kinds(answer)
    assert not generator.asked


def test_what_goes_in_is_masked_and_what_comes_out_is_told_as_it_stands(hall: Hall) -> None:
    item = replace(SUBSIDY, consult_phones=("010-62782051",))
    catalogue = Records(item)
    before = answer_item("咨询电话是多少", item, catalogue, TODAY)
    assert kinds(before) == ["item", "phones"]
    generator = Scripted(lambda asked, sources: "请打" + next(s for s in sources if "咨询" in s))
    answer = Phraser(generator).answer("我叫张三，号码110101199003071233，咨询电话是多少", before, catalogue)
    assert "110101199003071233" not in generator.asked[0] and "62782051" not in generator.asked[0]
    assert said(answer) == [] or "010-62782051" in said(answer)[0]
    generator = Scripted(lambda asked, sources: "请看：" + next(s for s in sources if "咨询" in s))
    answer = Phraser(generator).answer("咨询电话是多少", before, catalogue)
    assert "62782051" not in "".join(generator.sources[0]) and "010-62782051" in said(answer)[0]
    leak = Phraser(Scripted("请看：咨询电话：010-62782051、13800138000")).answer("电话", before, catalogue)
    assert said(leak) == []


def test_a_span_of_a_policy_is_phrased_with_the_sentence_around_it(hall: Hall) -> None:
    document = _document(hall)
    sentence = next(u for u in units_of(document) if "没有租赁合同的" in u.text)
    at = sentence.text.index("每人")
    span = cite_span(document, sentence.passage, sentence.start + at, sentence.end)
    around = cite_span(document, sentence.passage, sentence.start, sentence.end)
    answer = checked([Part("policy", "", (Sentence((span,)), Sentence((around,))))], hall.library)
    for text, shown in (("请看：每人每月不超过1500元。", False), ("请看：没有租赁合同的，每人每月不超过1500元。", True)):
        assert bool(said(Phraser(Scripted(text)).answer("租房能提多少", answer, hall.library))) == shown


def test_a_whole_guide_is_too_much(hall: Hall, phrased: Any) -> None:
    generator = phrased("您好。")
    answer = hall.ask("公积金贷款最高能贷多少")  # all of a guide
    assert len(answer.parts) > 5 and not generator.asked


def test_an_answer_put_together_by_hand_is_shown_as_it_is(hall: Hall, phrased: Any) -> None:
    given = hall.ask(MATERIALS)
    generator = phrased("您好。")
    hall.curated = lambda text, region, today: given
    try:
        assert hall.ask(QUESTION) is given and not generator.asked
    finally:
        hall.curated = None


# ---- conversations


def test_a_conversation_shows_and_keeps_it(hall: Hall, phrased: Any) -> None:
    phrased("您好，工本费每证40元。")
    turn = hall.chat("keeps", QUESTION, now=NOW)
    assert "您好，工本费每证40元。" in turn.text
    (part,) = [part for part in turn.parts if part["kind"] == "phrased"]
    assert part["lines"][0]["text"] == "您好，工本费每证40元。" and part["lines"][0]["citations"]
    (kept,) = hall.history("keeps")
    assert kept.reply["text"] == turn.text and hall.state("keeps") == turn.state


def test_a_turn_that_cannot_be_kept_is_refused_as_before(hall: Hall, phrased: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    phrased("您好，工本费每证40元。")

    def full(*_: Any, **__: Any) -> Any:
        raise CatalogueError("the disk is full")

    monkeypatch.setattr(hall.sessions, "save", full)
    turn = hall.chat("full", QUESTION, now=NOW)
    assert not turn.kept and "40元" not in turn.text


@pytest.mark.parametrize(
    ("text", "written", "used"),
    [
        ("那要多久", "补领居民身份证要多久", True),
        ("那30天内呢", "补领居民身份证30天内呢", True),
        ("那30天内呢", "补领居民身份证呢", False),  # a number is lost
        ("那30天内呢", "补领居民身份证15天内呢", False),
        ("那不去行吗", "补领居民身份证去行吗", False),  # the no is lost
        ("那去民政局行吗", "补领居民身份证去公安局行吗", False),
        ("那要多久", "补领居民身份证要多久，110元", False),  # a number that nobody said
        ("那去行吗", "补领居民身份证不去行吗", False),
        ("那要多久", "", False),
        ("那要多久", "补" * 500, False),
        ("我想知道补领居民身份证要到哪里去办理手续才可以", "别的", False),  # it leans on nothing
        ("那我的13800138000呢", "补领居民身份证13800138000", False),
    ],
)
def test_a_follow_up_is_made_whole_only_where_all_is_kept(text: str, written: str, used: bool) -> None:
    found = Phraser(Scripted(written)).question(text, ["补领居民身份证要带什么"])
    assert found == (written if used else text)


def test_a_follow_up_is_looked_up_as_the_question_that_it_means(hall: Hall, phrased: Any) -> None:
    assert hall.ask("那丢了呢", earlier=["居民身份证怎么办"]).refused
    generator = phrased(lambda asked, sources: "居民身份证丢了怎么补领" if "最后一个问题" in asked else "")
    answer = hall.ask("那丢了呢", earlier=["居民身份证怎么办"])
    assert not answer.refused and "居民身份证补领" in answer.text
    assert "居民身份证怎么办" in generator.asked[0]
    hall.chat("follows", "您好", now=NOW)
    turn = hall.chat("follows", "那丢了呢", now=NOW)
    assert turn.message == "那丢了呢" and hall.history("follows")[-1].message == "那丢了呢"


# ---- policies


def _document(hall: Hall) -> Document:
    return next(document for document in hall.library.documents.values() if "公积金" in document.title)


def test_a_summary_in_plain_words_loses_nothing(hall: Hall, phrased: Any) -> None:
    document = _document(hall)
    bare = summarise(document)
    assert bare.plain == () and summarise(document, phraser=None) == bare
    phrased(lambda asked, sources: "\n".join(f"请您看：{s}" for s in sources[:-1]))
    found = summarise(document, phraser=hall.phraser)
    assert found.sentences == bare.sentences and found.citations == bare.citations
    assert len(found.plain) == len(bare.sentences) and found.plain[0].text.startswith("请您看：")
    assert found.plain[-1].text == bare.sentences[-1].text  # it left this one out
    assert [c for s in found.plain for c in s.citations] == list(bare.citations)
    for script in ("没有这样的事。", RuntimeError(), "1500元"):
        phrased(script)
        assert summarise(document, phraser=hall.phraser) == bare
    phrased("请看。")
    assert summarise("没有条款的一段文字，也有一些内容。", phraser=hall.phraser).plain == ()


def test_a_flipped_sentence_of_a_summary_is_shown_as_it_stands(hall: Hall, phrased: Any) -> None:
    document = _document(hall)
    bare = summarise(document, 400)
    phrased(lambda asked, sources: "\n".join(f"请您看：{s.replace('不超过', '超过')}" for s in sources))
    found = summarise(document, 400, phraser=hall.phraser)
    assert any("不超过" in s.text for s in bare.sentences)
    for sentence, shown in zip(bare.sentences, found.plain, strict=True):
        assert shown.text.startswith("请您看：") != ("不超过" in sentence.text)


def test_an_interpretation_in_plain_words(hall: Hall, phrased: Any) -> None:
    document = _document(hall)
    bare = interpret(document)
    phrased(lambda asked, sources: "\n".join(f"请您看：{s}" for s in sources))
    found = interpret(document, phraser=hall.phraser)
    assert found.points("who") == bare.points("who") and found.plain and not bare.plain
    for name, said in found.plain.items():
        assert {c for s in said for c in s.citations} <= {p.citation for p in found.points(name)}
    assert found.to_dict()["amounts"]["plain"] == [s.text for s in found.plain.get("amounts", ())]
    hold = threading.Event()
    phrased(lambda *_: hold.wait(60), seconds=0.05)
    assert interpret(document, phraser=hall.phraser) == bare
    hold.set()


# ---- a real model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "tiny"
    tiny_language_model.make(folder, positions=4096)
    return folder


def test_a_random_model_never_changes_a_fact(hall: Hall, model: Path) -> None:
    questions = [MATERIALS, QUESTION, "低保怎么申请", "高龄津贴多少钱", "失业保险金能领多久", "居住证在哪里办"]
    before = [hall.ask(text, today=NOW.date()) for text in questions]
    generator = LocalGenerator(model)
    written: list[tuple[list[str], str]] = []
    write = generator.write

    def heard(messages: Any, *, sources: Any, **options: Any) -> str:
        text = write(messages, sources=sources, **{**options, "most": 48, "seconds": 60.0})
        written.append((list(sources), text))
        return text

    generator.write = heard  # type: ignore[method-assign]
    hall.phraser = Phraser(generator, 60.0)
    try:
        for text, plain in zip(questions, before, strict=True):
            answer = hall.ask(text, today=NOW.date())
            assert [part for part in answer.parts if part.kind != "phrased"] == list(plain.parts)
            assert set(answer.citations) <= set(plain.citations)
    finally:
        hall.phraser = None
        generator.close()
    assert len(written) >= 4 and any(text for _, text in written)
    for sources, text in written:  # copy mode: no figure that no source has
        assert set(figures(text)) <= {figure for source in sources for figure in figures(source)} or text.endswith("\ufffd")


def test_many_who_ask_at_once_are_all_answered(hall: Hall, model: Path) -> None:
    before = hall.ask(QUESTION, today=NOW.date())
    found: list[Any] = []
    with Hall.open(hall.folder, LocalGenerator(model, requests=2)) as other:
        assert other.phraser is not None
        other.phraser.seconds = 60.0
        threads = [threading.Thread(target=lambda: found.append(other.ask(QUESTION, today=NOW.date()))) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(found) == 24  # two at a time with the model, the others without
    assert all([part for part in answer.parts if part.kind != "phrased"] == list(before.parts) for answer in found)


def test_a_model_that_cannot_be_used_changes_nothing(
    hall: Hall, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hall.ask(QUESTION)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Hall.open(hall.folder, tmp_path / "none")
    with pytest.raises(TypeError, match="write"):
        Hall.open(hall.folder, 5)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    small = tmp_path / "small"
    tiny_language_model.make(small, positions=64)  # the prompt is longer
    broken = tiny_language_model.make(tmp_path / "nan", positions=4096)
    for name, parameter in broken.named_parameters():
        if "norm" in name:
            parameter.data[...] = np.nan
    broken.save_pretrained(tmp_path / "nan")
    for path, reason in ((tmp_path / "broken.gguf", "broken.gguf"), (small, "positions"), (tmp_path / "nan", "not finite")):
        caplog.clear()
        with Hall.open(hall.folder, path) as other:
            assert other.ask(QUESTION) == before == other.ask(QUESTION)
        told = [record.getMessage() for record in caplog.records if "generator" in record.getMessage()]
        assert len(told) == 1 and reason in told[0], path


def test_a_model_that_is_late_is_given_up(model: Path) -> None:
    generator = LocalGenerator(model)
    running = generator.ready(60)
    with pytest.raises(TimeoutError):
        generator.write([{"role": "user", "content": "您好"}], sources=["甲"], names=[], most=400, seconds=0.0)
    end = time.monotonic() + 30
    while running.engine.usage()["requests"]:
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.01)
    generator.close()


def test_the_commands_take_a_generator(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = Path(govlm.__file__).parent / "assets" / "sample-hall" / "policies" / "示例市失业保险办法.md"
    for words in (["chat", "--text", QUESTION, "--session", "s"], ["policy", str(policy)]):
        assert main(words) == 0
        plain = capsys.readouterr().out
        assert main([*words, "--generator", str(model)]) == 0
        assert [line for line in plain.splitlines() if line] == [line for line in capsys.readouterr().out.splitlines() if line]
        assert main([*words, "--generator", str(tmp_path)]) == 1  # no model there
        assert "config.json" in capsys.readouterr().err


def test_a_policy_in_plain_words_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Path(govlm.__file__).parent / "assets" / "sample-hall" / "policies" / "示例市失业保险办法.md"
    script = Scripted(lambda asked, sources: "\n".join(f"请您看：{s}" for s in sources))
    monkeypatch.setattr("govlm.commands.policy.read_generator", lambda path: script)
    assert main(["policy", str(policy), "--generator", "x"]) == 0
    out = capsys.readouterr().out
    assert out.count("简单说（AI 生成，以下面的原文为准）") > 1 and "请您看：" in out


def test_who_goes_away_stops_the_model(hall: Hall, model: Path) -> None:
    """As the portal's gate does it: a cancel around the thread that asks."""
    generator = LocalGenerator(model)
    engine = generator.ready(60).engine
    begun, ended = threading.Event(), threading.Event()
    forward = engine._scheduler._forward

    def slow(fed: Any) -> Any:
        begun.set()
        time.sleep(0.02)
        return forward(fed)

    engine._scheduler._forward = slow  # type: ignore[method-assign]
    stop = core.Cancel()

    def ask() -> None:
        with stop:
            assert not core.Cancel.here()
            try:
                Phraser(generator, 60.0).plain(sources, hall.library)
            except core.Cancelled:
                ended.set()
            assert core.Cancel.here()

    document = _document(hall)
    sources = [Sentence((cite_span(document, u.passage, u.start, u.end),)) for u in units_of(document)[8:10]]
    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(60)
    stop.cancel()
    thread.join(60)
    assert ended.is_set() and not core.Cancel.here()
    end = time.monotonic() + 30
    while engine.usage()["requests"]:
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.01)
    generator.close()


def test_a_hall_closes_its_generator(tmp_path: Path) -> None:
    generator = Scripted("")
    with Hall.create(tmp_path / "hall"):
        pass
    with Hall.open(tmp_path / "hall", generator) as hall:
        assert hall.phraser is not None and hall.phraser.generator is generator
    assert generator.closed
