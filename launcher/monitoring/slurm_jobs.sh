#!/usr/bin/env bash
# Which training jobs Slurm runs, as Prometheus metrics, for a node_exporter with --collector.textfile.directory=DIR:
#
#   * * * * * /path/launcher/monitoring/slurm_jobs.sh /path/DIR/d2tv.prom
#
# in the crontab of any one host that has squeue. To the file, which is replaced whole, or without one to stdout.
# D2tvSlurmJobWithoutEndpoint compares them with the endpoints that are up (launcher/monitoring/rules/alerts.yml).
# Where squeue fails nothing is written, and the time stamp in the old file tells its age.
#
#   JOB_NAMES   the jobs' names, with commas between (d2tv-train, as launcher/slurm/train.sbatch has it)

set -euo pipefail

# %A is the number that a job has in SLURM_JOB_ID, of an array each its own; the name comes last, it may hold anything.
# All users' jobs, but only running ones: one that waits has no endpoint.
jobs=$(squeue --noheader --states=RUNNING --name="${JOB_NAMES:-d2tv-train}" --format='%A %j')

metrics() {
    echo "# HELP d2tv_slurm_jobs_timestamp_seconds When Slurm was asked which jobs run."
    echo "# TYPE d2tv_slurm_jobs_timestamp_seconds gauge"
    echo "d2tv_slurm_jobs_timestamp_seconds $(date +%s)"
    echo "# HELP d2tv_slurm_job_running A training job that Slurm runs: always 1."
    echo "# TYPE d2tv_slurm_job_running gauge"
    local number name
    while read -r number name; do
        if [[ -z $number ]]; then continue; fi
        name=${name//\\/\\\\}
        echo "d2tv_slurm_job_running{slurm_job=\"$number\",name=\"${name//\"/\\\"}\"} 1"
    done <<<"$jobs"
}

if (($# == 0)); then
    metrics
    exit
fi
# A link stays, and what it names is replaced; a device or a pipe, like /dev/null, must not become a file.
file=$(readlink -f -- "$1") || file=$1
if [[ -e $file && ! -f $file ]] || [[ $file == /proc/* || $1 == /dev/std* || $1 == /dev/fd/* ]]; then
    echo "error: $1 is not a regular file: name one, or none for standard output" >&2
    exit 2
fi
# Beside it, so that it is on the same file system; node_exporter reads *.prom only.
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
metrics >"$new"
chmod 644 "$new" # mktemp's are their owner's alone
mv -T -- "$new" "$file"
