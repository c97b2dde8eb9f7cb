"""From a folder to finished runs: images, teacher, plan, trainings."""
import argparse
import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import torch
from quickstart_parts import data
from quickstart_parts.data import Task

from transmamba_mm.utils.atomic_io import atomic_write
from . import budget, teachers, tiers
from .experiment import MAX_VALIDATIONS, PocRun, Settings, cores, make_run
from .teachers import Teacher

#: Ratio of class sizes that is worth a word (our choice).
UNEVEN = 5

RunAll = Callable[[List[PocRun]], None]


def make_settings(args: argparse.Namespace, work_dir: Path) -> Settings:
    """List the images and choose the presets.

    Args:
        args (argparse.Namespace): The options.
        work_dir (Path): Folder of all runs.

    Returns:
        Settings: What all trainings have in common.

    Raises:
        SystemExit: If the options don't fit the images or the machine.
    """
    root = Path(args.data).expanduser().resolve()
    has_card = torch.cuda.is_available()
    if args.amp and not has_card:
        raise SystemExit('--amp needs a card, and there is none; leave it '
                         'out.')
    work_dir.mkdir(parents=True, exist_ok=True)
    task = data.remember(work_dir, root,
                         lambda: make_task(root, work_dir, args.size))
    settings = Settings(
        task,
        tiers.TIERS[task.img_size],
        args.student,
        work_dir,
        jobs=args.jobs or (1 if has_card else cores()),
        epochs=dict(teacher=args.teacher_epochs, student=args.epochs),
        teacher_init=args.teacher_init,
        amp=args.amp,
        options=args.cfg_options)
    least = min(args.fractions + [args.teacher_fraction])
    if least * task.num_train < settings.batch_size:
        raise SystemExit(
            f'A share of {least:g} leaves {least * task.num_train:.0f} of '
            f'{task.num_train} training images, less than one batch of '
            f'{settings.batch_size}; give larger --fractions, or more '
            'images.')
    return settings


def make_task(root: Path, work_dir: Path, size: Optional[int]) -> Task:
    """List the images once, and choose their size.

    Args:
        root (Path): The user's folder.
        work_dir (Path): Where the lists are written.
        size (int, optional): Side in pixels; None chooses it.

    Returns:
        Task: The task, with notes.
    """
    task = data.list_images(root, work_dir, root.name, 0, keep_lone=False)
    notes = list(task.notes)
    files = [root / name for name, _ in read_list(work_dir / 'train.txt')]
    sides = tiers.short_sides(files)
    tier = tiers.TIERS[size] if size else tiers.choose_tier(sides)
    extent = f'{min(sides)} to {max(sides)}'
    if min(sides) == max(sides):
        extent = f'{min(sides)}'
    notes.append(
        f'The shorter sides of the images are {extent} pixels: they are '
        f'resized to {tier.size} x {tier.size}'
        f'{", as --size says" if size else ""}.')
    counts = class_counts(work_dir / 'train.txt', len(task.classes))
    if max(counts) >= UNEVEN * min(counts):
        notes.append(
            f'The classes have {min(counts)} to {max(counts)} training '
            'images: the frequent ones count more in the accuracy. See the '
            'mean over the classes beside it.')
    return dataclasses.replace(task, img_size=tier.size, notes=notes)


def read_list(path: Path) -> List[Tuple[str, int]]:
    """Read a list of images.

    Args:
        path (Path): ``train.txt`` or ``val.txt``.

    Returns:
        List[Tuple[str, int]]: Path below the folder, and label.
    """
    rows = [line.rsplit(' ', 1) for line in path.read_text().splitlines()]
    return [(name, int(label)) for name, label in rows]


def class_counts(path: Path, num_classes: int) -> List[int]:
    """Count the images of each class.

    Args:
        path (Path): See :func:`read_list`.
        num_classes (int): Number of classes.

    Returns:
        List[int]: Images by class.
    """
    counts = Counter(label for _, label in read_list(path))
    return [counts[i] for i in range(num_classes)]


@dataclasses.dataclass
class Study:
    """What is compared.

    Args:
        settings (Settings): What all trainings have in common.
        teacher (Teacher): The teacher.
        teacher_run (PocRun, optional): Its training, if it was trained here.
        students (List[PocRun]): All students.
        notes (List[str]): What was assumed and shortened.
    """
    settings: Settings
    teacher: Teacher
    teacher_run: Optional[PocRun]
    students: List[PocRun]
    notes: List[str]


