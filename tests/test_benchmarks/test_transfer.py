"""The rows of the transfer tables are trainings of published recipes."""
import json
import os.path as osp
import sys

import pytest
from mmengine.config import Config, DictAction
from mmpretrain.registry import HOOKS, MODELS

ROOT = osp.join(osp.dirname(__file__), '..', '..')
sys.path.insert(0, osp.join(ROOT, 'benchmarks', 'transfer'))

import render  # noqa: E402
import tables  # noqa: E402


def rows():
    """One row for each config and set of options."""
    kinds = {}
    for make in tables.TABLES.values():
        for run in make():
            kinds.setdefault((run.config, run.variant), run)
    return sorted(kinds.values(), key=lambda run: run.name)


@pytest.mark.parametrize('run', rows(), ids=lambda run: run.name)
def test_each_row_is_a_recipe_with_valid_options(run, monkeypatch):
    monkeypatch.setenv('TEACHER', 'teacher.pth')
    cfg = Config.fromfile(osp.join(ROOT, run.config))
    before = cfg.to_dict()
    options = {
        key: DictAction._parse_iterable(value)
        for key, value in run.options().items()
    }
    cfg.merge_from_dict(options)
    assert (cfg.to_dict() != before) == bool(options)
    hooks = [HOOKS.build(h) for h in cfg.get('custom_hooks', [])]
    wanted = dict(
        scratch=[],
        subclone=['WeightSubcloneHook'],
        distill=['BidirectionalDistillHook'],
        transmamba=['WeightSubcloneHook', 'BidirectionalDistillHook'])
    assert [type(h).__name__ for h in hooks] == wanted[run.method]
    MODELS.build(cfg.model)


def test_no_two_rows_share_a_folder():
    for make in tables.TABLES.values():
        names = [run.name for run in make()]
        assert len(set(names)) == len(names)


def line(method, seed, value, **kwargs):
    return dict(
        task='classification',
        metric='accuracy/top1',
        data='toys',
        student='vim-tiny-32',
        teacher='' if method == 'scratch' else 'vit (100%)',
        method=method,
        variant='',
        fraction=1.,
        seed=seed,
        epochs=2,
        value=value,
        train_seconds=4.,
        card='cpu',
        commit='abc',
        side_by_side=1,
        curve=[[1, value - 10, 2.], [2, value, 4.]],
        **kwargs)


def test_the_page_shows_means_spreads_and_times(tmp_path):
    path = tmp_path / 'results.jsonl'
    lines = [
        line('scratch', 0, 70.),
        line('scratch', 1, 72.),
        line('transmamba', 0, 60.),  # measured again below
        line('transmamba', 0, 83.),
        line('transmamba', 1, 85.),
    ]
    path.write_text('\n'.join(map(json.dumps, lines)))
    page = render.render(render.read_lines(path), str(tmp_path / 'r.md'))
    assert '| 71.00 ± 1.41 (2) |  |  | 84.00 ± 1.41 (2) |' in page
    # 71 % was reached by both in their first epoch
    assert '| transmamba | 100% | vit (100%) | 2 of 2 | 2 |' in page
    assert 'data_curve' not in page
