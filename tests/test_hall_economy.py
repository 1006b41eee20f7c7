"""What a question and a turn may cost: statements of the database, and how often the model is asked; and that saving it changes nothing."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from govlm.bundled import model_folder
from govlm.hall import Hall
from govlm.hall.answers.citations import version
from govlm.hall.catalogue.records import Item
from govlm.hall.dialogue import driver
from govlm.hall.dialogue.hearing import Heard, Hearing
from govlm.hall.evaluation.scripts import play
from govlm.hall.retrieval.index import Index
from govlm.hall.understanding.understand import Understander

SCRIPTS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "hall" / "dialogue.yaml").read_text("utf-8"))
NOW = datetime(2026, 3, 2, 9, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def hall() -> Iterator[Hall]:
    with Hall.sample() as made:
        yield made


@contextlib.contextmanager
def statements(hall: Hall) -> Iterator[list[str]]:
    """What SQLite is told meanwhile, on new connections: those there are were closed. Every way to the database is seen."""
    told: list[str] = []

    def listen(connection: Any, record: Any) -> None:
        connection.set_trace_callback(told.append)

    engine = hall.store.database.engine
    hall.store.database.close()
    sa.event.listen(engine, "connect", listen)
    try:
        hall.chat("made ready", "你好", NOW)
        hall.ask("居住证怎么办")
        told.clear()
        yield told
    finally:
        sa.event.remove(engine, "connect", listen)
        hall.store.database.close()


@contextlib.contextmanager
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts that the encoder reads meanwhile."""
    read: list[str] = []
    plainly = Understander.query

    def query(self: Understander, text: str) -> Any:
        read.append(text)
        return plainly(self, text)

    with monkeypatch.context() as patch:
        patch.setattr(Understander, "query", query)
        yield read


def test_a_question_is_one_statement(hall: Hall) -> None:
    with statements(hall) as told:
        assert not hall.ask("低保要带啥材料").refused
        assert len(told) == 1, told
        hall.ask("居住证咋办")
        assert len(told) == 2, told


def test_the_statements_of_a_turn_are_few(hall: Hall) -> None:
    with statements(hall) as told:
        for text in ("我想申请低保", "都符合", "开始填吧", "同意", "张秀兰", "430103196204180421"):
            told.clear()
            assert hall.chat("few statements", text, NOW).kept
            reads = [text for text in told if text.startswith(("SELECT", "BEGIN "))]
            consents = text == "同意"
            # which index; the session; its row, its values, the turn (and whether consent holds); a new session's row in a savepoint
            told[:] = [
                one for one, next_ in zip(told, [*told[1:], ""], strict=True) if one[:30] != next_[:30]
            ]  # a row each: one statement
            assert len(told) <= 14 + 5 * consents, told
            assert len(reads) <= 5, reads


