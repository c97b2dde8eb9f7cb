_base_ = [
    '../../_base_/models/llava-1b.py',
    '../../_base_/datasets/llava-pretrain.py',
    '../../_base_/schedules/llava_8xb32-1e.py',
    '../../_base_/llava_runtime.py',
]

# the projector alone
model = dict(
    tokenizer={{_base_.tokenizer}}, freeze=('vision_tower', 'language_model'))
