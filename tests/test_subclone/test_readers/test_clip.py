"""CLIP from open_clip, OpenAI and Hugging Face: the same tensors."""
import json

import pytest
import torch
from safetensors.torch import save_file

from transmamba_mm.subclone import num_layers, read_teacher
from ..toys import clone, student
from . import vits

TOWERS = ('vision', 'text')


@pytest.fixture(scope='module')
def pair():
    """One CLIP in open_clip and in Hugging Face's library."""
    ours = vits.open_clip_model()
    theirs = vits.hf_clip_model()
    missing = theirs.load_state_dict(
        vits.to_hf_clip(ours.state_dict()), strict=False)
    assert not missing.unexpected_keys
    torch.manual_seed(2)
    images = torch.randn(2, 3, 16, 16)
    words = torch.tensor([[48, 3, 4, 49, 0, 0, 0], [48, 5, 6, 7, 8, 9, 49]])
    with torch.no_grad():
        for mine, other in ((ours.encode_image(images),
                             theirs.get_image_features(images)),
                            (ours.encode_text(words),
                             theirs.get_text_features(words))):
            assert torch.allclose(mine, other, atol=1e-4)
    return ours, theirs


@pytest.mark.parametrize('tower', TOWERS)
def test_same_tensors(pair, tower):
    ours, theirs = (read_teacher(m.state_dict(), tower) for m in pair)
    assert set(ours) == set(theirs) and len(ours) > 30
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert list(ours) == list(theirs)
    assert all(ours.shape(k) == tuple(ours[k].shape) for k in ours)
    assert ours.info.towers == theirs.info.towers == TOWERS
    assert ours.info.tower == tower and num_layers(ours) == 2


@pytest.mark.parametrize('kind', ['VisionMamba', 'VMamba'])
def test_same_student(pair, kind):
    students = [
        clone(
            read_teacher(m.state_dict()), student(kind), 'linear',
            num_heads=2)[0] for m in pair
    ]
    assert set(students[0]) == set(students[1])
    assert len(students[0]) > 10
    assert ('pos_embed' in students[0]) == (kind == 'VisionMamba')
    assert all(torch.equal(students[0][k], v) for k, v in students[1].items())


@pytest.mark.parametrize('prefix', ['clip.', 'module.clip.', 'module.'])
def test_files_with_openais_names(pair, prefix):
    """CLIP4Clip's files, and OpenAI's with their three numbers."""
    state = {prefix + k: v for k, v in pair[0].state_dict().items()}
    state[prefix + 'input_resolution'] = torch.tensor(224)
    state[prefix + 'context_length'] = torch.tensor(77)
    source = read_teacher(state, 'text')
    assert source.info.activation == 'quick_gelu'
    assert source['text_pos_embed'].shape == (1, 7, 64)
    assert source['projection.weight'].shape == (8, 64)


def test_text_tower_of_its_own():
    """open_clip's newer models keep the text tower in `text.`."""
    state = vits.open_clip_model().state_dict()
    state = {
        k if k.startswith('visual.') or k == 'logit_scale' else 'text.' + k: v
        for k, v in state.items()
    }
    source = read_teacher(state, 'text')
    assert len(source) == len(
        read_teacher(vits.open_clip_model().state_dict(), 'text'))
    assert source.info.activation is None, 'the names do not tell'


@pytest.mark.parametrize('tower', TOWERS)
def test_one_tower_of_version_5(pair, tower):
    """Version 5 gives a tower of its own no prefix."""
    own = {
        k[len(tower) + 7:]: v
        for k, v in pair[1].state_dict().items()
        if k.startswith(f'{tower}_model.')
    }
    assert set(own) == set(vits.V5[f'clip_{tower}'])
    source = read_teacher(own)
    assert source.info.tower == tower and source.info.towers == (tower, )
    whole = read_teacher(pair[1].state_dict(), tower)
    assert all(torch.equal(source[k], whole[k]) for k in source)
    assert set(whole) - set(source) == {'projection.weight', 'logit_scale'}


