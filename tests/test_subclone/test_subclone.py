"""Subcloning: which numbers land where."""
import math

import pytest
import torch

from transmamba_mm.models import TokenLayout
from .toys import clone, student, teacher


def test_equal_width_copies_what_safe_names():
    source, target = teacher(), student()
    new, rows, report = clone(source, target)
    assert set(new) == {
        'patch_embed.proj.weight', 'patch_embed.proj.bias', 'cls_token',
        'pos_embed', 'norm_f.weight', 'head.fc.weight', 'head.fc.bias',
        *(f'layers.{i}.norm.weight' for i in range(3))
    }
    assert torch.equal(new['layers.1.norm.weight'],
                       source['layers.1.norm1.weight'])
    assert torch.equal(new['patch_embed.proj.weight'],
                       source['patch_embed.weight'])
    assert torch.equal(new['head.fc.weight'], source['head.weight'])
    assert rows['layers.0.mixer.A_log'].action == 'skipped'
    assert report.taken == sum(v.numel() for v in new.values())
    assert report.total == sum(v.numel() for v in target[0].values())
    assert target[0]['cls_token'] is not new['cls_token']


def test_class_token_slot_moves_to_the_middle():
    source, target = teacher(), student()
    new, _, _ = clone(source, target)
    pos = source['pos_embed'][0]
    want = torch.cat([pos[1:9], pos[:1], pos[9:]])
    assert torch.equal(new['pos_embed'][0], want)


def test_plainmamba_has_no_class_token_slot():
    source = teacher()
    new, rows, _ = clone(source, student('PlainMamba'))
    assert torch.equal(new['pos_embed'], source['pos_embed'][:, 1:])
    assert torch.equal(new['layers.2.norm.bias'],
                       source['layers.2.norm1.bias'])
    assert torch.equal(new['ln1.bias'], source['final_norm.bias'])
    assert rows['patch_embed.projection.weight'].action == 'skipped'


def test_other_grid_is_resized():
    source = teacher()
    del source['patch_embed.weight']
    torch.nn.init.constant_(source['pos_embed'], 2.)
    target = student()
    layout = TokenLayout((6, 2), 1, 6)
    target[0]['pos_embed'] = torch.zeros(1, 13, 32)
    new, rows, _ = clone(source, (target[0], layout))
    torch.testing.assert_close(new['pos_embed'], torch.full((1, 13, 32), 2.))
    assert rows['pos_embed'].action == 'resized'


def test_linear_fills_the_inner_half_and_leaves_the_gate():
    source, target = teacher(), student()
    new, rows, _ = clone(source, target, 'linear')
    name = 'layers.0.mixer.in_proj.weight'
    assert torch.equal(new[name][:32], source['layers.0.v.weight'])
    assert torch.equal(new[name][32:], target[0][name][32:])
    assert rows[name].reason.startswith('first half only; 1024 of 2048')
    assert rows[name].action == 'padded'  # the inner stream is 64 wide
    name = 'layers.0.mixer.out_proj.weight'
    assert torch.equal(new[name][:, :32], source['layers.0.o.weight'])
    assert torch.equal(new[name][:, 32:], target[0][name][:, 32:])


def test_linear_gives_plainmamba_its_biases():
    source = teacher()
    new, _, _ = clone(source, student('PlainMamba'), 'linear')
    assert torch.equal(new['layers.1.mamba.out_proj.bias'],
                       source['layers.1.o.bias'])
    assert torch.equal(new['layers.1.mamba.in_proj.bias'][:32],
                       source['layers.1.v.bias'])


def test_wider_student_keeps_its_own_values_beside_the_teachers():
    source, target = teacher(16), student()
    new, rows, _ = clone(source, target)
    name = 'patch_embed.proj.weight'
    assert torch.equal(new[name][:16], source['patch_embed.weight'])
    assert torch.equal(new[name][16:], target[0][name][16:])
    assert rows[name].action == 'padded'
    assert rows[name].taken == source['patch_embed.weight'].numel()


