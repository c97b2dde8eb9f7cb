"""The published sizes are recognised; what is unclear is refused."""
import pytest
import torch

from transmamba_mm.convert import (check_settings, choose_family,
                                   convert_weights, find_weights,
                                   training_model)
from transmamba_mm.convert.inert_pickle import Inert
from ..command import ROOT
from .layouts import bidirectional, fill, plainmamba, video, vmamba


def empty(shapes):
    """Weights without memory, for the large models."""
    state = {k: torch.empty(v, device='meta') for k, v in shapes.items()}
    return find_weights(state).state


def vim(width, depth=24, **kwargs):
    return bidirectional(width, depth, classes=1000, **kwargs)


def plain(width, depth, **kwargs):
    return plainmamba(width, depth, classes=1000, **kwargs)


def hierarchical(width, depth, **kwargs):
    return vmamba(width, (2, 2, depth, 2), classes=1000, **kwargs)


# layout, family, size, parameters with a head of 1,000 classes
PUBLISHED = [
    (vim(192), 'vim', 'tiny', 7148008),
    (vim(384), 'vim', 'small', 25796584),
    (vim(768), 'vim', 'base', None),
    (vim(192, positions=730), 'vim', 'tiny+', None),
    (plain(192, 24, convs=1, dw=(0, )), 'plainmamba', 'l1', 7551656),
    (plain(384, 24), 'plainmamba', 'l2', 26145832),
    (plain(448, 36), 'plainmamba', 'l3', 50956456),
    (vim(192), 'videomamba', 'tiny', 7148008),
    (vim(576, 32), 'videomamba', 'middle', 74217448),
    (vim(384, positions=785), 'videomamba', 'small', None),
    (video(8, 1, width=576, depth=32), 'videomamba', 'middle', None),
    (hierarchical(96, 9, first=True), 'vmamba', 'v0-t', None),
    (hierarchical(96, 27, first=True), 'vmamba', 'v0-s', None),
    (hierarchical(128, 27, first=True), 'vmamba', 'v0-b', None),
    (hierarchical(96, 8), 'vmamba', 's1l8-t', 30249064),
    (hierarchical(96, 20), 'vmamba', 's1l20-s', None),
    (hierarchical(128, 20), 'vmamba', 's1l20-b', None),
    (hierarchical(96, 5, expand=2), 'vmamba', 's2l5-t', None),
    (hierarchical(96, 15, expand=2), 'vmamba', 's2l15-s', None),
    (hierarchical(128, 15, expand=2), 'vmamba', 's2l15-b', None),
]


@pytest.mark.parametrize('case', PUBLISHED, ids=lambda c: f'{c[1]}-{c[2]}')
def test_published_sizes(case):
    shapes, family, size, parameters = case
    ambiguous = family in ('vim', 'videomamba')
    conversion = convert_weights(
        empty(shapes), family=family if ambiguous else None)
    found = conversion.recognition
    assert (found.family, found.size) == (family, size)
    assert conversion.model['backbone']['arch'] == size.rstrip('+')
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    count = sum(v.numel() for k, v in conversion.state.items()
                if not k.endswith(buffers))
    assert parameters in (None, count)
    assert found.config == f'{family}-{size.rstrip("+")}'
    path = ROOT / 'configs/_base_/models' / f'{found.config}.py'
    assert path.exists()


def test_vim_and_videomamba_are_not_guessed():
    state = fill(bidirectional())
    with pytest.raises(ValueError, match='--family vim or --family videom'):
        convert_weights(state)
    kinds = {
        f: convert_weights(state, family=f).model['backbone']['type']
        for f in ('vim', 'videomamba')
    }
    assert kinds == dict(
        vim='transmamba_mm.VisionMamba', videomamba='transmamba_mm.VideoMamba')
    # the arguments of the training are no guess
    assert choose_family(state, None, 'videomamba_tiny') == 'videomamba'
    assert choose_family(state, None, 'vim_tiny_patch16_224') == 'vim'
    with pytest.raises(ValueError, match='trained as .videomamba_tiny'):
        choose_family(state, 'vim', 'videomamba_tiny')
    with pytest.raises(ValueError, match='--family'):
        choose_family(state, None, 'my_model')


@pytest.mark.parametrize('shapes, family', [
    (video(), 'videomamba'),
    (plainmamba(), 'plainmamba'),
    (vmamba(), 'vmamba'),
])
def test_another_family_is_refused(shapes, family):
    state = find_weights(fill(shapes)).state
    with pytest.raises(
            ValueError, match=f"those of {family}, but family 'vim' was"):
        convert_weights(state, family='vim')
    with pytest.raises(ValueError, match="family 'resnet' is unknown"):
        convert_weights(state, family='resnet')


