"""Dates and sums as people write and say them, on a day that is fixed."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govlm.hall.values import find_amounts, find_dates

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
    "text", ["", "2月30日", "13月5日", "穗府办规〔2024〕13号", "3号楼", "第五号窗口", "一号线", "1234567890", "周", "12345"]
)
def test_what_is_no_day(text):
    assert find_dates(text, TODAY) == []


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
