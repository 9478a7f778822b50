"""How the numbers of a model are stored: one spelling, that of safetensors, for what each format calls otherwise."""

from __future__ import annotations

from collections import Counter

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "I4": 4, "I2": 2,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "U4": 4, "U2": 2,
    "BOOL": 8, "C64": 64, "C128": 128,
}  # fmt: skip
"""Types, and how many bits a number of each takes."""

ONNX = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64", 12: "U32", 13: "U64",
    14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3", 19: "F8_E5M2", 20: "F8_E5M2", 21: "U4", 22: "I4", 23: "F4",
    24: "F8_E8M0", 25: "U2", 26: "I2",
    27: "F6_E2M3", 28: "F6_E3M2",
}  # fmt: skip
"""By the number in onnx.TensorProto.DataType."""

TFLITE = {
    0: "F32", 1: "F16", 2: "I32", 3: "U8", 4: "I64", 6: "BOOL", 7: "I16", 8: "C64", 9: "I8", 10: "F64", 11: "C128", 12: "U64",
    15: "U32", 16: "U16", 17: "I4", 18: "BF16", 19: "I2", 20: "U4",
}  # fmt: skip
"""By the number in TFLite's TensorType."""

TORCH = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8",
}  # fmt: skip
"""By torch's name."""


class Weights:
    """Counts what the weights are made of."""

    def __init__(self) -> None:
        self._bits: Counter[str] = Counter()

    def add(self, dtype: str, numbers: int) -> None:
        """One tensor of so many numbers; of an unknown type: not counted."""
        if dtype in BITS and numbers > 0:
            self._bits[dtype] += BITS[dtype] * numbers

    def most(self) -> str:
        """The type that most bytes are of; empty when there are none."""
        return max(self._bits, key=lambda dtype: (self._bits[dtype], dtype), default="")
