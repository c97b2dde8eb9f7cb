"""Every config parses by its relative path, builds, and keeps its name."""
import json
import re
from inspect import signature
from pathlib import Path

import mmpretrain
import pytest
import yaml
from mmengine.config import Config
from mmpretrain.apis.model import ModelHub

from transmamba_mm.model_index import register_models
from transmamba_mm.registry import DATASETS, HOOKS, MODELS
from .command import ROOT, run_python

RECIPES = sorted(
    str(p.relative_to(ROOT))
    for p in (ROOT / 'configs/transmamba').glob('*.py'))
BASES = sorted(
    str(p.relative_to(ROOT)) for p in (ROOT / 'configs/_base_').rglob('*.py'))
SUBCLONE = 'transmamba_mm.WeightSubcloneHook'
DISTILL = 'transmamba_mm.BidirectionalDistillHook'

# Runs in a clean process, in the project's root.
INSPECT = """
import json, sys
from mmengine.config import Config
rows = {}
for path in sys.argv[1:]:
    cfg = Config.fromfile(path)
    rows[path] = row = dict(keys=sorted(cfg.keys()))
    if '_base_' in path:
        continue
    import torch
    from mmengine.optim import build_optim_wrapper
    from mmpretrain.registry import MODELS
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decayed = {id(p) for group in wrapper.param_groups
               if group['weight_decay'] for p in group['params']}
    row.update(
        name=type(model).__name__,
        width=model.backbone.embed_dims,
        depth=model.backbone.num_layers,
        classes=model.head.num_classes,
        data_classes=cfg.data_preprocessor.num_classes,
        distiller=cfg.model.get('distiller'),
        hooks=cfg.get('custom_hooks', []),
        teacher=cfg.get('teacher_checkpoint'),
        train_set=cfg.train_dataloader.dataset,
        batch=cfg.train_dataloader.batch_size,
        base_batch=cfg.auto_scale_lr.base_batch_size,
        epochs=cfg.train_cfg.max_epochs,
        imports=cfg.custom_imports.imports,
        checkpoint_hook=cfg.default_hooks.checkpoint.type,
        decayed=[n for n, p in model.named_parameters() if id(p) in decayed])
print('JSON' + json.dumps(rows))
"""


def inspect(*paths, **env):
    output = run_python('-c', INSPECT, *paths, **env)
    return json.loads(output[output.rindex('JSON') + 4:])


@pytest.fixture(scope='module')
def rows():
    """What a clean process sees in every config."""
    return inspect(*BASES, *RECIPES)


ALL_DATA = ('in1k', 'in100', 'cifar100', 'cifar10', 'cifar10-folder', 'digits')
STUDENTS = dict(
    plainmamba=ALL_DATA,
    vim=ALL_DATA,
    videomamba=('in1k', 'cifar10-folder'),
    **{
        f'vmamba-{arch}': ('in1k', )
        for arch in ('s1l8-t', 's1l20-s', 's1l20-b')
    },
    **{'vmamba-tiny-32': ('cifar10-folder', )},
)


@pytest.mark.parametrize('family', STUDENTS)
def test_a_student_has_the_four_recipes_for_its_data(family):
    names = [Path(r).stem for r in RECIPES]
    for data in STUDENTS[family]:
        found = [
            n for n in names if n.endswith(f'_{data}')
            and re.match(rf'([a-z]+_)?{family}[-_]', n)
        ]
        algorithms = sorted(
            n.split('_')[0] if not n.startswith(family) else '' for n in found)
        assert algorithms == ['', 'distill', 'subclone', 'transmamba']


@pytest.mark.parametrize('path', BASES)
def test_base_parses(rows, path):
    assert rows[path]['keys']


@pytest.mark.parametrize('path', RECIPES)
def test_recipe_is_a_short_difference(path):
    lines = (ROOT / path).read_text().splitlines()
    assert len(lines) <= 40


@pytest.mark.parametrize('path', RECIPES)
def test_recipe_agrees_with_its_name(rows, path):
    row, stem = rows[path], Path(path).stem
    gpus, batch, epochs = map(
        int,
        re.search(r'_(\d+)xb(\d+)-(\d+)e_', stem).groups())
    assert (row['batch'], row['epochs']) == (batch, epochs)
    assert row['base_batch'] == gpus * batch
    hooks = {hook['type'] for hook in row['hooks']}
    expected = dict(
        subclone={SUBCLONE}, distill={DISTILL},
        transmamba={SUBCLONE, DISTILL}).get(stem.split('_')[0], set())
    assert hooks & {SUBCLONE, DISTILL} == expected
    distils = DISTILL in expected
    assert (row['name'] == 'DistillClassifier') == distils
    assert ('-pre_' in stem) == bool(expected)


