"""The hall: a catalogue, what understands requests, and answers from it.

hall = Hall.create("hall")
print(hall.import_items("items.xlsx"))
print(hall.import_policies(["policies/"]))
print(hall.ask("补办身份证要带什么？").text)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from govlm.bundled import BUNDLED, model_folder
from govlm.hall.answers.answer import answer_choices, answer_item, answer_policy
from govlm.hall.answers.asked import asked, names_nothing, plain
from govlm.hall.answers.precedence import applies
from govlm.hall.answers.rendering import Answer, refuse
from govlm.hall.catalogue.records import Document, Item
from govlm.hall.catalogue.report import CatalogueError, Report
from govlm.hall.catalogue.store import Store
from govlm.hall.dialogue.book import fields_of, same
from govlm.hall.dialogue.driver import Conversations, SessionStore, Turn
from govlm.hall.dialogue.shelf import Procedures, Shelf
from govlm.hall.dialogue.state import State
from govlm.hall.forms.fill import Filled, fill
from govlm.hall.forms.schema import Form, FormField
from govlm.hall.library import Library, Progress, build, clear, made_by, making
from govlm.hall.protection.people import People
from govlm.hall.protection.sessions import Exchange, Sessions, Submission
from govlm.hall.protection.vault import Vault
from govlm.hall.protection.writer import Writer
from govlm.hall.push.candidates import Candidates
from govlm.hall.push.profile import check as check_profile
from govlm.hall.push.ranking import Pushed
from govlm.hall.push.service import Push
from govlm.hall.retrieval.index import Encode
from govlm.hall.retrieval.known import Known
from govlm.hall.understanding.understand import Reading, Understanding

if TYPE_CHECKING:
    from govlm.hall.generator.phrasing import Phraser

__all__ = ["ENCODED", "Hall", "Hit", "Standing", "UnknownForm"]

SAMPLE = Path(__file__).resolve().parents[1] / "assets" / "sample-hall"
_FILE = "hall.json"
ENCODED = 200  # tokens of a text that its vector is made of
_SURE, _MAYBE, _LIKELY, _MOST = (
    0.5,
    0.2,
    0.1,
    4,
)  # chances: an item is answered about; it is offered beside others that are likely
_LOOKED = 2000  # characters of a question that are looked through for names of items
_NAMES = 500  # of items and offices that a generator is kept from writing where no source has them
_READ = 8  # passages that are read for a policy question
Path_ = str | os.PathLike[str]


class Hit(NamedTuple):
    """An item that was found. score: the chance that it is meant, 0 to 1."""

    code: str
    name: str
    score: float
    authority: str
    region: str


class Standing(NamedTuple):
    """fields: of the form that a conversation fills, in the order in which they are asked. steps: (kind, name) of each step of the procedure
    that it is in."""

    library: Library
    fields: dict[str, FormField]
    steps: tuple[tuple[str, str], ...]


class UnknownForm(CatalogueError):
    """No item has a form of this name, or several do."""


class Hall:
    """Made by `create`, `open` or `sample`. Any number of threads may ask while one imports; close it, or use it in a `with`."""

    def __init__(self, folder: Path, store: Store, model: Path_ = BUNDLED, generator: Any = None) -> None:
        self.folder, self.store = folder, store
        self.phraser = _phraser(generator)
        self._model = model
        self._encoder: Any = None
        self._known: Encode | None = None
        self._library: Library | None = None
        self._phrased_for: Library | None = None  # whose names the phraser has
        self._candidates: tuple[Library, Candidates] | None = None
        self.writer = Writer(store)
        self.curated: Callable[[str, str, date], Answer | None] | None = None  # (text, region, today): asked before the hall
        self._forms: tuple[int, list[Item]] = (-1, [])  # items with forms, of that version of the catalogue
        self._lock = threading.RLock()

    # ------------------------------------------------------------------------------------------------- made and opened

    @classmethod
    def create(cls, path: Path_, database: str | None = None, model: Path_ = BUNDLED) -> Hall:
        """A new hall in an empty or new folder. database: URL of PostgreSQL (default: SQLite in the folder). model: folder of the encoder.

        CatalogueError: the folder holds a hall, or the database holds a catalogue already.
        """
        folder = Path(path)
        if (folder / _FILE).exists():
            raise CatalogueError(f"{folder}: holds a hall already; Hall.open opens it")
        folder.mkdir(parents=True, exist_ok=True)
        store = Store.create(database or folder / "catalogue.db")
        (folder / _FILE).write_text(json.dumps({"format": 1, "database": database, "model": os.fspath(model)}) + "\n", "utf-8")
        return cls(folder, store, model)

    @classmethod
    def open(cls, path: Path_, generator: Any = None) -> Hall:
        """The hall in a folder. CatalogueError: there is none, or its database is damaged (a backup can be restored).

        generator: a folder or .gguf file of a causal language model, or a govlm.hall.generator.local.Generator, that puts answers,
        summaries and interpretations into plain words and makes follow-up questions whole (default: none). FileNotFoundError.
        """
        folder = Path(path)
        try:
            head = json.loads((folder / _FILE).read_text("utf-8"))
        except FileNotFoundError:
            raise CatalogueError(f"{folder}: no hall there; Hall.create makes one") from None
        except (OSError, ValueError) as error:
            raise CatalogueError(f"{folder / _FILE}: cannot be read ({error})") from None
        database, model = head.get("database") or folder / "catalogue.db", head.get("model") or BUNDLED
        return cls(folder, Store.open(database), model, generator)

    @classmethod
    def sample(cls, generator: Any = None) -> Hall:
        """The bundled sample hall of a city that does not exist, in a temporary folder that goes with it. generator: as of `open`."""
        folder = Path(tempfile.mkdtemp(prefix="govlm-sample-"))
        try:
            hall = cls.create(folder / "hall")
            weakref.finalize(hall, shutil.rmtree, folder, ignore_errors=True)
            hall.import_sample()
            hall.phraser = _phraser(generator)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return hall

    def close(self) -> None:
        if self.phraser is not None and callable(close := getattr(self.phraser.generator, "close", None)):
            close()
        self.writer.close()
        self.store.close()

    def __enter__(self) -> Hall:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Hall({str(self.folder)!r})"

    # --------------------------------------------------------------------------------------------------------- imported

    def import_items(
        self, file: Path_, mapping: Path_ | Mapping[str, Any] | None = None, progress: Progress | None = None
    ) -> Report:
        """Adds the items of a JSONL, CSV or Excel file, replacing those of the same code. The report tells of every row that was not
        as it should be. mapping: which foreign column is which field (default: recognised by the columns)."""
        from govlm.hall.catalogue.columns import import_items  # what reads files is not needed to answer

        items, report = import_items(file, mapping)
        self.store.put_items(items)
        self.reindex(progress)
        return report

    def import_policies(self, files: Path_ | Iterable[Path_], region: str = "", progress: Progress | None = None) -> Report:
        """Adds policy documents: files or folders of Markdown, HTML, PDF, Word or text. region: where they hold."""
        from govlm.hall.catalogue.documents import import_documents

        documents, report = import_documents(files, region, self.store.documents())
        self.store.put_documents(documents)
        self.reindex(progress)
        return report

    def import_sample(self) -> None:
        """Adds the bundled sample: items, policies, procedures of a city that does not exist; indexed once."""
        from govlm.hall.catalogue.columns import import_items
        from govlm.hall.catalogue.documents import import_documents

        items, _ = import_items(SAMPLE / "items.jsonl")
        documents, _ = import_documents([SAMPLE / "policies"], "", self.store.documents())
        self.store.put(items, documents)
        self.reindex()
        self.import_procedures(sorted((SAMPLE / "procedures").glob("*.yaml")))

    def learn(self, utterances: Path_ | Iterable[Mapping[str, Any]], progress: Progress | None = None) -> Report:
        """Adds a hall's own sentences to its items, so that requests like them are recognised: rows {"text", "item"}, the item by its
        code or its name, from a JSONL file or as they are. What names no item, or several, is reported."""
        rows = (
            utterances
            if isinstance(utterances, Iterable) and not isinstance(utterances, (str, os.PathLike))
            else _rows(utterances)
        )
        source = Path(utterances).name if isinstance(utterances, (str, os.PathLike)) else ""
        report = Report(source=source, unit="句")
        items = {item.code: item for item in self.store.items()}
        named: dict[str, list[str]] = {}
        for item in items.values():
            named.setdefault(item.name, []).append(item.code)
        said: dict[str, list[str]] = {}
        for number, row in enumerate(rows, 1):
            report.rows += 1
            text, which = row.get("text"), row.get("item")
            codes = [which] if which in items else named.get(str(which), [])
            if not isinstance(text, str) or not text.strip():
                report.add("缺少", "没有text", number)
            elif len(codes) != 1:
                report.add("事项", f"{which!r}：{'没有这个事项' if not codes else '有几个事项叫这个名字，请用编码'}", number)
            else:
                said.setdefault(codes[0], []).append(text.strip())
                report.imported += 1
        report.skipped = report.rows - report.imported
        changed = [
            replace(items[code], wordings=tuple(dict.fromkeys((*items[code].wordings, *texts)))) for code, texts in said.items()
        ]
        if changed:
            self.store.put_items(changed)
            self.reindex(progress)
        return report

    def backup(self, file: Path_, *, people: bool = False) -> None:
        """Writes the catalogue to an SQLite file, from which `restore` brings it back. Questions and imports go on. As `Store.backup`."""
        self.store.backup(file, people=people)

    def restore(self, file: Path_) -> None:
        """Makes the catalogue what a backup holds. CatalogueError: it is none, or damaged; nothing was changed then."""
        self.store.restore(file)
        self.reindex()

    @classmethod
    def recover(cls, path: Path_, backup: Path_) -> Hall:
        """Puts a backup in the place of a catalogue that cannot be opened any more; the damaged files are kept beside it."""
        folder = Path(path)
        Store.recover(folder / "catalogue.db", backup).close()
        shutil.rmtree(folder / "index", ignore_errors=True)
        return cls.open(folder)

    def reindex(self, progress: Progress | None = None) -> None:
        """Makes the indexes anew and puts them in use, for every process at once; questions go on meanwhile."""
        folder = self.folder / "index"
        with self._lock:
            with making(folder):
                with self.store.snapshot() as view:
                    name = build(folder, view, self._knowing, self._maker, progress)
                    library = Library.open(folder / name, view, self._encode, self._maker)
                if self.store.publish_index(name, library.version):
                    self._library = library
            clear(folder, lambda: index.generation if (index := self.store.index) else "")

    # -------------------------------------------------------------------------------------------------------------- asked

    @property
    def library(self) -> Library:
        """What is in use now; one made by another process is picked up here."""
        found = self._library
        current = self.store.index
        if found is not None and current is not None and found.version >= current.version:
            return found
        with self._lock:
            return self._reopen()

    def _reopen(self) -> Library:
        for _ in range(3):
            with self.store.snapshot() as view:
                if view.index is not None and view.index.version == view.version:
                    with contextlib.suppress(OSError, ValueError):  # made by another version, or just replaced
                        generation = self.folder / "index" / view.index.generation
                        self._library = Library.open(generation, view, self._encode, self._maker)
                        return self._library
            if self._library is not None:  # another process is about to publish an index of what it has just put
                return self._library
            self.reindex()
        raise CatalogueError(f"{self.folder}: the index cannot be made or read; see whether the disk is full")

    def search(
        self, text: str, k: int = 10, region: str | None = None, level: str = "", audience: str = "", today: date | None = None
    ) -> list[Hit]:
        """The k likeliest items. region: GB/T 2260 code; items of it and of what it lies in are found (default: all)."""
        library = self.library
        if not library.items or k < 1:
            return []
        scores, _ = library.understander.item_scores(library.understander.query(text))
        return self._hits(library, scores, k, library.allowed(today or date.today(), region or "", level, audience))

    def _hits(self, library: Library, scores: NDArray[np.float32], k: int, allowed: NDArray[np.bool_]) -> list[Hit]:
        if not allowed.any():
            return []
        open_ = np.where(allowed, scores, -np.inf)
        chances = np.exp(open_ - open_.max())
        chances /= chances.sum()
        codes = library.understander.codes
        order = np.argsort(-open_, kind="stable")[:k]
        return [
            Hit(item.code, item.name, float(chances[i]), item.authority, item.region)
            for i, item in ((i, library.items[codes[i]]) for i in order if allowed[i])
        ]

    def search_passages(self, text: str, k: int = 10, region: str | None = None) -> list[tuple[Document, str]]:
        """The k passages of policy documents, (document, passage id), that fit a question best; only what holds in the region."""
        library = self.library
        query = library.understander.query(text)
        if not np.count_nonzero(query.codes):
            return []
        found = self._passages(library, query, k if not region else len(library.passages))
        return [entry for entry in found if applies(entry[0], region or "") or not region][:k]

    def understand(self, text: str, today: date | None = None) -> Understanding:
        """Business type, item, act, slots, and whether the hall can answer. today: what 明天 is counted from (default: the day it is)."""
        return self.library.understander.understand(text, today=today)

    def ask(self, text: str, region: str | None = None, today: date | None = None, earlier: Sequence[str] = ()) -> Answer:
        """An answer whose every sentence is cited, or an honest refusal. Never raises for a text, whatever it is. earlier: what was
        asked before, the oldest first; a hall with a generator reads a follow-up as the whole question that it means."""
        library = self.library
        if self.phraser is not None:
            text = self.phraser.question(text, earlier)
        return self._answer(library, library.understander.read(text), region, today or date.today())

    def _answer(self, library: Library, reading: Reading, region: str | None, today: date) -> Answer:
        """As `ask`, from one library."""
        text = reading.text
        if not text.strip() or reading.empty:
            return refuse("empty")
        if self.curated is not None and (given := self.curated(text, region or "", today)) is not None:
            return given
        return self._phrased(text, self._extracted(library, reading, region, today), library)

    def _phrased(self, question: str, answer: Answer, library: Library) -> Answer:
        if self.phraser is None:
            return answer
        if self._phrased_for is not library:
            self._phrased_for, entries = library, library.items.values()
            names = dict.fromkeys(name for item in entries for name in (item.authority, item.name) if len(name) > 1)
            self.phraser.names = tuple(names)[:_NAMES]
        return self.phraser.answer(question, answer, library)

    def _extracted(self, library: Library, reading: Reading, region: str | None, today: date) -> Answer:
        text = reading.text
        if names_nothing(text):
            return refuse("which_item")
        characters = library.understander.characters
        if reading.outside and not self._named(library, text):
            return refuse("out_of_scope")
        hits = self._hits(library, reading.scores, _MOST, library.known(region or ""))
        if hits and hits[0].score >= _MAYBE:
            likely = [library.items[hit.code] for hit in hits if hit.score >= _LIKELY]
            if hits[0].score < _SURE and len(likely) > 1:
                return answer_choices(likely, library)
            answer = answer_item(text, likely[0], library, today, characters)
            if not answer.refused or answer.reason != "unanswerable":
                return answer
        passages = self._passages(library, reading.query)
        if passages:
            return answer_policy(text, passages, library, today, region or "", characters)
        return refuse("unanswerable" if hits else "nothing_found")

    def _named(self, library: Library, text: str) -> bool:
        """Whether the text names an item outright and asks for a part of its guide: that is no doubt the hall's business."""
        characters = library.understander.characters
        read = text[:_LOOKED]
        return bool(library.named(plain(read, characters))) and bool(asked(read, (), characters).kinds)

    def _passages(self, library: Library, query: Any, k: int = _READ) -> list[tuple[Any, str]]:
        if not library.passages:
            return []
        scores = library.understander.weights.passages.scores(library.passage_index.features(query))
        order = np.argsort(-scores, kind="stable")[:k]
        return [(library.documents[library.passages[i][0]], library.passages[i][1]) for i in order]

    # ------------------------------------------------------------------------------------------------------ conversations

    def chat(self, session_id: str, text: str, now: datetime | None = None, region: str | None = None, key: str = "") -> Turn:
        """One message of a conversation: understood, answered, and kept before the answer is given. session_id: any text that names
        the conversation. now: when it is said (default: the time it is). region: as in `ask`. key: names the message, so that one
        that is sent twice is taken once. Never raises for a text, whatever it is."""
        return self._conversations.chat(session_id, text, now, region, key)

    def correct(self, session_id: str, values: Mapping[str, str], now: datetime | None = None, key: str = "") -> Turn:
        """Values that were written into the fields of the form beside the conversation, as if they had been said there. As
        `Conversations.correct`."""
        return self._conversations.correct(session_id, values, now, key)

    def confirm(self, session_id: str, now: datetime | None = None, key: str = "") -> Turn:
        """Submits the form that a conversation has put to the person. As `Conversations.confirm`."""
        return self._conversations.confirm(session_id, now, key)

    def papers(self, submission: Submission) -> list[tuple[Item, Form, dict[str, str]]]:
        """(item, form, values) of each form of what was handed in, as the forms are now."""
        shelf = self._shelf()
        procedure = shelf.procedure(submission.form)
        if procedure is None:
            return []
        fields = fields_of(procedure, shelf)
        codes = dict.fromkeys(entry.item for entry in procedure.of_kind("form"))
        found = ((shelf.item(code), shelf.form(code)) for code in codes)
        return [
            (item, form, same(form, submission.values, fields)) for item, form in found if item is not None and form is not None
        ]

    def state(self, session_id: str) -> State:
        """Of a conversation, as its last message left it; an empty one where there was none."""
        saved = self.sessions.load(session_id)
        return State.from_saved(saved.state, saved.values)

    def history(self, session_id: str, after: int = 0) -> list[Exchange]:
        """The messages of a conversation with their answers, in order, behind turn number `after`. Numbers of persons are masked in what
        was said before they agreed that it is kept."""
        return self.sessions.exchanges(session_id, after)

    def standing(self, state: State) -> Standing:
        """Where a conversation stands in its procedure, by the catalogue as it is now."""
        shelf = self._shelf()
        procedure = shelf.procedure(state.top.procedure) if state.top else None
        if procedure is None:
            return Standing(shelf.library, {}, ())
        return Standing(shelf.library, fields_of(procedure, shelf), tuple((step.kind, step.id) for step in procedure.steps))

    def fields(self, state: State) -> dict[str, FormField]:
        """The fields of the form that a conversation fills, in the order in which they are asked; none where it fills none."""
        return self.standing(state).fields

    def import_procedures(self, files: Path_ | Iterable[Path_]) -> Report:
        """Takes procedure files (YAML or JSON, see govlm.hall.dialogue.procedures) into use; what `lint` objects to is reported and left
        out."""
        one = isinstance(files, (str, os.PathLike))
        return self._procedures.put([files] if one else files, self.library)  # type: ignore[list-item,arg-type]

    @cached_property
    def _procedures(self) -> Procedures:
        return Procedures(self.folder / "procedures")

    def conversations(self, sessions: SessionStore) -> Conversations:
        """Conversations that are kept elsewhere than in the hall's database."""
        return Conversations(sessions, self._shelf, self._answer, put_right=self._put_right, phrase=self._phrased)

    def _shelf(self) -> Shelf:
        return self._procedures.shelf(self.library)

    @cached_property
    def _conversations(self) -> Conversations:
        return Conversations(
            self.sessions, self._shelf, self._answer, self._agreed, self._put_right, self._phrased, self._whole
        )

    def _whole(self, session_id: str, version: int, text: str) -> str:
        """A message of a conversation as the whole question that it means; it alone where there is no generator."""
        if self.phraser is None or version < 1:
            return text
        return self.phraser.question(text, [exchange.message for exchange in self.history(session_id, max(0, version - 3))])

    def _put_right(self, text: str, region: str, today: date) -> bool:
        return self.curated is not None and self.curated(text, region, today) is not None

    def _agreed(self, session_id: str, version: str, now: datetime) -> None:
        """Keeps the consent of a conversation, before anything that needs it is kept."""
        self.people.consent_session(session_id, "handling", version, now=now)

    # ------------------------------------------------------------------------------------------------------------- people

    @cached_property
    def vault(self) -> Vault:
        """The keys of people's data: $GOVLM_KEYS, else keys.json in the folder, made at first use."""
        return Vault.of(self.store, self.folder / "keys.json")

    @cached_property
    def people(self) -> People:
        """Consents, profiles, events; export and erasure."""
        return People(self.store, self.vault, self.writer)

    @cached_property
    def sessions(self) -> Sessions:
        """Conversations and what was handed in; an identity number is only kept with consent."""
        return Sessions(self.store, self.vault, self.writer, self.people)

    @cached_property
    def _push(self) -> Push:
        def candidates() -> Candidates:
            library, found = self.library, self._candidates
            if found is None or found[0] is not library:
                found = self._candidates = library, Candidates(library.items.values(), library.documents.values())
            return found[1]

        return Push(self.people, candidates)

    def put_profile(self, person_id: str, values: Mapping[str, str], now: datetime | None = None) -> None:
        """Keeps what a person tells of themselves (names and values: govlm.hall.push.profile). ConsentError: not without consent."""
        check_profile(values)
        self.people.put_profile(person_id, values, now=now or datetime.now())

    def record(self, person_id: str, event: Any) -> bool:
        """Keeps that a person asked about, viewed, applied for or dismissed something: {"kind": "viewed", "item": code}. As `Push.record`."""
        return self._push.record(person_id, event)

    def push(
        self, person_id: str, k: int = 5, today: date | None = None, region: str = "", *, count: bool = True
    ) -> list[Pushed]:
        """Up to k recommendations, each with its reason. As `Push.push`."""
        return self._push.push(person_id, k, today, region, count=count)

    def opt_out(self, person_id: str) -> None:
        """No more recording, and no personal recommendations."""
        self._push.opt_out(person_id)

    def opt_in(self, person_id: str) -> None:
        self._push.opt_in(person_id)

    # -------------------------------------------------------------------------------------------------------------- forms

    def form(self, form_id: str) -> tuple[Item, Form]:
        """The item and its form. form_id: the form's $id, or the code, the name or an alias of an item that has a form.

        UnknownForm: there is none, or several items bear the name; CatalogueError: the form's schema is wrong.
        """
        version, items = self._forms
        with self.store.snapshot() as view:
            if view.version != version:
                items = [item for item in view.items() if item.form]
                self._forms = view.version, items
        for keys in (lambda item: (item.form.get("$id"),), lambda item: (item.code,), lambda item: (item.name, *item.aliases)):
            found = [item for item in items if form_id in keys(item)]
            if len(found) > 1:
                raise UnknownForm(
                    f"form {form_id!r}: {len(found)} items have it ({', '.join(i.code for i in found[:4])}); give a code"
                )
            if found:
                try:
                    return found[0], Form.of(found[0].form)
                except ValueError as error:
                    raise CatalogueError(f"item {found[0].code}: {error}") from None
        known = ", ".join(sorted(str(item.form.get("$id")) for item in items)[:20])
        raise UnknownForm(f"form {form_id!r}: no item has it; there are {known or 'none'}")

    def fill(
        self,
        form_id: str,
        text: str,
        *,
        asking: str | None = None,
        known: Mapping[str, str] | None = None,
        today: date | None = None,
    ) -> Filled:
        """What the text says for a form: values with their places, and problems. form_id: as for `form`; the rest: as for `fill`."""
        item, form = self.form(form_id)
        return fill(form, text, asking=asking, known=known or {}, today=today, item=item)

    # ------------------------------------------------------------------------------------------------------------ encoder

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentence vectors of length 1; texts are cut at 200 tokens."""
        if not texts:
            return np.zeros((0, self.encoder.config.hidden_size), np.float32)
        found: NDArray[np.float32] = self.encoder.encode(list(texts), normalize=True, max_length=ENCODED)
        return found

    def _knowing(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `_encode`, without reckoning anew what comes in the box."""
        if not texts:
            return self._encode(texts)
        if self._known is None:
            known = Known.of(model_folder(self._model))
            self._known = known.within(self._encode) if known is not None else self._encode
        return self._known(texts)

    @cached_property
    def _maker(self) -> str:
        """Of the weights this process has, whatever is put into their folder meanwhile; read once."""
        return made_by(model_folder(self._model))

    @property
    def encoder(self) -> Any:
        """The model without a head that makes the hall's vectors; read at first use."""
        if self._encoder is None:
            from govlm.models import AutoModel

            with self._lock:
                if self._encoder is None:
                    self._encoder = AutoModel.from_pretrained(self._model, add_pooling_layer=False)
        return self._encoder


def _phraser(generator: Any) -> Phraser | None:
    """What it needs is read only where there is a generator."""
    if not generator:
        return None
    from govlm.hall.generator.local import generator_of
    from govlm.hall.generator.phrasing import Phraser

    return Phraser(generator_of(generator))


def _rows(file: Path_) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file. CatalogueError names the line that is none."""
    with open(file, encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    raise CatalogueError(f'{file}: line {number} is no JSON object like {{"text": "…", "item": "…"}}')
                yield row
