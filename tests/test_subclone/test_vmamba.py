"""Subcloning into a student with stages of several widths."""
import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.engine.hooks.subclone_target import student_tensors
from transmamba_mm.subclone import block_numbers
from .toys import clone, teacher

BLOCKS = [
    f'layers.{i}.blocks.{j}' for i, n in enumerate((1, 2, 1)) for j in range(n)
]


def student(**arch):
    """Three stages of width 16, 32 and 64; 1, 2 and 1 blocks."""
    torch.manual_seed(1)
    backbone = MODELS.build(
        dict(
            type='transmamba_mm.VMamba',
            arch=dict(embed_dims=16, depths=(1, 2, 1), **arch),
            patch_size=2,
            img_size=16))
    backbone.init_weights()
    model = torch.nn.ModuleDict(dict(backbone=backbone))
    tensors = student_tensors(model, 'backbone.')
    return {
        k: v.detach()
        for k, v in tensors.items()
    }, backbone.token_layout((16, 16))


def test_blocks_are_numbered_through_the_stages():
    state, _ = student()
    assert block_numbers(state) == {p: i for i, p in enumerate(BLOCKS)}
    many = {f'layers.2.blocks.{j}.norm.weight': 0 for j in (10, 9, 2)}
    many['layers.2.downsample.1.weight'] = 0
    assert list(block_numbers(many).values()) == [0, 1, 2]
    assert list(block_numbers(many))[-1] == 'layers.2.blocks.10'
    assert block_numbers({'layers.1.norm.weight': 0}) == {
        'layers.0': 0,
        'layers.1': 1
    }


def test_safe_names_are_cloned_and_the_rest_is_kept():
    new, rows, _ = clone(teacher(32, 8), student())
    parts = ('norm.weight', 'norm.bias', 'norm2.weight', 'norm2.bias',
             'mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight',
             'mlp.fc2.bias')
    assert set(new) == {
        'classifier.norm.weight', 'classifier.norm.bias',
        *(f'{b}.{p}' for b in BLOCKS for p in parts)
    }
    for name in ('patch_embed.0.weight', 'layers.0.downsample.1.weight',
                 'layers.1.blocks.0.op.A_logs'):
        assert rows[name].action == 'skipped'


def test_teacher_blocks_are_spread_over_all_stages():
    """Flat block l of 4 comes from teacher block 2 l of 8."""
    _, rows, _ = clone(teacher(32, 8), student())
    sources = [rows[f'{b}.norm.weight'].source for b in BLOCKS]
    assert sources == [f'layers.{i}.norm1.weight' for i in (0, 2, 4, 6)]


def test_table_joins_the_blocks_of_a_stage():
    _, _, report = clone(teacher(32, 8), student(), first_n=1)
    table = report.to_table()
    assert 'layers.1.blocks.{0-1}.norm.weight' in table
    assert 'layers.2.blocks.0.norm.weight' in table
    assert 'layers.{0-1}.downsample.1.weight' in table


def test_first_n_counts_blocks_not_stages():
    _, rows, _ = clone(teacher(32, 8), student(), first_n=2)
    actions = [rows[f'{b}.norm.weight'].action for b in BLOCKS]
    assert actions == ['sliced', 'copied', 'skipped', 'skipped']


def test_each_stage_takes_what_fits_its_width():
    source, target = teacher(32, 8), student()
    new, rows, _ = clone(source, target)
    narrow = new['layers.0.blocks.0.norm.weight']
    assert narrow.shape == (
        16, ) and rows['layers.0.blocks.0.norm.weight'].action == 'sliced'
    # one set of channels for a stage's whole residual stream
    kept = (source['layers.0.norm1.weight'][None] == narrow[:,
                                                            None]).nonzero()[:,
                                                                             1]
    torch.testing.assert_close(
        new['layers.0.blocks.0.mlp.fc2.bias'],
        source['layers.0.fc2.bias'][kept],
        rtol=0,
        atol=0)
    assert torch.equal(new['layers.1.blocks.1.norm.weight'],
                       source['layers.4.norm1.weight'])
    wide = new['layers.2.blocks.0.norm.weight']
    assert torch.equal(wide[:32], source['layers.6.norm1.weight'])
    assert torch.equal(wide[32:],
                       target[0]['layers.2.blocks.0.norm.weight'][32:])


@pytest.mark.parametrize('with_gate', [False, True])
def test_linear_fills_the_inner_stream_with_and_without_gate(with_gate):
    source = teacher(32, 8)
    target = student(with_gate=with_gate, expand=1)
    new, rows, _ = clone(source, target, 'linear')
    name = 'layers.1.blocks.0.op.in_proj.weight'
    inner, gate = new[name][:32], new[name][32:]
    assert torch.equal(inner, source['layers.2.v.weight'])
    assert torch.equal(gate, target[0][name][32:])
    assert len(gate) == (32 if with_gate else 0)
    assert ('first half' in rows[name].reason) == with_gate
    assert torch.equal(new['layers.1.blocks.0.op.out_proj.weight'],
                       source['layers.2.o.weight'])


def test_a_wrong_rule_names_targets_with_stage_and_block():
    rule = dict(
        target='layers.{i}.blocks.{j}.norm9.weight',
        source='layers.{i}.norm1.weight',
        axes=['residual'])
    with pytest.raises(ValueError, match=r'layers\.\{i\}\.blocks\.\{j\}\.nor'):
        clone(teacher(32, 8), student(), [rule])


def test_an_own_rule_may_name_stage_and_block():
    rule = dict(
        target='layers.{i}.blocks.{j}.op.out_norm.weight',
        source='layers.{i}.norm1.weight',
        axes=['residual'])
    new, _, _ = clone(teacher(32, 8), student(expand=1), [rule])
    assert set(new) == {f'{b}.op.out_norm.weight' for b in BLOCKS}
