"""A built package holds the tools, configs and index, and works alone."""
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from .command import ROOT, run_python

SOURCES = ('setup.py', 'setup.cfg', 'MANIFEST.in', 'LICENSE', 'README.md',
           'Makefile', 'model-index.yml', 'requirements', 'configs', 'tools',
           'transmamba_mm')
FILES_OF_MIM = [
    'transmamba_mm/.mim/' + str(p.relative_to(ROOT))
    for folder in ('configs', 'tools')
    for p in (ROOT / folder).rglob('*') if p.suffix in
    ('.py', '.sh', '.yml', '.j2', '.css') and '__pycache__' not in p.parts
] + ['transmamba_mm/.mim/model-index.yml']


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the project, without what earlier builds left in it."""
    folder = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def sdist(source):
    """Path of a source distribution."""
    run_python('setup.py', '-q', 'sdist', cwd=source)
    return next((source / 'dist').glob('*.tar.gz'))


@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    """Path of the wheel that pip builds from the source distribution."""
    folder = tmp_path_factory.mktemp('wheel')
    run_python('-m', 'pip', 'wheel', '-q', '--no-deps', '--no-index',
               '--no-build-isolation', '-w', folder, sdist)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """Folder that the wheel is installed to."""
    folder = tmp_path_factory.mktemp('installed')
    run_python('-m', 'pip', 'install', '-q', '--no-deps', '--no-index',
               '--target', folder, wheel)
    return folder


def test_wheel_is_complete(wheel):
    assert wheel.name.endswith('-none-any.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        str(p.relative_to(ROOT))
        for p in (ROOT / 'transmamba_mm').rglob('*.py')
        if '.mim' not in p.parts
    }
    assert not (modules | set(FILES_OF_MIM)) - names
    assert not [n for n in names if n.startswith(('tests/', 'configs/'))]
    assert [n for n in names if n.endswith('/LICENSE')]


def test_sdist_holds_the_project(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split('/', 1)[-1] for name in archive.getnames()}
    assert {
        'LICENSE', 'model-index.yml', 'requirements/runtime.txt',
        'tools/train.py', 'configs/transmamba/metafile.yml'
    } <= names


def test_installed_package_works_without_the_source_tree(installed, tmp_path):
    code = (
        'import transmamba_mm, mmpretrain\n'
        'print(transmamba_mm.__file__)\n'
        "name = 'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits'\n"
        'print(type(mmpretrain.get_model(name)))\n'
        'from mmpretrain.apis.model import ModelHub\n'
        'print(ModelHub.get(name).config.filename)\n')
    script = tmp_path / 'use.py'
    script.write_text(f'import sys; sys.path.insert(0, {str(installed)!r})\n' +
                      code)
    output = run_python(
        '-P' if sys.version_info >= (3, 11) else '-B', script, cwd=tmp_path)
    assert str(installed / 'transmamba_mm/__init__.py') in output
    assert 'DistillClassifier' in output
    assert f'{installed}/transmamba_mm/.mim/configs/transmamba/' in output


def test_editable_build_links_and_plain_build_copies(source, tmp_path):
    """The links replace copies of an earlier build, and the reverse."""
    mim = source / 'transmamba_mm/.mim'
    for command, link in (('editable_wheel', True), ('bdist_wheel', False),
                          ('editable_wheel', True)):
        run_python(
            'setup.py', '-q', command, '--dist-dir', tmp_path, cwd=source)
        if link or mim.exists():
            assert (mim / 'configs').is_symlink() == link
            assert (mim / 'configs/transmamba/metafile.yml').exists()
            assert (mim / 'model-index.yml').exists()


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason='pins are for 3.11')
def test_pins_fit_the_ranges():
    """The proved pins lie in the ranges that the package asks for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    def read(name):
        text = (ROOT / f'requirements/{name}.txt').read_text()
        rows = [r.split('#')[0].strip() for r in text.splitlines()]
        found = [Requirement(row) for row in rows if row]
        return {canonicalize_name(r.name): r.specifier for r in found}

    pins = {
        name: re.sub('^==', '', str(spec))
        for name, spec in read('cpu').items()
    }
    for part in ('runtime', 'multimodal', 'tests'):
        for name, allowed in read(part).items():
            assert name in pins, f'{name} of {part}.txt is not pinned'
            assert allowed.contains(pins[name])
            assert allowed.contains(metadata.version(name))


def test_make_installs_once(tmp_path):
    """With a fresh stamp make only runs the tests."""
    stamp = re.search(r'^STAMP *= *\$\(VENV\)/(\S+)',
                      (ROOT / 'Makefile').read_text(), re.M).group(1)

    def plan():
        return subprocess.run(['make', '-n', f'VENV={tmp_path}', 'test'],
                              cwd=ROOT,
                              capture_output=True,
                              text=True,
                              check=True).stdout

    assert 'pip install -r requirements/cpu.txt' in plan()
    (tmp_path / stamp).touch()
    assert 'pip' not in plan()
    assert '-m pytest -q tests' in plan()


def test_ci_script_runs_what_the_readme_names():
    script = ROOT / '.ci/run'
    for path in (script, ROOT / '.ci/release'):
        subprocess.run(['bash', '-n', path], check=True)
        assert path.stat().st_mode & 0o111
    text = script.read_text()
    for target in ('make install', 'make test', 'make quickstart',
                   'make docs'):
        assert target in text
    assert Path(ROOT /
                'LICENSE').read_text().lstrip().startswith('Apache License')


def test_nothing_compiled_is_required():
    """Neither a kernel nor mmcv's operators come with the package."""
    lines = (ROOT / 'requirements/runtime.txt').read_text().splitlines()
    names = {re.split(r'[<>=;[ ]', line)[0] for line in lines}
    assert {'torch', 'mmcv-lite', 'mmpretrain'} <= names
    assert not names & {
        'mmcv', 'mamba-ssm', 'mamba_ssm', 'causal-conv1d', 'causal_conv1d',
        'triton', 'flash-attn'
    }
