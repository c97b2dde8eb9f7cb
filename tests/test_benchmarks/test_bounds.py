import pytest
import torch
from bench_parts.bounds import card_rates, io_bytes, shares
from bench_parts.models import MODELS
from bench_parts.scan_cases import CASES
from bench_parts.scan_measures import work_of

# of one card: bytes and exponentials a second
RATES = dict(copy=3.02e12, exp=4.17e12)


def inputs(case):
    """Inputs without memory, in bf16."""
    batch, channels = case.batch, case.groups * case.channels
    x = torch.empty(
        batch, channels, case.length, dtype=torch.bfloat16, device='meta')
    b = torch.empty(
        batch,
        case.groups,
        case.states,
        case.length,
        dtype=torch.bfloat16,
        device='meta')
    found = dict(u=x, delta=x, A=x.new_empty(channels), B=b, C=b)
    return dict(found, z=x) if case.gate else found


@pytest.mark.parametrize('name, train, copy_ms, exp_ms', [
    ('vim-tiny-b128', False, 0.026, 0.037),
    ('vim-tiny-b128', True, 0.072, 0.074),
    ('vmamba-t-b128', False, 0.308, 0.037),
    ('vmamba-t-b128', True, 0.823, 0.074),
])
def test_a_scan(name, train, copy_ms, exp_ms):
    work = work_of(CASES[name], inputs(CASES[name]), train)
    found = shares(1e-3, *work, RATES)
    assert found['copy_share'] == pytest.approx(copy_ms, abs=6e-4)
    assert found['exp_share'] == pytest.approx(exp_ms, abs=6e-4)


@pytest.mark.parametrize('name, copy_us, exp_us', [
    ('vim-tiny', 20.0, 18.3),
    ('vim-small', 39.5, 36.6),
    ('plainmamba-l1', None, 9.5),
    ('deit-tiny', None, 0.8),
    ('deit-small', None, 1.5),
])
def test_a_model(name, copy_us, exp_us):
    found = shares(1e-6, *MODELS[name].work(224), RATES)
    assert found['exp_share'] == pytest.approx(exp_us, abs=0.05)
    if copy_us:
        assert found['copy_share'] == pytest.approx(copy_us, abs=0.15)


def test_shared_exponentials_count_once():
    shared, own = (CASES[f'{n}-directions'] for n in ('plainmamba', 'vim'))
    assert shared.exponentials == 128 * 384 * 16 * 196
    assert own.exponentials == 2 * 128 * 384 * 16 * 197


def test_bytes_of_an_operator():
    x, y = torch.zeros(10), torch.zeros(5, dtype=torch.bfloat16)
    assert io_bytes([x], y, False) == 50
    assert io_bytes([x], y, True) == 140


def test_a_cpu_has_no_ceilings():
    rates = card_rates('cpu')
    assert shares(1., 1., 1., rates) == dict(copy_share=None, exp_share=None)
