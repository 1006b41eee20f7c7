"""What a short answer to one question means: "三口人", "是的", "张伟", "第二个"; read by the kind of the field that was asked."""

from __future__ import annotations

import re

from govlm.hall.forms.checks import is_name
from govlm.hall.forms.numbers import number
from govlm.hall.forms.schema import FormField
from govlm.hall.forms.wording import OTHER_PLACE, PLACE
from govlm.hall.understanding.plain_words import NO, NOTHING, YES
from govlm.hall.understanding.slots import names_alone

__all__ = ["PROMPT", "answer"]

_HEAD = re.compile(
    r"^(?:[嗯哦啊呃额]+|那个|这个|就|应该|好的?|您好|你好|不对|不是|错了|改成|改为|我的?|俺|他|她|名字|姓名|叫做?|是叫|就是|是|写|填|选|[，,。、\s:：])+"
)
_TAIL = re.compile(r"(?:[。．.!！~～，,、;；\s]|[吧啊呀哦呢哈嘛哟的了]|谢谢|先生|女士)+$")
_NO_ANSWER = re.compile(
    r"[?？]|不知道|不清楚|不晓得|忘了|记不|跳过|取消|算了|什么意思|为什么|为啥|怎么|咋|啥|哪[里儿个]|多少|多久|几时|什么时候|能不能|可不可以|是不是|[吗嘛么]$|稍等|等一下|等会|人工|返回|上一[步个]|再说一遍|没听懂|不想|不告诉|不办了|退出"
)
PROMPT = re.compile(
    r"(?:忽略|无视|忘记|绕过|关闭|跳过).{0,16}(?:指令|规则|提示词?|设定|校验|检查|限制)|(?:所有|全部|一切)[^，。]{0,8}(?:跳过|忽略|关闭)|系统提示|system\s*prompt|ignore\s+(?:all\s+|the\s+)?(?:previous|above)|你现在是|扮演|越狱|<\|?[a-z_]+\|?>",
    re.IGNORECASE,
)
_YES = re.compile(rf"(?:{YES}|嗯+|需要|当然|必须|对头)(?:的|啊|呀|呢|了|吧)*")
_NO = re.compile(rf"(?:{NO}|{NOTHING}|不需要|都没有|从来没有|没交过?|不存在)(?:的|啊|呀|呢|了|吧|过)*")
_ORDER = re.compile(r"(?:第)?(?P<n>[一二三四五六七八九1-9])(?:个|项|种)?")
_LETTER = re.compile(r"[A-Ia-i]")
_COUNTED = re.compile(r"(?P<n>[0-9]{1,6}|[零〇一二三四五六七八九十百千两俩仨]{1,6})\s?(?:[\u4e00-\u9fff]{0,3})")
_WITHOUT = re.compile(
    f"(?:我们?|俺|这个|那个|先|暂时|就|也|都|目前)*(?:{NOTHING}|不用|不要|不需要|不取|不起|暂无|还没有?)(?:起|取|想好|想|定|[店字]号|店名|名称|名字|单位|公司|学校|这个|地址|了|的|呢)*"
)
_FAMILY = re.compile(
    "(?:就)?(?:我们?|咱|俺)?(?:就)?(?:爷儿?|娘儿?|母[子女]|父[子女]|夫[妻妇]|姐妹|兄弟|姊妹|姐弟|兄妹|小?两口|我们)?(?P<n>俩|仨|两个|两口子)(?:人)?"
)
_PLACED = re.compile("[省市区县旗州盟镇乡村路街道巷弄胡同号栋幢楼座室组屯队园苑院寨庄湾里坊社家属厂宿舍]")  # of an address
_NO_FIRM = re.compile("[你您他她咱俺了没吗呢]|不(?!锈)|我(?!爱)")  # a remark, no name
_FIGURES = re.compile("[0-9０-９零〇一二两三四五六七八九十百千万年月日号点半元块个天上下本今去前.,，、\\s-]+")
_NOTHING = re.compile(rf"(?:{NOTHING}|零|一个(?:也|都)没有?|啥也没有|都没有?)(?:收入|任何收入)?")


