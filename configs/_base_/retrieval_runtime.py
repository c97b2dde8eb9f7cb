_base_ = 'transmamba_runtime.py'

default_hooks = dict(
    checkpoint=dict(save_best='retrieval/t2v_R@1', rule='greater'),
    # the evaluator re-ranks only if its rerank_topk is above 0
    rerank=dict(type='transmamba_mm.RetrievalRerankHook'),
    # unreadable videos and captions that were cut
    video_report=dict(type='transmamba_mm.VideoReportHook'))
