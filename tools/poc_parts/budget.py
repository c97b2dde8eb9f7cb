"""How long trainings may be, so that everything fits into a time."""
import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Callable, Dict, List, Sequence

#: Below this share of the wanted epochs, seeds are given up first (our
#: choice).
LEAST_SHARE = 0.25
#: Part of the time that is kept for tests and measurements (our choice).
RESERVE = 0.1
#: Steps of a probe, and those at its start that don't count.
PROBE_STEPS = 12
WARM_UP = 2


@dataclass
class Cost:
    """What a training costs.

    Args:
        step (float): Seconds of a step.
        validation (float): Seconds of a validation.
        start (float): Seconds that no epoch adds to.
    """
    step: float
    validation: float
    start: float


@dataclass
class Job:
    """A training that is planned.

    Args:
        kind (str): 'teacher', 'scratch' or 'transmamba'.
        epochs (int): Wanted epochs.
        steps (int): Steps of an epoch.
        seed (int): Random seed.
    """
    kind: str
    epochs: int
    steps: int
    seed: int = 0


@dataclass
class Plan:
    """What is trained.

    Args:
        share (float): Part of the wanted epochs of a student.
        seeds (int): Seeds.
        seconds (float): Estimate for all trainings.
        notes (List[str]): What was shortened.
    """
    share: float
    seeds: int
    seconds: float = 0.
    notes: List[str] = field(default_factory=list)

    def epochs(self, wanted: int, kind: str = 'student') -> int:
        """Shorten a training, a teacher's half as much.

        A student learns nothing from a teacher that is not there yet (our
        choice).

        Args:
            wanted (int): Epochs.
            kind (str): Of the training. Defaults to 'student'.

        Returns:
            int: At least 1.
        """
        share = min(1., 2 * self.share) if kind == 'teacher' else self.share
        return max(1, math.floor(share * wanted))

    def to_dict(self) -> dict:
        """Return plain values.

        Returns:
            dict: Arguments of a new plan.
        """
        return asdict(self)


def estimate(jobs: Sequence[Job], costs: Dict[str, Cost], share: float,
             slots: int, validations: int) -> float:
    """Estimate the time of trainings, a teacher's before all others.

    Args:
        jobs (Sequence[Job]): The trainings, in their order.
        costs (Dict[str, Cost]): What each kind costs.
        share (float): Part of the students' wanted epochs.
        slots (int): Trainings side by side.
        validations (int): Validations of a training, at most.

    Returns:
        float: Seconds.
    """

    def seconds(job: Job) -> float:
        cost = costs[job.kind]
        epochs = Plan(share, 1).epochs(job.epochs, job.kind)
        return cost.start + epochs * job.steps * cost.step + min(
            epochs, validations) * cost.validation

    total = sum(seconds(job) for job in jobs if job.kind == 'teacher')
    students = [seconds(job) for job in jobs if job.kind != 'teacher']
    return total + sum(
        max(students[i:i + slots]) for i in range(0, len(students), slots))


def make_plan(jobs: Sequence[Job],
              costs: Dict[str, Cost],
              seconds: float,
              slots: int,
              validations: int,
              spent: float = 0.) -> Plan:
    """Find the longest trainings that fit.

    Epochs are cut to a quarter, then seeds to one, then epochs to one.

    Args:
        jobs (Sequence[Job]): All trainings that are wanted.
        costs (Dict[str, Cost]): What each kind costs.
        seconds (float): Time for them.
        slots (int): Trainings side by side.
        validations (int): Validations of a training, at most.
        spent (float): Seconds of the test runs. Defaults to 0.

    Returns:
        Plan: The plan.

    Raises:
        SystemExit: If one epoch of each is too long.
    """
    wanted = 1 + max(job.seed for job in jobs)

    def needed(share: float, seeds: int) -> float:
        kept = [job for job in jobs if job.seed < seeds]
        return estimate(kept, costs, share, slots, validations)

    for seeds in range(wanted, 0, -1):
        least = LEAST_SHARE if seeds > 1 else 0.
        if needed(least, seeds) <= seconds:
            share = _largest(lambda s: needed(s, seeds) <= seconds, least)
            plan = Plan(share, seeds, needed(share, seeds))
            plan.notes += _tell(plan, jobs, wanted)
            return plan
    least = (needed(0., 1) + spent) / (1 - RESERVE) / 60
    raise SystemExit(
        '--budget is too short: the test runs and one epoch of each training '
        f'with one seed need about {math.ceil(least)} minutes. Raise '
        '--budget, give fewer --fractions, another --student or a smaller '
        '--size.')


def _largest(fits: Callable[[float], bool], low: float) -> float:
    """Find the largest share that fits, to a thousandth."""
    if fits(1.):
        return 1.
    high = 1.
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _tell(plan: Plan, jobs: Sequence[Job], wanted: int) -> List[str]:
    notes = []
    if plan.share < 1:
        cut = {
            'teacher' if job.kind == 'teacher' else 'students': job
            for job in jobs
        }
        parts = [
            f'{who} {plan.epochs(job.epochs, job.kind)} of {job.epochs}'
            for who, job in cut.items()
            if plan.epochs(job.epochs, job.kind) < job.epochs
        ]
        if parts:
            notes.append('Shortened to fit the budget: epochs of the '
                         f'{", ".join(parts)}.')
    if plan.seeds < wanted:
        notes.append(f'Shortened to fit the budget: {plan.seeds} of {wanted} '
                     'seeds.')
    return notes


def probe_fraction(num_images: int, batch_size: int) -> float:
    """Choose a share of the images for a test run.

    Args:
        num_images (int): Training images.
        batch_size (int): Images of a step.

    Returns:
        float: In (0, 1].
    """
    return min(1., PROBE_STEPS * batch_size / num_images)


def read_cost(rows: Sequence[dict], wall: float, val_batches: int) -> Cost:
    """Work out the cost of a kind from a test run of one epoch.

    Args:
        rows (Sequence[dict]): Its scalars.
        wall (float): Seconds of the whole process.
        val_batches (int): Batches of a validation.

    Returns:
        Cost: Median step; what is left of the wall time is the start.
    """
    steps = [row['time'] for row in rows if 'loss' in row]
    validation = val_batches * sum(
        row.get('time', 0.) for row in rows if 'loss' not in row)
    step = statistics.median(steps[WARM_UP:] or steps)
    return Cost(step, validation, max(0., wall - sum(steps) - validation))
