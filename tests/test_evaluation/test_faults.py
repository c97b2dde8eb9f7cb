"""Faults of a student beside its teacher's, on answers written by hand."""
import builtins

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from torchmetrics.functional.classification import multiclass_calibration_error

from transmamba_mm.evaluation import (Predictions, compare_faults,
                                      describe_predictions, fault_report)
from transmamba_mm.evaluation.faults import NUM_BINS

TARGETS = [0, 0, 0, 0, 1, 1, 2, 2]


def said(labels, confidence=1.0, targets=TARGETS, classes=()):
    return Predictions(
        np.array(labels), np.full(len(labels), confidence), np.array(targets),
        np.array(classes, dtype=np.str_))


# wrong on the images 2, 3, 5 and 7
TEACHER = said([0, 0, 1, 2, 1, 0, 2, 1])
# the same mistake on 3, another one on 7, wrong alone on 0
STUDENT = said([1, 0, 0, 2, 1, 1, 2, 0])


def test_mistakes_are_told_apart():
    figures = compare_faults(STUDENT, TEACHER)
    assert figures['accuracy'] == 62.5
    assert figures['per_class'] == [50., 100., 50.]
    assert figures['agreement'] == 50.
    assert figures['wrong_too'] == 50.
    assert figures['inherited'] == 25.
    assert figures['own_mistakes'] == 12.5


def test_a_perfect_teacher_passes_nothing_on():
    figures = compare_faults(STUDENT, said(TARGETS))
    assert figures['inherited'] is figures['wrong_too'] is None
    assert figures['own_mistakes'] == 37.5


def test_other_images_are_refused():
    other = said([0] * 8, targets=TARGETS[::-1])
    with pytest.raises(ValueError, match='other images'):
        compare_faults(STUDENT, other)
    with pytest.raises(ValueError, match='8 and 7'):
        compare_faults(STUDENT, said([0] * 7, targets=TARGETS[:7]))


def samples(scores, targets):
    return [
        DataSample().set_pred_score(score).set_gt_label(target)
        for score, target in zip(scores, targets)
    ]


def test_calibration_is_that_of_the_whole_distribution():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(300, 5, generator=generator).softmax(1)
    targets = torch.randint(5, (300, ), generator=generator)
    answers = Predictions.from_samples(samples(scores, targets))
    want = multiclass_calibration_error(scores, targets, 5, n_bins=NUM_BINS)
    assert describe_predictions(answers)['ece'] == pytest.approx(100 *
                                                                 float(want))
    sure = said([0, 0, 0, 0, 1, 1, 2, 0], confidence=0.75)
    assert describe_predictions(sure)['ece'] == pytest.approx(12.5)


def test_without_torchmetrics_the_rest_is_there(monkeypatch):
    real = builtins.__import__

    def fail(name, *args, **kwargs):
        if name.startswith('torchmetrics'):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', fail)
    figures = compare_faults(STUDENT, TEACHER)
    assert figures['ece'] is None and figures['accuracy'] == 62.5


def test_a_class_without_images_has_no_accuracy():
    answers = said([0, 1], targets=[0, 0], classes=['a', 'b', 'c'])
    assert describe_predictions(answers)['per_class'] == [50., None, None]


def test_report_names_the_students():
    report = fault_report(TEACHER, dict(scratch=STUDENT, copy=TEACHER))
    assert report['images'] == 8
    assert report['students']['copy']['inherited'] == 100.
    assert report['students']['scratch'] == compare_faults(STUDENT, TEACHER)
    assert report['teacher'] == describe_predictions(TEACHER)


def test_file_is_small_whole_and_data(tmp_path):
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(10).repeat_interleave(1000)
    scores = torch.randn(10000, 10, generator=generator).softmax(1)
    answers = Predictions.from_samples(
        samples(scores, targets), [f'class {i}' for i in range(10)])
    path = tmp_path / 'predictions.npz'
    answers.save(path)
    assert path.stat().st_size < 30_000
    read = Predictions.load(path)
    assert np.array_equal(read.labels, scores.argmax(1).numpy())
    assert np.array_equal(read.targets, targets.numpy())
    assert np.allclose(
        read.confidences, scores.amax(1).numpy(), rtol=1e-3, atol=0)
    assert read.classes.tolist() == answers.classes.tolist()


def test_many_classes_keep_their_numbers(tmp_path):
    said([300, 2], targets=[300, 1]).save(tmp_path / 'p.npz')
    assert Predictions.load(tmp_path / 'p.npz').labels.tolist() == [300, 2]


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / 'other.npz', labels=[1])
    (tmp_path / 'text.npz').write_text('no archive')
    np.save(tmp_path / 'array.npz.npy', np.zeros(3))
    for name in ('other.npz', 'text.npz', 'array.npz.npy'):
        with pytest.raises(ValueError, match=name):
            Predictions.load(tmp_path / name)


def test_several_labels_an_image_are_refused():
    sample = DataSample().set_pred_score(torch.rand(3)).set_gt_label([0, 1])
    with pytest.raises(ValueError, match='1 images have 2 labels'):
        Predictions.from_samples([sample])
    with pytest.raises(ValueError, match='empty'):
        Predictions.from_samples([])
