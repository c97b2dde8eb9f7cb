"""The scheduler of the transfer tables, on trainings that only pretend."""
import argparse
import json
import signal
import sys
import time
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from transmamba_mm.evaluation import Predictions
from .transfer import lines, meter, record, row, run

#: Writes what a training leaves behind; the row's options say how it ends.
TRAINING = """
import json, os, sys, time
folder, epochs, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if how == 'breaks':
    print('RuntimeError: first')
    print('ValueError: a bad key')
    sys.exit('done for')
logs = os.path.join(folder, '20260101_000000', 'vis_data')
os.makedirs(logs, exist_ok=True)
time.sleep(60 if how == 'sleeps' else 0)
with open(os.path.join(logs, 'scalars.json'), 'w') as file:
    for epoch in range(1, epochs + 1):
        for row in (dict(loss=1., time=0.5, iter=10 * epoch, step=10 * epoch),
                    {'toy/score': 10. * epoch, 'data_time': 1.,
                     'toy/other': 0.5, 'step': epoch}):
            file.write(json.dumps(row) + chr(10))
if how == 'teaches':
    import torch
    path = os.path.join(folder, 'epoch_2.pth')
    torch.save(dict(state_dict=dict(w=torch.ones(2)), optimizer=1), path)
    with open(os.path.join(folder, 'last_checkpoint'), 'w') as file:
        file.write('/where/it/was/trained/epoch_2.pth')
if how == 'predicts':
    import numpy as np
    np.savez(os.path.join(folder, 'predictions.npz'), labels=[1],
             targets=[1], confidences=[0.5], classes=['a'])
assert how != 'learns' or os.path.isfile(os.environ['TEACHER'])
"""


@dataclass(frozen=True)
class Toy(row.Row):
    """A row whose variant says how its training ends."""
    task: ClassVar[str] = 'toys'
    data: ClassVar[str] = 'none'
    data_root: ClassVar[str] = 'data'
    metric: ClassVar[str] = 'toy/score'
    config: ClassVar[str] = 'toy.py'

    def options(self):
        return dict(a=1)

    def data_options(self, root):
        return dict(root=root)

    @property
    def predictions(self):
        return self.variant == 'predicts'

    @property
    def keeps(self):
        return 'toy.pth' if self.variant == 'teaches' else ''

    @property
    def needs(self):
        return dict(TEACHER='toy.pth') if self.variant == 'learns' else {}


def toys(*variants, epochs=2):
    return [
        Toy('mouse', 'scratch', 1., seed, epochs, variant)
        for seed, variant in enumerate(variants)
    ]


def options_of(command):
    start = command.index('--cfg-options') + 1
    return dict(option.split('=', 1) for option in command[start:])


def test_a_row_is_a_call_of_the_training_tool():
    command = run.command(toys('', epochs=30)[0], 'here', 'data', ['b=2'])
    assert command[1:] == [
        'tools/train.py', 'toy.py', '--work-dir', 'here', '--resume',
        *command[6:]
    ]
    options = options_of(command)
    assert options['a'] == '1' and options['b'] == '2'
    assert options['root'] == 'data' and options['randomness.seed'] == '0'
    assert options['train_cfg.max_epochs'] == '30'
    assert options['default_hooks.checkpoint.interval'] == '5'
    # the mean of a log covers all iterations since the one before
    assert options['log_processor.window_size'] == (
        options['default_hooks.logger.interval'])
    assert 'default_hooks.predictions.type' not in options


@pytest.mark.parametrize('part', ['2/2', '1', '/2', 'a/b', '-1/2'])
def test_a_part_that_loses_rows_is_refused(monkeypatch, capsys, part):
    monkeypatch.setattr(sys, 'argv', ['run.py', 'timing', f'--part={part}'])
    with pytest.raises(SystemExit):
        run.parse_args()
    assert 'must be i/n with i from 0 to n - 1' in capsys.readouterr().err


def test_options_of_a_row_go_before(monkeypatch):
    monkeypatch.setattr(Toy, 'options',
                        lambda self: {'train_cfg.val_interval': 1})
    toy = toys('predicts', epochs=30)[0]
    options = options_of(run.command(toy, 'here', 'data', []))
    assert options['train_cfg.val_interval'] == '1'
    assert options['default_hooks.predictions.type'].endswith(
        'SavePredictionsHook')


@pytest.mark.parametrize('graph', [False, True])
def test_a_card_trains_in_half_precision(monkeypatch, graph):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(Toy, 'graph', graph)
    options = options_of(run.command(toys('')[0], 'here', 'data', []))
    assert options['optim_wrapper.dtype'] == 'bfloat16'
    assert ('default_hooks.cuda_graph.type' in options) == graph


