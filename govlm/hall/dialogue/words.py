"""What the hall says in a conversation beside what it quotes and what a form asks. {…} is filled with names and labels."""

from __future__ import annotations

__all__ = ["CONSENT_VERSION", "SAYS"]

CONSENT_VERSION = "2026-11"
SAYS = {
    "empty": "您还没有说什么。",
    "hello": "您好，您可以告诉我想办什么事，也可以问条件、材料、费用和地点。",
    "start": "好的，我们来办《{item}》。",
    "resume": "我们接着办《{item}》。",
    "suspend": "《{other}》先放着，填过的都留着，等会儿接着办。",
    "welcome_back": "您上次在办《{item}》，填过的都还在，我们接着办。",
    "no_online": "《{item}》这里不能直接填表，请按上面的指南到窗口或者网上办。",
    "conditions?": "这些条件您都符合吗？",
    "materials?": "材料可以慢慢准备。现在开始填表吗？",
    "say?": "",
    "confirm?": "请您核对：\n{summary}\n都对的话请回复“确认提交”；要改哪一项，直接说就行。",
    "confirm_plain": "请您回复“确认提交”，我才会提交；要改哪一项，直接说就行。",
    "consent": "填表要用到身份证号、银行卡号这类个人信息，只用来办这件事，加密保存，您随时可以要求删除。您同意吗？",
    "consent_refused": "好的，我没有保存您的这些信息。不填也可以带材料到窗口办，或者拨打政务服务热线12345。",
    "consent_lost": "您同意之前说的号码我没有保存，要请您再说一次。",
    "not_eligible": "那这件事可能暂时办不了。情况有变化时随时再来；想问清楚，可以拨打政务服务热线12345或者到窗口。",
    "noted": "记下了：{fields}。",
    "changed": "已改好：{fields}。",
    "skipped": "好的，“{field}”先空着。",
    "required": "“{field}”是必填的，不填就不能提交。您可以现在填，也可以说“取消”或者“转人工”。",
    "not_understood": "我没听明白。",
    "offer_help": "如果不好填，可以说“跳过”“上一步”，或者“转人工”请工作人员帮您。",
    "back_at_start": "已经是第一步了。",
    "nothing_open": "现在没有在办的事。",
    "cancel?": "填过的会清掉。确定不办《{item}》了吗？",
    "cancelled": "好的，《{item}》不办了，填过的已经清掉。",
    "kept": "好的，接着办。",
    "which_field": "要改哪一项？请说出这一项和新的内容。",
    "two_values": "“{field}”您前后说了两个不同的内容，以这次说的“{new}”为准吗？",
    "receipt": "《{item}》已提交，回执号：{receipt}。",
    "receipt_again": "《{item}》已经提交过了，回执号：{receipt}。",
    "progress_none": "您在这里还没有提交过申请。",
    "progress": "您在这里提交过：{receipts}。办到哪一步，请拿回执号到窗口或者拨打政务服务热线12345查询。",
    "handoff": "好的，已经为您请求人工服务，请稍等；也可以直接拨打政务服务热线12345。您填过的都留着。",
    "subject": "好的，改成为{who}办，请重新填写{who}的信息。",
    "form_changed": "《{item}》的表格有了新版本，对得上的内容都留着，有变动的要请您再填一次。",
    "item_gone": "您在办的事项已经不在目录里了，不能再办。",
    "too_deep": "已经有好几件事没办完，请先办完或者取消一件，再办新的。",
    "none_of_these": "请说出事项的名字，或者说“第一个”“第二个”。",
    "busy": "刚才没有保存成功，请您再说一次。",
}
