"""A proof of concept on your images: teacher, Mamba from scratch, TransMamba.

    python tools/poc.py DATA --budget 60

Trains what is to be compared by ordinary ``tools/train.py`` runs, measures
it, and writes ``report.html`` and ``report.json``. Start it again to go on.
"""
import argparse
import json
import signal
import sys
import warnings
from pathlib import Path

from rich.console import Console

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.utils.atomic_io import atomic_write

sys.path.insert(0, str(Path(__file__).resolve().parent))

from poc_parts import (answers, conditions, options, page,  # noqa: E402
                       progress, results, speed, study)


def main() -> None:
    args = options.parse_args()
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work_dir = options.find_work_dir(args)
    clock = conditions.Clock(work_dir / 'seconds.json')
    try:
        report = run(args, work_dir, clock)
    except KeyboardInterrupt:
        print(f'\nInterrupted. What is finished is in {work_dir}; the same '
              'command goes on from there.')
        raise SystemExit(130) from None
    finally:
        clock.stop()
    sentences = [page.headline(report), page.subline(report)]
    print('', *sentences, page.warning(report) or '', sep='\n')
    print(f'Report:  {work_dir / "report.html"}\n'
          f'Figures: {work_dir / "report.json"}')


def run(args: argparse.Namespace, work_dir: Path,
        clock: conditions.Clock) -> dict:
    """Train, measure and write both reports."""
    settings = study.make_settings(args, work_dir)
    print(f'Data: {settings.task.describe()}')
    for note in settings.task.notes:
        print(f'  {note}')
    bars = progress.Bars(Console(), settings.jobs)
    done = study.run_study(args, settings, bars.run_all)
    print('Measuring latency and memory', flush=True)
    teacher = answers.teacher_answers(done)
    report = results.collect(done, args, teacher, measured_speed(done))
    report['title'] = args.title or settings.task.name
    report['made'] = conditions.describe(done, clock.total())
    report['limits'] = conditions.limits(report)
    examples = [] if args.no_thumbnails else results.inherited_images(
        done, args, teacher)
    atomic_write(work_dir / 'report.json',
                 json.dumps(report, indent=2).encode())
    html = page.render(report, examples, Path(settings.task.data_root))
    atomic_write(work_dir / 'report.html', html.encode())
    return report


def measured_speed(done: study.Study) -> list:
    """Measure once, and keep it."""
    known = done.settings.work_dir / 'speed.json'
    if not known.exists():
        rows = speed.measure_models(answers.models_to_measure(done))
        atomic_write(known, json.dumps(rows, indent=2).encode())
    return json.loads(known.read_text())


if __name__ == '__main__':
    main()
