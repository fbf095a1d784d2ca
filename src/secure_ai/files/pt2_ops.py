"""The operations that an exported program may use, as torch's export writes them before any decomposition."""

from __future__ import annotations

WORDS = frozenset({"none", "tanh", "same", "valid", "floor", "trunc", "reflect", "constant", "replicate", "circular"})
"""Texts that an operation may be given: modes of gelu, of padding, of rounding."""

_ATEN = """
_to_copy.default abs.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
adaptive_max_pool2d.default add.Scalar add.Tensor add_.Tensor addmm.default alias.default amax.default
amin.default argmax.default avg_pool2d.default batch_norm.default bitwise_not.default bmm.default cat.default
celu.default chunk.default clamp.default clamp_max.default clamp_min.default clone.default contiguous.default
conv1d.default conv1d.padding conv2d.default conv2d.padding conv_transpose2d.input cos.default detach.default
detach_.default div.Scalar div.Tensor div.Tensor_mode div_.Tensor dropout.default dropout_.default
einsum.default elu.default elu_.default eq.Scalar eq.Tensor erf.default exp.default expand.default
expand_as.default feature_dropout.default flatten.using_ints floor.default floor_divide.default ge.Scalar
ge.Tensor gelu.default group_norm.default gt.Scalar gt.Tensor hardsigmoid.default hardswish.default
hardswish_.default hardtanh.default hardtanh_.default index_select.default instance_norm.default
layer_norm.default le.Scalar le.Tensor leaky_relu.default leaky_relu_.default lift_fresh_copy.default
linalg_vector_norm.default linear.default log.default log1p.default log_softmax.int logical_and.default
logical_not.default logical_or.default logsumexp.default lt.Scalar lt.Tensor masked_fill.Scalar matmul.default
max.default max.dim max_pool2d.default maximum.default mean.default mean.dim min.default minimum.default
mish.default mm.default movedim.int mul.Scalar mul.Tensor mul_.Tensor narrow.int ne.Scalar neg.default
pad.default permute.default pixel_shuffle.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor prelu.default
reciprocal.default reflection_pad2d.default relu.default relu6.default relu6_.default relu_.default
repeat.default replication_pad2d.default reshape.default rms_norm.default round.default rsqrt.default
rsub.Scalar scaled_dot_product_attention.default select.int selu.default selu_.default sigmoid.default
sigmoid_.default sign.default silu.default silu_.default sin.default slice.Tensor softmax.int softplus.default
split.Tensor split_with_sizes.default sqrt.default square.default squeeze.default squeeze.dim stack.default
std.correction std.dim sub.Scalar sub.Tensor sub_.Tensor sum.default sum.dim_IntList sym_size.int t.default
tanh.default tanh_.default to.dtype to.dtype_layout transpose.int type_as.default unbind.int unflatten.int
unsqueeze.default upsample_bilinear2d.vec upsample_nearest2d.vec var.correction var.dim view.default
view_as.default where.ScalarOther where.self zeros_like.default ones_like.default
"""

OPERATIONS = frozenset(
    [f"aten.{name}" for name in _ATEN.split()]
    + [f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "neg", "ge", "le", "gt", "lt", "eq", "ne")]
    + ["aten._assert_scalar.default", "aten.sym_constrain_range_for_size.default"]
)
"""Names without `torch.ops.`; those of `_operator` work on numbers, and the last two are checks that are skipped."""
