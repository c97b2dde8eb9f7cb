"""The same ViT from each library's file gives the same student."""
import pytest
import torch

from transmamba_mm.subclone import CANONICAL_AXES, num_layers, read_teacher
from ..toys import clone, student
from . import vits


def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 16)


def written(distilled):
    """Write one ViT in each dialect, from the library's own model."""
    model = vits.mmpretrain_vit(distilled)
    state = model.state_dict()
    in_timm, in_hf = vits.timm_vit(distilled), vits.hf_vit(distilled)
    in_timm.load_state_dict(vits.to_timm(state))
    in_hf.load_state_dict(vits.to_hf_v4(state, distilled))
    with torch.no_grad():
        expected = model.head(model.extract_feat(images()))
        assert torch.allclose(in_timm(images()), expected, atol=1e-4)
        assert torch.allclose(in_hf(images()).logits, expected, atol=1e-4)
    v5 = vits.to_hf_v5(in_hf.state_dict())
    assert set(v5) == set(vits.V5['deit' if distilled else 'vit'])
    return dict(
        mmpretrain=state,
        timm=in_timm.state_dict(),
        v4=in_hf.state_dict(),
        v5=v5)


@pytest.mark.parametrize('distilled', [False, True])
@pytest.mark.parametrize('kind', ['VisionMamba', 'PlainMamba', 'VMamba'])
def test_same_student_from_each_library(tmp_path, distilled, kind):
    files = written(distilled)
    torch.save(dict(model=files['timm']), tmp_path / 'official_deit.pth')
    files['deit'] = str(tmp_path / 'official_deit.pth')
    students = {}
    for name, source in files.items():
        source = read_teacher(source)
        students[name], _, report = clone(
            source, student(kind), 'linear', num_heads=2)
        assert report.percent > 5
    first = students.pop('mmpretrain')
    assert len(first) > 10
    for name, new in students.items():
        assert set(new) == set(first), name
        assert all(torch.equal(new[k], first[k]) for k in first), name


@pytest.mark.parametrize('distilled', [False, True])
def test_same_tensors_from_each_library(distilled):
    files = {k: read_teacher(v) for k, v in written(distilled).items()}
    first = files['mmpretrain']
    for name, source in files.items():
        assert set(source) == set(first)
        assert all(torch.equal(source[k], first[k]) for k in first)
        assert source.info.activation == 'gelu' and num_layers(source) == 2
    for name in first:
        axes = CANONICAL_AXES[name.replace('.0.',
                                           '.{i}.').replace('.1.', '.{i}.')]
        assert len(axes) == first[name].dim() == len(first.shape(name))
        assert first.shape(name) == tuple(first[name].shape)
    assert ('dist_token' in first) == ('head_dist.weight'
                                       in first) == distilled


def test_model_without_a_head():
    state = vits.to_hf_v4(vits.mmpretrain_vit().state_dict())
    v4 = {k[4:]: v for k, v in state.items() if k.startswith('vit.')}
    v5 = vits.to_hf_v5(v4)
    assert set(v5) <= set(vits.V5['vit_model'])
    whole = read_teacher(state)
    for part in (v4, v5):
        source = read_teacher(part)
        assert set(whole) - set(source) == {'head.weight', 'head.bias'}
        assert all(torch.equal(source[k], whole[k]) for k in source)


@pytest.mark.parametrize(
    'prefix', ['module.', 'model.', 'backbone.', 'backbone.timm_model.'])
def test_timm_inside_a_wrapper(prefix):
    state = vits.timm_vit().state_dict()
    source = read_teacher({prefix + k: v for k, v in state.items()})
    assert source.info.dialect == 'timm' and len(source) == len(state) + 8


def test_positions_without_a_class_slot():
    """DeiT III has no position for the class token: it is zero."""
    state = vits.timm_vit().state_dict()
    state['pos_embed'] = state['pos_embed'][:, 1:]
    source = read_teacher(state)
    assert source.shape('pos_embed') == (1, 17, 32)
    assert source['pos_embed'][:, 0].eq(0).all()
    assert torch.equal(source['pos_embed'][:, 1:], state['pos_embed'])
    _, rows, _ = clone(source, student())
    assert rows['pos_embed'].action == 'copied'


def test_layer_scales_and_pooled_norm():
    import timm
    model = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=16,
        patch_size=4,
        embed_dim=32,
        depth=1,
        num_heads=2,
        init_values=0.5,
        global_pool='avg',
        fc_norm=True)
    source = read_teacher(model.state_dict())
    assert source['layers.0.scale1'].eq(0.5).all()
    assert torch.equal(source['final_norm.weight'], model.fc_norm.weight)
