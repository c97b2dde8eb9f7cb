"""The tables of docs/results.md about accuracy, time and cost."""
from statistics import mean
from typing import Dict, List, Sequence

from figures import (Line, against, group, label_of, pick, spread, table,
                     values_of)
from tables import METHODS, TEACHER, TEACHERS

#: Shares of scratch's last accuracy to which times are compared.
LEVELS = (0.9, 0.95, 1.)
#: Shares of the images that the main tables show.
FRACTIONS = (1., 0.75)


def is_teacher(line: Line) -> bool:
    """Tell whether a line is the training of a teacher.

    Args:
        line (Line): A result.

    Returns:
        bool: True if so.
    """
    return line['student'] in TEACHERS


def students(lines: List[Line], variant: str = '') -> List[Line]:
    """Choose the trainings of image students by the recipes.

    Args:
        lines (List[Line]): Results.
        variant (str): Or those of a variant. Defaults to ''.

    Returns:
        List[Line]: The chosen lines.
    """
    return [
        r for r in pick(lines, task='classification', variant=variant)
        if not is_teacher(r)
    ]


def plain_students(lines: List[Line], variant: str = '') -> List[Line]:
    """Choose those with the teacher of the recipes, or from scratch.

    Args:
        lines (List[Line]): Results.
        variant (str): As :func:`students`. Defaults to ''.

    Returns:
        List[Line]: The chosen lines.
    """
    return [
        r for r in students(lines, variant)
        if r['teacher'].split(' ')[0] in ('', TEACHER)
    ]


def comparable(lines: List[Line]) -> List[Line]:
    """Choose the trainings by the recipes, of all tasks.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[Line]: As :func:`plain_students`, and those of other tasks.
    """
    return plain_students(lines) + [
        r for r in lines if r['task'] != 'classification' and not r['variant']
    ]


def teacher_table(lines: List[Line]) -> str:
    """List the teachers.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown.
    """
    return table(['teacher', 'images', 'epochs', 'accuracy, %', 'seconds'],
                 [(r['student'], f'{r["fraction"]:.0%}', r['epochs'],
                   f'{r["value"]:.2f}', f'{r["train_seconds"]:.0f}')
                  for r in lines if is_teacher(r)])


def ablation_table(lines: List[Line]) -> str:
    """Compare the four methods on each student and share of the images.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown; a cell is the mean, its spread and the difference
        against scratch. Where one method alone has a teacher, there is no
        row.
    """
    rows = []
    for (student, fraction, epochs), own in group(
            plain_students(lines), 'student', 'fraction', 'epochs').items():
        scratch = pick(own, method='scratch')
        taught = [r for r in own if r['teacher']]
        for (teacher, ), those in group(taught, 'teacher').items():
            cells = []
            for method in METHODS[1:]:
                seeds = pick(those, method=method)
                cells.append(
                    f'{spread(values_of(seeds))} {against(seeds, scratch)}')
            if len(group(those, 'method')) > 1:
                rows.append((student, f'{fraction:.0%}', epochs, teacher,
                             spread(values_of(scratch)), *cells))
    return table(['student', 'images', 'epochs', 'teacher', *METHODS], rows)


def curve_table(lines: List[Line]) -> str:
    """Compare scratch and TransMamba over the share of the images.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown, of students with three shares or more.
    """
    rows = []
    for (student, epochs), own in group(students(lines), 'student',
                                        'epochs').items():
        taught = [r for r in own if r['method'] == 'transmamba']
        for (teacher, ), those in group(taught, 'teacher').items():
            points = group(those, 'fraction')
            if len(points) < 3:
                continue
            for (fraction, ), seeds in sorted(points.items()):
                scratch = pick(own, method='scratch', fraction=fraction)
                rows.append((student, epochs, teacher, f'{fraction:.0%}',
                             spread(values_of(scratch)),
                             spread(values_of(seeds)), against(seeds,
                                                               scratch)))
    return table([
        'student', 'epochs', 'teacher', 'images', 'scratch', 'TransMamba',
        'difference'
    ], rows)


def variant_table(lines: List[Line], method: str) -> str:
    """List the variants of a method beside its default and scratch.

    Args:
        lines (List[Line]): Results.
        method (str): The method.

    Returns:
        str: Markdown.
    """
    rows = []
    images = [
        r for r in pick(lines, task='classification') if not is_teacher(r)
    ]
    for (student, fraction, epochs), own in group(images, 'student',
                                                  'fraction',
                                                  'epochs').items():
        scratch = pick(own, method='scratch', variant='')
        for (teacher, ), those in group(pick(own, method=method),
                                        'teacher').items():
            variants = group(those, 'variant')
            variants.pop(('alone', ), None)
            default = variants.get(('', ), [])
            if set(variants) <= {('', )}:
                continue
            for (variant, ), seeds in variants.items():
                rows.append(
                    (student, f'{fraction:.0%}', epochs, teacher, variant
                     or 'default', spread(values_of(seeds)),
                     against(seeds, default) if variant else '',
                     against(seeds, scratch)))
    return table([
        'student', 'images', 'epochs', 'teacher', 'variant', 'accuracy, %',
        'against default', 'against scratch'
    ], rows)


