"""The closed lists of plain words mean the same wherever a message is read: as an answer in a form, and in a conversation."""

import json
from importlib import resources

import pytest

from govlm.hall.answers.asked import names_nothing
from govlm.hall.dialogue.hearing import ASKS, plain_act
from govlm.hall.forms.bare import answer
from govlm.hall.forms.mood import Clauses
from govlm.hall.forms.schema import Form
from govlm.hall.understanding.plain_words import ASKING, CORRECTING, NO, NOTHING, SUPPOSING, YES, is_greeting

SAMPLE = resources.files("govlm") / "assets" / "sample-hall" / "forms"
FORMS = {name: Form.of(json.loads((SAMPLE / f"{name}.json").read_text("utf-8"))) for name in ("yibao", "zufang", "getihu")}
INJURY, NO_HOUSE = FORMS["yibao"].fields["injury"], FORMS["zufang"].fields["no_house"]


@pytest.mark.parametrize("word", [word for word in YES.split("|") if word != "嗯"])  # 嗯 alone may be a 嗯？
def test_a_yes_is_a_yes_everywhere(word):
    assert plain_act(word) in ("confirm", "submit")
    assert answer(INJURY, word)[0] == "是"


@pytest.mark.parametrize("word", NO.split("|"))
def test_a_no_is_a_no_everywhere(word):
    assert plain_act(word) == "deny"
    assert answer(INJURY, word)[0] == "否"


@pytest.mark.parametrize("word", NOTHING.split("|"))
def test_nothing_is_zero_no_and_the_yes_to_a_question_for_a_lack(word):
    assert answer(FORMS["yibao"].fields["self_paid"], word)[0] == "0"
    assert answer(INJURY, word)[0] == "否"
    assert answer(NO_HOUSE, word)[0] == "是"
    assert answer(NO_HOUSE, "有")[0] == "否" and answer(NO_HOUSE, "不是")[0] == "否" and answer(NO_HOUSE, "是的")[0] == "是"
    assert answer(FORMS["getihu"].fields["trade_name"], word) is None


@pytest.mark.parametrize("word", [word for word in ASKING.split("|") if "[" not in word])
def test_a_question_is_one_everywhere(word):
    assert ASKS.search(word)
    assert Clauses("提前退休" + word).asks(0, 4) and not Clauses(f"提前退休，{word}").asks(0, 4)


@pytest.mark.parametrize("word", [word for word in SUPPOSING.split("|") if "(" not in word] + ["要是"])
def test_a_supposition_reaches_to_what_follows_from_it(word):
    text = f"{word}房租两千就提一千八"
    clauses = Clauses(text)
    assert clauses.supposes(text.index("两千"), text.index("两千") + 2)
    assert not clauses.supposes(text.index("一千八"), len(text))
    assert not Clauses("主要是房租两千").supposes(5, 7)


@pytest.mark.parametrize("word", CORRECTING.split("|"))
def test_a_correction_is_one_in_a_conversation(word):
    assert plain_act(f"身份证号{word}，写的不是那个号") == "correct"


@pytest.mark.parametrize("text", ["谢谢", "你好", "您好，在吗？", "辛苦了", "非常感谢您的帮助", "哈哈哈", "hello"])
def test_a_greeting_is_one(text: str) -> None:
    assert is_greeting(text) and plain_act(text) == "smalltalk"


@pytest.mark.parametrize("text", ["", "谢谢，我要办低保", "好的谢谢", "谢谢是谁", "你好我想问下电话", "嗯", "哈密市怎么去"])
def test_what_says_more_is_no_greeting(text: str) -> None:
    assert not is_greeting(text)


@pytest.mark.parametrize("text", ["电话多少", "你们几点下班", "在哪里办啊", "要多少钱", "请问需要什么材料"])
def test_a_question_of_nothing_is_asked_back(text: str) -> None:
    assert names_nothing(text)


@pytest.mark.parametrize("text", ["低保要多少钱", "火车票多少钱", "居住证在哪办", "谢谢", "我想问一下"])
def test_a_question_of_something_is_not(text: str) -> None:
    assert not names_nothing(text)
