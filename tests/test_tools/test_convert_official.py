"""The command that converts official files."""
import argparse
import hashlib
import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS

from ..command import ROOT
from ..test_convert.layouts import bidirectional, fill, plainmamba, vmamba
from .test_flags import load_tool

TOOL = ROOT / 'tools/model_converters/convert_official.py'


def save(content, path, **kwargs):
    torch.save(content, path, **kwargs)
    return str(path)


def run(*args):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, args)],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        text=True,
        capture_output=True)


@pytest.fixture(scope='module')
def tool():
    return load_tool('model_converters/convert_official')


@pytest.fixture
def vim_file(tmp_path):
    state = fill(bidirectional())
    args = argparse.Namespace(model='my_model', lr=0.1)
    return save(
        dict(model=state, model_ema=state, args=args), tmp_path / 'vim.pth')


def test_command(tmp_path, vim_file):
    done = run(vim_file, tmp_path / 'x.pth')
    assert done.returncode == 1 and not done.stdout
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith(f'convert_official: {vim_file}: the weights fit')
    assert error.endswith('--family vim or --family videomamba')
    assert 'Traceback' not in done.stderr

    done = run(vim_file, tmp_path / 'out/x.pth', '--family', 'vim')
    assert done.returncode == 0, done.stderr
    lines = dict(
        line.split(':', 1) for line in done.stdout.splitlines() if ':' in line)
    report = {k: v.strip() for k, v in lines.items()}
    assert report['family'] == 'vim' and report['size'] == 'custom'
    count = len(bidirectional())
    assert report['tensors'] == f'{count} of {count} mapped'
    assert "'model_ema'" in report['not_taken']
    assert 'argparse.Namespace' in report['not_loaded']
    path, = (tmp_path / 'out').iterdir()
    assert report['file'] == str(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'x-{digest[:8]}.pth'
    checkpoint = torch.load(path, weights_only=True)
    model = MODELS.build(checkpoint['meta']['model'])
    load_checkpoint(model, str(path), strict=True)
    assert torch.equal(model.head.fc.bias, fill(bidirectional())['head.bias'])


@pytest.mark.parametrize('family, shapes', [
    ('vim', bidirectional(192, 24, classes=1000)),
    ('plainmamba', plainmamba(192, 24, convs=1, dw=(0, ), classes=1000)),
    ('videomamba', bidirectional(192, 24, classes=1000)),
    ('vmamba', vmamba(96, (2, 2, 8, 2), classes=1000)),
])
def test_published_file_fits_its_config(tmp_path, tool, family, shapes):
    state = fill(shapes)
    src = save(dict(model=state), tmp_path / 'official.pth')
    report = tool.convert(src, str(tmp_path / 'x.pth'),
                          family if family.startswith('vi') else None, 1000)
    assert 'cfg_options' not in report
    config = Config.fromfile(ROOT / report['config'])
    model = MODELS.build(config.model)
    load_checkpoint(model, report['file'], strict=True)
    loaded = model.state_dict()['head.fc.weight']
    assert torch.equal(loaded, state[list(shapes)[-2]])


def test_changes_of_the_config_are_told(tmp_path, tool):
    shapes = bidirectional(192, 24, positions=730, classes=5)
    src = save(fill(shapes), tmp_path / 'official.pth')
    report = tool.convert(src, str(tmp_path / 'x.pth'), 'vim')
    assert report['taken_from'] == 'the file'
    assert report['config'] == 'configs/_base_/models/vim-tiny.py'
    assert report['cfg_options'] == ('model.backbone.patch_stride=8 '
                                     'model.head.num_classes=5')
    config = Config.fromfile(ROOT / report['config'])
    config.merge_from_dict({
        k: int(v)
        for k, v in (c.split('=') for c in report['cfg_options'].split())
    })
    load_checkpoint(MODELS.build(config.model), report['file'], strict=True)


def test_errors_write_no_file(tmp_path, tool, vim_file):
    cut = tmp_path / 'cut.pth'
    cut.write_bytes((tmp_path / 'vim.pth').read_bytes()[:3000])
    out = tmp_path / 'out.pth'
    for args, error, message in (((str(cut), ), ValueError, 'truncated'),
                                 (('no.pth', ), FileNotFoundError,
                                  'does not exist'), ((vim_file, 'plainmamba'),
                                                      ValueError,
                                                      'vim.pth: .*plainmamba'),
                                 ((vim_file, 'vim', 1000), ValueError,
                                  '10 classes, but 1000'),
                                 ((vim_file, 'vim', None, 'ema'), ValueError,
                                  "under 'ema'")):
        with pytest.raises(error, match=message):
            tool.convert(args[0], str(out), *args[1:])
    assert sorted(p.name for p in tmp_path.iterdir()) == ['cut.pth', 'vim.pth']
