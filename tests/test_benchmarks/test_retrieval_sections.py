"""Results of retrieval stand beside chance and beside scratch."""
from .test_transfer_render import cells
from .transfer import retrieval_sections, retrieval_tables


def line(row, plain, again=None):
    """Make up a result; each further seed has 2 points more."""
    metrics = {'retrieval/chance_R@1': 0.625}
    for k, more in ((1, 0), (5, 20), (10, 30)):
        metrics[f'retrieval/t2v_R@{k}'] = plain + more + 2 * row.seed
        if again is not None:
            metrics[f'retrieval/t2v_rerank_R@{k}'] = again + more
    value = metrics[row.metric]
    return dict(row.identity(), value=value, metrics=metrics)


def test_heads_are_compared_before_and_after_judging_again():
    rows = retrieval_tables.retrieval_heads()
    lines = [
        line(r, 50., 54. if r.variant == 'cross-mamba' else None) for r in rows
        if r.method == 'scratch' and r.seed < 2
    ]
    table = cells(retrieval_sections.retrieval_table(lines))
    kinds = {row[6]: row[7:] for row in table}
    assert set(kinds) == {
        'as the recipe', 'cross-mamba', 'cross-mamba, judged again', 'seq'
    }
    assert kinds['as the recipe'] == [
        '51.00 ± 1.41 (2)', '71.00 ± 1.41 (2)', '81.00 ± 1.41 (2)', '',
        '0.6 / 3.1 / 6.2'
    ]
    assert kinds['cross-mamba, judged again'][0] == '54.00 ± 0.00 (2)'
    assert '+3.00' in kinds['cross-mamba, judged again'][3]


def test_other_tasks_are_left_out():
    assert retrieval_sections.retrieval_table([dict(task='vqa')]) == ''
