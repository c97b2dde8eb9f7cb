_base_ = [
    '../../_base_/models/llava-tiny-64.py',
    '../../_base_/datasets/easy-vqa.py',
    '../../_base_/schedules/vqa_1xb128-6e.py',
    '../../_base_/vqa_runtime.py',
]

model = dict(
    language_model=dict(config=dict(vocab_size=128)),
    tokenizer={{_base_.tokenizer}},
    generation_cfg=dict(max_new_tokens=4))

train_cfg = dict(max_epochs=12)
