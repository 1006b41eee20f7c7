"""Addresses in Chinese text, by the grammar of their parts and by a gazetteer of divisions.

    广东省广州市天河区龙洞街道华南路18号 = province 广东省, city 广州市, district 天河区, street 龙洞街道, rest 华南路18号

Provinces and cities are bundled (GB/T 2260). Districts, counties and streets come from a folder that `Divisions.read` reads; with
them a district tells its city and its province, where the name is borne only once (天河区), or the text says more (鼓楼区 of 南京).
Without them a district is known by its form. No model: what this finds it finds by rule, and what a model finds it splits and checks.
"""

from __future__ import annotations

import bisect
import csv
import functools
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Address", "Division", "Divisions", "Found", "find_addresses", "find_divisions", "parse_address"]

_LEVELS = ("province", "city", "district", "street")
_LEVEL_OF = {2: "province", 4: "city", 6: "district", 9: "street"}
_MUNICIPALITIES = ("11", "12", "31", "50")


class Division(NamedTuple):
    """code: 2, 4, 6 or 9 digits, province to street; each begins with the code of what it lies in."""

    code: str
    name: str
    level: str


class Divisions:
    """Divisions by name and by code. `Divisions.bundled()` knows provinces and cities, `Divisions.read` what a folder adds."""

    def __init__(
        self, rows: Iterable[tuple[str, str]], short: Mapping[str, str], abolished: Iterable[tuple[str, str, str]]
    ) -> None:
        """rows: (code, name). short: code -> short name. abolished: (code of the province, old name, today's name)."""
        self._by_code: dict[str, Division] = {}
        self._by_name: dict[str, list[Division]] = {}
        self._short = dict(short)
        self._shorts = frozenset(short.values())
        self._abolished = {(code, old): new for code, old, new in abolished}
        for code, name in rows:
            if code in self._by_code or len(code) not in _LEVEL_OF:
                continue
            division = self._by_code[code] = Division(code, name, _LEVEL_OF[len(code)])
            for each in {name, *self._other_names(division)}:
                self._by_name.setdefault(each, []).append(division)
        for _, old in self._abolished:
            self._by_name.setdefault(old, [])
        self._heads: dict[str, list[int]] = {}  # the first two characters of a name -> the lengths of such names, longest first
        for name, owners in self._by_name.items():
            if not owners or any(owner.level != "street" for owner in owners):
                lengths = self._heads.setdefault(name[:2], [])
                if len(name) not in lengths:
                    lengths.append(len(name))
        for lengths in self._heads.values():
            lengths.sort(reverse=True)
        self._inside: dict[tuple[str, str], dict[str, list[Division]]] = {}
        self._codes = sorted(self._by_code)

    def _other_names(self, division: Division) -> list[str]:
        """A short name; 恩施州 beside 恩施土家族苗族自治州."""
        short = self._short.get(division.code, "")
        if not short:
            return []
        ends = [end for end in ("自治州", "自治区") if division.name.endswith(end)]
        return [short, short + ends[0][-1]] if ends else [short]

    @classmethod
    @functools.cache
    def bundled(cls) -> Divisions:
        """Provinces and cities, with their short names."""
        return cls(*_bundled())

    @classmethod
    def read(cls, folder: str | Path) -> Divisions:
        """The bundled ones, and the CSV and JSON files of a folder: rows with the columns `code` and `name`.

        A JSON file holds a list of such rows; `children` may nest. 2, 4, 6 and 9 digits are a province, a city, a district and a
        street; other rows are passed over. ValueError names a file that holds no such row or cannot be read.
        """
        rows, short, abolished = _bundled()
        files = sorted(path for path in Path(folder).glob("*") if path.suffix in (".csv", ".json"))
        if not files:
            raise ValueError(f"{folder}: no .csv and no .json file of divisions here")
        found: dict[str, str] = {}
        for file in files:
            try:
                new = _rows_of(file)
            except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
                raise ValueError(f"{file}: cannot be read as divisions: {error}") from None
            if not new:
                raise ValueError(f"{file}: no row with `code` (2, 4, 6 or 9 digits) and `name`")
            found.update(new)
        known = {code for code, _ in rows}
        # 市辖区, 省直辖县级行政区划: names of a table, not of a place
        added = ((code, name) for code, name in sorted(found.items()) if code not in known and len(code) != 4)
        return cls([*rows, *added], short, abolished)

    def get(self, code: str) -> Division | None:
        return self._by_code.get(code)

    def named(self, name: str, level: str | None = None, within: str = "") -> list[Division]:
        """The divisions of that full or short name, in the place whose code begins with `within`."""
        return [d for d in self._by_name.get(name, ()) if level in (None, d.level) and d.code.startswith(within)]

    def at(self, text: str, start: int, end: int) -> list[str]:
        """Names of divisions (streets aside) that text[start:end] begins with, longest first."""
        lengths = self._heads.get(text[start : start + 2], ())
        return [text[start : start + n] for n in lengths if start + n <= end and text[start : start + n] in self._by_name]

    def clipped(self, text: str, start: int, level: str, within: str) -> tuple[str, list[Division]]:
        """The longest name without its last character (天河 of 天河区) that text[start:] begins with, of that level in that place."""
        if (level, within) not in self._inside:
            names: dict[str, list[Division]] = {}
            for division in self._of(level, within):
                name = re.sub("(?:街道|地区|[区县市镇乡])$", "", division.name)
                if len(name) >= 2 and not division.name.endswith(("自治县", "开发区", "新区")):
                    names.setdefault(name, []).append(division)
            self._inside[level, within] = names
        names = self._inside[level, within]
        for size in range(5, 1, -1):
            if text[start : start + size] in names and start + size <= len(text):
                return text[start : start + size], names[text[start : start + size]]
        return "", []

    def _of(self, level: str, within: str) -> list[Division]:
        """All of that level in the place whose code begins with `within`."""
        codes = self._codes[bisect.bisect_left(self._codes, within) : bisect.bisect_right(self._codes, within + "~")]
        return [self._by_code[code] for code in codes if _LEVEL_OF[len(code)] == level]

    def successor(self, name: str, within: str = "") -> str:
        """Today's name of a division that is no more; "" where none is known by that name."""
        for (code, old), new in self._abolished.items():
            if old == name and (within.startswith(code) or code.startswith(within)):
                return new
        return ""

    def is_short(self, name: str) -> bool:
        return name in self._shorts

    def near(self, name: str, level: str, within: str) -> str:
        """The one division in that place whose name differs in one character; "" where there is none or several."""
        found = {
            d.name
            for d in self._of(level, within)
            if len(d.name) == len(name) > 2 and sum(a != b for a, b in zip(d.name, name, strict=True)) == 1
        }  # fmt: skip
        return found.pop() if len(found) == 1 else ""


