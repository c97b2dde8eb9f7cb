"""The search for good settings, with probes that are real once."""
import importlib.util
import json
import sys

import pytest
import torch
from mmengine.config import Config

from ..command import ROOT, run_python
from .test_workflow import CONFIGS, STUDENT, TEACHER, write_images

pytest.importorskip('optuna')
TOOL = ROOT / 'tools/analysis_tools/tune_wsab.py'
CONFIG = CONFIGS / f'{STUDENT}.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('tune_wsab', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def search(monkeypatch, folder, run, *args, config=CONFIG):
    """Search with another function in place of the training."""
    command = [
        'tune_wsab.py', config, '--work-dir', folder, '--budget-minutes', 1,
        *args
    ]
    monkeypatch.setattr(sys, 'argv', [str(a) for a in command])
    monkeypatch.setattr(tool.probe, 'run_probe', run)
    tool.Search(tool.parse_args()).run()


def test_unknown_choices_are_refused_at_once(monkeypatch, tmp_path, capsys):
    for option in ('--presets', '--layer-maps'):
        with pytest.raises(SystemExit):
            search(monkeypatch, tmp_path, value_of, option, 'sage')
        assert "invalid choice: 'sage'" in capsys.readouterr().err


def value_of(config, *_):
    """Best with many layers cloned by 'linear', and a small alpha."""
    cfg = Config.fromfile(config)
    clone, distill = cfg.custom_hooks
    bonus = dict(none=0, safe=1, linear=2)[clone.get('plan', 'safe')]
    return bonus + (clone.get('first_n') or 0) - cfg.model.distiller.alpha


def test_the_best_settings_are_written_as_a_difference(monkeypatch, tmp_path):
    search(monkeypatch, tmp_path, value_of, '--max-probes', 15)
    text = (tmp_path / 'best.py').read_text()
    assert text.startswith('_base_ = ')
    best, base = (Config.fromfile(p) for p in (tmp_path / 'best.py', CONFIG))
    clone, distill = best.custom_hooks
    assert (clone.plan, clone.first_n) == ('linear', 4)
    assert best.model.distiller.alpha < 1
    assert distill == base.custom_hooks[1]
    assert best.train_cfg == base.train_cfg
    assert best.param_scheduler == base.param_scheduler
    report = json.loads((tmp_path / 'tune_report.json').read_text())
    first = report['probes'][0]
    assert (first['preset'], first['first_n'], first['alpha'],
            first['layer_map']) == ('safe', 2, 1, 'proportional')
    values = [row['value'] for row in report['probes']]
    assert len(values) == 15
    assert values[report['best']] == max(values) > values[0] + 2


def test_a_second_start_goes_on_and_a_killed_probe_comes_again(
        monkeypatch, tmp_path):
    seen = []

    def killed(config, *args):
        seen.append(Config.fromfile(config).model.distiller)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return value_of(config)

    with pytest.raises(KeyboardInterrupt):
        search(monkeypatch, tmp_path, killed)
    assert (tmp_path / 'best.py').exists()
    search(monkeypatch, tmp_path, killed, '--max-probes', 1)
    assert seen[3] == seen[2]
    report = json.loads((tmp_path / 'tune_report.json').read_text())
    assert [r['number'] for r in report['probes']] == [0, 1, 3]
    with pytest.raises(SystemExit, match='another --work-dir'):
        search(monkeypatch, tmp_path, killed, '--epochs', 1)


def test_the_budget_ends_the_search(monkeypatch, tmp_path):
    clock = [0.]
    monkeypatch.setattr(tool.time, 'monotonic', lambda: clock[0])
    limits = []

    def run(config, folder, metric, timeout, options):
        limits.append(timeout)
        clock[0] += 25
        return 1.

    search(monkeypatch, tmp_path, run)
    assert limits == [60, 35], 'a third probe of 25 s would not fit'


