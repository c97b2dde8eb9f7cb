"""State space parameters from a Mamba checkpoint."""
import pytest
import torch
from torch import nn

from transmamba_mm.models.layers.bidirectional_mixer import BidirectionalMixer
from transmamba_mm.subclone import (SubclonePlan, add_ssm_rows, clone_ssm,
                                    read_mamba, subclone_state_dict)
from .test_vmamba import student as vmamba
from .toys import student, teacher


def mamba(width=32, layers=3, state=4, rank=2, kernel=4, **extra):
    """Weights of a Mamba language model, as mamba_ssm names them."""
    torch.manual_seed(2)
    e, out = 2 * width, {'backbone.embedding.weight': torch.randn(10, width)}
    shapes = {
        'A_log': (e, state),
        'D': (e, ),
        'in_proj.weight': (2 * e, width),
        'conv1d.weight': (e, 1, kernel),
        'conv1d.bias': (e, ),
        'x_proj.weight': (rank + 2 * state, e),
        'dt_proj.weight': (e, rank),
        'dt_proj.bias': (e, ),
        'out_proj.weight': (width, e)
    }
    for i in range(layers):
        out[f'backbone.layers.{i}.norm.weight'] = torch.randn(width)
        for name, shape in {**shapes, **extra}.items():
            out[f'backbone.layers.{i}.mixer.{name}'] = torch.randn(shape)
    out['backbone.norm_f.weight'] = torch.randn(width)
    return out


def fill(state, target, **kwargs):
    new, rows = clone_ssm(read_mamba(state), target[0], **kwargs)
    return new, {r.tensor: r for r in rows}


def test_same_sizes_are_copied_to_both_directions():
    state, target = mamba(), student()
    new, rows = fill(state, target)
    for i in range(3):
        for part in ('A{}_log', 'D{}', 'conv1d{}.weight', 'conv1d{}.bias',
                     'x_proj{}.weight', 'dt_proj{}.weight', 'dt_proj{}.bias'):
            source = state[f'backbone.layers.{i}.mixer.{part.format("")}']
            for suffix in ('', '_b'):
                name = f'layers.{i}.mixer.{part.format(suffix)}'
                assert torch.equal(new[name], source)
                assert rows[name].action == 'copied'
                assert rows[name].from_mamba == source.numel()
                assert rows[name].taken == 0
    assert len(new) == 3 * 14
    assert 'one direction' in rows['layers.0.mixer.A_b_log'].reason
    first, rows = fill(state, target, directions='first')
    assert len(first) == 3 * 7 and not [k for k in first if '_b' in k]
    assert rows['layers.0.mixer.D_b'].action == 'skipped'
    with pytest.raises(ValueError, match="ssm_directions='none'.*'first'"):
        fill(state, target, directions='none')