@functools.cache
def _bundled() -> tuple[list[tuple[str, str]], dict[str, str], list[tuple[str, str, str]]]:
    cities = [(code, name, short) for code, name, short in _lines("cities.tsv")]
    return (
        [(code, name) for code, name, _ in cities],
        {code: short for code, _, short in cities},
        [(code, old, new) for code, old, new in _lines("abolished.tsv")],
    )


def _lines(name: str) -> list[list[str]]:
    text = (importlib.resources.files("govlm") / "assets" / "divisions" / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


def _rows_of(file: Path) -> dict[str, str]:
    text = file.read_text(encoding="utf-8-sig")
    found: dict[str, str] = {}
    stack: list[object] = json.loads(text) if file.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    stack = list(stack) if isinstance(stack, list) else []
    while stack:
        row = stack.pop()
        if not isinstance(row, Mapping):
            continue
        code, name = str(row.get("code") or ""), str(row.get("name") or "").strip()
        code = code.removesuffix("0000") if len(code) == 6 and code.endswith("0000") else code
        if code.isdigit() and len(code) in _LEVEL_OF and name:
            found[code] = name
        children = row.get("children")
        stack += children if isinstance(children, list) else []
    return found


@dataclass(frozen=True)
class Address:
    """The parts of an address. Divisions bear their official names, also those that the text leaves out but that follow from it.

    rest: road, number, village, building, room, as written without its spaces. code: of the smallest division that is known; "" =
    none. spans: part -> (start, end) in the text, of the parts that are written there. notes: for the citizen, in Chinese: a name
    that is no longer in use, or one that is written wrongly.
    """

    province: str = ""
    city: str = ""
    district: str = ""
    street: str = ""
    rest: str = ""
    code: str = ""
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Found(NamedTuple):
    """text[start:end] is an address."""

    start: int
    end: int
    address: Address


# ------------------------------------------------------------------------------------------------------------------ the grammar

_STOPS = "住在是到址写填的了我你您他她它们吗呢吧啊嘛没寄搬租这哪么怎个叫让俺咱请帮有说且并"  # stand in no name of a place
_C = rf"(?:(?![{_STOPS}为由]|于[^都洪田])[\u4e00-\u9fff])"
_N = r"[0-9一二三四五六七八九十百]"
# Words after which an address begins, and with which no name begins.
_LEADS = "住所|改成|换成|变成|改为|搬去|回到|地址|住址|户口|户籍|老家|新家|家里|老宅|籍贯|坐落|位于|现住|家住|来自|送去|门店|店铺|铺面|铺子|厂房|房子|家"
_NOT_LEAD = rf"(?!{_LEADS})"
_NO_DISTRICT = re.compile(
    "[一二三四五六七八九十]区$|(?:小|社|园|市|地|校|景|灾|辖|片|库|老|厂|牧|住宅|居住|工业|商业|开发|高新|保税|物流|自贸|试验|示范)区$"
    "|(?:主|老|旧|中心|市|县)城区$|(?:近|远|城|市)郊区$|(?:贫困|边远|革命)山区$|^山区$"
    "|(?:城|都|超|门|股|菜|夜|上)市$|^[全本各某该外邻][区市县旗]$|^[^城郊矿][区市]$"
)
_DISTRICT = re.compile(
    rf"{_NOT_LEAD}(?:{_C}{{1,12}}?自治[县旗]|{_C}{{2,10}}?(?:新区|林区|矿区|特区)|(?:城|郊|矿)区|{_C}{{1,6}}?(?:[区县旗]|市(?![场民集])))"
)
_STREET = re.compile(
    rf"{_NOT_LEAD}(?:(?:(?!街道){_C}){{1,8}}?街道(?!办)|(?:(?![路号镇乡]){_C}){{1,7}}?(?:镇|民族乡|乡(?!村[建振旅治医])|苏木)|(?:(?![路号]){_C}){{1,6}}街道(?=办事处{_C}))"
)
_NO_NAME = re.compile(
    "政府|[局厅]|(?<![村居])委|公司|银行|医院|学校|大学|法院|分行|根据|(?:农|乡|全|本|该|各|老)村$"
    "|针对|解决|之前|投诉|反映|继续|将(?![乐军])|违[法规]|督促|相关|建起|周边|通过|实施|要求|售出|合法|关于|但|却"
)  # in a name by form alone
_NO_STREET = re.compile("^(?:(?:[小大新]?城|集|乡|村)镇|[本全各某该外].*|[农老家返下城水同]乡)$")
_ROAD = re.compile(
    rf"{_NOT_LEAD}(?:(?![号县镇乡区市])(?:{_C}|[0-9A-Z])){{1,8}}?(?:大道|大街|胡同|国道|省道|县道|公路|支路|环路|路|街|巷|弄|里(?=\s?{_N}+\s?[号栋幢座])|道(?=[东南西北中]?\s?{_N}+\s?号))"
    rf"(?:[东南西北中上下]{{1,2}}(?:段|路|街|里|巷)?(?=\s?{_N})|{_N}段|[东南西北中]段)?"
)
_NO_ROAD = re.compile(
    "^(?:(?:一|公|铁|马|高速|走|网|线|道|思|出|迷|半|同|问|带|上|过|逛|大|的士|当面|电|水|气)[路街道巷里]|.*(?:知道|街道|渠道|通道|隧道))$"
)
_NUMBER = re.compile(
    r"附?\s?(?:[0-9]{1,5}(?:-[0-9]{1,4})?[A-Za-z]?|[一二三四五六七八九十百]{1,4}|[A-Za-z][0-9]{0,3})\s?"
    r"(?:号楼|号院|号大院|号(?![码线召])|弄|栋|幢|座|单元|室|层|楼|房(?!子)|户(?!口)|门(?![口诊])|梯|铺|组|队|巷|期|区)"
)
_ROOM = re.compile(r"\s?-?[0-9]{1,5}(?:-[0-9]{1,5})*(?![0-9年月日元块个人.%])[A-Za-z]?")
_PLACE_END = "小区|开发区|高新区|工业区|保税区|花园|大厦|公寓|广场|家园|新村|新城|花苑|苑|大院|宿舍|公馆|写字楼|商城|工业园|产业园|科技园|园区|大楼|山庄|别墅|庄园|嘉园|佳园|雅园|名都|公园"
_PLACE = re.compile(
    rf"{_NOT_LEAD}(?:[铁公]路(?:(?![号县镇乡路街]){_C}){{0,6}}?|(?:(?![号县镇乡路街])(?:{_C}|[A-Za-z0-9])){{1,10}}?)(?:{_PLACE_END})(?:{_N}区|[东南西北中]区)?"
)
_QUARTER = re.compile(rf"{_NOT_LEAD}(?:(?![号县镇乡路街]){_C}){{1,6}}?{_N}[区村](?=\s?{_N}+\s?[栋幢座号])")
_VILLAGE = re.compile(
    rf"{_NOT_LEAD}(?:(?![号县镇乡路街区]){_C}){{1,8}}?(?:社区|村委会|居委会|行政村|自然村|村(?![镇务民里])|嘎查)"
    rf"|{_NOT_LEAD}(?:(?![号县镇乡路街区]){_C}){{1,4}}(?:[庄屯寨坪坝湾沟堡营洼塬岭坡塘埠墩岗冲垸洞垭坳咀峪圩浜埭](?=$|[^\u4e00-\u9fff]|{_N}+\s?[号组])|(?:[桥坊井]|(?<![门路窗出入户人接进])口|(?<![部专大后前房热])门)(?={_N}+\s?号))"
)
_TAIL = re.compile(
    rf"(?:员工|职工|学生)?(?:宿舍楼?|公寓楼?|家属楼|写字楼|综合楼|住宅楼|大厦|商厦)(?:{_N}{{1,2}}[栋号座])?(?:\s?[0-9]{{2,5}}(?:室|房|号)?)"
    rf"|(?:[东南西北]头|村[口头尾]|[东南西北]门|[东西南北]侧)?(?:第{_N}+家)|{_N}{{1,3}}楼|[东南西北]头|底商|门面|铺面|商铺|地下室"
)
_ORGANISATION = re.compile(
    r"[\u4e00-\u9fff（）()]{0,14}?(?:办事处|公司|[厂场](?![房区])|医院|学校|[小中大]学(?!路)|学院|联合会|银行|局|支行|分行|委员会|集团|幼儿园|法院|检察院|派出所|政府|协会|中心"
    r"|社保|医保|车间|机务段|卫生院|服务站|事务所|合作社|工会|大队|支队)"
)


_UNIT = re.compile("[省市州盟区县旗乡镇道路街巷弄里村庄号栋幢座楼苑园厦]|小区|胡同|公寓")  # no address is without one


class _Part(NamedTuple):
    level: str  # of a division, or "road", "number", "village", "place", "tail"
    start: int
    end: int
    division: Division | None
    guessed: bool  # by form, not by the gazetteer


def _read(text: str, start: int, divisions: Divisions, beginnings: int = 3) -> list[_Part]:
    """The parts of the address that begins at `start`, in order; [] = none begins there."""
    parts: list[_Part] = []
    pos, end = start, min(len(text), start + 120)
    for level in _LEVELS:
        part = _division(text, pos, end, level, parts, divisions)
        if part is not None:
            parts.append(part)
            pos = _skip(text, part.end, " 　-_/")
            if beginnings > 1 and _begins_again(text, pos, end, parts, divisions):
                again = _read(text, pos, divisions, beginnings - 1)
                return [each for each in parts if _above(each, again)] + again
    for _ in range(16):
        part = _detail(text, pos, end, parts)
        if part is None:
            break
        parts.append(part)
        pos = _skip(text, part.end)
    return parts


def _skip(text: str, pos: int, signs: str = " 　") -> int:
    """Over one sign between parts."""
    return pos + 1 if pos + 1 < len(text) and text[pos] in signs and not text[pos + 1].isspace() else pos


def _above(part: _Part, parts: list[_Part]) -> bool:
    """Whether the parts lie in this one."""
    first = parts[0].division if parts else None
    return (
        part.division is not None and first is not None and first != part.division and first.code.startswith(part.division.code)
    )


def _begins_again(text: str, pos: int, end: int, parts: list[_Part], divisions: Divisions) -> bool:
    """Whether the address is written from its beginning again, as forms do that put a chosen place before it: 金华金华市义乌市."""
    for name in divisions.at(text, pos, end)[:1]:
        owners = divisions.named(name)
        if any(
            owner.name == name and owner.level == "province" and not owner.code.startswith(_MUNICIPALITIES) for owner in owners
        ):
            return True
        return any(part.division is not None and name == part.division.name for part in parts)
    return False


# What makes a short name before it a part of another name: 南京路, 北京东路, 中山区, 广州话.
_NOT_AFTER_SHORT = re.compile("[东南西北中]?(?:[路街道巷村镇乡县区市省州盟]|大道|大街|大学|地区|胡同|[话菜籍]|人(?!民))")


def _division(text: str, pos: int, end: int, level: str, parts: list[_Part], divisions: Divisions) -> _Part | None:
    within = next((part.division.code for part in reversed(parts) if part.division), "")
    if level == "street":
        return _street(text, pos, end, within, divisions)
    for name in divisions.at(text, pos, end):
        after = pos + len(name)
        owners = divisions.named(name, level, within)
        if owners and name != owners[0].name and divisions.is_short(name) and _NOT_AFTER_SHORT.match(text, after):
            continue
        if owners:
            return _Part(level, pos, after, owners[0] if len(owners) == 1 else None, False)
        new = "" if divisions.named(name) else divisions.successor(name, within)
        if new and level == ("city" if divisions.named(new, "city") else "district"):
            heirs = divisions.named(new, level, within)
            return _Part(level, pos, after, heirs[0] if len(heirs) == 1 else None, False)
    if level == "district":
        return _district(text, pos, end, within, divisions)
    return None


def _district(text: str, pos: int, end: int, within: str, divisions: Divisions) -> _Part | None:
    """A district whose name the gazetteer lacks, or that is written without its last character."""
    match = _DISTRICT.match(text, pos, end)
    if (
        match
        and not _NO_DISTRICT.search(match.group())
        and not _NO_NAME.search(match.group())
        and not _holds_another(text, *match.span(), divisions)
    ):
        return _Part("district", *match.span(), None, True)
    return _clipped(text, pos, "district", within, divisions)


def _clipped(text: str, pos: int, level: str, within: str, divisions: Divisions) -> _Part | None:
    name, owners = divisions.clipped(text, pos, level, within) if within else ("", [])
    if not name or _NOT_AFTER_SHORT.match(text, pos + len(name)):
        return None
    return _Part(level, pos, pos + len(name), owners[0] if len(owners) == 1 else None, False)


def _street(text: str, pos: int, end: int, within: str, divisions: Divisions) -> _Part | None:
    match = _STREET.match(text, pos, end)
    if (
        match is None
        or _NO_STREET.match(match.group())
        or _NO_NAME.search(match.group())
        or _holds_another(text, *match.span(), divisions)
    ):
        return _clipped(text, pos, "street", within, divisions) if len(within) == 6 else None
    owners = divisions.named(match.group(), "street", within) if within else []
    return _Part("street", *match.span(), owners[0] if len(owners) == 1 else None, not owners)


def _holds_another(text: str, start: int, end: int, divisions: Divisions) -> bool:
    """Whether what looks like one name holds the full name of a known division: 原来苏州市 is a word and 苏州市."""
    return any(name for pos in range(start + 1, end) for name in divisions.at(text, pos, end) if not divisions.is_short(name))


def _detail(text: str, pos: int, end: int, parts: list[_Part]) -> _Part | None:
    last = parts[-1].level if parts else ""
    numbered = last == "number"
    if parts:
        match = _NUMBER.match(text, pos, end)
        if match:
            return _Part("number", *match.span(), None, True)
    if numbered and (match := _ROOM.match(text, pos, end)):
        return _Part("number", *match.span(), None, True)
    if last in ("number", "village", "place", "tail") and (match := _TAIL.match(text, pos, end)):
        return _Part("tail", *match.span(), None, True)
    best: _Part | None = None
    for level, pattern in (("road", _ROAD), ("village", _VILLAGE), ("place", _PLACE), ("place", _QUARTER)):
        match = pattern.match(text, pos, end)
        if match is None or _NO_NAME.search(match.group()) or (level == "road" and _NO_ROAD.match(match.group())):
            continue
        if level != "road" and _ORGANISATION.match(text, match.start(), match.end() + 4) and numbered:
            continue
        if best is None or match.end() < best.end:
            best = _Part(level, *match.span(), None, True)
    return best


def _accepted(text: str, parts: list[_Part]) -> bool:
    """Whether the parts are an address and not the name of a place, an organisation, or a word that ends as a place does."""
    levels = [part.level for part in parts]
    if not parts:
        return False
    end = parts[-1].end
    located = {"road", "village", "place"} & set(levels)
    if "number" not in levels and _ORGANISATION.match(text, end, end + 18):
        return False
    if "number" in levels and (located or {"district", "street"} & set(levels)):
        return True
    known = [part for part in parts if not part.guessed]
    return len(parts) >= 2 and bool({"district", "street"} & set(levels) or (located and known))


def _starts(text: str, divisions: Divisions) -> list[int]:
    """Places where an address may begin: after what no name holds, and where a name of the gazetteer begins."""
    clause = {
        match.end()
        for match in re.finditer(rf"(?:^|[^\u4e00-\u9fffA-Za-z0-9]|[{_STOPS}]|{_LEADS}|[和与及或从去于为由给往])", text)
    }
    known = {pos for pos in range(len(text) - 1) if divisions.at(text, pos, len(text))}
    return [pos for pos in sorted(clause | known) if pos < len(text)]


def find_addresses(text: str, divisions: Divisions | None = None) -> list[Found]:
    """The addresses in the text, from left to right, without overlaps: what names a spot, not a city or an organisation alone.

    The words around it (我住在, 户口在, 附近, 的房子) are no part of it. divisions: default those that are bundled.
    """
    divisions = divisions or Divisions.bundled()
    narrow = text.translate(_WIDE)
    found: list[Found] = []
    end = 0
    for start in _starts(narrow, divisions):
        if start < end or not _UNIT.search(narrow, start, start + 40):
            continue
        parts = _read(narrow, start, divisions)
        if parts and _accepted(narrow, parts):
            end = parts[-1].end
            found.append(Found(start, end, _address(narrow, parts, divisions)))
    return found


def find_divisions(text: str, divisions: Divisions | None = None) -> list[tuple[int, int, tuple[Division, ...]]]:
    """The names of divisions in the text, the longest at each place, with those that bear the name; streets aside.

    Of a name that is no longer in use there is no division: ().
    """
    divisions = divisions or Divisions.bundled()
    found, end = [], 0
    for pos in range(len(text)):
        names = divisions.at(text, pos, len(text)) if pos >= end else []
        if names:
            end = pos + len(names[0])
            found.append((pos, end, tuple(d for d in divisions.named(names[0]) if d.level != "street")))
    return found


_WIDE = (
    {0xFF10 + i: 0x30 + i for i in range(10)}
    | {0xFF21 + i: 0x41 + i for i in range(26)}
    | {0xFF41 + i: 0x61 + i for i in range(26)}
)
_WIDE |= {ord(dash): ord("-") for dash in "‐‑‒–—−－"} | {0x3000: ord(" "), 0xA0: ord(" ")}


def parse_address(text: str, divisions: Divisions | None = None) -> Address:
    """The parts of an address. Words around it may stand in the text; what begins with no known part is `rest`, whole.

    divisions: default those that are bundled.
    """
    divisions = divisions or Divisions.bundled()
    found = find_addresses(text, divisions)
    if found:
        best = max(found, key=lambda each: each.end - each.start)
        return best.address
    narrow = text.translate(_WIDE)
    start = len(narrow) - len(narrow.lstrip())
    parts = _read(narrow, start, divisions)
    if parts:
        return _address(narrow, parts, divisions)
    rest = narrow.strip()
    return Address(rest=re.sub(r"\s+", "", rest), spans={"rest": (start, start + len(rest))} if rest else {})


def _address(text: str, parts: list[_Part], divisions: Divisions) -> Address:
    names: dict[str, str] = {}
    spans: dict[str, tuple[int, int]] = {}
    notes: list[str] = []
    code = ""
    for part in parts:
        if part.level not in _LEVELS:
            first, last = spans.get("rest", (part.start, part.end))
            spans["rest"] = (min(first, part.start), max(last, part.end))
            continue
        written = text[part.start : part.end]
        spans[part.level] = (part.start, part.end)
        names[part.level] = part.division.name if part.division else written
        now = "" if part.level not in ("city", "district") or divisions.named(written) else divisions.successor(written, code)
        if now:
            notes.append(f"“{written}”已不再使用，现为{now}")
        if part.division:
            code = part.division.code
        elif (
            part.guessed
            and part.level == "district"
            and not now
            and code
            and (near := divisions.near(written, "district", code))
        ):
            notes.append(f"没有“{written}”，是不是“{near}”？")
    if not code and "street" in names and "district" in names:  # 鼓楼区 is borne by several; its street may be borne by one
        owners = [
            street
            for district in divisions.named(names["district"], "district")
            for street in divisions.named(names["street"], "street", district.code)
        ]
        code = owners[0].code if len(owners) == 1 else ""
    for digits in (2, 4, 6, 9):
        division = divisions.get(code[:digits]) if len(code) >= digits else None
        if division is not None:
            names.setdefault(division.level, division.name)
            if division.level in names and division.level not in spans:
                names[division.level] = division.name
    if code[:2] in _MUNICIPALITIES:
        names["city"] = names["province"]
        if "province" in spans:
            spans.setdefault("city", spans["province"])
    rest = re.sub(r"\s+", "", text[slice(*spans["rest"])]) if "rest" in spans else ""
    return Address(
        province=names.get("province", ""),
        city=names.get("city", ""),
        district=names.get("district", ""),
        street=names.get("street", ""),
        rest=rest,
        code=code,
        spans=spans,
        notes=tuple(notes),
    )
