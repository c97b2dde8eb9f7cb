"""Faults from checkpoints and from kept predictions."""
import json
import sys

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.apis import predict_dataset
from transmamba_mm.evaluation import fault_report
from .test_flags import load_tool

LOADER = dict(
    batch_size=8,
    num_workers=0,
    dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=False))


def write_model(folder, name, model):
    """Write the config and random weights of a model."""
    torch.manual_seed(len(name))
    weights = MODELS.build(model).state_dict()
    torch.save(weights, folder / f'{name}.pth')
    cfg = Config(
        dict(model=model, test_dataloader=LOADER, default_scope='mmpretrain'))
    cfg.dump(folder / f'{name}.py')
    return [str(folder / f'{name}.py'), str(folder / f'{name}.pth')]


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Run the tool in this process, in a folder of its own."""
    tool = load_tool('analysis_tools/compare_faults')
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['compare_faults.py', *args])
        tool.main()

    return run


def test_figures_are_those_of_the_function(tool, tmp_path, capsys):
    teacher = write_model(tmp_path, 'teacher', vit_cfg())
    student = write_model(tmp_path, 'student', student_cfg(distiller={}))
    answers = predict_dataset(*student, 'cpu')
    want = fault_report(predict_dataset(*teacher, 'cpu'), dict(taught=answers))
    answers.save(tmp_path / 'kept.npz')
    tool('--teacher', *teacher, '--student', 'taught', *student, '--student',
         'kept', 'kept.npz', '--device', 'cpu')
    report = json.loads((tmp_path / 'faults.json').read_text())
    assert report['students']['taught'] == want['students']['taught']
    assert report['teacher'] == want['teacher']
    kept, taught = (report['students'][k] for k in ('kept', 'taught'))
    assert kept['agreement'] == taught['agreement']
    text = capsys.readouterr().out
    assert 'accuracy of class d, %' in text and '16 images' in text
    assert f'{taught["ece"]:.2f}' in text


def test_options_reach_all_configs(tool, tmp_path):
    teacher = write_model(tmp_path, 'teacher', vit_cfg())
    tool('--teacher', *teacher, '--student', 'same', *teacher, '--out',
         'few.json', '--cfg-options', 'test_dataloader.dataset.length=5')
    report = json.loads((tmp_path / 'few.json').read_text())
    assert report['images'] == 5
    assert report['students']['same']['agreement'] == 100


def test_what_cannot_be_compared_is_said(tool, capsys):
    with pytest.raises(SystemExit):
        tool('--teacher', 'a.npz', '--student', 'x')
    assert '--student takes NAME CONFIG CHECKPOINT' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='need names of their own'):
        tool('--teacher', 'a.npz', '--student', 'teacher', 'b.npz')
