"""What a message does in a conversation, as far as its words say it plainly. Everything that acts (submitting, cancelling, handing over)
is decided here by rules over the whole message, never by a model: a model that errs must not do anything in a person's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from govlm.hall.forms.rules import Problem
from govlm.hall.understanding.examples import ACTS
from govlm.hall.understanding.plain_words import ASKING, CORRECTING, NO, NOTHING, YES, is_greeting

__all__ = ["ASKS", "Heard", "Hearing", "Said", "bare_apply", "kin", "ordinal", "plain_act", "points", "subject"]


@dataclass(frozen=True)
class Said:
    """What a message says for a form. withheld: fields among the values that may not be kept before the person has agreed. cleared:
    fields whose value is taken out."""

    values: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    withheld: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        return bool(self.values or self.problems or self.cleared)


@dataclass(frozen=True)
class Heard:
    """A message, understood as far as it can be without the conversation.

    act: what it does (examples.ACTS, and resume and submit), by the rules here where they are sure (`plain`), else by the model.  item:
    the code that it is most likely about, "" = of none; named: it says so outright.  likely: codes that it may be about.  kinds: parts
    of a guide that it asks for; asks: it is a question.  said: for the form of the open procedure; opening: for the form of `item`.
    """

    text: str
    act: str = ""
    plain: bool = False
    item: str = ""
    named: bool = False
    likely: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    asks: bool = False
    said: Said = field(default_factory=Said)
    opening: Said = field(default_factory=Said)
    ordinal: int = 0  # 第二个 = 2, the last = -1
    procedure: str = ""  # name of the procedure of several items that it names outright
    subject: str = ""  # 换成我妈的: 妈
    kin: str = ""  # 我爸叫…, where the applicant's name is asked: 爸
    of_kin: Said = field(default_factory=Said)  # what is said, were it done for them
    points: bool = False  # 那个也办: to what was talked about last
    gives: bool = False  # it says who the person is, or a number of theirs

    @property
    def begins(self) -> bool:
        """Whether its yes says what to do: 开始填, 办吧, 都符合."""
        return bool(_BEGINS.search(self.text))

    @property
    def thanks(self) -> bool:
        return "谢" in self.text

    @property
    def lacks(self) -> bool:
        """Whether it says that there is none of something: 没有手机."""
        return bool(_LACKS.fullmatch(self.text.strip()))

    @property
    def reviews(self) -> bool:
        """Whether it wants to see what has been filled."""
        return bool(_REVIEWS.search(self.text))

    @property
    def why(self) -> bool:
        """Whether it asks what something is needed for."""
        return bool(_WHY.search(self.text))

    @property
    def goes_on(self) -> bool:
        """Whether it says to go on: 接着填吧, 还是办吧."""
        return self.does("resume") or bool(_ON.search(self.text))

    @property
    def consents(self) -> bool:
        """Whether its yes is one to a question of leave: 同意, 可以; not 准备好了, 开始吧, which answer something else."""
        return bool(_LEAVE.search(_READY.sub("", self.text.lower())))

    @property
    def wants(self) -> str:
        """What would be started: a procedure's name, or an item's code."""
        return self.procedure or self.item

    def does(self, *acts: str) -> bool:
        """Whether its act is one of these."""
        return self.act in acts


_GUESSED = frozenset({"", *ACTS}) - {"cancel", "handoff"}  # what acts is decided by rules
# What the model takes for one of these has to say so in some word; a message without any changes nothing.
_BORNE_OUT = {
    "confirm": re.compile(rf"{YES}|符合|满足|够|备|齐|开始|继续|接着|填|办|申请|成"),
    "deny": re.compile("不|没|别|非|未|否|错|无|缺|少|差"),
    "skip": re.compile("不(?!是)|空|跳|略|过|忘|免|难|下一|以后|回头|晚点|先放"),
    "progress": re.compile("进度|办到|到哪|批|审|下来|结果|查|受理|回执|好了没|申请"),
    "repeat": re.compile("再|遍|重|清|懂|明白"),
    "back": re.compile("回|退|上|前"),
    "correct": re.compile("不|错|改|换|应|更|才|重|是"),
}


class Hearing(Heard):
    """As Heard, where the model is asked only when the answer changes something: a yes, or a value for the field that was asked, is
    plain without it, and it takes longer than all the rest. rules: the fields that rules decide; act, about and opening give the others.
    """

    _by_words: str
    _guess: Callable[[], str]
    _found: Callable[[], tuple[str, tuple[str, ...]]]
    _said_for: Callable[[str], Said]

    def __init__(
        self, text: str, by_words: str, rules: Mapping[str, object], act: Callable[[], str],
        about: Callable[[], tuple[str, tuple[str, ...]]], opening: Callable[[str], Said],
    ) -> None:  # fmt: skip
        """act: by the model, asked where by_words, the act by rules, leaves it open. about: (item, likely). opening: what is said for
        the form of the item."""
        self.__dict__.update({"text": text, "plain": bool(by_words), **rules})
        self.__dict__.update({"_by_words": by_words, "_guess": act, "_found": about, "_said_for": opening})

    def does(self, *acts: str) -> bool:
        by_words = self._by_words
        possible = {"ask", "apply"} if by_words == "ask" else {by_words} if by_words else _GUESSED
        return not possible.isdisjoint(acts) and self.act in acts

    @cached_property
    def act(self) -> str:  # type: ignore[override]
        by_words = self._by_words
        if by_words and (by_words != "ask" or self.kinds):
            return by_words
        guessed = self._guess()
        if by_words:  # 我想申请低保可以吗
            return "apply" if guessed == "apply" else by_words
        guessed = {"cancel": "deny", "handoff": ""}.get(guessed, guessed)
        if guessed == "apply":
            if _DECLINES.search(self.text):
                guessed = ""
            elif self.kinds or self.asks or _LOOKS_UP.search(self.text) or _TELLS.search(self.text):
                guessed = "ask"
        needed = _BORNE_OUT.get(guessed)
        return guessed if needed is None or needed.search(self.text) else ""

    @cached_property
    def _about(self) -> tuple[str, tuple[str, ...]]:
        return self._found()

    @property
    def item(self) -> str:  # type: ignore[override]
        return self._about[0]

    @property
    def likely(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._about[1]

    @cached_property
    def opening(self) -> Said:  # type: ignore[override]
        return self._said_for(self.wants)


_LACKS = re.compile(rf"(?:我|俺|家里|名下|现在|目前|还|也|都)*(?:{NOTHING}|没办|没开|没用)(?:有|过)?[^，。？?吗]{{1,8}}[。！]?")
_REVIEWS = re.compile(
    "填了(?:些|哪些|什么|啥|多少)|(?:看|瞧|查|核对|检查)(?:一?下|看|一遍)?(?:我|都|刚才)*(?:填|写)(?:的|过|了)|(?:我|都)填(?:的|了)(?:是)?(?:什么|啥|哪些)|看看填"
)
_WHY = re.compile(
    "(?:为什么|为啥|干嘛|干吗|凭什么|凭啥|咋)(?:还|一定|非得|就)?(?:要|得|需要|填|给|问|提供)|(?:有什么|有啥|干什么|做什么|啥)用(?:的|吗|处|途)?[？?。]?$|要(?:这个|它|来)?(?:干嘛|干什么|干啥|做什么)"
)
_ON = re.compile("继续|接着|还是(?:要|得|想)?(?:办|填|弄)|等等|等一下|慢着|先别")
_LOOKS_UP = re.compile("(?:查|问|咨询|了解|打听|看看)(?!.*(?:办|申请|申领))")  # 帮我查下退休年龄 applies for nothing
# 我爸要退休了 tells what will be, 我要申请退休了 applies
_TELLS = re.compile("(?:要|快|马上|即将|刚|已经)(?!.*(?:办|申|领|补|换|登记|报|填|开始)).{1,8}了[，。！]?$")
_DECLINES = re.compile("(?:不|甭|别)(?:想|要|用|打算|准备)?再?(?:办|申请|申领|弄|领|报|提)(?!.*[吗？?])")
_LEAVE = re.compile("同意|可以|允许|授权|愿意|没问题|没有问题|没意见|确认|确定|好|行|是|对|嗯|恩|成|要得|中|ok|yes|okay|知道")
_READY = re.compile("准备好|你好|您好|(?:准|具|齐)备|是不是")
_BEGINS = re.compile("开始|填|办|申请|申领|提交|符合|满足|齐|都有|准备好")
_FILLER = r"[，。！？!?,.、；;~～…\s]|[啊呀哦噢哟吧呢嘛哈咯了的]|那|那就|就|我|都|也|谢谢|麻烦|您好?|你好?|这样|了吧"
_YES = rf"{YES}|恩|成|没有问题|没意见|确定|允许|授权|符合|满足|具备|够|条件|要求|准备|准备好|齐|备齐|带齐|知道|明白|清楚|提交|办理?|填表?|表格?|继续|接着|往下|下一步|开始|填|现在|能|带了|都带|ok|yes|okay|准确|无误|(?:没|没有)(?:填|写|说|弄|搞|记|打)错|[填写说]的(?:没错|对|是对的)|以?(?:这次|后面|后来|现在|新|刚才)(?:说)?的?这?个?为准|嘛|信息|以上|核对过|看过"
_NO = rf"{NO}|不可以|不符合|不满足|不够|别|错了?|不确认|不提交|先不提交|还不|不准备|(?:还是)?(?:以|按|照)(?:前面|之前|原来|先前|上次|头一次|第一次)(?:说|填)?的?那?个?(?:为准|来|算)?|no"
_ALL_YES = re.compile(rf"(?:{_FILLER}|{_YES})*(?:{_YES})(?:{_FILLER}|{_YES})*")
_ALL_NO = re.compile(rf"(?:{_FILLER}|{_NO}|{_YES}|还|先|齐)*(?:{_NO})(?:{_FILLER}|{_NO}|{_YES}|还|先)*")
_NEGATED = re.compile(r"不|没|别|否|未")
_NOT_WRONG = re.compile(r"没(?:有)?(?:填|写|说|弄|搞|记|打)?错|没问题|没有问题|没意见|无误|没有错")
_CONFIRM = re.compile(r"确认|确定|提交|没错|没问题|没有问题|无误|正确|^(?:是|对)")
_CANCEL = re.compile(
    r"取消|(?:不|甭|别)(?:想|要|用)?(?:再)?(?:办|申请|申领|弄|搞|填|领|报销|提|登记)(?:[^，。？?不没了]{2,12})?了|不(?:办|申请|弄|搞)了|算了|作罢|撤销申请|(?:放弃|停止|终止|结束|退出)(?:办理|申请|填写)?"
)
_NOT_CANCEL = re.compile(
    r"怎么|如何|能不能|可以.*吗|吗[？?]?$|[？?]$|取消(?:的|后|之后|以后|了会|预约|登记)|先不(?:办|填)|不(?:改|换|修改)了|这(?:个|项|一项|条)(?:先)?不填|(?:别|不要|不想|不|没|没有)(?:要)?取消"
)
_HANDOFF = re.compile(
    r"(?:转|找|要|接|换|叫|请|喊|帮我找|帮我转|跟|和|让)(?:一?下|个|你们的?|到)?(?:人工|真人|客服|工作人员|活人|专员|窗口的?人|办事员|人来|人跟我)|人工(?:服务|客服|坐席)?$|^(?:人工|客服|转接)|不想(?:跟|和)(?:机器|你)"
)
_REPEAT = re.compile(
    r"(?:再|重新?|重复)(?:说|讲|念|问|发|来|给我说|给我讲)?(?:一遍|一次|一下)|^[嗯啊][？?]+$|^(?:啥|什么|没听清|没听懂|没看清|没看懂|您?你?说什么|说啥|刚才(?:说|问)(?:什么|的?啥))[？?。！]*$|没(?:听|看)(?:清|明白|懂)|刚(?:才)?(?:说|问)的?(?:是)?(?:什么|啥)"
)
_BACK = re.compile(
    r"(?:上一?步|上一?项|上一?个|前一?步|前一?项|前一?个|返回|退回|倒回|往回|回退|后退)(?!月|年|周|星期|礼拜)|回到(?:上|前)"
)
_SKIP = re.compile(
    r"跳过|略过|(?:先|暂时|暂且)?(?:不|别|没法|没办法)(?:想|能|方便|愿意)?(?:填|写|说|给|提供|告诉|答|回答)(?!了?错|我|他|她)|(?:这个|这项|这一项|这条|它)?(?:先)?(?:空着|放一?放|放着)|(?:以后|回头|待会|等会|晚点|稍后)儿?(?:再)?(?:填|说|补|写|给)|下一(?:个|项|步|题)|不知道|不清楚|记不(?:得|清|住)|忘了|保密"
)
_APPLY = re.compile(
    r"(?:^|[，,。；;！!\s]|那|好|就)(?:我|俺|咱)?(?:也|还|现在|先|就)*(?:想|要|需要|准备|打算|帮我|给我|麻烦你?)*(?:申请|申领|办理?|提取?|报销?|领取?|登记|补办)(?:一下|这个|它|吧|了|啦|呗)*$|(?:帮我|给我|替我|顺便|一起|一块|把)[^，。？?不没]{0,12}(?:办|申请|申领)(?:一下|了|掉|吧)*$"
)
_BARE_APPLY = re.compile(
    r"(?:[，,。；;！!？?\s]|那|好|就|嗯|行|我|俺|咱|也|还是|还|现在|先|想|要|需要|准备|打算|帮我|给我|麻烦你?|申请|申领|办理?|提取?|报销?|领取?|登记|补办|一下|这个|它|吧|了|啦|呗|的)+"
)
_SKIP_ALONE = re.compile(
    r"(?:这个|这项|我|俺|就|那|先|暂时|也|[，,。])*(?:(?:不|别)(?:太|大)?(?:想|能|愿意|方便)?(?:填|写|说|提供|告诉你?|答|回答|知道|清楚|晓得|记得)|记不(?:清|得|住))(?:楚|了|啊|呀|的|这个|这项|[，,。！!])*"
)
_NOT_SKIP = re.compile(r"所有|全部|全都|通通|直接.{0,6}(?:提交|通过|确认)")
_RESUME = re.compile(r"^(?:我们|咱们?|我|那|好|现在)?(?:还是|接着|继续|回到|回去|回来|往下)")
_PROGRESS = re.compile(
    r"(?:办|批|审|审核|处理|进行)?到(?:哪|什么)(?:一?步|儿|里|程度|环节)|进度|(?:批|办|审|弄|下来)(?:好|完|下来)?了?(?:没有?|没)[？?]?$|(?:查|看)(?:一?下)?(?:我的?)?(?:办件|申请)(?:情况|状态|记录)?"
)
ASKS = re.compile(rf"{ASKING}|吗|呢[。！]?$|怎样|哪|几(?:天|个|份|时|号|点)|如何|要不要|有没有|用不用|需不需要|多久|多长")
_CORRECT = re.compile(rf"{CORRECTING}|不是|改一下|修改|重填|重新填|才对|更改")
_ORDINAL = re.compile(
    r"第\s?([一二三四五六1-6])\s?(?:个|项|种|件|条)|^(?:选|要|办|就|就办)?\s?([一二三四五六1-6])(?:号|吧|个)?[。！.]?$|(最后|末)(?:一?)(?:个|项|件)|(前|头|上面)(?:一?|那)(?:个|项|件)|(后|下)(?:面|边)?(?:一?|那)(?:个|项|件)"
)
_KIN = r"爸爸?|妈妈?|父亲|母亲|老爸|老妈|爷爷|奶奶|外公|外婆|姥姥|姥爷|老公|老婆|丈夫|妻子|爱人|儿子|女儿|闺女|孩子|娃|哥哥?|弟弟?|姐姐?|妹妹?|婆婆|公公|岳父|岳母|孙子|孙女|自己|本人"
_SUBJECT = re.compile(
    rf"(?:换成?|改成?|改为|变成|换做)(?:给|帮|替)?(?:我|俺|咱)?(?:的)?({_KIN})(?:的|来)?(?:办|申请|吧|了|。|$)|(?:换成?|改成?)(?:给|帮|替)(?:我|俺)?({_KIN})|^(?:那|就|是|我)?(?:给|帮|替)(?:我|俺)?(?:的)?({_KIN})(?:办|申请|弄|领|报|填|登记)(?:的|吧|了)?[。！]?$|(?:我|俺)(?:的)?({_KIN})[^。？?]{{0,16}}(?:给|帮|替)[他她](?:办|申请|弄|领|报|填|登记)"
)
_KIN_CALLED = re.compile(rf"(?:我|俺|咱)(?:的)?({_KIN})(?:的)?(?:名字|姓名)?(?:叫|是(?=[^的]))")
_POINTS = re.compile(
    "^(?:那|好|行|我|就|把|[，, ])*(?:那个|这个|它|那件事?|这件事?)(?:我)?(?:也|都|一起|一块|顺便|帮我|给我|想|要)+(?:一起|一块|给|帮我|给我)*(?:办|申请|弄)"
)
_NUMERALS = {c: i for i, c in enumerate("一二三四五六", 1)} | {str(i): i for i in range(1, 7)}


def plain_act(text: str) -> str:
    """The act that a message (as `answers.asked.plain` writes it) does by its words alone; "" where they do not tell.

    confirm and deny only where the whole message is a yes or a no. `submit`: a confirm that is outspoken enough to submit by.
    """
    if len(text) > 60:  # a story: what it does stands in no formula
        return ""
    bare = re.sub(r"^[，。！、\s]+|[，。！、\s]+$", "", text)
    if is_greeting(bare):
        return "smalltalk"
    asks = bool(ASKS.search(bare))
    for act, rule in (("handoff", _HANDOFF), ("repeat", _REPEAT)):
        if rule.search(bare):
            return act
    cancel = _CANCEL.search(bare)
    if cancel and not _NOT_CANCEL.search(bare) and (not asks or cancel.end() >= len(bare) - 3):
        return "cancel"
    if _PROGRESS.search(bare):
        return "progress"
    if not asks:
        if _SKIP_ALONE.fullmatch(bare):
            return "skip"
        if _ALL_YES.fullmatch(bare) and not _NEGATED.search(_NOT_WRONG.sub("", bare)):
            return "submit" if _CONFIRM.search(bare) and len(bare) <= 24 else "confirm"
        if _ALL_NO.fullmatch(bare) and not _ALL_YES.fullmatch(_NOT_WRONG.sub("是", bare)):
            return "deny"
    corrects = bool(_CORRECT.search(bare))
    if _BACK.search(bare) and not asks and (not corrects or len(bare) < 9):
        return "back"
    if _APPLY.search(bare):
        return "apply"
    if corrects:
        return "correct"
    if _SKIP.search(bare) and not asks and not _NOT_SKIP.search(bare):
        return "skip"
    if _RESUME.search(bare) and not asks:
        return "resume"
    return "ask" if asks else ""


def bare_apply(text: str) -> bool:
    """Whether a message wants to apply and says nothing of what for: 那我要申请."""
    return bool(_BARE_APPLY.fullmatch(text))


def ordinal(text: str) -> int:
    """Which of the things that were offered a message names: 1 the first, -1 the last; 0 none."""
    match = _ORDINAL.search(text)
    if not match:
        return 0
    first, alone, last, former, latter = match.groups()
    return _NUMERALS[first or alone] if first or alone else -1 if last or latter else 1 if former else 0


def kin(text: str) -> str:
    """Whose name a message gives: 爸 of 我爸叫周建国; "" where it gives none of kin."""
    match = _KIN_CALLED.search(text)
    return match[1] if match else ""


def points(text: str) -> bool:
    """Whether a message wants what was talked about last: 那个也一起办."""
    return bool(_POINTS.search(text))


def subject(text: str) -> str:
    """For whom it is to be done from now on: 妈 of 换成我妈的; "" where the message does not change it."""
    match = _SUBJECT.search(text)
    return next((group for group in match.groups() if group), "") if match else ""
