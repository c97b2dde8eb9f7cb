"""What a release says about itself holds together."""
import re
from pathlib import Path

import pytest
import yaml

import transmamba_mm
from .command import ROOT

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
MODELS = [
    model for path in INDEX
    for model in yaml.safe_load((ROOT / path).read_text())['Models']
]


def test_version_is_the_same_everywhere():
    version = transmamba_mm.__version__
    assert re.fullmatch(r'\d+\.\d+\.\d+', version)
    heading = re.search(r'^## (\S+) \((not released|\d{4}-\d\d-\d\d)\)$',
                        (ROOT / 'CHANGELOG.md').read_text(), re.M)
    assert heading[1] == version
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['version'] == version


@pytest.mark.parametrize('model', MODELS, ids=lambda m: m['Name'])
def test_published_weights_have_figures_and_checksums(model):
    """And what was not trained claims nothing."""
    check_entry(model)


def check_entry(model):
    assert (ROOT / model['Config']).is_file()
    metrics = [result['Metrics'] for result in model['Results']]
    if model['Weights'] is None:
        assert 'SHA256' not in model['Metadata']
        assert metrics == [None] * len(metrics)
        return
    digest = model['Metadata']['SHA256']
    assert re.fullmatch('[0-9a-f]{64}', digest)
    # the tail that publish_model.py writes
    assert Path(model['Weights']).name.endswith(f'-{digest[:8]}.pth')
    assert all(metrics)


@pytest.mark.parametrize('changes', [
    dict(Weights='https://x.org/vim.pth'),
    dict(Weights='https://x.org/vim-01234567.pth'),
    dict(Results=[dict(Metrics={'Top 1 Accuracy': 99.})]),
])
def test_entries_that_claim_too_much_are_found(changes):
    digest = 'f' * 64
    entry = dict(MODELS[0], **changes)
    if 'Weights' in changes:
        entry['Metadata'] = dict(entry['Metadata'], SHA256=digest)
    with pytest.raises(AssertionError):
        check_entry(entry)
