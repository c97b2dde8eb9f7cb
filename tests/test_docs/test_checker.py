"""The checks of the documentation find what is wrong."""
from pathlib import Path

import pytest

from .blocks import find_blocks
from .config_block import check_names, is_config
from .shell import check_shell

RECIPE = 'configs/transmamba/vim-nano-16_1xb64-20e_digits.py'


@pytest.mark.parametrize('command, problem', [
    ('python tools/nothing.py', 'there is no tools/nothing.py'),
    ('python tools/train.py configs/x.py', 'there is no configs/x.py'),
    ('python tools/train.py', 'does not take these'),
    ('python tools/train.py CONFIG --resum3', 'does not take these'),
    ('python tools/train.py CONFIG --launcher ssh', 'does not take these'),
    (f'python tools/train.py {RECIPE} --cfg-options model.nek.type.x=1',
     'no place for model.nek.type.x'),
    ('--cfg-options custom_hooks.7.plan=linear',
     'no place for custom_hooks.7.plan'),
    ('bash tools/dist_train.sh CONFIG 8 --amb', 'does not take these'),
    ('make quickstrat', 'does not know quickstrat'),
    ('make quickstart SEED=1', 'does not know SEED=1'),
    ("pip install '.[tunes]'", 'no extra tunes'),
    ('pip install -r requirements/gpu.txt', 'no requirements/gpu.txt'),
    ('sudo rm x', "no check for 'sudo'"),
    ('cd x && C=configs/no && python tools/train.py $C.py',
     'no configs/no.py'),
])
def test_wrong_commands(command, problem):
    assert any(problem in found for found in check_shell(command))


@pytest.mark.parametrize('command', [
    f'python tools/train.py {RECIPE} --resume  # go on',
    'A=1 TEACHER=a.pth bash tools/slurm_train.sh PART JOB CONFIG WORK --amp',
    'python tools/train.py CONFIG \\\n    --cfg-options a=1',
])
def test_right_commands(command):
    assert not check_shell(command)


@pytest.mark.parametrize('text, problem', [
    ("x = dict(type='transmamba_mm.PlainMambo')", 'nothing is registered'),
    ("x = [dict(type='transmamba_mm.PlainMamba', ach='l1')]",
     'transmamba_mm.PlainMamba takes no ach'),
    ("x = dict(type='RandomCrop', size=3)", 'RandomCrop takes no size'),
])
def test_wrong_configs(text, problem):
    assert problem in check_names(text)[0]


def test_kinds_of_python():
    assert is_config("_base_ = ['x.py']\nmodel = dict(head=dict(a=1))")
    assert not is_config('import torch')
    assert not is_config('x = f(1)')
    assert not is_config('x = (')


def test_blocks_and_marks():
    text = ('```python\na = 1\n```\n'
            '<!-- not run: because -->\n\n  ````bash\n  ls ```\n  ````\n'
            '<!-- not run: of another block -->\nText.\n```\nx\n```\n'
            '```{note}\nno code\n```\n')
    found = find_blocks(Path('page.md'), text)
    assert [(b.line, b.language, b.text, b.reason) for b in found] == [
        (1, 'python', 'a = 1', None),
        (6, 'bash', 'ls ```', 'because'),
        (11, '', 'x', None),
    ]
    with pytest.raises(AssertionError, match='never closed'):
        find_blocks(Path('page.md'), '```\nx')
