"""Every command and every piece of code in the documentation is tried.

Shell commands are parsed by the tools that they name, configs are checked
against the registries, scripts are run. What cannot be tried here says why.
"""
import pytest

from .blocks import (PAGES, PYTHON, SHELL, TEXT, find_blocks,
                     find_inline_commands)
from .config_block import build_model, check_names, is_config
from .shell import check_shell

BLOCKS = [block for page in PAGES for block in find_blocks(page)]
TRIED = [b for b in BLOCKS if b.reason is None]
CONFIGS = [b for b in BLOCKS if b.language in PYTHON and is_config(b.text)]
SCRIPTS = [b for b in TRIED if b.language in PYTHON and b not in CONFIGS]


@pytest.mark.parametrize('block', BLOCKS, ids=str)
def test_languages_and_reasons(block):
    """No block slips through by its language or by an empty reason."""
    assert block.language in (*SHELL, *PYTHON, *TEXT)
    assert block.reason is None or len(block.reason) > 5
    if block.language in PYTHON:
        compile(block.text, str(block), 'exec')


@pytest.mark.parametrize(
    'block', [b for b in TRIED if b.language in SHELL], ids=str)
def test_commands_are_understood(block):
    assert not check_shell(block.text)


@pytest.mark.parametrize('page', PAGES, ids=str)
def test_commands_in_the_text_are_understood(page):
    assert not check_shell('\n'.join(find_inline_commands(page)))


@pytest.mark.parametrize('block', CONFIGS, ids=str)
def test_configs_name_what_there_is(block, tmp_path):
    """A whole one is built too, unless it is marked."""
    assert not check_names(block.text)
    if '_base_' in block.text and block.reason is None:
        build_model(block.text, tmp_path)


@pytest.mark.parametrize('page', sorted({b.page for b in SCRIPTS}), ids=str)
def test_scripts_run(page, tmp_path, monkeypatch):
    """In the order of the page, each with what the ones before have left."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in SCRIPTS:
        if block.page == page:
            exec(compile(block.text, str(block), 'exec'), names)
