"""What every route of the portal means, and three stories told to it from the first word to the receipt."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason='the portal needs pip install "govlm[portal]"')

from fastapi.testclient import TestClient
from portal_server import FREELY
from portal_server import client as portal_client

from govlm.portal.security import access
from govlm.portal.store.questions import Question, opened
from govlm.portal.store.tables import tables

DIBAO = "11990000MB9900013U4990505110001"
NUMBER = "430103196204180421"
STORIES = {
    "低保": (
        ["俺想办个低保", "符合的", "准备好了", "可以", "我叫张秀兰，女，身份证号430103196204180421，电话13973112233"],
        {"household_address": "示例市河东区幸福路12号", "family_size": "3", "monthly_income": "1800元", "pension_income": "0",
         "marital": "离异", "reason": "重病", "bank_card": "6217001234567801376"},
        {"applicant_name": "张秀兰", "mobile": "13973112233", "family_size": "3", "monthly_income": "1800"},
    ),
    "退休金": (
        ["我要办退休", "都符合", "开始填表", "同意", "孙玉梅", "420106197510200648", "女", "1975年10月20日"],
        {"mobile": "13871112233", "employer": "示例市纺织有限公司", "post": "生产操作岗位", "work_start": "1995年7月", "paid_years": "28年",
         "retire_kind": "到龄退休", "bank_card": "6217001234567806227"},
        {"applicant_name": "孙玉梅", "birth_date": "1975-10-20", "work_start": "1995-07", "paid_years": "28"},
    ),
    "医保报销": (
        ["医保报销要啥材料", "那我要申请", "符合", "带齐了，填吧", "同意", "杨帆", "330106199006250379"],
        {"mobile": "138 5711 2233", "insurance": "职工医保", "visit_kind": "住院", "hospital": "示例市第一人民医院",
         "admitted": (date.today() - timedelta(20)).isoformat(), "discharged": (date.today() - timedelta(9)).isoformat(),
         "total": "12680.5元", "self_paid": "3000", "injury": "否", "bank_card": "6217001234567802747"},
        {"applicant_name": "杨帆", "mobile": "13857112233", "total": "12680.5", "insurance": "职工医保"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with portal_client(tmp_path_factory.mktemp("api"), rates=FREELY) as made:
        visit(made)
        yield made


def visit(client: TestClient) -> TestClient:
    """Makes it a visitor's, with a cookie and what pages send with it."""
    client.get("/")
    client.headers["X-CSRF-Token"] = client.get("/v1/me").json()["csrf"]
    return client


@pytest.fixture()
def talk(client: TestClient) -> Talk:
    return Talk(client)


