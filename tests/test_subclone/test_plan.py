"""Plans: what a user may write, and what it means."""
import pytest
import torch

from .toys import clone, student, teacher


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
    new, _, _ = clone(source, student(), dict(preset='safe', rules=[rule]))
    assert torch.equal(new['layers.0.norm.weight'],
                       source['layers.0.norm2.weight'])
    assert torch.equal(new['norm_f.weight'], source['final_norm.weight'])


RULE = dict(
    target='layers.{i}.norm.weight',
    source='layers.{i}.norm1.weight',
    axes=['residual'])


@pytest.mark.parametrize('plan, kwargs, message', [
    ('risky', {}, "preset 'risky'.*'linear', 'none', 'qkv_to_ssm', 'safe'"),
    (dict(presets='safe'), {}, "no key 'presets'.*nearest.*'preset'"),
    (dict(exclude=['pos_embd']), {}, 'nearest names are .*pos_embed'),
    ([{
        **RULE, 'axes': ['width']
    }], {}, "axes.*'residual'"),
    ([dict(goal='a')], {}, 'no rule'),
    (['safe'], {}, 'no rule'),
    ([{
        **RULE, 'kind': 'picture'
    }], {}, "kind='picture'.*'tokens'"),
    ([{
        **RULE, 'source': 'layers.{i}.ln1.weight'
    }], {}, r'nearest.*layers\.\{i\}\.norm1\.weight'),
    ([{
        **RULE, 'target': 'layers.{i}.nrm.weight'
    }], {}, r'fits no student tensor.*layers\.\{i\}\.norm\.weight'),
    ([{
        **RULE, 'target': 'norm_f.weight'
    }], {}, 'both hold'),
    ([dict(target='norm_f.weight', source='final_norm.weight', axes=['mlp'])
      ], {}, 'in no block'),
    ('safe', dict(first_n=4), 'first_n=4.*3 blocks'),
    ('safe', dict(first_n=-2), 'first_n=-2.*3 blocks'),
    ('safe', dict(first_n='half'), "first_n='half'.*3 blocks"),
    ('safe', dict(depth_map='middle'), 'depth_map'),
    ('safe', dict(depth_map=[0, 1]), 'must hold 3 numbers'),
    ('safe', dict(depth_map=[0, 1, 3]), 'from 0 to 2'),
])
def test_wrong_plans(plan, kwargs, message):
    with pytest.raises(ValueError, match=message):
        clone(teacher(), student(), plan, **kwargs)


def test_a_plan_of_another_type_is_refused():
    with pytest.raises(TypeError, match='WeightSubcloneHook.plan=3'):
        clone(teacher(), student(), 3)


def test_all_blocks_by_name():
    new, _, _ = clone(teacher(), student(), first_n='all')
    assert 'layers.2.norm.weight' in new


def test_a_list_is_a_plan_of_rules_alone():
    rule = dict(
        target='layers.{i}.mixer.in_proj.weight',
        source='layers.{i}.fc1.weight',
        axes=['mlp', 'residual'])
    source, target = teacher(), student()
    new, rows, _ = clone(source, target, [rule])
    assert set(new) == {f'layers.{i}.mixer.in_proj.weight' for i in range(3)}
    name = 'layers.1.mixer.in_proj.weight'
    assert torch.equal(new[name][:64], source['layers.1.fc1.weight'])
    assert rows[name].action == 'padded'


def test_exclude_may_be_one_name():
    new, _, _ = clone(teacher(), student(),
                      dict(preset='safe', exclude='cls_token'))
    assert 'cls_token' not in new and 'pos_embed' in new


def test_none_clones_nothing():
    new, _, report = clone(teacher(), student(), 'none')
    assert not new and report.taken == 0


def test_depth_maps_by_name():
    """n cloned blocks from the teacher's first or last n."""
    source, target = teacher(num_layers=6), student()

    def cloned_from(**kwargs):
        new, _, _ = clone(source, target, **kwargs)
        return [
            next(
                j for j in range(6)
                if torch.equal(new[f'layers.{i}.norm.weight'],
                               source[f'layers.{j}.norm1.weight']))
            for i in range(3) if f'layers.{i}.norm.weight' in new
        ]

    assert cloned_from(depth_map='first_n') == [0, 1, 2]
    assert cloned_from(depth_map='last_n') == [3, 4, 5]
    assert cloned_from(depth_map='last_n', first_n=2) == [4, 5]
    assert cloned_from(depth_map='first_n', first_n=2) == [0, 1]
    short = teacher(num_layers=2)
    for name in ('first_n', 'last_n'):
        with pytest.raises(ValueError, match='needs 3 teacher blocks.*has 2'):
            clone(short, target, depth_map=name)
        clone(short, target, depth_map=name, first_n=2)