@pytest.fixture
def scheduler(tmp_path, monkeypatch):

    def command(toy, folder, data_root, more):
        return [
            sys.executable, '-c', TRAINING, folder,
            str(toy.epochs), toy.variant
        ]

    monkeypatch.setattr(run, 'command', command)

    def make(rows, **changes):
        args = argparse.Namespace(
            results=str(tmp_path / 'results.jsonl'),
            work_dir=str(tmp_path / 'work'),
            teachers=str(tmp_path / 'teachers'),
            data_root=None,
            devices=[''],
            jobs=2,
            minutes=1.,
            cfg_options=[])
        vars(args).update(changes)
        return run.Scheduler(rows, args)

    return make


def test_lines_say_all_that_was_measured(scheduler, tmp_path, capsys):
    job = scheduler(toys('', 'predicts'))
    job.run()
    found = lines.read_lines(str(tmp_path / 'results.jsonl'))
    assert not job.failed and len(found) == 2
    line = found[0]
    wanted = toys('')[0].identity()
    assert {k: line[k] for k in wanted} == wanted
    assert line['value'] == 20. and line['train_seconds'] == 10.
    assert line['curve'] == [[1, 10., 5.], [2, 20., 10.]]
    assert line['metrics'] == {'toy/score': 20., 'toy/other': 0.5}
    assert line['options'] == dict(a=1) and line['side_by_side'] == 2
    assert 0 < line['device_seconds'] <= line['wall_seconds']
    path = lines.predictions_path(
        str(tmp_path / 'results.jsonl'), found[1]['name'])
    assert Predictions.load(path).labels.tolist() == [1]
    assert '20.0 in 10.0 s' in capsys.readouterr().out


def test_a_failure_is_named_and_the_others_go_on(scheduler, tmp_path, capsys):
    job = scheduler(toys('breaks', '', ''), jobs=1)
    job.run()
    assert [r.variant for r in job.failed] == ['breaks']
    assert len(lines.read_lines(str(tmp_path / 'results.jsonl'))) == 2
    assert '(exit 1: ValueError: a bad key)' in capsys.readouterr().out


def test_what_cannot_be_kept_is_a_failure(scheduler, tmp_path, capsys):
    (tmp_path / 'predictions').write_text('a file, where a folder must be')
    job = scheduler(toys('predicts', ''))
    job.run()
    assert [r.variant for r in job.failed] == ['predicts']
    assert len(lines.read_lines(str(tmp_path / 'results.jsonl'))) == 1


def test_a_row_waits_for_the_weights_of_another(scheduler, tmp_path):
    job = scheduler(toys('learns', 'teaches', ''))
    job.run()
    assert not job.failed and not job.waiting
    state = torch.load(tmp_path / 'teachers' / 'toy.pth')
    assert list(state) == ['state_dict']


def test_weights_may_be_a_folder(scheduler, tmp_path):
    job = scheduler([])
    (toy, ) = toys('learns')
    assert 'toy.pth' in job.missing(toy)
    (tmp_path / 'teachers' / 'toy.pth').mkdir(parents=True)
    assert not job.missing(toy)


def test_weights_that_never_come_are_named(scheduler, capsys):
    job = scheduler(toys('learns'))
    job.run()
    assert 'not trained' in (out := capsys.readouterr().out)
    assert 'needs' in out and 'toy.pth' in out


def test_the_end_of_time_stops_and_keeps_the_cost(scheduler, tmp_path, capsys):
    job = scheduler(toys('sleeps', 'sleeps', ''), minutes=0.02)
    start = time.time()
    job.run()
    assert time.time() - start < 20
    assert len(job.waiting) == 1 and not job.running
    out = capsys.readouterr().out
    assert out.count('stopped') == 2 and 'the time is over' in out
    costs = [
        json.loads(p.read_text())['device_seconds']
        for p in (tmp_path / 'work').glob('*/cost.json')
    ]
    assert len(costs) == 2 and 0.5 < sum(costs) < 20
    # the next start adds to them
    again = meter.Meter('')
    folder = str(next((tmp_path / 'work').glob('*/cost.json')).parent)
    again.tick([folder])
    assert again.close(folder)['wall_seconds'] >= 1


