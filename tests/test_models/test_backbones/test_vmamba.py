"""What only VMamba has: stages, stems, downsampling and dense outputs."""
import pytest
import torch
from mmpretrain.registry import MODELS
from torchvision.ops import FeaturePyramidNetwork

NANO = dict(embed_dims=8, depths=(1, 2, 1, 1))


def build(arch=NANO, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type='transmamba_mm.VMamba', arch=arch, **kwargs))
    return model


@pytest.mark.parametrize('size', [(64, 64), (50, 70), (3, 100)])
def test_four_maps_feed_a_feature_pyramid(size):
    """Contract with the necks of detectors and segmentors."""
    model = build(out_indices=(0, 1, 2, 3), out_type='featmap')
    feats = model(torch.randn(2, 3, *size))
    assert isinstance(feats, tuple)
    for i, (feat, dims) in enumerate(zip(feats, (8, 16, 32, 64))):
        sides = tuple(-(-s // (4 * 2**i)) for s in size)
        assert feat.shape == (2, dims, *sides) and feat.is_contiguous()
    neck = FeaturePyramidNetwork(model.dims, 12)
    outs = neck({str(i): f for i, f in enumerate(feats)})
    assert [o.shape[1:] for o in outs.values()] == [(12, *f.shape[2:])
                                                    for f in feats]
    sum(o.square().mean() for o in outs.values()).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None]
    assert not still


def test_dense_outputs_have_norms_of_their_own():
    model = build(out_indices=(0, 2, 3), out_type='featmap').eval()
    names = {n.split('.')[0] for n in model.state_dict()}
    assert {'outnorm0', 'outnorm2', 'classifier'} <= names
    assert not {'outnorm1', 'outnorm3'} & names
    for feat in model(torch.randn(1, 3, 32, 32)):
        torch.testing.assert_close(
            feat.mean(1), torch.zeros_like(feat[:, 0]), atol=1e-4, rtol=0)


def test_a_classifiers_weights_start_a_dense_model():
    state = build().state_dict()
    dense = build(out_indices=(0, 1, 2, 3), out_type='featmap')
    result = dense.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert {k.split('.')[0]
            for k in result.missing_keys
            } == {'outnorm0', 'outnorm1', 'outnorm2'}


@pytest.mark.parametrize('stem, patch_size', [('v1', 4), ('v1', 8), ('v1', 3),
                                              ('v2', 4), ('v2', 2), ('v2', 1)])
@pytest.mark.parametrize('downsample', ['v1', 'v2', 'v3'])
def test_grids_of_all_stems_and_downsamplings(stem, patch_size, downsample):
    arch = dict(NANO, depths=(1, 1), stem=stem, downsample=downsample)
    model = build(arch, patch_size=patch_size, out_indices=(0, 1),
                  out_type='featmap')  # yapf: disable
    outs = model(torch.randn(1, 3, 23, 26))
    for out, layer in zip(outs, (0, 1)):
        assert out.shape[2:] == model.token_layout((23, 26), layer).grid


def test_downsampling_pads_odd_sides_at_the_end():
    for version in ('v1', 'v2', 'v3'):
        model = build(dict(NANO, downsample=version))
        down = model.layers[0].downsample
        x = torch.randn(1, 8, 5, 7)
        y = x.clone()
        y[..., -1, -1] += 1.
        changed = (down(x) - down(y)).abs().sum(1)[0] > 0
        assert changed[-1, -1] and changed.shape == (3, 4)
        assert not changed[:-1, :-1].any()


def test_32_pixel_preset_states_its_strides():
    model = build('tiny-32')
    convs = [m for m in model.patch_embed if isinstance(m, torch.nn.Conv2d)]
    assert [c.stride[0] for c in convs] == [2, 1]
    assert 'strides 2 and' in ' '.join(type(model).__doc__.split())
    grids = [model.token_layout((32, 32), i).grid for i in (0, 2, 4, -1)]
    assert grids == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert model.img_size == (32, 32) and model.patch_resolution == (2, 2)


def test_official_names_of_the_second_models_are_aliases():
    zoo = type(build()).arch_zoo
    for old, new in (('v2-t', 's2l5-t'), ('v2-s', 's2l15-s'), ('v2-b',
                                                               's2l15-b')):
        assert zoo[old] == zoo[new]


@pytest.mark.parametrize('kwargs, message', [
    (dict(arch=dict(NANO, stem='v3')), r"'v3' as `stem` in backbone\.arch"),
    (dict(arch=dict(NANO, downsample='v4')), r"'v4' as `downsample`"),
    (dict(patch_size=3), r'backbone\.patch_size=3.*\[1, 2, 4\]'),
    (dict(arch=dict(embed_dims=8)), r"backbone\.arch lacks \['depths'\]"),
    (dict(arch='t'), r'backbone\.arch=.*s1l8-t'),
    (dict(out_type='cls_token'), r'backbone\.out_type'),
    (dict(frozen_stages=5), r'backbone\.frozen_stages=5'),
])
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_frozen_stages_are_stages():
    model = build(frozen_stages=2).train()
    free = {n.split('.blocks')[0] for n, p in model.named_parameters()
            if p.requires_grad}  # yapf: disable
    assert free == {'layers.2', 'layers.2.downsample.1.weight',
                    'layers.2.downsample.1.bias', 'layers.3',
                    'layers.2.downsample.3.weight',
                    'layers.2.downsample.3.bias', 'classifier.norm.weight',
                    'classifier.norm.bias'}  # yapf: disable
    assert not model.layers[1].training and model.layers[2].training


def test_layer_depth_counts_blocks_of_all_stages():
    model = build(out_indices=(0, 3))
    depth = {n: model.get_layer_depth(n) for n, _ in model.named_parameters()}
    assert {d[1] for d in depth.values()} == {7}
    first = [depth[f'{b}.norm.weight'][0] for b in model.block_names]
    assert first == [1, 2, 3, 4, 5]
    assert depth['layers.1.downsample.1.weight'][0] == 3
    assert depth['outnorm0.weight'][0] == depth['classifier.norm.bias'][0] == 6
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (6, 7)


def test_directions_sum_to_the_normed_whole():
    """With gate, biased norm, and more states than one."""
    model = build(dict(NANO, d_state=4, with_gate=True))
    mixer = model.layers[1].blocks[0].op
    for p in mixer.parameters():
        torch.nn.init.normal_(p, std=0.3)
    out, directions = mixer(torch.randn(2, 12, 16), (3, 4), True)
    plain, none = mixer(torch.randn(2, 12, 16), (3, 4))
    assert none is None and plain.shape == out.shape
    assert directions.shape == (4, 2, 12, 16)
    torch.testing.assert_close(directions.mean(0), out, atol=1e-4, rtol=1e-4)
    for other in directions[1:]:
        assert (directions[0] - other).abs().max() > 1e-2


def test_mlp_counts_in_every_direction():
    block = build().layers[0].blocks[0]
    taps = []
    block.direction_tap.register_forward_hook(lambda m, i, o: taps.append(o))
    x = torch.randn(1, 16, 8)
    torch.nn.init.constant_(block.mlp.fc2.bias, 100.)
    block(x, (4, 4), True)
    assert taps[0].shape == (4, 1, 16, 8)
    assert (taps[0] - x).min() > 50
