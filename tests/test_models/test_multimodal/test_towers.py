"""Towers of open_clip and Transformers inside a retrieval model."""
import json
import math
import sys
from unittest import mock

import open_clip
import pytest
import torch
import transformers
from mmengine.config import Config
from mmpretrain.registry import MODELS

from tests.command import ROOT
from tests.test_models.test_teachers import hf_models
from transmamba_mm.models import (HFTextTower, OpenCLIPTextTower,
                                  OpenCLIPVideoTower)
from transmamba_mm.models.multimodal.open_clip_export import describe
from .test_distill_text_video_retrieval import folder  # noqa: F401
from .toy_videos import CLIP, TEXT, batch, retrieval_cfg

IDS = torch.tensor([[1, 2, 8, 15, 0, 0], [1, 3, 9, 4, 2, 15]])
VISION = dict(
    image_size=16, patch_size=4, width=48, layers=2, heads=3, output_dim=24)


def test_open_clip_text_is_that_of_the_library(folder):  # noqa: F811
    own = open_clip.create_model(f'local-dir:{folder}').eval()
    tower = OpenCLIPTextTower(str(folder)).eval()
    tower.init_weights()
    text = tower(IDS, (IDS > 0).long())
    torch.testing.assert_close(text.pooled, own.encode_text(IDS))
    assert text.tokens.shape == (2, 6, 32)
    assert text.mask.tolist()[0] == [True] * 4 + [False] * 2
    assert (tower.token_dims, tower.embed_dims, tower.max_length) == (32, 24,
                                                                      6)


def test_padding_does_not_matter():
    tower = OpenCLIPTextTower(TEXT).eval()
    torch.testing.assert_close(
        tower(IDS[:1], IDS[:1] > 0).pooled,
        tower(IDS[:1, :4]).pooled)


def test_shallow_tower_is_cloned_from_a_deep_one(tmp_path):
    deep = CLIP['text_cfg'] | dict(layers=4)
    whole = open_clip.CLIP(**{**CLIP, 'text_cfg': deep})
    config = dict(model_cfg={**CLIP, 'text_cfg': deep})
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    torch.save(whole.state_dict(), tmp_path / 'open_clip_model.pth')
    blocks = whole.transformer.resblocks
    for arch, pretrained in ((str(tmp_path), None), (TEXT | dict(layers=4),
                                                     str(tmp_path))):
        tower = OpenCLIPTextTower(arch, pretrained, num_layers=2)
        tower.init_weights()
        own = tower.model.transformer.resblocks
        assert len(own) == 2
        for mine, its in zip(own, (blocks[0], blocks[2])):
            assert torch.equal(mine.mlp.c_fc.weight, its.mlp.c_fc.weight)
        assert torch.equal(tower.model.text_projection, whole.text_projection)
    with pytest.raises(ValueError, match='num_layers=9'):
        OpenCLIPTextTower(TEXT, num_layers=9)


def test_weights_of_another_activation(folder):  # noqa: F811
    tower = OpenCLIPTextTower(TEXT, str(folder))
    tower.init_weights()
    tower = OpenCLIPTextTower(TEXT, str(folder), quick_gelu=True)
    tower.quick_gelu = None
    with pytest.raises(ValueError, match='quick_gelu=False'):
        tower.init_weights()


@pytest.mark.parametrize('kind', ['folder', 'config'])
def test_hf_text_is_that_of_the_library(tmp_path, kind):
    torch.manual_seed(0)
    whole = hf_models.clip().eval()
    ids = torch.tensor([[0, 5, 7, 59, 1, 1], [0, 9, 4, 3, 2, 59]])
    mask = (ids != 1).long()
    if kind == 'folder':
        whole.save_pretrained(tmp_path)
        tower = HFTextTower(str(tmp_path)).eval()
        torch.testing.assert_close(
            tower(ids, mask).pooled,
            whole.get_text_features(input_ids=ids, attention_mask=mask))
    else:
        tower = HFTextTower(config=hf_models.TEXT).eval()
    assert tower(ids, mask).tokens.shape == (2, 6, 32)
    assert tower.max_length == 16
    cfg = retrieval_cfg('CrossMambaHead')
    cfg['text_tower'] = dict(
        type='transmamba_mm.HFTextTower', config=hf_models.TEXT)
    model = MODELS.build(cfg)
    data = model.data_preprocessor(batch(range(3)), True)
    assert model(**data, mode='loss')['loss'] > 0
    assert isinstance(tower.model, transformers.CLIPTextModelWithProjection)