@pytest.mark.parametrize('path', RECIPES)
def test_recipe_is_complete(rows, path):
    row = rows[path]
    assert row['classes'] == row['data_classes']
    assert row['train_set']['type'] == 'transmamba_mm.ClassBalancedSubset'
    assert row['train_set']['fraction'] == 1.0
    assert row['imports'] == ['transmamba_mm']
    assert row['checkpoint_hook'] == 'transmamba_mm.ResumableCheckpointHook'


@pytest.mark.parametrize('path', RECIPES)
def test_state_space_parameters_do_not_decay(rows, path):
    free = re.compile(r'(A_logs?|A_b_log|\.Ds?|\.D_b|bias|pos_embed|cls_token|'
                      r'direction_Bs|norm[^.]*\.weight|ln1\.weight)$')
    decayed = rows[path]['decayed']
    assert not [name for name in decayed if free.search(name)]
    assert 'backbone.layers.0.' in ' '.join(decayed)


@pytest.mark.parametrize('path', [r for r in RECIPES if '-pre_' in r])
def test_recipe_fits_its_teacher(rows, path):
    """Its width and depth are the teacher's; its file is what that writes."""
    row = rows[path]
    checkpoints = [
        hook.get('checkpoint') or hook['teacher']['checkpoint']
        for hook in row['hooks']
    ]
    assert set(checkpoints) == {row['teacher']}
    if row['teacher'].startswith('http'):
        width, depth = 384, 12
        assert '/deit-small_' in row['teacher']
    else:
        folder, name = row['teacher'].split('/')[1:]
        teacher = rows[f'configs/transmamba/{folder}.py']
        width, depth = teacher['width'], teacher['depth']
        assert name == f'epoch_{teacher["epochs"]}.pth'
        for hook in row['hooks']:
            if hook['type'] == DISTILL:
                assert Path(hook['teacher']['config']).samefile(
                    ROOT / f'configs/transmamba/{folder}.py')
    if row['distiller']:
        assert row['distiller']['teacher_dims'] == width
        assert row['distiller']['teacher_depth'] == depth


def test_teacher_comes_from_the_environment():
    path = next(r for r in RECIPES if r.split('/')[-1].startswith('transm'))
    row = inspect(path, TEACHER='/a b/deit.pth')[path]
    assert row['teacher'] == '/a b/deit.pth'
    assert [
        h.get('checkpoint') or h['teacher']['checkpoint'] for h in row['hooks']
    ] == ['/a b/deit.pth'] * 2


def test_index_lists_every_recipe():
    names = {Path(r).stem for r in RECIPES}
    assert names <= set(mmpretrain.list_models('*'))
    name = 'vim-nano-16_1xb64-20e_digits'
    info = ModelHub.get(name)
    assert info.weights is None
    assert mmpretrain.get_model(name).backbone.embed_dims == 64


def test_registering_the_index_again_is_harmless():
    register_models()


@pytest.mark.parametrize('option', [
    'custom_hooks.0.plan=linear', 'model.distiller.features=block',
    'model.distiller.variant=paper_v1', 'model.distiller.logit_weight=1.0',
    'custom_hooks.1.warmup_epochs=5', 'train_dataloader.dataset.fraction=0.75'
])
def test_options_of_the_readme_exist(option):
    """Each changes an argument that the class behind it takes."""
    key, value = option.split('=')
    assert key in (ROOT / 'configs/transmamba/README.md').read_text()
    cfg = Config.fromfile(
        ROOT / 'configs/transmamba/'
        'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits.py')
    cfg.merge_from_dict({key: yaml.safe_load(value)})
    node = cfg
    for part in key.split('.')[:-1]:
        node = node[int(part)] if part.isdigit() else node[part]
    name, kind = key.split('.')[-1], node['type'].split('.')[-1]
    owner = next(
        registry.get(kind) for registry in (MODELS, HOOKS, DATASETS)
        if registry.get(kind) is not None)
    assert name in signature(owner).parameters
