"""A teacher whose features are kept on disk."""
import os
from unittest import mock

import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from tests.toy import student_cfg, vit_cfg
from transmamba_mm.models import CachedTeacher, MMPretrainTeacher
from transmamba_mm.models.teachers.feature_store import FeatureStore

NAMES = ['backbone.layers.2', 'head']


@pytest.fixture
def inner(tmp_path):
    torch.manual_seed(0)
    torch.save(MODELS.build(vit_cfg()).state_dict(), tmp_path / 't.pth')
    return dict(
        type='transmamba_mm.MMPretrainTeacher',
        config=vit_cfg(),
        checkpoint=str(tmp_path / 't.pth'))


@pytest.fixture
def build(inner, tmp_path):

    def make(**kwargs):
        return CachedTeacher({
            **inner,
            **kwargs.pop('teacher', {})
        }, str(tmp_path / 'cache'), **kwargs)

    return make


def samples(*keys):
    return [
        DataSample(
            metainfo=dict(augmentation_key=f'k{k}', augmentation_count=6))
        for k in keys
    ]


@pytest.fixture
def images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator())


def calls(teacher):
    return mock.patch.object(
        teacher.teacher, 'run_model', wraps=teacher.teacher.run_model)


def test_second_time_is_read(build, inner, images):
    plain = MODELS.build(inner).record(images, NAMES)
    teacher = build()
    with calls(teacher) as run:
        first = teacher.record(images[:4], NAMES, samples(0, 1, 2, 3))
        assert run.call_count == 1
        second = teacher.record(images[:4], NAMES, samples(0, 1, 2, 3))
        assert run.call_count == 1
        mixed = teacher.record(images[2:], NAMES, samples(2, 3, 4, 5))
        assert run.call_args.args[0].shape[0] == 2
    for name in NAMES:
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], plain[name][:4])
        torch.testing.assert_close(mixed[name], plain[name][2:])


def test_goes_on_after_a_kill(build, images, tmp_path):
    teacher = build()
    first = teacher.record(images[:4], NAMES, samples(0, 1, 2, 3))
    store = next(iter(teacher._stores.values()))
    with open(store.path('k1'), 'r+b') as file:  # as after a power failure
        file.truncate(100)
    again = build()
    with calls(again) as run:
        second = again.record(images[:4], NAMES, samples(0, 1, 2, 3))
        assert run.call_args.args[0].shape[0] == 1
    for name in NAMES:
        torch.testing.assert_close(first[name], second[name])
    assert len(os.listdir(tmp_path / 'cache')) == 1


def test_anything_that_changes_the_features_opens_another_folder(
        build, images, tmp_path, inner):
    folders = set()

    def folder(names=NAMES, mean=None, **kwargs):
        teacher = build(**kwargs)
        if mean is not None:
            teacher.match_inputs(
                torch.full((3, 1, 1), mean), torch.full((3, 1, 1), 60.), False)
        teacher.record(images, names, samples(*range(6)))
        (store, ) = teacher._stores.values()
        folders.add(store.folder)
        return store.folder

    assert folder() == folder() == folder(list(reversed(NAMES)))
    folder(['head'])
    folder(mean=100.)
    folder(storage='bfloat16')
    folder(teacher=dict(dtype='bfloat16'))
    folder(teacher=dict(input_size=20))
    heads = vit_cfg()
    heads['backbone']['arch']['num_heads'] = 2  # no tensor shows it
    folder(teacher=dict(config=heads))
    state = torch.load(inner['checkpoint'])
    state['backbone.layers.0.ln1.bias'][0] += 1
    torch.save(state, inner['checkpoint'])
    folder()
    assert len(folders) == 8


def test_images_that_change_are_refused(build, images):
    teacher = build()
    teacher.record(images, NAMES, samples(*range(6)))
    for other in (images.flip(-1), 0.95 * images + 0.05 * images.flip(0),
                  images + 0.01):
        with pytest.raises(ValueError, match='augmentation is not fixed'):
            teacher.record(other, NAMES, samples(*range(6)))


def test_samples_without_keys_are_refused(build, images):
    with pytest.raises(ValueError, match='FixedAugmentation'):
        build().record(images, NAMES, [DataSample()] * 6)
    # where nobody asks for the cache, the teacher simply runs
    assert build().record(images, NAMES)['head'].shape == (6, 4)


def test_batch_augmentation_is_refused(build):
    student = student_cfg(
        distiller={}, train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    model = MODELS.build(student)
    with pytest.raises(ValueError, match='remove `augments`'):
        model.attach_teacher(build())


def test_augmentation_on_the_device_is_refused(build):
    student = student_cfg(distiller={})
    student['data_preprocessor']['type'] = \
        'transmamba_mm.AugmentingDataPreprocessor'
    model = MODELS.build(student)
    with pytest.raises(ValueError, match='AugmentingDataPreprocessor'):
        model.attach_teacher(build())


def test_limit(build, images, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'transmamba_mm.models.teachers.cached_teacher.print_log',
        lambda text, **kwargs: lines.append(text))
    size = 4 * (17 * 48 + 4) + 400
    teacher = build(max_gb=3.5 * size / 1e9)
    first = teacher.record(images, NAMES, samples(*range(6)))
    again = teacher.record(images, NAMES, samples(*range(6)))
    torch.testing.assert_close(first, again)
    assert next(iter(teacher._stores.values())).count() == 3
    assert '6 images of 0.004 MB' in lines[0] and 'only the first' in lines[1]
    assert '`max_gb`' in lines[2] and len(lines) == 3
    teacher.close()
    assert '3 times features were read, 9 times computed' in lines[3]
    with pytest.raises(ValueError, match='max_gb=0'):
        build(max_gb=0)


def test_full_disk_does_not_stop_the_training(build, images, monkeypatch):
    teacher = build()

    def fail(*args):
        raise OSError('No space left on device')

    monkeypatch.setattr(FeatureStore, 'write', fail)
    teacher.record(images[:2], NAMES, samples(0, 1))
    monkeypatch.undo()
    records = teacher.record(images[:2], NAMES, samples(0, 1))
    assert records['head'].shape == (2, 4)
    assert next(iter(teacher._stores.values())).count() == 0


def test_half_size(build, images):
    teacher = build(storage='bfloat16')
    exact = teacher.record(images, NAMES, samples(*range(6)))['head']
    stored = teacher.record(images, NAMES, samples(*range(6)))['head']
    assert stored.dtype == torch.float32
    assert torch.equal(stored, exact.bfloat16().float())


def test_looks_like_the_teacher(build, inner):
    teacher, plain = build(), MODELS.build(inner)
    assert isinstance(plain, MMPretrainTeacher)
    for name in ('embed_dims', 'depth', 'num_classes', 'layer_name',
                 'head_name', 'final_norm_name', 'native_size'):
        assert getattr(teacher, name) == getattr(plain, name)
    assert teacher.record_layout((16, 20)) == plain.record_layout((16, 20))
    assert teacher.describe().startswith(plain.describe())
    teacher.train()
    assert not any(m.training for m in teacher.modules())
