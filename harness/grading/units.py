"""Units of measurement and currencies: which are known, and how many of one make another."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_BASE: dict[str, tuple[str, str]] = {}
"""Unit word -> (dimension, size in the dimension's own unit)."""


def _define(dimension: str, table: dict[str, str]) -> None:
    for size, names in table.items():
        for name in names.split():
            _BASE[name] = (dimension, size)


_define(
    "length",
    {
        "1": "m meter metre",
        "1/100": "cm centimeter centimetre",
        "1/1000": "mm millimeter millimetre",
        "1000": "km kilometer kilometre kms",
        "1/10": "dm decimeter decimetre",
        "254/10000": "inch in inche",
        "3048/10000": "foot feet ft",
        "9144/10000": "yard yd",
        "1609344/1000": "mile mi",
        "1/1000000": "micrometer",
        "1/1000000000": "nm nanometer",
    },
)
_define("length-zh", {"1": "米", "1/100": "厘米", "1/1000": "毫米", "1000": "千米 公里", "1/10": "分米"})
_define(
    "mass",
    {
        "1": "g gram gm",
        "1000": "kg kilogram kilo",
        "1/1000": "mg milligram",
        "1000000": "tonne",
        "45359237/100000": "pound lb lbs",
        "45359237/1600000": "ounce oz",
        "907184740/1000": "ton",
    },
)
_define("mass-zh", {"1": "克", "1000": "千克 公斤", "1000000": "吨", "500": "斤"})
_define(
    "time",
    {
        "1": "s sec second",
        "60": "min minute mins",
        "3600": "h hr hour hrs",
        "86400": "day",
        "604800": "week",
        "1/1000": "ms millisecond",
    },
)
_define("time-zh", {"1": "秒 秒钟", "60": "分钟 分", "3600": "小时 时", "86400": "天 日", "604800": "周 星期"})
_define("year", {"1": "year yr 年", "1/12": "month 个月 月", "10": "decade", "100": "century"})
_define("money-usd", {"1": "dollar usd $ buck", "1/100": "cent ¢ penny pennie"})
_define("money-eur", {"1": "euro eur €"})
_define("money-gbp", {"1": "pound-sterling gbp £"})
_define("money-cny", {"1": "yuan rmb 元 ¥", "1/10": "角", "1/100": "分钱"})
_define("money-inr", {"1": "rupee rs inr"})
_define(
    "volume",
    {
        "1": "L l liter litre",
        "1/1000": "mL ml milliliter millilitre",
        "3785411784/1000000000": "gallon gal",
        "946352946/1000000000": "quart qt",
        "473176473/1000000000": "pint pt",
        "2365882365/10000000000": "cup",
    },
)
_define("volume-zh", {"1": "升", "1/1000": "毫升"})
_define("angle", {"1": "degree deg ° 度", "1/60": "arcminute"})
_define("radian", {"1": "radian rad"})
_define("temperature-c", {"1": "celsius"})
_define("temperature-f", {"1": "fahrenheit"})
_define("force", {"1": "N newton"})
_define("energy", {"1": "J joule", "1000": "kJ", "1000000": "MJ"})
_define("power", {"1": "W watt", "1000": "kW", "1000000": "MW"})
_define("frequency", {"1": "Hz hertz", "1000": "kHz", "1000000": "MHz"})
_define("pressure", {"1": "Pa pascal", "1000": "kPa"})
_define("potential", {"1": "V volt", "1/1000": "mV"})
_define("current", {"1": "A amp ampere", "1/1000": "mA"})
_define("energy-ev", {"1": "eV", "1000": "keV", "1000000": "MeV"})
_define("amount", {"1": "mol mole"})
_define("resistance", {"1": "ohm"})
_define("speed-mph", {"1": "mph"})
_define("unit", {"1": "unit"})

_MULTIPLIERS = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "万": 10**4,
    "亿": 10**8,
    "dozen": 12,
}
_EXTRA_WORDS = {
    "square",
    "sq",
    "cubic",
    "per",
    "people",
    "person",
    "apple",
    "student",
    "way",
    "point",
    "percent",
    "pct",
    "inches",
    "squares",
    "book",
    "ways",
    "cubed",
    "squared",
    "times",
    "item",
    "hours",
    "children",
    "women",
    "men",
    "am",
    "pm",
    "base",
    "kmh",
    "kph",
    "kwh",
    "rpm",
}
_FILLER = {"the", "of", "a", "an", "about", "approximately", "exactly", "total", "in", "each", "only", "s"}


