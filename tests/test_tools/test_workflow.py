"""Train, resume, test, publish and load, each in a process of its own."""
import hashlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain import ImageClassificationInferencer, get_model
from PIL import Image

from ..command import ROOT, run_python

CONFIGS = ROOT / 'configs/transmamba'
TEACHER = 'vit-nano-16_1xb64-20e_digits'
PLAIN = 'vim-nano-16_1xb64-20e_digits'
STUDENT = 'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits'
OPTIONS = ('--cfg-options', 'train_dataloader.batch_size=20',
           'val_dataloader.batch_size=20', 'default_hooks.logger.interval=1',
           'param_scheduler.0.end=1', 'param_scheduler.1.begin=0')


def write_images(root):
    """Ten classes of ten images, eight of them to train; a bright row each."""
    random = np.random.RandomState(0)
    for split, count in (('train', 8), ('val', 2)):
        for label in range(10):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                image = random.randint(0, 80, (16, 16, 3), dtype=np.uint8)
                image[label + 2:label + 5] += 150
                Image.fromarray(image).save(folder / f'{label}_{i}.png')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where all of it runs: data and, after it, one trained teacher."""
    folder = tmp_path_factory.mktemp('workflow')
    write_images(folder / 'data/digits')
    run_python(
        ROOT / 'tools/train.py',
        CONFIGS / f'{TEACHER}.py',
        '--no-validate',
        *OPTIONS,
        'train_cfg.max_epochs=1',
        cwd=folder)
    return folder


def train_student(folder, epochs):
    return run_python(
        ROOT / 'tools/train.py',
        CONFIGS / f'{STUDENT}.py',
        '--resume',
        '--auto-scale-lr',
        *OPTIONS,
        f'train_cfg.max_epochs={epochs}',
        'train_dataloader.dataset.fraction=0.75',
        cwd=folder,
        TEACHER=f'work_dirs/{TEACHER}/epoch_1.pth')


@pytest.fixture(scope='module')
def student(folder):
    """Log of the first start, with --resume and nothing to resume from."""
    return train_student(folder, 1)


@pytest.fixture(scope='module')
def work_dir(folder, student):
    """The student's work dir after its second start, two epochs long."""
    log = train_student(folder, 2)
    assert re.search(r'resumed epoch: 1, iter: 3\b', log)
    assert 'Epoch(train) [2][3/3]' in log
    assert 'Epoch(train) [1]' not in log
    return folder / 'work_dirs' / STUDENT


def test_teacher_is_not_validated(folder):
    scalars = (folder / 'work_dirs' / TEACHER).glob('*/vis_data/scalars.json')
    assert 'accuracy' not in next(scalars).read_text()


def test_student_learns_on_three_quarters(student):
    # 60 of 80 images in batches of 20
    assert 'Epoch(train) [1][3/3]' in student
    assert 'distill.loss' in student and 'loss_cls' in student
    assert 'accuracy/top1' in student


def test_learning_rate_follows_the_batch_size(student):
    assert 'Scaling the original LR by 0.3125' in student  # 20 / 64


@pytest.fixture(scope='module')
def published(folder, work_dir):
    log = run_python(
        ROOT / 'tools/model_converters/publish_model.py',
        work_dir / 'epoch_2.pth',
        folder / 'student.pth',
        cwd=folder)
    path = next(folder.glob('student-*.pth'))
    assert str(path) in log
    return path


def plain_model(weights):
    return ImageClassificationInferencer(
        str(CONFIGS / f'{PLAIN}.py'), str(weights))


def test_published_file_is_the_student_alone(published, work_dir):
    trained = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    checkpoint = torch.load(published, weights_only=True)
    state = checkpoint['state_dict']
    assert set(checkpoint) == {'state_dict', 'meta'}
    assert set(state) == {
        k
        for k in trained['state_dict'] if not k.startswith('distiller.')
    }
    assert len(state) < len(trained['state_dict'])
    assert all(
        torch.equal(v, trained['state_dict'][k]) for k, v in state.items())
    assert list(checkpoint['meta']['dataset_meta']['classes']) == [
        str(i) for i in range(10)
    ]


def test_published_name_holds_the_checksum(published):
    digest = hashlib.sha256(published.read_bytes()).hexdigest()
    assert published.stem == f'student-{digest[:8]}'


