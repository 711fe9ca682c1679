"""What stored features save, from measured times."""

import math

import pytest

from diptych.training.finetuning.savings import ENOUGH, Savings


def after(steps: int, one: Savings, seconds: float = 0.5) -> list[str]:
    return [line for _ in range(steps) if (line := one.add_step(seconds))]


def test_the_run_says_once_what_it_will_save() -> None:
    """200 steps of 64 pictures of 50 ms are 640 s less, and 60 s were spent."""
    lines = after(2 * ENOUGH, Savings(picture_s=0.05, pictures=64, making_s=60, steps=200))
    assert lines == [
        "a step takes 0.5 s with stored features and would take 3.7 s with pictures: about 9:40 saved, 1:00 to make "
        "them included"
    ]


def test_a_run_by_the_clock_says_how_many_more_steps_it_takes() -> None:
    (line,) = after(ENOUGH, Savings(picture_s=0.05, pictures=64, making_s=60, steps=None))
    assert line.endswith("would take 3.7 s with pictures: 7.4 times as many steps in the same time")


def test_a_short_run_says_at_its_end_that_it_lost_time() -> None:
    one = Savings(picture_s=0.05, pictures=64, making_s=60, steps=3)
    assert after(3, one) == []
    assert str(one.summary()).endswith("3 steps, 0:50 more than without them, 1:00 to make them included")


def test_a_slow_first_step_does_not_count() -> None:
    one = Savings(picture_s=0.05, pictures=64, making_s=0, steps=3)
    after(1, one, 30.0)
    after(3, one, 0.5)
    assert one.step_s == pytest.approx(0.5)


def test_without_a_measure_nothing_is_said() -> None:
    assert Savings(0.05, 64, 0, 3).summary() is None
    unmeasured = Savings(math.nan, 64, 0, 3)
    assert after(ENOUGH, unmeasured) == []
    assert unmeasured.summary() is None


def test_less_than_a_second_is_no_time() -> None:
    one = Savings(picture_s=0.001, pictures=10, making_s=0.5, steps=3)
    after(3, one)
    assert str(one.summary()).endswith("3 steps, no time saved, 0:00 to make them included")
