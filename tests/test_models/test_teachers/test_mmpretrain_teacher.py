"""MMPretrain teachers: features, modes, inputs and clear refusals."""
import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import vit_cfg
from transmamba_mm.models import MMPretrainTeacher


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(vit_cfg())
    model.init_weights()
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return model.eval(), str(path)


def test_records_what_the_library_computes(weights):
    model, path = weights
    teacher = MMPretrainTeacher(vit_cfg(), path)
    x = torch.randn(2, 3, 16, 16)
    records = teacher.record(x, ['backbone.layers.5', 'head'])
    torch.testing.assert_close(records['head'], model(x))
    assert records['backbone.layers.5'].shape == (2, 17, 48)
    assert not records['head'].requires_grad
    assert (teacher.embed_dims, teacher.depth, teacher.num_classes) == \
        (48, 6, 4)


def test_stays_in_eval_mode(weights):
    teacher = MMPretrainTeacher(vit_cfg(drop_path_rate=0.9), weights[1])
    teacher.train()
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize('size, grid', [((16, 16), (4, 4)),
                                        ((16, 22), (4, 6))])
def test_token_layout_is_that_of_the_features(weights, size, grid):
    teacher = MMPretrainTeacher(vit_cfg(), weights[1])
    layout = teacher.token_layout(size)
    assert (layout.grid, layout.cls_index) == (grid, 0)
    records = teacher.record(torch.randn(1, 3, *size), ['backbone.layers.0'])
    assert records['backbone.layers.0'].shape[1] == layout.num_tokens


def test_distilled_teacher_has_two_extra_tokens(tmp_path):
    cfg = vit_cfg()
    cfg['backbone']['type'] = 'DistilledVisionTransformer'
    cfg['head'] = dict(type='DeiTClsHead', num_classes=4, in_channels=48)
    model = MODELS.build(cfg)
    path = tmp_path / 'deit.pth'
    torch.save(model.state_dict(), path)
    teacher = MMPretrainTeacher(cfg, str(path))
    layout = teacher.token_layout((16, 16))
    assert layout.num_tokens == 18
    x = torch.randn(2, 3, 16, 16)
    records = teacher.record(x, ['backbone.layers.0', 'head'])
    assert records['backbone.layers.0'].shape[1] == 18
    assert records['head'].shape == (2, 4)


def test_images_are_renormalised(weights):
    teacher = MMPretrainTeacher(vit_cfg(), weights[1])
    pixels = torch.rand(2, 3, 16, 16) * 255
    own = teacher.model.data_preprocessor
    mean = torch.tensor([10., 20., 30.]).view(3, 1, 1)
    std = torch.tensor([1., 2., 3.]).view(3, 1, 1)
    teacher.match_inputs(mean, std, to_rgb=False)
    torch.testing.assert_close(
        teacher.adapt_inputs((pixels - mean) / std),
        (pixels - own.mean) / own.std,
        rtol=1e-4,
        atol=1e-4)
    # the student turns BGR into RGB, the teacher wants BGR
    teacher.match_inputs(mean, std, to_rgb=True)
    torch.testing.assert_close(
        teacher.adapt_inputs((pixels.flip(1) - mean) / std),
        (pixels - own.mean) / own.std,
        rtol=1e-4,
        atol=1e-4)
    teacher.match_inputs(own.mean, own.std, to_rgb=False)
    assert teacher.adapt_inputs(pixels) is pixels


def test_missing_file(weights):
    with pytest.raises(FileNotFoundError, match='BidirectionalDistillHook'):
        MMPretrainTeacher(vit_cfg(), 'nowhere.pth')


def test_truncated_file(weights, tmp_path):
    data = open(weights[1], 'rb').read()
    path = tmp_path / 'half.pth'
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(Exception, match='half.pth'):
        MMPretrainTeacher(vit_cfg(), str(path))


def test_other_number_of_classes(weights):
    with pytest.raises(ValueError, match='another number of classes'):
        MMPretrainTeacher(vit_cfg(num_classes=7), weights[1])


