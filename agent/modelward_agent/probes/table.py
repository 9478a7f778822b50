"""Which functions are probed, in which libraries, and what a call of each means.

Seen firing in real servers; functions that merely exist are not listed. C++ names are mangled, as they stand in the files; where
versions differ in a function's arguments each form is listed, and the first one that a file has is taken.

The return is probed only of C functions that report errors by value: an exception that meets a probed return ends the program
(measured: the unwinder finds no caller). For C++ two entries make a bracket: of a constructor and its destructor, or of the
function that loads and the one that is called next.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Means(Enum):
    """What a call of a function says; the numbers are ``enum mw_means`` of ``agent/bpf/probes.bpf.h``."""

    LOAD = 1
    """it loads, until it returns"""
    BEGIN = 2
    """a load goes on until ``END`` is called with the same first argument"""
    END = 3
    INFERENCE = 4
    DEVICE = 5
    UNLOAD = 6


class Result(Enum):
    """What a load's result says; the numbers are ``enum mw_result`` there."""

    IGNORED, HANDLE, ERROR = range(3)


DEVICE_INIT, DEVICE_CODE, DEVICE_LAUNCH = range(3)
"""``what`` of ``Means.DEVICE``: each is told once for a process."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function, of which a call means something."""

    name: str
    """for people, at most 31 bytes: an event's ``lifecycle.detail``"""
    means: Means
    symbols: tuple[str, ...] = ()
    """its names in a file; empty: as for people"""
    result: Result = Result.IGNORED
    model_argument: int = 0
    """1 or 2: the argument that is the model's name"""
    what: int = 0
    hot: bool = False
    """runs for each token or launch: probed in one process at a time, until it has told what there is"""

    @property
    def alternatives(self) -> tuple[str, ...]:
        return self.symbols or (self.name,)


@dataclass(frozen=True, slots=True)
class Family:
    """Libraries that have the same functions."""

    name: str
    stems: tuple[str, ...]
    """Of their file names, up to the first dot or hyphen; of programs too that they may be linked into."""
    functions: tuple[Function, ...]


_STRING = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_READER = "_ZN6caffe29serialize19PyTorchStreamReader"
_BUNDLE = "_ZN10tensorflow12BundleReader"

FAMILIES: tuple[Family, ...] = (
    Family("torch", ("libtorch_cpu",), (
        Function("PyTorchStreamReader(adapter)", Means.BEGIN, (f"{_READER}C1ESt10shared_ptrINS0_20ReadAdapterInterfaceEE",)),
        Function("PyTorchStreamReader(file)", Means.BEGIN, (f"{_READER}C1ERK{_STRING}",)),
        Function("PyTorchStreamReader(stream)", Means.BEGIN, (f"{_READER}C1EPSi",)),
        Function("~PyTorchStreamReader", Means.END, (f"{_READER}D1Ev",)),
        Function("at::_ops::linear", Means.INFERENCE, hot=True, symbols=(
            "_ZN2at4_ops6linear4callERKNS_6TensorES4_RKSt8optionalIS2_E",
            "_ZN2at4_ops6linear4callERKNS_6TensorES4_RKN3c108optionalIS2_EE")),
        Function("at::_ops::addmm", Means.INFERENCE, hot=True,
                 symbols=("_ZN2at4_ops5addmm4callERKNS_6TensorES4_S4_RKN3c106ScalarES8_",)),
    )),
    Family("llama.cpp", ("libllama", "xllamacpp", "llama", "llamafile", "ollama", "koboldcpp"), (
        Function("server_context::load_model", Means.BEGIN, symbols=(
            "_ZN14server_context10load_modelER13common_params", "_ZN14server_context10load_modelERK13common_params",
            "_ZN14server_context10load_modelERK10gpt_params")),
        Function("server_context::start_loop", Means.END, symbols=("_ZN14server_context10start_loopEv",)),
        Function("llama_model_load_from_file", Means.LOAD, result=Result.HANDLE),
        Function("llama_load_model_from_file", Means.LOAD, result=Result.HANDLE),
        Function("llama_model_load_from_splits", Means.LOAD, result=Result.HANDLE),
        Function("llama_model_free", Means.UNLOAD, symbols=("llama_model_free", "llama_free_model")),
        Function("llama_decode", Means.INFERENCE, hot=True),
        Function("llama_context::decode", Means.INFERENCE, hot=True, symbols=(
            "_ZN13llama_context6decodeERK11llama_batch", "_ZN13llama_context6decodeER11llama_batch")),
    )),
    Family("triton", ("libtritonserver",), (
        Function("TRITONSERVER_ServerLoadModel", Means.LOAD, result=Result.ERROR, model_argument=2),
        Function("ServerLoadModelWithParameters", Means.LOAD, ("TRITONSERVER_ServerLoadModelWithParameters",),
                 result=Result.ERROR, model_argument=2),
        Function("TRITONSERVER_ServerUnloadModel", Means.UNLOAD, model_argument=2),
        Function("ServerUnloadModelAndDependents", Means.UNLOAD, ("TRITONSERVER_ServerUnloadModelAndDependents",),
                 model_argument=2),
        Function("TRITONSERVER_ServerInferAsync", Means.INFERENCE, hot=True),
    )),
    Family("tensorflow", ("libtensorflow_cc", "libtensorflow", "libtensorflow_framework", "_pywrap_tensorflow_internal"), (
        Function("TF_LoadSessionFromSavedModel", Means.LOAD, result=Result.HANDLE),
        Function("TF_SessionRun", Means.INFERENCE, hot=True),
    )),
    Family("cuda", ("libcuda",), (
        Function("cuInit", Means.DEVICE, what=DEVICE_INIT),
        Function("cuModuleLoadData", Means.DEVICE, what=DEVICE_CODE),
        Function("cuModuleLoadDataEx", Means.DEVICE, what=DEVICE_CODE),
        Function("cuLibraryLoadData", Means.DEVICE, what=DEVICE_CODE),
        Function("cuLaunchKernel", Means.DEVICE, what=DEVICE_LAUNCH, hot=True),
        Function("cuLaunchKernelEx", Means.DEVICE, what=DEVICE_LAUNCH, hot=True),
    )),
    Family("cudart", ("libcudart",), (
        Function("cudaLaunchKernel", Means.DEVICE, what=DEVICE_LAUNCH, hot=True),
        Function("cudaLaunchKernelExC", Means.DEVICE, what=DEVICE_LAUNCH, hot=True),
    )),
)
"""A function's place in this order is its number in the kernel."""


def numbered() -> list[tuple[int, Family, Function]]:
    """Every function with its number."""
    return [(number, family, function) for number, (family, function) in enumerate(
        (family, function) for family in FAMILIES for function in family.functions)]


def stem(name: bytes) -> bytes:
    """What stands before the first dot or hyphen of a file's name: versions and hashes come after. The same in
    ``is_known_library`` of ``agent/bpf/probed.h``."""
    return name.partition(b".")[0].partition(b"-")[0]


def family_of(name: bytes) -> int:
    """Index in ``FAMILIES`` by the name of a library or program; -1 when it is none of them."""
    return _BY_STEM.get(stem(name), -1)


_BY_STEM = {stem.encode(): number for number, family in enumerate(FAMILIES) for stem in family.stems}
