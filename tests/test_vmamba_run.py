"""Subcloning and distillation of a student with stages, in the runner."""
import json

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import make_runner, student_cfg, vit_cfg


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


def test_the_whole_method_trains_vmamba(tmp_path, weights):
    teacher = dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=vit_cfg(),
        checkpoint=weights)
    runner = make_runner(
        tmp_path / 'run',
        student_cfg('VMamba', distiller={}, with_cp=True, drop_path_rate=0.1),
        [
            dict(
                type='transmamba_mm.WeightSubcloneHook',
                checkpoint=weights,
                plan='linear',
                first_n='all'),
            dict(type='transmamba_mm.BidirectionalDistillHook',
                 teacher=teacher),
            dict(type='EMAHook', momentum=0.1),
        ])  # yapf: disable
    runner.train()
    report = json.loads(
        (tmp_path / 'run' / 'subclone_report.json').read_text())
    rows = {row['tensor']: row for row in report['rows']}
    for i, source in enumerate((0, 2, 4)):
        row = rows[f'layers.{i}.blocks.0.op.in_proj.weight']
        assert row['action'] != 'skipped'
        assert row['source'] == f'layers.{source}.v.weight'
    assert rows['layers.0.downsample.1.weight']['action'] == 'skipped'
    path = next((tmp_path / 'run').rglob('scalars.json'))
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    train = [row for row in logged if 'loss' in row]
    directions = runner.model.backbone.direction_names
    assert {f'distill.loss_{n}' for n in directions} <= set(train[-1])
    assert 'accuracy/top1' in logged[-1]
