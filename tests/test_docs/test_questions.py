"""The page of questions has a row for each, and its tests exist."""
import ast
import re

import pytest

from ..command import ROOT

PAGE = (ROOT / 'docs/notes/questions.md').read_text()
ROWS = re.findall(r'^\| (\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$', PAGE,
                  re.M)
#: Public complaints that were collected.
QUESTIONS = 44


def test_every_question_has_one_row():
    assert [int(row[0]) for row in ROWS] == list(range(1, QUESTIONS + 1))
    assert all(text.strip() for row in ROWS for text in row)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_its_tests_exist(row):
    names = re.findall(r'`(\S+\.py)::(\w+)`', row[4])
    assert names
    for path, name in names:
        tree = ast.parse((ROOT / 'tests' / path).read_text())
        assert name in {
            node.name
            for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }
