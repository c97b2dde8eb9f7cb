"""Parameter counts and names of the published models."""
import pytest
import torch
from mmpretrain.registry import MODELS

OFFICIAL = {
    ('VisionMamba', 'tiny'): 6_955_008,
    ('VisionMamba', 'small'): 25_411_584,
    ('PlainMamba', 'l1'): 7_358_656,
    ('PlainMamba', 'l2'): 25_760_832,
    ('PlainMamba', 'l3'): 50_507_456,
    ('VMamba', 'v0-t'): 22_124_448,
    ('VMamba', 'v0-s'): 43_648_416,
    ('VMamba', 'v0-b'): 75_229_056,
    ('VMamba', 's2l5-t'): 29_936_832,
    ('VMamba', 's2l15-s'): 49_378_752,
    ('VMamba', 's2l15-b'): 87_532_800,
    ('VMamba', 's1l8-t'): 29_480_064,
    ('VMamba', 's1l20-s'): 48_243_840,
    ('VMamba', 's1l20-b'): 85_589_504,
}


def build(family, arch, **kwargs):
    with torch.device('meta'):
        return MODELS.build(
            dict(type=f'transmamba_mm.{family}', arch=arch, **kwargs))


@pytest.mark.parametrize('family, arch', OFFICIAL)
def test_parameter_count(family, arch):
    count = sum(p.numel() for p in build(family, arch).parameters())
    assert count == OFFICIAL[family, arch]


def test_vmamba_with_its_head():
    model = build('VMamba', 's1l8-t')
    head = torch.nn.Linear(model.num_features, 1000, device='meta')
    count = sum(p.numel() for m in (model, head) for p in m.parameters())
    assert count == 30_249_064


def test_vmamba_names_and_shapes():
    shapes = {
        k: tuple(v.shape)
        for k, v in build('VMamba', 's2l5-t').state_dict().items()
    }
    op = 'layers.2.blocks.4.op.'
    assert shapes['patch_embed.0.weight'] == (48, 3, 3, 3)
    assert shapes['patch_embed.7.bias'] == (96, )
    assert shapes[op + 'in_proj.weight'] == (768, 384)
    assert shapes[op + 'conv2d.weight'] == (768, 1, 3, 3)
    assert op + 'conv2d.bias' not in shapes
    assert shapes[op + 'x_proj_weight'] == (4, 26, 768)
    assert shapes[op + 'dt_projs_weight'] == (4, 768, 24)
    assert shapes[op + 'dt_projs_bias'] == (4, 768)
    assert shapes[op + 'A_logs'] == (3072, 1)
    assert shapes[op + 'Ds'] == (3072, )
    assert shapes[op + 'out_norm.bias'] == (768, )
    assert shapes['layers.2.blocks.4.mlp.fc1.weight'] == (1536, 384)
    assert shapes['layers.2.downsample.1.weight'] == (768, 384, 3, 3)
    assert shapes['layers.2.downsample.3.weight'] == (768, )
    assert 'layers.3.downsample.1.weight' not in shapes
    shapes = {
        k: tuple(v.shape)
        for k, v in build('VMamba', 'v0-t').state_dict().items()
    }
    op = 'layers.0.blocks.0.op.'
    assert shapes['patch_embed.0.weight'] == (96, 3, 4, 4)
    assert shapes[op + 'in_proj.weight'] == (384, 96)
    assert shapes[op + 'conv2d.bias'] == (192, )
    assert shapes[op + 'A_logs'] == (768, 16)
    assert shapes['layers.0.downsample.1.weight'] == (384, )
    assert shapes['layers.0.downsample.2.weight'] == (192, 384)
    assert not [k for k in shapes if 'mlp' in k or 'norm2' in k]


