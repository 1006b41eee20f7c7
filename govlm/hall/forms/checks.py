"""Whether a value may stand in a field: check digits, real days, bounds, choices.

The message says to the citizen what is wrong and what to give. It never repeats the value: messages go into logs, values must not.
"""

from __future__ import annotations

import calendar
import re
from datetime import date
from decimal import Decimal, InvalidOperation

from govlm.hall.forms.schema import FormField
from govlm.numbers import credit_code, identity_card, luhn

__all__ = ["check", "is_name"]

_PLACE = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")  # as numbers.identity_card
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f"
_NAME = re.compile(
    rf"[{_HAN}]{{2,6}}|[{_HAN}]{{1,15}}(?:[·•][{_HAN}]{{1,15}}){{1,4}}|[A-Z][A-Za-z'-]*(?: [A-Z][A-Za-z'-]*){{1,4}}"
)
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_UNIT = re.compile("[省市州盟区县旗乡镇道路街巷弄里村庄号栋幢座楼苑园厦组队寨屯]|小区|胡同|公寓|宿舍")


def check(field: FormField, value: str, today: date | None = None) -> str | None:
    """None = good; else one Chinese sentence. value: as `values.normal` writes it. today: for dates (default: the day it is)."""
    today = today or date.today()
    if not value.strip():
        return f"{field.label}不能为空，请填写。"
    if _CONTROL.search(value):
        return f"{field.label}里有不能识别的字符，请重新填写。"
    if len(value) > field.longest:
        return f"{field.label}太长了，最多{field.longest}个字，请精简后再填。"
    if len(value) < field.shortest:
        return f"{field.label}太短了，至少{field.shortest}个字，请补充完整。"
    kind = field.kind
    if kind == "identity_card":
        return _identity(field.label, value, today)
    if kind == "mobile":
        good = bool(re.fullmatch(r"1[3-9][0-9]{9}", value)) and _in_plan(value)
        return None if good else f"{field.label}不对，手机号码应为11位、以1开头，请核对后重新填写。"
    if kind == "bank_card":
        return _bank_card(field.label, value)
    if kind == "credit_code":
        if not re.fullmatch("[0-9A-Z]{18}", value):
            return f"{field.label}应为18位数字或大写字母，请核对后重新填写。"
        return None if credit_code(value) else f"{field.label}的校验码对不上，可能输错了一位，请对照营业执照重新填写。"
    if kind == "date":
        return _date(field, value, today)
    if kind in ("amount", "count"):
        return _number(field, value)
    if kind in ("choice", "yesno"):
        return None if value in field.enum else f"{field.label}请从这几项里选一项：{'、'.join(field.enum)}。"
    if kind == "name":
        return None if is_name(value) else f"{field.label}看起来不是姓名，请填写与身份证一致的姓名。"
    if kind == "email":
        return None if _EMAIL.fullmatch(value) else f"{field.label}的格式不对，应当像 name@example.cn，请重新填写。"
    if kind == "address":
        good = len(value) >= 4 and bool(_UNIT.search(value) or re.search(r"[0-9]", value))
        return None if good else f"{field.label}不够详细，请写到路名门牌号，或者村组。"
    return None


def is_name(value: str) -> bool:
    """Whether it has the form of a person's name: 2 to 6 characters, parts joined by ·, or Latin words in capitals."""
    return bool(_NAME.fullmatch(value))


def _in_plan(number: str) -> bool:
    import phonenumbers

    return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, "CN")))


def _identity(label: str, value: str, today: date) -> str | None:
    if not re.fullmatch("[0-9]{17}[0-9X]", value):
        length = f"现在是{len(value)}位" if len(value) != 18 else "最后一位之前都应是数字"
        return f"{label}应为18位，{length}，请核对后重新填写。"
    if not _PLACE.match(value):
        return f"{label}的前6位(地区码)不对，没有这样的地区，请核对后重新填写。"
    year, month, day = int(value[6:10]), int(value[10:12]), int(value[12:14])
    if not year >= 1850 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return f"{label}第7到14位的出生日期不存在，请核对后重新填写。"
    if date(year, month, day) > today:
        return f"{label}第7到14位的出生日期晚于今天，请核对后重新填写。"
    if not identity_card(value, today):
        needed = next(digit for digit in "0123456789X" if identity_card(value[:17] + digit))
        return f"{label}的最后一位(校验码)对不上，按前17位应为{needed}，可能有一位输错了，请对照身份证重新填写。"
    return None


def _bank_card(label: str, value: str) -> str | None:
    if not re.fullmatch("[0-9]{12,19}", value):
        return f"{label}应为12到19位数字，请核对后重新填写。"
    if value[0] not in "34569" or len(set(value)) < 3:
        return f"{label}的开头不对，不是银行卡的号码，请核对后重新填写。"
    return None if luhn(value) else f"{label}的校验位对不上，可能有一位输错了，请对照银行卡重新填写。"


def _date(field: FormField, value: str, today: date) -> str | None:
    month = field.precision == "month"
    try:
        day = date.fromisoformat(value + "-01" if month else value)
    except ValueError:
        return (
            f"{field.label}不是真实的日期，请按“2024年3月{'' if month else '5日'}”这样填写{'年和月' if month else '年月日'}。"
        )
    limit = today.replace(day=1) if month else today
    if field.past and day > limit:
        return f"{field.label}晚于今天，请核对后重新填写。"
    if field.future and day < limit:
        return f"{field.label}早于今天，请核对后重新填写。"
    if isinstance(field.minimum, date) and day < field.minimum:
        return f"{field.label}不能早于{_said(field.minimum)}，请核对后重新填写。"
    if isinstance(field.maximum, date) and day > field.maximum:
        return f"{field.label}不能晚于{_said(field.maximum)}，请核对后重新填写。"
    return None


def _said(day: date) -> str:
    return f"{day.year}年{day.month}月{day.day}日"


def _number(field: FormField, value: str) -> str | None:
    try:
        number = Decimal(value)
    except InvalidOperation:
        return f"{field.label}应当是数字，请重新填写。"
    unit = "元" if field.kind == "amount" else ""
    if not re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", value) or (field.kind == "count" and number != int(number)):
        return f"{field.label}应当是{'整数' if field.kind == 'count' else '数字'}，请重新填写。"
    exponent = number.normalize().as_tuple().exponent
    if field.kind == "amount" and isinstance(exponent, int) and exponent < -2:
        return f"{field.label}最多写到分(两位小数)，请重新填写。"
    least = field.minimum if isinstance(field.minimum, Decimal) else Decimal(0)
    if number < least:
        return f"{field.label}不能小于{least}{unit}，请核对后重新填写。"
    if isinstance(field.maximum, Decimal) and number > field.maximum:
        return f"{field.label}不能大于{field.maximum}{unit}，请核对后重新填写。"
    return None
