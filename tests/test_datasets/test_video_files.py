import sys

import numpy as np
import pytest

from transmamba_mm.datasets.frame_cache import FrameCache
from transmamba_mm.datasets.transforms import sample_frames
from transmamba_mm.datasets.video_files import (VideoReadError, index_clips,
                                                read_frames)
from .video_clips import make_frames, numbers, write_folder, write_video


def choose(*indices):
    return lambda total: np.array(indices)


def make_clip(tmp_path, kind, count=12):
    path = tmp_path / f'clip.{kind}'
    if kind == 'npy':
        np.save(path, make_frames(count))
    elif kind == 'folder':
        write_folder(path, make_frames(count))
    else:
        write_video(path, make_frames(count))
    return str(path)


@pytest.mark.parametrize('kind', ['mp4', 'avi', 'mkv', 'npy', 'folder'])
def test_the_chosen_frames_are_read(tmp_path, kind):
    path = make_clip(tmp_path, kind)
    told = []

    def pick(total):
        told.append(total)
        return np.array([0, 3, 3, 11])

    frames = read_frames(path, pick)
    assert told == [12]
    assert frames.shape == (4, 32, 48, 3) and frames.dtype == np.uint8
    assert numbers(frames) == [0, 3, 3, 11]
    # red and green without blue: the channels are RGB
    assert frames[-1, ..., 2].max() < 30


def test_fewer_frames_than_promised(tmp_path, monkeypatch):
    """The choice is made again when a video ends early."""
    path = make_clip(tmp_path, 'mp4', count=6)
    monkeypatch.setattr('transmamba_mm.datasets.video_files._count_frames',
                        lambda container: 100)
    frames = read_frames(path, lambda total: np.array([0, total - 1]))
    assert numbers(frames) == [0, 5]


@pytest.mark.parametrize('kind', [
    'missing', 'empty', 'text', 'cut', 'audio', 'no frames', 'bad frame',
    'bad array', 'pickle'
])
def test_unreadable_clips_are_named(tmp_path, kind):
    path = tmp_path / 'broken.mp4'
    if kind == 'empty':
        path.touch()
    elif kind == 'text':
        path.write_text('not a video')
    elif kind == 'cut':
        write_video(path, make_frames(12))
        path.write_bytes(path.read_bytes()[:300])
    elif kind == 'audio':
        write_audio(path)
    elif kind == 'no frames':
        path.mkdir()
    elif kind == 'bad frame':
        write_folder(path, make_frames(2))
        (path / '001.png').write_bytes(b'')
    elif kind in ('bad array', 'pickle'):
        path = tmp_path / 'broken.npy'
        bad = np.zeros((2, 3), np.uint8)
        np.save(path, bad if kind == 'bad array' else np.array([{}]))
    with pytest.raises(VideoReadError, match=f"{path.name}' cannot be read"):
        read_frames(str(path), choose(0, 1))


def write_audio(path):
    av = pytest.importorskip('av')
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 2048), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_missing_decoder_is_told(tmp_path, monkeypatch):
    path = make_clip(tmp_path, 'mp4')
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(ImportError, match='pip install av'):
        read_frames(path, choose(0))


def test_index_of_clips(tmp_path):
    write_folder(tmp_path / 'part' / 'frames', make_frames(2))
    for name in ('a.mp4', 'a.avi', 'b.webm', 'notes.txt', 'part/c.npy'):
        (tmp_path / name).touch()
    clips = index_clips(str(tmp_path))
    assert set(clips) == {
        'a', 'a.mp4', 'a.avi', 'b', 'b.webm', 'part/c', 'part/c.npy',
        'part/frames'
    }
    assert len(clips['a']) == 2
    assert clips['part/frames'] == [str(tmp_path / 'part' / 'frames')]


def test_sampling():
    assert sample_frames(12, 4).tolist() == [1, 4, 7, 10]
    assert sample_frames(12, 4, 'uniform').tolist() == [0, 4, 7, 11]
    assert sample_frames(2, 4).tolist() == [0, 0, 1, 1]
    assert sample_frames(1, 3, 'uniform').tolist() == [0, 0, 0]
    drawn = np.array([sample_frames(12, 4, random=True) for _ in range(200)])
    assert [sorted(set(part)) for part in drawn.T.tolist()] == [[0, 1, 2],
                                                                [3, 4, 5],
                                                                [6, 7, 8],
                                                                [9, 10, 11]]


def test_cache_decodes_once(tmp_path, monkeypatch):
    path = make_clip(tmp_path, 'mp4')
    cache = FrameCache(str(tmp_path / 'cache'), num_frames=6, short_side=16)
    first = cache.read(path, choose(0, 5))
    assert first.shape == (2, 16, 24, 3)
    assert numbers(first) == [0, 11]

    def fail(*args):
        raise AssertionError('decoded again')

    with monkeypatch.context() as patch:
        patch.setattr('transmamba_mm.datasets.frame_cache.read_frames', fail)
        assert (cache.read(path, choose(0, 5)) == first).all()
    write_video(path, make_frames(20))
    assert numbers(cache.read(path, choose(5))) == [19]


def test_damaged_cache_is_made_again(tmp_path):
    path = make_clip(tmp_path, 'npy')
    cache = FrameCache(str(tmp_path / 'cache'))
    first = cache.read(path, choose(2))
    entry, = (tmp_path / 'cache').rglob('*.npz')
    entry.write_bytes(entry.read_bytes()[:50])
    assert (cache.read(path, choose(2)) == first).all()
    with pytest.raises(VideoReadError, match='gone.mp4'):
        cache.read('gone.mp4', choose(0))
    with pytest.raises(ValueError, match='num_frames'):
        FrameCache('x', num_frames=0)


def test_videos_of_phones_are_upright(tmp_path):
    """A file may tell that its frames are to be turned when shown."""
    frames = make_frames(3)
    frames[:] = 20
    frames[:, :16] = 200
    path = tmp_path / 'phone.mp4'
    write_video(path, frames)
    upright = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], '>i4')
    turned = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], '>i4')
    content = path.read_bytes()
    assert content.count(upright.tobytes()) == 2
    start = content.rindex(upright.tobytes())
    path.write_bytes(content[:start] + turned.tobytes() + content[start + 36:])
    frame, = read_frames(str(path), choose(1))
    # a quarter to the right: what was on top is at the right
    assert frame.shape == (48, 32, 3)
    assert frame[:, 20:].mean() > 180 and frame[:, :12].mean() < 40
