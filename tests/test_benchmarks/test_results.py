import json

from bench_parts.results import ResultFile, failure

ROW = dict(bench='scan', model='a', shape=[1, 2], images_per_s=3.)


def test_rows_are_written_at_once_and_read_again(tmp_path):
    path = str(tmp_path / 'new' / 'rows.json')
    results = ResultFile(path)
    for model in 'ab':
        results.add(dict(ROW, model=model, shape=(1, 2)))
        assert json.loads(open(path).read())[-1]['model'] == model
    assert len(open(path).read().splitlines()) == 4  # a line each
    again = ResultFile(path)
    assert again.find(ROW)['images_per_s'] == 3.
    assert again.find(dict(ROW, shape=[2, 2])) is None
    assert again.find(dict(ROW, shape=[2, 2]), ('model', )) is not None
    assert not ResultFile(path, fresh=True).rows


def test_a_row_takes_the_place_of_an_older_one(tmp_path):
    results = ResultFile(str(tmp_path / 'rows.json'))
    results.add(ROW)
    results.add(dict(ROW, model='b'))
    results.add(dict(ROW, images_per_s=4.))
    assert [r['images_per_s'] for r in results.rows] == [4., 3.]


def test_a_failure_names_the_first_place():
    try:
        try:
            json.loads('{')
        except ValueError as error:
            raise RuntimeError('later\nmore') from error
    except RuntimeError as error:
        found = failure(error)
    assert found['error'] == 'RuntimeError: later'
    assert 'json' in found['where'] and ':' in found['where']
    assert failure(KeyError('x'))['where'] == ''
