"""A real HTCondor pool of one machine: `sudo python tests/support/htcondor_pool.py FOLDER -- COMMAND...`.

FOLDER gets a Debian sid with the package `minicondor`, once (a minute, 0.7 GB). COMMAND runs inside, in the present
folder and as its owner, with the Python environment of this interpreter. The pool has namespaces of its own: its
network is a loopback that nothing outside reaches; its mounts and processes are gone when this script ends, however
it ends.
"""

import argparse
import contextlib
import fcntl
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

USER = "physicist"
ORDINARY = 60000  # uid where the folder is root's: HTCondor runs no job as root
STARTS_WITHIN = 60  # seconds; two are usual

# Loopback only; more cores and memory than there are, since nothing enforces them; none of the namespaces per job that
# a chroot cannot give. A job with file transfer runs as nobody, who may not look into a submitter's private folder: so
# nothing is shared by accident.
SETTINGS = """\
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = FALSE
ENABLE_IPV6 = FALSE
NUM_CPUS = 4
MEMORY = 64000
PER_JOB_NAMESPACES = FALSE
MOUNT_PRIVATE_DEV_SHM = FALSE
MOUNT_UNDER_SCRATCH =
STARTER_ALLOW_RUNAS_OWNER = TARGET.ShouldTransferFiles =!= "YES"
"""

ENDS_WITH_US = ["--fork", "--kill-child"]
NAMESPACES = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", *ENDS_WITH_US]

# The clock of a test machine may be wrong; nothing is started by the installation.
APT = 'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\n'
INSTALL = """
set -eu
mount -t proc proc "$ROOT/proc"
export DEBIAN_FRONTEND=noninteractive
chroot "$ROOT" apt-get update
chroot "$ROOT" apt-get install --yes condor minicondor python3 iproute2
chroot "$ROOT" apt-get clean
"""

# The first process of the pool's namespaces. It ends when its standard input is closed, so also when its parent is
# killed; then the kernel ends everything else in there and forgets the mounts. /run/condor must be there before
# condor_master, which would start condor_procd without end.
START = """
set -eu
echo pool > /proc/sys/kernel/hostname
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
for scratch in dev/shm run tmp home var/lib/condor; do mount -t tmpfs -o mode=1777 tmpfs "$ROOT/$scratch"; done
for shared in "$@"; do
  mkdir -p "$ROOT$shared"
  mount --bind "$shared" "$ROOT$shared"
done
chroot "$ROOT" bash -eu <<'INSIDE'
ip link set lo up
userdel --force "$USER" 2>/dev/null || true
useradd --non-unique --uid "$USER_ID" --create-home "$USER"
rm -rf /var/log/condor/*
install -d -o condor -g condor /run/condor /run/lock /run/lock/condor /var/lib/condor/spool /var/lib/condor/execute
INSIDE
chroot "$ROOT" condor_master -f </dev/null &
cat > /dev/null
kill -QUIT %1
for _ in $(seq 50); do kill -0 %1 2>/dev/null || break; sleep 0.1; done
"""


def mirror():
    """Debian's mirror that this machine uses."""
    sources = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"]
    text = "\n".join(Path(path).read_text() for path in sources if Path(path).exists())
    found = re.search(r"^(?:URIs:|deb)\s+(?:\[.*?\]\s+)?(\S+)", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"no Debian mirror in {' or '.join(sources)}; give --mirror URL")
    return found[1]


