"""Teachers of open_clip: both towers, files of all origins, activations."""
import copy
import json

import open_clip
import pytest
import torch

from transmamba_mm.models import OpenCLIPTeacher

CONFIG = dict(
    embed_dim=24,
    vision_cfg=dict(
        image_size=16, layers=3, width=64, head_width=16, patch_size=4),
    text_cfg=dict(
        context_length=12, vocab_size=60, width=32, heads=4, layers=2))
PREPROCESS = dict(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])


def config(**kwargs):
    return {**copy.deepcopy(CONFIG), **kwargs}


def make(folder, **kwargs):
    """Write a folder as open_clip does, and return the library's model."""
    folder.mkdir(exist_ok=True)
    (folder / 'open_clip_config.json').write_text(
        json.dumps(
            dict(model_cfg=config(**kwargs), preprocess_cfg=PREPROCESS)))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config(**kwargs)).eval()
    for p in model.parameters():
        if p.dim() == 1:
            p.data.add_(torch.randn_like(p) * 0.1)
    torch.save(model.state_dict(), folder / 'open_clip_model.pth')
    return open_clip.create_model(f'local-dir:{folder}').eval()


def tokens():
    ids = torch.randint(2, 58, (2, 12), generator=torch.Generator())
    ids[0, 9], ids[1, 5] = 59, 59
    ids[1, 6:] = 0
    return ids


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'clip'


def recorded(teacher, inputs):
    names = [teacher.layer_name.format(i) for i in range(teacher.depth)]
    shown = teacher.record(inputs, names + [''])
    return [shown[name] for name in names], shown['']


@pytest.mark.parametrize('quick', [False, True])
def test_visual_features_are_those_of_the_library(folder, quick):
    own = make(folder, quick_gelu=quick)
    teacher = OpenCLIPTeacher(str(folder))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        told = own.visual.forward_intermediates(
            images, output_fmt='NLC', output_extra_tokens=True)
    layers, features = recorded(teacher, images)
    torch.testing.assert_close(features, told['image_features'])
    for x, cls_token, patches in zip(layers,
                                     told['image_intermediates_prefix'],
                                     told['image_intermediates']):
        torch.testing.assert_close(
            x, torch.cat([cls_token, patches], 1), atol=1e-5, rtol=1e-5)
    layout = teacher.record_layout((16, 16))
    assert (layout.grid, layout.num_extra_tokens) == ((4, 4), 1)
    assert (teacher.embed_dims, teacher.depth) == (64, 3)
    assert ('QuickGELU' in teacher.describe()) == quick
    norm = teacher.record(images, ['ln_post'])['ln_post']
    torch.testing.assert_close(norm, own.visual.ln_post(layers[-1]))


def test_text_features_are_those_of_the_library(folder):
    own = make(folder)
    teacher = OpenCLIPTeacher(str(folder), tower='text')
    ids = tokens()
    with torch.no_grad():
        told = own.forward_intermediates(text=ids)
    layers, features = recorded(teacher, dict(input_ids=ids))
    torch.testing.assert_close(features, own.encode_text(ids))
    for a, b in zip(layers, told['text_intermediates']):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert teacher.takes_text and teacher.embed_dims == 32
    assert teacher.record_layout((12, )).num_tokens == 12


def test_normalisation_is_that_of_the_folder(folder):
    make(folder)
    mean, std, to_rgb = OpenCLIPTeacher(str(folder)).normalisation()
    torch.testing.assert_close(mean.flatten() / 255,
                               torch.tensor(PREPROCESS['mean']))
    torch.testing.assert_close(std.flatten() / 255,
                               torch.tensor(PREPROCESS['std']))
    assert to_rgb


