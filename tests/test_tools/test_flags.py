"""What the flags of train.py and test.py do to a config."""
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ..command import ROOT

RECIPE = ROOT / 'configs/transmamba/vim-nano-16_1xb64-20e_digits.py'


def load_tool(name):
    spec = importlib.util.spec_from_file_location(
        Path(name).name, ROOT / f'tools/{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture
def merge(monkeypatch):
    """Merge a command line into a config as a tool does."""
    monkeypatch.setenv('LOCAL_RANK', '0')

    def run(name, *args, without=None, **changes):
        tool = load_tool(name)
        monkeypatch.setattr(sys, 'argv', [name, str(RECIPE), *args])
        cfg = Config.fromfile(RECIPE)
        cfg.merge_from_dict(changes)
        cfg.pop(without, None)
        return tool.merge_args(cfg, tool.parse_args())

    return run


@pytest.fixture
def card(monkeypatch):
    """Pretend that there is a card."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)

    def set_bf16(supported):
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: supported)

    set_bf16(True)
    return set_bf16


def test_flags_win_over_options(merge):
    cfg = merge('train', '--work-dir', 'here', '--no-validate',
                '--cfg-options', 'work_dir=there',
                'val_dataloader.batch_size=7',
                'train_dataloader.dataset.fraction=0.5')
    assert cfg.work_dir == 'here'
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    assert cfg.train_dataloader.dataset.fraction == 0.5


def test_work_dir_is_named_after_the_config(merge):
    assert merge('train').work_dir == f'work_dirs/{RECIPE.stem}'
    assert merge('test', 'file.pth').work_dir == f'work_dirs/{RECIPE.stem}'


def test_resume_from_the_last_or_a_given_checkpoint(merge):
    cfg = merge('train', '--resume', load_from='weights.pth')
    assert cfg.resume and cfg.load_from is None
    cfg = merge('train', '--resume', 'some.pth')
    assert cfg.resume and cfg.load_from == 'some.pth'
    cfg = merge('train', load_from='weights.pth')
    assert not cfg.resume and cfg.load_from == 'weights.pth'


def test_memory_is_pinned_for_a_card_only(merge, card):
    assert merge('train').train_dataloader.pin_memory
    assert not merge('train', '--no-pin-memory').train_dataloader.pin_memory
    assert not merge('test', 'x.pth',
                     '--no-pin-memory').test_dataloader.pin_memory


def test_memory_is_not_pinned_on_a_cpu(merge):
    cfg = merge('train')
    loaders = (cfg.train_dataloader, cfg.val_dataloader,
               merge('test', 'x.pth').test_dataloader)
    assert not any(loader.pin_memory for loader in loaders)


def test_workers_end_after_an_epoch_unless_asked_for(merge):
    workers = {'train_dataloader.num_workers': 2}
    kept = {**workers, 'train_dataloader.persistent_workers': True}
    assert not merge('train', **workers).train_dataloader.persistent_workers
    assert merge('train', **kept).train_dataloader.persistent_workers
    assert not merge('train', '--no-persistent-workers', **
                     kept).train_dataloader.persistent_workers
    without = {**kept, 'train_dataloader.num_workers': 0}
    assert not merge('train', **without).train_dataloader.persistent_workers


@pytest.mark.parametrize('supported, dtype', [(True, 'bfloat16'),
                                              (False, 'float16')])
def test_mixed_precision_is_what_the_card_has(merge, card, supported, dtype):
    card(supported)
    wrapper = merge('train', '--amp').optim_wrapper
    assert (wrapper.type, wrapper.dtype) == ('AmpOptimWrapper', dtype)


def test_mixed_precision_follows_the_config(merge, card):
    wrapper = merge('train', '--amp', '--cfg-options',
                    'optim_wrapper.dtype=float16').optim_wrapper
    assert wrapper.dtype == 'float16'


def test_mixed_precision_on_a_cpu_is_refused(merge):
    with pytest.raises(ValueError, match='--amp needs an accelerator'):
        merge('train', '--amp')


def test_learning_rate_is_scaled_from_a_known_batch_size(merge):
    assert merge('train', '--auto-scale-lr').auto_scale_lr.enable
    assert not merge('train').auto_scale_lr.get('enable')
    with pytest.raises(ValueError, match='base_batch_size'):
        merge('train', '--auto-scale-lr', without='auto_scale_lr')


def test_schedule_that_never_begins_is_named(merge):
    with pytest.raises(
            ValueError,
            match=r'max_epochs=2, but param_scheduler\[1\] '
            r'\(CosineAnnealingLR\) begins after epoch 2') as error:
        merge('train', '--cfg-options', 'train_cfg.max_epochs=2')
    fix = re.findall(r'param_scheduler=\S+', str(error.value))
    cfg = merge('train', '--cfg-options', 'train_cfg.max_epochs=2', *fix)
    assert cfg.param_scheduler is None


def test_results_need_a_file(merge, capsys):
    with pytest.raises(SystemExit):
        merge('test', 'x.pth', '--out-item', 'metrics')
    assert '--out-item needs --out' in capsys.readouterr().err


def test_predictions_need_the_hook(merge):
    hook = merge('test', 'x.pth', '--show-dir', 'shown', '--interval',
                 '3').default_hooks.visualization
    assert (hook.enable, hook.out_dir, hook.interval) == (True, 'shown', 3)
    with pytest.raises(ValueError, match='default_hooks.visualization'):
        merge('test', 'x.pth', '--show', '--cfg-options',
              'default_hooks.visualization=None')


def test_test_in_mixed_precision(merge):
    assert merge('test', 'x.pth', '--amp').test_cfg.fp16
    assert not merge('test', 'x.pth').test_cfg.get('fp16')


def test_only_a_checkpoint_is_published(tmp_path):
    tool = load_tool('model_converters/publish_model')
    torch.save(dict(weight=torch.zeros(2)), tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match="holds no 'state_dict', but .'wei"):
        tool.publish(str(tmp_path / 'plain.pth'), str(tmp_path / 'x.pth'))
    assert [p.name for p in tmp_path.iterdir()] == ['plain.pth']


@pytest.fixture
def echo(tmp_path):
    """Run a shell script with python and srun that echo their arguments."""
    for name in ('python', 'srun'):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@"\necho "$PYTHONPATH"\n')
        stub.chmod(0o755)

    def run(script, *args, **env):
        env = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', **env)
        done = subprocess.run([str(ROOT / 'tools' / script), *args],
                              env=env,
                              text=True,
                              capture_output=True,
                              cwd=tmp_path,
                              check=True)
        command, path = done.stdout.splitlines()[:2]
        first = path.split(':')[0]
        assert os.path.samefile(first, ROOT), 'the package is not on the path'
        return command

    return run


def test_distributed_scripts(echo):
    train = echo(
        'dist_train.sh', 'c.py', '2', '--amp', '--work-dir', 'w', PORT='29511')
    assert '--nproc-per-node=2' in train and '--master-port=29511' in train
    assert train.endswith(
        'tools/train.py c.py --launcher pytorch --amp --work-dir w')
    test = echo('dist_test.sh', 'c.py', 'x.pth', '4', '--tta')
    assert '--nproc-per-node=4' in test
    assert test.endswith('tools/test.py c.py x.pth --launcher pytorch --tta')


def test_slurm_scripts(echo):
    train = echo(
        'slurm_train.sh',
        'part',
        'job',
        'c.py',
        'w',
        '--amp',
        GPUS='16',
        SRUN_ARGS='--quotatype=auto --time=1')
    assert train.startswith('srun -p part --job-name=job')
    assert '--ntasks=16 ' in train and '--quotatype=auto --time=1 ' in train
    assert train.endswith(
        'tools/train.py c.py --work-dir=w --launcher=slurm --amp')
    test = echo('slurm_test.sh', 'part', 'job', 'c.py', 'x.pth', '--tta')
    assert test.endswith('tools/test.py c.py x.pth --launcher=slurm --tta')
