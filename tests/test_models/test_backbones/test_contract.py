"""What every backbone must do, so that one can replace another."""
import copy

import pytest
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.ops import SCAN_BACKENDS

ARCH = dict(embed_dims=32, num_layers=3, d_state=4)
COLUMNAR = ['PlainMamba', 'VideoMamba', 'VisionMamba']
# three stages of one block, the last one like the columnar ones
STAGES = dict(
    arch=dict(embed_dims=8, depths=(1, 1, 1), d_state=4), patch_size=1)


def build(family, **kwargs):
    cfg = dict(
        type=f'transmamba_mm.{family}', arch=ARCH, img_size=16, patch_size=4)
    if family == 'VMamba':
        cfg.update(STAGES)
    torch.manual_seed(0)
    model = MODELS.build({**cfg, **kwargs})
    model.init_weights()
    return model


def get_block(model, index):
    return model.get_submodule(model.block_names[index])


@pytest.fixture(params=COLUMNAR + ['VMamba'])
def family(request):
    return request.param


@pytest.fixture(params=COLUMNAR)
def columnar(request):
    return request.param


def test_forward_gives_a_tuple_and_trains_every_parameter(family):
    model = build(family)
    feats = model(torch.randn(2, 3, 16, 16))
    assert isinstance(feats, tuple) and feats[-1].shape == (2, 32)
    feats[-1].square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None]
    assert not still


@pytest.mark.parametrize('out_type, shape', [
    ('raw', None),
    ('featmap', (2, 32, 4, 4)),
    ('avg_featmap', (2, 32)),
])
def test_out_types(family, out_type, shape):
    model = build(family, out_type=out_type)
    out = model(torch.randn(2, 3, 16, 16))[-1]
    layout = model.token_layout((16, 16))
    assert out.shape == (shape or (2, layout.num_tokens, 32))
    assert layout.num_tokens == 16 + model.num_extra_tokens


def test_wrong_arguments_name_the_config_key(family):
    with pytest.raises(ValueError, match=r'backbone\.arch=.*tiny'):
        build(family, arch='huge')
    with pytest.raises(ValueError, match=r'backbone\.arch lacks'):
        build(family, arch=dict(embed_dims=8))
    with pytest.raises(ValueError, match=r'unknown keys .*dstate'):
        build(family, arch=dict(ARCH, dstate=4))
    with pytest.raises(TypeError, match=r'backbone\.arch=None'):
        build(family, arch=None)
    with pytest.raises(ValueError, match=r'backbone\.out_type'):
        build(family, out_type='tokens')
    with pytest.raises(ValueError, match=r'backbone\.out_indices.*3 layers'):
        build(family, out_indices=5)
    with pytest.raises(ValueError, match=r'backbone\.frozen_stages'):
        build(family, frozen_stages=4)


def test_negative_indices_count_from_the_end(family):
    indices = [0, -1]
    model = build(family, out_indices=indices, out_type='featmap')
    assert indices == [0, -1], "the caller's list was changed"
    assert model.out_indices == (0, 2)
    outs = model(torch.randn(1, 3, 16, 16))
    assert len(outs) == 2
    assert (outs[0].shape != outs[1].shape
            or not torch.allclose(outs[0], outs[1]))


def test_featmap_is_the_tokens_as_a_picture(family):
    x = torch.randn(1, 3, 16, 16)
    raw = build(family, out_type='raw').eval()(x)[-1]
    model = build(family, out_type='featmap').eval()
    patches, _ = model.token_layout((16, 16)).split(raw)
    # row 1, column 2 of the map is patch token 6
    torch.testing.assert_close(model(x)[-1][0, :, 1, 2], patches[0, 6])


def test_frozen_stages_survive_train(family):
    model = build(family, frozen_stages=1)
    model.train()
    assert not model.patch_embed.training and not model.layers[0].training
    assert model.layers[1].training
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    stem = ('patch_embed', 'pos_embed', 'cls_token')
    assert any(n.startswith(stem) for n in frozen)
    assert all(n.startswith((*stem, 'layers.0.')) for n in frozen)
    assert any(n.startswith('layers.0.') for n in frozen)


