"""Which layer, direction and values; and the batch that shows it again."""
import pickle

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from tests.test_distillation_run import distill_hook
from tests.toy import make_runner, student_cfg, vit_cfg
from transmamba_mm.utils.non_finite import (describe_range,
                                            first_non_finite_module)
from transmamba_mm.utils.replay import replay_batch
from transmamba_mm.utils.saved_batch import load_batch, save_batch

GUARD = dict(type='transmamba_mm.NonFiniteGuardHook', max_consecutive=3)


def test_ranges():
    values = torch.tensor([[-2., float('nan')], [float('inf'), 3.5]])
    assert describe_range(values) == (
        'float32 (2, 2), 1 NaN and 1 infinite, finite values from -2 to 3.5')
    assert describe_range([torch.ones(2), values]) == describe_range(values)
    assert describe_range(
        torch.ones(1).half()) == ('float16 (1,), finite values from 1 to 1')
    assert describe_range(
        values[1, :1]).endswith('0 NaN and 1 infinite, none finite')
    assert describe_range(('text', torch.arange(3))) == 'no tensor'


def test_modules_in_order():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    nn.init.constant_(model[0].bias, float('nan'))
    with first_non_finite_module(model) as found:
        model(torch.zeros(1, 2))
    assert [f.name for f in found] == ['0', '1.0', '1']
    assert [f.input_is_finite for f in found] == [True, False, False]
    assert [bool(f.before) for f in found] == [False] * 3
    assert not any(m._forward_hooks for m in model.modules())


def break_direction(model, direction, layer=1):
    """Let one scan direction overflow, with finite weights."""
    mixer = model.backbone.layers[layer].mixer
    suffix = dict(forward='', backward='_b')[direction]
    with torch.no_grad():
        getattr(mixer, f'conv1d{suffix}').bias.fill_(1e3)
        getattr(mixer, f'D{suffix}').fill_(3e38)


def train(folder, model, hooks=(), breaks=None, **guard):
    """Train a broken student until the guard stops it."""
    runner = make_runner(folder, model, [*hooks, {**GUARD, **guard}], epochs=2)
    init = runner.model.init_weights

    def init_and_break():
        init()
        break_direction(runner.model, breaks or 'backward')

    runner.model.init_weights = init_and_break
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    return runner, str(error.value)


@pytest.mark.parametrize('direction', ['forward', 'backward'])
@pytest.mark.parametrize('kind', ['VisionMamba', 'VideoMamba'])
def test_direction_is_named_and_replayed(tmp_path, kind, direction):
    runner, error = train(tmp_path, student_cfg(kind), breaks=direction)
    assert "'backbone.layers.1.mixer.out_proj' (Linear)" in error
    assert f"directions of 'backbone.layers.1' with it: ['{direction}']" in \
        error
    assert 'float32 (8, 17, 64)' in error and 'NaN and' in error, error
    assert 'such as the scan' in error
    before = "The last finite one was 'backbone.layers.1.mixer.in_proj'"
    assert f'{before}: float32 (8, 17, 128), finite values from -' in error
    files = sorted((tmp_path / 'non_finite').iterdir())
    assert [p.name for p in files] == ['iter_1.pth', 'iter_3.pth']
    saved = load_batch(str(files[0]))
    assert saved['reason'] in error or direction in saved['reason']
    assert replay_batch(runner.cfg, str(files[0])) == saved['reason']


def test_replay_of_a_distillation(tmp_path):
    """The teacher comes back, and so does the stage."""
    torch.manual_seed(0)
    teacher = MODELS.build(vit_cfg())
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    hook = distill_hook(str(tmp_path / 'teacher.pth'), warmup_epochs=1)
    runner, _ = train(tmp_path / 'run', student_cfg(distiller={}), [hook])
    path = str(tmp_path / 'run/non_finite/iter_1.pth')
    saved = load_batch(path)
    assert saved['distiller']['progress'] == 0.5
    assert len(saved['distiller']['layer_map']) == 3
    assert replay_batch(runner.cfg, path) == saved['reason']
    cfg = runner.cfg
    cfg.custom_hooks = []
    with pytest.raises(ValueError, match='no BidirectionalDistillHook'):
        replay_batch(cfg, path)


