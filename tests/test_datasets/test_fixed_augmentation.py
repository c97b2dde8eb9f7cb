"""Augmentation that is the same each time."""
import random

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from torch.utils.data import DataLoader

from transmamba_mm.datasets import FixedAugmentation
from .image_folder import make_image_folder

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=16),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4),
    dict(type='NumpyToPIL'),
    dict(type='torchvision/RandomVerticalFlip'),
    dict(type='PILToNumpy'),
    dict(type='PackInputs')
]


@pytest.fixture
def cfg(tmp_path):
    init_default_scope('mmpretrain')
    return dict(
        type='transmamba_mm.ImageFolderDataset',
        data_root=str(
            make_image_folder(tmp_path / 'images', dict(cat=4, dog=4))),
        pipeline=PIPELINE)


def wrap(cfg, **kwargs):
    return DATASETS.build(
        dict(type='transmamba_mm.FixedAugmentation', dataset=cfg, **kwargs))


def key(sample):
    return sample['data_samples'].augmentation_key


def test_an_image_is_the_same_each_time(cfg):
    dataset, again = wrap(cfg), wrap(cfg)
    free = DATASETS.build(cfg)
    assert len(dataset) == len(free)
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    first = [dataset[i] for i in range(len(dataset))]
    second = [again[i] for i in range(len(dataset))]
    for a, b in zip(first, second):
        assert torch.equal(a['inputs'], b['inputs']) and key(a) == key(b)
    assert len({key(x) for x in first}) == len(dataset)
    assert not torch.equal(free[0]['inputs'], free[0]['inputs'])
    other = wrap(cfg, seed=1)[0]
    assert not torch.equal(other['inputs'], first[0]['inputs'])
    assert key(other) != key(first[0])
    assert first[0]['data_samples'].augmentation_count == len(dataset)


def test_images_are_augmented_differently(cfg):
    """Two files of one content: the file decides, not the content."""
    from shutil import copyfile
    info = wrap(cfg).get_data_info(0)
    copyfile(info['img_path'], info['img_path'].replace('0.', 'copy.'))
    dataset = wrap(cfg)
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    pair = [
        i for i, p in enumerate(paths) if p == info['img_path'] or 'copy' in p
    ]
    a, b = (dataset[i]['inputs'] for i in pair)
    assert not torch.equal(a, b)


def test_views_are_drawn(cfg):
    dataset = wrap(cfg, views=3)
    np.random.seed(0)
    seen = {}
    for _ in range(40):
        sample = dataset[0]
        images = seen.setdefault(key(sample), sample['inputs'])
        assert torch.equal(images, sample['inputs'])
    assert len(seen) == 3
    assert dataset[0]['data_samples'].augmentation_count == 3 * len(dataset)


def test_generators_go_on_as_if_nothing_was(cfg):
    dataset = wrap(cfg)
    for draw, seed in ((random.random, random.seed), (np.random.rand,
                                                      np.random.seed),
                       (lambda: torch.rand(1).item(), torch.manual_seed)):
        seed(5)
        wanted = draw()
        seed(5)
        dataset[0]
        assert draw() == wanted


def test_workers_and_order_do_not_matter(cfg):
    dataset = wrap(cfg)
    alone = {key(s): s['inputs'] for s in dataset}
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=2,
        shuffle=True,
        collate_fn=lambda batch: batch)
    for sample in sum(loader, []):
        assert torch.equal(alone.pop(key(sample)), sample['inputs'])
    assert not alone


def test_key_follows_the_image_into_a_subset(cfg):
    whole = {key(s): s['inputs'] for s in wrap(cfg)}
    part = wrap(
        dict(
            type='transmamba_mm.ClassBalancedSubset',
            dataset=cfg,
            fraction=0.5))
    assert 0 < len(part) < len(whole)
    for sample in part:
        assert torch.equal(whole[key(sample)], sample['inputs'])


def test_transforms_count(cfg):
    keys = key(wrap(cfg)[0])
    cfg['pipeline'][1]['scale'] = 8
    assert key(wrap(cfg)[0]) != keys


def test_annotations_are_those_of_the_dataset(cfg):
    dataset, free = wrap(cfg), DATASETS.build(cfg)
    assert dataset.metainfo == free.metainfo
    assert dataset.CLASSES == free.CLASSES
    assert dataset.get_cat_ids(1) == free.get_cat_ids(1)
    assert list(dataset.get_gt_labels()) == list(free.get_gt_labels())
    assert 'views=1' in repr(dataset)


@pytest.mark.parametrize('kwargs', [
    dict(views=0),
    dict(seed=-1),
    dict(views=1.5),
    dict(seed=True),
])
def test_wrong_numbers(cfg, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        wrap(cfg, **kwargs)


def test_samples_without_a_place_for_the_key(cfg):
    cfg['pipeline'] = PIPELINE[:1]
    with pytest.raises(ValueError, match='PackInputs'):
        FixedAugmentation(cfg)[0]
