"""Means, margins, calibration and costs."""
import numpy as np
import pytest
from poc_parts import evidence


def flags(right, images=100):
    return np.arange(images) < right


def test_spread_of_one_seed_is_not_known():
    assert evidence.spread([90.])['std'] is None
    two = evidence.spread([90., 92.])
    assert two['mean'] == 91 and two['std'] == pytest.approx(2**0.5)


def test_a_clear_difference_is_one():
    out = evidence.compare([flags(90), flags(91)], [flags(60), flags(61)])
    assert out['difference'] == pytest.approx(30)
    # two runs each: t of 2 degrees of freedom times the pooled error
    assert out['of_seeds'] == pytest.approx(4.303 * 0.5**0.5, rel=1e-3)
    # 30 of 100 images differ in all seeds (31 and 29 in part)
    assert out['of_images'] == pytest.approx(8.9, abs=0.2)
    assert evidence.judge(out) == 'better'
    turned = evidence.compare([flags(60)], [flags(90)])
    assert turned['of_seeds'] is None
    assert evidence.judge(turned) == 'worse'


def test_seeds_that_scatter_leave_it_open():
    out = evidence.compare([flags(95), flags(65)], [flags(60), flags(75)])
    assert out['difference'] == pytest.approx(12.5)
    assert evidence.judge(out) == 'open'


def test_few_images_leave_it_open():
    few = evidence.compare([flags(8, 10)], [flags(7, 10)])
    many = evidence.compare([flags(8000, 10000)], [flags(7000, 10000)])
    assert few['difference'] == pytest.approx(many['difference'])
    assert [evidence.judge(x) for x in (few, many)] == ['open', 'better']


def test_no_difference_in_few_images_is_no_proof():
    out = evidence.compare([flags(30, 36)], [flags(30, 36)])
    assert out['difference'] == 0
    assert out['margin'] == pytest.approx(100 * 3 / 36)


def test_reliability_bins():
    bins = evidence.reliability(
        np.array([0.05, 0.95, 1.0, 0.93]), np.array([False, True, True,
                                                     False]))
    assert [b['images'] for b in bins] == [1, 3]
    assert bins[1]['accuracy'] == pytest.approx(200 / 3)
    assert bins[1]['confidence'] == pytest.approx(96)


def prices(**given):
    names = ('hour', 'image', 'serve_hour', 'images_per_month')
    return {**dict.fromkeys(names), **given}


def test_costs_are_those_of_the_prices_given():
    out = evidence.costs(
        prices(hour=2., image=0.5, serve_hour=3., images_per_month=7.2e6),
        images=100,
        train_seconds=1800,
        images_per_s=1000.)
    assert out == dict(data=50., training=1., total=51., month=6.)
    alone = evidence.costs(prices(hour=2.), 100, 1800, 1000.)
    assert alone == dict(data=None, training=1., total=1., month=None)
    assert evidence.costs(prices(), 100, 1800, None)['total'] is None
