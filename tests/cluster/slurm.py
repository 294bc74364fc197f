"""A real Slurm on this machine: munged, slurmctld and two slurmd in a scratch folder, two nodes with two CPUs each.

Needs Debian's slurmctld, slurmd, slurm-client and munge, and root, because munged runs as another user. Nothing in
/etc is read or changed. Each process is started here and ended by its own pid.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.nodes import free_port, wait_until, which

PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
PARTITION = "gpu"
NODES = ("c1", "c2")
LIMITED_PARTITION = "short"
"""Its longest job takes one minute."""


def lacking() -> str:
    """Return what this machine lacks for Slurm, as a sentence; empty if nothing."""
    programs = [f"{name} (apt-get install {package})" for name, package in PACKAGES.items() if which(name) is None]
    if programs:
        return "Slurm cannot run here; missing: " + ", ".join(programs)
    return "" if os.geteuid() == 0 else "Slurm's munged needs root to run as its own user"


class SlurmCluster:
    """A controller and two compute nodes, all this machine."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="gib-slurm-"))
        self.root.chmod(0o755)
        self.config = self.root / "slurm.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start_munged()
            self._write_config()
            self._start("slurmctld", "-D", "-f", str(self.config))
            # A slurmd that finds no controller waits long before it tries again.
            wait_until(lambda: "is UP" in self.output("scontrol", "ping"), what="the Slurm controller")
            for name in NODES:
                self._start("slurmd", "-D", "-N", name, "-f", str(self.config))
            idle = [f"{name} idle" for name in NODES]
            listing = ("sinfo", "-h", "-N", f"--partition={PARTITION}", "-o", "%N %T")
            wait_until(lambda: self.output(*listing).splitlines() == idle, what="idle Slurm nodes")
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """Return what Slurm's client programs need in their environment."""
        return {"SLURM_CONF": str(self.config)}

    def output(self, *argv: str) -> str:
        """Run one of Slurm's client programs and return what it printed."""
        process = subprocess.run(argv, env={**os.environ, **self.environment}, capture_output=True, text=True)
        return process.stdout

    def close(self) -> None:
        """End the daemons, the last one started first."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10.0)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _start(self, name: str, *options: str, user: int | None = None) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self._daemons.append(
                subprocess.Popen(
                    [which(name) or name, *options],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    user=user,
                    env={**os.environ, **self.environment},
                )
            )

    def _start_munged(self) -> None:
        account = pwd.getpwnam("munge")
        folder = self.root / "munge"
        folder.mkdir(mode=0o700)
        key = folder / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        for path in (folder, key):
            os.chown(path, account.pw_uid, account.pw_gid)
        socket_folder = self.root / "socket"
        socket_folder.mkdir(mode=0o755)
        os.chown(socket_folder, account.pw_uid, account.pw_gid)
        names = {"key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        files = [f"--{option}={folder / name}" for option, name in names.items()]
        self._start("munged", "--foreground", f"--socket={self._munge_socket}", *files, user=account.pw_uid)
        wait_until(self._munge_socket.exists, what="munged's socket")

    @property
    def _munge_socket(self) -> Path:
        return self.root / "socket" / "munge.socket"

    def _write_config(self) -> None:
        host = socket.gethostname().partition(".")[0]
        for name in ("state", "spool", *(f"spool/{node}" for node in NODES)):
            (self.root / name).mkdir(mode=0o755)
        lines = [
            "ClusterName=giblet",
            f"SlurmctldHost={host}(127.0.0.1)",
            "SlurmUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self._munge_socket}",
            f"StateSaveLocation={self.root / 'state'}",
            f"SlurmdSpoolDir={self.root / 'spool'}/%n",
            f"SlurmctldPidFile={self.root / 'slurmctld.pid'}",
            f"SlurmdPidFile={self.root}/slurmd-%n.pid",
            f"SlurmctldPort={free_port('127.0.0.1')}",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "ReturnToService=2",
            "KillWait=5",
            "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            *(
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port('127.0.0.1')} CPUs=2"
                for name in NODES
            ),
            f"PartitionName={PARTITION} Nodes={','.join(NODES)} Default=YES MaxTime=INFINITE State=UP",
            f"PartitionName={LIMITED_PARTITION} Nodes={','.join(NODES)} MaxTime=1 State=UP",
        ]
        self.config.write_text("\n".join(lines) + "\n")