def test_layer_depth(family):
    model = build(family)
    depths = {
        n: model.get_layer_depth('backbone.' + n, 'backbone.')
        for n, _ in model.named_parameters()
    }
    assert {d[1] for d in depths.values()} == {5}
    stem = [d[0] for n, d in depths.items() if n.startswith('patch_embed')]
    assert stem and not any(stem)
    assert depths[f'{model.block_names[2]}.norm.weight'][0] == 3
    assert depths[f'{model.final_norm_name}.weight'][0] == 4


@pytest.mark.parametrize('size', [(16, 16), (24, 16), (18, 23), (4, 40)])
def test_any_image_size(family, size):
    model = build(family, out_type='featmap').eval()
    grid = model.token_layout(size).grid
    out = model(torch.randn(1, 3, *size))[-1]
    assert out.shape[-2:] == grid
    assert grid == (-(-size[0] // 4), -(-size[1] // 4))


def test_no_pixel_is_cut_off(family):
    model = build(family, out_type='avg_featmap').eval()
    x = torch.zeros(1, 3, 16, 18)
    y = x.clone()
    y[..., -1, -1] = 9.
    assert not torch.allclose(model(x)[-1], model(y)[-1])


def test_pos_embed_is_resized_on_loading(columnar):
    small, large = build(columnar), build(columnar, img_size=(24, 16))
    state = copy.deepcopy(small.state_dict())
    large.load_state_dict(state)
    got, cls_got = large.token_layout((24, 16)).split(large.pos_embed)
    want, cls_want = small.token_layout((16, 16)).split(small.pos_embed)
    if cls_want is not None:
        assert torch.equal(cls_got, cls_want)
    torch.testing.assert_close(
        got.reshape(6, 4, 32).mean((0, 1)),
        want.mean((0, 1)),
        atol=2e-2,
        rtol=0)
    # loading and resizing on the fly agree
    x = torch.randn(1, 3, 24, 16)
    torch.testing.assert_close(small.eval()(x)[-1], large.eval()(x)[-1])


def test_pos_embed_of_no_square_grid_is_refused(columnar):
    state = build(columnar).state_dict()
    state['pos_embed'] = torch.zeros(1, 13, 32)
    with pytest.raises(ValueError, match=r'13 positions.*img_size'):
        build(columnar).load_state_dict(state)


def test_blocks_are_named_and_have_widths(family):
    model = build(family)
    assert len(model.block_names) == len(model.block_dims) == 3
    for name, dims in zip(model.block_names, model.block_dims):
        assert model.get_submodule(name).norm.weight.shape == (dims, )
    seen = []
    for i in range(3):
        get_block(model, i).register_forward_hook(
            lambda m, inputs, out: seen.append(out.shape))
    model(torch.randn(1, 3, 16, 24))
    assert seen == [(1, model.token_layout((16, 24), i).num_tokens, dims)
                    for i, dims in enumerate(model.block_dims)]


def test_activation_checkpointing_changes_nothing(family):
    x = torch.randn(2, 3, 16, 16)
    grads = []
    for with_cp in (False, True):
        model = build(family, with_cp=with_cp)
        model(x)[-1].square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_step_size_survives_generic_initialisation(family):
    model = build(
        family, init_cfg=dict(type='Constant', layer='Linear', val=0., bias=0))
    block = get_block(model, 0)
    mixer = getattr(block, block.mixer_name)
    if family == 'VMamba':
        weight, bias = mixer.dt_projs_weight, mixer.dt_projs_bias
        a_log = mixer.A_logs
    else:
        weight, bias = mixer.dt_proj.weight, mixer.dt_proj.bias
        a_log = mixer.A_log
    step = torch.nn.functional.softplus(bias)
    assert step.min() > 9e-5 and step.max() < 0.11
    assert weight.abs().max() > 0
    torch.testing.assert_close(-a_log.exp()[3],
                               -torch.arange(1., 1 + mixer.d_state))


def test_bf16_autocast_is_finite_and_near_float32(family):
    model = build(family).eval()
    x = torch.randn(2, 3, 16, 16)
    want = model(x)[-1]
    with torch.autocast('cpu', torch.bfloat16):
        got = model(x)[-1]
    assert (got.float() - want).norm() < 0.05 * want.norm()


def test_direction_features_average_to_the_block_output(family):
    model = build(family, drop_path_rate=0.5).train()
    seen = {}
    layer = get_block(model, 2)
    mixer = getattr(layer, layer.mixer_name)
    torch.nn.init.normal_(mixer.in_proj.weight, std=0.5)
    torch.nn.init.normal_(mixer.out_proj.weight, std=0.5)
    layer.direction_tap.register_forward_hook(
        lambda m, i, o: seen.update(directions=o))
    layer.register_forward_hook(lambda m, i, o: seen.update(block=o))
    model(torch.randn(8, 3, 16, 16))
    directions = seen['directions']
    layout = model.token_layout((16, 16))
    assert directions.shape == (len(model.direction_names), 8,
                                layout.num_tokens, 32)
    torch.testing.assert_close(
        directions.mean(0), seen['block'], atol=1e-4, rtol=1e-4)
    # the directions differ, except where the branch was dropped
    assert (directions[0] - directions[1]).abs().max() > 1e-3


def test_unrecorded_forward_computes_no_directions(family):
    model = build(family)
    taps = []
    layer = get_block(model, 0)
    mixer = getattr(layer, layer.mixer_name)
    mixer.register_forward_hook(lambda m, i, o: taps.append(o[1]))
    model(torch.randn(1, 3, 16, 16))
    assert taps == [None]


def test_each_direction_sees_its_own_past(family):
    """Token 0 of the forward scan knows nothing of later tokens."""
    model = build(family, out_type='raw').eval()
    layer = get_block(model, 2)
    mixer = getattr(layer, layer.mixer_name)
    if hasattr(mixer, 'conv2d'):  # the 2-D convolution looks everywhere
        kernel = mixer.conv2d.weight
        torch.nn.init.zeros_(kernel)
        with torch.no_grad():
            kernel[..., kernel.shape[2] // 2, kernel.shape[3] // 2] = 1.
    if family == 'VMamba':  # its norm shares one deviation
        mixer.out_norm.eps = 1e12
    grid = (4, 4)
    x = torch.randn(1, 16 + model.num_extra_tokens, 32)
    y = x.clone()
    y[:, -1] += 1.
    changed = (mixer(x, grid, True)[1] - mixer(y, grid, True)[1]).abs().sum(
        (1, 3)) > 0  # (M, L)
    forward, backward = changed[0], changed[1]
    if family == 'PlainMamba':
        # the last snake row of a 4 x 4 grid runs to the left, so token 15 is
        # visited before 12 to 14 by 'rows', and after them by its reverse
        assert forward.nonzero().flatten().tolist() == [12, 13, 14, 15]
        assert backward[15] and not backward[12:15].any()
    elif family == 'VMamba':
        for late in changed[:2]:  # rows, columns
            assert late.nonzero().flatten().tolist() == [15]
        assert changed[2:].all()
    else:
        assert forward.nonzero().flatten().tolist() == [16]
        assert backward.all()


def test_scan_back_end_can_be_forced_by_config(family, monkeypatch):
    used = []
    for name, scan in SCAN_BACKENDS.items():
        monkeypatch.setitem(
            SCAN_BACKENDS,
            name,
            lambda *args, name=name, scan=scan: used.append(name) or scan(*args
                                                                          ))
    x = torch.randn(1, 3, 16, 16)
    build(family)(x)
    assert set(used) == {'chunked'}
    used.clear()
    build(family, scan_backend='reference')(x)
    assert set(used) == {'reference'}
    with pytest.raises(ValueError, match=r'backbone\.scan_backend'):
        build(family, scan_backend='fast')
