_base_ = [
    '../../_base_/models/retrieval_videomamba-tiny-112.py',
    '../../_base_/datasets/exercises.py',
    '../../_base_/schedules/retrieval_1xb64-150e.py',
    '../../_base_/retrieval_runtime.py',
]
