"""Small image folders for the tests."""
import cv2
import numpy as np


def make_image_folder(root, counts):
    """Write one folder of 8-pixel PNG files a class.

    Args:
        root (Path): Folder to make.
        counts (dict): Class name to number of images.
    """
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f'{index}.png'), image)
    return root
