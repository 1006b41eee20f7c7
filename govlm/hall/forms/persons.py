"""Of whom a message speaks: the words for the applicant, kin and others, and for whom somebody asks (帮我妈办…)."""

from __future__ import annotations

import bisect
import re
from collections.abc import Collection

__all__ = ["People"]

_WORDS = {
    "spouse": "老婆|老公|丈夫|妻子|爱人|配偶|媳妇儿?|太太|我先生|俺先生|孩子他?[爸妈]|娃他?[爸妈]|对象",
    "parent": "爸爸|妈妈|父亲|母亲|老爸|老妈|老爹|老娘|爹|娘(?!家)|(?<=[我俺咱他她])[爸妈]|(?<=我老)[爸妈]|婆婆|公公|岳父|岳母|丈母娘",
    "child": "孩子|小孩|娃儿?|宝宝|儿子|女儿|闺女|新生儿",
    "agent": "代办人|经办人|委托人|代理人|受托人|帮办人",
    "contact": "紧急联系人|联系人",
    "landlord": "房东|出租人",
    "other": "爷爷|奶奶|外公|外婆|姥姥|姥爷|哥哥|弟弟|姐姐|妹妹|(?<=[我俺咱])[哥弟姐妹]|舅舅?|姑姑?|叔叔?|阿姨|邻居|朋友|同事|室友|老乡|法人",
    "applicant": "本人|我自己|申请人|户主|参保人|经营者|提取人|失业人员|[我俺咱](?!们|国|市|省|县|区|想|要|是|在|的意思|今年|家|这|那)|[我俺](?=是|在|今年)",
}
# people whose affairs are no part of anybody's form here; not those with whom, or by whose word, something is done
_OUTSIDERS = re.compile(
    "(?<![和跟与同给帮替为])(?:邻居|隔壁|朋友|同事|室友|老乡|同学|工友|战友|亲戚|别人|有的?人|某人|人家)(?!们?(?:都)?(?:说|讲|介绍|推荐|告诉|让|叫[我俺])|一起|合)"
)
_TOGETHER = re.compile("[和跟与同给帮替陪带靠养](?:[我俺咱]的?)?$")
_SENTENCE = re.compile("[。！!？?\n]")
_SPEAKER = re.compile("本人|我自己|[我俺咱](?!们|的?(?:邻居|隔壁|朋友|同事|室友|老乡|同学|工友|战友|亲戚|[一几]个))")
_WORD = re.compile("|".join(f"(?P<{role}>{words})" for role, words in _WORDS.items()))
_FOR = re.compile(
    r"(?:帮|替|给|代|为)(?:[我俺咱]|[他她](?=[\u4e00-\u9fff]*[爸妈爷奶公婆]))?(?:的)?(?P<who>[\u4e00-\u9fff]{1,4}?)(?:办|申请|申领|领|报销|报|问|提交|登记|填|弄|来|交|取)"
)
_IS = re.compile(
    "(?:申请人|参保人|患者|病人|办证人|户主|经营者|职工|缴存人|提取人|产妇|要?办的人?|(?:退休|看病|住院|办证)的人?)(?:就?是|为)[我俺咱](?P<who>[\u4e00-\u9fff]{1,3})"
)
_WANTS = re.compile(
    r"(?P<who>[\u4e00-\u9fff]{1,4}?)(?:[\u4e00-\u9fff0-9岁，,]{0,14}?)(?:想|要|需要|准备|打算|该|快)(?:[去来])?(?:办|申请|申领|领|退休|退了|报销|提取|登记)"
)


class People:
    """Persons of a text. `at` says whose a value at that place is: the role that is named last before it."""

    def __init__(self, text: str, roles: Collection[str], behalf: str = "") -> None:
        """roles: those that the form has fields for. behalf: the word for whom it is known to be filled (妈)."""
        self._starts: list[int] = []
        self._roles: list[str] = []
        last_end = 0
        for match in _WORD.finditer(text):
            role = match.lastgroup or ""
            # 我 of 我老婆, 我的孩子 is not the speaker
            if (
                role != "applicant"
                and self._roles
                and self._roles[-1] == "applicant"
                and re.fullmatch(r"的?", text[last_end : match.start()])
            ):
                self._starts.pop()
                self._roles.pop()
            self._starts.append(match.start())
            self._roles.append(role)
            last_end = match.end()
        known = _WORD.fullmatch(behalf) or _WORD.search("我" + behalf, 1) if behalf else None
        self.behalf = known.lastgroup or "" if known and known.lastgroup != "applicant" else ""
        for pattern in (_FOR, _IS, _WANTS):
            for match in pattern.finditer(text):
                who = _WORD.search("我" + match["who"]) and list(_WORD.finditer("我" + match["who"]))[-1]
                if pattern is _WANTS and (spoken := list(_WORD.finditer(match.group()))):
                    who = spoken[-1]  # 我妈要退休了: who stands nearest to the wish
                if match["who"] in ("他", "她"):  # 我爸到年龄了，帮他办: whom the text spoke of before
                    who = next(
                        (
                            word
                            for word in reversed(list(_WORD.finditer(text[: match.start()])))
                            if word.lastgroup != "applicant"
                        ),
                        None,
                    )
                if who and who.lastgroup not in ("applicant", "agent", "contact", "landlord", None) and not self.behalf:
                    self.behalf = who.lastgroup or ""
        self._known = set(roles)
        self._subjects = [
            (start, role)
            for start, role in zip(self._starts, self._roles, strict=True)
            if role == "applicant" or not _TOGETHER.search(text[max(0, start - 3) : start])
        ]
        ends = [*(match.start() for match in _SENTENCE.finditer(text)), len(text)]
        speakers = [match.start() for match in _SPEAKER.finditer(text)]
        # where outsiders are spoken of: from their word to the end of the sentence, or to where the speaker comes in
        self._outside: list[tuple[int, int]] = []
        for match in _OUTSIDERS.finditer(text) if self.behalf != "other" else ():
            after = bisect.bisect_left(speakers, match.end())
            stop = ends[bisect.bisect_left(ends, match.end())]
            self._outside.append((match.start(), min(stop, speakers[after] if after < len(speakers) else stop)))

    def at(self, place: int) -> str:
        """A role of the form, "" = nobody was named, or "other": somebody whom the form does not have."""
        index = bisect.bisect_right(self._starts, place) - 1
        if index < 0:
            return ""
        role = self._roles[index]
        if role in self._known and role != "applicant":
            return role
        if role == "applicant":
            return "applicant"
        return "applicant" if role == self.behalf else "other"

    def subject(self, place: int) -> str:
        """The role that is spoken of before that place, the applicant's where it is filled for them; not 老婆 of 我和老婆一起."""
        index = bisect.bisect_left(self._subjects, (place, "")) - 1
        role = self._subjects[index][1] if index >= 0 else ""
        return "applicant" if role and role == self.behalf else role

    def outside(self, place: int) -> bool:
        """Whether that place is about a neighbour, a friend, other people: 我邻居家五口人."""
        index = bisect.bisect_right(self._outside, (place, 10**9)) - 1
        return index >= 0 and place < self._outside[index][1]
