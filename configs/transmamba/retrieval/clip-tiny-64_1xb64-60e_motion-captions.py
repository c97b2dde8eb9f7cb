_base_ = [
    '../../_base_/models/retrieval_clip-tiny-64.py',
    '../../_base_/datasets/motion-captions.py',
    '../../_base_/schedules/retrieval_1xb64-60e.py',
    '../../_base_/retrieval_runtime.py',
]
