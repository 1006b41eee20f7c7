"""What a policy document says of itself: title, 文号, issuer, date of issue, dates in force.

Read from the lines before the first article (or the first lines of a document without articles), from the signature at its end, from
the sentence that puts it into force, from the tags of a web page and from the file's name. What is not found is left out, never guessed:
dates are real days, and a 文号 that follows the name of another document is that one's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from govlm.hall.catalogue.passages import first_article, numeral

__all__ = ["in_force", "number_of", "parse_date", "read"]

_HEAD = 3000  # characters looked at where there are no articles
_DIGIT = "0-9０-９〇零一二三四五六七八九十"
_DATE = re.compile(rf"([{_DIGIT}]{{4}})\s*年\s*([{_DIGIT}]{{1,3}})\s*月\s*([{_DIGIT}]{{1,3}})\s*日")
_ISO = re.compile(r"(?<!\d)((?:19|20)\d{2})[-./](\d{1,2})[-./](\d{1,2})(?!\d)")
_NUMBER = re.compile(
    r"([\u4e00-\u9fff]{1,16}?)\s*[〔\[［（(【﹝]\s*([0-9０-９]{4})\s*[〕\]］）)】﹞]\s*(?:第\s*)?([0-9０-９]{1,5})\s*号"
)
_ORGAN_OF_ORDERS = (
    r"(?:中华人民共和国)?(?:主席|国务院|中央军事委员会|[\u4e00-\u9fff]{2,24}?(?:部|厅|局|委员会|总局|政府|办公厅))"
)
_ORDER = re.compile(
    rf"((?:{_ORGAN_OF_ORDERS}、)*{_ORGAN_OF_ORDERS})\s*令\s*(?:第\s*([0-9０-９一二三四五六七八九十百零〇]+)\s*号)"
)
_ORDER_OWN = re.compile(r"第\s*([0-9０-９]{1,5})\s*号")
_ORGAN = "人民政府|办公厅|办公室|委员会|人民代表大会|代表大会|人民法院|人民检察院|国务院|联合会|管理局|管理处|总局|服务中心|管理中心|中心|公安厅|总队|支队|部|厅|局|委|院"
_IS_ORGAN = re.compile(rf"[\u4e00-\u9fff、\s　]{{2,80}}(?:{_ORGAN})")
_MADE = re.compile(r"发布|公布|颁布|印发|通过|批准")
_AMENDED = re.compile(r"修订|修正|修改")
_FILE_DATE = re.compile(r"[(（]?((?:19|20)\d{2})-(\d{2})-(\d{2})[)）]?")
_KINDS = "法|条例|办法|规定|细则|通知|公告|通告|意见|方案|决定|规范|标准|指南|指引|批复|函|解释|措施|规则|章程|规程|纲要|规划|目录|清单|简介|问答|说明|解答"
_TITLE = re.compile(rf"(?:.{{2,120}})(?:{_KINDS})(?:[（(〔].{{1,30}}[）)〕])*")
_SITE = re.compile(r"\s*[-_|—]\s*[^-_|—]{2,30}网站?\s*$")
_SELF = r"本(?:法|条例|办法|规定|细则|通知|公告|通告|意见|方案|决定|规范|标准|指南|措施|规则|章程|规程|修正案|实施细则|实施办法|管理办法)"
_START = rf"自\s*(?P<when>[{_DIGIT}]{{4}}\s*年\s*[{_DIGIT}]{{1,3}}\s*月\s*[{_DIGIT}]{{1,3}}\s*日|(?:公布|发布|印发|颁布|通过|公告|下发)\s*之日)\s*(?:零时|0时)?\s*起?\s*(?:正式)?(?:施行|实施|执行|生效|试行)"
_IN_FORCE = re.compile(rf"(?:{_SELF}|现予(?:公布|发布))[^。；;\n]{{0,40}}?{_START}[^\n]{{0,80}}")
_TERM = re.compile(
    r"有效期(?:限)?(?:为|至|是|到)?\s*(?:([0-9０-９一二三四五六七八九十]{1,3})\s*(年|个月)|([^，。；\s]{6,16}日))"
)


def parse_date(text: str) -> date | None:
    """The first day named in a text: 2024年7月26日, 二〇二四年七月二十六日, 2024-07-26."""
    match = _DATE.search(text)
    if match:
        parts = [numeral(part) for part in match.groups()]
    else:
        match = _ISO.search(text)
        parts = [int(part) for part in match.groups()] if match else []
    try:
        return date(*parts) if parts and None not in parts else None  # type: ignore[arg-type]
    except ValueError:
        return None


def _half(text: str) -> str:
    return text.translate({ord("０") + i: str(i) for i in range(10)})


def number_of(text: str) -> str:
    """The 文号 in a line, its brackets made 〔〕: 穗府办规〔2024〕13号, 国务院令第258号; "" where there is none of its own."""
    for match in _NUMBER.finditer(text):
        before = text[: match.start()].rstrip("（( \t　")
        if not before.endswith("》") and "1949" <= _half(match[2]) <= "2099":
            return f"{match[1]}〔{_half(match[2])}〕{int(_half(match[3]))}号"
    for match in _ORDER.finditer(text):
        before = text[: match.start()].rstrip("（( \t　")
        if not before.endswith("》"):
            value = numeral(match[2])
            organ = match[1].replace("中华人民共和国", "")
            if re.search(r"[0-9]$", before):  # 2005年6月7日公安部令
                organ = organ.removeprefix("日")
            return f"{organ}令第{value}号" if value is not None else ""
    return ""


def in_force(text: str, issued: date | None) -> tuple[date | None, date | None]:
    """(first day, last day) that the text gives for itself, None where it gives none. The last sentence that speaks of 本… decides.

    自印发之日起 counts from `issued`. A term of years ends on the day before its anniversary.
    """
    own = list(_IN_FORCE.finditer(text))
    if not own:
        return None, None
    match = own[-1]
    begin = issued if "之日" in match["when"] else parse_date(match["when"])
    line = text[match.start() : match.end()]
    term = _TERM.search(line)
    if not term or begin is None:
        return begin, parse_date(term[3]) if term and term[3] else None
    if term[3]:
        return begin, parse_date(term[3])
    count = numeral(term[1])
    return begin, _after(begin, count, term[2]) if count else None


def _after(begin: date, count: int, unit: str) -> date | None:
    months = count * (12 if unit == "年" else 1) + begin.month - 1
    year, month = begin.year + months // 12, months % 12 + 1
    try:
        return date(year, month, begin.day) - timedelta(days=1)
    except ValueError:  # 29 February, or a year that is none
        return date(year, month + 1, 1) - timedelta(days=1) if year < 9999 else None


def read(text: str, source: str, meta: dict[str, str], headings: dict[int, int]) -> dict[str, Any]:
    """title, number, issuer, issued, valid_from, valid_to, url, level, as far as found. Arguments as in `documents.make_document`."""
    end = first_article(text)
    head = [line.strip() for line in text[: min(end, _HEAD)].split("\n") if line.strip()]
    stem = _stem(source)
    title = _title(text, head, stem, meta, headings)
    number = _number(head, stem)
    issued, amended = _issued(head, text, stem, meta)
    begin, last = in_force(text[max(0, end - _HEAD) :] if end < len(text) else text, issued)
    if begin is None:
        begin = _announced(head)
    if begin and amended and begin < amended:
        begin = amended  # this wording is in force since it was amended
    issuer = _issuer(head, text, title, number, meta)
    found = {
        "title": title, "number": number or None, "issuer": issuer or None, "issued": issued, "valid_from": begin, "valid_to": last,
        "url": meta.get("url") or meta.get("og:url"), "level": _level(issuer),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def _stem(source: str) -> str:
    name = Path(source).name
    while Path(name).suffix.lower() in (
        ".gz",
        ".xz",
        ".lzma",
        ".txt",
        ".text",
        ".md",
        ".markdown",
        ".html",
        ".htm",
        ".xhtml",
        ".pdf",
        ".docx",
    ):
        name = Path(name).stem
    return name


def _bare(text: str) -> str:
    return re.sub(r"[\s　《》]", "", text)


def _title(text: str, head: list[str], stem: str, meta: dict[str, str], headings: dict[int, int]) -> str:
    if meta.get("articletitle"):
        return _SITE.sub("", re.sub(r"[\s　]+", " ", meta["articletitle"])).removeprefix("（转载）").strip()
    first = min(headings, default=None)
    if first is not None and headings[first] == 1 and text[:first].count("\n") < 10:
        return text[first:].split("\n", 1)[0].strip()
    wanted = _bare(_FILE_DATE.sub("", stem))
    lines = head[:40]
    found: list[tuple[int, bool, int, str]] = []  # how far from the file's name, without 关于, lines, title
    for i in range(len(lines)):
        for size in (1, 2, 3):
            joined = "".join(lines[i : i + size])
            if len(joined) > 120 or any(char in joined for char in "。；！|：:") or number_of(joined):
                break
            if _TITLE.fullmatch(joined):
                bare = _bare(joined)
                near = len(wanted) >= 4 and (bare in wanted or wanted in bare)
                found.append((abs(len(bare) - len(wanted)) if near else 1000, "关于" not in joined, size, joined))
    if found:
        return min(found, key=lambda entry: entry[:3])[3]
    if head and len(head[0]) <= 60 and re.search(r"\w\w", head[0]) and not head[0].endswith(("。", "：", "；")):
        return head[0]
    return _FILE_DATE.sub("", stem).strip("_- （）()") or "无标题"


def _number(head: list[str], stem: str) -> str:
    """A line that is nothing but a 文号 comes before one that holds it; the order that amended a law is not its own."""
    short = [line for line in head if len(line) <= 60 and not line.endswith(("。", "：", "；"))]
    for line in short:
        if len(_bare(line)) <= len(_bare(number_of(line))) + 8 and number_of(line):
            return number_of(line)
    for i, line in enumerate(head[:-1]):  # 广州市人民政府令 / 第179号
        own = _ORDER_OWN.fullmatch(head[i + 1])
        if own and line.endswith("令") and len(line) <= 30:
            return f"{line}第{_half(own[1])}号"
    for line in [*reversed(_notes(head)), *(line for line in head if line in short or line.startswith(("（", "(", "|")))]:
        number = number_of(line)
        if number and not _AMENDED.search(line):
            return number
    return number_of(stem)


def _notes(head: list[str]) -> list[str]:
    """The lines that tell a document's history: 2021年8月20日 … 通过, （2005年6月7日公安部令第78号发布 自2005年10月1日起施行）."""
    return [line for line in head[:20] if len(line) <= 300 and _DATE.match(line.lstrip("（( "))]


