import numpy as np

SAMPLINGS = ('segment', 'uniform')


def sample_frames(total: int,
                  num_frames: int,
                  sampling: str = 'segment',
                  random: bool = False) -> np.ndarray:
    """Choose frames of a clip.

    Args:
        total (int): Frames that the clip has, at least 1.
        num_frames (int): Frames wanted. A shorter clip repeats some.
        sampling (str): Defaults to 'segment'.

            - 'segment': cut the clip into ``num_frames`` equal parts and take
              one frame of each (TSN, arXiv 1608.00859, section 3.1).
            - 'uniform': equal steps from the first frame to the last.
        random (bool): With 'segment', a random frame of each part instead of
            the middle one. Defaults to False.

    Returns:
        np.ndarray: Rising indices, shape (num_frames, ).
    """
    if sampling == 'uniform':
        return np.linspace(0, total - 1, num_frames).round().astype(np.int64)
    offset = np.random.rand(num_frames) if random else 0.5
    indices = (np.arange(num_frames) + offset) * total / num_frames
    return np.minimum(indices.astype(np.int64), total - 1)
