_base_ = [
    '../../_base_/models/llava-1b.py',
    '../../_base_/datasets/llava-cot.py',
    '../../_base_/schedules/llava-cot_8xb16-1e.py',
    '../../_base_/llava_runtime.py',
]

# goes on from the second stage, on 100k answers with their reasoning
model = dict(
    language_model=dict(gradient_checkpointing=True),
    tokenizer={{_base_.tokenizer}})
load_from = 'work_dirs/llava-1b_8xb16-1e_llava-instruct/iter_5197.pth'
