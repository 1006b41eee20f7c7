"""Recommendations: what leads to each, their limits, and that an opt-out is one."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason='the database needs pip install "govlm[hall]"')
pytest.importorskip("alembic", reason='the database needs pip install "govlm[hall]"')
pytest.importorskip("cryptography", reason='people\'s data needs pip install "govlm[hall]"')
pytest.importorskip("hypothesis", reason='pip install "govlm[test]"')

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from govlm.hall.catalogue.columns import import_items
from govlm.hall.catalogue.documents import import_documents
from govlm.hall.catalogue.records import Document, Item
from govlm.hall.catalogue.store import Store
from govlm.hall.protection.people import ConsentError, People
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer
from govlm.hall.push.candidates import _WORDS, Candidates
from govlm.hall.push.profile import AGES, EMPLOYMENTS, EVENTS, Profile, check
from govlm.hall.push.ranking import COMMON, WEIGHTS, Stats
from govlm.hall.push.replay import personal_ranker, popular_ranker, replay
from govlm.hall.push.service import KINDS, Limits, Push
from govlm.hall.push.simulate import simulate

TODAY = date(2026, 11, 24)
SAMPLE = Path(importlib.util.find_spec("govlm").origin).parent / "assets" / "sample-hall"
ITEMS, DOCUMENTS = import_items(SAMPLE / "items.jsonl")[0], import_documents([SAMPLE / "policies"], "", [])[0]
CODE = {item.name: item.code for item in ITEMS}
NUMBER = iter(range(10**6))
CARD = "11010519491231002X"


class Place:
    def __init__(self, folder: Path, items: list[Item] = ITEMS, documents: list[Document] = DOCUMENTS, **limits: int) -> None:
        self.store = Store.create(folder / "hall.db")
        self.writer = Writer(self.store)
        self.people = People(self.store, Vault.of(self.store, folder / "keys.json"), self.writer)
        self.candidates = Candidates(items, documents)
        self.push = Push(self.people, lambda: self.candidates, Limits(**limits) if limits else None)

    def tell(self, person: str, **values: str) -> None:
        self.people.consent(person, "profile", "1", now=noon(TODAY))
        self.people.put_profile(person, {name.replace("_", "."): value for name, value in values.items()}, now=noon(TODAY))

    def does(self, person: str, kind: str, name: str, when: date = TODAY) -> bool:
        return self.push.record(person, {"kind": kind, "item": CODE.get(name, name), "at": noon(when)})

    def names(self, person: str, **options: object) -> list[str]:
        return [entry.name for entry in self.push.push(person, **{"k": 5, "today": TODAY, "count": False} | options)]

    def close(self) -> None:
        self.writer.close()
        self.store.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def noon(when: date) -> datetime:
    return datetime.combine(when, time(12))


# ---- reasons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("生育", "新生儿出生登记"), ("失业", "失业保险金申领"), ("退休", "职工退休待遇核定"), ("残疾", "残疾人证申领"),
        ("创业", "个体工商户设立登记"), ("结婚", "结婚登记"), ("出国", "普通护照申领"), ("入学", "义务教育阶段入学报名"),
        ("困难", "最低生活保障申请"), ("迁居", "户口迁移"), ("证件丢失", "居民身份证补领"), ("租房", "租房提取住房公积金"),
    ],
)  # fmt: skip
def test_a_family_event_leads_to_its_items_and_is_named(place: Place, event: str, name: str) -> None:
    place.tell("p", **{f"event_{event}": "2026-11-03"})
    found = place.push.push("p", 5, TODAY)
    reasons = {entry.name: entry.reason for entry in found}
    assert name in reasons and f"「{event}」" in reasons[name] and "2026年11月3日" in reasons[name]
    assert all(f"「{event}」" in entry.reason or entry.reason == COMMON for entry in found)


def test_standing_facts_are_named(place: Place) -> None:
    place.tell("old", age="80+", employment="退休")
    reasons = {entry.name: entry.reason for entry in place.push.push("old", 8, TODAY)}
    assert "80岁以上" in reasons["高龄津贴申领"]
    place.tell("retired", employment="退休")
    assert "「退休」" in {entry.name: entry.reason for entry in place.push.push("retired", 8, TODAY)}["职工退休待遇核定"]
    place.tell("young", age="18-34", employment="在职")
    assert "高龄津贴申领" not in place.names("young", k=100)  # its own conditions: 80 years
    assert "个体工商户注销登记" not in place.names("young", k=100)  # not for private persons
    place.tell("trader", employment="个体经营")
    assert "个体工商户注销登记" in place.names("trader", k=100)


def test_what_one_did_is_named_with_its_day(place: Place) -> None:
    place.does("p", "viewed", "普通护照申领", date(2026, 11, 22))
    place.does("p", "asked", "结婚登记", date(2026, 11, 23))
    reasons = {entry.name: entry.reason for entry in place.push.push("p", 6, TODAY)}
    assert "2026年11月22日看过" in reasons["普通护照申领"] and "2026年11月23日问过" in reasons["结婚登记"]
    assert "「普通护照申领」" in reasons["往来港澳通行证签注"]
    place.does("p", "applied", "普通护照申领")
    assert "普通护照申领" not in place.names("p", k=100)


def test_what_is_applied_for_together_is_learnt_and_tells_of_nobody(place: Place) -> None:
    for number in range(4):
        for name in ("机动车转移登记", "补领婚姻登记证"):
            place.does(f"n{number}", "applied", name, date(2026, 9, 1))
    place.does("p", "applied", "机动车转移登记", date(2026, 11, 20))
    assert all(
        "「机动车转移登记」" not in entry.reason for entry in place.push.push("p", 40, TODAY, count=False)
    )  # four: too few
    for number in range(20):
        place.does(f"m{number}", "viewed", "结婚登记", date(2026, 9, 1))
    place.does("n4", "applied", "机动车转移登记", date(2026, 9, 1))
    place.does("n4", "applied", "补领婚姻登记证", date(2026, 9, 1))
    found = place.push.push("p", 2, TODAY)
    assert [(entry.name, "2026年11月20日办过「机动车转移登记」" in entry.reason) for entry in found] == [
        ("补领婚姻登记证", True), ("结婚登记", False),
    ]  # fmt: skip
    assert found[1].reason == COMMON


def test_a_stranger_gets_what_is_common(place: Place) -> None:
    first = place.push.push("new", 3, TODAY, count=False)
    assert [entry.reason for entry in first] == [COMMON] * 3 and [entry.code for entry in first] == [
        item.code for item in ITEMS[:3]
    ]
    for number in range(3):
        place.does(f"n{number}", "applied", "机动车转移登记")
    place.does("n0", "applied", "户口迁移")
    for _ in range(9):
        place.does("one", "applied", "离婚登记")  # one who does it often is one
    assert place.names("new", k=2) == ["机动车转移登记", "户口迁移"]


def test_every_word_list_is_of_something_that_can_be_told() -> None:
    known = (
        {f"age.{name}" for name in AGES} | {f"employment.{name}" for name in EMPLOYMENTS} | {f"event.{name}" for name in EVENTS}
    )
    assert set(_WORDS) == known
    for values in ({"age": "44"}, {"employment": CARD}, {"region": "广州"}, {"event.x": "2026-01-01"}, {"event.生育": "昨天"}):
        with pytest.raises(ValueError) as error:
            check(values)
        assert CARD not in str(error.value)
    check({"age": "", "other": "x", "event.生育": "2026-01-01", "region": "440106"})
    assert Profile.of({"event.生育": "2026-01-01", "name": "x"}) == Profile(events={"生育": date(2026, 1, 1)})


def test_an_event_that_is_to_come_or_long_past_says_nothing(place: Place) -> None:
    for number, when in enumerate(("2026-12-01", "2020-01-01")):
        place.tell(f"p{number}", event_生育=when)
        assert {entry.reason for entry in place.push.push(f"p{number}", 5, TODAY)} == {COMMON}


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_nothing_twice_within_a_month_nor_too_much_a_week_nor_what_was_dismissed(place: Place) -> None:
    seen: dict[str, date] = {}
    by_day: dict[date, int] = {}
    place.tell("p", event_生育="2026-11-03", employment="在职", age="18-34")
    gone = place.names("p", k=1)[0]
    place.does("p", "dismissed", gone, TODAY)
    for number in range(0, 80, 2):
        today = TODAY + timedelta(number)
        found = place.push.push("p", 3, today)
        by_day[today] = len(found)
        assert sum(count for day, count in by_day.items() if (today - day).days < 7) <= 10
        for entry in found:
            assert entry.name != gone and (entry.code not in seen or (today - seen[entry.code]).days >= 30)
            seen[entry.code] = today
    assert sum(by_day.values()) > 40 and gone not in place.names("p", k=100, today=TODAY + timedelta(3000))


def test_two_pages_at_once_keep_to_the_limits(place: Place) -> None:
    found: list[str] = []
    start = threading.Barrier(4)

    def page() -> None:
        start.wait()
        found.extend(entry.code for entry in place.push.push("p", 4, TODAY))

    threads = [threading.Thread(target=page) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == len(set(found)) == 10
    assert place.push.push("p", 4, TODAY) == [] and place.push.push("p", 0, TODAY + timedelta(40)) == []


def test_only_what_is_in_force_and_of_the_region(tmp_path: Path) -> None:
    items = [
        Item("all", "甲"), Item("city", "乙", region="4401"), Item("district", "丙", region="440106"), Item("next", "丁", region="440105"),
        Item("old", "戊", valid_to=date(2026, 11, 23)), Item("new", "己", valid_from=date(2026, 11, 25)),
    ]  # fmt: skip
    documents = [
        Document("d", "某办法", "第一条", region="440106"),
        Document("e", "旧办法", "第一条", valid_to=date(2020, 1, 1)),
    ]
    place = Place(tmp_path, items, documents)
    place.tell("p", region="440106")

    def codes(person: str, region: str = "", today: date = TODAY) -> set[str]:
        return {entry.code for entry in place.push.push(person, 50, today, region, count=False)}

    assert codes("p") == {"all", "city", "district", "d"} == codes("p", "440105")  # the person's own goes before
    assert codes("q") == {"all", "city"}  # where a person is is not known
    assert codes("q", "440105") == {"all", "city", "next"} and codes("q", "31") == {"all"}
    assert codes("q", today=date(2026, 11, 25)) == {"all", "city", "new"}
    place.push.opt_out("p")
    assert codes("p") == {"all", "city"} and codes("p", "440105") == {"all", "city", "next"}
    kinds = {entry.code: entry.kind for entry in place.push.push("q", 50, TODAY, "440106", count=False)}
    assert kinds["d"] == "document" and kinds["all"] == "item"
    place.close()


@pytest.mark.parametrize(
    "event",
    [
        {}, {"kind": "viewed"}, {"kind": "liked", "item": ITEMS[0].code}, {"kind": "viewed", "item": CARD}, {"kind": "viewed", "item": 3},
        {"kind": "viewed", "item": ITEMS[0].code, "text": CARD}, {"kind": "viewed", "item": ITEMS[0].code, "at": CARD},
        {"kind": "viewed", "item": ITEMS[0].code, "document": DOCUMENTS[0].code}, "viewed", None, {"kind": "pushed", "item": ITEMS[0].code},
        {"kind": "viewed", "item": ITEMS[0].code, CARD: "x"},
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused_without_being_repeated(place: Place, event: object) -> None:
    with pytest.raises(ValueError) as error:
        place.push.record("p", event)
    assert CARD not in str(error.value) and place.people.events("p") == []


def test_events_as_dataclasses_documents_and_days(place: Place) -> None:
    @dataclass
    class Did:
        kind: str
        code: str
        at: date

    assert place.push.record("p", Did("asked", ITEMS[0].code, date(2026, 11, 1)))
    assert place.push.record("p", {"kind": "viewed", "document": DOCUMENTS[0].code, "at": "2026-11-02T10:00:00+08:00"})
    assert [(entry.kind, entry.at[:10]) for entry in place.people.events("p")] == [
        ("asked", "2026-11-01"),
        ("viewed", "2026-11-02"),
    ]


# ---- opting out ------------------------------------------------------------------------------------------------------

values = st.fixed_dictionaries(
    {},
    optional={
        "age": st.sampled_from(sorted(AGES)), "employment": st.sampled_from(EMPLOYMENTS), "region": st.sampled_from(["44", "4401", "440106"]),
        **{f"event.{name}": st.dates(date(2026, 1, 1), TODAY).map(date.isoformat) for name in EVENTS},
    },
)  # fmt: skip
histories = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from([record.code for record in (*ITEMS, *DOCUMENTS)]),
        st.dates(date(2026, 1, 1), TODAY),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("shared"))
    for number, item in enumerate(ITEMS[:12]):
        for other in range(number):
            made.push.record(f"n{other}", {"kind": "applied", "item": item.code})
    yield made
    made.close()


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(first=values, second=values, did=histories, also=histories, k=st.integers(1, 60), pages=st.integers(0, 2))
def test_who_has_opted_out_is_as_everybody(
    shared: Place, first: dict, second: dict, did: list, also: list, k: int, pages: int
) -> None:
    number = next(NUMBER)
    people = {f"a{number}": (first, did), f"b{number}": (second, also)}
    for person, (told, done) in people.items():
        shared.people.consent(person, "profile", "1", now=noon(TODAY))
        shared.people.put_profile(person, told, now=noon(TODAY))
        for kind, code, when in done:
            assert shared.push.record(person, {"kind": kind, "code": code, "at": noon(when)})
        for _ in range(pages):
            shared.push.push(person, 3, TODAY)
    for person in people:
        shared.push.opt_out(person)
    before = {person: json.loads(shared.people.export(person)) for person in people}
    lists = [shared.push.push(person, k, TODAY) for person in people]
    assert lists[0] == lists[1] and 0 < len(lists[0]) <= k
    assert lists[0][:10] == shared.push.push(f"c{number}", k, TODAY, count=False)  # a stranger's, whose week has a limit
    assert {entry.reason for entry in lists[0]} == {COMMON}
    for person in people:
        assert not shared.push.record(person, {"kind": "applied", "item": ITEMS[0].code})
        assert (
            json.loads(shared.people.export(person)) == before[person]
        )  # nothing was recorded, of what was recommended neither
        shared.people.delete(person, now=noon(TODAY))


def test_opting_in_again_brings_the_profile_back(place: Place) -> None:
    place.tell("p", event_生育="2026-11-03")
    personal = place.names("p")
    place.push.opt_out("p")
    assert place.names("p") != personal and not place.does("p", "viewed", "结婚登记")
    place.push.opt_in("p")
    assert place.names("p") == personal and place.does("p", "viewed", "结婚登记")
    place.people.withdraw("p", "profile", now=noon(TODAY))
    place.does("p", "dismissed", "结婚登记")
    assert {entry.reason for entry in place.push.push("p", 5, TODAY)} == {
        COMMON
    }  # without consent nothing that was told counts


def test_what_opted_out_people_did_is_not_counted(place: Place) -> None:
    place.does("p", "applied", "机动车转移登记")
    assert place.names("q", k=1) == ["机动车转移登记"]
    place.push.opt_out("p")
    assert place.names("q", k=1) == [ITEMS[0].name]


# ---- how well --------------------------------------------------------------------------------------------------------


def test_a_replayed_log_finds_it_clearly_ahead_of_popularity_and_each_part_of_use() -> None:
    candidates, log = Candidates(ITEMS, DOCUMENTS), simulate(ITEMS, people=400, seed=7)
    cuts = [date(2025, 12, 1), date(2026, 3, 1)]
    popular = replay(log, cuts, popular_ranker(candidates))
    mine = replay(log, cuts, personal_ranker(candidates))
    assert popular.people == mine.people > 100
    assert mine.hit_rate > popular.hit_rate + 0.08 and mine.ndcg > popular.ndcg * 1.3
    told = replay(log, cuts, personal_ranker(candidates, WEIGHTS | {"together": 0, "seen": 0, "like": 0}))
    did = replay(log, cuts, personal_ranker(candidates, WEIGHTS | {"event": 0, "employment": 0, "age": 0}))
    assert popular.ndcg < min(told.ndcg, did.ndcg) and mine.ndcg > max(told.ndcg, did.ndcg)


def test_the_measure_itself() -> None:
    """A ranker that knows what will be done gets everything, one that names nothing gets nothing."""
    log = simulate(ITEMS, people=60, seed=3)
    cut = date(2026, 1, 1)

    def oracle_for(person: str) -> list[str]:
        return [
            code
            for who, kind, code, when in log.events
            if who == person and kind == "applied" and cut <= when < cut + timedelta(30)
        ]

    order = iter(sorted({who for who, kind, _, when in log.events if kind == "applied" and cut <= when < cut + timedelta(30)}))
    every = {who: oracle_for(who) for who in log.profiles}

    def knows(told: object, history: list, stats: Stats, today: date) -> list[str]:
        done = {event.code for event in history if event.kind == "applied"}
        while True:
            new = list(dict.fromkeys(code for code in every[next(order)] if code not in done))
            if new:
                return new

    assert replay(log, [cut], lambda *_: []).ndcg == 0
    none_before = replay(type(log)(log.profiles, [entry for entry in log.events if entry[3] >= cut]), [cut], knows)
    assert none_before.hit_rate == 1.0 and none_before.ndcg == pytest.approx(1.0)


def test_the_simulation_is_its_seeds_alone_and_shares_nothing_with_the_ranking() -> None:
    assert simulate(ITEMS, 50, 1) == simulate(ITEMS, 50, 1) != simulate(ITEMS, 50, 2)
    with pytest.raises(ValueError, match="sample hall"):
        simulate(ITEMS[1:], 5)
    text = Path(importlib.util.find_spec("govlm.hall.push.simulate").origin).read_text(encoding="utf-8")
    imports = [line for line in text.splitlines() if line.startswith(("from govlm", "import govlm"))]
    assert imports == ["from govlm.hall.catalogue.records import Item"]


# ---- the hall --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("bm25s", "cn2an", "opencc", "phonenumbers", "pypinyin")),
    reason='pip install "govlm[hall]"',
)
def test_the_hall_records_and_recommends() -> None:
    from govlm.hall import Hall

    with Hall.sample() as hall:
        with pytest.raises(ConsentError):
            hall.put_profile("p", {"event.生育": "2026-11-03"})
        hall.people.consent("p", "profile", "1", now=noon(TODAY))
        with pytest.raises(ValueError):
            hall.put_profile("p", {"age": "old"})
        hall.put_profile("p", {"event.生育": "2026-11-03"})
        assert hall.record("p", {"kind": "viewed", "item": CODE["结婚登记"]})
        found = hall.push("p", 3, TODAY)
        assert CODE["新生儿出生登记"] in [entry.code for entry in found] and "生育" in found[0].reason
        hall.opt_out("p")
        assert not hall.record("p", {"kind": "viewed", "item": CODE["结婚登记"]})
        assert {entry.reason for entry in hall.push("p", 3, TODAY)} == {COMMON}
        hall.opt_in("p")
        assert (hall.folder / "keys.json").stat().st_mode & 0o777 == 0o600
        hall.people.consent_session("s", "handling", "1", now=noon(TODAY))
        assert hall.sessions.save("s", 0, {}, {"id_number": CARD}, now=noon(TODAY)) == 1
        folder = hall.folder
        assert all(CARD.encode() not in file.read_bytes() for file in folder.iterdir() if file.is_file())
