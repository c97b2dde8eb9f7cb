"""Clips that are read once and given as whole batches."""
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from transmamba_mm.datasets import keep_batch
from transmamba_mm.utils.text_batch import stack_groups, stack_texts
from .test_video_text_dataset import log  # noqa: F401
from .test_video_text_dataset import PIPELINE, build, make_table, make_videos

ROWS = [
    dict(video='a', caption=['a dog', 'a wet dog']),
    dict(video='b', caption='a cat'),
    dict(video='c', caption='a dog'),
]


def cached(root, **kwargs):
    kwargs.setdefault('pipeline', PIPELINE)
    return DATASETS.build(
        dict(
            type='transmamba_mm.CachedVideoTextDataset',
            data_root=str(root),
            data_prefix=dict(video='videos'),
            **kwargs))


@pytest.fixture
def root(tmp_path):
    for i, name in enumerate('abc'):
        make_videos(tmp_path, name, count=6)
        path = tmp_path / 'videos' / f'{name}.npy'
        np.save(path, np.load(path) + np.uint8(i))
    make_table(tmp_path, ROWS)
    return tmp_path


def test_batches_are_those_of_the_plain_dataset(root):
    """Same clips, tokens and groups; four samples of three clips."""
    plain = build(root, ann_file='train.jsonl', test_mode=True)
    loader = DataLoader(
        cached(root, ann_file='train.jsonl'),
        batch_size=4,
        collate_fn=keep_batch)
    batch, = loader
    samples = [plain[i] for i in range(4)]
    assert torch.equal(batch['inputs'],
                       torch.stack([s['inputs'] for s in samples]))
    one = [s['data_samples'] for s in samples]
    for name, tokens in stack_texts(one, 'cpu').items():
        assert torch.equal(batch['data_samples'][0].text[name], tokens)
    assert torch.equal(batch['data_samples'][0].groups, stack_groups(one))
    assert len(loader.dataset._clips) == 3


def test_tests_get_one_sample_a_clip(root):
    plain = build(root, ann_file='train.jsonl', test_mode=True)
    dataset = cached(root, ann_file='train.jsonl', test_mode=True)
    batch = dataset.__getitems__([0, 3])
    for index, sample in zip((0, 3), batch['data_samples']):
        other = plain[index]['data_samples']
        assert sample.video_id == other.video_id
        assert sample.caption == other.caption
        assert sample.metainfo == other.metainfo


def test_a_random_caption_each_time(root):
    dataset = cached(root, ann_file='train.jsonl', captions='random')
    assert len(dataset) == 3
    seen = {tuple(dataset[0]['data_samples'].groups[0]) for _ in range(40)}
    assert len({caption.item() for _, caption in seen}) == 2


def test_broken_clips_are_left_out_of_training(root, log):  # noqa: F811
    (root / 'videos' / 'b.npy').write_bytes(b'no array')
    dataset = cached(root, ann_file='train.jsonl')
    assert len(dataset) == 3
    assert '1 videos cannot be read and are left out' in log.text
    assert 'b.npy' in log.text
    batch = dataset.__getitems__(range(3))
    assert batch['inputs'].shape[0] == 3


def test_broken_clips_are_black_in_tests(root):
    path = root / 'videos' / 'b.npy'
    path.write_bytes(b'')
    dataset = cached(root, ann_file='train.jsonl', test_mode=True)
    assert len(dataset) == 4
    sample = dataset[2]
    assert not sample['inputs'].any()
    told = sample['data_samples'].metainfo['unreadable_videos']
    assert told == [str(path)]


def test_cut_captions_are_counted_once(root, log):  # noqa: F811
    rows = [dict(video=v, caption='word ' * 20) for v in 'ab']
    make_table(root, [*rows, ROWS[2]], 'long.jsonl')
    cached(root, ann_file='long.jsonl')
    assert '1 captions are longer than `max_length`' in log.text


@pytest.mark.parametrize('pipeline, message', [
    ([PIPELINE[0], *PIPELINE[2:]], 'add ResizeClip and CropClip'),
    ([*PIPELINE[:2], PIPELINE[3]], 'holds no TokenizeText'),
])
def test_pipelines_that_do_not_fit(root, pipeline, message):
    np.save(root / 'videos' / 'c.npy', np.zeros((6, 9, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=message):
        cached(root, ann_file='train.jsonl', pipeline=pipeline)


def test_nothing_can_be_read(root):
    for name in 'abc':
        (root / 'videos' / f'{name}.npy').write_bytes(b'')
    with pytest.raises(ValueError, match='none of the 4 videos'):
        cached(root, ann_file='train.jsonl')
    MMLogger.get_current_instance()