def test_images_of_another_size(folder):
    own = make(folder)
    images = torch.randn(2, 3, 24, 24)
    teacher = OpenCLIPTeacher(str(folder))
    assert teacher.record_layout((24, 24)).grid == (4, 4)
    small = torch.nn.functional.interpolate(
        images, (16, 16), mode='bicubic', antialias=True)
    torch.testing.assert_close(
        recorded(teacher, images)[1], own.encode_image(small))
    teacher = OpenCLIPTeacher(str(folder), input_size=24)
    assert teacher.record_layout((24, 24)).grid == (6, 6)
    own = open_clip.create_model(
        f'local-dir:{folder}', force_image_size=24).eval()
    torch.testing.assert_close(
        recorded(teacher, images)[1], own.encode_image(images))


def test_openai_weights_get_quick_gelu(folder, tmp_path, monkeypatch):
    """They carry three entries more; CLIP4Clip's a prefix."""
    lines = []
    monkeypatch.setattr(
        'transmamba_mm.models.teachers.open_clip_loading.print_log',
        lambda text, **kwargs: lines.append(text))
    own = make(folder, quick_gelu=True)
    make(folder)  # the same weights in a model with GELU
    state = own.state_dict()
    images = torch.randn(2, 3, 16, 16)
    files = {
        'openai': {
            **{
                k: v.half().float()
                for k, v in state.items()
            }, 'input_resolution': torch.tensor(16),
            'context_length': torch.tensor(12),
            'vocab_size': torch.tensor(60)
        },
        'clip4clip': {
            **{
                f'clip.{k}': v
                for k, v in state.items()
            }, 'transformerClip.x': torch.zeros(2)
        }
    }
    for name, content in files.items():
        path = tmp_path / f'{name}.pt'
        torch.save(content, path)
        teacher = OpenCLIPTeacher(str(folder), str(path))
        torch.testing.assert_close(
            recorded(teacher, images)[1],
            own.encode_image(images),
            atol=2e-3,
            rtol=2e-3)
        assert 'QuickGELU' in teacher.describe()
        assert 'QuickGELU is used' in lines[0]
        lines.clear()
        with pytest.raises(ValueError, match='need QuickGELU'):
            OpenCLIPTeacher(str(folder), str(path), quick_gelu=False)
    plain = OpenCLIPTeacher(str(folder))
    assert 'QuickGELU' not in plain.describe() + ''.join(lines)
    told = OpenCLIPTeacher(str(folder), quick_gelu=True)
    torch.testing.assert_close(
        recorded(told, images)[1], own.encode_image(images))


def test_tags_say_which_activation(monkeypatch):
    from transmamba_mm.models.teachers.open_clip_loading import \
        choose_activation
    assert choose_activation(dict(), True, True, None, 'a', 'openai') is True
    with pytest.raises(ValueError, match="model_name='ViT-B-32'"):
        choose_activation(
            dict(quick_gelu=True), False, True, None, 'ViT-B-32-quickgelu',
            'laion2b')
    assert choose_activation(dict(), False, True, None, 'a', 'b') is None


def test_safetensors_with_one_tower_alone(folder, tmp_path):
    from safetensors.torch import save_file
    own = make(folder)
    path = tmp_path / 'visual.safetensors'
    save_file({
        f'visual.{k}': v
        for k, v in own.visual.state_dict().items()
    }, path)
    images = torch.randn(2, 3, 16, 16)
    teacher = OpenCLIPTeacher(str(folder), str(path))
    torch.testing.assert_close(
        recorded(teacher, images)[1], own.encode_image(images))
    with pytest.raises(ValueError, match='text tower.*missing'):
        OpenCLIPTeacher(str(folder), str(path), tower='text')


def test_no_word_of_random_weights(folder, caplog):
    make(folder)
    caplog.clear()
    OpenCLIPTeacher(str(folder))
    assert 'random' not in caplog.text


def test_folder_with_the_weights_of_two_libraries(folder):
    """Many folders hold Hugging Face's files too."""
    own = make(folder)
    state = {f'vision_model.{k}': v for k, v in own.state_dict().items()}
    torch.save(state, folder / 'model.bin')
    (folder / 'open_clip_model.pth').rename(folder / 'open_clip_model.pt')
    images = torch.randn(2, 3, 16, 16)
    teacher = OpenCLIPTeacher(str(folder), tower='visual')
    torch.testing.assert_close(
        recorded(teacher, images)[1], own.encode_image(images))


