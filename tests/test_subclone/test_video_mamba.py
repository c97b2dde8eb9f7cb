"""Cloning into VideoMamba, of images and of clips."""
import pytest
import torch

from .toys import clone, student, teacher


def test_safe_plan_fills_what_it_fills_in_vim():
    """The class token stands first in both, so nothing moves."""
    source = teacher()
    new, rows, report = clone(source, student('VideoMamba'))
    _, vim, _ = clone(source, student('VisionMamba'))
    assert {n: r.action for n, r in rows.items()} == \
        {n: r.action for n, r in vim.items()}
    torch.testing.assert_close(new['cls_token'], source['cls_token'])
    torch.testing.assert_close(new['pos_embed'], source['pos_embed'])
    torch.testing.assert_close(new['layers.1.norm.weight'],
                               source['layers.1.norm1.weight'])


def test_linear_plan_fills_the_projections():
    source = teacher()
    new, _, _ = clone(source, student('VideoMamba'), 'linear')
    torch.testing.assert_close(new['layers.2.mixer.in_proj.weight'][:32],
                               source['layers.2.v.weight'])


@pytest.mark.parametrize('tubelet_size', [1, 2, 3])
def test_patch_embedding_becomes_the_middle_frame(tubelet_size):
    source = teacher()
    target = student('VideoMamba', num_frames=6, tubelet_size=tubelet_size)
    new, rows, _ = clone(source, target)
    weight = new['patch_embed.proj.weight']
    assert weight.shape == (32, 3, tubelet_size, 4, 4)
    middle = tubelet_size // 2
    torch.testing.assert_close(weight[:, :, middle],
                               source['patch_embed.weight'])
    torch.testing.assert_close(weight.sum(2), source['patch_embed.weight'])
    torch.testing.assert_close(new['patch_embed.proj.bias'],
                               source['patch_embed.bias'])
    row = rows['patch_embed.proj.weight']
    assert f'middle of {tubelet_size} frames' in row.reason
    torch.testing.assert_close(new['pos_embed'], source['pos_embed'])
    assert rows['temporal_pos_embedding'].action == 'skipped'


def test_wider_clip_student_keeps_its_own_kernels():
    source = teacher(embed_dims=16)
    target = student('VideoMamba', num_frames=4, tubelet_size=2)
    new, rows, _ = clone(source, target)
    weight, own = new['patch_embed.proj.weight'], target[0][
        'patch_embed.proj.weight']
    torch.testing.assert_close(weight[16:], own[16:])
    assert weight[:16, :, 0].eq(0).all()
    assert rows['patch_embed.proj.weight'].action == 'padded'


def test_other_patches_are_skipped_with_a_reason():
    source = teacher()
    source['patch_embed.weight'] = torch.zeros(32, 3, 8, 8)
    new, rows, _ = clone(source, student('VideoMamba', num_frames=4))
    for end in ('weight', 'bias'):
        assert f'patch_embed.proj.{end}' not in new
        assert 'other patch size' in rows[f'patch_embed.proj.{end}'].reason
