import json
import time

import pytest
import scan
import torch
from bench_parts import scan_measures
from bench_parts.scan_cases import (CASES, TINY_CASES, draw_inputs, loop_scan,
                                    run_scan)

from transmamba_mm.ops import SCAN_BACKENDS
from .fake_card import fake_card

KEYS = {
    'bench', 'model', 'mode', 'timing', 'resolution', 'batch', 'precision',
    'implementation', 'images_per_s', 'peak_mib', 'card', 'torch', 'max_error',
    'l2_error', 'gradient_error', 'copy_share', 'exp_share', 'scan'
}


def test_the_loop_is_the_scan():
    inputs = draw_inputs(CASES['tiny'], 'cpu', torch.float64, 0)
    want = run_scan(CASES['tiny'], 'reference', inputs)
    torch.testing.assert_close(loop_scan(**inputs), want)


def test_inputs_are_new_each_time_unless_seeded():
    a, b, c, d = (
        draw_inputs(CASES['tiny'], 'cpu', torch.bfloat16, seed)['u']
        for seed in (None, None, 3, 3))
    assert not torch.equal(a, b) and torch.equal(c, d)


def test_errors_tell_a_wrong_scan_from_a_right_one(monkeypatch):
    case = CASES['tiny-plainmamba']

    def wrong(*args):
        out, last = SCAN_BACKENDS['reference'](*args)
        return out * 1.01, last

    right = scan_measures.errors_of(case, ['chunked'], 'cpu', torch.bfloat16)
    figures = right['chunked']
    assert figures['max_error'] < 2e-6 < figures['max_error_cast'] < 1e-2
    assert 1e-5 < figures['l2_error'] < 1e-2
    assert figures['gradient_error'] < 1e-2
    monkeypatch.setitem(SCAN_BACKENDS, 'chunked', wrong)
    figures = scan_measures.errors_of(case, ['chunked'], 'cpu',
                                      torch.float32)['chunked']
    assert figures['max_error'] == pytest.approx(1e-2, rel=0.5)
    assert figures['l2_error'] == pytest.approx(1e-2, rel=0.1)
    assert figures['gradient_error'] == pytest.approx(1e-2, rel=0.1)


def test_a_nan_is_no_small_error():
    x = torch.full((3, ), float('nan'))
    assert scan_measures._l2(x, torch.ones(3).double()) == float('inf')


def test_the_command(tmp_path, capsys):
    out = tmp_path / 'scan.json'
    code = scan.main([
        '--shapes', *TINY_CASES, '--rounds', '2', '--no-memory', '--out',
        str(out)
    ])
    rows = json.loads(out.read_text())
    assert code == 0 and len(rows) == 2 * (2 * len(TINY_CASES) + 1)
    assert all(KEYS <= set(r) for r in rows)
    assert {r['implementation'] for r in rows} == {'ours', 'loop'}
    assert all(r['max_error'] < 2e-6 and r['latency_ms'] > 0 for r in rows)
    assert 'tiny-videomamba' in capsys.readouterr().out


@pytest.mark.parametrize('ratio, code', [(5., 0), (3., 1)])
def test_the_claim_is_checked(ratio, code, capsys):
    row = dict(scan='chunked', mode='train', ratio=ratio, model='long')
    assert scan.judge([row], 4.) == code
    assert ('FAIL' in capsys.readouterr().out) == bool(code)


@pytest.mark.parametrize('name', list(TINY_CASES))
def test_times_on_a_card(name):
    case = CASES[name]
    inputs = draw_inputs(case, 'cpu', torch.bfloat16)
    with fake_card() as graphs:
        found = scan_measures.card_times(case, 'chunked', inputs, scan.FORMS,
                                         4)
    assert list(found) == scan.FORMS
    assert all(f['latency_ms'] > 0 and f['peak_mib'] == 2
               for f in found.values())
    assert [g.replays for g in graphs] == [3 + 4] * 2
    assert all(t.grad is None for t in inputs.values())


def test_a_back_end_that_fails_is_named():
    case = CASES['tiny']
    inputs = draw_inputs(case, 'cpu', torch.bfloat16)
    with fake_card():
        found = scan_measures.card_times(case, 'mamba_ssm', inputs, scan.FORMS,
                                         4)
    assert all('mamba_ssm' in f['error'] for f in found.values())
    row = dict(
        model='tiny',
        scan='mamba_ssm',
        mode='infer',
        timing='eager',
        **found['infer', 'eager'])
    assert 'RuntimeError' in scan.show(row)


def test_memory_of_a_fresh_process():
    start = time.time()
    found = scan_measures.cpu_memory('tiny', ['chunked'], 1)
    assert set(found) <= {('chunked', 'infer'), ('chunked', 'train')}
    assert all(0 <= mib < 500 for mib in found.values())
    assert time.time() - start < 60


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device')
def test_the_command_on_a_card(tmp_path):
    out = tmp_path / 'scan.json'
    names = [n for n in ('triton', 'chunked') if n in SCAN_BACKENDS]
    scan.main([
        '--device', 'cuda', '--shapes', *TINY_CASES, '--rounds', '3',
        '--backends', *names, '--out',
        str(out)
    ])
    rows = json.loads(out.read_text())
    assert len(rows) == 4 * len(names) * len(TINY_CASES)
    for row in rows:
        assert 'error' not in row, row
        assert row['l2_error'] < 1e-2 and row['gradient_error'] < 1e-2
