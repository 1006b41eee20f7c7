"""Check digits of numbers that people and organisations bear in China."""

from __future__ import annotations

import calendar
from datetime import date

__all__ = ["credit_code", "identity_card", "luhn"]

# First two digits of GB/T 2260 codes; 81, 82 and 83: residents from Hong Kong, Macao and Taiwan. The four digits after them are
# not looked up: counties are abolished, and their people keep their numbers.
_PROVINCES = frozenset(
    (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83)
)
_WEIGHTS = tuple(2**power % 11 for power in range(17, 0, -1))
_CODE = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CODE_WEIGHTS = tuple(3**power % 31 for power in range(17))


def identity_card(number: str, today: date | None = None) -> bool:
    """Whether 18 characters are a resident identity number (GB 11643-1999): province, a real date of birth, check digit.

    today: a date of birth after it is none; None = any date up to 2099.
    """
    if len(number) != 18 or not (number[:17].isascii() and number[:17].isdigit()):
        return False
    year, month, day = int(number[6:10]), int(number[10:12]), int(number[12:14])
    if int(number[:2]) not in _PROVINCES or not 1850 <= year <= 2099 or not 1 <= month <= 12:
        return False
    if not 1 <= day <= calendar.monthrange(year, month)[1] or (today is not None and date(year, month, day) > today):
        return False
    rest = sum(int(digit) * weight for digit, weight in zip(number, _WEIGHTS, strict=False)) % 11
    return "10X98765432"[rest] == number[17].upper()


def credit_code(number: str) -> bool:
    """Whether 18 characters are a unified social credit code (GB 32100-2015): characters, six digits of the place, check."""
    number = number.upper()
    if len(number) != 18 or any(char not in _CODE for char in number) or not number[2:8].isdigit():
        return False
    total = sum(_CODE.index(char) * weight for char, weight in zip(number, _CODE_WEIGHTS, strict=False))
    return _CODE[(31 - total % 31) % 31] == number[17]


def luhn(number: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