@MODELS.register_module(force=True)
class Unlucky(BaseModel):
    """Fails on an unlucky draw of each random generator only."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.layer = nn.Linear(3 * 16 * 16, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        draws = torch.rand(1).item(), np.random.rand()
        out = self.layer(inputs.flatten(1))
        bad = draws[0] < 0.5 and draws[1] < 0.5
        return dict(loss=out.mean() * (float('nan') if bad else 1.))


def test_replay_draws_the_same_numbers(tmp_path):
    model = dict(
        type='Unlucky',
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor', mean=[0.], std=[255.]))
    runner = make_runner(
        tmp_path, model, [dict(GUARD, max_consecutive=20)], epochs=8)
    runner._val_loop = runner._val_dataloader = runner._val_evaluator = None
    runner.train()
    files = list((tmp_path / 'non_finite').iterdir())
    assert files, 'the seed is too lucky'
    for path in files:
        for _ in range(4):
            assert replay_batch(runner.cfg, str(path)) is not None


def test_replay_in_mixed_precision(tmp_path):
    runner, _ = train(tmp_path, student_cfg())
    path = str(tmp_path / 'non_finite/iter_1.pth')
    content = torch.load(path)
    assert content['autocast'] is None
    assert 'bfloat16' not in replay_batch(runner.cfg, path)
    torch.save(dict(content, autocast='bfloat16'), path)
    assert 'bfloat16 (8, 17, ' in replay_batch(runner.cfg, path)


def test_no_file_is_wanted(tmp_path):
    _, error = train(tmp_path, student_cfg(), max_files=0)
    assert not (tmp_path / 'non_finite').exists()
    assert 'replay_batch' not in error


def test_weights_that_do_not_fit(tmp_path):
    """The batch goes before the weights; a checkpoint takes their place."""
    runner, error = train(tmp_path, student_cfg(), max_megabytes=0.02)
    path = str(tmp_path / 'non_finite/iter_1.pth')
    assert 'state_dict' not in load_batch(path)
    assert '--checkpoint CHECKPOINT' in error
    with pytest.raises(ValueError, match='--checkpoint.*iteration 1'):
        replay_batch(runner.cfg, path)
    torch.save(dict(state_dict=runner.model.state_dict()), tmp_path / 'w.pth')
    reason = replay_batch(runner.cfg, path, str(tmp_path / 'w.pth'))
    assert "['backward']" in reason


def test_full_disk_does_not_end_the_training(tmp_path, monkeypatch):

    def fail(*args, **kwargs):
        raise OSError('No space left on device')

    monkeypatch.setattr(
        'transmamba_mm.engine.hooks.non_finite_guard_hook.save_batch', fail)
    _, error = train(tmp_path, student_cfg())
    assert 'could not be saved: No space left' in error
    assert 'iteration 3' in error


def batch_of(count):
    samples = [
        DataSample(metainfo=dict(path=f'{i}.png', skipped=object()))
        for i in range(count)
    ]
    for i, sample in enumerate(samples):
        sample.set_gt_label(i).set_gt_score(torch.eye(count)[i])
    return dict(
        inputs=list(torch.arange(100. * count).view(count, 100)),
        data_samples=samples,
        more=dict(text=['a'] * count, array=np.arange(3, dtype=np.uint32)))


def test_batch_comes_back(tmp_path):
    path, batch = str(tmp_path / 'sub/x.pth'), batch_of(4)
    told = save_batch(path, batch, 1e6, state_dict=dict(w=torch.ones(2)))
    assert told == dict(kept=4, total=4, weights=True)
    saved = load_batch(path)
    back = saved['batch']
    assert all(map(torch.equal, back['inputs'], batch['inputs']))
    for one, other in zip(back['data_samples'], batch['data_samples']):
        assert isinstance(one, DataSample)
        assert torch.equal(one.gt_label, other.gt_label)
        assert torch.equal(one.gt_score, other.gt_score)
        assert one.path == other.path and one.skipped is None
    assert back['more']['text'] == ['a'] * 4
    array = back['more']['array']
    assert array.dtype == np.uint32 and array.tolist() == [0, 1, 2]
    assert torch.equal(saved['state_dict']['w'], torch.ones(2))
    # it is a checkpoint too, and weights alone can be read from it
    torch.load(path, weights_only=True)


def test_large_batch_is_cut(tmp_path):
    path = tmp_path / 'x.pth'
    told = save_batch(str(path), batch_of(8), 1700)
    assert told['kept'] < 8 == told['total']
    back = load_batch(str(path))['batch']
    assert len(back['inputs']) == len(back['data_samples']) == told['kept']
    assert len(back['more']['text']) == told['kept']
    assert torch.equal(back['inputs'][0], torch.arange(100.))
    with pytest.raises(ValueError, match='more than 100 bytes'):
        save_batch(str(path), batch_of(8), 100)


def test_labels_that_stay_together_are_cut_too(tmp_path):
    """As a data set gives them that makes whole batches."""
    sample = DataSample().set_gt_label(torch.arange(8))
    batch = dict(
        inputs=torch.zeros(8, 100, dtype=torch.uint8), data_samples=[sample])
    told = save_batch(str(tmp_path / 'x.pth'), batch, 500)
    back = load_batch(str(tmp_path / 'x.pth'))['batch']
    assert told['kept'] == 4 == len(back['inputs'])
    assert back['data_samples'][0].gt_label.tolist() == [0, 1, 2, 3]


def test_view_does_not_bring_its_storage(tmp_path):
    path = tmp_path / 'x.pth'
    save_batch(str(path), dict(inputs=torch.zeros(10**6)[:4]), 1e3)
    assert path.stat().st_size < 10**4


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / 'x.pth'
    with pytest.raises(FileNotFoundError):
        load_batch(str(path))
    torch.save(dict(state_dict={}), path)
    with pytest.raises(ValueError, match='holds no saved batch'):
        load_batch(str(path))
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match='cannot be read as tensors'):
        load_batch(str(path))
