"""The quickstart: the user's folder, resuming, and the table."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools'))

from quickstart_parts import data, report  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """Two classes of six images, one more image that is broken."""
    rng = np.random.RandomState(0)
    for label, offset in (('day', 150), ('night time', 0)):
        sub = tmp_path / 'photos' / label
        sub.mkdir(parents=True)
        for i in range(6):
            pixels = rng.randint(0, 100, (20, 30, 3)) + offset
            Image.fromarray(pixels.astype('uint8')).save(sub / f'{i}.png')
    (tmp_path / 'photos' / 'day' / 'broken.jpg').write_bytes(b'no image')
    return tmp_path / 'photos'


def test_folder_is_split_and_broken_files_are_left_out(folder, tmp_path,
                                                       capsys):
    task = data.prepare(str(folder), tmp_path, tmp_path)
    assert task.classes == ['day', 'night time']
    assert (task.num_train, task.num_val) == (10, 2)
    assert '1 unreadable images are left out' in capsys.readouterr().out
    rows = (tmp_path / 'train.txt').read_text().splitlines()
    assert len(rows) == 10 and not any('broken' in row for row in rows)
    assert all((folder / row.rsplit(' ', 1)[0]).exists() for row in rows)
    (folder / 'day' / '0.png').unlink()
    assert data.prepare(str(folder), tmp_path, tmp_path) == task
    with pytest.raises(SystemExit, match='give another --work-dir'):
        data.prepare(str(tmp_path), tmp_path, tmp_path)


def test_ready_split_is_used(folder, tmp_path):
    split = tmp_path / 'split'
    split.mkdir()
    for name in ('train', 'test'):
        (split / name).symlink_to(folder)
    task = data.prepare(str(split), tmp_path, tmp_path)
    assert (task.num_train, task.num_val) == (12, 12)


@pytest.mark.parametrize('spoil, message', [
    ('missing', 'is no folder'),
    ('empty', 'images of 0 classes'),
    ('single', 'has one image'),
])
def test_bad_folders_are_named(folder, tmp_path, spoil, message):
    target = folder
    if spoil == 'missing':
        target = tmp_path / 'nowhere'
    elif spoil == 'empty':
        target = tmp_path / 'empty'
        target.mkdir()
    else:
        for i in range(1, 6):
            (folder / 'night time' / f'{i}.png').unlink()
    with pytest.raises(SystemExit, match=message):
        data.prepare(str(target), tmp_path, tmp_path)


def test_table_joins_seeds():
    rows = [
        dict(
            kind='teacher',
            seed=0,
            images=10,
            accuracy=90.,
            train_seconds=5.,
            parameters=1000,
            images_per_s=7.)
    ]
    for seed, accuracy in ((0, 80.), (1, 82.)):
        for kind in ('scratch', 'transmamba'):
            rows.append(dict(rows[0], kind=kind, seed=seed, accuracy=accuracy))
    lines = report.table(rows).splitlines()
    assert len(lines) == 5
    assert '90.0 ' in lines[2] and '+-' not in lines[2]
    assert '81.0 +- 1.4' in lines[3]


def test_own_folder_from_start_to_table(folder, tmp_path):
    """All trainings and tests, and a second start that does nothing."""
    work_dir = tmp_path / "it's work"
    command = [
        sys.executable,
        str(ROOT / 'tools' / 'quickstart.py'), '--data',
        str(folder), '--epochs', '3', '--work-dir',
        str(work_dir)
    ]
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    first = subprocess.run(command, capture_output=True, text=True, env=env)
    assert first.returncode == 0, first.stdout + first.stderr
    assert '| TransMamba ' in first.stdout
    assert 'TransMamba, seed 0: epoch 3, accuracy' in first.stdout
    rows = json.loads((work_dir / 'results.json').read_text())
    assert [r['kind'] for r in rows] == ['teacher', 'scratch', 'transmamba']
    assert [r['images'] for r in rows] == [10, 10, 8]
    assert all(0 <= r['accuracy'] <= 100 and r['train_seconds'] > 0
               for r in rows)
    assert (work_dir / 'curves.png').stat().st_size > 1000
    subcloned = json.loads(
        (work_dir / 'transmamba_seed0' / 'subclone_report.json').read_text())
    assert subcloned['taken'] > 0
    train = Config.fromfile(work_dir / 'teacher' /
                            'config.py').train_dataloader
    assert train.dataset.dataset.pipeline[1]['scale'] == (32, 32)
    second = subprocess.run(command, capture_output=True, text=True, env=env)
    assert second.stdout.count('finished before') == 3
    assert 'Training' not in second.stdout
