"""Which parts of a service guide a question asks for, by rules: what people say when they want the materials, the fee, the hours.

The rules are data: (part, pattern). A pattern is read on the text without white space, in simplified characters and small letters;
the item's own names are taken out first, because 医疗费用报销 does not ask for a fee. Where no rule fits, a few key words are
looked for by their sound (才料 for 材料).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from govlm.hall.answers.compose import KINDS
from govlm.hall.retrieval.characters import Characters

__all__ = ["Asked", "asked", "names_nothing", "plain"]


class Asked(NamedTuple):
    """kinds: the parts asked for, in the order of `compose.KINDS`; none = the item as a whole. open: it asks for something that no
    guide holds.
    """

    kinds: tuple[str, ...]
    open: bool = False


_WHAT = r"(?:什么|甚么|啥子?|哪些|哪几|几样|几种|多少|些什么)"
_DO = r"(?:办|认定|加进|恢复|导出|备案|弄|搞|申请|申领|申报|领取?|办理|提取?|提|参保|注册|登记|注销|报销?|缴|交|取|查|打印|走|操作|补|换|迁|转|上|开|预约|认证|续|签|退)"
_CAN = r"(?:能|可以|可|够格|有资格|符合)"
_NUM = r"(?:[0-9]+|[一二两三四五六七八九十百千万几半]+)"

RULES: tuple[tuple[str, str], ...] = (
    # who
    ("audiences", rf"谁(?:才|也)?(?:{_CAN}|该|需要|要办)|(?:哪些|哪类|哪种|什么|啥|什么样的?|哪样的?)(?:人|人员|人家|家庭|群体|企业|单位|学生|职工|老人)"),
    ("audiences", r"面向(?:谁|哪|什么)|针对(?:谁|哪|什么)|(?:服务|办理|适用|申请|保障|发放)(?:对象|人群)|谁来?申请"),
    ("audiences", rf"我(?:们|家|妈|爸|爷爷|奶奶|老婆|老公|孩子|儿子|女儿)?(?:这种?情况|这样的?)?(?:{_CAN})(?:不能?)?{_DO}"),
    # on what conditions
    ("conditions", r"条件|(?:什么|啥|哪些|有|何|具体|申请|办理)要求|资格要求|门槛|标准是(?:什么|啥)|符合(?:什么|啥|哪些)|满足(?:什么|啥|哪些)"),
    ("conditions", r"(?:什么|啥|哪些|何种)情况下?(?:才|都)?(?:能|可以|可)|几岁|多大(?:岁数|年[纪龄])?|多少(?:周)?岁|年龄|什么岁数"),
    ("conditions", r"(?:缴|交|住|工作|参保|满|等|离职|失业)(?:够|满|了)?(?:多少|几)(?:个)?(?:年|月)|够(?:不够)?(?:条件|格)|有没有(?:限制|资格)"),
    ("conditions", rf"我(?:们|家|妈|爸|爷爷|奶奶|老婆|老公|孩子|儿子|女儿)?(?:这种?情况|这样的?)?(?:{_CAN})(?:不能?)?{_DO}"),
    ("conditions", rf"(?:的人?|也|照样|仍然)(?:也|就|都|照样|还)?(?:直接)?(?:能|可以){_DO}|(?:的|者)(?:也|都|就)?(?:能|可以)(?:用.*)?{_DO}"),
    ("conditions", rf"(?:能不能|可不可以|能否|可否)(?:申请|申领|领|享受|参加|提取|落户)|不看条件|(?:谁|什么人|人人)都(?:能|可以)|(?:{_NUM})(?:周)?岁(?:就|才|也|能|可以)"),
    ("conditions", rf"(?:刚|才|满|不满|不到|过期|超过|来了?){_NUM}(?:个)?(?:年|月|天|星期).{{0,4}}(?:就|照样|也|还)?(?:能|可以)|用不着|不用(?:办|申请)|不需要(?:办|申请)"),
    # how
    ("steps", rf"(?:怎么|怎样|咋|如何|怎)(?:个|才能|去|来|样)?(?:在网上|网上|线上)?{_DO}"),
    ("steps", r"流程|步骤|(?:什么|啥|哪些)程序|一步一步|(?:哪|几)(?:几)?步|(?:办理|申请|申报)(?:程序|过程|手续)(?!费)|怎么个(?:办|弄)?法|先.{1,8}再.{1,8}(?:吗|么|还是)|从哪(?:一步|里|儿)开始"),
    # with what
    ("materials", rf"(?<!从交)(?<!交了)材料|(?:要|需|准备|带|交|哪些|什么|啥).{{0,4}}资料|资料清单|(?:什么|哪些|啥)(?:证件|证明|单子|表)|证明文件|证件(?:要|需要|有)|(?:哪些|什么|啥)文件|{_WHAT}(?:手续|东西|东东|物件)(?!费)|申请表"),
    ("materials", rf"(?:带|准备|备|提交|提供|携带|上交|交|拿|备齐|出示)(?:齐|好|上|去|些|点)?{_WHAT}(?!钱|费|时|利息|地方|窗口|部门)"),
    ("materials", r"(?:不用|不要|不需要?|无需|不必|免|要不要|用不用|需不需要|需要|必须|得|要)(?:再|先|去)?(?:带|提供|提交|出示|准备|拿|复印)(?!现金|钱)"),
    ("materials", r"(?:可以|能)不(?:交|带|提供|提交)|不(?:交|带)(?:也)?(?:行|可以)|(?:不用|不要|要不要|需不需要|需要|必须|得|要|用)(?:身份证|户口本|户口簿|照片|相片|复印件|原件|发票|合同|结婚证|房产证|介绍信|委托书|社保卡|银行卡|营业执照|诊断证明)"),
    # what to mind
    ("notes", r"注意|须知|(?:要|需要?|特别)小心|(?:什么|啥|哪些)(?:坑|忌讳|提醒|要当心)|留意|提醒我?(?:什么|啥|一下)|不能代办|(?:能|可以|可)不?(?:能|可以)?(?:让|找|请|叫|委托)?(?:别人|家人|家里人|他人|亲戚|朋友|子女)?(?:代办|代领|替)"),
    # how long
    ("limit", r"多久|多长时间|多少时间|多少天|几天|几日(?!游)|几个?工作[日天曰]|多少个?工作|几个?(?:星期|礼拜|月)(?:能|可以|才|办|下|拿|到)|时限|几时(?:能|可以)|多快|办结(?!果)"),
    ("limit", rf"(?:什么时候|啥时候|何时|哪天|几号)(?:才)?(?:能|可以|会)?(?:办[好完]|下来|批|拿|领到|到账|出|发|寄|好)|(?:等|要|需要?){_NUM}(?:个)?(?:多)?(?:工作日|天|日|月|星期|礼拜|小时)"),
    ("limit", rf"(?:当天|当日|当场|当时|马上|立刻|立马|即时|即刻|立等|现场)(?:就|便)?(?:能|可以|可)?(?:给|办|批|拿|领|取|出|下|好)|{_NUM}个?(?:小时|钟头|工作日|天|日|星期|礼拜|周)(?:之?内|左右)?(?:就)?(?:能|可以)?(?:出|好|批|办|拿|下|到账|完)|办理期限|办结期限"),
    # for how much
    ("conditions", r"标准(?:是|为)?多少"),
    ("fee", r"(?<!标准)(?<!标准是)多少钱|多少前(?:$|[，。？！吗呢])|几块钱|(?:要|用|用不用|要不要|花|交|收|掏|缴)(?:不要|不用|交|花|什么|几个)?钱|钱吗|收(?:不收|取|多少|什么)?.{0,6}费|(?:手续|工本|登记|服务|办证|报名|制证|办理|认证|检查|代办)费(?!用?报|用手工)"),
    ("fee", rf"(?<!医疗)(?<!医药)费用(?:是|多少|怎么|标准|高|说|要|$|[，。？！])|免费|押金|(?:收了?|交|要|付|缴|掏|花)(?:先|个|一次)?(?:{_NUM}|好?几)(?:多|来)?(?:元|块|百|千|万)|(?:要|得)收[0-9一二两三四五六七八九十]|花费|价格|多少费|怎么收费|怎么算钱|得好?几[百千万]"),
    # where and when
    ("places", rf"(?:在|到|去|往|上)(?:哪|那里|那儿|哪里|哪儿)(?!一步|些|几|种|年|天|个|吃|玩|下载)|哪(?:里|儿)(?:能|可以|可|有|给)?(?:{_DO}|受理|交)|哪个?(?:窗口|地方|大厅|网点|派出所|街道|部门(?:办|受理)|单位(?:办|受理))|(?:什么|啥|哪)地方"),
    ("places", r"哪个(?:楼|区|厅)|办理地点|地址(?:是|在|发|给|呢|$|[，。？])|地点|在哪$|几点(?:上班|下班|开门|关门|开始|结束|钟)|(?:上班|办公|工作|营业|开门|下班)时间|(?:周末|周[一二三四五六日天]|星期[一二三四五六日天]|礼拜[一二三四五六日天]|中午|午休|节假日).{0,4}(?:上班|开门|办公|能办|可以办|办公|休息|有人)"),
    # whom to call
    ("phones", r"电话|热线|联系(?:方式|谁|人)|打给谁|怎么联系|找谁(?:咨询|问|投诉)|投诉(?!你|他|她|了)|咨询(?:号码|几号)|号码是(?:多少|几)"),
    # by what law
    ("basis", r"依据(?:是|的|什么|哪|啥|$|[，。？！])|法律依据|政策依据|设定依据|(?:哪|什么|啥|何)(?:部|条|个|一条|一部)?(?:法规?|法律|条例|规定|政策|办法)|哪(?:一)?条|根据(?:什么|哪|啥)|凭什么(?:规定|收)|有(?:没有)?(?:文件|法律|政策)(?:依据|规定)|有(?:什么|啥|没有|明文)?规定(?:吗|么|没|$)"),
    # what one gets
    ("result", r"(?:办完|办好|办成|办下来|最后|打出来|完成|批准|审核通过|通过)(?:以?后|之后|了)?(?:的|会|能|我)?(?:是|给|拿到?|得到|领到?|发|有|怎么发)(?:我|的|到)?(?:是|个)?(?:什么|啥|哪|怎么)?(?:证|凭证|文件|结果|东西)?"),
    ("result", r"(?:给|发|拿到|得到|领到)(?:我|的)?(?:是)?(?:什么|啥|哪种)(?:证|书|文件|凭证|东西|结果)|办理结果|结果(?:是|给)(?:什么|啥)|(?:是)?(?:什么|啥)凭证|怎么发(?:放|$|[，。？])|结果怎么(?:拿|领|取|送)"),
    # without coming
    ("online", r"网上|线上|在线|网络(?:上|办)|网办|手机(?:上|能|可以|办|操作)|app|小程序|公众号|远程|异地能办|不见面"),
    ("online", r"(?:去|跑|到)(?:现场|大厅|窗口)(?:吗|吧|么|不)|(?:必须|一定要|非得|要不要|得|需要|是不是要|是不是得|用不用|要)(?:我)?(?:本人|亲自|亲身)|(?:本人|亲自)(?:去|到|来|办)|跑(?:几|多少|一|两|二|三)(?:趟|次|回)|(?:能|可以|可)(?:不能|不可以)?(?:邮寄|快递|寄)|邮寄(?:吗|么|到家|送达)|快递(?:吗|么|到家|送)"),
)  # fmt: skip
LOOSE: tuple[tuple[str, str], ...] = (
    (
        "conditions",
        rf"(?:还|也|都|就)?(?:能|可以)(?:不能|不可以)?(?:再|继续|提前|重新|单独|享受|报|一起)?(?:{_DO}|享受|吃|用|要)[^，。？?什哪怎啥多几]{{0,10}}(?:吗|么|不$|嘛)|要[^，。？?]{{0,6}}(?:户口|住满|满|交满|缴满)[^，。？?]{{0,6}}吗|外地(?:户口|人|户籍)|超龄",
    ),
)  # read only where no rule fits
# How much one is paid, which is no fee.
_PAID = re.compile(
    r"(?:领|拿|发|补|报销?|给|享受|到手|到账)(?:到|我|们|放|贴|下来|回来|个人|一个人|得)*(?:(?:多少|几|好多)(?:块|百|千|万)*(?:钱|元)|多少(?=[呢啊呀吧？?。，]|$))"
    r"|(?:领|拿|享受|发放?)(?:取|到)?(?:多久|多长时间?|几个?月|多少个?月|几年)"
    r"|(?:每|一)(?:个)?(?:天|日|月|年|季度)(?:多少|几)(?=[呢啊呀吧？?。，]|$)"
    r"|(?:多少|几|好多)(?:块|百|千|万)*(?:钱|元)(?:一|每)(?:个)?(?:天|日|月|年|季度)"
    r"|(?:每|一)(?:个)?(?:天|日|月|年|季度)(?:能|可以|会|给|是|有|大概|大约|得|领|拿|发|补)+(?:多少|几|好多)"
)
_RULES = tuple((kind, re.compile(pattern)) for kind, pattern in RULES)
_LOOSE = tuple((kind, re.compile(pattern)) for kind, pattern in LOOSE)

HEARD: tuple[tuple[str, str], ...] = (
    ("materials", "材料"), ("conditions", "条件"), ("steps", "流程"), ("steps", "怎么办"), ("steps", "怎么申请"), ("steps", "怎么参保"),
    ("fee", "收费"), ("fee", "多少钱"), ("fee", "费用"), ("limit", "多久"), ("limit", "工作日"), ("limit", "几天"), ("places", "在哪里"),
    ("places", "地址"), ("places", "地点"), ("phones", "电话"), ("notes", "注意"), ("online", "网上"),
    ("audiences", "谁能"), ("audiences", "哪些人"), ("result", "结果"),
)  # fmt: skip  # key words that are also known by their sound

# What no guide holds: luck and forecasts, other people's affairs, worth and taste. Each is a class of questions, not a sentence.
_OPEN = tuple(
    re.compile(pattern)
    for pattern in (
        r"吉利|吉日|良辰|八字|算命|算一卦|风水|运势|概率|几率|机率|摇(?:到|中)|中签|准信|缘分",
        r"(?:明年|后年|大后年|将来|未来|下半年|过几年).{0,12}(?:涨|降|调整|取消)|会不会(?:涨|降|取消)|涨到|还会(?:涨|降)",
        r"(?:同事|邻居|朋友|前妻|前夫|人家|(?<!其)他|她|小[王李张刘陈杨赵]|老[王李张刘陈杨赵]).{0,12}(?:(?:领|拿|交)了?(?:多少|几)|工资|存款|住哪|叫什么)|叫什么名字|家庭住址|私人(?:电话|手机)",
        r"心情|好看|漂亮|帅|红包|好吃|好玩|值多少钱|值不值|划算|回本|能赚|能挣|挣多少|赚多少|活到|旅游.{0,8}(?:多少|花)|该(?:买|选|嫁|娶|投)哪",
        r"火星|月球|外星|阴间|天庭|下辈子",
    )
)
_WIDE = {code + 0xFEE0: code for code in range(0x21, 0x7F) if chr(code) not in ",:;!?()"}  # what is no Chinese punctuation


def asked(question: str, names: Iterable[str] = (), characters: Characters | None = None) -> Asked:
    """names: the item's name and aliases. characters: the tables of the index, for traditional characters and for what is only right
    by its sound; without them, neither is read.
    """
    text = plain(question, characters)
    for name in sorted((plain(name, characters) for name in names), key=len, reverse=True):
        if len(name) > 2:
            text = text.replace(name, "　")  # a break that no pattern spans
    found = {kind for kind, pattern in _RULES if pattern.search(text)}
    if not found:
        found = {kind for kind, pattern in _LOOSE if pattern.search(text)}
    if not found and characters is not None:
        heard = characters.heard(text)
        found = {kind for kind, word in HEARD if characters.heard_word(word) in heard}
    if any(pattern.search(text) for pattern in _OPEN):
        return Asked((), True)
    if _PAID.search(text):  # 拿多少 is no question of papers here
        found = (found - {"fee", "limit"} - (set() if re.search("材料|资料|证件|手续", text) else {"materials"})) | {"payment"}
    return Asked(tuple(kind for kind in KINDS if kind in found))


_OF_NOTHING = re.compile(
    r"(?:请问|你们|您们|咱们|这里|这儿|那里|那儿|这边|那边|窗口|大厅|服务|政务|办事|办理|中心|单位|地址|地方|电话|号码|联系|方式|材料|条件|流程|手续|费用|收费|时间|时候"
    r"|上班|下班|开门|关门|办公|营业|周末|中午|星期[一二三四五六日天]?|需要|准备|今天|明天|现在|哪里|哪儿|怎么|咋|什么|多少|多久|多长|几[点天号]|哪|啥|钱|[您你我们的是要在去到走能办有吗呢啊呀吧么想问知道下一请得给告诉和都还就了会])+"
)


def names_nothing(text: str) -> bool:
    """Whether a question names a part of a guide and no matter that the guide would be of: 电话多少, 你们几点下班."""
    bare = re.sub(r"[^\u4e00-\u9fff0-9a-z]", "", plain(text, None))
    return bool(_OF_NOTHING.fullmatch(bare)) and bool(asked(text).kinds)


def plain(text: str, characters: Characters | None) -> str:
    """The text as the rules read it: narrow, small, without white space, and simplified where there are tables for it."""
    text = re.sub(",(?![0-9])", "，", "".join(text.translate(_WIDE).split()).lower())
    if characters is None:
        return text
    return "".join(chr(code) if code else char for code, char in zip(characters.codes(text).tolist(), text, strict=True))