class Talk:
    """A conversation."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.id = client.post("/v1/sessions").json()["id"]
        self.at = f"/v1/sessions/{self.id}"

    def say(self, text: str, **more: Any) -> Any:
        response = self.client.post(f"{self.at}/turns", json={"text": text, **more})
        assert response.status_code == 200, response.text
        return response.json()

    def write(self, values: dict[str, str], status: int = 200, key: str = "") -> Any:
        response = self.client.patch(f"{self.at}/form", json={"values": values, "key": key})
        assert response.status_code == status, response.text
        return response.json()


def form_of(turn: Any) -> dict[str, str]:
    return {field["name"]: field["value"] for field in turn["state"]["fields"] if field["value"]}


# ---------------------------------------------------------------------------------------------------------------- stories


@pytest.mark.parametrize("name", STORIES)
def test_a_story_from_the_first_word_to_the_document(talk: Talk, name: str) -> None:
    said, written, kept = STORIES[name]
    for text in said:
        turn = talk.say(text)
    assert turn["state"]["item"]["name"] and turn["state"]["steps"]
    turn = talk.write(written, key="form")
    assert turn["state"]["problems"] == []
    while turn["state"]["asking"] != "confirm":  # what is not required may stay open
        asked = next(field for field in turn["state"]["fields"] if field["asked"])
        assert not asked["required"], asked
        turn = talk.say("跳过")
    done = talk.client.post(f"{talk.at}/submit", json={"confirm": True, "key": "once"}).json()
    ((item, receipt),) = done["state"]["receipts"]
    again = talk.client.post(f"{talk.at}/submit", json={"confirm": True, "key": "once"}).json()
    assert again["text"] == done["text"] and again["number"] == done["number"]
    (entry,) = talk.client.get(f"{talk.at}/submissions").json()["submissions"]
    assert entry["receipt"] == receipt and entry["item"] == item and len(entry["forms"]) == 1
    (paper,) = talk.client.get(f"{talk.at}/submissions/{receipt}.json").json()["forms"]
    assert kept.items() <= paper["values"].items() and paper["form"] == entry["forms"][0]
    word = talk.client.get(f"{talk.at}/submissions/{receipt}.docx")
    assert word.headers["content-type"].endswith("wordprocessingml.document")
    cells = [cell.text for row in __import__("docx").Document(io.BytesIO(word.content)).tables[0].rows for cell in row.cells]
    assert kept["applicant_name"] in cells
    assert talk.client.get(f"{talk.at}/submissions/20200101-00000000.json").status_code == 404
    assert talk.client.get(f"{talk.at}/submissions/{receipt}.docx?form=other").status_code == 404
    assert talk.client.post(f"{talk.at}/submit", json={"confirm": True, "key": "another"}).status_code == 409
    history = talk.client.get(talk.at).json()["turns"]
    assert history[0]["message"] == said[0] and history[0]["parts"] and history[-1]["number"] == done["number"]


# --------------------------------------------------------------------------------------------------- conversations and forms


def test_the_form_is_written_into_with_problems_at_the_fields(talk: Talk) -> None:
    assert talk.write({"mobile": "13973112233"}, 409)["error"]["code"] == "conflict"
    assert talk.client.post(f"{talk.at}/submit", json={"confirm": True, "key": "a"}).status_code == 409
    for text in ("我想申请低保", "都符合", "开始填"):
        talk.say(text)
    turn = talk.write({"mobile": "139", "family_size": "三口人"})
    by_name = {field["name"]: field for field in turn["state"]["fields"]}
    assert "联系手机" in by_name["mobile"]["problem"] and not by_name["mobile"]["value"]
    assert by_name["family_size"]["value"] == "3"
    assert talk.write({"nothing_like_it": "1"}, 422)["error"]["fields"] == ["values"]
    turn = talk.write({"id_number": NUMBER})
    assert turn["state"]["asking"] == "consent" and form_of(turn)["id_number"] == NUMBER
    state = talk.client.get(talk.at).json()["state"]
    assert "id_number" not in form_of({"state": state})  # not kept before the person agrees
    assert form_of(talk.say("同意"))["id_number"] == NUMBER
    twice = talk.write({"sex": "女"}, key="k")
    assert talk.write({"sex": "女"}, key="k")["number"] == twice["number"]
    assert talk.client.post(f"{talk.at}/submit", json={"confirm": False, "key": "a"}).status_code == 422


def test_feedback_brings_a_bad_answer_to_the_console(talk: Talk) -> None:
    talk.say("补办身份证要带啥，我电话13973112233")
    assert talk.client.post(f"{talk.at}/turns/1/feedback", json={"rating": "up"}).status_code == 204
    bad = {"rating": "down", "comment": f"没说我的{NUMBER}"}
    for _ in range(2):
        assert talk.client.post(f"{talk.at}/turns/1/feedback", json=bad).status_code == 204
    assert talk.client.post(f"{talk.at}/turns/2/feedback", json=bad).status_code == 404
    assert talk.client.post(f"{talk.at}/turns/1/feedback", json={"rating": "great"}).status_code == 422
    rows = {question.kind: question for question in questions(talk.client) if "身份证要带啥" in question.text}
    assert rows["bad"].asked == 2 and "13973112233" not in rows["bad"].text and NUMBER not in rows["bad"].reason
    (kept,) = [row for row in of_table(talk.client, "feedback") if row.rating == "down"]
    assert NUMBER not in kept.comment_sealed and kept.turn == 1
    assert talk.client.get("/v1/me/export").json()["feedback"][-1]["comment"] == bad["comment"]


def test_what_is_not_answered_is_noted(talk: Talk) -> None:
    turn = talk.say("明天股票会涨吗")
    assert turn["reason"] and not turn["citations"]
    talk.client.post("/v1/ask", json={"text": "明天股票 会涨吗"})
    asked = [question for question in questions(talk.client) if question.kind == "unanswered"]
    assert {"明天股票会涨吗", "明天股票 会涨吗"} <= {question.text for question in asked}
    assert all(question.status == "open" and question.reason for question in asked)


def questions(client: TestClient) -> list[Question]:
    """As the console reads them: they are encrypted in the table."""
    return [opened(client.app.state.portal.hall, row) for row in of_table(client, "questions")]  # type: ignore[attr-defined]


def of_table(client: TestClient, name: str) -> list[Any]:
    with client.app.state.portal.database.read() as connection:  # type: ignore[attr-defined]
        return list(connection.execute(tables()[name].select()).all())


def test_a_handoff_from_the_request_to_its_end(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    client = talk.client
    assert client.get(f"{talk.at}/handoff").json()["status"] == "none"
    talk.say("我家的情况比较特殊")
    assert talk.say("转人工")["handed_off"]
    assert client.get(f"{talk.at}/handoff").json()["status"] == "waiting"  # by the words alone
    asked = client.post(f"{talk.at}/handoff", json={"reason": "户口不在一起", "contact": "13973112233"}).json()
    assert asked["status"] == "waiting"
    assert client.get("/v1/handoffs").status_code == 403  # a citizen
    (row,) = [row for row in of_table(client, "handoffs") if row.status == "waiting"]
    assert "13973112233" not in str(tuple(row)) and talk.id not in str(tuple(row))

    def as_clerk(name: str) -> None:
        who = access.Principal(f"account:{name}", frozenset({"citizen", "clerk"}))

        async def current() -> access.Principal:
            return who

        client.app.dependency_overrides[access.current] = current  # type: ignore[attr-defined]

    try:
        as_clerk("wang")
        (case,) = client.get("/v1/handoffs", params={"status": "waiting"}).json()["handoffs"]
        assert case["reason"] == "户口不在一起" and case["contact"] == "13973112233" and not case["mine"]
        at = f"/v1/handoffs/{case['id']}"
        assert [turn["message"] for turn in client.get(at).json()["turns"]] == ["我家的情况比较特殊", "转人工"]
        assert client.post(f"{at}/take").json()["mine"]
        as_clerk("li")
        assert client.post(f"{at}/reply", json={"text": "您好"}).status_code == 409
        as_clerk("wang")
        assert client.post(f"{at}/reply", json={"text": "您好，可以分开办。"}).json()["status"] == "taken"
        assert client.post(f"{at}/close").json()["status"] == "closed"
        assert client.post(f"{at}/take").status_code == 409
        assert client.get("/v1/handoffs/none").status_code == 404 and client.post("/v1/handoffs/none/take").status_code == 404
    finally:
        client.app.dependency_overrides.clear()  # type: ignore[attr-defined]
    found = client.get(f"{talk.at}/handoff").json()
    assert found["status"] == "closed" and [reply["text"] for reply in found["replies"]] == ["您好，可以分开办。"]
    assert client.post(f"{talk.at}/handoff", json={}).json()["status"] == "waiting"  # a new one


def test_a_forgotten_conversation_takes_everything_with_it(talk: Talk) -> None:
    talk.say("你好")
    talk.client.post(f"{talk.at}/handoff", json={"reason": "a"})
    talk.client.post(f"{talk.at}/turns/1/feedback", json={"rating": "up", "comment": "forgotten"})
    before = len(of_table(talk.client, "handoffs")), len(of_table(talk.client, "feedback"))
    assert talk.client.delete(talk.at).status_code == 204
    assert (len(of_table(talk.client, "handoffs")), len(of_table(talk.client, "feedback"))) == (before[0] - 1, before[1] - 1)
    assert talk.client.get(talk.at).json()["turns"] == []


def test_another_visitors_conversation_is_not_there(talk: Talk) -> None:
    talk.say("你好")
    other = visit(TestClient(talk.client.app, base_url="http://127.0.0.1:8000"))
    for method, path, body in (
        ("GET", "", None), ("DELETE", "", None), ("POST", "/turns", {"text": "a"}), ("PATCH", "/form", {"values": {"a": "b"}}),
        ("POST", "/submit", {"confirm": True, "key": "a"}), ("GET", "/submissions", None), ("GET", "/submissions/1.json", None),
        ("GET", "/submissions/1.docx", None), ("POST", "/turns/1/feedback", {"rating": "up"}), ("POST", "/handoff", {}),
        ("GET", "/handoff", None), ("POST", "/turns/stream", {"text": "a"}), ("GET", "/turns/1/stream", None),
    ):  # fmt: skip
        assert other.request(method, talk.at + path, json=body).status_code == 404, (method, path)


def test_events_and_taking_a_stream_up_again(talk: Talk) -> None:
    response = talk.client.post(f"{talk.at}/turns/stream", json={"text": "补办身份证要带啥"})
    events = [dict(line.split(": ", 1) for line in block.splitlines()) for block in response.text.strip().split("\n\n")]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "citation" and kinds[-1] == "end" and kinds == sorted(kinds, key=["citation", "delta", "end"].index)
    whole = json.loads(events[-1]["data"])
    assert "".join(json.loads(event["data"])["text"] for event in events if event["event"] == "delta") == whole["text"]
    assert whole["parts"] and whole["label"] == "AI 生成"
    middle = len(events) // 2
    again = talk.client.get(f"{talk.at}/turns/1/stream", headers={"Last-Event-ID": events[middle]["id"]})
    assert [line[4:] for line in again.text.splitlines() if line.startswith("id: ")] == [e["id"] for e in events[middle + 1 :]]
    for bad in ("1", "2:1", "1:x", "1:-1", "１:１", "a" * 40, "1:1:1", "1:²"):
        resumed = talk.client.get(f"{talk.at}/turns/1/stream", headers={"Last-Event-ID": bad.encode()})
        assert resumed.status_code == 400, bad
    assert talk.client.get(f"{talk.at}/turns/9/stream").status_code == 404
    assert talk.client.get(f"{talk.at}/turns/0/stream").status_code == 422


def test_what_is_done_is_counted_and_kept_in_the_audit_without_names(talk: Talk) -> None:
    portal = talk.client.app.state.portal  # type: ignore[attr-defined]
    for text in ("补办身份证要带啥", "火星上有水吗"):
        talk.say(text)
    talk.client.post(f"{talk.at}/turns/1/feedback", json={"rating": "up"})
    talk.client.get("/v1/me/export")
    talk.client.delete(talk.at)
    portal.usage.flush()
    counts = {(row.kind, row.name): row.count for row in portal.usage.read()}
    assert counts["turn", "answered"] and counts["turn", "refused"] and counts["rating", "up"]
    business = next(item.business for item in portal.hall.library.items.values() if item.name == "居民身份证补领")
    assert counts["business", business]
    assert sum(count for (kind, _), count in counts.items() if kind == "latency_class") >= 2
    portal.audit.record("test.end", None).result(30)
    rows = of_table(talk.client, "audit")
    assert {"person.export", "session.delete"} <= {row.action for row in rows}
    assert not any(talk.id in str(tuple(row)) or "visitor:" in row.actor for row in rows)


def test_a_portal_that_is_switched_off_answers_nothing(talk: Talk) -> None:
    switches = talk.client.app.state.portal.switches  # type: ignore[attr-defined]
    switches.set("chat", False, "test")
    try:
        for path, body in (
            (f"{talk.at}/turns", {"text": "低保"}), (f"{talk.at}/turns/stream", {"text": "低保"}), ("/v1/ask", {"text": "低保"}),
            ("/v1/chat/completions", {"model": "govlm-small-zh", "messages": [{"role": "user", "content": "低保"}]}),
            (f"{talk.at}/submit", {"confirm": True, "key": "a"}),
        ):  # fmt: skip
            off = talk.client.post(path, json=body)
            assert off.status_code == 503 and off.json()["error"]["code"] == "switched_off", path
        assert talk.client.get("/v1/items").status_code == 200  # records are still read
    finally:
        switches.set("chat", True)


# ------------------------------------------------------------------------------------------------------------- the catalogue


def test_items(client: TestClient) -> None:
    every = client.get("/v1/items", params={"limit": 200}).json()
    assert every["total"] == len(every["items"]) >= 40 and "社会救助" in every["themes"]
    page = client.get("/v1/items", params={"limit": 5, "offset": 5}).json()
    assert page["items"] == every["items"][5:10] and page["total"] == every["total"]
    found = client.get("/v1/items", params={"q": "低保"}).json()
    assert found["items"][0]["code"] == DIBAO and found["total"] < every["total"]
    assert client.get("/v1/items", params={"q": "身份证丢了咋办"}).json()["items"][0]["name"] == "居民身份证补领"
    of_theme = client.get("/v1/items", params={"theme": "社会救助"}).json()["items"]
    assert of_theme and all("社会救助" in item["themes"] for item in of_theme)
    assert client.get("/v1/items", params={"audience": "没有这种人"}).json()["total"] == 0
    item = client.get(f"/v1/items/{DIBAO}").json()
    assert item["materials"][0]["name"] == "最低生活保障申请书" and item["form"] == "dibao" and item["version"]
    guide = client.get(f"/v1/items/{DIBAO}/guide").json()
    assert {"conditions", "materials", "steps", "fee", "places"} <= {part["kind"] for part in guide["parts"]}
    numbers = {citation["number"] for citation in guide["citations"]}
    assert all(set(line["citations"]) <= numbers and line["citations"] for part in guide["parts"] for line in part["lines"])
    only = client.get(f"/v1/items/{DIBAO}/guide", params={"kinds": ["fee"]}).json()
    assert [part["kind"] for part in only["parts"]] == ["item", "fee"]
    assert client.get(f"/v1/items/{DIBAO}/guide", params={"kinds": "taste"}).status_code == 422
    assert client.get("/v1/items/none").status_code == 404 and client.get("/v1/items/none/guide").status_code == 404


def test_search(client: TestClient) -> None:
    found = client.get("/v1/search", params={"q": "公积金能取出来付房租不", "k": 3}).json()
    assert found["hits"][0]["name"] == "租房提取住房公积金" and len(found["hits"]) == 3
    assert any("公积金" in passage["title"] for passage in found["passages"])
    passage = found["passages"][0]
    same = client.get(f"/v1/policies/{passage['code']}/passages/{passage['passage']}").json()
    assert same["text"] == passage["text"]
    assert client.get("/v1/search").json() == {"hits": [], "passages": []}


def test_policies(client: TestClient) -> None:
    every = client.get("/v1/policies").json()
    assert every["total"] == 7
    found = client.get("/v1/policies", params={"q": "失业保险"}).json()
    assert [policy["title"] for policy in found["policies"]] == ["示例市失业保险办法"]
    at = f"/v1/policies/{found['policies'][0]['code']}"
    policy = client.get(at).json()
    for place in policy["passages"]:
        passage = client.get(f"{at}/passages/{place['id']}").json()
        assert passage["text"] == policy["text"][place["start"] : place["end"]]
    for sentences in (1, 2):
        summary = client.post(f"{at}/summary", json={"sentences": sentences}).json()
        assert 1 <= len(summary["sentences"]) <= sentences and all(text in policy["text"] for text in summary["sentences"])
        assert [citation["text"] for citation in summary["citations"]] == summary["sentences"]
    meaning = client.post(f"{at}/interpretation").json()
    assert [aspect["name"] for aspect in meaning["aspects"]] == ["who", "what", "when", "amounts", "effect"]
    for aspect in meaning["aspects"]:
        for point in aspect["points"]:
            assert point["text"] == policy["text"][point["start"] : point["end"]]
            assert meaning["citations"][point["citation"] - 1]["start"] == point["start"]
    words = client.post(f"{at}/keywords", json={"k": 3}).json()["keywords"]
    assert len(words) == 3 and all(policy["text"][w["start"] : w["end"]] == w["text"] for w in words)
    for path, method in (
        ("", "GET"),
        ("/passages/1", "GET"),
        ("/summary", "POST"),
        ("/interpretation", "POST"),
        ("/keywords", "POST"),
    ):
        assert client.request(method, f"/v1/policies/none{path}", json={} if method == "POST" else None).status_code == 404


def test_one_question(client: TestClient) -> None:
    answer = client.post("/v1/ask", json={"text": "低保标准是多少钱一个月"}).json()
    assert "860" in answer["text"] and not answer["refused"] and answer["citations"] and answer["label"] == "AI 生成"
    refused = client.post("/v1/ask", json={"text": "火星上有水吗"}).json()
    assert refused["refused"] and refused["reason"] and not refused["citations"]


def test_forms(client: TestClient) -> None:
    form = client.get("/v1/forms/dibao").json()
    assert form["item"]["code"] == DIBAO and form["fields"][0]["name"] == "applicant_name"
    assert client.get(f"/v1/forms/{DIBAO}").json() == form and client.get("/v1/forms/none").status_code == 404
    filled = client.post("/v1/forms/dibao/fill", json={"text": "我叫张秀兰，屋头三口人"}).json()
    assert {name: entry["value"] for name, entry in filled["fields"].items()} == {
        "applicant_name": "张秀兰",
        "family_size": "3",
    }
    bare = client.post("/v1/forms/dibao/fill", json={"text": "三个", "asking": "family_size", "known": {"sex": "女"}}).json()
    assert bare["fields"]["family_size"]["value"] == "3"
    for bad in ({"asking": "none"}, {"known": {"none": "1"}}):
        assert client.post("/v1/forms/dibao/fill", json={"text": "a", **bad}).status_code == 422
    checked = client.post("/v1/forms/dibao/validate", json={"values": {"id_number": NUMBER, "sex": "男", "mobile": "1"}}).json()
    assert {problem["kind"] for problem in checked["problems"]} == {"sex_matches_id", "mobile"}
    assert not checked["complete"] and "applicant_name" in checked["missing"]
    assert client.post("/v1/forms/dibao/validate", json={"values": {"none": "1"}}).status_code == 422


# ----------------------------------------------------------------------------------------------------------------- the person


def test_a_person_is_told_of_what_fits_and_has_their_rights(tmp_path: Path) -> None:
    with portal_client(tmp_path, rates=FREELY) as client:
        visit(client)
        profile = {"values": {"employment": "失业", "age": "18-34"}}
        assert client.put("/v1/me/profile", json=profile).status_code == 409
        given = client.post("/v1/me/consent", json={"purpose": "profile", "version": "2026-11"}).json()
        assert given["consents"][0]["purpose"] == "profile" and not given["consents"][0]["withdrawn"]
        assert client.put("/v1/me/profile", json=profile).json()["values"] == profile["values"]
        for bad in ({"age": "30"}, {"name": "张秀兰"}, {"event.生育": "昨天"}):
            assert client.put("/v1/me/profile", json={"values": bad}).status_code == 422
        pushed = client.get("/v1/me/recommendations", params={"k": 3}).json()
        assert (
            pushed["personal"] and len(pushed["recommendations"]) == 3 and all(p["reason"] for p in pushed["recommendations"])
        )
        again = client.get("/v1/me/recommendations", params={"k": 3}).json()["recommendations"]
        assert not {p["code"] for p in again} & {p["code"] for p in pushed["recommendations"]}
        assert client.post("/v1/me/events", json={"kind": "viewed", "code": DIBAO}).json() == {"recorded": True}
        assert client.post("/v1/me/events", json={"kind": "viewed", "code": "none"}).status_code == 422
        talk = Talk(client)
        talk.say("我想申请低保")
        client.post(f"{talk.at}/handoff", json={"reason": "想问人"})
        kept = client.get("/v1/me/export").json()
        assert kept["profile"] == profile["values"] and kept["sessions"][0]["turns"][0]["message"] == "我想申请低保"
        assert kept["handoffs"][0]["reason"] == "想问人" and {event["kind"] for event in kept["events"]} == {"viewed", "pushed"}
        withdrawn = client.post("/v1/me/consent", json={"purpose": "profile", "version": "2026-11", "given": False}).json()
        assert withdrawn["values"] == {} and withdrawn["consents"][0]["withdrawn"]
        assert client.post("/v1/me/opt-out").json()["opted_out"]
        assert client.post("/v1/me/events", json={"kind": "viewed", "code": DIBAO}).json() == {"recorded": False}
        assert not client.get("/v1/me/recommendations").json()["personal"]
        assert not client.post("/v1/me/opt-in").json()["opted_out"]
        erased = client.delete("/v1/me").json()["erased"]
        assert erased["sessions"] == 1 and erased["handoffs"] == 1 and erased["turns"] == 1
        empty = client.get("/v1/me/export").json()
        assert not any(empty[name] for name in ("sessions", "events", "profile", "consents", "handoffs", "feedback"))
        assert client.get(talk.at).json()["turns"] == []


# --------------------------------------------------------------------------------------------------------------- other systems


def test_language_work(client: TestClient) -> None:
    texts = ["单位三个月没给我交社保了", "孩子户口咋个迁", ""]
    found = client.post("/v1/classify", json={"texts": texts, "scores": True}).json()
    hall = client.app.state.portal.hall  # type: ignore[attr-defined]
    assert found["model"] == "business-type" and found["results"][2]["label"] == ""
    for text, result in zip(texts[:2], found["results"], strict=False):
        alone = hall.understand(text)
        assert result["label"] == alone.business_type and abs(result["score"] - alone.confidence) < 1e-5
        assert abs(sum(result["scores"].values()) - 1) < 1e-4
    assert client.post("/v1/classify", json={"texts": texts, "model": "none"}).json()["error"]["fields"] == ["model"]
    assert client.post("/v1/classify", json={"texts": []}).status_code == 422
    vectors = client.post("/v1/embed", json={"texts": ["a", "b"]}).json()
    assert len(vectors["vectors"]) == 2 and len(vectors["vectors"][0]) == vectors["dimension"] and vectors["tokens"] == 6
    slots = client.post("/v1/extract", json={"text": f"我叫张伟，身份证{NUMBER}，电话13800138000"}).json()["slots"]
    assert {slot["kind"]: slot["value"] for slot in slots} == {"name": "张伟", "identity_card": NUMBER, "mobile": "13800138000"}
    text = "为了方便群众，今天起缩短办理时间。办理时间由二十日缩短为五日。请广大群众相互转告。"
    summary = client.post("/v1/summarise", json={"text": text, "sentences": 1}).json()
    assert len(summary["sentences"]) == 1 and summary["sentences"][0] in text


def test_a_classifier_by_name(tmp_path: Path) -> None:
    """A fine-tuned one, whose encoder is in 8 bits: as the call alone has it."""
    import govlm
    from govlm.train.evaluate import Classifier

    model = govlm.AutoModelForSequenceClassification.from_pretrained("govlm-small-zh", num_labels=3)
    folder = tmp_path / "fitted"
    assert model.quantised
    model.save_pretrained(folder)
    govlm.AutoTokenizer.from_pretrained("govlm-small-zh").save_pretrained(str(folder))
    texts = ["社保卡丢了", "我" * 600, "x"]
    alone = list(Classifier.from_pretrained(folder).classify(texts))
    with portal_client(tmp_path, classifiers={"urgency": str(folder)}) as client:
        found = client.post("/v1/classify", json={"texts": texts, "model": "urgency", "scores": True}).json()
    assert found["model"] == "urgency"
    for one, result in zip(alone, found["results"], strict=True):
        assert result["label"] == one.label
        assert all(abs(result["scores"][name] - score) <= 1e-5 for name, score in one.scores.items())
