"""A real Slurm on this machine, on its loopback interface: Debian's slurmctld, slurmd and munge; eight pretended cores.

By hand, as root: `python tests/support/slurm.py` starts it and stops it on Ctrl-C; then `sinfo`, `sbatch`, ...
work. Needs `apt install --no-install-recommends slurmctld slurmd slurm-client munge`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SETTINGS = Path("/etc/slurm")  # the only place: Snakemake's job steps drop SLURM_CONF from their environment
MARK = "# written by Thalweg's tests, removed when they end\n"
CORES = 8
CONF = """
ClusterName=thalweg
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
MinJobAge=300
KillWait=5
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cores} RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""
GPUS = "NodeName=localhost Name=gpu File=/dev/null\nNodeName=localhost Name=gpu File=/dev/zero\n"  # pretended


def missing():
    """Why there can be no Slurm here, or None."""
    found = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if found:
        return f"{found[0]} is not installed"
    if os.geteuid() != 0:
        return "starting Slurm takes root"
    conf = SETTINGS / "slurm.conf"
    if conf.exists() and not conf.read_text().startswith(MARK):
        return f"{conf} is there: this machine has a Slurm of its own"
    return None


@contextlib.contextmanager
def running():
    """Slurm while the block runs; yields the folder of its logs."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (SETTINGS / "slurm.conf").write_text(MARK + CONF.format(folder=folder, cores=CORES))
    (SETTINGS / "gres.conf").write_text(MARK + GPUS)
    with contextlib.ExitStack() as stack:
        stack.callback(_clean, folder)
        if subprocess.run(["munge", "--no-input"], capture_output=True, check=False).returncode != 0:
            _start_munge()
            stack.callback(subprocess.run, ["pkill", "-x", "munged"], check=False)
        for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "localhost"]):
            stack.enter_context(_process(command, folder))
        _wait_until_idle(folder)
        stack.callback(_cancel_all)
        yield folder


def state(job):
    """State of a job as squeue tells it."""
    command = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


ASKED = 50  # times


def jobs():
    """(number, state, comment, name) of every job that Slurm remembers; Snakemake writes the rule into the comment."""
    command = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%k|%j"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [tuple(line.split("|")) for line in lines]


def stop_processes(job):
    """Let a job hang: its processes stop, its time runs on."""
    command = ["scontrol", "listpids", job]
    for _ in range(ASKED):  # a step may run before it is known
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode == 0:
            break
        time.sleep(0.2)
    found.check_returncode()
    for line in found.stdout.splitlines()[1:]:
        os.kill(int(line.split()[0]), signal.SIGSTOP)


def _start_munge():
    folder = Path("/run/munge")
    folder.mkdir(exist_ok=True)
    shutil.chown(folder, "munge", "munge")
    subprocess.run(
        ["runuser", "-u", "munge", "--", "munged", "--force"], check=True
    )  # a socket may be left over


@contextlib.contextmanager
def _process(command, folder):
    with (folder / f"{command[0]}.out").open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_until_idle(folder, seconds=30):
    for _ in range(10 * seconds):
        asked = ["sinfo", "--noheader", "--format=%T"]
        if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "idle":
            return
        time.sleep(0.1)
    logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.*"))
    raise RuntimeError(f"Slurm has not come up in {seconds} s:\n{logs}")


def _cancel_all():
    subprocess.run(["scancel", "--partition=main"], check=False)
    for _ in range(100):
        shown = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=False).stdout
        if not shown.strip():
            return
        time.sleep(0.1)


def _clean(folder):
    for name in ("slurm.conf", "gres.conf"):
        (SETTINGS / name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if reason := missing():
        raise SystemExit(reason)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with running() as logs, contextlib.suppress(KeyboardInterrupt):
        print(f"Slurm is up, its logs are in {logs}; Ctrl-C stops it", flush=True)
        while True:
            time.sleep(1)
