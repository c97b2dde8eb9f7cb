import torch.nn.functional as F
from torch import Tensor


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare what queries find similar, as distributions.

    Args:
        student (Tensor): Scaled similarities (B, N) of B queries and N
            candidates.
        teacher (Tensor): The teacher's (B, N).

    Returns:
        Tensor: Scalar, the divergence of the student's softmax from the
        teacher's, the mean over the queries.
    """
    return F.kl_div(
        F.log_softmax(student.float(), dim=-1),
        F.log_softmax(teacher.float().detach(), dim=-1),
        reduction='batchmean',
        log_target=True)
