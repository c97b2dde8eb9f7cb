"""Any dialect of teacher files becomes a teacher that works."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.apis import get_model
from poc_parts import answers, options, study, teachers

from transmamba_mm.apis import predict_dataset
from .test_study import write_folder


@pytest.fixture
def work(tmp_path):
    """A folder of images, and an untrained ViT with its config."""
    torch.manual_seed(0)
    root = write_folder(tmp_path / 'photos', dict(cat=12, dog=10), side=16)
    args = options.parse_args([str(root), '--fractions', '1'])
    settings = study.make_settings(args, tmp_path / 'work')
    run = study.make_run(settings, 'teacher', 1)
    model = get_model(Config.fromfile(run.write_config()))
    weights = run.dir / 'vit.pth'
    # weights that make answers differ from image to image
    state = {
        k: v + 0.5 * torch.randn_like(v)
        for k, v in model.state_dict().items()
    }
    torch.save(dict(state_dict=state), weights)
    return SimpleNamespace(run=run, weights=weights, settings=settings)


def test_config_and_checkpoint(work):
    config = str(work.run.dir / 'config.py')
    teacher = teachers.from_files([config, str(work.weights)])
    assert (teacher.embed_dims, teacher.depth) == (64, 4)
    assert teacher.num_classes == 2 and teacher.notes == []
    told = answers.predict(teacher.config, work.run.dir / 'config.py')
    own = predict_dataset(config, str(work.weights))
    assert np.array_equal(told.labels, own.labels)
    assert np.allclose(told.confidences, own.confidences, atol=1e-5)
    assert told.classes.tolist() == ['cat', 'dog']


def test_file_of_mmpretrain_alone(work):
    teacher = teachers.from_files([str(work.weights)])
    assert (teacher.embed_dims, teacher.depth) == (64, 4)
    assert teacher.num_classes == 2
    assert '1 heads of 64 channels are assumed' in teacher.notes[0]
    assert "ImageNet's mean" in teacher.notes[1]


@pytest.mark.parametrize('name, mean', [
    ('vit_base_patch16_224', 0.5),
    ('deit_base_patch16_224', None),
    ('deit_base_distilled_patch16_224', None),
])
def test_weights_of_timm_answer_as_in_timm(tmp_path, name, mean):
    timm = pytest.importorskip('timm')
    model = timm.create_model(
        name,
        embed_dim=128,
        depth=2,
        num_heads=2,
        img_size=32,
        patch_size=8,
        num_classes=5).eval()
    folder = tmp_path / 'timm'
    folder.mkdir()
    torch.save(model.state_dict(), folder / 'pytorch_model.bin')
    file = folder if mean else folder / 'pytorch_model.bin'
    if mean:
        told = dict(architecture=name, mean=[mean] * 3, std=[mean] * 3)
        (folder / 'config.json').write_text(
            json.dumps(dict(architecture=name, pretrained_cfg=told)))
    teacher = teachers.from_files([str(file)])
    assert (teacher.embed_dims, teacher.depth) == (128, 2)
    assert teacher.num_classes == 5
    assert any('normalised' in note for note in teacher.notes) == (not mean)
    built = teachers.build(teacher.config)
    images = torch.randn(2, 3, 32, 32)
    seen = built.record(images, [built.head_name])[built.head_name]
    assert torch.allclose(seen, model(images), atol=1e-4)
    cfg = timm.get_pretrained_cfg(name)
    wanted = torch.tensor([255 * (mean or m) for m in cfg.mean])
    assert torch.allclose(built.normalisation()[0].flatten(), wanted)


def test_folder_of_hugging_face(tmp_path):
    transformers = pytest.importorskip('transformers')
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        image_size=32,
        patch_size=8)
    model = transformers.ViTForImageClassification(config)
    model.save_pretrained(tmp_path / 'vit')
    (tmp_path / 'vit' / 'preprocessor_config.json').write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    teacher = teachers.from_files([str(tmp_path / 'vit')])
    assert (teacher.embed_dims, teacher.depth) == (64, 2)
    file = str(next((tmp_path / 'vit').glob('*.safetensors')))
    with pytest.raises(SystemExit, match='give the folder'):
        teachers.from_files([file])


def test_architecture_of_open_clip_is_found():
    pytest.importorskip('open_clip')
    sizes = {'patch_embed.weight': (768, 3, 32, 32)}
    names = [f'layers.{i}.norm1.weight' for i in range(12)]

    class State(list):
        shape = staticmethod(sizes.__getitem__)

    assert teachers.open_clip_name(State(names)).startswith('ViT-B-32')
    with pytest.raises(SystemExit, match='width 768, 7 layers'):
        teachers.open_clip_name(State(names[:7]))


def test_bad_teachers_are_named(tmp_path, work):
    with pytest.raises(SystemExit, match='no such file or folder'):
        teachers.from_files([str(tmp_path / 'nothing.pth')])
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'odd.pth')
    with pytest.raises(SystemExit, match='of no known layout'):
        teachers.from_files([str(tmp_path / 'odd.pth')])
    with pytest.raises(SystemExit, match='do not fit'):
        teachers.from_files(
            [str(work.run.dir / 'config.py'),
             str(tmp_path / 'odd.pth')])
