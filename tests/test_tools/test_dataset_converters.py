"""The converters make clips that the dataset reads."""
import json
import tarfile

import cv2
import numpy as np
import pytest

from transmamba_mm.datasets import VideoTextDataset
from ..command import ROOT, run_python

TOOLS = ROOT / 'tools/dataset_converters'


def write_image(path, brightness, shape=(8, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*shape, 3), brightness, np.uint8))


def pack(folder, name):
    path = folder.parent / name
    with tarfile.open(path, 'w:xz' if name.endswith('xz') else 'w') as file:
        for child in sorted(folder.iterdir()):
            file.add(child, child.name)
    return path


def read_table(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def exercises(tmp_path):
    """A database of 12 exercises, the last with photos of other shapes."""
    entries = []
    for number in range(12):
        name = f'Move_{number}'
        for index in range(2):
            write_image(tmp_path / f'src/frames/{name}/{index}.jpg',
                        200 * index, (8, 12 + 4 * (number == 11) * index))
        entries.append(
            dict(
                id=name,
                name=f'Move {number}',
                category='strength',
                equipment=['barbell', 'body only', None][number % 3],
                primaryMuscles=['neck', 'lats'],
                instructions=['Stand.', 'Lift it.', 'Rest.'],
                images=[f'{name}/0.jpg', f'{name}/1.jpg']))
    (tmp_path / 'src/exercises.json').write_text(json.dumps(entries))
    return tmp_path / 'src'


@pytest.mark.parametrize('packed', [False, True])
def test_exercises(exercises, tmp_path, packed):
    src = pack(exercises, 'db.tar') if packed else exercises
    run_python(
        str(TOOLS / 'exercises.py'), str(src), str(tmp_path / 'dst'),
        '--frames', '9', '--short-side', '4')
    rows = {
        part: read_table(tmp_path / f'dst/{part}.jsonl')
        for part in ('train', 'val', 'test')
    }
    assert {
        part: len(r)
        for part, r in rows.items()
    } == dict(
        train=6, val=3, test=3)
    names = [row['video'] for part in rows.values() for row in part]
    assert len(set(names)) == 12
    captions = {r['video']: r['caption'] for p in rows.values() for r in p}
    assert captions['Move_0'][0] == (
        'Move 0, a strength exercise for the neck and lats with barbell')
    assert captions['Move_1'][0].endswith('for the neck and lats')
    assert rows['train'][0]['caption'][2:] == ['Stand.', 'Lift it.']
    assert all(len(row['caption']) == 1 for row in rows['test'])
    clip = np.load(tmp_path / 'dst/clips/Move_11.npy')
    assert clip.shape == (9, 4, 6, 3)
    # there and back, slow at the ends
    light = clip.mean((1, 2, 3))
    assert light[[0, 4, 8]] == pytest.approx([0, 200, 0], abs=3)
    assert light[2] == pytest.approx(100, abs=3) and light[1] < 40
    dataset = VideoTextDataset(
        'test.jsonl',
        data_root=str(tmp_path / 'dst'),
        data_prefix=dict(video='clips'))
    assert len(dataset) == 3


@pytest.fixture
def images(tmp_path):
    """Bright images of two classes."""
    for part, count in (('train', 48), ('test', 16)):
        for name in ('airplane', 'dog'):
            for number in range(count):
                write_image(tmp_path / f'src/{part}/{name}/{number:03d}.png',
                            100 + number, (32, 32))
    return tmp_path / 'src'


def centres(clip):
    """Track the image, which differs from the corner's background."""
    background = clip[:, :1, :1].astype(int)
    moved = np.abs(clip.astype(int) - background).sum(-1) > 0
    return np.array([np.argwhere(mask).mean(0) for mask in moved])


@pytest.mark.parametrize('packed', [False, True])
def test_motion_captions(images, tmp_path, packed):
    src = pack(images, 'cifar.tar.xz') if packed else images
    run_python(
        str(TOOLS / 'motion_captions.py'), str(src), str(tmp_path / 'dst'),
        '--train', '2', '--val', '1', '--test', '1')
    rows = read_table(tmp_path / 'dst/test.jsonl')
    assert len({row['caption'] for row in rows}) == len(rows) == 32
    assert {row['gallery'] for row in rows} == {'0'}
    assert len(read_table(tmp_path / 'dst/train.jsonl')) == 64
    by_caption = {row['caption']: row['video'] for row in rows}
    for caption, step in {
            'a dog moving left slowly': (0, -2),
            'an airplane moving down quickly': (4, 0),
            'a dog moving up and to the right quickly': (-4, 4)
    }.items():
        clip = np.load(tmp_path / f'dst/clips/{by_caption[caption]}.npy')
        assert clip.shape == (8, 64, 64, 3)
        moves = np.diff(centres(clip), axis=0)
        assert np.abs(moves - step).max() <= 1
        assert moves.mean(0) == pytest.approx(step, abs=0.2)
    dataset = VideoTextDataset(
        'test.jsonl',
        data_root=str(tmp_path / 'dst'),
        data_prefix=dict(video='clips'))
    assert dataset[0]['video_path'].endswith('test/00000.npy')


def test_wrapped_motion_fills_the_clip(images, tmp_path):
    """First frames say nothing: the image may start anywhere."""
    run_python(
        str(TOOLS / 'motion_captions.py'), str(images), str(tmp_path / 'dst'),
        '--train', '1', '--val', '1', '--test', '1', '--wrap')
    sums = [
        np.load(path).sum((1, 2, 3))
        for path in (tmp_path / 'dst/clips/test').iterdir()
    ]
    # nothing is cut off
    assert all((values == values[0]).all() for values in sums)


def test_too_few_images(images, tmp_path):
    told = run_python(
        str(TOOLS / 'motion_captions.py'),
        str(images),
        str(tmp_path / 'dst'),
        '--train',
        '1',
        '--val',
        '1',
        '--test',
        '2',
        fails=True)
    assert 'fewer clips with --test' in told
