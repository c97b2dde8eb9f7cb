from bench_parts.plan import plan


def test_main_resolution_comes_first_and_deit_before_the_compared():
    rows = plan()
    names = [r.name for r in rows]
    assert len(set(names)) == len(names)
    assert names[0] == 'deit-tiny/deit/infer/graph/224/b128'
    main = [i for i, r in enumerate(rows) if r.resolution == 224]
    others = [i for i, r in enumerate(rows) if r.implementation == 'mamba_ssm']
    assert main[0] == 0 and min(others) > names.index(
        'vim-tiny/ours/infer/graph/3200/b2')
    for i, row in enumerate(rows):
        if row.implementation != 'deit':
            deit = f'deit-tiny/deit/{row.mode}/{row.timing}/' \
                f'{row.resolution}/b{row.batch}'
            assert names.index(deit) < i


def test_all_families_modes_and_sizes_are_there():
    rows = plan()
    for model in ('vim-tiny', 'vim-small', 'plainmamba-l1', 'vmamba-s1l8-t',
                  'videomamba-tiny'):
        for implementation in ('ours', 'official', 'mamba_ssm'):
            found = {(r.mode, r.timing)
                     for r in rows
                     if (r.model, r.implementation, r.resolution,
                         r.batch) == (model, implementation, 224, 128)}
            assert len(found) == 4
    assert {r.resolution for r in rows} == {224, 512, 1024, 1440, 2048, 3200}
    assert {r.model
            for r in rows
            if r.resolution == 1440} == {'deit-tiny', 'vim-tiny'}
    latency = [r for r in rows if r.batch == 1]
    assert {r.mode for r in latency} == {'infer'}
    assert not {r.model for r in latency} & {'vim-small', 'deit-small'}


def test_rows_can_be_left_out():
    assert {r.timing for r in plan(graphs=False)} == {'eager'}
    assert 'official' not in {r.implementation for r in plan(official=False)}
    rows = plan([32], 2, patterns=['vim-*/ours/*', 'deit-tiny/*/b2'])
    assert {r.model for r in rows} == {'vim-tiny', 'vim-small', 'deit-tiny'}
    assert {r.batch for r in rows if r.model != 'vim-tiny'} == {2}
