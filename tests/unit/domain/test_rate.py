import pytest
from scipy.stats import binomtest

from monitor.domain.rate import wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (30, 300), (299, 300), (300, 300)])
def test_agrees_with_scipy(successes: int, n: int) -> None:
    rate = wilson(successes, n)
    reference = binomtest(successes, n).proportion_ci(method="wilson")
    assert rate is not None
    assert (rate.low, rate.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert rate.value == successes / n


def test_nothing_has_no_rate() -> None:
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3)])
def test_refuses_what_is_no_share(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson(successes, n)
