"""The data configs of visual questions build and run on small files."""
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, TRANSFORMS
from torch import Tensor

from transmamba_mm.datasets.vqa import build_word_tokenizer, get_template
from transmamba_mm.registry import METRICS, MODELS
from .command import ROOT, run_python
from .vqa_toy import TEXTS, write_easy_vqa, write_images

FOLDER = Path(ROOT) / 'configs/_base_/datasets'
NAMES = ('llava-pretrain', 'llava-instruct', 'llava-cot', 'vqav2', 'gqa',
         'vizwiz', 'textvqa', 'scienceqa', 'easy-vqa', 'daquar')


def load(name, tokenizer):
    cfg = Config.fromfile(str(FOLDER / f'{name}.py'))
    for loader in ('train', 'val', 'test'):
        dataset = cfg.get(f'{loader}_dataloader', {}).get('dataset')
        for step in dataset.pipeline if dataset else ():
            if 'tokenizer' in step:
                step.tokenizer = tokenizer
    return cfg


@pytest.fixture
def tokenizer(tmp_path):
    folder = str(tmp_path / 'tokenizer')
    build_word_tokenizer(TEXTS, folder)
    return folder


@pytest.mark.parametrize('name', NAMES)
def test_parts_build(name, tokenizer):
    cfg = load(name, tokenizer)
    MODELS.build(cfg.data_preprocessor)
    for loader in ('train', 'val', 'test'):
        if f'{loader}_dataloader' not in cfg:
            assert name.startswith('llava') and loader != 'train'
            continue
        dataset = cfg[f'{loader}_dataloader'].dataset
        steps = [TRANSFORMS.build(step) for step in dataset.pipeline]
        assert type(steps[-1]).__name__ == 'PackConversation'
        for_answer = [s.for_answer for s in steps if hasattr(s, 'for_answer')]
        assert for_answer == [loader != 'train']
        assert steps[-2].template is get_template(
            dict(zip(NAMES, ['plain'])).get(name)
            or ('short' if name in ('easy-vqa', 'daquar') else 'v1'))
        assert DATASETS.get(dataset.type) is not None
        assert bool(dataset.get('test_mode')) == (loader != 'train')
    evaluators = cfg.get('val_evaluator', [])
    for one in evaluators if isinstance(evaluators, list) else [evaluators]:
        METRICS.build(one)


def test_easy_vqa_from_files_to_batch(tmp_path, tokenizer):
    """Words to tokenizer by the tool, then batches by the config."""
    write_easy_vqa(tmp_path)
    folder = str(tmp_path / 'made')
    config = str(FOLDER / 'easy-vqa.py')
    run_python('tools/dataset_converters/word_tokenizer.py', config, folder,
               '--cfg-options',
               f'train_dataloader.dataset.data_root={tmp_path}',
               'train_dataloader.dataset.val_images=1')
    cfg = load('easy-vqa', folder)
    preprocess = MODELS.build(cfg.data_preprocessor)
    for loader, count in dict(train=3, val=1, test=4).items():
        part = cfg[f'{loader}_dataloader']
        part.dataset.data_root = str(tmp_path)
        if loader != 'test':
            part.dataset.val_images = 1
        part.update(batch_size=1, num_workers=0, persistent_workers=False)
        data = Runner.build_dataloader(part)
        assert len(data) == count
        batch = preprocess(next(iter(data)))
        assert batch['inputs']['images'].abs().max() <= 1
        assert (batch['inputs']['labels'] is None) == (loader != 'train')
        if loader == 'train':
            unknown = data.dataset.pipeline.transforms[1].tokenizer
            assert unknown.unk_token_id not in batch['inputs']['input_ids']


def test_daquar_small_run(tmp_path, tokenizer):
    write_images(tmp_path / 'images')
    rows = [
        dict(image=f'{i}.png', question='what', answer=str(i))
        for i in range(3)
    ]
    for split in ('train', 'val'):
        (tmp_path / f'{split}.json').write_text(json.dumps(rows))
    cfg = load('daquar', tokenizer)
    dataset = DATASETS.build(
        dict(cfg.train_dataloader.dataset, data_root=str(tmp_path)))
    sizes = {tuple(sample['inputs'].shape) for sample in dataset}
    assert sizes == {(3, 80, 80)}


def test_workers_give_batches_without_open_files(tmp_path, tokenizer):
    """A tensor from a worker holds a file open: texts must not."""
    write_easy_vqa(tmp_path)
    part = load('easy-vqa', tokenizer).test_dataloader
    part.dataset.data_root = str(tmp_path)
    part.update(batch_size=4, num_workers=1, persistent_workers=False)
    batch = next(iter(Runner.build_dataloader(part)))
    kept = [
        value for sample in batch['data_samples']
        for value in sample.to_dict().values() if isinstance(value, Tensor)
    ]
    assert not kept and len(batch['data_samples']) == 4
