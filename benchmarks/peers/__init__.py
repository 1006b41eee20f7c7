"""One adapter a peer. `create("torch")` gives one; names outside the list are `module:Class` (used by the tests)."""

from __future__ import annotations

import importlib

from benchmarks.peers.base import Case, Peer, Unavailable, sort_into_batches

ADAPTERS = {
    "govlm": "benchmarks.peers.govlm_models:GovlmPeer",
    "govlm_int8": "benchmarks.peers.govlm_models:GovlmInt8Peer",
    "govlm_packed": "benchmarks.peers.govlm_models:GovlmPackedPeer",
    "torch": "benchmarks.peers.torch_eager:TorchPeer",
    "torch_sorted": "benchmarks.peers.torch_eager:TorchSortedPeer",
    "torch_compile": "benchmarks.peers.torch_compile:TorchCompilePeer",
    "onnxruntime": "benchmarks.peers.onnx_runtime:OnnxRuntimePeer",
    "onnxruntime_sorted": "benchmarks.peers.onnx_runtime:OnnxRuntimeSortedPeer",
    "onnxruntime_int8": "benchmarks.peers.onnx_runtime:OnnxRuntimeInt8Peer",
    "onnxruntime_int8_sorted": "benchmarks.peers.onnx_runtime:OnnxRuntimeInt8SortedPeer",
    "openvino": "benchmarks.peers.openvino_peer:OpenVinoPeer",
    "openvino_sorted": "benchmarks.peers.openvino_peer:OpenVinoSortedPeer",
    "openvino_int8": "benchmarks.peers.openvino_peer:OpenVinoInt8Peer",
    "openvino_int8_sorted": "benchmarks.peers.openvino_peer:OpenVinoInt8SortedPeer",
}


def create(name: str) -> Peer:
    module, _, attribute = ADAPTERS.get(name, name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        raise Unavailable(f"{name}: {error}") from error


__all__ = ["ADAPTERS", "Case", "Peer", "Unavailable", "create", "sort_into_batches"]
