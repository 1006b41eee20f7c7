"""Sentences of citizens that the tagger learns from, made from the patterns of assets/understanding/named.txt.

Names, places and organisations are drawn. No name is anybody's: family names are drawn by how common they are, given names from their characters.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np

from govlm.hall.understanding.examples import FOLDER
from govlm.hall.understanding.name_parts import DOUBLE_FAMILY_NAMES, FAMILY_NAMES, GIVEN

__all__ = ["Example", "make_examples", "renamed"]

Example = tuple[str, list[tuple[str, int, int]]]  # text, (kind, start, end)

# Keys of the patterns: {n} a person, {o} an organisation, {a} an address, {c} a city, {k} kin, {r} a role, {t} a title, {s} a matter,
# {d} figures of a card or a phone, {f} a family name, {g1} a character of a given name, {y} a small number.
_FILE = FOLDER / "named.txt"
_OTHER_NAMES = (("tibetan", ""), ("uyghur", "··•"), ("mongolian", ""), ("foreign", "··•"))  # what stands between their parts


@functools.cache
def _words() -> dict[str, list[str]]:
    head = _FILE.read_text("utf-8").split("\n\n")[0]
    return {name: words.split(" ") for name, words in (line.split("\t") for line in head.splitlines() if line[0] != "#")}


@functools.cache
def _patterns() -> list[str]:
    return _FILE.read_text("utf-8").split("\n\n")[1].splitlines()


class _Drawn:
    """Names drawn with one generator."""

    def __init__(self, seed: int, places: Sequence[str], addresses: Sequence[str]) -> None:
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.places, self.addresses = places, addresses
        rank = 1 / (np.arange(len(FAMILY_NAMES)) + 12.0)
        self.family_shares = rank / rank.sum()

    def one(self, of: Sequence[str]) -> str:
        return of[int(self.random.integers(len(of)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def family(self) -> str:
        if self.chance(0.04):
            return self.one(DOUBLE_FAMILY_NAMES)
        return FAMILY_NAMES[int(self.random.choice(len(FAMILY_NAMES), p=self.family_shares))]

    def given(self) -> str:
        first = self.one(GIVEN)
        if self.chance(0.18):
            return first
        return first * 2 if self.chance(0.05) else first + self.one(GIVEN)

    def person(self) -> str:
        if self.chance(0.05):
            people, signs = _OTHER_NAMES[int(self.random.integers(len(_OTHER_NAMES)))]
            parts = _words()[people]
            names = [self.one(parts), self.one(parts)]
            return (self.one(signs) if signs else "").join(names)
        return self.family() + self.given()

    def figures(self) -> str:
        sizes = (9, 10, 10, 10, 17, 17, 18)
        size = sizes[int(self.random.integers(len(sizes)))]
        return "1" + "".join(str(n) for n in self.random.integers(0, 10, size))

    def syllables(self, of: Sequence[str], least: int, most: int) -> str:
        return "".join(self.one(of) for _ in range(int(self.random.integers(least, most + 1))))

    def place(self) -> str:
        """A division, full or short, now and then none."""
        return (
            ""
            if self.chance(0.25)
            else self.one(self.places)
            if self.chance(0.6)
            else self.one(_words()["cities"]) + self.one(("市", ""))
        )

    def local(self) -> str:
        return self.syllables(_words()["places"], 2, 2)

    def organisation(self) -> str:
        kind = self.random.random()
        if kind < 0.28:
            return (
                f"{self.place()}{self.syllables(_words()['shops'], 2, 3)}{self.one(_words()['fields']) if self.chance(0.8) else ''}"
                + self.one(
                    (
                        "有限公司",
                        "有限公司",
                        "有限责任公司",
                        "公司",
                        "集团",
                        "股份有限公司",
                        "有限公司" + self.one(_words()["cities"]) + "分公司",
                    )
                )
            )
        if kind < 0.5:
            owner = self.family() + self.one(("记", "氏", "家", "姐", "哥", "老三", "师傅", "大妈")) if self.chance(0.3) else ""
            return f"{self.place() if self.chance(0.3) else ''}{owner or self.syllables(_words()['shops'] if self.chance(0.7) else _words()['places'], 2, 3)}{self.one(_words()['stores'])}"
        if kind < 0.62:
            return f"{self.one(self.places) if self.chance(0.7) else self.one(_words()['cities']) + self.one(('市', ''))}{self.one(_words()['bodies'])}"
        if kind < 0.8:
            return f"{self.one(self.places) if self.chance(0.5) else self.one(_words()['cities']) + self.one(('市', ''))}{self.local() if self.chance(0.3) else ''}{self.one(_words()['schools'])}"
        if kind < 0.9:
            return self.one(_words()["banks"]) + (
                f"{self.one(_words()['cities']) if self.chance(0.5) else ''}{self.local()}{self.one(('支行', '分行', '营业部', '分理处'))}"
                if self.chance(0.7)
                else ""
            )
        return f"{self.place() if self.chance(0.3) else ''}{self.local()}{self.one(('村', '社区', '镇', '街道', '路', ''))}{self.one(_words()['villages'])}"

    def address(self) -> str:
        if self.addresses and self.chance(0.6):
            return self.one(self.addresses)
        number = int(self.random.integers(1, 400))
        head = self.one(_words()["cities"]) + self.one(("市", "市", "")) if self.chance(0.5) else ""
        head += self.local() + self.one(("区", "区", "县", "镇", "街道")) if self.chance(0.7) or not head else ""
        rest = self.one((
            f"{self.local()}路{number}号", f"{self.local()}街{number}号", f"{self.local()}{self.one(('花园', '小区', '苑', '家园', '新村', '公寓', '府'))}{number}栋{number % 30 + 1}0{number % 4 + 1}",
            f"{self.local()}村{number % 12 + 1}组", f"{self.local()}大道{number}号{self.local()}大厦{number % 20 + 1}楼", f"{self.local()}巷{number}号{number % 9 + 1}单元{number % 6 + 1}0{number % 3 + 1}室",
            f"{self.local()}镇{self.local()}村{number}号", f"{self.local()}路{number}弄{number % 20 + 1}号{number % 6 + 1}0{number % 3 + 1}室",
        ))  # fmt: skip
        return head + rest


def make_examples(count: int, seed: int, places: Sequence[str], addresses: Sequence[str]) -> list[Example]:
    """`count` sentences. places: names of divisions. addresses: real ones to draw from, or none."""
    draw = _Drawn(seed, places, addresses)
    marked: dict[str, tuple[str, Callable[[], str]]] = {
        "n": ("name", draw.person), "o": ("organisation", draw.organisation), "a": ("address", draw.address), "c": ("address", lambda: draw.one(_words()["cities"]) + draw.one(("", "", "市"))),
    }  # fmt: skip
    plain: dict[str, Callable[[], str]] = {
        "k": lambda: draw.one(_words()["kin"]), "r": lambda: draw.one(_words()["roles"]), "t": lambda: draw.one(_words()["titles"]), "s": lambda: draw.one(_words()["matters"]), "d": draw.figures,
        "f": draw.family, "g1": lambda: draw.one(GIVEN), "y": lambda: str(int(draw.random.integers(1, 99))),
    }  # fmt: skip
    made = []
    for i in range(count):
        pattern = _patterns()[i % len(_patterns())]
        if draw.chance(0.3):  # two sentences in one message
            pattern += draw.one(("，", " ", "。", "，另外", "，")) + draw.one(_patterns())
        if draw.chance(0.2):
            pattern = re.sub("[，：]", draw.one(("", " ", ",")), pattern)
        pattern = (
            draw.one(("", "", "", "", "你好，", "那个", "喂，", "请问", "麻烦问下 "))
            + pattern
            + draw.one(("", "", "", "。", "？", "吧", "，谢谢", "呢", "啊"))
        )
        text, marks = "", []
        for piece in re.split(r"(\{\w+\})", pattern):
            key = piece[1:-1] if piece.startswith("{") else ""
            if key in marked:
                kind, maker = marked[key]
                value = maker()
                marks.append((kind, len(text), len(text) + len(value)))
                text += value
            else:
                text += plain[key]() if key else piece
        made.append((text, marks))
    return made


def renamed(rows: Sequence[Example], seed: int) -> list[Example]:
    """Those of the rows in which Chinese persons stand, with drawn names in place of theirs."""
    draw = _Drawn(seed, (), ())
    made = []
    for text, marks in rows:
        shift, marked, swapped = 0, [], False
        if any(a[2] > b[1] for a, b in itertools.pairwise(marks)):
            continue
        for kind, start, end in marks:
            start, end = start + shift, end + shift
            if kind == "name" and re.fullmatch(f"[{FAMILY_NAMES}][\u4e00-\u9fa5]{{1,2}}", text[start:end]):
                name = draw.person()
                text = text[:start] + name + text[end:]
                shift, end, swapped = shift + len(name) - (end - start), start + len(name), True
            marked.append((kind, start, end))
        if swapped:
            made.append((text, marked))
    return made
