"""From finished runs to the figures of the report, as plain values."""
import argparse
import statistics
from typing import Dict, List, Optional, Sequence

import numpy as np

from transmamba_mm.evaluation import (Predictions, compare_faults,
                                      describe_predictions)
from . import evidence, speed
from .experiment import PocRun
from .study import Study, class_counts, read_list

#: Figures of a comparison with the teacher.
FAULTS = ('agreement', 'wrong_too', 'inherited', 'own_mistakes')


class Group:
    """Runs that differ in their seed alone, and their answers.

    Args:
        runs (Sequence[PocRun]): Finished runs; empty for a ready teacher.
        answers (Sequence[Predictions]): One a run.
        kind (str): 'teacher', 'scratch' or 'transmamba'.
        fraction (float, optional): Share of the training images.
    """

    def __init__(self, runs: Sequence[PocRun], answers: Sequence[Predictions],
                 kind: str, fraction: Optional[float]) -> None:
        self.results = [run.result() for run in runs]
        self.answers = list(answers)
        self.kind = kind
        self.fraction = fraction

    @property
    def right(self) -> List[np.ndarray]:
        """List[np.ndarray]: Flags (N,), one array a run."""
        return [a.labels == a.targets for a in self.answers]

    def summary(self, teacher: Optional[Predictions]) -> Dict:
        """Join the figures of all seeds.

        Args:
            teacher (Predictions, optional): The teacher's answers, unless
                this is the teacher or it has none.

        Returns:
            Dict: Plain values, see ``docs/poc.md``.
        """
        alone = [describe_predictions(a) for a in self.answers]
        out = dict(
            kind=self.kind,
            fraction=self.fraction,
            accuracy=evidence.spread([a['accuracy'] for a in alone]),
            class_mean=evidence.spread(
                [_mean_known(a['per_class']) for a in alone]),
            per_class=[
                _mean_known(values)
                for values in zip(*(a['per_class'] for a in alone))
            ],
            reliability=evidence.reliability(
                np.concatenate([a.confidences for a in self.answers]),
                np.concatenate(self.right)))
        errors = [a['ece'] for a in alone]
        out['calibration_error'] = None if None in errors else \
            evidence.spread(errors)
        if self.results:
            out.update(
                images=self.results[0]['images'],
                epochs=self.results[0]['epochs'],
                train_seconds=evidence.spread(
                    [r['train_seconds'] for r in self.results]),
                curves=[r['curve'] for r in self.results])
        if teacher is not None:
            rows = [compare_faults(a, teacher) for a in self.answers]
            out['faults'] = {
                name: _mean_known([row[name] for row in rows])
                for name in FAULTS
            }
        return out


