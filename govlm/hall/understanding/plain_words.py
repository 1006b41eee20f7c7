"""The closed lists of words for yes, no, nothing, asking, supposing, correcting: one home for dialogue, forms and answers.

Each is an alternation for a regular expression, without a group around it: `rf"(?:{YES}|就是)"`. A reader that takes more words in its
place adds them beside; a word that all of them must know is added here. (The baseline of `evaluation.rules` keeps its own: it is what
the models are measured against.)
"""

from __future__ import annotations

import re

__all__ = ["ASKING", "CORRECTING", "NEGATED", "NO", "NOTHING", "SUPPOSING", "YES", "is_greeting"]

YES = "是|有|对|嗯|好|行|可以|要|没错|没问题|确认|同意|愿意|正确|肯定|中"
NO = "不是|没有|没|否|不|不要|不用|不同意|不愿意|不行|不对|还没|还没有"
NOTHING = "没有|没|无|没得|莫得"  # what there is of a thing that was asked for
NEGATED = "没有|没|非|不算|不属于|未|不"  # before a word, that it does not hold; 不是 and 并非 reach further
ASKING = "[?？]|什么|怎么|多少|能不能|可不可以|是不是|为啥|咋"
SUPPOSING = "如果|(?<![主重需只不])要是|假如|假设|假使|倘若|若是|万一|比方说|打个比方|就算|哪怕"
CORRECTING = (
    "不对|错了|写错|说错|打错|填错|搞错|弄错|记错|改成|改为|换成|[改换](?=[0-9一二三四五六七八九])|更正|纠正|应该是|应为"
)

_GREETING = re.compile(
    r"(?:(?:您|你|大家)好|(?:早上|上午|中午|下午|晚上)好|早安?|晚安|哈喽|哈啰|嗨|喂|hello|hi|在吗|在不在|有人(?:吗|在吗)"
    r"|(?:非常|十分|太|多|真是|真的)*(?:谢谢?|多谢|感谢|感激|麻烦)(?:您|你|了|啦|啊|呀|哈|们|不尽|客服|小?政|帮忙|帮助|解答|耐心|的)*|thanks?|thankyou|thx"
    r"|(?:您|你)?(?:辛苦|劳驾|打扰|受累)(?:您|你|了|啦|啊)*|再见|拜拜|回见|bye|不客气|哈+|呵+|嘿+|嘻+|[，。！!？?~～.,、…\s])+",
    re.IGNORECASE,
)


def is_greeting(text: str) -> bool:
    """Whether a message is nothing but a greeting, thanks or a laugh."""
    return bool(text.strip()) and _GREETING.fullmatch(text.strip()) is not None
