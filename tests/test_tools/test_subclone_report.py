"""The dry run of a subcloning says what the hook then does."""
import json

import torch
from mmengine.config import Config
from mmpretrain.registry import HOOKS, MODELS

from tests.toy import student_cfg, vit_cfg
from ..command import ROOT, run_python

TOOL = ROOT / 'tools/analysis_tools/subclone_report.py'


def write_files(folder, **hook):
    """Write a teacher, and the config of a student."""
    torch.manual_seed(0)
    teacher = MODELS.build(vit_cfg(48, 3))
    torch.save(teacher.state_dict(), folder / 'teacher.pth')
    cfg = Config(
        dict(
            model=student_cfg(),
            custom_hooks=[
                dict(
                    type='transmamba_mm.WeightSubcloneHook',
                    checkpoint='teacher.pth',
                    **hook)
            ]))
    cfg.dump(folder / 'student.py')
    return cfg


def test_dry_run_is_what_the_hook_does(tmp_path):
    cfg = write_files(tmp_path, plan='linear', depth_map='last_n')
    log = run_python(TOOL, 'student.py', cwd=tmp_path)
    path = tmp_path / 'work_dirs/student/subclone_plan.json'
    report = json.loads(path.read_text())
    torch.manual_seed(0)
    hook = HOOKS.build(
        dict(cfg.custom_hooks[0], checkpoint=str(tmp_path / 'teacher.pth')))
    model = MODELS.build(cfg.model)
    _, want = hook.clone(model)
    assert report == json.loads(want.to_json())
    names = [n.replace('backbone.', '') for n, _ in model.named_parameters()]
    assert sorted(r['tensor'] for r in report['rows']) == sorted(names)
    for row in report['rows']:
        assert row['reason' if row['action'] == 'skipped' else 'source'], row
    assert report['total'] == sum(p.numel() for p in model.parameters())
    assert 0 < report['percent'] < 100
    assert f'({report["percent"]:.1f} %) come from the teacher' in log
    assert 'layers.2.norm1.weight' in log, 'the last block, by depth_map'
    assert list(path.parent.iterdir()) == [path], 'nothing was trained'


def test_options_of_the_dry_run(tmp_path):
    write_files(tmp_path, first_n=1)
    (tmp_path / 'teacher.pth').rename(tmp_path / 'other.pth')
    log = run_python(
        TOOL,
        'student.py',
        'other.pth',
        '--plan',
        'qkv_to_ssm',
        '--out',
        'plan.json',
        '--cfg-options',
        'custom_hooks.0.first_n=-1',
        cwd=tmp_path)
    rows = json.loads((tmp_path / 'plan.json').read_text())['rows']
    actions = {r['tensor']: r['action'] for r in rows}
    assert actions['layers.2.mixer.x_proj.weight'] == 'factorised'
    assert 'of the squared scores' in log


def test_the_data_preprocessor_of_the_whole_config_counts(tmp_path):
    cfg = write_files(tmp_path)
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.dump(tmp_path / 'student.py')
    folder = tmp_path / 'teacher'
    folder.mkdir()
    (tmp_path / 'teacher.pth').rename(folder / 'pytorch_model.bin')
    (folder / 'preprocessor_config.json').write_text(
        json.dumps(dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)))
    log = run_python(TOOL, 'student.py', 'teacher', cwd=tmp_path)
    assert 'the student sees [120.0, 120.0, 120.0]' in log


def test_what_is_missing_is_said(tmp_path):
    write_files(tmp_path)
    cfg = Config.fromfile(tmp_path / 'student.py')
    cfg.pop('custom_hooks')
    cfg.dump(tmp_path / 'plain.py')
    log = run_python(TOOL, 'plain.py', 'teacher.pth', cwd=tmp_path)
    assert 'no WeightSubcloneHook; its default options' in log
    assert 'come from the teacher' in log
    log = run_python(TOOL, 'plain.py', cwd=tmp_path, fails=True)
    assert 'Name the teacher' in log
    log = run_python(TOOL, 'student.py', 'none.pth', cwd=tmp_path, fails=True)
    assert "No teacher weights at 'none.pth'" in log