def _singular(word: str) -> str:
    if word in _BASE:
        return word
    lower = word.lower()
    if lower in _BASE:
        return lower
    for ending in ("s", "es"):
        if lower.endswith(ending) and lower[: -len(ending)] in _BASE and len(lower) - len(ending) > 1:
            return lower[: -len(ending)]
    if lower == "centuries":
        return "century"
    if len(lower) > 3 and lower.endswith("s") and not lower.endswith("ss"):
        return lower[:-1]
    return {"people": "person", "children": "child", "men": "man", "women": "woman", "mice": "mouse"}.get(lower, lower)


def is_unit_word(word: str) -> bool:
    """Whether a word behind a number is read as a unit rather than as a product of symbols."""
    return len(word) > 1 and (_singular(word) in _BASE or word.lower() in _EXTRA_WORDS or word.lower() in _MULTIPLIERS)


@lru_cache(maxsize=4096)
def read_unit(phrase: str) -> tuple[Fraction, tuple[tuple[str, int], ...], frozenset[str]]:
    """Size, dimensions with exponents, and unknown words of a phrase such as `square miles per hour`."""
    size, dimensions, unknown = Fraction(1), dict[str, int](), set[str]()
    phrase = re.sub(r"\bsq\b\.?", "square", re.sub(r"\s*\^\s*\{?\s*(-?)\s*(\d)\s*\}?", r"^\1\2", phrase))
    phrase = re.sub(r"\b(square|cubic)d?\s+(\S+)", lambda m: f"{m[2]}^{2 if m[1] == 'square' else 3}", phrase)
    phrase = re.sub(r"(\S+)\s+(squared|cubed)\b", lambda m: f"{m[1]}^{2 if m[2] == 'squared' else 3}", phrase)
    phrase = phrase.replace("平方", " ^2").replace("立方", " ^3") if re.search("[平立]方", phrase) else phrase
    phrase = re.sub(r"\^([23])(\S+)", r"\2^\1", phrase).replace("mph", "miles per hour")
    phrase = re.sub(r"\bkm/?h\b|\bkph\b|\bkmh\b", "km per hour", phrase)
    sign = 1
    for part in re.findall(r"/|[^\s/*\\{}().,]+", phrase):
        word, _, power = part.partition("^")
        if part in {"/", "per", "a", "an"} and (part != "a" or dimensions):
            sign = -1
            continue
        if not re.fullmatch(r"-?\d|", power):
            unknown.add(part)
            continue
        name, exponent = _singular(word), sign * int(power or 1)
        if name in _MULTIPLIERS and not dimensions:
            size *= _MULTIPLIERS[name]
        elif name in _BASE and _BASE[name][0] != "unit":
            dimension, scale = _BASE[name]
            size *= Fraction(scale) ** exponent
            dimension = dimension.removesuffix("-zh")
            dimensions[dimension] = dimensions.get(dimension, 0) + exponent
        elif name not in _FILLER and name not in {"unit", "percent", "pct"}:
            unknown.add(name if exponent == 1 or name not in {"unit"} else f"{name}^{exponent}")
    return size, tuple(sorted(d for d in dimensions.items() if d[1])), frozenset(unknown)


def conversion(gold: str, answer: str) -> Fraction | None:
    """One unit of `answer` in units of `gold`; a unit missing on one side is the other's. None if they differ."""
    if (
        "unit" in gold
        and "unit" in answer
        and len({power for phrase in (gold, answer) for power in _generic_power(phrase)}) > 1
    ):
        return None
    (size_g, dim_g, words_g), (size_a, dim_a, words_a) = read_unit(gold), read_unit(answer)
    multiplier_g = size_g if not dim_g else Fraction(1)
    multiplier_a = size_a if not dim_a else Fraction(1)
    if not dim_g and not words_g:
        return _multiplier(answer) / multiplier_g
    if not dim_a and not words_a:
        return multiplier_a / _multiplier(gold)
    if dim_g != dim_a and dim_g and dim_a:
        return None
    if words_g and words_a and not (words_g <= words_a or words_a <= words_g):
        return None
    if dim_g == dim_a:
        return size_a / size_g
    return None


def _generic_power(phrase: str) -> list[str]:
    """The power of "units" of no name: square units are no cubic units."""
    phrase = re.sub(r"[{}\s]", "", phrase)
    found = re.search(r"units?\^([23])|(square|cubic)units?", phrase)
    return [found[1] or {"square": "2", "cubic": "3"}[found[2]]] if found else []


def _multiplier(phrase: str) -> Fraction:
    """The number words in front of a unit, such as the million of `million dollars`."""
    value = Fraction(1)
    for word in re.findall(r"[^\W\d_]+", phrase):
        if word.lower() not in _MULTIPLIERS:
            break
        value *= _MULTIPLIERS[word.lower()]
    return value
