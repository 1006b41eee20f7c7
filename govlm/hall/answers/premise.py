"""What a question takes for granted (低保要交500元吧？), held against the field that it is about.

A verdict is given only where rules can decide: sums against the fee, days against the limits, yes or no against a yes or no, papers
against the list, ages and times against the conditions. Where they cannot, the field is quoted and the reader compares; where the
record says nothing, that is said. The person's own figure is never repeated: it stands in no record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from govlm.hall.answers import words
from govlm.hall.answers.citations import Citation, Part, Sentence
from govlm.hall.answers.compose import FIELDS_OF, Quotes
from govlm.hall.catalogue.records import Item
from govlm.hall.values import find_amounts

__all__ = ["Verdict", "judge", "part", "presumes"]

_MARK = re.compile(
    r"吧(?:$|[，。？?！!\s])|是不是|是吗|是吧|对吗|对吧|对不对|对不(?:$|[？?])|没错吧|没记错|真的(?:吗|么|假的)|听说|据说|听人说|有人说|都说|(?:人|朋友|邻居)说|难道|我(?:以为|记得)|不是.{1,20}[吗么]"
)
_YES_NO = re.compile(r"[吗么嘛](?:$|[，。？?！!\s])|(?:要|能|用|收|交|可|行)不(?:要|能|用|收|交|可以|行)")
_OR_NOT = re.compile(r"要不要|用不用|需不需要|是不是要|是否需?要")
_DIGITS = {char: i for i, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10000}
# What makes a sum one that is paid here, and a time one that is waited: not 我工资3000元, not 失业三个月了.
_PAID, _PAID_AFTER = (
    re.compile("要|交|收|付|花|缴|掏|得|费|押金|价|是"),
    re.compile("的?(?:手续|工本|服务|登记|办证|制证)?费|押金|钱|吧|对|是"),
)
_OWN = re.compile("工资|收入|养老金|退休金|存款|月薪|标准|补贴|津贴|补助|保险金|救济金|贷|领|发")  # whose sum is no fee
_SPENT = re.compile("(?:花|付|用|交|缴|垫)了[^了]{0,3}$")  # the person's own bills
_WAITED = re.compile("(?:要|等|得|需|花|用|是|时限)[^满住缴]{0,4}$")
_WAITED_AFTER = re.compile(
    "(?:之?内|以内|左右)?(?:就|才|便|能|可以|会)*(?:给|办|批|拿|出|下|好|到账|完|审)|吧|对|是吗|是吧|是不是"
)
_COUNT = r"(?:[0-9]+(?:\.[0-9]+)?|[一二两三四五六七八九十百千万]+|半)"
_TIME = re.compile(
    rf"(?P<count>{_COUNT})(?P<more>多)?个?(?P<unit>工作日|工作天|小时|钟头|分钟|天|日|周|星期|礼拜|月|年)(?!内?额度|龄|[0-9]*月)"
)
_AGE = re.compile(rf"(?P<count>{_COUNT})\s?(?:周)?岁")
_VISITS = re.compile(rf"(?P<count>{_COUNT})(?:趟|次|回)")
_DAYS = {
    "工作日": 1.0, "工作天": 1.0, "天": 1.0, "日": 1.0, "小时": 1 / 24, "钟头": 1 / 24, "分钟": 1 / 1440, "周": 7.0, "星期": 7.0, "礼拜": 7.0,
    "月": 30.0, "年": 365.0,
}  # fmt: skip
_AT_ONCE = re.compile(r"当天|当日|当场|当时|马上|立刻|立马|即时|即刻|立等|不用等|现场就")
_ONLY_AT_ONCE = re.compile(r"(?:即时|当场|当日|立即|当天)(?:办结|办理|办好|审批|出证|领取)?")
_FREE = re.compile(r"不收费|免费|免收|不收取|无收费|不需要?(?:缴|交|付)费|无需(?:缴|交|付)费|^[否无]$|^0元?$")
_SAYS_FREE = re.compile(
    r"(?:不用|不要|不收|不需要?|无需|不必|免)(?:再|我)?(?:交|花|收|付|缴|掏)?(?:任何|一分)?(?:钱|费)|免费|不收费|白办"
)
_SAYS_PAY = re.compile(r"(?:要|得|需要|必须|还)(?:交|花|收|付|缴|掏)?.{0,3}?(?:钱|费)|收费|收钱|押金")
_BARE = re.compile(
    rf"(?:收|交|要|付|花|缴|掏|得)(?:先|了|个|一次)?(?P<count>{_COUNT})(?=是|对|吧|吗|押金|的?(?:手续|工本|服务|登记|办证)费|[，。？?！!]|$)"
)
_VAGUE = re.compile(r"(?:好几|几|上|好多|数)(?P<scale>[百千万])")
_NOT_ONLINE = re.compile(
    r"(?:不能|不可以|没法|无法|不支持|办不了|不让).{0,4}(?:网上|线上|在线|手机)|(?:网上|线上|在线|手机上?).{0,6}(?:不能|不可以|不行|办不了|没法|不支持)"
)
_MUST_COME = re.compile(
    r"(?:必须|一定要|非得|只能|得|要|需要|都要)(?:我)?(?:本人|亲自|亲身)|(?:必须|一定要|非得|只能|得|要|需要)(?:我)?(?:去|到|来|跑)(?:一趟|一次|现场|窗口|大厅|柜台|局里|办事)"
)
_ONLINE = re.compile(
    r"(?:网上|线上|在线|手机上?|网络).{0,8}(?:能|可以|行|办|搞定)|(?:能|可以).{0,4}(?:网上|线上|在线|手机)|(?:不用|不要|不需要|不必|无需)(?:我)?(?:本人|亲自|去|到|跑)"
)
_IN_PERSON = re.compile(r"本人(?:亲自|到场|携|持|到|须|必须|申请|办理|签)|亲自|(?:须|必须|应当|需)(?:由)?本人")
_BY_OTHERS = re.compile(r"代办|代领|代为|委托|代理人|代他|监护人")
_LEAVE_OUT = re.compile(
    r"(?:不用|不要|不需要?|无需|不必|免|用不着)(?:再)?(?P<verb>带|交|提供|提交|准备|用|出示|拿)?(?P<what>[^，。？?！!吧吗]{2,16})"
)
_BRING = re.compile(
    r"(?:要|需要?|得|必须|还得|还要|都要|带上?)(?:再)?(?P<verb>带|交|提供|提交|准备|用|出示|拿|有)?(?P<what>[^，。？?！!吧吗]{2,16})"
)
_NOT_BROUGHT = re.compile(
    r"(?P<what>[^，。？?！!]{2,12}?)(?:也|都)?(?:可以|能)?不(?P<verb>交|带|提供|提交)(?:也)?(?=吧|行|可以|是|对|$)"
)
_LACKING = re.compile(r"(?:没有?|未|不)(?P<what>[^，。？?！!没未不]{3,14}?)(?:的?人?|者)(?:也|都|就|照样|仍然)(?:能|可以|行)")
_ANYONE = re.compile(r"谁都(?:能|可以)|不看条件|(?:没有?|无)(?:任何)?条件|人人都?(?:能|可以)|随便谁|什么人都")
_NO_CONDITION = re.compile(r"^(?:无条件|无受理条件|没有条件|不限|无)")
_SAME = {
    "户口簿": "户口本",
    "相片": "照片",
    "发票": "票据",
    "房产证": "不动产权证",
    "房本": "不动产权证",
    "社保卡": "社会保障卡",
}  # one paper
_GENERAL = frozenset({"申请", "证明", "材料", "原件", "复印", "印件", "居民", "办理", "资料", "复印件", "需要", "提供", "登记"})


class Verdict(NamedTuple):
    """found: wrong, right, unclear, not listed, or silent. kind: the part that it is about. paths: the fields that are quoted."""

    found: str
    kind: str
    paths: tuple[str, ...]


def presumes(question: str) -> bool:
    """Whether a question takes something for granted."""
    return bool(_MARK.search(question))


def judge(question: str, item: Item, kinds: Iterable[str]) -> list[Verdict]:
    """What is right and what is wrong; where nothing of it can be decided, the first field that it is about. Empty: it presumes
    nothing that has a field here. question: in simplified characters; kinds: what it is about (`asked`).
    """
    text = _OR_NOT.sub("要", "".join(question.split()))
    for name in sorted((item.name, *item.aliases), key=len, reverse=True):
        if len(name) > 1:
            text = text.replace(name, "　")
    surely, maybe = presumes(question), bool(_YES_NO.search(question))
    if not (surely or maybe):
        return []
    about = list(kinds) or [
        kind for kind, said in (("fee", find_amounts(text) or _BARE.search(text)), ("limit", _times(text))) if said
    ]
    found = [
        Verdict(said.found, kind, said.paths)
        for kind in about
        if kind in _JUDGES and (said := _JUDGES[kind](text, item, surely))
    ]
    return [verdict for verdict in found if verdict.found in ("wrong", "right")] or found[:1]


def part(verdicts: Iterable[Verdict], item: Item) -> Part:
    """What is said of it, quoted. ValueError when a field that is quoted is empty."""
    quotes = Quotes(item)
    return Part("premise", words.TITLES["premise"], tuple(_sentence(verdict, quotes) for verdict in verdicts))


def _sentence(verdict: Verdict, quotes: Quotes) -> Sentence:
    item = quotes.item
    if verdict.found == "silent":
        names = FIELDS_OF[verdict.kind][:1]
        pieces: list[str | Citation] = [words.SILENT, quotes("name"), words.SILENT_END, words.label(names[0]), words.STOP]
        if quotes.has("consult_phones"):
            pieces += [words.CALL, *quotes.listed("consult_phones"), words.STOP]
        else:
            pieces.append(words.ASK_HALL)
        return Sentence(tuple(pieces), tuple((name, "") for name in names))
    opening = {"wrong": words.WRONG, "right": words.RIGHT, "unclear": words.UNCLEAR, "not listed": words.NOT_LISTED}[
        verdict.found
    ]
    pieces, last = [opening], ""
    for i, path in enumerate(verdict.paths):
        top, _, rest = path.partition(".")
        if i:
            pieces.append(words.COMMA if rest.endswith("note") else words.PAUSE if top == "materials" else words.SEMICOLON)
        if top != last and top not in ("materials", "conditions", "notes", "steps"):
            pieces.append(f"{words.label(top)}：")
        last = top
        pieces.append(quotes(path))
        if rest.endswith(".name") and item.materials[int(rest.split(".")[0])].form:
            pieces += [words.OPEN, quotes(path.removesuffix("name") + "form"), words.CLOSE]
    return Sentence(tuple(pieces))


# --------------------------------------------------------------------------------------------------------------------- numbers


def _value(text: str) -> float:
    """A number below 100 million in digits or Chinese."""
    if text == "半":
        return 0.5
    if text[0].isascii():
        return float(text)
    if len(text) > 1 and text[-1] in _DIGITS and text[-2] in "百千万":  # 两百五: 250
        return _value(text[:-1]) + _DIGITS[text[-1]] * _SCALES[text[-2]] / 10
    total, section, digit = 0, 0, 0
    for char in text:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif char == "万":
            total, section, digit = (total + section + digit) * 10000, 0, 0
        else:
            section, digit = section + (digit or 1) * _SCALES[char], 0
    return float(total + section + digit)


def _times(text: str) -> list[tuple[float, bool]]:
    """(days, whether working days) of each length of time."""
    return [(_value(m["count"]) * _DAYS[m["unit"]], m["unit"].startswith("工作")) for m in _TIME.finditer(text)]


def _ages(text: str) -> list[float]:
    return [_value(m["count"]) for m in _AGE.finditer(text)]


def _near(text: str, start: int, end: int, before: re.Pattern[str], after: re.Pattern[str]) -> bool:
    """Whether the clause says it of [start, end): in the 8 characters before, or at once after."""
    return bool(before.search(_said_before(text, start)) or after.match(text, end))


def _said_before(text: str, start: int) -> str:
    return re.split("[，。？！,?!]", text[:start])[-1][-8:]


def _said(found: str, *paths: str) -> Verdict:
    return Verdict(found, "", paths)


_SILENT = _said("silent")

# ---------------------------------------------------------------------------------------------------------------------- judges


def _fee(text: str, item: Item, surely: bool) -> Verdict | None:
    if not surely:  # a question beside a story: only the clause that asks says something of the fee
        text = "，".join(clause for clause in re.split("[，。；！,;!]", text) if _YES_NO.search(clause))
    sums = [
        amount.yuan
        for amount in find_amounts(text)
        if _near(text, amount.start, amount.end, _PAID, _PAID_AFTER)
        and not _OWN.search(before := _said_before(text, amount.start))
        and (surely or not _SPENT.search(before))
    ]
    if not sums:
        sums = [Decimal(str(_value(m["count"]))) for m in _BARE.finditer(text)]
    vague = _VAGUE.search(text)
    says_free = bool(_SAYS_FREE.search(text))
    says_pay = not says_free and (surely or bool(sums)) and bool(_SAYS_PAY.search(text) or vague)
    if not (sums or vague or (surely and (says_free or says_pay))):
        return None
    if not item.fee:
        return _SILENT
    clauses = [clause for clause in re.split("[；，;,。]", item.fee) if re.search("[收费钱元免缴交付]", clause)] or [item.fee]
    if meant := [clause for clause in clauses if _shared(text, clause) >= 2]:  # 办证费: 办证不收费
        clauses = meant
    costs = {amount.yuan for clause in clauses for amount in find_amounts(clause)}
    free = [bool(_FREE.search(clause)) for clause in clauses]
    open_ended = not all(known or find_amounts(clause) for known, clause in zip(free, clauses, strict=True))
    if any(sums):
        found = "wrong" if not set(sums) <= costs else "right" if costs == set(sums) and not any(free) else "unclear"
    elif vague:
        found = "wrong" if max(costs, default=Decimal(0)) < _SCALES[vague["scale"]] else "unclear"
    elif says_free or sums:  # 0 元
        found = "right" if all(free) else "wrong" if not any(free) else "unclear"
    else:
        found = "wrong" if all(free) else "right" if not any(free) else "unclear"
    if open_ended and found != "right":
        found = "unclear"
    return _said(found, "fee")


def _limit(text: str, item: Item, surely: bool) -> Verdict | None:
    if not surely and re.search("多久|多长|几天|几个|多少|什么时候", text):
        return None
    claimed = [
        (_value(m["count"]) * _DAYS[m["unit"]], m["unit"].startswith("工作"))
        for m in _TIME.finditer(text)
        if _near(text, m.start(), m.end(), _WAITED, _WAITED_AFTER)
    ]
    at_once = bool(_AT_ONCE.search(text))
    if not (claimed or at_once):
        return None
    paths = tuple(name for name in FIELDS_OF["limit"] if getattr(item, name))
    if not paths:
        return _SILENT
    promised = getattr(item, paths[0])
    days = _times(promised)
    every = [time for name in paths for time in _times(getattr(item, name))]
    if claimed:
        if claimed[0] in days:
            found = "right" if len(days) == 1 else "unclear"
        elif any(abs(claimed[0][0] - other) < 1e-9 for other, _ in every):  # the statutory one, or days for working days
            found = "unclear"
        else:
            found = "wrong" if every or _ONLY_AT_ONCE.fullmatch(promised) else "unclear"
    elif _ONLY_AT_ONCE.fullmatch(promised):
        found = "right"
    else:
        found = "wrong" if days and not _AT_ONCE.search(promised) else "unclear"
    return _said(found, *paths)


def _online(text: str, item: Item, surely: bool) -> Verdict | None:
    must_come, denied, claimed = _MUST_COME.search(text), _NOT_ONLINE.search(text), _ONLINE.search(text)
    visits = _VISITS.search(text) if "趟" in text or "跑" in text else None
    if not surely or not (must_come or denied or claimed or visits):
        return None
    if visits and item.visits is not None:
        return _said("right" if _value(visits["count"]) == item.visits else "wrong", "visits")
    if must_come and re.search("本人|亲", must_come.group()):
        about = [path for path in _texts(item) if _BY_OTHERS.search(_at(item, path)) or _IN_PERSON.search(_at(item, path))]
        if about:
            return _said("unclear", *about)
    if item.online is None:
        return _SILENT
    wanted = not (must_come or denied)
    paths = ("online", *(("url",) if item.online and item.url else ()))
    return _said("right" if wanted == item.online else "wrong", *paths)


def _texts(item: Item) -> list[str]:
    return [
        *(f"conditions.{i}" for i, text in enumerate(item.conditions) if text),
        *(f"notes.{i}" for i, text in enumerate(item.notes) if text),
        *(f"materials.{i}.note" for i, material in enumerate(item.materials) if material.note),
        *(f"steps.{i}.text" for i, step in enumerate(item.steps) if step.text),
    ]


def _at(item: Item, path: str) -> str:
    name, number, *rest = path.split(".")
    entry = getattr(item, name)[int(number)]
    return str(getattr(entry, rest[0])) if rest else str(entry)


def _materials(text: str, item: Item, surely: bool) -> Verdict | None:
    left_out = _LEAVE_OUT.search(text) or _NOT_BROUGHT.search(text)
    brought = None if left_out else _BRING.search(text)
    claim = left_out or brought
    if claim is None or re.search("什么|哪|啥|几|多少|钱|费|材料$|证件$|资料$|手续$|东西$", claim["what"]):
        return None
    if not item.materials:
        return _SILENT if claim["verb"] else None
    every = tuple(f"materials.{i}.name" for i, material in enumerate(item.materials) if material.name)
    meant = [i for i, material in enumerate(item.materials) if _shared(claim["what"], material.name) >= 2]
    if not meant:
        return _said("not listed", *every) if claim["verb"] else None  # 要申请: names no paper
    most = max(_shared(claim["what"], item.materials[i].name) for i in meant)
    meant = [i for i in meant if _shared(claim["what"], item.materials[i].name) == most]
    paths = tuple(f"materials.{i}.{name}" for i in meant for name in ("name", "note") if getattr(item.materials[i], name))
    if any(item.materials[i].required is False for i in meant):
        return _said("unclear", *paths)
    return _said("wrong" if left_out else "right", *paths)


def _shared(claim: str, name: str) -> int:
    """Length of the longest run of characters in both that says which paper is meant."""
    for said, kept in _SAME.items():
        claim, name = claim.replace(said, kept), name.replace(said, kept)
    best = 0
    for i in range(len(claim)):
        for j in range(i + max(best, 1) + 1, len(claim) + 1):
            if claim[i:j] not in name:
                break
            if claim[i:j] not in _GENERAL:
                best = j - i
    return best


def _conditions(text: str, item: Item, surely: bool) -> Verdict | None:
    if not surely:
        return None
    every = tuple(f"conditions.{i}" for i, entry in enumerate(item.conditions) if entry)
    if not every:
        return _SILENT
    if _ANYONE.search(text):
        return _said("unclear" if _NO_CONDITION.match(item.conditions[0]) else "wrong", *every)
    for measure in (_ages, lambda said: [days for days, _ in _times(said)], lambda said: [a.yuan for a in find_amounts(said)]):
        claimed = set(measure(text))
        if not claimed:
            continue
        about = {path: set(measure(_at(item, path))) for path in every}
        about = {path: values for path, values in about.items() if values}
        equal = [path for path, values in about.items() if values & claimed]
        if equal:  # a time or a sum may be that of something else
            return _said("right" if measure is _ages else "unclear", *equal)
        if about and measure is _ages:
            return _said("wrong", *about)
    lacking = _LACKING.search(text)
    if lacking and (needed := [path for path in every if _requires(_at(item, path), lacking["what"])]):
        return _said("wrong", *needed)
    return _said("unclear", *every)


def _requires(condition: str, what: str) -> bool:
    """Whether a condition asks for what is named by 3 characters or more, and does not deny it (没有, 未, 不, 除外)."""
    for i in range(len(what) - 2):
        at = condition.find(what[i : i + 3])
        if at >= 0 and not re.search("[没无未不非免]", condition[max(0, at - 6) : at]) and "除外" not in condition:
            return True
    return False


_JUDGES = {"fee": _fee, "limit": _limit, "materials": _materials, "online": _online, "conditions": _conditions}