def test_failures(monkeypatch, tmp_path):

    def fail(*args):
        raise tool.probe.ProbeError('broken')

    with pytest.raises(SystemExit, match='No probe has ended well'):
        search(monkeypatch, tmp_path / 'a', fail)
    calls = []

    def once(config, *args):
        calls.append(1)
        return value_of(config) if len(calls) == 1 else fail()

    with pytest.raises(SystemExit, match='3 probes in a row'):
        search(monkeypatch, tmp_path / 'b', once)
    assert (tmp_path / 'b/best.py').exists()


def test_schedules_are_squeezed_into_a_probe():
    cfg = Config.fromfile(CONFIG)
    hooks = [
        dict(
            type='x',
            stages=[
                dict(kind='calibration', epochs=5),
                dict(kind='distillation', warmup_epochs=10)
            ]),
        dict(type='x', stop_epoch=10)
    ]
    changes = tool.probe.shorten(cfg, 4, hooks)  # of 20
    assert changes['train_cfg'] == dict(
        max_epochs=4, val_begin=1, val_interval=4)
    assert [s['type'] for s in changes['param_scheduler']
            ] == ['CosineAnnealingLR'], 'the warm-up of 2 epochs is gone'
    assert changes['param_scheduler'][0]['begin'] == 0
    assert [s.get('epochs') for s in hooks[0]['stages']] == [1, None]
    assert hooks[0]['stages'][1]['warmup_epochs'] == 2
    assert hooks[1]['stop_epoch'] == 2
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=9)
    with pytest.raises(ValueError, match='max_epochs'):
        tool.probe.shorten(cfg, 4, [])


def space(**changes):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(changes)
    return tool.space.Space(cfg, ['safe', 'linear'], ['proportional', 'cka'])


def test_the_space_follows_the_config():
    own = space(**{'custom_hooks.0.plan': 'none'})
    assert own.presets == ['safe', 'linear', 'none']
    assert own.own() == dict(preset='none', alpha=1., layer_map='proportional')
    own = space(**{'model.distiller.balance': 'grad_norm'})
    assert 'alpha' not in own.own()
    own = space(**{'model.distiller.variant': 'paper_v1'})
    assert own.own()['alpha'] == 0.5 and own.alphas['high'] < 1
    own = space(**{'model.distiller.layer_map': [0, 1, 2, 3]})
    assert own.own()['layer_map'] == 'own'
    assert 'layer_map' not in own.changes(own.own())['model']['distiller']
    own = space(
        **{'custom_hooks.0.plan': dict(preset='linear', exclude=['pos'])})
    plan = own.changes(dict(preset='safe', first_n=3))['custom_hooks'][0]
    assert plan['plan'] == dict(preset='safe', exclude=['pos'], first_n=3)
    cfg = Config.fromfile(CONFIG)
    cfg.custom_hooks = []
    with pytest.raises(ValueError, match='does not distil'):
        tool.space.Space(cfg, [], [])


def test_real_probes(tmp_path):
    """One of one epoch, through the training tool."""
    write_images(tmp_path / 'data/digits')
    from mmpretrain import get_model
    teacher = get_model(str(CONFIGS / f'{TEACHER}.py'))
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    log = run_python(
        TOOL,
        CONFIG,
        '--budget-minutes',
        4,
        '--epochs',
        1,
        '--max-probes',
        1,
        '--cfg-options',
        'train_dataloader.batch_size=20',
        cwd=tmp_path,
        TEACHER=str(tmp_path / 'teacher.pth'))
    folder = tmp_path / f'work_dirs/tune_{STUDENT}'
    assert 'Best of 1 probe' in log and str(folder.name) in log
    assert 'Epoch(train) [1][4/4]' in (folder /
                                       'probe_000/probe.log').read_text()
    assert not list(folder.glob('*/*.pth'))
    best = Config.fromfile(folder / 'best.py')
    assert best.custom_hooks[0].checkpoint == str(tmp_path / 'teacher.pth')
    assert best.train_cfg.max_epochs == 20