def shape_table(lines: List[Line]) -> str:
    """Compare teachers of several shapes.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown, of students with several teachers that saw all images.
    """
    accuracy: Dict[str, float] = {
        label_of(r): r['value']
        for r in lines if is_teacher(r)
    }
    rows = []
    for (student, fraction, method, epochs), own in group(
            students(lines), 'student', 'fraction', 'method',
            'epochs').items():
        teachers = group([r for r in own if '(100%)' in r['teacher']],
                         'teacher')
        if len(teachers) < 2:
            continue
        scratch = pick(
            students(lines),
            student=student,
            fraction=fraction,
            method='scratch',
            epochs=epochs)
        for (teacher, ), seeds in teachers.items():
            known = accuracy.get(teacher)
            rows.append((student, f'{fraction:.0%}', method, epochs, teacher,
                         '' if known is None else f'{known:.2f}',
                         spread(values_of(seeds)), against(seeds, scratch)))
    return table([
        'student', 'images', 'method', 'epochs', 'teacher', 'its accuracy, %',
        'accuracy, %', 'against scratch'
    ], rows)


def seconds_to(lines: Sequence[Line], target: float) -> List[float]:
    """Seconds of training until an accuracy was first measured.

    Args:
        lines (Sequence[Line]): Seeds.
        target (float): The accuracy.

    Returns:
        List[float]: One entry for each seed that reaches it.
    """
    out = []
    for line in lines:
        out += [s for _, value, s in line['curve'] if value >= target][:1]
    return out


def timed_students(lines: List[Line]) -> List[Line]:
    """Choose the trainings whose times are compared.

    Args:
        lines (List[Line]): Results.

    Returns:
        List[Line]: Scratch and TransMamba, those that ran alone on a device
        if there are any.
    """
    chosen = plain_students(lines, 'alone') or plain_students(lines)
    return [
        r for r in chosen
        if r['method'] in ('scratch',
                           'transmamba') and r['fraction'] in FRACTIONS
    ]


def time_table(lines: List[Line]) -> str:
    """Compare the time to levels of scratch's last accuracy.

    Args:
        lines (List[Line]): Results.

    Returns:
        str: Markdown; a cell is the mean of the seconds and how many seeds
        reach the level.
    """
    rows = []
    timed = timed_students(lines)
    for (student, epochs, beside, card), own in group(timed, 'student',
                                                      'epochs', 'side_by_side',
                                                      'card').items():
        whole = pick(own, method='scratch', fraction=1.)
        if not whole:
            continue
        levels = [mean(values_of(whole)) * share for share in LEVELS]
        for (method, fraction,
             teacher), seeds in group(own, 'method', 'fraction',
                                      'teacher').items():
            cells = []
            for level in levels:
                times = seconds_to(seeds, level)
                cells.append(f'{mean(times):.0f} ({len(times)} of '
                             f'{len(seeds)})' if times else 'not reached')
            rows.append(
                (student, epochs, beside, method, f'{fraction:.0%}', teacher
                 or '-', *cells, spread(values_of(seeds, 'train_seconds'), 0)))
    heads = [f'to {share:.0%} of scratch' for share in LEVELS]
    return table([
        'student', 'epochs', 'side by side', 'method', 'images', 'teacher',
        *heads, 'all epochs'
    ], rows)


def cost_table(lines: List[Line], kg_per_kwh: float) -> str:
    """Tell what a training of each kind by the recipes costs.

    Args:
        lines (List[Line]): Results.
        kg_per_kwh (float): CO2 of a kilowatt-hour.

    Returns:
        str: Markdown.
    """
    rows = []
    known = [r for r in lines if r.get('device_seconds') and not r['variant']]
    for (student, method, fraction, epochs,
         card), seeds in group(known, 'student', 'method', 'fraction',
                               'epochs', 'card').items():
        joules = [r['joules'] for r in seeds if r.get('joules')]
        energy = ('-', '-')
        if joules:
            energy = (spread([j / 1e3 for j in joules],
                             1), f'{mean(joules) / 3.6e6 * kg_per_kwh:.4f}')
        rows.append((student, method, f'{fraction:.0%}', epochs, card,
                     spread(values_of(seeds, 'device_seconds'), 0), *energy))
    return table([
        'model', 'method', 'data', 'epochs', 'card', 'seconds of the card',
        'kJ', 'kg CO2'
    ], rows)


def other_table(lines: List[Line], task: str) -> str:
    """List the rows of a task that is not image classification.

    Args:
        lines (List[Line]): Results.
        task (str): The task.

    Returns:
        str: Markdown; the further metrics are means over the seeds.
    """
    rows = []
    for (data, student, fraction, epochs, metric), own in group(
            pick(lines, task=task), 'data', 'student', 'fraction', 'epochs',
            'metric').items():
        scratch = pick(own, method='scratch', variant='')
        for (method, teacher, variant), seeds in group(own, 'method',
                                                       'teacher',
                                                       'variant').items():
            rows.append(
                (data, student, f'{fraction:.0%}', epochs, method, teacher
                 or '-', variant
                 or 'default', metric, spread(values_of(seeds)),
                 '' if seeds == scratch else against(seeds, scratch),
                 further_metrics(seeds)))
    return table([
        'data', 'student', 'share', 'epochs', 'method', 'teacher', 'variant',
        'metric', 'value', 'against scratch', 'further metrics'
    ], rows)


def further_metrics(seeds: List[Line]) -> str:
    """Name what else was measured.

    Args:
        seeds (List[Line]): Lines of one kind.

    Returns:
        str: Name and mean of each.
    """
    names = [
        name for name in seeds[0].get('metrics', {})
        if name != seeds[0]['metric']
    ]
    return ', '.join(
        f'{name.split("/")[-1]} {mean(r["metrics"][name] for r in seeds):.2f}'
        for name in names if all(name in r.get('metrics', {}) for r in seeds))
