"""MMPretrain's multimodal parts import on old and new Transformers.

With TRANSMAMBA_NEWEST_TRANSFORMERS, a folder made by ``pip install --target
FOLDER transformers``, that release is tested too.
"""
import os
import subprocess
import sys
import types

import pytest
import torch

from transmamba_mm.transformers_names import (MOVED, add_moved_names,
                                              find_pruneable_heads_and_indices)
from .command import ROOT

NEWEST = os.environ.get('TRANSMAMBA_NEWEST_TRANSFORMERS', '')
IMPORT_ALL = """
import mmpretrain.apis, mmpretrain.datasets, mmpretrain.evaluation
from mmpretrain.utils.dependency import WITH_MULTIMODAL
assert WITH_MULTIMODAL
from mmpretrain.models import Llava, BlipVQA, Flamingo, OFA, RAM, ResNet
from mmpretrain.datasets import COCOVQA, GQA, ScienceQA, TextVQA, VizWiz
from mmpretrain.apis import VisualQuestionAnsweringInferencer
from mmpretrain.registry import DATASETS, METRICS
assert DATASETS.get('VizWiz') is VizWiz
assert DATASETS.get('transmamba_mm.VizWiz') is VizWiz
for name in ('VQAAcc', 'GQAAcc', 'ScienceQAMetric', 'ANLS'):
    assert METRICS.get(name), name
ResNet(18)
print('ALL', 'IMPORTED')
"""
WITHOUT = """
import importlib.util, transmamba_mm
importlib.util.find_spec('transformers.modeling_utils')  # only looks
import transformers.modeling_utils as module
for name in {names}:
    vars(module).pop(name, None)
"""


@pytest.fixture
def with_pycocotools(tmp_path):
    """A stand-in that switches MMPretrain's multimodal parts on."""
    package = tmp_path / 'pycocotools'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'coco.py').write_text('COCO = None\n')
    info = tmp_path / 'pycocotools-2.0.8.dist-info'
    info.mkdir()
    (info / 'METADATA'
     ).write_text('Metadata-Version: 2.1\nName: pycocotools\nVersion: 2.0.8\n')
    return str(tmp_path)


def run(code, *folders):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([*folders, str(ROOT)]))
    return subprocess.run([sys.executable, '-c', code],
                          env=env,
                          cwd='/',
                          capture_output=True,
                          text=True)


def test_installed_release(with_pycocotools):
    done = run('import transmamba_mm\n' + IMPORT_ALL, with_pycocotools)
    assert 'ALL IMPORTED' in done.stdout, done.stderr


def test_release_without_the_names(with_pycocotools):
    """As in newer releases, the names are gone from their old place."""
    names = [*MOVED, 'find_pruneable_heads_and_indices']
    code = WITHOUT.format(names=names) + IMPORT_ALL
    done = run(code, with_pycocotools)
    assert 'ALL IMPORTED' in done.stdout, done.stderr


@pytest.mark.skipif(not NEWEST, reason='no newer Transformers is given')
def test_newest_release(with_pycocotools):
    code = ('import transmamba_mm, transformers\n'
            f'assert transformers.__file__.startswith({NEWEST!r})\n')
    done = run(code + IMPORT_ALL, NEWEST, with_pycocotools)
    assert 'ALL IMPORTED' in done.stdout, done.stderr


def test_names_are_added():
    module = types.ModuleType('transformers.modeling_utils')
    module.prune_linear_layer = 'its own'
    module.__getattr__ = {'lazy': 7}.__getitem__
    add_moved_names(module)
    assert module.prune_linear_layer == 'its own'
    assert module.lazy == 7
    from transformers.generation import GenerationMixin
    assert module.GenerationMixin is GenerationMixin
    bare = types.ModuleType('bare')
    add_moved_names(bare)
    with pytest.raises(AttributeError, match="'bare'.*'other'"):
        bare.other


def test_pruneable_heads():
    """Heads 0 and 3 of four go; 1 has gone before."""
    heads, index = find_pruneable_heads_and_indices([0, 1, 3], 3, 2, {1})
    assert heads == {0, 3}
    assert torch.equal(index, torch.tensor([2, 3]))
    pytorch_utils = pytest.importorskip('transformers.pytorch_utils')
    theirs = getattr(pytorch_utils, 'find_pruneable_heads_and_indices', None)
    if theirs is not None:
        expected = theirs([0, 1, 3], 3, 2, {1})
        assert heads == expected[0] and torch.equal(index, expected[1])