def answer(field: FormField, text: str) -> tuple[str, int, int] | None:
    """(value, start, end) of what answers the question; None: it is no bare answer to it. Numbers with check digits, dates and sums with

    units have been looked for before.
    """
    whole = text.strip()
    if not whole or len(whole) > max(field.longest, 60) or PROMPT.search(whole):
        return None
    offset = text.index(whole)
    head = _HEAD.match(whole)
    tail = _TAIL.search(whole)
    inner_end = tail.start() if tail else len(whole)
    if field.kind in ("yesno", "choice"):
        found = _yesno(field, whole) if field.kind == "yesno" else _choice(field, whole)
        if not found and field.kind == "choice":  # 厂子搬走了，关了: one of the clauses says it
            said = {
                value
                for clause in re.split("[，,。；;！!]", whole)
                if clause.strip() and (value := _choice(field, clause.strip()))
            }
            found = said.pop() if len(said) == 1 else ""
        return (found, offset, offset + len(whole)) if found else None
    if _NO_ANSWER.search(whole):
        return None
    start = min(head.end() if head else 0, inner_end)
    inner = whole[start:inner_end]
    if not inner:
        return None
    span = (offset + start, offset + inner_end)
    if field.kind == "count":
        first = re.split("[，,。；;！!]", inner)[0]  # 一个，女儿
        value = _count(field, inner) or _count(field, whole[:inner_end]) or _count(field, first)
        return (value, *span) if value else None
    if field.kind == "amount":
        if _NOTHING.fullmatch(inner) or _NOTHING.fullmatch(whole[:inner_end]):
            return ("0", *span)
        match = re.fullmatch(
            r"(?:每个?月|一个?月|月|大概|大约)?(?P<n>[0-9,.百千万]+|[零〇一二三四五六七八九十百千万两]+)(?:左右)?", inner
        )
        sum_ = number(match["n"]) if match else None
        return (format(sum_.normalize(), "f"), *span) if sum_ is not None else None
    if field.kind == "name":
        return _name(whole, offset, start, inner_end)
    if field.kind == "address" and not _PLACED.search(inner):
        return None
    if field.kind == "organisation" and (_NO_FIRM.search(inner) or _FIGURES.fullmatch(inner)):
        return None
    if field.kind in ("text", "organisation", "address"):
        if _WITHOUT.fullmatch(whole[:inner_end]):
            return None
        raw = _said(whole, field)
        return (
            (re.sub(r"\s+", " ", whole[raw[0] : raw[1]]), offset + raw[0], offset + raw[1])
            if raw[1] - raw[0] >= field.shortest
            else None
        )
    return None


_LEAD_PHRASE = re.compile(
    r"^(?:[嗯哦啊]+[，,]?|那个|就|应该|好的?[，,]|您好[，,]?|你好[，,]?|不对[，,]?|(?:我|俺)?(?:现在|目前|平时)?(?:住在|住的是|住|在)|(?:我们?|俺)?(?:单位|公司|店|地址|名称|名字|店名|字号)?(?:名)?(?:的)?(?:全称|名字|名称)?(?:就?是|叫做?|写|填)|(?:主要|打算|准备|想)?(?:是|做|卖)(?=.{3})|[:：\s])+"
)


def _said(whole: str, field: FormField) -> tuple[int, int]:
    lead = _LEAD_PHRASE.match(whole)
    tail = re.search(r"(?:[。．.!！~，,\s]|[吧啊呀哦呢哈]|(?<=.{3})的|上班|工作|谢谢)+$", whole)
    start, end = (lead.end() if lead else 0), (tail.start() if tail else len(whole))
    if field.kind == "text" and lead and re.search("[做卖]$", lead.group()):
        start -= 1
    return (start, end) if start < end else (0, len(whole))


def _name(whole: str, offset: int, start: int, inner_end: int) -> tuple[str, int, int] | None:
    """A family name is among the known ones, or the words say that a name stands there."""
    inner = whole[start:inner_end]
    compact = re.sub(r"(?<=[\u4e00-\u9fff])\s+(?=[\u4e00-\u9fff])", "", inner)
    led = re.search("叫|姓名|名字", whole[:start])
    if names_alone(compact, 0) == len(compact) or (
        is_name(compact) and (led or "·" in compact or (compact.isascii() and " " in compact))
    ):
        return compact, offset + start, offset + inner_end
    return None


# 您是不是都没有房子？: 没有 says yes to it, 有 says no
_ASKS_FOR_LACK = re.compile("(?:是不是|是否)[^，。？]{0,8}(?:没有|没|无|未|不)|都没有")
_LACK = re.compile(
    "(?:我们?|俺|咱|名下)*(?:真|确实)?(?:一[套个处]|啥|什么)?(?:都|也)?(?:没有?|无|没得|莫得)(?:的|啊|呀|呢|了|吧|房子?|住房|买|过|房产)*"
)
_HAVE = re.compile("(?:我们?|俺|咱|名下)?(?:都|也)?有(?:的|啊|呀|呢|了|吧|房子?|住房|房产|一[套个处])*")
_DONE = re.compile("(?:早就?|已经|都|刚)?(?:拿|办|领|批|弄|考|签|交|做)(?:到|好|完|妥|下来|成|过|齐)?了?(?:的|了)")
_ECHO = re.compile(
    r"(?:我|俺)?(?:也|都|还|肯定|当然|很|暂时|现在|目前|一定)*(?P<no>不|没有?|别)?(?P<verb>(?:(?![的啊呀呢了吧嘛哦])[\u4e00-\u9fff]){1,4}?)(?:的|啊|呀|呢|了|吧|嘛|哦)*"
)


