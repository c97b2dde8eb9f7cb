import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from transmamba_mm.utils.flops import count_flops
from ..toy import student_cfg, vit_cfg

# two images of 16 pixels, patches of 4: 16 tokens; width 32, E = 64, N = 4,
# rank 2, 3 layers
B, L, D, E, N, R, DEPTH = 2, 16, 32, 64, 4, 2, 3


def expected(kind):
    """Count by hand, a multiply-add as two operations."""
    tokens = L + 1 if kind == 'VisionMamba' else L
    project = 2 * tokens * (D * 2 * E + E * D)
    ssm = 2 * tokens * (E * (R + 2 * N) + R * E)
    if kind == 'VisionMamba':
        directions, convolution = 2, 2 * 2 * tokens * E * 4
        ssm *= 2
    else:
        directions, convolution = 4, 2 * tokens * E * 7 * 7
    matmul = DEPTH * (project + ssm + convolution) + 2 * D * 4
    if kind == 'VisionMamba':
        matmul += 2 * L * (3 * 4 * 4) * D
    scan = DEPTH * (
        directions * (9 * tokens * E * N + tokens * E) + tokens * E)
    return B * matmul, B * scan


@pytest.mark.parametrize('kind', ['VisionMamba', 'PlainMamba'])
def test_scan_is_counted_beside_matrix_products(kind):
    model = MODELS.build(student_cfg(kind))
    counts = count_flops(model, (B, 3, 16, 16))
    matmul, scan = expected(kind)
    assert counts['scan'] == scan
    assert counts['total'] == counts['matmul'] + counts['scan']
    if kind == 'VisionMamba':
        assert counts['matmul'] == matmul
    else:  # the stem comes on top
        stem = count_matmul(model.backbone.patch_embed)
        assert counts['matmul'] == matmul + stem
    assert counts['parameters'] == sum(p.numel() for p in model.parameters())


def count_matmul(module):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(B, 3, 16, 16))
    return counter.get_total_flops()


def test_attention_of_a_transformer_is_counted():
    counts = count_flops(MODELS.build(vit_cfg()), (B, 3, 16, 16))
    width, depth, tokens = 48, 6, L + 1
    layer = 2 * tokens * (4 * width**2 + 2 * width * 2 * width)
    attention = 2 * 2 * tokens**2 * width
    assert counts['scan'] == 0
    assert counts['matmul'] == B * (
        depth * (layer + attention) + 2 * L *
        (3 * 4 * 4) * width + 2 * width * 4)


def test_distiller_is_not_counted_and_stays():
    model = MODELS.build(student_cfg(distiller=dict()))
    distiller = model.distiller
    plain = count_flops(MODELS.build(student_cfg()), (1, 3, 16, 16))
    assert count_flops(model, (1, 3, 16, 16)) == plain
    assert model.distiller is distiller


def test_distiller_comes_back_after_an_error():
    model = MODELS.build(student_cfg(distiller=dict()))
    with pytest.raises(Exception):
        count_flops(model, (1, 5, 16, 16))
    assert isinstance(model.distiller, nn.Module)


def test_videomamba_costs_what_vim_costs():
    """It merges otherwise, which is no matrix product."""
    vim, videomamba = (
        count_flops(MODELS.build(student_cfg(kind)), (B, 3, 16, 16))
        for kind in ('VisionMamba', 'VideoMamba'))
    assert videomamba == vim


def test_clips_of_frames_cost_as_many_tokens():
    model = MODELS.build(student_cfg('VideoMamba', num_frames=4))
    counts = count_flops(model, (B, 3, 4, 16, 16))
    tokens = 4 * L + 1
    assert counts['scan'] == B * DEPTH * (2 *
                                          (9 * tokens * E * N + tokens * E) +
                                          tokens * E)
