"""Makes govlm-small-zh from text: vocabulary, corpus, pre-training in stages, sentence embeddings, 8 bits; and what a hall
understands by.

    python govlm/assets/training/make.py --data DIR [--work DIR] [--anew] [--until STEP]

DIR holds the corpus and the sets named below. A stage whose result lies in this folder is not made again, unless --anew; a run
that was killed goes on where it was. A stage takes up to 100 minutes when nothing else runs on the two cores, and its batches,
masks and dropout are functions of the seeds below: the same text gives the same model, whatever the machine's thread count.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SHAPE = {
    "hidden_size": 320, "num_hidden_layers": 4, "num_attention_heads": 10, "intermediate_size": 1280,
    "max_position_embeddings": 512, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
VOCABULARY = {"vocab_size": 8192, "limit_alphabet": 6200}
CORPUS = ("corpus/general.train.part1of3.txt.xz", "corpus/general.train.part2of3.txt.xz",
          "corpus/general.train.part3of3.txt.xz", "corpus/pretrain.train.txt.xz")  # fmt: skip
PRETRAINING: dict[str, Any] = {
    "objective": "mlm", "mask_probability": 0.25, "batch_size": 32, "max_length": 128, "lr": 1e-3,
    "schedule": "warmup_stable_decay", "warmup": 200, "decay": 0.15, "eval_every": 500, "seed": 20,
}  # fmt: skip
STAGES: dict[str, dict[str, Any]] = {  # each is what differs from PRETRAINING, and begins where the one before ended
    "stage-1": {"steps": 4500, "initial": "corpus"},
    "stage-2": {"steps": 7600},
    "stage-3": {"steps": 4000},
    "stage-4": {"steps": 2000},
    "stage-5": {"steps": 4500, "decay": 0.5},  # what a stage gains, it gains while its rate falls
    "stage-6": {"steps": 4600, "decay": 0.9},
}
EMBEDDING: dict[str, Any] = {"epochs": 3, "batch_size": 64, "lr": 2e-4, "max_length": 64, "mlm_weight": 0.5, "seed": 20}
NAMED = 6  # a colloquial name of a real item teaches ranking as much as so many requests for the sample hall
HELD_OUT_ALIASES = 0.3  # share of the colloquial names that no training sees: retrieval is judged by them


@dataclass
class Run:
    data: Path
    work: Path
    anew: bool
    progress: bool | None

    # ------------------------------------------------------------------------------------------ text

    def vocabulary(self) -> Path:
        """Folder of the tokenizer."""
        import govlm

        folder = self.work / "tokenizer"
        if not (folder / "vocab.txt").exists():
            found = govlm.train_wordpiece([self.data / name for name in CORPUS], **VOCABULARY)
            govlm.BertTokenizer(found).save_pretrained(folder)
        return folder

    def corpus(self) -> Path:
        """Folder of the token shards, personal numbers replaced, near duplicates dropped, whole words marked."""
        from govlm.corpus.build import Options, build

        folder = self.work / "corpus"
        if not (folder / "corpus.json").exists():
            files = [str(self.data / name) for name in CORPUS]
            build(files, folder, str(self.vocabulary()), Options(scrub=True), resume=folder.exists(), progress=self.progress)
        return folder

    # -------------------------------------------------------------------------------------- training

    def stage(self, name: str) -> Path:
        """Folder of a stage's model, float16; made on the way: the stages before it."""
        from govlm.train.pretrain import PretrainOptions, pretrain

        kept, made = HERE / name, self.work / name
        if (kept / "model.safetensors").exists() and not self.anew:
            return kept
        names = list(STAGES)
        place = names.index(name)
        before = self.stage(names[place - 1]) if place else None
        skip = sum(STAGES[n]["steps"] for n in names[:place])
        dropout = {key: value for key, value in SHAPE.items() if key.endswith("dropout_prob")}
        source: dict[str, Any] = {"model": SHAPE} if before is None else {"start": str(before), "model": dropout}
        options = PretrainOptions(
            corpus=(str(self.corpus()),), out=str(made), skip=skip, **source, **{**PRETRAINING, **STAGES[name]}
        )
        pretrain(options, resume=(made / "pretrain.json").exists(), progress=self.progress)
        self._keep(made, kept)
        return kept

    def _keep(self, made: Path, kept: Path) -> None:
        """The weights in float16, the figures, and every 25th line of the log."""
        import govlm

        model = govlm.AutoModelForMaskedLM.from_pretrained(made)
        model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.1  # for fine-tuning
        model.save_pretrained(kept, dtype="float16")
        shutil.copyfile(made / "vocab.txt", kept / "vocab.txt")
        shutil.copyfile(made / "result.json", kept / "result.json")
        lines = [json.loads(line) for line in (made / "log.jsonl").read_text("utf-8").splitlines()]
        thin = [r for r in lines if "evaluation" in r or r.get("step", 0) % 25 == 0]
        (kept / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in thin), encoding="utf-8")

    def embeddings(self) -> Path:
        """Folder of the model with sentence embeddings, its masked-LM head kept good."""
        from govlm.train.embed import EmbedOptions, embed_train

        out = self.work / "embeddings"
        if not (out / "model.safetensors").exists():
            embed_train(  # without an evaluation: the names that judge it choose nothing
                self.pairs(), model=self.stage(list(STAGES)[-1]), out=out, options=EmbedOptions(**EMBEDDING),
                resume=(out / "checkpoints").exists(), progress=self.progress,
            )  # fmt: skip
        return out

    def quantised(self) -> Path:
        """The bundled model's folder."""
        from govlm.bundled import BUNDLED
        from govlm.quantised import FILE
        from govlm.train.quantise import quantise_folder

        out, made = HERE.parent / BUNDLED, self.work / "int8"
        quantise_folder(self.embeddings(), made)
        out.mkdir(exist_ok=True)
        for name in ("config.json", FILE, "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copyfile(made / name, out / name)
        return out

    # --------------------------------------------------------------------------------- what the hall understands by

    def understanding(self) -> Path:
        """Folder of the weights with which the hall understands: fitted with the vectors of the bundled model, as it is."""
        from govlm.bundled import BUNDLED
        from govlm.hall.retrieval.characters import Characters
        from govlm.hall.understanding import examples, fitting

        if self.anew or not (HERE.parent / BUNDLED).exists():
            self.quantised()
        self.tagger()
        characters, encode = Characters.make(), fitting.cached(self.encode())
        sample, requests = self.sample()
        outside = [row["text"] for row in examples.read_rows("out_of_scope.jsonl")]
        taught, scope = fitting.request_cases(sample, requests, outside, encode, characters)
        items, aliases = self.region()
        names = self.aliases()[0]
        named = fitting.alias_cases(items, aliases, list(dict.fromkeys(alias for alias, _ in names)), encode, characters)
        entries, questions = self.questions(0)
        passages = fitting.passage_cases(entries, questions, encode, characters)
        weights = fitting.fit_weights(
            [*taught, *named * NAMED], [*scope, *named], passages, fitting.act_cases(encode, characters)
        )
        weights.save(examples.FOLDER)
        self.vectors()
        return examples.FOLDER

    def vectors(self) -> Path:
        """File of the vectors that come in the box: all that indexing the sample hall asks for."""
        import tempfile

        from govlm.bundled import BUNDLED
        from govlm.hall import Hall
        from govlm.hall.retrieval.known import FILE, Known

        FILE.unlink(missing_ok=True)
        asked: list[str] = []
        with tempfile.TemporaryDirectory() as folder, Hall.create(Path(folder) / "hall") as hall:
            encode = hall._encode

            def heard(texts: Any) -> Any:
                asked.extend(texts)
                return encode(texts)

            hall._encode = heard  # type: ignore[method-assign]
            hall.import_sample()
            Known.make(asked, encode).save(FILE, HERE.parent / BUNDLED)
        return FILE

    def tagger(self) -> Path:
        """File of the weights with which persons and organisations are found in sentences; about ten minutes."""
        from govlm.hall.understanding import tagger_fitting
        from govlm.hall.understanding.tagger import FILE

        if self.anew or not FILE.exists():
            tagger_fitting.fit(tagger_fitting.training_rows(self.data), tagger_fitting.hints).save(FILE)
        return FILE

    def encode(self) -> Any:
        """Sentence vectors of the bundled model, as a hall makes them."""
        import govlm
        from govlm.bundled import BUNDLED

        encoder = govlm.AutoModel.from_pretrained(HERE.parent / BUNDLED, add_pooling_layer=False)
        return lambda texts: np.asarray(encoder.encode(list(texts), normalize=True, max_length=200))

    def sample(self) -> tuple[list[Any], list[tuple[str, str]]]:
        """(items of the sample hall, requests for them)."""
        from govlm.hall.catalogue.columns import import_items
        from govlm.hall.understanding import examples

        items, _ = import_items(HERE.parent / "sample-hall" / "items.jsonl")
        codes = {item.name: item.code for item in items}
        return items, [(row["text"], codes[row["item"]]) for row in examples.read_rows("requests.jsonl")]

    def region(self) -> tuple[list[Any], dict[str, list[str]]]:
        """(items of a province, colloquial name -> codes of the items that bear it)."""
        from govlm.hall.catalogue.columns import import_items

        items, _ = import_items(self.data / "gov/guangdong_service_items/items.jsonl")
        bearers: dict[str, list[str]] = {}
        for row in self.items():
            for alias in dict.fromkeys(str(row[key] or "").strip() for key in ("matter_short", "matter_daily")):
                if alias not in ("", "无"):
                    bearers.setdefault(alias, []).append(row["TASK_CODE"])
        return items, bearers

    def questions(self, part: int) -> tuple[list[Any], list[tuple[str, Any]]]:
        """(passages of the documents, questions with the passages of the document that answers them): of one half of the documents
        the questions, 0 to fit on, 1 to measure with; of all documents the passages."""
        from govlm.data import permutation
        from govlm.hall.catalogue.documents import make_document
        from govlm.hall.library import passage_entries

        rows = [json.loads(line) for line in _lines(self.data / "gov/ncp_policy_qa/train.json")]
        contexts = {row["docid"]: row["context"] for row in rows}
        order = permutation(len(contexts), 25, 0).tolist()
        half = {list(contexts)[i] for i in order[part::2]}
        owners, entries = [], []
        for name, context in contexts.items():
            found = passage_entries(make_document(context, title=context.split("\n")[0].split(" ")[0][:60], number=name))
            entries += found
            owners += [name] * len(found)
        place = np.array(owners)
        asked = csv.DictReader(_lines(self.data / "gov/ncp_policy_qa/qa.tsv"), delimiter="\t")
        return entries, [(row["question"], place == row["docid"]) for row in asked if row["docid"] in half]

    # ----------------------------------------------------------------------------------------- pairs

    def items(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in _lines(self.data / "gov/guangdong_service_items/items.jsonl")]

    def aliases(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """(alias, item) pairs to train on, and held out; by the alias, so that no alias is on both sides."""
        from govlm.data import permutation

        every = dict.fromkeys(
            (row[key].strip(), row["matter_name"].strip())
            for row in self.items()
            for key in ("matter_short", "matter_daily")
            if row[key] and row[key].strip() not in ("", "无")
        )
        names = sorted({alias for alias, _ in every})
        order = permutation(len(names), 20, 0)
        held = {names[i] for i in order[: round(HELD_OUT_ALIASES * len(names))]}
        return [p for p in every if p[0] not in held], [p for p in every if p[0] in held]

    def pairs(self) -> list[Any]:
        """What belongs together: alias and item, item and standard, heading and message, question and answer or article."""
        train, _ = self.aliases()
        found = list(train)
        found += [(row["matter_name"].strip(), row["accept_standard"].strip()) for row in self.items()]
        for name in ("messages_unlabelled_4326", "messages_with_official_reply_2816"):
            for row in map(json.loads, _lines(self.data / f"gov/citizen_messages/{name}.jsonl.gz")):
                found.append((row["留言主题"].strip(), row["留言详情"].strip()))
        for row in csv.DictReader(_lines(self.data / "gov/ncp_policy_qa/qa.tsv"), delimiter="\t"):
            found.append((row["question"], row["answer"].strip()))
        folder = self.data / "retrieval/stard"
        queries = dict(line.rstrip("\n").split("\t", 1) for line in _lines(folder / "train.query.txt"))
        articles = {str(row["id"]): row for row in map(json.loads, _lines(folder / "statutes_from_queries.jsonl"))}
        for line in _lines(folder / "qrels.train.tsv"):
            query, _, article, _ = line.split()
            if query in queries and article in articles:
                found.append((queries[query], f"{articles[article]['name']} {articles[article]['text']}"))
        found = [(a, b) for a, b in dict.fromkeys(found) if min(len(a), len(b)) > 1 and a != b]
        order = np.random.default_rng(20).permutation(len(found))
        return [(*found[i], []) for i in order]


def _lines(path: Path) -> Iterator[str]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as handle:
        yield from handle


def main() -> int:
    steps = ["vocabulary", "corpus", *STAGES, "embeddings", "quantised", "tagger", "understanding", "vectors"]
    parser = argparse.ArgumentParser(description="Makes govlm-small-zh from text.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="corpus and sets")
    parser.add_argument(
        "--work", type=Path, default=Path("govlm-small-zh-work"), metavar="DIR", help="for what is made on the way"
    )
    parser.add_argument("--until", choices=steps, default=steps[-1], metavar="STEP", help=", ".join(steps))
    parser.add_argument("--anew", action="store_true", help="make the stages that are here, too")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="progress bars")
    arguments = parser.parse_args()
    missing = [name for name in CORPUS if not (arguments.data / name).exists()]
    if missing:
        print(f"make.py: error: {arguments.data / missing[0]} is missing", file=sys.stderr)
        return 1
    arguments.work.mkdir(parents=True, exist_ok=True)
    run = Run(arguments.data, arguments.work, arguments.anew, arguments.progress)
    step = arguments.until
    print(run.stage(step) if step in STAGES else getattr(run, step)())
    return 0


if __name__ == "__main__":
    sys.exit(main())