def test_low_precision(folder):
    make(folder)
    images = torch.randn(2, 3, 16, 16)
    exact = recorded(OpenCLIPTeacher(str(folder)), images)[1]
    rough = recorded(OpenCLIPTeacher(str(folder), dtype='bfloat16'), images)[1]
    assert rough.dtype == torch.float32
    assert 1e-5 < (exact - rough).norm() / exact.norm() < 0.05


def test_timm_tower(folder):
    own = make(
        folder,
        vision_cfg=dict(
            image_size=224,
            timm_model_name='deit_tiny_patch16_224',
            timm_model_pretrained=False,
            timm_pool='token',
            timm_proj='linear'))
    teacher = OpenCLIPTeacher(str(folder))
    images = torch.randn(1, 3, 224, 224)
    layers, features = recorded(teacher, images)
    torch.testing.assert_close(features, own.encode_image(images))
    assert layers[0].shape == (1, 197, 192)
    assert teacher.record_layout((64, 64)).grid == (14, 14)
    teacher = OpenCLIPTeacher(str(folder), input_size=32)
    assert teacher.record_layout((64, 64)).grid == (2, 2)
    own = open_clip.create_model(
        f'local-dir:{folder}', force_image_size=32).eval()
    torch.testing.assert_close(
        recorded(teacher, images[..., :32, :32])[1],
        own.encode_image(images[..., :32, :32]))


def test_refusals(folder, tmp_path):
    own = make(folder)
    with pytest.raises(ValueError, match='ViT-B-16'):
        OpenCLIPTeacher('ViT-B-17', 'openai')
    with pytest.raises(FileNotFoundError, match="neither.*'openai'"):
        OpenCLIPTeacher('ViT-B-32', 'nowhere.pt')
    with pytest.raises(ValueError, match="must be 'vision' or 'text'"):
        OpenCLIPTeacher(str(folder), tower='projector')
    with pytest.raises(FileNotFoundError, match='open_clip_config.json'):
        OpenCLIPTeacher(str(tmp_path))
    with pytest.raises(ValueError, match='needs `pretrained`'):
        OpenCLIPTeacher('ViT-B-32')
    state = own.state_dict()
    state['visual.proj'] = torch.zeros(64, 5)
    torch.save(state, tmp_path / 'odd.pt')
    with pytest.raises(ValueError, match=r'proj: \(64, 5\) in the file'):
        OpenCLIPTeacher(str(folder), str(tmp_path / 'odd.pt'))
    state['visual.proj'] = torch.full((64, 24), float('nan'))
    torch.save(state, tmp_path / 'nan.pt')
    with pytest.raises(ValueError, match='NaN or infinity.*proj'):
        OpenCLIPTeacher(str(folder), str(tmp_path / 'nan.pt'))
    state['visual.proj'] = torch.zeros(64, 24, dtype=torch.int8)
    torch.save(state, tmp_path / 'int.pt')
    with pytest.raises(ValueError, match=r'quantised: .*proj \(int8\)'):
        OpenCLIPTeacher(str(folder), str(tmp_path / 'int.pt'))
    script = torch.jit.script(torch.nn.Linear(2, 2))
    torch.jit.save(script, tmp_path / 'jit.pt')
    with pytest.raises(ValueError, match='TorchScript archive'):
        OpenCLIPTeacher(str(folder), str(tmp_path / 'jit.pt'))


def test_resnets_cannot_teach(folder):
    make(
        folder,
        vision_cfg=dict(
            image_size=32, layers=[1, 1, 1, 1], width=8, head_width=8))
    with pytest.raises(ValueError, match='ModifiedResNet cannot teach'):
        OpenCLIPTeacher(str(folder))
