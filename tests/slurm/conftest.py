"""A SLURM of our own: munge, a controller and one node, on loopback ports and in a folder."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnjax.study.pool import WORKER

CONF = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
ReturnToService=2
KillWait=30
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """The daemons, and the environment in which their clients find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        folder, host = self.folder, socket.gethostname().partition(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        controller, node = _free_ports(2)
        (folder / "slurm.conf").write_text(
            CONF.format(
                host=host, folder=folder, user=getpass.getuser(), controller=controller, node=node,
                cores=os.cpu_count(),
            )
        )  # fmt: skip
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log",
                 "seed-file": "seed"}  # fmt: skip
        files = [f"--{option}={folder}/munge.{suffix}" for option, suffix in munge.items()]
        self._daemon("munged", "--foreground", "--force", *files)
        self._until(lambda: (folder / "munge.socket").exists(), "munged")
        self._daemon("slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        self._daemon("slurmd", "-D", "-f", str(folder / "slurm.conf"), "-N", host)
        self._until(lambda: "idle" in self.client("sinfo", "-h", "-o", "%t", check=False), "node")

    def stop(self) -> None:
        """Ends what was started, whatever state it is in."""
        self.client("scancel", "--full", "--user", getpass.getuser(), check=False)
        # What a job still has to say at its end it says to the controller.
        end = time.monotonic() + 60
        while self.client("squeue", "-h", check=False).strip() and time.monotonic() < end:
            time.sleep(0.5)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def client(self, *command: str, check: bool = True) -> str:
        """What a command of SLURM's prints."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as out:
            path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
            assert path, f"{command[0]} is not installed: make test-slurm does that"
            # They end with this process, however it ends.
            worker = [sys.executable, "-I", str(WORKER), str(os.getpid()), ""]
            self.daemons.append(
                subprocess.Popen(
                    [*worker, path, *command[1:]], stdout=out, stderr=subprocess.STDOUT,
                    env=self.environment, start_new_session=True,
                )
            )  # fmt: skip

    def _until(self, condition, what: str) -> None:
        for _ in range(300):
            if condition():
                return
            time.sleep(0.2)
        logs = "\n".join(p.read_text()[-2000:] for p in self.folder.glob("*.out"))
        raise AssertionError(f"{what} did not come up:\n{logs}")


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()
