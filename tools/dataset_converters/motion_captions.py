"""Make clips of moving CIFAR-10 images with captions.

"a dog moving left slowly": one of ten classes, eight directions and two
speeds, 160 captions in all. Played backwards, a clip has the same frames and
another caption: a model that forgets the order of frames cannot tell left
from right. With --wrap, what leaves the clip comes in at the other side, and
no single frame says anything about the motion, not even the first.

The source is a folder, or a .tar file, of images in train/CLASS and
test/CLASS. Training and validation take images of train, the test those of
test; no image is used twice in a split. Validation and test are made of
galleries with each caption once.
"""
import argparse
import json
import tarfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np

DIRECTIONS = {
    'left': (0, -1),
    'right': (0, 1),
    'up': (-1, 0),
    'down': (1, 0),
    'up and to the left': (-1, -1),
    'up and to the right': (-1, 1),
    'down and to the left': (1, -1),
    'down and to the right': (1, 1),
}
SPEEDS = {'slowly': 1 / 32, 'quickly': 1 / 16}
Read = Callable[[str], bytes]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='folder or .tar file of the images')
    parser.add_argument(
        'dst', help='folder to write, such as data/motion_captions')
    parser.add_argument(
        '--train', type=int, default=50, help='training clips of each caption')
    parser.add_argument('--val', type=int, default=3, help='galleries')
    parser.add_argument('--test', type=int, default=10, help='galleries')
    parser.add_argument('--frames', type=int, default=8, help='of a clip')
    parser.add_argument(
        '--size', type=int, default=64, help='of the clips, a multiple of 32')
    parser.add_argument(
        '--wrap', action='store_true', help='let images cross the borders')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def open_source(src: str) -> Tuple[Dict[str, List[str]], Read]:
    """List the images.

    Args:
        src (str): Folder, or ``.tar`` file of any compression.

    Returns:
        tuple: The image names of each 'train/CLASS' and 'test/CLASS', and a
        function that reads one.

    Raises:
        FileNotFoundError: There is no such source.
    """
    if Path(src).is_dir():
        names = [p.relative_to(src).as_posix() for p in Path(src).rglob('*')]

        def read(name: str) -> bytes:
            return (Path(src) / name).read_bytes()
    elif Path(src).is_file():
        # a compressed archive is read once, in its order
        with tarfile.open(src) as archive:
            contents = {
                member.name: archive.extractfile(member).read()
                for member in archive if member.isfile()
            }
        names, read = list(contents), contents.__getitem__
    else:
        raise FileNotFoundError(f'{src!r} is neither a folder nor a file')
    folders: Dict[str, List[str]] = {}
    for name in sorted(names):
        parts = name.split('/')
        if name.lower().endswith(('.jpg', '.jpeg', '.png')) and len(parts) > 2:
            folders.setdefault('/'.join(parts[-3:-1]), []).append(name)
    return folders, read


def make_clip(image: np.ndarray, direction: Tuple[int, int], speed: float,
              frames: int, size: int, wrap: bool,
              rng: np.random.Generator) -> np.ndarray:
    """Move an image over a plain background.

    The middle of the way is drawn from the same places for all directions
    and speeds.

    Args:
        image (np.ndarray): Image (H, W, 3).
        direction (Tuple[int, int]): Steps down and to the right.
        speed (float): Part of the clip's side that it moves each frame.
        frames (int): Frames of the clip.
        size (int): Side of the clip; the image gets half of it.
        wrap (bool): Whether the image crosses the borders.
        rng (np.random.Generator): Draws the place and the background.

    Returns:
        np.ndarray: Frames (frames, size, size, 3), uint8.
    """
    side = size // 2
    image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = rng.integers(0, 256, 3, dtype=np.uint8)
    canvas[:side, :side] = image
    room = (size - side - max(SPEEDS.values()) * size * (frames - 1)) / 2
    room = size / 2 if wrap else room
    middle = side / 2 + rng.uniform(-room, room, 2)
    clip = []
    for index in range(frames):
        step = speed * size * (index - (frames - 1) / 2)
        place = (middle + step * np.array(direction)).round().astype(int)
        if not wrap:
            place = place.clip(0, size - side)
        clip.append(np.roll(canvas, place, (0, 1)))
    return np.stack(clip)


def captions(classes: List[str]) -> Iterator[Tuple[str, str, str, str]]:
    """Give all captions.

    Args:
        classes (List[str]): Names of the classes.

    Yields:
        Tuple[str, str, str, str]: Caption, class, direction, speed.
    """
    for name in classes:
        article = 'an' if name[0] in 'aeiou' else 'a'
        for way in DIRECTIONS:
            for speed in SPEEDS:
                text = f'{article} {name} moving {way} {speed}'
                yield text, name, way, speed


def write_split(args: argparse.Namespace, split: str, count: int,
                images: Dict[str, List[str]], read: Read, number: int) -> None:
    """Write the clips and the captions of a split.

    Args:
        args (argparse.Namespace): The command line.
        split (str): 'train', 'val' or 'test'.
        count (int): Clips of each caption.
        images (Dict[str, List[str]]): Images to take, by class; those taken
            are removed.
        read (Callable): Reads an image.
        number (int): The split's own number for the seed.

    Raises:
        ValueError: There are not enough images.
    """
    rng = np.random.default_rng([args.seed, number])
    folder = Path(args.dst) / 'clips' / split
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for text, name, way, speed in captions(sorted(images)):
        for copy in range(count):
            if not images[name]:
                raise ValueError(
                    f'not enough images of {name!r} for {split}: ask for '
                    f'fewer clips with --{split}')
            content = np.frombuffer(read(images[name].pop()), np.uint8)
            image = cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1]
            clip = make_clip(image, DIRECTIONS[way], SPEEDS[speed],
                             args.frames, args.size, args.wrap, rng)
            video = f'{split}/{len(rows):05d}'
            np.save(Path(args.dst) / 'clips' / f'{video}.npy', clip)
            row = dict(video=video, caption=text)
            if split != 'train':
                row['gallery'] = str(copy)
            rows.append(json.dumps(row))
    path = Path(args.dst) / f'{split}.jsonl'
    path.write_text('\n'.join(rows) + '\n', encoding='utf-8')
    print(f'{path}: {len(rows)} clips')


def main() -> None:
    args = parse_args()
    if args.size % 32 or args.frames < 2 or (args.frames > 9
                                             and not args.wrap):
        raise ValueError('--size must be a multiple of 32, and --frames from '
                         '2 to 9: in more, images leave the clips; add --wrap')
    folders, read = open_source(args.src)
    rng = np.random.default_rng(args.seed)
    images: Dict[str, Dict[str, List[str]]] = {}
    for folder, names in folders.items():
        part, name = folder.split('/')
        chosen = [names[index] for index in rng.permutation(len(names))]
        images.setdefault(part, {})[name] = chosen
    if not {'train', 'test'} <= set(images):
        raise FileNotFoundError(
            f'{args.src!r} must hold train/CLASS and test/CLASS with images, '
            f'got the folders {sorted(folders)[:5]}')
    write_split(args, 'train', args.train, images['train'], read, 1)
    write_split(args, 'val', args.val, images['train'], read, 2)
    write_split(args, 'test', args.test, images['test'], read, 3)


if __name__ == '__main__':
    main()
