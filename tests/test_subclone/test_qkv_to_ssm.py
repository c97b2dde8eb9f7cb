"""K and Q as B and C: which numbers land where, and what they do."""
import pytest
import torch

from .test_vmamba import student as vmamba
from .toys import clone, student, teacher

PLAN = 'qkv_to_ssm'


def causal_scores(source, layer, rank):
    """The scores of a teacher layer at a lower rank, scaled to norm 1."""
    q, k = (source[f'layers.{layer}.{p}.weight'].double() for p in 'qk')
    u, s, v = torch.linalg.svd(q.T @ k)
    out = (u[:, :rank] * s[:rank]) @ v[:rank]
    return out / out.norm()


@pytest.mark.parametrize('suffix', ['', '_b'])
def test_b_and_c_give_the_teachers_scores(suffix):
    """Of a student whose convolutions pass the tokens on as they are."""
    source, target = teacher(), student()
    for name, value in target[0].items():
        if 'conv1d' in name and name.endswith('weight'):
            value.zero_()[..., -1] = 1.
    new, rows, _ = clone(source, target, PLAN)
    for i in range(3):
        mixer = f'layers.{i}.mixer'
        inner = new[f'{mixer}.in_proj.weight'][:64].double()
        x_proj = new[f'{mixer}.x_proj{suffix}.weight'].double()
        b, c = x_proj[-8:-4] @ inner, x_proj[-4:] @ inner
        scores = c.T @ b
        torch.testing.assert_close(
            scores / scores.norm(),
            causal_scores(source, i, 4),
            rtol=1e-2,
            atol=1e-3)
        row = rows[f'{mixer}.x_proj{suffix}.weight']
        assert (row.action, row.taken) == ('factorised', 8 * 64)
        assert row.source == f'layers.{i}.k.weight'


def test_norms_and_the_step_size_stay():
    source, target = teacher(), student()
    new, rows, _ = clone(source, target, PLAN)
    name = 'layers.1.mixer.x_proj.weight'
    old = target[0][name]
    assert torch.equal(new[name][:-8], old[:-8])
    for part in (slice(-8, -4), slice(-4, None)):
        assert not torch.equal(new[name][part], old[part])
        torch.testing.assert_close(new[name][part].norm(), old[part].norm())
    assert 'rank 4 keeps' in rows[name].reason
    linear, _, _ = clone(source, target, 'linear')
    assert set(new) - set(linear) == {
        f'layers.{i}.mixer.x_proj{s}.weight'
        for i in range(3)
        for s in ('', '_b')
    }
    assert all(torch.equal(new[k], linear[k]) for k in linear)


def test_each_direction_allows_for_its_own_convolution():
    new, _, _ = clone(teacher(), student(), PLAN)
    a, b = (new[f'layers.0.mixer.x_proj{s}.weight'][-4:] for s in ('', '_b'))
    assert not torch.allclose(a / a.norm(), b / b.norm(), atol=1e-2)


def test_other_families_and_widths():
    new, rows, _ = clone(teacher(48), student('PlainMamba'), PLAN)
    name = 'layers.2.mamba.x_proj.weight'
    assert rows[name].action == 'factorised'
    assert new[name].isfinite().all()
    target = vmamba(d_state=4)
    new, rows, _ = clone(teacher(32, 4), target, PLAN)
    for block, width in (('layers.0.blocks.0', 16), ('layers.1.blocks.1', 32),
                         ('layers.2.blocks.0', 64)):
        name = f'{block}.op.x_proj_weight'
        assert rows[name].action == 'factorised'
        assert rows[name].taken == new[name][:, -8:].numel()
        assert torch.equal(new[name][:, :-8], target[0][name][:, :-8])
        assert len(new[name]) == 4 and new[name].shape[-1] >= width


def test_what_cannot_be_factorised_is_said():
    source, target = teacher(), student()
    del source['layers.1.q.weight']
    new, rows, _ = clone(source, target, PLAN, first_n=2)
    name = 'layers.{}.mixer.x_proj.weight'
    assert name.format(0) in new
    assert 'no queries' in rows[name.format(1)].reason
    assert 'beyond the first 2' in rows[name.format(2)].reason
    source['layers.0.q.weight'].zero_()
    new, rows, _ = clone(source, target, PLAN)
    assert 'are zero' in rows[name.format(0)].reason
    assert name.format(0) not in new
    source = teacher()
    new, rows, _ = clone(source, target, dict(preset=PLAN, exclude='x_proj_b'))
    assert rows['layers.0.mixer.x_proj_b.weight'].action == 'skipped'
    assert name.format(0) in new


def test_own_rules_for_scores():
    rule = dict(
        target='layers.{i}.mixer.x_proj.weight',
        source='layers.{i}.k.weight',
        axes=['keep', 'inner'],
        kind='scores')
    new, _, _ = clone(teacher(), student(), [rule])
    assert set(new) == {f'layers.{i}.mixer.x_proj.weight' for i in range(3)}
    for wrong in (dict(source='layers.{i}.q.weight'),
                  dict(target='layers.{i}.mixer.in_proj.weight')):
        with pytest.raises(ValueError, match="kind='scores' fills x_proj"):
            clone(teacher(), student(), [{**rule, **wrong}])


def share_keys(source):
    """Leave every second head (of 4, width 8) of keys and values."""
    for i in range(3):
        for part in ('k.weight', 'k.bias', 'v.weight', 'v.bias'):
            name = f'layers.{i}.{part}'
            source[name] = source[name].unflatten(0, (4, 8))[::2].flatten(0, 1)
    return source


def test_keys_and_values_that_heads_share():
    few, target = share_keys(teacher()), student()
    plan = dict(preset=PLAN, num_heads=4)
    new, _, _ = clone(few, target, plan)
    many = dict(few)
    for i in range(3):
        for part in ('k', 'v'):
            heads = few[f'layers.{i}.{part}.weight'].split(8)
            many[f'layers.{i}.{part}.weight'] = torch.cat(
                [heads[0], heads[0], heads[1], heads[1]])
    want, _, _ = clone(many, target, plan)
    assert all(torch.equal(new[k], want[k]) for k in want)
    with pytest.raises(ValueError, match='num_heads'):
        clone(few, target, PLAN)
