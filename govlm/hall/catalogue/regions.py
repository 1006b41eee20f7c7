"""Where a policy document holds, where its issuer or its title names one division beyond doubt: 广州市公安局 -> 4401.

The name is read from the beginning of an organ's name, by the grammar of addresses and the gazetteer (`govlm.hall.addresses`). A name that
two divisions bear (朝阳区), one that the gazetteer lacks, an office of a smaller place than the gazetteer knows, and two places at once
are not recognised, and it is said why: a region that is wrong would hide a rule from those for whom it holds.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from govlm.hall.addresses import Division, Divisions, find_divisions, parse_address
from govlm.hall.catalogue.records import Document

__all__ = ["Recognised", "recognise"]

_SMALLER = re.compile(
    r"[\u4e00-\u9fff]{1,8}?(?:街道(?:办事处|党工委)|[镇乡](?:人民)?(?:政府|党委)|(?:经济|高新)?[\u4e00-\u9fff]{0,10}(?:开发区|高新区|新区)管理?委员会)"
)
_ISSUING = re.compile(r"^(?:关于(?:印发|公布|发布|修改|废止)?)?[《〈]?")
_ORGAN = re.compile(r"[省市区县旗州盟]")


class Recognised(NamedTuple):
    """code: GB/T 2260 (2, 4 or 6 digits), "" = not recognised. note: for the staff, in Chinese; "" where the document names no place."""

    code: str
    note: str = ""


class _Named(NamedTuple):
    """What a text begins with: the division, or why none is certain; neither where it names no place."""

    division: Division | None = None
    why: str = ""


def recognise(document: Document, divisions: Divisions | None = None) -> Recognised:
    """divisions: default those that are bundled, provinces and cities; with districts from `Divisions.read`, these too."""
    of = divisions or Divisions.bundled()
    organs = [organ for organ in document.issuer.split("、") if organ]
    named = [(organ, found) for organ in organs if (found := _named(organ, of)) != _Named()]
    title = _named(_ISSUING.sub("", document.title), of)
    evidence = f"发文机关“{document.issuer}”"
    if not named and title != _Named():
        named, evidence = [(document.title, title)], f"标题“{document.title}”"
    if not named:
        return Recognised("")
    for _, found in named:
        if found.why:
            return Recognised("", f"没有识别适用地区：{found.why}；请在导入时给出")
    codes = {found.division.code: found.division for _, found in named if found.division}
    if title.division and evidence.startswith("发文"):
        codes[title.division.code] = title.division
    elif title.why and not any(document.title.startswith(division.name) for division in codes.values()):
        return Recognised("", f"没有识别适用地区：{title.why}；请在导入时给出")
    if len(codes) > 1:
        names = "、".join(division.name for division in codes.values())
        return Recognised("", f"没有识别适用地区：写到{names}几个地区；请在导入时给出")
    (division,) = codes.values()
    others = [
        owners[0].name
        for start, end, owners in find_divisions(document.title, of)
        if owners and not of.is_short(document.title[start:end]) and not any(division.code.startswith(o.code) for o in owners)
    ]
    if others:  # 广东省人民政府关于广州市……的批复
        return Recognised("", f"没有识别适用地区：标题还写到{others[0]}；请在导入时给出")
    return Recognised(division.code, f"识别为{division.name}（{division.code}），依据是{evidence}")


def _named(text: str, divisions: Divisions) -> _Named:
    """The smallest division of the chain that the text begins with: 广东省广州市天河区人民政府."""
    if not _ORGAN.search(text[:16]):
        return _Named()
    place = parse_address(text[:40], divisions)
    spans = sorted((span, part) for part, span in place.spans.items() if part != "rest")
    if not spans or spans[0][0][0] != 0:
        return _Named()
    written = [(text[slice(*span)], part) for span, part in spans]
    if any(divisions.is_short(name) for name, _ in written):  # 广州 may be the beginning of another word
        return _Named()
    name, part = written[-1]
    end = spans[-1][0][1]
    division = divisions.get(place.code)
    goes_on = _SMALLER.match(text, end) or any(not divisions.is_short(each) for each in divisions.at(text, end, len(text)))
    if division is not None and division.level == part and not goes_on:
        if division in divisions.named(name):
            return _Named(_merged(division, divisions))
        return _Named(why=f"“{name}”不是现在的名称")
    if goes_on or division is not None:
        return _Named(why=f"“{text[: end + 8]}”指的地方比区划表细，或者不在表中")
    owners = [owner for owner in divisions.named(name) if owner.level != "street"]
    if len(owners) > 1:
        return _Named(why=f"叫“{name}”的地区有{len(owners)}个（{'、'.join(_full(owner, divisions) for owner in owners[:4])}）")
    return _Named(why=f"“{name}”不在区划表中")


def _merged(division: Division, divisions: Divisions) -> Division:
    """北京市 stands in the table twice: as 11, which is meant, and as 1101."""
    above = divisions.get(division.code[:2])
    return above if above is not None and above.name == division.name else division


def _full(division: Division, divisions: Divisions) -> str:
    above = [divisions.get(division.code[:digits]) for digits in (2, 4) if digits < len(division.code)]
    names = dict.fromkeys(each.name for each in above if each is not None)
    return "".join([*names, division.name])
