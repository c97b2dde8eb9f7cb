"""The rows of the transfer tables are trainings of published recipes."""
import re
from copy import deepcopy
from functools import lru_cache

import pytest
import torch
from mmengine.config import Config, DictAction
from mmpretrain.registry import HOOKS, MODELS

from ..command import ROOT
from .transfer import run, tables


@lru_cache(None)
def recipe(path):
    return Config.fromfile(ROOT / path)


@lru_cache(None)
def build(path, changes):
    """Build a model once; most rows differ in their hooks alone."""
    cfg = deepcopy(recipe(path))
    cfg.merge_from_dict(dict(changes))
    with torch.device('meta'):
        return MODELS.build(cfg.model)


def rows():
    """One row for each config and set of options."""
    kinds = {}
    for make in tables.TABLES.values():
        for row in make():
            kinds.setdefault((row.config, row.variant, row.teacher), row)
    return sorted(kinds.values(), key=lambda row: row.name)


@pytest.mark.parametrize('row', rows(), ids=lambda row: row.name)
def test_each_row_is_a_recipe_with_valid_options(row):
    cfg = deepcopy(recipe(row.config))
    before = cfg.to_dict()
    options = {
        key: DictAction._parse_iterable(str(value))
        for key, value in row.options().items()
    }
    cfg.merge_from_dict(options)
    assert (cfg.to_dict() != before) == bool(options)
    hooks = [HOOKS.build(h) for h in cfg.get('custom_hooks', [])]
    wanted = dict(
        scratch=[],
        subclone=['WeightSubcloneHook'],
        distill=['BidirectionalDistillHook'],
        transmamba=['WeightSubcloneHook', 'BidirectionalDistillHook'])
    assert [type(h).__name__ for h in hooks] == wanted[row.method]
    of_model = [(k, v) for k, v in options.items() if k.startswith('model.')]
    model = build(row.config, tuple(of_model))
    assert (model.__class__.__name__ == 'DistillClassifier') == (
        row.method in ('distill', 'transmamba'))


@pytest.mark.parametrize('name', tables.SHAPES)
def test_a_teacher_of_another_shape_is_that_of_the_student(name):
    width, depth = tables.SHAPES[name]
    row = tables.taught('vim-tiny-32', 'transmamba', 1., 0, 1, teacher=name)
    options = row.options()
    path = options['custom_hooks.1.teacher.config']
    backbone = build(path, ()).backbone
    assert (backbone.embed_dims, backbone.num_layers) == (width, depth)
    distiller = {k: v for k, v in options.items() if 'distiller' in k}
    assert list(distiller.values()) == [width, depth]
    teacher = next(r for r in tables.teachers() if r.student == name)
    assert row.needs == dict(TEACHER=teacher.keeps)
    assert teacher.config == path


def test_no_two_rows_share_a_folder():
    everything = {}
    for make in run.all_tables().values():
        for row in make():
            everything.setdefault(row.name,
                                  set()).add(tuple(row.identity().items()))
    assert not [n for n, kinds in everything.items() if len(kinds) > 1]
    for make in run.all_tables().values():
        names = [row.name for row in make()]
        assert len(set(names)) == len(names)


def test_data_and_common_options_are_keys_of_the_recipes():
    for row in (tables.ablation()[0], tables.teachers()[0]):
        cfg = deepcopy(recipe(row.config))
        for key in row.data_options('somewhere'):
            parent, _, name = key.rpartition('.')
            node = cfg
            for part in parent.split('.'):
                node = node[part]
            assert name in node


def test_the_readme_counts_the_rows():
    text = (ROOT / 'benchmarks/transfer/README.md').read_text()
    told = re.findall(r'^\| `(\w+)` \|.*\| (\d+) \|$', text, re.M)
    assert {
        name: int(count)
        for name, count in told
    } == {
        name: len(make())
        for name, make in run.all_tables().items() if name in dict(told)
    }
    assert set(tables.TABLES) <= set(dict(told))
    both = set(tables.data_curve()) & set(tables.ablation())
    assert len(both) == 12 and 'twelve rows are in `ablation`' in text
