import copy
import json
import logging
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from transmamba_mm.datasets import VideoTextDataset
from transmamba_mm.datasets.transforms import load_video
from .video_clips import make_frames, numbers, write_folder, write_video

PIPELINE = [
    dict(type='transmamba_mm.LoadVideo', num_frames=3),
    dict(type='transmamba_mm.ResizeClip', scale=(8, 8)),
    dict(
        type='transmamba_mm.TokenizeText',
        tokenizer=dict(type='words', vocab_size=100),
        max_length=8),
    dict(type='transmamba_mm.PackVideoText')
]


@pytest.fixture
def log(caplog):
    """Catch what print_log writes."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        yield caplog
    logger.removeHandler(caplog.handler)


def make_videos(root, names, count=6):
    """Write videos as arrays."""
    for name in names:
        path = root / 'videos' / f'{name}.npy'
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make_frames(count))


def make_table(root, rows, name='train.jsonl'):
    path = root / name
    path.write_text('\n'.join(json.dumps(row) for row in rows))
    return name


def build(root, **kwargs):
    kwargs.setdefault('pipeline', PIPELINE)
    return DATASETS.build(
        dict(
            type='transmamba_mm.VideoTextDataset',
            data_root=str(root),
            data_prefix=dict(video='videos'),
            **kwargs))


def pairs(dataset):
    return [(info['video_id'], info['caption'])
            for info in map(dataset.get_data_info, range(len(dataset)))]


def test_sample(tmp_path):
    """What the models get, from a folder of frames and from a file."""
    (tmp_path / 'videos').mkdir()
    write_folder(tmp_path / 'videos' / 'a', make_frames(6))
    write_video(tmp_path / 'videos' / 'b.mp4', make_frames(6))
    name = make_table(tmp_path, [
        dict(video='a', caption=['a dog', 'a cat'], gallery=1),
        dict(video='b.mp4', caption='a bird', gallery=1)
    ])
    dataset = build(tmp_path, ann_file=name, test_mode=True)
    assert pairs(dataset) == [('a', 'a dog'), ('a', 'a cat'),
                              ('b.mp4', 'a bird')]
    sample = dataset[2]
    clip, packed = sample['inputs'], sample['data_samples']
    assert clip.shape == (3, 3, 8, 8) and clip.dtype == torch.uint8
    assert numbers(clip.permute(1, 2, 3, 0).numpy()) == [1, 3, 5]
    assert (packed.video_id, packed.caption, packed.gallery) == ('b.mp4',
                                                                 'a bird', '1')
    assert packed.text['attention_mask'].tolist() == [1] * 4 + [0] * 4
    assert packed.text['input_ids'][[0, 3]].tolist() == [98, 99]
    assert packed.video_path.endswith('b.mp4')
    assert not packed.caption_cut


def test_data_loader_of_processes(tmp_path):
    """Samples cross processes, and big batches do not use up files."""
    make_videos(tmp_path, ['a'])
    rows = [dict(video='a', caption=f'dog {i}') for i in range(40)]
    dataset = build(tmp_path, ann_file=make_table(tmp_path, rows))
    loader = DataLoader(
        dataset, batch_size=20, num_workers=1, collate_fn=lambda batch: batch)
    samples = [sample for batch in loader for sample in batch]
    one = copy.deepcopy(dataset[7]['data_samples'])
    assert torch.equal(samples[7]['data_samples'].text['input_ids'],
                       one.text['input_ids'])
    assert samples[39]['data_samples'].caption == 'dog 39'
    sent = bytes(ForkingPickler.dumps(one.text))
    assert b'storage' not in sent


def test_a_test_video_is_read_once(tmp_path, monkeypatch):
    make_videos(tmp_path, ['a', 'b'])
    name = make_table(tmp_path,
                      [dict(video=v, caption=['x', 'y', 'z']) for v in 'ab'])
    read = []
    original = load_video.read_frames

    def read_frames(path, choose):
        read.append(path)
        return original(path, choose)

    monkeypatch.setattr(load_video, 'read_frames', read_frames)
    dataset = build(tmp_path, ann_file=name, test_mode=True)
    clips = [dataset[index]['inputs'] for index in range(6)]
    assert [path[-5:] for path in read] == ['a.npy', 'b.npy']
    assert all(torch.equal(clip, clips[0]) for clip in clips)
    training = build(tmp_path, ann_file=name)
    clips = [training[0]['inputs'] for _ in range(10)]
    assert len(read) == 12
    assert not all(torch.equal(clip, clips[0]) for clip in clips)


def test_several_captions(tmp_path):
    make_videos(tmp_path, ['a', 'b'])
    name = make_table(tmp_path, [
        dict(video='a', caption=['one', 'two']),
        dict(video='b', caption='x')
    ])
    whole = build(tmp_path, ann_file=name, captions='paragraph')
    assert pairs(whole) == [('a', 'one two'), ('b', 'x')]
    drawn = build(tmp_path, ann_file=name, captions='random')
    assert len(drawn) == 2
    seen = {drawn[0]['data_samples'].caption for _ in range(30)}
    assert seen == {'one', 'two'}


def test_fraction_is_of_videos_and_nested(tmp_path):
    names = [f'v{i}' for i in range(20)]
    make_videos(tmp_path, names)
    name = make_table(tmp_path,
                      [dict(video=v, caption=['a', 'b']) for v in names])

    def videos(**kwargs):
        return {v for v, _ in pairs(build(tmp_path, ann_file=name, **kwargs))}

    half, most = videos(fraction=0.5), videos(fraction=0.75)
    assert (len(half), len(most)) == (10, 15)
    assert half < most
    assert videos(fraction=0.5, seed=1) != half


def test_unreadable_training_video_is_replaced(tmp_path):
    make_videos(tmp_path, ['a', 'b'])
    (tmp_path / 'videos' / 'bad.mp4').write_text('no video')
    rows = [dict(video=v, caption=v) for v in ('a', 'b', 'bad')]
    name = make_table(tmp_path, rows)
    packed = build(tmp_path, ann_file=name)[2]['data_samples']
    assert packed.video_id in 'ab' and packed.caption == packed.video_id
    assert set(
        packed.unreadable_videos) == {str(tmp_path / 'videos' / 'bad.mp4')}
    assert 'unreadable_videos' not in build(
        tmp_path, ann_file=name)[0]['data_samples']


def test_unreadable_test_video_becomes_black(tmp_path):
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos' / 'bad.mp4').touch()
    name = make_table(tmp_path, [dict(video='bad', caption='x')])
    sample = build(tmp_path, ann_file=name, test_mode=True)[0]
    assert sample['inputs'].shape == (3, 3, 8, 8)
    assert not sample['inputs'].any()
    assert len(sample['data_samples'].unreadable_videos) == 1


def test_all_videos_unreadable_ends(tmp_path):
    (tmp_path / 'videos').mkdir()
    (tmp_path / 'videos' / 'bad.mp4').touch()
    name = make_table(tmp_path, [dict(video='bad', caption='x')])
    with pytest.raises(ValueError, match='6 videos in a row.*bad.mp4.*empty'):
        build(tmp_path, ann_file=name, max_refetch=5)[0]


def test_missing_videos(tmp_path, log):
    make_videos(tmp_path, ['a'])
    name = make_table(tmp_path,
                      [dict(video=v, caption=v) for v in ('a', 'b', 'c')])
    with pytest.raises(
            FileNotFoundError, match=r"2 of 3 videos .*\['b', 'c'\]"):
        build(tmp_path, ann_file=name)
    kept = build(tmp_path, ann_file=name, allow_missing=True)
    assert pairs(kept) == [('a', 'a')]
    assert '2 of 3 videos are not in' in log.text
    (tmp_path / 'videos' / 'a.npy').rename(tmp_path / 'videos' / 'z.npy')
    with pytest.raises(FileNotFoundError, match='3 of 3'):
        build(tmp_path, ann_file=name, allow_missing=True)


def test_missing_and_repeated_captions_are_counted(tmp_path, log):
    make_videos(tmp_path, ['a'])
    rows = [
        dict(video='a', caption=['x', 'x', '', None, 'y']),
        dict(video='b', caption='  '),
        dict(video='c', caption=[])
    ]
    dataset = build(tmp_path, ann_file=make_table(tmp_path, rows))
    assert pairs(dataset) == [('a', 'x'), ('a', 'y')]
    assert ('left out: 4 missing captions, 1 captions that a video has twice, '
            '2 videos without any caption') in log.text


def test_bad_input(tmp_path):
    make_videos(tmp_path, ['a'])
    name = make_table(tmp_path, [dict(video='a', caption='x')])
    (tmp_path / 'bad.jsonl').write_text('{"video": "a"}\n')
    (tmp_path / 'worse.jsonl').write_text('{"video": \n')
    (tmp_path / 'empty.csv').write_text('video,caption\n')
    (tmp_path / 'other.csv').write_text('name,text\na,b\n')
    (tmp_path / 'half.csv').write_text('video,caption,gallery\na,x,1\nb,y,\n')
    (tmp_path / 'both.csv').write_text('video,caption,gallery\na,x,1\na,y,2\n')
    (tmp_path / 'twice.txt').write_text('a\nb\na\n')
    (tmp_path / 'none.txt').write_text('\n')
    (tmp_path / 'absent.txt').write_text('a\nq\n')
    for kwargs, error, match in [
        (dict(ann_file='gone.csv'), FileNotFoundError, 'gone.csv.*ann_file'),
        (dict(ann_file='bad.jsonl'), ValueError, 'row 1 of .*`caption`'),
        (dict(ann_file='worse.jsonl'), ValueError, 'line 1'),
        (dict(ann_file='empty.csv'), ValueError, 'no captions in'),
        (dict(ann_file='other.csv'), ValueError, 'row 1 of'),
        (dict(ann_file='half.csv'), ValueError,
         r"1 of 2 videos in .* have no `gallery`.*\['b'\]"),
        (dict(ann_file='both.csv'), ValueError,
         "row 2 of .* puts the video 'a' into the gallery '2'"),
        (dict(ann_file=name, split_file='twice.txt'), ValueError, 'once'),
        (dict(ann_file=name, split_file='none.txt'), ValueError, 'empty'),
        (dict(ann_file=name, split_file='absent.txt'), ValueError,
         r"1 of 2 videos of the split have no captions.*\['q'\]"),
        (dict(ann_file=name,
              split_file='gone.txt'), FileNotFoundError, 'split_file'),
        (dict(ann_file=name, data_format='x'), ValueError, 'data_format'),
        (dict(ann_file=name, captions='x'), ValueError, 'captions'),
        (dict(ann_file=name, fraction=0), ValueError, 'fraction'),
    ]:
        with pytest.raises(error, match=match):
            build(tmp_path, **kwargs)
    with pytest.raises(FileNotFoundError, match='data_prefix'):
        VideoTextDataset(
            str(tmp_path / name), data_prefix=dict(video=str(tmp_path / 'q')))
    (tmp_path / 'videos' / 'a.mp4').touch()
    with pytest.raises(ValueError, match='more than one file'):
        build(tmp_path, ann_file=name)


def test_msrvtt(tmp_path):
    make_videos(tmp_path, ['video0', 'video1', 'video2', 'video9'])
    parts = ['train', 'train', 'validate', 'test']
    names = ['video0', 'video1', 'video2', 'video9']
    content = dict(
        videos=[dict(video_id=v, split=s) for v, s in zip(names, parts)],
        sentences=[
            dict(caption=f'{v} {i}', video_id=v) for i in range(2)
            for v in names
        ])
    (tmp_path / 'data.json').write_text(json.dumps(content))
    (tmp_path / 'train.9k.csv').write_text('video_id\nvideo0\nvideo2\n')
    (tmp_path / 'test.csv').write_text('key,vid_key,video_id,sentence\n'
                                       'ret0,msr9,video9,"a man, talking"\n')

    def read(**kwargs):
        return pairs(build(tmp_path, data_format='msrvtt', **kwargs))

    assert read(
        ann_file='data.json',
        split_file='train.9k.csv') == [('video0', 'video0 0'),
                                       ('video0', 'video0 1'),
                                       ('video2', 'video2 0'),
                                       ('video2', 'video2 1')]
    assert read(split_file='test.csv') == [('video9', 'a man, talking')]
    assert [v for v, _ in read(ann_file='data.json', split='val')
            ] == ['video2', 'video2']
    with pytest.raises(ValueError, match='`split` of MSR-VTT'):
        read(ann_file='data.json')
    with pytest.raises(ValueError, match='no captions'):
        read(split_file='train.9k.csv')
    (tmp_path / 'data.json').write_text('[]')
    with pytest.raises(ValueError, match='`sentences`'):
        read(ann_file='data.json', split='test')


def test_msvd(tmp_path):
    make_videos(tmp_path, ['x_1_2', 'y_0_9'])
    (tmp_path / 'all.txt').write_text(
        '# comment\n\nx_1_2 a dog runs\ny_0_9 a cat\nx_1_2 the dog\n')
    (tmp_path / 'list.txt').write_text('x_1_2\n')
    words = {'x_1_2': [['a', 'dog', 'runs'], ['the', 'dog']], 'y_0_9': []}
    (tmp_path / 'raw.pkl').write_bytes(pickle.dumps(words))
    wanted = [('x_1_2', 'a dog runs'), ('x_1_2', 'the dog')]
    for name in ('all.txt', 'raw.pkl'):
        dataset = build(
            tmp_path, data_format='msvd', ann_file=name, split_file='list.txt')
        assert pairs(dataset) == wanted


def test_a_pickle_runs_no_code(tmp_path):

    class Evil:

        def __reduce__(self):
            return (open, (str(tmp_path / 'owned'), 'w'))

    (tmp_path / 'raw.pkl').write_bytes(pickle.dumps({'x': Evil()}))
    with pytest.raises(ValueError, match='raw.pkl'):
        build(tmp_path, data_format='msvd', ann_file='raw.pkl')
    assert not (tmp_path / 'owned').exists()


def test_didemo(tmp_path):
    make_videos(tmp_path, ['one', 'two'])
    rows = [
        dict(video='one.mov', description='a man walks.'),
        dict(video='two.mp4', description='a cat.'),
        dict(video='one.mov', description=' he waves. ')
    ]
    (tmp_path / 'test_data.json').write_text(json.dumps(rows))
    # a video that was converted has another extension
    dataset = build(tmp_path, data_format='didemo', ann_file='test_data.json')
    assert pairs(dataset) == [('one.mov', 'a man walks. he waves.'),
                              ('two.mp4', 'a cat.')]
    (tmp_path / 'list.txt').write_text('two\n')
    dataset = build(
        tmp_path,
        data_format='didemo',
        ann_file='test_data.json',
        split_file='list.txt')
    assert pairs(dataset) == [('two', 'a cat.')]
