_base_ = [
    '../../_base_/models/retrieval_videomamba-tiny-64.py',
    '../../_base_/datasets/motion-captions.py',
    '../../_base_/schedules/retrieval_1xb64-30e.py',
    '../../_base_/retrieval_runtime.py',
]

model = dict(head=dict(type='transmamba_mm.SequenceHead'))
