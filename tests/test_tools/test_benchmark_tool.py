"""What the flags of benchmark.py do."""
import json
import sys

import pytest

from ..command import ROOT
from .test_flags import load_tool

CONFIG = ROOT / 'configs/transmamba/vim-nano-16_1xb64-20e_digits.py'


@pytest.fixture
def tool(monkeypatch):
    """Run the tool in this process."""
    tool = load_tool('analysis_tools/benchmark')

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['benchmark.py', str(CONFIG), *args])
        tool.main()

    return run


def test_a_training_step_takes_longer_and_is_named(tool, tmp_path):
    rows = []
    for more in ([], ['--train']):
        out = tmp_path / 'speed.json'
        tool('--device', 'cpu', '--batch-size', '8', '--warmup', '2',
             '--repeats', '5', '--out', str(out), *more)
        rows.append(json.loads(out.read_text()))
    infer, train = rows
    assert (infer['mode'], train['mode']) == ('infer', 'train')
    assert train['latency_ms'] > 1.3 * infer['latency_ms']


def test_a_graph_without_a_card_is_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool('--device', 'cpu', '--cuda-graph')
    message = capsys.readouterr().err
    assert '--cuda-graph needs a CUDA device' in message
    assert '--device cpu' in message
