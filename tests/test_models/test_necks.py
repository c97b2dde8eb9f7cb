"""The aligner starts as the paper's zero padding."""
from unittest import mock

import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.models import ProjectionAligner
from transmamba_mm.models.necks import projection_aligner


@pytest.mark.parametrize('mode', ['linear', 'mlp'])
def test_starts_as_centred_padding(mode):
    aligner = ProjectionAligner(4, 8, 2, mode=mode)
    x = torch.randn(3, 2, 5, 4)
    outs = aligner((x, 2 * x))
    assert isinstance(outs, tuple)
    want = torch.nn.functional.pad(x, (2, 2))
    torch.testing.assert_close(outs[0], want)
    torch.testing.assert_close(outs[1], 2 * want)


def test_wider_student_is_cropped():
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(
        ProjectionAligner(8, 4, 1)((x, ))[0], x[..., 2:6])


def test_start_survives_generic_initialisation():
    parent = MODELS.build(
        dict(
            type='transmamba_mm.ProjectionAligner',
            in_dims=4,
            out_dims=4,
            num_layers=1,
            init_cfg=dict(type='Constant', layer='Linear', val=7.)))
    parent.init_weights()
    x = torch.randn(1, 2, 4)
    torch.testing.assert_close(parent((x, ))[0], x)


def test_zero_pad_learns_nothing_and_pads():
    aligner = ProjectionAligner([4, 8, 5], 6, 3, mode='zero_pad')
    aligner.init_weights()
    assert not list(aligner.parameters())
    x, wide, odd = torch.randn(2, 3, 4), torch.randn(2, 3, 8), torch.ones(5)
    outs = aligner((x, wide, odd))
    torch.testing.assert_close(outs[0], torch.nn.functional.pad(x, (1, 1)))
    torch.testing.assert_close(outs[1], wide[..., 1:7])
    assert outs[2].tolist() == [1, 1, 1, 1, 1, 0]
    # the same place as in the learned modes
    linear = ProjectionAligner([4, 8, 5], 6, 3)
    for a, b in zip(outs, linear((x, wide, odd))):
        torch.testing.assert_close(a, b)


def test_zero_pad_says_that_a_wider_student_is_cropped():
    with mock.patch.object(projection_aligner, 'print_log') as log:
        ProjectionAligner(6, 6, 1, mode='zero_pad')
        log.assert_not_called()
        ProjectionAligner(8, 6, 1, mode='zero_pad')
    assert '6 middle channels' in log.call_args[0][0]


def test_interpolate_keeps_the_curve():
    x = torch.arange(4.).expand(2, 3, 4)
    wider, = ProjectionAligner(4, 8, 1, mode='interpolate')((x, ))
    assert wider.shape == (2, 3, 8)
    assert wider[0, 0].tolist() == [0, .25, .75, 1.25, 1.75, 2.25, 2.75, 3]
    narrower, = ProjectionAligner(4, 2, 1, mode='interpolate')((x, ))
    assert narrower[1, 2].tolist() == [0.5, 2.5]
    same, = ProjectionAligner(4, 4, 1, mode='interpolate')((x, ))
    assert torch.equal(same, x)


def test_wrong_arguments():
    with pytest.raises(ValueError, match='mode'):
        ProjectionAligner(4, 4, 1, mode='conv')
    with pytest.raises(ValueError, match='student_dims'):
        ProjectionAligner([4, 4], 4, 3)
