"""The rows of visual questions are trainings of published recipes."""
from copy import deepcopy

import pytest
from mmengine.config import Config, DictAction
from mmpretrain.registry import HOOKS

from ..command import ROOT
from .transfer import run

import vqa_tables  # noqa: E402  isort: skip


def rows():
    """One row for each config and set of options."""
    kinds = {}
    for make in vqa_tables.TABLES.values():
        for row in make():
            kinds.setdefault((row.config, row.variant), row)
    return sorted(kinds.values(), key=lambda row: row.name)


@pytest.mark.parametrize('row', rows(), ids=lambda row: row.name)
def test_each_row_is_a_recipe_with_valid_options(row):
    cfg = Config.fromfile(ROOT / row.config)
    before = deepcopy(cfg.to_dict())
    own = {
        **run.common_options(row),
        **row.data_options('somewhere'),
        **row.options()
    }
    cfg.merge_from_dict({
        k: DictAction._parse_iterable(str(v))
        for k, v in own.items()
    })
    assert cfg.to_dict() != before
    found = set()
    for step in (cfg.train_dataloader.dataset.pipeline,
                 cfg.val_dataloader.dataset.pipeline):
        found |= {s['tokenizer'] for s in step if 'tokenizer' in s}
    assert found == {'somewhere/tokenizer'} == {cfg.model.tokenizer}
    assert cfg.train_dataloader.dataset.fraction == row.fraction
    hooks = [HOOKS.build(h) for h in cfg.get('custom_hooks', [])]
    wanted = dict(
        subclone=['WeightSubcloneHook'],
        distill=['BidirectionalDistillHook'],
        transmamba=['WeightSubcloneHook', 'BidirectionalDistillHook'])
    assert [type(h).__name__ for h in hooks] == wanted.get(row.method, [])
    assert cfg.model.get('fusion') == (None if row.variant == 'no fusion'
                                       or row.is_teacher else {})
    if row.variant == 'own tower':
        assert hooks[0].copy == ()


def test_teachers_come_before_their_students():
    for make in vqa_tables.TABLES.values():
        kept = {row.keeps
                for row in make()
                } | {row.keeps
                     for row in vqa_tables.easy_vqa()}
        for row in make():
            assert set(row.needs.values()) <= kept
            assert bool(row.needs) == (row.method != 'scratch')
    names = [r.name for make in vqa_tables.TABLES.values() for r in make()]
    assert len(set(names)) == len(names)


def test_seeds_and_shares():
    table = vqa_tables.easy_vqa()
    for method, shares in (('scratch', {1., 0.75}), ('transmamba', {1.,
                                                                    0.75})):
        mine = [r for r in table if r.method == method and not r.is_teacher]
        assert {r.seed for r in mine} == {0, 1, 2}
        assert {r.fraction for r in mine} == shares
    same = [r for r in table if r.teacher_fraction == 0.75 and r.teacher]
    assert {r.fraction for r in same} == {0.75}
