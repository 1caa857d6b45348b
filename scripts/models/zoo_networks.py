"""The float networks of the zoo: small ones, each with operators or forms that others lack.

Weights come from a seed per network; nothing is trained. `networks()` yields each by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A network in the making: operators are applied to values by name."""

    def __init__(self, seed: int, opset: int, shape: list, name: str = "x") -> None:
        self.draw = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        self.channels = {}

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes) -> str | list[str]:
        made = [f"{kind.lower()}_{len(self.nodes)}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=made[0], **attributes))
        return made[0] if outputs == 1 else made

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def f32(self, value) -> str:
        return self.constant(np.array(value, np.float32))

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant((self.draw.standard_normal(shape) * scale).astype(np.float32))

    def conv(
        self, x: str, out: int, inner: int, kernel: list[int], bias: bool = True, **attributes
    ) -> str:
        """A convolution; `inner` are the input channels of one group."""
        fan = inner * int(np.prod(kernel))
        weight = self.normal(out, inner, *kernel, scale=(2 / fan) ** 0.5)
        more = [self.normal(out, scale=0.2)] if bias else []
        return self.op("Conv", x, weight, *more, kernel_shape=kernel, **attributes)

    def deconv(self, x: str, inner: int, out: int, kernel: list[int], **attributes) -> str:
        weight = self.normal(inner, out, *kernel, scale=(1 / inner) ** 0.5)
        return self.op(
            "ConvTranspose",
            x,
            weight,
            self.normal(out, scale=0.2),
            kernel_shape=kernel,
            **attributes,
        )

    def dense(self, x: str, inner: int, out: int, form: str = "gemm") -> str:
        scale = (2 / inner) ** 0.5
        if form == "gemm":
            return self.op(
                "Gemm",
                x,
                self.normal(out, inner, scale=scale),
                self.normal(out, scale=0.2),
                transB=1,
            )
        if form == "plain":
            return self.op(
                "Gemm", x, self.normal(inner, out, scale=scale), self.normal(out, scale=0.2)
            )
        product = self.op("MatMul", x, self.normal(inner, out, scale=scale))
        return product if form == "matmul" else self.op("Add", product, self.normal(out, scale=0.2))

    def norm(self, x: str, channels: int) -> str:
        """BatchNormalization as after training."""
        positive = lambda: self.constant(self.draw.uniform(0.5, 1.5, channels).astype(np.float32))
        return self.op(
            "BatchNormalization",
            x,
            positive(),
            self.normal(channels, scale=0.3),
            self.normal(channels, scale=0.3),
            positive(),
        )

    def clip(self, x: str, low: float, high: float) -> str:
        return self.op("Clip", x, self.f32(low), self.f32(high))

    def flatten(self, x: str) -> str:
        return self.op("Flatten", x, axis=1)

    def mean(self, x: str, axes: list[int], keep: int = 1) -> str:
        if self.opset >= 18:
            return self.op("ReduceMean", x, self.ints(*axes), keepdims=keep)
        return self.op("ReduceMean", x, axes=axes, keepdims=keep)

    def done(
        self, y: str, shape: list | None = None, element: int = TensorProto.FLOAT
    ) -> onnx.ModelProto:
        output = helper.make_tensor_value_info(y, element, shape)
        graph = helper.make_graph(self.nodes, "zoo", [self.input], [output], self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        onnx.checker.check_model(model)
        return model


def residual_concat(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 3, 16, 16])
    a = n.op("Relu", n.norm(n.conv("x", 8, 3, [3, 3], bias=False, pads=[1] * 4), 8))
    a = n.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    b = n.op("Relu", n.conv(a, 8, 8, [3, 3], pads=[1] * 4))
    b = n.conv(b, 8, 8, [3, 3], pads=[1] * 4)
    c = n.op("Relu", n.op("Add", a, b))
    d = n.op("Relu", n.conv(c, 4, 8, [1, 1]))
    e = n.op("Relu", n.conv(c, 6, 8, [3, 3], pads=[1] * 4))
    f = n.op(
        "Concat",
        d,
        e,
        n.op("MaxPool", c, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1]),
        axis=1,
    )
    g = n.flatten(n.op("GlobalAveragePool", f))
    return n.done(n.dense(g, 18, 5), [1, 5])


