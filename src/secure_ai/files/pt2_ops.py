"""The operations that an exported program may use, as torch's export writes them before any decomposition.

Each with its parameters and their kinds. torch itself takes a whole number where an enumeration belongs and reads its
tables out of bounds for it, so the kind of every argument is checked here. Source: the schemas of torch 2.10 to 2.13.
"""

from __future__ import annotations

from collections.abc import Mapping

WORDS = frozenset({"none", "tanh", "same", "valid", "floor", "trunc", "reflect", "constant", "replicate", "circular"})
"""Texts that an operation may be given: modes of gelu, of padding, of rounding."""

KINDS = {
    "T": "a tensor",
    "O": "a tensor or a number",
    "I": "a whole number",
    "N": "a number",
    "F": "a number",
    "B": "a truth value",
    "S": "a word",
    "D": "a type",
    "-": "passed over: where a tensor lies changes no value",
}
"""First letter of a kind; `*` makes it a list (or, of numbers, one number), `?` allows None."""

# operation, then its parameters, each with its kind
_ATEN = """
_to_copy.default self:T dtype:D? layout:- device:- pin_memory:- non_blocking:B memory_format:-
abs.default self:T
adaptive_avg_pool1d.default self:T output_size:I*
adaptive_avg_pool2d.default self:T output_size:I*
adaptive_max_pool2d.default self:T output_size:I*
add.Scalar self:T other:N alpha:N
add.Tensor self:T other:O alpha:N
add_.Tensor self:T other:O alpha:N
addmm.default self:T mat1:T mat2:T beta:N alpha:N
alias.default self:T
amax.default self:T dim:I* keepdim:B
amin.default self:T dim:I* keepdim:B
argmax.default self:T dim:I? keepdim:B
avg_pool2d.default self:T kernel_size:I* stride:I* padding:I* ceil_mode:B count_include_pad:B divisor_override:I?
batch_norm.default input:T weight:T? bias:T? running_mean:T? running_var:T? training:B momentum:F eps:F \
    cudnn_enabled:B
bitwise_not.default self:T
bmm.default self:T mat2:T
cat.default tensors:T* dim:I
celu.default self:T alpha:N
chunk.default self:T chunks:I dim:I
clamp.default self:T min:N? max:N?
clamp_max.default self:T max:N
clamp_min.default self:T min:N
clone.default self:T memory_format:-
contiguous.default self:T memory_format:-
conv1d.default input:T weight:T bias:T? stride:I* padding:I* dilation:I* groups:I
conv1d.padding input:T weight:T bias:T? stride:I* padding:S dilation:I* groups:I
conv2d.default input:T weight:T bias:T? stride:I* padding:I* dilation:I* groups:I
conv2d.padding input:T weight:T bias:T? stride:I* padding:S dilation:I* groups:I
conv_transpose2d.input input:T weight:T bias:T? stride:I* padding:I* output_padding:I* groups:I dilation:I*
cos.default self:T
detach.default self:T
detach_.default self:T
div.Scalar self:T other:N
div.Tensor self:T other:O
div.Tensor_mode self:T other:O rounding_mode:S?
div_.Tensor self:T other:O
dropout.default input:T p:F train:B
dropout_.default self:T p:F train:B
elu.default self:T alpha:N scale:N input_scale:N
elu_.default self:T alpha:N scale:N input_scale:N
eq.Scalar self:T other:N
eq.Tensor self:T other:O
erf.default self:T
exp.default self:T
expand.default self:T size:I* implicit:B
expand_as.default self:T other:O
feature_dropout.default input:T p:F train:B
flatten.using_ints self:T start_dim:I end_dim:I
floor.default self:T
floor_divide.default self:T other:O
ge.Scalar self:T other:N
ge.Tensor self:T other:O
gelu.default self:T approximate:S
group_norm.default input:T num_groups:I weight:T? bias:T? eps:F cudnn_enabled:B
gt.Scalar self:T other:N
gt.Tensor self:T other:O
hardsigmoid.default self:T
hardswish.default self:T
hardswish_.default self:T
hardtanh.default self:T min_val:N max_val:N
hardtanh_.default self:T min_val:N max_val:N
index_select.default self:T dim:I index:T
instance_norm.default input:T weight:T? bias:T? running_mean:T? running_var:T? use_input_stats:B momentum:F \
    eps:F cudnn_enabled:B
layer_norm.default input:T normalized_shape:I* weight:T? bias:T? eps:F cudnn_enable:B
le.Scalar self:T other:N
le.Tensor self:T other:O
leaky_relu.default self:T negative_slope:N
leaky_relu_.default self:T negative_slope:N
lift_fresh_copy.default self:T
linalg_vector_norm.default self:T ord:N dim:I*? keepdim:B dtype:D?
linear.default input:T weight:T bias:T?
log.default self:T
log1p.default self:T
log_softmax.int self:T dim:I dtype:D?
logical_and.default self:T other:O
logical_not.default self:T
logical_or.default self:T other:O
logsumexp.default self:T dim:I* keepdim:B
lt.Scalar self:T other:N
lt.Tensor self:T other:O
masked_fill.Scalar self:T mask:T value:N
matmul.default self:T other:O
max.default self:T
max.dim self:T dim:I keepdim:B
max_pool2d.default self:T kernel_size:I* stride:I* padding:I* dilation:I* ceil_mode:B
maximum.default self:T other:O
mean.default self:T dtype:D?
mean.dim self:T dim:I*? keepdim:B dtype:D?
min.default self:T
minimum.default self:T other:O
mish.default self:T
mm.default self:T mat2:T
movedim.int self:T source:I destination:I
mul.Scalar self:T other:N
mul.Tensor self:T other:O
mul_.Tensor self:T other:O
narrow.default self:T dim:I start:I length:I
ne.Scalar self:T other:N
neg.default self:T
ones_like.default self:T dtype:D? layout:- device:- pin_memory:- memory_format:-
pad.default self:T pad:I* mode:S value:F?
permute.default self:T dims:I*
pixel_shuffle.default self:T upscale_factor:I
pow.Scalar self:N exponent:T
pow.Tensor_Scalar self:T exponent:N
pow.Tensor_Tensor self:T exponent:T
prelu.default self:T weight:T
reciprocal.default self:T
reflection_pad2d.default self:T padding:I*
relu.default self:T
relu6.default self:T
relu6_.default self:T
relu_.default self:T
repeat.default self:T repeats:I*
replication_pad2d.default self:T padding:I*
reshape.default self:T shape:I*
rms_norm.default input:T normalized_shape:I* weight:T? eps:F?
round.default self:T
rsqrt.default self:T
rsub.Scalar self:T other:N alpha:N
scaled_dot_product_attention.default query:T key:T value:T attn_mask:T? dropout_p:F is_causal:B scale:F? enable_gqa:B
select.int self:T dim:I index:I
selu.default self:T
selu_.default self:T
sigmoid.default self:T
sigmoid_.default self:T
sign.default self:T
silu.default self:T
silu_.default self:T
sin.default self:T
slice.Tensor self:T dim:I start:I? end:I? step:I
softmax.int self:T dim:I dtype:D?
softplus.default self:T beta:N threshold:N
split.Tensor self:T split_size:I dim:I
split_with_sizes.default self:T split_sizes:I* dim:I
sqrt.default self:T
square.default self:T
squeeze.default self:T
squeeze.dim self:T dim:I
stack.default tensors:T* dim:I
std.correction self:T dim:I*? correction:N? keepdim:B
std.dim self:T dim:I*? unbiased:B keepdim:B
sub.Scalar self:T other:N alpha:N
sub.Tensor self:T other:O alpha:N
sub_.Tensor self:T other:O alpha:N
sum.default self:T dtype:D?
sum.dim_IntList self:T dim:I*? keepdim:B dtype:D?
sym_size.int self:T dim:I
t.default self:T
tanh.default self:T
tanh_.default self:T
to.dtype self:T dtype:D non_blocking:B copy:B memory_format:-
to.dtype_layout self:T dtype:D? layout:- device:- pin_memory:- non_blocking:B copy:B memory_format:-
transpose.int self:T dim0:I dim1:I
type_as.default self:T other:O
unbind.int self:T dim:I
unflatten.int self:T dim:I sizes:I*
unsqueeze.default self:T dim:I
upsample_bilinear2d.vec input:T output_size:I*? align_corners:B scale_factors:F*?
upsample_nearest2d.vec input:T output_size:I*? scale_factors:F*?
var.correction self:T dim:I*? correction:N? keepdim:B
var.dim self:T dim:I*? unbiased:B keepdim:B
view.default self:T size:I*
view_as.default self:T other:O
where.ScalarOther condition:T self:T other:N
where.self condition:T self:T other:O
zeros_like.default self:T dtype:D? layout:- device:- pin_memory:- memory_format:-
"""
_NUMBERS = """
add a:I b:I
sub a:I b:I
mul a:I b:I
floordiv a:I b:I
neg a:I
ge a:I b:I
le a:I b:I
gt a:I b:I
lt a:I b:I
eq a:I b:I
ne a:I b:I
"""


def _table(package: str, text: str) -> dict[str, Mapping[str, str]]:
    rows = (line.split() for line in text.split("\n") if line)
    return {f"{package}.{name}": dict(part.split(":") for part in parts) for name, *parts in rows}


OPERATIONS: Mapping[str, Mapping[str, str]] = _table("aten", _ATEN) | _table("_operator", _NUMBERS)
"""Name without `torch.ops.` -> parameter -> kind; those of `_operator` work on whole numbers."""

CHECKS = frozenset({"aten._assert_scalar.default", "aten.sym_constrain_range_for_size.default"})
"""Operations that only check, and are skipped."""

GIVE_NUMBERS = frozenset(name for name in OPERATIONS if name.startswith("_operator.")) | {"aten.sym_size.int"}
"""Operations whose result is a whole number or a truth value; that of every other is a tensor, or several."""
