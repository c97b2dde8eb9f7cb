import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmpretrain.registry import DATASETS

from transmamba_mm.datasets import ClassBalancedSubset
from transmamba_mm.datasets.class_balanced_subset import select_class_balanced
from .image_folder import make_image_folder

COUNTS = dict(cat=8, dog=12, emu=1)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp('data') / 'set', COUNTS)


def subset_cfg(root, fraction=0.5, seed=0, **kwargs):
    return dict(
        type='transmamba_mm.ClassBalancedSubset',
        fraction=fraction,
        seed=seed,
        dataset=dict(
            type='CustomDataset',
            data_root=str(root),
            pipeline=[dict(type='LoadImageFromFile')],
            **kwargs))


def paths(dataset):
    return [dataset[i]['img_path'] for i in range(len(dataset))]


@pytest.mark.parametrize('lazy_init', [False, True])
def test_balanced_and_repeatable(root, lazy_init):
    cfg = subset_cfg(root, lazy_init=lazy_init)
    dataset = DATASETS.build(cfg)
    assert dataset._fully_initialized is not lazy_init
    assert len(dataset) == 4 + 6 + 1
    assert np.bincount(dataset.get_gt_labels()).tolist() == [4, 6, 1]
    assert dataset.get_cat_ids(10) == [2]
    assert dataset.metainfo['classes'] == dataset.CLASSES == tuple(COUNTS)
    assert dataset.class_to_idx == dict(cat=0, dog=1, emu=2)
    assert dataset.get_data_info(0)['img_path'] == paths(dataset)[0]
    assert paths(dataset) == paths(DATASETS.build(subset_cfg(root)))
    assert paths(dataset) != paths(DATASETS.build(subset_cfg(root, seed=1)))
    assert 'fraction=0.5' in repr(dataset)


def test_the_choice_never_changes():
    """The published choice, whatever the version of NumPy."""
    assert select_class_balanced([0] * 6 + [1] * 4, 0.5) == [3, 4, 5, 7, 8]


def test_a_smaller_fraction_is_inside_a_larger_one():
    labels = np.random.RandomState(0).randint(0, 7, 200)
    previous = set()
    for fraction in (0.001, 0.1, 0.25, 0.5, 0.75, 1):
        chosen = select_class_balanced(labels, fraction, seed=5)
        assert previous <= set(chosen) and chosen == sorted(chosen)
        assert set(labels[chosen]) == set(labels)
        previous = set(chosen)
    assert len(previous) == 200


def test_broken_images_are_replaced_from_the_subset_alone(root):
    """A skipped image must not bring in one that was left out."""

    class Fail:

        def __call__(self, results):
            return None if results['img_path'].endswith('0.png') else results

    cfg = subset_cfg(root, fraction=0.25)
    cfg['dataset']['pipeline'] = [Fail()]
    dataset = DATASETS.build(cfg)
    chosen = {
        dataset.get_data_info(i)['img_path']
        for i in range(len(dataset))
    }
    for _ in range(10):
        assert set(paths(dataset)) <= chosen


def test_a_given_dataset_is_not_changed(root):
    dataset = DATASETS.build(subset_cfg(root)['dataset'])
    before = len(dataset)
    subset = ClassBalancedSubset(dataset, fraction=0.5)
    assert len(subset) < before == len(dataset)


def test_mmengines_lasting_memo_is_not_used(root, monkeypatch):
    """It mixes objects up once an id is used again."""

    def refuse(self, memo=None):
        raise AssertionError('a copy was made by the lasting memo')

    monkeypatch.setattr(BaseDataset, '_copy_without_annotation', refuse)
    assert len(DATASETS.build(subset_cfg(root))) == 11


def test_summary(root):
    dataset = DATASETS.build(subset_cfg(root))
    summary = dataset.summary()
    assert summary['classes'] == dict(cat=[4, 8], dog=[6, 12], emu=[1, 1])
    assert summary['num_images'] == 11 and summary['dataset_size'] == 21
    whole = DATASETS.build(subset_cfg(root, fraction=1)).summary()
    assert whole['indices'] == 'all'
    names = [
        whole_path for i, whole_path in enumerate(
            paths(DATASETS.build(subset_cfg(root, fraction=1))))
        if i in summary['indices']
    ]
    assert names == paths(dataset)
    assert whole['sample_hash'] != summary['sample_hash']


def test_sample_hash_does_not_depend_on_the_place(root, tmp_path):
    moved = make_image_folder(tmp_path / 'elsewhere', COUNTS)
    hashes = [
        DATASETS.build(subset_cfg(folder)).summary()['sample_hash']
        for folder in (root, moved)
    ]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize('kwargs, error', [
    (dict(fraction=0), ValueError),
    (dict(fraction=1.01), ValueError),
    (dict(fraction=75), ValueError),
    (dict(fraction='75%'), TypeError),
    (dict(fraction=True), TypeError),
    (dict(seed=-1), ValueError),
    (dict(seed=0.5), TypeError),
])
def test_refuses_bad_values(root, kwargs, error):
    key = f'train_dataloader.dataset.{next(iter(kwargs))}'
    with pytest.raises(error, match=key):
        DATASETS.build(subset_cfg(root, **kwargs))


def test_refuses_other_datasets(root):
    inner = DATASETS.build(subset_cfg(root)['dataset'])
    with pytest.raises(TypeError, match='around ClassBalancedSubset'):
        ClassBalancedSubset(ConcatDataset([inner, inner]), 0.5)
    with pytest.raises(TypeError, match='got str'):
        ClassBalancedSubset('data/train', 0.5)
    with pytest.raises(ValueError, match='with_label=True'):
        DATASETS.build(subset_cfg(root, with_label=False))


def test_refuses_several_labels_an_image(tmp_path):
    (tmp_path / 'ann.json').write_text(
        '{"metainfo": {"classes": ["a", "b"]}, "data_list": '
        '[{"img_path": "x.png", "gt_label": [0, 1]}]}')
    dataset = dict(
        type='MultiLabelDataset',
        ann_file=str(tmp_path / 'ann.json'),
        data_root=str(tmp_path))
    with pytest.raises(ValueError, match='one label an image'):
        len(ClassBalancedSubset(dataset, 0.5))
