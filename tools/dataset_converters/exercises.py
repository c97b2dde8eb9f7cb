"""Make clips with captions of the free exercise database (two photos each).

The source is a folder, or a .tar file, with exercises.json and
frames/NAME/{0,1}.jpg. A clip blends from the first photo to the second and
back: two real frames, interpolated. The clips go to DST/clips/NAME.npy; the
captions of 100 exercises to val.jsonl, of 100 to test.jsonl, of all others to
train.jsonl.
"""
import argparse
import json
import random
import tarfile
from pathlib import Path
from typing import Callable, Dict, List

import cv2
import numpy as np

HELD_OUT = 100


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='folder or .tar file of the database')
    parser.add_argument('dst', help='folder to write, such as data/exercises')
    parser.add_argument(
        '--frames', type=int, default=8, help='frames of a clip, 8 to 16')
    parser.add_argument(
        '--short-side', type=int, default=128, help='of the clips')
    return parser.parse_args()


def open_source(src: str) -> Callable[[str], bytes]:
    """Open the database.

    Args:
        src (str): Folder or ``.tar`` file.

    Returns:
        Callable: Reads a file by its name in the database.

    Raises:
        FileNotFoundError: There is no such source, or not this file in it.
    """
    if Path(src).is_dir():
        return lambda name: (Path(src) / name).read_bytes()
    if not Path(src).is_file():
        raise FileNotFoundError(f'{src!r} is neither a folder nor a file')
    archive = tarfile.open(src)

    def read(name: str) -> bytes:
        try:
            return archive.extractfile(name).read()
        except KeyError as error:
            raise FileNotFoundError(f'{src!r} holds no {name!r}') from error

    return read


def blend(photos: List[np.ndarray], frames: int) -> np.ndarray:
    """Blend from one photo to another and back, slow at both ends.

    Args:
        photos (List[np.ndarray]): Two images (H, W, 3) of one size.
        frames (int): Frames wanted; the last is the first photo again.

    Returns:
        np.ndarray: Frames (frames, H, W, 3), uint8.
    """
    phase = np.linspace(0, 2 * np.pi, frames)
    weight = (0.5 - 0.5 * np.cos(phase)).reshape(-1, 1, 1, 1)
    first, second = (photo.astype(np.float64) for photo in photos)
    return (first + weight * (second - first)).round().astype(np.uint8)


def read_photos(read: Callable, names: List[str],
                short_side: int) -> List[np.ndarray]:
    """Read the photos of an exercise, all in the size of the first.

    Args:
        read (Callable): See :func:`open_source`.
        names (List[str]): Their names in ``frames``.
        short_side (int): Short side of the result.

    Returns:
        List[np.ndarray]: Images (H, W, 3), RGB.
    """
    photos = []
    for name in names:
        content = np.frombuffer(read(f'frames/{name}'), np.uint8)
        photos.append(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])
    height, width = photos[0].shape[:2]
    ratio = short_side / min(height, width)
    size = round(width * ratio), round(height * ratio)
    return [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in photos]


def describe(exercise: dict) -> List[str]:
    """Write captions of an exercise.

    Args:
        exercise (dict): Its entry in ``exercises.json``.

    Returns:
        List[str]: The full caption first.
    """
    name = exercise['name']
    muscles = ' and '.join(exercise['primaryMuscles'])
    equipment = exercise.get('equipment')
    full = f'{name}, a {exercise["category"]} exercise for the {muscles}'
    if equipment and equipment != 'body only':
        full += f' with {equipment}'
    captions = [full, name]
    # the first steps tell what the photos show
    captions += exercise['instructions'][:2]
    return list(dict.fromkeys(c.strip() for c in captions if c.strip()))


def split(names: List[str]) -> Dict[str, str]:
    """Split the exercises: sorted, shuffled with seed 0, cut.

    Args:
        names (List[str]): All exercises.

    Returns:
        Dict[str, str]: 'train', 'val' or 'test' by name.
    """
    names = sorted(names)
    random.Random(0).shuffle(names)
    held = min(HELD_OUT, len(names) // 4)
    train = len(names) - 2 * held
    parts = ['train'] * train + ['val'] * held + ['test'] * held
    return dict(zip(names, parts))


def main() -> None:
    args = parse_args()
    read = open_source(args.src)
    exercises = {e['id']: e for e in json.loads(read('exercises.json'))}
    parts = split(list(exercises))
    rows: Dict[str, List[str]] = dict(train=[], val=[], test=[])
    clips = Path(args.dst) / 'clips'
    clips.mkdir(parents=True, exist_ok=True)
    for name in sorted(exercises):
        exercise = exercises[name]
        photos = read_photos(read, exercise['images'], args.short_side)
        np.save(clips / f'{name}.npy', blend(photos, args.frames))
        captions = describe(exercise)
        if parts[name] != 'train':
            captions = captions[:1]
        rows[parts[name]].append(
            json.dumps(dict(video=name, caption=captions), ensure_ascii=False))
    for part, lines in rows.items():
        path = Path(args.dst) / f'{part}.jsonl'
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
        print(f'{path}: {len(lines)} clips')


if __name__ == '__main__':
    main()
