"""Configs with environment variables, whose values are put into code."""
import sys

import pytest

from tests.command import ROOT
from tests.test_tools.test_flags import load_tool
from transmamba_mm.utils.launch import environment_names, load_config

RECIPE = ROOT / ('configs/transmamba/'
                 'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits.py')


@pytest.fixture
def config(tmp_path):
    """A user's config on top of a recipe, in another folder."""
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = ['{RECIPE}']\n"
                    "data_root = '{{$DATA_ROOT:data/digits/}}'\n")
    return str(path)


def test_variables_are_found_in_all_files(config):
    assert environment_names(config) == ['DATA_ROOT', 'TEACHER']
    assert environment_names('no such file.py') == []


@pytest.mark.parametrize('text, names', [
    ("a = '{{$ONE:x}}'\nb = {{'$TWO:80'}}", ['ONE', 'TWO']),
    ("_base_ = 'mmpretrain::_base_/default_runtime.py'", []),
    ("_base_ = ['gone.py']\na = '{{ $ONE: }}'", ['ONE']),
    ('_base_ = [x for x in ()]', []),
    ('this is no config', []),
])
def test_forms_of_configs(tmp_path, text, names):
    (tmp_path / 'x.py').write_text(text)
    assert environment_names(str(tmp_path / 'x.py')) == names


def test_values_reach_the_config(config, monkeypatch):
    monkeypatch.setenv('TEACHER', 'a folder/with-dots.1/weights (2).pth')
    cfg = load_config(config)
    hooks = [h for h in cfg.custom_hooks if 'checkpoint' in h]
    assert hooks[0].checkpoint == 'a folder/with-dots.1/weights (2).pth'


@pytest.mark.parametrize('value', [
    "it's.pth", r'C:\new\teacher.pth', 'two"quotes".pth', "'+str(1/0)+'",
    'line\nbreak'
])
def test_values_that_are_code_are_refused(config, monkeypatch, value):
    monkeypatch.setenv('TEACHER', value)
    with pytest.raises(ValueError, match='variable TEACHER.*make a link'):
        load_config(config)
    monkeypatch.setenv('TEACHER', 'fine.pth')
    monkeypatch.setenv('OTHER', value)
    load_config(config)


def test_tool_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('TEACHER', "it's.pth")
    monkeypatch.setattr(sys, 'argv', ['train.py', str(RECIPE)])
    with pytest.raises(ValueError, match='environment variable TEACHER is'):
        load_tool('train').main()
    assert not list(tmp_path.iterdir())
