"""Stages one after the other, as functions of the epoch."""
import pytest

from transmamba_mm.distillation import (Stage, check_length, find_stage,
                                        parse_stages)

THREE = [
    dict(kind='calibration', epochs=1),
    dict(kind='distillation', epochs=4, warmup_epochs=2),
    dict(kind='finetune')
]


@pytest.mark.parametrize('epoch, index, scale', [
    (0.5, 0, 1.),
    (1., 0, 1.),
    (1.5, 1, 0.25),
    (3., 1, 1.),
    (5., 1, 1.),
    (5.1, 2, 0.),
    (90, 2, 0.),
])
def test_an_iteration_falls_into_its_stage(epoch, index, scale):
    stages = parse_stages(THREE)
    found, done = find_stage(stages, epoch)
    assert found == index
    assert stages[found].scale(done) == pytest.approx(scale)


def test_fractions_of_epochs_do_not_slip_by_one_iteration():
    stages = parse_stages([
        dict(kind='calibration', epochs=0.1),
        dict(kind='distillation', epochs=0.2),
        dict(kind='finetune')
    ])
    found = [find_stage(stages, (i + 1) / 10)[0] for i in range(5)]
    assert found == [0, 1, 1, 2, 2]


@pytest.mark.parametrize('warmup, stop, want', [
    (0, None, [1, 1, 1, 1]),
    (2, None, [0.5, 1, 1, 1]),
    (2, 3, [0.5, 1, 1, 0]),
    (0, 0, [0, 0, 0, 0]),
])
def test_the_older_arguments_are_stages_too(warmup, stop, want):
    stages = parse_stages(None, warmup, stop)
    scales = []
    for epoch in range(1, 5):
        index, done = find_stage(stages, epoch)
        scales.append(stages[index].scale(done))
    assert scales == want


def test_the_training_must_hold_all_stages():
    stages = parse_stages(THREE)
    check_length(stages, 6)
    check_length(stages[:2], 5)
    check_length(stages[:2], 3)
    with pytest.raises(ValueError, match=r'stages\[2\].*after epoch 5.*has 5'):
        check_length(stages, 5)
    with pytest.raises(ValueError, match='cover 5 epochs.*has 6'):
        check_length(stages[:2], 6)


@pytest.mark.parametrize('stages, message', [
    ([dict(kind='calibrate')], "did you mean 'calibration'"),
    ([dict(epochs=1)], 'kind'),
    ([dict(kind='finetune', epoch=1)], 'epoch'),
    ([dict(kind='finetune', epochs=0)], 'epochs=0'),
    ([dict(kind='finetune', warmup_epochs=1)], 'warmup_epochs=1'),
    ([dict(kind='distillation'),
      dict(kind='finetune')], 'only the last'),
    ([], 'empty'),
    (['finetune'], 'must be a dict'),
])
def test_wrong_stages(stages, message):
    with pytest.raises(ValueError, match=message):
        parse_stages(stages)


def test_two_ways_at_once_are_refused():
    with pytest.raises(ValueError, match='beside'):
        parse_stages(THREE, warmup_epochs=1)


def test_only_a_finetuning_needs_no_teacher():
    assert [Stage(s['kind']).needs_teacher for s in THREE] == [1, 1, 0]
