"""Dates and sums as people write and say them, on a day that is fixed."""

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govlm.hall.values import find_amounts, find_dates, normal

TODAY = date(2026, 11, 24)  # a Tuesday


def day(text):
    return [(text[w.start : w.end], w.day) for w in find_dates(text, TODAY)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024年3月5日", date(2024, 3, 5)), ("2024年03月05日", date(2024, 3, 5)), ("２０２４年３月５日", date(2024, 3, 5)),
        ("2024-3-5", date(2024, 3, 5)), ("2024/03/05", date(2024, 3, 5)), ("20240305", date(2024, 3, 5)),
        ("二〇二四年三月五日", date(2024, 3, 5)), ("二零二四年十二月三十一号", date(2024, 12, 31)), ("3月5号", date(2026, 3, 5)),
        ("去年十月一号", date(2025, 10, 1)), ("下个月五号", date(2026, 12, 5)), ("上个月的二十号", date(2026, 10, 20)),
        ("下下个月1号", date(2027, 1, 1)), ("五号", date(2026, 11, 5)), ("廿八号", date(2026, 11, 28)), ("明天", date(2026, 11, 25)),
        ("大后天", date(2026, 11, 27)), ("昨天", date(2026, 11, 23)), ("下周一", date(2026, 11, 30)), ("上周三", date(2026, 11, 18)),
        ("星期天", date(2026, 11, 29)), ("下下周五", date(2026, 12, 11)), ("三天后", date(2026, 11, 27)), ("两个月前", date(2026, 9, 24)),
        ("一年后", date(2027, 11, 24)), ("15天之前", date(2026, 11, 9)),
    ],
)  # fmt: skip
def test_days(text, wanted):
    assert day(f"我{text}去办") == [(text, wanted)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("今年3月", date(2026, 3, 1), date(2026, 3, 31)), ("2024年2月", date(2024, 2, 1), date(2024, 2, 29)),
        ("2023年", date(2023, 1, 1), date(2023, 12, 31)), ("去年", date(2025, 1, 1), date(2025, 12, 31)),
        ("下个月", date(2026, 12, 1), date(2026, 12, 31)), ("月底", date(2026, 11, 21), date(2026, 11, 30)),
        ("3月上旬", date(2026, 3, 1), date(2026, 3, 10)), ("下周", date(2026, 11, 30), date(2026, 12, 6)),
        ("周末", date(2026, 11, 28), date(2026, 11, 29)),
    ],
)  # fmt: skip
def test_longer_times(text, first, last):
    (found,) = find_dates(f"想在{text}办理", TODAY)
    assert (found.first, found.last, found.day) == (first, last, None)


@pytest.mark.parametrize(
    "text",
    [
        "", "2月30日", "13月5日", "穗府办规〔2024〕13号", "3号楼", "第五号窗口", "一号线", "1234567890", "周", "12345",
        "住址改成梧桐路27号", "松石支路9号附2号", "五和大道北4号201", "华山西路 3 号", "大儒巷11号", "三岔村8号", "沿山村5组6号", "解放路北段12号",
        "编号GA-20261124-0071", "370102 19781109 4519", "110101-1980-01-01-1232", "HT2024-3-5", "合同20240305号A", "8号铺面", "公交2号线", "7栋2号户型", "3号电梯坏了", "几十号人", "E04栋9号", "〔2018〕c23号",
    ],
)  # fmt: skip
def test_what_is_no_day(text):
    assert find_dates(text, TODAY) == []


@pytest.mark.parametrize("text", ["我在医院5号做的手术", "幼儿园5号开学", "这个月5号", "回来的路上5号见", "在家里5号等"])
def test_a_place_before_a_day_is_not_its_street(text):
    assert [w.day and w.day.day for w in find_dates(text, TODAY)] == [5]


def test_dates_joined_by_a_sign_are_dates():
    for text in ("2024.1.1-2024.12.31", "20240101-20241231", "2024-01-01～2024-12-31", "2024/1/1到2024/12/31"):
        assert [w.day for w in find_dates(text, TODAY)] == [date(2024, 1, 1), date(2024, 12, 31)]
    assert day("2024-01-01T10:30:00") == [("2024-01-01", date(2024, 1, 1))]


def test_several_in_a_sentence():
    text = "我2020年6月入职，上个月31号离职，下周三来办"
    assert [w.first for w in find_dates(text, TODAY)] == [date(2020, 6, 1), date(2026, 10, 31), date(2026, 12, 2)]


@given(st.dates(date(1950, 1, 1), date(2099, 12, 31)))
def test_every_day_is_read_back(when):
    for text in (f"{when.year}年{when.month}月{when.day}日", when.isoformat(), f"{when:%Y%m%d}"):
        assert day(text) == [(text, when)]


@given(st.text("0123456789年月日号上下个周星期一二三十天后前明-/. 办", max_size=40))
def test_places_do_not_overlap(text):
    end = 0
    for found in find_dates(text, TODAY):
        assert end <= found.start < found.end <= len(text) and found.first <= found.last
        assert found.last - found.first <= timedelta(366)
        end = found.end


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3500元", "3500"), ("３５００元", "3500"), ("1,200.50元", "1200.50"), ("3.5万元", "35000"), ("2亿元", "200000000"),
        ("五百块", "500"), ("三千五块钱", "3500"), ("两万元", "20000"), ("一百二十三万元", "1230000"), ("五块五", "5.5"),
        ("5元5角", "5.5"), ("三元五角二分", "3.52"), ("人民币壹万贰仟叁佰元整", "12300"), ("￥99.9", "99.9"), ("人民币3万", "30000"),
    ],
)  # fmt: skip
def test_sums(text, wanted):
    (found,) = find_amounts(f"每月{text}，谢谢")
    assert (found.start, found.end, found.yuan) == (2, 2 + len(text), Decimal(wanted))


