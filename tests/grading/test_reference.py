"""The parser and its arithmetic against an independent one: latex2sympy2_extended with sympy."""

from __future__ import annotations

import random

import pytest

from harness.grading.normalize import normalize
from harness.grading.numeric import Evaluator
from harness.grading.parse import parse

sympy = pytest.importorskip("sympy")
latex2sympy = pytest.importorskip("latex2sympy2_extended").latex2sympy


def _expression(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice([str(rng.randint(1, 30)), rf"\sqrt{{{rng.randint(2, 9)}}}", r"\pi", "x", "y"])
    left, right = _expression(rng, depth - 1), _expression(rng, depth - 1)
    return rng.choice(
        [
            rf"\frac{{{left}}}{{{right}}}",
            f"{left}+{right}",
            rf"\left({left}\right)-{right}",
            rf"{left}\cdot \left({right}\right)",
            rf"\left({left}\right)^{{{rng.randint(2, 3)}}}",
            rf"\sin\left({left}\right)",
            rf"\ln\left({left}\right)",
            rf"\sqrt[3]{{{left}}}",
            rf"\left|{left}\right|",
        ]
    )


def test_values_of_random_expressions_agree_with_sympy():
    rng = random.Random(7)
    compared = 0
    for _ in range(60):
        text = _expression(rng, rng.randint(1, 3))
        evaluator = Evaluator(digits=30)
        evaluator.bound = {"x": evaluator.mp.mpf("1.25"), "y": evaluator.mp.mpf("0.75")}
        try:
            ours = complex(evaluator.value(parse(normalize(text))))
        except ArithmeticError:
            continue
        theirs = latex2sympy(text)
        points = {s: {"x": sympy.Rational(5, 4), "y": sympy.Rational(3, 4)}[s.name] for s in theirs.free_symbols}
        value = complex(theirs.subs(points).evalf(30))
        if value.imag or ours.imag:  # the two take different roots of negative numbers
            continue
        assert abs(ours - value) <= 1e-12 * max(1, abs(value)), text
        compared += 1
    assert compared > 40