def test_towers_are_named_and_the_first_is_taken(pair):
    state = pair[1].state_dict()
    assert read_teacher(state).info.tower == 'vision'
    assert read_teacher(state, 'visual').info.tower == 'vision'
    assert read_teacher(state, 'language').info.tower == 'text'
    with pytest.raises(ValueError, match="tower='audio'.*'vision', 'text'"):
        read_teacher(state, 'audio')
    with pytest.raises(ValueError, match="tower='text'.*'vision'"):
        read_teacher(vits.mmpretrain_vit().state_dict(), 'text')


def test_folder_of_hugging_face_tells_the_rest(tmp_path, pair):
    pair[1].save_pretrained(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text(
        json.dumps(dict(image_mean=[.5, .4, .3], image_std=[.2, .3, .4])))
    info = read_teacher(tmp_path).info
    assert info.activation == 'quick_gelu' and info.num_heads == 2
    assert info.mean == (.5, .4, .3) and info.std == (.2, .3, .4)
    text = read_teacher(tmp_path, 'text').info
    assert text.num_heads == 2 and text.mean is None


@pytest.mark.parametrize('quick', [False, True])
def test_folder_of_open_clip_tells_the_rest(tmp_path, pair, quick):
    save_file({
        k: v.clone()
        for k, v in pair[0].state_dict().items()
    }, tmp_path / 'open_clip_model.safetensors')
    config = dict(
        model_cfg=dict(
            embed_dim=8,
            quick_gelu=quick,
            vision_cfg=dict(width=64, head_width=32),
            text_cfg=dict(width=64, heads=4)),
        preprocess_cfg=dict(mean=[.5, .4, .3], std=[.2, .3, .4]))
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    info = read_teacher(str(tmp_path)).info
    assert info.activation == ('quick_gelu' if quick else 'gelu')
    assert info.num_heads == 2 and info.std == (.2, .3, .4)
    assert read_teacher(tmp_path, 'text').info.num_heads == 4


def test_folder_of_timm_tells_the_rest(tmp_path):
    save_file(vits.timm_vit().state_dict(), tmp_path / 'model.safetensors')
    config = dict(
        architecture='vit_base_patch16_clip_quickgelu_224',
        pretrained_cfg=dict(mean=[.5, .5, .5], std=[.2, .2, .2]))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    info = read_teacher(tmp_path).info
    assert info.activation == 'quick_gelu' and info.mean == (.5, .5, .5)


def test_clip_of_mmpretrain_has_a_norm_before_the_blocks():
    from mmpretrain.registry import MODELS

    from tests.toy import vit_cfg
    cfg = vit_cfg(32, 1)
    cfg['backbone'].update(pre_norm=True, patch_cfg=dict(bias=False))
    source = read_teacher(MODELS.build(cfg).state_dict())
    assert source['pre_norm.weight'].shape == (32, )
    assert 'patch_embed.bias' not in source


def test_image_tower_of_timm_inside_open_clip():
    """Never take the text tower for the image tower, then."""
    import timm
    trunk = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=16,
        patch_size=4,
        embed_dim=64,
        depth=1,
        num_heads=2,
        num_classes=0)
    state = {
        k: v
        for k, v in vits.open_clip_model().state_dict().items()
        if not k.startswith('visual.')
    }
    assert read_teacher(state).info.towers == ('text', )
    for key, value in trunk.state_dict().items():
        state[f'visual.trunk.{key}'] = value
    state['visual.head.proj.weight'] = torch.zeros(8, 64)
    source = read_teacher(state)
    assert source.info.towers == TOWERS and source.info.tower == 'vision'
    assert torch.equal(source['layers.0.k.bias'],
                       trunk.blocks[0].attn.qkv.bias[64:128])
    assert source['projection.weight'].shape == (8, 64)


def test_siglip(tmp_path):
    """It has CLIP's names, other tokens and another activation."""
    import transformers
    model = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=4))
    model.save_pretrained(tmp_path)
    (tmp_path / 'preprocessor_config.json').write_text(
        '{"do_normalize": false, "image_mean": [1], "image_std": [1]}')
    source = read_teacher(tmp_path)
    assert source.info.activation == 'gelu_pytorch_tanh'
    assert source.info.std == (1., 1., 1.)
    assert 'cls_token' not in source
    _, rows, _ = clone(source, student('PlainMamba'))
    assert rows['pos_embed'].taken > 0
