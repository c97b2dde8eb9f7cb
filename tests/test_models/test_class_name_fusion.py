"""Class-name text in an image classifier of MMPretrain."""
import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS

from tests.test_distributed import batch, free_port
from tests.toy import make_runner, student_cfg
from transmamba_mm.compat import load_from_local
from transmamba_mm.deployment import export_onnx
from transmamba_mm.models import ClassNameFusion


@pytest.fixture
def names(tmp_path):
    """A file of four class names, two tokens each, some padded."""
    torch.manual_seed(0)
    mask = torch.tensor([[True, True], [True, False]] * 2)
    path = tmp_path / 'names.pt'
    torch.save(dict(features=torch.randn(4, 2, 12), mask=mask), path)
    return str(path)


def classifier(names, kind='VisionMamba', **neck):
    model = student_cfg(kind, out_type='raw')
    model['neck'] = dict(
        type='transmamba_mm.ClassNameFusion',
        visual_dims=32,
        class_features=names,
        d_state=4,
        **neck)
    return model


def test_trains_between_backbone_and_head(names, tmp_path):
    runner = make_runner(tmp_path, classifier(names, cls_index=8))
    text = runner.model.neck.text.clone()
    runner.train()
    neck = runner.model.neck
    assert runner.iter == 2
    assert (neck.fusion.layers[0].gate != 0).all()
    assert torch.equal(neck.text, text)
    assert not neck.text.requires_grad
    state = load_from_local(tmp_path / 'epoch_1.pth')['state_dict']
    assert torch.equal(state['neck.text'], text)


@pytest.mark.parametrize('kind, pool, cls_index, out_type', [
    ('VisionMamba', 'mean', 8, 'avg_featmap'),
    ('VisionMamba', 'cls_token', 8, 'cls_token'),
    ('VideoMamba', 'cls_token', 0, 'cls_token'),
    ('PlainMamba', 'mean', None, 'avg_featmap'),
])
def test_changes_nothing_at_the_start(names, kind, pool, cls_index, out_type):
    model = MODELS.build(
        classifier(names, kind, pool=pool, cls_index=cls_index)).eval()
    plain = MODELS.build(student_cfg(kind, out_type=out_type)).eval()
    model.init_weights()
    plain.load_state_dict({
        k: v
        for k, v in model.state_dict().items() if not k.startswith('neck')
    })
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model(images), plain(images))
    torch.nn.init.ones_(model.neck.fusion.layers[0].gate)
    assert not torch.allclose(model(images), plain(images), atol=1e-3)


def test_padding_and_other_forms_agree(names, tmp_path):
    stored = torch.load(names)
    features, mask = stored['features'], stored['mask']
    np.save(tmp_path / 'names.npy', features[mask].numpy())
    tokens = torch.randn(2, 5, 6)
    outs = []
    for source in (names, str(tmp_path / 'names.npy'), features[mask],
                   features[mask].tolist()):
        torch.manual_seed(0)
        neck = ClassNameFusion(6, source, pool='none')
        torch.nn.init.ones_(neck.fusion.layers[0].gate)
        outs.append(neck((tokens, ))[0])
    assert outs[0].shape == tokens.shape
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0])


def test_copies(names):
    model = MODELS.build(classifier(names))
    other = copy.deepcopy(model)
    images = torch.randn(2, 3, 16, 16)
    other.neck.text.zero_()
    assert model.neck.text.abs().min() > 0
    assert model(images).shape == other(images).shape == (2, 4)


def train(rank, port, names, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    torch.manual_seed(rank)  # different weights, which rank 0 overwrites
    model = MODELS.build(classifier(names))
    wrapped = MMDistributedDataParallel(
        module=model, find_unused_parameters=False)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    for step in range(3):
        wrapped.train_step(batch(rank, step), optim)
    torch.save(model.state_dict(), f'{folder}/rank{rank}.pth')
    dist.destroy_process_group()


def test_two_processes_stay_equal(names, tmp_path):
    mp.spawn(train, (free_port(), names, str(tmp_path)), nprocs=2)
    a, b = (torch.load(tmp_path / f'rank{r}.pth') for r in range(2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert (a['neck.fusion.layers.0.gate'] != 0).all()


@pytest.mark.parametrize('options, error', [
    (dict(class_features=torch.zeros(4)), r'shape \(4,\)'),
    (dict(class_features=torch.full((4, 3), float('nan'))), 'NaN'),
    (dict(class_features=dict(text=1)), 'give "features"'),
    (dict(class_features=dict(features=torch.zeros(4, 2, 3), mask=[1])),
     'mask of neck.class_features'),
    (dict(class_features=torch.zeros(4, 3), pool='max'), "neck.pool='max'"),
    (dict(class_features=torch.zeros(4, 3),
          pool='cls_token'), 'neck.cls_index'),
    (dict(class_features=torch.zeros(4, 3),
          output='text'), "neck.output='visual'"),
])
def test_bad_options(options, error):
    with pytest.raises(ValueError, match=error):
        ClassNameFusion(6, **options)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='neck.class_features'):
        ClassNameFusion(6, str(tmp_path / 'none.pt'))
    for name in ('code.npy', 'code.pt'):
        path = str(tmp_path / name)
        if name.endswith('.npy'):
            np.save(path, np.array([object()]), allow_pickle=True)
        else:
            torch.save(ClassNameFusion, path)
        with pytest.raises(ValueError, match='code'):
            ClassNameFusion(6, path)


def test_bad_features():
    neck = ClassNameFusion(6, torch.zeros(4, 3), cls_index=9)
    with pytest.raises(ValueError, match='out_type="raw"'):
        neck((torch.zeros(2, 6), ))
    with pytest.raises(ValueError, match='neck.cls_index=9'):
        neck((torch.zeros(2, 5, 6), ))


def test_exports_to_onnx(names, tmp_path):
    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    model = MODELS.build(classifier(names, cls_index=8))
    torch.nn.init.ones_(model.neck.fusion.layers[0].gate)
    report = export_onnx(model, str(tmp_path / 'model.onnx'))
    assert report['scan_nodes'] == 3 + 1
