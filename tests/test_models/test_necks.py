"""The aligner starts as the paper's zero padding."""
import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.models import ProjectionAligner


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


def test_wrong_arguments():
    with pytest.raises(ValueError, match='mode'):
        ProjectionAligner(4, 4, 1, mode='conv')
    with pytest.raises(ValueError, match='student_dims'):
        ProjectionAligner([4, 4], 4, 3)
