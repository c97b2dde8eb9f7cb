"""The recipes of text-video retrieval parse, build, and fit their data."""
import json
import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.apis.model import ModelHub

import transmamba_mm  # noqa: F401  (registers the index)
from .command import ROOT, run_python

FOLDER = ROOT / 'configs/transmamba/retrieval'
RECIPES = sorted(str(p.relative_to(ROOT)) for p in FOLDER.glob('*.py'))
SUBCLONE = 'transmamba_mm.WeightSubcloneHook'
EXPORT = 'transmamba_mm.ExportOpenCLIPHook'
DISTILL = 'transmamba_mm.BidirectionalDistillHook'

# Runs in a clean process, in the project's root.
INSPECT = """
import json, sys
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
rows = {}
for path in sys.argv[1:]:
    cfg = Config.fromfile(path)
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decayed = {id(p) for group in wrapper.param_groups
               if group['weight_decay'] for p in group['params']}
    rows[path] = dict(
        name=type(model).__name__,
        head=type(model.head).__name__,
        rgb=model.data_preprocessor.takes_rgb,
        max_length=model.text_tower.max_length,
        frames=model.backbone.num_frames,
        size=getattr(model.backbone, 'img_size', None),
        pipelines=[cfg.train_dataloader.dataset.pipeline,
                   cfg.test_dataloader.dataset.pipeline],
        crop=cfg.data_preprocessor.get('crop_size'),
        hooks=cfg.get('custom_hooks', []),
        default_hooks=list(cfg.default_hooks),
        distiller=cfg.model.get('distiller'),
        text=cfg.model.text_tower.get('pretrained'),
        teacher=cfg.get('teacher'),
        rerank=cfg.val_evaluator.get('rerank_topk', 0),
        batch=cfg.train_dataloader.batch_size,
        base_batch=cfg.auto_scale_lr.base_batch_size,
        epochs=cfg.train_cfg.max_epochs,
        parameters=sum(p.numel() for n, p in model.named_parameters()
                       if not n.startswith('distiller.')),
        decayed=[n for n, p in model.named_parameters() if id(p) in decayed])
print('JSON' + json.dumps(rows))
"""


@pytest.fixture(scope='module')
def rows():
    output = run_python('-c', INSPECT, *RECIPES)
    return json.loads(output[output.rindex('JSON') + 4:])


@pytest.mark.parametrize('path', RECIPES)
def test_recipe_agrees_with_its_name(rows, path):
    row, stem = rows[path], Path(path).stem
    gpus, batch, epochs = map(
        int,
        re.search(r'_(\d+)xb(\d+)-(\d+)e_', stem).groups())
    assert (row['batch'], row['epochs']) == (batch, epochs)
    assert row['base_batch'] == gpus * batch
    assert len((ROOT / path).read_text().splitlines()) <= 40
    hooks = {hook['type'] for hook in row['hooks']}
    assert hooks == dict(
        subclone={SUBCLONE}, distill={DISTILL},
        transmamba={SUBCLONE, DISTILL}).get(
            stem.split('_')[0], {EXPORT} if stem[:4] == 'clip' else set())
    distils = DISTILL in hooks
    assert (row['name'] == 'DistillTextVideoRetrieval') == distils
    head = 'CrossMambaHead' if '_cross-mamba_' in stem else (
        'SequenceHead' if '_seq_' in stem else 'MeanPoolHead')
    assert row['head'] == head
    assert bool(row['rerank']) == (head == 'CrossMambaHead')
    assert row['text'] == (row['teacher'] if SUBCLONE in hooks else None)


@pytest.mark.parametrize('path', RECIPES)
def test_recipe_fits_its_data(rows, path):
    row = rows[path]
    assert row['rgb']
    assert {'rerank', 'video_report'} <= set(row['default_hooks'])
    for pipeline, crop in zip(row['pipelines'], (row['crop'], None)):
        steps = {step['type'].split('.')[-1]: step for step in pipeline}
        assert steps['LoadVideo']['num_frames'] == row['frames']
        assert steps['TokenizeText']['max_length'] <= row['max_length']
        size = steps.get('CropClip', steps.get('ResizeClip'))
        size = crop or size.get('size', size.get('scale'))
        size = [size, size] if isinstance(size, int) else size
        assert row['size'] in (None, size)


