"""The form beside the conversation: fields that are edited there, and the button that submits."""

from __future__ import annotations

from datetime import datetime

import pytest

pytest.importorskip("sqlalchemy", reason='conversations need pip install "govlm[hall]"')

from govlm.hall.hall import Hall

NOW = datetime(2026, 3, 2, 9)
VALUES = {
    "applicant_name": "张秀兰", "id_number": "43010319620418042１", "sex": "女", "mobile": "139 7311 2233",
    "household_address": "示例市河东区幸福路12号", "family_size": "三口人", "monthly_income": "2,100元", "pension_income": "0",
    "marital": "丧偶", "reason": "重病", "bank_card": "6217 0012 3456 7801 376",
}  # fmt: skip


@pytest.fixture(scope="module")
def hall():
    with Hall.sample() as made:
        yield made


def at_the_form(hall: Hall, session: str) -> None:
    for text in ("我想申请低保", "都符合", "开始填吧", "同意"):
        hall.chat(session, text, NOW)


def test_a_form_that_is_filled_by_hand_is_submitted_once(hall: Hall) -> None:
    at_the_form(hall, "hand")
    turn = hall.correct("hand", VALUES, NOW, key="a")
    assert turn.state.problems == () and turn.state.form["family_size"] == "3" and turn.state.form["monthly_income"] == "2100"
    assert turn.state.form["id_number"] == "430103196204180421" and turn.state.form["mobile"] == "13973112233"
    assert turn.state.asking == "home_address"  # optional, and not given
    turn = hall.correct("hand", {"home_address": ""}, NOW)
    hall.chat("hand", "跳过", NOW)
    assert hall.state("hand").asking == "confirm"
    done = hall.confirm("hand", NOW, key="b")
    assert len(done.state.receipts) == 1 and done.state.receipts[0][1] in done.text
    assert hall.confirm("hand", NOW, key="b").text == done.text and len(hall.sessions.submissions("hand")) == 1
    with pytest.raises(LookupError):  # nothing waits any more
        hall.confirm("hand", NOW, key="c")
    (item, form, values), *more = hall.papers(hall.sessions.submissions("hand")[0])
    assert (
        item.name == "最低生活保障申请" and values["mobile"] == "13973112233" and set(values) <= set(form.fields) and not more
    )
    assert not any(value in entry.message for entry in hall.history("hand") for value in ("张秀兰", "13973112233"))


def test_what_is_wrong_stands_at_the_field_and_is_not_kept(hall: Hall) -> None:
    at_the_form(hall, "wrong")
    turn = hall.correct("wrong", {"mobile": "1397311", "sex": "女", "id_number": "430103196204180422"}, NOW)
    assert {problem.fields[0] for problem in turn.state.problems} == {"mobile", "id_number"}
    assert turn.state.form == {"sex": "女"} and turn.state.asking in ("mobile", "id_number")
    turn = hall.correct("wrong", {"id_number": "430103196204180421", "sex": "男"}, NOW)  # each is right, together they are not
    assert [problem.kind for problem in turn.state.problems] == ["sex_matches_id"]
    with pytest.raises(ValueError):
        hall.correct("wrong", {"no_such_field": "1"}, NOW)
    with pytest.raises(LookupError):
        hall.correct("empty", {"sex": "女"}, NOW)
    with pytest.raises(LookupError):
        hall.confirm("wrong", NOW)


def test_an_identity_number_is_not_kept_before_consent(hall: Hall) -> None:
    for text in ("申请低保", "符合"):
        hall.chat("early", text, NOW)
    turn = hall.correct("early", {"id_number": "430103196204180421", "sex": "女"}, NOW)
    assert turn.state.asking == "consent" and turn.state.form["id_number"]  # shown, in memory
    assert hall.state("early").form == {"sex": "女"}
    assert hall.chat("early", "同意", NOW).state.form["id_number"] == "430103196204180421"
    assert hall.state("early").form["id_number"] == "430103196204180421"
    assert hall.history("early", after=2)[0].message == "（在表格里填写：申请人身份证号、性别）"


def test_a_field_that_is_not_required_can_be_emptied(hall: Hall) -> None:
    at_the_form(hall, "emptied")
    hall.correct("emptied", {"home_address": "示例市河西区解放路8号", "mobile": "13973112233"}, NOW)
    turn = hall.correct("emptied", {"home_address": " ", "mobile": ""}, NOW)
    assert "home_address" not in turn.state.form and turn.state.form["mobile"] == "13973112233"  # the other is required
    assert [problem.fields for problem in turn.state.problems] == [("mobile",)]
