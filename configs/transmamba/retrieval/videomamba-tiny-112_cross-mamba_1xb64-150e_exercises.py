_base_ = [
    '../../_base_/models/retrieval_videomamba-tiny-112.py',
    '../../_base_/datasets/exercises.py',
    '../../_base_/schedules/retrieval_1xb64-150e.py',
    '../../_base_/retrieval_runtime.py',
]

model = dict(head=dict(type='transmamba_mm.CrossMambaHead', num_candidates=64))

val_evaluator = dict(rerank_topk=16)
test_evaluator = val_evaluator
