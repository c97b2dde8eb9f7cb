"""Reading the frames of a clip: video files, folders of frames, arrays."""
import os
from pathlib import Path
from typing import Any, Callable, Dict, List

import cv2
import numpy as np

VIDEO_EXTENSIONS = ('.mp4', '.avi', '.mkv', '.webm', '.mov', '.m4v', '.3gp',
                    '.wmv', '.flv', '.mpg', '.mpeg', '.ogv', '.ts')
FRAME_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
Choice = Callable[[int], np.ndarray]


class VideoReadError(ValueError):
    """A clip that cannot be read; the message names the file."""


def read_frames(path: str, choose: Choice) -> np.ndarray:
    """Read chosen frames of a clip.

    Args:
        path (str): A video file, a folder of frames whose names sort in
            time, or an ``.npy`` array (T, H, W, 3) of bytes, RGB.
        choose (Callable): Takes the number of frames and returns the indices
            to read, which need not differ.

    Returns:
        np.ndarray: Frames (number of indices, H, W, 3), uint8, RGB.

    Raises:
        VideoReadError: The clip is missing, empty or damaged.
    """
    try:
        if os.path.isdir(path):
            return _read_folder(path, choose)
        if not os.path.isfile(path):
            raise VideoReadError('there is no such file')
        if os.path.getsize(path) == 0:
            raise VideoReadError('the file is empty')
        if path.lower().endswith('.npy'):
            return _read_array(path, choose)
        return _read_video(path, choose)
    except ImportError:
        raise
    # Each decoder has exceptions of its own.
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise VideoReadError(
            f'the video {path!r} cannot be read ({reason})') from error


def index_clips(folder: str) -> Dict[str, List[str]]:
    """List the clips of a folder, those in sub-folders too.

    Args:
        folder (str): Folder of video files, ``.npy`` arrays or folders of
            frames.

    Returns:
        Dict[str, List[str]]: For each name relative to the folder, with and
        without extension, the paths that it may mean.
    """
    clips: Dict[str, List[str]] = {}
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        found = [
            os.path.join(parent, name) for name in sorted(files)
            if name.lower().endswith((*VIDEO_EXTENSIONS, '.npy'))
        ]
        frames = any(name.lower().endswith(FRAME_EXTENSIONS) for name in files)
        if frames and not found and parent != folder:
            found = [parent]
        for path in found:
            name = Path(os.path.relpath(path, folder)).as_posix()
            stem = name if path == parent else os.path.splitext(name)[0]
            for key in {name, stem}:
                clips.setdefault(key, []).append(path)
    return clips


def _read_folder(path: str, choose: Choice) -> np.ndarray:
    names = sorted(
        name for name in os.listdir(path)
        if name.lower().endswith(FRAME_EXTENSIONS))
    if not names:
        raise VideoReadError('the folder holds no frames')
    frames: Dict[int, np.ndarray] = {}
    indices = choose(len(names))
    for index in np.unique(indices):
        with open(os.path.join(path, names[index]), 'rb') as file:
            frames[index] = decode_image(file.read(), names[index])
    return _stack([frames[index] for index in indices])


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode an image.

    Args:
        content (bytes): The file's bytes.
        name (str): Its name, for the error.

    Returns:
        np.ndarray: Image (H, W, 3), uint8, RGB.

    Raises:
        VideoReadError: It is no image.
    """
    image = None
    if content:
        image = cv2.imdecode(
            np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise VideoReadError(f'the frame {name!r} is no image')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _read_array(path: str, choose: Choice) -> np.ndarray:
    array = np.load(path, mmap_mode='r', allow_pickle=False)
    if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
        raise VideoReadError(
            f'the array has shape {array.shape} and type {array.dtype}; it '
            'must be (T, H, W, 3) of uint8')
    if not array.size:
        raise VideoReadError('the array is empty')
    return np.ascontiguousarray(array[choose(len(array))])


def _read_video(path: str, choose: Choice) -> np.ndarray:
    av = import_av()
    with av.open(path) as container:
        total = _count_frames(container)
    if not total:
        raise VideoReadError('it has no video frames')
    indices = choose(total)
    frames, decoded = _decode(av, path, indices)
    if decoded < total and indices.max() >= decoded:
        # the container promises more frames than there are
        if not decoded:
            raise VideoReadError('it has no video frames')
        indices = choose(decoded)
        frames, _ = _decode(av, path, indices)
    return _stack([frames[index] for index in indices])


def _count_frames(container: Any) -> int:
    if not container.streams.video:
        return 0
    stream = container.streams.video[0]
    if stream.frames:
        return stream.frames
    return sum(packet.size > 0 for packet in container.demux(stream))


def _decode(av: Any, path: str, indices: np.ndarray) -> tuple:
    """Decode up to the last wanted frame; return frames and their number."""
    wanted = set(indices.tolist())
    frames: Dict[int, np.ndarray] = {}
    count = 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        # a data loader has its own processes
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if count in wanted:
                frames[count] = frame.to_ndarray(format='rgb24')
            count += 1
            if len(frames) == len(wanted):
                break
    return frames, count


def import_av() -> Any:
    """Import PyAV.

    Returns:
        ModuleType: The module ``av``.

    Raises:
        ImportError: It is not installed; the message says how to get it.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'video files are decoded by PyAV, which is not installed: `pip '
            'install av`. Folders of frames and .npy arrays need nothing'
        ) from error
    return av


def _stack(frames: List[np.ndarray]) -> np.ndarray:
    height, width = frames[0].shape[:2]
    return np.stack([
        frame if frame.shape[:2] == (height, width) else cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_AREA)
        for frame in frames
    ])