def test_vim_names_and_shapes():
    shapes = {
        k: tuple(v.shape)
        for k, v in build('VisionMamba', 'tiny').state_dict().items()
    }
    assert len(shapes) == 413  # the official file has head.{weight,bias} too
    mixer = 'layers.23.mixer.'
    assert shapes['cls_token'] == (1, 1, 192)
    assert shapes['pos_embed'] == (1, 197, 192)
    assert shapes['patch_embed.proj.weight'] == (192, 3, 16, 16)
    assert shapes[mixer + 'in_proj.weight'] == (768, 192)
    assert shapes[mixer + 'conv1d_b.weight'] == (384, 1, 4)
    assert shapes[mixer + 'x_proj_b.weight'] == (44, 384)
    assert shapes[mixer + 'dt_proj.weight'] == (384, 12)
    assert shapes[mixer + 'A_b_log'] == (384, 16)
    assert shapes[mixer + 'D_b'] == (384, )
    assert 'norm_f.weight' in shapes and 'norm_f.bias' not in shapes


def test_videomamba_has_the_tensors_of_vim():
    """And those of clips two more."""
    vim, image, clip = ({
        k: tuple(v.shape)
        for k, v in build(family, 'tiny', **kwargs).state_dict().items()
    } for family, kwargs in (('VisionMamba', {}), ('VideoMamba', {}),
                             ('VideoMamba',
                              dict(num_frames=8, tubelet_size=2))))
    assert image == vim
    assert clip.pop('temporal_pos_embedding') == (1, 4, 192)
    assert clip.pop('patch_embed.proj.weight') == (192, 3, 2, 16, 16)
    assert clip.items() <= image.items()


def test_vim_plus_has_730_positions():
    model = build('VisionMamba', 'tiny', patch_stride=8)
    assert model.pos_embed.shape == (1, 730, 192)


def test_plainmamba_names_and_shapes():
    shapes = {
        k: tuple(v.shape)
        for k, v in build('PlainMamba', 'l1').state_dict().items()
    }
    assert shapes['pos_embed'] == (1, 196, 192)
    assert shapes['patch_embed.stem.0.weight'] == (64, 3, 7, 7)
    assert shapes['patch_embed.convs.0.weight'] == (64, 64, 3, 3)
    assert shapes['patch_embed.projection.weight'] == (192, 64, 8, 8)
    assert shapes['layers.0.dw.0.weight'] == (192, 1, 3, 3)
    assert 'layers.1.dw.0.weight' not in shapes
    assert shapes['layers.0.mamba.conv2d.weight'] == (384, 1, 7, 7)
    assert shapes['layers.0.mamba.direction_Bs'] == (5, 16)
    assert shapes['layers.0.mamba.in_proj.bias'] == (768, )
    assert 'ln1.bias' in shapes


@pytest.mark.parametrize('family', ['PlainMamba', 'VideoMamba', 'VisionMamba'])
def test_32_pixel_preset_has_64_tokens(family):
    model = build(family, 'tiny-32')
    layout = model.token_layout((32, 32))
    assert layout.grid == (8, 8) and model.img_size == (32, 32)
    assert model.embed_dims == 192 and model.num_layers == 12


@pytest.mark.parametrize('arch, dims', [('tiny', 192), ('small', 384),
                                        ('base', 768)])
def test_students_of_the_paper_have_12_layers(arch, dims):
    model = build('PlainMamba', arch)
    assert (model.embed_dims, model.num_layers) == (dims, 12)


def test_odd_patch_size_is_refused():
    with pytest.raises(ValueError, match=r'backbone\.patch_size=5 is odd'):
        build('PlainMamba', 'tiny', patch_size=5)


def test_vim_needs_a_class_token_to_return_it():
    with pytest.raises(ValueError, match='with_cls_token'):
        build('VisionMamba', 'tiny', with_cls_token=False)
    model = build(
        'VisionMamba', 'tiny', with_cls_token=False, out_type='avg_featmap')
    assert model.pos_embed.shape == (1, 196, 192)
    assert model.num_extra_tokens == 0