def test_other_architecture(weights):
    with pytest.raises(ValueError, match='tensors missing'):
        MMPretrainTeacher(vit_cfg(num_layers=8), weights[1])


def test_backbone_that_is_no_vit(weights):
    cfg = vit_cfg()
    cfg['backbone'] = dict(type='ResNet', depth=18)
    with pytest.raises(ValueError, match='ResNet cannot teach'):
        MMPretrainTeacher(cfg, weights[1])


def test_files_that_hold_no_weights_are_named(tmp_path, weights):
    for content in (torch.zeros(2), [1, 2], dict(state_dict=5)):
        path = tmp_path / 'odd.pth'
        torch.save(content, path)
        with pytest.raises(ValueError, match='tensors missing'):
            MMPretrainTeacher(vit_cfg(), str(path))


def test_weights_that_are_not_finite_are_named(tmp_path, weights):
    state = weights[0].state_dict()
    state['head.fc.bias'] = torch.full((4, ), float('nan'))
    torch.save(state, tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match='NaN or infinity.*head.fc.bias'):
        MMPretrainTeacher(vit_cfg(), str(tmp_path / 'nan.pth'))


def test_quantised_weights_are_named(tmp_path, weights):
    state = weights[0].state_dict()
    state['head.fc.weight'] = torch.zeros(4, 48, dtype=torch.int8)
    torch.save(state, tmp_path / 'int.pth')
    with pytest.raises(ValueError, match=r'quantised: .*weight \(int8\)'):
        MMPretrainTeacher(vit_cfg(), str(tmp_path / 'int.pth'))


def test_precision_and_size(weights):
    """In bfloat16, and with every image resized."""
    model, path = weights
    images = torch.randn(2, 3, 16, 16)
    teacher = MMPretrainTeacher(vit_cfg(), path, dtype='bfloat16')
    logits = teacher.record(images, ['head'])['head']
    assert logits.dtype == torch.float32
    assert 1e-5 < (logits - model(images)).norm() / logits.norm() < 0.05
    with torch.autocast('cpu', torch.float16):  # the student's, not its own
        again = teacher.record(images, ['head'])['head']
    assert torch.equal(again, logits)
    teacher = MMPretrainTeacher(vit_cfg(), path, input_size=(16, 24))
    assert teacher.record_layout((40, 40)).grid == (4, 6)
    large = torch.nn.functional.interpolate(
        images, (16, 24), mode='bicubic', antialias=True)
    torch.testing.assert_close(
        teacher.record(images, ['head'])['head'], model(large))
    assert '(16, 24)' in teacher.describe()
    with pytest.raises(ValueError, match='input_size=0'):
        MMPretrainTeacher(vit_cfg(), path, input_size=0)


def test_clips_of_another_size(weights):
    teacher = MMPretrainTeacher(vit_cfg(), weights[1], input_size=16)
    name = 'backbone.layers.5'
    records = teacher.record(torch.randn(2, 3, 4, 20, 20), [name])
    layout = teacher.record_layout((4, 20, 20))
    assert layout.shape == (4, 4, 4)
    assert records[name].shape[1] == layout.num_tokens


def test_another_image_size_is_logged(weights, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'transmamba_mm.models.teachers.frozen_teacher.print_log',
        lambda text, **kwargs: lines.append(text))
    teacher = MMPretrainTeacher(vit_cfg(), weights[1])
    for size in (16, 24, 24):
        teacher.record(torch.randn(1, 3, size, size), ['head'])
    assert len(lines) == 1
    assert 'position embedding is interpolated' in lines[0]
    teacher = MMPretrainTeacher(vit_cfg(), weights[1], input_size=16)
    teacher.record(torch.randn(1, 3, 24, 24), ['head'])
    assert 'they are resized to (16, 16)' in lines[1]


def test_missing_config_is_named(weights):
    with pytest.raises(FileNotFoundError, match='`config`'):
        MMPretrainTeacher('configs/nothing.py', weights[1])