@pytest.mark.parametrize('path', RECIPES)
def test_state_space_parameters_do_not_decay(rows, path):
    free = re.compile(
        r'(A_log|A_b_log|\.D|\.D_b|bias|pos_embed|cls_token|gate|'
        r'logit_scale|positional_embedding|norm[^.]*\.weight)$')
    decayed = rows[path]['decayed']
    assert not [name for name in decayed if free.search(name)]
    assert any(name.startswith('backbone.') for name in decayed)


@pytest.mark.parametrize('path', [r for r in RECIPES if '-pre_' in r])
def test_recipe_fits_its_teacher(rows, path):
    """A teacher of our own comes out of the recipe with its name."""
    teacher = rows[path]['teacher']
    if teacher.startswith('work_dirs/'):
        _, name, folder = teacher.split('/')
        assert f'configs/transmamba/retrieval/{name}.py' in rows
        assert folder == 'open_clip'


def test_index_lists_every_recipe(rows):
    """With the parameters that the trained model has."""
    for path, row in rows.items():
        info = ModelHub.get(Path(path).stem)
        assert info.weights is None
        assert info.metadata.parameters == row['parameters']


def make_clips(root, count=6):
    """Write a small data set as the converter does."""
    (root / 'clips').mkdir(parents=True)
    rows = []
    for i in range(count):
        frames = np.full((8, 16, 16, 3), 30 * i, np.uint8)
        np.save(root / f'clips/{i}.npy', frames)
        rows.append(dict(video=str(i), caption=f'grey of level {i}'))
    for part in ('train', 'val', 'test'):
        (root / f'{part}.jsonl').write_text('\n'.join(map(json.dumps, rows)))


def make_teacher(folder):
    """Write a small CLIP as the export does."""
    cfg = dict(
        embed_dim=24,
        vision_cfg=dict(
            image_size=16, layers=2, width=48, head_width=16, patch_size=4),
        text_cfg=dict(
            context_length=16, vocab_size=49408, width=32, heads=2, layers=1))
    folder.mkdir()
    (folder / 'open_clip_config.json').write_text(
        json.dumps(dict(model_cfg=cfg)))
    torch.save(
        open_clip.CLIP(**cfg).state_dict(), folder / 'open_clip_model.pth')


def test_whole_recipe_trains_and_tests(tmp_path, monkeypatch):
    """Clone, distil, validate with re-ranking, and test from the file."""
    make_clips(tmp_path / 'data')
    make_teacher(tmp_path / 'clip')
    monkeypatch.setenv('TEACHER', str(tmp_path / 'clip'))
    cfg = Config.fromfile(
        FOLDER / 'transmamba_videomamba-tiny-64_cross-mamba_clip-tiny-64-pre_'
        '1xb64-30e_motion-captions.py')
    loader = dict(
        batch_size=3,
        num_workers=0,
        persistent_workers=False,
        dataset=dict(data_root=str(tmp_path / 'data')))
    cfg.merge_from_dict(
        dict(
            train_dataloader=loader,
            val_dataloader=loader,
            test_dataloader=loader,
            train_cfg=dict(max_epochs=1, val_interval=1),
            work_dir=str(tmp_path / 'run'),
            model=dict(
                backbone=dict(
                    img_size=16,
                    patch_size=4,
                    arch=dict(embed_dims=32, num_layers=2, d_state=4)),
                text_tower=dict(
                    arch=dict(width=32, heads=2, layers=1, output_dim=24)),
                head=dict(num_candidates=3),
                distiller=dict(teacher_dims=48, teacher_depth=2))))
    for part in (cfg.train_dataloader, cfg.val_dataloader,
                 cfg.test_dataloader):
        part.dataset.pipeline[1].scale = 16
    for schedule in cfg.param_scheduler:
        schedule.pop('end', None)
        schedule.pop('begin', None)
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    for name in ('train/distill.loss_similarity', 'train/rerank',
                 'val/retrieval/t2v_R@1', 'val/retrieval/t2v_rerank_R@1'):
        assert np.isfinite(scalars[name].current())
    cfg.load_from = str(tmp_path / 'run/epoch_1.pth')
    # the test needs neither the teacher nor its weights
    monkeypatch.setenv('TEACHER', '/nowhere')
    cfg.model.text_tower.pretrained = '/nowhere'
    cfg.experiment_name = 'test_alone'
    result = Runner.from_cfg(cfg).test()
    assert result['retrieval/chance_R@1'] == pytest.approx(100 / 6)
    assert 0 <= result['retrieval/v2t_rerank_R@5'] <= 100