def _dated(lines: list[str]) -> Iterator[tuple[date, str]]:
    """(day, what was done on it) of the dates in lines."""
    for line in lines:
        places = list(_DATE.finditer(line))
        for i, match in enumerate(places):
            until = places[i + 1].start() if i + 1 < len(places) else len(line)
            day = parse_date(match[0])
            if day:
                yield day, line[match.end() : until]


def _is_date(line: str) -> bool:
    return len(line) <= 24 and bool(_DATE.fullmatch(re.sub(r"[\s　]", "", line)))


def _signature(text: str) -> tuple[list[str], date | None]:
    """(organs, day) of the first lines with organs that a line with a date follows."""
    lines = [line for line in text.split("\n") if line]
    for i in range(1, len(lines)):
        day = parse_date(lines[i]) if _is_date(lines[i]) else None
        organs: list[str] = []
        for line in reversed(lines[max(0, i - 8) : i]) if day else ():
            if len(line) > 60 or not _IS_ORGAN.fullmatch(line):
                break
            organs.insert(0, re.sub(r"[\s　]+", "、", line))
        if organs:
            return organs, day
    return [], None


def _issued(head: list[str], text: str, stem: str, meta: dict[str, str]) -> tuple[date | None, date | None]:
    """(date of issue, date of the last amendment)."""
    made: list[date] = []
    amended: list[date] = []
    for day, what in _dated(_notes(head)):
        if _AMENDED.search(re.sub(r"《[^》]*(?:》|$)", "《》", what)) and not what.endswith("公布"):
            amended.append(day)
        elif _MADE.search(what):
            made.append(day)
    named = parse_date(_FILE_DATE.sub(r"\1-\2-\3", stem)) if _FILE_DATE.search(stem) else None
    if made or amended:
        if named and named > max(made + amended):
            amended.append(named)
        return max(made + amended), max(amended, default=None)
    _, signed = _signature(text)
    alone = next((parse_date(line) for line in head[:12] if _is_date(line)), None)
    printed = re.search(rf"[{_DIGIT}]{{4}}年[{_DIGIT}]{{1,3}}月[{_DIGIT}]{{1,3}}日\s*印发", text)
    return signed or alone or (parse_date(printed[0]) if printed else None) or parse_date(
        meta.get("pubdate", "")
    ) or named, None