def test_a_foreign_model_is_refused():
    state = dict(torch.nn.TransformerEncoderLayer(8, 2).state_dict())
    with pytest.raises(ValueError, match='none of the families.*linear1'):
        convert_weights(state)


def test_number_of_classes():
    state = fill(bidirectional(classes=10))
    convert_weights(state, family='vim', num_classes=10)
    with pytest.raises(ValueError, match='has 10 classes, but 1000 were exp'):
        convert_weights(state, family='vim', num_classes=1000)
    state['head.bias'] = torch.zeros(7)
    with pytest.raises(ValueError, match=r'10 classes, but head.bias.*\(7,'):
        convert_weights(state, family='vim')
    state['head.weight'] = torch.zeros(10, 64)
    with pytest.raises(ValueError, match='takes 64 features.*gives 32'):
        convert_weights(state, family='vim')
    del state['head.weight'], state['head.bias']
    with pytest.raises(ValueError, match='has no classes, but 10 were'):
        convert_weights(state, family='vim', num_classes=10)


def test_the_difference_is_readable():
    state = fill(bidirectional(depth=3))
    for i in range(3):
        state[f'layers.{i}.mixer.rope.freqs'] = torch.zeros(4)
    del state['norm_f.weight']
    state['layers.1.mixer.D'] = torch.zeros(5)
    with pytest.raises(ValueError) as info:
        convert_weights(state, family='vim')
    lines = str(info.value).splitlines()
    assert lines[0].startswith("the weights look like vim 'custom'")
    assert sorted(lines[1:]) == [
        '  backbone.layers.*.mixer.rope.freqs (4,): left over, the model has '
        'no place for it (3 times)',
        '  backbone.layers.1.mixer.D found (5,), expected (64,): of another '
        'shape',
        '  backbone.norm_f.weight (32,): missing, the model needs it',
    ]


@pytest.mark.parametrize('name, change, message', [
    ('layers', lambda s: {
        k: v
        for k, v in s.items() if 'layers.1.' not in k
    }, r"lacks \['layers.1'\]"),
    ('cls', lambda s: dict(s, pos_embed=torch.zeros(1, 12, 32)),
     '12 positions, which are no square grid'),
    ('key', lambda s: {
        k: v
        for k, v in s.items() if k != 'pos_embed'
    }, "lacks the weight 'pos_embed'"),
])
def test_incomplete_weights(name, change, message):
    state = change(fill(bidirectional(depth=3)))
    with pytest.raises(ValueError, match=message):
        convert_weights(state, family='vim')


def test_stages_of_vmamba_must_double():
    state = fill(vmamba())
    state['layers.1.blocks.0.op.out_proj.weight'] = torch.zeros(48, 48)
    with pytest.raises(ValueError, match=r'widths \[32, 48, 128, 256\]'):
        convert_weights(state)
    state = fill(vmamba())
    state['layers.0.blocks.0.op.in_proj.weight'] = torch.zeros(32, 32, 3, 3)
    with pytest.raises(ValueError, match='a linear layer or a 1 x 1 conv'):
        convert_weights(state)


def stored(**attributes):
    """What stands for an object whose class is not loaded."""
    inert = Inert()
    inert.state = attributes
    return inert


def test_stored_settings_are_checked():
    """Some settings of official models leave no trace in the weights."""
    published = 'vim_tiny_patch16_224_bimambav2_with_midclstok_div2'
    content = dict(args=stored(model=published))
    assert training_model(content) == published
    assert training_model(dict(args=3)) is None
    check_settings(content, 'vim')
    with pytest.raises(ValueError, match='averaged directions'):
        check_settings(
            dict(args=stored(model='vim_tiny_bimambav2_midclstok')), 'vim')

    def config(**settings):
        node = Inert()
        node['MODEL'] = dict(VSSM=settings)
        return dict(config=node)

    for scan in ('v0', 'v05_noz', 'v05_no32_noz', 'v3_noz'):
        check_settings(config(SSM_FORWARDTYPE=scan), 'vmamba')
    for scan in ('v052d_noz', 'v051d', 'v05_onsoftmax_noz', 'v05_oact_noz'):
        with pytest.raises(ValueError, match=f'SSM_FORWARDTYPE=.{scan}'):
            check_settings(config(SSM_FORWARDTYPE=scan), 'vmamba')
    with pytest.raises(ValueError, match="SSM_ACT_LAYER='relu'.*'silu'"):
        check_settings(config(SSM_ACT_LAYER='relu'), 'vmamba')
    check_settings({}, 'vmamba')