def relu6_mobile(seed: int) -> onnx.ModelProto:
    n = Net(seed, 11, [1, 3, 20, 20])
    a = n.clip(n.conv("x", 12, 3, [3, 3], strides=[2, 2], auto_pad="SAME_UPPER"), 0, 6)
    b = n.clip(n.conv(a, 12, 1, [3, 3], group=12, pads=[0, 0, 1, 1], strides=[2, 2]), 0, 6)
    b = n.conv(b, 12, 12, [1, 1])
    c = n.clip(n.conv(b, 24, 12, [1, 1]), 0, 6)
    c = n.clip(n.conv(c, 24, 1, [3, 3], group=24, pads=[1] * 4), 0, 6)
    c = n.op("Add", b, n.conv(c, 12, 24, [1, 1]))
    d = n.op("AveragePool", c, kernel_shape=[5, 5])
    return n.done(n.op("Softmax", n.dense(n.flatten(d), 12, 6), axis=1), [1, 6])


def hard_swish(seed: int) -> onnx.ModelProto:
    n = Net(seed, 15, [1, 1, 12, 12])
    a = n.op("HardSwish", n.conv("x", 8, 1, [3, 3], pads=[1] * 4))
    b = n.conv(a, 8, 8, [3, 3], strides=[2, 2])
    b = n.op("Mul", b, n.op("HardSigmoid", b, alpha=1 / 6, beta=0.5))
    return n.done(n.dense(n.flatten(b), 200, 4), [1, 4])


def swish_by_hand(seed: int) -> onnx.ModelProto:
    """As torch writes Hardswish for old operator sets."""
    n = Net(seed, 12, [1, 4, 10, 10])
    a = n.conv("x", 8, 4, [3, 3])
    gate = n.op("Div", n.clip(n.op("Add", a, n.f32(3.0)), 0, 6), n.f32(6.0))
    a = n.op("Mul", a, gate)
    b = n.conv(a, 8, 8, [3, 3])
    b = n.op("Mul", b, n.op("Sigmoid", b))
    return n.done(n.dense(n.flatten(n.op("GlobalAveragePool", b)), 8, 3), [1, 3])


def sigmoid_head(seed: int) -> onnx.ModelProto:
    n = Net(seed, 17, [1, 20])
    a = n.op("Relu", n.dense("x", 20, 32))
    a = n.op("Relu", n.dense(a, 32, 16, "plain"))
    return n.done(n.op("Sigmoid", n.dense(a, 16, 3, "add")), [1, 3])


def tanh_mlp(seed: int) -> onnx.ModelProto:
    n = Net(seed, 14, [1, 20])
    a = n.op("Tanh", n.dense("x", 20, 32, "add"))
    a = n.op("Tanh", n.dense(a, 32, 16))
    return n.done(n.op("Tanh", n.dense(a, 16, 4, "matmul")), [1, 4])


def wave(seed: int) -> onnx.ModelProto:
    n = Net(seed, 12, [1, 2, 64])
    a = n.op("Relu", n.conv("x", 8, 2, [7], strides=[2], pads=[3, 3]))
    a = n.op("MaxPool", a, kernel_shape=[2], strides=[2])
    a = n.op("Relu", n.conv(a, 16, 8, [3], dilations=[2], pads=[2, 2]))
    a = n.op("GlobalMaxPool", a)
    return n.done(n.op("Sigmoid", n.dense(n.flatten(a), 16, 2)), [1, 2])