def test_a_direction_then_does_what_the_language_model_does():
    transformers = pytest.importorskip('transformers')
    torch.manual_seed(0)
    cfg = transformers.MambaConfig(
        vocab_size=20, hidden_size=32, state_size=4, num_hidden_layers=2)
    model = transformers.MambaForCausalLM(cfg).eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    own = BidirectionalMixer(32, d_state=4)
    target = {f'layers.0.mixer.{k}': v for k, v in own.state_dict().items()}
    source = {
        k: v
        for k, v in read_mamba(model.state_dict()).items()
        if k.startswith('layers.0.')
    }
    new, _ = clone_ssm(source, target)
    own.load_state_dict(
        {
            k.removeprefix('layers.0.mixer.'): v
            for k, v in new.items()
        },
        strict=False)
    theirs = model.backbone.layers[0].mixer
    own.in_proj.load_state_dict(theirs.in_proj.state_dict())
    own.out_proj.load_state_dict(theirs.out_proj.state_dict())
    x = torch.randn(2, 9, 32)
    with torch.no_grad():
        _, directions = own(x, (3, 3), record=True)
        torch.testing.assert_close(
            directions[0], theirs(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            directions[1], theirs(x.flip(1)).flip(1), rtol=1e-4, atol=1e-5)


def test_a_second_set_is_used_where_there_is_one():
    state = mamba(**{'D_b': (64, ), 'A_b_log': (64, 4)})
    new, rows = fill(state, student())
    name = 'layers.1.mixer.'
    for part in ('D_b', 'A_b_log'):
        assert torch.equal(new[name + part], state['backbone.' + name + part])
        assert 'one direction' not in rows[name + part].reason
    assert torch.equal(new[name + 'dt_proj_b.bias'],
                       state[f'backbone.{name}dt_proj.bias'])


def test_a_larger_mamba_is_cut():
    state, target = mamba(48, 6, state=8, rank=3, kernel=6), student()
    kept = torch.arange(0, 96, 3).repeat_interleave(2) + torch.tensor(
        [0, 1]).repeat(32)
    for i in range(6):
        path = f'backbone.layers.{i}.mixer.'
        state[path + 'x_proj.weight'][:, kept] *= 20
        for part in ('conv1d.weight', 'dt_proj.weight'):
            state[path + part][kept] *= 20
        state[path + 'dt_proj.weight'] @= torch.diag(
            torch.tensor([3., 2., 0.]))
    new, rows = fill(state, target)
    for i in range(3):
        theirs = f'backbone.layers.{2 * i}.mixer.'
        ours = f'layers.{i}.mixer.'
        assert torch.equal(new[ours + 'A_log'],
                           state[theirs + 'A_log'][kept, :4])
        assert torch.equal(new[ours + 'D'], state[theirs + 'D'][kept])
        assert torch.equal(new[ours + 'conv1d.weight'],
                           state[theirs + 'conv1d.weight'][kept, :, 2:])
        x_proj = state[theirs + 'x_proj.weight'][:, kept]
        assert torch.equal(new[ours + 'x_proj.weight'][2:6], x_proj[3:7])
        assert torch.equal(new[ours + 'x_proj.weight'][6:], x_proj[11:15])
        # the third of the ranks is empty, so that nothing is lost
        torch.testing.assert_close(
            new[ours + 'dt_proj.weight'] @ new[ours + 'x_proj.weight'][:2],
            state[theirs + 'dt_proj.weight'][kept] @ x_proj[:3],
            rtol=1e-3,
            atol=1e-3)
        for part in ('A_log', 'D', 'x_proj.weight', 'dt_proj.weight'):
            assert rows[ours + part].action == 'sliced'


def test_a_smaller_mamba_leaves_the_rest():
    state, target = mamba(16, 1, state=2, rank=1, kernel=3), student()
    new, rows = fill(state, target)
    theirs, ours = 'backbone.layers.0.mixer.', 'layers.2.mixer.'
    own = target[0]
    a_log = own[ours + 'A_log'].clone()
    a_log[:32, :2] = state[theirs + 'A_log']
    assert torch.equal(new[ours + 'A_log'], a_log)
    x_proj = own[ours + 'x_proj.weight'].clone()
    for mine, part in (([0], [0]), ([2, 3], [1, 2]), ([6, 7], [3, 4])):
        x_proj[mine, :32] = state[theirs + 'x_proj.weight'][part]
    assert torch.equal(new[ours + 'x_proj.weight'], x_proj)
    conv = own[ours + 'conv1d.weight'].clone()
    conv[:32, :, 1:], conv[:32, :, 0] = state[theirs + 'conv1d.weight'], 0.
    assert torch.equal(new[ours + 'conv1d.weight'], conv)
    assert rows[ours + 'A_log'].action == 'padded'
    assert rows[ours + 'A_log'].from_mamba == 64


def test_students_with_picture_convolutions():
    state = mamba()
    new, rows = fill(state, student('PlainMamba'))
    theirs, ours = 'backbone.layers.1.mixer.', 'layers.1.mamba.'
    assert torch.equal(new[ours + 'A_log'], state[theirs + 'A_log'])
    assert torch.equal(new[ours + 'dt_proj.bias'],
                       state[theirs + 'dt_proj.bias'] / 2)
    for end in ('weight', 'bias'):
        assert 'two dimensions' in rows[ours + f'conv2d.{end}'].reason
    target = vmamba(d_state=4)
    state = mamba(rank=4)
    new, rows = fill(state, target)
    name = 'layers.2.blocks.0.op.'  # 128 wide inside, twice the Mamba
    inner = target[0][name + 'dt_projs_bias'].shape[1]
    old = target[0][name + 'Ds'].view(4, inner)
    for got in new[name + 'Ds'].view(4, inner):
        assert torch.equal(got[:64], state['backbone.layers.2.mixer.D'])
        assert torch.equal(got[64:], old[0, 64:])
    for got in new[name + 'x_proj_weight']:
        assert torch.equal(got[:, :64],
                           state['backbone.layers.2.mixer.x_proj.weight'])
    assert rows[name + 'Ds'].from_mamba == 4 * 64
    first, _ = fill(state, target, directions='first')
    old = target[0][name + 'A_logs'].view(4, inner, 4)
    got = first[name + 'A_logs'].view(4, inner, 4)
    assert not torch.equal(got[0], old[0]) and torch.equal(got[1:], old[1:])


def test_the_teacher_goes_before_the_mamba():
    """B and C from the teacher, the step size from the Mamba."""
    state, (target, layout) = mamba(), student()
    given, rows = clone_ssm(read_mamba(state), target)
    new, report = subclone_state_dict(teacher(), {
        **target,
        **given
    }, SubclonePlan('qkv_to_ssm', first_n=1), layout)
    add_ssm_rows(report, rows, given, new)
    row = {r.tensor: r for r in report.rows}
    name = 'layers.0.mixer.x_proj.weight'
    assert torch.equal(new[name][:2], given[name][:2])
    assert not torch.equal(new[name][2:], given[name][2:])
    assert (row[name].taken, row[name].from_mamba) == (8 * 64, 2 * 64)
    assert 'factorised' == row[name].action and 'mamba' in row[name].reason
    assert row['layers.1.mixer.x_proj.weight'].from_mamba == 10 * 64
    assert report.taken + report.from_mamba <= report.total
    assert 'from the Mamba checkpoint' in report.summary()


@pytest.mark.parametrize('change, message', [
    (lambda s: {
        'conv1.weight': torch.zeros(1)
    }, 'no Mamba in it.*conv1'),
    (lambda s: {
        k: v
        for k, v in s.items() if 'x_proj' not in k
    }, 'Mamba-2'),
    (lambda s: {
        k: v
        for k, v in s.items() if '1.mixer.D' not in k
    }, r"1 tensors missing \['layers.1.D'\]"),
])
def test_what_is_no_mamba(change, message):
    with pytest.raises(ValueError, match=message):
        read_mamba(change(mamba()))
