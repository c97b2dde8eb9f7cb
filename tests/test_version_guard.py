import os.path as osp
import subprocess
import sys
from importlib import metadata

import pytest

from transmamba_mm import version_guard

ROOT = osp.abspath(osp.join(osp.dirname(__file__), '..'))


@pytest.mark.parametrize('name, version, command', [
    ('mmcv-lite', None, "pip install 'mmcv-lite>=2.2.0,<2.3'"),
    ('mmengine', '0.7.0', "pip install 'mmengine>=0.10.7,<0.11'"),
    ('mmpretrain', '2.1.0', "pip install 'mmpretrain>=1.2.0,<1.3'"),
])
def test_version_guard(monkeypatch, name, version, command):
    real = metadata.version

    def pretend(distribution):
        if distribution in (name, name.replace('-lite', '')):
            if version is None:
                raise metadata.PackageNotFoundError(distribution)
            return version
        return real(distribution)

    monkeypatch.setattr(metadata, 'version', pretend)
    if version is None:
        monkeypatch.setitem(sys.modules, 'mmcv', None)
    with pytest.raises(ImportError) as info:
        version_guard.check_versions()
    assert command in str(info.value)
    assert ('is not installed' if version is None else version) in str(
        info.value)


def test_version_ranges_are_those_of_the_requirements():
    with open(osp.join(ROOT, 'requirements', 'runtime.txt')) as file:
        lines = file.read().split()
    for names, first, limit in version_guard.REQUIRED_VERSIONS.values():
        assert f'{names[0]}>={first},<{limit}' in lines


def test_versions_are_checked_first():
    """The message comes before an import breaks on the version."""
    code = ('import sys\n'
            'from importlib import metadata\n'
            'metadata.version = lambda name: "0.9.0"\n'
            'try:\n'
            '    import transmamba_mm\n'
            'except ImportError as error:\n'
            '    assert "mmengine" not in sys.modules\n'
            '    print(error)\n')
    result = subprocess.run([sys.executable, '-c', code],
                            cwd=ROOT,
                            stdout=subprocess.PIPE,
                            text=True)
    assert "Run: pip install 'mmengine>=0.10.7" in result.stdout
