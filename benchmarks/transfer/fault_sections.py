"""The tables of docs/results.md about faults, from kept predictions."""
import os.path as osp
from statistics import mean
from typing import Dict, List, Optional, Tuple

from figures import Line, group, label_of, pick, spread, table
from lines import predictions_path
from sections import FRACTIONS, plain_students
from tables import TEACHER

from transmamba_mm.evaluation import (Predictions, compare_faults,
                                      describe_predictions)

#: Methods that are compared.
METHODS = ('scratch', 'transmamba')
COLUMNS = dict(
    accuracy='accuracy',
    ece='calibration error',
    agreement="same class as the teacher's",
    wrong_too='wrong too',
    inherited='same mistake',
    own_mistakes='wrong where the teacher is right')

Figures = Tuple[Line, str, Dict]


def read_predictions(line: Line, results: str) -> Optional[Predictions]:
    """Read what was said about each test image.

    Args:
        line (Line): A result.
        results (str): The file that it comes from.

    Returns:
        Predictions, optional: None if they were not kept.
    """
    path = predictions_path(results, line.get('name', ''))
    return Predictions.load(path) if osp.isfile(path) else None


def compare(lines: List[Line], results: str) -> Tuple[Dict, List[Figures]]:
    """Compare students with teachers, those from scratch with each.

    Args:
        lines (List[Line]): Results.
        results (str): The file that they come from.

    Returns:
        tuple: Figures of the teachers by label, and for each student its
        line, the teacher's label and the figures.
    """
    teachers = {}
    for line in pick(lines, student=TEACHER):
        answers = read_predictions(line, results)
        if answers is not None:
            teachers[label_of(line)] = answers
    out = []
    chosen = [
        r for r in plain_students(lines)
        if r['method'] in METHODS and r['fraction'] in FRACTIONS
    ]
    for line in chosen:
        answers = read_predictions(line, results)
        if answers is None:
            continue
        alike = pick(chosen,
                     **{k: line[k]
                        for k in ('student', 'fraction', 'epochs')})
        labels = {r['teacher'] for r in alike}
        for label in sorted(labels & set(teachers)):
            if line['teacher'] in ('', label):
                figures = compare_faults(answers, teachers[label])
                names = answers.classes.tolist() or [
                    f'class {k}' for k in range(len(figures['per_class']))
                ]
                out.append((line, label, dict(figures, classes=names)))
    return {k: describe_predictions(v) for k, v in teachers.items()}, out


def fault_table(lines: List[Line], results: str) -> str:
    """Compare mistakes and calibration with and without a teacher.

    Args:
        lines (List[Line]): Results.
        results (str): The file that they come from.

    Returns:
        str: Markdown; all figures in per cent.
    """
    teachers, found = compare(lines, results)
    rows = [(label, '', '', '', *(spread([figures.get(k)]) for k in COLUMNS))
            for label, figures in teachers.items()]
    for key, own in by_kind(found).items():
        rows.append((*key, *(spread([f[k] for f in own]) for k in COLUMNS)))
    return table(['model', 'images', 'method', 'teacher', *COLUMNS.values()],
                 rows if found else [])


def class_table(lines: List[Line], results: str) -> str:
    """Compare the accuracy of each class.

    Args:
        lines (List[Line]): Results.
        results (str): The file that they come from.

    Returns:
        str: Markdown; scratch and TransMamba on the same images, means over
        seeds in per cent.
    """
    _, found = compare(lines, results)
    kinds = by_kind(found)
    rows = []
    for (student, images, method, label), taught in kinds.items():
        scratch = kinds.get((student, images, 'scratch', label))
        if method == 'scratch' or not scratch:
            continue
        before, after = class_means(scratch), class_means(taught)
        gains = {name: after[name] - before[name] for name in before}
        worst, *_, best = sorted(gains, key=gains.get)
        rows.append(
            (student, images, label, f'{min(before.values()):.2f}',
             f'{min(after.values()):.2f}', f'{gains[worst]:+.2f} ({worst})',
             f'{gains[best]:+.2f} ({best})'))
    return table([
        'student', 'images', 'teacher', 'worst class, scratch',
        'worst class, TransMamba', 'least gain of a class',
        'largest gain of a class'
    ], rows)


def class_means(seeds: List[Dict]) -> Dict[str, float]:
    """Average the accuracy of each class over seeds.

    Args:
        seeds (List[Dict]): Figures of each.

    Returns:
        Dict[str, float]: By the name of the class; without those that have
        no test images.
    """
    per_class = zip(*(figures['per_class'] for figures in seeds))
    return {
        name: mean(values)
        for name, values in zip(seeds[0]['classes'], per_class)
        if None not in values
    }


def by_kind(found: List[Figures]) -> Dict[tuple, List[Dict]]:
    """Collect the seeds.

    Args:
        found (List[Figures]): From :func:`compare`.

    Returns:
        Dict[tuple, List[Dict]]: Figures by student, share of the images,
        method and teacher.
    """
    entries = [
        dict(
            key=(f'{line["student"]}, {line["epochs"]} epochs',
                 f'{line["fraction"]:.0%}', line['method'], label),
            figures=figures) for line, label, figures in found
    ]
    return {
        key: [e['figures'] for e in own]
        for (key, ), own in group(entries, 'key').items()
    }
