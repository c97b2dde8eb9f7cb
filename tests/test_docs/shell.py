"""Check the commands of a shell block without running what they start."""
import argparse
import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Dict, Iterator, List

from mmengine.config import Config

from ..command import ROOT

#: Stands in for CONFIG, so that options can be looked up.
STAND_IN = ('configs/transmamba/'
            'transmamba_vim-nano-16_vit-nano-16-pre_1xb64-20e_digits.py')
OWN_PATH = re.compile(
    r'(?:^|[ =])((?:configs|tools|benchmarks|requirements|docs|tests|'
    r'transmamba_mm)/[^\s:,\'"]+)')
HARMLESS = ('cd', 'source', 'export', 'mkdir', 'git', 'grep')
#: Leading arguments of the launchers that are not the tool's.
LAUNCHERS = dict(
    dist_train=('train.py', lambda a: [a[0], *a[2:]]),
    dist_test=('test.py', lambda a: [*a[:2], *a[3:]]),
    slurm_train=('train.py', lambda a: [a[2], '--work-dir', *a[3:]]),
    slurm_test=('test.py', lambda a: a[2:]))


class Parsed(Exception):
    """A tool has understood its arguments; nothing of it has run yet."""


def check_shell(text: str) -> List[str]:
    """Return what is wrong with the commands of a block."""
    problems, variables = [], {}
    for command in split_commands(text):
        words = [expand(word, variables) for word in command]
        while words and re.match(r'^\w+=', words[0]):
            name, value = words.pop(0).split('=', 1)
            variables[name] = value
        if not words:
            continue
        line = ' '.join(words)
        problems += [
            f'{line}: there is no {path}'
            for path in OWN_PATH.findall(re.sub(r'--out \S+', '', line))
            if not list(ROOT.glob(path.rstrip('/')))
        ]
        problems += [f'{line}: {p}' for p in check_command(words)]
    return problems


def split_commands(text: str) -> Iterator[List[str]]:
    """Cut a script into commands, comments left out."""
    for line in text.replace('\\\n', ' ').splitlines():
        line = re.sub(r'^\$ ', '', line.strip())
        lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
        lexer.whitespace_split = True
        words = []
        for word in lexer:
            if set(word) <= set(';&|'):
                yield words
                words = []
            else:
                words.append(word)
        if words:
            yield words


def expand(word: str, variables: Dict[str, str]) -> str:
    return re.sub(r'\$\{?(\w+)\}?', lambda m: variables.get(m[1], m[0]), word)


def check_command(words: List[str]) -> List[str]:
    """Return what is wrong with one command."""
    program, args = words[0], words[1:]
    if program == '--cfg-options':
        return check_tool('tools/train.py', ['CONFIG', *words])
    if program in HARMLESS:
        return []
    if re.fullmatch(r'(\S*/)?python[\d.]*', program):
        return check_python(args)
    if program == 'bash':
        return check_script(args)
    if program == 'make':
        return check_make(args)
    if program == 'pip':
        return check_pip(args)
    return [f'no check for {program!r}: say `<!-- not run: reason -->`']


def check_python(args: List[str]) -> List[str]:
    if args[:2] == ['-m', 'pytest']:
        return []  # its paths are checked as all others
    if args[:2] == ['-m', 'venv']:
        return []
    if not args or not args[0].endswith('.py'):
        return ['only files, pytest and venv are known']
    return check_tool(args[0], args[1:])


def check_script(args: List[str]) -> List[str]:
    name = Path(args[0]).stem
    if name not in LAUNCHERS:
        return [f'no check for {args[0]}']
    tool, own = LAUNCHERS[name]
    return check_tool(f'tools/{tool}', own(args[1:]))


def check_make(args: List[str]) -> List[str]:
    rules = (ROOT / 'Makefile').read_text()
    problems = []
    for arg in args:
        name = re.escape(arg.split('=')[0])
        known = rf'\$\({name}\)' if '=' in arg else rf'^{name}:'
        if not re.search(known, rules, re.M):
            problems.append(f'the Makefile does not know {arg}')
    return problems


def check_pip(args: List[str]) -> List[str]:
    extras = set(
        re.findall(r"requirements\('(\w+)'\)",
                   (ROOT / 'setup.py').read_text()))
    asked = re.findall(r'\.\[(\w+)\]', ' '.join(args))
    return [f'there is no extra {e}' for e in asked if e not in extras]


def check_tool(path: str, args: List[str]) -> List[str]:
    """Let a tool parse its arguments, and look its options up."""
    if not (ROOT / path).is_file():
        return [] if OWN_PATH.match(path) else [f'there is no {path}']
    try:
        found = parse(path, args)
    except SystemExit:
        return [f'{path} does not take these arguments']
    options = getattr(found, 'cfg_options', None) or {}
    config = getattr(found, 'config', None) or 'CONFIG'
    if not (ROOT / config).is_file():
        config = STAND_IN
    return [
        f'{config} has no place for {key}' for key in options
        if not has_place(Config.fromfile(ROOT / config), key)
    ]


def parse(path: str, args: List[str]) -> argparse.Namespace:
    """Start a tool, stop it behind its parser, and leave no trace.

    Raises:
        SystemExit: It does not understand its arguments.
    """
    original = argparse.ArgumentParser.parse_args
    argv, search, modules = sys.argv, list(sys.path), set(sys.modules)

    def stop(parser, *given, **kwargs):
        raise Parsed(original(parser, *given, **kwargs))

    argparse.ArgumentParser.parse_args = stop
    sys.argv = [path, *args]
    sys.path.insert(0, str((ROOT / path).parent))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(ROOT / path), run_name='__main__')
    except Parsed as parsed:
        return parsed.args[0]
    finally:
        argparse.ArgumentParser.parse_args = original
        sys.argv, sys.path[:] = argv, search
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], '__file__', None) or ''
            if file.startswith((f'{ROOT}/tools', f'{ROOT}/benchmarks')):
                del sys.modules[name]
    raise AssertionError(f'{path} never parses its arguments')


def has_place(config: Config, key: str) -> bool:
    """Tell whether a config holds what a dotted key hangs on.

    The type of something new needs no more than a place for that.
    """
    node = config
    *parts, last = key.split('=')[0].split('.')
    for part in parts[:-1] if last == 'type' else parts:
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                return False
            node = node[int(part)]
        elif hasattr(node, 'keys') and part in node:
            node = node[part]
        else:
            return False
    return True
