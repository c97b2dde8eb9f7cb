"""Join what the processes of a training hold, and keep the gradients."""
import torch
import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size
from torch import Tensor
from torch.autograd import Function


class _Gather(Function):
    """Concatenate over processes; the gradient comes back from all."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(get_world_size())[get_rank()]


def gather(x: Tensor) -> Tensor:
    """Concatenate a tensor over all processes.

    Where each process takes its own rows' share of a loss, the mean over the
    processes of the parameters' gradients is that of the joined batch.

    Args:
        x (Tensor): Shape (B, ...), the same on every process.

    Returns:
        Tensor: Shape (B * processes, ...), the same tensor for one process.
    """
    if get_world_size() == 1:
        return x
    if x.dtype == torch.bool:
        return _Gather.apply(x.to(torch.uint8)).bool()
    return _Gather.apply(x)


def own_rows(batch_size: int, device: torch.device) -> Tensor:
    """Tell where the rows of this process stand in a joined batch.

    Args:
        batch_size (int): Rows a process.
        device (torch.device): Device of the answer.

    Returns:
        Tensor: Shape (B,).

    Raises:
        ValueError: If the processes hold different numbers of rows.
    """
    if get_world_size() > 1:
        sizes = torch.tensor([batch_size, -batch_size], device=device)
        dist.all_reduce(sizes, op=dist.ReduceOp.MAX)
        if sizes[0] != -sizes[1]:
            raise ValueError(
                f'A batch of {batch_size} here is one of {int(sizes[0])} or '
                f'{int(-sizes[1])} on another process, but they must be '
                'equal: set train_dataloader.drop_last=True.')
    start = get_rank() * batch_size
    return torch.arange(start, start + batch_size, device=device)


def joint_value(loss: Tensor) -> Tensor:
    """Give a loss the value of the joined batch and its own gradient.

    Args:
        loss (Tensor): Scalar, of this process's rows.

    Returns:
        Tensor: Scalar.
    """
    if get_world_size() == 1:
        return loss
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return loss + (mean / get_world_size() - loss.detach())
