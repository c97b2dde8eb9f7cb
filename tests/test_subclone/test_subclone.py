"""Subcloning: which numbers land where."""
import json
import math

import pytest
import torch
from mmpretrain.registry import MODELS

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.engine.hooks.weight_subclone_hook import student_tensors
from transmamba_mm.models import TokenLayout
from transmamba_mm.subclone import (SubclonePlan, read_teacher,
                                    subclone_state_dict)


def teacher(embed_dims=32, num_layers=3, **kwargs):
    torch.manual_seed(0)
    cfg = vit_cfg(embed_dims, num_layers, **kwargs)
    model = MODELS.build(cfg)
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return read_teacher(model.state_dict())


def student(kind='VisionMamba', **kwargs):
    torch.manual_seed(1)
    model = MODELS.build(student_cfg(kind, **kwargs))
    model.init_weights()
    layout = model.backbone.token_layout(model.backbone.img_size)
    tensors = student_tensors(model, 'backbone.')
    return {k: v.detach() for k, v in tensors.items()}, layout


def clone(source, target, plan='safe', pretrained=None, **kwargs):
    target, layout = target
    plan = SubclonePlan.from_config(plan, **{'first_n': -1, **kwargs})
    new, report = subclone_state_dict(source, target, plan, layout,
                                      pretrained)
    assert [r.tensor for r in report.rows] == list(target)
    return new, {r.tensor: r for r in report.rows}, report


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


def test_linear_fills_the_inner_half_and_leaves_the_gate():
    source, target = teacher(), student()
    new, rows, _ = clone(source, target, 'linear')
    name = 'layers.0.mixer.in_proj.weight'
    assert torch.equal(new[name][:32], source['layers.0.v.weight'])
    assert torch.equal(new[name][32:], target[0][name][32:])
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
    assert all((rows[i].unsqueeze(1) == inner[i]).any(0).all()
               for i in range(64))
    with pytest.raises(ValueError, match='num_heads=3 does not divide'):
        clone(source, student(), dict(preset='linear', num_heads=3))


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


def test_depth_map_is_proportional_and_half_the_blocks_by_default():
    source, target = teacher(num_layers=6), student()
    new, rows, _ = clone(source, target)
    for i, j in ((0, 0), (1, 2), (2, 4)):
        assert torch.equal(new[f'layers.{i}.norm.weight'],
                           source[f'layers.{j}.norm1.weight'])
    new, rows, _ = clone(source, target, first_n=None)  # 3 // 2 blocks
    assert 'layers.0.norm.weight' in new
    assert 'layers.1.norm.weight' not in new
    assert 'beyond the first 1' in rows['layers.1.norm.weight'].reason
    new, _, _ = clone(source, target, first_n=0)
    assert not [k for k in new if k.startswith('layers.')]
    new, _, _ = clone(source, target, depth_map=[5, 5, 0])
    assert torch.equal(new['layers.2.norm.weight'],
                       source['layers.0.norm1.weight'])


def test_exclude_leaves_tensors_alone():
    new, rows, _ = clone(teacher(), student(),
                         dict(preset='safe', exclude=['pos_embed', 'head.']))
    assert not [k for k in new if k == 'pos_embed' or k.startswith('head')]
    assert rows['pos_embed'].reason == 'excluded by the plan'


def test_own_rules_come_first():
    rule = dict(
        target='layers.{i}.norm.weight',
        source='layers.{i}.norm2.weight',
        axes=['residual'])
    source = teacher()
    new, _, _ = clone(source, student(), dict(preset='none', rules=[rule]))
    assert set(new) == {f'layers.{i}.norm.weight' for i in range(3)}
    assert torch.equal(new['layers.0.norm.weight'],
                       source['layers.0.norm2.weight'])


def test_other_classes_and_patches_are_skipped_with_a_reason():
    _, rows, _ = clone(teacher(num_classes=7), student())
    assert 'other number of classes' in rows['head.fc.weight'].reason
    source = teacher()
    source['patch_embed.weight'] = torch.zeros(32, 3, 8, 8)
    _, rows, _ = clone(source, student())
    assert 'other patch size' in rows['patch_embed.proj.weight'].reason


@pytest.mark.parametrize('plan, kwargs, message', [
    ('risky', {}, "preset 'risky'"),
    (dict(presets='safe'), {}, "did you mean 'preset'"),
    (dict(exclude=['pos_embd']), {}, "nearest names are .*pos_embed"),
    (dict(rules=[dict(target='a', source='b', axes=['width'])]), {}, 'axes'),
    (dict(rules=[dict(goal='a')]), {}, 'no rule'),
    ('safe', dict(first_n=4), 'first_n=4.*3 blocks'),
    ('safe', dict(depth_map='middle'), 'depth_map'),
    ('safe', dict(depth_map=[0, 1]), 'must hold 3 numbers'),
])
def test_wrong_plans(plan, kwargs, message):
    with pytest.raises(ValueError, match=message):
        clone(teacher(), student(), plan, **kwargs)


def test_unknown_layout_is_named():
    with pytest.raises(ValueError, match='no known layout.*conv1'):
        read_teacher({'conv1.weight': torch.zeros(1)})


def test_distilled_deit_is_read():
    cfg = vit_cfg()
    cfg['backbone']['type'] = 'DistilledVisionTransformer'
    cfg['head'] = dict(type='DeiTClsHead', num_classes=4, in_channels=48)
    source = read_teacher(MODELS.build(cfg).state_dict())
    assert 'dist_token' in source and source['head.weight'].shape == (4, 48)
    new, rows, _ = clone(source, student())
    assert rows['pos_embed'].taken == new['pos_embed'].numel()


def test_report_says_what_was_done():
    _, _, report = clone(teacher(), student())
    assert f'{report.percent:.1f} %' in report.summary()
    content = json.loads(report.to_json())
    assert content['taken'] == report.taken
    assert 'layers.0.norm1.weight' in report.to_table()
