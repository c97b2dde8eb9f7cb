"""The recipes of visual questions: they fit their teachers, and they run."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from transmamba_mm.datasets.vqa import build_word_tokenizer
from transmamba_mm.registry import MODELS
from .command import ROOT
from .vqa_toy import TEXTS, write_easy_vqa

FOLDER = Path(ROOT) / 'configs/transmamba/vqa'
RECIPES = sorted(p.name for p in FOLDER.glob('*.py'))
DISTILL = 'transmamba_mm.BidirectionalDistillHook'
CLONE = 'transmamba_mm.WeightSubcloneHook'


def load(name):
    return Config.fromfile(str(FOLDER / name))


def length(cfg):
    train = cfg.train_cfg
    return f'epoch_{train.max_epochs}' if train.by_epoch else \
        f'iter_{train.max_iters}'


def language_sizes(cfg):
    """Width, depth and words; of Llama-3.2-1B as it is published."""
    language = cfg.model.language_model
    if 'pretrained' in language:
        assert language.pretrained == 'checkpoints/Llama-3.2-1B'
        return 2048, 16, 128256
    own = language.config
    return own.hidden_size, own.num_hidden_layers, own.vocab_size


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_fits_what_it_starts_from(name):
    cfg = load(name)
    assert len((FOLDER / name).read_text().splitlines()) <= 40
    assert cfg.model.tokenizer == cfg.train_pipeline[-2]['tokenizer']
    given = [cfg.get('load_from'), cfg.get('teacher_checkpoint')]
    for path in filter(None, given):
        _, folder, file = path.split('/')
        other = load(f'{folder}.py')
        assert file == f'{length(other)}.pth', path
    hooks = {hook.type: hook for hook in cfg.get('custom_hooks', [])}
    wanted = dict(
        subclone=[CLONE], distill=[DISTILL]).get(
            name.split('_')[0], [CLONE] if '_llava-1b-pre_' in name else [])
    if name.startswith('transmamba'):  # cloned before, where it goes on
        wanted = [DISTILL] if given[0] else [CLONE, DISTILL]
    assert list(hooks) == wanted
    if wanted:
        teacher = load(given[1].split('/')[1] + '.py')
        width, depth, words = language_sizes(teacher)
        assert language_sizes(cfg)[2] == words
        heads = teacher.model.language_model.get('config', {}).get(
            'num_attention_heads', 32)
        if CLONE in hooks:
            assert hooks[CLONE].plan.num_heads == heads
    if DISTILL in hooks:
        assert Path(hooks[DISTILL].teacher.config).stem == \
            given[1].split('/')[1]
        distiller = cfg.model.distiller
        assert (distiller.teacher_dims, distiller.teacher_depth) == (width,
                                                                     depth)


def test_both_stages_freeze_what_llava_freezes():
    for size in ('llava-1b', 'transllava-0.6b_llava-1b-pre'):
        first = load(f'{size}_8xb32-1e_llava-pretrain.py').model
        assert set(first['freeze']) == {'vision_tower', 'language_model'}
    for name in ('llava-1b', 'transllava-0.6b'):
        second = load(f'{name}_8xb16-1e_llava-instruct.py').model
        assert tuple(second.get('freeze',
                                ('vision_tower', ))) == ('vision_tower', )
    lora = load('transllava-0.6b-lora_8xb16-1e_llava-instruct.py').model
    assert lora.language_model.lora.r == 128


def test_student_has_the_papers_size():
    cfg = load('transllava-0.6b_8xb16-1e_llava-instruct.py')
    from transmamba_mm.models.multimodal.language_models import \
        build_language_model
    with torch.device('meta'):
        model = build_language_model(**cfg.model.language_model)
    million = sum(p.numel() for p in model.parameters()) / 1e6
    assert 600 < million < 630


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A small easy-VQA, its tokenizer, and the sizes of a small run."""
    root = tmp_path_factory.mktemp('vqa')
    write_easy_vqa(root)
    questions = json.loads((root / 'train/questions.json').read_text())
    words = TEXTS + [word for row in questions for word in row[:2]]
    build_word_tokenizer(words, str(root / 'tokenizer'))
    return root


def small(name, data, **options):
    """A recipe for that data, a few layers, one epoch."""
    cfg = load(name)
    for loader in ('train', 'val', 'test'):
        part = cfg[f'{loader}_dataloader']
        part.update(num_workers=0, persistent_workers=False, batch_size=2)
        part.dataset.data_root = str(data)
        if 'val_images' in part.dataset:
            part.dataset.val_images = 1
        for step in part.dataset.pipeline:
            if 'tokenizer' in step:
                step.tokenizer = str(data / 'tokenizer')
        part.dataset.pipeline.insert(1, dict(type='Resize', scale=(64, 64)))
    cfg.model.tokenizer = str(data / 'tokenizer')
    cfg.model.vision_tower.backbone.patch_size = 32
    cfg.model.vision_tower.backbone.arch.num_layers = 1
    cfg.val_evaluator.train_dataset.update(data_root=str(data), val_images=1)
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = None
    cfg.merge_from_dict(options)
    return cfg


def train(cfg, work_dir):
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir).replace('/', '_')
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope='module')
def teacher(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('teacher')
    cfg = small('llava-tiny-64_1xb128-12e_easy-vqa.py', data)
    runner = train(cfg, folder)
    assert 'val/vqa/question_only_acc' in runner.message_hub.log_scalars
    cfg.dump(str(folder / 'teacher.py'))
    return folder


@pytest.mark.parametrize('method, keys',
                         [('subclone', ['loss']), ('distill', []),
                          ('transmamba', ['distill.loss_feat'])])
def test_recipe_trains(data, teacher, tmp_path, method, keys):
    name = next(
        n for n in RECIPES
        if n.startswith(method) and n.endswith('easy-vqa.py'))
    cfg = small(name, data)
    for hook in cfg.custom_hooks:
        if hook.type == CLONE:
            hook.checkpoint = str(teacher / 'epoch_1.pth')
        else:
            hook.teacher.update(
                checkpoint=str(teacher / 'epoch_1.pth'),
                config=str(teacher / 'teacher.py'))
    runner = train(cfg, tmp_path / 'run')
    scalars = runner.message_hub.log_scalars
    assert all(f'train/{key}' in scalars for key in keys)
    assert ('train/distill.loss_answer' in scalars) == (method != 'subclone')
    report = tmp_path / 'run' / 'subclone_report.json'
    assert report.is_file() == (method != 'distill')
    if report.is_file():
        rows = {r['tensor']: r for r in json.loads(report.read_text())['rows']}
        assert rows['embeddings.weight']['action'] == 'copied'
        assert rows['layers.3.mixer.x_proj.weight']['action'] == 'factorised'
        assert rows['projector.0.weight']['action'] == 'copied'
    plain = small('transllava-tiny-64_1xb128-6e_easy-vqa.py', data)
    model = MODELS.build(plain.model)
    saved = torch.load(
        tmp_path / 'run' / 'epoch_1.pth', weights_only=False)['state_dict']
    result = model.load_state_dict(saved, strict=False)
    assert not result.missing_keys
    assert all(k.startswith('distiller.') for k in result.unexpected_keys)
