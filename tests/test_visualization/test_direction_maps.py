import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.distillation import LayerRecorder
from transmamba_mm.visualization import (direction_maps, draw_direction_maps,
                                         parse_layers, to_png)


def build(kind='VisionMamba', **kwargs):
    torch.manual_seed(0)
    backbone = MODELS.build(student_cfg(kind, **kwargs)['backbone'])
    backbone.init_weights()
    return backbone.eval()


IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_norm_of_what_a_direction_adds():
    backbone = build()
    maps = direction_maps(backbone, IMAGES, [1], 'norm')
    names = ['layers.0', 'layers.1.direction_tap']
    with torch.no_grad(), LayerRecorder(backbone, names) as records:
        backbone(IMAGES)
    added = records[names[1]] - records[names[0]]  # (M, B, L, C)
    patches = torch.cat([added[:, :, :8], added[:, :, 9:]], 2)
    want = patches.norm(dim=-1).transpose(0, 1).view(2, 2, 4, 4)
    torch.testing.assert_close(maps[1], want)
    assert list(maps) == [1]


@pytest.mark.parametrize('kind, directions', [('PlainMamba', 4),
                                              ('VisionMamba', 2),
                                              ('VideoMamba', 2),
                                              ('VMamba', 4)])
def test_colours(kind, directions):
    backbone = build(kind)
    maps = direction_maps(backbone, IMAGES, [-1, 0])
    assert list(maps) == [0, 2]
    for layer, picture in maps.items():
        side = 16 >> layer if kind == 'VMamba' else 4
        assert picture.shape == (2, directions, side, side, 3)
        assert picture.min() >= 0 and picture.max() <= 1
        assert picture.std() > 0.1
    again = direction_maps(backbone, IMAGES, [0])
    assert torch.equal(again[0], maps[0])


def test_colours_are_principal_components():
    """Red follows the strongest component of what is added."""
    backbone = build()
    reds = direction_maps(backbone, IMAGES, [0])[0][0, ..., 0].flatten()
    seen = []
    handle = backbone.layers[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    with torch.no_grad(), LayerRecorder(backbone,
                                        ['layers.0.direction_tap']) as records:
        backbone(IMAGES)
    handle.remove()
    added = (records['layers.0.direction_tap'] - seen[0])[:, 0]
    rows = torch.cat([added[:, :8], added[:, 9:]], 1).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(rows.T.cov())
    score = (rows - rows.mean(0)) @ vectors[:, -1]
    assert abs(np.corrcoef(score, reds)[0, 1]) > 0.99


def test_few_channels_and_tokens():
    """Fewer components than colours leave the other colours alone."""
    arch = dict(embed_dims=2, num_layers=1, d_state=2)
    backbone = MODELS.build(dict(student_cfg()['backbone'], arch=arch))
    assert direction_maps(backbone, IMAGES, [0])[0].shape[-1] == 3


def test_no_hook_stays():
    backbone = build()
    direction_maps(backbone, IMAGES, [0, 1, 2])
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in backbone.modules())


def test_refusals():
    with pytest.raises(ValueError, match="'tsne'.*'pca'"):
        direction_maps(build(), IMAGES, kind='tsne')
    with pytest.raises(ValueError, match=r'layers \[3\].*has 3'):
        direction_maps(build(), IMAGES, [3])
    with pytest.raises(ValueError, match='VisionTransformer has no scan'):
        direction_maps(MODELS.build(vit_cfg()['backbone']), IMAGES)


def test_choice_of_layers():
    assert parse_layers(build(), None) == [0, 1, 2]
    assert parse_layers(build(), [-1]) == [-1]


@pytest.mark.parametrize('kind', ['pca', 'norm'])
def test_drawing(kind):
    maps = direction_maps(build(), IMAGES, [0, 2], kind)
    image = np.zeros((16, 16, 3), np.uint8)
    figure = draw_direction_maps(image, {
        k: v[0]
        for k, v in maps.items()
    }, ('forward', 'backward'), 'a title')
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ['image', 'forward', 'backward']
    rows = [axes.get_ylabel() for axes in figure.axes]
    assert 'layer 0' in rows and 'layer 2' in rows
    assert to_png(figure).startswith(b'\x89PNG')
