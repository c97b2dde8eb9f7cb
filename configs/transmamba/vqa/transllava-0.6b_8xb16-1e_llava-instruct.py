_base_ = [
    '../../_base_/models/transllava-0.6b.py',
    '../../_base_/datasets/llava-instruct.py',
    '../../_base_/schedules/llava_8xb16-1e.py',
    '../../_base_/llava_runtime.py',
]

# from the first stage, without distillation
model = dict(tokenizer={{_base_.tokenizer}})
load_from = 'work_dirs/transllava-0.6b_llava-1b-pre_8xb32-1e_llava-pretrain/iter_2180.pth'  # noqa: E501
optim_wrapper = dict(optimizer=dict(lr=2e-4))
