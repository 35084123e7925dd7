"""Dates as ``java.text.SimpleDateFormat`` writes and reads them, leniently, in UTC and in English.

Moments are milliseconds since 1970. Before 15 October 1582 Java counts by the Julian calendar, and so does this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

DAY = 86_400_000
_LETTERS = "GyYMLwWDdFEuaHkKhmsSzZX"
_TEXTS = frozenset("GEazZX")
_UNREADABLE = frozenset("wWF")
"""Letters of weeks, which only mean something together with others."""
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_HOURS_OF_ZONES = {
    **dict.fromkeys(("UTC", "GMT", "UT", "Z"), 0),
    "EDT": -4,
    "EST": -5,
    "CDT": -5,
    "CST": -6,
    "MDT": -6,
    "MST": -7,
    "PDT": -7,
    "PST": -8,
}
_NUMBER = re.compile(r"-?\d+")
_OFFSET = re.compile(r"(?:GMT)?([+-])(\d{1,2}):?(\d{2})?")
_ZONE = re.compile("|".join(sorted(_HOURS_OF_ZONES, key=len, reverse=True)))
_FIRST_GREGORIAN_DAY = -141_427
_TEXTS_KEPT = 1_024
"""Texts that a pattern keeps, because the moments of consecutive records are often of one day or second."""
_UNITS = {"S": 1, "s": 1_000, "m": 60_000, **dict.fromkeys("HkKha", 3_600_000)}
"""How much of a moment a letter shows, in milliseconds; all others show the day."""
_LAST_CENTURY = 80
"""A year of two digits is between 80 years ago and 20 years ahead."""


class Element(NamedTuple):
    """A field of a pattern (``letter`` and how often it stands there), or a literal text (``letter`` empty)."""

    letter: str
    width: int
    text: str = ""


class Civil(NamedTuple):
    """A moment in the calendar; ``weekday`` 0 is Sunday."""

    year: int
    month: int
    day: int
    weekday: int
    day_of_year: int
    milliseconds: int


class JavaDateFormat:
    """A pattern of SimpleDateFormat."""

    def __init__(self, pattern: str, current_year: Callable[[], int]) -> None:
        """``current_year``: for years of two digits. Raise ValueError when the pattern is invalid."""
        self.pattern = pattern
        self._current_year = current_year
        self._elements = _elements(pattern)
        self._unit = _unit(self._elements)
        self._text_of = lru_cache(maxsize=_TEXTS_KEPT)(self._format)
        self._common = _common_form(self._elements)
        self._letters = [item.letter for item in self._elements if item.letter]

    def format(self, moment: int) -> str:
        """Return the moment as text."""
        return self._text_of(moment - moment % self._unit)

    def _format(self, moment: int) -> str:
        civil = civil_of(moment)
        return "".join(item.text if not item.letter else _formatted(item, civil) for item in self._elements)

    def parse(self, text: str) -> int:
        """Return the moment. Text after the pattern is ignored. Raise ValueError."""
        if self._common is not None and (match := self._common.match(text)):
            return _moment(dict(zip(self._letters, map(int, match.groups()), strict=True)))
        return self._parse(text)

    def _parse(self, text: str) -> int:
        found: dict[str, int] = {}
        at = 0
        for number, item in enumerate(self._elements):
            if not item.letter:
                if not text.startswith(item.text, at):
                    raise self._mismatch()
                at += len(item.text)
                continue
            following = self._elements[number + 1] if number + 1 < len(self._elements) else None
            at = self._read(item, text, at, following, found)
        return _moment(found)

    def _read(self, item: Element, text: str, at: int, following: Element | None, found: dict[str, int]) -> int:
        """Read one field; return where it ends."""
        while at < len(text) and text[at] in " \t":
            at += 1
        if item.letter in _UNREADABLE:
            raise ValueError(f"texts cannot be read with '{item.letter}' in the pattern ({self.pattern})")
        if item.letter in "ML" and item.width >= 3:
            return self._named(text, at, _MONTHS, found, item.letter)
        if item.letter == "E":
            return self._named(text, at, _WEEKDAYS, found, "E")
        if item.letter == "a":
            return self._named(text, at, ["AM", "PM"], found, "a")
        if item.letter == "G":
            return self._named(text, at, ["BC", "AD"], found, "G")
        if item.letter in "zZX":
            return self._zone(text, at, found)
        end = len(text)
        if following is not None and _is_number(following):
            end = at + item.width
            if end > len(text):
                raise self._mismatch()
        match = _NUMBER.match(text, at, end)
        if match is None:
            raise self._mismatch()
        value = int(match[0])
        if item.letter in "yY" and item.width <= 2 and len(match[0]) == 2 and value >= 0:
            value = self._full_year(value)
        found[item.letter] = value
        return match.end()

    def _full_year(self, value: int) -> int:
        first = self._current_year() - _LAST_CENTURY
        year = first - first % 100 + value
        return year if year >= first else year + 100

    def _named(self, text: str, at: int, names: Sequence[str], found: dict[str, int], letter: str) -> int:
        rest = text[at:].lower()
        fits = [
            (len(name), index)
            for index, full in enumerate(names)
            for name in (full, full[:3])
            if rest.startswith(name.lower())
        ]
        if not fits:
            raise self._mismatch()
        length, index = max(fits)
        found[letter] = index + 1 if letter in "ML" else index
        return at + length

    def _zone(self, text: str, at: int, found: dict[str, int]) -> int:
        if match := _OFFSET.match(text, at):
            minutes = int(match[2]) * 60 + int(match[3] or 0)
            found["Z"] = minutes if match[1] == "+" else -minutes
        elif match := _ZONE.match(text, at):
            found["Z"] = _HOURS_OF_ZONES[match[0]] * 60
        else:
            raise self._mismatch()
        return match.end()

    def _mismatch(self) -> ValueError:
        return ValueError(f"the text does not match the pattern {self.pattern}")


def civil_of(moment: int) -> Civil:
    """Return the moment in the calendar."""
    days, milliseconds = divmod(moment, DAY)
    year, month, day = _date_of(days)
    return Civil(year, month, day, (days + 4) % 7, days - _day_of(year, 1, 1) + 1, milliseconds)


def _elements(pattern: str) -> list[Element]:
    """Return the parts of a pattern. Raise ValueError."""
    elements: list[Element] = []
    at = 0
    while at < len(pattern):
        sign = pattern[at]
        if sign == "'":
            literal, at = _quoted(pattern, at)
            elements.append(Element("", 0, literal))
        elif sign.isascii() and sign.isalpha():
            if sign not in _LETTERS:
                raise ValueError(f"Illegal pattern character '{sign}'")
            end = at
            while end < len(pattern) and pattern[end] == sign:
                end += 1
            elements.append(Element(sign, end - at))
            at = end
        else:
            elements.append(Element("", 0, sign))
            at += 1
    return elements


def _quoted(pattern: str, at: int) -> tuple[str, int]:
    """Return the literal that begins with the quote at ``at``, and where it ends. Two quotes are a quote."""
    if pattern.startswith("''", at):
        return "'", at + 2
    literal = ""
    at += 1
    while at < len(pattern):
        if pattern.startswith("''", at):
            literal += "'"
            at += 2
        elif pattern[at] == "'":
            return literal, at + 1
        else:
            literal += pattern[at]
            at += 1
    raise ValueError("Unterminated quote")


def _unit(elements: Sequence[Element]) -> int:
    """Return the milliseconds within which all moments have the same text."""
    return min((_UNITS.get(item.letter, DAY) for item in elements), default=DAY)


def _common_form(elements: Sequence[Element]) -> re.Pattern[str] | None:
    """Return an expression for texts of digits as they are mostly written; None for patterns that need more.

    A text that does not match it (with spaces, signs or other digits) may match the pattern.
    """
    letters = [item.letter for item in elements if item.letter]
    plain = all(
        item.letter in "yMdHmsSD" and (item.letter != "y" or item.width > 2) for item in elements if item.letter
    )
    if not plain or len(set(letters)) < len(letters) or any(item.letter == "M" and item.width > 2 for item in elements):
        return None
    parts = []
    for number, item in enumerate(elements):
        if not item.letter:
            parts.append(re.escape(item.text))
            continue
        followed = number + 1 < len(elements) and bool(elements[number + 1].letter)
        parts.append(f"([0-9]{{{item.width}}})" if followed else "([0-9]+)")
    return re.compile("".join(parts))


def _is_number(item: Element) -> bool:
    return bool(item.letter) and item.letter not in _TEXTS and not (item.letter in "ML" and item.width >= 3)


def _formatted(item: Element, civil: Civil) -> str:
    letter, count = item.letter, item.width
    match letter:
        case "G":
            return "AD" if civil.year > 0 else "BC"
        case "E":
            name = _WEEKDAYS[civil.weekday]
            return name if count >= 4 else name[:3]
        case "a":
            return "AM" if civil.milliseconds < DAY // 2 else "PM"
        case "z":
            return "UTC" if count < 4 else "Coordinated Universal Time"
        case "Z":
            return "+0000"
        case "X":
            return "Z"
        case "M" | "L" if count >= 3:
            name = _MONTHS[civil.month - 1]
            return name if count >= 4 else name[:3]
    value = _number(letter, civil)
    if letter in "yY" and count == 2:
        value %= 100
    return str(value).zfill(count)


def _number(letter: str, civil: Civil) -> int:
    hour = civil.milliseconds // 3_600_000
    match letter:
        case "y":
            return civil.year if civil.year > 0 else 1 - civil.year
        case "Y":
            return _week(civil)[0]
        case "M" | "L":
            return civil.month
        case "w":
            return _week(civil)[1]
        case "W":
            first = (civil.weekday - civil.day + 1) % 7
            return (civil.day - 1 + first) // 7 + 1
        case "D":
            return civil.day_of_year
        case "d":
            return civil.day
        case "F":
            return (civil.day - 1) // 7 + 1
        case "u":
            return civil.weekday or 7
        case "H":
            return hour
        case "k":
            return hour or 24
        case "K":
            return hour % 12
        case "h":
            return hour % 12 or 12
        case "m":
            return civil.milliseconds // 60_000 % 60
        case "s":
            return civil.milliseconds // 1_000 % 60
    return civil.milliseconds % 1_000


def _week(civil: Civil) -> tuple[int, int]:
    """Return week year and week, as in the USA: a week begins on Sunday, week 1 contains the first of January."""
    day = _day_of(civil.year, 1, 1) + civil.day_of_year - 1
    if day >= _first_week(civil.year + 1):
        return civil.year + 1, 1
    return civil.year, (day - _first_week(civil.year)) // 7 + 1


def _first_week(year: int) -> int:
    first = _day_of(year, 1, 1)
    return first - (first + 4) % 7


def _moment(found: dict[str, int]) -> int:
    """Return the moment of the fields; values beyond their range carry over."""
    if "Y" in found and "y" not in found:
        days = _first_week(found["Y"])
    else:
        year = found.get("y", 1970)
        if found.get("G") == 0:
            year = 1 - year
        month = found.get("M", found.get("L", 1)) - 1
        year, month = year + month // 12, month % 12
        if "D" in found and "d" not in found:
            days = _day_of(year, 1, 1) + found["D"] - 1
        else:
            days = _day_of(year, month + 1, 1) + found.get("d", 1) - 1
    if "H" in found:
        hour = found["H"]
    elif "k" in found:
        hour = found["k"] % 24
    else:
        hour = found.get("K", found.get("h", 0) % 12) + 12 * found.get("a", 0)
    minutes = hour * 60 + found.get("m", 0) - found.get("Z", 0)
    return days * DAY + (minutes * 60 + found.get("s", 0)) * 1_000 + found.get("S", 0)


@lru_cache(maxsize=4096)
def _date_of(days: int) -> tuple[int, int, int]:
    """Return year, month and day (Hinnant's algorithm); Julian before October 1582."""
    if days >= _FIRST_GREGORIAN_DAY:
        shifted = days + 719_468
        era, day_of_era = divmod(shifted, 146_097)
        year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
        day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        year = year_of_era + era * 400
    else:
        shifted = days + 719_470
        cycle, day_of_cycle = divmod(shifted, 1461)
        year_of_cycle = (day_of_cycle - day_of_cycle // 1460) // 365
        day_of_year = day_of_cycle - 365 * year_of_cycle
        year = year_of_cycle + cycle * 4
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return (year + 1 if month <= 2 else year), month, day


def _day_of(year: int, month: int, day: int) -> int:
    """Return the days since 1970; Julian when the day is before October 1582."""
    shifted = year - 1 if month <= 2 else year
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    gregorian = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468
    if gregorian >= _FIRST_GREGORIAN_DAY:
        return gregorian
    return shifted * 365 + shifted // 4 + day_of_year - 719_470
