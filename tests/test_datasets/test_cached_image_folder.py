"""Small images, decoded once and read in batches."""
import os

import numpy as np
import pytest
import torch
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from PIL import Image
from torch.utils.data import DataLoader

from transmamba_mm.datasets import keep_batch
from transmamba_mm.models.data_preprocessors import random_crop, random_flip

LOAD = [dict(type='transmamba_mm.LoadImage')]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for label in ('cat', 'dog'):
        os.makedirs(tmp_path / 'train' / label)
        for i in range(4):
            image = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / 'train' / label /
                                        f'{i}.png')
    return tmp_path


def build(folder, **kwargs):
    return DATASETS.build(
        dict(
            type='transmamba_mm.CachedImageFolder',
            data_root=str(folder),
            data_prefix='train',
            pipeline=LOAD,
            **kwargs))


def test_a_batch_holds_what_single_images_hold(folder):
    plain = DATASETS.build(
        dict(
            type='transmamba_mm.ImageFolderDataset',
            data_root=str(folder),
            data_prefix='train',
            pipeline=LOAD + [dict(type='PackInputs')]))
    batch = build(folder).__getitems__([6, 1])
    assert batch['data_samples'][0].gt_label.tolist() == [1, 0]
    for image, index in zip(batch['inputs'], (6, 1)):
        assert torch.equal(image, plain[index]['inputs'])
    samples = build(folder, test_mode=True).__getitems__([6, 1])
    assert [s.gt_label.item() for s in samples['data_samples']] == [1, 0]


def test_single_samples_are_no_batch(folder):
    dataset = DATASETS.build(
        dict(
            type='transmamba_mm.FixedAugmentation',
            dataset=dict(
                type='transmamba_mm.CachedImageFolder',
                data_root=str(folder),
                data_prefix='train',
                pipeline=LOAD)))
    loader = DataLoader(dataset, batch_size=4, collate_fn=keep_batch)
    with pytest.raises(TypeError, match='remove `collate_fn`'):
        next(iter(loader))


def test_the_file_is_used_again_until_an_image_changes(folder):
    build(folder)
    cache = folder / '.cache'
    (name, ) = os.listdir(cache)
    before = os.stat(cache / name).st_mtime_ns
    build(folder)
    assert os.stat(cache / name).st_mtime_ns == before
    Image.new('RGB', (8, 8), 'red').save(folder / 'train' / 'cat' / '0.png')
    batch = build(folder).__getitems__([0])
    assert len(os.listdir(cache)) == 2
    assert batch['inputs'][0, :, 0, 0].tolist() == [0, 0, 255]  # BGR


def test_a_fraction_of_the_images_in_a_loader(folder):
    subset = DATASETS.build(
        dict(
            type='transmamba_mm.ClassBalancedSubset',
            fraction=0.5,
            dataset=dict(
                type='transmamba_mm.CachedImageFolder',
                data_root=str(folder),
                data_prefix='train',
                pipeline=LOAD)))
    subset.full_init()
    loader = DataLoader(subset, batch_size=4, collate_fn=keep_batch)
    (batch, ) = list(loader)
    assert sorted(batch['data_samples'][0].gt_label.tolist()) == [0, 0, 1, 1]
    whole = build(folder)
    for image, index in zip(batch['inputs'], subset.indices):
        assert torch.equal(image, whole.__getitems__([index])['inputs'][0])


def test_images_of_several_sizes_are_refused(folder):
    Image.new('RGB', (9, 8)).save(folder / 'train' / 'cat' / '9.png')
    with pytest.raises(ValueError, match='9.png.*Resize'):
        build(folder)
    assert not os.listdir(folder / '.cache')


def preprocessor(**kwargs):
    return MODELS.build(
        dict(
            type='transmamba_mm.AugmentingDataPreprocessor',
            num_classes=2,
            **kwargs))


def test_crop_shifts_and_flip_flips_each_image_by_itself():
    torch.manual_seed(0)
    images = torch.arange(1, 65.).reshape(1, 1, 8, 8).repeat(64, 1, 1, 1)
    shifted = random_crop(images, 2)
    padded = torch.nn.functional.pad(images[:1], [2] * 4)[0, 0]
    windows = [padded[i:i + 8, j:j + 8] for i in range(5) for j in range(5)]
    found = [[torch.equal(x[0], w) for w in windows].index(True)
             for x in shifted]
    assert len(set(found)) > 10
    flipped = random_flip(images, 0.5)
    same = [torch.equal(a, b) for a, b in zip(images, flipped)]
    assert 16 < sum(same) < 48
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(images, flipped)]
    assert [not s for s in same] == mirrored


def test_only_training_batches_are_augmented(folder):
    batch = build(folder, test_mode=True).__getitems__([0, 1])
    out = preprocessor(crop_padding=3, flip_prob=1.)(batch, training=False)
    assert torch.equal(out['inputs'], batch['inputs'].float())
    out = preprocessor(crop_padding=0, flip_prob=1.)(batch, training=True)
    assert torch.equal(out['inputs'], batch['inputs'].float().flip(-1))


def test_mixing_needs_no_other_data(folder):
    batch = build(folder).__getitems__([0, 7])
    augments = dict(augments=[dict(type='Mixup', alpha=0.8)])
    out = preprocessor(batch_augments=augments)(batch, training=True)
    scores = torch.stack([s.gt_score for s in out['data_samples']])
    assert scores.shape == (2, 2)
    torch.testing.assert_close(scores.sum(-1), torch.ones(2))


def test_a_policy_varies_groups_of_images():
    torch.manual_seed(0)
    image = torch.randint(0, 255, (1, 3, 8, 8), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(torch.zeros(12, dtype=torch.long))]
    batch = dict(inputs=image.repeat(12, 1, 1, 1), data_samples=samples)
    augment = preprocessor(policy='TrivialAugmentWide', policy_groups=6)
    out = augment(batch, training=True)['inputs']
    assert torch.equal(out[::2], out[1::2])
    assert len(out[::2].unique(dim=0)) > 3


@pytest.mark.parametrize('kwargs', [
    dict(crop_padding=-1),
    dict(flip_prob=1.5),
    dict(policy='Colours'),
    dict(policy_groups=0),
])
def test_values_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match='data_preprocessor.' + [*kwargs][0]):
        preprocessor(**kwargs)