def test_frozen_tower_stays():
    cfg = retrieval_cfg()
    cfg['text_tower']['frozen'] = True
    model = MODELS.build(cfg).train()
    assert not model.text_tower.model.training
    data = model.data_preprocessor(batch(range(3)), True)
    model(**data, mode='loss')['loss'].backward()
    assert all(p.grad is None for p in model.text_tower.parameters())
    assert model.head.video_proj.weight.grad is not None


@pytest.mark.parametrize('make, error, message', [
    (lambda: OpenCLIPTextTower('ViT-B-23'), ValueError, 'ViT-B-32'),
    (lambda: OpenCLIPTextTower('ViT-B-32', 'no.pth').init_weights(),
     FileNotFoundError, 'text_tower'),
    (lambda: OpenCLIPTextTower(dict(depth=2)), ValueError, 'context_length'),
    (lambda: OpenCLIPTextTower(TEXT, 'x.pth').init_weights(), ValueError,
     'x.pth'),
    (lambda: HFTextTower(), ValueError, 'one of them'),
    (lambda: HFTextTower('/no/folder'), FileNotFoundError, 'text_tower'),
    (lambda: OpenCLIPVideoTower(dict(depth=2)), ValueError, 'image_size'),
    (lambda: OpenCLIPVideoTower('ViT-B-32'), ValueError, 'backbone'),
    (lambda: OpenCLIPTextTower(TEXT)
     (torch.zeros(1, 9).long()), ValueError, '9 tokens'),
])
def test_bad_tower_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def clip4clip_cfg():
    cfg = retrieval_cfg(with_projection=False)
    cfg['backbone'] = dict(
        type='transmamba_mm.OpenCLIPVideoTower', arch=VISION)
    return cfg


def test_clip4clip_becomes_a_folder_of_open_clip(tmp_path):
    """What a trained CLIP4Clip knows is what the library reads."""
    sys.path.insert(0, str(ROOT / 'tools/model_converters'))
    import export_open_clip
    sys.path.pop(0)
    cfg = clip4clip_cfg()
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    config, weights = tmp_path / 'config.py', tmp_path / 'weights.pth'
    Config(dict(model=cfg)).dump(config)
    out = tmp_path / 'clip'
    with torch.no_grad():
        model.head.logit_scale.fill_(3.)
    torch.save(dict(state_dict=model.state_dict()), weights)
    with mock.patch('sys.argv', ['x', str(config), str(weights), str(out)]):
        export_open_clip.main()
    told = json.loads((out / 'open_clip_config.json').read_text())
    assert told['preprocess_cfg']['mean'] == pytest.approx([120 / 255] * 3)
    own = open_clip.create_model(f'local-dir:{out}').eval()
    data = model.data_preprocessor(batch([0, 5]), False)
    video, text = model.eval()(**data, mode='tensor')
    frames = data['inputs'].transpose(1, 2).flatten(0, 1)
    seen = own.encode_image(frames, normalize=True).unflatten(0, (2, -1))
    torch.testing.assert_close(
        video, torch.nn.functional.normalize(seen.mean(1), dim=-1))
    ids = torch.stack([s.text['input_ids'] for s in data['data_samples']])
    torch.testing.assert_close(text, own.encode_text(ids, normalize=True))
    teacher = MODELS.build(
        dict(type='transmamba_mm.CLIP4ClipTeacher', model_name=str(out)))
    assert teacher.embed_dims == 48 == CLIP['vision_cfg']['width']
    assert teacher.scale == pytest.approx(math.exp(3))
    with pytest.raises(ValueError, match='backbone is VideoMamba'):
        describe(MODELS.build(retrieval_cfg()))


def test_projection_cannot_be_left_out_of_other_widths():
    with pytest.raises(ValueError, match='with_projection'):
        MODELS.build(retrieval_cfg(with_projection=False))
