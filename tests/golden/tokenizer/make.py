"""Makes vocab.txt (trained by govlm on the sentences below) and golden.json (what transformers answers on it).

python tests/golden/tokenizer/make.py       (needs transformers; the tests need only the two files)
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import tokenizers
import transformers

from govlm.tokenizers import train_wordpiece

HERE = Path(__file__).resolve().parent
PLACES = ["政务服务大厅", "社区服务中心", "不动产登记窗口", "学生事务大厅", "市民之家"]
THINGS = ["社会保险", "居住证", "营业执照", "失业保险金", "住房公积金", "学籍证明", "护照", "退税", "婚姻登记", "残疾人补贴"]
WAYS = ["怎么办理", "需要什么材料", "多少天能办好", "可以网上申请吗", "周六上班吗", "费用是多少", "能不能代办"]
EXTRA = """Please check my application status online. The service hall opens at 9:30 and closes at 17:00.
Café résumé naïve Übergröße İstanbul ΣΊΣΥΦΟΣ Ångström 각 한국어 ひらがな カタカナ
电话 12345，邮箱 hall@example.org，编号 ABC-2024/001。第十二条 本办法自2024年1月1日起施行。
service services serving served application applications apply applied online offline status"""
CASES = [
    "请帮我查询社保缴纳情况",
    "我需要申请失业保险金",
    "",
    "  空格\t和\n换行  ",
    "Please APPLY online，谢谢！",
    "Café RÉSUMÉ naïve Übergröße İstanbul ΣΊΣΥΦΟΣ",
    "각 한국어 ひらがな カタカナ",
    "[CLS]居住证[MASK][SEP] unknownword 龘",
    "a" * 101 + " service",
    "电话12345，hall@example.org",
    "控\u200b制\ufeff字\u0000符\ufffd\u00ad",
    "a\u0323\u0307 \u302e\u0301 \u1100\u1161\u11a8",
    "表情😀和𠀀𪛖",
]
PAIRS = [("营业执照怎么办理", "需要什么材料，多少天能办好？"), ("护照", ""), ("社区服务中心周六上班吗", "hall")]
CALLS: list[dict[str, Any]] = [
    {"return_offsets_mapping": True, "return_special_tokens_mask": True},
    {"padding": True, "truncation": True, "max_length": 12},
    {"padding": "max_length", "max_length": 20, "truncation": "only_first", "padding_side": "left"},
    {"truncation": True, "max_length": 8, "stride": 2, "return_overflowing_tokens": True, "return_offsets_mapping": True},
    {"add_special_tokens": False, "return_length": True},
]
PAIR_CALLS: list[dict[str, Any]] = [
    {"return_offsets_mapping": True},
    {"truncation": "longest_first", "max_length": 16, "padding": "longest", "pad_to_multiple_of": 8},
    {"truncation": True, "max_length": 9, "stride": 1, "return_overflowing_tokens": True},
]


def main() -> None:
    rng = random.Random(7)
    lines = [rng.choice(PLACES) + rng.choice(THINGS) + rng.choice(WAYS) for _ in range(400)] + [EXTRA] * 3
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text("\n".join(lines), encoding="utf-8")
        vocabulary = train_wordpiece(text, 420)
    vocab = HERE / "vocab.txt"
    vocab.write_text("".join(token + "\n" for token in vocabulary), encoding="utf-8")
    golden: dict[str, Any] = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "kinds": {}}
    firsts, seconds = zip(*PAIRS, strict=True)
    for name, lower in (("uncased", True), ("cased", False)):
        tokenizer = transformers.BertTokenizer(str(vocab), do_lower_case=lower)
        rows = [{"texts": CASES, "options": o, "result": dict(tokenizer(CASES, **o))} for o in CALLS]
        rows += [
            {"texts": firsts, "pairs": seconds, "options": o, "result": dict(tokenizer(list(firsts), list(seconds), **o))}
            for o in PAIR_CALLS
        ]
        ids = tokenizer(CASES)["input_ids"]
        golden["kinds"][name] = {
            "do_lower_case": lower,
            "calls": rows,
            "decoded": tokenizer.batch_decode(ids),
            "decoded_plain": tokenizer.batch_decode(ids, skip_special_tokens=True),
            "tokens": [tokenizer.tokenize(text) for text in CASES],
        }
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
