"""The recurrence in ONNX; importing this file needs ONNX Script.

Its functions are read by ONNX Script as source text, so they keep to what that
understands.
"""
from onnxscript import FLOAT, graph
from onnxscript import opset18 as op
from onnxscript import script


@script()
def recurrence(u: FLOAT, delta: FLOAT, A: FLOAT, B: FLOAT, C: FLOAT) -> FLOAT:
    """Translate :func:`~transmamba_mm.deployment.onnx_scan.recurrence`.

    Args:
        u (FLOAT): Input (batch, G, E, L).
        delta (FLOAT): Step size (batch, G, E, L), positive.
        A (FLOAT): Decay rates (G, E, N).
        B (FLOAT): Input weights (batch, G, N, L).
        C (FLOAT): Output weights (batch, G, N, L).

    Returns:
        FLOAT: Output (batch, G, E, L), of one Scan node.
    """
    size = op.Concat(
        op.Shape(u, start=0, end=3), op.Shape(A, start=2, end=3), axis=0)
    start = op.Expand(op.Constant(value_float=0.), size)

    @graph()
    def body(state, u_t, delta_t, b_t, c_t):
        step = op.Unsqueeze(delta_t, [-1])
        driven = op.Unsqueeze(delta_t * u_t, [-1])
        new = op.Exp(step * A) * state + driven * op.Unsqueeze(b_t, [-2])
        out = op.ReduceSum(new * op.Unsqueeze(c_t, [-2]), [-1], keepdims=0)
        return new, out

    last, y = op.Scan(
        start,
        u,
        delta,
        B,
        C,
        body=body,
        num_scan_inputs=4,
        scan_input_axes=[3, 3, 3, 3],
        scan_output_axes=[3])
    return y
