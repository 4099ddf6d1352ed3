#!/usr/bin/env bash
# The step on one CUDA device: both backbones of the paper, random weights, nothing to download.
#
#   benchmarks/gpu.sh [options of benchmarks.step]        for example --rows 16, --compile, --quick
#
# Writes benchmarks/gpu_mt5-base.json and benchmarks/gpu_mbart-50.json, and prints tuples/s, MFU against the matmul peak
# of the same run and against the device's own, and peak memory. PYTHON is the interpreter (default: .venv's, if there),
# PEAK_TFLOPS the device's dense bf16 peak where its name is not known here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  echo "error: no CUDA device that $python's torch can use: run this where there is one" >&2
  exit 2
fi

export DS_ACCELERATOR=cuda CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
for shape in mt5-base mbart-50; do
  "$python" -m benchmarks.step --device cuda --shape "$shape" --only train loss --rows 32 \
    --json "benchmarks/gpu_$shape.json" "$@"
done

"$python" - benchmarks/gpu_mt5-base.json benchmarks/gpu_mbart-50.json <<'PYTHON'
import json
import os
import sys

# Dense bf16 TFLOP/s, from the makers' data sheets.
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165, "V100": 125}

for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    known = next((peak for name, peak in PEAKS.items() if name in found["machine"]), None)
    peak = float(os.environ["PEAK_TFLOPS"]) if "PEAK_TFLOPS" in os.environ else known
    print(f"{found['shape']} on {found['machine']}, torch {found['torch']}, {found['rows']} rows")
    for regime in ("full", "real"):
        name = f"ours_bf16_{regime}_d2tv"
        if f"{name}_mfu" not in found:
            print(f"  {regime}: no figure: {found.get(f'{name}_missing', 'it was not measured')}")
            continue
        mfu, matmul = found[f"{name}_mfu"], found["matmul_bf16_tflops"]
        own = "unknown" if peak is None else f"{mfu * matmul / peak:.1%} ({peak:.0f} TFLOP/s)"
        print(
            f"  {regime}: {found[f'{name}_examples_per_second']:.1f} tuples/s, MFU {mfu:.1%} of the matmul peak"
            f" ({matmul:.0f} TFLOP/s), of the device's {own}, peak memory {found[f'{name}_peak_gb']:.1f} GB"
        )
PYTHON
