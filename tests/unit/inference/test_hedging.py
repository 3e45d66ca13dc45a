from monitor.inference.hedging import Hedging


def timed(hedging: Hedging, count: int) -> None:
    for second in range(1, count + 1):
        hedging.answered(float(second))


def test_nothing_is_slow_before_enough_was_timed() -> None:
    hedging = Hedging(share=0.05)
    timed(hedging, 19)
    assert hedging.called() is None
    hedging.answered(20.0)
    assert hedging.called() == 19.0


def test_slow_is_past_the_95th_percentile_of_the_last_200() -> None:
    hedging = Hedging(share=0.05)
    timed(hedging, 1000)  # 801 to 1000 are remembered
    assert hedging.called() == 990.0


def test_second_calls_stay_within_their_share() -> None:
    hedging = Hedging(share=0.05)
    granted = 0
    for _ in range(1000):
        hedging.called()
        if hedging.may_grant:
            hedging.grant()
            granted += 1
    assert granted == 50


def test_what_was_not_used_is_saved_up_for_a_handful_only() -> None:
    hedging = Hedging(share=0.05)
    for _ in range(10_000):
        hedging.called()
    granted = 0
    while hedging.may_grant:
        hedging.grant()
        granted += 1
    assert granted == 3


def test_without_a_share_there_is_none() -> None:
    hedging = Hedging(share=0.0)
    for _ in range(1000):
        hedging.called()
    assert not hedging.may_grant
