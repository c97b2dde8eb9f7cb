"""Clips: tubelets, frames, scans through time, and weights of images."""
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS

from tests.command import ROOT
from transmamba_mm.models import ClipMixer
from transmamba_mm.ops import CLIP_SCANS

ARCH = dict(embed_dims=32, num_layers=2, d_state=4)


def build(num_frames=4, **kwargs):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='transmamba_mm.VideoMamba',
            arch=ARCH,
            img_size=16,
            patch_size=4,
            num_frames=num_frames,
            **kwargs))
    model.init_weights()
    if num_frames is not None:
        torch.nn.init.normal_(model.temporal_pos_embedding)
    return model.eval()


@pytest.mark.parametrize('scan_type', CLIP_SCANS)
@pytest.mark.parametrize('size', [(4, 16, 16), (2, 16, 16), (6, 24, 10)])
def test_any_number_of_frames_and_any_size(scan_type, size):
    model = build(scan_type=scan_type, tubelet_size=2, out_type='featmap')
    out = model(torch.randn(2, 3, *size))[-1]
    layout = model.token_layout(size)
    grid = (-(-size[1] // 4), -(-size[2] // 4))
    assert layout.shape == (size[0] // 2, *grid)
    assert layout.num_tokens == 1 + size[0] // 2 * grid[0] * grid[1]
    assert out.shape == (2, 32, *layout.shape)


@pytest.mark.parametrize('out_type, shape', [('raw', (2, 65, 32)),
                                             ('cls_token', (2, 32)),
                                             ('avg_featmap', (2, 32))])
def test_out_types_of_clips(out_type, shape):
    model = build(out_type=out_type)
    assert model(torch.randn(2, 3, 4, 16, 16))[-1].shape == shape


def test_featmap_places_frames_rows_and_columns():
    x = torch.randn(1, 3, 4, 16, 16)
    raw = build(out_type='raw')(x)[-1]
    featmap = build(out_type='featmap')(x)[-1]
    # class token, then frame 2, row 1, column 3
    torch.testing.assert_close(featmap[0, :, 2, 1, 3], raw[0, 1 + 32 + 4 + 3])


def test_every_parameter_learns_from_clips():
    for kwargs in (dict(), dict(scan_type='mixed', with_cp=True)):
        model = build(tubelet_size=2, **kwargs).train()
        model(torch.randn(2, 3, 4, 16, 16))[-1].square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_time_matters_with_every_scan():
    x = torch.randn(1, 3, 4, 16, 16)
    outs = [build(scan_type=scan)(x)[-1] for scan in CLIP_SCANS]
    for scan, out in zip(CLIP_SCANS, outs):
        assert not torch.allclose(build(scan_type=scan)(x.flip(2))[-1], out)
    assert not torch.allclose(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2])
    assert not torch.allclose(outs[1], outs[2])


def mix(scan_type, x, grid):
    torch.manual_seed(0)
    mixer = ClipMixer(16, scan_type, d_state=4)
    return mixer(x, grid, True)


def test_temporal_first_is_the_scan_of_the_transposed_clip():
    frames, rows, columns = 3, 2, 4
    x = torch.randn(2, 1 + frames * rows * columns, 16)
    order = torch.arange(x.shape[1])
    order[1:] = order[1:].reshape(frames, -1).t().flatten()
    want, want_each = mix('spatial-first', x[:, order], (3, 2, 4))
    got, got_each = mix('temporal-first', x, (3, 2, 4))
    torch.testing.assert_close(got[:, order], want)
    torch.testing.assert_close(got_each[:, :, order], want_each)


def test_mixed_goes_forward_through_space_and_backward_through_time():
    x = torch.randn(2, 25, 16)
    _, spatial = mix('spatial-first', x, (3, 2, 4))
    _, temporal = mix('temporal-first', x, (3, 2, 4))
    merged, each = mix('mixed', x, (3, 2, 4))
    torch.testing.assert_close(each[0], spatial[0])
    torch.testing.assert_close(each[1], temporal[1])
    torch.testing.assert_close(each.mean(0), merged)


def test_scans_of_an_image_agree():
    x = torch.randn(1, 3, 16, 16)
    outs = [build(None, scan_type=scan)(x)[-1] for scan in CLIP_SCANS]
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(outs[2], outs[0])


def test_directions_are_recorded_and_average_to_the_block():
    model = build(tubelet_size=2, scan_type='mixed')
    seen = {}
    model.layers[1].direction_tap.register_forward_hook(
        lambda m, i, o: seen.update(directions=o))
    model.layers[1].register_forward_hook(lambda m, i, o: seen.update(block=o))
    model(torch.randn(2, 3, 4, 16, 16))
    assert seen['directions'].shape == (2, 2, 33, 32)
    torch.testing.assert_close(seen['directions'].mean(0), seen['block'])


def test_weights_of_an_image_model_load():
    """An image then gives the same, alone or in the middle of a tubelet."""
    image_model, x = build(None), torch.randn(2, 3, 16, 16)
    want = image_model(x)[-1]
    clip_model = build(4)
    result = clip_model.load_state_dict(image_model.state_dict(), strict=False)
    assert result.missing_keys == ['temporal_pos_embedding']
    assert not result.unexpected_keys
    torch.testing.assert_close(clip_model(x)[-1], want)
    tubelets = build(6, tubelet_size=3)
    tubelets.load_state_dict(image_model.state_dict(), strict=False)
    torch.nn.init.zeros_(tubelets.temporal_pos_embedding)
    clip = torch.randn(2, 3, 3, 16, 16)
    clip[:, :, 1] = x
    torch.testing.assert_close(tubelets(clip)[-1], want)


def test_temporal_embedding_is_resized_on_loading_and_on_the_fly():
    short, long = build(2), build(6)
    long.load_state_dict(short.state_dict())
    assert long.temporal_pos_embedding.shape == (1, 6, 32)
    first, last = short.temporal_pos_embedding[0]
    got = long.temporal_pos_embedding[0]
    torch.testing.assert_close(got[0], first)
    torch.testing.assert_close(got[2], first + (last - first) / 3)
    torch.testing.assert_close(got[5], last)
    x = torch.randn(1, 3, 6, 16, 16)
    torch.testing.assert_close(short(x)[-1], long(x)[-1])


def test_temporal_embedding_belongs_to_the_stem():
    model = build(frozen_stages=0)
    assert not model.temporal_pos_embedding.requires_grad
    name = 'backbone.temporal_pos_embedding'
    assert model.get_layer_depth(name, 'backbone.') == (0, 4)


def test_schedules_do_not_decay_the_temporal_embedding():
    model = torch.nn.ModuleDict(dict(backbone=build()))
    for path in (ROOT / 'configs/_base_/schedules').glob('*.py'):
        wrapper = build_optim_wrapper(model,
                                      Config.fromfile(path).optim_wrapper)
        decay, = (
            group['weight_decay'] for group in wrapper.param_groups
            if any(p is model['backbone'].temporal_pos_embedding
                   for p in group['params']))
        assert decay == 0


@pytest.mark.parametrize('call, message', [
    (lambda: build(2, tubelet_size=2)(torch.zeros(1, 3, 7, 16, 16)),
     r'7 frames do not divide into tubelets of 2.*backbone\.tubelet_size'),
    (lambda: build(5, tubelet_size=2),
     r'5 frames do not divide into tubelets of 2.*backbone\.tubelet_size'),
    (lambda: build(0), r'0 frames do not divide into tubelets of 1'),
    (lambda: build(None)(torch.zeros(1, 3, 4, 16, 16)),
     r'clip of 4 frames .*set backbone\.num_frames'),
    (lambda: build(4, tubelet_size=2)(torch.zeros(1, 3, 16, 16)),
     r'Images .*stand for 2 frames.*backbone\.tubelet_size=1'),
    (lambda: build(scan_type='zigzag'),
     r"backbone\.scan_type='zigzag'.*temporal-first"),
])
def test_wrong_use_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
