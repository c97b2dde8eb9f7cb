import hashlib
import os
import tempfile
from typing import Optional

import cv2
import numpy as np

from .transforms.sample_frames import sample_frames
from .video_files import Choice, VideoReadError, decode_image, read_frames


class FrameCache:
    """Frames of clips on disk, small and decoded once.

    A clip is decoded at its first use and ``num_frames`` of its frames, in
    equal steps, are kept as JPEG files in one ``.npz`` file; later reads
    choose among them. A clip that has changed on disk is decoded again.
    Several processes may write at once.

    Args:
        folder (str): Where to keep the files; made if missing.
        num_frames (int): Frames kept of a clip; a shorter clip is kept
            whole. Defaults to 32.
        short_side (int): Larger frames shrink to this short side. Defaults
            to 256.
        quality (int): JPEG quality. Defaults to 95.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self,
                 folder: str,
                 num_frames: int = 32,
                 short_side: int = 256,
                 quality: int = 95) -> None:
        for name, value in dict(
                num_frames=num_frames, short_side=short_side,
                quality=quality).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f'FrameCache: {name} must be an integer >= 1, got '
                    f'{value!r}; change `cache` of LoadVideo')
        self.folder = folder
        self.num_frames = num_frames
        self.short_side = short_side
        self.quality = quality

    def read(self, path: str, choose: Choice) -> np.ndarray:
        """Read chosen frames of a clip.

        Args:
            path (str): The clip, see
                :func:`~transmamba_mm.datasets.video_files.read_frames`.
            choose (Callable): Takes the number of frames kept and returns
                indices.

        Returns:
            np.ndarray: Frames (T, H, W, 3), uint8, RGB.

        Raises:
            VideoReadError: The clip cannot be read.
        """
        entry = self._entry(path)
        frames = self._load(entry, choose)
        if frames is None:
            self._store(entry, path)
            frames = self._load(entry, choose)
        if frames is None:
            raise VideoReadError(
                f'the cached frames {entry!r} of {path!r} cannot be read')
        return frames

    def _entry(self, path: str) -> str:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise VideoReadError(
                f'the video {path!r} cannot be read ({error})') from error
        told = (os.path.abspath(path), stat.st_size, stat.st_mtime_ns,
                self.num_frames, self.short_side, self.quality)
        name = hashlib.sha256(repr(told).encode()).hexdigest()[:32]
        return os.path.join(self.folder, name[:2], f'{name}.npz')

    def _load(self, entry: str, choose: Choice) -> Optional[np.ndarray]:
        try:
            with np.load(entry, allow_pickle=False) as file:
                indices = choose(len(file.files))
                frames = {
                    index: decode_image(file[f'arr_{index}'].tobytes(), entry)
                    for index in np.unique(indices).tolist()
                }
        # a half-written or damaged entry is made again
        except Exception:
            return None
        return np.stack([frames[index] for index in indices.tolist()])

    def _store(self, entry: str, path: str) -> None:
        frames = read_frames(
            path, lambda total: sample_frames(total, min(
                total, self.num_frames), 'uniform'))
        scale = self.short_side / min(frames.shape[1:3])
        encoded = []
        for frame in frames:
            if scale < 1:
                frame = cv2.resize(
                    frame,
                    None,
                    fx=scale,
                    fy=scale,
                    interpolation=cv2.INTER_AREA)
            encoded.append(
                cv2.imencode('.jpg', frame[..., ::-1],
                             [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1])
        os.makedirs(os.path.dirname(entry), exist_ok=True)
        handle, scratch = tempfile.mkstemp(
            dir=os.path.dirname(entry), suffix='.tmp')
        try:
            with os.fdopen(handle, 'wb') as file:
                np.savez(file, *encoded)
            os.replace(scratch, entry)
        except BaseException:
            os.unlink(scratch)
            raise

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.folder!r}, '
                f'num_frames={self.num_frames}, '
                f'short_side={self.short_side})')
