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
driver=
warned=0
ended=0

say() { printf 'slurm.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 2; }

# From here on a signal may come, also before there is a study.
stop_study() {
  [[ -n $driver ]] || return 0
  say "$1: the study stops with a checkpoint of each running trial"
  kill -TERM "$driver" 2>/dev/null
}
trap 'warned=1; stop_study "the time is nearly over"' USR1
trap 'ended=1; stop_study "the job is ended"' TERM INT

# Ray goes before the job: up to 30 s, which a requeued one can spare.
stop_ray() {
  ((${#cluster[@]})) || return 0
  kill -TERM "${cluster[@]}" 2>/dev/null
  for ((i = 0; i < 300; i++)); do
    kill -0 "${cluster[@]}" 2>/dev/null || return 0
    sleep 0.1
  done
}
trap stop_ray EXIT

# Where a node is reached: by its name, or, where that is known to SLURM alone, as SLURM does.
address_of() {
  local found=
  getent hosts "$1" >/dev/null \
    || found=$(scontrol show node "$1" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
  echo "${found:-$1}"
}

# A Ray cluster over the job's nodes. Ray listens on the network of the nodes, which other users
# have, too: the token in ~/.ray/auth_token is what keeps them out (ray 2.52 or newer). Ray would
# write it so that everybody on this machine can read it.
start_ray() {
  local first=${SLURMD_NODENAME:-$(hostname)} port=$((20000 + ${SLURM_JOB_ID:?} % 20000)) address
  local log=ray-$SLURM_JOB_ID.log cpus=${SLURM_CPUS_PER_TASK:-1} token=~/.ray/auth_token
  address=$(address_of "$first")
  export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
  (umask 077 && "$ray" get-auth-token --generate >/dev/null) \
    || fail "Ray has no token to keep others out"
  if [[ -f $token ]]; then chmod 600 "$token"; fi
  "$ray" start --head --block --port="$port" --dashboard-host=127.0.0.1 --num-cpus="$cpus" \
    >>"$log" 2>&1 &
  cluster+=($!)
  until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
    if ((warned)); then fail "--time is shorter than the warning: the study has not even begun"; fi
    if ((ended)); then exit 130; fi
    kill -0 "${cluster[0]}" 2>/dev/null || fail "Ray did not start: see $log"
    sleep 1
  done
  srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --cpus-per-task="$cpus" --exclude="$first" \
    "$ray" start --block --address="$address:$port" --num-cpus="$cpus" >>"$log" 2>&1 &
  cluster+=($!)
  where=(--ray "$address:$port")
}

if ((nodes > 1)); then start_ray; fi
if ((ended)); then exit 130; fi
"$hpogen" run "$@" ${where[@]+"${where[@]}"} &
driver=$!
if ((warned || ended)); then stop_study "a signal came before it began"; fi

# A trap interrupts `wait`; the driver's own exit code is the last one.
wait "$driver"
code=$?
while kill -0 "$driver" 2>/dev/null; do
  wait "$driver"
  code=$?
done
stop_ray

# 0: finished; 1: it stopped itself; 2: wrong input. Only what was interrupted is to go on.
if ((warned && code > 2)); then
  say "requeued"
  scontrol requeue "${SLURM_JOB_ID:?}" || exit 1
  exit 0
fi
exit "$code"