def test_the_model_is_only_asked_where_it_decides(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = [
        "我想申请低保",
        "都符合",
        "开始填吧",
        "同意",
        "张秀兰",
        "430103196204180421",
        "女",
        "13973112233",
        "跳过",
        "返回上一步",
    ]
    with passes(monkeypatch) as read:
        for text in talk:
            hall.chat("plain", text, NOW)
        assert read == talk[:1]  # 我想申请 says no act by its words alone
        asked = hall.chat("plain", "请问这边周末上不上班呀", NOW)
        assert asked.kept and read[1:] in ([], ["请问这边周末上不上班呀"])
        hall.chat("another", "学校里的食堂几点开饭", NOW)  # heard, and then answered: one pass for both
        assert read.count("学校里的食堂几点开饭") == 1


def test_what_the_model_is_not_asked_changes_nothing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scripts, and each of their messages alone, once with everything worked out at once, and once as it is needed."""

    def talk(tag: str) -> list[Any]:
        turns: list[Any] = []

        class Kept:
            def chat(self, session: str, text: str, now: datetime) -> Any:
                turns.append(hall.chat(f"{tag} {session}", text, now=now))
                return turns[-1]

        for script in SCRIPTS:
            play(script, Kept(), script["name"], {})
        for text in dict.fromkeys(turn["say"] for script in SCRIPTS[::8] for turn in script["turns"]):
            Kept().chat(text, text, NOW)
        return [
            (
                turn.text,
                turn.citations,
                turn.handed_off,
                turn.state.frames,
                turn.state.choices,
                turn.state.topic,
                turn.state.said,
            )
            for turn in turns
        ]

    def at_once(*arguments: Any) -> Heard:
        lazy = Hearing(*arguments)
        whole = Heard(**{entry.name: getattr(lazy, entry.name) for entry in fields(Heard)})
        if whole.plain and whole.act in driver._ALONE:
            assert not whole.opening.withheld  # what `_hold` takes for granted of a yes or a no
        return whole

    as_needed = talk("as needed")
    with monkeypatch.context() as patch:
        patch.setattr(driver, "Hearing", at_once)
        at_once_too = talk("at once")
    receipts = str.maketrans("", "", "0123456789ABCDEF-")  # a receipt's number is of the session
    for one, other in zip(as_needed, at_once_too, strict=True):
        assert one[0].translate(receipts) == other[0].translate(receipts)
        assert one[1:] == other[1:]


def test_an_index_of_another_process_is_used_by_the_next_question(tmp_path: Path) -> None:
    code = (
        "import sys; from govlm.hall import Hall; from govlm.hall.catalogue.records import Item\n"
        "with Hall.open(sys.argv[1]) as hall:\n"
        "    hall.store.put_items([Item('b', '居住证签注', fee='5元')]); hall.reindex()\n"
    )
    with Hall.create(tmp_path / "h") as hall:
        hall.store.put_items([Item("a", "户口迁移", fee="不收费")])
        hall.reindex()
        assert "不收费" in hall.ask("户口迁移多少钱").text
        before = hall.library
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "h")], check=True, timeout=300)
        assert "5元" in hall.ask("居住证签注多少钱").text
        assert hall.library.version > before.version
        assert "5元" in hall.chat("s", "居住证签注多少钱", NOW).text


def test_the_kept_connection_may_be_lost(tmp_path: Path) -> None:
    with Hall.create(tmp_path / "h") as hall:
        hall.store.put_items([Item("a", "户口迁移")])
        hall.reindex()
        database = hall.store.database
        found = hall.store.index
        assert found is not None and database._kept is not None
        database._kept[1].close()
        assert hall.store.index == found  # the ordinary way
        assert hall.store.index == found and database._kept is not None  # a new one is kept
        database._kept = (-1, database._kept[1])  # as in a forked child: the parent's is not touched
        assert hall.store.index == found
    assert database._kept is None


def test_bm25_is_what_bm25s_reckons(hall: Hall) -> None:
    import bm25s

    from govlm.hall.retrieval.index import _OF_NAMES, _grams
    from govlm.hall.understanding.examples import out_of_scope_entry
    from govlm.hall.understanding.understand import item_entry

    items: Index = hall.library.understander._items
    entries = [*map(item_entry, hall.library.items.values()), out_of_scope_entry()]
    for words, settings, texts in (
        (items._words, (1.2, 0.75), [" ".join((*entry.names, *entry.examples, entry.text)) for entry in entries]),
        (items._words_of_names, _OF_NAMES, [" ".join(entry.names) for entry in entries]),
    ):
        peer = bm25s.BM25(*settings)
        peer.index([_grams(items.characters, text) or [" "] for text in texts], show_progress=False)
        for text in ("居住证居住证签注", "低保", "养老保险转移怎么弄，要带身份证吗", "zzz"):
            grams = _grams(items.characters, text)
            known = [gram for gram in grams if gram in peer.vocab_dict]
            found = words.shares(grams)
            if known:
                wanted = peer.get_scores(known)
                assert found.tobytes() == (wanted / max(float(wanted.max()), 1e-9)).tobytes()
            else:
                assert not found.any()


def test_the_version_that_is_kept_is_the_facts(hall: Hall) -> None:
    from dataclasses import replace

    item = next(iter(hall.library.items.values()))
    assert version(item) == version(item) == version(replace(item)) and item == replace(item)
    assert version(replace(item, fee="9元")) != version(item)


def test_an_index_of_another_encoder_is_made_anew(tmp_path: Path) -> None:
    """Vectors of two encoders tell nothing of each other: a hall whose model was replaced, as an upgrade does, must not mix them."""
    model = tmp_path / "model"
    shutil.copytree(model_folder("govlm-small-zh"), model)
    with Hall.create(tmp_path / "h", model=model) as hall:
        hall.store.put_items([Item("a", "户口迁移", fee="不收费")])
        hall.reindex()
        made = hall.store.index.generation
    with Hall.open(tmp_path / "h") as hall:
        assert hall.search("户口迁移")[0].code == "a" and hall.store.index.generation == made
    weights = model / "model.int8.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with Hall.open(tmp_path / "h") as hall:
        assert hall.search("户口迁移")[0].code == "a" and hall.store.index.generation != made