@pytest.mark.parametrize("text", ["", "第一条", "三个人", "2024年", "元旦", "十元素", "块"])
def test_what_is_no_sum(text):
    assert [a.yuan for a in find_amounts(text)] == ([Decimal(10)] if text == "十元素" else [])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我想贷十五万开个面馆", [("十五万", "150000")]), ("借我六万", [("六万", "60000")]), ("每月交3500就行", [("3500", "3500")]),
        ("一次存1.2万，行吗", [("1.2万", "12000")]), ("工资三千五", [("三千五", "3500")]), ("月租2,650，押一付三", [("2,650", "2650")]),
        ("押金是8千", [("8千", "8000")]), ("花了五百块", [("五百块", "500")]),
        ("交了十五年", []), ("交八成", []), ("存2份", []), ("转交12345办", []), ("交20240305的", []), ("花十分钟", []), ("领三百个", []),
        ("交2024年的", []), ("交100多", []), ("借的100本书", []), ("百分之十五", []), ("交10%", []), ("坐公交276路", []), ("退一万步讲", []),
    ],
)  # fmt: skip
def test_sums_without_a_unit(text, wanted):
    assert [(text[a.start : a.end], a.yuan) for a in find_amounts(text)] == [(part, Decimal(yuan)) for part, yuan in wanted]


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("mobile", "+86 186-2201-3344", "18622013344"), ("mobile", "１８６－２２０１－３３４４", "18622013344"),
        ("mobile", "188\u200b0000\u200b1111", "18800001111"), ("mobile", "(0086)13155667788", "13155667788"),
        ("landline", "0755-26001234转802", "0755-26001234-802"), ("landline", "(0571) 88123456", "0571-88123456"),
        ("landline", "+86-21-5080 1234", "021-50801234"), ("landline", "8451 2367", "84512367"), ("landline", "010 6512 3456", "010-65123456"),
        ("identity_card", "500103 19760404 126x", "50010319760404126X"), ("credit_code", "91330106-ma2hxp8l7r", "91330106MA2HXP8L7R"),
        ("bank_card", "6222 0213\n4567 8901 552", "6222021345678901552"), ("passport", "e 12345678", "E12345678"),
        ("plate", "京a·88X21", "京A88X21"), ("plate", "渝Ｄ８Ｋ２Ｌ６", "渝D8K2L6"), ("email", "jin＠FOXMAIL.com", "jin@foxmail.com"),
        ("date", "二〇一九年八月二十一日", "2019-08-21"), ("date", "下个月五号", "2026-12-05"), ("amount", "叁万捌仟元整", "38000"),
        ("amount", "4876.30元", "4876.3"), ("amount", "15万", "150000"), ("amount", "3500", "3500"),
        ("address", "华山西路 3 号", "华山西路3号"), ("name", "Anna  Schmidt", "Anna Schmidt"), ("name", " 陈思远 ", "陈思远"),
    ],
)  # fmt: skip
def test_one_way_to_write(kind, text, wanted):
    assert normal(kind, text, TODAY) == wanted
    assert normal(kind, wanted, TODAY) == wanted


@pytest.mark.parametrize(
    ("kind", "text"),
    [("mobile", "12345"), ("mobile", "3713800138000"), ("landline", "12345"), ("date", "去年"), ("date", "明天或后天"), ("amount", "很多"),
     ("email", "无"), ("identity_card", ""), ("name", "  ")],
)  # fmt: skip
def test_what_is_no_value_says_so(kind, text):
    with pytest.raises(ValueError, match="is no " + kind.replace("_", " ")):
        normal(kind, text, TODAY)


CASES = Path(__file__).parent / "hall" / "slots.jsonl"


def test_the_cases_of_the_hall():
    """F1 of the dates and the sums, values and places; and the way to write every value that is marked."""
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    for kind in ("date", "amount"):
        hits, wrong = 0, []
        for row in rows:
            text, today = row["text"], date.fromisoformat(row["today"])
            wanted = {(slot["start"], slot["end"], slot["value"]) for slot in row["slots"] if slot["kind"] == kind}
            if kind == "date":
                found = {(w.start, w.end, w.day.isoformat()) for w in find_dates(text, today) if w.day}
            else:
                found = {(a.start, a.end, format(a.yuan.normalize(), "f")) for a in find_amounts(text)}
            hits += len(wanted & found)
            wrong += [(text, text[start:end], value) for start, end, value in sorted(wanted ^ found)]
        f1 = 2 * hits / (2 * hits + len(wrong))
        assert f1 >= 0.98, (kind, f1, wrong)
    for row in rows:
        for slot in row["slots"]:
            assert normal(slot["kind"], slot["text"], date.fromisoformat(row["today"])) == slot["value"], slot


def test_long_text_takes_time_in_proportion():
    """Of 40,000 signs of a kind: a pattern that is quadratic would not return."""
    for sign in ("1", "一", " ", "万", "年", "2024-1-1-", "交3", "5号"):
        find_dates(sign * 40_000, TODAY)
        find_amounts(sign * 40_000)