def causal(seed: int) -> onnx.ModelProto:
    """A temporal convolution network: padding in front only, residuals."""
    n = Net(seed, 13, [1, 6, 32])
    a = "x"
    for dilation in (1, 2, 4):
        p = n.op("Pad", a, n.ints(0, 0, 2 * dilation, 0, 0, 0), n.f32(0.0))
        a = n.op("Add", a, n.op("Relu", n.conv(p, 6, 6, [3], dilations=[dilation])))
    last = n.op("Slice", a, n.ints(-1), n.ints(2**31), n.ints(2))
    return n.done(n.dense(n.flatten(last), 6, 2), [1, 2])


def volume(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 1, 6, 8, 8])
    a = n.op("Relu", n.conv("x", 6, 1, [3, 3, 3], pads=[1] * 6))
    a = n.op("AveragePool", a, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    a = n.op("Relu", n.conv(a, 8, 6, [3, 3, 3]))
    return n.done(n.dense(n.flatten(a), 8 * 4, 3), [1, 3])


def decoder(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 2, 8, 8])
    a = n.op("Relu", n.conv("x", 8, 2, [3, 3], strides=[2, 2], pads=[1] * 4))
    a = n.op("Relu", n.conv(a, 12, 8, [3, 3], pads=[1] * 4))
    a = n.op(
        "Relu", n.deconv(a, 12, 8, [3, 3], strides=[2, 2], pads=[1] * 4, output_padding=[1, 1])
    )
    return n.done(n.op("Tanh", n.conv(a, 2, 8, [1, 1])), [1, 2, 8, 8])


def skip_decoder(seed: int) -> onnx.ModelProto:
    n = Net(seed, 16, [1, 1, 16, 16])
    a = n.op("Relu", n.conv("x", 6, 1, [3, 3], pads=[1] * 4))
    b = n.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2])
    b = n.op("Relu", n.conv(b, 12, 6, [3, 3], pads=[1] * 4))
    c = n.op("Concat", n.deconv(b, 12, 6, [2, 2], strides=[2, 2]), a, axis=1)
    return n.done(n.op("Sigmoid", n.conv(c, 1, 12, [3, 3], pads=[1] * 4)), [1, 1, 16, 16])


