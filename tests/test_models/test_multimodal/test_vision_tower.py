"""Patch tokens of backbones and of frozen towers."""
import pytest
import torch

from transmamba_mm.models import LlavaDataPreprocessor
from transmamba_mm.registry import MODELS
from ..test_teachers.test_open_clip_teacher import make as make_open_clip
from .toy_llava import NORMALISE, VIM

VIT = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)


def build(backbone, **kwargs):
    torch.manual_seed(0)
    tower = MODELS.build(
        dict(type='transmamba_mm.VisionTower', backbone=backbone, **kwargs))
    tower.init_weights()
    tower.match_inputs(LlavaDataPreprocessor(**NORMALISE))
    return tower.eval()


@pytest.mark.parametrize('backbone, tokens, dims', [
    (VIM, 4, 24),
    (dict(
        type='transmamba_mm.PlainMamba',
        arch=dict(embed_dims=16, num_layers=2, d_state=4),
        img_size=16,
        patch_size=8), 4, 16),
    (dict(
        type='transmamba_mm.VMamba',
        arch=dict(embed_dims=8, depths=(1, 1), d_state=4),
        img_size=16,
        patch_size=4), 4, 16),
    (dict(
        type='mmpretrain.VisionTransformer',
        arch=VIT,
        img_size=16,
        patch_size=8), 4, 24),
    (dict(
        type='mmpretrain.VisionTransformer',
        arch=VIT,
        img_size=16,
        patch_size=8,
        with_cls_token=False,
        out_type='featmap'), 4, 24),
])
def test_backbones_give_their_patches_and_learn(backbone, tokens, dims):
    tower = build(backbone)
    out = tower(torch.randn(2, 3, 16, 16))
    assert out.shape == (2, tokens, dims) and tower.embed_dims == dims
    out.sum().backward()
    assert any(p.grad is not None for p in tower.parameters())


def test_the_class_token_is_left_out():
    tower = build(
        dict(
            type='mmpretrain.VisionTransformer',
            arch=VIT,
            img_size=16,
            patch_size=8))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(tower(images), tower.backbone(images)[-1][:, 1:])


def test_feature_maps_need_their_width_told():
    backbone = dict(type='mmpretrain.ResNet', depth=18)
    with pytest.raises(ValueError, match='vision_tower.embed_dims'):
        build(backbone)
    tower = build(backbone, embed_dims=512)
    with torch.no_grad():
        assert tower(torch.randn(1, 3, 64, 64)).shape == (1, 4, 512)


@pytest.fixture
def clip(tmp_path):
    from transformers import (CLIPImageProcessor, CLIPVisionConfig,
                              CLIPVisionModel)
    torch.manual_seed(0)
    model = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=16,
            patch_size=8)).eval()
    model.save_pretrained(tmp_path)
    CLIPImageProcessor(size=16, crop_size=16).save_pretrained(tmp_path)
    return model, dict(
        type='transmamba_mm.HFTeacher', pretrained=str(tmp_path))


@pytest.mark.parametrize('layer', [-2, -3, 0])
def test_clip_gives_the_layer_that_llava_takes(clip, layer):
    model, backbone = clip
    tower = build(backbone, select_layer=layer)
    pixels = torch.randint(0, 256, (2, 3, 16, 16)).float()
    mean, std = (
        torch.tensor(t).view(3, 1, 1) * 255
        for t in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258,
                                                        0.27577711)))
    with torch.no_grad():
        states = model(
            (pixels.flip(1) - mean) / std, output_hidden_states=True)
    expected = states.hidden_states[layer if layer < 0 else layer + 1][:, 1:]
    # a batch as the data preprocessor has normalised it, still BGR
    found = tower((pixels - 120) / 60)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not found.requires_grad and tower.embed_dims == 24


def test_layers_that_do_not_exist_are_refused(clip):
    with pytest.raises(ValueError, match='select_layer=3.*has 3 layers'):
        build(clip[1], select_layer=3)


def test_open_clip_tower_takes_clips_frame_by_frame(tmp_path):
    make_open_clip(tmp_path / 'clip')
    tower = build(
        dict(
            type='transmamba_mm.OpenCLIPTeacher',
            model_name=str(tmp_path / 'clip')))
    images = torch.randn(2, 3, 16, 16)
    found = tower(images)
    assert found.shape == (2, 16, 64) and tower.layer_name.endswith('.1')
    clip = torch.stack([images[0], images[1]], dim=1)[None]
    torch.testing.assert_close(
        tower(clip)[0], found.flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_frozen_tower_stays_in_eval_mode(clip):
    tower = build(clip[1]).train()
    assert not tower.backbone.training
    assert not any(p.requires_grad for p in tower.parameters())
