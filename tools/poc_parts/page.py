"""The report as one HTML file."""
import base64
import io
import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from . import figures

TEMPLATES = Path(__file__).resolve().parent / 'templates'
#: Images of inherited mistakes that are shown, and their side in pixels.
EXAMPLES = 12
THUMBNAIL = 96


def render(report: Dict, examples: Sequence[Dict], root: Path) -> str:
    """Write the page.

    Args:
        report (Dict): See :func:`~poc_parts.results.collect`.
        examples (Sequence[Dict]): See
            :func:`~poc_parts.results.inherited_images`.
        root (Path): Folder that their paths start from.

    Returns:
        str: HTML that loads nothing.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True)
    env.filters.update(
        percent=percent,
        spread=spread,
        duration=duration,
        whole=whole,
        signed=signed,
        number=number,
        money=money,
        label=group_label)
    shown = [
        dict(example, picture=thumbnail(root / example['path']))
        for example in examples[:EXAMPLES]
    ]
    html = env.get_template('report.html.j2').render(
        report=report,
        style=(TEMPLATES / 'report.css').read_text(),
        headline=headline(report),
        subline=subline(report),
        warning=warning(report),
        figures=figures.all_figures(report),
        examples=shown,
        more_examples=len(examples) - len(shown),
        main=pick(report, 'transmamba', report['verdict']['fraction']),
        baseline=pick(report, 'scratch', 1.),
        comparisons={
            (c['kind'], c['fraction']): c
            for c in report['comparisons']
        })
    return keep_together(html)


def keep_together(text: str) -> str:
    """Have no line end between a number and its sign.

    Args:
        text (str): Text or HTML.

    Returns:
        str: With non-breaking spaces.
    """
    return re.sub(r'(?<=\d) (?=[%×±])|(?<=[×±]) (?=\d)', '\u00a0', text)


def pick(report: Dict, kind: str, fraction: float) -> Dict:
    """Find a group of runs.

    Args:
        report (Dict): See :func:`render`.
        kind (str): 'scratch' or 'transmamba'.
        fraction (float): Share of the training images.

    Returns:
        Dict: The group.
    """
    return next(g for g in report['groups']
                if (g['kind'], g['fraction']) == (kind, fraction))


def headline(report: Dict) -> str:
    """Say the verdict in a sentence.

    Args:
        report (Dict): See :func:`render`.

    Returns:
        str: The sentence.
    """
    fraction = report['verdict']['fraction']
    own = f'{100 * fraction:g} % of the images'
    other = 'all of them'
    if fraction == 1:
        own, other = 'all images', 'the same ones'
    return {
        'better':
        f'With {own}, TransMamba is more accurate than a Mamba trained from '
        f'scratch with {other}.',
        'open':
        f'TransMamba with {own} and a Mamba from scratch with {other}: no '
        'difference shown.',
        'worse':
        f'With {own}, TransMamba stays behind a Mamba trained from scratch '
        f'with {other}.'
    }[report['verdict']['outcome']]


def subline(report: Dict) -> str:
    """Say what the verdict rests on.

    Args:
        report (Dict): See :func:`render`.

    Returns:
        str: Accuracies, difference and margin.
    """
    verdict, seeds = report['verdict'], report['seeds']
    main = pick(report, 'transmamba', verdict['fraction'])
    baseline = pick(report, 'scratch', 1.)
    runs = 'one seed, whose spread is not known' if seeds == 1 else \
        f'{seeds} seeds'
    return (f'{spread(main["accuracy"])} % against '
            f'{spread(baseline["accuracy"])} %, a difference of '
            f'{signed(verdict["difference"])} points. Chance explains up to '
            f'± {verdict["margin"]:.1f} points (95 %; {runs}, '
            f'{whole(report["validation_images"])} validation images).')


def warning(report: Dict) -> Optional[str]:
    """Say why nothing could be expected, if that is so.

    Args:
        report (Dict): See :func:`render`.

    Returns:
        str, optional: A sentence on a teacher that is worse than the student
        from scratch.
    """
    teachers = [g for g in report['groups'] if g['kind'] == 'teacher']
    scratch = pick(report, 'scratch', 1.)['accuracy']['mean']
    if not teachers or teachers[0]['accuracy']['mean'] >= scratch:
        return None
    advice = 'Train it longer (--teacher-epochs), or on more images ' \
        '(--teacher-fraction).' if report['teacher']['trained_here'] else \
        'Fine-tune it on these classes first.'
    return (f'The teacher ({percent(teachers[0]["accuracy"]["mean"])} %) is '
            'itself less accurate than the student from scratch: little can '
            f'be learned from it. {advice}')


def percent(value: Optional[float], digits: int = 1) -> str:
    """Format a figure that may be missing.

    Args:
        value (float, optional): The figure.
        digits (int): After the point. Defaults to 1.

    Returns:
        str: The figure or a dash.
    """
    return '–' if value is None else f'{value:.{digits}f}'


def spread(values: Optional[Dict], digits: int = 1) -> str:
    """Format mean and deviation.

    Args:
        values (Dict, optional): See :func:`~poc_parts.evidence.spread`.
        digits (int): After the point. Defaults to 1.

    Returns:
        str: Such as '97.8 ± 0.3'.
    """
    if values is None:
        return '–'
    text = percent(values['mean'], digits)
    if values['std'] is not None:
        text += f' ± {values["std"]:.{digits}f}'
    return text


def duration(seconds: float, *beside: float) -> str:
    """Format a time.

    Args:
        seconds (float): The time.
        *beside (float): Others that it is compared with, in the same unit.

    Returns:
        str: In seconds, minutes or hours.
    """
    unit, name = figures.time_unit(max(seconds, *beside, 0.))
    value = seconds / unit
    return f'{value:,.{1 if value < 10 else 0}f} {name}'


def whole(value: float) -> str:
    """Format a count.

    Args:
        value (float): The count.

    Returns:
        str: With commas.
    """
    return f'{value:,.0f}'


def signed(value: float, digits: int = 1) -> str:
    """Format a difference.

    Args:
        value (float): The difference.
        digits (int): After the point. Defaults to 1.

    Returns:
        str: With its sign.
    """
    return f'{value:+.{digits}f}'.replace('-', '−')


def number(value: Optional[float], digits: int = 3) -> str:
    """Format a figure of any size.

    Args:
        value (float, optional): The figure.
        digits (int): Significant digits. Defaults to 3.

    Returns:
        str: The figure or a dash.
    """
    if value is None:
        return '–'
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.{digits}g}'


def money(value: Optional[float]) -> str:
    """Format an amount of money.

    Args:
        value (float, optional): The amount.

    Returns:
        str: With cents where they matter, or a dash.
    """
    if value is None:
        return '–'
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:,.2f}'


def group_label(group: Dict) -> str:
    """Name a group of runs.

    Args:
        group (Dict): See ``groups`` in ``docs/poc.md``.

    Returns:
        str: Such as 'TransMamba, 75 %'.
    """
    text = figures.label(group)
    return text[0].upper() + text[1:]


def thumbnail(path: Path) -> str:
    """Make a small picture part of the page.

    Args:
        path (Path): An image.

    Returns:
        str: A data URL.
    """
    from PIL import Image
    with Image.open(path) as image:
        image = image.convert('RGB')
    largest = max(image.size)
    # small ones are enlarged in whole steps, so that they stay sharp
    factor = THUMBNAIL / largest if largest > THUMBNAIL else \
        THUMBNAIL // largest
    size: List[int] = [max(1, round(side * factor)) for side in image.size]
    how = Image.LANCZOS if factor < 1 else Image.NEAREST
    out = io.BytesIO()
    image.resize(size, how).save(out, 'png')
    code = base64.b64encode(out.getvalue()).decode()
    return f'data:image/png;base64,{code}'