def upsampling(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 2, 6, 6])
    a = n.op("Relu", n.conv("x", 6, 2, [3, 3], pads=[1] * 4))
    a = n.op(
        "Resize",
        a,
        "",
        n.f32([1, 1, 2, 2]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return n.done(n.conv(a, 2, 6, [3, 3], pads=[1] * 4), [1, 2, 12, 12])


def grouped(seed: int) -> onnx.ModelProto:
    n = Net(seed, 18, [1, 8, 14, 14])
    a = n.op("Relu", n.conv("x", 16, 2, [3, 3], group=4, dilations=[2, 2], pads=[2, 1, 2, 3]))
    a = n.op("Relu", n.conv(a, 16, 4, [3, 1], group=4, strides=[2, 1], bias=False))
    return n.done(n.dense(n.mean(a, [2, 3], 0), 16, 5), [1, 5])


def shuffled(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 4, 8, 8])
    a = n.op("Relu", n.conv("x", 12, 2, [1, 1], group=2))
    a = n.op("Reshape", a, n.ints(1, 2, 6, 8, 8))
    a = n.op("Transpose", a, perm=[0, 2, 1, 3, 4])
    a = n.op("Reshape", a, n.ints(1, 12, 8, 8))
    a = n.op("Relu", n.conv(a, 12, 1, [3, 3], group=12, strides=[2, 2], pads=[1] * 4))
    return n.done(n.dense(n.flatten(a), 12 * 16, 4), [1, 4])


def attention(seed: int) -> onnx.ModelProto:
    n = Net(seed, 17, [1, 8, 16])
    q, k, v = (n.dense("x", 16, 16, "add") for _ in range(3))
    heads = lambda value, perm: n.op(
        "Transpose", n.op("Reshape", value, n.ints(1, 8, 2, 8)), perm=perm
    )
    scores = n.op("MatMul", heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1]))
    shares = n.op("Softmax", n.op("Mul", scores, n.f32(8**-0.5)), axis=-1)
    mixed = n.op("Transpose", n.op("MatMul", shares, heads(v, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    a = n.op("Add", "x", n.dense(n.op("Reshape", mixed, n.ints(1, 8, 16)), 16, 16, "add"))
    b = n.dense(n.op("Relu", n.dense(a, 16, 32, "add")), 32, 16, "add")
    return n.done(n.dense(n.mean(n.op("Add", a, b), [1], 0), 16, 3), [1, 3])


def layer_norm(seed: int) -> onnx.ModelProto:
    n = Net(seed, 17, [1, 6, 12])
    a = n.op("LayerNormalization", "x", n.normal(12, scale=0.3), n.normal(12, scale=0.1), axis=-1)
    a = n.op("Relu", n.dense(a, 12, 24, "add"))
    a = n.op("Add", "x", n.dense(a, 24, 12, "add"))
    return n.done(n.dense(n.op("Reshape", a, n.ints(1, -1)), 72, 2), [1, 2])


def normalised_input(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 3, 12, 12])
    a = n.norm("x", 3)
    a = n.op("Relu", n.conv(a, 8, 3, [4, 4], auto_pad="SAME_LOWER", strides=[2, 2]))
    a = n.op(
        "AveragePool", a, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], count_include_pad=1
    )
    a = n.op("AveragePool", a, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    return n.done(n.dense(n.flatten(a), 72, 4), [1, 4])


def open_batch(seed: int) -> onnx.ModelProto:
    n = Net(seed, 17, ["batch", 2, 8, 8])
    a = n.op("Relu", n.conv("x", 6, 2, [3, 3]))
    shape = n.op("Shape", a)
    rows = n.op("Gather", shape, n.constant(np.array(0, np.int64)), axis=0)
    target = n.op("Concat", n.op("Unsqueeze", rows, n.ints(0)), n.ints(-1), axis=0)
    a = n.op("Reshape", a, target)
    return n.done(n.dense(a, 216, 3), ["batch", 3])


def torch_flatten(seed: int) -> onnx.ModelProto:
    """Shape arithmetic around a flattening, as old exporters leave it behind."""
    n = Net(seed, 11, [1, 2, 8, 8])
    a = n.op("LeakyRelu", n.conv("x", 6, 2, [3, 3]), alpha=0.1)
    rows = n.op("Gather", n.op("Shape", a), n.constant(np.array(0, np.int64)), axis=0)
    target = n.op("Concat", n.op("Unsqueeze", rows, axes=[0]), n.ints(-1), axis=0)
    a = n.op("Reshape", n.op("Identity", a), target)
    a = n.op("Dropout", n.dense(a, 216, 8), ratio=0.5)
    return n.done(n.dense(n.op("Relu", a), 8, 3, "plain"), [1, 3])


def leaky(seed: int) -> onnx.ModelProto:
    n = Net(seed, 16, [1, 24])
    a = n.op("LeakyRelu", n.dense("x", 24, 32), alpha=0.2)
    a = n.op("PRelu", n.dense(a, 32, 16), n.normal(16, scale=0.2))
    a = n.op("Elu", n.dense(a, 16, 16, "add"), alpha=0.7)
    return n.done(n.dense(a, 16, 24), [1, 24])


def gelu(seed: int) -> onnx.ModelProto:
    n = Net(seed, 21, [1, 16])
    a = n.dense("x", 16, 24)
    half = n.op("Mul", a, n.f32(0.5))
    a = n.op("Mul", half, n.op("Add", n.op("Erf", n.op("Mul", a, n.f32(0.5**0.5))), n.f32(1.0)))
    return n.done(n.dense(a, 24, 4), [1, 4])


def gated(seed: int) -> onnx.ModelProto:
    n = Net(seed, 13, [1, 4, 24])
    a = n.conv("x", 12, 4, [3], pads=[1, 1])
    left, right = n.op("Split", a, n.ints(6, 6), outputs=2, axis=1)
    a = n.op("Mul", n.op("Tanh", left), n.op("Sigmoid", right))
    a = n.op("Relu", n.conv(a, 6, 6, [3], strides=[2]))
    return n.done(n.dense(n.flatten(a), 66, 3), [1, 3])


def squeeze_excite(seed: int) -> onnx.ModelProto:
    n = Net(seed, 14, [1, 3, 10, 10])
    a = n.op("Relu", n.conv("x", 8, 3, [3, 3], pads=[1] * 4))
    s = n.op("Relu", n.conv(n.op("GlobalAveragePool", a), 4, 8, [1, 1]))
    s = n.op("HardSigmoid", n.conv(s, 8, 4, [1, 1]), alpha=0.2, beta=0.5)
    a = n.op("Mul", a, s)
    return n.done(n.op("Softmax", n.dense(n.flatten(n.mean(a, [2, 3])), 8, 4)), [1, 4])


def channels_last(seed: int) -> onnx.ModelProto:
    """As tf2onnx writes a network whose channels come last."""
    n = Net(seed, 13, [1, 10, 10, 2])
    a = n.op("Transpose", "x", perm=[0, 3, 1, 2])
    a = n.op("Relu", n.conv(a, 6, 2, [3, 3], auto_pad="SAME_UPPER", strides=[2, 2]))
    a = n.op("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    a = n.op("Transpose", a, perm=[0, 2, 3, 1])
    a = n.op("Reshape", a, n.ints(-1, 54))
    a = n.clip(n.dense(a, 54, 16, "add"), -1, 4)
    return n.done(n.op("Softmax", n.dense(a, 16, 3, "add"), axis=-1), [1, 3])


def two_ranges(seed: int) -> onnx.ModelProto:
    """Branches of very different scale that meet in Concat, Add, Sub and Mul."""
    n = Net(seed, 13, [1, 16])
    a = n.op("Mul", n.dense("x", 16, 8), n.f32(20.0))
    b = n.op("Mul", n.dense("x", 16, 8), n.f32(0.05))
    c = n.op("Concat", a, b, n.op("Sub", a, b), n.op("Mul", a, b), axis=1)
    return n.done(n.dense(n.op("Relu", c), 32, 4), [1, 4])


def narrow_peak(seed: int) -> onnx.ModelProto:
    """ReLUs that the quantiser swallows, and a wide range that saturates."""
    n = Net(seed, 13, [1, 1, 9, 9])
    a = n.op("Relu", n.conv("x", 5, 1, [3, 3]))
    a = n.op("Relu", n.conv(a, 5, 5, [3, 3], bias=False))
    a = n.op("Relu", n.dense(n.flatten(a), 125, 9))
    return n.done(n.op("Relu", n.dense(a, 9, 9)), [1, 9])


def repeated_head(seed: int) -> onnx.ModelProto:
    n = Net(seed, 19, [1, 5, 7])
    weight = n.normal(7, 7, scale=0.5)
    a = n.op("Relu", n.op("MatMul", "x", weight))
    a = n.op("Relu", n.op("MatMul", a, weight))
    a = n.op("Transpose", a, perm=[0, 2, 1])
    a = n.op("MatMul", a, n.normal(5, 3, scale=0.6))
    return n.done(
        n.op(
            "Softmax",
            (
                n.op("Squeeze", n.op("ReduceMax", a, n.ints(1), keepdims=1), n.ints(1))
                if n.opset >= 18
                else a
            ),
        ),
        [1, 3],
    )


NETWORKS = [
    residual_concat,
    relu6_mobile,
    hard_swish,
    swish_by_hand,
    sigmoid_head,
    tanh_mlp,
    wave,
    causal,
    volume,
    decoder,
    skip_decoder,
    upsampling,
    grouped,
    shuffled,
    attention,
    layer_norm,
    normalised_input,
    open_batch,
    torch_flatten,
    leaky,
    gelu,
    gated,
    squeeze_excite,
    channels_last,
    two_ranges,
    narrow_peak,
    repeated_head,
]


def networks() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Every network by name."""
    for seed, make in enumerate(NETWORKS):
        yield make.__name__, make(seed)
