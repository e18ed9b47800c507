import numpy as np
import pytest

from harness.metrics import diversity


def test_equations_are_found_and_prices_are_not():
    assert diversity.equations("She has <<3+4=7>>7 and $x = 2$, \\[ a \\] too.") == ["3+4=7", "x=2"]
    assert diversity.equations("It costs $5 and then $7.") == []
    assert diversity.equations("3 * 4 + 2\n12 + 2\n14\n#### 14") == ["3*4+2", "12+2"]
    assert diversity.distinct_equation_ratio(["<<1+1=2>>", "<<1+1=2>> <<2+2=4>>"]) == pytest.approx(2 / 3)
    assert diversity.distinct_equation_ratio(["none"]) is None


def test_entropy_by_hand():
    assert diversity.entropy([2, 2]) == pytest.approx(np.log(2))
    assert diversity.entropy([4]) == 0.0
    assert diversity.entropy([]) == 0.0
