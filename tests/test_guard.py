"""The collapse guard: what makes it cry, and what must not."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.guard import Guard, GuardSettings
from training.losses import chance_of
from training.metrics import Row

REAL = {"ms_ssim_real": 0.07, "deviation_real": 62.0, "swd_flat": 727.0, "swd_floor": 38.0}


def row(kimg: float, **figures: float | None) -> Row:
    """A row of a healthy run, with D rather sure of itself, and some figures replaced."""
    healthy = {"loss_d": 0.3, "loss_g": 3.5, "d_real": 0.93, "d_fake": 0.07, "grad_d": 6.0, "grad_g": 50.0}
    return {"update": int(kimg * 8), "images_seen": int(kimg * 1000), "learning_rate": 2e-4} | healthy | figures


def point(kimg: float, ms_ssim: float, deviation: float = 25.0, swd: float = 400.0, **figures: float) -> Row:
    return row(kimg, ms_ssim=ms_ssim, deviation=deviation, swd=swd, **REAL) | figures


def alarms(rows: list[Row], guard: Guard | None = None) -> list[tuple[int, str]]:
    guard = guard or Guard(GuardSettings())
    return [(row["images_seen"] // 1000, alarm.kind) for row in rows for alarm in guard.look(row)]


def test_a_healthy_run_as_it_was_logged_raises_no_alarm() -> None:
    """Bedrooms at 32 px, width 16, alternating at 2e-4: grey and alike until 40,000 images are seen."""
    ms = [0.59, 0.53, 0.56, 0.61, 0.68, 0.68, 0.7, 0.73, 0.73, 0.78, 0.78, 0.81, 0.85, 0.88, 0.85, 0.85, 0.85, 0.74]
    ms += [0.69, 0.61, 0.45, 0.42, 0.38, 0.37, 0.38, 0.33, 0.33, 0.36, 0.34, 0.48]
    swd = [452, 461, 455, 459, 456, 456, 465, 463, 459, 463, 457, 466, 451, 451, 449, 439, 447, 452, 443, 424, 409, 410]
    swd += [413, 413, 418, 425, 412, 431, 424, 415]
    rows = [point(2 * (i + 1), m, 8.0, s) for i, (m, s) in enumerate(zip(ms, swd, strict=True))]
    assert alarms(rows) == []


def test_steps_of_twenty_times_the_learning_rate_raise_one() -> None:
    """D's losses as logged: bedrooms at 32 px, width 64, alternating at 4e-3."""
    losses = [1.3, 0.0, 5.4, 1.2, 1.4, 1.6, 1.9, 1.5, 1.4, 1.0]
    rows = [row(1.28 * (i + 1), loss_d=loss) for i, loss in enumerate(losses)]
    assert [kind for _, kind in alarms(rows)] == ["unstable"]


def test_one_violent_row_is_enough_but_a_rough_one_is_not() -> None:
    """First rows as logged at 64 px, width 48: at 4e-3, and at 2e-4."""
    assert alarms([row(2.56 * (i + 1), loss_d=loss) for i, loss in enumerate([9.26, 2.54, 0.36])]) == [(2, "unstable")]
    assert alarms([row(2.56 * (i + 1), loss_d=loss) for i, loss in enumerate([1.73, 0.86, 1.03, 0.85, 0.75])]) == []


def test_a_game_near_balance_is_healthy() -> None:
    rows = [row(i, loss_d=chance_of("bce") * (0.97 + 0.07 * (i % 2)), d_real=0.52, d_fake=0.48) for i in range(1, 60)]
    assert alarms(rows) == []


def test_each_loss_has_its_own_value_of_a_tossed_coin() -> None:
    rows = [row(i, loss_d=1.9) for i in range(1, 30)]
    assert alarms(rows, Guard(GuardSettings(), loss="hinge")) == []
    assert alarms(rows, Guard(GuardSettings(), loss="bce")) == [(3, "unstable")]
    assert alarms(rows, Guard(GuardSettings(), loss="least-squares")) == [(1, "unstable")]  # seven times chance


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss_g", "grad_d"])
def test_what_is_not_finite_alarms_at_once(name: str, value: float) -> None:
    guard = Guard(GuardSettings())
    (alarm,) = guard.look(row(12.8, **{name: value}))
    assert alarm.kind == "nan"
    assert f"{name}={value} at 12,800 images seen" in alarm.message
    assert "such as learning_rate=0.0001" in alarm.message
    json.dumps(guard.state(), allow_nan=False)


def test_a_sure_discriminator_alarms_only_when_it_stays_sure() -> None:
    sure = {"d_real": 0.9999, "d_fake": 0.0001}
    assert alarms([row(i, **(sure if i % 10 else {})) for i in range(1, 60)]) == []
    assert alarms([row(i, **sure) for i in range(1, 60)]) == [(10, "saturated")]
    assert alarms([row(i, d_real=0.998, d_fake=0.002, loss_d=0.004) for i in range(1, 60)]) == []


@pytest.mark.parametrize("figures", [{"loss_d": 0.0005}, {"grad_g": 1e-8}])
def test_no_loss_of_d_and_no_gradient_of_g_are_saturation_too(figures: dict[str, float]) -> None:
    assert alarms([row(i, **figures) for i in range(1, 30)]) == [(10, "saturated")]


def test_rows_of_gs_turns_alone_count_for_nothing() -> None:
    nothing: dict[str, Any] = {"loss_d": None, "d_real": None, "d_fake": None, "grad_d": None}
    rows = [row(i, **(nothing if i % 2 else {"d_real": 1.0, "d_fake": 0.0})) for i in range(1, 21)]
    assert alarms(rows) == [(20, "saturated")]


