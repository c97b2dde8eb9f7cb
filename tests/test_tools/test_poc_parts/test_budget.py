"""Trainings are cut until they fit, and the report says by how much."""
import math

import pytest
from poc_parts import budget
from poc_parts.budget import Cost, Job

COSTS = dict(
    teacher=Cost(0.1, 1., 5.),
    scratch=Cost(0.1, 1., 5.),
    transmamba=Cost(0.2, 1., 5.))


def jobs(seeds=3):
    out = [Job('teacher', 20, 10)]
    for seed in range(seeds):
        out += [
            Job('scratch', 20, 10, seed),
            Job('transmamba', 20, 8, seed),
        ]
    return out


def plan(seconds, slots=1):
    return budget.make_plan(jobs(), COSTS, seconds, slots, validations=20)


def whole(share=1., seeds=3, slots=1):
    return budget.estimate(jobs(seeds), COSTS, share, slots, 20)


def test_estimate_counts_start_steps_and_validations():
    teacher = budget.estimate([Job('teacher', 20, 10)], COSTS, 1., 1, 20)
    assert teacher == pytest.approx(5 + 20 * 10 * 0.1 + 20)
    fewer = budget.estimate([Job('teacher', 20, 10)], COSTS, 1., 1, 4)
    assert fewer == pytest.approx(5 + 20 + 4)
    # two at a time: the slower one counts
    assert whole(slots=2) == pytest.approx(teacher + 3 * (5 + 32 + 20))


def test_enough_time_changes_nothing():
    out = plan(whole() + 1)
    assert (out.share, out.seeds, out.notes) == (1., 3, [])


def test_epochs_are_cut_first():
    out = plan(whole() / 2)
    assert out.seeds == 3 and 0.25 <= out.share < 1
    assert out.seconds <= whole() / 2
    assert whole(out.share + 0.06) > whole() / 2
    assert out.notes == [
        'Shortened to fit the budget: epochs of the teacher '
        f'{out.epochs(20, "teacher")} of 20, students {out.epochs(20)} of 20.'
    ]


def test_only_what_was_cut_is_named():
    out = plan(whole(0.8) + 1)
    assert out.notes == [
        'Shortened to fit the budget: epochs of the students '
        f'{out.epochs(20)} of 20.'
    ]


def test_a_teacher_is_cut_half_as_much():
    out = budget.Plan(0.3, 1)
    assert (out.epochs(20), out.epochs(20, 'teacher')) == (6, 12)
    assert budget.Plan(0.6, 1).epochs(20, 'teacher') == 20


def test_seeds_are_cut_next_and_then_epochs_to_one():
    out = plan(whole(0.25, seeds=2) + 1)
    assert out.seeds == 2 and out.share >= 0.25
    assert '2 of 3 seeds' in out.notes[-1]
    least = whole(0., seeds=1)
    out = plan(least + 0.1)
    assert (out.seeds, out.epochs(20)) == (1, 1)
    spent, kept = 60., 1 - budget.RESERVE
    told = f'need about {math.ceil((least + spent) / kept / 60)} minutes'
    with pytest.raises(SystemExit, match=f'--budget is too short.*{told}'):
        budget.make_plan(jobs(), COSTS, least - 0.1, 1, 20, spent)


def test_more_time_never_shortens():
    shares = [(p.seeds, p.share) for p in map(plan, range(30, 400, 10))]
    assert shares == sorted(shares)


def test_cost_of_a_test_run():
    rows = [dict(loss=1., time=t) for t in (3., 2., .1, .2, .3)]
    rows.append({'accuracy/top1': 50., 'time': 0.5})
    cost = budget.read_cost(rows, wall=12., val_batches=4)
    assert cost == Cost(pytest.approx(.2), 2., pytest.approx(12 - 5.6 - 2))
    assert budget.probe_fraction(10000, 64) == pytest.approx(0.0768)
    assert budget.probe_fraction(100, 64) == 1
