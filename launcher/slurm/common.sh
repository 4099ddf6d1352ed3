# shellcheck shell=bash
# Functions of the batch scripts beside this one. They source it by REPO: sbatch runs a copy of a script in a spool
# directory.

# Exit with code 2, an input error (trainer/liveness/exit_codes.py): such a job is not requeued.
refuse() {
    echo "error: $1" >&2
    exit 2
}

# Put the environment with d2tv first on PATH: VENV, by default .venv of the repository, else the active one.
# SETUP is a shell file to source before, for modules, conda or NCCL's variables.
activate() {
    if [[ -n ${SETUP-} ]]; then
        [[ -r $SETUP ]] || refuse "SETUP=$SETUP cannot be read"
        set +u # files of modules and conda use unset variables
        # shellcheck source=/dev/null
        source "$SETUP"
        set -u
    fi
    local venv=${VENV:-$REPO/.venv}
    if [[ -x $venv/bin/python ]]; then
        PATH=$venv/bin:$PATH
    elif [[ -n ${VENV-} ]]; then
        refuse "VENV=$VENV has no bin/python on $(hostname): is it on a file system that the nodes share?"
    fi
    command -v python >/dev/null || refuse "no python on PATH: set VENV, or SETUP to a file that activates one"
    export PYTHONUNBUFFERED=1 # a log is read while the job runs
    # Since Slurm 22.05 srun does not take it from the job by itself.
    if [[ -n ${SLURM_CPUS_PER_TASK-} ]]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
}

# Set `scratch` to a directory of this node, and of this user alone, for compiled code. Refuse one that another user may
# write to, and a link of its name.
own_scratch() {
    local mode
    scratch=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/d2tv-$(id -u)
    mkdir -m 700 -- "$scratch" 2>/dev/null || : # an existing one is checked
    local mend="remove it, or set TORCH_EXTENSIONS_DIR, TRITON_CACHE_DIR and TORCHINDUCTOR_CACHE_DIR"
    [[ -d $scratch && ! -L $scratch ]] || refuse "$scratch on $(hostname) is no directory, or cannot be made: $mend"
    [[ -O $scratch ]] || refuse "$scratch on $(hostname) belongs to another user: $mend"
    mode=$(stat -c %a -- "$scratch")
    ((!(8#$mode & 022))) || refuse "$scratch on $(hostname) can be written by others: $mend"
    chmod 700 -- "$scratch"
}

# Print the address by which Slurm reaches node $1: its name need not resolve on the others.
node_address() {
    local address
    address=$(scontrol --oneliner show node "$1" | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p') || :
    echo "${address:-$1}"
}

# Run a command and set `code` to its exit code. In the background, because bash runs a trap only between commands or
# while it waits; a trap ends a wait early.
child=
# shellcheck disable=SC2034 # `code` is for the script that sources this
run() {
    "$@" &
    child=$!
    while kill -0 "$child" 2>/dev/null; do wait "$child" || :; done
    code=0
    wait "$child" || code=$?
}

# Requeue this job, for the reason $1. A job that may not be requeued (scontrol update requeue=0) ends here.
requeue() {
    trap '' TERM # Slurm ends this script as part of the requeue, and would end scontrol with it
    if scontrol requeue "$SLURM_JOB_ID"; then
        echo "$1: job $SLURM_JOB_ID is requeued"
    else
        echo "$1: job $SLURM_JOB_ID is not requeued, the same sbatch goes on"
    fi
}
