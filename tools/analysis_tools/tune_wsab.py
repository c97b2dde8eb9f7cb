"""Find good settings of subcloning and distillation by short probes.

Tries how many layers are cloned, by which preset, the weight alpha of the
distillation and its layer map. Each probe is a `tools/train.py` run of a few
epochs; the config's own settings go first. A second start with the same work
dir goes on where the first ended, and may spend its whole budget again.
Needs `pip install optuna`.
"""
import argparse
import hashlib
import json
import signal
import sys
import time
from pathlib import Path

import transmamba_mm  # noqa: F401  (before torchvision is imported)
from transmamba_mm.subclone import PRESETS
from transmamba_mm.utils.atomic_io import atomic_write
from transmamba_mm.utils.derived_config import write_config
from transmamba_mm.utils.launch import load_config

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tune_parts import probe, space  # noqa: E402

#: Failed probes in a row that end the search.
MAX_FAILURES = 3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the whole training')
    parser.add_argument(
        '--budget-minutes',
        type=float,
        required=True,
        help='time for all probes of this start')
    parser.add_argument(
        '--epochs', type=int, default=2, help='epochs of a probe (default 2)')
    parser.add_argument(
        '--presets',
        nargs='+',
        choices=PRESETS,
        default=['safe', 'linear', 'none'],
        help='presets of the subcloning (default: safe linear none)')
    parser.add_argument(
        '--layer-maps',
        nargs='+',
        choices=('proportional', 'cka'),
        default=['proportional', 'cka'],
        help='layer maps of the distillation (default: proportional cka)')
    parser.add_argument(
        '--metric',
        default='accuracy/top1',
        help='what is to be large (default accuracy/top1)')
    parser.add_argument(
        '--minimize', action='store_true', help='it is to be small instead')
    parser.add_argument(
        '--max-probes', type=int, help='probes of this start, at most')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--work-dir', help='default: work_dirs/tune_ and the config\'s name')
    parser.add_argument(
        '--out', help='config to write; default: best.py in the work dir')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        help='overrides for the probes alone, such as '
        'train_dataloader.dataset.fraction=0.1')
    args = parser.parse_args()
    if args.budget_minutes <= 0 or args.epochs < 1:
        parser.error('--budget-minutes and --epochs must be positive')
    return args


class Search:
    """The probes of one study.

    Args:
        args (argparse.Namespace): The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.base = Path(args.config)
        self.cfg = load_config(args.config)
        self.folder = Path(args.work_dir or f'work_dirs/tune_{self.base.stem}')
        self.out = Path(args.out) if args.out else self.folder / 'best.py'
        self.space = space.Space(self.cfg, args.presets, args.layer_maps)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = self._open_study()

    def _open_study(self):
        """Open the journal, or begin one with the config's settings."""
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise SystemExit(
                'tune_wsab.py needs optuna: pip install "optuna>=4"'
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = self.folder / 'tune.journal'
        storage = optuna.storages.JournalStorage(
            JournalFileBackend(str(journal)))
        names = [s.study_name for s in storage.get_all_studies()]
        study = optuna.create_study(
            study_name='wsab',
            storage=storage,
            direction='minimize' if self.args.minimize else 'maximize',
            load_if_exists=True)
        # not the same random settings again after each start
        study.sampler = optuna.samplers.TPESampler(seed=self.args.seed +
                                                   len(study.trials))
        if not names:
            study.set_user_attr('signature', self.signature())
            study.enqueue_trial(self.space.own())
        elif study.user_attrs.get('signature') != self.signature():
            raise SystemExit(
                f'{self.folder} holds probes of another config or with other '
                'options; choose another --work-dir.')
        self._take_up(study, optuna)
        return study

    def signature(self) -> str:
        """Return a checksum of all that makes probes comparable."""
        args = self.args
        told = [
            self.cfg.pretty_text, args.epochs, args.metric, args.minimize,
            args.cfg_options,
            self.space.describe()
        ]
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def _take_up(self, study, optuna) -> None:
        """Put the probes of a killed start into the queue again."""
        running = optuna.trial.TrialState.RUNNING
        for trial in study.get_trials(states=(running, )):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params or self.space.own())

    def run(self) -> None:
        """Probe until the budget is spent."""
        args, failures, longest, done = self.args, 0, 0., 0
        deadline = time.monotonic() + 60 * args.budget_minutes
        print(f'Search space: {self.space.describe()}')
        while args.max_probes is None or done < args.max_probes:
            start = time.monotonic()
            if deadline - start <= longest:
                break
            failed = self.try_one(deadline - start)
            failures = failures + 1 if failed else 0
            longest = max(longest, time.monotonic() - start)
            done += 1
            if failures == MAX_FAILURES:
                raise SystemExit(f'{failures} probes in a row failed.')
            self.report()
        self.summarise()

    def try_one(self, timeout: float) -> bool:
        """Try one setting; return whether it failed."""
        trial = self.study.ask()
        params = self.space.suggest(trial)
        folder = self.folder / f'probe_{trial.number:03d}'
        folder.mkdir(parents=True, exist_ok=True)
        changes = self.space.changes(params)
        changes.update(
            probe.shorten(self.cfg, self.args.epochs, [
                h
                for h in changes['custom_hooks'] if space.DISTILL in h['type']
            ]))
        write_config(folder / 'config.py', self.base, changes)
        print(f'Probe {trial.number}: {show(params)}', flush=True)
        start = time.monotonic()
        try:
            value = probe.run_probe(folder / 'config.py', folder,
                                    self.args.metric, timeout,
                                    self.args.cfg_options)
        except probe.ProbeError as error:
            self.study.tell(trial, state=self._state('FAIL'))
            print(f'  no value: {error}', flush=True)
            if not self.finished():
                raise SystemExit(
                    'No probe has ended well yet: mend the config, or raise '
                    '--budget-minutes.')
            return True
        self.study.tell(trial, value)
        print(
            f'  {self.args.metric}: {value:.4g}, '
            f'{time.monotonic() - start:.0f} s',
            flush=True)
        return False

    def _state(self, name: str):
        from optuna.trial import TrialState
        return getattr(TrialState, name)

    def finished(self) -> list:
        """Return the probes that gave a value."""
        return self.study.get_trials(states=(self._state('COMPLETE'), ))

    def report(self) -> None:
        """Write the best config so far, and all probes."""
        trials = self.finished()
        if not trials:
            return
        best = self.study.best_trial
        write_config(self.out, self.base, self.space.changes(best.params))
        rows = [
            dict(number=t.number, value=t.value, **t.params) for t in trials
        ]
        report = dict(metric=self.args.metric, best=best.number, probes=rows)
        atomic_write(self.folder / 'tune_report.json',
                     json.dumps(report, indent=1).encode())

    def summarise(self) -> None:
        """Print what came out."""
        self.report()
        trials = self.finished()
        if not trials:
            print('The budget was too short for a probe.')
            return
        best = self.study.best_trial
        count = f'{len(trials)} probe{"s" * (len(trials) > 1)}'
        print(f'Best of {count}: {show(best.params)}, '
              f'{self.args.metric} {best.value:.4g} (the config\'s own '
              f'settings: {trials[0].value:.4g}); written to {self.out}')


def show(params: dict) -> str:
    """Write settings in one line."""
    return ', '.join(f'{k}={v:.3g}' if isinstance(v, float) else f'{k}={v}'
                     for k, v in params.items())


def main() -> None:
    # so that a probe ends with the search
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('Ended from outside.'))
    Search(parse_args()).run()


if __name__ == '__main__':
    main()
