"""Public functions of the package are typed and documented."""
import ast

import pytest

from .command import ROOT

FILES = sorted(
    p.relative_to(ROOT) for p in (ROOT / 'transmamba_mm').rglob('*.py')
    if '.mim' not in p.parts)


def public_functions(body, owner=''):
    """Yield public functions and methods, with their class's name."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            yield from public_functions(node.body, f'{node.name}.')
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
                node.name == '__init__' or not node.name.startswith('_')):
            yield owner, node


def is_kernel(node):
    """Triton's own language has no types of Python's."""
    return any('triton.jit' in ast.unparse(d) for d in node.decorator_list)


def faults(source):
    """Say what public functions and classes lack.

    What is only passed on, as ``*args`` and ``**kwargs``, needs no type.
    """
    tree = ast.parse(source)
    found = [
        f'class {node.name} has no docstring' for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_')
        and not ast.get_docstring(node)
    ]
    for owner, node in public_functions(tree.body):
        if is_kernel(node):
            continue
        name = f'{owner}{node.name}'
        given = [*node.args.posonlyargs, *node.args.args]
        if owner and 'staticmethod' not in map(ast.unparse,
                                               node.decorator_list):
            given = given[1:]
        for arg in [*given, *node.args.kwonlyargs]:
            if arg.annotation is None:
                found.append(f'{name}: {arg.arg} has no type')
        if node.returns is None:
            found.append(f'{name} has no return type')
        if node.name != '__init__' and not ast.get_docstring(node):
            found.append(f'{name} has no docstring')
    return found


@pytest.mark.parametrize('path', FILES, ids=str)
def test_public_functions_are_typed_and_documented(path):
    assert not faults((ROOT / path).read_text())


def test_types_are_shipped():
    assert (ROOT / 'transmamba_mm/py.typed').exists()
    assert "'py.typed'" in (ROOT / 'setup.py').read_text()


def test_faults_are_found():
    source = ('class A:\n'
              '    def f(self, x, *, y, **kwargs):\n'
              '        return x\n'
              '    def _g(self, x):\n'
              '        return x\n')
    assert faults(source) == [
        'class A has no docstring', 'A.f: x has no type', 'A.f: y has no type',
        'A.f has no return type', 'A.f has no docstring'
    ]
