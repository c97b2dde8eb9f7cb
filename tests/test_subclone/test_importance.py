"""Importance: which units of a wide teacher are kept."""
import pytest
import torch

from transmamba_mm.subclone import best_head_units, best_units, unit_scores
from .toys import clone, student, teacher


def test_one_set_of_channels_everywhere():
    """A narrower student takes the same teacher channels in each tensor."""
    source = teacher(48)
    marked = {k: v for k, v in source.items()}
    big = torch.arange(0, 48, 3)  # 16 channels
    big = torch.cat([big, big + 1]).sort().values  # 32 channels
    for k, v in marked.items():
        if 'norm' in k or k in ('pos_embed', 'cls_token'):
            v[..., big] += 100.
    new, rows, _ = clone(marked, student())
    assert torch.equal(new['cls_token'], marked['cls_token'][..., big])
    assert torch.equal(new['layers.1.norm.weight'],
                       marked['layers.1.norm1.weight'][big])
    assert torch.equal(new['head.fc.weight'], marked['head.weight'][:, big])
    assert torch.equal(new['patch_embed.proj.weight'],
                       marked['patch_embed.weight'][big])
    assert rows['cls_token'].action == 'sliced'


def test_importance_by_smallest_relative_change():
    source = teacher(48)
    still = torch.arange(16, 48)  # 32 channels that fine-tuning left alone
    moved = torch.arange(16)
    before = {k: v.clone() for k, v in source.items()}
    before['cls_token'][..., moved] += 50.
    before['pos_embed'][..., moved] += 50.
    new, _, _ = clone(source, student(), pretrained=before)
    assert torch.equal(new['cls_token'], source['cls_token'][..., still])


def test_whole_heads_are_kept_where_the_inner_stream_is_narrow():
    source = teacher(128)  # 4 heads of 32, the inner stream has 64
    for part, axis in (('v', 0), ('o', 1)):
        heads = source[f'layers.0.{part}.weight'].unflatten(axis, (4, 32))
        heads.select(axis, 1).mul_(10.)
        heads.select(axis, 3).mul_(10.)
    new, _, _ = clone(source, student(), dict(preset='linear', num_heads=4))
    kept = torch.cat([torch.arange(32, 64), torch.arange(96, 128)])
    inner = new['layers.0.mixer.in_proj.weight'][:64]
    rows = source['layers.0.v.weight'][kept]
    assert all(
        (rows[i].unsqueeze(1) == inner[i]).any(0).all() for i in range(64))
    with pytest.raises(ValueError, match='num_heads=3 does not divide'):
        clone(source, student(), dict(preset='linear', num_heads=3))


def test_units_at_zero_have_a_finite_change():
    """The floor is 1 % of the mean magnitude before fine-tuning."""
    before = torch.tensor([2., 1., 0.])
    score = unit_scores(torch.tensor([3., 1., 1.]), 0, before)
    want = -torch.tensor([0.5, 0., 100.]).double()
    torch.testing.assert_close(score, want / (100.5 / 3))


def test_a_bias_that_started_at_zero_does_not_outvote_the_others():
    source = teacher(48)
    before = {k: v.clone() for k, v in source.items()}
    moved = torch.arange(16)
    for k, v in before.items():
        if k.endswith('norm1.weight') or k in ('cls_token', 'pos_embed'):
            v[..., moved] += 5.
    # started at zero in other channels
    before['patch_embed.bias'][20:] = 0.
    new, _, _ = clone(source, student(), pretrained=before)
    assert torch.equal(new['cls_token'], source['cls_token'][..., 16:])


def test_scores():
    weight = torch.tensor([[1., -3.], [4., 4.], [0., 0.]])
    torch.testing.assert_close(
        unit_scores(weight, 0),
        torch.tensor([1., 2., 0.]).double())
    before = torch.tensor([[2., 2.], [4., 4.], [0., 2.]])
    # changes of (1 + 5) / 4, 0 and 2 / 2, over their mean 2.5 / 3
    torch.testing.assert_close(
        unit_scores(weight, 0, before),
        -torch.tensor([1.5, 0., 1.]).double() / (2.5 / 3))
    assert best_units(torch.tensor([1., 3., 3., 0.]), 2).tolist() == [1, 2]
    assert best_units(torch.tensor([1., 1., 1.]), 2).tolist() == [0, 1]


def test_a_cut_head_is_the_last_choice():
    scores = torch.tensor([0., 1., 5., 9., 4., 3.])
    assert best_head_units(scores, 3, 3).tolist() == [2, 3, 4]
    assert best_head_units(scores, 9, 3).tolist() == list(range(6))


def test_pretrained_teacher_of_another_architecture():
    with pytest.raises(
            ValueError, match='pretrained_checkpoint.*another architecture'):
        clone(teacher(48), student(), pretrained=teacher(32))
    with pytest.raises(ValueError, match="'layers.3.*missing"):
        clone(teacher(num_layers=4), student(), pretrained=teacher())


def test_two_equal_checkpoints_rank_nothing():
    source = teacher(48)
    with pytest.raises(ValueError, match='hold the same weights'):
        clone(source, student(), pretrained=dict(source))
    same_width = teacher(32)
    new, _, _ = clone(same_width, student(), pretrained=dict(same_width))
    assert torch.equal(new['cls_token'], same_width['cls_token'])


def test_hidden_units_are_chosen_a_layer():
    """A student with an MLP keeps the same units in both of its layers."""
    source = teacher(32)  # hidden width 64
    for i, strong in ((0, slice(0, 40)), (1, slice(24, 64))):
        source[f'layers.{i}.fc1.weight'][strong] *= 100.
        source[f'layers.{i}.fc2.weight'][:, strong] *= 100.
    target, layout = student()
    for i in range(2):
        target[f'layers.{i}.mlp.fc1.weight'] = torch.zeros(40, 32)
        target[f'layers.{i}.mlp.fc1.bias'] = torch.zeros(40)
        target[f'layers.{i}.mlp.fc2.weight'] = torch.zeros(32, 40)
    new, _, _ = clone(source, (target, layout))
    for i, kept in ((0, slice(0, 40)), (1, slice(24, 64))):
        assert torch.equal(new[f'layers.{i}.mlp.fc1.weight'],
                           source[f'layers.{i}.fc1.weight'][kept])
        assert torch.equal(new[f'layers.{i}.mlp.fc1.bias'],
                           source[f'layers.{i}.fc1.bias'][kept])
        assert torch.equal(new[f'layers.{i}.mlp.fc2.weight'],
                           source[f'layers.{i}.fc2.weight'][:, kept])