def install(root, url):
    """Debian sid with HTCondor at `root`."""
    with (root.parent / "build.log").open("w") as log:
        quiet = {"stdout": log, "stderr": log, "check": True}
        subprocess.run(["debootstrap", "--variant=minbase", "sid", root, url], **quiet)
        (root / "etc/apt/apt.conf.d/99pool").write_text(APT)
        (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (root / "usr/sbin/policy-rc.d").chmod(0o755)
        alone = ["unshare", "--mount", "--pid", *ENDS_WITH_US, "bash", "-c", INSTALL]
        subprocess.run(alone, env={**os.environ, "ROOT": str(root)}, **quiet)


def build(folder, url=None):
    """The chroot under `folder`, made where it is not there."""
    root, ready = folder / "root", folder / "ready"
    if not ready.exists():
        print(f"Installing HTCondor in {root}, once", file=sys.stderr)
        shutil.rmtree(root, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            install(root, url or mirror())
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"no chroot in {root}: {error}; {folder}/build.log says why") from error
        ready.touch()
    (root / "etc/condor/config.d/10-pool").write_text(SETTINGS)
    (root / "etc/hosts").write_text("127.0.0.1 localhost pool\n")
    (root / "root").chmod(0o711)  # an interpreter may lie below
    return root


def environment_folders():
    """Where this interpreter and its packages lie; the pool sees them at the same paths."""
    base = Path(sys.base_prefix)
    standard = [base] if base != Path("/usr") else [Path(os.__file__).parent]
    return [*standard, Path(sys.prefix)]


class Pool:
    """A running pool: its root folder, and the process that holds its namespaces."""

    def __init__(self, root, first):
        self.root, self.first = root, first

    def command(self, *command, folder="/", environment=()):
        """The command line that runs `command` inside, as the ordinary user."""
        path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        settings = {
            "PATH": path,
            "HOME": f"/home/{USER}",
            "USER": USER,
            "LANG": "C.UTF-8",
            **dict(environment),
        }
        return [
            *("nsenter", f"--target={self.first}", "--mount", "--pid", "--net", "--uts", "--ipc"),
            *("chroot", f"--userspec={USER}", str(self.root), "env", "-i"),
            *(f"{name}={value}" for name, value in settings.items()),
            *("sh", "-c", 'cd "$0" && exec "$@"', str(folder), *map(str, command)),
        ]

    def output(self, *command, **where):
        """Its exit code, and standard output and error together."""
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        result = subprocess.run(self.command(*command, **where), check=False, **both)
        return result.returncode, result.stdout


@contextlib.contextmanager
def running(folder, shared, uid=ORDINARY, url=None):
    """A pool in the chroot under `folder` that sees the folders `shared`, for an ordinary user with this uid."""
    root = build(Path(folder).resolve(), url)
    alone = (root.parent / "ready").open()
    fcntl.flock(alone, fcntl.LOCK_EX)  # another pool of this folder ends first
    visible = [*environment_folders(), *(Path(path).resolve() for path in shared)]
    settings = {**os.environ, "ROOT": str(root), "USER": USER, "USER_ID": str(uid)}
    with (root.parent / "start.log").open("w") as log:
        holder = subprocess.Popen(
            [*NAMESPACES, "bash", "-c", START, "pool", *map(str, visible)],
            env=settings,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield started(root, holder)
    finally:
        holder.stdin.close()
        holder.wait()
        alone.close()


def started(root, holder):
    """The pool, once it has a slot and a queue."""
    for _ in range(10 * STARTS_WITHIN):
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        if children:
            pool = Pool(root, children[0])
            code, text = pool.output(
                "sh", "-c", "condor_status -af Name && condor_q -af ClusterId && echo ready"
            )
            if code == 0 and "slot1" in text:
                return pool
        if holder.poll() is not None:
            break
        time.sleep(0.1)
    log = (root.parent / "start.log").read_text()
    raise SystemExit(f"no slot within {STARTS_WITHIN} s; {root}/var/log/condor says why. {log}")


def main():
    """Run one command in a pool; its exit code is this script's."""
    options, command = sys.argv[1:], []
    if "--" in options:
        command = options[options.index("--") + 1 :]
        options = list(itertools.takewhile(lambda word: word != "--", options))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the chroot is, or will be")
    parser.add_argument("--mirror", help="Debian mirror; default: that of /etc/apt")
    parser.add_argument(
        "--share", type=Path, action="append", default=[], help="a further folder to see inside"
    )
    chosen = parser.parse_args(options)
    if os.geteuid() != 0:
        parser.error(f"needs root, for the chroot; this is uid {os.geteuid()}: start it with sudo")
    here = Path.cwd()
    uid = here.stat().st_uid
    if uid == 0:
        uid = ORDINARY
        print(f"{here} is root's: uid {uid} runs the command and can only read here", file=sys.stderr)
    try:
        with running(chosen.folder, [here, *chosen.share], uid, chosen.mirror) as pool:
            code = subprocess.run(pool.command(*(command or ["bash"]), folder=here), check=False).returncode
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