def test_published_file_loads_into_the_plain_classifier(
        published, work_dir, folder):
    image = str(folder / 'data/digits/val/3/3_0.png')
    whole = ImageClassificationInferencer(
        str(CONFIGS / f'{STUDENT}.py'), str(work_dir / 'epoch_2.pth'))
    scores = [
        model(image)[0]['pred_scores']
        for model in (plain_model(published), whole)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_tested_accuracy_is_that_of_the_training(folder, work_dir):
    """And no teacher is looked for; every fourth image is shown."""
    run_python(
        ROOT / 'tools/test.py',
        CONFIGS / f'{STUDENT}.py',
        work_dir / 'epoch_2.pth',
        '--out',
        'metrics.json',
        '--out-item',
        'metrics',
        '--work-dir',
        'tested',
        '--show-dir',
        'shown',
        '--interval',
        '4',
        cwd=folder,
        TEACHER='/no/teacher/is/needed')
    metrics = json.loads((folder / 'metrics.json').read_text())
    rows = [
        json.loads(line) for path in work_dir.glob('*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    last = [
        r['accuracy/top1'] for r in rows
        if 'accuracy/top1' in r and r['step'] == 2
    ]
    assert [metrics['accuracy/top1']] == last
    assert len(list((folder / 'shown').glob('*.png'))) == 5


def test_views_are_averaged(folder, published):
    """--tta gives the mean of the image's and its mirror image's scores."""
    run_python(
        ROOT / 'tools/test.py',
        CONFIGS / f'{PLAIN}.py',
        published,
        '--tta',
        '--out',
        'views.pkl',
        '--work-dir',
        'tested',
        cwd=folder)
    rows = pickle.loads((folder / 'views.pkl').read_bytes())
    assert len(rows) == 20
    model = plain_model(published)
    image = np.asarray(Image.open(folder / 'data/digits/val/0/0_0.png'))
    scores = [
        model(view)[0]['pred_scores']
        for view in (image[..., ::-1], image[:, ::-1, ::-1])
    ]
    assert np.abs(scores[0] - scores[1]).max() > 1e-5
    np.testing.assert_allclose(
        rows[0]['pred_score'], np.mean(scores, 0), rtol=1e-4)


def test_two_processes_train_without_a_card(folder):
    """Each sees half of the images; MMEngine alone would ask for a card."""
    path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    done = subprocess.run([
        ROOT / 'tools/dist_train.sh', CONFIGS / f'{STUDENT}.py', '2',
        '--work-dir', 'two', *OPTIONS, 'train_cfg.max_epochs=1'
    ],
                          cwd=folder,
                          env=dict(
                              os.environ,
                              PATH=path,
                              OMP_NUM_THREADS='1',
                              PORT=str(free_port()),
                              TEACHER=f'work_dirs/{TEACHER}/epoch_1.pth'),
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          text=True,
                          timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    assert 'Epoch(train) [1][2/2]' in done.stdout  # 80 images, 2 x 20 a step
    assert (folder / 'two/epoch_1.pth').exists()


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def test_flops_tool(folder):
    log = run_python(
        ROOT / 'tools/analysis_tools/get_flops.py',
        CONFIGS / f'{STUDENT}.py',
        '--out',
        'flops.json',
        cwd=folder)
    counts = json.loads((folder / 'flops.json').read_text())
    model = get_model(str(CONFIGS / f'{PLAIN}.py'))
    assert counts['parameters'] == sum(p.numel() for p in model.parameters())
    assert counts['total'] == counts['matmul'] + counts['scan']
    assert counts['scan'] > 0 and 'selective scan' in log


def test_benchmark_tool(folder):
    log = run_python(
        ROOT / 'tools/analysis_tools/benchmark.py',
        CONFIGS / f'{PLAIN}.py',
        '--batch-size',
        4,
        '--warmup',
        1,
        '--repeats',
        3,
        '--precision',
        'bf16',
        '--device',
        'cpu',
        '--out',
        'speed.json',
        cwd=folder)
    row = json.loads((folder / 'speed.json').read_text())
    assert (row['batch'], row['resolution'], row['precision']) == (4, 16,
                                                                   'bf16')
    assert row['backend'] == 'chunked' and row['torch'] == torch.__version__
    assert row['images_per_s'] == pytest.approx(4e3 / row['latency_ms'])
    assert row['card'] and row['card'] in log
    assert (row['mode'], row['timing']) == ('infer', 'eager')