def _mean_known(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [v for v in values if v is not None]
    return statistics.mean(known) if known else None


def collect(study: Study, args: argparse.Namespace,
            teacher: Optional[Predictions], speeds: Sequence[Dict]) -> Dict:
    """Put everything together that the report shows.

    Args:
        study (Study): Finished runs.
        args (argparse.Namespace): The options.
        teacher (Predictions, optional): The teacher's answers, if its head
            fits.
        speeds (Sequence[Dict]): See :func:`~poc_parts.speed.measure_models`.

    Returns:
        Dict: Plain values, see ``docs/poc.md``.
    """
    groups = group_students(study.students)
    teachers = []
    if teacher is not None:
        runs = [study.teacher_run] if study.teacher_run else []
        fraction = study.teacher_run and study.teacher_run.fraction
        teachers = [Group(runs, [teacher], 'teacher', fraction)]
    baseline = find(groups, 'scratch', 1.)
    main = find(groups, 'transmamba', args.fractions[0])
    summaries = [g.summary(None) for g in teachers]
    summaries += [g.summary(teacher) for g in groups]
    return dict(
        task=describe_task(study),
        student=study.settings.tier.students[study.settings.family],
        teacher=dict(
            title=study.teacher.title,
            trained_here=study.teacher_run is not None,
            fraction=study.teacher_run and study.teacher_run.fraction),
        seeds=len(baseline.answers),
        validation_images=len(baseline.answers[0].targets),
        groups=summaries,
        comparisons=[
            compare(g, baseline) for g in groups if g is not baseline
        ],
        verdict=compare(main, baseline),
        classes=compare_classes(study, main, baseline, teacher),
        costs=estimate_costs(study, args, main, baseline, speeds),
        speed=list(speeds),
        notes=study.notes)


def group_students(students: Sequence[PocRun]) -> List[Group]:
    """Put runs together that differ in their seed alone.

    Args:
        students (Sequence[PocRun]): Finished runs.

    Returns:
        List[Group]: From scratch first, then by share, largest first.
    """
    keys = sorted({(run.kind, -run.fraction) for run in students})
    out = []
    for kind, share in keys:
        runs = [r for r in students if (r.kind, -r.fraction) == (kind, share)]
        answers = [Predictions.load(r.dir / 'predictions.npz') for r in runs]
        out.append(Group(runs, answers, kind, -share))
    return out


def find(groups: Sequence[Group], kind: str, fraction: float) -> Group:
    """Find a group.

    Args:
        groups (Sequence[Group]): Where it is among.
        kind (str): 'scratch' or 'transmamba'.
        fraction (float): Share of the training images.

    Returns:
        Group: The group.
    """
    return next(g for g in groups if (g.kind, g.fraction) == (kind, fraction))


def compare(group: Group, baseline: Group) -> Dict:
    """Compare a group with the students from scratch on all images.

    Args:
        group (Group): Runs.
        baseline (Group): Runs.

    Returns:
        Dict: See :func:`~poc_parts.evidence.compare`, and ``kind``,
        ``fraction`` and ``outcome``.
    """
    out = evidence.compare(group.right, baseline.right)
    return dict(
        out,
        kind=group.kind,
        fraction=group.fraction,
        outcome=evidence.judge(out))


def compare_classes(study: Study, main: Group, baseline: Group,
                    teacher: Optional[Predictions]) -> List[Dict]:
    """Compare two groups class by class, and the teacher beside them.

    Args:
        study (Study): Finished runs.
        main (Group): TransMamba.
        baseline (Group): From scratch on all images.
        teacher (Predictions, optional): The teacher's answers.

    Returns:
        List[Dict]: A row a class with validation images, largest loss first.
    """
    task, rows = study.settings.task, []
    counts = class_counts(study.settings.work_dir / 'train.txt',
                          len(task.classes))
    targets = baseline.answers[0].targets
    for k, name in enumerate(task.classes):
        own = targets == k
        if not own.any():
            continue
        parts = [[flags[own] for flags in g.right] for g in (main, baseline)]
        out = evidence.compare(*parts)
        right = teacher and 100 * float((teacher.labels[own] == k).mean())
        rows.append(
            dict(
                name=name,
                train=counts[k],
                validation=int(own.sum()),
                teacher=right,
                scratch=100 * float(np.mean(parts[1])),
                transmamba=100 * float(np.mean(parts[0])),
                difference=out['difference'],
                margin=out['margin'],
                outcome=evidence.judge(out)))
    return sorted(rows, key=lambda row: row['difference'])


def estimate_costs(study: Study, args: argparse.Namespace, main: Group,
                   baseline: Group, speeds: Sequence[Dict]) -> Dict:
    """Estimate what both ways to a student cost, by the user's prices.

    The images of TransMamba are those that it or a teacher trained here has
    seen, and its hours hold that teacher's.

    Args:
        study (Study): Finished runs.
        args (argparse.Namespace): The options.
        main (Group): TransMamba.
        baseline (Group): From scratch on all images.
        speeds (Sequence[Dict]): Throughputs.

    Returns:
        Dict: ``currency``, ``prices``, and for ``scratch`` and
        ``transmamba`` ``images``, ``train_seconds``, ``data``, ``training``,
        ``total`` and ``month``; ``teacher_month``; ``saving``.
    """
    prices = dict(
        hour=args.hour_price,
        image=args.image_price,
        serve_hour=args.hour_price
        if args.serve_hour_price is None else args.serve_hour_price,
        images_per_month=args.images_per_month)
    images, seconds = {}, {}
    for group in (main, baseline):
        images[group.kind] = group.results[0]['images']
        seconds[group.kind] = statistics.mean(r['train_seconds']
                                              for r in group.results)
    teacher_seconds = 0.
    if study.teacher_run is not None:
        result = study.teacher_run.result()
        teacher_seconds = result['train_seconds']
        images['transmamba'] = max(images['transmamba'], result['images'])
    best = {
        row['model']: row['images_per_s']
        for row in speeds if row['batch'] == max(speed.BATCHES)
    }
    out = dict(
        currency=args.currency,
        prices=prices,
        teacher_seconds=teacher_seconds,
        teacher_month=evidence.costs(prices, 0, 0.,
                                     best.get('teacher'))['month'])
    for kind in images:
        total = seconds[kind]
        total += teacher_seconds if kind == 'transmamba' else 0.
        out[kind] = dict(
            evidence.costs(prices, images[kind], total, best.get('student')),
            images=images[kind],
            train_seconds=total)
    known = out['scratch']['total'] is not None
    out['saving'] = out['scratch']['total'] - out['transmamba'][
        'total'] if known else None
    return out


def describe_task(study: Study) -> Dict:
    """Say what was learned.

    Args:
        study (Study): Finished runs.

    Returns:
        Dict: ``name``, ``classes``, ``images`` (training) and ``img_size``.
    """
    task = study.settings.task
    return dict(
        name=task.name,
        classes=len(task.classes),
        images=task.num_train,
        img_size=task.img_size,
        batch_size=study.settings.batch_size,
        jobs=study.settings.jobs,
        amp=study.settings.amp)


def inherited_images(study: Study, args: argparse.Namespace,
                     teacher: Optional[Predictions]) -> List[Dict]:
    """Find images that TransMamba misses as its teacher does, and the
    student from scratch does not.

    Args:
        study (Study): Finished runs.
        args (argparse.Namespace): The options.
        teacher (Predictions, optional): The teacher's answers.

    Returns:
        List[Dict]: ``path``, ``truth``, ``said`` and ``share`` (of the
        seeds), most certain first.
    """
    if teacher is None:
        return []
    groups, task = group_students(study.students), study.settings.task
    main = find(groups, 'transmamba', args.fractions[0])
    share = np.mean([a.labels == teacher.labels for a in main.answers], axis=0)
    right = np.mean(find(groups, 'scratch', 1.).right, axis=0)
    score = np.where(teacher.labels != teacher.targets, share + right, 0.)
    score[(share <= 0.5) | (right <= 0.5)] = 0.
    files = read_list(study.settings.work_dir / 'val.txt')
    order = [i for i in np.argsort(-score, kind='stable') if score[i] > 0]
    return [
        dict(
            path=files[i][0],
            truth=task.classes[teacher.targets[i]],
            said=task.classes[teacher.labels[i]],
            share=float(share[i])) for i in order
    ]
