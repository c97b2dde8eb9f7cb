_base_ = [
    '../../_base_/models/llava-1b.py',
    '../../_base_/datasets/llava-instruct.py',
    '../../_base_/schedules/llava_8xb16-1e.py',
    '../../_base_/llava_runtime.py',
]

# all but the vision tower; add `lora=dict(r=128, lora_alpha=256)` to
# `language_model` and `lr=2e-4` for adapters
model = dict(
    language_model=dict(gradient_checkpointing=True),
    tokenizer={{_base_.tokenizer}})
load_from = 'work_dirs/llava-1b_8xb32-1e_llava-pretrain/iter_2180.pth'
