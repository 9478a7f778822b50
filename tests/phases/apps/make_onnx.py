"""Write graphs with their weights in LABEL.onnx.data: ``make_onnx.py LABEL ...``."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

for seed, label in enumerate(sys.argv[1:]):
    random = np.random.default_rng(seed)
    weights = [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
               for name, shape in (("v", (8, 4096)), ("w", (4096, 4)))]
    nodes = [helper.make_node("MatMul", ["x", "v"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    graph = helper.make_graph(nodes, label, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])], weights)
    model = helper.make_model(graph, producer_name="phases", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, f"{label}.onnx", save_as_external_data=True, location=f"{label}.onnx.data", size_threshold=64)
