#!/usr/bin/env bash
#SBATCH --job-name=hpogen
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%x-%j.out
#
# Run, or go on with, a study under SLURM, and requeue the job until the study has ended.
#
#   sbatch [OPTIONS OF SBATCH] scripts/cluster/slurm.sh STUDY.yaml [OPTIONS OF hpogen run]
#   sbatch --nodes=4 scripts/cluster/slurm.sh studies/a.yaml --dir /shared/runs/a --workers 32
#
# From the checkout, after scripts/setup; it, STUDY.yaml and DIR are on a folder that every node has.
# 300 s before the time is over SLURM sends USR1 to this script, which lets hpogen write its
# checkpoints, and requeues the job; the next run goes on in the same folder. --requeue is for lost
# nodes and preemption, where SLURM itself requeues. TERM (scancel, preemption) stops the study
# cleanly and requeues nothing: a job that was cancelled does not come back.
#
# HPOGEN, RAY: the programs (default: .venv/bin/hpogen, .venv/bin/ray)
set -u
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
hpogen=${HPOGEN:-.venv/bin/hpogen}
ray=${RAY:-.venv/bin/ray}
nodes=${SLURM_JOB_NUM_NODES:-1}
where=()
cluster=()
warned=0

say() { printf 'slurm.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 2; }

# A Ray cluster over the job's nodes. Ray listens on the network of the nodes, which other users
# have, too: the token in ~/.ray/auth_token is what keeps them out (ray 2.52 or newer).
start_ray() {
  local first=${SLURMD_NODENAME:-$(hostname)} port=$((20000 + ${SLURM_JOB_ID:?} % 20000))
  local log=ray-$SLURM_JOB_ID.log cpus=${SLURM_CPUS_PER_TASK:-1}
  export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
  "$ray" get-auth-token --generate >/dev/null || fail "Ray has no token to keep others out"
  "$ray" start --head --block --port="$port" --dashboard-host=127.0.0.1 --num-cpus="$cpus" \
    >>"$log" 2>&1 &
  cluster+=($!)
  until (exec 3<>"/dev/tcp/$first/$port") 2>/dev/null; do
    kill -0 "${cluster[0]}" 2>/dev/null || fail "Ray did not start: see $log"
    sleep 1
  done
  srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --cpus-per-task="$cpus" --exclude="$first" \
    "$ray" start --block --address="$first:$port" --num-cpus="$cpus" >>"$log" 2>&1 &
  cluster+=($!)
  where=(--ray "$first:$port")
}

stop_study() {
  say "$1: the study stops with a checkpoint of each running trial"
  kill -TERM "$driver" 2>/dev/null
}

if ((nodes > 1)); then start_ray; fi
"$hpogen" run "$@" ${where[@]+"${where[@]}"} &
driver=$!
trap 'warned=1; stop_study "the time is nearly over"' USR1
trap 'stop_study "the job is ended"' TERM INT

# A trap interrupts `wait`; the driver's own exit code is the last one.
wait "$driver"
code=$?
while kill -0 "$driver" 2>/dev/null; do
  wait "$driver"
  code=$?
done
# Ray goes before the job: up to 30 s, which a requeued one can spare.
if ((${#cluster[@]})); then kill -TERM "${cluster[@]}" 2>/dev/null; fi
for ((i = 0; i < 300; i++)); do
  kill -0 ${cluster[@]+"${cluster[@]}"} 2>/dev/null || break
  sleep 0.1
done

# 0: finished; 1: it stopped itself; 2: wrong input. Only what was interrupted is to go on.
if ((warned && code > 2)); then
  say "requeued"
  scontrol requeue "${SLURM_JOB_ID:?}" || exit 1
  exit 0
fi
exit "$code"