def run_study(args: argparse.Namespace, settings: Settings,
              run_all: RunAll) -> Study:
    """Train everything that is not finished.

    Args:
        args (argparse.Namespace): The options.
        settings (Settings): What all trainings have in common.
        run_all (Callable): Trains some runs.

    Returns:
        Study: Finished runs.
    """
    given = None if args.teacher == ['train'] else teachers.from_files(
        args.teacher)
    plan = get_plan(args, settings, given, run_all)
    teacher, teacher_run = given, None
    if teacher is None:
        teacher_run = make_run(
            settings,
            'teacher',
            plan.epochs(settings.planned_epochs('teacher'), 'teacher'),
            fraction=args.teacher_fraction)
        run_all([teacher_run])
        teacher = teachers.from_run(teacher_run.checkpoint())
    epochs = plan.epochs(settings.planned_epochs('student'))
    students = [
        make_run(settings, kind, epochs, fraction, seed,
                 teacher.hooks() if kind == 'transmamba' else None)
        for kind, fraction, seed in wanted_students(args) if seed < plan.seeds
    ]
    run_all(students)
    notes = [*settings.task.notes, *teacher.notes, *plan.notes]
    return Study(settings, teacher, teacher_run, students, notes)


def wanted_students(args: argparse.Namespace) -> List[Tuple[str, float, int]]:
    """List the students; each seed is complete before the next one.

    Args:
        args (argparse.Namespace): The options.

    Returns:
        List[Tuple[str, float, int]]: Kind, share of the images and seed.
    """
    kinds = [('scratch', f) for f in reversed(args.scratch_fractions)]
    kinds += [('transmamba', f) for f in args.fractions]
    return [(kind, fraction, seed) for seed in range(args.seeds)
            for kind, fraction in kinds]


def get_plan(args: argparse.Namespace, settings: Settings,
             given: Optional[Teacher], run_all: RunAll) -> budget.Plan:
    """Take the plan of an earlier start, or make one.

    Args:
        args (argparse.Namespace): The options.
        settings (Settings): What all trainings have in common.
        given (Teacher, optional): A ready teacher.
        run_all (Callable): Trains some runs.

    Returns:
        Plan: All that is wanted, without a budget.
    """
    if args.budget is None:
        return budget.Plan(1., args.seeds)
    known = settings.work_dir / 'plan.json'
    if known.exists():
        return budget.Plan(**json.loads(known.read_text()))
    costs, spent = probe(args, settings, given, run_all)
    seconds = (1 - budget.RESERVE) * 60 * args.budget - spent
    plan = budget.make_plan(
        planned_jobs(args, settings, given), costs, seconds, settings.jobs,
        MAX_VALIDATIONS, spent)
    atomic_write(known, json.dumps(plan.to_dict(), indent=2).encode())
    print(
        f'Planned: {plan.seconds / 60:.1f} minutes of training.',
        *plan.notes,
        flush=True)
    return plan


def planned_jobs(args: argparse.Namespace, settings: Settings,
                 given: Optional[Teacher]) -> List[budget.Job]:
    """List all trainings for the planner.

    Args:
        args (argparse.Namespace): The options.
        settings (Settings): What all trainings have in common.
        given (Teacher, optional): A ready teacher.

    Returns:
        List[Job]: The teacher, if it is trained, and the students.
    """

    def steps(fraction: float) -> int:
        images = fraction * settings.task.num_train
        return math.ceil(images / settings.batch_size)

    jobs = [
        budget.Job(kind, settings.planned_epochs('student'), steps(fraction),
                   seed) for kind, fraction, seed in wanted_students(args)
    ]
    if given is None:
        jobs.insert(
            0,
            budget.Job('teacher', settings.planned_epochs('teacher'),
                       steps(args.teacher_fraction)))
    return jobs


def probe(args: argparse.Namespace, settings: Settings,
          given: Optional[Teacher],
          run_all: RunAll) -> Tuple[Dict[str, budget.Cost], float]:
    """Measure the steps of each kind by runs of one short epoch.

    Args:
        args (argparse.Namespace): The options.
        settings (Settings): What all trainings have in common.
        given (Teacher, optional): A ready teacher.
        run_all (Callable): Trains some runs.

    Returns:
        Tuple[Dict[str, Cost], float]: Cost by kind, and seconds spent.
    """
    fraction = budget.probe_fraction(settings.task.num_train,
                                     settings.batch_size)
    teacher, runs = given, []
    if teacher is None:
        runs.append(
            make_run(settings, 'teacher', 1, fraction, folder='probe_teacher'))
        run_all(runs)
        teacher = teachers.from_run(runs[0].checkpoint())
    pair = [
        make_run(settings, kind, 1, fraction, 0,
                 teacher.hooks() if kind == 'transmamba' else None,
                 f'probe_{kind}') for kind in ('scratch', 'transmamba')
    ]
    run_all(pair)
    runs += pair
    walls = [run.wall_seconds() for run in runs]
    costs = {
        run.kind: budget.read_cost(run.scalars(), wall, run.val_batches())
        for run, wall in zip(runs, walls)
    }
    side_by_side = max if settings.jobs > 1 else sum
    return costs, sum(walls[:-2]) + side_by_side(walls[-2:])