def test_rescale_keeps_the_variance():
    source, target = teacher(48), student()
    plain, _, _ = clone(source, target, 'linear')
    scaled, _, _ = clone(source, target, 'linear', rescale=True)
    name = 'layers.0.mixer.in_proj.weight'
    # 48 of the 64 inner rows come from the teacher
    torch.testing.assert_close(scaled[name][:48],
                               plain[name][:48] * math.sqrt(48 / 32))
    assert torch.equal(scaled['layers.0.norm.weight'],
                       plain['layers.0.norm.weight'])


def test_other_classes_and_patches_are_skipped_with_a_reason():
    _, rows, _ = clone(teacher(num_classes=7), student())
    assert 'other number of classes' in rows['head.fc.weight'].reason
    source = teacher()
    source['patch_embed.weight'] = torch.zeros(32, 3, 8, 8)
    _, rows, _ = clone(source, student())
    for name in ('patch_embed.proj.weight', 'patch_embed.proj.bias'):
        assert rows[name].action == 'skipped'
        assert 'other patch size' in rows[name].reason


def cut_pos_embed(source, length):
    """Leave the class token's slot and so many patches."""
    source['pos_embed'] = source['pos_embed'][:, :length + 1]
    return source


def test_grids_that_are_no_square():
    source = cut_pos_embed(teacher(), 12)
    pos = source['pos_embed']
    target, _ = student()
    target['pos_embed'] = torch.zeros(1, 13, 32)
    same = TokenLayout((6, 2), 1, 6)
    new, rows, _ = clone(source, (target, same))
    assert torch.equal(new['pos_embed'],
                       torch.cat([pos[:, 1:7], pos[:, :1], pos[:, 7:]], 1))
    assert rows['pos_embed'].action == 'copied'
    target['pos_embed'] = torch.zeros(1, 17, 32)
    other = TokenLayout((4, 4), 1, 8)
    _, rows, _ = clone(source, (target, other))
    assert rows['pos_embed'].action == 'skipped'
    assert 'teacher_grid' in rows['pos_embed'].reason
    plan = dict(preset='safe', teacher_grid=(3, 4))
    new, rows, _ = clone(source, (target, other), plan)
    assert rows['pos_embed'].action == 'resized'
    want = torch.nn.functional.interpolate(
        pos[:, 1:].reshape(1, 3, 4, 32).permute(0, 3, 1, 2),
        size=(4, 4),
        mode='bicubic').flatten(2).transpose(1, 2)
    torch.testing.assert_close(new['pos_embed'][:, :8], want[:, :8])
    torch.testing.assert_close(new['pos_embed'][:, 9:], want[:, 8:])
    assert torch.equal(new['pos_embed'][:, 8], pos[:, 0])
    with pytest.raises(ValueError, match=r'teacher_grid=\(5, 5\).*12'):
        clone(source, (target, other), dict(teacher_grid=[5, 5]))


def test_teacher_without_a_class_token():
    """The student keeps its own class token and that one's position."""
    source, target = teacher(), student()
    del source['cls_token']
    source['pos_embed'] = source['pos_embed'][:, 1:]
    new, rows, _ = clone(source, target)
    assert 'cls_token' not in new
    own = target[0]['pos_embed']
    assert torch.equal(new['pos_embed'][:, 8], own[:, 8])
    assert torch.equal(new['pos_embed'][:, :8], source['pos_embed'][:, :8])
    assert torch.equal(new['pos_embed'][:, 9:], source['pos_embed'][:, 8:])
    assert rows['pos_embed'].taken == source['pos_embed'].numel()


def test_new_values_have_the_students_types():
    target, layout = student()
    target = {k: v.half() for k, v in target.items()}
    new, _, _ = clone(teacher(48), (target, layout), 'linear')
    for name, value in new.items():
        assert value.dtype == torch.half
        assert value.shape == target[name].shape


def test_other_heads_are_found():
    target, layout = student()
    target['head.layers.head.weight'] = target.pop('head.fc.weight')
    source = teacher()
    new, _, _ = clone(source, (target, layout))
    assert torch.equal(new['head.layers.head.weight'], source['head.weight'])


def test_two_calls_agree():
    source, target = teacher(48), student('PlainMamba')
    first, _, _ = clone(source, target, 'linear')
    second, _, _ = clone(source, target, 'linear')
    assert all(torch.equal(first[k], second[k]) for k in first)
