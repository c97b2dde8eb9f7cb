"""The data configs of retrieval read data laid out as the docs say."""
import json

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS

from ..command import ROOT
from .video_clips import make_frames, write_video

FOLDER = ROOT / 'configs/_base_/datasets'


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_data(root, name):
    """Lay a benchmark out as its users have it."""
    videos = root / 'videos'
    if name.startswith('msrvtt'):
        write(
            root / 'MSRVTT_data.json',
            json.dumps(
                dict(
                    videos=[dict(video_id='v0', split='train')],
                    sentences=[dict(video_id='v0', caption='a dog')])))
        write(root / f'MSRVTT_train.{name[-2:]}.csv', 'video_id\nv0\n')
        write(root / 'MSRVTT_JSFUSION_test.csv',
              'key,vid_key,video_id,sentence\nret0,msr1,v1,a cat\n')
    elif name == 'didemo':
        for number, part in enumerate(['train', 'val', 'test']):
            row = dict(video=f'v{number}.mp4', description='a dog')
            write(root / f'{part}_data.json', json.dumps([row]))
    elif name == 'msvd':
        write(root / 'AllVideoDescriptions.txt', 'v0 a dog\nv1 b\nv2 c\n')
        for number, part in enumerate(['train', 'val', 'test']):
            write(root / f'{part}_list.txt', f'v{number}\n')
    else:
        videos = root / 'clips'
        for number, part in enumerate(['train', 'val', 'test']):
            row = dict(video=f'v{number}', caption=['a dog'])
            write(root / f'{part}.jsonl', json.dumps(row))
    videos.mkdir()
    for number in range(3):
        write_video(videos / f'v{number}.mp4', make_frames(9))


@pytest.mark.parametrize('name', [
    'msrvtt-7k', 'msrvtt-9k', 'didemo', 'msvd', 'exercises', 'motion-captions'
])
def test_config(tmp_path, name):
    cv2.setRNGSeed(0)
    np.random.seed(0)
    make_data(tmp_path, name)
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    sides = {'exercises': 112, 'motion-captions': 64}
    side = sides.get(name, 224)
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.dataset.data_root = str(tmp_path)
        dataset = DATASETS.build(loader.dataset)
        assert dataset.test_mode == (part != 'train')
        sample = dataset[0]
        own = 128 if (name, part) == ('exercises', 'train') else side
        assert sample['inputs'].shape == (3, 8, own, own)
        text = sample['data_samples'].text
        assert text['attention_mask'].sum() >= 3
    METRICS.build(cfg.test_evaluator)
    preprocess = MODELS.build(cfg.data_preprocessor)
    batch = preprocess(
        dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))
    assert batch['inputs'].shape == (1, 3, 8, side, side)
    assert batch['data_samples'][0].caption
