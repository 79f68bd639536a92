#!/usr/bin/env bash
# All checks that need a CUDA device, in at most eight minutes; what was seen is printed last.
# usage: [PYTHON=…] [HPOGEN_DATA=DATA] [PEERS=FOLDER] scripts/bench/gpu.sh [FOLDER FOR THE LOGS]
# PYTHON is one with hpogen's packages and pytest; FOLDER has BackPACK, as gradient_norms.py tells.
# Without images of Fashion-MNIST where HPOGEN_DATA says, what needs them is left out.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
python=${PYTHON:-.venv/bin/python}
logs=${1:-$(mktemp -d)}
export PYTHONPATH=$PWD:${PEERS:-}:${PYTHONPATH:-} PYTHONUNBUFFERED=1
unset PYTHONDONTWRITEBYTECODE
mkdir -p "$logs"
"$python" -c 'import torch; print(torch.cuda.get_device_name())' || exit
begin=$SECONDS names=()

step() { # NAME SECONDS COMMAND…: no longer than that, and than what is left of eight minutes
  local name=$1 left=$((480 - (SECONDS - begin))) limit=$2 code
  shift 2
  names+=("$name")
  if ((left < 10)); then
    echo "left out: no time" >"$logs/$name"
    return
  fi
  echo "$name …"
  timeout --kill-after=5 $((limit < left ? limit : left)) "$python" "$@" >"$logs/$name" 2>&1
  code=$?
  ((code == 0)) || echo "exit $code" >>"$logs/$name"
}

bench=scripts/bench
step tests 100 -m pytest -q -n 0 -p no:cacheprovider -m gpu tests
step resnet56 110 $bench/whole_trial.py --model resnet56 --epochs 160 --together 1
for batch in 32 128 512; do
  step "captures-$batch" 15 $bench/whole_trial.py --model resnet20 --batch $batch --epochs 1 --together 1
done
step streams 40 $bench/whole_trial.py --model resnet20 --epochs 3 --together 1 2 4 8
if [[ -n ${HPOGEN_DATA:-} ]]; then
  # loop (i) is `loader`, loop (ii) `tensors`; 10,000 of 60,000 images
  loops=($bench/throughput.py --device cuda --models resnet20 --batches 128 --threads 1)
  loops+=(--subset 0.1667 --rounds 5 --workers 0 4 --data "$HPOGEN_DATA")
  step loops-fp32 60 "${loops[@]}"
  step loops-bf16 40 "${loops[@]}" --precision bf16
  step processes 70 $bench/packing.py --workers 1 2 4 8
fi
step norms 60 $bench/gradient_norms.py --device cuda --rounds 3 --batches 128

for name in "${names[@]}"; do
  printf '\n== %s\n' "$name"
  tail -n 25 "$logs/$name"
done
echo "$((SECONDS - begin)) s in all; whole logs in the folder that was named, or a temporary one"
