"""The fixed words of answers, for citizens. A sentence of an answer is made of these phrases and of verbatim quotations only.

No phrase names a number: what counts, dates, costs or can be dialled is always quoted (a test holds it). The refusals at the end
carry no citation; their one number is the hotline that every place of the country has.
"""

from __future__ import annotations

from govlm.hall.catalogue.records import FIELDS

__all__ = ["PHRASES", "REFUSALS", "TITLES", "WAY_ON", "label"]

TITLES = {
    "premise": "先说您提到的", "item": "您问的事项", "phrased": "简单说（AI 生成，以下面的原文为准）", "choices": "您要办的是哪一件？请说出它的名字", "audiences": "谁能办", "conditions": "条件", "steps": "怎么办", "materials": "材料",
    "notes": "注意", "limit": "多久办好", "fee": "收费", "payment": "能领多少", "places": "去哪里办", "phones": "电话", "online": "网上办、跑几趟",
    "result": "办完拿到什么", "basis": "依据", "about": "其他信息", "policy": "政策原文", "difference": "各级规定不同的地方",
}  # fmt: skip  # the kinds of parts, in the order in which an answer shows them

COLON, COMMA, PAUSE, SEMICOLON, STOP, OPEN, CLOSE = "：", "，", "、", "；", "。", "（", "）"
TITLE_OPEN, TITLE_CLOSE = "《", "》"
COPIES, VISITS = "份", "次"
OPTIONAL, NEEDED = "不是人人都要交", "必须交"
FIRST, NEXT, LAST = "先", "再", "最后"
HOURS, PHONE = "办公时间：", "电话："
BY = "办理单位："
IN_FORCE, ENDS = "从这天起有效：", "有效到这天："
LACKS, LACKS_END = "的办事指南里，原文未提及：", "。"
CALL = "想问清楚，可以打咨询电话："
ASK_HALL = "想问清楚，可以到窗口或者打政务服务热线问一问。"
# what a person takes for granted, and what the record says
WRONG = "不是这样的，和原文不一样。原文写的是："
RIGHT = "是的，原文是这样写的："
UNCLEAR = "请您对照原文看，原文写的是："
NOT_LISTED = "您提到的，原文的材料清单里没有写。原文列的是："
SILENT, SILENT_END = "您提到的，原文未提及，不能说是，也不能说不是。《", "》的办事指南里没有写："
# policy documents
FROM, FROM_END = "《", "》"
ARTICLE = "　"
SAYS = "写的是："
WHOLE = "整句是："
LOCAL_FIRST = "按本地的规定办："
HIGHER = "上级的规定是："
DIFFERS = "规定不一样的地方，本地："
DIFFERS_HIGHER = "；上级："
NOTHING_THERE = "没有写"
FOLLOWS_NEWER = "新的规定在前，旧的规定写的是："

_LABELS = {name: text for name, text in FIELDS.items()}

PHRASES = frozenset(value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str)) | frozenset(
    [TITLES["payment"], *_LABELS.values(), *(f"{text}：" for text in _LABELS.values())]
)


def label(name: str) -> str:
    """The name of a field for citizens. KeyError when it is none."""
    return _LABELS[name]


WAY_ON = "您可以拨打政务服务热线12345，或者到窗口请工作人员帮您。"
REFUSALS = {
    "out_of_scope": "对不起，这件事不归这里办，我答不了。",
    "which_item": "您想问的是哪件事？请把事项的名字一起说出来。",
    "unanswerable": "对不起，这里的办事指南和政策里没有写这个，我不能猜。",
    "nothing_found": "对不起，这里没有查到您问的事项或者政策。您可以换个说法再问一次。",
    "expired": "对不起，查到的规定已经过了有效期，我不能拿它来回答您。",
    "not_yet": "对不起，查到的规定还没有到生效的日子，我不能拿它来回答您。",
    "unchecked": "对不起，这次的回答没有通过和原文的核对，为了不说错，我先不回答。",
    "empty": "请您说一说想办什么事，比如要带什么材料、在哪里办。",
}  # why there is no answer
