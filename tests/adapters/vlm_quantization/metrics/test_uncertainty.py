import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.metrics.uncertainty import bootstrap, interval, over_seeds


def test_an_interval_holds_the_mean_and_narrows_with_more_queries():
    random = np.random.default_rng(0)
    widths = []
    for n in (50, 5_000):
        values = random.random(n)
        low, high = interval(bootstrap(values))
        assert low[0] < values.mean() < high[0]
        # the standard error of the mean of a uniform variable is known
        assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(1 / 12 / n), rel=0.15)
        widths.append(high[0] - low[0])
    assert widths[1] < widths[0] / 5


def test_intervals_have_about_their_nominal_coverage():
    random = np.random.default_rng(1)
    ends = [interval(bootstrap(random.random(80), resamples=300, seed=trial)) for trial in range(200)]
    covered = sum(low[0] <= 0.5 <= high[0] for low, high in ends)
    assert 178 <= covered <= 200


def test_the_same_seed_draws_the_same_queries_for_every_metric():
    values = np.random.default_rng(2).random((2, 40))
    assert np.array_equal(bootstrap(values, seed=3), bootstrap(values, seed=3))
    assert np.allclose(bootstrap(values, seed=3)[1], bootstrap(values[1], seed=3)[0])
    assert not np.array_equal(bootstrap(values, seed=3), bootstrap(values, seed=4))


def test_draws_do_not_depend_on_the_memory_limit(monkeypatch):
    values = np.random.default_rng(2).random((2, 40))
    whole = bootstrap(values, resamples=50)
    monkeypatch.setattr("adapters.vlm_quantization.metrics.uncertainty.WEIGHTS_AT_ONCE", 100)
    assert np.allclose(bootstrap(values, resamples=50), whole)


def test_queries_of_one_group_are_drawn_together():
    """Repeating each query adds no information: the interval must not shrink."""
    values = np.random.default_rng(4).random(60)
    twice, groups = np.repeat(values, 2), np.repeat([str(one) for one in range(60)], 2).tolist()
    alone = np.ptp(interval(bootstrap(values)))
    assert np.ptp(interval(bootstrap(twice, groups=groups))) == pytest.approx(alone, rel=0.15)
    assert np.ptp(interval(bootstrap(twice))) < 0.8 * alone


def test_queries_that_do_not_count_are_left_out():
    values = np.array([[1.0, np.nan, 0.0, 1.0], [np.nan] * 4])
    draws = bootstrap(values, resamples=200)
    assert np.nanmean(draws[0]) == pytest.approx(2 / 3, abs=0.05)
    low, high = interval(draws)
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()


def test_seeds_have_a_t_interval():
    mean, half = over_seeds([0.5, 0.6, 0.7])
    assert mean == pytest.approx(0.6)
    assert half == pytest.approx(4.303 * 0.1 / np.sqrt(3))
    assert over_seeds([0.5] * 50) == (0.5, 0.0)
    mean, half = over_seeds([0.5])
    assert (mean, np.isnan(half)) == (0.5, True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap([]), r"values must.*\(1, 0\)"),
        (lambda: bootstrap([1.0], resamples=0), "draws must be at least 1.* 0"),
        (lambda: bootstrap([1.0, 2.0], groups=["a"]), "1 groups.*2 queries"),
        (lambda: over_seeds([]), "no value"),
    ],
)
def test_invalid_input_is_refused(call, message):
    with pytest.raises(wb.BadInput, match=message):
        call()
