"""What a sentence holds: numbers with check digits, dates, sums, addresses, persons and organisations, with their places.

Numbers, dates, sums and addresses are decided by their recognisers (privacy, values, addresses). A person is a family name and one
to three characters where the words around say that a name stands there; an organisation ends as organisations do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from govlm.hall.addresses import Divisions, find_addresses
from govlm.hall.privacy import find
from govlm.hall.values import find_amounts, find_dates, normal

__all__ = ["Slot", "find_slots", "names_alone"]


class Slot(NamedTuple):
    """text[start:end], as it was written; value: the one way to write it; valid: whether its check holds, None where it has none."""

    kind: str
    text: str
    start: int
    end: int
    value: str
    valid: bool | None


# The 200 family names that most people bear, and the common ones of two characters.
_FAMILY = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范"
    "方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦"
    "申尤毕聂丛焦向柳邢路岳齐沿梅莫庄辛管祝左涂谷祁时舒耿牟卜詹关苗凌费纪靳盛童欧甄项曲成游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单"
    "包司柏宁柯阮桂闵解强柴华车冉房边辜吉饶刁瞿戚丘古米池滕晋苑邬臧畅宫来嵺苟全褚廉简娄盖符奚木穆党燕郎邸冀谈姬屠连郜晏栾郁商蒙计喻"
    "揭窦迟宇敖糜鄢冷卓花仇艾蓝都巩稽井练仲乐虞卞封竺冼原官衣楚佟栗匡宗应台巫鞠僧桑荆谌银扬明沙薄伏岑习胥保和蔺"
)
_DOUBLE = "欧阳|司马|诸葛|上官|司徒|东方|皇甫|尉迟|公孙|慕容|令狐|夏侯|宇文|长孙|端木|南宫|百里|呼延|独孤|轩辕|闻人|澹台"
_NAME = re.compile(
    rf"(?:{_DOUBLE})[\u4e00-\u9fa5]{{1,2}}|[{_FAMILY}][\u4e00-\u9fa5]{{1,2}}"
    r"|[\u4e00-\u9fa5]{2,8}(?:[·•][\u4e00-\u9fa5]{1,8}){1,3}"
)
_KIN = (
    "老公|老婆|丈夫|妻子|爱人|爸爸?|妈妈?|父亲|母亲|爷爷|奶奶|外公|外婆|姥姥|姥爷|儿子|女儿|闺女|孩子|娃|哥哥?|弟弟?|姐姐?|妹妹?|"
    "媳妇|婆婆|公公|岳父|岳母|孙子|孙女|舅舅?|姑姑?|叔叔?|阿姨|室友|同事|朋友|邻居"
)
_LEADS = re.compile(
    rf"(?:我叫|[俺咱他她]叫|名叫|叫做|名字(?:就?[叫是写填])?|姓名(?:[叫是写填])?|本人(?:叫|是)?|我是|(?:我|俺|咱|他|她|的)(?:{_KIN})(?:叫|是)?|"
    r"(?:户主|申请人|联系人|经办人|法人|法定代表人|负责人|收件人|代办人|监护人|配偶|持卡人|开户人|户名|经营者|权利人|产权人|被保险人|受益人)"
    r"(?:姓名)?(?:[叫是写填])?)[\s:：,，]{0,2}"
)
# What may stand behind a name: the end, a sign, or a word that no given name ends with.
_AFTER = re.compile(
    r"$|[^\u4e00-\u9fa5]|[的和与跟及是在今去前昨于想要需申办来也都就已有没女男先同志吧呢吗啊哈呀住户身电手联生出年岁一二三四五六七八九十两读上下退过死病"
    r"领补换到这那被让给叫因为用可能不丢名了还开从离结]"
)
_NO_NAME = re.compile(r"^(?:王者|高中|高考|高龄|安全|时间|时候|方便|方法|包括|包办|单位|单身|单独|温馨|车主|都是|向你|成年|成人|全部|全家|明天|明年|连续|文件|"
                      r"计划|应该|关于|关系|石油|任何|金额|花钱|路上|位置|房子|解决|原来|官方|项目|商量|商店|管理|左右|游客|来自|来办|和我|和他|保险|习惯|台湾|"
                      r"党员|木匠|米粉|强制|简单|古城|计算|平时|牛奶|白天|江苏|江西|湖|海|万一|于是|常住|许多|宁夏|安徽|甘肃|康复|华侨|查|解|都|还|来|全|应|连|和|向)")  # fmt: skip
_KINDS_OF_ORGANISATION = (
    "有限责任公司|股份有限公司|有限公司|分公司|总公司|集团|公司|工厂|厂|商行|商店|便利店|小吃店|餐饮店|饭店|餐厅|餐馆|酒店|宾馆|超市|药店|药房|"
    "工作室|事务所|合作社|幼儿园|小学|中学|高中|学校|学院|大学|医院|卫生院|卫生服务中心|诊所|研究院|研究所|设计院|银行|支行|协会|基金会|联合会|"
    "居委会|居民委员会|村委会|村民委员会|街道办事处|街道办|派出所|公安局|民政局|税务局|人社局|社保局|医保局|教育局|管理局|监督局|委员会|管理中心|服务中心|养老院|福利院|敬老院|"
    "农家乐|理发店|奶茶店|火锅店|面馆|烧烤店|培训中心|物业"
)
_GAP = r"(?:(?![和与及或跟在到去的])[\u4e00-\u9fa5]){0,6}?"  # 四川大学华西医院 is one
_ORGANISATION = re.compile(
    rf"[\u4e00-\u9fa5A-Za-z0-9（）()·]{{2,24}}?(?:{_KINDS_OF_ORGANISATION})(?:{_GAP}(?:{_KINDS_OF_ORGANISATION}))*"
)
_BEFORE_ORGANISATION = re.compile(
    r"^.*(?:在|是|叫|去|到|给|从|向|由|跟|和|与|为|的|了|把|被|我们?|单位|名称|全称|公司名|抬头|填|户名|开户行|工作|上班|经营|开办|办|开|读|就读|住|找|问|于|用|本|这家?|那家?|一家|这个|那个|哪家|哪个|什么|家)"
)
_NO_ORGANISATION = re.compile(
    r"^(?:我们|这家|那家|一家|原|本|该|贵|新|老|小|大|外地|当地|附近|所在|用人|街道|社区|政府|公立|私立|三甲|定点|省|市|区|县)*$"
)


def find_slots(text: str, today: date | None = None, divisions: Divisions | None = None) -> list[Slot]:
    """From left to right, without overlaps. today: what 明天 and 下个月 are counted from (default: the day it is)."""
    today = today or date.today()
    found: list[Slot] = []
    taken = bytearray(len(text))

    def add(kind: str, start: int, end: int, value: str | None = None, valid: bool | None = None) -> None:
        if start >= end or any(taken[start:end]):
            return
        if value is None:
            try:
                value = normal(kind, text[start:end], today)
            except ValueError:
                return
        taken[start:end] = b"\1" * (end - start)
        found.append(Slot(kind, text[start:end], start, end, value, valid))

    for span in find(text, today):
        add(span.kind, span.start, span.end, valid=span.valid)
    for place in find_addresses(text, divisions):
        add("address", place.start, place.end)
    for when in find_dates(text, today):
        if when.day is not None:
            add("date", when.start, when.end, when.day.isoformat())
    for amount in find_amounts(text):
        add("amount", amount.start, amount.end, format(amount.yuan.normalize(), "f"))
    for start, end in _organisations(text):
        add("organisation", start, end)
    for start, end in _names(text):
        add("name", start, end)
    return sorted(found, key=lambda slot: slot.start)


def _names(text: str) -> Iterator[tuple[int, int]]:
    for lead in _LEADS.finditer(text):
        end = names_alone(text, lead.end())
        if end:
            yield lead.end(), end


def names_alone(text: str, start: int) -> int:
    """The end of the name that begins at `start`, the longest that something may stand behind; 0 = none there."""
    for end in range(min(start + 12, len(text)), start + 1, -1):
        name = _NAME.fullmatch(text, start, end)
        if name is not None and _AFTER.match(text, end) and not _NO_NAME.match(name.group()):
            return end
    return 0


def _organisations(text: str) -> Iterator[tuple[int, int]]:
    for match in _ORGANISATION.finditer(text):
        lead = _BEFORE_ORGANISATION.match(match.group())
        start = match.start() + (lead.end() if lead else 0)
        name = text[start : match.end()]
        ending = re.search(rf"(?:{_KINDS_OF_ORGANISATION})$", name)
        if ending is not None and len(name[: ending.start()]) >= 2 and not _NO_ORGANISATION.match(name[: ending.start()]):
            yield start, match.end()
