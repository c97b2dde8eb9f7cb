import numpy as np
import pytest

from transmamba_mm.datasets import CropClip, LoadVideo, ResizeClip
from ..video_clips import make_frames, numbers


def crop(frames, **kwargs):
    return CropClip(**kwargs).transform(dict(frames=frames))['frames']


def columns(count=6, height=20, width=40):
    """Clips whose red is the row and whose green is the column."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.arange(height)[:, None]
    frames[..., 1] = np.arange(width)
    return frames


def test_resize():
    frames = make_frames(2, height=20, width=40)
    for scale, shape in ((10, (10, 20)), ((8, 6), (8, 6)), (40, (40, 80))):
        result = ResizeClip(scale).transform(dict(frames=frames))['frames']
        assert result.shape == (2, *shape, 3)
        assert numbers(result) == [0, 1]


def test_middle_crop():
    result = crop(columns(), size=(10, 20))
    assert result.shape == (6, 10, 20, 3)
    assert result[0, 0, 0].tolist() == [5, 10, 0]
    # a smaller clip is enlarged first
    assert crop(columns(), size=30).shape == (6, 30, 30, 3)


def test_random_crop_is_the_same_in_all_frames():
    np.random.seed(0)
    results = [crop(columns(), size=16, scale=(0.2, 0.6)) for _ in range(30)]
    for result in results:
        assert result.shape == (6, 16, 16, 3)
        assert (result == result[:1]).all()
    corners = {tuple(result[0, 0, 0]) for result in results}
    assert len(corners) > 15


def test_training_samples_at_random(tmp_path):
    np.save(tmp_path / 'a.npy', make_frames(12))
    load = LoadVideo(num_frames=2)

    def draw(**kwargs):
        results = load.transform(
            dict(video_path=str(tmp_path / 'a.npy'), **kwargs))
        return tuple(numbers(results['frames']))

    assert {draw(test_mode=True) for _ in range(20)} == {(3, 9)} == {draw()}
    assert len({draw(test_mode=False) for _ in range(20)}) > 3


def test_load_video_caches(tmp_path):
    np.save(tmp_path / 'a.npy', make_frames(12))
    load = LoadVideo(
        num_frames=2, cache=dict(folder=str(tmp_path / 'c'), num_frames=4))
    results = load.transform(dict(video_path=str(tmp_path / 'a.npy')))
    assert numbers(results['frames']) == [4, 11]
    assert len(list((tmp_path / 'c').rglob('*.npz'))) == 1


def test_errors():
    for build, match in [
        (lambda: LoadVideo(num_frames=0), 'num_frames'),
        (lambda: LoadVideo(sampling='x'), 'segment'),
        (lambda: ResizeClip(0), 'scale'),
        (lambda: ResizeClip((1, 2, 3)), 'scale'),
        (lambda: CropClip(-1), 'size'),
        (lambda: CropClip(8, scale=(0, 1)), 'scale'),
    ]:
        with pytest.raises(ValueError, match=match):
            build()
