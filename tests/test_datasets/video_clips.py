"""Small clips for the tests, whose brightness tells the frame number."""
import cv2
import numpy as np
import pytest


def make_frames(count, height=32, width=48):
    """Frames (count, height, width, 3) of brightness 10, 20, ..., reddish."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:] = 10 * np.arange(1, count + 1).reshape(-1, 1, 1, 1)
    frames[..., 2] = 0
    return frames


def write_video(path, frames, codec='mpeg4'):
    """Write a video file."""
    av = pytest.importorskip('av')
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = 'yuv420p'
        stream.bit_rate = 2_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def write_folder(path, frames):
    """Write a folder of PNG frames."""
    path.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(path / f'{index:03d}.png'), frame[..., ::-1])


def numbers(frames):
    """Tell the frame numbers of frames."""
    return np.rint(frames[..., 0].mean((1, 2)) / 10 - 1).astype(int).tolist()
