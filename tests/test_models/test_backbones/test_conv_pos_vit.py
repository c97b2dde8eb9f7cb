"""The ViT with convolutional position encoding."""
import torch
from mmpretrain.registry import MODELS

from transmamba_mm.subclone.readers import read_teacher

CFG = dict(
    type='transmamba_mm.ConvPosViT',
    arch=dict(
        embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=16,
    patch_size=4)


def build(**kwargs):
    torch.manual_seed(0)
    model = MODELS.build(dict(CFG, **kwargs))
    model.init_weights()
    model.eval()  # returns None in MMPretrain
    return model


def test_without_the_convolutions_it_is_a_vit():
    model = build()
    plain = MODELS.build(dict(CFG, type='VisionTransformer'))
    plain.eval()
    missing, unexpected = plain.load_state_dict(
        model.state_dict(), strict=False)
    assert not missing
    assert all('.pos_conv.' in name for name in unexpected)
    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(model(images)[0], plain(images)[0])
    for layer in model.layers:
        torch.nn.init.zeros_(layer.pos_conv.weight)
        torch.nn.init.zeros_(layer.pos_conv.bias)
    torch.testing.assert_close(model(images)[0], plain(images)[0])


def test_all_arguments_reach_the_layers():
    model = build(
        drop_path_rate=0.2,
        drop_rate=0.1,
        qkv_bias=False,
        layer_scale_init_value=1e-5,
        frozen_stages=1)
    first, last = model.layers
    assert last.ffn.dropout_layer.drop_prob == 0.2
    assert last.attn.proj_drop.p == 0.1
    assert last.attn.qkv.bias is None
    assert last.attn.gamma1.weight.unique().tolist() == [
        torch.tensor(1e-5).item()
    ]
    assert not any(p.requires_grad for p in first.parameters())
    assert all(p.requires_grad for p in last.parameters())


def test_other_sizes_and_no_class_token():
    for kwargs in ({}, dict(with_cls_token=False, out_type='featmap')):
        out = build(**kwargs)(torch.randn(1, 3, 24, 16))[0]
        assert out.isfinite().all()
    assert out.shape == (1, 24, 6, 4)


def test_neighbours_are_those_of_the_picture():
    model = build(out_type='featmap')
    layer = model.layers[0]
    torch.nn.init.zeros_(layer.pos_conv.bias)
    tokens = torch.zeros(1, 17, 24)
    tokens[0, 1 + 5] = 1.  # row 1, column 1 of 4 x 4
    model(torch.randn(1, 3, 16, 16))  # tells the grid
    maps = tokens[:, 1:].transpose(1, 2).unflatten(2, layer.grid)
    touched = layer.pos_conv(maps)[0].abs().sum(0) > 0
    assert touched.nonzero().tolist() == [[i, j] for i in range(3)
                                          for j in range(3)]


def test_its_weights_can_be_subcloned(tmp_path):
    state = {f'backbone.{k}': v for k, v in build().state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'teacher.pth')
    teacher = read_teacher(tmp_path / 'teacher.pth')
    assert any(
        k.startswith('layers.1.qkv') or k.startswith('layers.1.q')
        for k in teacher)
    assert not any('pos_conv' in k for k in teacher)
