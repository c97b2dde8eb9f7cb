_base_ = [
    '../../_base_/models/retrieval_videomamba-small.py',
    '../../_base_/datasets/msvd.py',
    '../../_base_/schedules/retrieval_8xb32-10e.py',
    '../../_base_/retrieval_runtime.py',
]