def _announced(head: list[str]) -> date | None:
    """The day of a line of the head such as 2020年1月1日 施行."""
    for day, what in _dated(_notes(head)):
        if re.match(r"\s*起?(?:施行|实施|生效)", what):
            return day
    return None


def _issuer(head: list[str], text: str, title: str, number: str, meta: dict[str, str]) -> str:
    order = re.match(r"(.+?)令第", number)
    if order:
        return order[1]
    for line in _notes(head):  # 2021年8月20日 第十三届全国人民代表大会常务委员会第三十次会议通过
        match = re.search(r"(?:届|日\s*)(?!第)((?:[\u4e00-\u9fff]{2,12}?)?人民代表大会(?:常务委员会)?)第.{1,6}次会议", line)
        if match:
            return match[1]
        match = re.search(r"日\s*([\u4e00-\u9fff、]{2,40}?)(?:发布|公布|颁布|印发)", line)
        if match and _IS_ORGAN.fullmatch(match[1]):
            return match[1]
    organs, _ = _signature(text)
    if organs:
        return "、".join(organs)
    before = re.match(r"(.{4,80}?)关于", title)
    if before and _IS_ORGAN.fullmatch(before[1]):
        return re.sub(r"[\s　]+", "、", before[1].strip())
    told = meta.get("contentsource", "")
    return re.sub(r"[\s　]+", "、", told) if _IS_ORGAN.fullmatch(told) else ""


def _level(issuer: str) -> str:
    """The level of the maker, where its name shows it."""
    if re.match(r"国务院|全国人民代表大会|最高人民|中共中央|中央|公安部|民政部|财政部|国家", issuer):
        return "国家级"
    name = r"[\u4e00-\u9fff]{2,8}?"
    parts = re.match(
        rf"({name}(?:省|自治区))?({name}市)?({name}(?:区|县))?({name}(?:街道办事处|(?:镇|乡)人民政府))?", issuer.split("、")[0]
    )
    found = [
        level for part, level in zip(parts.groups() if parts else (), ("省级", "市级", "县级", "镇级"), strict=False) if part
    ]
    return found[-1] if found else ""
