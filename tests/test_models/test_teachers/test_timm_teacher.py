"""timm's networks in MMPretrain's wrappers as teachers."""
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.toy import NORMALISE
from transmamba_mm.models import MMPretrainTeacher

SMALL = dict(img_size=16, patch_size=4, embed_dim=48, depth=3, num_heads=4)
NAMES = {
    'vit_small_patch16_224': 1,
    'deit_small_distilled_patch16_224': 2,
    'vit_base_patch16_siglip_224': 0,
}


def make(name, **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL, num_classes=4, **kwargs).eval()
    for p in model.parameters():
        if p.dim() == 1:
            p.data.add_(torch.randn_like(p) * 0.1)
    return model


def classifier(name, **kwargs):
    return dict(
        type='TimmClassifier',
        model_name=name,
        **SMALL,
        num_classes=4,
        **kwargs)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_features_are_those_of_the_library(name, ending, tmp_path):
    own = make(name)
    path = str(tmp_path / f'weights.{ending}')
    if ending == 'pth':
        torch.save(dict(model=own.state_dict()), path)  # as DeiT's files are
    else:
        save_file(own.state_dict(), path)
    teacher = MMPretrainTeacher(classifier(name), path)
    images = torch.randn(2, 3, 16, 16)
    paths = [teacher.layer_name.format(i) for i in range(teacher.depth)]
    names = [*paths, teacher.final_norm_name, teacher.head_name]
    shown = teacher.record(images, names)
    final, told = own.forward_intermediates(
        images, output_fmt='NLC', return_prefix_tokens=True)
    for path, x in zip(paths, told):
        if isinstance(x, tuple):
            x = torch.cat([x[1], x[0]], 1)
        torch.testing.assert_close(shown[path], x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shown[names[-2]], final)
    torch.testing.assert_close(shown[names[-1]], own(images))
    layout = teacher.record_layout((16, 16))
    assert layout.num_extra_tokens == NAMES[name]
    assert layout.num_tokens == shown[paths[0]].shape[1]
    assert (teacher.embed_dims, teacher.depth, teacher.num_classes) == \
        (48, 3, 4)


def test_folders_and_damaged_files(tmp_path):
    name = 'vit_small_patch16_224'
    own = make(name)
    path = tmp_path / 'model.safetensors'
    save_file(own.state_dict(), path)
    (tmp_path / 'config.json').write_text('{}')
    teacher = MMPretrainTeacher(classifier(name), str(tmp_path))
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(
        teacher.record(images, [teacher.head_name])[teacher.head_name],
        own(images))
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(ValueError, match='truncated.*`checkpoint`'):
        MMPretrainTeacher(classifier(name), str(path))


def test_backbone_in_a_classifier(tmp_path):
    name = 'vit_small_patch16_224'
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(type='TIMMBackbone', model_name=name, **SMALL),
        data_preprocessor=dict(NORMALISE))
    own = make(name)
    torch.save(
        {
            f'backbone.timm_model.{k}': v
            for k, v in own.state_dict().items()
        }, tmp_path / 'w.pth')
    teacher = MMPretrainTeacher(cfg, str(tmp_path / 'w.pth'))
    images = torch.randn(2, 3, 16, 16)
    layer = teacher.layer_name.format(1)
    x = teacher.record(images, [layer])[layer]
    told = own.forward_intermediates(
        images, indices=[1], output_fmt='NLC', intermediates_only=True)
    torch.testing.assert_close(x[:, 1:], told[0])
    assert teacher.normalisation()[0].flatten().tolist() == [120.] * 3


@pytest.fixture
def weights(tmp_path):
    own = make('vit_small_patch16_224')
    path = str(tmp_path / 'weights.pth')
    torch.save(own.state_dict(), path)
    return own, path


def test_normalisation_is_that_of_timm(weights):
    name = 'vit_small_patch16_224'
    mean, std, to_rgb = MMPretrainTeacher(classifier(name),
                                          weights[1]).normalisation()
    cfg = weights[0].pretrained_cfg
    torch.testing.assert_close(mean.flatten() / 255, torch.tensor(cfg['mean']))
    torch.testing.assert_close(std.flatten() / 255, torch.tensor(cfg['std']))
    assert to_rgb
    own = MMPretrainTeacher(
        classifier(name, data_preprocessor=dict(NORMALISE)), weights[1])
    assert own.normalisation()[0].flatten().tolist() == [120.] * 3


@pytest.mark.parametrize('kwargs, told, grid', [
    (dict(), dict(), 4),
    (dict(dynamic_img_size=True), dict(), 6),
    (dict(), dict(input_size=24), 6),
])
def test_images_of_another_size(weights, kwargs, told, grid):
    teacher = MMPretrainTeacher(
        classifier('vit_small_patch16_224', **kwargs), weights[1], **told)
    assert teacher.record_layout((24, 24)).grid == (grid, grid)
    layer = teacher.layer_name.format(0)
    x = teacher.record(torch.randn(1, 3, 24, 24), [layer])[layer]
    assert x.shape == (1, grid**2 + 1, 48)


def test_refusals(weights):
    with pytest.raises(ValueError, match="no model 'vit_smal.*vit_small_pat"):
        MMPretrainTeacher(classifier('vit_smal_patch16_224'), weights[1])
    with pytest.raises(ValueError, match='ResNet cannot teach.*deit_small'):
        MMPretrainTeacher(
            dict(type='TimmClassifier', model_name='resnet18'), weights[1])
    small = {**classifier('vit_small_patch16_224'), 'img_size': 32}
    with pytest.raises(ValueError, match='pos_embed.*in the file'):
        MMPretrainTeacher(small, weights[1])
