"""Run the project's tools as a user does: in a process of their own."""
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_python(*args, cwd=ROOT, fails=False, **env):
    """Run this Python with some arguments on one thread.

    The source tree is put on the path only where the package is not
    installed, so that an installed one is tested as such.

    Args:
        *args: Arguments of Python.
        cwd (Path): Where it runs. Defaults to the project's root.
        fails (bool): Whether it must fail, instead of succeed.
        **env: Environment variables on top of the present ones.

    Returns:
        str: What it has written, to both outputs.
    """
    env = dict(os.environ, OMP_NUM_THREADS='1', **env)
    try:
        metadata.version('transmamba_mm')
        env.pop('PYTHONPATH', None)
    except metadata.PackageNotFoundError:
        env['PYTHONPATH'] = str(ROOT)
    done = subprocess.run([sys.executable, *map(str, args)],
                          cwd=cwd,
                          env=env,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          text=True,
                          timeout=300)
    assert (done.returncode != 0) == fails, done.stdout[-4000:]
    return done.stdout
