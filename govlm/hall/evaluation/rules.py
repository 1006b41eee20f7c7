"""The traditional system: keywords and priorities, as the search boxes and question robots of halls work today.

Every item has keywords: its name and aliases whole, and what is left of them between words that say little. A text is folded (width,
letters, punctuation, a list of synonyms), keywords are looked for in it, and the item with the longest hit, then with the most, is
meant. No hit is "no match". What a person does with a sentence is told by fixed intent words. It is built from the catalogue alone,
as an administrator would, and never from the example sentences (`Item.wordings`), which such a system has no use for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date

from govlm.hall.answers.precedence import in_force
from govlm.hall.catalogue.records import Item
from govlm.hall.hall import Hit
from govlm.hall.library import business_of
from govlm.hall.understanding.understand import Understanding

__all__ = ["RuleEngine", "fold"]

# What people say -> what catalogues say. Longer words go first, so that 退休工资 is not read as 退休 and 工资.
SYNONYMS: Mapping[str, str] = {
    "退休工资": "退休金", "养老金": "退休金", "养老钱": "退休金", "医药费": "医疗费用", "医疗费": "医疗费用", "看病的钱": "医疗费用",
    "驾照": "驾驶证", "驾驶本": "驾驶证", "行驶本": "行驶证", "个体户": "个体工商户", "小店执照": "个体工商户", "营业证": "营业执照",
    "户口簿": "户口", "户口本": "户口", "户籍": "户口", "宝宝": "新生儿", "小孩": "孩子", "娃娃": "孩子", "娃": "孩子", "小朋友": "孩子",
    "五险": "社会保险", "社保": "社会保险", "医保": "医疗保险", "低保户": "低保", "车子": "车", "汽车": "车", "机动车": "车",
    "房子": "房屋", "房产": "房屋", "房本": "房产证", "房产证": "房产证", "租房子": "租房", "房租": "租房", "买房子": "买房", "购房": "买房",
    "弄丢": "丢", "掉了": "丢", "丢失": "丢", "遗失": "丢", "不见了": "丢", "到期": "过期", "期满": "过期", "补办": "补领", "重办": "补领",
    "补发": "补领", "更换": "换", "换领": "换", "打算": "想", "咋办": "怎么办", "如何": "怎么", "怎样": "怎么", "咋": "怎么", "钱款": "钱",
    "补贴": "津贴", "补助": "津贴", "扯证": "结婚", "领证": "结婚", "上学": "入学", "念书": "入学", "读书": "入学", "残疾人": "残疾",
    "老年人": "老人", "老头": "老人", "老太太": "老人", "借钱": "贷款", "饭店": "餐饮", "饭馆": "餐饮", "餐馆": "餐饮",
    "下岗": "失业", "被裁": "失业", "没工作": "失业", "外省": "异地", "跨省": "异地", "外地": "异地", "关店": "注销", "不开了": "注销",
}  # fmt: skip

# Words that say what is done, not with what: they part a name, and count only beside another hit.
ACTIONS = (
    "申请", "申领", "申报", "办理", "登记", "核定", "认定", "认证", "查询", "打印", "备案", "报名", "补领", "换领", "换", "补", "签注", "续签",
    "年审", "注销", "设立", "转移", "迁移", "变更", "许可", "审批", "核准", "领取", "发放", "提取", "报销", "缴费", "参保", "过户", "丢", "过期",
    "挂失", "续期", "延期", "注册", "开办", "预约",
)  # fmt: skip
# Words that stand in everything: they part a name, and never count.
STOP = (
    "我", "你", "的", "了", "要", "想", "去", "在", "和", "与", "或", "及", "请问", "怎么", "怎么办", "什么", "需要", "可以", "办", "领", "城乡",
    "居民", "职工", "人员", "公民", "普通", "基本", "待遇", "资格", "服务", "业务", "事项", "手续", "证明", "政府", "中心", "窗口", "材料", "资料",
    "阶段", "有限", "责任", "手工", "记录", "往来", "申请人", "企业", "单位", "个人",
)  # fmt: skip

# In this order: the first that is there decides.
ACT_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("handoff", ("人工", "真人", "客服", "找个人", "叫人", "换个人", "领导", "主任", "接线员", "12345", "工作人员接", "活人",
        "回电")),
    ("repeat", ("再说一", "再讲一", "再发一", "再问一", "重复", "没听清", "没看清", "没听懂", "没听明白", "重新说", "刚才说",
        "刚才问", "刚说", "你说什么", "你说啥", "说到哪")),
    ("skip", ("跳过", "略过", "先不填", "不填了", "空着", "下一项", "下一个", "下一题", "以后再", "以后补", "回头补",
        "回头再", "待会", "等会", "先填别的", "没有这个")),
    ("back", ("上一步", "返回", "退回", "退一步", "退到", "倒回", "往回", "回到", "回去", "前一步", "前面那", "上一项",
        "上一题", "后退", "重新开始", "从头来", "重来")),
    ("cancel", ("取消", "不办了", "别办了", "不想办", "算了", "退出", "不弄了", "不搞了", "不申请了", "不想填", "终止",
        "撤销", "结束", "下次再", "改天")),
    ("progress", ("进度", "到哪一步", "到哪步", "到哪了", "好了没", "好了吗", "批了", "没批", "审核", "什么时候能好",
        "什么时候有结果", "怎么样了", "下来了", "下来没", "没消息", "没到", "收到没", "出来了没", "前天交的", "上周交的",
        "查一下我的")),
    ("correct", ("填错", "写错", "输错", "说错", "打错", "搞错", "弄错", "更正", "改成", "改为", "改一下", "换成", "应该是",
        "修改", "其实")),
    ("smalltalk", ("你好", "您好", "谢谢", "多谢", "感谢", "再见", "拜拜", "辛苦", "早上好", "下午好", "在吗", "哈哈",
        "天气", "你是谁", "机器人")),
    ("provide", ("我叫", "姓名是", "名字是", "号码是", "电话是", "手机号", "地址是", "住在", "身份证号", "生日是", "卡号是",
        "万元", "口人", "月收入", "年出生")),
    ("ask", ("怎么", "什么", "啥", "多少", "吗", "呢", "哪", "几", "能不能", "可不可以", "会不会", "有没有", "要不要",
        "是否", "多久", "请问", "问个", "区别")),
    ("apply", ("我要", "我想", "帮我", "给我", "替我", "申请", "办理", "申办", "要办", "现在办", "就办", "报名", "开始办")),
)  # fmt: skip
# Short answers count only where they are the whole sentence, or begin it.
SHORT_ACTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("deny", ("不是", "不对", "不要", "不用", "不需要", "不同意", "别提交", "先不提交", "没有", "错了", "否", "no", "不")),
    ("confirm", ("是的", "对", "好", "确认", "确定", "没错", "没问题", "可以", "同意", "正确", "嗯", "行", "是", "ok", "yes",
        "提交")),
)  # fmt: skip
_SAID = tuple((word, meant) for word, meant in sorted(SYNONYMS.items(), key=lambda pair: -len(pair[0])))
_SYNONYM = re.compile("|".join(re.escape(word) for word, _ in _SAID))
_PARTING = re.compile("|".join(sorted(map(re.escape, {*ACTIONS, *STOP}), key=len, reverse=True)))
_SHORTEST = 2  # the fewest characters of a keyword
_LONG_NUMBER = re.compile(r"[0-9]{6,}")


def fold(text: str) -> str:
    """Half-width, small letters, no punctuation or white space, synonyms as catalogues say them."""
    narrow = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(char for char in narrow if char.isalnum())
    return _SYNONYM.sub(lambda match: SYNONYMS[match.group()], plain)


class RuleEngine:
    """Answers `understand` and `search` as a `Hall` does."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = list(items)
        self._of: dict[str, list[int]] = {}  # keyword -> items
        for i, item in enumerate(self._items):
            for keyword in _keywords(item):
                self._of.setdefault(keyword, []).append(i)
        actions = {word: fold(word) for word in ACTIONS}
        self._actions: dict[str, list[int]] = {}
        for i, item in enumerate(self._items):
            named = [fold(name) for name in (item.name, *item.aliases)]
            for word in set(actions.values()):
                if any(word in name for name in named):
                    self._actions.setdefault(word, []).append(i)
        self._longest = max(map(len, self._of), default=0)

    def _ranked(self, text: str) -> list[tuple[int, tuple[int, int, int]]]:
        """(item, (its longest hit, characters of all its hits, less the length of its name)), best first; only items with a hit."""
        folded = fold(text)
        hits: dict[int, list[str]] = {}
        for start in range(len(folded)):
            for end in range(start + _SHORTEST, min(start + self._longest, len(folded)) + 1):
                for i in self._of.get(folded[start:end], ()):
                    hits.setdefault(i, []).append(folded[start:end])
        for word, items in self._actions.items():
            if word in folded:
                for i in items:
                    if i in hits:
                        hits[i].append(word)
        scores = {i: (max(map(len, found)), sum(map(len, set(found))), -len(self._items[i].name)) for i, found in hits.items()}
        return sorted(scores.items(), key=lambda entry: (*(-part for part in entry[1]), entry[0]))

    def search(self, text: str, k: int = 10, today: date | None = None) -> list[Hit]:
        """The k items of the highest priority that are in force; fewer, or none, where keywords do not hit."""
        day = today or date.today()
        ranked = [(self._items[i], score) for i, score in self._ranked(text) if in_force(self._items[i], day)][:k]
        total = sum(score[1] for _, score in ranked)
        return [Hit(item.code, item.name, score[1] / total, item.authority, item.region) for item, score in ranked]

    def understand(self, text: str) -> Understanding:
        """No hit is out of scope. It knows no slots, and its confidence is 1 or 0: rules do not tell how sure they are."""
        ranked = self._ranked(text)
        act = _act(text, bool(ranked))
        if not ranked:
            return Understanding("", "", act, (), False, 0.0)
        item = self._items[ranked[0][0]]
        return Understanding(business_of(item), item.code, act, (), True, 1.0)


def _keywords(item: Item) -> set[str]:
    found = set()
    for name in (item.name, *item.aliases):
        whole = fold(name)
        found.add(whole)
        pieces = [piece for piece in _PARTING.split(whole) if len(piece) >= _SHORTEST]
        found.update(pieces)
        for piece in pieces:  # 最低生活保障: people say the beginning or the end of a long one
            if len(piece) >= 2 * _SHORTEST:
                found.update((piece[:_SHORTEST], piece[-_SHORTEST:], piece[:4], piece[-4:]))
    return {keyword for keyword in found if len(keyword) >= _SHORTEST and keyword not in STOP and keyword not in ACTIONS}


def _act(text: str, named: bool) -> str:
    """What is none of the words is an answer to a question of the form, or names the item that is wanted."""
    folded = fold(text)
    if _LONG_NUMBER.search(folded):
        return "provide"
    for act, words in ACT_WORDS:
        if any(word in folded for word in words):
            return act
    for act, words in SHORT_ACTS:
        if folded.startswith(words):
            return act
    return "apply" if named else "provide" if folded else "smalltalk"
