"""Bars in a terminal, and nothing of them elsewhere."""
import io
from types import SimpleNamespace

import pytest
from poc_parts import progress
from rich.console import Console


@pytest.fixture
def run(tmp_path):
    """A training that has logged two thousand steps, the last one in part."""
    log = tmp_path / '1' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    row = '{"loss": 1.0, "epoch": %d, "step": %d}\n'
    log.write_text(''.join(row % (i // 10, i) for i in range(2000)) +
                   '{"accuracy/top1": 87.65, "step": 199}\n{"loss": 1.0, "e')
    return SimpleNamespace(dir=tmp_path, title='TransMamba', epochs=250)


def test_only_the_end_of_a_log_is_read(run):
    rows = progress.newest_rows(run)
    assert rows[-2:] == [
        dict(loss=1., epoch=199, step=1999), {
            'accuracy/top1': 87.65,
            'step': 199
        }
    ]
    assert len(rows) < 200
    (run.dir / '1' / 'vis_data' / 'scalars.json').unlink()
    assert progress.newest_rows(run) == []


@pytest.mark.parametrize('is_terminal', [True, False])
def test_bars(run, monkeypatch, is_terminal):
    given = []

    def run_all(runs, jobs, watch):
        given.append((runs, jobs, watch is None))
        if watch is not None:
            watch(runs)
            watch(runs)

    monkeypatch.setattr(progress.quickstart_runs, 'run_all', run_all)
    out = io.StringIO()
    console = Console(force_terminal=is_terminal, file=out, width=120)
    progress.Bars(console, 2).run_all([run])
    assert given == [([run], 2, not is_terminal)]
    shown = out.getvalue()
    if is_terminal:
        assert 'TransMamba' in shown
        assert '199/250' in shown and '87.7 %' in shown
    else:
        assert shown == ''
