"""What is read from the logs of a run, and how it is drawn."""
import json

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from transmamba_mm.visualization import (draw_curves, draw_similarity,
                                         read_training_log, to_array, to_png)
from transmamba_mm.visualization.training_log import epoch_length
from transmamba_mm.visualization.training_plots import smooth


def write(folder, *starts):
    """Write one file of scalars a start of the run."""
    for i, rows in enumerate(starts):
        path = folder / f'2026010{i + 1}_000000/vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text('\n'.join(map(json.dumps, rows)) + '\n{"loss": 1, "st')
    return str(folder)


def train_row(step, epoch, layers=2, **more):
    row = dict(
        step=step,
        epoch=epoch,
        iter=step,
        loss=10. / step,
        time=1.,
        loss_cls=5. / step)
    for i in range(layers):
        row[f'distill.cos_l{i:02d}'] = 0.1 * i + 0.01 * step
        row[f'distill.weight_l{i:02d}'] = 1. - i
    if layers:
        row.update({
            'distill.loss_forward': 1. / step,
            'distill.loss_backward': 2. / step,
            'distill.loss_logit': 3.,
            'distill.cos_mean': 0.5,
            'distill.cos_min': 0.4,
            'distill.cos_max': 0.6
        })
    return {**row, **more}


def val_row(step):
    return {'accuracy/top1': 10. * step, 'step': step, 'time': 0.1}


@pytest.fixture
def log(tmp_path):
    """Two epochs of four iterations, killed in the second and resumed."""
    first = [train_row(s, 1) for s in (2, 4)] + [val_row(1)]
    lost = [train_row(6, 2, loss=99.)]
    second = [train_row(s, 2) for s in (6, 8)] + [val_row(2)]
    return read_training_log(write(tmp_path / 'run', first + lost, second))


def test_resumed_run_counts_once(log):
    positions, loss = log.series('loss')
    assert positions.tolist() == [0.5, 1., 1.5, 2.]
    assert loss.tolist() == [5., 2.5, 10 / 6, 1.25]
    assert log.series('accuracy/top1', 'val')[1].tolist() == [10., 20.]
    assert (log.name, log.unit) == ('run', 'epoch')


def test_names_are_found(log):
    assert log.directions() == ['forward', 'backward']
    assert log.metrics() == ['accuracy/top1']
    assert log.is_distilled


def test_layers_stand_in_order(tmp_path):
    rows = [train_row(s, 1, layers=12) for s in (1, 2, 3)]
    log = read_training_log(write(tmp_path, rows))
    positions, values = log.layers()
    assert values.shape == (12, 3) and len(positions) == 3
    np.testing.assert_allclose(values[10], [1.01, 1.02, 1.03])
    assert log.layers('weight')[1][3].tolist() == [-2.] * 3
    assert log.layers('no such')[1].shape == (0, 0)


def test_task_loss_of_a_plain_run(tmp_path, log):
    plain = train_row(1, 1, layers=0)
    del plain['loss_cls']
    plain = read_training_log(write(tmp_path / 'plain', [plain]))
    assert plain.series('loss_cls')[1].tolist() == [10.]
    assert log.series('loss_cls')[1].tolist()[0] == 2.5
    assert not plain.is_distilled and len(plain.series('distill.x')[0]) == 0


def test_training_by_iterations(tmp_path):
    rows = [train_row(s, 1) for s in (1, 2)]
    for row in rows:
        del row['epoch']
    log = read_training_log(write(tmp_path, rows + [val_row(2)]))
    assert log.unit == 'iteration'
    assert log.series('loss')[0].tolist() == [1., 2.]


@pytest.mark.parametrize('length, interval', [(4, 1), (7, 3), (100, 30)])
def test_length_of_an_epoch(length, interval):
    steps = range(interval, 20 * length + 1, interval)
    rows = [dict(step=s, epoch=-(-s // length)) for s in steps]
    assert epoch_length(rows) == length


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match='holds no training log.*LocalVis'):
        read_training_log(str(tmp_path))


def test_curves_show_each_run(tmp_path, log):
    other = read_training_log(
        write(tmp_path / 'other', [train_row(4, 1, layers=0)]))
    figure = draw_curves([log, other])
    panels = {axes.get_ylabel(): axes for axes in figure.axes}
    assert list(panels) == [
        'loss, total', 'loss of the task', 'validation accuracy/top1',
        'cosine to the teacher', 'distillation loss by direction'
    ]
    lines = [
        line for line in panels['loss, total'].lines if len(line.get_xdata())
    ]
    assert lines[0].get_ydata().tolist() == log.series('loss')[1].tolist()
    assert to_rgba(lines[0].get_color()) != to_rgba(lines[1].get_color())
    assert panels['cosine to the teacher'].collections, 'the band is missing'
    assert to_png(figure).startswith(b'\x89PNG')
    array = to_array(figure)
    assert array.dtype == np.uint8 and array.shape[2] == 3


def test_run_without_validation_and_distillation(tmp_path):
    log = read_training_log(write(tmp_path, [train_row(1, 1, layers=0)]))
    labels = [axes.get_ylabel() for axes in draw_curves([log]).axes]
    assert labels == ['loss, total', 'loss of the task']
    with pytest.raises(ValueError, match='log_layers=True'):
        draw_similarity([log])


def test_unknown_metric_is_refused(log):
    with pytest.raises(ValueError, match="'R@1'.*accuracy/top1"):
        draw_curves([log], 'R@1')


def test_similarity_shows_layers_by_time(log):
    figure = draw_similarity([log, log])
    maps = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(maps) == 4
    drawn = maps[0].collections[0]
    np.testing.assert_allclose(drawn.get_array().reshape(2, 4),
                               log.layers()[1])
    assert drawn.get_coordinates()[0, :, 0].tolist() == [0, .5, 1, 1.5, 2]
    to_png(figure)


def test_smoothing():
    values = np.arange(6.)
    assert smooth(values, 1).tolist() == values.tolist()
    np.testing.assert_allclose(smooth(values, 3), [1., 2., 3., 4.])
    assert smooth(values, 99).tolist() == [2.5]
    assert len(smooth(values[:0], 3)) == 0
