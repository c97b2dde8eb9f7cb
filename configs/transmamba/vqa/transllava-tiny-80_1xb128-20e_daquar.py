_base_ = [
    '../../_base_/models/transllava-tiny-80.py',
    '../../_base_/datasets/daquar.py',
    '../../_base_/schedules/vqa_1xb128-6e.py',
    '../../_base_/vqa_runtime.py',
]

model = dict(
    language_model=dict(config=dict(vocab_size=2752)),
    tokenizer={{_base_.tokenizer}},
    generation_cfg=dict(max_new_tokens=16))

train_cfg = dict(max_epochs=20)