def test_diversity_that_is_lost_alarms_once_until_it_recovers() -> None:
    diverse, alike = 0.3, 0.95
    course = [diverse] * 5 + [alike] * 6 + [diverse] * 5 + [alike] * 3
    assert alarms([point(10 * i, ms) for i, ms in enumerate(course)]) == [(60, "collapsed"), (170, "collapsed")]


def test_the_noise_of_a_new_generator_is_no_diversity_to_lose() -> None:
    rows = [point(2 * i, 0.4) for i in range(8)] + [point(16 + 4 * i, 0.85) for i in range(30)]
    assert alarms(rows) == []
    assert alarms(rows, Guard(GuardSettings(beginning_images=0))) == [(20, "collapsed")]


def test_one_bad_measuring_point_is_no_collapse() -> None:
    bad, good = (0.95, 1.0, 1500.0), (0.3, 25.0, 400.0)
    assert alarms([point(10 * i, *(bad if i % 3 == 2 else good)) for i in range(30)]) == []


def test_diversity_that_never_comes_alarms_after_the_warm_up() -> None:
    rows = [point(20 * i, 0.95) for i in range(20)]
    assert alarms(rows) == [(200, "collapsed")]
    assert alarms(rows, Guard(GuardSettings(warm_up_images=50_000))) == [(60, "collapsed")]


def test_real_images_that_are_alike_themselves_are_the_measure() -> None:
    assert alarms([point(10 * i, 0.5 if i < 4 else 0.85, ms_ssim_real=0.6) for i in range(30)]) == []


def test_samples_without_deviation_are_a_collapse_from_the_start() -> None:
    assert alarms([point(10 * i, 1.0, deviation=0.3) for i in range(5)]) == [(20, "collapsed")]


def test_samples_worse_than_flat_grey_are_a_collapse_from_the_start() -> None:
    guard = Guard(GuardSettings())
    said = [a for i, swd in enumerate((1329.0, 1144.0, 558.0)) for a in guard.look(point(2 * i, 0.6, swd=swd))]
    assert [alarm.kind for alarm in said] == ["collapsed"]
    assert "swd=558: samples are 1.6 times as far from the real images as flat ones" in said[0].message
    assert "more than 1.4 (medians of 3 measuring points); look at the newest grid" in said[0].message


figures = st.fixed_dictionaries(
    {
        "loss_d": st.sampled_from([0.0001, 0.5, 1.6, 6.0, math.nan]),
        "d_real": st.sampled_from([0.8, 1.0]),
        "d_fake": st.sampled_from([0.2, 0.0]),
        "ms_ssim": st.sampled_from([0.2, 0.6, 0.99]),
        "deviation": st.sampled_from([0.1, 30.0]),
        "swd": st.sampled_from([300.0, 1200.0]),
    }
)


@given(st.lists(figures, min_size=1, max_size=30), st.integers(0, 29))
def test_a_resumed_guard_decides_the_same(course: list[dict[str, float]], cut: int) -> None:
    settings = GuardSettings(saturated_rows=3, unstable_of=5, unstable_rows=2, warm_up_images=9000, beginning_images=0)
    rows = [row(i, **REAL) | found for i, found in enumerate(course)]
    whole, first = Guard(settings), Guard(settings)
    wanted = [alarm for r in rows for alarm in whole.look(r)]
    said = [alarm for r in rows[:cut] for alarm in first.look(r)]
    second = Guard(settings, json.loads(json.dumps(first.state(), allow_nan=False)))
    said += [alarm for r in rows[cut:] for alarm in second.look(r)]
    assert said == wanted
    assert second.state() == whole.state()


def test_going_back_lowers_the_rate_and_ends() -> None:
    guard = Guard(GuardSettings(action="back", most_backs=2, lower_rate=0.5))
    for back in (1, 2):
        (alarm,) = guard.look(row(1, loss_d=math.nan))
        assert "going back to the best checkpoint with 0.5 times the learning rate" in alarm.message
        assert guard.decision() == "back"
        guard.went_back()
        assert guard.rate == 0.5**back
    (alarm,) = guard.look(row(1, loss_d=math.nan))
    assert "stopping; train into an empty folder with a lower learning_rate" in alarm.message
    assert guard.decision() == "stop"
    assert Guard(guard.settings, guard.state()).rate == 0.25


def test_going_back_forgets_the_rows_but_not_that_diversity_was_reached() -> None:
    guard = Guard(GuardSettings(action="back"))
    assert alarms([point(10 * i, 0.3 if i < 5 else 0.95) for i in range(8)], guard) == [(60, "collapsed")]
    guard.went_back()
    assert alarms([point(50 + 10 * i, 0.95) for i in range(5)], guard) == [(70, "collapsed")]


def test_settings_are_frozen_and_out_of_range_values_refused() -> None:
    for wrong in ({"action": "panic"}, {"lower_rate": 1.0}, {"points": 0}, {"unknown": 1}):
        with pytest.raises(ValueError, match="validation error"):
            GuardSettings(**wrong)


def test_where_there_is_nothing_to_go_back_to_the_advice_is_to_stop() -> None:
    guard = Guard(GuardSettings(action="back"))
    (alarm,) = guard.look(row(1, loss_g=math.nan), can_go_back=False)
    assert guard.decision(can_go_back=False) == "stop"
    assert "stopping; train into an empty folder" in alarm.message
    assert guard.alarmed
    guard.look(row(2))
    assert not guard.alarmed


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_threshold_must_be_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        GuardSettings(most_distance=value)
