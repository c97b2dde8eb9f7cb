import argparse
import json
import time

import backbones
import pytest
import torch
from bench_parts import report
from bench_parts.models import MODELS, build
from bench_parts.plan import Row
from torch import nn

KEYS = {
    'bench', 'model', 'mode', 'timing', 'resolution', 'batch', 'precision',
    'implementation', 'images_per_s', 'peak_mib', 'card', 'torch',
    'ratio_to_deit', 'copy_share', 'exp_share'
}


class Small(nn.Module):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 1000)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def small(monkeypatch):
    """Small models in the place of all, which tell what was built."""
    built = []

    def fake(*key):
        built.append(key)
        if key[1] == 'official':
            raise ImportError('no kernel\nat all')
        return Small()

    monkeypatch.setattr(backbones, 'build', fake)
    return built


def run(tmp_path, *more):
    out = tmp_path / 'rows.json'
    code = backbones.main([
        '--device', 'cpu', '--resolutions', '32', '--batch', '2', '--repeats',
        '2', '--warmup', '1', '--out',
        str(out), *more
    ])
    assert code == 0
    return json.loads(out.read_text()) if out.exists() else []


def test_rows_are_measured_once_and_failures_say_why(tmp_path, small, capsys):
    pick = '--rows', 'deit-tiny/*/b2', 'vim-tiny/[!m]*/b2'
    rows = run(tmp_path, '--official', str(tmp_path), *pick)
    assert [(r['model'], r['implementation'], r['mode']) for r in rows
            ] == [(m, i, mode) for mode in ('infer', 'train')
                  for m, i in (('deit-tiny', 'deit'), ('vim-tiny', 'ours'),
                               ('vim-tiny', 'official'))]
    assert all(KEYS <= set(r) for r in rows)
    for row in rows:
        if row['implementation'] == 'official':
            assert row['error'] == 'ImportError: no kernel'
            assert row['images_per_s'] is None
        else:
            deit = next(r for r in rows if r['mode'] == row['mode'])
            assert row['ratio_to_deit'] == pytest.approx(row['images_per_s'] /
                                                         deit['images_per_s'])
    assert 'no kernel' in capsys.readouterr().out
    assert (tmp_path / 'rows.png').stat().st_size > 1000
    before = len(small)
    assert run(tmp_path, '--official', str(tmp_path), *pick) == rows
    assert len(small) == before
    run(tmp_path, '--official', str(tmp_path), '--retry', *pick)
    assert {k[1] for k in small[before:]} == {'official'}


def test_no_row_starts_after_the_time(tmp_path, small, capsys):
    assert run(tmp_path, '--minutes', '0') == []
    assert not small and 'out of time' in capsys.readouterr().out


def test_a_model_is_built_once(tmp_path, small):
    run(tmp_path, '--rows', 'vim-tiny/ours/*')
    assert [k[:3] for k in small] == [('vim-tiny', 'ours', 32)]


def test_the_scan_can_be_chosen(tmp_path, small, monkeypatch):
    monkeypatch.setenv('TRANSMAMBA_SCAN_BACKEND', 'reference')
    rows = run(tmp_path, '--rows', 'vim-tiny/ours/infer/*/b2')
    assert [r['scan'] for r in rows] == ['reference']
    rows = run(tmp_path, '--backend', 'chunked', '--rows',
               'vim-tiny/ours/infer/*/b2')
    assert [r['scan'] for r in rows] == ['reference', 'chunked']
    assert [k[3] for k in small] == ['reference', 'chunked']


@pytest.mark.parametrize('error, timing, works, expected', [
    (None, 'graph', True, False),
    ('RuntimeError: This cannot be recorded as a CUDA graph: x', 'graph', True,
     True),
    ('OutOfMemoryError: x', 'graph', True, True),
    ('OutOfMemoryError: x', 'eager', True, False),
    ('ImportError: x', 'graph', True, False),
    ('RuntimeError: illegal access', 'eager', False, True),
])
def test_a_broken_card_is_left_to_a_fresh_process(monkeypatch, error, timing,
                                                  works, expected):
    monkeypatch.setattr(backbones, 'cuda_works', lambda: works)
    row = Row('vim-tiny', 'ours', 'infer', timing, 224, 1)
    result = {} if error is None else dict(error=error)
    args = argparse.Namespace(device='cuda')
    assert backbones.needs_restart(row, result, args) == expected
    args.device = 'cpu'
    assert not backbones.needs_restart(row, result, args)


def test_the_fresh_process_keeps_the_time_and_the_back_end(monkeypatch):
    calls = []
    monkeypatch.setattr(backbones.os, 'execv', lambda *a: calls.append(a))
    monkeypatch.setattr(backbones.sys, 'argv', ['x.py', '--minutes', '5'])
    args = backbones.parse_args(['--minutes', '5', '--backend', 'chunked'])
    backbones.restart(args)
    command = calls[0][1]
    again = backbones.parse_args(command[2:])
    assert again.resume and again.backend == 'chunked'
    assert again.deadline == pytest.approx(time.time() + 300, abs=5)


@pytest.mark.parametrize('name', [n for n in MODELS if 'small' not in n])
def test_a_model_takes_images(name):
    deit = MODELS[name].family == 'deit'
    model = build(name, 'deit' if deit else 'ours', 32, 'chunked').eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)


def test_the_list_of_rows(capsys):
    assert backbones.main(['--list', '--device', 'cpu']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'deit-tiny/deit/infer/eager/224/b128'
    assert not any('official' in line for line in lines)


def test_the_comparison_with_the_official_code():
    from bench_parts.results import ResultFile
    results = ResultFile(None)
    common = dict(
        bench='backbones',
        model='vim-tiny',
        mode='infer',
        timing='graph',
        resolution=224,
        batch=128,
        precision='bf16',
        card='x',
        torch='y')
    assert 'nothing' in report.table(results)
    results.add(
        dict(
            common,
            implementation='official',
            scan=None,
            images_per_s=100.,
            peak_mib=10.))
    results.add(
        dict(
            common,
            implementation='ours',
            scan='chunked',
            images_per_s=250.,
            peak_mib=5.))
    results.add(
        dict(
            common,
            implementation='mamba_ssm',
            scan='mamba_ssm',
            images_per_s=None,
            peak_mib=None,
            error='x'))
    text = report.table(results)
    assert '2.50x the speed' in text and '0.50x the memory' in text


def test_versions_of_packages_without_metadata(tmp_path, monkeypatch):
    (tmp_path / 'bare_package').mkdir()
    (tmp_path / 'bare_package/__init__.py'
     ).write_text('__version__ = "1.2.post1"\nraise ImportError\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert report._version('bare_package') == '1.2.post1'
    assert report._version('no_such_package') is None


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device')
def test_the_command_on_a_card(tmp_path):
    out = tmp_path / 'rows.json'
    backbones.main([
        '--resolutions', '64', '--batch', '2', '--repeats', '3', '--rows',
        'deit-tiny/*', '*/ours/*', '--out',
        str(out)
    ])
    rows = json.loads(out.read_text())
    assert {r['timing'] for r in rows} == {'eager', 'graph'}
    for row in rows:
        assert 'error' not in row, row
        assert row['peak_mib'] > 0 and 0 < row['copy_share'] < 1
