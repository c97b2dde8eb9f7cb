"""The rows of the retrieval tables are trainings of published recipes."""
import os.path as osp
from collections import Counter

import pytest
from mmengine.config import Config, DictAction
from mmpretrain.registry import HOOKS, MODELS

from ..command import ROOT
from .transfer import retrieval_tables as tables


def rows():
    """One row for each config and set of options."""
    kinds = {}
    for make in tables.TABLES.values():
        for row in make():
            kinds.setdefault((row.config, row.variant), row)
    return sorted(kinds.values(), key=lambda row: row.name)


@pytest.mark.parametrize('row', rows(), ids=lambda row: row.name)
def test_each_row_is_a_recipe_with_valid_options(row, monkeypatch):
    monkeypatch.setenv('TEACHER', 'teacher')
    cfg = Config.fromfile(osp.join(ROOT, row.config))
    options = {**row.data_options('root'), **row.options()}
    for key, value in options.items():
        owner = cfg
        *path, last = key.split('.')
        for part in path:
            owner = owner[part]
        # an argument that is left out has its default
        assert last in owner or last in ('fraction', 'similarity_weight',
                                         'alpha', 'ignore_same')
        cfg.merge_from_dict({key: DictAction._parse_iterable(str(value))})
    assert cfg.val_dataloader.dataset.ann_file == 'test.jsonl'
    hooks = [
        type(HOOKS.build(h)).__name__ for h in cfg.get('custom_hooks', [])
    ]
    assert hooks == (['ExportOpenCLIPHook'] if row.is_teacher else dict(
        scratch=[],
        subclone=['WeightSubcloneHook'],
        distill=['BidirectionalDistillHook'],
        transmamba=['WeightSubcloneHook', 'BidirectionalDistillHook'
                    ])[row.method])
    model = MODELS.build(cfg.model)
    assert model.head.reranks == row.metric.endswith('rerank_R@1')
    assert bool(cfg.val_evaluator.get('rerank_topk')) == model.head.reranks


@pytest.mark.parametrize('name', sorted(tables.TABLES))
def test_rows_find_their_teacher_and_share_no_folder(name):
    listed = tables.TABLES[name](epochs=3)
    names = [row.name for row in listed]
    assert len(set(names)) == len(names)
    teachers = {row.name for row in listed if row.is_teacher}
    for row in listed:
        assert row.epochs == 3
        for folder in row.needs.values():
            own, kind = folder.split('/')
            assert kind == 'open_clip'
            # the teacher of the heads is trained by the ablation
            assert own in teachers or name == 'retrieval_heads'


def test_less_data_stands_beside_all_of_it():
    listed = tables.retrieval_motion()
    seeds = Counter((r.method, r.fraction, r.teacher_fraction) for r in listed
                    if not r.is_teacher)
    assert {('transmamba', 0.75, 1.), ('transmamba', 0.75, 0.75),
            ('scratch', 1., 1.)} <= set(seeds)
    assert set(seeds.values()) == {3}
