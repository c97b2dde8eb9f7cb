import json
import logging
from types import SimpleNamespace

import pytest
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS, HOOKS

from tests.test_datasets.image_folder import make_image_folder


@pytest.fixture
def root(tmp_path):
    return make_image_folder(tmp_path / 'set', dict(a=4, b=8))


def subset_cfg(root, fraction=0.5):
    return dict(
        type='transmamba_mm.ClassBalancedSubset',
        fraction=fraction,
        dataset=dict(type='mmpretrain.CustomDataset', data_root=str(root)))


def subset(root, fraction=0.5):
    return DATASETS.build(subset_cfg(root, fraction))


def run_hook(work_dir, dataset, iteration=0):
    HOOKS.build(dict(type='transmamba_mm.DataSubsetHook')).before_train(
        SimpleNamespace(
            work_dir=str(work_dir),
            iter=iteration,
            train_dataloader=SimpleNamespace(dataset=dataset)))


def test_writes_the_choice(root, tmp_path):
    dataset = subset(root)
    run_hook(tmp_path, dataset)
    written = json.loads((tmp_path / 'data_subset.json').read_text())
    assert written == [dataset.summary()]
    assert len(written[0]['indices']) == 6


def test_finds_subsets_in_wrappers(root, tmp_path):
    concat = dict(
        type='mmengine.ConcatDataset',
        datasets=[subset_cfg(root), subset_cfg(root, 0.75)])
    wrapped = DATASETS.build(
        dict(type='mmengine.RepeatDataset', times=2, dataset=concat))
    run_hook(tmp_path, wrapped)
    written = json.loads((tmp_path / 'data_subset.json').read_text())
    assert [entry['fraction'] for entry in written] == [0.5, 0.75]


def test_writes_nothing_without_a_subset(root, tmp_path):
    run_hook(tmp_path,
             DATASETS.build(dict(type='CustomDataset', data_root=str(root))))
    assert not (tmp_path / 'data_subset.json').exists()


def test_warns_if_a_resumed_run_has_other_images(root, tmp_path, caplog):
    logger = MMLogger.get_instance('data_subset', log_level='INFO')
    logger.addHandler(caplog.handler)
    run_hook(tmp_path, subset(root))
    run_hook(tmp_path, subset(root), iteration=5)
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert not warnings and 'training on 6 of 12 images' in caplog.text
    run_hook(tmp_path, subset(root, 0.75), iteration=5)
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert 'other training images' in warnings[0].getMessage()
