"""Tokens of any backbone become pictures, the class token left out."""
import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.visualization import (CamReshape, default_cam_layer,
                                         feature_maps, to_feature_map)
from transmamba_mm.visualization.feature_map import guess_grid

FAMILIES = ['PlainMamba', 'VisionMamba', 'VideoMamba', 'VMamba']


def build(kind, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(student_cfg(kind, **kwargs))
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('size', [(16, 16), (16, 24)])
@pytest.mark.parametrize('kind, cls', [('VisionMamba', 'middle'),
                                       ('VideoMamba', 'front'),
                                       ('PlainMamba', None)])
def test_class_token_is_left_out(kind, cls, size):
    rows, columns = size[0] // 4, size[1] // 4
    count = rows * columns
    patches = torch.arange(1., count + 1)
    place = dict(middle=count // 2, front=0)
    tokens = patches
    if cls is not None:
        tokens = torch.cat(
            [patches[:place[cls]],
             torch.tensor([-1.]), patches[place[cls]:]])
    maps = to_feature_map(tokens[None, :, None], build(kind).backbone, size)
    assert torch.equal(maps[0, 0], patches.view(rows, columns))


def test_patches_alone_are_a_map_too():
    backbone = build('VisionMamba').backbone
    tokens = torch.arange(16.)[None, :, None]
    maps = to_feature_map(tokens, backbone, (16, 16))
    assert torch.equal(maps[0, 0], torch.arange(16.).view(4, 4))


@pytest.mark.parametrize('stage', range(3))
def test_stages_of_vmamba(stage):
    backbone = build('VMamba').backbone
    grid = (16 >> stage, 24 >> stage)
    tokens = torch.randn(2, grid[0] * grid[1], 5)
    assert to_feature_map(tokens, backbone, (16, 24)).shape == (2, 5, *grid)


def test_backbone_of_mmpretrain():
    backbone = MODELS.build(vit_cfg()).backbone
    tokens = torch.arange(-1., 16)[None, :, None]
    maps = to_feature_map((tokens, ), backbone, (16, 16))
    assert torch.equal(maps[0, 0], torch.arange(16.).view(4, 4))


@pytest.mark.parametrize('output, match', [
    (torch.zeros(2, 5), r'\(2, 5\).*no tokens'),
    (torch.zeros(2, 11, 5), '11 tokens of VisionMamba'),
    (None, 'NoneType'),
])
def test_what_is_no_map_is_refused(output, match):
    with pytest.raises(ValueError, match=match):
        to_feature_map(output, build('VisionMamba').backbone, (16, 16))


@pytest.mark.parametrize('count, size, grid', [(16, (16, 16), (4, 4)),
                                               (24, (32, 48), (4, 6)),
                                               (24, (48, 32), (6, 4)),
                                               (7, (1, 7), (1, 7))])
def test_grid_has_the_form_of_the_image(count, size, grid):
    assert guess_grid(count, size) == grid


@pytest.mark.parametrize('kind', FAMILIES)
def test_pooling_is_switched_off_and_on_again(kind):
    backbone = build(kind).backbone
    told = backbone.out_type
    with feature_maps(backbone):
        assert backbone(torch.randn(1, 3, 16, 16))[-1].dim() == 4
    assert backbone.out_type == told
    assert backbone(torch.randn(1, 3, 16, 16))[-1].dim() == 2


def test_pooling_comes_back_after_an_error():
    backbone = build('PlainMamba').backbone
    with pytest.raises(RuntimeError), feature_maps(backbone):
        raise RuntimeError
    assert backbone.out_type == 'avg_featmap'


def stretch(maps):
    """Bring each map to [0, 1]."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-7)


@pytest.mark.parametrize('kind', FAMILIES)
def test_class_activation_maps(kind):
    """The map of Grad-CAM is the one that is computed by hand."""
    cam = pytest.importorskip('pytorch_grad_cam')
    model = build(kind)
    images = torch.randn(2, 3, 16, 16)
    layer = default_cam_layer(model.backbone)
    reshape = CamReshape(model.backbone)
    with cam.GradCAM(model, [layer], reshape_transform=reshape) as run:
        heat = run(images)
    seen = []
    handle = layer.register_forward_hook(lambda *a: seen.append(a[2]))
    scores = model(images)
    handle.remove()
    grads, = torch.autograd.grad(scores.max(1).values.sum(), seen[0])
    reshape.close()
    maps, grads = (
        to_feature_map(t, model.backbone, (16, 16)) for t in (seen[0], grads))
    want = (grads.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    want = torch.nn.functional.interpolate(
        stretch(want)[:, None], size=(16, 16), mode='bilinear')
    want = stretch(want[:, 0]).detach()
    assert heat.shape == (2, 16, 16) and heat.max() > 0
    torch.testing.assert_close(torch.as_tensor(heat), want, rtol=0, atol=1e-3)
    assert not model.backbone._forward_pre_hooks


def test_layer_whose_patches_are_read_out():
    vim, plain = (build(k).backbone for k in ('VisionMamba', 'PlainMamba'))
    assert default_cam_layer(vim) is vim.layers[-1].norm
    assert default_cam_layer(plain) is plain.ln1
    vmamba = build('VMamba').backbone
    assert default_cam_layer(vmamba) is vmamba.classifier.norm
    with pytest.raises(ValueError, match='--target-layers'):
        default_cam_layer(MODELS.build(vit_cfg()).backbone)
