import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.visualization import (contribution_area,
                                         draw_receptive_fields,
                                         effective_receptive_field, to_png)


class TwoConvs(nn.Module):

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x)),


def test_linear_network_by_hand():
    """The gradient of two convolutions is the convolution of both."""
    net = TwoConvs().double()
    images = torch.randn(3, 3, 9, 9).double()
    field = effective_receptive_field(net, images, batch_size=2)
    both = nn.functional.conv_transpose2d(net.second.weight, net.first.weight)
    want = torch.zeros(9, 9)
    want[2:7, 2:7] = both[0].norm(dim=0).detach().float()
    torch.testing.assert_close(field, want)
    one = effective_receptive_field(net, images, layer='first')
    assert (one > 0).nonzero().tolist() == [[i, j] for i in (3, 4, 5)
                                            for j in (3, 4, 5)]


class Normed(nn.Module):
    """Ends with a LayerNorm, so that the channels add up to a constant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x):
        x = self.conv(x).movedim(1, -1)
        return nn.functional.layer_norm(x, (6, )).movedim(-1, 1),


def test_norm_of_the_jacobian_behind_a_layer_norm():
    torch.manual_seed(0)
    net, image = Normed(), torch.randn(1, 3, 5, 5)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: net(x)[0][0, :, 2, 2], image)
    want = jacobian.square().sum((0, 1, 2)).sqrt()
    field = effective_receptive_field(net, image.expand(2000, -1, -1, -1),
                                      None, 500)
    torch.testing.assert_close(field, want, rtol=0.1, atol=1e-6)


def test_images_are_averaged():
    """One output channel, whose sign is of no account."""
    backbone = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.Tanh())
    images = torch.randn(4, 3, 5, 5)
    parts = [
        effective_receptive_field(backbone, images[i:i + 1]) for i in range(4)
    ]
    torch.testing.assert_close(
        effective_receptive_field(backbone, images, batch_size=3),
        torch.stack(parts).square().mean(0).sqrt())


@pytest.mark.parametrize(
    'cfg', [
        *(student_cfg(k)['backbone']
          for k in ('PlainMamba', 'VisionMamba', 'VideoMamba', 'VMamba')),
        vit_cfg()['backbone'],
        dict(type='ResNet', depth=18),
        dict(type='SwinTransformer', arch='tiny', img_size=64, window_size=2),
        dict(type='ConvNeXt', arch='atto'),
    ],
    ids=lambda cfg: cfg['type'])
def test_any_backbone(cfg):
    torch.manual_seed(0)
    backbone = MODELS.build(cfg)
    backbone.eval()
    size = dict(SwinTransformer=64, ConvNeXt=64).get(cfg['type'], 16)
    field = effective_receptive_field(backbone, torch.randn(2, 3, size, size))
    assert field.shape == (size, size)
    assert torch.isfinite(field).all() and field.max() > 0
    assert not any(p.grad is not None for p in backbone.parameters())


def test_layer_of_a_student():
    """A ViM layer reaches from its centre to both ends of the sequence."""
    torch.manual_seed(0)
    backbone = MODELS.build(student_cfg()['backbone']).eval()
    backbone.init_weights()
    field = effective_receptive_field(
        backbone, torch.randn(2, 3, 16, 16), layer='layers.0')
    patches = field.unflatten(1, (4, 4)).unflatten(0, (4, 4)).sum((1, 3))
    assert (patches > 0).all()
    assert patches.argmax() == 10  # of row 2, column 2


def test_pooled_features_are_refused():

    class Pooled(nn.Module):

        def forward(self, x):
            return x.mean((2, 3)),

    with pytest.raises(ValueError, match='Pooled.*no map'):
        effective_receptive_field(Pooled(), torch.randn(1, 3, 4, 4))


def test_contribution():
    point = torch.zeros(8, 8)
    point[1, 6] = 1.
    even = torch.ones(8, 8)
    assert contribution_area(point, 0.95) == 1 / 64
    assert contribution_area(even, 0.25) == 0.25
    assert contribution_area(even, 1.) == 1.
    assert contribution_area(torch.tensor([[1., 4.], [2., 3.]]), 0.7) == 0.5
    assert contribution_area(torch.zeros(2, 2), 0.5) <= 1.
    mixed = point + 1e-3 * even
    assert contribution_area(mixed, 0.5) < contribution_area(even, 0.5)


def test_drawing():
    fields = dict(a=torch.rand(8, 8), b=torch.zeros(8, 8))
    figure = draw_receptive_fields(fields)
    assert [axes.get_title() for axes in figure.axes[:2]] == ['a', 'b']
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.max() == 1.
    assert to_png(figure).startswith(b'\x89PNG')
