"""The command line, and work dirs that know their options."""
import re

import pytest
from poc_parts import options


@pytest.mark.parametrize('flags, message', [
    (['--fractions', '1.5'], r'--fractions 1.5: a share'),
    (['--fractions', '0'], r'--fractions 0: a share'),
    (['--seeds', '0'], '--seeds 0: it must be positive'),
    (['--budget', '-3'], '--budget -3: it must be positive'),
    (['--hour-price', '-1'], '--hour-price -1: it must not'),
    (['--teacher', 'a', 'b', 'c'], 'FILE, or CONFIG CHECKPOINT'),
    (['--teacher', 'a.pth', '--teacher-init', 'b.pth'], '--teacher train'),
    (['--student', 'resnet'], 'invalid choice'),
])
def test_bad_flags_are_named(flags, message, capsys):
    with pytest.raises(SystemExit):
        options.parse_args(['folder', *flags])
    assert re.search(message, capsys.readouterr().err)


def test_defaults():
    args = options.parse_args(['folder', '--fractions', '.5', '1', '.5'])
    assert args.fractions == [.5, 1]
    assert args.teacher_fraction == .5
    assert args.scratch_fractions == [1.]


def work_dir(tmp_path, *flags):
    (tmp_path / 'a photo').mkdir(exist_ok=True)
    return options.find_work_dir(
        options.parse_args([str(tmp_path / 'a photo'), *flags]))


def test_default_work_dir_follows_what_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(options, 'ROOT', tmp_path)
    first = work_dir(tmp_path)
    assert first.parent == tmp_path / 'work_dirs'
    assert first.name.startswith('poc-a_photo-')
    assert work_dir(tmp_path, '--hour-price', '3', '--seeds', '1') == first
    assert work_dir(tmp_path, '--epochs', '3') != first
    # with a budget, the number of runs decides about their length
    planned = work_dir(tmp_path, '--budget', '3')
    assert work_dir(tmp_path, '--budget', '3', '--seeds', '1') != planned


def test_work_dir_of_other_options_is_refused(tmp_path):
    own = ['--work-dir', str(tmp_path / 'own')]
    work_dir(tmp_path, *own)
    work_dir(tmp_path, *own, '--seeds', '5')
    with pytest.raises(SystemExit, match='other options .--student.; give'):
        work_dir(tmp_path, *own, '--student', 'vmamba')


def test_missing_folder_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(options, 'ROOT', tmp_path)
    args = options.parse_args([str(tmp_path / 'nowhere')])
    with pytest.raises(SystemExit, match='is no folder'):
        options.find_work_dir(args)
    assert not (tmp_path / 'work_dirs').exists()