def _yesno(field: FormField, whole: str) -> str:
    text = re.sub(r"[，,。.!！~\s]+", "", whole)
    clauses = [part for part in re.split(r"[，,。.!！~\s]+", whole) if part]
    if OTHER_PLACE.search(whole) and PLACE.search(field.label):
        return ""
    if _ASKS_FOR_LACK.search(field.ask):
        for said in (text, *clauses[:1], *clauses[1:2]):
            if _LACK.fullmatch(said):
                return "是"
            if _HAVE.fullmatch(said):
                return "否"
    if _NO.fullmatch(text):
        return "否"
    if _YES.fullmatch(text) or re.fullmatch("(?:是的|对的?|嗯+)+(?:是的?|有的?|对)?", text):
        return "是"
    if len(clauses) > 1:  # 没有，从来没领过
        if _NO.fullmatch(clauses[0]):
            return "否"
        if _YES.fullmatch(clauses[0]):
            return "是"
    echo = _ECHO.fullmatch(clauses[0]) if clauses and not _ASKS_FOR_LACK.search(field.ask) else None
    if echo and _echoes(echo["verb"], field.ask) and not re.search(r"[?？]", whole):  # 现在想找工作吗: 不想找了
        return "否" if echo["no"] else "是"
    if len(whole) <= 14 and not _NO_ANSWER.search(whole) and not _ASKS_FOR_LACK.search(field.ask):
        if re.match("(?:我|俺|他|她|家里|目前|现在)?(?:也|都|还|是)?(?:不|没|无|未|莫)", whole):
            return "否"
        if re.match("(?:我|俺|他|她|家里|目前|现在)?(?:也|都)?(?:是|有|对|嗯|要|愿意|同意|交了|办了|已经)(?!不|没)", whole):
            return "是"
        if any(_DONE.search(said) and not re.search("不|没|未", said) for said in clauses):
            return "是"
    return ""


def _echoes(verb: str, ask: str) -> bool:
    bare = re.sub("^[要想得会]+", "", verb)
    return verb in ask or (bool(bare) and bare in ask)


def _choice(field: FormField, whole: str) -> str:
    text = re.sub(r"[，,。.!！~\s“”\"']+", "", whole)
    text = re.sub(r"^(?:嗯+|我|俺|就|是|选|属于|应该)+(?=.)", "", text)
    text = re.sub(r"(?:[吧啊呀哦呢的了]|的那个|那个|这个|那种)+$", "", text) or text
    single = [value for value in field.enum if len(value) == 1]
    if single and re.fullmatch(f"[{''.join(single)}](?:[的滴嘞性士生人孩]|娃儿?|同志|孩子|孩儿)*", text):
        return text[0]  # 女娃儿
    exact = {word: value for value in field.enum for word in (value, *dict(field.words).get(value, ()))}
    if text in exact:
        return exact[text]
    order = _ORDER.fullmatch(re.sub(r"^(?:就?[按选要办])+|[办来吧]+$", "", text))
    if order or _LETTER.fullmatch(text):
        place = int(number(order["n"]) or 0) if order else ord(text.upper()) - 64
        return field.enum[place - 1] if 1 <= place <= len(field.enum) else ""
    if 1 <= len(text) <= 3 and not re.search("不|没|别|未", text):  # 顺的, 关了: the letter of one choice alone
        own = {value: set(value) - set("".join(v for v in field.enum if v != value)) for value in field.enum}
        told = {value for value, letters in own.items() if letters & set(text)}
        if len(told) == 1:
            return told.pop()
    if len(text) >= 2 and not _NO_ANSWER.search(whole) and not re.search("不|没", text):
        near = {value for word, value in exact.items() if text in word}
        if len(near) == 1:
            return near.pop()
    return ""


def _count(field: FormField, inner: str) -> str:
    if re.fullmatch(r"就?(?:只有)?我?(?:自己)?一个人?|就?我自己|就我一?个?", inner):
        return "1"
    if _NOTHING.fullmatch(inner):
        return "0"
    if family := _FAMILY.fullmatch(inner):  # 娘俩
        return "3" if family["n"] == "仨" else "2"
    match = _COUNTED.fullmatch(re.sub(r"^(?:一共|总共|共|有|家里|全家|一家|我们家?|大概|交了?|有个)+", "", inner))
    value = number(match["n"]) if match else None
    return str(int(value)) if value is not None and value == int(value) else ""
