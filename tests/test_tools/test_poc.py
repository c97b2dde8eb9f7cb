"""From an image folder to a report, interrupted on the way."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from ..browser import look_at, open_browser
from ..command import ROOT, run_python

sys.path.insert(0, str(ROOT / 'tools'))

import poc  # noqa: E402

#: The name of a folder, which the page must not take for anything else.
ODD = '3 <b>& $x$'
IMAGES = 30


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """scikit-learn's digits as a plain image folder of three classes."""
    from sklearn.datasets import load_digits
    root = tmp_path_factory.mktemp('images') / 'my digits'
    data = load_digits()
    for digit, name in ((0, 'zero'), (1, 'one'), (3, ODD)):
        (root / name).mkdir(parents=True)
        chosen = data.images[data.target == digit][:IMAGES]
        for i, pixels in enumerate(chosen):
            image = Image.fromarray((pixels * 255 / 16).astype('uint8'))
            image.convert('RGB').save(root / name / f'{i:03}.png')
    (root / 'one' / 'broken.png').write_bytes(b'')
    return root


def flags(digits, work_dir):
    return [
        str(digits), '--seeds', '1', '--fractions', '0.75', '--epochs', '2',
        '--teacher-epochs', '2', '--jobs', '2', '--work-dir',
        str(work_dir)
    ]


def wait_for(path, process):
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    raise AssertionError(f'{path} did not come')


@pytest.fixture(scope='module')
def work_dir(digits, tmp_path_factory):
    """The work dir of a study that was interrupted and went on."""
    work_dir = tmp_path_factory.mktemp('poc') / 'work'
    command = [sys.executable, ROOT / 'tools' / 'poc.py']
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    first = subprocess.Popen([*command, *flags(digits, work_dir)],
                             stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT,
                             text=True,
                             env=env)
    wait_for(work_dir / 'runs' / 'teacher' / 'result.json', first)
    wait_for(work_dir / 'runs' / 'scratch_100_seed0' / 'train.log', first)
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=60)[0]
    assert first.returncode == 130, told
    assert 'Interrupted. What is finished is in' in told
    assert '1 unreadable images are left out: one/broken.png' in told
    assert not (work_dir / 'report.html').exists()
    out = run_python(ROOT / 'tools' / 'poc.py', *flags(digits, work_dir))
    assert 'Teacher: finished before' in out
    assert 'seed 0: finished before' not in out
    assert f'Report:  {work_dir / "report.html"}' in out
    return work_dir


def test_report_holds_what_was_measured(work_dir):
    report = json.loads((work_dir / 'report.json').read_text())
    kinds = [(g['kind'], g['fraction']) for g in report['groups']]
    assert kinds == [('teacher', .75), ('scratch', 1.), ('transmamba', .75)]
    # a fifth of 30 images a class validates; 0.75 of 24 are 18
    assert report['validation_images'] == 18
    assert [g['images'] for g in report['groups']] == [54, 72, 54]
    assert report['costs']['transmamba']['images'] == 54
    for group in report['groups']:
        assert 0 <= group['accuracy']['mean'] <= 100
        assert group['train_seconds']['mean'] > 0
        assert [point[0] for point in group['curves'][0]] == [1, 2]
    last = report['groups'][1]
    assert last['curves'][0][-1][1] == pytest.approx(last['accuracy']['mean'])
    rows = [(r['model'], r['batch']) for r in report['speed']]
    assert rows[:4] == [('teacher', 1), ('teacher', 32), ('student', 1),
                        ('student', 32)]
    assert all(r['latency_ms'] > 0 and r['memory_mib'] > 0
               for r in report['speed'])
    assert report['task']['img_size'] == 16
    assert {row['name'] for row in report['classes']} == {'zero', 'one', ODD}


def test_report_in_a_browser(work_dir, tmp_path):
    with open_browser() as browser:
        inks = set()
        for width, scheme in ((1400, 'light'), (390, 'light'), (390, 'dark')):
            seen = look_at(browser, work_dir / 'report.html', width, scheme)
            assert seen['errors'] == []
            assert seen['width'] <= width
            assert seen['broken'] == 0
            assert seen['drawings'] >= 5
            assert seen['inside']
            inks.add(seen['ink'])
        assert len(inks) == 2
        # the check itself can fail
        wide = tmp_path / 'wide.html'
        wide.write_text('<img src="no.png"><p style="width:2000px">x')
        seen = look_at(browser, wide, 390)
        assert seen['width'] == 2000 + 8 and seen['broken'] == 1
        assert seen['errors']


def test_other_prices_only_write_the_report_anew(work_dir, digits, tmp_path,
                                                 monkeypatch, capsys):
    before = json.loads((work_dir / 'report.json').read_text())
    prices = [
        '--hour-price', '360', '--image-price', '0.5', '--currency', 'CHF'
    ]
    monkeypatch.setattr(sys, 'argv',
                        ['poc.py', *flags(digits, work_dir), *prices])
    poc.main()
    out = capsys.readouterr().out
    assert out.count('finished before') == 3 and 'Training' not in out
    after = json.loads((work_dir / 'report.json').read_text())
    assert after['groups'] == before['groups']
    assert after['speed'] == before['speed']
    costs = after['costs']
    assert costs['scratch']['data'] == 36. and costs['transmamba'][
        'data'] == 27.
    assert costs['scratch']['training'] == pytest.approx(
        costs['scratch']['train_seconds'] / 10)
    saved = costs['scratch']['total'] - costs['transmamba']['total']
    assert costs['saving'] == pytest.approx(saved)
    assert 'CHF' in (work_dir / 'report.html').read_text()