def test_time_and_energy_are_shared(monkeypatch):
    clock, counter = [100.], [1000.]
    monkeypatch.setattr(meter.time, 'time', lambda: clock[0])
    monkeypatch.setattr(meter, 'joules_so_far', lambda device: counter[0])
    monkeypatch.setattr(meter, 'atomic_write', lambda *args: None)
    watch = meter.Meter('0')
    for running, seconds, joules in ((['a', 'b'], 2., 8.), ([], 5., 1.),
                                     (['a'], 3., 6.)):
        clock[0] += seconds
        counter[0] += joules
        watch.tick(running)
    assert watch.close('a') == dict(
        wall_seconds=5., device_seconds=4., joules=10.)
    assert watch.close('b') == dict(
        wall_seconds=2., device_seconds=1., joules=4.)


def test_without_a_counter_there_are_no_joules(tmp_path):
    watch = meter.Meter('')
    watch.tick([str(tmp_path)])
    assert watch.close(str(tmp_path))['joules'] is None


def test_a_line_after_a_cut_one_is_whole(tmp_path, capsys):
    path = tmp_path / 'deep' / 'results.jsonl'
    first, second, third = ({
        **toy.identity(), 'value': 1.
    } for toy in toys('', '', ''))
    lines.append_line(str(path), first)
    with path.open('a') as file:
        file.write('{"task": "cut')
    lines.append_line(str(path), second)
    lines.append_line(str(path), third)
    assert lines.read_lines(str(path)) == [first, second, third]
    assert 'results.jsonl:2 is cut' in capsys.readouterr().err


def test_costs_are_estimated_by_like_rows():
    toy = toys('')[0].identity()
    done = [
        dict(toy, card='old', device_seconds=500.),
        dict(toy, card='new', device_seconds=40., epochs=4, fraction=0.5),
        dict(toy, card='new', device_seconds=40., seed=1)
    ]
    assert lines.estimate(dict(toy, epochs=3), done) == 60.
    assert lines.estimate(dict(toy, student='cat'), done) is None


def test_what_a_resumed_training_repeats_counts_once(tmp_path):

    def log(name, *records):
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(''.join(
            json.dumps(r) + '\n' for r in records))

    def step(number, time):
        return dict(loss=1., time=time, iter=number, step=number)

    log('20260101_000000', step(10, 1.), dict(score=1., step=1), step(20, 1.),
        dict(score=2., step=2), step(30, 1.))
    # from the checkpoint of the first epoch
    log('20260101_010000', step(20, 2.), dict(score=2.5, step=2), step(30, 2.),
        dict(score=3., step=3))
    (tmp_path / '20260101_020000').mkdir()
    assert record.read_curve(str(tmp_path), 'score') == [[1, 1., 10.],
                                                         [2, 2.5, 30.],
                                                         [3, 3., 50.]]


def test_no_output_is_no_error(tmp_path):
    assert record.last_error(str(tmp_path / 'none')) == 'no output'
    (tmp_path / 'out').write_text('all\nis well\n\n')
    assert record.last_error(str(tmp_path / 'out')) == 'is well'


def test_tables_of_the_same_name_are_refused(tmp_path, monkeypatch):
    for name in ('a_tables.py', 'b_tables.py'):
        (tmp_path / name).write_text('TABLES = dict(twice=list)')
    monkeypatch.setattr(run, 'HERE', str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"b_tables.*\['twice'\]"):
        run.all_tables()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Some random images in the folders of CIFAR-10."""
    import numpy as np
    from PIL import Image
    root = tmp_path_factory.mktemp('cifar10')
    rng = np.random.default_rng(0)
    for split, kind in ((s, k) for s in ('train', 'test') for k in range(10)):
        folder = root / split / f'class {kind}'
        folder.mkdir(parents=True)
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'image.png')
    return root


def test_a_real_row(images, tmp_path, monkeypatch, capsys):
    """Trained, noted, and not trained again."""
    results = tmp_path / 'results.jsonl'
    argv = [
        'run.py', 'teachers', '--only', 'vit-narrow', '--epochs', 1,
        '--data-root', images, '--work-dir', tmp_path / 'work', '--results',
        results, '--cfg-options', 'train_dataloader.batch_size=5',
        'param_scheduler=None', 'model.backbone.arch.num_layers=1'
    ]
    monkeypatch.setattr(sys, 'argv', list(map(str, argv)))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        run.main()
    assert not end.value.code
    line = json.loads(results.read_text())
    out = capsys.readouterr().out
    assert '1 rows to train' in out and f'{line["value"]} in' in out
    assert line['train_seconds'] > 0
    assert (tmp_path / 'work' / 'vit-narrow-32-1.pth').is_file()
    answers = Predictions.load(
        lines.predictions_path(str(results), line['name']))
    right = (answers.labels == answers.targets).mean()
    assert line['value'] == pytest.approx(100 * right)
    with pytest.raises(SystemExit):
        run.main()
    assert '0 rows to train' in capsys.readouterr().out
    signal.signal(signal.SIGTERM, before)
